"""From exchanges to the host's time: which to believe, how long to keep them, what comes out.

Owns the samples of the last minute, the gate for wild ones, steps, resets, changes of
frequency, and the estimate with its uncertainty. Must not know sockets, the schedule of
probes, where the stamps come from, or what is played. It does not smooth its output: the
newest estimate is the best one, and slewing has one owner, the servo of the playback.

Every exchange gives a bound of the offset from above, at the time when the probe left, and
one from below, at the time when the reply arrived. They are kept apart, because a
beacon would be a bound from below without one from above. What a group of peers learns
together (:mod:`musicsyncd.clock.receivers`) is taken off where the line is given out: what comes in is
judged by what probes alone say.

Theory: :mod:`musicsyncd.clock.envelope` for the line. The gate and the steps are RFC 5905
section 10 (popcorn spikes, step threshold) with intervals in place of offsets. Figures come
from tests/bench/clock.py unless a constant says otherwise.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, replace
from statistics import quantiles

import numpy as np

from musicsyncd.clock.envelope import Bounds, Line, Prior, refine, widest_gap
from musicsyncd.clock.exchange import Exchange
from musicsyncd.clock.mapping import ClockMapping
from musicsyncd.units import NS_PER_MS, NS_PER_S, NS_PER_US, HostNs, LocalNs

MAX_SAMPLES = 768
"""Kept of each direction at most; a minute at ten probes a second is about 640 with the burst in it."""

WINDOW_DURATION_NS = 60 * NS_PER_S
"""Samples are kept for this long. Twice as long gave the same: the skew has wandered off by then."""

MIN_EXCHANGES = 4
"""Before the estimate may be used."""

MAX_DELAY_NS = 4 * NS_PER_S
"""An exchange that took longer says nothing of use."""

MAX_SKEW_PPM = 2000.0
"""Two crystals differ by 200 at most, and NTP slews each by 500."""

_UNKNOWN_SIGMA_PPM = 100.0
"""One sigma of the skew of two crystals never seen before, or of what NTP did to one of them."""

_KNOWN_SIGMA_PPM = 5.0
"""One sigma of what a skew changes by over a restart or a night: the board's temperature."""

_SLEWED_SIGMA_PPM = 300.0
_SLEW_DURATION_NS = 10 * NS_PER_S
"""Steps closer together than this are a skew that is another one by some 500 ppm at the most, as ntpd slews."""

_GATE_SLACK_NS = 100 * NS_PER_US
_GATE_PPM = 50.0
"""An exchange may miss the estimate by half the least delay, and by these: at once, and with its age."""

_STEP_EXCHANGES = 3
_STEP_SLACK_NS = 500 * NS_PER_US
"""So many implausible exchanges that agree with each other within this are a step."""

_REFIT_INTERVAL_NS = 250 * NS_PER_MS
"""Once settled, an estimate this young is left as it is: its line says the same of now as a new one would, and a fit is
most of what a probe costs. Another frequency is fitted at once."""

_MAX_HELD = 8
_HELD_DURATION_NS = 10 * NS_PER_S

_MAX_RECENT = 12
_MIN_EARLY = 3.0
"""So many of the newest exchanges that are earlier than they can be are a change of frequency."""

_MOST_EARLY = 2.0
"""One that is too early by as many uncertainties counts as so many; one alone is never enough."""

_MAX_PAST = 15
_MIN_PAST = 6
"""Estimates that the newest exchanges are held against: the oldest is four or five seconds old as a rule."""

_SETTLING_DURATION_NS = 10 * NS_PER_S
"""An estimate younger than this may be wrong for want of one fast packet and proves nothing."""

_SIGMAS = 3.0
"""Formal sigmas in an uncertainty: delays are neither normal nor independent, yet 99 % lie within this."""

_FEW_EXCHANGES = 8
"""With so many that were not queued, the formal sigma is doubled: the width of the core is itself a guess."""

_BLURS = 2.0
"""So many sigmas of a blurred edge count like an uncertainty: by as much, packets are early by themselves."""

_ASYMMETRY = 0.05
"""Share of the least one-way delay by which the two ways may differ unseen (rms on Wi-Fi about this)."""


