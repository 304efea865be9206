"""The queue of a room: which tracks play, in which order, and which of them is the current one.

Owns the order, the numbers of the entries, and what is known of each (prepared or
not, playable or not). Must not know when anything sounds
(:mod:`musicsyncd.playback.transport`), files or the network: paths are only text here.

People count positions from 1 and every method that takes what a person typed does so
too; :attr:`Queue.current` is an index into :attr:`Queue.entries` and counts from 0.
An entry's number is its identity: it is given once in the life of a room and never
again, so what refers to a removed entry cannot meet another one in its place.

The current entry follows its track: it stays current when others come, go or move.
When it is removed, what followed it becomes current; when nothing followed, nothing is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice

from musicsyncd.errors import ControlError
from musicsyncd.playback.timeline import Track

MAX_QUEUE = 10_000
"""Entries of one queue: a month of music, and still less than a millisecond for each operation."""

MAX_TEXT_CHARS = 300
"""Characters of a title or an artist that are kept: tags can hold whole books."""


@dataclass(frozen=True, slots=True)
class Item:
    """What is added to a queue.

    Attributes:
        path: where the host finds it.
        title: for people.
        artist: for people, or empty.
        duration_s: as its header says; 0 for unknown.
        track: what its bytes decode to, where they have been hashed already.
    """

    path: str
    title: str
    artist: str = ""
    duration_s: float = 0.0
    track: Track | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """One place in a queue. The same file may stand in several.

    Attributes:
        number: its identity within its room, from 1.
        path: where the host finds it.
        title: for people.
        artist: for people, or empty.
        duration_s: how long it plays; 0 for unknown.
        track: what its bytes decode to; None until they have been hashed.
        fault: why it cannot be played, or empty.
    """

    number: int
    path: str
    title: str
    artist: str = ""
    duration_s: float = 0.0
    track: Track | None = None
    fault: str = ""


class Queue:
    """The entries of a room in order.

    Attributes:
        revision: rises with each change of the entries or of which one is current.
    """

    def __init__(self, entries: Iterable[Entry] = (), next_number: int = 1) -> None:
        """Begin empty, or with what was saved; ``next_number`` is at least one above every entry's."""
        self._entries = tuple(entries)[:MAX_QUEUE]
        self._current: int | None = None
        self._index: dict[int, int] | None = None
        self._next_number = max([next_number, *(entry.number + 1 for entry in self._entries)])
        self.revision = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All entries in order: another tuple after every change of one, the same one until then."""
        return self._entries

    @property
    def current(self) -> int | None:
        """The index of the current entry, or None."""
        return self._current

    @property
    def current_entry(self) -> Entry | None:
        """The current entry, or None."""
        return None if self._current is None else self._entries[self._current]

    @property
    def next_number(self) -> int:
        """The number that the next entry gets: kept with the entries, so that none is given twice."""
        return self._next_number

    def index_of(self, number: int) -> int | None:
        """Return where the entry with a number stands, or None when it is not here."""
        if self._index is None:
            self._index = {entry.number: index for index, entry in enumerate(self._entries)}
        return self._index.get(number)

    def find(self, number: int) -> Entry | None:
        """Return the entry with a number, or None when it is not here."""
        index = self.index_of(number)
        return None if index is None else self._entries[index]

    def at_position(self, position: int) -> Entry:
        """Return the entry at a position counted from 1.

        Raises:
            ControlError: there is none.
        """
        return self._entries[self._checked(position)]

    def set_current(self, number: int | None) -> None:
        """Make the entry with a number the current one; with None, or when it is not here, none is."""
        index = None if number is None else self.index_of(number)
        if index != self._current:
            self._current = index
            self.revision += 1

    def add(self, items: Iterable[Item], next_: bool = False, at: int | None = None) -> tuple[Entry, ...]:
        """Add tracks at the end, right after the current one, or so that the first gets a position.

        Args:
            items: what is added, in this order.
            next_: behind the current entry; at the front when there is none.
            at: the position of the first of them, 1 … length + 1.

        Returns:
            The new entries.

        Raises:
            ControlError: there is no such position, or not enough room; nothing has been added then.
        """
        items = list(items)
        if next_ and at is not None:
            raise ControlError("tracks go either next or to a position, not both")
        if len(self._entries) + len(items) > MAX_QUEUE:
            raise ControlError(
                f"a queue holds {MAX_QUEUE} tracks: this one has {len(self._entries)}, "
                f"{len(items)} more do not fit; remove some first"
            )
        if at is not None:
            index = len(self._entries) if at == len(self._entries) + 1 else self._checked(at)
        elif next_:
            index = 0 if self._current is None else self._current + 1
        else:
            index = len(self._entries)
        new = tuple(self._made(item) for item in items)
        if new:
            current = self._current
            if current is not None and index <= current:
                current += len(new)
            self._replace((*self._entries[:index], *new, *self._entries[index:]), current)
        return new

    def remove(self, positions: Iterable[int]) -> tuple[Entry, ...]:
        """Take out the entries at positions counted from 1, and return them.

        Raises:
            ControlError: there is no such position; nothing has been removed then.
        """
        gone = {self._checked(position) for position in positions}
        if not gone:
            return ()
        kept = [index for index in range(len(self._entries)) if index not in gone]
        current = self._current
        if current is not None:
            before = sum(1 for index in kept if index < current)
            current = before if before < len(kept) else None
        removed = tuple(self._entries[index] for index in sorted(gone))
        self._replace(tuple(self._entries[index] for index in kept), current)
        return removed

    def move(self, from_: int, to: int) -> Entry:
        """Take the entry at one position out and put it in so that it stands at another; both from 1.

        Raises:
            ControlError: there is no such position.
        """
        source, target = self._checked(from_), self._checked(to)
        entries = list(self._entries)
        entry = entries.pop(source)
        entries.insert(target, entry)
        current = self._current
        if current is not None and source != target:
            if current == source:
                current = target
            else:
                current -= source < current
                current += target <= current
        if source != target:
            self._replace(tuple(entries), current)
        return entry

    def clear(self) -> None:
        """Take out everything."""
        if self._entries:
            self._replace((), None)

    def set_prepared(self, number: int, track: Track) -> bool:
        """Say what an entry's bytes decode to; it can be played from now on.

        Returns:
            Whether the entry is still here.
        """
        entry = self.find(number)
        if entry is None:
            return False
        self._put(replace(entry, track=track, fault="", duration_s=track.frames / track.rate_hz))
        return True

    def set_fault(self, number: int, line: str) -> bool:
        """Say in one line why an entry cannot be played; an empty line takes that back.

        Returns:
            Whether the entry is still here.
        """
        entry = self.find(number)
        if entry is None:
            return False
        self._put(replace(entry, fault=line))
        return True

    def playable_after(self, index: int) -> Iterator[Entry]:
        """Yield the entries without a fault that stand behind an index; −1 for all."""
        for following in range(index + 1, len(self._entries)):
            if not self._entries[following].fault:
                yield self._entries[following]

    def playable_before(self, index: int) -> Entry | None:
        """Return the nearest entry without a fault in front of an index, or None."""
        for previous in range(index - 1, -1, -1):
            if not self._entries[previous].fault:
                return self._entries[previous]
        return None

    def following(self, n: int) -> tuple[Entry, ...]:
        """Return up to ``n`` entries that play after the current one; from the first on when none is."""
        index = -1 if self._current is None else self._current
        return tuple(islice(self.playable_after(index), n))

    def _made(self, item: Item) -> Entry:
        number = self._next_number
        self._next_number += 1
        title, artist = item.title[:MAX_TEXT_CHARS], item.artist[:MAX_TEXT_CHARS]
        return Entry(number, item.path, title, artist, item.duration_s, item.track)

    def _checked(self, position: int) -> int:
        """Return the index of a position that a person gave."""
        count = len(self._entries)
        if 1 <= position <= count:
            return position - 1
        if not count:
            raise ControlError(f"there is no position {position}: the queue is empty")
        raise ControlError(f"there is no position {position}: the queue has {count} track{'s' if count > 1 else ''}")

    def _put(self, entry: Entry) -> None:
        index = self.index_of(entry.number)
        assert index is not None
        if self._entries[index] != entry:
            self._entries = (*self._entries[:index], entry, *self._entries[index + 1 :])
            self.revision += 1

    def _replace(self, entries: tuple[Entry, ...], current: int | None) -> None:
        self._entries = entries
        self._current = current
        self._index = None
        self.revision += 1
