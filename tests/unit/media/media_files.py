"""Music for the tests of media: made with libsndfile, the same at every run."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from musicsyncd.media.inspect import content_id, inspect, to_track
from musicsyncd.playback.timeline import Track

RATE_HZ = 44_100
FRAMES = 5 * RATE_HZ + 1234


def sound(frames: int = FRAMES, channels: int = 2, seed: int = 1) -> np.ndarray:
    """A different tone in every channel with some noise, so that no two places and no two channels are alike."""
    noise = 0.02 * np.random.default_rng(seed).standard_normal((frames, channels))
    tones = 0.3 * np.sin(np.arange(frames)[:, None] * (0.02 + 0.013 * np.arange(channels)))
    return (tones + noise).astype(np.float32)


def track_of(path: Path) -> Track:
    return to_track(inspect(path), content_id(path))
