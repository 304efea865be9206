"""What machines' clocks do to a room: crystals that are off, wander and warm up, and NTP that slews them.

Numbered scenarios: conditions, then limits (:mod:`.limits`).
"""

from __future__ import annotations

from .card import Crystal
from .limits import require
from .world import S, World


def test_scenario_9_host_clock_200_ppm_fast(seed: int) -> None:
    """The host's crystal is 200 ppm fast, a peer's 100 ppm slow, another's changes by 0.1 ppm a second for 20 s."""
    world = World(seed)
    world.use_host_clock(skew_ppm=200.0)
    world.add_peer("slow", skew_ppm=-100.0, crystal=Crystal(ppm=100.0))
    world.add_peer("warming", ramp_ppm_per_s=0.1, crystal=Crystal(ppm=-100.0))
    world.add_peer("plain")
    world.at_s(1, world.host.play)
    world.run(60)
    require(world.judge.verdict(0, 3), max_us=22, p99_us=20, rms_us=14)
    require(world.judge.verdict(3), max_us=20, p99_us=18, rms_us=6)
    assert abs(world.peers["slow"].host_clock.skew_ppm - 300.0) < 2.0
    assert abs(world.peers["slow"].player.dac.rate_ppm - 200.0) < 2.0


def test_scenario_14_everything_wanders(seed: int) -> None:
    """The clocks of host and peers and the crystals of the cards walk by 0.05 ppm a second: 0.4 ppm in a minute."""
    world = World(seed)
    world.use_host_clock(walk_ppm=0.05)
    for number in range(4):
        world.add_peer(f"restless {number}", walk_ppm=0.05, crystal=Crystal(ppm=40.0 * number - 60, walk_ppm=0.05))
    world.at_s(1, world.host.play)
    world.run(90)
    require(world.judge.verdict(3, 10), max_us=24, p99_us=20, rms_us=9)
    require(world.judge.verdict(10), max_us=30, p99_us=25, rms_us=11)


def test_scenario_15_everything_warms_up(seed: int) -> None:
    """From the start boards warm by 0.06 ppm a second for 3 minutes, cards by 20 ppm: two each way."""
    world = World(seed)
    for number in range(4):
        sign = 1 - number % 2 * 2
        peer = world.add_peer(f"warming {number}", ramp_ppm_per_s=sign * 0.06, ramp_until_s=180)
        peer.card.warm(-20.0 * sign, 180)
    world.at_s(1, world.host.play)
    world.run(200)
    require(world.judge.verdict(3, 180), max_us=50, p99_us=20, rms_us=10)
    require(world.judge.verdict(180), max_us=50, p99_us=20, rms_us=10)


def test_scenario_19_ntp_slews_the_host(seed: int) -> None:
    """NTP has the host's clock run 100 ppm faster from 30 to 50 s: all follow."""
    world = World(seed)
    for number in range(4):
        world.add_peer(f"wired {number}")
    world.host.clock.slew(30 * S, 20 * S, 100.0)
    world.at_s(1, world.host.play)
    world.run(75)
    require(world.judge.verdict(3, 30), max_us=22, p99_us=20, rms_us=7)
    require(world.judge.verdict(30, 40), max_us=110, p99_us=110, rms_us=25)
    require(world.judge.verdict(40, 50), max_us=15, p99_us=15, rms_us=8)
    require(world.judge.verdict(50, 60), max_us=140, p99_us=140, rms_us=35)
    require(world.judge.verdict(60), max_us=16, p99_us=16, rms_us=8)


def test_scenario_20_ntp_slews_a_peer(seed: int) -> None:
    """NTP has one peer's clock run 500 ppm faster from 30 to 40 s and another's slower, the most that ntpd does.

    Their cards' crystals do not care, so the clock's estimate and the card's line must both find a new slope. After
    a second of it there are some probes to know it by; it was half a millisecond by then, and is undone with 300 ppm.
    """
    world = World(seed)
    others = ["wired 0", "wired 1"]
    for name in (*others, "faster", "slower"):
        world.add_peer(name)
    world.peers["faster"].clock.slew(30 * S, 10 * S, 500.0)
    world.peers["slower"].clock.slew(30 * S, 10 * S, -500.0)
    world.at_s(1, world.host.play)
    world.run(70)
    require(world.judge.verdict(3, 30), max_us=17, p99_us=16, rms_us=6.5)
    require(world.judge.verdict(30, 35), max_us=1000, p99_us=1000, rms_us=470)
    require(world.judge.verdict(35, 40), max_us=100, p99_us=100, rms_us=50)
    require(world.judge.verdict(40, 45), max_us=1000, p99_us=1000, rms_us=470)
    require(world.judge.verdict(45), max_us=100, p99_us=100, rms_us=50)
    require(world.judge.verdict(3, only=others), max_us=14, p99_us=14, rms_us=8)
