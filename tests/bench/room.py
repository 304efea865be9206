"""What a room must reach, measured on the rig: every case of its goals, beside Snapcast in the same run.

    sudo python tests/bench/room.py [--repeat N] [--only CASE,CASE] [--all-beside] [--markdown]
    python tests/bench/room.py --list

Every case runs ``tests/rig/measure.py``: a host and its speakers in network namespaces of their own, on virtual
sound cards whose crystals are off by +60 and −40 ppm and with system clocks that are off by +50 and −30 ppm. The
figures come from the samples that the cards were given. Where there are more than two speakers, each figure is that of
the worst pair or speaker. Snapcast runs by turns with musicsyncd, so that both meet the same machine; without
``--all-beside`` on the wired LAN only. CPU of its host includes the ffmpeg that feeds it.

This is a benchmark: it fails nothing, it prints. Beside each limit it says how many of the runs reached it. An underrun
or a silent window may be the doing of a machine that stalls; several runs show whether it is. A run that could not be
made is named, and the others go on. Needs root and what the rig needs (see tests/rig/measure.py); ``snapserver``,
``snapclient`` and ``ffmpeg`` for the comparison.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tables import Limit, machine_kind, markdown, number, plain, ratio, spread

RIG = Path(__file__).parents[1] / "rig" / "measure.py"
ANALYSIS_S = 300.0
"""What a run may take beyond its sound: building, starting, and reading the captures on a slow machine."""

TOOLS = ("gcc", "ip", "ethtool", "unshare", "chrt")
SNAPCAST_TOOLS = ("snapserver", "snapclient", "ffmpeg")

Found = Mapping[str, Any]
Figures = dict[str, float | None]
"""By name with the unit; None for what never happened."""

MEDIAN, P99, MOST = "pair median µs", "pair p99 µs", "pair max µs"
SPEAKER_CPU, HOST_CPU = "CPU of a speaker %", "CPU of the host %"
SPEAKER_MEMORY = "memory of a speaker MiB"
SPEEDS = (SPEAKER_CPU, HOST_CPU)
"""Figures of the machine as much as of the program: between machines only their ratio means something."""

NO_RATIO = ("underruns", "silent windows", "purity dB, median", "purity dB, worst window", "windows under 60 dB")

MOST_CPU_RATIO = 2.0
"""Of a speaker's CPU, to that of Snapcast's in the same run."""

QUALITY = {
    "underruns": Limit(0),
    "silent windows": Limit(0),
    "purity dB, median": Limit(90, at_least=True),
    "windows under 60 dB": Limit(0),
    SPEAKER_MEMORY: Limit(60),
}


class RunError(Exception):
    """A run that gave no figures; its text is one line."""


@dataclass(frozen=True, slots=True)
class Case:
    """One line of what a room must reach.

    Attributes:
        name: for ``--only``.
        title: for people.
        seconds: of sound.
        read: figures from what the rig printed.
        limits: of the figures, by their names.
        options: of the rig; a later one takes the place of an earlier one.
        beside: whether Snapcast runs beside it: ``always``, ``asked`` or ``never``.
    """

    name: str
    title: str
    seconds: int
    read: Callable[[Found, int], Figures]
    limits: Mapping[str, Limit] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    beside: str = "never"


TWO = ("--net", "wire,wire", "--ppm", "60,-40", "--clock-ppm", "0,50,-30")
THREE = ("--net", "wire,wire,wire", "--ppm", "60,-40,20", "--clock-ppm", "0,50,-30,10")
TOGETHER, JOINED = "both:0:3", "both:3:"
FIRST_WINDOW = "both:0:0.05"
"""Windows are a tenth of a second apart, so this holds exactly one."""
CUT, CUT_END, MENDED = "cut:0:30", "mend:-1:0", "mend:3:"
DO = (
    "10:pause;13:resume;16:seek 30;19:seek +10;22:api pause;25:api resume;"
    '28:api seek {"to":"5"};31:api seek {"to":"50%"}'
)


# -- from what the rig printed to figures ----------------------------------------------------------


def measure(system: str, case: Case) -> Found:
    """Run the rig once.

    Raises:
        RunError: it failed, took too long, or some speaker or pair of them has no figures.
    """
    options = [system, *TWO, *case.options, "--seconds", str(case.seconds)]
    command = [sys.executable, str(RIG), *options, "--command", f"{sys.executable} -m musicsyncd"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            printed, said = process.communicate(timeout=case.seconds + ANALYSIS_S)
        except subprocess.TimeoutExpired:
            # Interrupted and not killed, because it has network namespaces and programs to take down.
            process.send_signal(signal.SIGINT)
            process.communicate()
            raise RunError(f"measure.py {' '.join(options)}: not done in {case.seconds + ANALYSIS_S:g} s") from None
    reason = ""
    if process.returncode:
        lines = said.strip().splitlines()
        reason = f"exit {process.returncode}: {lines[-1] if lines else 'without a word'}"
    else:
        try:
            found = json.loads(printed)
            reason = lacking(found)
        except ValueError as error:
            reason = f"printed no JSON ({error})"
    if reason:
        raise RunError(f"measure.py {' '.join(options)}: {reason}")
    return found


def lacking(found: Found) -> str:
    """Say what keeps a run from having figures, or nothing."""
    for name, player in found["players"].items():
        if "first_sound_s" not in player:
            return f"speaker {name} was never heard"
        if "purity_db" not in player:
            return f"speaker {name} was not heard for long enough"
    for name, pair in found["pairs"].items():
        if pair is None:
            return f"speakers {name} never sounded together"
        if "median" not in pair:
            return f"speakers {name} did not sound together for long enough"
        for span, figures in pair.get("spans", {}).items():
            if not figures:
                return f"speakers {name} did not sound together in {span}"
    return ""


def worst(found: Found, key: str) -> float | None:
    """Return the largest of the pairs' figures; None if one of them never happened."""
    values = [pair[key] for pair in found["pairs"].values()]
    return None if None in values else max(values)


