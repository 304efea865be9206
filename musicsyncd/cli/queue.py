"""The command ``queue``: what plays next in a room."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from musicsyncd.cli import figures, output
from musicsyncd.cli.figures import clean
from musicsyncd.cli.framework import ListingGroup
from musicsyncd.cli.options import json_option, room_option, with_client
from musicsyncd.cli.output import Cell, Column, Line, Table
from musicsyncd.cli.transport import as_the_host_sees, say
from musicsyncd.system.control_client import api_path

if TYPE_CHECKING:
    from musicsyncd.system.control_client import ControlClient

_COLUMNS = (
    Column("", right=True),
    Column("TITLE", flexible=True),
    Column("ARTIST", flexible=True),
    Column("LENGTH", right=True),
)
_POSITION = click.IntRange(min=1)


@click.group(
    cls=ListingGroup,
    epilog="""\b
Examples:
  musicsyncd queue
  musicsyncd queue add ~/Music/Album
  musicsyncd queue add --next song.flac
  musicsyncd queue move 7 2
  musicsyncd queue remove 3 4 5""",
)
def queue() -> None:
    """List and change what plays next in a room."""


@queue.command("list", epilog="\b\nExample:\n  musicsyncd queue --room kitchen --json")
@room_option
@json_option
@with_client
def list_queue(client: ControlClient, room: str, json: bool) -> None:
    """List the queue; ▶ is what plays."""
    answer = client.get(api_path("rooms", room, "queue"))
    if json:
        output.print_json(answer)
        return
    entries: list[dict[str, Any]] = answer.get("entries", [])
    if not entries:
        click.echo("the queue is empty: `musicsyncd queue add TRACK…` fills it")
        return
    table = Table(_COLUMNS)
    for entry in entries:
        table.rows += _rows(entry)
    length = sum(float(entry.get("duration_s") or 0.0) for entry in entries)
    table.rows.append(Line.of(Cell(f"{figures.count(len(entries), 'track')}, {figures.position_s(length)}", "dim")))
    output.print_table(table)


def _rows(entry: dict[str, Any]) -> list[tuple[Cell, ...] | Line]:
    current, fault = bool(entry.get("current")), clean(str(entry.get("fault") or ""))
    style = "dim" if fault else "good" if current else ""
    duration = entry.get("duration_s")
    texts = (
        f"{'▶ ' if current else ''}{entry.get('position')}",
        str(entry.get("title") or entry.get("path")),
        str(entry.get("artist") or ""),
        figures.position_s(float(duration)) if duration else "–",
    )
    rows: list[tuple[Cell, ...] | Line] = [tuple(Cell(clean(text), style) for text in texts)]
    if fault:
        rows.append(Line.of("  └ ", Cell(fault, "bad")))
    return rows


@queue.command(epilog="\b\nExamples:\n  musicsyncd queue add ~/Music/Album\n  musicsyncd queue add --next song.flac")
@click.argument("tracks", nargs=-1, required=True, metavar="TRACK|FOLDER...")
@click.option("--next", "next_", is_flag=True, help="After the current track, not at the end.")
@room_option
@with_client
def add(client: ControlClient, tracks: tuple[str, ...], next_: bool, room: str) -> None:
    """Add tracks or folders, at the end unless --next."""
    body = {"tracks": as_the_host_sees(client, tracks), "next": next_}
    say(client.post(api_path("rooms", room, "queue", "add"), body))


@queue.command(epilog="\b\nExample:\n  musicsyncd queue remove 3 4 5")
@click.argument("positions", nargs=-1, required=True, type=_POSITION, metavar="POSITION...")
@room_option
@with_client
def remove(client: ControlClient, positions: tuple[int, ...], room: str) -> None:
    """Remove tracks by their places, as `musicsyncd queue` numbers them."""
    say(client.post(api_path("rooms", room, "queue", "remove"), {"positions": list(positions)}))


@queue.command(epilog="\b\nExample:\n  musicsyncd queue move 7 2")
@click.argument("from_", type=_POSITION, metavar="FROM")
@click.argument("to", type=_POSITION, metavar="TO")
@room_option
@with_client
def move(client: ControlClient, from_: int, to: int, room: str) -> None:
    """Move a track to another place."""
    say(client.post(api_path("rooms", room, "queue", "move"), {"from": from_, "to": to}))


@queue.command(epilog="\b\nExample:\n  musicsyncd queue clear")
@room_option
@with_client
def clear(client: ControlClient, room: str) -> None:
    """Empty the queue."""
    say(client.post(api_path("rooms", room, "queue", "clear")))
