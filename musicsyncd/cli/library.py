"""The commands ``search`` and ``library``: what the host's library has, and how far it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import click

from musicsyncd.cli import figures, output
from musicsyncd.cli.figures import clean
from musicsyncd.cli.framework import Command
from musicsyncd.cli.options import json_option, with_client
from musicsyncd.cli.output import Cell, Column, Line, Table
from musicsyncd.system.control_client import api_path

if TYPE_CHECKING:
    from musicsyncd.system.control_client import ControlClient

_COLUMNS = (
    Column("TRACK"),
    Column("TITLE", flexible=True),
    Column("ARTIST", flexible=True),
    Column("ALBUM", flexible=True),
    Column("YEAR", right=True),
    Column("LENGTH", right=True),
)
_MAX_REFUSED_SHOWN = 20


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  musicsyncd search miles blu         # every word; the last may be only begun
  musicsyncd play library:17          # what was found, by its number
  musicsyncd play --search miles blu  # all that is found""",
)
@click.argument("words", nargs=-1, required=True, metavar="WORDS...")
@click.option(
    "--limit",
    type=click.IntRange(1, 1000),
    metavar="N",
    default=50,
    show_default=True,
    envvar="MUSICSYNCD_LIMIT",
    help="Show no more than the best N.",
)
@json_option
@with_client
def search(client: ControlClient, words: tuple[str, ...], limit: int, json: bool) -> None:
    """Search the host's library for titles, artists, albums, genres and years."""
    query = urlencode({"words": " ".join(words), "limit": limit}, errors="replace")
    answer = client.get(f"{api_path('library', 'search')}?{query}")
    if json:
        output.print_json(answer)
        return
    tracks: list[dict[str, Any]] = answer.get("tracks", [])
    if not tracks:
        click.echo("nothing found")
        return
    table = Table(_COLUMNS)
    for track in tracks:
        texts = [str(track.get(name) or "") for name in ("id", "title", "artist", "album", "year")]
        texts.append(figures.position_s(float(track.get("duration_s") or 0.0)))
        table.rows.append(tuple(Cell(clean(text), "dim" if index == 0 else "") for index, text in enumerate(texts)))
    if len(tracks) == limit:
        table.rows.append(Line.of(Cell(f"the first {limit}: further words or --limit show others", "dim")))
    output.print_table(table)


@click.command(cls=Command, epilog="\b\nExamples:\n  musicsyncd library\n  musicsyncd library --json")
@json_option
@with_client
def library(client: ControlClient, json: bool) -> None:
    """Show the library's folders, how much is in it, how far the scan is, and what was refused."""
    answer = client.get(api_path("library"))
    if json:
        output.print_json(answer)
        return
    output.print_lines(_lines(answer))


def _lines(answer: dict[str, Any]) -> list[Line]:
    lines = [Line.of(Cell(clean(str(folder)), "strong")) for folder in answer.get("folders", [])]
    things = (("tracks", "track"), ("albums", "album"), ("artists", "artist"))
    counts = [figures.count(int(answer.get(name) or 0), one) for name, one in things]
    lines.append(Line.of(f"  {', '.join(counts)}, {figures.span_s(float(answer.get('duration_s') or 0.0))} of music"))
    lines.append(Line.of(f"  {_scan(answer.get('scan') or {})}"))
    lines += [Line.of("  ", Cell(clean(str(fault)), "bad")) for fault in answer.get("faults", [])]
    refused = [clean(str(line)) for line in answer.get("refused", [])]
    count = int(answer.get("refused_count") or 0)
    if count:
        lines.append(Line.of(f"  {figures.count(count, 'file')} refused:"))
        lines += [Line.of("    ", Cell(line, "dim")) for line in refused[:_MAX_REFUSED_SHOWN]]
        if count > _MAX_REFUSED_SHOWN:
            lines.append(Line.of(f"    and {count - _MAX_REFUSED_SHOWN} more: --json has them"))
    return lines


def _scan(scan: dict[str, Any]) -> str:
    if scan.get("doing") == "reading":
        done, total = int(scan.get("done") or 0), int(scan.get("total") or 0)
        rate, left = float(scan.get("files_per_s") or 0.0), figures.span_s(float(scan.get("left_s") or 0.0))
        return f"reading: {done:,} of {total:,} files, {rate:,.0f} files/s, {left} left"
    if scan.get("looked_s_ago") is None:
        return "looking through the folders"
    return f"up to date, looked at {figures.span_s(float(scan['looked_s_ago']))} ago"
