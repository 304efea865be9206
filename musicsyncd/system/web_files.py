"""The page's files, as they are served: read once, when the host starts.

Owns the headers of a page. Nothing that is asked for becomes a path on disk: a request names one of these files or
nothing. A file is known by a hash of its content, and a browser asks each time whether its copy is still the one, so a
page is of one version, the host's.

The policy lets a page load and run what is the host's own and nothing else: markup that got into it all the same, by a
track's title, could neither run a script nor send anything anywhere (W3C Content Security Policy Level 3).
"""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable

from aiohttp import ETag, web

from musicsyncd.errors import ConfigError

FOLDER = "/web/"
INDEX = "index.html"

MAX_FILES = 64
MAX_FILE_BYTES = 1 << 20

MEDIA_TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".woff2": "font/woff2",
    ".json": "application/json",
    ".webmanifest": "application/manifest+json",
    ".txt": "text/plain",
}
"""By ending. What has another one is no file of the page's."""

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: blob:",
        "connect-src 'self'",
        "media-src 'self' blob:",
        "manifest-src 'self'",
        "worker-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)

_PACKED = ("image/png", "font/woff2")


@dataclass(frozen=True, slots=True)
class WebFile:
    """A file: its bytes, the same packed by gzip where that is less, and what they are."""

    data: bytes
    packed: bytes | None
    media_type: str
    tag: str

    def answer(self, request: web.Request) -> web.Response:
        """Return the answer to a request for it."""
        response = web.Response()
        response.etag = ETag(self.tag)
        response.headers["Cache-Control"] = "no-cache"
        response.headers["Content-Security-Policy"] = POLICY
        response.headers["Vary"] = "Accept-Encoding"
        if any(one.value in (self.tag, "*") for one in request.if_none_match or ()):
            response.set_status(304)
            return response
        response.content_type = self.media_type
        if self.media_type.startswith("text/"):
            response.charset = "utf-8"
        if self.packed is not None and "gzip" in request.headers.get("Accept-Encoding", "").lower():
            response.headers["Content-Encoding"] = "gzip"
            response.body = self.packed
        else:
            response.body = self.data
        return response


def web_files(folder: Traversable | None = None) -> dict[str, WebFile]:
    """Return the page's files by the paths that are asked for: ``/`` and ``/web/…``.

    Args:
        folder: of the files; the package's own by default.

    Raises:
        ConfigError: there are more or larger ones than a page has.
    """
    folder = resources.files("musicsyncd") / "web" if folder is None else folder
    found: dict[str, WebFile] = {}
    if folder.is_dir():
        _gather(folder, FOLDER, found)
    if FOLDER + INDEX in found:
        found["/"] = found[FOLDER + INDEX]
    return found


def _gather(folder: Traversable, path: str, found: dict[str, WebFile]) -> None:
    for entry in sorted(folder.iterdir(), key=lambda one: one.name):
        ending = "." + entry.name.rpartition(".")[2]
        if entry.is_dir():
            _gather(entry, f"{path}{entry.name}/", found)
        elif ending in MEDIA_TYPES:
            data = entry.read_bytes()
            if len(found) >= MAX_FILES or len(data) > MAX_FILE_BYTES:
                raise ConfigError(f"the page's file {entry.name} is too much: reinstall musicsyncd")
            found[path + entry.name] = _file(data, MEDIA_TYPES[ending])


def _file(data: bytes, media_type: str) -> WebFile:
    packed = None if media_type in _PACKED else gzip.compress(data, 9, mtime=0)
    if packed is not None and len(packed) >= len(data):
        packed = None
    return WebFile(data, packed, media_type, hashlib.sha256(data).hexdigest()[:32])
