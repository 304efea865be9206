"""Looking up names, with a resolver of the test's own."""

from __future__ import annotations

import logging
import socket
import threading

import pytest

from musicsyncd.system import names as module
from musicsyncd.system.log import Throttle
from musicsyncd.system.names import Names

PORT = 7783


class Resolver:
    """Answers when the test lets it."""

    def __init__(self, monkeypatch) -> None:
        self.asked: list[str] = []
        self.answer: object = []
        self.may_answer, self.answered = threading.Semaphore(0), threading.Semaphore(0)
        monkeypatch.setattr(socket, "getaddrinfo", self._resolve)
        real = module._look_up
        monkeypatch.setattr(module, "_look_up", lambda *words: (real(*words), self.answered.release()))

    def _resolve(self, name, _port, *, type):
        self.asked.append(name)
        assert type == socket.SOCK_DGRAM
        assert self.may_answer.acquire(timeout=20)
        if isinstance(self.answer, Exception):
            raise self.answer
        return [(None, type, 17, "", one) for one in self.answer]

    def gives(self, *answer) -> None:
        self.answer = answer[0] if isinstance(answer[0], Exception) else answer
        self.may_answer.release()
        assert self.answered.acquire(timeout=20)


@pytest.fixture
def resolver(monkeypatch):
    return Resolver(monkeypatch)


@pytest.fixture
def names():
    return Names(Throttle(logging.getLogger(__name__)))


@pytest.mark.parametrize("text", ["192.0.2.1", "::1", "fe80::1%eth0"])
def test_numbers_are_not_looked_up(resolver, names, text):
    assert names.find((text, PORT), 0) == (text, PORT)
    assert resolver.asked == []


def test_nobody_waits_for_a_name_and_it_is_asked_for_once_at_a_time(resolver, names):
    for now_ns in range(0, 100 * module.AGAIN_AFTER_NS, module.AGAIN_AFTER_NS):
        assert names.find(("kitchen.local", PORT), now_ns) is None
    resolver.gives(("192.0.2.1", 0))
    assert names.find(("kitchen.local", PORT), 1) == ("192.0.2.1", PORT)
    assert resolver.asked == ["kitchen.local"]


def test_the_addresses_of_a_name_take_turns_and_keep_their_zones(resolver, names):
    both = (("fe80::1", 0, 0, socket.if_nametoindex("lo")), ("192.0.2.1", 0), ("192.0.2.1", 0))
    found = []
    for turn in range(4):
        names.find(("pi4", PORT), turn * module.AGAIN_AFTER_NS)
        resolver.gives(*both)
        found += [names.find(("pi4", PORT), turn * module.AGAIN_AFTER_NS + later) for later in (1, 2)]
    assert found == [("fe80::1%lo", PORT)] * 2 + [("192.0.2.1", PORT)] * 2 + found[:4]


def test_a_name_without_an_address_is_said_and_asked_for_again(resolver, names, caplog):
    for error, said in ((socket.gaierror(-2, "Name or service not known"), "Name or"), (UnicodeError(), "no name")):
        now_ns = len(resolver.asked) * module.AGAIN_AFTER_NS
        names.find((said, PORT), now_ns)
        resolver.gives(error)
        assert names.find((said, PORT), now_ns + 1) is None
    assert "no address is found for Name or: Name or service not known" in caplog.text
    names.find(("Name or", PORT), now_ns + module.AGAIN_AFTER_NS)
    resolver.gives(("192.0.2.1", 0))
    assert names.find(("Name or", PORT), now_ns + module.AGAIN_AFTER_NS) == ("192.0.2.1", PORT)


def test_an_address_is_kept_while_its_name_is_asked_for_again_or_not_found(resolver, names):
    names.find(("attic", PORT), 0)
    resolver.gives(("192.0.2.1", 0))
    assert names.find(("attic", PORT), module.AGAIN_AFTER_NS) == ("192.0.2.1", PORT)
    resolver.gives(socket.gaierror(-3, "Temporary failure in name resolution"))
    assert names.find(("attic", PORT), module.AGAIN_AFTER_NS + 1) == ("192.0.2.1", PORT)


def test_names_and_addresses_have_limits(resolver, names, monkeypatch):
    monkeypatch.setattr(module, "MAX_NAMES", 2)
    for name in ("one", "two", "three"):
        names.find((name, PORT), 0)
        resolver.gives(*((f"192.0.2.{n}", 0) for n in range(50)))
    assert list(names._known) == ["two", "three"]
    assert len(names._known["two"].addresses) == module.MAX_ADDRESSES
