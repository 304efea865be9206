"""Hooks with real commands, in a time that the tests make pass: when each is run, and what none of them can stop."""

from __future__ import annotations

import asyncio
import os
import shlex
from pathlib import Path

import pytest

from musicsyncd.clock.mapping import ClockMapping
from musicsyncd.hook_config import HookConfig
from musicsyncd.playback.player import Course
from musicsyncd.playback.timeline import Segment, Timeline, Track
from musicsyncd.system import hooks as module
from musicsyncd.system.hooks import Hooks, has_sound, hook_environment
from musicsyncd.units import NS_PER_S

S = NS_PER_S
OFFSET_NS = 500 * S
TRACK = Track(bytes(32), 1000, 48_000, 48_000 * 60, 2)
MAPPING = ClockMapping(0, OFFSET_NS, 0.0, 1000)


def course(*segments: Segment, **more) -> Course:
    return Course(Timeline(segments), MAPPING, 1, **more)


def begins(at_s: float, track: Track | None = TRACK, frame: int = 0) -> Segment:
    return Segment(OFFSET_NS + round(at_s * S), 1 if track else 0, frame, track)


# -- when there is sound -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("at_s", "sounds"), [(94.9, False), (95.1, True), (100.0, True), (159.9, True), (160.1, False), (300.0, False)]
)
def test_sound_is_told_of_some_seconds_ahead_and_until_the_tracks_end(at_s, sounds):
    assert has_sound(course(begins(100.0)), round(at_s * S)) == sounds


def test_a_pause_is_no_sound_and_its_end_is():
    timeline = course(begins(100.0), begins(110.0, None), begins(130.0, TRACK, 480_000))
    assert [has_sound(timeline, at_s * S) for at_s in (109, 111, 124, 126)] == [True, False, False, True]


def test_what_is_fed_earlier_is_told_of_earlier():
    late = course(begins(100.0), delay_duration_ns=2 * S)
    assert [has_sound(late, at_s * S) for at_s in (92, 94)] == [False, True]


def test_without_a_host_or_music_there_is_no_sound():
    assert not has_sound(Course(), 0)
    assert not has_sound(course(), 0)
    assert not has_sound(Course(Timeline((begins(0.0),)), None), 0)


# -- which command is run, and when ------------------------------------------------------------


class Amplifier:
    """Hooks whose commands write down that they were run."""

    def __init__(self, folder: Path, **more) -> None:
        self.out = folder / "out"
        # Opened by itself and in one write: what has begun to write has written.
        words = {
            "on_sound": ("sh", "-c", f"echo on >> {self.out}"),
            "on_silence": ("sh", "-c", f"echo off >> {self.out}"),
        }
        self.hooks = Hooks(HookConfig(**{**words, **more}), "kitchen")

    @property
    def heard(self) -> list[str]:
        return self.out.read_text().split() if self.out.exists() else []

    async def at(self, at_s: float, sounds: bool, *, settle: bool = True) -> list[str]:
        """Look at an instant, wait for what it began, and return what was run until then."""
        self.hooks.look(sounds, "main", round(at_s * S))
        if settle:
            await self.settled()
        return self.heard

    async def settled(self) -> None:
        if self.hooks._running is not None:
            await self.hooks._running


@pytest.fixture
def amplifier(tmp_path):
    return Amplifier(tmp_path)


def run(test) -> None:
    asyncio.run(asyncio.wait_for(test, 30.0))


def test_sound_switches_on_once_and_a_long_silence_off_once(amplifier):
    async def test():
        assert await amplifier.at(0, True) == ["on"]
        assert await amplifier.at(1, True) == ["on"]
        assert await amplifier.at(10, False) == ["on"]
        assert await amplifier.at(39.9, False) == ["on"]
        assert await amplifier.at(40.1, False) == ["on", "off"]
        assert await amplifier.at(80, False) == ["on", "off"]
        assert await amplifier.at(90, True) == ["on", "off", "on"]

    run(test())


def test_a_short_pause_switches_nothing_and_begins_the_while_anew(amplifier):
    async def test():
        await amplifier.at(0, True)
        await amplifier.at(10, False)
        await amplifier.at(13, True)
        await amplifier.at(20, False)
        assert await amplifier.at(49, False) == ["on"]
        assert await amplifier.at(51, False) == ["on", "off"]

    run(test())


def test_what_a_killed_daemon_left_on_is_switched_off_when_nothing_sounds(amplifier):
    async def test():
        assert await amplifier.at(100, False) == []
        assert await amplifier.at(131, False) == ["off"]
        assert await amplifier.at(200, False) == ["off"]

    run(test())


def test_a_change_waits_for_the_command_that_runs_and_the_latest_wish_wins(tmp_path):
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    held = ("sh", "-c", f"read x < {gate}; echo on >> {tmp_path}/out")
    amplifier = Amplifier(tmp_path, on_sound=held, silence_after_s=0.0)

    async def opened() -> None:
        await asyncio.to_thread(gate.write_text, "go\n")
        await amplifier.settled()

    async def test():
        await amplifier.at(0, True, settle=False)
        assert await amplifier.at(1, False, settle=False) == []
        await amplifier.at(2, True, settle=False)
        await opened()
        assert await amplifier.at(3, True) == ["on"], "what was wanted in between is nobody's wish any more"
        assert await amplifier.at(4, False) == ["on", "off"]
        await amplifier.at(5, True, settle=False)
        await amplifier.at(6, False, settle=False)
        await opened()
        assert await amplifier.at(7, False) == ["on", "off", "on", "off"]

    async def without_leftovers():
        try:
            await test()
        finally:
            # A command that still waits, as where the test failed, goes on and ends. To open for both waits for nobody.
            with os.fdopen(os.open(gate, os.O_RDWR), "r+b", buffering=0) as held_open:
                held_open.write(b"go\n" * 2)
                await amplifier.settled()

    run(without_leftovers())


