"""What peers say of the beacons that they heard, and what the host makes of it."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import count

from musicsyncd.clock.exchange import Exchange
from musicsyncd.clock.mapping import ClockMapping
from musicsyncd.protocol import hearing, wire
from musicsyncd.protocol.auth import Sealer
from musicsyncd.protocol.hearing import Ears, Hearing
from musicsyncd.protocol.host import HostNode
from musicsyncd.protocol.peer import PeerNode
from musicsyncd.units import HostNs, LocalNs

from .protocol_lan import (
    HOST_AT,
    HOST_ID,
    MS,
    PEER_AT,
    FakeClock,
    S,
    Voice,
    lan,
    make_host,
    peer_voice,
    read,
    report,
    state,
    trusting,
)

ROUND_TRIP = wire.ClockStats(round_trip_ns=2 * MS)
MARKS = 1 << wire.BEACON_MARK_BITS


class Air:
    """A host's beacons, four a second, and peers that report them a second later."""

    def __init__(self, names: tuple[bytes, ...] = (b"peer-one", b"peer-two")) -> None:
        self.dice = random.Random(1)
        self.hearing = Hearing(count(1))
        self.ahead_ns = {name: number * 100_000 for number, name in enumerate(names)}
        self.room = dict.fromkeys(names, "main")
        self.now_ns = 100 * S
        self.waits_ns: dict[int, int] = {}

    def run(self, seconds: int) -> None:
        """Let time pass; at its end all that was heard has been reported."""
        for _ in range(seconds):
            sent = [(room, self.beacon(room)) for room in set(self.room.values()) for _ in range(4)]
            for name, ahead_ns in self.ahead_ns.items():
                heard = tuple(
                    wire.Heard(host_ns % MARKS, self.waits_ns[host_ns] + ahead_ns)
                    for room, host_ns in sent
                    if room == self.room[name]
                )
                self.report(name, heard)

    def beacon(self, room: str) -> int:
        self.now_ns += S // 4 // len(set(self.room.values()))
        ticket = self.hearing.send(room, self.now_ns)
        self.hearing.sent(ticket, self.now_ns + 20_000)
        self.waits_ns[self.now_ns] = self.dice.randrange(100 * MS)
        return self.now_ns

    def report(self, name: bytes, heard: tuple[wire.Heard, ...]) -> None:
        said = report(room=self.room[name], clock=ROUND_TRIP, heard=heard)
        self.hearing.take(name, said, self.now_ns)

    def fellows(self, name: bytes) -> wire.Heard | None:
        return self.hearing.fellows_heard(name, self.now_ns)


# -- the host ----------------------------------------------------------------------------------


def test_those_that_hear_together_are_told_when_the_middle_of_them_heard() -> None:
    air = Air()
    air.run(12)
    told = air.fellows(b"peer-one")
    assert told is not None
    assert told == air.fellows(b"peer-two")
    (host_ns,) = [host_ns for host_ns in air.waits_ns if host_ns % MARKS == told.beacon]
    assert 1300 * MS <= air.now_ns - host_ns < 1800 * MS
    assert told.lateness_ns == air.waits_ns[host_ns] + 50_000
    assert air.fellows(b"stranger") is None


def test_a_peer_that_is_forgotten_begins_anew() -> None:
    air = Air()
    air.run(12)
    air.hearing.forget_peer(b"peer-one")
    assert air.fellows(b"peer-one") is None
    air.run(4)
    assert air.fellows(b"peer-one") is None
    air.run(6)
    assert air.fellows(b"peer-one") is not None


def test_a_peer_that_was_silent_for_long_begins_anew() -> None:
    for gap, expected in ((3, True), (6, False)):
        air = Air()
        air.run(12)
        away, air.ahead_ns = air.ahead_ns, {b"peer-one": 0}
        air.run(gap)
        air.ahead_ns = away
        air.run(3)
        assert (air.fellows(b"peer-two") is not None) is expected


def test_rooms_do_not_mix() -> None:
    air = Air((b"peer-one", b"peer-two", b"peer-3333", b"peer-4444"))
    air.room |= {b"peer-3333": "bath", b"peer-4444": "bath"}
    air.run(15)
    main, bath = air.fellows(b"peer-one"), air.fellows(b"peer-3333")
    assert main is not None
    assert bath is not None
    assert main != bath
    air.room[b"peer-3333"] = "main"
    air.run(1)
    assert air.fellows(b"peer-3333") is None, "it has heard nothing of its new room yet"
    assert b"peer-3333" not in air.hearing._rooms["bath"].receivers._rows
    air.hearing.forget_room("bath")
    assert air.fellows(b"peer-4444") is None


