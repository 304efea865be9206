"""The simulation itself: that the judge is right, that a machine's clock is one, and that a seed fixes everything."""

from __future__ import annotations

import dataclasses
import random

import pytest

from .card import Crystal
from .limits import require
from .machine import MachineClock
from .network import Faults, Wifi, Wired
from .sounds import Sawtooth
from .world import S, World


def test_the_samples_are_where_the_judge_says(seed: int) -> None:
    """Real samples through the resampler tell their own position: within 0.5 µs of what the judge took it for."""
    recording = Sawtooth(48_000 * 20)
    period = recording.PERIOD
    world = World(seed)
    for number in range(2):
        world.add_peer(f"real {number}", sources=recording, crystal=Crystal(ppm=150.0 * number - 75))
    world.at_s(1, lambda: world.host.play(track=recording.track))
    differences = []

    def compare() -> None:
        for peer in world.peers.values():
            block = peer.block_at(world.now_ns)
            assert block is not None
            assert block.course is not None
            (segment,) = block.course.timeline.segments
            made_for_frame = (block.host_ns - segment.start_host_ns) * 48e-6
            phase = made_for_frame % period
            # Around each fall of the teeth the resampler rings.
            if 100 < phase < period - 100:
                differences.append((block.first_sample / recording.PEAK * period - phase) / 48e-3)

    for step in range(700):
        world.at_s(2 + step / 100, compare)
    world.run(9)
    assert len(differences) > 1000
    assert max(map(abs, differences)) < 0.5
    require(world.judge.verdict(2), max_us=21, p99_us=20, rms_us=12)


def test_the_judge_hears_what_no_peer_can_know(seed: int) -> None:
    """A path that is 400 µs longer one way shifts its peer by 200 µs: unseen by its clock, heard by the judge."""

    @dataclasses.dataclass
    class Lopsided(Wired):
        def up_ns(self, dice: random.Random) -> float:
            return 400_000 + super().up_ns(dice)

        def down_ns(self, dice: random.Random, true_ns: int, multicast: bool) -> float:
            return super().up_ns(dice)

    world = World(seed)
    world.add_peer("even")
    world.add_peer("lopsided", link=Lopsided())
    world.at_s(1, world.host.play)
    world.run(8)
    verdict = world.judge.verdict(3)
    assert verdict.rms_us == pytest.approx(200, abs=15)
    # The probe seems to arrive later than it did, so the host seems ahead, and the peer plays early.
    assert verdict.bias_us == pytest.approx(-100, abs=10)


def test_the_same_seed_gives_the_same_trace(seed: int) -> None:
    """Every datagram and everything heard is the same, in the same order; another seed's is not."""

    def trace(of_seed: int) -> str:
        world = World(of_seed, faults=Faults(loss=0.1, doubled=0.05, reordered=0.05))
        world.add_peer("wired")
        world.add_peer("wifi", link=Wifi(), crystal=Crystal(hiccups_per_s=1.0))
        world.at_s(1, world.host.play)
        world.at_s(2, lambda: world.host.seek(96_000))
        world.at_s(3, lambda: world.restart_peer("wifi", 0.5))
        world.at_s(3.2, lambda: world.host.restart(0.5))
        world.run(5)
        return world.trace

    assert trace(seed) == trace(seed)
    assert trace(seed) != trace(seed + 1)


def test_a_clock_that_is_slewed_and_stopped() -> None:
    """100 ppm for ten seconds make a millisecond; while it stands still it shows one time, and its inverse holds."""
    clock = MachineClock(random.Random(1), offset_ns=7, skew_ppm=20.0)
    plain = MachineClock(random.Random(1), offset_ns=7, skew_ppm=20.0)
    clock.slew(10 * S, 10 * S, 100.0)
    clock.stop(30 * S, 5 * S)
    ahead_ns = [clock.local_at(second * S) - plain.local_at(second * S) for second in (10, 15, 20, 30)]
    assert ahead_ns == pytest.approx([0, 500_000, 1_000_000, 1_000_000], abs=1)
    assert clock.local_at(30 * S) == clock.local_at(33 * S) == clock.local_at(35 * S)
    assert clock.local_at(41 * S) - clock.local_at(40 * S) == pytest.approx(S + 20_000, abs=1)
    assert clock.slept_ns(29 * S) == 0
    assert clock.slept_ns(50 * S) == 5 * S
    for tenth in [*range(0, 300, 7), *range(351, 500, 7)]:
        true_ns = tenth * S // 10
        assert clock.true_at(clock.local_at(true_ns)) == pytest.approx(true_ns, abs=2)
