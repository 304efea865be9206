"""The command ``upgrade``: a newer version, by the way in which this one was installed.

It has two halves. This program fetches the newer one; what that one brings, its own process sets up, for only it knows.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from typing import TYPE_CHECKING

import click

from musicsyncd import __version__
from musicsyncd.cli.install import dry_run_option, place_of, say_remarks, say_steps, user_option
from musicsyncd.errors import MusicSyncError

if TYPE_CHECKING:
    from musicsyncd.system.installing.place import Place
    from musicsyncd.system.installing.way import Way


@click.command(
    cls=click.Command,
    epilog="""\b
Examples:
  sudo musicsyncd upgrade
  musicsyncd upgrade --user --dry-run
  sudo musicsyncd upgrade --refresh    # after an upgrade by hand""",
)
@user_option
@click.option("--refresh", is_flag=True, help="Only renew the units, and restart what still runs an older version.")
@dry_run_option
def upgrade(user: bool, refresh: bool, dry_run: bool) -> None:
    """Fetch the newest version, and restart what runs.

    Key, queue and settings stay.
    """
    from musicsyncd.system.installing.plan import check_root
    from musicsyncd.system.installing.way import find_way

    place, way = place_of(user), find_way()
    needs_root = place.record_file.exists() or not os.access(way.package.parent, os.W_OK)
    if not dry_run and needs_root:
        check_root(place, shlex.join(["sudo", str(way.program), "upgrade", *(("--refresh",) if refresh else ())]))
    if not refresh:
        _fetch(place, way, dry_run=dry_run)
    elif dry_run:
        _say_plans(place, way)
    else:
        _renew(place, way)


def _fetch(place: Place, way: Way, *, dry_run: bool) -> None:
    """Have the newer version installed, and have it do the rest.

    Raises:
        MusicSyncError: one of the commands failed.
    """
    rest = [str(way.program), "upgrade", "--refresh", *(("--user",) if place.of_user else ())]
    command = way.upgrade_command()
    if not command:
        as_whom = [] if place.of_user else ["sudo"]
        came = "runs from" if way.requirement else "was installed from a file by"
        click.echo(f"musicsyncd {__version__} {came} {way.in_words}. To upgrade it:")
        click.echo(f"  {way.upgrade_by_hand()} && {shlex.join([*as_whom, *rest])}")
        return
    click.echo(f"musicsyncd {__version__} was installed by {way.in_words}. To upgrade it:")
    for number, words in enumerate((command, rest), 1):
        click.echo(f"  {number}. {shlex.join(words)}")
    if way.folder is not None:
        click.echo(f"{way.folder} is installed as it lies there: bring it up to date first (git pull)")
    if dry_run:
        return
    for words in (command, rest):
        click.echo(f"running: {shlex.join(words)}")
        _run(words)


def _run(words: list[str] | tuple[str, ...]) -> None:
    """Run a command whose output a person sees.

    Raises:
        MusicSyncError: it failed.
    """
    try:
        code = subprocess.run(words, stdin=subprocess.DEVNULL, check=False).returncode
    except OSError as error:
        raise MusicSyncError(f"cannot run {words[0]}: {error.strerror}") from None
    if code:
        raise MusicSyncError(f"`{shlex.join(words)}` failed (exit code {code}): what it says is above")


def _say_plans(place: Place, way: Way) -> None:
    from musicsyncd.system.installing.upgrading import plans_to_renew

    steps = [step for plan in plans_to_renew(place, way) for step in plan.steps]
    say_steps(steps)
    if not steps:
        click.echo("nothing to renew")


def _renew(place: Place, way: Way) -> None:
    from musicsyncd.system.installing.plan import account_of
    from musicsyncd.system.installing.upgrading import plans_to_renew

    plans = plans_to_renew(place, way)
    for plan in plans:
        say_remarks(plan.remarks)
        plan.carry_out(click.echo)
    for plan in plans:
        click.echo(account_of(place, plan.role))
    click.echo(f"musicsyncd is {__version__}" if plans else f"musicsyncd is {__version__}; no service is set up here")
