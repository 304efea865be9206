"""A network on which anything may happen to a datagram, and everything is overheard.

Owns the weather on each machine's path and the record of all that was sent, from which attackers draw. Must not know
what a datagram says.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from typing import Protocol

from .network import Address, Network, Station

_MS = 1_000_000
_S = 1_000_000_000

MAX_DELAY_NS = 10 * _S
MAX_RECORDED = 60_000
"""More than any run sends; one that sends more is a fault of its own."""


@dataclass
class Weather:
    """What goes wrong on one machine's path, both ways: shares of its datagrams.

    Attributes:
        loss: vanish.
        doubled: come twice, up to 1 s apart.
        reordered: are held up by up to 50 ms.
        delayed: are held up by up to 10 s.
        cut: arrive cut short.
        mutated: arrive with one to eight bits changed.
    """

    loss: float = 0.0
    doubled: float = 0.0
    reordered: float = 0.0
    delayed: float = 0.0
    cut: float = 0.0
    mutated: float = 0.0

    def add(self, other: Weather, sign: int = 1) -> None:
        """Put another's shares on top, or take them off again."""
        for one in fields(self):
            setattr(self, one.name, max(0.0, getattr(self, one.name) + sign * getattr(other, one.name)))

    @property
    def is_fair(self) -> bool:
        """Nothing goes wrong; what adding and taking off leaves of it is rounding."""
        return self.loss + self.doubled + self.reordered + self.delayed + self.cut + self.mutated < 1e-9


class Target(Station, Protocol):
    """A machine in such a network."""

    weather: Weather
    id: bytes
    epoch: int
    is_host: bool
    is_stranger: bool

    def take(self, data: bytes, source: Address, multicast: bool, harm: str) -> None:
        """Take a datagram; ``harm`` says what was done to it, so that it must not act; empty for nothing."""


@dataclass(frozen=True)
class Overheard:
    """A datagram as it was sent."""

    data: bytes
    source: Address
    true_ns: int
    sender: bytes
    epoch: int
    of_host: bool
    is_stranger: bool


class ChaosNetwork(Network):
    """Carries datagrams between :class:`Target`\\ s.

    Attributes:
        cut_off: addresses that hear nobody, with how often they were cut off.
        overheard: all that was sent, in order.
        replies: called with what is sent to an address at which nobody is.
    """

    cut_off: Counter[Address]
    overheard: list[Overheard]
    replies: Callable[[bytes, Address, Address], None]

    def send(self, source: Target, data: bytes, to: Address | None, late_ns: float) -> None:
        """Send a datagram, and let it be overheard."""
        if len(self.overheard) < MAX_RECORDED:
            said = Overheard(
                data, source.address, self.now(), source.id, source.epoch, source.is_host, source.is_stranger
            )
            self.overheard.append(said)
        if to is not None and to not in self._stations:
            self.replies(data, source.address, to)
        super().send(source, data, to, late_ns)

    def station_at(self, address: Address) -> Target | None:
        """Return who is at an address."""
        return self._stations.get(address)

    def _carry(self, source: Target, data: bytes, to: Address, up_ns: float, *, multicast: bool) -> None:
        target = self._stations.get(to)
        if target is None or (multicast and to in self.deaf):
            return
        if self.cut_off[source.address] or self.cut_off[to]:
            return
        delay_ns = up_ns + target.link.down_ns(self.dice, self.now() + round(up_ns), multicast)
        weathers = [one for one in (source.weather, target.weather) if not one.is_fair]
        if not weathers:
            self.after(delay_ns, partial(self._hand, target, data, source.address, multicast, ""))
            return
        harm = ""
        for one in weathers:
            data, harm, delay_ns = self._spoil(one, data, harm, delay_ns)
        if not data:
            return
        self.after(delay_ns, partial(self._hand, target, data, source.address, multicast, harm))
        if self._happens(max(one.doubled for one in weathers)):
            delay_ns += self.dice.random() ** 3 * _S
            self.after(delay_ns, partial(self._hand, target, data, source.address, multicast, harm))

    def _spoil(self, weather: Weather, data: bytes, harm: str, delay_ns: float) -> tuple[bytes, str, float]:
        """Return what becomes of a datagram; no bytes when it is lost."""
        if self._happens(weather.loss):
            return b"", harm, delay_ns
        if self._happens(weather.reordered):
            delay_ns += self.dice.random() * 50 * _MS
        if self._happens(weather.delayed):
            delay_ns += self.dice.random() ** 2 * MAX_DELAY_NS
        if data and self._happens(weather.cut):
            return data[: self.dice.randrange(len(data))], "cut short", delay_ns
        if data and self._happens(weather.mutated):
            return flipped(data, self.dice.randint(1, 8), self.dice.randrange), "mutated", delay_ns
        return data, harm, delay_ns

    def _happens(self, share: float) -> bool:
        return share > 0 and self.dice.random() < share

    def _hand(self, target: Target, data: bytes, source: Address, multicast: bool, harm: str) -> None:
        if self._stations.get(target.address) is target:
            target.take(data, source, multicast, harm)


def flipped(data: bytes, bits: int, randrange: Callable[[int], int]) -> bytes:
    """Return bytes with so many bits changed, no bit twice."""
    changed = bytearray(data)
    for place in {randrange(8 * len(data)) for _ in range(bits)}:
        changed[place // 8] ^= 1 << place % 8
    return bytes(changed)
