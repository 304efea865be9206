import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog, minimize_scalar

from musicsyncd.clock.envelope import _EXPIRY_US_PER_S2, Bounds, Prior, refine, widest_gap

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
