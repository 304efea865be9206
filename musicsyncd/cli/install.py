"""The commands ``install`` and ``uninstall``: a service set up, and taken away again.

Their options come from the command line alone: what the configuration file says is what they are about to write.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from musicsyncd import config as configuration
from musicsyncd.cli.framework import Group
from musicsyncd.config import HostConfig, PeerConfig
from musicsyncd.errors import ConfigError

if TYPE_CHECKING:
    from musicsyncd.protocol.auth import RoomKeys
    from musicsyncd.system.installing.place import Place
    from musicsyncd.system.installing.plan import Plan
    from musicsyncd.system.installing.steps import Step
    from musicsyncd.system.installing.units import Role
    from musicsyncd.system.installing.way import Way


class SetUpGroup(Group):
    """A group whose commands take nothing from the configuration file."""

    command_class = click.Command


user_option = click.option(
    "--user", is_flag=True, help="Of your own, for PipeWire or PulseAudio; not of the machine's."
)
dry_run_option = click.option("--dry-run", is_flag=True, help="Say only what would be done.")
_name_option = click.option("--name", help="For people; this machine's host name by default.")
_library_option = click.option(
    "--library",
    multiple=True,
    type=click.Path(file_okay=False),
    metavar="FOLDER",
    help="Folder with music on this machine; may be repeated.",
)
_no_start_option = click.option("--no-start", is_flag=True, help="Do not start it now, only from the next boot on.")


@click.group(
    cls=SetUpGroup,
    epilog="""\b
Examples:
  sudo musicsyncd install host --library /srv/music
  sudo musicsyncd install peer --join J-7K2M-… --name kitchen
  musicsyncd install peer --user --dry-run""",
)
def install() -> None:
    """Set up a service that starts at every boot.

    Says first what it will do, and does only what is not done yet: it may be called again at any time.
    """


@install.command(
    epilog="""\b
Examples:
  sudo musicsyncd install host --library /srv/music
  sudo musicsyncd install host --speaker --name living-room"""
)
@user_option
@_name_option
@_library_option
@click.option("--speaker/--no-speaker", default=None, help="Play on this machine too.")
@click.option("--tls/--no-tls", default=None, help="HTTPS too, with a certificate of the host's own.")
@_no_start_option
@dry_run_option
def host(user: bool, library: tuple[str, ...], no_start: bool, dry_run: bool, **given: Any) -> None:  # noqa: ANN401
    """Set up the host, which decides what plays.

    What is given is written into the configuration file; all else in it stays.
    """
    values = _values(given, library)
    HostConfig(**values | {"library": tuple(values.get("library", ()))})
    _install("host", values, user=user, no_start=no_start, dry_run=dry_run)


@install.command(
    epilog="""\b
