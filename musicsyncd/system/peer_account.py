"""What a speaker's daemon says of itself to this machine: plain values for JSON, with units in their names.

Owns what is told and what is remembered for it: which host is followed, and since when it is away. The speaker's own
part has the fields that the host's status has for it, so that whoever can show the one can show the other. Must not
know how it is asked (:mod:`musicsyncd.system.peer_socket`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from musicsyncd.config import DEFAULT_ROOM, address_text
from musicsyncd.playback.player import Course
from musicsyncd.protocol.following import HostFound, HostLost, StateChanged
from musicsyncd.protocol.knowing import PeerInfo, Reach
from musicsyncd.protocol.peer import PeerNode
from musicsyncd.protocol.wire import PlaybackStats, Report, Settings
from musicsyncd.system.interfaces import Interface
from musicsyncd.system.saved_peer import SavedPeer
from musicsyncd.system.status import peer_status
from musicsyncd.units import HostNs, LocalNs, ns_to_s, ns_to_us


@dataclass(slots=True)
class Acquaintance:
    """The host as this speaker knows it.

    Attributes:
        name: for people; empty until it was heard.
        address: where it was followed last, or None before.
        lost_local_ns: since when it is away; None while it is there, and before the first.
        reason: why it is away.
    """

    name: str = ""
    address: tuple[str, int] | None = None
    lost_local_ns: int | None = None
    reason: str = ""

    def note(self, event: object, now_local_ns: int) -> None:
        """Take what the protocol tells of the host."""
        if isinstance(event, HostFound):
            self.address, self.lost_local_ns, self.reason = event.address, None, ""
        elif isinstance(event, StateChanged):
            self.name = event.host_name
        elif isinstance(event, HostLost):
            self.lost_local_ns, self.reason = now_local_ns, event.reason

    def status(self, heard_local_ns: int | None, now_local_ns: int) -> dict[str, Any]:
        """Return it as plain values.

        Args:
            heard_local_ns: when anything came from it last; None before.
            now_local_ns: the time.
        """
        state = "searching" if self.address is None else "there" if self.lost_local_ns is None else "away"
        return {
            "state": state,
            "name": self.name,
            "address": None if self.address is None else address_text(self.address),
            "away_s": None if self.lost_local_ns is None else _since_s(self.lost_local_ns, now_local_ns),
            "heard_s_ago": None if heard_local_ns is None else _since_s(heard_local_ns, now_local_ns),
            "reason": self.reason,
        }


def speaker_status(
    node: PeerNode, playback: PlaybackStats, who: SavedPeer, version: str, now_local_ns: int
) -> dict[str, Any]:
    """Return how the speaker is, in the fields of the host's status.

    Args:
        node: its protocol.
        playback: its sound.
        who: it is, with what the host has set for it.
        version: of the program.
        now_local_ns: the time.
    """
    report = Report(
        name=who.name,
        room=who.room,
        settings_revision=0,
        state_revision=0,
        wants_unicast=node.wants_unicast,
        version=version,
        clock=node.clock_stats(now_local_ns),
        playback=playback,
    )
    reach: Reach = "unicast" if node.wants_unicast else "multicast"
    info = PeerInfo(who.peer_id, 0, ("", 0), report, HostNs(now_local_ns), reach, present=True)
    return {**peer_status(who, info, now_local_ns), "address": None}


def who_it_is(peer_id: bytes, name: str, settings: Settings | None) -> SavedPeer:
    """Return a speaker with what the host has set for it, as far as it was told."""
    if settings is None:
        return SavedPeer(peer_id, name, DEFAULT_ROOM)
    return SavedPeer(
        peer_id, name, settings.room, settings.volume, settings.muted, settings.output_delay_us, settings.channels
    )


def in_words(playback: PlaybackStats, host: Acquaintance, room: str, now_local_ns: int) -> str:
    """Return in a line for people how a speaker is.

    Args:
        playback: its sound.
        host: as it knows it.
        room: it is in.
        now_local_ns: the time.
    """
    fault = f": {playback.fault}" if playback.fault else ""
    if playback.state == "no card":
        return f"waiting for the sound card{fault}"
    if host.address is None:
        return f"looking for the host{fault}"
    error_us = f"{ns_to_us(playback.sync_error_ns):+.1f} µs"
    what = {
        "together": f"plays in room {room}, {error_us}",
        "catching up": f"plays in room {room}, catching up, {error_us}",
        "waiting": f"waits for its sound in room {room}",
    }.get(playback.state, f"silent in room {room}")
    name = host.name or address_text(host.address)
    if host.lost_local_ns is None:
        return f"{what}, with host {name}{fault}"
    return f"{what}; host {name} is away since {_since_s(host.lost_local_ns, now_local_ns):.0f} s{fault}"


def track_status(course: Course, now_local_ns: int) -> dict[str, Any] | None:
    """Return what sounds now by the time line; None for silence. A speaker knows tracks by their bytes, not by title.

    Args:
        course: that is followed.
        now_local_ns: the time.
    """
    if course.mapping is None:
        return None
    host_ns = course.mapping.host_at(LocalNs(now_local_ns))
    segment = course.timeline.sounding_at(host_ns)
    if segment is None or segment.track is None:
        return None
    return {
        "id": segment.track.content_id.hex(),
        "position_s": round(segment.position_at(host_ns)[0] / segment.track.rate_hz, 3),
        "duration_s": round(ns_to_s(segment.track.duration_ns), 3),
        "rate_hz": segment.track.rate_hz,
    }


def network_status(node: PeerNode, joined: list[Interface]) -> dict[str, Any]:
    """Return how the host's datagrams come, on which interfaces they are waited for, and what was refused."""
    reach = "none" if node.host_address is None else "unicast" if node.wants_unicast else "multicast"
    return {
        "reach": reach,
        "interfaces": list(dict.fromkeys(one.name for one in joined)),
        "dropped": dict(node.dropped),
    }


def _since_s(then_ns: int, now_ns: int) -> float:
    return round(max(0.0, ns_to_s(now_ns - then_ns)), 1)
