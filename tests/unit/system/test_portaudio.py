"""Loading PortAudio: a child goes first, and cards are looked for anew only when that is asked for."""

from __future__ import annotations

import sys
import types

import pytest

from musicsyncd.errors import DeviceError
from musicsyncd.system import portaudio
from musicsyncd.system.output import LastingError


class PortAudioError(Exception):
    pass


@pytest.fixture
def child(monkeypatch):
    """Return a function that sets what the child does instead of trying PortAudio."""

    def runs(code: str) -> None:
        monkeypatch.setattr(portaudio, "_PROBE", code)

    return runs


@pytest.fixture
def loaded(monkeypatch, child):
    """Return a module in the place of sounddevice that notes what is asked of it."""
    child("")
    module = types.ModuleType("sounddevice")
    module.PortAudioError, module.log, module.fails, module._initialized = PortAudioError, [], "", 1

    def terminate():
        module.log.append("terminate")
        module._initialized -= 1

    def initialize():
        module.log.append("initialize")
        if module.fails:
            raise PortAudioError(module.fails)
        module._initialized += 1

    module._terminate, module._initialize = terminate, initialize
    monkeypatch.setitem(sys.modules, "sounddevice", module)
    return module


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    """Return a function that makes sounddevice a module that is not loaded yet."""
    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    monkeypatch.syspath_prepend(tmp_path)

    def is_to_be(source: str) -> None:
        (tmp_path / "sounddevice.py").write_text(source)

    yield is_to_be
    sys.modules.pop("sounddevice", None)


def test_the_real_probe_comes_back():
    portaudio._probe()


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("raise OSError('PortAudio library not found')", "^the PortAudio library is missing: install the package"),
        ("raise OSError('libjack.so: no such file')", "^the sound system cannot be used: libjack.so"),
        ("raise RuntimeError('Error initializing PortAudio')", "^PortAudio cannot start: Error initializing"),
        ("raise ImportError('no _cffi_backend')", "^PortAudio cannot start: no _cffi_backend"),
    ],
)
def test_a_library_that_is_missing_or_broken_lasts(fresh, child, source, line):
    child("")
    fresh(source)
    with pytest.raises(LastingError, match=line):
        portaudio.library()


@pytest.mark.parametrize(
    ("code", "line"),
    [
        ("import os; os.abort()", "^PortAudio ends the process that uses it: is there no pcm.!default in ALSA's"),
        ("import os; os.kill(os.getpid(), 9)", "^PortAudio ends the process that uses it, by signal 9"),
    ],
)
def test_a_library_that_ends_the_process_is_not_loaded(fresh, child, code, line):
    child(code)
    fresh("raise AssertionError('loaded all the same')")
    with pytest.raises(LastingError, match=line) as caught:
        portaudio.library()
    assert "\n" not in str(caught.value)


def test_a_library_that_hangs_is_not_loaded_and_may_be_tried_again(fresh, child, monkeypatch):
    monkeypatch.setattr(portaudio, "_PROBE_LIMIT_S", 0.1)
    child("import time; time.sleep(60)")
    fresh("here = 7")
    with pytest.raises(DeviceError, match=r"^the sound system does not answer: a sound card or") as caught:
        portaudio.library()
    assert not isinstance(caught.value, LastingError)
    monkeypatch.setattr(portaudio, "_PROBE_LIMIT_S", 20.0)
    child("")
    assert portaudio.library().here == 7


def test_without_a_process_to_be_had_it_is_loaded_untried(fresh, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    fresh("here = 7")
    assert portaudio.library().here == 7


def test_what_a_library_says_itself_is_not_the_probes_business(fresh, child):
    child("import sys; sys.exit(3)")
    fresh("here = 7")
    assert portaudio.library().here == 7


def test_what_is_loaded_is_left_as_it_is(loaded, child):
    child("import os; os.abort()")
    assert portaudio.library() is loaded
    assert loaded.log == []


def test_cards_are_looked_for_anew_when_that_is_asked_for(loaded):
    assert portaudio.library(anew=True) is loaded
    assert loaded.log == ["terminate", "initialize"]
    assert loaded._initialized == 1


def test_a_look_that_a_child_does_not_survive_is_not_taken(loaded, child):
    child("import os; os.abort()")
    with pytest.raises(DeviceError, match="ends the process"):
        portaudio.library(anew=True)
    assert loaded.log == []


def test_a_look_that_fails_is_one_line_and_can_be_taken_again(loaded):
    loaded.fails = "Insufficient memory"
    with pytest.raises(DeviceError, match=r"^PortAudio cannot look for sound cards: Insufficient memory$"):
        portaudio.library(anew=True)
    loaded.fails = ""
    assert portaudio.library(anew=True) is loaded
    assert loaded.log == ["terminate", "initialize", "initialize"]
