"""The WebSockets that are open to a host: how many there may be, whose they are, and when they end.

Owns that a revoked link's end at once, and all of them with the host. What is said on one is its own module's:
:mod:`musicsyncd.system.events` for pages.

Close codes are those of RFC 6455, section 7.4; 4000 to 4999 are an application's own.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from aiohttp import WSCloseCode, web

from musicsyncd.system.http_guard import Caller

MAX_SOCKETS = 256
"""Of all kinds together: pages that are open, and browsers that play."""

MAX_MESSAGE_BYTES = 4096
"""Of what a browser sends, unless its module says otherwise."""

HEARTBEAT_S = 20.0
"""A browser that answers no ping for half of it has gone: a phone that was carried out of the house says no goodbye."""

CLOSE_S = 2.0
"""For the other side to agree to an end."""

_UNSENT_BYTES = 4096
"""Beyond it a send waits until the connection takes more."""

REVOKED = 4401
"""As HTTP's 401: the link by which the socket was opened counts no more."""

Work = Callable[[web.WebSocketResponse], Awaitable[None]]


class Sockets:
    """The open WebSockets.

    Args:
        most: that there may be.
    """

    def __init__(self, most: int = MAX_SOCKETS) -> None:
        self._most = most
        self._open: dict[web.WebSocketResponse, Caller] = {}
        self._ending: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._open)

    async def serve(
        self, request: web.Request, caller: Caller, work: Work, *, max_message_bytes: int = MAX_MESSAGE_BYTES
    ) -> web.StreamResponse:
        """Open a WebSocket, have the work done on it, and close it.

        Args:
            request: the handshake.
            caller: whose it is.
            work: is given the open socket, and ends when that does.
            max_message_bytes: that is taken from the other side.

        Raises:
            web.HTTPException: it is no handshake.
        """
        ws = web.WebSocketResponse(
            heartbeat=HEARTBEAT_S,
            max_msg_size=max_message_bytes,
            compress=False,
            timeout=CLOSE_S,
            writer_limit=_UNSENT_BYTES,
        )
        if not ws.can_prepare(request):
            raise web.HTTPBadRequest(reason="this is a WebSocket's address: open one")
        await ws.prepare(request)
        if len(self._open) >= self._most:
            await ws.close(code=WSCloseCode.TRY_AGAIN_LATER, message=b"too many are connected")
            return ws
        self._open[ws] = caller
        try:
            # Whoever has gone needs no answer, and the log no line of it.
            with contextlib.suppress(ConnectionError):
                await work(ws)
        finally:
            self._open.pop(ws, None)
        with contextlib.suppress(ConnectionError):
            await ws.close()
        return ws

    def end_link(self, link_id: str) -> None:
        """End all that were opened by a link."""
        for ws, caller in list(self._open.items()):
            if caller.link_id == link_id:
                self._end(ws, REVOKED, b"this link was revoked")

    async def close(self) -> None:
        """End all, as the host stops."""
        for ws in list(self._open):
            self._end(ws, WSCloseCode.GOING_AWAY, b"the host stops")
        if self._ending:
            await asyncio.wait(self._ending, timeout=CLOSE_S)

    def _end(self, ws: web.WebSocketResponse, code: int, why: bytes) -> None:
        # Nothing may come in by it from now on, however long the other side takes to agree.
        self._open.pop(ws, None)
        task = asyncio.get_running_loop().create_task(_close(ws, code, why))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)


async def _close(ws: web.WebSocketResponse, code: int, why: bytes) -> None:
    with contextlib.suppress(ConnectionError):
        await ws.close(code=code, message=why)
