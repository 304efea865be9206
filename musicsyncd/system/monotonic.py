"""The machine's clocks.

Everything runs on ``CLOCK_MONOTONIC``, on both ends. The kernel stamps packets with
``CLOCK_REALTIME``; :class:`RealtimeBridge` brings such a stamp over by its *age*, read
against both clocks at once, so that a wall clock that is stepped or slewed does not matter.
"""

from __future__ import annotations

import time

from musicsyncd.units import NS_PER_MS, NS_PER_US

MAX_STAMP_AGE_NS = 50 * NS_PER_MS
"""A stamp older than this, or from the future, says more of a stepped wall clock than of a packet."""

_QUICK_READ_NS = 5 * NS_PER_US
_STEP_NS = 2 * NS_PER_US


def now_ns() -> int:
    """Return the local monotonic clock."""
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC)


def suspended_duration_ns() -> int:
    """Return for how long this machine has slept since it was started, as of now."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.clock_gettime_ns(time.CLOCK_MONOTONIC)


def boot_identity() -> str:
    """Return a text that stays the same until the machine is started anew, or empty where there is none."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


class RealtimeBridge:
    """Brings kernel time stamps of ``CLOCK_REALTIME`` to ``CLOCK_MONOTONIC``."""

    def __init__(self) -> None:
        self._difference_ns: int | None = None

    def to_monotonic(self, stamp_real_ns: int) -> int | None:
        """Return the monotonic time of a stamp taken a moment ago, or None when it cannot be trusted.

        Args:
            stamp_real_ns: ``CLOCK_REALTIME`` nanoseconds.
        """
        before_ns = after_ns = real_ns = 0
        for _ in range(3):  # Read again when something came between the readings.
            before_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
            real_ns = time.clock_gettime_ns(time.CLOCK_REALTIME)
            after_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
            if after_ns - before_ns <= _QUICK_READ_NS:
                break
        middle_ns = (before_ns + after_ns) // 2
        difference_ns, last_ns = real_ns - middle_ns, self._difference_ns
        self._difference_ns = difference_ns
        # NTP slews both clocks alike, so their difference only moves when REALTIME is stepped.
        if last_ns is not None and abs(difference_ns - last_ns) > _STEP_NS + (after_ns - before_ns):
            return None
        age_ns = real_ns - stamp_real_ns
        if not 0 <= age_ns <= MAX_STAMP_AGE_NS:
            return None
        return middle_ns - age_ns
