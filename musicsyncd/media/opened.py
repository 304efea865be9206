"""One track's decoder: libsndfile, reading bytes that may be late, never come or be damaged.

Tells the two kinds of failure apart: bytes that could not be had (tried again later) and
bytes that do not decode (never tried again).

Source: libsndfile through python-soundfile. Its seeks are exact to the sample for WAV, AIFF and
FLAC, and but for 3·10⁻⁸ of full scale for Opus; what it does not seek in exactly, the host turns
into FLAC (:mod:`musicsyncd.media.convert`).
"""

from __future__ import annotations

import contextlib
from typing import Protocol

import numpy as np

from musicsyncd.errors import MediaError
from musicsyncd.media.channels import fold_matrix
from musicsyncd.media.frames import Samples
from musicsyncd.media.inspect import printable, soundfile_module
from musicsyncd.playback.timeline import Track


class ByteSource(Protocol):
    """A seekable binary file. ``interrupt()`` and ``resume()``, as in :class:`~.stored.StoredReader`, are optional."""

    def readinto(self, buffer: memoryview, /) -> int | None:
        """Fill a buffer; fewer bytes than it holds mean the end."""
        ...

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Go to a position."""
        ...

    def tell(self) -> int:
        """Return the position."""
        ...

    def close(self) -> None:
        """Let go of the file."""
        ...


class BytesMissingError(Exception):
    """The bytes of a file could not be had, or nobody wanted to wait; that says nothing about what is in it."""

    def __init__(self, line: str, *, interrupted: bool = False) -> None:
        super().__init__(line)
        self.interrupted = interrupted


class Guard:
    """The file object that libsndfile reads from.

    libsndfile calls it from C, through which no exception passes: an error is kept, and
    from then on the file seems to end.
    """

    def __init__(self, source: ByteSource) -> None:
        self._source = source
        self.error = ""
        self.interrupted = False

    def readinto(self, buffer: memoryview) -> int:
        """Fill a buffer; nothing after an error."""
        if self.error:
            return 0
        try:
            return self._source.readinto(buffer) or 0
        except Exception as error:
            self._keep(error)
            return 0

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a position and return it; −1 after an error."""
        try:
            return self._source.seek(offset, whence)
        except Exception as error:
            self._keep(error)
            return -1

    def tell(self) -> int:
        """Return the position; −1 after an error."""
        try:
            return self._source.tell()
        except Exception as error:
            self._keep(error)
            return -1

    def set_interrupted(self, interrupted: bool) -> None:
        """Break off a read that waits and let no other wait, or let them wait again."""
        self.interrupted = interrupted
        method = getattr(self._source, "interrupt" if interrupted else "resume", None)
        if method is not None:
            method()

    def close(self) -> None:
        """Let go of the bytes."""
        with contextlib.suppress(Exception):
            self._source.close()

    def _keep(self, error: Exception) -> None:
        self.error = self.error or printable(str(error)) or type(error).__name__


class OpenTrack:
    """A decoder and where it stands.

    Args:
        track: what the bytes are said to be.
        guard: the bytes; closed with the decoder.
        channels: what the frames are folded to.

    Raises:
        BytesMissingError: a byte that is needed for opening could not be had.
        MediaError: the bytes are no such track, or libsndfile is not there; libsndfile's own errors pass too.
    """

    def __init__(self, track: Track, guard: Guard, channels: int) -> None:
        self.guard = guard
        self._position = 0
        try:
            self._sound = soundfile_module().SoundFile(guard)
        finally:
            self._complain()
        if (self._sound.channels, self._sound.samplerate) != (track.channels, track.rate_hz):
            holds = f"{self._sound.channels} channels at {self._sound.samplerate} Hz"
            raise MediaError(f"it holds {holds}, the host said {track.channels} at {track.rate_hz} Hz")
        self._matrix = fold_matrix(track.channels, channels, ogg=self._sound.format == "OGG")

    @property
    def frames(self) -> int:
        """How long the file itself says it is."""
        return int(self._sound.frames)

    def read(self, start_frame: int, out: Samples) -> int:
        """Decode frames from ``start_frame`` on.

        Args:
            start_frame: of the track.
            out: float32 (frames, channels of the card); what is not there is left as it is.

        Returns:
            How many frames there were: fewer than asked for at the end of the file.

        Raises:
            BytesMissingError: a byte that is needed could not be had. Whatever libsndfile says of damage passes.
        """
        count = min(len(out), self.frames - start_frame)
        if count <= 0:
            return 0
        try:
            if self._position != start_frame:
                self._sound.seek(start_frame)
            block = self._sound.read(count, dtype="float32", always_2d=True)
        finally:
            self._complain()
        self._position = start_frame + len(block)
        if not np.isfinite(block.sum()):
            # A float file may hold anything, and one NaN would stay in the resampler's filter.
            block = np.nan_to_num(block, nan=0.0, posinf=1.0, neginf=-1.0)
        out[: len(block)] = block if self._matrix is None else block @ self._matrix
        return len(block)

    def close(self) -> None:
        """Let go of the decoder and the bytes."""
        with contextlib.suppress(Exception):
            self._sound.close()
        self.guard.close()

    def _complain(self) -> None:
        """Whatever libsndfile made of it, missing bytes are the cause."""
        if self.guard.error:
            raise BytesMissingError(self.guard.error, interrupted=self.guard.interrupted) from None
