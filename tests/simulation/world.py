"""A room in virtual time: the events in order of true time, the host, the peers.

Everything that happens depends on the seed alone. Each part has dice of its own, made of the
seed and its name, so that one more peer does not change what happens to the others.
"""

from __future__ import annotations

import hashlib
import heapq
import random
from collections.abc import Callable
from typing import Any

from .judge import Judge
from .machine import MachineClock
from .network import Faults, Network
from .nodes import HOST_AT, MS, OTHER_HOST_AT, ROOM, TRACK, US, Extra, PeerPlan, S, SimHost, SimPeer

__all__ = ["HOST_AT", "MS", "ROOM", "TRACK", "US", "S", "SimHost", "SimPeer", "Stage", "World"]


class Stage:
    """True time, and what happens in it, one thing after the other.

    Args:
        seed: of all chance.

    Attributes:
        now_ns: the true time.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.now_ns = 0
        self._events: list[tuple[int, int, Callable[[], object]]] = []
        self._order = 0
        self._trace = hashlib.sha256()

    def dice(self, name: str) -> random.Random:
        """Return a source of chance for one part."""
        return random.Random(f"{self.seed}/{name}")

    def at(self, true_ns: float, what: Callable[[], object]) -> None:
        """Run something at a true instant."""
        self._order += 1
        heapq.heappush(self._events, (max(round(true_ns), self.now_ns), self._order, what))

    def at_s(self, true_s: float, what: Callable[[], object]) -> None:
        """Run something at a true instant in seconds."""
        self.at(true_s * S, what)

    def after(self, duration_ns: float, what: Callable[[], object]) -> None:
        """Run something later."""
        self.at(self.now_ns + duration_ns, what)

    def run(self, until_s: float) -> None:
        """Let everything happen until a true instant."""
        until_ns = round(until_s * S)
        while self._events and self._events[0][0] <= until_ns:
            self.now_ns, _, what = heapq.heappop(self._events)
            what()
        self.now_ns = until_ns

    def note(self, what: str | bytes) -> None:
        """Put something into the trace."""
        self._trace.update(f"{self.now_ns}:".encode() + (what if isinstance(what, bytes) else what.encode()))

    @property
    def trace(self) -> str:
        """A digest of all datagrams and all that was heard."""
        return self._trace.hexdigest()


class World(Stage):
    """A room with its host, its peers and a judge.

    Args:
        seed: of all chance.
        faults: of the network.

    Attributes:
        network: between all.
        peers: by name, in the order in which they came.
        extras: peers of which only the traffic counts.
        judge: listens from the start.
    """

    def __init__(self, seed: int, *, faults: Faults | None = None) -> None:
        super().__init__(seed)
        self.network = Network(self.dice("network"), self.after, lambda: self.now_ns, faults or Faults())
        self.peers: dict[str, SimPeer] = {}
        self.extras: list[Extra] = []
        self.judge = Judge(lambda: self.host, self.peers.values, self.note)
        self.host = SimHost(self, MachineClock(self.dice("host clock"), offset_ns=self.dice("host").randrange(10**12)))
        self._listen()

    def use_host_clock(self, **what: Any) -> None:
        """Give the host another clock, before anything happens; arguments of :class:`MachineClock`."""
        offset_ns = self.dice("host").randrange(10**12)
        self.host.clock = MachineClock(self.dice("host clock"), offset_ns=offset_ns, **what)

    def add_peer(self, name: str, **what: Any) -> SimPeer:
        """Start a peer now; arguments of :class:`PeerPlan`."""
        peer = SimPeer(self, PeerPlan(name, len(self.peers), **what))
        self.peers[name] = peer
        return peer

    def add_extra(self, name: str) -> Extra:
        """Start a peer now of which only the traffic counts, after all that are heard."""
        extra = Extra(self, name, len(self.peers) + len(self.extras))
        self.extras.append(extra)
        return extra

    def change_host(self, down_s: float, *, goodbye: bool) -> None:
        """Stop the host, with or without a word, and later start another that goes on with its time line.

        It has a machine, an identity and a count of starts of its own, and knows nothing of the peers.
        """
        left = self.host
        if goodbye:
            left.node.close()
            left.turn()
        left.stop()

        def start() -> None:
            dice = self.dice("other host")
            clock = MachineClock(dice, offset_ns=dice.randrange(10**12), skew_ppm=80.0)
            self.host = SimHost(self, clock, "the other", OTHER_HOST_AT, epoch=left.epoch + 6)
            self.host.take_over(left)

        self.after(down_s * S, start)

    def restart_peer(self, name: str, down_s: float) -> None:
        """Stop a peer without a word and start it again later, with nothing remembered but its epoch."""
        stopped = self.peers.pop(name)
        stopped.stop()

        def start() -> None:
            self.peers[name] = SimPeer(self, stopped.plan, epoch=stopped.epoch + 1, clock=stopped.clock)

        self.after(down_s * S, start)

    def _listen(self) -> None:
        self.judge.listen(self.now_ns)
        self.after(self.judge.interval_ns, self._listen)
