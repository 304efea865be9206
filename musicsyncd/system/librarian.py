"""Keeps the index of a library as the folders are: a thread of the host that looks, reads and writes.

Owns when it is looked: through everything at the start and every ten minutes, and every half minute into
folders whose time has changed. Nothing of it runs on the event loop. What it finds goes into the index
a few hundred files at a time, so what is read is found at once, and a stop loses a second of work at most.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from musicsyncd.errors import MediaError
from musicsyncd.media.library import Change, Gone, Library, Progress, Read, Stamp
from musicsyncd.system.library_index import LibraryIndex
from musicsyncd.system.log import Throttle
from musicsyncd.system.progress import ProgressLine

log = logging.getLogger(__name__)

GLANCE_EVERY_S = 30.0
PASS_EVERY_S = 600.0
BATCH_FILES = 200
BATCH_S = 1.0
"""Files that are read before they are written, and for how long at most: a transaction costs as much as some files."""

_SHOW_EVERY_S = 0.2
_LOG_EVERY_S = 10.0
_STOP_WITHIN_S = 1.0
_LEAVES_WITHIN_S = 10.0
"""For a predecessor, which waits for a server that does not answer perhaps: it must not keep the others from a look."""


@dataclass(frozen=True, slots=True)
class ScanState:
    """What the librarian does.

    Attributes:
        doing: ``starting``, ``looking`` (through folders), ``reading`` (files) or ``waiting``.
        done: files that were read.
        total: files that are to be read.
        files_per_s: how fast.
        left_s: how much longer at this rate.
        looked_s: monotonic time of the last complete look, or None.
    """

    doing: str = "starting"
    done: int = 0
    total: int = 0
    files_per_s: float = 0.0
    left_s: float = 0.0
    looked_s: float | None = None

    def line(self) -> str:
        """Return it for people."""
        if self.doing != "reading":
            return "library: looking through the folders"
        left = f"{self.left_s:.0f} s" if self.left_s < 100 else f"{self.left_s / 60:.0f} min"
        return f"library: {self.done:,} of {self.total:,} files, {self.files_per_s:,.0f} files/s, {left} left"


@dataclass(slots=True)
class Taken:
    """What was taken into the index."""

    read: int = 0
    gone: int = 0
    refused: int = 0


def take_in(
    changes: Iterable[Change],
    index: LibraryIndex,
    known: dict[str, Stamp] | None = None,
    say: Callable[[Progress], None] = lambda _: None,
) -> Taken:
    """Write changes into an index, some hundreds at a time.

    Args:
        changes: as a look yields them.
        index: they are written to.
        known: is kept up to date, where it is given.
        say: called with each progress.

    Raises:
        MediaError: they cannot be kept; those before them are.
    """
    taken = Taken()
    batch: list[Read | Gone] = []
    begun_s = time.monotonic()

    def write() -> None:
        nonlocal begun_s
        index.apply(batch)
        for change in batch:
            if isinstance(change, Gone):
                taken.gone += 1
            else:
                taken.read += 1
                taken.refused += change.tags is None
            if known is not None and isinstance(change, Gone):
                known.pop(change.path, None)
            elif known is not None and isinstance(change, Read):
                known[change.path] = change.stamp
        batch.clear()
        begun_s = time.monotonic()

    for change in changes:
        if isinstance(change, Progress):
            say(change)
            continue
        batch.append(change)
        if len(batch) >= BATCH_FILES or time.monotonic() - begun_s >= BATCH_S:
            write()
    if batch:
        write()
    return taken


class Librarian:
    """Follows the folders of a library until it is stopped.

    Args:
        roots: the folders.
        index: that is kept as they are.
        line: shows how far it is, on a terminal.
        after: who kept it before and was told to stop: begins when that has ended, for only one writes at a time.

    Attributes:
        state: what it does, replaced as a whole and so readable from any thread.
        roots: the folders.
    """

    def __init__(
        self,
        roots: Sequence[str],
        index: LibraryIndex,
        line: ProgressLine | None = None,
        *,
        after: Librarian | None = None,
    ) -> None:
        self.roots = tuple(roots)
        self.state = ScanState()
        self._index = index
        self._after = after
        self._line = ProgressLine() if line is None else line
        self._stop = threading.Event()
        self._library = Library(self.roots, self._stop.is_set)
        self._known: dict[str, Stamp] = {}
        self._said_faults: set[str] = set()
        self._throttle = Throttle(log)
        self._reading_since_s = self._shown_s = 0.0
        # A daemon thread: one that waits for a server which does not answer must not hold up the end.
        self._thread = threading.Thread(target=self._run, name="librarian", daemon=True)

    @property
    def faults(self) -> list[str]:
        """Folders that cannot be read, a line for each."""
        return sorted(self._library.faults.values())

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Tell it to end, without waiting."""
        self._stop.set()

    def join(self, within_s: float = _STOP_WITHIN_S) -> None:
        """Wait a moment for its end, if it has begun."""
        if self._thread.ident is not None:
            self._thread.join(within_s)

    def _run(self) -> None:
        if self._after is not None:
            self._after.join(_LEAVES_WITHIN_S)
            self._after = None
        pass_due_s = 0.0
        anew = True
        while not self._stop.is_set():
            try:
                if anew or self._index.damaged:
                    if self._index.damaged:
                        self._index.start_anew()
                    self._known = self._index.stamps()
                    anew, pass_due_s = False, 0.0
                if time.monotonic() >= pass_due_s:
                    self.look_through()
                    pass_due_s = time.monotonic() + PASS_EVERY_S
                else:
                    self.glance()
            except MediaError as error:
                self._throttle.warning("library", f"library: {error}")
                anew = True
            except Exception:
                # Music must go on when we are wrong about a file; the next look may be right.
                log.exception("the library could not be looked through, by our own fault")
                anew = True
            self._line.erase()
            self._stop.wait(GLANCE_EVERY_S)

    def look_through(self) -> None:
        """Look through everything."""
        began_s = time.monotonic()
        is_first = self.state.looked_s is None
        self.state = replace(self.state, doing="looking", done=0, total=0)
        self._line.show(self.state.line())
        taken = take_in(self._library.look_through(self._known), self._index, self._known, self._say)
        self._settle(taken, time.monotonic() - began_s, always=is_first)

    def glance(self) -> None:
        """Look into what has changed."""
        began_s = time.monotonic()
        taken = take_in(self._library.glance(self._known), self._index, self._known, self._say)
        self._settle(taken, time.monotonic() - began_s)

    def _settle(self, taken: Taken, took_s: float, *, always: bool = False) -> None:
        self._line.erase()
        if self._stop.is_set():
            return
        self.state = ScanState("waiting", looked_s=time.monotonic())
        for folder in self._library.faults.keys() - self._said_faults:
            log.warning("library: %s", self._library.faults[folder])
        self._said_faults = set(self._library.faults)
        if always or taken.read or taken.gone:
            refused = f", {taken.refused:,} refused (`musicsyncd library` says why)" if taken.refused else ""
            files = f"{len(self._known):,} file{'s' if len(self._known) != 1 else ''}"
            counts = (files, taken.read, taken.gone, refused, took_s)
            log.info("library: %s; %s new or changed, %s gone%s; looked through in %.1f s", *counts)

    def _say(self, progress: Progress) -> None:
        now_s = time.monotonic()
        if progress.done == 0:
            self._reading_since_s, self._shown_s = now_s, now_s - _SHOW_EVERY_S
        rate = progress.done / max(now_s - self._reading_since_s, 1e-3)
        left_s = (progress.total - progress.done) / rate if rate > 0 else 0.0
        self.state = replace(
            self.state, doing="reading", done=progress.done, total=progress.total, files_per_s=rate, left_s=left_s
        )
        if now_s - self._shown_s < (_SHOW_EVERY_S if self._line.on_terminal else _LOG_EVERY_S):
            return
        self._shown_s = now_s
        if self._line.on_terminal:
            self._line.show(self.state.line())
        elif progress.done:
            log.info("%s", self.state.line())
