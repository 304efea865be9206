"""What is taken off an estimate: lines and latenesses with known differences."""

import numpy as np
import pytest

from musicsyncd.clock.correction import MAX_HEARD, MIN_COMPARED, Correction
from musicsyncd.clock.exchange import Exchange
from musicsyncd.clock.filter import HostClock
from musicsyncd.clock.mapping import ClockMapping
from musicsyncd.units import HostNs, LocalNs

SECOND_NS = 10**9
US_NS = 10**3
LOCAL_NS = 10**15
OFFSET_NS = 10**16
ONE_WAY_NS = 10**6


def line(at_s=0.0, ahead_ns=0, skew_ppm=0.0, uncertainty_ns=80 * US_NS):
    """An estimate that is ahead of the truth (an offset that stays) by so much."""
    local_ns = LocalNs(LOCAL_NS + round(at_s * SECOND_NS))
    return ClockMapping(local_ns, HostNs(local_ns + OFFSET_NS + round(ahead_ns)), skew_ppm, uncertainty_ns)


class Listener:
    """Hears a datagram every quarter of a second, 7 ms after it was sent; its fellows are right."""

    def __init__(self, seed=1, noise_ns=10 * US_NS):
        self.rng = np.random.default_rng(seed)
        self.noise_ns = noise_ns
        self.correction = Correction()

    def hear(self, since_s, until_s, estimate_at, told=True):
        for at_s in np.arange(since_s, until_s, 0.25):
            local_ns = LocalNs(LOCAL_NS + round(at_s * SECOND_NS))
            number = round(at_s * 4)
            sent_host_ns = local_ns + OFFSET_NS - 7_000_000 - round(self.rng.normal(0, self.noise_ns))
            self.correction.hear(number, sent_host_ns, local_ns, estimate_at(at_s))
            if told:
                self.correction.tell(number, 7_000_000)

    def estimate_ns(self, estimate, one_way_ns=ONE_WAY_NS):
        return self.correction.estimate_ns(estimate, one_way_ns)


@pytest.mark.parametrize("ahead_ns", [300 * US_NS, -300 * US_NS])
def test_an_estimate_that_is_ahead_has_that_taken_off(ahead_ns):
    listener = Listener()
    listener.hear(0, 10, lambda at_s: line(at_s, ahead_ns))
    correction_ns = listener.estimate_ns(line(10, ahead_ns))
    assert correction_ns == pytest.approx(ahead_ns, abs=10 * US_NS)


def test_what_the_line_has_moved_by_is_taken_off_as_well():
    listener = Listener()
    listener.hear(0, 10, lambda at_s: line(at_s, 20 * US_NS * np.sin(at_s)))
    for ahead_ns in (-40 * US_NS, 0, 40 * US_NS):
        assert listener.estimate_ns(line(10, ahead_ns)) == pytest.approx(ahead_ns, abs=8 * US_NS)


def test_across_another_line_only_what_the_lines_of_then_were_ahead_is_taken_off():
    listener = Listener()
    listener.hear(0, 10, lambda at_s: line(at_s, 300 * US_NS))
    # The host stepped: the new line is right about the new time and cannot be run back.
    stepped = line(10, 300 * US_NS + 500 * US_NS)
    assert listener.estimate_ns(stepped) == pytest.approx(300 * US_NS, abs=10 * US_NS)
    # A clock that now runs 100 ppm faster: run back over ten seconds, its line would be half a millisecond off.
    faster = line(10, 300 * US_NS, skew_ppm=100.0, uncertainty_ns=20 * US_NS)
    assert listener.estimate_ns(faster) == pytest.approx(300 * US_NS, abs=25 * US_NS)


def test_on_this_side_of_another_line_what_is_heard_soon_counts_alone():
    listener = Listener()
    listener.hear(0, 10, lambda at_s: line(at_s, 300 * US_NS))
    listener.hear(10, 10 + MIN_COMPARED / 4, lambda at_s: line(at_s, 0))
    assert listener.estimate_ns(line(12, 0)) == pytest.approx(0, abs=15 * US_NS)


def test_too_few_say_nothing():
    listener = Listener()
    listener.hear(0, (MIN_COMPARED - 1) / 4, lambda at_s: line(at_s, 300 * US_NS))
    listener.hear(100, 120, lambda at_s: line(at_s, 300 * US_NS), told=False)
    assert listener.estimate_ns(line(2, 300 * US_NS)) == 0


