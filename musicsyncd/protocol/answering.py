"""A host's answers to probes and hellos, and when they really left.

Owns the questions that wait for an answer and, for each asker, the last reply to it. Must not know
peers, rooms or how send stamps are taken. Why a reply tells of the one before it:
:mod:`musicsyncd.protocol.interleaving`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from musicsyncd.protocol import wire
from musicsyncd.protocol.auth import Opened
from musicsyncd.protocol.door import Door
from musicsyncd.protocol.node import Address, Outgoing

MAX_PENDING_REPLIES = 1024
MAX_ASKERS = 1024
"""Whose last reply is remembered; as many as a host has peers. The one that asked longest ago goes first."""

MAX_PROBES_PER_S = 1024
"""Of all peers together after their first second: a tenth of a core of a desktop machine, and more of a Pi."""


@dataclass(frozen=True, slots=True)
class _Question:
    message: wire.Probe | wire.Hello
    sender: bytes
    epoch: int
    key_id: bytes
    length: int
    address: Address
    received_ns: int


@dataclass(slots=True)
class _Reply:
    """``left_ns`` is 0 until it is known."""

    epoch: int
    number: int
    ticket: int
    sent_ns: int
    left_ns: int = 0


class Answers:
    """Answers, each with what is known of the one before it.

    Args:
        door: seals them.
        http_port: for hellos.
        host_name: for hellos.
        tickets: numbers that no other datagram of the node has.
        fellows_heard: says what to tell a sender of what others heard, at a host's time.

    Attributes:
        peers: how many ask, so that all of them together ask no more than :data:`MAX_PROBES_PER_S`.
    """

    def __init__(
        self,
        door: Door[wire.FromPeer],
        http_port: int,
        host_name: str,
        tickets: Iterator[int],
        fellows_heard: Callable[[bytes, int], wire.Heard | None],
    ) -> None:
        self.peers = 0
        self._door = door
        self._http_port = http_port
        self._host_name = host_name
        self._asked: deque[_Question] = deque()
        self._last: dict[bytes, _Reply] = {}
        self._by_ticket: dict[int, _Reply] = {}
        self._tickets = tickets
        self._fellows_heard = fellows_heard

    def ask(self, message: wire.Probe | wire.Hello, opened: Opened, address: Address, received_ns: int) -> bool:
        """Have a question answered with the next datagrams; return False when too many are."""
        if len(self._asked) >= MAX_PENDING_REPLIES:
            return False
        self._asked.append(
            _Question(message, opened.sender, opened.epoch, opened.key_id, opened.length, address, received_ns)
        )
        return True

    def clear(self) -> None:
        """Answer nothing of what was asked."""
        self._asked.clear()

    def to_send(self, now_ns: int) -> list[Outgoing]:
        """Return the answers to all that was asked; their t3 is ``now_ns``."""
        outgoing = []
        for question in self._asked:
            answer = self._answer(question, now_ns)
            if len(answer.data) <= question.length:
                outgoing.append(answer)
            else:
                # Whoever gives a wrong address would flood another with more than he has to send himself.
                self._door.dropped["short question"] += 1
        self._asked.clear()
        return outgoing

    def sent(self, ticket: int, sent_ns: int) -> None:
        """Note when a reply really left; what is forgotten, or before its own t3, is nothing."""
        reply = self._by_ticket.pop(ticket, None)
        if reply is not None and sent_ns >= reply.sent_ns:
            reply.left_ns = sent_ns

    def _answer(self, question: _Question, now_ns: int) -> Outgoing:
        asked = question.message
        if isinstance(asked, wire.Hello):
            here = wire.Here(asked.nonce, self._http_port, self._host_name)
            return self._door.seal(here, question.address, key=question.key_id)
        # A kernel's receive stamp is mapped between two clocks and may come out a little late.
        sent_ns = max(now_ns, question.received_ns)
        before = self._forget(question.sender)
        known = before is not None and before.epoch == question.epoch and before.left_ns > 0
        message = wire.ProbeReply(
            number=asked.number,
            sent_local_ns=asked.sent_local_ns,
            received_host_ns=question.received_ns,
            sent_host_ns=sent_ns,
            previous_number=before.number if before is not None and known else 0,
            previous_sent_host_ns=before.left_ns if before is not None and known else 0,
            fellows_heard=self._fellows_heard(question.sender, now_ns),
            least_interval_ms=min(self.peers * 1000 // MAX_PROBES_PER_S, wire.MAX_PROBE_INTERVAL_MS),
        )
        reply = self._remember(question, asked.number, sent_ns)
        return self._door.seal(message, question.address, reply.ticket, key=question.key_id)

    def _remember(self, question: _Question, number: int, sent_ns: int) -> _Reply:
        if len(self._last) >= MAX_ASKERS:
            self._forget(next(iter(self._last)))
        reply = _Reply(question.epoch, number, next(self._tickets), sent_ns)
        self._last[question.sender] = self._by_ticket[reply.ticket] = reply
        return reply

    def _forget(self, sender: bytes) -> _Reply | None:
        reply = self._last.pop(sender, None)
        if reply is not None:
            self._by_ticket.pop(reply.ticket, None)
        return reply
