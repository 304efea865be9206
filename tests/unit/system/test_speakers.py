"""What a host keeps for its speakers, and how it says what they report."""

from __future__ import annotations

import pytest
from host_rig import BOOT, KEYS, MS, S, running
from hypothesis import given
from hypothesis import strategies as st

from musicsyncd.errors import ControlError, MusicSyncError
from musicsyncd.protocol import host as protocol_host
from musicsyncd.protocol import wire
from musicsyncd.protocol.host import HostNode, PeerInfo
from musicsyncd.system.control import Control
from musicsyncd.system.database import Database, SavedPeer
from musicsyncd.system.speakers import Speakers, parse_volume
from musicsyncd.system.status import peer_status
from musicsyncd.units import HostNs


class Rig:
    """Speakers over a real node and a real database."""

    def __init__(self, folder):
        self.database = Database(folder / "state.sqlite", lock_timeout_s=0)
        self.node = HostNode(KEYS, b"host-one", 1, "den", 7783, nonce=lambda: bytes(8))
        self.changes = 0
        self.speakers = Speakers(self.node, self.database, self._changed)

    def _changed(self):
        self.changes += 1

    def settings(self, peer_id):
        return self.node._settings.get(peer_id)

    def kept(self, peer_id):
        return next(one for one in self.database.peers() if one.peer_id == peer_id)


LAMP, SHELF = b"lamp....", b"shelf..."


@pytest.fixture
def rig(tmp_path):
    one = Rig(tmp_path)
    one.speakers.appeared(LAMP, "Lamp", "main")
    one.speakers.appeared(SHELF, "Shelf", "main")
    yield one
    one.database.close()


def test_a_new_speaker_comes_into_the_default_room_and_is_kept(rig):
    assert rig.settings(LAMP) == wire.Settings(LAMP, 1, "main")
    assert rig.kept(LAMP) == SavedPeer(LAMP, "Lamp", "main", settings_revision=1)


def test_a_known_speaker_gets_what_is_kept_for_it_and_no_new_revision(rig):
    rig.speakers.volume("Lamp", "30")
    before = rig.settings(LAMP)
    rig.speakers.appeared(LAMP, "Lamp", "attic")
    assert rig.settings(LAMP) == before
    assert before.room == "main"


def test_a_speaker_may_change_its_name_and_keeps_the_rest(rig):
    rig.speakers.volume("Lamp", "30")
    rig.speakers.appeared(LAMP, "Lamp in the hall", "main")
    assert (rig.kept(LAMP).name, rig.kept(LAMP).volume) == ("Lamp in the hall", 30)


def test_each_command_is_said_with_a_greater_revision_and_kept(rig):
    speakers = rig.speakers
    for command, sentence, field, value in (
        (lambda: speakers.volume("Lamp", "30"), "Lamp: volume 30", "volume", 30),
        (lambda: speakers.volume("Lamp", "+5"), "Lamp: volume 35", "volume", 35),
        (lambda: speakers.mute("Lamp", True), "Lamp: muted", "muted", True),
        (lambda: speakers.mute("Lamp", False), "Lamp: volume 35", "muted", False),
        (lambda: speakers.delay("Lamp", 12.3456), "Lamp: fed 12.3456 ms earlier", "output_delay_us", 12346),
        (lambda: speakers.delay("Lamp", -2), "Lamp: fed 2 ms later", "output_delay_us", -2000),
        (lambda: speakers.delay("Lamp", 0), "Lamp: no delay", "output_delay_us", 0),
        (lambda: speakers.channels("Lamp", "left"), "Lamp: left", "channels", "left"),
        (lambda: speakers.move("Lamp", "attic"), "Lamp is in 'attic'", "room", "attic"),
    ):
        revision, changes = rig.settings(LAMP).revision, rig.changes
        assert command() == sentence
        assert getattr(rig.settings(LAMP), field) == value
        assert getattr(rig.kept(LAMP), field) == value
        assert rig.settings(LAMP).revision == rig.kept(LAMP).settings_revision == revision + 1
        assert rig.changes == changes + 1
    assert rig.settings(SHELF).revision == 1


@pytest.mark.parametrize("text", ["900", "101", "abc", "", "5%", "1.5", "++5", "None", "9" * 5000])
def test_what_is_no_volume_is_refused_and_changes_nothing(rig, text):
    with pytest.raises(ControlError) as caught:
        rig.speakers.volume("Lamp", text)
    assert "\n" not in str(caught.value)
    assert rig.settings(LAMP).volume == 100


