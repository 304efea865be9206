"""The machines of a simulated room: the host and the peers, wired as their daemons wire them.

A node runs on a machine with a clock of its own, whose kernel stamps what comes and, on some, what goes.
Must not know how the truth is judged.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from musicsyncd.clock.exchange import Exchange
from musicsyncd.clock.filter import HostClock
from musicsyncd.playback.player import Course, Player
from musicsyncd.playback.renderer import FrameSources
from musicsyncd.playback.timeline import Segment, Timeline, Track
from musicsyncd.protocol.auth import HostKeys
from musicsyncd.protocol.host import Event as HostEvent
from musicsyncd.protocol.host import HostNode, PeerInfo, RoomState
from musicsyncd.protocol.peer import Event as PeerEvent
from musicsyncd.protocol.peer import KeyChanged, PeerNode, SettingsChanged, StateChanged
from musicsyncd.protocol.wire import PlaybackStats, Settings

from .card import Block, Card, Crystal, PolledCard
from .machine import MachineClock
from .network import Address, Direct, Link, Wired
from .sounds import NoSound, Nothing

if TYPE_CHECKING:
    from .world import World

KEYS = HostKeys(bytes(range(32)))
ROOM_KEYS = KEYS.room_keys
S = 1_000_000_000
MS = 1_000_000
US = 1_000
HOST_AT: Address = ("192.0.2.1", 7783)
OTHER_HOST_AT: Address = ("192.0.2.2", 7783)
ROOM = "main"
TRACK = Track(bytes(32), 40_000_000, 48_000, 48_000 * 600, 2)
RESUME_LEAD_NS = 500 * MS
_TICK_NS = 100 * MS
_SUSPENDED_NS = 100 * MS
_KEPT_SEGMENTS = 3
_ROUGH_EXCHANGES = 5


class Driven:
    """A node on a machine: datagrams in with time stamps, datagrams out, timers late by a little.

    Args:
        world: where.
        name: for its dice.
        address: of the machine.
        link: to the network.
        clock: of the machine.
        stamps_sendings: its kernel says when a datagram left.
    """

    def __init__(
        self, world: World, name: str, address: Address, link: Link, clock: MachineClock, *, stamps_sendings: bool
    ) -> None:
        self.world = world
        self._stamps_sendings = stamps_sendings
        self.address = address
        self.link = link
        self.clock = clock
        self._dice = world.dice(f"machine {name}")
        self._timer_ns: int | None = None
        self._on = True
        self._asleep = False

    node: HostNode | PeerNode

    @property
    def local_ns(self) -> int:
        """What its clock shows."""
        return self.clock.local_at(self.world.now_ns)

    def look(self) -> None:
        """Take the node's events."""

    def stop(self) -> None:
        """Vanish from the network."""
        self._on = False
        self.world.network.detach(self)

    def sleep(self, duration_s: float) -> None:
        """Suspend the machine: its clock stands still, nothing runs, and what comes is lost."""
        self._asleep = True
        self.clock.stop(self.world.now_ns, duration_s * S)
        self.world.after(duration_s * S, self._wake)

    def _wake(self) -> None:
        self._asleep = False
        self._timer_ns = None
        self.turn()

    @property
    def _runs(self) -> bool:
        return self._on and not self._asleep

    def arrive(self, data: bytes, source: Address, multicast: bool) -> None:
        """Stamp a datagram as the kernel does, and see to it when the program wakes up."""
        if self._asleep:
            return
        stamp_ns = self.local_ns

        def see_to() -> None:
            if self._runs:
                self.node.receive_datagram(data, source, stamp_ns, multicast=multicast)
                self.turn()

        self.world.after(self._dice.expovariate(1 / (100 * US)), see_to)

    def turn(self) -> None:
        """Do what is to be done after anything happened to the node."""
        self.look()
        for outgoing in self.node.datagrams_to_send(self.local_ns):
            self.world.note(repr((self.address, outgoing.address)).encode() + outgoing.data)
            # From the time stamp in the datagram to the wire.
            late_ns = 5 * US + self._dice.expovariate(1 / (5 * US))
            self.world.network.send(self, outgoing.data, outgoing.address, late_ns)
            if self._stamps_sendings and outgoing.ticket is not None:
                self.world.after(late_ns, partial(self._left, self.node, outgoing.ticket))
        due_ns = self.node.next_timer_ns()
        if due_ns is None:
            return
        # Timers fire late, never early; the microsecond is for the rounding between two clocks.
        true_ns = self.clock.true_at(due_ns) + US + round(self._dice.expovariate(1 / (200 * US)))
        if self._timer_ns is None or true_ns < self._timer_ns or self._timer_ns <= self.world.now_ns:
            self._timer_ns = max(true_ns, self.world.now_ns)
            self.world.at(self._timer_ns, partial(self._fire, self._timer_ns))

    def _left(self, node: HostNode | PeerNode, ticket: int) -> None:
        if self._runs:
            node.datagram_sent(ticket, self.local_ns)

    def _fire(self, due_ns: int) -> None:
        if self._runs and due_ns == self._timer_ns:
            self._timer_ns = None
            self.node.handle_timer(self.local_ns)
            self.turn()


