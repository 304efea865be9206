"""Has the tracks of rooms ready before they are due: read, hashed and, where need be, converted.

Owns which entries are being prepared, each once for all who wait for it. What preparing is, is
:mod:`musicsyncd.system.preparer`'s; what follows from it for a room is its caller's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from musicsyncd.errors import MusicSyncError
from musicsyncd.media.entry import Entry
from musicsyncd.system.log import Throttle
from musicsyncd.system.preparer import Preparer
from musicsyncd.system.room import Room

log = logging.getLogger(__name__)

PREPARE_AHEAD = 4
"""Entries that are hashed before they are due: enough to skip a few times without waiting."""


class Readying:
    """Prepares what the rooms are about to play.

    Args:
        preparer: looks into files.
        changed: called with a room whenever one of its entries was prepared, or cannot be.
    """

    def __init__(self, preparer: Preparer, changed: Callable[[Room], None]) -> None:
        self._preparer = preparer
        self._changed = changed
        self._throttle = Throttle(log)
        self._ahead: dict[str, asyncio.Task[None]] = {}
        self._reading: dict[tuple[str, int], asyncio.Task[None]] = {}

    def look_ahead(self, room: Room) -> None:
        """Begin to prepare what a room plays next, one after the other; what it waits for before all else."""
        running = self._ahead.get(room.name)
        if (running is None or running.done()) and self._due(room):
            self._ahead[room.name] = asyncio.ensure_future(self._prepare_ahead(room))
        waiting = room.transport.waiting
        if waiting is not None and waiting.track is None:
            self.read(room, waiting)

    def read(self, room: Room, entry: Entry) -> asyncio.Task[None]:
        """Begin to prepare an entry, once for all who wait for it; how it went is in the queue afterwards."""
        key = (room.name, entry.number)
        task = self._reading.get(key)
        if task is None:
            task = self._reading[key] = asyncio.ensure_future(self._prepare(room, entry))
            task.add_done_callback(lambda _: self._reading.pop(key, None))
        return task

    def forget(self, name: str) -> None:
        """Prepare nothing more for a room that is removed."""
        ahead = self._ahead.pop(name, None)
        if ahead is not None:
            ahead.cancel()

    def close(self) -> None:
        """Leave all that is under way."""
        for task in (*self._ahead.values(), *self._reading.values()):
            task.cancel()

    def _due(self, room: Room) -> tuple[Entry, ...]:
        return self._preparer.due(room.transport.upcoming(PREPARE_AHEAD))

    async def _prepare_ahead(self, room: Room) -> None:
        while due := self._due(room):
            await asyncio.shield(self.read(room, due[0]))

    async def _prepare(self, room: Room, entry: Entry) -> None:
        """Find out what an entry's file decodes to, or note why it cannot be played."""
        try:
            track = await self._preparer.prepare(entry.path)
        except MusicSyncError as error:
            # Of a disk that was unplugged, all the rest of the queue comes here within a second.
            self._throttle.warning(room.name, f"room {room.name}: left out: {error}")
            room.queue.set_fault(entry.number, str(error))
        else:
            room.queue.set_prepared(entry.number, track)
        self._changed(room)
