"""Which network interfaces there are, and which of them a room uses. Linux, IPv4."""

from __future__ import annotations

import fcntl
import socket
import struct
from dataclasses import dataclass

from musicsyncd.errors import ConfigError

_SIOCGIFFLAGS, _SIOCGIFADDR = 0x8913, 0x8915  # linux/sockios.h
_IFF_UP, _IFF_LOOPBACK, _IFF_RUNNING, _IFF_MULTICAST = 0x1, 0x8, 0x40, 0x1000  # linux/if.h


@dataclass(frozen=True, slots=True)
class Interface:
    """An interface that is up and has an IPv4 address.

    Attributes:
        name: as the system calls it.
        address: its first IPv4 address.
        loopback: it leads back to this machine.
        multicast: it says that it carries multicast.
    """

    name: str
    address: str
    loopback: bool
    multicast: bool


def interfaces() -> list[Interface]:
    """Return the interfaces that are up and have an IPv4 address."""
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            request = struct.pack("256s", name.encode()[:15])
            try:
                flags = struct.unpack_from("H", fcntl.ioctl(probe, _SIOCGIFFLAGS, request), 16)[0]
                address = socket.inet_ntoa(fcntl.ioctl(probe, _SIOCGIFADDR, request)[20:24])
            except OSError:
                continue  # No IPv4 address, or it went while we looked.
            if flags & _IFF_UP and flags & _IFF_RUNNING:
                loopback, multicast = bool(flags & _IFF_LOOPBACK), bool(flags & _IFF_MULTICAST)
                found.append(Interface(name, address, loopback, multicast))
    return found


def choose(wanted: tuple[str, ...]) -> list[Interface]:
    """Return the interfaces to use now.

    Args:
        wanted: names or addresses; with none, every one that carries multicast and is not loopback, and
            loopback when there is no such one, so that one machine alone works.
    """
    there = interfaces()
    if wanted:
        return [found for found in there if found.name in wanted or found.address in wanted]
    return [found for found in there if found.multicast and not found.loopback] or [
        found for found in there if found.loopback
    ]


def check(wanted: tuple[str, ...]) -> None:
    """Refuse interfaces that this machine does not have.

    Raises:
        ConfigError: with the ones it has.
    """
    there = interfaces()
    names = {name for _, name in socket.if_nameindex()}
    for one in wanted:
        if one not in names and all(one != found.address for found in there):
            has = ", ".join(f"{found.name} ({found.address})" for found in there) or "none with an address"
            raise ConfigError(f"no interface {one!r} on this machine: it has {has}")
