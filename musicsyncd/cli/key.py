"""The command ``key``: the room's key, which every speaker of the LAN needs."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from musicsyncd.cli import output
from musicsyncd.cli.framework import Group
from musicsyncd.cli.options import json_option, key_options, paths
from musicsyncd.errors import ConfigError


@click.group(cls=Group, epilog="\b\nExamples:\n  musicsyncd key show\n  musicsyncd key join")
def key() -> None:
    """Show, enter or replace the room's key."""


@key.command(epilog="\b\nExamples:\n  musicsyncd key show\n  musicsyncd key show --json | jq -r .join_code")
@json_option
@key_options
def show(json: bool) -> None:
    """Show the join code, and how another machine gets it."""
    from musicsyncd.system.keyfile import join_code, load_key

    file = paths().key_file
    code = join_code(load_key(file))
    if json:
        output.print_json({"join_code": code, "path": str(file)})
        return
    click.echo(
        f"join code  {code}\n"
        f"key file   {file}\n"
        "\n"
        "For a speaker on another machine, enter the code there:\n"
        "  musicsyncd key join\n"
        "or copy the file to it, readable for its user only, and say where it is:\n"
        "  MUSICSYNCD_KEY_FILE=/path/of/the/copy musicsyncd peer\n"
        "Whoever has the code can play on every speaker and command the host."
    )


@key.command(epilog="\b\nExamples:\n  musicsyncd key join\n  musicsyncd key join < code.txt")
@click.option("--yes", is_flag=True, help="Replace a key that is there without asking.")
@key_options
def join(yes: bool) -> None:
    """Take the join code of a host, so that this machine can join it.

    The code is read from the terminal or standard input, and never from the command line, where
    everybody on this machine could see it.
    """
    from musicsyncd.system.keyfile import parse_join_code, write_key

    file = paths().key_file
    if sys.stdin.isatty():
        click.echo("Join code, as `musicsyncd key show` prints it on the host: ", nl=False, err=True)
    room_key = parse_join_code(sys.stdin.readline(1024).strip())
    _agree_to_replace(file, yes)
    write_key(file, room_key, replace=True)
    click.echo(f"{file} has the key now: start `musicsyncd peer`, or restart what runs")


@key.command(epilog="\b\nExample:\n  musicsyncd key new --yes")
@click.option("--yes", is_flag=True, help="Replace a key that is there without asking.")
@key_options
def new(yes: bool) -> None:
    """Make a new key: every machine that had the old one is locked out."""
    from musicsyncd.system.keyfile import join_code, make_key

    file = paths().key_file
    _agree_to_replace(file, yes)
    code = join_code(make_key(file, replace=True))
    click.echo(
        f"join code  {code}\n"
        f"key file   {file}\n"
        "\n"
        "The host and every speaker go on with the old key until they are restarted; each speaker needs the new\n"
        "one before: `musicsyncd key join`."
    )


def _agree_to_replace(file: Path, yes: bool) -> None:
    """Return if a key may be written; ask on a terminal only.

    Raises:
        ConfigError: nobody agreed.
    """
    if yes or not file.exists():
        return
    if not sys.stdin.isatty():
        raise ConfigError(f"{file} has a key already: say --yes to replace it")
    click.confirm(f"{file} has a key already. Replace it?", abort=True, err=True)
