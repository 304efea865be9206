"""A room as MPRIS has a player: its properties, its position, and what its methods ask of the host."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from musicsyncd.errors import ControlError
from musicsyncd.system.mpris.daemon import bus_name
from musicsyncd.system.mpris.player import Details, Player, RoomSeen, StatusSeen, TrackSeen, room_of
from musicsyncd.units import NS_PER_S

ONE = TrackSeen("One", "Ada", 60.0, 7)
PLAYING = RoomSeen(
    "main", "playing", moving=True, track=ONE, position_s=10.0, queue_length=2, queue_position=1, lead_ms=100.0
)
S = 1_000_000


class Desk:
    """A player, what it asked of its host, and a clock."""

    def __init__(self, room=PLAYING):
        self.now_ns = 5 * NS_PER_S
        self.asked = []
        self.player = Player(self._send, lambda: self.now_ns)
        self.take(room)

    async def _send(self, path, body):
        self.asked.append((path, body))

    def take(self, room, after_s=0.0):
        self.now_ns += round(after_s * NS_PER_S)
        return self.player.take(room)

    def do(self, name, *words):
        self.asked.clear()
        asyncio.run(getattr(self.player, name)(*words))
        return self.asked


def but(**changes):
    return msgspec.structs.replace(PLAYING, **changes)


def test_only_what_changes_is_said():
    desk = Desk()
    assert desk.take(but(position_s=11.0), 1.0).properties == {}
    assert desk.take(but(position_s=12.0, volume=40), 1.0).properties == {"Volume": 0.4}
    assert desk.take(but(position_s=12.0, volume=40, mode="paused", moving=False)).properties == {
        "PlaybackStatus": "Paused"
    }
    change = desk.take(but(position_s=0.0, volume=40, track=TrackSeen("Two", "", 0.0, 8), queue_position=2))
    assert change.properties == {
        "PlaybackStatus": "Playing",
        "Metadata": {"mpris:trackid": "/net/musicsyncd/track/8", "xesam:title": "Two"},
        "CanGoNext": False,
        "CanSeek": False,
    }
    assert change.new_track


def test_its_position_runs_on_while_the_music_moves_and_ends_with_the_track():
    desk = Desk()
    desk.now_ns += 3 * NS_PER_S
    assert desk.player.position_us() == 13 * S
    desk.now_ns += 600 * NS_PER_S
    assert desk.player.position_us() == 60 * S
    desk.take(but(moving=False, position_s=20.0))  # It plays, and waits for its file.
    desk.now_ns += NS_PER_S
    assert desk.player.position_us() == 20 * S
    desk.take(but(position_s=-1.0))
    assert desk.player.position_us() == 0
    desk.take(but(position_s=1e300, track=TrackSeen("x", "", 1e300, 9)))
    assert desk.player.position_us() < 1 << 63


@pytest.mark.parametrize(
    ("room", "seeked_us"),
    [
        (but(position_s=11.5), None),
        (but(position_s=10.41), None),
        (but(position_s=11.65), 11_650_000),
        (but(position_s=3.0), 3 * S),
        (but(position_s=50.0, mode="paused", moving=False), 50 * S),
        (but(position_s=0.0, mode="stopped", moving=False), None),
        (but(position_s=0.0, track=TrackSeen("Two", "", 60.0, 8)), None),
    ],
)
def test_a_jump_within_the_track_is_signalled_and_nothing_else(room, seeked_us):
    desk = Desk()
    assert desk.take(room, 1.0).seeked_us == seeked_us


def test_what_is_about_to_begin_is_asked_after_once_more():
    desk = Desk(but(mode="paused", moving=False))
    assert not desk.player.unsettled
    desk.take(PLAYING)
    assert desk.player.unsettled
    desk.take(but(position_s=10.9), 1.0)
    assert not desk.player.unsettled
    desk.take(but(position_s=40.0), 1.0)
    assert desk.player.unsettled
    desk.take(but(position_s=40.0, mode="paused", moving=False))
    assert not desk.player.unsettled


def test_details_are_for_the_track_that_they_were_found_out_of():
    desk = Desk()
    found = Details("Blue", 3, "file:///cover.png")
    assert desk.player.describe(8, found).properties == {}
    said = desk.player.describe(7, found).properties["Metadata"]
    assert said == {
        "mpris:trackid": "/net/musicsyncd/track/7", "mpris:length": 60 * S, "mpris:artUrl": "file:///cover.png",
        "xesam:title": "One", "xesam:artist": ["Ada"], "xesam:album": "Blue", "xesam:trackNumber": 3,
    }  # fmt: skip
    desk.take(but(track=TrackSeen("Two", "", 60.0, 8)))
    assert "xesam:album" not in desk.player.properties["Metadata"]


def test_nothing_to_play_is_nothing_that_can_be_done():
    desk = Desk(RoomSeen("main"))
    shown = desk.player.properties
    assert shown["Metadata"] == {}
    assert shown["PlaybackStatus"] == "Stopped"
    assert not any(value for name, value in shown.items() if name.startswith("Can"))
    for name in ("next", "previous", "play", "pause", "play_pause", "stop"):
        assert desk.do(name) == []
    assert desk.do("seek", 5 * S) == []
    assert desk.do("set_position", desk.player.track_id, 0) == []


@pytest.mark.parametrize(
    ("room", "name", "words", "asked"),
    [
        (PLAYING, "next", (), ("next", {})),
        (but(queue_position=2), "next", (), None),
        (but(queue_position=2, repeat="all"), "next", (), ("next", {})),
        (PLAYING, "previous", (), ("previous", {})),
        (PLAYING, "play", (), None),
        (PLAYING, "play_pause", (), ("pause", {})),
        (but(mode="paused"), "play_pause", (), ("play", {})),
        (but(mode="paused"), "pause", (), None),
        (but(mode="stopped"), "stop", (), None),
        (PLAYING, "stop", (), ("stop", {})),
        (PLAYING, "seek", (5 * S,), ("seek", {"to": "15.000000"})),
        (PLAYING, "seek", (-15 * S,), ("seek", {"to": "0.000000"})),
        (PLAYING, "seek", (50 * S,), ("next", {})),
        (but(queue_position=2), "seek", (50 * S,), None),
        (PLAYING, "set_position", ("/net/musicsyncd/track/7", 30 * S), ("seek", {"to": "30.000000"})),
        (PLAYING, "set_position", ("/net/musicsyncd/track/7", 60 * S), ("seek", {"to": "59.999000"})),
        (PLAYING, "set_position", ("/net/musicsyncd/track/7", 60 * S + 1), None),
        (PLAYING, "set_position", ("/net/musicsyncd/track/7", -1), None),
        (PLAYING, "set_position", ("/net/musicsyncd/track/8", 30 * S), None),
        (PLAYING, "set_volume", (0.336,), ("volume", {"volume": "34"})),
        (PLAYING, "set_volume", (-3.0,), ("volume", {"volume": "0"})),
        (PLAYING, "set_volume", (float("inf"),), ("volume", {"volume": "100"})),
        (PLAYING, "set_shuffle", (True,), ("shuffle", {"on": True})),
        (PLAYING, "set_loop", ("Playlist",), ("repeat", {"repeat": "all"})),
        (PLAYING, "set_rate", (0.0,), ("pause", {})),
        (PLAYING, "set_rate", (2.0,), None),
    ],
)
def test_what_its_methods_ask_of_the_host(room, name, words, asked):
    expected = [] if asked is None else [(f"/api/rooms/main/{asked[0]}", asked[1])]
    assert Desk(room).do(name, *words) == expected


def test_a_muted_room_is_heard_again_with_a_volume():
    desk = Desk(but(muted=True, volume=50))
    assert desk.player.properties["Volume"] == 0.0
    assert desk.do("set_volume", 0.5) == [
        ("/api/rooms/main/volume", {"volume": "50"}), ("/api/rooms/main/mute", {"muted": False}),
    ]  # fmt: skip
    assert desk.do("set_volume", 0.0) == [("/api/rooms/main/volume", {"volume": "0"})]


@pytest.mark.parametrize(("name", "value"), [("set_loop", "all"), ("set_volume", float("nan"))])
def test_what_makes_no_sense_is_refused(name, value):
    with pytest.raises(ControlError):
        Desk().do(name, value)


def test_a_room_is_found_as_everywhere():
    def rooms(*names):
        return StatusSeen(rooms=[RoomSeen(name) for name in names])

    assert room_of(rooms(), "-") is None
    assert room_of(rooms("attic"), "-").name == "attic"
    assert room_of(rooms("attic", "main"), "-").name == "main"
    assert room_of(rooms("attic", "den"), "-").name == "attic"
    assert room_of(rooms("attic", "den"), "den").name == "den"
    assert room_of(rooms("attic", "den"), "main") is None


@pytest.mark.parametrize(
    ("room", "name"),
    [("-", ""), ("den", ".den"), ("2nd", "._2nd"), ("a.b c/ü", ".a_b_c__"), ("x" * 64, f".{'x' * 64}")],
)
def test_a_rooms_name_on_the_bus_is_one_that_may_be(room, name):
    from dbus_fast.validators import is_bus_name_valid

    assert bus_name(room) == f"org.mpris.MediaPlayer2.musicsyncd{name}"
    assert is_bus_name_valid(bus_name(room))


def test_titles_of_any_kind_can_go_on_the_bus():
    desk = Desk(but(track=TrackSeen("a\udc80b", "\ud800", 1.0, 1)))
    said = desk.player.properties["Metadata"]
    said["xesam:title"].encode()
    said["xesam:artist"][0].encode()
