"""A change of a host's key: what is on the disk, what speakers are told, whom HTTP lets in, and in which order."""

from __future__ import annotations

import errno
import logging
import os
from contextlib import suppress

import pytest
from host_rig import BOOT, KEYS, MS, Host, on_a_loop, running
from http_rig import run
from test_peer_daemon import Rig

from musicsyncd.errors import ConfigError, ControlError, ProtocolError
from musicsyncd.paths import Paths
from musicsyncd.protocol import wire
from musicsyncd.protocol.auth import HostKeys, RoomKeys, http_token, key_id
from musicsyncd.protocol.host import RotationDone
from musicsyncd.protocol.rotation import unwrap
from musicsyncd.system import keyfile
from musicsyncd.system.key_change import KeyChange
from musicsyncd.system.keyfile import (
    keep_host_keys,
    load_coming_keys,
    load_host_keys,
    load_room_keys,
    make_host_keys,
    write_room_keys,
)
from musicsyncd.system.links import Links

NEW = HostKeys(bytes([9] * 32))
UNTIL_SPOKEN_UNDER_S, UNTIL_DONE_S = 7, 13
A_MINUTE_AND_MORE_S = 67
PEER_IDS = {"kitchen": b"kitchen.", "bath": b"bath....", "shed": b"shed...."}
"""Speakers' ids by their names."""


def token(keys: HostKeys | RoomKeys) -> str:
    return http_token(keys.room_key)


def own_paths(folder) -> Paths:
    """Return a host's paths, with its key in the key's file."""
    paths = Paths.find({}, state_dir=folder / "state")
    make_host_keys(paths.key_file)
    keep_host_keys(paths.key_file, KEYS)
    return paths


def refuse_to_write(monkeypatch) -> None:
    """Let no key's file be written from now on, as on a full disk."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(keyfile, "write_atomically", refuse)


class Changing:
    """A host whose key is changed, and its speakers.

    Args:
        host: its rooms, node and database.
        paths: where its key is.

    Attributes:
        change: what is tested.
        tokens: what HTTP was told to accept, each time.
        done: what the node said of ends of changes that was not handed on yet.
        kept: by speaker, the id of the key that it reports.
    """

    def __init__(self, host: Host, paths: Paths) -> None:
        self.host = host
        self.paths = paths
        self.tokens: list[list[str]] = []
        self.done: list[RotationDone] = []
        self.kept: dict[str, bytes] = {}
        self.links = Links(host.database, os.urandom)
        self.change = KeyChange(
            *(host.node, paths, load_host_keys(paths.key_file), host.control.speakers, self.links),
            accept=self._accept,
            changed=lambda: host.log.append("said"),
        )

    def _accept(self, tokens) -> None:
        self.tokens.append(list(tokens))

    @property
    def coming(self) -> HostKeys | None:
        """What the key's file says that the speakers are being given."""
        return load_coming_keys(self.paths.key_file)

    def second(self, *, hand_on: bool = True) -> list[wire.FromHost]:
        """Let a second pass in which every speaker reports; return what the host says under its old key."""
        host, said = self.host, []
        for name, kept in self.kept.items():
            stats = wire.ClockStats(), wire.PlaybackStats()
            report = wire.Report(name, "main", 0, 0, False, "0.1", *stats, has_key=kept)
            host._receive(report, PEER_IDS[name], 1)
        for _ in range(20):
            host.now_ns += 50 * MS
            host.node.handle_timer(host.now_ns)
            for outgoing in host.node.datagrams_to_send(host.now_ns):
                with suppress(ProtocolError):
                    said.append(wire.decode_from_host(host._opener.open(outgoing.data).body))
            while (event := host.node.next_event()) is not None:
                if isinstance(event, RotationDone):
                    self.done.append(event)
        while hand_on and self.done:
            self.change.done(self.done.pop())
        return said

    def seconds(self, count: int) -> list[wire.FromHost]:
        """Let seconds pass as above."""
        return [message for _ in range(count) for message in self.second()]

    def here(self, *names: str, kept: bytes = key_id(KEYS.room_key)) -> None:
        """Let these speakers be there from now on, each with a key that it reports."""
        self.kept |= dict.fromkeys(names, kept)
        self.second()

    def all_take_it(self, *names: str) -> None:
        """Let these speakers report the new key from now on, or all of them."""
        assert self.coming is not None
        self.kept |= dict.fromkeys(names or self.kept, key_id(self.coming.room_key))


