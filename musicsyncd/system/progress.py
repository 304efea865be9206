"""One line on a terminal that says how far something is, and makes room for the log.

Owns nothing but that line. Where standard error is no terminal there is no line, and who does the work logs instead.
"""

from __future__ import annotations

import logging
import shutil
import sys
from typing import TextIO

_ERASE = "\r\x1b[K"


class ProgressLine(logging.Filter):
    """The line; as a filter of the log's handlers it erases itself before each line of theirs.

    Args:
        stream: a terminal; whatever else it is, nothing is written.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        super().__init__()
        self._stream = sys.stderr if stream is None else stream
        self.on_terminal = self._stream.isatty()
        self._shown = False

    def show(self, text: str) -> None:
        """Show a text in place of the one before."""
        if not self.on_terminal:
            return
        if not self._shown:
            for handler in logging.getLogger().handlers:
                handler.addFilter(self)
        # The last column is left free: some terminals begin a new line as soon as it is written to.
        columns = shutil.get_terminal_size((80, 24)).columns - 1
        self._stream.write(_ERASE + text[:columns])
        self._stream.flush()
        self._shown = True

    def erase(self) -> None:
        """Take the line away."""
        if self._shown:
            self._shown = False
            self._stream.write(_ERASE)
            self._stream.flush()

    def filter(self, record: logging.LogRecord) -> bool:
        """Take the line away for a line of the log, which passes."""
        self.erase()
        return True
