"""A random-fault run: carries a plan out, and has the judge look at it four times a second.

Owns how each fault and command of :mod:`.chaos_plan` is done to the machines, and since when each machine has had no
trouble. What must hold is :mod:`.chaos_judge`'s; attacks are :mod:`.chaos_attack`'s.
"""

from __future__ import annotations

import gc
import logging
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from types import BuiltinFunctionType, FunctionType, ModuleType

from musicsyncd.errors import MusicSyncError, StaleError
from musicsyncd.protocol.signing import Verifier

from .chaos_attack import Attackers
from .chaos_commands import BY_REVISION, Command, make_command
from .chaos_host import ChaosHost
from .chaos_judge import SETTLED_S, Judge
from .chaos_machines import ROOM, Machine, S, identity
from .chaos_network import ChaosNetwork, Weather
from .chaos_peers import CardPeer, LightPeer, Peer
from .chaos_plan import Happening, Plan
from .machine import MachineClock
from .network import Address
from .world import Stage

HOSTS_AT: dict[str, Address] = {
    "host": ("192.0.2.1", 7783),
    "second": ("192.0.2.2", 7783),
    "stranger": ("192.0.2.3", 7783),
}
MAX_NODE_BYTES = {"host": 2_000_000, "peer": 400_000}
"""Of a node with all that it holds: a few times of what twenty peers and a full clock take."""

_LOOK_NS = S // 4
_ROUGH_LOSS = 0.05


@dataclass(frozen=True)
class Outcome:
    """What came of a plan.

    Attributes:
        findings: what did not hold.
        kinds: of the findings.
        trace: a digest of all datagrams.
        counts: how often each rule was applied, and what was sent.
        worst: the largest error of a pair, as a share of what it may be.
    """

    findings: tuple[str, ...]
    kinds: frozenset[str]
    trace: str
    counts: Counter[str]
    worst: float


