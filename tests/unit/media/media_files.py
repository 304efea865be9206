"""Music for the tests of media: made with libsndfile, the same at every run."""

from __future__ import annotations

from pathlib import Path

import av
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


def bursts(frames: int = FRAMES, channels: int = 2, rate_hz: int = RATE_HZ) -> np.ndarray:
    """Tones that begin suddenly, with noise: codecs then take long and short blocks by turns."""
    seconds = np.arange(frames)[:, None] / rate_hz
    envelope = (np.sin(8.2 * seconds) > 0.2) * np.exp(-((seconds * 4) % 1) * 6)
    noise = np.random.default_rng(5).standard_normal((frames, channels))
    tones = 0.3 * np.sin(1382 * seconds * (1 + np.arange(channels))) * envelope
    return (tones + noise * (0.05 * ((seconds * 2) % 1 < 0.1) + 0.001)).astype(np.float32)


def encode(
    path: Path,
    samples: np.ndarray,
    *,
    container: str,
    codec: str,
    rate_hz: int = RATE_HZ,
    layout: str = "stereo",
    sample_format: str = "fltp",
    quality: int | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """Write what libsndfile does not: with libav, samples ±1 or whole numbers as the format wants them.

    Args:
        path: of the file.
        samples: (frames, channels).
        container: libav's name.
        codec: libav's name.
        rate_hz: frames a second.
        layout: libav's name of the channels.
        sample_format: libav's name, planar.
        quality: of a variable bit rate, or None for a constant one.
        options: of the container.
    """
    with av.open(str(path), "w", format=container, options=options or {}) as file:
        stream = file.add_stream(codec, rate=rate_hz, layout=layout)
        context = stream.codec_context
        context.format = sample_format
        context.bit_rate = 160_000
        if quality is not None:
            context.qscale, context.global_quality = True, 118 * quality
        context.open()
        step = context.frame_size or 1024
        for first in range(0, len(samples), step):
            block = np.ascontiguousarray(samples[first : first + step].T)
            frame = av.AudioFrame.from_ndarray(block, sample_format, layout)
            frame.sample_rate, frame.pts = rate_hz, first
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


def lag_frames(decoded: np.ndarray, original: np.ndarray, around: int = 30_000) -> int:
    """Return how many frames later than in the original the same sound is, by correlation of a stretch of it."""
    wanted = original[around : around + 20_000, 0].astype(float)
    there = decoded[around - 4000 : around + 24_000, 0].astype(float)
    return int(np.correlate(there, wanted, "valid").argmax()) - 4000
