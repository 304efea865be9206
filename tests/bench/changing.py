"""Somebody who changes a room and a speaker of a host, and knows what must be there afterwards.

For :mod:`kills`. Owns what is asked for, what each request changes, and the judgement of what is found after
a restart: what was acknowledged must be there, what was under way may be, and nothing else may have changed.
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from house import House

from musicsyncd.errors import MusicSyncError
from musicsyncd.system.control_client import api_path

MAX_QUEUE = 25
"""Tracks in a controller's room: as many as one look takes in."""

View = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Change:
    """A change that a controller asks for.

    Attributes:
        name: what it is, for people.
        method, path, body: the request.
        fields: what it sets of the view, by name.
        paths: what the names of the queue's files become, in order; None when they stay.
        mixes: the order of the queue is the host's to choose.
    """

    name: str
    method: str
    path: str
    body: dict[str, Any]
    fields: dict[str, Any] = field(default_factory=dict)
    paths: list[str] | None = None
    mixes: bool = False


def fits(before: View, change: Change, after: View) -> str:
    """Return what of a view is not as a change leaves it, or nothing."""
    for name, value in after.items():
        if name in change.fields:
            if value != change.fields[name]:
                return f"{name} is {value!r} instead of {change.fields[name]!r}"
        elif name == "paths":
            wanted = before["paths"] if change.paths is None else change.paths
            if (Counter(value) != Counter(wanted)) if change.mixes else (value != wanted):
                return f"the queue is {value} instead of {wanted}"
        elif name != "queue_revision" and value != before[name]:
            return f"{name} is {value!r} and was {before[name]!r}"
    return ""


