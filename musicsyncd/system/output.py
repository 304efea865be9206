"""Where a peer's blocks go: the one interface of sound cards, the null output and files.

An output asks for blocks from a thread of its own and says when each will sound. It
knows nothing of tracks or hosts.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from musicsyncd.errors import ConfigError, DeviceError
from musicsyncd.system.monotonic import now_ns
from musicsyncd.units import NS_PER_S, ms_to_ns, ns_to_s

log = logging.getLogger(__name__)

RenderBlock = Callable[[npt.NDArray[np.float32], int, int, int, bool, int], int]
"""Fill (frames, channels) that begin with this frame of the card and sound at this local time (0: unknown).
The fourth argument is the local time now, the fifth whether there was an underrun before this block, the last one
when the card was asked for the time that it says (0: unknown). Returns until when the block had best be kept back,
where the card is asked right after it was given one; 0 for no reason to."""

BLOCK_FRAMES = 1024
"""A block of 21 ms at 48 kHz: below it Python's share of the work grows, above it reactions get slow."""

FALLBACK_RATE_HZ = 48_000


class LastingError(DeviceError):
    """An output that waiting does not help: what is asked for makes no sense, or a library is missing."""


class Output(Protocol):
    """A sound card or what stands for one.

    Attributes:
        rate_hz: frames a second that it asks for, by its own crystal.
        channels: of a frame.
        description: for people.
        underruns: blocks that came too late.
    """

    rate_hz: int
    channels: int
    description: str
    underruns: int

    def start(self, render: RenderBlock) -> None:
        """Begin asking for blocks."""

    def healthy(self) -> bool:
        """Return whether it still asks."""
        ...

    def close(self) -> None:
        """Stop at once and let go of it."""


class NullOutput:
    """A perfect sound card that nobody hears.

    Args:
        rate_hz: frames a second.
        buffer_ms: how far ahead of their sounding it asks for frames.
    """

    channels = 2

    def __init__(self, rate_hz: int, buffer_ms: float) -> None:
        self.rate_hz = rate_hz
        self.description = "null"
        self.underruns = 0
        self._buffer_ns = max(ms_to_ns(buffer_ms), 2 * BLOCK_FRAMES * NS_PER_S // rate_hz)
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, render: RenderBlock) -> None:
        """Begin asking for blocks."""
        self._thread = threading.Thread(target=self._run, args=(render,), name="output", daemon=True)
        self._thread.start()

    def healthy(self) -> bool:
        """Return whether the thread lives."""
        return self._thread is not None and self._thread.is_alive()

    def close(self) -> None:
        """Stop."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(1.0)

    def _opened(self, start_local_ns: int) -> None:
        """Take note that frame 0 sounds at this time."""

    def _take(self, block: npt.NDArray[np.float32], frame: int) -> None:
        """Keep a block that begins with ``frame``."""

    def _run(self, render: RenderBlock) -> None:
        block = np.zeros((BLOCK_FRAMES, self.channels), np.float32)
        start_ns = now_ns() + self._buffer_ns
        self._opened(start_ns)
        frame, broken = 0, False
        while not self._stopping.is_set():
            sounds_ns = start_ns + frame * NS_PER_S // self.rate_hz
            ahead_ns = sounds_ns - now_ns()
            if ahead_ns > self._buffer_ns:
                self._stopping.wait(ns_to_s(ahead_ns - self._buffer_ns))
                continue
            if ahead_ns < 0:  # Too late for it: these frames were silence.
                self.underruns += 1
                frame += -(ahead_ns * self.rate_hz // NS_PER_S) + BLOCK_FRAMES
                broken = True
                continue
            render(block, frame, sounds_ns, now_ns(), broken, 0)
            broken = False
            self._take(block, frame)
            frame += BLOCK_FRAMES


class FileOutput(NullOutput):
    """A perfect sound card whose frames go to a WAV file.

    The file's comment says at which local time its first frame sounded. Frames that came too late
    are silence in the file, as they would be on a card.

    Args:
        path: of the file, overwritten.
        rate_hz: frames a second.
        buffer_ms: how far ahead of their sounding it asks for frames.

    Raises:
        LastingError: when the file cannot be written.
    """

    def __init__(self, path: Path, rate_hz: int, buffer_ms: float) -> None:
        super().__init__(rate_hz, buffer_ms)
        import soundfile

        self.description = f"file {path}"
        self._written = 0
        self._broken = False
        try:
            path.open("ab").close()  # The system says better than libsndfile what is wrong with a path.
            self._file = soundfile.SoundFile(path, "w", rate_hz, self.channels, "PCM_24", format="WAV")
        except (soundfile.SoundFileError, OSError) as error:
            why = getattr(error, "strerror", None) or error
            raise LastingError(f"cannot write {path}: {why}; choose another file for --output") from None

    def close(self) -> None:
        """Stop and close the file."""
        super().close()
        self._file.close()

    def _opened(self, start_local_ns: int) -> None:
        self._file.comment = f"first frame at local_ns={start_local_ns}"

    def _take(self, block: npt.NDArray[np.float32], frame: int) -> None:
        if self._broken:
            return
        try:
            while self._written < frame:
                silence = min(frame - self._written, self.rate_hz)
                self._file.write(np.zeros((silence, self.channels), np.float32))
                self._written += silence
            self._file.write(block)
            self._written += len(block)
        except (RuntimeError, OSError) as error:
            self._broken = True  # A full disk must not end the music of the others.
            log.warning("%s: no longer written: %s", self.description, error)


def open_output(output: str, *, device: str | None, rate_hz: int | None, buffer_ms: float) -> Output:
    """Open what ``--output`` names: ``portaudio``, ``null`` or ``file:PATH.wav``.

    Raises:
        ConfigError: for any other word.
        DeviceError: when it cannot be opened now.
        LastingError: when it never can.
    """
    if output == "portaudio":
        from musicsyncd.system.audio import PortAudioOutput

        return PortAudioOutput(device, rate_hz, buffer_ms)
    if output == "null":
        return NullOutput(rate_hz or FALLBACK_RATE_HZ, buffer_ms)
    kind, _, path = output.partition(":")
    if kind == "file" and path:
        return FileOutput(Path(path), rate_hz or FALLBACK_RATE_HZ, buffer_ms)
    raise ConfigError(f"no output {output!r}: it is portaudio, null or file:PATH.wav")
