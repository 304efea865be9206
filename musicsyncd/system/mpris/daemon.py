"""Follows a host and keeps its player on the session's bus for as long as it answers.

Owns the connection to the host, the name on the bus, and the covers' files. While the host is away the name is given
up, so that no applet shows a dead player. One stream of events says all that changes; beside it the host is asked once
for each track (tags and cover), and once more after what makes the position jump.

A cover is a file, since applets read files and not the host's API, which needs the key.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import re
import socket
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

import msgspec
from aiohttp import AddrInfoType, ClientError, ClientSession, ClientTimeout, TCPConnector, UnixConnector, WSMsgType
from dbus_fast import NameFlag, RequestNameReply
from dbus_fast.aio import MessageBus
from yarl import URL

from musicsyncd.errors import ConfigError, ControlError, MusicSyncError
from musicsyncd.paths import make_folder
from musicsyncd.system.control_client import ControlClient, Reach, api_path
from musicsyncd.system.identity import write_atomically
from musicsyncd.system.mpris.interfaces import PATH, PlayerInterface, Root
from musicsyncd.system.mpris.player import Change, Details, Player, RoomSeen, StatusSeen, room_of
from musicsyncd.system.supervision import notify, on_stop_signals, until_stopped

BUS_NAME = "org.mpris.MediaPlayer2.musicsyncd"

AGAIN_AFTER_S, AGAIN_AT_MOST_S = 1.0, 30.0
"""Between tries to reach a host: a restart is over in a second or two, and a holiday lasts weeks."""

HEARTBEAT_S = 10.0
"""A host that answers no ping for half of it has gone without a word."""

SETTLED_AFTER_S = 1.0
"""A command's lead is some tens of milliseconds, with a browser among the speakers up to half a second."""

CONNECT_S, ANSWER_S = 5.0, 10.0
MAX_EVENT_BYTES = 8 << 20
"""A status with a thousand speakers is 1 MB."""

MAX_COVER_BYTES = 2 << 20
"""As the host gives them (:mod:`musicsyncd.system.covers`)."""

MAX_COVERS = 8
"""Files that stay; an applet shows one."""

MAX_COMMANDS = 8
"""That may wait for the host at a time; more is a key that is stuck."""

_ENDINGS = {"image/jpeg": "jpg", "image/png": "png", "image/gif": "gif", "image/webp": "webp"}

log = logging.getLogger(__name__)

_T = TypeVar("_T")


class _Tags(msgspec.Struct, frozen=True):
    """What the host says of a track's tags."""

    album: str = ""
    track: int = 0