class SimHost(Driven):
    """A host with one room and one track; its commands work as a daemon's would.

    Attributes:
        epoch: of its last start.
        timeline: what it says.
        leads_ns: how far ahead each command was placed.
    """

    node: HostNode

    def __init__(
        self, world: World, clock: MachineClock, name: str = "the host", address: Address = HOST_AT, epoch: int = 1
    ) -> None:
        super().__init__(world, name, address, Direct(), clock, stamps_sendings=True)
        self.epoch = epoch - 1
        self._host_id = _identity(name)
        self.timeline = Timeline()
        self.leads_ns: list[int] = []
        self._revision = 0
        self._entry = 0
        self._settings = 0
        self.begin()

    def begin(self) -> None:
        """Start."""
        self._on = True
        self.epoch += 1
        self._revision = 0
        nonce = partial(self._dice.randbytes, 8)
        self.node = HostNode(KEYS, self._host_id, self.epoch, "host", 7783, nonce=nonce)
        self._timer_ns = None
        self.world.network.attach(self)
        self._say(self.timeline.segments)

    def look(self) -> None:
        """Take the node's events; a real daemon answers newcomers with their settings."""
        while self.node.next_event() is not None:
            pass

    def play(self, frame: int = 0, track: Track = TRACK) -> None:
        """Play a track from a frame on, as soon as all can."""
        self._entry += 1
        at_ns = self._at_ns()
        self._change(Segment(at_ns, self._entry, frame, track))

    def pause(self) -> None:
        """Be silent as soon as all can."""
        self._change(Segment(self._at_ns()))

    def resume(self) -> None:
        """Go on where the last pause cut in."""
        paused, playing = self.timeline.segments[-1], self.timeline.segments[-2]
        frame, _ = playing.position_at(paused.start_host_ns)
        self._change(Segment(self._at_ns(), playing.entry, frame, playing.track))

    def seek(self, frame: int) -> None:
        """Go on from another frame of the same track as soon as all can."""
        playing = self.timeline.segments[-1]
        self._change(Segment(self._at_ns(), playing.entry, frame, playing.track))

    def set_volume(self, volume: int) -> None:
        """Change the room's volume."""
        self._say(self.timeline.segments, volume)

    def set_delay(self, name: str, delay_ms: float) -> None:
        """Tell a peer that what stands behind it is late by so much."""
        self._settings += 1
        delay_us = round(delay_ms * 1000)
        self.node.set_settings(Settings(_identity(name), self._settings, ROOM, output_delay_us=delay_us))
        self.turn()

    def take_over(self, other: SimHost) -> None:
        """Go on with the track that another host has sounding, so that nothing is skipped or heard twice."""
        playing = other.timeline.segments[-1]
        frame, fraction = playing.position_at(other.local_ns)
        since_ns = self.local_ns - round(fraction * S / playing.track.rate_hz)
        self._change(Segment(since_ns, playing.entry, frame, playing.track))

    def restart(self, down_s: float, *, reboot: bool = False) -> None:
        """Stop without a word and start again later.

        Args:
            down_s: how long it is away.
            reboot: its clock begins anew, and its first word is that it resumes where it was, in half a second;
                else the time line goes on.
        """
        self.stop()

        def start() -> None:
            if not reboot:
                self.begin()
                return
            playing = self.timeline.segments[-1]
            frame, _ = playing.position_at(self.local_ns)
            self.clock = MachineClock(self.world.dice("host clock 2"), offset_ns=10 * S, skew_ppm=-20.0)
            at_ns = self.local_ns + RESUME_LEAD_NS
            self.timeline = Timeline((Segment(at_ns, playing.entry, frame, playing.track),))
            self.begin()

        self.world.after(down_s * S, start)

    def peers(self) -> list[PeerInfo]:
        """Return what it knows of its peers."""
        return self.node.peers()

    def _at_ns(self) -> int:
        lead_ns = self.node.lead_duration_ns(ROOM)
        self.leads_ns.append(lead_ns)
        return self.local_ns + lead_ns

    def _change(self, segment: Segment) -> None:
        before = [one for one in self.timeline.segments if one.start_host_ns < segment.start_host_ns]
        self._say((*before[-_KEPT_SEGMENTS:], segment))

    def _say(self, segments: tuple[Segment, ...], volume: int = 100) -> None:
        self._revision += 1
        self.timeline = Timeline(tuple(segments))
        self.node.set_room(RoomState(ROOM, self._revision, self.timeline, volume))
        self.turn()


