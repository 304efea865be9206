"""What is said of rooms and speakers: plain values for JSON, with units in their names, and a line for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from musicsyncd.protocol.knowing import PeerInfo
from musicsyncd.protocol.wire import ClockStats, PlaybackStats
from musicsyncd.units import ns_to_ms, ns_to_s, ns_to_us

if TYPE_CHECKING:
    from musicsyncd.media.entry import Entry
    from musicsyncd.system.preparer import Preparer
    from musicsyncd.system.room import Room
    from musicsyncd.system.saved_peer import SavedPeer


def room_status(room: Room, now_host_ns: int, lead_duration_ns: int, preparer: Preparer) -> dict[str, Any]:
    """Return what a room does, and what it waits for."""
    queue, transport = room.queue, room.transport
    entry, _ = transport.position(now_host_ns)
    shown = None
    if entry is not None:
        track = entry.track
        shown = {
            "title": entry.title,
            "artist": entry.artist,
            "path": entry.path,
            "duration_s": entry.duration_s,
            "rate_hz": track.rate_hz if track is not None else None,
            "channels": track.channels if track is not None else None,
            "damage": preparer.damage.get(entry.path, ""),
            "number": entry.number,
            "content_id": track.content_id.hex() if track is not None else None,
        }
    waiting = transport.waiting
    return {
        "name": room.name,
        "mode": transport.mode,
        "moving": transport.mode == "playing" and waiting is None and entry is not None,
        "volume": room.volume,
        "muted": room.muted,
        "revision": room.said.revision if room.said is not None else 0,
        "track": shown,
        "waits_for": waits_for(waiting, preparer.converting) if waiting is not None else "",
        "position_s": round(position_s(room, now_host_ns), 3),
        "queue_length": len(queue),
        "queue_position": queue.current + 1 if queue.current is not None else None,
        "queue_revision": queue.revision,
        "shuffled": queue.shuffled,
        "repeat": queue.repeat,
        "crossfade_s": transport.fade_ms / 1000,
        "fault": queue.fault,
        "lead_ms": round(ns_to_ms(lead_duration_ns), 1),
    }


def position_s(room: Room, now_host_ns: int) -> float:
    """Return where in its track a room is, in seconds."""
    entry, frame = room.transport.position(now_host_ns)
    return frame / entry.track.rate_hz if entry is not None and entry.track is not None else 0.0


def waits_for(entry: Entry, converting: Mapping[str, float]) -> str:
    """Return what has to happen before an entry can play, in words; ``converting`` is by path, 0…1."""
    if entry.path in converting:
        return f"it is being turned into FLAC, {converting[entry.path]:.0%}"
    return "it is about to begin" if entry.track is not None else "it is being read"


def what_plays(room: Room) -> str:
    """Return in a line for people what a room plays."""
    entry = room.queue.current_entry
    if room.transport.mode == "stopped" or entry is None:
        return "the queue is at its end" if room.queue.entries else "the queue is empty"
    by = f" by {entry.artist}" if entry.artist else ""
    verb = "playing" if room.transport.mode == "playing" else "paused in"
    return f"{verb} “{entry.title}”{by}"


def queue_status(room: Room, damage: Mapping[str, str]) -> dict[str, Any]:
    """Return a room's queue; ``damage`` says by path what was left out of a file."""
    return {
        "room": room.name,
        "revision": room.queue.revision,
        "shuffled": room.queue.shuffled,
        "repeat": room.queue.repeat,
        "entries": [
            {
                "position": index + 1,
                "number": entry.number,
                "title": entry.title,
                "artist": entry.artist,
                "path": entry.path,
                "duration_s": entry.duration_s,
                "current": index == room.queue.current,
                "fault": entry.fault,
                "damage": damage.get(entry.path, ""),
            }
            for index, entry in enumerate(room.queue.entries)
        ],
    }


def history_status(room: Room) -> dict[str, Any]:
    """Return what sounded in a room of late, the newest first."""
    return {
        "room": room.name,
        "played": [
            {
                "began_s": round(one.began_s, 3),
                "title": one.title,
                "artist": one.artist,
                "path": one.path,
                "duration_s": one.duration_s,
            }
            for one in reversed(room.history.played)
        ],
    }


def peer_status(saved: SavedPeer, info: PeerInfo | None, now_host_ns: int) -> dict[str, Any]:
    """Return how a speaker is; with no report since this start, only what is kept for it."""
    present = info is not None and info.present
    clock = info.report.clock if info is not None else ClockStats()
    playback = info.report.playback if info is not None else PlaybackStats(state="away")
    return {
        "id": saved.peer_id.hex(),
        "name": saved.name,
        "room": saved.room,
        "address": info.address[0] if info is not None else None,
        "reach": info.reach if info is not None and present else "away",
        "seen_s_ago": round(ns_to_s(now_host_ns - info.seen_host_ns), 1) if info is not None else None,
        "version": info.report.version if info is not None else None,
        "volume": saved.volume,
        "muted": saved.muted,
        "output_delay_ms": saved.output_delay_us / 1000,
        "channels": saved.channels,
        "state": playback.state if present else "away",
        "sync_error_us": round(ns_to_us(playback.sync_error_ns), 1),
        "correction_ppm": round(playback.correction_ppm, 2),
        "card_ppm": round(playback.card_ppm, 2),
        "underruns": playback.underruns,
        "starved_frames": playback.starved_frames,
        "output": playback.output,
        "fault": playback.fault,
        "lead_ms": round(ns_to_ms(playback.lead_duration_ns), 1),
        "clock": {
            "offset_us": round(ns_to_us(clock.offset_ns), 1),
            "skew_ppm": round(clock.skew_ppm, 2),
            "uncertainty_us": round(ns_to_us(clock.uncertainty_ns), 1),
            "round_trip_us": round(ns_to_us(clock.round_trip_ns), 1),
            "jitter_us": round(ns_to_us(clock.jitter_ns), 1),
            "loss_percent": round(100 * clock.loss, 1),
            "stamps": clock.stamps,
        },
    }
