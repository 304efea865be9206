import dataclasses

import pytest

from musicsyncd.clock.exchange import Exchange
from musicsyncd.errors import ClockError
from musicsyncd.units import HostNs, LocalNs


def exchange(t1: int, t2: int, t3: int, t4: int) -> Exchange:
    return Exchange(LocalNs(t1), HostNs(t2), HostNs(t3), LocalNs(t4))


def test_a_host_that_is_ahead_has_a_positive_offset():
    # 1,000 ahead; 30 up, 20 at the host, 30 down.
    one = exchange(100, 1_130, 1_150, 180)
    assert one.offset_ns == 1_000
    assert one.delay_ns == 60
    assert one.upper_ns == 1_030
    assert one.lower_ns == 970


def test_the_offset_is_wrong_by_half_the_difference_of_the_ways():
    # As above, but 50 up and 10 down.
    one = exchange(100, 1_150, 1_170, 180)
    assert one.offset_ns == 1_000 + (50 - 10) // 2
    assert one.lower_ns <= 1_000 <= one.upper_ns


def test_nothing_is_rounded_at_large_times():
    base = 10**17 + 1
    one = exchange(base, 7, 8, base + 11)
    assert one.delay_ns == 10
    assert one.upper_ns == 7 - base
    assert one.lower_ns == 8 - base - 11


@pytest.mark.parametrize(
    "stamps",
    [
        (100, 500, 510, 100),  # no time between sending and receiving
        (100, 500, 510, 99),  # received before it was sent
        (100, 510, 500, 200),  # the host answered before it was asked
        (100, 500, 600, 200),  # no delay
        (100, 500, 700, 200),  # longer at the host than in all
        (100, 500, 510, 1 << 61),
        (-(1 << 61), 500, 510, 200),
        (100, -(1 << 61), 510, 200),
        (100, 500, 1 << 61, 200),
    ],
)
def test_impossible_stamps_are_refused(stamps):
    with pytest.raises(ClockError):
        exchange(*stamps)


def test_it_does_not_change():
    with pytest.raises(dataclasses.FrozenInstanceError):
        exchange(100, 500, 510, 180).sent_local_ns = LocalNs(1)  # type: ignore[misc]