Examples:
  sudo musicsyncd install peer --join J-7K2M-… --name kitchen
  sudo musicsyncd install peer --device hw:DAC,0 --join - < code.txt"""
)
@user_option
@_name_option
@click.option(
    "--join",
    metavar="CODE",
    help="Join code, as `musicsyncd key show` prints it on the host; - reads it from standard input, so that "
    "nobody else sees it.",
)
@click.option("--device", help="Sound card, see `musicsyncd devices`.")
@click.option("--channels", type=click.Choice(configuration.CHANNELS), help="What it plays.")
@click.option("--host", metavar="ADDRESS[:PORT]", help="The host, where the network does not pass multicast.")
@_library_option
@_no_start_option
@dry_run_option
def peer(
    user: bool,
    join: str | None,
    library: tuple[str, ...],
    no_start: bool,
    dry_run: bool,
    **given: Any,  # noqa: ANN401 - one for one
) -> None:
    """Set up a speaker.

    What is given is written into the configuration file; all else in it stays. The key is kept by itself.
    """
    values = _values(given, library)
    PeerConfig(**values | {"library": tuple(values.get("library", ()))})
    keys = None
    if join is not None:
        from musicsyncd.cli.key import read_code
        from musicsyncd.system.keyfile import parse_join_code

        keys = parse_join_code(read_code() if join == "-" else join)
    _install("peer", values, keys, user=user, no_start=no_start, dry_run=dry_run)


def _values(given: Mapping[str, Any], library: tuple[str, ...]) -> dict[str, Any]:
    """Return what was given, as keys of the configuration file."""
    values = {name: value for name, value in given.items() if value is not None}
    if library:
        values["library"] = [os.path.abspath(os.path.expanduser(one)) for one in library]
    return values


def _install(
    role: Role, values: dict[str, Any], keys: RoomKeys | None = None, *, user: bool, no_start: bool, dry_run: bool
) -> None:
    from musicsyncd.system.installing.plan import Wishes, check_machine, check_portaudio, check_root, plan_install
    from musicsyncd.system.installing.way import find_way

    place, way = place_of(user), find_way()
    own_words = _words(role, values)
    by_hand = f"`{shlex.join([str(way.program), *own_words])}`"
    if keys is not None:
        by_hand = f"`{shlex.join([str(way.program), 'key', 'join'])}` once, then {by_hand}"
    as_root = ["sudo", str(way.program), "install", *own_words]
    as_root += [*(("--join", "CODE") if keys is not None else ()), *(("--no-start",) if no_start else ())]
    check_machine(place, by_hand)
    if not dry_run:
        check_root(place, shlex.join(as_root))
    if _will_sound(role, values, _file_says(place, role)):
        check_portaudio()
    plan = plan_install(place, way, Wishes(role, values, keys, start=not no_start))
    if not plan.steps:
        say_remarks(plan.remarks)
        click.echo(f"nothing to do: the {role} is set up; {_account(place, role)}")
        return
    click.echo(f"To set up the {role} (musicsyncd was installed by {way.in_words}):")
    say_steps(plan.steps)
    say_remarks(plan.remarks)
    if dry_run:
        if not place.of_user and place.uid != 0:
            click.echo(f"nothing was done; to do it: {shlex.join(as_root)}")
        return
    plan.carry_out(click.echo)
    _say_next(place, way, plan)


def place_of(user: bool) -> Place:
    """Return where services are set up: for the whole machine, or for whoever calls."""
    from musicsyncd.system.installing.place import Place

    return Place.of_this_user() if user else Place.of_system()


def _words(role: str, values: Mapping[str, Any]) -> list[str]:
    """Return the options of a daemon that say what the configuration file would."""
    words = [role]
    for name, value in values.items():
        if isinstance(value, bool):
            words.append(f"--{name}" if value else f"--no-{name}")
        else:
            for one in value if isinstance(value, list) else [value]:
                words += [f"--{name}", str(one)]
    return words


def _file_says(place: Place, role: str) -> Mapping[str, Any]:
    """Return what the configuration file says for a daemon, once it is known to make sense.

    Raises:
        ConfigError: it makes none.
    """
    from musicsyncd.cli.settings import read_file

    root = click.get_current_context().find_root()
    commands = root.command.list_commands(root) if isinstance(root.command, click.Group) else ()
    return read_file(place.config_file, commands).for_command(role) if place.config_file.exists() else {}


def _will_sound(role: str, values: Mapping[str, Any], file_says: Mapping[str, Any]) -> bool:
    if role == "host":
        return bool(values.get("speaker", file_says.get("speaker", False)))
    return bool(file_says.get("output", "portaudio") == "portaudio")


def say_steps(steps: Iterable[Step]) -> None:
    """Print what is going to be done, numbered."""
    for number, step in enumerate(steps, 1):
        click.echo(f"  {number}. {step.words()}")


def say_remarks(remarks: list[str]) -> None:
    """Print what a person should know beside."""
    for one in remarks:
        click.echo(f"note: {one}", err=True)


def _account(place: Place, role: Role) -> str:
    from musicsyncd.system.installing.plan import account_of

    return account_of(place, role)


def _say_next(place: Place, way: Way, plan: Plan) -> None:
    """Print how the service is, and what a person does next."""
    call = way.called if place.of_user else f"sudo {way.called}"
    click.echo(_account(place, plan.role))
    if plan.role == "host":
        click.echo(f"next: `{call} key show` shows the join code, for `musicsyncd install peer --join CODE` elsewhere")
    else:
        click.echo(f"next: `{call} status` shows how well it is in step, `{call} doctor` what is wrong if it is silent")
    if place.of_user and not (place.root / "var/lib/systemd/linger" / place.user).exists():
        click.echo("it runs while you are signed in; from the boot on after `loginctl enable-linger`")


@click.command(
    cls=click.Command,
    epilog="""\b
Examples:
  sudo musicsyncd uninstall peer
  sudo musicsyncd uninstall host --purge    # with key, queue and cache
  musicsyncd uninstall peer --user --dry-run""",
)
@click.argument("role", type=click.Choice(("host", "peer")), metavar="host|peer")
@user_option
@click.option("--purge", is_flag=True, help="Also what it keeps: the key, the queue, the cache.")
@dry_run_option
def uninstall(role: Role, user: bool, purge: bool, dry_run: bool) -> None:
    """Take away what `install` made, and nothing else.

    What was there before, and what was changed since, stays.
    """
    from musicsyncd.system.installing.plan import check_root
    from musicsyncd.system.installing.removing import plan_removal

    place = place_of(user)
    if place.of_user and place.uid == 0:
        raise ConfigError("--user is for a service of whoever calls it, and that is root: leave out --user or sudo")
    if not dry_run:
        words = ["sudo", str(_program()), "uninstall", role, *(("--purge",) if purge else ())]
        check_root(place, shlex.join(words))
    removal = plan_removal(place, role, purge=purge)
    if not removal.steps:
        click.echo(f"nothing to do: `musicsyncd install` has set up no {role} here")
        return
    click.echo(f"To take the {role} away:")
    say_steps(removal.steps)
    say_remarks(removal.remarks)
    if not dry_run:
        removal.carry_out(click.echo)


def _program() -> Path:
    """Return this program, as a person would have to name it for sudo."""
    from musicsyncd.system.installing.way import find_way

    try:
        return find_way().program
    except ConfigError:
        return Path("musicsyncd")
