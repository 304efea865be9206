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

*Shuffled*, what is to come is mixed once and stays in that order, which is the order of :attr:`Queue.entries`; the
order in which it was before is remembered, and comes back with the end of shuffling.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import Any, Literal, get_args

from musicsyncd.errors import ControlError
from musicsyncd.media.changes import Changes
from musicsyncd.media.entry import MAX_TEXT_CHARS, Entry, Item
from musicsyncd.media.shuffle import Chance, completed
from musicsyncd.playback.timeline import Track

__all__ = ["LEAST_ROUND_S", "MAX_QUEUE", "Chance", "Entry", "Item", "Queue", "Repeat"]

MAX_QUEUE = 10_000
"""Entries of one queue: a month of music, and still less than a millisecond for each operation."""

LEAST_ROUND_S = 1.0
"""What is shorter in all is not repeated: it would be a tone, and a new track for the host every few microseconds."""

Repeat = Literal["off", "one", "all"]


@dataclass(frozen=True, slots=True)
class _Arrangement:
    """A queue as it was before a change.

    Attributes:
        entries: in order.
        plain: their numbers in the order without shuffling.
        current_number: of what was current, if the change took that away.
    """

    entries: tuple[Entry, ...]
    plain: tuple[int, ...] | None
    current_number: int | None


