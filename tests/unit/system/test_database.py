from __future__ import annotations

import contextlib
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from musicsyncd.errors import ConfigError, MusicSyncError
from musicsyncd.media.history import Played
from musicsyncd.media.inspect import TrackInfo
from musicsyncd.media.queue import Entry, Item, Queue
from musicsyncd.playback.timeline import Track
from musicsyncd.playback.transport import Transport
from musicsyncd.system import database as module
from musicsyncd.system.database import MAX_ROOMS, Database, SavedPeer, SavedRoom
from musicsyncd.system.rows import entry_row
from musicsyncd.system.schema import STEPS, keep_copy

TRACK = Track(bytes(range(32)), 1234, 44_100, 441_000, 2)
ENTRIES = (
    Entry(1, "/music/a.flac", "A", "Somebody", 10.0, TRACK),
    Entry(2, "/music/caf\udce9.wav", "caf\udce9", "", 0.0, None, "not a sound file"),
    Entry(5, "/music/ü.flac", "Ü", "音楽", 3.5),
)
INFO = TrackInfo(Path("/music/a.flac"), "A", "Somebody", "Album", 1234, 99, 44_100, 441_000, 2, "FLAC")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "state" / "host.sqlite"


@pytest.fixture
def opened(file):
    database = Database(file, lock_timeout_s=0)
    yield database
    database.close()


def reopened(database: Database, file: Path) -> Database:
    database.close()
    return Database(file, lock_timeout_s=0)


def statements(database: Database) -> list[str]:
    """Collect the statements that change rows from now on, without their values."""
    seen: list[str] = []
    database._connection.set_trace_callback(
        lambda text: seen.append(" ".join(text.split()[:3])) if text.startswith(("INSERT", "DELETE")) else None
    )
    return seen


def test_the_host_keeps_its_id_and_each_start_has_a_greater_epoch(opened, file):
    host_id = opened.host_id()
    assert len(host_id) == 8
    assert [opened.next_epoch(), opened.next_epoch()] == [1, 2]
    again = reopened(opened, file)
    assert again.host_id() == host_id
    assert again.next_epoch() == 3
    again.close()
    other = Database(file.with_name("other.sqlite"))
    assert other.host_id() != host_id
    other.close()


def test_what_is_saved_survives_a_power_cut(opened, file):
    assert opened._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert opened._connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
    opened.save_room(SavedRoom("main", 40, True, {"mode": "stopped"}, ENTRIES, 6))
    # The files as they are now, without any closing: what a power cut leaves.
    after = file.parent / "after"
    after.mkdir()
    for part in file.parent.glob("host.sqlite*"):
        (after / part.name).write_bytes(part.read_bytes())
    copy = Database(after / "host.sqlite")
    assert [room.name for room in copy.rooms()] == ["main"]
    copy.close()


def test_rooms_come_back_with_their_queues_in_order(opened, file):
    rooms = [
        SavedRoom("kitchen"),
        SavedRoom(
            "main", 40, True, {"mode": "paused", "frame": 7, "deep": [1, "x", None]}, ENTRIES, 9,
            plain=(5, 1, 2), repeat="one", revision=77, fade_ms=2_500,
        ),
    ]  # fmt: skip
    for room in rooms:
        opened.save_room(room)
    again = reopened(opened, file)
    loaded = again.rooms()
    assert loaded[0] == rooms[0]
    # A path comes back byte for byte; a title for people loses what is no text.
    assert loaded[1] == replace(rooms[1], entries=(ENTRIES[0], replace(ENTRIES[1], title="caf?"), ENTRIES[2]))
    again.close()


def test_a_transport_survives_in_the_database(opened, file):
    queue = Queue()
    queue.add([Item("/a", "a", track=TRACK)])
    transport = Transport(queue)
    transport.play(2_000, 1_000)
    opened.save_room(SavedRoom("main", 100, False, transport.snapshot("boot", 1_000), queue.entries, queue.next_number))
    again = reopened(opened, file)
    (room,) = again.rooms()
    other = Transport(Queue(room.entries, room.next_number))
    assert other.restore(room.snapshot, "boot", 3_000, 2_500)
    assert other.timeline(2_500) == transport.timeline(2_500)
    again.close()


def test_changes_of_a_queue_are_saved_whatever_they_are(opened, file):
    queue = Queue()
    queue.add(Item(f"/{n}", str(n)) for n in range(20))

    def save() -> None:
        opened.save_room(SavedRoom("main", entries=queue.entries, next_number=queue.next_number))

    save()
    queue.move(20, 1)
    queue.remove([3, 4, 5])
    save()
    queue.set_prepared(queue.entries[0].number, TRACK)
    queue.add([Item("/x", "x")], next_=True)
    save()
    queue.remove([1])
    save()
    again = reopened(opened, file)
    (room,) = again.rooms()
    assert room.entries == queue.entries
    assert room.next_number == 22
    again.close()


