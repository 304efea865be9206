"""How each speaker was over the last hour: every second of the last five minutes, and every ten seconds of all of it.

Owns the figures of the past, in arrays of fixed size: with :data:`MAX_PEERS` speakers 1.2 MB, however long the host
runs. Knows a speaker as :func:`musicsyncd.system.status.peer_status` says it.

All speakers share one row of times, so that figures of one column are of one instant. A value of ten seconds is the
worst of them: nobody looks at an hour to find that a fault of a second was averaged away. Only the rate's correction,
which has no worse side, is their mean, and of counts and states it is the last.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musicsyncd.units import NS_PER_S

FINE_EVERY_S, FINE_S = 1, 300
COARSE_EVERY_S, COARSE_S = 10, 3600

MAX_PEERS = 64
"""Speakers whose past is kept; beyond it the one that has been away longest is forgotten."""

MAX_STATES = 100
"""Words for a state; a speaker that makes up more is said to be in ``another state``."""

_OTHER = "another state"
_WORST = ("round_trip_us", "jitter_us", "loss_percent", "uncertainty_us")
COLUMNS = ("sync_error_us", *_WORST, "correction_ppm", "underruns")
_WORST_ROWS = slice(1, 1 + len(_WORST))
_CORRECTION_ROW = COLUMNS.index("correction_ppm")

Figures = NDArray[np.float32]


@dataclass(slots=True)
class _Ring:
    """A place for so many points of time; ``next`` is the oldest, and the next to be written."""

    size: int
    times_ns: NDArray[np.int64] = field(init=False)
    next: int = 0

    def __post_init__(self) -> None:
        self.times_ns = np.full(self.size, -1, dtype=np.int64)

    def order(self, since_ns: int) -> NDArray[np.intp]:
        """Return the places written since a time, the oldest first."""
        places = (self.next + np.arange(self.size)) % self.size
        written = self.times_ns[places]
        found: NDArray[np.intp] = places[(written >= 0) & (written >= since_ns)]
        return found


@dataclass(slots=True)
class _Past:
    """A speaker's past: figures (columns, points) of both rings, and the numbers of its states, -1 for none."""

    name: str
    room: str
    seen_ns: int
    figures: tuple[Figures, Figures]
    states: tuple[NDArray[np.int8], NDArray[np.int8]]


class Trends:
    """The last hour of a host's speakers."""

    def __init__(self) -> None:
        self._rings = (_Ring(FINE_S // FINE_EVERY_S), _Ring(COARSE_S // COARSE_EVERY_S))
        self._peers: dict[str, _Past] = {}
        self._states: list[str] = ["away"]
        self._notes = 0

    def note(self, now_ns: int, peers: Sequence[Mapping[str, Any]]) -> None:
        """Note how the speakers are; to be called once a second.

        Args:
            now_ns: the host's monotonic clock.
            peers: as ``status`` says them.
        """
        fine, coarse = self._rings
        place = fine.next
        for past in self._peers.values():
            past.figures[0][:, place] = np.nan
            past.states[0][place] = 0
        for peer in peers:
            self._note(now_ns, place, peer)
        fine.times_ns[place] = now_ns
        fine.next = (place + 1) % fine.size
        self._notes += 1
        if self._notes % (COARSE_EVERY_S // FINE_EVERY_S) == 0:
            self._condense(now_ns, coarse.next)
            coarse.times_ns[coarse.next] = now_ns
            coarse.next = (coarse.next + 1) % coarse.size

    def _note(self, now_ns: int, place: int, peer: Mapping[str, Any]) -> None:
        past = self._peers.get(peer["id"])
        if peer["reach"] == "away":
            if past is not None:
                past.name, past.room = peer["name"], peer["room"]
            return
        if past is None:
            past = self._begin(peer["id"], now_ns)
            if past is None:
                return
        past.name, past.room, past.seen_ns = peer["name"], peer["room"], now_ns
        clock = peer["clock"]
        values = [peer[one] if one in peer else clock[one] for one in COLUMNS]
        past.figures[0][:, place] = values
        past.states[0][place] = self._state(peer["state"])

    def _begin(self, peer_id: str, now_ns: int) -> _Past | None:
        if len(self._peers) >= MAX_PEERS:
            longest = min(self._peers, key=lambda one: self._peers[one].seen_ns)
            if now_ns - self._peers[longest].seen_ns < 2 * NS_PER_S:
                return None  # All of them are here.
            del self._peers[longest]
        figures = tuple(np.full((len(COLUMNS), one.size), np.nan, dtype=np.float32) for one in self._rings)
        states = tuple(np.full(one.size, -1, dtype=np.int8) for one in self._rings)
        past = self._peers[peer_id] = _Past("", "", now_ns, (figures[0], figures[1]), (states[0], states[1]))
        return past

    def _state(self, state: str) -> int:
        if state not in self._states:
            if len(self._states) >= MAX_STATES:
                state = _OTHER
            if state not in self._states:
                self._states.append(state)
        return self._states.index(state)

    def _condense(self, now_ns: int, place: int) -> None:
        """Make one point of the last ten."""
        last = self._rings[0].order(0)[-COARSE_EVERY_S // FINE_EVERY_S :]
        for past in self._peers.values():
            here = past.figures[0][:, last]
            here = here[:, ~np.isnan(here[0])]
            past.figures[1][:, place] = np.nan
            past.states[1][place] = past.states[0][last[-1]]
            if here.shape[1]:
                point = here[:, -1].copy()
                point[0] = here[0, np.argmax(np.abs(here[0]))]
                point[_WORST_ROWS] = here[_WORST_ROWS].max(axis=1)
                point[_CORRECTION_ROW] = here[_CORRECTION_ROW].mean()
                past.figures[1][:, place] = point

    def show(self, now_ns: int, day_s: float, peer: str, seconds: int) -> dict[str, Any]:
        """Return the past for programs, in columns, the oldest first.

        Args:
            now_ns: the host's monotonic clock.
            day_s: the same by the clock of the day, seconds since 1970.
            peer: name or id of a speaker; empty for all.
            seconds: how far back; beyond :data:`FINE_S`, a point is of ten seconds.
        """
        which = 0 if seconds <= FINE_S else 1
        ring = self._rings[which]
        places = ring.order(now_ns - seconds * NS_PER_S)
        ago_s = (now_ns - ring.times_ns[places]) / NS_PER_S
        shown = []
        for peer_id, past in self._peers.items():
            if peer in ("", peer_id, past.name):
                known = past.states[which][places] >= 0
                at = places[known]
                columns = {name: _listed(past.figures[which][row, at]) for row, name in enumerate(COLUMNS)}
                states = [self._states[number] for number in past.states[which][at]]
                head = {"id": peer_id, "name": past.name, "room": past.room}
                shown.append(head | {"ago_s": _listed(ago_s[known])} | columns | {"state": states})
        every_s = (FINE_EVERY_S, COARSE_EVERY_S)[which]
        return {"now_s": round(day_s, 3), "every_s": every_s, "peers": shown}


def _listed(values: NDArray[Any]) -> list[float | None]:
    """Return numbers for JSON, with None where there is none."""
    return [None if one != one else round(one, 2) for one in values.tolist()]
