"""The peers of a random-fault run: light ones, and some with a sound card.

Owns what of a peer's node must stay as it is when something that must not act arrives, and by how much a peer plays
late. Must not know what goes wrong when.

A light peer has the real node and the real clock and no sound: where it would play is its mapping. It asks less often
for the time, and its clock is fitted less often, or that would be most of a run.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from musicsyncd.clock.filter import HostClock
from musicsyncd.clock.mapping import ClockMapping
from musicsyncd.protocol.peer import PeerNode, StateChanged
from musicsyncd.protocol.probing import BURST_PROBES, Prober
from musicsyncd.protocol.wire import PlaybackStats
from musicsyncd.units import LocalNs

from .chaos_machines import KEYS, MS, ROOM, Machine, S, identity
from .chaos_plan import PeerSpec
from .machine import MachineClock
from .network import Link, Wifi, Wired, busy_wifi
from .nodes import PeerPlan, SimPeer, _address

if TYPE_CHECKING:
    from .chaos_host import ChaosHost
    from .chaos_world import ChaosWorld

_LEAD_NS = 60 * MS


def link_of(kind: str) -> Link:
    """Return the link of a kind of :data:`.chaos_plan._LINKS`."""
    return {"wired": Wired, "wifi": Wifi, "busy": busy_wifi}[kind]()


class FrugalClock(HostClock):
    """Is fitted three times a second for its first second and a half and then less than once a second."""

    def __init__(self) -> None:
        super().__init__()
        self._least: tuple[object, int] = (None, 0)
        self._given: tuple[object, int, ClockMapping | None] = (None, 0, None)

    def _is_fit_due(self, now_local_ns: LocalNs) -> bool:
        count = len(self._upper)
        if self._estimate is None or count <= 4 or count in (6, 9, 13):
            return True
        age_ns = now_local_ns - self._started_local_ns
        return now_local_ns - self._estimate.local_ns >= (300 * MS if age_ns < 1500 * MS else 1500 * MS)

    @property
    def round_trip_ns(self) -> int:
        """The least delay of the last minute, as of the last fit."""
        if self._least[0] is not self._estimate or self._estimate is None:
            self._least = self._estimate, super().round_trip_ns
        return self._least[1]

    @property
    def mapping(self) -> ClockMapping | None:
        """The newest estimate."""
        estimate, correction_ns, _ = self._given
        if estimate is not self._estimate or correction_ns != self._correction_ns or not self._is_usable:
            self._given = self._estimate, self._correction_ns, super().mapping
        return self._given[2]


class FrugalProber(Prober):
    """Asks three times a second once its first burst is over: half of what a run costs is questions and answers."""

    def _interval_ns(self, now_ns: int) -> int:
        return max(super()._interval_ns(now_ns), 0 if self._number - self._first_number < BURST_PROBES else 320 * MS)


def _epoch_followed(node: PeerNode, sender: bytes) -> int:
    host = node._host
    return host.epoch if host is not None and host.host_id == sender else 0


def print_of_peer(node: PeerNode) -> tuple[object, ...]:
    """Return what a peer does, as far as the network may change it."""
    host = node._host
    followed = None
    if host is not None:
        said = tuple((room, beacon.revision) for room, (beacon, _) in host.rooms.items())
        followed = (host.identity, host.address, host.lost, host.heard_ns, host.answered_ns, said)
    clock = node._clock
    own = (node._announced, node._settings, node.room, node._gone, node._multicast_ns, len(node._events))
    return *own, followed, clock.exchanges, clock.mapping


class LightPeer(Machine):
    """A peer with the real node and clock, and no sound.

    Attributes:
        spec: what it is.
        state: the newest that its node announced.
    """

    node: PeerNode

    def __init__(self, world: ChaosWorld, spec: PeerSpec, epoch: int, clock: MachineClock) -> None:
        dice = world.dice(f"peer {spec.ident} {epoch}")
        address, link = _address(spec.number), link_of(spec.link)
        super().__init__(world, f"{spec.ident} {epoch}", address, link, clock, stamps_sendings=spec.number % 2 == 0)
        self.prepare(spec.ident)
        self.spec = spec
        self.epoch = epoch
        self.state: StateChanged | None = None
        self.host_clock = FrugalClock()
        self.node = PeerNode(
            *(KEYS.room_keys, identity(spec.ident), epoch, spec.name, self.host_clock, dice.random, "0"),
            room=ROOM,
            nonce=lambda: dice.randbytes(8),
        )
        self.node._prober = FrugalProber(dice.random)
        world.network.attach(self)
        world.network.strangers.add(address)
        self.guarded(partial(self._say, "together"))

    def look(self) -> None:
        """Take the node's events."""
        while (event := self.node.next_event()) is not None:
            if isinstance(event, StateChanged):
                self.state = event
            self.world.judge.heard(self, event)

    def lose_card(self, duration_s: float) -> None:
        """Unplug the card for a while: nothing but what is reported changes."""
        self._say("no card")
        self.world.after(duration_s * S, partial(self._say, "together"))

    def _say(self, state: str) -> None:
        self.node.playback = PlaybackStats(state=state, lead_duration_ns=_LEAD_NS)
        self.turn()

    def error_ns(self, host: ChaosHost) -> float | None:
        """Return by how much it plays late by the host's clock; None while it could not say."""
        mapping = self.node.mapping
        if mapping is None:
            return None
        now_ns = self.world.now_ns
        return host.clock.local_at(now_ns) - mapping.host_at(LocalNs(self.clock.local_at(now_ns)))

    def _wake(self) -> None:
        self.guarded(partial(self.node.suspended, self.local_ns))
        super()._wake()

    def print_of_node(self) -> tuple[object, ...]:
        return print_of_peer(self.node)

    def epoch_of(self, sender: bytes) -> int:
        return _epoch_followed(self.node, sender)


class CardPeer(Machine, SimPeer):
    """A peer with a sound card, as in the numbered scenarios."""

    def __init__(self, world: ChaosWorld, spec: PeerSpec, epoch: int, clock: MachineClock) -> None:
        self.world = world
        self.prepare(spec.ident)
        self.spec = spec
        plan = PeerPlan(spec.ident, spec.number, link_of(spec.link))
        SimPeer.__init__(self, world, plan, epoch=epoch, clock=clock)
        world.network.strangers.add(self.address)

    @property
    def state(self) -> StateChanged | None:
        """The newest that its node announced."""
        return self._state

    def look(self) -> None:
        """Take the node's events."""
        seen = len(self.events)
        super().look()
        for event in self.events[seen:]:
            self.world.judge.heard(self, event)
        self.events.clear()

    def _tick(self) -> None:
        if self._starved:
            self.world.after(100 * MS, self._tick)
        else:
            self.guarded(super()._tick)

    def lose_card(self, duration_s: float) -> None:
        """Unplug the card for a while."""
        self.card.sleep(self.world.now_ns + duration_s * S)

    def error_ns(self, host: ChaosHost) -> float | None:
        """Return by how much what sounds is late by the host's clock; None in silence and on its way there."""
        block = self.block_at(self.world.now_ns)
        if block is None or block.course is None or self.player.state != "together":
            return None
        return host.clock.local_at(self.world.now_ns) - block.host_at(self.world.now_ns)

    def print_of_node(self) -> tuple[object, ...]:
        return print_of_peer(self.node)

    def epoch_of(self, sender: bytes) -> int:
        return _epoch_followed(self.node, sender)


Peer = LightPeer | CardPeer
