"""The time line of a room: what sounds at each instant of host time.

A time line is a short list of segments in order of their start. A segment says:
from host time ``start_host_ns`` on, ``track`` sounds from its frame ``frame`` on (or,
with no track, silence), until the track ends or the next segment starts. Play,
pause, seek, the next track and the end of the queue are all the same thing, one more
segment; a change that is due in a moment stands behind what sounds until then, so a
peer that joins between the two does the right thing.

A segment may fade in over what came before: for so long the track before it goes on, and one falls as the other
rises, with equal power. From its start on the new one counts as what sounds. A segment that does not fade in
ends everything that started before it.

Owns the meaning of a segment. Knows nothing of queues, files, sound cards or of how a
time line travels.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Annotated

import msgspec

from musicsyncd.units import NS_PER_MS, NS_PER_S, HostNs, frames_to_ns

MAX_SEGMENTS = 8
"""Segments in one time line: as many as leave a beacon under 1,200 bytes with room to spare."""

MAX_FRAMES = 1 << 40
"""Frames of one track: two months at 192 kHz."""

MAX_GAIN_DB = 60.0
"""Either way: beyond this a recording is silence or noise."""

MAX_FADE_MS = 12_000
"""Of one track over another: more is heard as two tracks at once."""

_Time = Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)]
_Frames = Annotated[int, msgspec.Meta(ge=0, le=MAX_FRAMES)]


class Track(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The bytes of one encoded recording and what they decode to.

    Attributes:
        content_id: SHA-256 of the bytes that peers fetch, 32 bytes.
        size_bytes: their length.
        rate_hz: frames a second of the recording.
        frames: its length.
        channels: samples in a frame.
        gain_db: by how much it is to be played louder than it was recorded.
    """

    content_id: Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
    size_bytes: Annotated[int, msgspec.Meta(ge=1, le=1 << 44)]
    rate_hz: Annotated[int, msgspec.Meta(ge=1_000, le=768_000)]
    frames: Annotated[int, msgspec.Meta(ge=1, le=MAX_FRAMES)]
    channels: Annotated[int, msgspec.Meta(ge=1, le=64)]
    gain_db: Annotated[float, msgspec.Meta(ge=-MAX_GAIN_DB, le=MAX_GAIN_DB)] = 0.0

    @property
    def duration_ns(self) -> int:
        """How long it plays."""
        return frames_to_ns(self.frames, self.rate_hz)


