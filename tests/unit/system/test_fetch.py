from __future__ import annotations

import gc
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
from musicsyncd.media.store import Store, StoredTrack
from musicsyncd.playback.timeline import Track
from musicsyncd.system import fetch
from musicsyncd.system.fetch import DUE_HEADER, MAX_DUE_MS, Fetcher, Wanted
from musicsyncd.units import NS_PER_S

PATIENCE_S = 20.0
TOKEN = "secret"


def until(true: Callable[[], object]) -> None:
    """Wait for the fetching thread; the time is only what a machine that hangs gets before the test fails."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline_s, "it never came"
        os.sched_yield()


def plain(tracks) -> list[Wanted]:
    """Return tracks of which it is not known when they are due."""
    return [Wanted(stored) for stored in tracks]


class Host:
    """Serves bytes by their hash, with ranges, and misbehaves on demand.

    ``before`` is called with each request's (start, end) and may return a status to answer with, or a number of
    bytes after which the connection is closed as a negative number.
    """

    def __init__(self, address: str = "127.0.0.1") -> None:
        self.tracks: dict[str, bytes] = {}
        self.requests: list[tuple[str, int, int]] = []
        self.dues_ms: list[int] = []
        self.connections = 0
        self.before: Callable[[int, int], int] = lambda _start, _end: 0
        self.content_range = "bytes {}-{}/{}"
        self.length: int | None = None
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

        class Server(ThreadingHTTPServer):
            address_family = socket.AF_INET6 if ":" in address else socket.AF_INET

        self.server = Server((address, 0), Handler)
        self.server.daemon_threads = True
        self.server.handle_error = lambda *_args: None  # Connections are broken off here on purpose.
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", handler.headers["Range"])
        start, end = int(match[1]), int(match[2]) + 1
        name = handler.path.removeprefix("/media/")
        self.dues_ms.append(int(handler.headers[DUE_HEADER]))
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
        handler.send_header("Content-Length", str(end - start if self.length is None else self.length))
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
    fetcher.want(plain([stored]))
    until(lambda: stored.complete)
    assert stored.reader().read() == host.tracks[track.content_id.hex()]
    assert fetcher.bytes_fetched == 3_000_000
    assert host.connections == 1
    ranges = sorted((start, end) for _name, start, end in host.requests)
    assert [start for start, _ in ranges] == [0, *[end for _, end in ranges[:-1]]], "no byte twice, none left out"
    assert fetcher.fault == ""
    assert len(host.requests) < 3_000_000 // fetch.MIN_REQUEST_BYTES, "requests grow on a fast network"


def test_a_host_may_have_an_ipv6_address(store, fetcher):
    host = Host("::1")
    stored = store.open(host.put(1000))
    fetcher.set_host("::1", host.port)
    fetcher.want(plain([stored]))
    until(lambda: stored.complete)
    host.close()


def test_what_a_reader_waits_for_comes_first(host, store, fetcher):
    track = host.put(4_000_000)
    stored = store.open(track)
    gate = threading.Semaphore(0)
    host.before = lambda _start, _end: (gate.acquire(timeout=PATIENCE_S), 0)[1]
    fetcher.set_host("127.0.0.1", host.port)
    fetcher.want(plain([stored]))
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
    fetcher.want(plain(tracks))
    fetcher.set_host("127.0.0.1", host.port)
    until(lambda: all(stored.complete for stored in tracks))
    seen = [(name == first.content_id.hex(), start) for name, start, _end in host.requests]
    assert seen[0] == (True, 150_100)
    following = [index for index, (is_first, _start) in enumerate(seen) if not is_first]
    behind = [index for index, (is_first, start) in enumerate(seen) if is_first and start < 150_000]
    assert max(following) < min(behind)


def test_an_answer_that_breaks_off_is_gone_on_with(host, store, fetcher):
    track = host.put(300_000)
    orders = [-1000, -20_000, 503, 0]
    host.before = lambda _start, _end: orders.pop(0) if orders else 0
    stored = store.open(track)
    fetcher.set_host("127.0.0.1", host.port)
    fetcher.want(plain([stored]))
    until(lambda: stored.complete)
    assert fetcher.bytes_fetched == 300_000
    assert [request[1] for request in host.requests[:4]] == [0, 1000, 21_000, 21_000]
    until(lambda: fetcher.fault == "")


def test_a_connection_that_was_closed_while_idle_is_no_fault(host, store, fetcher):
    stored = [store.open(host.put(1000, seed)) for seed in (1, 2)]
    fetcher.set_host("127.0.0.1", host.port)
    fetcher.want(plain(stored[:1]))
    until(lambda: stored[0].complete)
    # What a server does with a connection that was idle for too long.
    fetcher._connection.sock.shutdown(socket.SHUT_WR)
    faults = set()
    fetcher.want(plain(stored))
    until(lambda: faults.add(fetcher.fault) or stored[1].complete)
    assert faults == {""}
    assert host.connections == 2


def test_a_host_that_is_not_there_is_a_fault_until_it_comes(host, store, fetcher):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        fetcher.set_host("127.0.0.1", nobody.getsockname()[1])
        stored = store.open(host.put(1000))
        fetcher.want(plain([stored]))
        until(lambda: re.fullmatch(r"cannot fetch from 127\.0\.0\.1:\d+: Connection refused", fetcher.fault))
        fetcher.set_host("127.0.0.1", host.port)
        until(lambda: stored.complete)
    until(lambda: fetcher.fault == "")


def test_a_track_that_the_host_does_not_have_is_given_up_and_the_next_one_fetched(host, store, fetcher):
    lost = store.open(Track(bytes(32), 500, 44_100, 100, 2))
    other = store.open(host.put(1000))
    fetcher.set_host("127.0.0.1", host.port)
    fetcher.want(plain([lost, other]))
    until(lambda: other.complete)
    assert "the host no longer has track 000000000000" in lost.failure
    assert len([name for name, _s, _e in host.requests if name == "00" * 32]) == fetch.MAX_REFUSALS
    with pytest.raises(MediaError, match="no longer has"):
        lost.reader().read(1)


def test_a_wrong_key_is_said(host, store):
    stranger = Fetcher("guess")
    stranger.set_host("127.0.0.1", host.port)
    stored = store.open(host.put(1000))
    stranger.want(plain([stored]))
    until(lambda: "does not accept this room's key" in stranger.fault)
    stranger.close()
    assert stored.missing_bytes == 1000
    assert not stored.failure


def test_a_file_that_changed_on_the_host_is_not_mixed_in(host, store, fetcher):
    track = host.put(1000)
    host.content_range = "bytes {}-{}/77777"
    stored = store.open(track)
    fetcher.set_host("127.0.0.1", host.port)
    fetcher.want(plain([stored]))
    until(lambda: "its file has changed" in fetcher.fault)
    assert stored.missing_bytes == 1000


def test_a_server_without_ranges_is_refused(host, store, fetcher):
    host.before = lambda _start, _end: 200
    stored = store.open(host.put(1000))
    fetcher.set_host("127.0.0.1", host.port)
    fetcher.want(plain([stored]))
    until(lambda: "answered 200" in fetcher.fault)
    assert stored.missing_bytes == 1000


def test_wrong_bytes_are_fetched_again_and_given_up_in_the_end(host, store, fetcher):
    track = host.put(100_000)
    good = host.tracks[track.content_id.hex()]
    host.tracks[track.content_id.hex()] = bytes(100_000)
    stored = store.open(track)
    fetcher.set_host("127.0.0.1", host.port)
    fetcher.want(plain([stored]))
    until(lambda: stored.failure)
    assert stored.mismatches == 3
    assert fetcher.bytes_fetched == 300_000
    host.tracks[track.content_id.hex()] = good
    again = store.open(track)
    fetcher.want(plain([again]))
    until(lambda: again.complete)


def test_what_is_not_wanted_any_more_is_not_fetched(host, store, fetcher):
    first, second = store.open(host.put(2_000_000, 1)), store.open(host.put(1000, 2))
    fetcher.set_host("127.0.0.1", host.port)
    gate = threading.Semaphore(0)
    host.before = lambda _start, _end: (gate.acquire(timeout=PATIENCE_S), 0)[1]
    fetcher.want(plain([first]))
    until(lambda: host.requests)
    fetcher.want(plain([second]))
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
    fetcher.want(plain([store.open(host.put(1000))]))
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
    fetcher.want(plain([stored]))
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


# -- what is due when ------------------------------------------------------------------------------


def due_in(stored, seconds: float, bytes_per_s: float = 0.0) -> Wanted:
    """Return a track whose next byte is due in so many seconds."""
    return Wanted(stored, time.monotonic_ns() + round(seconds * NS_PER_S), NS_PER_S / bytes_per_s if bytes_per_s else 0)


def test_what_is_due_first_is_asked_for_first_whatever_the_order(host, store, fetcher):
    late, soon = store.open(host.put(100_000, 1)), store.open(host.put(100_000, 2))
    fetcher.want([due_in(late, 500), due_in(soon, 100)])
    fetcher.set_host("127.0.0.1", host.port)
    until(lambda: late.complete and soon.complete)
    names = [name for name, _start, _end in host.requests]
    assert names == sorted(names, key=lambda name: name != soon.track.content_id.hex())


def test_the_host_is_told_when_each_range_is_due(host, store, fetcher):
    stored = store.open(host.put(400_000))
    fetcher.want([due_in(stored, 60, bytes_per_s=10_000)])
    fetcher.set_host("127.0.0.1", host.port)
    until(lambda: stored.complete)
    for (_name, start, _end), due_ms in zip(host.requests, host.dues_ms, strict=True):
        assert 60_000 + start / 10 - 1000 * PATIENCE_S <= due_ms <= 60_000 + start / 10


def test_what_is_overdue_is_due_now_and_what_nobody_waits_for_much_later(host, store, fetcher):
    track = host.put(100_000)
    stored = store.open(track)
    stored.write(50_000, host.tracks[track.content_id.hex()][50_000:60_000])
    reader = stored.reader()
    reader.seek(50_000)
    reader.read(10_000)
    fetcher.want([due_in(stored, -5)])
    fetcher.set_host("127.0.0.1", host.port)
    until(lambda: stored.complete)
    for (_name, start, _end), due_ms in zip(host.requests, host.dues_ms, strict=True):
        assert due_ms == (0 if start >= 60_000 else MAX_DUE_MS)


def test_no_more_than_a_few_seconds_of_sound_are_asked_for_at_a_time(host, store, fetcher):
    stored = store.open(host.put(3_000_000))
    fetcher.want([due_in(stored, 5, bytes_per_s=25_000)])
    fetcher.set_host("127.0.0.1", host.port)
    until(lambda: stored.complete)
    assert max(end - start for _name, start, end in host.requests) == 100_000


def test_on_a_slow_link_half_a_second_of_sound_is_asked_for_at_a_time_nevertheless(host, store, fetcher):
    stored = store.open(host.put(2_000_000))
    fetcher._adapt = lambda *_args: None  # As on a network on which every answer takes long.
    fetcher.want([due_in(stored, 5, bytes_per_s=300_000)])
    fetcher.set_host("127.0.0.1", host.port)
    until(lambda: stored.complete)
    sizes = [end - start for _name, start, end in sorted(host.requests, key=lambda request: request[1])]
    least = fetch.MIN_REQUEST_BYTES
    assert sizes[:5] == [least, 2 * least, 4 * least, 150_000, 150_000]


def test_at_a_new_place_requests_are_small_and_grow(host, store, fetcher):
    stored = store.open(host.put(8_000_000))
    fetcher._request_bytes = fetch.MAX_REQUEST_BYTES
    fetcher._adapt = lambda *_args: None
    gate = threading.Semaphore(0)
    host.before = lambda _start, _end: (gate.acquire(timeout=PATIENCE_S), 0)[1]
    fetcher.want(plain([stored]))
    fetcher.set_host("127.0.0.1", host.port)
    for count in range(1, 5):
        until(lambda count=count: len(host.requests) == count)
        if count == 4:
            reader = stored.reader(timeout_s=PATIENCE_S)
            reader.seek(5_000_000)
            thread = threading.Thread(target=reader.read, args=(10,))
            thread.start()
            until(lambda: stored.wanted_offset == 5_000_000)
        gate.release()
    until(lambda: len(host.requests) == 5)
    for _ in range(1000):
        gate.release()
    thread.join(PATIENCE_S)
    sizes = [end - start for _name, start, end in host.requests]
    least = fetch.MIN_REQUEST_BYTES
    assert sizes[:4] == [least, 2 * least, 4 * least, 8 * least]
    assert (host.requests[4][1], sizes[4]) == (5_000_000, least)
    until(lambda: stored.complete)
    assert fetcher.bytes_fetched == 8_000_000


def test_a_request_that_waits_gives_way_to_what_is_due_much_sooner(host, store, fetcher):
    late, soon = store.open(host.put(1000, 1)), store.open(host.put(1000, 2))
    gate = threading.Event()
    host.before = lambda _start, _end: (gate.wait(PATIENCE_S), 0)[1] if len(host.requests) == 1 else 0
    fetcher.want([due_in(late, 60)])
    fetcher.set_host("127.0.0.1", host.port)
    until(lambda: host.requests)
    fetcher.want([due_in(late, 60), due_in(soon, 1)])
    until(lambda: soon.complete)
    gate.set()
    until(lambda: late.complete)
    assert fetcher.bytes_fetched == 2000
    assert fetcher.fault == ""


def test_a_request_that_waits_does_not_give_way_to_what_is_due_hardly_sooner(host, store, fetcher):
    first, second = store.open(host.put(1000, 1)), store.open(host.put(1000, 2))
    gate = threading.Event()
    host.before = lambda _start, _end: (gate.wait(PATIENCE_S), 0)[1] if len(host.requests) == 1 else 0
    fetcher.want([due_in(first, 60)])
    fetcher.set_host("127.0.0.1", host.port)
    until(lambda: host.requests)
    asked = []
    overtaken = fetcher._is_overtaken
    fetcher._is_overtaken = lambda job: asked.append(overtaken(job)) or asked[-1]
    fetcher.want([due_in(first, 60), due_in(second, 59.8)])
    until(lambda: len(asked) >= 2)
    gate.set()
    until(lambda: first.complete and second.complete)
    assert asked[0] is False
    assert len(host.requests) == 2


def test_how_fast_it_comes_is_known(host, store, fetcher):
    assert fetcher.bytes_per_s == 0.0
    stored = store.open(host.put(1_000_000))
    began_s = time.monotonic()
    fetcher.want(plain([stored]))
    fetcher.set_host("127.0.0.1", host.port)
    until(lambda: stored.complete)
    until(lambda: fetcher.bytes_per_s > 0)
    assert fetcher.bytes_per_s > fetch.MIN_REQUEST_BYTES / (time.monotonic() - began_s)


# -- restarts --------------------------------------------------------------------------------------


def test_no_byte_is_fetched_twice_when_the_peer_is_started_anew(host, tmp_path):
    track = host.put(1_000_000)
    host.before = lambda start, _end: -10_000 if 300_000 <= start < 400_000 and not gone else 0
    gone: list[int] = []

    def start():
        one = Fetcher(TOKEN)
        stored = Store(tmp_path / "kept", 1 << 30, disk=lambda _folder: (1 << 40, 1 << 40), boot_id="run 1").open(track)
        one.set_host("127.0.0.1", host.port)
        one.want(plain([stored]))
        return one, stored

    fetcher, stored = start()
    until(lambda: stored.missing_bytes < 600_000)
    fetcher.close()
    had = 1_000_000 - stored.missing_bytes
    assert 400_000 < had <= 1_000_000
    gone.append(1)
    del stored
    gc.collect()
    fetcher, stored = start()
    until(lambda: stored.complete)
    assert fetcher.bytes_fetched == 1_000_000 - had
    fetcher.close()


def test_what_is_there_and_was_not_verified_is_verified_without_asking(host, store, fetcher, monkeypatch):
    track = host.put(1000)
    stored = store.open(track)
    with monkeypatch.context() as patched:
        patched.setattr(StoredTrack, "verify", lambda _self: None)
        stored.write(0, host.tracks[track.content_id.hex()])
    fetcher.set_host("127.0.0.1", host.port)
    fetcher.want(plain([stored]))
    until(lambda: stored.complete)
    assert host.requests == []


def test_a_disk_that_is_full_is_a_fault_until_there_is_room(host, tmp_path, fetcher):
    free = [1 << 40]
    store = Store(tmp_path / "small", 1 << 30, disk=lambda _folder: (free[0], 1 << 40))
    stored = store.open(host.put(300_000))
    free[0] = 0
    fetcher.set_host("127.0.0.1", host.port)
    fetcher.want(plain([stored]))
    until(lambda: "disk full" in fetcher.fault)
    assert stored.missing_bytes == 300_000
    free[0] = 1 << 40
    until(lambda: stored.complete)
    until(lambda: fetcher.fault == "")


@pytest.mark.parametrize("length", [0, 5, 100_000, 1 << 62])
def test_a_host_that_lies_about_lengths_is_found_out(host, store, fetcher, length):
    stored = store.open(host.put(30_000))
    host.length = length
    fetcher.set_host("127.0.0.1", host.port)
    fetcher.want(plain([stored]))
    until(lambda: f"the host sent {length} bytes where 30000 were asked for" in fetcher.fault)
    assert stored.missing_bytes == 30_000
    host.length = None
    until(lambda: stored.complete)
