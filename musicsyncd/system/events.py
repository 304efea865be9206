"""What pages are told without asking: the status, at once when something changes, and that a queue is another one.

Owns when a status goes out, and that each page has the newest. A status is made and encoded once, and the same bytes go
to all: a hundred pages cost little more than one. Must not know what is in a status beyond the few fields named here.

A page that reads slowly keeps nothing waiting and nothing in memory: for each there is one status to be sent next,
which a newer one replaces, and of each room the newest revision of its queue. So the newest is never lost, and what was
left out was old.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from aiohttp import WSMsgType, web

from musicsyncd.system.encoding import encoded

COALESCE_S = 0.02
"""Changes that come together go out together; nobody sees the difference."""

MAX_HEARD = 64
"""Messages that a page may send; it has nothing to say, so one that talks is no page of ours."""

Json = dict[str, Any]


class Events:
    """Tells pages.

    Args:
        status: makes the status.
    """

    def __init__(self, status: Callable[[], Json]) -> None:
        self._status = status
        self._pages: set[_Page] = set()
        self._due: asyncio.TimerHandle | None = None
        self._gist: object = None
        self._revisions: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._pages)

    def touch(self) -> None:
        """Something has changed: tell it within :data:`COALESCE_S`."""
        if self._pages and self._due is None:
            self._due = asyncio.get_running_loop().call_later(COALESCE_S, self._tell)

    def tick(self) -> None:
        """Tell the status if it is news; to be called once a second."""
        if self._pages and self._due is None:
            status = self._status()
            if _gist(status) != self._gist:
                self._tell_all(status)

    def close(self) -> None:
        """Tell nothing more."""
        if self._due is not None:
            self._due.cancel()
            self._due = None
        self._pages.clear()

    async def work(self, ws: web.WebSocketResponse) -> None:
        """Tell one page, on its socket, until that is closed."""
        page = _Page()
        status = self._status()
        if not self._pages:
            self._revisions, self._gist = _revisions(status), _gist(status)
        page.tell(status=_message("status", status))
        self._pages.add(page)
        telling = asyncio.create_task(page.send_all(ws))
        try:
            heard = 0
            async for message in ws:
                heard += 1
                if message.type == WSMsgType.ERROR or heard >= MAX_HEARD:
                    break
        finally:
            self._pages.discard(page)
            telling.cancel()
            await asyncio.wait((telling,))

    def _tell(self) -> None:
        self._due = None
        if self._pages:
            self._tell_all(self._status())

    def _tell_all(self, status: Json) -> None:
        self._gist = _gist(status)
        revisions = _revisions(status)
        changed = {room: number for room, number in revisions.items() if self._revisions.get(room) != number}
        self._revisions = revisions
        queues = {room: _message("queue", {"room": room, "revision": number}) for room, number in changed.items()}
        message = _message("status", status)
        for page in self._pages:
            page.tell(message, queues)


class _Page:
    """What one page is to be told next."""

    def __init__(self) -> None:
        self._something = asyncio.Event()
        self._status: bytes | None = None
        # By room: as many as there are rooms, at most.
        self._queues: dict[str, bytes] = {}

    def tell(self, status: bytes, queues: dict[str, bytes] | None = None) -> None:
        """Put a status in the place of an older one, and likewise the queues' revisions."""
        self._status = status
        self._queues.update(queues or {})
        self._something.set()

    async def send_all(self, ws: web.WebSocketResponse) -> None:
        """Send what there is to be told, for ever; each send waits until the page takes it."""
        try:
            while True:
                await self._something.wait()
                self._something.clear()
                queues, self._queues = self._queues, {}
                status, self._status = self._status, None
                for message in (status, *queues.values()):
                    if message is not None:
                        await ws.send_frame(message, WSMsgType.TEXT)
        except ConnectionError:
            return  # It has gone, and whoever reads from it sees that too.


def _message(kind: str, content: Json) -> bytes:
    return encoded({"type": kind} | content)


def _revisions(status: Json) -> dict[str, int]:
    return {room["name"]: room["queue_revision"] for room in status["rooms"]}


def _gist(status: Json) -> object:
    """Return a status without what runs on by itself, and so is no news."""
    rooms = [{**room, "position_s": None} if room["moving"] else room for room in status["rooms"]]
    peers = [{**peer, "seen_s_ago": None} for peer in status["peers"]]
    return {**status["host"], "uptime_s": None, "dropped": None}, rooms, peers
