"""The commands that play: ``play``, ``pause``, ``resume``, ``stop``, ``seek``, ``next``, ``previous``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from musicsyncd.cli.figures import clean
from musicsyncd.cli.framework import Command
from musicsyncd.cli.options import room_option, with_client
from musicsyncd.system.control_client import api_path

if TYPE_CHECKING:
    from musicsyncd.system.control_client import ControlClient


def say(answer: dict[str, Any]) -> None:
    """Print what the host says it did."""
    message = answer.get("message")
    if message:
        click.echo(clean(str(message)))


def as_the_host_sees(client: ControlClient, tracks: tuple[str, ...]) -> list[str]:
    """Return paths as the host can open them: absolute if it runs here, as they are otherwise."""
    if not tracks or not client.is_local:
        return list(tracks)
    return [os.path.abspath(os.path.expanduser(track)) for track in tracks]


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  musicsyncd play                        play the queue from where it is
  musicsyncd play ~/Music/Album          play an album now, and then go on with the queue
  musicsyncd play a.flac b.mp3 --room kitchen""",
)
@click.argument("tracks", nargs=-1, metavar="[TRACK|FOLDER]...")
@room_option
@with_client
def play(client: ControlClient, tracks: tuple[str, ...], room: str) -> None:
    """Play the queue, or these tracks at once and then the rest of it.

    Paths are files of the host's machine: relative ones mean this folder if the host runs here.
    """
    say(client.post(api_path("rooms", room, "play"), {"tracks": as_the_host_sees(client, tracks)}))


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
  musicsyncd seek 1:30       minutes and seconds from the start (or 90, or 1:02:03)
  musicsyncd seek -10        ten seconds back
  musicsyncd seek +30        half a minute on
  musicsyncd seek 50%        to the middle""",
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
