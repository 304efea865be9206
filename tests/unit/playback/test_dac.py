"""The card's line against cards whose truth is known."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musicsyncd.playback.dac import DacModel

RATE_HZ = 48000
BLOCK = 1024
START_NS = 90_000_000_000_000
FIRST_FRAME = 4096
FRAME_NS = 1e9 / RATE_HZ
BLOCKS_PER_S = RATE_HZ / BLOCK

Lateness = Callable[[np.random.Generator], float]


def rounding(random: np.random.Generator) -> float:
    """Whole frames: up to one late."""
    return float(random.random() * FRAME_NS)


def steps_of_10_ms(random: np.random.Generator) -> float:
    """A pointer that moves every 480 frames, read at any time."""
    return float(random.random() * 480 * FRAME_NS)


def woken_by_the_pointer(random: np.random.Generator) -> float:
    """A pointer that moves every 480 frames, read by whom its moving woke, some of them much later."""
    return float(random.exponential(100e3) + (random.random() < 0.05) * random.random() * 9e6)


class Card:
    """A card that runs ``ppm`` fast and a model that listens to it."""

    def __init__(self, ppm: float, lateness: Lateness = rounding, seed: int = 1, block: int = BLOCK) -> None:
        self.ns_per_frame = FRAME_NS / (1 + ppm * 1e-6)
        self.ppm = ppm
        self.lateness = lateness
        self.random = np.random.default_rng(seed)
        self.block = block
        self.model = DacModel(RATE_HZ)
        self.frame = FIRST_FRAME
        self.shift_ns = 0.0

    def true_ns(self, frame: int) -> float:
        return START_NS + self.shift_ns + (frame - FIRST_FRAME) * self.ns_per_frame

    def error_ns(self) -> float:
        """How much too late the model says that the next block will sound."""
        assert self.model.line is not None
        return self.model.line.local_at(self.frame) - self.true_ns(self.frame)

    def callback(self, extra_ns: float = 0.0) -> bool:
        said_ns = round(self.true_ns(self.frame) + self.lateness(self.random) + extra_ns)
        going_on = self.model.observe(self.frame, said_ns)
        self.frame += self.block
        return going_on

    def play(self, seconds: float) -> Iterator[bool]:
        for _ in range(int(seconds * RATE_HZ / self.block)):
            yield self.callback()


@pytest.mark.parametrize("ppm", [-150.0, -20.0, 30.0, 180.0, 450.0])
@pytest.mark.parametrize("block", [256, 1024])
def test_a_clean_card(ppm: float, block: int) -> None:
    card = Card(ppm, block=block)
    assert card.callback()
    for _ in range(9):
        assert card.callback()
        assert abs(card.error_ns()) < 31_000  # a frame, and a block at the rate that is not known yet
    assert all(card.play(0.5))
    assert abs(card.model.rate_ppm - ppm) < (60 if abs(ppm) < 200 else 150)
    assert all(card.play(9.5))
    assert card.model.rate_ppm == pytest.approx(ppm, abs=0.2)
    assert abs(card.error_ns()) < 1_000
    assert all(card.play(50))
    # No better than this, as a crystal that warms up is followed by forgetting what is older than some seconds.
    assert card.model.rate_ppm == pytest.approx(ppm, abs=0.05)
    assert card.model.discontinuities == 0
    line = card.model.line
    assert line is not None
    assert abs(card.error_ns()) < line.uncertainty_ns < 5_000
    assert line.ns_per_frame == pytest.approx(card.ns_per_frame, rel=1e-7)


@pytest.mark.parametrize("seed", range(4))
def test_a_pointer_in_steps_that_wakes_its_reader(seed: int) -> None:
    card = Card(120.0, woken_by_the_pointer, seed)
    assert all(card.play(10))
    assert card.model.rate_ppm == pytest.approx(120.0, abs=1.0)
    assert -1_000 < card.error_ns() < 20_000


@pytest.mark.parametrize("seed", range(4))
def test_a_pointer_in_steps_read_at_any_time(seed: int) -> None:
    """10 ms of lateness, evenly: nobody can know the rate to 1 ppm in 10 s (10 ms/470 pairs/10 s), but soon."""
    card = Card(-60.0, steps_of_10_ms, seed)
    assert all(card.play(20))
    assert card.model.rate_ppm == pytest.approx(-60.0, abs=15.0)
    assert abs(card.error_ns()) < 250_000
    assert all(card.play(39))
    assert card.model.rate_ppm == pytest.approx(-60.0, abs=2.5)
    assert abs(card.error_ns()) < 100_000


@pytest.mark.parametrize(("change_ppm", "most_us"), [(500.0, 800), (-500.0, 800), (5.0, 40), (-5.0, 40)])
def test_another_rate_is_followed(change_ppm: float, most_us: float) -> None:
    """As when NTP begins to slew the local clock, or a crystal is heated."""
    card = Card(20.0)
    assert all(card.play(30))
    before_ns, at_frames = card.ns_per_frame, card.frame - FIRST_FRAME
    card.ns_per_frame = FRAME_NS / (1 + (20.0 + change_ppm) * 1e-6)
    card.shift_ns += at_frames * (before_ns - card.ns_per_frame)
    errors_us = [abs(card.error_ns()) / 1e3 for _ in card.play(12)]
    assert max(errors_us) < most_us
    assert max(errors_us[int(10 * BLOCKS_PER_S) :]) < 5
    assert card.model.rate_ppm == pytest.approx(20.0 + change_ppm, abs=0.5)


def test_before_much_is_known_the_rate_is_not_wild() -> None:
    for seed in range(8):
        card = Card(0.0, steps_of_10_ms, seed)
        for _ in card.play(2.0):
            assert abs(card.model.rate_ppm) < 320


@pytest.mark.parametrize("at_s", [0.4, 3.0, 70.0])
@pytest.mark.parametrize("jump_ms", [21.333, 5.0, 1.0, 500.0])
def test_lost_frames_are_noticed_and_cost_nothing_afterwards(at_s: float, jump_ms: float) -> None:
    card = Card(80.0)
    assert all(card.play(at_s))
    before_ppm = card.model.rate_ppm
    card.shift_ns += jump_ms * 1e6
    noticed = [number for number, going_on in enumerate(card.play(1.0)) if not going_on]
    assert len(noticed) == 1
    assert noticed[0] < (4 if at_s >= 1 else 16)
    assert card.model.discontinuities == 1
    assert abs(card.error_ns()) < 25_000
    if at_s > 1:
        assert abs(card.model.rate_ppm - before_ppm) < 10


@pytest.mark.parametrize("jump_ms", [-21.333, -3.0])
def test_a_jump_to_earlier_is_noticed(jump_ms: float) -> None:
    card = Card(80.0)
    assert all(card.play(5.0))
    card.shift_ns += jump_ms * 1e6
    assert [card.callback() for _ in range(4)] == [True, True, True, False]
    assert abs(card.error_ns()) < 25_000


def test_lost_frames_on_a_card_of_large_steps() -> None:
    for seed in range(4):
        card = Card(80.0, steps_of_10_ms, seed)
        assert all(card.play(20.0))
        card.shift_ns += 8e6  # less than a step of the pointer: only the least of lateness tells
        assert sum(not going_on for going_on in card.play(3.0)) == 1
        assert abs(card.error_ns()) < 2e6


@pytest.mark.parametrize("extra_ms", [1.3, -1.3, 30.0, -30.0])
def test_single_outliers_move_nothing(extra_ms: float) -> None:
    card = Card(-33.0)
    assert all(card.play(5.0))
    for _ in range(20):
        assert card.callback(extra_ms * 1e6)
        for going_on in card.play(0.7):
            assert going_on
            assert abs(card.error_ns()) < 20_000
    assert card.model.discontinuities == 0


def test_an_early_outlier_among_the_first_is_forgotten() -> None:
    card = Card(20.0)
    for number in range(470):
        assert card.callback(-2e6 if number == 7 else 0.0)
    assert abs(card.error_ns()) < 2_000
    assert card.model.rate_ppm == pytest.approx(20.0, abs=0.5)


def test_told_of_an_underrun_it_begins_anew_with_the_rate_it_knew() -> None:
    card = Card(200.0)
    assert all(card.play(10.0))
    card.model.restart()
    assert card.model.line is None
    card.shift_ns += 3e6
    assert card.callback()
    assert abs(card.error_ns()) < 25_000
    assert card.model.rate_ppm == pytest.approx(200.0, abs=1.0)
    assert card.model.discontinuities == 1
    for going_on in card.play(2.0):
        assert going_on
        assert card.model.rate_ppm == pytest.approx(200.0, abs=10.0)


def test_a_counter_that_goes_back_begins_anew() -> None:
    card = Card(0.0)
    assert all(card.play(2.0))
    assert not card.model.observe(0, START_NS + 10**10)
    assert card.model.line is not None
    assert card.model.line.local_at(0) == START_NS + 10**10


@pytest.mark.parametrize("stuck_ns", [0, START_NS])
def test_without_times_of_the_card_the_callbacks_are_counted(stuck_ns: int) -> None:
    random = np.random.default_rng(3)
    card = Card(-70.0)
    answers = []
    for number in range(int(30 * BLOCKS_PER_S)):
        now_ns = round(card.true_ns(card.frame) + random.exponential(300e3) + (random.random() < 0.02) * 15e6)
        answers.append(card.model.observe(card.frame, stuck_ns, now_ns))
        card.frame += BLOCK
        assert number < 4 or card.model.counting
    assert answers.count(False) == (0 if stuck_ns == 0 else 1)
    assert all(answers[4:])
    assert abs(card.error_ns()) < 50_000
    assert card.model.rate_ppm == pytest.approx(-70.0, abs=1.0)
    # The card's own times come back, and they are believed again.
    assert list(card.play(1.0)).count(False) == 1
    assert not card.model.counting
    assert abs(card.error_ns()) < 25_000


def test_one_time_that_repeats_is_passed_over() -> None:
    card = Card(0.0)
    assert all(card.play(2.0))
    said_ns = round(card.true_ns(card.frame))
    assert card.callback()
    assert card.model.observe(card.frame, said_ns, said_ns + 10**9)
    card.frame += BLOCK
    assert all(card.play(1.0))
    assert not card.model.counting


def test_nothing_known_is_no_line() -> None:
    model = DacModel(RATE_HZ)
    assert model.observe(0, 0)
    assert model.line is None
    assert model.rate_ppm == 0.0


@settings(max_examples=60, deadline=None)
@given(
    pairs=st.lists(
        st.tuples(st.integers(-5000, 100_000), st.integers(-(10**7), 10**10), st.integers(0, 10**15)), max_size=80
    )
)
def test_nonsense_never_raises(pairs: list[tuple[int, int, int]]) -> None:
    model = DacModel(RATE_HZ)
    frame, said_ns = 0, 0
    for frames, advance_ns, now_ns in pairs:
        frame += frames
        said_ns += advance_ns
        model.observe(frame, said_ns, now_ns)
        if model.line is not None:
            assert np.isfinite(model.line.uncertainty_ns)
            assert abs(model.rate_ppm) <= 1002
