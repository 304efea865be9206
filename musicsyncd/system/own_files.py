"""The music that a speaker's machine has itself, so that it is not fetched: found by size, told by hash.

A thread walks through the folders at the start and every ten minutes and notes each file's size, which
costs no reading. Only when a track of just that size is wanted, the files of the size are hashed, each once: what was
found is kept with the file's time of change, and counts as long as that is the same.

Owns the index, an SQLite file that may be removed at any time, and the thread. Knows nothing of the cache.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import stat
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from musicsyncd.errors import MediaError
from musicsyncd.media.inspect import MAX_FOLDERS, content_id, mtime_ns, walk
from musicsyncd.playback.timeline import Track

log = logging.getLogger(__name__)

WALK_EVERY_S = 600.0
MAX_FILES = 500_000
MAX_SAME_SIZE = 32
"""Files of one size that are hashed for one track: more are a collection of test tones, and no music."""

FIRST_WALK_WITHIN_S = 5.0
"""So long a track waits for the first walk of all; then it is fetched, for somebody wants to hear it."""

MAX_KNOWN = 256
"""Answers that are remembered; a time line names eight tracks."""

_CLOSE_TIMEOUT_S = 1.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS files(
    path BLOB PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, hash BLOB, walk INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS sizes ON files(size);
"""
_NOTE = """
INSERT INTO files(path, size, mtime_ns, walk) VALUES(?, ?, ?, ?)
ON CONFLICT(path) DO UPDATE SET
    hash = CASE WHEN size = excluded.size AND mtime_ns = excluded.mtime_ns THEN hash END,
    size = excluded.size, mtime_ns = excluded.mtime_ns, walk = excluded.walk
"""

_Stamp = tuple[int, int]


class OwnFiles:
    """Says which wanted tracks are among the files of some folders.

    Args:
        folders: absolute paths.
        index: the SQLite file; made if it is not there.
    """

    def __init__(self, folders: Sequence[str], index: Path) -> None:
        self._folders = tuple(folders)
        self._index = index
        self._known: OrderedDict[bytes, tuple[Path, _Stamp] | None] = OrderedDict()
        self._asked: OrderedDict[bytes, tuple[Track, float]] = OrderedDict()
        self._walked = False
        self._closing = False
        self._lock = threading.Lock()
        self._wake = threading.Event()
        # A daemon thread: one that waits for a server which does not answer must not hold up the end.
        self._thread = threading.Thread(target=self._run, name="own-files", daemon=True)
        self._thread.start()

    def settled(self, track: Track) -> bool:
        """Return whether it is known if a track is here; if not, it is looked for from now on."""
        with self._lock:
            if track.content_id in self._known:
                return True
            if track.content_id not in self._asked:
                self._asked[track.content_id] = (track, time.monotonic())
                self._wake.set()
            return False

    def path_of(self, content_id: bytes) -> Path | None:
        """Return the file with a track's bytes, None when there is none, or when it is not what it was."""
        with self._lock:
            found = self._known.get(content_id)
            if found is None:
                return None
            path, stamp = found
            if _stamp(path) == stamp:
                return path
            del self._known[content_id]  # It was changed: look again.
            return None

    def close(self) -> None:
        """Stop, within a second."""
        self._closing = True
        self._wake.set()
        self._thread.join(_CLOSE_TIMEOUT_S)

    # -- the thread ----------------------------------------------------------------------------

    def _run(self) -> None:
        walk_due_s = 0.0
        while not self._closing:
            try:
                with contextlib.closing(_opened(self._index)) as database:
                    while not self._closing:
                        self._wake.clear()
                        if time.monotonic() >= walk_due_s:
                            self._walk(database)
                            walk_due_s = time.monotonic() + WALK_EVERY_S
                        self._answer(database)
                        waits = bool(self._asked) and not self._walked
                        self._wake.wait(0.1 if waits else max(0.0, walk_due_s - time.monotonic()))
            except (sqlite3.Error, OSError) as error:
                log.warning("the index of this speaker's own files: %s: making it anew", error)
                for end in ("", "-wal", "-shm"):
                    with contextlib.suppress(OSError):
                        os.unlink(f"{self._index}{end}")
                self._give_up_asked()
                walk_due_s = 0.0
                self._wake.wait(1.0)

    def _give_up_asked(self) -> None:
        with self._lock:
            for asked in self._asked:
                self._keep(asked, None)
            self._asked.clear()

    def _walk(self, database: sqlite3.Connection) -> None:
        """Note every file; between folders, answer who asks."""
        began_s = time.monotonic()
        walk_number = int(database.execute("SELECT coalesce(max(walk), 0) + 1 FROM files").fetchone()[0])
        count = 0
        for paths in islice(walk(self._folders), MAX_FOLDERS):
            files = [(os.fsencode(path), *stamp, walk_number) for path in paths if (stamp := _stamp(path)) is not None]
            count += len(files)
            if self._closing or count > MAX_FILES:
                break
            with database:
                database.executemany(_NOTE, files)
            self._answer(database)
        else:
            with database:
                database.execute("DELETE FROM files WHERE walk != ?", (walk_number,))
        with self._lock:
            for unknown in [one for one, found in self._known.items() if found is None]:
                del self._known[unknown]  # It may have come meanwhile.
        if not self._walked:
            log.info("own music: %d files, looked through in %.1f s", count, time.monotonic() - began_s)
        self._walked = True

    def _answer(self, database: sqlite3.Connection) -> None:
        """Look for the tracks that were asked for."""
        with self._lock:
            asked = list(self._asked.values())
        for track, since_s in asked:
            found = self._look_for(database, track)
            if found is None and not self._walked and time.monotonic() - since_s < FIRST_WALK_WITHIN_S:
                continue
            with self._lock:
                self._keep(track.content_id, found)
                self._asked.pop(track.content_id, None)

    def _keep(self, wanted: bytes, found: tuple[Path, _Stamp] | None) -> None:
        self._known[wanted] = found
        while len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)

    def _look_for(self, database: sqlite3.Connection, track: Track) -> tuple[Path, _Stamp] | None:
        rows = database.execute(
            "SELECT path, mtime_ns, hash FROM files WHERE size = ? ORDER BY hash IS NULL, path LIMIT ?",
            (track.size_bytes, MAX_SAME_SIZE),
        ).fetchall()
        for path, noted_ns, known in rows:
            stamp = _stamp(path)
            if stamp is None or stamp[0] != track.size_bytes:
                continue
            if known is None or stamp[1] != noted_ns:
                try:
                    known = content_id(Path(os.fsdecode(path)))
                except MediaError:
                    continue
                with database:
                    database.execute("UPDATE files SET mtime_ns = ?, hash = ? WHERE path = ?", (stamp[1], known, path))
            if known == track.content_id:
                return Path(os.fsdecode(path)), stamp
            if self._closing:
                break
        return None


def _opened(index: Path) -> sqlite3.Connection:
    index.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    database = sqlite3.connect(index, timeout=5.0)
    # What is lost with the power is found again: nothing here is worth waiting for the disk.
    database.executescript(f"PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF; {_SCHEMA}")
    return database


def _stamp(path: str | bytes | Path) -> _Stamp | None:
    """Return an ordinary file's size and time of change, None for what is none."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return (status.st_size, mtime_ns(status)) if stat.S_ISREG(status.st_mode) else None