class Mpris:
    """The player on the bus.

    Args:
        bus: connected.
        make_client: gives what finds the host, with the key as it is now.
        room: of the host; ``-`` for the only one, or its own.
        covers: folder for their files.
    """

    def __init__(self, bus: MessageBus, make_client: Callable[[], ControlClient], room: str, covers: Path) -> None:
        self._bus = bus
        self._make_client = make_client
        self._client: ControlClient | None = None
        self._room = room
        self._covers = covers
        self._name = ""
        self._commands = 0
        self._describing: asyncio.Task[None] | None = None
        self._settling: asyncio.Task[None] | None = None
        self._player = Player(self._send)
        self._interface = PlayerInterface(self._player)
        bus.export(PATH, Root("musicsyncd" if room == "-" else f"musicsyncd: {room}"))
        bus.export(PATH, self._interface)

    async def run(self) -> None:
        """Follow the host until a signal comes.

        Raises:
            ControlError: the bus has gone.
        """
        stop = on_stop_signals()
        notify("READY=1\nSTATUS=looking for the host")
        try:
            await until_stopped(stop, self._follow_for_ever(), self._until_the_bus_goes())
        finally:
            notify("STOPPING=1")

    async def _until_the_bus_goes(self) -> None:
        with contextlib.suppress(Exception):  # However it ended.
            await self._bus.wait_for_disconnect()  # type: ignore[no-untyped-call]
        raise ControlError("the session bus has gone: start this again within a session")

    async def _follow_for_ever(self) -> None:
        again_after_s, complained = AGAIN_AFTER_S, ""
        while True:
            try:
                await self._follow()
                reason = "the host has closed the connection"
            except MusicSyncError as error:
                reason = str(error)
            except (ClientError, OSError, TimeoutError) as error:
                reason = f"cannot follow the host: {' '.join(str(error).split()) or type(error).__name__}"
            if self._name:
                again_after_s, complained = AGAIN_AFTER_S, ""
            await self._give_up_name()
            if reason != complained:
                log.warning("%s: looking for it again", reason)
            complained = reason
            await asyncio.sleep(again_after_s)
            again_after_s = min(2 * again_after_s, AGAIN_AT_MOST_S)

    # -- the host ------------------------------------------------------------------------------

    async def _follow(self) -> None:
        """Find the host and take what it says, until the connection ends."""
        client = self._client = self._make_client()
        reach = await _aside(client.reach)
        url, headers, connector = await _way_to(reach)
        timeout = ClientTimeout(total=ANSWER_S, connect=CONNECT_S)
        async with (
            ClientSession(connector=connector, headers=headers, timeout=timeout) as session,
            session.ws_connect(
                url.with_path("/api/events"), heartbeat=HEARTBEAT_S, max_msg_size=MAX_EVENT_BYTES
            ) as events,
        ):
            log.info("following the host at %s", reach.where)
            try:
                async for message in events:
                    if message.type != WSMsgType.TEXT:
                        break
                    await self._take(message.data, session, url)
            finally:
                self._drop(self._describing, self._settling)

    async def _take(self, data: str | bytes, session: ClientSession, url: URL) -> None:
        status = _decoded(data)
        if status.type != "status":
            return
        room = room_of(status, self._room)
        if room is None:
            if self._name:
                log.warning("the host has no room %r any more", self._room)
            await self._give_up_name()
            return
        self._tell(self._player.take(room), session, url)
        await self._claim_name()

    def _tell(self, change: Change, session: ClientSession, url: URL) -> None:
        if self._name:
            self._interface.tell(change)
        number = self._player.track_number
        if change.new_track or not self._name:
            self._drop(self._describing)
            self._describing = None
            if number is not None:
                self._describing = asyncio.create_task(self._describe(number, session, url))
        if self._player.unsettled:
            self._drop(self._settling)
            self._settling = asyncio.create_task(self._settle(session, url))

    async def _settle(self, session: ClientSession, url: URL) -> None:
        """Ask once more where the music is, now that what was asked for has begun."""
        await asyncio.sleep(SETTLED_AFTER_S)
        with contextlib.suppress(ClientError, OSError, TimeoutError, ControlError):
            async with session.get(url.with_path("/api/status")) as answer:
                room = room_of(_decoded(await answer.content.read(MAX_EVENT_BYTES)), self._room)
            if room is not None:
                self._settling = None
                self._tell(self._player.take(room), session, url)

    async def _describe(self, number: int, session: ClientSession, url: URL) -> None:
        """Find out what the host's events do not say of a track."""
        path = api_path("rooms", self._room)
        found = _Tags()
        with contextlib.suppress(ClientError, OSError, TimeoutError, msgspec.MsgspecError, UnicodeError):
            async with session.get(url.with_path(f"{path}/tags", encoded=True)) as answer:
                if answer.status == 200:
                    found = msgspec.json.decode(await answer.content.read(MAX_COVER_BYTES), type=_Tags)
        cover = ""
        with contextlib.suppress(ClientError, OSError, TimeoutError, ConfigError):
            async with session.get(url.with_path(f"{path}/cover", encoded=True)) as answer:
                ending = _ENDINGS.get(answer.content_type)
                if answer.status == 200 and ending is not None:
                    data = await answer.content.read(MAX_COVER_BYTES + 1)
                    cover = await asyncio.to_thread(_keep_cover, self._covers, data, ending)
        change = self._player.describe(number, Details(found.album, found.track, cover))
        if self._name:
            self._interface.tell(change)

    async def _send(self, path: str, body: dict[str, Any]) -> None:
        client = self._client
        if client is None or self._commands >= MAX_COMMANDS:
            raise ControlError("the host does not keep up with what it is asked: try again")
        self._commands += 1
        try:
            await _aside(partial(client.post, path, body))
        finally:
            self._commands -= 1

    @staticmethod
    def _drop(*tasks: asyncio.Task[None] | None) -> None:
        for task in tasks:
            if task is not None:
                task.cancel()

    # -- the bus -------------------------------------------------------------------------------

    async def _claim_name(self) -> None:
        if self._name:
            return
        name = bus_name(self._room)
        for one in (name, f"{name}.instance{os.getpid()}"):
            reply = await self._bus.request_name(one, NameFlag.DO_NOT_QUEUE)
            if reply in (RequestNameReply.PRIMARY_OWNER, RequestNameReply.ALREADY_OWNER):
                self._name = one
                log.info("on the session bus as %s", one)
                notify(f"STATUS=on the session bus as {one}")
                return
        raise ControlError(f"the session bus does not give the name {name}")

    async def _give_up_name(self) -> None:
        name, self._name = self._name, ""
        self._player.take(RoomSeen())
        if name and self._bus.connected:
            with contextlib.suppress(Exception):  # The bus is going, and says so elsewhere.
                await self._bus.release_name(name)
            notify("STATUS=looking for the host")


