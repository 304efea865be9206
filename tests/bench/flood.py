"""What a neighbour's flood of datagrams does to the music: a real host and a real speaker on loopback.

    python tests/bench/flood.py [--seconds N] [--rate N] [--rounds N] [--kinds quiet,junk,forged]

The speaker has the null output and plays a track of noise. By turns nothing is sent, *junk* (random bytes, as no
datagram of ours looks) and what is *forged*: a beacon of the host with its tag falsified, as somebody sends who
listens and has no key. A flood goes from one source address to the host, to the speaker and to the group in equal
parts, which are three sockets' worth of what is meant for all. Figures of each turn: datagrams sent a second, the CPU
of host and speaker, silent frames in the music and underruns, the worst sync error, the share of probes without an
answer (the worst reading of it), and how often the speaker lost its host.

Prints, and judges nothing. Needs no root; everything is made in a folder of its own.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import re
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from tables import markdown, number

for _folder in ("rig", "e2e"):
    sys.path.append(str(Path(__file__).parents[1] / _folder))

from house import RATE_HZ, House  # noqa: E402 - where it is, is known only now

from musicsyncd.config import DEFAULT_GROUP  # noqa: E402

SOURCE = "127.0.0.66"
"""Of the flood: a neighbour has an address of its own."""

JUNK_BYTES = 200
SEED = 5
BATCH_S = 0.002
SETTLED_S = 6.0
BETWEEN_S = 6.0
"""Longer than a source is shut out, and longer than the loss of probes remembers."""

Target = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Reading:
    """What processes and status say at one instant."""

    at_s: float
    host_cpu_s: float
    peer_cpu_s: float
    starved_frames: int
    underruns: int
    losses: int


def flood(datagrams: list[bytes], targets: list[Target], rate: float, stop: Event, sent: Synchronized[int]) -> None:
    """Send as many datagrams a second as asked for, or as many as can be, until told to stop."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        out.bind((SOURCE, 0))
        out.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
        begin_s, count = time.monotonic(), 0
        while not stop.is_set():
            due = int((time.monotonic() - begin_s) * rate)
            # What could not be sent in time is not made up for: the rate is what is reported.
            due = min(due, count + int(20 * BATCH_S * rate))
            while count < due:
                out.sendto(datagrams[count % len(datagrams)], targets[count % len(targets)])
                count += 1
            sent.value = count
            time.sleep(BATCH_S)


def junk() -> list[bytes]:
    """Return random bytes."""
    dice = random.Random(SEED)
    return [dice.randbytes(JUNK_BYTES) for _ in range(64)]


def forged(port: int) -> list[bytes]:
    """Return a beacon of the host with one bit of its tag turned over, as often as needed."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ears:
        ears.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        ears.bind((DEFAULT_GROUP, port))
        request = socket.inet_aton(DEFAULT_GROUP) + socket.inet_aton("127.0.0.1")
        ears.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
        ears.settimeout(10.0)
        beacon = ears.recv(2048)
    return [beacon[:-1] + bytes([beacon[-1] ^ 1])]


def cpu_s(process_id: int) -> float:
    """Return the processor time that a process has used."""
    fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def udp_ports(process_id: int) -> list[int]:
    """Return the IPv4 ports on which a process hears datagrams."""
    links = (os.readlink(one) for one in Path(f"/proc/{process_id}/fd").iterdir())
    nodes = {found[1] for link in links if (found := re.fullmatch(r"socket:\[(\d+)\]", link))}
    rows = (line.split() for line in Path("/proc/net/udp").read_text().splitlines()[1:])
    return [int(row[1].partition(":")[2], 16) for row in rows if row[9] in nodes]


class Bench:
    """A host and a speaker, and what floods them.

    Args:
        house: where they run.
        rate: datagrams a second.
    """

    def __init__(self, house: House, rate: float) -> None:
        self._house, self._rate = house, rate
        track = house.folder / "noise.wav"
        noise = np.random.default_rng(SEED).standard_normal((RATE_HZ * 600, 1)).astype(np.float32) * 0.1
        soundfile.write(track, noise, RATE_HZ, subtype="PCM_16")
        self._host = house.host(str(track)).process.pid
        self._peer = house.peer("speaker", "--output", "null")
        house.together("speaker")
        time.sleep(SETTLED_S)
        own = [port for port in udp_ports(self._peer.process.pid) if port != house.port]
        self._targets = [("127.0.0.1", house.port), ("127.0.0.1", own[0]), (DEFAULT_GROUP, house.port)]

    def turn(self, kind: str, seconds: float) -> dict[str, float]:
        """Return the figures of so many seconds under a kind of flood."""
        datagrams = {"quiet": list, "junk": junk, "forged": lambda: forged(self._house.port)}[kind]()
        with self._flooded(datagrams) as sent:
            before, sent_before = self._reading(), sent.value
            errors_us, loss_percent = [0.0], [0.0]
            while time.monotonic() < before.at_s + seconds:
                time.sleep(0.5)
                speaker = self._house.speaker("speaker")
                errors_us.append(abs(speaker["sync_error_us"]))
                loss_percent.append(speaker["clock"]["loss_percent"])
            after, sent_after = self._reading(), sent.value
        took_s = after.at_s - before.at_s
        time.sleep(BETWEEN_S)
        return {
            "datagrams/s": (sent_after - sent_before) / took_s,
            "host, % of a core": 100 * (after.host_cpu_s - before.host_cpu_s) / took_s,
            "speaker, % of a core": 100 * (after.peer_cpu_s - before.peer_cpu_s) / took_s,
            "silent frames": after.starved_frames - before.starved_frames,
            "underruns": after.underruns - before.underruns,
            "worst sync error, µs": max(errors_us),
            "worst loss of probes, %": max(loss_percent),
            "host lost, times": after.losses - before.losses,
        }

    @contextmanager
    def _flooded(self, datagrams: list[bytes]) -> Iterator[Synchronized[int]]:
        stop, sent = multiprocessing.Event(), multiprocessing.Value("q", 0)
        words = (datagrams, self._targets, self._rate, stop, sent)
        process = multiprocessing.Process(target=flood, args=words) if datagrams else None
        if process is not None:
            process.start()
        try:
            yield sent
        finally:
            stop.set()
            if process is not None:
                process.join()

    def _reading(self) -> Reading:
        speaker: dict[str, Any] = self._house.speaker("speaker")
        return Reading(
            time.monotonic(),
            cpu_s(self._host),
            cpu_s(self._peer.process.pid),
            speaker["starved_frames"],
            speaker["underruns"],
            self._peer.log.read_text().count("playing on with what is here"),
        )


def main() -> None:
    """Run the turns and print their figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each turn")
    parser.add_argument("--rate", type=float, default=50_000.0, help="datagrams a second")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--kinds", default="quiet,junk,quiet,forged", help="of the turns, by commas")
    chosen = parser.parse_args()
    house = House(Path())
    try:
        bench = Bench(house, chosen.rate)
        rows: list[list[str]] = []
        for _ in range(chosen.rounds):
            for kind in chosen.kinds.split(","):
                figures = bench.turn(kind, chosen.seconds)
                rows = rows or [["", *figures]]
                rows.append([kind, *map(number, figures.values())])
                print(" ".join(rows[-1]), file=sys.stderr, flush=True)
        print(markdown(rows))
    finally:
        house.close()


if __name__ == "__main__":
    main()
