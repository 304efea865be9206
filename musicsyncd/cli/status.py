"""The command ``status``: once, or kept up to date; for people, for pipes, for programs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from musicsyncd.cli import output, status_view
from musicsyncd.cli.framework import Command
from musicsyncd.cli.options import json_option, with_client
from musicsyncd.cli.output import Cell, Line
from musicsyncd.errors import ControlError
from musicsyncd.system.control_client import api_path

if TYPE_CHECKING:
    from musicsyncd.system.control_client import ControlClient

_HEADER_EVERY_LINES = 20
STATUS = api_path("status")
"""Where the host answers with its status."""


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  musicsyncd status
  musicsyncd status --watch                       live; Ctrl-C ends it
  musicsyncd status --watch >> room.log           a line for each speaker every second
  musicsyncd status --json | jq '.peers[] | [.name, .sync_error_us]'

\b
Columns:
  SYNC ERROR    when frames sound minus when they should: + is late, - is early
  CLOCK OFFSET  the host's clock minus the speaker's, ± what is not known of it
  ROUND TRIP    the quickest of the last minute; JITTER is the spread, LOSS what had no answer
  UNDERRUNS     buffers that reached the sound card too late, since the start
  RATE PPM      by how much it plays faster (+) or slower (-) than its card's nominal rate
  BY            how the host's datagrams reach it: multicast or, where that fails, unicast""",
)
@json_option
@click.option("-w", "--watch", is_flag=True, help="Look again and again until Ctrl-C.")
@click.option(
    "--interval",
    type=click.FloatRange(0.1, 3600),
    metavar="S",
    default=1.0,
    show_default=True,
    envvar="MUSICSYNCD_INTERVAL",
    help="With --watch, seconds between two looks.",
)
@with_client
def status(client: ControlClient, json: bool, watch: bool, interval: float) -> None:
    """Show what plays, and how well the speakers are in step."""
    if not watch:
        answer = client.get(STATUS)
        if json:
            output.print_json(answer)
        else:
            output.print_lines(status_view.status_lines(answer, output.width()))
        return
    try:
        if json:
            _watch_json(client, interval)
        elif output.on_terminal():
            _watch_live(client, interval)
        else:
            _watch_lines(client, interval)
    except KeyboardInterrupt:
        # To end a live view so is how it is meant to end.
        return


def _watch_json(client: ControlClient, interval_s: float) -> None:
    while True:
        output.print_json(client.get(STATUS), one_line=True)
        time.sleep(interval_s)


def _watch_lines(client: ControlClient, interval_s: float) -> None:
    """Print lines for ever; while the host is gone, say so once and go on."""
    until_header, complained = 0, False
    client.get(STATUS)  # A host that is not there at the start is an error.
    while True:
        try:
            rows = status_view.watch_rows(client.get(STATUS), time.strftime("%H:%M:%S"))
            complained = False
        except ControlError as error:
            rows = []
            if not complained:
                click.echo(f"musicsyncd: {error}", err=True)
            complained = True
        for row in rows:
            if until_header == 0:
                click.echo(status_view.watch_header())
                until_header = _HEADER_EVERY_LINES
            click.echo(row)
            until_header -= 1
        time.sleep(interval_s)


def _watch_live(client: ControlClient, interval_s: float) -> None:
    """Keep the view up to date; while the host is gone, show the last one and say so below."""
    from musicsyncd.cli.terminal import keep_showing

    last = status_view.status_lines(client.get(STATUS), output.width())

    def look() -> Sequence[Line]:
        nonlocal last
        try:
            last = status_view.status_lines(client.get(STATUS), output.width())
        except ControlError as error:
            return [*last, Line(()), Line.of(Cell(f"! {error}", "bad"))]
        return last

    keep_showing(look, lambda: time.sleep(interval_s))
