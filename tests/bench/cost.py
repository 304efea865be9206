"""What a speaker costs, part by part: estimator, resampler, renderer, player. Alone, in one process, on one thread.

    python tests/bench/cost.py [--rounds N] [--seconds S] [--markdown]

Prints, and judges nothing. Milliseconds of CPU for a second of sound are of the machine it runs on, so each is also
given in reference loops: a fixed number of NumPy multiply-adds on arrays as long as a card's block, timed in the same
rounds. That figure can be compared between machines of one kind, and roughly between kinds: two machines differ in
arithmetic, in the interpreter's speed and in memory, and the loop has one mixture of the three. What fraction of
a small board's core a speaker takes is not known from here: run this on the board.

Every figure is the least of the rounds, as whatever else runs only adds. Not in it: decoding (tests/bench/media.py),
PortAudio, the sockets and the event loop, which tests/bench/room.py has in its CPU of a whole speaker.
"""

from __future__ import annotations

import argparse
import os
import time
import tracemalloc
from collections.abc import Callable, Sequence

# Read once, when NumPy is imported: a callback must not wait for other threads, and a small board has few.
os.environ.update({"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"})

import numpy as np
from tables import machine_kind, markdown, number, plain

from musicsyncd.clock.exchange import Exchange
from musicsyncd.clock.filter import HostClock
from musicsyncd.clock.mapping import ClockMapping
from musicsyncd.media.frames import CHUNK_FRAMES, TrackBuffer
from musicsyncd.playback.player import Course, Player
from musicsyncd.playback.renderer import Renderer
from musicsyncd.playback.resampler import Resampler
from musicsyncd.playback.timeline import Segment, Timeline, Track
from musicsyncd.units import NS_PER_MS, NS_PER_S, HostNs, LocalNs

BLOCK_FRAMES = 1024
CHANNELS = 2
CARD_HZ = 48_000
CARD_PPM = 60.0
SKEW_PPM = 50.0
OFFSET_NS = 777 * NS_PER_S
BEGIN_NS = 5000 * NS_PER_S

PROBES_PER_S = 4
WARM_S = 70
"""Longer than estimator and card's line remember, so that both carry all that they ever will."""

REFERENCE_ROUNDS = 1000
"""Multiply-adds of one reference loop: this times a block's samples. Changing it changes every published figure."""

DISTINCT_CHUNKS = 32
"""Of decoded sound, played in turns: 2 MiB, more than a small board's cache, as real sound is."""


def reference_loop() -> None:
    """Do a fixed amount of NumPy's arithmetic, and of the interpreter's share in it."""
    left = np.linspace(0.0, 1.0, BLOCK_FRAMES * CHANNELS, dtype=np.float32)
    right, total = left[::-1].copy(), np.zeros_like(left)
    product = np.empty_like(left)
    for _ in range(REFERENCE_ROUNDS):
        np.multiply(left, right, out=product)
        np.add(total, product, out=total)


class Estimation:
    """The host's clock, with a full minute of samples of a wired network."""

    def __init__(self) -> None:
        self._random = np.random.default_rng(1)
        self._clock = HostClock()
        self._number = 0
        self.run(WARM_S)

    def run(self, seconds: float) -> None:
        """Take in as many exchanges as come in so long."""
        for _ in range(round(seconds * PROBES_PER_S)):
            self._clock.observe(self._exchange())

    def _exchange(self) -> Exchange:
        sent_ns = BEGIN_NS + self._number * NS_PER_S // PROBES_PER_S
        self._number += 1
        up_ns, down_ns = (100_000 + self._random.exponential(30_000, 2)).astype(int).tolist()
        arrived_ns, left_ns = sent_ns + up_ns, sent_ns + up_ns + 80_000
        return Exchange(
            LocalNs(sent_ns), _host_ns(arrived_ns), _host_ns(left_ns), LocalNs(sent_ns + up_ns + 80_000 + down_ns)
        )


def _host_ns(local_ns: int) -> HostNs:
    return HostNs(local_ns + OFFSET_NS + round((local_ns - BEGIN_NS) * SKEW_PPM * 1e-6))


