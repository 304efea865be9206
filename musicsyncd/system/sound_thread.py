"""Calls into the sound system, which may never come back.

A driver, a USB bus or a sound server that hangs takes whoever calls it with it, and a thread cannot be ended from
outside. So every such call runs in a thread of its own, with a time limit, and nothing else is asked of the sound
system while one hangs: PortAudio's functions may not be called by two threads at once. A call that does come back
after all is cleaned up after, and the next one may be tried.

Owns the threads and the limit. Must not know what is called.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from musicsyncd.errors import DeviceError

LIMIT_S = 10.0
"""A USB card that wakes up takes up to three seconds; what takes longer than this does not come back."""

T = TypeVar("T")


class HungError(DeviceError):
    """The sound system does not answer."""


class SoundThread:
    """Runs one call at a time, each in a thread that nobody has to wait for."""

    def __init__(self) -> None:
        self._last: _Call[Any] | None = None

    @property
    def hanging(self) -> str:
        """What did not come back within its time, and has not until now; empty while all is well."""
        last = self._last
        return last.what if last is not None and last.late and not last.over.is_set() else ""

    async def call(
        self,
        what: str,
        function: Callable[[], T],
        *,
        limit_s: float | None = None,
        undo: Callable[[T], None] | None = None,
    ) -> T:
        """Return what a function returns, or raise what it raises.

        Args:
            what: is done, for people: ``opening``.
            function: is called in another thread.
            limit_s: how long it may take; :data:`LIMIT_S` by default.
            undo: is given the result in that thread when nobody waits for it any more.

        Raises:
            HungError: when it does not come back in time, or a former one has not yet.
        """
        if self._last is not None and not self._last.over.is_set():
            raise HungError(_say(self._last.what))
        limit_s = LIMIT_S if limit_s is None else limit_s
        loop, woken = asyncio.get_running_loop(), asyncio.Event()
        one = _Call(what, function, undo)
        self._last = one

        def run() -> None:
            one.run()
            with contextlib.suppress(RuntimeError):  # The loop may be gone by now.
                loop.call_soon_threadsafe(woken.set)

        threading.Thread(target=run, name=f"sound: {what}", daemon=True).start()
        try:
            async with asyncio.timeout(limit_s):
                await woken.wait()
        except TimeoutError:
            # A loop that was held up for as long learns of the limit before it learns of the result.
            one.late = one.leave()
            if one.late:
                raise HungError(_say(what)) from None
        except asyncio.CancelledError:
            one.leave()  # Of a result that is there already the process's end takes care: nothing else cancels.
            raise
        return one.result()

    async def settle(self, limit_s: float) -> None:
        """Wait until no call is under way, for so long at most; what still is by then counts as hanging."""
        last = self._last
        if last is not None and not self.hanging:
            last.late = last.leave() and not await asyncio.to_thread(last.over.wait, limit_s)


class _Call(Generic[T]):
    """One call, shared by its thread and by who waits for it."""

    def __init__(self, what: str, function: Callable[[], T], undo: Callable[[T], None] | None) -> None:
        self.what, self._function, self._undo = what, function, undo
        self.over = threading.Event()
        self.late = self._left = False
        self._lock = threading.Lock()
        self._outcome: list[T] = []
        self._error: BaseException | None = None

    def run(self) -> None:
        """Call the function, in this thread."""
        try:
            outcome = self._function()
        except BaseException as error:
            self._error = error
            self.over.set()
            return
        with self._lock:
            self._outcome.append(outcome)
            if not self._left:
                self.over.set()
                return
        try:
            if self._undo is not None:
                self._undo(outcome)
        finally:
            self.over.set()

    def leave(self) -> bool:
        """Wait no longer; return whether there was anything to wait for."""
        with self._lock:
            self._left = self._left or (not self._outcome and self._error is None)
            return self._left

    def result(self) -> T:
        """Return what the function returned, or raise what it raised."""
        if self._error is not None:
            raise self._error
        return self._outcome[0]


def _say(what: str) -> str:
    advice = "unplug it, or restart the machine"
    return f"the sound card does not answer: {what} it takes more than {LIMIT_S:.0f} s; {advice}"
