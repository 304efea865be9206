import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musicsyncd.clock.exchange import Exchange
from musicsyncd.clock.filter import _BLURS, MAX_SAMPLES, MIN_EXCHANGES, HostClock, _Past
from musicsyncd.clock.mapping import ClockMapping
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

    def queue_ns(self, mean_ns):
        return self.rng.exponential(mean_ns)

    def offset_at(self, at_s):
        return self.offset_ns + round((at_s - self.since_s) * self.skew_ppm * 1e3)

    def change(self, at_s, skew_ppm=None, step_ns=0):
        self.offset_ns, self.since_s = self.offset_at(at_s) + step_ns, at_s
        self.skew_ppm = self.skew_ppm if skew_ppm is None else skew_ppm

    def exchange(self, at_s):
        t1 = LOCAL_NS + round(at_s * SECOND_NS)
        up_ns = self.base_ns + round(self.queue_ns(self.up_ns))
        down_ns = self.base_ns + round(self.queue_ns(self.down_ns))
        t4 = t1 + up_ns + 50_000 + down_ns
        offset_ns = self.offset_at(at_s)
        t2 = t1 + up_ns + offset_ns
        return Exchange(LocalNs(t1), HostNs(t2), HostNs(t2 + 50_000), LocalNs(t4))

    def run(self, clock, start_s, end_s, every_s=0.25):
        for at_s in np.arange(start_s, end_s, every_s):
            clock.observe(self.exchange(at_s))

    def error_us(self, clock, at_s):
        return (clock.mapping.offset_at(local(at_s)) - self.offset_at(at_s)) * 1e-3


class BlurredPath(Path):
    """No packet is unhindered: delays are a bell of 84 ± 34 µs above the 100 µs."""

    def queue_ns(self, mean_ns):
        return self.rng.gamma(6, 0.7 * mean_ns)


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


def test_a_skew_that_was_hardly_known_when_the_host_restarted_does_not_pull():
    for seed in range(20):
        path, clock = Path(seed, base_ns=800_000, up_ns=500_000, down_ns=500_000), HostClock()
        path.run(clock, 0, 0.5, every_s=0.025)
        assert clock.known_skew_ppm is None
        clock.reset()
        path.run(clock, 7.5, 8.5, every_s=0.025)
        path.run(clock, 8.5, 18.5, every_s=0.1)
        assert abs(path.error_us(clock, 18.5)) < clock.mapping.uncertainty_at(local(18.5)) * 1e-3


def test_a_skew_is_known_for_another_run_after_some_time():
    path, clock = Path(), HostClock()
    path.skew_ppm = 40.0
    path.run(clock, 0, 60)
    assert clock.known_skew_ppm == pytest.approx(40.0, abs=0.5)


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
    assert late < 25


def test_a_step_is_held_back_then_followed():
    path, clock = Path(), HostClock()
    path.skew_ppm = 60.0
    path.run(clock, 0, 30)
    path.change(30, step_ns=7_000_000)
    before = clock.mapping
    assert not clock.observe(path.exchange(30.0))
    assert not clock.observe(path.exchange(30.25))
    assert clock.mapping == before
    assert clock.observe(path.exchange(30.5))
    assert clock.steps == 1
    assert abs(path.error_us(clock, 30.5)) < 60
    assert clock.skew_ppm == pytest.approx(60, abs=2)


def test_a_plausible_exchange_ends_what_was_held_back_for_a_step():
    path, clock = Path(), HostClock()
    path.run(clock, 0, 30)
    for at_s, step_ns, is_taken in (
        (30.00, 7_000_000, False),
        (30.25, 0, False),
        (30.50, -7_000_000, True),
        (30.75, 7_000_000, False),
        (31.00, 0, False),
    ):
        path.change(at_s, step_ns=step_ns)
        assert clock.observe(path.exchange(at_s)) is is_taken
    assert clock.steps == 0
    assert clock.observe(path.exchange(31.25))
    assert clock.steps == 1


