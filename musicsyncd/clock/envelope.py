"""The line of offset over time that best fits bounds from above and from below.

Owns the two fits: the widest gap between the bounds, and its robust refinement. Must
not know exchanges, clocks, or what is kept for how long. Times here are seconds
before the newest sample (≤ 0) and offsets microseconds from a reference close by, so
that float64 keeps far less than a nanosecond; a slope is then in ppm.

Theory: under exponential queueing the likeliest line is the one that leaves the widest
gap between the upper bounds and the lower bounds. It pairs the fastest packet up with
the fastest *other* packet down, so a queue on one way only does not move it. The gap as
a function of the slope is concave and piecewise linear; with the prior's parabola taken
off, cutting planes find its maximum exactly, in two or three cuts from a good start.

Few samples touch the gap, and where no packet is unhindered its edge is blurred. So the line is
then fitted to all samples by likelihood. A packet's lateness (its delay less the mode of
all delays) is spread as half a bell below zero, as wide as the edge is blurred, and half of
Student's distribution above, as wide as queues are usual: from a sharp edge, where the fastest
packets decide, to a bell, where all count alike. Both ways have this core in common, because one way
alone cannot tell its own delay from an offset; each has its own share of packets that were queued
for much longer and say nothing. Further unknowns are the mode itself and how the skew has
wandered. Everything is found together by expectation and maximisation.

Sources: Moon, Skelly and Towsley, "Estimation and removal of clock skew from network
delay measurements" (INFOCOM 1999) for the gap; Kelley, "The cutting-plane method" (1960);
Dempster, Laird and Rubin, "Maximum likelihood from incomplete data via the EM algorithm" (1977);
Lange, Little and Taylor, "Robust statistical modeling using the t distribution" (1989); Fernández and
Steel, "On Bayesian modeling of fat tails and skewness" (1998) for the two halves.
The constants are from tests/bench/clock.py and from recorded exchanges unless they say otherwise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_EXPIRY_US_PER_S2 = 0.03
"""A bound of age a is slackened by this times a²: a skew that changes by 0.06 ppm a second."""

_WANDER_EDGES_S = np.array([0.0, 10.0, 26.0, 65.0])
"""Ages between which the skew's rate of change is taken to be constant; three spans do as well as six."""

_WALK_PPM_PER_SQRT_S = 0.02
"""A skew's random walk."""

_RAMP_PPM_PER_S = 0.032
_RAMP_DURATION_S = 15.0
"""One sigma of how fast a skew ramps when a board warms up, and for how long it goes on so."""

_FREEDOM = 3.0
"""Of Student's distribution: its tail is that of delays, and its powers are whole."""

_EARLY_AREA = math.sqrt(math.pi / 2)
_LATE_AREA = math.pi * math.sqrt(_FREEDOM) / 4
"""Under the two halves of the core, for a width and a height of one."""

_START_QUANTILE = 0.08
"""Of a way's distances from the gap's edge: a first guess of the core's width, from the better way."""

_MIN_RANK = 2
"""The line passes through two or three of a few samples, and their distances say nothing."""

_LEAST_WIDTH_US = 2.0
"""Of either half: time stamps have noise of their own."""

_LEAST_START_US = 5.0
_LEAST_DISTANCE_US = 0.5

_MOST_EARLY_US = 30.0
"""Of the early half. Stamps and switches blur an edge by tens of microseconds; a wider blur is queues on both ways."""

_MOST_LATE_US = 300.0
"""Of the late half: what is spread more widely was queued, and is no measure of the core."""

_ALIKE_SAMPLES = 2.0
"""So many imagined samples say that both halves are equally wide, which decides as long as there are few."""

_QUEUED_SHARE = 0.2
_QUEUED_SAMPLES = 4.0
"""The share of queued packets that is expected, and how many samples this is worth."""

_QUEUE_WIDTH = 10.0
"""How many times wider than the core the delays of queued packets are spread."""

_ROUNDS = 10
"""Of expectation and maximisation; three times as many bring another twentieth."""

_MAX_CUTS = 40
"""Far more than any run has needed; the answer is then good, only not the best."""

_FIRST_STRIDE_PPM = 0.05
_SMALLEST_STRIDE_PPM = 1e-9
_GAP_PRECISION_US = 1e-6


