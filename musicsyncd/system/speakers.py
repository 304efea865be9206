"""The speakers of a host: what it keeps for each, and the commands that change that.

Each change goes to the speaker at once, is then kept in the database, and only then answered.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from musicsyncd.config import CHANNELS
from musicsyncd.errors import ControlError, MusicSyncError
from musicsyncd.protocol.host import HostNode, PeerInfo
from musicsyncd.protocol.wire import MAX_OUTPUT_DELAY_US, Settings
from musicsyncd.system.database import Database
from musicsyncd.system.log import Throttle
from musicsyncd.system.saved_peer import SavedPeer
from musicsyncd.text import listed

log = logging.getLogger(__name__)

MAX_NAMED = 10
"""Speakers of which a refused name's line tells the names."""


class Browsers(Protocol):
    """The speakers that are browsers: the protocol's node does not know them."""

    def infos(self) -> list[PeerInfo]:
        """Return what is known of every one since this start."""
        ...

    def lead_duration_ns(self, room: str) -> int:
        """Return how far ahead an instant must be for those of a room; 0 for none."""
        ...

    def forget(self, peer_id: bytes) -> None:
        """Forget one that has gone."""
        ...


class Speakers:
    """What a host keeps for its speakers.

    Args:
        node: tells them.
        database: keeps it.
        changed: called after every change, to have the node's datagrams sent.

    Attributes:
        unsaved: why the last change could not be kept; empty when it was.
        browsers: those of the speakers that are browsers, if browsers can be speakers here.
    """

    def __init__(self, node: HostNode, database: Database, changed: Callable[[], None]) -> None:
        self._node = node
        self._database = database
        self._changed = changed
        self._throttle = Throttle(log)
        self.unsaved = ""
        self.browsers: Browsers | None = None
        self._saved: dict[bytes, SavedPeer] = {one.peer_id: one for one in database.peers()}
        for peer in self._saved.values():
            node.set_settings(_settings(peer))

    def appeared(self, peer_id: bytes, name: str, default_room: str) -> None:
        """Give a speaker its settings; a new one comes into the default room, where there is a place for it."""
        peer = self._saved.get(peer_id)
        if peer is None:
            try:
                self._set(SavedPeer(peer_id, name, default_room))
            except ControlError as error:  # Whoever comes is not ours to choose, and must not stop the others.
                self._throttle.warning("many", f"speaker {name} gets no settings: {error}")
        elif peer.name != name:
            self._set(replace(peer, name=name))
        else:
            self._node.set_settings(_settings(peer))

    def volume(self, name: str, volume: str) -> str:
        """Set a speaker's volume."""
        peer = self._find(name)
        changed = self._set(replace(peer, volume=parse_volume(volume, peer.volume)))
        return f"{peer.name}: volume {changed.volume}"

    def mute(self, name: str, muted: bool) -> str:
        """Silence a speaker, or let it be heard."""
        peer = self._set(replace(self._find(name), muted=muted))
        return f"{peer.name}: {'muted' if muted else f'volume {peer.volume}'}"

    def delay(self, name: str, output_delay_ms: float) -> str:
        """Say how late what stands behind a speaker's card is; positive is fed earlier."""
        most_ms = MAX_OUTPUT_DELAY_US / 1000
        if not -most_ms <= output_delay_ms <= most_ms:
            raise ControlError(f"a delay of {output_delay_ms:g} ms is not possible: −{most_ms:g} to {most_ms:g}")
        peer = self._set(replace(self._find(name), output_delay_us=round(output_delay_ms * 1000)))
        if not peer.output_delay_us:
            return f"{peer.name}: no delay"
        return f"{peer.name}: fed {abs(output_delay_ms):g} ms {'earlier' if output_delay_ms > 0 else 'later'}"

    def channels(self, name: str, channels: str) -> str:
        """Say which channels a speaker plays."""
        if channels not in CHANNELS:
            raise ControlError(f"no channels {channels!r}: {', '.join(CHANNELS)}")
        peer = self._set(replace(self._find(name), channels=channels))
        return f"{peer.name}: {channels}"

    def move(self, name: str, room: str) -> str:
        """Move a speaker into a room that exists."""
        peer = self._set(replace(self._find(name), room=room))
        return f"{peer.name} is in {room!r}"

    def move_all(self, from_: str, to: str) -> int:
        """Move every speaker of a room into another; return how many they were."""
        moved = [peer for peer in self._saved.values() if peer.room == from_]
        for peer in moved:
            self._set(replace(peer, room=to))
        return len(moved)

    def forget(self, name: str) -> str:
        """Forget a speaker that is away."""
        peer = self._find(name)
        if any(one.peer_id == peer.peer_id and one.present for one in self._known()):
            raise ControlError(f"{peer.name} is there: stop it first, or it would come back at once")
        del self._saved[peer.peer_id]
        self._node.forget_peer(peer.peer_id)
        if self.browsers is not None:
            self.browsers.forget(peer.peer_id)
        self._database.remove_peer(peer.peer_id)
        return f"forgot {peer.name}"

    def all(self) -> list[tuple[SavedPeer, PeerInfo | None]]:
        """Return every speaker's settings with what is known of it since this start."""
        here = {one.peer_id: one for one in self._known()}
        return [(peer, here.get(peer.peer_id)) for peer in self._saved.values()]

    def kept(self, peer_id: bytes) -> SavedPeer | None:
        """Return what is kept for a speaker, or None."""
        return self._saved.get(peer_id)

    def lead_duration_ns(self, room: str) -> int:
        """Return how far ahead an instant must lie for every speaker of a room to be in time for it."""
        lead_ns = self._node.lead_duration_ns(room)
        return lead_ns if self.browsers is None else max(lead_ns, self.browsers.lead_duration_ns(room))

    def _known(self) -> list[PeerInfo]:
        return self._node.peers() + ([] if self.browsers is None else self.browsers.infos())

    def _find(self, name: str) -> SavedPeer:
        found = [one for one in self._saved.values() if name in (one.name, one.peer_id.hex())]
        found = found or [one for one in self._saved.values() if one.name.lower() == name.lower()]
        if len(found) == 1:
            return found[0]
        if found:
            ids = ", ".join(one.peer_id.hex() for one in found)
            raise ControlError(f"{len(found)} speakers are called {name!r}: say which by its id, {ids}")
        names = list(dict.fromkeys(one.name for one in self._saved.values()))
        raise ControlError(f"no speaker {name!r}: there is {listed(names, MAX_NAMED, ', ') or 'none yet'}")

    def _set(self, peer: SavedPeer) -> SavedPeer:
        peer = replace(peer, settings_revision=peer.settings_revision + 1)
        self._node.set_settings(_settings(peer))
        self._saved[peer.peer_id] = peer
        self._changed()
        try:
            self._database.save_peer(peer)
        except MusicSyncError as error:
            self.unsaved = str(error)
            self._throttle.warning("save", str(error))
        else:
            self.unsaved = ""
        return peer


def parse_volume(text: str, now: int) -> int:
    """Return the volume that a person means: ``40``, or ``+5`` and ``-5`` from where it is.

    Raises:
        ControlError: it is not a number, or not from 0 to 100.
    """
    try:
        value = int(text)
    except ValueError:
        raise ControlError(f"{text!r} is not a volume: say 0 to 100, +5 or -5") from None
    if text.strip()[:1] in ("+", "-"):
        return min(100, max(0, now + value))
    if not 0 <= value <= 100:
        raise ControlError(f"a volume of {value} is not possible: 0 to 100")
    return value


def _settings(peer: SavedPeer) -> Settings:
    return Settings(
        peer.peer_id,
        peer.settings_revision,
        peer.room,
        peer.volume,
        peer.muted,
        peer.output_delay_us,
        peer.channels,
    )
