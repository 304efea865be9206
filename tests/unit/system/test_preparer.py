"""Paths become items for a queue, and files become tracks."""

from __future__ import annotations

import asyncio
import hashlib

import pytest
from host_rig import RATE_HZ, make_album, make_track

from musicsyncd.errors import MediaError, MusicSyncError
from musicsyncd.system.database import Database
from musicsyncd.system.preparer import MAX_SAID_FAULTS, Found, Preparer


@pytest.fixture
def database(tmp_path):
    one = Database(tmp_path / "state.sqlite", lock_timeout_s=0)
    yield one
    one.close()


@pytest.fixture
def preparer(database):
    one = Preparer(database)
    yield one
    one.close()


def test_files_and_folders_become_items_in_the_order_they_were_named(preparer, tmp_path):
    make_album(tmp_path / "album", 11)
    single = make_track(tmp_path / "z.wav", seconds=1.5)
    found = asyncio.run(preparer.find([str(single), str(tmp_path / "album")]))
    assert [item.title for item in found.items] == ["z", *map(str, range(1, 12))]
    assert found.items[0].duration_s == 1.5
    assert found.items[0].path == str(single)
    assert found.items[0].track is None
    assert found.said() == ""


def test_only_the_first_faults_are_said_and_the_rest_counted():
    found = Found((), tuple(f"fault {n}" for n in range(MAX_SAID_FAULTS + 2)))
    assert found.said() == "; left out: fault 0; fault 1; fault 2 (and 2 more)"
    assert Found((), found.faults[:MAX_SAID_FAULTS]).said() == "; left out: fault 0; fault 1; fault 2"


@pytest.mark.parametrize(
    "name",
    ["gone.wav", "", "a\0b.wav", "x" * 5000 + ".wav", "\udcff.wav", chr(0xD800), "/dev/null", "/proc/self/mem"],
)
def test_no_path_whatever_raises_anything_but_a_line(preparer, tmp_path, name):
    with pytest.raises(MediaError) as caught:
        asyncio.run(preparer.find([str(tmp_path / name) if name else ""]))
    assert str(caught.value).isprintable()


def test_naming_nothing_is_refused(preparer):
    with pytest.raises(MediaError, match="no track was named"):
        asyncio.run(preparer.find([]))


def test_a_prepared_track_is_its_bytes_hash_and_what_it_decodes_to(preparer, database, tmp_path):
    path = make_track(tmp_path / "a.wav", seconds=2)
    track = asyncio.run(preparer.prepare(str(path)))
    assert track.content_id == hashlib.sha256(path.read_bytes()).digest()
    assert (track.size_bytes, track.rate_hz, track.frames, track.channels) == (
        path.stat().st_size,
        RATE_HZ,
        2 * RATE_HZ,
        1,
    )
    status = path.stat()
    assert database.find_track(str(path), status.st_size, status.st_mtime_ns) == track.content_id


def test_a_hash_that_cannot_be_kept_costs_no_music(preparer, database, tmp_path, monkeypatch, caplog):
    def refuse(*_):
        raise MusicSyncError("the disk is full")

    monkeypatch.setattr(database, "keep_track", refuse)
    path = make_track(tmp_path / "a.wav")
    assert asyncio.run(preparer.prepare(str(path))).size_bytes == path.stat().st_size
    assert "the disk is full" in caplog.text


def test_a_file_that_went_is_a_fault(preparer, tmp_path):
    with pytest.raises(MediaError, match=r"there is no .*gone\.wav"):
        asyncio.run(preparer.prepare(str(tmp_path / "gone.wav")))
