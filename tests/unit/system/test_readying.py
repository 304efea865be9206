"""What plays next is ready in time, and who waits for a slow track is told why."""

from __future__ import annotations

import asyncio
import os
import threading

import pytest
from host_rig import make_album, on_a_loop, running

from musicsyncd.system import control as control_module
from musicsyncd.system import preparer as preparer_module


class SlowFiles:
    """Holds files with some names up while they are looked into, until they are let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.held: dict[str, threading.Event] = {}
        self.looked: list[str] = []
        self._inspect = preparer_module.inspect
        monkeypatch.setattr(preparer_module, "inspect", self._look)

    def hold(self, name: str) -> threading.Event:
        """Hold the files of a name up from now on."""
        self.held[name] = threading.Event()
        return self.held[name]

    def _look(self, path):
        self.looked.append(path.name)
        if path.name in self.held:
            assert self.held[path.name].wait(20.0)
        return self._inspect(path)


@pytest.fixture
def slow(monkeypatch):
    monkeypatch.setattr(control_module, "PATIENCE_S", 0.05)
    return SlowFiles(monkeypatch)


@on_a_loop
async def test_a_command_does_not_wait_for_a_slow_track_and_the_track_plays_when_it_is_ready(tmp_path, album, slow):
    with running(tmp_path / "host") as host:
        (queued,) = host.room().queue.add((await host.control.preparer.find([album[1]])).items)
        let_go = slow.hold("2.wav")
        said = await host.control.play_entry(host.room(), queued)
        assert said == "“2” plays as soon as it is ready: it is being read"
        status = host.status()
        assert (status["mode"], status["waits_for"]) == ("playing", "it is being read")
        host.control.preparer.converting[queued.path] = 0.335
        assert host.status()["waits_for"] == "it is being turned into FLAC, 34%"
        assert all(segment.track is None for segment in host.room().said.timeline.segments)
        let_go.set()
        await host.settle()
        assert host.status()["waits_for"] == ""
        assert host.room().said.timeline.segments[-1].entry == queued.number


@on_a_loop
async def test_what_somebody_waits_for_is_read_once(tmp_path, album, slow):
    with running(tmp_path / "host") as host:
        found = (await host.control.preparer.find(album[:1])).items
        entries = host.room().queue.add(found)
        let_go, before = slow.hold("1.wav"), len(slow.looked)
        first = asyncio.ensure_future(host.control.play_entry(host.room(), entries[0]))
        second = asyncio.ensure_future(host.control.queues.jump("main", 1, ""))
        await asyncio.sleep(0)
        let_go.set()
        assert await first == await second == "playing “1”"
        await host.settle()
        assert slow.looked[before:] == ["1.wav"]


@on_a_loop
async def test_a_damaged_track_is_said_in_the_queue_and_in_the_status(tmp_path, album):
    with running(tmp_path / "host") as host:
        await host.control.play("main", [album[0]])
        host.control.preparer.damage[album[0]] = "2 s are lost at 1:00"
        assert host.status()["track"]["damage"] == "2 s are lost at 1:00"
        assert host.control.queues.show("main")["entries"][0]["damage"] == "2 s are lost at 1:00"


@on_a_loop
async def test_a_disk_that_is_gone_does_not_flood_the_log(tmp_path, caplog):
    album = make_album(tmp_path / "album", 20)
    with running(tmp_path / "host") as host:
        host.room().queue.add((await host.control.preparer.find(album)).items)
        for path in album:
            os.unlink(path)
        await host.control.play("main", [])
        await host.settle()
        assert all(entry.fault for entry in host.room().queue.entries)
        assert len([one for one in caplog.records if "left out" in one.message]) == 1
