"""A room of the host as MPRIS has a player: its properties, its position, and what its methods ask of the host.

Owns the translation in both directions. Must not know of D-Bus nor of how the host is reached: a property is a plain
value here, and what is to be done is a path of the host's API and a body.

The position runs on by this machine's monotonic clock from where the host said that it is, and is set right by
whatever the host says next. What the host says right after a command is where the music *will* begin, some tens of
milliseconds later: :attr:`Player.unsettled` says that it is to be asked once more.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from musicsyncd.config import DEFAULT_ROOM
from musicsyncd.errors import ControlError
from musicsyncd.system.control_client import api_path
from musicsyncd.system.monotonic import now_ns
from musicsyncd.text import encodable
from musicsyncd.units import NS_PER_US

NO_TRACK = "/org/mpris/MediaPlayer2/TrackList/NoTrack"

SEEKED_US = 500_000
"""The host's word and our position are this far apart, beyond the lead of a command: somebody went elsewhere."""

MAX_LENGTH_US = 1 << 53
"""Of a track; more is no time that anybody waits for, and D-Bus has 64 bits."""

_STATUS = {"playing": "Playing", "paused": "Paused"}
_LOOP = {"off": "None", "one": "Track", "all": "Playlist"}
_REPEAT = {loop: repeat for repeat, loop in _LOOP.items()}

Send = Callable[[str, dict[str, Any]], Awaitable[None]]
"""Asks the host for something, by path and body, and raises ControlError where it refuses."""


class TrackSeen(msgspec.Struct, frozen=True):
    """What the host says of a current track; of whatever version it is, so nothing is sure to be there."""

    title: str = ""
    artist: str = ""
    duration_s: float = 0.0
    number: int = 0


class RoomSeen(msgspec.Struct, frozen=True):
    """What the host says of a room."""

    name: str = ""
    mode: str = "stopped"
    moving: bool = False
    volume: int = 100
    muted: bool = False
    track: TrackSeen | None = None
    position_s: float = 0.0
    queue_length: int = 0
    queue_position: int | None = None
    shuffled: bool = False
    repeat: str = "off"
    lead_ms: float = 0.0


class StatusSeen(msgspec.Struct, frozen=True):
    """What the host says; ``type`` is that of an event."""

    type: str = "status"
    rooms: list[RoomSeen] = []


@dataclass(frozen=True, slots=True)
class Details:
    """What is found out of a track besides. ``art_url`` is that of its cover, or empty."""

    album: str = ""
    track_number: int = 0
    art_url: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """What has changed: properties by name, and where the music was sought to, µs, or None."""

    properties: dict[str, Any]
    seeked_us: int | None = None
    new_track: bool = False


def room_of(status: StatusSeen, name: str) -> RoomSeen | None:
    """Return a room by its name, or None; ``-`` is the only one, or the host's own, as everywhere in its API."""
    if name == "-":
        named = [room for room in status.rooms if room.name == DEFAULT_ROOM]
        return (named or status.rooms)[0] if status.rooms else None
    return next((room for room in status.rooms if room.name == name), None)


