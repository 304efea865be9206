"""What people command in a random-fault run, as the command line and the API do.

Owns how a kind of :data:`.chaos_plan.COMMANDS` becomes a call of the host's control: by what somebody saw of the queue
a moment ago. Must not know what becomes of it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Coroutine
from typing import Any

from musicsyncd.system.control import Control

from .chaos_machines import ROOM

Answer = str | Coroutine[Any, Any, str]
Command = Callable[[Control], Answer]

BY_REVISION = frozenset({"jump", "remove", "move", "clear"})
"""Kinds that name positions of what was seen, and so are refused when the queue is another by now."""


def make_command(kind: str, dice: random.Random, seen: tuple[int, int], speaker: str) -> Command:
    """Return a command.

    Args:
        kind: of the table.
        dice: its own.
        seen: revision and length of the queue when somebody looked.
        speaker: hexadecimal id of one.
    """
    revision, length = seen
    first, second = (dice.randint(1, max(length, 1)) for _ in range(2))
    tracks = [str(dice.randrange(10)) for _ in range(dice.randint(1, 4))]
    next_, on, volume = dice.random() < 0.3, dice.random() < 0.6, str(dice.randint(0, 100))
    seconds = dice.choice((0.0, 0.5, 3.0))
    target = dice.choice(("0", "1.2", "+3", "-2", "50%", "99%", "4:00"))
    repeat = dice.choice(("off", "one", "all", "all"))
    table: dict[str, Command] = {
        "play": lambda control: control.play(ROOM, []),
        "jump": lambda control: control.queues.jump(ROOM, first, "", revision),
        "pause": lambda control: control.pause(ROOM),
        "resume": lambda control: control.resume(ROOM),
        "seek": lambda control: control.seek(ROOM, target),
        "next": lambda control: control.next(ROOM),
        "previous": lambda control: control.previous(ROOM),
        "stop": lambda control: control.stop(ROOM),
        "add": lambda control: control.queues.add(ROOM, tracks, next_=next_),
        "remove": lambda control: control.queues.remove(ROOM, {first, second}, revision),
        "move": lambda control: control.queues.move(ROOM, first, second, revision),
        "clear": lambda control: control.queues.clear(ROOM, revision),
        "undo": lambda control: control.queues.undo(ROOM),
        "shuffle": lambda control: control.queues.shuffle(ROOM, on),
        "repeat": lambda control: control.queues.repeat(ROOM, repeat),
        "volume": lambda control: control.room_volume(ROOM, volume),
        "mute": lambda control: control.room_mute(ROOM, on),
        "speaker": lambda control: control.speakers.volume(speaker, volume),
        "crossfade": lambda control: control.queues.crossfade(ROOM, seconds),
    }
    return table[kind]
