"""The host's node: when it speaks, whom it knows, what it never does."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musicsyncd.errors import ControlError
from musicsyncd.protocol import answering, wire
from musicsyncd.protocol import host as host_module
from musicsyncd.protocol.auth import HOST_PURPOSE, PEER_PURPOSE, HostKeys, Sealer, derive_key
from musicsyncd.protocol.host import HostNode, PeerAppeared, PeerLost
from musicsyncd.protocol.node import Address, Outgoing
from musicsyncd.protocol.others import OtherHost

from .protocol_lan import (
    HOST_AT,
    HOST_KEYS,
    MS,
    NEW_KEYS,
    PEER_AT,
    PEER_ID,
    ROOM_KEY,
    Lan,
    S,
    events_of,
    from_peer,
    lan,
    make_peer,
    peer_voice,
    read,
    report,
    state,
    trusting,
)
from .protocol_lan import make_host as make_wary_host


def make_host(name: str = "den") -> HostNode:
    """Return a host that asks nobody for a proof: what counts before it is in test_door."""
    return trusting(make_wary_host(name=name))


def spoken(node: HostNode, until_ns: int, since_ns: int = S) -> list[tuple[int, wire.FromHost]]:
    """Return what a node alone says in a stretch of time, with when, its timers kept exactly."""
    said = []
    now_ns = since_ns
    while now_ns < until_ns:
        node.handle_timer(now_ns)
        said += [(now_ns, read(outgoing)) for outgoing in node.datagrams_to_send(now_ns)]
        timer_ns = node.next_timer_ns()
        if timer_ns is None:
            break
        assert timer_ns > now_ns, "a timer that is not cleared by its handling"
        now_ns = timer_ns
    return said


def with_peer(changes: dict[str, object] | None = None, sender: bytes = PEER_ID) -> HostNode:
    node = make_host()
    node.set_room(state())
    node.receive_datagram(from_peer(report(**(changes or {})), sender), PEER_AT, S)
    return node


# -- beacons -----------------------------------------------------------------------------------


def test_a_room_is_said_at_once_repeated_and_then_four_times_a_second() -> None:
    node = make_host()
    node.set_room(state())
    times = [(at - S) / MS for at, _ in spoken(node, S + 2 * S)]
    assert times[:5] == [0, 20, 60, 140, 390]
    assert len(times) == 4 + 7
    assert {b - a for a, b in pairwise(times[3:])} == {250}


def test_a_change_is_said_at_once_and_repeated_again() -> None:
    node = make_host()
    node.set_room(state(1))
    spoken(node, 2 * S)
    node.set_room(state(2, volume=40))
    said = spoken(node, 2 * S + 200 * MS, since_ns=2 * S)
    assert [(at - 2 * S) // MS for at, _ in said] == [0, 20, 60, 140]
    assert {(beacon.revision, beacon.volume) for _, beacon in said} == {(2, 40)}


def test_a_change_amid_repeats_starts_them_over_with_the_new_state() -> None:
    node = make_host()
    node.set_room(state(1))
    spoken(node, S + 30 * MS)
    node.set_room(state(2))
    said = spoken(node, S + 500 * MS, since_ns=S + 30 * MS)
    assert [(at - S) // MS for at, _ in said] == [30, 50, 90, 170, 420]
    assert {beacon.revision for _, beacon in said} == {2}


def test_the_same_state_once_more_is_no_change() -> None:
    node = make_host()
    node.set_room(state(1))
    spoken(node, 2 * S)
    due_ns = node.next_timer_ns()
    node.set_room(state(1))
    assert node.next_timer_ns() == due_ns
    assert node.datagrams_to_send(2 * S - 200 * MS) == []


def test_a_beacon_carries_the_whole_state_and_the_time_of_sending() -> None:
    node = make_host(name="d" * 70)
    node.set_room(state(3, muted=True, volume=7))
    (outgoing,) = node.datagrams_to_send(123456789)
    assert outgoing.address is None
    beacon = read(outgoing)
    expected = state(3)
    assert beacon == wire.Beacon("main", 3, 123456789, expected.timeline.segments, 7, True, 7783, "d" * 64)


def test_rooms_that_began_together_are_spread() -> None:
    node = make_host()
    for number in range(4):
        node.set_room(state(room=f"room {number}"))
    said = spoken(node, 3 * S)
    last: dict[str, int] = {beacon.room: at for at, beacon in said}
    phases = sorted(at % (250 * MS) for at in last.values())
    gaps = [b - a for a, b in pairwise(phases)]
    assert min(gaps) > 20 * MS


def test_a_late_timer_sends_one_beacon_not_all_that_were_missed() -> None:
    node = make_host()
    node.set_room(state())
    node.datagrams_to_send(S)
    assert len(node.datagrams_to_send(S + 100 * MS)) == 1
    assert node.next_timer_ns() == S + 140 * MS
    assert len(node.datagrams_to_send(10 * S)) == 1


def test_a_removed_room_is_silent() -> None:
    node = make_host()
    node.set_room(state())
    node.set_room(state(room="attic"))
    node.remove_room("main")
    node.remove_room("never was")
    assert {beacon.room for _, beacon in spoken(node, 2 * S)} == {"attic"}


def test_rooms_have_a_limit_and_names_too() -> None:
    node = make_host()
    for number in range(host_module.MAX_ROOMS):
        node.set_room(state(room=str(number)))
    with pytest.raises(ControlError, match="64 rooms"):
        node.set_room(state(room="one more"))
    node.set_room(state(2, room="0"))
    for name in ("", "x" * 65):
        with pytest.raises(ControlError, match="characters"):
            make_host().set_room(state(room=name))


# -- probes and hellos -------------------------------------------------------------------------


def test_a_probe_is_answered_with_both_times_to_where_it_came_from() -> None:
    node = make_host()
    node.receive_datagram(from_peer(wire.Probe(7, 42)), PEER_AT, 1000)
    (outgoing,) = node.datagrams_to_send(1600)
    assert outgoing.address == PEER_AT
    assert read(outgoing) == wire.ProbeReply(7, 42, 1000, 1600)
    assert node.datagrams_to_send(1700) == []


def test_a_receive_stamp_after_the_sending_makes_no_impossible_reply() -> None:
    node = make_host()
    node.receive_datagram(from_peer(wire.Probe(7, 42)), PEER_AT, 1000)
    assert read(node.datagrams_to_send(990)[0]) == wire.ProbeReply(7, 42, 1000, 1000)


def test_a_hello_is_answered() -> None:
    node = make_host()
    node.receive_datagram(from_peer(wire.Hello(b"nonce678"), sender=b"command1"), PEER_AT, 1000)
    (outgoing,) = node.datagrams_to_send(2000)
    assert (read(outgoing), outgoing.address) == (wire.Here(b"nonce678", 7783, "den"), PEER_AT)
    assert node.peers() == []


def test_a_flood_of_probes_is_answered_up_to_a_limit() -> None:
    node = make_host()
    seal = peer_voice()
    for number in range(answering.MAX_PENDING_REPLIES + 5):
        node.receive_datagram(seal.seal(wire.encode(wire.Probe(number, 0))), PEER_AT, 1000)
    assert len(node.datagrams_to_send(2000)) == answering.MAX_PENDING_REPLIES
    assert node.dropped["too many probes"] == 5


def asked(node: HostNode, seal: Sealer, number: int, now_ns: int) -> Outgoing:
    """Return the answer to a probe."""
    node.receive_datagram(seal.seal(wire.encode(wire.Probe(number, 1))), PEER_AT, now_ns)
    (outgoing,) = node.datagrams_to_send(now_ns + 100)
    assert outgoing.ticket is not None
    return outgoing


def previous(outgoing: Outgoing) -> tuple[int, int]:
    reply = read(outgoing)
    assert isinstance(reply, wire.ProbeReply)
    return reply.previous_number, reply.previous_sent_host_ns


def test_a_reply_tells_when_the_one_before_it_really_left() -> None:
    node, seal = make_host(), peer_voice()
    first = asked(node, seal, 5, 1000)
    assert previous(first) == (0, 0)
    node.datagram_sent(first.ticket, 1140)
    second = asked(node, seal, 6, 2000)
    assert previous(second) == (5, 1140)
    assert previous(asked(node, seal, 7, 3000)) == (0, 0), "it was not said when the second left"
    node.datagram_sent(second.ticket, 2140)
    assert previous(asked(node, seal, 8, 4000)) == (0, 0), "what is said too late is nothing"


def test_of_a_stamp_from_before_the_reply_nothing_is_told() -> None:
    node, seal = make_host(), peer_voice()
    node.datagram_sent(asked(node, seal, 5, 1000).ticket, 1099)
    assert previous(asked(node, seal, 6, 2000)) == (0, 0)


def test_each_peer_is_told_of_its_own_replies_and_a_restarted_one_of_none() -> None:
    node = make_host()
    one, two = (peer_voice(sender) for sender in (PEER_ID, b"peer-two"))
    to_one, to_two = asked(node, one, 5, 1000), asked(node, two, 5, 1500)
    node.datagram_sent(to_two.ticket, 1700)
    node.datagram_sent(to_one.ticket, 1600)
    assert previous(asked(node, one, 6, 2000)) == (5, 1600)
    assert previous(asked(node, peer_voice(b"peer-two", 2), 6, 2000)) == (0, 0)


def test_last_replies_are_remembered_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answering, "MAX_ASKERS", 3)
    node = make_host()
    seals = [peer_voice(bytes([number] * 8), 1) for number in range(5)]
    for seal in seals:
        node.datagram_sent(asked(node, seal, 1, 1000).ticket, 1200)
    assert len(node._answers._last) == 3
    for seal in seals:
        asked(node, seal, 2, 2000)
    assert len(node._answers._last) == len(node._answers._by_ticket) == 3, "and those never told of, too"
    assert previous(asked(node, seals[0], 3, 3000)) == (0, 0)


# -- peers -------------------------------------------------------------------------------------


def test_a_report_makes_a_peer_known() -> None:
    node = with_peer()
    assert events_of(node) == [PeerAppeared(PEER_ID, "kitchen", PEER_AT)]
    (known,) = node.peers()
    assert (known.peer_id, known.address, known.seen_host_ns, known.reach, known.present) == (
        PEER_ID, PEER_AT, S, "multicast", True,
    )  # fmt: skip
    assert known.report == report()
    node.receive_datagram(from_peer(report(name="hall"), epoch=2), ("192.0.2.9", 1), 2 * S)
    (known,) = node.peers()
    assert (known.report.name, known.address, known.epoch) == ("hall", ("192.0.2.9", 1), 2)
    assert [type(event) for event in events_of(node)] == [PeerAppeared]  # It restarted.


def test_a_newcomer_gets_a_beacon_soon_but_a_crowd_does_not_get_one_each() -> None:
    node = make_host()
    node.set_room(state())
    spoken(node, 2 * S)
    last_ns = node.next_timer_ns() - 250 * MS
    now_ns = last_ns + 10 * MS
    for number in range(100):
        node.receive_datagram(from_peer(report(), number.to_bytes(8, "big")), PEER_AT, now_ns)
    times = [at - last_ns for at, _ in spoken(node, last_ns + 320 * MS, now_ns)]
    assert set(times) == {50 * MS, 300 * MS}


def test_a_silent_peer_is_away_after_five_seconds_and_comes_back() -> None:
    node = with_peer()
    events_of(node)
    spoken(node, 6 * S - 1)
    assert events_of(node) == []
    spoken(node, 6 * S + 500 * MS, since_ns=6 * S - 1)
    (lost,) = events_of(node)
    assert isinstance(lost, PeerLost)
    assert "5 s" in lost.reason
    assert [one.present for one in node.peers()] == [False]
    node.receive_datagram(from_peer(report(), epoch=2), PEER_AT, 8 * S)
    assert [type(event) for event in events_of(node)] == [PeerAppeared]
    assert [one.present for one in node.peers()] == [True]


def test_probes_alone_keep_a_peer_present() -> None:
    node = make_host()
    seal = peer_voice()
    node.receive_datagram(seal.seal(wire.encode(report())), PEER_AT, S)
    node.receive_datagram(seal.seal(wire.encode(wire.Probe(1, 1))), PEER_AT, 5 * S)
    node.handle_timer(7 * S)
    assert [one.present for one in node.peers()] == [True]
    node.handle_timer(11 * S)
    assert [one.present for one in node.peers()] == [False]


def test_a_goodbye_is_believed_at_once_and_what_it_overtook_is_not() -> None:
    node = make_host()
    seal = peer_voice()
    first, overtaken, bye = (
        seal.seal(wire.encode(message)) for message in (report(), report(name="x"), wire.Bye("update"))
    )
    for data in (first, bye, overtaken):
        node.receive_datagram(data, PEER_AT, S)
    assert events_of(node) == [
        PeerAppeared(PEER_ID, "kitchen", PEER_AT),
        PeerLost(PEER_ID, "kitchen", "update"),
    ]
    assert node.dropped["after goodbye"] == 1
    node.receive_datagram(from_peer(report(), epoch=2), PEER_AT, S)
    assert [one.present for one in node.peers()] == [True]


def test_a_report_that_was_overtaken_changes_nothing() -> None:
    node = make_host()
    seal = peer_voice()
    old, new = (seal.seal(wire.encode(report(state_revision=revision))) for revision in (1, 2))
    for data in (new, old):
        node.receive_datagram(data, PEER_AT, S)
    assert node.peers()[0].report.state_revision == 2
    assert node.dropped["overtaken"] == 1


def test_a_forgotten_peer_is_new_when_it_comes_again() -> None:
    node = with_peer()
    node.set_settings(wire.Settings(PEER_ID, 1, "main"))
    node.forget_peer(PEER_ID)
    node.forget_peer(b"never wa")
    assert node.peers() == []
    assert {type(message) for _, message in spoken(node, 2 * S)} == {wire.Beacon}


def test_peers_have_a_limit_and_the_one_away_longest_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_module, "MAX_PEERS", 3)
    node = make_host()
    for number in range(3):
        node.receive_datagram(from_peer(report(), bytes([number] * 8)), PEER_AT, (1 + number) * S)
    node.receive_datagram(from_peer(report(), b"a fourth"), PEER_AT, 4 * S)
    assert node.dropped["too many peers"] == 1
    node.handle_timer(7 * S)  # Those heard at 1 s and 2 s are away.
    node.receive_datagram(from_peer(report(), b"a fourth", epoch=2), PEER_AT, 7 * S)
    assert [one.peer_id for one in node.peers()] == [b"\1" * 8, b"\2" * 8, b"a fourth"]


# -- unicast -----------------------------------------------------------------------------------


def test_peers_that_ask_for_it_get_their_rooms_beacons_by_unicast_too() -> None:
    node = with_peer({"wants_unicast": True, "state_revision": 1})
    node.receive_datagram(from_peer(report(wants_unicast=True, room="attic"), b"peer-two"), HOST_AT, S)
    node.receive_datagram(from_peer(report(state_revision=1), b"peer-thr"), ("192.0.2.3", 3), S)
    sent = node.datagrams_to_send(S)
    assert [outgoing.address for outgoing in sent] == [None, PEER_AT]
    assert read(sent[0]) == read(sent[1])
    assert sent[0].data != sent[1].data
    assert [one.reach for one in node.peers()] == ["unicast", "unicast", "multicast"]


def test_a_peer_that_moves_to_another_room_gets_a_beacon_of_it_soon() -> None:
    node = make_host()
    node.set_room(state(1))
    node.set_room(state(1, room="attic"))
    seal = peer_voice()
    node.receive_datagram(seal.seal(wire.encode(report(state_revision=1))), PEER_AT, S)
    spoken(node, 2 * S)
    said_ns = max(at for at, message in spoken(node, 3 * S, 2 * S) if message.room == "attic")
    node.receive_datagram(seal.seal(wire.encode(report(room="attic"))), PEER_AT, said_ns + MS)
    later = spoken(node, said_ns + 200 * MS, said_ns + MS)
    assert said_ns + 50 * MS in {at for at, message in later if message.room == "attic"}


def test_a_change_goes_by_unicast_too_until_it_is_confirmed() -> None:
    node = make_host()
    node.set_room(state(1))
    seal = peer_voice()
    node.receive_datagram(seal.seal(wire.encode(report(state_revision=1))), PEER_AT, S)
    assert [out.address for out in node.datagrams_to_send(S)] == [None]
    node.set_room(state(2))
    assert [out.address for out in node.datagrams_to_send(2 * S)] == [None, PEER_AT]
    assert [out.address for out in node.datagrams_to_send(2 * S + 20 * MS)] == [None, PEER_AT]
    node.receive_datagram(seal.seal(wire.encode(report(state_revision=2))), PEER_AT, 2 * S + 30 * MS)
    assert [out.address for out in node.datagrams_to_send(2 * S + 60 * MS)] == [None]


def test_a_crowd_that_is_behind_is_served_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_module, "MAX_BEHIND_BY_UNICAST", 2)
    node = make_host()
    node.set_room(state(1))
    addresses = [(f"192.0.2.{number}", 1) for number in range(5)]
    seals = [peer_voice(bytes([number] * 8), 1) for number in range(5)]
    for seal, address in zip(seals, addresses, strict=True):
        node.receive_datagram(seal.seal(wire.encode(report())), address, S)
    assert [out.address for out in node.datagrams_to_send(S)] == [None, *addresses[:2]]
    for seal, address in zip(seals[:2], addresses[:2], strict=True):
        node.receive_datagram(seal.seal(wire.encode(report(state_revision=1))), address, S)
    assert [out.address for out in node.datagrams_to_send(S + 20 * MS)] == [None, *addresses[2:4]]


def test_a_peer_that_begins_to_want_unicast_is_served_soon() -> None:
    node = make_host()
    node.set_room(state())
    seal = peer_voice()
    node.receive_datagram(seal.seal(wire.encode(report(state_revision=1))), PEER_AT, S)
    spoken(node, 2 * S)
    last_ns = node.next_timer_ns()
    node.handle_timer(last_ns)
    node.datagrams_to_send(last_ns)
    node.receive_datagram(seal.seal(wire.encode(report(wants_unicast=True))), PEER_AT, last_ns + MS)
    assert [out.address for out in node.datagrams_to_send(last_ns + 50 * MS)] == [None, PEER_AT]


# -- settings ----------------------------------------------------------------------------------


def test_settings_are_sent_at_once_and_until_a_report_has_them() -> None:
    node = make_host()
    seal = peer_voice()
    node.receive_datagram(seal.seal(wire.encode(report())), PEER_AT, S)
    wanted = wire.Settings(PEER_ID, 4, "main", 60)
    node.set_settings(wanted)

    def sent(since_ns: int, until_ns: int) -> list[int]:
        return [(at - S) // MS for at, message in spoken(node, until_ns, since_ns) if message == wanted]

    assert sent(S, 3 * S) == [0, 50, 150, 350]
    node.receive_datagram(seal.seal(wire.encode(report())), PEER_AT, 3 * S)
    assert sent(3 * S, 4 * S) == [2000]
    node.receive_datagram(seal.seal(wire.encode(report(settings_revision=4))), PEER_AT, 4 * S)
    assert sent(4 * S, 5 * S) == []
    node.receive_datagram(from_peer(report(), epoch=2), PEER_AT, 5 * S)  # It has restarted.
    assert sent(5 * S, 6 * S) == [4000]


def test_a_report_that_confirms_ends_the_repeats() -> None:
    node = make_host()
    seal = peer_voice()
    node.receive_datagram(seal.seal(wire.encode(report())), PEER_AT, S)
    node.set_settings(wire.Settings(PEER_ID, 4, "main"))
    node.datagrams_to_send(S)
    node.receive_datagram(seal.seal(wire.encode(report(settings_revision=4))), PEER_AT, S + MS)
    assert {type(message) for _, message in spoken(node, 3 * S, S + MS)} <= {wire.Beacon}


def test_a_dragged_slider_sends_no_more_than_twenty_settings_a_second() -> None:
    node = with_peer()
    sent = []
    for step in range(100):
        now_ns = S + step * 10 * MS
        node.set_settings(wire.Settings(PEER_ID, step + 1, "main", step))
        sent += [read(out) for out in node.datagrams_to_send(now_ns)]
    volumes = [message.volume for message in sent if isinstance(message, wire.Settings)]
    assert 15 <= len(volumes) <= 20
    assert volumes == sorted(volumes)
    assert volumes[-1] >= 95


def test_settings_of_a_peer_that_is_away_wait_for_it() -> None:
    node = make_host()
    node.set_settings(wire.Settings(PEER_ID, 1, "main"))
    assert node.datagrams_to_send(S) == []
    node.receive_datagram(from_peer(report()), PEER_AT, 2 * S)
    assert [type(read(out)) for out in node.datagrams_to_send(2 * S)] == [wire.Settings]


def test_settings_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_module, "MAX_PEERS", 1)
    node = make_host()
    node.set_settings(wire.Settings(b"aaaaaaaa", 1, "main"))
    with pytest.raises(ControlError, match="forget"):
        node.set_settings(wire.Settings(b"bbbbbbbb", 1, "main"))


# -- lead --------------------------------------------------------------------------------------


def lead_of(**changes: object) -> float:
    return with_peer(changes).lead_duration_ns("main") / MS


def playback_lead(lead_ms: float) -> wire.PlaybackStats:
    return wire.PlaybackStats(lead_duration_ns=round(lead_ms * MS))


def test_the_lead_is_what_the_slowest_peer_needs() -> None:
    wired = wire.ClockStats(round_trip_ns=2 * MS, jitter_ns=MS)
    assert make_host().lead_duration_ns("main") == 20 * MS
    assert lead_of(playback=playback_lead(100), clock=wired) == 100 + 1 + 1 + 5
    node = with_peer({"playback": playback_lead(100), "clock": wired})
    slow = report(playback=playback_lead(150), clock=wired)
    node.receive_datagram(from_peer(slow, b"slowpeer"), PEER_AT, S)
    assert node.lead_duration_ns("main") == 157 * MS
    node.receive_datagram(from_peer(report(room="attic", playback=playback_lead(900)), b"elsewher"), PEER_AT, S)
    assert node.lead_duration_ns("main") == 157 * MS
    assert node.lead_duration_ns("attic") == 905 * MS


def test_a_lossy_link_is_given_time_for_a_repeat() -> None:
    assert lead_of(playback=playback_lead(100), clock=wire.ClockStats(loss=0.02)) == 105
    assert lead_of(playback=playback_lead(100), clock=wire.ClockStats(loss=0.021)) == 165


def test_the_lead_has_bounds_and_the_absent_do_not_count() -> None:
    assert lead_of(playback=playback_lead(3)) == 20
    assert lead_of(playback=playback_lead(60_000)) == 2000
    node = with_peer({"playback": playback_lead(1000)})
    node.handle_timer(10 * S)
    assert node.lead_duration_ns("main") == 20 * MS


# -- what is refused, and the end --------------------------------------------------------------


def test_its_own_and_other_hosts_beacons_are_no_fault_and_a_wrong_key_is() -> None:
    node = make_host()
    node.set_room(state())
    (beacon,) = node.datagrams_to_send(S)
    node.receive_datagram(beacon.data, HOST_AT, S, multicast=True)
    stranger = Sealer(derive_key(bytes(32), PEER_PURPOSE), PEER_ID, 1)
    node.receive_datagram(stranger.seal(wire.encode(report())), PEER_AT, S)
    wrong_way = peer_voice().seal(wire.encode(wire.Here(bytes(8), 1, "x")))
    node.receive_datagram(wrong_way, PEER_AT, S)
    assert node.dropped == {"own kind": 1, "key": 1, "malformed": 1}
    assert node.peers() == []
    assert node.others(S) == ()


ATTIC_AT = ("192.0.2.9", 7783)


def heard_by(node: HostNode, other: HostNode, source: Address, at_ns: int, *, multicast: bool = True) -> None:
    """Let a host hear what another says to the group."""
    for outgoing in other.datagrams_to_send(at_ns):
        assert outgoing.address is None
        node.receive_datagram(outgoing.data, source, at_ns, multicast=multicast)


def test_another_host_with_our_key_is_known_and_does_nothing() -> None:
    node, attic = make_host(), make_wary_host(b"attic id", name="attic")
    node.datagrams_to_send(S)
    attic.set_room(state())
    attic.set_room(state(room="loft"))
    for at_ns in (S, S + 250 * MS):
        heard_by(node, attic, ATTIC_AT, at_ns)
    assert node.others(2 * S) == (OtherHost("attic", "192.0.2.9", ("loft", "main"), True),)
    assert (node.datagrams_to_send(2 * S), events_of(node), node.peers()) == ([], [], [])
    attic.close()
    heard_by(node, attic, ATTIC_AT, 2 * S)
    assert node.others(2 * S) == ()
    assert set(node.dropped) == {"own kind"}


def test_a_host_with_another_key_is_known_until_it_is_silent() -> None:
    node, attic = make_host(), make_wary_host(b"attic id", name="attic", keys=NEW_KEYS)
    attic.set_room(state())
    heard_by(node, attic, ATTIC_AT, S)
    assert node.others(S) == (OtherHost("", "192.0.2.9", (), False),)
    assert node.others(11 * S) == ()
    assert set(node.dropped) == {"key"}


@pytest.mark.parametrize("keys", [HOST_KEYS, NEW_KEYS])
def test_no_other_host_is_who_speaks_to_us_alone_nor_is_anybody_after_the_end(keys: HostKeys) -> None:
    node, attic = make_host(), make_wary_host(b"attic id", keys=keys)
    attic.set_room(state())
    heard_by(node, attic, ATTIC_AT, S, multicast=False)
    node.close()
    heard_by(node, attic, ATTIC_AT, S + 20 * MS)
    assert node.others(S + 20 * MS) == ()


@pytest.mark.parametrize(
    "data",
    [
        b"MS\x02" + bytes(20),
        b"XX\x02" + bytes(60),
        b"MS\x01" + bytes(60),
        peer_voice().seal(b"\xff"),
        peer_voice().seal(wire.encode(report()))[:-1] + b"!",
    ],
)
def test_junk_makes_no_host(data: bytes) -> None:
    node = make_host()
    node.receive_datagram(data, ATTIC_AT, S, multicast=True)
    assert sum(node.dropped.values()) == 1
    assert node.others(S) == ()


def test_speakers_with_another_key_are_no_hosts() -> None:
    node = make_host()
    voice = Sealer(derive_key(NEW_KEYS.room_key, PEER_PURPOSE), PEER_ID, 1)
    node.receive_datagram(voice.seal(wire.encode(report())), PEER_AT, S, multicast=True)
    assert node.dropped == {"key": 1}
    assert node.others(S) == ()


def test_what_it_said_itself_before_its_key_was_changed_is_no_other_host() -> None:
    node, before = make_host(), make_wary_host(keys=NEW_KEYS)
    before.set_room(state())
    heard_by(node, before, HOST_AT, S)
    assert node.others(S) == ()


def test_goodbye_is_said_once_and_nothing_follows() -> None:
    node = with_peer({"wants_unicast": True})
    node.datagrams_to_send(S)
    node.close()
    node.close()
    sent = node.datagrams_to_send(2 * S)
    assert [outgoing.address for outgoing in sent] == [None, PEER_AT]
    assert {type(read(outgoing)) for outgoing in sent} == {wire.Bye}
    node.receive_datagram(from_peer(wire.Probe(1, 1), b"peer-two"), PEER_AT, 2 * S)
    assert node.datagrams_to_send(3 * S) == []
    assert node.next_timer_ns() is None


# -- properties --------------------------------------------------------------------------------

_ids = st.sampled_from([b"peer-one", b"peer-two", b"peer-thr"])
_reports = st.builds(
    report,
    room=st.sampled_from(["main", "attic", "nowhere"]),
    settings_revision=st.integers(0, 3),
    wants_unicast=st.booleans(),
)
_messages = st.one_of(
    _reports,
    st.builds(wire.Probe, st.integers(0, 9), st.integers(0, 9)),
    st.builds(wire.Hello, st.binary(min_size=8, max_size=8)),
    st.builds(wire.Bye),
)
_steps = st.one_of(
    st.tuples(st.just("hear"), _ids, st.integers(1, 2), _messages),
    st.tuples(st.just("noise"), st.binary(max_size=80)),
    st.tuples(st.just("wait"), st.integers(1, 3 * S)),
    st.tuples(st.just("room"), st.sampled_from(["main", "attic"]), st.integers(1, 5)),
    st.tuples(st.just("settings"), _ids, st.integers(1, 3)),
    st.tuples(st.just("forget"), _ids),
    st.tuples(st.just("remove"), st.sampled_from(["main", "attic"])),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(_steps, max_size=30))
def test_whatever_comes_the_host_neither_raises_nor_spins_nor_chatters(steps: list[tuple]) -> None:
    node = make_host()
    now_ns = S
    seals: dict[tuple[bytes, int], Sealer] = {}
    for kind, *what in steps:
        if kind == "hear":
            sender, epoch, message = what
            seal = seals.setdefault((sender, epoch), peer_voice(sender, epoch))
            node.receive_datagram(seal.seal(wire.encode(message)), PEER_AT, now_ns)
        elif kind == "noise":
            node.receive_datagram(what[0], PEER_AT, now_ns)
        elif kind == "wait":
            said = spoken(node, now_ns + what[0], now_ns)
            # Two rooms: 4 + 4 a second each, and the settings' repeats; to the group and three peers.
            assert len(said) <= 4 * (40 + 30 * what[0] / S)
            now_ns += what[0]
        elif kind == "room":
            node.set_room(state(what[1], room=what[0]))
        elif kind == "settings":
            node.set_settings(wire.Settings(what[0], what[1], "main"))
        elif kind == "forget":
            node.forget_peer(what[0])
        else:
            node.remove_room(what[0])
        node.handle_timer(now_ns)
        for outgoing in node.datagrams_to_send(now_ns):
            if outgoing.ticket is not None and outgoing.ticket % 2:
                node.datagram_sent(outgoing.ticket, now_ns + 1)
        due_ns = node.next_timer_ns()
        assert due_ns is None or due_ns > now_ns
        present: dict[bytes, bool] = {one.peer_id: one.present for one in node.peers()}
        for event in events_of(node):
            assert isinstance(event, PeerAppeared | PeerLost)
        assert len(present) <= 3


def test_a_host_and_a_peer_find_each_other() -> None:
    wire_between = lan()
    wire_between.run(2 * S)
    host = wire_between.nodes[HOST_AT]
    (known,) = host.peers()
    assert known.report.state_revision == 1
    assert known.reach == "multicast"
    assert known.report.clock.uncertainty_ns > 0


def test_traffic_of_the_host_does_not_grow_with_the_number_of_peers_but_for_replies() -> None:
    def beacons(peers: int) -> int:
        host = make_wary_host()
        host.set_room(state())
        room = Lan(nodes={HOST_AT: host})
        for number in range(peers):
            room.nodes[(f"192.0.2.{10 + number}", 1)] = make_peer(bytes([number] * 8))
        room.run(10 * S)
        return len(room.said(wire.Beacon, since_ns=3 * S))

    assert beacons(12) == beacons(1)


def test_host_datagrams_carry_the_hosts_direction() -> None:
    node = make_host()
    node.set_room(state())
    (beacon,) = node.datagrams_to_send(S)
    assert Sealer(derive_key(ROOM_KEY, HOST_PURPOSE), b"anyone!!", 1).is_own_kind(beacon.data)
