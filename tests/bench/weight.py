"""What musicsyncd weighs: how long commands take, how soon a speaker is in step, what memory it has, what it imports.

``python tests/bench/weight.py [--runs N] [--starts N] [--hours H] [--only commands|start|memory|imports]``

One host plays on loopback, with speakers on the null output and, through PortAudio, on the virtual card of
``tests/rig/vdac.c``.

*commands*: each runs N times, by turns, into a pipe. CPU time is what the process and the interpreter in it
took; a machine that does something else beside it changes that less than the wall's time.

*start*: a speaker that was never there joins while the music plays. From starting its process until its first sound in
phase, as its card heard it (within 1 ms of the line on which it is later; a window of 43 ms every 5), and until the
host's status says that it is together. The first figure has the 80 ms in it that the card holds.

*memory*: after some seconds of playing, of a FLAC of minutes and of one of hours. RSS counts pages of libraries that
are the kernel's to take back, and for every process again; PSS divides what is shared.

*imports*: ``-X importtime`` of ``status`` and of a speaker, summed by package, least of three.

Prints, and judges nothing.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import soundfile

sys.path += [str(Path(__file__).parents[1] / folder) for folder in ("e2e", "rig")]
from delivery import make_music
from house import COMMAND, FINE, RATE_HZ, House, build_card, line_s, part, sounding
from tables import machine_kind, plain, spread

MINUTES_S = 240
IN_PHASE_S = 1e-3
JUDGED_S = 1.5
"""Of sound after a speaker is together: the line on which it is."""

PLAYED_S = 10.0
IMPORT_RUNS = 3
PACKAGES = 10
OUTPUTS = ("null", "portaudio")


def make_noise(path: Path) -> np.ndarray:
    """Write a track of minutes, every place of which can be told from every other, and return its sound."""
    noise = (0.1 * np.random.default_rng(7).standard_normal((MINUTES_S * RATE_HZ, 1))).astype(np.float32)
    soundfile.write(path, np.repeat(noise, 2, axis=1), RATE_HZ, "PCM_16")
    return noise[:, 0]


@contextmanager
def playing(card: Path, track: Path) -> Iterator[House]:
    """Have a host that plays a track, until the end of the block."""
    house = House(card)
    try:
        house.host(str(track))
        house.until("it plays", lambda: house.room()["moving"])
        yield house
    except BaseException:
        for name, text in house.logs():
            print(f"-- {name}\n{text[-2000:]}", file=sys.stderr)
        raise
    finally:
        house.close()


def cost_ms(command: Sequence[str], environment: dict[str, str]) -> tuple[float, float]:
    """Return the wall's time and the CPU time of a command, its children's too."""
    began_s = time.perf_counter()
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=environment)
    assert process.stdout is not None
    process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    wall_s = time.perf_counter() - began_s
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
    return 1000 * wall_s, 1000 * (used.ru_utime + used.ru_stime)


def bench_commands(house: House, runs: int) -> None:
    """Time commands, and an interpreter that does nothing beside them."""
    where = (*house.network, "--state-dir", str(house.state))
    commands = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "musicsyncd version": [*COMMAND, "version"],
        "musicsyncd --help": [*COMMAND, "--help"],
        "musicsyncd status": [*COMMAND, "status", *where],
        "musicsyncd status --json": [*COMMAND, "status", "--json", *where],
    }
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for run in range(runs + 1):
        for name, command in commands.items():
            figures = cost_ms(command, house.environment())
            if run:  # The first one reads files from the disk, and compiles what was not compiled yet.
                found[name].append(figures)
    rows = [["ms, median (least … most)", "wall", "CPU"]]
    rows += [[name, *(str(spread(column)) for column in zip(*figures, strict=True))] for name, figures in found.items()]
    print(f"\n{runs} runs each\n{plain(rows)}")


def begin(house: House, name: str, output: str) -> tuple[float, float, int]:
    """Start a speaker; return when (time.time()), after how many seconds it was together, and its process."""
    began = time.time()
    process = house.peer(name, "--output", output).process
    while house.speaker(name).get("state") != "together":
        if time.time() - began > 30 or process.poll() is not None:
            raise RuntimeError(f"{name} is not together")
        time.sleep(0.01)
    return began, time.time() - began, process.pid


def bench_start(house: House, source: np.ndarray, starts: int) -> None:
    """Let new speakers join one after the other."""
    found: dict[str, list[float | None]] = defaultdict(list)
    for number in range(starts):
        for output in OUTPUTS:
            house.client.post("/api/rooms/-/seek", {"to": "0"})
            time.sleep(0.5)
            name = f"{output}-{number}"
            began, together_s, _ = begin(house, name, output)
            found[f"{output}: reported together"].append(together_s)
            if output == "portaudio":
                until = began + together_s + JUDGED_S
                rows = sounding(house.heard(name, part(source, 20.0), began, until, **FINE))
                on_line_s = np.abs(rows[:, 0] - rows[:, 1] - line_s(rows[-200:])) < IN_PHASE_S
                sounded = float(rows[on_line_s][0, 0]) - began if on_line_s.any() else None
                found[f"{output}: first sound in phase"].append(sounded)
                found[f"{output}: first sound at all"].append(float(rows[0, 0]) - began)
            house.started[-1].stop()
    rows = [["s after the start, median (least … most)", ""]]
    rows += [[name, str(spread(values))] for name, values in found.items()]
    print(f"\n{starts} starts each\n{plain(rows)}")


def memory_mib(pid: int) -> list[str]:
    """Return RSS, PSS, what of it is not backed by files, and the most that RSS was; then threads."""
    held = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    rollup = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:])
    kib = (held["VmRSS"], rollup["Pss"], held["RssAnon"], held["VmHWM"])
    return [*(f"{int(one.split()[0]) / 1024:.1f}" for one in kib), held["Threads"].strip()]


def bench_memory(card: Path, tracks: dict[str, Path]) -> None:
    """Read what speakers and their host hold."""
    rows = [["MiB", "RSS", "PSS", "anonymous", "peak", "threads"]]
    for what, track in tracks.items():
        with playing(card, track) as house:
            for output in OUTPUTS:
                pid = begin(house, output, output)[2]
                time.sleep(PLAYED_S)
                rows.append([f"a speaker, {output}, {what}", *memory_mib(pid)])
                house.started[-1].stop()
            rows.append([f"its host, {what}", *memory_mib(house.started[0].process.pid)])
    print(f"\nafter {PLAYED_S:.0f} s\n{plain(rows)}")


def by_package(said: str) -> dict[str, float]:
    """Return what ``-X importtime`` printed: milliseconds by package."""
    found: dict[str, float] = defaultdict(float)
    for line in said.splitlines():
        if line.startswith("import time:") and line.count("|") == 2:
            self_us, _, name = line.removeprefix("import time:").split("|")
            if self_us.strip().isdecimal():
                found[name.strip().partition(".")[0]] += int(self_us) / 1000
    return found


def bench_imports(house: House) -> None:
    """Print what takes long to import."""
    profile = {"PYTHONPROFILEIMPORTTIME": "1"}
    where = (*house.network, "--state-dir", str(house.state))
    said: dict[str, list[dict[str, float]]] = defaultdict(list)
    for number in range(IMPORT_RUNS):
        said["musicsyncd status"].append(by_package(house.run("status", *where, **profile).stderr))
        name = f"imports-{number}"
        speaker = house.peer(name, "--output", "portaudio", **profile)
        house.together(name)
        speaker.stop()
        said["a speaker"].append(by_package(speaker.log.read_text()))
    for what, runs in said.items():
        least = min(runs, key=lambda one: sum(one.values()))
        most = sorted(least.items(), key=lambda one: -one[1])[:PACKAGES]
        rows = [[f"imports of {what}", "ms"], ["all", f"{sum(least.values()):.1f}"]]
        print(f"\n{plain(rows + [[package, f'{ms:.1f}'] for package, ms in most])}")


def main() -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20, help="of each command (default: 20)")
    parser.add_argument("--starts", type=int, default=5, help="of a speaker on each output (default: 5)")
    parser.add_argument("--hours", type=float, default=3.0, help="length of the long track (default: 3)")
    parser.add_argument("--only", choices=("commands", "start", "memory", "imports"), help="one of them")
    options = parser.parse_args()
    if shutil.which("gcc") is None:
        print("gcc is not installed: it builds the virtual card")
        return 1
    print(f"{machine_kind()}, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory(prefix="mw") as name:
        folder = Path(name)
        card, minutes = build_card(folder), folder / "minutes.flac"
        source = make_noise(minutes)
        if options.only != "memory":
            with playing(card, minutes) as house:
                if options.only in (None, "commands"):
                    bench_commands(house, options.runs)
                if options.only in (None, "start"):
                    bench_start(house, source, options.starts)
                if options.only in (None, "imports"):
                    bench_imports(house)
        if options.only in (None, "memory"):
            hours = folder / "hours.flac"
            make_music(hours, seconds=3600 * options.hours)
            bench_memory(card, {f"FLAC of {MINUTES_S / 60:.0f} min": minutes, f"FLAC of {options.hours:g} h": hours})
    return 0


if __name__ == "__main__":
    sys.exit(main())
