"""The peer's cache of tracks: files named by what they hold, bounded, verified.

A complete track is a file named by the SHA-256 of its bytes in hexadecimal, and was
verified before it got that name. A track that is being fetched is a ``.part`` file beside
it with a journal of what is in it (:mod:`musicsyncd.media.parts`); it is gone on with by whoever wants the track next,
in this process or after a restart.

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
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from musicsyncd.errors import MediaError
from musicsyncd.media.parts import Part, journal_of, remove
from musicsyncd.media.stored import VERIFIED_NS, StoredReader, StoredTrack
from musicsyncd.playback.timeline import Track

__all__ = ["Store", "StoredReader", "StoredTrack", "disk_space", "reserve_bytes"]

MAX_FILES = 10_000
"""Tracks in the cache, whatever their sizes: as many as a queue holds."""

DEFAULT_BYTES = 2 << 30
DEFAULT_SHARE = 10
"""The cache is so large, or so much of the free disk where that is less, unless somebody says otherwise."""

MIN_BYTES = 16 << 20
"""And not less than one short track."""

KEEP_FREE_BYTES = 256 << 20
KEEP_FREE_SHARE = 10
"""Left free of the disk: a tenth, or 256 MiB where that is less, for the system's own logs and updates."""

_COMPLETE = re.compile(r"[0-9a-f]{64}")
_PART = re.compile(r"[0-9a-f]{64}\.[^.]+\.part")
_JOURNAL = re.compile(r"[0-9a-f]{64}\.[^.]+\.(ranges|new)")


class _Kept(NamedTuple):
    """A file in the folder that is not in use here, and the bytes that go with it."""

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
        max_bytes: of all tracks together, those being fetched at their full size; None for what the disk can spare.
        local: gives the path of a file that holds the same bytes already, or None.
        disk: gives a folder's free and total bytes.
        boot_id: names the run of this machine, or is empty: parts of another run are trusted less.

    Raises:
        MediaError: the folder cannot be made.
    """

    def __init__(
        self,
        folder: Path,
        max_bytes: int | None,
        local: Callable[[bytes], Path | None] | None = None,
        disk: Callable[[Path], tuple[int, int]] = disk_space,
        boot_id: str = "",
    ) -> None:
        self._folder = folder
        self._local = local
        self._disk = disk
        self._boot_id = boot_id
        self._lock = threading.Lock()
        self._open: weakref.WeakValueDictionary[bytes, StoredTrack] = weakref.WeakValueDictionary()
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _sweep(folder)
            self.max_bytes = self._spare() if max_bytes is None else max_bytes
        except OSError as error:
            raise MediaError(f"the cache {folder} cannot be used: {error.strerror or error}") from None

    def resize(self, max_bytes: int | None) -> None:
        """Hold no more than this from now on, as the constructor takes it; what is too much goes with the next track.

        Raises:
            OSError: the folder cannot be read. Not for an event loop.
        """
        self.max_bytes = self._spare() if max_bytes is None else max_bytes

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

    def held_bytes(self) -> int:
        """Return how much is on disk now. It looks at every file: nothing for an event loop.

        Raises:
            OSError: the folder cannot be read.
        """
        return sum(file.size_bytes for file in self._scan(frozenset()))

    def _spare(self) -> int:
        """Return how large the cache is when nobody says it."""
        free_bytes = self._disk(self._folder)[0] + self.held_bytes()
        return max(MIN_BYTES, min(DEFAULT_BYTES, free_bytes // DEFAULT_SHARE))

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
            status = os.fstat(fd)
            if status.st_size == track.size_bytes and (path == local or status.st_mtime_ns == VERIFIED_NS):
                if path == kept:
                    with contextlib.suppress(OSError):
                        os.utime(fd, ns=(time.time_ns(), VERIFIED_NS))
                return StoredTrack(track, fd, None, self._make_room_for_block)
            os.close(fd)
            if path == kept:
                path.unlink(missing_ok=True)  # Somebody wrote to it, or it is another file altogether.
        return None

    def _begin(self, track: Track) -> StoredTrack:
        """Return a track of which bytes are missing, with those that were fetched before."""
        found = self._left_part(track)
        if found is None:
            self._make_room(track.size_bytes, track.size_bytes)
            fd, name = tempfile.mkstemp(".part", track.content_id.hex() + ".", self._folder)
            path = Path(name)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.truncate(fd, track.size_bytes)
            except OSError:
                os.close(fd)
                remove(path)
                raise
            return StoredTrack(track, fd, Part(path, fd, track.size_bytes, self._boot_id), self._make_room_for_block)
        path, fd = found
        part = Part(path, fd, track.size_bytes, self._boot_id)
        missing_bytes = track.size_bytes - part.ranges.total()
        try:
            self._make_room(missing_bytes, missing_bytes)
        except MediaError:
            os.close(fd)
            part.close()
            raise
        with contextlib.suppress(OSError):
            os.utime(fd)
        return StoredTrack(track, fd, part, self._make_room_for_block)

    def _left_part(self, track: Track) -> tuple[Path, int] | None:
        """Return a part of a track that nobody is working on, opened and locked."""
        for path in sorted(self._folder.glob(f"{track.content_id.hex()}.*.part")):
            with contextlib.suppress(OSError):
                fd = _lock(path, os.O_RDWR)
                if fd is None:
                    continue
                if os.fstat(fd).st_size == track.size_bytes:
                    return path, fd
                os.close(fd)
                remove(path)
        return None

    def _make_room_for_block(self, new_bytes: int) -> None:
        """Keep the disk's reserve while others fill the disk too."""
        free, total = self._disk(self._folder)
        if free - new_bytes < reserve_bytes(total):
            with self._lock:
                self._make_room(0, new_bytes)

    def _make_room(self, cache_bytes: int, disk_bytes: int) -> None:
        """Drop tracks, the longest unused first, until so much more fits into the cache and onto the disk.

        Raises:
            MediaError: not even dropping all that are not in use is enough; then none was dropped.
        """
        tracks = list(self._open.values())
        in_use = frozenset(stored.track.content_id.hex() for stored in tracks)
        kept = self._scan(in_use)
        free, disk_total = self._disk(self._folder)
        over_disk = reserve_bytes(disk_total) + disk_bytes - free
        over_cache = excess_files = 0
        if cache_bytes:
            # Parts are sparse: what is still to come for them is free only in name.
            over_disk += sum(stored.missing_bytes for stored in tracks)
            held_bytes = sum(stored.size_bytes for stored in tracks if not stored.complete)
            over_cache = sum(file.size_bytes for file in kept) + held_bytes + cache_bytes - self.max_bytes
            excess_files = len(kept) + 1 - MAX_FILES
        droppable = sorted(file for file in kept if file.path.name not in in_use and _is_idle(file.path))
        freed, chosen = 0, 0
        while freed < max(over_disk, over_cache) or chosen < excess_files:
            if chosen == len(droppable):
                raise MediaError(_no_room(cache_bytes, self.max_bytes, self._folder, disk=over_disk > freed))
            freed += droppable[chosen].size_bytes
            chosen += 1
        for file in droppable[:chosen]:
            remove(file.path)

    def _scan(self, in_use: frozenset[str]) -> list[_Kept]:
        """Return the complete files, and the parts but for those in use."""
        kept: list[_Kept] = []
        with os.scandir(self._folder) as entries:
            for entry in entries:
                complete = _COMPLETE.fullmatch(entry.name) is not None
                if not complete and (_PART.fullmatch(entry.name) is None or entry.name[:64] in in_use):
                    continue
                with contextlib.suppress(FileNotFoundError):
                    status = entry.stat(follow_symlinks=False)
                    # A part is as long as the whole, with holes where nothing was written.
                    size_bytes = status.st_size if complete else min(status.st_size, 512 * status.st_blocks)
                    used_ns = status.st_atime_ns if complete else max(status.st_atime_ns, status.st_mtime_ns)
                    kept.append(_Kept(used_ns, size_bytes, Path(entry.path)))
        return kept


