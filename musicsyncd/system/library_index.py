"""The library of a host as an index in one SQLite file, searched by words.

Owns the schema, the file and what is asked of it. Must not know how files are found
(:mod:`musicsyncd.media.library`) nor who asks. Everything in it can be read from the music again, so it is
written without waiting for the disk (``synchronous=NORMAL``), and a file that is damaged, or of another
version, is set aside and built anew.

There are two connections: one writes, from the thread that scans, and one reads, from any other; write-ahead
logging lets neither wait for the other. Words are looked up by FTS5, without case and accents, the last one
as the beginning of a word.

Source: https://sqlite.org/fts5.html (tokenizer, prefix indexes, bm25).
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from musicsyncd.errors import ConfigError, MediaError
from musicsyncd.media.library import Gone, Read, Stamp, album_home, folded
from musicsyncd.text import encodable

log = logging.getLogger(__name__)

VERSION = 1
"""Of the schema. A file of any other is built anew."""

MAX_WORDS = 16
MAX_WORD_CHARS = 64

RANKED = 1000
"""Matches that are put in order by how well they match. Of more than these, the first in the library's order
are the answer: whoever types one letter sees at once that another is needed."""

WEIGHTS = "10.0, 8.0, 5.0, 3.0, 1.0"
"""How much a word counts in title, artist, album, album artist and the rest: the song "Queen" before songs by Queen."""

_SUFFIXES = ("", "-wal", "-shm")
_WORD = re.compile(r"\w+")

_SCHEMA = """
CREATE TABLE tracks (
    id INTEGER PRIMARY KEY, path BLOB NOT NULL UNIQUE, folder BLOB NOT NULL,
    size_bytes INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, refused TEXT NOT NULL,
    title TEXT NOT NULL, artist TEXT NOT NULL, album TEXT NOT NULL, album_artist TEXT NOT NULL, genre TEXT NOT NULL,
    disc INTEGER NOT NULL, number INTEGER NOT NULL, year INTEGER NOT NULL, duration_s REAL NOT NULL,
    rate_hz INTEGER NOT NULL, track_gain_db REAL, track_peak REAL, album_gain_db REAL, album_peak REAL,
    artist_key TEXT NOT NULL, album_artist_key TEXT NOT NULL, album_key TEXT NOT NULL, album_home TEXT NOT NULL
);
CREATE INDEX tracks_folder ON tracks (folder);
CREATE INDEX tracks_album ON tracks (album_key, album_home);
CREATE INDEX tracks_artist ON tracks (artist_key);
CREATE INDEX tracks_album_artist ON tracks (album_artist_key);
CREATE INDEX tracks_refused ON tracks (path) WHERE refused != '';
CREATE VIRTUAL TABLE words USING fts5 (
    title, artist, album, album_artist, rest, tokenize = "unicode61 remove_diacritics 2", prefix = '1 2 3'
);
"""


@dataclass(frozen=True, slots=True)
class Hit:
    """A track that was found; ``number`` is its identity for as long as the index is not built anew."""

    number: int
    path: str
    title: str
    artist: str
    album: str
    year: int
    duration_s: float


@dataclass(frozen=True, slots=True)
class Album:
    """An album: its name, whose it is, and what tells it from others of that name."""

    name: str
    artist: str
    year: int
    tracks: int
    duration_s: float
    key: str
    home: str


@dataclass(frozen=True, slots=True)
class Artist:
    """An artist, of tracks or of albums."""

    name: str
    tracks: int
    key: str


@dataclass(frozen=True, slots=True)
class Counts:
    """How much there is."""

    tracks: int
    albums: int
    artists: int
    refused: int
    duration_s: float


class LibraryIndex:
    """The open file, for one thread that writes and any that read.

    Args:
        path: of the file, made with its folder if it is not there.

    Raises:
        ConfigError: it can be neither opened nor made.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writing = threading.RLock()
        self._reading = threading.RLock()
        self.damaged = ""
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                self._open()
            except sqlite3.DatabaseError as error:
                if not _is_damage(error):
                    raise
                self._set_aside(str(error))
                self._open()
        except (OSError, sqlite3.Error) as error:
            raise ConfigError(
                f"cannot open {path}: {error}; its folder must be writable, with room on the disk"
            ) from None

    def close(self) -> None:
        """Close the file."""
        with self._writing, self._reading:
            self._writer.close()
            self._reader.close()

    def start_anew(self) -> None:
        """Set the file aside and begin with an empty one.

        Raises:
            MediaError: no new one can be made.
        """
        with self._writing, self._reading:
            self.close()
            self._set_aside(self.damaged or "it was asked for")
            self.damaged = ""
            try:
                self._open()
            except sqlite3.Error as error:
                raise MediaError(f"cannot make {self._path}: {error}") from None

    # -- writing -------------------------------------------------------------------------------

    def stamps(self) -> dict[str, Stamp]:
        """Return the files that are known, the refused ones too, by path."""
        with self._write() as run:
            rows = run.execute("SELECT path, size_bytes, mtime_ns FROM tracks")
            return {os.fsdecode(path): Stamp(size_bytes, mtime_ns) for path, size_bytes, mtime_ns in rows}

    def apply(self, changes: Sequence[Read | Gone]) -> None:
        """Take changes over, all of them or none.

        Raises:
            MediaError: they cannot be kept.
        """
        with self._write() as run:
            run.execute("BEGIN IMMEDIATE")
            try:
                for change in changes:
                    number = _number_of(run, change.path)
                    if number is not None:
                        run.execute("DELETE FROM words WHERE rowid = ?", (number,))
                    if isinstance(change, Gone):
                        run.execute("DELETE FROM tracks WHERE id = ?", (number,))
                    else:
                        _put(run, number, change)
                run.execute("COMMIT")
            except BaseException:
                if run.in_transaction:
                    run.execute("ROLLBACK")
                raise

    # -- reading -------------------------------------------------------------------------------

    def search(self, text: str, limit: int) -> list[Hit]:
        """Return the tracks that have all words, the last one as the beginning of a word, best matches first."""
        query = query_of(text)
        if not query:
            return []
        with self._read() as run:
            found = run.execute("SELECT rowid FROM words WHERE words MATCH ? LIMIT ?", (query, RANKED + 1)).fetchall()
            if len(found) <= RANKED:
                ranked = f"SELECT rowid FROM words WHERE words MATCH ? ORDER BY bm25(words, {WEIGHTS}), rowid LIMIT ?"
                found = run.execute(ranked, (query, limit)).fetchall()
            return [hit for (number,) in found[:limit] if (hit := _hit(run, number)) is not None]

    def track(self, number: int) -> Hit | None:
        """Return the track with a number."""
        with self._read() as run:
            return _hit(run, number)

    def known(self, paths: Iterable[str]) -> set[str]:
        """Return which of these texts are, letter by letter, paths of tracks."""
        query = "SELECT 1 FROM tracks WHERE path = ? AND refused = ''"
        with self._read() as run:
            return {path for path in paths if run.execute(query, (_kept(path),)).fetchone() is not None}

    def albums(self, name: str = "", artist: str = "", limit: int = 100) -> list[Album]:
        """Return albums of exactly this name, or else with these words in it; with an artist only theirs."""
        with self._read() as run:
            for where in _both(("album_key = ?", folded(name)), ("album", name)):
                for whose in _both(
                    ("? IN (artist_key, album_artist_key)", folded(artist)), ("artist album_artist", artist)
                ):
                    found = _albums(run, [where, whose], limit)
                    if found:
                        return found
            return []

    def artists(self, name: str = "", limit: int = 100) -> list[Artist]:
        """Return artists of exactly this name, or else with these words in it, by name."""
        with self._read() as run:
            for condition, values in _both(("key = ?", folded(name)), ("artist album_artist", name)):
                of_words = "id IN" in condition
                rows = run.execute(
                    "SELECT min(name), count(DISTINCT id), key FROM ("
                    "SELECT id, artist AS name, artist_key AS key FROM tracks UNION ALL "
                    "SELECT id, album_artist, album_artist_key FROM tracks WHERE album_artist_key != artist_key"
                    f") WHERE key != '' AND {condition} GROUP BY key ORDER BY key" + ("" if of_words else " LIMIT ?"),
                    values if of_words else (*values, limit),
                ).fetchall()
                # The words are in one of the two names of a track, and the other is another artist.
                found = [Artist(*row) for row in rows if not of_words or _has_words(str(row[2]), name)]
                if found:
                    return found[:limit]
            return []

    def of_album(self, album: Album, limit: int) -> list[str]:
        """Return the paths of an album's tracks in its order."""
        return self._paths("album_key = ? AND album_home = ?", (album.key, album.home), "disc, number, path", limit)

    def of_artist(self, artist: Artist, limit: int) -> list[str]:
        """Return the paths of an artist's tracks, album by album, the oldest first."""
        order = "year, album_key, album_home, disc, number, path"
        return self._paths("(artist_key = ? OR album_artist_key = ?)", (artist.key, artist.key), order, limit)

    def folders(self) -> list[str]:
        """Return the folders that have tracks in them."""
        with self._read() as run:
            return [
                os.fsdecode(folder) for (folder,) in run.execute("SELECT DISTINCT folder FROM tracks ORDER BY folder")
            ]

    def counts(self) -> Counts:
        """Return how much there is."""
        with self._read() as run:
            fine = "FROM tracks WHERE refused = ''"
            tracks, duration_s = run.execute(f"SELECT count(*), total(duration_s) {fine}").fetchone()
            albums = f"SELECT count(*) FROM (SELECT 1 {fine} AND album_key != '' GROUP BY album_key, album_home)"
            artists = f"SELECT count(DISTINCT artist_key) {fine} AND artist_key != ''"
            refused = "SELECT count(*) FROM tracks WHERE refused != ''"
            rest = [int(run.execute(query).fetchone()[0]) for query in (albums, artists, refused)]
        return Counts(tracks, rest[0], rest[1], rest[2], duration_s)

    def refused(self, limit: int) -> list[str]:
        """Return why files are refused, a line for each, by path."""
        with self._read() as run:
            query = "SELECT refused FROM tracks WHERE refused != '' ORDER BY path LIMIT ?"
            return [str(line) for (line,) in run.execute(query, (limit,))]

    def _paths(self, condition: str, values: tuple[object, ...], order: str, limit: int) -> list[str]:
        with self._read() as run:
            query = f"SELECT path FROM tracks WHERE refused = '' AND {condition} ORDER BY {order} LIMIT ?"
            return [os.fsdecode(path) for (path,) in run.execute(query, (*values, limit))]

    # -- the file ------------------------------------------------------------------------------

    def _open(self) -> None:
        self._writer = _connected(self._path)
        try:
            run = self._writer.execute
            run("PRAGMA journal_mode = WAL")
            run("PRAGMA synchronous = NORMAL")
            version = run("PRAGMA user_version").fetchone()[0]
            if version == 0 and run("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
                self._writer.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {VERSION}; COMMIT;")
            elif version != VERSION:
                raise _DamageError(f"it is of version {version}, this one writes {VERSION}")
            self._reader = _connected(self._path)
            self._reader.execute("PRAGMA query_only = ON")
        except BaseException:
            self._writer.close()
            raise

    def _set_aside(self, why: str) -> None:
        log.warning("the library's index %s is of no use (%s): it is set aside and built anew", self._path, why)
        for suffix in _SUFFIXES:
            with contextlib.suppress(FileNotFoundError):
                os.replace(f"{self._path}{suffix}", f"{self._path}.broken{suffix}")

    @contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        with self._writing, self._refusing("keep"):
            yield self._writer

    @contextmanager
    def _read(self) -> Iterator[sqlite3.Connection]:
        with self._reading, self._refusing("read"):
            yield self._reader

    @contextmanager
    def _refusing(self, what: str) -> Iterator[None]:
        """Turn an error of SQLite into one line, and note where it means damage."""
        try:
            yield
        except sqlite3.Error as error:
            if isinstance(error, sqlite3.DatabaseError) and _is_damage(error):
                self.damaged = str(error)
                raise MediaError(
                    "the library's index is damaged and will be built anew: try again in a moment"
                ) from None
            raise MediaError(f"cannot {what} the library's index {self._path}: {error}") from None


class _DamageError(sqlite3.DatabaseError):
    """A file that is none of ours."""


def query_of(text: str, columns: str = "") -> str:
    """Return an FTS5 query for all words of a text, the last as a beginning; empty when it has none.

    Args:
        text: anything that a person may type.
        columns: those to look in, all by default.
    """
    words = [word[:MAX_WORD_CHARS] for word in _WORD.findall(text)][:MAX_WORDS]
    if not words:
        return ""
    query = " ".join(f'"{word}"' for word in words) + "*"
    return f"{{{columns}}} : ({query})" if columns else query


def _connected(path: Path) -> sqlite3.Connection:
    # The locks of the index see to it that one thread at a time uses a connection.
    return sqlite3.connect(path, timeout=2.0, isolation_level=None, check_same_thread=False)


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    code = getattr(error, "sqlite_errorcode", None)
    return isinstance(error, _DamageError) or (
        code is not None and code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
    )


def _both(exact: tuple[str, str], words: tuple[str, str]) -> list[tuple[str, tuple[object, ...]]]:
    """Return the conditions for exactly a name and, after it, for its words; one that is always true for no name."""
    if not exact[1]:
        return [("1", ())]
    exact = (exact[0], encodable(exact[1]))
    query = query_of(words[1], words[0])
    by_words = ("id IN (SELECT rowid FROM words WHERE words MATCH ?)", (query,))
    return [(exact[0], (exact[1],)), *([by_words] if query else [])]


def _has_words(key: str, name: str) -> bool:
    """Return whether a folded name has all words of another, the last as a beginning."""
    given, wanted = _WORD.findall(key), _WORD.findall(folded(name))
    return all(word in given for word in wanted[:-1]) and any(word.startswith(wanted[-1]) for word in given)


def _albums(run: sqlite3.Connection, conditions: Sequence[tuple[str, tuple[object, ...]]], limit: int) -> list[Album]:
    where = " AND ".join(condition for condition, _ in conditions)
    values = [value for _, some in conditions for value in some]
    rows = run.execute(
        "SELECT min(album), CASE WHEN max(album_artist) != '' THEN max(album_artist) "
        "WHEN min(artist_key) = max(artist_key) THEN min(artist) ELSE '' END, "
        "max(year), count(*), total(duration_s), album_key, album_home FROM tracks "
        f"WHERE album_key != '' AND {where} GROUP BY album_key, album_home ORDER BY album_key, album_home LIMIT ?",
        (*values, limit),
    )
    return [Album(*row) for row in rows]


def _hit(run: sqlite3.Connection, number: int) -> Hit | None:
    query = "SELECT id, path, title, artist, album, year, duration_s FROM tracks WHERE id = ? AND refused = ''"
    row = run.execute(query, (number,)).fetchone()
    return None if row is None else Hit(row[0], os.fsdecode(row[1]), *row[2:])


def _number_of(run: sqlite3.Connection, path: str) -> int | None:
    row = run.execute("SELECT id FROM tracks WHERE path = ?", (os.fsencode(path),)).fetchone()
    return None if row is None else int(row[0])


def _put(run: sqlite3.Connection, number: int | None, read: Read) -> None:
    """Write a file's row, with the number that it had if it was known, and its words."""
    folder, name = os.path.split(read.path)
    path, reason = os.fsencode(read.path), encodable(read.reason)
    file = (path, os.fsencode(folder), read.stamp.size_bytes, read.stamp.mtime_ns, reason)
    tags = read.tags
    if tags is None:
        run.execute(
            f"INSERT OR REPLACE INTO tracks VALUES (?, {'?, ' * 5} '', '', '', '', '', 0, 0, 0, 0, 0, "
            "NULL, NULL, NULL, NULL, '', '', '', '')",
            (number, *file),
        )
        return
    texts = (tags.title, tags.artist, tags.album, tags.album_artist, tags.genre)
    numbers = (tags.disc, tags.track, tags.year, tags.duration_s, tags.rate_hz)
    gains = (tags.track_gain.gain_db, tags.track_gain.peak, tags.album_gain.gain_db, tags.album_gain.peak)
    home = encodable(album_home(read.path, tags)) if tags.album else ""
    keys = (folded(tags.artist), folded(tags.album_artist), folded(tags.album), home)
    cursor = run.execute(
        f"INSERT OR REPLACE INTO tracks VALUES (?{', ?' * 23})",
        (number, *file, *texts, *numbers, *gains, *keys),
    )
    rest = f"{tags.genre} {tags.year or ''} {encodable(os.path.splitext(name)[0])}"
    run.execute(
        "INSERT INTO words (rowid, title, artist, album, album_artist, rest) VALUES (?, ?, ?, ?, ?, ?)",
        (cursor.lastrowid, *texts[:4], rest),
    )


def _kept(path: str) -> bytes:
    """Return a text as a path would be kept; empty, which none is, for what can be no path."""
    try:
        return os.fsencode(path)
    except UnicodeEncodeError:
        return b""
