"""A host and its peers on a perfect wire, in virtual time."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

from musicsyncd.clock.exchange import Exchange
from musicsyncd.clock.mapping import ClockMapping
from musicsyncd.errors import ProtocolError
from musicsyncd.playback.timeline import Segment, Timeline, Track
from musicsyncd.protocol import wire
from musicsyncd.protocol.auth import HOST_PURPOSE, PEER_PURPOSE, HostKeys, Opener, Sealer, derive_key, signed_part
from musicsyncd.protocol.host import HostNode, RoomState
from musicsyncd.protocol.node import Address, Outgoing
from musicsyncd.protocol.peer import PeerNode
from musicsyncd.protocol.proving import Proving, Window, _Proven
from musicsyncd.protocol.signing import Signer
from musicsyncd.units import HostNs

HOST_KEYS = HostKeys(bytes(range(32)))
NEW_KEYS = HostKeys(bytes([9] * 32))
ROOM_KEYS = HOST_KEYS.room_keys
ROOM_KEY = HOST_KEYS.room_key
HOST_ID = b"host-one"
PEER_ID = b"peer-one"
HOST_AT = ("192.0.2.1", 7783)
PEER_AT = ("192.0.2.2", 40000)
MS = 1_000_000
S = 1_000_000_000
TRACK = Track(bytes(32), 1000, 48000, 48000 * 180, 2)


Node = TypeVar("Node", HostNode, PeerNode)


class FakeClock:
    """Trusts the newest exchange from the fourth on, as a clock filter would."""

    def __init__(self) -> None:
        self.exchanges: list[Exchange] = []
        self.resets = 0
        self.other_machines = 0
        self.skew_ppm = 0.0
        self.round_trip_ns = 400_000
        self.jitter_ns = 50_000
        self.correction_ns = 0

    @property
    def estimate(self) -> ClockMapping | None:
        if len(self.exchanges) < 4:
            return None
        last = self.exchanges[-1]
        return ClockMapping(last.received_local_ns, HostNs(last.received_local_ns + last.offset_ns), 0.0, 1000)

    @property
    def mapping(self) -> ClockMapping | None:
        estimate = self.estimate
        return estimate and replace(estimate, host_ns=HostNs(estimate.host_ns - self.correction_ns))

    def observe(self, exchange: Exchange) -> bool:
        self.exchanges.append(exchange)
        return True

    def correct(self, correction_ns: int) -> None:
        self.correction_ns = correction_ns

    def reset(self, *, another_machine: bool = False) -> None:
        self.resets += 1
        self.correction_ns = 0
        self.other_machines += another_machine
        self.exchanges.clear()


def nonces() -> Callable[[], bytes]:
    """Return what gives other bytes at each call of each caller, and the same in each run of a test."""
    return partial(_dice.randbytes, 8)


_dice = random.Random(5)


def make_host(host_id: bytes = HOST_ID, epoch: int = 1, name: str = "den", keys: HostKeys = HOST_KEYS) -> HostNode:
    return HostNode(keys, host_id, epoch, name, 7783, nonce=nonces())


def make_peer(
    peer_id: bytes = PEER_ID,
    epoch: int = 1,
    hosts: tuple[Address, ...] = (),
    room: str = "main",
    spread: Callable[[], float] = lambda: 0.5,
) -> PeerNode:
    return PeerNode(ROOM_KEYS, peer_id, epoch, "kitchen", FakeClock(), spread, "0.1", hosts, room, nonce=nonces())


class Trusting(Proving):
    """Takes everybody's word for being alive."""

    def window_of(self, sender: bytes, epoch: int) -> Window | None:
        if super().window_of(sender, epoch) is None:
            self._proven[sender] = _Proven(epoch, Window(), [])
        return super().window_of(sender, epoch)

    def address_of(self, sender: bytes, heard_at: Address, now_ns: int) -> tuple[Address, bool]:
        return heard_at, False


def trusting(node: Node) -> Node:
    """Return a node that asks nobody for a proof: for tests of what comes after that, with a voice made by hand."""
    node._door._proving = Trusting(nonces())
    for lock in node._door._locks.values():
        if lock.verifier is not None:
            lock.verifier.take_public_key(Signer(HOST_KEYS.signing_seed).public_key)
    return node


class Voice:
    """A host by hand: seals and signs what it is told to say."""

    def __init__(self, host_id: bytes = HOST_ID, epoch: int = 1, keys: HostKeys = HOST_KEYS) -> None:
        self.signer = Signer(keys.signing_seed)
        self.sealer = Sealer(derive_key(keys.room_key, HOST_PURPOSE), host_id, epoch)

    def say(self, message: wire.FromHost, *, signed: bool | None = None) -> bytes:
        """Return a datagram; without ``signed``, it is signed if its kind has to be."""
        body, number = wire.encode(message), next(self.sealer.numbers)
        signature = b""
        if isinstance(message, wire.SIGNED) if signed is None else signed:
            signature = self.signer.sign(signed_part(self.sealer.sender, self.sealer.epoch, number, body))
        return self.sealer.seal(body, number, signature=signature)


