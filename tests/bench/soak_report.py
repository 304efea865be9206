"""What a soak found, from its records: memory, descriptors, silence, pair error, warnings. Knows nothing of how it ran.

Records are JSON objects, one a line, each with ``kind`` and ``at_s``, seconds after the beginning; so a run that broke
off has its figures up to there. A *span* is a time in which something was done to the room, with the seconds after it
that it takes to get over it. What is in no span has no excuse.
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tables import number, plain

Record = dict[str, Any]

EVERYWHERE = -1
"""As a span's machine: it was done to all of them."""

QUIET_KINDS = ("start", "pause", "stop-host")
"""In which every speaker may be silent."""

RESTART_KINDS = ("kill-speaker", "stop-speaker", "died")
"""In which the speaker that it was done to may be silent."""

WARM_S = 300.0
"""Of a process's life that are left out of its memory's growth: caches fill, the allocator settles."""

WARM_SHARE = 1 / 3
"""The same of one that lived for less than three times as long."""

FEWEST_SAMPLES = 6
"""For a line through them."""

ELSEWHERE_US = 100_000.0
"""From which two cards do not play one place late, but two places, as for a moment at a jump: counted by itself."""

MOST_SHOWN = 40


@dataclass(frozen=True, slots=True)
class Span:
    """When something was done to the room.

    Attributes:
        what: its kind.
        machine: to which, or :data:`EVERYWHERE`.
        from_s: its beginning.
        to_s: until when it is an excuse.
    """

    what: str
    machine: int
    from_s: float
    to_s: float

    def allows_silence(self, machine: int) -> bool:
        """Return whether a speaker may be silent for it."""
        return self.what in QUIET_KINDS or (self.what in RESTART_KINDS and self.machine == machine)


@dataclass(frozen=True, slots=True)
class Growth:
    """A line through what a process held in memory.

    Attributes:
        first_kib: at its beginning, once warm.
        last_kib: at its end.
        kib_per_hour: the line's slope.
        error_kib_per_hour: its standard error.
    """

    first_kib: float
    last_kib: float
    kib_per_hour: float
    error_kib_per_hour: float


def read(path: Path) -> list[Record]:
    """Return a file's records; a last line that was cut off is left out."""
    found = []
    for line in path.read_text().splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            break
    return found


def of_kind(records: Iterable[Record], kind: str) -> list[Record]:
    """Return the records of one kind."""
    return [one for one in records if one["kind"] == kind]


def spans(records: Iterable[Record]) -> list[Span]:
    """Return what was done; of one that was recorded at its beginning and at its end, the latter counts."""
    latest = {one["id"]: one for one in of_kind(records, "span")}
    return [Span(one["what"], one["machine"], one["from_s"], one["to_s"]) for one in latest.values()]


def at(done: Sequence[Span], from_s: float, to_s: float | None = None) -> list[Span]:
    """Return the spans that a time, or a stretch of it, touches."""
    last_s = from_s if to_s is None else to_s
    return [one for one in done if one.from_s <= last_s and from_s < one.to_s]


# -- memory ----------------------------------------------------------------------------------------


def growth(samples: Sequence[tuple[float, float]]) -> Growth | None:
    """Fit a line through (time in s, KiB) of one process, without the time in which it got warm."""
    if not samples:
        return None
    begin_s, end_s = samples[0][0], samples[-1][0]
    warm_s = begin_s + min(WARM_S, WARM_SHARE * (end_s - begin_s))
    hours, kib = np.array([(t / 3600, value) for t, value in samples if t >= warm_s]).reshape(-1, 2).T
    if len(hours) < FEWEST_SAMPLES:
        return None
    slope, _ = np.polyfit(hours, kib, 1)
    rest = kib - np.polyval(np.polyfit(hours, kib, 1), hours)
    error = math.sqrt(np.sum(rest**2) / (len(hours) - 2) / np.sum((hours - hours.mean()) ** 2))
    return Growth(float(kib[0]), float(kib[-1]), float(slope), error)


def lives(records: Iterable[Record]) -> dict[tuple[str, int], list[Record]]:
    """Return what was sampled of each process, by its name and its process id."""
    found: dict[tuple[str, int], list[Record]] = defaultdict(list)
    for one in of_kind(records, "process"):
        found[one["name"], one["pid"]].append(one)
    return found


