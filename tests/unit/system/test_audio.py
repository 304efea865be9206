"""PortAudio without a card: a module in its place that answers as the real one does."""

from __future__ import annotations

import logging
import os
import resource
import subprocess
import sys
import time
import types

import numpy as np
import pytest

from musicsyncd.errors import DeviceError
from musicsyncd.system import audio
from musicsyncd.system.audio import PortAudioOutput, StreamClock, find_device, list_devices
from musicsyncd.system.monotonic import now_ns
from musicsyncd.system.output import BLOCK_FRAMES, LastingError
from musicsyncd.units import NS_PER_MS, NS_PER_S, NS_PER_US

SLACK_NS = 100 * NS_PER_MS
"""Between two clock readings on a machine that is held up: far more than any, far less than the clocks differ."""


class PortAudioError(Exception):
    pass


class Stream:
    """What ``sounddevice.OutputStream`` is to us."""

    latency = 0.085

    def __init__(self, module, options):
        if module.refuses:
            raise PortAudioError(module.refuses)
        self.options, self.active, self.calls = options, False, []
        self.starts = self.dies = False

    def start(self):
        if self.starts:
            raise PortAudioError("Unanticipated host error")
        self.active = True

    def abort(self, ignore_errors):
        self.calls.append("abort")
        self.active = False

    def close(self, ignore_errors):
        self.calls.append("close")


def device(name, channels=2, rate=44100.0, api=0):
    return {"name": name, "max_output_channels": channels, "default_samplerate": rate, "hostapi": api}


DEVICES = (
    device("HDA Intel PCH: ALC287 Analog (hw:0,0)"),
    device("Webcam: USB Audio (hw:1,0)", channels=0),
    device("HDA Intel PCH: HDMI 0 (hw:0,3)", channels=8, rate=48000.0),
    device("USB DAC: Audio (hw:2,0)", rate=96000.0),
    device("default", channels=64),
)


@pytest.fixture
def portaudio(monkeypatch):
    """Return the module in the place of sounddevice, with four outputs and one microphone."""
    module = types.ModuleType("sounddevice")
    module.PortAudioError = PortAudioError
    module.refuses = ""
    module.rates = {44_100, 48_000, 96_000}
    module.devices = [{**one, "index": index} for index, one in enumerate(DEVICES)]
    module.default = types.SimpleNamespace(device=(1, 4))
    module.query_hostapis = lambda: ({"name": "ALSA"},)
    module.query_devices = lambda: module.devices
    module.streams = []
    module.busy = False
    module.plugged = None
    module._initialized = 1

    def terminate():
        assert not any(one.active for one in module.streams), "a stream is open"
        module._initialized -= 1

    def initialize():
        module._initialized += 1
        if module.plugged is not None:
            module.devices = module.plugged

    module._terminate, module._initialize = terminate, initialize
    monkeypatch.setattr(audio.portaudio, "_PROBE", "")

    def check(*, device, channels, dtype, samplerate):
        if module.busy:
            raise PortAudioError("Device unavailable [PaErrorCode -9985]")
        if samplerate not in module.rates or channels > module.devices[device]["max_output_channels"]:
            raise PortAudioError("Invalid sample rate")

    def stream(**options):
        module.streams.append(Stream(module, options))
        return module.streams[-1]

    module.check_output_settings, module.OutputStream = check, stream
    monkeypatch.setitem(sys.modules, "sounddevice", module)
    return module


@pytest.fixture(autouse=True)
def hurried(monkeypatch):
    """Return how often real-time priority was asked for, without giving it to the tests' own thread."""
    calls = []
    monkeypatch.setattr(os, "sched_setscheduler", lambda *given: calls.append(given))
    return calls


def when(dac_s, current_s):
    return types.SimpleNamespace(outputBufferDacTime=dac_s, currentTime=current_s)


def flags(underflow):
    class Flags:
        output_underflow = underflow

        def __bool__(self):
            return underflow

    return Flags()


# -- the library -------------------------------------------------------------------------------


