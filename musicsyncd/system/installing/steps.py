"""Each thing there is to do when a service is set up: it says itself, tells whether it is needed, and does itself.

Owns the steps, none of which knows another. What a step makes it writes down first, in the :class:`Books`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import msgspec

from musicsyncd.errors import ConfigError, MusicSyncError
from musicsyncd.protocol.auth import RoomKeys
from musicsyncd.system import keyfile
from musicsyncd.system.identity import write_atomically
from musicsyncd.system.installing import config_file
from musicsyncd.system.installing.config_file import Change
from musicsyncd.system.installing.place import TIMED_OUT, Place, Ran
from musicsyncd.system.installing.record import MadeKey, Record, load_record, make_folders, save_record
from musicsyncd.system.installing.units import Role

_FILE_MODE = 0o644


@dataclass(slots=True)
class Books:
    """The record of a place, kept while steps are done."""

    place: Place
    record: Record = field(default_factory=Record)

    @classmethod
    def open(cls, place: Place) -> Books:
        """Return the books of a place as they are.

        Raises:
            ConfigError: the record cannot be read.
        """
        return cls(place, load_record(place.record_file))

    def note(self, record: Record) -> None:
        """Write down a newer record; the folder that it is in belongs to what is made.

        Raises:
            ConfigError: it cannot be written.
        """
        record = record.with_folders(self.place.config_folder)
        if record != self.record:
            save_record(self.place.record_file, record)
            self.record = record


class Step(Protocol):
    """Something to do."""

    def words(self) -> str:
        """Say what will be done."""

    def needed(self) -> bool:
        """Tell, by the system as it is, whether it is still to be done."""

    def do(self, books: Books) -> None:
        """Do it.

        Raises:
            MusicSyncError: it cannot be done.
        """


@dataclass(frozen=True, slots=True)
class WriteFile:
    """Write a file of ours: a unit, a drop-in, the user's definition."""

    path: Path
    data: bytes
    role: str
    what: str

    def words(self) -> str:
        """Say what will be done."""
        return f"{'renew' if self.path.exists() else 'write'} {self.path}: {self.what}"

    def needed(self) -> bool:
        """Tell whether it is to be done."""
        try:
            return self.path.read_bytes() != self.data
        except OSError:
            return True

    def do(self, books: Books) -> None:
        """Write it, and make its folder."""
        books.note(books.record.with_folders(self.path.parent).with_file(self.path, self.role, self.data))
        try:
            make_folders(self.path.parent)
            write_atomically(self.path, self.data, mode=_FILE_MODE)
        except OSError as error:
            raise ConfigError(f"cannot write {self.path}: {error.strerror}") from None


@dataclass(frozen=True, slots=True)
class RemoveFile:
    """Remove a file of ours that is not needed any more."""

    path: Path
    what: str

    def words(self) -> str:
        """Say what will be done."""
        return f"remove {self.path}: {self.what}"

    def needed(self) -> bool:
        """Tell whether it is to be done."""
        return self.path.exists()

    def do(self, books: Books) -> None:
        """Remove it."""
        try:
            self.path.unlink(missing_ok=True)
        except OSError as error:
            raise ConfigError(f"cannot remove {self.path}: {error.strerror}") from None
        books.note(books.record.without_file(self.path))


@dataclass(frozen=True, slots=True)
class MakeUser:
    """Make the user of the system services, by the file that says so."""

    place: Place

    def words(self) -> str:
        """Say what will be done."""
        return f"make the system user {self.place.user}, in whose name the services run"

    def needed(self) -> bool:
        """Tell whether it is to be done."""
        return self.place.account() is None

    def do(self, books: Books) -> None:
        """Make it."""
        books.note(msgspec.structs.replace(books.record, user=True))
        ran = self.place.run(("systemd-sysusers", self.place.sysusers_file.name))
        if ran.code or self.needed():
            raise MusicSyncError(f"the user {self.place.user} cannot be made: systemd-sysusers says: {ran.complaint}")


@dataclass(frozen=True, slots=True)
class SetKeys:
    """Write what was given on the command line into the configuration file."""

    place: Place
    role: Role
    changes: tuple[Change, ...]

    def words(self) -> str:
        """Say what will be done."""
        return f"set in {self.place.config_file}, under [{self.role}]: {', '.join(one.words() for one in self.changes)}"

    def needed(self) -> bool:
        """Tell whether it is to be done."""
        text = config_file.read_text(self.place.config_file)
        return bool(config_file.changes(text, self.role, {one.key: one.value for one in self.changes}))

    def do(self, books: Books) -> None:
        """Write it, with all else in the file as it is."""
        path = self.place.config_file
        text = config_file.read_text(path)
        record = books.record
        if not record.config_kept:
            record = msgspec.structs.replace(record, config_kept=True, config_before=text)
        for one in self.changes:
            record = record.with_key(MadeKey(self.role, one.key, one.value, one.before, one.was_there))
        books.note(record)
        write_config(path, config_file.with_changes(text, list(self.changes)))


