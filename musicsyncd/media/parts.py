"""Which bytes of a file that is being fetched are there, kept beside it so that a restart loses none of them.

Beside a part stands its journal, a text file: after each block of bytes that was written it gets
a line with where they are. A process that is killed loses what it had in hand and no more. A machine that loses its
power loses what it had not put on the disk, and the journal may be ahead of the bytes; so it names
the run of the machine that wrote it, and in another run counts only as far as its last ``sync``.

Owns ranges of bytes and the journal. Knows nothing of tracks, of who reads and of hashes.
"""

from __future__ import annotations

import contextlib
import os
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from pathlib import Path

MAX_JOURNAL_BYTES = 16 << 20
"""Of a journal that is read: a track of 30 GiB, in the smallest blocks. What is behind that is fetched again."""

SYNC_BYTES = 4 << 20
"""So much is written before it is put on the disk: a poor SD card takes less than half a second for it."""

_HEAD = "musicsyncd part 1"
_SYNC = "sync"


class Ranges:
    """Which bytes are there: ranges in rising order that neither overlap nor touch."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(tuple(self._starts), tuple(self._ends), strict=True)

    def add(self, start: int, end: int) -> None:
        """Note that the bytes of ``start`` ≤ offset < ``end`` are there."""
        left, right = bisect_left(self._ends, start), bisect_right(self._starts, end)
        if left < right:
            start, end = min(start, self._starts[left]), max(end, self._ends[right - 1])
        self._starts[left:right] = [start]
        self._ends[left:right] = [end]

    def gap(self, offset: int, size: int) -> tuple[int, int]:
        """Return the first gap at or after ``offset``; an empty one at ``size`` when there is none."""
        index = bisect_right(self._starts, offset)
        if index and self._ends[index - 1] > offset:
            offset = self._ends[index - 1]
        return min(offset, size), self._starts[index] if index < len(self._starts) else size

    def total(self) -> int:
        """Return how many bytes are there."""
        return sum(self._ends) - sum(self._starts)


class Part:
    """A file that is being fetched, with its journal.

    One thread writes; what cannot be noted is only fetched again by the next process.

    Args:
        path: of the file; its journal is beside it.
        fd: the file, open for reading and writing, and locked.
        size_bytes: of the whole.
        boot_id: names the run of this machine; empty where that is not known.

    Attributes:
        path: of the file.
        ranges: what is there.
    """

    def __init__(self, path: Path, fd: int, size_bytes: int, boot_id: str) -> None:
        self.path = path
        self._fd = fd
        self._boot_id = boot_id
        self._unsynced_bytes = 0
        self._journal = -1
        synced, self.ranges = _read(journal_of(path), size_bytes, boot_id)
        self._begin(synced)

    def note(self, start: int, end: int) -> None:
        """Keep that bytes were written; now and then have them put on the disk."""
        if self._journal < 0:
            return
        try:
            _append(self._journal, f"{start} {end}\n")
            self._unsynced_bytes += end - start
            if self._unsynced_bytes >= SYNC_BYTES:
                os.fdatasync(self._fd)
                _append(self._journal, f"{_SYNC}\n")
                self._unsynced_bytes = 0
        except OSError:
            # Behind half a line, another could be read as what it is not.
            self._close_journal()

    def forget(self) -> None:
        """Take everything for missing."""
        self.ranges = Ranges()
        self._begin(Ranges())

    def finish(self, path: Path) -> None:
        """Give the file, which is on the disk, its final name, and let the journal go.

        Raises:
            OSError: it has to keep its name.
        """
        os.replace(self.path, path)
        journal_of(self.path).unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of the files, and remove those in which there is nothing; the bytes' own was closed by its owner."""
        self._close_journal()
        if not self.ranges.total():
            remove(self.path)

    def _close_journal(self) -> None:
        if self._journal >= 0:
            os.close(self._journal)
        self._journal = -1

    def _begin(self, synced: Ranges) -> None:
        """Begin the journal anew with what is there, all at once."""
        self._close_journal()
        self._unsynced_bytes = 0
        journal = journal_of(self.path)
        new = journal.with_suffix(".new")
        lines = [f"{_HEAD} {self._boot_id}", *_lines(synced), _SYNC, *_lines(self.ranges)]
        try:
            self._journal = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
            _append(self._journal, "".join(f"{line}\n" for line in lines))
            os.replace(new, journal)
        except OSError:
            self._close_journal()


def journal_of(path: Path) -> Path:
    """Return where the journal of a part is."""
    return path.with_suffix(".ranges")


def remove(path: Path) -> None:
    """Remove a part with its journal."""
    for one in (path, journal_of(path)):
        with contextlib.suppress(OSError):
            one.unlink(missing_ok=True)


def _lines(ranges: Ranges) -> list[str]:
    return [f"{start} {end}" for start, end in ranges]


def _append(journal: int, text: str) -> None:
    """Write lines; OSError when the disk takes a part of them only."""
    if os.write(journal, text.encode("ascii")) < len(text):
        raise OSError("the disk is full")


def _read(journal: Path, size_bytes: int, boot_id: str) -> tuple[Ranges, Ranges]:
    """Return which bytes are surely on the disk, and which can be read in this run of the machine."""
    synced, there = Ranges(), Ranges()
    try:
        with journal.open("rb") as file:
            # The last piece is empty, or a line that was not finished.
            lines = file.read(MAX_JOURNAL_BYTES).decode("ascii", "replace").split("\n")[:-1]
    except OSError:
        return synced, there
    if not lines or not lines[0].startswith(f"{_HEAD} "):
        return synced, there
    same_run = bool(boot_id) and lines[0] == f"{_HEAD} {boot_id}"
    waiting: list[tuple[int, int]] = []
    for line in lines[1:]:
        if line == _SYNC:
            for start, end in waiting:
                synced.add(start, end)
            waiting.clear()
            continue
        numbers = line.split(" ")
        if len(numbers) != 2 or not all(number.isdecimal() and len(number) < 20 for number in numbers):
            break  # Whatever wrote this, what follows is not to be trusted.
        start, end = int(numbers[0]), int(numbers[1])
        if not start < end <= size_bytes:
            break
        waiting.append((start, end))
    for start, end in (*synced, *(waiting if same_run else ())):
        there.add(start, end)
    return synced, there
