"""When a speaker looks for its host by multicast DNS: once the group and the addresses that it knows are silent.

Owns the times of looks, and for how long what they found is tried. Must not know how a look is done
(:mod:`musicsyncd.system.mdns_apart`), nor what makes an answer count.

A look costs the network little and the speaker's machine a process, so there is none while a host is heard, and
while there is none to be found the looks get rarer: an unplugged host is not asked for all night by every speaker. An
address that a look found gets a datagram a second for :data:`TRIED_NS`: whoever gives false ones can have a speaker
send some ten datagrams in a minute to each of eight addresses on the LAN, which is less than anybody there could send
without us.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

from musicsyncd.config import address_text
from musicsyncd.errors import DeviceError
from musicsyncd.protocol.node import Address
from musicsyncd.system.log import Throttle
from musicsyncd.system.monotonic import now_ns
from musicsyncd.units import NS_PER_S

SILENT_NS = 5 * NS_PER_S
"""Without a host for so long, it is looked for: the group and the addresses that are known had five tries or more."""

PAUSES_NS = tuple(seconds * NS_PER_S for seconds in (5, 10, 20, 40, 60))
"""Between looks; the last one for as long as no host is heard."""

TRIED_NS = 10 * NS_PER_S
"""An address that was found is tried for this long, unless the host is heard before."""

_TICK_S = 1.0

log = logging.getLogger(__name__)


class Node(Protocol):
    """What is asked of a peer's node."""

    @property
    def host_address(self) -> Address | None:
        """Of the host that is followed; None while there is none."""

    @property
    def host_heard_ns(self) -> int | None:
        """When anything came from the host last."""

    def try_at(self, hints: tuple[Address, ...]) -> None:
        """Ask for a host at these addresses, too."""


class HostSearch:
    """Looks for a host while none is heard.

    Args:
        node: of the peer.
        look: does it, and raises DeviceError where that is impossible.
        changed: called when the node has something to send.
        now_ns: this instant, local.
    """

    def __init__(
        self,
        node: Node,
        look: Callable[[], Awaitable[list[Address]]],
        changed: Callable[[], None],
        now_ns: Callable[[], int] = now_ns,
    ) -> None:
        self._node = node
        self._look = look
        self._changed = changed
        self._now_ns = now_ns
        self._throttle = Throttle(log)
        self._began_ns = self._due_ns = now_ns()
        self._tried_until_ns: int | None = None
        self._looks = 0

    async def run(self) -> None:
        """Look whenever it is time to, for ever."""
        while True:
            await asyncio.sleep(_TICK_S)
            await self.tick()

    async def tick(self) -> None:
        """Do what is due; to be called about once a second."""
        if self._node.host_address is not None:
            self._looks, self._due_ns, self._tried_until_ns = 0, 0, None
            return
        if self._tried_until_ns is not None and self._now_ns() >= self._tried_until_ns:
            self._tried_until_ns = None
            self._node.try_at(())
        silent_since_ns = max(self._began_ns, self._node.host_heard_ns or 0)
        if self._now_ns() < max(silent_since_ns + SILENT_NS, self._due_ns):
            return
        found = await self._found()
        if self._node.host_address is None and found:
            self._tried_until_ns = self._now_ns() + TRIED_NS
            self._node.try_at(tuple(found))
            self._changed()
        self._due_ns = self._now_ns() + PAUSES_NS[min(self._looks, len(PAUSES_NS) - 1)]
        self._looks += 1

    async def _found(self) -> list[Address]:
        try:
            found = await self._look()
        except DeviceError as error:
            self._throttle.warning("mdns", f"the host cannot be looked for by mDNS: {error}")
            return []
        if found and self._node.host_address is None:
            log.info("by mDNS, there may be a host at %s", ", ".join(address_text(one) for one in found))
        return found
