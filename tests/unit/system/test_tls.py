"""HTTPS with a certificate of the host's own, and that a connection without a handshake is a stranger's."""

from __future__ import annotations

import asyncio
import datetime
import hashlib
import socket
import ssl
import stat
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import pytest
from cryptography import x509
from host_rig import Host
from http_rig import KEYED, TOKEN, make_server
from loopback import free_port

from musicsyncd.errors import ConfigError
from musicsyncd.system import http_connections, tls
from musicsyncd.system.http_connections import MAX_STRANGERS_A_SOURCE
from musicsyncd.system.tls import YEARS, load_tls

NAMES = ("den", "den.local", "localhost")
ADDRESSES = ("127.0.0.1", "192.0.2.1", "::1", "fe80::1%eth0", "127.0.0.1")


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes().partition(b"-----END PRIVATE KEY-----\n")[2])


def test_a_certificate_names_the_machine_for_ten_years_and_is_made_once(tmp_path):
    path = tmp_path / "tls.pem"
    made = load_tls(path, 7784, NAMES, ADDRESSES)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    found = certificate(path)
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == list(NAMES)
    assert [str(one) for one in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "192.0.2.1", "::1"]
    left = found.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
    assert YEARS * 365 - 1 <= left.days <= YEARS * 365
    der = found.public_bytes(tls_encoding())
    assert made.secured.fingerprint.replace(":", "") == hashlib.sha256(der).hexdigest().upper()
    assert load_tls(path, 7784, ("other",), ()).secured == made.secured


def tls_encoding():
    from cryptography.hazmat.primitives.serialization import Encoding

    return Encoding.DER


def test_one_whose_time_is_over_is_made_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(tls, "YEARS", 0)
    path = tmp_path / "tls.pem"
    old = load_tls(path, 1, NAMES, ())
    monkeypatch.undo()
    assert load_tls(path, 1, NAMES, ()).secured.fingerprint != old.secured.fingerprint


@pytest.mark.parametrize(
    "data", [b"", b"nothing", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", b"\xff"]
)
def test_a_file_that_is_none_is_one_line_and_left_alone(tmp_path, data):
    path = tmp_path / "tls.pem"
    path.write_bytes(data)
    with pytest.raises(ConfigError, match=r"cannot use the certificate .*tls\.pem: .*remove it") as caught:
        load_tls(path, 1, NAMES, ())
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == data


def test_where_none_can_be_made_is_one_line(tmp_path):
    with pytest.raises(ConfigError, match="cannot use the certificate"):
        load_tls(tmp_path / "nowhere" / "tls.pem", 1, NAMES, ())


@asynccontextmanager
async def secured(folder: Path):
    host = Host(folder)
    port = free_port(socket.SOCK_STREAM)
    made = load_tls(folder / "tls.pem", port, NAMES, ADDRESSES)
    server = make_server(host, TOKEN, tls=made)
    await server.open(0, folder / "host.sock")
    context = ssl.create_default_context(cafile=folder / "tls.pem")
    async with aiohttp.ClientSession(
        f"https://127.0.0.1:{port}", connector=aiohttp.TCPConnector(ssl=context)
    ) as session:
        try:
            yield session, server, port
        finally:
            await session.close()
            await server.close()
            host.end()


def run(test, folder: Path) -> None:
    async def whole():
        async with secured(folder) as (session, server, port):
            await test(session, server, port)

    asyncio.run(asyncio.wait_for(whole(), 30.0))


def test_a_browser_that_trusts_the_certificate_is_served_and_its_cookie_stays_under_tls(tmp_path):
    async def test(session, server, port):
        async with session.get("/api/me", headers=KEYED) as response:
            assert (response.status, (await response.json())["tls_port"]) == (200, port)
        link, token = server.site.links.make("listen", "")
        origin = {"Origin": f"https://127.0.0.1:{port}"}
        async with session.post("/api/sign-in", json={"token": token}, headers=origin) as response:
            cookie = response.headers["Set-Cookie"]
            assert "Secure" in cookie.split("; ")
        page = {"Cookie": cookie.split(";")[0]}
        async with session.ws_connect("/api/events", headers=page | origin) as ws:
            assert (await ws.receive_json(timeout=5))["type"] == "status"
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await session.ws_connect("/api/events", headers=page | {"Origin": f"http://127.0.0.1:{port}"})
        assert link.role == "listen"

    run(test, tmp_path)


def test_who_speaks_no_tls_is_let_go_and_a_handshake_that_is_not_done_is_a_strangers(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(http_connections, "STRANGER_S", 0.3)

    async def test(session, server, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        assert b"HTTP" not in await asyncio.wait_for(reader.read(), 5)
        writer.close()
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(MAX_STRANGERS_A_SOURCE + 5)]
        # The oldest go for the others, at once, and those after their time.
        for reader, writer in silent:
            with suppress(ConnectionError):
                assert await asyncio.wait_for(reader.read(), 5) == b""
            writer.close()
        async with session.get("/healthz") as response:
            assert response.status == 200
        counted = server._connections
        assert (len(counted._strangers), len(counted._addresses)) <= (1, 1)

    run(test, tmp_path)
    assert "Traceback" not in caplog.text
