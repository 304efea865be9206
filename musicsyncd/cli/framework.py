"""What all commands share: lazy loading, the configuration file, how errors end, help's layout.

Start-up is most of what ``musicsyncd pause`` takes, so the group knows its commands by
name only, and imports a module when one of its commands runs. Values come from the command
line, then the environment, then the configuration file, then the default: click's own
order, given the file as its ``default_map``.
"""

from __future__ import annotations

import errno
import math
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click
from click.core import ParameterSource

from musicsyncd.cli.figures import clean
from musicsyncd.cli.settings import FileSettings, find_file, read_file
from musicsyncd.errors import ConfigError, MusicSyncError

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130
"""128 + SIGINT, as a shell says it."""

NETWORK_OPTIONS = frozenset(
    (
        *("host", "port", "key_file", "open", "interface", "group", "ttl", "mdns"),
        *("state_dir", "cache_dir", "runtime_dir", "config"),
    )
)
"""Parameters that stand under a heading of their own at the end of each command's help."""

_DISK_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EIO)
"""Which the output meets where it is written into a file."""

_FILE_KEY = "musicsyncd.config_file"
_ASKED_KEY = "musicsyncd.asked_file"
_WORDS_KEY = "musicsyncd.words"

T = TypeVar("T")


class Command(click.Command):
    """A command whose options may stand in the configuration file, too."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - click's own
        super().__init__(*args, **kwargs)
        self.params.append(
            click.Option(
                ["--config"],
                type=click.Path(path_type=Path, dir_okay=False),
                is_eager=True,
                expose_value=False,
                callback=_take_file,
                help="Configuration file.",
            )
        )

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep the words of the call, for :func:`rereader`."""
        ctx.meta[_WORDS_KEY] = tuple(args)
        return super().parse_args(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the command's own options first, then those for finding host, key and files."""
        own: list[tuple[str, str]] = []
        network: list[tuple[str, str]] = []
        for param in self.get_params(ctx):
            # Arguments stand in the first line; what they mean is said in the text.
            record = param.get_help_record(ctx) if isinstance(param, click.Option) else None
            if record is not None:
                (network if param.name in NETWORK_OPTIONS else own).append(record)
        for heading, records in (("Options", own), ("Network and files", network)):
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records)


class Group(click.Group):
    """A group of :class:`Command`, or a command by itself when none of them is named."""

    command_class: type[click.Command] | None = Command

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names, in the order in which they were written down."""
        return list(self.commands)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command, or say which ones have a similar name."""
        known = self.list_commands(ctx)
        if not ctx.resilient_parsing and not args[0].startswith("-") and args[0] not in known:
            from difflib import get_close_matches

            near = get_close_matches(args[0], known, n=3)
            advice = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(known)}."
            raise click.UsageError(f"There is no command {args[0]!r}: {advice}", ctx)
        return super().resolve_command(ctx, args)


class ListingGroup(Group):
    """A group whose ``list`` runs when no command is named: ``musicsyncd queue``, ``musicsyncd queue --json``."""

    unnamed = "list"

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put a command where none is."""
        if not args or (args[0].startswith("-") and args[0] not in ctx.help_option_names):
            args = [self.unnamed, *args]
        return super().parse_args(ctx, args)


class MakingGroup(ListingGroup):
    """A group whose ``make`` runs when no command is named: ``musicsyncd link --role guest``."""

    unnamed = "make"


class LazyGroup(Group):
    """The whole command line.

    Args:
        families: by heading of the help, the commands as ``name=module:attribute`` in order.
    """

    def __init__(self, *args: Any, families: dict[str, Sequence[str]], **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **kwargs)
        self._families = {
            family: [entry.partition("=")[0] for entry in entries] for family, entries in families.items()
        }
        entries = (entry for family in families.values() for entry in family)
        self._where = {name: where for name, _, where in (entry.partition("=") for entry in entries)}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names, in the order of the help."""
        return list(self._where)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command."""
        if cmd_name not in self._where:
            return None
        module, _, attribute = self._where[cmd_name].partition(":")
        command = getattr(import_module(f"musicsyncd.cli.{module}"), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands under their families' headings."""
        width = max(len(name) for name in self._where)
        for family, names in self._families.items():
            with formatter.section(family):
                rows = []
                for name in names:
                    command = self.get_command(ctx, name)
                    assert command is not None
                    rows.append((name.ljust(width), command.get_short_help_str(limit=90)))
                formatter.write_dl(rows)

    def main(self, *args: Any, **kwargs: Any) -> NoReturn:  # noqa: ANN401 - click's own
        """Run the command line and end the process: 0, 1 could not, 2 wrong call, 130 Ctrl-C."""
        kwargs["standalone_mode"] = False
        for stream in (sys.stdout, sys.stderr):
            # A terminal that has no "µ" must show a question mark, not a traceback.
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="replace")
        try:
            code = super().main(*args, **kwargs)
            sys.stdout.flush()
        except BrokenPipeError:  # Whoever read us has gone.
            _forget_output()
            code = EXIT_FAILED
        except OSError as error:
            if error.errno not in _DISK_FAULTS:
                raise
            _forget_output()
            code = _say(f"cannot write the output: {error.strerror}")
        except (click.Abort, KeyboardInterrupt):
            code = EXIT_INTERRUPTED
        except click.BadParameter as error:
            code = _refuse_parameter(error)
        except click.ClickException as error:
            error.show()
            code = error.exit_code
        except MusicSyncError as error:
            code = _say(str(error))
        sys.exit(code if isinstance(code, int) else 0)