def test_without_commands_nothing_is_run_and_nothing_said():
    async def test():
        none = Hooks(HookConfig(), "kitchen")
        none.look(True, "main", 0)
        await none.close()
        assert none.status() is None

    run(test())


# -- what goes wrong ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (("sh", "-c", "exit 3"), "on-sound: sh ended with 3"),
        (("sh", "-c", "kill -9 $$"), "on-sound: sh was ended by signal 9"),
        (("/no/such/program",), "on-sound: /no/such/program cannot be run: No such file or directory"),
        (("/etc/passwd",), "on-sound: /etc/passwd cannot be run: Permission denied"),
    ],
)
def test_what_fails_is_one_line_and_is_not_tried_until_the_next_change(tmp_path, caplog, words, fault):
    amplifier = Amplifier(tmp_path, on_sound=words)

    async def test():
        for at_s in range(5):
            await amplifier.at(at_s, True)
        assert amplifier.hooks.status() == {"told": "sound", "fault": fault}
        assert [one.message for one in caplog.records if one.levelname == "WARNING"] == [fault]
        await amplifier.at(10, False)
        assert await amplifier.at(41, False) == ["off"]
        assert amplifier.hooks.status() == {"told": "silence", "fault": ""}

    run(test())


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_what_takes_too_long_is_killed_with_all_that_it_started(tmp_path):
    pids = tmp_path / "pids"
    amplifier = Amplifier(tmp_path, on_sound=("sh", "-c", f"sleep 600 & echo $$ $! > {pids}; wait"), timeout_s=0.5)

    async def test():
        await amplifier.at(0, True)
        assert amplifier.hooks.status()["fault"] == "on-sound: sh took longer than 0.5 s and was killed"
        started = [int(pid) for pid in pids.read_text().split()]
        assert len(started) == 2
        while any(map(is_alive, started)):  # noqa: ASYNC110 - whoever inherits the second one has to see its end
            await asyncio.sleep(0.001)

    run(test())


# -- what a command finds ----------------------------------------------------------------------


def test_a_command_learns_what_has_happened_and_none_of_our_secrets(tmp_path, monkeypatch):
    for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "CREDENTIALS_DIRECTORY", "MUSICSYNCD_JOIN", "MUSICSYNCD_KEY_FILE"):
        monkeypatch.setenv(name, "ours")
    monkeypatch.setenv("AMPLIFIER", "192.0.2.9")
    amplifier = Amplifier(tmp_path, on_sound=("sh", "-c", f"env > {tmp_path}/env"))

    async def test():
        await amplifier.at(0, True)

    run(test())
    found = dict(line.partition("=")[::2] for line in (tmp_path / "env").read_text().splitlines())
    ours = {name: value for name, value in found.items() if name.startswith("MUSICSYNCD_")}
    assert ours == {"MUSICSYNCD_EVENT": "sound", "MUSICSYNCD_NAME": "kitchen", "MUSICSYNCD_ROOM": "main"}
    assert "ours" not in found.values()
    assert found["AMPLIFIER"] == "192.0.2.9"


def test_what_a_command_finds_is_the_speakers_present_room():
    found = hook_environment({"PATH": "/bin", "MUSICSYNCD_ROOM": "of the call"}, "silence", "kitchen", "attic")
    assert found == {
        "PATH": "/bin",
        "MUSICSYNCD_EVENT": "silence",
        "MUSICSYNCD_NAME": "kitchen",
        "MUSICSYNCD_ROOM": "attic",
    }


def test_a_command_is_a_session_of_its_own_and_no_more_urgent_than_others(tmp_path, monkeypatch):
    nice = []
    monkeypatch.setattr(os, "setpriority", lambda *given: nice.append(given))
    out = shlex.quote(str(tmp_path / "stat"))
    amplifier = Amplifier(tmp_path, on_sound=("sh", "-c", f"cat /proc/$$/stat > {out}"))

    async def test():
        await amplifier.at(0, True)

    run(test())
    fields = (tmp_path / "stat").read_text().rpartition(")")[2].split()
    session = int(fields[3])
    assert session != os.getsid(0)
    assert nice == [(os.PRIO_PROCESS, session, 0)]


# -- the end -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("say_silence", "heard"), [(True, ["on", "off"]), (False, ["on"])])
def test_the_end_switches_off_what_is_on_unless_another_process_goes_on(amplifier, say_silence, heard):
    async def test():
        await amplifier.at(0, True)
        await amplifier.hooks.close(say_silence=say_silence)
        assert amplifier.heard == heard

    run(test())


def test_the_end_switches_nothing_off_that_is_not_on(amplifier):
    async def test():
        await amplifier.at(0, False)
        await amplifier.hooks.close()
        assert amplifier.heard == []
        await amplifier.at(31, False)
        await amplifier.hooks.close()
        assert amplifier.heard == ["off"]

    run(test())


@pytest.mark.parametrize("which", ["on_sound", "on_silence"])
def test_the_end_waits_for_no_command_that_hangs(tmp_path, monkeypatch, which):
    monkeypatch.setattr(module, "STOP_LIMIT_S", 0.6)
    amplifier = Amplifier(tmp_path, **{which: ("sleep", "600")})

    async def test():
        await amplifier.at(0, True, settle=which == "on_silence")
        begin_s = asyncio.get_running_loop().time()
        await amplifier.hooks.close()
        assert asyncio.get_running_loop().time() - begin_s < 5.0
        assert amplifier.hooks._running.done(), "it was left running"
        assert amplifier.heard == (["off"] if which == "on_sound" else ["on"])

    run(test())
