"""A real host with a library of files, good and bad: scanned, searched, played by name, and kept over a restart."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
from house import STOPS_WITHIN_S, House

RATE_HZ = 8_000
SECONDS = 30.0


@pytest.fixture(scope="module")
def home():
    made = House(Path("no speaker is in this house, and no card"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def music(home):
    """A library as people have them, and worse."""
    folder = home.folder / "music"
    for number, title in enumerate(("So What", "Freddie Freeloader", "Blue in Green"), 1):
        write_track(
            folder / "Miles Davis" / "Kind of Blue" / f"{number}.flac", number, title, "Miles Davis", "Kind of Blue"
        )
    write_track(folder / "Öde" / "1.flac", 1, "Été", "Öde", "Blue")
    write_track(folder / "Joni" / "1.flac", 1, "Carey", "Joni Mitchell", "Blue")
    write_track(folder / "x.flac", 1, "Nameless", "Nobody", "")
    (folder / "x.flac").rename(folder / os.fsdecode(b"caf\xe9\nnoir.flac"))
    (folder / "zero.flac").touch()
    (folder / "text.mp3").write_text("no music at all")
    (folder / "Joni" / "loop").symlink_to(folder)
    (folder / "itself").symlink_to("itself")
    (folder / "radio.m3u").write_text("Joni/1.flac\nhttp://radio.example/live.mp3\n../../../etc/passwd\n")
    return folder


def write_track(path, number, title, artist, album):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(len(title) + number).uniform(-0.1, 0.1, round(SECONDS * RATE_HZ))
    with soundfile.SoundFile(path, "w", RATE_HZ, 1) as file:
        file.title, file.artist, file.tracknumber = title, artist, str(number)
        if album:
            file.album = album
        file.write(noise)


def library(home):
    return json.loads(home.call("library", "--json"))


def started(home, music):
    """Start the host, and return it when it has looked through its library."""
    host = home.host("--library", str(music))
    home.until("the library is known", lambda: library(home)["scan"]["looked_s_ago"] is not None)
    return host


def refused(home, *words):
    done = home.run(*words, *home.network, "--state-dir", str(home.state))
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    return done.stderr


def test_a_library_of_good_and_bad_files_is_scanned(home, music):
    started(home, music)
    known = library(home)
    assert (known["tracks"], known["albums"], known["refused_count"]) == (6, 3, 2)
    assert [Path(line.split(" is ")[0]).name for line in known["refused"]] == ["text.mp3", "zero.flac"]
    said = home.call("library")
    assert "6 tracks, 3 albums, 4 artists" in said
    assert "up to date" in said


def test_what_is_found_is_played_by_its_number(home, music):
    (found,) = json.loads(home.call("search", "ETE", "--json"))["tracks"]
    assert (found["title"], found["artist"], found["album"]) == ("Été", "Öde", "Blue")
    assert "Été" in home.call("search", "ode", "blu")
    assert "Été" in home.call("play", found["id"])
    home.until("it plays", lambda: home.room()["mode"] == "playing")
    assert home.room()["track"]["title"] == "Été"


def test_what_has_a_name_is_played_and_added(home, music):
    home.call("queue", "clear")
    assert "3 tracks" in home.call("queue", "add", "--album", "kind of blue")
    assert home.queue() == ["1.flac", "2.flac", "3.flac"]
    home.call("queue", "clear")
    for pick, count in (
        (("--artist", "joni"), 1),
        (("--folder", "kind of blue"), 3),
        (("--search", "freeloa"), 1),
        (("--album", "blue", "--artist", "öde"), 1),
    ):
        home.call("queue", "add", *pick)
        assert len(home.queue()) == count, pick
        home.call("queue", "clear")


def test_what_a_name_does_not_say_is_refused_in_one_line(home, music):
    assert "2 albums are called 'blue'" in refused(home, "play", "--album", "blue")
    assert "has the words 'xyzzy'" in refused(home, "play", "--search", "xyzzy")
    assert home.queue() == []


def test_a_playlist_plays_what_is_in_the_library_and_says_what_is_not(home, music):
    said = home.call("queue", "add", "--playlist", str(music / "radio.m3u"))
    assert home.queue() == ["1.flac"]
    assert "radio.example" in said
    assert "etc/passwd" in said
    assert "outside" in said or "no such file" in said


def test_a_name_that_is_no_utf8_is_played_and_listed(home, music):
    home.call("queue", "clear")
    assert "Nameless" in home.call("play", "--search", "nameless")
    (entry,) = json.loads(home.run("queue", "--json", *home.network, "--state-dir", str(home.state)).stdout)["entries"]
    assert entry["title"] == "Nameless"
    assert entry["fault"] == ""


def test_a_second_start_reads_only_what_is_new_and_the_end_is_prompt(home, music):
    code, took_s = home.started[0].stop()
    assert (code, took_s < STOPS_WITHIN_S) == (0, True)
    write_track(music / "new.flac", 1, "New", "Somebody", "")
    (music / "Öde" / "1.flac").unlink()
    host = started(home, music)
    assert "1 new or changed, 1 gone" in host.log.read_text()
    assert "New" in home.call("search", "new")
    assert home.call("search", "ete") == "nothing found\n"


def test_an_index_of_no_use_is_built_anew(home, music):
    home.started[-1].stop()
    index = home.state / "host" / "library.sqlite3"
    index.write_bytes(b"no database " * 1000)
    host = started(home, music)
    assert "set aside and built anew" in host.log.read_text()
    assert library(home)["tracks"] == 6
    assert index.with_name("library.sqlite3.broken").exists()
