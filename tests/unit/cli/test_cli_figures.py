import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from musicsyncd.cli import figures


@pytest.mark.parametrize(
    ("microseconds", "text"),
    [
        (0, "0 µs"),
        (-0.01, "0 µs"),
        (3.24, "+3.2 µs"),
        (-9.94, "-9.9 µs"),
        (9.96, "+10 µs"),
        (999.4, "+999 µs"),
        (999.6, "+1.00 ms"),
        (-1234, "-1.23 ms"),
        (9_996, "+10.0 ms"),
        (99_960, "+100 ms"),
        (999_400, "+999 ms"),
        (999_600, "+1.000 s"),
        (1_000_007_000, "+1000.007 s"),
        (-86_399e6, "-86399.000 s"),
        (3.25 * 86_400e6, "+3.25 d"),
    ],
)
def test_a_length_of_time_has_the_unit_that_suits_it(microseconds, text):
    assert figures.duration_us(microseconds, signed=True) == text
    assert figures.duration_us(abs(microseconds)) == text.lstrip("+-")


@given(st.floats(0.1, 86_300e6))
def test_a_length_of_time_is_what_it_was_to_three_digits_or_a_whole_microsecond(microseconds):
    text = figures.duration_us(microseconds)
    value, unit = re.fullmatch(r"([\d.]+) (µs|ms|s)", text).groups()
    scale = {"µs": 1, "ms": 1e3, "s": 1e6}[unit]
    assert float(value) * scale == pytest.approx(microseconds, rel=0.006, abs=0.06 if microseconds < 9.95 else 0.51)
    assert len(text) <= len("86399.000 s")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0 s"), (59.9, "59 s"), (60, "1 min"), (3599, "59 min"), (7350, "2 h 2 min"), (93_784, "1 d 2 h")],
)
def test_a_long_time(seconds, text):
    assert figures.span_s(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (-3, "0:00"), (83.9, "1:23"), (600, "10:00"), (3723, "1:02:03")]
)
def test_a_place_in_a_track(seconds, text):
    assert figures.position_s(seconds) == text


def test_rates_and_channels():
    assert [figures.rate_hz(hz) for hz in (8000, 44100, 192000, 11025)] == [
        "8 kHz",
        "44.1 kHz",
        "192 kHz",
        "11.025 kHz",
    ]
    assert [figures.channel_word(n) for n in (1, 2, 6)] == ["mono", "stereo", "6 channels"]


def test_counts_know_their_plural():
    assert [figures.count(n, "speaker") for n in (0, 1, 2)] == ["0 speakers", "1 speaker", "2 speakers"]


@pytest.mark.parametrize(("share", "text"), [(-1, "────"), (0, "────"), (0.5, "━━──"), (1, "━━━━"), (9, "━━━━")])
def test_a_bar(share, text):
    assert figures.bar(share, 4) == text


@given(st.text(), st.integers(1, 30))
def test_a_shortened_text_fits(text, columns):
    text = figures.clean(text)
    assert figures.columns_of(figures.shortened(text, columns)) <= max(columns, 1)


def test_wide_letters_take_two_columns_and_accents_none():
    assert figures.columns_of("台所") == 4
    assert figures.columns_of("e\u0301") == 1
    assert figures.shortened("台所の音", 6) == "台所…"
    assert figures.shortened("kitchen", 7) == "kitchen"


@given(st.text())
def test_a_clean_text_can_command_no_terminal(text):
    assert figures.clean(text).isprintable() or figures.clean(text) == ""
    assert len(figures.clean(text)) == len(text)
