"""Fetching tracks from the host, in one thread, by HTTP with ranges.

Each request asks for what is missing at the most urgent place and says when that is due, so that a
host whose link is short serves those first who will fall silent first
(:mod:`musicsyncd.system.media_server`). It is small: what is due within :data:`SPAN_DURATION_NS`, in about
:data:`REQUEST_DURATION_NS`; at a new place, where a decoder may only be looking for its way, it begins with
:data:`MIN_REQUEST_BYTES`. Then it is decided anew. So an answer is never broken off once it has begun, no byte is
fetched twice, and one connection serves for hours. A request that has no answer yet gives way to one that is more
urgent, such as after a seek.

Source: RFC 9110 section 14 (ranges), RFC 6750 (bearer tokens).
"""

from __future__ import annotations

import contextlib
import http.client
import re
import select
import socket
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass

from musicsyncd.config import address_text
from musicsyncd.errors import MediaError
from musicsyncd.media.store import StoredTrack
from musicsyncd.units import NS_PER_MS, NS_PER_S, ns_to_s

MAX_WANTED = 64
"""Tracks considered at a time; a time line names eight at most."""

BLOCK_BYTES = 64 << 10
"""Handed on at a time, so that a waiting reader need not wait for the whole answer."""

MIN_REQUEST_BYTES, MAX_REQUEST_BYTES = 32 << 10, 4 << 20
REQUEST_DURATION_NS = 50 * NS_PER_MS
"""How long one answer should take once it has begun: what a seek waits behind, and five round trips of a poor Wi-Fi."""

SPAN_DURATION_NS = 4 * NS_PER_S
"""So much sound is asked for at a time, that nobody's far future comes before somebody's near one."""

KEEP_UP_DURATION_NS = 500 * NS_PER_MS
"""And not less than this, once a place is found: over a link that others fill, too, an answer may be a quarter of a
second on its way, however small it is."""

DUE_HEADER = "Musicsyncd-Due-Ms"
"""Of a request: in how many milliseconds its first byte is due."""

MAX_DUE_MS = 3_600_000

OVERTAKING_DURATION_NS = 500 * NS_PER_MS
"""By so much something must be due sooner to overtake a request that waits: a connection is given up for it."""

MIN_BACKOFF_S, MAX_BACKOFF_S = 0.2, 5.0
TIMEOUT_S = 5.0
"""For a connection and for each piece of an answer."""

MAX_WAIT_S = 30.0
"""For an answer to begin: what is due long from now may wait until others are served, half of that time."""

MAX_REFUSALS = 3
"""Answers in a row that there is no such track before it is given up; a host that starts may need a moment."""

RATE_SHARE = 0.3
"""Weight of the newest answer in :attr:`Fetcher.bytes_per_s`."""

_POLL_S = 0.02
_CLOSE_TIMEOUT_S = 1.0
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


class _RefusedError(Exception):
    """The host does not have the track that was asked for."""


class _OvertakenError(Exception):
    """Something else has become more urgent before an answer began."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A track that should be fetched.

    Attributes:
        stored: its place in the cache.
        due_local_ns: when what its reader asks for next has to sound.
        ns_per_byte: how long a byte sounds, on the average; 0 for not known.
    """

    stored: StoredTrack
    due_local_ns: int = 0
    ns_per_byte: float = 0.0


