"""Fetching tracks from the host, in one thread, by HTTP with ranges.

The bytes that a reader waits for come first: each request asks for what is missing at the
most urgent place, and is so small that it is answered in about :data:`REQUEST_DURATION_NS`;
then it is decided anew. So a request never has to be broken off, no byte is fetched twice,
and one connection serves for hours.

Source: RFC 9110 section 14 (ranges), RFC 6750 (bearer tokens).
"""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
import threading
import time
from collections.abc import Iterable

from musicsyncd.errors import MediaError
from musicsyncd.media.store import StoredTrack
from musicsyncd.units import NS_PER_MS

MAX_WANTED = 64
"""Tracks considered at a time; a time line names eight at most."""

BLOCK_BYTES = 64 << 10
"""Handed on at a time, so that a waiting reader need not wait for the whole answer."""

MIN_REQUEST_BYTES, MAX_REQUEST_BYTES = 64 << 10, 4 << 20
REQUEST_DURATION_NS = 100 * NS_PER_MS
"""How long one answer should take: what a seek waits behind, and ten round trips of a poor Wi-Fi."""

MIN_BACKOFF_S, MAX_BACKOFF_S = 0.2, 5.0
TIMEOUT_S = 5.0
"""For a connection and for each piece of an answer."""

MAX_REFUSALS = 3
"""Answers in a row that there is no such track before it is given up; a host that starts may need a moment."""

_CLOSE_TIMEOUT_S = 1.0
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


class _RefusedError(Exception):
    """The host does not have the track that was asked for."""


