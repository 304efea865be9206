"""Which pages of an Ogg file are sound, and where in the recording each stretch of them lies.

A page says how many frames have been completed with it (its granule position), counts
itself, and carries a check sum. So a file that has lost pages can be cut into *runs*
without a hole, and each run can be put where it belongs: a decoder that is given the
whole file would move everything behind the first hole forward.

Owns the reading of pages. Must not know codecs beyond the shape of their headers, nor decode.

Source: RFC 3533 (pages), RFC 7845 (Opus: 48,000 granules a second, and the pre-skip), Vorbis I sections 4.2.2 and A.2.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

MAX_RUNS = 1000
"""Stretches between holes; what lies behind so many is not looked for."""

OPUS_GRANULES_HZ = 48_000

_CAPTURE = b"OggS"
_HEADER = struct.Struct("<4sBBqIIIB")
_CRC_OFFSET = 22
_MAX_PAGE_BYTES = 27 + 255 + 255 * 255
MAX_WRONG_PAGES = 10_000
"""Where so many only begin like pages, no more are looked for: each costs a check sum, and damage makes some tens."""

_WINDOW_BYTES = 1 << 20
_TAIL_BYTES = 128 << 10
"""Two of the largest pages: the last one's header is in it."""

_FIRST_BYTES = 512
"""The largest header of a page, and what both codecs say first."""

_NO_GRANULE = -1  # A page on which no packet ends says no position.
_MAX_HEADER_PAGES = 4096
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


@dataclass(frozen=True, slots=True)
class Run:
    """Pages that follow each other without a hole.

    Attributes:
        start: offset in the file of its first byte.
        end: offset behind its last.
        end_granule: position at its end, as its last page says it.
    """

    start: int
    end: int
    end_granule: int


@dataclass(frozen=True, slots=True)
class OggPages:
    """What an Ogg file is made of.

    Attributes:
        codec: ``vorbis``, ``opus`` or empty for something else.
        header_end: offset behind the pages with the codec's headers.
        pre_skip: granules before the recording's first frame (Opus).
        runs: the pages of sound.
        whole: there is one run, and nothing else is between the headers and the end of the file.
        others: pages of another recording or of pictures are in it too.
    """

    codec: str
    header_end: int
    pre_skip: int
    runs: tuple[Run, ...]
    whole: bool
    others: bool = False

    def frame_at(self, granule: int, rate_hz: int) -> int:
        """Return the frame of the recording at a granule position."""
        granules = max(0, granule - self.pre_skip)
        return granules * rate_hz // OPUS_GRANULES_HZ if self.codec == "opus" else granules


@dataclass(frozen=True, slots=True)
class _Page:
    offset: int
    size_bytes: int
    granule: int
    serial: int
    sequence: int
    payload: bytes


def read_pages(file: BinaryIO) -> OggPages:
    """Look through a file's pages, each compared with its check sum; a tenth of a second for 30 MB.

    Args:
        file: seekable, read from its start.

    Raises:
        OSError: it cannot be read.
    """
    pages = _pages(file)
    first = next(pages, None)
    if first is None:
        return OggPages("", 0, 0, (), whole=False)
    codec, _, pre_skip = _codec(first.payload)
    header_end, expected = first.offset + first.size_bytes, first.sequence + 1
    runs: list[Run] = []
    whole, position, in_headers, others = first.offset == 0, header_end, True, False
    for page in pages:
        others = others or page.serial != first.serial
        whole = whole and page.offset == position and not others
        position = page.offset + page.size_bytes
        if page.serial != first.serial:
            continue
        # Both codecs' header packets end on pages that say 0, and sound never does.
        if in_headers and page.granule in (0, _NO_GRANULE) and page.sequence == expected < _MAX_HEADER_PAGES:
            header_end = position
        else:
            in_headers = False
            _extend(runs, page, joins=page.sequence == expected)
        expected = page.sequence + 1
        if len(runs) > MAX_RUNS:
            break
    placed = tuple(run for run in runs if run.end_granule != _NO_GRANULE)
    whole = whole and len(runs) == 1 and position == file.seek(0, os.SEEK_END)
    return OggPages(codec, header_end, pre_skip, placed, whole, others)


