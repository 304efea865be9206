"""Where on this machine a service's files go, and how its systemd is spoken to.

Owns the folders of the system and of a user, users as ``/etc/passwd`` has them, and the running of commands. A test
gives a folder of its own as the root, and something that only looks like systemd.
"""

from __future__ import annotations

import os
import pwd
import subprocess
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import platformdirs

from musicsyncd.paths import APP_NAME, SERVICE_USER, SYSTEM_CACHE_DIR, SYSTEM_RUNTIME_DIR, SYSTEM_STATE_DIR

RUN_TIMEOUT_S = 60.0
"""For a command; a service says that it is ready within seconds, and a boot is not held up by one that does not."""

_PROPERTIES = "ActiveState,SubState,NeedDaemonReload,ExecMainStartTimestampMonotonic,StatusText"

TIMED_OUT = -1
NOT_THERE = 127
"""As a shell says it."""


@dataclass(frozen=True, slots=True)
class Ran:
    """What became of a command: its exit code, :data:`TIMED_OUT` or :data:`NOT_THERE`, and what it printed."""

    code: int
    out: str = ""
    err: str = ""

    @property
    def complaint(self) -> str:
        """The last line of what it complained of, or its exit code."""
        lines = (self.err.strip() or self.out.strip()).splitlines()
        return lines[-1] if lines else f"exit code {self.code}"


@dataclass(frozen=True, slots=True)
class Account:
    """A user of this machine: its numbers, and those of its groups."""

    uid: int
    gid: int
    gids: frozenset[int]


def run_command(words: Sequence[str], timeout_s: float = RUN_TIMEOUT_S) -> Ran:
    """Run a command, which speaks English, and return what became of it.

    Args:
        words: the command.
        timeout_s: how long to wait for its end.
    """
    try:
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "LC_ALL": "C.UTF-8"},
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Ran(TIMED_OUT, err=f"no end after {timeout_s:.0f} s")
    except OSError as error:
        return Ran(NOT_THERE, err=f"{words[0]}: {error.strerror}")
    return Ran(done.returncode, done.stdout, done.stderr)


def clocks() -> tuple[float, float]:
    """Return the time since 1970 and that of CLOCK_MONOTONIC, seconds each."""
    return time.time(), time.monotonic()


