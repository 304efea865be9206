"""Looks into files in a thread: what they are, and the content id that peers fetch them by.

Hashing is remembered by path, size and time of change, so a track is read once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from musicsyncd.errors import MediaError, MusicSyncError
from musicsyncd.media.inspect import content_id, find_tracks, inspect, to_track
from musicsyncd.media.queue import Item
from musicsyncd.playback.timeline import Track
from musicsyncd.system.database import Database

log = logging.getLogger(__name__)

MAX_SAID_FAULTS = 3


@dataclass(frozen=True, slots=True)
class Found:
    """What became of the paths that a user named.

    Attributes:
        items: for the queue, in their order.
        faults: a line for each path or file that is of no use.
    """

    items: tuple[Item, ...]
    faults: tuple[str, ...]

    def said(self) -> str:
        """Return the faults as the end of a sentence, or nothing."""
        if not self.faults:
            return ""
        more = f" (and {len(self.faults) - MAX_SAID_FAULTS} more)" if len(self.faults) > MAX_SAID_FAULTS else ""
        return "; left out: " + "; ".join(self.faults[:MAX_SAID_FAULTS]) + more


class Preparer:
    """Inspects and hashes files away from the event loop."""

    def __init__(self, database: Database) -> None:
        self._database = database
        # One thread: two would make a disk seek to and fro, and a Pi has other work for its cores.
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="prepare")

    async def find(self, paths: Sequence[str]) -> Found:
        """Return what the files and folders have for a queue.

        Raises:
            MediaError: with the reasons, when nothing of them is of use.
        """
        found = await asyncio.get_running_loop().run_in_executor(self._pool, _find, tuple(paths))
        if not found.items:
            raise MediaError("; ".join(found.faults[:MAX_SAID_FAULTS]) or "no track was named")
        for fault in found.faults:
            log.warning("%s", fault)
        return found

    async def prepare(self, path: str) -> Track:
        """Return the track that a file is, with its content id.

        Raises:
            MediaError: when it is of no use any more.
        """
        loop = asyncio.get_running_loop()
        info = await loop.run_in_executor(self._pool, inspect, Path(path))
        hashed = None
        with contextlib.suppress(MusicSyncError):  # It costs the hashing, no music.
            hashed = self._database.find_track(path, info.size_bytes, info.mtime_ns)
        if hashed is None:
            hashed = await loop.run_in_executor(self._pool, content_id, Path(path))
            try:
                self._database.keep_track(info, hashed)
            except MusicSyncError as error:
                log.warning("%s", error)  # It costs the hashing once more, no music.
        return to_track(info, hashed)

    def close(self) -> None:
        """Take no more work; what is being read is not waited for."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _find(paths: tuple[str, ...]) -> Found:
    items: list[Item] = []
    faults: list[str] = []
    for path in paths:
        try:
            files = find_tracks(Path(path).expanduser().absolute())
        except MediaError as error:
            faults.append(str(error))
            continue
        for file in files:
            try:
                info = inspect(file)
            except MediaError as error:
                faults.append(str(error))
            else:
                items.append(Item(str(info.path), info.title, info.artist, info.frames / info.rate_hz))
    return Found(tuple(items), tuple(faults))
