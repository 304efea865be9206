"""Which interfaces a room uses, on made-up machines; and that this machine's loopback is read rightly."""

from __future__ import annotations

import socket
import sys

import pytest

from musicsyncd.errors import ConfigError
from musicsyncd.system import interfaces as module
from musicsyncd.system.interfaces import Interface, check, choose, interfaces


def four(name: str, index: int, address: str, *, loopback: bool = False, multicast: bool = True) -> Interface:
    return Interface(name, index, socket.AF_INET, address, loopback, multicast)


def six(name: str, index: int, address: str) -> Interface:
    return Interface(name, index, socket.AF_INET6, f"{address}%{name}", False, True)


LO = four("lo", 1, "127.0.0.1", loopback=True, multicast=False)
WIRED = four("eth0", 2, "192.0.2.5")
WIRED6 = six("eth0", 2, "fe80::5")
WIFI = four("wlan0", 3, "198.51.100.7")
WIFI6 = six("wlan0", 3, "fe80::7")
TUNNEL = four("tun0", 4, "203.0.113.1", multicast=False)
INET6 = """\
00000000000000000000000000000001 01 80 10 80       lo
fe800000000000000000000000000005 02 40 20 80     eth0
20010db8000000000000000000000005 02 40 00 00     eth0
fe800000000000000000000000000007 03 40 20 80    wlan0
fe800000000000000000000000000066 03 40 20 48    wlan0
fe800000000000000000000000000088 05 40 20 c0    wlan1
fe800000000000000000000000000099 06 40 20 44    wlan2
"""


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """Return a function that gives the machine interfaces; ``down`` ones have a name only."""
    addresses = tmp_path / "if_inet6"
    addresses.write_text(INET6)
    monkeypatch.setattr(module, "_IF_INET6", addresses)

    def has(*there: Interface, down: tuple[str, ...] = ()) -> None:
        names = [*(one.name for one in there), *down]
        monkeypatch.setattr(module, "interfaces", lambda: list(there))
        monkeypatch.setattr(socket, "if_nameindex", lambda: list(enumerate(names, 1)))

    return has


def test_this_machines_loopback_is_found_with_its_address():
    found = [one for one in interfaces() if one.name == "lo"]
    assert found == [Interface("lo", socket.if_nametoindex("lo"), socket.AF_INET, "127.0.0.1", True, False)]


def test_an_interface_is_there_once_for_each_family(monkeypatch, machine):
    """Of its IPv6 addresses the link-local one counts: every interface has one, and the group is of the link."""
    monkeypatch.setattr(socket, "if_nameindex", lambda: [(5, "wlan1"), (6, "wlan2"), (7, "wlan0")])
    monkeypatch.setattr(module.fcntl, "ioctl", _ioctl)
    found = [(one.name, one.index, one.family, one.address, one.multicast) for one in interfaces()]
    assert found == [
        ("wlan0", 7, socket.AF_INET, "192.0.2.9", True),
        ("wlan2", 6, socket.AF_INET6, "fe80::99%wlan2", True),
        ("wlan0", 7, socket.AF_INET6, "fe80::7%wlan0", True),
    ], "wlan1's address is not known to be unique yet, and wlan0's second one is not"


def _ioctl(_probe, request, name):
    name = name.rstrip(bytes(1))
    if request == module._SIOCGIFFLAGS:
        flags = module._IFF_UP | module._IFF_RUNNING | module._IFF_MULTICAST
        return bytes(16) + flags.to_bytes(2, sys.byteorder)
    if name != b"wlan0":
        raise OSError
    return bytes(20) + socket.inet_aton("192.0.2.9")


def test_a_machine_without_ipv6_has_no_such_addresses(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "_IF_INET6", tmp_path / "none")
    assert {one.family for one in interfaces()} == {socket.AF_INET}


def test_every_interface_that_carries_multicast_is_used_and_loopback_is_not(machine):
    machine(LO, WIRED, WIFI, TUNNEL, WIRED6, WIFI6)
    assert choose(()) == [WIRED, WIFI, WIRED6, WIFI6]
    machine(LO, WIRED6)
    assert choose(()) == [WIRED6]


def test_a_machine_alone_uses_loopback(machine):
    machine(LO, TUNNEL)
    assert choose(()) == [LO]
    machine()
    assert choose(()) == []


def test_what_is_asked_for_by_name_or_address_is_used_and_nothing_else(machine):
    machine(LO, WIRED, WIFI, TUNNEL)
    assert choose(("wlan0",)) == [WIFI]
    assert choose(("lo", "192.0.2.5")) == [LO, WIRED]
    assert choose(("tun0",)) == [TUNNEL]
    assert choose(("wlan1",)) == []


def test_an_interface_that_is_asked_for_by_one_address_is_used_in_both_families(machine):
    machine(LO, WIRED, WIFI, WIRED6, WIFI6)
    for address in ("192.0.2.5", "fe80::5", "FE80:0::5", "fe80::5%eth0", "2001:db8::5"):
        assert choose((address,)) == [WIRED, WIRED6], address
        check((address,))
    for address in ("fe80::5%wlan0", "fe80::1", "192.0.2.50", "fe80::5%"):
        assert choose((address,)) == [], address
        with pytest.raises(ConfigError, match="on this machine"):
            check((address,))
    assert choose(("::1",)) == [LO]


def test_no_more_interfaces_are_used_than_are_sensible(machine):
    many = [four(f"veth{n}", n, f"10.0.0.{n}") for n in range(1, 60)]
    machine(*many, *(six(one.name, one.index, f"fe80::{one.index:x}") for one in many))
    chosen = choose(())
    assert [one.index for one in chosen] == list(range(1, module.MAX_INTERFACES + 1)) * 2


def test_an_interface_that_is_not_there_is_refused_with_those_that_are(machine):
    machine(LO, WIRED)
    check(())
    check(("eth0", "127.0.0.1"))
    with pytest.raises(ConfigError, match=r"^no interface 'eth9' on this machine: it has lo \(127\.0\.0\.1\), eth0 \("):
        check(("eth0", "eth9"))
    machine()
    with pytest.raises(ConfigError, match="none with an address"):
        check(("eth0",))


def test_an_interface_that_is_only_down_is_waited_for(machine):
    machine(LO, down=("wlan0",))
    check(("wlan0",))
    assert choose(("wlan0",)) == []
