"""PortAudio: sound cards by stable names, and the stream that asks for blocks.

The time at which a block sounds is PortAudio's ``outputBufferDacTime``. Its clock is
``CLOCK_MONOTONIC`` under one host API, ``CLOCK_REALTIME`` under another and seconds since the
stream began under a third; :class:`StreamClock` finds out which, from the stream's own
"now" beside ours in the same callback.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import math
import os
import re
import resource
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from musicsyncd.errors import DeviceError
from musicsyncd.system import portaudio
from musicsyncd.system.monotonic import now_ns
from musicsyncd.system.output import BLOCK_FRAMES, FALLBACK_RATE_HZ, LastingError, RenderBlock
from musicsyncd.units import NS_PER_MS, NS_PER_S, s_to_ns

log = logging.getLogger(__name__)

_SAME_CLOCK_NS = NS_PER_S // 2
"""The stream's "now" is this near to the clock that it is read from, even in a callback that was held up."""

_RELAX_PPM = 100
"""A stream clock of its own drifts against ours by no more."""

_PRIORITY = 10
"""Of the audio thread: above everything ordinary, below the kernel's own threads and a sound server's."""


_MAX_WAIT_NS = 60 * NS_PER_MS
"""No block is kept back longer, whatever is asked for."""


@dataclass(frozen=True, slots=True)
class Device:
    """A sound card, or another way out that PortAudio knows.

    Attributes:
        name: PortAudio's, with indices that change from boot to boot.
        stable_name: what ``--device`` should be given.
        channels: at most.
        rate_hz: its default.
        is_default: it is taken when none is named.
        api: the host API.
        index: PortAudio's number, as of now.
    """

    name: str
    stable_name: str
    channels: int
    rate_hz: int
    is_default: bool
    api: str
    index: int


def _stable_name(name: str) -> str:
    """Return a card's name without the number that it happened to get: ``hw:1,0`` becomes ``hw:Device,0``."""
    found = re.search(r"hw:(\d+),(\d+)", name)
    if not found:
        return name
    try:
        card = Path(f"/proc/asound/card{found[1]}/id").read_text(encoding="ascii").strip()
    except OSError:
        return name
    return f"hw:{card},{found[2]}"


def list_devices(*, anew: bool = False) -> list[Device]:
    """Return the outputs that PortAudio offers.

    Args:
        anew: those that are there now, instead of those that were when it was asked first. No stream may be open.

    Raises:
        DeviceError: when PortAudio cannot be used.
    """
    sounddevice = portaudio.library(anew=anew)
    try:
        apis = sounddevice.query_hostapis()
        default = sounddevice.default.device[1]
        return [
            Device(
                name=one["name"],
                stable_name=_stable_name(one["name"]),
                channels=one["max_output_channels"],
                rate_hz=round(one["default_samplerate"]),
                is_default=one["index"] == default,
                api=apis[one["hostapi"]]["name"],
                index=one["index"],
            )
            for one in sounddevice.query_devices()
            if one["max_output_channels"] > 0
        ]
    except sounddevice.PortAudioError as error:
        raise DeviceError(f"cannot list the sound cards: {error}") from None


def find_device(wanted: str | None, *, anew: bool = False) -> Device:
    """Return the output that a user named, or the default one.

    Args:
        wanted: a stable name, PortAudio's name, or a part of either that only one has.
        anew: look for cards that were plugged in since the last look. No stream may be open.

    Raises:
        DeviceError: when there is none.
        LastingError: when there is more than one.
    """
    devices = list_devices(anew=anew)
    if not devices:
        raise DeviceError("no sound card: plug one in, or use --output null")
    if wanted is None:
        return next((one for one in devices if one.is_default), devices[0])
    for exact in (
        [one for one in devices if wanted == one.stable_name],
        [one for one in devices if wanted == one.name],
        [one for one in devices if wanted.lower() in f"{one.stable_name}\n{one.name}".lower()],
    ):
        if len({one.stable_name for one in exact}) == 1:  # Two of one name cannot be told apart by saying more.
            return exact[0]
        if exact:
            names = ", ".join(one.stable_name for one in exact)
            raise LastingError(f"{wanted!r} may be any of {names}: say more of its name")
    names = ", ".join(one.stable_name for one in devices)
    raise DeviceError(f"no sound card {wanted!r}: there is {names}")


