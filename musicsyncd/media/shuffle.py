"""What a shuffled queue needs: chance from outside, and an order without shuffling that fits its entries.

Knows nothing of where the order is used; that is :mod:`musicsyncd.media.queue`.
"""

from __future__ import annotations

from collections.abc import Iterable, MutableSequence, Sequence
from typing import Any, Protocol

from musicsyncd.media.entry import Entry


class Chance(Protocol):
    """What mixes: ``random.Random`` is one."""

    def shuffle(self, x: MutableSequence[Any], /) -> None:
        """Bring a list into any order."""

    def randint(self, a: int, b: int, /) -> int:
        """Return any whole number from ``a`` to ``b``, both included."""
        ...


def completed(plain: Iterable[int], entries: Sequence[Entry]) -> tuple[int, ...]:
    """Return an order that was kept, of these entries and all of them, whatever became of the file it was kept in."""
    numbers = {entry.number: None for entry in entries}
    return tuple({number: None for number in plain if number in numbers} | numbers)
