"""Which receivers hear the same datagrams together, and when they did.

Owns who hears together with whom, and what each is told of its fellows. Must not know messages,
names, the rooms or how a clock was estimated. All times are in nanoseconds; a *lateness* is a receiver's own
estimate of the host's time at which it received a datagram, minus the time at which the host sent it.

Theory: probes cannot see that a path is longer one way than the other; the estimate is then wrong by
half the difference. But receivers of one multicast datagram on one medium hear it in the same instant, however
long it waited before that: for the air, or at the access point for the sleeping ones. What they say of that
instant differs by what their estimates are wrong (reference broadcasts).

Who hears together shows in the latenesses alone: on one medium they move together, and their difference
stays as it is. Two things look like that and are not. The host itself is late with all its receivers at once:
so the kernel's send stamp is taken off first, and where there is none, only what moves by more than a host is
ever late counts. And a medium may lie behind another (a wire behind an access point), later by a constant: so
two that differ by more than half the mean of their least one-way delays are taken for that. Below it, a receiver that
is later than its fellows by a constant and one that sends later than they do look the same. The theory
decides for the second: it holds for receivers of one kind.

A wire without queues tells nothing, and needs no telling. Each receiver of a medium is told when its middle, the
median of them all, heard a datagram; it makes its correction of that itself (:mod:`musicsyncd.clock.correction`),
because only there is the newest estimate.

Sources: Elson, Girod and Estrin, "Fine-Grained Network Time Synchronization using Reference Broadcasts"
(OSDI 2002); Rousseeuw and Croux, "Alternatives to the Median Absolute Deviation" (JASA 1993) for the spreads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from musicsyncd.units import NS_PER_MS, NS_PER_S, NS_PER_US

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

MAX_BEACONS = 256
"""Remembered: a minute of a room's, four a second, with one change in it."""

MAX_RECEIVERS = 1024
WINDOW_DURATION_NS = 60 * NS_PER_S

MIN_COMMON = 24
"""Datagrams that two must have heard both before anything is made of it: six seconds without loss."""

MAX_MEDIA = 32
"""With so many receivers each other one is compared at a time; whoever finds no fellow has another turn."""

MAX_REFERENCES = 32
"""So many receivers of a medium say when its datagrams were heard; more would add nothing."""

_TOGETHER = 0.4
_STILL_TOGETHER = 0.6
"""Of the spread of each, the spread of the difference of two that hear together; less strict for who did so lately."""

_LEAST_SPREAD_NS = 100 * NS_PER_US
"""On a medium that is steadier there are no queues, and probes see what there is to see."""

_LEAST_SPREAD_UNSTAMPED_NS = 5 * NS_PER_MS
"""No host that can play music is itself late by so much, time after time; an access point is."""

_MOST_APART_NS = 150 * NS_PER_US
"""Spread of the difference: those that differ by more do not hear in one instant, or cannot say when."""

TOLD_AFTER_DURATION_NS = 1300 * NS_PER_MS
"""By then, all of a room have reported what they heard: once a second and a tenth."""

TOLD_FOR_DURATION_NS = NS_PER_S
"""What is older is of no use; four datagrams that nearly all missed are no time to tell of anything."""


@dataclass(frozen=True, slots=True)
class _Medium:
    """Those that hear together.

    Attributes:
        leader: the one that each of them was compared with.
        rows: of the references, the leader's first.
        off_ns: by how much each of them is ahead of the middle of all.
        told: how late datagrams were heard by the middle, by their numbers; those of one turn.
    """

    leader: bytes
    rows: Indices
    off_ns: Floats
    told: dict[int, int] = field(default_factory=dict)