def reserve_bytes(disk_total_bytes: int) -> int:
    """Return how many bytes of a disk are left free."""
    return min(disk_total_bytes // KEEP_FREE_SHARE, KEEP_FREE_BYTES)


def _no_room(cache_bytes: int, max_bytes: int, folder: Path, *, disk: bool) -> str:
    if disk:
        return f"disk full: no room for a track of {cache_bytes >> 20} MiB in {folder}; free some space there"
    return (
        f"the cache of {max_bytes >> 20} MiB has no room for a track of {cache_bytes >> 20} MiB"
        " beside those in use: make it larger"
    )


def _lock(path: Path, mode: int) -> int | None:
    """Return a part opened and locked, or None when a process that lives has it."""
    fd = os.open(path, mode | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Between the two it may have become whole, and have another name.
        if os.path.samestat(os.fstat(fd), os.stat(path)):
            return fd
    except OSError:
        pass
    os.close(fd)
    return None


def _is_idle(path: Path) -> bool:
    """Return whether a file may go: it is complete, or a part on which nobody works."""
    if _PART.fullmatch(path.name) is None:
        return True
    try:
        fd = _lock(path, os.O_RDONLY)
    except OSError:
        return False
    if fd is not None:
        os.close(fd)
    return fd is not None


def _sweep(folder: Path) -> None:
    """Remove what is of no use to anybody: parts without a journal, and journals without a part."""
    for path in list(folder.iterdir()):
        if _PART.fullmatch(path.name) is not None:
            useless = not journal_of(path).exists() and _is_idle(path)
        else:
            useless = _JOURNAL.fullmatch(path.name) is not None and not path.with_suffix(".part").exists()
        if useless:
            path.unlink(missing_ok=True)
