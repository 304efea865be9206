"""What hosts and peers have in common: addresses, and what is to be sent."""

from __future__ import annotations

from dataclasses import dataclass

Address = tuple[str, int]
"""IP address and UDP port."""

MAX_EVENTS = 4096
"""Events that wait for their reader; beyond it the oldest go. A reader that looks after each call sees all."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A datagram to send.

    Attributes:
        data: the bytes.
        address: to whom; None is the multicast group.
        ticket: the node wants to be told when this really left, by ``datagram_sent``; None for no.
    """

    data: bytes
    address: Address | None
    ticket: int | None = None