class StreamClock:
    """Turns a stream's times into the local monotonic clock's.

    Attributes:
        kind: ``monotonic``, ``realtime`` or ``own``, once it is known.
    """

    def __init__(self) -> None:
        self.kind = ""
        self._offset_ns: int | None = None
        self._at_ns = 0

    def to_local_ns(self, dac_s: float, current_s: float, local_ns: int) -> int:
        """Return the local time of a stream's time; 0 when the stream says nothing.

        Args:
            dac_s: the stream's time to bring over.
            current_s: the stream's now, as the callback was given it.
            local_ns: the local clock, read in the same callback.
        """
        if dac_s <= 0.0:
            return 0
        current_ns = round(current_s * NS_PER_S)
        if not self.kind:
            self.kind = self._recognise(current_ns, local_ns)
        dac_ns = round(dac_s * NS_PER_S)
        if self.kind == "monotonic":
            return dac_ns
        if self.kind == "realtime":
            ahead_ns = time.clock_gettime_ns(time.CLOCK_REALTIME) - now_ns()
            if abs(current_ns - ahead_ns - local_ns) < _SAME_CLOCK_NS:
                return dac_ns - ahead_ns
            # The wall clock was set since the stream read it: this once, what it read is as good as now.
            return local_ns + dac_ns - current_ns
        return dac_ns + self._own_offset_ns(local_ns - current_ns, local_ns)

    @staticmethod
    def _recognise(current_ns: int, local_ns: int) -> str:
        if current_ns > 0 and abs(current_ns - local_ns) < _SAME_CLOCK_NS:
            return "monotonic"
        if abs(current_ns - time.clock_gettime_ns(time.CLOCK_REALTIME)) < _SAME_CLOCK_NS:
            return "realtime"
        return "own"

    def _own_offset_ns(self, seen_ns: int, local_ns: int) -> int:
        """Return the least offset seen of late: a callback may be late after the stream's now, never early."""
        if self._offset_ns is None or abs(seen_ns - self._offset_ns) > NS_PER_S:
            self._offset_ns = seen_ns
        else:
            relaxed_ns = self._offset_ns + (local_ns - self._at_ns) * _RELAX_PPM // 1_000_000
            self._offset_ns = min(seen_ns, relaxed_ns)
        self._at_ns = local_ns
        return self._offset_ns


