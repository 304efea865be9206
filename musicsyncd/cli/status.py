"""The command ``status``: once, or kept up to date; for people, for pipes, for programs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from musicsyncd.cli import options, output, status_view
from musicsyncd.cli.framework import Command, FloatRange
from musicsyncd.cli.local_view import local_lines
from musicsyncd.cli.options import json_option, with_client
from musicsyncd.cli.trends import HOUR_S, Trends, history_path
from musicsyncd.cli.watch import STATUS, Watch, away_status
from musicsyncd.errors import ControlError

if TYPE_CHECKING:
    from musicsyncd.system.control_client import ControlClient


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  musicsyncd status
  musicsyncd status --watch              # live; Ctrl-C ends it
  musicsyncd status --history            # with the last hour of each speaker
  musicsyncd status --watch >> room.log  # a line a speaker each second
  musicsyncd status --json | jq '.peers[] | [.name, .sync_error_us]'

\b
Columns:
  SYNC ERROR    when frames sound minus when they should: + is late
  CLOCK OFFSET  the host's clock minus the speaker's, ± its uncertainty
  ROUND TRIP    the quickest of the last minute
  JITTER, LOSS  the spread of round trips; how many had no answer
  UNDERRUNS     buffers that reached the sound card too late, since the start
  RATE PPM      by how much it plays faster (+) than its card's nominal rate
  BY            how it is reached: by multicast, by unicast, or in a browser""",
)
@json_option
@click.option("-w", "--watch", is_flag=True, help="Look again and again until Ctrl-C.")
@click.option("--history", is_flag=True, help="With the last hour of each speaker.")
@click.option(
    "--interval",
    type=FloatRange(0.1, 3600),
    metavar="S",
    default=1.0,
    show_default=True,
    envvar="MUSICSYNCD_INTERVAL",
    help="With --watch, seconds between two looks.",
)
@with_client
def status(client: ControlClient, json: bool, watch: bool, history: bool, interval: float) -> None:
    """Show what plays, and how well the speakers are in step.

    On a speaker's machine whose host is away: what that speaker knows.
    """
    if watch and history:
        raise click.UsageError("--watch begins with the last minutes by itself: leave --history out")
    if not watch:
        _once(client, json=json, history=history)
        return
    watching = Watch(client, _accounts, lambda: time.sleep(interval))
    try:
        if json:
            watching.as_json()
        elif output.on_terminal():
            watching.live()
        else:
            watching.as_lines()
    except KeyboardInterrupt:
        # To end a live view so is how it is meant to end.
        return


def _accounts() -> list[dict[str, Any]]:
    from musicsyncd.system.local_peers import local_peers

    return local_peers(options.paths().runtime_dir)


def _once(client: ControlClient, *, json: bool, history: bool) -> None:
    """Print the status; without a host what the speakers here know, and then the error all the same.

    Raises:
        ControlError: no host answers.
    """
    try:
        answer = client.get(STATUS)
    except ControlError as error:
        accounts = _accounts()
        if json and accounts:
            output.print_json(away_status(error, accounts))
        elif accounts:
            output.print_lines(local_lines(accounts, output.width()))
        raise
    past = client.get(history_path(HOUR_S)) if history else {}
    if json:
        output.print_json({**answer, "history": past} if history else answer)
        return
    trends, now_s = Trends(), time.monotonic()
    trends.begin(past, now_s)
    output.print_lines(status_view.status_lines(answer, output.width(), trends.lines(now_s, HOUR_S, output.width())))