def memory_rows(records: Iterable[Record]) -> list[list[str]]:
    """Return a row for each process that lived long enough."""
    rows = [["", "from s", "to s", "RSS MiB, warm", "at the end", "KiB/h", "±", "descriptors", "threads"]]
    for (name, _pid), life in lives(records).items():
        line = growth([(one["at_s"], one["rss_kib"]) for one in life])
        if line is None:
            continue
        counts = [
            f"{life[0][what]} … {life[-1][what]}, most {max(one[what] for one in life)}"
            for what in ("files", "threads")
        ]
        size = [f"{kib / 1024:.1f}" for kib in (line.first_kib, line.last_kib)]
        slope = [f"{kib:.0f}" for kib in (line.kib_per_hour, line.error_kib_per_hour)]
        rows.append([name, f"{life[0]['at_s']:.0f}", f"{life[-1]['at_s']:.0f}", *size, *slope, *counts])
    return rows


# -- sound -----------------------------------------------------------------------------------------


def silence(records: Sequence[Record]) -> tuple[list[str], list[str], dict[str, float]]:
    """Return the silences that nothing excuses, those in a fault that should have none, and seconds by kind."""
    done, outside, inside = spans(records), [], []
    by_kind: dict[str, float] = defaultdict(float)
    for one in joined_silences(records):
        parts = [(one["from_s"], one["to_s"])]
        for span in done:
            if span.allows_silence(one["machine"]):
                left = [part for whole in parts for part in without(whole, span)]
                by_kind[span.what] += lasting_s(parts) - lasting_s(left)
                parts = left
        for from_s, to_s in parts:
            touched = at(done, from_s, to_s)
            line = f"speaker {one['machine']} at {from_s:.2f} s for {to_s - from_s:.2f} s"
            by_kind[touched[-1].what if touched else "outside"] += to_s - from_s
            if touched:
                inside.append(line + during(touched))
            else:
                outside.append(f"{line}; {before(done, from_s)}")
    return outside, inside, {kind: seconds for kind, seconds in by_kind.items() if seconds}


def without(whole: tuple[float, float], span: Span) -> list[tuple[float, float]]:
    """Return what a span leaves of a stretch of time."""
    from_s, to_s = whole
    parts = [(from_s, min(to_s, span.from_s)), (max(from_s, span.to_s), to_s)]
    return [(begin_s, end_s) for begin_s, end_s in parts if begin_s < end_s]


def lasting_s(parts: Sequence[tuple[float, float]]) -> float:
    """Return how long stretches of time are together."""
    return sum(to_s - from_s for from_s, to_s in parts)


def joined_silences(records: Iterable[Record]) -> list[Record]:
    """Return the silences, those joined that one look ended with and the next began with."""
    found: list[Record] = []
    for one in sorted(of_kind(records, "silent"), key=lambda one: (one["machine"], one["from_s"])):
        last = found[-1] if found else None
        if last is not None and last["machine"] == one["machine"] and one["from_s"] - last["to_s"] < 1e-3:
            last["to_s"] = one["to_s"]
        else:
            found.append(dict(one))
    return sorted(found, key=lambda one: one["from_s"])


def said(span: Span) -> str:
    """Return a span in words."""
    where = "" if span.machine == EVERYWHERE else f" of {span.machine}"
    return f"in {span.what}{where} ({span.from_s:.1f} … {span.to_s:.1f} s)"


def before(done: Sequence[Span], at_s: float) -> str:
    """Say what was done last before a time."""
    earlier = [one for one in done if one.to_s <= at_s]
    if not earlier:
        return "before anything was done"
    last = max(earlier, key=lambda one: one.to_s)
    where = "" if last.machine == EVERYWHERE else f" of {last.machine}"
    return f"{at_s - last.to_s:.1f} s after {last.what}{where}"


def pair_rows(records: Sequence[Record]) -> list[list[str]]:
    """Return a row of the pair's error for outside, and one for each kind of what was done."""
    done = spans(records)
    errors: dict[str, list[float]] = defaultdict(list)
    for one in of_kind(records, "pair"):
        for at_s, error_us in one["rows"]:
            touched = at(done, at_s)
            errors[touched[-1].what if touched else "outside"].append(abs(error_us))
    rows = [["", "windows", "elsewhere", "median µs", "99 % µs", "max µs"]]
    for kind in sorted(errors, key=lambda kind: (kind != "outside", kind)):
        all_us = np.array(errors[kind])
        near_us = all_us[all_us < ELSEWHERE_US]
        figures = (np.median(near_us), np.percentile(near_us, 99), near_us.max()) if len(near_us) else ()
        cells = [number(float(value)) for value in figures] or ["–"] * 3
        rows.append([kind, str(len(all_us)), str(len(all_us) - len(near_us)), *cells])
    return rows


