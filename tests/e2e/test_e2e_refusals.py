"""What cannot be done is refused with a status and one line, and nobody sees a traceback."""

from __future__ import annotations

import json
import re
import sqlite3
from pathlib import Path

import pytest
from house import House, free_port

LOG_LINES = 4
"""Lines of a daemon's log that may stand before the one that says why it ends."""

BAD_TRACKS = {
    "missing.flac": "there is no",
    "empty.flac": "is empty (0 bytes)",
    "text.mp3": "is no music",
    "head.flac": "is no music",
    "loop.wav": "cannot be read",
    "folder": "no music in",
}


@pytest.fixture(scope="module")
def host(house):
    """A host with an empty queue."""
    return house.host()


@pytest.fixture(scope="module")
def files(house, songs):
    """Files and folders that are no music, by name."""
    folder = house.folder / "files"
    (folder / "folder").mkdir(parents=True)
    (folder / "folder" / "notes.txt").write_text("no music")
    (folder / "empty.flac").touch()
    (folder / "text.mp3").write_text("this is a text")
    (folder / "head.flac").write_bytes(songs["first"][0].read_bytes()[:60])
    (folder / "loop.wav").symlink_to("loop.wav")  # Nobody can read it, root neither.
    return folder


@pytest.fixture
def other(house, tmp_path):
    """The options of another host or speaker that is to be started beside the house's."""
    return ("--interface", "lo", "--port", str(free_port()), "--state-dir", str(tmp_path / "other"))


@pytest.fixture
def here(house, host):
    """The options by which a command finds the house's host."""
    return (*house.network, "--state-dir", str(house.state))


def refused(done, *, log_lines=0):
    """Assert that a process ended with 1 and one line that says why, behind its log, and return the line."""
    assert done.returncode == 1, (done.returncode, done.stderr)
    assert "Traceback" not in done.stderr + done.stdout
    *log, line = done.stderr.strip().splitlines()
    assert len(log) <= log_lines, done.stderr
    assert all(re.match(r"\d\d:\d\d:\d\d ", one) for one in log), done.stderr
    assert line.startswith("musicsyncd: "), line
    return line


def wrong_call(done):
    """Assert that a process ended with 2 and said how it is called, and return what is wrong."""
    assert done.returncode == 2, (done.returncode, done.stderr)
    assert done.stderr.startswith("Usage: musicsyncd ")
    return done.stderr.splitlines()[-1]


# -- starting ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BAD_TRACKS)
def test_a_host_that_has_nothing_to_play_says_why(house, files, other, name):
    line = refused(house.run("host", *other, str(files / name)), log_lines=LOG_LINES)
    assert BAD_TRACKS[name] in line
    assert str(files / name) in line


def test_a_second_host_on_the_port(house, host, other):
    line = refused(house.run("host", *other, "--port", str(house.port)), log_lines=LOG_LINES)
    assert f"port {house.port}" in line
    assert "--port" in line


def test_a_second_host_on_the_state(house, host, here):
    line = refused(house.run("host", *here, "--port", str(free_port())))
    assert "runs on this machine already" in line


@pytest.mark.parametrize("command", ["host", "peer"])
def test_an_interface_that_is_not_there(house, host, other, command):
    line = refused(house.run(command, *other, "--key-file", str(house.key), "--interface", "nope0"))
    assert "'nope0'" in line
    assert "lo (127.0.0.1)" in line


def test_a_speaker_without_the_key(house, other):
    line = refused(house.run("peer", *other))
    assert "no room key at" in line


def test_a_speaker_with_a_broken_key(house, other, tmp_path):
    (tmp_path / "key").write_text("not a join code\n")
    (tmp_path / "key").chmod(0o600)
    assert "join code" in refused(house.run("peer", *other, "--key-file", str(tmp_path / "key")))


def test_an_output_file_that_cannot_be_written(house, host, other):
    where = ("--output", f"file:{house.folder}/no/such/folder/x.wav")
    line = refused(house.run("peer", *other, "--key-file", str(house.key), *where), log_lines=LOG_LINES)
    assert "cannot write" in line


def test_a_state_folder_that_cannot_be_made(house, tmp_path):
    (tmp_path / "file").touch()
    line = refused(house.run("host", "--interface", "lo", "--state-dir", str(tmp_path / "file" / "state")))
    assert "cannot make the folder" in line
    assert "--state-dir" in line


@pytest.mark.parametrize("file", ["lock", "state.sqlite"])
def test_a_state_that_cannot_be_written(house, other, file):
    # A folder in a file's place: what root cannot write either.
    (Path(other[-1]) / "host" / file).mkdir(parents=True)
    line = refused(house.run("host", *other), log_lines=LOG_LINES)
    assert "cannot" in line
    assert f"{other[-1]}/host" in line


