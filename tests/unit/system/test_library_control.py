"""What names of tracks become, and what the library answers, over a real index."""

from __future__ import annotations

import asyncio
import io

import pytest

from musicsyncd.errors import ControlError, MediaError
from musicsyncd.media.library import Read, Stamp
from musicsyncd.media.tags import Tags
from musicsyncd.system import library_control as module
from musicsyncd.system.http_guard import LOCAL, Caller
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


FAR = Caller(False, "192.0.2.7")


def picks(library, caller: Caller = LOCAL, **what) -> Picked:
    return asyncio.run(resolve(library, Pick(**what), caller))


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


# -- asked over the network ------------------------------------------------------------------------


def forbid_disks(monkeypatch) -> None:
    """Let everything fail that asks a disk by a path."""

    def refuse(*args: object, **_: object) -> None:
        raise AssertionError(f"a disk was asked: {args}")

    for name in ("stat", "lstat", "open", "scandir", "listdir", "walk"):
        monkeypatch.setattr(module.os, name, refuse)
    for name in ("exists", "isfile", "isdir", "realpath"):
        monkeypatch.setattr(module.os.path, name, refuse)


def test_from_afar_the_librarys_own_tracks_and_folders_may_be_named_by_their_paths(library, root, monkeypatch):
    (found,) = asyncio.run(library.search("carey", 5))["tracks"]
    paths = [f"{root}/Folk/b/1.flac", f"{root}/Jazz", str(root), f"{root}/Jazz/kob"]
    forbid_disks(monkeypatch)
    assert picks(library, FAR, tracks=[*paths, found["id"]]).paths == (*paths, f"{root}/Folk/b/1.flac")
    assert picks(library, FAR, album="kind of blue").paths == picks(library, album="kind of blue").paths
    assert picks(library, FAR, folder="kob").paths == (f"{root}/Jazz/kob",)
    assert picks(library, FAR, search="green").paths == picks(library, search="green").paths
    assert picks(library, FAR) == picks(None, FAR) == Picked(())


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "{root}/bad.flac",
        "{root}/none.flac",
        "{root}/Folk/b/1.flac/",
        "{root}/Folk/../Folk/b/1.flac",
        "{root}/Folk//b/1.flac",
        "{root}/./Folk",
        "{root}/Folk/",
        "{root}/F",
        "{root}/..",
        "Folk",
        "~",
        ".",
        "/",
        "",
        "http://192.0.2.9/a.flac",
        "file://{root}/Folk/b/1.flac",
        "library:x",
        "/a\0b",
        "/caf\udce9.flac",
        "/half \ud800",
        "{root}/Folk/b/1.flac\0",
    ],
)
def test_from_afar_nothing_else_is_and_no_disk_is_asked(library, root, path, monkeypatch):
    forbid_disks(monkeypatch)
    known = f"{root}/Folk/b/1.flac"
    for tracks in ([path.format(root=root)], [known, path.format(root=root)]):
        with pytest.raises(
            ControlError, match="over the network nothing else is taken: name it by --search"
        ) as refused:
            picks(library, FAR, tracks=tracks)
        assert "\n" not in str(refused.value)


def test_from_afar_a_host_without_a_library_plays_what_is_queued_and_says_so():
    with pytest.raises(ControlError, match=r"'/a\.flac' is no track or folder"):
        picks(None, FAR, tracks=["/a.flac"])


def test_from_afar_a_playlist_is_one_of_the_librarys(library, root, tmp_path):
    (root / "a.flac").write_bytes(b"x")
    for path in (root / "Lists" / "Party.M3U", root / "b" / "same.m3u", root / "c" / "same.m3u", tmp_path / "out.m3u"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"{root}/a.flac")
    for name in ("party.m3u", "lists/party.m3u", f"{root}/Lists/Party.M3U", "b/same.m3u"):
        assert picks(library, FAR, playlist=name).paths == (f"{root}/a.flac",)
    assert picks(library, playlist=str(tmp_path / "out.m3u")).paths == (f"{root}/a.flac",)
    for name in (str(tmp_path / "out.m3u"), "../out.m3u", "Lists/../Lists/Party.M3U", "//", "http://x/party.m3u", "\0"):
        with pytest.raises(MediaError, match="no playlist"):
            picks(library, FAR, playlist=name)
    with pytest.raises(MediaError, match=r"2 playlists are called .*/b/same\.m3u; .*/c/same\.m3u; write more"):
        picks(library, FAR, playlist="same.m3u")
    with pytest.raises(MediaError, match="is no playlist"):
        picks(library, FAR, playlist="a.flac")


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
