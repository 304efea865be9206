"""The index over real files of SQLite: what is found, what survives, and what is built anew."""

from __future__ import annotations

import logging
import os
import sqlite3

import pytest

from musicsyncd.errors import ConfigError, MediaError
from musicsyncd.media.library import Gone, Read, Stamp
from musicsyncd.media.tags import Gain, Tags
from musicsyncd.system import library_index as module
from musicsyncd.system.library_index import Counts, LibraryIndex, query_of


@pytest.fixture
def index(tmp_path):
    made = LibraryIndex(tmp_path / "library.sqlite3")
    yield made
    made.close()


def read(path: str, title: str = "", artist: str = "", album: str = "", **more: object) -> Read:
    return Read(path, Stamp(1, 2), Tags(title or os.path.basename(path), artist, album, **more))


SHELF = [
    read("/m/kob/1.flac", "So What", "Miles Davis", "Kind of Blue", album_artist="Miles Davis", track=1, year=1959),
    read("/m/kob/2.flac", "Blue in Green", "Miles Davis", "Kind of Blue", album_artist="Miles Davis", track=3),
    read("/m/kob/3.flac", "Freddie", "Miles Davis", "Kind of Blue", album_artist="Miles Davis", track=2),
    read("/m/mitchell/b.flac", "Carey", "Joni Mitchell", "Blue", year=1971, duration_s=180.0),
    read("/m/other/b.flac", "Été", "Öde", "Blue", genre="Chanson"),
    read("/m/hits/1.flac", "Queen", "Someone", "Hits"),
    read("/m/hits/2.flac", "Song", "Queen", "Hits"),
]


def titles(hits) -> list[str]:
    return [hit.title for hit in hits]


# -- search ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("what", ["So What"]),
        ("SO wh", ["So What"]),
        ("ete", ["Été"]),
        ("ÖDE", ["Été"]),
        ("davis gree", ["Blue in Green"]),
        ("1971", ["Carey"]),
        ("chans", ["Été"]),
        ("queen", ["Queen", "Song"]),
        ("joni-mitchell", ["Carey"]),
        ("wha so", []),
        ("gree davis", ["Blue in Green"][:0]),
        ("", []),
        ("  ' \" * - ( ", []),
        ('what" OR "blue', []),
        ("title:what", []),
        ("NEAR(so what)", []),
    ],
)
def test_words_are_found_without_case_and_accents_the_last_as_a_beginning(index, words, found):
    index.apply(SHELF)
    assert titles(index.search(words, 10)) == found


def test_a_title_counts_more_than_an_album_and_the_limit_holds(index):
    index.apply(SHELF)
    assert titles(index.search("blue", 10))[0] == "Blue in Green"
    assert len(index.search("blue", 10)) == 5
    assert len(index.search("blue", 2)) == 2


def test_beyond_what_is_put_in_order_there_still_is_an_answer(index, monkeypatch):
    monkeypatch.setattr(module, "RANKED", 3)
    index.apply(SHELF)
    assert titles(index.search("blue", 2)) == ["So What", "Blue in Green"]


def test_a_query_has_an_end():
    assert query_of("a b") == '"a" "b"*'
    assert query_of("a b", "album") == '{album} : ("a" "b"*)'
    assert query_of("x" * 1000) == f'"{"x" * 64}"*'
    assert query_of("a " * 1000).count('"a"') == 16
    assert query_of("...") == ""


# -- changes -----------------------------------------------------------------------------------


def test_a_changed_file_keeps_its_number_and_is_found_by_its_new_words_alone(index):
    index.apply(SHELF)
    (before,) = index.search("freddie", 10)
    index.apply([read("/m/kob/3.flac", "Freeloader")])
    (after,) = index.search("freeloader", 10)
    assert after.number == before.number
    assert index.track(after.number) == after
    assert index.search("freddie", 10) == []


def test_what_is_gone_is_found_no_more(index):
    index.apply(SHELF)
    (hit,) = index.search("carey", 10)
    index.apply([Gone("/m/mitchell/b.flac"), Gone("/never/there.flac")])
    assert index.search("carey", 10) == []
    assert index.track(hit.number) is None
    assert "/m/mitchell/b.flac" not in index.stamps()
    assert index.counts().tracks == len(SHELF) - 1


def test_what_is_refused_is_known_and_said_and_not_found(index):
    index.apply([read("/m/x.flac", "Fine"), Read("/m/y.flac", Stamp(3, 4), None, "/m/y.flac is no music")])
    assert index.stamps() == {"/m/x.flac": Stamp(1, 2), "/m/y.flac": Stamp(3, 4)}
    assert index.refused(10) == ["/m/y.flac is no music"]
    assert index.counts() == Counts(1, 0, 0, 1, 0.0)
    assert index.search("y", 10) == []
    index.apply([read("/m/y.flac", "Mended"), Read("/m/x.flac", Stamp(5, 6), None, "broken")])
    assert titles(index.search("mended", 10)) == ["Mended"]
    assert index.search("fine", 10) == []
    assert index.refused(10) == ["broken"]


def test_changes_are_taken_whole_or_not_at_all(index):
    index.apply(SHELF)
    with pytest.raises(OverflowError):
        index.apply([read("/m/new.flac", "New"), Read("/m/big.flac", Stamp(1 << 70, 0), None, "x")])
    assert index.search("new", 10) == []
    index.apply([read("/m/new.flac", "New")])
    assert titles(index.search("new", 10)) == ["New"]


