"""Taking away what was set up: just what the record says, and of that only what is still as it was made.

Owns the order, and what is said of that which stays: what a person changed since, what was there before, and, without
``--purge``, what the services keep.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from musicsyncd.errors import ConfigError, MusicSyncError
from musicsyncd.system.installing import config_file, units
from musicsyncd.system.installing.config_file import Change
from musicsyncd.system.installing.place import NOT_THERE, Place
from musicsyncd.system.installing.record import SHARED, Record
from musicsyncd.system.installing.steps import Books, Reload, RemoveFile, Step, do_all, must, write_config
from musicsyncd.system.installing.units import Role


@dataclass(slots=True)
class Removal:
    """What is to be taken away.

    Attributes:
        books: of the place.
        steps: in order.
        remarks: what stays, and why.
    """

    books: Books
    steps: list[Step] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def carry_out(self, say: Callable[[str], None]) -> None:
        """Do the steps.

        Raises:
            MusicSyncError: one cannot be done; a later run goes on with it.
        """
        do_all(self.steps, self.books, say)


def plan_removal(place: Place, role: Role, *, purge: bool) -> Removal:
    """Work out what is to be taken away. Nothing is touched.

    Args:
        place: where.
        role: host or peer.
        purge: with the key, the queue and the cache.

    Raises:
        ConfigError: the record cannot be read.
    """
    removal = Removal(Books.open(place))
    record = removal.books.record
    is_last = not set(record.roles) - {role}
    is_known = role in record.roles
    steps: list[Step] = []
    if is_known:
        unit = units.unit_name(role)
        made = [Path(one.path) for one in record.files if one.role == role or (is_last and one.role == SHARED)]
        gone = [path for path in made if record.is_ours(path)]
        removal.remarks += [
            f"{path} stays, for it was changed since" for path in made if path.exists() and path not in gone
        ]
        steps.append(Stop(place, unit, disable=unit in record.enabled or place.units_folder / unit in gone))
        steps += [RemoveFile(path, "`musicsyncd install` made it") for path in gone]
        keys = UnsetKeys(place, role, is_last, record)
        removal.remarks += keys.remarks()
        steps.append(keys)
    steps += _what_is_kept(removal, place, role, is_last=is_last, purge=purge)
    steps = [one for one in steps if one.needed()]
    if is_known:
        if any(isinstance(one, RemoveFile) for one in steps):
            steps.append(Reload(place, units.unit_name(role), changed=True))
        steps.append(Forget(place, role, is_last))
    removal.steps = steps
    return removal


def _what_is_kept(removal: Removal, place: Place, role: Role, *, is_last: bool, purge: bool) -> list[Step]:
    """Return the steps for state, cache and user, all of which host and peer of a machine share."""
    record = removal.books.record
    kept = [one for one in (place.state_dir, place.cache_dir) if one.exists()]
    folders = " and ".join(str(one) for one in kept)
    if not is_last:
        if purge and kept:
            removal.remarks.append(f"{folders} stay, for what else is set up here needs them")
        return []
    other = next(units.unit_name(one) for one in units.ROLES if one != role)
    if purge and place.runs(other):
        removal.remarks.append(f"{folders} stay, for {other} runs here")
        purge = False
    steps: list[Step] = []
    if purge:
        steps += [RemoveFolder(one, "with the key, the queue and all that is kept") for one in kept]
    if not place.of_user and record.user:
        steps.append(RemoveFolder(place.runtime_dir, "the sockets"))
    if kept and not purge and role in record.roles:
        removal.remarks.append(f"{folders} stay, with the key, the queue and the cache: --purge takes them away too")
    if record.user and (purge or not kept):
        steps.append(RemoveUser(place))
    elif record.user:
        removal.remarks.append(
            f"the user {place.user} stays, for these files are its own: `sudo userdel {place.user}` when they are gone"
        )
    return steps


@dataclass(frozen=True, slots=True)
class Stop:
    """Stop the service, and have it start by itself no more."""

    place: Place
    unit: str
    disable: bool

    def words(self) -> str:
        """Say what will be done."""
        return f"stop {self.unit}" + (", which starts by itself no more" if self.disable else "")

    def needed(self) -> bool:
        """Tell whether it is to be done."""
        seen = self.place.look_at(self.unit)
        return seen.get("ActiveState", "inactive") not in ("inactive", "") or (
            self.disable and self.place.enabled(self.unit) == "enabled"
        )

    def do(self, books: Books) -> None:
        """Do it."""
        if self.disable:
            must(self.place.systemctl("disable", self.unit), f"{self.unit} cannot be disabled")
        must(self.place.systemctl("stop", self.unit), f"{self.unit} cannot be stopped")
        self.place.systemctl("reset-failed", self.unit)  # It complains of a unit that has not failed.


@dataclass(frozen=True, slots=True)
class UnsetKeys:
    """Take the keys that were written out of the configuration file, or put back the values of before."""

    place: Place
    role: Role
    is_last: bool
    record: Record

    def _undone(self) -> tuple[list[Change], list[Change]]:
        """Return the keys that are as they were written, and those that are not."""
        text = config_file.read_text(self.place.config_file)
        made = [one for one in self.record.keys if one.section == self.role]
        known = [Change(one.section, one.key, one.value, one.before, one.was_there) for one in made]
        ours, others = [], []
        for one in known:
            now = config_file.value_in(text, one.section, one.key)
            if now is not None and now == one.value:
                ours.append(one)
            elif now is not None and not (one.was_there and now == one.before):
                others.append(one)
        return ours, others

    def remarks(self) -> list[str]:
        """Say what stays."""
        path = self.place.config_file
        lines = [f"{one.key} in {path}, [{self.role}], stays, for it was changed since" for one in self._undone()[1]]
        made = self.record.config_kept and self.record.config_before is None
        if self.is_last and made and self._text():
            lines.append(f"{path} stays, for it holds more than was written into it")
        return lines

    def _text(self) -> str | None:
        """Return what the file will hold; nothing for one that was made and is to go."""
        text = config_file.read_text(self.place.config_file)
        if text is None:
            return None
        text = config_file.without_keys(text, self._undone()[0])
        if not self.is_last or not self.record.config_kept:
            return text
        before = self.record.config_before
        if config_file.same_but_for_blank_lines(text, config_file.HEADER if before is None else before):
            return before or ""
        return text

    def words(self) -> str:
        """Say what will be done."""
        if self._text() == "" and self.record.config_before is None:
            return f"remove {self.place.config_file}"
        keys = ", ".join(one.key for one in self._undone()[0])
        return f"put back what {self.place.config_file} said before" + (f" of {keys}" if keys else "")

    def needed(self) -> bool:
        """Tell whether it is to be done."""
        return self._text() != config_file.read_text(self.place.config_file)

    def do(self, books: Books) -> None:
        """Do it."""
        text = self._text()
        assert text is not None, "it was there just now"
        if text == "" and self.record.config_before is None:
            with contextlib.suppress(FileNotFoundError):
                self.place.config_file.unlink()
        else:
            write_config(self.place.config_file, text)


@dataclass(frozen=True, slots=True)
class RemoveFolder:
    """Remove a folder with all that is in it."""

    path: Path
    what: str

    def words(self) -> str:
        """Say what will be done."""
        return f"remove {self.path}, {self.what}"

    def needed(self) -> bool:
        """Tell whether it is to be done."""
        return self.path.exists()

    def do(self, books: Books) -> None:
        """Remove it."""
        try:
            shutil.rmtree(self.path)
        except OSError as error:
            raise ConfigError(f"cannot remove {self.path}: {error.strerror}") from None


@dataclass(frozen=True, slots=True)
class RemoveUser:
    """Remove the user that was made, and its group."""

    place: Place

    def words(self) -> str:
        """Say what will be done."""
        return f"remove the system user {self.place.user}"

    def needed(self) -> bool:
        """Tell whether it is to be done."""
        return self.place.account() is not None

    def do(self, books: Books) -> None:
        """Remove it."""
        ran = self.place.run(("userdel", self.place.user))
        if ran.code == NOT_THERE or self.needed():
            raise MusicSyncError(f"the user {self.place.user} cannot be removed: {ran.complaint}")
        if self.place.has_group():  # With people in it, it does not go with its user.
            must(self.place.run(("groupdel", self.place.user)), f"the group {self.place.user} cannot be removed")


@dataclass(frozen=True, slots=True)
class Forget:
    """Cross a role off the record; with the last one the record goes, and the folders that were made and are empty."""

    place: Place
    role: Role
    is_last: bool

    def words(self) -> str:
        """Say what will be done."""
        return "forget what was made"

    def needed(self) -> bool:
        """Tell whether it is to be done."""
        return True

    def do(self, books: Books) -> None:
        """Do it."""
        record = books.record
        unit = units.unit_name(self.role)
        if self.is_last:
            self.place.record_file.unlink(missing_ok=True)
        left = [one for one in reversed(record.folders) if not _removed(Path(one))][::-1]
        if not self.is_last:
            books.note(
                msgspec.structs.replace(
                    record,
                    roles=tuple(one for one in record.roles if one != self.role),
                    files=tuple(one for one in record.files if one.role != self.role),
                    keys=tuple(one for one in record.keys if one.section != self.role),
                    enabled=tuple(one for one in record.enabled if one != unit),
                    restart=tuple(one for one in record.restart if one != unit),
                    folders=tuple(left),
                )
            )


def _removed(folder: Path) -> bool:
    """Remove a folder, and those in it that were made too, if nothing is in it; return whether it is not there."""
    with contextlib.suppress(OSError):
        folder.rmdir()
    return not folder.exists()
