"""What happens in a run of the random-fault simulation: made of a seed, printed, and shrunk when it fails.

Owns which peers there are, what goes wrong when, what people command and what attackers do. Must not know how any of
it is carried out: that is :mod:`.chaos_world`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

SETTLED_S = 7.0
"""Most plans leave so long at the end without new faults, so that the end itself is judged."""

_PEERS = ((2, 30), (3, 26), (4, 16), (5, 9), (6, 6), (8, 6), (12, 4), (20, 3))
_DURATIONS_S = ((20.0, 84), (30.0, 11), (40.0, 5))
_LINKS = (("wired", 55), ("wifi", 30), ("busy", 15))

FAULTS = {
    "loss": 10,
    "storm": 6,
    "doubled": 4,
    "reordered": 4,
    "delayed": 6,
    "cut short": 4,
    "mutated": 6,
    "partition": 10,
    "partition host": 4,
    "deaf": 6,
    "kill host": 8,
    "stop host": 3,
    "kill at save": 10,
    "full disk": 3,
    "reboot host": 5,
    "kill peer": 9,
    "suspend peer": 4,
    "suspend host": 3,
    "slew peer": 3,
    "slew host": 2,
    "move peer": 5,
    "move host": 3,
    "starve peer": 6,
    "starve host": 5,
    "card": 4,
}
"""Kinds and how often each is drawn. What each does is told by the method of its name in :mod:`.chaos_world`."""

COMMANDS = {
    "play": 8,
    "jump": 6,
    "pause": 5,
    "resume": 6,
    "seek": 6,
    "next": 6,
    "previous": 4,
    "stop": 1,
    "add": 12,
    "remove": 5,
    "move": 5,
    "clear": 1,
    "undo": 4,
    "shuffle": 4,
    "repeat": 4,
    "volume": 6,
    "mute": 2,
    "speaker": 8,
    "crossfade": 2,
}
ATTACKS = {
    "replay": 10,
    "replay spoofed": 8,
    "flip": 8,
    "cut": 3,
    "forge": 6,
    "reflect": 4,
    "insider state": 10,
    "insider settings": 6,
    "insider bye": 5,
    "insider proof": 5,
    "insider key": 3,
}


@dataclass(frozen=True)
class PeerSpec:
    """A peer. ``name`` is what it calls itself, ``ident`` what it is; two may have the same name."""

    ident: str
    name: str
    number: int
    link: str
    card: bool


@dataclass(frozen=True)
class Happening:
    """One fault, command or attack.

    Attributes:
        at_s: when it begins, true seconds.
        kind: of its table.
        who: the ident of a peer or host; empty for all.
        for_s: how long it lasts, where it lasts.
        amount: how much, 0…1 of what is possible.
        number: tells it from others; its own dice are made of it.
    """

    at_s: float
    kind: str
    who: str
    for_s: float
    amount: float
    number: int

    def __str__(self) -> str:
        lasts = f" for {self.for_s:.2f} s" if self.for_s else ""
        return f"{self.at_s:6.2f} s  {self.kind} {self.who}{lasts} ({self.amount:.2f})"


@dataclass(frozen=True)
class Plan:
    """All of a run.

    Attributes:
        seed: of all chance while it runs.
        duration_s: true seconds.
        peers: in the order of their start.
        hosts: idents; ``host`` and at times ``second`` with the same key.
        stranger: a host with another key is there, too.
        faults: what goes wrong.
        commands: what people do.
        attacks: what attackers do.
    """

    seed: int
    duration_s: float
    peers: tuple[PeerSpec, ...]
    hosts: tuple[str, ...]
    stranger: bool
    faults: tuple[Happening, ...] = field(default=())
    commands: tuple[Happening, ...] = field(default=())
    attacks: tuple[Happening, ...] = field(default=())

    def __str__(self) -> str:
        peers = ", ".join(f"{one.ident} ({one.name}, {one.link}{', card' if one.card else ''})" for one in self.peers)
        lines = [f"seed {self.seed}: {self.duration_s:g} s, hosts {', '.join(self.hosts)}, peers {peers}"]
        if self.stranger:
            lines.append("  a host with another key")
        for title, happenings in (("faults", self.faults), ("commands", self.commands), ("attacks", self.attacks)):
            lines += [f"  {title}:"] * bool(happenings) + [f"    {one}" for one in happenings]
        return "\n".join(lines)

    def smaller(self) -> Iterator[Plan]:
        """Yield the plans that have one thing less, large things first."""
        for name in ("attacks", "commands", "faults"):
            if getattr(self, name):
                yield replace(self, **{name: ()})
        if self.stranger:
            yield replace(self, stranger=False)
        if len(self.hosts) > 1:
            yield replace(self, hosts=self.hosts[:1])
        for name in ("peers", "faults", "attacks", "commands"):
            items = getattr(self, name)
            if name == "peers" and len(items) <= 1:
                continue
            yield from (replace(self, **{name: (*items[:place], *items[place + 1 :])}) for place in range(len(items)))


def make_plan(seed: int) -> Plan:
    """Return the plan of a seed."""
    dice = random.Random(f"{seed}/plan")
    duration_s = _drawn(dice, _DURATIONS_S)
    cards = dice.random() < 0.03
    count = min(_drawn(dice, _PEERS), 3 if cards else 20)
    twins = dice.random() < 0.15
    peers = tuple(
        PeerSpec(
            f"p{number}", "twin" if twins and number < 2 else f"peer {number}", number, _drawn(dice, _LINKS), cards
        )
        for number in range(count)
    )
    hosts = ("host", "second") if dice.random() < 0.12 else ("host",)
    calm = dice.random() < 0.75
    last_s = duration_s - (SETTLED_S if calm else 1.0)
    idents = [one.ident for one in peers]
    return Plan(
        *(seed, duration_s, peers, hosts, dice.random() < 0.1),
        faults=_faults(dice, last_s, idents, hosts),
        commands=_happenings(dice, COMMANDS, dice.randint(6, 24), 0.4, duration_s - 0.5, hosts),
        attacks=_happenings(dice, ATTACKS, dice.randint(3, 9), 0.5, duration_s - 0.5, [*idents, *hosts, ""]),
    )


def _drawn(dice: random.Random, table: tuple[tuple[object, int], ...]) -> object:
    return dice.choices([value for value, _ in table], [weight for _, weight in table])[0]


def _faults(dice: random.Random, last_s: float, peers: list[str], hosts: tuple[str, ...]) -> tuple[Happening, ...]:
    found = []
    for number in range(dice.choices(range(8), (6, 14, 20, 20, 16, 12, 8, 4))[0]):
        kind = dice.choices(list(FAULTS), list(FAULTS.values()))[0]
        at_s = dice.uniform(1.0, last_s - 1.0)
        most_s = 3.0 if kind.startswith("starve") else 8.0
        for_s = min(dice.uniform(0.05, 1.0) ** 2 * most_s, last_s - at_s)
        if "host" in kind or kind in ("kill at save", "full disk"):
            who = dice.choice(hosts)
        else:
            who = "" if kind in ("storm", "delayed", "mutated") and dice.random() < 0.5 else dice.choice(peers)
        found.append(Happening(at_s, kind, who, for_s, dice.random(), number))
    return tuple(sorted(found, key=lambda one: one.at_s))


def _happenings(
    dice: random.Random, table: dict[str, int], count: int, first_s: float, last_s: float, who: object
) -> tuple[Happening, ...]:
    kinds = dice.choices(list(table), list(table.values()), k=count)
    found = [
        Happening(dice.uniform(first_s, last_s), kind, dice.choice(who), 0.0, dice.random(), number)
        for number, kind in enumerate(kinds)
    ]
    return tuple(sorted(found, key=lambda one: one.at_s))
