"""Addresses and sockets of both families, on this machine's loopback. Networks with IPv6 groups are in tests/e2e."""

from __future__ import annotations

import errno
import select
import socket

import pytest
from loopback import free_port, needs_ipv6

from musicsyncd.config import NetworkConfig
from musicsyncd.errors import ConfigError
from musicsyncd.system import multicast as module
from musicsyncd.system.interfaces import Interface
from musicsyncd.system.multicast import Asker, Sender, address_of, family_of, in_turns, join, senders, socket_address

LO_INDEX = socket.if_nametoindex("lo")
LO = Interface("lo", LO_INDEX, socket.AF_INET, "127.0.0.1", True, False)
GONE = Interface("gone0", 77777, socket.AF_INET, "192.0.2.1", False, True)


@pytest.fixture
def network():
    return NetworkConfig(port=free_port(), group="239.255.77.98", interfaces=("lo",), ttl=3)


@pytest.fixture
def opened(network):
    made = senders(network, 0)
    yield {sender.family: sender for sender in made}
    for sender in made:
        sender.socket.close()


@pytest.mark.parametrize(
    ("found", "address"),
    [
        (("192.0.2.1", 7783), ("192.0.2.1", 7783)),
        (("2001:db8::1", 7783, 0, 0), ("2001:db8::1", 7783)),
        (("fe80::1", 7783, 0, LO_INDEX), ("fe80::1%lo", 7783)),
    ],
)
def test_an_address_is_text_and_port_and_the_text_has_the_zone(found, address):
    assert address_of(found) == address
    assert socket_address(address) == found
    assert family_of(address) == (socket.AF_INET6 if len(found) == 4 else socket.AF_INET)


def test_a_zone_that_is_not_there_is_an_error_of_the_network():
    with pytest.raises(OSError, match=r"interface|No such device"):  # The latter since Python 3.14.
        socket_address(("fe80::1%gone0", 7783))
    with pytest.raises(OSError):  # noqa: PT011 - what it says is the kernel's
        address_of(("fe80::1", 7783, 0, 77777))


def test_ipv6_sends_as_ipv4_does(opened):
    four, six = (opened[family].socket for family in (socket.AF_INET, socket.AF_INET6))
    assert four.getsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL) == 3
    assert four.getsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP) == 1
    assert four.getsockopt(socket.IPPROTO_IP, socket.IP_TOS) == 0xB8
    assert six.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS) == 3
    assert six.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP) == 1
    assert six.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS) == 0xB8
    # Otherwise it would take IPv4's datagrams and its port, too.
    assert six.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 1


def test_nobody_hears_groups_that_others_on_this_machine_have_joined(network, opened):
    with join(LO, network) as heard:
        for sock in (heard, opened[socket.AF_INET].socket):
            assert sock.getsockopt(socket.IPPROTO_IP, module._IP_MULTICAST_ALL) == 0
    assert opened[socket.AF_INET6].socket.getsockopt(socket.IPPROTO_IPV6, module._IPV6_MULTICAST_ALL) == 0


def test_a_host_hears_what_is_sent_to_the_group_once(network):
    """Its own socket has the group's port, and would get a copy of its own."""
    with join(LO, network) as heard:
        own = Sender(socket.AF_INET, network, network.port)
        own.socket.sendto(b"beacon", own.group_on(LO))
        assert select.select([heard, own.socket], [], [], 5.0)[0] == [heard]
        assert heard.recv(99) == b"beacon"
        assert select.select([heard, own.socket], [], [], 0.0)[0] == []
        own.socket.close()


def test_the_group_of_ipv6_is_of_the_link_and_its_last_bytes_are_those_of_ipv4(network, opened):
    assert NetworkConfig().group6 == "ff12::efff:4d53"
    assert network.group6 == "ff12::efff:4d62"
    interface = Interface("eth0", 4, socket.AF_INET6, "fe80::1%eth0", False, True)
    assert opened[socket.AF_INET6].group_on(interface) == ("ff12::efff:4d62", network.port, 0, 4)


