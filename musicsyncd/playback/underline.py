"""The line under points that are late and never early.

Owns the fit and which point cannot be on it. Must not know what the points are. Their x are nanoseconds, in order,
and their y are nanoseconds by which something was seen later than it should at x; a slope is a ratio.

Theory: of all lines that no point lies below, the one that is highest at the middle of the points (Moon,
Skelly and Towsley, INFOCOM 1999). Where lateness is distributed exponentially that is the most likely line, and a
normal prior of the slope enters as a parabola. Its error falls with the number of points, not with its square
root; but a single early point would hold it down, so one that is alone below all others is told.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from musicsyncd.units import NS_PER_US

Array = npt.NDArray[np.float64]

MAX_SKEW = 1000e-6
"""No crystal is further than half of this from its nominal rate, and NTP slews the local clock by as much."""

_GRID = np.linspace(-1.0, 1.0, 33)
_ZOOMS = 5
"""Each level of the search is 16 times as fine as the one before: ±1000 ppm ends at 0.001 ppm."""

_ISOLATED_NS = 2 * NS_PER_US
_ISOLATED = 4.0
"""A lowest point so far below the line under all others, and so many times their median, was early."""

_MIN_COMPARED = 8


@dataclass(frozen=True, slots=True)
class Prior:
    """What is known of the slope beforehand: normal, around ``centre``."""

    centre: float
    sigma: float


@dataclass(frozen=True, slots=True)
class Line:
    """``height_ns`` at x = 0, and the slope."""

    skew: float
    height_ns: float

    def above_ns(self, x: Array, y: Array) -> Array:
        """Return by how much points are above it."""
        return y - self.skew * x - self.height_ns


def line_under(x: Array, y: Array, prior: Prior, least_noise_ns: float) -> Line:
    """Return the line under the points that is highest in their middle.

    The middle is that of the x they span: where points lie closer at one end, the middle of the
    points would rest the line on a short stretch of it.

    Args:
        x: float64 (points,), in order.
        y: float64 (points,).
        prior: of the slope.
        least_noise_ns: the points are taken to be no better than this.
    """
    noise_ns = max(float(off_neighbours_ns(x, y).mean()), least_noise_ns) if len(x) > 2 else least_noise_ns
    penalty_ns = noise_ns / (2 * len(x) * prior.sigma**2)
    from_middle = x - 0.5 * float(x[0] + x[-1])
    skew, reach = 0.0, MAX_SKEW
    for _ in range(_ZOOMS):
        skews = np.clip(skew + reach * _GRID, -MAX_SKEW, MAX_SKEW)
        heights = (y - skews[:, None] * from_middle).min(axis=1)
        # The sum of two concave functions has one maximum, so its neighbours enclose it.
        skew = float(skews[np.argmax(heights - penalty_ns * (skews - prior.centre) ** 2)])
        reach /= 16
    return Line(skew, float((y - skew * x).min()))


def early_outlier(x: Array, y: Array, prior: Prior, least_noise_ns: float, line: Line) -> int | None:
    """Return the index of a point that is alone below the line under all others, if there is one.

    Args:
        x: as for :func:`line_under`.
        y: as there.
        prior: as there.
        least_noise_ns: as there.
        line: under all the points.
    """
    if len(x) < _MIN_COMPARED:
        return None
    # The line rests on two points, of which one may be early.
    for candidate in np.argpartition(line.above_ns(x, y), 1)[:2].tolist():
        others_x, others_y = np.delete(x, candidate), np.delete(y, candidate)
        others = line_under(others_x, others_y, prior, least_noise_ns)
        usual_ns = middle(others.above_ns(others_x, others_y))
        below_ns = others.height_ns + others.skew * x[candidate] - y[candidate]
        if below_ns > _ISOLATED_NS + _ISOLATED * usual_ns:
            return int(candidate)
    return None


def off_neighbours_ns(x: Array, y: Array) -> Array:
    """Return by how much each inner point is off from the line between its neighbours: noise, at any slope of all."""
    between = y[:-2] + (y[2:] - y[:-2]) * (x[1:-1] - x[:-2]) / (x[2:] - x[:-2])
    return np.abs(y[1:-1] - between)


def middle(values: Array) -> float:
    """Return the median; the upper one of two. ``np.median`` imports a module at its first use, which takes a block."""
    return float(np.sort(values)[len(values) // 2])
