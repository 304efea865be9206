"""What must hold in a random-fault run, whatever goes wrong, and the record of what the hosts really said.

Owns the truth (which host said what in which of its starts, and when; what was acknowledged to people) and the
invariants. Must not know how faults are made; it is told since when a machine has had no trouble.

**Heard.** A peer *can hear* a host when both run and the way between them has been open, both ways, for a while:
nothing lost but what fair networks lose. Then it must be on what that host said 2 s ago, or on something newer. On a
rough way (up to 40 % lost, delays of up to 10 s) it has :data:`ROUGH_S`. Where it must first give up another host,
whose silence it notices after 5 s, it has :data:`CHANGE_S`.

**Back.** Of one start of a host, a peer takes over nothing older than what it had of it, and the same once more only
when it comes back from another host.

**In step.** After 5 s of that, what two peers play is apart by no more than the sum of their :data:`BOUNDS_NS`. With a
sound card it is the card's frames that count.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from musicsyncd.protocol.host import RoomState
from musicsyncd.protocol.peer import Event, HostFound, HostLost, SettingsChanged, StateChanged
from musicsyncd.protocol.wire import Settings
from musicsyncd.system.database import SavedPeer

from .chaos_store import Gist

if TYPE_CHECKING:
    from .chaos_host import ChaosHost
    from .chaos_peers import Peer

S = 1_000_000_000
MS = 1_000_000
FRESH_S = 2.0
ROUGH_S = 6.0
CHANGE_S = 8.0
SETTLED_S = 5.0
SETTINGS_S = 3.0
"""Four sendings in 0.35 s, and then again with each report."""

LATEST_S = 12.0
"""A datagram may be under way for 10 s; so much later nothing of a host that is dead is new to anybody."""

BOUNDS_NS = {"wired": 150_000, "wifi": 1_500_000, "busy": 3_000_000}
"""Of one peer's error after 5 s; of a pair it is the sum of both."""

Life = tuple[bytes, int]
"""A host's id and epoch."""


@dataclass
class Said:
    """What one life of a host said.

    Attributes:
        is_stranger: it has another key.
        ended_ns: true time; None while it lives.
        states: of its room, by revision.
        newest: when each revision was first said, in order.
        settings: by peer and revision.
        newest_settings: of each peer, and when they were first said.
        said_goodbye: before it ended.
    """

    is_stranger: bool
    ended_ns: int | None = None
    states: dict[int, RoomState] = field(default_factory=dict)
    newest: list[tuple[int, int]] = field(default_factory=list)
    settings: dict[tuple[bytes, int], Settings] = field(default_factory=dict)
    newest_settings: dict[bytes, tuple[Settings, int]] = field(default_factory=dict)
    said_goodbye: bool = False

    def revision_at(self, true_ns: float) -> int:
        """Return the revision that was newest at an instant; 0 for none."""
        return max((revision for at_ns, revision in self.newest if at_ns <= true_ns), default=0)


@dataclass
class Seen:
    """What one life of a peer followed.

    Attributes:
        host_id: of the host that it follows.
        since_ns: when it began with that host.
        state_of: the id of the host whose state it took over last.
        taken: the settings that it took over last.
        epochs: the newest of each host.
        revisions: the newest of each room.
        settings: the newest revision, and when it was taken over.
    """

    host_id: bytes = b""
    since_ns: int = 0
    state_of: bytes = b""
    taken: Settings | None = None
    epochs: dict[bytes, int] = field(default_factory=dict)
    revisions: dict[tuple[Life, str], int] = field(default_factory=dict)
    settings: dict[Life, tuple[int, int]] = field(default_factory=dict)


@dataclass
class Acknowledged:
    """What people were told is done, of one host.

    Attributes:
        room: of its room; None until anything was acknowledged.
        attempts: saves of rooms that had been tried until then.
        peers: of each speaker, with the count of saves.
    """

    room: Gist | None = None
    attempts: int = 0
    peers: dict[bytes, tuple[SavedPeer, int]] = field(default_factory=dict)


