"""A peer's keys: the one that it keeps, and while the host changes it, the next.

Owns which keys a peer takes datagrams under and which it speaks under. Must not know where keys are kept. The
order in which they change is in :mod:`musicsyncd.protocol.rotation`.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

from musicsyncd.protocol import wire
from musicsyncd.protocol.auth import Opened, RoomKeys, key_id
from musicsyncd.protocol.door import peer_door, peer_lock
from musicsyncd.protocol.rotation import unwrap


class Keyring:
    """The keys of one peer, and its door, which has a lock for each.

    Args:
        keys: the ones that it keeps.
        peer_id: 8 bytes.
        epoch: greater than at any earlier start.
        nonce: gives 8 random bytes a call.

    Attributes:
        door: as above.
        has_key: what is reported: the id of the newest room key that is kept.
    """

    def __init__(self, keys: RoomKeys, peer_id: bytes, epoch: int, nonce: Callable[[], bytes]) -> None:
        self._peer_id = peer_id
        self._epoch = epoch
        self._numbers = count(1)
        self._keys = {key_id(keys.room_key): keys}
        self.has_key = key_id(keys.room_key)
        self.door = peer_door(peer_lock(keys, peer_id, epoch, self._numbers), nonce)

    def receive(self, message: wire.NewKey, opened: Opened) -> RoomKeys | None:
        """Take the keys of a message; return them if they are new."""
        new = unwrap(self._keys[opened.key_id].room_key, message)
        if new is None:
            self.door.dropped["malformed"] += 1
            return None
        new_id = key_id(new.room_keys.room_key)
        if new_id in self._keys:
            return None
        lock = peer_lock(new.room_keys, self._peer_id, self._epoch, self._numbers, new.public_key)
        self.door.add(lock, beside=opened.key_id)
        self._keys = {opened.key_id: self._keys[opened.key_id], new_id: new.room_keys}
        self.has_key = opened.key_id
        return new.room_keys

    def keep(self, keys: RoomKeys) -> bool:
        """Speak under keys from now on, as they are kept; return False if they are not the newest."""
        named = key_id(keys.room_key)
        if named != next(reversed(self._keys)):
            return False
        self.has_key = named
        self.door.seal_under(named)
        return True

    def note_heard(self, opened: Opened, message: wire.FromHost) -> None:
        """Drop the old key when the host itself speaks under the new one."""
        if len(self._keys) > 1 and isinstance(message, wire.SIGNED) and opened.key_id == next(reversed(self._keys)):
            self._keys = {opened.key_id: self._keys[opened.key_id]}
            self.door.keep_only(opened.key_id)