@dataclass(frozen=True, slots=True)
class Bounds:
    """Bounds of one direction: ``t_s`` and ``offset_us``, both float64 of shape (samples,)."""

    t_s: Floats
    offset_us: Floats


@dataclass(frozen=True, slots=True)
class Prior:
    """What is known of the skew beforehand: normal, around ``centre_ppm``."""

    centre_ppm: float
    sigma_ppm: float


@dataclass(frozen=True, slots=True)
class Gap:
    """The middle line of the widest gap at time 0, its slope and half the gap's width."""

    offset_us: float
    skew_ppm: float
    half_us: float


@dataclass(frozen=True, slots=True)
class Line:
    """The refined line at time 0, with one sigma of its offset and of its slope.

    Attributes:
        offset_us: host minus local, from the reference.
        skew_ppm: its slope.
        half_us: the usual one-way delay of an unhindered packet, if both ways are alike.
        blur_us: how much earlier than that a packet may well be; one sigma.
        free_exchanges: how many the line rests on, as others were queued.
        offset_sigma_us: formal, without what no sample can show (a path's asymmetry).
        skew_sigma_ppm: formal.
    """

    offset_us: float
    skew_ppm: float
    half_us: float
    blur_us: float
    free_exchanges: float
    offset_sigma_us: float
    skew_sigma_ppm: float


@dataclass(frozen=True, slots=True)
class _Cut:
    """The gap at one slope, and the linear piece that is in force there: ``level + slope_s · skew``."""

    skew_ppm: float
    slope_s: float
    level_us: float
    gap_us: float
    middle_us: float

    def gap_at(self, skew_ppm: float) -> float:
        """Return how wide the gap is elsewhere as far as this piece says, which is never too little."""
        return self.level_us + self.slope_s * skew_ppm


class _Slackened:
    """Bounds that have aged, and the gap between them at any slope."""

    def __init__(self, upper: Bounds, lower: Bounds) -> None:
        self._upper_s, self._lower_s = upper.t_s, lower.t_s
        self._upper_us = upper.offset_us + _EXPIRY_US_PER_S2 * upper.t_s**2
        self._lower_us = lower.offset_us - _EXPIRY_US_PER_S2 * lower.t_s**2

    def cut(self, skew_ppm: float) -> _Cut:
        above = self._upper_us - skew_ppm * self._upper_s
        below = self._lower_us - skew_ppm * self._lower_s
        i, j = int(above.argmin()), int(below.argmax())
        top, bottom = float(above[i]), float(below[j])
        return _Cut(
            skew_ppm=skew_ppm,
            slope_s=float(self._lower_s[j] - self._upper_s[i]),
            level_us=float(self._upper_us[i] - self._lower_us[j]),
            gap_us=top - bottom,
            middle_us=(top + bottom) / 2,
        )


def widest_gap(upper: Bounds, lower: Bounds, prior: Prior, start_ppm: float) -> Gap:
    """Return the line with the widest gap between ``upper`` and ``lower`` bounds.

    It maximises min(upper − b·t) − max(lower − b·t) − ((b − centre) / sigma)² over the slope b,
    in µs, after each bound was slackened by its age.

    Args:
        upper: at least one bound from above.
        lower: at least one bound from below.
        prior: of the slope.
        start_ppm: where to begin; the previous answer makes it fast and does not change the result.
    """
    bounds = _Slackened(upper, lower)
    variance_ppm2 = prior.sigma_ppm**2
    cut = bounds.cut(start_ppm)
    left: _Cut | None = None
    right: _Cut | None = None
    stride_ppm = _FIRST_STRIDE_PPM
    for _ in range(_MAX_CUTS):
        # The parabola of this linear piece has its top on the side on which the maximum is.
        top_ppm = prior.centre_ppm + variance_ppm2 / 2 * cut.slope_s
        if abs(top_ppm - cut.skew_ppm) < _SMALLEST_STRIDE_PPM:
            break
        if top_ppm > cut.skew_ppm:
            left = cut
        else:
            right = cut
        if left is None or right is None:
            away_ppm = min(max(top_ppm - cut.skew_ppm, -stride_ppm), stride_ppm)
            cut = bounds.cut(cut.skew_ppm + away_ppm)
            stride_ppm *= 4
            continue
        following_ppm = _crossing(left, right, prior.centre_ppm, variance_ppm2 / 2)
        if not left.skew_ppm < following_ppm < right.skew_ppm:
            break
        cut = bounds.cut(following_ppm)
        if min(left.gap_at(following_ppm), right.gap_at(following_ppm)) - cut.gap_us < _GAP_PRECISION_US:
            break
    return Gap(cut.middle_us, cut.skew_ppm, cut.gap_us / 2)


