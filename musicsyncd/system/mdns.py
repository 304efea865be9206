"""The host's announcement by multicast DNS, and the look for announcements: the second way to find a host.

Owns the service ``_musicsyncd._tcp``, what is said in it, and which of the answers are worth a try. Must not know what
is tried there: an answer is a hint of where to ask, and nothing more. Anybody on the network can give one, so a host
counts only once it has proved to have the room's key (:mod:`musicsyncd.protocol.proving`).

**What comes in is not trusted.** Only numbers are taken from it, addresses and ports: names go nowhere, and text is not
read. Whoever answers falsely could have every speaker of a house send to a third machine. So what is tried are private
addresses (RFC 1918, RFC 4193), link-local ones, and those of a network that this machine is on; no multicast,
broadcast or reserved port; :data:`MAX_ADDRESSES` of them, each service's first ones first; and for a few seconds after
each look (:mod:`musicsyncd.system.search`).

**Beside others.** Port 5353 is shared with avahi-daemon or systemd-resolved, as all of them set ``SO_REUSEADDR``. The
addresses stand under a name of our own and not under the machine's, which is for avahi to announce.

Sources: RFC 6762 (multicast DNS), RFC 6763 (service discovery; section 4.1.1 for the length of an instance's name).
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import socket
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from itertools import chain, zip_longest
from typing import TYPE_CHECKING

from musicsyncd.config import NetworkConfig
from musicsyncd.errors import DeviceError
from musicsyncd.protocol.node import Address
from musicsyncd.system.interfaces import Interface, check, choose

if TYPE_CHECKING:
    from zeroconf import ServiceStateChange, Zeroconf
    from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

SERVICE = "_musicsyncd._tcp.local."

MAX_SERVICES = 16
"""Announcements that are looked into; a house has one host, or two."""

MAX_ADDRESSES = 8
"""Of all of them together, and as many as a host announces."""

MIN_PORT = 1024
"""Below are name servers and the like, which nobody's answer is to have us send to. A host there must be named."""

LOOK_S = 3.0
"""A look: three questions, and answers that may wait for 120 ms (RFC 6762, sections 5.2 and 6)."""

SETTLE_S = 0.3
"""After the first address, for those of other hosts."""

RESOLVE_S = 1.0
"""For address and port of an announcement that came without them."""

GOODBYE_S = 1.0
"""For saying that the service is no more: three datagrams, a quarter of a second."""

_FOLLOW_EVERY_S = 1.0
_AGAIN_AFTER_S = 60.0
"""Until an announcement that failed is tried anew, unless the interfaces change before."""

_MAX_LABEL_BYTES = 63
_MAX_TEXT_BYTES = 200

IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

_PRIVATE: tuple[IpNetwork, ...] = tuple(
    ipaddress.ip_network(one)
    for one in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "fc00::/7", "fe80::/10")
)

log = logging.getLogger(__name__)


# -- what is said ------------------------------------------------------------------------------


def service(
    name: str, host_id: bytes, port: int, version: str, protocol: int, addresses: Iterable[str]
) -> AsyncServiceInfo:
    """Return what a host announces.

    Args:
        name: of the host, for people.
        host_id: makes the names unique; 8 bytes.
        port: of datagrams and of HTTP.
        version: of the program.
        protocol: version of the datagrams.
        addresses: of the interfaces in use, with or without a zone.
    """
    from zeroconf.asyncio import AsyncServiceInfo

    mark = f" ({host_id.hex()[:4]})"
    # Dots part the labels of a name. The checks of the host's name have seen to control characters.
    label = _cut(name.replace(".", "-"), _MAX_LABEL_BYTES - len(mark)) + mark
    plain = list(dict.fromkeys(address.partition("%")[0] for address in addresses))[:MAX_ADDRESSES]
    return AsyncServiceInfo(
        SERVICE,
        f"{label}.{SERVICE}",
        port,
        properties={
            "version": version,
            "protocol": str(protocol),
            "id": host_id.hex(),
            "name": _cut(name, _MAX_TEXT_BYTES),
            "path": "/",
        },
        server=f"musicsyncd-{host_id.hex()}.local.",
        parsed_addresses=plain,
    )