def quality(found: Found) -> Figures:
    """Return what the music went through, of the worst speaker, and their memory."""
    players = found["players"].values()
    return {
        "underruns": sum(one["xruns"] for one in players),
        "silent windows": sum(one["silent_windows"] for one in players),
        "purity dB, median": min(one["purity_db"]["median"] for one in players),
        "purity dB, worst window": min(one["purity_db"]["worst"] for one in players),
        "windows under 60 dB": sum(one["purity_db"]["below_60"] for one in players),
        SPEAKER_MEMORY: max(use["rss_mib"] for name, use in found["usage"].items() if name != "server"),
    }


def steady(found: Found, seconds: int) -> Figures:
    """Return the figures of a room that plays from the start to the end."""
    first_s = max(one["first_sound_s"] for one in found["players"].values())
    in_phase_s = worst(found, "within_1ms_first_after_s")
    speakers_s = [use["cpu_s"] for name, use in found["usage"].items() if name != "server"]
    return {
        MEDIAN: worst(found, "median"),
        P99: worst(found, "p99"),
        MOST: worst(found, "max"),
        "first sound s": first_s,
        "first sound in phase (1 ms) s": None if in_phase_s is None else first_s + in_phase_s,
        "in phase for good, after first sounding together s": worst(found, "within_1ms_for_good_after_s"),
        **quality(found),
        SPEAKER_CPU: 100 * sum(speakers_s) / len(speakers_s) / seconds,
        HOST_CPU: 100 * found["usage"]["server"]["cpu_s"] / seconds,
        "host sent MB": found["server_sent_bytes"] / 1e6,
    }


