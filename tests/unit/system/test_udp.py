"""The driver of a node over real sockets on this machine's loopback."""

from __future__ import annotations

import asyncio
import socket
import struct
from dataclasses import dataclass, field

import pytest
from loopback import free_port, needs_ipv6

from musicsyncd.config import NetworkConfig
from musicsyncd.errors import ConfigError
from musicsyncd.protocol.auth import MAGIC, OVERHEAD_BYTES, VERSION
from musicsyncd.protocol.node import Outgoing
from musicsyncd.system import gate, stamps
from musicsyncd.system import udp as module
from musicsyncd.system.interfaces import Interface
from musicsyncd.system.monotonic import RealtimeBridge, now_ns
from musicsyncd.system.udp import Network
from musicsyncd.units import NS_PER_MS, NS_PER_S

GROUP = "239.255.77.99"
LO = Interface("lo", 1, socket.AF_INET, "127.0.0.1", True, False)


def ours(text: str) -> bytes:
    """Return what looks like one of our datagrams: others do not get past the kernel."""
    return MAGIC + bytes([VERSION]) + text.encode().ljust(OVERHEAD_BYTES)


def on_loopback(address: str) -> Interface:
    return Interface("lo", 1, socket.AF_INET, address, True, False)


@dataclass
class Node:
    """Notes what it is given, and sends what the test puts into ``outgoing``."""

    outgoing: list[Outgoing] = field(default_factory=list)
    received: list[tuple[bytes, tuple[str, int], int, bool]] = field(default_factory=list)
    timer_ns: int | None = None
    fired: int = 0
    stamps: str = ""
    left: dict[int, int] = field(default_factory=dict)
    known_left: list[set[int]] = field(default_factory=list)

    def receive_datagram(self, data, address, now_ns, *, multicast=False):
        self.received.append((data, address, now_ns, multicast))
        self.known_left.append(set(self.left))

    def datagrams_to_send(self, now_ns):
        sent, self.outgoing = self.outgoing, []
        return sent

    def datagram_sent(self, ticket, sent_ns):
        self.left[ticket] = sent_ns

    def next_timer_ns(self):
        return self.timer_ns

    def handle_timer(self, now_ns):
        self.fired += 1
        self.timer_ns = None


def config(port: int, interfaces: tuple[str, ...] = ("lo",), **more) -> NetworkConfig:
    return NetworkConfig(port=port, group=GROUP, interfaces=interfaces, **more)


class Rig:
    """A network under test: its node, its ports, and how often it looked for events."""

    def __init__(self, node: Node | None = None, **more) -> None:
        self.port, self.looks = free_port(), 0
        self.node = node or Node()
        self.network = Network(self.node, config(self.port, **more), port=0, on_activity=self._look)

    def _look(self) -> None:
        self.looks += 1

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self.own.getsockname()[1]

    @property
    def own(self) -> socket.socket:
        return self.network._senders[socket.AF_INET].socket

    async def __aenter__(self):
        await self.network.open()
        return self

    async def __aexit__(self, *_):
        await self.network.close()


async def until(true) -> None:
    async with asyncio.timeout(20):
        while not true():  # noqa: ASYNC110 - what is waited for happens in the kernel
            await asyncio.sleep(0.001)


def run(test) -> None:
    asyncio.run(test())


def test_what_is_sent_to_a_node_alone_arrives_with_its_sender():
    async def test():
        async with Rig() as rig:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
                other.bind(("127.0.0.1", 0))
                looks = rig.looks
                other.sendto(ours("hello"), rig.address)
                await until(lambda: rig.node.received)
                data, address, _, multicast = rig.node.received[0]
                assert (data, address, multicast) == (ours("hello"), other.getsockname(), False)
                assert rig.looks > looks

    run(test)


