"""What must survive a power cut is on the disk before it is answered: how SQLite is set, and how files are written.

A killed process does not show it: what the kernel has taken outlives a process. So these tests look at what
is asked of the kernel.
"""

from __future__ import annotations

import ast
import asyncio
import os
import stat
from pathlib import Path

import pytest
from host_rig import make_track, running

import musicsyncd
from musicsyncd.system import identity as module
from musicsyncd.system.database import Database, SavedPeer, SavedRoom
from musicsyncd.system.identity import write_atomically

PACKAGE = Path(musicsyncd.__file__).parent
FULL = 2

OPEN_FOR_WRITING = {
    # What is lost with it is fetched or converted again, or is nobody's state: sound as a file, the demo's, a lock.
    *("media/converted.py", "media/store.py", "system/output.py", "system/demo.py", "system/supervision.py"),
    # The one way by which all else is written.
    "system/identity.py",
}


@pytest.fixture
def database(tmp_path):
    made = Database(tmp_path / "state.sqlite")
    yield made
    made.close()


def pragma(database: Database, name: str) -> object:
    return database._connection.execute(f"PRAGMA {name}").fetchone()[0]


def test_the_database_is_written_ahead_and_synced_with_every_change(database):
    assert pragma(database, "journal_mode") == "wal"
    assert pragma(database, "synchronous") == FULL


def test_it_is_so_for_a_file_that_was_there_before(tmp_path):
    for _ in range(2):
        database = Database(tmp_path / "state.sqlite")
        assert (pragma(database, "journal_mode"), pragma(database, "synchronous")) == ("wal", FULL)
        database.close()


def test_no_change_is_left_in_a_transaction_that_is_open(database):
    """What is not committed is not on the disk, however it is synced."""
    changes = (
        lambda: database.next_epoch(),
        lambda: database.save_room(SavedRoom("main")),
        lambda: database.save_snapshot("main", {"mode": "stopped"}),
        lambda: database.save_played("main", []),
        lambda: database.save_peer(SavedPeer(bytes(8), "lamp", "main")),
        lambda: database.remove_peer(bytes(8)),
        lambda: database.remove_room("main"),
    )
    for change in changes:
        change()
        assert not database._connection.in_transaction


def test_what_was_saved_is_in_the_files_before_the_call_returns(database, tmp_path):
    """A copy of the files at this instant, as after a cut, has the change."""
    database.save_room(SavedRoom("main", volume=37))
    cut = tmp_path / "after the cut"
    cut.mkdir()
    for file in tmp_path.glob("state.sqlite*"):
        if not file.name.endswith("-shm"):
            (cut / file.name).write_bytes(file.read_bytes())
    again = Database(cut / "state.sqlite")
    assert [(room.name, room.volume) for room in again.rooms()] == [("main", 37)]
    again.close()


def test_a_disk_that_turns_read_only_costs_what_is_kept_and_nothing_else(tmp_path):
    """As a kernel makes it of a failing SD card, under a host that runs."""

    async def test() -> None:
        with running(tmp_path) as host:
            await host.control.play("main", [str(make_track(tmp_path / "a.wav"))])
            await host.settle()
            host.database._connection.execute("PRAGMA query_only = ON")
            assert host.control.room_volume("main", "30") == "main: volume 30"
            assert "readonly" in host.control.unsaved
            host.control.save_positions()
            assert (host.status()["mode"], host.status()["volume"]) == ("playing", 30)
            host.database._connection.execute("PRAGMA query_only = OFF")
            host.control.room_volume("main", "31")
            assert host.control.unsaved == ""

    asyncio.run(test())


@pytest.mark.parametrize("replace", [True, False])
def test_a_file_and_then_its_folder_are_synced(tmp_path, monkeypatch, replace):
    synced: list[tuple[str, object]] = []
    real = os.fsync

    def fsync(handle: int) -> None:
        status = os.fstat(handle)
        if stat.S_ISDIR(status.st_mode):
            synced.append(("folder", os.listdir(tmp_path)))
            assert status.st_ino == os.stat(tmp_path).st_ino
        else:
            # All of it is in the file when that is synced, and the name is not yet its own.
            synced.append(("file", os.pread(handle, 100, 0)))
            assert not (tmp_path / "kept").exists()
        real(handle)

    monkeypatch.setattr(module.os, "fsync", fsync)
    write_atomically(tmp_path / "kept", b"all of it", replace)
    assert synced == [("file", b"all of it"), ("folder", ["kept"])]


def writers(path: Path) -> list[int]:
    """Return the lines of a module in which a file is opened for writing, or written in one go."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        texts = [
            one.value for one in (*node.args, *(word.value for word in node.keywords)) if isinstance(one, ast.Constant)
        ]
        modes = [text for text in texts if isinstance(text, str) and 0 < len(text) <= 3 and set(text) <= set("rwxab+t")]
        if name in ("write_text", "write_bytes", "mkstemp") or (
            name == "open" and any(set(m) & set("wxa+") for m in modes)
        ):
            found.append(node.lineno)
    return found


def test_the_reader_of_writers_sees_them(tmp_path):
    (tmp_path / "x.py").write_text(
        "p.write_text('x')\nopen('f', 'wb')\np.open(mode='a+')\nopen('f', 'rb')\nopen('f')\n"
    )
    assert writers(tmp_path / "x.py") == [1, 2, 3]


def test_state_is_written_in_no_other_way():
    assert {str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py") if writers(path)} == OPEN_FOR_WRITING
