"""A node on the network: one group socket, one socket of its own, and its five calls driven.

The group socket is bound to the group's address, so any number of nodes on one machine
hear it; a node's own socket takes what is sent to it alone and sends everything. Receive
times are the kernel's, taken when the packet came and not when Python got to it; for the datagrams
of which the node wants to know it, so are the times of sending (:mod:`musicsyncd.system.stamps`).
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections.abc import Callable
from typing import Protocol

from musicsyncd.config import NetworkConfig
from musicsyncd.errors import ConfigError
from musicsyncd.protocol.node import Address, Outgoing
from musicsyncd.system import stamps
from musicsyncd.system.interfaces import Interface, choose
from musicsyncd.system.log import Throttle
from musicsyncd.system.monotonic import RealtimeBridge, now_ns
from musicsyncd.units import ns_to_s

_IP_MULTICAST_ALL = 49  # linux/in.h
_MAX_RECEIVED_A_TURN = 64
"""Datagrams taken from a socket before the loop turns: a flood must not starve the rest."""

_RECEIVE_BYTES = 2048
_INTERFACES_EVERY_S = 2.0
_REJOIN_AFTER_S = 60.0

log = logging.getLogger(__name__)


class Node(Protocol):
    """What is common to hosts and peers: the five calls but for the events.

    Attributes:
        stamps: is told what the kernel stamps.
    """

    stamps: str

    def receive_datagram(self, data: bytes, address: Address, now_ns: int, *, multicast: bool = False) -> None:
        """Take a datagram that arrived at ``now_ns``."""

    def datagrams_to_send(self, now_ns: int) -> list[Outgoing]:
        """Return what is to be sent now."""
        ...

    def datagram_sent(self, ticket: int, sent_ns: int) -> None:
        """Note when a datagram with a ticket really left."""

    def next_timer_ns(self) -> int | None:
        """Return when :meth:`handle_timer` is due."""
        ...

    def handle_timer(self, now_ns: int) -> None:
        """Do what is due."""


class Network:
    """Drives a node over real sockets.

    Args:
        node: the protocol node.
        config: group, port, interfaces, hops.
        port: of the node's own socket; 0 for any.
        on_activity: called after every turn, to look at the node's events.

    Attributes:
        stamps: what the kernel stamps: ``kernel`` for what is sent and received, ``receive`` for that
            only, ``user`` for neither.
        joined: the interfaces on which the group is joined.
    """

    def __init__(self, node: Node, config: NetworkConfig, *, port: int, on_activity: Callable[[], None]) -> None:
        self.stamps = "user"
        self.joined: list[Interface] = []
        self._node = node
        self._config = config
        self._port = port
        self._on_activity = on_activity
        self._bridge = RealtimeBridge()
        self._send_stamps: stamps.SendStamps | None = None
        self._arrivals_are_stamped = True
        self._said_no_send_stamps = False
        self._throttle = Throttle(log)
        self._timer: asyncio.TimerHandle | None = None
        self._refresher: asyncio.Task[None] | None = None
        self._busy = False
        self._opened: list[socket.socket] = []
        self._group_heard_ns = now_ns()

    async def open(self) -> None:
        """Open the sockets and start.

        Raises:
            ConfigError: when a port or the group's address cannot be had.
        """
        self._own = self._socket("0.0.0.0", self._port)
        self._group = self._socket(self._config.group, self._config.port)
        self._own.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, self._config.ttl)
        self._own.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)
        # 0x10 (low delay) has Wi-Fi's best-effort queue behind it on some drivers; EF is voice on all.
        self._own.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, 0xB8)
        self._group.setsockopt(socket.IPPROTO_IP, _IP_MULTICAST_ALL, 0)
        self._send_stamps = stamps.SendStamps(self._own, self._bridge)
        self._note_stamps()
        self.refresh_interfaces()
        loop = asyncio.get_running_loop()
        loop.add_reader(self._own, self._readable, self._own, False)
        loop.add_reader(self._group, self._readable, self._group, True)
        self._refresher = loop.create_task(self._refresh_for_ever())
        self.turn()

    async def close(self) -> None:
        """Send what is left and close the sockets, also when not all of them could be opened."""
        if self._opened:
            self._flush()
        if self._timer is not None:
            self._timer.cancel()
        if self._refresher is not None:
            self._refresher.cancel()
        loop = asyncio.get_running_loop()
        for one in self._opened:
            loop.remove_reader(one)
            one.close()

    def turn(self) -> None:
        """Send what the node has, show its events, set its timer. After anything was done to the node."""
        if self._busy:
            return
        self._busy = True
        try:
            self._on_activity()
            self._flush()
        finally:
            self._busy = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due_ns = self._node.next_timer_ns()
        if due_ns is not None:
            delay_s = max(0.0, ns_to_s(due_ns - now_ns()))
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._timer_due)

    def refresh_interfaces(self, *, rejoin: bool = False) -> None:
        """Join the group where it can be had now.

        Args:
            rejoin: leave and join again, so that a switch that forgot us is told.
        """
        now_there = choose(self._config.interfaces)
        for gone in [one for one in self.joined if rejoin or one not in now_there]:
            self._membership(socket.IP_DROP_MEMBERSHIP, gone)
            self.joined.remove(gone)
        for new in [one for one in now_there if one not in self.joined]:
            if self._membership(socket.IP_ADD_MEMBERSHIP, new):
                self.joined.append(new)
                if not rejoin:
                    log.info("on %s (%s)", new.name, new.address)
        if not self.joined:
            self._throttle.warning("no interface", "no network interface carries the group: trying again")

    def _membership(self, option: int, interface: Interface) -> bool:
        request = struct.pack("4s4s", socket.inet_aton(self._config.group), socket.inet_aton(interface.address))
        try:
            self._group.setsockopt(socket.IPPROTO_IP, option, request)
        except OSError as error:
            if option == socket.IP_ADD_MEMBERSHIP:
                self._throttle.warning("join", f"cannot join the group on {interface.name}: {error.strerror}")
            return False
        return True

    async def _refresh_for_ever(self) -> None:
        while True:
            await asyncio.sleep(_INTERFACES_EVERY_S)
            silent = ns_to_s(now_ns() - self._group_heard_ns) > _REJOIN_AFTER_S
            if silent:
                self._group_heard_ns = now_ns()
            self.refresh_interfaces(rejoin=silent)

    def _socket(self, address: str, port: int) -> socket.socket:
        opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        opened.setblocking(False)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            opened.bind((address, port))
        except OSError as error:
            opened.close()
            what = f"cannot use UDP {address}:{port}: {error.strerror}"
            raise ConfigError(f"{what}; choose another with --port") from None
        self._opened.append(opened)
        self._arrivals_are_stamped &= stamps.ask_for_arrivals(opened)
        return opened

    def _readable(self, ready: socket.socket, multicast: bool) -> None:
        self._collect_stamps()
        for _ in range(_MAX_RECEIVED_A_TURN):
            try:
                data, control, _flags, address = ready.recvmsg(_RECEIVE_BYTES, stamps.CONTROL_BYTES)
            except BlockingIOError:
                break
            except OSError as error:  # An earlier send was answered by ICMP.
                self._throttle.warning("receive", f"receiving: {error.strerror}")
                continue
            self._node.receive_datagram(data, address, self._arrival_ns(control), multicast=multicast)
            if multicast:
                self._group_heard_ns = now_ns()
        self.turn()

    def _arrival_ns(self, control: list[tuple[int, int, bytes]]) -> int:
        stamp_ns = stamps.arrival_ns(control, self._bridge)
        return now_ns() if stamp_ns is None else stamp_ns

    def _timer_due(self) -> None:
        self._timer = None
        self._node.handle_timer(now_ns())
        self.turn()

    def _flush(self) -> None:
        for outgoing in self._node.datagrams_to_send(now_ns()):
            if outgoing.address is not None:
                self._send(outgoing.data, outgoing.address, outgoing.ticket)
                continue
            for interface in self.joined:
                self._own.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(interface.address))
                self._send(outgoing.data, (self._config.group, self._config.port), outgoing.ticket)
        self._collect_stamps()

    def _send(self, data: bytes, address: Address, ticket: int | None) -> None:
        try:
            if ticket is None or self._send_stamps is None:
                self._own.sendto(data, address)
            else:
                self._send_stamps.send(data, address, ticket)
        except OSError as error:
            self._throttle.warning("send", f"sending to {address[0]}: {error.strerror}")

    def _collect_stamps(self) -> None:
        """Tell the node what really left when; also what keeps the error queue from waking the loop again."""
        if self._send_stamps is None:
            return
        for ticket, sent_ns in self._send_stamps.collect():
            self._node.datagram_sent(ticket, sent_ns)
        self._note_stamps()

    def _note_stamps(self) -> None:
        assert self._send_stamps is not None
        both = "kernel" if self._send_stamps.works else "receive"
        self.stamps = self._node.stamps = both if self._arrivals_are_stamped else "user"
        if self._send_stamps.is_refused and not self._said_no_send_stamps:
            self._said_no_send_stamps = True
            log.info("the kernel does not say when datagrams leave: the clock is some 30 µs less certain")
