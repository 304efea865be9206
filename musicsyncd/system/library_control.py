"""What is asked of a host's library: search, lists, and what ``play`` and ``queue add`` mean by a name.

Owns the requests of the API that concern the library, and how a name becomes tracks. A name that means
several albums or artists is refused with what it could mean: nobody wants to hear the wrong one. Every
question goes to the index in a thread of its own, one at a time, so that none holds up the event loop.

Who asks over the network names no file: a path from there is compared, letter by letter, with those that the library
has, and it is the library's own that is opened. So nobody out there can learn what else is on this machine's disks, nor
have anything of it read.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec

from musicsyncd.errors import ControlError, MediaError
from musicsyncd.media.inspect import MAX_FOLDERS, printable, shown
from musicsyncd.media.library import folded
from musicsyncd.media.playlist import read_playlist
from musicsyncd.media.queue import MAX_QUEUE
from musicsyncd.system.http_guard import Caller
from musicsyncd.system.librarian import Librarian
from musicsyncd.system.library_index import Album, Artist, Hit, LibraryIndex
from musicsyncd.text import listed

TRACK_PREFIX = "library:"
"""Before a track's number where a path may stand, too: ``play library:17``."""

MAX_HITS = 1000
MAX_SEARCH_PLAYED = 100
"""Tracks that ``play --search`` takes: the best matches, and not half of the library for a common word."""

MAX_PATH_CHARS = 4096
"""As long as Linux takes one."""

MAX_NAME_CHARS = 1000

MAX_SAID = 5
MAX_REFUSED_SAID = 1000

Json = dict[str, Any]
_T = TypeVar("_T")
_Path = Annotated[str, msgspec.Meta(max_length=MAX_PATH_CHARS)]
_Name = Annotated[str, msgspec.Meta(max_length=MAX_NAME_CHARS)]


class Pick(msgspec.Struct, forbid_unknown_fields=True):
    """What is to be played or added: paths, or one of the other ways to name tracks."""

    tracks: Annotated[list[_Path], msgspec.Meta(max_length=MAX_QUEUE)] = []
    next: bool = False
    search: _Name = ""
    album: _Name = ""
    artist: _Name = ""
    folder: _Path = ""
    playlist: _Path = ""


class Find(msgspec.Struct, forbid_unknown_fields=True):
    """What is looked for."""

    words: _Name = ""
    artist: _Name = ""
    limit: int = 50


@dataclass(frozen=True, slots=True)
class Picked:
    """What was meant: paths, and the end of a sentence about what was left out, or nothing."""

    paths: tuple[str, ...]
    note: str = ""


