"""A sound card as PortAudio shows one over ALSA: a pointer in steps, asked for its place by whoever wakes.

In virtual time. PortAudio wakes at ticks of 1 ms of the machine's clock, or at once if one has passed since, asks for a
block when there is room for it, and looks at clock and pointer just before. A rare wait between those two
makes a look early.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from musicsyncd.playback.dac import DacModel
from musicsyncd.playback.pointer import PointerWatch

RATE_HZ = 48_000
BLOCK_FRAMES = 1024
START_NS = 90_000_000_000_000
TICK_NS = 1e6


@dataclass
class Look:
    """What was known after a look.

    Attributes:
        at_s: since the start.
        error_ns: how much too late the model says that the next block will sound.
        grain_frames: as far as is known.
        held_frames: in the card when it is given its block.
        waits: the block was kept back.
    """

    at_s: float
    error_ns: float
    grain_frames: int
    held_frames: float
    waits: bool


class TickingCard:
    """A card that runs ``ppm`` fast, with the model and the watch that listen to it.

    Args:
        ppm: of its crystal.
        grain_frames: of its pointer.
        seed: of chance.
        keeps_back: blocks are kept back as the watch asks.
        buffer_frames: of the card.
        early_share: of looks that are interrupted, by 50 µs on average; on a busy machine one in 1,400 was.

    Attributes:
        looks: what was learned from each.
        wakes: how often whoever waits for the card was woken.
    """

    def __init__(
        self,
        ppm: float,
        grain_frames: int,
        seed: int = 1,
        *,
        keeps_back: bool = True,
        buffer_frames: int = 5 * BLOCK_FRAMES,
        early_share: float = 0.002,
    ) -> None:
        self.model = DacModel(RATE_HZ)
        self.watch = PointerWatch()
        self.ppm = ppm
        self.looks: list[Look] = []
        self.wakes = 0
        self._random = np.random.default_rng(seed)
        self._frames_per_ns = RATE_HZ * (1 + ppm * 1e-6) * 1e-9
        self._grain = grain_frames
        self._keeps_back = keeps_back
        self._buffer = buffer_frames
        self._early_share = early_share
        self._frame = 0
        self._at_ns = float(START_NS)
        self._last_tick = 0

    def play(self, until_s: float) -> None:
        """Go on until so long after the start."""
        while self._at_ns < START_NS + until_s * 1e9:
            self._wake()
            if self._room_frames() >= BLOCK_FRAMES:
                self._ask()

    def looks_between(self, since_s: float, until_s: float) -> list[Look]:
        """Return the looks of a stretch of time."""
        return [look for look in self.looks if since_s <= look.at_s < until_s]

    def _pointer(self, at_ns: float) -> int:
        played = math.floor((at_ns - START_NS) * self._frames_per_ns)
        return played - played % self._grain

    def _room_frames(self) -> int:
        return self._buffer - (self._buffer + self._frame - self._pointer(self._at_ns))

    def _late_ns(self, mean_us: float) -> float:
        return float(self._random.exponential(mean_us * 1e3))

    def _wake(self) -> None:
        self.wakes += 1
        tick = math.floor((self._at_ns - START_NS) / TICK_NS)
        if tick > self._last_tick:
            self._at_ns += self._late_ns(8)
        else:
            self._at_ns = START_NS + (tick + 1) * TICK_NS + self._late_ns(60)
        self._last_tick = math.floor((self._at_ns - START_NS) / TICK_NS)

    def _ask(self) -> None:
        read_ns = math.floor(self._at_ns / 1e3) * 1000  # PortAudio takes microseconds.
        interrupted_ns = self._late_ns(50) if self._random.random() < self._early_share else 0.0
        held = self._buffer + self._frame - self._pointer(self._at_ns + interrupted_ns)
        dac_ns = read_ns + round(held * 1e9 / RATE_HZ)
        now_ns = round(self._at_ns + interrupted_ns + 30e3 + self._late_ns(15))
        line = self.model.line
        self.model.observe(
            self._frame,
            dac_ns,
            now_ns,
            read_local_ns=read_ns,
            grain_frames=self.watch.grain_frames,
            is_early=line is not None and self.watch.contradicts(line, self._frame - held, read_ns),
        )
        line = self.model.line
        assert line is not None
        self.watch.observe(self._frame, self._frame - held, read_ns)
        until_ns = self.watch.next_look_ns(line, self._frame + BLOCK_FRAMES, BLOCK_FRAMES, now_ns)
        error_ns = line.local_at(self._frame) - START_NS - (self._frame + self._buffer) / self._frames_per_ns
        self._at_ns = now_ns + 300e3
        waits = self._keeps_back and until_ns > self._at_ns
        if waits:
            self._at_ns = until_ns + self._late_ns(40)
        held_frames = self._buffer + self._frame - (self._at_ns - START_NS) * self._frames_per_ns
        self.looks.append(Look((now_ns - START_NS) * 1e-9, error_ns, self.watch.grain_frames, held_frames, waits))
        self._frame += BLOCK_FRAMES
        self._at_ns += 20e3 + self._late_ns(20)