@dataclass(frozen=True, slots=True)
class _Job:
    """A range to ask for.

    Attributes:
        stored: of which track.
        start: its first byte.
        end: the one behind its last.
        is_behind: it lies behind its reader: nobody waits for it.
        due_local_ns: when its first byte is due.
    """

    stored: StoredTrack
    start: int
    end: int
    is_behind: bool
    due_local_ns: int

    @property
    def urgency(self) -> tuple[bool, int]:
        """The less, the sooner."""
        return self.is_behind, self.due_local_ns

    def due_ms(self, now_local_ns: int) -> int:
        """Return what the host is told."""
        if self.is_behind:
            return MAX_DUE_MS
        return min(max((self.due_local_ns - now_local_ns) // NS_PER_MS, 0), MAX_DUE_MS)


class _Connection(http.client.HTTPConnection):
    """To an address and never to a name: looking for one loads the tables for names in all scripts, 0.4 MiB."""

    def connect(self) -> None:
        """Connect, as the base class does."""
        # Bytes are not looked up in those tables. A link-local address of IPv6 means nothing without its zone's number.
        numeric = (socket.AF_UNSPEC, socket.SOCK_STREAM, 0, socket.AI_NUMERICHOST)
        family, kind, _, _, address = socket.getaddrinfo(self.host.encode("ascii"), self.port, *numeric)[0]
        self.sock = socket.socket(family, kind)
        self.sock.settimeout(self.timeout)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.connect(address)


class Fetcher:
    """Fills tracks with bytes.

    Args:
        token: shows the host that this peer has the room's key; empty for a room without one.

    Attributes:
        token: the same; another one counts from the next request on.
        bytes_fetched: of tracks, since the start.
        bytes_per_s: how fast they came of late, the time between asking and answer included; 0 before the first.
        fault: what keeps it from fetching, in one line, or empty.
    """

    def __init__(self, token: str) -> None:
        self.bytes_fetched = 0
        self.bytes_per_s = 0.0
        self.fault = ""
        self.token = token
        self._host: tuple[str, int] | None = None
        self._wanted: tuple[Wanted, ...] = ()
        self._connection: http.client.HTTPConnection | None = None
        self._connected_to: tuple[str, int] | None = None
        self._request_bytes = MIN_REQUEST_BYTES
        self._stride_bytes = MIN_REQUEST_BYTES
        # Track and end of the newest request; the track itself would stay open for being named here.
        self._reached: tuple[bytes, int] | None = None
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

    def want(self, tracks: Iterable[Wanted]) -> None:
        """Replace what should be fetched; of what is due at the same time, the first comes first."""
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
                self._rest()
                continue
            try:
                self._fetch(job)
            except _OvertakenError:
                self._disconnect()
            except _RefusedError:
                self._count_refusal(job.stored)
                self._back_off()
            except (MediaError, OSError, http.client.HTTPException, ValueError) as error:
                self._disconnect()
                host = address_text(self._host) if self._host else "the host"
                line = getattr(error, "strerror", None) or str(error) or type(error).__name__
                self.fault = line if isinstance(error, MediaError) else f"cannot fetch from {host}: {line}"
                self._back_off()
            else:
                self._refusals.pop(job.stored.track.content_id, None)
                self._backoff_s, self.fault = 0.0, ""
        self._disconnect()

    def _rest(self) -> None:
        """There is nothing to fetch: verify what is there, or wait."""
        unverified = next((one.stored for one in self._wanted if one.stored.unverified), None)
        if unverified is None:
            self.fault = ""
            self._wake.wait()
            return
        with contextlib.suppress(MediaError):  # Then all of it is missing, and there is something to fetch.
            unverified.verify()

    def _most_urgent(self) -> _Job | None:
        """Return what to ask for next."""
        if self._host is None:
            return None
        jobs = [job for wanted in self._wanted if (job := self._job_of(wanted)) is not None]
        return min(jobs, key=lambda job: job.urgency, default=None)

    def _job_of(self, wanted: Wanted) -> _Job | None:
        """Return what to ask for of a track, or None when nothing is missing."""
        stored = wanted.stored
        if stored.complete or stored.failure:
            return None
        reads_at = stored.wanted_offset
        gap = stored.missing_from(reads_at)
        if gap is None:
            return None
        start, end = gap
        size_bytes = self._request_bytes
        if wanted.ns_per_byte > 0:
            least = max(int(KEEP_UP_DURATION_NS / wanted.ns_per_byte), MIN_REQUEST_BYTES)
            most = max(int(SPAN_DURATION_NS / wanted.ns_per_byte), MIN_REQUEST_BYTES)
            size_bytes = min(max(size_bytes, least), most)
        goes_on = self._reached == (stored.track.content_id, start)
        size_bytes = min(size_bytes, self._stride_bytes) if goes_on else MIN_REQUEST_BYTES
        due_ns = wanted.due_local_ns + round((start - reads_at) * wanted.ns_per_byte)
        return _Job(stored, start, min(end, start + size_bytes), start < reads_at, due_ns)

    def _fetch(self, job: _Job) -> None:
        """Fetch a range of a track into it."""
        asked_ns = time.monotonic_ns()
        response = self._ask(job)
        began_ns = time.monotonic_ns()
        block = memoryview(bytearray(BLOCK_BYTES))
        offset, size_bytes = job.start, job.end - job.start
        self._stride_bytes = min(2 * size_bytes, MAX_REQUEST_BYTES)
        self._reached = (job.stored.track.content_id, job.end)
        while offset < job.end:
            count = response.readinto(block[: job.end - offset])
            if not count:
                raise http.client.IncompleteRead(b"", job.end - offset)
            self.bytes_fetched += count
            job.stored.write(offset, block[:count])
            offset += count
            if self._closing:
                raise ConnectionAbortedError("closing")
        ended_ns = time.monotonic_ns()
        self._adapt(size_bytes, ended_ns - began_ns)
        newest = size_bytes / max(ns_to_s(ended_ns - asked_ns), 1e-6)
        share = RATE_SHARE if self.bytes_per_s else 1.0
        self.bytes_per_s += share * (newest - self.bytes_per_s)

    def _adapt(self, size_bytes: int, duration_ns: int) -> None:
        """Let the next answer take about as long as it should."""
        if duration_ns > 2 * REQUEST_DURATION_NS:
            self._request_bytes = max(self._request_bytes // 2, MIN_REQUEST_BYTES)
        elif duration_ns < REQUEST_DURATION_NS // 2 and size_bytes == self._request_bytes:
            self._request_bytes = min(self._request_bytes * 2, MAX_REQUEST_BYTES)

    def _ask(self, job: _Job) -> http.client.HTTPResponse:
        """Return the answer to a request for a range, its body unread; it holds that range."""
        connection, fresh = self._connect()
        try:
            response = self._answer(connection, job)
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
            if fresh or self._closing:
                raise
            # Servers close connections that were idle; that is no fault of either side.
            self._disconnect()
            connection, _ = self._connect()
            response = self._answer(connection, job)
        self._check(response, job.start, job.end, job.stored.size_bytes)
        return response

    def _answer(self, connection: http.client.HTTPConnection, job: _Job) -> http.client.HTTPResponse:
        """Send a request and return the answer, unless another becomes more urgent before that begins."""
        due_ms = job.due_ms(time.monotonic_ns())
        headers = {"Range": f"bytes={job.start}-{job.end - 1}", DUE_HEADER: str(due_ms)}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        connection.request("GET", f"/media/{job.stored.track.content_id.hex()}", headers=headers)
        wait_s = min(max(TIMEOUT_S, due_ms / 2000), MAX_WAIT_S)
        gives_up_s = time.monotonic() + wait_s
        while not self._closing and connection.sock is not None:
            if select.select([connection.sock], [], [], _POLL_S)[0]:
                break
            if time.monotonic() > gives_up_s:
                raise TimeoutError(f"no answer within {wait_s:.0f} s")
            if self._is_overtaken(job):
                raise _OvertakenError
        return connection.getresponse()

    def _is_overtaken(self, job: _Job) -> bool:
        """Return whether a request that waits should give way: it is not wanted any more, or something else is more."""
        if all(wanted.stored is not job.stored for wanted in self._wanted):
            return True
        urgent = self._most_urgent()
        if urgent is None:
            return False
        if job.is_behind != urgent.is_behind:
            return job.is_behind
        return urgent.due_local_ns + OVERTAKING_DURATION_NS < job.due_local_ns

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
        connection = _Connection(host[0], host[1], timeout=TIMEOUT_S)
        with self._lock:
            self._connection, self._connected_to = connection, host
        return connection, True

    def _disconnect(self) -> None:
        with self._lock:
            connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
