"""Links, pages that are signed in by them, and what each role may: over real TCP and a real Unix socket."""

from __future__ import annotations

import logging
from pathlib import Path

import aiohttp
import pytest
from host_rig import make_album
from http_rig import KEYED, run

from musicsyncd.system.http_guard import REFUSALS_AT_ONCE
from musicsyncd.system.http_server import MAX_STRANGERS_BODY_BYTES
from musicsyncd.system.routes import ROUTES
from musicsyncd.system.signing_in import COOKIE_S, reachable

ME = {"host": "den", "version": "0.1.0", "epoch": 1, "open": False, "tls_port": None}


async def make(client, role: str = "control", name: str = "") -> dict:
    status, made = await client.ask("POST", "/api/links", {"role": role, "name": name}, local=True)
    assert status == 200, made
    return made


def bearer(made: dict) -> dict[str, str]:
    return {"Authorization": f"Bearer {made['token']}"}


async def sign_in(client, token: str, **headers: str) -> tuple[int, dict, aiohttp.ClientResponse]:
    headers = {"Origin": f"http://127.0.0.1:{client.port}"} | headers
    async with client.tcp.post("/api/sign-in", json={"token": token}, headers=headers) as response:
        return response.status, await response.json(), response


def test_a_link_names_the_hosts_addresses_and_its_token_is_behind_the_hash(tmp_path):
    async def test(client):
        made = await make(client, "guest", "Ada")
        assert (made["role"], made["name"], made["fingerprint"]) == ("guest", "Ada", "")
        assert made["urls"] == [f"http://192.0.2.1:7783/#{made['token']}"]
        _, shown = await client.ask("GET", "/api/links", local=True)
        assert [(one["id"], one["role"], one["name"], one["used_s"]) for one in shown["links"]] == [
            (made["id"], "guest", "Ada", None)
        ]
        assert made["token"] not in str(shown)

    run(test, tmp_path)


def test_links_are_made_on_the_hosts_own_machine_only(tmp_path):
    async def test(client):
        control = await make(client)
        for headers in (KEYED, bearer(control)):
            for method, path in (
                ("GET", "/api/links"),
                ("POST", "/api/links"),
                ("DELETE", f"/api/links/{control['id']}"),
            ):
                status, answer = await client.ask(method, path, b"{}", headers=headers)
                assert (status, answer["error"]) == (403, "this is done on the host's own machine only")
        assert len((await client.ask("GET", "/api/links", local=True))[1]["links"]) == 1

    run(test, tmp_path)


def test_a_page_is_signed_in_by_a_cookie_that_no_script_reads_and_no_other_site_has_sent(tmp_path):
    async def test(client):
        made = await make(client, "guest", "Ada")
        status, answer, response = await sign_in(client, made["token"])
        assert (status, answer) == (200, {"role": "guest", "name": "Ada"} | ME)
        (cookie,) = response.headers.getall("Set-Cookie")
        words = cookie.split("; ")
        assert words[0] == f"musicsyncd-{client.port}={made['token']}"
        assert {"HttpOnly", "SameSite=Strict", "Path=/", f"Max-Age={COOKIE_S}"} <= set(words)
        assert "Secure" not in words
        # aiohttp keeps no cookies of bare addresses.
        page = {"Cookie": words[0]}
        assert await client.ask("GET", "/api/me", headers=page) == (200, {"role": "guest", "name": "Ada"} | ME)
        origin = {"Origin": f"http://127.0.0.1:{client.port}"}
        assert (await client.ask("POST", "/api/rooms/main/queue/add", b"{}", headers=page))[0] == 403
        status, answer = await client.ask("POST", "/api/rooms/main/queue/add", b"{}", headers=page | origin)
        assert (status, "at least one track" in answer["error"]) == (400, True)
        async with client.tcp.post("/api/sign-out", headers=page | origin) as response:
            assert response.status == 200
            assert f"musicsyncd-{client.port}=" in response.headers["Set-Cookie"]
            assert "Max-Age=0" in response.headers["Set-Cookie"]

    run(test, tmp_path)


def test_the_rooms_own_token_signs_no_page_in_and_neither_does_any_other_text(tmp_path, caplog):
    async def test(client):
        await make(client)
        for wrong in ("the room's token", "", "x" * 200, "ÄÖ", "A" * 26):
            status, answer, response = await sign_in(client, wrong)
            assert (status, "`musicsyncd link`" in answer["error"]) == (401, True)
            assert "Set-Cookie" not in response.headers
        for body in (b"{", b"{}", b'{"token": 5}', b'{"token": "' + b"x" * 201 + b'"}', b'{"token": "", "x": 1}'):
            assert (await client.ask("POST", "/api/sign-in", body, headers={}))[0] == 400

    with caplog.at_level(logging.INFO):
        run(test, tmp_path)


def test_a_stranger_may_send_little(tmp_path):
    async def test(client):
        body = b" " * MAX_STRANGERS_BODY_BYTES + b"{}"
        assert (await client.ask("POST", "/api/sign-in", body, headers={}))[0] == 413

        async def unknown():
            yield body

        async with client.tcp.post("/api/sign-in", data=unknown()) as response:
            assert response.status == 413

    run(test, tmp_path)