def given(said: list[wire.FromHost]) -> list[RoomKeys]:
    """Return the keys that were sent to speakers, once each."""
    found = [unwrap(KEYS.room_key, message) for message in said if isinstance(message, wire.NewKey)]
    return list({new.room_keys for new in found if new is not None})


# -- the order ---------------------------------------------------------------------------------


@on_a_loop
async def test_the_new_secret_is_on_the_disk_and_let_in_before_anything_is_sent(tmp_path, monkeypatch):
    with running(tmp_path) as host:
        rig = Changing(host, own_paths(tmp_path))
        rig.here("kitchen")
        order, begin = [], host.node.begin_rotation

        def note_and_begin(coming: HostKeys) -> None:
            order.append(("begin", coming, rig.coming, rig.tokens[-1]))
            begin(coming)

        monkeypatch.setattr(host.node, "begin_rotation", note_and_begin)
        host.log.clear()
        assert rig.change.begin() == "the speakers are given a new key"
        coming = rig.coming
        assert coming not in (None, KEYS)
        assert order == [("begin", coming, coming, [token(KEYS), token(coming)])]
        assert host.log == ["said"]
        assert load_host_keys(rig.paths.key_file) == KEYS, "the old one is in force"
        assert given(rig.seconds(1)) == [coming.room_keys]


@on_a_loop
async def test_every_change_makes_another_secret(tmp_path):
    with running(tmp_path) as host:
        rig, made = Changing(host, own_paths(tmp_path)), []
        for _ in range(3):
            rig.change.begin()
            made.append(rig.coming.secret)
            rig.seconds(UNTIL_DONE_S)
        assert len({KEYS.secret, *made}) == 4
        assert load_host_keys(rig.paths.key_file).secret == made[-1]


@on_a_loop
async def test_what_cannot_be_kept_is_not_begun(tmp_path, monkeypatch):
    with running(tmp_path) as host:
        rig = Changing(host, own_paths(tmp_path))
        rig.here("kitchen")
        before = rig.paths.key_file.read_bytes()
        with monkeypatch.context() as broken:
            refuse_to_write(broken)
            host.log.clear()
            with pytest.raises(
                ConfigError, match=r"^cannot write the room key \S+/rotated\.key: No space left on device$"
            ):
                rig.change.begin()
        assert (rig.tokens, host.log, host.node.rotation) == ([], [], None)
        assert rig.change.status() == {"rotating": False, "have": 0, "speakers": 0, "without": []}
        assert rig.paths.key_file.read_bytes() == before
        assert given(rig.seconds(8)) == []
        rig.change.begin()
        assert given(rig.seconds(1)) == [rig.coming.room_keys], "and once there is room it goes on"


@on_a_loop
async def test_one_change_at_a_time(tmp_path):
    with running(tmp_path) as host:
        rig = Changing(host, own_paths(tmp_path))
        rig.change.begin()
        coming = rig.coming
        for _ in range(UNTIL_DONE_S):
            with pytest.raises(ControlError, match=r"^the key is being changed already: wait until that is done$"):
                rig.change.begin()
            assert rig.coming == coming
            rig.second(hand_on=False)
        # The node is done, and nobody has heard of it yet.
        assert (host.node.rotation, len(rig.done)) == (None, 1)
        with pytest.raises(ControlError, match="being changed already"):
            rig.change.begin()
        assert rig.coming == coming
        assert rig.change.status()["rotating"]
        rig.second()
        rig.change.begin()
        assert rig.coming != coming


