"""The demonstration's judgement on recordings whose distance is known, and the keeping of its processes."""

from __future__ import annotations

import subprocess
import sys
import tempfile

import numpy as np
import pytest
import soundfile

from musicsyncd.errors import DeviceError, MusicSyncError
from musicsyncd.system import demo as module
from musicsyncd.system.demo import Demo, Verdict
from musicsyncd.system.tune import RATE_HZ, write_tune
from musicsyncd.units import NS_PER_S

T0_NS = 5_000 * NS_PER_S
SECONDS = 6.0


@pytest.fixture(scope="module")
def music(tmp_path_factory):
    path = tmp_path_factory.mktemp("demo") / "tune.flac"
    write_tune(path, SECONDS + 2.0)
    return soundfile.read(path)[0]


def shifted(sound, frames: float):
    """Return a sound that comes later by frames and parts of them."""
    bins = np.fft.rfft(sound, axis=0)
    turn = np.exp(-2j * np.pi * np.fft.rfftfreq(len(sound))[:, None] * frames)
    return np.fft.irfft(bins * turn, len(sound), axis=0)


def record(path, sound, begins_ns: int | None = T0_NS) -> None:
    with soundfile.SoundFile(path, "w", RATE_HZ, 2, "PCM_24", format="WAV") as file:
        if begins_ns is not None:
            file.comment = f"first frame at local_ns={begins_ns}"
        file.write(np.clip(sound, -1, 1))


