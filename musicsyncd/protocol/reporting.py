"""When a peer reports, and the figures of its clock in a report.

Owns the times of the reports and that their figures fit the message's limits. Must not
know to whom they go.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Protocol

import msgspec

from musicsyncd.clock.mapping import ClockMapping
from musicsyncd.protocol.wire import ClockStats, PlaybackStats
from musicsyncd.units import NS_PER_MS, NS_PER_S, LocalNs

INTERVAL_NS = NS_PER_S
SPREAD = 0.1
"""Peers that a power cut started together do not report together for ever."""

MIN_GAP_NS = 100 * NS_PER_MS
"""What changes is reported at once, but no more than ten times a second."""

SEARCH_GAPS_NS = (100 * NS_PER_MS, 200 * NS_PER_MS, 400 * NS_PER_MS)
"""After the first report to nobody in particular; then one a second."""

AFTER_PROOF_NS = 5 * NS_PER_MS
"""A report that overtook its sender's proof would be for nothing."""

_MAX_TEXT_BYTES = 120
"""With a peer's and a room's longest name in the longest encoding, a report still fits a datagram (tested)."""

_MAX_STATE = 16
_MAX_PPM = 1e6
_MAX_NS = (1 << 62) - 1


class ReportSchedule:
    """Says when a report is due.

    What must be reported at once when it changes is its *gist*, anything that can be compared.

    Args:
        random: gives numbers from 0 to 1, for the spread.
    """

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random
        self._regular_ns = 0
        self._earliest_ns = 0
        self._searches = 0
        self._answered = False
        self._gist: Hashable = None

    def search(self) -> None:
        """Begin anew to report to whoever may be there."""
        self._searches = 0
        self._answered = False
        self.hasten()

    def hasten(self) -> None:
        """Have a report as soon as may be."""
        self._gist = None

    def answered(self, now_ns: int) -> None:
        """Report once more soon: whoever heard the first report had to be shown that we are alive.

        Once in a search, since recorded challenges can be answered, too.
        """
        if not self._answered:
            self._answered = True
            self._regular_ns = self._earliest_ns = now_ns + AFTER_PROOF_NS

    def due_ns(self, gist: Hashable) -> int:
        """Return when a report with this gist is due; 0 is at once."""
        return self._regular_ns if gist == self._gist else self._earliest_ns

    def note_sent(self, now_ns: int, gist: Hashable, *, searching: bool) -> None:
        """Set the next time, after a report with this gist was sent."""
        self._gist = gist
        self._earliest_ns = now_ns + MIN_GAP_NS
        gap_ns = round(INTERVAL_NS * (1 + SPREAD * (2 * self._random() - 1)))
        if searching and self._searches < len(SEARCH_GAPS_NS):
            gap_ns = SEARCH_GAPS_NS[self._searches]
            self._searches += 1
        self._regular_ns = now_ns + gap_ns


class ClockFigures(Protocol):
    """What a clock says of itself."""

    @property
    def mapping(self) -> ClockMapping | None:
        """Local to host time; None until it is usable."""

    @property
    def skew_ppm(self) -> float:
        """Rate of the offset, positive when the host runs fast."""

    @property
    def round_trip_ns(self) -> int:
        """Least of the last minute."""

    @property
    def jitter_ns(self) -> int:
        """Interquartile range of the last minute's round trips."""

    @property
    def correction_ns(self) -> int:
        """What is taken off the estimate of the host's time in ``mapping``."""


def clock_stats(clock: ClockFigures, loss: float, stamps: str, now_ns: int) -> ClockStats:
    """Return a report's account of a clock at a local time; only the link's while the clock is not usable."""
    link = ClockStats(
        round_trip_ns=_fit_ns(clock.round_trip_ns),
        jitter_ns=_fit_ns(clock.jitter_ns),
        loss=loss,
        stamps=stamps,
    )
    mapping = clock.mapping
    if mapping is None:
        return link
    return msgspec.structs.replace(
        link,
        offset_ns=mapping.offset_at(LocalNs(now_ns)),
        skew_ppm=_fit_ppm(clock.skew_ppm),
        uncertainty_ns=_fit_ns(mapping.uncertainty_at(LocalNs(now_ns))),
        correction_ns=clock.correction_ns,
    )


def fit(playback: PlaybackStats) -> PlaybackStats:
    """Return the same, cut to what the message allows: a driver's name may be of any length.

    A report beyond its limits would be refused as malformed, and the speaker would seem to be gone.
    """
    return msgspec.structs.replace(
        playback,
        state=playback.state[:_MAX_STATE],
        output=_fit_text(playback.output),
        fault=_fit_text(playback.fault),
        correction_ppm=_fit_ppm(playback.correction_ppm),
        card_ppm=_fit_ppm(playback.card_ppm),
    )


def _fit_text(text: str) -> str:
    return text.encode()[:_MAX_TEXT_BYTES].decode(errors="ignore")


def _fit_ns(duration_ns: int) -> int:
    return min(max(duration_ns, 0), _MAX_NS)


def _fit_ppm(ppm: float) -> float:
    return ppm if abs(ppm) <= _MAX_PPM else 0.0  # Not a number is no smaller, either.
