"""The host on a desktop's bus: a real dbus-daemon, a real host, and dbus-fast as the applet.

The methods and properties are called as MPRIS 2.2 has them, by a client that knows nothing of musicsyncd.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import struct
import subprocess
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from dbus_fast import BusType, DBusError, Message, MessageType, Variant
from dbus_fast.aio import MessageBus
from house import House, Started, need

NAME = "org.mpris.MediaPlayer2.musicsyncd"
PATH = "/org/mpris/MediaPlayer2"
PLAYER = f"{NAME.removesuffix('.musicsyncd')}.Player"
ROOT = NAME.removesuffix(".musicsyncd")
PROPERTIES = "org.freedesktop.DBus.Properties"
PATIENCE_S = 10.0
SONG_S = 30.0

CONFIG = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>session</type><listen>unix:path={socket}</listen>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/>
</policy></busconfig>"""


class Bus:
    """A session bus of its own."""

    def __init__(self) -> None:
        need(shutil.which("dbus-daemon"), "dbus-daemon")
        self.folder = Path(tempfile.mkdtemp(prefix="msbus"))
        self.address = f"unix:path={self.folder / 'bus'}"
        config = self.folder / "bus.conf"
        config.write_text(CONFIG.format(socket=self.folder / "bus"))
        self.process = subprocess.Popen(
            ["dbus-daemon", f"--config-file={config}", "--print-address", "--nofork"], stdout=subprocess.PIPE
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline().startswith(b"unix:")

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(5)

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


class Applet:
    """What looks at players on a bus, and keeps all that they signal."""

    def __init__(self, address: str) -> None:
        self._address = address
        self.signals: list[tuple[str, list[Any]]] = []

    async def __aenter__(self) -> Applet:
        self.bus = await MessageBus(bus_address=self._address, bus_type=BusType.SESSION).connect()
        self.bus.add_message_handler(self._hear)
        await self.call("org.freedesktop.DBus", "AddMatch", "s", f"type='signal',path='{PATH}'", at="bus")
        return self

    async def __aexit__(self, *_: object) -> None:
        self.bus.disconnect()

    def _hear(self, message: Message) -> None:
        if message.message_type == MessageType.SIGNAL and message.path == PATH:
            self.signals.append((message.member, message.body))

    async def call(self, interface: str, member: str, kinds: str = "", *body: Any, at: str = NAME) -> Any:
        on_bus = at == "bus"
        reply = await self.bus.call(
            Message(
                destination="org.freedesktop.DBus" if on_bus else at,
                path="/org/freedesktop/DBus" if on_bus else PATH,
                interface=interface,
                member=member,
                signature=kinds,
                body=list(body),
            )
        )
        assert reply is not None
        if reply.message_type == MessageType.ERROR:
            raise DBusError(reply.error_name, reply.body[0] if reply.body else "")
        return reply.body[0] if reply.body else None

    async def get(self, name: str, at: str = NAME) -> Any:
        return (await self.call(PROPERTIES, "Get", "ss", PLAYER, name, at=at)).value

    async def set(self, name: str, kind: str, value: Any) -> None:
        await self.call(PROPERTIES, "Set", "ssv", PLAYER, name, Variant(kind, value))

    async def all(self, interface: str = PLAYER, at: str = NAME) -> dict[str, Any]:
        return {key: one.value for key, one in (await self.call(PROPERTIES, "GetAll", "s", interface, at=at)).items()}

    async def do(self, method: str, kinds: str = "", *body: Any, at: str = NAME) -> None:
        await self.call(PLAYER, method, kinds, *body, at=at)

    async def names(self) -> list[str]:
        found = await self.call("org.freedesktop.DBus", "ListNames", at="bus")
        return sorted(one for one in found if one.startswith(ROOT))

    async def until(self, what: str, condition: Callable[[], Any]) -> Any:
        end = time.monotonic() + PATIENCE_S
        while True:
            with contextlib.suppress(DBusError):
                if found := await condition():
                    return found
            assert time.monotonic() < end, f"not within {PATIENCE_S:g} s: {what}; signals: {self.signals}"
            await asyncio.sleep(0.05)

    async def until_is(self, name: str, value: Any) -> None:
        async def is_so() -> bool:
            return bool(await self.get(name) == value)

        await self.until(f"{name} is {value!r}", is_so)

    async def seeked(self) -> list[int]:
        """Return where the music was sought to, microseconds."""
        return [body[0] for member, body in self.signals if member == "Seeked"]

    def changed(self) -> list[dict[str, Any]]:
        """Return what was signalled to have changed."""
        return [
            {key: one.value for key, one in body[1].items()}
            for member, body in self.signals
            if member == "PropertiesChanged" and body[0] == PLAYER
        ]


@pytest.fixture
def bus() -> Iterator[Bus]:
    made = Bus()
    yield made
    made.close()


@pytest.fixture
def house() -> Iterator[House]:
    made = House(Path())
    yield made
    for name, text in made.logs():
        print(f"-- {name}\n{text}")
    made.close()


def png() -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head, body = struct.pack(">IIBBBBB", 2, 2, 8, 2, 0, 0, 0), zlib.compress(bytes(14))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


@pytest.fixture(scope="module")
def album(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("Blue")
    sound = np.random.default_rng(1).normal(0, 0.05, int(SONG_S * 48_000))
    for number, title in enumerate(("One", "Two", "Three"), 1):
        with soundfile.SoundFile(folder / f"{number}.ogg", "w", 48_000, 1) as file:
            file.title, file.artist, file.album, file.tracknumber = title, "Ada", "Blue", str(number)
            for block in np.array_split(sound, 100):  # Of a long one, libsndfile's Vorbis takes more stack than it has.
                file.write(block)
    (folder / "cover.png").write_bytes(png())
    return folder


def content(url: str) -> bytes:
    return Path(url.removeprefix("file://")).read_bytes()


def start(house: House, bus: Bus, *words: str, name: str = "mpris", **environment: str) -> Started:
    folder = ("--state-dir", str(house.state))
    return house.start(name, "mpris", *folder, *words, DBUS_SESSION_BUS_ADDRESS=bus.address, **environment)


def run(house: House, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return house.run("mpris", *words, **environment)


def test_a_desktop_sees_what_plays_and_steers_it(house, bus, album):
    house.host(*(str(album / f"{number}.ogg") for number in (1, 2, 3)))
    started = start(house, bus)

    async def scenario() -> None:
        async with Applet(bus.address) as applet:
            await applet.until("the name", applet.names)
            assert await applet.names() == [NAME]
            root = await applet.all(ROOT)
            assert root == {
                "CanQuit": False, "CanRaise": False, "HasTrackList": False, "Identity": "musicsyncd",
                "SupportedUriSchemes": [], "SupportedMimeTypes": [],
            }  # fmt: skip
            introspected = await applet.call("org.freedesktop.DBus.Introspectable", "Introspect")
            assert 'EmitsChangedSignal" value="false"' in introspected
            await shows(applet)
            await seeks(applet)
            await steers(applet)
            await refuses(applet)

    async def shows(applet: Applet) -> None:
        async def described() -> Any:
            found = await applet.get("Metadata")
            return found if "mpris:artUrl" in found else None

        found = {key: one.value for key, one in (await applet.until("tags and cover", described)).items()}
        art = found.pop("mpris:artUrl")
        assert art.startswith("file:///")
        assert content(art) == png()
        assert abs(found.pop("mpris:length") - SONG_S * 1e6) < 50_000
        assert found == {
            "mpris:trackid": "/net/musicsyncd/track/1",
            "xesam:title": "One", "xesam:artist": ["Ada"], "xesam:album": "Blue", "xesam:trackNumber": 1,
        }  # fmt: skip
        shown = await applet.all()
        assert shown.keys() == {
            "PlaybackStatus", "LoopStatus", "Rate", "Shuffle", "Metadata", "Volume", "Position", "MinimumRate",
            "MaximumRate", "CanGoNext", "CanGoPrevious", "CanPlay", "CanPause", "CanSeek", "CanControl",
        }  # fmt: skip
        assert shown["PlaybackStatus"] == "Playing"
        assert (shown["Rate"], shown["MinimumRate"], shown["MaximumRate"]) == (1.0, 1.0, 1.0)
        assert (shown["LoopStatus"], shown["Shuffle"], shown["Volume"]) == ("None", False, 1.0)
        assert all(shown[name] for name in shown if name.startswith("Can"))
        await asyncio.sleep(1.5)  # Its position is set right a second after a start.
        said, here = house.room()["position_s"], (await applet.get("Position")) / 1e6
        assert abs(said - here) < 0.15

    async def seeks(applet: Applet) -> None:
        applet.signals.clear()
        await applet.do("SetPosition", "ox", "/net/musicsyncd/track/1", 20_000_000)
        await applet.until("Seeked", applet.seeked)
        assert abs((await applet.seeked())[0] - 20e6) < 0.3e6
        assert 20.0 <= (await applet.get("Position")) / 1e6 < 21.5
        applet.signals.clear()
        await applet.do("Seek", "x", -15_000_000)
        await applet.until("Seeked", applet.seeked)
        assert 4.0 < (await applet.get("Position")) / 1e6 < 8.0
        await asyncio.sleep(1.5)
        assert len(await applet.seeked()) == 1, "one seek is one signal"
        # What was meant for another track, or lies nowhere, is nothing.
        applet.signals.clear()
        for wrong, place in (("/net/musicsyncd/track/2", 5_000_000), ("/net/musicsyncd/track/1", -1),
                             ("/net/musicsyncd/track/1", 31_000_000)):  # fmt: skip
            await applet.do("SetPosition", "ox", wrong, place)
        assert (await applet.get("Position")) / 1e6 < 10.0
        await applet.do("Seek", "x", 60_000_000)  # Beyond the end is the next one.
        await applet.until("the next", lambda: _track_is(applet, 2))

    async def steers(applet: Applet) -> None:
        await applet.do("Next")
        await applet.until("the last", lambda: _track_is(applet, 3))
        await applet.until_is("CanGoNext", False)
        await applet.do("Previous")
        await applet.until("back", lambda: _track_is(applet, 2))
        applet.signals.clear()
        await applet.do("Pause")
        await applet.until_is("PlaybackStatus", "Paused")
        at = await applet.get("Position")
        await asyncio.sleep(0.5)
        assert await applet.get("Position") == at
        assert {"PlaybackStatus": "Paused"} in applet.changed()
        assert house.room()["mode"] == "paused"
        await applet.do("PlayPause")
        await applet.until_is("PlaybackStatus", "Playing")
        await applet.set("Volume", "d", 0.37)
        await applet.until_is("Volume", 0.37)
        assert house.room()["volume"] == 37
        house.call("mute")
        await applet.until_is("Volume", 0.0)
        await applet.set("Volume", "d", 2.0)
        await applet.until_is("Volume", 1.0)
        assert house.room()["muted"] is False
        for loop, repeat in (("Track", "one"), ("Playlist", "all"), ("None", "off")):
            await applet.set("LoopStatus", "s", loop)
            await applet.until_is("LoopStatus", loop)
            assert house.room()["repeat"] == repeat
        await applet.set("Shuffle", "b", True)
        await applet.until_is("Shuffle", True)
        await applet.set("Shuffle", "b", False)
        await applet.set("Rate", "d", 0.0)
        await applet.until_is("PlaybackStatus", "Paused")
        await applet.do("Play")
        await applet.until_is("PlaybackStatus", "Playing")
        await applet.do("Stop")
        await applet.until_is("PlaybackStatus", "Stopped")
        await applet.do("Play")
        await applet.until_is("PlaybackStatus", "Playing")
        # What somebody else does is seen, and nothing is said where nothing has changed.
        house.call("queue", "clear")
        await applet.until_is("Metadata", {})
        await applet.until_is("CanPlay", False)
        await asyncio.sleep(1.5)
        applet.signals.clear()
        await asyncio.sleep(2.5)
        assert applet.signals == []
        assert all(applet.changed())

    async def refuses(applet: Applet) -> None:
        with pytest.raises(DBusError) as refused:
            await applet.do("OpenUri", "s", "file:///etc/passwd")
        assert refused.value.type == "org.freedesktop.DBus.Error.NotSupported"
        with pytest.raises(DBusError, match="one of None, Track, Playlist"):
            await applet.set("LoopStatus", "s", "Twice")
        with pytest.raises(DBusError):
            await applet.set("Metadata", "a{sv}", {})
        with pytest.raises(DBusError):
            await applet.set("Volume", "s", "loud")
        await applet.set("Volume", "d", float("-inf"))
        await applet.until_is("Volume", 0.0)
        for name in ("Next", "Previous", "Play", "Pause", "PlayPause", "Stop"):
            await applet.do(name)  # Nothing can be done with an empty queue, and that is no error.

    asyncio.run(scenario())
    code, took_s = started.stop()
    assert (code, took_s < 2.0) == (0, True)
    assert "Traceback" not in started.log.read_text()


async def _track_is(applet: Applet, number: int) -> bool:
    found = await applet.get("Metadata")
    return bool(found["mpris:trackid"].value == f"/net/musicsyncd/track/{number}")


def test_a_host_that_is_away_is_no_player_and_comes_back(house, bus, album):
    host = house.host(str(album / "1.ogg"))
    started = start(house, bus)

    async def scenario() -> None:
        async with Applet(bus.address) as applet:
            await applet.until("the name", applet.names)

            async def gone() -> bool:
                return await applet.names() == []

            for number in (signal.SIGTERM, signal.SIGKILL):
                house.started[0 if number == signal.SIGTERM else -1].stop(number)
                await applet.until("the name is given up", gone)
                await asyncio.to_thread(house.host)
                await applet.until("the name is there again", applet.names)

    asyncio.run(scenario())
    assert host.process.poll() is not None
    said = [line for line in started.log.read_text().splitlines() if "warning" in line]
    assert 2 <= len(said) <= 6, said
    assert started.stop()[0] == 0


def test_a_host_that_hangs_does_not_keep_it_from_stopping(house, bus, album):
    host = house.host(str(album / "1.ogg"), str(album / "2.ogg"))
    started = start(house, bus)

    async def scenario() -> tuple[int, float]:
        async with Applet(bus.address) as applet:
            await applet.until("the name", applet.names)
            host.process.send_signal(signal.SIGSTOP)
            asked = asyncio.create_task(applet.do("Next"))
            await asyncio.sleep(0.5)
            assert not asked.done()
            found = await asyncio.to_thread(started.stop)
            asked.cancel()
            await asyncio.gather(asked, return_exceptions=True)
            return found

    try:
        code, took_s = asyncio.run(scenario())
    finally:
        host.process.send_signal(signal.SIGCONT)
    assert (code, took_s < 1.0) == (0, True)


def test_rooms_and_second_ones_have_names_of_their_own(house, bus, album):
    house.host(str(album / "1.ogg"))
    house.call("rooms", "make", "attic 2/b")
    # Over the network, with the key.
    over = ("--host", f"127.0.0.1:{house.port}", "--key-file", str(house.key))
    start(house, bus)
    later = [house.folder / one for one in ("second", "attic", "nowhere")]

    async def scenario() -> None:
        async with Applet(bus.address) as applet:
            await applet.until("the first", applet.names)

            async def are(number: int) -> list[str]:
                found = await applet.names()
                return found if len(found) == number else []

            second = house.start("second", "mpris", "--state-dir", str(later[0]), *over, **on(bus))
            names = await applet.until("the second", lambda: are(2))
            assert names == [NAME, f"{NAME}.instance{second.process.pid}"]
            assert (await applet.all(at=names[1]))["PlaybackStatus"] == "Playing"
            house.start("attic", "mpris", "--state-dir", str(later[1]), *over, "--room", "attic 2/b", **on(bus))
            house.start("nowhere", "mpris", "--state-dir", str(later[2]), *over, "--room", "nowhere", **on(bus))
            names = await applet.until("the room", lambda: are(3))
            attic = f"{NAME}.attic_2_b"
            assert attic in names
            assert (await applet.all(at=attic))["PlaybackStatus"] == "Stopped"
            assert (await applet.all(at=attic))["Metadata"] == {}
            assert (await applet.all(ROOT, at=attic))["Identity"] == "musicsyncd: attic 2/b"

            house.call("rooms", "make", "nowhere")
            await applet.until("a room that comes later", lambda: are(4))

    asyncio.run(scenario())


def on(bus: Bus) -> dict[str, str]:
    return {"DBUS_SESSION_BUS_ADDRESS": bus.address}


def test_a_bus_that_goes_ends_it_with_one_line(house, bus, album):
    house.host(str(album / "1.ogg"))
    started = start(house, bus)
    house.until("it follows", lambda: "on the session bus as" in started.log.read_text())
    bus.stop()
    assert started.process.wait(PATIENCE_S) == 1
    lines = started.log.read_text().splitlines()
    assert lines[-1] == "musicsyncd: the session bus has gone: start this again within a session"
    assert "Traceback" not in started.log.read_text()


def test_what_is_missing_is_said_in_one_line(house, bus, tmp_path):
    state = ("--state-dir", str(house.state))
    without = run(house, *state)
    assert without.returncode == 1
    assert without.stderr.startswith("musicsyncd: there is no session bus")
    wrong = run(house, *state, DBUS_SESSION_BUS_ADDRESS=f"unix:path={tmp_path}/none")
    assert wrong.returncode == 1
    assert wrong.stderr.count("\n") == 1
    assert "cannot use the session bus at" in wrong.stderr
    senseless = run(house, *state, DBUS_SESSION_BUS_ADDRESS="nonsense")
    assert (senseless.returncode, senseless.stderr.count("\n")) == (1, 1)
    (tmp_path / "dbus_fast.py").write_text("raise ImportError('hidden')")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    lacking = run(house, *state, PYTHONPATH=path, DBUS_SESSION_BUS_ADDRESS=bus.address)
    assert lacking.returncode == 1
    assert lacking.stderr == "musicsyncd: this needs dbus-fast: pip install 'musicsyncd[mpris]'\n"
