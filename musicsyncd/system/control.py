"""What people can do to a host's rooms: every command of the command line and the API, carried out.

Owns the rooms as they are now; the speakers are :mod:`musicsyncd.system.speakers`. Each change goes out to the
speakers at once, is then kept in the database, and only then answered, so what was answered is never lost. A change of
what sounds takes effect at an instant that is far enough ahead for the slowest speaker of the room, and no further.
Everything runs on the event loop; only looking into files does not.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from musicsyncd.config import DEFAULT_ROOM, check_room
from musicsyncd.errors import ControlError, MediaError, MusicSyncError
from musicsyncd.media.queue import Chance, Entry
from musicsyncd.playback.saved import AfterRestart
from musicsyncd.playback.seek import format_position
from musicsyncd.playback.transport import Transport
from musicsyncd.protocol.host import HostNode, RoomState
from musicsyncd.system.database import Database, SavedRoom
from musicsyncd.system.key_change import KeyChange
from musicsyncd.system.library_control import LibraryControl
from musicsyncd.system.log import Throttle
from musicsyncd.system.preparer import Preparer
from musicsyncd.system.queue_control import QueueControl
from musicsyncd.system.readying import Readying
from musicsyncd.system.room import Room, kept_room, new_room
from musicsyncd.system.speakers import Speakers, parse_volume
from musicsyncd.system.status import peer_status, position_s, room_status, waits_for, what_plays
from musicsyncd.units import ns_to_s

log = logging.getLogger(__name__)

PATIENCE_S = 5.0
"""So long a command waits for its track to be read or converted; then the room waits, and says so in `status`."""

MAX_ROOMS = 32


class Control:
    """The host's rooms.

    Args:
        node: says the state.
        database: keeps it.
        now_ns: the host's monotonic clock.
        boot_id: names the run of this machine.
        changed: called after every change, to have the node's datagrams sent.
        describe: returns what ``status`` says of the host itself.
        chance: shuffles.
        day_s: the clock of the day, seconds since 1970.
        after_restart: where what played goes on when the host was killed or the machine was cut off.

    Attributes:
        queues: what can be done to the rooms' queues.
        speakers: the host's peers and their settings.
        library, preparer: what the host has of music, if it has a library, and what looks into files.
        listeners: called after every change of a room or of what is kept for a speaker.
        key: changes the room's key, if it has one.
    """

    def __init__(
        self,
        node: HostNode,
        database: Database,
        now_ns: Callable[[], int],
        boot_id: str,
        changed: Callable[[], None],
        describe: Callable[[], dict[str, object]],
        *,
        chance: Chance | None = None,
        day_s: Callable[[], float] = time.time,
        after_restart: AfterRestart = "now",
    ) -> None:
        self._node = node
        self._database = database
        self._now_ns = now_ns
        self._boot_id = boot_id
        self.listeners: list[Callable[[], None]] = [changed]
        self._describe = describe
        self.preparer = Preparer(database)
        self._rooms: dict[str, Room] = {}
        self.speakers = Speakers(node, database, self._changed)
        self.queues = QueueControl(self)
        self.library: LibraryControl | None = None
        self.key: KeyChange | None = None
        self._chance: Chance = random.Random() if chance is None else chance
        self._day_s = day_s
        self._after_restart: AfterRestart = after_restart
        self._readying = Readying(self.preparer, self._after_reading)
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._throttle = Throttle(log)
        self._unsaved = ""

    # -- life ----------------------------------------------------------------------------------

    def open(self, default_room: str) -> None:
        """Take up the saved rooms, and make the one that always exists."""
        for saved in self._database.rooms():
            self._take_up(saved)
        if default_room not in self._rooms:
            self._rooms[default_room] = new_room(default_room, self._chance, self._now_ns())
        for room in self._rooms.values():
            self.after_change(room, queue_changed=False)

    def _take_up(self, saved: SavedRoom) -> None:
        room = kept_room(saved, self._database.played(saved.name), self._chance, self._now_ns())
        # A restarted host continues a revision that peers know; a new epoch makes that harmless.
        if saved.snapshot:
            at_ns, now_ns = self.instant(room)
            day_s, after = self._day_s(), self._after_restart
            if not room.transport.restore(
                saved.snapshot, self._boot_id, at_ns, now_ns, day_s=day_s, after_restart=after
            ):
                log.warning("room %s: what it played last was not readable", saved.name)
            kept_ns = saved.snapshot.get("host_ns")
            if saved.snapshot.get("boot_id") == self._boot_id and isinstance(kept_ns, int):
                room.noted_host_ns = kept_ns  # What began while the host was away was heard nevertheless.
        self._rooms[saved.name] = room

    async def silence(self) -> None:
        """Let every room fade out for a stop of the host; each will go on from where it is."""
        self._rest()  # What comes due from here on would keep the rooms as paused.
        wait_ns = 0
        for room in self._rooms.values():
            at_ns, now_ns = self.instant(room)
            playing = room.transport.mode == "playing"
            snapshot = room.transport.snapshot("", now_ns)  # No boot: go on from the frame, not from the time line.
            self._save(room, snapshot)
            if playing:
                with contextlib.suppress(ControlError):
                    room.transport.pause(at_ns, now_ns)
                self._say(room)
                wait_ns = max(wait_ns, at_ns - now_ns)
        self._changed()
        await asyncio.sleep(min(ns_to_s(wait_ns) + 0.02, 1.2) if wait_ns else 0)

    def close(self) -> None:
        """Stop all work."""
        self._rest()
        self.preparer.close()

    def _rest(self) -> None:
        self._readying.close()
        for timer in self._timers.values():
            timer.cancel()

    def save_positions(self) -> None:
        """Keep where each playing room is, for a start of the machine after a power cut."""
        for room in self._rooms.values():
            if room.transport.mode == "playing":
                snapshot = self._snapshot(room)
                try:
                    self._database.save_snapshot(room.name, snapshot)
                except MusicSyncError as error:
                    self._throttle.warning("save", str(error))

    def media_path(self, content_id: bytes) -> Path | None:
        """Return the file whose bytes have this id, when it is in a queue."""
        found = (room.queue.find_content(content_id) for room in self._rooms.values())
        return next((self.preparer.served(entry) for entry in found if entry is not None), None)

    def _changed(self) -> None:
        for listener in self.listeners:
            listener()

    # -- what sounds ---------------------------------------------------------------------------

    async def play(self, name: str, tracks: list[str]) -> str:
        """Play tracks now, before the rest of the queue; with none, go on or begin."""
        room = self.room(name)
        if not tracks:
            at_ns, now_ns = self.instant(room)
            room.transport.play(at_ns, now_ns)
            self.after_change(room, queue_changed=False)
            return what_plays(room)
        found = await self.preparer.find(tracks)
        entries = room.queue.add(found.items, next_=True)
        said = await self.play_entry(room, entries[0])
        more = f" and {len(entries) - 1} more" if len(entries) > 1 else ""
        return f"{said}{more}{found.said()}"

    async def play_entry(self, room: Room, entry: Entry) -> str:
        """Play an entry of the queue, and return what plays.

        What plays goes on while the entry is prepared, but for no longer than :data:`PATIENCE_S`.

        Raises:
            MediaError: it cannot be played.
        """
        if entry.track is None and not entry.fault:
            await asyncio.wait({self._readying.read(room, entry)}, timeout=PATIENCE_S)
        here = room.queue.find(entry.number)
        if here is None or here.fault:
            self.after_change(room)
            raise MediaError(here.fault if here is not None else "the track was removed meanwhile")
        at_ns, now_ns = self.instant(room)
        room.transport.play(at_ns, now_ns, (room.queue.index_of(here.number) or 0) + 1)
        self.after_change(room)
        if here.track is not None:
            return what_plays(room)
        return f"“{here.title}” plays as soon as it is ready: {waits_for(here, self.preparer.converting)}"

    async def begin(self, name: str, tracks: Iterable[str]) -> str:
        """Play these tracks now; what else was queued follows behind them."""
        room = self.room(name)
        found = await self.preparer.find(list(tracks))
        paths = {item.path for item in found.items}
        again = [index + 1 for index, entry in enumerate(room.queue.entries) if entry.path in paths]
        room.queue.remove(again)  # A host that is started with the same tracks every day has them once.
        others = len(room.queue)
        room.queue.add(found.items, at=1)
        at_ns, now_ns = self.instant(room)
        room.transport.play(at_ns, now_ns, 1)
        self.after_change(room)
        follow = f"; {others} that were in the queue follow" if others else ""
        return f"playing {len(found.items)} tracks{follow}{found.said()}"

    def pause(self, name: str) -> str:
        """Fall silent and remember the place."""
        room = self._transport(name, lambda transport, at_ns, now_ns: transport.pause(at_ns, now_ns))
        return f"paused at {format_position(position_s(room, self._now_ns()))}"

    def resume(self, name: str) -> str:
        """Go on where it was paused."""
        room = self._transport(name, lambda transport, at_ns, now_ns: transport.resume(at_ns, now_ns))
        return what_plays(room)

    def stop(self, name: str) -> str:
        """Fall silent; the current track will begin anew."""
        self._transport(name, lambda transport, at_ns, now_ns: transport.stop(at_ns, now_ns))
        return "stopped"

    def seek(self, name: str, to: str) -> str:
        """Go to another place of the track."""
        room = self._transport(name, lambda transport, at_ns, now_ns: transport.seek(at_ns, now_ns, to))
        return f"at {format_position(position_s(room, self._now_ns()))}"

    def next(self, name: str) -> str:
        """Go to the next track."""
        room = self._transport(name, lambda transport, at_ns, now_ns: transport.next_(at_ns, now_ns))
        return what_plays(room)

    def previous(self, name: str) -> str:
        """Go to the start of the track, or to the one before."""
        room = self._transport(name, lambda transport, at_ns, now_ns: transport.previous(at_ns, now_ns))
        return what_plays(room)

    def _transport(self, name: str, command: Callable[[Transport, int, int], None]) -> Room:
        room = self.room(name)
        at_ns, now_ns = self.instant(room)
        command(room.transport, at_ns, now_ns)
        self.after_change(room, queue_changed=False)
        return room

    # -- rooms ---------------------------------------------------------------------------------

    def make_room(self, name: str) -> str:
        """Make an empty room."""
        check_room(name)
        if name in self._rooms:
            raise ControlError(f"there is a room {name!r} already")
        if len(self._rooms) >= MAX_ROOMS:
            raise ControlError(f"a host has at most {MAX_ROOMS} rooms: remove one first")
        room = self._rooms[name] = new_room(name, self._chance, self._now_ns())
        self.after_change(room)
        return f"made the room {name!r}"

    def remove_room(self, name: str) -> str:
        """Remove a room; its speakers go to the first of the others."""
        room = self.room(name)
        others = [one for one in self._rooms if one != room.name]
        if not others:
            raise ControlError(f"{room.name!r} is the only room: make another first")
        moved = self.speakers.move_all(room.name, others[0])
        del self._rooms[room.name]
        self._readying.forget(room.name)
        timer = self._timers.pop(room.name, None)
        if timer is not None:
            timer.cancel()
        self._node.remove_room(room.name)
        self._changed()
        self._database.remove_room(room.name)
        went = f"; {moved} speakers went to {others[0]!r}" if moved else ""
        return f"removed the room {room.name!r}{went}"

    def room_volume(self, name: str, volume: str) -> str:
        """Set a room's volume."""
        room = self.room(name)
        room.volume = parse_volume(volume, room.volume)
        self.after_change(room, queue_changed=False)
        return f"{room.name}: volume {room.volume}"

    def room_mute(self, name: str, muted: bool) -> str:
        """Silence a room, or let it be heard."""
        room = self.room(name)
        room.muted = muted
        self.after_change(room, queue_changed=False)
        return f"{room.name}: {'muted' if muted else f'volume {room.volume}'}"

    # -- speakers ------------------------------------------------------------------------------

    def peer_appeared(self, peer_id: bytes, name: str) -> None:
        """Give a speaker its settings; a new one comes into the default room."""
        self.speakers.appeared(peer_id, name, self.room("-").name)

    def move_peer(self, name: str, room: str) -> str:
        """Move a speaker into a room."""
        return self.speakers.move(name, self.room(room).name)

    # -- what there is -------------------------------------------------------------------------

    @property
    def unsaved(self) -> str:
        """Why the last change of a room or a speaker could not be kept; empty when both were."""
        return self._unsaved or self.speakers.unsaved

    @property
    def rooms(self) -> list[Room]:
        """All rooms."""
        return list(self._rooms.values())

    def describe(self) -> str:
        """Return in a few words what this host does."""
        playing = [room for room in self.rooms if room.transport.mode == "playing"]
        here = sum(info is not None and info.present for _, info in self.speakers.all())
        plays = f"plays in {len(playing)} of {len(self.rooms)} rooms" if playing else "silent"
        if len(playing) == 1:
            plays = f"{what_plays(playing[0])} in room {playing[0].name}"
        return f"{plays}, {here} {'speaker is' if here == 1 else 'speakers are'} here"

    def status(self) -> dict[str, Any]:
        """Return the rooms and speakers for programs."""
        now_ns = self._now_ns()
        return {
            "host": self._describe(),
            "rooms": [
                room_status(one, now_ns, self.speakers.lead_duration_ns(one.name), self.preparer) for one in self.rooms
            ],
            "peers": self.peers(),
        }

    def peers(self) -> list[dict[str, Any]]:
        """Return the speakers for programs."""
        now_ns = self._now_ns()
        return [peer_status(saved, info, now_ns) for saved, info in self.speakers.all()]

    def room(self, name: str) -> Room:
        """Return a room by its name; ``-`` is the only one, or the host's own.

        Raises:
            ControlError: there is no such room.
        """
        if not self._rooms:
            raise ControlError("the host is only starting: try again in a moment")
        if name == "-":  # The default: the only room, or the one that is called so.
            if len(self._rooms) == 1 or DEFAULT_ROOM not in self._rooms:
                return next(iter(self._rooms.values()))
            return self._rooms[DEFAULT_ROOM]
        if name not in self._rooms:
            raise ControlError(f"no room {name!r}: there is {', '.join(self._rooms)}")
        return self._rooms[name]

    # -- carrying out --------------------------------------------------------------------------

    def instant(self, room: Room) -> tuple[int, int]:
        """Return from when on a command sounds in a room, and this instant, both host time."""
        now_ns = self._now_ns()
        return now_ns + self.speakers.lead_duration_ns(room.name), now_ns

    def after_change(self, room: Room, *, queue_changed: bool = True) -> None:
        """Say a changed room to the speakers, keep it, and look at what it needs next."""
        if self._rooms.get(room.name) is not room:
            raise ControlError(f"the room {room.name!r} was removed meanwhile")
        if queue_changed:
            room.transport.rebuild(*self.instant(room))
        self._say(room)
        self._changed()
        self._save(room)
        self._note_begun(room)
        self._schedule(room)
        self._readying.look_ahead(room)

    def _say(self, room: Room) -> None:
        timeline = room.transport.timeline(self._now_ns())
        revision = 1 if room.said is None else room.said.revision
        state = RoomState(room.name, revision, timeline, room.volume, room.muted)
        if room.said is not None and state != room.said:
            state = replace(state, revision=revision + 1)
        room.said = state
        self._node.set_room(state)

    def _save(self, room: Room, snapshot: dict[str, object] | None = None) -> None:
        if snapshot is None:
            snapshot = self._snapshot(room)
        try:
            self._database.save_room(room.kept(snapshot))
        except MusicSyncError as error:
            self._unsaved = str(error)
            self._throttle.warning("save", str(error))
        else:
            self._unsaved = ""

    def _snapshot(self, room: Room) -> dict[str, object]:
        return room.transport.snapshot(self._boot_id, self._now_ns(), self._day_s())

    def _note_begun(self, room: Room) -> None:
        """Note in the room's history what has begun to sound."""
        if room.note_begun(self._now_ns(), self._day_s()):
            try:
                self._database.save_played(room.name, room.history.played)
            except MusicSyncError as error:
                self._throttle.warning("save", str(error))

    def _schedule(self, room: Room) -> None:
        """Come back when the room's transport has something to do."""
        timer = self._timers.pop(room.name, None)
        if timer is not None:
            timer.cancel()
        due_ns = room.transport.next_change_host_ns()
        if due_ns is not None:
            delay_s = max(0.0, ns_to_s(due_ns - self._now_ns()))
            self._timers[room.name] = asyncio.get_running_loop().call_later(delay_s, self._advance, room)

    def _advance(self, room: Room) -> None:
        at_ns, now_ns = self.instant(room)
        before = room.queue.current_entry
        room.transport.advance(now_ns)
        if room.transport.waiting is not None:
            room.transport.rebuild(at_ns, now_ns)
        entry = room.queue.current_entry
        if entry is not before and entry is not None:
            log.info("room %s: %s", room.name, entry.title)
        self.after_change(room, queue_changed=False)

    def _after_reading(self, room: Room) -> None:
        if self._rooms.get(room.name) is room:  # It may have been removed meanwhile.
            self.after_change(room)
