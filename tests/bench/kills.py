"""What is lost when host and speakers are killed: ``kill -9`` at random instants, and what is there afterwards.

``python tests/bench/kills.py [--kills N] [--peer-kills N] [--controllers N] [--seed N]``

*Host*: several controllers give it changes over its Unix socket as fast as it answers, each in a room
and to a speaker of its own: tracks into the queue, out of it and to another place of it, shuffle, repeat,
crossfade, volumes, a room made and removed, a speaker's settings. After 0 to 2 s it is killed, started again,
and asked what it has. What was answered must be there; what was under way and not answered may be.
Nothing else may have changed.

*Speaker*: it is killed while it fetches a track. What its cache has under a hash must be what that hash is
of, what the journal says is there is not fetched again, and the speaker plays the track after its restart.

Prints the kills, the acknowledged changes, what was lost, and how long the restarts took. A kill does not test what a
power cut takes: what the kernel has taken outlives a process.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import socket
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile

from musicsyncd.errors import ControlError
from musicsyncd.system.control_client import api_path

sys.path += [str(Path(__file__).parents[1] / folder) for folder in ("e2e", "rig")]
from changing import Controller
from house import House, Started

KILLED_WITHIN_S = 2.0
FETCHING_S = 0.5
SHORT_TRACKS = 12
SHORT_S, RATE_HZ = 60.0, 8_000
LONG_BYTES = 40 << 20
POLL_S = 0.005


@dataclass
class Figures:
    """What came of the kills."""

    kills: int = 0
    acknowledged: int = 0
    lost: list[str] = field(default_factory=list)
    restarts_s: list[float] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    peer_kills: int = 0
    peer_faults: list[str] = field(default_factory=list)
    peer_restarts_s: list[float] = field(default_factory=list)
    parts_bytes: list[int] = field(default_factory=list)

    def __str__(self) -> str:
        kinds = ", ".join(f"{count} {name}" for name, count in self.kinds.most_common())
        return "\n".join(
            (
                f"host: {self.kills} kills, {self.acknowledged} acknowledged changes, {len(self.lost)} lost, "
                f"restart {_spread(self.restarts_s)}",
                f"  {kinds}",
                *(f"  LOST: {line}" for line in self.lost),
                f"speaker: {self.peer_kills} kills while fetching ({sum(map(bool, self.parts_bytes))} left a part), "
                f"{len(self.peer_faults)} faults, together again after {_spread(self.peer_restarts_s)}",
                *(f"  FAULT: {line}" for line in self.peer_faults),
            )
        )


def _spread(times_s: list[float]) -> str:
    if not times_s:
        return "–"
    return f"median {statistics.median(times_s):.2f} s, max {max(times_s):.2f} s"


@contextmanager
def _with_logs(house: House) -> Iterator[None]:
    """Show the ends of the logs of whatever goes wrong."""
    try:
        yield
    except Exception as error:
        for log in sorted(house.folder.glob("*.log")):
            error.add_note(f"{log.name}:\n{log.read_text(errors='replace')[-3000:]}")
        raise


def kill_hosts(house: House, kills: int, controllers: int, seed: int, figures: Figures) -> None:
    """Kill a host again and again while it is given changes."""
    with _with_logs(house):
        _kill_hosts(house, kills, controllers, seed, figures)


def _kill_hosts(house: House, kills: int, controllers: int, seed: int, figures: Figures) -> None:
    chance = random.Random(seed)
    tracks = _short_tracks(house.folder / "tracks")
    host = _started(house)
    speakers = [_writer(house, f"speaker{number}") for number in range(controllers)]
    for number in range(controllers):
        house.until("its speaker is known", lambda number=number: house.speaker(f"speaker{number}"))
    for speaker in speakers:
        speaker.stop()
    people = [Controller(house, number, seed, tracks) for number in range(controllers)]
    for person in people:
        person.set_up()
    house.client.post(api_path("rooms", people[0].room, "play"), {})
    for _ in range(kills):
        killing = threading.Event()
        threads = [threading.Thread(target=_run, args=(person, killing, figures)) for person in people]
        for thread in threads:
            thread.start()
        time.sleep(chance.uniform(0.0, KILLED_WITHIN_S))
        killing.set()
        host.stop(signal.SIGKILL)
        for thread in threads:
            thread.join()
        house.started.remove(host)
        begin_s = time.monotonic()
        host = _started(house)
        figures.restarts_s.append(time.monotonic() - begin_s)
        figures.kills += 1
        for person in people:
            figures.lost += person.judge()
    for person in people:
        figures.acknowledged += person.acknowledged
        figures.kinds += person.kinds
    host.stop()
    house.started.remove(host)


def _run(person: Controller, killing: threading.Event, figures: Figures) -> None:
    try:
        person.work(killing)
    except Exception as error:
        log = (person.house.folder / "host.log").read_text(errors="replace")
        figures.lost.append(f"{type(error).__name__}: {error}; the host's log ends with:\n{log[-3000:]}")


def _started(house: House) -> Started:
    """Start the host and wait until it answers."""
    host = house.start("host", "host", "--name", "host", "--state-dir", str(house.state))
    end_s = time.monotonic() + 60.0
    while not _is_listening(house.paths.control_socket):
        assert host.process.poll() is None, host.log.read_text()[-2000:]
        assert time.monotonic() < end_s, "the host does not answer within a minute"
        time.sleep(POLL_S)
    house.until("the host is ready", _answers(house))
    return host


def _answers(house: House) -> Callable[[], bool]:
    def ask() -> bool:
        try:
            return bool(house.client.get("/api/status")["rooms"])
        except ControlError:  # It listens before it has taken up its rooms.
            return False

    return ask


def _is_listening(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def _writer(house: House, name: str) -> Started:
    """Start a speaker that has no card."""
    words = ("--state-dir", str(house.folder / name), "--key-file", str(house.key), "--output", "null")
    return house.start(name, "peer", "--name", name, *words)


def _short_tracks(folder: Path) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    chance = np.random.default_rng(1)
    for number in range(SHORT_TRACKS):
        samples = chance.uniform(-0.1, 0.1, round(SHORT_S * RATE_HZ))
        soundfile.write(folder / f"{number}.wav", samples, RATE_HZ, subtype="PCM_16")
    return [str(folder / f"{number}.wav") for number in range(SHORT_TRACKS)]


def kill_speakers(house: House, kills: int, seed: int, figures: Figures) -> None:
    """Kill a speaker again and again while it fetches a track that it has not had."""
    with _with_logs(house):
        _kill_speakers(house, kills, seed, figures)


def _kill_speakers(house: House, kills: int, seed: int, figures: Figures) -> None:
    chance = random.Random(f"{seed} speakers")
    host = _started(house)
    cache = house.folder / "hall" / "cache" / "peers" / "hall"
    for number in range(kills):
        peer = _writer(house, "hall")
        house.until("it is there", lambda: house.speaker("hall").get("clock", {}).get("uncertainty_us"))
        track = _long_track(house.folder / "long" / f"{number}.wav", number)
        house.client.post(api_path("rooms", "main", "play"), {"tracks": [str(track)]})
        time.sleep(chance.uniform(0.0, FETCHING_S))
        peer.stop(signal.SIGKILL)
        house.started.remove(peer)
        figures.peer_kills += 1
        figures.peer_faults += _wrong_files(cache)
        figures.parts_bytes.append(_journaled_bytes(cache))
        # Until then the host says what it said last.
        house.until("its loss is noticed", lambda: house.speaker("hall").get("reach") == "away")
        begin_s = time.monotonic()
        peer = _writer(house, "hall")
        whole = cache / hashlib.sha256(track.read_bytes()).hexdigest()
        try:
            house.together("hall", within_s=30.0)
            figures.peer_restarts_s.append(time.monotonic() - begin_s)
            house.until("all of it is there", whole.exists, 30.0)
        except AssertionError as error:
            figures.peer_faults.append(f"track {number}: {error}: {house.speaker('hall').get('fault')}")
        figures.peer_faults += _wrong_files(cache)
        peer.stop()
        house.started.remove(peer)
        house.client.post(api_path("rooms", "main", "queue", "clear"), {})
        track.unlink()
    host.stop()
    house.started.remove(host)


def _long_track(path: Path, seed: int) -> Path:
    """Write a track that nobody has fetched, of some minutes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = np.frombuffer(random.Random(seed).randbytes(LONG_BYTES), np.int16).reshape(-1, 2) // 16
    soundfile.write(path, frames, 48_000, subtype="PCM_16")
    return path