class LibraryControl:
    """A host's library, as it is asked.

    Args:
        index: of the tracks.
        librarian: who keeps it; started and stopped here.
    """

    def __init__(self, index: LibraryIndex, librarian: Librarian) -> None:
        self._index = index
        self._librarian = librarian
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="library")

    def open(self) -> None:
        """Begin to look through the folders."""
        self._librarian.start()

    def set_folders(self, folders: Sequence[str]) -> None:
        """Keep the library of other folders from now on, while it is open."""
        self._librarian.stop()
        self._librarian = Librarian(folders, self._index, after=self._librarian)
        self._librarian.start()

    def stop(self) -> None:
        """Tell the work to end, without waiting."""
        self._librarian.stop()

    def close(self) -> None:
        """End all work and close the index."""
        self._librarian.stop()
        self._librarian.join()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._index.close()

    async def search(self, words: str, limit: int) -> Json:
        """Return the tracks that have all words."""
        hits = await self._ask(lambda: self._index.search(words, _limit(limit)))
        return {"tracks": [_hit_json(hit) for hit in hits]}

    async def albums(self, name: str, artist: str, limit: int) -> Json:
        """Return the albums of a name, or all of them."""
        found = await self._ask(lambda: self._index.albums(name, artist, _limit(limit)))
        fields = ("name", "artist", "year", "tracks", "duration_s")
        return {"albums": [{field: getattr(album, field) for field in fields} for album in found]}

    async def artists(self, name: str, limit: int) -> Json:
        """Return the artists of a name, or all of them."""
        found = await self._ask(lambda: self._index.artists(name, _limit(limit)))
        return {"artists": [{"name": artist.name, "tracks": artist.tracks} for artist in found]}

    async def describe(self) -> Json:
        """Return folders, counts, how far the scan is, and what was refused."""
        state = self._librarian.state
        ago_s = None if state.looked_s is None else round(time.monotonic() - state.looked_s, 1)
        scan = asdict(state) | {"looked_s_ago": ago_s}
        del scan["looked_s"]
        counts, refused = await self._ask(lambda: (self._index.counts(), self._index.refused(MAX_REFUSED_SAID)))
        said = {"folders": list(self._librarian.roots), "faults": self._librarian.faults, "scan": scan}
        return said | asdict(counts) | {"refused": refused, "refused_count": counts.refused}

    async def file_of(self, number: int) -> str:
        """Return the path of the track with a number.

        Raises:
            MediaError: there is none.
        """
        return await self._ask(lambda: self._track(f"{TRACK_PREFIX}{number}"))

    async def resolve(self, pick: Pick, caller: Caller) -> Picked:
        """Return the files that are meant.

        Raises:
            ControlError: the request names nothing, or a path that may not be named from where it came.
            MediaError: there is no such track, album, artist, folder or playlist.
        """
        return await self._ask(lambda: self._resolve(pick, caller))

    async def _ask(self, question: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, question)

    def _resolve(self, pick: Pick, caller: Caller) -> Picked:
        if pick.playlist:
            return self._of_playlist(pick.playlist if caller.local else self._own_file(pick.playlist))
        if pick.folder:
            return Picked((self._folder(pick.folder),))
        if pick.album:
            album = _only(self._index.albums(pick.album, pick.artist, MAX_HITS), "album", pick.album)
            return Picked(tuple(self._index.of_album(album, MAX_QUEUE)))
        if pick.artist:
            artist = _only(self._index.artists(pick.artist, MAX_HITS), "artist", pick.artist)
            return Picked(tuple(self._index.of_artist(artist, MAX_QUEUE)))
        if pick.search:
            hits = self._index.search(pick.search, MAX_SEARCH_PLAYED + 1)
            if not hits:
                raise MediaError(f"nothing in the library has the words {printable(pick.search)!r}")
            more = len(hits) > MAX_SEARCH_PLAYED
            note = f"; more than the first {MAX_SEARCH_PLAYED} have these words, and are left out" if more else ""
            return Picked(tuple(hit.path for hit in hits[:MAX_SEARCH_PLAYED]), note)
        if not caller.local:
            self._check_known([track for track in pick.tracks if not is_number(track)])
        return Picked(tuple(self._track(track) for track in pick.tracks))

    def _check_known(self, paths: Sequence[str]) -> None:
        """Refuse paths that are neither tracks of the library nor folders with some; no disk is asked.

        Raises:
            ControlError: for the first of them.
        """
        strange = set(paths) - self._index.known(paths)
        if strange:
            strange -= self._folders()
        if strange:
            raise _not_from_there(next(path for path in paths if path in strange))

    def _track(self, track: str) -> str:
        if not is_number(track):
            return track
        hit = self._index.track(int(track.removeprefix(TRACK_PREFIX)))
        if hit is None:
            raise MediaError(f"the library has no track {track}: search again, its number may be another now")
        return hit.path

    def _folder(self, name: str) -> str:
        """Return the one folder whose path ends in a name; a part of it, or all."""
        wanted = [folded(part) for part in name.split("/") if part]
        if not wanted:
            raise ControlError("name a folder of the library")
        found = set()
        for folder in self._folders():
            parts = [folded(part) for part in folder.split("/") if part]
            if parts[-len(wanted) :] == wanted:
                found.add(folder)
        # A folder is below another one of the same name: the outer one has it all.
        tops = sorted(one for one in found if not any(one.startswith(f"{other}/") for other in found))
        return _only(tops, "folder", name)

    def _folders(self) -> set[str]:
        """Return the folders with music in them or anywhere below, down from the library's own."""
        folders = set(self._librarian.roots)
        for folder in self._index.folders():
            while folder not in folders and folder != os.path.dirname(folder):
                folders.add(folder)
                folder = os.path.dirname(folder)
        return folders

    def _own_file(self, name: str) -> str:
        """Return the one file of the library's folders whose path ends in a name; only what is found is compared."""
        wanted = [folded(part) for part in name.split("/") if part]
        ending = os.path.splitext(name)[1].lower()
        found = []
        for looked, (folder, _, files) in enumerate(one for root in self._librarian.roots for one in os.walk(root)):
            if looked >= MAX_FOLDERS:
                break
            for file in files:
                # Most files are no playlist: their names need no folding.
                if file.lower().endswith(ending):
                    path = os.path.join(folder, file)
                    if [folded(part) for part in path.split("/") if part][-len(wanted) :] == wanted:
                        found.append(path)
        return _only(sorted(set(found)), "playlist", name)

    def _of_playlist(self, name: str) -> Picked:
        playlist = read_playlist(Path(name), self._librarian.roots)
        left_out = listed(playlist.refused, MAX_SAID)
        if not playlist.paths:
            raise MediaError(f"nothing of {shown(Path(name))} can be played: {left_out or 'it is empty'}")
        return Picked(playlist.paths, f"; left out: {left_out}" if left_out else "")