class Queue:
    """The entries of a room in order.

    Args:
        entries: in order, at first.
        next_number: at least one above every entry's.
        plain: the entries' numbers in the order without shuffling; None when it is not shuffled.
        repeat: what follows by itself; see :meth:`set_repeat`.
        revision: of the entries, as it was kept.
        chance: mixes what is to come; a queue without it cannot be shuffled.
    """

    def __init__(
        self,
        entries: Iterable[Entry] = (),
        next_number: int = 1,
        *,
        plain: Iterable[int] | None = None,
        repeat: Repeat = "off",
        revision: int = 0,
        chance: Chance | None = None,
    ) -> None:
        self._entries = tuple(entries)[:MAX_QUEUE]
        self._current: int | None = None
        self._index: dict[int, int] | None = None
        self._by_content: dict[bytes, Entry] | None = None
        self._fault: str | None = None
        self._next_number = max([next_number, *(entry.number + 1 for entry in self._entries)])
        self._plain = None if plain is None else completed(plain, self._entries)
        self._repeat: Repeat = repeat
        self._chance = chance
        self._changes: Changes[_Arrangement] = Changes(revision)

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
    def fault(self) -> str:
        """Why the first of the entries that cannot be played cannot; empty when all can."""
        if self._fault is None:  # The status asks every second; ten thousand entries are not looked through each time.
            self._fault = next((entry.fault for entry in self._entries if entry.fault), "")
        return self._fault

    @property
    def next_number(self) -> int:
        """The number that the next entry gets: kept with the entries, so that none is given twice."""
        return self._next_number

    @property
    def revision(self) -> int:
        """Rises with each change of which entries there are and of their order: of what a position means."""
        return self._changes.revision

    @property
    def plain(self) -> tuple[int, ...] | None:
        """The entries' numbers in the order without shuffling; None when it is not shuffled."""
        return self._plain

    @property
    def shuffled(self) -> bool:
        """Whether the order is a mixed one."""
        return self._plain is not None

    @property
    def repeat(self) -> Repeat:
        """What follows by itself."""
        return self._repeat

    def check_revision(self, revision: int | None) -> None:
        """Refuse positions of another revision than the present one; None is always accepted.

        Raises:
            StaleError: with what has changed since.
        """
        self._changes.check(revision)

    def index_of(self, number: int) -> int | None:
        """Return where the entry with a number stands, or None when it is not here."""
        if self._index is None:
            self._index = {entry.number: index for index, entry in enumerate(self._entries)}
        return self._index.get(number)

    def find(self, number: int) -> Entry | None:
        """Return the entry with a number, or None when it is not here."""
        index = self.index_of(number)
        return None if index is None else self._entries[index]

    def find_content(self, content_id: bytes) -> Entry | None:
        """Return an entry whose track has this content id, or None when there is none."""
        if self._by_content is None:
            self._by_content = {entry.track.content_id: entry for entry in self._entries if entry.track is not None}
        return self._by_content.get(content_id)

    def at_position(self, position: int) -> Entry:
        """Return the entry at a position counted from 1.

        Raises:
            ControlError: there is none.
        """
        return self._entries[self._checked(position)]

    def set_current(self, number: int | None) -> None:
        """Make the entry with a number the current one; with None, or when it is not here, none is."""
        index = None if number is None else self.index_of(number)
        self._current = index

    def add(self, items: Iterable[Item], next_: bool = False, at: int | None = None) -> tuple[Entry, ...]:
        """Add tracks at the end, right after the current one, or so that the first gets a position.

        What is added at the end of a shuffled queue is mixed into what is to come.

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
            entries = (*self._entries[:index], *new, *self._entries[index:])
            plain = self._plain
            if plain is not None:
                numbers = tuple(entry.number for entry in new)
                behind = len(plain) if at is None and not next_ else self._behind(plain, index)
                plain = (*plain[:behind], *numbers, *plain[behind:])
                if at is None and not next_:
                    entries = self._mixed_in(new)
            self._change(f"added {_named(new)}", entries, current, plain)
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
            first = 0 if kept and self._repeat != "off" else None
            current = before if before < len(kept) else first
        removed = tuple(self._entries[index] for index in sorted(gone))
        numbers = {entry.number for entry in removed}
        plain = None if self._plain is None else tuple(one for one in self._plain if one not in numbers)
        self._change(f"removed {_named(removed)}", tuple(self._entries[index] for index in kept), current, plain)
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
            self._change(f"moved {_named([entry])} to position {to}", tuple(entries), current, self._plain)
        return entry

    def clear(self) -> None:
        """Take out everything; it stays shuffled if it is."""
        if self._entries:
            count = len(self._entries)
            self._change(f"cleared {count} track{'s' if count > 1 else ''}", (), None, self._plain and ())

    def shuffle(self, on: bool) -> bool:
        """Mix what is to come, or bring back the order that was before.

        What is to come is all behind the current entry; where the queue repeats, it is all but the current entry.

        Returns:
            Whether that is a change: what is shuffled is not mixed again.
        """
        if on == self.shuffled:
            return False
        entry = self.current_entry
        if on:
            plain: tuple[int, ...] | None = tuple(one.number for one in self._entries)
            ahead = 0 if self._current is None else self._current + 1
            before = list(self._entries[:ahead])
            to_come = list(self._entries[ahead:])
            if entry is not None and self._repeat != "off":
                before, to_come = [entry], [one for one in self._entries if one is not entry]
            assert self._chance is not None, "this queue was made without chance"
            self._chance.shuffle(to_come)
            entries = (*before, *to_come)
        else:
            places = {number: place for place, number in enumerate(self._plain or ())}
            plain = None
            entries = tuple(sorted(self._entries, key=lambda one: places.get(one.number, len(places))))
        current = None if entry is None else entries.index(entry)
        self._change("shuffled" if on else "put back in order", entries, current, plain)
        return True

    def set_repeat(self, repeat: Repeat) -> None:
        """Say what follows by itself: ``off`` nothing behind the last entry, ``all`` the first, ``one`` each itself."""
        assert repeat in get_args(Repeat)
        self._repeat = repeat

    def undo(self) -> str:
        """Take back the newest change of which entries there are and of their order, and return what it was.

        The current entry stays current; when it goes, what followed it and stays becomes current.

        Raises:
            ControlError: there is none that could be taken back.
        """
        line, before = self._changes.take_back()
        known = {entry.number: entry for entry in self._entries}
        entries = tuple(known.get(entry.number, entry) for entry in before.entries)
        indices = {entry.number: index for index, entry in enumerate(entries)}
        here: Iterable[int | None] = (before.current_number,)
        if self._current is not None:
            round_ = self._entries[: self._current] if self._repeat != "off" else ()
            here = (entry.number for entry in (*self._entries[self._current :], *round_))
        current = next((indices[number] for number in here if number in indices), None)
        self._put_in_place(entries, current, before.plain)
        return line

    def set_prepared(self, number: int, track: Track) -> bool:
        """Say what an entry's bytes decode to; it can be played from now on.

        Returns:
            Whether the entry is still here.
        """
        return self._put(number, track=track, fault="", duration_s=track.frames / track.rate_hz)

    def set_fault(self, number: int, line: str) -> bool:
        """Say in one line why an entry cannot be played; an empty line takes that back.

        Returns:
            Whether the entry is still here.
        """
        return self._put(number, fault=line)

    def after(self, index: int) -> Entry | None:
        """Return what follows by itself when the entry at an index has ended, or None at the end of all."""
        if self._repeat == "one" and not self._entries[index].fault and _is_long([self._entries[index]]):
            return self._entries[index]
        found = next(self.playable_after(index), None)
        if found is None and self._repeat == "all" and _is_long(self.playable_after(-1)):
            found = next(self.playable_after(-1), None)
        return found

    def playable_from(self, index: int) -> Entry | None:
        """Return the first entry without a fault at an index or behind it; where the queue repeats, all are behind."""
        found = next(self.playable_after(index - 1), None)
        return next(self.playable_after(-1), None) if found is None and self._repeat != "off" else found

    def playable_after(self, index: int) -> Iterator[Entry]:
        """Yield the entries without a fault that stand behind an index; −1 for all."""
        for following in range(index + 1, len(self._entries)):
            if not self._entries[following].fault:
                yield self._entries[following]

    def playable_before(self, index: int) -> Entry | None:
        """Return the nearest entry without a fault in front of an index; where the queue repeats, all are in front."""
        last = range(len(self._entries) - 1, index, -1) if self._repeat != "off" else ()
        places = chain(range(index - 1, -1, -1), last)
        return next((self._entries[place] for place in places if not self._entries[place].fault), None)

    def following(self, n: int) -> tuple[Entry, ...]:
        """Return up to ``n`` entries that play after the current one, each once; from the first on when none is.

        Of a queue that repeats one entry, these are what a person would go to next.
        """
        index = -1 if self._current is None else self._current
        found = self.playable_after(index)
        if self._repeat != "off" and index >= 0:
            found = chain(found, (one for one in islice(self._entries, index) if not one.fault))
        return tuple(islice(found, n))

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

    def _behind(self, plain: tuple[int, ...], index: int) -> int:
        """Return where in the order without shuffling what is put at an index belongs: behind the same entry."""
        return 0 if index == 0 else plain.index(self._entries[index - 1].number) + 1

    def _mixed_in(self, new: Iterable[Entry]) -> tuple[Entry, ...]:
        """Return the entries with new ones at any places in what is to come."""
        assert self._chance is not None, "this queue was made without chance"
        entries = list(self._entries)
        first = 0 if self._current is None else self._current + 1
        for entry in new:
            entries.insert(self._chance.randint(first, len(entries)), entry)
        return tuple(entries)

    def _put(self, number: int, **changes: Any) -> bool:  # noqa: ANN401 - as `replace` takes them
        """Put other values into an entry, and return whether it is here."""
        index = self.index_of(number)
        if index is None:
            return False
        entry = replace(self._entries[index], **changes)
        if self._entries[index] != entry:
            self._entries = (*self._entries[:index], entry, *self._entries[index + 1 :])
            self._by_content = self._fault = None
        return True

    def _change(
        self, line: str, entries: tuple[Entry, ...], current: int | None, plain: tuple[int, ...] | None
    ) -> None:
        """Carry out a change that can be taken back."""
        was = self.current_entry
        lost = was.number if was is not None and current is None else None
        self._changes.note(line, _Arrangement(self._entries, self._plain, lost))
        self._put_in_place(entries, current, plain)

    def _put_in_place(self, entries: tuple[Entry, ...], current: int | None, plain: tuple[int, ...] | None) -> None:
        self._entries = entries
        self._current = current
        self._plain = plain
        self._index = self._by_content = self._fault = None


def _named(entries: Sequence[Entry]) -> str:
    """Return entries in words."""
    return f"“{entries[0].title}”" if len(entries) == 1 else f"{len(entries)} tracks"


def _is_long(entries: Iterable[Entry]) -> bool:
    """Return whether entries may be repeated; what is not known yet may."""
    left_s = LEAST_ROUND_S
    for entry in entries:
        track = entry.track
        length_s = track.frames / track.rate_hz if track is not None else entry.duration_s
        left_s -= length_s or LEAST_ROUND_S
        if left_s <= 0:
            return True
    return False
