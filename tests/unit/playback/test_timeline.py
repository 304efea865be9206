from fractions import Fraction

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from musicsyncd.playback.timeline import MAX_GAIN_DB, Segment, Timeline, Track
from musicsyncd.units import NS_PER_S

TRACK = Track(bytes(32), 1000, 48_000, 480_000, 2)
START = 5 * NS_PER_S


def test_a_segment_ends_when_its_track_does():
    assert Segment(START, 1, 0, TRACK).natural_end_host_ns == START + 10 * NS_PER_S
    assert Segment(START, 1, 240_000, TRACK).natural_end_host_ns == START + 5 * NS_PER_S
    assert Segment(START).natural_end_host_ns is None


def test_position_is_exact_far_into_a_long_track():
    long = Track(bytes(32), 1000, 44_100, 1 << 39, 2)
    segment = Segment(7, 1, 3, long)
    years_ns = 300 * 86_400 * NS_PER_S
    base, fraction = segment.position_at(7 + years_ns + 1)
    assert base == 3 + 300 * 86_400 * 44_100
    assert fraction == pytest.approx(44_100 / NS_PER_S, abs=1e-12)


@given(st.integers(-(10**15), 10**15))
def test_position_before_and_after_its_start_is_on_one_line(delta_ns):
    base, fraction = Segment(START, 1, 100, TRACK).position_at(START + delta_ns)
    assert 0 <= fraction < 1
    assert (base - 100) * NS_PER_S + round(fraction * NS_PER_S) == delta_ns * 48_000


def test_what_is_in_force_and_what_sounds():
    timeline = Timeline(
        (Segment(START, 1, 0, TRACK), Segment(START + NS_PER_S), Segment(START + 2 * NS_PER_S, 1, 0, TRACK))
    )
    assert timeline.segment_at(START - 1) is None
    assert timeline.sounding_at(START) == timeline.segments[0]
    assert timeline.sounding_at(START + NS_PER_S) is None
    assert timeline.segment_at(START + NS_PER_S) == timeline.segments[1]
    assert timeline.sounding_at(START + 12 * NS_PER_S - 1) == timeline.segments[2]
    assert timeline.sounding_at(START + 12 * NS_PER_S) is None


def test_spans_say_what_is_cut_and_what_ends_by_itself():
    follows = Segment(START + 10 * NS_PER_S + 1, 2, 0, TRACK)  # a nanosecond of rounding is no gap and no cut
    cuts = Segment(START + 15 * NS_PER_S)
    spans = list(Timeline((Segment(START, 1, 0, TRACK), follows, cuts)).spans())
    assert [(span.end_host_ns, span.cut) for span in spans] == [
        (START + 10 * NS_PER_S, False),
        (START + 15 * NS_PER_S, True),
    ]


def test_what_another_one_rises_over_goes_on_until_that_has_risen():
    a, b = Segment(START, 1, 0, TRACK), Segment(START + 7 * NS_PER_S, 2, 0, TRACK, 3_000)
    spans = list(Timeline((a, b)).spans())
    assert [(span.end_host_ns, span.cut, span.follower) for span in spans] == [
        (START + 10 * NS_PER_S, False, b),
        (START + 17 * NS_PER_S, False, None),
    ]
    # A fade that ends before the track does.
    b = Segment(START + 5 * NS_PER_S, 2, 0, TRACK, 3_000)
    assert next(Timeline((a, b)).spans()).end_host_ns == START + 8 * NS_PER_S
    assert next(Timeline((a, b)).spans()).cut


def test_what_does_not_fade_in_ends_both_that_fade():
    a, b = Segment(START, 1, 0, TRACK), Segment(START + 7 * NS_PER_S, 2, 0, TRACK, 3_000)
    silence = Segment(START + 8 * NS_PER_S)
    spans = list(Timeline((a, b, silence)).spans())
    assert [(span.end_host_ns, span.cut) for span in spans] == [(START + 8 * NS_PER_S, True)] * 2
    timeline = Timeline((a, b, silence))
    assert [timeline.sounding_at(START + n * NS_PER_S) for n in (6, 7, 8)] == [a, b, None]


def test_a_start_that_was_rounded_is_the_exact_end_of_the_one_before():
    odd = Track(bytes(32), 1000, 44_100, 100_001, 2)
    start, exact, segments = START, Fraction(START), []
    for number in range(5):
        segments.append(Segment(start, number, 0, odd))
        exact += Fraction(odd.frames * NS_PER_S, odd.rate_hz)
        start = round(exact)
    exact = Fraction(START)
    for span in Timeline(tuple(segments)).spans():
        assert span.segment.start_host_ns + Fraction(span.start_fraction_ns) == pytest.approx(exact, abs=1e-5)
        assert abs(span.start_fraction_ns - float(exact - span.segment.start_host_ns)) < 1e-9
        exact += Fraction(odd.frames * NS_PER_S, odd.rate_hz)
    # A start that is a matter of its own is left as it is.
    late = Segment(segments[1].start_host_ns + 3, 9, 0, odd)
    assert list(Timeline((segments[0], late)).spans())[1].start_fraction_ns == 0.0


def test_starts_must_rise():
    with pytest.raises(ValueError, match="rise"):
        Timeline((Segment(START), Segment(START)))


def test_a_track_without_a_gain_is_one_of_0_db_and_no_gain_is_beyond_reason():
    plain = msgspec.msgpack.encode((bytes(32), 1000, 48_000, 480_000, 2))
    assert msgspec.msgpack.decode(plain, type=Track) == TRACK
    assert TRACK.gain_db == 0.0
    for gain_db in (-MAX_GAIN_DB - 0.01, MAX_GAIN_DB + 0.01, float("nan")):
        odd = msgspec.msgpack.encode((bytes(32), 1000, 48_000, 480_000, 2, gain_db))
        with pytest.raises(msgspec.ValidationError):
            msgspec.msgpack.decode(odd, type=Track)
