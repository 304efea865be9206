"""One call of a target within its limits, and what it finds: told apart by where it happened, made short, replayable.

The limit of time counts the processor's time of this process, not the clock's, so that a busy machine finds nothing
that a quiet one does not; a call that waits for ever is ended by the clock. Memory is the growth of the process'
largest size.
"""

from __future__ import annotations

import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

MAX_INPUT_BYTES = 4096
"""Of an input: a few requests, a small file with its tags; what needs more is found by reading."""

MAX_CPU_S = 1.0
MAX_WALL_S = 20.0
MAX_GROWTH_KIB = 256 << 10
"""By one call. The first ones load modules; that is 100 MiB at most."""

_SHRINKING_S = 3.0
_FOLDER = str(Path(__file__).parent)

Target = Callable[[bytes], None]


class TooMuchError(Exception):
    """A call took more time or memory than it may."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What came out of a target that should not.

    Attributes:
        target: its name.
        what: type, text and place of the error, in one line.
        place: by which two findings are told apart.
        data: the input, made short.
        trace: the traceback.
    """

    target: str
    what: str
    place: str
    data: bytes
    trace: str

    def __str__(self) -> str:
        return (
            f"FINDING in {self.target}: {self.what}\n"
            f"  input ({len(self.data)} bytes): {self.data.hex()}\n"
            f"  replay: python -m tests.fuzz --target {self.target} --replay {self.data.hex()}\n"
            + "".join(f"  | {line}\n" for line in self.trace.splitlines()[-16:])
        )


def examine(name: str, target: Target, data: bytes) -> Finding | None:
    """Call a target with an input and return what it finds."""
    begin_s, begin_kib = time.process_time(), largest_kib()
    try:
        with _ended_by_the_clock(), _heard_of_what_nobody_raises():
            target(data)
        spent_s, grown_kib = time.process_time() - begin_s, largest_kib() - begin_kib
        # Memory first: to have so much takes its time, too.
        if grown_kib > MAX_GROWTH_KIB:
            raise TooMuchError(f"{grown_kib >> 10} MiB of memory")
        if spent_s > MAX_CPU_S:
            raise TooMuchError(f"{spent_s:.1f} s of the processor's time")
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # A target may find anything, an exception of C code's own too.
        frames = traceback.extract_tb(error.__traceback__)
        # The last place in the product: in a library, one mistake of ours fails at many lines.
        ours = [one for one in frames if "/musicsyncd/" in one.filename] or frames
        last = ours[-1]
        where = f"{Path(last.filename).name}:{last.lineno} in {last.name}"
        text = " ".join(str(error).split())[:200]
        place = f"{type(error).__name__} {where}"
        return Finding(name, f"{type(error).__name__}: {text} ({where})", place, data, traceback.format_exc())
    return None


def shortened(finding: Finding, target: Target) -> Finding:
    """Return the same finding with an input from which nothing more can be left out, within a few seconds."""
    best, end_s = finding, time.monotonic() + _SHRINKING_S
    size_bytes = max(1, len(best.data) // 2)
    while size_bytes and time.monotonic() < end_s:
        start = 0
        while start < len(best.data) and time.monotonic() < end_s:
            again = examine(best.target, target, best.data[:start] + best.data[start + size_bytes :])
            if again is not None and again.place == best.place:
                best = again
            else:
                start += size_bytes
        size_bytes //= 2
    return best


def largest_kib() -> int:
    """Return the most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@contextmanager
def _heard_of_what_nobody_raises() -> Iterator[None]:
    """Raise what a callback of C code or a destructor raised, which Python prints and forgets."""
    missed: list[BaseException] = []
    before = sys.unraisablehook

    def note(told: sys.UnraisableHookArgs) -> None:
        if told.exc_value is not None:
            missed.append(told.exc_value)

    sys.unraisablehook = note
    try:
        yield
    finally:
        sys.unraisablehook = before
    if missed:
        raise missed[0]


@contextmanager
def _ended_by_the_clock() -> Iterator[None]:
    def end(_number: int, _frame: FrameType | None) -> None:
        raise TooMuchError(f"{MAX_WALL_S:g} s, and no end")

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, MAX_WALL_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
