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
from collections.abc import Callable, Iterable
from itertools import count

from musicsyncd.errors import ControlError
from musicsyncd.protocol import wire
from musicsyncd.protocol.answering import Answers
from musicsyncd.protocol.auth import HostKeys, Opened
from musicsyncd.protocol.door import host_door, host_lock
from musicsyncd.protocol.hearing import Hearing
from musicsyncd.protocol.insisting import Insisting
from musicsyncd.protocol.knowing import Event, KnownPeer, PeerAppeared, PeerInfo, PeerLost, Reach, RotationDone
from musicsyncd.protocol.node import MAX_EVENTS, Address, Outgoing
from musicsyncd.protocol.others import OtherHost, Others
from musicsyncd.protocol.rooms import RoomSchedule, RoomState
from musicsyncd.protocol.rotation import Rotation, RotationProgress
from musicsyncd.units import NS_PER_MS, NS_PER_S

__all__ = ["Event", "HostNode", "PeerAppeared", "PeerInfo", "PeerLost", "Reach", "RoomState", "RotationDone"]

SILENCE_NS = 5 * NS_PER_S
"""A peer reports every second and probes more often: after five without a word, it is away."""

SWEEP_INTERVAL_NS = 250 * NS_PER_MS

MAX_ROOMS = 64
MAX_PEERS = 1024
MAX_HOST_NAME_BYTES = 64
MAX_ROOM_NAME_BYTES = 192
"""64 characters of any script but pictures. With both names that long, eight segments still fit a datagram (tested)."""

MAX_BEHIND_BY_UNICAST = 64
"""Peers that get a change by unicast at a time: 20 ms of a Wi-Fi's air. The others follow as these confirm."""

MIN_LEAD_NS = 20 * NS_PER_MS
MAX_LEAD_NS = 2 * NS_PER_S
LEAD_MARGIN_NS = 5 * NS_PER_MS
LOSSY = 0.02
LOSSY_LEAD_NS = 60 * NS_PER_MS
"""A link that loses more than 1 in 50 is given time for the second repeat."""


