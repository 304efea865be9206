"""When to look at a pointer that moves in steps: what is learned so, on cards whose truth is known."""

from __future__ import annotations

import pytest

from musicsyncd.playback.dac import DacLine
from musicsyncd.playback.pointer import MIN_GRAIN_FRAMES, PointerWatch
from musicsyncd.units import LocalNs

from .ticking import BLOCK_FRAMES, RATE_HZ, TickingCard

FRAME_NS = 1e9 / RATE_HZ
LINE = DacLine(0, LocalNs(10**12), FRAME_NS, 0.0)


def worst_us(card: TickingCard, since_s: float, until_s: float) -> float:
    return max(abs(look.error_ns) for look in card.looks_between(since_s, until_s)) / 1e3


@pytest.mark.parametrize("grain_frames", [48, 480])
@pytest.mark.parametrize(("ppm", "seed"), [(60.0, 1), (-40.0, 2), (20.0, 3), (3.0, 4)])
def test_phase_and_rate_of_a_card_in_steps(grain_frames: int, ppm: float, seed: int) -> None:
    card = TickingCard(ppm, grain_frames, seed)
    card.play(10)
    assert card.watch.grain_frames == grain_frames
    assert card.model.rate_ppm == pytest.approx(ppm, abs=1.0)
    assert worst_us(card, 3, 10) < 20
    card.play(40)
    assert worst_us(card, 10, 40) < 10
    assert card.model.discontinuities == 0


def test_without_keeping_blocks_back_nobody_can_know() -> None:
    """The fault that this is for: read at ticks, a step of 1 ms looks like one and the same place for 16 s."""
    card = TickingCard(60.0, 48, keeps_back=False)
    card.play(15)
    assert worst_us(card, 10, 15) > 300


def test_enough_sound_is_left_in_the_card() -> None:
    for grain_frames in (48, 480):
        card = TickingCard(25.0, grain_frames)
        card.play(10)
        assert sum(look.waits for look in card.looks) > 300
        assert min(look.held_frames for look in card.looks) > 1.5 * BLOCK_FRAMES


def test_a_short_buffer_is_left_alone() -> None:
    card = TickingCard(25.0, 48, buffer_frames=3 * BLOCK_FRAMES)
    card.play(5)
    assert card.watch.grain_frames == 48
    assert not any(look.waits for look in card.looks)


def test_with_a_fine_pointer_the_card_is_left_alone_until_it_is_about_to_ask() -> None:
    card, other = TickingCard(60.0, 1), TickingCard(60.0, 1, keeps_back=False)
    for one in (card, other):
        one.play(10)
        assert one.watch.grain_frames == 1
        assert one.model.rate_ppm == pytest.approx(60.0, abs=0.5)
        assert worst_us(one, 5, 10) < 10
    assert sum(look.waits for look in card.looks) > 400
    # No later than the one that is woken every millisecond, and woken a tenth as often.
    assert len(card.looks) == len(other.looks)
    assert card.wakes < other.wakes / 5


@pytest.mark.parametrize("grain_frames", [1, 48])
def test_interrupted_looks_move_nothing(grain_frames: int) -> None:
    """One look in fifty shows the pointer of 50 µs later (on average)."""
    card = TickingCard(-30.0, grain_frames, seed=5, early_share=0.02)
    card.play(40)
    assert min(look.error_ns for look in card.looks_between(10, 40)) > -8_000


def test_a_look_that_others_contradict_is_one_that_was_interrupted() -> None:
    watch = PointerWatch()
    looked(watch, 64, 1, late_ns=10_000.0)
    pointer = 64 * BLOCK_FRAMES
    on_the_line_ns = LINE.local_at(pointer)
    # They saw the pointer 10 µs after it came to its frame, so it comes to the next one 11 µs later at the earliest.
    assert watch.contradicts(LINE, pointer, on_the_line_ns - 15_000)
    assert not watch.contradicts(LINE, pointer, on_the_line_ns - 7_000)
    assert not watch.contradicts(LINE, pointer, on_the_line_ns + 15_000)


def test_looks_at_a_card_that_is_late_by_more_than_its_steps_contradict_nothing() -> None:
    watch = PointerWatch()
    looked(watch, 64, 1, late_ns=200_000.0)
    pointer = 64 * BLOCK_FRAMES
    assert not watch.contradicts(LINE, pointer, LINE.local_at(pointer) - 15_000)


def looked(watch: PointerWatch, looks: int, grain_frames: int, *, late_ns: float = 0.0) -> int:
    """Have a watch see a card that always asks with 4,096 frames left; return the frame after the last block."""
    for number in range(looks):
        pointer = number * BLOCK_FRAMES // grain_frames * grain_frames
        read_ns = round(LINE.local_at(pointer) + late_ns)
        watch.observe(number * BLOCK_FRAMES + 4096, pointer, read_ns)
    return looks * BLOCK_FRAMES + 4096


def test_the_step_is_known_after_some_looks_and_only_if_it_is_one() -> None:
    watch = PointerWatch()
    looked(watch, 7, 48)
    assert watch.grain_frames == 1
    watch.restart(0, ran_dry=False)
    looked(watch, 8, 48)
    assert watch.grain_frames == 48
    watch.restart(0, ran_dry=False)
    assert watch.grain_frames == 1
    looked(watch, 20, MIN_GRAIN_FRAMES - 1)
    assert watch.grain_frames == 1


def test_moves_of_whole_blocks_say_nothing_of_the_step() -> None:
    """A driver that wakes for each block shows just these."""
    watch = PointerWatch()
    looked(watch, 20, 256)
    assert watch.grain_frames == 1


def test_a_look_is_asked_for_around_the_step_after_the_card_may_ask() -> None:
    watch = PointerWatch()
    following = looked(watch, 30, 48)
    now_ns = LINE.local_at(following - 5 * BLOCK_FRAMES)
    asked = [watch.next_look_ns(LINE, following, BLOCK_FRAMES, now_ns) for _ in range(20)]
    # It has held 47 frames more than it asked with, as its pointer was that much behind.
    earliest_ns = LINE.local_at(following - 4096 - 47)
    assert all(earliest_ns - 200_000 < at_ns < earliest_ns + 2.2e6 for at_ns in asked)
    # Nothing is known of the step's place between two looks yet, so they are spread over all of one.
    assert max(asked) - min(asked) > 0.7e6


def test_after_an_underrun_it_keeps_nothing_back_for_a_minute() -> None:
    watch = PointerWatch()
    watch.restart(LINE.local_ns, ran_dry=True)
    following = looked(watch, 30, 48)
    assert watch.next_look_ns(LINE, following, BLOCK_FRAMES, LINE.local_ns + 59 * 10**9) == 0
    assert watch.next_look_ns(LINE, following, BLOCK_FRAMES, LINE.local_ns + 61 * 10**9) > 0
    watch.restart(LINE.local_ns + 61 * 10**9, ran_dry=False)
    following = looked(watch, 30, 48)
    assert watch.next_look_ns(LINE, following, BLOCK_FRAMES, LINE.local_ns + 61 * 10**9) > 0
