"""Targets that read datagrams: the codec, the seal, and whole nodes that are spoken to with the right key.

What is sealed with the room's key comes from a speaker, or from whoever has taken one over; what a host has signed
comes from the host alone. Neither may end a node, or make it say more than a datagram holds.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import msgspec

from musicsyncd.clock.filter import HostClock
from musicsyncd.errors import ProtocolError
from musicsyncd.playback.timeline import Segment, Timeline, Track
from musicsyncd.protocol import wire
from musicsyncd.protocol.auth import (
    HOST_PURPOSE,
    OVERHEAD_BYTES,
    PEER_PURPOSE,
    HostKeys,
    Opened,
    Opener,
    Sealer,
    derive_key,
    key_id,
    signed_part,
)
from musicsyncd.protocol.host import HostNode, RoomState
from musicsyncd.protocol.node import Outgoing
from musicsyncd.protocol.peer import KeyChanged, PeerNode, StateChanged
from musicsyncd.protocol.rotation import wrap
from musicsyncd.protocol.signing import Signer
from musicsyncd.units import NS_PER_MS, NS_PER_S

from .folder import piece, pieces

KEYS, NEW_KEYS = HostKeys(bytes(range(32))), HostKeys(bytes(range(1, 33)))
HOST_KEY, PEER_KEY = (derive_key(KEYS.room_key, purpose) for purpose in (HOST_PURPOSE, PEER_PURPOSE))
HOST_ID = b"the host"
MAX_MESSAGES = 24
MAX_BODY = wire.MAX_DATAGRAM_BYTES - OVERHEAD_BYTES - 64
_STEPS_NS = (0, NS_PER_MS, 300 * NS_PER_MS, 6 * NS_PER_S)
_SIGNER = Signer(KEYS.signing_seed)


def from_host(data: bytes) -> None:
    _decoded(wire.decode_from_host, data)


def from_peer(data: bytes) -> None:
    _decoded(wire.decode_from_peer, data)


def _decoded(decode: Callable[[bytes], Any], data: bytes) -> None:
    """What is taken for a message can be sent on as the same, and has no number that is none."""
    try:
        message = decode(data)
    except ProtocolError as error:
        _known(error, "malformed")
        return
    _finite(msgspec.to_builtins(message, builtin_types=(bytes,)))
    assert decode(wire.encode(message)) == message


def _known(error: ProtocolError, *reasons: str) -> None:
    assert error.reason in reasons, error.reason


def _finite(value: object) -> None:
    if isinstance(value, float):
        assert math.isfinite(value), f"a number that is none: {value}"
    elif isinstance(value, list | tuple):
        for one in value:
            _finite(one)


def opener(data: bytes) -> None:
    """With an even first byte, a datagram of anybody; with an odd one, a body that is sealed with the right key."""
    first, rest = data[:1], data[1:]
    if first and first[0] & 1:
        body = rest[: wire.MAX_DATAGRAM_BYTES - OVERHEAD_BYTES]
        opened = Opener(PEER_KEY).open(Sealer(PEER_KEY, b"a sender", 1).seal(body))
        assert opened.body == body
        return
    try:
        opened = Opener(PEER_KEY).open(rest)
    except ProtocolError as error:
        _known(error, "short", "long", "version", "key", "tag")
    else:
        assert rest in _GENUINE, f"it opens, and nobody has sealed it: {opened}"


def host(data: bytes) -> None:
    """What four speakers say to a host, sealed with the right key, at any pace."""
    node = HostNode(KEYS, HOST_ID, 2, "den", 7783, nonce=_nonces())
    node.set_room(RoomState("main", 1, Timeline((Segment(NS_PER_S, 1, 0, _TRACK),))))
    node.set_room(RoomState("kitchen", 1, Timeline()))
    senders = [Sealer(PEER_KEY, bytes([number]) * 8, 1) for number in range(4)]
    node.set_settings(wire.Settings(senders[0].sender, 3, "main"))
    now_ns = NS_PER_S
    for which, body in pieces(data, MAX_MESSAGES):
        sender, address = senders[which & 3], ("192.0.2.1", 40_000 + (which & 3))
        now_ns += _STEPS_NS[which >> 3 & 3]
        node.receive_datagram(_sealed(sender, body, which), address, now_ns, multicast=bool(which & 4))
        for asked in _asked(node, now_ns, HOST_PURPOSE, wire.decode_from_host):
            node.receive_datagram(sender.seal(wire.encode(wire.Proof(asked.nonce))), address, now_ns)
    for info in node.peers():
        assert 0 <= node.lead_duration_ns(info.report.room) <= 2 * NS_PER_S
    assert len(node.dropped) < 64, sorted(node.dropped)
    node.close()
    _asked(node, now_ns, HOST_PURPOSE, wire.decode_from_host)


def peer(data: bytes) -> None:
    """What two senders with the room's key say to a speaker, one of them the host that signs what it says."""
    clock = HostClock(None)
    node = PeerNode(KEYS.room_keys, b"the peer", 1, "lamp", clock, lambda: 0.5, "0", nonce=_nonces())
    senders = [Sealer(HOST_KEY, HOST_ID, 2), Sealer(HOST_KEY, b"stranger", 2)]
    now_ns = NS_PER_S
    for which, body in pieces(data, MAX_MESSAGES):
        sender, address = senders[which & 1], ("192.0.2.2", 7783)
        now_ns += _STEPS_NS[which >> 3 & 3]
        signing = _SIGNER if which & 2 else None
        node.receive_datagram(_sealed(sender, body, which, signing), address, now_ns, multicast=bool(which & 4))
        for asked in _asked(node, now_ns, PEER_PURPOSE, wire.decode_from_peer):
            answer: wire.FromHost
            if isinstance(asked, wire.Challenge):
                answer = wire.Proof(asked.nonce, _SIGNER.public_key)
            else:
                host_ns = now_ns + 5 * NS_PER_S
                answer = wire.ProbeReply(asked.number, asked.sent_local_ns, host_ns, host_ns)
            node.receive_datagram(_sealed(sender, wire.encode(answer), 2, _SIGNER), address, now_ns + NS_PER_MS)
    _asked(node, now_ns, PEER_PURPOSE, wire.decode_from_peer)
    node.suspended(now_ns)
    node.close()
    _asked(node, now_ns, PEER_PURPOSE, wire.decode_from_peer)


