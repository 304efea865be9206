"""The HTTP server's connections: how many there may be, for how long a stranger may hold one, and what all answers say.

Owns the limits of a connection, in number, time and size, and the headers that every answer has, those of
aiohttp's own to what is no HTTP among them. Must not know who is let in (:mod:`musicsyncd.system.http_guard`)
nor what is asked for.

A *stranger* is a connection of which no request was let in yet. A speaker or a command becomes known one round trip
after it has connected. So strangers have ten seconds and little room, and where that is short the one that has been
one for longest goes: whoever opens connections by the thousand pushes out only his own kind. What is known already
stays until it is silent for long.
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import socket
import struct
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web
from aiohttp.http_writer import StreamWriter
from multidict import CIMultiDict

from musicsyncd.paths import socket_mode
from musicsyncd.system.http_guard import LOCAL, Caller, plain_address

log = logging.getLogger(__name__)

_SO_PEERGROUPS = 59
"""Of ``asm-generic/socket.h``: the groups of who has connected, beside the one in SO_PEERCRED. Python has no name."""

_MAX_GROUPS = 256
"""Of one user, as many as Python asks for at once; whoever is in more is taken for nobody."""

MAX_CONNECTIONS = 1024
"""Over TCP: one of each speaker that a host may have. Fewer where the system gives fewer descriptors."""

MAX_STRANGERS = 128
"""With the longest headers that are read, 13 MB."""

MAX_CONNECTIONS_A_SOURCE, MAX_STRANGERS_A_SOURCE = 64, 16
"""Of one address: many speakers may be behind one, as in a test on one machine."""

MAX_LOCAL_CONNECTIONS = 64
"""Over the Unix socket, counted apart: whatever the LAN does, who sits at the host can command it."""

STRANGER_S = 10.0
"""Until the first request that is let in must have come, header and all."""

KEEPALIVE_S = 75.0
"""Between the end of an answer and the next request's last header. A speaker that has fetched a track connects anew."""

LINGER_S = 2.0
"""So long the rest of a refused body is read, that the other side gets to read why."""

MAX_LINE_BYTES, MAX_HEADER_BYTES, MAX_HEADERS = 4096, 2048, 48
"""Of a request: its first line, which has the words of a search in it, each header, and their number."""

SPARE_DESCRIPTORS = 128
"""Of the process, for all that is no connection."""

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""Of every answer, unless it has others by these names: no other site's page can make use of one, and no browser
takes what a file's tags say for a page of its own."""

