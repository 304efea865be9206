"""What was made on this machine, so that just that can be taken away again.

Owns the file ``installed.json`` beside the configuration. It is written before what it tells of is made: what stands
in it and is not there was not reached. A file is known by the hashes of all that was ever written into it; whatever
else stands in it now is somebody else's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from musicsyncd.errors import ConfigError
from musicsyncd.system.identity import write_atomically
from musicsyncd.system.installing.units import Role

MAX_HASHES = 8
_MAX_FILE_BYTES = 4 << 20

SHARED = ""
"""In place of a role: it goes with the last one."""


class MadeFile(msgspec.Struct, frozen=True):
    """A file: its path, the role that it is for, and the hashes of what was written into it, the newest last."""

    path: str
    role: str
    sha256: tuple[str, ...]


class MadeKey(msgspec.Struct, frozen=True):
    """A key of the configuration: the value that was written, and the one before if there was one."""

    section: Role
    key: str
    value: Any
    before: Any = None
    was_there: bool = False


class Record(msgspec.Struct, frozen=True):
    """What was made.

    Attributes:
        roles: that are set up.
        files: that were written.
        folders: that were made, the outermost first.
        keys: that were written into the configuration file.
        config_before: that file as it was, or None when there was none.
        config_kept: whether ``config_before`` was looked at.
        user: the services' user was made.
        enabled: units that start by themselves since.
        restart: units that run, and do not know yet what was changed.
        version: of this form.
    """

    roles: tuple[Role, ...] = ()
    files: tuple[MadeFile, ...] = ()
    folders: tuple[str, ...] = ()
    keys: tuple[MadeKey, ...] = ()
    config_before: str | None = None
    config_kept: bool = False
    user: bool = False
    enabled: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()
    version: int = 1

    def file(self, path: Path) -> MadeFile | None:
        """Return what is known of a file, or None if it was not made."""
        return next((one for one in self.files if one.path == str(path)), None)

    def with_file(self, path: Path, role: str, data: bytes) -> Record:
        """Return the record of one more file, or of another text in it."""
        known = self.file(path)
        hashes = (() if known is None else tuple(one for one in known.sha256 if one != digest(data))) + (digest(data),)
        made = MadeFile(str(path), role, hashes[-MAX_HASHES:])
        return msgspec.structs.replace(self, files=(*(one for one in self.files if one is not known), made))

    def without_file(self, path: Path) -> Record:
        """Return the record without a file."""
        return msgspec.structs.replace(self, files=tuple(one for one in self.files if one.path != str(path)))

    def with_folders(self, folder: Path) -> Record:
        """Return the record of a folder, and of those above it, that are not there and are about to be made."""
        new = [str(one) for one in reversed((folder, *folder.parents)) if not one.exists()]
        return msgspec.structs.replace(self, folders=_joined(self.folders, new))

    def with_key(self, made: MadeKey) -> Record:
        """Return the record of a key; of one that was written before, what was there before that stays known."""
        known = next((one for one in self.keys if (one.section, one.key) == (made.section, made.key)), None)
        if known is not None and known.value == made.before:
            made = msgspec.structs.replace(made, before=known.before, was_there=known.was_there)
        return msgspec.structs.replace(self, keys=(*(one for one in self.keys if one is not known), made))

    def is_ours(self, path: Path) -> bool:
        """Return whether a file is there, and holds what was written into it."""
        known = self.file(path)
        try:
            return known is not None and digest(path.read_bytes()) in known.sha256
        except OSError:
            return False


def load_record(path: Path) -> Record:
    """Return what was made, an empty record if nothing was.

    Raises:
        ConfigError: the file cannot be read or makes no sense.
    """
    try:
        with path.open("rb") as file:
            return msgspec.json.decode(file.read(_MAX_FILE_BYTES), type=Record)
    except FileNotFoundError:
        return Record()
    except OSError as error:
        raise ConfigError(f"cannot read {path}, where it stands what was set up: {error.strerror}") from None
    except (msgspec.MsgspecError, ValueError) as error:
        raise ConfigError(f"{path}, where it stands what was set up, is damaged ({error}): move it away") from None


def save_record(path: Path, record: Record) -> None:
    """Write down what was made.

    Raises:
        ConfigError: it cannot be written.
    """
    try:
        make_folders(path.parent)
        write_atomically(path, msgspec.json.format(msgspec.json.encode(record)) + b"\n", mode=0o644)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from None


def make_folders(folder: Path) -> None:
    """Make a folder that everybody may look into, whatever this process's umask says, and those above it.

    Raises:
        OSError: it cannot be made.
    """
    for one in reversed((folder, *folder.parents)):
        if not one.exists():
            one.mkdir()
            one.chmod(0o755)


def digest(data: bytes) -> str:
    """Return the SHA-256 of a file's bytes."""
    return hashlib.sha256(data).hexdigest()


def _joined(known: Sequence[str], new: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*known, *new)))