@on_a_loop
async def test_both_tokens_count_during_a_change_and_the_new_one_alone_after_it(tmp_path):
    with running(tmp_path) as host:
        rig = Changing(host, own_paths(tmp_path))
        rig.change.open()
        assert rig.tokens == [], "as the server was told at its start"
        rig.here("kitchen")
        rig.change.begin()
        coming = rig.coming
        assert rig.tokens == [[token(KEYS), token(coming)]]
        rig.all_take_it()
        rig.seconds(UNTIL_SPOKEN_UNDER_S)
        assert host.node.rotation.switched
        assert len(rig.tokens) == 1, "requests under way may still have the old one"
        rig.seconds(UNTIL_DONE_S - UNTIL_SPOKEN_UNDER_S)
        assert rig.tokens[1:] == [[token(coming)]]


@on_a_loop
async def test_when_it_is_done_only_the_new_secret_is_left(tmp_path):
    with running(tmp_path) as host:
        rig = Changing(host, own_paths(tmp_path))
        rig.change.begin()
        coming = rig.coming
        rig.seconds(UNTIL_DONE_S)
        assert rig.coming is None
        assert load_host_keys(rig.paths.key_file) == coming
        assert len([one for one in rig.paths.key_file.read_text().splitlines() if one.startswith("H-")]) == 1
        assert not rig.paths.rotated_key_file.exists()


# -- stops in the middle of it -----------------------------------------------------------------


@pytest.mark.parametrize("after_s", [0, 3, UNTIL_SPOKEN_UNDER_S])
@on_a_loop
async def test_a_host_that_stopped_goes_on_with_the_same_key(tmp_path, after_s, caplog):
    paths = own_paths(tmp_path)
    with running(tmp_path) as host:
        rig = Changing(host, paths)
        rig.here("kitchen")
        rig.change.begin()
        coming = rig.coming
        rig.seconds(after_s)
    with running(tmp_path, boot_id=BOOT) as host, caplog.at_level(logging.INFO):
        again = Changing(host, paths)
        again.change.open()
        assert [one.message for one in caplog.records if "key" in one.message] == ["going on to change the room's key"]
        assert again.tokens == [[token(KEYS), token(coming)]]
        again.here("kitchen")
        assert given(again.seconds(1)) == [coming.room_keys]
        with pytest.raises(ControlError, match="being changed already"):
            again.change.begin()
        again.all_take_it()
        again.seconds(UNTIL_DONE_S)
        assert (load_host_keys(paths.key_file), again.coming) == (coming, None)
    with running(tmp_path) as host:
        third = Changing(host, paths)
        third.change.open()
        assert (host.node.rotation, third.tokens) == (None, []), "and what is done is not done again"


@on_a_loop
async def test_an_end_that_cannot_be_kept_is_said_and_finished_at_the_next_start(tmp_path, monkeypatch, caplog):
    paths = own_paths(tmp_path)
    with running(tmp_path) as host:
        rig = Changing(host, paths)
        rig.here("kitchen")
        rig.change.begin()
        coming = rig.coming
        rig.all_take_it()
        with monkeypatch.context() as broken:
            refuse_to_write(broken)
            rig.seconds(UNTIL_DONE_S)
        warned = [one.message for one in caplog.records if one.levelno >= logging.WARNING]
        assert warned == [f"cannot write the room key {paths.rotated_key_file}: No space left on device"]
        assert rig.tokens[-1] == [token(coming)]
        assert rig.change.status() == {"rotating": False, "have": 1, "speakers": 1, "without": []}
        assert (load_host_keys(paths.key_file), rig.coming) == (KEYS, coming), "both are still there"
    with running(tmp_path) as host:
        again = Changing(host, paths)
        again.change.open()
        again.seconds(UNTIL_DONE_S)
        assert (load_host_keys(paths.key_file), again.coming) == (coming, None)


