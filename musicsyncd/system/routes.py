"""The host's API: every route, who may ask for it, what it takes and what it answers.

Owns the table :data:`ROUTES`, from which the server takes what it does and the API's description what it says
(:mod:`musicsyncd.system.openapi`). What is done is done by :mod:`musicsyncd.system.control` and what it holds.

A handler that is given the request itself, and not its body, is one whose route has no body type.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
from aiohttp import web

from musicsyncd.errors import ControlError
from musicsyncd.system import answers, bodies
from musicsyncd.system.bodies import Nothing
from musicsyncd.system.control import Control
from musicsyncd.system.http_guard import MEDIA_PATH, Caller, Role
from musicsyncd.system.key_change import KeyChange
from musicsyncd.system.library_control import QUESTIONS, Find, LibraryControl, Pick, of_host, resolve
from musicsyncd.system.signing_in import links, make_link, me, revoke_link, sign_in, sign_out
from musicsyncd.system.site import Site
from musicsyncd.system.web_files import FOLDER

Json = dict[str, Any]
JsonHandler = Callable[[Site, Any, Any, Caller], Awaitable[Json | web.StreamResponse]]
"""Is given what stands in the path, and the body; a raw handler, the request in place of both."""

OPENAPI_PATH = "/api/openapi.json"

_PATTERN = re.compile(r"\{(\w+):(?:[^{}]|\{[^{}]*\})*\}")


@dataclass(frozen=True, slots=True)
class Route:
    """One thing that can be asked for.

    Attributes:
        method: of HTTP.
        path: with places in braces, which may have a pattern behind a colon.
        body: what its body is, or of a GET what stands behind the question mark; None for a raw handler.
        handler: answers it: a :data:`JsonHandler`, or a raw one.
        role: who may ask; ``local`` is over the host's own socket, and ``none`` is everybody.
        summary: what it does, for people.
        answer: the shape of its JSON, or the media type of what is none; ``websocket`` for one.
    """

    method: str
    path: str
    body: type[msgspec.Struct] | None
    handler: Any
    role: Role | Literal["local"]
    summary: str
    answer: type[msgspec.Struct] | str

    @property
    def template(self) -> str:
        """The path without patterns."""
        return _PATTERN.sub(r"{\1}", self.path)


# -- JSON --------------------------------------------------------------------------------------


def _say(call: Callable[[Control, Any, Any], str]) -> JsonHandler:
    """Make a handler of something that answers with one line at once."""

    async def handle(site: Site, match: Any, body: Any, _caller: Caller) -> Json:  # noqa: ANN401
        return {"message": call(site.control, match, body)}

    return handle


def _show(call: Callable[[Control, Any], Json]) -> JsonHandler:
    """Make a handler of something that is shown as it is."""

    async def handle(site: Site, match: Any, _body: Any, _caller: Caller) -> Json:  # noqa: ANN401
        return call(site.control, match)

    return handle


def _ask(question: Callable[[LibraryControl | None, Find], Awaitable[Json]]) -> JsonHandler:
    """Make a handler of a question to the library."""

    async def handle(site: Site, _match: Any, find: Any, _caller: Caller) -> Json:  # noqa: ANN401
        return await question(site.control.library, find)

    return handle


async def _jump(site: Site, match: Any, body: bodies.Jump, _caller: Caller) -> Json:  # noqa: ANN401
    return {"message": await site.control.queues.jump(match["room"], body.position, body.words, body.revision)}


async def _play(site: Site, match: Any, body: Pick, caller: Caller) -> Json:  # noqa: ANN401
    picked = await resolve(site.control.library, body, caller)
    return {"message": await site.control.play(match["room"], list(picked.paths)) + picked.note}


async def _add(site: Site, match: Any, body: Pick, caller: Caller) -> Json:  # noqa: ANN401
    if body.next and not caller.may("control"):
        raise web.HTTPForbidden(reason="a guest adds to the end of the queue: leave out next")
    picked = await resolve(site.control.library, body, caller)
    return {"message": await site.control.queues.add(match["room"], list(picked.paths), next_=body.next) + picked.note}


def _key_of(site: Site) -> KeyChange:
    if site.control.key is None:
        raise ControlError("this host runs without a key")
    return site.control.key


async def _key(site: Site, _match: Any, _body: Nothing, _caller: Caller) -> Json:  # noqa: ANN401
    return _key_of(site).status()


async def _rotate(site: Site, _match: Any, _body: Nothing, _caller: Caller) -> Json:  # noqa: ANN401
    return {"message": _key_of(site).begin()}


async def _tags(site: Site, match: Any, _body: Nothing, _caller: Caller) -> Json:  # noqa: ANN401
    entry = site.control.room(match["room"]).queue.current_entry
    if entry is None:
        raise web.HTTPNotFound(reason="nothing plays in this room")
    tags = await site.covers.tags(entry.path)
    return {name: getattr(tags, name) for name in answers.TrackTags.__struct_fields__}


async def _past(site: Site, _match: Any, body: bodies.Span, _caller: Caller) -> Json:  # noqa: ANN401
    return site.past(body.peer, body.seconds)


# -- what is no JSON, or not only ----------------------------------------------------------------


async def _page(site: Site, request: web.Request, _caller: Caller) -> web.StreamResponse:
    file = site.files.get(request.path)
    if file is None:
        raise web.HTTPNotFound(reason="no such file of the page")
    return file.answer(request)


async def _healthz(_site: Site, _request: web.Request, _caller: Caller) -> web.StreamResponse:
    return web.Response(text="ok\n")


async def _metrics(site: Site, _request: web.Request, _caller: Caller) -> web.StreamResponse:
    from musicsyncd.system import metrics  # Its library takes memory that a host without Prometheus keeps.

    return web.Response(body=metrics.exposed(site), headers={"Content-Type": metrics.MEDIA_TYPE})


async def _events(site: Site, request: web.Request, caller: Caller) -> web.StreamResponse:
    return await site.sockets.serve(request, caller, site.events.work)


async def _room_cover(site: Site, request: web.Request, _caller: Caller) -> web.StreamResponse:
    entry = site.control.room(request.match_info["room"]).queue.current_entry
    if entry is None:
        raise web.HTTPNotFound(reason="nothing plays in this room")
    return await site.covers.answer(request, entry.path)


async def _track_cover(site: Site, request: web.Request, _caller: Caller) -> web.StreamResponse:
    path = await of_host(site.control.library).file_of(int(request.match_info["id"].removeprefix("library:")))
    return await site.covers.answer(request, path)


async def _media(site: Site, request: web.Request, _caller: Caller) -> web.StreamResponse:
    return await site.media.serve(request)


# -- the table -----------------------------------------------------------------------------------

_ROOM, _PEER = "/api/rooms/{room}", "/api/peers/{peer}"
_LIBRARY: dict[str, tuple[str, type[msgspec.Struct]]] = {
    "/api/library": ("The library: folders, counts, how far the scan is", answers.LibraryShown),
    "/api/library/search": ("Tracks that have all words", answers.LibraryTracks),
    "/api/library/albums": ("Albums of a name", answers.LibraryAlbums),
    "/api/library/artists": ("Artists of a name", answers.LibraryArtists),
}


def _do(
    method: str, path: str, body: type[msgspec.Struct], call: Callable[[Control, Any, Any], str], summary: str
) -> Route:
    """Return the route of a command that answers with one line at once."""
    return Route(method, path, body, _say(call), "control", summary, answers.Message)


def _look(path: str, call: Callable[[Control, Any], Json], summary: str, answer: type[msgspec.Struct]) -> Route:
    """Return the route of something to look at."""
    return Route("GET", path, Nothing, _show(call), "listen", summary, answer)


_PUBLIC = (
    Route("GET", "/", None, _page, "none", "The page", "text/html"),
    Route("GET", f"{FOLDER}{{name:.+}}", None, _page, "none", "The page's files", "*/*"),
    Route("GET", "/healthz", None, _healthz, "none", "That the host serves, without a token here only", "text/plain"),
    Route("POST", "/api/sign-in", bodies.SignIn, sign_in, "none", "Take a link's token as a cookie", answers.Me),
    Route("POST", "/api/sign-out", Nothing, sign_out, "none", "Take the cookie away", answers.Message),
)

_LOOKING = (
    Route("GET", "/api/me", Nothing, me, "listen", "Who asks, and whom", answers.Me),
    _look("/api/status", lambda c, _m: c.status(), "All rooms and speakers", answers.Status),
    _look(f"{_ROOM}/queue", lambda c, m: c.queues.show(m["room"]), "A room's queue", answers.QueueShown),
    _look(f"{_ROOM}/queue/history", lambda c, m: c.queues.history(m["room"]), "What sounded", answers.PlayedShown),
    Route("GET", f"{_ROOM}/cover", None, _room_cover, "listen", "The current track's cover", "image/*"),
    Route("GET", f"{_ROOM}/tags", Nothing, _tags, "listen", "The current track's tags", answers.TrackTags),
    *(Route("GET", path, Find, _ask(question), "listen", *_LIBRARY[path]) for path, question in QUESTIONS),
    Route(
        *("GET", "/api/library/tracks/{id:(?:library:)?[0-9]{1,18}}/cover", None, _track_cover),
        *("listen", "A track's cover", "image/*"),
    ),
    Route("GET", "/api/history", bodies.Span, _past, "listen", "How speakers were over the last hour", answers.Past),
    Route("GET", "/api/events", None, _events, "listen", "The status and what changes, as it does", "websocket"),
    Route("GET", "/metrics", None, _metrics, "listen", "For Prometheus", "text/plain"),
    Route(
        *("GET", f"{MEDIA_PATH}{{content_id:[0-9a-f]{{64}}}}", None, _media),
        *("listen", "A track of a queue, or ranges of it", "application/octet-stream"),
    ),
)

_PLAYING = (
    _do("POST", "/api/rooms", bodies.Name, lambda c, _m, b: c.make_room(b.name), "Make a room"),
    _do("DELETE", _ROOM, Nothing, lambda c, m, _b: c.remove_room(m["room"]), "Remove a room"),
    Route("POST", f"{_ROOM}/play", Pick, _play, "control", "Play tracks now, or go on", answers.Message),
    _do("POST", f"{_ROOM}/pause", Nothing, lambda c, m, _b: c.pause(m["room"]), "Fall silent, remember the place"),
    _do("POST", f"{_ROOM}/resume", Nothing, lambda c, m, _b: c.resume(m["room"]), "Go on where it was paused"),
    _do("POST", f"{_ROOM}/stop", Nothing, lambda c, m, _b: c.stop(m["room"]), "Fall silent, begin the track anew"),
    _do("POST", f"{_ROOM}/seek", bodies.Seek, lambda c, m, b: c.seek(m["room"], b.to), "Go to a place of the track"),
    _do("POST", f"{_ROOM}/next", Nothing, lambda c, m, _b: c.next(m["room"]), "Go to the next track"),
    _do("POST", f"{_ROOM}/previous", Nothing, lambda c, m, _b: c.previous(m["room"]), "Go to the start, or one back"),
    _do("POST", f"{_ROOM}/volume", bodies.Volume, lambda c, m, b: c.room_volume(m["room"], b.volume), "Its volume"),
    _do("POST", f"{_ROOM}/mute", bodies.Mute, lambda c, m, b: c.room_mute(m["room"], b.muted), "Silence a room"),
)

_QUEUE = (
    Route("POST", f"{_ROOM}/queue/add", Pick, _add, "guest", "Add tracks; a guest to the end", answers.Message),
    _do(
        *("POST", f"{_ROOM}/queue/remove", bodies.Positions),
        *(lambda c, m, b: c.queues.remove(m["room"], b.positions, b.revision), "Take entries out"),
    ),
    _do(
        *("POST", f"{_ROOM}/queue/move", bodies.Move),
        *(lambda c, m, b: c.queues.move(m["room"], b.from_, b.to, b.revision), "Move an entry"),
    ),
    _do(
        *("POST", f"{_ROOM}/queue/clear", bodies.AtRevision),
        *(lambda c, m, b: c.queues.clear(m["room"], b.revision), "Empty the queue"),
    ),
    Route("POST", f"{_ROOM}/queue/jump", bodies.Jump, _jump, "control", "Play an entry", answers.Message),
    _do(
        *("POST", f"{_ROOM}/queue/undo", bodies.AtRevision),
        *(lambda c, m, b: c.queues.undo(m["room"], b.revision), "Take back the newest change"),
    ),
    _do("POST", f"{_ROOM}/shuffle", bodies.Switch, lambda c, m, b: c.queues.shuffle(m["room"], b.on), "Mix, or unmix"),
    _do("POST", f"{_ROOM}/repeat", bodies.Repeat, lambda c, m, b: c.queues.repeat(m["room"], b.repeat), "What follows"),
    _do(
        *("POST", f"{_ROOM}/crossfade", bodies.Crossfade),
        *(lambda c, m, b: c.queues.crossfade(m["room"], b.seconds), "Let tracks rise over the end of the one before"),
    ),
)

_SPEAKERS = (
    _do("POST", f"{_PEER}/volume", bodies.Volume, lambda c, m, b: c.speakers.volume(m["peer"], b.volume), "Its volume"),
    _do("POST", f"{_PEER}/mute", bodies.Mute, lambda c, m, b: c.speakers.mute(m["peer"], b.muted), "Silence it"),
    _do(
        *("POST", f"{_PEER}/delay", bodies.Delay),
        *(lambda c, m, b: c.speakers.delay(m["peer"], b.output_delay_ms), "How late what is behind its card is"),
    ),
    _do(
        *("POST", f"{_PEER}/channels", bodies.Channels),
        *(lambda c, m, b: c.speakers.channels(m["peer"], b.channels), "Which channels it plays"),
    ),
    _do("POST", f"{_PEER}/room", bodies.RoomOf, lambda c, m, b: c.move_peer(m["peer"], b.room), "Move it into a room"),
    _do("DELETE", _PEER, Nothing, lambda c, m, _b: c.speakers.forget(m["peer"]), "Forget one that is away"),
)

_LOCAL = (
    Route("GET", "/api/key", Nothing, _key, "local", "How far a change of the key is", answers.KeyStatus),
    Route("POST", "/api/key/rotate", Nothing, _rotate, "local", "Change the key", answers.Message),
    Route("GET", "/api/links", Nothing, links, "local", "All links", answers.LinksShown),
    Route("POST", "/api/links", bodies.NewLink, make_link, "local", "Make a link", answers.LinkMade),
    Route("DELETE", "/api/links/{id}", Nothing, revoke_link, "local", "Take a link back", answers.Message),
)

ROUTES: tuple[Route, ...] = (*_PUBLIC, *_LOOKING, *_PLAYING, *_QUEUE, *_SPEAKERS, *_LOCAL)
"""All but the API's description, and what browsers that play need (:mod:`musicsyncd.system.browser_speakers`)."""
