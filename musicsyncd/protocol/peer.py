"""The peer's side of the protocol: finding a host, asking it for the time, taking over its state.

Owns which host a peer follows, which state of which room is in force, and what it
reports. Must not know what is played, how the clock is estimated, or of sockets: all
times that are given to it are on the peer's own monotonic clock.

**Five calls**, as the host's (:mod:`musicsyncd.protocol.host`): after any call, ask for the
datagrams, the events and the next timer again.

**Send times come late.** A datagram with a ticket is a probe, whose true time of sending
:meth:`PeerNode.datagram_sent` takes afterwards, if it can be known; a reply's comes with the next
reply (:mod:`musicsyncd.protocol.interleaving`).

**Time lines and clocks belong together.** A time line is in the host's time of one epoch. It is announced
only once the clock knows that epoch, and :attr:`PeerNode.mapping` changes over in the same
instant. Until then a daemon goes on with the old pair: when a host restarts, the music continues.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Hashable
from typing import Protocol

from musicsyncd.clock.exchange import Exchange
from musicsyncd.clock.mapping import ClockMapping
from musicsyncd.errors import ClockError
from musicsyncd.protocol import reporting, wire
from musicsyncd.protocol.auth import Opened, RoomKeys
from musicsyncd.protocol.following import (
    Event,
    FollowedHost,
    HostFound,
    HostLost,
    KeyChanged,
    SettingsChanged,
    StateChanged,
)
from musicsyncd.protocol.hearing import CorrectedClock, Ears
from musicsyncd.protocol.interleaving import Answered
from musicsyncd.protocol.keyring import Keyring
from musicsyncd.protocol.node import MAX_EVENTS, Address, Outgoing
from musicsyncd.protocol.probing import Prober
from musicsyncd.units import NS_PER_S, HostNs, LocalNs

__all__ = ["Event", "HostClock", "HostFound", "HostLost", "KeyChanged", "PeerNode", "SettingsChanged", "StateChanged"]

SILENCE_NS = 5 * NS_PER_S
"""A host answers several probes a second: after five without a word, it is lost."""

UNICAST_AFTER_NS = NS_PER_S
"""Four beacons missed in a row: ask for them by unicast. At 20 % loss, that is one second in 600."""

ADDRESS_TRUST_NS = 2 * NS_PER_S
"""While probes to an address were answered this lately, beacons from others do not change it."""


class HostClock(CorrectedClock, Protocol):
    """What a node asks of :class:`musicsyncd.clock.filter.HostClock`."""

    def observe(self, exchange: Exchange) -> bool:
        """Take four time stamps; False when they are held back."""

    def reset(self, *, another_machine: bool = False) -> None:
        """Forget the offset: another epoch of the host, or a suspend; for another host the skew, too."""


class PeerNode:
    """One peer, without input or output.

    Args:
        keys: what its join code says.
        peer_id: 8 bytes, always the same for one peer.
        epoch: greater than at any earlier start.
        name: for people, 1 to 64 characters.
        clock: estimates the host's time; this node feeds and resets it.
        random: gives numbers from 0 to 1, to spread what peers send.
        version: of the program.
        hosts: addresses to try by unicast, besides the group.
        room: where it belongs until a host says otherwise.
        nonce: gives 8 random bytes a call, which nobody else can know.

    Attributes:
        playback: what the next report says of the sound; a change of its state or fault is reported at once.
        stamps: what the kernel stamps here, for the report.
        mapping: the newest mapping that belongs to the announced state; None until there is one.
    """

    def __init__(
        self,
        keys: RoomKeys,
        peer_id: bytes,
        epoch: int,
        name: str,
        clock: HostClock,
        random: Callable[[], float],
        version: str,
        hosts: tuple[Address, ...] = (),
        room: str = "main",
        *,
        nonce: Callable[[], bytes],
    ) -> None:
        self.playback = wire.PlaybackStats()
        self.stamps = "user"
        self.mapping: ClockMapping | None = None
        self._keyring = Keyring(keys, peer_id, epoch, nonce)
        self._door = self._keyring.door
        self._peer_id = peer_id
        self._name = name
        self._version = version
        self._clock = clock
        self._hosts = hosts
        self._hints: tuple[Address, ...] = ()
        self._room = room
        self._host: FollowedHost | None = None
        self._gone: tuple[bytes, int] | None = None
        self._announced: tuple[bytes, int, str, int] | None = None
        self._settings: tuple[bytes, int, int] | None = None
        self._multicast_ns: int | None = None
        self._prober = Prober(random)
        self._schedule = reporting.ReportSchedule(random)
        self._ears = Ears(clock)
        self._events: deque[Event] = deque(maxlen=MAX_EVENTS)
        self._closed = False
        self._last_words: list[Outgoing] = []

    @property
    def dropped(self) -> Counter[str]:
        """How many datagrams were refused, by reason."""
        return self._door.dropped

    @property
    def host_address(self) -> Address | None:
        """Of the host that is followed; None while there is none."""
        return None if self._host is None or self._host.lost else self._host.address

    @property
    def room(self) -> str:
        """The room whose state is followed."""
        return self._room

    @property
    def host_heard_ns(self) -> int | None:
        """When anything came from the host last, local time; None before the first time."""
        return None if self._host is None else self._host.heard_ns

    @property
    def wants_unicast(self) -> bool:
        """No beacon came by multicast of late."""
        return self._multicast_ns is None

    def clock_stats(self, now_ns: int) -> wire.ClockStats:
        """Return what the clock is worth at a local time."""
        return reporting.clock_stats(self._clock, self._prober.loss(now_ns), self.stamps, now_ns)

    def key_kept(self, keys: RoomKeys) -> None:
        """Note that the keys of :class:`KeyChanged` are kept for the next start: from now on they are spoken under."""
        if self._keyring.keep(keys):
            self._schedule.hasten()

    def try_at(self, hints: tuple[Address, ...]) -> None:
        """Ask for a host at these addresses, too, until it is found; they take the place of those given before."""
        if hints and self._is_searching:
            self._schedule.search()
        self._hints = hints

    def suspended(self, now_ns: int) -> None:
        """Note that this machine slept: its clock stood still, so its offset is another now."""
        self._clock.reset()
        self._ears.clear()
        self.mapping = None
        if self._host is not None:  # Meanwhile it may have gone elsewhere.
            self._host.answered_ns = now_ns - ADDRESS_TRUST_NS - 1
        self._prober.restart(now_ns)

    def close(self) -> None:
        """Say goodbye with the next datagrams and nothing after it."""
        if not self._closed:
            self._closed = True
            self._last_words = [self._door.seal(wire.Bye("it was stopped"), self.host_address)]

    # -- the five calls ------------------------------------------------------------------------

    def receive_datagram(self, data: bytes, address: Address, now_ns: int, *, multicast: bool = False) -> None:
        """Take a datagram. Never raises: what is no good is counted in :attr:`dropped`.

        Args:
            data: as it came.
            address: of its sender.
            now_ns: when it arrived; as near to the wire as can be known, it is the t4 of a probe.
            multicast: it came to the group.
        """
        found = None if self._closed else self._door.open(data, address, now_ns)
        if found is None:
            return
        opened, message = found
        self._keyring.note_heard(opened, message)
        if isinstance(message, wire.Challenge):
            if self._is_searching:
                self._schedule.answered(now_ns)
        elif isinstance(message, wire.Bye):
            self._receive_bye(message, opened)
        elif isinstance(message, wire.ProbeReply):
            self._receive_reply(message, opened, address, now_ns)
        elif not self._follow(opened, address, now_ns):
            return
        elif isinstance(message, wire.Beacon):
            self._receive_beacon(message, now_ns, multicast)
        elif isinstance(message, wire.Settings) and message.peer_id == self._peer_id:
            self._receive_settings(message)
        elif isinstance(message, wire.NewKey):
            self._receive_key(message, opened)
        elif not isinstance(message, wire.Proof):
            self.dropped["not for us"] += 1

    def datagrams_to_send(self, now_ns: int) -> list[Outgoing]:
        """Return what is to be sent now, probes first: their t1 is ``now_ns``."""
        if self._closed:
            words, self._last_words = self._last_words, []
            return words
        outgoing = []
        host = self._host
        if host is not None and now_ns >= self._prober.due_ns:
            probe = self._prober.probe(now_ns)
            outgoing.append(self._door.seal(probe, host.address, probe.number))
        outgoing += self._door.to_send()
        gist = self._gist()
        if now_ns >= self._schedule.due_ns(gist):
            searching = self._is_searching
            self._schedule.note_sent(now_ns, gist, searching=searching)
            outgoing += self._door.seal_all(self._report(now_ns), self._report_to(searching))
        return outgoing

    def datagram_sent(self, ticket: int, sent_ns: int) -> None:
        """Note when the datagram with this ticket really left: the t1 of a probe."""
        self._prober.left(ticket, sent_ns)

    def next_timer_ns(self) -> int | None:
        """Return when :meth:`handle_timer` and :meth:`datagrams_to_send` are due; it may have passed."""
        if self._closed:
            return None
        due_ns = [self._schedule.due_ns(self._gist())]
        if self._host is not None:
            due_ns.append(self._prober.due_ns)
            if not self._host.lost:
                due_ns.append(self._host.heard_ns + SILENCE_NS)
        if self._multicast_ns is not None:
            due_ns.append(self._multicast_ns + UNICAST_AFTER_NS)
        if self._prober.overdue_ns is not None:
            due_ns.append(self._prober.overdue_ns)
        return min(due_ns)

    def handle_timer(self, now_ns: int) -> None:
        """Notice that the host, or multicast, has fallen silent, and what waits in vain for a reply."""
        self._observe(self._prober.overdue(now_ns))
        if self._multicast_ns is not None and now_ns - self._multicast_ns >= UNICAST_AFTER_NS:
            self._multicast_ns = None
        host = self._host
        if host is not None and not host.lost and now_ns - host.heard_ns >= SILENCE_NS:
            self._lose(host, "nothing was heard from the host for 5 s")

    def next_event(self) -> Event | None:
        """Return what has happened, oldest first, or None when all was said."""
        return self._events.popleft() if self._events else None

    # -- the host ------------------------------------------------------------------------------

    @property
    def _is_searching(self) -> bool:
        return self._host is None or self._host.lost

    def _follow(self, opened: Opened, address: Address, now_ns: int) -> bool:
        """Return whether this sender is the host to listen to, having changed to it if need be."""
        address = self._door.proven_address(opened, address, now_ns)
        identity = (opened.sender, opened.epoch)
        host = self._host
        if identity == self._gone:
            self.dropped["after goodbye"] += 1
            return False
        if host is not None and not host.lost and opened.sender != host.host_id:
            self.dropped["another host"] += 1
            return False
        if host is None or host.identity != identity:
            self._take(FollowedHost(*identity, address, now_ns), now_ns)
        elif host.lost:
            host.lost, host.address = False, address
            self._welcome(host, now_ns)
        elif host.address != address and now_ns - host.answered_ns > ADDRESS_TRUST_NS:
            host.address, host.answered_ns = address, now_ns
            self._events.append(HostFound(*identity, address))
        assert self._host is not None
        self._host.heard_ns = max(self._host.heard_ns, now_ns)
        return True

    def _take(self, host: FollowedHost, now_ns: int) -> None:
        """Follow another host, or another epoch of the same."""
        if self._host is not None:
            self._clock.reset(another_machine=self._host.host_id != host.host_id)
        self._ears.clear()
        if self._settings is not None and self._settings[0] != host.host_id:
            self._settings = None
        self._host = host
        self._welcome(host, now_ns)

    def _welcome(self, host: FollowedHost, now_ns: int) -> None:
        # Probes start now; trust the address until they had a chance to be answered.
        host.answered_ns = now_ns
        self._hints = ()
        self._prober.restart(now_ns)
        self._schedule.hasten()
        self._events.append(HostFound(*host.identity, host.address))

    def _receive_bye(self, bye: wire.Bye, opened: Opened) -> None:
        host = self._host
        if host is not None and host.identity == (opened.sender, opened.epoch) and not host.lost:
            # A beacon that this overtook on the way must not bring the host back.
            self._gone = host.identity
            self._lose(host, bye.reason or "the host has left")

    def _lose(self, host: FollowedHost, reason: str) -> None:
        host.lost = True
        self._prober.searching = True
        self._schedule.search()
        self._events.append(HostLost(reason))

    # -- state ---------------------------------------------------------------------------------

    def _receive_beacon(self, beacon: wire.Beacon, now_ns: int, multicast: bool) -> None:
        assert self._host is not None
        if multicast:
            self._multicast_ns = now_ns
            if beacon.room == self._room:
                self._ears.hear(beacon, now_ns)
        try:
            if self._host.learn(beacon, self._room):
                self._announce()
        except ValueError:
            self.dropped["malformed"] += 1

    def _receive_reply(self, reply: wire.ProbeReply, opened: Opened, address: Address, now_ns: int) -> None:
        """Take a reply if it was asked for: until then, as no host signs it, it says not even that a host is there."""
        host = self._host
        is_ours = host is not None and host.identity == (opened.sender, opened.epoch)
        answered = self._prober.answered(reply, now_ns) if is_ours else None
        if host is None or answered is None:
            self.dropped["unexpected reply"] += 1
        elif self._follow(opened, address, now_ns):
            host.answered_ns = now_ns
            self._ears.listen(reply.fellows_heard)
            self._observe(answered)

    def _observe(self, answered: list[Answered]) -> None:
        """Give the clock what was answered, and say what it makes possible."""
        for one in answered:
            try:
                exchange = Exchange(
                    LocalNs(one.sent_local_ns),
                    HostNs(one.received_host_ns),
                    HostNs(one.sent_host_ns),
                    LocalNs(one.received_local_ns),
                )
            except ClockError:
                self.dropped["impossible times"] += 1
            else:
                self._clock.observe(exchange)
        if answered:
            self._ears.correct()
            self._announce()

    def _announce(self) -> None:
        """Say the newest state of the room once the clock knows the host's epoch; take over its mapping."""
        host, mapping = self._host, self._clock.mapping
        if host is None or mapping is None:
            return
        state = host.state_of(self._room)
        if state is not None:
            announced = (*host.identity, state.room, state.revision)
            if announced != self._announced:
                self._announced = announced
                self._events.append(state)
        if self._announced is not None and self._announced[:2] == host.identity:
            self.mapping = mapping

    def _receive_settings(self, settings: wire.Settings) -> None:
        assert self._host is not None
        version = (*self._host.identity, settings.revision)
        if self._settings is not None and version <= self._settings:
            return
        self._settings = version
        self._events.append(SettingsChanged(settings))
        if settings.room != self._room:
            self._room = settings.room
            self._announce()

    def _receive_key(self, message: wire.NewKey, opened: Opened) -> None:
        keys = self._keyring.receive(message, opened)
        if keys is not None:
            self._events.append(KeyChanged(keys))

    # -- reports -------------------------------------------------------------------------------

    def _gist(self) -> Hashable:
        """Return what is reported at once when it changes."""
        return (
            self._room,
            self._settings,
            self._announced,
            self._keyring.has_key,
            self.wants_unicast,
            self.playback.state,
            self.playback.fault,
        )

    def _report(self, now_ns: int) -> wire.Report:
        host, announced = self._host, self._announced
        # What another epoch or another room said is nothing that this host could confirm by.
        if host is None or announced is None or announced[:3] != (*host.identity, self._room):
            announced = None
        # Nor are the settings of another start: a number that was said and could not be kept is given twice.
        settings = self._settings
        if host is None or settings is None or settings[:2] != host.identity:
            settings = None
        return wire.Report(
            name=self._name,
            room=self._room,
            settings_revision=0 if settings is None else settings[2],
            state_revision=0 if announced is None else announced[3],
            wants_unicast=self.wants_unicast,
            version=self._version,
            clock=self.clock_stats(now_ns),
            playback=reporting.fit(self.playback),
            heard=self._ears.take(),
            has_key=self._keyring.has_key,
        )

    def _report_to(self, searching: bool) -> list[Address | None]:
        """Return where reports go: to the host, or while there is none to all who might be it."""
        last = [] if self._host is None else [self._host.address]
        return list(dict.fromkeys([None, *self._hosts, *last, *self._hints])) if searching else list(last)
