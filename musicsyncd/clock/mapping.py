"""The line from local time to host time that the sound path reads.

Owns the conversion between the two clocks and how its uncertainty grows. Must not know
where the line came from. It never changes, so a thread may read it without a lock: the
owner puts a new one in its place.

The large part of every sum is in whole nanoseconds and only the skew's share of the
time since the reference is a float, so nothing is lost to rounding at 10¹⁷ ns.
"""

from __future__ import annotations

from dataclasses import dataclass

from musicsyncd.units import HostNs, LocalNs

WANDER_PPM_PER_S = 0.06
"""How fast a crystal's rate may change while a board warms up; tests/bench/clock.py uses the same."""


@dataclass(frozen=True, slots=True)
class ClockMapping:
    """Host time as a line over local time.

    Attributes:
        local_ns: the reference instant on the peer's clock.
        host_ns: the same instant on the host's.
        skew_ppm: rate of the offset host − local, positive when the host runs fast.
        uncertainty_ns: at the reference, the error that 99 of 100 estimates stay below.
        skew_uncertainty_ppm: the same of the skew.
    """

    local_ns: LocalNs
    host_ns: HostNs
    skew_ppm: float
    uncertainty_ns: int
    skew_uncertainty_ppm: float = 0.0

    def host_at(self, local_ns: LocalNs) -> HostNs:
        """Return the host's time at an instant of the peer's clock."""
        elapsed_ns = local_ns - self.local_ns
        return HostNs(self.host_ns + elapsed_ns + round(elapsed_ns * (self.skew_ppm * 1e-6)))

    def local_at(self, host_ns: HostNs) -> LocalNs:
        """Return the peer's time at an instant of the host's clock: the inverse of :meth:`host_at`."""
        elapsed_ns = host_ns - self.host_ns
        skew = self.skew_ppm * 1e-6
        return LocalNs(self.local_ns + elapsed_ns - round(elapsed_ns * (skew / (1.0 + skew))))

    def offset_at(self, local_ns: LocalNs) -> int:
        """Return host minus local at an instant, in nanoseconds, positive when the host is ahead."""
        return self.host_at(local_ns) - local_ns

    def uncertainty_at(self, local_ns: LocalNs) -> int:
        """Return how far off the mapping may be at an instant, in nanoseconds.

        It grows with the distance from the reference: by what the skew may be wrong, and by
        what it may have changed meanwhile.
        """
        age_s = abs(local_ns - self.local_ns) * 1e-9
        growth_us = age_s * (self.skew_uncertainty_ppm + WANDER_PPM_PER_S / 2 * age_s)
        return self.uncertainty_ns + round(growth_us * 1e3)
