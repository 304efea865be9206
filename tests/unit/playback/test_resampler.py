"""The resampler against tones whose value is known at every position."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musicsyncd.playback.resampler import FloatArray, Resampler

Positions = npt.NDArray[np.float64]
SLEW_PPM = (0.0, 500.0, -500.0, 37.0, -310.0, 500.0, -120.0, 250.0)


class Tone:
    """A sine of one frequency, on as many channels as asked, each a quarter of a radian behind the last."""

    def __init__(self, hz: float, rate_hz: int, channels: int = 1, amplitude: float = 0.5) -> None:
        self.turns_per_frame = hz / rate_hz
        self.channels = channels
        self.amplitude = amplitude

    def at(self, positions: Positions) -> Positions:
        angle = 2 * np.pi * np.mod(positions * self.turns_per_frame, 1.0)
        return self.amplitude * np.sin(angle[:, None] - 0.25 * np.arange(self.channels))

    def window(self, first: int, frames: int) -> FloatArray:
        return self.at(np.arange(first, first + frames, dtype=np.float64)).astype(np.float32)


def play(
    resampler: Resampler, tone: Tone, ratio: float, block: int, blocks: int, slew_ppm: tuple[float, ...] = (0.0,)
) -> tuple[Positions, Positions]:
    """Return the positions that were commanded, block after block, and what was read there."""
    base, fraction = 1000, 0.123
    at, heard = [], []
    for number in range(blocks):
        step = ratio * (1.0 + slew_ppm[number % len(slew_ppm)] * 1e-6)
        first, frames = resampler.needed(base, fraction, step, block)
        out = np.full((block, tone.channels), np.nan, np.float32)
        resampler.read(tone.window(first, frames), first, base, fraction, step, out)
        at.append(base + fraction + step * np.arange(block))
        heard.append(out.astype(np.float64))
        fraction += step * block
        base, fraction = base + math.floor(fraction), fraction % 1.0
    return np.concatenate(at), np.concatenate(heard)


def gain_and_residue_db(tone: Tone, at: Positions, heard: Positions) -> tuple[float, float]:
    """Return the tone's gain, and all that is not the tone (THD+N), in dB of it, first channel."""
    angle = 2 * np.pi * np.mod(at * tone.turns_per_frame, 1.0)
    model = np.stack([np.sin(angle), np.cos(angle)], axis=1)
    parts = np.linalg.lstsq(model, heard[:, 0], rcond=None)[0]
    rest = heard[:, 0] - model @ parts
    level = math.hypot(*parts)
    residue = math.sqrt(2 * float(np.mean(rest**2))) / level
    return 20 * math.log10(level / tone.amplitude), 20 * math.log10(residue)