def test_a_packets_time_is_the_kernels_however_late_the_loop_comes_to_it():
    async def test():
        async with Rig() as rig:
            assert rig.network.stamps == rig.node.stamps == "receive"
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
                for _ in range(20):  # A stamp that is too old is not trusted, and this machine may be held up.
                    before_ns = now_ns()
                    other.sendto(ours("hello"), rig.address)
                    after_ns = now_ns()
                    while now_ns() < after_ns + 10 * NS_PER_MS:
                        pass
                    rig.network._readable(rig.own, False)
                    at_ns = rig.node.received[-1][2]
                    if before_ns - NS_PER_MS < at_ns < after_ns + NS_PER_MS:
                        return
                raise AssertionError("never was the time the packet's")

    run(test)


def test_what_is_sent_to_the_group_reaches_every_node_of_this_machine_as_multicast():
    async def test():
        async with Rig() as one, Rig() as two:
            # The same group and port for both.
            await two.network.close()
            two.network = Network(two.node, one.network._config, port=0, on_activity=two._look)
            await two.network.open()
            assert [found.name for found in one.network.joined] == ["lo"]
            one.node.outgoing = [Outgoing(ours("beacon"), None), Outgoing(ours("for you"), two.address)]
            one.network.turn()
            await until(lambda: len(two.node.received) == 2 and one.node.received)
            assert {(data, multicast) for data, _, _, multicast in two.node.received} == {
                (ours("beacon"), True),
                (ours("for you"), False),
            }
            assert {address[1] for _, address, _, _ in two.node.received} == {one.address[1]}
            assert one.node.received[0][::3] == (ours("beacon"), True)

    run(test)


def test_what_is_sent_to_another_group_on_the_same_port_is_not_heard():
    async def test():
        async with Rig() as rig:
            with (
                socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other,
                socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener,
            ):
                # Somebody else on this machine has joined that other group, so the kernel takes its packets.
                request = struct.pack("4s4s", socket.inet_aton("239.255.77.98"), socket.inet_aton("127.0.0.1"))
                listener.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
                other.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
                other.sendto(ours("foreign"), ("239.255.77.98", rig.port))
                other.sendto(ours("ours"), (GROUP, rig.port))
                await until(lambda: rig.node.received)
            assert [data for data, *_ in rig.node.received] == [ours("ours")]

    run(test)


def test_a_timer_fires_when_it_is_due_and_once():
    async def test():
        async with Rig() as rig:
            due_ns = rig.node.timer_ns = now_ns() + 5 * NS_PER_MS
            rig.network.turn()
            await until(lambda: rig.node.fired)
            assert now_ns() >= due_ns - NS_PER_MS
            await asyncio.sleep(0.01)
            assert rig.node.fired == 1

    run(test)


def test_an_earlier_timer_takes_the_place_of_a_later_one():
    async def test():
        async with Rig() as rig:
            rig.node.timer_ns = now_ns() + 3600 * NS_PER_S
            rig.network.turn()
            later = rig.network._timer
            rig.node.timer_ns = now_ns() - NS_PER_S
            rig.network.turn()
            assert later.cancelled()
            await until(lambda: rig.node.fired)

    run(test)


def test_a_turn_within_a_turn_is_part_of_it():
    """Events lead to commands, and those to turns: without a guard it would never end."""

    async def test():
        async with Rig() as rig:
            looks = rig.looks
            rig.network._on_activity = lambda: (rig._look(), rig.network.turn())
            rig.network.turn()
            assert rig.looks == looks + 1

    run(test)


def test_a_flood_does_not_keep_the_loop_from_its_other_work():
    async def test():
        async with Rig() as rig:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
                for _ in range(3 * module._MAX_RECEIVED_A_TURN):
                    other.sendto(ours("x"), rig.address)
            rig.network._readable(rig.own, False)
            assert len(rig.node.received) == module._MAX_RECEIVED_A_TURN
            await until(lambda: len(rig.node.received) == 3 * module._MAX_RECEIVED_A_TURN)

    run(test)


def test_a_sending_that_fails_is_said_and_costs_nothing_else(caplog):
    async def test():
        async with Rig() as rig:
            rig.node.outgoing = [
                Outgoing(b"x" * 70_000, ("127.0.0.1", 9)),
                Outgoing(ours("nowhere"), ("255.255.255.255", 9)),
                Outgoing(ours("well"), rig.address),
            ]
            rig.network.turn()
            await until(lambda: rig.node.received)
            assert rig.node.received[0][0] == ours("well")

    run(test)
    assert "sending to 127.0.0.1: " in caplog.text


