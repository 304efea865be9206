"""Who may ask the host's HTTP server for something, judged before anything else looks at the request.

Owns which requests are let in and as whom: by the room's token or a link's, by the name that the server is asked for,
by the site whose page asks, and by how often a source has asked. Must not know what is asked for, nor how connections
are kept; what a role may do is the table of :mod:`musicsyncd.system.routes`.

*DNS rebinding.* A web page may ask any machine whose name it was loaded from, and whoever owns a name may let it mean
another machine a moment later. So a browser on the LAN can be made to ask this server, and it sends the stranger's
name as ``Host``. A server that answers only to its address and to its own name is out of reach for such pages: nobody
can make a browser put these there without being asked for a page by them. This matters most in a room
without a key; with one, it is a second bar.

*Tokens* stand in the ``Authorization`` header or in a page's cookie: what is in a URL gets into logs and histories.
The room's is compared in constant time; a link's is looked up by its hash. The right token is always let in, however
many wrong ones came from the same address: otherwise one loudspeaker with an old key would silence another behind the
same address.

*Cookies* are sent by a browser whoever made it ask. The page's own is ``SameSite=Strict``, and another port of the same
machine is the same site: so, for what changes something and for a WebSocket, whose answer other pages may read, a
cookie counts only beside the ``Origin`` of this very host, which browsers give with both.

Sources: RFC 9110 sections 7.2 (Host) and 15.5.20 (421), RFC 6454 section 7 (Origin), RFC 6265bis section 8.8
(SameSite), RFC 6455 section 10.2 (WebSocket and Origin), W3C Fetch Metadata.
"""

from __future__ import annotations

import hmac
import ipaddress
import math
import re
import socket
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

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

Role = Literal["none", "listen", "guest", "control"]
"""What somebody may: nothing but what is public; look and listen; add to the end of a queue too; everything."""

ROLES: tuple[Role, ...] = get_args(Role)
"""Each may what those before it may."""

_RESOLV_CONF = Path("/etc/resolv.conf")
_MAX_RESOLV_CONF_CHARS = 64 << 10
_PORTS = {"http": 80, "https": 443}
_MAX_COOKIE_CHARS = 2048
_AUTHORITY = re.compile(
    r"(?:\[(?P<six>[0-9A-Fa-f:.]{2,45})(?:%[0-9A-Za-z._~%-]{1,32})?\]|(?P<name>[0-9A-Za-z._-]{1,253}))"
    r"(?::(?P<port>[0-9]{1,5}))?"
)


@dataclass(frozen=True, slots=True)
class Caller:
    """Where a request came from, and what whoever sent it may do.

    Attributes:
        local: over the Unix socket of this machine, from the host's own user, root, or a service's group: it may name
            files.
        address: of its machine, empty for a local one.
        port: of this machine, that was asked.
        secure: under TLS.
        role: what it may, once it is let in.
        link_id: by which link it came in; empty for the room's key and the Unix socket.
    """

    local: bool
    address: str
    port: int = 0
    secure: bool = False
    role: Role = "none"
    link_id: str = ""

    def may(self, role: Role) -> bool:
        """Return whether this caller's role includes another."""
        return ROLES.index(self.role) >= ROLES.index(role)

    @property
    def is_loopback(self) -> bool:
        """Whether it is on this machine."""
        return self.local or (_is_address(self.address) and ipaddress.ip_address(self.address).is_loopback)


LOCAL = Caller(True, "", role="control")


@dataclass(frozen=True, slots=True)
class Public:
    """What may be asked for without any token, as methods with paths.

    Attributes:
        everywhere: from anywhere.
        here: from this machine.
    """

    everywhere: frozenset[tuple[str, str]] = frozenset()
    here: frozenset[tuple[str, str]] = frozenset()


