"""What a host tells the peer that it runs beside itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from musicsyncd.cli import cli
from musicsyncd.config import HostConfig, NetworkConfig, Paths, PeerConfig
from musicsyncd.system import peer_daemon
from musicsyncd.system.host_daemon import speaker_words


def test_a_hosts_own_speaker_finds_it_and_what_lies_on_its_disk(monkeypatch):
    paths = Paths(Path("/s"), Path("/c"), Path("/r"), Path("/k"))
    network = NetworkConfig(port=9, group="239.1.2.3", interfaces=("lo", "eth0"))
    config = HostConfig(name="den", network=network, paths=paths, library=("/music", "/more"))
    ran: list[PeerConfig] = []
    monkeypatch.setattr(peer_daemon, "run", ran.append)
    with pytest.raises(SystemExit, match="0"):
        cli.main(speaker_words(config))
    (peer,) = ran
    assert (peer.name, peer.host_address, peer.network) == ("den", ("127.0.0.1", 9), network)
    assert peer.library == ("/music", "/more")
    assert (peer.paths.state_dir, peer.paths.key_file, peer.open) == (Path("/s/speaker"), Path("/k"), False)


def test_a_speaker_of_an_open_host_is_open():
    assert speaker_words(HostConfig(name="den", open=True))[-1] == "--open"
