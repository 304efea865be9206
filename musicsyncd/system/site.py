"""What the routes of the host's HTTP server reach: the rooms, and what pages and programs are told of them.

Owns that all of it begins and ends together, and nothing else.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from musicsyncd.system.control import Control
from musicsyncd.system.covers import Covers
from musicsyncd.system.events import Events
from musicsyncd.system.links import Links
from musicsyncd.system.media_server import MediaServer
from musicsyncd.system.monotonic import now_ns
from musicsyncd.system.sockets import Sockets
from musicsyncd.system.trends import Trends
from musicsyncd.system.web_files import web_files


@dataclass(frozen=True, slots=True)
class Secured:
    """HTTPS beside HTTP: its port, and the SHA-256 of the host's certificate as browsers show it."""

    port: int
    fingerprint: str


class Site:
    """What routes reach.

    Args:
        control: the rooms.
        links: that were given away.
        is_open: the room has no key: whoever asks may everything.
        secured: where HTTPS is served, if it is.
        now_ns: the host's monotonic clock.

    Attributes:
        sockets: the open WebSockets.
        events: tells pages.
        trends: how speakers were.
        covers: of tracks.
        media: serves tracks to speakers.
        files: the page's.
        answered: how many requests, by the status of the answer.
    """

    def __init__(
        self,
        control: Control,
        links: Links,
        *,
        is_open: bool,
        secured: Secured | None = None,
        now_ns: Callable[[], int] = now_ns,
    ) -> None:
        self.control = control
        self.links = links
        self.is_open = is_open
        self.secured = secured
        self._now_ns = now_ns
        self.sockets = Sockets()
        self.events = Events(control.status)
        self.trends = Trends()
        self.covers = Covers()
        self.media = MediaServer(control.media_path)
        self.files = web_files()
        self.answered: Counter[int] = Counter()
        self._closing: list[Callable[[], None]] = [self.events.close, self.covers.close]
        links.revoked = self.sockets.end_link
        control.listeners.append(self.events.touch)

    def on_close(self, call: Callable[[], None]) -> None:
        """Have something called when the server ends."""
        self._closing.append(call)

    def tick(self) -> None:
        """Note and tell what changes by itself; to be called once a second."""
        self.trends.note(self._now_ns(), self.control.peers())
        self.events.tick()
        self.links.keep_used()

    def past(self, peer: str, seconds: int) -> dict[str, Any]:
        """Return how a speaker was, or all of them with an empty name, so many seconds back."""
        return self.trends.show(self._now_ns(), time.time(), peer, seconds)

    async def close(self) -> None:
        """End what is open."""
        for call in self._closing:
            call()
        await self.sockets.close()
        self.links.keep_used(at_once=True)