@dataclass(frozen=True)
class PeerPlan:
    """What a peer is made of.

    Attributes:
        name: of the peer.
        number: among the peers, for its address; the kernels of those with an even one stamp what they send.
        link: to the network.
        crystal: of the card.
        skew_ppm: of the machine's clock; by chance within ±60 without it.
        walk_ppm: its wandering, ppm in a second.
        ramp_ppm_per_s: of a board that warms up.
        ramp_until_s: for so long.
        sources: decoded tracks, to render real samples.
        hosts: addresses to try by unicast.
    """

    name: str
    number: int
    link: Link = field(default_factory=Wired)
    crystal: Crystal | None = None
    skew_ppm: float | None = None
    walk_ppm: float = 0.01
    ramp_ppm_per_s: float = 0.0
    ramp_until_s: int = 20
    sources: FrameSources | None = None
    hosts: tuple[Address, ...] = ()


class SimPeer(Driven):
    """A peer with its card, wired as the daemon wires it.

    Attributes:
        plan: what it is made of.
        epoch: of this start.
        player: what plays.
        card: what sounds.
    """

    node: PeerNode

    def __init__(self, world: World, plan: PeerPlan, *, epoch: int = 1, clock: MachineClock | None = None) -> None:
        dice = world.dice(f"peer {plan.name} {epoch}")
        if clock is None:
            skew_ppm = dice.uniform(-60, 60) if plan.skew_ppm is None else plan.skew_ppm
            clock = MachineClock(
                world.dice(f"clock {plan.name}"),
                offset_ns=dice.randrange(10**12),
                skew_ppm=skew_ppm,
                walk_ppm=plan.walk_ppm,
                ramp_ppm_per_s=plan.ramp_ppm_per_s,
                ramp_until_s=plan.ramp_until_s,
            )
        stamps = plan.number % 2 == 0
        super().__init__(world, f"{plan.name} {epoch}", _address(plan.number), plan.link, clock, stamps_sendings=stamps)
        self.plan = plan
        self.epoch = epoch
        self.host_clock = HostClock()
        peer_id = _identity(plan.name)
        self.node = PeerNode(
            ROOM_KEYS, peer_id, epoch, plan.name, self.host_clock, dice.random, "0", plan.hosts, ROOM,
            nonce=partial(dice.randbytes, 8),
        )  # fmt: skip
        self._state: StateChanged | None = None
        self._delay_ns = 0
        self._slept_ns = 0.0
        self._course = Course()
        self.events: list[PeerEvent | HostEvent] = []
        crystal = plan.crystal or Crystal(ppm=dice.uniform(-80, 80))
        self.player = Player(crystal.rate_hz, 2, plan.sources or Nothing())
        if plan.sources is None:
            self.player._renderer = NoSound()
        world.network.attach(self)
        kind = PolledCard if crystal.polled else Card
        self.card = kind(world, world.dice(f"card {plan.name} {epoch}"), crystal, clock, self.player)
        self._tick_local_ns = self.local_ns
        self._tick()

    @property
    def name(self) -> str:
        """Which."""
        return self.plan.name

    def block_at(self, true_ns: int) -> Block | None:
        """Return what sounds; None for silence."""
        return self.card.block_at(true_ns)

    def stop(self) -> None:
        """Vanish, and be silent."""
        super().stop()
        self.card.stop()

    def sleep(self, duration_s: float) -> None:
        """Suspend the machine, and its card."""
        super().sleep(duration_s)
        self.card.sleep(self.world.now_ns + duration_s * S)

    def look(self) -> None:
        """Take the node's events, and hand the time line with its clock to the player."""
        while (event := self.node.next_event()) is not None:
            self.events.append(event)
            if isinstance(event, StateChanged):
                self._state = event
            elif isinstance(event, SettingsChanged):
                self._delay_ns = event.settings.output_delay_us * US
            elif isinstance(event, KeyChanged):
                self.node.key_kept(event.keys)
        if self._state is not None:
            course = Course(self._state.timeline, self.node.mapping, self._state.epoch, self._delay_ns)
            if course != self._course:
                self._course = course
                self.player.follow(course)

    def _tick(self) -> None:
        if not self._on:
            return
        if self._asleep:
            # It fires as much after the awakening as was left of it.
            self.world.at(self.clock.true_at(self._tick_local_ns), self._tick)
            return
        self._notice_suspend()
        player = self.player
        self.node.playback = PlaybackStats(
            state=player.state,
            sync_error_ns=round(player.sync_error_ns),
            correction_ppm=player.correction_ppm,
            underruns=self.card.underruns,
            starved_frames=player.starved_frames,
            lead_duration_ns=player.lead_duration_ns,
        )
        self.turn()
        self._tick_local_ns = self.local_ns + _TICK_NS
        self.world.at(self.clock.true_at(self._tick_local_ns), self._tick)

    def _notice_suspend(self) -> None:
        slept_ns = self.clock.slept_ns(self.world.now_ns)
        if slept_ns - self._slept_ns > _SUSPENDED_NS:
            self.node.suspended(self.local_ns)
        self._slept_ns = slept_ns


