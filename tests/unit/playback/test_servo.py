"""The servo: continuity, bounds, response, noise, signs."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from musicsyncd.playback.servo import MAX_CORRECTION, STEP_NS, Plan, Servo

NS_PER_FRAME = 1e9 / 48000
BLOCK = 1024
START_NS = 7_000_000_000_000
BLOCK_S = BLOCK / 48000
MAX_CORRECTION_CHANGE_PER_S = 2 * MAX_CORRECTION / 0.375
"""What a low-pass of 0.375 s leaves of a change from one bound to the other."""


def wanted_ns(frame: int, ppm: float = 0.0, offset_ns: float = 0.0) -> int:
    return START_NS + round(frame * NS_PER_FRAME * (1 + ppm * 1e-6) + offset_ns)


def run(servo: Servo, offset_ns: float, seconds: float, block: int = BLOCK) -> tuple[list[float], list[float]]:
    """Begin in phase, then move what is wanted by ``offset_ns``; return the errors and the corrections."""
    servo.plan(wanted_ns(0), NS_PER_FRAME, block)
    errors, corrections = [], []
    for number in range(1, int(seconds * 48000 / block)):
        servo.plan(wanted_ns(number * block, offset_ns=offset_ns), NS_PER_FRAME, block)
        errors.append(servo.error_ns)
        corrections.append(servo.correction_ppm)
    return errors, corrections


def test_the_first_block_begins_where_it_is_wanted() -> None:
    servo = Servo()
    assert servo.plan(START_NS + 5, 20000.25, BLOCK) == Plan(START_NS + 5, 0.0, 20000.25)  # type: ignore[arg-type]
    assert (servo.error_ns, servo.correction_ppm, servo.state, servo.steps) == (0.0, 0.0, "together", 0)


@given(
    blocks=st.lists(
        st.tuples(st.integers(-4_000_000, 4_000_000), st.floats(-500, 500), st.integers(1, 4096), st.booleans()),
        max_size=60,
    )
)
def test_blocks_join_exactly_and_the_rate_is_bounded(blocks: list[tuple[int, float, int, bool]]) -> None:
    servo = Servo()
    frame, end_ns, end_fraction_ns, steps = 0, None, 0.0, 0
    for offset_ns, ppm, frames, must_step in blocks:
        ns_per_frame = NS_PER_FRAME * (1 + ppm * 1e-6)
        plan = servo.plan(wanted_ns(frame, offset_ns=offset_ns), ns_per_frame, frames, must_step=must_step)
        frame += frames
        assert 0 <= plan.start_fraction_ns < 1
        assert abs(plan.ns_per_frame / ns_per_frame - 1) <= MAX_CORRECTION * 1.000001
        if plan.old_start_host_ns is None:
            assert end_ns is None or (plan.start_host_ns, plan.start_fraction_ns) == (end_ns, end_fraction_ns)
        else:
            steps += 1
            assert (plan.old_start_host_ns, plan.old_start_fraction_ns) == (end_ns, end_fraction_ns)
            assert must_step or abs(servo.error_ns) > STEP_NS
            assert abs(plan.old_ns_per_frame / ns_per_frame - 1) <= MAX_CORRECTION * 1.000001
            assert plan.start_host_ns == wanted_ns(frame - frames, offset_ns=offset_ns)
        assert servo.steps == steps
        end = plan.start_fraction_ns + frames * plan.ns_per_frame
        end_ns, end_fraction_ns = plan.start_host_ns + math.floor(end), end - math.floor(end)


def test_positive_is_late_and_late_reads_faster() -> None:
    """The card sounds later than it was made for: the error is positive and host time must pass faster."""
    servo = Servo()
    servo.plan(wanted_ns(0), NS_PER_FRAME, BLOCK)
    plan = servo.plan(wanted_ns(BLOCK, offset_ns=500_000), NS_PER_FRAME, BLOCK)
    assert servo.error_ns == pytest.approx(500_000, abs=2)
    assert servo.correction_ppm > 0
    assert plan.ns_per_frame > NS_PER_FRAME


@pytest.mark.parametrize("block", [128, 1024, 4096])
@pytest.mark.parametrize("offset_ns", [1_000_000, -1_000_000, 1_900_000, 100_000])
def test_an_error_goes_without_overshoot(offset_ns: int, block: int) -> None:
    servo = Servo()
    errors, corrections = run(servo, offset_ns, 15.0, block)
    sign = math.copysign(1, offset_ns)
    assert servo.steps == 0
    assert min(sign * error for error in errors) > -0.01 * abs(offset_ns)
    assert max(sign * correction for correction in corrections) <= 300.0
    assert abs(errors[-1]) < 2_000
    change = np.abs(np.diff([0.0, *corrections])) * 1e-6 / (block / 48000)
    assert np.max(change) <= MAX_CORRECTION_CHANGE_PER_S
    # 1 ms takes 3.3 s at the bound; the rest of it fades, to a tenth in 3.9 half time constants.
    reached = next(n for n, error in enumerate(errors) if abs(error) < 0.1 * abs(offset_ns)) * block / 48000
    assert reached < 3.0 + abs(offset_ns) / 300e-6 * 1e-9


def test_noise_of_the_estimates_is_not_heard() -> None:
    """3 µs four times a second: at most 2 ppm rms, and the sound moves less than the estimates."""
    random = np.random.default_rng(5)
    servo = Servo()
    offset_ns, corrections, actual_ns = 0.0, [], []
    for number in range(47 * 120):
        if number % 12 == 0:
            offset_ns = 3_000 * random.standard_normal()
        plan = servo.plan(wanted_ns(number * BLOCK, offset_ns=offset_ns), NS_PER_FRAME, BLOCK)
        if number > 470:
            corrections.append(servo.correction_ppm)
            actual_ns.append(plan.start_host_ns - wanted_ns(number * BLOCK))
    assert 0.1 < float(np.sqrt(np.mean(np.square(corrections)))) < 2.0
    assert float(np.std(actual_ns)) < 2_000


@pytest.mark.parametrize("ppm", [100.0, -100.0, 400.0])
def test_a_change_of_the_wanted_rate_leaves_no_error(ppm: float) -> None:
    servo = Servo()
    for number in range(200):
        servo.plan(wanted_ns(number * BLOCK, ppm), NS_PER_FRAME * (1 + ppm * 1e-6), BLOCK)
        assert abs(servo.error_ns) < 2
        assert abs(servo.correction_ppm) < 0.01


def test_a_large_error_is_one_step_and_has_the_old_line() -> None:
    servo = Servo()
    first = servo.plan(wanted_ns(0), NS_PER_FRAME, BLOCK)
    assert first.old_start_host_ns is None
    plan = servo.plan(wanted_ns(BLOCK, offset_ns=STEP_NS + 10), NS_PER_FRAME, BLOCK)
    assert plan.start_host_ns == wanted_ns(BLOCK, offset_ns=STEP_NS + 10)
    assert plan.old_start_host_ns == pytest.approx(wanted_ns(BLOCK), abs=1)
    assert plan.old_ns_per_frame == NS_PER_FRAME
    assert servo.error_ns == pytest.approx(STEP_NS + 10, abs=2)
    after = servo.plan(wanted_ns(2 * BLOCK, offset_ns=STEP_NS + 10), NS_PER_FRAME, BLOCK)
    assert after.old_start_host_ns is None
    assert abs(servo.error_ns) < 2
    assert servo.steps == 1


def test_told_to_step_it_steps_however_small() -> None:
    servo = Servo()
    servo.plan(wanted_ns(0), NS_PER_FRAME, BLOCK)
    plan = servo.plan(wanted_ns(BLOCK, offset_ns=-50_000), NS_PER_FRAME, BLOCK, must_step=True)
    assert plan.old_start_host_ns is not None
    assert plan.start_host_ns == wanted_ns(BLOCK, offset_ns=-50_000)


def test_restart_begins_in_phase_without_a_step() -> None:
    servo = Servo()
    servo.plan(wanted_ns(0), NS_PER_FRAME, BLOCK)
    servo.restart()
    plan = servo.plan(wanted_ns(BLOCK, offset_ns=9e9), NS_PER_FRAME, BLOCK)
    assert plan.old_start_host_ns is None
    assert plan.start_host_ns == wanted_ns(BLOCK, offset_ns=9e9)
    assert servo.steps == 0


def test_the_state_says_when_it_is_together_again() -> None:
    servo = Servo()
    servo.plan(wanted_ns(0), NS_PER_FRAME, BLOCK)
    states = []
    for number in range(1, 470):
        servo.plan(wanted_ns(number * BLOCK, offset_ns=1e6), NS_PER_FRAME, BLOCK)
        states.append(servo.state)
    assert states[0] == "catching up"
    assert states[-1] == "together"
    assert sum(a != b for a, b in itertools.pairwise(states)) == 1
