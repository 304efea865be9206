"""The command ``plot``: the last hour of every speaker as a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from musicsyncd.cli import figures
from musicsyncd.cli.framework import Command
from musicsyncd.cli.given import Json, number_at, numbers_at, objects_at, text_at
from musicsyncd.cli.options import with_client
from musicsyncd.cli.status_view import told_apart
from musicsyncd.cli.trends import HOUR_S, MAX_SPEAKERS, errors_of, history_path
from musicsyncd.errors import ConfigError, ControlError

if TYPE_CHECKING:
    from musicsyncd.system.control_client import ControlClient

SUFFIXES = (".png", ".svg", ".pdf")
_SIZE_INCHES = (10.0, 8.0)
_DOTS_AN_INCH = 120
_US_PER_MS = 1000.0
_NAMES_IN_A_ROW = 6


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  musicsyncd plot hour.png
  musicsyncd plot --minutes 5 --peer kitchen kitchen.svg

\b
It needs matplotlib, the extra "plot"; where that is missing, it says how to
add it.""",
)
@click.argument("file", metavar="OUT.png|.svg|.pdf", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--minutes", type=click.IntRange(1, 60), metavar="N", default=60, show_default=True, help="How long ago.")
@click.option("--peer", metavar="PEER", help="This speaker only.")
@with_client
def plot(client: ControlClient, file: Path, minutes: int, peer: str | None) -> None:
    """Draw sync error, round trip and rate correction of every speaker over the last hour."""
    if file.suffix.lower() not in SUFFIXES:
        raise click.UsageError(f"{file.name!r}: its name must end with {', '.join(SUFFIXES)}, by which it is drawn.")
    try:
        from matplotlib.figure import Figure
    except ImportError:
        from musicsyncd.extras import how_to_add

        raise ConfigError(f"a picture needs matplotlib: {how_to_add('plot')}") from None
    history = client.get(history_path(min(minutes * 60, HOUR_S), peer))
    speakers = told_apart(objects_at(history, "peers")[:MAX_SPEAKERS])
    if not any(figure is not None for one in speakers for figure in numbers_at(one, "round_trip_us")):
        raise ControlError("the host has no record of a speaker for that time: let one play for a while")
    drawn = Figure(figsize=_SIZE_INCHES, dpi=_DOTS_AN_INCH, layout="constrained")
    draw(drawn, history, speakers)
    try:
        drawn.savefig(file)
    except OSError as error:
        raise ConfigError(f"cannot write {file}: {error.strerror or error}") from None
    click.echo(f"{file}: {figures.count(len(speakers), 'speaker')}, {figures.count(minutes, 'minute')}")


def draw(figure: Any, history: Json, speakers: Sequence[Json]) -> None:  # noqa: ANN401 - matplotlib is loaded late
    """Draw the record.

    Args:
        figure: of matplotlib, empty.
        history: as the host answers.
        speakers: those of it that are drawn.
    """
    panels = figure.subplots(3, 1, sharex=True)
    now_s = number_at(history, "now_s") or 0.0
    for speaker in speakers:
        times = [_time(now_s, ago_s) for ago_s in numbers_at(speaker, "ago_s")]
        errors = [error_us for _, error_us in errors_of(speaker)]
        # What a "$" in a name would make of it is mathematics; and a leading "_" would hide it.
        name = " " + text_at(speaker, "name").replace("$", r"\$")
        for panel, values, scale in (
            (panels[0], errors, 1.0),
            (panels[1], numbers_at(speaker, "round_trip_us"), _US_PER_MS),
            (panels[2], numbers_at(speaker, "correction_ppm"), 1.0),
        ):
            paired = list(zip(times, values, strict=False))
            drawn = [math.nan if value is None else value / scale for _, value in paired]
            panel.plot([time for time, _ in paired], drawn, linewidth=1.0, label=name)
    for panel, title in zip(
        panels, ("sync error, µs (late is +)", "round trip, ms", "rate correction, ppm"), strict=True
    ):
        panel.set_ylabel(title)
        panel.grid(alpha=0.3)
    panels[1].set_ylim(bottom=0.0)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=_NAMES_IN_A_ROW)
    figure.autofmt_xdate()


def _time(now_s: float, ago_s: float | None) -> datetime:
    try:
        return datetime.fromtimestamp(now_s - (ago_s or 0.0))
    except (OverflowError, OSError, ValueError):
        return datetime.fromtimestamp(0.0)
