"""Who has proved to be alive, and which of its datagrams were had before.

Owns the nonces of challenges, how often one goes out, and the replay window of each proven sender. Must
not know how a datagram is sealed, sent or signed.

**Why.** A recorded datagram is authentic for ever. So nothing counts that comes from a sender, or from a
newer epoch of a known one, before it has answered a challenge with a fresh nonce; the datagram is dropped
and a challenge sent instead. What was recorded in an earlier epoch does nothing then, not even to a receiver
that has just started and remembers nobody.

**Replay.** The window of a proven sender begins at its proof: what it sent before that could have been
recorded, and is refused. From then on the last 2,048 sequence numbers are remembered, as in RFC
4303, section 3.4.3. One datagram that arrives over several interfaces is a replay, too: harmless, and counted.

**Nonces are not kept.** A nonce is a keyed hash of the sender, its epoch and the second, under a secret
of this start (as TCP's SYN cookies, RFC 4987, section 3.6). So a flood of recorded datagrams from thousands
of senders and epochs can push no pending challenge out, and those that are proven stand in a table of their own.

**Addresses.** Where a datagram comes from is no part of what is authentic: who overhears one that its receiver has
yet to get can send it on from anywhere. So a node sends to an address only after a proof has come from it
(as QUIC validates paths, RFC 9000, section 8.2), but for the challenge itself and answers of a question's length.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from musicsyncd.errors import ProtocolError
from musicsyncd.protocol.node import Address
from musicsyncd.units import NS_PER_MS, NS_PER_S

NONCE_BYTES = 8

MAX_SENDERS = 4096
"""Proven ones: a host's peers four times over."""

MAX_UNPROVEN = 256
"""Senders, by address, of which is remembered when they were challenged last; the rest may be challenged too soon."""

CHALLENGE_GAP_NS = 50 * NS_PER_MS
"""Between two challenges to one sender at one address, whatever it is said to have sent."""

LOWER_EPOCH_AFTER_NS = 150 * NS_PER_MS
"""So much longer an epoch waits that is lower than another that is heard: see :meth:`Proving.challenge`."""

NONCE_SLOT_NS = NS_PER_S
NONCE_SLOTS = 3
"""A nonce counts for two to three seconds: longer than any round trip of a LAN."""

MAX_ADDRESSES = 8
"""From which one sender's proofs came: several interfaces, IPv4 and IPv6."""

ADDRESS_GAP_NS = 2 * NS_PER_S
"""Between two challenges to other addresses of a proven sender: one may answer from yet another, each time."""

REPLAY_WINDOW = 2048
"""A thousand messages, far more than are ever under way: a host sends some tens a second."""

MAX_ANSWERED = 1024
"""Questions of strangers that are remembered, so that a recorded one is not answered over and over."""

MAX_ANSWERED_PER_S = 1024
"""Questions of strangers that are answered: all peers of a restarted host in one second."""

_WINDOW_MASK = (1 << REPLAY_WINDOW) - 1
_NONCE_OF = struct.Struct(">8sQQ")


class Window:
    """Which of the last :data:`REPLAY_WINDOW` sequence numbers of one epoch were seen.

    Args:
        newest: it and all before it count as seen.
    """

    __slots__ = ("_newest", "_seen")

    def __init__(self, newest: int = 0) -> None:
        self._newest = newest
        # Bit n stands for the sequence number newest − n.
        self._seen = _WINDOW_MASK

    def is_new(self, sequence: int) -> bool:
        """Return whether a number was not seen and is not too old to say."""
        behind = self._newest - sequence
        return behind < 0 or (behind < REPLAY_WINDOW and not self._seen >> behind & 1)

    def note(self, sequence: int) -> None:
        """Remember a number that is new."""
        ahead = sequence - self._newest
        if ahead > 0:
            # A jump as long as the window empties it; shifting by a forged length would eat memory.
            self._seen = 1 if ahead >= REPLAY_WINDOW else (self._seen << ahead | 1) & _WINDOW_MASK
            self._newest = sequence
        else:
            self._seen |= 1 << -ahead


@dataclass(slots=True)
class _Proven:
    epoch: int
    window: Window
    addresses: list[Address]
    due_ns: int = 0


