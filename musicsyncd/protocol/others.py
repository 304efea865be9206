"""What a host hears of the other hosts on its LAN, for people to be told.

Owns who else is there, where, with which rooms, and for how long after its last word. Must not know keys, nor do
anything about other hosts: nothing here acts on what is heard, so nobody is asked for a proof of being alive. Who has
the room's key can make a host appear that is none, and so can a recording of one that was there.

A *fellow* has our key: what it says to the group opens, and its beacons tell its name and rooms. A *stranger* has
another: nothing that it says can be read. It is known for a host by the port that it sends from, which is the group's
own; speakers and commands send from any other. The id that it names (:func:`musicsyncd.protocol.auth.sender_of`)
only shows that two of its addresses are one host's. So anybody who may send from that port can seem to be a stranger,
one for each address that he has.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from musicsyncd.errors import ProtocolError
from musicsyncd.protocol import wire
from musicsyncd.protocol.auth import Opened, sender_of
from musicsyncd.protocol.node import Address
from musicsyncd.units import NS_PER_S

MAX_OTHERS = 16
"""Fellows, and as many strangers' addresses; beyond it the one that was silent for longest goes."""

MAX_ROOMS_EACH = 64
"""As many as a host has."""

SILENCE_NS = 10 * NS_PER_S
"""Forty beacons: a Wi-Fi that loses most of them does not make a host come and go in the status."""

MOVED_AFTER_NS = 2 * NS_PER_S
"""A host is heard at several addresses, of which one is shown until it is silent for eight beacons."""

MAX_OPENED_IN_WINDOW = 512
WINDOW_NS = NS_PER_S
"""15 fellows with eight rooms each send fewer a second; what is beyond would cost a flood's victim a MAC each."""

Key = TypeVar("Key")
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class OtherHost:
    """Another host on the LAN.

    Attributes:
        name: for people; empty for a host with another key.
        address: its IP address.
        rooms: their names, in alphabetical order; none for a host with another key.
        has_our_key: its datagrams open with a key of ours.
    """

    name: str
    address: str
    rooms: tuple[str, ...]
    has_our_key: bool


@dataclass(slots=True)
class _Fellow:
    name: str
    address: str
    address_ns: int
    heard_ns: int
    rooms: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Stranger:
    host_id: bytes
    heard_ns: int


class Others:
    """The other hosts of whom anything was heard of late.

    Args:
        own_id: of this host, which hears itself in the group.
        port: that hosts send from.
        open_fellow: opens a datagram of another host with our key, or raises :class:`ProtocolError`.
    """

    def __init__(self, own_id: bytes, port: int, open_fellow: Callable[[bytes], Opened]) -> None:
        self._own_id = own_id
        self._port = port
        self._open_fellow = open_fellow
        # Both have what was heard last at their end.
        self._fellows: dict[bytes, _Fellow] = {}
        self._strangers: dict[str, _Stranger] = {}
        self._window_ends_ns = 0
        self._opened = 0

    def hear_fellow(self, data: bytes, address: Address, now_ns: int) -> None:
        """Take a datagram that is marked as a host's with our key. Never raises.

        Args:
            data: as it came.
            address: of its sender.
            now_ns: when it arrived, host time.
        """
        if sender_of(data) == self._own_id or not self._may_open(now_ns):
            return
        try:
            opened = self._open_fellow(data)
            message = wire.decode_from_host(opened.body)
        except ProtocolError:
            return
        if isinstance(message, wire.Bye):
            self._fellows.pop(opened.sender, None)
        elif isinstance(message, wire.Beacon):
            self._note(opened.sender, message, address[0], now_ns)

    def hear_stranger(self, data: bytes, address: Address, now_ns: int) -> None:
        """Take a datagram that came to the group and is marked with neither of our keys. Never raises.

        Args:
            data: as it came, with the header of a sealed datagram.
            address: of its sender.
            now_ns: when it arrived, host time.
        """
        if address[1] != self._port:
            return
        host_id = sender_of(data)
        # What we said under a key that is no more may still be on its way.
        if host_id != self._own_id:
            _put_last(self._strangers, address[0], _Stranger(host_id, now_ns), MAX_OTHERS)

    def at(self, now_ns: int) -> tuple[OtherHost, ...]:
        """Return the hosts that are there at a host's time: those with our key first, then by name and address."""
        since_ns = now_ns - SILENCE_NS
        fellows = {host_id: one for host_id, one in self._fellows.items() if one.heard_ns > since_ns}
        found = []
        for one in fellows.values():
            rooms = sorted(room for room, at_ns in one.rooms.items() if at_ns > since_ns)
            found.append(OtherHost(one.name, one.address, tuple(rooms), True))
        # The one address by which a stranger is called is always the same, whichever it was heard at last.
        strangers: dict[bytes, str] = {}
        for address in sorted(self._strangers):
            stranger = self._strangers[address]
            # Who has just changed its key is there once.
            if stranger.heard_ns > since_ns and stranger.host_id not in fellows:
                strangers.setdefault(stranger.host_id, address)
        found += [OtherHost("", address, (), False) for address in strangers.values()]
        return tuple(sorted(found, key=lambda one: (not one.has_our_key, one.name, one.address)))

    def _may_open(self, now_ns: int) -> bool:
        if now_ns >= self._window_ends_ns:
            self._window_ends_ns = now_ns + WINDOW_NS
            self._opened = 0
        self._opened += 1
        return self._opened <= MAX_OPENED_IN_WINDOW

    def _note(self, host_id: bytes, beacon: wire.Beacon, address: str, now_ns: int) -> None:
        one = self._fellows.get(host_id) or _Fellow(beacon.host_name, address, now_ns, now_ns)
        if address == one.address or now_ns - one.address_ns > MOVED_AFTER_NS:
            one.address, one.address_ns = address, now_ns
        one.name, one.heard_ns = beacon.host_name, now_ns
        _put_last(one.rooms, beacon.room, now_ns, MAX_ROOMS_EACH)
        _put_last(self._fellows, host_id, one, MAX_OTHERS)


def _put_last(table: dict[Key, Value], key: Key, value: Value, most: int) -> None:
    """Put something at the end of a table that is in the order of last mention; the first goes if it is full."""
    if table.pop(key, None) is None and len(table) >= most:
        del table[next(iter(table))]
    table[key] = value
