"""Attackers of a random-fault run: one who hears all and has no key, and an insider who has the room's key.

Owns what they send, whether it is something that must not act, and that nobody gets more bytes out of a node than he
sent. Must not know what acting is: that is the machine's.

What is replayed must not act if the receiver took it before, if it was sent before the receiver began, or if the
receiver knows of a newer start of its sender. A datagram that is new to the receiver is no more than late.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from musicsyncd.protocol.auth import HOST_PURPOSE, HostKeys, Sealer, derive_key

from .chaos_insider import Insider
from .chaos_machines import KEYS
from .chaos_network import Overheard, flipped
from .chaos_plan import Happening
from .network import Address

if TYPE_CHECKING:
    from .chaos_machines import Machine
    from .chaos_world import ChaosWorld

MAX_BURST = 45
_S = 1_000_000_000
_OWN_NET = "203.0.113."


class Attackers:
    """All of them.

    Attributes:
        counts: what they sent, by kind.
    """

    def __init__(self, world: ChaosWorld) -> None:
        self.counts: Counter[str] = Counter()
        self._world = world
        self._sent_bytes: Counter[Address] = Counter()
        self._insider = Insider(KEYS, HostKeys(bytes(range(2, 34))))

    def attack(self, attack: Happening) -> None:
        """Carry out one attack of a plan."""
        dice = self._world.dice(f"attack {attack.number}")
        for data, source, to, harm, record in self._made(attack, dice):
            late_ns = dice.random() * _S / 2
            self._world.after(late_ns, partial(self._strike, attack.kind, data, source, to, harm, record))

    def born(self, machine: Machine) -> None:
        """Give a process that has just begun what was recorded of others."""
        world = self._world
        dice = world.dice(f"born {machine.ident} {world.now_ns}")
        if not world.plan.attacks or dice.random() < 0.4:
            return
        for record in self._recorded(dice, dice.randint(10, 40)):
            late_ns = dice.random() ** 2 * 2 * _S
            source = record.source if dice.random() < 0.5 else _own_address(dice)
            self._world.after(
                late_ns, partial(self._strike, "replay to a new one", record.data, source, machine.address, "", record)
            )

    def reply(self, data: bytes, source: Address, to: Address) -> None:
        """Take what a node sends to an address at which no machine is: an attacker's, or an old one."""
        if to in self._sent_bytes:
            self._sent_bytes[to] -= len(data)
            self.counts["answered bytes"] += len(data)
            self._prove(data, source, to)
            if self._sent_bytes[to] < 0:
                who = self._world.network.station_at(source)
                self._world.judge.found("amplified", who.ident if who else "?", "answers with more than it was sent")

    def _recorded(self, dice: random.Random, count: int) -> list[Overheard]:
        heard = self._world.network.overheard
        return [heard[dice.randrange(len(heard))] for _ in range(count)] if heard else []

    def _made(
        self, attack: Happening, dice: random.Random
    ) -> Iterator[tuple[bytes, Address, Address, str, Overheard | None]]:
        count = 5 + int(attack.amount * (MAX_BURST - 5))
        own = _own_address(dice)
        targets = [one.address for one in self._targets(attack.who)]
        for record in self._recorded(dice, count) if targets else ():
            to = dice.choice(targets)
            if attack.kind.startswith("replay"):
                yield record.data, record.source if "spoofed" in attack.kind else own, to, "", record
            elif attack.kind == "flip":
                yield flipped(record.data, dice.randint(1, 8), dice.randrange), record.source, to, "changed", None
            elif attack.kind == "cut":
                yield record.data[: dice.randrange(len(record.data))], record.source, to, "cut by an attacker", None
            elif attack.kind == "reflect":
                yield record.data, own, record.source, "sent back", None
            elif attack.kind == "forge":
                yield self._forged(dice, record), own, to, "forged", None
            else:
                yield self._from_inside(attack.kind, dice, to), own, to, f"forged by an {attack.kind}", None

    def _forged(self, dice: random.Random, record: Overheard) -> bytes:
        """Return a datagram of somebody without the key."""
        which = dice.randrange(3)
        if which == 0:
            return dice.randbytes(dice.randint(0, 1300))
        if which == 1:
            return Sealer(derive_key(dice.randbytes(32), HOST_PURPOSE), dice.randbytes(8), 9).seal(record.data[29:-16])
        place = dice.randrange(len(record.data) - 16)
        data = record.data[:place] + dice.randbytes(4) + record.data[place + 4 :]
        return data[:-16] + dice.randbytes(16)

    def _from_inside(self, kind: str, dice: random.Random, to: Address) -> bytes:
        host = dice.choice(list(self._world.hosts.values()))
        target = self._world.network.station_at(to)
        assert target is not None
        return self._insider.forged(kind, dice, host.id, host.epoch, target.id, host.clock.local_at(self._world.now_ns))

    def _prove(self, data: bytes, source: Address, to: Address) -> None:
        """Answer who asks the insider for a proof, as far as he can, and go on as if it were one."""
        host = next(iter(self._world.hosts.values()))
        dice = self._world.dice(f"proof {self._world.now_ns}")
        epoch = host.epoch + dice.choice((0, 1, 1000))
        proof = self._insider.answered(data, dice, host.id, epoch)
        if not proof:
            return
        host_ns = host.clock.local_at(self._world.now_ns)
        state = self._insider.forged("insider state", dice, host.id, epoch, host.id, host_ns)
        for number, one in enumerate((proof, state)):
            strike = partial(self._strike, "insider's proof", one, to, source, "a forged proof, or after one", None)
            self._world.after(10**6 * (number + 1), strike)

    def _targets(self, who: str) -> list[Machine]:
        world = self._world
        machines = {**world.hosts, **world.peers}
        return [one for ident, one in machines.items() if one.runs and who in ("", ident)]

    def _strike(
        self, kind: str, data: bytes, source: Address, to: Address, harm: str, record: Overheard | None
    ) -> None:
        target = self._world.network.station_at(to)
        if target is None:
            return
        self.counts[kind] += 1
        if record is not None:
            harm = _harm(target, record)
            self.counts["replays that must not act"] += bool(harm)
        if source[0].startswith(_OWN_NET):
            self._sent_bytes[source] += len(data)
        target.take(data, source, False, harm)


def _harm(target: Machine, record: Overheard) -> str:
    """Return why a recorded datagram must not act; empty where it is only late."""
    if record.of_host == target.is_host or record.is_stranger:
        return "replayed to whom it was never for"
    if record.data in target.had:
        return "replayed"
    if record.true_ns < target.born_ns:
        return "recorded before its receiver began"
    if record.epoch < target.epoch_of(record.sender):
        return "recorded before its sender began anew"
    return ""


def _own_address(dice: random.Random) -> Address:
    return f"{_OWN_NET}{dice.randrange(1, 255)}", dice.randrange(1024, 65536)
