"""The peer daemon: the protocol node, the clock and the speaker, wired to the machine.

What is decided here is only order: a time line reaches the speaker together with the
clock mapping of the same host, events turn into calls, and stopping fades out first.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from pathlib import Path

from musicsyncd import __version__
from musicsyncd.clock.filter import HostClock
from musicsyncd.config import DEFAULT_ROOM, OPEN_ROOM_KEY, PeerConfig, make_folder
from musicsyncd.playback.player import Course
from musicsyncd.playback.timeline import Timeline
from musicsyncd.protocol.auth import http_token
from musicsyncd.protocol.peer import HostFound, HostLost, PeerNode, SettingsChanged, StateChanged
from musicsyncd.protocol.wire import Settings
from musicsyncd.system.identity import load_identity, save_skew
from musicsyncd.system.interfaces import check
from musicsyncd.system.keyfile import load_key
from musicsyncd.system.monotonic import now_ns, suspended_duration_ns
from musicsyncd.system.own_files import OwnFiles
from musicsyncd.system.speaker import Speaker
from musicsyncd.system.supervision import (
    claim,
    die_with_parent,
    notify,
    on_stop_signals,
    raise_priority,
    settle_memory,
    until_stopped,
)
from musicsyncd.system.udp import Network
from musicsyncd.units import NS_PER_MS, NS_PER_US, ms_to_ns, volume_to_gain

log = logging.getLogger(__name__)

_TICK_S = 0.1
_WATCHDOG_EVERY_TICKS = 10
_SAVE_SKEW_EVERY_TICKS = 3000
_SUSPENDED_NS = 100 * NS_PER_MS
_MIB = 1 << 20


class PeerDaemon:
    """One speaker on the network.

    Args:
        config: what it was told.
        folder: its own state.
        room_key: 32 bytes.
    """

    def __init__(self, config: PeerConfig, folder: Path, room_key: bytes) -> None:
        self._config = config
        self._identity = identity = load_identity(folder)
        self._clock = HostClock(identity.skew_ppm)
        hosts = (config.host_address,) if config.host_address is not None else ()
        self._node = PeerNode(
            room_key,
            identity.peer_id,
            identity.epoch,
            config.name,
            self._clock,
            random.random,
            __version__,
            hosts=hosts,
            room=DEFAULT_ROOM,
        )
        self._network = Network(self._node, config.network, port=0, on_activity=self._look)
        library = OwnFiles(config.library, folder / "own-files.sqlite3") if config.library else None
        self.speaker = Speaker(
            output=config.output,
            device=config.device,
            rate_hz=config.rate_hz,
            buffer_ms=config.buffer_ms,
            cache_folder=make_folder(config.paths.cache_dir / "peers" / _safe(config.name)),
            cache_bytes=None if config.cache_mib is None else config.cache_mib * _MIB,
            token=None if config.open else http_token(room_key),
            own_files=library,
        )
        self._settings: Settings | None = None
        self._state: StateChanged | None = None
        self._course = Course()
        self._slept_ns = suspended_duration_ns()

    async def run(self) -> None:
        """Serve until a signal comes.

        Raises:
            MusicSyncError: when it cannot start.
        """
        stop = on_stop_signals()
        await self._network.open()
        try:
            await self.speaker.open()
            settle_memory()
            notify("READY=1\nSTATUS=looking for the host")
            await until_stopped(stop, self.speaker.keep_open(), self._tick_for_ever())
        finally:
            notify("STOPPING=1")
            await self._leave()

    async def _leave(self) -> None:
        self._save_skew()
        await self.speaker.fade_out()
        self._node.close()
        await self._network.close()
        await self.speaker.close()
        log.info("stopped")

    async def _tick_for_ever(self) -> None:
        ticks = 0
        while True:
            await asyncio.sleep(_TICK_S)
            ticks += 1
            self._notice_suspend()
            self._node.playback = self.speaker.stats()
            self.speaker.look_ahead()
            if ticks % _WATCHDOG_EVERY_TICKS == 0 and self.speaker.ready:
                # A hung card or a hung loop does not get here, and systemd starts the peer anew.
                notify("WATCHDOG=1\nSTATUS=" + self._describe())
            if ticks % _SAVE_SKEW_EVERY_TICKS == 0:
                self._save_skew()

    def _save_skew(self) -> None:
        if self._clock.mapping is not None:
            with contextlib.suppress(OSError):  # A full or read-only disk costs the next start some seconds.
                save_skew(self._identity, self._clock.skew_ppm)

    def _describe(self) -> str:
        stats = self._node.playback
        return f"{stats.state}, {stats.sync_error_ns / NS_PER_US:+.0f} µs, {stats.fault or 'no fault'}"

    def _notice_suspend(self) -> None:
        slept_ns = suspended_duration_ns()
        if abs(slept_ns - self._slept_ns) > _SUSPENDED_NS:
            log.info("the machine has slept: finding the host's time anew")
            self._node.suspended(now_ns())
            self._network.turn()
        self._slept_ns = slept_ns

    def _look(self) -> None:
        """Take the node's events, and hand a newer clock to the speaker."""
        while (event := self._node.next_event()) is not None:
            if isinstance(event, StateChanged):
                self._take_state(event)
            elif isinstance(event, SettingsChanged):
                self._settings = event.settings
                self._apply_volume()
            elif isinstance(event, HostFound):
                log.info("following the host at %s", event.address[0])
            elif isinstance(event, HostLost):
                log.warning("%s: playing on with what is here", event.reason)
        self._steer()

    def _take_state(self, state: StateChanged) -> None:
        self._state = state
        self.speaker.set_host(state.host_address[0], state.http_port)
        self._apply_volume()
        self._steer()
        self.speaker.look_ahead()

    def _apply_volume(self) -> None:
        gain = 1.0
        if self._state is not None:
            gain *= 0.0 if self._state.muted else volume_to_gain(self._state.volume)
        if self._settings is not None:
            gain *= 0.0 if self._settings.muted else volume_to_gain(self._settings.volume)
        self.speaker.set_gain(gain)
        self.speaker.set_channels(self._config.channels or (self._settings.channels if self._settings else "stereo"))

    def _steer(self) -> None:
        delay_ns = ms_to_ns(self._config.output_delay_ms or 0.0)
        if self._settings is not None:
            delay_ns += self._settings.output_delay_us * NS_PER_US
        state = self._state
        if state is None:
            return
        # What a room that it has left goes on to play is not for it; the new one's state comes in a moment.
        timeline = state.timeline if state.room == self._node.room else Timeline()
        course = Course(timeline, self._node.mapping, state.epoch, delay_ns)
        if course != self._course:
            self._course = course
            self.speaker.follow(course)


def _safe(name: str) -> str:
    """Return a name as one folder's name."""
    kept = "".join(c if c.isalnum() or c in "-_ " else "_" for c in name).strip()
    return kept or "_"


def run(config: PeerConfig) -> None:
    """Run a peer until it is told to stop.

    Raises:
        MusicSyncError: with one line, when it cannot start.
    """
    raise_priority()
    die_with_parent()
    check(config.network.interfaces)
    config.paths.make()
    room_key = OPEN_ROOM_KEY if config.open else load_key(config.paths.key_file)
    folder = config.paths.state_dir / "peers" / _safe(config.name)
    lock = claim(folder, f"a peer called {config.name!r}", "--name")
    try:
        if config.open:
            log.warning("open room: whoever is on this network may command this speaker")
        daemon = PeerDaemon(config, folder, room_key)
        asyncio.run(daemon.run())
    finally:
        lock.close()
