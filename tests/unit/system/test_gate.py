"""What the kernel lets through, on real sockets of this machine's loopback; and who is shut out, without a clock."""

from __future__ import annotations

import logging
import socket

import pytest
from loopback import has_ipv6

from musicsyncd.protocol.auth import MAGIC, OVERHEAD_BYTES, VERSION
from musicsyncd.protocol.wire import MAX_DATAGRAM_BYTES
from musicsyncd.system import gate as module
from musicsyncd.system.gate import Gate, attach, program
from musicsyncd.system.log import Throttle

log = logging.getLogger(__name__)
LOOPBACK = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}
BEGINNING = MAGIC + bytes([VERSION])


families = pytest.mark.parametrize("family", LOOPBACK, ids=lambda family: family.name)


def ours(size: int) -> bytes:
    return BEGINNING.ljust(size, b"x")


class Pair:
    """A socket that hears, and one that sends to it, from a certain address if need be."""

    def __init__(self, family: socket.AddressFamily) -> None:
        self.family = family
        self.heard = self._bound(LOOPBACK[family])
        self.senders: list[socket.socket] = []

    def _bound(self, address: str) -> socket.socket:
        opened = socket.socket(self.family, socket.SOCK_DGRAM)
        opened.setblocking(False)
        opened.bind((address, 0))
        return opened

    def sender(self, address: str = "") -> socket.socket:
        self.senders.append(self._bound(address or LOOPBACK[self.family]))
        return self.senders[-1]

    def passes(self, data: bytes, sender: socket.socket) -> bool:
        """Return whether a datagram arrives. On loopback it has when sending returns."""
        sender.sendto(data, self.heard.getsockname())
        try:
            return self.heard.recv(4096) == data
        except BlockingIOError:
            return False

    def close(self) -> None:
        for one in (self.heard, *self.senders):
            one.close()


@pytest.fixture
def pair(family):
    if family == socket.AF_INET6 and not has_ipv6():
        pytest.skip("this machine has no IPv6")
    made = Pair(family)
    yield made
    made.close()


@families
def test_what_may_be_ours_passes_whole_and_nothing_else_does(pair, family):
    sender = pair.sender()
    assert pair.passes(b"anything", sender)
    assert attach(pair.heard, program(family, ()))
    least = OVERHEAD_BYTES + 1
    for size in (least, 300, MAX_DATAGRAM_BYTES):
        assert pair.passes(ours(size), sender), size
    for size in (0, 1, 3, least - 1, MAX_DATAGRAM_BYTES + 1, 4000):
        assert not pair.passes(ours(size)[:size], sender), size
    for wrong in (
        b"MT" + BEGINNING[2:],
        b"NS" + BEGINNING[2:],
        MAGIC + bytes([VERSION ^ 1]),
        MAGIC + bytes([VERSION - 1]),
    ):
        assert not pair.passes(wrong.ljust(300, b"x"), sender), wrong


@families
def test_who_is_shut_out_is_not_heard_and_all_others_are(pair, family):
    sender = pair.sender()
    address = sender.getsockname()[0]
    near = ["127.0.0.2", "126.0.0.1"] if family == socket.AF_INET else ["::2", "1::1", "0:0:1::1", "::1:0:0:1"]
    foreign = ["::1%lo", "fe80::1%lo"] if family == socket.AF_INET else ["127.0.0.1"]
    assert attach(pair.heard, program(family, [*near, *foreign]))
    assert pair.passes(ours(100), sender), "others are shut out"
    assert attach(pair.heard, program(family, [*near, *foreign, f"{address}", near[0]]))
    assert not pair.passes(ours(100), sender)
    assert attach(pair.heard, program(family, []))
    assert pair.passes(ours(100), sender), "a newer filter takes the older one's place"


def test_one_of_two_neighbours_is_shut_out():
    pair = Pair(socket.AF_INET)
    bad, good = pair.sender("127.0.0.66"), pair.sender("127.0.0.67")
    attach(pair.heard, program(socket.AF_INET, ["127.0.0.66"]))
    assert not pair.passes(ours(100), bad)
    assert pair.passes(ours(100), good)
    pair.close()


