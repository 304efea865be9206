from __future__ import annotations

import fcntl
import os

import pytest
import soundfile
from media_files import RATE_HZ, sound

from musicsyncd.errors import MediaError
from musicsyncd.media import converted as module
from musicsyncd.media.convert import CancelledError
from musicsyncd.media.converted import ConvertedFolder
from musicsyncd.media.inspect import content_id, inspect

DISK = (1 << 40, 1 << 42)


def quietly(_done: int, _all: int) -> None:
    pass


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "converted"


def roomy(folder, **more) -> ConvertedFolder:
    return ConvertedFolder(folder, **{"disk": lambda _folder: DISK, **more})


@pytest.fixture
def sources(tmp_path):
    """Four short Ogg files with their ids."""
    made = []
    for number in range(4):
        path = tmp_path / f"{number}.ogg"
        soundfile.write(path, sound(20_000, seed=number), RATE_HZ, format="OGG", subtype="VORBIS")
        made.append((inspect(path), content_id(path)))
    return made


def test_what_was_made_is_found_by_either_name_also_after_a_restart(folder, sources):
    info, source_id = sources[0]
    kept = roomy(folder)
    assert kept.find(source_id) is None
    made = kept.make(info, source_id, quietly)
    assert content_id(made.path) == made.content_id
    assert soundfile.info(made.path).frames == 20_000
    for one in (kept, roomy(folder)):
        assert one.find(source_id) == made
        assert one.path_of(made.content_id) == made.path
        assert one.path_of(source_id) is None
    assert [path.name for path in folder.iterdir()] == [made.path.name]


def test_a_file_that_was_removed_behind_our_back_is_made_again(folder, sources):
    kept = roomy(folder)
    made = kept.make(*sources[0], quietly)
    made.path.unlink()
    assert kept.find(sources[0][1]) is None
    assert kept.make(*sources[0], quietly) == made
    assert made.path.exists()


def test_the_longest_unused_goes_and_what_plays_stays(folder, sources):
    used: set[bytes] = set()
    kept = roomy(folder, in_use=lambda: used)
    made = [kept.make(*source, quietly) for source in sources[:3]]
    size_bytes = sum(one.path.stat().st_size for one in made)
    for age, one in enumerate(made):
        os.utime(one.path, ns=(0, 10**18 + age))
    used.add(made[0].content_id)
    assert kept.find(sources[1][1]) is not None, "and is the newest now"
    kept._max_bytes = size_bytes + 1000
    newest = kept.make(*sources[3], quietly)
    assert sorted(one.path.exists() for one in made) == [False, True, True]
    assert not made[2].path.exists(), "it was the longest unused of those that do not play"
    assert newest.path.exists()


def test_of_a_small_disk_a_tenth_is_taken(folder, sources):
    disk_bytes = 1 << 40
    kept = roomy(folder, disk=lambda _folder: (1 << 40, disk_bytes))
    made = [kept.make(*source, quietly) for source in sources[:2]]
    assert all(one.path.exists() for one in made)
    os.utime(made[0].path, ns=(0, 10**18))
    disk_bytes = 10 * sum(one.path.stat().st_size for one in made)
    newest = kept.make(*sources[2], quietly)
    assert [one.path.exists() for one in (*made, newest)] == [False, True, True]


def test_no_more_files_than_there_may_be(folder, sources, monkeypatch):
    monkeypatch.setattr(module, "MAX_FILES", 2)
    kept = roomy(folder)
    for source in sources:
        kept.make(*source, quietly)
    assert len(list(folder.iterdir())) == 2


def test_a_full_disk_is_one_line_and_loses_nothing(folder, sources):
    kept = roomy(folder)
    made = kept.make(*sources[0], quietly)
    full = roomy(folder, disk=lambda _folder: (1 << 20, 1 << 42), in_use=lambda: {made.content_id})
    with pytest.raises(MediaError, match="disk full") as error:
        full.make(*sources[1], quietly)
    assert "\n" not in str(error.value)
    assert full.find(sources[0][1]) == made
    assert [path.name for path in folder.iterdir()] == [made.path.name]


@pytest.mark.parametrize("error", [CancelledError(), MediaError("no"), RuntimeError("ours")])
def test_what_was_not_finished_leaves_nothing_behind(folder, sources, error):
    kept = roomy(folder)

    def fail(done: int, _all: int) -> None:
        assert [path.suffix for path in folder.iterdir()] == [".part"]
        assert done
        raise error

    with pytest.raises(type(error)):
        kept.make(*sources[0], fail)
    assert list(folder.iterdir()) == []
    assert kept.find(sources[0][1]) is None


def test_parts_of_the_dead_and_files_of_old_versions_go_and_others_stay(folder, sources, monkeypatch):
    made = roomy(folder).make(*sources[0], quietly)
    dead, alive, foreign = folder / f"{'a' * 64}.x.part", folder / f"{'b' * 64}.y.part", folder / "notes.txt"
    for path in (dead, alive, foreign):
        path.write_bytes(b"half")
    newer = folder / made.path.name.replace(".1.", ".99.")
    newer.write_bytes(b"of a newer program")
    with alive.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert roomy(folder).find(sources[0][1]) == made
        assert not dead.exists()
        assert alive.exists()
    monkeypatch.setattr(module, "CONVERTER_VERSION", 2)
    assert roomy(folder).find(sources[0][1]) is None
    assert not made.path.exists()
    assert foreign.exists()
    assert newer.exists()


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(MediaError, match="cannot be used"):
        ConvertedFolder(tmp_path / "file" / "folder")


def test_a_folder_that_went_is_one_line(folder, sources):
    kept = roomy(folder)
    folder.rmdir()
    with pytest.raises(MediaError, match="cannot be written"):
        kept.make(*sources[0], quietly)
