"""A host and its speakers, heard: in step, whatever is done to them. The tests follow each other in one house."""

from __future__ import annotations

import signal
import time

import numpy as np
import pytest
from house import FINE, SECONDS_OF_QUIET, STOPS_WITHIN_S, apart_us, line_s, on_line, part, sounding

MOST_US = 1000.0
"""Speakers further apart than a millisecond begin to be heard as two. A slow machine keeps it, too."""

USUAL_US = 200.0


@pytest.fixture(scope="module")
def began(house, songs):
    """Both speakers play the first song; when they were started."""
    began = time.time()
    house.host(str(songs["first"][0]), str(songs["second"][0]))
    house.peer("left", ppm=60.0)
    house.peer("right", ppm=-40.0)
    house.together("left", "right")
    return began


@pytest.fixture
def first_song(house, began):
    """The first song from its third second on, whatever the test before has left."""
    house.jump(1)
    house.call("seek", "0:02")
    time.sleep(1.0)


def in_step(house, source, since, until, *names):
    """Assert that once the speakers were heard, they were without a gap and in step; return what the first one did."""
    tracks = [house.heard(name, source, since, until) for name in names]
    for track in tracks:
        assert not np.isnan(track[track[:, 0] >= sounding(track)[0, 0], 1]).any(), "silent windows"
        apart = np.abs(apart_us(tracks[0], track))
        assert len(apart) >= 7
        assert np.percentile(apart, 99) <= MOST_US
    return tracks[0]


def test_two_speakers_with_different_crystals_sound_as_one(house, songs, began):
    source = songs["first"][1]
    until = time.time() + 7.0
    left, right = (house.heard(name, source, began, until) for name in ("left", "right"))
    for track in (left, right):
        after_first = track[track[:, 0] >= sounding(track)[0, 0]]
        assert not np.isnan(after_first[:, 1]).any(), "silent windows"
    first = max(sounding(track)[0, 0] for track in (left, right))
    apart = np.abs(apart_us(left[left[:, 0] > first], right))
    assert np.percentile(apart, 99) <= MOST_US
    settled = np.abs(apart_us(left[left[:, 0] > first + SECONDS_OF_QUIET], right))
    assert len(settled) >= 20
    assert np.median(settled) <= USUAL_US


def test_status_says_what_was_heard(house, songs, began):
    status = house.status()
    left = house.speaker("left")
    assert abs(left["sync_error_us"]) <= MOST_US
    assert left["reach"] == "multicast"
    assert left["underruns"] >= 0
    assert -45.0 < left["card_ppm"] - house.speaker("right")["card_ppm"] - 100.0 < 45.0
    assert status["rooms"][0]["mode"] == "playing"
    now = time.time()
    said_s = house.room()["position_s"]
    line = line_s(house.heard("left", songs["first"][1], now - 1.0, now))
    assert said_s == pytest.approx(now - line, abs=0.25)


def test_a_late_speaker_is_in_phase_from_its_first_sound(house, songs, began):
    started = time.time()
    house.peer("late", ppm=25.0)
    until = house.together("late") + 1.5
    late, left = (house.heard(name, songs["first"][1], started, until) for name in ("late", "left"))
    apart = np.abs(apart_us(late, left))
    assert len(apart) >= 10
    assert apart.max() <= MOST_US


def test_pause_and_resume_are_the_same_sample_everywhere(house, songs, first_song):
    source = part(songs["first"][1], 20.0)
    since = time.time()
    assert "paused at" in house.call("pause")
    until = time.time() + 0.8
    tracks = [house.heard(name, source, since, until, **FINE) for name in ("left", "right")]
    ends = [on_line(track)[-1] for track in tracks]
    assert all(end[0] < until - 0.3 for end in ends), "it still sounds"
    assert abs(ends[0][0] - ends[1][0]) <= 0.02
    assert abs(ends[0][1] - ends[1][1]) <= 0.02
    paused_s = house.room()["position_s"]
    assert ends[0][1] == pytest.approx(paused_s, abs=0.06)
    assert house.room()["mode"] == "paused"

    since = time.time()
    assert "playing" in house.call("resume")
    until = time.time() + 1.5
    left = in_step(house, source, since, until, "left", "right")
    assert sounding(left)[0, 1] == pytest.approx(paused_s, abs=0.25)


