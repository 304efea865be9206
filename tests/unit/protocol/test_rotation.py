"""A room's key changes: everybody has the new one, nobody hears anything of it, and the old one counts no more."""

from __future__ import annotations

import random
from itertools import count

import pytest

from musicsyncd.errors import ControlError
from musicsyncd.protocol import wire
from musicsyncd.protocol.auth import PEER_PURPOSE, HostKeys, Sealer, derive_key, key_id
from musicsyncd.protocol.host import HostNode, RotationDone
from musicsyncd.protocol.peer import HostFound, HostLost, KeyChanged, PeerNode, StateChanged
from musicsyncd.protocol.rotation import unwrap, wrap

from .protocol_lan import (
    HOST_AT,
    HOST_KEYS,
    MS,
    PEER_AT,
    PEER_ID,
    ROOM_KEY,
    Lan,
    S,
    Voice,
    from_peer,
    lan,
    make_host,
    make_peer,
    nonces,
    report,
    state,
)
from .protocol_lan import NEW_KEYS as NEW

SECOND_AT = ("192.0.2.3", 40000)


class House:
    """A host and two peers whose daemons keep new keys, unless told otherwise; with all their events."""

    def __init__(self) -> None:
        self.room = lan()
        self.room.nodes[SECOND_AT] = make_peer(b"peer-two")
        self.keeps = {PEER_AT: True, SECOND_AT: True}
        self.events: dict[tuple[str, int], list[object]] = {at: [] for at in self.room.nodes}
        self.run(3)

    @property
    def host(self) -> HostNode:
        node = self.room.nodes[HOST_AT]
        assert isinstance(node, HostNode)
        return node

    def peer(self, at: tuple[str, int] = PEER_AT) -> PeerNode:
        node = self.room.nodes[at]
        assert isinstance(node, PeerNode)
        return node

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds * 100)):
            self.room.run(10 * MS)
            for at, node in self.room.nodes.items():
                while (event := node.next_event()) is not None:
                    self.events[at].append(event)
                    if isinstance(event, KeyChanged) and self.keeps[at]:
                        node.key_kept(event.keys)

    def of(self, kind: type, at: tuple[str, int] = PEER_AT) -> list[object]:
        return [event for event in self.events[at] if isinstance(event, kind)]


def opens_under(house: House, keys: HostKeys, since_ns: int) -> set[type]:
    """Return the kinds of what the host has said under some keys."""
    mark = Voice(keys=keys).sealer
    return {type(one.message) for one in house.room.sent if one.at_ns >= since_ns and mark.is_own_kind(one.data)}


def test_a_key_travels_encrypted_and_opens_under_the_old_one_alone() -> None:
    message = wrap(ROOM_KEY, NEW, nonces())
    assert len(message.sealed) == wire.SEALED_KEY_BYTES
    found = unwrap(ROOM_KEY, message)
    assert found is not None
    assert found.room_keys == NEW.room_keys
    assert unwrap(NEW.room_key, message) is None
    assert wrap(ROOM_KEY, NEW, nonces()) != message, "another nonce each time"
    assert NEW.room_key not in message.sealed