def _extend(runs: list[Run], page: _Page, *, joins: bool) -> None:
    """Add a page to the last run, or begin another one."""
    end = page.offset + page.size_bytes
    if joins and runs and runs[-1].end == page.offset:
        granule = runs[-1].end_granule if page.granule == _NO_GRANULE else page.granule
        runs[-1] = Run(runs[-1].start, end, granule)
    else:
        runs.append(Run(page.offset, end, page.granule))


def length(file: BinaryIO) -> tuple[int, float] | None:
    """Return granules a second and seconds of a Vorbis or Opus file by its first and its last page, or None for others.

    Nothing is compared with its check sum: whoever plays it does that.

    Args:
        file: seekable, read from its start.

    Raises:
        OSError: it cannot be read.
    """
    file.seek(0)
    head = file.read(_FIRST_BYTES)
    if len(head) < _HEADER.size or not head.startswith(_CAPTURE):
        return None
    *_, serial, _, _, segments = _HEADER.unpack_from(head)
    body = _HEADER.size + segments
    codec, rate_hz, pre_skip = _codec(head[body : body + sum(head[_HEADER.size : body])])
    if not codec or not rate_hz:
        return None
    file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
    tail = file.read(_TAIL_BYTES)
    at = len(tail)
    while (at := tail.rfind(_CAPTURE, 0, at)) >= 0:
        if len(tail) - at < _HEADER.size:
            continue
        _, version, _, granule, of_serial, *_ = _HEADER.unpack_from(tail, at)
        # Another stream's page, one in which no packet ends (−1), or four bytes of sound that look like a page.
        if version == 0 and of_serial == serial and granule > pre_skip:
            return rate_hz, (granule - pre_skip) / rate_hz
    return None


def _codec(payload: bytes) -> tuple[str, int, int]:
    """Return what a recording's first packet says: codec, granules a second, and those before the first frame."""
    if payload.startswith(b"\x01vorbis") and len(payload) >= 16:
        return "vorbis", int.from_bytes(payload[12:16], "little"), 0
    if payload.startswith(b"OpusHead") and len(payload) >= 12:
        return "opus", OPUS_GRANULES_HZ, int.from_bytes(payload[10:12], "little")
    return "", 0, 0


def _pages(file: BinaryIO) -> Iterator[_Page]:
    """Yield every page whose check sum is right, wherever it is found."""
    file.seek(0)
    window, window_offset = file.read(_WINDOW_BYTES), 0
    position = wrong = 0  # The position is in the window.
    while True:
        if len(window) - position < _MAX_PAGE_BYTES and (more := file.read(_WINDOW_BYTES)):
            window_offset += position
            window, position = window[position:] + more, 0
        found = window.find(_CAPTURE, position)
        if found < 0:
            if len(window) - position < _MAX_PAGE_BYTES:
                return
            position = len(window) - len(_CAPTURE) + 1
            continue
        if found > position:  # A page may begin here that needs more bytes than the window has left.
            position = found
            continue
        page = _page_at(window, position, window_offset)
        if page is not None:
            yield page
            position += page.size_bytes
            continue
        position += 1
        wrong += 1
        if wrong >= MAX_WRONG_PAGES:
            return


def _page_at(window: bytes, position: int, window_offset: int) -> _Page | None:
    """Return the page that begins at a place, or None when there is none or its check sum is wrong."""
    if len(window) - position < _HEADER.size:
        return None
    _, _, _, granule, serial, sequence, check, segments = _HEADER.unpack_from(window, position)
    body = position + _HEADER.size + segments
    end = body + sum(window[body - segments : body])
    if end > len(window):
        return None
    page = window[position:end]
    if _check_sum(page) != check:
        return None
    return _Page(window_offset + position, end - position, granule, serial, sequence, page[body - position :])


def _check_sum(page: bytes) -> int:
    """Return RFC 3533's check sum: CRC-32 with the highest bit first, from 0 and without the final inversion.

    zlib has the same polynomial with the lowest bit first, so bytes and result are turned around.
    """
    zeroed = page[:_CRC_OFFSET] + bytes(4) + page[_CRC_OFFSET + 4 :]
    turned = zlib.crc32(zeroed.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{turned:032b}"[::-1], 2)
