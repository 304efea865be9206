"""What is to happen to a room in a soak: faults and commands, from a seed.

Plain values; knows nothing of how it is done. Machine 0 is the host's, the others are the speakers'. Two things never
happen at one time, so that what is heard after one of them is that one's doing.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from soak_report import EVERYWHERE

HOST = 0
CARDS, SPEAKERS = (1, 2), (1, 2, 3)
RESTARTED = (2, 3)
"""The first speaker lives from the beginning to the end."""

START_S = 20.0
"""Of a run in which speakers may still be silent."""

SETTLES_S = 5.0
"""For which a fault of the network is an excuse after its end."""

RESTARTS_S = 10.0
"""The same of a process that was started again."""

COMMAND_BEFORE_S, COMMAND_SETTLES_S = 0.3, 3.0

NETWORK_FAULTS = ("cut", "cable")
SPEAKER_FAULTS = ("kill-speaker", "stop-speaker")
HOST_FAULTS = ("kill-host", "outage", "stop-host")
LASTS_S = {
    "cut": (5.0, 30.0),
    "cable": (10.0, 60.0),
    "kill-speaker": (1.0, 5.0),
    "stop-speaker": (1.0, 10.0),
    "kill-host": (1.0, 5.0),
    "outage": (60.0, 180.0),
    "stop-host": (30.0, 120.0),
}
HOST_ALONE = (0.45, 0.9)
"""The part of a long run in which the host is let alone."""

LONG_S = 1800.0

COMMANDS = ("pause", "seek", "next", "previous", "volume", "speaker volume")
LEAST_VOLUME = 70
"""So that what is quiet is not taken for silence."""


@dataclass(frozen=True, slots=True)
class Happening:
    """One thing that is done to the room.

    Attributes:
        at_s: when, after the beginning.
        what: a fault, or a command.
        machine: to which, or :data:`EVERYWHERE`.
        lasts_s: until it is undone; 0 where nothing has to be.
        value: of a command.
    """

    at_s: float
    what: str
    machine: int
    lasts_s: float
    value: str = ""

    @property
    def settles_s(self) -> float:
        """For how long after its end it is an excuse."""
        if self.what in COMMANDS:
            return COMMAND_SETTLES_S
        return SETTLES_S if self.what in NETWORK_FAULTS else RESTARTS_S


# -- what is to happen ------------------------------------------------------------------------------


def plan(seconds: float, seed: int) -> list[Happening]:
    """Return what is to happen in a run, in order and never two things at a time.

    Args:
        seconds: how long the run is. In a short one faults are shorter and come sooner.
        seed: the same one gives the same plan.
    """
    dice = random.Random(seed)
    found: list[Happening] = []
    bag: list[str] = []
    now_s = min(60.0, max(START_S + 5.0, seconds / 6))
    longest_s, calm_s = max(15.0, seconds / 20), min(60.0, max(20.0, seconds / 30))
    while True:
        if not bag:
            bag = [*NETWORK_FAULTS, *SPEAKER_FAULTS, *HOST_FAULTS]
            dice.shuffle(bag)
        fault = _fault(dice, bag.pop(), now_s, longest_s)
        after_s = now_s + fault.lasts_s + fault.settles_s
        if after_s + RESTARTS_S > seconds:
            return found
        if fault.what in HOST_FAULTS and seconds >= LONG_S and _let_alone(now_s / seconds, after_s / seconds):
            continue
        found.append(fault)
        now_s = after_s + dice.uniform(0.4, 1.0) * calm_s
        found += _commands(dice, after_s + 2.0, now_s - COMMAND_SETTLES_S)


def _let_alone(begin: float, end: float) -> bool:
    return begin < HOST_ALONE[1] and end > HOST_ALONE[0]


def _fault(dice: random.Random, what: str, at_s: float, longest_s: float) -> Happening:
    least_s, most_s = LASTS_S[what]
    lasts_s = dice.uniform(min(least_s, longest_s), min(most_s, longest_s))
    machine = EVERYWHERE
    if what == "cable":
        machine = dice.choice((HOST, *SPEAKERS))
    elif what in SPEAKER_FAULTS:
        machine = dice.choice(RESTARTED)
    elif what in HOST_FAULTS:
        machine = HOST
    return Happening(at_s, what, machine, lasts_s)


def _commands(dice: random.Random, from_s: float, to_s: float) -> Iterator[Happening]:
    at_s = from_s + dice.uniform(0.0, 10.0)
    while at_s < to_s:
        what = dice.choice(COMMANDS)
        value, machine = "", EVERYWHERE
        if what == "seek":
            value = f"{dice.randint(0, 80)}%"
        elif what.endswith("volume"):
            value = str(dice.randint(LEAST_VOLUME, 100))
            machine = dice.choice(SPEAKERS) if what == "speaker volume" else EVERYWHERE
        lasts_s = dice.uniform(2.0, 5.0) if what == "pause" else 0.0
        if at_s + lasts_s > to_s:
            return
        yield Happening(at_s, what, machine, lasts_s, value)
        at_s += lasts_s + COMMAND_SETTLES_S + dice.uniform(5.0, 15.0)
