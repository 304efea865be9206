import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musicsyncd.clock.exchange import Exchange
from musicsyncd.clock.filter import MAX_SAMPLES, MIN_EXCHANGES, HostClock
from musicsyncd.errors import ClockError
from musicsyncd.units import HostNs, LocalNs

SECOND_NS = 10**9
LOCAL_NS = 10**15
OFFSET_NS = 10**17


class Path:
    """A host whose offset is a function of local time, and a path of 100 µs each way with exponential queues."""

    def __init__(self, seed=1, base_ns=100_000, up_ns=20_000, down_ns=20_000):
        self.rng = np.random.default_rng(seed)
        self.base_ns, self.up_ns, self.down_ns = base_ns, up_ns, down_ns
        self.offset_ns = OFFSET_NS
        self.skew_ppm = 0.0
        self.since_s = 0.0

    def offset_at(self, at_s):
        return self.offset_ns + round((at_s - self.since_s) * self.skew_ppm * 1e3)

    def change(self, at_s, skew_ppm=None, step_ns=0):
        self.offset_ns, self.since_s = self.offset_at(at_s) + step_ns, at_s
        self.skew_ppm = self.skew_ppm if skew_ppm is None else skew_ppm

    def exchange(self, at_s):
        t1 = LOCAL_NS + round(at_s * SECOND_NS)
        up_ns = self.base_ns + round(self.rng.exponential(self.up_ns))
        down_ns = self.base_ns + round(self.rng.exponential(self.down_ns))
        t4 = t1 + up_ns + 50_000 + down_ns
        offset_ns = self.offset_at(at_s)
        t2 = t1 + up_ns + offset_ns
        return Exchange(LocalNs(t1), HostNs(t2), HostNs(t2 + 50_000), LocalNs(t4))

    def run(self, clock, start_s, end_s, every_s=0.25):
        for at_s in np.arange(start_s, end_s, every_s):
            clock.observe(self.exchange(at_s))

    def error_us(self, clock, at_s):
        return (clock.mapping.offset_at(local(at_s)) - self.offset_at(at_s)) * 1e-3


def local(at_s):
    return LocalNs(LOCAL_NS + round(at_s * SECOND_NS))


@pytest.mark.parametrize("skew_ppm", [-150.0, 0.0, 80.0])
def test_offset_and_skew_have_their_signs(skew_ppm):
    path, clock = Path(), HostClock()
    path.skew_ppm = skew_ppm
    path.run(clock, 0, 60)
    assert clock.mapping.offset_at(local(0)) > 0
    assert clock.skew_ppm == pytest.approx(skew_ppm, abs=0.5)
    assert path.error_us(clock, 60) == pytest.approx(0, abs=5)
    assert clock.exchanges == 240
    assert (clock.steps, clock.frequency_changes) == (0, 0)


def test_a_host_that_is_behind_has_a_negative_offset():
    path, clock = Path(), HostClock()
    path.offset_ns = -5 * SECOND_NS
    path.run(clock, 0, 5)
    assert clock.mapping.offset_at(local(5)) == pytest.approx(-5 * SECOND_NS, abs=20_000)


def test_nothing_is_claimed_before_enough_exchanges():
    path, clock = Path(), HostClock()
    assert (clock.mapping, clock.round_trip_ns, clock.jitter_ns, clock.skew_ppm) == (None, 0, 0, 0.0)
    for number in range(MIN_EXCHANGES):
        assert clock.mapping is None
        assert clock.observe(path.exchange(number * 0.025))
    assert abs(path.error_us(clock, 0.1)) < clock.mapping.uncertainty_at(local(0.1)) * 1e-3


@pytest.mark.parametrize(("up_ns", "down_ns"), [(2_000_000, 20_000), (20_000, 2_000_000)])
def test_a_queue_on_one_way_does_not_pull(up_ns, down_ns):
    path, clock = Path(up_ns=up_ns, down_ns=down_ns), HostClock()
    path.run(clock, 0, 60)
    # The middle of each exchange is off by 990 µs on average.
    assert abs(path.error_us(clock, 60)) < 25


