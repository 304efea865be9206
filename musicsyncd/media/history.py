"""What sounded in a room of late, and when.

Owns how far back that goes and what counts as having sounded. Must not know queues or transports: it is told.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

MAX_PLAYED = 100

LEAST_HEARD_S = 1.0
"""A track that gave way to another within this was skipped, not heard."""


@dataclass(frozen=True, slots=True)
class Played:
    """A track that sounded.

    Attributes:
        began_s: when it began, in seconds since 1970 by the host's clock of the day.
        path: where the host had it.
        title: for people.
        artist: for people, or empty.
        duration_s: how long all of it plays; 0 for unknown.
    """

    began_s: float
    path: str
    title: str
    artist: str = ""
    duration_s: float = 0.0


class History:
    """The last tracks of a room, the newest last."""

    def __init__(self, played: Iterable[Played] = ()) -> None:
        self._played: deque[Played] = deque(played, MAX_PLAYED)

    @property
    def played(self) -> tuple[Played, ...]:
        """All of them; the newest last."""
        return tuple(self._played)

    def add(self, played: Played) -> None:
        """Note that a track has begun; what began only just before it was skipped and is forgotten."""
        if self._played:
            last = self._played[-1]
            # The clock of the day may have been put back: then nothing is known of how long the last one sounded.
            least_s = min(LEAST_HEARD_S, last.duration_s or LEAST_HEARD_S)
            if 0 <= played.began_s - last.began_s < least_s:
                self._played.pop()
        self._played.append(played)
