"""How tracks reach the speakers: twenty at once over a short link, seeks into what is not there, and memory.

``sudo python tests/bench/delivery.py [--peers N] [--mib N] [--hours N] [--seeks N] [--only start|seek]``

*start*: N speakers with the null output begin one FLAC at once, over a link that is held to 1.5 times the sum
of what they play (``tc tbf`` on the host's end of a veth pair between two network namespaces). Prints for
how long each was silent, how they stood afterwards, what crossed the link, and the speakers' peak memory.

*seek*: one speaker, a track of three hours, a link of 100 Mbit/s; seeks to places
that were not fetched yet, and then back to them. Prints the time from the command until it is heard: the
host's lead, and the silence after it.

Silence is counted by the speakers, in frames that should have sounded and were not there. Everything is made
in a folder and in namespaces of its own, which are removed at the end.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from musicsyncd.config import NetworkConfig
from musicsyncd.errors import MusicSyncError
from musicsyncd.paths import Paths
from musicsyncd.system.control_client import ControlClient

RATE_HZ, CARD_HZ = 44_100, 48_000
SHARE = 1.5
HOST, PEERS = "10.79.0.1", "10.79.0.2"
PATIENCE_S = 120.0
LAN_BITS_PER_S = 100_000_000
SEED = 4


def run(*words: str) -> str:
    """Run a command to its end and return what it prints."""
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


class Link:
    """Two namespaces with a link between them."""

    def __init__(self) -> None:
        tag = f"md{os.getpid() % 100_000}"
        self.host, self.peers = f"{tag}h", f"{tag}p"
        self.processes: list[subprocess.Popen[bytes]] = []
        for namespace in (self.host, self.peers):
            run("ip", "netns", "add", namespace)
        ends = ("eth0", "netns", self.host, "type", "veth", "peer", "name", "eth0", "netns", self.peers)
        run("ip", "link", "add", *ends)
        for namespace, address in ((self.host, HOST), (self.peers, PEERS)):
            run("ip", "-n", namespace, "addr", "add", f"{address}/24", "brd", "+", "dev", "eth0")
            for device in ("lo", "eth0"):
                run("ip", "-n", namespace, "link", "set", device, "up")
            run("ip", "-n", namespace, "route", "add", "224.0.0.0/4", "dev", "eth0")
            # A packet of the link is a packet of the network: none of 64 KiB.
            off = ("tso", "off", "gso", "off", "gro", "off")
            run("ip", "netns", "exec", namespace, "ethtool", "-K", "eth0", *off)

    def hold(self, bits_per_s: float) -> None:
        """Let no more than this pass from the host to the speakers."""
        rate = f"{round(bits_per_s)}bit"
        shape = ("tbf", "rate", rate, "burst", "16kb", "latency", "500ms")
        run("tc", "-n", self.host, "qdisc", "replace", "dev", "eth0", "root", *shape)

    def sent_bytes(self) -> int:
        """Return what the host has sent over it."""
        path = "/sys/class/net/eth0/statistics/tx_bytes"
        return int(run("ip", "netns", "exec", self.host, "cat", path))

    def start(self, namespace: str, folder: Path, name: str, *words: str) -> subprocess.Popen[bytes]:
        """Start a daemon in one of the namespaces."""
        with (folder / f"{name}.log").open("ab") as out:
            command = ["ip", "netns", "exec", namespace, sys.executable, "-m", "musicsyncd", *words]
            environment = {"PATH": os.environ["PATH"], "HOME": str(folder)}
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=environment)
        self.processes.append(process)
        return process

    def close(self) -> None:
        """End what was started, and remove the namespaces."""
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            try:
                process.wait(5.0)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for namespace in (self.host, self.peers):
            with contextlib.suppress(subprocess.CalledProcessError):
                run("ip", "netns", "del", namespace)


class Rig:
    """A host and speakers on a link."""

    def __init__(self, link: Link, folder: Path, count: int) -> None:
        self.link, self.folder = link, folder
        state = folder / "host"
        self.client = ControlClient(NetworkConfig(), Paths.find({}, state_dir=state), other_sockets=())
        link.start(link.host, folder, "host", "host", "--name", "host", "--state-dir", str(state))
        self.until("the host answers", self._answers)
        self.speakers = {}
        for name in (f"speaker-{number:02}" for number in range(count)):
            words = ("peer", "--name", name, "--output", "null", "--state-dir", str(folder / name))
            self.speakers[name] = link.start(link.peers, folder, name, *words, "--key-file", str(state / "room.key"))
        self.until("all speakers know the host's clock", lambda: len(self.status()) == count and self._all_know())

    def _answers(self) -> bool:
        try:
            return bool(self.client.get("/api/status"))
        except MusicSyncError:
            return False

    def _all_know(self) -> bool:
        return all(0 < one["clock"]["uncertainty_us"] < 5000 for one in self.status().values())

    def status(self) -> dict[str, dict[str, Any]]:
        """Return what each speaker reports, by name."""
        return {one["name"]: one for one in self.client.get("/api/status")["peers"]}

    def until(self, what: str, true: Callable[[], object]) -> None:
        """Wait for a condition."""
        end_s = time.monotonic() + PATIENCE_S
        while not true():
            if time.monotonic() > end_s:
                raise RuntimeError(f"not within {PATIENCE_S:.0f} s: {what}; the logs are in {self.folder}")
            time.sleep(0.1)

    def silent_s(self) -> dict[str, float]:
        """Return for how long each speaker was silent for want of sound, in all."""
        return {name: one["starved_frames"] / CARD_HZ for name, one in self.status().items()}

    def whole(self, name: str) -> bool:
        """Return whether a speaker has the whole track."""
        folder = self.folder / name / "cache" / "peers" / name
        return any(len(path.name) == 64 for path in folder.iterdir())

    def peak_mib(self, name: str) -> float:
        """Return the most memory that a speaker has had, MiB."""
        lines = Path(f"/proc/{self.speakers[name].pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


@contextmanager
def rig(count: int, bits_per_s: float) -> Iterator[Rig]:
    """Have a host and speakers until the end of the block."""
    folder = Path(tempfile.mkdtemp(prefix="md"))
    link = Link()
    try:
        link.hold(bits_per_s)
        yield Rig(link, folder, count)
    except BaseException:
        for log in sorted(folder.glob("*.log"))[:2]:
            print(f"-- {log.name}\n{log.read_text()[-2000:]}", file=sys.stderr)
        raise
    finally:
        link.close()
        shutil.rmtree(folder, ignore_errors=True)


def make_music(path: Path, *, mib: int = 0, seconds: float = 1e9) -> float:
    """Write FLAC of noise and tones until it has a size or a length, and return its length in seconds."""
    generator = np.random.default_rng(SEED)
    noise = generator.normal(0.0, 0.02, (10 * RATE_HZ, 2))
    tone = 0.3 * np.sin(np.arange(10 * RATE_HZ)[:, None] * (0.031, 0.047))
    done = 0
    with soundfile.SoundFile(path, "w", RATE_HZ, 2, "PCM_16", compression_level=0.0) as file:
        while done < seconds and (not mib or path.stat().st_size < mib << 20):
            file.write(np.roll(noise, int(generator.integers(len(noise))), axis=0) + tone)
            done += 10
    return float(done)


def spread(values: list[float]) -> str:
    """Return the median and the most."""
    return f"{statistics.median(values):.3f}, most {max(values):.3f}"


def bench_start(count: int, mib: int, folder: Path) -> None:
    """Let all speakers begin at once over a short link."""
    path = folder / "thirty.flac"
    seconds = make_music(path, mib=mib)
    bytes_per_s = path.stat().st_size / seconds
    link_bytes_per_s = SHARE * count * bytes_per_s
    print(f"start: {count} speakers, {path.stat().st_size / 2**20:.1f} MiB for {seconds:.0f} s")
    print(f"  link {8 * link_bytes_per_s / 1e6:.1f} Mbit/s, {SHARE} times the sum of the tracks' rates")
    with rig(count, 8 * link_bytes_per_s) as made:
        sent_before = made.link.sent_bytes()
        asked_s = time.monotonic()
        made.client.post("/api/rooms/-/play", {"tracks": [str(path)]})
        answered_s = time.monotonic()
        time.sleep(8.0)
        early, states = made.silent_s(), made.status()
        print(f"  command answered after {answered_s - asked_s:.2f} s")
        print(f"  silent at the start, s: median {spread(list(early.values()))}")
        print(f"  sounding within 2 s of the start: {sum(value <= 2.0 for value in early.values())} of {count}")
        print(f"  together after 8 s: {sum(one['state'] == 'together' for one in states.values())} of {count}")
        wait_s = min(seconds, 1.3 * seconds / SHARE) + 20.0
        while time.monotonic() - asked_s < wait_s and not all(made.whole(name) for name in made.speakers):
            time.sleep(1.0)
        late, states = made.silent_s(), made.status()
        took_s = time.monotonic() - asked_s
        again = {name: late[name] - early[name] for name in late}
        errors = [abs(one["sync_error_us"]) for one in states.values()]
        print(f"  all had all of it: {all(map(made.whole, made.speakers))}, after {took_s:.0f} s")
        print(f"  silent after that start, s: median {spread(list(again.values()))}")
        print(f"  own sync error at the end, µs: median {spread(errors)}")
        print(f"  faults: {sorted({one['fault'] for one in states.values()} - {''}) or 'none'}")
        sent = made.link.sent_bytes() - sent_before
        print(f"  over the link: {sent / count / path.stat().st_size:.3f} of the track for each speaker")
        print(f"  peak memory, MiB: median {spread([made.peak_mib(name) for name in made.speakers])}")


def bench_seek(hours: float, seeks: int, folder: Path) -> None:
    """Let one speaker seek in a long track."""
    path = folder / "long.flac"
    seconds = make_music(path, seconds=3600 * hours)
    print(f"seek: {path.stat().st_size / 2**20:.0f} MiB for {seconds / 3600:.1f} h, link 100 Mbit/s")
    generator = np.random.default_rng(SEED)
    with rig(1, LAN_BITS_PER_S) as made:
        (name,) = made.speakers
        made.client.post("/api/rooms/-/play", {"tracks": [str(path)]})
        made.until("it plays", lambda: made.status()[name]["state"] == "together")
        places = [float(at) for at in generator.uniform(0.3, 0.95, seeks) * seconds]
        for kind in ("not fetched", "fetched"):
            heard = []
            for at in places:
                before = made.silent_s()[name]
                asked_s = time.monotonic()
                made.client.post("/api/rooms/-/seek", {"to": f"{at:.1f}"})
                answered_ms = 1000 * (time.monotonic() - asked_s)
                time.sleep(2.5)
                status = made.status()[name]
                silent_ms = 1000 * (status["starved_frames"] / CARD_HZ - before)
                heard.append((answered_ms, status["lead_ms"], silent_ms))
            for_ms = [lead_ms + silent_ms for _, lead_ms, silent_ms in heard]
            print(f"  {kind}: heard after, ms: median {spread(for_ms)}", end="; ")
            print(f"of that lead {statistics.median(lead_ms for _, lead_ms, _ in heard):.0f}", end=", ")
            print(f"silence median {spread([silent_ms for _, _, silent_ms in heard])}")
        print(f"  peak memory: {made.peak_mib(name):.1f} MiB")
        print(f"  fault: {made.status()[name]['fault'] or 'none'}")


def main() -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=int, default=20, help="speakers that begin at once")
    parser.add_argument("--mib", type=int, default=30, help="size of the track that they begin")
    parser.add_argument("--hours", type=float, default=3.0, help="length of the track for seeks")
    parser.add_argument("--seeks", type=int, default=20, help="seeks of each kind")
    parser.add_argument("--only", choices=("start", "seek"), help="one of the two")
    options = parser.parse_args()
    lacks = [name for name in ("ip", "tc", "ethtool") if shutil.which(name) is None]
    if lacks or os.geteuid() != 0:
        print(f"not installed: {', '.join(lacks)}" if lacks else "it makes network namespaces: run it as root")
        return 1
    with tempfile.TemporaryDirectory(prefix="md") as name:
        if options.only != "seek":
            bench_start(options.peers, options.mib, Path(name))
        if options.only != "start":
            bench_seek(options.hours, options.seeks, Path(name))
    return 0


if __name__ == "__main__":
    sys.exit(main())
