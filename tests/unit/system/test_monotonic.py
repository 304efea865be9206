"""The machine's clocks, held between readings of the same clocks around them."""

from __future__ import annotations

import time

import pytest

from musicsyncd.system import monotonic
from musicsyncd.system.monotonic import (
    MAX_STAMP_AGE_NS,
    RealtimeBridge,
    boot_identity,
    now_ns,
    suspended_duration_ns,
)
from musicsyncd.units import NS_PER_MS, NS_PER_S


def real_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_REALTIME)


def bridged(bridge: RealtimeBridge, age_ns: int) -> tuple[int, int | None, int]:
    """Bring over a stamp of some age; return the earliest and latest that it can be, and what it is said to be."""
    before_ns, stamp_ns = now_ns(), real_ns() - age_ns
    between_ns = now_ns()
    return before_ns - age_ns, bridge.to_monotonic(stamp_ns), between_ns - age_ns


def one_that_was_not_held_up(bridge: RealtimeBridge, age_ns: int) -> tuple[int, int, int]:
    # A reading that was held up for long is refused, rightly.
    return next(found for _ in range(1000) if (found := bridged(bridge, age_ns))[1] is not None)


@pytest.mark.parametrize("age_ns", [1_000, 3 * NS_PER_MS, 30 * NS_PER_MS])
def test_a_stamp_of_a_moment_ago_is_brought_to_the_monotonic_clock(age_ns):
    earliest_ns, found_ns, latest_ns = one_that_was_not_held_up(RealtimeBridge(), age_ns)
    # The two clocks cannot be read at once: the bridge is as wrong as its own readings are apart.
    assert earliest_ns - NS_PER_MS < found_ns < latest_ns + NS_PER_MS


def test_a_stamp_from_the_future_or_long_ago_says_nothing():
    for _ in range(20):
        assert RealtimeBridge().to_monotonic(real_ns() + NS_PER_MS * 100) is None
        assert RealtimeBridge().to_monotonic(real_ns() - MAX_STAMP_AGE_NS - 1) is None
        assert RealtimeBridge().to_monotonic(0) is None


def test_a_stepped_wall_clock_costs_one_stamp_and_no_more(monkeypatch):
    """The wall clock is moved by a millisecond between two packets, by NTP or by hand."""
    bridge = RealtimeBridge()
    one_that_was_not_held_up(bridge, 1_000)
    real, steps_ns = time.clock_gettime_ns, [0]

    class Stepped:
        CLOCK_MONOTONIC, CLOCK_REALTIME = time.CLOCK_MONOTONIC, time.CLOCK_REALTIME

        @staticmethod
        def clock_gettime_ns(clock):
            return real(clock) + (steps_ns[0] if clock == time.CLOCK_REALTIME else 0)

    monkeypatch.setattr(monotonic, "time", Stepped)
    for step_ns in (NS_PER_MS, -5 * NS_PER_MS, 3600 * NS_PER_S):
        steps_ns[0] = step_ns
        assert bridge.to_monotonic(real_ns() + step_ns - 1_000) is None
        found = [bridge.to_monotonic(real_ns() + step_ns - 1_000) for _ in range(1000)]
        assert any(one is not None for one in found)


def test_the_clock_is_the_one_that_the_kernel_calls_monotonic():
    before_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    found_ns = now_ns()
    assert before_ns <= found_ns <= time.clock_gettime_ns(time.CLOCK_MONOTONIC)


def test_a_machine_has_slept_for_as_long_as_its_clocks_are_apart(monkeypatch):
    class Slept:
        CLOCK_MONOTONIC, CLOCK_BOOTTIME = "monotonic", "boot"

        @staticmethod
        def clock_gettime_ns(clock):
            return {"monotonic": 100 * NS_PER_S, "boot": 160 * NS_PER_S}[clock]

    assert abs(suspended_duration_ns() - suspended_duration_ns()) < NS_PER_S
    monkeypatch.setattr(monotonic, "time", Slept)
    assert suspended_duration_ns() == 60 * NS_PER_S


def test_a_boot_has_a_name_that_stays(monkeypatch):
    assert boot_identity() == boot_identity() != ""

    def refuse(*_, **__):
        raise PermissionError

    monkeypatch.setattr("builtins.open", refuse)
    assert boot_identity() == ""
