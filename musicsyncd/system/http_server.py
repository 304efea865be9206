"""The host's HTTP server: the control interface as JSON, and the way to the media.

Over TCP every request carries the room's token (``Authorization: Bearer …``) and is judged by
:mod:`musicsyncd.system.http_guard` before it is looked at; over the Unix socket of this machine the file's permissions
decide. Tracks are served by :mod:`musicsyncd.system.media_server`.

Routes and bodies are in :data:`ROUTES`; an error is ``{"error": "one line"}``.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path
from typing import Annotated, Any

import msgspec
from aiohttp import web

from musicsyncd.errors import ConfigError, ControlError, MusicSyncError, StaleError
from musicsyncd.media.queue import MAX_QUEUE
from musicsyncd.system.control import Control
from musicsyncd.system.http_connections import (
    Connections,
    GuardedRunner,
    Handler,
    caller_of,
    connections_possible,
    port_of,
)
from musicsyncd.system.http_guard import MEDIA_PATH, Caller, Guard, Refusal, own_names
from musicsyncd.system.key_change import KeyChange
from musicsyncd.system.library_control import MAX_NAME_CHARS, QUESTIONS, Find, LibraryControl, Pick, resolve
from musicsyncd.system.log import Throttle
from musicsyncd.system.media_server import MediaServer
from musicsyncd.system.multicast import NO_FAMILY

log = logging.getLogger(__name__)

MAX_BODY_BYTES = 1 << 20
"""A queue of 10,000 paths fits; nothing else comes near."""

BODY_S = 10.0
"""For a body to come, from its first byte to its last."""

SEND_S = 30.0
"""For an answer to be taken."""

Json = dict[str, Any]


_Text = Annotated[str, msgspec.Meta(max_length=MAX_NAME_CHARS)]


class _Seek(msgspec.Struct, forbid_unknown_fields=True):
    to: _Text


class _Volume(msgspec.Struct, forbid_unknown_fields=True):
    volume: _Text


class _Mute(msgspec.Struct, forbid_unknown_fields=True):
    muted: bool


class _Positions(msgspec.Struct, forbid_unknown_fields=True):
    positions: Annotated[list[int], msgspec.Meta(max_length=MAX_QUEUE)]
    revision: int | None = None


class _Move(msgspec.Struct, forbid_unknown_fields=True, rename={"from_": "from"}):
    from_: int
    to: int
    revision: int | None = None


class _Jump(msgspec.Struct, forbid_unknown_fields=True):
    position: int | None = None
    words: _Text = ""
    revision: int | None = None


class _Clear(msgspec.Struct, forbid_unknown_fields=True):
    revision: int | None = None


class _Switch(msgspec.Struct, forbid_unknown_fields=True):
    on: bool


class _Repeat(msgspec.Struct, forbid_unknown_fields=True):
    repeat: _Text


class _Crossfade(msgspec.Struct, forbid_unknown_fields=True):
    seconds: float


class _Name(msgspec.Struct, forbid_unknown_fields=True):
    name: _Text


class _RoomOf(msgspec.Struct, forbid_unknown_fields=True):
    room: _Text


class _Delay(msgspec.Struct, forbid_unknown_fields=True):
    output_delay_ms: float


class _Channels(msgspec.Struct, forbid_unknown_fields=True):
    channels: _Text


class _Nothing(msgspec.Struct, forbid_unknown_fields=True):
    pass


_Route = Callable[[Control, Any, Any, Caller], Awaitable[Json]]


async def _status(control: Control, _match: Any, _body: _Nothing, _caller: Caller) -> Json:  # noqa: ANN401
    return control.status()


async def _queue(control: Control, match: Any, _body: _Nothing, _caller: Caller) -> Json:  # noqa: ANN401
    return control.queues.show(match["room"])


async def _history(control: Control, match: Any, _body: _Nothing, _caller: Caller) -> Json:  # noqa: ANN401
    return control.queues.history(match["room"])


async def _jump(control: Control, match: Any, body: _Jump, _caller: Caller) -> Json:  # noqa: ANN401
    return {"message": await control.queues.jump(match["room"], body.position, body.words, body.revision)}


async def _play(control: Control, match: Any, body: Pick, caller: Caller) -> Json:  # noqa: ANN401
    picked = await resolve(control.library, body, caller)
    return {"message": await control.play(match["room"], list(picked.paths)) + picked.note}


async def _add(control: Control, match: Any, body: Pick, caller: Caller) -> Json:  # noqa: ANN401
    picked = await resolve(control.library, body, caller)
    return {"message": await control.queues.add(match["room"], list(picked.paths), next_=body.next) + picked.note}


def _key_of(control: Control, caller: Caller) -> KeyChange:
    if not caller.local:
        raise ControlError("the key is changed on the host's own machine only")
    if control.key is None:
        raise ControlError("this host runs without a key")
    return control.key


async def _key(control: Control, _match: Any, _body: _Nothing, caller: Caller) -> Json:  # noqa: ANN401
    return _key_of(control, caller).status()


async def _rotate(control: Control, _match: Any, _body: _Nothing, caller: Caller) -> Json:  # noqa: ANN401
    return {"message": _key_of(control, caller).begin()}


def _decoded(raw: bytes, body_type: type[Any]) -> Any:  # noqa: ANN401 - one of that type
    """Return a request's body. Names of files that are not UTF-8 are in it as Python has them: with half surrogates."""
    if b"\\ud" in raw.lower():
        return msgspec.convert(json.loads(raw), type=body_type)
    return msgspec.json.decode(raw or b"{}", type=body_type)


