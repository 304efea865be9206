"""Volume and channels: what they are at last, and that nothing clicks on the way."""

from __future__ import annotations

import numpy as np
import pytest

from musicsyncd.playback.mixer import CHANNELS_FADE_FRAMES, KNEE, Mixer, soften

RATE_HZ = 48_000
BLOCK = 1024


def sides(frames: int = BLOCK, left: float = 0.2, right: float = 0.6) -> np.ndarray:
    return np.tile(np.array([left, right], np.float32), (frames, 1))


def played(mixer: Mixer, blocks: int, frames: int = BLOCK) -> np.ndarray:
    parts = []
    for _ in range(blocks):
        parts.append(sides(frames))
        mixer.apply(parts[-1])
    return np.concatenate(parts)


@pytest.mark.parametrize(
    ("channels", "expected"),
    [("stereo", (0.2, 0.6)), ("left", (0.2, 0.2)), ("right", (0.6, 0.6)), ("mono", (0.4, 0.4))],
)
def test_a_choice_of_channels(channels, expected):
    mixer = Mixer(RATE_HZ)
    mixer.set_channels(channels)
    mixer.settle()
    np.testing.assert_allclose(played(mixer, 1), [expected] * BLOCK, rtol=1e-6)


@pytest.mark.parametrize("frames", [256, BLOCK])
@pytest.mark.parametrize(("before", "after"), [("stereo", "left"), ("left", "right"), ("mono", "stereo")])
def test_from_one_choice_to_another_without_a_click(before, after, frames):
    mixer = Mixer(RATE_HZ)
    mixer.set_channels(before)
    mixer.settle()
    first = played(mixer, 1, frames)
    mixer.set_channels(after)
    second = played(mixer, 6, frames)
    steps = np.abs(np.diff(np.concatenate((first[-1:], second)), axis=0))
    # A jump from one side to the other would be 0.4; the fade spreads it over its frames.
    assert steps.max() < 0.4 / min(frames, CHANNELS_FADE_FRAMES) * 1.2
    alone = Mixer(RATE_HZ)
    alone.set_channels(after)
    alone.settle()
    np.testing.assert_allclose(second[-1], played(alone, 1)[-1], rtol=1e-6)


def test_volume_ramps_down_to_silence_and_up_again():
    mixer = Mixer(RATE_HZ)
    mixer.set_gain(0.0)
    assert not mixer.silent
    down = played(mixer, 2)
    assert mixer.silent
    assert np.abs(np.diff(down, axis=0)).max() < 0.6 / 1000
    assert (down[-1] == 0).all()
    assert down[1430, 1] > 0  # 30 ms are 1,440 frames.
    mixer.set_gain(0.5)
    up = played(mixer, 2)
    np.testing.assert_allclose(up[-1], (0.1, 0.3), rtol=1e-6)


def test_a_mono_card_has_its_volume_and_no_choice():
    mixer = Mixer(RATE_HZ)
    mixer.set_channels("left")
    mixer.set_gain(0.5)
    mixer.settle()
    out = np.full((BLOCK, 1), 0.4, np.float32)
    mixer.apply(out)
    np.testing.assert_allclose(out, 0.2, rtol=1e-6)


def test_what_is_too_loud_stays_below_full_scale_and_keeps_its_sign():
    out = sides(left=-3.0, right=1.5)
    Mixer(RATE_HZ).apply(out)
    assert -1.0 <= out[0, 0] < -0.999
    assert 0.999 < out[0, 1] <= 1.0


def test_below_one_decibel_under_full_scale_nothing_is_changed():
    quiet = np.linspace(-KNEE, KNEE, 2 * BLOCK, dtype=np.float32).reshape(BLOCK, 2)
    assert 20 * np.log10(np.abs(quiet).max()) == pytest.approx(-1.0, abs=0.01)
    out = quiet.copy()
    soften(out)
    assert (out == quiet).all()
    # Nor where other samples of the same block are too loud.
    loud = quiet.copy()
    loud[::7] = 1.7
    out = loud.copy()
    soften(out)
    assert (out[loud < 1.7] == quiet[loud < 1.7]).all()
    assert (out[loud == 1.7] < 1.0).all()


def test_the_bend_has_no_corner_and_no_step():
    level = np.linspace(0.0, 3.0, 300_001)
    bent = level.astype(np.float32)
    soften(bent)
    slope = np.diff(bent.astype(float)) / np.diff(level)
    assert bent.max() <= 1.0
    assert (np.diff(bent) >= 0).all()
    assert bent[100_000] == pytest.approx(0.974, abs=0.001), "full scale loses a quarter of a decibel"
    smooth = np.convolve(slope, np.ones(500) / 500, "valid")
    assert np.abs(np.diff(smooth[::100])).max() < 0.02, "the slope goes from 1 to 0 without a jump"
    assert smooth[:85_000] == pytest.approx(1.0, abs=1e-3)


def test_up_to_full_scale_a_block_is_left_as_it_is_to_the_bit():
    mixer = Mixer(RATE_HZ)
    sound = np.random.default_rng(1).uniform(-1.0, 1.0, (BLOCK, 2)).astype(np.float32)
    out = sound.copy()
    mixer.apply(out)
    assert (out == sound).all()
    # A little beyond, as between the samples of loud recordings: cut, and the rest as it is.
    sound[100] = 1.09
    out = sound.copy()
    mixer.apply(out)
    assert (out[100] == 1.0).all()
    assert (np.delete(out, 100, axis=0) == np.delete(sound, 100, axis=0)).all()


def test_what_is_much_too_loud_is_bent_for_as_long_and_a_little_longer_without_a_click():
    mixer = Mixer(RATE_HZ)
    turns = 2 * np.pi * 440 * np.arange(40 * BLOCK) / RATE_HZ
    level = np.where(np.arange(40 * BLOCK) < 8 * BLOCK, 1.6, 0.95)
    sound = (level * np.sin(turns)).astype(np.float32)
    out = np.stack([sound, sound], axis=1)
    for first in range(0, len(out), BLOCK):
        mixer.apply(out[first : first + BLOCK])
    heard = out[:, 0]
    assert np.abs(heard).max() <= 1.0
    assert (np.abs(heard[BLOCK : 8 * BLOCK]) > 0.99).mean() < (
        np.abs(np.clip(sound, -1, 1)[BLOCK : 8 * BLOCK]) > 0.99
    ).mean()
    # What follows is bent for half a second, then exact; and nowhere does it move faster than the sound itself.
    assert np.abs(heard - sound)[9 * BLOCK : 25 * BLOCK].max() > 0.003
    assert (heard[36 * BLOCK :] == sound[36 * BLOCK :]).all()
    assert np.abs(np.diff(heard)).max() <= np.abs(np.diff(sound)).max() + 1e-3


def test_a_choice_that_there_is_not():
    with pytest.raises(KeyError):
        Mixer(RATE_HZ).set_channels("middle")
