"""What counts and what does not: strangers, recordings, and a speaker that was taken over."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musicsyncd.protocol import door, wire
from musicsyncd.protocol.auth import HOST_PURPOSE, HostKeys, Opened, Opener, Sealer, derive_key
from musicsyncd.protocol.host import HostNode
from musicsyncd.protocol.node import Address, Outgoing
from musicsyncd.protocol.peer import HostFound, PeerNode, StateChanged
from musicsyncd.protocol.signing import Signer

from .protocol_lan import (
    HOST_AT,
    HOST_ID,
    HOST_KEYS,
    MS,
    PEER_AT,
    PEER_ID,
    ROOM_KEY,
    Lan,
    S,
    Voice,
    events_of,
    from_peer,
    lan,
    make_host,
    make_peer,
    peer_voice,
    read,
    report,
    state,
)

THIEF_AT = ("192.0.2.66", 666)


def session() -> Lan:
    """Return a room in which a host and a peer have been together for some seconds."""
    room = lan()
    room.run(3 * S)
    return room


def peer_of(room: Lan) -> PeerNode:
    node = room.nodes[PEER_AT]
    assert isinstance(node, PeerNode)
    return node


def host_of(room: Lan) -> HostNode:
    node = room.nodes[HOST_AT]
    assert isinstance(node, HostNode)
    return node


def answers(node: HostNode | PeerNode, data: bytes, now_ns: int) -> list[Outgoing]:
    """Return what a datagram makes a node send to whoever sent it."""
    node.receive_datagram(data, THIEF_AT, now_ns)
    return [out for out in node.datagrams_to_send(now_ns) if out.address == THIEF_AT]


# -- proving -----------------------------------------------------------------------------------


def test_two_strangers_prove_themselves_to_each_other_and_are_together_in_a_quarter_of_a_second() -> None:
    room = lan()
    room.run(250 * MS)
    assert peer_of(room).mapping is not None
    assert [type(event) for event in events_of(peer_of(room))] == [HostFound, StateChanged]
    assert host_of(room).dropped["unproven"] >= 1
    assert peer_of(room).dropped["unproven"] >= 1
    proofs = room.said(wire.Proof)
    assert {one.source for one in proofs} == {HOST_AT, PEER_AT}


def test_without_a_word_by_multicast_they_are_together_as_soon() -> None:
    room = lan()
    room.nodes[PEER_AT] = make_peer(hosts=(HOST_AT,))
    room.lost = lambda source, to, multicast: multicast
    room.run(400 * MS)
    assert [type(event) for event in events_of(peer_of(room))][-1] is StateChanged


def test_a_peer_that_was_asked_whether_it_is_alive_reports_again_at_once_but_only_once() -> None:
    node, voice = make_peer(), Voice()
    node.datagrams_to_send(S)
    for _ in range(2):
        node.receive_datagram(voice.say(wire.Challenge(bytes(8))), HOST_AT, S + MS)
    assert [type(read(out)) for out in node.datagrams_to_send(S + 2 * MS)] == [wire.Proof, wire.Proof]
    assert [type(read(out)) for out in node.datagrams_to_send(S + 7 * MS)] == [wire.Report]
    node.receive_datagram(voice.say(wire.Challenge(bytes(8))), HOST_AT, S + 8 * MS)
    assert [type(read(out)) for out in node.datagrams_to_send(S + 99 * MS)] == [wire.Proof]


def test_a_peer_that_asks_whether_the_host_is_alive_hears_the_state_soon() -> None:
    for present in (True, False):
        host, voice = make_host(), peer_voice()
        host.set_room(state())
        if present:
            host._door._proving.prove(PEER_ID, 1, 0, PEER_AT)
            host.receive_datagram(voice.seal(wire.encode(report(state_revision=1))), PEER_AT, S)
        for after_ms in (0, 20, 60, 140):
            host.datagrams_to_send(S + after_ms * MS)
        challenge = wire.Challenge(bytes(8), bytes(wire.CHALLENGE_PADDING_BYTES))
        host.receive_datagram(voice.seal(wire.encode(challenge)), PEER_AT, S + 150 * MS)
        kinds = [type(read(out)) for out in host.datagrams_to_send(S + 190 * MS)]
        assert kinds == ([wire.Proof, wire.Beacon] if present else [wire.Proof])


def test_a_host_that_restarted_while_its_peer_did_is_found_again() -> None:
    room = session()
    room.nodes[HOST_AT] = make_host(epoch=2)
    host_of(room).set_room(state(volume=9))
    room.nodes[PEER_AT] = make_peer(epoch=2)
    room.run(S)
    assert [event.volume for event in events_of(peer_of(room)) if isinstance(event, StateChanged)] == [9]
    assert [one.present for one in host_of(room).peers()] == [True]


def test_until_the_new_epoch_of_a_host_is_proven_its_peer_goes_on_with_the_old_one() -> None:
    room = session()
    before = peer_of(room).mapping
    restarted = make_host(epoch=2)
    restarted.set_room(state(volume=9))
    room.nodes[HOST_AT] = restarted
    events_of(peer_of(room))
    # Nothing that the peer asks arrives, so it never hears a proof.
    room.lost = lambda source, to, multicast: source == PEER_AT
    room.run(3 * S)
    assert events_of(peer_of(room)) == []
    assert peer_of(room).mapping is before is not None
    assert room.said(wire.Challenge, since_ns=room.now_ns - S, to=HOST_AT), "it keeps asking"
    room.lost = lambda source, to, multicast: False
    room.run(S)
    assert [event.volume for event in events_of(peer_of(room)) if isinstance(event, StateChanged)] == [9]


@pytest.mark.parametrize("seed", range(10))
def test_through_two_fifths_of_loss_they_find_each_other_within_five_seconds(seed: int) -> None:
    room, dice = lan(), random.Random(seed)
    room.lost = lambda source, to, multicast: dice.random() < 0.4
    room.run(5 * S)
    assert peer_of(room).mapping is not None
    assert [one.present for one in host_of(room).peers()] == [True]


# -- recordings --------------------------------------------------------------------------------


@pytest.mark.parametrize("epoch", [1, 2])
def test_a_recorded_session_does_nothing_to_a_peer_that_has_just_started(epoch: int) -> None:
    """Neither what a host said that is gone, nor what the one said that is there, before the peer came."""
    room = session()
    fresh = make_peer(epoch=2)
    if epoch == 2:
        room.nodes[HOST_AT] = make_host(epoch=2)
    for data in room.recorded(HOST_AT):
        fresh.receive_datagram(data, HOST_AT, room.now_ns, multicast=True)
    assert events_of(fresh) == []
    assert fresh.host_address is None
    challenges = [out for out in fresh.datagrams_to_send(room.now_ns) if isinstance(read(out), wire.Challenge)]
    assert len(challenges) == 1
    challenged = room.recorded(HOST_AT, wire.Challenge)
    assert fresh.dropped["unproven"] + fresh.dropped["unexpected proof"] + len(challenged) == len(
        room.recorded(HOST_AT)
    )


def test_a_recorded_session_does_nothing_to_a_host_that_has_just_started() -> None:
    room = session()
    fresh = make_host(epoch=2)
    fresh.set_room(state())
    fresh.datagrams_to_send(room.now_ns)
    for data in room.recorded(PEER_AT):
        fresh.receive_datagram(data, PEER_AT, room.now_ns)
    assert fresh.peers() == []
    said = [read(out) for out in fresh.datagrams_to_send(room.now_ns)]
    assert {type(message) for message in said} <= {wire.Challenge, wire.Proof, wire.Beacon}
    assert sum(isinstance(message, wire.Challenge) for message in said) == 1


def test_a_recorded_session_does_nothing_to_who_was_there() -> None:
    room = session()
    host_of(room).set_room(state(2, volume=5))
    room.run(S)
    events_of(peer_of(room)), events_of(host_of(room))
    before = host_of(room).peers()
    for source, node in ((HOST_AT, peer_of(room)), (PEER_AT, host_of(room))):
        heard = room.recorded(source)
        for data in heard:
            node.receive_datagram(data, THIEF_AT, room.now_ns, multicast=True)
        refused = ("replay", "unexpected proof", "unexpected reply", "too many questions", "own kind")
        assert sum(node.dropped[reason] for reason in refused) >= len(heard)
        assert events_of(node) == []
        assert [out for out in node.datagrams_to_send(room.now_ns) if out.address == THIEF_AT] == []
    assert host_of(room).peers() == before
    assert peer_of(room).host_address == HOST_AT


def test_what_was_recorded_before_a_peer_came_does_nothing_when_the_host_has_proved_itself_to_it() -> None:
    room = session()
    host_of(room).set_room(state(2, volume=5))
    room.nodes[PEER_AT] = make_peer(epoch=2)
    room.run(S)
    assert [event.volume for event in events_of(peer_of(room)) if isinstance(event, StateChanged)] == [5]
    heard = room.recorded(HOST_AT, wire.SIGNED)
    for data in heard:
        peer_of(room).receive_datagram(data, HOST_AT, room.now_ns, multicast=True)
    assert peer_of(room).dropped["replay"] + peer_of(room).dropped["unexpected proof"] >= len(heard)
    assert events_of(peer_of(room)) == []


def test_a_recorded_proof_proves_nothing() -> None:
    room = session()
    proofs = room.recorded(HOST_AT, wire.Proof)
    assert proofs
    fresh = make_peer(epoch=2)
    beacon = room.recorded(HOST_AT, wire.Beacon)[0]
    fresh.receive_datagram(beacon, HOST_AT, S)
    for data in proofs:
        fresh.receive_datagram(data, HOST_AT, S + MS)
    assert fresh.dropped == {"unproven": 1, "unexpected proof": len(proofs)}
    assert events_of(fresh) == []


def test_a_flood_of_recorded_epochs_costs_one_challenge_in_fifty_milliseconds_and_bounded_memory() -> None:
    for node, made in (
        (make_host(), from_peer),
        (make_peer(), lambda message, sender, epoch: Voice(sender, epoch).say(message)),
    ):
        message = report() if isinstance(node, HostNode) else wire.Beacon("main", 1, S, (), 50, False, 80, "den" * 9)
        asked = []
        for epoch in range(4000):
            now_ns = S + epoch * 25_000
            node.receive_datagram(made(message, b"recorded", epoch), THIEF_AT, now_ns)
            asked += [out for out in node.datagrams_to_send(now_ns) if out.address == THIEF_AT]
        assert 1 <= len(asked) <= 2
        for number in range(2000):
            node.receive_datagram(made(message, number.to_bytes(8, "big"), 1), THIEF_AT, 2 * S)
        assert len(node._door._to_send) == door.MAX_TO_SEND
        assert node.dropped["unproven"] == 6000


# -- addresses ---------------------------------------------------------------------------------


def test_a_datagram_that_comes_from_elsewhere_takes_no_probes_there() -> None:
    """One that the peer has not had, as the copy for another peer is, sent on by who overheard it."""
    room = session()
    node = peer_of(room)
    room.nodes[("192.0.2.3", 1)] = make_peer(b"peer-two")
    room.lost = lambda source, to, multicast: to == PEER_AT
    host_of(room).set_room(state(2))
    room.run(2500 * MS)
    overheard = room.recorded(HOST_AT, wire.Beacon)[-3:]
    begin_ns = room.now_ns
    for data in overheard:
        node.receive_datagram(data, THIEF_AT, room.now_ns)
    room.run(2 * S)
    to_thief = [one.message for one in room.sent if one.to == THIEF_AT and one.at_ns >= begin_ns]
    assert [type(message) for message in to_thief] == [wire.Challenge]
    assert node.host_address == HOST_AT


def test_a_report_that_comes_from_elsewhere_takes_no_beacons_there() -> None:
    room = session()
    room.lost = lambda source, to, multicast: source == PEER_AT
    room.run(1200 * MS)
    for data in room.recorded(PEER_AT, wire.Report)[-1:]:
        host_of(room).receive_datagram(data, THIEF_AT, room.now_ns)
    assert [one.address for one in host_of(room).peers()] == [PEER_AT]
    host_of(room).set_room(state(2))
    room.run(S)
    assert [type(one.message) for one in room.sent if one.to == THIEF_AT] == [wire.Challenge]


@pytest.mark.parametrize("who", [HOST_AT, PEER_AT], ids=["host", "peer"])
def test_who_has_another_address_is_found_there_when_it_has_answered_from_it(who: Address) -> None:
    room = session()
    room.nodes[THIEF_AT] = room.nodes.pop(who)
    room.run(3 * S)
    host = room.nodes[THIEF_AT if who == HOST_AT else HOST_AT]
    peer = room.nodes[THIEF_AT if who == PEER_AT else PEER_AT]
    assert isinstance(host, HostNode)
    assert isinstance(peer, PeerNode)
    assert peer.host_address == (THIEF_AT if who == HOST_AT else HOST_AT)
    assert [one.address for one in host.peers()] == [THIEF_AT if who == PEER_AT else PEER_AT]
    host.set_room(state(2, volume=3))
    room.run(S)
    assert [event.volume for event in events_of(peer) if isinstance(event, StateChanged)][-1] == 3


# -- no answer is longer than its question ------------------------------------------------------


_texts = st.text(min_size=1, max_size=20)
_from_peer = st.one_of(
    st.builds(wire.Probe, st.integers(0, 1 << 60), st.integers(0, 1 << 60), st.integers(0, 64).map(bytes)),
    st.builds(report, name=_texts, room=_texts),
    st.builds(wire.Hello, st.binary(min_size=8, max_size=8), st.integers(0, 128).map(bytes)),
    st.builds(wire.Bye, st.text(max_size=20)),
    st.builds(wire.Challenge, st.binary(min_size=8, max_size=8), st.integers(0, 96).map(bytes)),
    st.builds(wire.Proof, st.binary(min_size=8, max_size=8), st.binary(max_size=32)),
)
_from_host = st.one_of(
    st.builds(wire.Beacon, _texts, st.just(1), st.just(S), st.just(()), st.just(1), st.just(True), st.just(80), _texts),
    st.builds(wire.ProbeReply, st.integers(0, 9), st.just(S), st.just(S), st.just(S)),
    st.builds(wire.Settings, st.just(PEER_ID), st.integers(1, 9), _texts),
    st.builds(wire.Here, st.binary(min_size=8, max_size=8), st.just(80), _texts),
    st.builds(wire.Bye, st.text(max_size=20)),
    st.builds(wire.Challenge, st.binary(min_size=8, max_size=8), st.integers(0, 96).map(bytes)),
    st.builds(wire.Proof, st.binary(min_size=8, max_size=8), st.binary(max_size=32)),
    st.builds(wire.NewKey, st.binary(min_size=wire.SEALED_KEY_BYTES, max_size=wire.SEALED_KEY_BYTES)),
)


def test_every_message_is_asked_below() -> None:
    kinds = {kind for union in (wire.FromHost, wire.FromPeer) for kind in union.__args__}
    asked = {wire.Probe, wire.Report, wire.Hello, wire.Bye, wire.Challenge, wire.Proof}
    assert kinds == asked | {wire.Beacon, wire.ProbeReply, wire.Settings, wire.Here, wire.NewKey}


@settings(max_examples=300, deadline=None)
@given(_from_peer, st.booleans())
def test_no_answer_of_a_host_is_longer_than_its_question(message: wire.FromPeer, present: bool) -> None:
    node, voice = make_host(name="h" * 64), peer_voice()
    if present:
        node._door._proving.prove(PEER_ID, 1, 0, PEER_AT)
        node.receive_datagram(voice.seal(wire.encode(report())), PEER_AT, S)
    question = voice.seal(wire.encode(message))
    found = answers(node, question, S)
    assert len(found) <= 1
    assert sum(len(out.data) for out in found) <= len(question)


@settings(max_examples=300, deadline=None)
@given(_from_host, st.booleans(), st.booleans())
def test_no_answer_of_a_peer_is_longer_than_its_question(message: wire.FromHost, proven: bool, signed: bool) -> None:
    node, voice = make_peer(), Voice()
    node.datagrams_to_send(S)
    if proven:
        node._door._proving.prove(HOST_ID, 1, 0, HOST_AT)
    question = voice.say(message, signed=signed)
    node.receive_datagram(question, THIEF_AT, S)
    found = [out for out in node._door.to_send() if out.address == THIEF_AT]
    assert len(found) <= 1
    assert sum(len(out.data) for out in found) <= len(question)


def test_a_challenge_that_is_too_short_for_its_proof_is_not_answered() -> None:
    for padding, count in ((wire.CHALLENGE_PADDING_BYTES, 1), (wire.CHALLENGE_PADDING_BYTES - 1, 0)):
        assert len(answers(make_host(), from_peer(wire.Challenge(bytes(8), bytes(padding))), S)) == count


@pytest.mark.parametrize("node", [make_host(), make_peer()], ids=["host", "peer"])
def test_who_has_not_the_key_hears_nothing(node: HostNode | PeerNode) -> None:
    node.datagrams_to_send(S)
    stranger = HostKeys(bytes([7] * 32))
    data = [Voice(keys=stranger).say(wire.Challenge(bytes(8), bytes(96))), bytes(200), b"", b"MS\x02" + bytes(100)]
    good = from_peer(wire.Challenge(bytes(8), bytes(96)))
    data += [good[:-1], good[:-16] + bytes(16), good[:60] + b"\xff" + good[61:], Voice().say(wire.Bye())[:-1]]
    for one in data:
        assert answers(node, one, S + MS) == []
    assert sum(node.dropped.values()) == len(data)


# -- a speaker that was taken over -------------------------------------------------------------


class Insider:
    """Who has the room key and all that was ever said, and none of the host's seed."""

    def __init__(self, room: Lan) -> None:
        self.forger = Voice()
        self.forger.signer = Signer(bytes(32))
        self.room = room
        self.far = 1 << 40

    def say(self, message: wire.FromHost, kind: str) -> bytes:
        """Return a message under the host's name that is not signed, wrongly signed, or has another's signature."""
        body = wire.encode(message)
        self.far += 1
        if kind == "unsigned":
            return self.forger.sealer.seal(body, self.far)
        if kind == "own seed":
            return self.forger.sealer.seal(body, self.far, signature=self.forger.signer.sign(body))
        return self.forger.sealer.seal(body, self.far, signature=self.stolen().signature)

    def stolen(self) -> Opened:
        """Return a message that the host signed."""
        return Opener(derive_key(ROOM_KEY, HOST_PURPOSE)).open(self.room.recorded(HOST_AT, wire.Beacon)[0])