def test_adding_a_track_to_a_queue_of_a_thousand_writes_two_rows(opened, file):
    queue = Queue()
    queue.add(Item(f"/{n}", str(n)) for n in range(1_000))
    opened.save_room(SavedRoom("main", entries=queue.entries))
    seen = statements(opened)
    queue.add([Item("/x", "x")], at=1)
    opened.save_room(SavedRoom("main", entries=queue.entries))
    assert seen == ["INSERT INTO rooms", "INSERT OR REPLACE"]
    # After a start of the program too.
    again = reopened(opened, file)
    (room,) = again.rooms()
    seen = statements(again)
    again.save_room(replace(room, entries=room.entries[1:]))
    assert seen == ["INSERT INTO rooms", "DELETE FROM entries"]
    again.close()


def test_a_snapshot_is_saved_alone(opened, file):
    opened.save_room(SavedRoom("main", entries=ENTRIES))
    opened.save_snapshot("main", {"frame": 5})
    opened.save_snapshot("nowhere", {"frame": 6})
    again = reopened(opened, file)
    assert [room.snapshot for room in again.rooms()] == [{"frame": 5}]
    again.close()


PLAYED = [Played(1e9 + n, f"/music/{n}\udce9.flac", f"{n}", "Somebody", 10.5) for n in range(4)]


def test_what_sounded_comes_back_in_order_and_is_written_once(opened, file):
    opened.save_room(SavedRoom("main"))
    opened.save_room(SavedRoom("other"))
    opened.save_played("main", PLAYED[:2])
    opened.save_played("other", PLAYED[3:])
    seen = statements(opened)
    opened.save_played("main", PLAYED[1:])
    assert seen == ["DELETE FROM played", "INSERT INTO played", "INSERT INTO played"]
    again = reopened(opened, file)
    assert (again.played("main"), again.played("other")) == (PLAYED[1:], PLAYED[3:])
    again.remove_room("main")
    assert again.played("main") == []
    again.save_played("main", PLAYED)
    assert again.played("main") == [], "a room that is gone"
    again.close()


def test_a_file_of_the_first_version_is_taken_over_with_all_that_is_in_it(file):
    file.parent.mkdir()
    old = sqlite3.connect(file, isolation_level=None)
    for statement in STEPS[0].split(";"):
        old.execute(statement)
    old.execute("INSERT INTO meta VALUES (1, X'0102030405060708', 41)")
    old.execute("INSERT INTO rooms VALUES ('main', 30, 1, '{\"mode\":\"stopped\"}', 6, '[5,1]')")
    for entry in ENTRIES:
        old.execute("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?, ?)", entry_row("main", entry))
    old.execute(f"PRAGMA application_id = {module.APPLICATION_ID}")
    old.execute("PRAGMA user_version = 1")
    old.close()
    database = Database(file)
    assert (database.host_id(), database.next_epoch()) == (bytes(range(1, 9)), 42)
    assert database.rooms() == [
        SavedRoom("main", 30, True, {"mode": "stopped"}, (ENTRIES[2], ENTRIES[0]), 6, None, "off", 0, 0)
    ]
    database.save_played("main", PLAYED)
    again = reopened(database, file)
    assert again.played("main") == PLAYED
    assert again._connection.execute("PRAGMA user_version").fetchone() == (4,)
    again.close()
    copy = file.with_name(f"{file.name}.v1.bak")
    assert copy.stat().st_mode & 0o777 == 0o600
    with contextlib.closing(sqlite3.connect(copy)) as kept:
        assert kept.execute("PRAGMA user_version").fetchone() == (1,)
        assert kept.execute("SELECT epoch FROM meta").fetchone() == (41,)
        assert len(kept.execute("SELECT * FROM entries").fetchall()) == len(ENTRIES)
    assert sorted(one.name for one in file.parent.iterdir()) == [file.name, copy.name]


def test_a_new_file_and_one_of_this_version_need_no_copy(opened, file):
    reopened(opened, file).close()
    assert [one.name for one in file.parent.iterdir()] == [file.name]


def test_only_the_newest_copies_stay(tmp_path):
    file = tmp_path / "state.sqlite"
    with contextlib.closing(sqlite3.connect(file)) as connection:
        for version in (1, 2, 10, 9, 3):
            keep_copy(connection, file, version)
        (tmp_path / "state.sqlite.vx.bak").touch()
        keep_copy(connection, file, 11)
    kept = {one.name for one in tmp_path.iterdir()}
    assert kept == {"state.sqlite", "state.sqlite.vx.bak", *(f"state.sqlite.v{one}.bak" for one in (9, 10, 11))}


