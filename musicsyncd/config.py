"""What a daemon or a command is told, checked once and then constant.

Owns the configurations' types and their limits; where files belong is in :mod:`musicsyncd.paths`. The command line
puts values together from options, environment and :mod:`musicsyncd.cli.settings`, and
builds these; whatever gets one of them need not check it again. Every refusal is a
:class:`~musicsyncd.errors.ConfigError` of one line.

Must not know click, nor what the daemons do with the values.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, field
from typing import Literal, get_args

from musicsyncd.errors import ConfigError
from musicsyncd.hook_config import HookConfig
from musicsyncd.paths import APP_NAME, Paths

DEFAULT_PORT = 7783
"""UDP and HTTP; nothing registered with IANA uses it."""

DEFAULT_GROUP = "239.255.77.83"
"""In 239.255.0.0/16, the local scope of RFC 2365: routers at a site's edge keep it in. 77.83 is "MS"."""

DEFAULT_ROOM = "main"

OPEN_ROOM_KEY = bytes(32)
"""Everybody's key: ``--open`` runs the same protocol with it, so that there is one code path."""

MAX_NAME_CHARS = 64
"""As in :mod:`musicsyncd.protocol.wire`, which is not imported here to keep commands quick."""

MAX_INTERFACES = 32
MAX_TRACK_ARGUMENTS = 10_000
MAX_LIBRARY_FOLDERS = 100
CHANNELS = ("stereo", "left", "right", "mono")
REPLAYGAIN = ("off", "track", "album")
AfterRestart = Literal["now", "stopped"]
"""As in :mod:`musicsyncd.playback.saved`, which is not imported here to keep commands quick."""

AFTER_RESTART: tuple[AfterRestart, ...] = get_args(AfterRestart)
MAX_PREAMP_DB = 24.0
MIN_BUFFER_MS, MAX_BUFFER_MS = 5.0, 2000.0
MIN_RATE_HZ, MAX_RATE_HZ = 8_000, 768_000
MAX_OUTPUT_DELAY_MS = 5000.0
MIN_CACHE_MIB, MAX_CACHE_MIB = 16, 1 << 20
MAX_CROSSFADE_S = 12.0
"""Of one track over the next; as :data:`musicsyncd.playback.timeline.MAX_FADE_MS`, which takes longer to import."""


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)


def default_name() -> str:
    """Return this machine's host name without its domain, made fit to be a name."""
    name = "".join(c for c in socket.gethostname().split(".")[0] if c.isprintable())
    return name[:MAX_NAME_CHARS].strip() or APP_NAME


def check_name(what: str, name: str) -> None:
    """Refuse a name that people could not read or type.

    Args:
        what: what is named, for the message.
        name: the name.

    Raises:
        ConfigError: it is empty, longer than 64 characters, or has characters that cannot be printed.
    """
    _require(bool(name.strip()), f"the {what}'s name is empty: give it 1 to {MAX_NAME_CHARS} characters")
    _require(
        len(name) <= MAX_NAME_CHARS,
        f"the {what}'s name has {len(name)} characters, {MAX_NAME_CHARS} is the most",
    )
    _require(name.isprintable(), f"the {what}'s name {name!r} has characters that cannot be printed")


def check_room(name: str) -> None:
    """Refuse a room's name that is no name, or that stands for "the default room" in the host's API.

    Raises:
        ConfigError: it cannot be a room's name.
    """
    check_name("room", name)
    _require(name != "-", "a room cannot be called '-': choose another name")


def parse_address(text: str, default_port: int = DEFAULT_PORT) -> tuple[str, int]:
    """Return the address and port in ``ADDRESS[:PORT]``, ``::1`` or ``[::1]:PORT``.

    Args:
        text: a host name, an IPv4 or an IPv6 address, with or without a port.
        default_port: what it is without one.

    Raises:
        ConfigError: there is no address, or the port is not 1…65535.
    """
    text = text.strip()
    address, port = text, ""
    if text.startswith("["):
        address, bracket, rest = text[1:].partition("]")
        _require(bool(bracket) and rest[:1] in ("", ":"), f"{text!r} is not an address: write [ADDRESS]:PORT")
        port = rest[1:]
        _require(rest != ":", f"{text!r} has a colon and no port: write [ADDRESS]:{default_port}")
    elif text.count(":") == 1:
        address, _, port = text.partition(":")
        _require(port != "", f"{text!r} has a colon and no port: write ADDRESS:{default_port}")
    usable = bool(address) and address.isprintable() and not any(c in " /@" for c in address)
    _require(usable, f"{text!r} is not an address: write ADDRESS or ADDRESS:PORT")
    if not port:
        return address, default_port
    usable = port.isascii() and port.isdecimal() and 1 <= int(port[:9]) <= 65535
    _require(usable, f"{port!r} in {text!r} is not a port: it is a number from 1 to 65535")
    return address, int(port)