class Controller:
    """Somebody who changes a room and a speaker that nobody else does.

    Args:
        house: where the host is.
        number: of this one.
        seed: of what it does.
        tracks: that it adds.
    """

    def __init__(self, house: House, number: int, seed: int, tracks: list[str]) -> None:
        self.room, self.extra, self.speaker = f"room {number}", f"extra {number}", f"speaker{number}"
        self.acknowledged = 0
        self.kinds: Counter[str] = Counter()
        self.house = house
        self._chance = random.Random(f"{seed} {number}")
        self._tracks = tracks
        self._view: View = {}
        self._answered: Change | None = None
        self._under_way: Change | None = None

    # -- asking --------------------------------------------------------------------------------

    def set_up(self) -> None:
        """Make what it changes."""
        client = self.house.client
        client.post("/api/rooms", {"name": self.room})
        client.post(api_path("rooms", self.room, "queue", "add"), {"tracks": self._tracks[:4]})
        self._view = self._look()

    def work(self, killing: threading.Event) -> None:
        """Change things until the host is killed; to be called in a thread of its own.

        Raises:
            MusicSyncError: something is refused that should not be.
            AssertionError: something is not as it was answered, without any kill.
        """
        try:
            while True:
                change = self._under_way = self._next()
                self.house.client.request(change.method, change.path, change.body)
                self._answered, self._under_way = change, None
                self.acknowledged += 1
                self.kinds[change.name] += 1
                view = self._look()
                wrong = fits(self._view, change, view)
                assert not wrong, f"{self.room}, {change.name}: {wrong}"
                self._view, self._answered = view, None
        except MusicSyncError:
            if not killing.is_set():
                raise

    def judge(self) -> list[str]:
        """Return what was lost, after a restart, and go on from what there is."""
        view = self._look()
        known, lost = self._view, []
        if self._answered is not None:
            wrong = fits(known, self._answered, view)
            if wrong:
                lost.append(f"{self.room}: {self._answered.name} was acknowledged, and {wrong}")
        else:
            nothing = Change("nothing", "", "", {})
            wrong = fits(known, nothing, view)
            if wrong and (self._under_way is None or fits(known, self._under_way, view)):
                doing = f" while {self._under_way.name} was under way" if self._under_way else ""
                lost.append(f"{self.room}: {wrong}{doing}")
        self._view, self._answered, self._under_way = view, None, None
        return lost

    def _look(self) -> View:
        status = self.house.client.get("/api/status")
        room = next(one for one in status["rooms"] if one["name"] == self.room)
        speaker = next((one for one in status["peers"] if one["name"] == self.speaker), {})
        queue = self.house.client.get(api_path("rooms", self.room, "queue"))
        wanted = ("volume", "muted", "queue_revision", "shuffled", "repeat", "crossfade_s")
        kept = ("volume", "muted", "output_delay_ms", "channels", "room")
        return (
            {name: room[name] for name in wanted}
            | {f"speaker's {name}": speaker[name] for name in kept if speaker}
            | {"extra": any(one["name"] == self.extra for one in status["rooms"])}
            | {"paths": [Path(entry["path"]).name for entry in queue["entries"]]}
        )

    # -- what it asks for ----------------------------------------------------------------------

    def _next(self) -> Change:
        ways: list[Callable[[], Change]] = [self._queued, self._queued, self._queued, self._of_room, self._of_room]
        if "speaker's volume" in self._view:
            ways += [self._of_speaker, self._of_speaker]
        return self._chance.choice([*ways, self._extra_room])()

    def _post(self, name: str, words: tuple[str, ...], body: dict[str, Any], **effect: Any) -> Change:
        return Change(name, "POST", api_path(*words), body, **effect)

    def _queued(self) -> Change:
        paths, chance = list(self._view["paths"]), self._chance
        way = chance.choice(("add", "add", "remove", "move", "clear" if chance.random() < 0.05 else "add"))
        at = ("rooms", self.room, "queue")
        if (way == "remove" and paths) or len(paths) >= MAX_QUEUE:
            gone = chance.randrange(len(paths))
            return self._post(
                "remove", (*at, "remove"), {"positions": [gone + 1]}, paths=paths[:gone] + paths[gone + 1 :]
            )
        if way == "move" and len(paths) > 1:
            from_, to = chance.sample(range(len(paths)), 2)
            paths.insert(to, paths.pop(from_))
            return self._post("move", (*at, "move"), {"from": from_ + 1, "to": to + 1}, paths=paths)
        if way == "clear" and paths:
            return self._post("clear", (*at, "clear"), {}, paths=[])
        track = chance.choice(self._tracks)
        mixes = self._view["shuffled"]
        return self._post("add", (*at, "add"), {"tracks": [track]}, paths=[*paths, Path(track).name], mixes=mixes)

    def _of_room(self) -> Change:
        chance, at = self._chance, ("rooms", self.room)
        match chance.randrange(5):
            case 0:
                volume = chance.randrange(101)
                return self._post("volume", (*at, "volume"), {"volume": str(volume)}, fields={"volume": volume})
            case 1:
                on = not self._view["shuffled"]
                return self._post("shuffle", (*at, "shuffle"), {"on": on}, fields={"shuffled": on}, mixes=True)
            case 2:
                repeat = chance.choice(("off", "one", "all"))
                return self._post("repeat", (*at, "repeat"), {"repeat": repeat}, fields={"repeat": repeat})
            case 3:
                seconds = chance.randrange(24) / 2
                body = {"seconds": seconds}
                return self._post("crossfade", (*at, "crossfade"), body, fields={"crossfade_s": seconds})
            case _:
                muted = not self._view["muted"]
                return self._post("mute", (*at, "mute"), {"muted": muted}, fields={"muted": muted})

    def _of_speaker(self) -> Change:
        chance, at = self._chance, ("peers", self.speaker)
        match chance.randrange(4):
            case 0:
                volume = chance.randrange(101)
                fields = {"speaker's volume": volume}
                return self._post("speaker's volume", (*at, "volume"), {"volume": str(volume)}, fields=fields)
            case 1:
                delay_ms = float(chance.randrange(-500, 500))
                body, fields = {"output_delay_ms": delay_ms}, {"speaker's output_delay_ms": delay_ms}
                return self._post("speaker's delay", (*at, "delay"), body, fields=fields)
            case 2:
                channels = chance.choice(("stereo", "left", "right", "mono"))
                body, fields = {"channels": channels}, {"speaker's channels": channels}
                return self._post("speaker's channels", (*at, "channels"), body, fields=fields)
            case _:
                room = "main" if self._view["speaker's room"] == self.room else self.room
                return self._post("speaker's room", (*at, "room"), {"room": room}, fields={"speaker's room": room})

    def _extra_room(self) -> Change:
        if self._view["extra"]:
            return Change("remove a room", "DELETE", api_path("rooms", self.extra), {}, {"extra": False})
        return self._post("make a room", ("rooms",), {"name": self.extra}, fields={"extra": True})
