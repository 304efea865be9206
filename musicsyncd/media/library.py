"""Walking through the folders of a library: what is new, what has changed, what is gone, what is no use.

Owns what counts as the same file (path, size and time of change), which folders are looked into, and what
is looked at again and when. Must not know where it is kept: it is given what is known and yields
what to change, so it can be stopped after every file and begun again at any time.

A *pass* (:meth:`Library.look_through`) walks through everything; a *glance* (:meth:`Library.glance`) looks only into
folders whose own time has changed, which files that come, go or are renamed do to theirs, and where a
file was still so new that it may not have been finished. What is written to in its place, as some
tag editors do, is found by the next pass.

A folder that cannot be read takes nothing away: a music server that is off for an hour has not
lost its music. For the same reason nor does a library's folder that is suddenly empty, as the place of a
disk is that is not mounted.
"""

from __future__ import annotations

import os
import re
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path

from musicsyncd.errors import MediaError
from musicsyncd.media.inspect import MAX_FOLDERS, look_into, mtime_ns, natural_key, shown
from musicsyncd.media.tags import Tags, read_tags

MAX_FILES = 500_000
"""Of a library: five times what a host is made for, and some 100 MB of memory while it is looked through."""

FRESH_S = 60.0
"""A file that was changed so recently may still be growing: its folder is looked at again."""

