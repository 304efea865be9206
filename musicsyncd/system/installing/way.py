"""How this program was itself installed: what its services must run, and how it is upgraded.

Owns the ways that there are. Looks at the running interpreter and at the files beside the package.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import site
import sys
import sysconfig
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

import musicsyncd
from musicsyncd.errors import ConfigError
from musicsyncd.paths import APP_NAME

Kind = Literal["debian", "pipx", "pipx-global", "venv", "user", "system", "source"]

IN_WORDS: dict[Kind, str] = {
    "debian": "a Debian package",
    "pipx": "pipx",
    "pipx-global": "pipx for the whole machine",
    "venv": "pip in a virtual environment",
    "user": "pip for this user",
    "system": "pip for the whole machine",
    "source": "its source",
}
DPKG_INFO = Path("/var/lib/dpkg/info")
_SUDO_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where sudo looks for a program, as Debian sets it."""


@dataclass(frozen=True, slots=True)
class Way:
    """How this program was installed.

    Attributes:
        kind: the way.
        program: the script ``musicsyncd``, an absolute path.
        python: the interpreter that it is run by.
        package: the folder of the package, whose files are newer after an upgrade.
        source: the folder of the source, where it is run from there.
    """

    kind: Kind
    program: Path
    python: Path
    package: Path
    source: Path | None = None

    @property
    def in_words(self) -> str:
        """For people."""
        return f"{self.source}" if self.source is not None else IN_WORDS[self.kind]

    @property
    def called(self) -> str:
        """What a person has to type, with ``sudo`` too, to run this program."""
        found = shutil.which(APP_NAME, path=_SUDO_PATH)
        same = found is not None and os.path.realpath(found) == os.path.realpath(self.program)
        return APP_NAME if same else shlex.quote(str(self.program))

    def upgrade_command(self) -> tuple[str, ...]:
        """Return the command that upgrades this installation; empty where a person has to do it."""
        pip = (str(self.python), "-m", "pip", "install", "--upgrade")
        commands: dict[Kind, tuple[str, ...]] = {
            "pipx": ("pipx", "upgrade", APP_NAME),
            "pipx-global": ("pipx", "upgrade", "--global", APP_NAME),
            "venv": (*pip, APP_NAME),
            "system": (*pip, APP_NAME),
            "user": (*pip, "--user", APP_NAME),
        }
        return commands.get(self.kind, ())

    def upgrade_by_hand(self) -> str:
        """Return what a person types to upgrade it where this program cannot."""
        if self.source is not None:
            return f"git -C {self.source} pull"
        return f"sudo apt-get update && sudo apt-get install --only-upgrade {APP_NAME}"


def find_way() -> Way:
    """Return how the program that runs was installed.

    Raises:
        ConfigError: it was not: it runs from its source, and there is no script that a service could start.
    """
    package = Path(musicsyncd.__file__).parent
    kind, source = _kind(package)
    program = _script(kind)
    if not program.is_file():
        raise ConfigError(
            f"there is no program {program} that a service could start: install musicsyncd first, as with "
            f"`{sys.executable} -m pip install {source or APP_NAME}`"
        )
    return Way(kind, program, Path(sys.executable), package, source)


def _kind(package: Path) -> tuple[Kind, Path | None]:
    prefix = Path(sys.prefix)
    if _of_dpkg(package):
        return "debian", None
    if _is_source(package):
        return "source", package.parent
    if (prefix / "pipx_metadata.json").is_file():
        whole = Path(os.environ.get("PIPX_GLOBAL_HOME") or "/opt/pipx") in prefix.parents
        return ("pipx-global" if whole else "pipx"), None
    if sys.prefix != sys.base_prefix:
        return "venv", None
    return ("user" if package.is_relative_to(site.getusersitepackages()) else "system"), None


def _of_dpkg(package: Path) -> bool:
    """Return whether the package's files came with a package of dpkg's."""
    wanted = str(package / "__init__.py")
    for listing in (DPKG_INFO / f"{APP_NAME}.list", *DPKG_INFO.glob(f"{APP_NAME}:*.list")):
        try:
            if wanted in listing.read_text(encoding="utf-8", errors="replace").splitlines():
                return True
        except OSError:
            continue
    return False


def _is_source(package: Path) -> bool:
    """Return whether the package is not a copy that some installer made: a checkout, or one that pip only points to."""
    try:
        found = metadata.distribution(APP_NAME)
    except metadata.PackageNotFoundError:
        return True
    try:
        url = json.loads(found.read_text("direct_url.json") or "{}")
        editable = bool(url.get("dir_info", {}).get("editable"))
    except (ValueError, AttributeError):
        editable = False
    elsewhere = Path(str(found.locate_file(APP_NAME))).resolve() != package.resolve()
    return editable or elsewhere or (package.parent / "pyproject.toml").is_file()


def _script(kind: Kind) -> Path:
    if kind == "debian":
        return Path("/usr/bin") / APP_NAME
    scheme = f"{os.name}_user" if kind == "user" else None
    folder = sysconfig.get_path("scripts", scheme) if scheme else sysconfig.get_path("scripts")
    return Path(folder).absolute() / APP_NAME
