"""Where two tracks of different rates meet without a gap: what each needs of the other beyond its own end.

A resampler looks at frames on both sides of an instant. Where two halves of one recording have the same rate, they are
added up, and the sum is the whole. With two rates the sum is not: the last frame of one and the first of the other
stand for stretches of time that overlap or leave a gap, and what is heard is a click (−14 dB of a loud tone from 44.1
to 96 kHz). So each is read as if it went on with the other: the frames that it has not are taken from between the
frames of the other by Lagrange's polynomial through the nearest twelve, and the sound goes over from one to the other
at the instant of the join.

Knows nothing of time lines: it is told rates, lengths and where frames are read.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from musicsyncd.playback.timeline import Track

POINTS = 12
"""Of the polynomial. From 44.1 to 48 kHz (96 kHz) the largest error at the join of a tone is −125 dB (−121 dB) of it at
1 kHz, −124 dB (−90 dB) at 5 kHz, −66 dB (−25 dB) at 10 kHz, where music has little. With 8 points it is up to 20 dB
more at 5 kHz; with 16, rounding begins to be the larger part of it."""

Samples = npt.NDArray[np.float32]


class Readable(Protocol):
    """Decoded frames; see :class:`musicsyncd.playback.renderer.FrameSource`."""

    def read(self, first_frame: int, out: Samples) -> int:
        """Copy frames to ``out``, silence where there are none."""
        ...


def fill_end(window: Samples, window_first: int, track: Track, following: Track, source: Readable) -> None:
    """Fill a window beyond a track's end with what follows.

    Args:
        window: float32 (frames, channels), changed in place.
        window_first: the track's frame that it begins with.
        track: whose frames the window has.
        following: its frame 0 stands where the track's next frame would.
        source: the frames of ``following``.
    """
    begin = max(track.frames - window_first, 0)
    if begin >= len(window):
        return
    beyond = np.arange(window_first + begin - track.frames, window_first + len(window) - track.frames)
    positions = beyond * (following.rate_hz / track.rate_hz)
    frames = np.zeros((int(positions[-1]) + POINTS + 1, window.shape[1]), np.float32)
    source.read(0, frames)
    window[begin:] = _between(frames, positions)


def fill_start(
    window: Samples, window_first: int, track: Track, own: Readable, previous: Track, source: Readable
) -> None:
    """Fill a window before a track's start with what was before.

    Args:
        window: float32 (frames, channels), changed in place.
        window_first: the track's frame that it begins with.
        track: whose frames the window has.
        own: its frames.
        previous: its end is the track's start.
        source: the frames of ``previous``.
    """
    count = min(-window_first, len(window))
    if count <= 0:
        return
    before = np.arange(window_first, window_first + count)
    positions = previous.frames + before * (previous.rate_hz / track.rate_hz)
    lowest = int(positions[0]) - POINTS
    frames = np.zeros((previous.frames - lowest + 1, window.shape[1]), np.float32)
    source.read(lowest, frames[:-1])
    own.read(0, frames[-1:])  # The track's first frame stands where the other's next one would.
    window[:count] = _between(frames, positions - lowest)


def _between(frames: Samples, positions: npt.NDArray[np.floating]) -> Samples:
    """Return a signal at fractional positions, by the polynomial through the nearest of its frames."""
    start = np.clip(np.floor(positions).astype(np.int64) - (POINTS // 2 - 1), 0, len(frames) - POINTS)
    place = positions - start
    found = np.zeros((len(positions), frames.shape[1]))
    for point in range(POINTS):
        weight = np.ones(len(positions))
        for other in range(POINTS):
            if other != point:
                weight *= (place - other) / (point - other)
        found += weight[:, None] * frames[start + point]
    return found.astype(np.float32)
