"""What keeps a daemon in order: signals, systemd's notifications and watchdog, one instance a name.

The notification protocol is systemd's sd_notify(3): datagrams of ``KEY=value`` lines to
the socket in ``NOTIFY_SOCKET``. Without one, nothing is sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import gc
import os
import signal
import socket
from collections.abc import Coroutine
from pathlib import Path
from typing import IO, Any

from musicsyncd.config import make_folder
from musicsyncd.errors import ConfigError

_NOTIFY_TIMEOUT_S = 0.1


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


def raise_priority() -> None:
    """Put this process before ordinary ones, where this user may; quietly not, where not.

    The audio callback may have real-time priority, and still waits for the interpreter's lock when
    another thread of ours has it: that thread must not in its turn wait behind somebody's compiler.
    Threads that begin later inherit it, so call it first.
    """
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, _NICE)


def die_with_parent() -> None:
    """End with the process that started this one, if that asked for it: a killed host leaves no speaker behind."""
    if os.environ.get(DIES_WITH_PARENT):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


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
