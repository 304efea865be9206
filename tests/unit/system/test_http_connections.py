"""How many connections there may be, what a stranger gets, and what goes wrong in them; in part over real sockets."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import resource
import socket
import struct

import pytest
from aiohttp import web
from http_rig import TOKEN, run
from hypothesis import given
from hypothesis import strategies as st

from musicsyncd.system import http_connections as module
from musicsyncd.system import http_server
from musicsyncd.system.http_connections import (
    HEADERS,
    MAX_CONNECTIONS,
    MAX_CONNECTIONS_A_SOURCE,
    MAX_LOCAL_CONNECTIONS,
    MAX_STRANGERS,
    MAX_STRANGERS_A_SOURCE,
    Connections,
    caller_of,
    connections_possible,
)
from musicsyncd.system.http_guard import LOCAL, REQUESTS_AT_ONCE, Caller

# -- how many --------------------------------------------------------------------------------------


class Socket:
    """What a transport has of its socket: its family, and who is at the other end of a Unix socket."""

    def __init__(self, uid: int | None, groups: tuple[int, ...] = ()) -> None:
        self.family = socket.AF_INET if uid is None else socket.AF_UNIX
        self._uid = uid
        self._groups = groups

    def getsockname(self) -> str:
        return "/run/m/host.sock"

    def getsockopt(self, level: int, option: int, size: int) -> bytes:
        if option == 59:
            return struct.pack(f"{len(self._groups)}I", *self._groups)
        assert (level, option, size) == (socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        return struct.pack("iII", 1, self._uid, self._uid)


class Transport:
    """A connection from an address, or over the Unix socket from a user."""

    def __init__(self, address: str = "", uid: int | None = None, groups: tuple[int, ...] = ()) -> None:
        self.aborted = False
        self._info = {"socket": Socket(uid, groups), "peername": (address, 5000), "sockname": ("192.0.2.1", 7783)}

    def get_extra_info(self, name: str) -> object:
        return self._info.get(name)

    def abort(self) -> None:
        self.aborted = True


class Crowd:
    """Connections that are made one after the other; each is known by its transport."""

    def __init__(self, most: int = MAX_CONNECTIONS) -> None:
        self.connections = Connections(most)
        self.all: list[Transport] = []

    def come(self, address: str = "", uid: int | None = None, *, known: bool = False) -> Transport:
        transport = Transport(address, uid)
        self.connections.made(transport, transport)
        self.all.append(transport)
        if known:
            self.connections.known(transport)
        return transport

    def here(self) -> list[Transport]:
        return [one for one in self.all if not one.aborted]


def in_loop(test) -> None:
    async def whole():
        test()

    asyncio.run(whole())


def test_of_one_address_the_oldest_stranger_goes():
    def test():
        crowd = Crowd()
        for _ in range(MAX_STRANGERS_A_SOURCE + 3):
            crowd.come("192.0.2.7")
        other = crowd.come("192.0.2.8")
        assert crowd.here() == [*crowd.all[3:-1], other]

    in_loop(test)


def test_of_many_addresses_the_oldest_stranger_goes_and_nobody_who_is_known():
    def test():
        crowd = Crowd()
        known = crowd.come("192.0.2.200", known=True)
        for number in range(MAX_STRANGERS + 5):
            crowd.come(f"198.51.100.{number}")
        assert crowd.here() == [known, *crowd.all[6:]]

    in_loop(test)


def test_an_address_has_so_many_connections_known_ones_included():
    def test():
        crowd = Crowd()
        known = [crowd.come("192.0.2.7", known=True) for _ in range(MAX_CONNECTIONS_A_SOURCE)]
        assert crowd.come("192.0.2.7").aborted
        crowd.connections.lost(known[0])
        assert not crowd.come("192.0.2.7", known=True).aborted
        assert not any(one.aborted for one in known)

    in_loop(test)


def test_there_are_no_more_than_the_most_and_who_is_known_stays():
    def test():
        crowd = Crowd(most=50)
        known = [crowd.come(f"192.0.2.{number}", known=True) for number in range(40)]
        strangers = [crowd.come(f"198.51.100.{number}") for number in range(30)]
        assert len(crowd.here()) == 50
        assert not any(one.aborted for one in known)
        assert crowd.here()[40:] == strangers[20:]
        for one in strangers[20:]:
            crowd.connections.known(one)
        assert crowd.come("203.0.113.1").aborted

    in_loop(test)


def test_the_unix_socket_is_counted_apart_and_has_its_own_most():
    def test():
        crowd = Crowd(most=1)
        crowd.come("192.0.2.7", known=True)
        local = [crowd.come(uid=os.getuid()) for _ in range(MAX_LOCAL_CONNECTIONS)]
        assert not any(one.aborted for one in local)
        assert crowd.come(uid=os.getuid()).aborted
        crowd.connections.lost(local[0])
        assert not crowd.come(uid=os.getuid()).aborted

    in_loop(test)


@pytest.mark.parametrize(("uid", "let_in"), [(0, True), (1000, True), (1001, False)])
def test_the_unix_socket_is_for_its_own_user_and_root(monkeypatch, uid, let_in):
    monkeypatch.setattr(module.os, "getuid", lambda: 1000)
    in_loop(lambda: pytest.fail("judged wrongly") if Crowd().come(uid=uid).aborted == let_in else None)


@pytest.mark.parametrize(
    ("folder", "groups", "let_in"),
    [("/run/m", (5, 1000), True), ("/run/m", (5,), False), ("/run/other", (5, 1000), False), ("", (1000,), False)],
)
def test_a_services_group_may_too_where_systemd_made_the_folder(monkeypatch, folder, groups, let_in):
    monkeypatch.setattr(module.os, "getuid", lambda: 1000)
    monkeypatch.setattr(module.os, "getgid", lambda: 1000)
    monkeypatch.setenv("RUNTIME_DIRECTORY", folder)
    transport = Transport(uid=1001, groups=groups)
    in_loop(lambda: Connections().made(object(), transport))
    assert transport.aborted != let_in


def test_the_kernel_tells_the_groups_of_who_connects():
    one, other = socket.socketpair(socket.AF_UNIX)
    with one, other:
        told = one.getsockopt(socket.SOL_SOCKET, module._SO_PEERGROUPS, 4 * module._MAX_GROUPS)
    assert sorted(struct.unpack(f"{len(told) // 4}I", told)) == sorted(os.getgroups())


def test_a_strangers_time_ends_with_its_first_request_that_is_let_in(monkeypatch):
    monkeypatch.setattr(module, "STRANGER_S", 0.0)

    async def whole():
        faults: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: faults.append(context))
        crowd = Crowd()
        known, gone, stranger = crowd.come("192.0.2.7", known=True), crowd.come("192.0.2.8"), crowd.come("192.0.2.9")
        crowd.connections.lost(gone)
        async with asyncio.timeout(20):
            while not stranger.aborted:  # noqa: ASYNC110 - for a timer of no length
                await asyncio.sleep(0)
        assert (known.aborted, gone.aborted, faults) == (False, False, [])

    asyncio.run(whole())


def test_who_is_at_the_other_end():
    assert caller_of(Transport("::ffff:192.0.2.7")) == Caller(False, "192.0.2.7", 7783)
    assert caller_of(Transport("fe80::1%eth0")) == Caller(False, "fe80::1%eth0", 7783)
    assert caller_of(Transport(uid=0)) == LOCAL


@given(st.lists(st.tuples(st.sampled_from(["come", "known", "lost"]), st.integers(0, 5), st.integers(0, 40))))
def test_the_books_are_right_whatever_comes_and_goes(steps):
    def test():
        crowd = Crowd(most=20)
        for what, source, which in steps:
            if what == "come":
                crowd.come(f"192.0.2.{source}")
            elif crowd.here():
                one = crowd.here()[which % len(crowd.here())]
                getattr(crowd.connections, what)(one)
                if what == "lost":
                    one.aborted = True
            assert len(crowd.here()) <= 20
            assert set(crowd.connections._addresses) == set(crowd.here())
            assert crowd.connections._strangers.keys() <= set(crowd.here())
            assert sum(crowd.connections._of_source.values()) == len(crowd.here())
            assert 0 not in crowd.connections._of_source.values()

    in_loop(test)


@pytest.mark.parametrize(
    ("soft", "hard", "possible", "then"),
    [
        (1024, 4096, MAX_CONNECTIONS, 2176),
        (1024, 1024, 448, None),
        (64, 64, MAX_STRANGERS_A_SOURCE, None),
        (1024, resource.RLIM_INFINITY, MAX_CONNECTIONS, 2176),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, MAX_CONNECTIONS, None),
        (1 << 20, 1 << 20, MAX_CONNECTIONS, None),
    ],
)
def test_there_are_no_more_than_there_are_descriptors_for(monkeypatch, soft, hard, possible, then):
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(module.resource, "getrlimit", lambda _which: (soft, hard))
    monkeypatch.setattr(module.resource, "setrlimit", lambda _which, limits: asked.append(limits))
    assert connections_possible() == possible
    assert [one for one in asked if one[0] != soft] == ([] if then is None else [(then, hard)])


# -- over the wire ---------------------------------------------------------------------------------


async def exchange(client, raw: bytes) -> bytes:
    """Send bytes, and return all that is answered until the other side closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    try:
        writer.write(raw)
        async with asyncio.timeout(20):
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


