"""What holds the sound to the host's time without being heard.

Owns the difference between when the card's frames sound, as the clock and the card's line now say
(*wanted*), and the host time for which the sound was made until now (*actual*). Must not know of
tracks, cards or clocks: it is given a line in host time for each block and gives one back.

Theory: the estimates move by microseconds several times a second, and a jump of one sample is a
click, so the actual line follows the wanted one. Its rate is the wanted one's, which costs nothing
and leaves no lasting error, and a correction in proportion to the error, low-passed. That is a loop
of second order; with the low-pass at a quarter of the proportional time constant it is critically
damped (both poles at −2/τ) and does not overshoot. The correction is bounded to what nobody hears;
what would take too long so is done in one step, for which the plan has the old line as well: the
renderer fades from one to the other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from musicsyncd.units import NS_PER_MS, NS_PER_US, HostNs

_TIME_CONSTANT_NS = 1.5e9
"""The correction aims to undo the error in this time. Both poles are then at 0.75 s, and estimates that move
by 3 µs four times a second move the correction by 1.0 ppm (both rms)."""

_SMOOTHING_NS = _TIME_CONSTANT_NS / 4
"""The low-pass on the correction; a quarter is critical damping."""

MAX_CORRECTION = 300e-6
"""Half a cent, a tenth of what trained listeners tell apart one after the other; 2 ms take 7 s so."""

STEP_NS = 2 * NS_PER_MS
"""Beyond this a short fade is less of a disturbance than seconds beside the other speakers."""

_CATCHING_UP_NS = 200 * NS_PER_US
_TOGETHER_NS = 100 * NS_PER_US
"""Where the state changes, apart so that it does not flap: two speakers 0.2 ms apart begin to colour the sound."""

State = Literal["together", "catching up"]


@dataclass(frozen=True, slots=True)
class Plan:
    """For which host time a block is to be made.

    The block's frame i is for ``start_host_ns + start_fraction_ns + i·ns_per_frame``.

    Attributes:
        start_host_ns: whole nanoseconds of the first frame's host time.
        start_fraction_ns: the rest of it, 0 ≤ fraction < 1, so that blocks join exactly.
        ns_per_frame: host time from frame to frame, constant in the block.
        old_start_host_ns: if this block steps, where it would have begun without; else None.
        old_start_fraction_ns: the rest of that.
        old_ns_per_frame: its rate; 0 without a step.
    """

    start_host_ns: HostNs
    start_fraction_ns: float
    ns_per_frame: float
    old_start_host_ns: HostNs | None = None
    old_start_fraction_ns: float = 0.0
    old_ns_per_frame: float = 0.0


class Servo:
    """Makes a plan for each block, one after the other, each beginning where the last one ended.

    Attributes:
        error_ns: the sync error before the last plan: when its first frame sounds minus when it should,
            positive is late.
        correction_ppm: rate of the last plan against the wanted one, positive when it reads the track
            faster, as it must when late.
        state: "together", or "catching up" while the error is more than a fraction of a millisecond.
        steps: how often the sound moved in one step.
    """

    def __init__(self) -> None:
        self._next: tuple[int, float] | None = None
        self._correction = 0.0
        self.error_ns = 0.0
        self.state: State = "together"
        self.steps = 0

    @property
    def correction_ppm(self) -> float:
        """The last plan's rate against the wanted one, in parts per million."""
        return self._correction * 1e6

    def restart(self) -> None:
        """Forget the actual line: the next block begins in phase, and nothing is to be faded from."""
        self._next = None
        self._correction = 0.0

    def plan(self, wanted_host_ns: int, wanted_ns_per_frame: float, frames: int, *, must_step: bool = False) -> Plan:
        """Plan the next block.

        Args:
            wanted_host_ns: host time at which the block's first frame will sound.
            wanted_ns_per_frame: host time from frame to frame, by the same estimates.
            frames: frames in the block.
            must_step: go to the wanted line at once however small the error is: the card or the clock
                began anew.

        Returns:
            The plan; the first is exactly what is wanted.
        """
        if self._next is None:
            self.error_ns, self.state = 0.0, "together"
            return self._go_on(wanted_host_ns, 0.0, wanted_ns_per_frame, frames)
        start_ns, fraction_ns = self._next
        self.error_ns = (wanted_host_ns - start_ns) - fraction_ns
        if must_step or abs(self.error_ns) > STEP_NS:
            old_ns_per_frame = wanted_ns_per_frame * (1.0 + self._correction)
            self.steps += 1
            self._correction = 0.0
            self.state = "together"
            self._go_on(wanted_host_ns, 0.0, wanted_ns_per_frame, frames)
            return Plan(
                HostNs(wanted_host_ns), 0.0, wanted_ns_per_frame, HostNs(start_ns), fraction_ns, old_ns_per_frame
            )
        self._correct(frames * wanted_ns_per_frame)
        size_ns = abs(self.error_ns)
        if size_ns > _CATCHING_UP_NS:
            self.state = "catching up"
        elif size_ns < _TOGETHER_NS:
            self.state = "together"
        return self._go_on(start_ns, fraction_ns, wanted_ns_per_frame * (1.0 + self._correction), frames)

    def _correct(self, duration_ns: float) -> None:
        """Move the correction towards what the error asks for, over the length of a block."""
        target = self.error_ns / _TIME_CONSTANT_NS
        target = max(-MAX_CORRECTION, min(MAX_CORRECTION, target))
        # Exact for any length of block: the low-pass never goes beyond its target.
        self._correction += (target - self._correction) * -math.expm1(-duration_ns / _SMOOTHING_NS)

    def _go_on(self, start_ns: int, fraction_ns: float, ns_per_frame: float, frames: int) -> Plan:
        """Return the plan from here at this rate, and remember where it ends."""
        end_ns = fraction_ns + frames * ns_per_frame
        whole_ns = math.floor(end_ns)
        self._next = (start_ns + whole_ns, end_ns - whole_ns)
        return Plan(HostNs(start_ns), fraction_ns, ns_per_frame)