@dataclass(frozen=True, slots=True)
class Place:
    """The system, or a user, that a service is set up for.

    Attributes:
        root: folder that everything of the system is below: ``/``.
        of_user: the service is a user's own.
        units_folder: for units that an administrator, or the user, has.
        config_folder: of the configuration file and of the record.
        state_dir: what the services keep.
        cache_dir: what they can fetch again.
        user: whose service it is.
        uid: of who runs this program.
        run: runs a command.
        clocks: returns the time since 1970 and of CLOCK_MONOTONIC, s.
    """

    root: Path
    of_user: bool
    units_folder: Path
    config_folder: Path
    state_dir: Path
    cache_dir: Path
    user: str
    uid: int = field(default_factory=os.geteuid)
    run: Callable[[Sequence[str]], Ran] = run_command
    clocks: Callable[[], tuple[float, float]] = clocks

    @classmethod
    def of_system(cls, root: Path = Path("/")) -> Place:
        """Return the place of the system services."""
        return cls(
            root=root,
            of_user=False,
            units_folder=root / "etc/systemd/system",
            config_folder=root / "etc" / APP_NAME,
            state_dir=below(root, SYSTEM_STATE_DIR),
            cache_dir=below(root, SYSTEM_CACHE_DIR),
            user=SERVICE_USER,
        )

    @classmethod
    def of_this_user(cls) -> Place:
        """Return the place of the services of the user who runs this program."""
        folders = {kind: getattr(platformdirs, f"user_{kind}_path") for kind in ("config", "state", "cache")}
        found = {kind: folder(APP_NAME, appauthor=False) for kind, folder in folders.items()}
        try:
            name = pwd.getpwuid(os.geteuid()).pw_name
        except KeyError:  # A user that only a container knows.
            name = str(os.geteuid())
        return cls(
            root=Path("/"),
            of_user=True,
            units_folder=found["config"].parent / "systemd/user",
            config_folder=found["config"],
            state_dir=found["state"],
            cache_dir=found["cache"],
            user=name,
        )

    @property
    def config_file(self) -> Path:
        """Of all services of this place."""
        return self.config_folder / f"{APP_NAME}.toml"

    @property
    def record_file(self) -> Path:
        """Of what was made here."""
        return self.config_folder / "installed.json"

    @property
    def sysusers_file(self) -> Path:
        """That says which user the system services have."""
        return self.root / "etc/sysusers.d" / f"{APP_NAME}.conf"

    @property
    def runtime_dir(self) -> Path:
        """Of the system services' sockets."""
        return below(self.root, SYSTEM_RUNTIME_DIR)

    @property
    def folders(self) -> tuple[Path, Path, Path]:
        """Where the system services may write: systemd makes these for them, and lets them write nowhere else."""
        return self.state_dir, self.cache_dir, self.runtime_dir

    @property
    def packaged_units_folder(self) -> Path:
        """Of units that came with packages of the system."""
        return self.root / "usr/lib/systemd" / ("user" if self.of_user else "system")

    @property
    def has_systemd(self) -> bool:
        """Whether systemd is what runs this machine."""
        return (self.root / "run/systemd/system").is_dir()

    def systemctl(self, *words: str) -> Ran:
        """Run ``systemctl`` for the systemd of this place."""
        return self.run(("systemctl", *(("--user",) if self.of_user else ()), *words))

    def look_at(self, unit: str, properties: str = _PROPERTIES) -> dict[str, str]:
        """Return what systemd knows of a unit, by the names of its properties; empty if it does not answer.

        Args:
            unit: its name.
            properties: that are asked after, with commas between them.
        """
        lines = self.systemctl("show", unit, f"--property={properties}").out.splitlines()
        return {name: value for name, equals, value in (line.partition("=") for line in lines) if equals}

    def runs(self, unit: str) -> bool:
        """Return whether a service runs, or is on its first steps; not if systemd waits to try it once more."""
        seen = self.look_at(unit)
        starting = seen.get("ActiveState") == "activating" and seen.get("SubState") != "auto-restart"
        return starting or seen.get("ActiveState") in ("active", "reloading")

    def enabled(self, unit: str) -> str:
        """Return ``enabled``, ``disabled``, ``masked`` and so on, as the links on the disk say it.

        What ``show`` says is how they were when the unit was read.
        """
        return self.systemctl("is-enabled", unit).out.strip()

    def account(self, beside: Collection[str] = ()) -> Account | None:
        """Return the user of the services, or None if there is none yet.

        Args:
            beside: names of groups that the user is in for a service, beside its own.
        """
        fields = (line.split(":") for line in self._lines("passwd"))
        found = next((one for one in fields if len(one) > 3 and one[0] == self.user), None)
        if found is None or not (found[2].isdecimal() and found[3].isdecimal()):
            return None
        gid = int(found[3])
        groups = (line.split(":") for line in self._lines("group"))
        known = [one for one in groups if len(one) > 3 and one[2].isdecimal()]
        more = {int(one[2]) for one in known if one[0] in beside or self.user in one[3].split(",")}
        return Account(int(found[2]), gid, frozenset({gid} | more))

    def has_group(self) -> bool:
        """Return whether there is a group of the services' user's name."""
        return any(line.startswith(f"{self.user}:") for line in self._lines("group"))

    def _lines(self, name: str) -> list[str]:
        try:
            return (self.root / "etc" / name).read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return []


def below(root: Path, path: Path) -> Path:
    """Return where an absolute path of the system is when the system is below a folder."""
    return root / path.relative_to("/")