def request(client, line: str = "GET /api/status HTTP/1.1", *more: str, token: str = TOKEN, body: bytes = b"") -> bytes:
    """Return the bytes of a request that has the token and asks for the connection to be closed."""
    headers = (f"Host: 127.0.0.1:{client.port}", f"Authorization: Bearer {token}", "Connection: close", *more)
    return "\r\n".join((line, *headers, "", "")).encode("latin-1") + body


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer else 0


def headers_of(answer: bytes) -> dict[str, str]:
    lines = answer.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")[1:]
    return dict(line.split(": ", 1) for line in lines)


def dressed(answer: bytes) -> bool:
    """Return whether an answer has the headers of all answers, and none that says what runs here."""
    headers = headers_of(answer)
    lower = answer.lower()
    return "Server" not in headers and HEADERS.items() <= headers.items() and b"aiohttp" not in lower


def test_every_kind_of_answer_says_nothing_of_what_runs_here_and_has_the_safe_headers(tmp_path, caplog):
    async def test(client):
        for raw, status in (
            (request(client), 200),
            (request(client, token="wrong"), 401),
            (request(client, "GET /api/nowhere HTTP/1.1"), 404),
            (request(client, "GET /api/nowhere HTTP/1.1", token="wrong"), 401),
            (request(client, "PUT /api/status HTTP/1.1"), 405),
            (request(client, "PUT /api/status HTTP/1.1", token="wrong"), 401),
            (request(client, f"GET /media/{'0' * 64} HTTP/1.1"), 404),
            (request(client, "GET /api/status HTTP/1.1", "Origin: http://evil.example"), 403),
            (request(client).replace(b"127.0.0.1", b"evil.example"), 421),
            (request(client, "GET /api/status HTTP/1.1", "Expect: miracles"), 417),
            (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(300), 400),
            (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nbad header\xff\xfe\r\n\r\n", 400),
        ):
            answer = await exchange(client, raw)
            assert status_of(answer) == status, (raw, answer)
            assert dressed(answer), answer

    run(test, tmp_path)
    assert "Traceback" not in caplog.text
    assert "Bearer" not in caplog.text


def test_what_is_no_http_is_answered_without_a_word_of_why(tmp_path):
    async def test(client):
        for raw in (b"<script>alert(1)</script>\r\n\r\n", b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\n\r\n"):
            head, _, body = (await exchange(client, raw)).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.0 400 Bad Request\r\n")
            assert body == b""

    run(test, tmp_path)


@pytest.mark.parametrize(
    "headers",
    [
        [f"X-A: {'x' * 3000}"],
        [f"X-{number}: x" for number in range(module.MAX_HEADERS + 5)],
        [f"{'x' * 3000}: x"],
        ["Content-Length: 5", "Transfer-Encoding: chunked"],
        ["Content-Length: -5"],
        ["Content-Length: 5", "Content-Length: 6"],
    ],
)
def test_headers_that_are_too_long_too_many_or_contradict_each_other_are_no_http(tmp_path, headers, caplog):
    async def test(client):
        assert status_of(await exchange(client, request(client, "GET /api/status HTTP/1.1", *headers))) == 400
        assert status_of(await exchange(client, request(client))) == 200

    run(test, tmp_path)
    assert "Traceback" not in caplog.text


def test_a_host_or_token_of_any_bytes_is_refused_and_no_fault(tmp_path, caplog):
    async def test(client):
        good = request(client)
        host = f"127.0.0.1:{client.port}".encode()
        for changed, status in (
            (good.replace(TOKEN.encode(), b"\xff\xfe\xed"), 401),
            (good.replace(host, b"\xff\xfe"), 421),
            (good.replace(b"Host: ", b"X: "), 421),
            (good.replace(host, host + b"\r\nHost: " + host), 400),
            (good.replace(b"/api/status", b"http://evil.example/api/status"), 421),
            (good.replace(b"/api/status", b"//evil.example/api/status"), 404),
            (good.replace(b"GET /api/status", b"CONNECT evil.example:80"), 421),
            (good.replace(b"GET /api/status", b"OPTIONS *"), 421),
        ):
            answer = await exchange(client, changed)
            assert status_of(answer) in (status, 400), (changed, answer)
            assert b"rooms" not in answer

    run(test, tmp_path)
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize("path", ["/api/rooms/main/volume", "/api/nowhere"])
def test_who_expects_to_be_told_to_go_on_is_not_without_the_token(tmp_path, path, monkeypatch):
    monkeypatch.setitem(module._LIMITS, "lingering_time", 0.1)

    async def test(client):
        lines = (f"POST {path} HTTP/1.1", "Expect: 100-continue", "Content-Length: 15")
        answer = await exchange(client, request(client, *lines, token="wrong"))
        assert answer.startswith(b"HTTP/1.1 401 ")
        answer = await exchange(client, request(client, *lines, body=b'{"volume":"33"}'))
        assert answer.startswith(b"HTTP/1.1 100 ")

    run(test, tmp_path)


def test_a_refused_connection_is_closed_and_its_body_is_not_kept(tmp_path, monkeypatch):
    async def test(client):
        # Both in one go: the second must not be looked at any more.
        two = request(client, token="wrong").replace(b"Connection: close\r\n", b"") + request(client)
        answer = await exchange(client, two)
        assert answer.count(b"HTTP/1.1 ") == 1
        assert status_of(answer) == 401

    run(test, tmp_path)


@pytest.mark.parametrize("sent", [0, 1, -1])
def test_a_stranger_that_sends_nothing_or_never_ends_its_header_has_a_time(tmp_path, monkeypatch, sent):
    monkeypatch.setattr(module, "STRANGER_S", 0.1)

    async def test(client):
        assert await exchange(client, request(client)[:sent]) == b""
        assert client.server._connections._addresses == {}

    run(test, tmp_path)


def test_who_is_known_has_longer_but_no_header_may_take_for_ever(tmp_path, monkeypatch):
    monkeypatch.setitem(module._LIMITS, "keepalive_timeout", 0.3)

    async def test(client):
        reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
        kept = request(client).replace(b"Connection: close\r\n", b"")
        writer.write(kept)
        await reader.readuntil(b"\r\n\r\n")
        assert client.server._connections._strangers == {}
        writer.write(kept[:-2])
        async with asyncio.timeout(20):
            assert b"HTTP/1.1" not in await reader.read()
        writer.close()

    run(test, tmp_path)


def test_a_body_that_does_not_come_has_a_time_and_one_that_breaks_off_is_no_fault_of_ours(
    tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr(http_server, "BODY_S", 0.2)
    monkeypatch.setitem(module._LIMITS, "lingering_time", 0.1)

    async def test(client):
        post = "POST /api/rooms/main/volume HTTP/1.1"
        answer = await exchange(client, request(client, post, "Content-Length: 15", body=b'{"vol'))
        assert status_of(answer) == 408
        assert "did not come" in json.loads(answer.partition(b"\r\n\r\n")[2])["error"]
        packed = gzip.compress(b'{"volume": "33"}')
        length = f"Content-Length: {len(packed)}"
        answer = await exchange(client, request(client, post, "Content-Encoding: gzip", length, body=packed))
        assert status_of(answer) == 400, "it was unpacked"
        reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
        writer.write(request(client, post, "Transfer-Encoding: chunked", body=b'5\r\n{"vol\r\n'))
        async with asyncio.timeout(20):
            books = client.server._connections
            while books._strangers or not books._addresses:  # noqa: ASYNC110 - until its header was looked at
                await asyncio.sleep(0.001)
            writer.write(b"zz\r\n")
            # aiohttp's two parsers tell the reader of a body at once, or let it wait.
            assert status_of(await reader.read()) in (400, 408)
        writer.close()

        def broken():
            raise web.RequestPayloadError("as the parser without C has it read")

        monkeypatch.setattr(client.host.control, "status", broken)
        assert status_of(await exchange(client, request(client))) == 400

    run(test, tmp_path)
    assert "Traceback" not in caplog.text


def test_who_does_not_take_the_answer_is_let_go(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(http_server, "SEND_S", 0.2)

    async def test(client):
        client.host.control.status = lambda: {"x": "y" * (16 << 20)}
        reader, writer = await asyncio.open_connection("127.0.0.1", client.port, limit=1024)
        writer.write(request(client))
        async with asyncio.timeout(20):
            while not client.server._connections._addresses:  # noqa: ASYNC110 - nothing else tells
                await asyncio.sleep(0.01)
            while client.server._connections._addresses:  # noqa: ASYNC110 - nothing else tells
                await asyncio.sleep(0.01)
        writer.close()
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await reader.readexactly(16 << 20)
        assert client.server._connections._of_source == {}

    run(test, tmp_path)
    assert "Traceback" not in caplog.text


def test_a_crowd_of_strangers_does_not_keep_a_speaker_nor_a_local_command_out(tmp_path):
    async def test(client):
        crowd = [await asyncio.open_connection("127.0.0.1", client.port) for _ in range(60)]
        assert (await client.ask("GET", "/api/status"))[0] == 200
        assert (await client.ask("GET", "/api/status", local=True))[0] == 200
        assert len(client.server._connections._strangers) <= MAX_STRANGERS_A_SOURCE
        for _, writer in crowd:
            writer.close()

    run(test, tmp_path)


def test_too_many_requests_are_told_to_wait(tmp_path):
    async def test(client):
        statuses = {(await client.ask("GET", "/api/rooms/main/queue"))[0] for _ in range(REQUESTS_AT_ONCE)}
        assert statuses == {200}
        flood = b"".join(request(client).replace(b"Connection: close\r\n", b"") for _ in range(400))
        answers = await exchange(client, flood)
        assert b"HTTP/1.1 429 " in answers
        assert b"\r\nRetry-After: 1\r\n" in answers
        assert (await client.ask("GET", "/api/status", local=True))[0] == 200

    run(test, tmp_path)


def test_the_socket_takes_no_request_of_a_browser(tmp_path):
    async def test(client):
        for header in ("Origin", "Sec-Fetch-Site"):
            status, answer = await client.ask("GET", "/api/status", local=True, headers={header: "same-origin"})
            assert (status, list(answer)) == (403, ["error"])

    run(test, tmp_path)
