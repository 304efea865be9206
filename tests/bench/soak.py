"""A room for an hour, on a busy network that is cut, with processes that are killed: what grows, what is silent.

    sudo python tests/bench/soak.py [--minutes N] [--seed N] [--keep DIR]
    python tests/bench/soak.py --read DIR/soak.jsonl

A host and three speakers, real processes in network namespaces of their own, on the rig of ``tests/rig/measure.py``
under the busy profile of its switch. The first two speakers play on virtual cards with wrong crystals, the third one
without a card. The room repeats four tracks of some minutes. What happens to it follows from the seed
(``soak_plan.py``): cuts of all the network or of one cable, speakers killed or stopped and started again, the host
killed and back at once, killed and away for minutes, stopped for minutes; between the faults, pauses, seeks, skips and
volumes.

All that the cards sound is looked through for silence, and a part of it compared with the tracks, so that the pair's
error comes from the samples (``soak_ear.py``); a niced process does that while the room plays, and gives the disk back.
In the middle of a long run the host is let alone, and the first speaker is never restarted, for lines through their
memory to mean something. Records go to ``soak.jsonl`` as they come, one JSON object a line: ``--read`` reports them
(``soak_report.py``), also of a run that was broken off.

This is a benchmark: it fails nothing, it prints. Needs root and what the rig needs.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any, TextIO

sys.path.append(str(Path(__file__).parents[1] / "rig"))

import measure
import soak_ear
import soak_report
from room import missing_for
from soak_plan import CARDS, COMMANDS, HOST, HOST_FAULTS, RESTARTS_S, SPEAKER_FAULTS, SPEAKERS, START_S, Happening, plan
from soak_report import EVERYWHERE

from musicsyncd.config import NetworkConfig
from musicsyncd.errors import MusicSyncError
from musicsyncd.paths import Paths
from musicsyncd.system.control_client import ControlClient, api_path

LEAST_MINUTES = 2.0
PPMS, SKEWS_PPM = (60.0, -40.0, 0.0), (0.0, 50.0, -30.0, 10.0)
TRACKS = ((48_000, 210.0), (44_100, 240.0), (48_000, 225.0), (48_000, 250.0))
"""Rates in Hz and lengths in s. Each lasts longer than any outage, so that speakers always have enough for it."""

SAMPLE_EVERY_S, LISTEN_EVERY_S = 10.0, 20.0
COMPARED_S = 10.0
"""Of each stretch that is listened to, its last seconds, in which the pair is compared."""

IN_FILE_S = 1.5
"""Until what sounds is in a capture for certain: the card's buffer and the file's."""

COMMAND_BEFORE_S = 0.3
"""By how much the sound may be changed before a command's time: a window has a length."""


# -- the run ----------------------------------------------------------------------------------------


Action = tuple[float, Callable[[], None]]
"""Seconds after the beginning, and what is done then."""


class Records:
    """The file of records.

    Args:
        out: where they go, each at once.
        began: the beginning, ``time.time()``.
    """

    def __init__(self, out: TextIO, began: float) -> None:
        self._out = out
        self.began = began

    def now_s(self) -> float:
        """Return the seconds since the beginning."""
        return time.time() - self.began

    def add(self, kind: str, **values: object) -> None:
        """Keep a record."""
        print(json.dumps({"kind": kind, "at_s": round(self.now_s(), 3), **values}), file=self._out, flush=True)