def test_everybody_gets_the_new_key_and_nobody_hears_anything_of_it() -> None:
    house = House()
    before = [len(house.of(StateChanged, at)) for at in (PEER_AT, SECOND_AT)]
    host_ids = {house.peer(at)._host.identity for at in (PEER_AT, SECOND_AT)}
    house.host.begin_rotation(NEW)
    began_ns = house.room.now_ns
    house.run(0.5)
    assert house.host.rotation is not None
    assert (house.host.rotation.have, house.host.rotation.present, house.host.rotation.switched) == (2, 2, False)
    for at in (PEER_AT, SECOND_AT):
        assert house.of(KeyChanged, at) == [KeyChanged(NEW.room_keys)]
    assert opens_under(house, NEW, began_ns) == {wire.ProbeReply}, "answers go under the key of the question"
    new_mark = Sealer(derive_key(NEW.room_key, PEER_PURPOSE), PEER_ID, 1)
    recent = [one for one in house.room.sent if one.source == PEER_AT and one.at_ns > house.room.now_ns - 300 * MS]
    assert recent
    assert all(new_mark.is_own_kind(one.data) for one in recent), "who has kept it speaks under it"
    house.run(6)
    assert house.host.rotation.switched
    assert wire.Beacon in opens_under(house, NEW, began_ns)
    house.run(6)
    assert house.host.rotation is None
    assert house.of(RotationDone, HOST_AT) == [RotationDone(NEW, ())]
    assert opens_under(house, HOST_KEYS, house.room.now_ns - 5 * S) == set()
    # No host was lost or found, no clock began anew, and no state was announced again.
    for number, at in enumerate((PEER_AT, SECOND_AT)):
        assert len(house.of(HostFound, at)) == 1
        assert house.of(HostLost, at) == []
        assert house.peer(at)._clock.resets == 0
        assert len(house.of(StateChanged, at)) == before[number]
        assert house.peer(at)._host.identity in host_ids
    house.host.set_room(state(2, volume=21))
    house.run(1)
    assert [event.volume for event in house.of(StateChanged)][-1] == 21
    assert house.peer().dropped["key"] == house.host.dropped["key"] == 0


def test_while_the_key_changes_every_change_of_the_room_arrives() -> None:
    house = House()
    house.host.begin_rotation(NEW)
    for revision in range(2, 40):
        house.host.set_room(state(revision, volume=revision))
        house.run(0.4)
        for at in (PEER_AT, SECOND_AT):
            assert house.of(StateChanged, at)[-1].volume == revision
    assert house.of(RotationDone, HOST_AT)


def test_afterwards_the_old_key_opens_nothing() -> None:
    house = House()
    house.host.begin_rotation(NEW)
    house.run(13)
    house.host.receive_datagram(from_peer(report(), epoch=2), PEER_AT, house.room.now_ns)
    house.peer().receive_datagram(Voice().say(wire.Bye()), HOST_AT, house.room.now_ns)
    assert house.host.dropped["key"] == house.peer().dropped["key"] == 1


@pytest.mark.parametrize("seed", range(5))
def test_through_two_fifths_of_loss_everybody_gets_it(seed: int) -> None:
    house, dice = House(), random.Random(seed)
    house.room.lost = lambda source, to, multicast: dice.random() < 0.4
    house.host.begin_rotation(NEW)
    house.run(30)
    house.room.lost = lambda source, to, multicast: False
    house.run(10)
    assert house.of(RotationDone, HOST_AT) == [RotationDone(NEW, ())]
    house.host.set_room(state(2, volume=21))
    house.run(2)
    for at in (PEER_AT, SECOND_AT):
        assert house.of(StateChanged, at)[-1].volume == 21


def test_a_peer_that_cannot_keep_it_is_waited_for_a_minute_and_plays_on() -> None:
    house = House()
    house.keeps[SECOND_AT] = False
    house.host.begin_rotation(NEW)
    house.run(59)
    assert house.host.rotation is not None
    assert (house.host.rotation.have, house.host.rotation.switched) == (1, False)
    house.run(2)
    assert house.host.rotation.switched
    house.run(5)
    assert house.of(RotationDone, HOST_AT) == [RotationDone(NEW, (b"peer-two",))], "its next start has the old key"
    house.host.set_room(state(2, volume=21))
    house.run(2)
    assert house.of(StateChanged, SECOND_AT)[-1].volume == 21
    assert [one.present for one in house.host.peers()] == [True, True]
    assert len(house.of(KeyChanged, SECOND_AT)) == 1, "it is told once"


def test_a_peer_that_hears_nothing_for_a_minute_is_named() -> None:
    house = House()
    house.room.lost = lambda source, to, multicast: to == SECOND_AT
    house.host.begin_rotation(NEW)
    house.run(67)
    (done,) = house.of(RotationDone, HOST_AT)
    assert done == RotationDone(NEW, (b"peer-two",))
    assert house.of(KeyChanged, SECOND_AT) == []


