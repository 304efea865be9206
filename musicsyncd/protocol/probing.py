"""When a peer asks for the time, and which answers it believes.

Owns the schedule of the probes, the ones under way, when they left, and the share that is lost. Must
not know what the answers say of the clock. When an answer is complete: :mod:`musicsyncd.protocol.interleaving`.

The schedule is the one that the clock estimator was tuned with: 40 probes at 25 ms, so that
it is usable in a fraction of a second; ten a second until 5 s; then six or seven a second ±15 %, so that the
peers of a room do not fall into step with each other or with a Wi-Fi's beacons. Compared with four a second
that takes a third off the estimate's wander; ten would take little more, and a peer is to cost less than 2 kB a second
both ways. A host with very many peers asks for fewer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from musicsyncd.protocol.interleaving import Answered, Interleaver
from musicsyncd.protocol.wire import Probe, ProbeReply
from musicsyncd.units import NS_PER_MS, NS_PER_S

BURST_PROBES = 40
BURST_INTERVAL_NS = 25 * NS_PER_MS
SETTLING_DURATION_NS = 5 * NS_PER_S
SETTLING_INTERVAL_NS = 100 * NS_PER_MS
STEADY_INTERVAL_NS = 150 * NS_PER_MS
STEADY_SPREAD = 0.15
SEARCH_INTERVAL_NS = NS_PER_S
"""To the last address of a host that has fallen silent."""

MAX_UNDER_WAY = 64
"""Probes that may still be answered: 1.6 s of the burst."""

MAX_REMEMBERED = 640
"""Probes counted for the loss: a minute has about 460, with one burst in it."""

LOSS_WINDOW_NS = 60 * NS_PER_S
ANSWER_WITHIN_NS = NS_PER_S
"""A probe that has no answer for this long counts as lost."""


@dataclass(slots=True)
class _Asked:
    """A probe under way: the t1 that it carries, and the best that is known of its leaving."""

    said_ns: int
    left_ns: int


class Prober:
    """Makes the probes to one host.

    Args:
        random: gives numbers from 0 to 1, for the spread.

    Attributes:
        due_ns: when the next probe is due.
        searching: the host is silent; ask rarely.
    """

    def __init__(self, random: Callable[[], float]) -> None:
        self.due_ns = 0
        self.searching = False
        self._random = random
        self._least_interval_ns = 0
        self._number = 0
        self._started_ns = 0
        self._first_number = 0
        self._sent: deque[tuple[int, int]] = deque(maxlen=MAX_REMEMBERED)
        self._unanswered: dict[int, _Asked] = {}
        self._interleaver = Interleaver()

    def restart(self, now_ns: int) -> None:
        """Begin with the burst again, expecting no answer to what was asked before."""
        self._started_ns = self.due_ns = now_ns
        self._least_interval_ns = 0
        self._first_number = self._number
        self.searching = False
        self._sent.clear()
        self._unanswered.clear()
        self._interleaver.clear()

    def probe(self, now_ns: int) -> Probe:
        """Return the next probe, to be sent at ``now_ns``."""
        self._number += 1
        if len(self._sent) == MAX_REMEMBERED:
            self._unanswered.pop(self._sent[0][0], None)
        self._sent.append((self._number, now_ns))
        self._unanswered[self._number] = _Asked(now_ns, now_ns)
        self.due_ns = now_ns + self._interval_ns(now_ns)
        return Probe(self._number, now_ns)

    def left(self, number: int, sent_ns: int) -> None:
        """Note when a probe really left; before the t1 that it carries it cannot have."""
        asked = self._unanswered.get(number)
        if asked is None:
            self._interleaver.left(number, sent_ns)
        else:
            asked.left_ns = max(asked.said_ns, sent_ns)

    def answered(self, reply: ProbeReply, now_ns: int) -> list[Answered] | None:
        """Take a reply that arrived at ``now_ns`` and return the probes that are complete now.

        Returns:
            None when this answers no probe that is under way with its own t1, or does so once more.
        """
        if reply.number <= self._number - MAX_UNDER_WAY:
            return None
        asked = self._unanswered.get(reply.number)
        if asked is None or asked.said_ns != reply.sent_local_ns:
            return None
        del self._unanswered[reply.number]
        self._least_interval_ns = reply.least_interval_ms * NS_PER_MS
        new = Answered(reply.number, asked.left_ns, reply.received_host_ns, reply.sent_host_ns, now_ns)
        return self._interleaver.take(new, reply.previous_number, reply.previous_sent_host_ns)

    @property
    def overdue_ns(self) -> int | None:
        """When :meth:`overdue` has something, or None."""
        return self._interleaver.due_ns

    def overdue(self, now_ns: int) -> list[Answered]:
        """Return what has waited in vain to be completed, once."""
        return self._interleaver.overdue(now_ns)

    def loss(self, now_ns: int) -> float:
        """Return the share of the last minute's probes that had no answer within a second, 0…1."""
        while self._sent and now_ns - self._sent[0][1] > LOSS_WINDOW_NS:
            self._unanswered.pop(self._sent.popleft()[0], None)
        old = [number for number, sent_ns in self._sent if now_ns - sent_ns > ANSWER_WITHIN_NS]
        return sum(number in self._unanswered for number in old) / len(old) if old else 0.0

    def _interval_ns(self, now_ns: int) -> int:
        if self.searching:
            return SEARCH_INTERVAL_NS
        if self._number - self._first_number < BURST_PROBES:
            return BURST_INTERVAL_NS
        if now_ns - self._started_ns < SETTLING_DURATION_NS:
            return max(SETTLING_INTERVAL_NS, self._least_interval_ns)
        interval_ns = max(STEADY_INTERVAL_NS, self._least_interval_ns)
        return round(interval_ns * (1 + STEADY_SPREAD * (2 * self._random() - 1)))