def worst_pairs(records: Sequence[Record], most: int = 5) -> list[str]:
    """Return the windows outside of everything in which the pair was furthest apart, with what was done before."""
    done = spans(records)
    outside = [(abs(us), t) for one in of_kind(records, "pair") for t, us in one["rows"] if not at(done, t)]
    return [f"{number(us)} µs at {t:.1f} s; {before(done, t)}" for us, t in sorted(outside, reverse=True)[:most]]


def underrun_words(records: Sequence[Record]) -> list[str]:
    """Return the cards' underruns."""
    done = spans(records)
    found = [(one, at(done, one["at_s"])) for one in of_kind(records, "underrun")]
    return [f"speaker {one['machine']} at {one['at_s']:.2f} s{during(touched)}" for one, touched in found]


def during(touched: Sequence[Span]) -> str:
    """Return the spans that something was in, to be put behind it."""
    return "".join(f", {said(span)}" for span in touched)


def reported_underruns(records: Iterable[Record]) -> dict[str, int]:
    """Return how many underruns each speaker counted, over all its starts."""
    total: Counter[str] = Counter()
    last: dict[str, int] = {}
    for one in of_kind(records, "status"):
        for name, speaker in one["speakers"].items():
            now = speaker["underruns"]
            total[name] += now - last.get(name, 0) if now >= last.get(name, 0) else now
            last[name] = now
    return dict(total)


def wrong_words(records: Sequence[Record]) -> list[str]:
    """Return what the soak itself met with: requests that failed, processes that ended."""
    done = spans(records)
    found = of_kind(records, "wrong")
    return [f"at {one['at_s']:.1f} s: {one['words']}{during(at(done, one['at_s']))}" for one in found]


def machine_words(records: Iterable[Record]) -> str:
    """Say how busy the machine was: where others take the processor, underruns and silence may be their doing."""
    found = of_kind(records, "machine")
    if not found:
        return "The machine's load is not known"
    loads = [one["load"] for one in found]
    return f"The machine's load: median {np.median(loads):.1f}, most {max(loads):.1f}, on {found[0]['cores']} cores"


# -- all of it -------------------------------------------------------------------------------------


def listed(title: str, lines: Sequence[str]) -> str:
    """Return lines under a title that has their number."""
    more = [f"… and {len(lines) - MOST_SHOWN} more"] if len(lines) > MOST_SHOWN else []
    return "\n".join([f"{title}: {len(lines)}", *(f"  {line}" for line in [*lines[:MOST_SHOWN], *more])])


def counted(title: str, counts: Counter[str]) -> str:
    """Return how often each of some kinds was."""
    lines = [f"  {count:4} {kind}" for kind, count in counts.most_common(MOST_SHOWN)]
    return "\n".join([f"{title}: {sum(counts.values())}", *lines])


def report(records: Sequence[Record]) -> str:
    """Return everything for people."""
    outside, inside, by_kind = silence(records)
    end_s = max((one["at_s"] for one in records), default=0.0)
    ended = of_kind(records, "end")
    heard_s = sum(one["to_s"] - one["from_s"] for one in of_kind(records, "listened"))
    parts = [
        f"{end_s / 60:.1f} minutes"
        + ("" if ended else ", broken off")
        + f"; every card listened to for {heard_s:.0f} s",
        counted("Done to the room", Counter(span.what for span in spans(records))),
        plain(memory_rows(records)),
        listed("Silent outside of everything", outside),
        listed("Silent in a fault that should be no reason for it", inside),
        "Seconds of silence by kind: "
        + (", ".join(f"{kind} {seconds:.2f}" for kind, seconds in sorted(by_kind.items())) or "none"),
        plain(pair_rows(records)),
        listed("Furthest apart outside of everything", worst_pairs(records)),
        listed("Underruns of the cards", underrun_words(records)),
        f"Underruns that the speakers counted: {reported_underruns(records)}",
        counted("Warnings", Counter(f"{one['name']}: {one['words']}" for one in of_kind(records, "warning"))),
        listed("Went wrong", wrong_words(records)),
        machine_words(records),
    ]
    parts += [f"The listening took {one['listener_cpu_percent']:.1f} % of a core" for one in ended]
    return "\n\n".join(parts)
