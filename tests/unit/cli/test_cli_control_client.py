"""Finding the host, and what its answers may be."""

import socket
import threading
from pathlib import Path

import pytest

from musicsyncd.config import OPEN_ROOM_KEY, NetworkConfig
from musicsyncd.errors import ConfigError, ControlError, DeviceError, ProtocolError
from musicsyncd.paths import Paths
from musicsyncd.protocol import auth, wire
from musicsyncd.system.control_client import MAX_HOSTS, ControlClient, api_path, find_on_lan

KEY = bytes(range(32))


@pytest.fixture(autouse=True)
def hints(monkeypatch):
    """What mDNS says; it is asked for nothing in these tests."""
    said = []

    def find(network, *, at_most_s):
        assert at_most_s < 2
        said.append(None)
        return []

    monkeypatch.setattr("musicsyncd.system.mdns.find", find)
    return said


def client(folder, *, network=None, host=None, open_room=True, other_sockets=()):
    paths = Paths.find({}, state_dir=folder)
    return ControlClient(
        network or NetworkConfig(interfaces=("lo",)),
        paths,
        host=host,
        open_room=open_room,
        other_sockets=other_sockets,
    )


def test_paths_of_the_api_are_quoted():
    assert api_path("rooms", "-", "play") == "/api/rooms/-/play"
    assert api_path("rooms", "../x?#ü", "play") == "/api/rooms/..%2Fx%3F%23%C3%BC/play"


def test_the_socket_of_this_machine_comes_first_and_needs_no_key(host, folder):
    one = client(folder)
    assert one.is_local
    assert one.get("/api/status") == {"message": "done"}
    assert host.tokens == [None]


def test_a_host_that_is_named_is_asked_with_the_token(host, folder):
    one = client(folder, host=f"127.0.0.1:{host.port}")
    assert not one.is_local
    one.post("/api/x", {"a": 1})
    one.delete("/api/y")
    assert host.requests == [("POST", "/api/x", {"a": 1}), ("DELETE", "/api/y", None)]
    assert host.tokens == [f"Bearer {auth.http_token(auth.HostKeys(OPEN_ROOM_KEY).room_key)}"] * 2


def test_a_host_is_called_by_its_address_however_it_was_named(host, folder):
    client(folder, host=f"localhost:{host.port}").get("/api/x")
    assert host.names == [f"127.0.0.1:{host.port}"]


def test_the_socket_of_a_system_service_is_tried_too(host, folder, tmp_path):
    one = client(tmp_path, other_sockets=(folder / "run" / "host.sock",))
    assert one.is_local


@pytest.mark.parametrize("text", ["pi:", "http://pi"])
def test_a_host_that_is_no_address_is_refused_at_once(folder, text):
    with pytest.raises(ConfigError):
        client(folder, host=text)


@pytest.mark.parametrize(
    ("status", "answer", "said"),
    [
        (400, {"error": "no such room"}, "^no such room$"),
        (404, {}, "HTTP status 404"),
        (500, b"<html>", "not a musicsyncd host"),
        (200, b"[1]", "not a musicsyncd host"),
        (200, b"\xff", "not a musicsyncd host"),
        (200, b"[" * 100_000, "not a musicsyncd host"),
        (401, {"error": "x"}, "does not know this key"),
        (403, {"error": "a guest may not skip"}, "a guest may not skip"),
        (403, b"", "is not a musicsyncd host"),
    ],
)
def test_an_answer_that_is_none_is_said_in_one_line(host, folder, status, answer, said):
    host.answer("GET", "/api/status", answer, status)
    with pytest.raises(ControlError, match=said) as refused:
        client(folder).get("/api/status")
    assert "\n" not in str(refused.value)


def test_an_answer_without_end_is_broken_off(host, folder, monkeypatch):
    monkeypatch.setattr("musicsyncd.system.control_client.MAX_ANSWER_BYTES", 1 << 20)
    host.answer("GET", "/api/status", b" " * (1 << 20) + b"{}")
    with pytest.raises(ControlError, match="longer than 1 MiB"):
        client(folder).get("/api/status")


def test_a_host_that_is_gone_is_said_and_looked_for_again(host, folder, monkeypatch):
    one = client(folder)
    one.get("/api/status")
    host.close_socket()
    with pytest.raises(ControlError, match="cannot reach the host"):
        one.get("/api/status")
    where = ("127.0.0.1", host.port)
    monkeypatch.setattr("musicsyncd.system.control_client.find_on_lan", lambda network, key: where)
    assert one.get("/api/status") == {"message": "done"}
    assert one.reach().address == where
    host.close()
    one = client(folder, host=f"127.0.0.1:{host.port}")
    with pytest.raises(ControlError, match=r"cannot reach the host at 127\.0\.0\.1:\d+: Connection refused"):
        one.get("/api/status")


