"""What the daemons are told, by call, environment and file."""

import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

import musicsyncd.system
from musicsyncd.config import NetworkConfig, default_name


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
    assert config.paths.state_dir == folder
    assert config.paths.control_socket == folder / "run" / "host.sock"
    assert config.paths.config_file is None


def test_a_host_with_everything(call, told, folder, monkeypatch):
    monkeypatch.chdir(folder)
    result = call(
        "host", "a.flac", "/music", "--speaker", "--room", "kitchen", "--name", "attic", "--open", "-v",
        "--port", "9", "--group", "239.1.2.3", "--interface", "eth0", "--interface", "10.0.0.1", "--ttl", "3",
        "--key-file", "/k", "--cache-dir", "/c", "--runtime-dir", "/r",
        "--replaygain", "album", "--replaygain-preamp-db", "-3.5",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    verbose, config = told
    assert (config.replaygain, config.replaygain_preamp_db) == ("album", -3.5)
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
    }
    assert call("peer", **variables).exit_code == 0
    config = told[1]
    assert (config.name, config.buffer_ms, config.open) == ("window", 40.0, True)
    assert config.network.interfaces == ("eth0", "wlan0")
    assert config.host_address == ("10.0.0.1", 7783)
    assert config.paths.key_file == Path("/k")


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
    ],
)
def test_what_cannot_be_is_refused_before_anything_starts(call, told, args, code, said):
    result = call(*args)
    assert (result.exit_code, told) == (code, [])
    assert said in result.stderr
