"""Looks into files in threads: what they are, what they are turned into, and the content id that peers fetch them by.

Hashing is remembered by path, size and time of change, so a track is read once. What peers cannot decode
alike is turned into FLAC first (:mod:`musicsyncd.media.convert`), also once; then the FLAC is the track.

A file may change or go at any time. So what was prepared is looked at again before it sounds: as
long as it is the same that costs a look at its header, and the track that comes out is the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from musicsyncd.errors import MediaError, MusicSyncError
from musicsyncd.media.convert import CancelledError, must_convert
from musicsyncd.media.converted import Converted, ConvertedFolder
from musicsyncd.media.inspect import TrackInfo, content_id, find_tracks, inspect, shown, to_track
from musicsyncd.media.queue import Entry, Item
from musicsyncd.media.replaygain import Loudness, gain_db
from musicsyncd.media.tags import read_tags
from musicsyncd.playback.timeline import Track
from musicsyncd.system.database import Database
from musicsyncd.system.log import Throttle
from musicsyncd.system.monotonic import now_ns
from musicsyncd.text import listed
from musicsyncd.units import NS_PER_S

log = logging.getLogger(__name__)

MAX_SAID_FAULTS = 3

LOOK_AGAIN_DURATION_NS = 60 * NS_PER_S
"""So long what was found out about a file is believed, when its entry is about to play."""

MAX_LOOKED = 1000
"""Files whose last look, and whose damage, is remembered: more than are about to play in all rooms together."""

CONVERTING_THREADS = 2
"""One converts ahead, one what somebody wants to hear now; more would take the processor from the music."""


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
        return "; left out: " + listed(self.faults, MAX_SAID_FAULTS)


class Preparer:
    """Inspects, hashes and converts files away from the event loop.

    Attributes:
        loudness: whether tracks are made equally loud.
        converting: by path, how much of a file is converted, 0…1.
        damage: by path, what was left out of a file as it was converted; since this start.
    """

    def __init__(self, database: Database) -> None:
        self.loudness = Loudness()
        self.converting: dict[str, float] = {}
        self.damage: OrderedDict[str, str] = OrderedDict()
        self._database = database
        self._throttle = Throttle(log)
        self._folder: ConvertedFolder | None = None
        self._closing = threading.Event()
        self._looked_ns: OrderedDict[str, int] = OrderedDict()
        self._making: dict[bytes, asyncio.Future[Converted]] = {}
        # One thread: two would make a disk seek to and fro, and a Pi has other work for its cores.
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="prepare")
        # Others, for a long file that is converted must not keep a short one from being looked at.
        self._converters = ThreadPoolExecutor(CONVERTING_THREADS, thread_name_prefix="convert")

    def convert_into(self, folder: Path, in_use: Callable[[], Collection[bytes]]) -> None:
        """Turn what peers cannot decode alike into FLAC in a folder; without this call it travels as it is.

        Args:
            folder: made if it is not there.
            in_use: gives the content ids of files that must stay; called in any thread.

        Raises:
            MediaError: the folder cannot be made.
        """
        self._folder = ConvertedFolder(folder, in_use)

    async def find(self, paths: Sequence[str]) -> Found:
        """Return what the files and folders have for a queue.

        Raises:
            MediaError: with the reasons, when nothing of them is of use.
        """
        found = await asyncio.get_running_loop().run_in_executor(self._pool, _find, tuple(paths))
        if not found.items:
            raise MediaError(listed(found.faults, MAX_SAID_FAULTS) or "no track was named")
        if found.faults:
            log.warning("left out: %s", listed(found.faults, MAX_SAID_FAULTS))
        return found

    async def prepare(self, path: str) -> Track:
        """Return the track that a file is or was turned into, with the content id of what peers fetch.

        Raises:
            MediaError: when it is of no use any more.
        """
        self._note_look(path)
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
                self._throttle.warning("keep", str(error))  # It costs the hashing once more, no music.
        louder_db = await loop.run_in_executor(self._pool, _gain_db, info.path, self.loudness)
        if self._folder is None or not await loop.run_in_executor(self._pool, must_convert, info):
            return to_track(info, hashed, louder_db)
        made = self._folder.find(hashed) or await self._converted(info, hashed)
        flac = await loop.run_in_executor(self._pool, inspect, made.path)
        return to_track(flac, made.content_id, louder_db)

    def due(self, entries: Iterable[Entry]) -> tuple[Entry, ...]:
        """Return which of these must be prepared, or looked at again."""
        now = now_ns()
        return tuple(entry for entry in entries if self._is_due(entry, now))

    def served(self, entry: Entry) -> Path:
        """Return the file with the bytes of an entry's track: what it was turned into, or its own."""
        path = None
        if self._folder is not None and entry.track is not None:
            path = self._folder.path_of(entry.track.content_id)
        return path or Path(entry.path)

    def close(self) -> None:
        """Take no more work; what is being read is not waited for, and what is being converted is left."""
        self._closing.set()
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._converters.shutdown(wait=False, cancel_futures=True)

    def _note_look(self, path: str) -> None:
        """From here on, and whatever comes of it, a file counts as looked at."""
        self._looked_ns[path] = now_ns()
        self._looked_ns.move_to_end(path)
        if len(self._looked_ns) > MAX_LOOKED:
            self._looked_ns.popitem(last=False)

    def _is_due(self, entry: Entry, now: int) -> bool:
        looked_ns = self._looked_ns.get(entry.path)
        return entry.track is None or looked_ns is None or now - looked_ns >= LOOK_AGAIN_DURATION_NS

    async def _converted(self, info: TrackInfo, source_id: bytes) -> Converted:
        """Convert a file, or wait for whoever does so already."""
        running = self._making.get(source_id)
        if running is None:
            running = asyncio.get_running_loop().run_in_executor(self._converters, self._convert, info, source_id)
            self._making[source_id] = running
            running.add_done_callback(lambda _: self._making.pop(source_id, None))
        # One of those who wait may be cancelled; the others still want it.
        return await asyncio.shield(running)

    def _convert(self, info: TrackInfo, source_id: bytes) -> Converted:
        """Convert a file; runs in a thread."""
        assert self._folder is not None, "only what there is a folder for is converted"
        path, began_ns = str(info.path), now_ns()

        def progress(done_frames: int, all_frames: int) -> None:
            if self._closing.is_set():
                raise CancelledError
            self.converting[path] = min(done_frames / all_frames, 1.0) if all_frames else 0.0

        try:
            made = self._folder.make(info, source_id, progress)
        except CancelledError:
            raise MediaError(f"{shown(info.path)} was not converted to the end: the host stops") from None
        finally:
            self.converting.pop(path, None)
        for fault in made.faults[:MAX_SAID_FAULTS]:
            log.warning("%s: %s", shown(info.path), fault)
        if made.faults:
            self.damage[path] = made.faults[0]
            while len(self.damage) > MAX_LOOKED:
                self.damage.popitem(last=False)
        log.info("%s: turned into FLAC in %.1f s", shown(info.path), (now_ns() - began_ns) / NS_PER_S)
        return made


def _gain_db(path: Path, loudness: Loudness) -> float:
    return gain_db(read_tags(path), loudness) if loudness.mode != "off" else 0.0


def _find(paths: tuple[str, ...]) -> Found:
    items: list[Item] = []
    faults: list[str] = []
    for path in paths:
        try:
            files = find_tracks(Path(os.path.expanduser(path)).absolute())
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
