"""The command ``key``: the room's key, which every speaker of the LAN needs."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import click

from musicsyncd.cli import output
from musicsyncd.cli.figures import clean, count
from musicsyncd.cli.framework import Group
from musicsyncd.cli.options import json_option, key_options, local_client, local_options, paths
from musicsyncd.errors import ConfigError, ControlError
from musicsyncd.system.control_client import api_path

KEY = api_path("key")
"""Where the host says how far a change of its key is; ``rotate`` below it begins one."""

MAX_ROTATION_S = 120.0
"""A host gives its speakers a minute; one that is not done after two is not going to be."""

_LOOK_EVERY_S = 0.5
_MAX_CODE_CHARS = 4_096
_MAX_NAMED = 10


qr_option = click.option(
    "--qr/--no-qr",
    default=None,
    envvar="MUSICSYNCD_QR",
    help="A QR code too; by default on a terminal with room for it.",
)


@click.group(cls=Group, epilog="\b\nExamples:\n  musicsyncd key show\n  musicsyncd key join\n  musicsyncd key rotate")
def key() -> None:
    """Show, enter or change the room's key."""


@key.command(epilog="\b\nExamples:\n  musicsyncd key show\n  musicsyncd key show --json | jq -r .join_code")
@json_option
@qr_option
@key_options
def show(json: bool, qr: bool | None) -> None:
    """Show the join code, and how another machine gets it."""
    from musicsyncd.system.keyfile import join_code, join_link, load_room_keys

    file = paths().key_file
    keys = load_room_keys(file, paths().rotated_key_file)
    if json:
        output.print_json({"join_code": join_code(keys), "path": str(file)})
        return
    click.echo(
        f"join code  {join_code(keys)}\n"
        f"key file   {file}\n"
        "\n"
        "On another machine, a speaker that starts at every boot takes the code with\n"
        "  sudo musicsyncd install peer --join -\n"
        "and one that is started by hand with\n"
        "  musicsyncd key join\n"
        "Whoever has the code can command the host and listen."
    )
    show_qr(join_link(keys), qr)


def show_qr(text: str, wanted: bool | None) -> None:
    """Show a QR code, last, so that all of it stays on the screen; where nobody said, if it fits."""
    if wanted is False or (wanted is None and not output.on_terminal()):
        return
    from musicsyncd.cli.qr import columns_of_qr, qr_lines

    lines = qr_lines(text)
    if wanted is None and not output.fits(columns_of_qr(lines), len(lines) + 1, "".join(lines)):
        return
    click.echo("\n".join(lines), color=True)


@key.command(epilog="\b\nExamples:\n  musicsyncd key join\n  musicsyncd key join < code.txt")
@click.option("--yes", is_flag=True, help="Replace a key that is there without asking.")
@key_options
def join(yes: bool) -> None:
    """Take the join code of a host, so that this machine can join it.

    The code is read from the terminal or standard input, and never from the command line, where
    everybody on this machine could see it.
    """
    from musicsyncd.system.keyfile import parse_join_code, write_room_keys

    file = paths().key_file
    keys = parse_join_code(read_code())
    _agree_to_replace(file, yes)
    write_room_keys(file, keys)
    click.echo(f"{file} has the key now: start `musicsyncd peer`, or restart what runs")


def read_code() -> str:
    """Return a join code as it was typed on the terminal, or stands in the standard input."""
    if sys.stdin.isatty():
        click.echo("Join code, as `musicsyncd key show` prints it on the host: ", nl=False, err=True)
        return sys.stdin.readline(_MAX_CODE_CHARS).strip()
    return sys.stdin.read(_MAX_CODE_CHARS).strip()


@key.command(epilog="\b\nExample:\n  musicsyncd key new --yes")
@click.option("--yes", is_flag=True, help="Replace a key that is there without asking.")
@key_options
def new(yes: bool) -> None:
    """Make a new key: every machine that had the old one is locked out.

    For when somebody has the key who should not: every speaker then has to join again, and links are revoked when
    the host starts with it. To change the key of a room whose speakers may all stay, without a gap in the music,
    use `musicsyncd key rotate`.
    """
    from musicsyncd.system.keyfile import join_code, make_host_keys

    file = paths().key_file
    _agree_to_replace(file, yes)
    code = join_code(make_host_keys(file, replace=True).room_keys)
    click.echo(
        f"join code  {code}\n"
        f"key file   {file}\n"
        "\n"
        "The host and every speaker go on with the old key until they are restarted; each speaker needs the new\n"
        "one before: `musicsyncd key join`. Links to the page are revoked when the host starts with the new key."
    )


def _agree_to_replace(file: Path, yes: bool) -> None:
    """Return if a key may be written; ask on a terminal only.

    Raises:
        ConfigError: nobody agreed.
    """
    from musicsyncd.system.keyfile import is_host_file

    if yes or not file.exists():
        return
    what = "has a key already"
    if is_host_file(file):
        what = "is the secret of this machine's host, without which all of its speakers have to join again"
    if not sys.stdin.isatty():
        raise ConfigError(f"{file} {what}: say --yes to replace it")
    click.confirm(f"{file} {what}. Replace it?", abort=True, err=True)


@key.command(epilog="\b\nExample:\n  musicsyncd key rotate")
@json_option
@local_options
def rotate(json: bool) -> None:
    """Change the key of the running host and of all its speakers, without a gap in the music.

    To be run on the host's machine. Speakers that are switched off meanwhile have to join again. Whoever had the old
    key and listened has the new one too: to lock somebody out, use `musicsyncd key new`.
    """
    client = local_client()
    if not client.get(KEY).get("rotating"):  # Else somebody else has begun: look on.
        client.post(f"{KEY}/rotate")
    shown = ""
    end_s = time.monotonic() + MAX_ROTATION_S
    while True:
        answer = client.get(KEY)
        if not answer.get("rotating"):
            break
        if time.monotonic() >= end_s:
            raise ControlError(f"the host is not done after {MAX_ROTATION_S:.0f} s: look at its log")
        line = _progress(answer)
        if line != shown and not json:
            click.echo(line)
        shown = line
        time.sleep(_LOOK_EVERY_S)
    if json:
        output.print_json(answer)
        return
    click.echo(f"{_progress(answer)}; done")
    without = [clean(str(name)) for name in answer.get("without") or []]
    if without:
        named = ", ".join(without[:_MAX_NAMED]) + (" and others" if len(without) > _MAX_NAMED else "")
        click.echo(f"to join again, with `musicsyncd key show` here and `musicsyncd key join` there: {named}")


def _progress(answer: dict[str, Any]) -> str:
    have, speakers = int(answer.get("have") or 0), int(answer.get("speakers") or 0)
    if not speakers:
        return "no speaker is here"
    return f"{have} of {count(speakers, 'speaker')} {'has' if 1 in (have, speakers) else 'have'} the new key"
