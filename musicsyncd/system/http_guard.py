"""Who may ask the host's HTTP server for something, judged before anything else looks at the request.

Owns which requests are let in: by the room's token, by the name that the server is asked for, by the site whose page
asks, and by how often a source has asked. Must not know what is asked for, nor how connections are kept.

*DNS rebinding.* A web page may ask any machine whose name it was loaded from, and whoever owns a name may let it mean
another machine a moment later. So a browser on the LAN can be made to ask this server, and it sends the stranger's
name as ``Host``. A server that answers only to its address and to its own name is out of reach for such pages: nobody
can make a browser put these there without being asked for a page by them. This matters most in a room
without a key; with one, it is a second bar.

*Tokens* are compared in constant time, and stand in the ``Authorization`` header only: what is in a URL gets into
logs and histories. The right token is always let in, however many wrong ones came from the same address:
otherwise one loudspeaker with an old key would silence another behind the same address.

Sources: RFC 9110 sections 7.2 (Host) and 15.5.20 (421), RFC 6454 section 7 (Origin), W3C Fetch Metadata.
"""

from __future__ import annotations

import hmac
import ipaddress
import math
import re
import socket
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from multidict import MultiMapping

MAX_SOURCES = 1024
"""Addresses whose requests are counted; beyond it the one that was silent longest is forgotten."""

REQUESTS_A_S, REQUESTS_AT_ONCE = 100.0, 200
"""Of commands and questions, from one address: some fifty people with a status page that asks twice a second."""

MEDIA_REQUESTS_A_S, MEDIA_REQUESTS_AT_ONCE = 1000.0, 2000
"""A speaker asks up to twenty times a second, and many may be behind one address."""

REFUSALS_A_S, REFUSALS_AT_ONCE = 10 / 60, 30
"""Thirty, and then ten a minute, are told only what is wrong; the others, that they should wait as well."""

MEDIA_PATH = "/media/"

_RESOLV_CONF = Path("/etc/resolv.conf")
_MAX_RESOLV_CONF_CHARS = 64 << 10
_HTTP_PORT = 80
_AUTHORITY = re.compile(
    r"(?:\[(?P<six>[0-9A-Fa-f:.]{2,45})(?:%[0-9A-Za-z._~%-]{1,32})?\]|(?P<name>[0-9A-Za-z._-]{1,253}))"
    r"(?::(?P<port>[0-9]{1,5}))?"
)


@dataclass(frozen=True, slots=True)
class Caller:
    """Where a request came from.

    Attributes:
        local: over the Unix socket of this machine, from the host's own user or root: it may name files.
        address: of its machine, empty for a local one.
    """

    local: bool
    address: str