@given(st.integers(0, 100), st.integers(-1000, 1000))
def test_steps_of_volume_end_at_silence_and_at_full(now, step):
    assert parse_volume(f"{step:+d}", now) == min(100, max(0, now + step))


def test_a_volume_is_absolute_without_a_sign():
    assert [parse_volume(text, 50) for text in ("0", "100", " 40 ", "+0", "-0")] == [0, 100, 40, 50, 50]


@pytest.mark.parametrize("delay_ms", [5000.1, -5000.1, float("inf"), float("nan")])
def test_a_delay_out_of_range_is_refused(rig, delay_ms):
    with pytest.raises(ControlError, match="not possible: −5000 to 5000"):
        rig.speakers.delay("Lamp", delay_ms)
    assert rig.settings(LAMP).output_delay_us == 0


def test_the_longest_delays_can_be_said_to_the_speaker(rig):
    for delay_ms in (5000.0, -5000.0):
        rig.speakers.delay("Lamp", delay_ms)
        assert wire.decode_from_host(wire.encode(rig.settings(LAMP))) == rig.settings(LAMP)


def test_channels_that_there_are_not_are_refused(rig):
    with pytest.raises(ControlError, match="no channels 'up': stereo, left, right, mono"):
        rig.speakers.channels("Lamp", "up")


def test_a_speaker_is_found_by_name_in_any_case_or_by_its_id(rig):
    assert rig.speakers.volume("lAMP", "1") == "Lamp: volume 1"
    assert rig.speakers.volume(LAMP.hex(), "2") == "Lamp: volume 2"
    with pytest.raises(ControlError, match="no speaker 'Lam': there is Lamp, Shelf"):
        rig.speakers.volume("Lam", "3")


def test_of_two_speakers_of_one_name_the_id_must_say_which(rig):
    rig.speakers.appeared(b"other...", "Lamp", "main")
    with pytest.raises(ControlError, match=r"there is Lamp, Shelf$"):
        rig.speakers.volume("Lam", "3")
    with pytest.raises(ControlError, match="2 speakers are called 'Lamp'") as caught:
        rig.speakers.mute("Lamp", True)
    assert LAMP.hex() in str(caught.value)
    assert rig.speakers.mute(b"other...".hex(), True) == "Lamp: muted"
    assert not rig.settings(LAMP).muted


def test_an_exact_name_beats_another_case(rig):
    rig.speakers.appeared(b"other...", "lamp", "main")
    rig.speakers.volume("lamp", "10")
    assert (rig.settings(LAMP).volume, rig.settings(b"other...").volume) == (100, 10)


def test_all_speakers_of_a_room_move_together(rig):
    rig.speakers.move("Shelf", "attic")
    assert rig.speakers.move_all("main", "attic") == 1
    assert rig.speakers.move_all("main", "attic") == 0
    assert (rig.settings(LAMP).room, rig.kept(LAMP).room) == ("attic", "attic")


def test_a_speaker_that_is_away_is_forgotten_and_comes_back_as_a_new_one(rig):
    rig.speakers.volume("Lamp", "30")
    assert rig.speakers.forget("Lamp") == "forgot Lamp"
    assert rig.settings(LAMP) is None
    assert [one.name for one in rig.database.peers()] == ["Shelf"]
    rig.speakers.appeared(LAMP, "Lamp", "main")
    assert rig.settings(LAMP).volume == 100


def test_settings_outlive_the_host(tmp_path, rig):
    rig.speakers.delay("Lamp", 7)
    kept = rig.settings(LAMP)
    rig.database.close()
    again = Rig(tmp_path)
    assert again.settings(LAMP) == kept
    again.speakers.mute("Lamp", True)
    assert again.settings(LAMP).revision == kept.revision + 1
    again.database.close()


def test_what_cannot_be_kept_is_said_to_the_speaker_all_the_same(rig, monkeypatch):
    def refuse(_):
        raise MusicSyncError("the disk is full")

    monkeypatch.setattr(rig.database, "save_peer", refuse)
    assert rig.speakers.volume("Lamp", "30") == "Lamp: volume 30"
    assert rig.settings(LAMP).volume == 30
    assert rig.speakers.unsaved == "the disk is full"


