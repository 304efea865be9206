"""The command ``version``: what to put into a report of a fault."""

from __future__ import annotations

import platform

import click

from musicsyncd import __version__
from musicsyncd.cli import output
from musicsyncd.cli.framework import Command
from musicsyncd.cli.options import json_option

_LIBRARIES = ("sounddevice", "soundfile", "numpy", "aiohttp", "msgspec", "click", "rich")


@click.command(cls=Command, epilog="\b\nExample:\n  musicsyncd version --json")
@json_option
def version(json: bool) -> None:
    """Print the versions of the program, of Python and of what it uses."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as version_of

    libraries = {}
    for name in _LIBRARIES:
        try:
            libraries[name] = version_of(name)
        except PackageNotFoundError:
            libraries[name] = "missing"
    system = f"{platform.system()} {platform.release()} {platform.machine()}"
    if json:
        output.print_json(
            {"musicsyncd": __version__, "python": platform.python_version(), "system": system, "libraries": libraries}
        )
        return
    click.echo(f"musicsyncd {__version__}")
    click.echo(f"Python {platform.python_version()} on {system}")
    click.echo(", ".join(f"{name} {number}" for name, number in libraries.items()))