def _cut(text: str, most_bytes: int) -> str:
    return text.encode()[:most_bytes].decode(errors="ignore")


class Announcer:
    """Announces a host wherever it can be reached, for as long as it is there.

    Args:
        joined: gives the interfaces in use.
        describe: makes the announcement for their addresses.
    """

    def __init__(
        self, joined: Callable[[], Sequence[Interface]], describe: Callable[[list[str]], AsyncServiceInfo]
    ) -> None:
        self._joined = joined
        self._describe = describe
        self._open: AsyncZeroconf | None = None
        self._complained = False

    async def run(self) -> None:
        """Announce, and announce anew whenever the interfaces change; for ever."""
        announced: list[Interface] | None = None
        loop = asyncio.get_running_loop()
        again_s = 0.0
        while True:
            now_there = list(self._joined())
            if now_there != announced or (self._open is None and loop.time() >= again_s):
                await self.close()
                announced, again_s = now_there, loop.time() + _AGAIN_AFTER_S
                if now_there:
                    await self._announce(now_there)
            await asyncio.sleep(_FOLLOW_EVERY_S)

    async def _announce(self, interfaces: Sequence[Interface]) -> None:
        try:
            self._open = opened = await _open(interfaces)
            # The name is unique by the host's id: nobody need be asked for it.
            await opened.async_register_service(
                self._describe([one.address for one in interfaces]), cooperating_responders=True
            )
        except Exception as error:  # The library raises its own kinds, the system's, and RuntimeError.
            await self.close()
            if not self._complained:
                log.warning("the host is not announced by mDNS: %s", _reason(error))
            self._complained = True
        else:
            self._complained = False

    async def close(self) -> None:
        """Say that the service is no more, and close the sockets."""
        opened, self._open = self._open, None
        if opened is not None:
            await _close(opened)


# -- what is heard -----------------------------------------------------------------------------


async def look(interfaces: Sequence[Interface], *, at_most_s: float = LOOK_S) -> list[Address]:
    """Return where hosts say that they are, best first; :data:`MAX_ADDRESSES` at most.

    Args:
        interfaces: to ask on.
        at_most_s: to wait for the first answer; others have :data:`SETTLE_S` from then on.

    Raises:
        DeviceError: there is no way to ask here.
    """
    if not interfaces:
        raise DeviceError("no network interface can be used")
    try:
        opened = await _open(interfaces)
    except Exception as error:
        raise DeviceError(_reason(error)) from None
    try:
        return await _Look(opened.zeroconf, own_networks(interfaces)).run(at_most_s)
    finally:
        await _close(opened)


def find(network: NetworkConfig, *, at_most_s: float) -> list[Address]:
    """Return where hosts say that they are, for commands, which have no event loop. Raises as :func:`look`."""
    check(network.interfaces)
    return asyncio.run(look(choose(network.interfaces), at_most_s=at_most_s))