def address_text(address: tuple[str, int]) -> str:
    """Return an address and port as :func:`parse_address` reads them: ``192.0.2.1:7783`` or ``[fe80::1%eth0]:7783``."""
    return f"[{address[0]}]:{address[1]}" if ":" in address[0] else f"{address[0]}:{address[1]}"


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """How the nodes of a room find each other.

    Attributes:
        port: of datagrams (UDP) and of media and control (TCP).
        group: the IPv4 multicast group; the IPv6 one follows from it.
        interfaces: names or addresses, of either family, of those to use; empty means every one that can multicast.
        ttl: routers that a multicast datagram may pass, plus one.
        mdns: the host announces itself by multicast DNS, and is looked for by it where the group does not come through.
    """

    port: int = DEFAULT_PORT
    group: str = DEFAULT_GROUP
    interfaces: tuple[str, ...] = ()
    ttl: int = 1
    mdns: bool = True

    def __post_init__(self) -> None:
        _require(1 <= self.port <= 65535, f"port {self.port} does not exist: it is from 1 to 65535")
        _require(0 <= self.ttl <= 255, f"a TTL of {self.ttl} does not exist: it is from 0 to 255")
        try:
            multicast = 224 <= socket.inet_pton(socket.AF_INET, self.group)[0] <= 239
        except (OSError, ValueError):
            multicast = False
        _require(
            multicast,
            f"{self.group!r} is not an IPv4 multicast address: choose one like {DEFAULT_GROUP}",
        )
        _require(len(self.interfaces) <= MAX_INTERFACES, f"more than {MAX_INTERFACES} interfaces are given")
        for interface in self.interfaces:
            check_name("interface", interface)

    @property
    def group6(self) -> str:
        """The IPv6 multicast group: ``ff12::`` and the IPv4 group, so that one option changes both.

        Transient, as nobody assigned it, and of link-local scope (RFC 4291, section 2.7): no router passes it on, and
        every interface that speaks IPv6 has an address of that scope. The first bit of an IPv4 group is set, and so
        its four bytes are in the range that RFC 3307, section 4.3, keeps for groups like this.
        """
        return socket.inet_ntop(socket.AF_INET6, socket.inet_pton(socket.AF_INET6, f"ff12::{self.group}"))


@dataclass(frozen=True, slots=True)
class HostConfig:
    """What a host is told.

    Attributes:
        name: for people.
        network: how it is found.
        paths: where its files are.
        tracks: files and folders to begin with; empty means what was in the queue.
        room: the room that always exists.
        speaker: it plays on its own sound card too.
        open: no key: whoever is on the network may listen and command.
        library: absolute paths of the folders that it keeps an index of.
        replaygain: one of :data:`REPLAYGAIN`: what is played equally loud, by the tags of the files.
        replaygain_preamp_db: added to what the tags say.
        after_restart: what played when it was killed, or the machine was, goes on where it would be ``now``, or where
            it ``stopped``.
        tls: HTTPS beside HTTP, with a certificate of its own.
        given_tls_port: for it, or None for the one after the HTTP port.
    """

    name: str = field(default_factory=default_name)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    paths: Paths = field(default_factory=Paths.find)
    tracks: tuple[str, ...] = ()
    room: str = DEFAULT_ROOM
    speaker: bool = False
    open: bool = False
    library: tuple[str, ...] = ()
    replaygain: str = "off"
    replaygain_preamp_db: float = 0.0
    after_restart: AfterRestart = "now"
    tls: bool = False
    given_tls_port: int | None = None

    def __post_init__(self) -> None:
        check_name("host", self.name)
        check_room(self.room)
        _check_library(self.library)
        _require(len(self.tracks) <= MAX_TRACK_ARGUMENTS, f"more than {MAX_TRACK_ARGUMENTS} tracks are given")
        _require(
            self.replaygain in REPLAYGAIN, f"{self.replaygain!r} is not a choice of ReplayGain: {', '.join(REPLAYGAIN)}"
        )
        _require(
            abs(self.replaygain_preamp_db) <= MAX_PREAMP_DB,
            f"a preamp of {self.replaygain_preamp_db:g} dB is too much: ±{MAX_PREAMP_DB:g} at most",
        )
        _require(
            self.after_restart in AFTER_RESTART,
            f"{self.after_restart!r} is not a choice of what to do after a restart: {', '.join(AFTER_RESTART)}",
        )
        _require(
            not self.tls or (1 <= self.tls_port <= 65535 and self.tls_port != self.network.port),
            f"port {self.tls_port} cannot be that of HTTPS: choose one from 1 to 65535, other than that of HTTP, "
            "with --tls-port",
        )

    @property
    def tls_port(self) -> int:
        """The port of HTTPS."""
        return self.network.port + 1 if self.given_tls_port is None else self.given_tls_port


