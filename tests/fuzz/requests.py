"""Targets that speak HTTP to a host: every route with a body of its kind, and requests for media.

The server is the real one over a real Unix socket, with a real control and database behind it, made anew
for each input. What is a fault of our own (status 500, a task that died) is raised.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from host_rig import Host, make_track

from musicsyncd.errors import MediaError
from musicsyncd.media.inspect import find_tracks
from musicsyncd.media.library import Read, Stamp
from musicsyncd.media.tags import Tags
from musicsyncd.system import media_server, preparer
from musicsyncd.system.http_server import HttpServer
from musicsyncd.system.librarian import Librarian
from musicsyncd.system.library_control import LibraryControl
from musicsyncd.system.library_index import LibraryIndex
from musicsyncd.system.links import Links
from musicsyncd.system.routes import ROUTES

from .folder import FOLDER, fresh, piece, pieces

MAX_REQUESTS = 12
_MUSIC = FOLDER / "album"
ANSWER_S = 10.0
_NAMES = ("main", "-", "kitchen", "lamp", "no such name")
_BODIES: dict[str, object] = {
    "rooms": {"name": "kitchen"}, "play": {"tracks": ["1.wav"]}, "seek": {"to": "1:02.5"}, "volume": {"volume": "+5"},
    "mute": {"muted": True}, "add": {"tracks": ["1.wav", "2.wav"], "next": True},
    "remove": {"positions": [1, 2], "revision": 3}, "move": {"from": 1, "to": 2}, "clear": {"revision": None},
    "jump": {"words": "one"}, "shuffle": {"on": True}, "repeat": {"repeat": "all"}, "crossfade": {"seconds": 2.5},
    "delay": {"output_delay_ms": -20.5}, "channels": {"channels": "left"}, "room": {"room": "main"},
    "links": {"role": "guest", "name": "Ada"}, "sign-in": {"token": "A" * 26},
}  # fmt: skip


def http(data: bytes) -> None:
    """Requests one after the other: a route each, a name in its path, and a body or a query."""
    faults: list[BaseException] = []
    folder = fresh("http")
    with _in_jail(), _noted(faults):
        asyncio.run(_asked(folder, data, faults))
    if faults:
        raise faults[0]


async def _asked(folder: Path, data: bytes, faults: list[BaseException]) -> None:
    asyncio.get_running_loop().set_exception_handler(lambda _, told: _note(faults, told.get("exception"), told))
    host = Host(folder)
    control = host.control
    control.library = _library()
    host.report("lamp")
    server = HttpServer(control, None, Links(host.database, os.urandom))
    await server._runner.setup()
    await web.UnixSite(server._runner, str(folder / "s")).start()
    reader, writer = await asyncio.open_unix_connection(str(folder / "s"))
    try:
        for which, text in pieces(data, MAX_REQUESTS):
            writer.write(_request(which, text))
            status, answer = await asyncio.wait_for(_answer(reader), ANSWER_S)
            assert status != 500 or faults, f"500 for {text!r}: {answer!r}"
        await host.settle()
        json.dumps(control.status())
    finally:
        writer.close()
        await server._runner.cleanup()
        host.end()


def _request(which: int, text: bytes) -> bytes:
    """Return a request to the route that a byte says; what is behind its name in the text is body or query."""
    route = ROUTES[which % len(ROUTES)]
    method, path = route.method, route.template
    size_bytes = text[0] if text else 0
    if size_bytes < len(_NAMES):
        name, rest = _NAMES[size_bytes], text[1:]
    else:
        name, rest = text[1 : 1 + size_bytes].decode("latin-1"), text[1 + size_bytes :]
    path = re.sub(r"\{\w+\}", lambda _: quote(name.encode("latin-1"), safe="") or "-", path)
    if method == "GET":
        path, rest = f"{path}?{quote(rest, safe='=&%+')}", b""
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(rest)}\r\n\r\n"
    return head.encode("ascii") + rest


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    lengths = [line.split(":")[1] for line in head.splitlines() if line.lower().startswith("content-length:")]
    return int(head.split(" ", 2)[1]), await reader.readexactly(int(lengths[0]) if lengths else 0)


@cache
def _library() -> LibraryControl:
    """Two tracks of one album. Requests only ask it, so one will do for all calls."""
    index = LibraryIndex(FOLDER / "library.sqlite3")
    for number in (1, 2):
        track = make_track(_MUSIC / f"{number}.wav", 0.5)
        index.apply([Read(str(track), Stamp(1, 1), Tags(f"one {number}", "artist", "album", duration_s=1.0))])
    return LibraryControl(index, Librarian((str(_MUSIC),), index))


@contextmanager
def _in_jail() -> Iterator[None]:
    """Let nobody look through the whole machine: what is not in the album is not there, from wherever it is named."""
    real: Any = preparer.find_tracks

    def find(path: Path) -> list[Path]:
        if path.name in ("1.wav", "2.wav"):
            return find_tracks(_MUSIC / path.name)
        if ".." in path.parts or _MUSIC not in (path, *path.parents):
            raise MediaError("outside")
        return find_tracks(path)

    preparer.find_tracks = find  # type: ignore[assignment]
    try:
        yield
    finally:
        preparer.find_tracks = real


class _Noted(logging.Handler):
    def __init__(self, faults: list[BaseException]) -> None:
        super().__init__()
        self.faults = faults

    def emit(self, record: logging.LogRecord) -> None:
        """Note an exception that was logged, as our own faults are."""
        record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            self.faults.append(record.exc_info[1])


@contextmanager
def _noted(faults: list[BaseException]) -> Iterator[None]:
    logger, handler = logging.getLogger("musicsyncd"), _Noted(faults)
    logger.addHandler(handler)
    before, logger.propagate = logger.propagate, False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = before


def _note(faults: list[BaseException], error: object, told: dict[str, object]) -> None:
    if isinstance(error, BaseException):
        faults.append(error)
    elif "message" in told:
        faults.append(AssertionError(str(told["message"])))


def media_request(data: bytes) -> None:
    """The header fields of a request for a track's bytes."""
    values = [text.decode("utf-8", "replace") for _, text in pieces(data, 2)]
    names = ("Range", media_server.DUE_HEADER)
    request = make_mocked_request("GET", "/media/x", headers=dict(zip(names, values, strict=False)))
    for size_bytes in (1, 1000, 1 << 40):
        span = media_server._span(request, size_bytes)
        assert span is None or 0 <= span[0] < span[1] <= size_bytes, f"{span} of {size_bytes}"
    with contextlib.suppress(web.HTTPBadRequest):
        assert 0 <= media_server._due_ms(request) <= max(media_server.MAX_DUE_MS, media_server.NO_DUE_MS)


