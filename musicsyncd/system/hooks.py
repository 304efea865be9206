"""Runs a speaker's hooks: a command when there is something to sound, another when there has been nothing for a while.

They are for an amplifier that is to be switched. So the one for sound is run as early as the time line tells of it,
:data:`AHEAD_S` before the first track begins; that for silence only after a pause that is longer than any between two
tracks; and at the end of the daemon. What counts is the time line alone: a volume of 0 is no silence, for whoever
turns it up again wants to hear something at once.

One command runs at a time. What is wanted when it ends is run next, whatever was wanted meanwhile. Which one was run
last is not known at a start, for the daemon may have been killed: then too silence is told after its while.

Nothing that a command does stops the music: what goes wrong is a line in the log and in the speaker's own account. Must
not know what a command is for.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Mapping
from typing import Any, Literal

from musicsyncd.hook_config import HookConfig
from musicsyncd.playback.player import Course
from musicsyncd.system.log import Throttle
from musicsyncd.system.supervision import SYSTEMDS_OWN
from musicsyncd.units import LocalNs, ns_to_s, s_to_ns

log = logging.getLogger(__name__)

Event = Literal["sound", "silence"]

AHEAD_S = 5.0
"""An amplifier takes one to five seconds until it can be heard; where the music is planned, it has them."""

STOP_LIMIT_S = 2.5
"""For all commands at the end of the daemon: who stops it waits five seconds, and the music fades out before."""

_REAPED_WITHIN_S = 0.5
"""From a command's killing to its end."""

_OURS = "MUSICSYNCD_"
_SECRETS = ("CREDENTIALS_DIRECTORY",)


def has_sound(course: Course, now_local_ns: int) -> bool:
    """Return whether something sounds at an instant by the time line, or begins within :data:`AHEAD_S`."""
    if course.mapping is None:
        return False
    host_ns = course.mapping.host_at(LocalNs(now_local_ns + course.delay_duration_ns))
    ahead_ns = host_ns + s_to_ns(AHEAD_S)
    return any(
        span.segment.start_host_ns <= ahead_ns and host_ns < span.end_host_ns for span in course.timeline.spans()
    )


class Hooks:
    """The commands of one speaker.

    Args:
        config: the commands.
        name: of the speaker, for their environment.
    """

    def __init__(self, config: HookConfig, name: str) -> None:
        self.config = config
        self._name = name
        self._room = ""
        self._told: Event | None = None
        self._wanted: Event | None = None
        self._silent_since_ns: int | None = None
        self._running: asyncio.Task[None] | None = None
        self._process: Process | None = None
        self._fault = ""
        self._throttle = Throttle(log)

    def look(self, sounds: bool, room: str, now_local_ns: int) -> None:
        """Run a command if it is time for one. Call it some times a second, on the event loop.

        Args:
            sounds: there is something to sound, or will be in a moment.
            room: that the speaker is in.
            now_local_ns: the time.
        """
        self._room = room
        if sounds:
            self._silent_since_ns, self._wanted = None, "sound"
        elif self._silent_since_ns is None:
            self._silent_since_ns = now_local_ns
        if self._silent_since_ns is not None:
            silent_s = ns_to_s(now_local_ns - self._silent_since_ns)
            if silent_s >= self.config.silence_after_s:
                self._wanted = "silence"
        running = self._running is not None and not self._running.done()
        if self._wanted is not None and self._wanted != self._told and not running:
            self._told = self._wanted
            if self._words(self._told):
                self._running = asyncio.create_task(self._run(self._told, self.config.timeout_s))

    async def close(self, *, say_silence: bool = True) -> None:
        """End with silence told, if sound was, within :data:`STOP_LIMIT_S` whatever the commands do.

        Args:
            say_silence: there is to be silence from now on; else another process goes on with the sound.
        """
        loop = asyncio.get_running_loop()
        until_s = loop.time() + STOP_LIMIT_S
        if self._running is not None:
            # What switches on has to leave time to switch off.
            await asyncio.wait({self._running}, timeout=STOP_LIMIT_S * (0.9 if self._told == "silence" else 0.5))
            self._kill()
            await asyncio.wait({self._running}, timeout=STOP_LIMIT_S / 10)
        if say_silence and self._told == "sound" and self.config.on_silence:
            self._told = "silence"
            left_s = max(0.1, until_s - loop.time())
            await self._run("silence", min(left_s, self.config.timeout_s))

    def status(self) -> dict[str, Any] | None:
        """Return as plain values what was told last, and what went wrong with it; None without any command."""
        if not (self.config.on_sound or self.config.on_silence):
            return None
        return {"told": self._told, "fault": self._fault}

    def _words(self, event: Event) -> tuple[str, ...]:
        return self.config.on_sound if event == "sound" else self.config.on_silence

    async def _run(self, event: Event, timeout_s: float) -> None:
        words = self._words(event)
        try:
            self._fault = await self._outcome(words, event, timeout_s)
        except Exception as error:  # A name that no environment takes, a system without processes left, …
            self._fault = f"cannot be run: {getattr(error, 'strerror', None) or error}"
        if self._fault:
            self._fault = f"on-{event}: {words[0]} {self._fault}"
            self._throttle.warning(event, self._fault)
        else:
            log.info("on-%s: %s has run", event, words[0])

    async def _outcome(self, words: tuple[str, ...], event: Event, timeout_s: float) -> str:
        """Run a command to its end, and return what went wrong."""
        environment = hook_environment(os.environ, event, self._name, self._room)
        # A session of its own: its process group is all that it starts, and a Ctrl-C is not for it.
        self._process = process = await asyncio.create_subprocess_exec(
            *words, stdin=DEVNULL, env=environment, start_new_session=True
        )
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, process.pid, 0)  # It is not in the hurry that we are in.
        try:
            async with asyncio.timeout(timeout_s):
                code = await process.wait()
        except TimeoutError:
            self._kill()
            with contextlib.suppress(TimeoutError):  # What hangs in a driver outlives even this.
                async with asyncio.timeout(_REAPED_WITHIN_S):
                    await process.wait()
            return f"took longer than {timeout_s:g} s and was killed"
        finally:
            self._process = None
        if code < 0:
            return f"was ended by signal {-code}"
        return f"ended with {code}" if code else ""

    def _kill(self) -> None:
        """Kill what runs, and all that it has started."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)


def hook_environment(own: Mapping[str, str], event: Event, name: str, room: str) -> dict[str, str]:
    """Return a command's environment: ours without what is systemd's and ours alone, and what has happened.

    Args:
        own: of this process.
        event: what has happened.
        name: of the speaker.
        room: it is in.
    """
    withheld = (*SYSTEMDS_OWN, *_SECRETS)
    kept = {key: value for key, value in own.items() if key not in withheld and not key.startswith(_OURS)}
    return kept | {f"{_OURS}EVENT": event, f"{_OURS}NAME": name, f"{_OURS}ROOM": room}
