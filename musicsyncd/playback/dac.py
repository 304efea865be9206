"""When each frame of the sound card sounds.

Owns the line through (frame counter, time at the converter) pairs, one pair from each audio
callback. Must not know of hosts, tracks or servos; its only clock is the peer's ``local_ns``.

Theory: what a card says of its own time is late and never early. It rounds to whole frames, it
moves its pointer in steps of 1 or 10 ms, or the call that asked was held up. So the truth is the
line under all the points: of all lines that no point lies below, the one that is highest at the
middle of the points (S. B. Moon, P. Skelly, D. Towsley, *Estimation and Removal of Clock Skew from
Network Delay Measurements*, INFOCOM 1999). Where lateness is distributed exponentially that is the
most likely line, and a normal prior of the rate enters as a parabola. Its error falls with the
number of points, not with its square root.

Limits of the theory: a card whose pointer never happens to be read right after it moved is late by
the least lateness it does show, and nothing in the pairs tells.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from musicsyncd.playback.underline import Prior, early_outlier, line_under, middle, off_neighbours_ns
from musicsyncd.units import NS_PER_MS, NS_PER_S, NS_PER_US, LocalNs, ratio_to_ppm

_LEAST_MEMORY_NS = 8.0 * NS_PER_S
_MOST_MEMORY_NS = 60.0 * NS_PER_S
_DRIFT_PER_NS = 0.05e-6 / NS_PER_S
"""Age of the oldest points. A crystal that warms up changes its rate by up to 0.05 ppm in a second, so that a line
through a time M is off by half of that times M², while noise makes it off by its amount over the number of points.
The best M grows with the cube root of the noise: a clean card is followed for seconds, a coarse one for a minute."""

_NOISE_SHARE = 8.0
"""Of the noise over the number of points, what is off at the line's end."""

_BUCKET_NS = NS_PER_S // 2
"""Only the lowest point of each such stretch is kept."""

_BUCKET_SHARE = 16
"""At first a stretch is this part of all the time since the start, so that few points are enough."""

_MAX_BUCKETS = 192
"""60 s of half seconds, and 50 shorter ones from the first 8 s."""

_REFIT_NS = NS_PER_S // 4
_EAGER_OBSERVATIONS = 8
"""The first ones are each fitted at once, then whenever the line is a third longer, then four times a second."""

_PRIOR_SKEW = 100e-6
"""Where a crystal is as a rule (one standard deviation), before anything is known of this one."""

_RESTART_SKEW = 5e-6
"""How well the rate is known at best after a discontinuity: the crystal is the same."""

_CHANGED_SKEW = 300e-6
"""How well the rate is known when the points have shown that it is another one: NTP slews by 500 ppm at the most."""

_JUMP_NS = 500 * NS_PER_US
"""What is this far off is held back for confirmation, on top of how far off the card is now and then."""

_AGREE_NS = 200 * NS_PER_US
"""Held pairs that lie so close together are a new line and no outliers."""

_HELD_TO_RESTART = 4
"""So many in a row confirm a jump: 85 ms of blocks of 1,024 frames."""

_MAX_HELD = 8
"""So many that are early and do not agree end the line as well: it cannot be right."""

_SETTLING_NS = NS_PER_S
"""Before this the card's own steps are not known yet, and only whole buckets are taken for a jump."""

_BUCKETS_COMPARED = 24
_BUCKETS_BEFORE = 4
_BUCKETS_LATE = 2
_BUCKETS_AGREE = 8
_UNUSUAL = 10.0
"""Of the last 24 whole buckets, two or more at the end that are late by ten times the median are a gap. The least
lateness of a bucket is distributed exponentially at the worst, so chance does it with e^(−2·7) at each."""

_LEFT_NS = 20 * NS_PER_US
"""Two whole buckets that are late by more than this and ten times the median are at another rate."""

_STALLED_TO_COUNT = 3
"""So many times in a row that are zero or do not move, and the callbacks' own times are used; and back again."""