def late(found: Found, seconds: int) -> Figures:
    """Return how a speaker that was started later came in."""
    pair, first_s = found["pairs"]["1-2"], found["players"]["2"]["first_sound_s"]
    in_phase_s = pair["within_1ms_first_after_s"]
    return {
        "its first sound after its start s": first_s,
        "the same in phase (1 ms) s": None if in_phase_s is None else first_s + in_phase_s,
        "its first window µs": pair["spans"][FIRST_WINDOW]["max"],
        "max of its first 3 s µs": pair["spans"][TOGETHER]["max"],
        "p99 from 3 s on µs": pair["spans"][JOINED]["p99"],
        "max from 3 s on µs": pair["spans"][JOINED]["max"],
        **quality(found),
    }


def cut(found: Found, seconds: int) -> Figures:
    """Return how speakers did whose network went away and came back."""
    spans = found["pairs"]["1-2"]["spans"]
    return {
        "max during the cut µs": spans[CUT]["max"],
        "max in its last second µs": spans[CUT_END]["max"],
        "p99 from 3 s after it on µs": spans[MENDED]["p99"],
        "max from 3 s after it on µs": spans[MENDED]["max"],
        **quality(found),
    }


def reaction(found: Found, seconds: int) -> Figures:
    """Return how long commands took to be heard, and how far apart the speakers were in it."""
    rows: Figures = {}
    for one in found["commands"]:
        heard = [value for value in one["heard_after_s"].values() if value is not None]
        everyone = len(heard) == len(found["players"])
        rows[f"{one['command']}: heard after ms"] = 1000 * max(heard) if everyone else None
        rows[f"{one['command']}: apart ms"] = one["apart_ms"]
    return rows


def pair_limits(median_us: float, p99_us: float, most_us: float) -> dict[str, Limit]:
    """Return the limits of a steady room."""
    return {MEDIAN: Limit(median_us), P99: Limit(p99_us), MOST: Limit(most_us), **QUALITY}


LATE_LIMITS = {"max of its first 3 s µs": Limit(500), "max from 3 s on µs": Limit(20), **QUALITY}
CUT_LIMITS = {"max in its last second µs": Limit(150), "max from 3 s after it on µs": Limit(20), **QUALITY}
CASES = (
    Case("wire", "wired", 60, steady, pair_limits(5, 20, 50), beside="always"),
    Case(
        "grain48",
        "wired, three, cards that report in steps of 1 ms",
        60,
        steady,
        pair_limits(10, 40, 100),
        (*THREE, "--grain", "48"),
        beside="asked",
    ),
    Case(
        "grain480",
        "wired, three, cards that report in steps of 10 ms",
        60,
        steady,
        pair_limits(10, 40, 100),
        (*THREE, "--grain", "480"),
        beside="asked",
    ),
    Case("wifi", "Wi-Fi", 60, steady, pair_limits(20, 80, 200), ("--net", "wifi,wifi"), beside="asked"),
    Case("busy", "busy Wi-Fi", 60, steady, pair_limits(50, 200, 500), ("--net", "busy,busy"), beside="asked"),
    Case("mixed", "wired, and busy Wi-Fi", 60, steady, pair_limits(50, 200, 500), ("--net", "wire,busy"), "asked"),
    Case("44100", "wired, a track of 44.1 kHz", 60, steady, pair_limits(5, 20, 50), ("--track-rate", "44100")),
    Case(
        "late",
        "wired, a speaker that is started after 20 s",
        60,
        late,
        LATE_LIMITS,
        ("--late", "20", "--spans", ",".join((FIRST_WINDOW, TOGETHER, JOINED))),
    ),
    Case(
        "cut",
        "wired, the network gone from 20 s to 50 s",
        70,
        cut,
        CUT_LIMITS,
        ("--cut", "20,30", "--spans", ",".join((CUT, CUT_END, MENDED))),
    ),
    Case("reaction", "wired, from giving a command to hearing it", 36, reaction, options=("--do", DO)),
)


# -- runs ------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Results:
    """What was found so far: for each case the figures of each run, and what went wrong."""

    ours: dict[str, list[Figures]] = field(default_factory=lambda: defaultdict(list))
    theirs: dict[str, list[Figures]] = field(default_factory=lambda: defaultdict(list))
    failures: list[str] = field(default_factory=list)


