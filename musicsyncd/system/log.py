"""How the daemons log: state changes as INFO, faults as WARNING, and never a flood.

Under systemd the journal has the time of each line, so there is none of our own.
"""

from __future__ import annotations

import logging
import os
import sys
import time

_EVERY_S = 1.0
_MAX_KINDS = 64


def set_up(*, verbose: bool = False) -> None:
    """Log to standard error."""
    under_systemd = "JOURNAL_STREAM" in os.environ or "INVOCATION_ID" in os.environ
    stamp = "" if under_systemd else "%(asctime)s "
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.INFO,
        format=stamp + "%(levelname_short)s%(message)s",
        datefmt="%H:%M:%S",
        stream=sys.stderr,
        force=True,
    )
    for handler in logging.getLogger().handlers:
        handler.addFilter(_name_faults)
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    logging.getLogger("aiohttp").setLevel(logging.ERROR)


def _name_faults(record: logging.LogRecord) -> bool:
    record.levelname_short = "" if record.levelno <= logging.INFO else f"{record.levelname.lower()}: "
    return True


class Throttle:
    """At most one line a second for each kind of fault, with the count of what was left out."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._last: dict[str, tuple[float, int]] = {}

    def warning(self, kind: str, message: str) -> None:
        """Log a fault unless one of its kind was logged within the last second."""
        now = time.monotonic()
        at, left_out = self._last.get(kind, (-_EVERY_S, 0))
        if now - at < _EVERY_S:
            self._last[kind] = (at, left_out + 1)
            return
        if len(self._last) >= _MAX_KINDS:
            self._last.clear()
        self._last[kind] = (now, 0)
        self._log.warning("%s%s", message, f" ({left_out} more like it)" if left_out else "")
