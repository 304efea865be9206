"""What the daemons are told, by call, environment and file."""

import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

import musicsyncd.system
from musicsyncd.config import NetworkConfig, default_name
from musicsyncd.protocol.auth import RoomKeys
from musicsyncd.system.keyfile import join_code, load_host_keys, load_room_keys, make_host_keys, write_room_keys

KEYS = RoomKeys(bytes(range(32)), bytes(range(16)))
CODE = join_code(KEYS)


@pytest.fixture
def told(monkeypatch):
    """Keep the configuration instead of running a daemon, and leave the log alone."""
    configs = []
    for name in ("host_daemon", "peer_daemon"):
        module = ModuleType(name)
        module.run = configs.append
        monkeypatch.setitem(sys.modules, f"musicsyncd.system.{name}", module)
        monkeypatch.setattr(musicsyncd.system, name, module, raising=False)
    log = ModuleType("log")
    log.set_up = lambda *, verbose: configs.append(("verbose", verbose))
    monkeypatch.setitem(sys.modules, "musicsyncd.system.log", log)
    monkeypatch.setattr(musicsyncd.system, "log", log, raising=False)
    return configs


def test_a_host_by_default(call, told, folder):
    assert call("host").exit_code == 0
    verbose, config = told
    assert verbose == ("verbose", False)
    assert (config.name, config.room, config.tracks, config.library) == (default_name(), "main", (), ())
    assert (config.speaker, config.open, config.network) == (False, False, NetworkConfig())
    assert config.after_restart == "now"
    assert config.paths.state_dir == folder
    assert config.paths.control_socket == folder / "run" / "host.sock"
    assert config.paths.config_file is None


