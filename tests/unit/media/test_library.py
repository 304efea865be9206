"""Looks through folders on a real file system, with a clock that only the tests move."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tagged import flac, put

from musicsyncd.media import library as module
from musicsyncd.media.library import Gone, Library, Progress, Read, Stamp, album_home, below, folded
from musicsyncd.media.tags import Tags

LONG_AGO_NS = 1_000_000_000_000_000_000
NOW_NS = LONG_AGO_NS + 3_600_000_000_000


def age(root: Path, mtime_ns: int = LONG_AGO_NS) -> None:
    """Let everything have been changed long ago."""
    for here, _, files in os.walk(root, topdown=False):
        for name in files:
            os.utime(os.path.join(here, name), ns=(mtime_ns, mtime_ns), follow_symlinks=False)
        os.utime(here, ns=(mtime_ns, mtime_ns))


class Shelf:
    """A library of one folder, and what is known of it."""

    def __init__(self, root: Path, *others: Path) -> None:
        root.mkdir(exist_ok=True)
        self.root = root
        self.known: dict[str, Stamp] = {}
        self.library = Library([str(root), *map(str, others)], now_ns=lambda: NOW_NS)

    def add(self, *names: str, title: str = "t") -> None:
        for name in names:
            put(self.root / name, flac(f"TITLE={title}"))
        age(self.root)

    def take(self, changes) -> tuple[list[str], list[str]]:
        """Return what was read and what is gone, relative to the folder; both are known from now on."""
        read, gone = [], []
        for change in changes:
            if isinstance(change, Read):
                self.known[change.path] = change.stamp
                read.append(os.path.relpath(change.path, self.root))
            elif isinstance(change, Gone):
                del self.known[change.path]
                gone.append(os.path.relpath(change.path, self.root))
        return read, gone

    def look(self) -> tuple[list[str], list[str]]:
        return self.take(self.library.look_through(self.known))

    def glance(self) -> tuple[list[str], list[str]]:
        return self.take(self.library.glance(self.known))


@pytest.fixture
def shelf(tmp_path):
    return Shelf(tmp_path / "music")


# -- passes ------------------------------------------------------------------------------------


def test_a_pass_reads_what_is_new_as_a_person_would_sort_it(shelf):
    shelf.add("b/10.flac", "b/2.flac", "a.flac", "B/1.FLAC", ".hidden/x.flac", "b/.x.flac", "b/notes.txt")
    assert shelf.look() == (["a.flac", "B/1.FLAC", "b/2.flac", "b/10.flac"], [])


def test_what_is_known_is_not_opened_again(shelf, monkeypatch):
    shelf.add("a.flac", "b.flac")
    shelf.look()
    monkeypatch.setattr(module, "read_tags", lambda path: pytest.fail(f"{path} was opened"))
    assert shelf.look() == ([], [])


def test_size_or_time_make_a_file_another_one(shelf):
    shelf.add("a.flac", "b.flac", "c.flac")
    shelf.look()
    put(shelf.root / "a.flac", flac("TITLE=longer"))
    age(shelf.root)
    os.utime(shelf.root / "b.flac", ns=(5, 5))
    os.unlink(shelf.root / "c.flac")
    assert shelf.look() == (["a.flac", "b.flac"], ["c.flac"])
    assert shelf.look() == ([], [])


def test_progress_is_said_before_each_file_and_at_the_end(shelf):
    shelf.add("a.flac", "b.flac")
    said = [one for one in shelf.library.look_through({}) if isinstance(one, Progress)]
    assert said == [Progress(0, 2), Progress(1, 2), Progress(2, 2)]


def test_what_is_no_music_is_refused_with_its_reason_and_then_known(shelf):
    shelf.add("good.flac")
    put(shelf.root / "bad.flac", b"no music")
    put(shelf.root / "zero.flac", b"")
    changes = {Path(one.path).name: one for one in shelf.library.look_through({}) if isinstance(one, Read)}
    assert changes["good.flac"].tags is not None
    assert changes["good.flac"].reason == ""
    assert changes["bad.flac"].tags is None
    assert "no music" in changes["bad.flac"].reason
    assert "empty" in changes["zero.flac"].reason
    shelf.take(changes.values())
    assert shelf.look() == ([], [])


def test_a_stop_ends_a_look_between_two_files(shelf):
    shelf.add("a.flac", "b.flac", "c.flac")
    read: set[str] = set()
    library = Library([str(shelf.root)], stopped=lambda: len(read) == 2)
    for change in library.look_through({}):
        if isinstance(change, Read):
            read.add(Path(change.path).name)
    assert read == {"a.flac", "b.flac"}


def test_two_folders_of_which_one_is_in_the_other(tmp_path):
    shelf = Shelf(tmp_path / "music", tmp_path / "music" / "in")
    shelf.add("a.flac", "in/b.flac")
    assert sorted(shelf.look()[0]) == ["a.flac", "in/b.flac"]
    assert shelf.look() == ([], [])


def test_a_folder_that_is_no_more_part_of_the_library_goes(shelf, tmp_path):
    shelf.known[str(tmp_path / "other" / "x.flac")] = Stamp(1, 1)
    assert shelf.look() == ([], ["../other/x.flac"])


# -- odd file systems --------------------------------------------------------------------------


def test_links_in_a_circle_end_and_each_folder_is_there_once(shelf):
    shelf.add("a/x.flac", "b/y.flac")
    (shelf.root / "a" / "up").symlink_to(shelf.root)
    (shelf.root / "a" / "b again").symlink_to(shelf.root / "b")
    (shelf.root / "itself").symlink_to("itself")
    (shelf.root / "itself.flac").symlink_to("itself.flac")
    (shelf.root / "nowhere.flac").symlink_to("nowhere")
    age(shelf.root)
    read, _ = shelf.look()
    assert [Path(one).name for one in read if "itself" not in one] == ["x.flac", "y.flac"]
    (shelf.root / "b" / "up").symlink_to(shelf.root)
    assert shelf.glance() == ([], [])


def test_a_link_out_of_the_library_is_followed(shelf, tmp_path):
    put(tmp_path / "elsewhere" / "x.flac", flac())
    (shelf.root / "link").symlink_to(tmp_path / "elsewhere")
    assert shelf.look() == (["link/x.flac"], [])


def test_a_folder_that_cannot_be_read_is_said_and_takes_nothing_away(shelf, monkeypatch):
    shelf.add("a/x.flac", "b/y.flac")
    shelf.look()
    real = os.scandir

    def scandir(path):
        if str(path).endswith("/a"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    os.unlink(shelf.root / "a" / "x.flac")
    os.unlink(shelf.root / "b" / "y.flac")
    assert shelf.look() == ([], ["b/y.flac"])
    assert list(shelf.library.faults.values()) == [f"{shelf.root}/a cannot be read: Permission denied"]
    monkeypatch.setattr(os, "scandir", real)
    assert shelf.look() == ([], ["a/x.flac"])
    assert shelf.library.faults == {}


def test_a_library_that_is_not_there_or_suddenly_empty_is_kept(shelf, tmp_path):
    shelf.add("a.flac")
    shelf.look()
    os.rename(shelf.root, tmp_path / "away")
    assert shelf.look() == ([], [])
    assert "No such file" in shelf.library.faults[str(shelf.root)]
    assert shelf.glance() == ([], [])
    shelf.root.mkdir()
    assert shelf.look() == ([], [])
    assert "is its disk mounted?" in shelf.library.faults[str(shelf.root)]
    shelf.root.rmdir()
    os.rename(tmp_path / "away", shelf.root)
    assert shelf.look() == ([], [])
    assert shelf.library.faults == {}


def test_a_file_that_may_not_be_read_is_tried_again(shelf, monkeypatch):
    shelf.add("a.flac")
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setattr(module, "read_tags", _refuse)
    assert shelf.look() == (["a.flac"], [])
    monkeypatch.undo()
    assert shelf.look() == (["a.flac"], [])
    assert shelf.look() == ([], [])


def _refuse(path):
    from musicsyncd.errors import MediaError

    raise MediaError(f"{path} cannot be read: Permission denied")


def test_names_that_are_no_utf8(shelf):
    name = os.path.join(os.fsencode(shelf.root), b"\xff\n.flac")
    with open(name, "wb") as file:
        file.write(flac())
    age(shelf.root)
    assert shelf.look() == (["\udcff\n.flac"], [])
    assert shelf.look() == ([], [])


# -- glances -----------------------------------------------------------------------------------


def test_a_glance_finds_what_came_went_and_moved_without_looking_elsewhere(shelf, monkeypatch):
    shelf.add("a/1.flac", "a/2.flac", "b/3.flac", "c/deep/4.flac")
    shelf.look()
    assert shelf.glance() == ([], [])
    looked: list[str] = []
    real = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: looked.append(os.path.relpath(path, shelf.root)) or real(path))
    put(shelf.root / "a" / "new.flac", flac())
    os.unlink(shelf.root / "a" / "1.flac")
    assert shelf.glance() == (["a/new.flac"], ["a/1.flac"])
    assert looked == ["a"]
    os.rename(shelf.root / "c", shelf.root / "d")
    read, gone = shelf.glance()
    assert (read, gone) == (["d/deep/4.flac"], ["c/deep/4.flac"])
    assert "b" not in looked


def test_a_file_that_may_still_be_growing_is_looked_at_until_it_has_settled(shelf):
    shelf.add("a/1.flac")
    shelf.look()
    put(shelf.root / "a" / "2.flac", flac("TITLE=half"))
    fresh_ns = NOW_NS - 10_000_000_000
    age(shelf.root / "a", fresh_ns)
    shelf.glance()
    # In its place, which leaves the folder's time as it is.
    with open(shelf.root / "a" / "2.flac", "ab") as file:
        file.write(b"more")
    os.utime(shelf.root / "a", ns=(fresh_ns, fresh_ns))
    assert shelf.glance() == (["a/2.flac"], [])
    age(shelf.root / "a")
    shelf.glance()
    with open(shelf.root / "a" / "2.flac", "ab") as file:
        file.write(b"more")
    assert shelf.glance() == ([], [])
    assert shelf.look() == (["a/2.flac"], [])


# -- names -------------------------------------------------------------------------------------


def test_below_goes_by_whole_names():
    assert below("/music/a", "/music")
    assert below("/music", "/music")
    assert below("/x", "/")
    assert not below("/music2/a", "/music")


def test_a_name_without_case_accents_and_blanks():
    assert folded("  Sigur  RÓS\n") == "sigur ros"
    assert folded("STRASSE") == folded("Straße")


@pytest.mark.parametrize(
    ("path", "artist", "home"),
    [
        ("/m/Hits/1.flac", "", "/m/Hits"),
        ("/m/Hits/CD 1/1.flac", "", "/m/Hits"),
        ("/m/Hits/disc2/1.flac", "", "/m/Hits"),
        ("/m/Hits/Discover/1.flac", "", "/m/Hits/Discover"),
        ("/m/Hits/1.flac", "Various Ärtists", "various artists"),
    ],
)
def test_where_an_album_is_at_home(path, artist, home):
    assert album_home(path, Tags("t", album_artist=artist)) == home