def test_what_was_said_half_a_minute_ago_counts_no_more():
    listener = Listener()
    listener.hear(0, 10, lambda at_s: line(at_s, 300 * US_NS))
    assert listener.estimate_ns(line(35, 300 * US_NS)) == pytest.approx(300 * US_NS, abs=10 * US_NS)
    assert listener.estimate_ns(line(40, 300 * US_NS)) == 0


def test_no_more_is_taken_off_than_an_estimate_can_be_wrong_by():
    listener = Listener()
    listener.hear(0, 10, lambda at_s: line(at_s, -300 * US_NS))
    assert listener.estimate_ns(line(10, -300 * US_NS), one_way_ns=200 * US_NS) == -200 * US_NS


def test_a_noisy_comparison_does_not_move_a_sure_estimate():
    moved_ns = []
    for seed in range(40):
        listener = Listener(seed, noise_ns=200 * US_NS)
        listener.hear(0, 10, lambda at_s: line(at_s, uncertainty_ns=10**6))
        moved_ns.append(listener.estimate_ns(line(10, uncertainty_ns=20 * US_NS)))
    # The comparison itself is uncertain by 40 µs.
    assert np.std(moved_ns) < 5 * US_NS
    assert np.max(np.abs(moved_ns)) < 60 * US_NS


def test_what_is_far_beyond_its_scatter_is_believed_against_a_sure_estimate():
    listener = Listener()
    listener.hear(0, 10, lambda at_s: line(at_s, 300 * US_NS, uncertainty_ns=20 * US_NS))
    assert listener.estimate_ns(line(10, 300 * US_NS, uncertainty_ns=20 * US_NS)) > 290 * US_NS


def test_one_that_was_heard_very_late_does_not_matter():
    listener = Listener()
    listener.hear(0, 10, lambda at_s: line(at_s, 300 * US_NS))
    for number in (20, 25, 30, 35, 39):
        listener.correction.tell(number, 90_000_000)
    assert listener.estimate_ns(line(10, 300 * US_NS)) == pytest.approx(300 * US_NS, abs=10 * US_NS)


def test_what_was_not_heard_here_is_nothing_and_memory_is_bounded():
    listener = Listener()
    for number in range(100):
        listener.correction.tell(number, 7_000_000)
    assert listener.estimate_ns(line(10, 300 * US_NS)) == 0
    listener.hear(0, 100, lambda at_s: line(at_s))
    assert len(listener.correction._heard) == MAX_HEARD
    listener.correction.clear()
    assert listener.estimate_ns(line(10)) == 0


# -- what a clock does with it -----------------------------------------------------------------


def exchange(at_s, offset_ns=OFFSET_NS):
    t1 = LOCAL_NS + round(at_s * SECOND_NS)
    t2 = t1 + 400 * US_NS + offset_ns
    return Exchange(LocalNs(t1), HostNs(t2), HostNs(t2), LocalNs(t1 + 800 * US_NS))


def fed(clock, since_s, until_s, offset_ns=OFFSET_NS):
    return [clock.observe(exchange(at_s, offset_ns)) for at_s in np.arange(since_s, until_s, 0.25)]


def test_a_correction_is_taken_off_the_hosts_time_and_a_reset_ends_it():
    clock = HostClock()
    clock.correct(5000)
    assert clock.mapping is clock.estimate is None
    fed(clock, 0, 0.75)
    assert clock.mapping is clock.estimate is None, "three exchanges are too few"
    fed(clock, 0.75, 5)
    assert clock.mapping.host_at(LocalNs(LOCAL_NS)) == clock.estimate.host_at(LocalNs(LOCAL_NS)) - 5000
    estimate = clock.estimate
    clock.correct(0)
    assert clock.mapping == clock.estimate == estimate
    clock.correct(5000)
    assert clock.correction_ns == 5000
    clock.reset()
    assert clock.correction_ns == 0


def test_what_comes_in_is_judged_without_the_correction():
    plain, corrected = HostClock(), HostClock()
    fed(plain, 0, 20)
    fed(corrected, 0, 20)
    corrected.correct(350 * US_NS)
    # Plausible by the estimate, though not with the correction on top: half a round trip and the slack are 500 µs.
    near_ns = OFFSET_NS - 500 * US_NS
    assert fed(plain, 20, 22, near_ns) == fed(corrected, 20, 22, near_ns)
    step_ns = OFFSET_NS + 20_000 * US_NS
    assert fed(plain, 22, 25, step_ns) == fed(corrected, 22, 25, step_ns)
    assert plain.steps == corrected.steps == 1
    assert corrected.mapping.host_at(LocalNs(LOCAL_NS)) == plain.mapping.host_at(LocalNs(LOCAL_NS)) - 350 * US_NS
