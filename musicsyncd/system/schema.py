"""The tables of a host's state file, version by version.

Owns how a file of an older version becomes one of the present version, and the copy that is kept of it before: with
that one, the program of before goes on where it was. Used by :mod:`musicsyncd.system.database`.
"""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

from musicsyncd.errors import ConfigError

MAX_COPIES = 3
"""Copies of older versions that stay, the newest ones."""

_FIRST = """
CREATE TABLE meta (only INTEGER PRIMARY KEY CHECK (only = 1), host_id BLOB NOT NULL, epoch INTEGER NOT NULL);
CREATE TABLE rooms (
    name TEXT PRIMARY KEY, volume INTEGER NOT NULL, muted INTEGER NOT NULL, snapshot BLOB NOT NULL,
    next_number INTEGER NOT NULL, queue_order BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE entries (
    room TEXT NOT NULL REFERENCES rooms(name) ON DELETE CASCADE, number INTEGER NOT NULL,
    path BLOB NOT NULL, title TEXT NOT NULL, artist TEXT NOT NULL, duration_s REAL NOT NULL,
    track BLOB, fault TEXT NOT NULL, PRIMARY KEY (room, number)
) WITHOUT ROWID;
CREATE TABLE peers (
    peer_id BLOB PRIMARY KEY, name TEXT NOT NULL, room TEXT NOT NULL, volume INTEGER NOT NULL,
    muted INTEGER NOT NULL, output_delay_us INTEGER NOT NULL, channels TEXT NOT NULL,
    settings_revision INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE tracks (
    path BLOB PRIMARY KEY, size_bytes INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, content_id BLOB NOT NULL,
    rate_hz INTEGER NOT NULL, frames INTEGER NOT NULL, channels INTEGER NOT NULL,
    title TEXT NOT NULL, artist TEXT NOT NULL, album TEXT NOT NULL, saved INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX tracks_saved ON tracks (saved);
"""

_SECOND = """
ALTER TABLE rooms ADD COLUMN plain_order BLOB;
ALTER TABLE rooms ADD COLUMN repeat TEXT NOT NULL DEFAULT 'off';
ALTER TABLE rooms ADD COLUMN fade_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE rooms ADD COLUMN queue_revision INTEGER NOT NULL DEFAULT 0;
CREATE TABLE played (
    number INTEGER PRIMARY KEY, room TEXT NOT NULL REFERENCES rooms(name) ON DELETE CASCADE, began_s REAL NOT NULL,
    path BLOB NOT NULL, title TEXT NOT NULL, artist TEXT NOT NULL, duration_s REAL NOT NULL
);
CREATE INDEX played_room ON played (room, number);
"""

_THIRD = """
CREATE TABLE links (
    link_id TEXT PRIMARY KEY, token_hash BLOB NOT NULL UNIQUE, role TEXT NOT NULL, name TEXT NOT NULL,
    made_s REAL NOT NULL, used_s REAL
) WITHOUT ROWID;
"""

_FOURTH = """
ALTER TABLE links ADD COLUMN key_id BLOB NOT NULL DEFAULT X'';
"""

STEPS = (_FIRST, _SECOND, _THIRD, _FOURTH)
"""From nothing to version 1, from 1 to 2, and so on. A step that was ever released is never changed."""

VERSION = len(STEPS)
"""Kept in ``user_version``. Rises when an older program could not read the file any more."""


def keep_copy(connection: sqlite3.Connection, path: Path, version: int) -> None:
    """Keep a copy of a file of an older version, ``state.sqlite.v2.bak`` beside it, before it is made a newer one.

    It is there as a whole or not at all. A copy of the same version, of an earlier try, gives way.

    Args:
        connection: to the file, outside of any transaction.
        path: of the file.
        version: that it has.

    Raises:
        ConfigError: it cannot be written; the file is as it was.
    """
    copy = _copy_path(path, version)
    unfinished = copy.with_name(f"{copy.name}.part")
    try:
        unfinished.unlink(missing_ok=True)
        unfinished.touch(mode=0o600)
        with contextlib.closing(sqlite3.connect(unfinished)) as target:
            connection.backup(target)
        unfinished.replace(copy)
        for older in _copies(path)[:-MAX_COPIES]:
            _copy_path(path, older).unlink(missing_ok=True)
    except (OSError, sqlite3.Error) as error:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)
        why = getattr(error, "strerror", None) or error
        raise ConfigError(
            f"cannot keep a copy of {path} before it is made one of version {VERSION}: {why}; its folder must be "
            "writable by this user, with room on the disk"
        ) from None


def check_not_newer(path: Path, version: int) -> None:
    """Refuse a file that a newer program wrote, and name the copy that this one could go on with.

    Raises:
        ConfigError: the version is not known.
    """
    if version <= VERSION:
        return
    copies = [one for one in _copies(path) if one <= VERSION]
    back = f"go back to the copy of before by moving {_copy_path(path, copies[-1])} there" if copies else ""
    raise ConfigError(
        f"{path} was written by a newer musicsyncd (version {version}, this one knows {VERSION}): "
        f"upgrade, or {back or f'move {path} away'}"
    )


def _copy_path(path: Path, version: int) -> Path:
    return path.with_name(f"{path.name}.v{version}.bak")


def _copies(path: Path) -> list[int]:
    """Return the versions of which there are copies, the newest last."""
    names = (one.name.removeprefix(f"{path.name}.v").removesuffix(".bak") for one in path.parent.glob("*.bak"))
    return sorted(int(name) for name in names if name.isascii() and name.isdecimal())
