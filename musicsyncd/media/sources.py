"""Recordings decoded once from their first frame to their last, by libsndfile and without a single seek.

Seeks are what cannot be trusted. Measured with libsndfile 1.2.2: one Vorbis seek in ten
lands on another frame where blocks of both lengths follow each other, and most seeks in an
MP3 of variable bit rate do. python-soundfile seeks after every read to where the read
ended, so even reading such a file in blocks is wrong; here it is told that files cannot
seek.

* MP3: encoder delay and padding that a LAME header names are taken off by libsndfile
  (mpg123). Without such a header it guesses the length from the first frames' bit rate and
  stops there: such a file is shown to it as endless, and ends where its bytes do.
  After damage it gives up, and is shown the file without the bytes that are no sound
  (:mod:`musicsyncd.media.mpeg`).
* Vorbis and Opus: what is damaged is decoded in runs (:mod:`musicsyncd.media.ogg`), each put
  where its granule position says.

Knows nothing of what the frames are for, of FLAC and of folders.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import numpy.typing as npt

from musicsyncd.errors import MediaError
from musicsyncd.media.channels import from_ogg_order
from musicsyncd.media.inspect import TrackInfo, after_id3, shown, sound_reason, soundfile_module
from musicsyncd.media.mpeg import sound_stretches
from musicsyncd.media.ogg import OggPages, Run, read_pages
from musicsyncd.media.opened import ByteSource, Guard
from musicsyncd.media.pieces import Pieces

BLOCK_FRAMES = 16_384
"""Decoded at a time: so seldom does Python come in between, and so short does it hold its lock then."""

MAX_ERRORS = 16
"""Reads that fail before the rest of a recording is given up."""

_ENDLESS_BYTES = (1 << 63) - 1
"""libsndfile's SF_COUNT_MAX: a file of this length is a stream, and its frames are not counted ahead."""

Block = npt.NDArray[Any]
"""float32 ±1, or whole int16 or int32 samples, (frames, channels)."""


class Source(Protocol):
    """A recording to be decoded once.

    Attributes:
        rate_hz: frames a second.
        channels: in the order of WAV and FLAC.
        bits: that its samples deserve: 16 or 24.
        frames: how long it says it is; 0 when it does not know.
        faults: what was wrong, a line each; complete when the blocks have ended.
    """

    rate_hz: int
    channels: int
    bits: int
    frames: int
    faults: list[str]

    def blocks(self) -> Iterator[Block]:
        """Yield all frames in order."""
        ...

    def close(self) -> None:
        """Let go of the file."""
        ...


class _Endless:
    """A file that is said to be as long as can be; where its bytes end, reads come back empty."""

    def __init__(self, file: ByteSource) -> None:
        self._file = file
        self._asked_for_end = False
        self.close = file.close

    def readinto(self, buffer: memoryview) -> int | None:
        return self._file.readinto(buffer)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._asked_for_end = whence == os.SEEK_END and offset == 0
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return _ENDLESS_BYTES if self._asked_for_end else self._file.tell()


@cache
def _straight_type() -> Any:  # noqa: ANN401 (the library has no types)
    """Return soundfile's class with the seek after each read left out."""
    return type("Straight", (soundfile_module().SoundFile,), {"seekable": lambda _self: False})


