"""The key of a room is changed while music plays: nobody hears it, everybody has it, and the old one is worth nothing.

The tests follow each other in one house. Its speakers have key files of their own, as on machines of their own.
"""

from __future__ import annotations

import signal
import time

import measure
import numpy as np
import pytest
from house import RATE_HZ, SECONDS_OF_QUIET, sounding
from test_e2e_keys import ask, join_code_of
from test_e2e_outage import BOTH, STEP_S, moved_s
from test_e2e_playing import in_step

from musicsyncd.paths import Paths
from musicsyncd.protocol.auth import RoomKeys, http_token
from musicsyncd.system.keyfile import load_coming_keys, load_host_keys, load_room_keys, parse_join_code

WITHIN_S = 30.0
"""A change takes 11 s where every speaker answers, and not half a minute on a machine that is busy."""

AFTER_CHANGE_S = 2.0
"""The music is listened to for so much longer."""

AWAY, BESIDE = "shed", "beside"
LAST_LINE = "to join again, with `musicsyncd key show` here and `musicsyncd key join` there: "


def key_of(house, name):
    return Paths.find({}, state_dir=house.folder / name).key_file


def own_peer(house, name, *words, **more):
    """Start a speaker that has its key in a file of its own."""
    return house.peer(name, "--key-file", str(key_of(house, name)), *words, **more)


def rotate(house):
    """Change the key as a person does; return the lines that were printed, and both keys."""
    before = load_room_keys(house.key)
    began = time.time()
    done = house.run("key", "rotate", "--state-dir", str(house.state))
    assert (done.returncode, done.stderr) == (0, "")
    assert time.time() - began <= WITHIN_S
    return done.stdout.splitlines(), before, load_room_keys(house.key)


@pytest.fixture(scope="module")
def room(house, songs):
    """A host, two speakers that play the first song, and one that has the key and is switched off."""
    house.host(str(songs["first"][0]), str(songs["second"][0]))
    code = join_code_of(house)
    own_peer(house, "left", ppm=60.0, MUSICSYNCD_JOIN=code)
    own_peer(house, "right", ppm=-40.0, MUSICSYNCD_JOIN=code)
    off = own_peer(house, AWAY, "--output", "null", MUSICSYNCD_JOIN=code)
    house.together(*BOTH, AWAY)
    off.stop()
    house.until(f"{AWAY} is away", lambda: house.speaker(AWAY)["reach"] == "away")
    time.sleep(SECONDS_OF_QUIET)
    return house


@pytest.fixture(scope="module")
def changed(room, songs) -> tuple[RoomKeys, RoomKeys, list[str], float, float]:
    """The key, changed: the old one and the new one, what was printed, and between which times it was."""
    room.call("seek", "0:01")
    time.sleep(1.0)
    since = time.time()
    lines, old, new = rotate(room)
    return old, new, lines, since, time.time() + AFTER_CHANGE_S


def test_it_is_said_how_it_ended_and_who_has_to_join_again(changed):
    old, new, lines, _, _ = changed
    assert old != new
    assert lines[-2:] == ["2 of 2 speakers have the new key; done", f"{LAST_LINE}{AWAY}"]


def test_nobody_heard_it(room, songs, changed):
    *_, since, until = changed
    left = in_step(room, songs["first"][1], since, until, *BOTH)
    for rows in (left, room.heard("right", songs["first"][1], since, until)):
        assert not np.isnan(rows[:, 1]).any(), "silent windows"
        assert len(sounding(rows)) > 9 * (until - since)
        assert moved_s(rows) <= STEP_S


def test_everybody_keeps_the_new_key(room, changed):
    old, new, *_ = changed
    assert load_host_keys(room.key).room_keys == new
    assert load_coming_keys(room.key) is None
    assert parse_join_code(join_code_of(room)) == new
    for name in BOTH:
        assert load_room_keys(key_of(room, name)) == new
        assert key_of(room, name).stat().st_mode & 0o777 == 0o600
    assert load_room_keys(key_of(room, AWAY)) == old
    keys = [line for path in (room.key, key_of(room, "left")) for line in path.read_text().split() if len(line) > 20]
    assert all(key not in text for key in keys for _, text in room.logs()), "a key in a log"


