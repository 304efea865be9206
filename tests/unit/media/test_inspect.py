from __future__ import annotations

import hashlib
import os
import struct
from pathlib import Path

import pytest
import soundfile
from media_files import FRAMES, RATE_HZ, sound

from musicsyncd.errors import MediaError
from musicsyncd.media import inspect as module
from musicsyncd.media.inspect import content_id, find_tracks, inspect, look_into, natural_key, to_track, walk


def line(error: pytest.ExceptionInfo[MediaError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    assert "object at" not in text
    return text


@pytest.mark.parametrize("kind", ["wav", "flac", "ogg", "mp3"])
def test_a_header_says_what_a_track_is(music, kind):
    info = inspect(music[kind])
    assert (info.rate_hz, info.channels, info.format) == (RATE_HZ, 2, kind.upper())
    assert info.frames == FRAMES
    assert info.title == "tone"
    assert info.size_bytes == music[kind].stat().st_size
    track = to_track(info, content_id(music[kind]))
    assert track.content_id == hashlib.sha256(music[kind].read_bytes()).digest()
    assert (track.frames, track.size_bytes) == (FRAMES, info.size_bytes)


def test_tags_are_taken_and_cannot_move_a_terminals_cursor(tmp_path):
    path = tmp_path / "01 x.flac"
    with soundfile.SoundFile(path, "w", 44100, 2, "PCM_16") as file:
        file.title, file.artist, file.album = "Für\x1b[31m\nElise", "Ludwig", "a" * 900
        file.write(sound(100))
    info = inspect(path)
    assert info.title == "Für [31m Elise"
    assert info.artist == "Ludwig"
    assert info.album == "a" * 200


def test_the_wrong_ending_does_not_matter_for_a_file_that_was_named(music, tmp_path):
    path = tmp_path / "song.txt"
    path.write_bytes(music["flac"].read_bytes())
    assert find_tracks(path) == [path]
    assert inspect(path).format == "FLAC"


def test_what_is_no_music_is_refused_in_one_line(tmp_path, music):
    text = tmp_path / "letter.mp3"
    text.write_text("Dear Sir or Madam,\n" * 100)
    empty = tmp_path / "empty.flac"
    empty.touch()
    beheaded = tmp_path / "beheaded.wav"
    beheaded.write_bytes(music["wav"].read_bytes()[:44])
    stub = tmp_path / "stub.ogg"
    stub.write_bytes(music["ogg"].read_bytes()[:300])
    fifo = tmp_path / "pipe.wav"
    os.mkfifo(fifo)
    for path, words in (
        (text, "no music that can be played"),
        (empty, "is empty"),
        (beheaded, "holds no sound"),
        (stub, "no music that can be played"),
        (fifo, "no ordinary file"),
        (tmp_path, "is a folder"),
        (tmp_path / "gone.wav", "there is no"),
        (text / "below.wav", "there is no"),
    ):
        with pytest.raises(MediaError, match=words) as error:
            inspect(path)
        assert path.name in line(error)


def test_an_unreadable_file_is_refused_in_one_line(music, monkeypatch):
    def refuse(*_args, **_kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(MediaError, match="cannot be read: Permission denied"):
        inspect(music["wav"])
    with pytest.raises(MediaError, match="cannot be read: Permission denied"):
        content_id(music["wav"])


def test_a_flac_that_does_not_say_its_length_is_refused(music, tmp_path):
    data = bytearray(music["flac"].read_bytes())
    # STREAMINFO's total samples: the low four bits of byte 13 of the block and the four bytes after it.
    data[21] &= 0xF0
    data[22:26] = bytes(4)
    path = tmp_path / "streamed.flac"
    path.write_bytes(data)
    with pytest.raises(MediaError, match="does not say how long it is"):
        inspect(path)


def test_a_rate_that_no_time_line_holds_is_refused(tmp_path):
    path = tmp_path / "slow.wav"
    soundfile.write(path, sound(100, 1), 8000)
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, 24, 50)
    path.write_bytes(data)
    with pytest.raises(MediaError, match="1 channels at 50 Hz"):
        inspect(path)


def test_a_folder_is_sorted_as_a_person_would(tmp_path):
    names = ["CD10/1.flac", "CD2/track 10.FLAC", "CD2/track 2.mp3", "CD2/Track 1.ogg", "intro.wav"]
    others = ["CD2/cover.jpg", ".hidden.wav", ".trash/x.wav", "CD2/._track 2.mp3"]
    for name in names + others:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = [str(path.relative_to(tmp_path)) for path in find_tracks(tmp_path)]
    assert found == ["CD2/Track 1.ogg", "CD2/track 2.mp3", "CD2/track 10.FLAC", "CD10/1.flac", "intro.wav"]


def test_the_order_of_names():
    names = ["b/1", "a/10 x", "a/2 x", "A/3", "a/x", "²"]
    assert sorted(names, key=natural_key) == ["a/2 x", "A/3", "a/10 x", "a/x", "b/1", "²"]


def test_a_walk_yields_the_music_of_each_real_folder_once(tmp_path, monkeypatch):
    names = ("in/1.wav", "in/deep/2.flac", "in/deep/cover.jpg", "locked/3.wav", ".hidden/4.wav", "in/.5.wav")
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "in" / "up").symlink_to(tmp_path)
    (tmp_path / "loop.wav").symlink_to("loop.wav")
    real = os.scandir

    def scandir(path):
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    roots = [f"{tmp_path}/in", f"{tmp_path}/none", "/x\0y"]
    found = sorted(sorted(os.path.basename(path) for path in files) for files in walk(roots))
    assert found == [[], ["1.wav"], ["2.flac"], ["loop.wav"]], "the folder that cannot be read is there, and empty"
    folders, files = look_into(f"{tmp_path}/in")
    assert (sorted(folders), files) == ([f"{tmp_path}/in/deep", f"{tmp_path}/in/up"], [f"{tmp_path}/in/1.wav"])


def test_links_in_a_circle_end(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "1.wav").touch()
    (tmp_path / "a" / "b" / "up").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "a" / "self").symlink_to(tmp_path / "a", target_is_directory=True)
    (tmp_path / "a" / "dead.wav").symlink_to(tmp_path / "nowhere")
    assert len([path for path in find_tracks(tmp_path) if path.name == "1.wav"]) == 1


