"""Which interfaces a room uses, on made-up machines; and that this machine's loopback is read rightly."""

from __future__ import annotations

import socket

import pytest

from musicsyncd.errors import ConfigError
from musicsyncd.system import interfaces as module
from musicsyncd.system.interfaces import Interface, check, choose, interfaces

LO = Interface("lo", "127.0.0.1", True, False)
WIRED = Interface("eth0", "192.0.2.5", False, True)
WIFI = Interface("wlan0", "198.51.100.7", False, True)
TUNNEL = Interface("tun0", "203.0.113.1", False, False)


@pytest.fixture
def machine(monkeypatch):
    """Return a function that gives the machine interfaces; ``down`` ones have a name only."""

    def has(*there: Interface, down: tuple[str, ...] = ()) -> None:
        names = [*(one.name for one in there), *down]
        monkeypatch.setattr(module, "interfaces", lambda: list(there))
        monkeypatch.setattr(socket, "if_nameindex", lambda: list(enumerate(names, 1)))

    return has


def test_this_machines_loopback_is_found_with_its_address():
    found = {one.name: one for one in interfaces()}
    assert found["lo"].address == "127.0.0.1"
    assert found["lo"].loopback


def test_every_interface_that_carries_multicast_is_used_and_loopback_is_not(machine):
    machine(LO, WIRED, WIFI, TUNNEL)
    assert choose(()) == [WIRED, WIFI]


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
