"""Links as people use them: made by the command, opened in a browser, taken back; over real processes and HTTP."""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import json
import ssl
import time
from typing import Any

import aiohttp
import jsonschema
import pytest
from house import House

LAG_MS = 250.0
"""From a command's answer to what a page is told: 20 ms of gathering, and a machine that does other things."""


@pytest.fixture(scope="module")
def host(house: House, songs: dict[str, Any]) -> House:
    library = house.folder / "music"
    library.mkdir()
    (library / "first.flac").symlink_to(songs["first"][0])
    house.host("--library", str(library), "--tls", "--tls-port", str(house.port + 1), str(songs["second"][0]))
    house.until("the library is read", lambda: house.client.get("/api/library")["tracks"] == 1)
    return house


def link(host: House, *words: str) -> dict[str, Any]:
    done = host.run("link", *words, "--json", "--state-dir", str(host.state))
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


class Page:
    """A browser's page, as far as its requests go."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.cookie = ""

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, dict[str, Any]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        headers = {"Origin": f"http://127.0.0.1:{self.port}"} | ({"Cookie": self.cookie} if self.cookie else {})
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        raw = answer.read()
        cookie = answer.headers.get("Set-Cookie", "").split(";")[0]
        self.cookie = cookie or self.cookie
        connection.close()
        return answer.status, json.loads(raw) if answer.headers.get_content_type() == "application/json" else {"": raw}

    def open(self, url: str) -> tuple[int, dict[str, Any]]:
        """Do what the page does when a link is opened."""
        assert self.ask("GET", "/")[0] == 200
        return self.ask("POST", "/api/sign-in", {"token": url.partition("#")[2]})


def test_a_link_opens_the_page_and_its_role_holds(host: House) -> None:
    made = link(host, "--role", "guest", "--for", "Ada")
    assert made["urls"][0].startswith(f"https://127.0.0.1:{host.port + 1}/#")
    page = Page(host.port)
    assert page.ask("GET", "/api/status")[0] == 401
    status, me = page.open(made["urls"][1])
    assert (status, me["role"], me["name"], me["host"]) == (200, "guest", "Ada", "host")
    before = len(host.queue())
    assert page.ask("POST", "/api/rooms/main/queue/add", {"search": "first"})[0] in (200, 409)
    assert page.ask("POST", "/api/rooms/main/queue/add", {"tracks": ["library:1"]})[0] == 200
    assert len(host.queue()) > before
    for path, body in (("next", {}), ("volume", {"volume": "5"}), ("queue/remove", {"positions": [1]})):
        status, answer = page.ask("POST", f"/api/rooms/main/{path}", body)
        assert (status, "your link is for" in answer["error"]) == (403, True)


def test_the_host_keeps_links_over_its_restart_and_forgets_revoked_ones(host: House) -> None:
    kept, gone = link(host, "--for", "kept"), link(host, "--for", "gone")
    pages = {one["name"]: Page(host.port) for one in (kept, gone)}
    for one in (kept, gone):
        assert pages[one["name"]].open(one["urls"][0])[0] == 200
    assert "revoked" in host.run("link", "revoke", gone["id"], "--state-dir", str(host.state)).stdout
    host.started[-1].stop()
    host.host("--library", str(host.folder / "music"), "--tls")
    assert pages["kept"].ask("GET", "/api/me")[0] == 200
    status, answer = pages["gone"].ask("GET", "/api/me")
    assert (status, "this link was revoked" in answer["error"]) == (401, True)
    shown = host.run("link", "list", "--json", "--state-dir", str(host.state)).stdout
    assert "kept" in [one["name"] for one in json.loads(shown)]
    assert "gone" not in shown


def test_a_page_is_told_of_a_command_at_once_and_of_its_end_when_its_link_goes(host: House) -> None:
    made = link(host)

    async def watch() -> None:
        headers = {"Authorization": f"Bearer {made['token']}"}
        async with (
            aiohttp.ClientSession(f"http://127.0.0.1:{host.port}", headers=headers) as session,
            session.ws_connect("/api/events") as ws,
        ):
            assert (await ws.receive_json(timeout=5))["type"] == "status"
            lags_ms = []
            for volume in range(10, 20):
                begin = time.monotonic()
                async with session.post("/api/rooms/main/volume", json={"volume": str(volume)}) as response:
                    assert response.status == 200
                while (told := await ws.receive_json(timeout=5)).get("rooms", [{}])[0].get("volume") != volume:
                    pass
                assert told["type"] == "status"
                lags_ms.append((time.monotonic() - begin) * 1000)
            assert sorted(lags_ms)[5] < LAG_MS, lags_ms
            done = await asyncio.to_thread(host.run, "link", "revoke", made["id"], "--state-dir", str(host.state))
            assert done.returncode == 0, done.stderr
            while (message := await ws.receive(timeout=5)).type == aiohttp.WSMsgType.TEXT:
                pass
            assert message.data == 4401
            async with session.get("/api/me") as response:
                assert response.status == 401

    asyncio.run(watch())


def test_under_tls_the_certificate_is_the_one_whose_fingerprint_was_shown(host: House) -> None:
    made = link(host, "--role", "listen")
    context = ssl.create_default_context(cafile=host.state / "host" / "tls.pem")
    connection = http.client.HTTPSConnection("127.0.0.1", host.port + 1, timeout=10, context=context)
    connection.connect()
    der = connection.sock.getpeercert(True)
    assert hashlib.sha256(der).hexdigest().upper() == made["fingerprint"].replace(":", "")
    connection.request("GET", "/api/me", headers={"Authorization": f"Bearer {made['token']}"})
    assert json.loads(connection.getresponse().read())["role"] == "listen"
    connection.close()
    done = host.run("link", "--state-dir", str(host.state))
    assert made["fingerprint"] in done.stdout


def test_what_a_real_host_says_is_as_its_description_says(host: House) -> None:
    described = host.client.get("/api/openapi.json")
    host.peer("lamp", "--output", "null")
    host.until("the speaker is here", lambda: host.speaker("lamp").get("reach") == "multicast")
    past = "/api/history?peer=lamp&seconds=60"
    host.until("its past begins", lambda: any(one["ago_s"] for one in host.client.get(past)["peers"]))
    for path in ("/api/status", "/api/me", "/api/history", "/api/library", "/api/rooms/main/queue", "/api/links"):
        answer = host.client.get(path)
        template = path.replace("/main/", "/{room}/")
        schema = described["paths"][template]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        jsonschema.validate(answer, schema | {"components": described["components"]})


def test_health_and_metrics_are_told(host: House) -> None:
    page = Page(host.port)
    assert page.ask("GET", "/healthz") == (200, {"": b"ok\n"})
    assert page.ask("GET", "/metrics")[0] == 401
    page.open(link(host, "--role", "listen")["urls"][0])
    status, answer = page.ask("GET", "/metrics")
    assert (status, b"musicsyncd_sync_error_seconds" in answer[""]) == (200, True)


def test_no_log_has_a_token(host: House) -> None:
    token = link(host)["token"]
    Page(host.port).open(f"http://x/#{token}")
    for started in host.started:
        log = started.log.read_text()
        assert token not in log
        assert "Traceback" not in log
