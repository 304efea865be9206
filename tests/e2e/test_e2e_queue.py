"""A real host's queue: two halves that sound like the whole, and all that people do to a queue, over a kill -9."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import truth
from house import RATE_HZ, House, part

CUT_FRAME = round(5.0 * RATE_HZ) + 11
WHOLE_S = 10.0
SILENT_S = 60.0


@pytest.fixture(scope="module")
def home():
    made = House(Path("no card is in this house"))
    yield made
    made.close()


def recorded(home, tracks, until, within_s=30.0):
    """Play tracks on a speaker that writes a file until something is the case, and return what it sounded, in mono."""
    file = home.folder / "sounded.wav"
    home.call("play", *map(str, tracks))
    home.call("pause")
    home.call("seek", "0")
    peer = home.start(
        "writer", "peer", "--name", "writer", "--state-dir", str(home.folder / "writer"),
        "--key-file", str(home.key), "--output", f"file:{file}", "--rate", str(RATE_HZ),
    )  # fmt: skip
    home.until("the speaker is there", lambda: home.speaker("writer").get("clock", {}).get("uncertainty_us"))
    time.sleep(3.0)  # Its clock settles before the music begins.
    home.call("resume")
    home.until("it has played so far", until, within_s)
    time.sleep(1.0)
    peer.stop()
    samples = soundfile.read(file)[0].mean(axis=1)
    return [(0.0, RATE_HZ, samples, False)]


def test_two_halves_sound_like_the_whole(home, songs, tmp_path):
    """What is left when the whole is taken from what was heard is as little at the join as anywhere."""
    whole = part(songs["first"][1], WHOLE_S)
    halves = [tmp_path / "one.flac", tmp_path / "two.wav"]
    for path, samples in zip(halves, (whole[:CUT_FRAME], whole[CUT_FRAME:]), strict=True):
        soundfile.write(path, np.stack([samples, samples], 1), RATE_HZ, subtype="PCM_16")
    home.host()
    runs = recorded(home, halves, lambda: home.room()["mode"] == "stopped")
    heard = truth.track(runs, whole, RATE_HZ, hop=1200)
    sounding = heard[heard[:, 2] > 0.9]
    join_s = CUT_FRAME / RATE_HZ
    near = sounding[np.abs(sounding[:, 1] - join_s) < 0.3]
    assert len(near) >= 20
    assert np.ptp(near[:, 0] - near[:, 1]) * RATE_HZ < 1.0, "there is a gap, or frames are missing"
    left = truth.quality(runs, whole, RATE_HZ, near, RATE_HZ, every=1)
    assert len(left) == len(near)
    assert left[:, 1].min() > 60.0, "what is heard at the join is not the whole"
    others = sounding[(sounding[:, 1] > 2.0) & (sounding[:, 1] < join_s - 0.5)]
    elsewhere = truth.quality(runs, whole, RATE_HZ, others, RATE_HZ, every=4)
    assert left[:, 1].min() > elsewhere[:, 1].min() - 6.0


# -- what people do ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def names(home, tmp_path_factory):
    """Ten tracks in a queue, and their names."""
    folder = tmp_path_factory.mktemp("many")
    chance = np.random.default_rng(5)
    for number in range(10):
        soundfile.write(folder / f"{number}.wav", chance.uniform(-0.1, 0.1, round(SILENT_S * 8_000)), 8_000)
    home.call("queue", "clear")
    home.call("queue", "add", str(folder))
    return [f"{number}.wav" for number in range(10)]


def listed(home):
    return json.loads(home.call("queue", "--json"))


def refused(home, *words):
    done = home.run(*words, *home.network, "--state-dir", str(home.state))
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    return done.stderr


def killed_and_started_again(home):
    """End the host in the hardest way that there is, and start it again."""
    home.started[[one.name for one in home.started].index("host")].stop(signal.SIGKILL)
    home.started = [one for one in home.started if one.name != "host"]
    home.host()


def test_a_shuffled_queue_is_what_is_listed_and_what_was_answered_outlives_a_kill(home, names):
    assert home.queue() == names
    home.call("shuffle", "on")
    home.call("repeat", "all")
    home.call("crossfade", "2.5")
    home.call("queue", "jump", "3")
    before = listed(home)
    mixed = home.queue()
    assert sorted(mixed) == names != mixed
    killed_and_started_again(home)
    assert listed(home) == before
    room = home.room()
    assert (room["repeat"], room["crossfade_s"], room["mode"]) == ("all", 2.5, "playing")
    assert room["track"]["path"].endswith(mixed[2])
    assert "shuffled, repeats all, revision" in home.call("queue")
    home.call("shuffle", "off")
    assert home.queue() == names
    killed_and_started_again(home)
    assert home.queue() == names


def test_a_change_on_a_stale_view_is_refused_and_says_what_changed(home, names):
    seen = str(listed(home)["revision"])
    home.call("queue", "remove", "1", "--revision", seen)
    line = refused(home, "queue", "remove", "1", "--revision", seen)
    assert "removed “0”" in line
    assert home.queue() == names[1:]
    home.call("queue", "move", "1", "2", "--revision", str(listed(home)["revision"]))
    assert home.queue()[:2] == ["2.wav", "1.wav"]


def test_what_was_done_is_taken_back(home, names):
    home.call("queue", "clear")
    assert home.room()["mode"] == "stopped"
    assert "cleared 9 tracks" in home.call("queue", "undo")
    home.call("queue", "undo")
    home.call("queue", "undo")
    assert home.queue() == names
    home.call("queue", "clear")
    killed_and_started_again(home)
    assert home.queue() == []
    assert "nothing to undo" in refused(home, "queue", "undo")


def test_what_sounded_is_listed_with_its_time(home, names, tmp_path):
    began = time.time()
    track = tmp_path / "lately.wav"
    soundfile.write(track, np.zeros(8_000 * 30), 8_000)
    home.call("play", str(track))
    home.until("it is in the history", lambda: "lately" in home.call("queue", "history"))
    killed_and_started_again(home)
    newest = json.loads(home.call("queue", "history", "--json"))["played"][0]
    assert newest["title"] == "lately"
    assert began - 1.0 <= newest["began_s"] <= time.time()
