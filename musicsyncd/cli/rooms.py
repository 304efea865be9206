"""The command ``rooms``: groups of speakers that play the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from musicsyncd.cli import output
from musicsyncd.cli.figures import clean
from musicsyncd.cli.framework import ListingGroup
from musicsyncd.cli.options import json_option, with_client
from musicsyncd.cli.output import Cell, Column, Table
from musicsyncd.cli.transport import say
from musicsyncd.config import check_room
from musicsyncd.system.control_client import api_path

if TYPE_CHECKING:
    from musicsyncd.system.control_client import ControlClient

_COLUMNS = (
    Column("ROOM", flexible=True),
    Column("MODE"),
    Column("SPEAKERS", right=True),
    Column("VOLUME", right=True),
    Column("QUEUE", right=True),
    Column("PLAYS", flexible=True),
)


@click.group(
    cls=ListingGroup,
    epilog="""\b
Examples:
  musicsyncd rooms
  musicsyncd rooms make kitchen
  musicsyncd rooms move shelf-pi kitchen""",
)
def rooms() -> None:
    """List, make and remove rooms, and move speakers between them."""


@rooms.command("list", epilog="\b\nExample:\n  musicsyncd rooms --json")
@json_option
@with_client
def list_rooms(client: ControlClient, json: bool) -> None:
    """List the rooms and what plays there."""
    status = client.get(api_path("status"))
    found: list[dict[str, Any]] = status.get("rooms", [])
    if json:
        output.print_json(found)
        return
    table = Table(_COLUMNS)
    for room in found:
        members = [peer for peer in status.get("peers", []) if peer.get("room") == room.get("name")]
        away = sum(peer.get("reach") == "away" for peer in members)
        track = room.get("track") or {}
        table.rows.append(
            (
                Cell(clean(str(room.get("name"))), "strong"),
                Cell(str(room.get("mode")), "good" if room.get("mode") == "playing" else ""),
                Cell(f"{len(members)} ({away} away)" if away else str(len(members))),
                Cell("muted" if room.get("muted") else f"{room.get('volume')} %"),
                Cell(str(room.get("queue_length", "–"))),
                Cell(clean(str(track.get("title") or "–"))),
            )
        )
    output.print_table(table)


@rooms.command(epilog="\b\nExample:\n  musicsyncd rooms make kitchen")
@click.argument("room")
@with_client
def make(client: ControlClient, room: str) -> None:
    """Make a room."""
    check_room(room)
    say(client.post(api_path("rooms"), {"name": room}))


@rooms.command(epilog="\b\nExample:\n  musicsyncd rooms remove kitchen")
@click.argument("room")
@with_client
def remove(client: ControlClient, room: str) -> None:
    """Remove a room and its queue."""
    say(client.delete(api_path("rooms", room)))


@rooms.command(epilog="\b\nExample:\n  musicsyncd rooms move shelf-pi kitchen")
@click.argument("peer")
@click.argument("room")
@with_client
def move(client: ControlClient, peer: str, room: str) -> None:
    """Move a speaker to a room; it plays in step there at once."""
    say(client.post(api_path("peers", peer, "room"), {"room": room}))
