from __future__ import annotations

import numpy as np
import pytest

from musicsyncd.media.channels import fold_matrix


def fold(frame: list[float], wanted: int) -> list[float]:
    matrix = fold_matrix(len(frame), wanted)
    return (np.array([frame], np.float32) if matrix is None else np.array([frame], np.float32) @ matrix)[0].tolist()


def test_equal_counts_are_left_alone():
    for count in (1, 2, 6, 8):
        assert fold_matrix(count, count) is None


def test_mono_goes_to_both_sides_and_stereo_to_the_mean():
    assert fold([0.5], 2) == [0.5, 0.5]
    assert fold([0.5, 0.25], 1) == [0.375]


def test_five_point_one_is_folded_as_bs_775_says():
    norm = 1 / (1 + 2 * np.sqrt(0.5))
    front_left, front_right, centre, low, back_left, back_right = np.eye(6).tolist()
    assert fold(front_left, 2) == pytest.approx([norm, 0])
    assert fold(front_right, 2) == pytest.approx([0, norm])
    assert fold(centre, 2) == pytest.approx([norm * np.sqrt(0.5)] * 2)
    assert fold(low, 2) == [0, 0]
    assert fold(back_left, 2) == pytest.approx([norm * np.sqrt(0.5), 0])
    assert fold(back_right, 2) == pytest.approx([0, norm * np.sqrt(0.5)])


def test_seven_point_one_keeps_left_left():
    frame = [0.0] * 8
    frame[4] = frame[6] = 1.0
    left, right = fold(frame, 2)
    assert left > 0.4
    assert right == 0


@pytest.mark.parametrize("recorded", range(1, 13))
@pytest.mark.parametrize("wanted", [1, 2, 4, 6, 8])
def test_full_scale_on_every_channel_never_clips(recorded, wanted):
    matrix = fold_matrix(recorded, wanted)
    if matrix is None:
        return
    assert matrix.shape == (recorded, wanted)
    assert np.abs(matrix).sum(axis=0).max() <= 1 + 1e-6
    assert np.abs(matrix).sum() > 0.5, "and something is left of it"
    assert (matrix[:, 2:] == 0).all()


@pytest.mark.parametrize(
    ("ogg", "wav"),
    [
        ("L C R", "L R C"),
        ("L R BL BR", "L R BL BR"),
        ("L C R BL BR", "L R C BL BR"),
        ("L C R BL BR LFE", "L R C LFE BL BR"),
        ("L C R SL SR BC LFE", "L R C LFE BC SL SR"),
        ("L C R SL SR BL BR LFE", "L R C LFE BL BR SL SR"),
    ],
)
@pytest.mark.parametrize("wanted", [1, 2, 6, 8])
def test_the_order_of_ogg_is_another(ogg, wav, wanted):
    level = {name: 0.1 * number for number, name in enumerate(["L", "R", "C", "LFE", "BL", "BR", "SL", "SR", "BC"])}
    recorded = len(ogg.split())
    matrix = fold_matrix(recorded, wanted, ogg=True)
    frame = np.array([level[name] for name in ogg.split()], np.float32)
    expected = fold([level[name] for name in wav.split()], wanted)
    assert (frame if matrix is None else frame @ matrix).tolist() == pytest.approx(expected)
