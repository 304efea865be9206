"""What pages are told, over real WebSockets to a real server, and the bounds of it."""

from __future__ import annotations

import asyncio
import json

import aiohttp
import pytest
from host_rig import make_album
from http_rig import KEYED, run

from musicsyncd.system import events as module
from musicsyncd.system.events import MAX_HEARD, Events
from musicsyncd.system.sockets import REVOKED, Sockets


async def heard(ws: aiohttp.ClientWebSocketResponse) -> dict:
    async with asyncio.timeout(5):
        return json.loads(await ws.receive_str())


async def silent(ws: aiohttp.ClientWebSocketResponse, for_s: float = 0.1) -> bool:
    """Return whether nothing comes for some times as long as changes are gathered."""
    try:
        await ws.receive(for_s)
    except TimeoutError:
        return True
    return False


def test_a_page_is_told_the_status_at_once_and_after_each_change(tmp_path):
    album = make_album(tmp_path / "album", 2)

    async def test(client):
        control = client.host.control
        async with client.tcp.ws_connect("/api/events", headers=KEYED) as ws:
            assert await heard(ws) == {"type": "status"} | control.status()
            await client.ask("POST", "/api/rooms/main/volume", {"volume": "30"})
            assert (await heard(ws))["rooms"][0]["volume"] == 30
            await client.ask("POST", "/api/rooms/main/queue/add", {"tracks": album}, local=True)
            assert (await heard(ws))["rooms"][0]["queue_length"] == 2
            revision = control.status()["rooms"][0]["queue_revision"]
            assert await heard(ws) == {"type": "queue", "room": "main", "revision": revision}
            await client.host.settle()
            while not await silent(ws):  # What the tracks were found to be.
                pass
            client.host.report("lamp")
            assert [one["name"] for one in (await heard(ws))["peers"]] == ["lamp"]

    run(test, tmp_path)


def test_changes_that_come_together_are_told_together(tmp_path, monkeypatch):
    async def test(client):
        async with client.tcp.ws_connect("/api/events", headers=KEYED) as ws:
            await heard(ws)
            events, made = client.server.site.events, 0
            real = events._status

            def status():
                nonlocal made
                made += 1
                return real()

            monkeypatch.setattr(events, "_status", status)
            for volume in range(20):
                client.host.control.room_volume("main", str(volume))
            assert (await heard(ws))["rooms"][0]["volume"] == 19
            assert await silent(ws)
            assert made == 1

    run(test, tmp_path)


def test_every_second_what_is_news_is_told_and_what_runs_on_by_itself_is_none(tmp_path):
    album = make_album(tmp_path / "album", 1)

    async def test(client):
        site, host = client.server.site, client.host
        await client.ask("POST", "/api/rooms/main/play", {"tracks": album}, local=True)
        host.report("lamp")
        host.now_ns += 10**9  # Past the instant at which it begins, for which a timer waits.
        host.control._advance(host.room())
        async with client.tcp.ws_connect("/api/events", headers=KEYED) as ws:
            while not await silent(ws):  # What the track was found to be.
                pass
            for _ in range(3):
                host.now_ns += 10**9
                site.tick()
            assert await silent(ws)
            host.report("lamp", state="together", sync_error_ns=5_000)
            site.tick()
            told = await heard(ws)
            assert (told["peers"][0]["sync_error_us"], told["rooms"][0]["moving"]) == (5.0, True)
            host.control.pause("main")
            assert (await heard(ws))["rooms"][0]["moving"] is False

    run(test, tmp_path)


def test_all_pages_are_told_by_one_status(tmp_path, monkeypatch):
    async def test(client):
        pages = [await client.tcp.ws_connect("/api/events", headers=KEYED) for _ in range(5)]
        for ws in pages:
            await heard(ws)
        made = 0
        real = client.server.site.events._status

        def status():
            nonlocal made
            made += 1
            return real()

        monkeypatch.setattr(client.server.site.events, "_status", status)
        client.host.control.room_volume("main", "7")
        assert [(await heard(ws))["rooms"][0]["volume"] for ws in pages] == [7] * 5
        assert made == 1
        for ws in pages:
            await ws.close()
        async with asyncio.timeout(5):
            while len(client.server.site.events):  # noqa: ASYNC110
                await asyncio.sleep(0)
        client.host.control.room_volume("main", "8")
        await asyncio.sleep(2 * module.COALESCE_S)
        client.server.site.tick()
        assert made == 1, "nobody is there to be told"

    run(test, tmp_path)


