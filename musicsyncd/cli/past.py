"""What ``peers --history`` shows: how each speaker did in the last hour, in figures."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from musicsyncd.cli import figures
from musicsyncd.cli.given import Json, numbers_at, objects_at, text_at
from musicsyncd.cli.output import Cell, Column, Line, Table
from musicsyncd.cli.status_view import sync_style, told_apart
from musicsyncd.cli.trends import IN_STEP, MAX_SPEAKERS, Trends, errors_of

_NOTHING = Cell("–", "dim")
_COLUMNS = (
    Column("SPEAKER", flexible=True),
    Column("ROOM", flexible=True),
    Column("THERE", right=True),
    Column("TOGETHER", right=True),
    Column("SYNC ERROR\nMEDIAN", right=True),
    Column("\n95 %", right=True),
    Column("\nMOST", right=True),
    Column("ROUND TRIP\nMEDIAN", right=True),
    Column("\nMOST", right=True),
    Column("LOSS %\nMOST", right=True),
    Column("UNDER-\nRUNS", right=True),
)


def past_table(history: Json, trends: Trends, now_s: float, window_s: float, columns: int) -> Table:
    """Return a row for each speaker of a record, with its line below it.

    Args:
        history: as the host answers.
        trends: begun with it.
        now_s: by the clock of the trends.
        window_s: for which the lines stand.
        columns: of the terminal.
    """
    lines = trends.lines(now_s, window_s, columns)
    table = Table(_COLUMNS)
    for peer in told_apart(objects_at(history, "peers")[:MAX_SPEAKERS]):
        table.rows.append(_row(peer))
        line: Line | None = lines.get(text_at(peer, "id"))
        table.rows += [line] if line is not None else []
    return table


def _row(peer: Json) -> tuple[Cell, ...]:
    states = peer.get("state")
    states = states if isinstance(states, list) else []
    there = [state for state in states if state != "away"]
    playing = [state for state in there if state in (*IN_STEP, "waiting", "no card")]
    errors = sorted(abs(error_us) for _, error_us in errors_of(peer) if error_us is not None)
    trips = sorted(trip for trip in numbers_at(peer, "round_trip_us") if trip)
    losses = [loss for loss in numbers_at(peer, "loss_percent") if loss is not None]
    return (
        Cell(text_at(peer, "name"), "strong"),
        Cell(text_at(peer, "room")),
        _share(len(there), len(states)),
        _share(playing.count("together"), len(playing)),
        *(_error(errors, share) for share in (0.5, 0.95, 1.0)),
        *(_duration(trips, share) for share in (0.5, 1.0)),
        Cell(f"{max(losses):.1f}") if losses else _NOTHING,
        _underruns(numbers_at(peer, "underruns")),
    )


def _share(part: int, whole: int) -> Cell:
    return Cell(f"{100 * part // whole} %") if whole else _NOTHING


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return the value below which such a share (0…1) of the values lies; one of them, there is at least one."""
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


def _error(ordered: Sequence[float], share: float) -> Cell:
    if not ordered:
        return _NOTHING
    error_us = quantile(ordered, share)
    return Cell(figures.duration_us(error_us), sync_style(error_us))


def _duration(ordered: Sequence[float], share: float) -> Cell:
    return Cell(figures.duration_us(quantile(ordered, share))) if ordered else _NOTHING


def _underruns(counted: Sequence[float | None]) -> Cell:
    """Return how many there were within the record: the count begins anew with the speaker's own start."""
    known = [one for one in counted if one is not None]
    if not known:
        return _NOTHING
    new = sum(after - before if after >= before else after for before, after in pairwise(known))
    return Cell(f"{new:.0f}", "fair" if new else "")
