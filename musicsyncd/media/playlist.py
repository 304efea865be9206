"""Playlists: M3U, M3U8, PLS and XSPF as the paths that they name.

Owns the formats and what may be named: files below the given folders, and nothing else. What lies
elsewhere, addresses of the net and further playlists are left out with a line each. A playlist
comes from anywhere, so its XML has no declarations of its own (and with them no entities), and sizes have limits.

Sources: PLS as Winamp wrote it, M3U as everybody reads it (``#`` begins a comment), XSPF version 1 (xspf.org).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.parsers import expat

from musicsyncd.errors import MediaError
from musicsyncd.media.inspect import printable, shown
from musicsyncd.media.library import below

MAX_PLAYLIST_BYTES = 4 << 20
MAX_ENTRIES = 10_000
"""As many as a queue holds."""

_SCHEME = re.compile(rb"([A-Za-z][A-Za-z0-9+.-]+):")
_PLS_FILE = re.compile(rb"\s*file(\d{1,9})\s*=\s*(.*)", re.IGNORECASE)
_QUOTED = re.compile(rb"%([0-9A-Fa-f]{2})")
_XSPF_NAMESPACE = "http://xspf.org/ns/0/"


@dataclass(frozen=True, slots=True)
class Playlist:
    """What a playlist names.

    Attributes:
        paths: files, in its order.
        refused: a line for each entry that is left out.
    """

    paths: tuple[str, ...]
    refused: tuple[str, ...]


class _RefusedError(Exception):
    """Why an entry is left out."""


def read_playlist(file: Path, roots: Sequence[str]) -> Playlist:
    """Return the files that a playlist names.

    Args:
        file: the playlist; relative entries are looked for from its folder.
        roots: the library's folders, in which a file must be.

    Raises:
        MediaError: it cannot be read, is no playlist, or is too large; one line.
    """
    entries_of = _KINDS.get(file.suffix.lower())
    if entries_of is None:
        raise MediaError(f"{shown(file)} is no playlist: its name ends in {', '.join(_KINDS)}")
    data = _bytes_of(file)
    paths: list[str] = []
    refused: list[str] = []
    allowed = [(os.path.abspath(root), os.path.realpath(root)) for root in roots]
    for number, entry in enumerate(entries_of(data), 1):
        if number > MAX_ENTRIES:
            refused.append(f"what follows the first {MAX_ENTRIES:,} entries")
            break
        try:
            paths.append(_path_of(entry, Path(os.path.abspath(file.parent)), allowed))
        except _RefusedError as reason:
            refused.append(f"{printable(entry.decode('utf-8', 'replace'))}: {reason}")
    return Playlist(tuple(paths), tuple(refused))


def _bytes_of(file: Path) -> bytes:
    try:
        if not file.is_file():
            raise MediaError(f"there is no playlist {shown(file)}: check the path")
        with file.open("rb") as opened:
            data = opened.read(MAX_PLAYLIST_BYTES + 1)
    except (OSError, ValueError) as error:
        raise MediaError(f"{shown(file)} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if len(data) > MAX_PLAYLIST_BYTES:
        raise MediaError(f"{shown(file)} is too large for a playlist: {MAX_PLAYLIST_BYTES >> 20} MiB at most")
    return data.removeprefix(b"\xef\xbb\xbf")


def _m3u_entries(data: bytes) -> Iterator[bytes]:
    for line in data.splitlines():
        entry = line.strip()
        if entry and not entry.startswith(b"#"):
            yield entry


def _pls_entries(data: bytes) -> Iterator[bytes]:
    if not data.lstrip().lower().startswith(b"[playlist]"):
        raise MediaError("a PLS playlist begins with [playlist], and this one does not")
    found = [(int(match[1]), match[2].strip()) for match in map(_PLS_FILE.fullmatch, data.splitlines()) if match]
    yield from (entry for _, entry in sorted(found, key=lambda one: one[0]) if entry)


def _xspf_entries(data: bytes) -> Iterator[bytes]:
    """Yield the first location of every track: further ones say where else the same track is."""
    locations: list[bytes] = []
    open_elements: list[str] = []
    text: list[str] = []
    taken = False

    def start(name: str, _attributes: object) -> None:
        nonlocal taken
        open_elements.append(name.removeprefix(_XSPF_NAMESPACE).lstrip(" "))
        text.clear()
        if open_elements[-1] == "track":
            taken = False

    def end(_name: str) -> None:
        nonlocal taken
        if open_elements[-2:] == ["track", "location"] and not taken:
            locations.append("".join(text).strip().encode("utf-8"))
            taken = True
        open_elements.pop()

    def refuse(*_: object) -> None:
        raise MediaError("a playlist with declarations of its own (<!DOCTYPE …>) is not read")

    parser = expat.ParserCreate(namespace_separator=" ")
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = text.append
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(data, True)
    except (expat.ExpatError, ValueError, LookupError) as error:
        raise MediaError(f"the playlist is no XSPF: {error}") from None
    # A location is a URI, and a file's is quoted whether it is written in full or relative to the playlist.
    yield from (location if _address_of(location) else _unquoted(location) for location in locations if location)


_KINDS: dict[str, Callable[[bytes], Iterator[bytes]]] = {
    ".m3u": _m3u_entries,
    ".m3u8": _m3u_entries,
    ".pls": _pls_entries,
    ".xspf": _xspf_entries,
}


def _unquoted(uri: bytes) -> bytes:
    """Return a part of a URI without its percent signs (RFC 3986, section 2.1)."""
    return _QUOTED.sub(lambda match: bytes([int(match[1], 16)]), uri)


def _address_of(entry: bytes) -> str:
    """Return the scheme of a URI in small letters, or nothing; a single letter is a drive of Windows."""
    found = _SCHEME.match(entry)
    return found[1].decode("ascii").lower() if found else ""


def _path_of(entry: bytes, folder: Path, allowed: Sequence[tuple[str, str]]) -> str:
    """Return the file that an entry names.

    Raises:
        _RefusedError: it is none that may be played.
    """
    scheme = _address_of(entry)
    if scheme == "file":
        host, slash, rest = entry[len("file:") :].removeprefix(b"//").partition(b"/")
        if host not in (b"", b"localhost"):
            raise _RefusedError("it is on another machine")
        entry = _unquoted(slash + rest)
    elif scheme and entry[len(scheme) :].startswith(b"://"):
        raise _RefusedError("it is an address, and no file of the library")
    if b"\0" in entry:
        raise _RefusedError("it cannot be the name of a file")
    for name in _names(entry):
        path = os.path.normpath(os.path.join(folder, name))
        if os.path.isfile(path):
            break
    else:
        raise _RefusedError("there is no such file")
    # By its name without any "..", as the library's own links may lead anywhere; or where it truly is.
    real_path = os.path.realpath(path)
    if not any(below(path, root) or below(real_path, real_root) for root, real_root in allowed):
        raise _RefusedError("it is outside of the library's folders")
    if os.path.splitext(path)[1].lower() in _KINDS:
        raise _RefusedError("it is a playlist itself")
    return path


def _names(entry: bytes) -> Iterator[str]:
    """Yield what an entry may mean as a file's name here: as it is, from Windows' encoding, with Windows' slashes."""
    plain = os.fsdecode(entry)
    texts = [plain, entry.decode("cp1252", "replace")]
    for text in dict.fromkeys(texts):
        yield text
        yield text.replace("\\", "/")
