"""What the benchmarks print: spreads, limits, ratios, tables, the machine's kind. Knows nothing of what is measured.

A figure of several runs is its median with the least and the most beside it. ``None`` stands for what never
happened and counts as later than everything.
"""

from __future__ import annotations

import math
import os
import platform
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of some runs' figures, and the least and the most of them."""

    median: float
    least: float
    most: float

    def __str__(self) -> str:
        if self.least == self.most:
            return number(self.median)
        return f"{number(self.median)} ({number(self.least)} … {number(self.most)})"


@dataclass(frozen=True, slots=True)
class Limit:
    """What a figure may be at the most, or with ``at_least`` has to be at the least."""

    value: float
    at_least: bool = False

    def holds(self, value: float | None) -> bool:
        """Say whether a figure is within the limit; what never happened is not."""
        if value is None:
            return False
        return value >= self.value if self.at_least else value <= self.value

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {number(self.value)}"


def spread(values: Iterable[float | None]) -> Spread:
    """Return the spread of at least one run's figures."""
    known = [math.inf if value is None else value for value in values]
    return Spread(statistics.median(known), min(known), max(known))


def number(value: float) -> str:
    """Return a figure with three digits that count, never with an exponent for what is large."""
    if math.isinf(value):
        return "never"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def ratio(ours: float, theirs: float) -> str:
    """Return how many times one figure is the other, ``1 : 380`` or ``2.6 : 1``; empty if that is none."""
    if not (0 < ours < math.inf and 0 < theirs < math.inf):
        return ""
    times = max(ours, theirs) / min(ours, theirs)
    words = f"{times:.0f}" if times >= 10 else f"{times:.2g}"
    return f"1 : {words}" if ours < theirs else f"{words} : 1"


def plain(rows: Sequence[Sequence[str]]) -> str:
    """Return rows of cells, the first of them the heads, in columns for a terminal."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.insert(1, "-" * max(len(line) for line in lines))
    return "\n".join(f"  {line}" for line in lines)


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Return the same rows as a table of Markdown."""
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    lines.insert(1, "|" + "---|" * len(rows[0]))
    return "\n".join(lines)


def machine_kind() -> str:
    """Return what figures of speed depend on, in one line."""
    cores = os.cpu_count() or 1
    return (
        f"{cores} core{'s' if cores > 1 else ''}, {platform.machine()}, "
        f"{platform.python_implementation()} {platform.python_version()}, {platform.system()} {platform.release()}"
    )