class Soak:
    """The room and what is done to it.

    Args:
        room: the rig.
        command: how the daemons are started.
        records: what is found.
    """

    def __init__(self, room: measure.Room, command: str, records: Records) -> None:
        self._room = room
        self._command = command.split()
        self._records = records
        self._client = ControlClient(
            NetworkConfig(), Paths.find({}, runtime_dir=Path(room.run) / "rt0" / "musicsyncd"), local_only=True
        )
        self._wrappers: dict[int, subprocess.Popen[bytes]] = {}
        self._read: dict[int, int] = {}
        self._spans = 0
        self._going_on: dict[Happening, tuple[int, float]] = {}

    def begin(self, folder: Path) -> None:
        """Start everything; the room repeats the folder's tracks."""
        arguments = argparse.Namespace(command=" ".join(self._command))
        measure.musicsyncd(self._room, str(folder), CARDS, arguments)
        for machine, process, _words in self._room.procs:
            self._wrappers[machine] = process
        self._start(3)
        self._span("start", EVERYWHERE, 0.0, START_S)
        end = time.monotonic() + START_S
        while True:
            try:
                self._client.post(api_path("rooms", "-", "repeat"), {"repeat": "all"})
                return
            except MusicSyncError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.2)

    def _start(self, machine: int) -> None:
        words = ["host"] if machine == HOST else ["peer", "--name", f"p{machine}"]
        if machine not in (HOST, *CARDS):
            words += ["--output", "null"]
        self._wrappers[machine] = self._room.start(machine, *self._command, *words, env=self._room.env)

    def daemon(self, machine: int) -> int | None:
        """Return the process id of a machine's daemon, which is the child of what gave it its clock."""
        pid = self._wrappers[machine].pid
        with contextlib.suppress(OSError):
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            return int(children[0]) if children else None
        return None

    def _end(self, machine: int, number: int) -> None:
        pid = self.daemon(machine)
        if pid is None:
            self._records.add("wrong", words=f"machine {machine} has no process to end")
            return
        os.kill(pid, number)
        try:
            self._wrappers[machine].wait(10.0)
        except subprocess.TimeoutExpired:
            self._records.add("wrong", words=f"machine {machine} did not end within 10 s of signal {number}")
            os.kill(pid, signal.SIGKILL)
            self._wrappers[machine].wait(10.0)

    def _span(self, what: str, machine: int, from_s: float, to_s: float, number: int = 0) -> int:
        """Record a span, or with its number what is now known of one; return its number."""
        if not number:
            self._spans += 1
            number = self._spans
        span = {"from_s": round(from_s, 3), "to_s": round(to_s, 3)}
        self._records.add("span", id=number, what=what, machine=machine, **span)
        return number

    @property
    def away(self) -> list[int]:
        """The machines whose daemon was ended and not started again."""
        return [one.machine for one in self._going_on if one.what in (*SPEAKER_FAULTS, *HOST_FAULTS)]

    # -- what happens

    def do(self, one: Happening) -> None:
        """Do it to the room."""
        from_s = self._records.now_s() - (COMMAND_BEFORE_S if one.what in COMMANDS else 0.0)
        number = self._span(one.what, one.machine, from_s, from_s + one.lasts_s + one.settles_s)
        self._going_on[one] = number, from_s
        if one.what in COMMANDS:
            self._call(one)
        elif one.what == "cut":
            self._room.cut(True)
        elif one.what == "cable":
            self._cable(one.machine, "down")
        else:
            self._end(one.machine, signal.SIGTERM if one.what.startswith("stop") else signal.SIGKILL)

    def undo(self, one: Happening) -> None:
        """Let the room be as before."""
        if one.what == "pause":
            self._post("resume")
        elif one.what == "cut":
            self._room.cut(False)
        elif one.what == "cable":
            self._cable(one.machine, "up")
        elif one.what not in COMMANDS:
            self._start(one.machine)
        number, from_s = self._going_on.pop(one)
        self._span(one.what, one.machine, from_s, self._records.now_s() + one.settles_s, number)

    def _cable(self, machine: int, state: str) -> None:
        subprocess.run(["ip", "link", "set", f"{self._room.tag}p{machine}", state], check=True)

    def _call(self, one: Happening) -> None:
        if one.what == "speaker volume":
            self._post_to(api_path("peers", f"p{one.machine}", "volume"), {"volume": one.value})
        elif one.what == "volume":
            self._post("volume", {"volume": one.value})
        else:
            self._post(one.what, {"to": one.value} if one.what == "seek" else {})

    def _post(self, action: str, body: dict[str, Any] | None = None) -> None:
        self._post_to(api_path("rooms", "-", action), body)

    def _post_to(self, path: str, body: dict[str, Any] | None) -> None:
        try:
            self._client.post(path, body)
        except MusicSyncError as error:
            self._records.add("wrong", words=f"{path}: {error}")

    # -- what is found

    def sample(self) -> None:
        """Record every process, what the host says, and what was logged; start again what ended unasked."""
        away = self.away
        self._records.add("machine", load=os.getloadavg()[0], cores=os.cpu_count())
        for machine in (HOST, *SPEAKERS):
            if machine in away:
                continue
            code = self._wrappers[machine].poll()
            if code is not None:
                self._records.add("wrong", words=f"machine {machine} ended by itself with {code}")
                now_s = self._records.now_s()
                self._span("died", machine, now_s - SAMPLE_EVERY_S, now_s + RESTARTS_S)
                self._start(machine)
            elif (pid := self.daemon(machine)) is not None:
                with contextlib.suppress(OSError):
                    self._records.add("process", name=name_of(machine), pid=pid, **process_figures(pid))
        if HOST not in away:
            try:
                self._records.add("status", **status_figures(self._client.get("/api/status")))
            except MusicSyncError as error:
                self._records.add("wrong", words=f"status: {error}")
        self._read_logs()

    def _read_logs(self) -> None:
        for machine in (HOST, *SPEAKERS):
            with open(f"{self._room.run}/machine{machine}.txt", errors="replace") as log:
                log.seek(self._read.get(machine, 0))
                lines = log.readlines()
                self._read[machine] = log.tell()
            for line in lines:
                if "warning:" in line or "error:" in line or "Traceback" in line:
                    self._records.add("warning", name=name_of(machine), words=kind_of(line), line=line.strip()[:300])


