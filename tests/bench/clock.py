"""How well the host's clock is known: simulated networks, in microseconds, against simpler estimators.

    python tests/bench/clock.py [--runs N] [--seed S] [--model NAME] [--rate HZ]

Each run is three peers of one host for 120 s, the host starting anew at 90 s. "pair" is the
difference of two peers' errors, what a listener hears, between 10 and 90 s; "followed" the same
behind a servo that slews at most 50 ppm; "young" is the pair between 3 and 10 s. Skews lie within
±200 ppm, walk by 0.02 ppm/√s and ramp by up to 0.06 ppm/s; 20 % of the packets are lost each way;
probes go by the design's schedule, or after 5 s at another rate.

* wired: 50–200 µs each way with an exponential tail of 40 µs and stamps with 1 µs of noise; the two
  ways of a path differ by 2 µs rms.
* bell: 80–130 µs each way and six short queues in a row, which add 84 ± 34 µs: no packet is unhindered, as
  between busy virtual machines; the ways differ by 2 µs rms.
* wifi: 1–3 ms with a Pareto tail (0.1 ms, shape 1.5), each way on its own loaded for 8 s of 20 on
  average, which adds 3 ms on average; the two ways differ by 10 µs rms.
* user: wired, but stamped by a busy program: received late by 0.2 ms (median) to 8 ms (99 %), sent
  0.02 ms early.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

# One thread: the matrices are 4 × 600, and this is what a small machine has.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import numpy.typing as npt

from musicsyncd.clock.exchange import Exchange
from musicsyncd.clock.filter import HostClock
from musicsyncd.clock.mapping import ClockMapping
from musicsyncd.units import HostNs, LocalNs

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

RUN_S = 120.0
RESTART_S = 90.0
SETTLED_S = 10.0
GRID_S = 0.02
LOSS = 0.2
STEADY_HZ = 4.0


@dataclass(frozen=True, slots=True)
class Model:
    """A network: lengths in nanoseconds. ``limit_us`` is what counts as converged."""

    name: str
    base_ns: tuple[float, float]
    asymmetry_ns: float
    tail_ns: float
    limit_us: float
    is_loaded: bool = False
    is_late: bool = False
    queues: int = 1


MODELS = (
    Model("wired", (50e3, 200e3), 2e3, 40e3, 20.0),
    Model("bell", (80e3, 130e3), 2e3, 14e3, 20.0, queues=6),
    Model("wifi", (1e6, 3e6), 10e3, 100e3, 200.0, is_loaded=True),
    Model("user", (50e3, 200e3), 2e3, 40e3, 200.0, is_late=True),
)


@dataclass(frozen=True, slots=True)
class Recording:
    """What one peer went through: exchanges of each life of the host, and the truth on a grid."""

    lives: tuple[tuple[Exchange, ...], ...]
    grid_s: Floats
    grid_local_ns: Ints
    grid_host_ns: Ints


def schedule(rng: np.random.Generator, start_s: float, end_s: float, rate_hz: float) -> Floats:
    """Return when probes leave: 40 at 25 ms, 10 a second until 5 s, then at the rate ± 15 %."""
    burst = start_s + np.arange(40) * 0.025
    quick = np.arange(start_s + 1.0, start_s + 5.0, 0.1)
    steady = start_s + 5.0 + np.cumsum(rng.uniform(0.85, 1.15, int((end_s - start_s) * rate_hz * 1.25)) / rate_hz)
    return np.concatenate((burst, quick, steady[steady < end_s]))


def skew_path(rng: np.random.Generator, grid_s: Floats) -> Floats:
    """Return the skew in ppm over time: a random walk, and ramps as when a board warms up."""
    step_s = grid_s[1] - grid_s[0]
    skew_ppm = rng.uniform(-200, 200) + np.cumsum(rng.normal(0, 0.02 * np.sqrt(step_s), len(grid_s)))
    start_s = rng.exponential(30)
    while start_s < grid_s[-1]:
        length_s = rng.uniform(10, 30)
        skew_ppm = skew_ppm + rng.uniform(-0.06, 0.06) * np.clip(grid_s - start_s, 0, length_s)
        start_s += length_s + rng.exponential(30)
    return skew_ppm


def loads(rng: np.random.Generator) -> list[tuple[float, float]]:
    """Return the spans in which one way is loaded."""
    spans, at_s, is_on = [], 0.0, bool(rng.random() < 0.4)
    while at_s < RUN_S:
        length_s = rng.exponential(8 if is_on else 12)
        if is_on:
            spans.append((at_s, at_s + length_s))
        at_s, is_on = at_s + length_s, not is_on
    return spans


def queueing_ns(model: Model, rng: np.random.Generator, at_s: Floats, spans: list[tuple[float, float]]) -> Floats:
    """Return what packets wait on one way beyond the base delay."""
    if not model.is_loaded:
        return rng.gamma(model.queues, model.tail_ns, len(at_s))
    wait_ns = np.minimum(model.tail_ns * rng.pareto(1.5, len(at_s)), 300e6) + rng.uniform(0, 100e3, len(at_s))
    for start_s, end_s in spans:
        inside = (at_s >= start_s) & (at_s < end_s)
        wait_ns[inside] += rng.exponential(3e6, int(inside.sum()))
    return wait_ns


def record(model: Model, rng: np.random.Generator, jump_ppm: float = 0.0, rate_hz: float = STEADY_HZ) -> Recording:
    """Simulate one peer; ``jump_ppm`` changes its skew at 45 s."""
    truth_s = np.arange(-1.0, RUN_S + 1.0, 0.05)
    skew_ppm = skew_path(rng, truth_s) + jump_ppm * (truth_s >= 45.0)
    ahead_ns = np.concatenate(([0.0], np.cumsum((skew_ppm[1:] + skew_ppm[:-1]) / 2 * 0.05))) * 1e3
    local_base_ns = int(rng.integers(10**12, 10**15))
    spans = loads(rng), loads(rng)
    base_ns, asymmetry_ns = rng.uniform(*model.base_ns), rng.normal(0, model.asymmetry_ns)

    def local_ns(at_s: Floats) -> Floats:
        return np.asarray(at_s * 1e9 - np.interp(at_s, truth_s, ahead_ns))

    def late_ns(count: int) -> Floats:
        noise_ns = rng.normal(0, 1e3, count)
        return noise_ns + rng.lognormal(np.log(200e3), 1.6, count) if model.is_late else noise_ns

    def early_ns(count: int) -> Floats:
        return rng.exponential(20e3, count) if model.is_late else rng.normal(0, 1e3, count)

    grid_s = np.arange(0.0, RUN_S, GRID_S)
    grid_host_ns = np.round(grid_s * 1e9).astype(np.int64)
    lives = []
    for start_s, end_s in ((0.0, RESTART_S), (RESTART_S, RUN_S)):
        host_base_ns = int(rng.integers(10**12, 10**17))
        grid_host_ns[grid_s >= start_s] = np.round(grid_s[grid_s >= start_s] * 1e9).astype(np.int64) + host_base_ns
        t1_s = schedule(rng, start_s, end_s, rate_hz)
        count = len(t1_s)
        t2_s = t1_s + (base_ns + asymmetry_ns + queueing_ns(model, rng, t1_s, spans[0])) * 1e-9
        t2_ns = t2_s * 1e9 + late_ns(count)
        t3_s = np.maximum(t2_s, t2_ns * 1e-9) + rng.uniform(20e-6, 200e-6, count)
        t4_s = t3_s + (base_ns - asymmetry_ns + queueing_ns(model, rng, t3_s, spans[1])) * 1e-9
        t1_ns, t4_ns = local_ns(t1_s) - early_ns(count), local_ns(t4_s) + late_ns(count)
        t3_ns = np.maximum(t3_s * 1e9 - early_ns(count), t2_ns)
        arrived = (rng.random(count) > LOSS) & (rng.random(count) > LOSS) & (t4_s < end_s)
        order = [i for i in np.argsort(t4_ns) if arrived[i]]
        lives.append(
            tuple(
                Exchange(
                    LocalNs(local_base_ns + round(t1_ns[i])),
                    HostNs(host_base_ns + round(t2_ns[i])),
                    HostNs(host_base_ns + round(t3_ns[i])),
                    LocalNs(local_base_ns + round(t4_ns[i])),
                )
                for i in order
            )
        )
    grid_local_ns = np.round(local_ns(grid_s)).astype(np.int64) + local_base_ns
    return Recording(tuple(lives), grid_s, grid_local_ns, grid_host_ns)


class Estimator(Protocol):
    """What is compared."""

    def observe(self, exchange: Exchange) -> object: ...

    def reset(self) -> None: ...

    @property
    def mapping(self) -> ClockMapping | None: ...


class MedianClock:
    """The median of the last 200 offsets, without a skew."""

    def __init__(self) -> None:
        self._offsets_ns: list[int] = []
        self._local_ns = LocalNs(0)

    def reset(self) -> None:
        self._offsets_ns.clear()

    def observe(self, exchange: Exchange) -> None:
        self._offsets_ns = [*self._offsets_ns[-199:], exchange.offset_ns]
        self._local_ns = exchange.received_local_ns

    @property
    def mapping(self) -> ClockMapping | None:
        if not self._offsets_ns:
            return None
        offset_ns = sorted(self._offsets_ns)[len(self._offsets_ns) // 2]
        return ClockMapping(self._local_ns, HostNs(self._local_ns + offset_ns), 0.0, 0)


class RegressionClock:
    """A straight line through those offsets of 30 s whose round trip is below the median."""

    def __init__(self) -> None:
        self._exchanges: list[Exchange] = []

    def reset(self) -> None:
        self._exchanges.clear()

    def observe(self, exchange: Exchange) -> None:
        oldest_ns = exchange.received_local_ns - 30_000_000_000
        self._exchanges = [e for e in self._exchanges if e.received_local_ns >= oldest_ns] + [exchange]

    @property
    def mapping(self) -> ClockMapping | None:
        if len(self._exchanges) < 4:
            return None
        newest = self._exchanges[-1]
        now_ns, near_ns = newest.received_local_ns, newest.offset_ns
        delay_ns = np.array([e.delay_ns for e in self._exchanges])
        best = [e for e in self._exchanges if e.delay_ns <= np.median(delay_ns)]
        t_s = np.array([((e.received_local_ns + e.sent_local_ns) / 2 - now_ns) * 1e-9 for e in best])
        slope, offset_us = np.polyfit(t_s, np.array([(e.offset_ns - near_ns) * 1e-3 for e in best]), 1)
        if abs(slope) > 1000:
            slope = 0.0
        return ClockMapping(now_ns, HostNs(now_ns + near_ns + round(offset_us * 1e3)), float(slope), 0)


@dataclass(frozen=True, slots=True)
class Trace:
    """Errors and claimed uncertainties in microseconds on the grid (NaN before usable), and the cost."""

    error_us: Floats
    uncertainty_us: Floats
    cost_us: Floats


def trace(recording: Recording, estimator: Estimator) -> Trace:
    """Run an estimator over a recording."""
    error_us = np.full(len(recording.grid_s), np.nan)
    uncertainty_us = error_us.copy()
    cost_us = []
    at = 0
    for number, life in enumerate(recording.lives):
        at = int(np.searchsorted(recording.grid_s, (0.0, RESTART_S)[number]))
        end = int(np.searchsorted(recording.grid_s, (RESTART_S, RUN_S)[number]))
        if number:
            estimator.reset()
        for index, exchange in enumerate(life):
            before = time.perf_counter()
            estimator.observe(exchange)
            mapping = estimator.mapping
            cost_us.append((time.perf_counter() - before) * 1e6)
            until_ns = life[index + 1].received_local_ns if index + 1 < len(life) else 1 << 62
            while at < end and recording.grid_local_ns[at] < until_ns:
                local_ns = LocalNs(int(recording.grid_local_ns[at]))
                if mapping is not None and local_ns >= exchange.received_local_ns:
                    error_us[at] = (mapping.host_at(local_ns) - int(recording.grid_host_ns[at])) * 1e-3
                    uncertainty_us[at] = mapping.uncertainty_at(local_ns) * 1e-3
                at += 1
    return Trace(error_us, uncertainty_us, np.array(cost_us))


def follow(error_us: Floats) -> Floats:
    """Return the error behind a servo: it steps in the first 3 s and above 2 ms, else slews at most 50 ppm."""
    followed_us = np.empty_like(error_us)
    at_us = 0.0
    for index, wanted_us in enumerate(error_us):
        difference_us = wanted_us - at_us
        if index * GRID_S < 3 or abs(difference_us) > 2000:
            at_us = wanted_us
        else:
            at_us += float(np.clip(difference_us, -50, 50)) * GRID_S
        followed_us[index] = at_us
    return followed_us


def converged_s(pair_us: Floats, limit_us: float) -> float:
    """Return after how long a pair stays within its limit for the first 5 s; 5 for never."""
    bad = ~(np.abs(pair_us[: int(5 / GRID_S)]) <= limit_us)
    return float((np.nonzero(bad)[0].max() + 1) * GRID_S) if bad.any() else 0.0


def report(
    model: Model, name: str, make: Callable[[], Estimator], runs: int, seed: int, rate_hz: float = STEADY_HZ
) -> None:
    """Print one row of a model's table."""
    pairs, followed, young, times_s, covered, claims, costs = [], [], [], [], [], [], []
    for run in range(runs):
        recordings = [record(model, np.random.default_rng([seed, run, peer]), 0.0, rate_hz) for peer in range(3)]
        traces = [trace(recording, make()) for recording in recordings]
        grid_s = recordings[0].grid_s
        first, second = grid_s < RESTART_S, grid_s >= RESTART_S
        settled = grid_s[first] >= SETTLED_S
        behind_us = [follow(t.error_us[first]) for t in traces]
        for a, b in ((0, 1), (0, 2), (1, 2)):
            pair_us = traces[a].error_us - traces[b].error_us
            pairs.append(np.abs(pair_us[first][settled]))
            followed.append(np.abs(behind_us[a] - behind_us[b])[settled])
            young.append(np.abs(pair_us[first][(grid_s[first] >= 3) & ~settled]))
            times_s.append(converged_s(pair_us[second], model.limit_us))
        for one in traces:
            usable = ~np.isnan(one.error_us)
            covered.append(np.abs(one.error_us[usable]) <= one.uncertainty_us[usable])
            claims.append(one.uncertainty_us[first][settled])
            costs.append(one.cost_us)
    percentiles = [np.percentile(np.concatenate(x), (50, 95, 99.9)) for x in (pairs, followed)]
    columns = " ".join("/".join(f"{value:8.1f}" for value in row) for row in percentiles)
    claimed_share, claim_us = 100 * np.mean(np.concatenate(covered)), np.median(np.concatenate(claims))
    print(
        f"{model.name:6}{name:12}{columns} {np.percentile(np.concatenate(young), 95):8.1f}"
        f"  {np.median(times_s):5.2f}/{np.percentile(times_s, 90):5.2f}"
        f"  {claimed_share:6.2f} {claim_us:7.0f}  {np.mean(np.concatenate(costs)):5.0f} µs each",
        flush=True,
    )


