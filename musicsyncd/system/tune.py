"""A minute of music made on the spot, for trying the system without any files.

Plucked strings by Karplus and Strong's algorithm (Computer Music Journal 7:2, 1983) in
a slow chord sequence that never quite repeats, so that any two instants of it can be told
apart when the sync of two recordings is measured.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

RATE_HZ = 48_000
_CHORDS = ((57, 60, 64, 69), (53, 57, 60, 65), (48, 55, 64, 67), (55, 59, 62, 67))
"""A minor, F, C, G as MIDI notes."""

_NOTE_S = 0.24
_SEED = 1983


def _pluck(midi_note: int, seconds: float, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Return a plucked string: noise in a loop of one period that loses its treble with every turn."""
    period = round(RATE_HZ / (440.0 * 2.0 ** ((midi_note - 69) / 12.0)))
    turns = int(seconds * RATE_HZ / period) + 1
    loop = rng.uniform(-1.0, 1.0, period)
    out = np.empty((turns, period))
    for turn in range(turns):
        out[turn] = loop
        loop = 0.4985 * (loop + np.roll(loop, 1))
    return out.ravel()


def write_tune(path: Path, seconds: float) -> None:
    """Write the tune as a stereo FLAC file of 48 kHz and 16 bits."""
    import soundfile

    rng = np.random.default_rng(_SEED)
    frames = int(seconds * RATE_HZ)
    mix = np.zeros((frames + 4 * RATE_HZ, 2))
    strings: dict[int, npt.NDArray[np.float64]] = {}
    for step in range(int(seconds / _NOTE_S)):
        chord = _CHORDS[(step // 16) % len(_CHORDS)]
        notes = [chord[0] - 12] if step % 16 == 0 else []
        notes.append(chord[(step * 3 + step // 32) % len(chord)] + (12 if rng.random() < 0.35 else 0))
        begin = int(step * _NOTE_S * RATE_HZ)
        for note in notes:
            if note not in strings:
                strings[note] = _pluck(note, 2.5, rng)
            sound = strings[note] * rng.uniform(0.6, 1.0)
            where = rng.uniform(0.3, 0.7)
            mix[begin : begin + len(sound), 0] += sound * (1.0 - where)
            mix[begin : begin + len(sound), 1] += sound * where
    mix = mix[:frames]
    fade = np.minimum(1.0, np.arange(frames)[::-1] / (2.0 * RATE_HZ))[:, None]
    mix *= 0.7 / np.abs(mix).max() * fade
    soundfile.write(path, mix, RATE_HZ, subtype="PCM_16", format="FLAC")
