"""The commands that stay: ``host`` and ``peer``."""

from __future__ import annotations

import os
from typing import Any

import click

from musicsyncd import config as configuration
from musicsyncd.cli import options
from musicsyncd.cli.framework import Command
from musicsyncd.config import HostConfig, PeerConfig

_NAME_HELP = "For people; this machine's host name by default."


def _tracks(given: tuple[str, ...]) -> tuple[str, ...]:
    """Return the tracks of the call, or else of the configuration file, wherever a daemon may go from here."""
    if given:
        return tuple(os.path.abspath(os.path.expanduser(track)) for track in given)
    listed = click.get_current_context().lookup_default("tracks")
    return tuple(listed) if listed else ()


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  musicsyncd host ~/Music/Album          play an album
  musicsyncd host --speaker              take up the queue again, and sound on this machine too
  musicsyncd host --room kitchen --name attic-pi""",
)
@click.argument("tracks", nargs=-1, metavar="[TRACK|FOLDER]...")
@click.option("--speaker/--no-speaker", default=False, envvar="MUSICSYNCD_SPEAKER", help="Play here too.")
@click.option(
    "--room",
    default=configuration.DEFAULT_ROOM,
    show_default=True,
    envvar="MUSICSYNCD_ROOM",
    help="The room that always exists.",
)
@click.option("--name", envvar="MUSICSYNCD_NAME", help=_NAME_HELP)
@options.verbose_option
@options.host_options
def host(tracks: tuple[str, ...], speaker: bool, room: str, name: str | None, verbose: bool) -> None:
    """Run the host: it decides what plays and when.

    Tracks and folders that are given play at once, and what was in the queue follows them; without any,
    everything is as it was left. The room's key is made at the first start.
    """
    config = HostConfig(
        name=configuration.default_name() if name is None else name,
        network=options.network_config(),
        paths=options.paths(),
        tracks=_tracks(tracks),
        room=room,
        speaker=speaker,
        open=options.without_key(),
    )
    from musicsyncd.system import host_daemon, log

    log.set_up(verbose=verbose)
    host_daemon.run(config)


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  musicsyncd peer                                   the default sound card, any host on the LAN
  musicsyncd peer --device hw:DAC,0 --name kitchen  a card as `musicsyncd devices` lists it
  musicsyncd peer --host 192.168.1.10               where the network does not pass multicast
  musicsyncd peer --output file:/tmp/kitchen.wav    what would sound, into a file""",
)
@click.option("--name", envvar="MUSICSYNCD_NAME", help=_NAME_HELP)
@click.option("--device", envvar="MUSICSYNCD_DEVICE", help="Sound card, see `musicsyncd devices`.")
@click.option(
    "--output",
    metavar="portaudio|null|file:PATH.wav",
    default="portaudio",
    show_default=True,
    envvar="MUSICSYNCD_OUTPUT",
    help="Where the sound goes.",
)
@click.option(
    "--rate",
    type=click.IntRange(configuration.MIN_RATE_HZ, configuration.MAX_RATE_HZ),
    metavar="HZ",
    envvar="MUSICSYNCD_RATE",
    help="To open the card with; its own by default.",
)
@click.option(
    "--buffer-ms",
    type=click.FloatRange(configuration.MIN_BUFFER_MS, configuration.MAX_BUFFER_MS),
    metavar="MS",
    default=80.0,
    show_default=True,
    envvar="MUSICSYNCD_BUFFER_MS",
    help="Sound handed to the card ahead; more for a busy machine.",
)
@click.option(
    "--output-delay-ms",
    type=click.FloatRange(-configuration.MAX_OUTPUT_DELAY_MS, configuration.MAX_OUTPUT_DELAY_MS),
    metavar="MS",
    envvar="MUSICSYNCD_OUTPUT_DELAY_MS",
    help="What is behind the card is late by this: feed it earlier; added to `musicsyncd delay`.",
)
@click.option(
    "--channels",
    type=click.Choice(configuration.CHANNELS),
    envvar="MUSICSYNCD_CHANNELS",
    help="What it plays; else as `musicsyncd channels` says.",
)
@click.option(
    "--cache-mib",
    type=click.IntRange(configuration.MIN_CACHE_MIB, configuration.MAX_CACHE_MIB),
    metavar="MIB",
    default=1024,
    show_default=True,
    envvar="MUSICSYNCD_CACHE_MIB",
    help="The most that fetched tracks may take on disk.",
)
@options.verbose_option
@options.peer_options
def peer(name: str | None, rate: int | None, verbose: bool, **settings: Any) -> None:  # noqa: ANN401 - one for one
    """Run a speaker: it plays what the host says, in step with all others.

    It needs the room's key, unless it runs as the host's user on the host's machine: see `musicsyncd key`.
    """
    config = PeerConfig(
        name=configuration.default_name() if name is None else name,
        network=options.network_config(),
        paths=options.paths(),
        host=options.host_address(),
        rate_hz=rate,
        open=options.without_key(),
        **settings,
    )
    from musicsyncd.system import log, peer_daemon

    log.set_up(verbose=verbose)
    peer_daemon.run(config)
