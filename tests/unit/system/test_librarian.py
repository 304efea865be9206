"""The librarian's looks, one after the other without its thread, and the thread's start and end."""

from __future__ import annotations

import io
import logging
import os
import threading

import pytest
import soundfile

from musicsyncd.errors import MediaError
from musicsyncd.media.library import Gone, Progress, Read, Stamp
from musicsyncd.media.tags import Tags
from musicsyncd.system import librarian as module
from musicsyncd.system.librarian import Librarian, ScanState, take_in
from musicsyncd.system.library_index import LibraryIndex
from musicsyncd.system.progress import ProgressLine


def write_track(path, title):
    path.parent.mkdir(parents=True, exist_ok=True)
    with soundfile.SoundFile(path, "w", 8000, 1) as file:
        file.title = title
        file.write([0.0] * 800)


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def shelf(tmp_path):
    for name in ("one", "two", "three"):
        write_track(tmp_path / "music" / name / "x.flac", name)
    return tmp_path / "music"


@pytest.fixture
def index(tmp_path):
    made = LibraryIndex(tmp_path / "library.sqlite3")
    yield made
    made.close()


def found(index, words):
    return [hit.title for hit in index.search(words, 10)]


def test_a_look_fills_the_index_and_says_so_once(shelf, index, caplog):
    librarian = Librarian([str(shelf)], index, ProgressLine(io.StringIO()))
    (shelf / "bad.flac").write_bytes(b"no music")
    with caplog.at_level(logging.INFO):
        librarian.look_through()
        librarian.glance()
    assert found(index, "two") == ["two"]
    lines = [one.getMessage() for one in caplog.records if "looked through" in one.getMessage()]
    assert len(lines) == 1
    assert lines[0].startswith("library: 4 files; 4 new or changed, 0 gone, 1 refused")
    assert librarian.state.doing == "waiting"
    assert librarian.state.looked_s is not None


def test_changes_are_followed(shelf, index, caplog):
    librarian = Librarian([str(shelf)], index, ProgressLine(io.StringIO()))
    librarian.look_through()
    write_track(shelf / "four" / "x.flac", "four")
    os.unlink(shelf / "one" / "x.flac")
    caplog.clear()
    with caplog.at_level(logging.INFO):
        librarian.glance()
    assert "1 new or changed, 1 gone" in caplog.text
    assert (found(index, "four"), found(index, "one")) == (["four"], [])


def test_a_new_librarian_reads_only_what_is_new(shelf, index, monkeypatch):
    Librarian([str(shelf)], index, ProgressLine(io.StringIO())).look_through()
    read = []
    real = module.take_in

    def taking(*given):
        taken = real(*given)
        read.append(taken.read)
        return taken

    monkeypatch.setattr(module, "take_in", taking)
    librarian = Librarian([str(shelf)], index, ProgressLine(io.StringIO()))
    librarian._known = index.stamps()
    librarian.look_through()
    assert read == [0]


def test_a_folder_that_cannot_be_read_is_said_once(tmp_path, index, caplog):
    librarian = Librarian([str(tmp_path / "none")], index, ProgressLine(io.StringIO()))
    for _ in range(3):
        librarian.look_through()
    assert caplog.text.count("cannot be read") == 1
    assert len(librarian.faults) == 1


def test_on_a_terminal_one_line_tells_files_rate_and_time_left(shelf, index, monkeypatch):
    now_s = [100.0]

    class Time:
        @staticmethod
        def monotonic():
            now_s[0] += 0.5
            return now_s[0]

    monkeypatch.setattr(module, "time", Time)
    terminal = Terminal()
    Librarian([str(shelf)], index, ProgressLine(terminal)).look_through()
    shown = terminal.getvalue().split("\r\x1b[K")
    assert "library: looking through the folders" in shown
    assert any(one.startswith("library: 2 of 3 files, ") and one.endswith(" s left") for one in shown)
    assert terminal.getvalue().endswith("\r\x1b[K")


def test_elsewhere_it_is_logged_now_and_then(index, caplog):
    librarian = Librarian([], index, ProgressLine(io.StringIO()))
    with caplog.at_level(logging.INFO):
        librarian._say(Progress(0, 1000))
        librarian._shown_s -= 60
        librarian._say(Progress(500, 1000))
        librarian._say(Progress(501, 1000))
    assert [one.getMessage()[:32] for one in caplog.records] == ["library: 500 of 1,000 files, 500"]


def test_the_line_of_a_state():
    state = ScanState("reading", 1234, 5678, 321.4, 13.8)
    assert state.line() == "library: 1,234 of 5,678 files, 321 files/s, 14 s left"
    assert ScanState("reading", 1, 2, 0.0, 600.0).line().endswith("10 min left")


def test_what_could_not_be_kept_stays_unknown(index, monkeypatch):
    known = {"/m/old.flac": Stamp(1, 1)}

    def refuse(_):
        raise MediaError("the disk is full")

    monkeypatch.setattr(index, "apply", refuse)
    with pytest.raises(MediaError, match="full"):
        take_in([Gone("/m/old.flac"), Read("/m/new.flac", Stamp(2, 2), Tags("t"))], index, known)
    assert known == {"/m/old.flac": Stamp(1, 1)}


# -- the thread --------------------------------------------------------------------------------


def run_until(librarian, condition):
    """Run the thread until a condition is true at the end of a look; returns whether it ended in time."""
    reached = threading.Event()
    real = librarian._settle

    def settle(*given, **named):
        real(*given, **named)
        if condition():
            reached.set()

    librarian._settle = settle
    librarian.start()
    came = reached.wait(20.0)
    librarian.stop()
    librarian.join()
    return came and not librarian._thread.is_alive()


def test_the_thread_looks_and_ends_at_once(shelf, index):
    librarian = Librarian([str(shelf)], index, ProgressLine(io.StringIO()))
    assert run_until(librarian, lambda: found(index, "three") == ["three"])


def test_a_stop_in_the_middle_of_a_look_ends_it(shelf, index, monkeypatch):
    librarian = Librarian([str(shelf)], index, ProgressLine(io.StringIO()))
    monkeypatch.setattr(librarian._line, "show", lambda _: librarian.stop())
    librarian.start()
    librarian._thread.join(20.0)
    assert not librarian._thread.is_alive()
    assert librarian.state.looked_s is None
    assert index.stamps() == {}


def test_a_damaged_index_is_built_anew(shelf, tmp_path, caplog):
    path = tmp_path / "damaged.sqlite3"
    index = LibraryIndex(path)
    Librarian([str(shelf)], index, ProgressLine(io.StringIO())).look_through()
    index.damaged = "page 7 is gone"
    librarian = Librarian([str(shelf)], index, ProgressLine(io.StringIO()))
    assert run_until(librarian, lambda: found(index, "three") == ["three"])
    assert "page 7 is gone" in caplog.text
    assert (tmp_path / "damaged.sqlite3.broken").exists()
    index.close()