_LIMITS: dict[str, Any] = {
    "keepalive_timeout": KEEPALIVE_S,
    "lingering_time": LINGER_S,
    "max_line_size": MAX_LINE_BYTES,
    "max_field_size": MAX_HEADER_BYTES,
    "max_headers": MAX_HEADERS,
    # A short body that becomes a long one would pass the limit of what is read.
    "auto_decompress": False,
    "access_log": None,
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Front = Callable[[web.Request, Handler], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class _Stranger:
    """A connection of which no request was let in yet."""

    transport: asyncio.Transport
    address: str
    timer: asyncio.TimerHandle


class Connections:
    """Who is connected. A connection is known by its protocol, which outlives its transport.

    Args:
        most: over TCP.
    """

    def __init__(self, most: int = MAX_CONNECTIONS) -> None:
        self._most = most
        self._strangers: dict[object, _Stranger] = {}
        self._addresses: dict[object, str] = {}
        self._of_source: Counter[str] = Counter()
        self._local: set[object] = set()

    def made(self, connection: object, transport: asyncio.Transport) -> None:
        """Take a new connection, and let another go, or this one, where there are too many."""
        if is_local(transport):
            if len(self._local) >= MAX_LOCAL_CONNECTIONS or not _may_command(transport):
                transport.abort()
            else:
                self._local.add(connection)
            return
        address = caller_of(transport).address
        timer = asyncio.get_running_loop().call_later(STRANGER_S, self._drop, connection)
        self._strangers[connection] = _Stranger(transport, address, timer)
        self._addresses[connection] = address
        self._of_source[address] += 1
        # The new one is itself a stranger, the youngest, so there always is one to let go.
        same = [one for one, stranger in self._strangers.items() if stranger.address == address]
        if len(same) > MAX_STRANGERS_A_SOURCE or self._of_source[address] > MAX_CONNECTIONS_A_SOURCE:
            self._drop(same[0])
        elif len(self._strangers) > MAX_STRANGERS or len(self._addresses) > self._most:
            self._drop(next(iter(self._strangers)))

    def known(self, connection: object) -> None:
        """A request of a connection was let in: it is no stranger's any more."""
        stranger = self._strangers.pop(connection, None)
        if stranger is not None:
            stranger.timer.cancel()

    def lost(self, connection: object) -> None:
        """A connection has ended."""
        self.known(connection)
        self._local.discard(connection)
        address = self._addresses.pop(connection, None)
        if address is not None:
            self._of_source[address] -= 1
            if not self._of_source[address]:
                del self._of_source[address]

    def _drop(self, connection: object) -> None:
        self._strangers[connection].transport.abort()
        self.lost(connection)


class GuardedRunner(web.AppRunner):
    """Runs an application behind a front that sees each request before the application's own router does.

    Args:
        app: answers what the front lets through.
        front: is given each request, and the application to call.
        connections: are counted there.
    """

    def __init__(self, app: web.Application, front: Front, connections: Connections, **options: Any) -> None:  # noqa: ANN401
        super().__init__(app, **options)
        self._front = front
        self._connections = connections

    async def _make_server(self) -> web.Server:
        inner = await super()._make_server()
        front, behind, make_request = self._front, inner.request_handler, inner.request_factory

        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            assert isinstance(request, web.Request)
            return await front(request, behind)

        def dressed(message: Any, payload: Any, protocol: Any, _writer: Any, task: Any) -> web.BaseRequest:  # noqa: ANN401
            loop = asyncio.get_running_loop()
            writer = StreamWriter(protocol, loop, on_headers_sent=dress)
            return make_request(message, payload, protocol, writer, task)

        return _Server(handle, dressed, self._connections)


class _Server(web.Server):
    """Makes a protocol for each connection, and has them counted."""

    def __init__(self, handle: Any, make_request: Any, connections: Connections) -> None:  # noqa: ANN401 - aiohttp's
        super().__init__(handle, request_factory=make_request)
        self._counted = connections

    def __call__(self) -> web.RequestHandler:
        return _Protocol(self, loop=asyncio.get_running_loop(), **_LIMITS)

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        self._counted.made(handler, transport)

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        super().connection_lost(handler, exc)
        self._counted.lost(handler)


class _Protocol(web.RequestHandler):
    """Answers what is no HTTP, and what went wrong behind the front, without a word of why."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if isinstance(exc, ConnectionError):
            raise exc  # Whoever asked has gone, or was let go: there is nobody to answer.
        if status >= 500:
            log.error("a request failed by our own fault", exc_info=exc)
        if request.writer.output_size:
            raise ConnectionResetError("an answer that was begun cannot be ended")
        response = web.Response(status=status)
        response.force_close()
        return response


async def dress(headers: CIMultiDict[str]) -> None:
    """Give an answer the headers that all have, and take away the one that says what runs here."""
    headers.pop("Server", None)
    for name, value in HEADERS.items():
        headers.setdefault(name, value)


def caller_of(transport: asyncio.BaseTransport) -> Caller:
    """Return who is at the other end of a connection, and which port of this machine it is connected to."""
    if is_local(transport):
        return LOCAL
    peer = transport.get_extra_info("peername")
    name = transport.get_extra_info("sockname")
    port = int(name[1]) if isinstance(name, tuple) else 0
    secure = transport.get_extra_info("ssl_object") is not None
    return Caller(False, plain_address(str(peer[0])) if peer else "", port, secure)


def is_local(transport: asyncio.BaseTransport) -> bool:
    """Return whether a connection is one of the Unix socket."""
    sock = transport.get_extra_info("socket")
    return sock is not None and sock.family == socket.AF_UNIX


def _may_command(transport: asyncio.BaseTransport) -> bool:
    """Return whether a Unix socket's other end is this process's user or root, or of its group where that one may.

    The file's permissions say the same; but there is a moment between making a socket and giving it these.
    """
    sock = transport.get_extra_info("socket")
    try:
        _pid, uid, gid = struct.unpack("iII", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if uid in (0, os.getuid()):
            return True
        if not socket_mode(Path(sock.getsockname())) & 0o060:
            return False
        groups = sock.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, 4 * _MAX_GROUPS)
    except OSError:
        return False
    return os.getgid() in (gid, *struct.unpack(f"{len(groups) // 4}I", groups))


def connections_possible() -> int:
    """Have the system give enough descriptors for all connections, and return for how many it does.

    Each may need two: one for itself, and one for the file that it is sent.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * MAX_CONNECTIONS + SPARE_DESCRIPTORS
    if soft < wanted and soft != resource.RLIM_INFINITY:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    return min(max((soft - SPARE_DESCRIPTORS) // 2, MAX_STRANGERS_A_SOURCE), MAX_CONNECTIONS)