def test_names_in_any_encoding_and_everything_that_tags_say_survive_a_restart(tmp_path):
    path = "/m/caf\udce9\n/\udcff.flac"
    tags = Tags("T", "A", "B", "", "G", 1, 2, 2000, 3.5, 96_000, Gain(-1.5, 0.9), Gain(None, 1.1))
    index = LibraryIndex(tmp_path / "x.sqlite3")
    index.apply([Read(path, Stamp(5, 6), tags), Read("/m/\udcfe.flac", Stamp(7, 8), None, "\udcfe is bad")])
    index.close()
    index = LibraryIndex(tmp_path / "x.sqlite3")
    assert index.stamps() == {path: Stamp(5, 6), "/m/\udcfe.flac": Stamp(7, 8)}
    (hit,) = index.search("t", 10)
    assert (hit.path, hit.duration_s, hit.year) == (path, 3.5, 2000)
    assert index.of_album(index.albums("b")[0], 10) == [path]
    assert index.folders() == ["/m", "/m/caf\udce9\n"]
    row = index._reader.execute("SELECT track_gain_db, track_peak, album_gain_db, album_peak, rate_hz FROM tracks")
    assert row.fetchone() == (-1.5, 0.9, None, 1.1, 96_000)
    index.close()


# -- albums and artists ------------------------------------------------------------------------


def test_an_album_of_exactly_the_name_comes_before_those_that_have_the_word(index):
    index.apply(SHELF)
    assert [(one.name, one.artist) for one in index.albums("BLUE")] == [("Blue", "Joni Mitchell"), ("Blue", "Öde")]
    assert [one.artist for one in index.albums("blue", "ode")] == ["Öde"]
    assert [one.artist for one in index.albums("blue", "mitch")] == ["Joni Mitchell"]
    assert [one.name for one in index.albums("kind of")] == ["Kind of Blue"]
    assert index.albums("none") == []
    assert index.albums("blue", "nobody") == []


def test_the_tracks_of_an_album_are_in_its_order(index):
    index.apply(SHELF)
    (album,) = index.albums("kind of blue")
    assert (album.tracks, album.year, album.artist) == (3, 1959, "Miles Davis")
    assert index.of_album(album, 10) == ["/m/kob/1.flac", "/m/kob/3.flac", "/m/kob/2.flac"]
    assert index.of_album(album, 2) == ["/m/kob/1.flac", "/m/kob/3.flac"]


def test_a_sampler_without_an_albums_artist_is_one_album_of_several(index):
    index.apply(SHELF)
    assert [(one.artist, one.tracks) for one in index.albums("hits")] == [("", 2)]
    assert {one.name for one in index.albums()} == {"Kind of Blue", "Blue", "Hits"}


def test_artists(index):
    index.apply([*SHELF, read("/m/x.flac", "X", "Queen & Bowie", album_artist="Sampler")])
    assert [one.name for one in index.artists("queen")] == ["Queen"]
    assert [one.name for one in index.artists("bow")] == ["Queen & Bowie"]
    assert [one.name for one in index.artists("mi")] == ["Joni Mitchell", "Miles Davis"]
    assert [one.name for one in index.artists("sampler")] == ["Sampler"]
    assert index.artists("nobody") == []
    assert len(index.artists()) == 7
    (miles,) = index.artists("miles davis")
    assert miles.tracks == 3
    assert len(index.of_artist(miles, 10)) == 3


# -- the file ----------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["garbage", "another version", "another program"])
def test_a_file_of_no_use_is_set_aside_and_built_anew_with_a_line(tmp_path, caplog, what):
    path = tmp_path / "library.sqlite3"
    if what == "garbage":
        path.write_bytes(b"no database " * 500)
    else:
        with sqlite3.connect(path) as other:
            other.execute("CREATE TABLE t (x)")
            other.execute(f"PRAGMA user_version = {99 if what == 'another version' else 0}")
        other.close()
    with caplog.at_level(logging.WARNING):
        index = LibraryIndex(path)
    assert "built anew" in caplog.text
    index.apply(SHELF)
    assert index.counts().tracks == len(SHELF)
    index.close()
    assert (tmp_path / "library.sqlite3.broken").exists()


def test_damage_that_shows_later_is_noted_and_a_new_file_is_begun(tmp_path, caplog):
    path = tmp_path / "library.sqlite3"
    index = LibraryIndex(path)
    index.apply([read(f"/m/{n}.flac", f"title {n}") for n in range(500)])
    index.close()
    data = bytearray(path.read_bytes())
    data[8192:] = b"\xaa" * (len(data) - 8192)
    path.write_bytes(bytes(data))
    index = LibraryIndex(path)
    with pytest.raises(MediaError, match="built anew"):
        index.stamps()
    assert index.damaged
    index.start_anew()
    assert not index.damaged
    index.apply(SHELF)
    assert titles(index.search("carey", 5)) == ["Carey"]
    assert index.stamps().keys() == {one.path for one in SHELF}
    index.close()


def test_a_folder_that_cannot_be_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot open"):
        LibraryIndex(tmp_path / "file" / "x.sqlite3")
