"""What networks do to a room: loss, Wi-Fi, queues, partitions, and very many peers.

Numbered scenarios: conditions, then limits (:mod:`.limits`). A pair's error is what a listener hears; *apart*
is a peer that plays something else, more than 10 ms beside, or nothing when it should.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

from musicsyncd.protocol.host import HostNode
from musicsyncd.protocol.peer import HostFound, HostLost

from .card import Crystal
from .limits import require, underruns
from .network import Faults, Loaded, Wifi, busy_wifi
from .world import HOST_AT, MS, World


def test_scenario_1_wired(seed: int) -> None:
    """Four peers on a switch."""
    world = World(seed)
    for number in range(4):
        world.add_peer(f"wired {number}")
    world.at_s(1, world.host.play)
    world.run(30)
    require(world.judge.verdict(0, 3), max_us=26, p99_us=20, rms_us=14.5)
    require(world.judge.verdict(3), max_us=22, p99_us=20, rms_us=6)
    assert underruns(world) == 0
    assert {peer.player.state for peer in world.peers.values()} == {"together"}


def test_scenario_2_a_fifth_of_all_datagrams_lost(seed: int) -> None:
    """Six wired peers, 20 % loss each way, 2 % doubled, 2 % held up for 5 ms."""
    world = World(seed, faults=Faults(loss=0.2, doubled=0.02, reordered=0.02))
    for number in range(6):
        world.add_peer(f"lossy {number}")
    world.at_s(1, world.host.play)
    world.run(30)
    require(world.judge.verdict(2, 5), max_us=35, p99_us=35, rms_us=14)
    require(world.judge.verdict(5), max_us=25, p99_us=20, rms_us=6)
    assert all(0.15 < info.report.clock.loss < 0.55 for info in world.host.peers())
    assert all(info.present for info in world.host.peers())


def test_scenario_3_wifi_that_holds_multicast_back(seed: int) -> None:
    """Two peers on quiet Wi-Fi, two on busy Wi-Fi, multicast only every 102.4 ms, 1 % loss."""
    world = World(seed, faults=Faults(loss=0.01))
    for number, link in enumerate((Wifi(), Wifi(), busy_wifi(), busy_wifi())):
        world.add_peer(f"wifi {number}", link=link)
    world.at_s(1, world.host.play)
    world.at_s(20, lambda: world.host.seek(480_000))
    world.run(60)
    require(world.judge.verdict(0, 10), max_us=500, p99_us=490, rms_us=160)
    require(world.judge.verdict(10, 30), max_us=280, p99_us=250, rms_us=100)
    require(world.judge.verdict(30), max_us=130, p99_us=130, rms_us=45)
    assert all(info.reach == "multicast" for info in world.host.peers())


def test_scenario_8_partition(seed: int) -> None:
    """Two of four peers are cut off for 30 s, one while its board warms up: the music goes on."""
    world = World(seed)
    for number in range(4):
        world.add_peer(f"wired {number}", walk_ppm=0.02, ramp_ppm_per_s=0.02 if number == 1 else 0.0)
    cut = {peer.address for peer in list(world.peers.values())[:2]}
    world.at_s(1, world.host.play)
    world.at_s(30, lambda: world.network.cut_off.update(cut))
    world.at_s(60, world.network.cut_off.clear)
    world.run(75)
    require(world.judge.verdict(3, 30), max_us=22, p99_us=20, rms_us=6)
    require(world.judge.verdict(30, 60), max_us=25, p99_us=20, rms_us=12)
    require(world.judge.verdict(62), max_us=20, p99_us=20, rms_us=8)
    for number, peer in enumerate(world.peers.values()):
        kinds = [type(event) for event in peer.events if isinstance(event, HostFound | HostLost)]
        assert kinds == ([HostFound, HostLost, HostFound] if number < 2 else [HostFound])
    assert all(info.present for info in world.host.peers())


def test_scenario_10_a_hundred_peers(seed: int) -> None:
    """The host's traffic to the group does not depend on their number, and each has less than 2 kB a second."""
    world = World(seed)
    world.judge.interval_ns = 50 * MS
    for number in range(100):
        ppm = world.dice(f"{number}").uniform(-80, 80)
        world.add_peer(f"{number:03}", crystal=Crystal(ppm=ppm, block_frames=2048, blocks=3))
    world.at_s(2, world.host.play)
    world.run(7)
    before = world.network.sent_bytes.copy()
    world.run(12)
    require(world.judge.verdict(0, 5), max_us=30, p99_us=30, rms_us=7.5)
    require(world.judge.verdict(5), max_us=20, p99_us=20, rms_us=5)
    sent = world.network.sent_bytes - before
    beacon_bytes = 4 * 5 * 250
    assert sent[HOST_AT, "multicast"] <= beacon_bytes
    of_peers = sum(count for (address, _), count in sent.items() if address != HOST_AT)
    assert (sent[HOST_AT, "unicast"] + of_peers) / 100 / 5 <= 2000
    assert len(world.host.peers()) == 100
    assert all(info.present for info in world.host.peers())


