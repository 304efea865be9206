"""What machines do to a room: programs that die, machines that boot or sleep, another host.

Numbered scenarios: conditions, then limits (:mod:`.limits`).
"""

from __future__ import annotations

import pytest

from musicsyncd.protocol.peer import HostFound, HostLost, StateChanged

from .limits import require
from .world import World


def test_scenario_6_host_restart(seed: int) -> None:
    """The host's process dies for 3 s and goes on with the same time line: nothing is to be heard of it."""
    world = World(seed)
    for number in range(4):
        world.add_peer(f"wired {number}")
    world.at_s(1, world.host.play)
    world.at_s(10, lambda: world.host.restart(3))
    world.run(20)
    require(world.judge.verdict(2), max_us=28, p99_us=27, rms_us=9)
    for peer in world.peers.values():
        assert peer.host_clock.exchanges > 60
        assert [event.epoch for event in peer.events if isinstance(event, HostFound)] == [1, 2]
        assert [event for event in peer.events if isinstance(event, StateChanged)][-1].epoch == 2


def test_scenario_7_peer_restart(seed: int) -> None:
    """A peer's process dies for a second; it is back in phase within half a second of its start."""
    world = World(seed)
    for number in range(4):
        world.add_peer(f"wired {number}")
    world.at_s(1, world.host.play)
    world.at_s(10, lambda: world.restart_peer("wired 2", 1))
    world.run(20)
    assert world.judge.together_s("wired 2", 11, within_us=100) < 0.5
    assert world.judge.together_s("wired 2", 11, within_us=30) < 4
    require(world.judge.verdict(10, 20), max_us=80, p99_us=75, rms_us=13.5, apart_ms=300)
    others = ["wired 0", "wired 1", "wired 3"]
    require(world.judge.verdict(10, only=others), max_us=14, p99_us=14, rms_us=6)
    assert len(world.host.peers()) == 4


def test_scenario_21_a_peer_sleeps(seed: int) -> None:
    """A peer is suspended for 20 s, its clock and its card with it: in step again half a second after it wakes."""
    world = World(seed)
    others = ["wired 0", "wired 1"]
    for name in (*others, "sleeper"):
        world.add_peer(name)
    world.at_s(1, world.host.play)
    world.at_s(20, lambda: world.peers["sleeper"].sleep(20))
    world.run(60)
    assert world.judge.together_s("sleeper", 40, within_us=100) < 0.5
    require(world.judge.verdict(41), max_us=14, p99_us=14, rms_us=8)
    require(world.judge.verdict(3, only=others), max_us=16, p99_us=15, rms_us=8.5)
    assert all(info.present for info in world.host.peers())


def spread_us(world: World) -> float:
    """Return how far apart the host times are that the peers play, whatever the host's own clock shows."""
    blocks = [peer.block_at(world.now_ns) for peer in world.peers.values()]
    times = [block.host_at(world.now_ns) for block in blocks if block is not None]
    assert len(times) == len(blocks)
    return (max(times) - min(times)) / 1000


def test_scenario_22_the_host_sleeps(seed: int) -> None:
    """The host's machine is suspended for 10 s, and its clock with it: the music goes on, and then the host is right.

    The time line is in the host's time, of which these 10 s are no part. So while it sleeps all play on together,
    and when it is back they return to where its clock says that the music is: what they played alone is
    heard once more.
    """
    world = World(seed)
    for number in range(3):
        world.add_peer(f"wired {number}")
    spreads: list[float] = []
    world.at_s(1, world.host.play)
    world.at_s(20, lambda: world.host.sleep(10))
    for number in range(100):
        world.at_s(20 + number / 10, lambda: spreads.append(spread_us(world)))
    world.run(50)
    assert max(spreads) < 30
    require(world.judge.verdict(3, 20), max_us=22, p99_us=20, rms_us=7.5)
    require(world.judge.verdict(33), max_us=18, p99_us=18, rms_us=9)
    assert abs(world.judge.verdict(33).bias_us) < 30
    for peer in world.peers.values():
        assert peer.player._servo.steps == 1
        assert [type(event) for event in peer.events if isinstance(event, HostLost)] == [HostLost]


@pytest.mark.parametrize("goodbye", [True, False])
def test_scenario_23_another_host(seed: int, goodbye: bool) -> None:
    """A host leaves, with or without a word, and a second later another takes the room over, on another machine.

    The new one goes on from where the old one was. Until they follow it all play by the old one's clock: for a
    second, or as it is only missed after 5 s, for six. The two differ by 160 ppm.
    """
    world = World(seed)
    world.use_host_clock(skew_ppm=-80.0)
    for number in range(4):
        world.add_peer(f"wired {number}")
    world.at_s(1, world.host.play)
    world.at_s(20, lambda: world.change_host(1, goodbye=goodbye))
    followed_s = 23 if goodbye else 27
    world.run(45)
    require(world.judge.verdict(3, 20), max_us=22, p99_us=20, rms_us=8.5)
    # Who follows the new one already is apart by what the two clocks have drifted meanwhile.
    require(world.judge.verdict(20, followed_s), max_us=1000, p99_us=1000, rms_us=90)
    require(world.judge.verdict(followed_s), max_us=55, p99_us=45, rms_us=9)
    assert {info.present for info in world.host.peers()} == {True}
    for peer in world.peers.values():
        assert peer.node.host_address == world.host.address
        assert [type(event) for event in peer.events if isinstance(event, HostLost)] == [HostLost]


def test_scenario_32_the_host_machine_reboots(seed: int) -> None:
    """The host's machine boots: another clock. What sounded sounds until it is back, then it goes on from there."""
    world = World(seed)
    for number in range(4):
        world.add_peer(f"wired {number}")
    world.at_s(1, world.host.play)
    world.at_s(10, lambda: world.host.restart(8, reboot=True))
    world.run(30)
    require(world.judge.verdict(2, 18), max_us=26, p99_us=20, rms_us=10)
    # The new time line says silence for half a second; it is believed as soon as its clock is known.
    assert world.judge.verdict(18, 18.5).worst_apart_ms <= 300
    require(world.judge.verdict(18.5), max_us=22, p99_us=20, rms_us=9)
    for peer in world.peers.values():
        assert [type(event) for event in peer.events if isinstance(event, HostLost)] == [HostLost]
