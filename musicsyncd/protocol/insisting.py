"""Saying something to peers until their reports have it.

Owns when it is said again to whom: at once, after 50, 150 and 350 ms, and then once for each report that does
not have it. Must not know what is said, nor how a report shows that it arrived.
"""

from __future__ import annotations

from dataclasses import dataclass

from musicsyncd.units import NS_PER_MS

AGAIN_AFTER_NS = (50 * NS_PER_MS, 100 * NS_PER_MS, 200 * NS_PER_MS)
"""Gaps between repeats that no report has asked for."""


@dataclass(slots=True)
class _Said:
    due_ns: int = 0
    sent_ns: int = 0
    repeats: int = 0


class Insisting:
    """To whom something is to be said, and when. As many peers are remembered as its owner does not forget."""

    def __init__(self) -> None:
        self._peers: dict[bytes, _Said] = {}
        self._open: set[bytes] = set()

    @property
    def next_ns(self) -> int | None:
        """When :meth:`due` has somebody; None for never."""
        return min((self._peers[peer_id].due_ns for peer_id in self._open), default=None)

    def begin(self, peer_id: bytes) -> None:
        """Say it, and repeat it until it is settled."""
        # A slider that is dragged changes what is to be said a hundred times a second; 20 of them are sent.
        said = self._peers.setdefault(peer_id, _Said())
        said.due_ns, said.repeats = said.sent_ns + AGAIN_AFTER_NS[0], 0
        self._open.add(peer_id)

    def remind(self, peer_id: bytes, now_ns: int) -> None:
        """Say it once more, since a report does not have it; nothing new while repeats are still to come."""
        if peer_id not in self._open:
            said = self._peers.setdefault(peer_id, _Said())
            said.due_ns = max(now_ns, said.sent_ns + AGAIN_AFTER_NS[0])
            said.repeats = len(AGAIN_AFTER_NS)
            self._open.add(peer_id)

    def settle(self, peer_id: bytes) -> None:
        """Say it no more: a report has it, or the peer is away."""
        self._open.discard(peer_id)

    def forget(self, peer_id: bytes) -> None:
        """Forget a peer; one that is not known is no fault."""
        self._open.discard(peer_id)
        self._peers.pop(peer_id, None)

    def clear(self) -> None:
        """Say nothing more to anybody."""
        self._open.clear()

    def due(self, now_ns: int) -> list[bytes]:
        """Return to whom it is to be said now, in the order of their ids, and note that it is."""
        due = sorted(peer_id for peer_id in self._open if now_ns >= self._peers[peer_id].due_ns)
        for peer_id in due:
            said = self._peers[peer_id]
            said.sent_ns = now_ns
            if said.repeats < len(AGAIN_AFTER_NS):
                said.due_ns = now_ns + AGAIN_AFTER_NS[said.repeats]
                said.repeats += 1
            else:
                self._open.discard(peer_id)
        return due