class _Window:
    """The newest bounds of one direction in 64-bit nanoseconds, at most :data:`MAX_SAMPLES`."""

    def __init__(self) -> None:
        self._local_ns = np.zeros(2 * MAX_SAMPLES, np.int64)
        self._offset_ns = np.zeros(2 * MAX_SAMPLES, np.int64)
        self._start = 0
        self._end = 0

    def __len__(self) -> int:
        return self._end - self._start

    def append(self, local_ns: int, offset_ns: int) -> None:
        if len(self) == MAX_SAMPLES:
            self._start += 1
        if self._end == len(self._local_ns):
            # The arrays are twice as long as needed, so that moving is rare and slices stay contiguous.
            kept = slice(self._start, self._end)
            self._start, self._end = 0, len(self)
            self._local_ns[: self._end] = self._local_ns[kept]
            self._offset_ns[: self._end] = self._offset_ns[kept]
        self._local_ns[self._end] = local_ns
        self._offset_ns[self._end] = offset_ns
        self._end += 1

    def drop_before(self, local_ns: int) -> None:
        while self._start < self._end and self._local_ns[self._start] < local_ns:
            self._start += 1

    def clear(self) -> None:
        self._start = self._end = 0

    def bounds(self, now_local_ns: int, near_offset_ns: int) -> Bounds:
        """Return the bounds in seconds before now and microseconds from an offset near them, exactly."""
        kept = slice(self._start, self._end)
        local_ns = self._local_ns[kept] - now_local_ns
        offset_ns = self._offset_ns[kept] - near_offset_ns
        return Bounds(local_ns.astype(np.float64) * 1e-9, offset_ns.astype(np.float64) * 1e-3)


@dataclass(frozen=True, slots=True)
class _Past:
    """An earlier estimate, how far from it no packet had been early, and how blurred that edge was."""

    mapping: ClockMapping
    edge_ns: int
    blur_ns: float

    def earliness(self, exchange: Exchange) -> float:
        """Return by how many uncertainties an exchange's earlier packet was before the edge."""
        sent_ns, received_ns = exchange.sent_local_ns, exchange.received_local_ns
        up_early_ns = self.mapping.offset_at(sent_ns) + self.edge_ns - exchange.upper_ns
        down_early_ns = exchange.lower_ns + self.edge_ns - self.mapping.offset_at(received_ns)
        return max(
            up_early_ns / math.hypot(self.mapping.uncertainty_at(sent_ns), self.blur_ns),
            down_early_ns / math.hypot(self.mapping.uncertainty_at(received_ns), self.blur_ns),
        )


