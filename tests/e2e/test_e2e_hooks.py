"""An amplifier behind a speaker, switched by its hooks: real processes, and commands that write down that they ran."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest
from house import PATIENCE_S, STOPS_WITHIN_S, House, Started, line_s

SILENCE_AFTER_S = 1.5
SYSTEMD_WAITS_S = 5.0
"""For a stop: TimeoutStopSec of the units."""


class Amplifier:
    """Hooks, and what was run of them."""

    def __init__(self, house: House, name: str) -> None:
        self.house, self.name = house, name
        self.log = house.folder / f"{name}.hooks"
        self.file = house.folder / f"{name}.toml"
        self.configure(self.words("$MUSICSYNCD_EVENT"), self.words("$MUSICSYNCD_EVENT"))

    def words(self, what: str) -> str:
        """Return a command that writes a line, as the configuration file has it."""
        return f"""["sh", "-c", "echo {what} $MUSICSYNCD_NAME $MUSICSYNCD_ROOM $(date +%s.%N) >> {self.log}"]"""

    def configure(self, on_sound: str, on_silence: str) -> None:
        """Write the configuration file."""
        self.file.write_text(
            f"[peer]\non-sound = {on_sound}\non-silence = {on_silence}\nsilence-after-s = {SILENCE_AFTER_S}\n"
        )

    def start(self, *words: str) -> Started:
        """Start the speaker and wait until the host knows it."""
        peer = self.house.peer(self.name, "--config", str(self.file), *words)
        self.house.until("it is known", lambda: self.house.speaker(self.name).get("state", "away") != "away")
        return peer

    @property
    def heard(self) -> list[str]:
        """What has been run."""
        return [line.split()[0] for line in self._lines()]

    def _lines(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []

    def has_heard(self, *what: str) -> None:
        """Wait until just this was run."""
        self.house.until(f"{what} was run, and not {self.heard}", lambda: self.heard == list(what))

    def last_s(self) -> float:
        """When the last command was run."""
        return float(self._lines()[-1].split()[3])


@pytest.fixture(scope="module", autouse=True)
def host(house):
    house.host()
    house.call("repeat", "one")


@pytest.fixture
def amplifier(house, request):
    made = Amplifier(house, request.node.name.removeprefix("test_")[:16])
    yield made
    house.call("stop")
    for one in house.started:
        if one.name == made.name and one.process.poll() is None:
            one.stop()


def test_an_amplifier_is_switched_on_before_the_sound_and_off_a_while_after_it(house, amplifier, songs):
    path, source = songs["first"]
    peer = amplifier.start()
    amplifier.has_heard("silence")  # What a former process may have left on.
    house.call("play", str(path))
    house.together(amplifier.name)
    amplifier.has_heard("silence", "sound")
    on_s = amplifier.last_s()
    time.sleep(2.0)
    begins_s = line_s(house.heard(amplifier.name, source, on_s, time.time()))
    print(f"switched on {1000 * (begins_s - on_s):.0f} ms before the first sound")
    house.call("pause")
    time.sleep(0.5)
    house.call("resume")
    time.sleep(SILENCE_AFTER_S + 1.0)
    assert amplifier.heard == ["silence", "sound"], "a short pause switches nothing"
    house.call("pause")
    paused_s = time.time()
    amplifier.has_heard("silence", "sound", "silence")
    assert amplifier.last_s() - paused_s > SILENCE_AFTER_S - 0.5
    house.call("volume", "0")
    house.call("resume")
    amplifier.has_heard("silence", "sound", "silence", "sound")
    time.sleep(SILENCE_AFTER_S + 1.0)
    assert len(amplifier.heard) == 4, "a volume of 0 is no silence"
    code, took_s = peer.stop()
    assert code == 0
    assert took_s < STOPS_WITHIN_S
    assert amplifier.heard == ["silence", "sound", "silence", "sound", "silence"]
    house.call("volume", "50")
    assert all(line.split()[1:3] == [amplifier.name, "main"] for line in amplifier._lines())


def test_what_a_killed_speaker_left_on_is_switched_off_when_nothing_sounds(house, amplifier, songs):
    peer = amplifier.start()
    house.call("play", str(songs["first"][0]))
    amplifier.has_heard("sound")
    peer.stop(signal.SIGKILL)
    house.call("stop")
    amplifier.start()
    amplifier.has_heard("sound", "silence")
    time.sleep(2 * SILENCE_AFTER_S)
    assert amplifier.heard == ["sound", "silence"]


def sleepers(marker: str) -> list[int]:
    """Return the processes whose command line has a word."""
    found = []
    for one in Path("/proc").iterdir():
        if one.name.isdecimal():
            try:
                words = (one / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            found += [int(one.name)] if marker.encode() in words else []
    return found


def test_commands_that_hang_or_are_missing_stop_neither_the_music_nor_the_end(house, amplifier, songs):
    marker = f"61{house.port}"
    amplifier.configure(f'["sh", "-c", "sleep {marker} & sleep {marker}"]', '"/no/such/program off"')
    peer = amplifier.start("--hook-timeout-s", "1")
    house.call("play", str(songs["first"][0]))
    house.together(amplifier.name)
    house.until("it runs", lambda: sleepers(marker) != [] or "killed" in peer.log.read_text())
    house.until("it was killed, with all of it", lambda: "was killed" in peer.log.read_text())
    house.until("nothing is left", lambda: sleepers(marker) == [])
    assert "on-sound: sh took longer than 1 s and was killed" in peer.log.read_text()
    assert house.speaker(amplifier.name)["state"] == "together"
    assert house.speaker(amplifier.name)["fault"] == ""
    code, took_s = peer.stop()
    assert (code, took_s < STOPS_WITHIN_S) == (0, True)
    assert "on-silence: /no/such/program cannot be run: No such file or directory" in peer.log.read_text()
    assert "Traceback" not in peer.log.read_text()


def test_a_stop_while_a_command_hangs_is_in_time_and_leaves_nothing(house, amplifier, songs):
    marker = f"62{house.port}"
    amplifier.configure(f'"sleep {marker}"', amplifier.words("off"))
    peer = amplifier.start()
    house.call("play", str(songs["first"][0]))
    house.until("it runs", lambda: sleepers(marker))
    code, took_s = peer.stop()
    assert code == 0
    assert took_s < SYSTEMD_WAITS_S
    assert sleepers(marker) == []
    assert amplifier.heard == ["off"]


def test_a_hosts_own_speaker_has_the_hooks_of_the_same_file(house, songs, card):
    other = House(card)
    try:
        amplifier = Amplifier(other, "den")
        with amplifier.file.open("a") as file:
            file.write('output = "null"\n')
        host = other.start(
            "host",
            *("host", "--name", "den", "--state-dir", str(other.state), "--speaker", str(songs["first"][0])),
            *("--config", str(amplifier.file)),
        )
        amplifier.has_heard("sound")
        code, _ = host.stop()
        assert code == 0
        other.until("the amplifier is off", lambda: amplifier.heard == ["sound", "silence"], PATIENCE_S)
    finally:
        other.close()