def _crossing(left: _Cut, right: _Cut, centre_ppm: float, half_variance: float) -> float:
    """Return the slope at which the lower of two parabolas with one curvature is highest."""
    top_left_ppm = centre_ppm + half_variance * left.slope_s
    if left.slope_s == right.slope_s:
        return top_left_ppm
    crossing_ppm = (right.level_us - left.level_us) / (left.slope_s - right.slope_s)
    top_right_ppm = centre_ppm + half_variance * right.slope_s
    return min(max(crossing_ppm, top_right_ppm), top_left_ppm)


class _Core:
    """How late the packets of both ways are, as far as it is known.

    Attributes:
        early_us: the width of the early half.
        free: how many of the samples that were weighed last were not queued, of both ways.
    """

    def __init__(self, late_us: Floats, split: int) -> None:
        self._split = split
        width_us = max(min(_low(np.abs(late_us[:split])), _low(np.abs(late_us[split:]))), _LEAST_START_US)
        self._late_us = min(width_us, _MOST_LATE_US)
        self.early_us = min(self._late_us / 2, _MOST_EARLY_US)
        self._queued = np.full(len(late_us), _QUEUED_SHARE)
        self.free = 0.0

    def weigh(self, late_us: Floats) -> Floats:
        """Return each sample's weight in least squares (1/µs²), and learn from the samples for the next time."""
        waited_us = np.maximum(late_us, 0.0)
        waited_us2 = waited_us * waited_us
        spread_us2 = _FREEDOM * self._late_us**2
        near = 1.0 / (spread_us2 + waited_us2)
        shape = spread_us2 * near
        height = 1.0 / (_EARLY_AREA * self.early_us + _LATE_AREA * self._late_us)
        core = (height - height * self._queued) * (shape * shape)
        # The density of queueing starts at zero, as two or more queues in a row have it, and has a heavy tail.
        queue_us = _QUEUE_WIDTH * self._late_us
        beyond_us = waited_us + queue_us
        queue = (2 * queue_us) * self._queued * waited_us / (beyond_us * beyond_us * beyond_us)
        free = core / (core + queue)
        late_weight = (_FREEDOM + 1) * free * near
        weight: Floats = np.where(late_us < 0, 1 / self.early_us**2, late_weight)
        before_us = late_us - waited_us
        self._learn(free, float(before_us @ before_us), float(late_weight @ waited_us2) * self._late_us**2)
        return weight

    def _learn(self, free: Floats, early_us2: float, late_us2: float) -> None:
        """Take over how many are free of queues, and how far in all the two halves reach from zero."""
        split, samples = self._split, len(free)
        free_up, free_down = float(free[:split].sum()), float(free[split:].sum())
        expected = _QUEUED_SHARE * _QUEUED_SAMPLES
        self._queued[:split] = (split - free_up + expected) / (split + _QUEUED_SAMPLES)
        self._queued[split:] = (samples - split - free_down + expected) / (samples - split + _QUEUED_SAMPLES)
        self.free = count = free_up + free_down
        alike_us2 = (early_us2 + late_us2) / 2 * _ALIKE_SAMPLES / count
        early_us2, late_us2 = early_us2 + alike_us2, late_us2 + alike_us2
        early_us2 = max(early_us2, _LEAST_WIDTH_US**2)
        # The likelihood of two halves is greatest where their widths are as the cube roots of their squares.
        ratio = (late_us2 / early_us2 * (_EARLY_AREA / _LATE_AREA)) ** (1 / 3)
        early_us = math.sqrt(early_us2 * (1 + ratio * (_LATE_AREA / _EARLY_AREA)) / (count + _ALIKE_SAMPLES))
        self._late_us = min(max(ratio * early_us, _LEAST_WIDTH_US), _MOST_LATE_US)
        # Nothing makes packets early, so the early half is never the wider one.
        self.early_us = min(max(early_us, _LEAST_WIDTH_US), _MOST_EARLY_US, self._late_us)