def name_of(machine: int) -> str:
    """Return what a machine's daemon is called in the report."""
    return "host" if machine == HOST else f"speaker {machine}"


def kind_of(line: str) -> str:
    """Return a line of a log without what differs from one such line to the next."""
    words = line.strip().partition(" ")[2] if re.match(r"\d\d:\d\d:\d\d ", line) else line.strip()
    return re.sub(r"[0-9a-f]*\d[0-9a-f]*([.:,]\d+)*", "#", words)[:160]


def process_figures(pid: int) -> dict[str, int]:
    """Return what a process has now.

    Raises:
        OSError: it has gone.
    """
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line)
    if "VmRSS" not in status:
        raise ProcessLookupError(pid)
    return {
        "rss_kib": int(status["VmRSS"].split()[0]),
        "threads": int(status["Threads"]),
        "files": len(os.listdir(f"/proc/{pid}/fd")),
    }


def status_figures(status: dict[str, Any]) -> dict[str, Any]:
    """Return what is kept of a host's status."""
    room = status["rooms"][0]
    kept = ("state", "reach", "underruns", "starved_frames", "sync_error_us", "fault")
    return {
        "mode": room["mode"],
        "position": [room["queue_position"], room["position_s"]],
        "fault": room["fault"],
        "speakers": {peer["name"]: {name: peer[name] for name in kept} for peer in status["peers"]},
        "dropped": status["host"]["dropped"],
    }


class Listener:
    """Has the cards listened to, a stretch at a time, in a process that waits for all others.

    Args:
        run: the rig's folder.
        source: the tracks, as :func:`soak_ear.make_source` left them.
        records: what is found.
        keep: leave the captures as they are.

    Attributes:
        cpu_s: what the listening took of the processor.
    """

    def __init__(self, run: Path, source: Path, records: Records, *, keep: bool) -> None:
        prefixes = [str(run / f"card{number}") for number in CARDS]
        self._pool = ProcessPoolExecutor(1, initializer=soak_ear.begin, initargs=(source, prefixes))
        self._records = records
        self._keep = keep
        self._since = records.began
        self._pending: Future[soak_ear.Heard] | None = None
        self.cpu_s = 0.0

    def turn(self, *, wait: bool = False) -> None:
        """Record what was found and have the next stretch listened to; one who is behind takes a longer one."""
        if self._pending is not None and not (wait or self._pending.done()):
            return
        self.take()
        until = time.time() - IN_FILE_S
        self._pending = self._pool.submit(soak_ear.listen, self._since, until, COMPARED_S, keep=self._keep)
        self._since = until

    def take(self) -> None:
        """Record what was found in the last stretch, once it is."""
        if self._pending is None:
            return
        heard, self._pending = self._pending.result(), None
        self.cpu_s = heard.cpu_s
        began, add = self._records.began, self._records.add
        for machine, silent, broken in zip(CARDS, heard.silences, heard.underruns, strict=True):
            add("listened", machine=machine, from_s=heard.since - began, to_s=heard.until - began)
            for since, until in silent:
                add("silent", machine=machine, from_s=round(since - began, 3), to_s=round(until - began, 3))
            for at in broken:
                add("underrun", machine=machine, at_s=round(at - began, 3))
        if heard.rows:
            add("pair", rows=[(round(at - began, 2), round(us, 2)) for at, us in heard.rows])

    def close(self) -> None:
        """End the process."""
        self._pool.shutdown(cancel_futures=True)


