"""The messages of a room and their encoding.

Every message is a msgpack array whose first element says its kind; msgspec checks
each field against its type and limits while it decodes. Sealing, the sender, its
epoch, the sequence number and a host's signature are around the message, in :mod:`musicsyncd.protocol.auth`.

A message carries state, not events: any one :class:`Beacon` brings a peer fully up to
date, so loss, doubling and reordering need no special case.

Knows nothing of keys, addresses or sockets.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from musicsyncd.errors import ProtocolError
from musicsyncd.playback.timeline import MAX_SEGMENTS, Segment

MAX_DATAGRAM_BYTES = 1200
"""Fits any path with an MTU of 1,280 (IPv6's minimum) without fragments, as QUIC's initial size does."""

MAX_NAME_CHARS = 64

_Time = Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)]
_Signed = Annotated[int, msgspec.Meta(gt=-(1 << 62), lt=1 << 62)]
_Count = Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)]
_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_NAME_CHARS)]
_Text = Annotated[str, msgspec.Meta(max_length=120)]
_Percent = Annotated[int, msgspec.Meta(ge=0, le=100)]
_Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
_PeerId = Annotated[bytes, msgspec.Meta(min_length=8, max_length=8)]
_Fraction = Annotated[float, msgspec.Meta(ge=0, le=1)]
_Ppm = Annotated[float, msgspec.Meta(ge=-1e6, le=1e6)]

MAX_OUTPUT_DELAY_US = 5_000_000
"""Five seconds either way: more than any amplifier or wireless link behind a speaker adds."""

_Delay = Annotated[int, msgspec.Meta(ge=-MAX_OUTPUT_DELAY_US, le=MAX_OUTPUT_DELAY_US)]

MAX_HEARD = 16
"""Beacons that one report tells of: those of a second, with three changes of the state in it."""

MAX_LATENESS_NS = (1 << 31) - 1
"""Two seconds: no network holds a datagram for longer, and it takes five bytes at most."""

BEACON_MARK_BITS = 32
"""Enough: of the beacons of a minute, no two have the same in their low bits but by a rare chance."""


_Nonce = Annotated[bytes, msgspec.Meta(min_length=8, max_length=8)]
_KeyId = Annotated[bytes, msgspec.Meta(min_length=4, max_length=4)]

LEAST_BEACON_BYTES = 46
"""A signed beacon of this length is as long as the :class:`Challenge` with which a stranger answers it."""

CHALLENGE_PADDING_BYTES = 96
"""Of a peer's challenge: with it, it is as long as a host's :class:`Proof` with key and signature."""

SEALED_KEY_BYTES = 92
"""A nonce of 12 bytes, two keys of 32, and a tag of 16."""

MAX_PROBE_INTERVAL_MS = 2_000
"""A host that asks for more patience would be taken for silent."""


class Beacon(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Host → everyone, 4 a second for each room and at once on a change: the whole state of a room.

    Attributes:
        room: its name.
        revision: rises with each change of the state within one epoch of the host.
        host_ns: the host's clock when this was sent.
        segments: the time line, what sounds now first.
        volume: of the whole room, percent.
        muted: the whole room is silent.
        http_port: where the host serves media and control.
        host_name: for people.
        padding: zero bytes, that bring it to :data:`LEAST_BEACON_BYTES`.
    """

    room: _Name
    revision: _Count
    host_ns: _Time
    segments: Annotated[tuple[Segment, ...], msgspec.Meta(max_length=MAX_SEGMENTS)]
    volume: _Percent
    muted: bool
    http_port: _Port
    host_name: _Name
    padding: Annotated[bytes, msgspec.Meta(max_length=LEAST_BEACON_BYTES)] = b""


class Heard(msgspec.Struct, frozen=True, array_like=True):
    """When a beacon that came by multicast was heard, by one peer or by those that hear together.

    Attributes:
        beacon: the low :data:`BEACON_MARK_BITS` bits of its ``host_ns``, by which the host knows it again.
        lateness_ns: the host's time at its reception, by the estimates of who heard it, without what those were
            corrected by, minus the beacon's ``host_ns``.
    """

    beacon: Annotated[int, msgspec.Meta(ge=0, lt=1 << BEACON_MARK_BITS)]
    lateness_ns: Annotated[int, msgspec.Meta(ge=-MAX_LATENESS_NS, le=MAX_LATENESS_NS)]


class Probe(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """Peer → host: what time is it? ``padding`` makes it no shorter than its reply.

    Attributes:
        number: counts this peer's probes.
        sent_local_ns: the peer's clock just before sending (t1); by this it knows the answer again.
        padding: zero bytes: as many as the longest reply needs, and one for what it may yet have to say.
    """

    number: _Count
    sent_local_ns: _Time
    padding: Annotated[bytes, msgspec.Meta(max_length=64)] = bytes(49)


class ProbeReply(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """Host → one peer: the answer to a probe.

    Attributes:
        number: the probe's.
        sent_local_ns: t1, as the probe had it.
        received_host_ns: the host's clock when the probe arrived (t2).
        sent_host_ns: the host's clock just before this left (t3).
        previous_number: of the probe that the host answered before, to this peer; 0 for unknown.
        previous_sent_host_ns: when that answer really left, by the kernel's stamp; 0 for unknown.
        fellows_heard: when those that hear together with the peer heard a beacon, by the middle of their
            estimates; None when nothing is known of that.
        least_interval_ms: between probes, as the host has this many peers to answer; 0 for as the peer likes.
    """

    number: _Count
    sent_local_ns: _Time
    received_host_ns: _Time
    sent_host_ns: _Time
    previous_number: _Count = 0
    previous_sent_host_ns: _Time = 0
    fellows_heard: Heard | None = None
    least_interval_ms: Annotated[int, msgspec.Meta(ge=0, le=MAX_PROBE_INTERVAL_MS)] = 0


class PlaybackStats(msgspec.Struct, frozen=True, array_like=True):
    """What a speaker says of its sound.

    Attributes:
        state: one word of ``no card``, ``silent``, ``waiting``, ``catching up``, ``together``.
        sync_error_ns: when frames sound minus when they should, late is positive.
        correction_ppm: the rate change in force against the card's nominal rate.
        underruns: buffers that came too late, since the start.
        starved_frames: frames that were silence for want of decoded sound, since the start.
        lead_duration_ns: how long before it sounds a change must be known.
        card_ppm: the card's rate against the peer's clock.
        output: the sound card, for people.
        fault: what is wrong in one line, or empty.
    """

    state: Annotated[str, msgspec.Meta(max_length=16)] = "silent"
    sync_error_ns: _Signed = 0
    correction_ppm: _Ppm = 0.0
    underruns: _Count = 0
    starved_frames: _Count = 0
    lead_duration_ns: _Time = 0
    card_ppm: _Ppm = 0.0
    output: _Text = ""
    fault: _Text = ""


class ClockStats(msgspec.Struct, frozen=True, array_like=True):
    """What a speaker knows of the host's clock.

    Attributes:
        offset_ns: host minus local, positive when the host is ahead.
        skew_ppm: rate of the offset, positive when the host runs fast.
        uncertainty_ns: half the width of what is possible; 0 while nothing is known.
        round_trip_ns: the least of the last minute.
        jitter_ns: spread of the round trips of the last minute (interquartile range).
        loss: the share of the last minute's probes that had no answer.
        stamps: what the kernel of the speaker's machine stamps: ``kernel`` for what it sends and receives,
            ``receive`` for that only, ``user`` for neither.
        correction_ns: what was taken off the estimate because of what other speakers heard.
    """

    offset_ns: _Signed = 0
    skew_ppm: _Ppm = 0.0
    uncertainty_ns: _Time = 0
    round_trip_ns: _Time = 0
    jitter_ns: _Time = 0
    loss: _Fraction = 0.0
    stamps: Annotated[str, msgspec.Meta(max_length=8)] = "user"
    correction_ns: _Signed = 0


class Report(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """Peer → host once a second, at once on joining: who it is and how it is.

    Attributes:
        name: for people; unique where its owner made it so.
        room: the room whose state it follows.
        settings_revision: of the newest :class:`Settings` it has taken over, 0 for none.
        state_revision: of the newest beacon it has taken over, 0 for none.
        wants_unicast: no beacon came by multicast of late; send them to its own address.
        version: of its program.
        clock: its clock.
        playback: its sound.
        heard: the newest beacons of its room since its last report.
        has_key: of the newest room key that it keeps, as :func:`musicsyncd.protocol.auth.key_id` names it.
    """

    name: _Name
    room: _Name
    settings_revision: _Count
    state_revision: _Count
    wants_unicast: bool
    version: Annotated[str, msgspec.Meta(max_length=24)]
    clock: ClockStats
    playback: PlaybackStats
    heard: Annotated[tuple[Heard, ...], msgspec.Meta(max_length=MAX_HEARD)] = ()
    has_key: _KeyId = bytes(4)


class Settings(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """Host → one peer, until its reports say that it has them: what the host keeps for it.

    Attributes:
        peer_id: whom they are for.
        revision: rises with each change.
        room: the room it belongs to.
        volume: its own, percent, times the room's.
        muted: it is silent.
        output_delay_us: what stands behind it is late by this and must be fed earlier; positive is earlier.
        channels: ``stereo``, ``left``, ``right`` or ``mono``.
    """

    peer_id: _PeerId
    revision: _Count
    room: _Name
    volume: _Percent = 100
    muted: bool = False
    output_delay_us: _Delay = 0
    channels: Annotated[str, msgspec.Meta(pattern="^(stereo|left|right|mono)$")] = "stereo"


class Hello(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """A command → everyone: where is the host? ``padding`` makes it no shorter than its reply.

    Attributes:
        nonce: comes back in the answer.
        padding: zero bytes.
    """

    nonce: _Nonce
    padding: Annotated[bytes, msgspec.Meta(max_length=128)] = bytes(96)


class Here(msgspec.Struct, frozen=True, array_like=True, tag=7):
    """Host → whoever said hello.

    Attributes:
        nonce: the hello's.
        http_port: where the control interface is.
        host_name: for people.
    """

    nonce: _Nonce
    http_port: _Port
    host_name: _Name


class Bye(msgspec.Struct, frozen=True, array_like=True, tag=8):
    """A node is leaving on purpose. ``reason`` is for people."""

    reason: _Text = ""


class Challenge(msgspec.Struct, frozen=True, array_like=True, tag=9):
    """Any node → who sent it something and is not known to be alive: are you? See :mod:`musicsyncd.protocol.proving`.

    Attributes:
        nonce: comes back in the proof.
        padding: zero bytes: a host's proof is longer than a peer's, so a peer's challenge is, too.
    """

    nonce: _Nonce
    padding: Annotated[bytes, msgspec.Meta(max_length=CHALLENGE_PADDING_BYTES)] = b""


class Proof(msgspec.Struct, frozen=True, array_like=True, tag=10):
    """The answer to a challenge.

    Attributes:
        nonce: the challenge's.
        public_key: with which to verify what the host signs, 32 bytes; a peer has none.
    """

    nonce: _Nonce
    public_key: Annotated[bytes, msgspec.Meta(max_length=32)] = b""


class NewKey(msgspec.Struct, frozen=True, array_like=True, tag=11):
    """Host → one peer, until its reports say that it has it: the room has another key from now on.

    Attributes:
        sealed: the new keys, as :mod:`musicsyncd.protocol.rotation` encrypts them.
    """

    sealed: Annotated[bytes, msgspec.Meta(min_length=SEALED_KEY_BYTES, max_length=SEALED_KEY_BYTES)]


FromHost = Beacon | ProbeReply | Settings | Here | Bye | Challenge | Proof | NewKey
FromPeer = Probe | Report | Hello | Bye | Challenge | Proof

SIGNED = (Beacon, Settings, Bye, Proof, NewKey)
"""What a host signs. Its other messages count only as answers to what was asked with a number of one's own."""

_encoder = msgspec.msgpack.Encoder()
_from_host = msgspec.msgpack.Decoder(FromHost)
_from_peer = msgspec.msgpack.Decoder(FromPeer)


def beacon_of_full_length(beacon: Beacon) -> Beacon:
    """Return a beacon that is long enough to be answered with a challenge."""
    missing = LEAST_BEACON_BYTES - len(encode(beacon))
    return msgspec.structs.replace(beacon, padding=bytes(missing)) if missing > 0 else beacon


def encode(message: FromHost | FromPeer) -> bytes:
    """Return a message's bytes."""
    return _encoder.encode(message)


def decode_from_host(data: bytes) -> FromHost:
    """Return the message in bytes that a host sealed.

    Raises:
        ProtocolError: with reason ``malformed``.
    """
    try:
        message: FromHost = _from_host.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ProtocolError("malformed", str(error)) from None
    return message


def decode_from_peer(data: bytes) -> FromPeer:
    """Return the message in bytes that a peer or a command sealed.

    Raises:
        ProtocolError: with reason ``malformed``.
    """
    try:
        message: FromPeer = _from_peer.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ProtocolError("malformed", str(error)) from None
    return message