class FloatRange(click.FloatRange):
    """Click's own lets ``nan`` through: it is neither too small nor too large."""

    def convert(
        self,
        value: Any,  # noqa: ANN401 - click's own
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> float:
        """Return the number.

        Raises:
            click.BadParameter: it is none, or out of range.
        """
        found = float(super().convert(value, param, ctx))
        if math.isnan(found):
            self.fail(f"{value!r} is not a number.", param, ctx)
        return found


def _forget_output() -> None:
    """Let what is left of the output go nowhere, or the interpreter complains of it at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _say(message: str) -> int:
    # What a host or a file says is part of the message, and must neither command the terminal nor break the line.
    click.echo(f"musicsyncd: {clean(' '.join(message.splitlines()))}", err=True)
    return EXIT_FAILED


def _refuse_parameter(error: click.BadParameter) -> int:
    """Say what is wrong with an option; where it came from the file, say that instead of how to call."""
    in_file = _fault_in_file(error)
    if in_file:
        return _say(in_file)
    error.show()
    return error.exit_code


def _fault_in_file(error: click.BadParameter) -> str:
    """Return what is wrong with a value of the configuration file; empty when it did not come from there."""
    context, param = error.ctx, error.param
    if context is None or param is None or param.name is None:
        return ""
    if context.get_parameter_source(param.name) is not ParameterSource.DEFAULT_MAP:
        return ""
    key = param.name.replace("_", "-")
    return f"{context.meta.get(_FILE_KEY)}: {key!r} for [{_section(context)}]: {error.message}"


def _section(context: click.Context) -> str:
    """Return the name of the command below the root that a context belongs to."""
    while context.parent is not None and context.parent.parent is not None:
        context = context.parent
    return context.info_name or ""


def remember_file(context: click.Context, param: click.Parameter, value: Path | None) -> Path | None:
    """Keep the root's ``--config`` for the command that follows."""
    context.meta[_ASKED_KEY] = value
    return value


def _take_file(context: click.Context, param: click.Parameter, value: Path | None) -> None:
    """Read the configuration file before any other option of a command is looked at."""
    file = value or context.meta.get(_ASKED_KEY)
    try:
        settings = _settings(context, file)
    except ConfigError:
        if context.resilient_parsing:
            return  # Shell completion: whoever presses Tab does not want to hear of a broken file.
        raise
    context.meta[_FILE_KEY] = settings.file
    context.default_map = settings.for_command(_section(context))


def _settings(context: click.Context, file: Path | None) -> FileSettings:
    file = file or find_file()
    if file is None:
        return FileSettings()
    root = context.find_root()
    commands: Iterable[str] = root.command.list_commands(root) if isinstance(root.command, click.Group) else ()
    return read_file(file, commands)


def file_of(context: click.Context) -> Path | None:
    """Return the configuration file that was read for a command."""
    found = context.meta.get(_FILE_KEY)
    return found if isinstance(found, Path) else None


def rereader(make: Callable[..., T]) -> Callable[[], T]:
    """Return what takes the running command's call once more, against the configuration file as it is by then.

    Args:
        make: is given the values of the command's parameters, in a context of its own.

    What is returned may be called in any thread, and raises ConfigError where the file cannot be used.
    """
    context = click.get_current_context()
    words = context.meta[_WORDS_KEY]

    def reread() -> T:
        try:
            with context.command.make_context(context.info_name, list(words), parent=context.parent) as anew:
                return make(**anew.params)
        except click.BadParameter as error:
            raise ConfigError(_fault_in_file(error) or error.format_message()) from None
        except click.ClickException as error:
            raise ConfigError(error.format_message()) from None
        except OSError as error:  # A folder that may not be looked into.
            raise ConfigError(f"cannot read the configuration file: {error.strerror}") from None

    return reread
