"""What a speaker will need soon: which frames decoded, which tracks fetched, most urgent first.

A pure function of the time line and the host's time; it knows nothing of threads or files.
"""

from __future__ import annotations

from musicsyncd.media.decoder import Want
from musicsyncd.playback.timeline import Timeline, Track
from musicsyncd.units import NS_PER_MS, NS_PER_S

BEHIND_DURATION_NS = 300 * NS_PER_MS
"""Decoded frames are kept for so long after they sounded: a step back must find them."""

AHEAD_DURATION_NS = 3 * NS_PER_S
"""And so long before: a stalled disk or a busy processor costs nothing until then."""

HEAD_DURATION_NS = 2 * NS_PER_S
"""What is decoded of a track that follows."""

LOOK_DURATION_NS = 8 * NS_PER_S
"""How long before its start a following track's head is decoded."""

MAX_WANTS = 4


def frames_wanted(timeline: Timeline, host_ns: int) -> list[Want]:
    """Return the stretches of tracks to be decoded now, in order of their sounding."""
    wants: list[Want] = []
    for span in timeline.spans():
        segment, track = span.segment, span.segment.track
        assert track is not None
        if span.end_host_ns + BEHIND_DURATION_NS < host_ns:
            continue
        if segment.start_host_ns > host_ns + LOOK_DURATION_NS or len(wants) == MAX_WANTS:
            break
        begins_ns = max(host_ns - BEHIND_DURATION_NS, segment.start_host_ns - BEHIND_DURATION_NS)
        ends_ns = max(host_ns + AHEAD_DURATION_NS, segment.start_host_ns + HEAD_DURATION_NS)
        ends_ns = min(ends_ns, span.end_host_ns + BEHIND_DURATION_NS)
        first = max(segment.position_at(begins_ns)[0], 0)
        last = min(segment.position_at(ends_ns)[0], track.frames)
        if first < last:
            wants.append(Want(track, first, last - first))
    return wants


def tracks_wanted(timeline: Timeline, host_ns: int) -> list[Track]:
    """Return the tracks that sound now or later, in that order, each once."""
    tracks: dict[bytes, Track] = {}
    for span in timeline.spans():
        if span.end_host_ns + BEHIND_DURATION_NS >= host_ns and span.segment.track is not None:
            tracks.setdefault(span.segment.track.content_id, span.segment.track)
    return list(tracks.values())
