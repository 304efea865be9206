"""What a host knows of a peer, and what it tells its daemon of its peers.

Must not know when a peer is taken for present or given up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from musicsyncd.protocol.auth import HostKeys
from musicsyncd.protocol.node import Address
from musicsyncd.protocol.wire import Report
from musicsyncd.units import HostNs

Reach = Literal["multicast", "unicast", "web"]
"""A browser is reached over a WebSocket: the node of the protocol knows none."""


@dataclass(frozen=True, slots=True)
class PeerInfo:
    """What the host knows of a peer.

    Attributes:
        peer_id: 8 bytes.
        epoch: of the peer: rises when it restarts.
        address: where its last report came from.
        report: its last.
        seen_host_ns: when it was last heard.
        reach: how beacons reach it.
        present: it was heard lately and has not said goodbye.
    """

    peer_id: bytes
    epoch: int
    address: Address
    report: Report
    seen_host_ns: HostNs
    reach: Reach
    present: bool


@dataclass(frozen=True, slots=True)
class PeerAppeared:
    """A peer reports that was not there: new, back, or restarted. Answer with its settings."""

    peer_id: bytes
    name: str
    address: Address


@dataclass(frozen=True, slots=True)
class PeerLost:
    """A peer has gone. ``reason`` is for people."""

    peer_id: bytes
    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class RotationDone:
    """The room's key is changed: the old one counts no more.

    Attributes:
        keys: the new ones.
        without: ids of the peers that are there and did not take the new key: they must be told anew.
    """

    keys: HostKeys
    without: tuple[bytes, ...]


Event = PeerAppeared | PeerLost | RotationDone


@dataclass(slots=True)
class KnownPeer:
    """A peer as the host remembers it; see :class:`PeerInfo`.

    Attributes:
        sequence: of its last report.
        left_epoch: in which it said goodbye; None for never.
    """

    peer_id: bytes
    epoch: int
    address: Address
    report: Report
    seen_ns: int
    sequence: int = 0
    present: bool = False
    left_epoch: int | None = None

    @property
    def info(self) -> PeerInfo:
        """What is told of it."""
        return PeerInfo(
            self.peer_id,
            self.epoch,
            self.address,
            self.report,
            HostNs(self.seen_ns),
            "unicast" if self.report.wants_unicast else "multicast",
            self.present,
        )
