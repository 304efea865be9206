"""A house for the tests: a host and speakers as real processes on loopback, with sound cards that remember.

Each speaker's PortAudio plays on a virtual ALSA card (``tests/rig/vdac.c``) whose crystal is wrong by
as many ppm as a test likes, and which keeps every sample with the instant at which it would have been
heard. :meth:`House.captured` cuts a stretch of time out of that; ``tests/rig/truth.py`` finds out
which place of a track was heard when. Times are ``time.time()``, seconds, as in the captures.

Every process has folders of its own and is ended by its own process id.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import truth

from musicsyncd.config import NetworkConfig
from musicsyncd.errors import MusicSyncError
from musicsyncd.paths import Paths
from musicsyncd.system.control_client import ControlClient

RIG = Path(__file__).parents[1] / "rig"
RATE_HZ = 48_000
COMMAND = [sys.executable, "-m", "musicsyncd"]

PATIENCE_S = 20.0
"""For what takes a second or two when nobody else wants the processor."""

STOPS_WITHIN_S = 2.0
"""What a stop may take, the fading out of the music included."""

CAPTURED_AFTER_S = 0.6
"""Until a card's samples are in its file: the 80 ms that it holds, and the file's buffer of 64 KiB (171 ms)."""

FINE = {"window": 2048, "hop": 240}
"""For :meth:`House.heard`: 43 ms every 5 ms, to see when something changes."""

SECONDS_OF_QUIET = 3.0
"""Of a speaker's first sound that are not judged by the strict limits: its clock and its card are new to it."""


def need(condition: object, what: str) -> None:
    """Skip a test on a developer's machine that lacks something; in CI that is a failure."""
    if not condition:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"this test needs {what}: tests/run installs it")


def build_card(folder: Path) -> Path:
    """Compile the virtual sound card and return ALSA's plugin."""
    need(shutil.which("gcc"), "gcc")
    need(Path("/usr/include/alsa/asoundlib.h").exists(), "libasound2-dev")
    library = folder / "libasound_module_pcm_vdac.so"
    command = ["gcc", "-O2", "-shared", "-fPIC", "-DPIC", "-o", str(library), str(RIG / "vdac.c"), "-lasound"]
    subprocess.run(command, check=True)
    return library


