"""What is shown on a speaker's machine while no host answers."""

import json
import socket
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from musicsyncd.cli.local_view import local_lines
from musicsyncd.cli.output import plain
from musicsyncd.cli.watch import Watch
from musicsyncd.config import NetworkConfig
from musicsyncd.paths import Paths
from musicsyncd.system.control_client import ControlClient

ACCOUNT = {
    "speaker": {
        "id": "00" * 8,
        "name": "kitchen",
        "room": "main",
        "reach": "unicast",
        "version": "0.1.0",
        "volume": 80,
        "muted": False,
        "state": "together",
        "sync_error_us": -12.0,
        "correction_ppm": 3.4,
        "underruns": 0,
        "fault": "",
        "clock": {
            "offset_us": 5e6,
            "uncertainty_us": 12.0,
            "round_trip_us": 400.0,
            "jitter_us": 9.0,
            "loss_percent": 0,
        },
    },
    "host": {
        "state": "away",
        "name": "den",
        "address": "192.168.1.10:7783",
        "away_s": 200.0,
        "heard_s_ago": 205.0,
        "reason": "nothing was heard from the host for 5 s",
    },
    "track": {"id": "ab", "position_s": 83.2, "duration_s": 200.0, "rate_hz": 44100},
    "card": {"output": "hw:DAC,0", "rate_hz": 48000, "card_ppm": 12.34, "pointer_frames": 480, "tells_its_time": True},
    "network": {"reach": "none", "interfaces": ["eth0", "wlan0"], "dropped": {"key": 12, "own kind": 99}},
    "media": {
        "cache_bytes": 300 << 20,
        "cache_max_bytes": 2 << 30,
        "tracks": 2,
        "missing_bytes": 5 << 19,
        "fetched_bytes": 40 << 20,
        "fault": "cannot fetch from 192.168.1.10: timed out",
    },
    "uptime_s": 4000.0,
    "open": False,
}


def test_the_whole_view():
    lines = plain(local_lines([ACCOUNT], 100), None).splitlines()
    assert lines[:3] == [
        "no host answers; what this machine's own speakers know:",
        "",
        "main · kitchen · up 1 h 6 min",
    ]
    assert lines[5].split("  ")[1:4] == ["kitchen", "together", "-12 µs"]
    assert lines[6:] == [
        "  host     den at 192.168.1.10:7783: away for 3 min (nothing was heard from the host for 5 s)",
        "  playing  what it has of the track goes on: 1:23 of 3:20",
        "  card     hw:DAC,0 · 48 kHz · +12.3 ppm · its pointer moves 480 frames at once",
        "  network  no datagram of a host comes · on eth0, wlan0 · 12 datagrams refused",
        "  media    cache 300 of 2048 MiB · 40.0 MiB fetched since its start · 2.5 MiB missing of what comes next",
        "  └ cannot fetch from 192.168.1.10: timed out",
    ]


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


def broken(value):
    if isinstance(value, dict):
        return st.fixed_dictionaries({}, optional={key: broken(one) for key, one in value.items()}) | anything
    return st.just(value) | anything


@given(st.lists(broken(ACCOUNT).filter(lambda one: isinstance(one, dict)), min_size=1, max_size=2))
def test_a_daemon_of_another_version_never_breaks_the_view(accounts):
    shown = plain(local_lines(accounts, 100)).splitlines()
    assert all(line.isprintable() for line in shown)


@pytest.fixture
def speaker(folder):
    """A speaker's daemon of this machine, as far as its socket goes."""
    (folder / "run").mkdir(exist_ok=True)
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(folder / "run" / "peer-kitchen.sock"))
    server.listen()

    def answer():
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                connection.sendall(json.dumps(ACCOUNT).encode())

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    yield
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join()


def test_without_a_host_the_speaker_is_shown_and_the_exit_code_says_that_the_host_is_away(call, speaker):
    result = call("status", "--host", "127.0.0.1:1", "--open")
    assert result.exit_code == 1
    assert result.stderr.startswith("musicsyncd: cannot reach the host at 127.0.0.1:1")
    assert "den at 192.168.1.10:7783: away for 3 min" in result.stdout
    shown = json.loads(call("status", "--host", "127.0.0.1:1", "--open", "--json").stdout)
    assert shown["host"] is None
    assert shown["local_speakers"] == [ACCOUNT]
    assert "cannot reach" in shown["error"]


def test_without_a_host_and_without_a_speaker_it_is_an_error_and_nothing_else(call):
    result = call("status", "--host", "127.0.0.1:1", "--open")
    assert (result.exit_code, result.stdout) == (1, "")


def test_with_a_host_its_own_account_is_what_counts(call, host, speaker):
    host.answer("GET", "/api/status", {"host": {"name": "den"}, "rooms": [], "peers": []})
    result = call("status")
    assert result.exit_code == 0
    assert result.stdout.startswith("host den")
    assert "no host answers" not in result.stdout


def test_the_live_view_turns_to_the_speaker_here_when_the_host_goes_and_back_again(host, folder):
    host.answer("GET", "/api/status", {"host": {"name": "den"}, "rooms": [], "peers": []})
    client = ControlClient(NetworkConfig(), Paths.find({}, state_dir=folder), other_sockets=())
    watch = Watch(client, lambda: [ACCOUNT], lambda: None)
    assert plain(watch.look()).startswith("host den")
    host.answer("GET", "/api/status", {"error": "restarting"}, 503)
    shown = plain(watch.look()).splitlines()
    assert shown[0].startswith("no host answers")
    assert shown[-1] == "! restarting"
    host.answer("GET", "/api/status", {"host": {"name": "den"}, "rooms": [], "peers": []})
    assert plain(watch.look()).startswith("host den")


def test_a_hook_that_fails_is_shown_and_one_that_does_not_is_not():
    fault = "on-sound: amp ended with 3"
    said = [
        "\n".join(plain(local_lines([ACCOUNT | {"hooks": hooks}], 100), None).splitlines())
        for hooks in (None, {"told": "sound", "fault": ""}, {"told": "sound", "fault": fault})
    ]
    assert said[0] == said[1]
    assert "hooks" not in said[0]
    assert f"  hooks    {fault}" in said[2]
