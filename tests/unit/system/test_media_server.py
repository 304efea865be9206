"""Media over HTTP: whose turn it is, ranges, what is said of when bytes are due, and files that change."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import aiohttp
import numpy as np
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from musicsyncd.system import media_server as module
from musicsyncd.system.fetch import DUE_HEADER
from musicsyncd.system.media_server import PIECE_BYTES, MediaServer, Turns

# -- turns -----------------------------------------------------------------------------------------


class Piece:
    """Something that takes a turn, and passes until it is told to end."""

    def __init__(self, turns: Turns, log: list[str], name: str, size_bytes: int, due_ns: int) -> None:
        self.end = asyncio.Event()
        self.task = asyncio.create_task(self._pass(turns, log, name, size_bytes, due_ns))

    async def _pass(self, turns, log, name, size_bytes, due_ns):
        async with turns.turn(size_bytes, due_ns):
            log.append(name)
            await self.end.wait()


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def test_what_is_due_soonest_passes_first_and_not_too_much_at_a_time():
    async def test():
        turns, log = Turns(100), []
        first = [Piece(turns, log, name, 50, 0) for name in "ab"]
        await settle()
        waiting = {name: Piece(turns, log, name, 50, due) for name, due in (("x", 30), ("y", 10), ("z", 20))}
        await settle()
        assert log == ["a", "b"], "there is room for two"
        first[1].end.set()
        await settle()
        assert log == ["a", "b", "y"]
        first[0].end.set()
        await settle()
        assert log == ["a", "b", "y", "z"]
        waiting["z"].end.set()
        waiting["y"].end.set()
        await settle()
        assert log == ["a", "b", "y", "z", "x"]
        waiting["x"].end.set()
        await settle()
        assert turns._passing_bytes == 0

    asyncio.run(test())


def test_of_two_that_are_due_at_once_the_first_comes_first():
    async def test():
        turns, log = Turns(100), []
        pieces = [Piece(turns, log, name, 100, 5) for name in "abc"]
        for piece in pieces:
            await settle()
            piece.end.set()
        await settle()
        assert log == ["a", "b", "c"]

    asyncio.run(test())


def test_what_is_larger_than_all_that_may_pass_passes_alone():
    async def test():
        turns, log = Turns(100), []
        pieces = [Piece(turns, log, "large", 500, 0), Piece(turns, log, "small", 10, 1)]
        await settle()
        assert log == ["large"]
        pieces[0].end.set()
        await settle()
        assert log == ["large", "small"]
        pieces[1].end.set()
        await settle()

    asyncio.run(test())


def test_who_goes_away_leaves_the_place_to_others_waiting_or_passing():
    async def test():
        turns, log = Turns(100), []
        passing, waiting, last = (Piece(turns, log, name, 100, due) for due, name in enumerate("abc"))
        await settle()
        waiting.task.cancel()
        await settle()
        passing.task.cancel()
        await settle()
        assert log == ["a", "c"]
        last.end.set()
        await settle()
        assert (turns._passing_bytes, turns._waiting) == (0, [])

    asyncio.run(test())


def test_whose_turn_comes_as_it_goes_away_leaves_nothing_behind():
    async def test():
        turns, log = Turns(100), []
        passing, waiting = Piece(turns, log, "a", 100, 0), Piece(turns, log, "b", 100, 1)
        await settle()
        passing.end.set()
        while turns._waiting:  # noqa: ASYNC110 - to meet just the moment between being let in and noticing it
            await asyncio.sleep(0)
        waiting.task.cancel()
        await settle()
        assert turns._passing_bytes == 0

    asyncio.run(test())


def test_too_many_who_wait_are_sent_away():
    async def test():
        turns, log = Turns(100, most_waiting=1), []
        pieces = [Piece(turns, log, name, 100, 0) for name in "ab"]
        await settle()
        with pytest.raises(web.HTTPServiceUnavailable):
            async with turns.turn(100, 0):
                pass
        for piece in pieces:
            piece.end.set()
            await settle()
        assert log == ["a", "b"]

    asyncio.run(test())


@given(st.lists(st.tuples(st.integers(1, 300), st.integers(0, 9), st.booleans()), max_size=20))
def test_whatever_comes_all_pass_and_nothing_is_left(pieces):
    async def test():
        turns, log = Turns(100), []
        made = []
        for name, (size_bytes, due_ns, leaves) in enumerate(pieces):
            piece = Piece(turns, log, str(name), size_bytes, due_ns)
            await asyncio.sleep(0)
            made.append((piece, leaves))
        for piece, leaves in made:
            if leaves:
                piece.task.cancel()
            piece.end.set()
        await asyncio.gather(*(piece.task for piece, _ in made), return_exceptions=True)
        assert {str(name) for name, (_, _, leaves) in enumerate(pieces) if not leaves} <= set(log)
        assert turns._passing_bytes == 0

    asyncio.run(test())


# -- over HTTP -------------------------------------------------------------------------------------


class Rig:
    """A server with one file of noise."""

    def __init__(self, folder: Path, size: int) -> None:
        self.data = np.random.default_rng(1).bytes(size)
        self.path = folder / "song.flac"
        self.path.write_bytes(self.data)
        self.content_id = hashlib.sha256(self.data).digest()
        self.dues_ns: list[int] = []
        rig = self

        class Watched(Turns):
            def turn(self, size_bytes, due_ns):
                rig.dues_ns.append(due_ns)
                return super().turn(size_bytes, due_ns)

        self.turns = Watched()
        self.server = MediaServer(lambda content_id: self.path if content_id == self.content_id else None, self.turns)

    async def ask(self, method="GET", **headers):
        async with self.session.request(method, f"/media/{self.content_id.hex()}", headers=headers) as response:
            return response.status, await response.read(), response.headers


def run(folder: Path, test, size: int = 300_000) -> None:
    async def whole():
        rig = Rig(folder, size)
        app = web.Application()
        app.router.add_get("/media/{content_id}", rig.server.serve)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        rig.session = aiohttp.ClientSession(f"http://127.0.0.1:{runner.addresses[0][1]}")
        try:
            await test(rig)
        finally:
            await rig.session.close()
            await runner.cleanup()
        assert rig.turns._passing_bytes == 0

    asyncio.run(asyncio.wait_for(whole(), 30.0))


def test_a_file_is_served_whole_and_in_ranges(tmp_path):
    async def test(rig):
        data, size = rig.data, len(rig.data)
        status, body, headers = await rig.ask()
        assert (status, body, headers["Accept-Ranges"]) == (200, data, "bytes")
        for asked, start, stop in (
            ("bytes=0-0", 0, 1),
            ("bytes=100-199999", 100, 200_000),
            (f"bytes=0-{size}", 0, size),
            ("bytes=299999-", 299_999, size),
            ("bytes=-5", size - 5, size),
            ("bytes=-9999999", 0, size),
        ):
            status, body, headers = await rig.ask(Range=asked)
            assert (status, body) == (206, data[start:stop]), asked
            assert headers["Content-Range"] == f"bytes {start}-{stop - 1}/{size}"
        for asked in (f"bytes={size}-", "bytes=5-2", "bytes=x", "lines=1-2"):
            status, body, headers = await rig.ask(Range=asked)
            assert (status, headers["Content-Range"]) == (416, f"bytes */{size}"), asked
        status, body, headers = await rig.ask("HEAD")
        assert (status, body, headers["Content-Length"]) == (200, b"", str(size))

    run(tmp_path, test)


def test_every_piece_waits_for_its_turn_with_what_was_said_of_its_due(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "now_ns", lambda: 5_000_000_000)

    async def test(rig):
        await rig.ask(**{DUE_HEADER: "1500", "Range": f"bytes=0-{3 * PIECE_BYTES}"})
        assert rig.dues_ns == [6_500_000_000] * 4
        rig.dues_ns.clear()
        await rig.ask(**{DUE_HEADER: "9999999999", "Range": "bytes=0-1"})
        await rig.ask(Range="bytes=0-1")
        assert rig.dues_ns == [3_605_000_000_000, 15_000_000_000]

    run(tmp_path, test)


@pytest.mark.parametrize("due", ["-1", "1.5", "soon", "", "9" * 11, "٣"])
def test_a_due_that_is_no_number_of_milliseconds_is_refused(tmp_path, due):
    async def test(rig):
        assert (await rig.ask(**{DUE_HEADER: due}))[0] == 400
        assert (await rig.ask(**{DUE_HEADER: "0"}))[0] == 200

    run(tmp_path, test, 1000)


def test_a_file_that_is_cut_while_it_is_sent_ends_the_answer_early(tmp_path, monkeypatch):
    async def test(rig):
        read = module._read

        def cut(fd, size_bytes, start):
            if start:
                rig.path.write_bytes(b"short")
            return read(fd, size_bytes, start)

        monkeypatch.setattr(module, "_read", cut)
        monkeypatch.setattr(module, "_read_cached", lambda *_args: None)
        with pytest.raises(aiohttp.ClientError):
            await rig.ask()
        monkeypatch.undo()
        assert (await rig.ask())[1] == b"short"

    run(tmp_path, test)


def test_what_is_not_in_memory_is_read_in_a_thread(tmp_path, monkeypatch):
    async def test(rig):
        monkeypatch.setattr(module, "_read_cached", lambda *_args: None)
        assert (await rig.ask())[1] == rig.data

    run(tmp_path, test)


def test_what_is_no_file_is_not_found(tmp_path):
    async def test(rig):
        rig.path.unlink()
        assert (await rig.ask())[0] == 404
        rig.path.mkdir()
        assert (await rig.ask())[0] == 404

    run(tmp_path, test, 1000)


def test_who_asks_and_goes_does_not_keep_others_waiting(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "HOLD_S", 0.01)

    async def test(rig):
        host, port = rig.session._base_url.host, rig.session._base_url.port
        for _ in range(6):
            # As many as may pass at a time, and more: they ask for everything and read nothing.
            _, writer = await asyncio.open_connection(host, port)
            writer.write(f"GET /media/{rig.content_id.hex()} HTTP/1.1\r\nHost: x\r\n{DUE_HEADER}: 0\r\n\r\n".encode())
            await writer.drain()
            rig.writers.append(writer)
        status, body, _ = await rig.ask(**{DUE_HEADER: "3600000"})
        assert (status, body) == (200, rig.data)
        for writer in rig.writers:
            writer.close()

    async def whole(rig):
        rig.writers = []
        await test(rig)

    run(tmp_path, whole, 6_000_000)