def run_all(cases: Sequence[Case], repeat: int, beside: Sequence[str], results: Results) -> None:
    """Run every case ``repeat`` times, and those in ``beside`` by turns with Snapcast.

    What was found goes into ``results`` at once, so that an interrupt leaves what there was until then.
    """
    for turn in range(1, repeat + 1):
        for case in cases:
            for system, into in (("musicsyncd", results.ours), ("snapcast", results.theirs)):
                if system == "snapcast" and case.name not in beside:
                    continue
                print(f"{case.name}, {system}, {turn} of {repeat} …", file=sys.stderr, flush=True)
                try:
                    into[case.name].append(case.read(measure(system, case), case.seconds))
                except RunError as error:
                    results.failures.append(f"{case.name}: {error}")
                    print(f"  {error}", file=sys.stderr, flush=True)


def within(case: Case, name: str, runs: Sequence[Figures]) -> str:
    """Say how many runs reached the limit of a figure."""
    limit = case.limits.get(name)
    return f"{sum(limit.holds(run[name]) for run in runs)} of {len(runs)}" if limit else ""


def cpu_ratio_row(ours: Sequence[Figures], theirs: Sequence[Figures]) -> list[str]:
    """Return the row of the limit on a speaker's CPU, which only a comparison can tell."""
    mine, other = (spread(run[SPEAKER_CPU] for run in runs).median for runs in (ours, theirs))
    reached = "yes" if mine <= MOST_CPU_RATIO * other else "no"
    return ["CPU of a speaker, of Snapcast's", number(mine / other), f"≤ {MOST_CPU_RATIO:g}", reached, "1", ""]


def full_rows(case: Case, ours: Sequence[Figures], theirs: Sequence[Figures]) -> list[list[str]]:
    """Return every figure of a case with its limit and, where Snapcast ran too, that and the ratio."""
    rows = [["", "musicsyncd", "limit", "reached", "Snapcast", "ratio"]]
    for name in ours[0]:
        mine = spread(run[name] for run in ours)
        limit = case.limits.get(name)
        row = [name, str(mine), str(limit) if limit else "", within(case, name, ours), "", ""]
        if theirs:
            other = spread(run[name] for run in theirs)
            row[4:] = [str(other), "" if name in NO_RATIO else ratio(mine.median, other.median)]
        rows.append(row)
    if theirs and SPEAKER_CPU in ours[0]:
        rows.append(cpu_ratio_row(ours, theirs))
    return rows if theirs else [row[:4] for row in rows]


def summary_rows(cases: Sequence[Case], results: Results) -> list[list[str]]:
    """Return one row a steady case: the pair's figures with their limits, and the runs that reached all limits."""
    rows = [["", "median µs", "99 % µs", "max µs", "purity dB", "runs within all limits"]]
    for case in cases:
        runs = results.ours[case.name]
        if MEDIAN not in case.limits or not runs:
            continue
        cells = [f"{spread(run[name] for run in runs)}, {case.limits[name]}" for name in (MEDIAN, P99, MOST)]
        reached = sum(all(limit.holds(run[name]) for name, limit in case.limits.items()) for run in runs)
        purity = spread(run["purity dB, median"] for run in runs)
        rows.append([case.title, *cells, str(purity), f"{reached} of {len(runs)}"])
    return rows


def beside_rows(ours: Sequence[Figures], theirs: Sequence[Figures]) -> list[list[str]]:
    """Return the comparison for a page that is read elsewhere: of speeds, only the ratio."""
    rows = [["", "musicsyncd", "Snapcast", "ratio"]]
    for name in ours[0]:
        mine, other = spread(run[name] for run in ours), spread(run[name] for run in theirs)
        is_speed = name in SPEEDS
        compared = "" if name in NO_RATIO else ratio(mine.median, other.median)
        shown = name.removesuffix(" %") if is_speed else name
        rows.append([shown, "" if is_speed else str(mine), "" if is_speed else str(other), compared])
    return rows


