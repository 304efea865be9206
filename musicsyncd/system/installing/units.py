"""The texts of units, made for the way in which this program was installed.

Owns what is put in place of the packaged program's path, and the drop-in that lets a service see home folders. The
units themselves are in the folder ``systemd``, as a Debian package has them.

Source: systemd.service(5), "Command lines"; systemd.unit(5), "Specifiers".
"""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path
from typing import Literal

from musicsyncd.errors import ConfigError
from musicsyncd.paths import APP_NAME

Role = Literal["host", "peer"]
ROLES: tuple[Role, ...] = ("host", "peer")

HOME_DROP_IN = "10-home.conf"
HOME_TEXT = b"""# Music or the program lies in a home folder: the service may read there, and not write.
[Service]
ProtectHome=read-only
"""

_PACKAGED = "/usr/bin/musicsyncd"
_PLAIN = re.compile(r"[A-Za-z0-9_./+:@,=-]+")


def unit_name(role: Role) -> str:
    """Return the name of a role's service."""
    return f"{APP_NAME}-{role}.service"


def unit_text(role: Role, program: Path, *, of_user: bool) -> bytes:
    """Return the text of a role's unit that starts this installation's program.

    Args:
        role: host or peer.
        program: absolute path of the script ``musicsyncd``.
        of_user: the unit for a user's own systemd.

    Raises:
        ConfigError: systemd could not be told of such a path.
    """
    text = _shipped(f"user/{unit_name(role)}" if of_user else unit_name(role))
    lines = text.splitlines(keepends=True)
    return "".join(
        line.replace(_PACKAGED, as_word(program), 1) if line.startswith("Exec") else line for line in lines
    ).encode()


def sysusers_text() -> bytes:
    """Return the file that says which user the system services have."""
    return _shipped("sysusers.conf").encode()


def as_word(program: Path) -> str:
    """Return a path as one word of a unit's command line, which stands for just that path.

    Raises:
        ConfigError: it has characters that a unit cannot have.
    """
    path = str(program)
    if not path.isprintable():
        raise ConfigError(f"the path of this program, {path!r}, cannot stand in a unit: install it elsewhere")
    # A percent sign begins a specifier; a dollar sign in the program's own word is only itself.
    path = path.replace("%", "%%")
    if _PLAIN.fullmatch(path):
        return path
    return '"' + path.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _shipped(name: str) -> str:
    return (resources.files("musicsyncd") / "systemd" / name).read_text(encoding="utf-8")
