"""What names of tracks become, and what the library answers, over a real index."""

from __future__ import annotations

import asyncio
import io

import pytest

from musicsyncd.errors import ControlError, MediaError
from musicsyncd.media.library import Read, Stamp
from musicsyncd.media.tags import Tags
from musicsyncd.system import library_control as module
from musicsyncd.system.librarian import Librarian
from musicsyncd.system.library_control import LibraryControl, Pick, Picked, is_number, resolve
from musicsyncd.system.library_index import LibraryIndex
from musicsyncd.system.progress import ProgressLine


def read(path: str, title: str, artist: str, album: str, **more: object) -> Read:
    return Read(path, Stamp(1, 2), Tags(title, artist, album, **more))


@pytest.fixture
def root(tmp_path):
    (tmp_path / "music").mkdir()
    return tmp_path / "music"


@pytest.fixture
def library(tmp_path, root):
    index = LibraryIndex(tmp_path / "library.sqlite3")
    shelf = [
        read(f"{root}/Jazz/kob/2.flac", "Blue in Green", "Miles Davis", "Kind of Blue", track=2, year=1959),
        read(f"{root}/Jazz/kob/1.flac", "So What", "Miles Davis", "Kind of Blue", track=1, year=1959),
        read(f"{root}/Folk/b/1.flac", "Carey", "Joni Mitchell", "Blue", year=1971, duration_s=180.0),
        read(f"{root}/Pop/b/1.flac", "Été", "Öde", "Blue"),
        read(f"{root}/Pop/Pop/1.flac", "Pop", "Öde", "Pop"),
    ]
    index.apply([*shelf, Read(f"{root}/bad.flac", Stamp(1, 2), None, "bad.flac is no music")])
    made = LibraryControl(index, Librarian([str(root)], index, ProgressLine(io.StringIO())))
    yield made
    made.close()


def picks(library, **what) -> Picked:
    return asyncio.run(resolve(library, Pick(**what)))


def names(library, root, **what) -> list[str]:
    return [path.removeprefix(f"{root}/") for path in picks(library, **what).paths]


def test_every_way_to_name_tracks(library, root):
    album = ["Jazz/kob/1.flac", "Jazz/kob/2.flac"]
    assert names(library, root, album="kind of blue") == album
    assert names(library, root, album="kind") == album
    assert names(library, root, artist="miles davis") == album
    assert names(library, root, album="blue", artist="ode") == ["Pop/b/1.flac"]
    assert names(library, root, search="green") == ["Jazz/kob/2.flac"]
    assert names(library, root, folder="KOB") == ["Jazz/kob"]
    assert names(library, root, folder="pop") == ["Pop"]
    assert names(library, root, folder="folk/b/") == ["Folk/b"]
    assert names(library, root, folder=str(root)) == [str(root)]


def test_a_track_by_its_number_among_paths(library, root):
    (found,) = asyncio.run(library.search("carey", 5))["tracks"]
    assert found["path"] == f"{root}/Folk/b/1.flac"
    assert names(library, root, tracks=["/a.flac", found["id"]]) == ["/a.flac", "Folk/b/1.flac"]
    with pytest.raises(MediaError, match="no track library:999"):
        picks(library, tracks=["library:999"])


def test_paths_and_nothing_need_no_library():
    assert picks(None, tracks=["/a.flac", "library:x"]) == Picked(("/a.flac", "library:x"))
    assert picks(None) == Picked(())


@pytest.mark.parametrize("what", [{"search": "x"}, {"album": "x"}, {"folder": "x"}, {"tracks": ["library:1"]}])
def test_a_host_without_a_library_says_how_to_get_one(what):
    with pytest.raises(ControlError, match="--library FOLDER"):
        picks(None, **what)


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ({"album": "blue"}, "2 albums are called 'blue': “Blue” by Joni Mitchell .1971.; “Blue” by Öde .no year.; add"),
        ({"album": "none"}, "no album 'none'"),
        ({"artist": "nobody"}, "no artist 'nobody'"),
        ({"search": "nothing here"}, "'nothing here'"),
        ({"folder": "b"}, "2 folders are called 'b': .*/Folk/b; .*/Pop/b; write more"),
        ({"folder": "x\n\x1b"}, "no folder 'x'"),
        ({"playlist": "/none.m3u"}, "there is no playlist"),
    ],
)
def test_what_is_not_there_or_not_one_thing_is_refused_in_one_line(library, what, said):
    with pytest.raises(MediaError, match=said) as refused:
        picks(library, **what)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "what", [{"tracks": ["/a"], "search": "x"}, {"album": "x", "folder": "y"}, {"search": "x", "playlist": "y"}]
)
def test_two_ways_at_once_are_refused(library, what):
    with pytest.raises(ControlError, match="in one way"):
        picks(library, **what)


def test_a_folder_without_a_name_is_refused(library):
    with pytest.raises(ControlError, match="name a folder"):
        picks(library, folder="//")


def test_a_search_plays_only_the_best(library, root, monkeypatch):
    monkeypatch.setattr(module, "MAX_SEARCH_PLAYED", 1)
    picked = picks(library, search="davis")
    assert len(picked.paths) == 1
    assert "left out" in picked.note
    assert picks(library, search="carey").note == ""


def test_a_playlist_says_what_it_left_out(library, root):
    (root / "a.flac").write_bytes(b"x")
    lines = ["a.flac", "http://radio/x.mp3", *(f"none{n}" for n in range(7))]
    (root / "x.m3u").write_text("\n".join(lines))
    picked = picks(library, playlist=f"{root}/x.m3u")
    assert picked.paths == (f"{root}/a.flac",)
    assert picked.note.startswith("; left out: http://radio/x.mp3: it is an address")
    assert picked.note.endswith("(and 3 more)")
    (root / "x.m3u").write_text("http://radio/x.mp3")
    with pytest.raises(MediaError, match=r"nothing of .*x\.m3u can be played: http://radio"):
        picks(library, playlist=f"{root}/x.m3u")
    (root / "x.m3u").write_text("#EXTM3U")
    with pytest.raises(MediaError, match="it is empty"):
        picks(library, playlist=f"{root}/x.m3u")


def test_lists_and_counts(library, root):
    assert asyncio.run(library.albums("blue", "mitch", 9))["albums"] == [
        {"name": "Blue", "artist": "Joni Mitchell", "year": 1971, "tracks": 1, "duration_s": 180.0}
    ]
    assert asyncio.run(library.artists("mi", 1))["artists"] == [{"name": "Joni Mitchell", "tracks": 1}]
    said = asyncio.run(library.describe())
    assert (said["folders"], said["tracks"], said["albums"], said["artists"]) == ([str(root)], 5, 4, 3)
    assert (said["refused_count"], said["refused"]) == (1, ["bad.flac is no music"])
    assert (said["scan"]["doing"], said["scan"]["looked_s_ago"]) == ("starting", None)


@pytest.mark.parametrize("limit", [0, -1, 1001])
def test_limits(library, limit):
    with pytest.raises(ControlError, match="not possible"):
        asyncio.run(library.search("x", limit))


def test_what_is_a_number():
    assert is_number("library:17")
    for text in ("library:", "library:x", "17", "library:1 ", "library:²", "/library:1", f"library:{'9' * 19}"):
        assert not is_number(text)
