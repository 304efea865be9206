"""A file to be read whose length is known and whose position is a number: what all of ours have in common.

Must not know where the bytes come from: that is its subclasses' ``readinto``.
"""

from __future__ import annotations

import io
import os


class PositionedFile(io.RawIOBase):
    """A seekable file of a known length.

    Args:
        size_bytes: its length.
    """

    def __init__(self, size_bytes: int) -> None:
        super().__init__()
        self._size_bytes = size_bytes
        self._position = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position in bytes."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a position, which may be past the end, and return it.

        Raises:
            ValueError: it is before the start.
        """
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size_bytes}[whence]
        if base + offset < 0:
            raise ValueError(f"a file has no position {base + offset}")
        self._position = base + offset
        return self._position
