"""A daemon's configuration, read again while it runs: SIGHUP, as ``systemctl reload`` sends it.

Owns the signal, what systemd is told meanwhile (sd_notify(3), ``RELOADING=1``) and what is said of the outcome. What
of a new configuration can be taken over without a gap in the music is each daemon's to know, and how a configuration
is read is the command line's.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
import signal
from collections.abc import Awaitable, Callable
from typing import Any

from musicsyncd.errors import MusicSyncError
from musicsyncd.system.monotonic import now_ns
from musicsyncd.system.supervision import notify
from musicsyncd.units import NS_PER_US

log = logging.getLogger(__name__)

_KEYS = {"rate_hz": "rate", "interfaces": "interface", "given_tls_port": "tls-port", "timeout_s": "hook-timeout-s"}
"""Fields of a configuration that are not called as their keys of the file are."""

_NO_KEYS = ("config_file",)


def on_hangup(stop: asyncio.Event) -> asyncio.Event:
    """Return an event that SIGHUP sets: the configuration is to be read again.

    From a terminal that goes away the same signal means the end, and sets ``stop``; not under systemd, which asks with
    it for a reload, and not where it was to be ignored (``nohup``).
    """
    hangup = asyncio.Event()
    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    ends = not ignored and not os.environ.get("NOTIFY_SOCKET") and _has_terminal()
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, (stop if ends else hangup).set)
    return hangup


def _has_terminal() -> bool:
    """Return whether this process belongs to a terminal, wherever its own input and output go."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


async def reload_for_ever(hangup: asyncio.Event, reload: Callable[[], Awaitable[set[str]]]) -> None:
    """Reload whenever the event is set, and tell systemd so.

    Args:
        hangup: as :func:`on_hangup` returns it.
        reload: takes the configuration over, and returns the keys that wait for the next start; what it raises leaves
            everything as it was.
    """
    while True:
        await hangup.wait()
        hangup.clear()
        notify(f"RELOADING=1\nMONOTONIC_USEC={now_ns() // NS_PER_US}")
        try:
            later = await reload()
        except MusicSyncError as error:
            log.warning("the configuration stays as it was: %s", error)
        else:
            log.info("the configuration was read again")
            if later:
                log.warning("takes effect at the next start: %s", ", ".join(sorted(later)))
        notify("READY=1")


def changed_keys(old: Any, new: Any) -> set[str]:  # noqa: ANN401 - any two of a kind
    """Return the keys of the configuration file in which two configurations, dataclasses of one kind, differ."""
    found: set[str] = set()
    for field in dataclasses.fields(old):
        before, after = getattr(old, field.name), getattr(new, field.name)
        if dataclasses.is_dataclass(before):
            found |= changed_keys(before, after)
        elif before != after and field.name not in _NO_KEYS:
            found.add(_KEYS.get(field.name, field.name.replace("_", "-")))
    return found
