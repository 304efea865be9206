"""The host's side of the protocol: beacons, probe replies, and what it knows of its peers.

Owns when a room's state is said and how often, who is there and how each peer is
reached. Must not know how a time line comes about, where settings are kept, or of
sockets and clocks: times are given to it, all on the host's monotonic clock.

**Five calls.** :meth:`HostNode.receive_datagram`, :meth:`~HostNode.datagrams_to_send`,
:meth:`~HostNode.next_timer_ns`, :meth:`~HostNode.handle_timer`, :meth:`~HostNode.next_event`.
After any call that does something (``set_room`` and its like, too), ask for the datagrams,
the events and the next timer again. Time stamps that a datagram carries are the ``now_ns`` given to
``datagrams_to_send``, so it is called right before sending. A datagram with a ticket is one whose
true time of sending :meth:`~HostNode.datagram_sent` takes afterwards, if it can be known.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count
from typing import Literal

from musicsyncd.errors import ControlError
from musicsyncd.protocol import wire
from musicsyncd.protocol.answering import Answers
from musicsyncd.protocol.auth import Opened
from musicsyncd.protocol.hearing import Hearing
from musicsyncd.protocol.node import MAX_EVENTS, Address, Outgoing, host_door
from musicsyncd.protocol.rooms import RoomSchedule, RoomState
from musicsyncd.units import NS_PER_MS, NS_PER_S, HostNs

__all__ = ["Event", "HostNode", "PeerAppeared", "PeerInfo", "PeerLost", "Reach", "RoomState"]

SETTINGS_AFTER_NS = (50 * NS_PER_MS, 100 * NS_PER_MS, 200 * NS_PER_MS)
"""Gaps between repeats of settings that no report has confirmed; afterwards, each report asks again."""

SILENCE_NS = 5 * NS_PER_S
"""A peer reports every second and probes more often: after five without a word, it is away."""

SWEEP_INTERVAL_NS = 250 * NS_PER_MS

MAX_ROOMS = 64
MAX_PEERS = 1024
MAX_HOST_NAME_BYTES = 64
"""With a room's longest name in the longest encoding, eight segments still fit a datagram (tested)."""

MAX_BEHIND_BY_UNICAST = 64
"""Peers that get a change by unicast at a time: 20 ms of a Wi-Fi's air. The others follow as these confirm."""

MIN_LEAD_NS = 20 * NS_PER_MS
MAX_LEAD_NS = 2 * NS_PER_S
LEAD_MARGIN_NS = 5 * NS_PER_MS
LOSSY = 0.02
LOSSY_LEAD_NS = 60 * NS_PER_MS
"""A link that loses more than 1 in 50 is given time for the second repeat."""


Reach = Literal["multicast", "unicast"]


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
    report: wire.Report
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


Event = PeerAppeared | PeerLost


@dataclass(slots=True)
class _Peer:
    peer_id: bytes
    epoch: int
    address: Address
    report: wire.Report
    seen_ns: int
    sequence: int = 0
    present: bool = False
    left_epoch: int | None = None
    settings_due_ns: int = 0
    settings_sent_ns: int = 0
    settings_repeats: int = 0