def test_seek_moves_every_speaker_at_once(house, songs, first_song):
    source = songs["first"][1]
    since = time.time()
    assert "at 0:20" in house.call("seek", "50%")
    until = time.time() + 2.5
    changes = []
    for name in ("left", "right"):
        first = on_line(house.heard(name, source, since, until, **FINE))[0]
        assert first[1] == pytest.approx(20.0, abs=0.1)
        changes.append(first[0])
    assert abs(changes[0] - changes[1]) <= 0.02
    in_step(house, source, until - 2.0, until, "left", "right", "late")


def test_next_plays_the_next_track_in_step(house, songs, first_song):
    second = part(songs["second"][1], 10.0)
    since = time.time()
    assert "second" in house.call("next")
    until = time.time() + 2.0
    assert on_line(house.heard("left", second, since, until, **FINE))[0, 1] <= 0.05, "its start is missing"
    in_step(house, second, until - 1.0, until, "left", "right", "late")
    assert house.room()["queue_position"] == 2
    house.call("previous")  # To the start of this track, where more than three seconds of it have sounded.
    assert "first" in house.call("previous")
    assert house.room()["position_s"] < 2.0
    until = time.time() + 1.5
    in_step(house, part(songs["first"][1], 20.0), until - 1.0, until, "left", "right")


def test_a_killed_host_comes_back_on_the_same_line(house, songs, first_song):
    source = part(songs["first"][1], 30.0)
    queue = house.queue()
    since = time.time()
    time.sleep(1.0)
    house.started[0].stop(signal.SIGKILL)
    killed = time.time()
    time.sleep(1.0)
    assert house.started[0].process.returncode == -signal.SIGKILL
    again = house.host().process
    epoch = house.status()["host"]["epoch"]
    house.together("left", "right", "late")
    until = time.time() + 2.0
    assert again.poll() is None
    assert epoch >= 2
    assert house.queue() == queue == ["first.flac", "second.flac"]
    left = house.heard("left", source, since, until)
    assert not np.isnan(left[:, 1]).any(), "the music stopped"
    before, after = left[left[:, 0] < killed], left[left[:, 0] > until - 1.5]
    assert line_s(after) == pytest.approx(line_s(before), abs=1e-3)
    in_step(house, source, since, until, "left", "right", "late")


def test_a_killed_speaker_joins_again_in_phase(house, songs, first_song):
    right = next(one for one in house.started if one.name == "right")
    right.stop(signal.SIGKILL)
    since = time.time()
    house.peer("right", ppm=-40.0)
    until = house.together("right") + 1.5
    right, left = (house.heard(name, songs["first"][1], since, until) for name in ("right", "left"))
    apart = np.abs(apart_us(right, left))
    assert len(apart) >= 8
    assert apart.max() <= MOST_US
    assert not np.isnan(left[:, 1]).any(), "the other one was disturbed"
    assert len([one for one in house.status()["peers"] if one["name"] == "right"]) == 1


def test_a_stopped_host_falls_silent_and_comes_back_as_it_was_left(house, songs, first_song):
    source = part(songs["first"][1], 30.0)
    since = time.time()
    host = [one for one in house.started if one.name == "host"][-1]
    code, took_s = host.stop(signal.SIGTERM)
    until = time.time() + 1.0
    assert (code, took_s <= STOPS_WITHIN_S) == (0, True), took_s
    ends = [on_line(house.heard(name, source, since, until, **FINE))[-1] for name in ("left", "right")]
    assert all(end[0] < until - 0.5 for end in ends), "it still sounds"

    since = time.time()
    house.host()
    assert house.room()["mode"] == "playing"
    house.together("left", "right")
    until = time.time() + 1.5
    left = in_step(house, source, until - 1.5, until, "left", "right")
    first = sounding(house.heard("left", source, since, until))[0]
    assert ends[0][1] - 1.0 <= first[1] <= ends[0][1] + (first[0] - since) + 0.1
    assert len(left)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_speaker_leaves_at_once_and_is_away(house, began, number):
    name = {signal.SIGTERM: "late", signal.SIGINT: "right"}[number]
    speaker = [one for one in house.started if one.name == name][-1]
    code, took_s = speaker.stop(number)
    assert (code, took_s <= STOPS_WITHIN_S) == (0, True), took_s
    assert "Traceback" not in speaker.log.read_text()
    house.until("it is away", lambda: house.speaker(name)["reach"] == "away", 2.0)


def test_ctrl_c_stops_the_host_with_0(house, began):
    host = [one for one in house.started if one.name == "host"][-1]
    code, took_s = host.stop(signal.SIGINT)
    assert (code, took_s <= STOPS_WITHIN_S) == (0, True), took_s
    assert "Traceback" not in host.log.read_text()
