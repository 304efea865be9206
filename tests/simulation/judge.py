"""The judge: what a listener hears, by a clock that no peer has.

At each sampled true instant it asks every card which host time really sounds there (the card's true frame
times and the plan by which the frames were made), and compares with the host's own clock and time line. The
sync error of a peer is positive when it is late; the error of a pair is the difference of the two.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from statistics import fmean
from typing import Protocol

from musicsyncd.playback.timeline import Segment, Timeline

from .card import Block
from .machine import MachineClock

_S = 1_000_000_000
_APART_NS = 10_000_000
"""Ten milliseconds away is not badly in step but elsewhere."""

_EDGE_NS = 3_000_000
"""So near to where a track begins or ends, silence is no mistake."""


class Source(Protocol):
    """The host, as far as it is the truth."""

    @property
    def clock(self) -> MachineClock:
        """Its clock."""

    @property
    def epoch(self) -> int:
        """Of its last start."""

    @property
    def timeline(self) -> Timeline:
        """What should sound."""


class Sounding(Protocol):
    """A peer, as far as it is heard."""

    @property
    def name(self) -> str:
        """Which."""

    def block_at(self, true_ns: int) -> Block | None:
        """Return what sounds; None for silence."""


@dataclass(frozen=True)
class Sample:
    """One instant.

    Attributes:
        true_ns: when.
        errors_ns: sync error of each peer that plays what it should; positive is late.
        apart: peers that play something else, something more than 10 ms away, or nothing when they should.
    """

    true_ns: int
    errors_ns: dict[str, float]
    apart: tuple[str, ...]


@dataclass(frozen=True)
class Verdict:
    """A stretch of time judged, in microseconds.

    Attributes:
        samples: instants at which two peers or more were compared.
        max_us: the largest error of any pair.
        p99_us: of the largest error of any pair at an instant, its 99th percentile over time.
        rms_us: over all pairs and instants.
        bias_us: mean sync error against the host's own clock; common to all it is not heard.
        apart_ms: for how long each peer was apart, in all; only of those that ever were.
    """

    samples: int
    max_us: float
    p99_us: float
    rms_us: float
    bias_us: float
    apart_ms: dict[str, float]

    @property
    def worst_apart_ms(self) -> float:
        """The most that any peer was apart."""
        return max(self.apart_ms.values(), default=0.0)

    def __str__(self) -> str:
        apart = {name: round(ms) for name, ms in self.apart_ms.items() if ms}
        return (
            f"pairs: max {self.max_us:.1f} µs, p99 {self.p99_us:.1f} µs, rms {self.rms_us:.1f} µs, "
            f"bias {self.bias_us:+.1f} µs, apart {apart or 'never'} ms, {self.samples} samples"
        )


@dataclass
class Judge:
    """Listens.

    Attributes:
        interval_ns: between samples.
        samples: what was heard.
        note: called with every sample, for the trace.
    """

    host: Callable[[], Source]
    peers: Callable[[], Iterable[Sounding]]
    note: Callable[[str], None]
    interval_ns: int = 20_000_000
    samples: list[Sample] = field(default_factory=list)

    def listen(self, true_ns: int) -> None:
        """Take one sample."""
        host = self.host()
        host_ns = host.clock.local_at(true_ns)
        errors: dict[str, float] = {}
        apart = []
        for peer in self.peers():
            error_ns = self._error_ns(host, host_ns, peer.block_at(true_ns), true_ns)
            if error_ns is None:
                continue
            if abs(error_ns) <= _APART_NS:
                errors[peer.name] = error_ns
            else:
                apart.append(peer.name)
        self.samples.append(Sample(true_ns, errors, tuple(apart)))
        self.note(repr((true_ns, errors, apart)))

    def _error_ns(self, host: Source, host_ns: int, block: Block | None, true_ns: int) -> float | None:
        """Return how late a peer is; infinite if it plays what it should not, None if silence is right."""
        if block is None or block.course is None:
            surely = (_content(host.timeline, host_ns + edge) for edge in (-_EDGE_NS, _EDGE_NS))
            return math.inf if all(surely) else None
        played_ns = block.host_at(true_ns)
        played = _content(block.course.timeline, played_ns)
        if block.course.host_epoch == host.epoch:
            # What should sound at the instant for which this was made: so edges of tracks are no mistakes.
            wanted = _content(host.timeline, played_ns)
            if played is None or wanted is None:
                return None if played is wanted else math.inf
            if played[0].entry != wanted[0].entry or abs(played[1] - wanted[1]) > 1_000:
                return math.inf
            return host_ns - played_ns
        wanted = _content(host.timeline, host_ns)
        if played is None or wanted is None or played[0].entry != wanted[0].entry:
            return None if played is wanted else math.inf
        return wanted[1] - played[1]

    def verdict(self, since_s: float, until_s: float = math.inf, *, only: Iterable[str] | None = None) -> Verdict:
        """Return how a stretch of time was.

        Args:
            since_s: its start, true seconds.
            until_s: its end.
            only: these peers; all without it.
        """
        names = None if only is None else set(only)
        spreads, squares, biases = [], [], []
        apart: dict[str, float] = {}
        for sample in self.samples:
            if not since_s * _S <= sample.true_ns < until_s * _S:
                continue
            for name in sample.apart:
                if names is None or name in names:
                    apart[name] = apart.get(name, 0.0) + self.interval_ns / 1e6
            errors = [error / 1e3 for name, error in sample.errors_ns.items() if names is None or name in names]
            if len(errors) < 2:
                continue
            mean = fmean(errors)
            spreads.append(max(errors) - min(errors))
            # The mean over all pairs of (a − b)² is twice the variance with n − 1.
            squares.append(2 * sum((error - mean) ** 2 for error in errors) / (len(errors) - 1))
            biases.append(mean)
        if not spreads:
            return Verdict(0, math.nan, math.nan, math.nan, math.nan, apart)
        p99 = sorted(spreads)[math.ceil(0.99 * len(spreads)) - 1]
        return Verdict(len(spreads), max(spreads), p99, math.sqrt(fmean(squares)), fmean(biases), apart)

    def together_s(self, name: str, since_s: float, within_us: float) -> float:
        """Return how long after an instant a peer is within a distance of the others' mean, for good.

        Infinite if it is not at the end, or is alone.
        """
        together_ns: int | None = None
        for sample in self.samples:
            if sample.true_ns < since_s * _S:
                continue
            others = [error for other, error in sample.errors_ns.items() if other != name]
            if name in sample.apart or (name in sample.errors_ns and not others):
                together_ns = None
            elif name in sample.errors_ns:
                is_near = abs(sample.errors_ns[name] - fmean(others)) <= within_us * 1e3
                together_ns = (together_ns or sample.true_ns) if is_near else None
        return math.inf if together_ns is None else together_ns / _S - since_s


def _content(timeline: Timeline, host_ns: float) -> tuple[Segment, float] | None:
    """Return what sounds at an instant: the segment and its position in nanoseconds of the track; or None."""
    segment = timeline.sounding_at(round(host_ns))
    if segment is None or segment.track is None:
        return None
    frames, fraction = segment.position_at(round(host_ns))
    return segment, (frames + fraction) * 1e9 / segment.track.rate_hz
