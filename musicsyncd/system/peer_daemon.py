"""The peer daemon: the protocol node, the clock and the speaker, wired to the machine.

What is decided here is only order: a time line reaches the speaker together with the
clock mapping of the same host, events turn into calls, and stopping fades out first.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import os
import random
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from musicsyncd import __version__
from musicsyncd.clock.filter import HostClock
from musicsyncd.config import DEFAULT_ROOM, OPEN_ROOM_KEY, PeerConfig
from musicsyncd.errors import ConfigError
from musicsyncd.paths import make_folder
from musicsyncd.playback.player import Course
from musicsyncd.playback.timeline import Timeline
from musicsyncd.protocol.auth import HostKeys, RoomKeys, http_token
from musicsyncd.protocol.node import Address
from musicsyncd.protocol.peer import HostFound, HostLost, KeyChanged, PeerNode, SettingsChanged, StateChanged
from musicsyncd.protocol.proving import NONCE_BYTES
from musicsyncd.protocol.wire import Settings
from musicsyncd.system import mdns_apart
from musicsyncd.system.hooks import Hooks, has_sound
from musicsyncd.system.identity import load_identity, save_skew
from musicsyncd.system.interfaces import check
from musicsyncd.system.keyfile import is_host_file, keep_room_keys, load_room_keys
from musicsyncd.system.local_peers import socket_path
from musicsyncd.system.monotonic import now_ns, suspended_duration_ns
from musicsyncd.system.peer_account import (
    Acquaintance,
    in_words,
    network_status,
    speaker_status,
    track_status,
    who_it_is,
)
from musicsyncd.system.peer_socket import PeerSocket
from musicsyncd.system.reloading import changed_keys, on_hangup, reload_for_ever
from musicsyncd.system.search import HostSearch
from musicsyncd.system.speaker import Speaker
from musicsyncd.system.supervision import (
    Watchdog,
    claim,
    die_with_parent,
    end_process,
    give_memory_back,
    keep_standard_error,
    may_replace_process,
    notify,
    on_stop_signals,
    raise_priority,
    replace_process,
    settle_memory,
    until_stopped,
)
from musicsyncd.system.udp import Network
from musicsyncd.units import NS_PER_MS, NS_PER_US, ms_to_ns, ns_to_s, volume_to_gain

if TYPE_CHECKING:
    from musicsyncd.system.own_files import OwnFiles

log = logging.getLogger(__name__)

_TICK_S = 0.1
_WATCHDOG_EVERY_TICKS = 10
_SAVE_SKEW_EVERY_TICKS = 3000
_SUSPENDED_NS = 100 * NS_PER_MS
_MIB = 1 << 20

_AT_ONCE = frozenset(
    ("output-delay-ms", "channels", "cache-mib", "on-sound", "on-silence", "silence-after-s", "hook-timeout-s")
)
"""Keys of the configuration that a running speaker takes over."""


class PeerDaemon:
    """One speaker on the network.

    Args:
        config: what it was told.
        folder: its own state.
        keys: of the room.
        reread: returns what it would be told if it started now; called in a thread; ConfigError where it cannot be.

    Attributes:
        speaker: its sound.
        wants_replacement: it has ended because only a new process can help.
    """

    def __init__(
        self, config: PeerConfig, folder: Path, keys: RoomKeys, reread: Callable[[], PeerConfig] | None = None
    ) -> None:
        self._config = config
        self._reread = reread or (lambda: config)
        self._hooks = Hooks(config.hooks, config.name)
        self._identity = identity = load_identity(folder)
        self._clock = HostClock(identity.skew_ppm)
        hosts = (config.host_address,) if config.host_address is not None else ()
        self._node = PeerNode(
            keys,
            identity.peer_id,
            identity.epoch,
            config.name,
            self._clock,
            random.random,
            __version__,
            hosts=hosts,
            room=DEFAULT_ROOM,
            nonce=partial(os.urandom, NONCE_BYTES),
        )
        self._network = Network(self._node, config.network, port=0, on_activity=self._look)
        self.speaker = Speaker(
            output=config.output,
            device=config.device,
            rate_hz=config.rate_hz,
            buffer_ms=config.buffer_ms,
            cache_folder=make_folder(config.paths.cache_dir / "peers" / _safe(config.name)),
            cache_bytes=_cache_bytes(config),
            token=None if config.open else http_token(keys.room_key),
            own_files=_own_files(config, folder),
        )
        self._settings: Settings | None = None
        self._state: StateChanged | None = None
        self._course = Course()
        self._slept_ns = suspended_duration_ns()
        self._watchdog = Watchdog()
        self._host = Acquaintance()
        self._began_ns = now_ns()
        self._socket = PeerSocket(socket_path(config.paths.runtime_dir, _safe(config.name)), self.account)
        self.wants_replacement = False

    async def run(self) -> None:
        """Serve until a signal comes, or until only a new process can help.

        Raises:
            MusicSyncError: when it cannot start.
        """
        stop = on_stop_signals()
        hangup = on_hangup(stop)
        await self._network.open()
        await self._socket.open()
        try:
            work = [self._sound_for_ever(), self._tick_for_ever(), reload_for_ever(hangup, self._reload)]
            await until_stopped(stop, *work, *self._searches())
        finally:
            if not self.wants_replacement:
                notify("STOPPING=1")
            await self._leave()

    def _searches(self) -> list[Coroutine[Any, Any, None]]:
        """Return the look for a host by the second way, where that is wanted."""
        if not self._config.network.mdns:
            return []
        return [HostSearch(self._node, self._look_by_mdns, self._network.turn).run()]

    async def _look_by_mdns(self) -> list[Address]:
        return await mdns_apart.look(self._network.joined)

    async def _sound_for_ever(self) -> None:
        await self.speaker.begin()
        settle_memory()
        # With its card, or without one that is away or does not answer: it is waited for as long as it takes.
        notify("READY=1")
        self._watchdog.feed(self._describe(), self._trouble())
        await self.speaker.keep_open()

    async def _reload(self) -> set[str]:
        """Take the configuration over as far as the music goes on, and return the keys that wait for the next start.

        Raises:
            ConfigError: it cannot be read.
        """
        old, new = self._config, await asyncio.to_thread(self._reread)
        changed = changed_keys(old, new)
        self._config = dataclasses.replace(
            old,
            output_delay_ms=new.output_delay_ms,
            channels=new.channels,
            cache_mib=new.cache_mib,
            hooks=new.hooks,
        )
        self._hooks.config = new.hooks
        if "cache-mib" in changed:
            await self.speaker.resize_cache(_cache_bytes(new))
        self._apply_volume()
        self._steer()
        return changed - _AT_ONCE

    async def _leave(self) -> None:
        await self._socket.close()
        self._save_skew()
        await self.speaker.fade_out()
        self._node.close()
        await self._network.close()
        await asyncio.gather(self.speaker.close(), self._hooks.close(say_silence=not self.wants_replacement))
        log.info("stopped")

    async def account(self) -> dict[str, Any]:
        """Return how this speaker is, for who asks on this machine: the host may be away."""
        try:
            held_bytes: int | None = await asyncio.to_thread(self.speaker.held_bytes)
        except OSError:
            held_bytes = None
        local_ns = now_ns()
        who = who_it_is(self._identity.peer_id, self._config.name, self._settings)
        return {
            "speaker": speaker_status(self._node, self.speaker.stats(), who, __version__, local_ns),
            "host": self._host.status(self._node.host_heard_ns, local_ns),
            "track": track_status(self._course, local_ns),
            "card": self.speaker.card(),
            "network": network_status(self._node, self._network.joined),
            "media": {"cache_bytes": held_bytes, **self.speaker.media()},
            "hooks": self._hooks.status(),
            "uptime_s": round(ns_to_s(local_ns - self._began_ns), 1),
            "open": self._config.open,
        }

    async def _tick_for_ever(self) -> None:
        ticks = 0
        while True:
            await asyncio.sleep(_TICK_S)
            ticks += 1
            self._notice_suspend()
            self._node.playback = self.speaker.stats()
            self.speaker.look_ahead()
            self._tell_hooks()
            if self.speaker.hanging and not Watchdog.is_set() and may_replace_process():
                log.warning("%s: starting this peer anew", self.speaker.trouble)
                self.wants_replacement = True
                return
            if ticks % _WATCHDOG_EVERY_TICKS == 0:
                # A hung loop does not get here, and systemd starts the peer anew.
                self._watchdog.feed(self._describe(), self._trouble())
            if ticks % _SAVE_SKEW_EVERY_TICKS == 0:
                self._save_skew()

    def _save_skew(self) -> None:
        skew_ppm = self._clock.known_skew_ppm
        if skew_ppm is not None:
            with contextlib.suppress(OSError):  # A full or read-only disk costs the next start some seconds.
                save_skew(self._identity, skew_ppm)

    def _trouble(self) -> str:
        """Return what does not go on, for the watchdog; nothing for a host or a card that is away."""
        return self._network.trouble(now_ns()) or self.speaker.trouble

    def _describe(self) -> str:
        return in_words(self.speaker.stats(), self._host, self._node.room, now_ns())

    def _notice_suspend(self) -> None:
        slept_ns = suspended_duration_ns()
        if abs(slept_ns - self._slept_ns) > _SUSPENDED_NS:
            log.info("the machine has slept: finding the host's time anew")
            self._node.suspended(now_ns())
            self._network.turn()
            self.speaker.resumed()
        self._slept_ns = slept_ns

    def _look(self) -> None:
        """Take the node's events, and hand a newer clock to the speaker."""
        while (event := self._node.next_event()) is not None:
            self._host.note(event, now_ns())
            if isinstance(event, StateChanged):
                self._take_state(event)
            elif isinstance(event, SettingsChanged):
                self._settings = event.settings
                self._apply_volume()
            elif isinstance(event, HostFound):
                log.info("following the host at %s", event.address[0])
                if self._state is not None and self._state.epoch == event.epoch:
                    self.speaker.set_host(event.address[0], self._state.http_port)
            elif isinstance(event, HostLost):
                log.warning("%s: playing on with what is here", event.reason)
            elif isinstance(event, KeyChanged):
                self._keep(event.keys)
        self._steer()

    def _keep(self, keys: RoomKeys) -> None:
        """Keep the room's new keys for the next start, before the host hears that they are kept."""
        # Kept or not: the host takes this one already, and soon no other.
        self.speaker.set_token(http_token(keys.room_key))
        paths = self._config.paths
        # The host of this machine keeps its own key, and may have its second file in the same folder.
        if not self._config.open and not is_host_file(paths.key_file):
            try:
                keep_room_keys(paths.key_file, keys, paths.rotated_key_file)
            except ConfigError as error:
                log.warning("the room has a new key, which is lost at the next start: %s", error)
                return
        log.info("the room has a new key")
        self._node.key_kept(keys)

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
            self._tell_hooks()

    def _tell_hooks(self) -> None:
        local_ns = now_ns()
        self._hooks.look(has_sound(self._course, local_ns), self._node.room, local_ns)