def test_a_host_with_everything(call, told, folder, monkeypatch):
    monkeypatch.chdir(folder)
    result = call(
        "host", "a.flac", "/music", "--speaker", "--room", "kitchen", "--name", "attic", "--open", "-v",
        "--port", "9", "--group", "239.1.2.3", "--interface", "eth0", "--interface", "10.0.0.1", "--ttl", "3",
        "--key-file", "/k", "--cache-dir", "/c", "--runtime-dir", "/r",
        "--replaygain", "album", "--replaygain-preamp-db", "-3.5", "--after-restart", "stopped",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    verbose, config = told
    assert (config.replaygain, config.replaygain_preamp_db, config.after_restart) == ("album", -3.5, "stopped")
    assert verbose == ("verbose", True)
    assert config.tracks == (f"{os.getcwd()}/a.flac", "/music")
    assert (config.name, config.room, config.speaker, config.open) == ("attic", "kitchen", True, True)
    assert config.network == NetworkConfig(9, "239.1.2.3", ("eth0", "10.0.0.1"), 3)
    assert (config.paths.key_file, config.paths.cache_dir, config.paths.runtime_dir) == (
        Path("/k"),
        Path("/c"),
        Path("/r"),
    )


def test_a_peer_with_everything(call, told):
    result = call(
        "peer", "--name", "kitchen", "--device", "hw:DAC,0", "--output", "null", "--rate", "44100", "--host", "pi:1",
        "--buffer-ms", "120", "--output-delay-ms", "-3.5", "--channels", "left", "--cache-mib", "64", "--open",
        "--library", "/music", "--library", "/more",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    config = told[1]
    assert (config.name, config.device, config.output, config.rate_hz) == ("kitchen", "hw:DAC,0", "null", 44100)
    assert (config.buffer_ms, config.output_delay_ms, config.channels, config.cache_mib) == (120.0, -3.5, "left", 64)
    assert (config.host_address, config.open) == (("pi", 1), True)
    assert config.library == ("/music", "/more")


def test_a_peer_by_default(call, told):
    assert call("peer").exit_code == 0
    assert (told[1].cache_mib, told[1].library) == (None, ())


def test_a_peer_by_its_environment(call, told):
    variables = {
        "MUSICSYNCD_NAME": "window",
        "MUSICSYNCD_INTERFACE": "eth0 wlan0",
        "MUSICSYNCD_BUFFER_MS": "40",
        "MUSICSYNCD_HOST": "10.0.0.1",
        "MUSICSYNCD_KEY_FILE": "/k",
        "MUSICSYNCD_OPEN": "1",
        "MUSICSYNCD_AFTER_RESTART": "stopped",
    }
    assert call("peer", **variables).exit_code == 0
    config = told[1]
    assert (config.name, config.buffer_ms, config.open) == ("window", 40.0, True)
    assert config.network.interfaces == ("eth0", "wlan0")
    assert config.host_address == ("10.0.0.1", 7783)
    assert config.paths.key_file == Path("/k")
    assert call("host", **variables).exit_code == 0
    assert told[3].after_restart == "stopped"


@pytest.mark.parametrize("way", ["option", "environment", "stdin"])
def test_a_peer_that_joins_keeps_the_code_and_starts(call, told, folder, way):
    words, code, variables = {
        "option": (("--join", f"musicsyncd:join:{CODE}"), None, {}),
        "environment": ((), None, {"MUSICSYNCD_JOIN": CODE}),
        "stdin": (("--join", "-"), "\n".join(CODE.split("-")), {}),
    }[way]
    result = call("peer", *words, input=code, **variables)
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == f"musicsyncd: {folder}/room.key has the key now\n"
    assert load_room_keys(folder / "room.key") == KEYS
    assert (folder / "room.key").stat().st_mode & 0o777 == 0o600
    assert told[1].paths.key_file == folder / "room.key"
    assert call("peer", *words, input=code, **variables).stderr == ""
    assert call("peer", *words, input="", **variables).stderr == ""
    assert load_room_keys(folder / "room.key") == KEYS
    assert len(told) == 6


def test_a_peer_that_joins_another_host_says_that_it_does(call, told, folder):
    write_room_keys(folder / "room.key", RoomKeys(bytes(32), bytes(16)))
    result = call("peer", "--join", CODE)
    assert "had another key: it is replaced" in result.stderr
    assert load_room_keys(folder / "room.key") == KEYS


@pytest.mark.parametrize(
    ("words", "exit_code", "said"),
    [
        (("--join", "J-nonsense"), 1, "it has 9 letters and digits"),
        (("--join", CODE[:-1]), 1, "82 letters and digits instead of 83"),
        (("--join", "-"), 1, "does not begin with J"),
        (("--join", CODE, "--open"), 2, "contradict each other"),
    ],
)
def test_a_peer_that_cannot_join_does_not_start(call, told, folder, words, exit_code, said):
    result = call("peer", *words)
    assert (result.exit_code, told) == (exit_code, [])
    assert said in result.stderr
    assert CODE[2:14] not in result.stderr
    assert not (folder / "room.key").exists()


def test_a_peer_does_not_join_with_the_key_of_this_machines_host(call, told, folder):
    host = make_host_keys(folder / "room.key")
    result = call("peer", "--join", CODE)
    assert (result.exit_code, told) == (1, [])
    assert "the secret of this machine's own host" in result.stderr
    assert load_host_keys(folder / "room.key") == host


def test_the_key_is_systemds_credential_unless_another_is_named(call, told, folder):
    (folder / "credentials").mkdir()
    variables = {"CREDENTIALS_DIRECTORY": str(folder / "credentials")}
    call("peer", **variables)
    (folder / "credentials" / "room.key").write_text(CODE)
    call("peer", **variables)
    call("peer", "--key-file", "/k", **variables)
    assert [one.paths.key_file for one in told[1::2]] == [
        folder / "room.key",
        folder / "credentials" / "room.key",
        Path("/k"),
    ]
    assert told[3].paths.rotated_key_file == folder / "rotated.key"


def test_daemons_by_their_file(call, told, folder):
    file = folder / "m.toml"
    file.write_text(
        """
[common]
key-file = "room.key"
interface = "eth0"
port = 7000
[host]
tracks = ["album", "/b.flac"]
speaker = true
name = "attic"
[peer]
buffer-ms = 100
interface = ["wlan0", "eth1"]
channels = "mono"
"""
    )
    assert call("--config", str(file), "host").exit_code == 0
    assert call("--config", str(file), "peer", "--buffer-ms", "50").exit_code == 0
    host, peer = told[1], told[3]
    assert host.tracks == (f"{folder}/album", "/b.flac")
    assert (host.speaker, host.name, host.network.port) == (True, "attic", 7000)
    assert host.network.interfaces == ("eth0",)
    assert host.paths.key_file == folder / "room.key"
    assert host.paths.config_file == file
    assert (peer.buffer_ms, peer.channels, peer.network.interfaces) == (50.0, "mono", ("wlan0", "eth1"))
    assert call("--config", str(file), "host", "/c.flac", "--no-speaker").exit_code == 0
    assert (told[5].tracks, told[5].speaker) == (("/c.flac",), False)


def test_the_librarys_folders_by_call_environment_and_file(call, told, folder, monkeypatch):
    monkeypatch.chdir(folder)
    call("host", "--library", "music", "--library", "~/more")
    call("host", MUSICSYNCD_LIBRARY="/a b:/c")
    (folder / "m.toml").write_text('[host]\nlibrary = ["music", "/c"]\n')
    call("--config", str(folder / "m.toml"), "host")
    (folder / "m.toml").write_text('[host]\nlibrary = "music"\n')
    call("--config", str(folder / "m.toml"), "host")
    assert [one.library for one in told[1::2]] == [
        (f"{os.getcwd()}/music", f"{folder}/more"),
        ("/a b", "/c"),
        (f"{folder}/music", "/c"),
        (f"{folder}/music",),
    ]


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (("host", "--name", ""), 1, "the host's name is empty"),
        (("host", "--room", "-"), 1, "cannot be called '-'"),
        (("host", "--group", "10.0.0.1"), 1, "not an IPv4 multicast address"),
        (("peer", "--output", "file:x"), 1, "file:PATH.wav"),
        (("peer", "--host", "a b"), 1, "not an address"),
        (("peer", "--buffer-ms", "1"), 2, "buffer-ms"),
        (("peer", "--channels", "all"), 2, "channels"),
        (("peer", "extra"), 2, "extra"),
        (("host", "--after-restart", "later"), 2, "after-restart"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_starts(call, told, args, code, said):
    result = call(*args)
    assert (result.exit_code, told) == (code, [])
    assert said in result.stderr
