"""The local socket of a speaker's daemon, and what it tells there."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import stat
import tempfile
from pathlib import Path

import pytest
from test_peer_daemon import HOST_AT, Rig

from musicsyncd.system import local_peers as reading
from musicsyncd.system import peer_socket
from musicsyncd.system.local_peers import local_peers, socket_path
from musicsyncd.system.peer_account import Acquaintance
from musicsyncd.system.peer_socket import PeerSocket
from musicsyncd.units import NS_PER_S


@pytest.fixture
def folder():
    # A Unix socket's path has 107 bytes at most; pytest's own folders are long.
    path = Path(tempfile.mkdtemp(prefix="ms"))
    yield path
    shutil.rmtree(path)


async def tell():
    return {"speaker": {"name": "kitchen"}}


def asked(folder, *tells, around=None):
    """Open sockets, and return what is found while they are."""

    async def run():
        sockets = [PeerSocket(socket_path(folder, name), one) for name, one in tells]
        for one in sockets:
            await one.open()
        found = await asyncio.to_thread(around or (lambda: local_peers(folder, ())))
        for one in sockets:
            await one.close()
        return found

    return asyncio.run(asyncio.wait_for(run(), 20.0))


def test_whoever_asks_is_told(folder):
    async def other():
        return {"speaker": {"name": "attic"}}

    found = asked(folder, ("kitchen", tell), ("attic", other))
    assert found == [{"speaker": {"name": "attic"}}, {"speaker": {"name": "kitchen"}}]
    assert list(folder.iterdir()) == [], "it left its socket behind"


def test_only_its_own_user_may_ask(folder):
    mode = asked(folder, ("kitchen", tell), around=lambda: stat.S_IMODE(socket_path(folder, "kitchen").stat().st_mode))
    assert mode == 0o600


def test_a_services_group_may_ask_too(folder, monkeypatch):
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(folder))
    mode = asked(folder, ("kitchen", tell), around=lambda: stat.S_IMODE(socket_path(folder, "kitchen").stat().st_mode))
    assert mode == 0o660


def test_what_was_killed_left_its_socket_behind_and_the_next_takes_the_place(folder):
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(socket_path(folder, "kitchen")))
    left.close()
    assert local_peers(folder, ()) == []
    assert asked(folder, ("kitchen", tell)) == [{"speaker": {"name": "kitchen"}}]


def test_a_socket_on_which_somebody_answers_is_left_to_him(folder, caplog):
    async def second():
        return {"speaker": {"name": "the second"}}

    found = asked(folder, ("kitchen", tell), ("kitchen", second))
    assert found == [{"speaker": {"name": "kitchen"}}]
    assert "no local status at" in caplog.text
    assert "another speaker answers there" in caplog.text


def test_where_no_socket_can_be_made_the_speaker_plays_on(folder, caplog):
    assert asked(folder / "missing", ("kitchen", tell)) == []
    assert asked(folder / ("x" * 120), ("kitchen", tell)) == []
    assert caplog.text.count("no local status at") == 2


def test_a_long_name_is_one_short_file_and_different_names_are_different_ones(folder):
    names = ["ü" * 64, "ü" * 63 + "v", "kitchen"]
    paths = [socket_path(folder, name) for name in names]
    assert len({*paths}) == 3
    assert all(len(path.name.encode()) <= reading.MAX_SOCKET_NAME_BYTES for path in paths)
    assert asked(folder, (names[0], tell)) == [{"speaker": {"name": "kitchen"}}]


def test_who_asks_too_often_at_once_is_let_go(folder, monkeypatch):
    monkeypatch.setattr(peer_socket, "MAX_ASKING", 2)
    gate = None

    async def wait_and_tell():
        await gate.wait()
        return {}

    async def run():
        nonlocal gate
        gate = asyncio.Event()
        one = PeerSocket(socket_path(folder, "kitchen"), wait_and_tell)
        await one.open()
        asking = [await asyncio.open_unix_connection(str(socket_path(folder, "kitchen"))) for _ in range(3)]
        refused = await asking[2][0].read()
        gate.set()
        answers = [await reader.read() for reader, _ in asking[:2]]
        for _, writer in asking:
            writer.close()
        await one.close()
        return refused, answers

    assert asyncio.run(asyncio.wait_for(run(), 20.0)) == (b"", [b"{}\n", b"{}\n"])


@pytest.mark.parametrize("said", [b"", b"[]", b"no JSON", b"[" * 100_000, b"\xff", b'{"a": 1'])
def test_what_is_no_answer_is_none(folder, said):
    async def run():
        async def answer(_reader, writer):
            writer.write(said)
            writer.close()

        server = await asyncio.start_unix_server(answer, str(folder / "peer-x.sock"))
        async with server:
            return await asyncio.to_thread(local_peers, folder, ())

    assert asyncio.run(asyncio.wait_for(run(), 20.0)) == []


def test_an_answer_that_does_not_end_is_not_waited_for_nor_kept(folder, monkeypatch):
    monkeypatch.setattr(reading, "MAX_ANSWER_BYTES", 1000)

    async def run():
        async def answer(_reader, writer):
            with_end = asyncio.get_running_loop().time() + 15.0
            try:
                while asyncio.get_running_loop().time() < with_end:
                    writer.write(b" " * 65536)
                    await writer.drain()
            except OSError:
                return

        server = await asyncio.start_unix_server(answer, str(folder / "peer-x.sock"))
        async with server:
            return await asyncio.to_thread(local_peers, folder, ())

    assert asyncio.run(asyncio.wait_for(run(), 10.0)) == []


@pytest.fixture
def rig(tmp_path):
    made = Rig(tmp_path)
    made.speaker.held_bytes = lambda: 5 << 20
    made.speaker.card = lambda: {"output": "null"}
    made.speaker.media = lambda: {"tracks": 1}
    return made


def account(rig, monkeypatch):
    monkeypatch.setattr("musicsyncd.system.peer_daemon.now_ns", lambda: rig.now_ns)
    told = asyncio.run(rig.daemon.account())
    assert json.loads(json.dumps(told)) == told
    return told


def test_a_speaker_that_has_found_no_host_says_so(rig, monkeypatch):
    told = account(rig, monkeypatch)
    assert told["host"] == {
        "state": "searching",
        "name": "",
        "address": None,
        "away_s": None,
        "heard_s_ago": None,
        "reason": "",
    }
    assert told["network"]["reach"] == "none"
    assert told["track"] is None
    assert (told["card"], told["media"]) == ({"output": "null"}, {"cache_bytes": 5 << 20, "tracks": 1})


def test_a_speaker_says_of_itself_what_the_host_would_say_of_it(rig, monkeypatch):
    from musicsyncd.system.database import SavedPeer
    from musicsyncd.system.status import peer_status

    rig.daemon._node.playback = rig.speaker.stats()
    rig.converse()
    rig.set(volume=60, output_delay_us=20_000)
    rig.converse(6.0)
    told = account(rig, monkeypatch)
    assert told["host"]["state"] == "there"
    assert told["host"]["name"] == "den"
    assert told["host"]["address"] == f"{HOST_AT[0]}:{HOST_AT[1]}"
    assert told["network"]["reach"] == "multicast"
    (info,) = rig.host.peers()
    known = peer_status(SavedPeer(info.peer_id, "kitchen", "main", 60, False, 20_000), info, info.seen_host_ns)
    speaker = told["speaker"]
    assert speaker.keys() == known.keys()
    same = [key for key in known if key not in ("clock", "address", "seen_s_ago", "version")]
    assert {key: speaker[key] for key in same} == {key: known[key] for key in same}
    assert abs(speaker["clock"]["offset_us"] - known["clock"]["offset_us"]) < 100


def test_a_speaker_whose_host_is_away_says_since_when_why_and_what_goes_on(rig, monkeypatch):
    from musicsyncd.playback.timeline import Segment, Timeline

    rig.converse()
    rig.say(timeline=Timeline((Segment(rig.now_ns + 1234 * NS_PER_S, 1, 0, rig.state.timeline.segments[0].track),)))
    rig.host.close()
    monkeypatch.setattr("musicsyncd.system.peer_daemon.now_ns", lambda: rig.now_ns)
    rig.converse(0.5)
    rig.now_ns += 60 * NS_PER_S
    told = account(rig, monkeypatch)
    assert told["host"]["state"] == "away"
    assert told["host"]["away_s"] == pytest.approx(60.4, abs=0.2)
    assert told["host"]["reason"] == "the host is stopping"
    assert told["host"]["address"] == f"{HOST_AT[0]}:{HOST_AT[1]}"
    assert told["network"]["reach"] == "none"
    assert told["track"]["position_s"] == pytest.approx(62.5, abs=1.0)
    assert told["track"]["duration_s"] == 180.0


def test_a_host_that_is_back_is_no_longer_away():
    from musicsyncd.protocol.following import HostFound, HostLost

    known = Acquaintance()
    known.note(HostFound(b"host-one", 5, ("192.0.2.1", 7783)), 1)
    known.note(HostLost("it went"), 2 * NS_PER_S)
    assert known.status(NS_PER_S, 5 * NS_PER_S) == {
        "state": "away",
        "name": "",
        "address": "192.0.2.1:7783",
        "away_s": 3.0,
        "heard_s_ago": 4.0,
        "reason": "it went",
    }
    known.note(HostFound(b"host-one", 6, ("192.0.2.7", 7783)), 6 * NS_PER_S)
    told = known.status(6 * NS_PER_S, 6 * NS_PER_S)
    assert (told["state"], told["away_s"], told["reason"], told["address"]) == ("there", None, "", "192.0.2.7:7783")


def test_a_cache_that_cannot_be_read_takes_nothing_else_with_it(rig, monkeypatch):
    def refuse():
        raise OSError(5, "Input/output error")

    rig.speaker.held_bytes = refuse
    assert account(rig, monkeypatch)["media"] == {"cache_bytes": None, "tracks": 1}
