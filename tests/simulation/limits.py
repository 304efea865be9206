"""The limits of the scenarios: on the maximum, the 99th percentile and the RMS of the pairs' errors.

Each is about one and a half times the worst of 24 seeds at the time when it was set, and no more than what is
wanted of such a network: on a wire a p99 of 20 µs after ten seconds of sound. So it holds for any seed and
still notices what makes the sound worse. Where physics asks for more, the scenario says so. To see how much room
there is:

    python -m pytest tests/simulation --iterations 24 --figures

prints the worst of every stretch beside its limit, and holds nothing to the limits meanwhile.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field

from .judge import Verdict
from .world import World


@dataclass
class Figures:
    """The worst of each stretch of each scenario, over all seeds.

    Attributes:
        measuring: figures are collected and nothing is held to its limits.
        rows: by scenario and line: the worst and the limits, in the order maximum, p99, RMS, apart.
    """

    measuring: bool = False
    rows: dict[tuple[str, int], tuple[list[float], list[float]]] = field(default_factory=dict)

    def note(self, place: tuple[str, int], values: list[float], limits: list[float]) -> None:
        """Take the figures of one verdict."""
        worst, _ = self.rows.get(place, (values, limits))
        self.rows[place] = [max(pair) for pair in zip(worst, values, strict=True)], limits

    def table(self) -> list[str]:
        """Return lines for people: worst / limit, in microseconds and the last in milliseconds."""
        lines = [f"{'':56}{'max':>16}{'p99':>16}{'rms':>16}{'apart':>14}"]
        for (name, line), (worst, limits) in self.rows.items():
            cells = [f"{value:.1f} / {limit:g}" for value, limit in zip(worst, limits, strict=True)]
            lines.append(f"{f'{name}:{line}'[-56:]:56}{cells[0]:>16}{cells[1]:>16}{cells[2]:>16}{cells[3]:>14}")
        return lines


FIGURES = Figures()


def require(verdict: Verdict, *, max_us: float, p99_us: float, rms_us: float, apart_ms: float = 0.0) -> None:
    """Hold a verdict to its limits.

    Args:
        verdict: of a stretch of time after what is to be endured, and the time allowed for settling.
        max_us: the largest error of any pair.
        p99_us: of the largest error of any pair at an instant, its 99th percentile.
        rms_us: over all pairs and instants.
        apart_ms: how long any one peer may be elsewhere in all.
    """
    said = str(verdict)
    assert verdict.samples > 0, said
    if FIGURES.measuring:
        caller = inspect.stack()[1]
        values = [verdict.max_us, verdict.p99_us, verdict.rms_us, verdict.worst_apart_ms]
        FIGURES.note((caller.function, caller.lineno), values, [max_us, p99_us, rms_us, apart_ms])
        return
    assert verdict.max_us <= max_us, said
    assert verdict.p99_us <= p99_us, said
    assert verdict.rms_us <= rms_us, said
    assert verdict.worst_apart_ms <= apart_ms, said


def underruns(world: World) -> int:
    """Return how often any card ran empty."""
    return sum(peer.card.underruns for peer in world.peers.values())