class SlowSocket:
    """A WebSocket whose other side takes a message only when it is let."""

    def __init__(self) -> None:
        self.sent: list[dict] = []
        self.may = asyncio.Semaphore(0)
        self.gone = asyncio.Event()

    async def send_frame(self, data: bytes, _kind: object) -> None:
        self.sent.append(json.loads(data))
        await self.may.acquire()

    def __aiter__(self):
        return self

    async def __anext__(self):
        await self.gone.wait()
        raise StopAsyncIteration


def test_a_page_that_reads_slowly_gets_the_newest_and_nothing_piles_up():
    async def test():
        now = {"host": {"n": 0}, "rooms": [{"name": "main", "queue_revision": 0, "moving": False}], "peers": []}
        events, ws = Events(lambda: now), SlowSocket()
        work = asyncio.create_task(events.work(ws))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        for number in range(1, 101):
            now["host"] = {"n": number}
            now["rooms"] = [{**now["rooms"][0], "queue_revision": number}]
            events.tick()
        (page,) = events._pages
        assert (len(page._queues), page._status is not None) == (1, True)
        for _ in range(3):
            ws.may.release()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        assert [one.get("host") or one["revision"] for one in ws.sent] == [{"n": 0}, {"n": 100}, 100]
        ws.gone.set()
        await work
        assert len(events) == 0

    asyncio.run(test())


def test_a_page_that_talks_is_none_of_ours(tmp_path):
    async def test(client):
        async with client.tcp.ws_connect("/api/events", headers=KEYED) as ws:
            await heard(ws)
            for _ in range(MAX_HEARD):
                await ws.send_str("x")
            assert (await ws.receive(5)).type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)
        async with client.tcp.ws_connect("/api/events", headers=KEYED) as ws:
            await heard(ws)
            await ws.send_str("x" * 5000)
            assert (await ws.receive(5)).data == aiohttp.WSCloseCode.MESSAGE_TOO_BIG

    run(test, tmp_path)


@pytest.mark.parametrize(
    ("origin", "status"), [(None, 403), ("http://evil.example", 403), ("https://127.0.0.1:{port}", 403), ("", 403)]
)
def test_a_page_of_another_site_gets_no_socket_though_the_browser_sends_the_cookie(tmp_path, origin, status):
    async def test(client):
        made = (await client.ask("POST", "/api/links", {}, local=True))[1]
        headers = {"Cookie": f"musicsyncd-{client.port}={made['token']}"}
        own = {"Origin": f"http://127.0.0.1:{client.port}"}
        if origin is not None:
            headers["Origin"] = origin.format(port=client.port)
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await client.tcp.ws_connect("/api/events", headers=headers)
        assert caught.value.status == status
        async with client.tcp.ws_connect("/api/events", headers=headers | own) as ws:
            assert (await heard(ws))["type"] == "status"

    run(test, tmp_path)


def test_revoking_a_link_ends_its_sockets_at_once_and_no_others(tmp_path):
    async def test(client):
        made = [(await client.ask("POST", "/api/links", {}, local=True))[1] for _ in range(2)]
        headers = [{"Authorization": f"Bearer {one['token']}"} for one in made]
        ends, stays = [await client.tcp.ws_connect("/api/events", headers=one) for one in headers]
        for ws in (ends, stays):
            await heard(ws)
        await client.ask("DELETE", f"/api/links/{made[0]['id']}", local=True)
        message = await ends.receive(5)
        assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, REVOKED)
        client.host.control.room_volume("main", "7")
        assert (await heard(stays))["rooms"][0]["volume"] == 7

    run(test, tmp_path)


def test_no_more_sockets_than_allowed_and_all_end_with_the_host(tmp_path):
    async def test(client):
        client.server.site.sockets._most = 2
        open_ = [await client.tcp.ws_connect("/api/events", headers=KEYED) for _ in range(2)]
        for ws in open_:
            await heard(ws)
        async with client.tcp.ws_connect("/api/events", headers=KEYED) as ws:
            assert (await ws.receive(5)).data == aiohttp.WSCloseCode.TRY_AGAIN_LATER
        closing = asyncio.create_task(client.server.close())
        assert [(await ws.receive(5)).data for ws in open_] == [aiohttp.WSCloseCode.GOING_AWAY] * 2
        await closing
        assert len(client.server.site.sockets) == 0

    run(test, tmp_path)


def test_what_is_no_handshake_is_said_to_be_none(tmp_path):
    async def test(client):
        assert await client.ask("GET", "/api/events") == (400, {"error": "this is a WebSocket's address: open one"})

    run(test, tmp_path)


def test_there_is_a_most_by_itself():
    assert Sockets()._most == 256