class Proving:
    """What one receiver knows of who is alive.

    Args:
        nonce: gives 8 random bytes a call, for the secret of this start.
    """

    def __init__(self, nonce: Callable[[], bytes]) -> None:
        self._secret = b"".join(nonce() for _ in range(4))
        self._proven: OrderedDict[bytes, _Proven] = OrderedDict()
        self._challenged: OrderedDict[tuple[bytes, str], tuple[int, int]] = OrderedDict()
        self._answered: OrderedDict[tuple[bytes, int, int], None] = OrderedDict()
        self._answered_slot = 0
        self._answered_in_slot = 0

    def window_of(self, sender: bytes, epoch: int) -> Window | None:
        """Return the replay window of a proven sender's epoch, or None if it has yet to prove itself.

        Raises:
            ProtocolError: ``old epoch``, from before a start that is proven.
        """
        proven = self._proven.get(sender)
        if proven is None or epoch > proven.epoch:
            return None
        if epoch < proven.epoch:
            raise ProtocolError("old epoch")
        self._proven.move_to_end(sender)
        return proven.window

    def challenge(self, sender: bytes, epoch: int, heard_at: Address, now_ns: int) -> bytes | None:
        """Return the nonce to challenge a sender's epoch with, or None if it is too soon for another challenge.

        Each IP address has its own turns: who has the room's key can say anything under another's name, and would
        otherwise take up all of them.

        Of the epochs that are heard, the greatest goes first: recorded ones are lower than the one that is
        alive, and however many come, they cannot keep it from being proved. The lower ones have
        their turn, too, lest one that nobody can prove stands in the way of the true one.
        """
        due_ns, greatest = self._challenged.get((sender, heard_at[0]), (now_ns, 0))
        if now_ns - due_ns > NONCE_SLOTS * NONCE_SLOT_NS:
            greatest = 0
        is_due = now_ns >= due_ns + (0 if epoch >= greatest else LOWER_EPOCH_AFTER_NS)
        self._challenged[sender, heard_at[0]] = (now_ns + CHALLENGE_GAP_NS if is_due else due_ns, max(epoch, greatest))
        self._challenged.move_to_end((sender, heard_at[0]))
        if len(self._challenged) > MAX_UNPROVEN:
            self._challenged.popitem(last=False)
        return self.nonce(sender, epoch, now_ns) if is_due else None

    def nonce(self, sender: bytes, epoch: int, now_ns: int) -> bytes:
        """Return the nonce of now to challenge a sender's epoch with, however often."""
        return self._nonce(sender, epoch, now_ns // NONCE_SLOT_NS)

    def is_expected(self, sender: bytes, epoch: int, nonce: bytes, now_ns: int) -> bool:
        """Return whether a proof of this sender's epoch with this nonce was asked for lately.

        Raises:
            ProtocolError: ``old epoch``, as :meth:`window_of`.
        """
        self.window_of(sender, epoch)
        slot = now_ns // NONCE_SLOT_NS
        slots = range(max(0, slot - NONCE_SLOTS + 1), slot + 1)
        return any(hmac.compare_digest(nonce, self._nonce(sender, epoch, one)) for one in slots)

    def prove(self, sender: bytes, epoch: int, sequence: int, address: Address) -> None:
        """Note that a sender's epoch is alive and can be reached at an address.

        Of what it sends, all after this sequence number counts.

        Raises:
            ProtocolError: ``replay``, if this very proof was had before.
        """
        window = self.window_of(sender, epoch)
        if window is None:
            proven = self._proven[sender] = _Proven(epoch, Window(sequence), [])
            self._proven.move_to_end(sender)
            for known in [one for one in self._challenged if one[0] == sender]:
                del self._challenged[known]
            if len(self._proven) > MAX_SENDERS:
                self._proven.popitem(last=False)
        elif window.is_new(sequence):
            window.note(sequence)
            proven = self._proven[sender]
        else:
            raise ProtocolError("replay")
        others = [one for one in proven.addresses if one != address]
        proven.addresses = [*others, address][-MAX_ADDRESSES:]

    def address_of(self, sender: bytes, heard_at: Address, now_ns: int) -> tuple[Address, bool]:
        """Return where a proven sender can be reached, and whether the address it was heard at is to be challenged.

        The former is the latter if a proof has come from it, else the one from which a proof has come last.
        """
        proven = self._proven[sender]
        if heard_at in proven.addresses:
            return heard_at, False
        is_due = now_ns >= proven.due_ns
        if is_due:
            proven.due_ns = now_ns + ADDRESS_GAP_NS
        return proven.addresses[-1], is_due

    def may_answer(self, sender: bytes, epoch: int, sequence: int, now_ns: int) -> bool:
        """Return whether a question that needs no proof is to be answered, and remember that it is.

        Not if it was answered lately, and not if too many are: recorded questions are authentic, too.

        Raises:
            ProtocolError: ``old epoch``, as :meth:`window_of`.
        """
        self.window_of(sender, epoch)
        slot = now_ns // NS_PER_S
        if slot != self._answered_slot:
            self._answered_slot, self._answered_in_slot = slot, 0
        question = (sender, epoch, sequence)
        if question in self._answered or self._answered_in_slot >= MAX_ANSWERED_PER_S:
            return False
        self._answered_in_slot += 1
        self._answered[question] = None
        if len(self._answered) > MAX_ANSWERED:
            self._answered.popitem(last=False)
        return True

    def _nonce(self, sender: bytes, epoch: int, slot: int) -> bytes:
        said = _NONCE_OF.pack(sender, epoch, slot)
        return hashlib.blake2b(said, digest_size=NONCE_BYTES, key=self._secret, person=b"musicsyncd alive").digest()
