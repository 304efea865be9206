"""What a speaker will need soon: which frames decoded, which tracks fetched and by when, most urgent first.

Pure functions of the time line and the host's time; they know nothing of threads or files.

A speaker that misses its sound begins somewhere and reads on from there: as long as bytes come faster than they
sound, that catches up with the present, and costs none of them. Where it does not, it begins anew further on
(:func:`missing_since`), as far ahead as it has been silent: whatever time the bytes take, some come in time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from musicsyncd.media.decoder import Want
from musicsyncd.media.frames import CHUNK_FRAMES
from musicsyncd.playback.timeline import Segment, Timeline, Track
from musicsyncd.units import NS_PER_MS, NS_PER_S, frames_to_ns

BEHIND_DURATION_NS = 300 * NS_PER_MS
"""Decoded frames are kept for so long after they sounded: a step back must find them."""

AHEAD_DURATION_NS = 3 * NS_PER_S
"""And so long before: a stalled disk or a busy processor costs nothing until then."""

HEAD_DURATION_NS = 2 * NS_PER_S
"""What is decoded of a track that follows."""

LOOK_DURATION_NS = 8 * NS_PER_S
"""How long before its start a following track's head is decoded."""

MAX_WANTS = 4
"""Tracks that are decoded at a time."""

PATIENCE_DURATION_NS = 1500 * NS_PER_MS
"""How far the present may be ahead of what a silent speaker has read. As long as it is no further, reading on is
quicker than to begin anew, which costs a search for the place and skips what was read."""

MAX_AIM_DURATION_NS = 3 * NS_PER_S
"""And so far it looks ahead at most."""

Ready = Callable[[Track, int], bool]
"""Says whether a frame of a track is decoded."""


@dataclass(frozen=True, slots=True)
class Missing:
    """Sound that should be heard and is not decoded.

    Attributes:
        segment: what it is of.
        since_host_ns: when its silence began.
        from_host_ns: where it was begun to read: what sounds at this instant, and what follows it.
    """

    segment: Segment
    since_host_ns: int
    from_host_ns: int


def missing_since(before: Missing | None, timeline: Timeline, host_ns: int, ready: Ready) -> Missing | None:
    """Return what is missing at an instant, and where to begin for it; None when nothing is.

    Args:
        before: what this returned last.
        timeline: what sounds when.
        host_ns: the instant.
        ready: what is decoded.
    """
    segment = timeline.sounding_at(host_ns)
    if segment is None or segment.track is None or ready(segment.track, segment.position_at(host_ns)[0]):
        return None
    if before is None or before.segment != segment:
        return Missing(segment, host_ns, _ran_dry_ns(segment, host_ns, ready))
    if host_ns - due_host_ns(segment, host_ns, before, ready) < PATIENCE_DURATION_NS:
        return before
    aim_ns = min(host_ns - before.since_host_ns, MAX_AIM_DURATION_NS)
    return Missing(segment, before.since_host_ns, host_ns + aim_ns)


def _ran_dry_ns(segment: Segment, host_ns: int, ready: Ready) -> int:
    """Return where to begin: a little back, at the track's start or where sound ran dry, nothing has to be searched.

    A decoder that goes on where it stands needs the bytes that come next; to go anywhere else it needs some
    from here and there first.
    """
    assert segment.track is not None, "of silence nothing is missing"
    if host_ns - segment.start_host_ns < BEHIND_DURATION_NS:
        return segment.start_host_ns
    position = segment.position_at(host_ns)[0]
    step_ns = frames_to_ns(CHUNK_FRAMES, segment.track.rate_hz)
    for chunks in range(1, BEHIND_DURATION_NS // step_ns + 2):
        if position >= chunks * CHUNK_FRAMES and ready(segment.track, position - chunks * CHUNK_FRAMES):
            return host_ns - (chunks - 1) * step_ns
    return host_ns


def frames_wanted(timeline: Timeline, host_ns: int, missing: Missing | None = None) -> list[Want]:
    """Return the stretches of tracks to be decoded now, the most urgent first.

    Args:
        timeline: what sounds when.
        host_ns: the present.
        missing: what should sound and does not.
    """
    wants: list[Want] = []
    behind: list[Want] = []
    tracks = 0
    for span in timeline.spans():
        segment, track = span.segment, span.segment.track
        assert track is not None
        if span.end_host_ns + BEHIND_DURATION_NS < host_ns:
            continue
        if segment.start_host_ns > host_ns + LOOK_DURATION_NS or tracks == MAX_WANTS:
            break
        tracks += 1
        begins_ns = _begin_ns(segment, host_ns, missing)
        ends_ns = max(max(begins_ns, host_ns) + AHEAD_DURATION_NS, segment.start_host_ns + HEAD_DURATION_NS)
        ends_ns = min(ends_ns, span.end_host_ns + BEHIND_DURATION_NS)
        begins_ns = min(max(begins_ns, segment.start_host_ns), ends_ns)
        wants += _want(segment, track, begins_ns, ends_ns)
        # What is past, or missed, is there to be kept and to be stepped back to; it is decoded last.
        behind += _want(segment, track, max(host_ns, segment.start_host_ns) - BEHIND_DURATION_NS, begins_ns)
    return wants + behind


def _want(segment: Segment, track: Track, begins_ns: int, ends_ns: int) -> list[Want]:
    first = max(segment.position_at(begins_ns)[0], 0)
    last = min(segment.position_at(ends_ns)[0], track.frames)
    return [Want(track, first, last - first)] if first < last else []


def _begin_ns(segment: Segment, host_ns: int, missing: Missing | None) -> int:
    return missing.from_host_ns if missing is not None and missing.segment == segment else host_ns


def due_host_ns(segment: Segment, host_ns: int, missing: Missing | None, ready: Ready) -> int:
    """Return when the first frame that is not decoded, from the present or from where it is read, should sound."""
    track = segment.track
    assert track is not None, "silence is never due"
    begins_ns = max(_begin_ns(segment, host_ns, missing), segment.start_host_ns)
    position = segment.position_at(begins_ns)[0]
    step_ns = frames_to_ns(CHUNK_FRAMES, track.rate_hz)
    due_ns = begins_ns
    ends_ns = max(host_ns, begins_ns) + AHEAD_DURATION_NS
    while due_ns < ends_ns and position < track.frames and ready(track, position):
        due_ns += step_ns
        position += CHUNK_FRAMES
    return due_ns


def segments_wanted(timeline: Timeline, host_ns: int) -> list[Segment]:
    """Return what sounds now or later, in that order, each track once."""
    segments: dict[bytes, Segment] = {}
    for span in timeline.spans():
        if span.end_host_ns + BEHIND_DURATION_NS >= host_ns and span.segment.track is not None:
            segments.setdefault(span.segment.track.content_id, span.segment)
    return list(segments.values())
