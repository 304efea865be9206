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

Few samples touch the gap, so the line is then refined by reweighted least squares over
all of them, with the gap's half width (the least one-way delay, common to both ways)
and the skew's own rate of change as further unknowns. A packet earlier than the gap's
edge cannot be and weighs much; a late one was queued and weighs little.

Sources: Moon, Skelly and Towsley, "Estimation and removal of clock skew from network
delay measurements" (INFOCOM 1999) for the gap; Kelley, "The cutting-plane method" (1960);
Holland and Welsch, "Robust regression using iteratively reweighted least-squares" (1977).
The constants are from tests/bench/clock.py unless they say otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_EXPIRY_US_PER_S2 = 0.03
"""A bound of age a is slackened by this times a²: a skew that changes by 0.06 ppm a second."""

_CURVE_US_PER_S2 = 0.02
"""How large half the skew's rate of change may be (one sigma): 0.04 ppm a second, a board that warms up."""

_WANDER_US_PER_S2 = 0.02
"""What the curve does not explain, one sigma, times a²."""

_SCALE_QUANTILE = 0.15
"""Of a direction's distances from the edge: how wide its cluster of unhindered packets is."""

_MIN_RANK = 2
"""The line passes through two or three of a few samples, and their distances say nothing."""

_SCALE_FLOOR_US = 10.0
"""No cluster is taken to be narrower: time stamps have noise of their own."""

_EARLY_US = 4.0
"""One sigma of a packet that is earlier than the gap's edge."""

_ROUNDS = 4
"""Of reweighting; twice as many changed nothing that can be measured."""

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
        half_us: the least one-way delay that both ways have in common.
        offset_sigma_us: formal, without what no sample can show (a path's asymmetry).
        skew_sigma_ppm: formal.
    """

    offset_us: float
    skew_ppm: float
    half_us: float
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


def refine(upper: Bounds, lower: Bounds, gap: Gap, prior: Prior) -> Line:
    """Return the line that fits all samples best, starting from the widest gap.

    Each bound is modelled as offset + skew·t + curve·t² ± half plus a delay that is mostly small.

    Args:
        upper: at least one bound from above.
        lower: at least one bound from below.
        gap: of the same bounds.
        prior: of the slope.
    """
    split = len(upper.t_s)
    t_s = np.concatenate((upper.t_s, lower.t_s))
    offset_us = np.concatenate((upper.offset_us, lower.offset_us))
    rows = np.ones((4, len(t_s)))
    rows[1] = t_s
    rows[2, split:] = -1.0
    rows[3] = t_s * t_s
    wander_us2 = (_WANDER_US_PER_S2 * rows[3]) ** 2
    # The tiny precisions keep the equations solvable when the samples alone do not determine all four.
    precision = np.diag([1e-12, 1.0 / prior.sigma_ppm**2, 1e-12, 1.0 / _CURVE_US_PER_S2**2])
    expected = np.array([0.0, prior.centre_ppm / prior.sigma_ppm**2, 0.0, 0.0])
    line = np.array([gap.offset_us, gap.skew_ppm, gap.half_us, 0.0])
    scale_us2 = np.empty(len(t_s))
    for _ in range(_ROUNDS):
        late_us = rows[2] * (offset_us - line @ rows)
        _fill_scales(late_us, split, scale_us2)
        spread_us2 = np.where(late_us < 0, _EARLY_US**2, scale_us2 + late_us * late_us) + wander_us2
        weighted = rows / spread_us2
        normal = weighted @ rows.T + precision
        line = np.linalg.solve(normal, weighted @ offset_us + expected)
    # For the covariance an early packet counts like any other, or a blurred edge would seem certain.
    late_us = rows[2] * (offset_us - line @ rows)
    _fill_scales(late_us, split, scale_us2)
    variance_us2 = scale_us2 + late_us * late_us + wander_us2
    covariance = np.linalg.inv((rows / variance_us2) @ rows.T + precision)
    return Line(
        offset_us=float(line[0]),
        skew_ppm=float(line[1]),
        half_us=float(line[2]),
        offset_sigma_us=float(np.sqrt(covariance[0, 0])),
        skew_sigma_ppm=float(np.sqrt(covariance[1, 1])),
    )


def _fill_scales(late_us: Floats, split: int, scale_us2: Floats) -> None:
    """Set each direction's squared scale: a low quantile, as most packets may be queued for a minute."""
    distance_us = np.abs(late_us)
    for part in (slice(0, split), slice(split, None)):
        distances_us = distance_us[part]
        rank = min(max(int(_SCALE_QUANTILE * len(distances_us)), _MIN_RANK), len(distances_us) - 1)
        scale_us2[part] = max(float(np.partition(distances_us, rank)[rank]), _SCALE_FLOOR_US) ** 2
