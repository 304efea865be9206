"""The command ``demo``: a host and two speakers on this machine, and how well they were in step."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

import click

from musicsyncd.cli import output, status_view
from musicsyncd.cli.figures import duration_us
from musicsyncd.cli.framework import Command, FloatRange
from musicsyncd.cli.output import Line
from musicsyncd.cli.watch import STATUS
from musicsyncd.config import NetworkConfig
from musicsyncd.errors import ControlError
from musicsyncd.system.control_client import ControlClient

_LOOK_EVERY_S = 0.5
_PLAIN_EVERY_LOOKS = 20


class _OverError(Exception):
    """The demo has played for as long as it was to."""


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  musicsyncd demo
  musicsyncd demo ~/Music/track.flac --seconds 20
  musicsyncd demo --output file  # in silence, whatever there is""",
)
@click.argument("tracks", nargs=-1, metavar="[TRACK|FOLDER]...")
@click.option(
    "--seconds",
    type=FloatRange(5, 86_400),
    default=60.0,
    show_default=True,
    envvar="MUSICSYNCD_SECONDS",
    help="How long.",
)
@click.option(
    "--output",
    "out",
    type=click.Choice(["portaudio", "file"]),
    envvar="MUSICSYNCD_DEMO_OUTPUT",
    help="A sound card, or files that are compared; by default a card where there is one.",
)
def demo(tracks: tuple[str, ...], seconds: float, out: str | None) -> None:
    """Run a host and two speakers on this machine, and show how well they are in step.

    With a sound card you hear them; without one they play into files, which are compared sample by
    sample. Ends with 1 when the two were not together.
    """
    from musicsyncd.system.demo import LIMIT_US, Demo

    with Demo(tracks, seconds, out) as running:
        where = "your sound card" if running.output == "portaudio" else "files, which nobody hears"
        click.echo(f"One host and two speakers on this machine, playing into {where}.\n")
        client = ControlClient(NetworkConfig(running.port), running.paths)
        end = time.monotonic() + seconds

        def look() -> list[Line]:
            running.check()
            if time.monotonic() > end:
                raise _OverError
            try:
                status = client.get(STATUS)
            except ControlError:
                time.sleep(_LOOK_EVERY_S)  # A host that cannot start says why, and is then gone.
                running.check()
                raise
            running.note(status)
            return status_view.status_lines(status, output.width())

        with contextlib.suppress(_OverError, KeyboardInterrupt):
            _show(look)
        verdict = running.verdict()
    if not verdict.values:
        raise ControlError("the two speakers were not heard together for long enough to be compared")
    click.echo(f"\nHow far apart the two speakers were, {verdict.how} ({verdict.values} comparisons):")
    for name, value in (("median", verdict.median_us), ("99 %", verdict.p99_us), ("most", verdict.max_us)):
        click.echo(f"  {name:<8}{duration_us(value):>10}")
    if not verdict.together:
        raise ControlError(f"not together: more than {duration_us(LIMIT_US)} apart; is this machine very busy?")
    click.echo("Together.")


def _show(look: Callable[[], list[Line]]) -> None:
    if output.on_terminal():
        from musicsyncd.cli.terminal import keep_showing

        keep_showing(look, lambda: time.sleep(_LOOK_EVERY_S))
    looks = 0
    while True:
        lines = look()
        if looks % _PLAIN_EVERY_LOOKS == 4:
            output.print_lines(lines)
            click.echo()
        looks += 1
        time.sleep(_LOOK_EVERY_S)
