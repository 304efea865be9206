"""Recordings turned into FLAC, once, where peers could not agree on what their frame n is.

What is exact as it is travels as it is: samples without a codec (WAV, AIFF and their kin), FLAC, and
Ogg Opus without damage, whose seeks were right in every case that was tried. MP3, Vorbis, AAC and
whatever else is decoded here from its first frame to its last, with the encoder's delay and padding
left out, and written as FLAC: 24 bits where the source has more than 16, else 16. A lossy codec is
given 16; its own noise is far above those of the 16th bit.

Owns which recordings are converted and how their samples become whole numbers. How they are decoded
is in :mod:`musicsyncd.media.sources` and :mod:`musicsyncd.media.libav`; where the FLAC files are kept
is :mod:`musicsyncd.media.converted`'s.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

import numpy as np

from musicsyncd.errors import MediaError
from musicsyncd.media.inspect import TrackInfo, mtime_ns, shown, sound_reason, soundfile_module
from musicsyncd.media.libav import LibavSource
from musicsyncd.media.sources import Block, SoundfileSource, Source, is_whole_ogg

CONVERTER_VERSION = 1
"""Rises when the same recording is turned into another FLAC file than before."""

COMPRESSION = 0.625
"""Of 0…1: level 5 of FLAC's 8. Level 2 was no quicker and 17 % larger here, level 8 took twice as long for 2 % less."""

MAX_REMEMBERED = 1000
"""Files whose pages were looked through: more than are about to play in all rooms together."""

MAX_FLAC_RATE_HZ = 655_350
MAX_FLAC_CHANNELS = 8

_PLAIN_SUBTYPES = frozenset(
    {"PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"},
)


class CancelledError(Exception):
    """Nobody wants the conversion to go on."""


Progress = Callable[[int, int], None]
"""Told the frames that are done, and how many there are as far as is known; may raise CancelledError."""


def must_convert(info: TrackInfo) -> bool:
    """Return whether a recording is to be turned into FLAC before peers may have it.

    All pages of an Opus file are read for that, and the answer counts as long as its size and time of change do.

    Raises:
        MediaError: it cannot be read.
    """
    if info.format == "OGG":
        # libsndfile plays on behind a hole as if there were none, and peers would differ by how they came there.
        return info.subtype != "OPUS" or not _is_whole(info.path, info.size_bytes, info.mtime_ns)
    return info.subtype not in _PLAIN_SUBTYPES


@lru_cache(maxsize=MAX_REMEMBERED)
def _is_whole(path: Path, _size_bytes: int, _mtime_ns: int) -> bool:
    return is_whole_ogg(path)


def convert(info: TrackInfo, target: BinaryIO, progress: Progress) -> list[str]:
    """Decode a recording and write it as FLAC.

    Args:
        info: which.
        target: an empty file to be written, seekable, left open.
        progress: told after each block.

    Returns:
        What is wrong with the recording, a line each; what is lost is silence.

    Raises:
        MediaError: it cannot be read, holds nothing that decodes, was changed meanwhile, or cannot be written.
        CancelledError: progress raised it.
    """
    is_libav = info.format.startswith("LIBAV-")
    source: Source = LibavSource(info.path, info.format.removeprefix("LIBAV-")) if is_libav else SoundfileSource(info)
    try:
        if source.channels > MAX_FLAC_CHANNELS or source.rate_hz > MAX_FLAC_RATE_HZ:
            held = f"{source.channels} channels at {source.rate_hz} Hz"
            raise MediaError(f"{shown(info.path)} has {held}: such sound cannot be turned into FLAC")
        frames = _write(source, target, progress)
    finally:
        source.close()
    if not frames:
        raise MediaError(f"{shown(info.path)} holds nothing that can be decoded: copy it again")
    status = info.path.stat() if info.path.exists() else None
    if status is not None and (status.st_size, mtime_ns(status)) != (info.size_bytes, info.mtime_ns):
        raise MediaError(f"{shown(info.path)} is being written to: play it when it is finished")
    return source.faults


def _write(source: Source, target: BinaryIO, progress: Progress) -> int:
    """Write all frames of a source as FLAC and return how many there were."""
    soundfile, kept, frames = soundfile_module(), _Kept(target), 0
    kind = {16: "PCM_16", 24: "PCM_24"}[source.bits]
    try:
        with soundfile.SoundFile(
            kept, "w", source.rate_hz, source.channels, kind, format="FLAC", compression_level=COMPRESSION
        ) as flac:
            for block in source.blocks():
                if not len(block):
                    continue
                flac.write(_whole(block, source.bits))
                kept.complain()
                frames += len(block)
                progress(frames, source.frames)
    except soundfile.SoundFileError as error:
        raise MediaError(f"FLAC cannot be written: {kept.error or sound_reason(error)}") from None
    kept.complain()
    return frames


def _whole(block: Block, bits: int) -> Block:
    """Return samples as whole numbers: int16, or int32 of which the upper 24 bits are used."""
    if block.dtype == np.int16:
        return block if bits == 16 else block.astype(np.int32) << 16
    if block.dtype == np.int32:
        return block if bits == 24 else (block >> 16).astype(np.int16)
    # Not finite numbers come from damage only; silence is the least harm.
    samples = np.nan_to_num(block.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    # Decoders of lossy codecs go beyond full scale now and then, by a decibel or so: that is cut, all else is exact.
    scale = 1 << (bits - 1)
    scaled = np.clip(np.rint(samples.astype(np.float64) * scale), -scale, scale - 1)
    return scaled.astype(np.int16) if bits == 16 else scaled.astype(np.int32) << 8


class _Kept:
    """The file object that libsndfile writes to.

    libsndfile calls it from C, through which no exception passes: an error is kept, and
    from then on nothing is written.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.error = ""

    def complain(self) -> None:
        """Raise what went wrong."""
        if self.error:
            raise MediaError(f"FLAC cannot be written: {self.error}")

    def write(self, data: bytes) -> int:
        if not self.error:
            try:
                self._file.write(data)
            except OSError as error:
                self.error = os.strerror(error.errno or 0)
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()