def _own_files(config: PeerConfig, folder: Path) -> OwnFiles | None:
    if not config.library:
        return None
    # Most speakers have no music of their own, and SQLite is a megabyte of memory.
    from musicsyncd.system.own_files import OwnFiles

    return OwnFiles(config.library, folder / "own-files.sqlite3")


def _safe(name: str) -> str:
    """Return a name as one folder's name."""
    kept = "".join(c if c.isalnum() or c in "-_ " else "_" for c in name).strip()
    return kept or "_"


def _cache_bytes(config: PeerConfig) -> int | None:
    return None if config.cache_mib is None else config.cache_mib * _MIB


def run(config: PeerConfig, reread: Callable[[], PeerConfig]) -> None:
    """Run a peer until it is told to stop.

    Args:
        config: what it is told.
        reread: returns what it would be told if it started now, or raises ConfigError; called in a thread.

    Raises:
        MusicSyncError: with one line, when it cannot start.
    """
    keep_standard_error()
    raise_priority()
    give_memory_back()
    die_with_parent()
    check(config.network.interfaces)
    config.paths.make()
    keys = (
        HostKeys(OPEN_ROOM_KEY).room_keys
        if config.open
        else load_room_keys(config.paths.key_file, config.paths.rotated_key_file)
    )
    folder = config.paths.state_dir / "peers" / _safe(config.name)
    lock = claim(folder, f"a peer called {config.name!r}", "--name")
    try:
        if config.open:
            log.warning("open room: whoever is on this network may command this speaker")
        daemon = PeerDaemon(config, folder, keys, reread)
        asyncio.run(daemon.run())
    finally:
        lock.close()
    if daemon.wants_replacement:
        replace_process()
    if daemon.speaker.hanging:
        end_process()
