"""What keeps a daemon in order: signals, systemd's notifications and watchdog, one instance a name.

The notification protocol is systemd's sd_notify(3): datagrams of ``KEY=value`` lines to
the socket in ``NOTIFY_SOCKET``. Without one, nothing is sent.

What hangs in a driver is got out of by a new process only. Where systemd watches
(``WATCHDOG_USEC``), it is enough not to feed it; elsewhere the process replaces itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import gc
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import IO, Any, NoReturn

from musicsyncd.errors import ConfigError
from musicsyncd.paths import make_folder
from musicsyncd.system.monotonic import now_ns
from musicsyncd.units import NS_PER_S

log = logging.getLogger(__name__)

_NOTIFY_TIMEOUT_S = 0.1

SYSTEMDS_OWN = frozenset(
    ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "STATE_DIRECTORY", "CACHE_DIRECTORY", "RUNTIME_DIRECTORY")
)
"""Variables that systemd has for the service's own process, and not for those that it starts."""

_REPLACED_NS = "MUSICSYNCD_REPLACED_NS"
"""When this process replaced itself last, by the monotonic clock: its environment is all that it keeps of itself."""

_REPLACED_AGAIN_AFTER_NS = 60 * NS_PER_S


def notify(message: str) -> None:
    """Tell systemd, for example ``READY=1``; no harm is done where there is none."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    # When the service manager goes away, or stops reading, the music need not.
    with (
        contextlib.suppress(OSError),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out,
    ):
        out.settimeout(_NOTIFY_TIMEOUT_S)
        out.connect(address)
        out.sendall(message.encode())


class Watchdog:
    """Feeds systemd's watchdog while nothing speaks against it, and says why when it does not."""

    def __init__(self) -> None:
        self._why_not = ""

    @staticmethod
    def is_set() -> bool:
        """Return whether systemd ends this process when it is not fed (sd_watchdog_enabled(3))."""
        set_for = os.environ.get("WATCHDOG_PID") or str(os.getpid())
        period_us = os.environ.get("WATCHDOG_USEC", "")
        return period_us.isdecimal() and int(period_us) > 0 and set_for == str(os.getpid())

    def feed(self, status: str, why_not: str = "") -> None:
        """Tell systemd that all goes on, and a line for ``systemctl status``. Call it about once a second.

        Args:
            status: the line.
            why_not: what does not go on; empty for nothing.
        """
        if why_not != self._why_not and self.is_set():
            if why_not:
                log.warning("the watchdog is not fed, and systemd may start this anew: %s", why_not)
            else:
                log.info("the watchdog is fed again")
        self._why_not = why_not
        status = " ".join(status.split())  # A line more, in a name that came from the network, would be an order.
        notify(f"STATUS={status}" if why_not else f"WATCHDOG=1\nSTATUS={status}")


def keep_standard_error() -> None:
    """Have errors and the log on a descriptor of their own.

    While PortAudio looks for cards, ``sounddevice`` has descriptor 2 lead nowhere, because of what ALSA has to say of
    each. What we have to say meanwhile would be lost, and all of it where PortAudio does not come back.
    """
    try:
        own = os.fdopen(os.dup(2), "w", buffering=1, errors="backslashreplace")
    except OSError:
        return  # There is none: nobody reads it.
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.StreamHandler) and handler.stream is sys.stderr:
            handler.setStream(own)
    sys.stderr = own


def may_replace_process() -> bool:
    """Return whether the last time that this process replaced itself is a minute ago."""
    last = os.environ.get(_REPLACED_NS, "")
    return not last.isdecimal() or now_ns() - int(last) > _REPLACED_AGAIN_AFTER_NS


def replace_process() -> NoReturn:
    """Begin this process anew, with the arguments and the number that it has: for what hangs in a thread of it."""
    os.environ[_REPLACED_NS] = str(now_ns())
    with contextlib.suppress(OSError, ValueError):
        os.dup2(sys.stderr.fileno(), 2)
    for descriptor in os.listdir("/proc/self/fd"):
        # Python closes its own by itself; a sound card that a library left open would be busy for the next one.
        if int(descriptor) > 2:
            with contextlib.suppress(OSError):
                os.set_inheritable(int(descriptor), False)
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def own_command(module: str, *words: str) -> list[str]:
    """Return a command that runs a module of ours as we run: by this Python, and from where it is installed.

    Without ``-P``, ``-m`` would look in the current folder first, which anybody may have filled.
    """
    return [sys.executable, "-P", "-m", module, *words]


