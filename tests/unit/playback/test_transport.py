from __future__ import annotations

import contextlib
import itertools
import random
from fractions import Fraction

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from musicsyncd.errors import ControlError
from musicsyncd.media.queue import Item, Queue
from musicsyncd.playback.plan import PAST_DURATION_NS
from musicsyncd.playback.seek import parse_seek
from musicsyncd.playback.timeline import MAX_SEGMENTS, Timeline, Track
from musicsyncd.playback.transport import Transport

S = 1_000_000_000
MS = 1_000_000
LEAD = 200 * MS
T0 = 5_000 * S
_ids = itertools.count(1)


def track(seconds: float = 10.0, rate_hz: int = 44_100, frames: int | None = None) -> Track:
    return Track(next(_ids).to_bytes(32, "big"), 1000, rate_hz, frames or round(seconds * rate_hz), 2)


def item(name: str, prepared: Track | None = None) -> Item:
    return Item(f"/{name}", name, track=prepared)


class Room:
    """A transport with a hand-turned clock, and a caller that does its part."""

    def __init__(self, names: str = "abcd", seconds: float = 10.0, prepared: bool = True) -> None:
        self.queue = Queue()
        self.queue.add(item(name, track(seconds) if prepared else None) for name in names)
        self.transport = Transport(self.queue)
        self.now = T0

    @property
    def at(self) -> int:
        return self.now + LEAD

    def do(self, name: str, *args: object) -> None:
        getattr(self.transport, name)(self.at, self.now, *args)

    def pass_time(self, duration_ns: int) -> None:
        """Let time pass, calling advance whenever it is due."""
        end = self.now + duration_ns
        while (due := self.transport.next_change_host_ns()) is not None and due <= end:
            self.now = due
            self.transport.advance(self.now)
            if self.transport.waiting is not None:
                self.do("rebuild")
        self.now = end
        self.transport.advance(self.now)

    def sounds(self, host_ns: int | None = None) -> str:
        segment = self.transport.timeline(self.now).sounding_at(self.now if host_ns is None else host_ns)
        return next((e.title for e in self.queue.entries if segment and e.number == segment.entry), "-")

    def where(self) -> tuple[str, float]:
        entry, frame = self.transport.position(self.now)
        if entry is None:
            return "-", 0.0
        return entry.title, round(frame / entry.track.rate_hz, 3) if entry.track else 0.0

    @property
    def current(self) -> str:
        return self.queue.current_entry.title if self.queue.current_entry else "-"


def test_play_begins_the_first_entry_at_the_instant_and_the_others_follow_without_a_gap():
    room = Room()
    room.do("play")
    segments = room.transport.timeline(room.now).segments
    assert [s.start_host_ns for s in segments] == [T0 + LEAD + n * 10 * S for n in range(4)]
    assert [s.frame for s in segments] == [0] * 4
    assert (room.transport.mode, room.current) == ("playing", "a")
    assert room.sounds() == "-"
    assert room.sounds(room.at) == "a"
    room.pass_time(LEAD + 15 * S)
    assert (room.current, room.sounds(), room.where()) == ("b", "b", ("b", 5.0))


def test_play_takes_a_position_and_refuses_one_that_is_not_there():
    room = Room()
    room.do("play", 3)
    assert room.sounds(room.at) == "c"
    with pytest.raises(ControlError, match="no position 9: the queue has 4 tracks"):
        room.do("play", 9)
    room.queue.set_fault(room.queue.entries[1].number, "no such file")
    with pytest.raises(ControlError, match="position 2 cannot be played: no such file"):
        room.do("play", 2)
    assert room.sounds(room.at) == "c"


def test_play_says_why_it_cannot():
    with pytest.raises(ControlError, match="the queue is empty"):
        Room("").do("play")
    room = Room("a")
    room.queue.set_fault(1, "not a sound file")
    with pytest.raises(ControlError, match="nothing in the queue can be played: not a sound file"):
        room.do("play")


def test_the_end_of_the_queue_stops_and_leaves_nothing_current():
    room = Room("ab")
    room.do("play")
    room.pass_time(LEAD + 20 * S - 1)
    assert room.transport.mode == "playing"
    room.pass_time(1)
    assert (room.transport.mode, room.current, room.where()) == ("stopped", "-", ("-", 0.0))
    room.pass_time(PAST_DURATION_NS)
    assert room.transport.timeline(room.now).segments == ()
    room.do("play")
    assert room.sounds(room.at) == "a"


def test_pause_and_resume_lose_no_frame():
    room = Room()
    room.do("play")
    room.pass_time(LEAD + 3 * S)
    room.do("pause")
    at = room.at
    assert (room.transport.mode, room.where()) == ("paused", ("a", 3.2))
    assert room.sounds(at - 1) == "a"
    assert room.sounds(at) == "-"
    room.pass_time(100 * S)
    assert room.where() == ("a", 3.2)
    room.do("pause")
    room.do("resume")
    segment = room.transport.timeline(room.now).sounding_at(room.at)
    assert segment is not None
    assert segment.frame == round(3.2 * 44_100)
    assert room.transport.timeline(room.now).segments[-1].entry == 4


def test_a_pause_across_the_boundary_holds_the_next_track():
    room = Room()
    room.do("play")
    room.pass_time(LEAD + 9_900 * MS)
    room.do("pause")
    assert room.where() == ("b", 0.1)
    assert room.sounds(room.at - 1) == "b"


