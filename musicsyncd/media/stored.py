"""One track in the cache: which of its bytes are there, who waits for the others, and whether they are right.

A growing track is a sparse file into which blocks come in any order. Readers read what is
there and wait for what is not; where they wait is what should be fetched first. The whole is
compared with the SHA-256 that is its name; that is computed as the bytes come, so that the last of three
hours has not to wait for all others to be read again.

A whole file is taken for what it was when it was verified as long as its time of change is the same: one of
the cache has :data:`VERIFIED_NS`, which whoever writes to it takes away. It is looked at with every
read, so a file that was changed on disk is never played, but given up and fetched again.

Owns an open file and the ranges in it. Knows nothing of folders and room, which are
:mod:`musicsyncd.media.store`'s, nor of where the bytes come from or what they decode to.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import time
import weakref
from collections.abc import Callable

from musicsyncd.errors import MediaError
from musicsyncd.media.parts import Part, Ranges
from musicsyncd.media.positioned import PositionedFile
from musicsyncd.playback.timeline import Track
from musicsyncd.units import NS_PER_S

MAX_MISMATCHES = 3
"""Fetched whole and found wrong this often, a track is given up: its host does not have what it announces."""

VERIFIED_NS = 1_000_000_000 * NS_PER_S
"""The time of change of files in the cache, in 2001; even seconds, for file systems that keep no others."""

HASH_BYTES = 1 << 20
"""Hashed at most with each block that comes: so much more than the block that bytes from before are caught up with."""


class StoredTrack:
    """One track in the cache, whole or growing. Any thread may call anything.

    Made by :meth:`~.store.Store.open` only. Holding it keeps its file.

    Attributes:
        track: what it is.
        mismatches: how often all bytes were there and their hash was wrong.
        failure: why the missing bytes will not come, in one line, or empty.
        spoiled: it was whole, and then somebody changed its file: it has to be opened anew.
    """

    def __init__(self, track: Track, fd: int, part: Part | None, make_room: Callable[[int], None]) -> None:
        self.track = track
        self.mismatches = 0
        self.failure = ""
        self.spoiled = False
        self._fd = fd
        self._part = part
        self._make_room = make_room
        self._complete = part is None
        self._stamp = _stamp(fd)
        self._ranges = Ranges() if part is None else part.ranges
        if self._complete:
            self._ranges.add(0, track.size_bytes)
        self._digest, self._hashed_bytes = hashlib.sha256(), 0
        self._hashing = threading.Lock()
        self._wanted_offset = 0
        self._changed = threading.Condition()
        weakref.finalize(self, let_go, fd, part)

    @property
    def size_bytes(self) -> int:
        """Length of the whole track."""
        return self.track.size_bytes

    @property
    def complete(self) -> bool:
        """All of it is there and its hash is right."""
        return self._complete

    @property
    def wanted_offset(self) -> int:
        """Where a reader waits or will read next: the first missing byte after this is the most urgent one."""
        return self._wanted_offset

    @property
    def missing_bytes(self) -> int:
        """How many bytes are not there yet."""
        with self._changed:
            return self.size_bytes - self._ranges.total()

    @property
    def unverified(self) -> bool:
        """All bytes are there, and not all were hashed yet: :meth:`verify` goes on."""
        return not self._complete and not self.failure and not self.missing_bytes

    def present(self, offset: int, length: int) -> bool:
        """Return whether all of ``length`` bytes from ``offset`` on are there."""
        with self._changed:
            return self._ranges.gap(offset, self.size_bytes)[0] >= min(offset + length, self.size_bytes)

    def missing_from(self, offset: int) -> tuple[int, int] | None:
        """Return the next gap (start, end) at or after ``offset``, else the first one before it, else None."""
        with self._changed:
            for begin in (offset, 0):
                start, end = self._ranges.gap(begin, self.size_bytes)
                if start < end:
                    return start, end
        return None

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """Keep bytes that were fetched; the last ones that were missing make the whole be verified.

        Raises:
            MediaError: the disk is full or broken, or the hash of the whole is not the track's: then
                everything is missing again, until that has happened too often and ``failure`` is set.
        """
        end = offset + len(data)
        if not 0 <= offset <= end <= self.size_bytes:
            raise MediaError(f"bytes {offset}–{end} are outside a track of {self.size_bytes} bytes")
        if self._complete:
            return
        self._make_room(len(data))
        view = memoryview(data)
        try:
            while view:
                view = view[os.pwrite(self._fd, view, end - len(view)) :]
        except OSError as error:
            raise MediaError(f"the cache cannot be written: {error.strerror or error}") from None
        with self._changed:
            if offset < end:
                self._ranges.add(offset, end)
                assert self._part is not None, "a whole track is not written to"
                self._part.note(offset, end)
            self._changed.notify_all()
        for _ in range(-(-len(data) // HASH_BYTES)):
            self.verify()

    def fail(self, error: str | Exception) -> None:
        """Say that what is missing will not come: whoever waits for it gets a MediaError with this line."""
        with self._changed:
            self.failure = str(error)
            self._changed.notify_all()

    def reader(self, timeout_s: float | None = None) -> StoredReader:
        """Return a file that has the full length and waits in read(), at most ``timeout_s``, for what is missing."""
        return StoredReader(self, timeout_s)

    def verify(self) -> None:
        """Hash some of what is there; with the last of it, compare the whole with its name.

        Raises:
            MediaError: it is not the track: see :meth:`write`.
        """
        with self._hashing:
            if self._complete or self.failure:
                return
            with self._changed:
                there = self._ranges.gap(0, self.size_bytes)[0]
            count = min(there - self._hashed_bytes, HASH_BYTES)
            if count > 0:
                block = b""
                # A disk that cannot be read gives a wrong hash, and is treated as wrong bytes are.
                with contextlib.suppress(OSError):
                    block = os.pread(self._fd, count, self._hashed_bytes)
                self._digest.update(block or b"?")
                self._hashed_bytes += len(block) or count
            if self._hashed_bytes == self.size_bytes:
                self._settle()

    def _settle(self) -> None:
        """Keep the whole under its name if it is what that says, or drop every byte of it."""
        assert self._part is not None, "only what was fetched is verified"
        if self._digest.digest() == self.track.content_id:
            self._publish(self._part)
            self._stamp = _stamp(self._fd)
            self._complete = True
            return
        with self._changed:
            self.mismatches += 1
            self._part.forget()
            self._ranges = self._part.ranges
            self._digest, self._hashed_bytes = hashlib.sha256(), 0
        line = f"what the host sent is not track {_short(self.track)}: its hash is another"
        if self.mismatches >= MAX_MISMATCHES:
            self.fail(f"{line}, {self.mismatches} times; add the track anew on the host")
        raise MediaError(line)

    def _publish(self, part: Part) -> None:
        """Give the file its final name. If that fails it can still be played, only not kept."""
        with contextlib.suppress(OSError):
            os.utime(self._fd, ns=(time.time_ns(), VERIFIED_NS))
            # Speakers are switched off at the wall: without this the name could outlive the bytes.
            os.fdatasync(self._fd)
            part.finish(part.path.with_name(self.track.content_id.hex()))

    def _check_unchanged(self) -> None:
        """Raise MediaError, and give the track up, when a whole file is not what it was when it was verified."""
        if self._complete and not self.spoiled and _stamp(self._fd) != self._stamp:
            self.spoiled = True
            self.fail(f"the file of track {_short(self.track)} was changed on disk")
        if self.spoiled:
            raise MediaError(self.failure)

    def _await(self, offset: int, length: int, reader: StoredReader) -> None:
        """Wait until bytes are there; MediaError when they will not come, come too late or nobody wants to wait."""
        deadline_ns = None
        if reader.timeout_s is not None:
            deadline_ns = time.monotonic_ns() + round(reader.timeout_s * NS_PER_S)
        with self._changed:
            while (start := self._ranges.gap(offset, self.size_bytes)[0]) < offset + length:
                self._wanted_offset = start
                if self.failure:
                    raise MediaError(self.failure)
                if reader.interrupted:
                    raise MediaError("the wait for bytes was broken off")
                left_s = None if deadline_ns is None else (deadline_ns - time.monotonic_ns()) / NS_PER_S
                if left_s is not None and left_s <= 0:
                    raise MediaError(f"track {_short(self.track)} did not come: the host is too slow or away")
                self._changed.wait(left_s)
            self._wanted_offset = offset + length

    def _wake_readers(self) -> None:
        with self._changed:
            self._changed.notify_all()


class StoredReader(PositionedFile):
    """A track's bytes as a seekable binary file; read() returns everything asked for, up to the end.

    One thread reads; any thread may interrupt it.

    Attributes:
        timeout_s: the longest wait of one read; None waits for ever.
        interrupted: reads that would have to wait raise MediaError instead.
    """

    def __init__(self, stored: StoredTrack, timeout_s: float | None) -> None:
        super().__init__(stored.size_bytes)
        self.timeout_s = timeout_s
        self.interrupted = False
        self._stored = stored

    def interrupt(self) -> None:
        """Make a read that waits, and every later one that would, raise MediaError until :meth:`resume`."""
        self.interrupted = True
        self._stored._wake_readers()

    def resume(self) -> None:
        """Let reads wait again."""
        self.interrupted = False

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Fill a buffer from the position on, waiting for what is missing; return the bytes read.

        Raises:
            MediaError: they will not come, did not come in time, or the wait was broken off.
        """
        view = memoryview(buffer).cast("B")
        view = view[: max(0, min(len(view), self._size_bytes - self._position))]
        if not view:
            return 0
        self._stored._await(self._position, len(view), self)
        self._stored._check_unchanged()
        done = 0
        while done < len(view):
            try:
                count = os.preadv(self._stored._fd, [view[done:]], self._position)
            except OSError as error:
                raise MediaError(f"the cache cannot be read: {error.strerror or error}") from None
            if not count:
                raise MediaError(f"track {_short(self._stored.track)} was cut short on disk")
            self._position += count
            done += count
        return done


def _short(track: Track) -> str:
    return track.content_id.hex()[:12]


def _stamp(fd: int) -> tuple[int, int]:
    """Return a file's size and time of change."""
    status = os.fstat(fd)
    return status.st_size, status.st_mtime_ns


def let_go(fd: int, part: Part | None) -> None:
    """Close a file; what was fetched of it stays for the next time."""
    os.close(fd)
    if part is not None:
        part.close()