class RoughClock(HostClock):
    """Takes in the first exchanges only: a thousand peers are not simulated for what their fits cost."""

    def observe(self, exchange: Exchange) -> bool:
        """Take in one exchange, or leave it."""
        return self.exchanges < _ROUGH_EXCHANGES and super().observe(exchange)


class Extra(Driven):
    """A wired peer without a card, whose clock is rough: only its traffic counts.

    Attributes:
        revision: of the room's state, as far as it has heard.
    """

    node: PeerNode

    def __init__(self, world: World, name: str, number: int) -> None:
        self.revision = 0
        dice = world.dice(f"extra {name}")
        clock = MachineClock(dice, offset_ns=dice.randrange(10**12), skew_ppm=dice.uniform(-60, 60))
        super().__init__(world, name, _address(number), Wired(), clock, stamps_sendings=number % 2 == 0)
        nonce = partial(dice.randbytes, 8)
        self.node = PeerNode(ROOM_KEYS, _identity(name), 1, name, RoughClock(), dice.random, "0", nonce=nonce)
        world.network.attach(self)
        world.network.strangers.add(self.address)
        self.turn()

    def look(self) -> None:
        """Take the node's events."""
        while (event := self.node.next_event()) is not None:
            if isinstance(event, StateChanged):
                self.revision = event.revision


def _identity(name: str) -> bytes:
    return hashlib.blake2b(name.encode(), digest_size=8).digest()


def _address(number: int) -> Address:
    high, low = divmod(number, 200)
    return f"198.51.{100 + high}.{1 + low}", 40000