def _wrong_files(cache: Path) -> list[str]:
    """Return a line for each file that is not what its name says."""
    whole = [path for path in cache.iterdir() if len(path.name) == 64] if cache.is_dir() else []
    return [
        f"{path.name[:12]} holds something else"
        for path in whole
        if hashlib.sha256(path.read_bytes()).hexdigest() != path.name
    ]


def _journaled_bytes(cache: Path) -> int:
    """Return how many bytes the journals say that they have."""
    lines = [line for path in cache.glob("*.ranges") for line in path.read_text().split("\n")[1:-1] if line != "sync"]
    return sum(int(end) - int(start) for start, end in (line.split() for line in lines))


def measured(kills: int, peer_kills: int, controllers: int, seed: int) -> Figures:
    """Do all of it, in a house of its own."""
    figures = Figures()
    house = House(Path("no card is in this house"))
    try:
        if kills:
            kill_hosts(house, kills, controllers, seed, figures)
        if peer_kills:
            kill_speakers(house, peer_kills, seed, figures)
    finally:
        house.close()
    return figures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--peer-kills", type=int, default=20)
    parser.add_argument("--controllers", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    figures = measured(options.kills, options.peer_kills, options.controllers, options.seed)
    print(json.dumps(vars(figures)) if options.json else figures)
    print(f"seed {options.seed}, {os.cpu_count()} processors")
    return int(bool(figures.lost or figures.peer_faults))


if __name__ == "__main__":
    sys.exit(main())