def pages(cases: Sequence[Case], results: Results, *, as_markdown: bool) -> list[str]:
    """Return all tables with their titles, for a terminal or as the README needs them."""
    render = markdown if as_markdown else plain
    parts = [f"{machine_kind()}. Each figure is the median of the runs (least … most)."]
    if as_markdown:
        steady_rows = summary_rows(cases, results)
        if len(steady_rows) > 1:
            parts.append(render(steady_rows))
    for case in cases:
        ours, theirs = results.ours[case.name], results.theirs[case.name]
        if not ours:
            continue
        title = f"{case.title} ({len(ours)} run{'s' if len(ours) > 1 else ''})"
        if not as_markdown:
            parts.append(f"{case.name}: {title}\n{render(full_rows(case, ours, theirs))}")
        elif theirs:
            parts.append(f"{title}, beside Snapcast ({len(theirs)}):\n\n{render(beside_rows(ours, theirs))}")
        elif MEDIAN not in case.limits:
            rows = full_rows(case, ours, [])
            parts.append(f"{title}:\n\n{render(rows if case.limits else [row[:2] for row in rows])}")
    return parts


# -- the command -----------------------------------------------------------------------------------


def missing_for(beside: Sequence[str]) -> str:
    """Say what keeps the rig from running at all, or nothing."""
    wanted = (*TOOLS, *(SNAPCAST_TOOLS if beside else ()))
    lacks = [name for name in wanted if shutil.which(name) is None]
    if lacks:
        return f"not installed: {', '.join(lacks)} (see tests/rig/measure.py, and --no-beside)"
    return "" if os.geteuid() == 0 else "the rig makes network namespaces: run this as root"


def chosen(words: str, parser: argparse.ArgumentParser) -> list[Case]:
    """Return the cases that were asked for, in the order of the table; without words all."""
    names = [name for name in words.split(",") if name]
    unknown = sorted(set(names) - {case.name for case in CASES})
    if unknown:
        parser.error(f"there is no case {', '.join(unknown)}; --list shows them")
    return [case for case in CASES if not names or case.name in names]


def main(argv: Sequence[str] | None = None) -> int:
    """Run what was asked for and print the tables; return 1 if nothing could be measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=3, help="runs of each case (default: 3)")
    parser.add_argument("--only", default="", metavar="CASE,…", help="these cases and no others")
    parser.add_argument("--list", action="store_true", help="print the cases and run none")
    parser.add_argument("--all-beside", action="store_true", help="Snapcast not on the wired LAN only")
    parser.add_argument("--no-beside", action="store_true", help="without Snapcast")
    parser.add_argument("--markdown", action="store_true", help="print the tables as the README has them")
    options = parser.parse_args(argv)
    if options.repeat < 1:
        parser.error("--repeat has to be 1 or more")
    cases = chosen(options.only, parser)
    if options.list:
        for case in cases:
            beside = {"always": "Snapcast beside it", "asked": "Snapcast with --all-beside", "never": ""}[case.beside]
            print(f"{case.name:10}{case.seconds:4} s  {case.title:52}{beside}".rstrip())
        return 0
    kinds = () if options.no_beside else ("always", "asked") if options.all_beside else ("always",)
    beside = [case.name for case in cases if case.beside in kinds]
    lacks = missing_for(beside)
    if lacks:
        print(lacks, file=sys.stderr)
        return 1
    results = Results()
    try:
        run_all(cases, options.repeat, beside, results)
    except KeyboardInterrupt:
        print("interrupted: these are the figures until now", file=sys.stderr)
    print("\n\n".join(pages(cases, results, as_markdown=options.markdown)))
    for failure in results.failures:
        print(f"failed: {failure}", file=sys.stderr)
    return 0 if any(results.ours.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
