"""A server over real TCP and a real Unix socket, with a real control behind it, and somebody who asks it."""

from __future__ import annotations

import asyncio
import json
import os
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
from host_rig import Host

from musicsyncd.system.http_server import HttpServer
from musicsyncd.system.links import Links

TOKEN = "the room's token"
KEYED = {"Authorization": f"Bearer {TOKEN}"}


class Client:
    """Requests over TCP, and over the Unix socket with ``local``."""

    def __init__(self, host: Host, server: HttpServer, path: Path, port: int) -> None:
        self.host, self.server, self.path, self.port = host, server, path, port
        self.tcp = aiohttp.ClientSession(f"http://127.0.0.1:{port}")
        self.unix = aiohttp.ClientSession("http://host", connector=aiohttp.UnixConnector(str(path)))

    async def ask(self, method: str, path: str, body: object = None, *, local: bool = False, **options):
        """Return status and answer."""
        session = self.unix if local else self.tcp
        options.setdefault("headers", {} if local else KEYED)
        data = body if body is None or isinstance(body, bytes) else json.dumps(body)
        async with session.request(method, path, data=data, **options) as response:
            raw = await response.read()
            return response.status, json.loads(raw) if "json" in response.content_type else raw

    async def close(self) -> None:
        await self.tcp.close()
        await self.unix.close()


def make_server(host: Host, token: str | None = TOKEN, **options: object) -> HttpServer:
    return HttpServer(host.control, token, Links(host.database, os.urandom), **options)


@asynccontextmanager
async def serving(folder: Path, token: str | None = TOKEN):
    host = Host(folder)
    server = make_server(host, token)
    path = folder / "host.sock"
    await server.open(0, path)
    client = Client(host, server, path, server._runner.addresses[0][1])
    try:
        yield client
    finally:
        await client.close()
        await server.close()
        host.end()


def run(test, folder: Path, token: str | None = TOKEN) -> None:
    async def whole():
        async with serving(folder, token) as client:
            await test(client)

    asyncio.run(asyncio.wait_for(whole(), 30.0))