@on_a_loop
async def test_a_key_file_that_is_gone_or_damaged_is_one_line_and_no_change(tmp_path, caplog):
    with running(tmp_path) as host:
        rig = Changing(host, own_paths(tmp_path))
        for damage in (rig.paths.key_file.unlink, lambda: rig.paths.key_file.write_text("H-ELLO\n")):
            damage()
            caplog.clear()
            rig.change.open()
            (record,) = [one for one in caplog.records if one.name.endswith("key_change")]
            assert str(rig.paths.key_file) in record.message
            assert "\n" not in record.message
            assert record.exc_info is None
            assert (host.node.rotation, rig.tokens) == (None, [])
            with pytest.raises(ConfigError):
                rig.change.begin()
            assert host.node.rotation is None


# -- what is said of it ------------------------------------------------------------------------


@on_a_loop
async def test_status_says_how_far_it_is_and_how_it_ended(tmp_path, caplog):
    with running(tmp_path) as host, caplog.at_level(logging.INFO):
        rig = Changing(host, own_paths(tmp_path))

        def status() -> tuple[object, ...]:
            answer = rig.change.status()
            assert list(answer) == ["rotating", "have", "speakers", "without"]
            return tuple(answer.values())

        rig.here("kitchen", "bath")
        assert status() == (False, 0, 0, [])
        rig.change.begin()
        assert status() == (True, 0, 2, [])
        rig.all_take_it("kitchen")
        rig.second()
        assert status() == (True, 1, 2, [])
        rig.all_take_it("bath")
        rig.second()
        assert status() == (True, 2, 2, [])
        rig.seconds(UNTIL_DONE_S)
        assert status() == (False, 2, 2, [])
        said = [one.message for one in caplog.records if one.name.endswith("key_change")]
        assert said == ["the room has a new key, and so have 2 of 2 speakers that are here"]


@on_a_loop
async def test_who_has_to_join_again_is_named(tmp_path):
    with running(tmp_path) as host:
        rig = Changing(host, own_paths(tmp_path))
        rig.here("kitchen", "bath", "shed")
        host.leave(PEER_IDS["shed"])  # Known, and away.
        del rig.kept["shed"]
        rig.change.begin()
        rig.all_take_it("kitchen")
        rig.seconds(UNTIL_DONE_S)
        assert rig.change.status() == {"rotating": True, "have": 1, "speakers": 2, "without": []}
        rig.seconds(A_MINUTE_AND_MORE_S - UNTIL_DONE_S)
        assert rig.change.status() == {"rotating": False, "have": 1, "speakers": 2, "without": ["bath", "shed"]}
        rig.change.begin()
        assert rig.change.status()["without"] == [], "nobody of the change before"


@on_a_loop
async def test_a_speaker_that_took_it_and_went_away_does_not_have_to_join_again(tmp_path):
    with running(tmp_path) as host:
        rig = Changing(host, own_paths(tmp_path))
        rig.here("kitchen", "bath")
        rig.change.begin()
        rig.all_take_it()
        rig.second()
        del rig.kept["bath"]
        rig.seconds(UNTIL_DONE_S)
        assert rig.change.status() == {"rotating": False, "have": 1, "speakers": 1, "without": []}


@on_a_loop
async def test_a_host_that_was_started_amid_a_change_names_whom_it_has_not_seen(tmp_path):
    paths = own_paths(tmp_path)
    with running(tmp_path) as host:
        Changing(host, paths).here("kitchen", "bath")
    keep_host_keys(paths.key_file, KEYS, NEW)
    with running(tmp_path) as host:
        rig = Changing(host, paths)
        rig.change.open()
        rig.here("bath")
        rig.all_take_it()
        rig.seconds(UNTIL_DONE_S)
        assert rig.change.status() == {"rotating": False, "have": 1, "speakers": 1, "without": ["kitchen"]}


# -- who may -----------------------------------------------------------------------------------


def bearer(keys: HostKeys) -> dict[str, dict[str, str]]:
    return {"headers": {"Authorization": f"Bearer {token(keys)}"}}


