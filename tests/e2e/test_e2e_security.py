"""Strangers on the network: what they hear, which is nothing, and what they can have done, which is nothing either.

Datagrams go over real sockets to real nodes of this process, as no daemon tells when it has looked at one that it
drops; requests go to a host of its own.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import random
import socket
from collections.abc import Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, get_args

import msgspec
import pytest
from house import free_port

from musicsyncd.clock.filter import HostClock
from musicsyncd.config import NetworkConfig
from musicsyncd.protocol import wire
from musicsyncd.protocol.auth import (
    HOST_PURPOSE,
    OVERHEAD_BYTES,
    PEER_PURPOSE,
    HostKeys,
    Opener,
    Sealer,
    derive_key,
    http_token,
)
from musicsyncd.protocol.host import HostNode
from musicsyncd.protocol.peer import PeerNode
from musicsyncd.system.keyfile import load_room_key
from musicsyncd.system.udp import Network

KEYS = HostKeys(bytes(range(32)))
OTHER_KEYS = HostKeys(bytes(range(1, 33)))
GROUP = "239.255.77.98"
FROM_HOST, FROM_PEER = get_args(wire.FromHost), get_args(wire.FromPeer)
KINDS = [(HOST_PURPOSE, kind) for kind in FROM_HOST] + [(PEER_PURPOSE, kind) for kind in FROM_PEER]


def named(value: object) -> str:
    return value.__name__ if isinstance(value, type) else str(value)


# -- messages ----------------------------------------------------------------------------------


def made(kind: type[msgspec.Struct], *, least: bool = False) -> msgspec.Struct:
    """Return a message of any kind: with its defaults where it has some, or as short as a message may be."""
    values: dict[str, Any] = {}
    for field in msgspec.structs.fields(kind):
        if field.required or (least and field.type in _SHORTENED):
            values[field.name] = _least(msgspec.inspect.type_info(field.type))
    return kind(**values)


_SHORTENED = {
    field.type
    for kind in (*FROM_HOST, *FROM_PEER)
    for field in msgspec.structs.fields(kind)
    if isinstance(msgspec.inspect.type_info(field.type), msgspec.inspect.BytesType | msgspec.inspect.StrType)
    and getattr(msgspec.inspect.type_info(field.type), "pattern", None) is None
}


def _least(info: msgspec.inspect.Type) -> Any:
    """Return the shortest value of a type."""
    match info:
        case msgspec.inspect.IntType() | msgspec.inspect.FloatType():
            return max(info.ge or 0, 0)
        case msgspec.inspect.StrType():
            return "x" * (info.min_length or 0)
        case msgspec.inspect.BytesType():
            return bytes(info.min_length or 0)
        case msgspec.inspect.BoolType():
            return False
        case msgspec.inspect.VarTupleType():
            return ()
        case msgspec.inspect.StructType():
            return made(info.cls)
    raise NotImplementedError(f"how to make a {info}?")


class Stranger:
    """A socket that sends, and notes what it hears."""

    def __init__(self, address: str = "127.0.0.1") -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((address, 0))
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
        self.epoch = random.randrange(1 << 60)

    def sealed(self, purpose: str, message: msgspec.Struct, keys: HostKeys = KEYS) -> bytes:
        self.epoch += 1
        sealer = Sealer(derive_key(keys.room_key, purpose), os.urandom(8), self.epoch)
        return sealer.seal(wire.encode(message))

    def send(self, data: bytes, *addresses: tuple[str, int]) -> None:
        for address in addresses:
            self.socket.sendto(data, address)

    def heard(self) -> Iterator[bytes]:
        while True:
            try:
                yield self.socket.recv(4096)
            except BlockingIOError:
                return


class Node:
    """A node on loopback, and one with the room's key who can tell when it has looked at all that came before."""

    def __init__(self, kind: str) -> None:
        self.port = free_port()
        if kind == "host":
            node = HostNode(KEYS, b"the host", 1, "den", 7783, nonce=partial(os.urandom, 8))
            self.network = self._network(node, self.port)
            self.address = ("127.0.0.1", self.port)
            self._purpose, self._question = PEER_PURPOSE, wire.Hello
        else:
            clock = HostClock()
            node = PeerNode(
                KEYS.room_keys, b"the peer", 1, "lamp", clock, random.random, "0", nonce=partial(os.urandom, 8)
            )
            own_port = free_port()
            self.network = self._network(node, own_port)
            self.address = ("127.0.0.1", own_port)
            self._purpose, self._question = HOST_PURPOSE, wire.Challenge
        self.node = node
        self.group = (GROUP, self.port)
        self._friend = Stranger("127.0.0.2")

    def _network(self, node: HostNode | PeerNode, own_port: int) -> Network:
        config = NetworkConfig(port=self.port, group=GROUP, interfaces=("lo",))
        return Network(node, config, port=own_port, on_activity=lambda: None)

    async def settled(self) -> None:
        """Wait until it has looked at what was sent to it before."""
        question = made(self._question)
        for address in (self.address, self.group):
            self._friend.send(self._friend.sealed(self._purpose, question), address)
            async with asyncio.timeout(20):
                await asyncio.get_running_loop().sock_recv(self._friend.socket, 4096)