LOCAL = Caller(True, "")


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is not looked at: an HTTP status, a line for people, and when to come again if that helps."""

    status: int
    line: str
    retry_after_s: int = 0


class Rate:
    """How often each source may do something: a bucket that fills steadily.

    Args:
        per_s: how many a second, on the average.
        at_once: how many after a long silence.
        most_sources: that are remembered.
    """

    def __init__(self, per_s: float, at_once: int, most_sources: int = MAX_SOURCES) -> None:
        self._per_s = per_s
        self._at_once = at_once
        self._most_sources = most_sources
        # What each source has left, and when that was so; in the order in which they asked last.
        self._left: dict[str, tuple[float, float]] = {}

    def take(self, source: str, now_s: float) -> float:
        """Take one for a source, and return 0; or take nothing, and return in how many seconds there will be one."""
        left, then_s = self._left.pop(source, (float(self._at_once), now_s))
        left = min(left + (now_s - then_s) * self._per_s, float(self._at_once))
        wait_s = 0.0 if left >= 1 else (1 - left) / self._per_s
        self._left[source] = (left if wait_s else left - 1, now_s)
        if len(self._left) > self._most_sources:
            del self._left[next(iter(self._left))]
        return wait_s


class Guard:
    """Judges requests.

    Args:
        tokens: of which a request over TCP must carry one; None for a room without a key.
        names: of this machine, in small letters, by which it may be asked beside its addresses.
        now_s: any clock that goes on steadily, seconds.
    """

    def __init__(
        self, tokens: Collection[str] | None, names: Collection[str], now_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._tokens = tokens
        self._names = frozenset(names)
        self._now_s = now_s
        self._requests = Rate(REQUESTS_A_S, REQUESTS_AT_ONCE)
        self._media = Rate(MEDIA_REQUESTS_A_S, MEDIA_REQUESTS_AT_ONCE)
        self._refusals = Rate(REFUSALS_A_S, REFUSALS_AT_ONCE)

    def accept(self, tokens: Collection[str]) -> None:
        """Take these tokens, and no others, from now on; a room without a key stays one."""
        if self._tokens is not None:
            self._tokens = tokens

    def judge(self, caller: Caller, port: int, path: str, headers: MultiMapping[str]) -> Refusal | None:
        """Return why a request is refused, or None.

        Args:
            caller: who asks.
            port: that was asked.
            path: that is asked for, as it stood in the request.
            headers: of the request.
        """
        if caller.local:
            # No page of a browser can open a Unix socket; what passes its requests on says so.
            return _OTHER_SITE if "Origin" in headers or "Sec-Fetch-Site" in headers else None
        refusal = self._strange(port, path, headers) or self._without_key(headers)
        if refusal is not None:
            wait_s = self._refusals.take(caller.address, self._now_s())
            return _too_many(wait_s, f"{refusal.line}; ") if wait_s else refusal
        rate = self._media if path.startswith(MEDIA_PATH) else self._requests
        wait_s = rate.take(caller.address, self._now_s())
        return _too_many(wait_s) if wait_s else None

    def _strange(self, port: int, path: str, headers: MultiMapping[str]) -> Refusal | None:
        """Return why a request is none for this server, or none of a page of its own."""
        asked = _authority(_only(headers, "Host"))
        if asked is None or asked[1] != port or not (asked[0] in self._names or _is_address(asked[0])):
            return _MISDIRECTED
        if not path.startswith("/"):  # A whole URL, as proxies are asked; its host would come before the header's.
            return _MISDIRECTED
        if "Origin" in headers:
            scheme, _, origin = _only(headers, "Origin").partition("://")
            if scheme != "http" or _authority(origin) != asked:
                return _OTHER_SITE
        # "none" is what a browser says of an address that a person typed.
        if "Sec-Fetch-Site" in headers and _only(headers, "Sec-Fetch-Site") not in ("same-origin", "none"):
            return _OTHER_SITE
        return None

    def _without_key(self, headers: MultiMapping[str]) -> Refusal | None:
        """Return the refusal of a request that does not show the room's key."""
        if self._tokens is None:
            return None
        given = _only(headers, "Authorization").encode("utf-8", "surrogateescape")
        # All are compared: which of two tokens is the right one is nobody's business either.
        right = [hmac.compare_digest(given, f"Bearer {token}".encode()) for token in self._tokens]
        return None if any(right) else _NO_KEY


_MISDIRECTED = Refusal(421, "name this host by its IP address or its own machine's name, with its port")
_OTHER_SITE = Refusal(403, "a page of another site may not ask this host")
_NO_KEY = Refusal(401, "the room's key is needed")


def _too_many(wait_s: float, why: str = "") -> Refusal:
    return Refusal(429, f"{why}too many requests came from this address: wait a moment", max(1, math.ceil(wait_s)))


def _only(headers: MultiMapping[str], name: str) -> str:
    """Return a header that stands there once, or nothing: which of two counts, others might see differently."""
    values = headers.getall(name, [])
    return values[0] if len(values) == 1 else ""


def _authority(text: str) -> tuple[str, int] | None:
    """Return name or address, in small letters and without a zone, and port of ``HOST[:PORT]``."""
    found = _AUTHORITY.fullmatch(text)
    if found is None:
        return None
    port = int(found["port"] or _HTTP_PORT)
    return (found["six"] or found["name"].removesuffix(".")).lower(), port


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def plain_address(text: str) -> str:
    """Return an address without the form in which a socket for both families gives one of IPv4."""
    try:
        mapped = ipaddress.IPv6Address(text).ipv4_mapped
    except ValueError:
        return text
    return text if mapped is None else str(mapped)


def own_names(host_name: str | None = None, resolv_conf: Path = _RESOLV_CONF) -> frozenset[str]:
    """Return the names by which this machine may be asked, in small letters.

    Names with any domain behind them would not do: an attacker may have a machine of the same name in his domain.
    So the domains are those that this machine looks names up in by itself, and ``local``, which is multicast DNS's.

    Args:
        host_name: of this machine, if that is not to be asked of the system.
        resolv_conf: where the domains stand.
    """
    full = (socket.gethostname() if host_name is None else host_name).lower().removesuffix(".")
    label = full.partition(".")[0]
    domains = ["local"]
    try:
        with resolv_conf.open(encoding="utf-8", errors="replace") as file:
            words = [line.split() for line in file.read(_MAX_RESOLV_CONF_CHARS).splitlines()]
    except OSError:
        words = []
    for line in words:
        if line and line[0] in ("search", "domain"):
            domains += [domain.lower().strip(".") for domain in line[1:]]
    return frozenset({"localhost", full, label, *(f"{label}.{domain}" for domain in domains if domain)})
