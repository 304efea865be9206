"""The server over real TCP and a real Unix socket, with a real control behind it."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import stat
from pathlib import Path

import pytest
from host_rig import Host, make_album, make_track
from http_rig import KEYED, TOKEN, make_server, run

from musicsyncd.errors import ConfigError
from musicsyncd.media.library import Read, Stamp
from musicsyncd.media.tags import Tags
from musicsyncd.system import http_connections, http_server
from musicsyncd.system.http_server import MAX_BODY_BYTES
from musicsyncd.system.librarian import Librarian
from musicsyncd.system.library_control import LibraryControl
from musicsyncd.system.library_index import LibraryIndex
from musicsyncd.system.routes import ROUTES

# -- who may come in ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": TOKEN},
        {"Authorization": "Bearer "},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": "Bearer ü"},
    ],
)
def test_over_tcp_nothing_is_done_without_the_token(tmp_path, headers, caplog):
    async def test(client):
        for method, path in (
            ("GET", "/api/status"),
            ("POST", "/api/rooms/main/volume"),
            ("GET", f"/media/{'0' * 64}"),
            ("GET", "/nowhere"),
        ):
            status, answer = await client.ask(method, path, b'{"volume": "7"}', headers=headers)
            assert (status, answer) == (401, {"error": "the room's key is needed"})
        assert client.host.status()["volume"] == 100

    with caplog.at_level(logging.WARNING):
        run(test, tmp_path)
    assert TOKEN not in caplog.text
    assert len([one for one in caplog.records if "without the room's key" in one.message]) == 1


def test_the_token_opens_and_so_does_the_socket_of_this_machine_without_one(tmp_path):
    async def test(client):
        assert (await client.ask("GET", "/api/status"))[0] == 200
        assert (await client.ask("GET", "/api/status", local=True))[0] == 200

    run(test, tmp_path)


def test_a_room_without_a_key_is_open_to_all(tmp_path):
    async def test(client):
        assert (await client.ask("GET", "/api/status", headers={}))[0] == 200

    run(test, tmp_path, token=None)


# -- commands ----------------------------------------------------------------------------------


def test_status_and_queue_are_what_the_control_says(tmp_path):
    async def test(client):
        assert await client.ask("GET", "/api/status") == (200, client.host.control.status())
        assert await client.ask("GET", "/api/rooms/main/queue") == (200, client.host.control.queues.show("main"))

    run(test, tmp_path)


class Key:
    """A key that can be changed."""

    def begin(self) -> str:
        return "began"

    def status(self) -> dict[str, object]:
        return {"rotating": True}


def test_the_key_is_changed_and_looked_at_on_the_hosts_own_machine_only(tmp_path):
    async def test(client):
        for method, path in (("GET", "/api/key"), ("POST", "/api/key/rotate")):
            status, answer = await client.ask(method, path, local=True)
            assert (status, answer["error"]) == (400, "this host runs without a key")
            client.host.control.key = Key()
            assert (await client.ask(method, path, local=True))[0] == 200
            status, answer = await client.ask(method, path)
            assert (status, answer["error"]) == (403, "this is done on the host's own machine only")
            client.host.control.key = None

    run(test, tmp_path)


def test_every_route_reaches_its_command(tmp_path):
    album = make_album(tmp_path / "album", 3)
    room, peer = "/api/rooms/main", "/api/peers/lamp"

    async def test(client):
        gone = client.host.report("gone")
        client.host.leave(gone)
        client.host.report("lamp")
        client.host.control.key = Key()
        for method, path, body, said in (
            ("POST", "/api/rooms", {"name": "attic 2/3"}, "made the room 'attic 2/3'"),
            ("POST", f"{peer}/room", {"room": "attic 2/3"}, "lamp is in 'attic 2/3'"),
            ("DELETE", "/api/rooms/attic%202%2F3", None, "removed the room 'attic 2/3'; 1 speakers went to 'main'"),
            ("POST", f"{room}/queue/add", {"tracks": album[:1]}, "added “1”, the queue has 1"),
            ("POST", f"{room}/play", {"tracks": album[1:2]}, "playing “2”"),
            ("POST", f"{room}/queue/add", {"tracks": album[2:], "next": True}, "added “3”, the queue has 3"),
            ("POST", f"{room}/queue/move", {"from": 2, "to": 3}, "“3” is at position 3"),
            ("POST", f"{room}/next", {}, "playing “1”"),
            ("POST", f"{room}/previous", {}, "playing “2”"),
            ("POST", f"{room}/seek", {"to": "5"}, "at 0:05"),
            ("POST", f"{room}/pause", {}, "paused at 0:05"),
            ("POST", f"{room}/resume", None, "playing “2”"),
            ("POST", f"{room}/stop", {}, "stopped"),
            ("POST", f"{room}/play", {}, "playing “2”"),
            ("POST", f"{room}/queue/remove", {"positions": [3]}, "removed “3”, the queue has 2"),
            ("POST", f"{room}/queue/jump", {"position": 2}, "playing “1”"),
            ("POST", f"{room}/shuffle", {"on": True}, "main: shuffled"),
            ("POST", f"{room}/repeat", {"repeat": "one"}, "main: the track is repeated"),
            ("POST", f"{room}/crossfade", {"seconds": 3}, "main: tracks fade over 3 s"),
            ("POST", f"{room}/queue/clear", {}, "removed 2 tracks, the queue is empty"),
            ("POST", f"{room}/queue/undo", None, "took back: cleared 2 tracks; the queue has 2"),
            ("POST", f"{room}/volume", {"volume": "-5"}, "main: volume 95"),
            ("POST", f"{room}/mute", {"muted": True}, "main: muted"),
            ("POST", f"{peer}/volume", {"volume": "30"}, "lamp: volume 30"),
            ("POST", f"{peer}/mute", {"muted": True}, "lamp: muted"),
            ("POST", f"{peer}/delay", {"output_delay_ms": 1.5}, "lamp: fed 1.5 ms earlier"),
            ("POST", f"{peer}/channels", {"channels": "mono"}, "lamp: mono"),
            ("DELETE", "/api/peers/gone", None, "forgot gone"),
            ("POST", "/api/key/rotate", {}, "began"),
        ):
            # Files are named, and keys changed, by somebody at this machine; all else is asked over the network.
            local = path.startswith("/api/key") or (isinstance(body, dict) and "tracks" in body)
            assert await client.ask(method, path, body, local=local) == (200, {"message": said}), path
            seen.add((method, path))

    seen: set[tuple[str, str]] = set()
    run(test, tmp_path)
    # Whoever adds a route adds it here; signing in and links have tests of their own.
    elsewhere = [one for one in ROUTES if one.method == "GET" or "sign-" in one.path or "/links" in one.path]
    assert len(seen) + len(elsewhere) == len(ROUTES)


def test_a_stale_view_is_a_conflict_that_says_what_changed_and_at_which_revision_it_is(tmp_path):
    album, room = make_album(tmp_path / "album", 3), "/api/rooms/main"

    async def test(client):
        await client.ask("POST", f"{room}/queue/add", {"tracks": album}, local=True)
        seen = (await client.ask("GET", f"{room}/queue"))[1]["revision"]
        stale = {"revision": seen}
        assert (await client.ask("POST", f"{room}/queue/remove", {"positions": [2], **stale}))[0] == 200
        for path, body in (
            ("remove", {"positions": [2]}),
            ("move", {"from": 1, "to": 2}),
            ("jump", {"position": 1}),
            ("clear", {}),
        ):
            status, answer = await client.ask("POST", f"{room}/queue/{path}", body | stale)
            assert (status, answer["revision"], list(answer)) == (409, seen + 1, ["error", "revision"])
            assert "removed “2”" in answer["error"]
        assert client.host.titles() == ["1", "3"]
        status, answer = await client.ask("POST", f"{room}/queue/remove", {"positions": [2], "revision": seen + 1})
        assert status == 200

    run(test, tmp_path)


def test_what_sounded_is_asked_for(tmp_path):
    album = make_album(tmp_path / "album", 1)

    async def test(client):
        await client.ask("POST", "/api/rooms/main/play", {"tracks": album}, local=True)
        client.host.now_ns += 5 * 10**9
        client.host.control._advance(client.host.room())
        status, answer = await client.ask("GET", "/api/rooms/main/queue/history")
        assert (status, [one["title"] for one in answer["played"]]) == (200, ["1"])

    run(test, tmp_path)


def give_library(client, folder: Path, *titles: str) -> None:
    """Give a host a library of these tracks."""
    index = LibraryIndex(folder / "library.sqlite3")
    for number, title in enumerate(titles):
        path = make_track(folder / "music" / f"{number}.wav", seed=number)
        index.apply([Read(str(path), Stamp(1, 2), Tags(title, "An artist", "An album", track=number))])
    # The librarian is not started: what is said here of the files' tags is not what is in them.
    client.host.control.library = LibraryControl(index, Librarian([str(folder / "music")], index))


def test_the_library_is_asked_and_played_by_name(tmp_path):
    async def test(client):
        assert await client.ask("GET", "/api/library") == (
            400,
            {"error": "this host has no library: start it with --library FOLDER"},
        )
        give_library(client, tmp_path, "Öde", "Night")
        status, answer = await client.ask("GET", "/api/library/search?words=ode&limit=5")
        assert (status, [one["title"] for one in answer["tracks"]]) == (200, ["Öde"])
        for what, words in (("albums", "an+album"), ("artists", "an+artist")):
            status, answer = await client.ask("GET", f"/api/library/{what}?words={words}")
            assert (status, answer[what][0]["tracks"]) == (200, 2)
        assert (await client.ask("GET", "/api/library"))[1]["tracks"] == 2
        for query in ("limit=0", "limit=x", "wrods=x"):
            status, answer = await client.ask("GET", f"/api/library/search?{query}")
            assert (status, list(answer)) == (400, ["error"])
        said = await client.ask("POST", "/api/rooms/main/play", {"album": "an album"})
        assert said == (200, {"message": "playing “0” and 1 more"})
        (tmp_path / "music" / "x.m3u").write_text("1.wav\nhttp://radio/x.mp3\n")
        status, answer = await client.ask(
            "POST", "/api/rooms/main/queue/add", {"playlist": f"{tmp_path}/music/x.m3u", "next": True}
        )
        assert answer["message"].startswith(
            "added “1”, the queue has 3; left out: http://radio/x.mp3: it is an address"
        )
        assert client.host.titles() == ["0", "1", "1"]
        client.host.control.library.close()

    run(test, tmp_path)


def test_over_the_network_no_path_of_a_client_is_opened_and_no_address_is_fetched(tmp_path, monkeypatch):
    (outside,) = make_album(tmp_path / "outside", 1)

    async def test(client):
        give_library(client, tmp_path, "Day", "Night")
        inside = f"{tmp_path}/music/1.wav"
        with socket.create_server(("127.0.0.1", 0)) as radio:
            radio.settimeout(0)
            address = f"http://127.0.0.1:{radio.getsockname()[1]}/x"
            for what in ("play", "queue/add"):
                for body in (
                    {"tracks": [outside]},
                    {"tracks": [inside, outside]},
                    {"tracks": [f"{tmp_path}/music/../outside"]},
                    {"tracks": [f"{address}.mp3"]},
                    {"playlist": f"{address}.m3u"},
                    {"playlist": f"{tmp_path}/outside/x.m3u"},
                    {"folder": f"{tmp_path}/outside"},
                ):
                    status, answer = await client.ask("POST", f"/api/rooms/main/{what}", body)
                    assert (status, list(answer)) in ((400, ["error"]), (409, ["error"])), body
            with pytest.raises(BlockingIOError):
                radio.accept()
        assert client.host.titles() == []
        assert (await client.ask("POST", "/api/rooms/main/queue/add", {"tracks": [inside]}))[0] == 200
        assert (await client.ask("POST", "/api/rooms/main/queue/add", {"tracks": [outside]}, local=True))[0] == 200
        assert len(client.host.titles()) == 2
        client.host.control.library.close()

    run(test, tmp_path)


def test_both_tokens_are_taken_while_the_key_changes(tmp_path):
    async def test(client):
        new = {"Authorization": "Bearer new"}
        assert (await client.ask("GET", "/api/status", headers=new))[0] == 401
        client.server.accept_tokens((TOKEN, "new"))
        assert (await client.ask("GET", "/api/status", headers=new))[0] == 200
        assert (await client.ask("GET", "/api/status"))[0] == 200
        client.server.accept_tokens(("new",))
        assert (await client.ask("GET", "/api/status"))[0] == 401

    run(test, tmp_path)


def test_names_of_files_that_are_no_utf8_go_both_ways(tmp_path):
    path = str(tmp_path / "caf\udce9.wav")

    async def test(client):
        make_track(tmp_path / "x.wav").rename(path)
        body = json.dumps({"tracks": [path]}).encode()
        assert (await client.ask("POST", "/api/rooms/main/queue/add", body, local=True))[0] == 200
        status, answer = await client.ask("GET", "/api/rooms/main/queue")
        assert (status, [one["path"] for one in answer["entries"]]) == (200, [path])
        for bad in (b'{"tracks": ["\\ud8', b'{"tracks": "\\udce9"}', b"[" * 100_000 + b'"\\udce9"'):
            status, answer = await client.ask("POST", "/api/rooms/main/queue/add", bad)
            assert (status, list(answer)) == (400, ["error"])

    run(test, tmp_path)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("volume", b"{"),
        ("volume", b"[" * 100_000),
        ("volume", b"[]"),
        ("volume", b'{"volume": 5}'),
        ("volume", b"{}"),
        ("volume", b'{"volume": "5", "loud": true}'),
        ("volume", b'{"volume": "\xff"}'),
        ("volume", b'{"volume": "900"}'),
        ("play", b'{"tracks": "all"}'),
        ("queue/move", b'{"from": 1}'),
        ("queue/move", b'{"from": 99999999999999999999999, "to": 1}'),
        ("pause", b'{"x": 1}'),
        ("crossfade", b'{"seconds": 99}'),
        ("crossfade", b'{"seconds": 1e999}'),
        ("repeat", b'{"repeat": "both"}'),
        ("shuffle", b'{"on": "yes"}'),
        ("queue/jump", b"{}"),
        ("queue/jump", b'{"position": 1, "words": "x"}'),
        ("queue/undo", b"{}"),
        ("pause", b"[" * 100_000),
        ("play", b'{"tracks": ' + b"[" * 100_000),
        ("play", b'{"tracks": [' + b'"",' * 10_000 + b'""]}'),
        ("play", b'{"tracks": ["' + b"x" * 4097 + b'"]}'),
        ("play", b'{"search": "' + b"x" * 1001 + b'"}'),
        ("play", b'{"playlist": "' + b"x" * 4097 + b'"}'),
        ("queue/remove", b'{"positions": [' + b"1," * 10_000 + b"1]}"),
        ("queue/jump", b'{"words": "' + b"x" * 1001 + b'"}'),
        ("volume", b'{"volume": "' + b"5" * 1001 + b'"}'),
    ],
)
def test_what_is_not_understood_is_answered_with_400_and_one_line(tmp_path, path, body, caplog):
    async def test(client):
        status, answer = await client.ask("POST", f"/api/rooms/main/{path}", body)
        assert status == 400
        assert list(answer) == ["error"]
        assert "\n" not in answer["error"]
        assert client.host.status()["volume"] == 100

    run(test, tmp_path)
    assert "Traceback" not in caplog.text


def test_refusals_are_400_conflicts_409_and_unknown_ways_404_or_405(tmp_path):
    async def test(client):
        for method, path, body, expected, word in (
            ("POST", "/api/rooms/attic/pause", {}, 400, "no room 'attic'"),
            ("POST", "/api/peers/lamp/mute", {"muted": True}, 400, "no speaker 'lamp'"),
            ("POST", "/api/rooms/main/play", {"tracks": ["/gone.wav"]}, 409, "gone.wav"),
            ("POST", "/api/rooms/main/play", {"tracks": ["/a\0b"]}, 409, "a b"),
            ("GET", "/api/nothing", None, 404, "Not Found"),
            ("GET", "/../../etc/passwd", None, 404, "Not Found"),
            ("GET", "/api/rooms", None, 405, "Method Not Allowed"),
        ):
            status, answer = await client.ask(method, path, body, local=expected == 409)
            assert (status, word in answer["error"]) == (expected, True), (path, status, answer)

    run(test, tmp_path)


def test_a_body_beyond_the_limit_is_refused(tmp_path):
    async def test(client):
        body = json.dumps({"tracks": ["x" * MAX_BODY_BYTES]}).encode()
        status, answer = await client.ask("POST", "/api/rooms/main/play", body)
        assert status == 413
        assert answer["error"]
        assert (await client.ask("GET", "/api/status"))[0] == 200

    run(test, tmp_path)


def test_our_own_mistake_is_said_to_be_ours_and_serving_goes_on(tmp_path, monkeypatch, caplog):
    async def test(client):
        def fail():
            raise RuntimeError("secret detail")

        monkeypatch.setattr(client.host.control, "status", fail)
        status, answer = await client.ask("GET", "/api/status")
        assert status == 500
        assert "secret" not in answer["error"]
        monkeypatch.undo()
        assert (await client.ask("GET", "/api/status"))[0] == 200

    run(test, tmp_path)
    assert "secret detail" in caplog.text


def test_the_answer_says_when_a_change_could_not_be_kept(tmp_path):
    async def test(client):
        client.host.report("lamp")
        client.host.break_database()
        for path in ("/api/rooms/main/volume", "/api/peers/lamp/volume"):
            status, answer = await client.ask("POST", path, {"volume": "30"})
            assert status == 200
            assert answer["message"].endswith(
                "volume 30 (but it would not survive a restart: cannot save: the disk is full)"
            )
        assert client.host.status()["volume"] == 30
        client.host.mend_database()
        assert await client.ask("POST", "/api/peers/lamp/volume", {"volume": "4"}) == (
            200,
            {"message": "lamp: volume 4 (but it would not survive a restart: cannot save: the disk is full)"},
        )
        assert await client.ask("POST", "/api/rooms/main/volume", {"volume": "4"}) == (
            200,
            {"message": "main: volume 4"},
        )

    run(test, tmp_path)


# -- media -------------------------------------------------------------------------------------


def test_media_is_served_whole_and_in_ranges_by_content_id_only(tmp_path):
    path = Path(make_album(tmp_path / "album", 1)[0])
    data = path.read_bytes()

    async def test(client):
        await client.host.control.play("main", [str(path)])
        content_id = client.host.room().queue.entries[0].track.content_id.hex()
        url = f"/media/{content_id}"
        assert await client.ask("GET", url) == (200, data)
        for asked, expected in (("bytes=10-19", data[10:20]), ("bytes=-5", data[-5:]), ("bytes=0-0", data[:1])):
            assert await client.ask("GET", url, headers={**KEYED, "Range": asked}) == (206, expected)
        async with client.tcp.get(url, headers={**KEYED, "Range": "bytes=10-19"}) as response:
            assert response.headers["Content-Range"] == f"bytes 10-19/{len(data)}"
        assert (await client.ask("GET", url, headers={**KEYED, "Range": f"bytes={len(data)}-"}))[0] == 416
        for wrong in ("0" * 64, content_id.upper(), content_id[:-1], "../album/1.wav", "%2e%2e%2falbum"):
            assert (await client.ask("GET", f"/media/{wrong}"))[0] == 404
        path.unlink()  # noqa: ASYNC240 - nobody else is on this loop
        assert await client.ask("GET", url) == (404, {"error": "no such track in any queue"})

    run(test, tmp_path)


# -- the sockets -------------------------------------------------------------------------------


def test_the_socket_is_its_owners_alone_and_gone_afterwards(tmp_path):
    async def test(client):
        mode = client.path.stat().st_mode
        assert stat.S_ISSOCK(mode)
        assert stat.S_IMODE(mode) == 0o600

    run(test, tmp_path)
    assert not (tmp_path / "host.sock").exists()


def test_the_socket_of_a_service_is_its_groups_too(tmp_path, monkeypatch):
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))

    async def test(client):
        assert stat.S_IMODE(client.path.stat().st_mode) == 0o660

    run(test, tmp_path)


def test_a_socket_that_a_killed_host_left_is_replaced(tmp_path):
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "host.sock"))

    async def test(client):
        assert (await client.ask("GET", "/api/status", local=True))[0] == 200

    run(test, tmp_path)


def test_a_socket_at_which_somebody_answers_is_left_alone(tmp_path):
    path = tmp_path / "host.sock"

    async def test():
        host = Host(tmp_path)
        server = make_server(host)
        try:
            with pytest.raises(ConfigError, match=r"another host answers at .*host\.sock: stop it"):
                await server.open(0, path)
        finally:
            await server.close()
            host.end()

    with socket.socket(socket.AF_UNIX) as live:
        live.bind(str(path))
        live.listen()
        asyncio.run(test())
        assert stat.S_ISSOCK(path.stat().st_mode)


@pytest.mark.parametrize("name", ["nowhere/host.sock", "x" * 120])
def test_a_socket_that_cannot_be_made_is_one_line(tmp_path, name):
    async def test():
        host = Host(tmp_path)
        server = make_server(host)
        try:
            with pytest.raises(ConfigError, match=r"cannot make the socket") as caught:
                await server.open(0, tmp_path / name)
            assert "\n" not in str(caught.value)
        finally:
            await server.close()
            host.end()

    asyncio.run(test())


def test_a_port_in_use_is_one_line_that_says_what_to_do(tmp_path):
    async def test():
        host = Host(tmp_path)
        server = make_server(host)
        with socket.socket() as other:
            other.bind(("0.0.0.0", 0))
            other.listen()
            port = other.getsockname()[1]
            with pytest.raises(ConfigError) as caught:
                await server.open(port, tmp_path / "host.sock")
        await server.close()
        host.end()
        assert str(caught.value) == (
            f"cannot listen on TCP port {port}: Address already in use: another host may be running on this "
            "machine; choose another port with --port"
        )
        assert not (tmp_path / "host.sock").exists()

    asyncio.run(test())


def test_a_server_knows_whether_it_answers(tmp_path, monkeypatch):
    monkeypatch.setattr(http_server, "_ANSWERS_WITHIN_S", 0.5)

    async def hang(_request, _behind):
        await asyncio.Event().wait()

    async def test(client):
        assert await client.server.answers()
        client.path.rename(client.path.with_suffix(".away"))
        assert not await client.server.answers()
        client.path.with_suffix(".away").rename(client.path)
        assert await client.server.answers()
        with monkeypatch.context() as full:
            full.setattr(http_connections, "MAX_LOCAL_CONNECTIONS", 0)
            assert await client.server.answers(), "it is there, and says that too many are"
        monkeypatch.setattr(client.server, "_answered", hang)
        assert not await client.server.answers()

    run(test, tmp_path)
