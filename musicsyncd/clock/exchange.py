"""One probe and its reply: four time stamps of two clocks.

Owns what can be said from one exchange alone. Must not know other exchanges, skew, or
how the stamps were taken.

Theory: the probe leaves at t1 (local) and arrives at t2 (host); the reply leaves at t3
(host) and arrives at t4 (local). Both ways take longer than nothing, so the offset lies
below t2 − t1 and above t3 − t4: two bounds that need no assumption about the path. Only
their middle assumes that both ways take equally long.

Source: RFC 5905 section 8 (on-wire protocol), whose offset has the same sign.
"""

from __future__ import annotations

from dataclasses import dataclass

from musicsyncd.errors import ClockError
from musicsyncd.units import HostNs, LocalNs

_LIMIT_NS = 1 << 61
"""Stamps lie within ± this (73 years), so that differences of their differences fit 64 bits."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """Four time stamps of one probe and its reply.

    Attributes:
        sent_local_ns: the peer's clock when the probe left (t1).
        received_host_ns: the host's clock when it arrived (t2).
        sent_host_ns: the host's clock when the reply left (t3).
        received_local_ns: the peer's clock when that arrived (t4).

    Raises:
        ClockError: one clock ran backwards between its two stamps, or the round trip took no time.
    """

    sent_local_ns: LocalNs
    received_host_ns: HostNs
    sent_host_ns: HostNs
    received_local_ns: LocalNs

    def __post_init__(self) -> None:
        stamps = (self.sent_local_ns, self.received_host_ns, self.sent_host_ns, self.received_local_ns)
        if not all(-_LIMIT_NS < stamp < _LIMIT_NS for stamp in stamps):
            raise ClockError("a time stamp of an exchange is out of range")
        if self.received_local_ns <= self.sent_local_ns:
            raise ClockError("a reply was received before its probe was sent; its time stamps are wrong")
        if self.sent_host_ns < self.received_host_ns:
            raise ClockError("a reply was sent before its probe was received; the host's stamps are wrong")
        if self.delay_ns <= 0:
            raise ClockError("an exchange took longer at the host than in all; its time stamps are wrong")

    @property
    def delay_ns(self) -> int:
        """The round trip without the host's share of it; positive."""
        return (self.received_local_ns - self.sent_local_ns) - (self.sent_host_ns - self.received_host_ns)

    @property
    def upper_ns(self) -> int:
        """The offset was below this when the probe left (t2 − t1)."""
        return self.received_host_ns - self.sent_local_ns

    @property
    def lower_ns(self) -> int:
        """The offset was above this when the reply arrived (t3 − t4)."""
        return self.sent_host_ns - self.received_local_ns

    @property
    def offset_ns(self) -> int:
        """Host minus local if both ways took equally long: positive when the host is ahead.

        It is wrong by half the difference of the two ways, which is at most half the delay.
        """
        return (self.upper_ns + self.lower_ns) // 2
