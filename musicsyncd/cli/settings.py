"""The configuration file: TOML, one section a command, and ``[common]`` for all of them.

A key is an option without its dashes: ``key-file = "/etc/musicsyncd/room.key"``. Owns which
sections and keys there are, their types, and where the file is looked for. What a value may
be is checked where the option is, and in :mod:`musicsyncd.config`. A test holds this list
and the options together, so that commands need not be imported to know it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from musicsyncd.errors import ConfigError
from musicsyncd.paths import APP_NAME

FILE_NAME = f"{APP_NAME}.toml"
SYSTEM_FILE = Path("/etc") / APP_NAME / FILE_NAME
MAX_FILE_BYTES = 1 << 20

_KINDS: dict[str, tuple[type, ...]] = {
    "a text": (str,),
    "a path": (str,),
    "a whole number": (int,),
    "a number": (int, float),
    "true or false": (bool,),
    "a list of texts": (str, list),
    "a list of paths": (str, list),
    "a command": (str, list),
}

COMMON: dict[str, str] = {
    "host": "a text",
    "key-file": "a path",
    "open": "true or false",
    "port": "a whole number",
    "group": "a text",
    "interface": "a list of texts",
    "ttl": "a whole number",
    "mdns": "true or false",
    "state-dir": "a path",
    "cache-dir": "a path",
    "runtime-dir": "a path",
    "room": "a text",
    "json": "true or false",
    "verbose": "true or false",
}

SECTIONS: dict[str, dict[str, str]] = {
    "host": {
        "name": "a text",
        "tracks": "a list of paths",
        "library": "a list of paths",
        "speaker": "true or false",
        "replaygain": "a text",
        "replaygain-preamp-db": "a number",
        "tls": "true or false",
        "tls-port": "a whole number",
        "after-restart": "a text",
    },
    "peer": {
        "name": "a text",
        "device": "a text",
        "output": "a text",
        "rate": "a whole number",
        "buffer-ms": "a number",
        "output-delay-ms": "a number",
        "channels": "a text",
        "cache-mib": "a whole number",
        "library": "a list of paths",
        "on-sound": "a command",
        "on-silence": "a command",
        "silence-after-s": "a number",
        "hook-timeout-s": "a number",
    },
    "key": {"qr": "true or false"},
    "link": {"qr": "true or false"},
    "demo": {"seconds": "a number"},
    "search": {"limit": "a whole number"},
    "doctor": {"device": "a text"},
    "status": {"watch": "true or false", "interval": "a number"},
}
"""Beside these, every command has a section that takes the keys of ``[common]`` it has an option for."""


@dataclass(frozen=True, slots=True)
class FileSettings:
    """What a configuration file says, checked for its names and types.

    Attributes:
        file: that was read, or None.
        sections: by section, the values by the parameter's name.
    """

    file: Path | None = None
    sections: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def for_command(self, section: str) -> dict[str, Any]:
        """Return what stands in for the options that a command was not given."""
        return {**self.sections.get("common", {}), **self.sections.get(section, {})}


def find_file() -> Path | None:
    """Return the user's configuration file, or the system's, or None."""
    import platformdirs

    mine = Path(platformdirs.user_config_dir(APP_NAME, appauthor=False)) / FILE_NAME
    return next((file for file in (mine, SYSTEM_FILE) if file.is_file()), None)


def read_file(file: Path, commands: Iterable[str]) -> FileSettings:
    """Read and check a configuration file.

    Args:
        file: it is an error if it does not exist.
        commands: that may have a section.

    Raises:
        ConfigError: it cannot be read, is not TOML, or has a section, key or type that does not exist.
    """
    import tomllib

    try:
        if file.stat().st_size > MAX_FILE_BYTES:
            raise ConfigError(f"{file} is too large for a configuration file")
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the configuration file {file}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # Not TOML, not UTF-8, or nested or long beyond all reason.
        raise ConfigError(f"{file} is not valid TOML: {error}") from None
    known = {"common", *commands}
    sections: dict[str, Mapping[str, Any]] = {}
    for section, table in document.items():
        if not isinstance(table, dict):
            where = _sections_with(section)
            advice = f"put it under {where}" if where else "every key stands in a section like [common]"
            raise ConfigError(f"{file}: {section!r} stands outside of any section: {advice}")
        if section not in known:
            raise ConfigError(f"{file}: there is no section [{section}]{_near(section, known, '[{}]')}")
        sections[section] = _checked(file, section, table)
    return FileSettings(file, sections)


def _checked(file: Path, section: str, table: Mapping[str, Any]) -> dict[str, Any]:
    keys = COMMON | SECTIONS.get(section, {})
    values = {}
    for written, value in table.items():
        key = written.replace("_", "-")
        if key not in keys:
            where = _sections_with(key)
            advice = f": it belongs in {where}" if where else _near(key, keys, "{}")
            raise ConfigError(f"{file}: there is no key {written!r} in [{section}]{advice}")
        kind = keys[key]
        if not _is(value, kind):
            raise ConfigError(f"{file}: {written!r} in [{section}] must be {kind}, and is {value!r}")
        values[key.replace("-", "_")] = _resolved(file, kind, value)
    return values


def _is(value: object, kind: str) -> bool:
    if isinstance(value, list):
        return list in _KINDS[kind] and all(isinstance(one, str) for one in value)
    if isinstance(value, bool):
        return kind == "true or false"
    return isinstance(value, _KINDS[kind])


def _resolved(file: Path, kind: str, value: Any) -> Any:  # noqa: ANN401 - as TOML has it
    """Return a value as its option takes it; paths are relative to the file that they stand in."""
    if kind == "a path":
        if "\0" in value:
            raise ConfigError(f"{file}: {value!r} cannot be a path")
        return str(file.parent.absolute() / os.path.expanduser(value))
    if kind.startswith("a list"):
        values = [value] if isinstance(value, str) else value
        return [_resolved(file, "a path", one) for one in values] if kind == "a list of paths" else values
    return value


def _sections_with(key: str) -> str:
    return " or ".join(f"[{name}]" for name, keys in (("common", COMMON), *SECTIONS.items()) if key in keys)


def _near(name: str, names: Iterable[str], form: str) -> str:
    from difflib import get_close_matches

    near = [form.format(one) for one in get_close_matches(name, sorted(names), n=3)]
    return f": did you mean {' or '.join(near)}?" if near else ""