def _of_query(request: web.Request) -> Find:
    """Return what a request looks for, from what stands behind its question mark."""
    return msgspec.convert(dict(request.query), type=Find, strict=False)


def _encoded(answer: Json) -> bytes:
    try:
        return msgspec.json.encode(answer)
    except UnicodeEncodeError:  # A name of a file that is not UTF-8: see _decoded.
        return json.dumps(answer).encode("ascii")


def _transport(request: web.Request) -> asyncio.Transport:
    if request.transport is None:
        raise ConnectionResetError("whoever asked has gone")
    return request.transport


def _clear_socket(path: Path) -> None:
    """Remove a socket that a killed host left behind.

    Raises:
        ConfigError: when somebody answers there.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            if path.is_socket():
                path.unlink(missing_ok=True)
            return
    raise ConfigError(f"another host answers at {path}: stop it, or give this one another --state-dir")


def _say(call: Callable[[Control, Any, Any], str]) -> _Route:
    """Make a handler of something that answers with one line at once."""

    async def handle(control: Control, match: Any, body: Any, _caller: Caller) -> Json:  # noqa: ANN401
        return {"message": call(control, match, body)}

    return handle


def _ask(question: Callable[[LibraryControl | None, Find], Awaitable[Json]]) -> _Route:
    """Make a handler of a question to the library."""

    async def handle(control: Control, _match: Any, find: Any, _caller: Caller) -> Json:  # noqa: ANN401
        return await question(control.library, find)

    return handle


ROUTES: tuple[tuple[str, str, type[Any], _Route], ...] = (
    ("GET", "/api/status", _Nothing, _status),
    ("GET", "/api/key", _Nothing, _key),
    ("POST", "/api/key/rotate", _Nothing, _rotate),
    ("GET", "/api/rooms/{room}/queue", _Nothing, _queue),
    ("POST", "/api/rooms", _Name, _say(lambda c, _m, b: c.make_room(b.name))),
    ("DELETE", "/api/rooms/{room}", _Nothing, _say(lambda c, m, _b: c.remove_room(m["room"]))),
    ("POST", "/api/rooms/{room}/play", Pick, _play),
    ("POST", "/api/rooms/{room}/pause", _Nothing, _say(lambda c, m, _b: c.pause(m["room"]))),
    ("POST", "/api/rooms/{room}/resume", _Nothing, _say(lambda c, m, _b: c.resume(m["room"]))),
    ("POST", "/api/rooms/{room}/stop", _Nothing, _say(lambda c, m, _b: c.stop(m["room"]))),
    ("POST", "/api/rooms/{room}/seek", _Seek, _say(lambda c, m, b: c.seek(m["room"], b.to))),
    ("POST", "/api/rooms/{room}/next", _Nothing, _say(lambda c, m, _b: c.next(m["room"]))),
    ("POST", "/api/rooms/{room}/previous", _Nothing, _say(lambda c, m, _b: c.previous(m["room"]))),
    ("POST", "/api/rooms/{room}/volume", _Volume, _say(lambda c, m, b: c.room_volume(m["room"], b.volume))),
    ("POST", "/api/rooms/{room}/mute", _Mute, _say(lambda c, m, b: c.room_mute(m["room"], b.muted))),
    ("POST", "/api/rooms/{room}/queue/add", Pick, _add),
    (
        *("POST", "/api/rooms/{room}/queue/remove", _Positions),
        _say(lambda c, m, b: c.queues.remove(m["room"], b.positions, b.revision)),
    ),
    (
        *("POST", "/api/rooms/{room}/queue/move", _Move),
        _say(lambda c, m, b: c.queues.move(m["room"], b.from_, b.to, b.revision)),
    ),
    ("POST", "/api/rooms/{room}/queue/clear", _Clear, _say(lambda c, m, b: c.queues.clear(m["room"], b.revision))),
    ("POST", "/api/rooms/{room}/queue/jump", _Jump, _jump),
    ("POST", "/api/rooms/{room}/queue/undo", _Nothing, _say(lambda c, m, _b: c.queues.undo(m["room"]))),
    ("GET", "/api/rooms/{room}/queue/history", _Nothing, _history),
    ("POST", "/api/rooms/{room}/shuffle", _Switch, _say(lambda c, m, b: c.queues.shuffle(m["room"], b.on))),
    ("POST", "/api/rooms/{room}/repeat", _Repeat, _say(lambda c, m, b: c.queues.repeat(m["room"], b.repeat))),
    (
        *("POST", "/api/rooms/{room}/crossfade", _Crossfade),
        _say(lambda c, m, b: c.queues.crossfade(m["room"], b.seconds)),
    ),
    ("POST", "/api/peers/{peer}/volume", _Volume, _say(lambda c, m, b: c.speakers.volume(m["peer"], b.volume))),
    ("POST", "/api/peers/{peer}/mute", _Mute, _say(lambda c, m, b: c.speakers.mute(m["peer"], b.muted))),
    ("POST", "/api/peers/{peer}/delay", _Delay, _say(lambda c, m, b: c.speakers.delay(m["peer"], b.output_delay_ms))),
    ("POST", "/api/peers/{peer}/channels", _Channels, _say(lambda c, m, b: c.speakers.channels(m["peer"], b.channels))),
    ("POST", "/api/peers/{peer}/room", _RoomOf, _say(lambda c, m, b: c.move_peer(m["peer"], b.room))),
    ("DELETE", "/api/peers/{peer}", _Nothing, _say(lambda c, m, _b: c.speakers.forget(m["peer"]))),
    *(("GET", path, Find, _ask(question)) for path, question in QUESTIONS),
)


class HttpServer:
    """Serves media and control.

    Args:
        control: what the requests are carried out by.
        token: that requests over TCP must carry; None for a room without a key.
    """

    def __init__(self, control: Control, token: str | None) -> None:
        self._control = control
        self._guard = Guard(None if token is None else (token,), own_names())
        self._throttle = Throttle(log)
        app = web.Application(client_max_size=MAX_BODY_BYTES)
        app.router.add_get(f"{MEDIA_PATH}{{content_id:[0-9a-f]{{64}}}}", MediaServer(control.media_path).serve)
        for method, path, body_type, route in ROUTES:
            app.router.add_route(method, path, self._json_handler(body_type, route))
        self._connections = Connections(connections_possible())
        self._runner = GuardedRunner(app, self._front, self._connections, shutdown_timeout=0.5)
        self._socket_path: Path | None = None

    def accept_tokens(self, tokens: Collection[str]) -> None:
        """Take these tokens from now on: while a key is changed, that of the old one and that of the new one."""
        self._guard.accept(tokens)

    async def open(self, port: int, socket_path: Path) -> None:
        """Listen on a TCP port of every interface, and on a Unix socket.

        Raises:
            ConfigError: when one of them cannot be had.
        """
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, "0.0.0.0", port, reuse_address=True).start()
            await self._listen_on_ipv6(port)
        except OSError as error:
            what = f"cannot listen on TCP port {port}: {os.strerror(error.errno or 0)}"
            hint = "another host may be running on this machine; choose another port with --port"
            raise ConfigError(f"{what}: {hint}") from None
        try:
            _clear_socket(socket_path)
            await web.UnixSite(self._runner, str(socket_path)).start()
            os.chmod(socket_path, 0o600)
        except OSError as error:
            raise ConfigError(f"cannot make the socket {socket_path}: {error.strerror or error}") from None
        self._socket_path = socket_path

    async def _listen_on_ipv6(self, port: int) -> None:
        try:
            await web.TCPSite(self._runner, "::", port, reuse_address=True).start()
        except OSError as error:
            if error.errno not in NO_FAMILY:
                raise

    async def close(self) -> None:
        """Stop listening."""
        await self._runner.cleanup()
        if self._socket_path is not None:
            with contextlib.suppress(OSError):
                self._socket_path.unlink(missing_ok=True)

    async def _front(self, request: web.Request, behind: Handler) -> web.StreamResponse:
        """Let in who may come in, and see to it that whatever is answered is taken within some time."""
        transport = _transport(request)
        caller = caller_of(transport)
        refusal = self._guard.judge(caller, port_of(transport), request.raw_path, request.headers)
        if refusal is None:
            self._connections.known(request.protocol)
            response = await self._answered(request, behind)
        else:
            response = self._refused(refusal, caller)
        if not response.prepared:
            try:
                async with asyncio.timeout(SEND_S):
                    await response.prepare(request)
                    await response.write_eof()
            except TimeoutError:
                transport.abort()
                raise ConnectionResetError("whoever asked does not take the answer") from None
        return response

    def _refused(self, refusal: Refusal, caller: Caller) -> web.Response:
        kind = "without the room's key" if refusal.status == 401 else f"({refusal.line})"
        source = caller.address or "this machine"
        self._throttle.warning(f"refused {refusal.status}", f"a request from {source} {kind} was refused")
        response = web.json_response({"error": refusal.line}, status=refusal.status)
        if refusal.retry_after_s:
            response.headers["Retry-After"] = str(refusal.retry_after_s)
        response.force_close()
        return response

    async def _answered(self, request: web.Request, behind: Handler) -> web.StreamResponse:
        """Carry a request out, and turn what goes wrong into one line."""
        try:
            return await behind(request)
        except web.HTTPException as error:
            return web.json_response({"error": error.reason}, status=error.status)
        except web.RequestPayloadError:
            return web.json_response({"error": "the request's body breaks off or is no HTTP"}, status=400)
        except (ConfigError, ControlError) as error:
            return web.json_response({"error": str(error)}, status=400)
        except StaleError as error:
            return web.json_response({"error": str(error), "revision": error.revision}, status=409)
        except MusicSyncError as error:
            return web.json_response({"error": str(error)}, status=409)
        except (asyncio.CancelledError, ConnectionError):
            raise
        except Exception:
            log.exception("a request failed by our own fault: %s %s", request.method, request.path)
            return web.json_response({"error": "the host made a mistake; its log says more"}, status=500)

    def _json_handler(self, body_type: type[Any], route: _Route) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            caller = caller_of(_transport(request))
            try:
                async with asyncio.timeout(BODY_S):
                    raw = await request.read()
            except TimeoutError:
                raise web.HTTPRequestTimeout(reason=f"the request's body did not come within {BODY_S:g} s") from None
            try:
                body = _decoded(raw, body_type) if body_type is not Find else _of_query(request)
            except (msgspec.MsgspecError, ValueError, RecursionError) as error:
                raise ControlError(f"the request is not understood: {error}") from None
            answer = await route(self._control, request.match_info, body, caller)
            if self._control.unsaved and "message" in answer:
                answer["message"] += f" (but it would not survive a restart: {self._control.unsaved})"
            return web.Response(body=_encoded(answer), content_type="application/json")

        return handle