_UNKNOWN_NS = float(NS_PER_MS)
"""How late a single pair may be; it counts less with every further one."""

_INTERRUPTED_NS = 15 * NS_PER_US
_GAPS = 32
"""A callback that learns of a look so much later than the quickest quarter of the last ones did is suspect."""

_MEAN_TO_QUARTILE = 3.5
"""Of an exponential distribution: 1 / ln(4/3)."""

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class DacLine:
    """A card's time as a straight line.

    Attributes:
        dac_frame: a frame of the card's counter.
        local_ns: when it sounds.
        ns_per_frame: how long a frame takes.
        uncertainty_ns: about how wrong ``local_ns`` is (two standard deviations), apart from a lateness
            that the card never goes without.
    """

    dac_frame: int
    local_ns: LocalNs
    ns_per_frame: float
    uncertainty_ns: float

    def local_at(self, dac_frame: int) -> LocalNs:
        """Return when a frame sounds, rounded to a nanosecond."""
        return LocalNs(self.local_ns + round((dac_frame - self.dac_frame) * self.ns_per_frame))


class DacModel:
    """Fits a line to what a card says of its time. Called in the audio callback: it never raises.

    Args:
        nominal_rate_hz: frames a second, as the card was opened.

    Attributes:
        line: the line as it is now, or None before the first pair.
        discontinuities: how often frames were lost, repeated or held up, and the line began anew.
        counting: the card's own times are not usable, and the callbacks' are used in their place.
    """

    def __init__(self, nominal_rate_hz: int) -> None:
        self._nominal_ns = NS_PER_S / nominal_rate_hz
        self.line: DacLine | None = None
        self.discontinuities = 0
        self.counting = False
        # The skew is that of local time against the card's: negative when the card runs fast.
        self._skew = self._centre = 0.0
        self._skew_sigma = self._centre_sigma = _PRIOR_SKEW
        self._x = np.zeros(_MAX_BUCKETS)
        self._y = np.zeros(_MAX_BUCKETS)
        self._above = np.zeros(0)
        self._latest = np.zeros(_MAX_BUCKETS)
        self._points = np.zeros(0), np.zeros(0)
        self._held: list[tuple[int, int, float]] = []
        self._last_frame = 0
        self._last_dac_frame = -1
        self._last_read_ns = 0
        self._jump_ns = float(_JUMP_NS)
        self._gaps_ns: deque[int] = deque(maxlen=_GAPS)
        self._memory_ns = _MOST_MEMORY_NS
        self._last_dac_ns = 0
        self._unlike = 0
        self._begin(0, 0)

    @property
    def rate_ppm(self) -> float:
        """The card's rate against the nominal one, positive when the card runs fast."""
        return ratio_to_ppm(1.0 / (1.0 + self._skew))

    def observe(
        self,
        dac_frame: int,
        dac_local_ns: int,
        now_local_ns: int = 0,
        *,
        read_local_ns: int = 0,
        grain_frames: int = 1,
        is_early: bool = False,
    ) -> bool:
        """Take one pair.

        Args:
            dac_frame: the card's frame at which the block of this callback begins.
            dac_local_ns: when that frame will leave the converter, as the card says; 0 if it does not.
            now_local_ns: the callback's own time, used when ``dac_local_ns`` is zero or stalled; 0 if there is none.
            read_local_ns: when the card was asked for the time that it says; 0 if that is not known.
            grain_frames: by how many its pointer moves at once, as far as is known: so late is no jump.
            is_early: other looks at the card contradict this one.

        Returns:
            False when the line began anew: frames were lost, repeated or held up, the card was
            restarted, or its times became usable or unusable.
        """
        self._jump_ns = _JUMP_NS + (grain_frames - 1) * self._nominal_ns
        usable = dac_local_ns > 0 and dac_local_ns != self._last_dac_ns
        self._last_dac_ns = dac_local_ns
        went_back = dac_frame <= self._last_dac_frame
        self._last_dac_frame = dac_frame
        frame, at_ns = dac_frame, dac_local_ns
        if 0 < read_local_ns <= dac_local_ns:
            # What was really seen is the frame that sounds now. The rest is said by the nominal rate, which is wrong.
            frame, at_ns = dac_frame - round((dac_local_ns - read_local_ns) / self._nominal_ns), read_local_ns
        if self.line is None:
            self.counting = not usable
            pair = (dac_frame, now_local_ns) if self.counting else (frame, at_ns)
            if pair[1] > 0:
                self._restart([pair])
            return True
        if usable == self.counting:
            self._unlike += 1
            if self._unlike >= _STALLED_TO_COUNT and (usable or now_local_ns > 0):
                self.counting = not usable
                return self._discontinuity([(frame, at_ns) if usable else (dac_frame, now_local_ns)])
        else:
            self._unlike = 0
        if self.counting:
            frame, at_ns = dac_frame, now_local_ns
        if at_ns <= 0 or not (usable or self.counting):
            return True
        if went_back:
            return self._discontinuity([(frame, at_ns)])
        if read_local_ns > 0:
            if read_local_ns == self._last_read_ns:
                return True  # The card was not asked again for this block.
            self._last_read_ns = read_local_ns
            suspect = is_early or self._was_interrupted(now_local_ns - read_local_ns)
            if suspect and self._lateness_ns(frame, at_ns) < 0.0:
                return True
        return self._take(frame, at_ns)

    def _was_interrupted(self, since_read_ns: int) -> bool:
        """Say whether time may have passed between the two halves of a look: that at the clock, that at the pointer.

        That is the order in which ALSA's plugins take them. If the thread has to wait just then, the pair is early,
        which cards never are; but then it is also longer ago than usual when the callback learns of it.
        """
        gaps = self._gaps_ns
        gaps.append(since_read_ns)
        return since_read_ns > sorted(gaps)[len(gaps) // 4] + _INTERRUPTED_NS

    def restart(self) -> None:
        """Forget where frames sound, but not the crystal's rate: for an underrun that the card told of."""
        self.discontinuities += self.line is not None
        self.line = None
        self._held.clear()

    def _discontinuity(self, pairs: list[tuple[int, int]]) -> bool:
        self.discontinuities += 1
        self._restart(pairs)
        return False

    def _restart(self, pairs: list[tuple[int, int]]) -> None:
        """Begin a line with these pairs, keeping what is known of the rate."""
        self._centre = self._skew
        self._centre_sigma = min(_PRIOR_SKEW, max(_RESTART_SKEW, self._skew_sigma))
        self._begin(*pairs[0])
        for dac_frame, at_ns in pairs:
            self._add(dac_frame, at_ns)

    def _begin(self, dac_frame: int, at_ns: int) -> None:
        self._origin_frame = dac_frame
        self._origin_ns = at_ns
        self._intercept_ns = 0.0
        self._latest_ns = 0.0
        self._buckets = 0
        self._observations = 0
        self._bucket_end = 0.0
        self._fitted_x = 0.0
        self._held.clear()
        self._unlike = 0

    def _lateness_ns(self, dac_frame: int, at_ns: int) -> float:
        x = (dac_frame - self._origin_frame) * self._nominal_ns
        return (at_ns - self._origin_ns) - x - self._intercept_ns - self._skew * x

    def _take(self, dac_frame: int, at_ns: int) -> bool:
        """Add a pair, or hold it back while it may be an outlier or the first after a jump."""
        late_ns = self._lateness_ns(dac_frame, at_ns)
        settled = (dac_frame - self._origin_frame) * self._nominal_ns > _SETTLING_NS
        tolerance_ns = self._jump_ns + 1.25 * self._latest_ns
        if abs(late_ns) <= tolerance_ns or not settled:
            for _, _, held_ns in self._held:
                self._note_lateness(held_ns)
            self._held.clear()
            late_from = self._late_jump() if self._add(dac_frame, at_ns) else None
            if late_from is not None:
                return self._discontinuity(self._pairs_from(late_from))
            return True
        self._last_frame = dac_frame
        self._held.append((dac_frame, at_ns, late_ns))
        recent = [held_ns for _, _, held_ns in self._held[-_HELD_TO_RESTART:]]
        if len(recent) == _HELD_TO_RESTART and max(recent) - min(recent) <= _AGREE_NS:
            return self._discontinuity([(frame, ns) for frame, ns, _ in self._held[-_HELD_TO_RESTART:]])
        if len(self._held) == _MAX_HELD:
            if max(held_ns for _, _, held_ns in self._held) < 0:
                return self._discontinuity([(frame, ns) for frame, ns, _ in self._held])
            self._note_lateness(self._held.pop(0)[2])
        return True

    def _note_lateness(self, late_ns: float) -> None:
        """Remember how late this card can be without a frame having been lost."""
        if self._buckets:
            self._latest[self._buckets - 1] = max(self._latest[self._buckets - 1], late_ns)
        self._latest_ns = max(self._latest_ns, late_ns)

    def _add(self, dac_frame: int, at_ns: int) -> bool:
        """Put a pair into its bucket, fit the line when it is time, and say whether it was."""
        self._last_frame = dac_frame
        self._observations += 1
        x = (dac_frame - self._origin_frame) * self._nominal_ns
        y = (at_ns - self._origin_ns) - x
        if x >= self._bucket_end:
            self._open_bucket(x, y)
        # Which of two is lower is asked along the line, or a card that is far off would always keep the last.
        last = self._buckets - 1
        if y - self._skew * x < self._y[last] - self._skew * self._x[last]:
            self._x[last], self._y[last] = x, y
        self._note_lateness(y - self._intercept_ns - self._skew * x)
        if self._observations > _EAGER_OBSERVATIONS and x - self._fitted_x < min(_REFIT_NS, x / 4):
            return False
        self._refit(x)
        return True

    def _open_bucket(self, x: float, y: float) -> None:
        while self._buckets == _MAX_BUCKETS or (self._buckets and x - self._x[0] > self._memory_ns):
            self._forget(0)
        self._x[self._buckets], self._y[self._buckets], self._latest[self._buckets] = x, y, 0.0
        self._buckets += 1
        self._bucket_end = x + min(_BUCKET_NS, x / _BUCKET_SHARE)

    def _refit(self, x_now: float) -> None:
        """Find the line under the buckets' points and publish it."""
        self._fitted_x = x_now
        self._fit(x_now)
        while (kept := self._still_straight()) < self._buckets:
            for _ in range(self._buckets - kept):
                self._forget(0)
            self._centre, self._centre_sigma = self._skew, _CHANGED_SKEW
            self._fit(x_now)
        self._latest_ns = float(self._latest[: self._buckets].max())
        self._publish(x_now)

    def _fit(self, x_now: float) -> None:
        """Fit the line, and keep the points that it is under and by how much they are above it."""
        x, low = self._x[: self._buckets] - x_now, self._y[: self._buckets].copy()
        prior = Prior(self._centre, self._centre_sigma)
        line = line_under(x, low, prior, self._nominal_ns / 2)
        early = early_outlier(x, low, prior, self._nominal_ns / 2, line)
        if early is not None:
            if early < len(x) - _BUCKETS_LATE:
                self._forget(early)  # Else it may be the first one at another rate: passed over, for now.
            x, low = np.delete(x, early), np.delete(low, early)
            line = line_under(x, low, prior, self._nominal_ns / 2)
        self._skew = line.skew
        self._intercept_ns = line.height_ns - line.skew * x_now
        self._points = x, low
        self._above = line.above_ns(x, low)

    def _still_straight(self) -> int:
        """Return how many of the newest buckets lie on one line, at least four: a rate may have changed.

        Where it rose, a line under all points cannot follow: the former ones hold it down, and the newest leave it
        behind. Where it fell, the line spans from the oldest to the newest and those between are far above.
        """
        if len(self._above) < _BUCKETS_AGREE:
            return self._buckets
        whole = self._above[:-1]
        if self._bucket_end - self._x[self._buckets - 1] >= _BUCKET_NS:
            usual_ns = middle(whole[:-_BUCKETS_LATE])
            if float(whole[-_BUCKETS_LATE:].min()) > _LEFT_NS + _UNUSUAL * usual_ns:
                return _BUCKETS_LATE + 2
        if middle(whole) > _LEFT_NS + _UNUSUAL * middle(off_neighbours_ns(*self._points)):
            return max(self._buckets // 2, _BUCKETS_LATE + 2)
        return self._buckets

    def _forget(self, index: int) -> None:
        """Drop a bucket; if it is the open one, the next pair opens another."""
        if index == self._buckets - 1:
            self._bucket_end = 0.0
        for column in (self._x, self._y, self._latest):
            column[index:-1] = column[index + 1 :]
        self._buckets -= 1

    def _late_jump(self) -> int | None:
        """Return the bucket from which on all are later than the card ever is, if there is one.

        That is how a gap shows in the first second, and one that is shorter than the card's own steps.
        """
        whole = self._above[:-1][-_BUCKETS_COMPARED:]
        splits = np.arange(_BUCKETS_BEFORE, len(whole) - _BUCKETS_LATE + 1)
        if not splits.size:
            return None
        least_after = np.minimum.accumulate(whole[::-1])[::-1][splits]
        late = np.flatnonzero(least_after > self._jump_ns + _UNUSUAL * middle(whole))
        if late.size:
            return len(self._above) - 1 - len(whole) + int(splits[late[0]])
        # A line that began just before a gap has too few points of its own to compare with. Then it is the many
        # late ones that agree among each other which are right.
        for split in range(1, _BUCKETS_BEFORE):
            after = whole[split:]
            least = float(after.min())
            if len(after) >= _BUCKETS_AGREE and least > self._jump_ns + _UNUSUAL * (middle(after) - least):
                return len(self._above) - 1 - len(whole) + split
        return None

    def _pairs_from(self, bucket: int) -> list[tuple[int, int]]:
        """Return the points of a bucket and all that follow as pairs again."""
        kept = slice(bucket, self._buckets)
        return [
            (self._origin_frame + round(x / self._nominal_ns), self._origin_ns + round(x + y))
            for x, y in zip(self._x[kept].tolist(), self._y[kept].tolist(), strict=True)
        ]

    def _publish(self, x_now: float) -> None:
        """Make the line of what was fitted, and say how sure it is."""
        x, _ = self._points
        count = len(x)
        # The lower quartile, as half of the looks at a card in steps are late by a whole one.
        lateness_ns = _MEAN_TO_QUARTILE * float(np.sort(self._above)[count // 4])
        noise_ns = max(lateness_ns, self._nominal_ns / 8)
        best_ns = (_NOISE_SHARE * noise_ns * _BUCKET_NS / _DRIFT_PER_NS) ** (1 / 3)
        self._memory_ns = min(max(best_ns, _LEAST_MEMORY_NS), _MOST_MEMORY_NS)
        spread = float(x.std()) if count > 1 else 0.0
        if spread > 0.0:
            fitted_sigma = 2.0 * noise_ns / (count * spread)
            self._skew_sigma = (self._centre_sigma**-2 + fitted_sigma**-2) ** -0.5
        else:
            self._skew_sigma = self._centre_sigma
        uncertainty_ns = 2.0 * noise_ns / count + self._skew_sigma * -float(x[0]) + _UNKNOWN_NS / self._observations
        self.line = DacLine(
            dac_frame=self._last_frame,
            local_ns=LocalNs(self._origin_ns + round(x_now + self._intercept_ns + self._skew * x_now)),
            ns_per_frame=self._nominal_ns * (1.0 + self._skew),
            uncertainty_ns=uncertainty_ns,
        )