def is_number(track: str) -> bool:
    """Return whether a track is named by its number in the library."""
    number = track.removeprefix(TRACK_PREFIX)
    return number != track and number.isascii() and number.isdecimal() and len(number) < 19


async def resolve(library: LibraryControl | None, pick: Pick, caller: Caller) -> Picked:
    """Return the files that are meant; paths alone, of somebody at this machine, need no library.

    Args:
        library: of the host, if it has one.
        pick: what was asked for.
        caller: who asks.

    Raises:
        ControlError: the request is contradictory, needs a library and there is none, or names a path that may
            not be named from where it came.
        MediaError: nothing is found.
    """
    ways = [bool(pick.tracks), *map(bool, (pick.search, pick.album or pick.artist, pick.folder, pick.playlist))]
    if sum(ways) > 1:
        raise ControlError("name tracks in one way: by paths, --search, --album, --artist, --folder or --playlist")
    if not any(ways[1:]) and not any(map(is_number, pick.tracks)):
        if caller.local or not pick.tracks:
            return Picked(tuple(pick.tracks))
        if library is None:
            raise _not_from_there(pick.tracks[0])
    return await of_host(library).resolve(pick, caller)


def _not_from_there(path: str) -> ControlError:
    """Return the refusal of a path that came over the network."""
    return ControlError(
        f"{printable(path)!r} is no track or folder of the host's library, and over the network nothing else is taken: "
        "name it by --search, --album, --artist, --folder or library:ID, or give the command on the host itself"
    )


def of_host(library: LibraryControl | None) -> LibraryControl:
    """Return a host's library.

    Raises:
        ControlError: it has none.
    """
    if library is None:
        raise ControlError("this host has no library: start it with --library FOLDER")
    return library


def _limit(limit: int) -> int:
    if not 1 <= limit <= MAX_HITS:
        raise ControlError(f"a limit of {limit} is not possible: 1 to {MAX_HITS}")
    return limit


def _only(found: Sequence[_T], what: str, name: str) -> _T:
    """Return the only one that was found.

    Raises:
        MediaError: there is none, or several, which are named.
    """
    if len(found) == 1:
        return found[0]
    if not found:
        raise MediaError(f"the library has no {what} {printable(name)!r}: see `musicsyncd search`")
    said = listed([_said(one) for one in found], MAX_SAID)
    hint = "add --artist, or name the folder with --folder" if what == "album" else "write more of the name"
    raise MediaError(f"{len(found):,} {what}s are called {printable(name)!r}: {said}; {hint}")


def _said(one: object) -> str:
    if isinstance(one, Album):
        return f"“{one.name}” by {one.artist or 'several'} ({one.year or 'no year'})"
    return one.name if isinstance(one, Artist) else shown(Path(str(one)))


def _hit_json(hit: Hit) -> Json:
    return {"id": f"{TRACK_PREFIX}{hit.number}"} | {
        field: getattr(hit, field) for field in ("title", "artist", "album", "year", "duration_s", "path")
    }


async def _search(library: LibraryControl | None, find: Find) -> Json:
    return await of_host(library).search(find.words, find.limit)


async def _albums(library: LibraryControl | None, find: Find) -> Json:
    return await of_host(library).albums(find.words, find.artist, find.limit)


async def _artists(library: LibraryControl | None, find: Find) -> Json:
    return await of_host(library).artists(find.words, find.limit)


async def _describe(library: LibraryControl | None, _find: Find) -> Json:
    return await of_host(library).describe()


QUESTIONS: tuple[tuple[str, Callable[[LibraryControl | None, Find], Awaitable[Json]]], ...] = (
    ("/api/library", _describe),
    ("/api/library/search", _search),
    ("/api/library/albums", _albums),
    ("/api/library/artists", _artists),
)
"""Paths of GET requests, whose query is a :class:`Find`."""
