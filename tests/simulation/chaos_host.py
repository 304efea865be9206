"""The hosts of a random-fault run: the real control with its rooms, queue and transport, on a disk that is kept.

Owns how a host's process starts, what its event loop owes it, and what of its node must stay as it is when something
that must not act arrives. Must not know what is commanded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from musicsyncd.media.entry import Entry, Item
from musicsyncd.playback.timeline import Track
from musicsyncd.protocol.auth import HostKeys
from musicsyncd.protocol.host import HostNode, PeerAppeared, RoomState
from musicsyncd.protocol.wire import Settings
from musicsyncd.system.control import Control
from musicsyncd.system.preparer import Found
from musicsyncd.system.readying import Readying

from .chaos_machines import KEYS, MS, OTHER_KEYS, ROOM, Machine, S
from .chaos_store import Gist, Store, gist_of
from .machine import MachineClock
from .network import Address, Direct

if TYPE_CHECKING:
    from .chaos_world import ChaosWorld

DAY_S = 1_800_000_000.0
"""What the clock of the day shows at true time 0."""

_SAVE_POSITIONS_NS = 5 * S
_T = TypeVar("_T")


def make_tracks() -> tuple[Track, ...]:
    """Return tracks of 1.5 to 60 s, of two rates."""
    lengths_s = (1.5, 2.0, 3.5, 5.0, 7.3, 11.0, 13.7, 20.0, 31.0, 60.0)
    rates = (44_100, 48_000)
    return tuple(
        Track(bytes([number]) * 32, 1000 + number, rates[number % 2], round(length_s * rates[number % 2]), 2)
        for number, length_s in enumerate(lengths_s)
    )


TRACKS = make_tracks()


class _Later:
    """A call that an event loop owes."""

    def __init__(self, what: Callable[[], object]) -> None:
        self.what: Callable[[], object] | None = what

    def cancel(self) -> None:
        self.what = None


class _Loop:
    """As much of an event loop as the host's control asks for, in virtual time."""

    def __init__(self, host: ChaosHost) -> None:
        self._host = host

    def call_later(self, delay_s: float, what: Callable[..., object], *arguments: object) -> _Later:
        """Call something later, if the process lives then; when it does not run, as soon as it does."""
        later = _Later(partial(what, *arguments))
        self._host.world.after(delay_s * S + 100_000, partial(self._host.fire, later, self._host.epoch))
        return later


class _Prepared:
    """Finds every track at once, and has nothing to prepare."""

    async def find(self, paths: Sequence[str]) -> Found:
        tracks = [TRACKS[int(path) % len(TRACKS)] for path in paths]
        items = zip(paths, tracks, strict=True)
        return Found(tuple(Item(path, f"track {path}", "", 0.0, track) for path, track in items), ())

    def due(self, upcoming: Sequence[Entry]) -> Sequence[Entry]:
        return ()

    def close(self) -> None:
        pass


class _SayingNode(HostNode):
    """Tells the judge what the host says."""

    def __init__(self, host: ChaosHost, keys: HostKeys, nonce: Callable[[], bytes]) -> None:
        super().__init__(keys, host.id, host.epoch, host.ident, 7783, nonce=nonce)
        self._saying = host

    def set_room(self, state: RoomState) -> None:
        """Say this of a room from now on."""
        self._saying.world.judge.said(self._saying, state)
        super().set_room(state)

    def set_settings(self, settings: Settings) -> None:
        """Keep a peer's settings."""
        self._saying.world.judge.set(self._saying, settings)
        super().set_settings(settings)


class ChaosHost(Machine):
    """A host with its real rooms, on a disk that is kept.

    Attributes:
        store: its disk.
        control: what people command.
        boots: of the machine, counted.
    """

    node: HostNode
    is_host = True

    def __init__(self, world: ChaosWorld, ident: str, address: Address, clock: MachineClock) -> None:
        super().__init__(world, ident, address, Direct(), clock, stamps_sendings=True)
        self.is_stranger = ident == "stranger"
        self.store = Store()
        self.epoch = 0
        self.boots = 1
        self.prepare(ident)
        self.control: Control | None = None

    def begin(self) -> None:
        """Start the process."""
        self._on = True
        self.prepare(self.ident)
        self.control = None
        self.epoch = self.store.next_epoch()
        self._timer_ns = None
        self.world.network.attach(self)
        self.guarded(self._open)

    def _open(self) -> None:
        judge = self.world.judge
        judge.born(self)
        tried = len(self.store.attempts), len(self.store.peer_attempts)
        dice = self.world.dice(f"{self.ident} {self.epoch}")
        keys = OTHER_KEYS if self.is_stranger else KEYS
        self.node = _SayingNode(self, keys, lambda: dice.randbytes(8))
        control = Control(
            *(self.node, self.store, lambda: self.local_ns, f"boot {self.boots}", self.turn, dict),
            chance=dice,
            day_s=lambda: DAY_S + self.world.now_ns / S,
        )
        control.preparer.close()
        control.preparer = prepared = _Prepared()
        control._readying = Readying(prepared, control._after_reading)
        self.control = control
        self.in_loop(partial(control.open, ROOM))
        judge.restarted(self, self.gist(), {one.peer_id: one for one, _ in control.speakers.all()}, tried)
        self.world.after(_SAVE_POSITIONS_NS, partial(self._save_positions, self.epoch))

    def gist(self) -> Gist:
        """Return what must not be lost of its room, as it is now."""
        assert self.control is not None
        room = self.control.room(ROOM)
        return gist_of(room.kept(room.transport.snapshot("", self.local_ns)))

    def look(self) -> None:
        """Take the node's events, as the daemon does."""
        while (event := self.node.next_event()) is not None:
            if isinstance(event, PeerAppeared) and self.control is not None:
                self.in_loop(partial(self.control.peer_appeared, event.peer_id, event.name))

    def in_loop(self, what: Callable[[], _T]) -> _T:
        """Do something that asks for the running event loop."""
        before = asyncio._get_running_loop()
        asyncio._set_running_loop(_Loop(self))
        try:
            return what()
        finally:
            asyncio._set_running_loop(before)

    def carry_out(self, command: Callable[[Control], str | Coroutine[Any, Any, str]]) -> str:
        """Return the answer to a command; nothing that is commanded here has to wait.

        Raises:
            ControlError: it was refused.
        """
        control = self.control
        assert control is not None

        def run() -> str:
            answer = command(control)
            if isinstance(answer, str):
                return answer
            try:
                answer.send(None)
            except StopIteration as ended:
                return str(ended.value)
            raise AssertionError("a command waited for something")

        return self.in_loop(run)

    def fire(self, later: _Later, epoch: int) -> None:
        """Call what is due, if this is still the process that wanted it."""
        if later.what is None or not self._on or self.epoch != epoch:
            return
        if not self._runs:
            self.world.after(50 * MS, partial(self.fire, later, epoch))
            return
        self.guarded(partial(self.in_loop, later.what))

    def _save_positions(self, epoch: int) -> None:
        if self._on and self.epoch == epoch:
            if self._runs and self.control is not None:
                self.guarded(self.control.save_positions)
            self.world.after(_SAVE_POSITIONS_NS, partial(self._save_positions, epoch))

    def epoch_of(self, sender: bytes) -> int:
        return next((one.epoch for one in self.node.peers() if one.peer_id == sender), 0)

    def print_of_node(self) -> tuple[object, ...]:
        node = self.node
        return node.peers(), len(node._events), dict(node._settings), len(node._answers._asked)
