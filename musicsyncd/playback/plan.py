"""A time line in the making: what was announced, and where a command may still change it.

Owns the segments of a room in order, their exact starts, and the limits of a time line
(:data:`~musicsyncd.playback.timeline.MAX_SEGMENTS`). Must not know the queue: what follows
what is :mod:`musicsyncd.playback.transport`'s.

A segment's start on the wire is a whole nanosecond. Here it is an exact fraction, and a
chain of tracks is added up without rounding, so the thousandth track begins where
arithmetic says and not where a thousand roundings have drifted to.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

from musicsyncd.playback.timeline import MAX_SEGMENTS, Segment, Track
from musicsyncd.units import NS_PER_MS, NS_PER_S, ns_to_frames

PAST_DURATION_NS = 5 * NS_PER_S
"""A segment stays this long after its end: a speaker told to play late (wire.MAX_OUTPUT_DELAY_US) needs it."""

MAX_PAST_SEGMENTS = 2
"""Segments that may stay after their end; the others' places are for what comes."""

MAX_AHEAD = MAX_SEGMENTS - 2
"""Where the plan stops being filled: one place is left for a command and one for the silence after it."""

_MAX_DENOMINATOR = 10**9
"""Of a start in nanoseconds. All usual rates need 441; strange ones stay this close (10⁻⁹ ns)."""


@dataclass(frozen=True, slots=True)
class _Planned:
    """A segment, and its start before rounding in nanoseconds."""

    segment: Segment
    start_exact: Fraction


class Plan:
    """The segments of one room.

    Attributes:
        head_host_ns: where the last command begins to sound. What starts before it is on its way
            out; what starts later follows by itself.
    """

    def __init__(self, segments: Iterable[Segment] = (), head_host_ns: int = 0) -> None:
        """Begin empty, or with a time line that was announced before."""
        self.head_host_ns = head_host_ns
        self._planned = [_Planned(segment, Fraction(segment.start_host_ns)) for segment in segments]

    @property
    def segments(self) -> tuple[Segment, ...]:
        """Everything planned, with what has ended since :meth:`forget` was called."""
        return tuple(planned.segment for planned in self._planned)

    @property
    def last(self) -> Segment | None:
        """The last segment."""
        return self._planned[-1].segment if self._planned else None

    @property
    def has_room(self) -> bool:
        """Whether a command's track fits, with a place left for silence."""
        return len(self._planned) <= MAX_AHEAD

    @property
    def wants_more(self) -> bool:
        """Whether a track that follows by itself fits too."""
        return 0 < len(self._planned) < MAX_AHEAD

    def begin(self, segment: Segment) -> None:
        """Append what a command asked for."""
        assert self.has_room, "a command without room must be held"
        self.head_host_ns = segment.start_host_ns
        self._planned.append(_Planned(segment, Fraction(segment.start_host_ns)))

    def follow(self, entry: int, track: Track, from_host_ns: int, fade_ms: int = 0) -> None:
        """Append a track from its start at the end of the last one, or later if that is too soon.

        Args:
            entry: of the queue.
            track: what follows.
            from_host_ns: not before this instant.
            fade_ms: it rises over the last one's end for so long, or for as long as is left of that. Neither track
                fades for more than half of its length, so that of two fades never more than two tracks sound.
        """
        last = self._planned[-1]
        assert last.segment.track is not None, "nothing follows silence by itself"
        left_frames = last.segment.track.frames - last.segment.frame
        left_ns = Fraction(left_frames * NS_PER_S, last.segment.track.rate_hz)
        end, soonest = last.start_exact + left_ns, Fraction(from_host_ns)
        fade_ns = min(Fraction(fade_ms * NS_PER_MS), left_ns / 2, Fraction(track.duration_ns, 2))
        fade_ms = max(0, int((end - max(end - fade_ns, soonest)) // NS_PER_MS))
        start = max(end - fade_ms * NS_PER_MS, soonest).limit_denominator(_MAX_DENOMINATOR)
        self._planned.append(_Planned(Segment(round(start), entry, 0, track, fade_ms), start))

    def hush(self, at_host_ns: int) -> None:
        """End what sounds at an instant, if anything does."""
        end = self.last.natural_end_host_ns if self.last else None
        if end is not None and end > at_host_ns:
            self._planned.append(_Planned(Segment(at_host_ns), Fraction(at_host_ns)))

    def cut(self, at_host_ns: int, now_host_ns: int) -> None:
        """Take out everything that starts at or after an instant; what has ended makes room if need be."""
        for past in (MAX_PAST_SEGMENTS, 0):
            kept = [p for p in self._recent(now_host_ns, past) if p.segment.start_host_ns < at_host_ns]
            if len(kept) <= MAX_AHEAD:
                break
        self._planned = kept

    def forget(self, now_host_ns: int) -> None:
        """Take out what ended long ago."""
        self._planned = self._recent(now_host_ns, MAX_PAST_SEGMENTS)

    def recent(self, now_host_ns: int) -> tuple[Segment, ...]:
        """Return what :meth:`forget` would leave."""
        return tuple(planned.segment for planned in self._recent(now_host_ns, MAX_PAST_SEGMENTS))

    def in_force(self, host_ns: int) -> Segment | None:
        """Return what the last command made sound at an instant; before it begins, what it begins with."""
        found = None
        for planned in self._planned:
            start = planned.segment.start_host_ns
            if start >= self.head_host_ns and (found is None or start <= host_ns):
                found = planned.segment
        return found

    def place_at(self, host_ns: int) -> tuple[int, int]:
        """Return entry and whole frame of what is in force, which must be a track; at its end, its length."""
        segment = self.in_force(host_ns)
        assert segment is not None, "nothing is planned"
        assert segment.track is not None, "silence is no place"
        elapsed = ns_to_frames(max(0, host_ns - segment.start_host_ns), segment.track.rate_hz)
        return segment.entry, min(segment.frame + elapsed, segment.track.frames)

    def next_change_host_ns(self, after_host_ns: int) -> int | None:
        """Return the first instant after another one at which something begins or all ends, or None."""
        instants = [planned.segment.start_host_ns for planned in self._planned]
        end = self.last.natural_end_host_ns if self.last else None
        if end is not None:
            instants.append(end)
        return min((instant for instant in instants if instant > after_host_ns), default=None)

    def _recent(self, now_host_ns: int, past: int) -> list[_Planned]:
        """Return the plan without what ended long ago, and with at most ``past`` of what has ended."""
        kept: list[_Planned] = []
        ended = 0
        following: Segment | None = None
        over: int | None = None  # What a fade lets go on, the segment behind the one that fades in ends.
        for planned in reversed(self._planned):
            risen = None if following is None else following.start_host_ns + following.fade_duration_ns
            ends = [end for end in (planned.segment.natural_end_host_ns, risen, over) if end is not None]
            over = None if following is None else following.start_host_ns
            following = planned.segment
            if ends and min(ends) <= now_host_ns:
                ended += 1
                if ended > past or min(ends) <= now_host_ns - PAST_DURATION_NS:
                    break
            kept.append(planned)
        while kept and kept[-1].segment.track is None and kept[-1].segment.start_host_ns <= now_host_ns:
            kept.pop()  # Silence that nothing precedes says nothing.
        return kept[::-1]
