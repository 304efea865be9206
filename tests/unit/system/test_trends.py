"""The past of the speakers, a second at a time."""

from __future__ import annotations

import pytest

from musicsyncd.system import trends as module
from musicsyncd.system.trends import COARSE_S, FINE_S, MAX_PEERS, Trends

S = 1_000_000_000
DAY_S = 1_800_000_000.0


def peer(name: str = "lamp", sync_error_us: float = 5.0, **fields: object) -> dict[str, object]:
    """A speaker as `status` says it, as far as it matters here."""
    clock = {"round_trip_us": 300.0, "jitter_us": 20.0, "loss_percent": 0.0, "uncertainty_us": 40.0}
    clock |= {key: fields.pop(key) for key in list(fields) if key in clock}
    found = {"id": f"id of {name}", "name": name, "room": "main", "reach": "multicast", "state": "together"}
    found |= {"sync_error_us": sync_error_us, "correction_ppm": 1.0, "underruns": 0, "clock": clock}
    return found | fields


class Run:
    """Trends that are told something every second."""

    def __init__(self) -> None:
        self.trends = Trends()
        self.now_ns = 77 * S

    def note(self, *peers: dict[str, object]) -> None:
        self.now_ns += S
        self.trends.note(self.now_ns, peers)

    def show(self, seconds: int = FINE_S, name: str = "") -> dict:
        return self.trends.show(self.now_ns, DAY_S, name, seconds)

    def only(self, seconds: int = FINE_S) -> dict:
        (found,) = self.show(seconds)["peers"]
        return found


def test_every_second_of_five_minutes_is_there_and_no_more():
    run = Run()
    for second in range(FINE_S + 20):
        run.note(peer(sync_error_us=second, underruns=second // 100, round_trip_us=1.5))
    found = run.only()
    assert found["sync_error_us"] == list(range(20, FINE_S + 20))
    assert found["ago_s"] == list(range(FINE_S - 1, -1, -1))
    assert (found["underruns"][-1], found["round_trip_us"][0], found["state"][-1]) == (3, 1.5, "together")
    assert {len(column) for column in found.values() if isinstance(column, list)} == {FINE_S}
    assert run.show()["every_s"] == 1
    assert run.show()["now_s"] == DAY_S
    assert run.only(10)["sync_error_us"] == list(range(FINE_S + 9, FINE_S + 20))


def test_an_hour_is_kept_in_tens_with_the_worst_of_each():
    run = Run()
    for second in range(COARSE_S + 100):
        bad = second % 10 == 3
        run.note(peer(sync_error_us=-80.0 if bad else 7.0, jitter_us=90.0 if bad else 1.0, correction_ppm=second % 10))
    shown = run.show(FINE_S + 1)
    assert shown["every_s"] == 10
    found = run.only(COARSE_S)
    assert len(found["ago_s"]) == COARSE_S // 10
    assert set(found["sync_error_us"]) == {-80.0}
    assert set(found["jitter_us"]) == {90.0}
    assert set(found["correction_ppm"]) == {4.5}
    assert found["ago_s"][:2] == [3590.0, 3580.0]


def test_while_a_speaker_is_away_there_is_nothing_and_before_it_came_not_even_that():
    run = Run()
    for _ in range(20):
        run.note(peer("other"))
    for _ in range(10):
        run.note(peer("other"), peer())
    for _ in range(5):
        run.note(peer("other"), peer(reach="away", state="away", room="attic"))
    run.note(peer("other"), peer(state="no sound card"))
    (found,) = run.show(name="lamp")["peers"]
    assert found["sync_error_us"] == [5.0] * 10 + [None] * 5 + [5.0]
    assert found["state"] == ["together"] * 10 + ["away"] * 5 + ["no sound card"]
    (coarse,) = run.show(COARSE_S, "id of lamp")["peers"]
    assert coarse["sync_error_us"] == [5.0]
    for _ in range(20):
        run.note(peer("other"))
    assert run.show(COARSE_S, "lamp")["peers"][0]["sync_error_us"] == [5.0, 5.0, None]
    assert run.show(name="nobody")["peers"] == []


def test_a_speaker_that_never_came_takes_no_place():
    run = Run()
    run.note(peer(reach="away", state="away"))
    assert run.show()["peers"] == []


def test_no_more_speakers_are_kept_than_allowed_and_those_longest_away_go():
    run = Run()
    crowd = [peer(str(number)) for number in range(MAX_PEERS)]
    run.note(*crowd, peer("one too many"))
    assert len(run.show()["peers"]) == MAX_PEERS
    assert run.show(name="one too many")["peers"] == []
    for _ in range(3):
        run.note(*crowd[:7], *crowd[8:])
    run.note(*crowd[:7], *crowd[8:], peer("late"))
    assert len(run.show()["peers"]) == MAX_PEERS
    assert run.show(name="7")["peers"] == []
    assert run.show(name="late")["peers"][0]["ago_s"] == [0.0]


def test_words_for_states_are_bounded(monkeypatch):
    monkeypatch.setattr(module, "MAX_STATES", 3)
    run = Run()
    for number in range(6):
        run.note(peer(state=f"state {number}"))
    assert run.only()["state"] == ["state 0", "state 1", *["another state"] * 4]
    assert len(run.trends._states) == 4


def test_a_name_that_changes_is_the_newest():
    run = Run()
    run.note(peer())
    run.note(peer() | {"name": "shelf"})
    assert run.show(name="shelf")["peers"][0]["sync_error_us"] == [5.0, 5.0]


@pytest.mark.parametrize("late_s", [2, 7])
def test_a_second_that_was_missed_is_a_hole_in_time(late_s):
    run = Run()
    run.note(peer())
    run.now_ns += (late_s - 1) * S
    run.note(peer())
    assert run.only()["ago_s"] == [late_s, 0.0]