def test_it_is_begun_on_the_hosts_own_machine_and_the_old_token_ends_with_it(tmp_path):
    async def test(client):
        rig = Changing(client.host, own_paths(tmp_path))
        change = KeyChange(
            *(client.host.node, rig.paths, KEYS, client.host.control.speakers, rig.links),
            accept=client.server.accept_tokens,
            changed=lambda: None,
        )
        client.host.control.key = rig.change = change
        for method, path in (("POST", "/api/key/rotate"), ("GET", "/api/key")):
            status, answer = await client.ask(method, path, **bearer(KEYS))
            assert (status, answer) == (403, {"error": "this is done on the host's own machine only"})
        assert client.host.node.rotation is None

        async def let_in(keys):
            return (await client.ask("GET", "/api/status", **bearer(keys)))[0] == 200

        assert [await let_in(keys) for keys in (KEYS, NEW)] == [True, False]
        begun = await client.ask("POST", "/api/key/rotate", local=True)
        assert begun == (200, {"message": "the speakers are given a new key"})
        again = await client.ask("POST", "/api/key/rotate", local=True)
        assert again == (400, {"error": "the key is being changed already: wait until that is done"})
        coming = rig.coming
        assert [await let_in(keys) for keys in (KEYS, coming, NEW)] == [True, True, False]
        assert (await client.ask("GET", "/api/key", local=True))[1]["rotating"]
        rig.seconds(UNTIL_DONE_S)
        assert [await let_in(keys) for keys in (KEYS, coming)] == [False, True]
        ended = {"rotating": False, "have": 0, "speakers": 0, "without": []}
        assert await client.ask("GET", "/api/key", local=True) == (200, ended)

    run(test, tmp_path, token=token(KEYS))


def test_a_disk_that_takes_nothing_is_one_line_for_whoever_asked(tmp_path, monkeypatch):
    async def test(client):
        rig = Changing(client.host, own_paths(tmp_path))
        client.host.control.key = rig.change
        refuse_to_write(monkeypatch)
        status, answer = await client.ask("POST", "/api/key/rotate", local=True)
        line = f"cannot write the room key {rig.paths.rotated_key_file}: No space left on device"
        assert (status, answer) == (400, {"error": line})

    run(test, tmp_path, token=token(KEYS))


# -- what a speaker does with it ---------------------------------------------------------------


class Kept(Rig):
    """A speaker whose key is in a file, and a host that changes it.

    Attributes:
        tokens: what its fetcher was told to show.
    """

    def __init__(self, folder, **options) -> None:
        super().__init__(folder, **options)
        self.paths = self.config.paths
        self.tokens: list[str] = []
        self.speaker.set_token = self.tokens.append

    def change(self, seconds: float) -> list[RotationDone]:
        """Let the host change its key; return whether it is done."""
        self.converse(3.0)
        while self.host.next_event() is not None:
            pass
        self.host.begin_rotation(NEW)
        self.converse(seconds)
        events = []
        while (event := self.host.next_event()) is not None:
            events.append(event)
        return [event for event in events if isinstance(event, RotationDone)]


def test_a_speaker_keeps_a_new_key_before_the_host_hears_that_it_has_it(tmp_path, monkeypatch):
    rig = Kept(tmp_path)
    write_room_keys(rig.paths.key_file, KEYS.room_keys)
    node, in_file = rig.daemon._node, []
    real = node.key_kept

    def note(keys):
        in_file.append(load_room_keys(rig.paths.key_file))
        real(keys)

    monkeypatch.setattr(node, "key_kept", note)
    assert rig.change(UNTIL_DONE_S) == [RotationDone(NEW, ())]
    assert in_file == [NEW.room_keys]
    assert rig.tokens == [token(NEW)]
    assert load_room_keys(rig.paths.key_file, rig.paths.rotated_key_file) == NEW.room_keys
    assert not rig.paths.rotated_key_file.exists()
    rig.say(volume=21)
    assert rig.daemon._state.volume == 21