def test_reports_of_unknown_rooms_and_of_beacons_that_never_were_are_nothing() -> None:
    air = Air()
    air.room[b"peer-one"] = "nowhere"
    air.report(b"peer-one", (wire.Heard(5, 5),))
    air.room[b"peer-one"] = "main"
    air.beacon("main")
    air.report(b"peer-one", tuple(wire.Heard(number, 5) for number in range(16)))
    assert not air.hearing._rooms["main"].receivers._rows
    air.hearing.sent(999, S)
    air.hearing.forget_peer(b"nobody")
    air.hearing.forget_room("nowhere")


def test_the_send_stamps_that_are_waited_for_are_bounded() -> None:
    told = Hearing(count(1))
    tickets = [told.send("main", S + number) for number in range(2 * hearing.MAX_UNDER_WAY)]
    assert len(told._under_way) == hearing.MAX_UNDER_WAY
    told.sent(tickets[-1], 2 * S)
    assert len(told._under_way) == hearing.MAX_UNDER_WAY - 1


def heard_by(node: HostNode, peer: Sealer, heard: tuple[wire.Heard, ...], now_ns: int) -> None:
    said = wire.encode(report(clock=ROUND_TRIP, heard=heard))
    node.receive_datagram(peer.seal(said), PEER_AT, now_ns)


def test_a_host_puts_it_into_its_replies_until_a_peer_leaves() -> None:
    node, dice, now_ns = trusting(make_host()), random.Random(1), S
    node.set_room(state())
    peers = [peer_voice(name, 1) for name in (b"peer-one", b"peer-two")]

    def reply_to(peer: Sealer) -> wire.ProbeReply:
        node.receive_datagram(peer.seal(wire.encode(wire.Probe(1, 1))), PEER_AT, now_ns)
        (reply,) = [m for out in node.datagrams_to_send(now_ns) if isinstance(m := read(out), wire.ProbeReply)]
        return reply

    for _ in range(60):
        for out in node.datagrams_to_send(now_ns):
            if isinstance(beacon := read(out), wire.Beacon) and out.address is None:
                assert out.ticket is not None
                node.datagram_sent(out.ticket, now_ns + 10_000)
                heard = (wire.Heard(beacon.host_ns % MARKS, dice.randrange(100 * MS)),)
                for peer in peers:
                    heard_by(node, peer, heard, now_ns)
        now_ns += 250 * MS
    told = reply_to(peers[0]).fellows_heard
    assert told is not None
    assert told == reply_to(peers[1]).fellows_heard
    # Restarted, it is another; and the other one is gone.
    peers[0] = peer_voice(b"peer-one", 2)
    heard_by(node, peers[0], (), now_ns)
    assert reply_to(peers[0]).fellows_heard is None
    node.receive_datagram(peers[1].seal(wire.encode(wire.Bye())), PEER_AT, now_ns)
    assert reply_to(peers[1]).fellows_heard is None


def test_only_what_goes_to_the_group_has_a_ticket() -> None:
    node = trusting(make_host())
    node.set_room(state())
    wants = wire.encode(report(wants_unicast=True))
    node.receive_datagram(peer_voice(b"peer-one", 1).seal(wants), PEER_AT, S)
    beacons = [out for out in node.datagrams_to_send(S) if isinstance(read(out), wire.Beacon)]
    assert [(out.address, out.ticket is not None) for out in beacons] == [(None, True), (PEER_AT, False)]


# -- a peer ------------------------------------------------------------------------------------


class UnsureClock(FakeClock):
    """A clock whose line may move by a millisecond and still be the same."""

    @property
    def estimate(self) -> ClockMapping | None:
        estimate = super().estimate
        return None if estimate is None else replace(estimate, uncertainty_ns=MS)


def settled(clock: FakeClock) -> Ears:
    """Return ears that have listened to a clock for long enough to say what they hear."""
    clock.exchanges = [EXCHANGE] * 4
    ears = Ears(clock)
    ears.hear(beacon(0), S)
    assert ears.take() == ()
    return ears


def beacon(host_ns: int, room: str = "main") -> wire.Beacon:
    return wire.Beacon(room, 1, host_ns, (), 100, False, 7783, "den")


EXCHANGE = Exchange(LocalNs(S), HostNs(51 * S), HostNs(51 * S), LocalNs(S + 1000))
OFFSET_NS = 50 * S - 500
"""Of the clock that has seen it."""


def test_a_fresh_clock_says_nothing() -> None:
    clock = FakeClock()
    ears = Ears(clock)
    ears.hear(beacon(50 * S), S)
    clock.exchanges = [EXCHANGE] * 4
    for at_ns in (S, 2 * S, 3 * S - 1, 3 * S):
        ears.hear(beacon(at_ns + 50 * S), at_ns)
    assert [one.beacon for one in ears.take()] == [(53 * S) % MARKS]
    ears.clear()
    ears.hear(beacon(54 * S), 4 * S)
    assert ears.take() == ()