def test_a_library_that_is_missing_is_one_line_whatever_is_asked(tmp_path, monkeypatch):
    (tmp_path / "sounddevice.py").write_text("raise OSError('PortAudio library not found')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    for call in (list_devices, lambda: find_device(None), lambda: PortAudioOutput(None, None, 80.0)):
        with pytest.raises(LastingError, match="the PortAudio library is missing: install the package"):
            call()


def test_a_query_that_fails_is_one_line(portaudio):
    def fail():
        raise PortAudioError("Device unavailable")

    portaudio.query_devices = fail
    with pytest.raises(DeviceError, match="cannot list the sound cards: Device unavailable"):
        list_devices()


# -- finding a card ----------------------------------------------------------------------------


@pytest.fixture
def cards(monkeypatch, tmp_path):
    """Let the kernel know two cards, as /proc/asound does."""
    for number, name in ((0, "PCH"), (2, "DAC")):
        folder = tmp_path / f"card{number}"
        folder.mkdir()
        (folder / "id").write_text(f"{name}\n")
    real = audio.Path
    monkeypatch.setattr(audio, "Path", lambda path: real(str(path).replace("/proc/asound", str(tmp_path))))


def test_outputs_are_listed_with_names_that_stay(portaudio, cards):
    assert [(one.stable_name, one.channels, one.rate_hz, one.is_default, one.index) for one in list_devices()] == [
        ("hw:PCH,0", 2, 44_100, False, 0),
        ("hw:PCH,3", 8, 48_000, False, 2),
        ("hw:DAC,0", 2, 96_000, False, 3),
        ("default", 64, 44_100, True, 4),
    ]
    assert {one.api for one in list_devices()} == {"ALSA"}


def test_a_card_that_the_kernel_does_not_name_keeps_its_own_name(portaudio, cards):
    portaudio.devices.append({**device("Loopback: PCM (hw:9,1)"), "index": 5})
    assert list_devices()[-1].stable_name == "Loopback: PCM (hw:9,1)"


@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        (None, 4),
        ("hw:DAC,0", 3),
        ("HDA Intel PCH: HDMI 0 (hw:0,3)", 2),
        ("usb", 3),
        ("hdmi", 2),
        ("PCH,3", 2),
        ("default", 4),
    ],
)
def test_a_card_is_found_by_its_names_or_a_part_that_only_it_has(portaudio, cards, wanted, index):
    assert find_device(wanted).index == index


def test_an_exact_name_beats_a_part_of_others(portaudio, cards):
    portaudio.devices.append({**device("default but one"), "index": 5})
    assert find_device("default").index == 4


def test_a_part_that_several_have_is_refused_with_their_names(portaudio, cards):
    with pytest.raises(LastingError, match="'pch' may be any of hw:PCH,0, hw:PCH,3: say more"):
        find_device("pch")


def test_of_two_that_have_the_same_name_the_first_is_taken(portaudio, cards):
    """More of the name cannot be said; and a card that was opened as the default one must be found again."""
    portaudio.query_hostapis = lambda: ({"name": "ALSA"}, {"name": "OSS"})
    portaudio.devices.append({**device("default", api=1), "index": 5})
    assert find_device("default").index == 4


def test_a_card_that_was_plugged_in_since_is_found_when_it_is_looked_for_anew(portaudio, cards):
    portaudio.plugged, portaudio.devices = portaudio.devices, portaudio.devices[:2]
    with pytest.raises(DeviceError, match="no sound card 'hw:DAC,0'") as caught:
        find_device("hw:DAC,0")
    assert not isinstance(caught.value, LastingError)
    assert find_device("hw:DAC,0", anew=True).index == 3


def test_an_unknown_name_is_refused_with_what_there_is(portaudio, cards):
    with pytest.raises(DeviceError, match="no sound card 'tube': there is hw:PCH,0, hw:PCH,3, hw:DAC,0, default"):
        find_device("tube")
    with pytest.raises(DeviceError, match="no sound card 'Webcam'"):
        find_device("Webcam")


def test_without_a_default_the_first_is_taken_and_without_any_it_is_said(portaudio, cards):
    portaudio.default.device = (-1, -1)
    assert find_device(None).index == 0
    portaudio.devices = [portaudio.devices[1]]
    with pytest.raises(DeviceError, match="no sound card: plug one in, or use --output null"):
        find_device(None)


# -- the stream's clock ------------------------------------------------------------------------


def test_a_stream_on_the_monotonic_clock_is_taken_as_it_is():
    clock = StreamClock()
    local_ns = 5_000 * NS_PER_S
    assert clock.to_local_ns(5_000.08, 5_000.0, local_ns + 3 * NS_PER_MS) == 5_000_080 * NS_PER_MS
    assert clock.kind == "monotonic"
    # Once known it stays, however late a callback is.
    assert clock.to_local_ns(5_010.08, 5_010.0, local_ns + 11 * NS_PER_S) == 5_010_080 * NS_PER_MS


