"""The speaker's own music: found by size, told by hash, and never believed after a change."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
from pathlib import Path

import pytest

from musicsyncd.playback.timeline import Track
from musicsyncd.system import own_files as module
from musicsyncd.system.own_files import OwnFiles

PATIENCE_S = 20.0


def track_of(data: bytes) -> Track:
    return Track(hashlib.sha256(data).digest(), len(data), 44_100, 100, 2)


@pytest.fixture
def music(tmp_path):
    folder = tmp_path / "music"
    for number in range(5):
        path = folder / f"album {number}" / "song.flac"
        path.parent.mkdir(parents=True)
        path.write_bytes(bytes([number]) * (100 + number // 2))
    return folder


@pytest.fixture
def hashed(monkeypatch):
    """What was hashed, in order."""
    paths: list[str] = []
    real = module.content_id
    monkeypatch.setattr(module, "content_id", lambda path: (paths.append(path.parent.name), real(path))[1])
    return paths


@pytest.fixture
def start(tmp_path, music):
    made = []

    def begin(folders=(str(music),)):
        made.append(OwnFiles(folders, tmp_path / "state" / "own.sqlite3"))
        return made[-1]

    yield begin
    for one in made:
        one.close()
        assert not one._thread.is_alive()


def find(files: OwnFiles, data: bytes) -> Path | None:
    """Wait for an answer; the time is only what a machine that hangs gets before the test fails."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not files.settled(track_of(data)):
        assert time.monotonic() < deadline_s, "there is no answer"
        os.sched_yield()
    return files.path_of(track_of(data).content_id)


def test_a_track_is_found_by_its_bytes_and_only_files_of_its_size_are_read(start, music, hashed):
    files = start()
    assert find(files, b"\3" * 101) == music / "album 3" / "song.flac"
    assert set(hashed) <= {"album 2", "album 3"}
    assert find(files, b"\4" * 102) == music / "album 4" / "song.flac"
    assert find(files, b"x" * 100) is None, "as long, and another"
    assert find(files, b"x" * 5000) is None
    assert sorted(hashed) == sorted(set(hashed)), "each is read once"


def test_a_restart_reads_nothing_again(start, music, hashed):
    files = start()
    find(files, b"\3" * 101)
    find(files, b"\2" * 101)
    files.close()
    hashed.clear()
    assert find(start(), b"\3" * 101) == music / "album 3" / "song.flac"
    assert hashed == []


def test_a_file_that_was_changed_is_not_it_any_more_and_may_be_another(start, music):
    files = start()
    path = music / "album 3" / "song.flac"
    assert find(files, b"\3" * 101) == path
    path.write_bytes(b"\7" * 101)
    os.utime(path, ns=(5, 5))
    assert files.path_of(track_of(b"\3" * 101).content_id) is None
    assert find(files, b"\3" * 101) is None
    assert find(files, b"\7" * 101) == path


def test_of_two_files_with_the_same_bytes_the_other_one_stands_in(start, music):
    (music / "album 2" / "song.flac").write_bytes(b"\3" * 101)
    files = start()
    first = find(files, b"\3" * 101)
    first.unlink()
    assert files.path_of(track_of(b"\3" * 101).content_id) is None
    assert find(files, b"\3" * 101) not in (first, None)


def test_what_is_gone_is_forgotten_and_what_is_new_is_seen_with_the_next_walk(start, music, tmp_path):
    files = start()
    assert find(files, b"n" * 77) is None
    files.close()
    (music / "album 0" / "song.flac").unlink()
    (music / "new.FLAC").write_bytes(b"n" * 77)
    (music / ".hidden.flac").write_bytes(b"h" * 78)
    (music / "notes.txt").write_bytes(b"t" * 79)
    files = start()
    assert find(files, b"n" * 77) == music / "new.FLAC"
    assert find(files, b"h" * 78) is None
    assert find(files, b"t" * 79) is None
    files.close()
    with sqlite3.connect(tmp_path / "state" / "own.sqlite3") as database:
        paths = {Path(os.fsdecode(path)) for (path,) in database.execute("SELECT path FROM files")}
    assert paths == {music / f"album {n}" / "song.flac" for n in (1, 2, 3, 4)} | {music / "new.FLAC"}


def test_links_in_a_circle_names_in_any_encoding_and_folders_that_are_not_there(start, music, tmp_path):
    (music / "round").symlink_to(music)
    (music / "nowhere.flac").symlink_to(music / "gone")
    odd = os.path.join(os.fsencode(music), b"caf\xe9\n.flac")
    with open(odd, "wb") as file:
        file.write(b"o" * 55)
    os.mkfifo(music / "pipe.flac")
    files = start((str(music), str(music / "gone")))
    assert os.fsencode(find(files, b"o" * 55)) == odd
    assert find(files, b"nowhere" * 9) is None, "said when the walk has come to its end"
    files.close()
    with sqlite3.connect(tmp_path / "state" / "own.sqlite3") as database:
        assert database.execute("SELECT count(*) FROM files").fetchone() == (6,), "no pipe, which would never end"


def test_an_index_that_is_damaged_is_made_anew(start, music, tmp_path, monkeypatch):
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "own.sqlite3").write_bytes(b"this is no database" * 100)
    assert find(start(), b"\3" * 101) in (None, music / "album 3" / "song.flac")
    assert find(start(), b"\4" * 102) == music / "album 4" / "song.flac"
