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
from urllib.parse import unquote, urlsplit

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


_PIPX_LINK = Path("/usr/local/bin") / APP_NAME
"""What `pipx install --global` makes."""


@dataclass(frozen=True, slots=True)
class Way:
    """How this program was installed.

    Attributes:
        kind: the way.
        program: the script ``musicsyncd``, an absolute path.
        python: the interpreter that it is run by.
        package: the folder of the package, whose files are newer after an upgrade.
        source: the folder of the source, where it is run from there.
        requirement: what pip was given, and is given again: the name, or where else the package came from; empty where
            that was one version's file.
    """

    kind: Kind
    program: Path
    python: Path
    package: Path
    source: Path | None = None
    requirement: str = APP_NAME

    @property
    def in_words(self) -> str:
        """For people."""
        return f"{self.source}" if self.source is not None else IN_WORDS[self.kind]

    @property
    def called(self) -> str:
        """What a person has to type, with ``sudo`` too, to run this program."""
        return shlex.quote(str(self.program)) if self._link() is None else APP_NAME

    @property
    def folder(self) -> Path | None:
        """The folder from which pip copied the package, and copies it again as it lies there."""
        return Path(self.requirement) if self.requirement.startswith("/") else None

    def upgrade_command(self) -> tuple[str, ...]:
        """Return the command that upgrades this installation; empty where a person has to do it."""
        if not self.requirement:
            return ()
        if self.kind == "pipx-global":
            # pipx before 1.5, as Debian 12 has it, knows no --global; the variables say the same to every pipx.
            home, link = self.python.parents[3], self._link() or _PIPX_LINK
            return ("env", f"PIPX_HOME={home}", f"PIPX_BIN_DIR={link.parent}", "pipx", "upgrade", APP_NAME)
        commands: dict[Kind, tuple[str, ...]] = {
            "pipx": ("pipx", "upgrade", APP_NAME),
            "venv": (*self._pip(), self.requirement),
            "system": (*self._pip(), self.requirement),
            "user": (*self._pip(), self.requirement),
        }
        return commands.get(self.kind, ())

    def upgrade_by_hand(self) -> str:
        """Return what a person types to upgrade it where this program cannot."""
        if self.source is not None:
            return f"git -C {self.source} pull"
        if self.kind == "debian":
            return "git pull && debian/build.py && sudo apt-get install ./dist/musicsyncd_*.deb"
        # pipx finds no newer one where it was given a file, and its environment has a pip like any other.
        of_root = self.package.stat().st_uid == 0
        return shlex.join([*(("sudo",) if of_root else ()), *self._pip(), f"{APP_NAME}-NEWER.whl"])

    def _pip(self) -> tuple[str, ...]:
        of_user = ("--user",) if self.kind == "user" else ()
        # pip keeps what it has where a repository's newer commit says the same version.
        anew = ("--force-reinstall",) if " @ " in self.requirement else ()
        return (str(self.python), "-m", "pip", "install", "--upgrade", *of_user, *anew)

    def _link(self) -> Path | None:
        """Return what sudo finds by the program's name, if that is this program."""
        found = shutil.which(APP_NAME, path=_SUDO_PATH)
        is_ours = found is not None and os.path.realpath(found) == os.path.realpath(self.program)
        return Path(found) if found is not None and is_ours else None


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
    return Way(kind, program, Path(sys.executable), package, source, _requirement())


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


def _requirement() -> str:
    """Return what has pip find this package again (PEP 610): its name, a folder or a repository.

    It is nothing where pip was given a file: the index may know the name as something else, or not at all.
    """
    try:
        url = json.loads(metadata.distribution(APP_NAME).read_text("direct_url.json") or "{}")
        where = url["url"]
        if "vcs_info" in url:
            return f"{APP_NAME} @ {url['vcs_info']['vcs']}+{where}"
        if "archive_info" in url:
            return ""
        return str(Path(unquote(urlsplit(where).path))) if "dir_info" in url else APP_NAME
    except (metadata.PackageNotFoundError, ValueError, KeyError, TypeError):
        return APP_NAME


def _script(kind: Kind) -> Path:
    if kind == "debian":
        return Path("/usr/bin") / APP_NAME
    scheme = f"{os.name}_user" if kind == "user" else None
    folder = sysconfig.get_path("scripts", scheme) if scheme else sysconfig.get_path("scripts")
    return Path(folder).absolute() / APP_NAME