@dataclass
class Started:
    """A process of the house."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    began_s: float = field(default_factory=time.monotonic)

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, float]:
        """Send a signal and return the exit status and how long it took, in seconds."""
        begin = time.monotonic()
        self.process.send_signal(number)
        code = self.process.wait(PATIENCE_S)
        return code, time.monotonic() - begin


class House:
    """A host, its speakers and their cards.

    Args:
        card: ALSA's plugin, as :func:`build_card` returns it.
    """

    def __init__(self, card: Path) -> None:
        # A Unix socket's path has 107 bytes at most; pytest's own folders are long.
        self.folder = Path(tempfile.mkdtemp(prefix="ms"))
        self.card = card
        self.port = free_port()
        # The houses of tests that run side by side share one loopback, and mDNS has one port.
        self.network = ("--interface", "lo", "--port", str(self.port), "--no-mdns")
        self.state = self.folder / "host"
        self.paths = Paths.find({}, state_dir=self.state)
        self.key = self.paths.key_file
        self.started: list[Started] = []
        self.client = ControlClient(NetworkConfig(self.port, mdns=False), self.paths, other_sockets=())

    # -- processes -----------------------------------------------------------------------------

    def environment(self, **more: str) -> dict[str, str]:
        """Return an environment without any setting of whoever runs the tests."""
        kept = ("PATH", "LANG", "LD_LIBRARY_PATH", "PYTHONPATH", "VIRTUAL_ENV", "TMPDIR")
        return {name: os.environ[name] for name in kept if name in os.environ} | {"HOME": str(self.folder)} | more

    def start(self, name: str, *words: str, **environment: str) -> Started:
        """Start a daemon."""
        log = self.folder / f"{name}.log"
        with log.open("ab") as out:
            process = subprocess.Popen(
                [*self.entering(name), *COMMAND, *words, *self.network],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=self.environment(**environment),
                cwd=self.folder,
                start_new_session=True,  # As a service has one: otherwise its priority counts among the tests alone.
            )
        self.started.append(Started(name, process, log))
        return self.started[-1]

    def entering(self, _name: str) -> list[str]:
        """Return what goes before the command of a process, to run it elsewhere."""
        return []

    def host(self, *words: str, **environment: str) -> Started:
        """Start the host and wait until it answers."""
        host = self.start("host", "host", "--name", "host", "--state-dir", str(self.state), *words, **environment)
        self.until("the host answers", lambda: host.process.poll() is not None or self._answers())
        assert host.process.poll() is None, host.log.read_text()
        return host

    def _answers(self) -> bool:
        try:
            return bool(self.client.get("/api/status"))
        except MusicSyncError:
            return False

    def card_for(self, name: str, ppm: float) -> dict[str, str]:
        """Return the environment in which there is one card, whose crystal is wrong by ``ppm``."""
        configuration = self.folder / f"{name}.conf"
        configuration.write_text(
            f'pcm_type.vdac {{ lib "{self.card}" }}\n'
            f'pcm.dac {{ type vdac capture "{self._prefix(name)}" rate {RATE_HZ} ppm "{ppm}" grain 1 '
            f'hint {{ show on description "virtual DAC" }} }}\n'
            f'pcm.!default {{ type plug slave.pcm dac hint {{ show on description "default" }} }}\n'
        )
        return {"ALSA_CONFIG_PATH": str(configuration)}

    def peer(self, name: str, *words: str, ppm: float = 0.0, **environment: str) -> Started:
        """Start a speaker on a card whose crystal is wrong by ``ppm``."""
        folder = ("--state-dir", str(self.folder / name))
        key = () if "--key-file" in words else ("--key-file", str(self.key))
        return self.start(
            name, "peer", "--name", name, *folder, *key, *words, **self.card_for(name, ppm), **environment
        )

    def run(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, without any option that finds the host."""
        return subprocess.run(
            [*COMMAND, *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            env=self.environment(**environment),
            cwd=self.folder,
            check=False,
        )

    def call(self, *words: str) -> str:
        """Give a command to the host, which must carry it out, and return what it says."""
        done = self.run(*words, *self.network, "--state-dir", str(self.state))
        assert done.returncode == 0, done.stderr
        assert done.stderr == "", done.stderr
        return done.stdout

    def jump(self, position: int) -> None:
        """Have a track of the queue played from its beginning, without the cost of a process."""
        self.client.post("/api/rooms/main/queue/jump", {"position": position})

    def stop_all(self) -> None:
        """End every process that still runs, speakers first."""
        running = [one.process for one in reversed(self.started) if one.process.poll() is None]
        for process in running:
            process.terminate()
        end = time.monotonic() + 5.0
        for process in running:
            try:
                process.wait(max(0.1, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def close(self) -> None:
        """End everything and remove the folder."""
        self.stop_all()
        shutil.rmtree(self.folder, ignore_errors=True)

    def logs(self) -> Iterator[tuple[str, str]]:
        """Yield the logs and the host's last status, for whoever reads a failure."""
        for log in sorted(one.log for one in {one.log: one for one in self.started}.values()):
            yield log.name, log.read_text(errors="replace")[-8000:]
        with contextlib.suppress(MusicSyncError):
            yield "status", json.dumps(self.client.get("/api/status"), indent=1)

    # -- what it says --------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """Return the host's status, without the cost of a process."""
        return self.client.get("/api/status")

    def room(self, name: str = "main") -> dict[str, Any]:
        """Return one room's status."""
        found: dict[str, Any] = next(one for one in self.status()["rooms"] if one["name"] == name)
        return found

    def speaker(self, name: str) -> dict[str, Any]:
        """Return one speaker's status, empty while it is not known."""
        return next((one for one in self.status()["peers"] if one["name"] == name), {})

    def queue(self, room: str = "main") -> list[str]:
        """Return the names of the files in a room's queue."""
        entries = json.loads(self.call("queue", "--json", "--room", room))["entries"]
        return [Path(entry["path"]).name for entry in entries]

    def until(self, what: str, condition: Callable[[], object], within_s: float = PATIENCE_S) -> float:
        """Wait for a condition and return when it was met."""
        end = time.monotonic() + within_s
        while not condition():
            assert time.monotonic() < end, f"not within {within_s:g} s: {what}"
            time.sleep(0.05)
        return time.time()

    def together(self, *names: str, within_s: float = PATIENCE_S) -> float:
        """Wait until these speakers say that they are in step, and return when."""
        return self.until(f"{', '.join(names)} are together", lambda: all(map(self._in_step, names)), within_s)

    def _in_step(self, name: str) -> bool:
        """Return whether a speaker says so, and not the process of that name that was killed before it."""
        told = self.speaker(name)
        began_s = max((one.began_s for one in self.started if one.name == name), default=0.0)
        return told.get("state") == "together" and told["seen_s_ago"] + 0.1 < time.monotonic() - began_s

    # -- what was heard ------------------------------------------------------------------------

    def _prefix(self, name: str) -> Path:
        return self.folder / f"card-{name}"

    def captured(self, name: str, since: float, until: float) -> list[tuple[float, float, np.ndarray, bool]]:
        """Return what a card sounded between two times, as :func:`truth.load` does, once it is in the file."""
        time.sleep(max(0.0, until + CAPTURED_AFTER_S - time.time()))
        cut = []
        for start, rate, samples, xrun in truth.load(str(self._prefix(name))):
            first, last = (max(0, int((t - start) * rate)) for t in (since, until))
            if first < min(last, len(samples)):
                cut.append((start + first / rate, rate, samples[first:last], xrun))
        return cut

    def heard(
        self, name: str, source: np.ndarray, since: float, until: float, *, window: int = 8192, hop: int = 4800
    ) -> np.ndarray:
        """Return rows of (time, place in the source in seconds or NaN for silence, correlation)."""
        return truth.track(self.captured(name, since, until), source, RATE_HZ, N=window, hop=hop)

    def level_db(self, name: str, since: float, until: float) -> float:
        """Return the mean level of what a card sounded, dB of full scale."""
        samples = np.concatenate([samples for _, _, samples, _ in self.captured(name, since, until)])
        return float(10 * np.log10(np.mean(samples**2) + 1e-20))


def free_port() -> int:
    """Return a port that is free for datagrams and for connections."""
    while True:
        with (
            socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
        ):
            tcp.bind(("0.0.0.0", 0))
            with contextlib.suppress(OSError):
                udp.bind(tcp.getsockname())
                return int(tcp.getsockname()[1])


def part(source: np.ndarray, seconds: float) -> np.ndarray:
    """Return a source's beginning: a place is looked for in it so much faster than in all of it."""
    return source[: round(seconds * RATE_HZ)]


def sounding(track: np.ndarray) -> np.ndarray:
    """Return the rows of :meth:`House.heard` in which the source was heard."""
    return track[~np.isnan(track[:, 1])]


def apart_us(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return by how much one card was further in the source than another at the same instants, µs."""
    return truth.compare(one, other)[:, 1] * 1e6


def line_s(track: np.ndarray) -> float:
    """Return the instant at which the source's start was, or would have been, heard."""
    rows = sounding(track)
    return float(np.median(rows[:, 0] - rows[:, 1]))


def on_line(track: np.ndarray) -> np.ndarray:
    """Return the rows in which a source was heard where it is most of the time.

    While it fades in or out, a window may hold too little of it to be told from another place.
    """
    rows = sounding(track)
    found: np.ndarray = rows[np.abs(rows[:, 0] - rows[:, 1] - line_s(track)) < 2e-3]
    return found
