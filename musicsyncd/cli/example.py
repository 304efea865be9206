"""The command ``config``: an example of the configuration file, made from the options themselves.

Owns how a key is shown: what its option's help says, then the key with its default, commented out. What keys there
are is :mod:`musicsyncd.cli.settings`'s to say. ``systemd/musicsyncd.toml.example`` is what this prints; a test holds
the two together.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator

import click

from musicsyncd.cli.framework import Command
from musicsyncd.cli.settings import COMMON, SECTIONS

_HEAD = """\
# musicsyncd's configuration: /etc/musicsyncd/musicsyncd.toml for the system's services, and
# ~/.config/musicsyncd/musicsyncd.toml for one person's.
#
# A key is an option of the command line without its dashes; what is given there, or in the option's
# variable (MUSICSYNCD_PORT for --port), counts before this file. What is commented out here is the
# default, or an example where there is none. A path may be relative to the folder that this file is
# in. The room's key has a file of its own and never stands here.
"""

_FOR_ALL = ("host", "peer", "status")
"""Commands that have all the options of ``[common]`` between them; the first that has one says what it means."""

_EXAMPLES: dict[str, object] = {
    "host": "192.168.1.10",
    "key-file": "/etc/musicsyncd/room.key",
    "interface": ["eth0"],
    "state-dir": "/srv/musicsyncd",
    "cache-dir": "/srv/musicsyncd/cache",
    "runtime-dir": "/srv/musicsyncd/run",
    "name": "kitchen",
    "tracks": ["/srv/music/Album"],
    "library": ["/srv/music"],
    "tls-port": 7784,
    "device": "hw:DAC,0",
    "rate": 44100,
    "output-delay-ms": 12.5,
    "channels": "left",
    "cache-mib": 1024,
    "on-sound": "/usr/local/bin/amplifier on",
    "on-silence": "/usr/local/bin/amplifier off",
    "qr": True,
}
"""Of every key whose option has no default."""

_ARGUMENTS = {"tracks": "Tracks and folders to play at each start, before what was in the queue."}
"""What click has no help for."""

_NOT_SET = "  # not set by default"
_WIDTH = 100


@click.command(cls=Command, epilog="\b\nExample:\n  musicsyncd config > ~/.config/musicsyncd/musicsyncd.toml")
def config() -> None:
    """Print an example of the configuration file: every key, what it means, and its default."""
    root = click.get_current_context().find_root().command
    assert isinstance(root, click.Group)
    click.echo(text(root), nl=False)


def text(root: click.Group) -> str:
    """Return a configuration file in which every key is explained and commented out.

    Args:
        root: the whole command line.
    """
    parts = [_HEAD]
    for section, keys in {"common": COMMON, **SECTIONS}.items():
        parts.append(f"[{section}]\n")
        found: dict[str, click.Parameter] = {}
        for command in _FOR_ALL if section == "common" else (section,):
            found = dict(parameters(root, command)) | found
        parts += [_entry(key, found[key]) for key in keys]
    return "\n".join(parts)


def default(parameter: click.Parameter) -> object:
    """Return the default of an option as the file would have it, or None for none."""
    value = parameter.get_default(click.Context(click.Command("")))
    return value if isinstance(value, bool | int | float | str) else None


def parameters(root: click.Group, name: str) -> Iterator[tuple[str, click.Parameter]]:
    """Yield by key what a command of the root takes, and those below it."""
    command = root.get_command(click.Context(root), name)
    assert command is not None
    below = command.commands.values() if isinstance(command, click.Group) else [command]
    for one in below:
        for parameter in one.params:
            yield (parameter.name or "").replace("_", "-"), parameter


def _entry(key: str, parameter: click.Parameter) -> str:
    said = [_ARGUMENTS[key] if key in _ARGUMENTS else getattr(parameter, "help", "")]
    kind = parameter.type
    if isinstance(kind, click.Choice):
        said.append(f"One of {', '.join(kind.choices)}.")
    elif isinstance(kind, click.IntRange | click.FloatRange):
        said.append(f"From {kind.min:.12g} to {kind.max:.12g}.")
    value = default(parameter)
    shown = json.dumps(_EXAMPLES[key] if value is None else value, ensure_ascii=False)
    lines = textwrap.wrap(" ".join(said), _WIDTH, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)
    return "\n".join([*lines, f"#{key} = {shown}{_NOT_SET if value is None else ''}", ""])