def test_a_speaker_that_cannot_keep_a_new_key_says_so_and_plays_on_with_it(tmp_path, monkeypatch, caplog):
    rig = Kept(tmp_path)
    write_room_keys(rig.paths.key_file, KEYS.room_keys)
    refuse_to_write(monkeypatch)
    assert rig.change(UNTIL_DONE_S) == []
    assert rig.host.rotation.have == 0
    (record,) = [one for one in caplog.records if one.name.endswith("peer_daemon") and "key" in one.message]
    assert record.message.startswith("the room has a new key, which is lost at the next start: cannot write the room")
    assert rig.tokens == [token(NEW)], "the host will soon take no other"
    rig.converse(A_MINUTE_AND_MORE_S - UNTIL_DONE_S)
    assert rig.host.rotation is None
    rig.say(volume=21)
    assert rig.daemon._state.volume == 21


def test_a_speaker_with_its_hosts_own_file_leaves_it_and_the_second_one_to_the_host(tmp_path):
    rig = Kept(tmp_path)
    paths = rig.paths
    make_host_keys(paths.key_file)
    keep_host_keys(paths.key_file, KEYS, NEW, paths.rotated_key_file)
    before = paths.key_file.read_bytes()
    assert rig.change(UNTIL_DONE_S) == [RotationDone(NEW, ())]
    assert rig.tokens == [token(NEW)]
    assert paths.key_file.read_bytes() == before
    # The host was killed now, and has its state in the same folder.
    assert load_host_keys(paths.key_file, paths.rotated_key_file) == KEYS
    assert load_coming_keys(paths.key_file, paths.rotated_key_file) == NEW


def test_a_speaker_of_an_open_room_leaves_the_key_that_it_has_for_others(tmp_path, caplog):
    rig = Kept(tmp_path, open=True)
    write_room_keys(rig.paths.key_file, KEYS.room_keys)
    rig.daemon._keep(NEW.room_keys)
    assert load_room_keys(rig.paths.key_file, rig.paths.rotated_key_file) == KEYS.room_keys
    assert [one for one in caplog.records if one.levelno >= logging.WARNING] == []


# -- links -------------------------------------------------------------------------------------


@on_a_loop
async def test_links_stay_when_the_key_changes_in_use_whenever_the_host_stops(tmp_path, monkeypatch):
    paths = own_paths(tmp_path)
    with running(tmp_path) as host:
        rig = Changing(host, paths)
        rig.here("kitchen")
        token = rig.links.make("control", "")[1]
        rig.change.begin()
        rig.all_take_it()
        with monkeypatch.context() as broken:
            refuse_to_write(broken)  # As if it stopped just before the old key goes.
            rig.seconds(UNTIL_DONE_S)
    for _ in range(2):
        with running(tmp_path, boot_id=BOOT) as host:
            rig = Changing(host, paths)
            assert rig.links.entitled(token) is not None
            rig.change.open()
            rig.seconds(UNTIL_DONE_S)
            assert rig.coming is None
            assert rig.links.entitled(token) is not None


@on_a_loop
async def test_links_are_revoked_when_the_host_starts_with_a_new_key(tmp_path):
    paths = own_paths(tmp_path)
    with running(tmp_path) as host:
        token = Changing(host, paths).links.make("control", "")[1]
    make_host_keys(paths.key_file, replace=True)
    with running(tmp_path) as host:
        assert Changing(host, paths).links.entitled(token) is None


@on_a_loop
async def test_a_new_key_that_waits_for_the_hosts_next_start_is_not_written_over(tmp_path, caplog):
    paths = own_paths(tmp_path)
    with running(tmp_path) as host:
        rig = Changing(host, paths)
        rig.here("kitchen")
        newest = make_host_keys(paths.key_file, replace=True)
        with pytest.raises(ConfigError, match="is newer than this host's: restart the host"):
            rig.change.begin()
        assert host.node.rotation is None
        keep_host_keys(paths.key_file, KEYS)
        rig.change.begin()
        rig.all_take_it()
        newest = make_host_keys(paths.key_file, replace=True)
        rig.seconds(UNTIL_DONE_S)
        assert "is newer than this host's" in caplog.text
        assert load_host_keys(paths.key_file) == newest
