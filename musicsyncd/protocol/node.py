"""What hosts and peers have in common: addresses, what is to be sent, and the sealed door.

Owns the order in which a datagram is judged (length, key, tag, replay, message) and the
counters of what was refused. Must not know what any message means.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from musicsyncd.errors import ProtocolError
from musicsyncd.protocol import wire
from musicsyncd.protocol.auth import HOST_PURPOSE, PEER_PURPOSE, Opened, Opener, Sealer, derive_key

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


Message = TypeVar("Message")


class Door(Generic[Message]):
    """Seals what a node says and opens what it hears.

    Attributes:
        dropped: how many datagrams were refused, by reason. To those of :class:`~.auth.Opener` come
            ``malformed``, ``own kind`` (from a fellow or from itself, heard in the group) and what a node adds.
    """

    def __init__(self, sealer: Sealer, opener: Opener, decode: Callable[[bytes], Message]) -> None:
        self.dropped: Counter[str] = Counter()
        self._sealer = sealer
        self._opener = opener
        self._decode = decode

    def open(self, data: bytes) -> tuple[Opened, Message] | None:
        """Return an authentic datagram and its message; otherwise count why not and return None."""
        try:
            opened = self._opener.open(data)
            return opened, self._decode(opened.body)
        except ProtocolError as error:
            own = error.reason == "key" and self._sealer.is_own_kind(data)
            self.dropped["own kind" if own else error.reason] += 1
            return None

    def seal(
        self, message: wire.FromHost | wire.FromPeer, address: Address | None, ticket: int | None = None
    ) -> Outgoing:
        """Return a message sealed for an address, with a ticket if the node wants to know when it left.

        Each copy of a message is sealed by itself: were a copy that comes by unicast the same bytes as the
        one by multicast, the later one would be a replay, and nobody could tell that multicast works.
        """
        return Outgoing(self._sealer.seal(wire.encode(message)), address, ticket)


def host_door(room_key: bytes, host_id: bytes, epoch: int) -> Door[wire.FromPeer]:
    """Return a host's door."""
    sealer = Sealer(derive_key(room_key, HOST_PURPOSE), host_id, epoch)
    return Door(sealer, Opener(derive_key(room_key, PEER_PURPOSE)), wire.decode_from_peer)


def peer_door(room_key: bytes, peer_id: bytes, epoch: int) -> Door[wire.FromHost]:
    """Return a peer's door."""
    sealer = Sealer(derive_key(room_key, PEER_PURPOSE), peer_id, epoch)
    return Door(sealer, Opener(derive_key(room_key, HOST_PURPOSE)), wire.decode_from_host)