def write_config(path: Path, text: str) -> None:
    """Write the configuration file as a whole, or not at all, with the mode that it has.

    Raises:
        ConfigError: it cannot be written.
    """
    try:
        path = path.resolve()  # A link stays one.
        make_folders(path.parent)
        mode = path.stat().st_mode & 0o777 if path.exists() else _FILE_MODE
        write_atomically(path, text.encode(), mode=mode)
    except OSError as error:
        raise ConfigError(f"cannot write the configuration file {path}: {error.strerror}") from None


@dataclass(frozen=True, slots=True)
class WriteKey:
    """Keep the room's key where a speaker finds it. It is state, and goes with the state only.

    Attributes:
        place: of the speaker.
        keys: that it is to have.
        path: of its key's file.
        rotated: where it keeps a newer one that it could not write there.
    """

    place: Place
    keys: RoomKeys
    path: Path
    rotated: Path

    def words(self) -> str:
        """Say what will be done."""
        return f"keep the room's key in {self.path}, for the user {self.place.user} alone"

    def needed(self) -> bool:
        """Tell whether it is to be done."""
        return not keyfile.has_joined(self.path, self.keys, self.rotated)

    def check(self) -> None:
        """Refuse to replace the secret of this machine's own host.

        Raises:
            ConfigError: it is there, and is another key.
        """
        if keyfile.is_host_file(self.path) and self.needed():
            raise ConfigError(
                f"{self.path} is the secret of this machine's own host, and a speaker here finds it without --join: "
                "leave --join out; to join another machine's host, uninstall the host here first, with --purge"
            )

    def do(self, books: Books) -> None:
        """Write it."""
        folder = self.path.parent
        try:
            if not folder.exists():
                folder.mkdir(mode=0o700, parents=True)
                account = None if self.place.of_user else self.place.account()
                if account is not None:
                    os.chown(folder, account.uid, account.gid)
        except OSError as error:
            raise ConfigError(f"cannot make the folder {folder}: {error.strerror}") from None
        keyfile.join(self.path, self.keys, self.rotated)


@dataclass(frozen=True, slots=True)
class Reload:
    """Have systemd read its units again."""

    place: Place
    unit: str
    changed: bool

    def words(self) -> str:
        """Say what will be done."""
        return "have systemd read its units again"

    def needed(self) -> bool:
        """Tell whether it is to be done."""
        return self.changed or self.place.look_at(self.unit).get("NeedDaemonReload") == "yes"

    def do(self, books: Books) -> None:
        """Do it."""
        must(self.place.systemctl("daemon-reload"), "systemd does not read its units again")


@dataclass(frozen=True, slots=True)
class Enable:
    """Have the service start by itself."""

    place: Place
    unit: str

    def words(self) -> str:
        """Say what will be done."""
        return f"have {self.unit} start {'when you sign in' if self.place.of_user else 'at every boot'}"

    def needed(self) -> bool:
        """Tell whether it is to be done."""
        return self.place.enabled(self.unit) != "enabled"

    def do(self, books: Books) -> None:
        """Do it."""
        enabled = tuple(dict.fromkeys((*books.record.enabled, self.unit)))
        books.note(msgspec.structs.replace(books.record, enabled=enabled))
        must(self.place.systemctl("enable", self.unit), f"{self.unit} cannot be enabled")


@dataclass(frozen=True, slots=True)
class Start:
    """Start the service, or start it anew where it runs and does not know of a change.

    Attributes:
        place: whose service.
        unit: its name.
        why: it is to be started anew though it runs, or empty.
        only_if_it_runs: one that does not run stays as it is.
    """

    place: Place
    unit: str
    why: str = ""
    only_if_it_runs: bool = False

    def words(self) -> str:
        """Say what will be done."""
        return f"restart {self.unit}: {self.why}" if self.place.runs(self.unit) else f"start {self.unit}"

    def needed(self) -> bool:
        """Tell whether it is to be done."""
        return bool(self.why) if self.place.runs(self.unit) else not self.only_if_it_runs

    def do(self, books: Books) -> None:
        """Do it. One that is still starting when the patience ends goes on with it."""
        ran = self.place.systemctl("restart", self.unit)  # It starts what does not run, too.
        if ran.code != TIMED_OUT:
            user = "--user " if self.place.of_user else ""
            must(ran, f"{self.unit} does not start (`journalctl {user}-e -u {self.unit}` says why)")
        waiting = tuple(one for one in books.record.restart if one != self.unit)
        books.note(msgspec.structs.replace(books.record, restart=waiting))


def must(ran: Ran, what: str) -> None:
    """Refuse to go on after a command that failed.

    Raises:
        MusicSyncError: it did; its own last line is said.
    """
    if ran.code:
        raise MusicSyncError(f"{what}: {ran.complaint}")


def do_all(steps: list[Step], books: Books, say: Callable[[str], None]) -> None:
    """Do one step after the other, and say each that is done.

    Args:
        steps: in order; their words are asked for before they are done.
        books: where they write down what they make.
        say: takes a line.

    Raises:
        MusicSyncError: one cannot be done; a later run goes on with it.
    """
    for number, step in enumerate(steps, 1):
        words = step.words()
        step.do(books)
        say(f"{number}. done: {words.partition(': ')[0]}")