@pytest.fixture
def demo(tmp_path, monkeypatch):
    """Return a demonstration into files whose processes are not started."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    one = Demo(["track.flac"], 5.0, "file")
    yield one
    one.__exit__(None, None, None)


def judged(demo, left, right, left_ns=T0_NS, right_ns=T0_NS) -> Verdict:
    record(demo._recording("left"), left, left_ns)
    record(demo._recording("right"), right, right_ns)
    return demo.verdict()


# -- how far apart -----------------------------------------------------------------------------


def test_the_same_sound_at_the_same_time_is_together(demo, music):
    verdict = judged(demo, music, music)
    assert verdict.values >= 10
    assert verdict.max_us < 0.01
    assert verdict.together


@pytest.mark.parametrize("apart_us", [3.0, -40.0, 999.0, 12_345.6])
def test_a_distance_is_found_in_parts_of_a_frame(demo, music, apart_us):
    verdict = judged(demo, music, shifted(music, apart_us * RATE_HZ / 1e6))
    assert verdict.median_us == pytest.approx(abs(apart_us), abs=0.5)
    assert verdict.p99_us == pytest.approx(abs(apart_us), abs=1.0)
    assert verdict.together == (abs(apart_us) < module.LIMIT_US)


def test_a_later_second_recording_is_a_positive_distance(demo, music):
    record(demo._recording("left"), music)
    record(demo._recording("right"), shifted(music, 48.0))
    assert np.median(module._compare(demo._recording("left"), demo._recording("right"))) == pytest.approx(1000, abs=1)


def test_recordings_that_began_at_different_times_are_laid_over_each_other(demo, music):
    """The right one began 0.3 s and a third of a frame later, and heard the same sound at the same time."""
    later = 14_400 + 1 / 3
    verdict = judged(demo, music, shifted(music, -1 / 3)[14_400:], right_ns=T0_NS + round(later * NS_PER_S / RATE_HZ))
    assert verdict.values >= 5
    assert verdict.max_us < 1.0


def test_silence_is_no_comparison_and_no_success(demo, music):
    verdict = judged(demo, music * 0, music)
    assert (verdict.values, verdict.together) == (0, False)
    assert np.isnan(verdict.p99_us)


def test_a_recording_that_is_not_there_is_one_line(demo, music):
    record(demo._recording("left"), music)
    with pytest.raises(MusicSyncError, match="a speaker's recording cannot be read"):
        demo.verdict()


def test_with_a_card_the_speakers_own_account_counts(demo):
    demo.output = "portaudio"

    def status(left_us, right_us, mode="playing", state="together"):
        peers = [
            {"name": name, "state": state, "sync_error_us": error_us, "clock": {"offset_us": 100.0}}
            for name, error_us in (("left", left_us), ("right", right_us))
        ]
        return {"rooms": [{"mode": mode}], "peers": peers}

    for _ in range(3):
        demo.note(status(9e6, 0.0))  # The first few are of the start.
    for _ in range(10):
        demo.note(status(30.0, -20.0))
        demo.note(status(9e6, 0.0, mode="paused"))
        demo.note(status(9e6, 0.0, state="waiting"))
        demo.note({"rooms": [], "peers": []})
    verdict = demo.verdict()
    assert (verdict.values, verdict.median_us, verdict.max_us) == (10, 50.0, 50.0)
    assert "own account" in verdict.how


def test_the_limit_is_held_by_all_but_one_in_a_hundred():
    assert Verdict("", 100, 10.0, 1000.0, 5000.0).together
    assert not Verdict("", 100, 10.0, 1000.1, 5000.0).together
    assert not Verdict("", 0, 0.0, 0.0, 0.0).together


# -- the processes -----------------------------------------------------------------------------


def add(demo, code: str) -> subprocess.Popen:
    log = open(demo._folder / f"{len(demo._processes)}.log", "wb")  # noqa: SIM115
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=log)
    log.close()
    demo._processes.append(process)
    return process


def test_a_process_that_ended_is_told_by_its_last_line(demo):
    add(demo, "import time; time.sleep(60)")
    demo.check()
    add(demo, "import sys; sys.stderr.write('first\\nmusicsyncd: no room for it\\n'); sys.exit(1)").wait(20)
    with pytest.raises(MusicSyncError, match=r"^no room for it$"):
        demo.check()


def test_a_process_that_ended_without_a_word_is_told_by_its_code(demo):
    add(demo, "import sys; sys.exit(3)").wait(20)
    with pytest.raises(MusicSyncError, match="ended with 3"):
        demo.check()


def test_nothing_stays_neither_process_nor_file(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temp"))
    monkeypatch.setattr(module, "_STOP_WITHIN_S", 0.3)
    (tmp_path / "temp").mkdir()
    demo = Demo([], 1.0, "file")
    assert list(demo._folder.glob("*.flac"))
    polite = add(demo, "import time; print('ready', flush=True); time.sleep(60)")
    deaf = add(
        demo,
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('x', flush=True); time.sleep(60)",
    )
    for process in (polite, deaf):
        process.stdout.readline()
    (demo._folder / "a" / "b").mkdir(parents=True)
    (demo._folder / "a" / "link").symlink_to(tmp_path)
    demo.__exit__(None, None, None)
    assert (polite.returncode, deaf.returncode) == (-15, -9)
    assert list((tmp_path / "temp").iterdir()) == []
    assert tmp_path.exists()


def test_the_processes_are_given_this_machine_alone_a_port_and_no_settings_of_the_users(demo, monkeypatch):
    started = []
    monkeypatch.setenv("MUSICSYNCD_ROOM", "attic")
    monkeypatch.setattr(demo, "_wait_for", lambda path: None)

    class Process:
        def __init__(self, words, **options):
            started.append((words[4:], options["env"]))

        def poll(self):
            return 0

        def wait(self, _):
            return 0

    monkeypatch.setattr(subprocess, "Popen", Process)
    demo.__enter__()
    assert [words[0] for words, _ in started] == ["host", "peer", "peer"]
    for words, environment in started:
        assert words[1:5] == ["--interface", "lo", "--port", str(demo.port)]
        assert "MUSICSYNCD_ROOM" not in environment
    assert started[0][0][-1].endswith("/track.flac")
    assert f"file:{demo._recording('left')}" in started[1][0]
    assert f"file:{demo._recording('right')}" in started[2][0]


def test_a_host_that_cannot_start_ends_the_demonstration_with_its_line(demo, monkeypatch):
    monkeypatch.setattr(
        demo, "_start", lambda *_: add(demo, "import sys; sys.stderr.write('musicsyncd: no\\n'); sys.exit(1)")
    )
    with pytest.raises(MusicSyncError, match=r"^no$"):
        demo.__enter__()


def test_without_a_card_or_without_portaudio_there_is_none(monkeypatch):
    found = []
    monkeypatch.setattr("musicsyncd.system.audio.list_devices", lambda: found)
    assert not module.has_card()
    found.append("a card")
    assert module.has_card()

    def refuse():
        raise DeviceError("no PortAudio")

    monkeypatch.setattr("musicsyncd.system.audio.list_devices", refuse)
    assert not module.has_card()