_DISC_FOLDER = re.compile(r"(cd|dis[ck]|disque)[ _.-]*\d+\b.*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Stamp:
    """By what a file is taken for the same: its size and when it was last written, by the file system's clock."""

    size_bytes: int
    mtime_ns: int


_UNREADABLE = Stamp(-1, 0)


@dataclass(frozen=True, slots=True)
class Read:
    """A file that is new or has changed.

    Attributes:
        path: of it.
        stamp: when it was looked at.
        tags: what it says of itself; None when it is refused.
        reason: why it is refused, in one line; empty otherwise.
    """

    path: str
    stamp: Stamp
    tags: Tags | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Gone:
    """A file that was known and is there no more."""

    path: str


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a look stands, said before each file is opened.

    Attributes:
        done: files that were opened.
        total: files that have to be.
    """

    done: int
    total: int


Change = Read | Gone | Progress


@dataclass(frozen=True, slots=True)
class _Folder:
    """A folder that was looked into.

    Attributes:
        mtime_ns: its time of change; 0 when it has to be looked at again.
        identity: device and inode, by which it is told that links lead to it twice.
    """

    mtime_ns: int
    identity: tuple[int, int]


@dataclass(slots=True)
class _Seen:
    """What one look found.

    Attributes:
        files: by path.
        folders: by path.
        faults: folders that could not be read, with the reason.
        real: identities of folders that are not to be looked into again.
    """

    files: dict[str, Stamp] = field(default_factory=dict)
    folders: dict[str, _Folder] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)
    real: set[tuple[int, int]] = field(default_factory=set)


class Library:
    """The folders of a library.

    Args:
        roots: absolute paths of the folders.
        stopped: asked between files; when it says so, a look ends where it is.
        now_ns: the clock of the files' times of change, nanoseconds since 1970.

    Attributes:
        faults: folders that cannot be read, each with its reason, as of the last look.
    """

    def __init__(
        self,
        roots: Sequence[str],
        stopped: Callable[[], bool] = lambda: False,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._roots = tuple(roots)
        self._stopped = stopped
        self._now_ns = now_ns
        self._folders: dict[str, _Folder] = {}
        self.faults: dict[str, str] = {}

    def look_through(self, known: Mapping[str, Stamp]) -> Iterator[Change]:
        """Walk through everything and yield what is different from what is known.

        Args:
            known: files by path, those that were refused among them.
        """
        seen = _Seen()
        self._walk(self._roots, seen, known)
        if self._stopped():
            return
        for root in self._roots:
            if root in seen.folders and _is_empty(root) and any(below(path, root) for path in known):
                seen.faults[root] = f"{shown(Path(root))} is empty: is its disk mounted? What was in it is kept"
        gone = [path for path in known if path not in seen.files and not self._excused(path, seen.faults)]
        self._folders, self.faults = seen.folders, seen.faults
        yield from self._changes(seen.files, known, gone)

    def glance(self, known: Mapping[str, Stamp]) -> Iterator[Change]:
        """Look into the folders whose time has changed, and yield what is different there."""
        changed, vanished = [], []
        for folder, was in self._folders.items():
            if self._stopped():
                return
            try:
                if mtime_ns(os.stat(folder)) != was.mtime_ns:
                    changed.append(folder)
            except OSError:
                # A root that has gone is a disk that was taken away: the next pass says so.
                if folder not in self._roots:
                    vanished.append(folder)
        if not changed and not vanished:
            return
        around = self._folders.keys() - set(changed)
        seen = _Seen(real={self._folders[folder].identity for folder in around - set(vanished)})
        self._walk(changed, seen, known, around)
        if self._stopped():
            return
        looked_at = seen.folders.keys()
        gone = [
            path
            for path in known
            if path not in seen.files
            and (os.path.dirname(path) in looked_at or any(below(path, folder) for folder in vanished))
            and not self._excused(path, seen.faults)
        ]
        for folder in vanished:
            self._folders.pop(folder, None)
        self._folders.update(seen.folders)
        self.faults.update(seen.faults)
        yield from self._changes(seen.files, known, gone)

    def _changes(self, files: Mapping[str, Stamp], known: Mapping[str, Stamp], gone: Iterable[str]) -> Iterator[Change]:
        yield from (Gone(path) for path in gone)
        new = [(path, stamp) for path, stamp in files.items() if known.get(path) != stamp]
        for done, (path, stamp) in enumerate(new):
            if self._stopped():
                return
            yield Progress(done, len(new))
            yield _read(path, stamp)
        if new:
            yield Progress(len(new), len(new))

    def _excused(self, path: str, faults: Iterable[str]) -> bool:
        return any(below(path, folder) for folder in faults)

    def _walk(
        self, starts: Iterable[str], seen: _Seen, known: Mapping[str, Stamp], around: Set[str] = frozenset()
    ) -> None:
        """Look into folders and those below, each real folder once, and none of those to walk around."""
        waiting = list(reversed(list(starts)))
        begun = set(waiting)
        while waiting and not self._stopped():
            folder = waiting.pop()
            if folder in around or folder in seen.folders:
                continue
            try:
                below_it = self._look_into(folder, seen, known)
            except (OSError, ValueError) as error:
                if not isinstance(error, FileNotFoundError) or folder in begun:
                    reason = getattr(error, "strerror", None) or str(error)
                    seen.faults[folder] = f"{shown(Path(folder))} cannot be read: {reason}"
                continue
            if len(seen.folders) > MAX_FOLDERS or len(seen.files) > MAX_FILES:
                seen.faults[folder] = f"a library has at most {MAX_FOLDERS:,} folders and {MAX_FILES:,} files"
                return
            waiting += sorted(below_it, key=natural_key, reverse=True)

    def _look_into(self, folder: str, seen: _Seen, known: Mapping[str, Stamp]) -> list[str]:
        """Take a folder's files, and return the folders in it."""
        status = os.stat(folder)
        identity = (status.st_dev, status.st_ino)
        if identity in seen.real:
            return []  # Symbolic links lead here a second time.
        fresh_ns = self._now_ns() - round(FRESH_S * 1e9)
        settled = mtime_ns(status) < fresh_ns
        folders, files = look_into(folder)
        seen.real.add(identity)
        for path in sorted(files, key=natural_key):
            try:
                of_file = os.stat(path)
            except OSError as error:
                # A link to nowhere or a file that goes this very moment; others may be there and not for us.
                if not isinstance(error, FileNotFoundError):
                    seen.files[path] = known.get(path, _UNREADABLE)
                continue
            seen.files[path] = Stamp(of_file.st_size, mtime_ns(of_file))
            settled = settled and mtime_ns(of_file) < fresh_ns
        seen.folders[folder] = _Folder(mtime_ns(status) if settled else 0, identity)
        return folders


def below(path: str, folder: str) -> bool:
    """Return whether a path is a folder or something in it, by their names alone."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def folded(text: str) -> str:
    """Return a name as it is compared: without case, accents and further blanks."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return " ".join(plain.casefold().split())


def album_home(path: str, tags: Tags) -> str:
    """Return what, beside its name, tells the album of a track from others of that name.

    It is the album's artist. Without one it is the folder, as a sampler has many artists; the
    folders ``CD 1`` and ``CD 2`` belong to one album.
    """
    if tags.album_artist:
        return folded(tags.album_artist)
    folder = os.path.dirname(path)
    return os.path.dirname(folder) if _DISC_FOLDER.fullmatch(os.path.basename(folder)) else folder


def _is_empty(folder: str) -> bool:
    try:
        return not os.listdir(folder)
    except OSError:
        return False


def _read(path: str, stamp: Stamp) -> Read:
    try:
        return Read(path, stamp, read_tags(Path(path)))
    except MediaError as error:
        # Who may read a file is no part of its stamp: it is tried again with each look.
        return Read(path, stamp if os.access(path, os.R_OK) else _UNREADABLE, None, str(error))