class HostNode:
    """One host, without input or output.

    Args:
        keys: of all its rooms.
        host_id: 8 bytes, always the same for one host.
        epoch: greater than at any earlier start.
        name: for people; cut to 64 bytes.
        http_port: where media and control are served; also the UDP port that it and all hosts of its LAN send from.
        nonce: gives 8 random bytes a call, which nobody else can know.

    Attributes:
        stamps: what the kernel stamps here, as :class:`~.wire.ClockStats` has it.
    """

    def __init__(
        self, keys: HostKeys, host_id: bytes, epoch: int, name: str, http_port: int, *, nonce: Callable[[], bytes]
    ) -> None:
        self.stamps = "user"
        self._keys = keys
        self._host_id = host_id
        self._epoch = epoch
        self._nonce = nonce
        self._numbers = count(1)
        self._door = host_door(host_lock(keys, host_id, epoch, self._numbers), nonce)
        self._rotation: Rotation | None = None
        self._name = name.encode()[:MAX_HOST_NAME_BYTES].decode(errors="ignore") or "host"
        self._http_port = http_port
        self._rooms: dict[str, RoomSchedule] = {}
        self._peers: dict[bytes, KnownPeer] = {}
        self._settings: dict[bytes, wire.Settings] = {}
        self._settling = Insisting()
        tickets = count(1)
        self._hearing = Hearing(tickets)
        self._answers = Answers(self._door, http_port, self._name, tickets, self._hearing.fellows_heard)
        self._others = Others(host_id, http_port, self._door.open_fellow)
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
            if not 1 <= len(state.room) <= wire.MAX_NAME_CHARS or len(state.room.encode()) > MAX_ROOM_NAME_BYTES:
                raise ControlError(
                    f"the name of a room has 1 to {wire.MAX_NAME_CHARS} characters and at most "
                    f"{MAX_ROOM_NAME_BYTES} bytes: choose a shorter one"
                )
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
            self._settling.begin(peer_id)

    def begin_rotation(self, new: HostKeys) -> None:
        """Change the key of all rooms without a gap; :class:`RotationDone` says when it is done.

        Raises:
            ControlError: it is being changed already.
        """
        if self._rotation is not None:
            raise ControlError("the room's key is being changed already: wait a minute")
        self._rotation = Rotation(self._keys, new, self._nonce)
        self._door.add(host_lock(new, self._host_id, self._epoch, self._numbers), beside=self._door.key_id)

    @property
    def rotation(self) -> RotationProgress | None:
        """How far the change of the key has come; None while it is not being changed."""
        if self._rotation is None:
            return None
        present = self._keys_of_present()
        have = sum(has_key == self._rotation.new_id for has_key in present.values())
        return RotationProgress(have, len(present), self._rotation.switched)

    def peers(self) -> list[PeerInfo]:
        """Return all peers, those that are away, too, in the order in which they first came."""
        return [peer.info for peer in self._peers.values()]

    def others(self, now_ns: int) -> tuple[OtherHost, ...]:
        """Return the other hosts that were heard in the group in the ten seconds before a time of this one's clock."""
        return self._others.at(now_ns)

    def forget_peer(self, peer_id: bytes) -> None:
        """Forget a peer and its settings; if it is there, its next report makes it a new one."""
        self._peers.pop(peer_id, None)
        self._settings.pop(peer_id, None)
        self._forget(peer_id)

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
        self._settling.clear()
        self._rotation = None
        self._answers.clear()
        leaving = wire.Bye("the host is stopping")
        unicast = [peer.address for peer in self._peers.values() if peer.present and peer.report.wants_unicast]
        self._last_words = self._door.seal_all(leaving, [None, *unicast])

    # -- the five calls ------------------------------------------------------------------------

    def receive_datagram(self, data: bytes, address: Address, now_ns: int, *, multicast: bool = False) -> None:
        """Take a datagram. Never raises: what is no good is counted in :attr:`dropped`.

        Args:
            data: as it came.
            address: of its sender.
            now_ns: when it arrived; as near to the wire as can be known, it is the t2 of a probe.
            multicast: it came to the group, as what other hosts say does.
        """
        if self._closed:
            return
        found = self._door.open(data, address, now_ns)
        if found is None:
            if multicast and self._door.refused == "own kind":
                self._others.hear_fellow(data, address, now_ns)
            elif multicast and self._door.refused == "key":
                self._others.hear_stranger(data, address, now_ns)
            return
        opened, message = found
        peer = self._peers.get(opened.sender)
        known = peer is not None and peer.present and opened.epoch == peer.epoch
        if isinstance(message, wire.Challenge):
            if peer is not None and known:
                # It is proven to us, and we are to be to it: then it wants to hear what there is.
                self._hasten(peer.report.room, now_ns)
            return
        if peer is not None and known and not isinstance(message, wire.Hello):
            peer.seen_ns = max(peer.seen_ns, now_ns)
        if isinstance(message, wire.Report):
            self._receive_report(message, opened, address, now_ns)
        elif isinstance(message, wire.Bye):
            if peer is not None and peer.present:
                # A report that this overtook on the way must not bring it back.
                peer.left_epoch = opened.epoch
                self._lose(peer, message.reason or "it was stopped")
        elif not isinstance(message, wire.Proof) and not self._answers.ask(message, opened, address, now_ns):
            self.dropped["too many probes"] += 1

    def datagrams_to_send(self, now_ns: int) -> list[Outgoing]:
        """Return what is to be sent now, replies first: their t3 is ``now_ns``."""
        if self._closed:
            words, self._last_words = self._last_words, []
            return words
        outgoing = self._answers.to_send(now_ns) + self._door.to_send()
        if self._rotation is not None:
            outgoing += self._rotate(self._rotation, now_ns)
        for room in self._rooms.values():
            if now_ns >= room.due_ns:
                outgoing += self._beacons(room, now_ns)
        for peer_id in self._settling.due(now_ns):
            outgoing.append(self._door.seal(self._settings[peer_id], self._peers[peer_id].address))
        return outgoing

    def datagram_sent(self, ticket: int, sent_ns: int) -> None:
        """Note when the datagram with this ticket really left; never called when that cannot be known."""
        self._answers.sent(ticket, sent_ns)
        self._hearing.sent(ticket, sent_ns)

    def next_timer_ns(self) -> int | None:
        """Return when :meth:`handle_timer` and :meth:`datagrams_to_send` are due; it may have passed."""
        due_ns = [room.due_ns for room in self._rooms.values()]
        if self._settling.next_ns is not None:
            due_ns.append(self._settling.next_ns)
        if self._rotation is not None:
            due_ns.append(self._rotation.next_ns)
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

    def _present_in(self, room: str) -> Iterable[KnownPeer]:
        return (peer for peer in self._peers.values() if peer.present and peer.report.room == room)

    def _receive_report(self, report: wire.Report, opened: Opened, address: Address, now_ns: int) -> None:
        address = self._door.proven_address(opened, address, now_ns)
        peer = self._peers.get(opened.sender)
        if peer is None:
            if not self._make_place():
                self.dropped["too many peers"] += 1
                return
            peer = KnownPeer(opened.sender, opened.epoch, address, report, now_ns)
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
            self._hasten(report.room, now_ns)
        self._check_settings(peer, now_ns)
        if self._rotation is not None:
            self._rotation.note_report(peer.peer_id, report.has_key, now_ns)
        self._hearing.take(peer.peer_id, report, now_ns)

    def _hasten(self, room: str, now_ns: int) -> None:
        if room in self._rooms:
            self._rooms[room].hasten(now_ns)

    def _check_settings(self, peer: KnownPeer, now_ns: int) -> None:
        """Send settings again that a report shows to be missing; leave off those that it has."""
        settings = self._settings.get(peer.peer_id)
        if settings is None or peer.report.settings_revision == settings.revision:
            self._settling.settle(peer.peer_id)
        else:
            self._settling.remind(peer.peer_id, now_ns)

    def _keys_of_present(self) -> dict[bytes, bytes]:
        return {peer.peer_id: peer.report.has_key for peer in self._peers.values() if peer.present}

    def _rotate(self, rotation: Rotation, now_ns: int) -> list[Outgoing]:
        """Go on with a change of the key and return what is to be said of it."""
        present = self._keys_of_present()
        if rotation.step(present, now_ns):
            self._door.keep_only(rotation.new_id)
            self._keys, self._rotation = rotation.new, None
            without = tuple(peer_id for peer_id, has_key in present.items() if has_key != rotation.new_id)
            self._events.append(RotationDone(rotation.new, without))
            return []
        if rotation.switched:
            self._door.seal_under(rotation.new_id)
        told = [self._peers[peer_id].address for peer_id in rotation.telling.due(now_ns)]
        # Always under the old key: who has the new one needs to hear nothing of it.
        return self._door.seal_all(rotation.message, told, key=rotation.old_id) if told else []

    def _make_place(self) -> bool:
        """Return whether one more peer can be known, having forgotten the one that is away longest if need be."""
        if len(self._peers) < MAX_PEERS:
            return True
        away = [peer for peer in self._peers.values() if not peer.present]
        if not away:
            return False
        gone = min(away, key=lambda peer: peer.seen_ns).peer_id
        del self._peers[gone]
        self._forget(gone)
        return True

    def _forget(self, peer_id: bytes) -> None:
        self._settling.forget(peer_id)
        if self._rotation is not None:
            self._rotation.telling.forget(peer_id)
        self._hearing.forget_peer(peer_id)

    def _lose(self, peer: KnownPeer, reason: str) -> None:
        peer.present = False
        self._settling.settle(peer.peer_id)
        if self._rotation is not None:
            self._rotation.telling.settle(peer.peer_id)
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
        addresses = [None, *self._by_unicast(state)]
        return self._door.seal_all(
            wire.beacon_of_full_length(beacon), addresses, self._hearing.send(state.room, now_ns)
        )

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
