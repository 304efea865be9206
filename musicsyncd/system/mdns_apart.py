"""A look by multicast DNS in a process of its own, which takes what it needs of memory with it.

Owns that process: its start, what is said to and by it, its end. Must not know how a look is done
(:mod:`musicsyncd.system.mdns`). A speaker looks while its host is away, for a minute in a year, and then plays on for
months: in its own process the library would stay, with 4 MiB.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from musicsyncd.errors import DeviceError
from musicsyncd.protocol.node import Address
from musicsyncd.system.interfaces import Interface
from musicsyncd.system.supervision import own_command

_WITHIN_S = 20.0
"""A look takes five seconds at most; a small machine that is busy may need as long to start it."""

_NICE = 10
"""It must not keep the sound waiting."""


@dataclass(frozen=True, slots=True)
class _Said:
    """What the process says at its end.

    Attributes:
        found: as :func:`.mdns.look` returns it.
        fault: why there is none; empty if there is no reason.
    """

    found: list[Address] = field(default_factory=list)
    fault: str = ""


async def look(interfaces: Sequence[Interface]) -> list[Address]:
    """Return where hosts say that they are, best first.

    Args:
        interfaces: to ask on.

    Raises:
        DeviceError: there is no way to ask here.
    """
    try:
        process = await asyncio.create_subprocess_exec(*own_command(__name__), stdin=PIPE, stdout=PIPE, stderr=DEVNULL)
    except OSError as error:
        raise DeviceError(f"no process can be started: {error.strerror}") from None
    try:
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, process.pid, _NICE)
        async with asyncio.timeout(_WITHIN_S):
            out, _ = await process.communicate(msgspec.json.encode(interfaces))
        said = msgspec.json.decode(out, type=_Said)
    except TimeoutError:
        raise DeviceError(f"a look took longer than {_WITHIN_S:g} s") from None
    except msgspec.DecodeError:
        raise DeviceError(f"a look ended with {process.returncode}") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if said.fault:
        raise DeviceError(said.fault)
    return said.found


def main() -> None:
    """Be that process: read interfaces, look, and say what was found."""
    from musicsyncd.system import mdns

    interfaces = msgspec.json.decode(sys.stdin.buffer.read(), type=list[Interface])
    try:
        said = _Said(found=asyncio.run(mdns.look(interfaces)))
    except DeviceError as error:
        said = _Said(fault=str(error))
    sys.stdout.buffer.write(msgspec.json.encode(said))


if __name__ == "__main__":
    main()