@pytest.mark.parametrize("family", [socket.AF_INET6], ids=lambda family: family.name)
def test_the_longest_filter_is_one_that_the_kernel_takes(pair, family):
    shut_out = [f"2001:db8::{n:x}" for n in range(1, module.MAX_SHUT_OUT + 1)]
    assert attach(pair.heard, program(family, shut_out))
    assert pair.passes(ours(100), pair.sender())
    assert attach(pair.heard, program(family, [*shut_out[1:], "::1"]))
    assert not pair.passes(ours(100), pair.sender())


def test_a_kernel_that_takes_no_filter_is_survived():
    class Refusing:
        family = socket.AF_INET

        def setsockopt(self, *_):
            raise PermissionError

    assert not attach(Refusing(), program(socket.AF_INET, ()))
    Gate(Throttle(log)).watch(Refusing())


class Filters:
    """Takes the place of the kernel, and notes who is shut out of each socket."""

    def __init__(self, monkeypatch) -> None:
        self.now: dict[object, tuple[str, ...]] = {}
        self.times = 0
        monkeypatch.setattr(module, "program", lambda _family, shut_out: tuple(shut_out))
        monkeypatch.setattr(module, "attach", self._attach)

    def _attach(self, sock, shut_out):
        self.now[sock] = shut_out
        self.times += 1


class Sock:
    family = socket.AF_INET


@pytest.fixture
def filters(monkeypatch):
    return Filters(monkeypatch)


def test_who_sends_too_much_is_shut_out_of_all_sockets_and_let_in_again(filters, caplog):
    gate, one, two = Gate(Throttle(log)), Sock(), Sock()
    gate.watch(one)
    gate.watch(two)
    admitted = [gate.admits("192.0.2.66", 0) for _ in range(3 * module.MAX_IN_WINDOW)]
    assert admitted == [True] * module.MAX_IN_WINDOW + [False] * 2 * module.MAX_IN_WINDOW
    assert filters.now == {one: ("192.0.2.66",), two: ("192.0.2.66",)}
    assert filters.times == 4, "once for each socket, however much comes"
    assert gate.admits("192.0.2.1", 0)
    late = Sock()
    gate.watch(late)
    assert filters.now[late] == ("192.0.2.66",)
    gate.forget(two)
    gate.admits("192.0.2.1", module.SHUT_OUT_NS - 1)
    assert filters.now[one] == ("192.0.2.66",)
    gate.admits("192.0.2.1", module.SHUT_OUT_NS + module.WINDOW_NS)
    assert (filters.now[one], filters.now[two], filters.now[late]) == ((), ("192.0.2.66",), ())
    assert caplog.text.count("192.0.2.66 sends more than 2000 datagrams a second: it is not heard for 5 s") == 1


def test_a_window_ends_and_what_was_sent_in_it_is_forgotten(filters):
    gate = Gate(Throttle(log))
    for turn in range(4):
        now_ns = turn * module.WINDOW_NS
        assert all(gate.admits("192.0.2.1", now_ns) for _ in range(module.MAX_IN_WINDOW))


def test_the_sources_of_a_window_have_a_limit_and_made_up_ones_silence_nobody(filters, monkeypatch):
    monkeypatch.setattr(module, "MAX_SOURCES", 3)
    monkeypatch.setattr(module, "MAX_IN_WINDOW", 2)
    gate = Gate(Throttle(log))
    assert all(gate.admits(f"192.0.2.{n}", 0) for n in range(50))
    assert len(gate._count) == 3
    assert [gate.admits("192.0.2.0", 1) for _ in range(2)] == [True, False], "who was there first is counted"
    assert all(gate.admits("192.0.2.4", 1) for _ in range(5))


def test_of_those_shut_out_the_oldest_makes_room(filters, monkeypatch):
    monkeypatch.setattr(module, "MAX_SHUT_OUT", 2)
    monkeypatch.setattr(module, "MAX_IN_WINDOW", 1)
    gate, sock = Gate(Throttle(log)), Sock()
    gate.watch(sock)
    for n in range(4):
        gate.admits(f"192.0.2.{n}", 0)
        gate.admits(f"192.0.2.{n}", 0)
    assert filters.now[sock] == ("192.0.2.2", "192.0.2.3")
