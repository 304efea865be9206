"""The host's folder of recordings that were turned into FLAC.

A file's name says which recording it was made of, by which version of the converter, and the SHA-256 of its own
bytes, by which peers fetch it. A file gets that name when it is complete and on the disk; until then it is a
``.part`` that nobody else looks at, and that goes with its process. When room is needed, the ones that were used
longest ago go; they can be made again.

Owns the folder and how full it may be. How a recording is turned into FLAC is :mod:`musicsyncd.media.convert`'s.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import tempfile
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from musicsyncd.errors import MediaError
from musicsyncd.media.convert import CONVERTER_VERSION, Progress, convert
from musicsyncd.media.inspect import TrackInfo, content_id_of
from musicsyncd.media.store import disk_space, reserve_bytes

MAX_BYTES = 4 << 30
MAX_SHARE = 10
"""Of all files together: 150 hours of stereo at 44.1 kHz, or a tenth of the disk where that is less."""

MAX_FILES = 10_000
"""As many as a queue holds."""

_NAME = re.compile(r"([0-9a-f]{64})\.(\d+)\.([0-9a-f]{64})\.flac")
_PART = re.compile(r"[0-9a-f]{64}\.[^.]+\.part")
_ROOM_CHECK_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Converted:
    """A recording as FLAC.

    Attributes:
        path: the file.
        content_id: SHA-256 of its bytes.
        faults: what is wrong with the recording, a line each; known only when it has just been made.
    """

    path: Path
    content_id: bytes
    faults: tuple[str, ...] = ()


class ConvertedFolder:
    """The folder. Any thread may call anything.

    Args:
        folder: made if it is not there; files in it that are not ours are left alone.
        in_use: gives the content ids of files that must stay, because they play now or soon.
        max_bytes: of all files together.
        disk: gives a folder's free and total bytes.

    Raises:
        MediaError: the folder cannot be made.
    """

    def __init__(
        self,
        folder: Path,
        in_use: Callable[[], Collection[bytes]] = frozenset,
        max_bytes: int = MAX_BYTES,
        disk: Callable[[Path], tuple[int, int]] = disk_space,
    ) -> None:
        self._folder = folder
        self._in_use = in_use
        self._max_bytes = max_bytes
        self._disk = disk
        self._lock = threading.Lock()
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._known = self._sweep()
        except OSError as error:
            raise MediaError(f"the folder {folder} cannot be used: {error.strerror or error}") from None

    def find(self, source_id: bytes) -> Converted | None:
        """Return what was made of a recording with this SHA-256, if it is still there, and note that it is used."""
        with self._lock:
            found = self._known.get(source_id)
            if found is None:
                return None
            try:
                os.utime(found.path)
            except OSError:
                del self._known[source_id]
                return None
            return found

    def path_of(self, content_id: bytes) -> Path | None:
        """Return the FLAC file whose own bytes have this SHA-256, or None."""
        with self._lock:
            return next((one.path for one in self._known.values() if one.content_id == content_id), None)

    def make(self, info: TrackInfo, source_id: bytes, progress: Progress) -> Converted:
        """Turn a recording into FLAC, and return what came of it.

        Args:
            info: of the recording.
            source_id: SHA-256 of its bytes.
            progress: see :func:`musicsyncd.media.convert.convert`.

        Raises:
            MediaError: it cannot be read or decoded, or there is no room; nothing is left behind then.
            CancelledError: progress raised it.
        """
        try:
            fd, name = tempfile.mkstemp(".part", f"{source_id.hex()}.", self._folder)
        except OSError as error:
            raise MediaError(f"the folder {self._folder} cannot be written: {error.strerror or error}") from None
        part, checked_bytes = Path(name), 0

        def watch(done: int, total: int) -> None:
            nonlocal checked_bytes
            if file.tell() >= checked_bytes:
                checked_bytes = file.tell() + _ROOM_CHECK_BYTES
                self._make_room(_ROOM_CHECK_BYTES)
            progress(done, total)

        try:
            with open(fd, "w+b") as file:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                faults = convert(info, file, watch)
                file.flush()
                content_id = content_id_of(file)
                # The name must not outlive the bytes where machines are switched off at the wall.
                os.fdatasync(file.fileno())
            made = Converted(self._folder / _name(source_id, content_id), content_id)
            os.replace(part, made.path)
        except OSError as error:
            raise MediaError(f"FLAC cannot be written in {self._folder}: {error.strerror or error}") from None
        finally:
            part.unlink(missing_ok=True)
        with self._lock:
            self._known[source_id] = made
        self._make_room(0, keep=content_id)
        return Converted(made.path, content_id, tuple(faults))

    def _make_room(self, new_bytes: int, keep: bytes = b"") -> None:
        """Drop files, the longest unused first, until so many bytes fit on the disk, or what is there into the limit.

        Raises:
            MediaError: not even then is there room on the disk.
        """
        free_bytes, disk_bytes = self._disk(self._folder)
        lacking = reserve_bytes(disk_bytes) + new_bytes - free_bytes
        limit = min(self._max_bytes, disk_bytes // MAX_SHARE)
        with self._lock:
            files = self._by_last_use()
            # What a file takes of the limit is known when it is complete.
            over = 0 if new_bytes else sum(size_bytes for _, size_bytes, _ in files) - limit
            excess = len(files) - MAX_FILES
            kept = {keep, *self._in_use()}
            for _, size_bytes, source_id in files:
                if lacking <= 0 and over <= 0 and excess <= 0:
                    return
                if self._known[source_id].content_id in kept:
                    continue
                self._known.pop(source_id).path.unlink(missing_ok=True)
                lacking, over, excess = lacking - size_bytes, over - size_bytes, excess - 1
        if lacking > 0 and new_bytes:
            raise MediaError(f"disk full: no room to turn a track into FLAC in {self._folder}; free some space there")

    def _by_last_use(self) -> list[tuple[int, int, bytes]]:
        """Return when each file was used last, its size, and what it was made of; the longest unused first."""
        files = []
        for source_id, one in list(self._known.items()):
            try:
                status = one.path.stat()
            except OSError:
                del self._known[source_id]
            else:
                files.append((status.st_mtime_ns, status.st_size, source_id))
        return sorted(files)

    def _sweep(self) -> dict[bytes, Converted]:
        """Return what is in the folder; remove the parts of processes that are no more and what is out of date."""
        known = {}
        for path in self._folder.iterdir():
            if (match := _NAME.fullmatch(path.name)) is not None:
                source, version, content = match.groups()
                if int(version) == CONVERTER_VERSION:
                    known[bytes.fromhex(source)] = Converted(path, bytes.fromhex(content))
                elif int(version) < CONVERTER_VERSION:
                    path.unlink(missing_ok=True)
            elif _PART.fullmatch(path.name) is not None:
                with contextlib.suppress(OSError), path.open("rb") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink(missing_ok=True)
        return known


def _name(source_id: bytes, content_id: bytes) -> str:
    return f"{source_id.hex()}.{CONVERTER_VERSION}.{content_id.hex()}.flac"
