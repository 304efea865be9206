"""The command ``peers``: which speakers there are, what is set for them, and forgetting one."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from musicsyncd.cli import figures, output
from musicsyncd.cli.figures import clean
from musicsyncd.cli.framework import ListingGroup
from musicsyncd.cli.options import json_option, with_client
from musicsyncd.cli.output import Cell, Column, Table
from musicsyncd.cli.past import past_table
from musicsyncd.cli.status_view import told_apart
from musicsyncd.cli.transport import say
from musicsyncd.cli.trends import HOUR_S, Trends, history_path
from musicsyncd.system.control_client import api_path

if TYPE_CHECKING:
    from musicsyncd.system.control_client import ControlClient

_COLUMNS = (
    Column("SPEAKER", flexible=True),
    Column("ROOM", flexible=True),
    Column("VOLUME", right=True),
    Column("DELAY", right=True),
    Column("CHANNELS"),
    Column("OUTPUT", flexible=True),
    Column("ADDRESS"),
    Column("VERSION"),
    Column("SEEN"),
)


@click.group(
    cls=ListingGroup,
    epilog="\b\nExamples:\n  musicsyncd peers\n  musicsyncd peers --history\n  musicsyncd peers forget old-pi",
)
def peers() -> None:
    """List the speakers and what is set for them, or forget one."""


@peers.command("list", epilog="\b\nExamples:\n  musicsyncd peers --json\n  musicsyncd peers --history")
@json_option
@click.option("--history", is_flag=True, help="How each of them did in the last hour.")
@with_client
def list_peers(client: ControlClient, json: bool, history: bool) -> None:
    """List the speakers and what is set for them, or how they did in the last hour."""
    if history:
        _print_history(client, json=json)
        return
    found: list[dict[str, Any]] = client.get(api_path("status")).get("peers", [])
    if json:
        output.print_json(found)
        return
    if not found:
        click.echo("no speaker has come yet: start `musicsyncd peer` on one")
        return
    table = Table(_COLUMNS)
    table.rows += [
        _row(peer) for peer in sorted(told_apart(found), key=lambda one: (str(one.get("room")), str(one.get("name"))))
    ]
    output.print_table(table)


def _print_history(client: ControlClient, *, json: bool) -> None:
    record = client.get(history_path(HOUR_S))
    if json:
        output.print_json(record)
        return
    trends, now_s = Trends(), time.monotonic()
    trends.begin(record, now_s)
    table = past_table(record, trends, now_s, HOUR_S, output.width())
    if not table.rows:
        click.echo("no speaker has come yet: start `musicsyncd peer` on one")
        return
    output.print_table(table)


def _row(peer: Mapping[str, Any]) -> tuple[Cell, ...]:
    away = peer.get("reach") == "away"
    style = "dim" if away else ""
    delay_us = float(peer.get("output_delay_ms") or 0.0) * 1000
    ago_s = peer.get("seen_s_ago")
    seen = "now" if not away else "–" if ago_s is None else f"{figures.span_s(float(ago_s))} ago"
    texts = (
        peer.get("name"),
        peer.get("room"),
        "muted" if peer.get("muted") else f"{peer.get('volume')} %",
        figures.duration_us(delay_us, signed=True) if delay_us else "–",
        peer.get("channels"),
        peer.get("output") or "–",
        peer.get("address") or "–",
        peer.get("version") or "–",
        seen,
    )
    cells = [Cell(clean(str(text)), style) for text in texts]
    return (Cell(cells[0].text, style or "strong"), *cells[1:])


@peers.command(epilog="\b\nExample:\n  musicsyncd peers forget old-pi")
@click.argument("peer")
@with_client
def forget(client: ControlClient, peer: str) -> None:
    """Forget a speaker that is away, and what was set for it."""
    say(client.delete(api_path("peers", peer)))