def state(revision: int = 1, room: str = "main", start_ns: int = 5 * S, **more: object) -> RoomState:
    return RoomState(room, revision, Timeline((Segment(start_ns, 1, 0, TRACK),)), **more)


def _openers(purpose: str) -> list[Opener]:
    return [Opener(derive_key(keys.room_key, purpose)) for keys in (HOST_KEYS, NEW_KEYS)]


_HOSTS, _PEERS = _openers(HOST_PURPOSE), _openers(PEER_PURPOSE)


def read(outgoing: Outgoing) -> wire.FromHost | wire.FromPeer:
    """Return the message in a datagram of either direction, under any key of these tests."""
    for openers, decode in ((_HOSTS, wire.decode_from_host), (_PEERS, wire.decode_from_peer)):
        for opener in openers:
            with suppress(ProtocolError):
                return decode(opener.open(outgoing.data).body)
    raise AssertionError("a datagram that nobody can read")


def events_of(node: HostNode | PeerNode) -> list[object]:
    found = []
    while (event := node.next_event()) is not None:
        found.append(event)
    return found


@dataclass
class Sent:
    at_ns: int
    source: Address
    to: Address | None
    message: object
    data: bytes = b""


@dataclass
class Lan:
    """Delivers what nodes send after 0.1 ms, unless ``lost`` says no; all clocks are the same.

    What a node in ``late_ns`` sends leaves by so much later than it says, and the node is told so.
    """

    now_ns: int = S
    nodes: dict[Address, HostNode | PeerNode] = field(default_factory=dict)
    lost: Callable[[Address, Address, bool], bool] = lambda source, to, multicast: False
    late_ns: dict[Address, int] = field(default_factory=dict)
    sent: list[Sent] = field(default_factory=list)
    _flying: list[tuple[int, Address, Address, bool, bytes]] = field(default_factory=list)

    def run(self, duration_ns: int) -> None:
        """Let time pass."""
        end_ns = self.now_ns + duration_ns
        while self.now_ns < end_ns:
            self._collect()
            timers = [t for node in self.nodes.values() if (t := node.next_timer_ns()) is not None]
            assert min(timers, default=end_ns) > self.now_ns, "a timer that is not cleared by its handling"
            self.now_ns = min([end_ns, *timers, *(flight[0] for flight in self._flying)])
            arrived = [flight for flight in self._flying if flight[0] <= self.now_ns]
            self._flying = [flight for flight in self._flying if flight[0] > self.now_ns]
            for _, source, to, multicast, data in arrived:
                if to in self.nodes:
                    self.nodes[to].receive_datagram(data, source, self.now_ns, multicast=multicast)
            for node in self.nodes.values():
                node.handle_timer(self.now_ns)
        self._collect()

    def _collect(self) -> None:
        for source, node in self.nodes.items():
            for outgoing in node.datagrams_to_send(self.now_ns):
                self.sent.append(Sent(self.now_ns, source, outgoing.address, read(outgoing), outgoing.data))
                left_ns = self.now_ns + self.late_ns.get(source, 0)
                if source in self.late_ns and outgoing.ticket is not None:
                    node.datagram_sent(outgoing.ticket, left_ns)
                multicast = outgoing.address is None
                for to in list(self.nodes) if multicast else [outgoing.address]:
                    if to is not None and not self.lost(source, to, multicast):
                        arrival_ns = left_ns + MS // 10
                        self._flying.append((arrival_ns, source, to, multicast, outgoing.data))

    def recorded(self, source: Address, kind: type | tuple[type, ...] = object) -> list[bytes]:
        """Return what one has sent until now, as whoever is on the LAN can record it."""
        return [one.data for one in self.sent if one.source == source and isinstance(one.message, kind)]

    def said(self, kind: type, *, since_ns: int = 0, to: Address | str | None = "any") -> list[Sent]:
        return [
            one
            for one in self.sent
            if isinstance(one.message, kind) and one.at_ns >= since_ns and (to == "any" or one.to == to)
        ]


def peer_voice(sender: bytes = PEER_ID, epoch: int = 1) -> Sealer:
    """Return what seals as a peer does."""
    return Sealer(derive_key(ROOM_KEY, PEER_PURPOSE), sender, epoch)


def from_peer(message: wire.FromPeer, sender: bytes = PEER_ID, epoch: int = 1) -> bytes:
    """Return a datagram of a peer that has sent nothing yet."""
    return peer_voice(sender, epoch).seal(wire.encode(message))


def report(**changes: object) -> wire.Report:
    fields: dict[str, object] = {
        "name": "kitchen",
        "room": "main",
        "settings_revision": 0,
        "state_revision": 0,
        "wants_unicast": False,
        "version": "0.1",
        "clock": wire.ClockStats(),
        "playback": wire.PlaybackStats(),
    }
    return wire.Report(**{**fields, **changes})


def lan() -> Lan:
    """Return a wire with one host that has one room, and one peer, not yet started."""
    host = make_host()
    host.set_room(state())
    return Lan(nodes={HOST_AT: host, PEER_AT: make_peer()})
