"""Tables and lines as people like to read them, for a terminal and for a pipe.

A table is made once, as :class:`Table`; :func:`plain` sets it in aligned text, and
:mod:`musicsyncd.cli.terminal` in colour. This module keeps clear of ``rich``, which takes
longer to import than most commands take to run.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import click

from musicsyncd.cli.figures import columns_of, shortened

PLAIN_COLUMNS = 100
"""As wide as output is made where nobody says how wide it may be."""

MIN_FLEXIBLE_COLUMNS = 10


@dataclass(frozen=True, slots=True)
class Cell:
    """A text and what it means: ``good``, ``fair``, ``bad``, ``dim``, ``strong`` or nothing in particular."""

    text: str
    style: str = ""


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its title (one or two lines), whether it is set to the right, whether it may be cut."""

    title: str
    right: bool = False
    flexible: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """A line across all columns, of one or more pieces."""

    pieces: tuple[Cell, ...]

    @classmethod
    def of(cls, *pieces: Cell | str) -> Line:
        """Return a line of texts and cells."""
        return cls(tuple(Cell(piece) if isinstance(piece, str) else piece for piece in pieces))


@dataclass(slots=True)
class Table:
    """Columns, and rows of as many cells or :class:`Line` across them. A shorter row's last cell runs on."""

    columns: Sequence[Column]
    rows: list[tuple[Cell, ...] | Line] = field(default_factory=list)
    indent: int = 0


def layout(tables: Sequence[Table], columns: int) -> tuple[list[int], int]:
    """Return the widths that tables of the same columns share, and the gap between them.

    Two blanks are between columns, one where they would not fit otherwise; then flexible columns shrink.

    Args:
        tables: they are set below each other.
        columns: that there are.
    """
    first = tables[0]
    widths = [max(columns_of(line) for line in column.title.split("\n")) for column in first.columns]
    for table in tables:
        for row in table.rows:
            if isinstance(row, tuple):
                cells = row if len(row) == len(widths) else row[:-1]
                for index, cell in enumerate(cells):
                    widths[index] = max(widths[index], columns_of(cell.text))
    gap = 2 if first.indent + sum(widths) + 2 * (len(widths) - 1) <= columns else 1
    excess = first.indent + sum(widths) + gap * (len(widths) - 1) - columns
    for index in sorted(range(len(widths)), key=lambda i: -widths[i]):
        if excess > 0 and first.columns[index].flexible:
            cut = min(excess, max(0, widths[index] - MIN_FLEXIBLE_COLUMNS))
            widths[index] -= cut
            excess -= cut
    return widths, gap


def header_rows(table: Table) -> list[tuple[Cell, ...]]:
    """Return the titles as rows of cells, aligned to the bottom."""
    titles = [column.title.split("\n") for column in table.columns]
    height = max(len(title) for title in titles)
    padded = [[""] * (height - len(title)) + title for title in titles]
    return [tuple(Cell(title[row], "dim") for title in padded) for row in range(height)]


def set_row(row: tuple[Cell, ...], table: Table, widths: Sequence[int], gap: int) -> Line:
    """Return a row's cells padded to their columns, as one line."""
    pieces = [Cell(" " * table.indent)]
    for index, cell in enumerate(row):
        if index == len(row) - 1 and len(row) < len(widths):
            pieces.append(cell)
            break
        text = shortened(cell.text, widths[index])
        blank = " " * (widths[index] - columns_of(text))
        last = index == len(widths) - 1
        right = table.columns[index].right
        text = blank + text if right else text if last else text + blank
        pieces.append(Cell(text if last else text + " " * gap, cell.style))
    return Line(tuple(pieces))


def lines_of(table: Table, widths: Sequence[int], gap: int, *, header: bool = True) -> list[Line]:
    """Return a table as lines, its titles first."""
    lines = [set_row(row, table, widths, gap) for row in header_rows(table)] if header else []
    lines += [row if isinstance(row, Line) else set_row(row, table, widths, gap) for row in table.rows]
    return lines


def plain(lines: Sequence[Line], columns: int | None = PLAIN_COLUMNS) -> str:
    """Return lines as text without colour, cut to so many columns if any number is given."""
    texts = ["".join(piece.text for piece in line.pieces).rstrip() for line in lines]
    return "\n".join(text if columns is None else shortened(text, columns) for text in texts)


def print_table(table: Table) -> None:
    """Print a table: in colour on a terminal, as aligned text elsewhere."""
    print_lines(lines_of(table, *layout([table], width())))


def print_lines(lines: Sequence[Line]) -> None:
    """Print lines: in colour on a terminal, as text elsewhere."""
    if on_terminal():
        from musicsyncd.cli.terminal import show

        show(lines)
    else:
        # Nothing is cut in a pipe: whoever reads it may want the whole title.
        click.echo(plain(lines, None))


def print_json(value: Any, *, one_line: bool = False) -> None:  # noqa: ANN401 - whatever the host said
    """Print a value for programs."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=None if one_line else 2))


def on_terminal() -> bool:
    """Return whether a person reads the output."""
    return sys.stdout.isatty()


def fits(columns: int, rows: int, text: str) -> bool:
    """Return whether a terminal is there that has so many columns and rows, and all characters of a text."""
    import shutil

    size = shutil.get_terminal_size((0, 0))
    try:
        text.encode(sys.stdout.encoding)
    except UnicodeEncodeError:
        return False
    return on_terminal() and size.columns >= columns and size.lines >= rows


def width() -> int:
    """Return how many columns there are."""
    if not on_terminal():
        return PLAIN_COLUMNS
    import shutil

    return shutil.get_terminal_size((PLAIN_COLUMNS, 24)).columns
