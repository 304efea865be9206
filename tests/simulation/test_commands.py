"""What people do to a room: another speaker, pause and seek, the delay of what stands behind a speaker.

Numbered scenarios: conditions, then limits (:mod:`.limits`).
"""

from __future__ import annotations

import random
from functools import partial
from statistics import fmean

import numpy as np

from .limits import require
from .network import Faults, Wifi, Wired
from .sounds import Sine
from .world import MS, S, World


def test_scenario_4_joining_in_mid_song(seed: int) -> None:
    """A fourth peer starts while three play, and is in phase with its first sample."""
    world = World(seed)
    for number in range(3):
        world.add_peer(f"wired {number}")
    world.at_s(1, world.host.play)
    world.at_s(10, lambda: world.add_peer("late"))
    world.run(20)
    heard = [sample for sample in world.judge.samples if "late" in sample.errors_ns]
    assert heard[0].true_ns < 10.5 * S
    assert world.judge.together_s("late", 10, within_us=100) < 0.5
    assert world.judge.together_s("late", 10, within_us=30) < 4
    require(world.judge.verdict(10.5), max_us=95, p99_us=90, rms_us=20)
    require(world.judge.verdict(10, only=["wired 0", "wired 1", "wired 2"]), max_us=12, p99_us=12, rms_us=6)
    assert world.peers["late"].player._servo.steps == 0


def test_scenario_5_pause_and_seek_under_loss(seed: int) -> None:
    """Twenty seeks, pauses and resumes with 20 % loss; three peers wired, two on Wi-Fi: all at the same sample.

    All four sendings of a change, to the group and to the peer itself, must be lost for a peer to be late.
    """
    world = World(seed, faults=Faults(loss=0.2))
    for number in range(5):
        world.add_peer(f"peer {number}", link=Wired() if number < 3 else Wifi())
    world.at_s(1, world.host.play)
    dice = random.Random(seed)
    for round_ in range(20):
        at_s = 8 + 1.5 * round_
        frame = dice.randrange(20_000_000)
        world.at_s(at_s, partial(world.host.seek, frame))
        world.at_s(at_s + 0.5, world.host.pause)
        world.at_s(at_s + 1.0, world.host.resume)
    world.run(40)
    # 300 changes at peers: one that comes late with the next regular beacon is one too many, but chance.
    require(world.judge.verdict(8), max_us=350, p99_us=310, rms_us=55, apart_ms=400)
    late = [name for name, ms in world.judge.verdict(8).apart_ms.items() if ms > 20]
    assert len(late) <= 1
    assert max(world.host.leads_ns) <= 350 * MS


def lead_us(world: World, name: str, since_s: float, until_s: float) -> float:
    """Return how much earlier than the others a peer is, in the mean."""
    leads = []
    for sample in world.judge.samples:
        if since_s * S <= sample.true_ns < until_s * S and name in sample.errors_ns:
            others = fmean(error for other, error in sample.errors_ns.items() if other != name)
            leads.append((others - sample.errors_ns[name]) / 1000)
    return fmean(leads)


def sharpest_bend(samples: list[np.ndarray]) -> float:
    """Return the largest second difference of what a card got, after the first 2 s: a click of d bends by d."""
    return float(np.abs(np.diff(np.concatenate(samples)[100_000:], 2)).max())


def test_scenario_27_the_delay_of_a_speaker(seed: int) -> None:
    """A speaker is said to be late by 1 ms, 6 ms and 0 while it plays a tone: it moves by so much, without a click.

    It slews by the first and steps by the others, by 5.5 and 6.6 periods of the tone. A fade of 10 ms from one place
    of it to another bends it by up to a tenth more than the tone itself does.
    """
    tone = Sine(48_000 * 60, 1100.0)
    world = World(seed)
    for name in ("left", "right", "moved"):
        world.add_peer(name, sources=tone)
        world.peers[name].card.recorded = []
    moved = world.peers["moved"]
    world.at_s(1, lambda: world.host.play(track=tone.track))
    for number, delay_ms in enumerate((1.0, 6.0, 0.0)):
        world.at_s(10 + 10 * number, partial(world.host.set_delay, "moved", delay_ms))
    steps = []
    for until_s in (10, 20, 30, 40):
        world.run(until_s)
        steps.append(moved.player._servo.steps)
    assert steps == [0, 0, 1, 2]
    for since_s, delay_ms in ((18, 1.0), (28, 6.0), (38, 0.0)):
        assert abs(lead_us(world, "moved", since_s, since_s + 2) - 1000 * delay_ms) < 15
    require(world.judge.verdict(3, 10), max_us=22, p99_us=20, rms_us=10.5)
    require(world.judge.verdict(38), max_us=12, p99_us=12, rms_us=9)
    require(world.judge.verdict(3, only=["left", "right"]), max_us=21, p99_us=19, rms_us=8.5)
    for peer in world.peers.values():
        assert peer.card.recorded is not None
        assert sharpest_bend(peer.card.recorded) <= 1.12 * tone.AMPLITUDE * tone.step**2
