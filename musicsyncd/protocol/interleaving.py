"""Which four time stamps of a probe and its reply go to the clock, and when.

Owns the choice between the times that a datagram could say of itself and those at which it really
left. Must not know how either was taken, nor what the clock makes of them.

Theory: a datagram cannot carry the time at which it leaves: what it says (t1 of a probe, t3 of
a reply) was read some 15 to 60 µs before, on each machine another time. The kernel's send stamp is known right
after, so a peer keeps its own t1, and a host says its t3 of one reply with the next one. An exchange
therefore waits for the next reply (NTP's interleaved mode: RFC 9769, section 2).

A time said too early is never wrong, only weak. The offset lies below u = t2 − t1 and above l = t3 − t4:
t1 too early makes u greater, t3 too early makes l less, and the true offset stays between. So what
has no kernel's stamp in time goes in as it is, and both kinds mix in one clock. A time said too
*late* would be wrong, and one that cannot be is not taken.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from musicsyncd.units import NS_PER_MS

HOLD_DURATION_NS = 600 * NS_PER_MS
"""An exchange waits this long: two steady intervals, so that one lost probe costs no stamp."""

MAX_LATE_DURATION_NS = 200 * NS_PER_MS
"""From the time that a reply says to its leaving; more is another reply's stamp."""


@dataclass(frozen=True, slots=True)
class Answered:
    """A probe that was answered.

    Attributes:
        number: the probe's.
        sent_local_ns: when it left (t1), or somewhat before.
        received_host_ns: when it arrived (t2).
        sent_host_ns: when the reply left (t3), or somewhat before.
        received_local_ns: when that arrived (t4).
    """

    number: int
    sent_local_ns: int
    received_host_ns: int
    sent_host_ns: int
    received_local_ns: int


class Interleaver:
    """Holds the newest answered probe until the next reply says when its own reply left.

    From the beginning up to the first such word, probes are passed on at once as well: the clock is to
    be usable as early as can be, and a host may have no send stamps to tell of. Only the probe that
    is held at that first word goes to the clock twice.
    """

    def __init__(self) -> None:
        self._held: Answered | None = None
        self._is_interleaved = False

    @property
    def due_ns(self) -> int | None:
        """When :meth:`overdue` has something, or None."""
        if self._held is None or not self._is_interleaved:
            return None
        return self._held.received_local_ns + HOLD_DURATION_NS

    def clear(self) -> None:
        """Forget what is held and begin anew."""
        self._held = None
        self._is_interleaved = False

    def take(self, new: Answered, previous_number: int, previous_sent_host_ns: int) -> list[Answered]:
        """Take an answered probe and return what is for the clock now, oldest first.

        Args:
            new: with the times that are known yet.
            previous_number: the probe whose reply's sending the reply tells of; 0 for none.
            previous_sent_host_ns: when that left (t3).
        """
        held = self._held
        if held is not None and new.number < held.number:
            return [new]  # Its reply was overtaken by the one that told of it.
        done = []
        if held is not None:
            late_ns = previous_sent_host_ns - held.sent_host_ns
            if previous_number == held.number and 0 <= late_ns <= MAX_LATE_DURATION_NS:
                done.append(replace(held, sent_host_ns=previous_sent_host_ns))
                self._is_interleaved = True
            elif self._is_interleaved:
                done.append(held)
        if not self._is_interleaved:
            done.append(new)
        self._held = new
        return done

    def left(self, number: int, sent_local_ns: int) -> None:
        """Note when a probe left, if it is the one that is held."""
        held = self._held
        if held is not None and held.number == number:
            self._held = replace(held, sent_local_ns=max(held.sent_local_ns, sent_local_ns))

    def overdue(self, now_ns: int) -> list[Answered]:
        """Return what has waited in vain for the next reply, once."""
        due_ns, held = self.due_ns, self._held
        if held is None or due_ns is None or now_ns < due_ns:
            return []
        self._held = None
        return [held]