class ChaosWorld(Stage):
    """One run.

    Attributes:
        plan: what happens.
        judge: what must hold.
        network: between all.
        hosts, peers: by ident; a peer that is down is not there.
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan.seed)
        self.plan = plan
        self.judge = Judge(lambda: self.now_ns)
        self.network = ChaosNetwork(self.dice("network"), self.after, lambda: self.now_ns)
        self.network.overheard = []
        self.network.cut_off = Counter()
        self.attackers = Attackers(self)
        self.network.replies = self.attackers.reply
        self.hosts: dict[str, ChaosHost] = {}
        self.peers: dict[str, Peer] = {}
        self.strangers: dict[str, ChaosHost] = {}
        self._epochs: Counter[str] = Counter()
        self._moves: Counter[str] = Counter()
        self._clocks: dict[str, MachineClock] = {}
        self._weathers: dict[str, Weather] = {}
        self._troubles: Counter[str] = Counter()
        self._calm_ns: dict[str, int] = {}
        self._shut_ns: dict[str, int] = {}
        self._roughs: Counter[str] = Counter()
        self._smooth_ns: dict[str, int] = {}

    def play(self) -> Outcome:
        """Carry the plan out to its end."""
        logger = logging.getLogger("musicsyncd")
        level = logger.level
        logger.setLevel(logging.CRITICAL)
        try:
            with verified_once():
                return self._play()
        finally:
            logger.setLevel(level)

    def _play(self) -> Outcome:
        for ident in (*self.plan.hosts, *["stranger"] * self.plan.stranger):
            self._start_host(ident)
        for spec in self.plan.peers:
            self.after(self.dice(f"start {spec.ident}").random() * S, partial(self._start_peer, spec.ident))
        for fault in self.plan.faults:
            self.at_s(fault.at_s, partial(self._fault, fault))
        for command in self.plan.commands:
            self.at_s(command.at_s, partial(self._command, command))
        for attack in self.plan.attacks:
            self.at_s(attack.at_s, partial(self.attackers.attack, attack))
        self.after(_LOOK_NS, self._look)
        self.run(self.plan.duration_s)
        self._end()
        counts = Counter(self.judge.counts) + self.attackers.counts
        counts["datagrams"] = len(self.network.overheard)
        kinds = frozenset(kind for kind, _ in self.judge.kinds)
        return Outcome(tuple(self.judge.findings), kinds, self.trace, counts, self.judge.worst)

    # -- what machines tell --------------------------------------------------------------------

    def acted(self, machine: Machine, harm: str, before: object, after: object, data: bytes) -> None:
        """Note that something acted that must not."""
        changed = [f"{a!r} → {b!r}" for a, b in zip(before, after, strict=True) if a != b]
        self.judge.found("acted", machine.ident, f"acted on a datagram that was {harm}: {'; '.join(changed)[:600]}")

    def found(self, line: str) -> None:
        """Note a finding of a machine."""
        self.judge.found("raised", line.split()[0], line)

    def killed(self, machine: Machine) -> None:
        """The process was killed while it saved; it is started again a while later."""
        down_s = self.dice(f"killed {machine.ident} {self.now_ns}").uniform(0.3, 4.0)
        self._kill(machine.ident, down_s)

    # -- trouble -------------------------------------------------------------------------------

    def trouble(self, ident: str, duration_s: float, *, rough: bool = False) -> None:
        """Note that nothing is expected of a machine for a while, or where it is rough, not much."""
        counter, since = (self._roughs, self._smooth_ns) if rough else (self._troubles, self._calm_ns)
        if not counter[ident]:
            self._shut_ns[ident] = self.now_ns
        counter[ident] += 1

        def end() -> None:
            counter[ident] -= 1
            since[ident] = self.now_ns

        self.after(duration_s * S, end)

    def _calm_s(self, *idents: str) -> float:
        """Return for how long none of them has had trouble; negative for how long one has."""
        troubled = [self._shut_ns[ident] for ident in idents if self._troubles[ident]]
        if troubled:
            return min(min(troubled) - self.now_ns, -1) / S
        return (self.now_ns - max(self._calm_ns.get(ident, 0) for ident in idents)) / S

    def _smooth_s(self, *idents: str) -> float:
        if any(self._roughs[ident] for ident in idents):
            return 0.0
        return (self.now_ns - max(self._smooth_ns.get(ident, 0) for ident in idents)) / S

    # -- machines ------------------------------------------------------------------------------

    def _clock(self, ident: str) -> MachineClock:
        if ident not in self._clocks:
            dice = self.dice(f"clock {ident}")
            offset_ns, skew_ppm = dice.randrange(10**12, 2 * 10**12), dice.uniform(-60, 60)
            self._clocks[ident] = MachineClock(dice, offset_ns=offset_ns, skew_ppm=skew_ppm, walk_ppm=0.01)
        return self._clocks[ident]

    def _start_host(self, ident: str) -> None:
        host = ChaosHost(self, ident, HOSTS_AT[ident], self._clock(ident))
        (self.strangers if host.is_stranger else self.hosts)[ident] = host
        self._calm_ns[ident] = self.now_ns
        host.begin()
        first = ["7", "2", "5", "8"]
        host.guarded(partial(host.carry_out, lambda control: control.queues.add(ROOM, first, next_=False)))
        host.guarded(partial(host.carry_out, lambda control: control.play(ROOM, [])))

    def _start_peer(self, ident: str) -> None:
        spec = next(one for one in self.plan.peers if one.ident == ident)
        self._epochs[ident] += 1
        make = CardPeer if spec.card else LightPeer
        peer = make(self, spec, self._epochs[ident], self._clock(ident))
        peer.weather = self._weathers.setdefault(ident, Weather())
        self.peers[ident] = peer
        self._calm_ns[ident] = self.now_ns
        self.attackers.born(peer)

    def machine(self, ident: str) -> Machine | None:
        """Return a machine that is on and awake; None for any other."""
        found = self.hosts.get(ident) or self.peers.get(ident)
        return found if found is not None and found.runs else None

    def _kill(self, ident: str, down_s: float, *, goodbye: bool = False, reboot: bool = False) -> None:
        machine = self.hosts.get(ident) or self.peers[ident]
        self.trouble(ident, down_s)
        machine.stop()
        if isinstance(machine, ChaosHost):
            self.judge.died(machine, goodbye=goodbye)
            self.after(down_s * S, partial(self._restart_host, machine, reboot))
        else:
            del self.peers[ident]
            self.after(down_s * S, partial(self._start_peer, ident))

    def _restart_host(self, host: ChaosHost, reboot: bool) -> None:
        if reboot:
            dice = self.dice(f"clock {host.ident} {host.epoch}")
            # It has the crystal that it had, which has cooled down a little.
            skew_ppm = host.clock.skew_ppm_at(self.now_ns) + dice.gauss(0.0, 2.0)
            host.clock = MachineClock(dice, offset_ns=10 * S, skew_ppm=skew_ppm, walk_ppm=0.01)
            host.boots += 1
        host.begin()
        self.attackers.born(host)

    # -- faults --------------------------------------------------------------------------------

    def _fault(self, fault: Happening) -> None:
        idents = [fault.who] if fault.who else [one.ident for one in self.plan.peers]
        for ident in idents:
            if fault.kind in _WEATHERS:
                self._spoil(ident, fault)
            elif self.machine(ident) is not None:
                _DONE[fault.kind](self, ident, fault)
                self.judge.counts[fault.kind] += 1

    def _spoil(self, ident: str, fault: Happening) -> None:
        weather = _WEATHERS[fault.kind](fault.amount)
        here = self._weathers.setdefault(ident, Weather())
        here.add(weather)
        self.after(fault.for_s * S, partial(here.add, weather, -1))
        if weather.loss + weather.delayed + weather.mutated + weather.cut > _ROUGH_LOSS or weather.delayed:
            self.trouble(ident, fault.for_s, rough=True)
        self.judge.counts[fault.kind] += 1

    def _cut_off(self, ident: str, fault: Happening) -> None:
        machine = self.machine(ident)
        self.trouble(ident, fault.for_s)
        self.network.cut_off[machine.address] += 1
        self.after(fault.for_s * S, partial(self.network.cut_off.subtract, [machine.address]))

    def _deafen(self, ident: str, fault: Happening) -> None:
        address = self.peers[ident].address
        self.network.deaf.add(address)
        self.after(fault.for_s * S, partial(self.network.deaf.discard, address))

    def _stop_host(self, ident: str, fault: Happening) -> None:
        host = self.hosts[ident]
        host.node.close()
        host.turn()
        self._kill(ident, fault.for_s, goodbye=True)

    def _suspend(self, ident: str, fault: Happening) -> None:
        self.trouble(ident, fault.for_s)
        self.machine(ident).sleep(fault.for_s)

    def _starve(self, ident: str, fault: Happening) -> None:
        duration_s = 1.0 + 2.0 * fault.amount
        self.trouble(ident, duration_s)
        self.machine(ident).starve(duration_s)

    def _slew(self, ident: str, fault: Happening) -> None:
        self.trouble(ident, fault.for_s, rough=True)
        self.machine(ident).clock.slew(self.now_ns, fault.for_s * S, 1000 * fault.amount - 500)

    def _move(self, ident: str, fault: Happening) -> None:
        machine = self.machine(ident)
        self._moves[ident] += 1
        self.network.detach(machine)
        ip, port = machine.address
        first, second, _, last = ip.split(".")
        machine.address = f"{first}.{second}.{150 + self._moves[ident]}.{last}", port
        self.network.attach(machine)
        self.trouble(ident, 3.0 if ident in self.hosts else 0.0)
        if ident in self.peers:
            self.network.strangers.add(machine.address)

    def _lose_card(self, ident: str, fault: Happening) -> None:
        peer = self.peers[ident]
        peer.lose_card(fault.for_s)
        if isinstance(peer, CardPeer):
            self.trouble(ident, fault.for_s, rough=True)

    def _arm(self, ident: str, fault: Happening) -> None:
        self.hosts[ident].store.kill = "before" if fault.amount < 0.5 else "after"

    def _fill(self, ident: str, fault: Happening) -> None:
        store = self.hosts[ident].store
        store.full = True
        self.after(fault.for_s * S, partial(setattr, store, "full", False))

    # -- commands ------------------------------------------------------------------------------

    def _command(self, command: Happening) -> None:
        """Look at the queue, and command something of it, at once or a moment later."""
        host = self.hosts[command.who] if command.who in self.hosts else next(iter(self.hosts.values()))
        dice = self.dice(f"command {command.number}")
        seen = (0, 0)
        if host.runs and host.control is not None:
            queue = host.control.room(ROOM).queue
            seen = (queue.revision, len(queue))
        speaker = identity(dice.choice(self.plan.peers).ident)
        what = make_command(command.kind, dice, seen, speaker.hex())
        late_s = dice.choice((0.0, 0.0, 0.05, 0.4, 1.5))
        self.after(late_s * S, partial(self._carry_out, host, command.kind, seen[0], what, speaker))

    def _carry_out(self, host: ChaosHost, kind: str, seen: int, what: Command, speaker: bytes) -> None:
        if host.runs and host.control is not None:
            host.guarded(partial(self._try, host, kind, seen, what, speaker))

    def _try(self, host: ChaosHost, kind: str, seen: int, what: Command, speaker: bytes) -> None:
        control = host.control
        assert control is not None
        revision = control.room(ROOM).queue.revision
        stale = kind in BY_REVISION and seen != revision
        try:
            host.carry_out(what)
        except StaleError:
            if not stale:
                self.judge.found("refused", host.ident, f"refused {kind} at revision {seen} as stale")
        except MusicSyncError:
            pass
        else:
            if stale:
                self.judge.found("stale", host.ident, f"did {kind} of revision {seen} at revision {revision}")
            if not control.unsaved:
                saved = next((one for one, _ in control.speakers.all() if one.peer_id == speaker), None)
                self.judge.acknowledged(host, host.gist(), saved if kind == "speaker" else None)
            return
        self.judge.counts["refused"] += 1
        if control.room(ROOM).queue.revision != revision:
            self.judge.found("half", host.ident, f"refused {kind} and did it nevertheless")

    # -- looking -------------------------------------------------------------------------------

    def _look(self) -> None:
        self.after(_LOOK_NS, self._look)
        hosts = list(self.hosts.values())
        settled: dict[str, list[Peer]] = {one.ident: [] for one in hosts}
        for ident, peer in self.peers.items():
            if not peer.runs:
                continue
            calm_s = {one.ident: self._calm_s(ident, one.ident) for one in hosts}
            self.judge.fresh(peer, hosts, calm_s, self._smooth_s(ident, *self.hosts) < 2)
            followed = None if peer.node._host is None else peer.node._host.host_id
            for host in hosts:
                if host.id != followed or not host.runs:
                    continue
                smooth_s = min(calm_s[host.ident], self._smooth_s(ident, host.ident))
                announced = peer.node._announced
                if smooth_s >= SETTLED_S and announced is not None and announced[:2] == (host.id, host.epoch):
                    settled[host.ident].append(peer)
                    if self.now_ns % S == 0:
                        self.judge.known(peer, host)
        for host in hosts:
            if len(settled[host.ident]) > 1:
                self.judge.in_step(host, settled[host.ident])

    def _end(self) -> None:
        for machine in (*self.hosts.values(), *self.peers.values()):
            if self.seed % 8 and machine.ident not in ("host",):
                continue
            kind = "host" if machine.ident in self.hosts else "peer"
            size_bytes = size_of(machine.node)
            self.judge.counts[f"{kind} bytes"] = max(self.judge.counts[f"{kind} bytes"], size_bytes)
            if size_bytes > MAX_NODE_BYTES[kind]:
                self.judge.found("memory", machine.ident, f"its node holds {size_bytes} bytes")


@contextmanager
def verified_once() -> Iterator[None]:
    """Verify a signature for all peers at once: with twenty of them it would be most of a run."""
    verify, known = Verifier.verify, {}

    def verify_once(self: Verifier, signature: bytes, data: bytes) -> bool:
        asked = (self._host_mark, self._key is None, signature, data)
        if asked not in known:
            known[asked] = verify(self, signature, data)
        return known[asked]

    Verifier.verify = verify_once
    try:
        yield
    finally:
        Verifier.verify = verify


def size_of(thing: object) -> int:
    """Return the bytes of something with all that it alone can reach of plain things."""
    skipped = (type, ModuleType, FunctionType, BuiltinFunctionType, Machine, Stage, Judge)
    seen: set[int] = set()
    total_bytes = 0
    waiting = [thing]
    while waiting:
        one = waiting.pop()
        if id(one) in seen or isinstance(one, skipped):
            continue
        seen.add(id(one))
        total_bytes += sys.getsizeof(one)
        waiting += gc.get_referents(one)
    return total_bytes


_WEATHERS: dict[str, Callable[[float], Weather]] = {
    "loss": lambda amount: Weather(loss=0.4 * amount),
    "storm": lambda amount: Weather(0.3 * amount, 0.3, 0.3, 0.05, 0.05, 0.1 * amount),
    "doubled": lambda amount: Weather(doubled=0.5 * amount),
    "reordered": lambda amount: Weather(reordered=0.5 * amount),
    "delayed": lambda amount: Weather(delayed=0.3 * amount),
    "cut short": lambda amount: Weather(cut=0.3 * amount),
    "mutated": lambda amount: Weather(mutated=0.4 * amount),
}
_DONE: dict[str, Callable[[ChaosWorld, str, Happening], None]] = {
    "partition": ChaosWorld._cut_off,
    "partition host": ChaosWorld._cut_off,
    "deaf": ChaosWorld._deafen,
    "kill host": lambda world, ident, fault: world._kill(ident, fault.for_s),
    "stop host": ChaosWorld._stop_host,
    "kill at save": ChaosWorld._arm,
    "full disk": ChaosWorld._fill,
    "reboot host": lambda world, ident, fault: world._kill(ident, 0.5 + fault.for_s, reboot=True),
    "kill peer": lambda world, ident, fault: world._kill(ident, fault.for_s),
    "suspend peer": ChaosWorld._suspend,
    "suspend host": ChaosWorld._suspend,
    "slew peer": ChaosWorld._slew,
    "slew host": ChaosWorld._slew,
    "move peer": ChaosWorld._move,
    "move host": ChaosWorld._move,
    "starve peer": ChaosWorld._starve,
    "starve host": ChaosWorld._starve,
    "card": ChaosWorld._lose_card,
}