def timetable(happenings: Sequence[Happening], soak: Soak, listener: Listener, seconds: float) -> list[Action]:
    """Return what is to be done when, in order."""
    actions: list[Action] = []
    for one in happenings:
        actions.append((one.at_s, lambda one=one: soak.do(one)))
        if one.lasts_s or one.what not in COMMANDS:
            actions.append((one.at_s + one.lasts_s, lambda one=one: soak.undo(one)))
    for every_s, action in ((SAMPLE_EVERY_S, soak.sample), (LISTEN_EVERY_S, listener.turn)):
        actions += [(number * every_s, action) for number in range(1, int(seconds / every_s) + 1)]
    return sorted(actions, key=lambda action: action[0])


def play_out(actions: Sequence[Action], records: Records, seconds: float) -> None:
    """Do everything at its time, and wait for the end."""
    for at_s, action in actions:
        time.sleep(max(0.0, at_s - records.now_s()))
        action()
    time.sleep(max(0.0, seconds - records.now_s()))


def run_soak(folder: Path, options: argparse.Namespace) -> None:
    """Run it, with records into the folder's ``soak.jsonl``."""
    seconds = options.minutes * 60
    music = folder / "music"
    music.mkdir(exist_ok=True)
    with ProcessPoolExecutor(1, initializer=os.nice, initargs=(19,)) as maker:  # Whose memory goes with it.
        source = maker.submit(soak_ear.make_source, music, TRACKS, options.seed).result()
    room = measure.Room(
        str(folder), ["busy"] * len(SPEAKERS), list(PPMS), 1, soak_ear.RATE_HZ, options.seed, True, list(SKEWS_PPM)
    )
    with (folder / "soak.jsonl").open("w") as out, contextlib.ExitStack() as stack:
        stack.callback(room.close)
        records = Records(out, time.time())
        records.add("begin", seed=options.seed, minutes=options.minutes, began=records.began)
        listener = Listener(folder, source, records, keep=options.keep_sound)
        stack.callback(listener.close)
        soak = Soak(room, options.command, records)
        soak.begin(music)
        play_out(timetable(plan(seconds, options.seed), soak, listener, seconds), records, seconds)
        listener.turn(wait=True)
        listener.take()
        soak.sample()
        records.add("end", listener_cpu_percent=round(100 * listener.cpu_s / records.now_s(), 2))


def main(argv: Sequence[str] | None = None) -> int:
    """Run a soak, or read one's records, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0, help="how long (default: 60)")
    parser.add_argument("--seed", type=int, default=1, help="of the plan, the network and the music (default: 1)")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="where records and logs go, and stay")
    parser.add_argument("--keep-sound", action="store_true", help="and the captures: 1.4 GB an hour for each card")
    parser.add_argument("--command", default=f"{sys.executable} -m musicsyncd", help="how the daemons are started")
    parser.add_argument("--plan", action="store_true", help="print what would happen, and do nothing")
    parser.add_argument("--read", type=Path, metavar="FILE", help="report these records, and run nothing")
    options = parser.parse_args(argv)
    if options.minutes < LEAST_MINUTES:
        parser.error(f"--minutes has to be {LEAST_MINUTES:g} or more")
    if options.read:
        print(soak_report.report(soak_report.read(options.read)))
        return 0
    if options.plan:
        for one in plan(options.minutes * 60, options.seed):
            print(f"{one.at_s:7.1f} s  {one.what} {one.value}  machine {one.machine}  for {one.lasts_s:.1f} s")
        return 0
    lacks = missing_for(())
    if lacks:
        print(lacks, file=sys.stderr)
        return 1
    folder = options.keep or Path(tempfile.mkdtemp(prefix="soak-"))
    folder.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        run_soak(folder.absolute(), options)
    except KeyboardInterrupt:
        print("interrupted: these are the figures until now", file=sys.stderr)
    if (folder / "soak.jsonl").exists():
        print(soak_report.report(soak_report.read(folder / "soak.jsonl")))
    if not options.keep:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
