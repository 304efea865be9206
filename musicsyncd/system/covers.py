"""Covers of tracks, for pages, and their tags.

Owns which are kept in memory, and that one file at a time is looked into, in a thread of its own. What a picture is,
and where it is found, is :mod:`musicsyncd.media.tags`'s. The path is always one that the host itself knows, never a
client's.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from aiohttp import ETag, web

from musicsyncd.errors import MediaError
from musicsyncd.media.tags import Cover, Tags, read_cover, read_tags

MAX_COVER_BYTES = 2 << 20
"""A phone shows a few hundred dots across; what is larger than this is a scan for print."""

MAX_KEPT = 16
"""Covers in memory, of the tracks that were asked for last: 32 MB at the very most."""

MAX_WAITING = 64
"""Requests that wait for a file to be looked into."""


_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class _Kept:
    cover: Cover | None
    tag: str


class Covers:
    """The covers that were asked for last."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="covers")
        self._waiting = 0

    def close(self) -> None:
        """End all work."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def answer(self, request: web.Request, path: str) -> web.Response:
        """Return a track's cover.

        Args:
            request: for it.
            path: of the track's file, as the host knows it.

        Raises:
            web.HTTPException: it has none, or too many are being looked for.
        """
        kept = await self._find(path)
        if kept.cover is None:
            raise web.HTTPNotFound(reason="this track has no cover")
        response = web.Response()
        response.etag = ETag(kept.tag)
        response.headers["Cache-Control"] = "private, no-cache"
        if any(one.value in (kept.tag, "*") for one in request.if_none_match or ()):
            response.set_status(304)
            return response
        response.content_type = kept.cover.media_type
        response.body = kept.cover.data
        return response

    async def tags(self, path: str) -> Tags:
        """Return what a track's tags say, or only a name where they cannot be read.

        Args:
            path: of the track's file, as the host knows it.

        Raises:
            web.HTTPException: too many files are being looked into.
        """
        return await self._ask(_read_tags, path)

    async def _find(self, path: str) -> _Kept:
        key = await self._ask(_key, path)
        kept = self._kept.get(key)
        if kept is None:
            kept = self._kept[key] = await self._ask(_read, path)
        self._kept.move_to_end(key)
        if len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)
        return kept

    async def _ask(self, question: Callable[[str], _T], path: str) -> _T:
        if self._waiting >= MAX_WAITING:
            raise web.HTTPServiceUnavailable(reason="too many covers are being looked for: ask again")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, question, path)
        finally:
            self._waiting -= 1


def _key(path: str) -> str:
    """Return what names a file and its content, so that a changed file is looked into anew."""
    try:
        found = Path(path).stat()
    except (OSError, ValueError):
        return path
    return f"{found.st_mtime_ns} {found.st_size} {path}"


def _read_tags(path: str) -> Tags:
    try:
        return read_tags(Path(path))
    except (MediaError, OSError, ValueError):
        return Tags(Path(path).stem)


def _read(path: str) -> _Kept:
    try:
        cover = read_cover(Path(path))
    except (MediaError, OSError, ValueError):
        cover = None
    if cover is None or len(cover.data) > MAX_COVER_BYTES:
        return _Kept(None, "")
    return _Kept(cover, hashlib.sha256(cover.data).hexdigest()[:32])
