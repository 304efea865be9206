"""What a peer knows of the host that it follows, and what it tells its daemon of it.

Owns which state of each room is the newest. Must not know what is done with it, nor when a host is
taken or given up.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from musicsyncd.playback.timeline import Timeline
from musicsyncd.protocol.auth import RoomKeys
from musicsyncd.protocol.node import Address
from musicsyncd.protocol.wire import Beacon, Settings

MAX_ROOMS_HEARD = 64
"""As many as a host has."""


@dataclass(frozen=True, slots=True)
class HostFound:
    """A host is followed: a new one, the same after silence or a restart, or at another address."""

    host_id: bytes
    epoch: int
    address: Address


@dataclass(frozen=True, slots=True)
class HostLost:
    """The host is silent or has left. What it said last stays in force. ``reason`` is for people."""

    reason: str


@dataclass(frozen=True, slots=True)
class StateChanged:
    """The room's state, in the time of :attr:`PeerNode.mapping`.

    Attributes:
        room: whose.
        epoch: of the host.
        revision: within it.
        timeline: what sounds when.
        volume: of the room, percent.
        muted: the whole room is silent.
        host_name: for people.
        host_address: where the host is heard; media are at its IP address and ``http_port``.
        http_port: of the host.
    """

    room: str
    epoch: int
    revision: int
    timeline: Timeline
    volume: int
    muted: bool
    host_name: str
    host_address: Address
    http_port: int


@dataclass(frozen=True, slots=True)
class SettingsChanged:
    """What the host keeps for this peer. With another room, what the old one said no longer holds."""

    settings: Settings


@dataclass(frozen=True, slots=True)
class KeyChanged:
    """The room has other keys from now on: keep them for the next start, then call :meth:`PeerNode.key_kept`."""

    keys: RoomKeys


Event = HostFound | HostLost | StateChanged | SettingsChanged | KeyChanged


@dataclass(slots=True)
class FollowedHost:
    """The host that is followed, or was last.

    Attributes:
        host_id: 8 bytes.
        epoch: of the host.
        address: where probes and reports go.
        heard_ns: when anything came from it, local time.
        answered_ns: when it answered a probe or was given the time to, local time.
        lost: it is silent or has left.
        rooms: the newest beacon of each room, with its time line; so a move to another room is instant.
    """

    host_id: bytes
    epoch: int
    address: Address
    heard_ns: int
    answered_ns: int = 0
    lost: bool = False
    rooms: dict[str, tuple[Beacon, Timeline]] = field(default_factory=dict)

    @property
    def identity(self) -> tuple[bytes, int]:
        """Which host, and which of its starts."""
        return self.host_id, self.epoch

    def learn(self, beacon: Beacon, kept_room: str) -> bool:
        """Remember a beacon that is newer than what is known of its room; return whether it is.

        Args:
            beacon: from this host.
            kept_room: is never forgotten for another.

        Raises:
            ValueError: its segments make no time line.
        """
        known = self.rooms.get(beacon.room)
        if known is not None and beacon.revision <= known[0].revision:
            return False
        timeline = Timeline(beacon.segments)
        if known is None and len(self.rooms) >= MAX_ROOMS_HEARD:
            del self.rooms[next(room for room in self.rooms if room != kept_room)]
        self.rooms[beacon.room] = (beacon, timeline)
        return True

    def state_of(self, room: str) -> StateChanged | None:
        """Return what is to be told of a room, or None if it was not heard of."""
        if room not in self.rooms:
            return None
        beacon, timeline = self.rooms[room]
        return StateChanged(
            room=room,
            epoch=self.epoch,
            revision=beacon.revision,
            timeline=timeline,
            volume=beacon.volume,
            muted=beacon.muted,
            host_name=beacon.host_name,
            host_address=self.address,
            http_port=beacon.http_port,
        )
