"""When a speaker looks for its host by mDNS, and for how long it tries what it found."""

from __future__ import annotations

import asyncio
from itertools import pairwise

from musicsyncd.errors import DeviceError
from musicsyncd.system.search import PAUSES_NS, SILENT_NS, TRIED_NS, HostSearch
from musicsyncd.units import NS_PER_S

FOUND = [("10.0.0.1", 7783)]
LOOK_NS = 3 * NS_PER_S


class Node:
    def __init__(self):
        self.host_address = None
        self.host_heard_ns = None
        self.tried = []

    def try_at(self, hints):
        self.tried.append(hints)


class Searching:
    """A search in a time of its own, one tick a second."""

    def __init__(self, found=()):
        self.node, self.found, self.looks, self.changed = Node(), list(found), [], 0
        self.now_ns = 1000 * NS_PER_S
        self.began_ns = self.now_ns
        self._search = HostSearch(self.node, self._look, self._note, lambda: self.now_ns)

    async def _look(self):
        self.looks.append((self.now_ns - self.began_ns) // NS_PER_S)
        self.now_ns += LOOK_NS
        if isinstance(self.found, Exception):
            raise self.found
        return self.found

    def _note(self):
        self.changed += 1

    def pass_s(self, seconds):
        async def go():
            for _ in range(seconds):
                self.now_ns += NS_PER_S
                await self._search.tick()

        asyncio.run(go())
        return self


def test_it_looks_after_five_seconds_of_silence_and_then_less_and_less_often():
    searching = Searching().pass_s(300)
    assert searching.looks[0] == SILENT_NS // NS_PER_S
    pauses = [(later - earlier) * NS_PER_S - LOOK_NS for earlier, later in pairwise(searching.looks)]
    assert pauses[: len(PAUSES_NS)] == list(PAUSES_NS)
    assert set(pauses[len(PAUSES_NS) :]) == {PAUSES_NS[-1]}
    assert searching.node.tried == []
    assert searching.changed == 0


def test_what_is_found_is_tried_for_a_while():
    searching = Searching(FOUND).pass_s(6)
    assert searching.node.tried == [tuple(FOUND)]
    assert searching.changed == 1
    searching.found = []
    found_ns = searching.began_ns + SILENT_NS + LOOK_NS
    while searching.now_ns < found_ns + TRIED_NS - NS_PER_S:  # There is another look meanwhile.
        assert searching.node.tried == [tuple(FOUND)]
        searching.pass_s(1)
    searching.pass_s(1)
    assert searching.node.tried == [tuple(FOUND), ()]


def test_there_is_no_look_while_a_host_is_heard_and_one_soon_after_it_is_lost():
    searching = Searching(FOUND)
    searching.node.host_address = ("10.0.0.1", 7783)
    searching.pass_s(100)
    assert searching.looks == []
    searching.node.host_heard_ns = searching.now_ns - 2 * NS_PER_S
    searching.node.host_address = None
    searching.pass_s(2)
    assert searching.looks == []
    searching.pass_s(1)
    assert searching.looks == [103]


def test_a_host_that_was_found_begins_the_pauses_anew():
    searching = Searching().pass_s(200)
    looks = len(searching.looks)
    searching.node.host_address = ("10.0.0.1", 7783)
    searching.pass_s(1)
    searching.node.host_address, searching.node.host_heard_ns = None, searching.now_ns
    searching.pass_s(14)
    assert len(searching.looks) == looks + 2


def test_a_host_that_comes_during_the_look_needs_no_other_address():
    searching = Searching(FOUND)

    async def look():
        searching.node.host_address = ("10.0.0.2", 7783)
        return FOUND

    searching._search._look = look
    searching.pass_s(6)
    assert searching.node.tried == []


def test_no_way_to_look_is_said_once_in_a_while_and_ends_nothing(caplog):
    searching = Searching()
    searching.found = DeviceError("port 5353 is taken")
    searching.pass_s(100)
    assert len(searching.looks) > 3
    assert 1 <= len(caplog.records) <= 2
    assert "cannot be looked for by mDNS: port 5353 is taken" in caplog.records[0].getMessage()
