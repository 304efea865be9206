"""The host's HTTP server: the page, the control interface as JSON, and the way to the media.

Over TCP every request but a page's files and its signing in carries a token and is judged by
:mod:`musicsyncd.system.http_guard` before it is looked at; over the Unix socket of this machine the file's permissions
decide. What can be asked for, and by whom, is the table of :mod:`musicsyncd.system.routes`; an error is
``{"error": "one line"}``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import ssl
from collections.abc import Collection
from contextvars import ContextVar
from pathlib import Path

import msgspec
from aiohttp import web

from musicsyncd.errors import ConfigError, ControlError, MusicSyncError, StaleError
from musicsyncd.paths import socket_mode
from musicsyncd.system import browser_speakers
from musicsyncd.system.bodies import Nothing
from musicsyncd.system.control import Control
from musicsyncd.system.encoding import decoded, encoded
from musicsyncd.system.http_connections import (
    Connections,
    GuardedRunner,
    Handler,
    caller_of,
    connections_possible,
)
from musicsyncd.system.http_guard import Caller, Guard, Public, Refusal, own_names
from musicsyncd.system.links import Links
from musicsyncd.system.log import Throttle
from musicsyncd.system.multicast import NO_FAMILY
from musicsyncd.system.openapi import WEBSOCKET, described
from musicsyncd.system.routes import ROUTES, Route
from musicsyncd.system.site import Site
from musicsyncd.system.tls import Tls, TlsSite

log = logging.getLogger(__name__)

MAX_BODY_BYTES = 1 << 20
"""A queue of 10,000 paths fits; nothing else comes near."""

MAX_STRANGERS_BODY_BYTES = 4096
"""Of a request that carries no token: nothing but one to sign in."""

BODY_S = 10.0
"""For a body to come, from its first byte to its last."""

SEND_S = 30.0
"""For an answer to be taken."""

_ANSWERS_WITHIN_S = 4.0
"""The host's own question whether it answers at all: a processor that is busy for so long plays no music either."""

_caller: ContextVar[Caller] = ContextVar("caller")
"""Who sent the request that a task answers."""


def _transport(request: web.Request) -> asyncio.Transport:
    if request.transport is None:
        raise ConnectionResetError("whoever asked has gone")
    return request.transport


