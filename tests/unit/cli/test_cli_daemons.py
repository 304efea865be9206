"""What the daemons are told, by call, environment and file."""

import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

import musicsyncd.system
from musicsyncd.config import NetworkConfig, default_name
from musicsyncd.errors import ConfigError
from musicsyncd.hook_config import HookConfig
from musicsyncd.protocol.auth import RoomKeys
from musicsyncd.system.keyfile import join_code, load_host_keys, load_room_keys, make_host_keys, write_room_keys

KEYS = RoomKeys(bytes(range(32)), bytes(range(16)))
CODE = join_code(KEYS)


class Told(list):
    """What the daemons were told, and how they read it again."""

    def __init__(self):
        super().__init__()
        self.rereads = []


@pytest.fixture
def told(monkeypatch):
    """Keep the configuration instead of running a daemon, and leave the log alone."""
    configs = Told()
    for name in ("host_daemon", "peer_daemon"):
        module = ModuleType(name)
        module.run = lambda config, reread: (configs.append(config), configs.rereads.append(reread))
        monkeypatch.setitem(sys.modules, f"musicsyncd.system.{name}", module)
        monkeypatch.setattr(musicsyncd.system, name, module, raising=False)
    log = ModuleType("log")
    log.set_up = lambda *, verbose: configs.append(("verbose", verbose))
    log.set_verbose = lambda verbose: configs.append(("verbose now", verbose))
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
        "--no-mdns",
        "--key-file", "/k", "--cache-dir", "/c", "--runtime-dir", "/r",
        "--replaygain", "album", "--replaygain-preamp-db", "-3.5", "--after-restart", "stopped",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    verbose, config = told
    assert (config.replaygain, config.replaygain_preamp_db, config.after_restart) == ("album", -3.5, "stopped")
    assert verbose == ("verbose", True)
    assert config.tracks == (f"{os.getcwd()}/a.flac", "/music")
    assert (config.name, config.room, config.speaker, config.open) == ("attic", "kitchen", True, True)
    assert config.network == NetworkConfig(9, "239.1.2.3", ("eth0", "10.0.0.1"), 3, mdns=False)
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


HOOKS = """
[peer]
on-sound = "amp --room 'living room' on"
on-silence = ["sh", "-c", "amp off; exit 0"]
silence-after-s = 60
hook-timeout-s = 2.5
"""


def test_hooks_by_file_call_and_environment(call, told, folder):
    (folder / "m.toml").write_text(HOOKS)
    file = ("--config", str(folder / "m.toml"))
    assert call(*file, "peer").exit_code == 0
    assert call(*file, "peer", "--on-sound", "x 'y z'", "--silence-after-s", "0").exit_code == 0
    assert call("peer", MUSICSYNCD_ON_SILENCE="a b", MUSICSYNCD_HOOK_TIMEOUT_S="1").exit_code == 0
    assert call("peer").exit_code == 0
    off = ("sh", "-c", "amp off; exit 0")
    assert [one.hooks for one in told[1::2]] == [
        HookConfig(("amp", "--room", "living room", "on"), off, 60.0, 2.5),
        HookConfig(("x", "y z"), off, 0.0, 2.5),
        HookConfig((), ("a", "b"), 30.0, 1.0),
        HookConfig((), (), 30.0, 10.0),
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("on-sound = 3", "'on-sound' in [peer] must be a command, and is 3"),
        ('on-sound = ["amp", 3]', "must be a command, and is ['amp', 3]"),
        ('on-sound = "amp \'on"', "'on-sound' for [peer]: \"amp 'on\" cannot be a command: no closing quotation"),
        ("silence-after-s = -1", "'silence-after-s' for [peer]: -1.0 is not in the range"),
    ],
)
def test_hooks_that_cannot_be_are_refused_with_their_file(call, told, folder, text, said):
    (folder / "m.toml").write_text(f"[peer]\n{text}\n")
    result = call("peer", "--config", str(folder / "m.toml"))
    assert (result.exit_code, told) == (1, [])
    assert said in result.stderr
    assert result.stderr.count("\n") == 1


def test_hooks_are_a_speakers_and_not_the_hosts_or_everybodys(call, told, folder):
    for section in ("host", "common"):
        (folder / "m.toml").write_text(f'[{section}]\non-sound = "amp on"\n')
        result = call("peer", "--config", str(folder / "m.toml"))
        assert "no key 'on-sound'" in result.stderr
        assert "it belongs in [peer]" in result.stderr


# -- the file read again -----------------------------------------------------------------------


def test_a_call_is_taken_again_against_the_file_as_it_is_by_then(call, told, folder):
    file = folder / "m.toml"
    file.write_text('[peer]\nchannels = "left"\nbuffer-ms = 40\n')
    assert call("--config", str(file), "peer", "--buffer-ms", "50", "-v").exit_code == 0
    assert (told[1].channels, told[1].buffer_ms) == ("left", 50.0)
    file.write_text('[peer]\nchannels = "right"\nbuffer-ms = 60\n[common]\nport = 9\n')
    again = told.rereads[0]()
    assert (again.channels, again.buffer_ms, again.network.port) == ("right", 50.0, 9)
    assert told[2:] == [("verbose now", True)]
    file.write_text("")
    assert (told.rereads[0]().channels, told.rereads[0]().network.port) == (None, 7783)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[peer", "is not valid TOML"),
        ("[peer]\nchanels = 3", "there is no key 'chanels' in [peer]"),
        ('[peer]\nchannels = "all"', "'channels' for [peer]: 'all' is not one of"),
        ('[peer]\noutput = "file:x"', "file:PATH.wav"),
        ("[common]\nttl = 256", "'ttl' for [peer]: 256 is not in the range"),
    ],
)
def test_a_file_that_is_broken_by_then_is_one_line_and_changes_nothing(call, told, folder, text, said):
    file = folder / "m.toml"
    file.write_text("[common]\nverbose = true\n")
    call("--config", str(file), "peer")
    file.write_text(text)
    with pytest.raises(ConfigError) as refused:
        told.rereads[0]()
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
    assert len(told) == 2
    file.unlink()
    with pytest.raises(ConfigError, match="cannot read the configuration file"):
        told.rereads[0]()


def test_a_file_that_comes_later_or_goes_is_noticed_where_none_was_named(call, told, folder, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
    monkeypatch.setenv("MUSICSYNCD_STATE_DIR", str(folder))
    call("host", "/a.flac")
    file = folder / "config" / "musicsyncd" / "musicsyncd.toml"
    file.parent.mkdir(parents=True)
    file.write_text('[host]\nlibrary = "/music"\ntracks = "/b.flac"\n')
    found = told.rereads[0]()
    assert (found.library, found.tracks, found.paths.config_file) == (("/music",), ("/a.flac",), file)
    file.unlink()
    assert told.rereads[0]() == told[1]


def test_a_join_code_is_for_the_start_alone(call, told, folder, monkeypatch):
    monkeypatch.setenv("MUSICSYNCD_STATE_DIR", str(folder))
    call("peer", "--join", CODE)
    write_room_keys(folder / "room.key", RoomKeys(bytes(32), bytes(16)))
    assert told.rereads[0]() == told[1]
    assert load_room_keys(folder / "room.key") == RoomKeys(bytes(32), bytes(16))


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