def test_a_stream_on_the_wall_clock_is_brought_over():
    clock = StreamClock()
    for _ in range(3):
        before_ns = now_ns()
        real_s = time.time()
        sounds_ns = clock.to_local_ns(real_s + 0.08, real_s, now_ns())
        after_ns = now_ns()
        # A float of seconds since 1970 has steps of 0.24 µs.
        assert before_ns - NS_PER_US < sounds_ns - 80 * NS_PER_MS < after_ns + SLACK_NS
    assert clock.kind == "realtime"


def test_a_wall_clock_that_is_set_between_two_readings_moves_nothing(monkeypatch):
    clock = StreamClock()
    real_s = time.time()
    clock.to_local_ns(real_s + 0.08, real_s, now_ns())
    for years in (56, -56):
        stream_s = time.time() + years * 365 * 86_400.0  # Read before the wall clock was set.
        local_ns = now_ns()
        assert abs(clock.to_local_ns(stream_s + 0.08, stream_s, local_ns) - local_ns - 80 * NS_PER_MS) < NS_PER_US
        assert abs(clock.to_local_ns(stream_s, stream_s, local_ns) - local_ns) < NS_PER_US
    real_s = time.time()
    assert clock.to_local_ns(real_s + 0.08, real_s, now_ns()) - now_ns() > 79 * NS_PER_MS - SLACK_NS
    assert clock.kind == "realtime"


def test_a_stream_that_counts_from_its_own_start_is_learned():
    clock = StreamClock()
    begin_ns = 7_000 * NS_PER_S
    for at_ms, late_us in ((10, 900), (31, 200), (52, 4_000), (73, 300), (94, 20_000)):
        sounds_ns = clock.to_local_ns(
            (at_ms + 80) / 1000, at_ms / 1000, begin_ns + at_ms * NS_PER_MS + late_us * NS_PER_US
        )
        error_us = (sounds_ns - begin_ns) / NS_PER_US - (at_ms + 80) * 1000
        if at_ms >= 31:
            # The least lateness of all, and what a drift of 100 ppm allows since.
            assert 199 < error_us < 212
    assert clock.kind == "own"


def test_a_stream_whose_count_begins_anew_is_learned_anew():
    clock = StreamClock()
    clock.to_local_ns(5.08, 5.0, 7_000 * NS_PER_S)
    assert abs(clock.to_local_ns(0.08, 0.001, 7_010 * NS_PER_S) - 7_010 * NS_PER_S - 79 * NS_PER_MS) < 1000


def test_a_stream_that_drifts_is_followed_both_ways():
    for ppm in (60, -60):
        clock = StreamClock()
        for at_s in range(0, 600, 10):
            local_ns = 7_000 * NS_PER_S + round(at_s * (1 + ppm * 1e-6) * NS_PER_S)
            sounds_ns = clock.to_local_ns(at_s + 1.08, at_s + 1.0, local_ns)
            assert abs(sounds_ns - local_ns - 80 * NS_PER_MS) < NS_PER_MS


@pytest.mark.parametrize("dac_s", [0.0, -1.0])
def test_a_stream_that_says_no_time_is_not_guessed_at(dac_s):
    clock = StreamClock()
    assert clock.to_local_ns(dac_s, 0.0, 7_000 * NS_PER_S) == 0
    assert clock.kind == ""


# -- the stream --------------------------------------------------------------------------------


class Recorder:
    """Notes what a card asks for; may fail."""

    def __init__(self):
        self.calls, self.read_ns, self.error, self.until_ns = [], [], None, 0

    def __call__(self, out, frame, sounds_ns, local_ns, broken, read_ns):
        self.calls.append((frame, sounds_ns, local_ns, broken))
        self.read_ns.append(read_ns)
        out.fill(0.5)
        if self.error is not None:
            raise self.error
        return self.until_ns


def ask(output, dac_s=None, current_s=None, underflow=False):
    """Ask for a block as PortAudio does, and return it."""
    current_s = now_ns() / NS_PER_S if current_s is None else current_s
    out = np.full((BLOCK_FRAMES, output.channels), 9.0, np.float32)
    output._callback(out, BLOCK_FRAMES, when(current_s + 0.08 if dac_s is None else dac_s, current_s), flags(underflow))
    return out


def opened(portaudio, render=None, **options):
    for former in portaudio.streams:
        former.active = False
    output = PortAudioOutput(**{"device": None, "rate_hz": None, "buffer_ms": 80.0, **options})
    output.start(render or Recorder())
    return output