def test_a_revoked_link_is_told_so_and_opens_nothing(tmp_path):
    async def test(client):
        made = await make(client, name="Ada")
        assert (await client.ask("GET", "/api/status", headers=bearer(made)))[0] == 200
        status, answer = await client.ask("DELETE", f"/api/links/{made['id'].lower()}", local=True)
        assert answer == {"message": f"revoked the link {made['id']} of Ada"}
        assert (await client.ask("GET", "/api/status", headers=bearer(made)))[0] == 401
        page = {"Cookie": f"musicsyncd-{client.port}={made['token']}"}
        status, answer = await client.ask("GET", "/api/me", headers=page)
        assert (status, "this link was revoked" in answer["error"]) == (401, True)
        assert (await sign_in(client, made["token"]))[0] == 401
        for _ in range(REFUSALS_AT_ONCE):
            status, answer = await client.ask("GET", "/api/me", headers=page)
        assert status == 429
        assert (await client.ask("GET", "/"))[0] in (200, 404), "the page itself still tells what is wrong"
        assert (await client.ask("DELETE", f"/api/links/{made['id']}", local=True))[0] == 400

    run(test, tmp_path)


def test_each_role_may_what_the_table_says_and_nothing_more(tmp_path):
    album = make_album(tmp_path / "album", 1)

    async def test(client):
        await client.ask("POST", "/api/rooms/main/queue/add", {"tracks": album}, local=True)
        for role, level in (("listen", 1), ("guest", 2), ("control", 3)):
            made = await make(client, role)
            for route in ROUTES:
                if route.role == "none" or "DELETE" in route.method:
                    continue
                path = route.template.replace("{room}", "main").replace("{peer}", "x").replace("{id}", "1")
                path = path.replace("{content_id}", "0" * 64)
                status, answer = await client.ask(route.method, path, b"{}", headers=bearer(made))
                needed = {"listen": 1, "guest": 2, "control": 3, "local": 4}[route.role]
                assert (status == 403) == (needed > level), (role, route, answer)
                assert status != 401

    run(test, tmp_path)


def test_a_guest_adds_to_the_end_and_nowhere_else(tmp_path):
    async def test(client):
        headers = bearer(await make(client, "guest"))
        status, answer = await client.ask(
            "POST", "/api/rooms/main/queue/add", {"search": "x", "next": True}, headers=headers
        )
        assert (status, "to the end" in answer["error"]) == (403, True)
        status, answer = await client.ask("POST", "/api/rooms/main/queue/add", {"search": "x"}, headers=headers)
        assert (status, answer["error"]) == (400, "this host has no library: start it with --library FOLDER")
        status, answer = await client.ask("POST", "/api/rooms/main/next", {}, headers=headers)
        assert (status, "listening and adding to the queue" in answer["error"]) == (403, True)

    run(test, tmp_path)


def test_a_room_without_a_key_needs_no_link(tmp_path):
    async def test(client):
        assert await client.ask("GET", "/api/me", headers={}) == (
            200,
            ME | {"role": "control", "name": "", "open": True},
        )
        status, answer = await client.ask("POST", "/api/links", {}, local=True)
        assert (status, "http://192.0.2.1:7783/ may everything" in answer["error"]) == (400, True)

    run(test, tmp_path, token=None)


def test_health_is_told_here(tmp_path):
    async def test(client):
        assert await client.ask("GET", "/healthz", headers={}) == (200, b"ok\n")
        assert await client.ask("GET", "/healthz", local=True) == (200, b"ok\n")

    run(test, tmp_path)


@pytest.mark.parametrize(
    ("addresses", "expected"),
    [
        (["127.0.0.1"], ["127.0.0.1"]),
        ([], ["127.0.0.1"]),
        (["::1", "fd00::5", "169.254.1.1", "192.168.1.5", "127.0.0.1"], None),
        (["fe80::1%eth0", "192.168.1.5", "192.168.1.5"], ["192.168.1.5"]),
        (["fe80::1"], ["127.0.0.1"]),
    ],
)
def test_addresses_that_a_browser_can_be_given_come_in_the_order_in_which_others_reach_them(addresses, expected):
    expected = expected or ["192.168.1.5", "169.254.1.1", "fd00::5", "127.0.0.1", "::1"]
    assert reachable(addresses) == expected


def test_no_log_has_a_token(tmp_path, caplog):
    tokens: list[str] = []

    async def test(client):
        made = await make(client, "control", "Ada")
        tokens.append(made["token"])
        await sign_in(client, made["token"])
        await client.ask("GET", f"/{made['token']}", headers=bearer(made))
        await client.ask("DELETE", f"/api/links/{made['id']}", local=True)
        await client.ask("GET", "/api/me", headers=bearer(made))

    with caplog.at_level(logging.DEBUG):
        run(test, tmp_path)
    assert "made the link" in caplog.text
    assert tokens[0] not in caplog.text
    assert all(tokens[0].encode() not in file.read_bytes() for file in Path(tmp_path).glob("state.sqlite*"))