def test_scenario_13_no_multicast(seed: int) -> None:
    """One peer is told the host's address and hears no multicast at all; all are in step and change together."""
    world = World(seed)
    for number in range(2):
        world.add_peer(f"wired {number}")
    deaf = world.add_peer("deaf", hosts=(HOST_AT,))
    world.network.deaf.add(deaf.address)
    world.at_s(1, world.host.play)
    world.at_s(10, lambda: world.host.seek(1_000_000))
    world.run(20)
    require(world.judge.verdict(1), max_us=22, p99_us=20, rms_us=8.5)
    reach = {info.report.name: info.reach for info in world.host.peers()}
    assert reach == {"wired 0": "multicast", "wired 1": "multicast", "deaf": "unicast"}


def test_scenario_16_a_queue_on_the_way_up(seed: int) -> None:
    """One peer's way up is loaded from 20 to 40 s, 1 ms in the mean, the way down is not: it does not move.

    Whoever took the middle of a probe's two ways would play half a millisecond early meanwhile.
    """
    world = World(seed)
    link = Loaded()
    world.add_peer("even")
    world.add_peer("calm")
    world.add_peer("loaded", link=link)

    def load(queue_ns: float) -> None:
        link.queue_ns = queue_ns

    world.at_s(1, world.host.play)
    world.at_s(20, lambda: load(MS))
    world.at_s(40, lambda: load(0.0))
    world.run(60)
    require(world.judge.verdict(3, 20), max_us=20, p99_us=19, rms_us=8.5)
    require(world.judge.verdict(20, 40), max_us=13, p99_us=13, rms_us=7)
    require(world.judge.verdict(40), max_us=13, p99_us=13, rms_us=7.5)


def test_scenario_17_multicast_every_third_beacon(seed: int) -> None:
    """Wi-Fi whose access point keeps multicast for up to 307 ms, and 3 % loss; two of four peers have it busy.

    Changes go by unicast as well, so a seek is in time although its multicast is not.
    """
    world = World(seed, faults=Faults(loss=0.03))
    for number in range(4):
        busy = number >= 2
        link = Wifi(busy_up=0.15 if busy else 0.02, busy_down=0.35 if busy else 0.05, dtim_ns=307_200_000)
        world.add_peer(f"wifi {number}", link=link)
    world.at_s(1, world.host.play)
    for number in range(5):
        world.at_s(20 + 2 * number, lambda: world.host.seek(480_000))
    world.run(60)
    require(world.judge.verdict(0, 10), max_us=500, p99_us=500, rms_us=180)
    require(world.judge.verdict(10, 30), max_us=340, p99_us=340, rms_us=95)
    require(world.judge.verdict(30), max_us=160, p99_us=160, rms_us=45)
    assert all(info.reach == "multicast" for info in world.host.peers())


def test_scenario_18_two_fifths_of_all_datagrams_lost(seed: int) -> None:
    """Four wired peers, 40 % loss each way: one probe in three is answered, and that is enough."""
    world = World(seed, faults=Faults(loss=0.4))
    for number in range(4):
        world.add_peer(f"lossy {number}")
    world.at_s(2, world.host.play)
    world.run(40)
    require(world.judge.verdict(3, 8), max_us=35, p99_us=35, rms_us=16.5)
    require(world.judge.verdict(8), max_us=30, p99_us=29, rms_us=9.5)
    assert all(0.5 < info.report.clock.loss < 0.8 for info in world.host.peers())
    assert all(info.present for info in world.host.peers())


def count_work(node: HostNode) -> Counter[str]:
    """Count the lines that a host's five calls run from now on, loops included: its work, on a machine of any speed."""
    work: Counter[str] = Counter()

    def note(_frame: object, event: str, _argument: object) -> Any:
        work[event] += 1
        return note

    def counted(what: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            before = sys.gettrace()
            sys.settrace(note)
            try:
                return what(*arguments, **named)
            finally:
                sys.settrace(before)

        return call

    for name in ("receive_datagram", "datagrams_to_send", "datagram_sent", "next_timer_ns", "handle_timer"):
        setattr(node, name, counted(getattr(node, name)))
    return work


def test_scenario_30_a_thousand_peers(seed: int) -> None:
    """A thousand peers come back at once, as after a power cut; three of them are heard.

    The host says to the group what it would say to one, and each of the others costs it the same few datagrams
    and steps a second as among a hundred: it has them ask for the time once a second instead of eight times,
    so they know it less well. A change reaches all of them in a second.
    """
    world = World(seed)
    world.judge.interval_ns = 50 * MS
    for number in range(3):
        world.add_peer(f"heard {number}")
    for number in range(997):
        world.add_extra(f"{number}")
    world.at_s(1, world.host.play)
    world.run(6)
    before = world.network.sent_bytes.copy()
    work = count_work(world.host.node)
    world.run(8)
    sent = world.network.sent_bytes - before
    assert work["line"] / 1000 / 2 <= 1000, work
    world.at_s(8, lambda: world.host.seek(960_000))
    world.run(9)
    require(world.judge.verdict(3, 8), max_us=26, p99_us=25, rms_us=14)
    require(world.judge.verdict(8), max_us=20, p99_us=20, rms_us=13)
    beacon_bytes = 4 * 2 * 250
    assert sent[HOST_AT, "multicast"] <= beacon_bytes
    of_peers = [count for (address, _), count in sent.items() if address != HOST_AT]
    assert max(of_peers) / 2 <= 1200
    assert sent[HOST_AT, "unicast"] / 1000 / 2 <= 800
    assert {extra.revision for extra in world.extras} == {3}
    assert sum(info.present for info in world.host.peers()) == 1000
    assert not {"too many probes", "too many peers"} & set(world.host.node.dropped)