def test_without_a_copy_nothing_is_made_newer(file, monkeypatch):
    file.parent.mkdir()
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as old:
        for statement in STEPS[0].split(";"):
            old.execute(statement)
        old.execute(f"PRAGMA application_id = {module.APPLICATION_ID}")
        old.execute("PRAGMA user_version = 1")
    file.with_name(f"{file.name}.v1.bak").mkdir()  # What is in the way of the copy.
    with pytest.raises(ConfigError, match=r"cannot keep a copy of .* before it is made one of version 4"):
        Database(file)
    with contextlib.closing(sqlite3.connect(file)) as old:
        assert old.execute("PRAGMA user_version").fetchone() == (1,)
    assert not list(file.parent.glob("*.part"))


def test_an_upgrade_that_fails_leaves_the_file_as_it_was(file, monkeypatch):
    file.parent.mkdir()
    old = sqlite3.connect(file, isolation_level=None)
    for statement in STEPS[0].split(";"):
        old.execute(statement)
    old.execute("INSERT INTO meta VALUES (1, X'0102030405060708', 41)")
    old.execute(f"PRAGMA application_id = {module.APPLICATION_ID}")
    old.execute("PRAGMA user_version = 1")
    old.close()
    monkeypatch.setattr(module, "STEPS", (STEPS[0], STEPS[1] + "; CREATE TABLE rooms (x)"))
    with pytest.raises(ConfigError):
        Database(file)
    monkeypatch.undo()
    database = Database(file)
    assert database.next_epoch() == 42
    database.close()


def test_a_removed_room_leaves_nothing(opened):
    opened.save_room(SavedRoom("main", entries=ENTRIES))
    opened.remove_room("main")
    opened.remove_room("main")
    assert opened.rooms() == []
    assert opened._connection.execute("SELECT count(*) FROM entries").fetchone() == (0,)
    opened.save_room(SavedRoom("main", entries=ENTRIES[:1]))
    assert opened.rooms()[0].entries == ENTRIES[:1]


def test_rooms_and_peers_are_bounded(opened, monkeypatch):
    for n in range(MAX_ROOMS):
        opened.save_room(SavedRoom(f"room {n}"))
    with pytest.raises(MusicSyncError, match=f"there are {MAX_ROOMS} rooms already"):
        opened.save_room(SavedRoom("one more"))
    opened.save_room(SavedRoom("room 3", 7))
    assert len(opened.rooms()) == MAX_ROOMS
    monkeypatch.setattr(module, "MAX_PEERS", 2)
    for n in range(2):
        opened.save_peer(SavedPeer(bytes([n] * 8), "p", "main"))
    with pytest.raises(MusicSyncError, match="there are 2 peers already"):
        opened.save_peer(SavedPeer(b"12345678", "p", "main"))


def test_peers_come_back_changed_and_removed(opened, file):
    peers = [
        SavedPeer(b"aaaaaaaa", "bath", "main", 30, True, -2_500, "left", 4),
        SavedPeer(b"bbbbbbbb", "desk", "office"),
    ]
    for peer in reversed(peers):
        opened.save_peer(peer)
    again = reopened(opened, file)
    assert again.peers() == peers
    again.save_peer(replace(peers[1], volume=5, settings_revision=1))
    again.remove_peer(b"aaaaaaaa")
    assert again.peers() == [replace(peers[1], volume=5, settings_revision=1)]
    again.close()


def test_a_hash_holds_for_the_same_size_and_time_only(opened):
    opened.keep_track(INFO, b"1" * 32)
    assert opened.find_track("/music/a.flac", 1234, 99) == b"1" * 32
    assert opened.find_track("/music/a.flac", 1234, 100) is None
    assert opened.find_track("/music/a.flac", 1235, 99) is None
    assert opened.find_track("/music/b.flac", 1234, 99) is None
    opened.keep_track(replace(INFO, mtime_ns=100), b"2" * 32)
    assert opened.find_track("/music/a.flac", 1234, 99) is None
    assert opened.find_track("/music/a.flac", 1234, 100) == b"2" * 32


def test_hashes_are_bounded_and_the_oldest_go_first(opened, monkeypatch):
    monkeypatch.setattr(module, "MAX_TRACKS", 3)
    for n in (0, 1, 2, 0, 3):
        opened.keep_track(replace(INFO, path=Path(f"/{n}")), bytes([n] * 32))
    known = [n for n in range(4) if opened.find_track(f"/{n}", 1234, 99)]
    assert known == [0, 2, 3]


