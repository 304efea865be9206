"""Volume and channels: what they are at last, and that nothing clicks on the way."""

from __future__ import annotations

import numpy as np
import pytest

from musicsyncd.playback.mixer import CHANNELS_FADE_FRAMES, Mixer

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


def test_what_is_too_loud_is_cut_and_not_wrapped():
    out = sides(left=-3.0, right=1.5)
    Mixer(RATE_HZ).apply(out)
    np.testing.assert_array_equal(out[0], (-1.0, 1.0))


def test_a_choice_that_there_is_not():
    with pytest.raises(KeyError):
        Mixer(RATE_HZ).set_channels("middle")