def bus_name(room: str) -> str:
    """Return the name on the bus for a room; of a room's name, what may stand there (D-Bus specification, "Bus names").

    Args:
        room: ``-`` for the one that is meant without a name.
    """
    if room == "-":
        return BUS_NAME
    kept = re.sub(r"[^A-Za-z0-9_]", "_", room)
    return f"{BUS_NAME}.{kept if not kept[:1].isdigit() else f'_{kept}'}"


def session_bus() -> str:
    """Return the address of the session's bus.

    Raises:
        ControlError: there is none.
    """
    given = os.environ.get("DBUS_SESSION_BUS_ADDRESS", "")
    if given:
        return given
    # As sd-bus has it; a user service or a shell without a desktop has no variable.
    usual = Path(os.environ.get("XDG_RUNTIME_DIR", ""), "bus")
    if usual.is_absolute() and usual.is_socket():
        return f"unix:path={usual}"
    raise ControlError(
        "there is no session bus (DBUS_SESSION_BUS_ADDRESS is not set): run this within a desktop session"
    )


async def _aside(call: Callable[[], _T]) -> _T:
    """Return what a call returns that waits for the host; in a thread that need not come to its end before we do."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[_T] = loop.create_future()

    def settle(result: _T | None, error: Exception | None) -> None:
        if done.cancelled():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(cast(_T, result))

    def work() -> None:
        result, problem = None, None
        try:
            result = call()
        except Exception as error:
            problem = error
        with contextlib.suppress(RuntimeError):  # The loop has ended meanwhile.
            loop.call_soon_threadsafe(settle, result, problem)

    threading.Thread(target=work, name="host", daemon=True).start()
    return await done


async def _way_to(reach: Reach) -> tuple[URL, dict[str, str], UnixConnector | TCPConnector]:
    if reach.unix is not None:
        return URL("http://localhost"), {}, UnixConnector(str(reach.unix))
    name, port = reach.address
    # A host answers to its addresses and its own name only, and may well be called otherwise here.
    found = await asyncio.get_running_loop().getaddrinfo(name, port, type=socket.SOCK_STREAM)
    address, _, *scope = found[0][4]
    headers = {"Authorization": f"Bearer {reach.token}"} if reach.token else {}
    connector = TCPConnector(socket_factory=partial(_socket_on, scope[1] if scope else 0))
    return URL.build(scheme="http", host=str(address).partition("%")[0], port=port), headers, connector


def _socket_on(link: object, info: AddrInfoType) -> socket.socket:
    """Return a socket to connect with; a link-local address means nothing without its link, and aiohttp loses it."""
    made = socket.socket(*info[:3])
    if isinstance(link, int) and link:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, socket.if_indextoname(link).encode())
    return made


def _decoded(data: str | bytes) -> StatusSeen:
    try:
        return msgspec.json.decode(data, type=StatusSeen)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise ControlError(f"what the host says makes no sense here ({error}): is it of another version?") from None


def _keep_cover(folder: Path, data: bytes, ending: str) -> str:
    """Write a cover into the folder, remove what has been there longest, and return its address."""
    if len(data) > MAX_COVER_BYTES:
        return ""
    file = make_folder(folder) / f"{hashlib.sha256(data).hexdigest()[:32]}.{ending}"
    if file.exists():
        file.touch()
    else:
        write_atomically(file, data)
    kept = sorted(folder.iterdir(), key=lambda one: one.stat().st_mtime_ns, reverse=True)
    for old in kept[MAX_COVERS:]:
        old.unlink(missing_ok=True)
    return file.as_uri()


async def _run(make_client: Callable[[], ControlClient], room: str, covers: Path) -> None:
    address = session_bus()
    try:
        bus = await MessageBus(bus_address=address).connect()
    except Exception as error:  # The library raises its own kinds, the system's, and ValueError for no address.
        reason = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
        raise ControlError(f"cannot use the session bus at {address}: {reason}") from None
    try:
        await Mpris(bus, make_client, room, covers).run()
    finally:
        bus.disconnect()


def run(make_client: Callable[[], ControlClient], room: str, covers: Path) -> None:
    """Be a host's player on the session's bus until told to stop.

    Args:
        make_client: gives what finds the host.
        room: of the host; ``-`` for the only one, or its own.
        covers: folder for their files.

    Raises:
        MusicSyncError: with one line, when there is no bus, or it has gone.
    """
    asyncio.run(_run(make_client, room, covers))
