"""The peer's node: finding and keeping a host, probing, taking over state, reporting."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musicsyncd.playback.timeline import Segment, Timeline
from musicsyncd.protocol import following, interleaving, wire
from musicsyncd.protocol.host import HostNode
from musicsyncd.protocol.peer import HostFound, HostLost, PeerNode, SettingsChanged, StateChanged

from .protocol_lan import (
    HOST_AT,
    HOST_ID,
    MS,
    PEER_AT,
    PEER_ID,
    TRACK,
    FakeClock,
    Lan,
    S,
    Voice,
    events_of,
    lan,
    make_host,
    read,
    state,
    trusting,
)
from .protocol_lan import make_peer as make_wary_peer

OTHER_AT = ("192.0.2.7", 7783)


def make_peer(**options: object) -> PeerNode:
    """Return a peer that asks no host for a proof: what counts before it is in test_door."""
    return trusting(make_wary_peer(**options))


def beacon(revision: int = 1, room: str = "main", start_ns: int = 5 * S, **more: object) -> wire.Beacon:
    fields: dict[str, object] = {"volume": 100, "muted": False, "http_port": 7783, "host_name": "den"}
    segments = (Segment(start_ns, 1, 0, TRACK),)
    return wire.Beacon(room=room, revision=revision, host_ns=S, segments=segments, **{**fields, **more})


def clock_of(node: PeerNode) -> FakeClock:
    clock = node._clock
    assert isinstance(clock, FakeClock)
    return clock


def exchange(node: PeerNode, voice: Voice, now_ns: int, count: int = 4, offset_ns: int = 50 * S) -> int:
    """Let a node have its probes answered; return the time after it."""
    for _ in range(count):
        probes = [m for out in node.datagrams_to_send(now_ns) if isinstance(m := read(out), wire.Probe)]
        for probe in probes:
            host_ns = probe.sent_local_ns + offset_ns + MS
            reply = wire.ProbeReply(probe.number, probe.sent_local_ns, host_ns, host_ns)
            node.receive_datagram(voice.say(reply), HOST_AT, now_ns + 2 * MS)
        now_ns += 25 * MS
    return now_ns


def alone(node: PeerNode, until_ns: int, since_ns: int = S) -> list[tuple[int, object, object]]:
    """Return what a node that nobody answers says, with when and to whom."""
    said = []
    now_ns = since_ns
    while now_ns < until_ns:
        node.handle_timer(now_ns)
        said += [(now_ns, read(out), out.address) for out in node.datagrams_to_send(now_ns)]
        timer_ns = node.next_timer_ns()
        assert timer_ns is not None
        assert timer_ns > now_ns, "a timer that is not cleared by its handling"
        now_ns = timer_ns
    return said


def reports(said: list[tuple[int, object, object]]) -> list[tuple[float, object]]:
    return [((at - S) / MS, to) for at, message, to in said if isinstance(message, wire.Report)]


def probe_times(said: list[tuple[int, object, object]]) -> list[float]:
    return [(at - S) / MS for at, message, _ in said if isinstance(message, wire.Probe)]


# -- finding a host ----------------------------------------------------------------------------


def test_it_looks_for_a_host_at_once_then_once_a_second() -> None:
    said = alone(make_peer(hosts=(OTHER_AT,)), S + 4 * S)
    assert [at for at, to in reports(said) if to is None] == [0, 100, 300, 700, 1700, 2700, 3700]
    assert [at for at, to in reports(said) if to == OTHER_AT] == [0, 100, 300, 700, 1700, 2700, 3700]
    assert {message.wants_unicast for _, message, _ in said} == {True}


def test_where_a_host_may_be_it_is_asked_for_at_once_and_until_it_is_found() -> None:
    node = make_peer()
    alone(node, 6 * S)
    node.try_at((OTHER_AT, HOST_AT))
    said = alone(node, 9 * S, since_ns=6 * S)
    assert [at - 5000 for at, to in reports(said) if to == OTHER_AT] == [0, 100, 300, 700, 1700, 2700]
    assert {to for _, to in reports(said)} == {None, OTHER_AT, HOST_AT}
    node.try_at(())
    assert {to for _, _, to in alone(node, 12 * S, since_ns=9 * S)} == {None}
    node.try_at((OTHER_AT,))
    node.receive_datagram(Voice().say(beacon()), HOST_AT, 12 * S, multicast=True)
    lost_ns = next(at for at in range(13 * S, 30 * S, S) if node.handle_timer(at) or node.host_address is None)
    assert {to for _, _, to in alone(node, lost_ns + 3 * S, since_ns=lost_ns)} == {None, HOST_AT}


def test_it_takes_the_first_host_and_keeps_it() -> None:
    node = make_peer()
    node.receive_datagram(Voice().say(beacon()), HOST_AT, S, multicast=True)
    node.receive_datagram(Voice(b"host-two").say(beacon(9)), OTHER_AT, S, multicast=True)
    assert events_of(node) == [HostFound(HOST_ID, 1, HOST_AT)]
    assert node.dropped["another host"] == 1
    said = alone(node, S + MS)
    assert {to for _, _, to in said} == {HOST_AT}
    assert {type(message) for _, message, _ in said} == {wire.Report, wire.Probe}


def test_reports_go_to_the_host_alone_once_a_second() -> None:
    room = lan()
    room.run(6 * S)
    later = room.said(wire.Report, since_ns=3 * S)
    assert {one.to for one in later} == {HOST_AT}
    assert 3 <= len(later) <= 5


def test_reports_of_several_peers_drift_apart() -> None:
    numbers = iter([0.0, 1.0] * 100)
    node = make_peer(spread=lambda: next(numbers))
    times = [at for at, _ in reports(alone(node, S + 8 * S))][4:]
    assert {round(b - a) for a, b in pairwise(times)} <= {900, 1100}


def test_a_silent_host_is_lost_after_five_seconds_and_sought_everywhere() -> None:
    node = make_peer(hosts=(OTHER_AT,))
    node.receive_datagram(Voice().say(beacon()), HOST_AT, S, multicast=True)
    alone(node, S + 5 * S)
    assert [type(event) for event in events_of(node)] == [HostFound]
    said = alone(node, S + 9 * S, since_ns=S + 5 * S)
    (lost,) = events_of(node)
    assert isinstance(lost, HostLost)
    assert node.host_address is None
    searched = [(at, to) for at, to in reports(said) if at == 5000]
    assert [to for _, to in searched] == [None, OTHER_AT, HOST_AT]
    gaps = probe_times(said)
    assert all(b - a == 1000 for a, b in pairwise(gaps)), "probes go on, one a second"
    assert len(gaps) >= 3


def test_the_same_host_is_found_again_with_its_clock_as_it_was() -> None:
    node, voice = make_peer(), Voice()
    node.receive_datagram(voice.say(beacon()), HOST_AT, S, multicast=True)
    exchange(node, voice, S)
    alone(node, S + 8 * S, since_ns=S + 100 * MS)
    events_of(node)
    node.receive_datagram(voice.say(beacon()), HOST_AT, S + 9 * S, multicast=True)
    assert events_of(node) == [HostFound(HOST_ID, 1, HOST_AT)]
    assert clock_of(node).resets == 0
    assert len(probe_times(alone(node, S + 10 * S, since_ns=S + 9 * S))) == 40, "with a burst"


def test_after_its_host_was_lost_it_takes_another_with_a_fresh_clock() -> None:
    node, voice = make_peer(), Voice()
    node.receive_datagram(voice.say(beacon()), HOST_AT, S)
    exchange(node, voice, S)
    alone(node, S + 8 * S, since_ns=S + 100 * MS)
    events_of(node)
    other = Voice(b"host-two")
    node.receive_datagram(other.say(beacon(1, volume=5)), OTHER_AT, S + 8 * S)
    assert events_of(node) == [HostFound(b"host-two", 1, OTHER_AT)]
    assert clock_of(node).resets == 1
    exchange(node, other, S + 8 * S)
    assert [event.volume for event in events_of(node)] == [5]


def test_a_goodbye_is_believed_and_what_it_overtook_is_not() -> None:
    node, voice = make_peer(), Voice()
    node.receive_datagram(voice.say(beacon()), HOST_AT, S)
    overtaken, bye = voice.say(beacon(2)), voice.say(wire.Bye("update"))
    node.receive_datagram(bye, HOST_AT, S)
    node.receive_datagram(overtaken, HOST_AT, S)
    assert events_of(node) == [HostFound(HOST_ID, 1, HOST_AT), HostLost("update")]
    assert node.dropped["after goodbye"] == 1
    node.receive_datagram(Voice(epoch=2).say(beacon()), HOST_AT, 2 * S)
    assert events_of(node) == [HostFound(HOST_ID, 2, HOST_AT)]


def test_another_hosts_goodbye_is_nothing() -> None:
    node = make_peer()
    node.receive_datagram(Voice().say(beacon()), HOST_AT, S)
    node.receive_datagram(Voice(b"host-two").say(wire.Bye()), OTHER_AT, S)
    assert [type(event) for event in events_of(node)] == [HostFound]


def test_its_address_changes_only_when_probes_to_it_are_not_answered() -> None:
    node, voice = make_peer(), Voice()
    node.receive_datagram(voice.say(beacon()), HOST_AT, S)
    exchange(node, voice, S)
    node.receive_datagram(voice.say(beacon()), OTHER_AT, S + 2 * S)
    assert node.host_address == HOST_AT
    node.receive_datagram(voice.say(beacon()), OTHER_AT, S + 3 * S)
    assert node.host_address == OTHER_AT
    assert HostFound(HOST_ID, 1, OTHER_AT) in events_of(node)


# -- probes ------------------------------------------------------------------------------------


def test_probes_follow_the_schedule() -> None:
    room = lan()
    room.nodes[HOST_AT].datagrams_to_send(0)
    room.run(20 * S)
    times = [(one.at_ns - S) / MS for one in room.said(wire.Probe)]
    gaps = [round(b - a, 3) for a, b in pairwise(times)]
    assert set(gaps[:39]) == {25}
    settled = next(index for index, at in enumerate(times) if at - times[0] >= 5000)
    assert set(gaps[40 : settled - 1]) == {100}
    assert set(gaps[settled:]) == {150}


def test_the_steady_interval_is_spread_by_fifteen_percent() -> None:
    numbers = iter([0.0, 1.0] * 1000)
    node = make_peer(spread=lambda: next(numbers))
    voice = Voice()
    node.receive_datagram(voice.say(beacon()), HOST_AT, S)
    said = []
    for second in range(10):
        node.receive_datagram(voice.say(beacon()), HOST_AT, S + second * S)
        said += alone(node, S + (second + 1) * S, since_ns=S + second * S)
    times = [at for at in probe_times(said) if at > 5500]
    gaps = [b - a for a, b in pairwise(times)]
    assert min(gaps) < 129
    assert max(gaps) > 171
    assert all(127.5 <= gap <= 172.5 for gap in gaps)


def test_a_host_with_many_peers_has_them_ask_less_often() -> None:
    room = lan()
    room.nodes[HOST_AT]._answers.peers = 200
    # The sweep would count the one peer that there is.
    room.nodes[HOST_AT]._sweep_ns = 1 << 60
    room.run(20 * S)
    times = [(one.at_ns - S) / MS for one in room.said(wire.Probe)]
    gaps = [round(b - a) for a, b in pairwise(times)]
    assert set(gaps[:39]) == {25}  # So that it can play at all, it asks as always.
    assert set(gaps[41:]) == {200 * 1000 // 1024}


def test_a_host_counts_the_peers_that_ask() -> None:
    room = lan()
    room.run(3 * S)
    assert room.nodes[HOST_AT]._answers.peers == 1
    assert all(one.message.least_interval_ms == 0 for one in room.said(wire.ProbeReply)[-5:])


def test_an_exchange_has_the_four_times() -> None:
    room = lan()
    room.run(200 * MS)
    first = clock_of(room.nodes[PEER_AT]).exchanges[0]
    hops = [first.received_host_ns - first.sent_local_ns, first.received_local_ns - first.sent_host_ns]
    assert hops == [MS // 10, MS // 10]


def test_only_replies_to_its_own_probes_count_and_only_once() -> None:
    node, voice = make_peer(), Voice()
    node.receive_datagram(voice.say(beacon()), HOST_AT, S)
    (probe,) = (m for out in node.datagrams_to_send(S) if isinstance(m := read(out), wire.Probe))
    good = wire.ProbeReply(probe.number, S, 50 * S, 50 * S)
    for wrong in (
        wire.ProbeReply(probe.number + 1, S, 50 * S, 50 * S),
        wire.ProbeReply(probe.number, S + 1, 50 * S, 50 * S),
    ):
        node.receive_datagram(voice.say(wrong), HOST_AT, S + MS)
    assert clock_of(node).exchanges == []
    for _ in range(2):
        node.receive_datagram(voice.say(good), HOST_AT, S + MS)
    assert len(clock_of(node).exchanges) == 1
    assert node.dropped["unexpected reply"] == 3


def test_an_answer_that_comes_64_probes_late_is_not_believed() -> None:
    node, voice = make_peer(), Voice()
    node.receive_datagram(voice.say(beacon()), HOST_AT, S)
    probes = [message for _, message, _ in alone(node, S + 3900 * MS) if isinstance(message, wire.Probe)]
    assert len(probes) > 65
    for probe in (probes[-65], probes[-64]):
        reply = wire.ProbeReply(probe.number, probe.sent_local_ns, 50 * S, 50 * S)
        node.receive_datagram(voice.say(reply), HOST_AT, S + 3900 * MS)
    assert node.dropped["unexpected reply"] == 1
    assert len(clock_of(node).exchanges) == 1


def test_impossible_times_are_dropped() -> None:
    node, voice = make_peer(), Voice()
    node.receive_datagram(voice.say(beacon()), HOST_AT, S)
    (probe,) = (m for out in node.datagrams_to_send(S) if isinstance(m := read(out), wire.Probe))
    backwards = wire.ProbeReply(probe.number, S, 50 * S, 49 * S)
    node.receive_datagram(voice.say(backwards), HOST_AT, S + MS)
    assert node.dropped["impossible times"] == 1


def test_with_send_stamps_the_four_times_are_those_of_the_wire() -> None:
    room = lan()
    room.late_ns = {HOST_AT: 40_000, PEER_AT: 25_000}
    room.run(2 * S)
    exchanges = clock_of(room.nodes[PEER_AT]).exchanges
    hops = [(one.received_host_ns - one.sent_local_ns, one.received_local_ns - one.sent_host_ns) for one in exchanges]
    assert hops[0] == (MS // 10, MS // 10 + 40_000), "the first at once, its t3 as the reply had it"
    assert set(hops[1:]) == {(MS // 10, MS // 10)}
    assert len({one.sent_local_ns for one in exchanges}) == len(exchanges) - 1, "only the first comes twice"


def test_without_send_stamps_at_the_host_each_exchange_is_used_at_once() -> None:
    room = lan()
    room.late_ns = {PEER_AT: 25_000}
    room.run(2 * S)
    peer = room.nodes[PEER_AT]
    exchanges = clock_of(peer).exchanges
    assert len(exchanges) == len(room.said(wire.ProbeReply))
    assert {one.received_host_ns - one.sent_local_ns for one in exchanges} == {MS // 10}
    assert peer._prober.overdue_ns is None


def test_the_clock_is_usable_after_as_many_probes_with_send_stamps_as_without() -> None:
    times = []
    for late_ns in ({}, {HOST_AT: 40_000, PEER_AT: 25_000}):
        room = lan()
        room.late_ns = late_ns
        while room.nodes[PEER_AT].mapping is None:
            room.run(MS)
        times.append(room.now_ns)
    assert times[0] == times[1]


@pytest.mark.parametrize("seed", range(8))
def test_interleaved_under_loss_no_bound_is_wrong_and_no_probe_counts_twice(seed: int) -> None:
    room = lan()
    room.late_ns = {HOST_AT: 40_000, PEER_AT: 25_000}
    dice = random.Random(seed)
    room.lost = lambda source, to, multicast: dice.random() < 0.2
    room.run(30 * S)
    node = room.nodes[PEER_AT]
    exchanges = clock_of(node).exchanges
    assert all(one.lower_ns <= 0 <= one.upper_ns for one in exchanges), "all clocks are the same"
    assert len({one.sent_local_ns for one in exchanges}) >= len(exchanges) - 1
    true = [one for one in exchanges if one.lower_ns == one.upper_ns - 2 * MS // 10]
    assert len(exchanges) * 0.6 < len(true) < len(exchanges)
    answered = len(node._prober._sent) - len(node._prober._unanswered)
    assert answered - 1 <= len(exchanges) <= answered + 1


def told(node: PeerNode, voice: Voice, number: int, t1: int, t3: int, before: tuple[int, int], at: int) -> None:
    """Let a reply arrive whose t2 is half a millisecond before its t3."""
    reply = wire.ProbeReply(number, t1, t3 - MS // 2, t3, *before)
    node.receive_datagram(voice.say(reply), HOST_AT, at)


def interleaved() -> tuple[PeerNode, Voice, list[wire.Probe], int]:
    """Return a peer that holds its second probe, the third and fourth on their way, and the time."""
    node, voice, probes = make_peer(), Voice(), []
    node.receive_datagram(voice.say(beacon()), HOST_AT, S)
    for step in range(4):
        at_ns = S + step * 25 * MS
        probes += [m for out in node.datagrams_to_send(at_ns) if isinstance(m := read(out), wire.Probe)]
        if step < 2:
            told(node, voice, step + 1, at_ns, 50 * S + at_ns, (step, 50 * S + at_ns - 25 * MS + 9), at_ns + 2 * MS)
    assert [one.sent_host_ns % 10 for one in clock_of(node).exchanges] == [0, 9]
    return node, voice, probes, S + 80 * MS


def test_a_reply_that_tells_of_another_leaves_the_held_one_as_it_was() -> None:
    node, voice, probes, now_ns = interleaved()
    told(node, voice, 4, probes[3].sent_local_ns, 50 * S + now_ns - MS, (3, 50 * S + now_ns - 20 * MS), now_ns)
    last = clock_of(node).exchanges[-1]
    assert (len(clock_of(node).exchanges), last.sent_local_ns) == (3, probes[1].sent_local_ns)
    assert last.sent_host_ns == 50 * S + probes[1].sent_local_ns


def test_a_reply_that_was_overtaken_counts_once_and_does_not_displace_what_is_held() -> None:
    node, voice, probes, now_ns = interleaved()
    told(node, voice, 4, probes[3].sent_local_ns, 50 * S + now_ns - MS, (3, 0), now_ns)
    told(node, voice, 3, probes[2].sent_local_ns, 50 * S + now_ns - MS, (2, 0), now_ns + MS)
    sent = [one.sent_local_ns for one in clock_of(node).exchanges]
    assert sent == [probe.sent_local_ns for probe in (probes[0], probes[0], probes[1], probes[2])]
    (probe,) = (m for out in node.datagrams_to_send(now_ns + 20 * MS) if isinstance(m := read(out), wire.Probe))
    true_ns = 50 * S + now_ns - MS + 30_000
    told(node, voice, 5, probe.sent_local_ns, 50 * S + now_ns + 21 * MS, (4, true_ns), now_ns + 22 * MS)
    last = clock_of(node).exchanges[-1]
    assert (last.sent_local_ns, last.sent_host_ns) == (probes[3].sent_local_ns, true_ns)


@pytest.mark.parametrize("wrong_ns", [-1, interleaving.MAX_LATE_DURATION_NS + 1])
def test_a_sending_that_cannot_be_is_not_believed(wrong_ns: int) -> None:
    node, voice, probes, now_ns = interleaved()
    said_ns = 50 * S + probes[1].sent_local_ns
    told(node, voice, 3, probes[2].sent_local_ns, 50 * S + now_ns - MS, (2, said_ns + wrong_ns), now_ns)
    assert clock_of(node).exchanges[-1].sent_host_ns == said_ns


def test_what_is_held_too_long_goes_to_the_clock_as_it_is() -> None:
    node, _, probes, _ = interleaved()
    due_ns = probes[1].sent_local_ns + 2 * MS + interleaving.HOLD_DURATION_NS
    node.handle_timer(due_ns - 1)
    assert len(clock_of(node).exchanges) == 2
    node.datagrams_to_send(due_ns - 1)
    assert node.next_timer_ns() <= due_ns == node._prober.overdue_ns
    node._prober.due_ns += S
    assert node.next_timer_ns() == due_ns
    for _ in range(2):
        node.handle_timer(due_ns)
        assert len(clock_of(node).exchanges) == 3
    assert node._prober.overdue_ns is None


def test_a_probes_stamp_that_comes_after_its_reply_still_counts() -> None:
    node, voice, probes, now_ns = interleaved()
    node.datagram_sent(probes[1].number, probes[1].sent_local_ns + 33_000)
    node.datagram_sent(probes[1].number, probes[1].sent_local_ns - 1)
    told(node, voice, 3, probes[2].sent_local_ns, 50 * S + now_ns - MS, (0, 0), now_ns)
    assert clock_of(node).exchanges[-1].sent_local_ns == probes[1].sent_local_ns + 33_000


def test_a_sending_before_the_probes_own_time_is_not_believed() -> None:
    node, voice, probes, now_ns = interleaved()
    node.datagram_sent(probes[2].number, probes[2].sent_local_ns - 1)
    told(node, voice, 3, probes[2].sent_local_ns, 50 * S + now_ns - MS, (0, 0), now_ns)
    told(node, voice, 4, probes[3].sent_local_ns, 50 * S + now_ns - MS, (0, 0), now_ns)
    assert clock_of(node).exchanges[-1].sent_local_ns == probes[2].sent_local_ns


@pytest.mark.parametrize("what", ["suspend", "epoch"])
def test_what_is_held_never_meets_another_clock(what: str) -> None:
    node, voice, _, now_ns = interleaved()
    if what == "suspend":
        node.suspended(now_ns)
    else:
        voice = Voice(epoch=2)
        node.receive_datagram(voice.say(beacon()), HOST_AT, now_ns)
    assert clock_of(node).exchanges == []
    (probe,) = (m for out in node.datagrams_to_send(now_ns) if isinstance(m := read(out), wire.Probe))
    told(node, voice, probe.number, now_ns, 90 * S + now_ns, (2, 50 * S), now_ns + 2 * MS)
    (only,) = clock_of(node).exchanges
    assert only.sent_local_ns == now_ns, "at once, as after a start"
    node.handle_timer(now_ns + 4 * S)
    assert clock_of(node).exchanges == [only]


def test_loss_is_the_share_of_probes_without_an_answer() -> None:
    room = lan()
    count = iter(range(10**9))
    room.lost = lambda source, to, multicast: source == HOST_AT and not multicast and next(count) % 4 == 0
    room.run(30 * S)
    loss = room.said(wire.Report)[-1].message.clock.loss
    assert 0.2 < loss < 0.3
    room.lost = lambda source, to, multicast: False
    room.run(70 * S)
    assert room.said(wire.Report)[-1].message.clock.loss == 0.0


# -- state -------------------------------------------------------------------------------------


def test_a_state_is_announced_only_when_the_clock_knows_the_host() -> None:
    node, voice = make_peer(), Voice()
    node.receive_datagram(voice.say(beacon(3, volume=30, muted=True)), HOST_AT, S)
    exchange(node, voice, S, count=3)
    assert [type(event) for event in events_of(node)] == [HostFound]
    assert node.mapping is None
    exchange(node, voice, S + 75 * MS, count=1)
    expected = Timeline(beacon().segments)
    assert events_of(node) == [
        StateChanged("main", 1, 3, expected, 30, True, "den", HOST_AT, 7783),
    ]
    assert node.mapping is not None
    assert abs(node.mapping.offset_at(S) - 50 * S) < MS


def test_only_a_higher_revision_changes_anything() -> None:
    node, voice = make_peer(), Voice()
    node.receive_datagram(voice.say(beacon(3)), HOST_AT, S)
    exchange(node, voice, S)
    events_of(node)
    for revision, volume in ((3, 10), (2, 20), (4, 30), (3, 40)):
        node.receive_datagram(voice.say(beacon(revision, volume=volume)), HOST_AT, 2 * S)
    assert [(event.revision, event.volume) for event in events_of(node)] == [(4, 30)]


def test_the_first_of_two_contents_of_one_revision_counts_before_the_clock_is_known_too() -> None:
    node, voice = make_peer(), Voice()
    for volume in (10, 20):
        node.receive_datagram(voice.say(beacon(3, volume=volume)), HOST_AT, S)
    exchange(node, voice, S)
    assert [event.volume for event in events_of(node) if isinstance(event, StateChanged)] == [10]


def test_a_restarted_host_that_says_nothing_of_the_room_leaves_the_old_pair() -> None:
    node, voice = make_peer(), Voice()
    node.receive_datagram(voice.say(beacon(9)), HOST_AT, S)
    now_ns = exchange(node, voice, S)
    old_mapping = node.mapping
    new = Voice(epoch=2)
    node.receive_datagram(new.say(beacon(1, room="attic")), HOST_AT, now_ns)
    exchange(node, new, now_ns, offset_ns=9000 * S)
    assert clock_of(node).mapping is not None
    assert node.mapping is old_mapping


def test_a_restarted_hosts_time_line_never_meets_the_old_clock() -> None:
    node, voice = make_peer(), Voice()
    node.receive_datagram(voice.say(beacon(9)), HOST_AT, S)
    now_ns = exchange(node, voice, S)
    events_of(node)
    old_mapping = node.mapping
    new = Voice(epoch=2)
    node.receive_datagram(new.say(beacon(1, start_ns=7 * S)), HOST_AT, now_ns)
    assert events_of(node) == [HostFound(HOST_ID, 2, HOST_AT)]
    assert clock_of(node).resets == 1
    exchange(node, new, now_ns, count=3, offset_ns=9000 * S)
    assert node.mapping is old_mapping, "the old pair goes on"
    assert events_of(node) == []
    exchange(node, new, now_ns + 75 * MS, count=1, offset_ns=9000 * S)
    (changed,) = events_of(node)
    assert (changed.epoch, changed.revision) == (2, 1)
    assert node.mapping is not None
    assert node.mapping.offset_at(S) > 8000 * S


def test_a_revision_of_an_old_epoch_is_not_reported_to_the_new() -> None:
    node, voice = make_peer(), Voice()
    node.receive_datagram(voice.say(beacon(9)), HOST_AT, S)
    now_ns = exchange(node, voice, S)
    node.receive_datagram(Voice(epoch=2).say(beacon(9)), HOST_AT, now_ns)
    (report,) = (m for out in node.datagrams_to_send(now_ns + S) if isinstance(m := read(out), wire.Report))
    assert report.state_revision == 0


def test_replies_to_probes_of_before_the_restart_are_not_believed() -> None:
    node, voice = make_peer(), Voice()
    node.receive_datagram(voice.say(beacon()), HOST_AT, S)
    (probe,) = (m for out in node.datagrams_to_send(S) if isinstance(m := read(out), wire.Probe))
    new = Voice(epoch=2)
    node.receive_datagram(new.say(wire.ProbeReply(probe.number, S, 50 * S, 50 * S)), HOST_AT, S + MS)
    assert node.dropped["unexpected reply"] == 1
    assert clock_of(node).exchanges == []


def test_a_time_line_that_is_none_is_dropped() -> None:
    node = make_peer()
    segments = (Segment(5 * S, 1, 0, TRACK), Segment(4 * S, 2, 0, TRACK))
    wrong = wire.Beacon("main", 1, S, segments, 100, False, 80, "den")
    node.receive_datagram(Voice().say(wrong), HOST_AT, S)
    assert node.dropped["malformed"] == 1


def test_a_move_to_a_room_that_was_heard_is_instant() -> None:
    node, voice = make_peer(), Voice()
    node.receive_datagram(voice.say(beacon(5)), HOST_AT, S)
    node.receive_datagram(voice.say(beacon(2, room="attic", volume=9)), HOST_AT, S)
    exchange(node, voice, S)
    events_of(node)
    moved = wire.Settings(PEER_ID, 1, "attic", 50)
    node.receive_datagram(voice.say(moved), HOST_AT, 2 * S)
    settings_event, state_event = events_of(node)
    assert settings_event == SettingsChanged(moved)
    assert (state_event.room, state_event.revision, state_event.volume) == ("attic", 2, 9)
    assert node.room == "attic"
    node.receive_datagram(voice.say(beacon(6)), HOST_AT, 2 * S)
    assert events_of(node) == []


def test_a_move_to_an_unknown_room_waits_for_its_beacon() -> None:
    node, voice = make_peer(), Voice()
    node.receive_datagram(voice.say(beacon(5)), HOST_AT, S)
    exchange(node, voice, S)
    events_of(node)
    node.receive_datagram(voice.say(wire.Settings(PEER_ID, 1, "attic")), HOST_AT, 2 * S)
    assert [type(event) for event in events_of(node)] == [SettingsChanged]
    (out,) = (m for o in node.datagrams_to_send(2 * S) if isinstance(m := read(o), wire.Report))
    assert (out.room, out.state_revision) == ("attic", 0)
    node.receive_datagram(voice.say(beacon(1, room="attic")), HOST_AT, 2 * S)
    assert [event.room for event in events_of(node)] == ["attic"]


def test_rooms_remembered_are_bounded_and_ones_own_is_kept() -> None:
    node, voice = make_peer(), Voice()
    node.receive_datagram(voice.say(beacon(1)), HOST_AT, S)
    for number in range(following.MAX_ROOMS_HEARD + 20):
        node.receive_datagram(voice.say(beacon(1, room=str(number))), HOST_AT, S)
    assert node._host is not None
    assert len(node._host.rooms) == following.MAX_ROOMS_HEARD
    assert "main" in node._host.rooms
    assert str(following.MAX_ROOMS_HEARD + 19) in node._host.rooms


# -- settings ----------------------------------------------------------------------------------


def test_settings_are_taken_once_in_order_and_only_ones_own() -> None:
    node, voice = make_peer(), Voice()
    for peer_id, revision, volume in (
        (PEER_ID, 2, 20), (PEER_ID, 1, 10), (PEER_ID, 2, 21), (b"peer-two", 5, 50), (PEER_ID, 3, 30),
    ):  # fmt: skip
        node.receive_datagram(voice.say(wire.Settings(peer_id, revision, "main", volume)), HOST_AT, S)
    changes = [event.settings.volume for event in events_of(node) if isinstance(event, SettingsChanged)]
    assert changes == [20, 30]
    assert node.dropped["not for us"] == 1


def test_a_hosts_new_epoch_may_count_its_settings_anew() -> None:
    node = make_peer()
    node.receive_datagram(Voice().say(wire.Settings(PEER_ID, 9, "main")), HOST_AT, S)
    node.receive_datagram(Voice(epoch=2).say(wire.Settings(PEER_ID, 1, "main", 7)), HOST_AT, S)
    changes = [event.settings.volume for event in events_of(node) if isinstance(event, SettingsChanged)]
    assert changes == [100, 7]


def test_settings_reach_a_peer_and_the_host_hears_that_they_have() -> None:
    room = lan()
    room.run(2 * S)
    host, peer = room.nodes[HOST_AT], room.nodes[PEER_AT]
    assert isinstance(host, HostNode)
    host.set_settings(wire.Settings(PEER_ID, 3, "main", 60))
    since_ns = room.now_ns
    room.run(500 * MS)
    assert SettingsChanged(wire.Settings(PEER_ID, 3, "main", 60)) in events_of(peer)
    assert host.peers()[0].report.settings_revision == 3
    assert len(room.said(wire.Settings, since_ns=since_ns)) == 1


def test_settings_of_an_earlier_start_of_the_host_are_not_taken_for_confirmed() -> None:
    room = lan()
    room.run(2 * S)
    room.nodes[HOST_AT].set_settings(wire.Settings(PEER_ID, 2, "main", 60))
    room.run(500 * MS)
    # It could not be kept: the next start gives the number once more, for something else.
    again = make_host(epoch=2)
    again.set_room(state())
    again.set_settings(wire.Settings(PEER_ID, 2, "main", 30))
    room.nodes[HOST_AT] = again
    room.run(3 * S)
    said = [one.settings.volume for one in events_of(room.nodes[PEER_AT]) if isinstance(one, SettingsChanged)]
    assert said == [60, 30]
    assert again.peers()[0].report.settings_revision == 2


# -- unicast -----------------------------------------------------------------------------------


def test_without_multicast_beacons_come_by_unicast_and_back_again() -> None:
    room = lan()
    host = room.nodes[HOST_AT]
    room.run(2 * S)
    assert host.peers()[0].reach == "multicast"
    room.lost = lambda source, to, multicast: multicast
    since_ns = room.now_ns
    room.run(2 * S)
    assert host.peers()[0].reach == "unicast"
    assert len(room.said(wire.Beacon, since_ns=since_ns, to=PEER_AT)) >= 3
    room.run(10 * S)
    assert host.peers()[0].reach == "unicast", "beacons by unicast say nothing of multicast"
    host.set_room(state(2, volume=1))
    room.run(10 * MS)
    assert StateChanged in {type(event) for event in events_of(room.nodes[PEER_AT])}
    room.lost = lambda source, to, multicast: False
    room.run(S)
    assert host.peers()[0].reach == "multicast"


def test_a_host_whose_address_was_given_needs_no_multicast_at_all() -> None:
    room = lan()
    room.nodes[PEER_AT] = make_wary_peer(hosts=(HOST_AT,))
    room.lost = lambda source, to, multicast: multicast
    room.run(300 * MS)
    assert StateChanged in {type(event) for event in events_of(room.nodes[PEER_AT])}
    assert room.nodes[HOST_AT].peers()[0].reach == "unicast"


# -- reports -----------------------------------------------------------------------------------


def test_a_change_of_the_sound_is_reported_at_once_but_not_more_than_ten_times_a_second() -> None:
    room = lan()
    room.run(3 * S)
    peer = room.nodes[PEER_AT]
    assert isinstance(peer, PeerNode)
    since_ns = room.now_ns
    for step in range(100):
        peer.playback = wire.PlaybackStats(state=["silent", "waiting"][step % 2], sync_error_ns=step)
        room.run(10 * MS)
    said = room.said(wire.Report, since_ns=since_ns)
    assert said[0].at_ns - since_ns <= 100 * MS
    assert 8 <= len(said) <= 11
    since_ns = room.now_ns
    peer.playback = wire.PlaybackStats(state=peer.playback.state, sync_error_ns=12345)
    room.run(500 * MS)
    assert len(room.said(wire.Report, since_ns=since_ns)) <= 1, "figures alone can wait"


def test_a_report_tells_of_the_clock() -> None:
    room = lan()
    peer = room.nodes[PEER_AT]
    peer.stamps = "kernel"
    room.run(3 * S)
    stats = room.said(wire.Report)[-1].message.clock
    assert (stats.round_trip_ns, stats.jitter_ns, stats.stamps, stats.offset_ns) == (
        400_000,
        50_000,
        "kernel",
        0,
    )
    assert stats.uncertainty_ns >= 1000


def test_a_report_is_never_beyond_its_limits() -> None:
    node = make_peer()
    clock_of(node).skew_ppm = float("nan")
    clock_of(node).jitter_ns = -5
    node.playback = wire.PlaybackStats(
        state="x" * 40, output="🎵" * 500, fault="e" * 500, correction_ppm=float("inf"), card_ppm=-1e9
    )
    (out,) = node.datagrams_to_send(S)
    playback = read(out).playback
    assert (len(playback.state), playback.output, len(playback.fault)) == (16, "🎵" * 30, 120), "120 bytes each"
    assert (playback.correction_ppm, playback.card_ppm) == (0.0, 0.0)


# -- sleep and end -----------------------------------------------------------------------------


def test_after_a_suspend_the_clock_begins_anew() -> None:
    node, voice = make_peer(), Voice()
    node.receive_datagram(voice.say(beacon()), HOST_AT, S)
    now_ns = exchange(node, voice, S)
    assert node.mapping is not None
    node.suspended(now_ns)
    assert node.mapping is None
    assert clock_of(node).resets == 1
    exchange(node, voice, now_ns, offset_ns=70 * S)
    assert node.mapping is not None
    assert abs(node.mapping.offset_at(S) - 70 * S) < MS


def test_after_a_suspend_a_host_that_is_elsewhere_is_followed_there_at_once() -> None:
    room = lan()
    room.run(2 * S)
    elsewhere = ("192.0.2.8", 7783)
    peer = room.nodes.pop(PEER_AT)
    room.nodes[elsewhere] = room.nodes.pop(HOST_AT)
    room.run(100 * MS)  # The peer sleeps, and its clock stands still.
    room.nodes[PEER_AT] = peer
    peer.suspended(room.now_ns)
    room.run(500 * MS)
    assert peer.host_address == elsewhere


def test_goodbye_is_said_to_the_host_and_nothing_follows() -> None:
    node = make_peer()
    node.receive_datagram(Voice().say(beacon()), HOST_AT, S)
    node.close()
    node.close()
    (out,) = node.datagrams_to_send(S)
    assert (type(read(out)), out.address) == (wire.Bye, HOST_AT)
    assert node.datagrams_to_send(2 * S) == []
    assert node.next_timer_ns() is None
    stranger = make_peer()
    stranger.close()
    assert [out.address for out in stranger.datagrams_to_send(S)] == [None]


# -- properties --------------------------------------------------------------------------------

_rooms = st.sampled_from(["main", "attic"])
_messages = st.one_of(
    st.builds(beacon, st.integers(1, 5), _rooms),
    st.builds(wire.ProbeReply, st.integers(0, 50), st.just(S), st.integers(0, 9), st.integers(0, 9)),
    st.builds(wire.Settings, st.sampled_from([PEER_ID, b"peer-two"]), st.integers(1, 5), _rooms),
    st.builds(wire.Here, st.binary(min_size=8, max_size=8), st.just(80), st.just("den")),
    st.builds(wire.Bye),
)
_steps = st.one_of(
    st.tuples(st.just("hear"), st.sampled_from([HOST_ID, b"host-two"]), st.integers(1, 3), _messages, st.booleans()),
    st.tuples(st.just("noise"), st.binary(max_size=80)),
    st.tuples(st.just("wait"), st.integers(1, 7 * S)),
    st.tuples(st.just("answer")),
    st.tuples(st.just("suspend")),
    st.tuples(st.just("play"), st.sampled_from(["silent", "together"])),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(_steps, max_size=30))
def test_whatever_comes_the_peer_neither_raises_nor_spins_nor_goes_back(steps: list[tuple]) -> None:
    node = make_peer()
    now_ns = S
    voices: dict[tuple[bytes, int], Voice] = {}
    newest: dict[tuple[bytes, str], tuple[int, int]] = {}
    for kind, *what in steps:
        if kind == "hear":
            host_id, epoch, message, multicast = what
            voice = voices.setdefault((host_id, epoch), Voice(host_id, epoch))
            node.receive_datagram(voice.say(message), HOST_AT, now_ns, multicast=multicast)
        elif kind == "noise":
            node.receive_datagram(what[0], HOST_AT, now_ns)
        elif kind == "wait":
            said = alone(node, now_ns + what[0], now_ns)
            # A burst or two, four probes and a few reports a second, to no more than two addresses.
            assert len(said) <= 120 + 40 * what[0] / S
            now_ns += what[0]
        elif kind == "answer" and node._host is not None:
            host = node._host
            exchange(node, voices[host.identity], now_ns)
            now_ns += 100 * MS
        elif kind == "suspend":
            node.suspended(now_ns)
        elif kind == "play":
            node.playback = wire.PlaybackStats(state=what[0])
        node.handle_timer(now_ns)
        node.datagrams_to_send(now_ns)
        due_ns = node.next_timer_ns()
        assert due_ns is not None
        assert due_ns > now_ns
        for event in events_of(node):
            if isinstance(event, StateChanged):
                assert node._host is not None
                key = (node._host.host_id, event.room)
                version = (event.epoch, event.revision)
                assert version >= newest.get(key, (0, 0)), "no state goes back"
                newest[key] = version
                assert node.mapping is not None


@pytest.mark.parametrize("seed", range(20))
def test_through_two_fifths_of_loss_a_change_arrives_within_two_seconds(seed: int) -> None:
    room = lan()
    dice = random.Random(seed)
    room.lost = lambda source, to, multicast: dice.random() < 0.4
    room.run(4 * S)
    host, peer = room.nodes[HOST_AT], room.nodes[PEER_AT]
    assert isinstance(host, HostNode)
    events_of(peer)
    host.set_room(state(2, volume=33))
    room.run(2 * S)
    volumes = [event.volume for event in events_of(peer) if isinstance(event, StateChanged)]
    assert volumes == [33]


def test_two_hosts_and_two_peers_do_not_mix() -> None:
    other = make_host(b"host-two")
    other.set_room(state(1, volume=2))
    room = Lan(nodes={HOST_AT: make_host(), OTHER_AT: other, PEER_AT: make_wary_peer()})
    room.nodes[HOST_AT].set_room(state(1, volume=1))
    room.nodes[("192.0.2.3", 1)] = make_wary_peer(b"peer-two")
    room.run(3 * S)
    for at in (PEER_AT, ("192.0.2.3", 1)):
        volumes = {event.volume for event in events_of(room.nodes[at]) if isinstance(event, StateChanged)}
        assert len(volumes) == 1
