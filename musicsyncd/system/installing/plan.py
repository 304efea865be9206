"""What is to be done to set up a host or a speaker, worked out before anything is written.

Owns which steps there are, in which order, what is refused before the first of them, and what is only warned of.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from musicsyncd.errors import ConfigError
from musicsyncd.paths import Paths
from musicsyncd.protocol.auth import RoomKeys
from musicsyncd.system.installing import config_file, units
from musicsyncd.system.installing.access import blocker, lies_at_home
from musicsyncd.system.installing.place import Place
from musicsyncd.system.installing.record import SHARED
from musicsyncd.system.installing.steps import (
    Books,
    Enable,
    MakeUser,
    Reload,
    RemoveFile,
    SetKeys,
    Start,
    Step,
    WriteFile,
    WriteKey,
    do_all,
)
from musicsyncd.system.installing.units import Role
from musicsyncd.system.installing.way import Way

PORTAUDIO = "libportaudio.so.2"


@dataclass(frozen=True, slots=True)
class Wishes:
    """What is to be set up.

    Attributes:
        role: host or peer.
        values: keys of its section of the configuration file, as they were given.
        keys: of the room, from a join code, or None.
        start: it is started now.
        renew: only what is there already is renewed, and what runs started anew.
        restart: what runs is started anew in any case.
    """

    role: Role
    values: Mapping[str, Any] = field(default_factory=dict)
    keys: RoomKeys | None = None
    start: bool = True
    renew: bool = False
    restart: bool = False


@dataclass(slots=True)
class Plan:
    """What is to be done.

    Attributes:
        books: of the place.
        role: that is set up.
        steps: that are needed, in order.
        remarks: what a person should know beside.
    """

    books: Books
    role: Role
    steps: list[Step] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def carry_out(self, say: Callable[[str], None]) -> None:
        """Do the steps. A service that runs and is told of a change later is noted, for whoever has to end in between.

        Raises:
            MusicSyncError: one cannot be done; a later run goes on with it.
        """
        if not self.steps:
            return
        record = self.books.record
        unit = units.unit_name(self.role)
        waits = (unit,) if any(isinstance(one, SetKeys | WriteKey) for one in self.steps) else ()
        self.books.note(
            msgspec.structs.replace(
                record,
                roles=tuple(dict.fromkeys((*record.roles, self.role))),
                restart=tuple(dict.fromkeys((*record.restart, *waits))),
            )
        )
        do_all(self.steps, self.books, say)


def check_machine(place: Place, by_hand: str) -> None:
    """Refuse a machine, or a user, for which nothing can be set up.

    Args:
        place: where.
        by_hand: command line that starts the service without systemd.

    Raises:
        ConfigError: there is no systemd, or none of this user's.
    """
    if not place.has_systemd:
        raise ConfigError(f"this machine does not run systemd, so start it by hand: {by_hand}")
    if place.of_user and place.uid == 0:
        raise ConfigError("--user sets up a service of whoever calls it, and that is root: leave out --user or sudo")
    if place.of_user:
        ran = place.systemctl("show", "--property=Version")
        if ran.code:
            raise ConfigError(
                f"your own systemd does not answer ({ran.complaint}): sign in on this machine itself or by ssh, "
                f"not by su or sudo; or `sudo loginctl enable-linger {place.user}`, and sign in again"
            )


def check_root(place: Place, as_root: str) -> None:
    """Refuse whoever may not write where the system's files are.

    Args:
        place: where.
        as_root: the command line, as root has to type it.

    Raises:
        ConfigError: it is not root who asks.
    """
    if not place.of_user and place.uid != 0:
        raise ConfigError(f"this needs root: `{as_root}`; or add --user, for a service of your own")


def check_portaudio(load: Callable[[str], object] = ctypes.CDLL) -> None:
    """Refuse a machine without the library that sound goes through.

    Raises:
        ConfigError: it is missing.
    """
    try:
        load(PORTAUDIO)
    except OSError:
        raise ConfigError(
            "the PortAudio library is missing, without which there is no sound: `sudo apt-get install libportaudio2`"
        ) from None


def plan_install(place: Place, way: Way, wishes: Wishes) -> Plan:
    """Work out what is to be done. Nothing is written.

    Args:
        place: where.
        way: how this program was installed.
        wishes: what is to be set up.

    Raises:
        ConfigError: it cannot be, or not so.
    """
    books = Books.open(place)
    plan = Plan(books, wishes.role)
    unit = units.unit_name(wishes.role)
    text = config_file.read_text(place.config_file)
    changes = config_file.changes(text, wishes.role, wishes.values)
    music = _music_in(place, wishes.role, config_file.with_changes(text, changes) if changes else text)
    kept = _paths(place, wishes.role, text)
    if not wishes.renew:
        _check_folders(place, wishes.role, text)
        _check_key(plan, place, wishes, text)
    files = [*_definition_of_user(place, way), *_unit_files(place, way, wishes.role, [*music, kept.key_file])]
    steps: list[Step] = [one for one in files if one.needed() and _may_write(plan, one)]
    if not place.of_user:
        _check_program(place, way)
        after = sum(isinstance(one, WriteFile) and one.role == SHARED for one in steps)
        steps[after:after] = [MakeUser(place)]
    if changes:
        steps.append(SetKeys(place, wishes.role, tuple(changes)))
    if wishes.keys is not None:
        key = WriteKey(place, wishes.keys, kept.key_file, kept.rotated_key_file)
        key.check()
        steps.append(key)
    seen = place.look_at(unit)
    if place.enabled(unit) == "masked":
        user = "--user " if place.of_user else ""
        raise ConfigError(f"{unit} is masked, so it never starts: `systemctl {user}unmask {unit}` first")
    changed = any(isinstance(one, WriteFile | RemoveFile) for one in steps)
    steps.append(Reload(place, unit, changed))
    if not wishes.renew:
        steps.append(Enable(place, unit))
    if wishes.start:
        why = "it was told to" if wishes.restart else _why_restart(place, way, unit, seen, steps, books)
        steps.append(Start(place, unit, why, only_if_it_runs=wishes.renew))
    plan.steps = [one for one in steps if one.needed()]
    if not place.of_user:
        plan.remarks += _unreadable(place, music)
    return plan


def _path_in(place: Place, role: Role, text: str | None, key: str) -> Path | None:
    """Return the path that the configuration names for a role, or None."""
    values = (config_file.value_in(text, section, key) for section in (role, "common"))
    value = next((one for one in values if isinstance(one, str)), None)
    return None if value is None else Path(os.path.normpath(place.config_folder / os.path.expanduser(value)))


def _paths(place: Place, role: Role, text: str | None) -> Paths:
    """Return where a service keeps its key and its state, as the configuration says."""
    state_dir = _path_in(place, role, text, "state-dir") or place.state_dir
    return Paths.find({}, state_dir=state_dir, key_file=_path_in(place, role, text, "key-file"))


def _may_be_written(place: Place, path: Path) -> bool:
    """Return whether a service may write there: one of the system only in the folders that systemd makes for it."""
    return place.of_user or any(path.is_relative_to(one) for one in place.folders)


def _check_folders(place: Place, role: Role, text: str | None) -> None:
    """Refuse folders that a service could not write to.

    Raises:
        ConfigError: the configuration names one.
    """
    for key in ("state-dir", "cache-dir", "runtime-dir"):
        path = _path_in(place, role, text, key)
        if path is not None and not _may_be_written(place, path):
            raise ConfigError(
                f"{key} in {place.config_file} is {path}, where the service may not write: take it out "
                f"(it has {', '.join(map(str, place.folders))}), or set up a service of your own with --user"
            )


def _check_key(plan: Plan, place: Place, wishes: Wishes, text: str | None) -> None:
    """Refuse to start a service that could only end again, for it has no key.

    Raises:
        ConfigError: it has none, or would have another one than is meant.
    """
    role, file = wishes.role, _paths(place, wishes.role, text).key_file
    line = f"key-file in {place.config_file} is {file}"
    to_read_only = not _may_be_written(place, file)
    if to_read_only and wishes.keys is not None:
        raise ConfigError(
            f"{line}, where the service may only read, so it would not have the key of --join: take out key-file, "
            "or leave out --join, and the key in that file counts"
        )
    is_open = any(config_file.value_in(text, section, "open") for section in (role, "common"))
    if wishes.keys is not None or is_open:
        return
    if to_read_only:
        _check_readable(place, file, line)
        return
    other = _path_in(place, role, text, "key-file") is not None  # It counts before a credential.
    files = (file, *(() if other else (place.root / "etc/credstore/musicsyncd-peer.key",)))
    of_host = "host" in plan.books.record.roles and file == _paths(place, "host", text).key_file
    if role != "peer" or of_host or any(map(_may_be_there, files)):
        return
    line = "a speaker needs the host's join code, as `musicsyncd key show` prints it there: add --join CODE"
    if wishes.start:
        raise ConfigError(line)
    plan.remarks.append(line)


def _check_readable(place: Place, file: Path, line: str) -> None:
    """Refuse a key's file that a service could neither read nor make.

    Raises:
        ConfigError: it is such a one.
    """
    if not _may_be_there(file):
        raise ConfigError(f"{line}, which is not there, and the service may not make it: take out key-file")
    closed = blocker(file, place.account(), place.root)
    if closed is not None:
        raise ConfigError(
            f"{line}, and {closed} is closed to the services' user {place.user}: take out key-file, "
            "or let that user read it"
        )


def _may_be_there(path: Path) -> bool:
    try:
        path.stat()
    except FileNotFoundError:
        return False
    except OSError:  # Who may not look cannot say that it is not.
        return True
    return True


def _definition_of_user(place: Place, way: Way) -> list[WriteFile]:
    if place.of_user or way.kind == "debian":
        return []
    text = units.sysusers_text()
    return [WriteFile(place.sysusers_file, text, SHARED, f"who the user {place.user} is")]


def _unit_files(place: Place, way: Way, role: Role, music: list[Path]) -> list[WriteFile | RemoveFile]:
    unit = units.unit_name(role)
    files: list[WriteFile | RemoveFile] = []
    if way.kind == "debian" and (place.packaged_units_folder / unit).exists():
        files.append(RemoveFile(place.units_folder / unit, "the package has its own"))
    else:
        text = units.unit_text(role, way.program, of_user=place.of_user)
        files.append(WriteFile(place.units_folder / unit, text, role, f"the service, which runs {way.program} {role}"))
    drop_in = place.units_folder / f"{unit}.d" / units.HOME_DROP_IN
    at_home = any(lies_at_home(one, place.root) for one in (way.program, way.python, way.package, *music))
    if at_home and not place.of_user:
        files.append(WriteFile(drop_in, units.HOME_TEXT, role, "the service may read in home folders"))
    else:
        files.append(RemoveFile(drop_in, "nothing that it needs is in a home folder any more"))
    return files


def _may_write(plan: Plan, step: WriteFile | RemoveFile) -> bool:
    """Return whether a file that is to be changed is ours to change.

    Raises:
        ConfigError: somebody else made it.
    """
    record = plan.books.record
    if not step.path.exists() or record.is_ours(step.path):
        return True
    if record.file(step.path) is not None:
        plan.remarks.append(
            f"{step.path} stays as it is, for it was changed since it was written: changes of your own belong in "
            f"another file, which `systemctl edit` makes; remove this one and come back"
        )
        return False
    if isinstance(step, RemoveFile):
        return False  # Somebody's own drop-in of that name.
    raise ConfigError(f"{step.path} is there already, and `musicsyncd install` did not write it: move it away first")


def _check_program(place: Place, way: Way) -> None:
    """Refuse a program that the service's user could not run.

    Raises:
        ConfigError: it could not.
    """
    if way.kind == "debian":
        return
    account = place.account()
    for path in (way.program, way.python, way.package):
        closed = blocker(path, account, place.root)
        if closed is not None:
            raise ConfigError(
                f"the services' user {place.user} could not run {way.program}, for {closed} is closed to it: install "
                "musicsyncd for the whole machine (`sudo env PIPX_HOME=/opt/pipx PIPX_BIN_DIR=/usr/local/bin pipx "
                f"install {way.requirement}`, or a venv in /opt), or run it as yourself (`musicsyncd install … --user`)"
            )


def _music_in(place: Place, role: Role, text: str | None) -> list[Path]:
    """Return the folders and files of music that a section of the configuration names."""
    found: list[Path] = []
    for key in ("library", "tracks"):
        value = config_file.value_in(text, role, key)
        listed = [value] if isinstance(value, str) else value if isinstance(value, list) else []
        found += [place.config_folder / os.path.expanduser(one) for one in listed if isinstance(one, str)]
    return found


def _unreadable(place: Place, music: list[Path]) -> list[str]:
    account = place.account()
    remarks = []
    for path in music:
        closed = blocker(path, account, place.root)
        if closed is not None:
            right = "o+rX -R" if closed == path else "o+x"
            remarks.append(
                f"the services' user {place.user} may not read {path}, for {closed} is closed to it: "
                f"`sudo chmod {right} {closed}` opens it"
            )
        elif not _may_be_there(path):
            remarks.append(f"{path} is not there yet")
    return remarks


def _why_restart(place: Place, way: Way, unit: str, seen: Mapping[str, str], steps: list[Step], books: Books) -> str:
    """Return why a service that runs has to be started anew, or nothing."""
    needed = [one for one in steps if one.needed()]
    if any(isinstance(one, WriteFile | RemoveFile) for one in needed):
        return "its unit is another one"
    if unit in books.record.restart or any(isinstance(one, SetKeys | WriteKey) for one in needed):
        return "it does not know what was changed"
    started_us = seen.get("ExecMainStartTimestampMonotonic", "")
    if not place.runs(unit) or not started_us.isdecimal() or int(started_us) == 0:
        return ""
    now_s, monotonic_s = place.clocks()
    started_s = now_s - (monotonic_s - int(started_us) / 1e6)
    watched = (place.units_folder / unit, place.units_folder / f"{unit}.d" / units.HOME_DROP_IN)
    if any(started_s < changed_s <= now_s for changed_s in map(_changed_s, watched)):
        return "its unit is newer than what runs"
    if started_s < _changed_s(way.package / "__init__.py") <= now_s:
        return "the program is newer than what runs"
    return ""


def _changed_s(path: Path) -> float:
    """Return when a file was put where it is, s since 1970: not when it was written, which a package may say wrong."""
    try:
        return path.stat().st_ctime
    except OSError:
        return 0.0


def account_of(place: Place, role: Role) -> str:
    """Return in one line how a service is, as systemd knows it."""
    seen = place.look_at(units.unit_name(role))
    said = seen.get("StatusText", "")
    state = seen.get("ActiveState") or "unknown to systemd"
    return f"{units.unit_name(role)} is {state}" + (f": {said}" if said else "")