def _asked(node: HostNode | PeerNode, now_ns: int, purpose: str, decode: Callable[[bytes], Any]) -> list[Any]:
    """Let a node do what it does after each datagram, look at all that it says, and return what wants an answer."""
    node.handle_timer(now_ns)
    outgoing: list[Outgoing] = node.datagrams_to_send(now_ns)
    for one in outgoing:
        assert len(one.data) <= wire.MAX_DATAGRAM_BYTES
        if one.ticket is not None:
            node.datagram_sent(one.ticket, now_ns + 1000)
    while (event := node.next_event()) is not None:
        if isinstance(event, StateChanged):
            list(event.timeline.spans())
            assert node.mapping is not None, "a state without the clock that it goes by"
        elif isinstance(event, KeyChanged):
            node.key_kept(event.keys)
    due_ns = node.next_timer_ns()
    assert due_ns is None or isinstance(due_ns, int)
    messages = [decode(_opened(one.data, purpose).body) for one in outgoing]
    return [one for one in messages if isinstance(one, wire.Challenge | wire.Probe)]


def _opened(data: bytes, purpose: str) -> Opened:
    """Open what a node says, which may have taken over the newer key."""
    try:
        return Opener(derive_key(KEYS.room_key, purpose)).open(data)
    except ProtocolError:
        return Opener(derive_key(NEW_KEYS.room_key, purpose)).open(data)


def _sealed(sender: Sealer, body: bytes, which: int, signer: Signer | None = None) -> bytes:
    """Seal a body, or with the highest bit of ``which`` let it be the datagram itself."""
    if which & 0x80:
        return body
    body, number = body[:MAX_BODY], next(sender.numbers)
    signature = b"" if signer is None else signer.sign(signed_part(sender.sender, sender.epoch, number, body))
    return sender.seal(body, number, signature=signature)


def _nonces() -> Callable[[], bytes]:
    numbers = itertools.count(1)
    return lambda: next(numbers).to_bytes(8, "big")


_TRACK = Track(bytes(range(32)), 5_000_000, 44_100, 44_100 * 60, 2, -3.5)
_LINE = (Segment(NS_PER_S, 1, 0, _TRACK), Segment(61 * NS_PER_S, 2, 0, _TRACK, 500), Segment(99 * NS_PER_S))
_HEARD = (wire.Heard(123_456, 20_000), wire.Heard(250_000_000, -5))
FROM_PEER = (
    wire.Report("lamp", "main", 0, 0, True, "0.1", wire.ClockStats(5, 1.5, 9, 8, 7, 0.5, "kernel", 3),
                wire.PlaybackStats("together", -5, 1.5, 1, 2, 3, 4.5, "card", ""), _HEARD, key_id(KEYS.room_key)),
    wire.Probe(1, NS_PER_S),
    wire.Hello(bytes(8)),
    wire.Bye("it was stopped"),
    wire.Challenge(bytes(8)),
    wire.Proof(bytes(8)),
)  # fmt: skip
FROM_HOST = (
    wire.Beacon("main", 3, 2 * NS_PER_S, _LINE, 80, False, 7783, "den"),
    wire.ProbeReply(1, NS_PER_S, NS_PER_S, NS_PER_S + 5, 0, 0, _HEARD[0], 50),
    wire.Settings(b"the peer", 4, "kitchen", 50, True, -20_000, "left"),
    wire.Here(bytes(8), 7783, "den"),
    wire.Bye("the host is stopping"),
    wire.Challenge(bytes(8)),
    wire.Proof(bytes(8), _SIGNER.public_key),
    wrap(KEYS.room_key, NEW_KEYS, _nonces()),
)
_GENUINE = [Sealer(PEER_KEY, b"a sender", 1).seal(wire.encode(one)) for one in FROM_PEER]


def from_host_seeds() -> list[bytes]:
    return [wire.encode(one) for one in FROM_HOST]


def from_peer_seeds() -> list[bytes]:
    return [wire.encode(one) for one in FROM_PEER]


def opener_seeds() -> list[bytes]:
    return [b"\0" + one for one in _GENUINE] + [b"\1" + wire.encode(one) for one in FROM_PEER]


def host_seeds() -> list[bytes]:
    each = [piece(8 * (number % 3), wire.encode(one)) for number, one in enumerate(FROM_PEER)]
    return [*each, b"".join(each), b"".join(each) * 3, each[0] * 2 + each[1] * 4 + piece(24, b"") + each[0]]


def peer_seeds() -> list[bytes]:
    each = [piece(2 | 4 * (number == 0) | 8 * (number % 3), wire.encode(one)) for number, one in enumerate(FROM_HOST)]
    beacons = [piece(2 | 4 | 16, wire.encode(msgspec.structs.replace(FROM_HOST[0], revision=n))) for n in range(12)]
    goes = piece(26, wire.encode(FROM_HOST[4]))
    stories = [b"".join(each), each[0] * 2 + each[1] * 4 + each[2] + each[0] + goes, b"".join(beacons) + each[2]]
    return [*each, *stories, each[0] + each[-1] * 3]
