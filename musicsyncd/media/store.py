"""The peer's cache of tracks: files named by what they hold, bounded, verified.

A complete track is a file named by the SHA-256 of its bytes in hexadecimal, and was
verified before it got that name. A track that is being fetched is a ``.part`` file beside
it. A part does not outlive its process: after a restart that one track is fetched again
from its beginning.

A track is in use as long as anyone holds its :class:`StoredTrack` or a reader of it; what
is not in use goes, the longest unused first, when room is needed. Several processes may
share one folder: a part carries a lock by which the others know that it is alive.

Owns the folder and how full it may be. What happens inside one track is in
:mod:`musicsyncd.media.stored`.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import tempfile
import threading
import weakref
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from musicsyncd.errors import MediaError
from musicsyncd.media.stored import StoredReader, StoredTrack, let_go
from musicsyncd.playback.timeline import Track

__all__ = ["Store", "StoredReader", "StoredTrack", "disk_space"]

MAX_FILES = 10_000
"""Tracks in the cache, whatever their sizes: as many as a queue holds."""

MAX_RELEASED_PARTS = 8
"""Tracks that were begun and then skipped, kept for a listener who goes back and forth."""

KEEP_FREE_BYTES = 256 << 20
KEEP_FREE_SHARE = 10
"""Left free of the disk: a tenth, or 256 MiB where that is less, for the system's own logs and updates."""

_COMPLETE = re.compile(r"[0-9a-f]{64}")
_PART = re.compile(r"[0-9a-f]{64}\.[^.]+\.part")


class _Kept(NamedTuple):
    """A complete file in the folder."""

    used_ns: int
    size_bytes: int
    path: Path


def disk_space(folder: Path) -> tuple[int, int]:
    """Return the bytes of a folder's disk that are free for us, and all of them."""
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize, status.f_blocks * status.f_frsize


