"""The browsers that play in a host's rooms: who is there, and what goes between them and the rest of the host.

Owns their connections (``/api/speaker``), and how they become speakers like others: with an id, settings that are kept,
a place in ``status`` and a say in how far ahead a change takes effect. What is said to one browser is
:mod:`musicsyncd.system.browser_speaker`'s, their sound :mod:`musicsyncd.system.browser_pcm`'s.

A browser's id in the API is a hash of the one that it tells: who sees the API cannot pass for another's browser, and no
browser for a speaker on the network.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from aiohttp import WSMsgType, web

from musicsyncd import __version__
from musicsyncd.errors import MusicSyncError, ProtocolError
from musicsyncd.playback.timeline import Track
from musicsyncd.protocol.host import LEAD_MARGIN_NS, PeerInfo
from musicsyncd.system import browser_messages as messages
from musicsyncd.system.browser_pcm import PcmServer
from musicsyncd.system.browser_speaker import Browser, Playing
from musicsyncd.system.http_guard import Caller, Rate
from musicsyncd.system.monotonic import now_ns
from musicsyncd.system.routes import Route
from musicsyncd.text import encodable
from musicsyncd.units import ns_to_s

if TYPE_CHECKING:
    from musicsyncd.system.control import Control
    from musicsyncd.system.site import Site

log = logging.getLogger(__name__)

MAX_BROWSERS = 64
"""That play at a time, with those that have just gone."""

MAX_SPEAKERS = 512
"""A browser that was never here before is refused when the host keeps settings for so many speakers: whoever has no
more than a link to listen with must not take the places of real ones."""

MESSAGES_A_S, MESSAGES_AT_ONCE = 30.0, 120
"""A browser sends three a second, and twenty at the beginning."""

HELLO_S = 5.0
"""For a browser to say who it is."""

SILENCE_S = 70.0
"""A page in the background is woken once a minute at least."""

MAX_MESSAGE_BYTES = 1024

_encoder = msgspec.json.Encoder()


class _Link:
    """A browser and its connection."""

    def __init__(self, browser: Browser, socket: web.WebSocketResponse) -> None:
        self.browser = browser
        self.wake = asyncio.Event()
        self._socket = socket

    async def send(self, message: messages.ToBrowser | None) -> None:
        """Send a message, or nothing."""
        if message is not None:
            await self._socket.send_str(_encoder.encode(message).decode())

    async def end(self, why: str, *, again: bool) -> None:
        """Say why it ends, and end it."""
        await self.send(messages.Gone(why, again))
        await self._socket.close()


class BrowserSpeakers:
    """The browsers of a host.

    Args:
        control: its rooms and speakers.
    """

    def __init__(self, control: Control) -> None:
        self._control = control
        self._links: dict[bytes, _Link] = {}
        self.pcm = PcmServer(self._find)

    # -- what the host asks --------------------------------------------------------------------

    def infos(self) -> list[PeerInfo]:
        """Return what is known of every browser since this start."""
        now_host_ns = now_ns()
        return [link.browser.info(now_host_ns) for link in self._links.values()]

    def lead_duration_ns(self, room: str) -> int:
        """Return how far ahead an instant must be for a room's browsers; 0 when it has none."""
        now_host_ns = now_ns()
        present = [one.browser for one in self._links.values() if one.browser.present(now_host_ns)]
        leads = [one.lead_duration_ns() + LEAD_MARGIN_NS for one in present if one.room == room]
        return max(leads, default=0)

    def look(self) -> None:
        """Something may have changed: let every browser be told what it does not know yet."""
        for link in self._links.values():
            link.wake.set()

    def forget(self, peer_id: bytes) -> None:
        """Forget a browser that has gone."""
        self._links.pop(peer_id, None)

    def close(self) -> None:
        """Stop all work."""
        self.pcm.close()

    # -- a connection --------------------------------------------------------------------------

    async def converse(self, socket: web.WebSocketResponse, address: str) -> None:
        """Talk with a browser until one of both ends it."""
        rate = Rate(MESSAGES_A_S, MESSAGES_AT_ONCE, 1)
        try:
            async with asyncio.timeout(HELLO_S):
                hello = messages.decode(await socket.receive_str())
            if not isinstance(hello, messages.Hello):
                raise ProtocolError("malformed", "its first message is not a hello")
            link = await self._admit(hello, socket, address)
        except (ProtocolError, TypeError, TimeoutError) as error:
            await socket.close(code=1008, message=str(error).encode()[:100])
            return
        except MusicSyncError as error:
            await socket.send_str(_encoder.encode(messages.Gone(str(error), again=False)).decode())
            return
        teller = asyncio.create_task(self._keep_told(link))
        try:
            await self._hear(link, socket, rate)
        finally:
            teller.cancel()
            await asyncio.gather(teller, return_exceptions=True)
            self._left(link)

    async def _admit(self, hello: messages.Hello, socket: web.WebSocketResponse, address: str) -> _Link:
        """Make a browser one of the speakers.

        Raises:
            MusicSyncError: it cannot be one.
        """
        peer_id = hashlib.sha256(b"browser " + bytes.fromhex(hello.id)).digest()[:8]
        speakers = self._control.speakers
        if speakers.kept(peer_id) is None and len(speakers.all()) >= MAX_SPEAKERS:
            raise MusicSyncError(f"the host knows {MAX_SPEAKERS} speakers: remove some that are away")
        before = self._links.pop(peer_id, None)
        self._make_place()
        now_host_ns = now_ns()
        name = "".join(char if char.isprintable() else " " for char in encodable(hello.name)).strip() or "browser"
        browser = Browser(
            msgspec.structs.replace(hello, name=name), peer_id, address, f"web {__version__}"[:24], now_host_ns
        )
        link = self._links[peer_id] = _Link(browser, socket)
        if before is not None and before.browser.left_host_ns is None:
            await before.end("this browser plays in another tab now", again=False)
        await link.send(browser.welcome())
        self._control.peer_appeared(peer_id, name)
        log.info("browser %s at %s plays", name, address or "this machine")
        link.wake.set()
        return link

    def _make_place(self) -> None:
        """Make place for one more.

        Raises:
            MusicSyncError: there are too many.
        """
        if len(self._links) < MAX_BROWSERS:
            return
        gone = [one.browser for one in self._links.values() if one.browser.left_host_ns is not None]
        if not gone:
            raise MusicSyncError(f"{MAX_BROWSERS} browsers play already, which is the most that a host can have")
        del self._links[min(gone, key=lambda one: one.left_host_ns or 0).peer_id]

    async def _hear(self, link: _Link, socket: web.WebSocketResponse, rate: Rate) -> None:
        """Take a browser's messages until there are no more."""
        while True:
            async with asyncio.timeout(SILENCE_S):
                message = await socket.receive()
            received_host_ns = now_ns()
            if message.type is not WSMsgType.TEXT:
                return
            if rate.take("", ns_to_s(received_host_ns)):
                await link.end("it says too much: reload the page", again=False)
                return
            try:
                await self._take(link, messages.decode(message.data), received_host_ns)
            except ProtocolError as error:
                await link.end(f"it is not understood ({error}): reload the page", again=False)
                return

    async def _take(self, link: _Link, message: messages.FromBrowser, received_host_ns: int) -> None:
        browser = link.browser
        if isinstance(message, messages.Probe):
            await link.send(browser.probed(message, received_host_ns, now_ns()))
            await link.send(browser.clock())
        elif isinstance(message, messages.Report):
            browser.reported(message, received_host_ns)
        elif isinstance(message, messages.Change):
            speakers, name = self._control.speakers, browser.peer_id.hex()
            if message.output_delay_ms is not None:
                speakers.delay(name, message.output_delay_ms)
            if message.volume is not None:
                speakers.volume(name, str(message.volume))
        else:
            raise ProtocolError("malformed", "it says hello twice")

    async def _keep_told(self, link: _Link) -> None:
        """Tell a browser what it does not know yet, whenever there may be something."""
        while True:
            await link.wake.wait()
            link.wake.clear()
            saved = self._control.speakers.kept(link.browser.peer_id)
            if saved is not None:
                await link.send(link.browser.tell(saved, self._playing(saved.room)))

    def _playing(self, name: str) -> Playing | None:
        room = next((one for one in self._control.rooms if one.name == name), None)
        if room is None or room.said is None:
            return None
        entry = room.queue.current_entry
        mode = room.transport.mode
        return Playing(room.said, mode) if entry is None else Playing(room.said, mode, entry.title, entry.artist)

    def _left(self, link: _Link) -> None:
        """Note that a connection has ended; what the browser was is shown for as long as this host runs."""
        link.browser.left_host_ns = now_ns()
        if self._links.get(link.browser.peer_id) is link:
            log.info("browser %s is away", link.browser.name)

    def _find(self, content_id: bytes) -> tuple[Path, Track] | None:
        """Return the file and the track with a content id, when it is in a queue."""
        for room in self._control.rooms:
            entry = room.queue.find_content(content_id)
            if entry is not None and entry.track is not None:
                return self._control.preparer.served(entry), entry.track
        return None


def routes(site: Site) -> tuple[Route, ...]:
    """Return the routes of a host's browsers, with everything wired to its rooms."""
    browsers = BrowserSpeakers(site.control)
    site.control.speakers.browsers = browsers
    site.control.listeners.append(browsers.look)
    site.on_close(browsers.close)

    async def speak(site: Site, request: web.Request, caller: Caller) -> web.StreamResponse:
        async def work(socket: web.WebSocketResponse) -> None:
            await browsers.converse(socket, caller.address)

        return await site.sockets.serve(request, caller, work, max_message_bytes=MAX_MESSAGE_BYTES)

    async def frames(_site: Site, request: web.Request, _caller: Caller) -> web.StreamResponse:
        return await browsers.pcm.serve(request)

    return (
        Route("GET", "/api/speaker", None, speak, "listen", "Play in this browser", "websocket"),
        Route(
            "GET",
            "/api/pcm/{content_id:[0-9a-f]{64}}",
            None,
            frames,
            "listen",
            "Frames of a track: 16-bit little endian, stereo, at its own rate; ?frame=FIRST&frames=COUNT",
            "application/octet-stream",
        ),
    )
