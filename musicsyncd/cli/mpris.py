"""The command ``mpris``: the host as a player on a person's desktop."""

from __future__ import annotations

import click

from musicsyncd.cli import options
from musicsyncd.cli.framework import Command
from musicsyncd.errors import ControlError


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  musicsyncd mpris                   # the media keys steer the host's room
  musicsyncd mpris --room kitchen    # another room, beside it
  systemctl --user enable --now musicsyncd-mpris

\b
Then also:
  playerctl --player=musicsyncd play-pause""",
)
@options.room_option
@options.verbose_option
@options.peer_options
def mpris(room: str, verbose: bool) -> None:
    """Put the host on this desktop's bus (MPRIS), so that media keys and applets work.

    It finds the host as every command does, runs until it is stopped, and is no player on the bus while the host
    is away. It needs dbus-fast, the extra "mpris", and says how to add that where it is missing.
    """
    from musicsyncd.system import log

    try:
        import dbus_fast  # noqa: F401 - the extra's
    except ImportError:
        from musicsyncd.extras import how_to_add

        raise ControlError(f"this needs dbus-fast: {how_to_add('mpris')}") from None
    from musicsyncd.system.mpris import daemon

    log.set_up(verbose=verbose)
    options.client()  # What is wrong with the options is said now.
    daemon.run(options.client, room, options.paths().cache_dir / "mpris")
