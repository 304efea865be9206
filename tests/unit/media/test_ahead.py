"""What is wanted decoded and fetched, on time lines whose numbers can be checked by hand."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from musicsyncd.media.ahead import MAX_WANTS, frames_wanted, tracks_wanted
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


def stretches(timeline: Timeline, at_ns: int) -> list[tuple[bytes, int, int]]:
    """Return track, first frame and the frame behind the last of every want."""
    return [(w.track.content_id[:1], w.start_frame, w.start_frame + w.frames) for w in frames_wanted(timeline, at_ns)]


def test_nothing_is_wanted_of_silence():
    assert frames_wanted(Timeline(), T0) == []
    assert frames_wanted(Timeline((Segment(T0),)), T0 + S) == []
    assert tracks_wanted(Timeline((Segment(T0),)), T0 + S) == []


def test_what_sounds_is_held_from_300_ms_ago_to_3_s_ahead():
    assert stretches(album(A), T0 + 5 * S) == [(b"a", 4700, 8000)]


def test_no_frame_outside_the_track_is_wanted():
    assert stretches(album(A), T0 + 100 * MS) == [(b"a", 0, 3100)]
    assert stretches(album(A), T0 + 9 * S) == [(b"a", 8700, 10_000)]


def test_a_place_in_the_middle_of_a_track_counts_from_its_frame():
    timeline = Timeline((Segment(T0, 1, 4000, A),))
    assert stretches(timeline, T0 + 1 * S) == [(b"a", 4700, 8000)]


def test_a_speaker_that_is_about_to_begin_has_what_comes_before_the_anchor_too():
    """A speaker that is slewed or stepped back reads a little before the first frame that was meant to sound."""
    timeline = Timeline((Segment(T0, 1, 4000, A),))
    assert stretches(timeline, T0 - 5 * S) == [(b"a", 3700, 6000)]


def test_two_seconds_of_what_follows_are_decoded_from_8_s_before_it():
    assert stretches(album(A, B), T0 + 1999 * MS) == [(b"a", 1699, 4999)]
    assert stretches(album(A, B), T0 + 2 * S) == [(b"a", 1700, 5000), (b"b", 0, 2000)]


def test_the_head_of_what_follows_grows_as_it_comes_near():
    assert stretches(album(A, B), T0 + 9500 * MS) == [(b"a", 9200, 10_000), (b"b", 0, 2500)]


def test_what_ended_is_kept_for_300_ms_and_not_longer():
    assert stretches(album(A, B), T0 + 10_200 * MS) == [(b"a", 9900, 10_000), (b"b", 0, 3200)]
    assert stretches(album(A, B), T0 + 10_301 * MS) == [(b"b", 1, 3301)]
    assert stretches(album(A), T0 + 10_301 * MS) == []


def test_nothing_is_decoded_far_behind_a_cut():
    cut = Timeline((Segment(T0, 1, 0, A), Segment(T0 + 2 * S)))
    assert stretches(cut, T0 + 1 * S) == [(b"a", 700, 2300)]


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
