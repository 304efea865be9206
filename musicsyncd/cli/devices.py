"""The command ``devices``: which sound cards a speaker can use."""

from __future__ import annotations

import click

from musicsyncd.cli import figures, output
from musicsyncd.cli.figures import clean
from musicsyncd.cli.framework import Command
from musicsyncd.cli.options import json_option
from musicsyncd.cli.output import Cell, Column, Line, Table

_COLUMNS = (
    Column("", flexible=False),
    Column("DEVICE", flexible=True),
    Column("CHANNELS", right=True),
    Column("RATE", right=True),
    Column("BY"),
    Column("NAME", flexible=True),
)


@click.command(
    cls=Command,
    epilog="\b\nExamples:\n  musicsyncd devices\n  musicsyncd peer --device hw:DAC,0",
)
@json_option
def devices(json: bool) -> None:
    """List this machine's sound cards, by the names that `peer --device` takes."""
    from musicsyncd.system.audio import list_devices

    found = list_devices()
    if json:
        fields = ("name", "stable_name", "channels", "rate_hz", "is_default", "api")
        output.print_json([{field: getattr(device, field) for field in fields} for device in found])
        return
    if not found:
        click.echo("no sound card: plug one in, or run `musicsyncd peer --output null` to try without")
        return
    table = Table(_COLUMNS)
    for device in found:
        style = "good" if device.is_default else ""
        same = device.name == device.stable_name
        texts = (
            "*" if device.is_default else "",
            device.stable_name,
            str(device.channels),
            figures.rate_hz(device.rate_hz),
            device.api,
            "" if same else device.name,
        )
        table.rows.append(tuple(Cell(clean(text), style) for text in texts))
    table.rows.append(Line.of(Cell("* is what plays when none is named", "dim")))
    output.print_table(table)
