"""How the sync error went of late: the host's record of it, and a line that draws it.

Owns reading ``GET /api/history`` and the drawing with block characters. A cell of the line stands for a stretch of
time and is as high as the largest error in it, so that no outlier is lost; a stretch without a figure is blank.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlencode

from musicsyncd.cli import figures
from musicsyncd.cli.given import Json, number_at, numbers_at, objects_at, text_at
from musicsyncd.cli.output import Cell, Line
from musicsyncd.cli.status_view import sync_style
from musicsyncd.system.control_client import api_path

HOUR_S = 3600
WATCHED_S = 300
"""What a live view shows: as long as the host keeps a figure for every second."""

IN_STEP = ("together", "catching up")
"""The states in which a sync error means something."""

MAX_POINTS = 4096
"""Of one speaker: an hour at one a second."""

MAX_SPEAKERS = 256
LEVELS = "▁▂▃▄▅▆▇█"
_LEAST_FULL_US = 50.0
"""So high is the line at least: what is smaller than this is noise, and shall look flat."""

_MARGIN_COLUMNS = 34
_MOST_COLUMNS = 60
_INDENT = "    "


def history_path(seconds: int, peer: str | None = None) -> str:
    """Return what to ask the host for the last so many seconds, of one speaker or all."""
    asked = {"seconds": str(seconds)} | ({} if peer is None else {"peer": peer})
    return f"{api_path('history')}?{urlencode(asked)}"


@dataclass(slots=True)
class Trend:
    """One speaker's sync errors with their times.

    Attributes:
        points: time in seconds of whatever clock, and microseconds; None where there is no figure.
    """

    points: deque[tuple[float, float | None]] = field(default_factory=lambda: deque(maxlen=MAX_POINTS))

    def cells(self, now_s: float, window_s: float, columns: int) -> list[float | None]:
        """Return the largest error of each stretch, oldest first, microseconds without sign; None without a figure.

        Args:
            now_s: by the clock of the points.
            window_s: what all columns together stand for.
            columns: how many stretches.
        """
        # Stretches begin at multiples of their length, or every cell would change with every look.
        width_s = window_s / columns
        last = math.floor(now_s / width_s)
        found: list[float | None] = [None] * columns
        for at_s, error_us in self.points:
            index = columns - 1 - (last - math.floor(at_s / width_s))
            if error_us is not None and 0 <= index < columns:
                found[index] = max(found[index] or 0.0, abs(error_us))
        return found


class Trends:
    """The speakers' trends: begun from the host's record, and gone on with from its status."""

    def __init__(self) -> None:
        self._trends: dict[str, Trend] = {}

    def begin(self, history: Json, now_s: float) -> None:
        """Take the host's record in place of what was here.

        Args:
            history: as the host answers.
            now_s: by the clock that :meth:`note` is given.
        """
        self._trends = {}
        for peer in objects_at(history, "peers")[:MAX_SPEAKERS]:
            trend = self._trends[text_at(peer, "id")] = Trend()
            trend.points.extend((now_s - ago_s, error_us) for ago_s, error_us in errors_of(peer))

    def note(self, peers: Iterable[Json], now_s: float) -> None:
        """Take the speakers of a status."""
        for peer in peers:
            identity = text_at(peer, "id")
            if identity in self._trends or len(self._trends) < MAX_SPEAKERS:
                error_us = number_at(peer, "sync_error_us") if peer.get("state") in IN_STEP else None
                self._trends.setdefault(identity, Trend()).points.append((now_s, error_us))

    def lines(self, now_s: float, window_s: float, columns: int) -> dict[str, Line]:
        """Return a line for each speaker that has a figure, by its id, that fits a terminal of so many columns."""
        width = min(_MOST_COLUMNS, columns - _MARGIN_COLUMNS)
        if width < len(LEVELS):
            return {}
        cells = {identity: trend.cells(now_s, window_s, width) for identity, trend in self._trends.items()}
        return {identity: _line(found, window_s) for identity, found in cells.items() if any(one for one in found)}


def errors_of(peer: Json) -> Iterator[tuple[float, float | None]]:
    """Yield how long ago and how large a speaker's sync errors were, oldest first: seconds, microseconds or None.

    Args:
        peer: one of the host's history.
    """
    states = peer.get("state")
    states = states if isinstance(states, list) else []
    for ago_s, error_us, state in zip(
        numbers_at(peer, "ago_s"), numbers_at(peer, "sync_error_us"), states, strict=False
    ):
        if ago_s is not None:
            yield ago_s, error_us if state in IN_STEP else None


def full_us(largest_us: float) -> float:
    """Return for how much a full block stands: a round figure, 1, 2 or 5 times a power of ten, and 50 µs at least."""
    power = 10.0 ** math.floor(math.log10(max(largest_us, _LEAST_FULL_US)))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= max(largest_us, _LEAST_FULL_US))


def _line(cells: Sequence[float | None], window_s: float) -> Line:
    largest_us = max(one for one in cells if one is not None)
    whole_us = full_us(largest_us)
    drawn = [
        Cell(" ")
        if one is None
        else Cell(LEVELS[min(int(one / whole_us * len(LEVELS)), len(LEVELS) - 1)], sync_style(one))
        for one in cells
    ]
    said = f"  {figures.span_s(window_s)}, at most {figures.duration_us(largest_us)}"
    return Line((Cell(_INDENT), *drawn, Cell(said, "dim")))
