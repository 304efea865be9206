"""The commands for how loud, how late and which channels: rooms and single speakers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click

from musicsyncd.cli.framework import Command, FloatRange
from musicsyncd.cli.options import room_option, with_client
from musicsyncd.cli.transport import say
from musicsyncd.config import CHANNELS, MAX_OUTPUT_DELAY_MS
from musicsyncd.system.control_client import api_path

if TYPE_CHECKING:
    from musicsyncd.system.control_client import ControlClient

# "-5" is a value of these commands, not an option.
_NEGATIVE_VALUES = {"ignore_unknown_options": True}


def _target(peer: str | None, room: str) -> tuple[str, str]:
    return ("rooms", room) if peer is None else ("peers", peer)


def _checked_volume(text: str) -> str:
    """Return a volume as the host takes it: ``40``, ``+5`` or ``-5``."""
    match = re.fullmatch(r"([+-]?)(\d{1,3})%?", text, re.ASCII)
    if match is None or int(match[2]) > 100:
        raise click.BadParameter(f"{text!r} is not one: say 0 to 100, or a change like +5 or -5.", param_hint="LEVEL")
    return match[1] + match[2]


@click.command(
    cls=Command,
    context_settings=_NEGATIVE_VALUES,
    epilog="""\b
Examples:
  musicsyncd volume 40           # the whole room
  musicsyncd volume -5           # the whole room, five down
  musicsyncd volume kitchen +10  # one speaker, within the room's volume""",
)
@click.argument("target", nargs=-1, required=True, metavar="[PEER] LEVEL")
@room_option
@with_client
def volume(client: ControlClient, target: tuple[str, ...], room: str) -> None:
    """Set the volume of a room or a speaker: 0 to 100, or a change.

    A speaker is as loud as its own volume of the room's: 50 of 50 is 25.
    """
    if len(target) > 2:
        raise click.UsageError(f"Too much: {' '.join(target[2:])!r}; say a speaker and a level, or a level.")
    peer = target[0] if len(target) == 2 else None
    say(client.post(api_path(*_target(peer, room), "volume"), {"volume": _checked_volume(target[-1])}))


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  musicsyncd mute                # the whole room
  musicsyncd mute kitchen        # one speaker
  musicsyncd mute kitchen --off  # and back""",
)
@click.argument("peer", required=False)
@click.option("--off", is_flag=True, help="Let it sound again, as `musicsyncd unmute`.")
@room_option
@with_client
def mute(client: ControlClient, peer: str | None, off: bool, room: str) -> None:
    """Silence a room or a speaker; it stays in step."""
    say(client.post(api_path(*_target(peer, room), "mute"), {"muted": not off}))


@click.command(cls=Command, epilog="\b\nExample:\n  musicsyncd unmute kitchen")
@click.argument("peer", required=False)
@room_option
@with_client
def unmute(client: ControlClient, peer: str | None, room: str) -> None:
    """Let a room or a speaker sound again."""
    say(client.post(api_path(*_target(peer, room), "mute"), {"muted": False}))


@click.command(
    cls=Command,
    context_settings=_NEGATIVE_VALUES,
    epilog="""\b
Examples:
  musicsyncd delay kitchen 35    # its amplifier adds 35 ms: feed it earlier
  musicsyncd delay kitchen -2.5  # it sounds 2.5 ms too early: feed it later
  musicsyncd delay kitchen 0     # as the sound card says""",
)
@click.argument("peer")
@click.argument("milliseconds", metavar="±MS", type=FloatRange(-MAX_OUTPUT_DELAY_MS, MAX_OUTPUT_DELAY_MS))
@with_client
def delay(client: ControlClient, peer: str, milliseconds: float) -> None:
    """Say by how much what stands behind a speaker's sound card is late.

    Positive: the amplifier or wireless link behind it is late by so much, and it is fed earlier. Negative:
    it is fed later. One metre further away is 2.9 ms.
    """
    say(client.post(api_path("peers", peer, "delay"), {"output_delay_ms": milliseconds}))


@click.command(
    cls=Command, epilog="\b\nExamples:\n  musicsyncd channels shelf-left left\n  musicsyncd channels kitchen mono"
)
@click.argument("peer")
@click.argument("which", type=click.Choice(CHANNELS))
@with_client
def channels(client: ControlClient, peer: str, which: str) -> None:
    """Say which channels a speaker plays."""
    say(client.post(api_path("peers", peer, "channels"), {"channels": which}))
