"""What ``mpris`` is told, and what it says when it cannot be."""

import sys
from types import ModuleType

import pytest

import musicsyncd.system.mpris


@pytest.fixture
def told(monkeypatch):
    """Keep what the daemon is given."""
    calls = []
    daemon = ModuleType("daemon")
    daemon.run = lambda make_client, room, covers: calls.append((make_client(), room, covers))
    monkeypatch.setitem(sys.modules, "musicsyncd.system.mpris.daemon", daemon)
    monkeypatch.setattr(musicsyncd.system.mpris, "daemon", daemon, raising=False)
    monkeypatch.setattr("musicsyncd.system.log.set_up", lambda *, verbose: calls.append(verbose))
    return calls


def test_it_finds_the_host_as_every_command(call, told, host, folder):
    assert call("mpris", "--room", "den", "-v").exit_code == 0
    verbose, (client, room, covers) = told
    assert (verbose, room, covers) == (True, "den", folder / "cache" / "mpris")
    assert client.get("/api/status") == {"message": "done"}


def test_without_a_room_it_is_the_one_that_is_meant(call, told, folder):
    (folder / "m.toml").write_text('[mpris]\nhost = "10.0.0.1"\n')
    assert call("mpris", "--config", str(folder / "m.toml"), "--open").exit_code == 0
    _, (client, room, _) = told
    assert room == "-"
    assert client.reach().address == ("10.0.0.1", 7783)


def test_without_dbus_fast_it_names_what_to_install(call, told, monkeypatch):
    monkeypatch.setitem(sys.modules, "dbus_fast", None)
    result = call("mpris")
    assert result.exit_code == 1
    assert result.stderr == "musicsyncd: this needs dbus-fast: pip install 'musicsyncd[mpris]'\n"
    assert told == []


def test_a_host_that_is_no_address_is_refused_before_anything_starts(call, told):
    assert call("mpris", "--host", "http://pi").exit_code == 1
    assert [one for one in told if not isinstance(one, bool)] == []
