"""What fuzzing has found, one test each: it was a traceback, and is a line now."""

from __future__ import annotations

import asyncio
import io
import sqlite3
import sys

import pytest
from click.testing import CliRunner
from host_rig import Host, make_track, running

from musicsyncd.cli import cli
from musicsyncd.cli.settings import read_file
from musicsyncd.errors import ConfigError, MediaError
from musicsyncd.media import ogg
from musicsyncd.media.inspect import inspect
from musicsyncd.media.library import Read, Stamp
from musicsyncd.media.playlist import read_playlist
from musicsyncd.media.queue import Item
from musicsyncd.media.tags import Tags
from musicsyncd.system.library_index import LibraryIndex

HALF_A_PAIR = "\ud800x"
"""Half of a surrogate pair: JSON may say it, and no text can be made of it."""


@pytest.mark.parametrize("text", ["x = " + "[" * 900, "[host]\nname = " + "9" * 5000], ids=["deep", "long"])
def test_a_configuration_file_that_is_no_sane_toml_is_refused(tmp_path, text):
    file = tmp_path / "musicsyncd.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match="is not valid TOML"):
        read_file(file, ["host"])


def test_a_home_that_is_not_there_is_a_folder_that_is_not_there(tmp_path):
    file = tmp_path / "musicsyncd.toml"
    file.write_text('[common]\nkey-file = "~nosuchuser/room.key"\n')
    (key_file,) = read_file(file, ["host"]).sections["common"].values()
    assert key_file.endswith("~nosuchuser/room.key")


@pytest.mark.parametrize("key", ["key-file", "state-dir", "cache-dir", "runtime-dir"])
def test_a_path_with_a_zero_byte_in_the_configuration_file_is_refused(tmp_path, key):
    file = tmp_path / "musicsyncd.toml"
    file.write_text(f'[common]\n{key} = "a\\u0000b"\n')
    done = CliRunner().invoke(cli, ["status", "--config", str(file)])
    assert done.exit_code in (1, 2)
    assert isinstance(done.exception, SystemExit), done.exception


def test_a_playlist_in_an_encoding_that_nobody_knows_is_refused(tmp_path):
    file = tmp_path / "list.xspf"
    file.write_text('<?xml version="1.0" encoding="T"?><playlist/>')
    with pytest.raises(MediaError, match="no XSPF"):
        read_playlist(file, [str(tmp_path)])


def test_a_room_whose_rows_are_damaged_is_taken_up_as_far_as_it_goes(tmp_path):
    async def test() -> None:
        with running(tmp_path) as host:
            room = host.room()
            room.queue.add([Item("/music/one.flac", "One", "", 2.0)])
            host.control.after_change(room)
        with sqlite3.connect(tmp_path / "state.sqlite") as database:
            database.execute("UPDATE entries SET path = ?", (b"/music/\xff.flac",))
        database.close()
        with running(tmp_path) as again:
            assert again.titles() == ["One"]
            assert "volume 40" in again.control.room_volume("main", "40")

    asyncio.run(test())


def test_names_with_half_a_surrogate_pair_are_not_in_the_library(tmp_path):
    index = LibraryIndex(tmp_path / "library.sqlite3")
    index.apply([Read("/music/1.flac", Stamp(1, 1), Tags("one", "artist", "album", duration_s=1.0))])
    assert index.albums(HALF_A_PAIR) == index.albums("album", HALF_A_PAIR) == []
    assert index.artists(HALF_A_PAIR) == index.search(HALF_A_PAIR, 5) == []
    index.close()


def test_a_track_below_a_home_that_is_not_there_is_not_there(tmp_path):
    async def test() -> None:
        host: Host
        with running(tmp_path) as host:
            with pytest.raises(MediaError, match="there is no"):
                await host.control.play("main", ["~nosuchuser/x.wav"])
            await host.control.play("main", [str(make_track(tmp_path / "a.wav", 1.0))])

    asyncio.run(test())


def test_pages_that_only_begin_like_pages_are_looked_for_so_long_and_no_longer(monkeypatch):
    """Each costs the check sum of up to 64 KiB: a file of nothing else would take seconds a megabyte."""
    summed: list[int] = []
    monkeypatch.setattr(ogg, "_check_sum", lambda page: (summed.append(len(page)), -1)[1])
    ogg.read_pages(io.BytesIO(b"OggS" * (1 << 18)))
    assert 0 < len(summed) <= 20_000


def test_a_header_that_points_before_the_start_of_its_file_says_nothing_to_the_log(tmp_path, monkeypatch):
    """What a callback of C code raises is printed by Python, with a traceback."""
    said: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", said.append)
    file = tmp_path / "a.aiff"
    file.write_bytes(bytes.fromhex("464f524d0000034e41494646434f4d4d000000120129"))
    with pytest.raises(MediaError):
        inspect(file)
    assert said == []
