"""A machine that is only a folder, with something in it that answers as systemd does."""

from __future__ import annotations

import os
import re
import time
from dataclasses import replace
from pathlib import Path

from musicsyncd.system.installing.place import Place, Ran
from musicsyncd.system.installing.plan import Wishes, plan_install
from musicsyncd.system.installing.removing import plan_removal
from musicsyncd.system.installing.way import Way

HOST, PEER = "musicsyncd-host.service", "musicsyncd-peer.service"


def looks(words: tuple[str, ...]) -> bool:
    """Return whether a command only looks."""
    return "show" in words or "is-enabled" in words


class PowerCut(BaseException):
    """Ends everything, in the middle."""


class FakeSystem:
    """Units, users and groups of a folder. ``cut_at`` is the number of the command before which the power goes."""

    def __init__(self, root: Path, *, user: str = "") -> None:
        self.root = root
        self.units = root / ("home/me/.config/systemd/user" if user else "etc/systemd/system")
        self.target = "default.target" if user else "multi-user.target"
        self.calls: list[tuple[str, ...]] = []
        self.active: dict[str, float] = {}
        self.loaded: dict[str, bytes] = {}
        self.failing: dict[str, str] = {}
        self.cut_at: int | None = None
        self.masked = False

    @property
    def changes(self) -> int:
        """How many commands there were that change something."""
        return sum(not looks(one) for one in self.calls)

    def file(self, unit: str) -> Path:
        mine = self.units / unit
        return mine if mine.exists() else self.root / "usr/lib/systemd/system" / unit

    def link(self, unit: str) -> Path:
        return self.units / f"{self.target}.wants" / unit

    def text(self, unit: str) -> bytes:
        files = [self.file(unit), *sorted((self.units / f"{unit}.d").glob("*.conf"))]
        return b"".join(one.read_bytes() for one in files if one.exists())

    def __call__(self, words) -> Ran:
        words = tuple(words)
        if not looks(words) and self.cut_at is not None and self.changes == self.cut_at:
            raise PowerCut
        self.calls.append(words)
        words = tuple(one for one in words if one != "--user")
        name = words[0] if words[0] != "systemctl" else words[1]
        if name in self.failing:
            return Ran(1, err=f"some line\n{self.failing[name]}\n")
        return getattr(self, name.replace("-", "_"))(*words[2 if words[0] == "systemctl" else 1 :])

    def show(self, unit, *properties) -> Ran:
        if unit.startswith("--"):
            return Ran(0, "Version=252\n")
        running = unit in self.active
        changed = unit in self.loaded and self.loaded[unit] != self.text(unit)
        values = {
            "ActiveState": "active" if running else "inactive",
            "NeedDaemonReload": "yes" if changed else "no",
            "ExecMainStartTimestampMonotonic": str(int(self.active[unit] * 1e6)) if running else "0",
            "StatusText": "in step" if running else "",
        }
        return Ran(0, "".join(f"{name}={value}\n" for name, value in values.items()))

    def is_enabled(self, unit) -> Ran:
        if self.masked:
            return Ran(1, "masked\n")
        if not self.file(unit).exists():
            return Ran(1, err="Failed to get unit file state: No such file or directory\n")
        return Ran(0, "enabled\n") if self.link(unit).is_symlink() else Ran(1, "disabled\n")

    def daemon_reload(self) -> Ran:
        self.loaded = {unit: self.text(unit) for unit in (HOST, PEER) if self.file(unit).exists()}
        return Ran(0)

    def enable(self, unit) -> Ran:
        assert self.file(unit).exists()
        self.link(unit).parent.mkdir(exist_ok=True)
        self.link(unit).symlink_to(self.file(unit))
        return Ran(0)

    def disable(self, unit) -> Ran:
        self.link(unit).unlink(missing_ok=True)
        if self.link(unit).parent.exists() and not os.listdir(self.link(unit).parent):
            self.link(unit).parent.rmdir()
        return Ran(0)

    def restart(self, unit) -> Ran:
        if not self.file(unit).exists():
            return Ran(5, err=f"Unit {unit} not found.")
        # A unit that it does not know yet is read when it is asked for.
        assert self.loaded.setdefault(unit, self.text(unit)) == self.text(unit), "systemd would run what it read before"
        self.active[unit] = time.monotonic() + 1.0  # Later than any file's time, whose clock is a coarse one.
        return Ran(0)

    def stop(self, unit) -> Ran:
        self.active.pop(unit, None)
        return Ran(0)

    def reset_failed(self, unit) -> Ran:
        return Ran(1, err=f"Unit {unit} not loaded.")

    def systemd_sysusers(self, name) -> Ran:
        folders = (self.root / "etc/sysusers.d", self.root / "usr/lib/sysusers.d")
        text = next(folder / name for folder in folders if (folder / name).exists()).read_text()
        user = re.search(r"^u (\S+)", text, re.MULTILINE)[1]
        with (self.root / "etc/passwd").open("a") as file:
            file.write(f"{user}:x:{os.getuid()}:{os.getgid()}:m:/var/lib/musicsyncd:/usr/sbin/nologin\n")
        with (self.root / "etc/group").open("a") as file:
            file.write(f"{user}:x:{os.getgid()}:\n")
        return Ran(0)

    def userdel(self, name) -> Ran:
        for file in (self.root / "etc/passwd", self.root / "etc/group"):
            lines = file.read_text().splitlines(keepends=True)
            kept = [line for line in lines if not line.startswith(f"{name}:") or line.strip()[-1] not in "n:"]
            file.write_text("".join(kept))
        return Ran(0)

    def groupdel(self, name) -> Ran:
        file = self.root / "etc/group"
        lines = file.read_text().splitlines(keepends=True)
        file.write_text("".join(line for line in lines if not line.startswith(f"{name}:")))
        return Ran(0)