def test_a_peer_that_comes_while_the_key_changes_gets_it_too() -> None:
    house = House()
    house.keeps[SECOND_AT] = False  # So that it takes a minute.
    house.host.begin_rotation(NEW)
    house.run(20)
    late_at = ("192.0.2.4", 40000)
    house.events[late_at], house.keeps[late_at] = [], True
    house.room.nodes[late_at] = make_peer(b"peer-thr")
    house.run(3)
    assert house.of(KeyChanged, late_at) == [KeyChanged(NEW.room_keys)]


def test_a_host_that_restarts_amid_the_change_finishes_it() -> None:
    house = House()
    house.host.begin_rotation(NEW)
    house.run(6.5)
    assert house.host.rotation is not None
    assert house.host.rotation.switched
    # One has the new key alone, and one that was away has the old one alone.
    house.room.nodes[SECOND_AT] = make_peer(b"peer-two", epoch=2)
    restarted = make_host(epoch=2)
    restarted.set_room(state(1, volume=33))
    restarted.begin_rotation(NEW)
    house.room.nodes[HOST_AT] = restarted
    house.run(25)
    assert house.of(RotationDone, HOST_AT) == [RotationDone(NEW, ())]
    for at in (PEER_AT, SECOND_AT):
        assert house.of(StateChanged, at)[-1].volume == 33
    assert sorted(one.present for one in house.host.peers()) == [True, True]


@pytest.mark.parametrize("switched", [False, True])
def test_a_question_is_answered_under_its_own_key(switched: bool) -> None:
    host = make_host()
    host.begin_rotation(NEW)
    host.datagrams_to_send(S)
    if switched:
        host.datagrams_to_send(8 * S)
        assert host.rotation is not None
        assert host.rotation.switched
    for epoch, keys in enumerate((HOST_KEYS, NEW), 1):
        voice = Sealer(derive_key(keys.room_key, PEER_PURPOSE), PEER_ID, epoch)
        host._door._proving.prove(PEER_ID, epoch, 0, PEER_AT)
        for message in (wire.Hello(bytes(8)), wire.Challenge(bytes(8), bytes(96)), wire.Probe(1, 1)):
            host.receive_datagram(voice.seal(wire.encode(message)), PEER_AT, 8 * S)
            (answer,) = host.datagrams_to_send(8 * S)
            assert Voice(keys=keys).sealer.is_own_kind(answer.data)


def test_one_change_at_a_time() -> None:
    house = House()
    house.host.begin_rotation(NEW)
    with pytest.raises(ControlError, match="being changed"):
        house.host.begin_rotation(HOST_KEYS)
    house.run(13)
    house.host.begin_rotation(HOST_KEYS)
    house.run(13)
    assert [event.keys for event in house.of(RotationDone, HOST_AT)] == [NEW, HOST_KEYS]
    assert [event.keys for event in house.of(KeyChanged)] == [NEW.room_keys, HOST_KEYS.room_keys]


def test_a_host_without_peers_changes_its_key_too_but_not_before_some_could_have_come() -> None:
    room = Lan(nodes={HOST_AT: make_host()})
    host = room.nodes[HOST_AT]
    assert isinstance(host, HostNode)
    host.begin_rotation(NEW)
    room.run(5900 * MS)
    assert host.rotation is not None
    assert not host.rotation.switched
    room.run(200 * MS)
    assert host.rotation.switched
    room.run(5 * S)
    assert host.rotation is None


def test_a_peer_that_leaves_is_waited_for_no_longer() -> None:
    house = House()
    house.keeps[SECOND_AT] = False
    house.host.begin_rotation(NEW)
    house.run(10)
    house.peer(SECOND_AT).close()
    house.run(0.1)
    del house.room.nodes[SECOND_AT]
    house.run(1)
    assert house.host.rotation is not None
    assert house.host.rotation.switched


def test_keys_that_are_not_the_newest_are_not_spoken_under() -> None:
    house = House()
    node = house.peer()
    house.peer().key_kept(NEW.room_keys)
    assert node._keyring.has_key == key_id(ROOM_KEY)
    voice = Voice()
    voice.sealer.numbers = count(10_000)
    node.receive_datagram(voice.say(wire.NewKey(bytes(wire.SEALED_KEY_BYTES))), HOST_AT, house.room.now_ns)
    assert node.dropped["malformed"] == 1
    assert PEER_ID in {one.peer_id for one in house.host.peers()}