class Fetcher:
    """Fills tracks with bytes.

    Args:
        token: shows the host that this peer has the room's key; empty for a room without one.

    Attributes:
        bytes_fetched: of tracks, since the start.
        fault: what keeps it from fetching, in one line, or empty.
    """

    def __init__(self, token: str) -> None:
        self.bytes_fetched = 0
        self.fault = ""
        self._token = token
        self._host: tuple[str, int] | None = None
        self._wanted: tuple[StoredTrack, ...] = ()
        self._connection: http.client.HTTPConnection | None = None
        self._connected_to: tuple[str, int] | None = None
        self._request_bytes = MIN_REQUEST_BYTES
        self._refusals: dict[bytes, int] = {}
        self._backoff_s = 0.0
        self._closing = False
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._hurry = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fetch", daemon=True)
        self._thread.start()

    def set_host(self, address: str, port: int) -> None:
        """Fetch from here from now on."""
        with self._lock:
            if self._host == (address, port):
                return
            self._host = (address, port)
            self._break_off()
        self._wake.set()

    def want(self, tracks: Iterable[StoredTrack]) -> None:
        """Replace what should be fetched, the most urgent first."""
        self._wanted = tuple(tracks)[:MAX_WANTED]
        self._wake.set()

    def close(self) -> None:
        """Stop, within a second."""
        with self._lock:
            self._closing = True
            self._break_off()
        self._wake.set()
        self._thread.join(_CLOSE_TIMEOUT_S)
        self._wanted = ()

    def _break_off(self) -> None:
        """End whatever wait the thread is in; called with the lock held."""
        self._hurry.set()
        if self._connection is not None and (sock := self._connection.sock) is not None:
            # Only a shutdown wakes a thread that is in recv(); the socket is closed by its own thread.
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    # -- the fetching thread -------------------------------------------------------------------

    def _run(self) -> None:
        while not self._closing:
            self._wake.clear()
            self._hurry.clear()
            job = self._most_urgent()
            if job is None:
                self.fault = ""
                self._wake.wait()
                continue
            stored, start, end = job
            try:
                self._fetch(stored, start, end)
            except _RefusedError:
                self._count_refusal(stored)
                self._back_off()
            except (MediaError, OSError, http.client.HTTPException, ValueError) as error:
                self._disconnect()
                host = "{}:{}".format(*self._host) if self._host else "the host"
                line = getattr(error, "strerror", None) or str(error) or type(error).__name__
                self.fault = line if isinstance(error, MediaError) else f"cannot fetch from {host}: {line}"
                self._back_off()
            else:
                self._refusals.pop(stored.track.content_id, None)
                self._backoff_s, self.fault = 0.0, ""
        self._disconnect()

    def _most_urgent(self) -> tuple[StoredTrack, int, int] | None:
        """Return what to ask for next: a track, and the bytes from start up to end."""
        if self._host is None:
            return None
        behind = None
        for stored in self._wanted:
            if stored.complete or stored.failure:
                continue
            wanted = stored.wanted_offset
            gap = stored.missing_from(wanted)
            if gap is None:
                continue
            start, end = gap[0], min(gap[1], gap[0] + self._request_bytes)
            if start >= wanted:
                return stored, start, end
            # Only what lies behind its reader is missing: the head of the next track matters more.
            behind = behind or (stored, start, end)
        return behind

    def _fetch(self, stored: StoredTrack, start: int, end: int) -> None:
        """Fetch a range of a track into it."""
        began_ns = time.monotonic_ns()
        response = self._ask(stored, start, end)
        block = memoryview(bytearray(BLOCK_BYTES))
        offset = start
        while offset < end:
            count = response.readinto(block[: end - offset])
            if not count:
                raise http.client.IncompleteRead(b"", end - offset)
            self.bytes_fetched += count
            stored.write(offset, block[:count])
            offset += count
            if self._closing:
                raise ConnectionAbortedError("closing")
        self._adapt(end - start, time.monotonic_ns() - began_ns)

    def _adapt(self, size_bytes: int, duration_ns: int) -> None:
        """Let the next answer take about as long as it should."""
        if duration_ns > 2 * REQUEST_DURATION_NS:
            self._request_bytes = max(self._request_bytes // 2, MIN_REQUEST_BYTES)
        elif duration_ns < REQUEST_DURATION_NS // 2 and size_bytes == self._request_bytes:
            self._request_bytes = min(self._request_bytes * 2, MAX_REQUEST_BYTES)

    def _ask(self, stored: StoredTrack, start: int, end: int) -> http.client.HTTPResponse:
        """Return the answer to a request for a range, its body unread; it holds that range."""
        path = f"/media/{stored.track.content_id.hex()}"
        headers = {"Range": f"bytes={start}-{end - 1}"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        connection, fresh = self._connect()
        try:
            connection.request("GET", path, headers=headers)
            response = connection.getresponse()
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
            if fresh or self._closing:
                raise
            # Servers close connections that were idle; that is no fault of either side.
            self._disconnect()
            connection, _ = self._connect()
            connection.request("GET", path, headers=headers)
            response = connection.getresponse()
        self._check(response, start, end, stored.size_bytes)
        return response

    def _check(self, response: http.client.HTTPResponse, start: int, end: int, size_bytes: int) -> None:
        """Raise unless an answer holds the range that was asked for."""
        if response.status in (404, 410, 416):
            self._disconnect()
            raise _RefusedError
        if response.status in (401, 403):
            raise MediaError("the host does not accept this room's key for its media: join the room again")
        if response.status != 206:
            raise MediaError(f"the host answered {response.status} {response.reason} where a part was asked for")
        if response.length != end - start:
            raise MediaError(f"the host sent {response.length} bytes where {end - start} were asked for")
        match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if match is None or tuple(map(int, match.groups())) != (start, end - 1, size_bytes):
            raise MediaError("the host sent another part of the track than was asked for: its file has changed")

    def _count_refusal(self, stored: StoredTrack) -> None:
        content_id = stored.track.content_id
        refusals = self._refusals.pop(content_id, 0) + 1
        self.fault = f"the host no longer has track {content_id.hex()[:12]}"
        if refusals >= MAX_REFUSALS:
            stored.fail(MediaError(f"{self.fault}: add it to the queue anew"))
        else:
            self._refusals = {content_id: refusals}

    def _back_off(self) -> None:
        """Wait a little, longer each time, but not when there is another host or the end has come."""
        if self._closing:
            return
        self._backoff_s = min(max(2 * self._backoff_s, MIN_BACKOFF_S), MAX_BACKOFF_S)
        if self._hurry.wait(self._backoff_s):
            self._backoff_s = 0.0

    def _connect(self) -> tuple[http.client.HTTPConnection, bool]:
        """Return a connection to the host of now, and whether it is new."""
        with self._lock:
            host = self._host
            assert host is not None, "nothing is fetched before there is a host"
            if self._connection is not None and self._connected_to == host:
                return self._connection, False
        self._disconnect()
        connection = http.client.HTTPConnection(host[0], host[1], timeout=TIMEOUT_S)
        with self._lock:
            self._connection, self._connected_to = connection, host
        return connection, True

    def _disconnect(self) -> None:
        with self._lock:
            connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
