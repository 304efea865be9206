"""What the host's API answers: the shapes of its JSON, for its description (:mod:`musicsyncd.system.openapi`).

Owns no value: :mod:`musicsyncd.system.status` and the others make plain values. A test holds their answers against
these shapes, field by field, so that the description stays true.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Mode = Literal["playing", "paused", "stopped"]
RepeatMode = Literal["off", "one", "all"]
ChannelsOf = Literal["stereo", "left", "right", "mono"]
RoleOf = Literal["listen", "guest", "control"]


class Answer(msgspec.Struct, forbid_unknown_fields=True):
    """An object with these fields and no others."""


class Message(Answer):
    """What was done, in a line for people."""

    message: str


class Error(Answer):
    """What is wrong, why, and what to do, in a line for people; with the present revision of a queue that changed."""

    error: str
    revision: int | None = None


class Me(Answer):
    """Who asks, and whom."""

    role: RoleOf
    name: str
    host: str
    version: str
    epoch: int
    open: bool
    tls_port: int | None


class OtherHostStatus(Answer):
    """Another host that is heard on the LAN."""

    name: str
    address: str
    rooms: list[str]
    has_our_key: bool


class HostStatus(Answer):
    """The host."""

    name: str
    version: str
    epoch: int
    address: str | None
    interfaces: list[str]
    port: int
    uptime_s: float
    open: bool
    dropped: dict[str, int]
    others: list[OtherHostStatus]


class TrackStatus(Answer):
    """The track that a room is at."""

    title: str
    artist: str
    path: str
    duration_s: float
    rate_hz: int | None
    channels: int | None
    damage: str
    number: int
    content_id: str | None


class RoomStatus(Answer):
    """A room. While ``moving``, its position runs on with time."""

    name: str
    mode: Mode
    moving: bool
    volume: int
    muted: bool
    revision: int
    track: TrackStatus | None
    waits_for: str
    position_s: float
    queue_length: int
    queue_position: int | None
    queue_revision: int
    shuffled: bool
    repeat: RepeatMode
    crossfade_s: float
    fault: str
    lead_ms: float


class ClockStatus(Answer):
    """A speaker's clock."""

    offset_us: float
    skew_ppm: float
    uncertainty_us: float
    round_trip_us: float
    jitter_us: float
    loss_percent: float
    stamps: str


class PeerStatus(Answer):
    """A speaker."""

    id: str
    name: str
    room: str
    address: str | None
    reach: Literal["multicast", "unicast", "web", "away"]
    seen_s_ago: float | None
    version: str | None
    volume: int
    muted: bool
    output_delay_ms: float
    channels: ChannelsOf
    state: str
    sync_error_us: float
    correction_ppm: float
    card_ppm: float
    underruns: int
    starved_frames: int
    output: str
    fault: str
    lead_ms: float
    clock: ClockStatus


class Status(Answer):
    """Everything that plays, and where."""

    host: HostStatus
    rooms: list[RoomStatus]
    peers: list[PeerStatus]


class QueueEntry(Answer):
    """One place in a queue. ``number`` stays with it when it is moved."""

    position: int
    number: int
    title: str
    artist: str
    path: str
    duration_s: float
    current: bool
    fault: str
    damage: str


class QueueShown(Answer):
    """A room's queue."""

    room: str
    revision: int
    shuffled: bool
    repeat: RepeatMode
    entries: list[QueueEntry]


class PlayedTrack(Answer):
    """What sounded; ``began_s`` is of the day's clock, seconds since 1970."""

    began_s: float
    title: str
    artist: str
    path: str
    duration_s: float


class PlayedShown(Answer):
    """What sounded in a room of late, the newest first."""

    room: str
    played: list[PlayedTrack]


class TrackTags(Answer):
    """What the tags of a track's file say; empty and 0 for nothing."""

    title: str
    artist: str
    album: str
    album_artist: str
    genre: str
    disc: int
    track: int
    year: int


class LibraryTrack(Answer):
    """A track of the library. Its id may stand where a path may."""

    id: str
    title: str
    artist: str
    album: str
    year: int
    duration_s: float
    path: str


class LibraryTracks(Answer):
    """The tracks that were found, the best first."""

    tracks: list[LibraryTrack]


class LibraryAlbum(Answer):
    """An album."""

    name: str
    artist: str
    year: int
    tracks: int
    duration_s: float


class LibraryAlbums(Answer):
    """The albums that were found."""

    albums: list[LibraryAlbum]


class LibraryArtist(Answer):
    """An artist."""

    name: str
    tracks: int


class LibraryArtists(Answer):
    """The artists that were found."""

    artists: list[LibraryArtist]


class Scan(Answer):
    """What looks through the library's folders does."""

    doing: str
    done: int
    total: int
    files_per_s: float
    left_s: float
    looked_s_ago: float | None


class LibraryShown(Answer):
    """The library."""

    folders: list[str]
    faults: list[str]
    scan: Scan
    tracks: int
    albums: int
    artists: int
    refused: list[str]
    refused_count: int
    duration_s: float


class PeerPast(Answer):
    """How a speaker was, in columns of one length, the oldest first; null where it was away."""

    id: str
    name: str
    room: str
    ago_s: list[float]
    sync_error_us: list[float | None]
    round_trip_us: list[float | None]
    jitter_us: list[float | None]
    loss_percent: list[float | None]
    uncertainty_us: list[float | None]
    correction_ppm: list[float | None]
    underruns: list[float | None]
    state: list[str]


class Past(Answer):
    """How speakers were; ``now_s`` is of the day's clock, seconds since 1970."""

    now_s: float
    every_s: int
    peers: list[PeerPast]


class LinkShown(Answer):
    """A link that was given away; times are of the day's clock, seconds since 1970."""

    id: str
    role: RoleOf
    name: str
    made_s: float
    used_s: float | None


class LinksShown(Answer):
    """All links, the oldest first."""

    links: list[LinkShown]


class LinkMade(Answer):
    """A new link, and its token, which is said this once. ``fingerprint`` is of the host's certificate."""

    id: str
    role: RoleOf
    name: str
    token: str
    urls: list[str]
    fingerprint: str


class KeyStatus(Answer):
    """How far a change of the room's key is, or how the last one ended."""

    rotating: bool
    have: int
    speakers: int
    without: list[str]
