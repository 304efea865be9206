"""A sound card with a crystal of its own, and what is heard of it.

The card asks for a block when one of its buffers has run empty, late by what the machine's
scheduler makes of it, and says when the block will sound, as coarsely as a card does. Which
frames really sound when is kept for the judge.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from musicsyncd.playback.player import Course, Player

from .machine import MachineClock

_US = 1_000
_S = 1_000_000_000
_MAX_BLOCKS = 256
"""Kept for the judge: 5 s of blocks of 1,024 frames."""

Samples = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Crystal:
    """How a card behaves.

    Attributes:
        ppm: its rate against true time, positive when it runs fast.
        rate_hz: nominal.
        block_frames: asked for at a time.
        blocks: in its buffer.
        grain_frames: its pointer moves in such steps, so its times are late by up to one.
        hiccups_per_s: how often the machine is late by 5 to 30 ms.
        tells: it says when it has run empty; PipeWire loses whole blocks without a word.
    """

    ppm: float = 0.0
    rate_hz: int = 48_000
    block_frames: int = 1024
    blocks: int = 5
    grain_frames: int = 1
    hiccups_per_s: float = 0.0
    tells: bool = True


@dataclass(frozen=True)
class Block:
    """A block as it sounds.

    Attributes:
        true_ns: when its first frame really sounds.
        true_ns_per_frame: how long each really takes.
        frames: in it.
        host_ns: the host time for which its first frame was made.
        host_ns_per_frame: and each next.
        course: what it was made from; None if it is silence.
        first_sample: value of the first frame's first channel.
    """

    true_ns: float
    true_ns_per_frame: float
    frames: int
    host_ns: float
    host_ns_per_frame: float
    course: Course | None
    first_sample: float

    @property
    def end_true_ns(self) -> float:
        return self.true_ns + self.frames * self.true_ns_per_frame

    def host_at(self, true_ns: float) -> float:
        """Return the host time of what sounds at a true instant."""
        return self.host_ns + (true_ns - self.true_ns) / self.true_ns_per_frame * self.host_ns_per_frame


class Scheduler(Protocol):
    """What a card asks of the world."""

    now_ns: int

    def at(self, true_ns: float, what: Callable[[], object]) -> None:
        """Run something at a true instant."""


class Card:
    """Asks a player for blocks for as long as it runs.

    Attributes:
        underruns: blocks that came too late.
    """

    def __init__(
        self, world: Scheduler, dice: random.Random, crystal: Crystal, clock: MachineClock, player: Player
    ) -> None:
        self.underruns = 0
        self._world = world
        self._dice = dice
        self._crystal = crystal
        self._clock = clock
        self._player = player
        self._ns_per_frame = _S / (crystal.rate_hz * (1 + crystal.ppm * 1e-6))
        self._frame = 0
        self._running = True
        self._stall_ns = 0.0
        self._blocks: deque[Block] = deque(maxlen=_MAX_BLOCKS)
        self._out = np.zeros((crystal.block_frames, 2), np.float32)
        # The card begins with its buffer full of silence.
        self._next_true_ns = world.now_ns + self._buffered_ns
        world.at(world.now_ns, self._ask)

    def stop(self) -> None:
        """Fall silent at once."""
        self._running = False
        self._blocks.clear()

    def stall(self, duration_ns: float) -> None:
        """Have the machine late by so much with the next block."""
        self._stall_ns = duration_ns

    def block_at(self, true_ns: int) -> Block | None:
        """Return what sounds at an instant of the last seconds; None for silence."""
        while self._blocks and self._blocks[0].end_true_ns <= true_ns:
            self._blocks.popleft()
        if self._blocks and self._blocks[0].true_ns <= true_ns:
            return self._blocks[0]
        return None

    @property
    def _buffered_ns(self) -> float:
        return self._crystal.blocks * self._crystal.block_frames * self._ns_per_frame

    def _ask(self) -> None:
        if not self._running:
            return
        now_ns = self._world.now_ns
        is_broken = now_ns > self._next_true_ns
        if is_broken:
            # The buffer ran empty: what is delivered now sounds as soon as the card can have it.
            self.underruns += 1
            self._next_true_ns = now_ns + self._buffered_ns
        frames = self._crystal.block_frames
        true_ns = self._next_true_ns
        says_ns = self._clock.local_at(true_ns + self._dice.random() * self._crystal.grain_frames * self._ns_per_frame)
        self._player.render(
            self._out, self._frame, says_ns, self._clock.local_at(now_ns), broken=is_broken and self._crystal.tells
        )
        self._remember(true_ns)
        self._frame += frames
        self._next_true_ns = true_ns + frames * self._ns_per_frame
        late_ns, self._stall_ns = self._late_ns() + self._stall_ns, 0.0
        self._world.at(self._next_true_ns - self._buffered_ns + late_ns, self._ask)

    def _late_ns(self) -> float:
        share = self._crystal.hiccups_per_s * self._crystal.block_frames / self._crystal.rate_hz
        if self._dice.random() < share:
            return self._dice.uniform(5, 30) * 1000 * _US
        return self._dice.expovariate(1 / (150 * _US))

    def _remember(self, true_ns: float) -> None:
        player, plan = self._player, self._player.plan
        if plan is None or not player.sounding:
            return
        self._blocks.append(
            Block(
                true_ns,
                self._ns_per_frame,
                self._crystal.block_frames,
                plan.start_host_ns + plan.start_fraction_ns,
                plan.ns_per_frame,
                player._playing,
                float(self._out[0, 0]),
            )
        )
