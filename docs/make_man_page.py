"""Make musicsyncd(1) from the help of the commands: ``python docs/make_man_page.py > docs/musicsyncd.1``.

Owns what a manual page has and a command's help has not: files, signals, exit codes. All else is
click's own text, so that the two cannot differ. The page is kept in the repository, because what builds
a wheel has no click; tests/unit/test_packaging.py holds it to the commands. Options that several
commands share are described once. Source of the macros: man(7), groff_man(7).
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator

import click

from musicsyncd import __version__
from musicsyncd.cli import cli

SHARED = 3
"""An option that as many commands have, with the same help, is described once for all of them."""

FILES = (
    ("~/.config/musicsyncd/musicsyncd.toml, /etc/musicsyncd/musicsyncd.toml", "The configuration; the first is used."),
    ("~/.local/state/musicsyncd, /var/lib/musicsyncd", "State: queues, the key, who the speakers are."),
    ("~/.cache/musicsyncd, /var/cache/musicsyncd", "Tracks that were fetched; may be deleted."),
    ("$XDG_RUNTIME_DIR/musicsyncd, /run/musicsyncd", "The socket on which a host takes commands of its own machine."),
    (
        "/etc/credstore/musicsyncd-host.key, /etc/credstore/musicsyncd-peer.key",
        "The room's key as systemd's credential.",
    ),
)
SIGNALS = (
    ("SIGTERM, SIGINT", "A host or a speaker falls silent, writes down what it knows, and ends."),
    ("SIGHUP", "A host or a speaker reads its configuration file again."),
)
EXIT_STATUS = (
    ("0", "Done."),
    ("1", "Could not: the reason stands on standard error, in one line. Also: \\fBstatus\\fP found no host."),
    ("2", "A wrong call: an option or an argument that does not exist or may not be so."),
    ("130", "Ended by Ctrl\\-C."),
)
ENVIRONMENT = (
    ("MUSICSYNCD_\\fIOPTION\\fP", "An option that is not given: MUSICSYNCD_KEY_FILE for \\fB\\-\\-key\\-file\\fP."),
    (
        "STATE_DIRECTORY, CACHE_DIRECTORY, RUNTIME_DIRECTORY, CREDENTIALS_DIRECTORY",
        "Set by systemd for a service; folders of state, cache and socket, and of the key as \\fIroom.key\\fP.",
    ),
    ("NOTIFY_SOCKET, WATCHDOG_USEC", "Set by systemd; where a host or a speaker says that it is ready, and alive."),
)


def escaped(text: str) -> str:
    """Return text that roff prints as it stands, whatever the terminal's or the reader's encoding."""
    text = text.replace("\\", "\\(rs").replace("-", "\\-").replace("'", "\\(aq")
    text = "".join(c if c.isascii() else f"\\[u{ord(c):04X}]" for c in text)
    return f"\\&{text}" if text.startswith(".") else text


def running(text: str) -> str:
    """Return a paragraph as one line; what stands in backquotes is bold."""
    return re.sub(r"`([^`]*)`", r"\\fB\1\\fP", escaped(" ".join(text.split())))


def help_lines(text: str | None) -> Iterator[str]:
    """Yield a command's text: paragraphs, and what click is told to keep in lines as they are."""
    for paragraph in re.split(r"\n\s*\n", (text or "").strip()):
        if paragraph.startswith("\b"):
            yield from (".PP", ".nf", *map(escaped, paragraph.removeprefix("\b").strip("\n").splitlines()), ".fi")
        elif paragraph:
            yield from (".PP", running(paragraph))


def described(entries: tuple[tuple[str, str], ...]) -> Iterator[str]:
    """Yield a list of names and what each means."""
    for name, meaning in entries:
        yield from (".TP", f".B {name}", meaning)


def options(context: click.Context) -> list[tuple[str, str]]:
    """Return a command's options and what each means, as its help has them; and not ``--help``, which all have."""
    found = [one for one in context.command.params if isinstance(one, click.Option)]
    return [record for one in found if (record := one.get_help_record(context)) is not None]


def option_lines(records: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Yield options and what each means."""
    for names, meaning in records:
        yield from (".TP", f".B {escaped(names)}", running(meaning))


def commands(group: click.Group, context: click.Context) -> Iterator[click.Context]:
    """Yield a context for every command below a group, in the order of the help, groups before what is in them."""
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if command.hidden:
            continue
        below = click.Context(command, info_name=name, parent=context)
        yield below
        if isinstance(command, click.Group):
            yield from commands(command, below)


def command_lines(context: click.Context, shared: set[tuple[str, str]]) -> Iterator[str]:
    """Yield one command: how it is called, its text, the options that it does not share, its examples."""
    command = context.command
    pieces = [piece for piece in command.collect_usage_pieces(context) if piece != "[OPTIONS]"]
    path = context.command_path.partition(" ")[2]
    yield from (".SS", f"{escaped(path)} {' '.join(map(escaped, pieces))}".rstrip())
    yield from list(help_lines(command.help))[1:]
    yield from option_lines(record for record in options(context) if record not in shared)
    yield from help_lines(command.epilog)


def page() -> str:
    """Return the whole page as roff."""
    root = click.Context(cli, info_name="musicsyncd")
    below = list(commands(cli, root))
    counted = Counter(record for context in below for record in options(context))
    shared = [record for record, commands_having_it in counted.items() if commands_having_it >= SHARED]
    examples = list(help_lines(cli.epilog))
    lines = [
        '.\\" Made by docs/make_man_page.py from the help of the commands. Do not edit.',
        f'.TH MUSICSYNCD 1 "" "musicsyncd {__version__}" "User Commands"',
        *(".nh", ".ad l"),
        *(".SH NAME", "musicsyncd \\- plays music in step on every speaker of a LAN"),
        *(".SH SYNOPSIS", ".B musicsyncd", "\\fICOMMAND\\fP [\\fIOPTIONS\\fP] [\\fIARGUMENTS\\fP]"),
        *(".br", ".B musicsyncd", "[\\fICOMMAND\\fP] \\fB\\-\\-help\\fP | \\fB\\-\\-version\\fP"),
        *(".SH DESCRIPTION", running(DESCRIPTION)),
        *(".SH COMMANDS", *(line for context in below for line in command_lines(context, set(shared)))),
        *(".SH OPTIONS", "Of every command for which they mean something; its \\fB\\-\\-help\\fP says so:"),
        *option_lines(shared),
        *(".TP", ".B \\-h, \\-\\-help", "Show what a command does, its options, and examples."),
        *(".SH ENVIRONMENT", *described(ENVIRONMENT)),
        *(".SH FILES", *described(tuple((escaped(name), escaped(meaning)) for name, meaning in FILES))),
        *(".SH SIGNALS", *described(SIGNALS)),
        *(".SH EXIT STATUS", *described(EXIT_STATUS)),
        *(".SH EXAMPLES", *examples[1:]),
        *(".SH SEE ALSO", ".BR systemctl (1),", ".BR aplay (1),", ".BR systemd.exec (5)"),
    ]
    return "\n".join(lines) + "\n"


DESCRIPTION = """One host decides what plays and when, and multicasts that as a few hundred bytes a second. Every
peer, a speaker, fetches the encoded track once, decodes it itself, estimates the host's clock, and gives its sound
card the sample that must sound at each instant. `musicsyncd host` and `musicsyncd peer` are the two daemons; all other
commands ask the host for something, on its own machine or on any other that has the room's key."""

if __name__ == "__main__":
    sys.stdout.write(page())