class Judge:
    """Holds a run to what must hold.

    Attributes:
        now_ns: gives the true time.
        findings: what did not hold, at most one of a kind for each machine.
        kinds: of the findings, with the machine.
        worst: the largest error of a pair as a share of what it may be.
        counts: how often each rule was applied, to see that it is.
    """

    def __init__(self, now_ns: Callable[[], int]) -> None:
        self.now_ns = now_ns
        self.findings: list[str] = []
        self.worst = 0.0
        self.counts: dict[str, int] = defaultdict(int)
        self._said: dict[Life, Said] = {}
        self._seen: dict[tuple[str, int], Seen] = defaultdict(Seen)
        self._acknowledged: dict[str, Acknowledged] = defaultdict(Acknowledged)
        self.kinds: set[tuple[str, str]] = set()

    def found(self, kind: str, who: str, line: str) -> None:
        """Note something that must not be."""
        if (kind, who) not in self.kinds:
            self.kinds.add((kind, who))
            self.findings.append(f"at {self.now_ns() / S:.3f} s: {who}: {line}")

    # -- the truth -----------------------------------------------------------------------------

    def born(self, host: ChaosHost) -> None:
        """Note a host's start."""
        self._said[host.id, host.epoch] = Said(host.is_stranger)

    def died(self, host: ChaosHost, *, goodbye: bool = False) -> None:
        """Note its end."""
        life = self._said[host.id, host.epoch]
        life.ended_ns, life.said_goodbye = self.now_ns(), goodbye

    def said(self, host: ChaosHost, state: RoomState) -> None:
        """Note what a host says of its room."""
        life = self._said[host.id, host.epoch]
        known = life.states.setdefault(state.revision, state)
        if known != state:
            self.found("twice", host.ident, f"said two different things as revision {state.revision}")
        if not life.newest or life.newest[-1][1] != state.revision:
            life.newest.append((self.now_ns(), state.revision))

    def set(self, host: ChaosHost, settings: Settings) -> None:
        """Note what a host says to a peer."""
        life = self._said[host.id, host.epoch]
        life.settings[settings.peer_id, settings.revision] = settings
        if life.newest_settings.get(settings.peer_id, (None, 0))[0] != settings:
            life.newest_settings[settings.peer_id] = settings, self.now_ns()

    # -- what peers take over ------------------------------------------------------------------

    def heard(self, peer: Peer, event: Event) -> None:
        """Hold what a peer has taken over to what was said."""
        seen = self._seen[peer.ident, peer.epoch]
        if isinstance(event, StateChanged):
            self._heard_state(peer, event, seen)
        elif isinstance(event, SettingsChanged):
            self._heard_settings(peer, event.settings, seen)
        elif isinstance(event, HostFound):
            self._followed(peer, (event.host_id, event.epoch), seen)
        elif isinstance(event, HostLost):
            self._lost(peer, event)

    def _heard_state(self, peer: Peer, state: StateChanged, seen: Seen) -> None:
        self.counts["state"] += 1
        host_id, epoch, room, revision = peer.node._announced
        life = self._said.get((host_id, epoch))
        said = None if life is None else life.states.get(revision)
        if said is None or (said.timeline, said.volume, said.muted) != (state.timeline, state.volume, state.muted):
            self.found("state", peer.ident, f"took over what nobody said, as epoch {epoch}, revision {revision}")
        before = seen.revisions.get(((host_id, epoch), room), 0)
        again = before > 0 and seen.state_of != host_id
        if revision < (before if again else before + 1):
            self.found("back", peer.ident, f"went back from revision {before} to {revision}")
        seen.revisions[(host_id, epoch), room], seen.state_of = revision, host_id

    def _heard_settings(self, peer: Peer, settings: Settings, seen: Seen) -> None:
        self.counts["settings"] += 1
        life = peer.node._settings[:2]
        said = self._said.get(life)
        if said is None or said.settings.get((settings.peer_id, settings.revision)) != settings:
            self.found("settings", peer.ident, f"took over settings that nobody made: {settings}")
        before, taken_ns = seen.settings.get(life, (0, 0))
        # With another host, a peer forgets which settings it has: it may have those of that one, or none.
        again = before > 0 and taken_ns < seen.since_ns
        if settings.revision < (before if again else before + 1):
            self.found("settings back", peer.ident, f"went back to settings {settings.revision}")
        seen.settings[life], seen.taken = (settings.revision, self.now_ns()), settings

    def _followed(self, peer: Peer, life: Life, seen: Seen) -> None:
        self.counts["followed"] += 1
        if life[0] != seen.host_id:
            seen.host_id, seen.since_ns = life[0], self.now_ns()
        said = self._said.get(life)
        host_id, epoch = life
        if said is None or said.is_stranger:
            self.found("stranger", peer.ident, f"follows a host that is none of its own: epoch {epoch}")
            return
        if epoch < seen.epochs.get(host_id, 0):
            self.found("epoch", peer.ident, f"went back to epoch {epoch} of its host")
        elif epoch > seen.epochs.get(host_id, 0) and said.ended_ns is not None:
            dead_s = (self.now_ns() - said.ended_ns) / S
            if dead_s > LATEST_S or said.ended_ns < peer.born_ns:
                self.found("dead", peer.ident, f"follows epoch {epoch}, which ended {dead_s:.1f} s ago")
        seen.epochs[host_id] = max(epoch, seen.epochs.get(host_id, 0))

    def _lost(self, peer: Peer, event: HostLost) -> None:
        self.counts["lost"] += 1
        host = peer.node._host
        assert host is not None
        if "5 s" not in event.reason and not self._said[host.identity].said_goodbye:
            self.found("goodbye", peer.ident, f"believed a goodbye that nobody said: {event.reason!r}")

    # -- fresh and in step ---------------------------------------------------------------------

    def fresh(self, peer: Peer, hosts: list[ChaosHost], calm_s: dict[str, float], rough: bool) -> None:
        """Hold a peer to being on the newest state.

        Args:
            peer: runs.
            hosts: all with its key.
            calm_s: for how long the way to each has been open, both ways; negative for how long it has been shut.
            rough: much is lost or late on its way.
        """
        allowed_s = ROUGH_S if rough else FRESH_S
        host = peer.node._host
        followed = None if host is None else next((one for one in hosts if one.id == host.host_id), None)
        followed_s = (self.now_ns() - self._seen[peer.ident, peer.epoch].since_ns) / S
        if followed is not None and calm_s[followed.ident] >= 0:
            if min(calm_s[followed.ident], followed_s) >= allowed_s:
                self._newest(peer, followed, allowed_s)
        elif any(
            calm_s[one.ident] >= (allowed_s if host is None else CHANGE_S) for one in hosts if one is not followed
        ):
            self.counts["fresh"] += 1
            if followed is None:
                self.found("alone", peer.ident, "follows nobody, or a stranger")
            elif -calm_s[followed.ident] >= CHANGE_S:
                self.found("clings", peer.ident, "follows a host that is gone, and not the other one")

    def _newest(self, peer: Peer, host: ChaosHost, allowed_s: float) -> None:
        self.counts["fresh"] += 1
        must = self._said[host.id, host.epoch].revision_at(self.now_ns() - allowed_s * S)
        announced = peer.node._announced
        if announced is None or announced[:2] != (host.id, host.epoch) or announced[3] < must:
            has = "nothing" if announced is None else f"epoch {announced[1]}, revision {announced[3]}"
            self.found("late", peer.ident, f"has {has} and not epoch {host.epoch}, revision {must} or newer")

    def known(self, peer: Peer, host: ChaosHost) -> None:
        """Hold a host to knowing a peer that has followed it in calm for some seconds, and to where it is.

        The calm may be older than the following: where the peer was with another host until now, this one hears of it,
        and of where it has moved to meanwhile, only since.
        """
        followed_s = (self.now_ns() - self._seen[peer.ident, peer.epoch].since_ns) / S
        if followed_s < FRESH_S:
            return
        self.counts["known"] += 1
        info = next((one for one in host.node.peers() if one.peer_id == peer.node._peer_id), None)
        if info is None or not info.present:
            self.found("unknown", host.ident, f"does not know that {peer.ident} is there")
        elif info.address != peer.address and followed_s >= SETTLED_S:
            self.found("address", host.ident, f"takes {peer.ident} to be at {info.address}, not {peer.address}")
        settings, said_ns = self._said[host.id, host.epoch].newest_settings.get(peer.id, (None, 0))
        if settings is not None and min((self.now_ns() - said_ns) / S, followed_s) >= SETTINGS_S:
            self.counts["settings known"] += 1
            taken = self._seen[peer.ident, peer.epoch].taken
            if taken != settings:
                self.found("settings late", peer.ident, f"has {taken}, not {settings}")

    def in_step(self, host: ChaosHost, peers: list[Peer]) -> None:
        """Hold peers that follow a host, all in calm for 5 s, to playing the same."""
        errors = [(error_ns, one) for one in peers if (error_ns := one.error_ns(host)) is not None]
        for place, (error_ns, one) in enumerate(errors):
            for other_ns, other in errors[place + 1 :]:
                self.counts["pairs"] += 1
                bound_ns = BOUNDS_NS[one.spec.link] + BOUNDS_NS[other.spec.link]
                apart_ns = abs(error_ns - other_ns)
                self.worst = max(self.worst, apart_ns / bound_ns)
                if apart_ns > bound_ns:
                    line = f"is {apart_ns / 1e3:.0f} µs from {other.ident}, more than {bound_ns / 1e3:.0f}"
                    self.found("apart", one.ident, line)

    # -- what was acknowledged -----------------------------------------------------------------

    def acknowledged(self, host: ChaosHost, gist: Gist, peer: SavedPeer | None) -> None:
        """Note that people were told that a change is done: of a speaker, or else of the room."""
        self.counts["acknowledged"] += 1
        done = self._acknowledged[host.ident]
        if peer is not None:
            done.peers[peer.peer_id] = peer, len(host.store.peer_attempts)
        else:
            done.room, done.attempts = gist, len(host.store.attempts)

    def restarted(self, host: ChaosHost, gist: Gist, peers: dict[bytes, SavedPeer], tried: tuple[int, int]) -> None:
        """Hold a host that has just started to what was acknowledged, or to what was tried to be kept later.

        Args:
            host: that has started.
            gist: of its room as it is now.
            peers: its speakers as they are now.
            tried: how many saves of rooms and of peers had been tried before this start.
        """
        done = self._acknowledged[host.ident]
        if done.room is not None:
            self.counts["restarted"] += 1
            possible = [done.room, *host.store.attempts[done.attempts : tried[0]]]
            if not any(_is_kept(one, gist) for one in possible):
                self.found("change lost", host.ident, f"has {gist} after a restart; acknowledged was {done.room}")
        for peer_id, (peer, attempts) in done.peers.items():
            later = [one for one in host.store.peer_attempts[attempts : tried[1]] if one.peer_id == peer_id]
            if peers.get(peer_id) not in [peer, *later]:
                self.found("speaker lost", host.ident, f"has {peers.get(peer_id)}; acknowledged was {peer}")


def _is_kept(was: Gist, now: Gist) -> bool:
    """Return whether a room is as it was; what played may have ended meanwhile."""
    return now[:-1] == was[:-1] and (now[-1] == was[-1] or (was[-1], now[-1]) == ("playing", "stopped"))