def test_a_queue_that_comes_later_does_not_pull():
    path, clock = Path(), HostClock()
    path.run(clock, 0, 30)
    path.up_ns = 3_000_000
    path.run(clock, 30, 50)
    assert abs(path.error_us(clock, 50)) < 15
    assert clock.frequency_changes == 0


def test_the_uncertainty_covers_the_error_and_shrinks():
    claims_us = []
    for seed in range(10):
        path, clock = Path(seed), HostClock()
        path.skew_ppm = 40.0
        for at_s in np.arange(0, 20, 0.25):
            clock.observe(path.exchange(at_s))
            if clock.mapping is not None:
                claim_us = clock.mapping.uncertainty_at(local(at_s)) * 1e-3
                assert abs(path.error_us(clock, at_s)) < claim_us
                claims_us.append((at_s, claim_us))
    early = np.mean([claim_us for at_s, claim_us in claims_us if at_s < 2])
    late = np.mean([claim_us for at_s, claim_us in claims_us if at_s > 15])
    assert late < early / 2
    assert late < 40


def test_a_step_is_held_back_then_followed():
    path, clock = Path(), HostClock()
    path.skew_ppm = 60.0
    path.run(clock, 0, 30)
    path.change(30, step_ns=7_000_000)
    before = clock.mapping
    assert not clock.observe(path.exchange(30.0))
    assert not clock.observe(path.exchange(30.25))
    assert clock.is_step_pending
    assert clock.mapping is before
    assert clock.observe(path.exchange(30.5))
    assert clock.steps == 1
    assert not clock.is_step_pending
    assert abs(path.error_us(clock, 30.5)) < 60
    assert clock.skew_ppm == pytest.approx(60, abs=2)


def test_wild_exchanges_that_do_not_agree_change_nothing():
    path, clock = Path(), HostClock()
    path.run(clock, 0, 10)
    before = clock.mapping
    for number in range(12):
        path.change(10, step_ns=(number + 1) * 20_000_000 * (-1) ** number)
        assert not clock.observe(path.exchange(10 + number / 4))
    assert clock.mapping is before
    assert clock.steps == 0


def test_an_exchange_that_took_seconds_is_rejected():
    path, clock = Path(), HostClock()
    path.run(clock, 0, 5)
    path.base_ns = 3 * SECOND_NS
    assert not clock.observe(path.exchange(5))
    assert clock.exchanges == 20


@pytest.mark.parametrize("jump_ppm", [-50.0, 50.0, 200.0])
def test_a_change_of_frequency_is_followed(jump_ppm):
    path, clock = Path(), HostClock()
    path.run(clock, 0, 40)
    path.change(40, skew_ppm=jump_ppm)
    path.run(clock, 40, 52)
    assert clock.frequency_changes >= 1
    assert abs(path.error_us(clock, 52)) < 20
    assert clock.skew_ppm == pytest.approx(jump_ppm, abs=4)


def test_a_skew_that_ramps_is_followed():
    path, clock = Path(), HostClock()
    for second in range(60):
        path.change(second, skew_ppm=20 + 0.06 * second)
        path.run(clock, second, second + 1)
    assert abs(path.error_us(clock, 60)) < 12
    assert clock.skew_ppm == pytest.approx(20 + 0.06 * 60, abs=1.5)


def test_reset_forgets_the_offset_and_keeps_the_skew():
    path, clock = Path(), HostClock()
    path.skew_ppm = 120.0
    path.run(clock, 0, 60)
    clock.reset()
    assert clock.mapping is None
    assert clock.skew_ppm == pytest.approx(120, abs=0.5)
    assert (clock.round_trip_ns, clock.jitter_ns) == (0, 0)
    path.change(60, step_ns=-(10**16))
    path.run(clock, 60, 60.2, 0.025)
    # With the skew known a second's extrapolation is good, from samples of a fifth of a second.
    assert abs(path.error_us(clock, 61)) < 25
    clock.reset()
    clock.reset()
    assert clock.skew_ppm == pytest.approx(120, abs=5)


