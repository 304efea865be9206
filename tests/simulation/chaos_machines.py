"""The machines of a random-fault run: a process that is starved, killed, or given what must not act.

Owns how datagrams and timers reach a node, and that what it raises is found. Must not know what goes wrong when, nor
what is right: findings go to the world.
"""

from __future__ import annotations

import hashlib
import traceback
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from musicsyncd.protocol.auth import HostKeys

from .chaos_network import Weather
from .chaos_store import KilledError
from .network import Address
from .nodes import Driven

if TYPE_CHECKING:
    from .chaos_world import ChaosWorld

KEYS = HostKeys(bytes(range(32)))
OTHER_KEYS = HostKeys(bytes(range(1, 33)))
ROOM = "main"
MS = 1_000_000
S = 1_000_000_000

MAX_WAITING = 256
"""Datagrams that a socket holds for a starved process; what comes then is lost."""

_T = TypeVar("_T")


def identity(ident: str) -> bytes:
    """Return the eight bytes of a machine."""
    return hashlib.blake2b(ident.encode(), digest_size=8).digest()


class Machine(Driven):
    """A machine whose process may be starved or killed, and which tells whoever must know what it did.

    Attributes:
        ident: of the machine.
        weather: on its path.
        had: datagrams that this life of the process has taken, or refused for good.
        born_ns: when this life began, true time.
    """

    world: ChaosWorld
    ident: str
    epoch: int
    is_host = False
    is_stranger = False

    def prepare(self, ident: str) -> None:
        """Set up what every machine here has, before anything can arrive."""
        self.ident = ident
        self.id = identity(ident)
        self.weather = Weather()
        self.had: set[bytes] = set()
        self.born_ns = self.world.now_ns
        self._starved_until_ns = 0
        self._shown = (-1, 0)
        self._due_ns = 0
        self._waiting: deque[tuple[bytes, Address, bool, str, int]] = deque(maxlen=MAX_WAITING)

    @property
    def _starved(self) -> bool:
        return self.world.now_ns < self._starved_until_ns

    @property
    def _runs(self) -> bool:
        return self._on and not self._asleep and not self._starved

    @property
    def runs(self) -> bool:
        """It is on, awake, and given the processor."""
        return self._runs

    @property
    def is_on(self) -> bool:
        """It has not been killed."""
        return self._on

    def take(self, data: bytes, source: Address, multicast: bool, harm: str) -> None:
        """Take a datagram; see :class:`.chaos_network.Target`."""
        if not self._on or self._asleep:
            return
        if self._starved:
            if len(self._waiting) < MAX_WAITING:
                self._waiting.append((data, source, multicast, harm, self.local_ns))
            return
        self.guarded(partial(self._read, data, source, multicast, harm, self.local_ns))

    def starve(self, duration_s: float) -> None:
        """Give the process no processor for a while; its socket holds what comes."""
        until_ns = self.world.now_ns + round(duration_s * S)
        self._starved_until_ns = max(self._starved_until_ns, until_ns)
        self.world.at(until_ns, partial(self.guarded, self._resume))

    def _resume(self) -> None:
        if not self._runs:
            return
        self._timer_ns = None
        while self._waiting and self._runs:
            self._read(*self._waiting.popleft())
        if self._runs:
            self.node.handle_timer(self.local_ns)
            self.turn()

    def _read(self, data: bytes, source: Address, multicast: bool, harm: str, stamp_ns: int) -> None:
        node = self.node
        if harm:
            before = self.print_of_node()
            node.receive_datagram(data, source, stamp_ns, multicast=multicast)
            after = self.print_of_node()
            if before != after:
                self.world.acted(self, harm, before, after, data)
        else:
            unproven = node.dropped["unproven"]
            node.receive_datagram(data, source, stamp_ns, multicast=multicast)
            if node.dropped["unproven"] == unproven:
                self.had.add(data)
        self.turn()

    @property
    def local_ns(self) -> int:
        """What its clock shows; reckoned once each instant."""
        now_ns = self.world.now_ns
        if self._shown[0] != now_ns:
            self._shown = now_ns, self.clock.local_at(now_ns)
        return self._shown[1]

    def turn(self) -> None:
        """Do what is to be done, unless the process cannot; as :meth:`.Driven.turn`, with fewer events."""
        if not self._runs:
            return
        self.look()
        world, local_ns = self.world, self.local_ns
        for outgoing in self.node.datagrams_to_send(local_ns):
            world.note(outgoing.data)
            late_ns = 5_000 + self._dice.expovariate(1 / 5_000)
            world.network.send(self, outgoing.data, outgoing.address, late_ns)
            if self._stamps_sendings and outgoing.ticket is not None:
                self.node.datagram_sent(outgoing.ticket, local_ns + round(late_ns))
        due_ns = self.node.next_timer_ns()
        pending = self._timer_ns is not None and self._timer_ns > world.now_ns
        if due_ns is None or (pending and due_ns == self._due_ns):
            return
        self._due_ns = due_ns
        true_ns = self.clock.true_at(due_ns) + 1_000 + round(self._dice.expovariate(1 / 200_000))
        if not pending or true_ns < self._timer_ns:
            self._timer_ns = max(true_ns, world.now_ns)
            world.at(self._timer_ns, partial(self._fire, self._timer_ns))

    def _fire(self, due_ns: int) -> None:
        if self._starved and due_ns == self._timer_ns:
            self._timer_ns = None
        self.guarded(partial(super()._fire, due_ns))

    def _wake(self) -> None:
        self.guarded(super()._wake)

    def guarded(self, what: Callable[[], _T]) -> _T | None:
        """Do something in the process; what it raises is its end, if it was killed, or a finding."""
        try:
            return what()
        except KilledError:
            self.world.killed(self)
        except Exception:
            self.world.found(f"{self.ident} raised: {' / '.join(traceback.format_exc().splitlines()[-5:])}")
        return None

    def print_of_node(self) -> tuple[object, ...]:
        """Return what must stay as it is when something that must not act arrives."""
        raise NotImplementedError

    def epoch_of(self, sender: bytes) -> int:
        """Return the newest epoch of a sender that it goes by; 0 for none."""
        raise NotImplementedError
