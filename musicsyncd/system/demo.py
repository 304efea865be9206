"""A host and two speakers on this machine, as processes of their own, and how far apart they were.

Without a sound card the speakers play into files, and the files are compared: that
judges them by their samples. With a card the samples are gone, and the judgement is
by their own account; both clocks are the same machine's, so a clock offset that a speaker
believes in is its error.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from musicsyncd.errors import DeviceError, MusicSyncError
from musicsyncd.paths import Paths
from musicsyncd.system.supervision import own_command
from musicsyncd.system.tune import write_tune

SPEAKERS = ("left", "right")
LIMIT_US = 1000.0
"""Speakers further apart than a millisecond begin to be heard as two."""

_SETTLE_S = 3.0
_WINDOW_FRAMES = 16_384
_STOP_WITHIN_S = 4.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """How far apart the two speakers were.

    Attributes:
        how: what was compared.
        values: how many comparisons.
        median_us: of the absolute differences.
        p99_us: their 99th percentile.
        max_us: the largest.
    """

    how: str
    values: int
    median_us: float
    p99_us: float
    max_us: float

    @property
    def together(self) -> bool:
        """Nobody could tell them apart."""
        return self.values > 0 and self.p99_us <= LIMIT_US


def has_card() -> bool:
    """Return whether there is a sound card to play on."""
    from musicsyncd.system.audio import list_devices

    try:
        return bool(list_devices())
    except DeviceError:
        return False


class Demo:
    """The three processes and their folder.

    Args:
        tracks: what to play; with none, a tune is made.
        seconds: how long it is going to play, for the tune.
        output: as ``peer --output``; None for a card when there is one, and otherwise files.
    """

    def __init__(self, tracks: Sequence[str], seconds: float, output: str | None = None) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="musicsyncd-demo-"))
        self._processes: list[subprocess.Popen[bytes]] = []
        self._samples: list[dict[str, float]] = []
        self.output = output or ("portaudio" if has_card() else "file")
        self._tracks = [str(Path(one).absolute()) for one in tracks]
        if not self._tracks:
            write_tune(self._folder / "Plucked strings.flac", seconds + 5.0)
            self._tracks = [str(self._folder / "Plucked strings.flac")]
        self.port = _free_port()
        self.paths = Paths.find(state_dir=self._folder / "host")

    def __enter__(self) -> Demo:
        try:
            self._start("host", "--name", "demo", "--state-dir", str(self.paths.state_dir), *self._tracks)
            self._wait_for(self.paths.control_socket)
            for name in SPEAKERS:
                where = f"file:{self._recording(name)}" if self.output == "file" else self.output
                key = ("--key-file", str(self.paths.key_file))
                self._start("peer", "--name", name, "--state-dir", str(self._folder / name), *key, "--output", where)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()
        for path in sorted(self._folder.rglob("*"), reverse=True):
            with contextlib.suppress(OSError):
                path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
        with contextlib.suppress(OSError):
            self._folder.rmdir()

    def check(self) -> None:
        """Make sure that all three still run.

        Raises:
            MusicSyncError: with the last line of the one that does not.
        """
        for process in self._processes:
            if process.poll() is not None:
                log_file = self._folder / f"{self._processes.index(process)}.log"
                lines = log_file.read_text(errors="replace").strip().splitlines()
                said = lines[-1].removeprefix("musicsyncd: ") if lines else ""
                raise MusicSyncError(said or f"a process of the demo ended with {process.returncode}")

    def note(self, status: dict[str, Any]) -> None:
        """Keep what the speakers say of themselves."""
        if status["rooms"] and status["rooms"][0]["mode"] == "playing":
            now = {
                peer["name"]: peer["sync_error_us"] + peer["clock"]["offset_us"]
                for peer in status["peers"]
                if peer["state"] in ("together", "catching up")
            }
            if len(now) == len(SPEAKERS):
                self._samples.append(now)

    def verdict(self) -> Verdict:
        """Stop the processes and return how far apart the speakers were."""
        self._stop()
        if self.output == "file":
            apart_us = _compare(*(self._recording(name) for name in SPEAKERS))
            how = "from the samples that the two speakers put out"
        else:
            first, second = SPEAKERS
            apart_us = np.array([one[first] - one[second] for one in self._samples[3:]])
            how = "by the speakers' own account, against this machine's clock"
        values = np.abs(apart_us)
        if not len(values):
            return Verdict(how, 0, float("nan"), float("nan"), float("nan"))
        p99 = float(np.percentile(values, 99))
        return Verdict(how, len(values), float(np.median(values)), p99, float(values.max()))

    def _recording(self, name: str) -> Path:
        return self._folder / f"{name}.wav"

    def _start(self, command: str, *arguments: str) -> None:
        common = ("--interface", "lo", "--port", str(self.port), "--no-mdns")
        environment = {k: v for k, v in os.environ.items() if not k.startswith("MUSICSYNCD_")}
        with open(self._folder / f"{len(self._processes)}.log", "wb") as out:
            self._processes.append(
                subprocess.Popen(
                    own_command("musicsyncd", command, *common, *arguments),
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=out,
                    env=environment,
                    start_new_session=True,  # Ctrl-C is ours to pass on.
                )
            )

    def _wait_for(self, path: Path) -> None:
        end = time.monotonic() + 15.0
        while not path.exists():
            self.check()
            if time.monotonic() > end:
                raise MusicSyncError("the demo's host did not start within 15 s: is this machine very busy?")
            time.sleep(0.02)

    def _stop(self) -> None:
        for process in reversed(self._processes):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        end = time.monotonic() + _STOP_WITHIN_S
        for process in self._processes:
            try:
                process.wait(max(0.1, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _read(path: Path) -> tuple[int, npt.NDArray[np.float64], int]:
    """Return a recording: local time of its first frame, its samples in mono, its rate."""
    import soundfile

    try:
        with soundfile.SoundFile(path) as file:
            begins = re.search(r"local_ns=(\d+)", file.comment)
            samples = file.read(dtype="float64", always_2d=True).mean(axis=1)
            return int(begins[1]) if begins else 0, samples, file.samplerate
    except (soundfile.SoundFileError, OSError) as error:
        raise MusicSyncError(f"a speaker's recording cannot be read: {error}") from None


def _compare(first: Path, second: Path) -> npt.NDArray[np.float64]:
    """Return how much later the second recording sounds than the first, µs, all along."""
    a_ns, a, rate_hz = _read(first)
    b_ns, b, _ = _read(second)
    shift_frames = (a_ns - b_ns) * rate_hz / 1e9  # Frame k of a sounds with frame k + shift of b.
    whole = round(shift_frames)
    apart_us = []
    heard = np.flatnonzero(np.abs(a) > 1e-3)
    begin = int(heard[0] + _SETTLE_S * rate_hz) if len(heard) else len(a)
    for at in range(begin, len(a) - _WINDOW_FRAMES, _WINDOW_FRAMES // 2):
        other = at + whole
        if other < 0 or other + _WINDOW_FRAMES > len(b):
            continue
        x, y = a[at : at + _WINDOW_FRAMES], b[other : other + _WINDOW_FRAMES]
        if np.abs(x).max() > 1e-3 and np.abs(y).max() > 1e-3:
            apart_us.append((_delay_frames(x, y) - (shift_frames - whole)) / rate_hz * 1e6)
    return np.array(apart_us)


def _delay_frames(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> float:
    """Return by how many frames b lags behind a: the peak of their correlation, refined by the slope of its phase."""
    window = np.hanning(len(a))
    a_bins, b_bins = np.fft.rfft(a * window), np.fft.rfft(b * window)
    cross = a_bins * np.conj(b_bins)
    correlation = np.fft.irfft(cross)
    peak = int(np.argmax(correlation))
    whole = -(peak if peak < len(a) // 2 else peak - len(a))
    omega = 2.0 * np.pi * np.arange(len(cross)) / len(a)
    residual = np.angle(cross * np.exp(-1j * omega * whole))
    weight = np.abs(cross) * (omega < 0.6 * np.pi)
    return float(whole + np.sum(weight * omega * residual) / np.sum(weight * omega**2))