def test_a_database_of_a_newer_version_is_left_alone(house, other):
    state = Path(other[-1]) / "host" / "state.sqlite"
    state.parent.mkdir(parents=True)
    with sqlite3.connect(state) as database:
        database.execute("PRAGMA application_id = 0x6D737964")
        database.execute("PRAGMA user_version = 99")
    before = state.read_bytes()
    line = refused(house.run("host", *other), log_lines=LOG_LINES)
    assert "newer" in line
    assert str(state) in line
    assert state.read_bytes() == before


def test_a_database_that_is_none_is_left_alone(house, other):
    state = Path(other[-1]) / "host" / "state.sqlite"
    state.parent.mkdir(parents=True)
    state.write_bytes(b"something else " * 1000)
    assert str(state) in refused(house.run("host", *other), log_lines=LOG_LINES)
    assert state.read_bytes() == b"something else " * 1000


# -- commands ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BAD_TRACKS)
def test_what_is_no_track_does_not_get_into_the_queue(house, files, here, name):
    line = refused(house.run("queue", "add", str(files / name), *here))
    assert BAD_TRACKS[name] in line
    assert str(files / name) in line
    assert house.client.get("/api/rooms/-/queue")["entries"] == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("play",), "the queue is empty"),
        (("pause",), "nothing is playing"),
        (("seek", "10"), "nothing is playing"),
        (("play", "--room", "attic"), "no room 'attic': there is main"),
        (("rooms", "remove", "main"), "the only room"),
        (("rooms", "make", "main"), "already"),
        (("volume", "bath", "50"), "no speaker 'bath'"),
        (("rooms", "move", "bath", "main"), "no speaker 'bath'"),
        (("queue", "remove", "7"), "no position 7"),
    ],
    ids=" ".join,
)
def test_a_command_that_cannot_be_carried_out(house, here, words, said):
    assert said in refused(house.run(*words, *here))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("volume", "900"), "900"),
        (("volume", "loud"), "loud"),
        (("delay", "bath", "1000000"), "1000000"),
        (("seek",), "TO"),
        (("frobnicate",), "frobnicate"),
        (("host", "--port", "99999"), "99999"),
        (("peer", "--output", "speaker"), "speaker"),
    ],
    ids=" ".join,
)
def test_a_call_that_makes_no_sense(house, words, said):
    done = house.run(*words)
    if done.returncode == 1:  # Known only when all of the configuration is looked at.
        assert said in refused(done)
    else:
        assert said in wrong_call(done)


@pytest.mark.parametrize(
    ("to", "said"), [("0:41", "past the end: the track is 0:40 long"), ("+1:00:00", "past the end"), ("there", "50%")]
)
def test_a_seek_to_nowhere(house, here, songs, to, said):
    if not house.room()["queue_length"]:
        house.call("play", str(songs["first"][0]))
    assert said in refused(house.run("seek", to, *here))
    assert house.room()["mode"] == "playing"


def test_no_host_anywhere(house, tmp_path):
    port = ("--interface", "lo", "--port", str(free_port()), "--state-dir", str(tmp_path))
    assert "no host answers" in refused(house.run("status", *port))


def test_what_answers_is_no_host(house, host, tmp_path):
    done = house.run("status", "--host", f"127.0.0.1:{free_port()}", "--key-file", str(house.key))
    assert "cannot reach the host" in refused(done)


# -- and what a person gets who asks properly ----------------------------------------------


def test_status_is_json_for_programs(house, host):
    status = json.loads(house.call("status", "--json"))
    (room,) = status["rooms"]
    assert {"name", "version", "port", "uptime_s", "dropped"} <= status["host"].keys()
    assert {"name", "mode", "track", "position_s", "volume", "muted", "queue_length", "fault"} <= room.keys()
    assert (status["host"]["name"], room["name"], status["peers"]) == ("host", "main", [])


def test_devices_lists_the_cards_of_this_machine(house, card):
    configuration = house.folder / "two-cards.conf"
    configuration.write_text(
        f'pcm_type.vdac {{ lib "{card}" }}\n'
        + "".join(
            f'pcm.{name} {{ type vdac capture "{house.folder}/probe-{name}" rate 48000 '
            f'hint {{ show on description "{name}" }} }}\n'
            for name in ("porch", "cellar")
        )
        + "pcm.!default porch\n"
    )
    done = house.run("devices", "--json", ALSA_CONFIG_PATH=str(configuration))
    assert done.returncode == 0, done.stderr
    assert {"porch", "cellar"} <= {device["stable_name"] for device in json.loads(done.stdout)}


def test_the_house_was_not_disturbed(house: House, host):
    assert host.process.poll() is None
    assert "Traceback" not in host.log.read_text()
