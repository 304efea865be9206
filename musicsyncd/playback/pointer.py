"""When to look at a sound card's pointer, so that one that moves in steps says where it really is.

Owns the size of the card's steps and where between two of them it may be. Must not know what is played, nor
how the waiting is done; its only clock is the peer's ``local_ns``.

Theory: a pointer that moves every G frames tells its place exactly only at the moment when it moves. Who
looks whenever a timer of 1 ms wakes him looks at one and the same place between two steps for as long as the two
rates are the same to a few ppm, and is late by up to a whole step without any sign of it. But every look
bounds the moment: a pointer that shows P has moved there before, and moves to P + G after. So look
anywhere between the two bounds, and they close in on the moment by half each time; then go on looking
around it, as it drifts. It is the bisection of a threshold, whose dithering keeps it honest.

A pointer that moves frame by frame is as good at any time. With such a card the block is kept until just before
the card will ask for the next one: some drivers wake who waits for them every millisecond until then.
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np
import numpy.typing as npt

from musicsyncd.playback.dac import DacLine
from musicsyncd.units import NS_PER_MS, NS_PER_S, NS_PER_US

MIN_GRAIN_FRAMES = 24
"""Steps of half a millisecond: whatever is finer, chance alone samples well enough."""

MAX_GRAIN_FRAMES = 2048

_MIN_LOOKS = 8
"""Before the greatest common divisor of the pointer's moves is taken for its step."""

_LOOKS = 64
"""Kept to bound the moment: 1.4 s of blocks of 1,024 frames. A rate that is off by 10 ppm moves it by 14 µs so."""

_DITHER_NS = 15.0 * NS_PER_US
"""Look up to so far outside of the bounds: they are blurred, and the moment drifts."""

_BLUR_NS = 1.5 * NS_PER_US
_NEWEST = 16
_WITNESSES = 3
"""So many of the newest looks that say otherwise by more than this make a look an impossible one. They are of a third
of a second: whatever moves a card's rate has not moved it by then."""

_GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0
"""Its multiples, modulo 1, are spread evenly however many there are (a Kronecker sequence)."""

_REMAINING_BLOCKS = 1.5
"""So much sound must be left when the card is given its next block."""

_MAX_OVERHEAD_NS = 20.0 * NS_PER_MS
_OVERHEAD_STEP_NS = 50.0 * NS_PER_US
_OVERHEAD_SHARE = 0.2
"""From when a look is asked for to when it happens is learned by a fifth of each difference, and no more than this."""

_AHEAD_NS = NS_PER_MS
"""So much before a card with a fine pointer asks, the driver may do the waking."""

_CALM_NS = 60 * NS_PER_S
"""After an underrun the card gets its blocks as early as it can for so long."""


