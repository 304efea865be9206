"""When peers heard a beacon: what a peer says of it, and what a host makes of that.

Owns which beacons count, how long the peers are remembered, and when they are grouped anew. Must not know
how (:mod:`musicsyncd.clock.receivers`, which has the theory), nor how clocks are estimated.

Only what came by multicast was heard by all in one instant, and only the peers of one room must agree. A
beacon is known again by its ``host_ns``: its copies by unicast say the same, but nobody reports those.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from musicsyncd.clock.correction import Correction
from musicsyncd.clock.mapping import ClockMapping
from musicsyncd.clock.receivers import Receivers
from musicsyncd.protocol import wire
from musicsyncd.protocol.reporting import ClockFigures
from musicsyncd.units import NS_PER_S, LocalNs

SETTLING_DURATION_NS = 2 * NS_PER_S
"""A clock that has just begun moves more than it is worth to compare."""

GAP_DURATION_NS = 5 * NS_PER_S
"""Who says nothing for so long has a clock that began anew."""

REGROUP_INTERVAL_NS = 2 * NS_PER_S
"""For a thousand peers it takes 15 ms as a rule."""

MAX_UNDER_WAY = 256
"""Beacons whose send stamp may still come: the newest of all rooms."""


class CorrectedClock(ClockFigures, Protocol):
    """A clock that takes corrections."""

    @property
    def estimate(self) -> ClockMapping | None:
        """``mapping`` without the correction: what probes alone say."""

    def correct(self, correction_ns: int) -> None:
        """Take this off the estimate of the host's time from now on."""


class Ears:
    """What a peer heard, what it has yet to report of that, and what its fellows say of it.

    Args:
        clock: the peer's, which is corrected.
    """

    def __init__(self, clock: CorrectedClock) -> None:
        self._clock = clock
        self._correction = Correction()
        self._heard: deque[wire.Heard] = deque(maxlen=wire.MAX_HEARD)
        self._settled_ns: int | None = None

    def hear(self, beacon: wire.Beacon, now_ns: int) -> None:
        """Note a beacon of the peer's own room that came by multicast at ``now_ns``, local."""
        estimate = self._clock.estimate
        if estimate is None:
            return
        if self._settled_ns is None:
            self._settled_ns = now_ns + SETTLING_DURATION_NS
        if now_ns < self._settled_ns:
            return
        mark = _mark(beacon.host_ns)
        lateness_ns = self._correction.hear(mark, beacon.host_ns, LocalNs(now_ns), estimate)
        if abs(lateness_ns) <= wire.MAX_LATENESS_NS:
            self._heard.append(wire.Heard(mark, lateness_ns))

    def take(self) -> tuple[wire.Heard, ...]:
        """Return what was heard since the last time, the newest of it, oldest first."""
        heard = tuple(self._heard)
        self._heard.clear()
        return heard

    def listen(self, fellows: wire.Heard | None) -> None:
        """Take what the host says of when the peer's fellows heard a beacon."""
        if fellows is not None:
            self._correction.tell(fellows.beacon, fellows.lateness_ns)

    def correct(self) -> None:
        """Correct the clock, whenever its estimate has changed."""
        # Without what corrections have made of it, or they would correct themselves.
        estimate = self._clock.estimate
        if estimate is not None:
            self._clock.correct(self._correction.estimate_ns(estimate, self._clock.round_trip_ns // 2))

    def clear(self) -> None:
        """Forget all: the clock begins anew, or follows another."""
        self._heard.clear()
        self._correction.clear()
        self._settled_ns = None


@dataclass(slots=True)
class _Room:
    receivers: Receivers = field(default_factory=Receivers)
    round_trips_ns: dict[bytes, int] = field(default_factory=dict)
    heard_ns: dict[bytes, int] = field(default_factory=dict)
    due_ns: int = 0

    def forget(self, peer_id: bytes) -> None:
        self.receivers.forget(peer_id)
        self.round_trips_ns.pop(peer_id, None)
        self.heard_ns.pop(peer_id, None)


class Hearing:
    """What the peers of a host heard, room by room.

    Args:
        tickets: numbers that no other datagram of the node has.
    """

    def __init__(self, tickets: Iterator[int]) -> None:
        self._tickets = tickets
        self._rooms: dict[str, _Room] = {}
        self._room_of: dict[bytes, str] = {}
        self._under_way: dict[int, tuple[str, int]] = {}

    def send(self, room: str, host_ns: int) -> int:
        """Note that a room's beacon is sent to the group, and return its ticket."""
        ticket = next(self._tickets)
        if len(self._under_way) >= MAX_UNDER_WAY:
            del self._under_way[next(iter(self._under_way))]
        self._under_way[ticket] = (room, host_ns)
        self._rooms.setdefault(room, _Room()).receivers.sent(_mark(host_ns), host_ns)
        return ticket

    def sent(self, ticket: int, left_ns: int) -> None:
        """Note when a datagram really left; over several interfaces, the first counts."""
        room, host_ns = self._under_way.pop(ticket, ("", 0))
        if room in self._rooms:
            self._rooms[room].receivers.left(_mark(host_ns), left_ns)

    def take(self, peer_id: bytes, report: wire.Report, now_ns: int) -> None:
        """Take what a present peer reports."""
        if self._room_of.get(peer_id) != report.room:
            self.forget_peer(peer_id)
        room = self._rooms.get(report.room)
        if room is None:
            return
        self._room_of[peer_id] = report.room
        if report.heard:
            if now_ns - room.heard_ns.get(peer_id, now_ns) > GAP_DURATION_NS:
                room.forget(peer_id)
            room.heard_ns[peer_id] = now_ns
        room.round_trips_ns[peer_id] = report.clock.round_trip_ns
        for heard in report.heard:
            room.receivers.heard(peer_id, heard.beacon, heard.lateness_ns)
        if now_ns >= room.due_ns:
            room.due_ns = now_ns + REGROUP_INTERVAL_NS
            room.receivers.regroup(now_ns, room.round_trips_ns)

    def fellows_heard(self, peer_id: bytes, now_ns: int) -> wire.Heard | None:
        """Return when a peer's fellows heard the newest beacon of which they have told; None if it has none."""
        room = self._rooms.get(self._room_of.get(peer_id, ""))
        found = None if room is None else room.receivers.fellows_heard(peer_id, now_ns)
        if found is None or abs(found[1]) > wire.MAX_LATENESS_NS:
            return None
        return wire.Heard(*found)

    def forget_peer(self, peer_id: bytes) -> None:
        """Forget a peer that is gone or began anew; one that is not known is no fault."""
        room = self._rooms.get(self._room_of.pop(peer_id, ""))
        if room is not None:
            room.forget(peer_id)

    def forget_room(self, room: str) -> None:
        """Forget a room that is no more; one that is not known is no fault."""
        self._rooms.pop(room, None)


def _mark(host_ns: int) -> int:
    return host_ns & ((1 << wire.BEACON_MARK_BITS) - 1)