class SoundfileSource:
    """What libsndfile decodes. See :class:`Source`.

    Args:
        info: what was found out about the file.

    Raises:
        MediaError: the file cannot be read or decoded.
    """

    def __init__(self, info: TrackInfo) -> None:
        self._path = info.path
        try:
            self._file = info.path.open("rb")
        except OSError as error:
            raise MediaError(f"{shown(info.path)} cannot be read: {error.strerror or error}") from None
        self.faults: list[str] = []
        self.rate_hz, self.channels, self.frames = info.rate_hz, info.channels, info.frames
        # ALAC in a CAF says its bits; everything else that is not exact is lossy, and 16 bits hold all it has.
        self.bits = 24 if info.subtype in ("ALAC_20", "ALAC_24", "ALAC_32") else 16
        self._ogg = info.format == "OGG"
        self._dtype = {24: "int32", 16: "int16"}[self.bits] if info.subtype.startswith("ALAC") else "float32"
        self._mp3 = info.format == "MP3"
        self._endless = self._mp3 and not _says_its_length(self._file)
        if self._endless:
            self.frames = 0

    def blocks(self) -> Iterator[Block]:
        """Yield all frames in order."""
        if self._ogg:
            pages = read_pages(self._file)
            if not pages.whole and pages.runs and pages.codec:
                yield from self._placed(pages)
                return
        self._file.seek(0)
        done = 0
        for block in self._decoded(_Endless(self._file) if self._endless else self._file):
            done += len(block)
            yield from_ogg_order(block) if self._ogg else block
        if self._mp3 and self.faults:
            yield from self._behind_damage(done)

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def _decoded(self, file: ByteSource) -> Iterator[Block]:
        """Yield what a decoder makes of a file."""
        guard, errors, done = Guard(file), 0, 0
        soundfile = soundfile_module()
        try:
            sound = _straight_type()(guard)
        except (soundfile.SoundFileError, ValueError, RuntimeError) as error:
            raise MediaError(f"{shown(self._path)} cannot be decoded: {guard.error or sound_reason(error)}") from None
        with sound:
            while errors <= MAX_ERRORS:
                try:
                    block = sound.read(BLOCK_FRAMES, dtype=self._dtype, always_2d=True)
                except (soundfile.SoundFileError, RuntimeError) as error:
                    errors += 1
                    self.faults.append(f"damaged at {done / self.rate_hz:.1f} s: {sound_reason(error)}")
                    continue
                if guard.error:
                    raise MediaError(f"{shown(self._path)} cannot be read: {guard.error}")
                if not len(block):
                    return
                done += len(block)
                yield block

    def _behind_damage(self, done: int) -> Iterator[Block]:
        """Yield what comes after a number of frames of an MP3 file, its bytes that are no sound left out."""
        self._file.seek(0)
        start = after_id3(self._file)
        for block in self._decoded(_Endless(Pieces(self._file, sound_stretches(self._file, start)))):
            yield block[done:]
            done = max(0, done - len(block))

    def _placed(self, pages: OggPages) -> Iterator[Block]:
        """Yield the runs of a damaged file where they belong, with silence in the holes."""
        done, end = 0, pages.frame_at(pages.runs[-1].end_granule, self.rate_hz)
        if pages.others:
            self.faults.append("it holds more than one recording: only the first is played")
        for run in pages.runs:
            try:
                start, length = self._place(pages, run)
                if start > done:
                    self.faults.append(f"{(start - done) / self.rate_hz:.2f} s are lost at {done / self.rate_hz:.1f} s")
                    yield from _silence(start - done, self.channels)
                    done = start
                skip = done - start
                for block in self._run(pages, run):
                    yield from_ogg_order(block[skip:])
                    skip = max(0, skip - len(block))
                done = max(done, start + length)
            except MediaError as error:
                self.faults.append(str(error))
        if not done:
            raise MediaError(f"{shown(self._path)} holds nothing that can be decoded: copy it again")
        if done < end:
            yield from _silence(end - done, self.channels)

    def _run(self, pages: OggPages, run: Run) -> Iterator[Block]:
        return self._decoded(Pieces(self._file, [(0, pages.header_end), (run.start, run.end)]))

    def _place(self, pages: OggPages, run: Run) -> tuple[int, int]:
        """Return a run's first frame in the recording, and how many there are."""
        length = sum(len(block) for block in self._run(pages, run))
        if run.start == pages.header_end:
            return 0, length
        # libsndfile counts a run of Opus without its pre-skip, and so leaves out as many frames at its end.
        return max(0, pages.frame_at(run.end_granule - pages.pre_skip, self.rate_hz) - length), length


def is_whole_ogg(path: Path) -> bool:
    """Return whether every page of an Ogg file is there and right, and it holds one recording only.

    Raises:
        MediaError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return read_pages(file).whole
    except OSError as error:
        raise MediaError(f"{shown(path)} cannot be read: {error.strerror or error}") from None


def _silence(frames: int, channels: int) -> Iterator[Block]:
    for first in range(0, frames, BLOCK_FRAMES):
        yield np.zeros((min(BLOCK_FRAMES, frames - first), channels), np.float32)


def _says_its_length(file: BinaryIO) -> bool:
    """Return whether the first frame of an MP3 file is a header that counts the others (Xing, LAME, VBRI)."""
    file.seek(after_id3(file))
    head = file.read(4096)
    return any(word in head for word in (b"Xing", b"Info", b"VBRI"))