class Receivers:
    """The receivers of one room's datagrams.

    Datagrams are told apart by any number that is unique within a minute.
    """

    def __init__(self) -> None:
        self._rows: dict[bytes, int] = {}
        self._free: list[int] = []
        self._lateness_ns = np.full((0, MAX_BEACONS), np.nan)
        self._columns: dict[int, int] = {}
        self._numbers: list[int | None] = [None] * MAX_BEACONS
        self._sent_host_ns = np.zeros(MAX_BEACONS, np.int64)
        self._host_late_ns = np.full(MAX_BEACONS, np.nan)
        self._next_column = 0
        self._media: dict[bytes, _Medium] = {}
        self._turn = 0

    def sent(self, number: int, sent_host_ns: int) -> None:
        """Note that a datagram is being sent."""
        column = self._next_column
        self._next_column = (column + 1) % MAX_BEACONS
        former = self._numbers[column]
        if former is not None and self._columns.get(former) == column:
            del self._columns[former]
        self._numbers[column] = number
        self._columns[number] = column
        self._sent_host_ns[column] = sent_host_ns
        self._host_late_ns[column] = np.nan
        self._lateness_ns[:, column] = np.nan

    def left(self, number: int, left_host_ns: int) -> None:
        """Note when a datagram really left, by the kernel's stamp; what is forgotten is nothing."""
        column = self._columns.get(number)
        if column is not None:
            self._host_late_ns[column] = left_host_ns - self._sent_host_ns[column]

    def heard(self, receiver: bytes, number: int, lateness_ns: int) -> None:
        """Note how late a receiver heard a datagram; one that was not sent lately is nothing."""
        column = self._columns.get(number)
        if column is None:
            return
        row = self._rows.get(receiver)
        if row is None:
            if len(self._rows) >= MAX_RECEIVERS:
                return
            row = self._rows[receiver] = self._new_row()
        self._lateness_ns[row, column] = lateness_ns

    def forget(self, receiver: bytes) -> None:
        """Forget what a receiver heard: it is gone, or its clock began anew."""
        row = self._rows.pop(receiver, None)
        medium = self._media.pop(receiver, None)
        if row is not None:
            if medium is not None:
                medium.off_ns[medium.rows == row] = np.nan  # Whoever has this row next is another.
            self._lateness_ns[row] = np.nan
            self._free.append(row)

    def regroup(self, now_host_ns: int, round_trips_ns: Mapping[bytes, int]) -> None:
        """Find out anew who hears together with whom.

        Args:
            now_host_ns: the host's time.
            round_trips_ns: of each receiver its least; who is not in it, or has 0, is left out.
        """
        known = [receiver for receiver in self._ordered() if round_trips_ns.get(receiver, 0) > 0]
        recent = self._sent_host_ns > max(now_host_ns - WINDOW_DURATION_NS, 0)
        media: dict[bytes, _Medium] = {}
        if len(known) >= 2 and np.count_nonzero(recent) >= MIN_COMMON:
            late_ns = self._lateness_ns[[self._rows[receiver] for receiver in known]][:, recent]
            least_ns = _LEAST_SPREAD_UNSTAMPED_NS
            if np.count_nonzero(~np.isnan(self._host_late_ns[recent])) >= MIN_COMMON:
                late_ns -= self._host_late_ns[recent]
                least_ns = _LEAST_SPREAD_NS
            one_way_ns = np.array([round_trips_ns[receiver] / 2 for receiver in known])
            for places in self._found(known, late_ns, one_way_ns, least_ns):
                # Most paths are even: one that is not shall not move the others.
                off_ns = _medians(late_ns[places] - late_ns[places[0]])
                off_ns -= np.median(off_ns)
                members = [known[place] for place in places]
                rows = np.array([self._rows[member] for member in members[:MAX_REFERENCES]])
                media.update(dict.fromkeys(members, _Medium(members[0], rows, off_ns[:MAX_REFERENCES])))
        self._media = media

    def fellows_heard(self, receiver: bytes, now_host_ns: int) -> tuple[int, int] | None:
        """Return the newest datagram that a receiver's fellows have told of, and how late they heard it.

        Args:
            receiver: one that is told; itself counts among its fellows, so that all are told the same.
            now_host_ns: the host's time.
        """
        medium = self._media.get(receiver)
        if medium is None:
            return None
        newest_ns = now_host_ns - TOLD_AFTER_DURATION_NS
        for back in range(1, MAX_BEACONS + 1):
            column = self._next_column - back
            number, sent_ns = self._numbers[column], self._sent_host_ns[column]
            if number is None or sent_ns < newest_ns - TOLD_FOR_DURATION_NS:
                break
            if sent_ns <= newest_ns and (lateness_ns := self._told(medium, number, column)) is not None:
                return number, lateness_ns
        return None

    def _told(self, medium: _Medium, number: int, column: int) -> int | None:
        """Return when the middle of a medium heard a datagram, always the same; None for too few that did."""
        if number not in medium.told:
            aligned_ns = self._lateness_ns[medium.rows, column] - medium.off_ns
            aligned_ns = aligned_ns[~np.isnan(aligned_ns)]
            if len(aligned_ns) < 2:
                return None
            medium.told[number] = round(float(np.median(aligned_ns)))
        return medium.told[number]

    def _new_row(self) -> int:
        if not self._free:
            rows = len(self._lateness_ns)
            grown = np.full((max(8, rows), MAX_BEACONS), np.nan)
            self._lateness_ns = np.concatenate((self._lateness_ns, grown))
            self._free = list(range(len(self._lateness_ns) - 1, rows - 1, -1))
        return self._free.pop()

    def _ordered(self) -> list[bytes]:
        """Return all receivers: those of a medium first, the others so that each is in front some time."""
        alone = [receiver for receiver in self._rows if receiver not in self._media]
        if len(alone) > MAX_MEDIA:
            self._turn = (self._turn + MAX_MEDIA) % len(alone)
            alone = alone[self._turn :] + alone[: self._turn]
        return [receiver for receiver in self._rows if receiver in self._media] + alone

    def _found(self, known: list[bytes], late_ns: Floats, one_way_ns: Floats, least_ns: float) -> list[Indices]:
        """Return who hears together, by their places in ``known``; who hears alone is in none.

        Args:
            known: receivers; the first ones are compared with all others.
            late_ns: float64, (receivers, datagrams), NaN where one was not heard.
            one_way_ns: (receivers,), half the least round trip of each.
            least_ns: spread below which a receiver's lateness says nothing.
        """
        spread_ns = _spreads(late_ns)
        labels: dict[bytes, int] = {}
        leaders = (self._media[one].leader if one in self._media else one for one in known)
        lately = np.array([labels.setdefault(leader, len(labels)) for leader in leaders])
        rest = np.flatnonzero(spread_ns >= least_ns)
        media = []
        for _ in range(MAX_MEDIA):
            if len(rest) < 2:
                break
            leader, others = rest[0], rest[1:]
            apart_ns = late_ns[others] - late_ns[leader]
            share = np.where(lately[others] == lately[leader], _STILL_TOGETHER, _TOGETHER)
            moving = _spreads(apart_ns) <= np.minimum(
                share * np.minimum(spread_ns[others], spread_ns[leader]), _MOST_APART_NS
            )
            near = np.abs(_medians(apart_ns)) <= (one_way_ns[others] + one_way_ns[leader]) / 2
            together = moving & near
            if together.any():
                media.append(np.concatenate(([leader], others[together])))
            rest = others[~together]
        return media


def _medians(values: Floats) -> Floats:
    """Return each row's median without its NaNs; NaN where fewer than :data:`MIN_COMMON` are left."""
    counts = np.count_nonzero(~np.isnan(values), axis=1)
    ordered = np.sort(values, axis=1)  # NaNs come last.
    places = np.arange(len(values))
    medians: Floats = (ordered[places, np.maximum(counts - 1, 0) // 2] + ordered[places, counts // 2]) / 2
    medians[counts < MIN_COMMON] = np.nan
    return medians


def _spreads(values: Floats) -> Floats:
    """Return each row's median absolute deviation from its median."""
    return _medians(np.abs(values - _medians(values)[:, np.newaxis]))
