"""A room of the host: its queue, its transport, what its speakers were told, and what sounded in it.

Owns how a room becomes what is kept of it, and is made of that again. What is done to rooms, and when they are said and
kept, is :mod:`musicsyncd.system.control`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from musicsyncd.media.history import History, Played
from musicsyncd.media.queue import Chance, Queue
from musicsyncd.playback.transport import Transport
from musicsyncd.protocol.host import RoomState
from musicsyncd.system.database import SavedRoom
from musicsyncd.units import ns_to_s


@dataclass(slots=True)
class Room:
    """A room of this host.

    Attributes:
        said: what its speakers were told.
        history: what sounded in it.
        noted_host_ns: until when that is complete.
    """

    name: str
    queue: Queue
    transport: Transport
    volume: int = 100
    muted: bool = False
    said: RoomState | None = None
    history: History = field(default_factory=History)
    noted_host_ns: int = 0

    def kept(self, snapshot: dict[str, object]) -> SavedRoom:
        """Return what is to be kept of it; the snapshot is its transport's."""
        queue = self.queue
        return SavedRoom(
            *(self.name, self.volume, self.muted, snapshot, queue.entries, queue.next_number),
            *(queue.plain, queue.repeat, queue.revision, self.transport.fade_ms),
        )

    def note_begun(self, now_host_ns: int, day_s: float) -> bool:
        """Note in the history what has begun to sound until now.

        Args:
            now_host_ns: this instant.
            day_s: the same by the clock of the day, seconds since 1970.

        Returns:
            Whether there is anything new.
        """
        begun = self.transport.begun(self.noted_host_ns, now_host_ns)
        self.noted_host_ns = now_host_ns
        for number, start_host_ns in begun:
            entry = self.queue.find(number)
            if entry is not None:
                began_s = day_s - ns_to_s(now_host_ns - start_host_ns)
                self.history.add(Played(began_s, entry.path, entry.title, entry.artist, entry.duration_s))
        return bool(begun)


def new_room(name: str, chance: Chance, now_host_ns: int) -> Room:
    """Return an empty room; ``chance`` shuffles its queue."""
    queue = Queue(chance=chance)
    return Room(name, queue, Transport(queue), noted_host_ns=now_host_ns)


def kept_room(saved: SavedRoom, played: Sequence[Played], chance: Chance, now_host_ns: int) -> Room:
    """Return a room as it was kept, with what sounded in it; its transport is still to be restored."""
    queue = Queue(
        saved.entries,
        saved.next_number,
        plain=saved.plain,
        repeat=saved.repeat,
        revision=saved.revision,
        chance=chance,
    )
    transport = Transport(queue)
    transport.fade_ms = saved.fade_ms
    return Room(
        *(saved.name, queue, transport, saved.volume, saved.muted),
        history=History(played),
        noted_host_ns=now_host_ns,
    )
