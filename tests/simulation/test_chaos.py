"""The random-fault simulation: some hundreds of seeds, that a seed fixes everything, and that its judge can fail.

As many seeds as wanted: ``python -m tests.simulation.chaos --seeds 10000``.
"""

from __future__ import annotations

import hmac
import multiprocessing
from collections.abc import Callable
from dataclasses import replace

import pytest

from musicsyncd.media.changes import Changes
from musicsyncd.playback.transport import Transport
from musicsyncd.protocol import door, following, host, peer, proving
from musicsyncd.protocol.auth import Opened
from musicsyncd.protocol.door import Door
from musicsyncd.protocol.signing import Signer, Verifier
from musicsyncd.system.control import Control
from musicsyncd.system.speakers import Speakers

from . import chaos_machines, chaos_peers
from .chaos import play, play_seed, run, shrink, trace
from .chaos_plan import ATTACKS, FAULTS, make_plan
from .chaos_store import Store
from .network import Address

SEEDS = 300
"""About a minute on two cores of a desktop machine."""

CAUGHT_WITHIN = 100


def test_hundreds_of_seeds(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing of what must hold is broken, and every fault and attack and rule was there."""
    failed, counts = run(0, SEEDS, multiprocessing.cpu_count())
    assert failed == 0, capsys.readouterr().out
    for name in (*FAULTS, *ATTACKS, "replay to a new one", "insider's proof"):
        assert counts[name] > 0, name
    rules = {"state": 5000, "settings": 1000, "followed": 1000, "lost": 50, "fresh": 50_000, "known": 5000}
    rules |= {
        "pairs": 50_000,
        "acknowledged": 2000,
        "restarted": 60,
        "refused": 100,
        "replays that must not act": 10_000,
    }
    assert {name: counts[name] for name, least in rules.items() if counts[name] < least} == {}


def test_the_same_seed_gives_the_same_trace() -> None:
    first, again, other = play(make_plan(3)), play(make_plan(3)), play(make_plan(4))
    assert (first.trace, first.counts) == (again.trace, again.counts)
    assert first.trace != other.trace


def test_what_is_not_in_a_plan_does_not_happen() -> None:
    """A plan without faults, commands and attacks has none: or a shorter one would not be one."""
    plan = replace(make_plan(5), faults=(), commands=(), attacks=(), stranger=False)
    outcome = play(plan)
    assert outcome.findings == ()
    assert not set(outcome.counts) & {*FAULTS, *ATTACKS}


def caught(wanted: set[str], start: int = 0) -> tuple[int, set[str]]:
    """Return a seed with a finding of a wanted kind, and its kinds; ``start`` is where one was found once."""
    for seed in (*range(start, CAUGHT_WITHIN), *range(start)):
        kinds = set(play_seed(seed).outcome.kinds)
        if kinds & wanted:
            return seed, kinds
    raise AssertionError(f"none of {wanted} within {CAUGHT_WITHIN} seeds")


def _no_tags(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hmac, "compare_digest", lambda one, other: True)


def _no_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is heard first, and any newer epoch, is taken to be alive."""
    check, public_key = Door._check, Signer(chaos_machines.KEYS.signing_seed).public_key

    def trusting(self: Door, message: object, opened: Opened, lock: door.Lock, address: Address, now_ns: int) -> None:
        if self._proving.window_of(opened.sender, opened.epoch) is None:
            self._proving.prove(opened.sender, opened.epoch, 0, address)
            if lock.verifier is not None:
                lock.verifier.take_public_key(public_key)
        check(self, message, opened, lock, address, now_ns)

    monkeypatch.setattr(Door, "_check", trusting)


def _no_replay_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proving.Window, "is_new", lambda self, sequence: True)


def _no_signatures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Verifier, "verify", lambda self, signature, data: True)


def _unsigned_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Door, "_check_signature", lambda self, opened, lock: None)


def _old_revisions_go(monkeypatch: pytest.MonkeyPatch) -> None:
    learn = following.FollowedHost.learn

    def forgetful(self: following.FollowedHost, beacon: object, kept_room: str) -> bool:
        self.rooms.clear()
        return learn(self, beacon, kept_room)

    monkeypatch.setattr(following.FollowedHost, "learn", forgetful)


def _stale_commands_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Changes, "check", lambda self, revision: None)


def _rooms_are_not_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Control, "_save", lambda self, room, snapshot=None: None)


def _volumes_are_saved_before_they_change(monkeypatch: pytest.MonkeyPatch) -> None:
    save_peer = Store.save_peer
    monkeypatch.setattr(Store, "save_peer", lambda self, one: save_peer(self, replace(one, volume=100)))


def _repeat_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    save_room = Store.save_room
    monkeypatch.setattr(Store, "save_room", lambda self, room: save_room(self, replace(room, repeat="off")))