class PointerWatch:
    """Says when the next look at the pointer tells most. Called in the audio callback: it never raises."""

    def __init__(self) -> None:
        self._calm_until_ns = 0
        self._number = 0
        self._overhead_ns = 100.0 * NS_PER_US
        self._asked_ns = 0.0
        self._looks: deque[tuple[int, int]] = deque(maxlen=_LOOKS)
        self._blocks = self._blocks_a_look = 1
        self._count = 0
        self._divisor = 0
        self._last_frame = 0
        self._advance_frames = 1
        self._most_held_frames = 0

    @property
    def grain_frames(self) -> int:
        """By how many frames the pointer moves at once; 1 while that is not known, or where it is fine."""
        if self._count < _MIN_LOOKS or not MIN_GRAIN_FRAMES <= self._divisor <= MAX_GRAIN_FRAMES:
            return 1
        # Who is woken for each block sees moves of whole blocks, however fine the pointer is.
        return self._divisor if self._advance_frames % self._divisor else 1

    def restart(self, now_local_ns: int, *, ran_dry: bool) -> None:
        """Forget where the pointer is, because its count began anew; be careful for a while if it ran dry."""
        if ran_dry:
            self._calm_until_ns = now_local_ns + _CALM_NS
        self._asked_ns = 0.0
        self._looks.clear()
        self._count = self._divisor = self._most_held_frames = 0

    def observe(self, dac_frame: int, pointer_frame: int, read_local_ns: int) -> None:
        """Take what a look showed; one that is known already is the same look, for another block.

        Args:
            dac_frame: the card's frame at which the next block begins.
            pointer_frame: the frame that sounds, as the pointer says.
            read_local_ns: when it was looked at.
        """
        if self._looks and read_local_ns == self._looks[-1][1]:
            self._blocks += 1  # Another block for which the card was not looked at again.
            return
        self._note_overhead(read_local_ns)
        self._blocks_a_look, self._blocks = self._blocks, 1
        if self._count and pointer_frame != self._looks[-1][0]:
            self._divisor = math.gcd(self._divisor, pointer_frame - self._looks[-1][0])
        self._count += 1
        self._advance_frames = dac_frame - self._last_frame
        self._last_frame = dac_frame
        self._most_held_frames = max(self._most_held_frames, dac_frame - pointer_frame)
        self._looks.append((pointer_frame, read_local_ns))

    def contradicts(self, line: DacLine, pointer_frame: int, read_local_ns: int) -> bool:
        """Say whether a look that is earlier than the line cannot be right, as other looks saw the pointer move later.

        That holds for pointers that move when their time has come, within their steps; where looks say otherwise,
        they contradict nothing.
        """
        early_ns = (read_local_ns - line.local_ns) - (pointer_frame - line.dac_frame) * line.ns_per_frame
        if len(self._looks) < _LOOKS // 2 or early_ns > -_BLUR_NS:
            return False
        not_before_ns = self._after_ns(line) - self.grain_frames * line.ns_per_frame
        holds = np.count_nonzero(not_before_ns > _BLUR_NS) < _WITNESSES
        return bool(holds and np.count_nonzero(not_before_ns[-_NEWEST:] > early_ns + _BLUR_NS) >= _WITNESSES)

    def next_look_ns(self, line: DacLine, next_frame: int, block_frames: int, now_local_ns: int) -> int:
        """Return the local time until which to keep the block that was just made, and then look; 0 for no reason to.

        Args:
            line: of the card.
            next_frame: the frame after that block.
            block_frames: in each block.
            now_local_ns: the time.
        """
        self._asked_ns = 0.0
        grain = self.grain_frames
        left_frames = self._most_held_frames - self._blocks_a_look * block_frames - 2 * grain
        if self._count < _MIN_LOOKS or self._blocks < self._blocks_a_look:
            return 0
        if now_local_ns < self._calm_until_ns or left_frames < _REMAINING_BLOCKS * block_frames:
            return 0
        # The card asks again once it holds no more than it ever did when it asked.
        asks_frame = next_frame - self._most_held_frames
        if grain == 1:
            return max(line.local_at(asks_frame) - _AHEAD_NS, 0)
        return self._dithered_look_ns(line, grain, asks_frame)

    def _dithered_look_ns(self, line: DacLine, grain: int, asks_frame: int) -> int:
        # One step later than that at which the card asks, so that a look on either side of the step is possible.
        shown = self._looks[-1][0]
        steps = max(math.ceil((asks_frame - shown) / grain), 0) + 1
        low_ns, high_ns = self._bounds_ns(line, grain)
        self._number += 1
        share = self._number * _GOLDEN % 1.0
        after_ns = low_ns - _DITHER_NS + share * (high_ns - low_ns + 2.0 * _DITHER_NS)
        self._asked_ns = line.local_at(shown + steps * grain) + after_ns - self._overhead_ns
        return max(round(self._asked_ns), 0)

    def _bounds_ns(self, line: DacLine, grain: int) -> tuple[float, float]:
        """Return between which times after the line's own the pointer really moves."""
        after_ns = self._after_ns(line)
        high_ns = float(after_ns.min())
        low_ns = float(after_ns.max()) - grain * line.ns_per_frame
        return min(low_ns, high_ns), high_ns

    def _after_ns(self, line: DacLine) -> npt.NDArray[np.float64]:
        """Return how long after the line each look saw the pointer where it was."""
        looks = np.array(self._looks, np.int64)
        return (looks[:, 1] - line.local_ns) - (looks[:, 0] - line.dac_frame) * line.ns_per_frame

    def _note_overhead(self, read_local_ns: int) -> None:
        if not self._asked_ns:
            return
        difference_ns = (read_local_ns - self._asked_ns) - self._overhead_ns
        difference_ns = min(max(difference_ns, -_OVERHEAD_STEP_NS), _OVERHEAD_STEP_NS)
        overhead_ns = self._overhead_ns + _OVERHEAD_SHARE * difference_ns
        self._overhead_ns = min(max(overhead_ns, -_MAX_OVERHEAD_NS), _MAX_OVERHEAD_NS)
