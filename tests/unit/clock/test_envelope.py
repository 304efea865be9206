import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog, minimize_scalar

from musicsyncd.clock.envelope import _EXPIRY_US_PER_S2, Bounds, Prior, _model_rows, refine, widest_gap

VAGUE = Prior(0.0, 1e6)


def bounds(t_s, offset_us):
    return Bounds(np.array(t_s, float), np.array(offset_us, float))


def network(seed, count=200, skew_ppm=30.0, offset_us=7.0, half_us=100.0, up_us=30.0, down_us=30.0):
    rng = np.random.default_rng(seed)
    t_s = -np.sort(rng.uniform(0, 60, count))[::-1]
    truth_us = offset_us + skew_ppm * t_s
    return (
        Bounds(t_s, truth_us + half_us + rng.exponential(up_us, count)),
        Bounds(t_s, truth_us - half_us - rng.exponential(down_us, count)),
    )


def test_one_sample_gives_the_middle_and_the_prior_skew():
    gap = widest_gap(bounds([0], [30]), bounds([0], [10]), Prior(12.0, 5.0), 0.0)
    assert gap.offset_us == pytest.approx(20)
    assert gap.half_us == pytest.approx(10)
    assert gap.skew_ppm == pytest.approx(12)


def test_two_exchanges_far_apart_give_the_slope():
    # Without slack the edges of both meet at 13.5 ppm; with 3 µs of it, anywhere within 0.3 ppm of that.
    gap = widest_gap(bounds([-10, 0], [-95, 40]), bounds([-10, 0], [-140, -5]), VAGUE, 0.0)
    assert 13.2 - 1e-6 <= gap.skew_ppm <= 13.8 + 1e-6
    assert gap.half_us == pytest.approx(22.5)
    assert gap.offset_us == pytest.approx(17.5)


@pytest.mark.parametrize("seed", range(5))
def test_the_gap_is_the_linear_programs(seed):
    upper, lower = network(seed)
    gap = widest_gap(upper, lower, VAGUE, 0.0)
    # max h with theta + b·t + h ≤ upper, theta + b·t − h ≥ lower, slackened by age.
    ones = np.ones(len(upper.t_s))
    slack_us = _EXPIRY_US_PER_S2 * upper.t_s**2
    rows = np.block([[np.stack((ones, upper.t_s, ones), axis=1)], [np.stack((-ones, -lower.t_s, ones), axis=1)]])
    limits = np.concatenate((upper.offset_us + slack_us, -(lower.offset_us - slack_us)))
    answer = linprog([0, 0, -1], A_ub=rows, b_ub=limits, bounds=[(None, None)] * 3)
    assert gap.half_us == pytest.approx(answer.x[2], abs=1e-5)
    assert gap.offset_us == pytest.approx(answer.x[0], abs=1e-3)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.floats(-60, 0), st.floats(-5e3, 5e3), st.floats(0, 1e4)), min_size=1, max_size=12),
    st.floats(-200, 200),
    st.sampled_from([0.5, 5.0, 100.0]),
    st.floats(-500, 500),
)
def test_no_other_slope_is_better_wherever_it_starts(samples, centre_ppm, sigma_ppm, start_ppm):
    t_s = [t for t, _, _ in samples]
    upper, lower = bounds(t_s, [z + w for _, z, w in samples]), bounds(t_s, [z for _, z, _ in samples])
    prior = Prior(centre_ppm, sigma_ppm)

    def worth(skew_ppm):
        above = (upper.offset_us + _EXPIRY_US_PER_S2 * upper.t_s**2 - skew_ppm * upper.t_s).min()
        below = (lower.offset_us - _EXPIRY_US_PER_S2 * lower.t_s**2 - skew_ppm * lower.t_s).max()
        return above - below - ((skew_ppm - centre_ppm) / sigma_ppm) ** 2

    found = widest_gap(upper, lower, prior, start_ppm)
    other = minimize_scalar(lambda b: -worth(b), bracket=(found.skew_ppm - 10, found.skew_ppm + 10), tol=1e-10)
    assert worth(found.skew_ppm) >= -other.fun - 1e-4


@pytest.mark.parametrize("seed", range(5))
def test_the_refined_line_is_close_to_the_truth(seed):
    upper, lower = network(seed)
    line = refine(upper, lower, widest_gap(upper, lower, Prior(0.0, 100.0), 0.0), Prior(0.0, 100.0))
    assert line.offset_us == pytest.approx(7.0, abs=6.0)
    assert line.skew_ppm == pytest.approx(30.0, abs=1.5)
    assert line.half_us == pytest.approx(100.0, abs=8.0)
    assert abs(line.offset_us - 7.0) < 4 * line.offset_sigma_us


