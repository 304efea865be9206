"""A wall clock that jumps by years, as that of a machine without a battery does when it first hears of the time.

Nothing that sounds goes by it. What does go by it (stamps of the kernel, times of change of files, the order in
which the cache forgets, the times in the history) is held here over jumps of ten years either way.
"""

from __future__ import annotations

import asyncio
import os
import time

import pytest
from host_rig import DAY_S, S, make_track, running

from musicsyncd.media import store as store_module
from musicsyncd.media import stored as stored_module
from musicsyncd.media.inspect import content_id, inspect, to_track
from musicsyncd.media.library import Gone, Library, Read
from musicsyncd.media.store import Store
from musicsyncd.system import monotonic
from musicsyncd.system.library_index import LibraryIndex
from musicsyncd.system.monotonic import MAX_STAMP_AGE_NS, RealtimeBridge
from musicsyncd.system.own_files import OwnFiles
from musicsyncd.units import NS_PER_MS, NS_PER_S

TEN_YEARS_NS = 10 * 365 * 86_400 * NS_PER_S
JUMPS_NS = (TEN_YEARS_NS, -TEN_YEARS_NS)
FAR_FUTURE_S = 20_000_000_000
"""In 2603: nanoseconds since 1970 need more than 63 bits then."""


class Clocks:
    """Both clocks in virtual time; reading one takes 200 ns."""

    CLOCK_MONOTONIC, CLOCK_REALTIME = "monotonic", "real"

    def __init__(self) -> None:
        self.monotonic_ns = 1000 * NS_PER_S
        self.ahead_ns = 1_700_000_000 * NS_PER_S

    def clock_gettime_ns(self, clock: str) -> int:
        self.monotonic_ns += 200
        return self.monotonic_ns + (self.ahead_ns if clock == self.CLOCK_REALTIME else 0)

    def stamped(self) -> int:
        """A packet comes now: return the stamp that the kernel gives it."""
        return self.monotonic_ns + self.ahead_ns


@pytest.fixture
def clocks(monkeypatch):
    made = Clocks()
    monkeypatch.setattr(monotonic, "time", made)
    return made


@pytest.mark.parametrize("jump_ns", JUMPS_NS)
def test_stamps_are_right_before_and_after_a_jump(clocks, jump_ns):
    bridge = RealtimeBridge()
    for step_ns in (0, jump_ns, 0, -jump_ns, 0, jump_ns):
        clocks.ahead_ns += step_ns
        stamp_ns, came_ns = clocks.stamped(), clocks.monotonic_ns
        clocks.monotonic_ns += 3 * NS_PER_MS
        found_ns = bridge.to_monotonic(stamp_ns)
        if step_ns:
            assert found_ns is None, "the first stamp after a jump might be from before it"
        else:
            assert abs(found_ns - came_ns) < 1000


@pytest.mark.parametrize("jump_ns", JUMPS_NS)
def test_a_packet_that_came_before_a_jump_and_is_read_after_it_has_no_stamp(clocks, jump_ns):
    for heard_before in (True, False):
        bridge = RealtimeBridge()
        if heard_before:
            bridge.to_monotonic(clocks.stamped())
        stamp_ns = clocks.stamped()
        clocks.ahead_ns += jump_ns
        clocks.monotonic_ns += NS_PER_MS
        assert bridge.to_monotonic(stamp_ns) is None


def test_a_jump_that_looks_like_the_age_of_a_stamp_is_seen_by_the_next_reading_before_it(clocks):
    """Of all jumps only one by less than a stamp's greatest age could pass for age, and its step is noticed."""
    bridge = RealtimeBridge()
    bridge.to_monotonic(clocks.stamped())
    stamp_ns = clocks.stamped()
    clocks.ahead_ns += MAX_STAMP_AGE_NS // 2
    clocks.monotonic_ns += NS_PER_MS
    assert bridge.to_monotonic(stamp_ns) is None


# -- what plays --------------------------------------------------------------------------------