def _low(distance_us: Floats) -> float:
    """Return a low quantile, as most packets may be queued for a minute."""
    rank = min(max(int(_START_QUANTILE * len(distance_us)), _MIN_RANK), len(distance_us) - 1)
    return float(np.partition(distance_us, rank)[rank])


def _wander_precision() -> Floats:
    """Return the inverse covariance of the skew's rates of change in the spans, in (s/ppm)²."""
    length_s = np.diff(_WANDER_EDGES_S)
    middle_s = (_WANDER_EDGES_S[1:] + _WANDER_EDGES_S[:-1]) / 2
    apart_s = np.abs(middle_s[:, None] - middle_s)
    ramps = _RAMP_PPM_PER_S**2 * np.exp(-apart_s / _RAMP_DURATION_S)
    return np.asarray(np.linalg.inv(ramps + np.diag(_WALK_PPM_PER_SQRT_S**2 / length_s)))


_WANDER_PRECISION = _wander_precision()


def _model_rows(t_s: Floats, split: int) -> Floats:
    """Return what offset, skew, mode and each span's rate of change add to each sample, float64 (6, samples)."""
    rows = np.ones((3 + len(_WANDER_PRECISION), len(t_s)))
    rows[1] = t_s
    rows[2, split:] = -1.0
    for row, start_s, end_s in zip(rows[3:], _WANDER_EDGES_S[:-1], _WANDER_EDGES_S[1:], strict=True):
        # A rate of change bends the offset within its span; before it, the skew is another one.
        inside_s = np.clip(-t_s - start_s, 0.0, end_s - start_s)
        row[:] = inside_s * (inside_s / 2 + np.maximum(-t_s - end_s, 0.0))
    return rows


def refine(upper: Bounds, lower: Bounds, gap: Gap, prior: Prior) -> Line:
    """Return the line that fits all samples best, starting from the widest gap.

    Each bound is modelled as offset + skew·t + wander ± (half + lateness), the sign being its way's.

    Args:
        upper: at least one bound from above.
        lower: at least one bound from below.
        gap: of the same bounds.
        prior: of the slope.
    """
    split = len(upper.t_s)
    rows = _model_rows(np.concatenate((upper.t_s, lower.t_s)), split)
    offset_us = np.concatenate((upper.offset_us, lower.offset_us))
    way = rows[2]
    # The tiny precisions keep the equations solvable when the samples alone do not determine all.
    precision = np.diag([1e-12, 1.0 / prior.sigma_ppm**2, 1e-12] + [0.0] * len(_WANDER_PRECISION))
    precision[3:, 3:] = _WANDER_PRECISION
    expected = np.zeros(len(rows))
    expected[1] = prior.centre_ppm / prior.sigma_ppm**2
    line: Floats = np.zeros(len(rows))
    line[:3] = gap.offset_us, gap.skew_ppm, gap.half_us
    late_us: Floats = way * (offset_us - line @ rows)
    core = _Core(late_us, split)
    for _ in range(_ROUNDS):
        weighted = rows * core.weigh(late_us)
        line = np.linalg.solve(weighted @ rows.T + precision, weighted @ offset_us + expected).astype(np.float64)
        late_us = way * (offset_us - line @ rows)
    # Fisher's information from the scores; the weights themselves would promise too much. Samples that
    # agree exactly have no scores and yet say much.
    score = core.weigh(late_us) * np.maximum(np.abs(late_us), _LEAST_DISTANCE_US)
    covariance = np.linalg.inv((rows * (score * score)) @ rows.T + precision)
    return Line(
        offset_us=float(line[0]),
        skew_ppm=float(line[1]),
        half_us=float(line[2]),
        blur_us=core.early_us,
        free_exchanges=core.free / 2,
        offset_sigma_us=float(np.sqrt(covariance[0, 0])),
        skew_sigma_ppm=float(np.sqrt(covariance[1, 1])),
    )
