"""What a room must reach, measured on the rig: sync, late joining, reaction, weight, beside Snapcast in the same run.

    sudo python tests/bench/room.py [--repeat N] [--quick]

Every case runs ``tests/rig/measure.py``: a host and two speakers in network namespaces of their own, on virtual
sound cards whose crystals are off by +60 and −40 ppm and with system clocks that are off by +50 and −30 ppm. The
figures come from the samples that the cards were given. Needs root, and what the rig needs (see tests/rig/measure.py);
``snapserver``, ``snapclient`` and ``ffmpeg`` for the comparison. This is a benchmark: it fails nothing, it prints.
"""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

RIG = Path(__file__).parents[1] / "rig" / "measure.py"
SAME = ["--net", "wire,wire", "--ppm", "60,-40", "--clock-ppm", "0,50,-30"]
DO = (
    "10:pause;13:resume;16:seek 30;19:seek +10;22:api pause;25:api resume;"
    '28:api seek {"to":"5"};31:api seek {"to":"50%"}'
)


def measure(system, *arguments):
    command = [sys.executable, str(RIG), system, *SAME, *arguments]
    command += ["--command", f"{sys.executable} -m musicsyncd"]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def sync(system, seconds):
    found = measure(system, "--seconds", str(seconds))
    pair, players = found["pairs"]["1-2"], found["players"].values()
    usage = [value for name, value in found["usage"].items() if name.startswith("player")]
    return {
        "pair median µs": pair["median"],
        "pair p99 µs": pair["p99"],
        "pair max µs": pair["max"],
        "within 1 ms for good after s": pair["within_1ms_for_good_after_s"],
        "first sound s": max(one["first_sound_s"] for one in players),
        "silent windows": sum(one["silent_windows"] for one in players),
        "underruns": sum(one["xruns"] for one in players),
        "purity dB (median)": min(one["purity_db"]["median"] for one in players),
        "CPU of a peer %": 100 * sum(one["cpu_s"] for one in usage) / len(usage) / seconds,
        "memory of a peer MiB": max(one["rss_mib"] for one in usage),
        "host sent MB": found["server_sent_bytes"] / 1e6,
    }


def late():
    found = measure("musicsyncd", "--late", "20", "--seconds", "40")
    pair = found["pairs"]["1-2"]
    return {
        "in phase after start s": found["players"]["2"]["first_sound_s"] + pair["within_1ms_first_after_s"],
        "pair max µs": pair["max"],
    }


def reaction():
    found = measure("musicsyncd", "--seconds", "36", "--do", DO)
    rows = {}
    for one in found["commands"]:
        heard = [value for value in one["heard_after_s"].values() if value is not None]
        rows[f"{one['command']}: heard after ms"] = 1000 * max(heard) if len(heard) == 2 else float("nan")
        rows[f"{one['command']}: apart ms"] = one["apart_ms"]
    return rows


def table(title, runs):
    print(f"\n{title}")
    for name in runs[0]:
        values = sorted(float("nan") if run[name] is None else run[name] for run in runs)
        spread = f"   ({values[0]:.4g} … {values[-1]:.4g})" if len(values) > 1 else ""
        print(f"  {name:<44}{values[len(values) // 2]:>12.4g}{spread}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one run of each")
    arguments = parser.parse_args()
    times = range(1 if arguments.quick else arguments.repeat)
    ours, theirs = [], []
    for _ in times:  # By turns, so that both meet the same machine.
        ours.append(sync("musicsyncd", 60))
        if shutil.which("snapserver"):
            theirs.append(sync("snapcast", 60))
    table(f"musicsyncd, two speakers for 60 s, {len(times)} runs: median (least … most)", ours)
    if theirs:
        table("Snapcast, in the same runs", theirs)
    table("a speaker that is started after 20 s", [late() for _ in times])
    table("from giving a command to hearing it", [reaction() for _ in times])


if __name__ == "__main__":
    main()