class Resampling:
    """The resampler on one window of noise, at the rates of a track and a card."""

    def __init__(self, track_hz: int, card_hz: int) -> None:
        self._resampler = Resampler(track_hz, card_hz)
        self._card_hz, self._step = card_hz, track_hz / card_hz * (1 + 37e-6)
        frames = self._resampler.needed(0, 0.999, self._step, BLOCK_FRAMES)[1]
        self._window = _noise(frames)
        self._out = np.empty((BLOCK_FRAMES, CHANNELS), np.float32)
        self._number = 0

    def run(self, seconds: float) -> None:
        """Resample so much of the card's sound."""
        for _ in range(round(seconds * self._card_hz / BLOCK_FRAMES)):
            self._number += 1
            fraction = self._number * 0.037 % 1.0
            first, frames = self._resampler.needed(0, fraction, self._step, BLOCK_FRAMES)
            self._resampler.read(self._window[:frames], first, 0, fraction, self._step, self._out)


def _noise(frames: int) -> np.ndarray:
    return (0.25 * np.random.default_rng(0).standard_normal((frames, CHANNELS))).astype(np.float32)


class Music:
    """One endless track that is decoded already, and a time line on which it sounds from the start."""

    def __init__(self, rate_hz: int) -> None:
        track = Track(b"t" * 32, 1000, rate_hz, 3600 * rate_hz, CHANNELS)
        self._buffer = TrackBuffer(track)
        noise = _noise(DISTINCT_CHUNKS * CHUNK_FRAMES).reshape(DISTINCT_CHUNKS, CHUNK_FRAMES, CHANNELS)
        for index in range(track.frames // CHUNK_FRAMES + 1):
            self._buffer.chunks[index] = noise[index % DISTINCT_CHUNKS]
        self.timeline = Timeline((Segment(_host_ns(BEGIN_NS), 1, 0, track),))

    def buffer(self, content_id: bytes) -> TrackBuffer:
        """Return the track's frames."""
        return self._buffer


class Rendering:
    """The renderer on a track."""

    def __init__(self, music: Music) -> None:
        self._renderer, self._timeline = Renderer(CARD_HZ, CHANNELS, music), music.timeline
        self._out = np.empty((BLOCK_FRAMES, CHANNELS), np.float32)
        self._frame = CARD_HZ  # Behind the track's beginning, where part of a block is silence.

    def run(self, seconds: float) -> None:
        """Render so much sound."""
        ns_per_frame = NS_PER_S / CARD_HZ * (1 - CARD_PPM * 1e-6)
        for _ in range(round(seconds * CARD_HZ / BLOCK_FRAMES)):
            at_ns = self._frame * ns_per_frame
            whole_ns = int(at_ns)
            host_ns = _host_ns(BEGIN_NS) + whole_ns
            if not self._renderer.render(self._timeline, host_ns, at_ns - whole_ns, ns_per_frame, self._out):
                raise RuntimeError("nothing sounded: what was timed is not what plays")
            self._frame += BLOCK_FRAMES


class Playing:
    """A whole player on a card whose crystal is off, with a new mapping of the host's clock four times a second."""

    def __init__(self, music: Music) -> None:
        self.player = Player(CARD_HZ, CHANNELS, music)
        self.player.mixer.set_gain(0.5)
        self._timeline = music.timeline
        self._random = np.random.default_rng(2)
        self._out = np.empty((BLOCK_FRAMES, CHANNELS), np.float32)
        self._number = 0

    def run(self, seconds: float) -> None:
        """Play so much sound."""
        between = CARD_HZ // (BLOCK_FRAMES * PROBES_PER_S)
        for _ in range(round(seconds * CARD_HZ / BLOCK_FRAMES)):
            frame = self._number * BLOCK_FRAMES
            sounds_ns = BEGIN_NS + NS_PER_S + round(frame * NS_PER_S / (CARD_HZ * (1 + CARD_PPM * 1e-6)))
            if self._number % between == 0:
                self._follow(sounds_ns)
            # What the card says is rounded to its frames; it holds 80 ms when it is asked.
            said_ns = sounds_ns + round(self._random.random() * NS_PER_S / CARD_HZ)
            read_ns = sounds_ns - 80 * NS_PER_MS
            self.player.render(self._out, frame, said_ns, read_ns + 50_000, read_local_ns=read_ns)
            self._number += 1
        if not self.player.sounding or self.player.state == "waiting":
            raise RuntimeError(f"the player is {self.player.state}: what was timed is not what plays")

    def _follow(self, local_ns: int) -> None:
        error_ns = round(2000 * self._random.standard_normal())
        mapping = ClockMapping(LocalNs(local_ns), HostNs(_host_ns(local_ns) + error_ns), SKEW_PPM, 10_000)
        self.player.follow(Course(self._timeline, mapping, 1))


Part = tuple[str, Callable[[float], None]]


def memory_kib(make: Callable[[], Playing]) -> tuple[float, float]:
    """Return what a player holds after a minute of playing, and the most it ever held, without the decoded sound.

    In it are the resampler's constants, which players of the same two rates in one process would share.
    """
    # At other rates: NumPy imports parts of itself when they are first used, and those are nobody's samples.
    Playing(Music(32_000)).run(WARM_S)
    tracemalloc.start()
    try:
        playing = make()
        playing.run(WARM_S)
        held, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    del playing
    return held / 1024, most / 1024


def cpu_ms(work: Callable[[], None]) -> float:
    """Return the CPU time of one call."""
    began_ns = time.process_time_ns()
    work()
    return (time.process_time_ns() - began_ns) / 1e6


def make_parts(same: Music, other: Music) -> list[Part]:
    """Return what is timed, warm: by name, with a call that does the work of so many seconds of sound."""
    players = Playing(same), Playing(other)
    for playing in players:
        playing.run(WARM_S)
    resamplers = [
        (f"resampler, {track_hz / 1000:g} → 48 kHz", Resampling(track_hz, CARD_HZ).run)
        for track_hz in (48_000, 44_100, 192_000, 8_000)
    ]
    return [
        (f"estimator, {PROBES_PER_S} exchanges a second", Estimation().run),
        *resamplers,
        ("renderer, 48 → 48 kHz", Rendering(same).run),
        ("renderer, 44.1 → 48 kHz", Rendering(other).run),
        ("player, 44.1 → 48 kHz", players[1].run),
        ("player, 48 → 48 kHz", players[0].run),
    ]


def least_ms(parts: Sequence[Part], rounds: int, seconds: float) -> tuple[float, list[float]]:
    """Time the reference loop and every part in each round; return the least of each, of the parts for 1 s of sound."""
    reference_ms, found = [], [[] for _ in parts]
    for _ in range(rounds):
        reference_ms.append(cpu_ms(reference_loop))
        for (_, run), times_ms in zip(parts, found, strict=True):
            times_ms.append(cpu_ms(lambda run=run: run(seconds)) / seconds)
    return min(reference_ms), [min(times_ms) for times_ms in found]


def main(argv: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="of which each figure is the least (default: 7)")
    parser.add_argument("--seconds", type=float, default=10.0, help="of sound for each part in a round (default: 10)")
    parser.add_argument("--markdown", action="store_true", help="as the README has tables, in reference loops only")
    options = parser.parse_args(argv)
    if options.rounds < 1 or options.seconds < 1:
        parser.error("--rounds and --seconds have to be 1 or more")
    render = markdown if options.markdown else plain
    same, other = Music(CARD_HZ), Music(44_100)
    memory = [
        ("player, 48 → 48 kHz", memory_kib(lambda: Playing(same))),
        ("player, 44.1 → 48 kHz", memory_kib(lambda: Playing(other))),
    ]
    parts = make_parts(same, other)
    reference_ms, times_ms = least_ms(parts, options.rounds, options.seconds)
    found = [(name, ms) for (name, _), ms in zip(parts, times_ms, strict=True)]
    found.append(("estimator and player, 48 → 48 kHz", times_ms[0] + times_ms[-1]))
    rows = [["a second of stereo at 48 kHz", "ms of CPU", "% of a core", "reference loops"]]
    rows += [[name, number(ms), number(ms / 10), number(ms / reference_ms)] for name, ms in found]
    print(f"{machine_kind()}, NumPy {np.__version__}. Blocks of {BLOCK_FRAMES:,} frames.")
    if options.markdown:
        rows = [[row[0], row[3]] for row in rows]
    else:
        samples = REFERENCE_ROUNDS * BLOCK_FRAMES * CHANNELS
        print(f"A reference loop of {samples:,} multiply-adds took {reference_ms:.3g} ms,")
        print(f"an exchange of the estimator {1000 * times_ms[0] / PROBES_PER_S:.0f} µs.")
    print(f"\n{render(rows)}\n")
    heads = ["memory", "held KiB", "at the most KiB"]
    print(render([heads, *([name, number(held), number(most)] for name, (held, most) in memory)]))


if __name__ == "__main__":
    main()
