"""Files of the kinds that people have, one after the other: MP3, WAV of another rate, FLAC, and broken ones."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import truth
from house import FINE, RATE_HZ, apart_us, line_s, need, on_line, part

ASC_MUSIC = Path("/usr/share/games/asc/music")
WAV_S = 8.0


@pytest.fixture(scope="module")
def mp3():
    """A real piece of music, with its seconds 5 to 10 as the cards should sound them: beyond, it repeats itself."""
    path = ASC_MUSIC / "frontiers.mp3"
    need(path.exists(), "Debian's package asc-music")
    with soundfile.SoundFile(path) as file:
        samples = file.read(10 * file.samplerate)[5 * file.samplerate :].mean(axis=1)
        return path, truth.regrid(samples, file.samplerate, RATE_HZ)


@pytest.fixture(scope="module")
def wav(songs, tmp_path_factory):
    """The second song's beginning as a WAV file of 44.1 kHz and one channel."""
    samples = truth.regrid(songs["second"][1][: int((WAV_S + 1) * RATE_HZ)], RATE_HZ, 44_100)[: int(WAV_S * 44_100)]
    path = tmp_path_factory.mktemp("wav") / "mono.wav"
    soundfile.write(path, samples, 44_100, subtype="PCM_16")
    return path, truth.regrid(soundfile.read(path)[0], 44_100, RATE_HZ)


@pytest.fixture(scope="module")
def both(house, mp3, wav, songs):
    """Two speakers that play the MP3, with the other two behind it."""
    house.host(str(mp3[0]), str(wav[0]), str(songs["first"][0]))
    house.peer("left", ppm=60.0)
    house.peer("right", ppm=-40.0)
    house.together("left", "right")
    return ("left", "right")


def heard_alike(house, both, source, since, until):
    """Assert that both speakers sound a source in step, and return what the first one did."""
    left, right = (house.heard(name, source, since, until) for name in both)
    apart = np.abs(apart_us(left, right))
    assert len(apart) >= 5 * (until - since)
    assert np.percentile(apart, 99) <= 1000.0
    return left


def test_an_mp3_plays_in_step_and_from_its_true_start(house, both, mp3):
    house.call("seek", "0:05")
    time.sleep(1.0)
    said_s, now = house.room()["position_s"], time.time()
    left = heard_alike(house, both, mp3[1], now, now + 2.0)
    assert np.ptp(on_line(left)[:, 0] - on_line(left)[:, 1]) <= 1e-3
    assert now - line_s(left) + 5.0 == pytest.approx(said_s, abs=0.1)


def test_next_goes_from_the_mp3_to_the_mono_wav_of_another_rate(house, both, wav):
    since = time.time()
    assert "mono" in house.call("next")
    until = time.time() + 2.0
    heard_alike(house, both, wav[1], until - 1.5, until)
    assert on_line(house.heard("left", wav[1], since, until, **FINE))[0, 1] <= 0.05, "its start is missing"
    assert house.room()["track"]["rate_hz"] == 44_100
    assert house.room()["track"]["channels"] == 1


def test_one_track_follows_the_other_without_a_gap(house, both, wav, songs):
    house.call("seek", "0:05")
    since = time.time() + 0.5
    until = house.until("the FLAC plays", lambda: house.room()["queue_position"] == 3) + 1.5
    first = part(songs["first"][1], 8.0)
    for name in both:
        wav_line, flac_line = (line_s(house.heard(name, source, since, until)) for source in (wav[1], first))
        assert flac_line - wav_line == pytest.approx(WAV_S, abs=1e-3)


def test_the_queue_ends_in_silence(house, both):
    assert "end" in house.call("next")
    assert house.room()["mode"] == "stopped"
    time.sleep(0.7)
    since = time.time()
    for name in both:
        assert house.level_db(name, since, since + 0.3) < -100.0


def test_a_track_that_vanished_is_passed_over_and_status_says_so(house, both, songs):
    folder = house.folder / "copies"
    folder.mkdir()
    names = [folder / f"{number}.flac" for number in range(1, 8)]
    for number, name in enumerate(names):
        # Different bytes each: one content in many files would be known already.
        shutil.copy(songs["second" if number % 2 else "first"][0], name)
        with name.open("ab") as file:
            file.write(bytes(number + 1))
    house.call("queue", "clear")
    house.call("queue", "add", *map(str, names))
    names[5].unlink()
    house.call("play")
    for _ in range(5):
        house.call("next")
    house.until("it was passed over", lambda: house.room()["track"]["title"] in ("7", "first", "second"))
    assert house.room()["queue_position"] == 7
    assert house.room()["fault"] == f"there is no {names[5]}: check the path"
    assert str(names[5]) in house.call("status")
    house.together(*both)
    now = time.time()
    heard_alike(house, both, part(songs["first"][1], 10.0), now, now + 1.0)


def test_a_track_that_was_cut_off_plays_as_far_as_it_goes(house, both, songs):
    whole = songs["first"][0].read_bytes()
    cut = house.folder / "cut.flac"
    cut.write_bytes(whole[: len(whole) // 4])
    house.call("queue", "clear")
    house.call("play", str(cut))
    house.together(*both)
    now = time.time()
    heard_alike(house, both, part(songs["first"][1], 10.0), now, now + 1.0)
    house.call("seek", "0:20")
    house.until("a speaker says what is wrong", lambda: all(house.speaker(name)["fault"] for name in both))
    since = time.time() + 0.5
    for name in both:
        assert house.level_db(name, since, since + 0.3) < -100.0
    house.call("play", str(songs["second"][0]))
    house.together(*both)
    now = time.time()
    heard_alike(house, both, part(songs["second"][1], 10.0), now, now + 1.0)
