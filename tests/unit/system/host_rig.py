"""A host's rooms over a real node and a real database, with a clock that stands still until it is moved."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial, wraps
from pathlib import Path

import numpy as np
import soundfile

from musicsyncd.errors import MusicSyncError
from musicsyncd.protocol import wire
from musicsyncd.protocol.auth import HOST_PURPOSE, PEER_PURPOSE, HostKeys, Opener, Sealer, derive_key
from musicsyncd.protocol.host import HostNode, PeerAppeared
from musicsyncd.system.control import Control
from musicsyncd.system.database import Database

KEYS = HostKeys(bytes(range(32)))
BOOT = "this run of the machine"
MS = 1_000_000
S = 1_000_000_000
RATE_HZ = 8_000
TRACK_S = 20
LEAD_NS = 20 * MS
"""The least that a host plans ahead: nobody is there."""

DAY_S = 1_800_000_000.0
"""What the clock of the day shows when the host's clock shows 0: in 2027."""

DESCRIBED = {
    "name": "den",
    "version": "0.1.0",
    "epoch": 1,
    "address": "192.0.2.1",
    "interfaces": ["eth0 192.0.2.1", "eth0 fe80::1%eth0"],
    "port": 7783,
    "uptime_s": 5.0,
    "open": False,
    "dropped": {"unsealed": 3},
    "others": [{"name": "attic", "address": "192.0.2.8", "rooms": ["main"], "has_our_key": True}],
}
"""What a daemon says of its host."""

_SAVING = (
    "save_room",
    "save_snapshot",
    "save_played",
    "save_peer",
    "save_links",
    "remove_links",
    "remove_peer",
    "remove_room",
    "keep_track",
)


def on_a_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run a test on an event loop of its own, with what pytest gives it."""

    @wraps(test)
    def run(**given: object) -> None:
        asyncio.run(asyncio.wait_for(test(**given), 30.0))

    return run


def make_track(path: Path, seconds: float = TRACK_S, seed: int = 1) -> Path:
    """Write a WAV file of noise; another seed makes another content id."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).uniform(-0.5, 0.5, round(seconds * RATE_HZ))
    soundfile.write(path, noise, RATE_HZ, subtype="PCM_16")
    return path


def make_album(folder: Path, count: int) -> list[str]:
    """Write tracks called ``1`` to ``count`` and return their paths."""
    return [str(make_track(folder / f"{n}.wav", seed=n)) for n in range(1, count + 1)]