@pytest.mark.parametrize("block", [256, 1024])
@pytest.mark.parametrize("track_hz", [48000, 44100])
@pytest.mark.parametrize(("hz", "limit_db"), [(100, -115), (1000, -115), (10000, -112), (18000, -105)])
def test_distortion_and_noise(track_hz: int, block: int, hz: int, limit_db: float) -> None:
    tone = Tone(hz, track_hz)
    resampler = Resampler(track_hz, 48000)
    for slew in ((100.0,), SLEW_PPM):
        at, heard = play(resampler, tone, track_hz / 48000, block, 16384 // block, slew)
        gain_db, residue_db = gain_and_residue_db(tone, at, heard)
        assert abs(gain_db) < 0.01
        assert residue_db < limit_db


@pytest.mark.parametrize(
    ("track_hz", "card_hz"),
    [(48000, 48000), (44100, 48000), (48000, 44100), (96000, 48000), (88200, 48000), (192000, 48000), (192000, 44100)],
)
def test_passband_and_phase(track_hz: int, card_hz: int) -> None:
    resampler = Resampler(track_hz, card_hz)
    for hz in (20, 1000, 8000, 15000, 18000):
        tone = Tone(hz, track_hz)
        at, heard = play(resampler, tone, track_hz / card_hz, 1024, 8, SLEW_PPM)
        gain_db, residue_db = gain_and_residue_db(tone, at, heard)
        assert abs(gain_db) < 0.1, hz
        assert residue_db < -100, hz
        # The phase is commanded: not only a tone, but the tone at that very position.
        assert np.max(np.abs(heard - tone.at(at))) < 0.02 * 0.5, hz


@pytest.mark.parametrize(
    ("track_hz", "card_hz"), [(96000, 48000), (88200, 48000), (192000, 48000), (48000, 44100), (192000, 44100)]
)
def test_what_the_card_cannot_play_is_gone(track_hz: int, card_hz: int) -> None:
    resampler = Resampler(track_hz, card_hz)
    for part in (0.0, 0.02, 0.1, 0.4, 0.7, 0.99):
        hz = card_hz / 2 + part * (track_hz - card_hz) / 2
        _, heard = play(resampler, Tone(hz, track_hz), track_hz / card_hz, 1024, 8, SLEW_PPM)
        assert 20 * math.log10(np.max(np.abs(heard)) / 0.5) < -90, hz


@pytest.mark.parametrize("hz", [300, 1000, 3000, 3500])
def test_no_images_going_up(hz: int) -> None:
    """8 kHz on a 48 kHz card: the tone comes back at 8 kHz − hz unless it is filtered."""
    at, heard = play(Resampler(8000, 48000), Tone(hz, 8000), 1 / 6, 1024, 16)
    seconds = at / 8000
    windowed = 4 * np.hanning(len(at)) * heard[:, 0]
    spectrum_db = [
        20 * math.log10(abs(np.mean(windowed * np.exp(-2j * np.pi * f * seconds))) + 1e-12)
        for f in (8000 - hz, 8000 + hz, 16000 - hz, hz)
    ]
    assert spectrum_db[3] == pytest.approx(20 * math.log10(0.5), abs=0.1)
    assert max(spectrum_db[:3]) - spectrum_db[3] < -90


@pytest.mark.parametrize("track_hz", [48000, 44100, 96000, 88200, 192000])
def test_blocks_join_exactly(track_hz: int) -> None:
    """However a stretch is cut into blocks, the same samples come out, to the rounding of float32."""
    resampler = Resampler(track_hz, 48000)
    step = track_hz / 48000 * (1 + 211e-6)
    tone = Tone(997.0, track_hz, channels=2)
    whole = np.empty((4099, 2), np.float32)
    first, frames = resampler.needed(-40, 0.75, step, len(whole))
    resampler.read(tone.window(first, frames), first, -40, 0.75, step, whole)
    done = 0
    for size in (1, 1, 15, 17, 256, 1024, 1023, 2, 1760):
        position = 0.75 + done * step
        base, fraction = -40 + math.floor(position), position % 1.0
        out = np.empty((size, 2), np.float32)
        first, frames = resampler.needed(base, fraction, step, size)
        resampler.read(tone.window(first, frames), first, base, fraction, step, out)
        np.testing.assert_allclose(out, whole[done : done + size], rtol=0, atol=1e-6)
        done += size
    assert done == len(whole)


def test_whole_positions_give_the_track_itself() -> None:
    resampler = Resampler(48000, 48000)
    half = resampler.half_width
    track = np.random.default_rng(1).uniform(-1, 1, (2048 + 2 * half, 2)).astype(np.float32)
    out = np.empty((2048, 2), np.float32)
    resampler.read(track, 0, half, 0.0, 1.0, out)
    assert np.max(np.abs(out - track[half : half + 2048])) < 1e-6


def test_the_kernel_is_continuous_from_frame_to_frame() -> None:
    """White noise just below and at a whole position: the kernel must not change its mind there."""
    resampler = Resampler(44100, 48000)
    track = np.random.default_rng(2).uniform(-1, 1, (400, 1)).astype(np.float32)
    below, at = np.empty((1, 1), np.float32), np.empty((1, 1), np.float32)
    resampler.read(track, 0, 199, math.nextafter(1.0, 0.0), 1.0, below)
    resampler.read(track, 0, 200, 0.0, 1.0, at)
    assert abs(float(below[0, 0] - at[0, 0])) < 2e-6


@pytest.mark.parametrize("channels", [1, 2, 3, 6, 8])
@pytest.mark.parametrize("track_hz", [48000, 44100, 96000])
def test_channels_do_not_mix(channels: int, track_hz: int) -> None:
    resampler = Resampler(track_hz, 48000)
    tone = Tone(1234.0, track_hz, channels)
    at, heard = play(resampler, tone, track_hz / 48000, 300, 3, SLEW_PPM)
    assert np.max(np.abs(heard - tone.at(at))) < 2e-5


@settings(max_examples=40, deadline=None)
@given(
    rates=st.sampled_from(
        [(48000, 48000), (44100, 48000), (96000, 48000), (88200, 48000), (48000, 44100), (8000, 48000)]
    ),
    base=st.integers(-(10**12), 10**12),
    fraction=st.floats(0, 1, exclude_max=True),
    ppm=st.floats(-1000, 1000),
    count=st.integers(1, 1500),
    seed=st.integers(0, 2**32 - 1),
)
def test_linear_and_satisfied_with_the_window_it_asked_for(
    rates: tuple[int, int], base: int, fraction: float, ppm: float, count: int, seed: int
) -> None:
    resampler = Resampler(*rates)
    step = rates[0] / rates[1] * (1 + ppm * 1e-6)
    first, frames = resampler.needed(base, fraction, step, count)
    random = np.random.default_rng(seed)
    a, b = random.uniform(-1, 1, (2, frames, 2)).astype(np.float32)
    b[: frames // 2] = 0.0
    heard = np.empty((3, count, 2), np.float32)
    for window, out in zip((a, b, a + b), heard, strict=True):
        resampler.read(window, first, base, fraction, step, out)
    np.testing.assert_allclose(heard[0] + heard[1], heard[2], rtol=0, atol=5e-6)
    # A longer window around it changes nothing, not even when it is a view with gaps.
    wide = np.full((frames + 9, 4), np.nan, np.float32)
    wide[4 : 4 + frames, ::2] = a
    again = np.empty((count, 2), np.float32)
    resampler.read(wide[:, ::2], first - 4, base, fraction, step, again)
    np.testing.assert_array_equal(again, heard[0])


@pytest.mark.parametrize("factor", [0.3, 0.9, 1.1, 3.7])
@pytest.mark.parametrize("track_hz", [44100, 48000])
def test_a_step_far_from_the_ratio_is_still_right(track_hz: int, factor: float) -> None:
    resampler = Resampler(track_hz, 48000)
    tone = Tone(500.0, track_hz)
    at, heard = play(resampler, tone, track_hz / 48000 * factor, 1500, 2)
    assert np.max(np.abs(heard - tone.at(at))) < 2e-5


def test_needed_is_what_the_positions_touch() -> None:
    resampler = Resampler(48000, 48000)
    half = resampler.half_width
    assert resampler.needed(10, 0.5, 1.0, 1) == (10 - half + 1, 2 * half)
    assert resampler.needed(-5, 0.0, 1.0, 100) == (-5 - half + 1, 99 + 2 * half)
    assert resampler.needed(0, 0.5, 1.006, 101) == (1 - half, 101 + 2 * half)
    assert resampler.needed(7, 0.5, 1.0, 0)[1] == 0


def test_a_window_that_is_too_short_is_refused() -> None:
    resampler = Resampler(48000, 48000)
    out = np.empty((16, 2), np.float32)
    first, frames = resampler.needed(0, 0.5, 1.0, 16)
    enough = np.zeros((frames, 2), np.float32)
    resampler.read(enough, first, 0, 0.5, 1.0, out)
    for window, at in ((enough[:-1], first), (enough, first + 1), (enough, first - 1), (enough[:, :1], first)):
        with pytest.raises(ValueError, match="window"):
            resampler.read(window, at, 0, 0.5, 1.0, out)
    with pytest.raises(ValueError, match="positive"):
        Resampler(0, 48000)


def test_a_nan_does_not_outlive_its_block() -> None:
    resampler = Resampler(48000, 48000)
    out = np.empty((1024, 1), np.float32)
    first, frames = resampler.needed(0, 0.5, 1.0, 1024)
    resampler.read(np.full((frames, 1), np.nan, np.float32), first, 0, 0.5, 1.0, out)
    assert np.all(np.isnan(out))
    for count in (1000, 17, 1):
        first, frames = resampler.needed(0, 0.5, 1.0, count)
        resampler.read(np.zeros((frames, 1), np.float32), first, 0, 0.5, 1.0, out[:count])
        assert not np.any(out[:count])


def test_reading_allocates_little() -> None:
    """Blocks are read in the sound card's callback: what they allocate must not grow with the block."""
    resampler = Resampler(48000, 48000)
    window = np.zeros((1200, 2), np.float32)
    out = np.empty((1024, 2), np.float32)
    resampler.read(window, 0, 40, 0.9, 1.0002, out)
    tracemalloc.start()
    try:
        resampler.read(window, 0, 40, 0.9, 1.0002, out)
        assert tracemalloc.get_traced_memory()[1] < 32_768
    finally:
        tracemalloc.stop()
