"""What is announced by mDNS, which answers are tried, and that a look is bounded. The library is a stand-in."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import socket

import pytest

from musicsyncd.errors import DeviceError
from musicsyncd.system import mdns
from musicsyncd.system.interfaces import Interface

LO = Interface("lo", 1, socket.AF_INET, "127.0.0.1", True, True)
ETH = Interface("eth0", 2, socket.AF_INET, "192.0.2.1", False, True)
ETH6 = Interface("eth0", 2, socket.AF_INET6, "fe80::1%eth0", False, True)
OWN = tuple(ipaddress.ip_network(one) for one in ("192.0.2.0/24", "2001:db8::/64", "192.0.2.64/31"))
HOST_ID = bytes.fromhex("0123456789abcdef")


def announced(name="attic-pi", addresses=("192.0.2.1", "fe80::1%eth0")):
    return mdns.service(name, HOST_ID, 7783, "1.2", 2, addresses)


def test_a_host_says_where_and_who_it_is_and_no_secret():
    info = announced()
    assert info.name == "attic-pi (0123)._musicsyncd._tcp.local."
    assert info.server == "musicsyncd-0123456789abcdef.local."
    assert (info.port, info.parsed_addresses()) == (7783, ["192.0.2.1", "fe80::1"])
    assert info.properties == {
        b"version": b"1.2", b"protocol": b"2", b"id": b"0123456789abcdef", b"name": b"attic-pi", b"path": b"/",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["a" * 64, "ü" * 64, "𝄞" * 64, "Ada's Pi. Attic", "._tcp.local."])
def test_any_name_of_a_host_fits(name):
    info = announced(name)
    label = info.name.removesuffix(f".{mdns.SERVICE}")
    assert len(label.encode()) <= 63
    assert "." not in label
    assert label.endswith(" (0123)")
    assert all(len(one) < 256 for one in info.properties.values())


def test_no_more_addresses_are_announced_than_are_tried():
    assert len(announced(addresses=[f"192.0.2.{n}" for n in range(1, 40)]).addresses) == mdns.MAX_ADDRESSES


@pytest.mark.parametrize(
    ("address", "port", "is_tried"),
    [
        ("192.168.1.7", 7783, True),
        ("10.0.0.1", 1024, True),
        ("172.31.255.1", 65535, True),
        ("169.254.3.4", 7783, True),
        ("fd12::1", 7783, True),
        ("fe80::1%eth0", 7783, True),
        ("192.0.2.9", 7783, True),
        ("2001:db8::9", 7783, True),
        ("192.0.2.65", 7783, True),
        ("8.8.8.8", 7783, False),
        ("2001:db9::1", 7783, False),
        ("172.32.0.1", 7783, False),
        ("192.0.2.255", 7783, False),
        ("255.255.255.255", 7783, False),
        ("224.0.0.251", 5353, False),
        ("239.255.77.83", 7783, False),
        ("ff02::fb%eth0", 5353, False),
        ("0.0.0.0", 7783, False),
        ("::", 7783, False),
        ("127.0.0.1", 7783, False),
        ("::1", 7783, False),
        ("fe80::1", 7783, False),
        ("192.168.1.7", 53, False),
        ("192.168.1.7", 0, False),
        ("192.168.1.7", 65536, False),
        ("attic.local", 7783, False),
        ("", 7783, False),
    ],
)
def test_what_is_tried_is_on_the_lan_and_no_reserved_port(address, port, is_tried):
    assert mdns.may_be_tried(address, port, OWN) is is_tried


def test_loopback_is_tried_where_nothing_else_is_used():
    own = mdns.own_networks([LO])
    assert mdns.may_be_tried("127.0.0.1", 7783, own)
    assert not mdns.may_be_tried("8.8.8.8", 7783, own)


def test_zones_have_names():
    assert mdns.scoped("192.0.2.1") == "192.0.2.1"
    assert mdns.scoped(f"fe80::1%{socket.if_nametoindex('lo')}") == "fe80::1%lo"
    for gone in ("fe80::1%999999", "fe80::1%99999999999999999999"):
        assert mdns.scoped(gone) == "fe80::1"
    assert mdns.scoped("fe80::1%eth0") == "fe80::1%eth0"


class Library:
    """Stands in for zeroconf: answers are (name, port, addresses), or an exception to be raised for that name."""

    def __init__(self, monkeypatch, answers=(), fails=None):
        self.answers = {name: rest for name, *rest in answers}
        self.fails = fails
        self.opened = []
        self.asked = []
        self.registered = []
        self.closed = 0
        library = self

        class Opened:
            zeroconf = "opened"

            async def async_register_service(self, info, cooperating_responders=False):
                assert cooperating_responders
                library.registered.append(info)

            async def async_close(self):
                library.closed += 1

        async def open_(interfaces):
            library.opened.append(list(interfaces))
            if library.fails is not None:
                raise library.fails
            return Opened()

        class Browser:
            def __init__(self, opened, service, handlers):
                assert (opened, service) == ("opened", mdns.SERVICE)
                for name in library.answers:
                    handlers[0](zeroconf=opened, service_type=service, name=name, state_change=None)

            async def async_cancel(self):
                pass

        class Info:
            def __init__(self, _service, name):
                self._name = name

            async def async_request(self, _opened, timeout_ms):
                assert timeout_ms == mdns.RESOLVE_S * 1000
                library.asked.append(self._name)
                self.port, self._addresses = library.answers[self._name]
                if isinstance(self._addresses, Exception):
                    raise self._addresses
                return self._addresses is not None

            def parsed_scoped_addresses(self):
                return list(self._addresses)

        monkeypatch.setattr(mdns, "_open", open_)
        monkeypatch.setattr("zeroconf.asyncio.AsyncServiceBrowser", Browser)
        monkeypatch.setattr("zeroconf.asyncio.AsyncServiceInfo", Info)
        monkeypatch.setattr(mdns, "SETTLE_S", 0.0)


def look(at_most_s=5.0):
    return asyncio.run(mdns.look([ETH], at_most_s=at_most_s))


def test_what_is_found_is_tried_and_the_library_closed(monkeypatch):
    library = Library(monkeypatch, [("a", 7783, ["192.168.1.7", "8.8.8.8", "fe80::1%eth0", "192.168.1.7"])])
    assert look() == [("192.168.1.7", 7783), ("fe80::1%eth0", 7783)]
    assert library.closed == 1


def test_nothing_found_is_nothing_and_takes_as_long_as_it_may(monkeypatch):
    library = Library(monkeypatch, [("a", 7783, None), ("b", 80, ["192.168.1.7"]), ("c", None, ["192.168.1.7"])])
    assert look(at_most_s=0.01) == []
    assert library.closed == 1


def test_liars_without_end_are_bounded_and_leave_the_first_place_of_others(monkeypatch):
    lies = [(f"\x1b[2Jliar{n}", 7783, [f"10.0.{n % 256}.{m}" for m in range(1, 200)]) for n in range(3)]
    truth = ("attic", 7783, ["192.168.1.7"])
    floods = [(f"flood{n}", 7783, ["10.9.9.9"]) for n in range(1000)]
    library = Library(monkeypatch, [*lies, truth, *floods])
    found = look()
    assert len(found) == mdns.MAX_ADDRESSES
    assert found[:4] == [("10.0.0.1", 7783), ("10.0.1.1", 7783), ("10.0.2.1", 7783), ("192.168.1.7", 7783)]
    assert len(library.asked) == mdns.MAX_SERVICES


def test_an_answer_that_the_library_chokes_on_does_not_end_the_look(monkeypatch):
    Library(monkeypatch, [("bad", 1, ValueError("x")), ("worse", 1, RuntimeError()), ("a", 7783, ["10.0.0.1"])])
    assert look() == [("10.0.0.1", 7783)]


@pytest.mark.parametrize(
    "error", [OSError(98, "Address already in use"), RuntimeError("No\nadapter"), ImportError("x")]
)
def test_no_way_to_ask_is_one_line(monkeypatch, error):
    Library(monkeypatch, fails=error)
    with pytest.raises(DeviceError) as refused:
        look()
    assert str(refused.value)
    assert "\n" not in str(refused.value)


def test_no_interface_is_no_way_to_ask():
    with pytest.raises(DeviceError, match="no network interface"):
        asyncio.run(mdns.look([]))


def announce(monkeypatch, library, *steps):
    """Run an announcer while what is joined goes through some steps."""
    monkeypatch.setattr(mdns, "_FOLLOW_EVERY_S", 0.0)
    joined = list(steps[0])

    async def scenario():
        made = mdns.Announcer(lambda: joined, lambda addresses: json.dumps(addresses))
        task = asyncio.create_task(made.run())
        for step in steps:
            joined[:] = step
            for _ in range(20):
                await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await made.close()

    asyncio.run(scenario())
    return [json.loads(one) for one in library.registered]


def test_it_is_announced_anew_when_the_interfaces_change_and_only_then(monkeypatch):
    library = Library(monkeypatch)
    said = announce(monkeypatch, library, [ETH], [ETH], [ETH, ETH6], [], [ETH])
    assert said == [["192.0.2.1"], ["192.0.2.1", "fe80::1%eth0"], ["192.0.2.1"]]
    assert library.opened == [[ETH], [ETH, ETH6], [ETH]]
    assert library.closed == 3


def test_what_cannot_be_announced_is_one_warning_and_is_tried_again_on_a_change(monkeypatch, caplog):
    library = Library(monkeypatch, fails=OSError(98, "Address already in use"))
    assert announce(monkeypatch, library, [ETH], [ETH, ETH6], [ETH]) == []
    assert [one.getMessage() for one in caplog.records] == ["the host is not announced by mDNS: Address already in use"]
    assert len(library.opened) == 3
