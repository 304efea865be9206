import pytest
from hypothesis import given
from hypothesis import strategies as st

from musicsyncd.playback.timeline import Segment, Timeline, Track
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


def test_starts_must_rise():
    with pytest.raises(ValueError, match="rise"):
        Timeline((Segment(START), Segment(START)))