class HostClock:
    """Estimates the host's clock from exchanges.

    Offsets are host − local, positive when the host is ahead; skews are the rate of that,
    positive when the host runs fast.

    Args:
        saved_skew_ppm: from an earlier run with the same host, or None; what cannot be is ignored.

    Attributes:
        exchanges: taken in, since the start.
        steps: jumps of the offset that were followed, since the start.
        frequency_changes: jumps of the skew that were followed, since the start.
    """

    def __init__(self, saved_skew_ppm: float | None = None) -> None:
        self._prior = Prior(0.0, _UNKNOWN_SIGMA_PPM)
        if saved_skew_ppm is not None and abs(saved_skew_ppm) <= MAX_SKEW_PPM:
            self._prior = Prior(saved_skew_ppm, _KNOWN_SIGMA_PPM)
        self._upper = _Window()
        self._lower = _Window()
        self._delays: deque[tuple[LocalNs, int]] = deque(maxlen=MAX_SAMPLES)
        self._held: deque[Exchange] = deque(maxlen=_MAX_HELD)
        self._recent: deque[Exchange] = deque(maxlen=_MAX_RECENT)
        self._past: deque[_Past] = deque(maxlen=_MAX_PAST)
        self._estimate: ClockMapping | None = None
        self._started_local_ns = self._stepped_local_ns = LocalNs(0)
        self._is_usable = False
        self._correction_ns = 0
        self.exchanges = 0
        self.steps = 0
        self.frequency_changes = 0

    @property
    def estimate(self) -> ClockMapping | None:
        """The newest estimate by what probes alone say, not slewed; None until it is usable."""
        return self._estimate if self._is_usable else None

    @property
    def mapping(self) -> ClockMapping | None:
        """The newest estimate, not slewed, less the correction; None until it is usable."""
        if self._estimate is None or not self._is_usable:
            return None
        return replace(self._estimate, host_ns=HostNs(self._estimate.host_ns - self._correction_ns))

    @property
    def correction_ns(self) -> int:
        """What is taken off the estimate of the host's time."""
        return self._correction_ns

    @property
    def skew_ppm(self) -> float:
        """The rate of the offset, as far as it is known."""
        return self._estimate.skew_ppm if self._estimate is not None else self._prior.centre_ppm

    @property
    def known_skew_ppm(self) -> float | None:
        """The same if it is known well enough for another run to begin with; None after a few seconds only."""
        estimate = self._estimate
        is_known = estimate is not None and estimate.skew_uncertainty_ppm <= _SIGMAS * _KNOWN_SIGMA_PPM
        return self.skew_ppm if is_known else None

    @property
    def round_trip_ns(self) -> int:
        """The least delay of the last minute; 0 while there is none."""
        return min((delay_ns for _, delay_ns in self._delays), default=0)

    @property
    def jitter_ns(self) -> int:
        """The interquartile range of the delays of the last minute; 0 for less than two."""
        if len(self._delays) < 2:
            return 0
        low_ns, _, high_ns = quantiles((delay_ns for _, delay_ns in self._delays), method="inclusive")
        return round(high_ns - low_ns)

    def reset(self, *, another_machine: bool = False) -> None:
        """Forget the offset, because the host was restarted or a machine suspended; keep the skew.

        Args:
            another_machine: the host is now another one, with a crystal of its own: forget the skew as well.
        """
        self._forget_offset()
        self._correction_ns = 0
        if another_machine:
            self._prior = Prior(0.0, _UNKNOWN_SIGMA_PPM)
        self._is_usable = False

    def correct(self, correction_ns: int) -> None:
        """Take this off the estimate of the host's time, until the next correction or reset.

        Args:
            correction_ns: positive when other peers show the estimate to be ahead of the host.
        """
        self._correction_ns = correction_ns

    def observe(self, exchange: Exchange) -> bool:
        """Take in one exchange. They may come in any order.

        Returns:
            False when it was held back or rejected.
        """
        if exchange.delay_ns > MAX_DELAY_NS:
            return False
        near_offset_ns = exchange.offset_ns
        if self._estimate is not None:
            if exchange.received_local_ns < self._estimate.local_ns - WINDOW_DURATION_NS:
                return False
            if not self._is_plausible(exchange, self._estimate):
                return self._hold(exchange)
            self._held = deque((held for held in self._held if _agree(held, exchange)), _MAX_HELD)
            near_offset_ns = self._estimate.offset_at(exchange.received_local_ns)
        now_local_ns = self._take(exchange)
        if self._drop_former_frequency() or self._is_fit_due(now_local_ns):
            self._fit(now_local_ns, near_offset_ns)
        return True

    def _is_plausible(self, exchange: Exchange, estimate: ClockMapping) -> bool:
        """Say whether the estimate lies between the exchange's bounds, give or take."""
        age_ns = abs(exchange.received_local_ns - estimate.local_ns)
        slack_ns = self.round_trip_ns // 2 + _GATE_SLACK_NS + round(_GATE_PPM * 1e-6 * age_ns)
        above_ns = estimate.offset_at(exchange.sent_local_ns) - exchange.upper_ns
        below_ns = exchange.lower_ns - estimate.offset_at(exchange.received_local_ns)
        return above_ns <= slack_ns and below_ns <= slack_ns

    def _hold(self, exchange: Exchange) -> bool:
        """Keep an implausible exchange; when enough of them agree, start again from those."""
        oldest_ns = exchange.received_local_ns - _HELD_DURATION_NS
        self._held = deque((held for held in self._held if held.received_local_ns >= oldest_ns), _MAX_HELD)
        agreeing = [held for held in self._held if _agree(held, exchange)]
        self._held.append(exchange)
        if len(agreeing) + 1 < _STEP_EXCHANGES:
            return False
        self.steps += 1
        # One step is a step. Another one soon after it is a clock that NTP slews, faster than steps could follow.
        is_slewed = self.steps > 1 and exchange.received_local_ns - self._stepped_local_ns < _SLEW_DURATION_NS
        self._stepped_local_ns = exchange.received_local_ns
        self._forget_offset(_SLEWED_SIGMA_PPM if is_slewed else _KNOWN_SIGMA_PPM)
        now_local_ns = max(self._take(held) for held in (*agreeing, exchange))
        self._fit(now_local_ns, exchange.offset_ns)
        return True

    def _forget_offset(self, skew_sigma_ppm: float = _KNOWN_SIGMA_PPM) -> None:
        if self._estimate is not None:
            self._prior = _kept_skew(self._estimate, skew_sigma_ppm)
        self._estimate = None
        self._upper.clear()
        self._lower.clear()
        for samples in (self._delays, self._held, self._recent, self._past):
            samples.clear()

    def _take(self, exchange: Exchange) -> LocalNs:
        """Store both bounds, drop what is too old, and return the newest sample's time."""
        now_local_ns = exchange.received_local_ns
        if self._estimate is not None:
            now_local_ns = max(now_local_ns, self._estimate.local_ns)
        oldest_ns = now_local_ns - WINDOW_DURATION_NS
        self._upper.drop_before(oldest_ns)
        self._lower.drop_before(oldest_ns)
        while self._delays and self._delays[0][0] < oldest_ns:
            self._delays.popleft()
        if not len(self._upper):
            # The first one, or the first after a silence of which only the skew is left.
            self._started_local_ns = now_local_ns
            if self._estimate is not None:
                self._prior = _kept_skew(self._estimate, _KNOWN_SIGMA_PPM)
                self._past.clear()
                self._recent.clear()
        self._upper.append(exchange.sent_local_ns, exchange.upper_ns)
        self._lower.append(exchange.received_local_ns, exchange.lower_ns)
        self._delays.append((exchange.received_local_ns, exchange.delay_ns))
        self._recent.append(exchange)
        self.exchanges += 1
        return now_local_ns

    def _is_fit_due(self, now_local_ns: LocalNs) -> bool:
        if self._estimate is None or now_local_ns - self._started_local_ns < _SETTLING_DURATION_NS:
            return True
        return now_local_ns - self._estimate.local_ns >= _REFIT_INTERVAL_NS

    def _drop_former_frequency(self) -> bool:
        """Drop the samples from before a change of frequency, as when NTP slews one of the two clocks.

        Queues make packets late. Several that are earlier than an estimate of some seconds ago
        allows say that it was right then and is not now.
        """
        if len(self._past) < _MIN_PAST:
            return False
        earliness = [self._past[0].earliness(recent) for recent in self._recent]
        if sum(min(value, _MOST_EARLY) for value in earliness if value > 1) < _MIN_EARLY:
            return False
        first = next(recent for recent, value in zip(self._recent, earliness, strict=True) if value > 1)
        self._upper.drop_before(first.sent_local_ns)
        self._lower.drop_before(first.received_local_ns)
        self._prior = Prior(self.skew_ppm, _UNKNOWN_SIGMA_PPM)
        self._past.clear()
        self.frequency_changes += 1
        return True

    def _fit(self, now_local_ns: LocalNs, near_offset_ns: int) -> None:
        """Make the estimate for ``now_local_ns``; ``near_offset_ns`` keeps the floats small."""
        upper = self._upper.bounds(now_local_ns, near_offset_ns)
        lower = self._lower.bounds(now_local_ns, near_offset_ns)
        gap = widest_gap(upper, lower, self._prior, self.skew_ppm)
        line = refine(upper, lower, gap, self._prior)
        if abs(line.skew_ppm) > MAX_SKEW_PPM:
            line = replace(line, skew_ppm=math.copysign(MAX_SKEW_PPM, line.skew_ppm))
        self._publish(line, gap.half_us, len(self._upper), now_local_ns, near_offset_ns)

    def _publish(self, line: Line, edge_us: float, count: int, now_local_ns: LocalNs, near_offset_ns: int) -> None:
        """Put a line of ``count`` exchanges in the place of the estimate, with an honest uncertainty."""
        sigmas = _SIGMAS * (1 + _FEW_EXCHANGES / max(line.free_exchanges, 1.0))
        half_us = max(line.half_us, 0.0)
        # Whatever the statistics say, an error past half the gap would need a packet faster than possible.
        uncertainty_us = min(sigmas * line.offset_sigma_us, half_us + _GATE_SLACK_NS * 1e-3)
        path_us = _ASYMMETRY * half_us
        self._estimate = ClockMapping(
            local_ns=now_local_ns,
            host_ns=HostNs(now_local_ns + near_offset_ns + round(line.offset_us * 1e3)),
            skew_ppm=line.skew_ppm,
            uncertainty_ns=round((uncertainty_us + path_us) * 1e3),
            skew_uncertainty_ppm=sigmas * line.skew_sigma_ppm,
        )
        self._is_usable = self._is_usable or count >= MIN_EXCHANGES
        if now_local_ns - self._started_local_ns > _SETTLING_DURATION_NS:
            # A path's own asymmetry is constant and makes no packet early: it is taken off again.
            edge_ns = round((edge_us + path_us) * 1e3)
            self._past.append(_Past(self._estimate, edge_ns, _BLURS * line.blur_us * 1e3))


def _kept_skew(estimate: ClockMapping, sigma_ppm: float) -> Prior:
    """Return what is left of an estimate's skew when its offset counts no more: as sure as it was, and no surer.

    Args:
        estimate: an early one may be hundreds of ppm off.
        sigma_ppm: how far a well known skew may have moved.
    """
    own_sigma_ppm = min(estimate.skew_uncertainty_ppm / _SIGMAS, _UNKNOWN_SIGMA_PPM)
    return Prior(estimate.skew_ppm, math.hypot(sigma_ppm, own_sigma_ppm))


def _agree(one: Exchange, other: Exchange) -> bool:
    """Say whether some offset lies between the bounds of both, give or take."""
    lowest_ns = max(one.lower_ns, other.lower_ns)
    highest_ns = min(one.upper_ns, other.upper_ns)
    return lowest_ns <= highest_ns + _STEP_SLACK_NS
