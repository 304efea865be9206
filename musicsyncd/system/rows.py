"""How what a host keeps becomes values of SQLite, and is made of them again; and what SQLite's refusals mean.

Owns the form of paths, tracks and lists in the rows of :mod:`musicsyncd.system.database`. What does not fit, as in a
damaged file, becomes nothing and no error.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import TypeVar

import msgspec

from musicsyncd.media.queue import Entry
from musicsyncd.playback.timeline import Track
from musicsyncd.text import encodable

_T = TypeVar("_T")


def entry_row(room: str, entry: Entry) -> tuple[object, ...]:
    """Return an entry of a room's queue as the columns of its table."""
    track = None if entry.track is None else msgspec.msgpack.encode(entry.track)
    title, artist, fault = encodable(entry.title), encodable(entry.artist), encodable(entry.fault)
    return room, entry.number, path_bytes(entry.path), title, artist, entry.duration_s, track, fault


def path_bytes(path: str) -> bytes:
    """Return a path as bytes that give back the very same string, whatever bytes the file's name had."""
    return path.encode("utf-8", "surrogatepass")


def path_of(data: bytes) -> str:
    """Return the path that bytes of :func:`path_bytes` stand for."""
    try:
        return data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:  # A damaged row: there will be no such file.
        return os.fsdecode(data)


def decoded(data: bytes | None, kind: type[_T]) -> _T | None:
    """Return what msgpack or JSON bytes hold, or None for nothing and for what does not fit."""
    if data is None:
        return None
    decode = msgspec.msgpack.decode if kind is Track else msgspec.json.decode
    try:
        return decode(data, type=kind)
    except (msgspec.MsgspecError, ValueError):
        return None


def why_not_open(path: Path, error: sqlite3.Error) -> str:
    """Return the one line for an error of SQLite while a file is opened."""
    code = getattr(error, "sqlite_errorcode", None)
    primary = None if code is None else code & 0xFF
    if primary == sqlite3.SQLITE_BUSY:
        return f"{path} is in use: another musicsyncd host is running with the same state folder"
    if primary in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT) or code is None:
        return f"{path} is damaged or no database of musicsyncd ({error}): move it away to start afresh"
    return f"cannot open {path}: {error}; file and folder must be writable by this user, with room on the disk"