def _a_change_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """And no more: whoever misses it stays behind."""
    monkeypatch.setattr(host.HostNode, "_by_unicast", lambda self, state: [])
    schedule = host.RoomSchedule.note_sent

    def once(self: host.RoomSchedule, now_ns: int) -> None:
        schedule(self, now_ns)
        self._repeats_due_ns, self.due_ns = [], now_ns + 10**10

    monkeypatch.setattr(host.RoomSchedule, "note_sent", once)


def _clocks_stop_listening(monkeypatch: pytest.MonkeyPatch) -> None:
    """After 60 exchanges: what they knew then is worth less and less."""
    observe = chaos_peers.FrugalClock.observe
    monkeypatch.setattr(
        chaos_peers.FrugalClock, "observe", lambda self, one: self.exchanges < 60 and observe(self, one)
    )


def _a_node_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    def strict(self: object, dropped: object = None) -> None:
        raise KeyError("no such host")

    monkeypatch.setattr(peer.PeerNode, "_lose", strict)


def _everything_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = door.Door.open

    def hoarding(self: door.Door, data: bytes, address: object, now_ns: int) -> object:
        self.__dict__.setdefault("_hoard", []).append(bytearray(20_000))
        return opened(self, data, address, now_ns)

    monkeypatch.setattr(door.Door, "open", hoarding)


def _strangers_get_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever comes, true or not, is answered at length."""
    opened = door.Door.open

    def chatty(self: door.Door, data: bytes, address: tuple[str, int], now_ns: int) -> object:
        found = opened(self, data, address, now_ns)
        if found is None and len(data) < 1200:  # Or two of them would never stop.
            self._to_send.append(host.Outgoing(bytes(1200), address))
        return found

    monkeypatch.setattr(door.Door, "open", chatty)


def _the_queue_is_not_taken_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Transport, "restore", lambda self, *what, **more: False)


def _speakers_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Speakers, "_set", lambda self, one: self._saved.__setitem__(one.peer_id, one) or one)


def _peers_never_move(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever address a peer proves later, it is taken to be where it was first."""
    monkeypatch.setattr(proving.Proving, "address_of", lambda self, who, *_: (self._proven[who].addresses[0], False))


def _settings_are_taken_over_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    receive = peer.PeerNode._receive_settings

    def forgetful(self: peer.PeerNode, settings: object) -> None:
        self._settings = None
        receive(self, settings)

    monkeypatch.setattr(peer.PeerNode, "_receive_settings", forgetful)


MUTATIONS: list[tuple[Callable[[pytest.MonkeyPatch], None], set[str], int]] = [
    (_no_tags, {"acted"}, 0),
    (_no_proof, {"acted", "dead", "epoch", "back"}, 0),
    (_no_replay_window, {"acted"}, 0),
    (_no_signatures, {"acted", "state", "settings", "goodbye"}, 0),
    (_unsigned_goes, {"acted", "state", "settings", "goodbye"}, 0),
    (_old_revisions_go, {"back"}, 0),
    (_stale_commands_go, {"stale"}, 0),
    (_rooms_are_not_saved, {"change lost"}, 0),
    (_volumes_are_saved_before_they_change, {"speaker lost"}, 42),
    (_repeat_is_not_kept, {"change lost"}, 53),
    (_a_change_is_said_once, {"late"}, 0),
    (_clocks_stop_listening, {"apart"}, 63),
    (_a_node_raises, {"raised"}, 0),
    (_everything_is_remembered, {"memory"}, 0),
    (_strangers_get_more, {"amplified"}, 0),
    (_the_queue_is_not_taken_up, {"change lost"}, 0),
    (_speakers_are_forgotten, {"speaker lost"}, 42),
    (_peers_never_move, {"address"}, 0),
    (_settings_are_taken_over_again_and_again, {"settings back"}, 0),
]


@pytest.mark.parametrize(("mutate", "kinds", "start"), MUTATIONS, ids=[one[0].__name__ for one in MUTATIONS])
def test_the_judge_catches(
    mutate: Callable[[pytest.MonkeyPatch], None], kinds: set[str], start: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program with this fault does not get through the first hundred seeds."""
    mutate(monkeypatch)
    print(caught(kinds, start))


def test_a_failure_is_shrunk_and_printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """To the attack alone that shows the fault, without the faults and commands that do not."""
    _no_tags(monkeypatch)
    seed, _ = caught({"acted"})
    plan = make_plan(seed)
    small = shrink(plan, {"acted"})
    assert "acted" in play(small).kinds
    assert len(small.attacks) + len(small.faults) <= 2
    assert small.commands == ()
    assert len(small.peers) <= len(plan.peers)
    assert trace(seed)
    assert "acted on a datagram" in capsys.readouterr().out