def test_commands_that_need_playback_say_so():
    room = Room()
    for name, args in (("pause", ()), ("seek", ("1",))):
        with pytest.raises(ControlError, match="nothing is playing"):
            room.do(name, *args)


def test_stop_keeps_the_entry_and_begins_it_anew():
    room = Room()
    room.do("play", 2)
    room.pass_time(LEAD + 3 * S)
    room.do("stop")
    assert (room.sounds(room.at - 1), room.sounds(room.at)) == ("b", "-")
    assert (room.transport.mode, room.where()) == ("stopped", ("b", 0.0))
    room.pass_time(S)
    room.do("play")
    segment = room.transport.timeline(room.now).sounding_at(room.at)
    assert segment is not None
    assert (segment.entry, segment.frame) == (2, 0)


def test_seek_while_playing_and_while_paused():
    room = Room()
    room.do("play")
    room.pass_time(LEAD + 3 * S)
    room.do("seek", "+2")
    room.pass_time(LEAD)
    assert room.where() == ("a", 5.2)
    room.do("seek", "-20")
    room.pass_time(LEAD)
    assert room.where() == ("a", 0.0)
    room.do("pause")
    room.do("seek", "50%")
    assert room.where() == ("a", 5.0)
    with pytest.raises(ControlError, match="past the end: the track is 0:10 long"):
        room.do("seek", "11")
    assert (room.transport.mode, room.where()) == ("paused", ("a", 5.0))
    room.do("resume")
    room.pass_time(LEAD)
    assert room.where() == ("a", 5.0)


def test_a_seek_within_the_lead_of_the_boundary_goes_back_into_the_track_that_was_heard():
    room = Room()
    room.do("play")
    room.pass_time(LEAD + 9_900 * MS)
    room.do("seek", "2")
    assert room.sounds(room.at - 1) == "b"
    room.pass_time(LEAD)
    assert room.where() == ("a", 2.0)


def test_next_and_previous():
    room = Room("abc")
    room.do("play")
    room.pass_time(LEAD + S)
    room.do("next_")
    assert (room.current, room.where(), room.sounds()) == ("b", ("b", 0.0), "a")
    room.pass_time(LEAD + 2_900 * MS)
    room.do("previous")
    assert room.current == "a"
    room.do("previous")
    assert room.current == "a"
    room.do("next_")
    room.pass_time(LEAD + 3_000 * MS)
    room.do("previous")
    assert (room.current, room.where()) == ("b", ("b", 0.0))
    room.do("next_")
    room.do("next_")
    assert (room.transport.mode, room.current) == ("stopped", "-")


def test_next_while_paused_stays_paused_at_the_start_of_the_next():
    room = Room()
    room.do("play")
    room.pass_time(LEAD + S)
    room.do("pause")
    room.do("next_")
    assert (room.transport.mode, room.where()) == ("paused", ("b", 0.0))
    room.pass_time(S)
    assert room.sounds() == "-"


def test_next_just_before_the_boundary_does_not_begin_the_next_track_twice():
    room = Room()
    room.do("play")
    room.pass_time(LEAD + 9_900 * MS)
    before = room.transport.timeline(room.now)
    room.do("next_")
    assert room.transport.timeline(room.now) == before
    assert room.current == "b"
    room.do("next_")
    assert room.current == "c"
    assert room.sounds(room.at) == "c"


def test_what_cannot_be_played_is_passed_over():
    room = Room("abcd")
    room.queue.set_fault(2, "broken")
    room.do("play")
    assert [s.entry for s in room.transport.timeline(room.now).segments] == [1, 3, 4]
    room.do("next_")
    assert room.current == "c"
    room.do("previous")
    assert room.current == "a"


def test_an_entry_in_preparation_is_waited_for_and_not_passed_over():
    room = Room("abc", prepared=False)
    room.do("play")
    assert room.transport.waiting == room.queue.entries[0]
    assert room.transport.timeline(room.now).segments == ()
    room.pass_time(3 * S)
    room.queue.set_prepared(1, track(10))
    room.do("rebuild")
    assert room.transport.waiting is None
    assert room.sounds(room.at) == "a"
    room.pass_time(LEAD + 10 * S)
    assert (room.current, room.transport.mode) == ("b", "playing")
    assert room.transport.waiting == room.queue.entries[1]
    room.queue.set_fault(2, "unreadable")
    room.queue.set_prepared(3, track(10))
    room.do("rebuild")
    assert (room.current, room.sounds(room.at)) == ("c", "c")


def test_what_is_upcoming_is_the_current_entry_and_what_plays_after_it():
    def upcoming(n: int) -> str:
        return "".join(entry.title for entry in room.transport.upcoming(n))

    room = Room("abcde")
    assert upcoming(2) == "ab", "nothing is current yet"
    room.do("play", 2)
    assert (upcoming(1), upcoming(3), upcoming(99)) == ("b", "bcd", "bcde")
    room.queue.set_fault(4, "broken")
    assert upcoming(3) == "bce"
    # What cannot be played takes no place, not even as the current one.
    room.queue.set_fault(2, "broken")
    assert upcoming(2) == "ce"


