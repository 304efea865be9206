"""What is wanted decoded and fetched, on time lines whose numbers can be checked by hand."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from musicsyncd.media.ahead import (
    MAX_AIM_DURATION_NS,
    MAX_WANTS,
    PATIENCE_DURATION_NS,
    Missing,
    due_host_ns,
    frames_wanted,
    missing_since,
    segments_wanted,
)
from musicsyncd.media.frames import CHUNK_FRAMES
from musicsyncd.playback.timeline import Segment, Timeline, Track
from musicsyncd.units import NS_PER_MS, NS_PER_S

RATE = 1000
"""A frame is a millisecond."""

S, MS = NS_PER_S, NS_PER_MS
T0 = 100 * S


def track(name: bytes, frames: int = 10_000) -> Track:
    return Track(name * 32, 1000, RATE, frames, 2)


A, B, C, D, E = (track(name) for name in (b"a", b"b", b"c", b"d", b"e"))


def album(*tracks: Track, start_ns: int = T0) -> Timeline:
    """Return tracks that follow each other without a gap."""
    segments = []
    for number, one in enumerate(tracks, 1):
        segments.append(Segment(start_ns, number, 0, one))
        start_ns += one.duration_ns
    return Timeline(tuple(segments))


def tracks_wanted(timeline: Timeline, at_ns: int) -> list[Track]:
    return [segment.track for segment in segments_wanted(timeline, at_ns)]


def stretches(timeline: Timeline, at_ns: int, missing: Missing | None = None) -> list[tuple[bytes, int, int]]:
    """Return track, first frame and the frame behind the last of every want."""
    return [
        (w.track.content_id[:1], w.start_frame, w.start_frame + w.frames)
        for w in frames_wanted(timeline, at_ns, missing)
    ]


def test_nothing_is_wanted_of_silence():
    assert frames_wanted(Timeline(), T0) == []
    assert frames_wanted(Timeline((Segment(T0),)), T0 + S) == []
    assert tracks_wanted(Timeline((Segment(T0),)), T0 + S) == []


def test_what_sounds_is_held_from_300_ms_ago_to_3_s_ahead():
    assert stretches(album(A), T0 + 5 * S) == [(b"a", 5000, 8000), (b"a", 4700, 5000)]


def test_no_frame_outside_the_track_is_wanted():
    assert stretches(album(A), T0 + 100 * MS) == [(b"a", 100, 3100), (b"a", 0, 100)]
    assert stretches(album(A), T0 + 9 * S) == [(b"a", 9000, 10_000), (b"a", 8700, 9000)]


def test_a_place_in_the_middle_of_a_track_counts_from_its_frame():
    timeline = Timeline((Segment(T0, 1, 4000, A),))
    assert stretches(timeline, T0 + 1 * S) == [(b"a", 5000, 8000), (b"a", 4700, 5000)]


def test_a_speaker_that_is_about_to_begin_has_what_comes_before_the_anchor_too():
    """A speaker that is slewed or stepped back reads a little before the first frame that was meant to sound."""
    timeline = Timeline((Segment(T0, 1, 4000, A),))
    assert stretches(timeline, T0 - 5 * S) == [(b"a", 4000, 6000), (b"a", 3700, 4000)]


def test_two_seconds_of_what_follows_are_decoded_from_8_s_before_it():
    assert stretches(album(A, B), T0 + 1999 * MS) == [(b"a", 1999, 4999), (b"a", 1699, 1999)]
    assert stretches(album(A, B), T0 + 2 * S) == [(b"a", 2000, 5000), (b"b", 0, 2000), (b"a", 1700, 2000)]


def test_the_head_of_what_follows_grows_as_it_comes_near():
    assert stretches(album(A, B), T0 + 9500 * MS) == [(b"a", 9500, 10_000), (b"b", 0, 2500), (b"a", 9200, 9500)]


def test_what_ended_is_kept_for_300_ms_and_not_longer():
    assert stretches(album(A, B), T0 + 10_200 * MS) == [(b"b", 200, 3200), (b"a", 9900, 10_000), (b"b", 0, 200)]
    assert stretches(album(A, B), T0 + 10_301 * MS) == [(b"b", 301, 3301), (b"b", 1, 301)]
    assert stretches(album(A), T0 + 10_301 * MS) == []


def test_nothing_is_decoded_far_behind_a_cut():
    cut = Timeline((Segment(T0, 1, 0, A), Segment(T0 + 2 * S)))
    assert stretches(cut, T0 + 1 * S) == [(b"a", 1000, 2300), (b"a", 700, 1000)]


def test_the_most_urgent_comes_first_and_no_more_than_the_maximum():
    short = [track(name, 500) for name in (b"a", b"b", b"c", b"d", b"e", b"f")]
    found = stretches(album(*short), T0)
    assert [name for name, _, _ in found] == [b"a", b"b", b"c", b"d"]
    assert len(found) == MAX_WANTS


def test_a_track_that_comes_twice_is_fetched_once_and_in_its_first_place():
    assert tracks_wanted(album(A, B, A, C), T0) == [A, B, C]


def test_all_that_is_announced_is_fetched_however_far_ahead_and_nothing_that_is_over():
    assert tracks_wanted(album(A, B, C, D, E), T0 - 1000 * S) == [A, B, C, D, E]
    assert tracks_wanted(album(A, B, C), T0 + 10_300 * MS) == [A, B, C]
    assert tracks_wanted(album(A, B, C), T0 + 10_301 * MS) == [B, C]


@given(st.integers(-20_000, 50_000), st.integers(0, 9_999), st.integers(1, 9_000))
def test_wants_lie_in_the_track_and_hold_what_sounds_now(at_ms, frame, cut_ms):
    """Whatever the instant, the frame due now and those of the next second are wanted, unless the line ends before."""
    timeline = Timeline((Segment(T0, 1, frame, A), Segment(T0 + cut_ms * MS, 2, 0, B)))
    at_ns = T0 + at_ms * MS
    wants = frames_wanted(timeline, at_ns)
    for want in wants:
        assert want.frames > 0
        assert want.start_frame >= 0
        assert want.start_frame + want.frames <= want.track.frames
    for later_ms in (0, 1000):
        sounding = timeline.sounding_at(at_ns + later_ms * MS)
        if sounding is not None and sounding.track is not None:
            position = sounding.position_at(at_ns + later_ms * MS)[0]
            assert any(
                want.track == sounding.track and want.start_frame <= position < want.start_frame + want.frames
                for want in wants
            )


# -- when bytes are late ---------------------------------------------------------------------------


def begun(timeline: Timeline, from_ns: int) -> Missing:
    return Missing(timeline.segments[0], from_ns, from_ns)


def test_what_is_missing_is_read_from_where_it_was_begun_and_what_is_skipped_comes_last():
    line = album(A, B)
    assert stretches(line, T0 + 2 * S, begun(line, T0 + 1 * S)) == [(b"a", 1000, 5000), (b"b", 0, 2000)]
    skipping = begun(line, T0 + 3500 * MS)
    assert stretches(line, T0 + 2 * S, skipping) == [(b"a", 3500, 6500), (b"b", 0, 2000), (b"a", 1700, 3500)]
    skipping = begun(line, T0 + 12 * S)
    assert stretches(line, T0 + 9 * S, skipping) == [(b"b", 0, 2000), (b"a", 8700, 10_000)], "not past the end"


def test_where_another_track_is_missing_this_one_is_as_ever():
    other = Missing(Segment(T0 - S, 7, 0, C), T0, T0 + S)
    assert stretches(album(A, B), T0 + 5 * S, other) == stretches(album(A, B), T0 + 5 * S)


# A hundred chunks a second.
FAST = Segment(T0, 1, 0, Track(b"f" * 32, 1000, 100 * CHUNK_FRAMES, 1000 * CHUNK_FRAMES, 2))
LINE = Timeline((FAST,))


def nothing(_track: Track, _frame: int) -> bool:
    return False


def everything(_track: Track, _frame: int) -> bool:
    return True


def until_chunk(number: int):
    return lambda _track, frame: frame // CHUNK_FRAMES < number


def test_nothing_is_missing_in_silence_or_where_the_sound_is_there():
    assert missing_since(None, LINE, T0 - 1, nothing) is None
    assert missing_since(None, LINE, T0 + 10 * S, nothing) is None
    assert missing_since(None, LINE, T0 + S, everything) is None
    assert missing_since(Missing(FAST, T0, T0), LINE, T0 + S, everything) is None, "it came"


def test_a_track_that_just_began_is_read_from_its_start_and_one_that_is_joined_from_here():
    assert missing_since(None, LINE, T0 + 299 * MS, nothing) == Missing(FAST, T0 + 299 * MS, T0)
    assert missing_since(None, LINE, T0 + 300 * MS, nothing) == Missing(FAST, T0 + 300 * MS, T0 + 300 * MS)


def test_a_track_that_ran_dry_is_read_from_where_it_did():
    assert missing_since(None, LINE, T0 + 500 * MS, until_chunk(30)) == Missing(FAST, T0 + 500 * MS, T0 + 300 * MS)
    assert missing_since(None, LINE, T0 + 500 * MS, until_chunk(50)) == Missing(FAST, T0 + 500 * MS, T0 + 500 * MS)
    far = missing_since(None, LINE, T0 + 5 * S, until_chunk(30))
    assert far == Missing(FAST, T0 + 5 * S, T0 + 5 * S), "that was long ago"


def test_a_silent_speaker_reads_on_for_a_while_and_then_begins_further_on_the_longer_it_lasts():
    at_ns = T0 + S
    found = missing_since(None, LINE, at_ns, nothing)
    seen = [found]
    while at_ns < T0 + 9 * S:
        at_ns += 10 * MS
        found = missing_since(found, LINE, at_ns, nothing)
        if found != seen[-1]:
            seen.append(found)
    since_ns = T0 + S
    second_ns = since_ns + PATIENCE_DURATION_NS  # Silent for 1.5 s, it aims as far ahead, and has patience from there.
    third_ns = second_ns + PATIENCE_DURATION_NS + PATIENCE_DURATION_NS
    assert seen == [
        Missing(FAST, since_ns, since_ns),
        Missing(FAST, since_ns, second_ns + PATIENCE_DURATION_NS),
        Missing(FAST, since_ns, third_ns + MAX_AIM_DURATION_NS),
    ]


def test_another_place_of_the_track_begins_anew():
    moved = Timeline((Segment(T0 + S, 1, 5 * CHUNK_FRAMES, FAST.track),))
    found = missing_since(Missing(FAST, T0, T0), moved, T0 + 1100 * MS, nothing)
    assert found == Missing(moved.segments[0], T0 + 1100 * MS, T0 + S)


def test_a_track_is_due_when_its_first_frame_that_is_missing_sounds():
    assert due_host_ns(FAST, T0, None, until_chunk(40)) == T0 + 400 * MS
    assert due_host_ns(FAST, T0 + 500 * MS, None, until_chunk(40)) == T0 + 500 * MS, "it is missing now"
    assert due_host_ns(FAST, T0 - 5 * S, None, until_chunk(40)) == T0 + 400 * MS, "it begins later"
    assert T0 + 3 * S <= due_host_ns(FAST, T0, None, everything) <= T0 + 3 * S + 10 * MS


def test_what_is_read_late_is_overdue():
    late = Missing(FAST, T0 + 200 * MS, T0 + 200 * MS)
    assert due_host_ns(FAST, T0 + S, late, nothing) == T0 + 200 * MS
    assert due_host_ns(FAST, T0 + S, late, until_chunk(40)) == T0 + 400 * MS
    assert due_host_ns(FAST, T0 + S, Missing(FAST, T0, T0 + 3 * S), nothing) == T0 + 3 * S
