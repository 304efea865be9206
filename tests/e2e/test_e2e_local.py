"""What a speaker's machine knows by itself: its status while the host is away, and what the doctor finds there."""

from __future__ import annotations

import json
import signal

import pytest


def here(house, name, *words, **environment):
    """Run a command on a speaker's machine."""
    where = ("--state-dir", str(house.folder / name), "--key-file", str(house.key))
    return house.run(*words, *where, *house.network, **environment)


@pytest.fixture(scope="module")
def playing(house, songs):
    """A speaker that is in step with a host, and plays the whole of a track."""
    house.host(str(songs["first"][0]))
    house.peer("lamp", ppm=40.0)
    house.together("lamp")
    return house


def test_the_doctor_asks_the_speaker_that_has_the_card_and_finds_the_host(playing):
    done = here(playing, "lamp", "doctor", "--quick", "--json")
    assert done.stderr == ""
    found = {one["name"]: one for one in json.loads(done.stdout)["findings"]}
    assert found["sound card of lamp"]["verdict"] == "good"
    assert found["HTTP of the host"]["verdict"] == "good"
    assert found["way to the host"]["verdict"] in ("good", "advice"), found["way to the host"]
    assert found["key"]["verdict"] == "good"
    assert "the host is this machine" in found["multicast"]["line"]


def test_the_doctor_on_the_host_needs_no_card_and_looks_at_its_speakers(playing):
    done = playing.run("doctor", "--quick", "--json", "--state-dir", str(playing.state), *playing.network)
    found = {one["name"]: one for one in json.loads(done.stdout)["findings"]}
    assert found["port"]["line"].endswith("is the host's that runs here")
    assert found["sound card of lamp" if "sound card of lamp" in found else "sound card"]["verdict"] == "skipped"
    assert "speaker lamp" in found


def test_a_speaker_whose_host_was_killed_says_since_when_and_plays_on(playing):
    done = here(playing, "lamp", "status")
    assert done.returncode == 0, "while the host is there, it answers"
    assert done.stdout.startswith("host host")
    playing.started[0].stop(signal.SIGKILL)

    def away():
        told = here(playing, "lamp", "status", "--json")
        account = json.loads(told.stdout)["local_speakers"][0]
        return account if account["host"]["state"] == "away" else None

    playing.until("the speaker misses its host", away)
    account = away()
    assert account["host"]["name"] == "host"
    assert account["host"]["away_s"] < 60.0
    assert account["speaker"]["state"] == "together", "what it has of the track goes on"
    assert account["track"]["position_s"] > 0.0
    assert account["card"]["rate_hz"] == 48_000
    assert account["media"]["cache_bytes"] > 0
    done = here(playing, "lamp", "status")
    assert done.returncode == 1
    assert "what this machine's own speakers know" in done.stdout
    assert done.stderr.startswith("musicsyncd: ")
    assert "Traceback" not in done.stderr


def test_the_doctor_finds_the_rate_of_a_card_that_nobody_has(house):
    done = here(house, "nobody", "doctor", "--json", **house.card_for("spare", 60.0))
    found = {one["name"]: one for one in json.loads(done.stdout)["findings"]}
    assert found["sound card"]["verdict"] in ("good", "advice"), found
    said = found["sound card: rate"]["line"]
    ppm = float(said.partition("(")[2].partition(" ppm")[0])
    assert ppm == pytest.approx(60.0, abs=15.0), said