class Host:
    """A started host: ``now_ns`` is its clock, ``log`` what it did in order.

    Args:
        folder: of its database.
        boot_id: names the run of the machine.
        now_ns: its clock.
        room: the one that always exists.
        day_s: what the clock of the day shows when the host's clock shows 0.
        options: of :class:`Control`.
    """

    def __init__(
        self,
        folder: Path,
        boot_id: str = BOOT,
        now_ns: int = 1000 * S,
        room: str = "main",
        day_s: float = DAY_S,
        **options: object,
    ) -> None:
        self.now_ns = now_ns
        self.log: list[str] = []
        self.database = Database(folder / "state.sqlite", lock_timeout_s=0)
        self.node = HostNode(
            KEYS,
            self.database.host_id(),
            self.database.next_epoch(),
            "den",
            7783,
            nonce=partial(random.Random(2).randbytes, 8),
        )
        self._opener = Opener(derive_key(KEYS.room_key, HOST_PURPOSE))
        self._sequences: dict[bytes, Sealer] = {}
        self.control = Control(
            self.node, self.database, lambda: self.now_ns, boot_id, self._changed, lambda: dict(DESCRIBED),
            chance=random.Random(1), day_s=lambda: day_s + self.now_ns / S, **options,
        )  # fmt: skip
        self.control.open(room)

    def _changed(self) -> None:
        self.log.append("said")

    def watch_saving(self) -> None:
        """Note each save of a room in the log, beside what was said."""
        real = self.database.save_room

        def save_room(room: object) -> None:
            real(room)
            self.log.append("saved")

        self.database.save_room = save_room

    def break_database(self) -> None:
        """Let nothing be saved from now on, as on a full disk."""

        def refuse(*_: object) -> None:
            raise MusicSyncError("cannot save: the disk is full")

        for name in _SAVING:
            setattr(self.database, name, refuse)

    def mend_database(self) -> None:
        """Undo :meth:`break_database`."""
        for name in _SAVING:
            delattr(self.database, name)

    def room(self, name: str = "main"):
        return next(one for one in self.control.rooms if one.name == name)

    def titles(self, name: str = "main") -> list[str]:
        return [entry["title"] for entry in self.control.queues.show(name)["entries"]]

    def status(self, name: str = "main") -> dict:
        return next(one for one in self.control.status()["rooms"] if one["name"] == name)

    def peer(self, name: str) -> dict:
        return next(one for one in self.control.status()["peers"] if one["name"] == name)

    def said(self) -> list[wire.FromHost]:
        """Return every message that the node sends now."""
        outgoing = self.node.datagrams_to_send(self.now_ns)
        return [wire.decode_from_host(self._opener.open(one.data).body) for one in outgoing]

    def beacon(self, name: str = "main") -> wire.Beacon:
        """Return what is said of a room now; it has to be due."""
        return next(one for one in self.said() if isinstance(one, wire.Beacon) and one.room == name)

    def segments(self, name: str = "main") -> list[tuple[int, int, int]]:
        """Return start (from now), entry and frame of the time line's segments in force."""
        timeline = self.room(name).said.timeline
        return [(one.start_host_ns - self.now_ns, one.entry, one.frame) for one in timeline.segments]

    def report(self, name: str, room: str = "main", peer_id: bytes = b"", epoch: int = 1, **playback: object) -> bytes:
        """Let a speaker report, with its events taken as the daemon takes them; return its id."""
        peer_id = peer_id or name.encode()[:8].ljust(8, b".")
        stats = wire.PlaybackStats(**playback)
        report = wire.Report(name, room, 0, 0, False, "0.1", wire.ClockStats(), stats)
        self._receive(report, peer_id, epoch)
        return peer_id

    def leave(self, peer_id: bytes, epoch: int = 1) -> None:
        """Let a speaker say goodbye."""
        self._receive(wire.Bye("it was stopped"), peer_id, epoch)

    def _receive(self, message: wire.FromPeer, peer_id: bytes, epoch: int) -> None:
        """Let the host hear a speaker, which proves to be alive if it is asked to."""
        if (peer_id, epoch) not in self._sequences:
            self._sequences[peer_id, epoch] = Sealer(derive_key(KEYS.room_key, PEER_PURPOSE), peer_id, epoch)
        self._hear(message, self._sequences[peer_id, epoch])
        for challenge in self.node._door.to_send():
            asked = wire.decode_from_host(self._opener.open(challenge.data).body)
            self._hear(wire.Proof(asked.nonce), self._sequences[peer_id, epoch])
            self._hear(message, self._sequences[peer_id, epoch])
        while (event := self.node.next_event()) is not None:
            if isinstance(event, PeerAppeared):
                self.control.peer_appeared(event.peer_id, event.name)

    def _hear(self, message: wire.FromPeer, voice: Sealer) -> None:
        self.node.receive_datagram(voice.seal(wire.encode(message)), ("192.0.2.9", 40_000), self.now_ns)

    async def settle(self) -> None:
        """Wait until every track that should be prepared is."""
        while tasks := [task for task in self.control._readying._ahead.values() if not task.done()]:
            await asyncio.gather(*tasks)

    def end(self) -> None:
        """End as a killed process does: nothing more is saved."""
        self.control.close()
        self.database.close()


@contextmanager
def running(folder: Path, **options: object) -> Iterator[Host]:
    """A host until the end of the block. To be used within an event loop."""
    host = Host(folder, **options)
    try:
        yield host
    finally:
        host.end()
