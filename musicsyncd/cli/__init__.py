"""What a person types: parse, call, print.

Owns options, their environment variables, the words of the output and the exit codes. One
module holds a family of commands. What a command does is done elsewhere:
:mod:`musicsyncd.system.control_client` talks to the host, the daemons wire themselves. What
takes long to import is imported inside the command that needs it.
"""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import click

from musicsyncd import __version__
from musicsyncd.cli.framework import LazyGroup, remember_file

FAMILIES = {
    "Run": ("host=daemons:host", "peer=daemons:peer", "mpris=mpris:mpris", "demo=demo:demo"),
    "Play": (
        "play=transport:play",
        "pause=transport:pause",
        "resume=transport:resume",
        "stop=transport:stop",
        "seek=transport:seek",
        "next=transport:next_track",
        "previous=transport:previous_track",
        "queue=queue:queue",
        "shuffle=transport:shuffle",
        "repeat=transport:repeat",
        "crossfade=transport:crossfade",
    ),
    "Sound": (
        "volume=sound:volume",
        "mute=sound:mute",
        "unmute=sound:unmute",
        "delay=sound:delay",
        "channels=sound:channels",
    ),
    "Look": (
        "status=status:status",
        "search=library:search",
        "library=library:library",
        "peers=peers:peers",
        "rooms=rooms:rooms",
        "plot=plot:plot",
        "doctor=doctor:doctor",
    ),
    "Set up": (
        "install=install:install",
        "uninstall=install:uninstall",
        "upgrade=upgrade:upgrade",
        "devices=devices:devices",
        "key=key:key",
        "link=link:link",
        "config=example:config",
        "version=version:version",
    ),
}


@click.group(
    cls=LazyGroup,
    families=FAMILIES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
Try it on one machine, with sound from its own card:
  musicsyncd host --speaker ~/Music/Album
  musicsyncd status --watch

\b
On every other speaker, with the code of `musicsyncd key show` on the host:
  musicsyncd peer --join CODE

\b
Completion for bash (zsh and fish alike):
  eval "$(_MUSICSYNCD_COMPLETE=bash_source musicsyncd)"

\b
An option that is not given comes from its variable (MUSICSYNCD_KEY_FILE for
--key-file), else from the configuration file: TOML, with sections [common],
[host], [peer] and so on, and a key for each option, as key-file = "room.key".""",
)
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="MUSICSYNCD_CONFIG",
    expose_value=False,
    callback=remember_file,
    help="Configuration file; ~/.config/musicsyncd/musicsyncd.toml by default.",
)
@click.version_option(__version__, prog_name="musicsyncd", message="%(prog)s %(version)s")
def cli() -> None:
    """Play music in step on every speaker of a LAN."""


def main() -> NoReturn:
    """Run the command line and end the process."""
    cli.main(prog_name="musicsyncd")
