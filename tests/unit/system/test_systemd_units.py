"""The units as they are read; what a real systemd makes of them is tested in tests/container."""

import re
from importlib.resources import files
from pathlib import Path

import pytest

from musicsyncd.system import audio, supervision

UNITS = Path(__file__).parents[3] / "systemd"
SYSTEM = ("musicsyncd-host.service", "musicsyncd-peer.service")
DAEMONS = (*SYSTEM, *(f"user/{name}" for name in SYSTEM))
ALL = (*DAEMONS, "user/musicsyncd-mpris.service")


def settings(name):
    """Return every setting of a unit with its values, in order."""
    found = {}
    for line in (UNITS / name).read_text(encoding="utf-8").splitlines():
        if line and line[0] not in "#[":
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


@pytest.mark.parametrize("name", ALL)
def test_a_unit_runs_the_command_as_a_package_installs_it(name):
    command = re.fullmatch(r"musicsyncd-(\w+)\.service", Path(name).name)[1]
    assert settings(name)["ExecStart"] == [f"/usr/bin/musicsyncd {command}"]


@pytest.mark.parametrize("name", DAEMONS)
def test_a_daemon_is_watched_and_always_comes_back(name):
    unit = settings(name)
    wanted = {
        "Type": "notify",
        "WatchdogSec": "20",
        "Restart": "always",
        "RestartSec": "1",
        "StartLimitIntervalSec": "0",
        "TimeoutStopSec": "5",
        "ExecReload": "/bin/kill -HUP $MAINPID",
        "NoNewPrivileges": "yes",
    }
    assert {key: unit.get(key) for key in wanted} == {key: [value] for key, value in wanted.items()}


@pytest.mark.parametrize("name", DAEMONS)
def test_a_daemon_may_have_the_priority_that_it_asks_for(name):
    unit = settings(name)
    assert int(unit["LimitRTPRIO"][0]) >= audio._PRIORITY
    assert int(unit["LimitNICE"][0]) <= supervision._NICE
    assert "RestrictRealtime" not in unit


def test_what_hides_or_breaks_sound_is_not_there():
    for name in SYSTEM:
        unit = settings(name)
        assert not unit.keys() & {"PrivateDevices", "PrivateUsers", "PrivateIPC", "MemoryDenyWriteExecute"}
        assert unit["SupplementaryGroups"] == ["audio"]
        assert unit["DeviceAllow"] == ["char-alsa rw"]


@pytest.mark.parametrize("folder", ["", "user/"])
def test_host_and_peer_differ_in_nothing_but_what_they_are(folder):
    host, peer = (settings(f"{folder}{name}") for name in SYSTEM)
    own = {"Description", "ExecStart", "LoadCredential"}
    assert {key: value for key, value in host.items() if key not in own} == {
        key: value for key, value in peer.items() if key not in own
    }


def test_the_package_has_the_same_files():
    inside = files("musicsyncd") / "systemd"
    for name in (*ALL, "sysusers.conf", "musicsyncd.toml.example"):
        assert inside.joinpath(*name.split("/")).read_text() == (UNITS / name).read_text()
