"""Keys, and sealing and opening datagrams with them.

Owns the layout around a message and the keys that are derived from a host's secret.
Knows nothing of what a message says, of addresses or of sockets, nor of what was received
before (:mod:`musicsyncd.protocol.proving`) or of signatures (:mod:`musicsyncd.protocol.signing`).

**Keys.** A host has one secret of 32 random bytes. By HKDF-SHA256 (RFC 5869: the standard way, with
published test vectors, and ``hmac`` is in the standard library) the *room key* comes from it, which every
speaker has, and the seed of the key by which the host signs, which stays with it. Speakers know the
latter's public half by the *host mark*, a digest of it. So whoever takes a speaker over can read and seal
what goes through the room, but cannot speak as its host. From the room key :func:`derive_key` makes one
key for each purpose. Hosts and peers seal under different keys, so that a datagram that is sent
back to its sender opens nowhere.

**Layout**, all numbers big endian::

    offset  bytes  field
         0      2  magic "MS"
         2      1  version of this layout, 2
         3      2  mark of the key: which room's key, and which direction
         5      1  flags; bit 0: signed
         6      8  sender's id
        14      8  sender's epoch: rises with each start of the sender
        22      8  sequence: twice the number of the message, and one more in its copies by unicast
        30      …  body, one message of musicsyncd.protocol.wire
       end  0, 64  signature, if signed: Ed25519 over :func:`signed_part`
       end     16  tag

The tag is keyed BLAKE2b (RFC 7693) over all that stands before it: a MAC by itself, in
one call of the standard library, and some three times as fast as HMAC-SHA256. The mark
is a digest of the key. It protects nothing; it lets a receiver tell "another room's key" from
"damaged" in its counters, and skip the MAC for what other nodes of its own kind send
to the group. Nothing is encrypted but a new key: what plays on a LAN is no secret, who may decide it is.

**The sequence.** One signature serves all copies of a message, to the group and by unicast: it is over the
message's number. The copies differ in the sequence's last bit. Were they the same bytes, the later
one would be a replay, and nobody could tell that multicast works. The number is signed because
a speaker that was taken over could otherwise send an old message of the host on under a sequence far
ahead, after which all that the host itself says would look old.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count

from musicsyncd.errors import ProtocolError
from musicsyncd.protocol.wire import MAX_DATAGRAM_BYTES

HOST_SECRET_BYTES = 32
KEY_BYTES = 32
HOST_MARK_BYTES = 16
"""128 bits: a second public key with the same mark would take 2¹²⁸ tries."""

KEY_ID_BYTES = 4
"""Tells a room's newest key from the one before."""

SENDER_BYTES = 8
SIGNATURE_BYTES = 64
TAG_BYTES = 16
"""128 bits: a forger's chance is 2⁻¹²⁸ for each try, and QUIC's and IPsec's tags are no longer."""

HOST_PURPOSE = "host datagrams"
PEER_PURPOSE = "peer datagrams"

MAGIC = b"MS"
VERSION = 2
_HEADER = struct.Struct(">2sB2sB8sQQ")
_SIGNED = 1
OVERHEAD_BYTES = _HEADER.size + TAG_BYTES
"""Around a message that is not signed; with a signature, :data:`SIGNATURE_BYTES` more."""

MAX_BODY_BYTES = MAX_DATAGRAM_BYTES - OVERHEAD_BYTES

_SALT = b"musicsyncd 2"
_SIGNED_HEADER = struct.Struct(">8sQQ")
_SIGNED_PURPOSE = b"musicsyncd 2 word of a host:"
_MARK_AT = slice(3, 5)
_SENDER_AT = slice(6, 14)


def _hkdf(secret: bytes, salt: bytes, info: bytes, length: int) -> bytes:
    """Return ``length`` bytes by HKDF-SHA256 (RFC 5869, sections 2.2 and 2.3)."""
    pseudo_random_key = hmac.digest(salt, secret, "sha256")
    okm = block = b""
    counter = 0
    while len(okm) < length:
        counter += 1
        block = hmac.digest(pseudo_random_key, block + info + bytes([counter]), "sha256")
        okm += block
    return okm[:length]