class Player:
    """A room as a player.

    Args:
        send: asks the host.
        now_ns: this instant, local.

    Attributes:
        properties: the present ones that may change, by their names in the specification.
        unsettled: the position is that of something that is only about to begin.
    """

    def __init__(self, send: Send, now_ns: Callable[[], int] = now_ns) -> None:
        self._send = send
        self._now_ns = now_ns
        self._room = RoomSeen()
        self._details = Details()
        self._said_us, self._said_ns = 0, now_ns()
        self.unsettled = False
        self.properties = self._make()

    # -- what the host says --------------------------------------------------------------------

    @property
    def track_number(self) -> int | None:
        """The host's number of the current track, None without one."""
        return None if self._room.track is None else self._room.track.number

    @property
    def track_id(self) -> str:
        """The current track as an object path."""
        return NO_TRACK if self._room.track is None else f"/net/musicsyncd/track/{self._room.track.number:d}"

    def take(self, room: RoomSeen) -> Change:
        """Take what the host says of the room at this instant."""
        before, expected_us, known = self._room, self.position_us(), self._room.name == room.name
        new_track = not known or _number_of(before) != _number_of(room)
        self._room = room
        if new_track:
            self._details = Details()
        self._said_us, self._said_ns = _us(room.position_s), self._now_ns()
        apart_us = abs(self.position_us() - expected_us)
        sought = not new_track and room.mode != "stopped" and apart_us > SEEKED_US + _us(room.lead_ms / 1000)
        self.unsettled = room.moving and (new_track or sought or not before.moving)
        return Change(self._update(), self.position_us() if sought else None, new_track)

    def describe(self, number: int, details: Details) -> Change:
        """Take what was found out of a track, if it is still the current one."""
        if number == self.track_number:
            self._details = details
        return Change(self._update())

    def position_us(self) -> int:
        """Return where in the track it is now."""
        position_us = self._said_us
        if self._room.moving:
            position_us += (self._now_ns() - self._said_ns) // NS_PER_US
        return min(position_us, self._length_us() or MAX_LENGTH_US)

    def _length_us(self) -> int:
        """Return the length of the track, 0 for unknown."""
        return 0 if self._room.track is None else _us(self._room.track.duration_s)

    def _update(self) -> dict[str, Any]:
        before, self.properties = self.properties, self._make()
        return {name: value for name, value in self.properties.items() if before[name] != value}

    def _make(self) -> dict[str, Any]:
        room = self._room
        has_track = room.track is not None
        more = room.repeat != "off" or (room.queue_position or 0) < room.queue_length
        return {
            "PlaybackStatus": _STATUS.get(room.mode, "Stopped"),
            "LoopStatus": _LOOP.get(room.repeat, "None"),
            "Shuffle": room.shuffled,
            "Volume": 0.0 if room.muted else min(max(room.volume, 0), 100) / 100,
            "Metadata": self._metadata(),
            "CanGoNext": room.queue_length > 0 and more,
            "CanGoPrevious": room.queue_length > 0,
            "CanPlay": room.queue_length > 0,
            "CanPause": has_track,
            "CanSeek": has_track and self._length_us() > 0,
        }

    def _metadata(self) -> dict[str, Any]:
        track, details = self._room.track, self._details
        if track is None:
            return {}
        found: dict[str, Any] = {"mpris:trackid": self.track_id, "xesam:title": encodable(track.title)}
        optional = {
            "mpris:length": self._length_us(),
            "xesam:artist": [encodable(track.artist)] if track.artist else [],
            "xesam:album": encodable(details.album),
            "xesam:trackNumber": details.track_number,
            "mpris:artUrl": details.art_url,
        }
        return found | {name: value for name, value in optional.items() if value}

    # -- what is asked of it -------------------------------------------------------------------

    async def next(self) -> None:
        """Go to the next track."""
        if self.properties["CanGoNext"]:
            await self._do("next")

    async def previous(self) -> None:
        """Go to the start of the track, or one back."""
        if self.properties["CanGoPrevious"]:
            await self._do("previous")

    async def pause(self) -> None:
        """Fall silent and remember the place; without effect unless it plays."""
        if self._room.mode == "playing":
            await self._do("pause")

    async def play(self) -> None:
        """Begin or go on; without effect while it plays or the queue is empty."""
        if self.properties["CanPlay"] and self._room.mode != "playing":
            await self._do("play")

    async def play_pause(self) -> None:
        """Do the one or the other."""
        await (self.pause() if self._room.mode == "playing" else self.play())

    async def stop(self) -> None:
        """Fall silent; the track will begin at its start."""
        if self._room.mode != "stopped":
            await self._do("stop")

    async def seek(self, offset_us: int) -> None:
        """Go forth or back; before the start is the start, and beyond the end is the next track."""
        to_us = max(0, self.position_us() + offset_us)
        if not self.properties["CanSeek"]:
            return
        if to_us >= self._length_us():
            await self.next()
        else:
            await self._go_to(to_us)

    async def set_position(self, track_id: str, position_us: int) -> None:
        """Go to a place of a track; without effect if another is the current one, or it has no such place."""
        if self.properties["CanSeek"] and track_id == self.track_id and 0 <= position_us <= self._length_us():
            await self._go_to(min(position_us, self._length_us() - 1000))

    async def set_volume(self, volume: float) -> None:
        """Set the room's volume, 0…1; what is beyond is the nearest. Of a muted room it is heard again."""
        if volume != volume:
            raise ControlError("a volume is a number")
        percent = round(100 * min(max(volume, 0.0), 1.0))
        await self._do("volume", {"volume": str(percent)})
        if self._room.muted and percent > 0:
            await self._do("mute", {"muted": False})

    async def set_shuffle(self, on: bool) -> None:
        """Mix the queue, or unmix it."""
        await self._do("shuffle", {"on": on})

    async def set_loop(self, loop: str) -> None:
        """Set what follows: ``None``, ``Track`` or ``Playlist``.

        Raises:
            ControlError: it is none of these.
        """
        if loop not in _REPEAT:
            raise ControlError(f"a loop status is one of {', '.join(_REPEAT)}")
        await self._do("repeat", {"repeat": _REPEAT[loop]})

    async def set_rate(self, rate: float) -> None:
        """Pause for 0, as the specification has it; there is no other rate than 1."""
        if rate == 0.0:
            await self.pause()

    async def _go_to(self, to_us: int) -> None:
        await self._do("seek", {"to": f"{max(to_us, 0) / 1e6:.6f}"})

    async def _do(self, what: str, body: dict[str, Any] | None = None) -> None:
        await self._send(api_path("rooms", self._room.name, what), body or {})


def _number_of(room: RoomSeen) -> int | None:
    return None if room.track is None else room.track.number


def _us(seconds: float) -> int:
    return min(max(0, round(seconds * 1e6)), MAX_LENGTH_US)
