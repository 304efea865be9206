"""The PortAudio library: loading it, and having it look for sound cards again.

``sounddevice`` is imported late, because importing it can fail by itself: without the PortAudio
library, or over a broken ALSA configuration. Worse, PortAudio opens every card when it begins: one whose
driver hangs hangs it, and where ALSA knows no PCM at all an assertion ends the process. So a child process goes
first, which costs some 15 ms (a Python without its site packages, and what PortAudio's beginning takes), and tells
by how it ends.

PortAudio lists the cards once, when it begins. To see one that was plugged in since, it has to end and
begin again, which must not be done while a stream is open.

Owns the state of the library in this process. Must not know cards or streams.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import Any

from musicsyncd.errors import DeviceError
from musicsyncd.system.output import LastingError

_PROBE = """
import ctypes, os
try:
    library = ctypes.CDLL("libportaudio.so.2")
except OSError:
    os._exit(0)
library.Pa_Initialize()
os._exit(0)
"""
"""Whether the library is there, and whether it can begin, is said by sounddevice; here it only must come back."""

_PROBE_LIMIT_S = 8.0
"""Below :data:`musicsyncd.system.sound_thread.LIMIT_S`, so that what can still be ended is ended before."""


def library(*, anew: bool = False) -> Any:  # noqa: ANN401 - the module has no types
    """Return the module ``sounddevice``, with PortAudio begun.

    Args:
        anew: have PortAudio look for cards again. No stream may be open.

    Raises:
        DeviceError: when it hangs, or cannot look for cards now.
        LastingError: when it is missing, or cannot begin at all.
    """
    loaded = sys.modules.get("sounddevice")
    if loaded is None or anew:
        _probe()
    if loaded is None:
        return _load()
    if anew:
        try:
            while loaded._initialized:
                loaded._terminate()
            loaded._initialize()
        except loaded.PortAudioError as error:
            raise DeviceError(f"PortAudio cannot look for sound cards: {error}") from None
    return loaded


def _load() -> Any:  # noqa: ANN401 - the module has no types
    try:
        import sounddevice
    except OSError as error:
        if "PortAudio" in str(error):
            raise LastingError("the PortAudio library is missing: install the package libportaudio2") from None
        raise LastingError(f"the sound system cannot be used: {error}") from None
    except Exception as error:
        # PortAudio's initialisation raises its own errors, over a broken ALSA configuration for one.
        raise LastingError(f"PortAudio cannot start: {error}") from None
    return sounddevice


def _probe() -> None:
    """Have PortAudio begin in a child process, and raise the error that its end stands for."""
    try:
        child = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _PROBE],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    except OSError:
        return  # No process to be had: that is no reason to be silent.
    try:
        code = child.wait(_PROBE_LIMIT_S)
    except subprocess.TimeoutExpired:
        child.kill()  # And not waited for: in a driver's call even that may take for ever.
        raise DeviceError("the sound system does not answer: a sound card or a sound server hangs") from None
    if code == -signal.SIGABRT:
        line = "PortAudio ends the process that uses it: is there no pcm.!default in ALSA's configuration?"
        raise LastingError(f"{line} see /etc/asound.conf, ~/.asoundrc and ALSA_CONFIG_PATH")
    if code < 0:
        raise LastingError(f"PortAudio ends the process that uses it, by signal {-code}: is a library of it broken?")