def test_a_card_is_opened_as_it_was_asked_for(portaudio, cards):
    output = opened(portaudio, device="hdmi", rate_hz=96_000, buffer_ms=120.0)
    options = portaudio.streams[0].options
    assert options["device"] == 2
    assert options["channels"] == output.channels == 2
    assert options["samplerate"] == output.rate_hz == 96_000
    assert options["latency"] == 0.12
    assert options["blocksize"] == BLOCK_FRAMES
    assert options["dtype"] == "float32"
    assert output.description == "hw:PCH,3"
    assert output.healthy()


def test_without_a_rate_it_is_48_khz_or_what_the_card_has(portaudio, cards):
    assert opened(portaudio).rate_hz == 48_000
    portaudio.rates = {44_100}
    assert opened(portaudio).rate_hz == 44_100
    with pytest.raises(LastingError, match="default does not play at 96000 Hz: leave --rate out"):
        opened(portaudio, rate_hz=96_000)


def test_a_card_in_use_is_not_taken_for_one_that_cannot_have_the_rate(portaudio, cards):
    portaudio.busy = True
    for rate_hz in (48_000, None):
        with pytest.raises(DeviceError, match=r"^default is in use by another program") as caught:
            opened(portaudio, rate_hz=rate_hz)
        assert not isinstance(caught.value, LastingError)


def test_a_card_is_looked_for_anew_whenever_it_is_opened(portaudio, cards):
    output = opened(portaudio, device="hw:DAC,0")
    output.close()
    portaudio.plugged = [one for one in portaudio.devices if "USB DAC" not in one["name"]]
    with pytest.raises(DeviceError, match="no sound card 'hw:DAC,0'"):
        opened(portaudio, device="hw:DAC,0")
    portaudio.plugged = [{**one, "index": index} for index, one in enumerate(DEVICES)]
    assert opened(portaudio, device="hw:DAC,0").description == "hw:DAC,0"


def test_a_mono_card_is_opened_with_one_channel(portaudio):
    portaudio.devices = [{**device("beeper", channels=1), "index": 0}]
    assert opened(portaudio).channels == 1


def test_a_system_without_memory_for_callbacks_is_one_line_that_waiting_does_not_help(portaudio, cards, monkeypatch):
    def forbid(**options):
        raise MemoryError("Cannot allocate write+execute memory for ffi.callback()")

    monkeypatch.setattr(portaudio, "OutputStream", forbid)
    with pytest.raises(LastingError, match=r"forbids memory .* \(MemoryDenyWriteExecute=, SELinux\)"):
        audio.PortAudioOutput(None, None, 80.0)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        ("Device unavailable [PaErrorCode -9985]", "^hw:DAC,0 is in use by another program; `musicsyncd dev"),
        ("Invalid number of channels", "^hw:DAC,0 cannot be opened: Invalid number of channels; `musicsyncd devices`"),
    ],
)
def test_a_card_that_cannot_be_opened_is_one_line(portaudio, cards, error, line):
    portaudio.refuses = error
    with pytest.raises(DeviceError, match=line):
        PortAudioOutput("DAC", None, 80.0)


def test_a_card_that_does_not_start_is_one_line(portaudio):
    output = PortAudioOutput(None, None, 80.0)
    portaudio.streams[0].starts = True
    with pytest.raises(DeviceError, match="default does not start: Unanticipated host error"):
        output.start(Recorder())
    assert not output.healthy()


def test_each_block_has_its_frame_and_its_time(portaudio, hurried):
    recorder = Recorder()
    output = opened(portaudio, recorder)
    before_ns = now_ns()
    for _ in range(3):
        assert (ask(output) == 0.5).all()
    after_ns = now_ns()
    assert [frame for frame, *_ in recorder.calls] == [0, BLOCK_FRAMES, 2 * BLOCK_FRAMES]
    for _, sounds_ns, local_ns, broken in recorder.calls:
        assert before_ns <= local_ns <= after_ns
        assert before_ns < sounds_ns - 79 * NS_PER_MS < after_ns + 2 * NS_PER_MS
        assert not broken
    assert output.clock.kind == "monotonic"
    # Real-time priority is asked for once, by the audio thread itself.
    assert hurried == [(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(10))]


@pytest.mark.parametrize(
    ("limit", "granted", "asked"),
    [(0, 0, [10]), (5, 5, [10, 5]), (20, 20, [10]), (resource.RLIM_INFINITY, 99, [10]), (0, 99, [10]), (5, 0, [10, 5])],
)
def test_real_time_priority_is_asked_for_as_far_as_the_limit_goes(monkeypatch, limit, granted, asked):
    calls = []

    def schedule(_pid, _policy, parameters):
        calls.append(parameters.sched_priority)
        if parameters.sched_priority > granted:
            raise PermissionError

    monkeypatch.setattr(os, "sched_setscheduler", schedule)
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (limit, 99))
    audio._hurry()
    assert calls == asked