class Segment(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """From ``start_host_ns`` on, ``frame`` of ``track`` and what follows it sounds; without a track, silence.

    Attributes:
        start_host_ns: the instant at which ``frame`` leaves the speakers.
        entry: the queue's number for this playing of the track; 0 for silence.
        frame: the track's frame at that instant.
        track: what sounds, or None.
        fade_ms: for so long from its start on, the segment before goes on and falls while this one rises.
    """

    start_host_ns: _Time
    entry: _Frames = 0
    frame: _Frames = 0
    track: Track | None = None
    fade_ms: Annotated[int, msgspec.Meta(ge=0, le=MAX_FADE_MS)] = 0

    @property
    def fade_duration_ns(self) -> int:
        """For how long it rises over the segment before."""
        return self.fade_ms * NS_PER_MS

    @property
    def natural_end_host_ns(self) -> HostNs | None:
        """When the track's last frame has sounded, if nothing cuts it short; None for silence."""
        if self.track is None:
            return None
        return HostNs(self.start_host_ns + frames_to_ns(self.track.frames - self.frame, self.track.rate_hz))

    def position_at(self, host_ns: int) -> tuple[int, float]:
        """Return the position in the track at an instant: whole frames and the fraction of the next, 0 ≤ f < 1.

        Exact, however long the track; negative before its start and beyond its length after its end.
        """
        assert self.track is not None, "silence has no position"
        frames, rest = divmod((host_ns - self.start_host_ns) * self.track.rate_hz, NS_PER_S)
        return self.frame + frames, rest / NS_PER_S


class Span(msgspec.Struct, frozen=True):
    """A segment that sounds, with where it ends.

    Attributes:
        segment: what sounds; its track is never None.
        end_host_ns: when it ends: the track's own end or, before that, where what follows ends it.
        cut: what follows ends it before its track does, so it has to be faded out.
        follower: the segment that rises over it while it falls, or None.
        start_fraction_ns: what rounding took from its start, −1…1: where it follows another track without a gap,
            its start is that one's exact end.
        previous: the track whose end it joins without a gap, or None.
        following: the segment that joins its end without a gap, or None.
        following_fraction_ns: what rounding took from that one's start.
    """

    segment: Segment
    end_host_ns: int
    cut: bool
    follower: Segment | None = None
    start_fraction_ns: float = 0.0
    previous: Track | None = None
    following: Segment | None = None
    following_fraction_ns: float = 0.0


_ROUNDING_NS = 2
"""Two ends that were each rounded to a nanosecond may differ by this and still be the same instant."""


def _behind_ns(segment: Segment, track: Track, start_fraction_ns: float, follower: Segment | None) -> float | None:
    """Return by how much the exact end of a segment's track is behind the follower's start; None if that is apart."""
    if follower is None or follower.track is None or follower.frame:
        return None
    whole_ns, rest = divmod((track.frames - segment.frame) * NS_PER_S, track.rate_hz)
    behind_ns = (segment.start_host_ns + whole_ns - follower.start_host_ns) + rest / track.rate_hz + start_fraction_ns
    return behind_ns if abs(behind_ns) <= 1.0 else None


class Timeline(msgspec.Struct, frozen=True):
    """Segments in order of their start, which rises strictly. Empty means silence."""

    segments: tuple[Segment, ...] = ()

    def __post_init__(self) -> None:
        starts = [segment.start_host_ns for segment in self.segments]
        if any(a >= b for a, b in pairwise(starts)):
            raise ValueError("the starts of a time line's segments must rise")

    def spans(self) -> Iterator[Span]:
        """Yield every segment that has a track, with where it ends and whether it is cut there."""
        start_fraction_ns, previous = 0.0, None
        for index, segment in enumerate(self.segments):
            end, track = segment.natural_end_host_ns, segment.track
            if end is None or track is None:
                start_fraction_ns, previous = 0.0, None
                continue
            follower = self.segments[index + 1] if index + 1 < len(self.segments) else None
            limit = self._ended_by_others_host_ns(index)
            cut = limit is not None and limit < end - _ROUNDING_NS
            behind_ns = _behind_ns(segment, track, start_fraction_ns, follower)
            joined = behind_ns is not None and follower is not None and follower.fade_ms == 0
            yield Span(
                segment,
                limit if limit is not None and cut else end,
                cut,
                follower if follower is not None and follower.fade_ms and follower.track is not None else None,
                start_fraction_ns,
                previous,
                follower if joined else None,
                behind_ns or 0.0,
            )
            start_fraction_ns, previous = behind_ns or 0.0, track if joined else None

    def _ended_by_others_host_ns(self, index: int) -> int | None:
        """Return when what follows ends a segment; None when nothing follows."""
        following = self.segments[index + 1 : index + 3]
        if not following:
            return None
        first = following[0].start_host_ns + following[0].fade_duration_ns
        return first if len(following) == 1 else min(first, following[1].start_host_ns)

    def segment_at(self, host_ns: int) -> Segment | None:
        """Return the segment in force at an instant (its track may have ended), or None before the first."""
        found = None
        for segment in self.segments:
            if segment.start_host_ns > host_ns:
                break
            found = segment
        return found

    def sounding_at(self, host_ns: int) -> Segment | None:
        """Return the segment whose track sounds at an instant, or None in silence."""
        segment = self.segment_at(host_ns)
        if segment is None:
            return None
        end = segment.natural_end_host_ns
        return segment if end is not None and host_ns < end else None
