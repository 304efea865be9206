"""What was answered is there after kill -9, and a speaker's cache holds what it says: a few kills of the benchmark."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "bench"))

from changing import Change, fits
from kills import Figures, kill_hosts, kill_speakers

KILLS, PEER_KILLS, CONTROLLERS = 5, 3, 3


@pytest.fixture
def home():
    from house import House

    made = House(Path("no card is in this house"))
    yield made
    made.close()


def test_no_acknowledged_change_is_lost_when_the_host_is_killed(home, pytestconfig):
    figures = Figures()
    kill_hosts(home, KILLS, CONTROLLERS, pytestconfig.getoption("--seed"), figures)
    print(figures)
    assert figures.lost == []
    assert figures.kills == KILLS
    assert figures.acknowledged > 10 * KILLS, "hardly anything was tried"


def test_a_speaker_that_is_killed_while_it_fetches_plays_afterwards(home, pytestconfig):
    figures = Figures()
    kill_speakers(home, PEER_KILLS, pytestconfig.getoption("--seed"), figures)
    print(figures)
    assert figures.peer_faults == []
    assert len(figures.peer_restarts_s) == PEER_KILLS


VIEW = {"volume": 10, "shuffled": False, "queue_revision": 3, "paths": ["a", "b"]}


@pytest.mark.parametrize(
    ("change", "after", "wrong"),
    [
        (Change("volume", "", "", {}, {"volume": 20}), VIEW | {"volume": 20}, ""),
        (Change("volume", "", "", {}, {"volume": 20}), VIEW, "volume is 10 instead of 20"),
        (Change("volume", "", "", {}, {"volume": 20}), VIEW | {"volume": 20, "shuffled": True}, "shuffled is True"),
        (Change("add", "", "", {}, paths=["a", "b", "c"]), VIEW | {"paths": ["a", "b", "c"]}, ""),
        (Change("add", "", "", {}, paths=["a", "b", "c"]), VIEW, "the queue is"),
        (Change("add", "", "", {}, paths=["a", "b", "c"]), VIEW | {"paths": ["a", "c", "b"]}, "the queue is"),
        (Change("mix", "", "", {}, {"shuffled": True}, mixes=True), VIEW | {"shuffled": True, "paths": ["b", "a"]}, ""),
        (Change("mix", "", "", {}, {"shuffled": True}, mixes=True), VIEW | {"shuffled": True, "paths": ["a"]}, "the q"),
    ],
)
def test_the_judge_sees_what_is_lost(change, after, wrong):
    found = fits(VIEW, change, after)
    assert found.startswith(wrong)
    assert bool(found) == bool(wrong)
