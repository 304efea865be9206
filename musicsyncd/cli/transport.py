"""The commands that play: ``play``, ``pause``, ``seek``, ``next`` and so on, and how a room plays its queue."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from musicsyncd.cli.figures import clean
from musicsyncd.cli.framework import Command, FloatRange
from musicsyncd.cli.options import room_option, with_client
from musicsyncd.config import MAX_CROSSFADE_S
from musicsyncd.system.control_client import api_path

if TYPE_CHECKING:
    from musicsyncd.system.control_client import ControlClient


def say(answer: dict[str, Any]) -> None:
    """Print what the host says it did."""
    message = answer.get("message")
    if message:
        click.echo(clean(str(message)))


_NUMBERED = re.compile(r"library:[0-9]+")

_WAYS: tuple[tuple[str, str, str], ...] = (
    ("search", "WORDS", "Tracks of the library that have these words."),
    ("album", "NAME", "An album of the library."),
    ("artist", "NAME", "All of an artist; with --album, only to say whose album."),
    ("folder", "NAME", "A folder of the library, by the end of its path."),
    ("playlist", "FILE", "What an M3U, PLS or XSPF playlist names, within the library."),
)
"""How tracks may be named beside by their paths: option, its value, help."""


def as_the_host_sees(client: ControlClient, tracks: tuple[str, ...]) -> list[str]:
    """Return paths as the host can open them: absolute if it runs here, as they are otherwise."""
    if not tracks or not client.is_local:
        return list(tracks)
    return [track if _NUMBERED.fullmatch(track) else os.path.abspath(os.path.expanduser(track)) for track in tracks]


def pick_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the ways to name tracks; it gets what was given as ``pick``, by the API's names."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - click's own
        given = {way: kwargs.pop(way) for way, _, _ in _WAYS}
        pick = {way: value for way, value in given.items() if value is not None}
        ways = [" and ".join(f"--{way}" for way in pick)] if pick else []
        if kwargs["tracks"] and pick:
            raise click.UsageError(f"Name tracks by paths or with {ways[0]}, not both.")
        if len(pick) > 1 and set(pick) != {"album", "artist"}:
            raise click.UsageError(f"Name tracks in one way, not with {ways[0]}.")
        if "" in pick.values():
            raise click.UsageError(f"{ways[0]} needs a name.")
        return function(*args, pick=pick, **kwargs)

    decorated: Callable[..., Any] = call
    for way, value, text in reversed(_WAYS):
        decorated = click.option(f"--{way}", metavar=value, help=text)(decorated)
    return decorated


def picked(client: ControlClient, tracks: tuple[str, ...], pick: dict[str, str]) -> dict[str, Any]:
    """Return the body of a request for tracks."""
    if "playlist" in pick:
        pick = pick | {"playlist": as_the_host_sees(client, (pick["playlist"],))[0]}
    return {"tracks": as_the_host_sees(client, tracks), **pick}


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  musicsyncd play                         # the queue from where it is
  musicsyncd play ~/Music/Album           # an album now, and then the queue
  musicsyncd play a.flac b.mp3 --room kitchen
  musicsyncd play --album "Kind of Blue"  # from the host's library
  musicsyncd play library:17              # as `musicsyncd search` numbers it""",
)
@click.argument("tracks", nargs=-1, metavar="[TRACK|FOLDER]...")
@pick_options
@room_option
@with_client
def play(client: ControlClient, tracks: tuple[str, ...], pick: dict[str, str], room: str) -> None:
    """Play the queue, or these tracks at once and then the rest of it.

    Paths are files of the host's machine: relative ones mean this folder if the host runs here. What is named
    otherwise is looked up in the host's library.
    """
    say(client.post(api_path("rooms", room, "play"), picked(client, tracks, pick)))


@click.command(cls=Command, epilog="\b\nExample:\n  musicsyncd pause --room kitchen")
@room_option
@with_client
def pause(client: ControlClient, room: str) -> None:
    """Pause on every speaker, at the same sample."""
    say(client.post(api_path("rooms", room, "pause")))


@click.command(cls=Command, epilog="\b\nExample:\n  musicsyncd resume")
@room_option
@with_client
def resume(client: ControlClient, room: str) -> None:
    """Go on from where it was paused."""
    say(client.post(api_path("rooms", room, "resume")))


@click.command(cls=Command, epilog="\b\nExample:\n  musicsyncd stop")
@room_option
@with_client
def stop(client: ControlClient, room: str) -> None:
    """Stop; the queue stays."""
    say(client.post(api_path("rooms", room, "stop")))


@click.command(
    cls=Command,
    # "-10" is a place to go to, not an option.
    context_settings={"ignore_unknown_options": True},
    epilog="""\b
Examples:
  musicsyncd seek 1:30  # minutes and seconds from the start; 90 is the same
  musicsyncd seek -10   # ten seconds back
  musicsyncd seek +30   # half a minute on
  musicsyncd seek 50%   # to the middle""",
)
@click.argument("to")
@room_option
@with_client
def seek(client: ControlClient, to: str, room: str) -> None:
    """Go to another place in the track."""
    say(client.post(api_path("rooms", room, "seek"), {"to": to}))


@click.command("next", cls=Command, epilog="\b\nExample:\n  musicsyncd next")
@room_option
@with_client
def next_track(client: ControlClient, room: str) -> None:
    """Go to the next track of the queue."""
    say(client.post(api_path("rooms", room, "next")))


@click.command("previous", cls=Command, epilog="\b\nExample:\n  musicsyncd previous")
@room_option
@with_client
def previous_track(client: ControlClient, room: str) -> None:
    """Go to the start of the track, or to the one before if it has only begun."""
    say(client.post(api_path("rooms", room, "previous")))


@click.command(cls=Command, epilog="\b\nExamples:\n  musicsyncd shuffle on\n  musicsyncd shuffle off --room kitchen")
@click.argument("switch", type=click.Choice(("on", "off")))
@room_option
@with_client
def shuffle(client: ControlClient, switch: str, room: str) -> None:
    """Mix what is to come once, or bring back the order in which it was added.

    What is mixed stays so: `musicsyncd queue` shows the order in which it will play.
    """
    say(client.post(api_path("rooms", room, "shuffle"), {"on": switch == "on"}))


@click.command(cls=Command, epilog="\b\nExamples:\n  musicsyncd repeat all\n  musicsyncd repeat off")
@click.argument("what", type=click.Choice(("off", "one", "all")))
@room_option
@with_client
def repeat(client: ControlClient, what: str, room: str) -> None:
    """Play the track, or the whole queue, again and again, without a gap."""
    say(client.post(api_path("rooms", room, "repeat"), {"repeat": what}))


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  musicsyncd crossfade 4  # a track rises over the last 4 s of the one before
  musicsyncd crossfade 0  # gapless: each track as it was recorded""",
)
@click.argument("seconds", type=FloatRange(0, MAX_CROSSFADE_S))
@room_option
@with_client
def crossfade(client: ControlClient, seconds: float, room: str) -> None:
    """Let tracks that follow each other fade over for so many seconds: 0 to 12.

    No more than half of a track fades. A pause, a seek and `musicsyncd next` take effect at once.
    """
    say(client.post(api_path("rooms", room, "crossfade"), {"seconds": seconds}))
