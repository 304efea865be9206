"""A network and a host that fail: speakers play on in step with what they have, and keep to the host that is theirs.

The outages are of real processes that are killed; the sound is read from the cards. Networks of their own, where a
test needs more than loopback, are those of ``test_e2e_network.py``.
"""

from __future__ import annotations

import signal
import time

import measure
import numpy as np
import pytest
from house import RATE_HZ, SECONDS_OF_QUIET, apart_us, line_s, sounding
from test_e2e_network import HOST, OTHER, PEER, Lan, as_root, followed, give  # noqa: F401 - as_root is a fixture
from test_e2e_playing import MOST_US, in_step

from musicsyncd.config import NetworkConfig
from musicsyncd.errors import MusicSyncError
from musicsyncd.paths import Paths
from musicsyncd.system.control_client import ControlClient

OUTAGE_S = 20.0

STEP_S = 1e-3
"""By how much the music may have moved against true time over an outage: all have one clock here, wrong by nothing."""

SHORT_S = (10.0, 8.0)
"""Of the tracks that are played to their end without a host."""

FOUND_AGAIN_S = 5.0
"""Until speakers are heard of again by a host that has another address."""

BOTH = ("left", "right")


@pytest.fixture(scope="module")
def playing(house, songs):
    """A host, and two speakers that play the first song."""
    house.host(str(songs["first"][0]), str(songs["second"][0]))
    house.peer("left", ppm=60.0)
    house.peer("right", ppm=-40.0)
    house.together(*BOTH)
    time.sleep(SECONDS_OF_QUIET)


def kill_host(house: Lan) -> None:
    """Kill the host that was started last."""
    [one for one in house.started if one.name == HOST][-1].stop(signal.SIGKILL)


def moved_s(rows: np.ndarray) -> float:
    """Return by how much a source's line moved, once it was heard, in seconds."""
    heard = sounding(rows)
    return float(np.ptp(heard[:, 0] - heard[:, 1]))


def test_speakers_play_on_in_step_through_an_outage_and_the_host_comes_back_without_a_step(house, songs, playing):
    house.call("seek", "0:01")
    time.sleep(1.0)
    since = time.time()
    time.sleep(1.0)
    kill_host(house)
    time.sleep(OUTAGE_S)
    house.host()
    house.together(*BOTH)
    until = time.time() + 2.0
    left = in_step(house, songs["first"][1], since, until, *BOTH)
    right = house.heard("right", songs["first"][1], since, until)
    assert len(sounding(left)) > 10 * (OUTAGE_S + 2.0)
    for rows in (left, right):
        assert sounding(rows)[0, 0] < since + 0.2
        assert moved_s(rows) <= STEP_S
    assert np.abs(apart_us(left, right)).max() <= MOST_US
    assert house.room()["mode"] == "playing"
    assert house.room()["queue_position"] == 1


def test_without_a_host_the_queued_next_track_is_played_to_its_end(house, songs, playing):
    folder = house.folder / "short"
    folder.mkdir()
    paths = [folder / f"{seconds:g}.flac" for seconds in SHORT_S]
    parts = [
        measure.source(str(path), RATE_HZ, s, 11 + i) for i, (path, s) in enumerate(zip(paths, SHORT_S, strict=True))
    ]
    source = np.concatenate(parts)
    house.call("queue", "clear")
    house.call("play", *map(str, paths))
    house.together(*BOTH)
    since = time.time() + 1.0
    time.sleep(1.5)
    kill_host(house)
    began = line_s(house.heard("left", source, since, since + 1.0))
    ends = began + sum(SHORT_S)
    time.sleep(max(0.0, ends - time.time()))
    for name in BOTH:
        # Windows that the end cuts through hold too little of the source to be told from silence.
        heard = house.heard(name, source, since, ends - 0.1)
        assert not np.isnan(heard[:, 1]).any(), "silent windows"
        assert moved_s(heard) <= STEP_S
        assert sounding(heard)[-1, 1] > sum(SHORT_S) - 0.4
        assert house.level_db(name, ends + 0.3, ends + 1.3) < -100.0
    in_step(house, source, since, ends - 0.1, *BOTH)
    house.host()
    house.until("the speakers are back", lambda: all(house.speaker(name).get("reach") == "multicast" for name in BOTH))
    assert house.room()["mode"] == "stopped", "the queue was over while the host was away"


def test_of_two_speakers_with_one_name_commands_want_the_id(house, playing):
    for folder in ("one", "two"):
        own = ("--state-dir", str(house.folder / folder), "--key-file", str(house.key))
        house.start("twin", "peer", "--name", "twin", "--output", "null", *own)

    def twins() -> list[dict[str, object]]:
        return [one for one in house.status()["peers"] if one["name"] == "twin" and one["reach"] != "away"]

    house.until("both are there", lambda: len(twins()) == 2)
    first, second = (str(one["id"]) for one in twins())
    assert first != second
    refused = house.run("volume", "twin", "40", *house.network, "--state-dir", str(house.state))
    assert refused.returncode == 1
    assert refused.stderr.count("\n") == 1
    assert first in refused.stderr
    assert second in refused.stderr
    assert [one["volume"] for one in twins()] == [100, 100]
    house.call("volume", second, "40")
    assert {one["id"]: one["volume"] for one in twins()} == {first: 100, second: 40}


def test_status_tells_two_speakers_with_one_name_apart(house, playing):
    ids = [str(one["id"]) for one in house.status()["peers"] if one["name"] == "twin"]
    shown = house.call("status")
    assert len(ids) == 2
    assert all(one in shown for one in ids), "who is to name a speaker by its id has to see which is which"


