"""The wiring of a peer: a real node that hears a real host in virtual time, and a speaker that notes its orders."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from musicsyncd.clock.mapping import ClockMapping
from musicsyncd.config import NetworkConfig, Paths, PeerConfig
from musicsyncd.errors import ConfigError
from musicsyncd.playback.player import Course
from musicsyncd.playback.timeline import Segment, Timeline, Track
from musicsyncd.protocol.host import HostNode, PeerAppeared, RoomState
from musicsyncd.protocol.wire import PlaybackStats, Settings
from musicsyncd.system import peer_daemon as module
from musicsyncd.system.keyfile import make_key
from musicsyncd.system.peer_daemon import PeerDaemon, run
from musicsyncd.system.supervision import claim
from musicsyncd.units import NS_PER_MS, NS_PER_S, volume_to_gain

KEY = bytes(range(32))
HOST_AT, PEER_AT = ("192.0.2.1", 7783), ("192.0.2.2", 40_000)
OFFSET_NS = 1234 * NS_PER_S
TRACK = Track(bytes(32), 1000, 48_000, 48_000 * 180, 2)


@dataclass
class Orders:
    """A speaker that notes what it is told."""

    courses: list[Course] = field(default_factory=list)
    gain: float = -1.0
    channels: str = ""
    host: tuple[str, int] | None = None
    log: list[str] = field(default_factory=list)
    ready: bool = True

    def follow(self, course):
        self.courses.append(course)

    def set_gain(self, gain):
        self.gain = gain

    def set_channels(self, channels):
        self.channels = channels

    def set_host(self, address, port):
        self.host = (address, port)

    def look_ahead(self):
        self.log.append("look ahead")

    def stats(self):
        return PlaybackStats(state="together", fault="")

    async def fade_out(self):
        self.log.append("fade out")

    async def close(self):
        self.log.append("close")


class Rig:
    """A peer and its host, 0.1 ms apart."""

    def __init__(self, folder, **options):
        self.config = PeerConfig(
            name="kitchen",
            network=NetworkConfig(interfaces=("lo",)),
            paths=Paths.find({}, state_dir=folder),
            output="null",
            **options,
        )
        self.daemon = PeerDaemon(self.config, folder / "peer", KEY)
        self.speaker = self.daemon.speaker = Orders()
        self.host = HostNode(KEY, b"host-one", 5, "den", 7999)
        self.state = RoomState("main", 1, Timeline((Segment(OFFSET_NS + 9 * NS_PER_S, 1, 0, TRACK),)), 50)
        self.host.set_room(self.state)
        self.now_ns = NS_PER_S
        self.settings: Settings | None = None

    def say(self, **changes):
        """Let the host say another state of the room."""
        values = {"room": "main", "revision": self.state.revision + 1, "timeline": self.state.timeline}
        self.state = RoomState(**{**values, **changes})
        self.host.set_room(self.state)
        self.converse()

    def set(self, **changes):
        """Let the host have settings for the peer."""
        revision = 1 if self.settings is None else self.settings.revision + 1
        self.settings = Settings(self.daemon._identity.peer_id, revision, **{"room": "main", **changes})
        self.host.set_settings(self.settings)
        self.converse()

    def converse(self, seconds=2.0):
        """Let both say what they have, for a while."""
        node = self.daemon._node
        for _ in range(round(seconds * 50)):
            self.now_ns += 20 * NS_PER_MS
            node.handle_timer(self.now_ns)
            arrives_ns = self.now_ns + 100_000
            for outgoing in node.datagrams_to_send(self.now_ns):
                self.host.receive_datagram(outgoing.data, PEER_AT, arrives_ns + OFFSET_NS)
            for outgoing in self.host.datagrams_to_send(arrives_ns + OFFSET_NS):
                multicast = outgoing.address is None
                node.receive_datagram(outgoing.data, HOST_AT, arrives_ns + 100_000, multicast=multicast)
            self.daemon._look()

    @property
    def course(self):
        return self.speaker.courses[-1]


@pytest.fixture
def rig(tmp_path):
    return Rig(tmp_path)


def test_time_line_and_clock_of_a_host_reach_the_speaker_together(rig):
    rig.converse()
    assert all(course.mapping is not None for course in rig.speaker.courses)
    assert rig.course.timeline == rig.state.timeline
    assert rig.course.host_epoch == 5
    assert abs(rig.course.mapping.offset_at(rig.now_ns) - OFFSET_NS) < 100_000
    assert rig.course.delay_duration_ns == 0
    assert rig.speaker.host == (HOST_AT[0], 7999)


def test_without_a_host_nothing_is_followed(rig):
    rig.daemon._look()
    assert rig.speaker.courses == []


def test_an_unchanged_course_is_not_given_again(rig):
    rig.converse()
    count = len(rig.speaker.courses)
    for _ in range(10):
        rig.daemon._look()
    assert len(rig.speaker.courses) == count


def test_a_change_of_the_room_is_followed_and_what_it_needs_is_fetched_at_once(rig):
    rig.converse()
    rig.speaker.log.clear()
    rig.say(timeline=Timeline())
    assert rig.course.timeline == Timeline()
    assert rig.speaker.log == ["look ahead"]


def test_room_and_speaker_each_have_a_volume_and_both_count(rig):
    rig.converse()
    assert rig.speaker.gain == volume_to_gain(50)
    rig.set(volume=60)
    assert rig.speaker.gain == pytest.approx(volume_to_gain(50) * volume_to_gain(60))
    rig.set(volume=60, muted=True)
    assert rig.speaker.gain == 0.0
    rig.set(volume=100)
    rig.say(volume=80)
    assert rig.speaker.gain == volume_to_gain(80)
    rig.say(volume=80, muted=True)
    assert rig.speaker.gain == 0.0


def test_a_speaker_that_is_moved_leaves_its_rooms_music_at_once_and_finds_it_again_when_it_comes_back(rig):
    rig.converse()
    rig.set(room="attic")  # Of which it has heard nothing yet.
    assert rig.course.timeline == Timeline()
    rig.set(room="main")
    assert rig.course.timeline == rig.state.timeline


def test_a_speaker_that_is_moved_plays_what_the_other_room_plays(rig):
    rig.converse()
    attic = Timeline((Segment(OFFSET_NS + 20 * NS_PER_S, 4, 0, TRACK),))
    rig.host.set_room(RoomState("attic", 1, attic, 100))
    rig.set(room="attic")
    assert rig.course.timeline == attic
    assert rig.speaker.gain == 1.0


def test_channels_are_the_hosts_unless_this_speaker_has_its_own(rig, tmp_path):
    rig.converse()
    assert rig.speaker.channels == "stereo"
    rig.set(channels="left")
    assert rig.speaker.channels == "left"
    own = Rig(tmp_path / "own", channels="right")
    own.converse()
    own.set(channels="left")
    assert own.speaker.channels == "right"


def test_what_stands_behind_the_card_is_fed_earlier_by_both_delays_together(tmp_path):
    rig = Rig(tmp_path, output_delay_ms=-1.5)
    rig.converse()
    assert rig.course.delay_duration_ns == -1_500_000
    rig.set(output_delay_us=20_000)
    assert rig.course.delay_duration_ns == 18_500_000


def test_a_host_that_falls_silent_leaves_the_music_playing(rig, caplog):
    rig.converse()
    course = rig.course
    rig.host.close()
    rig.converse(0.1)
    assert rig.course == course
    assert "the host is stopping: playing on with what is here" in caplog.text


def test_a_machine_that_slept_finds_the_hosts_time_anew(rig, monkeypatch):
    monkeypatch.setattr(rig.daemon._network, "turn", lambda: rig.daemon._look())
    monkeypatch.setattr(module, "now_ns", lambda: rig.now_ns)
    slept_ns = module.suspended_duration_ns()
    monkeypatch.setattr(module, "suspended_duration_ns", lambda: slept_ns)
    rig.converse()
    rig.daemon._notice_suspend()
    assert rig.course.mapping is not None
    slept_ns += 3600 * NS_PER_S
    rig.daemon._notice_suspend()
    assert rig.course.mapping is None  # Silence, rather than sound an hour off.
    count = len(rig.speaker.courses)
    rig.daemon._notice_suspend()
    assert len(rig.speaker.courses) == count
    rig.converse()
    assert rig.course.mapping is not None


def test_the_host_hears_who_this_is(rig):
    rig.converse()
    (info,) = rig.host.peers()
    assert (info.report.name, info.report.room, info.peer_id) == ("kitchen", "main", rig.daemon._identity.peer_id)
    assert isinstance(rig.host.next_event(), PeerAppeared)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), PermissionError(30, "Read-only")])
def test_a_disk_that_takes_nothing_does_not_stop_the_speaker_nor_its_orderly_end(rig, monkeypatch, error):
    def refuse(*_):
        raise error

    async def closed():
        rig.speaker.log.append("network closed")

    monkeypatch.setattr(module, "save_skew", refuse)
    monkeypatch.setattr(module, "_TICK_S", 0.001)
    monkeypatch.setattr(module, "_SAVE_SKEW_EVERY_TICKS", 1)
    monkeypatch.setattr(rig.daemon._network, "close", closed)
    rig.converse()
    rig.speaker.log.clear()

    async def test():
        ticking = asyncio.create_task(rig.daemon._tick_for_ever())
        async with asyncio.timeout(20):
            while len(rig.speaker.log) < 3 and not ticking.done():  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        assert not ticking.done()
        ticking.cancel()
        rig.speaker.log.clear()
        await rig.daemon._leave()
        assert rig.speaker.log == ["fade out", "network closed", "close"]

    asyncio.run(test())


def test_the_clocks_rate_is_kept_for_the_next_start(rig, tmp_path, monkeypatch):
    class Clock:
        mapping, skew_ppm = ClockMapping(0, 0, 12.5, 0), 12.5

    rig.daemon._clock = Clock()
    rig.daemon._save_skew()
    again = PeerDaemon(rig.config, tmp_path / "peer", KEY)
    assert again._identity.skew_ppm == 12.5
    assert again._identity.peer_id == rig.daemon._identity.peer_id
    assert again._identity.epoch == rig.daemon._identity.epoch + 1


def test_the_watchdog_hears_only_of_a_card_that_plays(rig, monkeypatch):
    said = []
    monkeypatch.setattr(module, "notify", said.append)
    monkeypatch.setattr(module, "_TICK_S", 0.001)
    monkeypatch.setattr(module, "_WATCHDOG_EVERY_TICKS", 2)

    async def ticks(count):
        rig.speaker.log.clear()
        ticking = asyncio.create_task(rig.daemon._tick_for_ever())
        async with asyncio.timeout(20):
            while len(rig.speaker.log) < count:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        ticking.cancel()

    rig.speaker.ready = False
    asyncio.run(ticks(6))
    assert said == []
    rig.speaker.ready = True
    asyncio.run(ticks(6))
    assert said[0] == "WATCHDOG=1\nSTATUS=together, +0 µs, no fault"
    assert len(said) in (3, 4)


@pytest.mark.parametrize(
    ("name", "folder"),
    [("kitchen", "kitchen"), ("../../etc", "______etc"), ("..", "__"), ("Küche 2", "Küche 2"), (" / ", "_")],
)
def test_a_name_is_one_folder_whatever_it_says(name, folder):
    assert module._safe(name) == folder


def test_two_peers_of_one_name_do_not_run_at_once(rig, monkeypatch):
    monkeypatch.setattr(module, "raise_priority", lambda: None)
    rig.config.paths.make()
    make_key(rig.config.paths.key_file)
    held = claim(rig.config.paths.state_dir / "peers" / "kitchen", "it", "--name")
    with pytest.raises(ConfigError, match="a peer called 'kitchen' runs on this machine already"):
        run(rig.config)
    held.close()


def test_a_peer_without_a_key_is_told_where_to_get_one(rig, monkeypatch):
    monkeypatch.setattr(module, "raise_priority", lambda: None)
    with pytest.raises(ConfigError, match=r"no room key at .*room\.key"):
        run(rig.config)
