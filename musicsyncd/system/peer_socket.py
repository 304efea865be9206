"""The local socket of a speaker's daemon: whoever runs on this machine as its user may ask how it is.

One question and one answer: a connection is given one JSON object and closed. Nothing is read, so there is nothing to
parse and nothing to command, and a host that is away takes no figure with it. The other end is
:mod:`musicsyncd.system.local_peers`, which finds the sockets and keeps clear of what is slow to import.

Owns the socket's file and how many may ask at once. Must not know what is told.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from musicsyncd.paths import socket_mode
from musicsyncd.system.local_peers import answers

log = logging.getLogger(__name__)

MAX_ASKING = 8
"""At once; who comes beyond that is let go without an answer."""

ANSWER_S = 2.0
"""Whoever has not taken his answer by then does not get it."""


class PeerSocket:
    """Tells how the daemon is.

    Args:
        path: of the socket.
        tell: gives the answer, a JSON object.
    """

    def __init__(self, path: Path, tell: Callable[[], Awaitable[dict[str, Any]]]) -> None:
        self._path = path
        self._tell = tell
        self._server: asyncio.Server | None = None
        self._asking = 0
        self._file: tuple[int, int] | None = None

    async def open(self) -> None:
        """Listen. Where that cannot be, the speaker plays all the same, and the log says why nobody can ask it."""
        try:
            listening = self._bound()
        except OSError as error:
            log.warning("no local status at %s: %s", self._path, error.strerror or error)
            return
        self._server = await asyncio.start_unix_server(self._answer, sock=listening)

    async def close(self) -> None:
        """Stop listening, and take the file away if it is still this one's."""
        if self._server is not None:
            self._server.close()
            self._server = None
        with contextlib.suppress(OSError):
            if self._file == _identity(self._path):
                self._path.unlink()

    def _bound(self) -> socket.socket:
        if self._path.is_socket():
            if answers(self._path):
                raise OSError(0, "another speaker answers there")
            self._path.unlink(missing_ok=True)  # What was killed left it behind.
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            listening.bind(str(self._path))
            # Nobody can connect before it listens, so at no time is it open to others.
            os.chmod(self._path, socket_mode(self._path))
            listening.listen(MAX_ASKING)
            self._file = _identity(self._path)
        except OSError:
            listening.close()
            raise
        return listening

    async def _answer(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._asking += 1
        try:
            if self._asking <= MAX_ASKING:
                async with asyncio.timeout(ANSWER_S):
                    writer.write(json.dumps(await self._tell()).encode() + b"\n")
                    await writer.drain()
                    writer.close()
                    await writer.wait_closed()
        except (OSError, TimeoutError):
            pass  # He has gone, or does not take it.
        finally:
            self._asking -= 1
            if not writer.is_closing():
                writer.transport.abort()


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino
