from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from musicsyncd.config import (
    AFTER_RESTART,
    HostConfig,
    NetworkConfig,
    PeerConfig,
    address_text,
    check_name,
    check_room,
    default_name,
    parse_address,
)
from musicsyncd.errors import ConfigError
from musicsyncd.paths import Paths, credential_key, socket_mode
from musicsyncd.playback import saved

PATHS = Paths.find({}, state_dir=Path("/s"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("pi", ("pi", 7783)),
        ("pi.local:80", ("pi.local", 80)),
        (" 10.0.0.1:65535 ", ("10.0.0.1", 65535)),
        ("::1", ("::1", 7783)),
        ("[::1]", ("::1", 7783)),
        ("[fe80::1%eth0]:99", ("fe80::1%eth0", 99)),
    ],
)
def test_an_address_with_and_without_port(text, expected):
    assert parse_address(text) == expected


@pytest.mark.parametrize(
    "text", ["", " ", ":80", "pi:", "pi:0", "pi:65536", "pi:x", "pi:²", "[::1", "[::1]x", "[::1]:", "http://pi", "a b"]
)
def test_what_is_no_address_is_refused(text):
    with pytest.raises(ConfigError):
        parse_address(text)


@given(st.text(max_size=40))
def test_any_text_is_an_address_or_refused_in_one_line(text):
    line = ""
    address, port = "x", 1
    try:
        address, port = parse_address(text)
    except ConfigError as error:
        line = str(error)
    assert "\n" not in line
    assert address
    assert 1 <= port <= 65535


@pytest.mark.parametrize("name", ["", " ", "x" * 65, "a\nb", "\x1b[31m"])
def test_names_that_nobody_could_read_are_refused(name):
    with pytest.raises(ConfigError):
        check_name("peer", name)


def test_names_may_have_64_characters_of_any_script():
    check_name("peer", "Küche 台所"[:7] + "x" * 57)


def test_a_room_is_not_called_like_the_default_in_the_api():
    with pytest.raises(ConfigError, match="'-'"):
        check_room("-")


@pytest.mark.parametrize("hostname", ["", "\x00", "x" * 300, "attic-pi.example.org"])
def test_the_default_name_is_a_name_whatever_the_machine_is_called(monkeypatch, hostname):
    monkeypatch.setattr("socket.gethostname", lambda: hostname)
    check_name("peer", default_name())


def test_the_default_name_leaves_the_domain_out(monkeypatch):
    monkeypatch.setattr("socket.gethostname", lambda: "attic-pi.example.org")
    assert default_name() == "attic-pi"


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"port": 0}, "port 0"),
        ({"port": 65536}, "port 65536"),
        ({"ttl": 256}, "TTL of 256"),
        ({"group": "10.0.0.1"}, "10.0.0.1"),
        ({"group": "ff02::1"}, "ff02::1"),
        ({"group": "239.1.1"}, "239.1.1"),
        ({"group": "239.1.1.1\0"}, "239"),
        ({"interfaces": ("",)}, "interface"),
        ({"interfaces": ("x",) * 33}, "32"),
    ],
)
def test_a_network_that_cannot_be_is_refused(values, named):
    with pytest.raises(ConfigError, match=named):
        NetworkConfig(**values)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"name": ""}, "name"),
        ({"host": "pi:"}, "pi:"),
        ({"output": "file:"}, "file:PATH.wav"),
        ({"output": "file:.wav"}, "file:PATH.wav"),
        ({"output": "file:x.mp3"}, "file:PATH.wav"),
        ({"output": "alsa"}, "alsa"),
        ({"rate_hz": 7999}, "7999"),
        ({"buffer_ms": 4.9}, "4.9"),
        ({"buffer_ms": float("nan")}, "nan"),
        ({"output_delay_ms": -5001.0}, "5001"),
        ({"channels": "surround"}, "surround"),
        ({"cache_mib": 15}, "15"),
        ({"library": ("music",)}, "whole path"),
        ({"library": ("/x",) * 101}, "100"),
    ],
)
def test_a_peer_that_cannot_be_is_refused(values, named):
    with pytest.raises(ConfigError, match=named) as refused:
        PeerConfig(**{"name": "p", "paths": PATHS, **values})
    assert "\n" not in str(refused.value)


def test_a_peers_host_takes_the_rooms_port_unless_it_says_another():
    network = NetworkConfig(port=9000)
    assert PeerConfig("p", network, PATHS, host="pi").host_address == ("pi", 9000)
    assert PeerConfig("p", network, PATHS, host="pi:1").host_address == ("pi", 1)
    assert PeerConfig("p", network, PATHS).host_address is None


@pytest.mark.parametrize("output", ["portaudio", "null", "file:/tmp/a.wav", "file:A.WAV"])
def test_outputs_there_are(output):
    assert PeerConfig("p", NetworkConfig(), PATHS, output=output).output == output


@pytest.mark.parametrize(
    "values",
    [
        {"name": ""},
        {"room": ""},
        {"room": "-"},
        {"tracks": ("x",) * 10_001},
        {"library": ("x",)},
        {"library": ("/x",) * 101},
    ],
)
def test_a_host_that_cannot_be_is_refused(values):
    with pytest.raises(ConfigError):
        HostConfig(**{"name": "h", "paths": PATHS, **values})


def test_paths_of_a_user(monkeypatch):
    for kind in ("STATE", "CACHE"):
        monkeypatch.setenv(f"XDG_{kind}_HOME", f"/x/{kind}")
    paths = Paths.find({"XDG_RUNTIME_DIR": "/run/user/1000"})
    assert paths.state_dir == Path("/x/STATE/musicsyncd")
    assert paths.cache_dir == Path("/x/CACHE/musicsyncd")
    assert paths.control_socket == Path("/run/user/1000/musicsyncd/host.sock")
    assert paths.key_file == Path("/x/STATE/musicsyncd/room.key")


def test_paths_of_a_service():
    systemd = {
        "STATE_DIRECTORY": "/var/lib/m:/var/lib/other",
        "CACHE_DIRECTORY": "/var/cache/m",
        "RUNTIME_DIRECTORY": "/run/m",
        "XDG_RUNTIME_DIR": "/run/user/0",
    }
    paths = Paths.find(systemd)
    assert (paths.state_dir, paths.cache_dir) == (Path("/var/lib/m"), Path("/var/cache/m"))
    assert paths.control_socket == Path("/run/m/host.sock")


def test_without_a_runtime_folder_the_socket_is_in_the_state_folder():
    assert Paths.find({"STATE_DIRECTORY": "/v", "CACHE_DIRECTORY": "/c"}).runtime_dir == Path("/v/run")


def test_a_state_folder_given_by_hand_keeps_two_instances_apart():
    paths = Paths.find({"CACHE_DIRECTORY": "/c", "XDG_RUNTIME_DIR": "/r"}, state_dir=Path("/a"))
    assert paths == Paths(Path("/a"), Path("/a/cache"), Path("/a/run"), Path("/a/room.key"))


def test_paths_of_the_service_for_whoever_asks_about_it():
    user = {"XDG_RUNTIME_DIR": "/run/user/0"}
    paths = Paths.find(user, of_service=True)
    places = (paths.state_dir, paths.cache_dir, paths.control_socket, paths.key_file)
    kept, run = Path("/var/lib/musicsyncd"), Path("/run/musicsyncd")
    assert places == (kept, Path("/var/cache/musicsyncd"), run / "host.sock", kept / "room.key")
    assert Paths.find(user, state_dir=Path("/a"), of_service=True) == Paths.find(user, state_dir=Path("/a"))
    assert Paths.find(user, runtime_dir=Path("/r"), of_service=True).runtime_dir == Path("/r")


def test_a_socket_is_the_groups_too_only_in_a_folder_that_systemd_made():
    systemd = {"RUNTIME_DIRECTORY": "/run/m:/run/other"}
    assert socket_mode(Path("/run/m/host.sock"), systemd) == 0o660
    assert socket_mode(Path("/run/m/below/host.sock"), systemd) == 0o600
    assert socket_mode(Path("/run/m/host.sock"), {}) == 0o600


def test_relative_paths_are_made_absolute_and_a_key_file_stays_where_it_is():
    paths = Paths.find({}, state_dir=Path("here"), key_file=Path("/etc/k"))
    assert paths.state_dir.is_absolute()
    assert paths.key_file == Path("/etc/k")


def test_folders_are_made_for_their_owner_only(tmp_path):
    paths = Paths.find({}, state_dir=tmp_path / "new")
    paths.make()
    paths.make()
    for folder in (paths.state_dir, paths.cache_dir, paths.runtime_dir):
        assert folder.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot make the folder"):
        Paths.find({}, state_dir=tmp_path / "file" / "below").make()


def test_replaygain_is_one_of_three_and_its_preamp_within_reason():
    assert (HostConfig().replaygain, HostConfig().replaygain_preamp_db) == ("off", 0.0)
    assert HostConfig(replaygain="album", replaygain_preamp_db=-24.0).replaygain == "album"
    with pytest.raises(ConfigError, match="'loud' is not a choice of ReplayGain: off, track, album"):
        HostConfig(replaygain="loud")
    for preamp_db in (24.1, -24.1, float("nan")):
        with pytest.raises(ConfigError, match="preamp"):
            HostConfig(replaygain_preamp_db=preamp_db)


def test_a_host_goes_on_after_a_restart_in_one_of_two_ways():
    assert HostConfig("h", paths=PATHS).after_restart == "now"
    assert HostConfig("h", paths=PATHS, after_restart="stopped").after_restart == "stopped"
    with pytest.raises(ConfigError, match="'later' is not a choice of what to do after a restart: now, stopped"):
        HostConfig("h", paths=PATHS, after_restart="later")


def test_the_choices_after_a_restart_are_those_of_the_transport():
    assert get_args(saved.AfterRestart) == AFTER_RESTART


def test_the_key_is_systemds_credential_where_there_is_one(tmp_path):
    environment = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    own = tmp_path / "state"
    assert Paths.find(environment, state_dir=own).key_file == own / "room.key"
    assert credential_key(environment) is None
    (tmp_path / "room.key").touch()
    paths = Paths.find(environment, state_dir=own)
    assert (paths.key_file, paths.rotated_key_file) == (tmp_path / "room.key", own / "rotated.key")
    assert Paths.find(environment, state_dir=own, key_file=Path("/k")).key_file == Path("/k")
    assert Paths.find({}, state_dir=own).key_file == own / "room.key"
    assert credential_key({"CREDENTIALS_DIRECTORY": "relative"}) is None
    assert credential_key({"CREDENTIALS_DIRECTORY": ""}) is None
    assert credential_key({"CREDENTIALS_DIRECTORY": f"/{'x' * 300}"}) is None, "what cannot be looked at is none"


@pytest.mark.parametrize("address", [("192.0.2.1", 7783), ("fe80::1%eth0", 1), ("pi4.local", 65535)])
def test_an_address_is_written_as_it_is_read(address):
    assert parse_address(address_text(address), 9) == address


def test_one_option_changes_the_groups_of_both_families():
    assert NetworkConfig().group6 == "ff12::efff:4d53"
    assert NetworkConfig(group="239.1.2.3").group6 == "ff12::ef01:203"
