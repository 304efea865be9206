"""The command ``link``: addresses that sign a browser in, for phones and guests."""

from __future__ import annotations

from typing import Any

import click

from musicsyncd.cli import figures, output
from musicsyncd.cli.figures import clean
from musicsyncd.cli.framework import MakingGroup
from musicsyncd.cli.key import qr_option, show_qr
from musicsyncd.cli.options import json_option, local_client, local_options
from musicsyncd.cli.output import Cell, Column, Table
from musicsyncd.cli.transport import say
from musicsyncd.system.control_client import api_path

LINKS = api_path("links")

_MAY = {
    "control": "command everything that plays",
    "guest": "listen, search and add to the end of the queue",
    "listen": "listen and look",
}
_COLUMNS = (Column("LINK"), Column("ROLE"), Column("NAME", flexible=True), Column("MADE"), Column("USED LAST"))


@click.group(
    cls=MakingGroup,
    epilog="""\b
Examples:
  musicsyncd link                         # for your own phone
  musicsyncd link --role guest --for Ada  # who may add to the queue
  musicsyncd link list
  musicsyncd link revoke 3F7KQZ2M""",
)
def link() -> None:
    """Make a link to the host's page that signs a browser in, list the links, or take one back.

    To be run on the host's machine.
    """


@link.command(epilog="\b\nExamples:\n  musicsyncd link\n  musicsyncd link --role guest --for Ada")
@click.option(
    "--role",
    type=click.Choice(tuple(_MAY)),
    default="control",
    show_default=True,
    help="What whoever has the link may do.",
)
@click.option("--for", "whom", metavar="NAME", default="", help="Whom it is for, to know it in `musicsyncd link list`.")
@qr_option
@json_option
@local_options
def make(role: str, whom: str, qr: bool | None, json: bool) -> None:
    """Make a link, and show it with a QR code. It is shown this once."""
    made = local_client().post(LINKS, {"role": role, "name": whom})
    if json:
        output.print_json(made)
        return
    urls = [clean(str(one)) for one in made.get("urls") or [""]]
    click.echo(urls[0])
    click.echo("")
    click.echo(f"Whoever opens it may {_MAY[role]}, until `musicsyncd link revoke {clean(str(made.get('id')))}`.")
    others = [one.partition("#")[0] for one in urls[1:]]
    if others:
        click.echo(f"The host is also at {', '.join(others)}")
    fingerprint = clean(str(made.get("fingerprint") or ""))
    if fingerprint:
        click.echo(f"The browser warns of the host's own certificate. Its SHA-256 fingerprint is\n{fingerprint}")
    show_qr(urls[0], qr)


@link.command("list", epilog="\b\nExample:\n  musicsyncd link list --json")
@json_option
@local_options
def list_links(json: bool) -> None:
    """List the links that were given away. What they open with is not kept, and cannot be shown again."""
    found: list[dict[str, Any]] = local_client().get(LINKS).get("links", [])
    if json:
        output.print_json(found)
        return
    if not found:
        click.echo("no link was given away: make one with `musicsyncd link`")
        return
    table = Table(_COLUMNS)
    table.rows += [tuple(Cell(clean(text)) for text in _row(one)) for one in found]
    output.print_table(table)


def _row(one: dict[str, Any]) -> tuple[str, ...]:
    used_s = one.get("used_s")
    used = "never" if used_s is None else figures.day_and_time(float(used_s))
    made = figures.day_and_time(float(one.get("made_s") or 0.0))
    return str(one.get("id")), str(one.get("role")), str(one.get("name") or "–"), made, used


@link.command(epilog="\b\nExample:\n  musicsyncd link revoke 3F7KQZ2M")
@click.argument("link_id", metavar="LINK")
@local_options
def revoke(link_id: str) -> None:
    """Take a link back: pages that are signed in by it end at once."""
    say(local_client().delete(api_path("links", link_id)))
