"""The time line of a room: what sounds at each instant of host time.

A time line is a short list of segments in order of their start. A segment says:
from host time ``start_host_ns`` on, ``track`` sounds from its frame ``frame`` on (or,
with no track, silence), until the track ends or the next segment starts. Play,
pause, seek, the next track and the end of the queue are all the same thing, one more
segment; a change that is due in a moment stands behind what sounds until then, so a
peer that joins between the two does the right thing.

Owns the meaning of a segment. Knows nothing of queues, files, sound cards or of how a
time line travels.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Annotated

import msgspec

from musicsyncd.units import NS_PER_S, HostNs, frames_to_ns

MAX_SEGMENTS = 8
"""Segments in one time line: as many as leave a beacon under 1,200 bytes with room to spare."""

MAX_FRAMES = 1 << 40
"""Frames of one track: two months at 192 kHz."""

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
    """

    content_id: Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
    size_bytes: Annotated[int, msgspec.Meta(ge=1, le=1 << 44)]
    rate_hz: Annotated[int, msgspec.Meta(ge=1_000, le=768_000)]
    frames: Annotated[int, msgspec.Meta(ge=1, le=MAX_FRAMES)]
    channels: Annotated[int, msgspec.Meta(ge=1, le=64)]

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
    """

    start_host_ns: _Time
    entry: _Frames = 0
    frame: _Frames = 0
    track: Track | None = None

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
        end_host_ns: when it ends: the track's own end or, before that, the next segment's start.
        cut: the next segment ends it before its track does, so it has to be faded out.
    """

    segment: Segment
    end_host_ns: int
    cut: bool


_ROUNDING_NS = 2
"""Two ends that were each rounded to a nanosecond may differ by this and still be the same instant."""


class Timeline(msgspec.Struct, frozen=True):
    """Segments in order of their start, which rises strictly. Empty means silence."""

    segments: tuple[Segment, ...] = ()

    def __post_init__(self) -> None:
        starts = [segment.start_host_ns for segment in self.segments]
        if any(a >= b for a, b in pairwise(starts)):
            raise ValueError("the starts of a time line's segments must rise")

    def spans(self) -> Iterator[Span]:
        """Yield every segment that has a track, with where it ends and whether it is cut there."""
        for index, segment in enumerate(self.segments):
            end = segment.natural_end_host_ns
            if end is None:
                continue
            following = self.segments[index + 1].start_host_ns if index + 1 < len(self.segments) else None
            cut = following is not None and following < end - _ROUNDING_NS
            yield Span(segment, following if cut and following is not None else end, cut)

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