def test_the_old_keys_token_opens_nothing_any_more(room, changed):
    old, new, *_ = changed
    assert ask(room, "/api/status", token=http_token(old.room_key))[0] == 401
    assert ask(room, "/api/status", token=http_token(new.room_key))[0] == 200


def test_a_track_that_comes_after_it_is_fetched_with_the_new_token(room, changed):
    path = room.folder / "later.flac"
    later = measure.source(str(path), RATE_HZ, 12.0, 21)
    room.call("play", str(path))
    room.together(*BOTH)
    since = time.time() + 0.5
    in_step(room, later, since, since + 2.0, *BOTH)
    assert [room.speaker(name)["fault"] for name in BOTH] == ["", ""]


def test_who_was_switched_off_comes_in_with_the_new_code_and_not_with_the_old_key(room, changed):
    begins = room.status()["host"]["dropped"].get("key", 0)
    late = own_peer(room, AWAY, "--output", "null")
    room.until("its card plays", lambda: "playing on" in late.log.read_text().split("stopped")[-1])
    time.sleep(3.0)
    assert room.speaker(AWAY)["reach"] == "away"
    assert room.status()["host"]["dropped"]["key"] > begins, "it speaks, and nobody listens"
    late.stop()
    late = own_peer(room, AWAY, "--output", "null", MUSICSYNCD_JOIN=join_code_of(room))
    room.together(AWAY)
    late.stop()


def test_a_speaker_that_starts_anew_is_there_at_once(room, songs, changed):
    room.call("play", str(songs["second"][0]))
    [one for one in room.started if one.name == "left"][-1].stop()
    room.until("left is away", lambda: room.speaker("left")["reach"] == "away")
    since = time.time()
    own_peer(room, "left", ppm=60.0)
    room.together(*BOTH)
    time.sleep(SECONDS_OF_QUIET)
    assert time.time() - since < 15.0
    now = time.time()
    in_step(room, songs["second"][1], now, now + 2.0, *BOTH)


@pytest.mark.parametrize("after_s", [0.5, 8.0], ids=["before it speaks under the new key", "while it does"])
def test_a_host_that_is_killed_amid_a_change_ends_it_at_its_next_start(room, songs, changed, after_s):
    # On the host's machine, with its key and its folder.
    beside = room.start(BESIDE, "peer", "--name", BESIDE, "--output", "null", "--state-dir", str(room.state))
    room.call("play", str(songs["first"][0]))
    room.together(*BOTH, BESIDE)
    time.sleep(SECONDS_OF_QUIET)
    room.call("seek", "0:01")
    time.sleep(1.0)
    since, old = time.time(), load_room_keys(room.key)
    room.client.post("/api/key/rotate")
    time.sleep(after_s)
    [one for one in room.started if one.name == "host"][-1].stop(signal.SIGKILL)
    coming = load_coming_keys(room.key)
    assert coming is not None
    assert load_room_keys(room.key) == old
    room.host()
    assert room.client.get("/api/key")["rotating"]
    lines, _, new = rotate(room)  # It is under way: this looks on.
    until = time.time() + 1.0
    assert lines[-2] == "3 of 3 speakers have the new key; done"
    assert lines[-1].startswith(LAST_LINE)
    assert [load_room_keys(key_of(room, name)) for name in BOTH] == [new, new] == [coming.room_keys] * 2
    in_step(room, songs["first"][1], since, until, *BOTH)
    for name in BOTH:
        rows = room.heard(name, songs["first"][1], since, until)
        assert not np.isnan(rows[:, 1]).any(), "silent windows"
        assert moved_s(rows) <= STEP_S
    assert ask(room, "/api/status", token=http_token(old.room_key))[0] == 401
    room.call("play", str(songs["second"][0]))
    room.together(*BOTH, BESIDE)
    time.sleep(1.0)
    now = time.time()
    in_step(room, songs["second"][1], now, now + 1.0, *BOTH)
    beside.stop()
