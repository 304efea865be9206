"""Serving tracks to peers: ranges of files by content id, those that are due soonest first.

When twenty speakers begin a track at once over a link that carries little more than what they play,
whoever is served early and long is a minute ahead, and somebody else is silent. So each request says when its first
byte is due, and what is sent passes through :class:`Turns` in pieces: so few bytes are under way at a
time that what comes next can still be chosen, and it is the piece that is due soonest. That is
earliest-deadline-first scheduling: as long as the link carries what all need, nobody's deadline is missed (Liu and
Layland, "Scheduling Algorithms for Multiprogramming in a Hard-Real-Time Environment", JACM 20(1), 1973, section 7).
It also keeps the link's queue short, in which the clocks' probes and the beacons wait, too.

Whether bytes are still under way is asked of the kernel: what it has taken and the other side has not acknowledged.

Nothing of a request ever becomes a path on disk: the file is found by its content id among the tracks of the queues.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import heapq
import os
import stat
import struct
import termios
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

from musicsyncd.system.fetch import DUE_HEADER, MAX_DUE_MS
from musicsyncd.system.monotonic import now_ns
from musicsyncd.units import NS_PER_MS

PIECE_BYTES = 64 << 10
"""Sent in one turn."""

UNDER_WAY_BYTES = 256 << 10
"""Sent and not acknowledged, of all peers together: 20 ms of a link of 100 Mbit/s. A slower one is full
with less, a faster one with 2 ms of round trip still carries 1 Gbit/s."""

HOLD_S = 0.5
"""So long a piece counts as under way at most: a speaker that was switched off does not acknowledge any more."""

STALL_S = 30.0
"""And so long a connection is kept that takes nothing."""

MAX_WAITING = 1024
"""Requests that wait for their turn: one of each speaker, and as many again."""

NO_DUE_MS = 10_000
"""When bytes are taken to be due that are asked for without saying: behind what somebody will hear soon."""

_LOW_BYTES = 16 << 10
"""So little left of a piece lets the next one follow, so that the link is never idle between them."""

_POLL_S = 0.002


class Turns:
    """Lets so many bytes pass at a time, and of those who wait the one whose bytes are due soonest.

    Args:
        most_bytes: that may pass at a time; a single piece always may.
        most_waiting: who may wait.
    """

    def __init__(self, most_bytes: int = UNDER_WAY_BYTES, most_waiting: int = MAX_WAITING) -> None:
        self._most_bytes = most_bytes
        self._most_waiting = most_waiting
        self._passing_bytes = 0
        self._number = 0
        self._waiting: list[tuple[int, int, int, asyncio.Future[None]]] = []

    @asynccontextmanager
    async def turn(self, size_bytes: int, due_ns: int) -> AsyncIterator[None]:
        """Wait for the turn of a piece that is due at a time of this machine's clock; it passes until the block ends.

        Raises:
            web.HTTPServiceUnavailable: too many wait already.
        """
        if len(self._waiting) >= self._most_waiting:
            raise web.HTTPServiceUnavailable(reason="too many requests wait for their turn")
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._number += 1
        heapq.heappush(self._waiting, (due_ns, self._number, size_bytes, granted))
        self._grant()
        try:
            await granted
            yield
        finally:
            if granted.done() and not granted.cancelled():
                self._passing_bytes -= size_bytes
            granted.cancel()
            self._grant()

    def _grant(self) -> None:
        while self._waiting:
            _, _, size_bytes, granted = self._waiting[0]
            if not granted.done():
                if self._passing_bytes and self._passing_bytes + size_bytes > self._most_bytes:
                    return
                self._passing_bytes += size_bytes
                granted.set_result(None)
            heapq.heappop(self._waiting)


class MediaServer:
    """Answers requests for media.

    Args:
        path_of: gives the file whose bytes have a content id, or None.
        turns: who is served when.
    """

    def __init__(self, path_of: Callable[[bytes], Path | None], turns: Turns | None = None) -> None:
        self._path_of = path_of
        self._turns = Turns() if turns is None else turns

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Answer a request for all or a range of a track's bytes.

        Raises:
            web.HTTPException: there is no such track, or the request is not understood.
        """
        due_ns = now_ns() + _due_ms(request) * NS_PER_MS
        path = self._path_of(bytes.fromhex(request.match_info["content_id"]))
        fd = None if path is None else await asyncio.to_thread(open_regular, path)
        if fd is None:
            raise web.HTTPNotFound(reason="no such track in any queue")
        try:
            size_bytes = os.fstat(fd).st_size
            span = _span(request, size_bytes)
            if span is None:
                return web.Response(status=416, headers={"Content-Range": f"bytes */{size_bytes}"})
            response = web.StreamResponse(status=200 if span == (0, size_bytes) and not _asks_range(request) else 206)
            response.content_type = "application/octet-stream"
            response.content_length = span[1] - span[0]
            response.headers["Accept-Ranges"] = "bytes"
            if response.status == 206:
                response.headers["Content-Range"] = f"bytes {span[0]}-{span[1] - 1}/{size_bytes}"
            if request.method == "HEAD" or span[0] == span[1]:
                await response.prepare(request)
            else:
                # Whoever has gone needs no answer, and the log no line of it.
                with contextlib.suppress(ConnectionError):
                    await self._send(request, response, fd, span, due_ns)
            return response
        finally:
            os.close(fd)

    async def _send(
        self, request: web.Request, response: web.StreamResponse, fd: int, span: tuple[int, int], due_ns: int
    ) -> None:
        """Send a part of a file, in pieces, each when it is its turn."""
        for start in range(*span, PIECE_BYTES):
            size_bytes = min(PIECE_BYTES, span[1] - start)
            transport = request.transport
            # Who does not take what was sent has no turn: it would only keep others from theirs.
            if transport is None or not await _drained(transport, STALL_S):
                raise _broken_off(transport, "whoever asked does not take it")
            async with self._turns.turn(size_bytes, due_ns):
                if transport.is_closing():
                    raise _broken_off(transport, "whoever asked has gone")
                block = _read_cached(fd, size_bytes, start)
                if block is None:
                    # A disk that has to start up must not keep the beacons waiting.
                    block = await asyncio.to_thread(_read, fd, size_bytes, start)
                if len(block) < size_bytes:
                    raise _broken_off(transport, "the file ends early")  # The other side sees that there is no end.
                if not response.prepared:
                    await response.prepare(request)
                await response.write(block)
                await _drained(transport, HOLD_S)
        await response.write_eof()


