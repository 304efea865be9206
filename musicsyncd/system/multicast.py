"""Sockets of both families: the one that a node sends from, the group's on each interface, and their addresses.

Owns the socket options of IPv4 and IPv6 and how addresses are written. Must not know what is sent, nor when. It is
imported by commands, so it imports nothing that is slow to import.

An address is a pair of text and port in both families. A link-local IPv6 address means nothing without its
interface, so the text has the zone: ``fe80::1%eth0`` (RFC 4007, section 11). The group is listened to on a socket for
each interface and family, as Linux binds a socket to a link-local group on one interface only; to leave is to close
it.

Source: ip(7), ipv6(7), Linux's net/ipv6/af_inet6.c (``__inet6_bind``), RFC 3493.
"""

from __future__ import annotations

import contextlib
import errno
import select
import socket
import struct
from collections.abc import Sequence
from types import TracebackType

from musicsyncd.config import NetworkConfig
from musicsyncd.errors import ConfigError
from musicsyncd.protocol.node import Address
from musicsyncd.protocol.wire import MAX_DATAGRAM_BYTES
from musicsyncd.system.interfaces import Interface, check, choose

SocketAddress = tuple[str, int] | tuple[str, int, int, int]
"""What the system has for an address: IPv6 comes with a flow label and the number of the zone."""

_IP_MULTICAST_ALL = 49  # linux/in.h
_IPV6_MULTICAST_ALL = 29  # linux/in6.h
_OTHER_WAY_ROUND_EVERY = 4
"""One second of beacons: half of the time for which a peer trusts an address without answers."""

_ALL: dict[int, tuple[int, int]] = {
    socket.AF_INET: (socket.IPPROTO_IP, _IP_MULTICAST_ALL),
    socket.AF_INET6: (socket.IPPROTO_IPV6, _IPV6_MULTICAST_ALL),
}
_ANY: dict[int, str] = {socket.AF_INET: "0.0.0.0", socket.AF_INET6: "::"}

NO_FAMILY = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
"""What a socket of IPv6 fails with where that is switched off, for the whole kernel or by sysctl."""

_EXPEDITED = 0xB8
"""EF of RFC 3246. 0x10 (low delay) has Wi-Fi's best-effort queue behind it on some drivers; EF is voice on all."""


def address_of(found: SocketAddress) -> Address:
    """Return a sender's address, with its zone where it needs one.

    Raises:
        OSError: its interface has gone in the meantime.
    """
    if len(found) == 4 and found[3]:
        return f"{found[0]}%{socket.if_indextoname(found[3])}", found[1]
    return found[0], found[1]


def socket_address(address: Address) -> SocketAddress:
    """Return what to give to a socket to send to an address.

    Raises:
        OSError: there is no such interface as its zone names.
    """
    text, port = address
    if ":" not in text:
        return text, port
    plain, _, zone = text.partition("%")
    return plain, port, 0, socket.if_nametoindex(zone) if zone else 0


def family_of(address: Address) -> int:
    """Return the family of an address."""
    return socket.AF_INET6 if ":" in address[0] else socket.AF_INET


class Sender:
    """The socket of one family that a node sends from, and hears on what is sent to it alone.

    Args:
        family: ``socket.AF_INET`` or ``socket.AF_INET6``.
        network: group, port and hops.
        port: its own; 0 for any.

    Raises:
        OSError: this kernel does not have the family, or the port is taken.
    """

    def __init__(self, family: int, network: NetworkConfig, port: int) -> None:
        self.family = family
        self.socket = _bound(family, (_ANY[family], port))
        self._network = network
        if family == socket.AF_INET:
            self._set(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, network.ttl)
            self._set(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)
            self._set(socket.IPPROTO_IP, socket.IP_TOS, _EXPEDITED)
        else:
            self._set(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, network.ttl)
            self._set(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 1)
            self._set(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, _EXPEDITED)

    def _set(self, level: int, option: int, value: int) -> None:
        self.socket.setsockopt(level, option, value)

    def group_on(self, interface: Interface) -> SocketAddress:
        """Return where to send for the group to hear it on an interface of this family; holds until the next call.

        Raises:
            OSError: the interface has gone.
        """
        if self.family == socket.AF_INET6:
            return self._network.group6, self._network.port, 0, interface.index
        request = struct.pack("4s4si", bytes(4), socket.inet_aton(interface.address), interface.index)
        self.socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, request)
        return self._network.group, self._network.port