def test_a_saved_skew_is_used_and_nonsense_is_not():
    path, known, unknown = Path(), HostClock(90.0), HostClock()
    path.skew_ppm = 90.0
    for at_s in np.arange(0, 0.2, 0.025):
        exchange = path.exchange(at_s)
        known.observe(exchange)
        unknown.observe(exchange)
    assert abs(path.error_us(known, 3)) < 40 < abs(path.error_us(unknown, 3))
    assert HostClock(float("nan")).skew_ppm == 0.0
    assert HostClock(1e9).skew_ppm == 0.0


def test_a_long_silence_leaves_the_skew():
    path, clock = Path(), HostClock()
    path.skew_ppm = 70.0
    path.run(clock, 0, 60)
    path.run(clock, 600, 601, 0.025)
    assert abs(path.error_us(clock, 603)) < 30
    assert clock.steps == 0


def test_the_order_of_arrival_does_not_matter_much():
    path, clock = Path(), HostClock()
    path.skew_ppm = 30.0
    exchanges = [path.exchange(at_s) for at_s in np.arange(0, 30, 0.25)]
    for first in range(0, len(exchanges), 4):
        for exchange in reversed(exchanges[first : first + 4]):
            assert clock.observe(exchange)
    assert abs(path.error_us(clock, 30)) < 8


def test_round_trip_and_jitter_are_of_the_last_minute():
    path, clock = Path(up_ns=0, down_ns=0), HostClock()
    path.run(clock, 0, 10)
    assert (clock.round_trip_ns, clock.jitter_ns) == (200_000, 0)
    path.base_ns = 150_000
    path.run(clock, 10, 30)
    assert clock.round_trip_ns == 200_000
    assert clock.jitter_ns == 100_000
    path.run(clock, 30, 80)
    assert (clock.round_trip_ns, clock.jitter_ns) == (300_000, 0)


def test_only_the_last_minute_is_kept():
    path, clock = Path(), HostClock()
    path.run(clock, 0, 90)
    assert len(clock._upper) == len(clock._lower) == len(clock._delays) == pytest.approx(240, abs=1)


def test_memory_is_bounded():
    path, clock = Path(), HostClock()
    for number in range(3 * MAX_SAMPLES):
        assert clock.observe(path.exchange(number * 0.001))
    assert len(clock._upper) == len(clock._lower) == len(clock._delays) == MAX_SAMPLES
    assert abs(path.error_us(clock, 3 * MAX_SAMPLES * 0.001)) < 15


stamps = st.one_of(st.integers(-(1 << 61), 1 << 61), st.integers(0, 10**7), st.integers(10**17, 10**17 + 10**7))
small = st.integers(0, 10**7)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(stamps, stamps, small, small, st.booleans()), max_size=40))
def test_whatever_comes_it_neither_fails_nor_grows(parts):
    clock = HostClock()
    for t1, t2, turnaround_ns, way_ns, is_reset in parts:
        try:
            exchange = Exchange(
                LocalNs(t1), HostNs(t2), HostNs(t2 + turnaround_ns), LocalNs(t1 + turnaround_ns + way_ns)
            )
        except ClockError:
            continue
        clock.observe(exchange)
        mapping = clock.mapping
        if mapping is not None:
            assert mapping.uncertainty_ns >= 0
            assert abs(mapping.local_at(mapping.host_at(LocalNs(t1))) - t1) < 10**6
        assert clock.jitter_ns >= 0
        assert len(clock._held) <= 8
        if is_reset:
            clock.reset()
            assert clock.mapping is None


def test_another_machine_has_another_skew():
    clock = HostClock(saved_skew_ppm=80.0)
    clock.reset()
    assert clock.skew_ppm == 80.0
    clock.reset(another_machine=True)
    assert clock.skew_ppm == 0.0
