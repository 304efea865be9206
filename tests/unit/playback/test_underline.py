"""The line under points: against lines whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from musicsyncd.playback.underline import MAX_SKEW, Prior, early_outlier, line_under, middle, off_neighbours_ns

X = np.linspace(-10e9, 0.0, 41)
UNKNOWN = Prior(0.0, 100e-6)
LEAST_NS = 2600.0


def late_ns(seed: int, mean_ns: float) -> np.ndarray:
    return np.random.default_rng(seed).exponential(mean_ns, len(X))


@pytest.mark.parametrize("ppm", [-400.0, -3.0, 0.0, 60.0])
def test_it_is_under_all_points_and_near_the_truth(ppm):
    y = 5000.0 + ppm * 1e-6 * X + late_ns(1, 1000.0)
    line = line_under(X, y, UNKNOWN, LEAST_NS)
    assert line.above_ns(X, y).min() >= -1e-3
    assert line.skew * 1e6 == pytest.approx(ppm, abs=0.1)
    assert line.height_ns == pytest.approx(5000.0, abs=300.0)


def test_a_slope_beyond_what_can_be_is_not_followed():
    assert line_under(X, 5e-3 * X, UNKNOWN, LEAST_NS).skew == pytest.approx(MAX_SKEW)


def test_one_point_has_the_slope_that_is_known():
    line = line_under(np.zeros(1), np.full(1, 7.0), Prior(30e-6, 5e-6), LEAST_NS)
    assert line.skew * 1e6 == pytest.approx(30.0, abs=0.01)
    assert line.height_ns == 7.0


def test_what_is_known_counts_for_less_the_more_points_there_are():
    prior = Prior(50e-6, 1e-6)
    y = late_ns(2, 1000.0)
    few = line_under(X[-3:], y[-3:], prior, LEAST_NS).skew
    many = line_under(X, y, prior, LEAST_NS).skew
    assert abs(few - 50e-6) < 2e-6
    assert abs(many) < 0.5e-6


def test_a_point_alone_below_the_others_is_told():
    y = late_ns(3, 1000.0)
    line = line_under(X, y, UNKNOWN, LEAST_NS)
    assert early_outlier(X, y, UNKNOWN, LEAST_NS, line) is None
    y[17] = -15_000.0
    line = line_under(X, y, UNKNOWN, LEAST_NS)
    assert early_outlier(X, y, UNKNOWN, LEAST_NS, line) == 17
    y[30] = -14_000.0  # Two say the same.
    line = line_under(X, y, UNKNOWN, LEAST_NS)
    assert early_outlier(X, y, UNKNOWN, LEAST_NS, line) is None


def test_noise_is_the_same_at_any_slope():
    y = late_ns(4, 1000.0)
    flat, steep = off_neighbours_ns(X, y), off_neighbours_ns(X, y + 300e-6 * X)
    np.testing.assert_allclose(flat, steep, atol=1e-3)
    assert 500.0 < flat.mean() < 1500.0


def test_the_middle_is_the_upper_one_of_two():
    assert middle(np.array([4.0, 1.0, 3.0, 2.0])) == 3.0
    assert middle(np.array([5.0])) == 5.0