def _clear_socket(path: Path) -> None:
    """Remove a socket that a killed host left behind.

    Raises:
        ConfigError: when somebody answers there.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            if path.is_socket():
                path.unlink(missing_ok=True)
            return
    raise ConfigError(f"another host answers at {path}: stop it, or give this one another --state-dir")


class HttpServer:
    """Serves the page, media and control.

    Args:
        control: what the requests are carried out by.
        token: that requests over TCP must carry; None for a room without a key.
        links: whose tokens open something too.
        tls: to serve HTTPS with as well.

    Attributes:
        site: what the routes reach.
    """

    def __init__(self, control: Control, token: str | None, links: Links, tls: Tls | None = None) -> None:
        self._tls = tls
        self.site = Site(control, links, is_open=token is None, secured=None if tls is None else tls.secured)
        self.routes = described((*ROUTES, *browser_speakers.routes(self.site)))
        self._guard = Guard(
            *(None if token is None else (token,), own_names()), entitled=links.entitled, public=_public(self.site)
        )
        self._throttle = Throttle(log)
        app = web.Application(client_max_size=MAX_BODY_BYTES)
        for route in self.routes:
            handler = self._raw_handler(route) if route.body is None else self._json_handler(route)
            app.router.add_route(route.method, route.path, handler)
            if route.method == "GET" and route.body is None and route.answer != WEBSOCKET:
                app.router.add_route("HEAD", route.path, handler)
        self._connections = Connections(connections_possible())
        self._runner = GuardedRunner(app, self._front, self._connections, shutdown_timeout=0.5)
        self._socket_path: Path | None = None

    def accept_tokens(self, tokens: Collection[str]) -> None:
        """Take these tokens from now on: while a key is changed, that of the old one and that of the new one."""
        self._guard.accept(tokens)

    async def open(self, port: int, socket_path: Path) -> None:
        """Listen on a TCP port of every interface, and on a Unix socket.

        Raises:
            ConfigError: when one of them cannot be had.
        """
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, "0.0.0.0", port, reuse_address=True).start()
            await self._listen_on_ipv6(port)
            if self._tls is not None:
                port = self._tls.secured.port
                for address in ("0.0.0.0", "::"):
                    await self._listen_on_tls(self._tls.context, address, port)
        except OSError as error:
            what = f"cannot listen on TCP port {port}: {os.strerror(error.errno or 0)}"
            hint = "another host may be running on this machine; choose another port with --port"
            raise ConfigError(f"{what}: {hint}") from None
        try:
            _clear_socket(socket_path)
            await web.UnixSite(self._runner, str(socket_path)).start()
            os.chmod(socket_path, socket_mode(socket_path))
        except OSError as error:
            raise ConfigError(f"cannot make the socket {socket_path}: {error.strerror or error}") from None
        self._socket_path = socket_path

    async def _listen_on_ipv6(self, port: int) -> None:
        try:
            await web.TCPSite(self._runner, "::", port, reuse_address=True).start()
        except OSError as error:
            if error.errno not in NO_FAMILY:
                raise

    async def _listen_on_tls(self, context: ssl.SSLContext, address: str, port: int) -> None:
        try:
            await TlsSite(self._runner, self._connections, context, address, port).start()
        except OSError as error:
            if error.errno not in NO_FAMILY:
                raise

    async def answers(self) -> bool:
        """Return whether connections are taken and answered, over this machine's own socket and within a moment."""
        try:
            async with asyncio.timeout(_ANSWERS_WITHIN_S):
                reader, writer = await asyncio.open_unix_connection(str(self._socket_path))
                try:
                    writer.write(b"HEAD /healthz HTTP/1.0\r\n\r\n")
                    # Where too many are here already, the connection is taken and ended: that is an answer, too.
                    with contextlib.suppress(ConnectionError):
                        await reader.readline()
                finally:
                    writer.close()
        except (OSError, ValueError):
            return False
        return True

    async def close(self) -> None:
        """Stop listening."""
        await self.site.close()
        await self._runner.cleanup()
        if self._socket_path is not None:
            with contextlib.suppress(OSError):
                self._socket_path.unlink(missing_ok=True)

    async def _front(self, request: web.Request, behind: Handler) -> web.StreamResponse:
        """Let in who may come in, and see to it that whatever is answered is taken within some time."""
        transport = _transport(request)
        judged = self._guard.judge(caller_of(transport), request.method, request.raw_path, request.headers)
        if isinstance(judged, Refusal):
            response: web.StreamResponse = self._refused(judged, caller_of(transport))
        else:
            if judged.role != "none":
                self._connections.known(request.protocol)
            _caller.set(judged)
            response = await self._answered(request, behind)
        self.site.answered[response.status] += 1
        if not response.prepared:
            try:
                async with asyncio.timeout(SEND_S):
                    await response.prepare(request)
                    await response.write_eof()
            except TimeoutError:
                transport.abort()
                raise ConnectionResetError("whoever asked does not take the answer") from None
        return response

    def _refused(self, refusal: Refusal, caller: Caller) -> web.Response:
        kind = "without the room's key" if refusal.status == 401 else f"({refusal.line})"
        source = caller.address or "this machine"
        self._throttle.warning(f"refused {refusal.status}", f"a request from {source} {kind} was refused")
        response = web.json_response({"error": refusal.line}, status=refusal.status)
        if refusal.retry_after_s:
            response.headers["Retry-After"] = str(refusal.retry_after_s)
        response.force_close()
        return response

    async def _answered(self, request: web.Request, behind: Handler) -> web.StreamResponse:
        """Carry a request out, and turn what goes wrong into one line."""
        try:
            return await behind(request)
        except web.HTTPException as error:
            return web.json_response({"error": error.reason}, status=error.status)
        except web.RequestPayloadError:
            return web.json_response({"error": "the request's body breaks off or is no HTTP"}, status=400)
        except (ConfigError, ControlError) as error:
            return web.json_response({"error": str(error)}, status=400)
        except StaleError as error:
            return web.json_response({"error": str(error), "revision": error.revision}, status=409)
        except MusicSyncError as error:
            return web.json_response({"error": str(error)}, status=409)
        except (asyncio.CancelledError, ConnectionError):
            raise
        except Exception:
            log.exception("a request failed by our own fault: %s %s", request.method, request.path)
            return web.json_response({"error": "the host made a mistake; its log says more"}, status=500)

    def _raw_handler(self, route: Route) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            caller = _entitled(route)
            response: web.StreamResponse = await route.handler(self.site, request, caller)
            return response

        return handle

    def _json_handler(self, route: Route) -> Handler:
        assert route.body is not None
        body_type = route.body

        async def handle(request: web.Request) -> web.StreamResponse:
            caller = _entitled(route)
            raw = await _body(request, caller)
            try:
                if route.method == "GET":
                    query = {} if body_type is Nothing else dict(request.query)
                    body = msgspec.convert(query, body_type, strict=False)
                else:
                    body = decoded(raw, body_type)
            except (msgspec.MsgspecError, ValueError, RecursionError) as error:
                raise ControlError(f"the request is not understood: {error}") from None
            answer = await route.handler(self.site, request.match_info, body, caller)
            if isinstance(answer, web.StreamResponse):
                return answer
            unsaved = self.site.control.unsaved
            if unsaved and "message" in answer:
                answer["message"] += f" (but it would not survive a restart: {unsaved})"
            return web.Response(body=encoded(answer), content_type="application/json")

        return handle


def _public(site: Site) -> Public:
    """Return what needs no token."""
    looking = {(method, path) for method in ("GET", "HEAD") for path in site.files}
    signing = {(route.method, route.path) for route in ROUTES if route.role == "none" and route.method == "POST"}
    return Public(frozenset(looking | signing), frozenset((("GET", "/healthz"), ("HEAD", "/healthz"))))


def _entitled(route: Route) -> Caller:
    """Return who asks, if it may.

    Raises:
        web.HTTPForbidden: it may not.
    """
    caller = _caller.get()
    if route.role == "local" and not caller.local:
        raise web.HTTPForbidden(reason="this is done on the host's own machine only")
    if route.role != "local" and not caller.may(route.role):
        line = f"your link is for {_MAY[caller.role]}: whoever keeps the host can make another with `musicsyncd link`"
        raise web.HTTPForbidden(reason=line)
    return caller


_MAY = {"none": "nothing", "listen": "listening only", "guest": "listening and adding to the queue", "control": "all"}


async def _body(request: web.Request, caller: Caller) -> bytes:
    """Return a request's body.

    Raises:
        web.HTTPException: it is too long for whoever asks, or does not come in time.
    """
    if caller.role == "none" and request.can_read_body:
        size_bytes = request.content_length
        if size_bytes is None or size_bytes > MAX_STRANGERS_BODY_BYTES:
            raise web.HTTPRequestEntityTooLarge(MAX_STRANGERS_BODY_BYTES, size_bytes or 0)
    try:
        async with asyncio.timeout(BODY_S):
            return await request.read()
    except TimeoutError:
        raise web.HTTPRequestTimeout(reason=f"the request's body did not come within {BODY_S:g} s") from None
