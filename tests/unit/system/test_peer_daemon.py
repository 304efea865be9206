"""The wiring of a peer: a real node that hears a real host in virtual time, and a speaker that notes its orders."""

from __future__ import annotations

import asyncio
import dataclasses
import random
from dataclasses import dataclass, field
from functools import partial

import pytest

from musicsyncd.config import NetworkConfig, PeerConfig
from musicsyncd.errors import ConfigError
from musicsyncd.hook_config import HookConfig
from musicsyncd.paths import Paths
from musicsyncd.playback.player import Course
from musicsyncd.playback.timeline import Segment, Timeline, Track
from musicsyncd.protocol.auth import HostKeys
from musicsyncd.protocol.host import HostNode, PeerAppeared, RoomState
from musicsyncd.protocol.wire import PlaybackStats, Settings
from musicsyncd.system import peer_daemon as module
from musicsyncd.system import supervision
from musicsyncd.system.keyfile import make_host_keys
from musicsyncd.system.output import LastingError
from musicsyncd.system.peer_daemon import PeerDaemon, run
from musicsyncd.system.supervision import claim
from musicsyncd.units import NS_PER_MS, NS_PER_S, volume_to_gain

KEYS = HostKeys(bytes(range(32)))
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
    hanging: str = ""
    trouble: str = ""
    cache_bytes: int | None = 0

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

    def resumed(self):
        self.log.append("resumed")

    async def begin(self):
        self.log.append("begin")

    async def keep_open(self):
        self.log.append("keep open")
        await asyncio.Event().wait()

    async def resize_cache(self, cache_bytes):
        self.cache_bytes = cache_bytes

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
        self.daemon = PeerDaemon(self.config, folder / "peer", KEYS.room_keys)
        self.speaker = self.daemon.speaker = Orders()
        self.host = HostNode(KEYS, b"host-one", 5, "den", 7999, nonce=partial(random.Random(5).randbytes, 8))
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
    assert "resumed" not in rig.speaker.log
    rig.daemon._notice_suspend()
    assert rig.course.mapping is None  # Silence, rather than sound an hour off.
    assert rig.speaker.log.count("resumed") == 1
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
        known_skew_ppm = 12.5

    rig.daemon._clock = Clock()
    rig.daemon._save_skew()
    again = PeerDaemon(rig.config, tmp_path / "peer", KEYS.room_keys)
    assert again._identity.skew_ppm == 12.5
    assert again._identity.peer_id == rig.daemon._identity.peer_id
    assert again._identity.epoch == rig.daemon._identity.epoch + 1


def test_a_rate_that_is_hardly_known_yet_is_not_kept(rig, tmp_path):
    rig.daemon._save_skew()
    assert PeerDaemon(rig.config, tmp_path / "peer", KEYS.room_keys)._identity.skew_ppm is None


@pytest.fixture
def said(rig, monkeypatch):
    """Return what systemd is told by a daemon that ticks a thousand times a second."""
    told = []
    for where in (module, supervision):
        monkeypatch.setattr(where, "notify", told.append)
    monkeypatch.setattr(module, "now_ns", lambda: rig.now_ns)
    monkeypatch.setattr(module, "_TICK_S", 0.001)
    monkeypatch.setattr(module, "_WATCHDOG_EVERY_TICKS", 2)
    return told


def tick(rig, count: int) -> bool:
    """Let the daemon tick, and return whether it ended by itself."""

    async def ticks():
        rig.speaker.log.clear()
        ticking = asyncio.create_task(rig.daemon._tick_for_ever())
        async with asyncio.timeout(20):
            while len(rig.speaker.log) < count and not ticking.done():  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        ended = ticking.done()
        ticking.cancel()
        return ended

    return asyncio.run(ticks())


def test_the_watchdog_is_fed_while_nothing_is_in_trouble(rig, said):
    rig.speaker.trouble = "the sound card does not answer (closing it)"
    tick(rig, 6)
    assert set(said) == {"STATUS=looking for the host"}, "systemd is told how it is, but not that it is well"
    said.clear()
    rig.speaker.trouble = ""
    tick(rig, 6)
    assert set(said) == {"WATCHDOG=1\nSTATUS=looking for the host"}
    assert len(said) in (3, 4)


def test_the_watchdog_is_not_fed_while_the_clock_stands_still(rig, said, monkeypatch):
    monkeypatch.setattr(rig.daemon._node, "next_timer_ns", lambda: 100 * NS_PER_S)
    for now_s, fed in ((101, True), (106, False)):
        rig.now_ns = now_s * NS_PER_S
        said.clear()
        tick(rig, 4)
        assert all(one.startswith("WATCHDOG=1") == fed for one in said)
        assert said != []
    monkeypatch.setattr(rig.daemon._node, "next_timer_ns", lambda: None)
    assert rig.daemon._trouble() == ""


@pytest.mark.parametrize("why", ["", "systemd", "a moment ago"])
def test_what_hangs_is_got_out_of_by_a_new_process_unless_systemd_sees_to_it(rig, said, monkeypatch, caplog, why):
    monkeypatch.setenv("WATCHDOG_USEC", "20000000" if why == "systemd" else "")
    monkeypatch.setattr(module, "may_replace_process", lambda: why != "a moment ago")
    rig.speaker.hanging, rig.speaker.trouble = "closing", "the sound card does not answer (closing it)"
    assert tick(rig, 6) == rig.daemon.wants_replacement == (why == "")
    assert ("(closing it): starting this peer anew" in caplog.text) == (why == "")