def test_a_host_that_is_given_by_name_is_sent_to_once_its_address_is_known(monkeypatch):
    sent_to: list[str] = []
    real = module.socket_address
    monkeypatch.setattr(module, "socket_address", lambda address: sent_to.append(address[0]) or real(address))

    async def test():
        async with Rig() as rig:
            address = "localhost", rig.address[1]
            for known in (None, rig.address):
                monkeypatch.setattr(rig.network._names, "find", lambda _address, _now_ns, known=known: known)
                rig.node.outgoing = [Outgoing(ours("report"), address)]
                rig.network.turn()
            await until(lambda: rig.node.received)
            assert [data for data, *_ in rig.node.received] == [ours("report")]

    run(test)
    assert sent_to == ["127.0.0.1"], "the system must not be given a name: it would look it up, and all would wait"


def test_goodbye_is_sent_before_the_sockets_close():
    async def test():
        async with Rig() as listening:
            leaving = Rig()
            await leaving.network.open()
            leaving.node.outgoing = [Outgoing(ours("bye"), listening.address)]
            await leaving.network.close()
            await until(lambda: listening.node.received)
            assert listening.node.received[0][0] == ours("bye")

    run(test)


def test_an_interface_that_comes_goes_or_changes_is_followed(monkeypatch, caplog):
    there: list[Interface] = []
    joins: list[str] = []
    real = module.join
    monkeypatch.setattr(module, "choose", lambda _wanted: list(there))
    monkeypatch.setattr(module, "join", lambda one, network: joins.append(one.address) or real(one, network))

    async def test():
        async with Rig() as rig:
            network = rig.network
            assert network.joined == []
            there.append(LO)
            network.refresh_interfaces()
            network.refresh_interfaces()
            assert (network.joined, joins) == ([LO], ["127.0.0.1"])
            before = network._groups[LO]
            network.refresh_interfaces(rejoin=True)
            assert (network.joined, joins) == ([LO], ["127.0.0.1"] * 2)
            assert before.fileno() == -1, "only who leaves can join again"
            there[:] = [on_loopback("127.0.0.2")]  # Another address: another membership.
            network.refresh_interfaces()
            assert network.joined == there
            there.clear()
            network.refresh_interfaces()
            assert network.joined == []

    run(test)
    assert "no network interface carries the group" in caplog.text


def test_the_group_is_joined_again_only_while_nothing_is_heard_of_it(monkeypatch):
    monkeypatch.setattr(module, "_INTERFACES_EVERY_S", 0.005)
    monkeypatch.setattr(module, "_REJOIN_AFTER_S", 0.1)

    async def test():
        async with Rig() as rig:
            rejoined: list[bool] = []
            monkeypatch.setattr(rig.network, "refresh_interfaces", lambda *, rejoin=False: rejoined.append(rejoin))
            await until(lambda: True in rejoined)
            # What is heard counts as of the moment it is heard: far ahead here, so that no delay can matter.
            rig.network._group_heard_ns = now_ns() + 3600 * NS_PER_S
            rejoined.clear()
            await until(lambda: len(rejoined) > 30)
            assert True not in rejoined
            rig.node.outgoing.append(Outgoing(ours("to all"), None))
            rig.network.turn()
            await until(lambda: rig.network._group_heard_ns < now_ns() + NS_PER_S)

    run(test)