def derive_key(room_key: bytes, purpose: str) -> bytes:
    """Return the key of 32 bytes for one purpose.

    Args:
        room_key: the room's key, 32 bytes.
        purpose: :data:`HOST_PURPOSE`, :data:`PEER_PURPOSE` or another text; every text gives another key.

    Raises:
        ValueError: if the room key has another length.
    """
    if len(room_key) != KEY_BYTES:
        raise ValueError(f"a room key has {KEY_BYTES} bytes, not {len(room_key)}")
    return _hkdf(room_key, _SALT, purpose.encode(), KEY_BYTES)


def http_token(room_key: bytes) -> str:
    """Return the token that HTTP requests carry, 64 hexadecimal digits."""
    return derive_key(room_key, "http token").hex()


def key_id(room_key: bytes) -> bytes:
    """Return four bytes by which a room key is named; they say nothing else about it."""
    return derive_key(room_key, "key id")[:KEY_ID_BYTES]


@dataclass(frozen=True, slots=True)
class RoomKeys:
    """What a join code says: all that a speaker needs.

    Attributes:
        room_key: 32 bytes, to seal and open.
        host_mark: 16 bytes, by which the host's public key is known.
    """

    room_key: bytes = field(repr=False)
    host_mark: bytes

    def __post_init__(self) -> None:
        if len(self.room_key) != KEY_BYTES or len(self.host_mark) != HOST_MARK_BYTES:
            raise ValueError(f"a room key has {KEY_BYTES} bytes and a host's mark {HOST_MARK_BYTES}")


@dataclass(frozen=True, slots=True)
class HostKeys:
    """All that a host's secret makes.

    Attributes:
        secret: 32 bytes, which never leave the host.
    """

    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.secret) != HOST_SECRET_BYTES:
            raise ValueError(f"a host's secret has {HOST_SECRET_BYTES} bytes, not {len(self.secret)}")

    @property
    def room_key(self) -> bytes:
        """The room's key, 32 bytes."""
        return _hkdf(self.secret, _SALT, b"room key", KEY_BYTES)

    @property
    def signing_seed(self) -> bytes:
        """The private half of the key by which the host signs, 32 bytes."""
        return _hkdf(self.secret, _SALT, b"host signing", KEY_BYTES)

    @property
    def room_keys(self) -> RoomKeys:
        """What the join code says."""
        # Here and not above: commands need the room key alone, and loading the library takes them 30 ms.
        from musicsyncd.protocol.signing import Signer, mark_of

        return RoomKeys(self.room_key, mark_of(Signer(self.signing_seed).public_key))


def _mark(key: bytes) -> bytes:
    """Return two bytes that tell this key from others; they say nothing else about it."""
    return hashlib.blake2b(b"", digest_size=2, key=key, person=b"musicsyncd mark").digest()


def _tag(key: bytes, data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=TAG_BYTES, key=key, person=b"musicsyncd tag").digest()


def signed_part(sender: bytes, epoch: int, number: int, body: bytes) -> bytes:
    """Return what a host signs of a message: who says it, in which of its starts, as which of its messages."""
    return _SIGNED_PURPOSE + _SIGNED_HEADER.pack(sender, epoch, number) + body


def sender_of(data: bytes) -> bytes:
    """Return the id that a datagram names as its sender's: what anybody may have written there until it is opened.

    Args:
        data: with a whole header, as all that an :class:`Opener` does not call ``short`` has.
    """
    return data[_SENDER_AT]


