"""A sound card with a crystal of its own, and what is heard of it.

The card asks for a block when one of its buffers has run empty, late by what the machine's
scheduler makes of it, and says when the block will sound, as coarsely as a card does. Which
frames really sound when is kept for the judge.
"""

from __future__ import annotations

import math
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
_TICK_NS = 1_000_000
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
        times: it says when a block will sound; else that is taken for the callback's time and the buffer's length,
            as the daemon does.
        walk_ppm: its rate's wandering, standard deviation of the change in a second.
        polled: it is a :class:`PolledCard`.
    """

    ppm: float = 0.0
    rate_hz: int = 48_000
    block_frames: int = 1024
    blocks: int = 5
    grain_frames: int = 1
    hiccups_per_s: float = 0.0
    tells: bool = True
    times: bool = True
    walk_ppm: float = 0.0
    polled: bool = False


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
        ppm: its rate against true time, as it is now.
        recorded: every sample of the first channel that was handed over, in blocks, if it is a list.
    """

    def __init__(
        self, world: Scheduler, dice: random.Random, crystal: Crystal, clock: MachineClock, player: Player
    ) -> None:
        self.underruns = 0
        self.ppm = crystal.ppm
        self.recorded: list[Samples] | None = None
        self._world = world
        self._dice = dice
        self._crystal = crystal
        self._clock = clock
        self._player = player
        self._ramp_ppm_per_s = 0.0
        self._ramp_until_ns = self._wakes_ns = 0.0
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

    def lose(self, blocks: int) -> None:
        """Have so many blocks' time pass in silence before the next block, without a word."""
        self._next_true_ns += blocks * self._crystal.block_frames * self._ns_per_frame

    def warm(self, ppm: float, duration_s: float) -> None:
        """From now on change the rate by so much, evenly over a while."""
        self._ramp_ppm_per_s = ppm / duration_s
        self._ramp_until_ns = self._world.now_ns + duration_s * _S

    def sleep(self, until_true_ns: float) -> None:
        """Fall silent with the machine, what was in the buffer lost; when it wakes the card says that it ran empty."""
        self._wakes_ns = until_true_ns
        self._blocks.clear()

    def block_at(self, true_ns: int) -> Block | None:
        """Return what sounds at an instant of the last seconds; None for silence."""
        while self._blocks and self._blocks[0].end_true_ns <= true_ns:
            self._blocks.popleft()
        if self._blocks and self._blocks[0].true_ns <= true_ns:
            return self._blocks[0]
        return None

    @property
    def _ns_per_frame(self) -> float:
        return _S / (self._crystal.rate_hz * (1 + self.ppm * 1e-6))

    @property
    def _buffered_ns(self) -> float:
        return self._crystal.blocks * self._crystal.block_frames * self._ns_per_frame

    def _ask(self) -> None:
        if not self._running:
            return
        now_ns = self._world.now_ns
        if now_ns < self._wakes_ns:
            self._next_true_ns = 0.0
            self._world.at(self._wakes_ns + self._late_ns(), self._ask)
            return
        is_broken = now_ns > self._next_true_ns
        if is_broken:
            # The buffer ran empty: what is delivered now sounds as soon as the card can have it.
            self.underruns += 1
            self._next_true_ns = now_ns + self._buffered_ns
        self._drift()
        frames = self._crystal.block_frames
        true_ns = self._next_true_ns
        until_local_ns = self._render(broken=is_broken and self._crystal.tells)
        self._remember(true_ns)
        self._frame += frames
        self._next_true_ns = true_ns + frames * self._ns_per_frame
        self._world.at(self._asks_ns(until_local_ns) + self._stall_ns, self._ask)
        self._stall_ns = 0.0

    def _render(self, *, broken: bool) -> int:
        """Have the next block made, and return until which local time to keep it; 0 where that is no use."""
        now_local_ns = self._clock.local_at(self._world.now_ns)
        self._player.render(self._out, self._frame, self._says_ns(now_local_ns), now_local_ns, broken=broken)
        return 0

    def _asks_ns(self, until_local_ns: int) -> float:
        """Return the true instant at which the card asks for the next block."""
        return self._next_true_ns - self._buffered_ns + self._late_ns()

    def _says_ns(self, now_local_ns: int) -> int:
        """Return the local time at which the next block will sound, as far as the peer is told."""
        crystal = self._crystal
        if not crystal.times:
            return now_local_ns + round(crystal.blocks * crystal.block_frames * _S / crystal.rate_hz)
        late_ns = self._dice.random() * crystal.grain_frames * self._ns_per_frame
        return self._clock.local_at(self._next_true_ns + late_ns)

    def _drift(self) -> None:
        block_s = self._crystal.block_frames / self._crystal.rate_hz
        if self._world.now_ns < self._ramp_until_ns:
            self.ppm += self._ramp_ppm_per_s * block_s
        if self._crystal.walk_ppm:
            self.ppm += self._dice.gauss(0.0, self._crystal.walk_ppm * math.sqrt(block_s))

    def _late_ns(self) -> float:
        share = self._crystal.hiccups_per_s * self._crystal.block_frames / self._crystal.rate_hz
        if self._dice.random() < share:
            return self._dice.uniform(5, 30) * 1000 * _US
        return self._dice.expovariate(1 / (150 * _US))

    def _remember(self, true_ns: float) -> None:
        if self.recorded is not None:
            self.recorded.append(self._out[:, 0].copy())
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


class PolledCard(Card):
    """A card as PortAudio shows it over ALSA: it is asked at ticks of 1 ms where its pointer is, which moves in steps.

    What it says is where the pointer was at the tick, and how long the frames behind it take at the nominal
    rate. A block that is kept for a while has it asked later.
    """

    def _render(self, *, broken: bool) -> int:
        now_local_ns = self._clock.local_at(self._world.now_ns)
        read_ns = now_local_ns // _US * _US
        grain_frames = self._crystal.grain_frames
        sounds_frame = self._frame - (self._next_true_ns - self._world.now_ns) / self._ns_per_frame
        shown_frame = math.floor(sounds_frame / grain_frames) * grain_frames
        says_ns = read_ns + round((self._frame - shown_frame) * _S / self._crystal.rate_hz)
        return self._player.render(
            self._out, self._frame, says_ns, now_local_ns + 40 * _US, broken=broken, read_local_ns=read_ns
        )

    def _asks_ns(self, until_local_ns: int) -> float:
        crystal = self._crystal
        # There is room when the pointer has shown that a block has sounded.
        need_frame = self._frame - (crystal.blocks - 1) * crystal.block_frames
        shown_frame = math.ceil(need_frame / crystal.grain_frames) * crystal.grain_frames
        room_ns = self._next_true_ns - (self._frame - shown_frame) * self._ns_per_frame
        ready_ns = max(room_ns, float(self._clock.true_at(until_local_ns)) if until_local_ns else 0.0)
        ready_local_ns = self._clock.local_at(max(ready_ns, self._world.now_ns + 400 * _US))
        if not until_local_ns:
            ready_local_ns = -(-ready_local_ns // _TICK_NS) * _TICK_NS
        return self._clock.true_at(ready_local_ns) + self._dice.expovariate(1 / (60 * _US))
