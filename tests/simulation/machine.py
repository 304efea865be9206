"""A machine's monotonic clock as a function of true time.

A true time stamp is ``true_ns``: it exists only here. Everything that a node is given
is on its own machine's clock.
"""

from __future__ import annotations

import random

_STEP_NS = 1_000_000_000


class MachineClock:
    """A clock with an offset and a skew that may ramp and wander, be slewed by NTP, and stand still.

    Its error is the integral of a skew that is linear between whole seconds of true time, so
    it can be computed for any instant, in any order. While the machine is suspended the clock stands
    still, and what the skew does is counted in the time for which it ran.

    Args:
        dice: for the wandering.
        offset_ns: what it shows at true time 0.
        skew_ppm: its rate against true time at 0, positive when it runs fast.
        walk_ppm: standard deviation of the skew's change in a second.
        ramp_ppm_per_s: of the skew, as of a board that warms up.
        ramp_until_s: when the ramp ends.
    """

    def __init__(
        self,
        dice: random.Random,
        *,
        offset_ns: int = 0,
        skew_ppm: float = 0.0,
        walk_ppm: float = 0.0,
        ramp_ppm_per_s: float = 0.0,
        ramp_until_s: int = 0,
    ) -> None:
        self._dice = dice
        self._offset_ns = offset_ns
        self._walk = walk_ppm * 1e-6
        self._ramp = ramp_ppm_per_s * 1e-6
        self._ramp_until_s = ramp_until_s
        self._skews = [skew_ppm * 1e-6]
        self._errors_ns = [0.0]
        self._slews: list[tuple[float, float, float]] = []
        self._stops: list[tuple[float, float]] = []

    def slew(self, true_ns: float, duration_ns: float, ppm: float) -> None:
        """From an instant on, change the skew for a while, as NTP does; ``ppm`` is added to what it is."""
        self._slews.append((self._running_ns(true_ns), duration_ns, ppm * 1e-6))

    def stop(self, true_ns: float, duration_ns: float) -> None:
        """From an instant on, stand still for a while, as CLOCK_MONOTONIC does in suspend; after any earlier stop."""
        self._stops.append((true_ns, duration_ns))

    def slept_ns(self, true_ns: float) -> float:
        """Return for how long it has stood still up to a true instant: CLOCK_BOOTTIME − CLOCK_MONOTONIC."""
        return sum(min(max(true_ns - start_ns, 0.0), duration_ns) for start_ns, duration_ns in self._stops)

    def _running_ns(self, true_ns: float) -> float:
        return true_ns - self.slept_ns(true_ns) if self._stops else true_ns

    def _error_ns(self, running_ns: float) -> float:
        second, rest = divmod(running_ns, _STEP_NS)
        index = int(second)
        while len(self._skews) <= index + 1:
            before = self._skews[-1]
            ramp = self._ramp if len(self._skews) <= self._ramp_until_s else 0.0
            self._skews.append(before + ramp + self._walk * self._dice.gauss(0.0, 1.0))
            self._errors_ns.append(self._errors_ns[-1] + _STEP_NS * (before + self._skews[-1]) / 2)
        skew, following = self._skews[index], self._skews[index + 1]
        error_ns = self._errors_ns[index] + rest * (skew + (following - skew) * rest / (2 * _STEP_NS))
        for start_ns, duration_ns, rate in self._slews:
            error_ns += rate * min(max(running_ns - start_ns, 0.0), duration_ns)
        return error_ns

    def skew_ppm_at(self, true_ns: float) -> float:
        """Return the rate of its crystal at a true instant, without what NTP adds, positive when it runs fast."""
        running_ns = self._running_ns(true_ns)
        self._error_ns(running_ns)
        return self._skews[int(running_ns // _STEP_NS)] * 1e6

    def local_at(self, true_ns: float) -> int:
        """Return what the clock shows at a true instant."""
        running_ns = self._running_ns(true_ns)
        whole = round(running_ns)
        return self._offset_ns + whole + round((running_ns - whole) + self._error_ns(running_ns))

    def true_at(self, local_ns: int) -> int:
        """Return the true instant at which the clock first shows a time, within a nanosecond."""
        elapsed = local_ns - self._offset_ns
        true_ns = float(elapsed)
        for _ in range(3):
            true_ns = elapsed - self._error_ns(max(true_ns, 0.0))
        for start_ns, duration_ns in self._stops:
            if true_ns > start_ns:
                true_ns += duration_ns
        return round(true_ns)
