"""The API's description in OpenAPI 3.1, made from the routes and from the shapes of what they take and answer.

Owns the form of the description. It says nothing that is not in :mod:`musicsyncd.system.routes`, and tests hold both
against the server's own router and against real answers.

Source: OpenAPI Specification 3.1.1, https://spec.openapis.org/oas/v3.1.1.html
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from musicsyncd import __version__
from musicsyncd.system import answers
from musicsyncd.system.bodies import Nothing
from musicsyncd.system.http_guard import Caller
from musicsyncd.system.routes import OPENAPI_PATH, Route
from musicsyncd.system.site import Site

WEBSOCKET = "websocket"
"""The answer of a route that becomes a WebSocket."""

Json = dict[str, Any]

_REFERENCE = "#/components/schemas/{name}"
_PLACE = re.compile(r"\{(\w+)\}")
_ROLES = {
    "none": "Needs no token.",
    "listen": "For every link.",
    "guest": "For links of guests and of control.",
    "control": "For links of control, and the room's key.",
    "local": "Over the host's Unix socket only.",
}


def described(routes: Sequence[Route]) -> tuple[Route, ...]:
    """Return routes with one more, that of their description."""
    document: list[Json] = []

    async def show(_site: Site, _match: object, _body: Nothing, _caller: Caller) -> Json:
        return document[0]

    summary = "This description"
    all_routes = (*routes, Route("GET", OPENAPI_PATH, Nothing, show, "listen", summary, msgspec.Struct))
    document.append(description(all_routes))
    return all_routes


def description(routes: Sequence[Route]) -> Json:
    """Return the description of routes, values that JSON has."""
    types = {one.answer for one in routes if isinstance(one.answer, type) and one.answer is not msgspec.Struct}
    types |= {one.body for one in routes if one.body is not None and one.body is not Nothing}
    ordered = sorted(types | {answers.Error}, key=lambda one: one.__name__)
    _, schemas = msgspec.json.schema_components(ordered, ref_template=_REFERENCE)
    paths: dict[str, Json] = {}
    for route in routes:
        paths.setdefault(route.template, {})[route.method.lower()] = _operation(route, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "musicsyncd", "version": __version__, "license": {"name": "MIT", "identifier": "MIT"}},
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "The room's, or a link's."},
                "page": {
                    "type": "apiKey",
                    "in": "cookie",
                    "name": "musicsyncd-PORT",
                    "description": "Of a page that is signed in; PORT is the host's.",
                },
            },
        },
        "security": [{"token": []}, {"page": []}],
    }


def _operation(route: Route, schemas: Json) -> Json:
    words = route.template.replace("{", "").replace("}", "").strip("/").removeprefix("api/").split("/")
    made: Json = {
        "operationId": re.sub(r"\W+", "_", "_".join((route.method.lower(), *words))).strip("_"),
        "summary": route.summary,
        "description": _ROLES[route.role],
        "responses": {"default": {"description": "It was refused.", "content": _json(answers.Error)}},
    }
    places = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _PLACE.findall(route.template)
    ]
    if route.method == "GET" and route.body is not None and route.body is not Nothing:
        schema = schemas[route.body.__name__]
        places += [
            {"name": name, "in": "query", "required": name in schema.get("required", ()), "schema": one}
            for name, one in schema["properties"].items()
        ]
    elif route.body is not None and route.body is not Nothing:
        required = bool(schemas[route.body.__name__].get("required"))
        made["requestBody"] = {"required": required, "content": _json(route.body)}
    if places:
        made["parameters"] = places
    if route.role == "none":
        made["security"] = []
    if route.answer == WEBSOCKET:
        made["responses"]["101"] = {"description": "A WebSocket."}
    else:
        made["responses"]["200"] = {"description": "It was done.", "content": _content(route.answer)}
    return made


def _content(answer: type[msgspec.Struct] | str) -> Json:
    if isinstance(answer, str):
        return {answer: {"schema": {"type": "string"}}} if answer.startswith("text/") else {answer: {}}
    return {"application/json": {"schema": {"type": "object"}}} if answer is msgspec.Struct else _json(answer)


def _json(shape: type[msgspec.Struct]) -> Json:
    return {"application/json": {"schema": {"$ref": _REFERENCE.format(name=shape.__name__)}}}