@dataclass(frozen=True, slots=True)
class PeerConfig:
    """What a speaker is told.

    Attributes:
        name: for people.
        network: how it finds the host.
        paths: where its files are.
        host: ``ADDRESS[:PORT]`` of a host to try by unicast too, or None.
        device: the sound card's name or part of it, or None for the default.
        output: ``portaudio``, ``null`` (a card that is not there) or ``file:PATH.wav``.
        rate_hz: to open the card with, or None for its own.
        buffer_ms: how much sound is handed to the card ahead.
        output_delay_ms: what stands behind the card is late by this and is fed earlier; positive is
            earlier. What the host has for this peer is added.
        channels: one of :data:`CHANNELS`, or None to leave it to the host.
        cache_mib: the most that tracks may take on disk, MiB; None for 2 GiB, or a tenth of the free disk where
            that is less.
        library: absolute paths of folders with music of its own, which it need not fetch.
        open: no key.
        hooks: what it runs when sound begins and ends.
    """

    name: str = field(default_factory=default_name)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    paths: Paths = field(default_factory=Paths.find)
    host: str | None = None
    device: str | None = None
    output: str = "portaudio"
    rate_hz: int | None = None
    buffer_ms: float = 80.0
    output_delay_ms: float | None = None
    channels: str | None = None
    cache_mib: int | None = None
    library: tuple[str, ...] = ()
    open: bool = False
    hooks: HookConfig = field(default_factory=HookConfig)

    def __post_init__(self) -> None:
        check_name("peer", self.name)
        if self.host is not None:
            parse_address(self.host, self.network.port)
        check_output(self.output)
        _require(
            self.rate_hz is None or MIN_RATE_HZ <= self.rate_hz <= MAX_RATE_HZ,
            f"a rate of {self.rate_hz} Hz is not one of a sound card: {MIN_RATE_HZ} to {MAX_RATE_HZ}",
        )
        _require(
            MIN_BUFFER_MS <= self.buffer_ms <= MAX_BUFFER_MS,
            f"a buffer of {self.buffer_ms:g} ms is not usable: {MIN_BUFFER_MS:g} to {MAX_BUFFER_MS:g}",
        )
        _require(
            self.output_delay_ms is None or abs(self.output_delay_ms) <= MAX_OUTPUT_DELAY_MS,
            f"an output delay of {self.output_delay_ms} ms is too much: ±{MAX_OUTPUT_DELAY_MS:g} at most",
        )
        _require(
            self.channels is None or self.channels in CHANNELS,
            f"{self.channels!r} is not a choice of channels: {', '.join(CHANNELS)}",
        )
        _require(
            self.cache_mib is None or MIN_CACHE_MIB <= self.cache_mib <= MAX_CACHE_MIB,
            f"a cache of {self.cache_mib} MiB is not usable: {MIN_CACHE_MIB} to {MAX_CACHE_MIB}",
        )
        _check_library(self.library)

    @property
    def host_address(self) -> tuple[str, int] | None:
        """The host to try by unicast, as address and port."""
        return None if self.host is None else parse_address(self.host, self.network.port)


def _check_library(folders: tuple[str, ...]) -> None:
    _require(len(folders) <= MAX_LIBRARY_FOLDERS, f"more than {MAX_LIBRARY_FOLDERS} library folders are given")
    for folder in folders:
        _require(os.path.isabs(folder), f"{folder!r} cannot be a folder of the library: write its whole path")


def check_output(output: str) -> None:
    """Refuse what is not a way for sound to leave.

    Raises:
        ConfigError: it is none of ``portaudio``, ``null`` and ``file:PATH.wav``.
    """
    path = output.removeprefix("file:")
    to_file = path != output and path.lower().endswith(".wav") and len(path) > len(".wav")
    _require(
        to_file or output in ("portaudio", "null"),
        f"{output!r} is not an output: portaudio, null or file:PATH.wav",
    )
