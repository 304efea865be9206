"""The tables of a host's state file, version by version.

Owns how a file of an older version becomes one of the present version. Used by :mod:`musicsyncd.system.database`.
"""

from __future__ import annotations

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