@pytest.fixture
def lan(card, as_root):  # noqa: F811 - the fixture that is imported
    made = Lan(HOST, PEER, OTHER, "host2")
    made.card = card
    for number, machine in enumerate((HOST, PEER, OTHER, "host2"), 1):
        # With IPv6 there would be a second way to everybody, which no address changes.
        made.set(machine, "net.ipv6.conf.eth0.disable_ipv6", "1")
        give(made, machine, number)
    yield made
    for name, text in made.logs():
        print(f"-- {name}\n{text}")
    made.close()


def second_host(lan: Lan, *words: str) -> ControlClient:
    """Start another host, whose room is called as that of the first one; return what talks to it."""
    paths = Paths.find({}, state_dir=lan.folder / "host2")
    lan.start("host2", "host", "--name", "host2", "--state-dir", str(paths.state_dir), *words)
    client = ControlClient(NetworkConfig(lan.port, mdns=False), paths, other_sockets=())

    def answers() -> bool:
        try:
            return bool(client.get("/api/status"))
        except MusicSyncError:
            return False

    lan.until("the second host answers", answers)
    return client


def test_of_two_hosts_with_one_room_name_each_speaker_keeps_its_own(lan, songs):
    lan.host(str(songs["first"][0]))
    other = second_host(lan, str(songs["second"][0]))
    lan.peer(PEER)
    right = lan.peer(OTHER, "--key-file", str(lan.folder / "host2" / "room.key"))

    def of_other() -> dict[str, str]:
        return {one["name"]: one["state"] for one in other.get("/api/status")["peers"]}

    lan.together(PEER)
    lan.until("the other speaker is together", lambda: of_other() == {OTHER: "together"})
    assert [one["name"] for one in lan.status()["peers"]] == [PEER]
    assert lan.room()["name"] == other.get("/api/status")["rooms"][0]["name"]
    strangers = [{"name": "", "address": f"10.66.0.{number}", "rooms": [], "has_our_key": False} for number in (4, 1)]
    assert [one.get("/api/status")["host"]["others"] for one in (lan.client, other)] == [[one] for one in strangers]
    assert "a host with another key is on this LAN (10.66.0.4)" in lan.call("status")
    since = time.time() + 0.5
    kill_host(lan)
    # As long as it takes until a host counts as away, and then some: nobody must move to the one that is left.
    time.sleep(8.0)
    until = time.time()
    for name, song in ((PEER, "first"), (OTHER, "second")):
        assert not np.isnan(lan.heard(name, songs[song][1], since, until)[:, 1]).any(), "silent, or another song"
    assert of_other() == {OTHER: "together"}
    assert followed(right) == ["10.66.0.4"]
    lan.host()
    lan.together(PEER)
    assert [one["name"] for one in lan.status()["peers"]] == [PEER]
    assert of_other() == {OTHER: "together"}


def test_two_hosts_with_one_key_show_each_other_and_a_command_wants_to_know_which(lan):
    lan.host()
    other = second_host(lan, "--key-file", str(lan.key))
    fellows = [
        {"name": name, "address": f"10.66.0.{number}", "rooms": ["main"], "has_our_key": True}
        for name, number in (("host2", 4), ("host", 1))
    ]

    def shown() -> list[list[object]]:
        return [one.get("/api/status")["host"]["others"] for one in (lan.client, other)]

    lan.until("each shows the other", lambda: shown() == [[one] for one in fellows])
    assert "another host of this key, “host2” (10.66.0.4), has a room “main”, too" in lan.call("status")
    refused = str(lan.asked_from(PEER, "status")["error"])
    assert refused.startswith("musicsyncd: two hosts answer, ")
    assert refused.count("\n") == 1
    assert all(one in refused for one in ("host (10.66.0.1)", "host2 (10.66.0.4)", "--host"))
    for number, name in ((1, "host"), (4, "host2")):
        assert lan.asked_from(PEER, "status", "--host", f"10.66.0.{number}")["host"]["name"] == name
    assert lan.started[-1].stop()[0] == 0
    lan.until("who said goodbye is not shown", lambda: lan.status()["host"]["others"] == [], 2.0)
    assert lan.asked_from(PEER, "status")["host"]["name"] == "host"


def test_a_host_with_another_address_is_found_again_in_time_and_the_music_goes_on(lan, songs):
    lan.host(str(songs["first"][0]))
    lan.peer(PEER, ppm=60.0)
    lan.peer(OTHER, ppm=-40.0)
    lan.together(PEER, OTHER)
    time.sleep(SECONDS_OF_QUIET)
    since = time.time()
    lan.on(HOST, "addr", "flush", "dev", "eth0")
    give(lan, HOST, 77)
    changed = time.monotonic()

    def heard_of(name: str) -> bool:
        # What was sent to the old address does not arrive: a report of now went to the new one.
        seen_s_ago = lan.speaker(name)["seen_s_ago"]
        return bool(seen_s_ago < time.monotonic() - changed - 1.0)

    time.sleep(1.2)
    lan.until("reports at the new address", lambda: all(map(heard_of, (PEER, OTHER))), FOUND_AGAIN_S - 1.2)
    lan.together(PEER, OTHER)
    until = time.time() + 1.0
    in_step(lan, songs["first"][1], since, until, PEER, OTHER)
    lan.call("play", str(songs["second"][0]))  # Which has to be fetched from there.
    lan.together(PEER, OTHER)
    time.sleep(1.0)
    now = time.time()
    in_step(lan, songs["second"][1], now, now + 1.5, PEER, OTHER)