def test_something_that_is_not_http(folder):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            connection, _ = server.accept()
            connection.recv(65536)
            connection.sendall(b"220 mail.example.org ESMTP\r\n")
            connection.close()

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(ControlError, match="cannot reach the host"):
            client(folder, host=f"127.0.0.1:{server.getsockname()[1]}").get("/api/status")
        thread.join()


class LanHost:
    """Answers hellos to the group on the loopback interface; keeps those it can open."""

    def __init__(
        self, room_key, *, answer=True, deaf_to=0, nonce=None, answers=((b"hosthost", "attic", 1234),), at=None
    ):
        self.hellos = []
        self._answers = answers
        self._key, self._answer, self._deaf_to, self._nonce = room_key, answer, deaf_to, nonce
        self.network = NetworkConfig(port=self._free_port(), interfaces=("lo",))
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.at = (at or self.network.group, self.network.port)
        self._socket.bind(self.at)
        member = socket.inet_aton(self.network.group) + socket.inet_aton("127.0.0.1")
        self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    @staticmethod
    def _free_port():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", 0))
            return probe.getsockname()[1]

    def _run(self):
        opener = auth.Opener(auth.derive_key(self._key, auth.PEER_PURPOSE))
        key = auth.derive_key(self._key, auth.HOST_PURPOSE)
        while True:
            data, address = self._socket.recvfrom(2048)
            if data == b"stop":
                return
            try:
                hello = wire.decode_from_peer(opener.open(data).body)
            except ProtocolError:
                continue
            self.hellos.append(hello)
            if self._answer and len(self.hellos) > self._deaf_to:
                self._socket.sendto(b"rubbish", address)
                for host_id, name, port in self._answers:
                    here = wire.Here(self._nonce or hello.nonce, port or self.network.port, name)
                    sealed = auth.Sealer(key, host_id, 1).seal(wire.encode(here))
                    assert len(sealed) <= len(data), "a hello must not be answered with more bytes than it had"
                    self._socket.sendto(sealed, address)

    def __enter__(self):
        return self

    def __exit__(self, *args):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stopper:
            stopper.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
            stopper.sendto(b"stop", self.at)
        self._thread.join()
        self._socket.close()


def test_the_host_on_the_lan_answers_a_hello():
    with LanHost(KEY) as lan:
        assert find_on_lan(lan.network, KEY) == ("127.0.0.1", 1234)


def test_a_host_that_answers_more_than_once_is_one_and_its_first_answer_counts(monkeypatch):
    monkeypatch.setattr("musicsyncd.system.control_client.HELLO_TIMES_S", (0.0, 0.9))
    monkeypatch.setattr("musicsyncd.system.control_client.OTHERS_S", 1.0)
    with LanHost(KEY, answers=((b"hosthost", "attic", 1234), (b"hosthost", "attic", 1235))) as lan:
        assert find_on_lan(lan.network, KEY) == ("127.0.0.1", 1234)
        assert len(lan.hellos) == 1, "who was heard is not asked again"


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        (
            ((b"hosthost", "attic", 0), (b"another.", "den", 1234)),
            "two hosts answer, attic (127.0.0.1) and den (127.0.0.1:1234): say which with --host",
        ),
        (
            ((b"hosthost", "attic", 0), (b"another.", "den", 0), (b"a third.", "attic", 0)),
            "3 hosts answer, attic (127.0.0.1), den (127.0.0.1) and attic (127.0.0.1): say which with --host",
        ),
    ],
)
def test_of_several_hosts_with_one_key_none_is_taken(answers, said):
    with LanHost(KEY, answers=answers) as lan, pytest.raises(ControlError) as refused:
        find_on_lan(lan.network, KEY)
    assert str(refused.value) == said


def test_hosts_without_end_are_not_all_told_apart():
    answers = tuple((number.to_bytes(8, "big"), "x", 0) for number in range(MAX_HOSTS + 4))
    with LanHost(KEY, answers=answers) as lan, pytest.raises(ControlError, match=f"^{MAX_HOSTS} hosts answer"):
        find_on_lan(lan.network, KEY)


def test_a_hello_that_got_lost_is_said_again():
    with LanHost(KEY, deaf_to=2) as lan:
        assert find_on_lan(lan.network, KEY) == ("127.0.0.1", 1234)
        assert len(lan.hellos) == 3


def test_a_host_with_another_key_is_not_heard_and_does_not_hear():
    with LanHost(bytes(32)) as lan:
        assert find_on_lan(lan.network, KEY, timeout_s=0.3) is None
        assert lan.hellos == []


def test_an_answer_to_another_hello_is_none():
    with LanHost(KEY, nonce=b"another!") as lan:
        assert find_on_lan(lan.network, KEY, timeout_s=0.3) is None
        assert lan.hellos