@asynccontextmanager
async def alive(kind: str):
    node = Node(kind)
    await node.network.open()
    try:
        yield node
    finally:
        await node.network.close()


def forged(stranger: Stranger, purpose: str, message: msgspec.Struct) -> Iterator[bytes]:
    """Yield a message in every way in which somebody without the key could send it."""
    good = stranger.sealed(purpose, message)
    yield stranger.sealed(purpose, message, OTHER_KEYS)
    yield wire.encode(message)
    yield good[:-1] + bytes([good[-1] ^ 1])
    yield good[:-16] + bytes(16)
    yield good[: OVERHEAD_BYTES - 16] + bytes([good[OVERHEAD_BYTES - 16] ^ 1]) + good[OVERHEAD_BYTES - 15 :]
    yield good + b"\0"
    for place in range(OVERHEAD_BYTES - 16):  # Version, mark, flags, sender, epoch, sequence.
        yield good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :]
    for length in range(0, len(good), 7):
        yield good[:length]
    for length in (0, 1, 46, 500, 1200, 1201, 4000):
        yield random.Random(length).randbytes(length)
        yield (good[:5] + random.Random(length).randbytes(length))[: max(5, length)]


@pytest.mark.parametrize(("purpose", "kind"), KINDS, ids=named)
@pytest.mark.parametrize("who", ["host", "peer"])
def test_whoever_has_not_the_key_hears_nothing(who, purpose, kind):
    async def test():
        async with alive(who) as node:
            stranger = Stranger()
            for data in forged(stranger, purpose, made(kind)):
                stranger.send(data, node.address, node.group)
            await node.settled()
            assert list(stranger.heard()) == []

    asyncio.run(test())


@pytest.mark.parametrize("least", [False, True], ids=["as we send it", "as short as may be"])
@pytest.mark.parametrize(("purpose", "kind"), KINDS, ids=named)
@pytest.mark.parametrize("who", ["host", "peer"])
def test_no_answer_is_longer_than_its_question(who, purpose, kind, least):
    async def test():
        async with alive(who) as node:
            stranger = Stranger()
            question = stranger.sealed(purpose, made(kind, least=least))
            for _ in range(3):  # Recorded and sent again, it is not answered again either.
                stranger.send(question, node.address)
                await node.settled()
            answers = list(stranger.heard())
            assert sum(map(len, answers)) <= len(question), [len(one) for one in answers]
            assert len(answers) <= 1
            opener = Opener(derive_key(KEYS.room_key, HOST_PURPOSE if who == "host" else PEER_PURPOSE))
            for one in answers:
                opener.open(one)

    asyncio.run(test())


@pytest.mark.parametrize("least", [False, True], ids=["as we send it", "as short as may be"])
@pytest.mark.parametrize("kind", FROM_PEER, ids=named)
def test_no_answer_to_a_proven_speaker_is_longer_than_its_question(kind, least):
    async def test():
        async with alive("host") as node:
            speaker = Stranger()
            sealer = Sealer(derive_key(KEYS.room_key, PEER_PURPOSE), os.urandom(8), 1)
            opener = Opener(derive_key(KEYS.room_key, HOST_PURPOSE))
            speaker.send(sealer.seal(wire.encode(made(wire.Report))), node.address)
            await node.settled()
            (challenge,) = (wire.decode_from_host(opener.open(one).body) for one in speaker.heard())
            speaker.send(sealer.seal(wire.encode(wire.Proof(challenge.nonce))), node.address)
            probe = sealer.seal(wire.encode(wire.Probe(1, 1)))
            speaker.send(probe, node.address)
            await node.settled()
            (reply,) = speaker.heard()
            assert isinstance(wire.decode_from_host(opener.open(reply).body), wire.ProbeReply)
            assert len(reply) <= len(probe)
            question = sealer.seal(wire.encode(made(kind, least=least)))
            speaker.send(question, node.address)
            await node.settled()
            answers = list(speaker.heard())
            assert sum(map(len, answers)) <= len(question), [len(one) for one in answers]

    asyncio.run(test())