def test_what_the_kernel_tells_of_interfaces_is_looked_at_at_once_and_together(monkeypatch):
    monkeypatch.setattr(module, "_CHANGES_TOGETHER_S", 0.01)
    monkeypatch.setattr(module, "_INTERFACES_EVERY_S", 3600.0)
    kernel, events = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    events.setblocking(False)
    monkeypatch.setattr(module.route_events, "open_route_events", lambda: events)

    async def test():
        async with Rig() as rig:
            looks: list[bool] = []
            monkeypatch.setattr(rig.network, "refresh_interfaces", lambda *, rejoin=False: looks.append(rejoin))
            for _ in range(10):
                kernel.send(b"a link has changed")
            await until(lambda: looks)
            assert looks == [False]
            kernel.send(b"a link has changed")
            await until(lambda: len(looks) == 2)
            kernel.close()  # It tells no more; that is no reason to look without end.
            monkeypatch.setattr(module.route_events, "take", lambda _events: False)
            events_gone = rig.network._interfaces_changed
            events_gone()
            assert rig.network._route_events is None
            assert events.fileno() == -1

    run(test)


def test_without_the_kernels_word_interfaces_are_looked_at_often(monkeypatch):
    monkeypatch.setattr(module.route_events, "open_route_events", lambda: None)
    monkeypatch.setattr(module, "_INTERFACES_UNTOLD_EVERY_S", 0.001)

    async def test():
        async with Rig() as rig:
            looks: list[bool] = []
            monkeypatch.setattr(rig.network, "refresh_interfaces", lambda *, rejoin=False: looks.append(rejoin))
            await until(lambda: len(looks) > 3)

    run(test)


@needs_ipv6
def test_ipv6_is_heard_and_sent_from_with_stamps_as_ipv4_is():
    async def test():
        async with Rig() as rig:
            port = rig.network._senders[socket.AF_INET6].socket.getsockname()[1]
            for ticket in range(100, 120):  # A stamp is not trusted while this machine is held up.
                rig.node.outgoing = [Outgoing(ours("probe"), ("::1", port), ticket)]
                before_ns = now_ns()
                rig.network.turn()
                after_ns = now_ns()
                await until(lambda: rig.node.received)
                assert rig.node.received.pop()[1] == ("::1", port)
                if ticket in rig.node.left:
                    assert before_ns <= rig.node.left[ticket] <= after_ns
            assert len(rig.node.left) > 10
            assert rig.network.stamps == "kernel"

    run(test)


def test_of_the_copies_for_the_group_the_first_is_the_one_that_is_stamped(monkeypatch):
    there = [LO, on_loopback("127.0.0.2")]
    monkeypatch.setattr(module, "choose", lambda _wanted: there)

    async def test():
        async with Rig() as rig:
            asked: list[int] = []
            sends = rig.network._send_stamps[socket.AF_INET]
            real = sends.send
            monkeypatch.setattr(sends, "send", lambda data, to, ticket: asked.append(ticket) or real(data, to, ticket))
            rig.node.outgoing = [Outgoing(ours("beacon"), None, 7)]
            rig.network.turn()
            await until(lambda: len(rig.node.received) == 4)  # Both sockets are on the one loopback.
            assert asked == [7]

    run(test)


def test_a_family_that_is_not_there_is_said_and_costs_nothing_else(caplog):
    async def test():
        async with Rig() as rig:
            six = rig.network._senders.pop(socket.AF_INET6)
            rig.node.outgoing = [Outgoing(ours("well"), ("::1", 9)), Outgoing(ours("well"), rig.address)]
            rig.network.turn()
            await until(lambda: rig.node.received)
            rig.network._senders[socket.AF_INET6] = six

    run(test)
    assert "sending to ::1: Address family not supported" in caplog.text


def test_what_cannot_be_ours_does_not_wake_anybody():
    async def test():
        async with Rig() as rig:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
                looks = rig.looks
                for _ in range(100):
                    other.sendto(b"junk", rig.address)
                    other.sendto(b"junk" * 20, (GROUP, rig.port))
                other.sendto(ours("at last"), rig.address)
                await until(lambda: rig.node.received)
            assert [data for data, *_ in rig.node.received] == [ours("at last")]
            assert rig.looks == looks + 1

    run(test)