def test_an_address_is_asked_in_place_of_the_group():
    with LanHost(KEY, at="127.0.0.1") as lan, LanHost(KEY) as other:
        assert find_on_lan(other.network, KEY, at=[lan.at]) == ("127.0.0.1", 1234)
        assert (len(lan.hellos), other.hellos) == (1, [])
    # What nobody can be asked at is passed over.
    wrong = [("192.0.2.1%x", 1), ("fe80::1%gone0", 7783), ("127.0.0.1", 9)]
    assert find_on_lan(other.network, KEY, at=wrong, timeout_s=0.05) is None


def answers_at(monkeypatch, hint):
    """Have the group silent, and a host at the address that mDNS gives."""
    asked = []

    def find_on_lan(network, key, *, timeout_s=1.0, at=()):
        asked.append(tuple(at))
        return hint if hint in at else None

    monkeypatch.setattr("musicsyncd.system.control_client.find_on_lan", find_on_lan)
    return asked


def test_where_the_group_is_silent_mdns_is_asked_and_its_word_proved(host, tmp_path, monkeypatch):
    where = ("127.0.0.1", host.port)
    asked = answers_at(monkeypatch, where)
    monkeypatch.setattr("musicsyncd.system.mdns.find", lambda network, *, at_most_s: [("10.0.0.9", 7783), where])
    one = client(tmp_path)
    assert one.get("/api/status") == {"message": "done"}
    assert asked == [(), (("10.0.0.9", 7783), where)]
    assert one.reach().address == where


def test_mdns_is_asked_rarely_and_not_where_it_is_not_wanted(tmp_path, monkeypatch, hints):
    answers_at(monkeypatch, None)
    one = client(tmp_path)
    for _ in range(3):
        with pytest.raises(ControlError, match="no host answers"):
            one.get("/api/status")
    assert len(hints) == 1
    with pytest.raises(ControlError, match="no host answers"):
        client(tmp_path, network=NetworkConfig(interfaces=("lo",), mdns=False)).get("/api/status")
    assert len(hints) == 1

    def fail(network, *, at_most_s):
        raise DeviceError("port 5353 is taken")

    monkeypatch.setattr("musicsyncd.system.mdns.find", fail)
    with pytest.raises(ControlError, match="no host answers"):
        client(tmp_path).get("/api/status")


def test_an_interface_that_is_not_there_is_said():
    with pytest.raises(ConfigError, match="no interface 'nope0'"):
        find_on_lan(NetworkConfig(interfaces=("nope0",)), KEY, timeout_s=0.1)


def test_no_host_at_all_is_said_with_what_to_look_at(tmp_path, monkeypatch):
    monkeypatch.setattr("musicsyncd.system.control_client.find_on_lan", lambda network, key: None)
    with pytest.raises(ControlError, match=r"no host answers.*`musicsyncd host` running.*--host"):
        client(tmp_path).get("/api/status")


def test_without_a_key_the_lan_cannot_be_asked(tmp_path):
    with pytest.raises(ControlError, match=r"no host answers.*room\.key.*key join"):
        client(tmp_path, open_room=False).get("/api/status")


def test_a_socket_that_may_not_be_used_is_said(monkeypatch, tmp_path):
    def probe(path):
        return PermissionError() if path == Path("/run/x.sock") else FileNotFoundError()

    monkeypatch.setattr("musicsyncd.system.control_client._probe", probe)
    monkeypatch.setattr("musicsyncd.system.control_client.find_on_lan", lambda network, key: None)
    for open_room in (False, True):
        one = client(tmp_path, open_room=open_room, other_sockets=(Path("/run/x.sock"),))
        with pytest.raises(ControlError, match=r"you may not use its socket /run/x\.sock"):
            one.get("/api/status")


def test_who_may_not_command_the_service_is_told_how_to(monkeypatch, tmp_path):
    service = Path("/run/musicsyncd/host.sock")
    monkeypatch.setattr(
        "musicsyncd.system.control_client._probe",
        lambda path: PermissionError() if path == service else FileNotFoundError(),
    )
    one = ControlClient(NetworkConfig(), Paths.find({}, state_dir=tmp_path), local_only=True, other_sockets=(service,))
    with pytest.raises(ControlError, match=r"`sudo musicsyncd …`, or once `sudo adduser \$USER musicsyncd` and"):
        one.get("/api/status")


def test_a_socket_that_a_dead_host_left_is_passed_over(tmp_path, monkeypatch, folder):
    (folder / "run").mkdir()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(folder / "run" / "host.sock"))
    monkeypatch.setattr("musicsyncd.system.control_client.find_on_lan", lambda network, key: ("10.0.0.1", 7))
    assert client(folder).reach().address == ("10.0.0.1", 7)
