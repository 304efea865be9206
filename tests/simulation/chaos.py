"""The random-fault simulation: as many seeds as wanted, and for each that fails the shortest plan that still does.

    python -m tests.simulation.chaos --seeds 10000 --jobs 2
    python -m tests.simulation.chaos --seeds 1 --first 4711 --trace

Owns the command and the shrinking. What happens is in :mod:`.chaos_plan`, how in :mod:`.chaos_world`, what must hold in
:mod:`.chaos_judge`.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from .chaos_plan import Plan, make_plan
from .chaos_world import ChaosWorld, Outcome

MAX_SHRINKING_RUNS = 150
MAX_SHRINKING_S = 60.0


@dataclass(frozen=True)
class Result:
    """One seed's."""

    seed: int
    outcome: Outcome
    cpu_s: float


def play(plan: Plan) -> Outcome:
    """Return what comes of a plan."""
    return ChaosWorld(plan).play()


def play_seed(seed: int) -> Result:
    """Return what comes of a seed."""
    start_s = time.process_time()
    outcome = play(make_plan(seed))
    return Result(seed, outcome, time.process_time() - start_s)


def shrink(plan: Plan, kinds: Iterable[str]) -> Plan:
    """Return the smallest plan found that still shows a finding of one of these kinds."""
    wanted, runs, until_s = set(kinds), 0, time.monotonic() + MAX_SHRINKING_S
    found = True
    while found:
        found = False
        for smaller in plan.smaller():
            runs += 1
            if runs > MAX_SHRINKING_RUNS or time.monotonic() > until_s:
                return plan
            if wanted & set(play(smaller).kinds):
                plan, found = smaller, True
                break
    return plan


def say_failure(result: Result, *, shrinking: bool) -> str:
    """Return what is printed of a seed that failed."""
    lines = [f"seed {result.seed} FAILED:", *(f"  {one}" for one in result.outcome.findings)]
    lines.append(f"  again: python -m tests.simulation.chaos --seeds 1 --first {result.seed} --trace")
    if shrinking:
        plan = shrink(make_plan(result.seed), result.outcome.kinds)
        lines += ["  the shortest plan found that fails as well:", *(f"  {line}" for line in str(plan).splitlines())]
    return "\n".join(lines)


def run(first: int, seeds: int, jobs: int, *, shrinking: bool = True) -> tuple[int, Counter[str]]:
    """Play seeds, print the failures and a summary, and return how many failed and the sums of all counts."""
    failed, cpu_s, worst, counts, start_s = 0, 0.0, 0.0, Counter[str](), time.monotonic()
    with multiprocessing.Pool(jobs) as pool:
        for done, result in enumerate(pool.imap_unordered(play_seed, range(first, first + seeds), chunksize=4), 1):
            cpu_s += result.cpu_s
            worst = max(worst, result.outcome.worst)
            counts += result.outcome.counts
            if result.outcome.findings:
                failed += 1
                print(say_failure(result, shrinking=shrinking and failed <= 5), flush=True)
            if done % 500 == 0:
                print(f"{done} seeds, {failed} failed, {time.monotonic() - start_s:.0f} s", file=sys.stderr, flush=True)
    print(
        f"{seeds} seeds from {first} on: {failed} failed; {time.monotonic() - start_s:.0f} s, "
        f"{seeds / cpu_s:.1f} in a second of a core"
    )
    print(f"largest error of a pair, as a share of its bound: {worst:.2f}")
    print(", ".join(f"{count} {name}" for name, count in counts.most_common()))
    return failed, counts


def trace(seed: int) -> bool:
    """Print all of one seed; return whether it failed."""
    plan = make_plan(seed)
    print(plan)
    outcome = play(plan)
    print("findings:", *(outcome.findings or ["none"]), sep="\n  ")
    print(", ".join(f"{count} {name}" for name, count in outcome.counts.most_common()))
    print(f"trace {outcome.trace}")
    return bool(outcome.findings)


def main(arguments: list[str] | None = None) -> int:
    """Run what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.chaos", description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=300, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--trace", action="store_true", help="print plan and findings of the first seed only")
    parser.add_argument("--no-shrink", action="store_true", help="do not look for a shorter plan that fails")
    options = parser.parse_args(arguments)
    if options.trace:
        return int(trace(options.first))
    failed, _ = run(options.first, options.seeds, options.jobs, shrinking=not options.no_shrink)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