def test_there_are_answers_at_all():
    async def test():
        async with alive("host") as host, alive("peer") as peer:
            padded = wire.Challenge(bytes(8), bytes(wire.CHALLENGE_PADDING_BYTES))
            for node, purpose, question in (
                (host, PEER_PURPOSE, made(wire.Hello)),
                (host, PEER_PURPOSE, padded),
                (peer, HOST_PURPOSE, made(wire.Challenge)),
                (host, PEER_PURPOSE, made(wire.Report)),
            ):
                stranger = Stranger()
                stranger.send(stranger.sealed(purpose, question), node.address)
                await node.settled()
                assert len(list(stranger.heard())) == 1, question

    asyncio.run(test())


# -- requests to a host of its own --------------------------------------------------------------


@pytest.fixture(scope="module")
def host(house, songs):
    """A host with a library and a queue."""
    library = house.folder / "music"
    library.mkdir()
    (library / "first.flac").symlink_to(songs["first"][0])
    house.host("--library", str(library), str(songs["second"][0]))
    house.until("the library is read", lambda: house.client.get("/api/library")["tracks"] == 1)
    return house


@pytest.fixture(scope="module")
def token(host):
    return http_token(load_room_key(host.key))


def ask(host, method: str, path: str, body: dict[str, Any] | None = None, **headers: str) -> tuple[int, str]:
    """Return the status of an answer over TCP, and its error or message."""
    connection = http.client.HTTPConnection("127.0.0.1", host.port, timeout=10)
    connection.request(method, path, None if body is None else json.dumps(body), headers)
    answer = connection.getresponse()
    assert "Server" not in answer.headers
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    said = json.loads(answer.read())
    connection.close()
    return answer.status, said.get("error") or said.get("message") or ""


def test_a_page_that_lets_its_name_mean_this_machine_is_refused(host, token):
    keyed = {"Authorization": f"Bearer {token}"}
    good = f"127.0.0.1:{host.port}"
    assert ask(host, "GET", "/api/status", **keyed)[0] == 200
    assert ask(host, "GET", "/api/status", Host=f"evil.example:{host.port}", **keyed)[0] == 421
    assert ask(host, "POST", "/api/rooms/main/stop", {}, Origin="http://evil.example", **keyed)[0] == 403
    assert ask(host, "POST", "/api/rooms/main/stop", {}, Origin=f"http://{good}", **keyed)[0] == 200
    assert ask(host, "GET", "/api/status", **{"Sec-Fetch-Site": "cross-site"}, **keyed)[0] == 403


def test_who_guesses_is_told_to_wait_and_who_knows_still_comes_in(host, token):
    statuses = [ask(host, "GET", "/api/status", Authorization=f"Bearer {n}")[0] for n in range(40)]
    assert statuses[0] == 401
    assert statuses[-1] == 429
    assert ask(host, "GET", "/api/status", Authorization=f"Bearer {token}")[0] == 200


def test_over_the_network_only_the_librarys_own_is_played(host, songs, tmp_path):
    there = ("--host", f"127.0.0.1:{host.port}", "--key-file", str(host.key), "--state-dir", str(tmp_path))
    before = host.queue()
    for words in (
        ("play", str(songs["second"][0])),
        ("queue", "add", "/etc/passwd"),
        ("queue", "add", f"{host.folder}/music/../host"),
        ("play", "http://127.0.0.1:9/a.mp3"),
    ):
        done = host.run(*words, *there)
        assert (done.returncode, len(done.stderr.splitlines())) == (1, 1), done.stderr
        assert "is no track or folder of the host's library" in done.stderr
        assert "--search" in done.stderr
    done = host.run("queue", "add", "--playlist", "/etc/passwd", *there)
    assert (done.returncode, "the library has no playlist" in done.stderr) == (1, True)
    assert host.queue() == before
    for words in ((f"{host.folder}/music/first.flac",), (f"{host.folder}/music",), ("library:1",)):
        done = host.run("queue", "add", *words, *there)
        assert done.returncode == 0, done.stderr
    assert host.queue() == [*before, *["first.flac"] * 3]


def test_at_the_host_any_file_is_played(host, songs):
    assert "added" in host.call("queue", "add", str(songs["second"][0]))


def test_the_socket_is_the_owners_alone(host):
    assert host.paths.control_socket.stat().st_mode & 0o777 == 0o600
    assert host.paths.control_socket.parent.stat().st_mode & 0o077 == 0


def test_the_host_was_not_disturbed(host):
    log = next(one.log for one in host.started).read_text()
    assert "Traceback" not in log
    assert log.count("refused") < 30