Entitled = Callable[[str], tuple[Role, str] | None]
"""Gives role and link's id of a link's token, or None."""


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
        entitled: knows the tokens of links.
        public: what needs no token.
    """

    def __init__(
        self,
        tokens: Collection[str] | None,
        names: Collection[str],
        now_s: Callable[[], float] = time.monotonic,
        *,
        entitled: Entitled = lambda _token: None,
        public: Public = Public(),
    ) -> None:
        self._tokens = tokens
        self._names = frozenset(names)
        self._now_s = now_s
        self._entitled = entitled
        self._public = public
        self._requests = Rate(REQUESTS_A_S, REQUESTS_AT_ONCE)
        self._media = Rate(MEDIA_REQUESTS_A_S, MEDIA_REQUESTS_AT_ONCE)
        self._refusals = Rate(REFUSALS_A_S, REFUSALS_AT_ONCE)

    def accept(self, tokens: Collection[str]) -> None:
        """Take these tokens, and no others, from now on; a room without a key stays one."""
        if self._tokens is not None:
            self._tokens = tokens

    def judge(self, caller: Caller, method: str, path: str, headers: MultiMapping[str]) -> Caller | Refusal:
        """Return whoever asks with the role that it has, or why it is refused.

        Args:
            caller: who asks, and which port.
            method: of the request.
            path: that is asked for, as it stood in the request.
            headers: of the request.
        """
        if caller.local:
            # No page of a browser can open a Unix socket; what passes its requests on says so.
            return _OTHER_SITE if "Origin" in headers or "Sec-Fetch-Site" in headers else caller
        is_public = self._is_public(caller, method, path)
        strange = self._strange(caller, path, headers, is_public and method in _SAFE)
        found = strange or self._admitted(caller, method, headers)
        if isinstance(found, Refusal) and is_public and strange is None:
            found = caller
        if isinstance(found, Refusal):
            wait_s = self._refusals.take(caller.address, self._now_s())
            return _too_many(wait_s, f"{found.line}; ") if wait_s else found
        rate = self._media if path.startswith(MEDIA_PATH) else self._requests
        wait_s = rate.take(caller.address, self._now_s())
        return _too_many(wait_s) if wait_s else found

    def _is_public(self, caller: Caller, method: str, path: str) -> bool:
        asked = (method, path.partition("?")[0])
        return asked in self._public.everywhere or (asked in self._public.here and caller.is_loopback)

    def _strange(self, caller: Caller, path: str, headers: MultiMapping[str], from_anywhere: bool) -> Refusal | None:
        """Return why a request is none for this server, or none of a page of its own.

        What is public and only looked at may be asked for from any page, as by a link to it.
        """
        own_scheme = "https" if caller.secure else "http"
        asked = _authority(_only(headers, "Host"), own_scheme)
        if asked is None or asked[1] != caller.port or not (asked[0] in self._names or _is_address(asked[0])):
            return _MISDIRECTED
        if not path.startswith("/"):  # A whole URL, as proxies are asked; its host would come before the header's.
            return _MISDIRECTED
        if from_anywhere:
            return None
        if "Origin" in headers:
            scheme, _, origin = _only(headers, "Origin").partition("://")
            if scheme != own_scheme or _authority(origin, own_scheme) != asked:
                return _OTHER_SITE
        # "none" is what a browser says of an address that a person typed.
        if "Sec-Fetch-Site" in headers and _only(headers, "Sec-Fetch-Site") not in ("same-origin", "none"):
            return _OTHER_SITE
        return None

    def _admitted(self, caller: Caller, method: str, headers: MultiMapping[str]) -> Caller | Refusal:
        """Return whoever asks with its role, or the refusal of a request that shows no token that counts."""
        if self._tokens is None:
            return replace(caller, role="control")
        if "Authorization" in headers:
            given = _only(headers, "Authorization")
            raw = given.encode("utf-8", "surrogateescape")
            # All are compared: which of two tokens is the right one is nobody's business either.
            right = [hmac.compare_digest(raw, f"Bearer {token}".encode()) for token in self._tokens]
            if any(right):
                return replace(caller, role="control")
            token, refusal = given.removeprefix("Bearer ") if given.startswith("Bearer ") else "", _NO_KEY
        else:
            token = _cookie(headers, cookie_name(caller.port))
            refusal = _OLD_LINK if token else _NO_KEY
            if token and (method not in _SAFE or "Upgrade" in headers) and "Origin" not in headers:
                return _OTHER_SITE
        entitled = self._entitled(token) if token else None
        return refusal if entitled is None else replace(caller, role=entitled[0], link_id=entitled[1])


_SAFE = frozenset(("GET", "HEAD"))
_MISDIRECTED = Refusal(421, "name this host by its IP address or its own machine's name, with its port")
_OTHER_SITE = Refusal(403, "a page of another site may not ask this host")
_NO_KEY = Refusal(401, "the room's key is needed")
_OLD_LINK = Refusal(401, "this link was revoked, or is of another host: get one with `musicsyncd link` on the host")


def _too_many(wait_s: float, why: str = "") -> Refusal:
    return Refusal(429, f"{why}too many requests came from this address: wait a moment", max(1, math.ceil(wait_s)))


def _only(headers: MultiMapping[str], name: str) -> str:
    """Return a header that stands there once, or nothing: which of two counts, others might see differently."""
    values = headers.getall(name, [])
    return values[0] if len(values) == 1 else ""


def cookie_name(port: int) -> str:
    """Return what a page's cookie is called. Cookies know no ports: another host of this machine has its own."""
    return f"musicsyncd-{port}"


def _cookie(headers: MultiMapping[str], name: str) -> str:
    """Return a cookie's value, or nothing."""
    given = _only(headers, "Cookie")[:_MAX_COOKIE_CHARS]
    # Other servers of this machine may have set any others beside it, and not all of them well formed.
    pairs = (pair.strip().partition("=") for pair in given.split(";"))
    return next((value for key, _, value in pairs if key == name), "")


def _authority(text: str, scheme: str) -> tuple[str, int] | None:
    """Return name or address, in small letters and without a zone, and port of ``HOST[:PORT]``."""
    found = _AUTHORITY.fullmatch(text)
    if found is None:
        return None
    port = int(found["port"] or _PORTS[scheme])
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