class PortAudioOutput:
    """A PortAudio stream in callback mode.

    Args:
        device: which card; the default one for None.
        rate_hz: frames a second; the card's own choice for None.
        buffer_ms: how much sound PortAudio should hold.

    Only one may be open at a time: cards are looked for anew before.

    Raises:
        DeviceError: when it cannot be opened now.
        LastingError: when it cannot be opened as it was asked for.
    """

    def __init__(self, device: str | None, rate_hz: int | None, buffer_ms: float) -> None:
        found = find_device(device, anew=True)
        self._sounddevice = portaudio.library()
        self.underruns = 0
        self.description = found.stable_name
        self.channels = min(found.channels, 2)
        self._is_alsa = found.api == "ALSA"
        self.clock = StreamClock()
        self._render: RenderBlock | None = None
        self._frame = 0
        self._fault = ""
        self.rate_hz = self._rate(found, rate_hz)
        if self._is_alsa:
            _ask_for_short_periods(self._sounddevice, 1 + math.ceil(buffer_ms / 1000 * self.rate_hz / BLOCK_FRAMES))
        try:
            self._stream = self._sounddevice.OutputStream(
                samplerate=self.rate_hz,
                blocksize=BLOCK_FRAMES,
                device=found.index,
                channels=self.channels,
                dtype="float32",
                latency=buffer_ms / 1000.0,
                callback=self._callback,
                clip_off=True,  # The player has clipped already.
                dither_off=False,
            )
        except self._sounddevice.PortAudioError as error:
            raise DeviceError(_say(found, error)) from None
        except MemoryError:
            why = "the system forbids memory that is written and run (MemoryDenyWriteExecute=, SELinux)"
            raise LastingError(f"{why}, which PortAudio needs to ask for sound: allow it") from None
        self._latency_ns = s_to_ns(self._stream.latency)

    def _rate(self, device: Device, wanted_hz: int | None) -> int:
        """Return the rate to open a card with: what was asked for, or 48 kHz, or the card's default."""
        for rate_hz in [wanted_hz] if wanted_hz else [FALLBACK_RATE_HZ, device.rate_hz]:
            try:
                self._sounddevice.check_output_settings(
                    device=device.index, channels=self.channels, dtype="float32", samplerate=rate_hz
                )
            except self._sounddevice.PortAudioError as error:
                if "unavailable" in str(error).lower():
                    raise DeviceError(_say(device, error)) from None
                continue
            return rate_hz
        if wanted_hz:
            raise LastingError(f"{device.stable_name} does not play at {wanted_hz} Hz: leave --rate out")
        return device.rate_hz

    def start(self, render: RenderBlock) -> None:
        """Begin asking for blocks.

        Raises:
            DeviceError: when the card refuses.
        """
        self._render = render
        try:
            self._stream.start()
        except self._sounddevice.PortAudioError as error:
            raise DeviceError(f"{self.description} does not start: {error}") from None

    def healthy(self) -> bool:
        """Return whether the stream runs."""
        if self._fault:
            log.warning("%s: %s", self.description, self._fault)
            self._fault = ""
        try:
            return bool(self._stream.active)  # A look at a flag of PortAudio's, which asks nothing of the card.
        except self._sounddevice.PortAudioError:
            return False

    def close(self) -> None:
        """Stop at once and let go of the card."""
        try:
            self._stream.abort(ignore_errors=True)
            self._stream.close(ignore_errors=True)
        except self._sounddevice.PortAudioError as error:
            log.warning("%s: closing: %s", self.description, error)

    def _callback(self, out: npt.NDArray[np.float32], frames: int, when: Any, status: Any) -> None:  # noqa: ANN401
        local_ns = now_ns()
        try:
            if not self._frame:
                _hurry()
            broken = bool(status) and status.output_underflow
            self.underruns += broken
            sounds_ns = self.clock.to_local_ns(when.outputBufferDacTime, when.currentTime, local_ns)
            if sounds_ns == 0:  # The card does not say: it is about as long from now as PortAudio holds sound.
                sounds_ns = local_ns + self._latency_ns
            read_ns = 0
            if self._is_alsa:  # There "now" is when the card was asked, and it is asked again once it has its block.
                read_ns = self.clock.to_local_ns(when.currentTime, when.currentTime, local_ns)
            if self._render is not None:
                until_ns = self._render(out, self._frame, sounds_ns, local_ns, broken, read_ns)
                if read_ns:
                    _wait(until_ns)
        except Exception as error:  # An exception here would end the stream without a word.
            out.fill(0.0)
            self._fault = f"{type(error).__name__}: {error}"
        self._frame += frames


def _hurry() -> None:
    """Give the calling thread real-time priority, as much as this user may have; quietly none where that is none.

    This thread alone: what it starts, a thread or a process, begins as an ordinary one (``SCHED_RESET_ON_FORK``).
    """
    # Without the privilege, RLIMIT_RTPRIO says how much (sched(7)); with it, the limit does not count.
    limit = resource.getrlimit(resource.RLIMIT_RTPRIO)[0]
    for priority in dict.fromkeys((_PRIORITY, min(_PRIORITY, limit))):
        if priority > 0:
            with contextlib.suppress(OSError):
                os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(priority))
                return


def _ask_for_short_periods(sounddevice: Any, periods: int) -> None:  # noqa: ANN401 - the module has no types
    """Have ALSA wake PortAudio for every block; by itself it divides any buffer by four and rounds up to blocks.

    The fewer blocks at a time, the more sound is left in the card whenever it asks for more. The function is in
    PortAudio's public ``pa_linux_alsa.h``, but ``sounddevice`` does not hand it on. Without it all works, too.
    """
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(sounddevice._libname).PaAlsa_SetNumPeriods(periods)


def _wait(until_local_ns: int) -> None:
    """Keep the block back until then: PortAudio hands it over when the callback returns, and looks at the card next."""
    wait_ns = min(until_local_ns - now_ns(), _MAX_WAIT_NS) if until_local_ns else 0
    if wait_ns > 0:
        time.sleep(wait_ns / NS_PER_S)


def _say(device: Device, error: Exception) -> str:
    text = str(error)
    what = "is in use by another program" if "unavailable" in text.lower() else f"cannot be opened: {text}"
    return f"{device.stable_name} {what}; `musicsyncd devices` lists the others"
