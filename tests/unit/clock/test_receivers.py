"""Who hears together: synthetic latenesses with known causes."""

import numpy as np
import pytest

from musicsyncd.clock import receivers as module
from musicsyncd.clock.receivers import MAX_BEACONS, MIN_COMMON, Receivers

SECOND_NS = 10**9
MS_NS = 10**6
US_NS = 10**3
START_NS = 10**15
TRIP_NS = 2 * MS_NS


class Room:
    """A host that sends four datagrams a second, and what becomes of them.

    A medium is given by how long each of its datagrams waits, common to all on it; a receiver by its medium, what
    its own estimate is ahead by, and a noise.
    """

    def __init__(self, seed=1, count=200, *, host_late_ns=20 * US_NS, stamped=True):
        self.rng = np.random.default_rng(seed)
        self.receivers = Receivers()
        self.count = count
        self.stamped = stamped
        self.host_late_ns = self.rng.exponential(host_late_ns, count)
        self.waits_ns = {
            "air": self.rng.uniform(0, 100 * MS_NS, count),
            "other air": self.rng.uniform(0, 100 * MS_NS, count),
            "awake air": MS_NS + self.rng.exponential(0.5 * MS_NS, count),
            "wire": np.full(count, 40.0 * US_NS),
            "murmuring wire": self.rng.exponential(40 * US_NS, count),
        }
        self.peers = {}

    def add(self, name, medium, ahead_ns=0, noise_ns=5 * US_NS, missing=0.0, trip_ns=TRIP_NS, since=0):
        own_ns = ahead_ns + self.rng.uniform(-noise_ns, noise_ns, self.count)
        lost = (self.rng.random(self.count) < missing) | (np.arange(self.count) < since)
        self.peers[name] = (self.waits_ns[medium] + self.host_late_ns + own_ns, lost, trip_ns)

    def sent_ns(self, number):
        return START_NS + number * SECOND_NS // 4

    @property
    def end_ns(self):
        return self.sent_ns(self.count - 1) + 2 * SECOND_NS

    def tell(self, number):
        self.receivers.sent(number, self.sent_ns(number))
        if self.stamped:
            self.receivers.left(number, self.sent_ns(number) + round(self.host_late_ns[number]))
        for name, (late_ns, lost, _) in self.peers.items():
            if not lost[number]:
                self.receivers.heard(name.encode(), number, round(late_ns[number]))

    def run(self):
        for number in range(self.count):
            self.tell(number)
        self.regroup()
        return self

    def regroup(self):
        self.receivers.regroup(self.end_ns, {name.encode(): trip for name, (_, _, trip) in self.peers.items()})

    def told(self, name, now_ns=None):
        return self.receivers.fellows_heard(name.encode(), self.end_ns if now_ns is None else now_ns)

    def grouped(self):
        return {name for name in self.peers if self.told(name) is not None}


def test_those_of_one_medium_are_all_told_when_its_middle_heard():
    room = Room()
    for name, ahead_ns in (("ahead", 300 * US_NS), ("even", 0), ("behind", -300 * US_NS)):
        room.add(name, "air", ahead_ns)
    room.run()
    number, lateness_ns = room.told("ahead")
    assert number == room.count - 1
    truth_ns = room.waits_ns["air"][number] + room.host_late_ns[number]
    assert lateness_ns == pytest.approx(truth_ns, abs=6 * US_NS)
    assert room.told("even") == room.told("behind") == (number, lateness_ns)


def test_one_uneven_path_does_not_move_the_others():
    room = Room()
    for name, ahead_ns in (("far ahead", 900 * US_NS), ("one", 0), ("two", 0), ("three", 0), ("four", 0)):
        room.add(name, "air", ahead_ns)
    room.run()
    number, lateness_ns = room.told("one")
    assert lateness_ns == pytest.approx(room.waits_ns["air"][number] + room.host_late_ns[number], abs=6 * US_NS)


