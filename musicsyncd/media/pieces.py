"""Some stretches of a file, one after the other, as if they were all of it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import BinaryIO

from musicsyncd.media.positioned import PositionedFile


class Pieces(PositionedFile):
    """A seekable file made of stretches of another one.

    Args:
        file: the other one; its position is changed, and it is left open.
        stretches: offsets of each one's first byte and of the one behind its last; none is empty.
    """

    def __init__(self, file: BinaryIO, stretches: Sequence[tuple[int, int]]) -> None:
        self._file = file
        self._stretches = stretches
        self._starts = [0, *accumulate(end - start for start, end in stretches)]
        super().__init__(self._starts[-1])

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Fill a buffer as far as there is something, and return the bytes read."""
        view, done = memoryview(buffer).cast("B"), 0
        while done < len(view) and self._position < self._size_bytes:
            index = bisect_right(self._starts, self._position) - 1
            start, end = self._stretches[index]
            offset = start + self._position - self._starts[index]
            self._file.seek(offset)
            block = self._file.read(min(end - offset, len(view) - done))
            if not block:
                break
            view[done : done + len(block)] = block
            done += len(block)
            self._position += len(block)
        return done
