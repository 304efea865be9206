"""Options that several commands have, and what is made of them.

Options that say where host, key and files are do not reach the commands as arguments: they
are kept in the context, and :func:`client`, :func:`network_config` and :func:`paths` make
something of them.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import click

from musicsyncd.cli.framework import file_of
from musicsyncd.config import DEFAULT_GROUP, DEFAULT_PORT, NetworkConfig
from musicsyncd.paths import SYSTEM_STATE_DIR, Paths

if TYPE_CHECKING:
    from musicsyncd.system.control_client import ControlClient

P = ParamSpec("P")
R = TypeVar("R")
Function = Callable[..., Any]

_KEPT = "musicsyncd.options"
_DAEMONS = frozenset(("host", "peer", "demo"))
"""Commands that have files of their own, and look at nobody else's."""


def _keep(context: click.Context, param: click.Parameter, value: object) -> object:
    if param.name is not None:
        context.meta.setdefault(_KEPT, {})[param.name] = value
    return value


def _kept(*names: str, **attributes: Any) -> Callable[[Function], Function]:  # noqa: ANN401 - click's own
    return click.option(*names, expose_value=False, callback=_keep, **attributes)


_folder = click.Path(path_type=Path, file_okay=False)

# Every option --some-thing is the variable MUSICSYNCD_SOME_THING, too. The help says so once.

_HOST = _kept(
    "--host",
    metavar="ADDRESS[:PORT]",
    envvar="MUSICSYNCD_HOST",
    help="The host, if it is neither on this machine nor found on the LAN.",
)
_KEY = (
    _kept(
        "--key-file",
        type=click.Path(path_type=Path, dir_okay=False),
        envvar="MUSICSYNCD_KEY_FILE",
        help="The room's key; else systemd's credential room.key, else in the state folder.",
    ),
    _kept(
        "--open",
        is_flag=True,
        envvar="MUSICSYNCD_OPEN",
        help="Use no key: whoever is on the network may listen and command.",
    ),
)
_NETWORK = (
    _kept(
        "--port",
        type=click.IntRange(1, 65535),
        metavar="PORT",
        default=DEFAULT_PORT,
        show_default=True,
        envvar="MUSICSYNCD_PORT",
        help="Of datagrams (UDP) and HTTP (TCP).",
    ),
    _kept(
        "--interface",
        multiple=True,
        metavar="NAME|ADDRESS",
        envvar="MUSICSYNCD_INTERFACE",
        help="Network interface to use, may be repeated; all of them by default.",
    ),
    _kept(
        "--group",
        metavar="ADDRESS",
        default=DEFAULT_GROUP,
        show_default=True,
        envvar="MUSICSYNCD_GROUP",
        help="Multicast group.",
    ),
    _kept(
        "--ttl",
        type=click.IntRange(0, 255),
        metavar="N",
        default=1,
        show_default=True,
        envvar="MUSICSYNCD_TTL",
        help="Of multicast datagrams; more than 1 passes routers.",
    ),
    _kept(
        "--mdns/--no-mdns",
        default=True,
        envvar="MUSICSYNCD_MDNS",
        help="mDNS as well: a host announces itself, and others find it where the group does not come through.",
    ),
)
_STATE = _kept(
    "--state-dir",
    type=_folder,
    envvar="MUSICSYNCD_STATE_DIR",
    help="Folder of what is kept; also of cache and socket then.",
)
_CACHE = _kept("--cache-dir", type=_folder, envvar="MUSICSYNCD_CACHE_DIR", help="Folder of tracks that were fetched.")
_RUNTIME = _kept("--runtime-dir", type=_folder, envvar="MUSICSYNCD_RUNTIME_DIR", help="Folder of the control socket.")


def _stacked(*options: Callable[[Function], Function]) -> Callable[[Function], Function]:
    def decorate(function: Function) -> Function:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


client_options = _stacked(_HOST, *_KEY, *_NETWORK, _STATE, _RUNTIME)
host_options = _stacked(*_KEY, *_NETWORK, _STATE, _CACHE, _RUNTIME)
peer_options = _stacked(_HOST, *_KEY, *_NETWORK, _STATE, _CACHE, _RUNTIME)
key_options = _stacked(_KEY[0], _STATE)
local_options = _stacked(_STATE, _RUNTIME)

room_option = click.option(
    "--room",
    metavar="ROOM",
    default="-",
    envvar="MUSICSYNCD_ROOM",
    help="The room that is meant; the only one, or the host's own, by default.",
)
json_option = click.option("--json", is_flag=True, envvar="MUSICSYNCD_JSON", help="For programs: JSON.")
verbose_option = click.option("-v", "--verbose", is_flag=True, envvar="MUSICSYNCD_VERBOSE", help="Log more.")


def _values() -> dict[str, Any]:
    values: dict[str, Any] = click.get_current_context().meta.get(_KEPT, {})
    return values


def network_config() -> NetworkConfig:
    """Return how nodes find each other, by the options of the command that runs.

    Raises:
        ConfigError: they cannot be used.
    """
    values = _values()
    return NetworkConfig(values["port"], values["group"], tuple(values["interface"]), values["ttl"], values["mdns"])


def paths() -> Paths:
    """Return where files are, by the options of the command that runs.

    Root, who asks about a machine with the system services, means theirs: ``sudo musicsyncd key show`` shows their key.
    """
    values = _values()
    context = click.get_current_context()
    folders = {name: values.get(name) for name in ("state_dir", "cache_dir", "runtime_dir", "key_file")}
    of_service = context.command.name not in _DAEMONS and os.geteuid() == 0 and SYSTEM_STATE_DIR.is_dir()
    return Paths.find(**folders, config_file=file_of(context), of_service=of_service)


def host_address() -> str | None:
    """Return the ``--host`` of the command that runs."""
    host: str | None = _values().get("host")
    return host


def without_key() -> bool:
    """Return whether the command that runs was told ``--open``."""
    return bool(_values().get("open"))


def client() -> ControlClient:
    """Return what talks to the host, by the options of the command that runs.

    Raises:
        ConfigError: they cannot be used.
    """
    from musicsyncd.system.control_client import ControlClient

    return ControlClient(network_config(), paths(), host=host_address(), open_room=without_key())


def local_client() -> ControlClient:
    """Return what talks to the host on this machine, over its socket, and to no other."""
    from musicsyncd.system.control_client import ControlClient

    return ControlClient(NetworkConfig(), paths(), local_only=True)


def with_client(function: Callable[Concatenate[ControlClient, P], R]) -> Callable[P, R]:
    """Give a command the options that find the host, and what talks to it as its first argument."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        return function(client(), *args, **kwargs)

    decorated: Callable[P, R] = client_options(call)
    return decorated
