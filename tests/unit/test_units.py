"""Conversions against exact arithmetic, and their inverses."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from musicsyncd import units
from musicsyncd.units import NS_PER_S

RATES = st.sampled_from([8_000, 11_025, 44_100, 48_000, 88_200, 192_000, 768_000])
FRAMES = st.integers(-(1 << 40), 1 << 40)


@given(FRAMES, RATES)
def test_frames_last_the_nearest_nanosecond_of_the_exact_length(frames, rate_hz):
    exact = Fraction(frames * NS_PER_S, rate_hz)
    assert abs(units.frames_to_ns(frames, rate_hz) - exact) <= Fraction(1, 2)


@given(FRAMES, RATES)
def test_a_frame_has_begun_from_its_first_whole_nanosecond_on_and_not_one_earlier(frames, rate_hz):
    begin_ns = -(-frames * NS_PER_S // rate_hz)
    assert units.ns_to_frames(begin_ns, rate_hz) == frames
    assert units.ns_to_frames(begin_ns - 1, rate_hz) == frames - 1


@given(st.integers(-(1 << 50), 1 << 50))
def test_seconds_milliseconds_and_microseconds_are_the_same_length(duration_ns):
    assert units.ns_to_s(duration_ns) == pytest.approx(duration_ns * 1e-9)
    assert units.ns_to_ms(duration_ns) == pytest.approx(duration_ns * 1e-6)
    assert units.ns_to_us(duration_ns) == pytest.approx(duration_ns * 1e-3)


@pytest.mark.parametrize(
    ("given_value", "expected_ns"), [(1.5, 1_500_000_000), (-2.25, -2_250_000_000), (1.2345678906e-3, 1_234_568)]
)
def test_lengths_become_whole_nanoseconds_the_nearest(given_value, expected_ns):
    assert units.s_to_ns(given_value) == expected_ns
    assert units.ms_to_ns(given_value * 1e3) == expected_ns
    assert isinstance(units.s_to_ns(given_value), int)


def test_ppm_and_ratio_are_inverse_and_positive_is_faster():
    assert units.ppm_to_ratio(37.0) == 1.000037
    assert units.ratio_to_ppm(1.000037) == pytest.approx(37.0, abs=1e-9)
    assert units.ratio_to_ppm(units.ppm_to_ratio(-123.4)) == pytest.approx(-123.4, abs=1e-9)


def test_decibels_are_of_amplitude():
    assert units.db_to_gain(20.0) == pytest.approx(10.0)
    assert units.db_to_gain(-6.0206) == pytest.approx(0.5, rel=1e-5)
    assert units.gain_to_db(0.5) == pytest.approx(-6.0206, rel=1e-5)
    assert units.gain_to_db(0.0) == -math.inf
    assert units.gain_to_db(units.db_to_gain(-17.3)) == pytest.approx(-17.3)


def test_volume_is_unity_at_100_silence_at_0_and_minus_18_db_half_way():
    assert units.volume_to_gain(0) == 0.0
    assert units.volume_to_gain(100) == 1.0
    assert units.gain_to_db(units.volume_to_gain(50)) == pytest.approx(-18.06, abs=0.01)
    gains = [units.volume_to_gain(volume) for volume in range(101)]
    assert gains == sorted(set(gains))