@pytest.mark.parametrize("version", [5, 7])
def test_a_newer_database_is_refused_and_left_alone(opened, file, version):
    opened.next_epoch()
    opened._connection.execute(f"PRAGMA user_version = {version}")
    opened.close()
    before = file.read_bytes()
    line = rf"written by a newer musicsyncd \(version {version}, this one knows 4\): upgrade, or move .* away"
    with pytest.raises(ConfigError, match=line):
        Database(file)
    assert file.read_bytes() == before
    for old in (1, 2, 5):
        file.with_name(f"{file.name}.v{old}.bak").touch()
    with pytest.raises(ConfigError, match=r"upgrade, or go back to the copy of before by moving .*\.v2\.bak there"):
        Database(file)


def test_what_is_no_database_of_ours_is_refused_and_left_alone(tmp_path):
    text = tmp_path / "notes.txt"
    text.write_text("remember the milk\n" * 100)
    with pytest.raises(ConfigError, match=r"notes.txt is damaged or no database of musicsyncd .*: move it away"):
        Database(text)
    assert text.read_text().startswith("remember the milk")
    foreign = tmp_path / "foreign.sqlite"
    connection = sqlite3.connect(foreign)
    connection.execute("CREATE TABLE bookmarks (url TEXT)")
    connection.close()
    with pytest.raises(ConfigError, match="some other program's database"):
        Database(foreign)
    with pytest.raises(ConfigError, match="cannot open"):
        Database(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot open"):
        Database(tmp_path / "file" / "host.sqlite")


def test_damage_is_noticed_when_the_file_is_opened(opened, file):
    opened.save_room(SavedRoom("main", entries=tuple(Entry(n, f"/{n}", "t" * 200) for n in range(1, 200))))
    opened.close()
    data = bytearray(file.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    file.write_bytes(data)
    with pytest.raises(ConfigError, match="is damaged or no database"):
        Database(file)
    file.write_bytes(data[:100])
    with pytest.raises(ConfigError, match="is damaged or no database"):
        Database(file)


def test_an_empty_file_is_a_new_database(file):
    file.parent.mkdir()
    file.touch()
    database = Database(file)
    assert database.next_epoch() == 1
    database.close()


def test_a_second_host_is_refused(opened, file):
    with pytest.raises(ConfigError, match="in use: another musicsyncd host is running"):
        Database(file, lock_timeout_s=0)
    opened.close()
    Database(file, lock_timeout_s=0).close()


def test_a_full_disk_is_one_line_and_what_was_saved_stays(opened, file):
    opened.save_room(SavedRoom("main", 50, entries=ENTRIES[:1]))
    pages = opened._connection.execute("PRAGMA page_count").fetchone()[0]
    opened._connection.execute(f"PRAGMA max_page_count = {pages}")
    many = tuple(Entry(n, f"/{n}", "t" * 300) for n in range(1, 500))
    with pytest.raises(MusicSyncError, match=r"^cannot save room main in .*: database or disk is full$"):
        opened.save_room(SavedRoom("main", 60, entries=many))
    assert (opened.rooms()[0].volume, opened.rooms()[0].entries) == (50, ENTRIES[:1])
    # There is room again: all of it is saved, not only what came since.
    opened._connection.execute("PRAGMA max_page_count = 100000")
    opened.save_room(SavedRoom("main", 60, entries=many))
    again = reopened(opened, file)
    assert again.rooms()[0].entries == many
    again.close()


def test_rows_that_make_no_sense_are_left_out_and_not_fatal(opened, file):
    opened.save_room(SavedRoom("main", entries=ENTRIES))
    opened._connection.execute("UPDATE rooms SET snapshot = X'FF', queue_order = X'5B312C395D'")  # [1,9]
    opened._connection.execute("UPDATE rooms SET plain_order = X'5B', repeat = 'twice', fade_ms = 1000000")
    opened._connection.execute("UPDATE entries SET track = X'00' WHERE number = 1")
    again = reopened(opened, file)
    (room,) = again.rooms()
    assert (room.snapshot, room.entries) == ({}, (replace(ENTRIES[0], track=None),))
    assert (room.plain, room.repeat, room.fade_ms) == (None, "off", 12_000)
    again.close()


def test_calls_after_an_error_of_the_file_are_one_line(opened):
    opened.close()
    for call in (opened.host_id, opened.next_epoch, opened.rooms, opened.peers):
        with pytest.raises(MusicSyncError, match=r"cannot (save|read)"):
            call()
