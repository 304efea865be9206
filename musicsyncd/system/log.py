"""How the daemons log: state changes as INFO, faults as WARNING, and never a flood.

Under systemd the journal has the time of each line, so there is none of our own.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from dataclasses import dataclass

_AT_MOST_EVERY_S, _AT_LEAST_EVERY_S = 1.0, 60.0
_MAX_KINDS = 64


def set_up(*, verbose: bool = False) -> None:
    """Log to standard error."""
    under_systemd = "JOURNAL_STREAM" in os.environ or "INVOCATION_ID" in os.environ
    stamp = "" if under_systemd else "%(asctime)s "
    logging.basicConfig(
        level=_level(verbose),
        format=stamp + "%(levelname_short)s%(message)s",
        datefmt="%H:%M:%S",
        stream=sys.stderr,
        force=True,
    )
    for handler in logging.getLogger().handlers:
        handler.addFilter(_name_faults)
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    logging.getLogger("aiohttp").setLevel(logging.ERROR)


def set_verbose(verbose: bool) -> None:
    """Log more, or less, from now on."""
    logging.getLogger().setLevel(_level(verbose))


def _level(verbose: bool) -> int:
    return logging.DEBUG if verbose else logging.INFO


def _name_faults(record: logging.LogRecord) -> bool:
    record.levelname_short = "" if record.levelno <= logging.INFO else f"{record.levelname.lower()}: "
    return True


class Throttle:
    """A line for a fault when it comes, and then less and less often while it lasts, with the count left out."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._kinds: dict[str, _Kind] = {}

    def warning(self, kind: str, message: str) -> None:
        """Log a fault, unless one of its kind was logged a moment ago."""
        now_s = time.monotonic()
        known = self._kinds.get(kind)
        if known is None or now_s - known.last_s > 2 * _AT_LEAST_EVERY_S:
            if len(self._kinds) >= _MAX_KINDS:
                self._kinds.clear()
            known = self._kinds[kind] = _Kind(now_s, now_s)
        elif now_s - known.logged_s < known.every_s:
            known.last_s = now_s
            known.left_out += 1
            return
        more = f" ({known.left_out} more like it)" if known.left_out else ""
        self._log.warning("%s%s", message, more)
        known.logged_s = known.last_s = now_s
        known.left_out = 0
        known.every_s = min(2 * known.every_s, _AT_LEAST_EVERY_S)


@dataclass(slots=True)
class _Kind:
    """A kind of fault: when it was logged, when it was last seen, and what was left out since."""

    logged_s: float
    last_s: float
    left_out: int = 0
    every_s: float = _AT_MOST_EVERY_S
