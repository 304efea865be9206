"""A network with delays, loss, doubling, reordering and partitions.

A path between host and peer has the delays of the peer's link; the host's own is a switch away.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

Address = tuple[str, int]

IP_AND_UDP_BYTES = 28
"""Headers of each datagram, counted with the traffic."""

_US = 1_000
_MS = 1_000_000


class Link(Protocol):
    """How long a datagram takes between a machine and the host, in nanoseconds."""

    def up_ns(self, dice: random.Random) -> float:
        """Return the delay from the machine."""

    def down_ns(self, dice: random.Random, true_ns: int, multicast: bool) -> float:
        """Return the delay to the machine of what is sent at an instant."""


class Direct:
    """The host's own: nothing."""

    def up_ns(self, dice: random.Random) -> float:
        return 0.0

    def down_ns(self, dice: random.Random, true_ns: int, multicast: bool) -> float:
        return 0.0


class Wired:
    """A switched LAN: 30 µs and an exponential tail of 12 µs each way."""

    def up_ns(self, dice: random.Random) -> float:
        return 30 * _US + dice.expovariate(1 / (12 * _US))

    def down_ns(self, dice: random.Random, true_ns: int, multicast: bool) -> float:
        return self.up_ns(dice)


@dataclass
class Wifi:
    """Wi-Fi: 0.8 ms and an exponential of 0.5 ms, a Pareto tail, and multicast only at the DTIM.

    Attributes:
        busy_up: share of datagrams from the machine that meet a queue.
        busy_down: share of those to it.
        dtim_ns: every third beacon of 102.4 ms at some access points, every one at others.
    """

    busy_up: float = 0.02
    busy_down: float = 0.05
    dtim_ns: int = 102_400 * _US

    def up_ns(self, dice: random.Random) -> float:
        return self._air_ns(dice, self.busy_up)

    def down_ns(self, dice: random.Random, true_ns: int, multicast: bool) -> float:
        if not multicast:
            return self._air_ns(dice, self.busy_down)
        waits_ns = math.ceil(true_ns / self.dtim_ns) * self.dtim_ns - true_ns
        return waits_ns + 0.5 * _MS + dice.expovariate(1 / (0.3 * _MS))

    def _air_ns(self, dice: random.Random, busy: float) -> float:
        queue_ns = min(dice.paretovariate(1.5) * 2 * _MS, 200 * _MS) if dice.random() < busy else 0.0
        return 0.8 * _MS + dice.expovariate(1 / (0.5 * _MS)) + queue_ns


@dataclass
class Loaded(Wired):
    """A wired path on whose way up others send, for as long as ``queue_ns`` is not 0.

    Attributes:
        queue_ns: mean of what a datagram from the machine waits then, exponentially distributed.
    """

    queue_ns: float = 0.0

    def up_ns(self, dice: random.Random) -> float:
        waits_ns = dice.expovariate(1 / self.queue_ns) if self.queue_ns else 0.0
        return super().up_ns(dice) + waits_ns

    def down_ns(self, dice: random.Random, true_ns: int, multicast: bool) -> float:
        return super().up_ns(dice)


def busy_wifi() -> Wifi:
    """Return a Wi-Fi on which others stream: queues on the way down above all."""
    return Wifi(busy_up=0.15, busy_down=0.35)


@dataclass
class Faults:
    """What goes wrong on every path.

    Attributes:
        loss: share of datagrams that vanish, each way.
        doubled: share that come twice.
        reordered: share that are held up for 5 ms.
    """

    loss: float = 0.0
    doubled: float = 0.0
    reordered: float = 0.0


class Station(Protocol):
    """Where datagrams come from and go to."""

    @property
    def address(self) -> Address:
        """Its address."""

    @property
    def link(self) -> Link:
        """Its link."""

    def arrive(self, data: bytes, source: Address, multicast: bool) -> None:
        """Take a datagram."""


@dataclass
class Network:
    """Carries datagrams between stations.

    Attributes:
        dice: for delays and faults.
        after: ``after(duration_ns, what)`` runs something later.
        now: returns the true time.
        faults: on every path.
        cut_off: addresses that hear only each other.
        deaf: addresses that multicast does not reach.
        strangers: addresses that multicast from each other does not reach: peers drop it unopened, and a thousand
            who look for a host would make a million events of it.
        sent_bytes: by sender and kind of receiver, headers included.
    """

    dice: random.Random
    after: Callable[[float, Callable[[], object]], None]
    now: Callable[[], int]
    faults: Faults = field(default_factory=Faults)
    cut_off: set[Address] = field(default_factory=set)
    deaf: set[Address] = field(default_factory=set)
    strangers: set[Address] = field(default_factory=set)
    sent_bytes: Counter[tuple[Address, str]] = field(default_factory=Counter)
    _stations: dict[Address, Station] = field(default_factory=dict)

    def attach(self, station: Station) -> None:
        """Plug a machine in."""
        assert station.address not in self._stations
        self._stations[station.address] = station

    def detach(self, station: Station) -> None:
        """Unplug it; what is under way to it is lost."""
        del self._stations[station.address]

    def send(self, source: Station, data: bytes, to: Address | None, late_ns: float) -> None:
        """Send a datagram, to everyone else if there is no address; it leaves ``late_ns`` from now."""
        kind = "multicast" if to is None else "unicast"
        self.sent_bytes[source.address, kind] += len(data) + IP_AND_UDP_BYTES
        if to is not None:
            targets = [to]
        else:
            spared = self.strangers if source.address in self.strangers else {source.address}
            targets = [address for address in self._stations if address not in spared]
        up_ns = late_ns + source.link.up_ns(self.dice)
        for address in targets:
            self._carry(source, data, address, up_ns, multicast=to is None)

    def _carry(self, source: Station, data: bytes, to: Address, up_ns: float, *, multicast: bool) -> None:
        station = self._stations.get(to)
        if multicast and to in self.deaf:
            return
        if station is None or (source.address in self.cut_off) != (to in self.cut_off):
            return
        if self.faults.loss and self.dice.random() < self.faults.loss:
            return
        delay_ns = up_ns + station.link.down_ns(self.dice, self.now() + round(up_ns), multicast)
        if self.faults.reordered and self.dice.random() < self.faults.reordered:
            delay_ns += 5 * _MS
        copies = 2 if self.faults.doubled and self.dice.random() < self.faults.doubled else 1
        for copy in range(copies):
            self.after(delay_ns + copy * _MS, lambda: self._deliver(station, data, source.address, multicast))

    def _deliver(self, station: Station, data: bytes, source: Address, multicast: bool) -> None:
        if self._stations.get(station.address) is station:
            station.arrive(data, source, multicast)