def test_one_speaker_too_many_is_turned_away_without_harm(rig, monkeypatch, caplog):
    """It comes from outside, in the middle of receiving: nothing may be raised there."""
    monkeypatch.setattr(protocol_host, "MAX_PEERS", 2)
    rig.speakers.appeared(b"too many", "one more", "main")
    assert rig.settings(b"too many") is None
    assert [one.name for one in rig.database.peers()] == ["Lamp", "Shelf"]
    assert "one more" in caplog.text


# -- status ------------------------------------------------------------------------------------


def test_a_present_speaker_cannot_be_forgotten_and_one_that_left_can(tmp_path):
    import asyncio

    async def run():
        with running(tmp_path) as host:
            peer_id = host.report("lamp")
            with pytest.raises(ControlError, match="lamp is there: stop it first"):
                host.control.speakers.forget("lamp")
            host.leave(peer_id)
            assert host.control.speakers.forget("lamp") == "forgot lamp"
            assert host.control.status()["peers"] == []

    asyncio.run(run())


def test_status_says_what_a_speaker_reports_with_its_units():
    playback = wire.PlaybackStats(
        state="together",
        sync_error_ns=-12_345,
        correction_ppm=3.14159,
        underruns=2,
        starved_frames=7,
        lead_duration_ns=123 * MS,
        card_ppm=-7.777,
        output="hw:DAC,0 48000 Hz",
        fault="it hums",
    )
    clock = wire.ClockStats(1_500, 2.222, 3_300, 450_000, 55_000, 0.025, "kernel")
    report = wire.Report("lamp", "main", 1, 1, True, "0.1", clock, playback)
    saved = SavedPeer(LAMP, "lamp", "attic", 40, True, -2500, "left", 3)
    info = PeerInfo(LAMP, 1, ("192.0.2.9", 4), report, HostNs(100 * S), "unicast", True)
    assert peer_status(saved, info, 101 * S + 260 * MS) == {
        "id": LAMP.hex(),
        "name": "lamp",
        "room": "attic",
        "address": "192.0.2.9",
        "reach": "unicast",
        "seen_s_ago": 1.3,
        "version": "0.1",
        "volume": 40,
        "muted": True,
        "output_delay_ms": -2.5,
        "channels": "left",
        "state": "together",
        "sync_error_us": -12.3,
        "correction_ppm": 3.14,
        "card_ppm": -7.78,
        "underruns": 2,
        "starved_frames": 7,
        "output": "hw:DAC,0 48000 Hz",
        "fault": "it hums",
        "lead_ms": 123.0,
        "clock": {
            "offset_us": 1.5,
            "skew_ppm": 2.22,
            "uncertainty_us": 3.3,
            "round_trip_us": 450.0,
            "jitter_us": 55.0,
            "loss_percent": 2.5,
            "stamps": "kernel",
        },
    }


def test_a_speaker_that_left_is_away_whatever_it_said_last():
    report = wire.Report("lamp", "main", 1, 1, False, "0.1", wire.ClockStats(), wire.PlaybackStats("together"))
    info = PeerInfo(LAMP, 1, ("192.0.2.9", 4), report, HostNs(S), "multicast", False)
    status = peer_status(SavedPeer(LAMP, "lamp", "main"), info, 11 * S)
    assert (status["state"], status["reach"], status["seen_s_ago"]) == ("away", "away", 10.0)


def test_a_speaker_that_was_never_heard_since_the_start_has_its_settings_only():
    status = peer_status(SavedPeer(LAMP, "lamp", "main", 40), None, 11 * S)
    assert (status["state"], status["reach"], status["address"], status["seen_s_ago"]) == ("away", "away", None, None)
    assert status["volume"] == 40


def test_the_status_of_an_idle_room(tmp_path):
    database = Database(tmp_path / "state.sqlite", lock_timeout_s=0)
    node = HostNode(KEYS, b"host-one", 1, "den", 7783, nonce=lambda: bytes(8))
    control = Control(node, database, lambda: S, BOOT, lambda: None, dict)
    control.open("main")
    assert control.status()["rooms"] == [
        {
            "name": "main",
            "mode": "stopped",
            "moving": False,
            "volume": 100,
            "muted": False,
            "revision": 1,
            "track": None,
            "waits_for": "",
            "position_s": 0.0,
            "queue_length": 0,
            "queue_position": None,
            "queue_revision": 0,
            "shuffled": False,
            "repeat": "off",
            "crossfade_s": 0.0,
            "fault": "",
            "lead_ms": 20.0,
        }
    ]
    control.close()
    database.close()
