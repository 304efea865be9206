"""Disks that are full, and disks that cannot be written: real daemons on small file systems in memory.

The file systems are mounted, for which the tests have to be root's.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from house import House

RATE_HZ = 48_000
NOTE = "(but it would not survive a restart: cannot save"
CHANGES = 400
"""After so many changes a log of the database that had some room left has none."""


@pytest.fixture
def home() -> Iterator[House]:
    made = House(Path("no card is in this house"))
    yield made
    made.close()


@pytest.fixture
def disk() -> Iterator[Callable[..., Path]]:
    """Mounts a small file system of its own on a folder."""
    mounted: list[Path] = []

    def mount(folder: Path, mib: int) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={mib}m,mode=700", "tmpfs", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
        mounted.append(folder)
        return folder

    if os.geteuid():
        pytest.skip("only root can mount a file system")
    yield mount
    for folder in reversed(mounted):
        subprocess.run(["umount", "--lazy", str(folder)], check=False)


def fill(folder: Path) -> Path:
    """Fill a disk to its last byte, and return the file by whose removal there is room again."""
    ballast = folder / "ballast"
    with ballast.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    assert os.statvfs(folder).f_bavail == 0
    return ballast


def song(path: Path, mib: float, seed: int = 1) -> Path:
    """Write a WAV file of noise of so many MiB."""
    frames = round(mib * (1 << 20) / 4)
    noise = np.random.default_rng(seed).integers(-3000, 3000, (frames, 2), dtype=np.int16)
    soundfile.write(path, noise, RATE_HZ)
    return path


def speaker(home: House, name: str, *words: str) -> None:
    key = ("--key-file", str(home.key), "--output", "null")
    home.start(name, "peer", "--name", name, "--state-dir", str(home.folder / name), *key, *words)


def one_line(done: subprocess.CompletedProcess[str], why: str) -> None:
    """Assert that a daemon ended with 1 and a line that says why, and nobody saw a traceback."""
    assert done.returncode == 1, (done.returncode, done.stderr)
    assert "Traceback" not in done.stderr
    line = done.stderr.strip().splitlines()[-1]
    assert line.startswith("musicsyncd: "), done.stderr
    assert why in line, line


# -- the host ----------------------------------------------------------------------------------


def test_a_host_whose_disk_fills_plays_on_and_says_what_is_not_kept(home, disk, tmp_path):
    disk(home.state, 4)
    host = home.host(str(song(tmp_path / "a.wav", 20)))
    speaker(home, "lamp")
    home.together("lamp")
    ballast = fill(home.state)
    said = next((said for number in range(CHANGES) if NOTE in (said := volume(home, number % 50))), "")
    assert "disk is full" in said, "nothing was said of what is not kept"
    assert home.room()["volume"] == int(said.split("volume ")[1].split()[0]), "it is in force nevertheless"
    before_s = home.room()["position_s"]
    home.until("the music goes on", lambda: home.room()["position_s"] > before_s + 1.0)
    assert home.speaker("lamp")["state"] == "together"
    assert NOTE in home.call("pause")
    assert NOTE in home.call("resume")
    home.together("lamp")
    ballast.unlink()
    assert NOTE not in volume(home, 77)
    host.stop(signal.SIGKILL)
    home.started.remove(host)
    home.host()
    assert home.room()["volume"] == 77
    assert home.room()["mode"] == "playing"
    assert "Traceback" not in host.log.read_text()


def volume(home: House, percent: int) -> str:
    answer = home.client.post("/api/rooms/main/volume", {"volume": str(percent)})
    return str(answer["message"])


def test_a_host_that_has_no_room_to_convert_into_says_so_and_plays_what_needs_none(home, disk, tmp_path):
    if "MP3" not in soundfile.available_formats():
        pytest.skip("this libsndfile writes no MP3")
    disk(home.state, 2)
    tone = np.sin(np.arange(RATE_HZ * 30) * 0.05) * 0.3 + np.random.default_rng(1).normal(0, 0.05, RATE_HZ * 30)
    soundfile.write(tmp_path / "a.mp3", tone, RATE_HZ)
    home.host()
    fill(home.state / "cache")
    done = home.run("play", str(tmp_path / "a.mp3"), *home.network, "--state-dir", str(home.state))
    assert done.returncode == 1, done.stdout
    assert "disk full" in done.stderr or "No space left" in done.stderr
    assert home.call("play", str(song(tmp_path / "b.wav", 1))).startswith("playing")


@pytest.mark.parametrize("command", ["host", "peer"])
@pytest.mark.parametrize("has_run_before", [False, True])
def test_a_state_folder_that_cannot_be_written_is_said_in_one_line(home, disk, tmp_path, command, has_run_before):
    home.host().stop()  # It has made the key that the speaker needs.
    state = disk(tmp_path / "state", 8)
    words = (command, "--state-dir", str(state))
    words += ("--output", "null", "--key-file", str(home.key)) if command == "peer" else ()
    if has_run_before:
        before = home.start("before", *words)
        home.until("it runs", lambda: "serves" in before.log.read_text() or "playing" in before.log.read_text())
        before.stop(signal.SIGKILL)
    subprocess.run(["mount", "-o", "remount,ro", str(state)], check=True)
    one_line(home.run(*words, *home.network), "Read-only file system")


@pytest.mark.parametrize("command", ["host", "peer"])
def test_a_daemon_that_begins_on_a_full_disk_says_why_it_does_not(home, disk, tmp_path, command):
    home.host().stop()
    state = disk(tmp_path / "state", 1)
    fill(state)
    words = (command, "--state-dir", str(state), *home.network)
    words += ("--output", "null", "--key-file", str(home.key)) if command == "peer" else ()
    done = home.run(*words)
    assert any(why in done.stderr for why in ("No space left", "disk is full", "room on the disk"))
    one_line(done, "")


# -- the speaker -------------------------------------------------------------------------------


def test_a_speaker_whose_cache_disk_is_too_small_says_so_and_plays_what_fits(home, disk, tmp_path):
    cache = disk(home.folder / "small", 8)
    home.host(str(song(tmp_path / "large.wav", 12)))
    speaker(home, "lamp", "--cache-dir", str(cache))
    speaker(home, "roomy")
    home.until("it says why", lambda: "disk full" in home.speaker("lamp").get("fault", ""))
    home.together("roomy")
    home.call("play", str(song(tmp_path / "small.wav", 2, seed=2)))
    home.together("lamp")
    home.until("nothing is wrong any more", lambda: home.speaker("lamp").get("fault") == "")


def test_a_speaker_whose_cache_disk_fills_plays_on_what_it_has(home, disk, tmp_path):
    cache = disk(home.folder / "small", 16)
    first, second = (str(song(tmp_path / f"{number}.wav", 4, seed=number)) for number in (1, 2))
    home.host(first)
    speaker(home, "lamp", "--cache-dir", str(cache))
    home.together("lamp")
    home.until("all of it is there", lambda: any(len(path.name) == 64 for path in cache.rglob("*")))
    ballast = fill(cache)
    home.call("play", first)
    home.together("lamp")
    home.call("play", second)
    home.until("it plays, or says why not", lambda: settled(home))
    said = json.dumps(home.speaker("lamp"))
    ballast.unlink()
    home.together("lamp")
    assert "Traceback" not in (home.folder / "lamp.log").read_text(), said


def settled(home: House) -> bool:
    """The cache may have made room for the second track by letting the first one go; if not, it says so."""
    lamp = home.speaker("lamp")
    return "disk full" in lamp["fault"] or "cannot be written" in lamp["fault"] or lamp["state"] == "together"
