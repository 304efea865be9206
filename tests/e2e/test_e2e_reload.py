"""``systemctl reload``: daemons read their configuration again while music plays, and tell systemd so."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import socket
import subprocess
import time

import numpy as np
import pytest
import soundfile
from house import COMMAND, PATIENCE_S, House, Started, on_line, sounding

pytestmark = pytest.mark.usefixtures("repeating_music")

DELAY_MS = 40.0


class Service:
    """A daemon with a configuration file and somebody who listens as systemd does."""

    def __init__(self, house: House, name: str) -> None:
        self.house, self.name = house, name
        self.file = house.folder / f"{name}.toml"
        self.file.write_text("")
        self.address = str(house.folder / f"{name}.notify")
        self._listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._listening.bind(self.address)
        self._listening.settimeout(PATIENCE_S)
        self.started: Started | None = None

    def close(self) -> None:
        """End it."""
        if self.started is not None and self.started.process.poll() is None:
            self.started.stop()
        self._listening.close()

    @property
    def log(self) -> str:
        """Everything that it has logged."""
        assert self.started is not None
        return self.started.log.read_text()

    def next_word(self, *wanted: str) -> dict[str, str]:
        """Return the next notification that begins with one of these."""
        while True:
            said = self._listening.recv(4096).decode()
            if said.startswith(wanted):
                return dict(line.partition("=")[::2] for line in said.splitlines())

    def reload(self, text: str) -> None:
        """Write another configuration and have it read."""
        assert self.started is not None
        self.file.write_text(text)
        before_us = time.monotonic_ns() // 1000
        self.started.process.send_signal(signal.SIGHUP)
        begun = self.next_word("RELOADING=1", "READY=1")
        assert before_us <= int(begun["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
        assert self.next_word("RELOADING=1", "READY=1") == {"READY": "1"}
        assert self.started.process.poll() is None


@pytest.fixture
def service(house, request):
    made = Service(house, request.node.name.removeprefix("test_")[:16])
    yield made
    made.close()


def test_a_speaker_takes_over_what_it_can_without_a_gap_and_names_the_rest(house, service, songs):
    source = songs["first"][1]
    words = ("--config", str(service.file), "--buffer-ms", "80")
    service.started = house.peer(service.name, *words, NOTIFY_SOCKET=service.address)
    service.next_word("READY=1")
    house.together(service.name)
    time.sleep(3.0)
    house.call("seek", "0")
    time.sleep(3.0)
    begin = time.time() - 2.0
    service.reload(f'[peer]\noutput-delay-ms = {DELAY_MS}\ndevice = "hw:Other"\nrate = 44100\n')
    changed = time.time()
    time.sleep(4.0)
    before = house.heard(service.name, source, begin, changed)
    after = house.heard(service.name, source, changed + 2.0, changed + 4.0)
    for found in (before, after):
        assert len(on_line(found)) >= 0.9 * len(found), "a gap"
    shift_ms = 1000 * (np.median(after[:, 1] - after[:, 0]) - np.median(before[:, 1] - before[:, 0]))
    assert shift_ms == pytest.approx(DELAY_MS, abs=1.0)
    whole = house.heard(service.name, source, begin, changed + 4.0)
    assert len(sounding(whole)) >= len(whole) - 2, "it fell silent"
    assert "takes effect at the next start: device, rate\n" in service.log
    # It says how it is, in words.
    status = service.next_word("WATCHDOG=1")["STATUS"]
    assert status.startswith("plays in room main, ")
    assert status.endswith(" µs, with host host")


def test_a_broken_file_is_one_line_and_the_music_goes_on(house, service):
    service.started = house.peer(service.name, "--config", str(service.file), NOTIFY_SOCKET=service.address)
    service.next_word("READY=1")
    house.together(service.name)
    lines = service.log.count("\n")
    for count, text in enumerate(("[peer", "[peer]\nchannels = 3\n", '[peer]\nchannels = "all"\n', "[pear]\n"), 1):
        service.reload(text)
        assert service.log.count("warning: the configuration stays as it was: ") == count
        assert service.log.count("\n") == lines + count
        assert house.speaker(service.name)["state"] == "together"
    service.reload('[peer]\nchannels = "mono"\n')
    assert service.log.endswith("the configuration was read again\n")


def test_a_host_takes_over_folders_and_names_the_rest_and_its_music_goes_on(house, service, tmp_path, songs, card):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        with soundfile.SoundFile(tmp_path / name / "x.flac", "w", 8000, 1) as file:
            file.title = name
            file.write([0.0] * 8000)
    other = House(card)
    try:
        service.file.write_text(f'[host]\nlibrary = "{tmp_path}/one"\n[peer]\noutput = "null"\n')
        words = ("host", "--name", "den", "--state-dir", str(other.state), "--config", str(service.file), "--speaker")
        service.started = other.start("host", *words, str(songs["first"][0]), NOTIFY_SOCKET=service.address)
        service.next_word("READY=1")
        other.together("den")
        speaker = other.speaker("den")

        for folders, expected in (('"one"', ["one"]), ('"one", "two"', ["one", "two"]), ('"two"', ["two"])):
            named = folders.replace('"one"', f'"{tmp_path}/one"').replace('"two"', f'"{tmp_path}/two"')
            service.reload(
                f'[host]\nlibrary = [{named}]\nreplaygain = "track"\nroom = "attic"\n[peer]\noutput = "null"\n'
                'channels = "mono"\n'
            )
            other.until(f"just {expected} is found", lambda: found_in(other) == expected)  # noqa: B023 - waited for
        assert "takes effect at the next start: room\n" in service.log
        other.until("its speaker was told too", lambda: service.log.count("the configuration was read again") == 6)
        assert other.speaker("den")["state"] == "together"
        assert other.speaker("den")["underruns"] == speaker["underruns"]
        status = service.next_word("WATCHDOG=1")["STATUS"]
        assert status == "playing “first” in room main, 1 speaker is here"
    finally:
        service.close()
        other.close()


def found_in(house: House) -> list[str]:
    """Return which of the two tracks the library has."""
    answers = [json.loads(house.call("search", "--json", title))["tracks"] for title in ("one", "two")]
    return [track["title"] for tracks in answers for track in tracks]


def test_a_speaker_in_a_terminal_that_is_closed_ends_in_order(house):
    if shutil.which("setsid") is None:
        pytest.skip("this test needs setsid")
    controller, terminal = pty.openpty()
    words = ["peer", "--name", "in-terminal", "--output", "null", "--state-dir", str(house.folder / "in-terminal")]
    try:
        process = subprocess.Popen(
            ["setsid", "--ctty", *COMMAND, *words, "--key-file", str(house.key), *house.network],
            stdin=terminal,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=house.environment(),
        )
    finally:
        os.close(terminal)
    try:
        house.together("in-terminal")
        os.close(controller)
        assert process.wait(PATIENCE_S) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
