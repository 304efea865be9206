"""Sound cards that come late, go, come back and hang: the music goes on by itself, and status says why it does not."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from house import PATIENCE_S, STOPS_WITHIN_S, House, Started, on_line, sounding

pytestmark = pytest.mark.usefixtures("repeating_music")

HANG_SEEN_WITHIN_S = 40.0
"""Three seconds without a block, and the ten that a call may take."""

BACK_WITHIN_S = 15.0


class Card:
    """A speaker whose card does what a test says."""

    def __init__(self, house: House, name: str) -> None:
        self.house, self.name = house, name
        self.control = house.folder / f"{name}.control"

    def environment(self) -> dict[str, str]:
        """Return the environment in which the card is the only one."""
        found = self.house.card_for(self.name, 20.0)
        configuration = Path(found["ALSA_CONFIG_PATH"])
        text = configuration.read_text()
        configuration.write_text(text.replace(" grain 1 ", f' grain 1 control "{self.control}" '))
        return found

    def does(self, what: str) -> None:
        """Have something wrong with the card from now on; nothing for an empty word."""
        new = self.control.with_suffix(".new")
        new.write_text(what)
        new.rename(self.control)

    def start(self, *words: str, **environment: str) -> Started:
        """Start the speaker."""
        house = self.house
        folder = ("--state-dir", str(house.folder / self.name), "--key-file", str(house.key))
        return house.start(self.name, "peer", "--name", self.name, *folder, *words, **self.environment(), **environment)

    def fault(self) -> str:
        """Return what its status says is wrong."""
        return str(self.house.speaker(self.name).get("fault", ""))


@pytest.fixture
def dac(house, request):
    """A card of its own for each test."""
    made = Card(house, request.node.name.removeprefix("test_")[:16])
    yield made
    made.does("")
    for one in house.started:
        if one.name == made.name and one.process.poll() is None:
            one.stop()


def plays_right(house: House, name: str, source: np.ndarray) -> None:
    """What is heard in the last seconds is the track, without a gap and on one line."""
    until = time.time()
    found = house.heard(name, source, until - 3.0, until)
    assert len(sounding(found)) >= 20
    assert len(on_line(found)) >= 0.9 * len(sounding(found))


def test_a_card_that_is_unplugged_and_returns_is_played_on_by_itself(house, dac, songs):
    peer = dac.start()
    house.together(dac.name)
    dac.does("unplug")
    house.until("status says it", lambda: house.speaker(dac.name).get("state") == "no card")
    house.until("and why", lambda: "no sound card" in dac.fault())
    time.sleep(2.5)  # Long enough that it was looked for again, in vain.
    assert house.speaker(dac.name)["state"] == "no card"
    house.call("seek", "0")  # What is looked at below is one play of the track.
    dac.does("")
    back = house.together(dac.name)
    time.sleep(3.5)
    source = songs["first"][1]
    plays_right(house, dac.name, source)
    # From its first sample on it is where the track is by then.
    found = house.heard(dac.name, source, back - 2.0, time.time())
    assert len(on_line(found)) >= 0.9 * len(sounding(found))
    assert peer.process.poll() is None
    assert dac.fault() == ""
    assert "Traceback" not in peer.log.read_text()


def test_a_speaker_that_starts_before_its_card_waits_for_it(house, dac, songs):
    dac.does("unplug")
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    address = house.folder / "notify"
    listening.bind(str(address))
    listening.settimeout(PATIENCE_S)
    peer = dac.start(NOTIFY_SOCKET=str(address))
    assert listening.recv(1000) == b"READY=1"
    waiting = "waiting for the sound card: no sound card: plug one in, or use --output null"
    assert listening.recv(1000).decode() == f"WATCHDOG=1\nSTATUS={waiting}"
    listening.close()
    house.until("status says it", lambda: "no sound card" in dac.fault())
    assert "no sound card: plug one in, or use --output null: waiting for it" in peer.log.read_text()
    house.call("seek", "0")
    dac.does("")
    house.together(dac.name)
    time.sleep(3.5)
    plays_right(house, dac.name, songs["first"][1])


def test_another_card_is_waited_for_by_its_name(house, dac):
    peer = dac.start("--device", "nope")
    house.until("it says what there is", lambda: "no sound card 'nope': there is " in peer.log.read_text())
    house.until("status says it", lambda: "nope" in dac.fault())
    code, seconds = peer.stop()
    assert (code, seconds < STOPS_WITHIN_S) == (0, True)


def test_a_card_that_hangs_is_got_out_of_by_a_new_process(house, dac, songs):
    peer = dac.start()
    house.together(dac.name)
    epoch_line = "starting this peer anew"
    dac.does("hang")
    house.until("it begins anew", lambda: epoch_line in peer.log.read_text(), HANG_SEEN_WITHIN_S)
    # It hangs still, which the new process learns from a child that it can end.
    house.until("status says it", lambda: "does not answer" in dac.fault(), HANG_SEEN_WITHIN_S)
    assert peer.process.poll() is None
    house.call("seek", "0")
    dac.does("")
    house.together(dac.name)
    time.sleep(3.5)
    plays_right(house, dac.name, songs["first"][1])
    assert peer.log.read_text().count(epoch_line) == 1
    assert "Traceback" not in peer.log.read_text()


def test_under_systemd_a_hang_keeps_the_daemon_answering_and_the_watchdog_hungry(house, dac):
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    address = house.folder / "watchdog"
    listening.bind(str(address))
    listening.settimeout(PATIENCE_S)
    peer = dac.start(NOTIFY_SOCKET=str(address), WATCHDOG_USEC="20000000")
    house.together(dac.name)
    while b"WATCHDOG=1" not in listening.recv(1000):
        pass
    dac.does("hang")
    house.until("status says it", lambda: "does not answer" in dac.fault(), HANG_SEEN_WITHIN_S)
    listening.setblocking(False)
    while _waiting(listening):
        pass
    listening.settimeout(PATIENCE_S)
    for _ in range(3):
        said = listening.recv(1000)
        assert b"WATCHDOG" not in said
        assert b"does not answer" in said
    assert "the watchdog is not fed" in peer.log.read_text()
    assert not house.speaker(dac.name).get("away")
    code, seconds = peer.stop(signal.SIGTERM)
    assert (code, seconds < STOPS_WITHIN_S + 2.0) == (0, True), "a hang must not keep it from ending"
    listening.close()


def test_a_card_that_hangs_when_it_is_stopped_does_not_keep_a_speaker_from_ending(house, dac):
    peer = dac.start()
    house.together(dac.name)
    dac.does("hang-stop")
    code, seconds = peer.stop()
    assert (code, seconds < STOPS_WITHIN_S + 2.0) == (0, True)


def _waiting(listening: socket.socket) -> bytes:
    try:
        return listening.recv(1000)
    except BlockingIOError:
        return b""


def test_alsa_without_any_card_in_its_configuration_is_one_line(house, tmp_path):
    peer = ("peer", "--open", "--interface", "lo", "--state-dir", str(tmp_path / "state"))
    for words in (("devices",), peer):
        done = house.run(*words, ALSA_CONFIG_PATH="/dev/null")
        assert done.returncode == 1, done.stderr
        *log, line = done.stderr.strip().splitlines()
        assert line.startswith("musicsyncd: PortAudio ends the process that uses it: is there no pcm.!default")
        assert len(log) <= 3


def test_without_the_library_a_speaker_ends_with_one_line(house, tmp_path):
    code = (
        "import ctypes.util, runpy\n"
        "ctypes.util.find_library = lambda name: None\n"
        "runpy.run_module('musicsyncd', run_name='__main__')"
    )
    words = ("peer", "--open", "--interface", "lo", "--state-dir", str(tmp_path / "state"))
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        capture_output=True,
        text=True,
        timeout=60,
        env=house.environment(),
        check=False,
    )
    assert done.returncode == 1, done.stderr
    line = done.stderr.strip().splitlines()[-1]
    assert line == "musicsyncd: the PortAudio library is missing: install the package libportaudio2"