def test_it_says_how_late_it_heard_by_what_its_probes_say_alone() -> None:
    clock = FakeClock()
    ears = settled(clock)
    for correction_ns in (0, 300_000):
        clock.correct(correction_ns)
        ears.hear(beacon(60 * S), 10 * S + 7 * MS)
        assert ears.take() == (wire.Heard((60 * S) % MARKS, 7 * MS - 500),)


def test_it_says_the_newest_and_each_once_and_nothing_beyond_the_limits() -> None:
    ears = settled(FakeClock())
    for number in range(wire.MAX_HEARD + 4):
        ears.hear(beacon(60 * S + number), 10 * S)
    heard = ears.take()
    assert [one.beacon for one in heard] == [(60 * S + number) % MARKS for number in range(4, wire.MAX_HEARD + 4)]
    assert ears.take() == ()
    ears.hear(beacon(60 * S), 10 * S + 3 * S)
    ears.hear(beacon(60 * S), 10 * S - 3 * S)
    assert ears.take() == ()
    wire.decode_from_peer(wire.encode(report(heard=heard)))


def test_it_corrects_its_clock_by_what_its_fellows_heard() -> None:
    clock = UnsureClock()
    ears = settled(clock)
    clock.round_trip_ns = 4 * MS
    ears.correct()
    assert clock.correction_ns == 0
    for number in range(12):
        host_ns = 60 * S + number * S // 4
        ears.hear(beacon(host_ns), host_ns - OFFSET_NS + 7 * MS)
        ears.listen(wire.Heard(host_ns % MARKS, 7 * MS - 300_000))
        ears.listen(None)
    for _ in range(3):  # What is corrected does not correct itself again.
        ears.correct()
        assert abs(clock.correction_ns - 300_000) < 1000
    clock.round_trip_ns = 100_000
    ears.correct()
    assert clock.correction_ns == 50_000
    ears.clear()
    ears.correct()
    assert clock.correction_ns == 0


def test_a_peer_reports_each_beacon_that_came_to_the_group() -> None:
    room = lan()
    room.run(10 * S)
    heard = [one for sent in room.said(wire.Report) for one in sent.message.heard]
    marks = [sent.message.host_ns % MARKS for sent in room.said(wire.Beacon, to=None)]
    first = marks.index(heard[0].beacon)
    assert len(heard) > 24
    assert [one.beacon for one in heard] == marks[first : first + len(heard)]
    assert {one.lateness_ns for one in heard} == {MS // 10}


def test_it_notes_neither_what_came_by_unicast_nor_another_rooms_nor_what_an_earlier_epoch_said() -> None:
    room = lan()
    room.run(10 * S)
    node = room.nodes[PEER_AT]
    assert isinstance(node, PeerNode)
    node._ears.take()
    voices = {epoch: Voice(HOST_ID, epoch) for epoch in (1, 2)}
    voices[1].sealer.numbers = count(10_000)
    trusting(node)

    def hear(message: wire.Beacon, epoch: int = 1, *, multicast: bool = True) -> None:
        node.receive_datagram(voices[epoch].say(message), HOST_AT, room.now_ns, multicast=multicast)

    hear(beacon(room.now_ns, "bath"))
    hear(beacon(room.now_ns), multicast=False)
    assert not node._ears._heard
    hear(beacon(room.now_ns))
    assert len(node._ears._heard) == 1
    hear(beacon(room.now_ns), epoch=2)
    assert not node._ears._heard
    assert not node._ears._correction._heard


def test_a_suspend_ends_what_was_heard_before() -> None:
    room = lan()
    room.run(10 * S)
    node = room.nodes[PEER_AT]
    assert isinstance(node, PeerNode)
    assert node._ears._correction._heard
    node.suspended(room.now_ns)
    assert not node._ears._correction._heard
    assert node._ears.take() == ()


def test_what_a_peer_is_told_reaches_its_clock_and_its_reports() -> None:
    room = lan()
    host, node = room.nodes[HOST_AT], room.nodes[PEER_AT]
    assert isinstance(host, HostNode)
    assert isinstance(node, PeerNode)

    def tell(peer_id: bytes, now_ns: int) -> wire.Heard | None:
        beacons = room.said(wire.Beacon, to=None)
        return wire.Heard(beacons[-1].message.host_ns % MARKS, MS // 10 - 150_000) if beacons else None

    host._answers._fellows_heard = tell
    room.run(10 * S)
    assert node.mapping is not None
    assert abs(node.mapping.offset_at(room.now_ns) + 150_000) < 1000
    clock = room.said(wire.Report)[-1].message.clock
    assert abs(clock.correction_ns - 150_000) < 1000
    assert clock.offset_ns == -clock.correction_ns
