"""Recordings that libsndfile does not know (AAC, ALAC, WMA and others), decoded by libav through PyAV.

PyAV is the extra ``musicsyncd[formats]`` and is loaded when the first such file comes.

libav takes off the encoder delay that a container tells of (edit list, iTunSMPB, skip samples). What an
encoder padded at the end it leaves on; that is cut here by what the container says: iTunSMPB, or the end of the
last packet where packets are timed to the frame. A packet that does not decode leaves a hole, which the time
stamp of the next one fills with silence.

A container's kind is told by its first bytes and libav is held to that one, because some of the kinds that it
would otherwise try (playlists) fetch what they name from the network.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from musicsyncd.errors import MediaError
from musicsyncd.media.channels import flac_places
from musicsyncd.media.inspect import TrackInfo, header_bytes, mtime_ns, printable, shown
from musicsyncd.media.sources import BLOCK_FRAMES, MAX_ERRORS, Block

EXACT_GAP_FRAMES = 128
"""A hole, where packets are timed to the frame: less than the shortest packet of any codec here."""

VAGUE_GAP_S = 0.05
"""A hole, where packets are timed to milliseconds."""

MAX_GAP_S = 600.0
"""A longer hole is a broken time stamp, and is passed over."""

_ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_STARTS: tuple[tuple[int, bytes, str], ...] = (
    (4, b"ftyp", "mov"),
    (4, b"moov", "mov"),
    (0, _ASF, "asf"),
    (0, b"\x1aE\xdf\xa3", "matroska"),
    (0, b"OggS", "ogg"),
    (0, b"wvpk", "wv"),
    (0, b"MAC ", "ape"),
    (0, b"TTA1", "tta"),
)


def container_kind(path: Path) -> str:
    """Return what libav calls the container that a file's first bytes are of, or empty.

    Raises:
        MediaError: it cannot be read.
    """
    start = header_bytes(path)
    for offset, word, kind in _STARTS:
        if start[offset : offset + len(word)] == word:
            return kind
    # ADTS: twelve set bits, and layer 0, which MPEG audio never has.
    return "aac" if len(start) > 1 and start[0] == 0xFF and start[1] & 0xF6 == 0xF0 else ""


def av_module(path: Path) -> Any:  # noqa: ANN401 (loaded late, and may be missing)
    """Return PyAV.

    Raises:
        MediaError: it is not installed; the line says how it is.
    """
    try:
        import av
    except (ImportError, OSError):
        from musicsyncd.extras import how_to_add

        needs = "needs PyAV to be played (AAC, M4A, ALAC, WMA)"
        raise MediaError(f"{shown(path)} {needs}: {how_to_add('formats')}") from None
    return av


def inspect_libav(path: Path, kind: str) -> TrackInfo:
    """Return what the header of a file says that libsndfile does not know.

    Args:
        path: the file.
        kind: its container, see :func:`container_kind`.

    Raises:
        MediaError: PyAV is not there, or the file holds no sound that libav decodes.
    """
    source = LibavSource(path, kind)
    try:
        status, tags = os.fstat(source.file.fileno()), source.tags
        return TrackInfo(
            path=path,
            title=printable(tags.get("title", "")) or printable(shown(Path(path.stem))),
            artist=printable(tags.get("artist", "")),
            album=printable(tags.get("album", "")),
            size_bytes=status.st_size,
            mtime_ns=mtime_ns(status),
            rate_hz=source.rate_hz,
            frames=source.frames,
            channels=source.channels,
            format=f"LIBAV-{kind}",
            subtype=source.codec,
        )
    finally:
        source.close()


class LibavSource:
    """What libav decodes; see :class:`musicsyncd.media.sources.Source`.

    Args:
        path: the file.
        kind: its container.

    Raises:
        MediaError: PyAV is not there, or the file is nothing that libav decodes.

    Attributes:
        file: what it reads.
        codec: libav's name of it.
        tags: by their names in small letters.
    """

    def __init__(self, path: Path, kind: str) -> None:
        self._path = path
        self._av = av_module(path)
        # Tags in whatever bytes: a title that is no UTF-8 must not hide the music. PyAV 19 takes them all by itself.
        old = int(str(self._av.__version__).partition(".")[0]) < 19
        self._lenient = {"metadata_errors": "surrogateescape"} if old else {}
        self.faults: list[str] = []
        try:
            self.file: BinaryIO = path.open("rb")
        except OSError as error:
            raise MediaError(f"{shown(path)} cannot be read: {error.strerror or error}") from None
        try:
            self._open(kind)
        except (self._av.FFmpegError, ValueError, IndexError) as error:
            self.close()
            raise MediaError(f"{shown(path)} is no music that can be played: {_reason(error)}") from None
        except MediaError:
            self.close()
            raise

    def _open(self, kind: str) -> None:
        self._container = self._av.open(self.file, format=kind, **self._lenient)
        if not self._container.streams.audio:
            raise MediaError(f"{shown(self._path)} holds no sound: there are only pictures or text in it")
        self._stream = self._container.streams.audio[0]
        self.codec = str(self._stream.codec_context.name)
        self.tags = {_readable(key).lower(): _readable(value) for key, value in self._tag_pairs()}
        # The first frame decides: a header may name half the rate of what comes out (HE-AAC).
        first = next(self._container.decode(self._stream), None)
        if first is None:
            raise MediaError(f"{shown(self._path)} holds no sound (0 frames): it was cut off, copy it again")
        self.rate_hz = int(first.sample_rate)
        self._layout = str(first.layout.name)
        self.channels, self._places = flac_places([channel.name for channel in first.layout.channels])
        self.bits = 24 if _base(first.format.name) in ("s32", "dbl") else 16
        self._origin = _seconds(first)
        self.frames = self._frames_said()
        # Opened anew: a seek to the start would not take off the encoder delay in every container.
        self._container.close()
        self.file.seek(0)
        self._container = self._av.open(self.file, format=kind, **self._lenient)
        self._stream = self._container.streams.audio[0]

    def _tag_pairs(self) -> list[tuple[str, str]]:
        return [*self._stream.metadata.items(), *self._container.metadata.items()]

    def _frames_said(self) -> int:
        if self._stream.duration is not None and self._stream.time_base is not None:
            return int(self._stream.duration * self._stream.time_base * self.rate_hz)
        return int((self._container.duration or 0) * Fraction(self.rate_hz, self._av.time_base))

    def blocks(self) -> Iterator[Block]:
        """Yield all frames in order, the encoder's padding left out."""
        done, held = 0, None
        for block, at in self._decoded():
            gap = 0 if at is None else round((at - self._origin) * self.rate_hz) - done
            if self._gap_frames <= gap <= MAX_GAP_S * self.rate_hz:
                if held is not None:
                    yield held
                self.faults.append(f"{gap / self.rate_hz:.2f} s are lost at {done / self.rate_hz:.1f} s")
                for first in range(0, gap, BLOCK_FRAMES):
                    yield np.zeros((min(BLOCK_FRAMES, gap - first), self.channels), block.dtype)
                done, held = done + gap, None
            if held is not None:
                yield held
            done, held = done + len(block), block
        if held is not None:
            end = self._end_frame or done
            # Less than a packet is padding; more would be a header that is wrong.
            yield held[: len(held) - (done - end)] if 0 < done - end < len(held) else held

    def close(self) -> None:
        """Let go of the file."""
        container = getattr(self, "_container", None)
        if container is not None:
            container.close()
        self.file.close()

    def _decoded(self) -> Iterator[tuple[Block, Fraction | None]]:
        """Yield what decodes, with when it sounds; on the way, find out where the recording ends."""
        time_base = Fraction(self._stream.time_base)
        exact = (time_base * self.rate_hz).denominator == 1
        self._gap_frames = EXACT_GAP_FRAMES if exact else round(VAGUE_GAP_S * self.rate_hz)
        declared = _declared_frames(self.tags)
        self._end_frame, errors = declared, 0
        packets = self._container.demux(self._stream)
        while errors <= MAX_ERRORS:
            try:
                packet = next(packets, None)
                if packet is None:
                    return
                if exact and not declared and packet.pts is not None and packet.duration:
                    end = Fraction(packet.pts + packet.duration) * time_base - self._origin
                    self._end_frame = max(self._end_frame, round(end * self.rate_hz))
                frames = packet.decode()
            except (self._av.FFmpegError, ValueError) as error:
                errors += 1
                self.faults.append(f"damaged: {_reason(error)}")
                continue
            for frame in frames:
                yield self._samples(frame), (None if frame.pts is None else _seconds(frame))

    def _samples(self, frame: Any) -> Block:  # noqa: ANN401 (PyAV's)
        """Return a frame's samples in FLAC's order; silence for one that is of another kind than the first."""
        if (int(frame.sample_rate), str(frame.layout.name)) != (self.rate_hz, self._layout):
            self.faults.append("it changes rate or channels in the middle: that part is silent")
            return np.zeros((frame.samples, self.channels), np.float32)
        given = np.asarray(frame.to_ndarray())
        names = len(frame.layout.channels)
        given = given.T if frame.format.is_planar else given.reshape(-1, names)
        if given.dtype == np.uint8:
            given = (given.astype(np.float32) - 128) / 128
        if given.dtype not in (np.int16, np.int32):
            given = given.astype(np.float32)
        block = np.zeros((len(given), self.channels), given.dtype)
        block[:, self._places] = given[:, : len(self._places)]
        return block


def _base(name: str) -> str:
    return name.removesuffix("p")


def _readable(tag: str) -> str:
    """Return a tag with a mark in the place of each byte that is no UTF-8."""
    return tag.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _seconds(frame: Any) -> Fraction:  # noqa: ANN401 (PyAV's)
    return Fraction(frame.pts or 0) * Fraction(frame.time_base)


def _declared_frames(tags: Mapping[str, str]) -> int:
    """Return the frames of the recording without delay and padding as iTunes writes them, or 0."""
    words = tags.get("itunsmpb", "").split()
    try:
        return int(words[3], 16) if len(words) > 3 else 0
    except ValueError:
        return 0


def _reason(error: BaseException) -> str:
    return printable(str(getattr(error, "strerror", "") or error)).rstrip(".") or type(error).__name__
