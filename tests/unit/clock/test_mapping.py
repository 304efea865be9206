from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from musicsyncd.clock.mapping import ClockMapping
from musicsyncd.units import HostNs, LocalNs

times = st.integers(-(10**17), 10**17)
elapsed = st.integers(-(10**13), 10**13)
skews = st.floats(-2000, 2000)


def mapping(local_ns=0, host_ns=0, skew_ppm=0.0, uncertainty_ns=0, skew_uncertainty_ppm=0.0):
    return ClockMapping(LocalNs(local_ns), HostNs(host_ns), skew_ppm, uncertainty_ns, skew_uncertainty_ppm)


def test_a_host_that_runs_fast_gains_on_the_peer():
    fast = mapping(local_ns=1_000, host_ns=5_000, skew_ppm=100.0)
    assert fast.offset_at(LocalNs(1_000)) == 4_000
    assert fast.offset_at(LocalNs(1_000 + 10**9)) == 4_000 + 100_000
    assert fast.host_at(LocalNs(1_000 + 10**9)) == 5_000 + 10**9 + 100_000


@given(times, times, skews, elapsed)
def test_host_time_is_exact_to_a_nanosecond(local_ns, host_ns, skew_ppm, elapsed_ns):
    line = mapping(local_ns, host_ns, skew_ppm)
    exact = host_ns + elapsed_ns + elapsed_ns * Fraction(skew_ppm) / 10**6
    assert abs(line.host_at(LocalNs(local_ns + elapsed_ns)) - exact) <= 1


@given(times, times, skews, elapsed)
def test_local_at_is_the_inverse(local_ns, host_ns, skew_ppm, elapsed_ns):
    line = mapping(local_ns, host_ns, skew_ppm)
    instant = LocalNs(local_ns + elapsed_ns)
    assert abs(line.local_at(line.host_at(instant)) - instant) <= 1


def test_the_uncertainty_grows_with_age_both_ways():
    line = mapping(uncertainty_ns=5_000, skew_uncertainty_ppm=2.0)
    assert line.uncertainty_at(LocalNs(0)) == 5_000
    # 2 ppm over 10 s, and half of 0.06 ppm/s over 100 s².
    assert line.uncertainty_at(LocalNs(10 * 10**9)) == 5_000 + 20_000 + 3_000
    assert line.uncertainty_at(LocalNs(-10 * 10**9)) == line.uncertainty_at(LocalNs(10 * 10**9))
