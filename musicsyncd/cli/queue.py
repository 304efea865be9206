"""The command ``queue``: what plays next in a room, and what played."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click

from musicsyncd.cli import figures, output
from musicsyncd.cli.figures import clean
from musicsyncd.cli.framework import ListingGroup
from musicsyncd.cli.options import json_option, room_option, with_client
from musicsyncd.cli.output import Cell, Column, Line, Table
from musicsyncd.cli.transport import pick_options, picked, say
from musicsyncd.system.control_client import api_path

if TYPE_CHECKING:
    from musicsyncd.system.control_client import ControlClient

_COLUMNS = (
    Column("", right=True),
    Column("TITLE", flexible=True),
    Column("ARTIST", flexible=True),
    Column("LENGTH", right=True),
)
_PLAYED_COLUMNS = (
    Column("WHEN"),
    Column("TITLE", flexible=True),
    Column("ARTIST", flexible=True),
    Column("LENGTH", right=True),
)
_POSITION = click.IntRange(min=1)

_revision_option = click.option(
    "--revision",
    type=click.IntRange(min=0),
    metavar="N",
    help="Only if the queue is still as `musicsyncd queue` showed it with this revision.",
)


def _given(revision: int | None) -> dict[str, int]:
    """Return the part of a request that says by which revision it was meant."""
    return {} if revision is None else {"revision": revision}


@click.group(
    cls=ListingGroup,
    epilog="""\b
Examples:
  musicsyncd queue
  musicsyncd queue add ~/Music/Album
  musicsyncd queue add --next song.flac
  musicsyncd queue move 7 2
  musicsyncd queue remove 3 4 5
  musicsyncd queue jump 7
  musicsyncd queue undo""",
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
    facts = [figures.count(len(entries), "track"), figures.position_s(length), *_facts(answer)]
    table.rows.append(Line.of(Cell(", ".join(facts), "dim")))
    output.print_table(table)


def _facts(answer: dict[str, Any]) -> list[str]:
    """Return how a queue plays, and its revision."""
    facts = ["shuffled"] if answer.get("shuffled") else []
    if answer.get("repeat") in ("one", "all"):
        facts.append(f"repeats {answer['repeat']}")
    if isinstance(answer.get("revision"), int):
        facts.append(f"revision {answer['revision']}")
    return facts


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
    damage = clean(str(entry.get("damage") or ""))
    if damage:
        rows.append(Line.of("  └ ", Cell(f"damaged: {damage}", "fair")))
    return rows


@queue.command(
    epilog="""\b
Examples:
  musicsyncd queue add ~/Music/Album
  musicsyncd queue add --next song.flac
  musicsyncd queue add --artist "Nina Simone"
  musicsyncd queue add library:17 library:23"""
)
@click.argument("tracks", nargs=-1, metavar="[TRACK|FOLDER]...")
@pick_options
@click.option("--next", "next_", is_flag=True, help="After the current track, not at the end.")
@room_option
@with_client
def add(client: ControlClient, tracks: tuple[str, ...], pick: dict[str, str], next_: bool, room: str) -> None:
    """Add tracks, folders, or what the library has by a name, at the end unless --next."""
    if not tracks and not pick:
        raise click.UsageError("Name at least one track or folder, or one of --search, --album, --artist and so on.")
    body = picked(client, tracks, pick) | {"next": next_}
    say(client.post(api_path("rooms", room, "queue", "add"), body))


@queue.command(epilog="\b\nExample:\n  musicsyncd queue remove 3 4 5")
@click.argument("positions", nargs=-1, required=True, type=_POSITION, metavar="POSITION...")
@_revision_option
@room_option
@with_client
def remove(client: ControlClient, positions: tuple[int, ...], revision: int | None, room: str) -> None:
    """Remove tracks by their places, as `musicsyncd queue` numbers them."""
    body = {"positions": list(positions)} | _given(revision)
    say(client.post(api_path("rooms", room, "queue", "remove"), body))


@queue.command(epilog="\b\nExample:\n  musicsyncd queue move 7 2")
@click.argument("from_", type=_POSITION, metavar="FROM")
@click.argument("to", type=_POSITION, metavar="TO")
@_revision_option
@room_option
@with_client
def move(client: ControlClient, from_: int, to: int, revision: int | None, room: str) -> None:
    """Move a track to another place."""
    say(client.post(api_path("rooms", room, "queue", "move"), {"from": from_, "to": to} | _given(revision)))


@queue.command(
    epilog="""\b
Examples:
  musicsyncd queue jump 5
  musicsyncd queue jump blue green  # words of its title or artist"""
)
@click.argument("what", nargs=-1, required=True, metavar="POSITION|WORDS...")
@_revision_option
@room_option
@with_client
def jump(client: ControlClient, what: tuple[str, ...], revision: int | None, room: str) -> None:
    """Play a track of the queue now, and then what stands behind it."""
    words = " ".join(what)
    is_place = re.fullmatch("[0-9]{1,9}", words) is not None
    if not is_place and revision is not None:
        raise click.UsageError("--revision goes with a position: words mean the same track wherever it stands.")
    body = {"position": int(words)} | _given(revision) if is_place else {"words": words}
    say(client.post(api_path("rooms", room, "queue", "jump"), body))


@queue.command(epilog="\b\nExample:\n  musicsyncd queue clear")
@_revision_option
@room_option
@with_client
def clear(client: ControlClient, revision: int | None, room: str) -> None:
    """Empty the queue; `musicsyncd queue undo` brings it back."""
    say(client.post(api_path("rooms", room, "queue", "clear"), _given(revision)))


@queue.command(epilog="\b\nExample:\n  musicsyncd queue undo")
@room_option
@with_client
def undo(client: ControlClient, room: str) -> None:
    """Take back the last change: of clear, remove, move, add and shuffle, ten steps back.

    Only changes since the host's start can be taken back.
    """
    say(client.post(api_path("rooms", room, "queue", "undo")))


@queue.command(epilog="\b\nExamples:\n  musicsyncd queue history\n  musicsyncd queue history --json")
@room_option
@json_option
@with_client
def history(client: ControlClient, room: str, json: bool) -> None:
    """List the last 100 tracks that sounded, the newest first."""
    answer = client.get(api_path("rooms", room, "queue", "history"))
    if json:
        output.print_json(answer)
        return
    played: list[dict[str, Any]] = answer.get("played", [])
    if not played:
        click.echo("nothing has sounded yet")
        return
    table = Table(_PLAYED_COLUMNS)
    for one in played:
        duration_s = float(one.get("duration_s") or 0.0)
        texts = (
            figures.day_and_time(float(one.get("began_s") or 0.0)),
            str(one.get("title") or one.get("path")),
            str(one.get("artist") or ""),
            figures.position_s(duration_s) if duration_s else "–",
        )
        table.rows.append(tuple(Cell(clean(text), "dim" if index == 0 else "") for index, text in enumerate(texts)))
    output.print_table(table)