def test_a_room_plays_on_while_the_clock_of_the_day_jumps(tmp_path):
    async def test() -> None:
        with running(tmp_path) as host:
            await host.control.play("main", [str(make_track(tmp_path / "a.wav"))])
            for day_s in (DAY_S + 3.2e8, DAY_S - 3.2e8, 0.0, DAY_S):
                host.control._day_s = lambda day_s=day_s: day_s
                before = host.segments()
                host.now_ns += S
                host.control.save_positions()
                host.control.room_volume("main", "+1")
                assert [(start + S, entry, frame) for start, entry, frame in host.segments()] == before
                assert host.status()["mode"] == "playing"
                assert host.control.unsaved == ""

    asyncio.run(test())


# -- files -------------------------------------------------------------------------------------


@pytest.mark.parametrize("jump_ns", JUMPS_NS)
def test_a_library_is_looked_through_as_ever_after_a_jump(tmp_path, jump_ns):
    """What is new or has changed is seen, and what is the same is not read again."""
    music, now_ns = tmp_path / "music", [time.time_ns()]
    tracks = [make_track(music / f"{number}.wav", 0.1, seed=number) for number in range(2)]
    for path in (*tracks, music):
        os.utime(path, ns=(now_ns[0], now_ns[0] - 3600 * NS_PER_S))
    library = Library([str(music)], now_ns=lambda: now_ns[0])
    known = {change.path: change.stamp for change in library.look_through({}) if isinstance(change, Read)}
    assert len(known) == 2
    now_ns[0] += jump_ns
    assert [change for change in library.look_through(known) if isinstance(change, Read | Gone)] == []
    new = make_track(music / "new.wav", 0.1, seed=9)
    os.utime(new, ns=(now_ns[0], now_ns[0]))
    os.utime(music, ns=(now_ns[0], now_ns[0]))
    tracks[0].unlink()
    found = [change for change in library.look_through(known) if isinstance(change, Read | Gone)]
    assert {(type(one), one.path) for one in found} == {(Read, str(new)), (Gone, str(tracks[0]))}


@pytest.fixture
def track_of_the_future(tmp_path):
    """A file that was written while the clock was wrong, as far off as the file system has times."""
    track = make_track(tmp_path / "music" / "a.wav", 1.0)
    os.utime(track, (FAR_FUTURE_S, FAR_FUTURE_S))
    return track


def test_a_track_of_the_far_future_is_played(tmp_path, track_of_the_future):
    async def test() -> None:
        with running(tmp_path) as host:
            await host.control.play("main", [str(track_of_the_future)])
            await host.settle()
            assert host.status()["mode"] == "playing"
            assert host.status()["fault"] == ""

    asyncio.run(test())


def test_a_track_of_the_far_future_is_in_the_library(tmp_path, track_of_the_future):
    index = LibraryIndex(tmp_path / "library.sqlite3")
    for is_known in (False, True):
        found = Library([str(tmp_path / "music")]).look_through(index.stamps())
        changes = [change for change in found if isinstance(change, Read | Gone)]
        assert len(changes) == (0 if is_known else 1)
        index.apply(changes)
    assert [hit.path for hit in index.search("a", 5)] == [str(track_of_the_future)]
    index.close()


def test_a_track_of_the_far_future_in_a_speakers_own_library_need_not_be_fetched(tmp_path, track_of_the_future):
    track = to_track(inspect(track_of_the_future), content_id(track_of_the_future))
    own = OwnFiles([str(tmp_path / "music")], tmp_path / "own.sqlite3")
    try:
        deadline_s = time.monotonic() + 20.0  # Only what a machine that hangs gets before the test fails.
        while not own.settled(track) and time.monotonic() < deadline_s:
            time.sleep(0.01)
        assert own.path_of(track.content_id) == track_of_the_future
    finally:
        own.close()


@pytest.mark.parametrize("day_s", [0.0, DAY_S, DAY_S + 3.2e8])
def test_the_cache_keeps_and_finds_tracks_whatever_the_day(tmp_path, monkeypatch, day_s):
    source = make_track(tmp_path / "a.wav", 1.0)
    track, data = to_track(inspect(source), content_id(source)), source.read_bytes()
    for number, at_s in enumerate((DAY_S, day_s, DAY_S)):
        for module in (store_module, stored_module):
            monkeypatch.setattr(module.time, "time_ns", lambda at_s=at_s: int(at_s * 1e9))
        stored = Store(tmp_path / "cache", 1 << 30).open(track)
        assert stored.complete is (number > 0)
        if number == 0:
            stored.write(0, data)
        assert stored.complete
        del stored
