"""The API's description: that it is one, that it says what the server does, and that what is answered is as it says."""

from __future__ import annotations

import json
import re

import jsonschema
import pytest
from host_rig import make_album
from http_rig import KEYED, run
from openapi_spec_validator import validate
from test_http_server import Key, give_library

from musicsyncd.system.openapi import WEBSOCKET


async def described(client) -> dict:
    status, found = await client.ask("GET", "/api/openapi.json")
    assert status == 200
    return found


def test_it_is_one_of_openapi_3_1(tmp_path):
    async def test(client):
        found = await described(client)
        validate(found)
        assert found["openapi"] == "3.1.0"
        ids = [operation["operationId"] for path in found["paths"].values() for operation in path.values()]
        assert len(set(ids)) == len(ids)

    run(test, tmp_path)


def test_every_route_of_the_server_is_in_it_and_every_path_in_it_is_a_route(tmp_path):
    async def test(client):
        found = await described(client)
        said = {(method.upper(), path) for path, methods in found["paths"].items() for method in methods}
        router = client.server._runner.app.router
        there = {(route.method, route.resource.canonical) for route in router.routes() if route.method != "HEAD"}
        assert said == there
        assert ("GET", "/api/speaker") in said, "what browsers that play need is in it too"

    run(test, tmp_path)


def answer_of(found: dict, method: str, path: str) -> dict:
    """Return the schema of an answer, with all others beside it for its references."""
    (template,) = [one for one in found["paths"] if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", one), path.split("?")[0])]
    content = found["paths"][template][method.lower()]["responses"]["200"]["content"]
    return content["application/json"]["schema"] | {"components": found["components"]}


def test_real_answers_are_as_it_says_field_by_field(tmp_path):
    album = make_album(tmp_path / "album", 3)

    async def test(client):
        found = await described(client)
        host = client.host
        host.control.key = Key()
        host.control.key.status = lambda: {"rotating": False, "have": 1, "speakers": 1, "without": ["lamp"]}
        give_library(client, tmp_path, "Day", "Night")
        await client.ask("POST", "/api/rooms/main/play", {"tracks": album}, local=True)
        host.report("lamp", state="together", sync_error_ns=-5_000)
        host.leave(host.report("gone"))
        host.now_ns += 5 * 10**9
        host.control._advance(host.room())
        client.server.site.tick()
        made = (await client.ask("POST", "/api/links", {"role": "guest", "name": "Ada"}, local=True))[1]
        page = {"Origin": f"http://127.0.0.1:{client.port}"}
        for method, path, body, options in (
            ("GET", "/api/status", None, {}),
            ("GET", "/api/me", None, {}),
            ("GET", "/api/key", None, {"local": True}),
            ("GET", "/api/links", None, {"local": True}),
            ("POST", "/api/links", {"role": "listen"}, {"local": True}),
            ("POST", "/api/sign-in", {"token": made["token"]}, {"headers": page}),
            ("POST", "/api/sign-out", {}, {"headers": page}),
            ("GET", "/api/rooms/main/queue", None, {}),
            ("GET", "/api/rooms/main/queue/history", None, {}),
            ("GET", "/api/history?seconds=10", None, {}),
            ("GET", "/api/history?seconds=3600&peer=lamp", None, {}),
            ("GET", "/api/rooms/main/tags", None, {}),
            ("GET", "/api/library", None, {}),
            ("GET", "/api/library/search?words=day", None, {}),
            ("GET", "/api/library/albums", None, {}),
            ("GET", "/api/library/artists", None, {}),
            ("POST", "/api/rooms/main/pause", {}, {}),
            ("DELETE", "/api/peers/gone", None, {}),
        ):
            status, answer = await client.ask(method, path, body, **options)
            assert status == 200, (path, answer)
            jsonschema.validate(answer, answer_of(found, method, path))
            seen.add((method, path))
            assert any(answer.values()), path
        refused = (await client.ask("POST", "/api/rooms/attic/pause", {}))[1]
        jsonschema.validate(refused, {"$ref": "#/components/schemas/Error", "components": found["components"]})
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({"message": "x", "more": 1}, answer_of(found, "POST", "/api/rooms/main/pause"))
        host.control.library.close()
        # All that looks at something has been looked at.
        looking = {
            path
            for path, methods in found["paths"].items()
            if "application/json"
            in methods.get("get", {"responses": {}})["responses"].get("200", {}).get("content", {})
        } - {"/api/openapi.json"}
        looked = {path.split("?")[0].replace("/main/", "/{room}/") for method, path in seen if method == "GET"}
        assert looking == looked

    seen: set[tuple[str, str]] = set()
    run(test, tmp_path)


def test_events_are_said_to_be_a_websocket_and_what_needs_no_token_says_so(tmp_path):
    async def test(client):
        found = await described(client)
        assert set(found["paths"]["/api/events"]["get"]["responses"]) == {"101", "default"}
        assert found["paths"]["/"]["get"]["security"] == []
        assert "security" not in found["paths"]["/api/status"]["get"]
        body = found["paths"]["/api/rooms/{room}/queue/move"]["post"]["requestBody"]
        assert body["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Move"}
        assert set(found["components"]["schemas"]["Move"]["properties"]) == {"from", "to", "revision"}
        names = {one["name"] for one in found["paths"]["/api/library/search"]["get"]["parameters"]}
        assert names == {"words", "artist", "limit"}
        assert WEBSOCKET not in json.dumps(found["paths"]["/api/events"])
        assert KEYED  # The description is for those with a token only.
        assert (await client.ask("GET", "/api/openapi.json", headers={}))[0] == 401

    run(test, tmp_path)