def test_what_the_audio_thread_starts_does_not_inherit_its_priority():
    """As far as the tests' user may have one at all: in a process of its own, for it cannot be given back."""
    code = """
import os, threading
from musicsyncd.system.audio import _hurry
_hurry()
found = []
thread = threading.Thread(target=lambda: found.append(os.sched_getscheduler(0)))
thread.start()
thread.join()
child = os.fork()
if child == 0:
    os._exit(os.sched_getscheduler(0))
found.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
assert found == [os.SCHED_OTHER, os.SCHED_OTHER], found
print(os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=False)
    assert done.stdout in (f"{os.SCHED_RR}\n", f"{os.SCHED_OTHER}\n"), done.stderr


def test_a_user_without_real_time_priority_hears_music_all_the_same(portaudio, monkeypatch):
    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    assert (ask(opened(portaudio)) == 0.5).all()


def test_a_card_that_says_no_time_is_as_late_as_portaudio_says(portaudio):
    recorder = Recorder()
    ask(opened(portaudio, recorder), dac_s=0.0, current_s=0.0)
    _, sounds_ns, local_ns, _ = recorder.calls[0]
    assert sounds_ns - local_ns == 85 * NS_PER_MS


def test_an_underflow_is_counted_and_handed_on(portaudio):
    recorder = Recorder()
    output = opened(portaudio, recorder)
    for underflow in (False, True, True, False):
        ask(output, underflow=underflow)
    assert output.underruns == 2
    assert [broken for *_, broken in recorder.calls] == [False, True, True, False]


def test_what_goes_wrong_in_a_block_is_silence_and_a_line_and_the_stream_goes_on(portaudio, caplog):
    recorder = Recorder()
    output = opened(portaudio, recorder)
    recorder.error = ZeroDivisionError("by nothing")
    for _ in range(3):
        assert not ask(output).any()
    assert caplog.records == []  # Nothing is logged in the callback.
    with caplog.at_level(logging.WARNING):
        assert output.healthy()
        assert output.healthy()
    assert [one.message for one in caplog.records] == ["default: ZeroDivisionError: by nothing"]
    recorder.error = None
    assert (ask(output) == 0.5).all()
    assert recorder.calls[-1][0] == 3 * BLOCK_FRAMES


def test_when_an_alsa_card_was_looked_at_is_told(portaudio):
    recorder = Recorder()
    output = opened(portaudio, recorder)
    ask(output, dac_s=50.08, current_s=now_ns() / NS_PER_S)
    assert 0 <= recorder.calls[0][2] - recorder.read_ns[0] < NS_PER_MS
    ask(output, dac_s=0.0, current_s=0.0)
    assert recorder.read_ns[1] == 0


def test_under_another_api_now_may_be_anything_and_nobody_waits(portaudio, monkeypatch):
    portaudio.query_hostapis = lambda: ({"name": "JACK Audio Connection Kit"},)
    recorder = Recorder()
    recorder.until_ns = now_ns() + NS_PER_S
    output = opened(portaudio, recorder)
    monkeypatch.delattr("musicsyncd.system.audio.time.sleep")
    ask(output)
    assert recorder.read_ns == [0]
    assert output.healthy()
    assert output._fault == ""


@pytest.mark.parametrize(("for_ms", "waits_ms"), [(12, 12), (-3, None), (5000, 60)])
def test_a_block_is_kept_back_as_long_as_is_asked_but_not_for_ever(portaudio, monkeypatch, for_ms, waits_ms):
    waits_s = []
    recorder = Recorder()
    output = opened(portaudio, recorder)
    monkeypatch.setattr("musicsyncd.system.audio.time.sleep", waits_s.append)
    ask(output)
    assert waits_s == []
    then_ns = now_ns()
    monkeypatch.setattr("musicsyncd.system.audio.now_ns", lambda: then_ns)
    recorder.until_ns = then_ns + for_ms * NS_PER_MS
    ask(output)
    assert waits_s == ([] if waits_ms is None else [pytest.approx(waits_ms / 1000)])


def test_closing_stops_at_once(portaudio):
    output = opened(portaudio)
    output.close()
    assert portaudio.streams[0].calls == ["abort", "close"]
    assert not output.healthy()