class _Look:
    """One look for announcements.

    Args:
        opened: to ask with.
        own: networks that this machine is on.
    """

    def __init__(self, opened: Zeroconf, own: Sequence[IpNetwork]) -> None:
        self._opened = opened
        self._own = own
        # By name, each with the addresses that may be tried: few, however many answer.
        self._found: dict[str, list[Address]] = {}
        self._asking: set[asyncio.Task[None]] = set()
        self._something = asyncio.Event()

    async def run(self, at_most_s: float) -> list[Address]:
        from zeroconf.asyncio import AsyncServiceBrowser

        browser = AsyncServiceBrowser(self._opened, SERVICE, handlers=[self._changed])
        try:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._something.wait(), at_most_s)
                await asyncio.sleep(SETTLE_S)
        finally:
            await browser.async_cancel()
            for task in self._asking:
                task.cancel()
            await asyncio.gather(*self._asking, return_exceptions=True)
        # In turns, so that one that announces many addresses leaves the others their first ones.
        turns = chain.from_iterable(zip_longest(*self._found.values()))
        return list(dict.fromkeys(one for one in turns if one is not None))[:MAX_ADDRESSES]

    def _changed(self, zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        if len(self._found) < MAX_SERVICES and name not in self._found:
            self._found[name] = []
            task = asyncio.get_running_loop().create_task(self._ask(name))
            self._asking.add(task)

    async def _ask(self, name: str) -> None:
        from zeroconf.asyncio import AsyncServiceInfo

        try:
            info = AsyncServiceInfo(SERVICE, name)
            if not await info.async_request(self._opened, RESOLVE_S * 1000):
                return
            # Both lists are the answerer's: each address is read for itself.
            said = [scoped(one) for one in info.parsed_scoped_addresses()[: 4 * MAX_ADDRESSES]]
        except Exception as error:  # What one answer does to the library must not end the look.
            log.debug("an mDNS answer makes no sense: %s", error)
            return
        port = info.port or 0
        self._found[name] += [(one, port) for one in said if may_be_tried(one, port, self._own)]
        if self._found[name]:
            self._something.set()


def scoped(address: str) -> str:
    """Return an address with the name of its zone where the library gives its number; without one that is gone."""
    plain, _, zone = address.partition("%")
    if not zone.isdecimal():
        return address
    try:
        return f"{plain}%{socket.if_indextoname(int(zone))}"
    except (OSError, OverflowError):
        return plain


def may_be_tried(address: str, port: int, own: Sequence[IpNetwork]) -> bool:
    """Return whether an address that anybody may have given is one to send to.

    Args:
        address: with its zone where it has one.
        port: there.
        own: networks that this machine is on.
    """
    if not MIN_PORT <= port <= 65535:
        return False
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    if found.is_multicast or found.is_unspecified:
        return False
    if found.version == 6 and found.is_link_local and "%" not in address:
        return False  # It means nothing without its link.
    plain = ipaddress.ip_address(address.partition("%")[0])
    here = [network for network in own if plain in network]
    if any(plain == network.broadcast_address for network in here if network.version == 4 and network.prefixlen < 31):
        return False
    return bool(here) or any(plain in network for network in _PRIVATE)


def own_networks(interfaces: Iterable[Interface]) -> list[IpNetwork]:
    """Return the networks that some interfaces have an address in."""
    import ifaddr

    names = {one.name for one in interfaces}
    found: list[IpNetwork] = []
    for adapter in ifaddr.get_adapters():
        if adapter.name in names:
            for one in adapter.ips:
                text = one.ip if isinstance(one.ip, str) else one.ip[0].partition("%")[0]
                with contextlib.suppress(ValueError):
                    found.append(ipaddress.ip_network(f"{text}/{one.network_prefix}", strict=False))
    return found


# -- the library -------------------------------------------------------------------------------


async def _open(interfaces: Sequence[Interface]) -> AsyncZeroconf:
    """Return the library's sockets on some interfaces. Raises what the library and the system raise."""
    # It takes a while to import, and what runs in this loop has times to keep.
    library = await asyncio.to_thread(import_module, "zeroconf.asyncio")
    # What ails it is said here, in one line; what strangers' answers do to it, nobody wants to read.
    logging.getLogger("zeroconf").setLevel(logging.CRITICAL + 1)
    opened: AsyncZeroconf = library.AsyncZeroconf(interfaces=[one.address for one in interfaces])
    return opened


async def _close(opened: AsyncZeroconf) -> None:
    with contextlib.suppress(Exception):  # Whatever ails it: it is over.
        await asyncio.wait_for(opened.async_close(), GOODBYE_S)


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__
