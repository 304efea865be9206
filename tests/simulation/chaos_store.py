"""What a simulated host keeps on its disk: the calls of the real database, in memory, with kills and a full disk.

A save is there wholly or not at all, as with the real one, and goes through the same encoding. A process may be killed
between what it said to the network and the save, and between the save and the answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import msgspec

from musicsyncd.errors import MusicSyncError
from musicsyncd.media.history import Played
from musicsyncd.system.database import SavedPeer, SavedRoom

Gist = tuple[object, ...]


class KilledError(BaseException):
    """The process is dead from here on; nothing of it runs any more."""


def gist_of(room: SavedRoom) -> Gist:
    """Return what must not be lost of a room, but for its place in the track."""
    entries = tuple((entry.number, entry.path) for entry in room.entries)
    mode = room.snapshot.get("mode")
    return entries, room.plain, room.repeat, room.revision, room.volume, room.muted, room.fade_ms, mode


@dataclass
class Store:
    """One host's disk.

    Attributes:
        epoch: starts counted.
        attempts: what was to be saved of rooms, in order, kept or not.
        peer_attempts: and of peers.
        kill: at the next save.
        full: nothing can be saved.
    """

    epoch: int = 0
    kept_rooms: dict[str, SavedRoom] = field(default_factory=dict)
    kept_peers: dict[bytes, SavedPeer] = field(default_factory=dict)
    kept_played: dict[str, tuple[Played, ...]] = field(default_factory=dict)
    attempts: list[Gist] = field(default_factory=list)
    peer_attempts: list[SavedPeer] = field(default_factory=list)
    kill: Literal["", "before", "after"] = ""
    full: bool = False

    def next_epoch(self) -> int:
        """Count one more start."""
        self.epoch += 1
        return self.epoch

    def rooms(self) -> list[SavedRoom]:
        """Return all rooms."""
        return list(self.kept_rooms.values())

    def save_room(self, room: SavedRoom) -> None:
        """Keep a room."""
        self.attempts.append(gist_of(room))
        kept = replace(room, snapshot=_through_json(room.snapshot), entries=tuple(room.entries))
        self._write(lambda: self.kept_rooms.__setitem__(room.name, kept))

    def save_snapshot(self, name: str, snapshot: Mapping[str, object]) -> None:
        """Keep where a room's playback is."""
        kept = replace(self.kept_rooms[name], snapshot=_through_json(snapshot))
        self.attempts.append(gist_of(kept))
        self._write(lambda: self.kept_rooms.__setitem__(name, kept))

    def remove_room(self, name: str) -> None:
        """Forget a room."""
        self._write(lambda: self.kept_rooms.pop(name, None))

    def played(self, name: str) -> list[Played]:
        """Return what sounded in a room."""
        return list(self.kept_played.get(name, ()))

    def save_played(self, name: str, played: Sequence[Played]) -> None:
        """Keep what sounded in a room."""
        self._write(lambda: self.kept_played.__setitem__(name, tuple(played)))

    def peers(self) -> list[SavedPeer]:
        """Return all peers."""
        return list(self.kept_peers.values())

    def save_peer(self, peer: SavedPeer) -> None:
        """Keep a peer's settings."""
        self.peer_attempts.append(peer)
        self._write(lambda: self.kept_peers.__setitem__(peer.peer_id, peer))

    def remove_peer(self, peer_id: bytes) -> None:
        """Forget a peer."""
        self._write(lambda: self.kept_peers.pop(peer_id, None))

    def _write(self, what: object) -> None:
        kill, self.kill = self.kill, ""
        if kill == "before":
            raise KilledError
        if self.full:
            raise MusicSyncError("cannot save: database or disk is full")
        what()
        if kill == "after":
            raise KilledError


def _through_json(snapshot: Mapping[str, object]) -> dict[str, object]:
    return msgspec.json.decode(msgspec.json.encode(snapshot), type=dict[str, object])
