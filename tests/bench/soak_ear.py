"""What the soak hears: silence, underruns, and how far apart two cards were, from a bounded stretch of their captures.

A virtual card keeps every sample that it was given (``tests/rig/vdac.c``), which is a gigabyte an hour. Here only a
stretch of it is read at a time, and what was read is given back to the disk. Knows of sound and times, and nothing of
faults or processes.

*Place*: the tracks stand one behind the other in one long source, as the room plays them, so that a place is one
number, and the joint of two tracks is a place like any other. To find a place at all, both are brought down to a
thousandth of a second and correlated over the whole source at once; from there on ``tests/rig/truth.py`` follows it,
in a piece of the source that is as short as can be.

Times are ``time.time()``, seconds, as in the captures.
"""

from __future__ import annotations

import glob
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).parents[1] / "rig"))

import measure
import truth

RATE_HZ = 48_000
"""Of the cards, and of the source that is searched."""

COARSE = 48
"""Samples to one of the search."""

SEARCH_FRAMES = 2 * RATE_HZ
BLOCK_FRAMES = 2 * RATE_HZ
MARGIN_FRAMES = RATE_HZ // 2
"""Of source before and behind a block in which it is looked for."""

WINDOW_FRAMES, HOP_FRAMES = 8192, 4800
FOUND = 0.5
"""Correlation from which a place counts as found; noise comes to 0.1."""

GIVEN_BACK_S = 120.0
"""How long ago a run may have ended whose disk is still given back: all of it has been by then."""

BIN_S = 0.02
SILENT_POWER = 1e-6
"""Mean square under which a bin is silent, as in :func:`truth.track`."""

Piece = tuple[float, float, np.ndarray, bool]
"""As :func:`truth.load` has it: when it began, its true rate in Hz, samples in mono, and whether it broke off."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What two cards sounded in a stretch of time.

    Attributes:
        since: of the stretch whose silence is told.
        until: its end.
        silences: for each card, from when to when it was silent.
        underruns: for each card, when.
        rows: (time, by how much the first card was further, µs) of the windows in which both were found.
        cpu_s: what the listening took of the processor, since its process began.
    """

    since: float
    until: float
    silences: list[list[tuple[float, float]]]
    underruns: list[list[float]]
    rows: list[tuple[float, float]]
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Run:
    """A card's sound between a start and a stop: frames of a file that follow each other without a gap."""

    file: Path
    format: str
    channels: int
    rate_hz: float
    first_frame: int
    began: float
    frames: int
    broke: bool

    @property
    def ended(self) -> float:
        return self.began + self.frames / self.rate_hz

    def piece(self, since: float, until: float) -> Piece | None:
        """Read what sounded between two times."""
        first, last = (min(self.frames, max(0, round((t - self.began) * self.rate_hz))) for t in (since, until))
        if last <= first:
            return None
        kind, full_scale = truth.DT[self.format]
        count = (last - first) * self.channels
        offset = (self.first_frame + first) * self.channels * np.dtype(kind).itemsize
        samples = np.fromfile(self.file, kind, count, offset=offset).reshape(-1, self.channels)
        return self.began + first / self.rate_hz, self.rate_hz, samples.astype(float).mean(1) / full_scale, self.broke


def runs(prefix: str) -> Iterator[Run]:
    """Yield the runs of a card's captures, in order; the last one may still go on."""
    for log in sorted(glob.glob(prefix + ".*.log"), key=lambda name: int(name.split(".")[-2])):
        file = Path(log[:-4] + ".pcm")
        prepared: dict[str, str] = {}
        begun: dict[str, str] = {}
        for line in Path(log).read_text().splitlines():
            word, values = line.split()[0], dict(re.findall(r"(\w+)=(\S+)", line))
            if word == "prepare":
                prepared = values
            elif word == "start":
                begun = values
            elif word in ("stop", "xrun", "close") and begun:
                yield _run(file, prepared, begun, min(int(values["played"]), int(values["written"])), word == "xrun")
                begun = {}
        if begun:
            yield _run(file, prepared, begun, None, False)