def test_wild_exchanges_that_do_not_agree_change_nothing():
    path, clock = Path(), HostClock()
    path.run(clock, 0, 10)
    before = clock.mapping
    for number in range(12):
        path.change(10, step_ns=(number + 1) * 20_000_000 * (-1) ** number)
        assert not clock.observe(path.exchange(10 + number / 4))
    assert clock.mapping == before
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


@pytest.mark.parametrize("seed", range(3))
def test_early_packets_of_a_blurred_edge_are_no_change_of_frequency(seed):
    path, clock = BlurredPath(seed), HostClock()
    path.run(clock, 0, 10, 0.1)
    errors_us = []
    for at_s in np.arange(10, 120, 0.1):
        assert clock.observe(path.exchange(at_s))
        errors_us.append(path.error_us(clock, at_s))
    assert clock.frequency_changes == 0
    assert np.abs(errors_us).max() < 15
    assert np.sqrt(np.mean(np.square(errors_us))) < 4.5


@pytest.mark.parametrize("jump_ppm", [-50.0, 50.0])
def test_a_change_of_frequency_is_followed_where_the_edge_is_blurred(jump_ppm):
    path, clock = BlurredPath(), HostClock()
    path.run(clock, 0, 40, 0.1)
    path.change(40, skew_ppm=jump_ppm)
    path.run(clock, 40, 52, 0.1)
    assert clock.frequency_changes >= 1
    assert abs(path.error_us(clock, 52)) < 30


@pytest.mark.parametrize("way", ["up", "down"])
def test_how_early_a_packet_was_is_measured_in_what_was_not_known(way):
    mapping = ClockMapping(local(0), HostNs(local(0) + OFFSET_NS), 0.0, 30_000)
    # The edge was at 100 µs; one packet took 150 µs, the other 50.
    t1, up_ns, down_ns = local(0), *((50_000, 150_000) if way == "up" else (150_000, 50_000))
    t2 = t1 + up_ns + OFFSET_NS
    exchange = Exchange(t1, HostNs(t2), HostNs(t2), LocalNs(t1 + up_ns + down_ns))
    assert _Past(mapping, 100_000, 0.0).earliness(exchange) == pytest.approx(50 / 30, rel=1e-3)
    assert _Past(mapping, 100_000, 40_000.0).earliness(exchange) == pytest.approx(50 / 50, rel=1e-3)
    assert _Past(mapping, 40_000, 0.0).earliness(exchange) < 0


def test_a_blurred_edge_excuses_early_packets():
    sharp, blurred = HostClock(), HostClock()
    Path().run(sharp, 0, 30)
    BlurredPath().run(blurred, 0, 30)
    # Two sigmas of the blur: 5 µs or less and some 20 µs.
    assert 0 < sharp._past[-1].blur_ns < _BLURS * 6_000
    assert blurred._past[-1].blur_ns > _BLURS * 10_000


def test_one_packet_that_is_far_too_early_is_no_change_of_frequency():
    path, clock = Path(), HostClock()
    path.run(clock, 0, 30)
    path.base_ns = 20_000
    path.run(clock, 30, 30.25)
    path.base_ns = 100_000
    path.run(clock, 30.25, 40)
    assert clock.frequency_changes == 0
    assert abs(path.error_us(clock, 40)) < 12


def test_frequent_probes_are_all_taken_but_not_all_fitted():
    path, clock = Path(), HostClock()
    path.run(clock, 0, 20, 0.05)
    references_ns = []
    for at_s in np.arange(20, 25, 0.05):
        assert clock.observe(path.exchange(at_s))
        references_ns.append(clock.mapping.local_ns)
        assert local(at_s) - clock.mapping.local_ns < 0.3 * SECOND_NS
    assert clock.exchanges == 500
    assert 14 <= len(set(references_ns)) <= 22


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
