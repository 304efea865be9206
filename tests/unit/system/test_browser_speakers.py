"""Browsers that play, over a real WebSocket: from hello to goodbye, as speakers among others."""

from __future__ import annotations

import asyncio
import contextlib
import json

import aiohttp
import http_rig
import numpy as np
import pytest
import soundfile
from http_rig import KEYED, Client

from musicsyncd.system import browser_speakers as module
from musicsyncd.system.browser_speakers import MAX_MESSAGE_BYTES, MESSAGES_AT_ONCE

ONE, TWO = "1" * 32, "2" * 32
REPORT = {"type": "report", "t": 5_000_000_000, "state": "together", "sync_error_us": 250.0, "lead_ms": 300.0}


class Page:
    """A browser that plays."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket

    async def say(self, **message: object) -> None:
        await self.socket.send_json(message)

    async def hear(self, kind: str, **what: object) -> dict:
        """Return the next message of a kind with these values in it."""
        while True:
            message = json.loads(await self.socket.receive_str(timeout=10))
            if message["type"] == kind and all(message[name] == value for name, value in what.items()):
                return message

    async def ended(self) -> str:
        """Read on until the socket ends and return why the host says that it does."""
        why = ""
        async for message in self.socket:
            read = json.loads(message.data)
            why = read.get("why", why)
        return why


@contextlib.asynccontextmanager
async def playing(client: Client, identity: str = ONE, name: str = "phone"):
    async with client.tcp.ws_connect("/api/speaker", headers=KEYED) as socket:
        page = Page(socket)
        await page.say(type="hello", name=name, id=identity, agent="Chrome on Android")
        yield page


async def until(condition) -> None:
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("never")


def run(test, tmp_path) -> None:
    http_rig.run(test, tmp_path)


def browsers(client: Client) -> module.BrowserSpeakers:
    found = client.host.control.speakers.browsers
    assert isinstance(found, module.BrowserSpeakers)
    return found


def test_a_browser_becomes_a_speaker_of_the_default_room_and_is_told_what_plays(tmp_path, album):
    async def test(client):
        await client.ask("POST", "/api/rooms/main/play", {"tracks": album[:2]}, local=True)
        async with playing(client) as page:
            welcome = await page.hear("welcome")
            state = await page.hear("state")
            assert (state["name"], state["room"], state["volume"], state["title"]) == ("phone", "main", 100, "1")
            first = state["spans"][0]
            at_ns = int(welcome["base_host_ns"]) + first["start_ns"]
            assert at_ns == client.host.room().said.timeline.segments[0].start_host_ns
            await page.say(**REPORT)
            await until(lambda: client.host.peer("phone")["state"] == "together")
            peer = client.host.peer("phone")
            assert (peer["reach"], peer["id"], peer["sync_error_us"]) == ("web", welcome["peer_id"], 250.0)
            assert ONE not in json.dumps(client.host.control.status()), "its secret is nobody else's"

    run(test, tmp_path)


def test_every_change_reaches_it_at_once_and_only_changes_do(tmp_path, album):
    async def test(client):
        await client.ask("POST", "/api/rooms", {"name": "attic"})
        async with playing(client) as page:
            await page.hear("state", spans=[])
            await client.ask("POST", "/api/peers/phone/volume", {"volume": "30"})
            await page.hear("state", volume=30, channels="stereo")
            await client.ask("POST", "/api/peers/phone/channels", {"channels": "left"})
            await page.hear("state", volume=30, channels="left")
            await client.ask("POST", "/api/rooms/attic/volume", {"volume": "55"})
            await client.ask("POST", "/api/peers/phone/room", {"room": "attic"})
            await page.hear("state", room="attic", room_volume=55)
            await client.ask("POST", "/api/rooms/attic/play", {"tracks": album}, local=True)
            assert (await page.hear("state", mode="playing"))["spans"]
            client.host.now_ns += 1_000_000_000
            await client.ask("POST", "/api/rooms/attic/pause", {})
            assert (await page.hear("state", mode="paused"))["spans"][-1]["cut"]

    run(test, tmp_path)


def test_it_says_how_late_and_how_loud_it_is_itself(tmp_path):
    async def test(client):
        async with playing(client) as page:
            await page.hear("state")
            await page.say(type="change", output_delay_ms=120.0)
            await page.hear("state", output_delay_ms=120.0)
            await page.say(type="change", output_delay_ms=None, volume=40)
            await page.hear("state", volume=40, output_delay_ms=120.0)
        async with playing(client) as page:
            await page.hear("state", volume=40, output_delay_ms=120.0)

    run(test, tmp_path)


def test_its_probes_are_answered_and_the_host_does_the_sums(tmp_path):
    async def test(client):
        async with playing(client) as page:
            loop = asyncio.get_running_loop()
            answered = {}
            for n in range(1, 8):
                await page.say(type="probe", n=n, t1=round(loop.time() * 1e9), **answered)
                await page.hear("answer", n=n)
                answered = {"answered": n, "t4": round(loop.time() * 1e9)}
            clock = await page.hear("clock")
            assert clock["uncertainty_ns"] > 0

    run(test, tmp_path)


def test_a_change_waits_until_a_browser_can_be_in_time_for_it(tmp_path, album):
    async def test(client):
        await client.ask("POST", "/api/rooms/main/play", {"tracks": album}, local=True)
        assert client.host.status()["lead_ms"] == pytest.approx(20.0)
        async with playing(client) as page:
            await page.hear("state")
            await page.say(**REPORT)
            await until(lambda: client.host.status()["lead_ms"] > 20.0)
            assert client.host.status()["lead_ms"] == pytest.approx(305.0, abs=1.0)
            await client.ask("POST", "/api/rooms/main/pause", {})
            assert client.host.room().said.timeline.segments[-1].start_host_ns >= client.host.now_ns + 304_000_000
            await client.ask("POST", "/api/rooms", {"name": "attic"})
            assert client.host.status("attic")["lead_ms"] == pytest.approx(20.0), "other rooms have nothing of it"

    run(test, tmp_path)


def test_one_that_went_is_away_after_five_seconds_and_can_be_forgotten_then(tmp_path, monkeypatch):
    async def test(client):
        async with playing(client) as page:
            await page.hear("state")
            status, answer = await client.ask("DELETE", "/api/peers/phone")
            assert (status, "stop it first" in answer["error"]) == (400, True)
        link = next(iter(browsers(client)._links.values()))
        await until(lambda: link.browser.left_host_ns is not None)
        assert client.host.peer("phone")["reach"] == "web"
        left_ns = link.browser.left_host_ns
        monkeypatch.setattr(module, "now_ns", lambda: left_ns + 5_000_000_001)
        assert (client.host.peer("phone")["reach"], client.host.peer("phone")["state"]) == ("away", "away")
        assert client.host.status()["lead_ms"] == pytest.approx(20.0)
        assert (await client.ask("DELETE", "/api/peers/phone"))[0] == 200
        assert client.host.control.status()["peers"] == []

    run(test, tmp_path)


def test_a_second_tab_of_the_same_browser_takes_over(tmp_path):
    async def test(client):
        async with playing(client) as first:
            await first.hear("state")
            async with playing(client, name="phone again") as second:
                await second.hear("state")
                assert "another tab" in await first.ended()
                assert [peer["name"] for peer in client.host.control.status()["peers"]] == ["phone again"]
                assert client.host.peer("phone again")["reach"] == "web"
                link = next(iter(browsers(client)._links.values()))
                assert link.browser.left_host_ns is None, "the first one's end is not the second one's"

    run(test, tmp_path)


def test_there_are_never_more_than_the_most(tmp_path, monkeypatch):
    async def test(client):
        monkeypatch.setattr(module, "MAX_BROWSERS", 1)
        async with playing(client) as one:
            await one.hear("state")
            async with playing(client, TWO) as two:
                assert "the most that a host can have" in await two.ended()
        await until(lambda: all(link.browser.left_host_ns for link in browsers(client)._links.values()))
        async with playing(client, TWO) as two:
            await two.hear("state")
        assert len(browsers(client)._links) == 1

    run(test, tmp_path)


def test_a_new_browser_takes_no_place_that_a_real_speaker_may_need(tmp_path, monkeypatch):
    async def test(client):
        monkeypatch.setattr(module, "MAX_SPEAKERS", 1)
        async with playing(client) as one:
            await one.hear("state")
        async with playing(client, TWO) as two:
            assert "remove some" in await two.ended()
        async with playing(client) as again:
            await again.hear("state")

    run(test, tmp_path)


@pytest.mark.parametrize("first", ["", "null", "[1]", json.dumps(REPORT), '{"type":"hello"}', b"\x00\xff"])
def test_one_that_does_not_say_hello_is_sent_away(tmp_path, first):
    async def test(client):
        async with client.tcp.ws_connect("/api/speaker", headers=KEYED) as socket:
            await (socket.send_bytes(first) if isinstance(first, bytes) else socket.send_str(first))
            assert (await socket.receive(timeout=10)).type is aiohttp.WSMsgType.CLOSE
            assert socket.close_code == 1008
        assert client.host.control.status()["peers"] == []

    run(test, tmp_path)


@pytest.mark.parametrize("words", ["nonsense", '{"type":"hello","name":"x","id":"' + ONE + '"}', '{"type":"probe"}'])
def test_one_that_is_not_understood_is_told_so(tmp_path, words):
    async def test(client):
        async with playing(client) as page:
            await page.hear("state")
            await page.socket.send_str(words)
            assert "reload the page" in await page.ended()

    run(test, tmp_path)


def test_one_that_says_too_much_or_too_long_things_is_ended(tmp_path):
    async def test(client):
        async with playing(client) as page:
            await page.hear("state")
            with contextlib.suppress(ConnectionError):
                for _ in range(2 * MESSAGES_AT_ONCE):
                    await page.say(**REPORT)
            assert "too much" in await page.ended()
        async with playing(client) as page:
            await page.hear("state")
            await page.socket.send_str(" " * (MAX_MESSAGE_BYTES + 1))
            await page.ended()
            assert page.socket.close_code == 1009

    run(test, tmp_path)


def test_a_name_is_text_in_one_line(tmp_path):
    async def test(client):
        async with playing(client, name="<b>a\nb</b>\u202e") as page:
            assert (await page.hear("state"))["name"] == "<b>a b</b>"

    run(test, tmp_path)


def test_its_sound_is_that_of_the_queue_and_of_nothing_else(tmp_path, album):
    async def test(client):
        await client.ask("POST", "/api/rooms/main/play", {"tracks": album[:1]}, local=True)
        async with playing(client) as page:
            span = (await page.hear("state"))["spans"][0]
        status, raw = await client.ask("GET", f"/api/pcm/{span['track']['id']}?frame=1000&frames=500", headers=KEYED)
        samples, _ = soundfile.read(album[0], dtype="int16")
        assert status == 200
        assert np.array_equal(np.frombuffer(raw, "<i2").reshape(-1, 2)[:, 0], samples[1000:1500])
        assert (await client.ask("GET", f"/api/pcm/{'0' * 64}?frame=0&frames=5"))[0] == 404
        status, answer = await client.ask("GET", f"/api/pcm/{span['track']['id']}?frame=0")
        assert (status, "?frame=FIRST" in answer["error"]) == (400, True)

    run(test, tmp_path)


def test_nobody_listens_without_a_token(tmp_path, album):
    async def test(client):
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            async with client.tcp.ws_connect("/api/speaker"):
                pass
        assert refused.value.status == 401
        assert (await client.ask("GET", f"/api/pcm/{'0' * 64}?frame=0&frames=5", headers={}))[0] == 401

    run(test, tmp_path)