def report_jump(model: Model, jump_ppm: float, runs: int, seed: int, rate_hz: float = STEADY_HZ) -> None:
    """Print the largest error after a sudden change of frequency, as when NTP begins to slew a clock."""
    spans = ((-10, 0), (0, 2), (2, 5), (5, 10), (10, 20), (20, 40))
    worst_us, changes = [], 0
    for run in range(runs):
        clock = HostClock()
        recording = record(model, np.random.default_rng([seed, run]), jump_ppm, rate_hz)
        error_us = np.abs(trace(recording, clock).error_us)
        since_s = recording.grid_s - 45
        worst_us.append([error_us[(since_s >= a) & (since_s < b)].max() for a, b in spans])
        changes += clock.frequency_changes
    shown = " ".join(f"{value:8.0f}" for value in np.median(worst_us, axis=0))
    print(f"{model.name:6}{jump_ppm:8.0f} {shown}   {changes / runs:.1f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--model", choices=[model.name for model in MODELS])
    parser.add_argument("--rate", type=float, default=STEADY_HZ, help="probes a second once settled")
    options = parser.parse_args()
    models = [model for model in MODELS if options.model in (None, model.name)]
    print(
        "                  pair µs p50/p95/p99.9       followed                     young  converged s  within  claim"
    )
    print(
        "                                                                             p95  p50/p90     claim %  p50 µs"
    )
    for model in models:
        for name, make in (("envelope", HostClock), ("regression", RegressionClock), ("median", MedianClock)):
            report(model, name, make, options.runs, options.seed, options.rate)
    print("\nlargest error in µs (median of runs) by seconds since a jump of the skew, and jumps noticed a run")
    print("            ppm  before      0-2      2-5     5-10    10-20    20-40")
    for model in models:
        for jump_ppm in (0.0, 20.0, 50.0, 200.0):
            report_jump(model, jump_ppm, min(options.runs, 10), options.seed, options.rate)


if __name__ == "__main__":
    main()
