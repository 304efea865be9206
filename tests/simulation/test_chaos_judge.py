"""The judge of the random-fault simulation, on a peer that goes from one host to another of the same key and back."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from musicsyncd.playback.timeline import Timeline
from musicsyncd.protocol.host import RoomState
from musicsyncd.protocol.peer import HostFound, SettingsChanged, StateChanged
from musicsyncd.protocol.wire import Settings

from .chaos_judge import FRESH_S, SETTINGS_S, SETTLED_S, Judge
from .chaos_machines import ROOM, S, identity
from .network import Address

OLD: Address = ("198.51.100.1", 40000)
NEW: Address = ("198.51.151.1", 40000)
AT: Address = ("192.0.2.1", 7783)


class Trial:
    """A judge, two hosts that say the revisions 1 to 3 of a room and of a peer's settings, and that peer."""

    def __init__(self) -> None:
        self.now_ns = S
        self.judge = Judge(lambda: self.now_ns)
        self.peer: Any = SimpleNamespace(ident="p0", id=identity("p0"), epoch=1, born_ns=0, address=NEW)
        self.peer.node = SimpleNamespace(_peer_id=self.peer.id, _announced=None, _settings=None, _host=None)
        self.known: list[Any] = []
        self.hosts: dict[str, Any] = {}
        for ident in ("host", "second"):
            host: Any = SimpleNamespace(ident=ident, id=identity(ident), epoch=1, is_stranger=False)
            host.node = SimpleNamespace(peers=lambda: self.known)
            self.hosts[ident] = host
            self.judge.born(host)
            for revision in (1, 2, 3):
                self.judge.said(host, RoomState(ROOM, revision, Timeline(())))
                self.judge.set(host, self.settings_of(ident, revision))

    @property
    def kinds(self) -> set[str]:
        """Of what was found."""
        return {kind for kind, _ in self.judge.kinds}

    def settings_of(self, ident: str, revision: int) -> Settings:
        """Return what a host says to the peer."""
        return Settings(self.peer.id, revision, ident, 10 * revision)

    def go_to(self, ident: str) -> None:
        """Follow a host."""
        self.now_ns += S
        self.judge.heard(self.peer, HostFound(identity(ident), 1, AT))

    def take(self, ident: str, revision: int) -> None:
        """Take over a revision of what a host says of the room."""
        self.now_ns += S
        self.peer.node._announced = (identity(ident), 1, ROOM, revision)
        self.judge.heard(self.peer, StateChanged(ROOM, 1, revision, Timeline(()), 100, False, ident, AT, 7783))

    def take_settings(self, ident: str, revision: int) -> None:
        """Take over a revision of a host's settings."""
        self.now_ns += S
        self.peer.node._settings = (identity(ident), 1, revision)
        self.judge.heard(self.peer, SettingsChanged(self.settings_of(ident, revision)))

    def look(self, followed_s: float, *, address: Address = NEW, present: bool = True) -> set[str]:
        """Return what is found when the peer has followed its host for so long."""
        self.now_ns = self.judge._seen["p0", 1].since_ns + round(followed_s * S)
        self.known[:] = [SimpleNamespace(peer_id=self.peer.id, present=present, address=address)]
        self.judge.known(self.peer, self.hosts["host"])
        return self.kinds


def test_back_from_another_host_the_same_is_taken_over_again() -> None:
    trial = Trial()
    for ident in ("host", "second", "host", "second"):
        trial.go_to(ident)
        trial.take(ident, 2)
        trial.take_settings(ident, 2)
    assert trial.judge.findings == []


def test_back_from_another_host_that_said_nothing() -> None:
    """The settings are forgotten all the same; what sounded went on, and is not said again."""
    trial = Trial()
    trial.go_to("host")
    trial.take("host", 2)
    trial.take_settings("host", 2)
    trial.go_to("second")
    trial.go_to("host")
    trial.take_settings("host", 2)
    assert trial.judge.findings == []
    trial.take("host", 2)
    assert trial.kinds == {"back"}


@pytest.mark.parametrize("meanwhile", ["", "host", "second"])
def test_older_is_never_taken_over(meanwhile: str) -> None:
    """With the same host, one it was lost to and has found again, and back from another."""
    trial = Trial()
    trial.go_to("host")
    trial.take("host", 2)
    trial.take_settings("host", 2)
    if meanwhile:
        trial.go_to(meanwhile)
        trial.take(meanwhile, 3)
        trial.take_settings(meanwhile, 3)
        trial.go_to("host")
    trial.take("host", 1)
    trial.take_settings("host", 1)
    assert trial.kinds == {"back", "settings back"}


def test_the_same_is_taken_over_once_from_one_host() -> None:
    """Even if it was lost and found again, or said more meanwhile; and once each time that the peer comes back."""
    for revisions in ((2, 2), (2, 3, 3)):
        trial = Trial()
        for revision in revisions:
            trial.go_to("host")
            trial.take("host", revision)
            trial.take_settings("host", revision)
        assert trial.kinds == {"back", "settings back"}
    trial = Trial()
    for ident in ("host", "second", "host"):
        trial.go_to(ident)
        trial.take(ident, 2)
        trial.take_settings(ident, 2)
    trial.take("host", 2)
    trial.take_settings("host", 2)
    assert trial.kinds == {"back", "settings back"}


def test_a_host_is_given_time_to_learn_of_a_peer_that_comes_to_it() -> None:
    """However long the way to it was open before: the peer was with the other host, and has moved meanwhile."""
    trial = Trial()
    trial.go_to("second")
    trial.take_settings("second", 3)
    trial.go_to("host")
    assert trial.look(FRESH_S - 0.25, present=False) == set()
    assert trial.look(SETTINGS_S - 0.25, address=OLD) == set()
    assert trial.look(FRESH_S, present=False) == {"unknown"}
    assert trial.look(SETTINGS_S, address=OLD) == {"unknown", "settings late"}
    assert trial.look(SETTLED_S, address=OLD) == {"unknown", "settings late", "address"}


def test_a_host_that_is_lost_and_found_again_is_given_no_more_time() -> None:
    trial = Trial()
    trial.go_to("host")
    trial.take_settings("host", 3)
    since_ns = trial.judge._seen["p0", 1].since_ns
    trial.now_ns += 10 * S
    trial.go_to("host")
    assert trial.judge._seen["p0", 1].since_ns == since_ns
    assert trial.look(12, address=OLD) == {"address"}
