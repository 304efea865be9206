"""The player on a card in virtual time: phase, signs, steps, gain."""

import numpy as np
import pytest

from musicsyncd.clock.mapping import ClockMapping
from musicsyncd.playback.player import Course, Player
from musicsyncd.playback.timeline import Segment, Timeline, Track
from musicsyncd.units import NS_PER_MS, NS_PER_S

RATE = 48_000
BLOCK = 1024
OFFSET = 777 * NS_PER_S
BEGIN = 50 * NS_PER_S
"""Local time at which the card's frame 0 sounds."""

FRAMES = 20 * RATE
TRACK = Track(b"t" * 32, 1000, RATE, FRAMES, 2)


class Ramp:
    """A track whose sample says its own frame number: frame n is n / FRAMES."""

    def buffer(self, content_id):
        return self

    def read(self, first_frame, out):
        frames = np.arange(first_frame, first_frame + len(out), dtype=np.float64)
        values = np.where((frames >= 0) & (frames < FRAMES), frames / FRAMES, 0.0)
        out[:] = values[:, None]
        return 0


class Card:
    """A virtual card with an error of its crystal; it asks 80 ms ahead."""

    def __init__(self, player, ppm=0.0):
        self.player, self.rate, self.frame = player, RATE * (1 + ppm * 1e-6), 0

    def sounds_ns(self, frame):
        return round(BEGIN + frame / self.rate * NS_PER_S)

    def play(self, blocks):
        pieces = []
        for _ in range(blocks):
            out = np.empty((BLOCK, 2), np.float32)
            at_ns = self.sounds_ns(self.frame)
            self.player.render(out, self.frame, at_ns, at_ns - 80 * NS_PER_MS)
            pieces.append(out)
            self.frame += BLOCK
        return np.concatenate(pieces)


def mapping(skew_ppm=0.0, extra_ns=0):
    return ClockMapping(BEGIN, BEGIN + OFFSET + extra_ns, skew_ppm, 1000)


def course(start_local_ns=BEGIN, frame=0, **changes):
    given = {
        "timeline": Timeline((Segment(start_local_ns + OFFSET, 1, frame, TRACK),)),
        "mapping": mapping(),
        "host_epoch": 1,
    }
    return Course(**(given | changes))


def frames_heard(out):
    return out[:, 0].astype(np.float64) * FRAMES


def test_without_a_clock_there_is_silence():
    player = Player(RATE, 2, Ramp())
    player.follow(Course(course().timeline))
    assert not Card(player).play(3).any()
    assert player.state == "waiting"


@pytest.mark.parametrize("ppm", [-180.0, 0.0, 60.0])
def test_a_join_in_mid_song_is_in_phase_from_the_first_block(ppm):
    player = Player(RATE, 2, Ramp())
    player.follow(course(BEGIN - 5 * NS_PER_S))
    card = Card(player, ppm)
    heard = frames_heard(card.play(200))
    k = np.arange(600, len(heard))  # behind the fade-in
    should = (5 + k / card.rate) * RATE
    assert np.abs(heard[k] - should).max() < 1.5, "a frame and a half: float32 on a ramp of a million"
    assert player.state == "together"


def test_a_positive_output_delay_feeds_earlier():
    on_time, early = Player(RATE, 2, Ramp()), Player(RATE, 2, Ramp())
    on_time.follow(course(BEGIN - NS_PER_S))
    early.follow(course(BEGIN - NS_PER_S, delay_duration_ns=10 * NS_PER_MS))
    difference = frames_heard(Card(early).play(4)) - frames_heard(Card(on_time).play(4))
    assert difference[-1] == pytest.approx(480, abs=1), "what is late by 10 ms has to be 480 frames ahead"


def test_a_host_that_runs_fast_makes_the_track_run_fast():
    player = Player(RATE, 2, Ramp())
    player.follow(course(BEGIN - NS_PER_S, mapping=mapping(skew_ppm=200.0)))
    heard = frames_heard(Card(player).play(400))
    rate = (heard[-1] - heard[2 * BLOCK]) / (len(heard) - 1 - 2 * BLOCK)
    assert (rate - 1) * 1e6 == pytest.approx(200, abs=5)