def test_both_families_answer_on_the_same_port(network):
    made = senders(network, network.port)
    assert [sender.socket.getsockname()[:2] for sender in made] == [("0.0.0.0", network.port), ("::", network.port)]
    for sender in made:
        sender.socket.close()


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=lambda family: family.name)
def test_a_port_that_is_taken_in_one_family_is_refused_in_both(network, family):
    with socket.socket(family, socket.SOCK_DGRAM) as other:
        if family == socket.AF_INET6:
            other.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        other.bind(("", network.port))
        with pytest.raises(OSError) as caught:  # noqa: PT011
            senders(network, network.port)
        assert caught.value.errno == errno.EADDRINUSE
    for sender in senders(network, network.port):  # Nothing was left open.
        sender.socket.close()


@pytest.mark.parametrize("number", module.NO_FAMILY)
def test_a_kernel_without_ipv6_is_survived(network, monkeypatch, number):
    real = socket.socket

    def without(family, *more):
        if family == socket.AF_INET6:
            raise OSError(number, "no such family")
        return real(family, *more)

    monkeypatch.setattr(socket, "socket", without)
    made = senders(network, 0)
    assert [sender.family for sender in made] == [socket.AF_INET]
    made[0].socket.close()


def test_an_interface_that_has_gone_cannot_be_joined_or_sent_to(network, opened):
    with pytest.raises(OSError):  # noqa: PT011
        join(GONE, network)
    with pytest.raises(OSError):  # noqa: PT011
        opened[socket.AF_INET].group_on(GONE)


def test_each_family_comes_first_at_times():
    """A receiver answers where the first copy came from, and that may be where no answer gets."""
    both = [LO, Interface("lo", LO_INDEX, socket.AF_INET6, "fe80::1%lo", True, False)]
    first = [in_turns(both, number)[0].family for number in range(8)]
    assert first.count(socket.AF_INET6) == 2
    assert first[0] == socket.AF_INET
    # A command asks three times, and all of them should not go the same way.
    assert socket.AF_INET6 in first[:3]


def test_a_command_asks_and_hears_answers(network):
    with join(LO, network) as heard, Asker(network) as asker:
        asker.ask(b"where?")
        assert select.select([heard], [], [], 5.0)[0]
        data, sender = heard.recvfrom(99)
        assert data == b"where?"
        assert asker.answer(0.0) is None
        heard.sendto(b"here", sender)
        assert asker.answer(5.0) == (b"here", ("127.0.0.1", network.port))


@needs_ipv6
def test_a_command_hears_answers_in_ipv6(network):
    with Asker(network) as asker, socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as six:
        six.bind(("::1", 0))
        six.sendto(b"here", ("::1", asker._senders[socket.AF_INET6].socket.getsockname()[1]))
        assert asker.answer(5.0) == (b"here", six.getsockname()[:2])


def test_a_command_goes_on_where_an_interface_is_going(network, monkeypatch):
    six = Interface("lo", LO_INDEX, socket.AF_INET6, "fe80::1%lo", True, False)  # No IPv6 group is routed there.
    monkeypatch.setattr(module, "choose", lambda _wanted: [GONE, six, LO])
    with join(LO, network) as heard, Asker(network) as asker:
        asker.ask(b"where?")
        assert select.select([heard], [], [], 5.0)[0]


def test_a_command_is_told_of_an_interface_that_is_not_there():
    with pytest.raises(ConfigError, match="no interface 'gone0'"):
        Asker(NetworkConfig(interfaces=("gone0",)))


def test_a_command_is_told_when_there_is_no_network_at_all(network, monkeypatch):
    monkeypatch.setattr(module, "choose", lambda _wanted: [])
    monkeypatch.setattr(module, "check", lambda _wanted: None)

    def none(*_):
        raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")

    monkeypatch.setattr(socket, "socket", none)
    with pytest.raises(ConfigError, match=r"^cannot ask the network: Address family not supported by protocol"):
        Asker(network)