def test_a_source_that_floods_is_not_opened_and_others_are(monkeypatch, caplog):
    monkeypatch.setattr(gate, "MAX_IN_WINDOW", 20)

    async def test():
        async with Rig() as rig:
            with (
                socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bad,
                socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as good,
            ):
                bad.bind(("127.0.0.66", 0))
                for _ in range(60):
                    bad.sendto(ours("junk"), rig.address)
                good.sendto(ours("well"), rig.address)
                await until(lambda: rig.node.received and rig.node.received[-1][0] == ours("well"))
                assert len(rig.node.received) == 21
                for _ in range(60):
                    bad.sendto(ours("junk"), rig.address)
                good.sendto(ours("well again"), rig.address)
                rig.network._readable(rig.own, False)
                assert len(rig.node.received) == 22, "the kernel does not even hand it over"

    run(test)
    assert "127.0.0.66 sends more than" in caplog.text


def test_an_interface_on_which_the_group_cannot_be_joined_is_tried_again(monkeypatch, caplog):
    gone = Interface("gone0", 77777, socket.AF_INET, "192.0.2.77", False, True)
    monkeypatch.setattr(module, "choose", lambda _wanted: [gone])

    async def test():
        async with Rig() as rig:
            assert rig.network.joined == []
            monkeypatch.setattr(module, "choose", lambda _wanted: [LO])
            rig.network.refresh_interfaces()
            assert rig.network.joined == [LO]

    run(test)
    assert "cannot join the group on gone0 (192.0.2.77): " in caplog.text


def test_multicast_stays_on_the_network_it_is_on():
    async def test():
        async with Rig() as rig:
            own = rig.own
            assert own.getsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL) == 1
            assert own.getsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP) == 1
        async with Rig(ttl=3) as rig:
            assert rig.own.getsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL) == 3

    run(test)


@pytest.mark.parametrize(("taken", "what"), [("0.0.0.0", "port"), (GROUP, f"{GROUP}:")])
def test_a_port_that_another_program_has_is_one_line_and_nothing_stays_open(taken, what):
    async def test():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.bind((taken, 0))
            port = other.getsockname()[1]
            own_port = port if taken == "0.0.0.0" else 0
            network = Network(Node(), config(port), port=own_port, on_activity=lambda: None)
            with pytest.raises(ConfigError, match=rf"^cannot use UDP {what} ?{port}: Address already in use; choose"):
                await network.open()
            await network.close()  # As the daemons do, whatever happened.

    run(test)


def test_the_kernel_says_when_a_datagram_left_of_those_that_ask():
    async def test():
        async with Rig() as rig:
            for ticket in range(100, 120):  # A stamp is not trusted while this machine is held up.
                rig.node.outgoing = [Outgoing(ours("beacon"), None), Outgoing(ours("report"), rig.address)]
                rig.network.turn()
                rig.node.outgoing = [Outgoing(ours("probe"), rig.address, ticket)]
                before_ns = now_ns()
                rig.network.turn()
                after_ns = now_ns()
                if ticket in rig.node.left:
                    assert before_ns <= rig.node.left[ticket] <= after_ns
            assert len(rig.node.left) > 10
            assert rig.network.stamps == rig.node.stamps == "kernel"

    run(test)


def test_a_stamp_that_is_left_on_the_error_queue_wakes_the_loop_once():
    async def test():
        async with Rig() as rig:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
                other.bind(("127.0.0.1", 0))
                sends = rig.network._send_stamps[socket.AF_INET]
                sends.send(ours("probe"), other.getsockname(), 7)  # Nobody collects after it.
                await until(lambda: not sends._pending)
                looks = rig.looks
                await asyncio.sleep(0.02)
                assert rig.looks == looks, "it must not spin"

    run(test)


def test_a_stamp_is_told_before_the_answer_that_came_in_the_meantime():
    async def test():
        async with Rig() as rig:
            for ticket in range(20):  # A stamp is not trusted while this machine is held up.
                rig.network._send_stamps[socket.AF_INET].send(ours("to itself"), rig.address, ticket)
                rig.network._readable(rig.own, False)
            assert sum(ticket in left for ticket, left in enumerate(rig.node.known_left)) > 10

    run(test)