def _asks_range(request: web.Request) -> bool:
    return "Range" in request.headers


def _due_ms(request: web.Request) -> int:
    """Return in how many milliseconds the first byte is due."""
    given = request.headers.get(DUE_HEADER)
    if given is None:
        return NO_DUE_MS
    if not (given.isascii() and given.isdecimal() and len(given) <= 10):
        raise web.HTTPBadRequest(reason=f"{DUE_HEADER} must be a whole number of milliseconds")
    return min(int(given), MAX_DUE_MS)


def _span(request: web.Request, size_bytes: int) -> tuple[int, int] | None:
    """Return the first byte that is asked for and the one behind the last, or None when there are no such bytes."""
    try:
        asked = request.http_range
    except ValueError:
        return None
    start, stop = asked.start or 0, size_bytes if asked.stop is None else min(asked.stop, size_bytes)
    if start < 0:
        start = max(0, size_bytes + start)
    return (start, stop) if start < stop or not _asks_range(request) else None


def open_regular(path: Path) -> int | None:
    """Return an ordinary file, opened, or None."""
    try:
        # A pipe would wait for somebody to write to it.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError):
        return None
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    return None


def _read(fd: int, size_bytes: int, start: int) -> bytes:
    """Return bytes of a file, fewer where it ends or the disk fails."""
    with contextlib.suppress(OSError):
        return os.pread(fd, size_bytes, start)
    return b""


def _broken_off(transport: asyncio.Transport | None, why: str) -> ConnectionResetError:
    """Close a connection whose answer cannot be ended, and return the error that says so."""
    if transport is not None:
        transport.abort()
    return ConnectionResetError(why)


def _read_cached(fd: int, size_bytes: int, start: int) -> bytes | None:
    """Return bytes of a file that are in memory, all of them and without any wait, or None."""
    block = bytearray(size_bytes)
    with contextlib.suppress(OSError):
        if os.preadv(fd, [block], start, os.RWF_NOWAIT) == size_bytes:
            return bytes(block)
    return None


async def _drained(transport: asyncio.Transport, within_s: float) -> bool:
    """Wait until what was written has reached the other side, but for a little; False when that lasts too long."""
    loop = asyncio.get_running_loop()
    gives_up_s = loop.time() + within_s
    while _under_way_bytes(transport) > _LOW_BYTES:
        if transport.is_closing() or loop.time() > gives_up_s:
            return False
        await asyncio.sleep(_POLL_S)
    return True


def _under_way_bytes(transport: asyncio.Transport) -> int:
    """Return how many bytes were written and are not acknowledged."""
    unsent_bytes: int = transport.get_write_buffer_size()
    sock = transport.get_extra_info("socket")
    with contextlib.suppress(OSError, ValueError):
        unsent_bytes += struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)))[0]
    return unsent_bytes