def test_a_small_error_is_slewed_away_with_the_right_sign():
    player = Player(RATE, 2, Ramp())
    player.follow(course(BEGIN - NS_PER_S))
    card = Card(player)
    card.play(50)
    player.follow(
        course(BEGIN - NS_PER_S, mapping=mapping(extra_ns=NS_PER_MS))
    )  # the host is 1 ms ahead of what we thought
    card.play(2)
    assert player.sync_error_ns == pytest.approx(NS_PER_MS, rel=0.05), "we play what should have been: late, positive"
    assert player.correction_ppm > 0, "late means faster"
    heard = frames_heard(card.play(600))
    by_tens = np.diff(heard[::10])  # float32 on the ramp is good for half a frame
    assert by_tens.min() > 9, "never backwards"
    assert by_tens.max() < 11, "and no step"
    assert abs(player.sync_error_ns) < 30_000


def test_a_large_error_is_one_step_with_a_crossfade():
    player = Player(RATE, 2, Ramp())
    player.follow(course(BEGIN - NS_PER_S))
    card = Card(player)
    card.play(50)
    player.follow(course(BEGIN - NS_PER_S, mapping=mapping(extra_ns=100 * NS_PER_MS)))
    heard = frames_heard(card.play(3))
    assert heard[0] == pytest.approx(50 * BLOCK + RATE, abs=2), "it begins where it was"
    assert heard[-1] == pytest.approx(53 * BLOCK + RATE + 4800, abs=2), "and ends where it should be"
    assert np.abs(np.diff(heard)).max() < 40, "over 10 ms"


def test_a_late_change_of_the_time_line_is_crossed_over_too():
    player = Player(RATE, 2, Ramp())
    player.follow(course(BEGIN - NS_PER_S))
    card = Card(player)
    card.play(50)
    player.follow(course(BEGIN - NS_PER_S, frame=4 * RATE))
    heard = frames_heard(card.play(2))
    assert heard[0] == pytest.approx(50 * BLOCK + RATE, abs=500)
    assert heard[-1] == pytest.approx(52 * BLOCK + 5 * RATE, abs=2)
    assert np.abs(np.diff(heard)).max() < 1.1 + 4 * RATE / 480 * 2


def test_another_host_epoch_with_the_same_time_line_is_not_heard():
    player = Player(RATE, 2, Ramp())
    player.follow(course(BEGIN - NS_PER_S))
    card = Card(player)
    card.play(50)
    moved = 500 * NS_PER_S
    again = Timeline((Segment(BEGIN - NS_PER_S + OFFSET + moved, 1, 0, TRACK),))
    player.follow(course(timeline=again, mapping=mapping(extra_ns=moved), host_epoch=2))
    heard = frames_heard(card.play(5))
    np.testing.assert_allclose(np.diff(heard), 1.0, atol=0.6)


def test_gain_ramps_and_reaches_silence():
    player = Player(RATE, 2, Ramp())
    player.follow(course(BEGIN - 10 * NS_PER_S))
    card = Card(player)
    card.play(5)
    player.mixer.set_gain(0.0)
    out = card.play(2)[:, 0]
    assert out[0] > 0.45
    assert np.abs(np.diff(out)).max() < 1e-3
    assert out[-1] == 0.0
    assert player.mixer.silent


@pytest.mark.parametrize(
    ("choice", "expected"), [("stereo", (1.0, 3.0)), ("left", (1.0, 1.0)), ("right", (3.0, 3.0)), ("mono", (2.0, 2.0))]
)
def test_channel_choice(choice, expected):
    class Sides:
        def buffer(self, content_id):
            return self

        def read(self, first_frame, out):
            out[:] = (0.1, 0.3)
            return 0

    player = Player(RATE, 2, Sides())
    player.mixer.set_channels(choice)
    player.follow(course(BEGIN - NS_PER_S))
    out = Card(player).play(3)
    np.testing.assert_allclose(out[-1] * 10, expected, rtol=1e-5)


def test_the_lead_covers_the_buffer_and_a_block():
    player = Player(RATE, 2, Ramp())
    player.follow(course())
    Card(player).play(3)
    assert 100 * NS_PER_MS < player.lead_duration_ns < 140 * NS_PER_MS