def test_a_track_prepared_in_time_follows_without_a_gap_and_one_too_late_at_the_instant():
    for early, gap in ((5 * S, 0), (LEAD, 0), (LEAD // 2, LEAD // 2)):
        room = Room("ab", prepared=False)
        room.queue.set_prepared(1, track(10))
        room.do("play")
        end = room.at + 10 * S
        room.pass_time(end - room.now - early)
        room.queue.set_prepared(2, track(10))
        room.do("rebuild")
        assert [s.start_host_ns for s in room.transport.timeline(room.now).segments][1:] == [end + gap]
        room.pass_time(early + S)
        assert [s.start_host_ns for s in room.transport.timeline(room.now).segments][1:] == [end + gap]
        assert room.where() == ("b", round((S - gap) / S, 3))


def test_changes_of_the_queue_reach_the_tail_only():
    room = Room("abcd")
    room.do("play")
    room.pass_time(LEAD + S)
    first = room.transport.timeline(room.now).segments[0]
    room.queue.move(4, 2)
    room.do("rebuild")
    assert [s.entry for s in room.transport.timeline(room.now).segments] == [1, 4, 2, 3]
    room.queue.remove([2, 3, 4])
    room.do("rebuild")
    assert room.transport.timeline(room.now).segments == (first,)
    room.queue.add([item("x", track())])
    room.do("rebuild")
    assert [s.entry for s in room.transport.timeline(room.now).segments] == [1, 5]
    revision = room.transport.revision
    room.do("rebuild")
    assert room.transport.revision == revision


def test_the_current_entry_removed_gives_way_to_the_following_one():
    room = Room("abc")
    room.do("play")
    room.pass_time(LEAD + S)
    room.queue.remove([1])
    room.do("rebuild")
    assert (room.transport.timeline(room.now).segments[0].entry, room.sounds(room.at)) == (1, "b")
    assert room.where() == ("b", 0.0)
    room.queue.clear()
    room.do("rebuild")
    assert (room.transport.mode, room.sounds(room.at)) == ("stopped", "-")
    assert room.where() == ("-", 0.0)


def test_what_was_announced_before_the_instant_stays_though_it_was_removed():
    room = Room("abc")
    room.do("play")
    room.pass_time(LEAD + 9_900 * MS)
    room.queue.remove([2])
    room.do("rebuild")
    starts = [(s.entry, s.start_host_ns) for s in room.transport.timeline(room.now).segments]
    assert starts == [(1, T0 + LEAD), (2, T0 + LEAD + 10 * S), (3, room.at)]
    room.pass_time(LEAD + S)
    assert room.where() == ("c", 1.0)


def test_a_paused_entry_that_is_removed_gives_way_and_stays_paused():
    room = Room("ab")
    room.do("play")
    room.pass_time(LEAD + S)
    room.do("pause")
    room.queue.remove([1])
    room.do("rebuild")
    assert (room.transport.mode, room.where()) == ("paused", ("b", 0.0))
    room.queue.remove([1])
    room.do("rebuild")
    assert room.transport.mode == "stopped"


def test_a_long_chain_of_tracks_does_not_drift():
    rates = (44_100, 48_000, 96_000, 11_025)
    room = Room("")
    tracks = [track(rate_hz=rates[n % 4], frames=123_457 + n) for n in range(2_000)]
    room.queue.add(item(str(n), t) for n, t in enumerate(tracks))
    room.do("play")
    exact, starts = Fraction(room.at), {}
    for t in tracks:
        starts[t.content_id] = exact
        exact += Fraction(t.frames * S, t.rate_hz)
    seen = set()
    while room.transport.mode == "playing":
        for segment in room.transport.timeline(room.now).segments:
            assert segment.track is not None
            assert abs(segment.start_host_ns - starts[segment.track.content_id]) <= Fraction(1, 2)
            seen.add(segment.track.content_id)
        due = room.transport.next_change_host_ns()
        assert due is not None
        room.now = due
        room.transport.advance(due)
    assert len(seen) == len(tracks)


def test_commands_faster_than_the_lead_never_overfill_the_time_line_and_the_last_one_counts():
    room = Room("abcdefghijklmnopqrst")
    room.do("play")
    room.pass_time(S)
    for _ in range(12):
        room.do("next_")
        assert len(room.transport.timeline(room.now).segments) <= MAX_SEGMENTS
        room.now += 5 * MS
    assert room.current == "m"
    room.pass_time(3 * LEAD)
    assert room.sounds() == "m"


def test_a_stop_always_finds_room():
    room = Room("abcdefghijklmnopqrst")
    room.do("play")
    room.pass_time(S)
    for _ in range(12):
        room.do("next_")
        room.now += MS
    room.do("stop")
    assert len(room.transport.timeline(room.now).segments) <= MAX_SEGMENTS
    assert room.sounds(room.at) == "-"


def test_what_has_ended_gives_its_place_to_commands():
    room = Room("abcdefghijklmnopqrst", seconds=1.0)
    room.do("play")
    room.pass_time(LEAD + 2_100 * MS)
    assert [s.entry for s in room.transport.timeline(room.now).segments][:3] == [1, 2, 3]
    for _ in range(5):
        room.do("next_")
        room.now += MS
    assert room.transport.waiting is None
    assert room.sounds(room.at) == "h"


def test_no_silence_is_put_where_the_track_has_ended_anyway():
    room = Room("a")
    room.do("play")
    room.pass_time(LEAD + 9_900 * MS)
    before = room.transport.timeline(room.now)
    room.do("stop")
    assert room.transport.timeline(room.now) == before


def test_what_has_ended_stays_for_speakers_that_play_late_and_then_goes():
    room = Room("abcdefghijkl")
    room.do("play")
    room.pass_time(LEAD + 10 * S + 1)
    assert [s.entry for s in room.transport.timeline(room.now).segments][:2] == [1, 2]
    room.pass_time(PAST_DURATION_NS)
    assert room.transport.timeline(room.now).segments[0].entry == 2


# -- repeating ---------------------------------------------------------------------------------


def test_a_repeated_track_follows_itself_without_a_gap():
    room = Room("ab")
    room.queue.set_repeat("one")
    room.do("play")
    segments = room.transport.timeline(room.now).segments
    assert [(s.entry, s.start_host_ns - T0 - LEAD) for s in segments[:3]] == [(1, 0), (1, 10 * S), (1, 20 * S)]
    room.pass_time(LEAD + 95 * S)
    assert (room.current, room.where(), room.transport.mode) == ("a", ("a", 5.0), "playing")
    room.queue.set_repeat("off")
    room.do("rebuild")
    room.pass_time(10 * S)
    assert room.where() == ("b", 5.0)


def test_a_repeated_queue_begins_again_without_a_gap():
    room = Room("abc")
    room.queue.set_repeat("all")
    room.do("play", 3)
    starts = [(s.entry, s.start_host_ns - T0 - LEAD) for s in room.transport.timeline(room.now).segments]
    assert starts[:3] == [(3, 0), (1, 10 * S), (2, 20 * S)]
    room.pass_time(LEAD + 3_000 * S + 12 * S)
    assert room.where() == ("a", 2.0)
    room.do("previous")
    assert room.current == "c"
    room.do("next_")
    assert room.current == "a"


def test_next_leaves_a_repeated_track_and_goes_round():
    room = Room("ab")
    room.queue.set_repeat("one")
    room.do("play")
    room.do("next_")
    room.pass_time(LEAD + 12 * S)
    assert room.where() == ("b", 2.0)
    room.do("next_")
    assert (room.current, room.transport.mode) == ("a", "playing")


def test_a_seek_within_the_lead_of_a_repetition_means_the_pass_that_is_heard():
    room = Room("a")
    room.queue.set_repeat("one")
    room.do("play")
    room.pass_time(LEAD + 9_900 * MS)
    room.do("seek", "-2")
    room.pass_time(LEAD)
    assert room.where() == ("a", 8.0)


def test_a_repeated_queue_waits_for_a_first_track_that_must_be_prepared_again():
    room = Room("ab", prepared=False)
    room.queue.set_repeat("all")
    room.queue.set_prepared(2, track(10))
    room.do("play", 2)
    room.pass_time(LEAD + 10 * S)
    assert (room.current, room.transport.waiting) == ("a", room.queue.entries[0])


def test_what_began_to_sound_and_when():
    room = Room("abc")
    room.do("play")
    assert room.transport.begun(0, room.now) == []
    began = room.at
    room.pass_time(LEAD + 11 * S)
    assert room.transport.begun(0, room.now) == [(1, began), (2, began + 10 * S)]
    assert room.transport.begun(began, room.now) == [(2, began + 10 * S)]
    before = room.now
    room.do("seek", "5")
    room.pass_time(S)
    room.do("pause")
    room.pass_time(S)
    room.do("resume")
    room.pass_time(S)
    assert room.transport.begun(before, room.now) == [], "it only went on"


# -- fading over -------------------------------------------------------------------------------


def fading(names: str = "abcd", seconds: float = 10.0, fade_ms: int = 3_000) -> Room:
    room = Room(names, seconds)
    room.transport.fade_ms = fade_ms
    room.do("play")
    return room


def test_what_follows_by_itself_rises_over_the_end_of_what_was_before():
    room = fading()
    segments = room.transport.timeline(room.now).segments
    assert [s.start_host_ns - T0 - LEAD for s in segments] == [n * 7 * S for n in range(4)]
    assert [s.fade_ms for s in segments] == [0, 3_000, 3_000, 3_000]
    room.pass_time(LEAD + 8 * S)
    assert (room.current, room.where()) == ("b", ("b", 1.0))
    assert room.transport.timeline(room.now).segments[0].entry == 1, "the end of the first one is still heard"
    room.pass_time(100 * S)
    assert (room.transport.mode, room.current) == ("stopped", "-")


def test_no_more_than_half_of_a_track_fades():
    room = fading("ab", seconds=4.01)
    second = room.transport.timeline(room.now).segments[1]
    assert second.fade_ms == 2_005
    assert second.start_host_ns == T0 + LEAD + 2_005 * MS
    room.do("seek", "3")
    assert room.transport.timeline(room.now).segments[-1].fade_ms == 505


def test_a_track_prepared_while_it_should_rise_already_rises_for_what_is_left():
    room = Room("ab", prepared=False)
    room.transport.fade_ms = 3_000
    room.queue.set_prepared(1, track(10))
    room.do("play")
    room.pass_time(LEAD + 8_500 * MS)
    room.queue.set_prepared(2, track(10))
    room.do("rebuild")
    second = room.transport.timeline(room.now).segments[1]
    assert (second.start_host_ns, second.fade_ms) == (room.at, 1_300)


def test_a_command_in_the_middle_of_a_fade_ends_both_tracks():
    for name, args in (("pause", ()), ("stop", ()), ("seek", ("5",)), ("next_", ()), ("play", (4,))):
        room = fading()
        room.pass_time(LEAD + 8 * S)
        room.do(name, *args)
        spans = {span.segment.entry: span for span in room.transport.timeline(room.now).spans()}
        assert (spans[1].end_host_ns, spans[1].cut) == (room.at, True), name
        last = room.transport.timeline(room.now).segment_at(room.at)
        assert last is not None
        assert (last.start_host_ns, last.fade_ms) == (room.at, 0), name


def test_a_pause_in_the_middle_of_a_fade_goes_on_with_the_track_that_rises():
    room = fading()
    room.pass_time(LEAD + 8 * S)
    room.do("pause")
    assert room.where() == ("b", 1.2)
    room.pass_time(60 * S)
    room.do("resume")
    room.pass_time(LEAD + S)
    assert room.where() == ("b", 2.2)


def test_what_falls_under_a_long_fade_stays_until_its_end():
    room = fading("ab", seconds=40.0, fade_ms=12_000)
    for past_ns, entries in ((39 * S, [1, 2]), (44 * S, [1, 2]), (46 * S, [2])):
        room.pass_time(T0 + LEAD + past_ns - room.now)
        assert [s.entry for s in room.transport.timeline(room.now).segments] == entries


def test_another_length_of_the_fade_is_for_what_has_not_begun_to_rise():
    room = fading()
    room.pass_time(LEAD + 8 * S)
    before = room.transport.timeline(room.now).segments
    room.transport.fade_ms = 0
    room.do("rebuild")
    after = room.transport.timeline(room.now).segments
    assert after[:2] == before[:2]
    assert after[2].start_host_ns == T0 + LEAD + 17 * S


def test_the_revision_rises_with_each_change_of_the_time_line_and_only_then():
    room = Room()
    assert room.transport.revision == 0
    room.do("play")
    room.do("play")
    assert room.transport.revision == 1
    room.pass_time(S)
    room.do("pause")
    assert room.transport.revision == 2
    room.do("pause")
    with pytest.raises(ControlError):
        room.do("seek", "nonsense")
    assert room.transport.revision == 2
    room.do("resume")
    assert room.transport.revision == 3


def restored(room: Room, boot_id: str = "boot", snapshot: dict[str, object] | None = None) -> tuple[Room, bool]:
    again = Room("")
    again.queue = Queue(room.queue.entries, room.queue.next_number)
    again.transport = Transport(again.queue)
    again.transport.fade_ms = room.transport.fade_ms
    again.now = room.now
    saved = room.transport.snapshot("boot", room.now) if snapshot is None else snapshot
    return again, again.transport.restore(saved, boot_id, again.at, again.now)


@pytest.mark.parametrize("fade_ms", [0, 4_000])
@pytest.mark.parametrize("later", [0, 3 * S, 12 * S])
def test_a_host_restarted_on_the_same_boot_goes_on_with_the_same_time_line(later, fade_ms):
    room = Room()
    room.transport.fade_ms = fade_ms
    room.do("play")
    room.pass_time(LEAD + 2 * S)
    room.do("seek", "5")
    room.pass_time(S)
    snapshot = room.transport.snapshot("boot", room.now)
    room.pass_time(later)
    again, usable = restored(room, snapshot=snapshot)
    assert usable
    # Position, current entry and everything that sounds from now on are those of a host that was never away.
    assert (again.where(), again.current) == (room.where(), room.current)
    assert pieces(again.transport.timeline(room.now), room.now, room.now + 60 * S) == pieces(
        room.transport.timeline(room.now), room.now, room.now + 60 * S
    )


def test_a_host_away_for_longer_than_its_time_line_goes_on_behind_it():
    room = Room("abcdefghijkl", seconds=1.0)
    room.do("play")
    room.pass_time(LEAD)
    planned = room.transport.timeline(room.now).segments[-1].entry
    snapshot = room.transport.snapshot("boot", room.now)
    room.now += 3600 * S
    again, _ = restored(room, snapshot=snapshot)
    assert again.transport.timeline(again.now).segments[-1].entry > planned
    segment = again.transport.timeline(again.now).sounding_at(again.at)
    assert segment is not None
    assert (segment.entry, segment.start_host_ns) == (planned + 1, again.at)


@pytest.mark.parametrize(("saved", "boot_id"), [("boot", "another boot"), ("boot", "boot"), ("", "boot"), ("", "")])
def test_on_another_boot_and_without_one_playback_begins_where_it_was(saved, boot_id):
    room = Room()
    room.do("play")
    room.pass_time(LEAD + 4 * S)
    snapshot = room.transport.snapshot(saved, room.now)
    room.now = 17 * S if saved else room.now + S  # on another boot host time begins anew
    again, usable = restored(room, boot_id, snapshot)
    assert usable
    segment = again.transport.timeline(again.now).sounding_at(again.at)
    assert segment is not None
    assert (segment.entry, segment.frame, segment.start_host_ns) == (1, 4 * 44_100, again.at)


DAY_S = 1_800_000_000.0


def after_restart(room: Room, boot_id: str, later_s: float, **how: object) -> Room:
    """A host that was killed now by ``room.now`` and started so much later by the clock of the day."""
    snapshot = room.transport.snapshot("boot", room.now, how.pop("saved_day_s", DAY_S))
    again = Room("")
    again.queue = Queue(room.queue.entries, room.queue.next_number, repeat=room.queue.repeat)
    again.transport = Transport(again.queue)
    again.transport.fade_ms = room.transport.fade_ms
    again.now = room.now + round(later_s * S) if boot_id == "boot" else 17 * S
    day_s = how.pop("day_s", DAY_S + later_s)
    assert again.transport.restore(snapshot, boot_id, again.at, again.now, day_s=day_s, **how)
    return again


@pytest.mark.parametrize("fade_ms", [0, 4_000])
@pytest.mark.parametrize("later_s", [0.0, 1.0, 12.5, 31.0])
def test_after_a_start_of_the_machine_the_music_is_where_it_would_be_now(later_s, fade_ms):
    room = Room("abcde")
    room.transport.fade_ms = fade_ms
    room.do("play")
    room.pass_time(LEAD)
    again = after_restart(room, "another boot", later_s)
    assert again.transport.timeline(again.now).segments[0].start_host_ns == again.at
    again.pass_time(LEAD)
    room.pass_time(round(later_s * S) + LEAD)
    assert (again.transport.mode, again.current) == (room.transport.mode, room.current)
    assert again.where() == (room.where()[0], pytest.approx(room.where()[1], abs=2e-3))


def test_a_queue_that_would_have_ended_meanwhile_has_ended():
    room = Room()
    room.do("play")
    room.pass_time(LEAD)
    again = after_restart(room, "another boot", 41.0)
    assert (again.transport.mode, again.current) == ("stopped", "-")
    assert again.transport.timeline(again.now).segments == ()
    room.queue.set_repeat("all")
    again = after_restart(room, "another boot", 41.0)
    again.pass_time(LEAD)
    assert again.where() == ("a", 1.2)


@pytest.mark.parametrize(
    ("saved_day_s", "day_s"),
    [
        (DAY_S, DAY_S - 1.0),  # The clock of the day was put back, or began anew.
        (DAY_S, 40.0),
        (DAY_S, DAY_S + 86_401.0),  # It was put right by years.
        (40.0, 52.0),  # It was never put right.
        (1.7e9, 1.7e9 + 12.0),
        (0.0, DAY_S),
        (0.0, 0.0),
        (float("nan"), DAY_S),
        (DAY_S, float("nan")),
        (-5.0, float("inf")),
    ],
)
def test_a_clock_of_the_day_that_cannot_be_right_says_nothing(saved_day_s, day_s):
    room = Room()
    room.do("play")
    room.pass_time(LEAD + 4 * S)
    again = after_restart(room, "another boot", 12.0, saved_day_s=saved_day_s, day_s=day_s)
    again.pass_time(LEAD)
    assert again.where() == ("a", 4.0)


@pytest.mark.parametrize("boot_id", ["boot", "another boot"])
def test_a_host_that_is_to_go_on_where_it_stopped_does(boot_id):
    room = Room()
    room.do("play")
    room.pass_time(LEAD + 4 * S)
    again = after_restart(room, boot_id, 12.0, after_restart="stopped")
    timeline = again.transport.timeline(again.now)
    if boot_id == "boot":  # What its speakers were told of the time before stays, and they play it.
        assert pieces(timeline, again.now, again.at) == pieces(room.transport.timeline(room.now), again.now, again.at)
        assert pieces(timeline, again.now, again.at) != []
    segment = timeline.sounding_at(again.at)
    assert (segment.entry, segment.start_host_ns, segment.frame) == (1, again.at, 4 * 44_100)
    again.pass_time(LEAD + 7 * S)
    assert again.where() == ("b", 1.0)


@pytest.mark.parametrize("after", ["now", "stopped"])
@pytest.mark.parametrize("mode", ["paused", "stopped", "waiting", "faded out"])
def test_what_did_not_play_is_not_moved_on(mode, after):
    room = Room(prepared=mode != "waiting")
    room.do("play")
    room.pass_time(LEAD + 4 * S)
    if mode in ("paused", "stopped"):
        room.do("pause" if mode == "paused" else "stop")
    before = room.transport.snapshot("" if mode == "faded out" else "boot", room.now, DAY_S)
    again = Room("")
    again.queue = Queue(room.queue.entries, room.queue.next_number)
    again.transport = Transport(again.queue)
    assert again.transport.restore(before, "another boot", again.at, again.now, day_s=DAY_S + 12.0, after_restart=after)
    assert again.transport.mode == room.transport.mode
    assert again.current == "a"
    entry, frame = again.transport.position(again.at)
    assert (entry.number, frame) == (1, before["frame"])


@pytest.mark.parametrize("boot_id", ["boot", "another"])
def test_what_was_paused_or_stopped_stays_so(boot_id):
    room = Room()
    room.do("play", 2)
    room.pass_time(LEAD + 4 * S)
    room.do("pause")
    again, _ = restored(room, boot_id)
    assert (again.transport.mode, again.where()) == ("paused", ("b", 4.2))
    again.pass_time(S)
    assert again.sounds() == "-"
    again.do("resume")
    again.pass_time(LEAD)
    assert again.where() == ("b", 4.2)
    again.do("stop")
    last, _ = restored(again, boot_id)
    assert (last.transport.mode, last.current) == ("stopped", "b")


def test_a_snapshot_that_fits_nothing_leaves_the_room_stopped():
    room = Room()
    room.do("play")
    good = room.transport.snapshot("boot", room.now)
    bad: list[dict[str, object]] = [{}, {**good, "mode": "loud"}, {**good, "frame": -1}]
    for snapshot in (*bad, {**good, "timeline": [[[5, 0, 0, None], [5, 0, 0, None]]]}):
        again, usable = restored(room, snapshot=snapshot)
        assert (usable, again.transport.mode) == (False, "stopped")
    gone, usable = restored(room, snapshot={**good, "entry": 99})
    assert (usable, gone.transport.mode, gone.current) == (True, "stopped", "-")
    # Anchors that are no use: the saved place is.
    empty, usable = restored(room, snapshot={**good, "timeline": {"segments": []}})
    assert usable
    assert empty.sounds(empty.at) == "a"


@pytest.mark.parametrize(
    ("target", "seconds"),
    [
        ("0", 0), ("90", 90), ("1:30", 90), ("01:05", 65), ("90:00", 5400), ("1:02:03", 3723), ("1:30.5", 90.5),
        (" 7 ", 7), ("0.25", 0.25), ("+10", 110), ("-10", 90), ("+1:30", 190), ("-2:00", 0), ("-9999", 0),
        ("50%", 5000), ("0%", 0), ("99.9%", 9990),
    ],
)  # fmt: skip
def test_seek_targets(target, seconds):
    rate = 48_000
    assert parse_seek(target, 100 * rate, 10_000 * rate, rate) == round(seconds * rate)


@pytest.mark.parametrize(
    "target",
    ["", "x", "1:", ":30", "1:75", "1:2", "1:75:00", "1:1:1", "--1", "+-1", "1e3", "+50%", "1 2", "٣", "1.", "9" * 999],
)
def test_seek_targets_that_mean_nothing(target):
    with pytest.raises(ControlError, match="say 1:30, 90"):
        parse_seek(target, 0, 1000, 1000)


@pytest.mark.parametrize("target", ["2:05", "125", "+25.001", "100%", "1:00:00"])
def test_seek_past_the_end_says_the_length(target):
    with pytest.raises(ControlError, match="past the end: the track is 2:05 long"):
        parse_seek(target, 100_000, 125_000, 1000)


def pieces(timeline: Timeline, from_ns: int, to_ns: int) -> list[tuple[int, int, int, int, int]]:
    """What sounds in an interval: (begin, end, entry, segment's frame and start, its fade), silence left out."""
    out = []
    for index, segment in enumerate(timeline.segments):
        end = segment.natural_end_host_ns
        if end is None:
            continue
        following = timeline.segments[index + 1 : index + 3]
        limits = [following[0].start_host_ns + following[0].fade_ms * MS] if following else []
        limits += [one.start_host_ns for one in following[1:]]
        end = min([end, *(limit for limit in limits if limit < end - 2)])  # A nanosecond of rounding is no cut.
        begin, end = max(from_ns, segment.start_host_ns), min(end, to_ns)
        if begin < end:
            out.append((begin, end, segment.entry, segment.start_host_ns - segment.frame * S, segment.fade_ms))
    return out


class AnyCommands(RuleBasedStateMachine):
    """Commands in any order, at any distance, over queues of any tracks."""

    @initialize()
    def begin(self) -> None:
        self.queue = Queue(chance=random.Random(1))
        self.transport = Transport(self.queue)
        self.now = T0
        self.at = T0

    def check(self, before: Timeline, revision: int, at: int) -> None:
        after = self.transport.timeline(self.now)
        assert pieces(after, self.now, at) == pieces(before, self.now, at), "what was announced has changed"
        assert self.transport.revision > revision or after == before

    def command(self, name: str, lead_ms: int, *args: object) -> None:
        before, revision = self.transport.timeline(self.now), self.transport.revision
        at = self.now + lead_ms * MS
        try:
            getattr(self.transport, name)(at, self.now, *args)
        except ControlError:
            assert name in ("play", "pause", "seek", "next_", "previous", "resume")
        self.at = max(self.at, at)
        self.check(before, revision, at)

    leads = st.integers(0, 2_000)

    @rule(
        lead=leads,
        name=st.sampled_from(["play", "pause", "resume", "stop", "next_", "next_", "previous", "rebuild"]),
    )
    def plain(self, lead: int, name: str) -> None:
        self.command(name, lead)

    @rule(lead=leads, position=st.integers(1, 12))
    def play(self, lead: int, position: int) -> None:
        self.command("play", lead, position)

    @rule(lead=leads, to=st.sampled_from(["0", "+1", "-1", "+0.05", "99.9%", "50%", "3"]))
    def seek(self, lead: int, to: str) -> None:
        self.command("seek", lead, to)

    @rule(
        frames=st.lists(st.one_of(st.integers(1, 2_000), st.integers(20_000, 400_000)), min_size=1, max_size=4),
        rate=st.sampled_from([8_000, 44_100, 48_000, 96_001]),
        prepared=st.booleans(),
        next_=st.booleans(),
    )
    def add(self, frames: list[int], rate: int, prepared: bool, next_: bool) -> None:
        if len(self.queue) < 12:
            new = [item("x", track(frames=n, rate_hz=rate) if prepared else None) for n in frames]
            self.queue.add(new, next_=next_)

    @rule(position=st.integers(1, 12), to=st.integers(1, 12), remove=st.booleans(), lead=leads)
    def reorder(self, position: int, to: int, remove: bool, lead: int) -> None:
        if max(position, to) <= len(self.queue):
            if remove:
                self.queue.remove({position, to})
            else:
                self.queue.move(position, to)
        self.command("rebuild", lead)

    @rule(repeat=st.sampled_from(["off", "one", "all"]), lead=leads)
    def repeat(self, repeat: str, lead: int) -> None:
        self.queue.set_repeat(repeat)
        self.command("rebuild", lead)

    @rule(fade_ms=st.sampled_from([0, 1, 333, 12_000]), lead=leads)
    def fade(self, fade_ms: int, lead: int) -> None:
        self.transport.fade_ms = fade_ms
        self.command("rebuild", lead)

    @rule(on=st.booleans(), lead=leads)
    def shuffle(self, on: bool, lead: int) -> None:
        self.queue.shuffle(on)
        self.command("rebuild", lead)

    @rule(lead=leads)
    def undo(self, lead: int) -> None:
        with contextlib.suppress(ControlError):
            self.queue.undo()
        self.command("rebuild", lead)

    @rule(position=st.integers(1, 12), fault=st.booleans(), lead=leads, frames=st.integers(1, 300_000))
    def prepare(self, position: int, fault: bool, lead: int, frames: int) -> None:
        if position <= len(self.queue):
            entry = self.queue.entries[position - 1]
            if fault:
                self.queue.set_fault(entry.number, "broken")
            elif entry.track is None:
                self.queue.set_prepared(entry.number, track(frames=frames))
        self.command("rebuild", lead)

    @rule(duration=st.one_of(st.integers(0, 100 * MS), st.integers(0, 8 * S)), follow=st.booleans())
    def pass_time(self, duration: int, follow: bool) -> None:
        end = self.now + duration
        while follow and (due := self.transport.next_change_host_ns()) is not None and due <= end:
            self.advance(due)
            if self.transport.waiting is not None:
                self.command("rebuild", 150)
        self.advance(end)

    def advance(self, now: int) -> None:
        before, (entry, frame) = self.transport.timeline(self.now), self.transport.position(self.now)
        held, was, mode = self.transport.waiting, self.now, self.transport.mode
        self.now = now
        self.transport.advance(now)
        after = self.transport.timeline(now)
        horizon = max([now, *(s.natural_end_host_ns or s.start_host_ns for s in before.segments)])
        kept = pieces(after, now, horizon)
        assert kept[: len(pieces(before, now, horizon))] == pieces(before, now, horizon)
        again, later = self.transport.position(now)
        begun = any(was < start <= now for start in (one.start_host_ns for one in before.segments))
        if not begun and entry is not None and again == entry and entry.track is not None:
            moved = (now - was) * entry.track.rate_hz // S + 1
            assert 0 <= later - frame <= moved, "the position jumped by itself"
            assert mode == "playing" or later == frame
            assert held is None or later == frame

    @rule(same_boot=st.booleans())
    def restart(self, same_boot: bool) -> None:
        self.transport.rebuild(self.now, self.now)
        before, (entry, frame) = self.transport.timeline(self.now), self.transport.position(self.now)
        snapshot, mode = self.transport.snapshot("boot", self.now), self.transport.mode
        revision = self.queue.entries
        queue, fade_ms = self.queue, self.transport.fade_ms
        chance = random.Random(1)
        self.queue = Queue(queue.entries, queue.next_number, plain=queue.plain, repeat=queue.repeat, chance=chance)
        self.transport = Transport(self.queue)
        self.transport.fade_ms = fade_ms
        at = self.now + 300 * MS
        assert self.transport.restore(snapshot, "boot" if same_boot else "other", at, self.now)
        assert revision == self.queue.entries
        self.at = max(self.at, at)
        if same_boot:
            assert self.transport.mode == mode
            assert self.transport.position(self.now) == (entry, frame)
            assert pieces(self.transport.timeline(self.now), self.now, at) == pieces(before, self.now, at)

    @invariant()
    def limits(self) -> None:
        timeline = self.transport.timeline(self.now)  # Timeline itself checks that starts rise strictly.
        assert len(timeline.segments) <= MAX_SEGMENTS
        due = self.transport.next_change_host_ns()
        assert due is None or due > self.now
        entry, frame = self.transport.position(self.now)
        assert entry is None or entry.track is None or 0 <= frame <= entry.track.frames

    @invariant()
    def silence_unless_playing(self) -> None:
        timeline = self.transport.timeline(self.now)
        if self.transport.mode != "playing" or self.transport.waiting is not None:
            assert timeline.sounding_at(max(self.at, self.now)) is None

    @precondition(lambda self: self.transport.mode == "playing" and self.transport.waiting is None)
    @rule()
    def what_plays_is_planned(self) -> None:
        self.transport.rebuild(self.now, self.now)
        if self.transport.mode == "playing" and self.transport.waiting is None:
            assert self.transport.next_change_host_ns() is not None
            assert self.queue.current_entry is not None


TestAnyCommands = AnyCommands.TestCase
TestAnyCommands.settings = settings(max_examples=200, stateful_step_count=40, deadline=None, derandomize=True)