def test_a_queue_on_one_way_does_not_pull():
    upper, lower = network(3, up_us=2000.0)
    prior = Prior(0.0, 100.0)
    line = refine(upper, lower, widest_gap(upper, lower, prior, 0.0), prior)
    # Half the difference of the mean delays is 985 µs: where the middle of each exchange would be.
    assert abs(line.offset_us - 7.0) < 25.0


def test_a_skew_that_ramps_is_followed():
    upper, lower = network(4, up_us=5.0, down_us=5.0)
    bend_us = 0.03 * upper.t_s**2  # 0.06 ppm a second
    upper, lower = Bounds(upper.t_s, upper.offset_us + bend_us), Bounds(lower.t_s, lower.offset_us + bend_us)
    prior = Prior(0.0, 100.0)
    line = refine(upper, lower, widest_gap(upper, lower, prior, 0.0), prior)
    assert line.offset_us == pytest.approx(7.0, abs=4.0)
    assert line.skew_ppm == pytest.approx(30.0, abs=0.7)


def bell(seed, count=240, width_us=34.0):
    """A path without unhindered packets: six short queues in a row, the same on both ways."""
    rng = np.random.default_rng(seed)
    t_s = -np.sort(rng.uniform(0, 60, count))[::-1]
    shape = 6
    late_us = rng.gamma(shape, width_us / np.sqrt(shape), (2, count))
    return Bounds(t_s, 7.0 + 30.0 * t_s + 100.0 + late_us[0]), Bounds(t_s, 7.0 + 30.0 * t_s - 100.0 - late_us[1])


def fit(samples):
    upper, lower = samples
    prior = Prior(0.0, 100.0)
    gap = widest_gap(upper, lower, prior, 0.0)
    return gap, refine(upper, lower, gap, prior)


def test_where_the_edge_is_blurred_all_packets_count():
    errors_us = np.array([[one.offset_us - 7.0 for one in fit(bell(seed))] for seed in range(30)])
    gap_us, line_us = np.sqrt((errors_us**2).mean(axis=0))
    # The mean of 480 delays is known to 34/√480 = 1.6 µs, and the end of a bending line three times as badly.
    assert line_us < 5.0
    assert line_us < 0.7 * gap_us


@pytest.mark.parametrize("seed", range(4))
def test_the_blur_of_the_edge_is_measured(seed):
    sharp, blurred = fit(network(seed))[1], fit(bell(seed))[1]
    assert sharp.blur_us < 10 < blurred.blur_us
    # The mode of the bell: (6 − 1) queues of 13.9 µs.
    assert blurred.half_us == pytest.approx(169.4, abs=15.0)


def test_the_sigma_is_neither_too_small_nor_too_large():
    lines = [fit(bell(seed))[1] for seed in range(30)] + [fit(network(seed))[1] for seed in range(30)]
    errors = np.array([(line.offset_us - 7.0) / line.offset_sigma_us for line in lines])
    assert 0.3 < np.sqrt((errors**2).mean()) < 1.5
    errors = np.array([(line.skew_ppm - 30.0) / line.skew_sigma_ppm for line in lines])
    assert 0.1 < np.sqrt((errors**2).mean()) < 1.5


@pytest.mark.parametrize("seed", range(4))
def test_a_queue_on_one_way_does_not_pull_where_the_edge_is_blurred(seed):
    upper, lower = bell(seed)
    queued = np.random.default_rng(100 + seed).exponential(2000.0, len(upper.t_s))
    queued[::2] = 0.0
    _, line = fit((Bounds(upper.t_s, upper.offset_us + queued), lower))
    # Half of the difference of the mean delays is 500 µs, of the medians some 20 µs.
    assert abs(line.offset_us - 7.0) < 14.0


def test_a_steady_change_of_the_skew_bends_the_offset():
    t_s = -np.linspace(0.0, 65.0, 66)
    rows = _model_rows(t_s, 66)
    # All rates of change at 1 ppm a second: t²/2.
    np.testing.assert_allclose(rows[3:].sum(axis=0), t_s**2 / 2, atol=1e-9)
    assert (rows[3:, 0] == 0).all()
    assert (_model_rows(t_s, 10)[2] == np.where(np.arange(66) < 10, 1.0, -1.0)).all()


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_few_samples_that_agree_exactly_have_a_finite_sigma(count):
    t_s = -np.arange(count, dtype=float)
    _, line = fit((Bounds(t_s, np.full(count, 50.0)), Bounds(t_s, np.full(count, -50.0))))
    assert line.offset_us == pytest.approx(0.0, abs=1.0)
    assert 0 < line.offset_sigma_us < 1e3
