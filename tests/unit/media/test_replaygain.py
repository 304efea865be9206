from __future__ import annotations

import math

import pytest

from musicsyncd.media.replaygain import Loudness, gain_db
from musicsyncd.media.tags import Gain, Tags
from musicsyncd.playback.timeline import MAX_GAIN_DB

TAGS = Tags("x", track_gain=Gain(-6.5, 0.9), album_gain=Gain(-8.25, 1.0))


@pytest.mark.parametrize(
    ("loudness", "expected_db"),
    [
        (Loudness(), 0.0),
        (Loudness("off", 6.0), 0.0),
        (Loudness("track"), -6.5),
        (Loudness("album"), -8.25),
        (Loudness("track", 3.0), -3.5),
        (Loudness("album", -3.0), -11.25),
    ],
)
def test_the_choice_and_the_preamp(loudness, expected_db):
    assert gain_db(TAGS, loudness) == expected_db


def test_what_one_of_them_lacks_the_other_gives():
    assert gain_db(Tags("x", track_gain=Gain(-3.0)), Loudness("album")) == -3.0
    assert gain_db(Tags("x", album_gain=Gain(-4.0)), Loudness("track")) == -4.0


def test_what_says_nothing_is_left_alone_by_the_preamp_too():
    assert gain_db(Tags("x"), Loudness("track", 6.0)) == 0.0
    assert gain_db(Tags("x", track_gain=Gain(None, 0.1)), Loudness("track", 6.0)) == 0.0


def test_no_peak_is_lifted_beyond_full_scale():
    quiet = Tags("x", track_gain=Gain(12.0, 0.5))
    assert gain_db(quiet, Loudness("track")) == pytest.approx(-20 * math.log10(0.5), abs=0.01)
    assert gain_db(Tags("x", track_gain=Gain(2.0, 0.5)), Loudness("track")) == 2.0
    assert gain_db(Tags("x", track_gain=Gain(12.0)), Loudness("track")) == 0.0, "it may reach full scale"
    over = Tags("x", track_gain=Gain(-1.0, 2.0))
    assert gain_db(over, Loudness("track")) == pytest.approx(-6.02, abs=0.01)


def test_it_always_fits_a_track():
    assert gain_db(Tags("x", track_gain=Gain(64.0, 1e-9)), Loudness("track", 24.0)) == MAX_GAIN_DB
    assert gain_db(Tags("x", track_gain=Gain(-64.0, 1e-9)), Loudness("track", -24.0)) == -MAX_GAIN_DB
    assert gain_db(Tags("x", track_gain=Gain(5.0, 0.0)), Loudness("track")) == 0.0