def http_seeds() -> list[bytes]:
    seeds = []
    for which, route in enumerate(ROUTES):
        method, path = route.method, route.template
        last = path.rsplit("/", 1)[1]
        body = b"words=one&limit=5" if method == "GET" else json.dumps(_BODIES.get(last, {})).encode()
        name = 3 if "{peer}" in path else 0
        seeds.append(piece(which, bytes([name]) + body))
    add = next(one for one in seeds if b"2.wav" in one)
    picks = [
        {"search": "one"}, {"album": "album", "artist": "artist"}, {"folder": "music"}, {"playlist": "/a.m3u"},
        {"tracks": ["library:1"]}, {"tracks": ["~", "\ud800"]}, {"tracks": ["~nosuchuser/x"]}, {"album": "\ud800x"},
        {"artist": "\ud800x"}, {"album": "album", "artist": "\ud800x"}, {"search": "\ud800x"},
    ]  # fmt: skip
    seeds += [add[:1] + piece(0, b"\0" + json.dumps(pick).encode())[1:] for pick in picks]
    return [*seeds, *(add + seed for seed in seeds), add * 3]


def media_request_seeds() -> list[bytes]:
    ranges = (b"bytes=0-99", b"bytes=5-", b"bytes=-5", b"bytes=0-0,5-9", b"bytes=99999999999999-", b"items=1-2")
    return [piece(0, one) + piece(0, due) for one in ranges for due in (b"100", b"99999999999", b"-1")]
