"""Sealing and opening datagrams with a room's key.

Owns the layout around a message, the keys derived from the room key, and the memory
of what was already received. Knows nothing of what a message says, of addresses or of
sockets.

**Keys.** A room has one key of 32 random bytes. :func:`derive_key` makes one key for
each purpose from it by HKDF-SHA256 (RFC 5869): the standard way, with published test
vectors, and ``hmac`` is in the standard library. It runs once for each node, so its
speed does not matter. Hosts and peers seal under different keys, so that a datagram
that is sent back to its sender opens nowhere.

**Layout**, all numbers big endian::

    offset  bytes  field
         0      2  magic "MS"
         2      1  version of this layout, 1
         3      2  mark of the key: which room's key, and which direction
         5      8  sender's id
        13      8  sender's epoch: rises with each start of the sender
        21      8  sequence: rises with each datagram of the epoch
        29      …  body, one message of musicsyncd.protocol.wire
       end     16  tag

The tag is keyed BLAKE2b (RFC 7693) over all that stands before it: a MAC by itself, in
one call of the standard library, and some three times as fast as HMAC-SHA256. The mark
is a digest of the key. It protects nothing; it lets a receiver tell "another room's key" from
"damaged" in its counters, and skip the MAC for what other nodes of its own kind send
to the group. Nothing is encrypted: what plays on a LAN is no secret, who may decide it is.

**Replay.** For each sender the newest epoch counts and, within it, a window of the last
1,024 sequence numbers, as in RFC 4303, section 3.4.3. One datagram that arrives over
several interfaces is a replay, too: harmless, and counted. The tag is checked before
anything is remembered, so strangers cannot push known senders out. What was recorded
earlier can be replayed to a node that has just started, until the true sender's newer
epoch is heard: the memory is not kept on disk.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections import OrderedDict
from dataclasses import dataclass

from musicsyncd.errors import ProtocolError
from musicsyncd.protocol.wire import MAX_DATAGRAM_BYTES

KEY_BYTES = 32
SENDER_BYTES = 8
TAG_BYTES = 16
"""128 bits: a forger's chance is 2⁻¹²⁸ for each try, and QUIC's and IPsec's tags are no longer."""

REPLAY_WINDOW = 1024
"""Far more than is ever under way: a host sends some tens of datagrams a second."""

MAX_SENDERS = 4096
"""Senders that one :class:`Opener` remembers: a host's peers four times over; commands come and go."""

HOST_PURPOSE = "host datagrams"
PEER_PURPOSE = "peer datagrams"

_MAGIC = b"MS"
_VERSION = 1
_HEADER = struct.Struct(">2sB2s8sQQ")
OVERHEAD_BYTES = _HEADER.size + TAG_BYTES
MAX_BODY_BYTES = MAX_DATAGRAM_BYTES - OVERHEAD_BYTES

_SALT = b"musicsyncd 1"
_MARK_AT = slice(3, 5)


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


def _mark(key: bytes) -> bytes:
    """Return two bytes that tell this key from others; they say nothing else about it."""
    return hashlib.blake2b(b"", digest_size=2, key=key, person=b"musicsyncd mark").digest()


def _tag(key: bytes, data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=TAG_BYTES, key=key, person=b"musicsyncd tag").digest()


class Sealer:
    """Seals the datagrams of one sender in one epoch.

    Args:
        key: from :func:`derive_key`, for the direction in which it sends.
        sender: its id, 8 bytes.
        epoch: greater than at any earlier start of the same sender.
    """

    def __init__(self, key: bytes, sender: bytes, epoch: int) -> None:
        if len(sender) != SENDER_BYTES:
            raise ValueError(f"a sender's id has {SENDER_BYTES} bytes, not {len(sender)}")
        if not 0 <= epoch < 1 << 64:
            raise ValueError(f"an epoch is a number of 64 bits, not {epoch}")
        self._key = key
        self._mark = _mark(key)
        self._sender = sender
        self._epoch = epoch
        self._sequence = 0

    def seal(self, body: bytes) -> bytes:
        """Return a datagram with this body and the next sequence number.

        Raises:
            ProtocolError: with reason ``long``, if it would not fit.
        """
        if len(body) > MAX_BODY_BYTES:
            raise ProtocolError("long", f"a message of {len(body)} bytes; {MAX_BODY_BYTES} fit a datagram")
        self._sequence += 1
        header = _HEADER.pack(_MAGIC, _VERSION, self._mark, self._sender, self._epoch, self._sequence)
        data = header + body
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
    """

    sender: bytes
    epoch: int
    sequence: int
    body: bytes


class _Window:
    """Which of the last :data:`REPLAY_WINDOW` sequence numbers of one sender's epoch were seen."""

    __slots__ = ("epoch", "newest", "seen")

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.newest = 0
        # Bit n stands for the sequence number newest − n.
        self.seen = 0

    def admit(self, sequence: int) -> bool:
        """Remember a number; return False if it was seen or is too old to say."""
        ahead = sequence - self.newest
        if ahead > 0:
            # A jump as long as the window empties it; shifting by a forged length would eat memory.
            self.seen = 1 if ahead >= REPLAY_WINDOW else (self.seen << ahead | 1) & _WINDOW_MASK
            self.newest = sequence
            return True
        if -ahead >= REPLAY_WINDOW or self.seen >> -ahead & 1:
            return False
        self.seen |= 1 << -ahead
        return True


_WINDOW_MASK = (1 << REPLAY_WINDOW) - 1


class Opener:
    """Opens the datagrams of any number of senders that seal under one key.

    Args:
        key: from :func:`derive_key`, for the direction in which they come.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._mark = _mark(key)
        self._windows: OrderedDict[bytes, _Window] = OrderedDict()

    def open(self, data: bytes) -> Opened:
        """Return what a datagram holds, once.

        Raises:
            ProtocolError: the datagram is to be dropped. Reasons: ``short``, ``long``; ``version``, not ours
                at all or of another version; ``key``, sealed under another room's key or for the other
                direction; ``tag``, damaged or forged; ``old epoch``, from before its sender's restart;
                ``replay``, had before.
        """
        if len(data) < OVERHEAD_BYTES:
            raise ProtocolError("short")
        if len(data) > MAX_DATAGRAM_BYTES:
            raise ProtocolError("long")
        magic, version, mark, sender, epoch, sequence = _HEADER.unpack_from(data)
        if magic != _MAGIC or version != _VERSION:
            raise ProtocolError("version")
        if mark != self._mark:
            raise ProtocolError("key")
        if not hmac.compare_digest(_tag(self._key, data[:-TAG_BYTES]), data[-TAG_BYTES:]):
            raise ProtocolError("tag")
        self._admit(sender, epoch, sequence)
        return Opened(sender, epoch, sequence, data[_HEADER.size : -TAG_BYTES])

    def _admit(self, sender: bytes, epoch: int, sequence: int) -> None:
        """Remember an authentic datagram, or raise if it is not new."""
        window = self._windows.get(sender)
        if window is None or epoch > window.epoch:
            window = self._windows[sender] = _Window(epoch)
        elif epoch < window.epoch:
            raise ProtocolError("old epoch")
        self._windows.move_to_end(sender)
        if len(self._windows) > MAX_SENDERS:
            self._windows.popitem(last=False)
        if not window.admit(sequence):
            raise ProtocolError("replay")
