"""Fuzzing without atheris: changed seeds, one after the other, for so long."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from . import targets
from .finding import Finding, examine, shortened
from .mutation import inputs


def fuzz(
    name: str, seconds: float, seed: int, report: Callable[[Finding], None] = lambda _: None
) -> tuple[int, list[Finding]]:
    """Call a target with changed seeds.

    Args:
        name: of the target.
        seconds: how long; every seed is tried once in any case.
        seed: of the changes; the same makes the same inputs in the same order.
        report: is given each finding, one for each place.

    Returns:
        How many calls there were, and the findings.
    """
    target, seeds = targets.TARGETS[name], targets.seeds_of(name)
    found: dict[str, Finding] = {}
    end_s, calls = time.monotonic() + seconds, 0
    for data in inputs(seeds, random.Random(f"{seed} {name}")):
        finding = examine(name, target, data)
        calls += 1
        if finding is not None and finding.place not in found:
            found[finding.place] = shortened(finding, target)
            report(found[finding.place])
        if calls >= len(seeds) and time.monotonic() >= end_s:
            break
    return calls, list(found.values())