_FORGED = [
    wire.beacon_of_full_length(wire.Beacon("main", 99, S, (), 1, True, 80, "thief")),
    wire.Settings(PEER_ID, 99, "attic", 1, True),
    wire.Bye("it is over"),
    wire.NewKey(bytes(wire.SEALED_KEY_BYTES)),
]


@pytest.mark.parametrize("kind", ["unsigned", "own seed", "stolen"])
@pytest.mark.parametrize("message", _FORGED, ids=lambda message: type(message).__name__)
def test_who_has_the_room_key_cannot_speak_as_the_host(message: wire.FromHost, kind: str) -> None:
    room = session()
    node = peer_of(room)
    events_of(node)
    node.receive_datagram(Insider(room).say(message, kind), HOST_AT, room.now_ns, multicast=True)
    assert node.dropped["unsigned" if kind == "unsigned" else "signature"] == 1
    room.run(2 * S)
    assert events_of(node) == []
    host_of(room).set_room(state(2, volume=44))
    room.run(S)
    assert [event.volume for event in events_of(node)] == [44], "and the host itself is still heard"


def test_who_has_the_room_key_cannot_prove_to_be_the_host() -> None:
    room = session()
    insider, node = Insider(room), peer_of(room)
    later = Sealer(derive_key(ROOM_KEY, HOST_PURPOSE), HOST_ID, 2)
    host_key = Signer(HOST_KEYS.signing_seed).public_key
    beacon = wire.encode(_FORGED[0])
    node.receive_datagram(later.seal(beacon, signature=insider.stolen().signature), THIEF_AT, room.now_ns)
    (challenge,) = (m for out in node.datagrams_to_send(room.now_ns) if isinstance(m := read(out), wire.Challenge))
    own = insider.forger.signer
    forged = [(host_key, bytes(64)), (own.public_key, bytes(64)), (host_key, insider.stolen().signature)]
    for public_key, signature in forged:
        proof = wire.encode(wire.Proof(challenge.nonce, public_key))
        node.receive_datagram(later.seal(proof, signature=signature), THIEF_AT, room.now_ns)
    node.receive_datagram(later.seal(wire.encode(wire.Proof(challenge.nonce, host_key))), THIEF_AT, room.now_ns)
    assert node.dropped["signature"] == 3
    assert node.dropped["unsigned"] == 1
    assert node._host is not None
    assert node._host.identity == (HOST_ID, 1)


