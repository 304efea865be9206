"""Who has the room's key may listen and command, and nobody else."""

from __future__ import annotations

import hashlib
import http.client
import itertools
import json
import time
from pathlib import Path

import pytest

from musicsyncd.protocol.auth import http_token
from musicsyncd.system.keyfile import load_room_key


@pytest.fixture(scope="module")
def room(house, songs):
    """A host that plays, with a speaker that has the key."""
    house.host(str(songs["first"][0]))
    house.peer("friend", ppm=10.0)
    house.together("friend")
    return house


@pytest.fixture(scope="module")
def other_key(room):
    key = room.folder / "other.key"
    made = room.run("key", "new", "--key-file", str(key))
    assert made.returncode == 0, made.stderr
    return key


SOURCES = (f"127.0.1.{n}" for n in itertools.count(1))
"""Whoever is refused too often from one address is not answered any more; each question here comes from its own."""


def ask(house, path, *, method="GET", token="", **headers):
    """Return the status and the body of a request over TCP."""
    connection = http.client.HTTPConnection("127.0.0.1", house.port, timeout=10, source_address=(next(SOURCES), 0))
    given = {"Authorization": f"Bearer {token}"} if token else {}
    connection.request(method, path, headers=given | headers)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, body


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/status"),
        ("POST", "/api/rooms/main/pause"),
        ("DELETE", "/api/rooms/main"),
        ("GET", "/media/" + "0" * 64),
        ("GET", "/nothing/here"),
    ],
)
@pytest.mark.parametrize("token", ["", "0" * 64])
def test_without_the_rooms_token_nothing_is_answered(room, method, path, token):
    status, body = ask(room, path, method=method, token=token)
    assert status == 401
    assert list(json.loads(body)) == ["error"]
    assert room.room()["mode"] == "playing"


def test_a_track_is_served_byte_for_byte_in_ranges(room, songs):
    token = http_token(load_room_key(room.key))
    whole = songs["first"][0].read_bytes()
    path = f"/media/{hashlib.sha256(whole).hexdigest()}"
    assert ask(room, path)[0] == 401
    assert ask(room, path, token=token) == (200, whole)
    middle = len(whole) // 2
    first = ask(room, path, token=token, Range=f"bytes=0-{middle - 1}")
    second = ask(room, path, token=token, Range=f"bytes={middle}-")
    assert (first[0], second[0]) == (206, 206)
    assert hashlib.sha256(first[1] + second[1]).digest() == hashlib.sha256(whole).digest()
    assert ask(room, path, token=token, Range=f"bytes={len(whole)}-")[0] == 416


@pytest.mark.parametrize("path", ["/media/" + "0" * 64, "/media/../etc/passwd", "/media/%2e%2e%2fetc%2fpasswd"])
def test_what_is_in_no_queue_is_not_served(room, path):
    status, body = ask(room, path, token=http_token(load_room_key(room.key)))
    assert status == 404
    assert b"root:" not in body


def test_a_speaker_with_another_key_is_never_heard(room, songs, other_key):
    since = time.time()
    stranger = room.peer("stranger", "--key-file", str(other_key))
    room.until("its card plays", lambda: "playing on" in stranger.log.read_text())
    time.sleep(2.5)
    assert room.level_db("stranger", since, time.time()) < -100.0
    assert room.level_db("friend", since, time.time()) > -60.0
    assert room.speaker("stranger") == {}
    assert sum(room.status()["host"]["dropped"].values()) > 0
    assert stranger.process.poll() is None


@pytest.mark.parametrize(("where", "said"), [("named", "does not know this key"), ("searched for", "no host answers")])
def test_a_command_with_another_key_gets_one_line(room, other_key, tmp_path, where, said):
    words = ["status", "--key-file", str(other_key), "--interface", "lo", "--port", str(room.port)]
    words += ["--state-dir", str(tmp_path)] + (["--host", f"127.0.0.1:{room.port}"] if where == "named" else [])
    done = room.run(*words)
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1
    assert said in done.stderr


@pytest.mark.parametrize("where", ["named", "searched for"])
def test_a_command_with_the_key_finds_the_host_over_the_network(room, tmp_path, where):
    words = ["status", "--json", "--key-file", str(room.key), "--interface", "lo", "--port", str(room.port)]
    words += ["--state-dir", str(tmp_path)] + (["--host", f"127.0.0.1:{room.port}"] if where == "named" else [])
    done = room.run(*words)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["host"]["name"] == "host"


def test_the_key_is_in_no_argument_and_readable_by_its_owner_only(room):
    assert room.key.stat().st_mode & 0o077 == 0
    assert room.paths.control_socket.stat().st_mode & 0o077 == 0
    secret, code = room.key.read_text().split()[0], join_code_of(room)
    assert code.startswith("J-")
    assert secret.startswith("H-")
    for started in room.started:
        words = Path(f"/proc/{started.process.pid}/cmdline").read_text()
        assert secret not in words
        assert code not in words
    assert all(secret not in text and code not in text for _, text in room.logs())


def join_code_of(room):
    shown = room.run("key", "show", "--key-file", str(room.key), "--json")
    assert shown.returncode == 0, shown.stderr
    return json.loads(shown.stdout)["join_code"]


def test_a_speaker_joins_with_the_code_and_has_it_from_then_on(room):
    own = room.folder / "joined" / "room.key"
    words = ("--key-file", str(own), "--output", "null")
    first = room.peer("joined", *words, MUSICSYNCD_JOIN=join_code_of(room))
    room.together("joined")
    assert f"{own} has the key now" in first.log.read_text()
    assert own.stat().st_mode & 0o777 == 0o600
    assert own.read_text().strip() == join_code_of(room)
    first.stop()
    again = room.peer("joined", *words)
    room.together("joined")
    again.stop()


def test_a_speaker_takes_the_key_from_systemds_credential(room):
    folder = room.folder / "credentials"
    folder.mkdir()
    (folder / "room.key").write_text(join_code_of(room))
    (folder / "room.key").chmod(0o440)
    words = ("peer", "--name", "handed", "--state-dir", str(room.folder / "handed"), "--output", "null")
    handed = room.start("handed", *words, CREDENTIALS_DIRECTORY=str(folder))
    room.together("handed")
    assert "chmod" not in handed.log.read_text()
    assert not (room.folder / "handed" / "room.key").exists()
    handed.stop()


def test_a_hosts_secret_is_no_join_code(room, tmp_path):
    secret = room.key.read_text().split()[0]
    done = room.run("peer", "--key-file", str(tmp_path / "k"), "--state-dir", str(tmp_path), MUSICSYNCD_JOIN=secret)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines() == [
        "musicsyncd: that is the host's own secret: keep it there; its join code is shown by `musicsyncd key show`"
    ]
