"""What a receiver takes off its own estimate, by what its fellows heard.

Owns the datagrams that this receiver heard of late and when its fellows did. Must not know who they are, nor how
the estimate comes about. Who they are: :mod:`musicsyncd.clock.receivers`, with the theory.

An estimate is a line that moves with every probe, by more than two receivers of one datagram differ. So the
comparison is made with the newest line, as it runs back to what was heard some seconds ago: what the line
has moved by since then is taken off with the path's asymmetry. A line that has moved by more than it was
uncertain is another one (a step, another frequency), and not to be run back beyond that. Until enough is heard
on its side of the change, the path's asymmetry alone is taken off: what the lines of then were ahead.

How much of the difference is believed is a matter of two variances (Wiener): of the difference, as the
scatter shows it, and of the estimate, as it says itself, or as a difference far beyond its scatter shows it.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from statistics import median

from musicsyncd.clock.mapping import ClockMapping
from musicsyncd.units import NS_PER_S, NS_PER_US, LocalNs

MAX_HEARD = 64
"""Remembered: 16 s of beacons, and no line is good for longer."""

MIN_COMPARED = 8
"""Two seconds without loss; fewer say nothing of their scatter."""

MAX_AGE_DURATION_NS = 30 * NS_PER_S
"""When the fellows fall silent, what they said counts for so long: it is the path's, mostly."""

_ENOUGH_SIGMA_NS = 2 * NS_PER_US
"""As many of the newest are compared as it takes for this standard error."""

_EARS_NS = 3 * NS_PER_US
"""By so much two receivers of one kind differ for good (RBS, section 4: some microseconds)."""

_UNCERTAINTY_SIGMAS = 4.0
"""Of an estimate's uncertainty."""

_SIGNIFICANT_SIGMAS = 3.0
_SIGMA_OF_MAD = 1.4826
_MEDIAN_LOSS = 1.2533
"""A median's standard error, against the mean's, for normal noise."""


@dataclass(slots=True)
class _Heard:
    """One datagram; latenesses as :mod:`musicsyncd.clock.receivers` has them.

    Attributes:
        sent_host_ns: when the host sent it.
        received_local_ns: when it was heard here.
        lateness_ns: by the estimate of that time.
        uncertainty_ns: of that estimate.
        fellows_ns: the lateness that the fellows tell of; None until they do.
    """

    sent_host_ns: int
    received_local_ns: LocalNs
    lateness_ns: int
    uncertainty_ns: int
    fellows_ns: int | None = None


class Correction:
    """Compares what was heard with what the fellows say.

    Datagrams are told apart by any number that is unique within a minute.
    """

    def __init__(self) -> None:
        self._heard: OrderedDict[int, _Heard] = OrderedDict()

    def hear(self, number: int, sent_host_ns: int, received_local_ns: LocalNs, estimate: ClockMapping) -> int:
        """Note a datagram, and return its lateness by the estimate of now, without any correction."""
        lateness_ns = estimate.host_at(received_local_ns) - sent_host_ns
        uncertainty_ns = estimate.uncertainty_at(received_local_ns)
        self._heard[number] = _Heard(sent_host_ns, received_local_ns, lateness_ns, uncertainty_ns)
        if len(self._heard) > MAX_HEARD:
            self._heard.popitem(last=False)
        return lateness_ns

    def tell(self, number: int, fellows_ns: int) -> None:
        """Note how late the fellows heard a datagram; one that was not heard here is nothing."""
        if number in self._heard:
            self._heard[number].fellows_ns = fellows_ns

    def clear(self) -> None:
        """Forget all: the estimate begins anew."""
        self._heard.clear()

    def estimate_ns(self, estimate: ClockMapping, one_way_ns: int) -> int:
        """Return what is to be taken off the host's time.

        Args:
            estimate: the newest one, without any correction.
            one_way_ns: half the least round trip, beyond which no estimate can be wrong.

        Returns:
            Nanoseconds, positive where the estimate is ahead of the fellows'; 0 where too little is known.
        """
        ahead_ns, then_ns = self._ahead_ns(estimate)
        if len(ahead_ns) < MIN_COMPARED:
            ahead_ns = then_ns  # Of a path that stayed as it was, the lines of then say enough.
        if len(ahead_ns) < MIN_COMPARED:
            return 0
        return _believe(ahead_ns, estimate.uncertainty_ns, one_way_ns)

    def _ahead_ns(self, estimate: ClockMapping) -> tuple[list[int], list[int]]:
        """Return by how much the estimate was ahead of the fellows' with each datagram, the newest first.

        Returns:
            By the line of now, as far back as it is the one of then; and by the lines of then.
        """
        ahead_ns: list[int] = []
        then_ns: list[int] = []
        is_same_line = True
        for heard in reversed(self._heard.values()):
            if heard.fellows_ns is None:
                continue
            if estimate.local_ns - heard.received_local_ns > MAX_AGE_DURATION_NS:
                break
            lateness_ns = estimate.host_at(heard.received_local_ns) - heard.sent_host_ns
            is_same_line = is_same_line and abs(lateness_ns - heard.lateness_ns) <= heard.uncertainty_ns
            if is_same_line:
                ahead_ns.append(lateness_ns - heard.fellows_ns)
            then_ns.append(heard.lateness_ns - heard.fellows_ns)
        return ahead_ns, then_ns


def _believe(ahead_ns: list[int], uncertainty_ns: int, one_way_ns: int) -> int:
    """Return how much of a difference is believed, given its values, the newest first."""
    middle_ns = median(ahead_ns)
    sigma_ns = _MEDIAN_LOSS * _SIGMA_OF_MAD * median(abs(one_ns - middle_ns) for one_ns in ahead_ns)
    count = min(max(MIN_COMPARED, int((sigma_ns / _ENOUGH_SIGMA_NS) ** 2)), len(ahead_ns))
    difference_ns = median(ahead_ns[:count])
    noise_ns2 = sigma_ns**2 / count + _EARS_NS**2
    own_ns2 = max(
        (uncertainty_ns / _UNCERTAINTY_SIGMAS) ** 2,
        difference_ns**2 - _SIGNIFICANT_SIGMAS**2 * noise_ns2,
    )
    return round(min(max(difference_ns * own_ns2 / (own_ns2 + noise_ns2), -one_way_ns), one_way_ns))