def test_a_sending_that_fails_does_not_mix_up_the_stamps():
    async def test():
        async with Rig() as rig:
            for ticket in range(0, 40, 4):
                rig.node.outgoing = [
                    Outgoing(ours("well"), rig.address, ticket),
                    Outgoing(b"x" * 70_000, rig.address, ticket + 1),
                    Outgoing(ours("nowhere"), ("255.255.255.255", 9), ticket + 2),
                    Outgoing(ours("well"), rig.address, ticket + 3),
                ]
                rig.network.turn()
            assert {ticket % 4 for ticket in rig.node.left} == {3}, "what was not collected yet is given up"
            assert len(rig.node.left) > 5

    run(test)


class Mute:
    """A socket whose driver gives no send stamps, or whose kernel has none."""

    def __init__(self, refuses: bool) -> None:
        self.refuses, self.sent, self.options = refuses, [], 0

    def setsockopt(self, *_):
        if self.refuses:
            raise PermissionError
        self.options += 1

    def sendto(self, data, _address):
        self.sent.append(data)

    def sendmsg(self, parts, *_):
        if b"fails" in parts:
            raise PermissionError
        self.sent += parts

    def recvmsg(self, *_):
        raise BlockingIOError


def test_a_driver_that_gives_no_send_stamps_is_known_after_five(monkeypatch):
    clock = [NS_PER_S]
    monkeypatch.setattr(stamps, "now_ns", lambda: clock[0])
    sends = stamps.SendStamps(sock := Mute(refuses=False), RealtimeBridge())
    for sent in range(1, 8):
        sends.send(b"probe", ("127.0.0.1", 9), sent)
        clock[0] += 201 * NS_PER_MS
        assert sends.collect() == []
        assert (sends.is_refused, sends.works) == (sent >= 5, False)
    assert len(sock.sent) == 7


def test_after_a_sending_that_failed_numbers_begin_anew():
    """Kernels differ in whether they count it."""
    sends = stamps.SendStamps(sock := Mute(refuses=False), RealtimeBridge())
    sends.send(b"well", ("127.0.0.1", 9), 1)
    options = sock.options
    with pytest.raises(PermissionError):
        sends.send(b"fails", ("127.0.0.1", 9), 2)
    assert sock.options == 2 * options
    sends.send(b"well", ("127.0.0.1", 9), 3)
    assert [(number, ticket) for number, (ticket, _) in sends._pending.items()] == [(0, 3)]


def test_sendings_that_wait_for_their_stamps_have_a_limit(monkeypatch):
    monkeypatch.setattr(stamps, "_MAX_PENDING", 3)
    sends = stamps.SendStamps(Mute(refuses=False), RealtimeBridge())
    for ticket in range(5):
        sends.send(b"probe", ("127.0.0.1", 9), ticket)
    assert [ticket for ticket, _ in sends._pending.values()] == [2, 3, 4]


def test_a_kernel_without_send_stamps_is_said_once_and_all_is_sent(monkeypatch, caplog):
    caplog.set_level("INFO")
    mute = Mute(refuses=True)
    real = stamps.SendStamps
    monkeypatch.setattr(stamps, "SendStamps", lambda _sock, bridge: real(mute, bridge))

    async def test():
        async with Rig() as rig:
            for ticket in range(3):
                rig.node.outgoing = [Outgoing(ours("probe"), rig.address, ticket)]
                rig.network.turn()
            assert rig.network.stamps == rig.node.stamps == "receive"

    run(test)
    assert mute.sent == [ours("probe")] * 3
    assert caplog.text.count("does not say when datagrams leave") == 1


def test_stamps_that_the_kernel_does_not_give_are_taken_here():
    network = Network(Node(), config(free_port()), port=0, on_activity=lambda: None)
    before_ns = now_ns()
    strange = [(socket.SOL_SOCKET, stamps._SO_TIMESTAMPNS, b"short"), (socket.IPPROTO_IP, 1, bytes(16))]
    for control in ([], strange, [(socket.SOL_SOCKET, stamps._SO_TIMESTAMPNS, struct.pack("@ll", 0, 0))]):
        assert before_ns <= network._arrival_ns(control) <= now_ns()