class Sealer:
    """Seals the datagrams of one sender in one epoch.

    Args:
        key: from :func:`derive_key`, for the direction in which it sends.
        sender: its id, 8 bytes.
        epoch: greater than at any earlier start of the same sender.
        numbers: of its messages, from 1 on; to be shared by all sealers of the same epoch.

    Attributes:
        sender: as above.
        epoch: as above.
        numbers: as above.
    """

    def __init__(self, key: bytes, sender: bytes, epoch: int, numbers: Iterator[int] | None = None) -> None:
        if len(sender) != SENDER_BYTES:
            raise ValueError(f"a sender's id has {SENDER_BYTES} bytes, not {len(sender)}")
        if not 0 <= epoch < 1 << 64:
            raise ValueError(f"an epoch is a number of 64 bits, not {epoch}")
        self.sender = sender
        self.epoch = epoch
        self.numbers = count(1) if numbers is None else numbers
        self._key = key
        self._mark = _mark(key)

    def seal(
        self, body: bytes, number: int | None = None, *, is_unicast_copy: bool = False, signature: bytes = b""
    ) -> bytes:
        """Return a datagram with this body.

        Args:
            body: the message.
            number: of the message; the next one without it.
            is_unicast_copy: the same message goes to the group, too.
            signature: over its :func:`signed_part`; empty for none.

        Raises:
            ProtocolError: with reason ``long``, if it would not fit.
        """
        length = OVERHEAD_BYTES + len(body) + len(signature)
        if length > MAX_DATAGRAM_BYTES:
            raise ProtocolError("long", f"a datagram of {length} bytes; {MAX_DATAGRAM_BYTES} are allowed")
        number = next(self.numbers) if number is None else number
        flags = _SIGNED if signature else 0
        sequence = 2 * number + is_unicast_copy
        header = _HEADER.pack(MAGIC, VERSION, self._mark, flags, self.sender, self.epoch, sequence)
        data = header + body + signature
        return data + _tag(self._key, data)

    def is_own_kind(self, data: bytes) -> bool:
        """Return whether a datagram is marked as going the way that this one's go.

        A node hears its own and its fellows' datagrams in the group. They are not for it and no fault.
        """
        return data[_MARK_AT] == self._mark


@dataclass(frozen=True, slots=True)
class Opened:
    """A datagram that holds what it says.

    Attributes:
        sender: id of who sealed it, 8 bytes.
        epoch: of the sender.
        sequence: within the epoch.
        body: the message.
        signature: 64 bytes, not yet verified, or none.
        key_id: which room key it was sealed under, as its :class:`Opener` was told.
        length: of the whole datagram.
    """

    sender: bytes
    epoch: int
    sequence: int
    body: bytes
    signature: bytes = b""
    key_id: bytes = b""
    length: int = field(default=0, compare=False)

    @property
    def signed_part(self) -> bytes:
        """What a signature would be over."""
        return signed_part(self.sender, self.epoch, self.sequence >> 1, self.body)


class Opener:
    """Opens the datagrams of any number of senders that seal under one key.

    Args:
        key: from :func:`derive_key`, for the direction in which they come.
        key_id: of the room key, for who has several.
    """

    def __init__(self, key: bytes, key_id: bytes = b"") -> None:
        self._key = key
        self._key_id = key_id
        self._mark = _mark(key)

    def open(self, data: bytes) -> Opened:
        """Return what a datagram holds.

        Raises:
            ProtocolError: the datagram is to be dropped. Reasons: ``short``, ``long``; ``version``, not ours
                at all or of another version; ``key``, sealed under another room's key or for the other
                direction; ``tag``, damaged or forged.
        """
        if len(data) < OVERHEAD_BYTES:
            raise ProtocolError("short")
        if len(data) > MAX_DATAGRAM_BYTES:
            raise ProtocolError("long")
        magic, version, mark, flags, sender, epoch, sequence = _HEADER.unpack_from(data)
        if magic != MAGIC or version != VERSION:
            raise ProtocolError("version")
        if mark != self._mark:
            raise ProtocolError("key")
        if not hmac.compare_digest(_tag(self._key, data[:-TAG_BYTES]), data[-TAG_BYTES:]):
            raise ProtocolError("tag")
        end = len(data) - TAG_BYTES - (SIGNATURE_BYTES if flags & _SIGNED else 0)
        if end < _HEADER.size:
            raise ProtocolError("short")
        body, signature = data[_HEADER.size : end], data[end:-TAG_BYTES]
        return Opened(sender, epoch, sequence, body, signature, self._key_id, len(data))
