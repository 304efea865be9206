"""The host daemon: rooms, protocol node, HTTP server and database, wired to the machine."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import os
import signal
from asyncio.subprocess import Process
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from musicsyncd import __version__
from musicsyncd.config import OPEN_ROOM_KEY, HostConfig
from musicsyncd.media.replaygain import Loudness
from musicsyncd.protocol.auth import VERSION as PROTOCOL_VERSION
from musicsyncd.protocol.auth import HostKeys, http_token
from musicsyncd.protocol.host import HostNode, PeerAppeared, PeerLost
from musicsyncd.protocol.proving import NONCE_BYTES
from musicsyncd.system.control import Control
from musicsyncd.system.database import Database
from musicsyncd.system.http_guard import own_names
from musicsyncd.system.http_server import HttpServer
from musicsyncd.system.interfaces import check, interfaces
from musicsyncd.system.key_change import KeyChange
from musicsyncd.system.keyfile import load_host_keys
from musicsyncd.system.librarian import Librarian
from musicsyncd.system.library_control import LibraryControl
from musicsyncd.system.library_index import LibraryIndex
from musicsyncd.system.links import Links
from musicsyncd.system.mdns import Announcer, service
from musicsyncd.system.monotonic import boot_identity, now_ns
from musicsyncd.system.readying import PREPARE_AHEAD
from musicsyncd.system.reloading import changed_keys, on_hangup, reload_for_ever
from musicsyncd.system.supervision import (
    DIES_WITH_PARENT,
    SYSTEMDS_OWN,
    Watchdog,
    claim,
    notify,
    on_stop_signals,
    own_command,
    raise_priority,
    settle_memory,
    until_stopped,
)
from musicsyncd.system.tls import Tls, load_tls
from musicsyncd.system.udp import Network
from musicsyncd.units import NS_PER_S, ns_to_s

if TYPE_CHECKING:
    from zeroconf.asyncio import AsyncServiceInfo

log = logging.getLogger(__name__)

_TICK_S = 1.0
_SAVE_POSITIONS_EVERY_TICKS = 10
_SPEAKER_AGAIN_AFTER_S = 2.0
_SPEAKER_AGAIN_AT_MOST_S = 60.0
_SPEAKER_WELL_AFTER_S = 60.0

_ASK_EVERY_S = 5.0
_UNANSWERED_NS = 15 * NS_PER_S
"""For so long the HTTP server gave no answer to the host itself, three times asked."""

_AT_ONCE = frozenset(("library", "replaygain", "replaygain-preamp-db", "after-restart"))
"""Keys of the configuration that a running host takes over; the last of them counts at a start anyway."""


class HostDaemon:
    """A host.

    Args:
        config: what it was told.
        database: its state.
        keys: of its rooms.
        reread: returns what it would be told if it started now; called in a thread; ConfigError where it cannot be.
    """

    def __init__(
        self,
        config: HostConfig,
        database: Database,
        keys: HostKeys,
        reread: Callable[[], HostConfig] | None = None,
    ) -> None:
        self._config = config
        self._reread = reread or (lambda: config)
        self._database = database
        self._epoch = database.next_epoch()
        self._started_ns = now_ns()
        self._node = HostNode(
            keys,
            database.host_id(),
            self._epoch,
            config.name,
            config.network.port,
            nonce=partial(os.urandom, NONCE_BYTES),
        )
        self._network = Network(self._node, config.network, port=config.network.port, on_activity=self._look)
        self._announcer = Announcer(lambda: self._network.joined, self._announcement) if config.network.mdns else None
        self._control = Control(
            self._node,
            database,
            now_ns,
            boot_identity(),
            self._network.turn,
            describe=self._describe,
            after_restart=config.after_restart,
        )
        self._control.preparer.loudness = _loudness(config)
        self._control.preparer.convert_into(config.paths.cache_dir / "converted", self._in_use)
        self._library: LibraryControl | None = None
        self._have_library(config.library)
        self._speaker: Process | None = None
        self._answered_ns = now_ns()
        token = None if config.open else http_token(keys.room_key)
        links = Links(database, os.urandom)
        self._server = HttpServer(self._control, token, links, _tls(config))
        if not config.open:
            self._control.key = KeyChange(
                *(self._node, config.paths, keys, self._control.speakers, links),
                accept=self._server.accept_tokens,
                changed=self._network.turn,
            )

    async def run(self) -> None:
        """Serve until a signal comes.

        Raises:
            MusicSyncError: when it cannot start.
        """
        stop = on_stop_signals()
        hangup = on_hangup(stop)
        # The TCP port first: it tells whether another host runs here.
        await self._server.open(self._config.network.port, self._config.paths.control_socket)
        try:
            await self._network.open()
            self._control.open(self._config.room)
            if self._control.key is not None:
                self._control.key.open()
            settle_memory()
            if self._library is not None:
                self._library.open()
            notify(f"READY=1\nSTATUS={self._control.describe()}")
            self._answered_ns = now_ns()
            log.info("host %s serves on port %d", self._config.name, self._config.network.port)
            if self._config.tls:
                log.info("and with TLS on port %d: `musicsyncd link` shows the fingerprint", self._config.tls_port)
            work = [self._tick_for_ever(), self._ask_for_ever(), reload_for_ever(hangup, self._reload)]
            if self._config.tracks:
                work.append(self._begin())
            if self._config.speaker:
                work.append(self._speaker_for_ever())
            if self._announcer is not None:
                work.append(self._announcer.run())
            await until_stopped(stop, *work)
        finally:
            notify("STOPPING=1")
            await self._leave()

    async def _begin(self) -> None:
        """Play what the host was given. To look through a large folder takes longer than systemd waits for a start."""
        log.info("%s", await self._control.begin(self._config.room, self._config.tracks))
        await asyncio.Event().wait()  # Whatever else is done here goes on for ever, too.

    def _have_library(self, folders: tuple[str, ...]) -> None:
        """Keep a library of these folders; none without any."""
        if self._library is not None:
            self._library.set_folders(folders)
        elif folders:
            index = LibraryIndex(self._config.paths.state_dir / "host" / "library.sqlite3")
            self._library = LibraryControl(index, Librarian(folders, index))
        self._control.library = self._library if folders else None

    async def _reload(self) -> set[str]:
        """Take the configuration over as far as the music goes on, and return the keys that wait for the next start.

        Raises:
            MusicSyncError: it cannot be read, or the library cannot be opened.
        """
        old, new = self._config, await asyncio.to_thread(self._reread)
        changed = changed_keys(old, new)
        if "library" in changed:
            is_first = self._library is None
            self._have_library(new.library)
            if is_first and self._library is not None:
                self._library.open()
        self._control.preparer.loudness = _loudness(new)
        self._config = dataclasses.replace(
            old, library=new.library, replaygain=new.replaygain, replaygain_preamp_db=new.replaygain_preamp_db
        )
        if self._speaker is not None:
            with contextlib.suppress(ProcessLookupError):
                self._speaker.send_signal(signal.SIGHUP)
        return changed - _AT_ONCE

    async def _leave(self) -> None:
        if self._library is not None:
            self._library.stop()
        goodbye = () if self._announcer is None else (self._announcer.close(),)
        await asyncio.gather(self._control.silence(), *goodbye)
        self._node.close()
        await self._network.close()
        await self._server.close()
        self._control.close()
        if self._library is not None:
            self._library.close()
        log.info("stopped")

    def _announcement(self, addresses: list[str]) -> AsyncServiceInfo:
        """Return what mDNS is to say of this host; nothing of it is secret."""
        host_id, port = self._database.host_id(), self._config.network.port
        return service(self._config.name, host_id, port, __version__, PROTOCOL_VERSION, addresses)

    def _look(self) -> None:
        while (event := self._node.next_event()) is not None:
            if isinstance(event, PeerAppeared):
                log.info("speaker %s at %s", event.name, event.address[0])
                self._control.peer_appeared(event.peer_id, event.name)
            elif isinstance(event, PeerLost):
                log.info("speaker %s is away: %s", event.name, event.reason)
            elif self._control.key is not None:
                self._control.key.done(event)
            self._server.site.events.touch()

    async def _tick_for_ever(self) -> None:
        ticks, watchdog = 0, Watchdog()
        while True:
            await asyncio.sleep(_TICK_S)
            ticks += 1
            watchdog.feed(self._control.describe(), self._trouble())
            self._server.site.tick()
            if ticks % _SAVE_POSITIONS_EVERY_TICKS == 0:
                self._control.save_positions()

    async def _ask_for_ever(self) -> None:
        """See that the HTTP server answers, as whoever uses this host does."""
        while True:
            if await self._server.answers():
                self._answered_ns = now_ns()
            await asyncio.sleep(_ASK_EVERY_S)

    def _trouble(self) -> str:
        """Return what does not go on, for the watchdog."""
        local_ns = now_ns()
        unanswered = local_ns - self._answered_ns > _UNANSWERED_NS
        return self._network.trouble(local_ns) or ("the HTTP server does not answer" if unanswered else "")

    async def _speaker_for_ever(self) -> None:
        """Run a peer of our own beside us, and start it again when it ends."""
        words = own_command("musicsyncd", *speaker_words(self._config))
        again_after_s = _SPEAKER_AGAIN_AFTER_S
        while True:
            began_ns = now_ns()
            process = await asyncio.create_subprocess_exec(*words, stdin=asyncio.subprocess.DEVNULL, env=_environment())
            self._speaker = process
            try:
                code = await process.wait()
            except asyncio.CancelledError:
                with contextlib.suppress(ProcessLookupError):
                    process.terminate()
                await process.wait()
                raise
            finally:
                self._speaker = None
            if ns_to_s(now_ns() - began_ns) > _SPEAKER_WELL_AFTER_S:
                again_after_s = _SPEAKER_AGAIN_AFTER_S
            log.warning("this machine's speaker ended with %d: again in %.0f s", code, again_after_s)
            await asyncio.sleep(again_after_s)
            again_after_s = min(2 * again_after_s, _SPEAKER_AGAIN_AT_MOST_S)

    def _in_use(self) -> set[bytes]:
        """Return the content ids of what sounds now or soon. Called in any thread, so nothing is read twice."""
        found = set()
        for room in self._control.rooms:
            entries, index = room.queue.entries, room.queue.current or 0
            # The first ones too: they follow the last where the queue repeats.
            near = entries[max(0, index - 1) : index + PREPARE_AHEAD + 1] + entries[:PREPARE_AHEAD]
            found |= {entry.track.content_id for entry in near if entry.track is not None}
        return found

    def _describe(self) -> dict[str, object]:
        """Return what is to be said of this host."""
        return {
            "name": self._config.name,
            "version": __version__,
            "epoch": self._epoch,
            "address": next((one.address for one in self._network.joined), None),
            "interfaces": [f"{one.name} {one.address}" for one in self._network.joined],
            "port": self._config.network.port,
            "uptime_s": round(ns_to_s(now_ns() - self._started_ns), 1),
            "open": self._config.open,
            "dropped": dict(self._node.dropped),
            "others": [dataclasses.asdict(one) for one in self._node.others(now_ns())],
        }


def speaker_words(config: HostConfig) -> list[str]:
    """Return the command line of the peer that a host runs beside itself.

    What is not said here it takes from the section ``[peer]`` of the same file: its card, its hooks.
    """
    network, paths = config.network, config.paths
    words = ["peer", "--name", config.name, "--host", f"127.0.0.1:{network.port}", "--port", str(network.port)]
    words += ["--group", network.group, "--state-dir", str(paths.state_dir / "speaker")]
    words += ["--key-file", str(paths.key_file)]
    if paths.config_file is not None:
        words += ["--config", str(paths.config_file.absolute())]
    for interface in network.interfaces:
        words += ["--interface", interface]
    for folder in config.library:
        words += ["--library", folder]  # What lies on this disk already is not kept twice.
    words.append("--no-mdns")  # It knows its host's address.
    return [*words, "--open"] if config.open else words


def _environment() -> dict[str, str]:
    """Return the environment for the speaker: without systemd's, which is the host's alone."""
    kept = {name: value for name, value in os.environ.items() if name not in SYSTEMDS_OWN}
    return kept | {DIES_WITH_PARENT: "1"}


def run(config: HostConfig, reread: Callable[[], HostConfig]) -> None:
    """Run a host until it is told to stop.

    Args:
        config: what it is told.
        reread: returns what it would be told if it started now, or raises ConfigError; called in a thread.

    Raises:
        MusicSyncError: with one line, when it cannot start.
    """
    raise_priority()
    check(config.network.interfaces)
    config.paths.make()
    lock = claim(config.paths.state_dir / "host", "a host with this state", "--state-dir")
    database: Database | None = None
    try:
        database = Database(config.paths.state_dir / "host" / "state.sqlite")
        asyncio.run(HostDaemon(config, database, _keys(config), reread).run())
    finally:
        if database is not None:
            database.close()
        lock.close()


def _loudness(config: HostConfig) -> Loudness:
    return Loudness(config.replaygain, config.replaygain_preamp_db)


def _tls(config: HostConfig) -> Tls | None:
    if not config.tls:
        return None
    addresses = ["127.0.0.1", "::1", *(one.address for one in interfaces())]
    return load_tls(config.paths.state_dir / "host" / "tls.pem", config.tls_port, own_names(), addresses)


def _keys(config: HostConfig) -> HostKeys:
    if config.open:
        log.warning("open room: whoever is on this network may listen and command")
        return HostKeys(OPEN_ROOM_KEY)
    return load_host_keys(config.paths.key_file, config.paths.rotated_key_file)
