"""What people can do to a room's queue: every command of the command line and the API on it, carried out.

Owns what the commands mean and what is answered; the queue itself is :mod:`musicsyncd.media.queue`, and how a changed
room is said and kept is :mod:`musicsyncd.system.control`'s. A command that names positions may say by which revision
of the queue it was meant, and is refused if that is not the present one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, get_args

from musicsyncd.errors import ControlError
from musicsyncd.media.library import folded
from musicsyncd.media.queue import Entry, Queue, Repeat
from musicsyncd.playback.timeline import MAX_FADE_MS
from musicsyncd.system.status import history_status, queue_status
from musicsyncd.text import listed

if TYPE_CHECKING:
    from musicsyncd.system.control import Control

MAX_SAID = 5
"""Tracks that are named when words mean several of them."""

_MS_PER_S = 1000


class QueueControl:
    """The queues of a host's rooms.

    Args:
        control: finds, says and keeps rooms.
    """

    def __init__(self, control: Control) -> None:
        self._control = control

    def show(self, name: str) -> dict[str, Any]:
        """Return a room's queue for programs."""
        return queue_status(self._control.room(name), self._control.preparer.damage)

    def history(self, name: str) -> dict[str, Any]:
        """Return what sounded in a room of late for programs, the newest first."""
        return history_status(self._control.room(name))

    async def add(self, name: str, tracks: Sequence[str], *, next_: bool) -> str:
        """Add tracks to the end of the queue, or behind the current one."""
        room = self._control.room(name)
        if not tracks:
            raise ControlError("name at least one track or folder to add")
        found = await self._control.preparer.find(tracks)
        entries = room.queue.add(found.items, next_=next_)
        self._control.after_change(room)
        what = f"“{entries[0].title}”" if len(entries) == 1 else f"{len(entries)} tracks"
        return f"added {what}, the queue has {len(room.queue)}{found.said()}"

    def remove(self, name: str, positions: Sequence[int], revision: int | None = None) -> str:
        """Take entries out of the queue."""
        room = self._control.room(name)
        room.queue.check_revision(revision)
        removed = room.queue.remove(positions)
        self._control.after_change(room)
        what = f"“{removed[0].title}”" if len(removed) == 1 else f"{len(removed)} tracks"
        return f"removed {what}, the queue has {len(room.queue)}"

    def move(self, name: str, from_: int, to: int, revision: int | None = None) -> str:
        """Move an entry of the queue."""
        room = self._control.room(name)
        room.queue.check_revision(revision)
        entry = room.queue.move(from_, to)
        self._control.after_change(room)
        return f"“{entry.title}” is at position {to}"

    def clear(self, name: str, revision: int | None = None) -> str:
        """Empty the queue."""
        room = self._control.room(name)
        room.queue.check_revision(revision)
        count = len(room.queue)
        room.queue.clear()
        self._control.after_change(room)
        return f"removed {count} tracks, the queue is empty"

    async def jump(self, name: str, position: int | None, words: str, revision: int | None = None) -> str:
        """Play the entry at a position, or the one whose title and artist have these words.

        Raises:
            ControlError: there is no such entry, or the words mean several.
            MediaError: it cannot be played.
        """
        room = self._control.room(name)
        if (position is None) == (not words.strip()):
            raise ControlError("say a position or words of the title, and not both")
        if position is not None:
            room.queue.check_revision(revision)
            entry = room.queue.at_position(position)
        else:
            entry = _meant(room.queue, words)
        return await self._control.play_entry(room, entry)

    def undo(self, name: str, revision: int | None = None) -> str:
        """Take back the newest change of the queue."""
        room = self._control.room(name)
        room.queue.check_revision(revision)
        line = room.queue.undo()
        self._control.after_change(room)
        return f"took back: {line}; the queue has {len(room.queue)}"

    def shuffle(self, name: str, on: bool) -> str:
        """Mix what is to come, or bring back the order that was before."""
        room = self._control.room(name)
        changed = room.queue.shuffle(on)
        self._control.after_change(room)
        if on:
            return f"{room.name}: shuffled" if changed else f"{room.name}: it is shuffled already"
        return f"{room.name}: in the order in which the tracks were added" if changed else f"{room.name}: not shuffled"

    def repeat(self, name: str, repeat: str) -> str:
        """Say what follows by itself.

        Raises:
            ControlError: ``repeat`` is none of ``off``, ``one`` and ``all``.
        """
        room = self._control.room(name)
        found: Repeat | None = next((one for one in get_args(Repeat) if one == repeat), None)
        if found is None:
            raise ControlError(f"cannot repeat {repeat[:20]!r}: say off, one or all")
        room.queue.set_repeat(found)
        self._control.after_change(room)
        said = {"off": "nothing is repeated", "one": "the track is repeated", "all": "the queue is repeated"}
        return f"{room.name}: {said[found]}"

    def crossfade(self, name: str, seconds: float) -> str:
        """Let tracks rise over the end of the one before, for so many seconds; 0 is gapless.

        Raises:
            ControlError: it is too long, or no length at all.
        """
        room = self._control.room(name)
        most_s = MAX_FADE_MS / _MS_PER_S
        if not 0 <= seconds <= most_s:
            raise ControlError(f"cannot fade for {seconds:g} s: say 0 to {most_s:g} seconds")
        room.transport.fade_ms = round(seconds * _MS_PER_S)
        self._control.after_change(room)
        return f"{room.name}: tracks fade over {seconds:g} s" if seconds else f"{room.name}: gapless, without fading"


def _meant(queue: Queue, words: str) -> Entry:
    """Return the only entry with these words, or the only one that is called so.

    Raises:
        ControlError: there is none, or there are several.
    """
    wanted = folded(words)
    found = [
        (index + 1, entry)
        for index, entry in enumerate(queue.entries)
        if all(word in folded(f"{entry.title} {entry.artist}") for word in wanted.split())
    ]
    exact = [(position, entry) for position, entry in found if folded(entry.title) == wanted]
    if len(exact) == 1 or len(found) == 1:
        return (exact if len(exact) == 1 else found)[0][1]
    if not found:
        raise ControlError(f"no track of the queue has the words {words[:60]!r}")
    said = listed([f"{position} “{entry.title}”" for position, entry in found], MAX_SAID, ", ")
    raise ControlError(f"{len(found)} tracks have the words {words[:60]!r}: {said}; say which position")