def senders(network: NetworkConfig, port: int) -> list[Sender]:
    """Return a sender for each family that this kernel has, IPv4 first.

    Args:
        network: group, port and hops.
        port: of both; 0 for any.

    Raises:
        OSError: the port is taken, or there is no family at all. Nothing stays open.
    """
    opened: list[Sender] = []
    problem = OSError(0, "this kernel has neither IPv4 nor IPv6")
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            opened.append(Sender(family, network, port))
        except OSError as error:
            if error.errno not in NO_FAMILY:
                for one in opened:
                    one.socket.close()
                raise
            problem = error
    if not opened:
        raise problem
    return opened


def join(interface: Interface, network: NetworkConfig) -> socket.socket:
    """Return a socket that hears the group on an interface, in the interface's family.

    Raises:
        OSError: the interface has gone, or the group's port is taken by another program.
    """
    if interface.family == socket.AF_INET6:
        heard = _bound(interface.family, (network.group6, network.port, 0, interface.index))
        level, option = socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP
        request = struct.pack("@16sI", socket.inet_pton(socket.AF_INET6, network.group6), interface.index)
    else:
        heard = _bound(interface.family, (network.group, network.port))
        level, option = socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP
        request = struct.pack("@4s4si", *map(socket.inet_aton, (network.group, interface.address)), interface.index)
    try:
        heard.setsockopt(level, option, request)
    except OSError:
        heard.close()
        raise
    return heard


def _bound(family: int, address: SocketAddress) -> socket.socket:
    opened = socket.socket(family, socket.SOCK_DGRAM)
    try:
        opened.setblocking(False)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        # Without it, a socket hears every group that anybody on this machine has joined.
        with contextlib.suppress(OSError):  # IPv6 has it since Linux 4.20.
            opened.setsockopt(*_ALL[family], 0)
        opened.bind(address)
    except OSError:
        opened.close()
        raise
    return opened


def in_turns(interfaces: list[Interface], number: int) -> list[Interface]:
    """Return the interfaces in the order in which the copies of a datagram are sent to the group on them.

    The copies are the same bytes, and a receiver takes the first and answers where it came from. Where that is IPv4
    and no answer gets there, since addresses are wrong or used up, nobody would ever hear of IPv6: so it comes
    first now and then.

    Args:
        interfaces: IPv4 first.
        number: how many datagrams were sent to the group before.
    """
    return interfaces[::-1] if number % _OTHER_WAY_ROUND_EVERY == 1 else interfaces


class Asker:
    """Asks the group on every interface and takes answers: for commands, which have no event loop.

    Args:
        network: group, port, interfaces.

    Raises:
        ConfigError: this machine has no such interface, or no socket can be had.
    """

    def __init__(self, network: NetworkConfig) -> None:
        check(network.interfaces)
        self._interfaces = choose(network.interfaces)
        try:
            self._senders = {sender.family: sender for sender in senders(network, 0)}
        except OSError as error:
            raise ConfigError(f"cannot ask the network: {error.strerror}; name the host with --host") from None
        self._asked = 0

    def __enter__(self) -> Asker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        for sender in self._senders.values():
            sender.socket.close()

    def ask(self, data: bytes, at: Sequence[Address] = ()) -> None:
        """Send a datagram to some addresses, or without any to the group wherever that can be had."""
        for address in at:
            with contextlib.suppress(OSError, KeyError):
                self._senders[family_of(address)].socket.sendto(data, socket_address(address))
        if at:
            return
        for interface in in_turns(self._interfaces, self._asked):
            with contextlib.suppress(OSError, KeyError):  # An interface that is going, or a family that is not there.
                sender = self._senders[interface.family]
                sender.socket.sendto(data, sender.group_on(interface))
        self._asked += 1

    def answer(self, timeout_s: float) -> tuple[bytes, Address] | None:
        """Return a datagram and its sender, or None when none comes in time."""
        ready, _, _ = select.select([sender.socket for sender in self._senders.values()], [], [], timeout_s)
        for one in ready:
            with contextlib.suppress(OSError):
                data, found = one.recvfrom(MAX_DATAGRAM_BYTES + 1)
                return data, address_of(found)
        return None