def test_who_missed_a_datagram_does_not_move_the_middle():
    room = Room()
    room.add("ahead", "air", 400 * US_NS, missing=0.5)
    room.add("behind", "air", -400 * US_NS, missing=0.3)
    room.add("even", "air", missing=0.3)
    trips_ns = {name.encode(): TRIP_NS for name in room.peers}
    errors_ns = []
    for number in range(room.count):
        room.tell(number)
        if number > 100:
            room.receivers.regroup(room.sent_ns(number) + 2 * SECOND_NS, trips_ns)
            told = room.told("even", room.sent_ns(number) + 1300 * MS_NS)
            if told is not None:
                errors_ns.append(told[1] - room.waits_ns["air"][told[0]] - room.host_late_ns[told[0]])
    assert len(errors_ns) > 90
    assert np.abs(errors_ns).max() < 10 * US_NS


def test_two_media_are_told_apart():
    room = Room()
    for name, medium in (("a", "air"), ("b", "other air"), ("c", "air"), ("d", "other air"), ("e", "wire")):
        room.add(name, medium)
    room.run()
    assert room.grouped() == {"a", "b", "c", "d"}
    assert room.told("a") == room.told("c") != room.told("b") == room.told("d")


@pytest.mark.parametrize("seed", range(5))
def test_a_late_host_makes_no_medium_of_wires_and_of_wifi(seed):
    room = Room(seed, host_late_ns=3 * MS_NS)
    for name in ("wire one", "wire two"):
        room.add(name, "wire", noise_ns=15 * US_NS, trip_ns=200 * US_NS)
    room.add("far wire", "wire", ahead_ns=400 * US_NS, trip_ns=TRIP_NS)
    room.add("awake", "awake air", trip_ns=4 * MS_NS)
    assert room.run().grouped() == set()
    room.add("awake too", "awake air", trip_ns=4 * MS_NS)
    assert room.run().grouped() == {"awake", "awake too"}


def test_without_send_stamps_only_what_no_host_is_late_by_counts():
    late = Room(host_late_ns=3 * MS_NS, stamped=False)
    held = Room(stamped=False)
    for name in ("one", "two"):
        late.add(name, "awake air")
        held.add(name, "air")
    assert late.run().grouped() == set()
    assert held.run().grouped() == {"one", "two"}


def test_a_steady_medium_tells_nothing():
    room = Room()
    for name in ("one", "two", "three"):
        room.add(name, "murmuring wire", noise_ns=2 * US_NS)
    assert room.run().grouped() == set()


def test_a_constant_beyond_what_a_path_can_be_uneven_by_is_another_medium():
    room = Room()
    room.add("one", "air")
    room.add("two", "air")
    room.add("behind", "air", ahead_ns=1100 * US_NS)
    assert room.run().grouped() == {"one", "two"}, "with 1 ms each way, 1 ms is the most"
    room.add("behind", "air", ahead_ns=900 * US_NS)
    assert room.run().grouped() == {"one", "two", "behind"}


def test_those_that_cannot_say_when_they_heard_are_left_out():
    room = Room()
    room.add("one", "air")
    room.add("two", "air")
    room.add("busy machine", "air", noise_ns=400 * US_NS)
    assert room.run().grouped() == {"one", "two"}


def test_two_that_move_apart_by_half_stay_together_but_do_not_come_together():
    fresh, kept = Room(), Room()
    for room, noise_ns in ((fresh, 125 * US_NS), (kept, 60 * US_NS)):
        room.waits_ns["air"] = room.rng.uniform(0, 500 * US_NS, room.count)
        for name in ("one", "two"):
            room.add(name, "air", noise_ns=noise_ns)
        room.run()
    assert fresh.grouped() == set()
    assert kept.grouped() == {"one", "two"}
    for name in ("one", "two"):
        kept.add(name, "air", noise_ns=125 * US_NS)
    assert kept.run().grouped() == {"one", "two"}


@pytest.mark.parametrize(("common", "expected"), [(MIN_COMMON - 1, set()), (MIN_COMMON, {"old", "new"})])
def test_two_must_have_heard_enough_in_common(common, expected):
    room = Room()
    room.add("old", "air")
    room.add("new", "air", since=room.count - common)
    assert room.run().grouped() == expected


def test_whose_round_trip_is_unknown_is_left_out():
    room = Room()
    for name, trip_ns in (("one", TRIP_NS), ("two", TRIP_NS), ("fresh", 0)):
        room.add(name, "air", trip_ns=trip_ns)
    assert room.run().grouped() == {"one", "two"}


