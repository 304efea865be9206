"""Which network interfaces there are, and which of them a room uses. Linux, IPv4 and IPv6.

An interface appears here once for each family in which the group can be had on it: with its first IPv4 address, and
with its link-local IPv6 address. Every interface that speaks IPv6 has one of those, whether or not there is a
router, and it never leaves the link, as the group does not (:attr:`musicsyncd.config.NetworkConfig.group6`).

Source: netdevice(7) for the requests, Linux's net/ipv6/addrconf.c (if6_seq_show) for /proc/net/if_inet6.
"""

from __future__ import annotations

import fcntl
import ipaddress
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from musicsyncd.config import MAX_INTERFACES
from musicsyncd.errors import ConfigError

_SIOCGIFFLAGS, _SIOCGIFADDR = 0x8913, 0x8915  # linux/sockios.h
_IFF_UP, _IFF_LOOPBACK, _IFF_RUNNING, _IFF_MULTICAST = 0x1, 0x8, 0x40, 0x1000  # linux/if.h
_IFA_F_OPTIMISTIC, _IFA_F_DADFAILED, _IFA_F_TENTATIVE = 0x04, 0x08, 0x40  # linux/if_addr.h
_IF_INET6 = Path("/proc/net/if_inet6")
_MAX_INET6_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Interface:
    """An interface that is up, in one family.

    Attributes:
        name: as the system calls it.
        index: its number.
        family: ``socket.AF_INET`` or ``socket.AF_INET6``.
        address: its first IPv4 address, or its link-local IPv6 address with the zone, as ``fe80::1%eth0``.
        loopback: it leads back to this machine.
        multicast: it says that it carries multicast.
    """

    name: str
    index: int
    family: int
    address: str
    loopback: bool
    multicast: bool


def interfaces() -> list[Interface]:
    """Return the interfaces that are up, for each family in which they have an address that serves; IPv4 first."""
    four, six = [], []
    link_locals = {name: address for name, address in _inet6_addresses() if _is_link_local(address)}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for index, name in socket.if_nameindex():
            request = struct.pack("256s", name.encode()[:15])
            try:
                flags = struct.unpack_from("H", fcntl.ioctl(probe, _SIOCGIFFLAGS, request), 16)[0]
            except OSError:
                continue  # It went while we looked.
            if not (flags & _IFF_UP and flags & _IFF_RUNNING):
                continue
            kind = bool(flags & _IFF_LOOPBACK), bool(flags & _IFF_MULTICAST)
            address = _inet_address(probe, request)
            if address:
                four.append(Interface(name, index, socket.AF_INET, address, *kind))
            if name in link_locals:
                six.append(Interface(name, index, socket.AF_INET6, f"{link_locals[name]}%{name}", *kind))
    return four + six


def _inet_address(probe: socket.socket, request: bytes) -> str:
    try:
        return socket.inet_ntoa(fcntl.ioctl(probe, _SIOCGIFADDR, request)[20:24])
    except OSError:
        return ""


def _inet6_addresses() -> Iterator[tuple[str, str]]:
    """Yield the names of interfaces with their IPv6 addresses, but for those still checked for being unique."""
    try:
        with _IF_INET6.open(encoding="ascii") as file:
            lines = file.read(_MAX_INET6_BYTES).splitlines()
    except OSError:  # A kernel without IPv6.
        return
    for line in lines:
        digits, _index, _prefix, _scope, flags, name = line.split()
        checked = not int(flags, 16) & _IFA_F_TENTATIVE or int(flags, 16) & _IFA_F_OPTIMISTIC
        if checked and not int(flags, 16) & _IFA_F_DADFAILED:
            yield name, socket.inet_ntop(socket.AF_INET6, bytes.fromhex(digits))


def _is_link_local(address: str) -> bool:
    return ipaddress.IPv6Address(address).is_link_local


def choose(wanted: tuple[str, ...]) -> list[Interface]:
    """Return the interfaces to use now, for each family; :data:`~musicsyncd.config.MAX_INTERFACES` of each at most.

    Args:
        wanted: names or addresses, of either family and with or without a zone; with none, every one that carries
            multicast and is not loopback, and loopback when there is no such one, so that one machine alone works.
    """
    there = interfaces()
    if wanted:
        names = set(wanted).union(*(_interfaces_with(one, there) for one in wanted))
        chosen = [found for found in there if found.name in names]
    else:
        chosen = [found for found in there if found.multicast and not found.loopback] or [
            found for found in there if found.loopback
        ]
    numbers = list(dict.fromkeys(found.index for found in chosen))[:MAX_INTERFACES]
    return [found for found in chosen if found.index in numbers]


def _interfaces_with(wanted: str, there: list[Interface]) -> set[str]:
    """Return the names of the interfaces that have an address, in whatever way that is written."""
    try:
        address = ipaddress.ip_address(wanted)
    except ValueError:
        return set()
    if isinstance(address, ipaddress.IPv4Address):
        return {found.name for found in there if found.address == str(address)}
    plain, zone = str(address).partition("%")[0], address.scope_id
    return {name for name, has in _inet6_addresses() if has == plain and zone in (None, name)}


def check(wanted: tuple[str, ...]) -> None:
    """Refuse interfaces that this machine does not have.

    Raises:
        ConfigError: with the ones it has.
    """
    there = interfaces()
    names = {name for _, name in socket.if_nameindex()}
    for one in wanted:
        if one not in names and not _interfaces_with(one, there):
            has = ", ".join(f"{found.name} ({found.address})" for found in there) or "none with an address"
            raise ConfigError(f"no interface {one!r} on this machine: it has {has}")