def end_process() -> NoReturn:
    """End at once, with success, without the libraries' own ends: one of them would wait for what hangs."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(0)


def on_stop_signals() -> asyncio.Event:
    """Return an event that SIGTERM and SIGINT set. A second SIGINT ends the process at once."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def first() -> None:
        if stop.is_set():
            os._exit(130)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, first)
    return stop


async def until_stopped(stop: asyncio.Event, *work: Coroutine[Any, Any, None]) -> None:
    """Run work that never ends until the event is set; what goes wrong in it comes out here."""
    tasks = [asyncio.create_task(one) for one in work]
    stopped = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([*tasks, stopped], return_when=asyncio.FIRST_COMPLETED)
        for one in tasks:
            if one.done():
                one.result()
    finally:
        stopped.cancel()
        for one in tasks:
            one.cancel()
        await asyncio.gather(*tasks, stopped, return_exceptions=True)


DIES_WITH_PARENT = "MUSICSYNCD_DIES_WITH_PARENT"
"""Set by a host in the environment of its own speaker."""

_PR_SET_PDEATHSIG = 1  # linux/prctl.h

_NICE = -11
"""What sound servers (PipeWire, PulseAudio) ask for, too."""

_AUTOGROUP = Path("/proc/self/autogroup")
_AUTOGROUP_AGAIN_AFTER_S = 0.12
"""The kernel lets it be written ten times a second, by all who are not root."""


def raise_priority() -> None:
    """Put this process before ordinary ones, where this user may; quietly not, where not.

    The audio callback may have real-time priority, and still waits for the interpreter's lock when
    another thread of ours has it: that thread must not in its turn wait behind somebody's compiler.
    Threads that begin later inherit it, so call it first.

    Most kernels share the processor between sessions first, and only within one by what its processes
    are worth (autogroups, sched(7)). A service is a session of its own; a terminal's is not ours to raise.
    """
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, _NICE)
    if os.getsid(0) == os.getpid():
        with contextlib.suppress(OSError):
            _raise_session()


def _raise_session() -> None:
    try:
        _AUTOGROUP.write_text(str(_NICE))
    except BlockingIOError:  # Somebody on this machine has just done so: the host, where both begin at boot.
        time.sleep(_AUTOGROUP_AGAIN_AFTER_S)
        _AUTOGROUP.write_text(str(_NICE))


def die_with_parent() -> None:
    """End with the process that started this one, if that asked for it: a killed host leaves no speaker behind."""
    if os.environ.get(DIES_WITH_PARENT):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


_M_TRIM_THRESHOLD = -1  # malloc.h
_TRIM_BYTES = 128 << 10
"""glibc's own default. By itself it raises that, to megabytes, once large blocks have come and gone; set, it stays."""


def give_memory_back() -> None:
    """Have the C library give the system back what is not in use any more, where it can be told so (mallopt(3))."""
    with contextlib.suppress(AttributeError):  # musl has no such call, and needs none.
        ctypes.CDLL(None).mallopt(_M_TRIM_THRESHOLD, _TRIM_BYTES)


def settle_memory() -> None:
    """Keep what is there at the end of the start out of garbage collections: they hold up the audio callback."""
    gc.collect()
    gc.freeze()


def claim(folder: Path, what: str, instead: str) -> IO[str]:
    """Claim a folder for this process until the returned file is closed, so that two never share their state.

    Args:
        folder: made if it is not there.
        what: that would be here twice, for the message.
        instead: the option that gives the second one a folder of its own.

    Raises:
        ConfigError: when another process has it.
    """
    try:
        lock = open(make_folder(folder) / "lock", "w", encoding="ascii")  # noqa: SIM115 - it stays open on purpose
    except OSError as error:
        raise ConfigError(f"cannot write in {folder}: {error.strerror}") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise ConfigError(f"{what} runs on this machine already: stop it, or choose another {instead}") from None
    return lock
