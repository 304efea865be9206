"""Where a queue's music would be after a time for which nobody looked.

Owns that walk from one entry to the next. Must not know host time nor why nobody looked: it is
given a place and how long ago the music was there. It follows the same rules as
:mod:`musicsyncd.playback.plan` follows one track by the next, to within a nanosecond a track.
"""

from __future__ import annotations

from musicsyncd.media.queue import Queue
from musicsyncd.units import NS_PER_MS, frames_to_ns, ns_to_frames

MAX_STEPS = 50_000
"""Entries that are walked over, some tenths of a second: a day of tracks of two seconds. Beyond, it stays there."""


def place_after(
    queue: Queue, number: int, frame: int, elapsed_duration_ns: int, fade_ms: int
) -> tuple[int, int] | None:
    """Return entry and frame that sound some time after another place in a queue did.

    Args:
        queue: with the entry in it; how it repeats counts.
        number: of the entry that sounded.
        frame: of its track.
        elapsed_duration_ns: for so long the music went on.
        fade_ms: for so long each track rises over the end of the one before.

    Returns:
        The place, at the latest the start of the first entry that is not prepared, because its
        length is not known; None when the queue has ended meanwhile.
    """
    left_ns = elapsed_duration_ns
    for _ in range(MAX_STEPS):
        index = queue.index_of(number)
        track = None if index is None else queue.entries[index].track
        if index is None or track is None:
            break
        lasts_ns = frames_to_ns(max(0, track.frames - frame), track.rate_hz)
        following = queue.after(index)
        fade_ns = 0
        if following is not None and following.track is not None:
            # As Plan.follow: neither of two tracks fades for more than half of its length.
            fade_ns = min(fade_ms * NS_PER_MS, lasts_ns // 2, following.track.duration_ns // 2)
            fade_ns -= fade_ns % NS_PER_MS
        if left_ns < lasts_ns - fade_ns:
            return number, frame + ns_to_frames(left_ns, track.rate_hz)
        if following is None:
            return None
        left_ns -= lasts_ns - fade_ns
        number, frame = following.number, 0
    return number, frame
