"""What is kept for a speaker: plain values, in a module that a speaker can import without the host's database."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SavedPeer:
    """What the host keeps for a peer; see :class:`musicsyncd.protocol.wire.Settings`."""

    peer_id: bytes
    name: str
    room: str
    volume: int = 100
    muted: bool = False
    output_delay_us: int = 0
    channels: str = "stereo"
    settings_revision: int = 0