def test_a_message_of_the_host_sent_on_under_a_sequence_far_ahead_does_not_silence_it() -> None:
    room = session()
    insider, node = Insider(room), peer_of(room)
    stolen = insider.stolen()
    for number in (1 << 40, (1 << 62) - 1):
        sent_on = insider.forger.sealer.seal(stolen.body, number, signature=stolen.signature)
        node.receive_datagram(sent_on, HOST_AT, room.now_ns, multicast=True)
    assert node.dropped["signature"] == 2
    # What is not signed may have any sequence, and uses up none.
    reply = wire.encode(wire.ProbeReply(1, 1, 1, 1))
    node.receive_datagram(insider.forger.sealer.seal(reply, (1 << 62) - 1), HOST_AT, room.now_ns)
    assert node.dropped["unexpected reply"] == 1
    events_of(node)
    host_of(room).set_room(state(2, volume=44))
    room.run(S)
    assert [event.volume for event in events_of(node)] == [44]


def test_a_reply_that_was_not_asked_for_does_not_say_that_the_host_is_there() -> None:
    room = session()
    room.lost = lambda source, to, multicast: source == HOST_AT
    voice = Voice()
    for _ in range(60):
        reply = wire.ProbeReply(5, 5, room.now_ns, room.now_ns)
        peer_of(room).receive_datagram(voice.say(reply), THIEF_AT, room.now_ns)
        room.run(100 * MS)
    assert peer_of(room).host_address is None


# -- copies ------------------------------------------------------------------------------------


def test_one_signature_serves_all_copies_and_both_ways_count() -> None:
    host, signed = make_host(), []
    host.set_room(state())
    for number in range(5):
        at = (f"192.0.2.{number + 10}", 1)
        host._door._proving.prove(bytes([number] * 8), 1, 0, at)
        host.receive_datagram(from_peer(report(wants_unicast=True), bytes([number] * 8)), at, S)
    signer = host._door._sealing.signer
    real = signer.sign
    signer.sign = lambda data: signed.append(data) or real(data)
    sent = host.datagrams_to_send(S)
    assert len(sent) == 6
    assert len(signed) == 1
    assert len({out.data for out in sent}) == 2
    peer = make_peer()
    peer._door._proving.prove(HOST_ID, 1, 0, HOST_AT)
    peer._door._sealing.verifier.take_public_key(signer.public_key)
    for out in sent[:2]:
        peer.receive_datagram(out.data, HOST_AT, S, multicast=out.address is None)
        peer.receive_datagram(out.data, HOST_AT, S, multicast=out.address is None)
    assert peer.dropped == {"replay": 2}
    assert not peer.wants_unicast