class Store:
    """The cache folder.

    Args:
        folder: made if it is not there; files in it that are not the cache's are left alone.
        max_bytes: of all tracks together, those being fetched at their full size.
        local: gives the path of a file that holds the same bytes already, or None.
        disk: gives a folder's free and total bytes.

    Raises:
        MediaError: the folder cannot be made.
    """

    def __init__(
        self,
        folder: Path,
        max_bytes: int,
        local: Callable[[bytes], Path | None] | None = None,
        disk: Callable[[Path], tuple[int, int]] = disk_space,
    ) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._local = local
        self._disk = disk
        self._lock = threading.Lock()
        self._released: deque[StoredTrack] = deque(maxlen=MAX_RELEASED_PARTS)
        self._open: weakref.WeakValueDictionary[bytes, StoredTrack] = weakref.WeakValueDictionary()
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _sweep(folder)
        except OSError as error:
            raise MediaError(f"the cache {folder} cannot be used: {error.strerror or error}") from None

    def open(self, track: Track) -> StoredTrack:
        """Return a track's place in the cache, the same object for the same track as long as anyone holds it.

        Raises:
            MediaError: there is no room for it, or the folder cannot be written.
        """
        with self._lock:
            stored = self._open.get(track.content_id)
            if stored is None or stored.failure:
                try:
                    stored = self._find(track) or self._begin(track)
                except OSError as error:
                    raise MediaError(f"the cache {self._folder}: {error.strerror or error}") from None
                self._open[track.content_id] = stored
            return stored

    def release(self, stored: StoredTrack) -> None:
        """Say that a track is not wanted for now: what was fetched of it is kept while there is room."""
        if not stored.complete and not stored.failure and stored not in self._released:
            self._released.append(stored)

    def _find(self, track: Track) -> StoredTrack | None:
        """Return a track of which all bytes are on this machine, or None."""
        kept = self._folder / track.content_id.hex()
        local = self._local(track.content_id) if self._local is not None else None
        for path in (local, kept):
            if path is None:
                continue
            try:
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                continue
            if os.fstat(fd).st_size == track.size_bytes:
                if path == kept:
                    with contextlib.suppress(OSError):
                        os.utime(fd)
                return StoredTrack(track, fd, None, self._make_room_for_block)
            os.close(fd)
            if path == kept:
                path.unlink(missing_ok=True)
        return None

    def _begin(self, track: Track) -> StoredTrack:
        """Return a track of which all bytes are missing."""
        self._make_room(track.size_bytes, track.size_bytes)
        fd, name = tempfile.mkstemp(".part", track.content_id.hex() + ".", self._folder)
        part = Path(name)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.truncate(fd, track.size_bytes)
        except OSError:
            let_go(fd, part)
            raise
        return StoredTrack(track, fd, part, self._make_room_for_block)

    def _make_room_for_block(self, new_bytes: int) -> None:
        """Keep the disk's reserve while others fill the disk too."""
        free, total = self._disk(self._folder)
        if free - new_bytes < _reserve(total):
            with self._lock:
                self._make_room(0, new_bytes)

    def _make_room(self, cache_bytes: int, disk_bytes: int) -> None:
        """Drop tracks, the longest unused first, until so much more fits into the cache and onto the disk.

        Raises:
            MediaError: not even dropping all that are not in use is enough; then none was dropped.
        """
        kept, over_disk, over_cache = self._lacking(cache_bytes, disk_bytes)
        if self._released and max(over_disk, over_cache) > 0:
            self._released.clear()
            kept, over_disk, over_cache = self._lacking(cache_bytes, disk_bytes)
        excess_files = len(kept) + 1 - MAX_FILES if cache_bytes else 0
        in_use = {key.hex() for key in list(self._open.keys())}
        droppable = sorted(file for file in kept if file.path.name not in in_use)
        freed, chosen = 0, 0
        while freed < max(over_disk, over_cache) or chosen < excess_files:
            if chosen == len(droppable):
                raise MediaError(_no_room(cache_bytes, self._max_bytes, self._folder, disk=over_disk > freed))
            freed += droppable[chosen].size_bytes
            chosen += 1
        for file in droppable[:chosen]:
            file.path.unlink(missing_ok=True)

    def _lacking(self, cache_bytes: int, disk_bytes: int) -> tuple[list[_Kept], int, int]:
        """Return the complete files, and by how many bytes the disk and the cache would be over their limits."""
        kept, total_bytes = self._scan()
        free, disk_total = self._disk(self._folder)
        if not cache_bytes:
            return kept, _reserve(disk_total) + disk_bytes - free, 0
        # Parts are sparse: what is still to come for them is free only in name.
        promised = sum(stored.missing_bytes for stored in list(self._open.values()))
        over_disk = _reserve(disk_total) + disk_bytes + promised - free
        return kept, over_disk, total_bytes + cache_bytes - self._max_bytes

    def _scan(self) -> tuple[list[_Kept], int]:
        """Return the complete files, and the bytes of these and of all parts."""
        kept: list[_Kept] = []
        total_bytes = 0
        with os.scandir(self._folder) as entries:
            for entry in entries:
                complete = _COMPLETE.fullmatch(entry.name) is not None
                if not complete and _PART.fullmatch(entry.name) is None:
                    continue
                with contextlib.suppress(FileNotFoundError):
                    status = entry.stat(follow_symlinks=False)
                    total_bytes += status.st_size
                    if complete:
                        kept.append(_Kept(status.st_mtime_ns, status.st_size, Path(entry.path)))
        return kept, total_bytes


def _reserve(disk_total_bytes: int) -> int:
    return min(disk_total_bytes // KEEP_FREE_SHARE, KEEP_FREE_BYTES)


def _no_room(cache_bytes: int, max_bytes: int, folder: Path, *, disk: bool) -> str:
    if disk:
        return f"disk full: no room for a track of {cache_bytes >> 20} MiB in {folder}; free some space there"
    return (
        f"the cache of {max_bytes >> 20} MiB has no room for a track of {cache_bytes >> 20} MiB"
        " beside those in use: make it larger"
    )


def _sweep(folder: Path) -> None:
    """Remove the parts of processes that are no more."""
    for path in folder.iterdir():
        if _PART.fullmatch(path.name) is None:
            continue
        with contextlib.suppress(OSError), path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink(missing_ok=True)