class Machine:
    """A folder with a system in it, a program that was installed there, and what a person types."""

    def __init__(self, root: Path, program: str = "opt/m/bin/musicsyncd", kind: str = "venv") -> None:
        self.root = root
        for folder in ("etc/systemd/system", "run/systemd/system", "var/lib", "var/cache", "usr/lib", "home/me", "srv"):
            (root / folder).mkdir(parents=True)
        (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/bash\n")
        (root / "etc/group").write_text("root:x:0:\naudio:x:29:\n")
        self.way = self.installed(program, kind)
        self.system = FakeSystem(root)
        self.place = replace(Place.of_system(root), run=self.system, uid=0)

    def installed(self, program: str, kind: str = "venv") -> Way:
        path = self.root / program
        package = path.parent.parent / "musicsyncd"
        package.mkdir(parents=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        for one in (path, path.parent / "python", package / "__init__.py"):
            one.write_text("")
            one.chmod(0o755)
        for folder in (path.parent, *path.parent.parents):
            if folder != self.root and folder.is_relative_to(self.root):
                folder.chmod(0o755)
        package.chmod(0o755)
        return Way(kind, path, path.parent / "python", package)

    def plan(self, role, keys=None, **options):
        values = {name: options.pop(name) for name in list(options) if name not in Wishes.__slots__}
        return plan_install(self.place, self.way, Wishes(role, values, keys, **options))

    def install(self, role, keys=None, **options) -> list[str]:
        said: list[str] = []
        self.plan(role, keys, **options).carry_out(said.append)
        return said

    def uninstall(self, role, *, purge=False) -> list[str]:
        removal = plan_removal(self.place, role, purge=purge)
        removal.carry_out(lambda line: None)
        return removal.remarks

    def tree(self) -> dict[str, object]:
        """Return everything below the root: by path, the mode, and what a file holds or where a link goes."""
        found = {}
        for path in sorted(self.root.rglob("*")):
            mode = path.lstat().st_mode
            held = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None
            found[str(path.relative_to(self.root))] = (oct(mode), held)
        return found


def words_of(plan) -> list[str]:
    return [step.words() for step in plan.steps]
