"""Levels, delays and rooms, as the cards heard them. The tests follow each other in one house."""

from __future__ import annotations

import time

import numpy as np
import pytest
from house import RATE_HZ, apart_us, line_s, part, sounding


@pytest.fixture(scope="module")
def both(house, songs):
    """Two speakers in one room, playing the first song."""
    house.host(str(songs["first"][0]))
    house.peer("left", ppm=35.0)
    house.peer("right", ppm=-20.0)
    house.together("left", "right")
    time.sleep(0.5)
    return ("left", "right")


def gain_db(house, name, source, seconds=0.8):
    """Return how much louder than the source a card sounds from now on."""
    since = time.time() + 0.1
    until = since + seconds
    rows = sounding(house.heard(name, source, since, until))
    first, last = (round(row[1] * RATE_HZ) for row in rows[[0, -1]])
    heard_db = house.level_db(name, rows[0, 0], rows[-1, 0])
    return heard_db - 10 * np.log10(np.mean(source[first:last] ** 2))


def test_full_volume_is_the_track_as_it_is(house, songs, both):
    assert gain_db(house, "left", songs["first"][1]) == pytest.approx(0.0, abs=0.3)


def test_a_speakers_volume_is_its_own_share_of_the_rooms(house, songs, both):
    source = songs["first"][1]
    assert house.call("volume", "left", "50") == "left: volume 50\n"
    time.sleep(0.5)
    assert gain_db(house, "left", source) == pytest.approx(-18.06, abs=0.4)
    assert gain_db(house, "right", source) == pytest.approx(0.0, abs=0.4)
    house.call("volume", "80")
    time.sleep(0.5)
    assert gain_db(house, "left", source) == pytest.approx(-18.06 - 5.81, abs=0.4)
    assert gain_db(house, "right", source) == pytest.approx(-5.81, abs=0.4)
    house.call("volume", "left", "+50")
    house.call("volume", "100")
    assert house.speaker("left")["volume"] == house.room()["volume"] == 100


def test_a_muted_speaker_is_silent_and_stays_in_step(house, songs, both):
    house.call("mute", "left")
    time.sleep(0.5)
    since = time.time()
    assert house.level_db("left", since, since + 0.5) < -100.0
    assert house.level_db("right", since, since + 0.5) > -60.0
    house.call("unmute", "left")
    time.sleep(0.5)
    since = time.time()
    until = since + 1.0
    left, right = (house.heard(name, songs["first"][1], since, until) for name in both)
    assert np.abs(apart_us(left, right)).max() <= 1000.0


def test_a_delay_feeds_a_speaker_earlier(house, songs, both):
    house.call("delay", "left", "20")
    time.sleep(1.5)
    until = time.time() + 1.0
    left, right = (house.heard(name, songs["first"][1], until - 1.0, until) for name in both)
    assert apart_us(left, right) == pytest.approx(20_000, abs=1000.0)
    house.call("delay", "left", "0")


def test_two_rooms_play_two_tracks_and_a_speaker_moves_between_them(house, songs, both):
    first, second = songs["first"][1], part(songs["second"][1], 20.0)
    house.call("rooms", "make", "kitchen")
    house.call("play", str(songs["second"][0]), "--room", "kitchen")
    line = time.time()  # About when the second song began, in a room where nobody hears it yet.
    house.call("rooms", "move", "right", "kitchen")
    house.until("right is there", lambda: house.speaker("right")["room"] == "kitchen")
    house.together("right")
    time.sleep(1.0)
    until = time.time() + 1.0
    right = house.heard("right", second, until - 1.0, until)
    left = house.heard("left", first, until - 1.0, until)
    assert not np.isnan(right[:, 1]).any()
    assert not np.isnan(left[:, 1]).any()
    assert line_s(right) == pytest.approx(line, abs=1.0)
    assert [room["mode"] for room in house.status()["rooms"]] == ["playing", "playing"]

    house.call("pause", "--room", "kitchen")
    time.sleep(0.7)
    since = time.time()
    assert house.level_db("right", since, since + 0.3) < -100.0
    assert house.level_db("left", since, since + 0.3) > -60.0

    house.call("rooms", "remove", "kitchen")
    assert house.speaker("right")["room"] == "main"
    house.together("right")
    time.sleep(1.0)
    until = time.time() + 1.0
    left, right = (house.heard(name, first, until - 1.0, until) for name in both)
    assert np.abs(apart_us(left, right)).max() <= 1000.0