class HostNode:
    """One host, without input or output.

    Args:
        room_key: the key of all its rooms, 32 bytes.
        host_id: 8 bytes, always the same for one host.
        epoch: greater than at any earlier start.
        name: for people; cut to 64 bytes.
        http_port: where media and control are served.

    Attributes:
        stamps: what the kernel stamps here, as :class:`~.wire.ClockStats` has it.
    """

    def __init__(self, room_key: bytes, host_id: bytes, epoch: int, name: str, http_port: int) -> None:
        self.stamps = "user"
        self._door = host_door(room_key, host_id, epoch)
        self._name = name.encode()[:MAX_HOST_NAME_BYTES].decode(errors="ignore") or "host"
        self._http_port = http_port
        self._rooms: dict[str, RoomSchedule] = {}
        self._peers: dict[bytes, _Peer] = {}
        self._settings: dict[bytes, wire.Settings] = {}
        self._unsettled: set[bytes] = set()
        tickets = count(1)
        self._hearing = Hearing(tickets)
        self._answers = Answers(self._door, http_port, self._name, tickets, self._hearing.fellows_heard)
        self._events: deque[Event] = deque(maxlen=MAX_EVENTS)
        self._sweep_ns = 0
        self._closed = False
        self._last_words: list[Outgoing] = []

    @property
    def dropped(self) -> Counter[str]:
        """How many datagrams were refused, by reason."""
        return self._door.dropped

    # -- what the daemon sets and asks ---------------------------------------------------------

    def set_room(self, state: RoomState) -> None:
        """Say this of a room from now on; a change is said at once.

        Raises:
            ControlError: the name is empty or too long, or there would be more than :data:`MAX_ROOMS`.
        """
        known = self._rooms.get(state.room)
        if known is None:
            if not 1 <= len(state.room) <= wire.MAX_NAME_CHARS:
                raise ControlError(f"the name of a room has 1 to {wire.MAX_NAME_CHARS} characters")
            if len(self._rooms) >= MAX_ROOMS:
                raise ControlError(f"there are {MAX_ROOMS} rooms already, which is the most a host can have")
            self._rooms[state.room] = RoomSchedule(state, len(self._rooms))
        elif known.state != state:
            known.change(state)

    def remove_room(self, room: str) -> None:
        """Say no more of a room; one that is not there is no fault."""
        self._rooms.pop(room, None)
        self._hearing.forget_room(room)

    def set_settings(self, settings: wire.Settings) -> None:
        """Keep a peer's settings and send them until its reports say that it has them.

        Raises:
            ControlError: there are settings of :data:`MAX_PEERS` others already.
        """
        peer_id = settings.peer_id
        if peer_id not in self._settings and len(self._settings) >= MAX_PEERS:
            raise ControlError(f"there are {MAX_PEERS} speakers already; forget some that are gone for good")
        self._settings[peer_id] = settings
        peer = self._peers.get(peer_id)
        if peer is not None and peer.present and peer.report.settings_revision != settings.revision:
            # A slider that is dragged changes them a hundred times a second; 20 of them are sent.
            peer.settings_due_ns = peer.settings_sent_ns + SETTINGS_AFTER_NS[0]
            peer.settings_repeats = 0
            self._unsettled.add(peer_id)

    def peers(self) -> list[PeerInfo]:
        """Return all peers, those that are away, too, in the order in which they first came."""
        return [
            PeerInfo(
                one.peer_id,
                one.epoch,
                one.address,
                one.report,
                HostNs(one.seen_ns),
                "unicast" if one.report.wants_unicast else "multicast",
                one.present,
            )
            for one in self._peers.values()
        ]

    def forget_peer(self, peer_id: bytes) -> None:
        """Forget a peer and its settings; if it is there, its next report makes it a new one."""
        self._peers.pop(peer_id, None)
        self._settings.pop(peer_id, None)
        self._unsettled.discard(peer_id)
        self._hearing.forget_peer(peer_id)

    def lead_duration_ns(self, room: str) -> int:
        """Return how far ahead an instant must lie for every present peer of a room to be in time for it.

        For each peer: what it says that it needs, half its round trip and its jitter for the way, and time
        for a repeat where the link loses much; the longest of them and a margin, from 20 ms to 2 s.
        """
        lead_ns = 0
        for peer in self._present_in(room):
            clock, playback = peer.report.clock, peer.report.playback
            way_ns = clock.round_trip_ns // 2 + clock.jitter_ns + (LOSSY_LEAD_NS if clock.loss > LOSSY else 0)
            lead_ns = max(lead_ns, playback.lead_duration_ns + way_ns)
        return min(max(lead_ns + LEAD_MARGIN_NS, MIN_LEAD_NS), MAX_LEAD_NS)

    def close(self) -> None:
        """Say goodbye with the next datagrams and nothing after it."""
        if self._closed:
            return
        self._closed = True
        self._sweep_ns = 0
        self._rooms.clear()
        self._unsettled.clear()
        self._answers.clear()
        leaving = wire.Bye("the host is stopping")
        unicast = [peer.address for peer in self._peers.values() if peer.present and peer.report.wants_unicast]
        self._last_words = [self._door.seal(leaving, address) for address in [None, *unicast]]

    # -- the five calls ------------------------------------------------------------------------

    def receive_datagram(self, data: bytes, address: Address, now_ns: int, *, multicast: bool = False) -> None:
        """Take a datagram. Never raises: what is no good is counted in :attr:`dropped`.

        Args:
            data: as it came.
            address: of its sender.
            now_ns: when it arrived; as near to the wire as can be known, it is the t2 of a probe.
            multicast: it came to the group; makes no difference to a host.
        """
        found = self._door.open(data)
        if found is None or self._closed:
            return
        opened, message = found
        peer = self._peers.get(opened.sender)
        if peer is not None and peer.present and opened.epoch == peer.epoch:
            peer.seen_ns = max(peer.seen_ns, now_ns)
        if isinstance(message, wire.Report):
            self._receive_report(message, opened, address, now_ns)
        elif isinstance(message, wire.Bye):
            if peer is not None and peer.present:
                # A report that this overtook on the way must not bring it back.
                peer.left_epoch = opened.epoch
                self._lose(peer, message.reason or "it was stopped")
        elif not self._answers.ask(message, opened, address, now_ns):
            self.dropped["too many probes"] += 1

    def datagrams_to_send(self, now_ns: int) -> list[Outgoing]:
        """Return what is to be sent now, replies first: their t3 is ``now_ns``."""
        if self._closed:
            words, self._last_words = self._last_words, []
            return words
        outgoing = self._answers.to_send(now_ns)
        for room in self._rooms.values():
            if now_ns >= room.due_ns:
                outgoing += self._beacons(room, now_ns)
        for peer_id in sorted(self._unsettled):
            peer = self._peers[peer_id]
            if now_ns >= peer.settings_due_ns:
                outgoing.append(self._settings_for(peer, now_ns))
        return outgoing

    def datagram_sent(self, ticket: int, sent_ns: int) -> None:
        """Note when the datagram with this ticket really left; never called when that cannot be known."""
        self._answers.sent(ticket, sent_ns)
        self._hearing.sent(ticket, sent_ns)

    def next_timer_ns(self) -> int | None:
        """Return when :meth:`handle_timer` and :meth:`datagrams_to_send` are due; it may have passed."""
        due_ns = [room.due_ns for room in self._rooms.values()]
        due_ns += [self._peers[peer_id].settings_due_ns for peer_id in self._unsettled]
        if self._sweep_ns:
            due_ns.append(self._sweep_ns)
        return min(due_ns, default=None)

    def handle_timer(self, now_ns: int) -> None:
        """Notice who has fallen silent."""
        if not self._sweep_ns or now_ns < self._sweep_ns:
            return
        present = [peer for peer in self._peers.values() if peer.present]
        for peer in present:
            if now_ns - peer.seen_ns >= SILENCE_NS:
                self._lose(peer, "nothing was heard from it for 5 s")
        self._answers.peers = len(present)
        self._sweep_ns = now_ns + SWEEP_INTERVAL_NS if present else 0

    def next_event(self) -> Event | None:
        """Return what has happened, oldest first, or None when all was said."""
        return self._events.popleft() if self._events else None

    # -- inside --------------------------------------------------------------------------------

    def _present_in(self, room: str) -> Iterable[_Peer]:
        return (peer for peer in self._peers.values() if peer.present and peer.report.room == room)

    def _receive_report(self, report: wire.Report, opened: Opened, address: Address, now_ns: int) -> None:
        peer = self._peers.get(opened.sender)
        if peer is None:
            if not self._make_place():
                self.dropped["too many peers"] += 1
                return
            peer = _Peer(opened.sender, opened.epoch, address, report, now_ns)
            self._peers[opened.sender] = peer
        elif opened.epoch == peer.left_epoch:
            self.dropped["after goodbye"] += 1
            return
        elif opened.epoch == peer.epoch and opened.sequence < peer.sequence:
            self.dropped["overtaken"] += 1
            return
        before = peer.report
        appeared = not peer.present or opened.epoch != peer.epoch
        peer.epoch, peer.address, peer.report, peer.seen_ns = opened.epoch, address, report, now_ns
        peer.present, peer.sequence = True, opened.sequence
        if appeared:
            self._hearing.forget_peer(peer.peer_id)
            self._events.append(PeerAppeared(peer.peer_id, report.name, address))
            self._sweep_ns = self._sweep_ns or now_ns + SWEEP_INTERVAL_NS
        if appeared or before.room != report.room or (report.wants_unicast and not before.wants_unicast):
            room = self._rooms.get(report.room)
            if room is not None:
                room.hasten(now_ns)
        self._check_settings(peer, now_ns)
        self._hearing.take(peer.peer_id, report, now_ns)

    def _check_settings(self, peer: _Peer, now_ns: int) -> None:
        """Send settings again that a report shows to be missing; leave off those that it has."""
        settings = self._settings.get(peer.peer_id)
        if settings is None or peer.report.settings_revision == settings.revision:
            self._unsettled.discard(peer.peer_id)
        elif peer.peer_id not in self._unsettled:
            peer.settings_due_ns = max(now_ns, peer.settings_sent_ns + SETTINGS_AFTER_NS[0])
            peer.settings_repeats = len(SETTINGS_AFTER_NS)
            self._unsettled.add(peer.peer_id)

    def _settings_for(self, peer: _Peer, now_ns: int) -> Outgoing:
        peer.settings_sent_ns = now_ns
        if peer.settings_repeats < len(SETTINGS_AFTER_NS):
            peer.settings_due_ns = now_ns + SETTINGS_AFTER_NS[peer.settings_repeats]
            peer.settings_repeats += 1
        else:
            self._unsettled.discard(peer.peer_id)
        return self._door.seal(self._settings[peer.peer_id], peer.address)

    def _make_place(self) -> bool:
        """Return whether one more peer can be known, having forgotten the one that is away longest if need be."""
        if len(self._peers) < MAX_PEERS:
            return True
        away = [peer for peer in self._peers.values() if not peer.present]
        if not away:
            return False
        del self._peers[min(away, key=lambda peer: peer.seen_ns).peer_id]
        return True

    def _lose(self, peer: _Peer, reason: str) -> None:
        peer.present = False
        self._unsettled.discard(peer.peer_id)
        self._hearing.forget_peer(peer.peer_id)
        self._events.append(PeerLost(peer.peer_id, peer.report.name, reason))

    def _beacons(self, room: RoomSchedule, now_ns: int) -> list[Outgoing]:
        """Return a room's beacon for the group, and for each of its peers that multicast does not reach."""
        state = room.state
        beacon = wire.Beacon(
            state.room,
            state.revision,
            now_ns,
            state.timeline.segments,
            state.volume,
            state.muted,
            self._http_port,
            self._name,
        )
        room.note_sent(now_ns)
        to_group = self._door.seal(beacon, None, self._hearing.send(state.room, now_ns))
        return [to_group, *(self._door.seal(beacon, address) for address in self._by_unicast(state))]

    def _by_unicast(self, state: RoomState) -> list[Address]:
        """Return which of a room's peers get its beacon by unicast as well: who asked for that, and who is behind.

        Wi-Fi holds multicast back for 100 ms and more and does not repeat what is lost; it does neither with
        unicast. So a change goes to each peer, too, until its report confirms it, and while nothing
        changes the traffic does not depend on the number of peers.
        """
        chosen, behind = [], 0
        for peer in self._present_in(state.room):
            if peer.report.wants_unicast:
                chosen.append(peer.address)
            elif peer.report.state_revision != state.revision and behind < MAX_BEHIND_BY_UNICAST:
                chosen.append(peer.address)
                behind += 1
        return chosen
