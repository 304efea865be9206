"""The commands that stay: ``host`` and ``peer``."""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from musicsyncd import config as configuration
from musicsyncd.cli import options
from musicsyncd.cli.framework import Command, rereader
from musicsyncd.config import HostConfig, PeerConfig
from musicsyncd.errors import ConfigError
from musicsyncd.hook_config import (
    MAX_HOOK_TIMEOUT_S,
    MAX_SILENCE_AFTER_S,
    MIN_HOOK_TIMEOUT_S,
    HookConfig,
    parse_command,
)

_NAME_HELP = "For people; this machine's host name by default."


def _take_join_code(given: str) -> None:
    """Keep a join code that a speaker is started with.

    Raises:
        ConfigError: it is none, or cannot be kept.
    """
    from musicsyncd.cli.key import read_code
    from musicsyncd.system import keyfile

    if options.without_key():
        raise click.UsageError("--open and --join contradict each other: a room is open or has a key")
    paths = options.paths()
    code = read_code() if given == "-" else given
    if given == "-" and not code and paths.key_file.exists():
        return  # A daemon that is started anew in the same process has had what its standard input held.
    said = keyfile.join(paths.key_file, keyfile.parse_join_code(code), paths.rotated_key_file)
    if said:
        click.echo(f"musicsyncd: {said}", err=True)


