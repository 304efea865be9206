"""A host's wiring: what it tells the peer that it runs beside itself, what the watchdog and a reload see of it."""

from __future__ import annotations

import asyncio
import dataclasses
import signal
from pathlib import Path

import pytest

from musicsyncd.cli import cli
from musicsyncd.config import HostConfig, NetworkConfig, PeerConfig
from musicsyncd.media.replaygain import Loudness
from musicsyncd.paths import Paths
from musicsyncd.system import host_daemon as module
from musicsyncd.system import peer_daemon
from musicsyncd.system.database import Database
from musicsyncd.system.host_daemon import HostDaemon, speaker_words
from musicsyncd.system.keyfile import make_host_keys
from musicsyncd.system.monotonic import now_ns
from musicsyncd.units import NS_PER_S


def test_a_hosts_own_speaker_finds_it_and_what_lies_on_its_disk(monkeypatch):
    paths = Paths(Path("/s"), Path("/c"), Path("/r"), Path("/k"))
    network = NetworkConfig(port=9, group="239.1.2.3", interfaces=("lo", "eth0"), mdns=False)
    config = HostConfig(name="den", network=network, paths=paths, library=("/music", "/more"))
    ran: list[PeerConfig] = []
    monkeypatch.setattr(peer_daemon, "run", lambda config, _reread: ran.append(config))
    with pytest.raises(SystemExit, match="0"):
        cli.main(speaker_words(config))
    (peer,) = ran
    assert (peer.name, peer.host_address, peer.network) == ("den", ("127.0.0.1", 9), network)
    assert peer.library == ("/music", "/more")
    assert (peer.paths.state_dir, peer.paths.key_file, peer.open) == (Path("/s/speaker"), Path("/k"), False)


def test_a_hosts_own_speaker_has_its_card_and_its_hooks_from_the_hosts_file(tmp_path, monkeypatch):
    file = tmp_path / "m.toml"
    file.write_text('[peer]\ndevice = "hw:DAC"\nname = "not this"\non-sound = "amp on"\n[common]\nport = 7\n')
    paths = Paths(tmp_path, tmp_path, tmp_path, tmp_path / "k", file)
    ran: list[PeerConfig] = []
    monkeypatch.setattr(peer_daemon, "run", lambda config, _reread: ran.append(config))
    with pytest.raises(SystemExit, match="0"):
        cli.main(speaker_words(HostConfig(name="den", network=NetworkConfig(port=9), paths=paths)))
    (peer,) = ran
    assert (peer.name, peer.network.port, peer.device) == ("den", 9, "hw:DAC")
    assert peer.hooks.on_sound == ("amp", "on")


# -- the daemon --------------------------------------------------------------------------------


@pytest.fixture
def daemon(tmp_path):
    config = HostConfig(name="den", paths=Paths.find({}, state_dir=tmp_path), network=NetworkConfig(interfaces=("lo",)))
    config.paths.make()
    (tmp_path / "host").mkdir()
    database = Database(tmp_path / "host" / "state.sqlite")
    yield HostDaemon(config, database, make_host_keys(config.paths.key_file))
    database.close()


def test_the_watchdog_is_not_fed_while_the_timer_stands_still_or_nobody_is_answered(daemon, monkeypatch):
    now = now_ns()
    monkeypatch.setattr(module, "now_ns", lambda: now)
    due_ns: int | None = now
    monkeypatch.setattr(daemon._node, "next_timer_ns", lambda: due_ns)
    assert daemon._trouble() == ""
    now += 6 * NS_PER_S
    assert daemon._trouble() == "the network's timer stands still"
    due_ns = None
    assert daemon._trouble() == ""
    now += 10 * NS_PER_S
    assert daemon._trouble() == "the HTTP server does not answer"


@pytest.mark.parametrize("answers", [True, False])
def test_the_host_asks_itself_whether_it_answers(daemon, monkeypatch, answers):
    async def answer():
        asked.set()
        return answers

    async def test():
        task = asyncio.create_task(daemon._ask_for_ever())
        await asyncio.wait_for(asked.wait(), 10.0)
        await asyncio.sleep(0)
        task.cancel()

    asked = asyncio.Event()
    monkeypatch.setattr(daemon._server, "answers", answer)
    monkeypatch.setattr(module, "now_ns", lambda: 7)
    before_ns = daemon._answered_ns
    asyncio.run(test())
    assert daemon._answered_ns == (7 if answers else before_ns)


def test_a_reload_changes_the_library_and_the_loudness_and_names_what_waits(daemon, tmp_path):
    def reload(**changes) -> set[str]:
        daemon._reread = lambda: dataclasses.replace(daemon._config, **changes)
        return asyncio.run(daemon._reload())

    control = daemon._control
    assert control.library is None
    try:
        assert reload(library=("/a",), replaygain="album", replaygain_preamp_db=3.0, after_restart="stopped") == set()
        library = control.library
        assert library._librarian.roots == ("/a",)
        assert control.preparer.loudness == Loudness("album", 3.0)
        first = library._librarian
        assert reload(library=("/b",), room="attic", tls=True, speaker=True) == {"room", "tls", "speaker"}
        assert control.library is library
        assert library._librarian.roots == ("/b",)
        assert first._stop.is_set()
        assert reload(library=()) == set()
        assert control.library is None
        assert reload(library=("/c",)) == set()
        assert control.library is library
    finally:
        daemon._library.close()


def test_a_reload_reaches_the_hosts_own_speaker(daemon, monkeypatch):
    class Speaker:
        sent: list[int]

        def send_signal(self, number):
            self.sent.append(number)
            raise ProcessLookupError  # It ended just now.

    daemon._speaker = Speaker()
    daemon._speaker.sent = []
    asyncio.run(daemon._reload())
    assert daemon._speaker.sent == [signal.SIGHUP]


def test_a_speaker_of_an_open_host_is_open():
    assert speaker_words(HostConfig(name="den", open=True))[-1] == "--open"