def serve(rig, monkeypatch) -> None:
    """Let the daemon run without a network until it ends by itself."""

    async def nothing():
        pass

    monkeypatch.setattr(rig.daemon._network, "open", nothing)
    monkeypatch.setattr(rig.daemon._network, "close", nothing)
    asyncio.run(asyncio.wait_for(rig.daemon.run(), 20.0))


def test_a_daemon_is_ready_when_its_card_was_tried_and_says_goodbye_before_it_begins_anew(rig, said, monkeypatch):
    rig.converse()
    goodbyes = []
    monkeypatch.setattr(rig.daemon._node, "close", lambda: goodbyes.append(1))
    rig.speaker.log.clear()
    rig.speaker.hanging = "closing"
    serve(rig, monkeypatch)
    assert rig.speaker.log[0] == "begin"
    assert rig.speaker.log[-2:] == ["fade out", "close"]
    assert said[:2] == ["READY=1", "WATCHDOG=1\nSTATUS=plays in room main, +0.0 µs, with host den"]
    assert "STOPPING=1" not in said, "for systemd it goes on"
    assert goodbyes == [1]
    assert rig.daemon.wants_replacement


def test_a_daemon_that_cannot_begin_at_all_ends_with_the_line(rig, said, monkeypatch):
    async def refuse():
        raise LastingError("the PortAudio library is missing")

    rig.speaker.begin = refuse
    with pytest.raises(LastingError, match="library is missing"):
        serve(rig, monkeypatch)
    assert said[-1] == "STOPPING=1"
    assert rig.speaker.log[-2:] == ["fade out", "close"]


# -- the configuration read again --------------------------------------------------------------


def reload(rig, **changes) -> set[str]:
    """Let the daemon read another configuration, and return what waits for the next start."""
    rig.daemon._reread = lambda: dataclasses.replace(rig.config, **changes)
    return asyncio.run(rig.daemon._reload())


def test_what_can_change_while_music_plays_does_so_at_once(rig):
    rig.converse()
    hooks = HookConfig(("amp", "on"))
    assert reload(rig, output_delay_ms=5.0, channels="left", cache_mib=64, hooks=hooks) == set()
    assert rig.course.delay_duration_ns == 5_000_000
    assert rig.course.timeline == rig.state.timeline
    assert rig.speaker.channels == "left"
    assert rig.speaker.cache_bytes == 64 << 20
    assert rig.daemon._hooks.config == hooks
    rig.speaker.cache_bytes = 0
    assert reload(rig) == set()
    assert (rig.course.delay_duration_ns, rig.speaker.channels, rig.speaker.cache_bytes) == (0, "stereo", None)
    rig.speaker.cache_bytes = 0
    reload(rig)
    assert rig.speaker.cache_bytes == 0, "what is the same is left alone"


def test_what_cannot_change_while_music_plays_is_named_every_time_until_the_next_start(rig):
    rig.converse()
    for _ in range(2):
        waits = reload(
            rig, device="hw:DAC", rate_hz=44_100, name="attic", network=NetworkConfig(port=9), channels="mono"
        )
        assert waits == {"device", "rate", "name", "port", "interface"}
        assert rig.speaker.channels == "mono"
    assert reload(rig) == set()


def test_a_configuration_that_cannot_be_read_leaves_everything_as_it_was(rig):
    def broken():
        raise ConfigError("m.toml is not valid TOML")

    rig.converse()
    rig.daemon._reread = broken
    with pytest.raises(ConfigError, match="not valid TOML"):
        asyncio.run(rig.daemon._reload())
    assert rig.daemon._config == rig.config


# -- hooks -------------------------------------------------------------------------------------


def test_hooks_hear_of_the_time_line_and_end_with_the_daemon_unless_it_begins_anew(rig, said, monkeypatch):
    looks, ends = [], []

    async def close(*, say_silence):
        ends.append(say_silence)

    monkeypatch.setattr(rig.daemon._hooks, "look", lambda *given: looks.append(given))
    monkeypatch.setattr(rig.daemon._hooks, "close", close)
    rig.converse()
    tick(rig, 1)
    rig.now_ns += 6 * NS_PER_S  # Three seconds before the track begins.
    tick(rig, 1)
    assert (looks[0][:2], looks[-1]) == ((False, "main"), (True, "main", rig.now_ns))
    rig.speaker.hanging = "closing"
    serve(rig, monkeypatch)
    assert ends == [False]


@pytest.mark.parametrize(
    ("name", "folder"),
    [("kitchen", "kitchen"), ("../../etc", "______etc"), ("..", "__"), ("Küche 2", "Küche 2"), (" / ", "_")],
)
def test_a_name_is_one_folder_whatever_it_says(name, folder):
    assert module._safe(name) == folder


def test_two_peers_of_one_name_do_not_run_at_once(rig, monkeypatch):
    monkeypatch.setattr(module, "raise_priority", lambda: None)
    rig.config.paths.make()
    make_host_keys(rig.config.paths.key_file)
    held = claim(rig.config.paths.state_dir / "peers" / "kitchen", "it", "--name")
    with pytest.raises(ConfigError, match="a peer called 'kitchen' runs on this machine already"):
        run(rig.config, lambda: rig.config)
    held.close()


def test_a_peer_without_a_key_is_told_where_to_get_one(rig, monkeypatch):
    monkeypatch.setattr(module, "raise_priority", lambda: None)
    with pytest.raises(ConfigError, match=r"no room key at .*room\.key"):
        run(rig.config, lambda: rig.config)
