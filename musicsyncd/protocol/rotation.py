"""A room's key is changed while the music goes on.

Owns how a new key travels, when a host begins to speak under it, and when the old one counts no more. Must not
know how peers are reached, nor where keys are kept.

**The order.** The host takes datagrams under both keys from the beginning. It sends the new one to each peer that
is there, encrypted under the old and signed, until the peer's reports name it. A peer takes both from
then on, and speaks under the new one once its daemon has kept it. When all have it, or after a minute, the host speaks
under the new key; a peer that hears that drops the old one, and the host does 5 s later. The time line, the epoch
and the numbers of messages go on, so nobody hears anything of it.

It takes no less than 6 s: a host that has just started, with a change to finish, is to see first who is there.

Who had the old key and listens learns the new one, too. To shut somebody out, every speaker must be told anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from musicsyncd.protocol.auth import KEY_BYTES, HostKeys, RoomKeys, derive_key, key_id
from musicsyncd.protocol.insisting import Insisting
from musicsyncd.protocol.signing import AEAD_NONCE_BYTES, Signer, decrypt, encrypt, mark_of
from musicsyncd.protocol.wire import NewKey
from musicsyncd.units import NS_PER_S

ROTATION_PURPOSE = "key rotation"

LEAST_DURATION_NS = 6 * NS_PER_S
"""Before the host speaks under the new key: a peer reports every second, and is away after five without a word."""

MOST_DURATION_NS = 60 * NS_PER_S
"""Then the host speaks under the new key, whoever does not have it yet."""

OLD_KEY_AFTER_NS = 5 * NS_PER_S
"""The old key counts for so long after that, for what is under way and for a peer that has just come."""


@dataclass(frozen=True, slots=True)
class NewKeys:
    """What a peer learns of a new key: what a join code says, and the public key itself."""

    room_keys: RoomKeys
    public_key: bytes


def wrap(old_room_key: bytes, new: HostKeys, nonce: Callable[[], bytes]) -> NewKey:
    """Return the message that brings new keys to who has the old one; ``nonce`` gives 8 random bytes a call."""
    aead_nonce = (nonce() + nonce())[:AEAD_NONCE_BYTES]
    said = new.room_key + Signer(new.signing_seed).public_key
    return NewKey(aead_nonce + encrypt(derive_key(old_room_key, ROTATION_PURPOSE), aead_nonce, said))


def unwrap(old_room_key: bytes, message: NewKey) -> NewKeys | None:
    """Return the keys that a message brings, or None if it was not made under the old key."""
    aead_nonce, sealed = message.sealed[:AEAD_NONCE_BYTES], message.sealed[AEAD_NONCE_BYTES:]
    said = decrypt(derive_key(old_room_key, ROTATION_PURPOSE), aead_nonce, sealed)
    if said is None:
        return None
    room_key, public_key = said[:KEY_BYTES], said[KEY_BYTES:]
    return NewKeys(RoomKeys(room_key, mark_of(public_key)), public_key)


@dataclass(frozen=True, slots=True)
class RotationProgress:
    """How far a change of the key has come.

    Attributes:
        have: peers that are there and keep the new key.
        present: peers that are there.
        switched: the host speaks under the new key.
    """

    have: int
    present: int
    switched: bool


class Rotation:
    """One change of a host's key.

    Args:
        old: the keys so far.
        new: those to come.
        nonce: gives 8 random bytes a call.

    Attributes:
        new: as above.
        old_id: of the key so far.
        new_id: of the key to come.
        message: what each peer is told.
        telling: whom, and when.
        switched: the host speaks under the new key.
    """

    def __init__(self, old: HostKeys, new: HostKeys, nonce: Callable[[], bytes]) -> None:
        self.new = new
        self.old_id, self.new_id = key_id(old.room_key), key_id(new.room_key)
        self.message = wrap(old.room_key, new, nonce)
        self.telling = Insisting()
        self.switched = False
        self._began_ns: int | None = None
        self._due_ns = 0

    @property
    def next_ns(self) -> int:
        """When :meth:`step` or :attr:`telling` is due; 0 is at once."""
        told_ns = self.telling.next_ns
        return self._due_ns if told_ns is None else min(self._due_ns, told_ns)

    def note_report(self, peer_id: bytes, has_key: bytes, now_ns: int) -> None:
        """Note the key that a peer's report names."""
        if has_key == self.new_id:
            self.telling.settle(peer_id)
        else:
            self.telling.remind(peer_id, now_ns)

    def step(self, present: Mapping[bytes, bytes], now_ns: int) -> bool:
        """Go on as far as may be; return True when the old key counts no more.

        Args:
            present: the peers that are there, with the key that each one's last report names.
            now_ns: the host's time.
        """
        if self._began_ns is None:
            self._began_ns = now_ns
            self._due_ns = now_ns + LEAST_DURATION_NS
            for peer_id, has_key in present.items():
                if has_key != self.new_id:
                    self.telling.begin(peer_id)
        if self.switched:
            return now_ns >= self._due_ns
        took_ns = now_ns - self._began_ns
        all_have = all(has_key == self.new_id for has_key in present.values())
        if took_ns >= MOST_DURATION_NS or (took_ns >= LEAST_DURATION_NS and all_have):
            self.switched = True
            self._due_ns = now_ns + OLD_KEY_AFTER_NS
        elif took_ns >= LEAST_DURATION_NS:
            # From now on each report may be the last that was waited for.
            self._due_ns = self._began_ns + MOST_DURATION_NS
        return False
