"""What a host keeps across its restarts, in one SQLite file.

Owns the file; its tables are in :mod:`musicsyncd.system.schema`. Knows the shapes of what is kept and not what it is
for.
Everything is small and rare, so calls are synchronous and may come from the event
loop: adding a track to a queue of a thousand is one row, one blob and one sync of the disk.

The file is written with write-ahead logging and ``synchronous=FULL``: what a call has
saved survives a power cut. It is opened exclusively, because two hosts with one identity
and one count of epochs would each be taken for the other.

Errors of opening are :class:`ConfigError`; errors of a call are
:class:`MusicSyncError`, and the daemon goes on without having saved.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, field, replace
from pathlib import Path
from typing import get_args

import msgspec

from musicsyncd.errors import ConfigError, MusicSyncError
from musicsyncd.media.history import Played
from musicsyncd.media.inspect import TrackInfo
from musicsyncd.media.queue import Entry, Repeat
from musicsyncd.playback.timeline import MAX_FADE_MS, Track
from musicsyncd.system.rows import decoded, entry_row, path_bytes, path_of, why_not_open
from musicsyncd.system.saved_peer import SavedPeer
from musicsyncd.system.schema import STEPS, VERSION, check_not_newer, keep_copy
from musicsyncd.text import encodable

APPLICATION_ID = 0x6D737964
"""``msyd`` in ASCII: tells our file from any other SQLite database."""

MAX_ROOMS = 64
"""Rooms of one host: more than any house has."""

MAX_PEERS = 1024
"""Peers whose settings are kept."""

MAX_LINKS = 64
"""Links that were given away: to each phone of a large family, and some."""

MAX_TRACKS = 50_000
"""Tracks whose hashes are remembered; the ones saved longest ago go first."""

_ROOM_COLUMNS = (
    *("volume", "muted", "snapshot", "next_number", "queue_order"),
    *("plain_order", "repeat", "fade_ms", "queue_revision"),
)
"""Of the table ``rooms``, beside the name."""


@dataclass(frozen=True, slots=True)
class SavedRoom:
    """A room as it is kept.

    Attributes:
        name: its name.
        volume: percent.
        muted: it is silent.
        snapshot: of its transport, values that JSON has.
        entries: of its queue, in order.
        next_number: of its queue.
        plain: numbers of its queue in the order without shuffling; None when it is not shuffled.
        repeat: of its queue.
        revision: of its queue.
        fade_ms: of its transport.
    """

    name: str
    volume: int = 100
    muted: bool = False
    snapshot: Mapping[str, object] = field(default_factory=dict)
    entries: tuple[Entry, ...] = ()
    next_number: int = 1
    plain: tuple[int, ...] | None = None
    repeat: Repeat = "off"
    revision: int = 0
    fade_ms: int = 0


@dataclass(frozen=True, slots=True)
class SavedLink:
    """A link that was given away; see :mod:`musicsyncd.system.links`.

    Attributes:
        link_id: for people.
        token_hash: SHA-256 of its token.
        role: what it lets its holder do.
        name: for people.
        made_s: when, seconds since 1970.
        used_s: when it was used last, or None.
        key_id: of the room key under which it is good; empty if no key was noted for it yet.
    """

    link_id: str
    token_hash: bytes
    role: str
    name: str
    made_s: float
    used_s: float | None = None
    key_id: bytes = b""


class Database:
    """The open file. Not to be shared between threads."""

    def __init__(self, path: Path, lock_timeout_s: float = 2.0) -> None:
        """Open the file, or make it and its folder.

        Args:
            path: of the file.
            lock_timeout_s: a host that is just ending gets this long to let the file go.

        Raises:
            ConfigError: it cannot be opened or made, another host has it open, it is not
                ours, is damaged, or was written by a newer version.
        """
        self._path = path
        self._saved: dict[str, dict[int, Entry]] = {}
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._connection = sqlite3.connect(path, timeout=lock_timeout_s, isolation_level=None)
        except (OSError, sqlite3.Error) as error:
            raise ConfigError(f"cannot open {path}: {error}; its folder must be writable by this user") from None
        try:
            self._set_up()
        except sqlite3.Error as error:
            self._connection.close()
            raise ConfigError(why_not_open(path, error)) from None
        except ConfigError:
            self._connection.close()
            raise

    def close(self) -> None:
        """Close the file; what was saved is there already."""
        self._connection.close()

    def host_id(self) -> bytes:
        """Return the host's 8 bytes, made when the file was."""
        with self._reading():
            found: bytes = self._connection.execute("SELECT host_id FROM meta").fetchone()[0]
            return found

    def next_epoch(self) -> int:
        """Count one more start of the host, durably, and return the count, from 1.

        Raises:
            MusicSyncError: it cannot be saved; starting anyway would repeat an epoch.
        """
        with self._writing("the count of starts"):
            self._connection.execute("UPDATE meta SET epoch = epoch + 1")
            found: int = self._connection.execute("SELECT epoch FROM meta").fetchone()[0]
        return found

    def rooms(self) -> list[SavedRoom]:
        """Return all rooms with their queues, by name."""
        with self._reading():
            rows = self._connection.execute(
                f"SELECT name, {', '.join(_ROOM_COLUMNS)} FROM rooms ORDER BY name"
            ).fetchall()
            records = []
            for name, volume, muted, snapshot, next_number, order, plain, repeat, fade_ms, revision in rows:
                by_number = self._load_entries(name)
                self._saved[name] = by_number
                numbers = decoded(order, list[int]) or []
                records.append(
                    SavedRoom(
                        name,
                        volume,
                        bool(muted),
                        decoded(snapshot, dict[str, object]) or {},
                        tuple(by_number[number] for number in numbers if number in by_number),
                        next_number,
                        decoded(plain, tuple[int, ...]),
                        repeat if repeat in get_args(Repeat) else "off",
                        revision,
                        min(max(fade_ms, 0), MAX_FADE_MS),
                    )
                )
            return records

    def save_room(self, room: SavedRoom) -> None:
        """Save a room, new or known, in one transaction; of its queue only what is different.

        Raises:
            MusicSyncError: it cannot be saved; what was saved before is still there.
        """
        with self._reading():
            known = self._saved[room.name] if room.name in self._saved else self._load_entries(room.name)
        new = {entry.number: entry for entry in room.entries}
        changed = [entry for number, entry in new.items() if known.get(number) != entry]
        gone = [(room.name, number) for number in known if number not in new]
        snapshot = msgspec.json.encode(room.snapshot)
        order = msgspec.json.encode([entry.number for entry in room.entries])
        plain = None if room.plain is None else msgspec.json.encode(room.plain)
        values = (room.volume, room.muted, snapshot, room.next_number, order)
        with self._writing(f"room {room.name}"):
            self._check_room_for("rooms", MAX_ROOMS, "name", room.name)
            self._connection.execute(
                f"INSERT INTO rooms (name, {', '.join(_ROOM_COLUMNS)}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
                f"ON CONFLICT (name) DO UPDATE SET {', '.join(f'{one} = excluded.{one}' for one in _ROOM_COLUMNS)}",
                (room.name, *values, plain, room.repeat, room.fade_ms, room.revision),
            )
            self._connection.executemany("DELETE FROM entries WHERE room = ? AND number = ?", gone)
            self._connection.executemany(
                "INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [entry_row(room.name, entry) for entry in changed],
            )
        self._saved[room.name] = new

    def save_snapshot(self, name: str, snapshot: Mapping[str, object]) -> None:
        """Save only where a room's playback is; nothing happens when there is no such room.

        Raises:
            MusicSyncError: it cannot be saved.
        """
        with self._writing(f"room {name}"):
            self._connection.execute(
                "UPDATE rooms SET snapshot = ? WHERE name = ?", (msgspec.json.encode(snapshot), name)
            )

    def remove_room(self, name: str) -> None:
        """Forget a room and its queue, if it is there.

        Raises:
            MusicSyncError: it cannot be saved.
        """
        with self._writing(f"the removal of room {name}"):
            self._connection.execute("DELETE FROM rooms WHERE name = ?", (name,))
        self._saved.pop(name, None)

    def played(self, name: str) -> list[Played]:
        """Return what sounded in a room, the newest last."""
        with self._reading():
            rows = self._connection.execute(
                "SELECT began_s, path, title, artist, duration_s FROM played WHERE room = ? ORDER BY number", (name,)
            ).fetchall()
        return [Played(began_s, path_of(path), title, artist, s) for began_s, path, title, artist, s in rows]

    def save_played(self, name: str, played: Sequence[Played]) -> None:
        """Save what sounded in a room, of which only the end is new; nothing happens when there is no such room.

        Raises:
            MusicSyncError: it cannot be saved.
        """
        with self._writing(f"what sounded in {name}"):
            run = self._connection.execute
            if run("SELECT 1 FROM rooms WHERE name = ?", (name,)).fetchone() is None:
                return
            kept = run("SELECT number, began_s, path FROM played WHERE room = ? ORDER BY number", (name,)).fetchall()
            wanted = {(one.began_s, path_bytes(one.path)) for one in played}
            gone = [number for number, began_s, path in kept if (began_s, path) not in wanted]
            known = {(began_s, path) for _, began_s, path in kept}
            self._connection.executemany("DELETE FROM played WHERE number = ?", [(number,) for number in gone])
            self._connection.executemany(
                "INSERT INTO played (room, began_s, path, title, artist, duration_s) VALUES (?, ?, ?, ?, ?, ?)",
                [
                    (name, one.began_s, path_bytes(one.path), *map(encodable, (one.title, one.artist)), one.duration_s)
                    for one in played
                    if (one.began_s, path_bytes(one.path)) not in known
                ],
            )

    def peers(self) -> list[SavedPeer]:
        """Return all peers, by name."""
        with self._reading():
            rows = self._connection.execute(
                "SELECT peer_id, name, room, volume, muted, output_delay_us, channels, settings_revision "
                "FROM peers ORDER BY name, peer_id"
            ).fetchall()
        return [
            SavedPeer(peer_id, name, room, volume, bool(muted), delay_us, channels, revision)
            for peer_id, name, room, volume, muted, delay_us, channels, revision in rows
        ]

    def save_peer(self, peer: SavedPeer) -> None:
        """Save a peer's settings.

        Raises:
            MusicSyncError: it cannot be saved, or there are too many.
        """
        with self._writing(f"peer {peer.name}"):
            self._check_room_for("peers", MAX_PEERS, "peer_id", peer.peer_id)
            self._connection.execute(
                "INSERT OR REPLACE INTO peers VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                astuple(replace(peer, name=encodable(peer.name))),
            )

    def remove_peer(self, peer_id: bytes) -> None:
        """Forget a peer, if it is there.

        Raises:
            MusicSyncError: it cannot be saved.
        """
        with self._writing("the removal of a peer"):
            self._connection.execute("DELETE FROM peers WHERE peer_id = ?", (peer_id,))

    def links(self) -> list[SavedLink]:
        """Return all links, the oldest first."""
        with self._reading():
            rows = self._connection.execute(
                "SELECT link_id, token_hash, role, name, made_s, used_s, key_id FROM links ORDER BY made_s, link_id"
            ).fetchall()
        return [SavedLink(*row) for row in rows]

    def save_links(self, links: Iterable[SavedLink]) -> None:
        """Save links, all or none.

        Raises:
            MusicSyncError: they cannot be saved, or there are too many.
        """
        with self._writing("links"):
            for link in links:
                self._check_room_for("links", MAX_LINKS, "link_id", link.link_id)
                self._connection.execute("INSERT OR REPLACE INTO links VALUES (?, ?, ?, ?, ?, ?, ?)", astuple(link))

    def remove_links(self, link_ids: Iterable[str]) -> None:
        """Forget links, as far as they are there.

        Raises:
            MusicSyncError: it cannot be saved.
        """
        with self._writing("the removal of links"):
            self._connection.executemany("DELETE FROM links WHERE link_id = ?", [(one,) for one in link_ids])

    def find_track(self, path: str, size_bytes: int, mtime_ns: int) -> bytes | None:
        """Return a file's content id, or None if it was never hashed or has another size or time since."""
        with self._reading():
            row = self._connection.execute(
                "SELECT content_id FROM tracks WHERE path = ? AND size_bytes = ? AND mtime_ns = ?",
                (path_bytes(path), size_bytes, mtime_ns),
            ).fetchone()
        return None if row is None else bytes(row[0])

    def keep_track(self, info: TrackInfo, content_id: bytes) -> None:
        """Remember a file's content id; beyond ``MAX_TRACKS`` the ones kept longest ago are forgotten.

        Raises:
            MusicSyncError: it cannot be saved.
        """
        with self._writing("a track's hash"):
            self._connection.execute(
                "INSERT OR REPLACE INTO tracks VALUES "
                "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, (SELECT coalesce(max(saved), 0) + 1 FROM tracks))",
                (
                    path_bytes(str(info.path)),
                    *(info.size_bytes, info.mtime_ns, content_id, info.rate_hz, info.frames, info.channels),
                    *map(encodable, (info.title, info.artist, info.album)),
                ),
            )
            self._connection.execute(
                "DELETE FROM tracks WHERE saved <= (SELECT max(saved) FROM tracks) - ?", (MAX_TRACKS,)
            )

    def _set_up(self) -> None:
        """Take the file for this process alone, check that it is ours, and make what it lacks."""
        run = self._connection.execute
        run("PRAGMA locking_mode = EXCLUSIVE")
        run("BEGIN EXCLUSIVE")
        application, version = (run(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version"))
        is_new = version == 0 and run("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
        run("COMMIT")
        if not is_new and application != APPLICATION_ID:
            raise ConfigError(f"{self._path} is some other program's database: name another file, or move it away")
        check_not_newer(self._path, version)
        run("PRAGMA journal_mode = WAL")
        run("PRAGMA synchronous = FULL")
        run("PRAGMA foreign_keys = ON")
        if version < VERSION:
            if not is_new:
                keep_copy(self._connection, self._path, version)
            with self._transaction():
                for step in STEPS[version:]:
                    for statement in step.split(";"):
                        run(statement)
                if is_new:
                    run("INSERT INTO meta VALUES (1, ?, 0)", (os.urandom(8),))
                run(f"PRAGMA application_id = {APPLICATION_ID}")
                run(f"PRAGMA user_version = {VERSION}")
        damage = run("PRAGMA quick_check(1)").fetchone()[0]
        if damage != "ok" or run("SELECT count(*) FROM meta").fetchone()[0] != 1:
            raise sqlite3.DatabaseError("database disk image is malformed")

    def _load_entries(self, room: str) -> dict[int, Entry]:
        rows = self._connection.execute(
            "SELECT number, path, title, artist, duration_s, track, fault FROM entries WHERE room = ?", (room,)
        )
        return {
            number: Entry(number, path_of(path), title, artist, duration_s, decoded(track, Track), fault)
            for number, path, title, artist, duration_s, track, fault in rows
        }

    def _check_room_for(self, table: str, limit: int, key: str, value: object) -> None:
        """Refuse a new row beyond a table's maximum."""
        run = self._connection.execute
        known = run(f"SELECT 1 FROM {table} WHERE {key} = ?", (value,)).fetchone()
        if known is None and run(f"SELECT count(*) FROM {table}").fetchone()[0] >= limit:
            raise MusicSyncError(f"there are {limit} {table} already, no more are kept: remove one first")

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:  # SQLite has rolled back by itself when the disk was full.
                self._connection.execute("ROLLBACK")
            raise

    @contextmanager
    def _writing(self, what: str) -> Iterator[None]:
        """One transaction, whose failure is one line."""
        try:
            with self._transaction():
                yield
        except sqlite3.Error as error:
            raise MusicSyncError(f"cannot save {what} in {self._path}: {error}") from None

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise MusicSyncError(f"cannot read {self._path}: {error}") from None
