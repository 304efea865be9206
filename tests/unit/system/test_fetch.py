from __future__ import annotations

import hashlib
import os
import re
import socket
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from musicsyncd.errors import MediaError
from musicsyncd.media.store import Store
from musicsyncd.playback.timeline import Track
from musicsyncd.system import fetch
from musicsyncd.system.fetch import Fetcher

PATIENCE_S = 20.0
TOKEN = "secret"


def until(true: Callable[[], object]) -> None:
    """Wait for the fetching thread; the time is only what a machine that hangs gets before the test fails."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline_s, "it never came"
        os.sched_yield()


class Host:
    """Serves bytes by their hash, with ranges, and misbehaves on demand.

    ``before`` is called with each request's (start, end) and may return a status to answer with, or a number of
    bytes after which the connection is closed as a negative number.
    """

    def __init__(self) -> None:
        self.tracks: dict[str, bytes] = {}
        self.requests: list[tuple[str, int, int]] = []
        self.connections = 0
        self.before: Callable[[int, int], int] = lambda _start, _end: 0
        self.content_range = "bytes {}-{}/{}"
        host = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                host.connections += 1
                super().setup()

            def do_GET(self) -> None:
                host.answer(self)

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", handler.headers["Range"])
        start, end = int(match[1]), int(match[2]) + 1
        name = handler.path.removeprefix("/media/")
        self.requests.append((name, start, end))
        order = self.before(start, end)
        data = self.tracks.get(name)
        status = order if order > 0 else 206
        if handler.headers["Authorization"] != f"Bearer {TOKEN}":
            status = 401
        elif data is None:
            status = 404
        if status != 206:
            handler.send_response(status)
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        handler.send_response(206)
        handler.send_header("Content-Range", self.content_range.format(start, end - 1, len(data)))
        handler.send_header("Content-Length", str(end - start))
        handler.end_headers()
        body = data[start:end]
        handler.wfile.write(body if order == 0 else body[:-order])
        if order < 0:
            handler.close_connection = True

    def put(self, size: int, seed: int = 1) -> Track:
        data = np.random.default_rng(seed).bytes(size)
        digest = hashlib.sha256(data)
        self.tracks[digest.hexdigest()] = data
        return Track(digest.digest(), size, 44_100, 1000, 2)

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch):
    monkeypatch.setattr(fetch, "MIN_BACKOFF_S", 0.001)
    monkeypatch.setattr(fetch, "MAX_BACKOFF_S", 0.01)


@pytest.fixture
def host():
    one = Host()
    yield one
    one.close()


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "cache", 1 << 30, disk=lambda _folder: (1 << 40, 1 << 40))


@pytest.fixture
def fetcher():
    one = Fetcher(TOKEN)
    yield one
    one.close()
    assert not one._thread.is_alive()


def test_a_track_is_fetched_once_over_one_connection(host, store, fetcher):
    track = host.put(3_000_000)
    stored = store.open(track)
    fetcher.set_host("127.0.0.1", host.port)
    fetcher.want([stored])
    until(lambda: stored.complete)
    assert stored.reader().read() == host.tracks[track.content_id.hex()]
    assert fetcher.bytes_fetched == 3_000_000
    assert host.connections == 1
    ranges = sorted((start, end) for _name, start, end in host.requests)
    assert [start for start, _ in ranges] == [0, *[end for _, end in ranges[:-1]]], "no byte twice, none left out"
    assert fetcher.fault == ""
    assert len(host.requests) < 3_000_000 // fetch.MIN_REQUEST_BYTES, "requests grow on a fast network"


def test_what_a_reader_waits_for_comes_first(host, store, fetcher):
    track = host.put(4_000_000)
    stored = store.open(track)
    gate = threading.Semaphore(0)
    host.before = lambda _start, _end: (gate.acquire(timeout=PATIENCE_S), 0)[1]
    fetcher.set_host("127.0.0.1", host.port)
    fetcher.want([stored])
    until(lambda: host.requests)
    reader, got = stored.reader(timeout_s=PATIENCE_S), []
    reader.seek(3_000_000)
    thread = threading.Thread(target=lambda: got.append(reader.read(10)))
    thread.start()
    until(lambda: stored.wanted_offset == 3_000_000)
    gate.release()
    until(lambda: len(host.requests) == 2)
    assert host.requests[1][1] == 3_000_000
    for _ in range(200):
        gate.release()
    thread.join(PATIENCE_S)
    assert got == [host.tracks[track.content_id.hex()][3_000_000:3_000_010]]
    until(lambda: stored.complete)
    assert fetcher.bytes_fetched == 4_000_000


def test_the_order_is_urgent_then_following_then_what_lies_behind(host, store, fetcher):
    first, second = host.put(200_000, 1), host.put(100_000, 2)
    tracks = [store.open(first), store.open(second)]
    data = host.tracks[first.content_id.hex()]
    tracks[0].write(150_000, data[150_000:150_100])
    reader = tracks[0].reader()
    reader.seek(150_000)
    reader.read(50)
    fetcher.want(tracks)
    fetcher.set_host("127.0.0.1", host.port)
    until(lambda: all(stored.complete for stored in tracks))
    seen = [(name == first.content_id.hex(), start) for name, start, _end in host.requests]
    assert seen[0] == (True, 150_100)
    following = [index for index, (is_first, _start) in enumerate(seen) if not is_first]
    behind = [index for index, (is_first, start) in enumerate(seen) if is_first and start < 150_000]
    assert max(following) < min(behind)


def test_an_answer_that_breaks_off_is_gone_on_with(host, store, fetcher):
    track = host.put(300_000)
    orders = [-1000, -65_000, 503, 0]
    host.before = lambda _start, _end: orders.pop(0) if orders else 0
    stored = store.open(track)
    fetcher.set_host("127.0.0.1", host.port)
    fetcher.want([stored])
    until(lambda: stored.complete)
    assert fetcher.bytes_fetched == 300_000
    assert [request[1] for request in host.requests[:4]] == [0, 1000, 1000 + 65_000, 1000 + 65_000]
    until(lambda: fetcher.fault == "")


def test_a_connection_that_was_closed_while_idle_is_no_fault(host, store, fetcher):
    stored = [store.open(host.put(1000, seed)) for seed in (1, 2)]
    fetcher.set_host("127.0.0.1", host.port)
    fetcher.want(stored[:1])
    until(lambda: stored[0].complete)
    # What a server does with a connection that was idle for too long.
    fetcher._connection.sock.shutdown(socket.SHUT_WR)
    faults = set()
    fetcher.want(stored)
    until(lambda: faults.add(fetcher.fault) or stored[1].complete)
    assert faults == {""}
    assert host.connections == 2


def test_a_host_that_is_not_there_is_a_fault_until_it_comes(host, store, fetcher):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        fetcher.set_host("127.0.0.1", nobody.getsockname()[1])
        stored = store.open(host.put(1000))
        fetcher.want([stored])
        until(lambda: re.fullmatch(r"cannot fetch from 127\.0\.0\.1:\d+: Connection refused", fetcher.fault))
        fetcher.set_host("127.0.0.1", host.port)
        until(lambda: stored.complete)
    until(lambda: fetcher.fault == "")


def test_a_track_that_the_host_does_not_have_is_given_up_and_the_next_one_fetched(host, store, fetcher):
    lost = store.open(Track(bytes(32), 500, 44_100, 100, 2))
    other = store.open(host.put(1000))
    fetcher.set_host("127.0.0.1", host.port)
    fetcher.want([lost, other])
    until(lambda: other.complete)
    assert "the host no longer has track 000000000000" in lost.failure
    assert len([name for name, _s, _e in host.requests if name == "00" * 32]) == fetch.MAX_REFUSALS
    with pytest.raises(MediaError, match="no longer has"):
        lost.reader().read(1)


def test_a_wrong_key_is_said(host, store):
    stranger = Fetcher("guess")
    stranger.set_host("127.0.0.1", host.port)
    stored = store.open(host.put(1000))
    stranger.want([stored])
    until(lambda: "does not accept this room's key" in stranger.fault)
    stranger.close()
    assert stored.missing_bytes == 1000
    assert not stored.failure


def test_a_file_that_changed_on_the_host_is_not_mixed_in(host, store, fetcher):
    track = host.put(1000)
    host.content_range = "bytes {}-{}/77777"
    stored = store.open(track)
    fetcher.set_host("127.0.0.1", host.port)
    fetcher.want([stored])
    until(lambda: "its file has changed" in fetcher.fault)
    assert stored.missing_bytes == 1000


def test_a_server_without_ranges_is_refused(host, store, fetcher):
    host.before = lambda _start, _end: 200
    stored = store.open(host.put(1000))
    fetcher.set_host("127.0.0.1", host.port)
    fetcher.want([stored])
    until(lambda: "answered 200" in fetcher.fault)
    assert stored.missing_bytes == 1000


def test_wrong_bytes_are_fetched_again_and_given_up_in_the_end(host, store, fetcher):
    track = host.put(100_000)
    good = host.tracks[track.content_id.hex()]
    host.tracks[track.content_id.hex()] = bytes(100_000)
    stored = store.open(track)
    fetcher.set_host("127.0.0.1", host.port)
    fetcher.want([stored])
    until(lambda: stored.failure)
    assert stored.mismatches == 3
    assert fetcher.bytes_fetched == 300_000
    host.tracks[track.content_id.hex()] = good
    again = store.open(track)
    fetcher.want([again])
    until(lambda: again.complete)


def test_what_is_not_wanted_any_more_is_not_fetched(host, store, fetcher):
    first, second = store.open(host.put(2_000_000, 1)), store.open(host.put(1000, 2))
    fetcher.set_host("127.0.0.1", host.port)
    gate = threading.Semaphore(0)
    host.before = lambda _start, _end: (gate.acquire(timeout=PATIENCE_S), 0)[1]
    fetcher.want([first])
    until(lambda: host.requests)
    fetcher.want([second])
    for _ in range(10):
        gate.release()
    until(lambda: second.complete)
    assert len(host.requests) == 2
    assert not first.complete


def test_closing_does_not_wait_for_a_host_that_hangs(host, store):
    gate = threading.Event()
    host.before = lambda _start, _end: (gate.wait(PATIENCE_S), 0)[1]
    fetcher = Fetcher(TOKEN)
    fetcher.set_host("127.0.0.1", host.port)
    fetcher.want([store.open(host.put(1000))])
    until(lambda: host.requests)
    fetcher.close()
    assert not fetcher._thread.is_alive()
    gate.set()


def test_another_host_is_asked_at_once_when_the_first_hangs(host, store, fetcher):
    gate = threading.Event()
    host.before = lambda _start, _end: (gate.wait(PATIENCE_S), 0)[1]
    track = host.put(1000)
    other = Host()
    other.tracks.update(host.tracks)
    stored = store.open(track)
    fetcher.set_host("127.0.0.1", host.port)
    fetcher.want([stored])
    until(lambda: host.requests)
    fetcher.set_host("127.0.0.1", other.port)
    until(lambda: stored.complete)
    gate.set()
    other.close()


def test_requests_shrink_on_a_slow_network_and_grow_on_a_fast_one():
    fetcher = Fetcher("")
    fetcher.close()
    fetcher._adapt(100, 1_000_000)
    assert fetcher._request_bytes == fetch.MIN_REQUEST_BYTES, "a short answer says nothing of the network"
    for _ in range(20):
        fetcher._adapt(fetcher._request_bytes, 1_000_000)
    assert fetcher._request_bytes == fetch.MAX_REQUEST_BYTES
    fetcher._adapt(fetcher._request_bytes, fetch.REQUEST_DURATION_NS)
    assert fetcher._request_bytes == fetch.MAX_REQUEST_BYTES
    for _ in range(20):
        fetcher._adapt(fetcher._request_bytes, 3 * fetch.REQUEST_DURATION_NS)
    assert fetcher._request_bytes == fetch.MIN_REQUEST_BYTES