def _absolute(paths: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(os.path.abspath(os.path.expanduser(path)) for path in paths)


def _tracks(given: tuple[str, ...]) -> tuple[str, ...]:
    """Return the tracks of the call, or else of the configuration file, wherever a daemon may go from here."""
    if given:
        return _absolute(given)
    listed = click.get_current_context().lookup_default("tracks")
    return tuple(listed) if listed else ()


def _command(context: click.Context, param: click.Parameter, value: Any) -> tuple[str, ...]:  # noqa: ANN401 - click's own
    """Return the words of a command: it is a text, or in the configuration file a list of words too."""
    try:
        return parse_command(value or "")
    except ConfigError as error:
        raise click.BadParameter(str(error), context, param) from None


def _set_verbose(verbose: bool) -> None:
    """Log as much as the configuration says by now."""
    from musicsyncd.system import log

    log.set_verbose(verbose)


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  musicsyncd host ~/Music/Album      # play an album
  musicsyncd host --library ~/Music  # all of it can be searched and played
  musicsyncd host --speaker          # take up the queue again; sound here too
  musicsyncd host --room kitchen --name attic-pi""",
)
@click.argument("tracks", nargs=-1, metavar="[TRACK|FOLDER]...")
@click.option(
    "--library",
    multiple=True,
    type=click.Path(file_okay=False),
    metavar="FOLDER",
    envvar="MUSICSYNCD_LIBRARY",
    help="Folder whose music can be searched and played by name; may be repeated.",
)
@click.option("--speaker/--no-speaker", default=False, envvar="MUSICSYNCD_SPEAKER", help="Play here too.")
@click.option(
    "--room",
    default=configuration.DEFAULT_ROOM,
    show_default=True,
    envvar="MUSICSYNCD_ROOM",
    help="The room that always exists.",
)
@click.option("--name", envvar="MUSICSYNCD_NAME", help=_NAME_HELP)
@click.option(
    "--replaygain",
    type=click.Choice(configuration.REPLAYGAIN),
    default="off",
    show_default=True,
    envvar="MUSICSYNCD_REPLAYGAIN",
    help="Make every track, or every album, equally loud by its tags.",
)
@click.option(
    "--replaygain-preamp-db",
    type=click.FloatRange(-configuration.MAX_PREAMP_DB, configuration.MAX_PREAMP_DB),
    metavar="DB",
    default=0.0,
    show_default=True,
    envvar="MUSICSYNCD_REPLAYGAIN_PREAMP_DB",
    help="Louder than the tags say; peaks stay below full scale.",
)
@click.option(
    "--after-restart",
    type=click.Choice(configuration.AFTER_RESTART),
    default="now",
    show_default=True,
    envvar="MUSICSYNCD_AFTER_RESTART",
    help="After a crash or power cut, go on where the music would be now, or where it stopped.",
)
@click.option(
    "--tls/--no-tls",
    default=False,
    envvar="MUSICSYNCD_TLS",
    help="HTTPS too, with a certificate of the host's own: a page may do more on a phone then.",
)
@click.option(
    "--tls-port",
    type=click.IntRange(1, 65535),
    metavar="PORT",
    envvar="MUSICSYNCD_TLS_PORT",
    help="Of HTTPS; the one after --port by default.",
)
@options.verbose_option
@options.host_options
def host(verbose: bool, **settings: Any) -> None:  # noqa: ANN401 - one for one
    """Run the host: it decides what plays and when.

    Tracks and folders that are given play at once, and what was in the queue follows them; without any,
    everything is as it was left: music that was stopped with the host goes on where it faded out, and music that
    a crash or a power cut broke off as --after-restart says. The room's key is made at the first start.
    """
    config = _host_config(**settings)
    from musicsyncd.system import host_daemon, log

    log.set_up(verbose=verbose)
    host_daemon.run(config, rereader(_host_again))


def _host_again(verbose: bool, **settings: Any) -> HostConfig:  # noqa: ANN401 - as above
    config = _host_config(**settings)
    _set_verbose(verbose)
    return config


def _host_config(
    tracks: tuple[str, ...],
    library: tuple[str, ...],
    name: str | None,
    tls_port: int | None,
    **settings: Any,  # noqa: ANN401 - as above
) -> HostConfig:
    return HostConfig(
        name=configuration.default_name() if name is None else name,
        network=options.network_config(),
        paths=options.paths(),
        tracks=_tracks(tracks),
        library=_absolute(library),
        open=options.without_key(),
        given_tls_port=tls_port,
        **settings,
    )


def _lighten() -> None:
    """Keep out of a speaker's process what it has no use for; call it before anything large is imported."""
    # Read when NumPy is imported: the audio thread is not to wait for helpers that have no real-time priority.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # A speaker fetches by plain HTTP and checks hashes. asyncio and http.client, which both load TLS, do without where
    # Python was built so; None says that a module is not there. It is 1.2 MiB of a small board's memory.
    if "ssl" not in sys.modules:
        sys.modules["ssl"] = None  # type: ignore[assignment]


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  musicsyncd peer                           # default sound card, any host
  musicsyncd peer --join J-7K2M-…           # the first time, see `key show`
  musicsyncd peer --device hw:DAC,0         # as `musicsyncd devices` lists it
  musicsyncd peer --host 192.168.1.10       # where multicast does not pass
  musicsyncd peer --output file:/tmp/a.wav  # what would sound, into a file""",
)
@click.option("--name", envvar="MUSICSYNCD_NAME", help=_NAME_HELP)
@click.option(
    "--join",
    metavar="CODE",
    envvar="MUSICSYNCD_JOIN",
    help="Join code to take and keep first; - reads it from standard input. Everybody on this machine can see a "
    "command line: where that matters, use - or `musicsyncd key join`.",
)
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
    envvar="MUSICSYNCD_CACHE_MIB",
    help="The most that fetched tracks may take on disk; by default 2048, or a tenth of what is free there.",
)
@click.option(
    "--library",
    multiple=True,
    type=click.Path(file_okay=False),
    metavar="FOLDER",
    envvar="MUSICSYNCD_LIBRARY",
    help="Folder with music of this machine: what is in it is not fetched; may be repeated.",
)
@click.option(
    "--on-sound",
    type=click.UNPROCESSED,
    callback=_command,
    metavar="COMMAND",
    envvar="MUSICSYNCD_ON_SOUND",
    help="Run this when there is something to play, as to switch an amplifier on. No shell sees it.",
)
@click.option(
    "--on-silence",
    type=click.UNPROCESSED,
    callback=_command,
    metavar="COMMAND",
    envvar="MUSICSYNCD_ON_SILENCE",
    help="Run this when there has been nothing to play for a while, and at the end of the daemon.",
)
@click.option(
    "--silence-after-s",
    type=click.FloatRange(0.0, MAX_SILENCE_AFTER_S),
    metavar="S",
    default=HookConfig().silence_after_s,
    show_default=True,
    envvar="MUSICSYNCD_SILENCE_AFTER_S",
    help="How long that while is.",
)
@click.option(
    "--hook-timeout-s",
    type=click.FloatRange(MIN_HOOK_TIMEOUT_S, MAX_HOOK_TIMEOUT_S),
    metavar="S",
    default=HookConfig().timeout_s,
    show_default=True,
    envvar="MUSICSYNCD_HOOK_TIMEOUT_S",
    help="Such a command is killed when it takes longer.",
)
@options.verbose_option
@options.peer_options
def peer(join: str | None, verbose: bool, **settings: Any) -> None:  # noqa: ANN401 - one for one
    """Run a speaker: it plays what the host says, in step with all others.

    It needs the room's key, unless it runs as the host's user on the host's machine: give it the host's join code
    once, with --join or `musicsyncd key join`.

    A command for --on-sound or --on-silence finds MUSICSYNCD_EVENT (sound or silence), MUSICSYNCD_NAME and
    MUSICSYNCD_ROOM in its environment. In the configuration file it is a text, or a list of its words. A volume of 0
    is no silence.
    """
    if join is not None:
        _take_join_code(join)
    config = _peer_config(**settings)
    _lighten()
    from musicsyncd.system import log, peer_daemon

    log.set_up(verbose=verbose)
    peer_daemon.run(config, rereader(_peer_again))


def _peer_again(join: str | None, verbose: bool, **settings: Any) -> PeerConfig:  # noqa: ANN401 - as above
    # The code was for the start: the room may have had a newer key since.
    config = _peer_config(**settings)
    _set_verbose(verbose)
    return config


def _peer_config(
    name: str | None,
    rate: int | None,
    library: tuple[str, ...],
    on_sound: tuple[str, ...],
    on_silence: tuple[str, ...],
    silence_after_s: float,
    hook_timeout_s: float,
    **settings: Any,  # noqa: ANN401 - as above
) -> PeerConfig:
    return PeerConfig(
        name=configuration.default_name() if name is None else name,
        network=options.network_config(),
        paths=options.paths(),
        host=options.host_address(),
        rate_hz=rate,
        library=_absolute(library),
        open=options.without_key(),
        hooks=HookConfig(on_sound, on_silence, silence_after_s, hook_timeout_s),
        **settings,
    )