def _run(file: Path, prepared: dict[str, str], begun: dict[str, str], frames: int | None, broke: bool) -> Run:
    channels, first = int(prepared["channels"]), int(begun["file_frame"])
    in_file = file.stat().st_size // (channels * np.dtype(truth.DT[prepared["format"]][0]).itemsize) - first
    rate_hz = int(prepared["rate"]) * (1 + float(prepared["ppm"]) * 1e-6)
    late_s = (int(prepared["delay_us"]) + int(prepared["hidden_us"])) * 1e-6
    began = int(begun["real"]) * 1e-9 + late_s
    kept = in_file if frames is None else min(frames, in_file)
    return Run(file, prepared["format"], channels, rate_hz, first, began, max(0, kept), broke)


class Source:
    """The tracks one behind the other, on disk.

    Args:
        path: of a ``.npy`` file, float32, mono, at :data:`RATE_HZ`.
    """

    def __init__(self, path: Path) -> None:
        self.samples = np.load(path, mmap_mode="r")
        coarse = _coarse(self.samples)
        self._size = 1 << (len(coarse) + SEARCH_FRAMES // COARSE).bit_length()
        self._spectrum = np.fft.rfft(coarse, self._size)
        self._power = np.concatenate([[0.0], np.cumsum(coarse**2)])

    @property
    def seconds(self) -> float:
        """How long it is."""
        return len(self.samples) / RATE_HZ

    def find(self, samples: np.ndarray) -> int | None:
        """Return the frame at which these samples are in the source, to a millisecond, or None."""
        wanted = _coarse(samples[:SEARCH_FRAMES])
        last = len(self._power) - 1 - len(wanted)
        if not len(wanted) or last < 1 or not np.any(wanted):
            return None
        alike = np.fft.irfft(self._spectrum * np.conj(np.fft.rfft(wanted, self._size)), self._size)[:last]
        place = int(np.argmax(alike))
        power = np.sum(wanted**2) * (self._power[place + len(wanted)] - self._power[place])
        return place * COARSE if alike[place] / np.sqrt(power + 1e-12) > FOUND else None

    def track(self, pieces: Sequence[Piece]) -> np.ndarray:
        """Return rows of (time, place in seconds or NaN, correlation), as :func:`truth.track` does."""
        found = []
        for began, rate_hz, samples, broke in pieces:
            expected: int | None = None
            for first in range(0, len(samples) - WINDOW_FRAMES, BLOCK_FRAMES):
                block = samples[first : first + BLOCK_FRAMES + WINDOW_FRAMES]
                cut = [(began + first / rate_hz, rate_hz, block, broke)]
                rows = self._track_near(cut, expected)
                if np.isnan(rows[:, 1]).all() and np.mean(block**2) >= SILENT_POWER:
                    rows = self._track_near(cut, self.find(block))
                placed = rows[~np.isnan(rows[:, 1])]
                begins = began + (first + BLOCK_FRAMES) / rate_hz
                expected = round((placed[-1, 1] + begins - placed[-1, 0]) * RATE_HZ) if len(placed) else None
                found.append(rows)
        return np.concatenate(found) if found else np.zeros((0, 3))

    def _track_near(self, cut: list[Piece], place: int | None) -> np.ndarray:
        if place is None:
            began, rate_hz, block, _ = cut[0]
            middles = began + (np.arange(0, len(block) - WINDOW_FRAMES, HOP_FRAMES) + WINDOW_FRAMES / 2) / rate_hz
            return np.stack([middles, np.full(len(middles), np.nan), np.zeros(len(middles))], 1)
        begin = max(0, place - MARGIN_FRAMES)
        near = np.asarray(self.samples[begin : place + BLOCK_FRAMES + WINDOW_FRAMES + MARGIN_FRAMES], float)
        if len(near) <= WINDOW_FRAMES:
            return self._track_near(cut, None)
        rows: np.ndarray = truth.track(cut, near, RATE_HZ, N=WINDOW_FRAMES, hop=HOP_FRAMES)
        rows[:, 1] += begin / RATE_HZ
        return rows


def _coarse(samples: np.ndarray) -> np.ndarray:
    whole = len(samples) // COARSE * COARSE
    return np.asarray(samples[:whole].reshape(-1, COARSE).mean(1), float)


def apart_us(one: np.ndarray, other: np.ndarray, period_s: float) -> list[tuple[float, float]]:
    """Return (time, by how much one card was further, µs); the source's end is followed by its beginning."""
    apart = truth.compare(one, other)
    around_s = (apart[:, 1] + period_s / 2) % period_s - period_s / 2
    return [(float(t), float(s * 1e6)) for t, s in zip(apart[:, 0], around_s, strict=True)]


def silences(pieces: Sequence[Piece], since: float, until: float) -> list[tuple[float, float]]:
    """Return from when to when a card was silent, or did not play at all, to :data:`BIN_S`."""
    energy = np.zeros(max(0, round((until - since) / BIN_S)))
    for began, rate_hz, samples, _ in pieces:
        bins = ((began - since + np.arange(len(samples)) / rate_hz) / BIN_S).astype(int)
        inside = (bins >= 0) & (bins < len(energy))
        energy += np.bincount(bins[inside], samples[inside] ** 2, len(energy))
    silent = np.concatenate([[False], energy < SILENT_POWER * BIN_S * RATE_HZ, [False]])
    edges = np.flatnonzero(np.diff(silent.astype(int)))
    return [(since + a * BIN_S, since + b * BIN_S) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def give_back(prefix: str, until: float) -> None:
    """Free the disk that the captures of a card take up to a time; the files keep their length."""
    for run in runs(prefix):
        last = min(run.frames, int((until - run.began) * run.rate_hz))
        if last > 0 and run.ended > until - GIVEN_BACK_S:
            upto = (run.first_frame + last) * run.channels * np.dtype(truth.DT[run.format][0]).itemsize
            subprocess.run(["fallocate", "-p", "-o", "0", "-l", str(upto), run.file], check=True)


# -- in a process of its own, which waits for everybody else ------------------------------------------

_source: list[Source] = []
_prefixes: list[str] = []


def begin(source: Path, prefixes: Sequence[str]) -> None:
    """Make this process one that listens, behind everybody else."""
    os.nice(19)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _source.append(Source(source))
    _prefixes.extend(prefixes)


def listen(since: float, until: float, place_s: float, *, keep: bool) -> Heard:
    """Return what the cards sounded between two times; the pair is compared in the last ``place_s`` seconds of it."""
    taken = [list(runs(prefix)) for prefix in _prefixes]

    def pieces(card: Sequence[Run], begin: float) -> list[Piece]:
        return [piece for run in card if (piece := run.piece(begin, until)) is not None]

    tracks = [_source[0].track(pieces(card, max(since, until - place_s))) for card in taken]
    heard = Heard(
        since,
        until,
        [silences(pieces(card, since), since, until) for card in taken],
        [[run.ended for run in card if run.broke and since <= run.ended < until] for card in taken],
        apart_us(*tracks, _source[0].seconds),
        time.process_time(),
    )
    if not keep:
        for prefix in _prefixes:
            give_back(prefix, until - 1.0)
    return heard


def make_source(folder: Path, tracks: Sequence[tuple[int, float]], seed: int) -> Path:
    """Write tracks of these rates (Hz) and lengths (s), and all of them as one source; return that."""
    parts = []
    for number, (rate_hz, seconds) in enumerate(tracks, 1):
        samples = measure.source(str(folder / f"{number}.flac"), rate_hz, seconds, seed + number)
        at_card = samples if rate_hz == RATE_HZ else truth.regrid(samples, rate_hz, RATE_HZ)
        parts.append(at_card[: round(seconds * RATE_HZ)].astype(np.float32))
    path = folder.parent / "source.npy"
    np.save(path, np.concatenate(parts))
    return path
