"""What stands in a queue: a file of the host's, what people are told of it, and what is known of its bytes.

Knows nothing of order; that is :mod:`musicsyncd.media.queue`.
"""

from __future__ import annotations

from dataclasses import dataclass

from musicsyncd.playback.timeline import Track

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
