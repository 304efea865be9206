"""What was done to a queue of late: told to whoever acts on an older view of it, and taken back on demand.

Owns the revision, the lines for people, and how far back both go. Must not know what a queue is: what is kept to go
back to is whatever the caller gives. Only the revision outlives the process; what could be undone does not.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

from musicsyncd.errors import ControlError, StaleError
from musicsyncd.text import listed

MAX_UNDO = 10
"""Changes that can be taken back."""

MAX_TOLD = 50
"""Changes that are told to whoever missed them: whoever missed more looks at the whole queue anyway."""

MAX_SAID = 5

_T = TypeVar("_T")


class Changes(Generic[_T]):
    """The changes of one queue.

    Attributes:
        revision: rises by one with each change.
    """

    def __init__(self, revision: int = 0) -> None:
        self.revision = revision
        self._told: deque[str] = deque(maxlen=MAX_TOLD)
        self._before: deque[tuple[str, _T]] = deque(maxlen=MAX_UNDO)

    def note(self, line: str, before: _T) -> None:
        """Keep a change: what was done, and what there was before."""
        self._tell(line)
        self._before.append((line, before))

    def take_back(self) -> tuple[str, _T]:
        """Return the newest change that was not taken back yet and what there was before it; that counts as a change.

        Raises:
            ControlError: there is none.
        """
        if not self._before:
            raise ControlError(f"there is nothing to undo: the last {MAX_UNDO} changes since the host's start can be")
        line, before = self._before.pop()
        self._tell(f"took back: {line}")
        return line, before

    def check(self, revision: int | None) -> None:
        """Refuse to act on a view that is not the present one.

        Args:
            revision: of the view; None acts on whatever there is.

        Raises:
            StaleError: it is another, with what has changed since.
        """
        if revision is None or revision == self.revision:
            return
        missed = self.revision - revision
        if 0 < missed <= len(self._told):
            said = listed(list(self._told)[-missed:], MAX_SAID)
        else:
            said = "more than is remembered"
        raise StaleError(
            f"the queue is not what it was at revision {revision}: {said}; it is at revision {self.revision} now, "
            "look at it again",
            self.revision,
        )

    def _tell(self, line: str) -> None:
        self.revision += 1
        self._told.append(line)