def test_folders_without_music_or_with_too_much_are_refused(tmp_path, monkeypatch):
    (tmp_path / "readme.txt").touch()
    with pytest.raises(MediaError, match="no music in") as error:
        find_tracks(tmp_path)
    assert ".flac" in line(error)
    with pytest.raises(MediaError, match="there is no"):
        find_tracks(tmp_path / "nothing")
    monkeypatch.setattr(module, "MAX_FOLDER_TRACKS", 3)
    for number in range(4):
        (tmp_path / f"{number}.wav").touch()
    with pytest.raises(MediaError, match="more than 3 tracks"):
        find_tracks(tmp_path)
    monkeypatch.setattr(module, "MAX_FOLDERS", 2)
    (tmp_path / "a" / "b" / "c").mkdir(parents=True)
    with pytest.raises(MediaError, match="more than"):
        find_tracks(tmp_path)
    (tmp_path / "a" / "b" / "1.wav").touch()
    with pytest.raises(MediaError, match="more than 2 folders"):
        find_tracks(tmp_path / "a")
    (tmp_path / "a" / "b" / "c").rmdir()
    assert find_tracks(tmp_path / "a") == [tmp_path / "a" / "b" / "1.wav"]


def test_a_file_that_grows_while_it_is_hashed_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "growing.wav"
    path.write_bytes(bytes(100))
    original = os.fstat

    def grow(fd):
        status = original(fd)
        with open(path, "ab") as file:
            file.write(b"more")
        return status

    monkeypatch.setattr(os, "fstat", grow)
    with pytest.raises(MediaError, match="is being written to"):
        content_id(path)


def test_a_missing_library_is_said_in_one_line(music, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "soundfile", None)
    with pytest.raises(MediaError, match="libsndfile cannot be loaded"):
        inspect(music["wav"])
