"""A node on the network: its sockets in IPv4 and IPv6, and its five calls driven.

For each family there is a socket of the node's own, which takes what is sent to it alone and sends everything, and
for each interface one that hears the group there: it is bound to the group's address, so any number of nodes on one
machine hear it (:mod:`musicsyncd.system.multicast`). What is for the group is sent on every interface in every
family that it has, as the same bytes: a receiver takes the copy that comes first, and the others are replays.

Receive times are the kernel's, taken when the packet came and not when Python got to it; for the datagrams
of which the node wants to know it, so are the times of sending (:mod:`musicsyncd.system.stamps`).
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
from collections.abc import Callable
from typing import Protocol

from musicsyncd.config import NetworkConfig
from musicsyncd.errors import ConfigError
from musicsyncd.protocol.node import Address, Outgoing
from musicsyncd.system import route_events, stamps
from musicsyncd.system.gate import Gate
from musicsyncd.system.interfaces import Interface, choose
from musicsyncd.system.log import Throttle
from musicsyncd.system.monotonic import RealtimeBridge, now_ns
from musicsyncd.system.multicast import (
    Sender,
    SocketAddress,
    address_of,
    family_of,
    in_turns,
    join,
    senders,
    socket_address,
)
from musicsyncd.system.names import Names
from musicsyncd.units import NS_PER_S, ns_to_s

_MAX_RECEIVED_A_TURN = 64
"""Datagrams taken from a socket before the loop turns: a flood must not starve the rest."""

_RECEIVE_BYTES = 2048
_INTERFACES_EVERY_S = 15.0
"""The kernel tells of changes at once; this is for one whose word was lost."""

_INTERFACES_UNTOLD_EVERY_S = 2.0
"""Where the kernel may not be asked to tell."""

_CHANGES_TOGETHER_S = 0.1
"""An interface that comes up changes several times: it is looked at once."""

_REJOIN_AFTER_S = 60.0

_OVERDUE_NS = 5 * NS_PER_S
"""What the protocol had to do by then and did not: its timer stands still, and with it beacons and the clock."""

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
    """

    def __init__(self, node: Node, config: NetworkConfig, *, port: int, on_activity: Callable[[], None]) -> None:
        self.stamps = "user"
        self._node = node
        self._config = config
        self._port = port
        self._on_activity = on_activity
        self._bridge = RealtimeBridge()
        self._throttle = Throttle(log)
        self._gate = Gate(self._throttle)
        self._names = Names(self._throttle)
        self._senders: dict[int, Sender] = {}
        self._send_stamps: dict[int, stamps.SendStamps] = {}
        self._groups: dict[Interface, socket.socket] = {}
        self._route_events: socket.socket | None = None
        self._arrivals_are_stamped = True
        self._said_no_send_stamps = False
        self._timer: asyncio.TimerHandle | None = None
        self._changed: asyncio.TimerHandle | None = None
        self._refresher: asyncio.Task[None] | None = None
        self._busy = False
        self._sent_to_group = 0
        self._group_heard_ns = now_ns()

    def trouble(self, local_ns: int) -> str:
        """Return what of it does not go on at an instant, for the watchdog: empty while the node's timer is kept."""
        due_ns = self._node.next_timer_ns()
        return "the network's timer stands still" if due_ns is not None and local_ns - due_ns > _OVERDUE_NS else ""

    @property
    def joined(self) -> list[Interface]:
        """The interfaces on which the group is joined, one entry for each family; IPv4 first."""
        return sorted(self._groups, key=lambda one: (one.family, one.index))

    async def open(self) -> None:
        """Open the sockets and start.

        Raises:
            ConfigError: when a port or the group's address cannot be had.
        """
        try:
            opened = senders(self._config, self._port)
        except OSError as error:
            raise _refusal(f"port {self._port}", error) from None
        for sender in opened:
            self._senders[sender.family] = sender
            self._send_stamps[sender.family] = stamps.SendStamps(sender.socket, self._bridge)
            self._listen(sender.socket, multicast=False)
        self._note_stamps()
        self._route_events = route_events.open_route_events()
        loop = asyncio.get_running_loop()
        if self._route_events is not None:
            loop.add_reader(self._route_events, self._interfaces_changed)
        self.refresh_interfaces()
        self._refresher = loop.create_task(self._refresh_for_ever())
        self.turn()

    async def close(self) -> None:
        """Send what is left and close the sockets, also when not all of them could be opened."""
        if self._senders:
            self._flush()
        for waiting in (self._timer, self._changed, self._refresher):
            if waiting is not None:
                waiting.cancel()
        self._unhear_routes()
        for one in [*self._groups.values(), *(sender.socket for sender in self._senders.values())]:
            self._unlisten(one)

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

        Raises:
            ConfigError: another program has the group's port, and this is the first time.
        """
        now_there = [one for one in choose(self._config.interfaces) if one.family in self._senders]
        for gone in [one for one in self._groups if rejoin or one not in now_there]:
            self._unlisten(self._groups.pop(gone))
        for new in [one for one in now_there if one not in self._groups]:
            try:
                group = join(new, self._config)
            except OSError as error:
                if error.errno == errno.EADDRINUSE and self._refresher is None:
                    raise _refusal(f"{self._config.group}:{self._config.port}", error) from None
                self._throttle.warning("join", f"cannot join the group on {new.name} ({new.address}): {error.strerror}")
                continue
            self._groups[new] = group
            self._listen(group, multicast=True)
            if not rejoin:
                log.info("on %s (%s)", new.name, new.address)
        if not self._groups:
            self._throttle.warning("no interface", "no network interface carries the group: trying again")

    async def _refresh_for_ever(self) -> None:
        while True:
            await asyncio.sleep(_INTERFACES_UNTOLD_EVERY_S if self._route_events is None else _INTERFACES_EVERY_S)
            silent = ns_to_s(now_ns() - self._group_heard_ns) > _REJOIN_AFTER_S
            if silent:
                self._group_heard_ns = now_ns()
            self.refresh_interfaces(rejoin=silent)

    def _interfaces_changed(self) -> None:
        assert self._route_events is not None
        if not route_events.take(self._route_events):
            self._unhear_routes()
        if self._changed is None:
            self._changed = asyncio.get_running_loop().call_later(_CHANGES_TOGETHER_S, self._look_at_interfaces)

    def _look_at_interfaces(self) -> None:
        self._changed = None
        self.refresh_interfaces()

    def _unhear_routes(self) -> None:
        if self._route_events is not None:
            asyncio.get_running_loop().remove_reader(self._route_events)
            self._route_events.close()
            self._route_events = None

    def _listen(self, opened: socket.socket, *, multicast: bool) -> None:
        self._arrivals_are_stamped &= stamps.ask_for_arrivals(opened)
        self._gate.watch(opened)
        asyncio.get_running_loop().add_reader(opened, self._readable, opened, multicast)

    def _unlisten(self, opened: socket.socket) -> None:
        self._gate.forget(opened)
        asyncio.get_running_loop().remove_reader(opened)
        opened.close()

    def _readable(self, ready: socket.socket, multicast: bool) -> None:
        self._collect_stamps()
        for _ in range(_MAX_RECEIVED_A_TURN):
            try:
                data, control, _flags, sender = ready.recvmsg(_RECEIVE_BYTES, stamps.CONTROL_BYTES)
                if not self._gate.admits(sender[0], now_ns()):
                    continue
                address = address_of(sender)
            except BlockingIOError:
                break
            except OSError as error:  # An earlier send was answered by ICMP, or the sender's interface has gone.
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
                self._send(outgoing, outgoing.address)
                continue
            self._send_to_group(outgoing)
        self._collect_stamps()

    def _send_to_group(self, outgoing: Outgoing) -> None:
        """Send a datagram on every interface. The first copy is the one that counts, and whose stamp is told."""
        ticket = outgoing.ticket
        for interface in in_turns(self.joined, self._sent_to_group):
            try:
                address = self._senders[interface.family].group_on(interface)
                self._emit(outgoing.data, interface.family, address, ticket)
                ticket = None
            except OSError as error:
                self._throttle.warning("send", f"sending on {interface.name} ({interface.address}): {error.strerror}")
        self._sent_to_group += 1

    def _send(self, outgoing: Outgoing, wanted: Address) -> None:
        address = self._names.find(wanted, now_ns())
        if address is None:
            return
        family = family_of(address)
        try:
            if family not in self._senders:
                raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
            self._emit(outgoing.data, family, socket_address(address), outgoing.ticket)
        except OSError as error:
            self._throttle.warning("send", f"sending to {address[0]}: {error.strerror}")

    def _emit(self, data: bytes, family: int, address: SocketAddress, ticket: int | None) -> None:
        if ticket is None:
            self._senders[family].socket.sendto(data, address)
        else:
            self._send_stamps[family].send(data, address, ticket)

    def _collect_stamps(self) -> None:
        """Tell the node what really left when; also what keeps the error queues from waking the loop again."""
        for send_stamps in self._send_stamps.values():
            for ticket, sent_ns in send_stamps.collect():
                self._node.datagram_sent(ticket, sent_ns)
        self._note_stamps()

    def _note_stamps(self) -> None:
        works = any(one.works for one in self._send_stamps.values())
        both = "kernel" if works else "receive"
        self.stamps = self._node.stamps = both if self._arrivals_are_stamped else "user"
        refused = any(one.is_refused for one in self._send_stamps.values()) and not works
        if refused and not self._said_no_send_stamps:
            self._said_no_send_stamps = True
            log.info("the kernel does not say when datagrams leave: the clock is some 30 µs less certain")


def _refusal(what: str, error: OSError) -> ConfigError:
    return ConfigError(f"cannot use UDP {what}: {error.strerror}; choose another with --port")