def test_what_was_heard_a_minute_ago_is_forgotten():
    room = Room()
    for name in ("one", "two"):
        room.add(name, "air")
    room.run()
    room.receivers.regroup(room.end_ns + 56 * SECOND_NS, dict.fromkeys((b"one", b"two"), TRIP_NS))
    assert room.receivers._media == {}


def test_it_tells_only_of_what_all_can_have_reported_and_of_nothing_old():
    room = Room()
    for name in ("one", "two"):
        room.add(name, "air")
    room.run()
    sent_ns = room.sent_ns(room.count - 1)
    assert room.told("one", sent_ns + 1299 * MS_NS)[0] == room.count - 2
    assert room.told("one", sent_ns + 1300 * MS_NS)[0] == room.count - 1
    assert room.told("one", sent_ns + 2300 * MS_NS)[0] == room.count - 1
    assert room.told("one", sent_ns + 2301 * MS_NS) is None


def test_what_only_one_has_heard_is_told_to_nobody():
    room = Room()
    room.add("one", "air")
    room.add("two", "air")
    room.peers["two"][1][-2:] = True
    room.run()
    assert room.told("one", room.sent_ns(room.count - 1) + 1300 * MS_NS)[0] == room.count - 3


def test_a_forgotten_receiver_is_told_nothing_and_whoever_comes_next_is_another():
    room = Room()
    for name, ahead_ns in (("one", 300 * US_NS), ("two", 0), ("three", 0)):
        room.add(name, "air", ahead_ns)
    room.run()
    before = room.told("two", room.end_ns)
    room.receivers.forget(b"one")
    assert room.told("one") is None
    assert room.told("two") == before
    # Strangers of another medium get the rows, in the same turn.
    room.receivers.forget(b"three")
    room.receivers.sent(999, room.end_ns)
    room.receivers.heard(b"two", 999, 10 * MS_NS)
    for name in (b"a stranger", b"another"):
        room.receivers.heard(name, 999, 80 * MS_NS)
    assert len(room.receivers._rows) == 3
    assert room.told("two", room.end_ns + 1500 * MS_NS) is None


def test_the_forgotten_and_the_unknown_are_no_fault():
    receivers = Receivers()
    receivers.forget(b"nobody")
    receivers.left(7, START_NS)
    receivers.heard(b"one", 7, 5)
    receivers.regroup(START_NS, {b"one": TRIP_NS})
    assert receivers.fellows_heard(b"one", START_NS) is None
    assert not receivers._rows


def test_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(module, "MAX_RECEIVERS", 20)
    receivers = Receivers()
    for number in range(3 * MAX_BEACONS):
        receivers.sent(number, START_NS + number)
    for peer in range(50):
        receivers.heard(bytes([peer]), 3 * MAX_BEACONS - 1, 1)
        receivers.heard(bytes([peer]), 0, 1)
    assert len(receivers._rows) == 20
    assert receivers._lateness_ns.shape == (32, MAX_BEACONS)
    assert len(receivers._columns) == MAX_BEACONS
    assert np.count_nonzero(~np.isnan(receivers._lateness_ns)) == 20
    for number in range(3 * MAX_BEACONS, 4 * MAX_BEACONS):
        receivers.sent(number, START_NS + number)
    assert np.isnan(receivers._lateness_ns).all()
    for peer in range(50):
        receivers.forget(bytes([peer]))
        receivers.heard(bytes([50 + peer]), 4 * MAX_BEACONS - 1, 1)
    assert receivers._lateness_ns.shape == (32, MAX_BEACONS)


def test_many_that_hear_alone_hide_nobody_for_ever(monkeypatch):
    monkeypatch.setattr(module, "MAX_MEDIA", 4)
    room = Room(count=60)
    for number in range(12):
        room.waits_ns[f"own {number}"] = room.rng.uniform(0, 100 * MS_NS, room.count)
        room.add(f"alone {number}", f"own {number}")
    for name in ("one", "two"):
        room.add(name, "air")
    room.run()
    for _ in range(4):
        room.regroup()
    assert room.grouped() == {"one", "two"}
    for _ in range(4):
        room.regroup()
        assert room.grouped() == {"one", "two"}, "and stay together in every turn"
