"""Targets that read what is kept on disk and what people write: configuration, keys, the state of host and speaker."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from pathlib import Path
from typing import Any

import msgspec
from click.testing import CliRunner
from host_rig import BOOT, Host, S

from musicsyncd.cli import cli
from musicsyncd.cli.settings import SECTIONS, read_file
from musicsyncd.errors import ConfigError, MediaError, MusicSyncError
from musicsyncd.media.library import Read, Stamp
from musicsyncd.media.parts import journal_of
from musicsyncd.media.queue import Item
from musicsyncd.media.store import Store
from musicsyncd.media.tags import Tags
from musicsyncd.playback.saved import Saved, read_saved
from musicsyncd.playback.timeline import Segment, Timeline, Track
from musicsyncd.protocol.auth import HostKeys
from musicsyncd.protocol.wire import MAX_DATAGRAM_BYTES
from musicsyncd.system import host_daemon, keyfile, peer_daemon
from musicsyncd.system.identity import load_identity
from musicsyncd.system.library_index import LibraryIndex

from .folder import FOLDER, fresh, made, one_line, piece, pieces

_COMMANDS = sorted({"host", "peer", "demo", *SECTIONS})
_HOST_KEYS = HostKeys(bytes(range(32)))
_KEYS = _HOST_KEYS.room_keys
_TRACK = Track(bytes(range(32)), 5000, 44_100, 88_200, 2)


def config(data: bytes) -> None:
    """A configuration file: names, types and paths."""
    try:
        read_file(made("config/musicsyncd.toml", data), _COMMANDS)
    except ConfigError as error:
        one_line(error)


def options(data: bytes) -> None:
    """The same file as a daemon takes it: all that it says, up to where the daemon would begin."""
    command = "host" if data[:1] == b"h" else "peer"
    daemon: Any = host_daemon if command == "host" else peer_daemon
    file, real = made("config/whole.toml", data[1:]), daemon.run
    daemon.run = _begin
    try:
        words = [command, "--config", str(file)]
        done = CliRunner().invoke(cli, words, env={"HOME": str(FOLDER)}, catch_exceptions=True)
    finally:
        daemon.run = real
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code in (0, 1, 2), f"it ended with {done.exit_code}"


def _begin(config: Any, reread: Any) -> None:
    """Do what a daemon does first with what it was told."""
    for path in (config.paths.state_dir, config.paths.cache_dir, config.paths.runtime_dir, config.paths.key_file):
        try:
            path.exists()
        except OSError as error:
            raise ConfigError(str(error)) from None


def identity(data: bytes) -> None:
    try:
        load_identity(made("identity/identity.json", data).parent)
    except ConfigError as error:
        one_line(error)


def journal(data: bytes) -> None:
    """The journal of a track that was being fetched: what it says is there must be within the track."""
    folder = fresh("journal")
    name = f"{_TRACK.content_id.hex()}.x.part"
    part = made(f"journal/{name}", b"")
    with part.open("wb") as file:
        file.truncate(_TRACK.size_bytes)
    journal_of(part).write_bytes(data)
    try:
        stored = Store(folder, 1 << 30, boot_id="boot", disk=_roomy).open(_TRACK)
    except MediaError as error:
        one_line(error)
        return
    assert 0 <= stored.missing_bytes <= _TRACK.size_bytes


def _roomy(_folder: Path) -> tuple[int, int]:
    return 1 << 40, 1 << 41


def snapshot(data: bytes) -> None:
    """What a room played when its host ended, as values that JSON has."""
    try:
        plain = msgspec.json.decode(data, type=dict[str, object])
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return
    saved = read_saved(plain)
    if saved is not None:
        list(saved.timeline.spans())
        saved.away_duration_ns(1.8e9)
        assert read_saved(saved.plain()) == saved


def rows(data: bytes) -> None:
    """A host's database whose rooms and tracks are damaged, or were written by somebody else."""
    asyncio.run(_rows(data))


async def _rows(data: bytes) -> None:
    folder = fresh("rows")
    host = Host(folder)
    room = host.room()
    room.queue.add([Item("/music/one.flac", "One", "", 2.0), Item("/music/two.flac", "Two", "", 2.0)])
    room.queue.set_prepared(1, _TRACK)
    host.control.after_change(room)
    host.end()
    _damage(folder / "state.sqlite", data)
    try:
        host = Host(folder, now_ns=2000 * S)
    except MusicSyncError as error:
        one_line(error)
        return
    try:
        json.dumps(host.control.status(), allow_nan=False)
        host.control.queues.show("main")
        assert all(len(one.data) <= MAX_DATAGRAM_BYTES for one in host.node.datagrams_to_send(host.now_ns))
        host.control.room_volume("main", "+1")
        host.control.queues.clear("main")
        assert not host.control.unsaved, host.control.unsaved
    finally:
        host.end()


def _damage(file: Path, data: bytes) -> None:
    """Put the pieces of an input into the columns that their first bytes say."""
    columns = ("snapshot", "queue_order", "plain_order", "repeat", "fade_ms", "volume", "queue_revision", "next_number")
    database = sqlite3.connect(file)
    with database:
        for which, text in pieces(data, 16):
            if which % 16 < len(columns):
                is_number = which % 16 >= columns.index("fade_ms")
                value = int.from_bytes(text[:8], "big", signed=True) if is_number else text
                database.execute(f"UPDATE rooms SET {columns[which % 16]} = ?", (value,))
            elif which % 16 < 12:
                database.execute("UPDATE entries SET track = ?", (text,))
            else:
                database.execute("UPDATE entries SET path = ?, title = ?", (text, text.decode("utf-8", "replace")))
    database.close()


def search(data: bytes) -> None:
    """The library's index: what a track says of itself, and what is looked for."""
    texts = [text.decode("utf-8", "replace") for _, text in pieces(data, 3)]
    title, words, artist = (*texts, "", "", "")[:3]
    index = LibraryIndex(fresh("search") / "library.sqlite3")
    try:
        index.apply([Read("/music/1.flac", Stamp(1, 1), Tags(title, artist, words, duration_s=1.0, rate_hz=8000))])
        index.search(words, 5)
        index.albums(words, limit=5)
        index.artists(words, limit=5)
        index.albums(words, artist, 5)
        assert not index.damaged, index.damaged
    finally:
        index.close()


def keys(data: bytes) -> None:
    """What people type as a join code, and what stands in the files of keys."""
    try:
        found = keyfile.parse_join_code(data.decode("utf-8", "replace"))
        assert keyfile.parse_join_code(keyfile.join_code(found)) == found
        assert keyfile.parse_join_code(keyfile.join_link(found)) == found
    except ConfigError as error:
        one_line(error)
    file, newer = made("keys/room.key", data), FOLDER / "keys" / "rotated.key"
    newer.unlink(missing_ok=True)
    for load in (keyfile.load_room_keys, keyfile.load_host_keys, keyfile.load_coming_keys):
        try:
            load(file)
        except ConfigError as error:
            one_line(error)
    made("keys/room.key", f"{keyfile.join_code(_KEYS)}\n".encode())
    made("keys/rotated.key", data)
    try:
        keyfile.load_room_keys(file, newer)
    except ConfigError as error:
        one_line(error)


def config_seeds() -> list[bytes]:
    whole = """
[common]
port = 7783
group = "239.255.77.83"
interface = ["lo", "eth0"]
state-dir = "state"
key-file = "~/room.key"
open = false
[host]
name = "den"
tracks = ["a.flac", "~/b"]
library = "music"
speaker = true
replaygain = "album"
replaygain-preamp-db = -1.5
[peer]
output = "null"
buffer-ms = 80
channels = "left"
cache-mib = 100
[status]
watch = true
interval = 0.5
"""
    odd = (
        "[host]\nname = '''a\nb'''",
        '[common]\nhost = "[::1]:7"',
        "a = {b = [1, 2.5e3, 0x1f, 1979-05-27T07:32:00Z]}",
    )
    odd += ('[common]\nkey-file = "~nosuchuser/x"', "x = " + "[" * 900)
    odd += ('[common]\nkey-file = "a\\u0000b"', "[host]\ntracks = []", "\ufeff[peer]\nrate = 48_000")
    return [one.encode() for one in (whole, *odd)]


def options_seeds() -> list[bytes]:
    return [first + seed for first in (b"h", b"p") for seed in config_seeds()]


def identity_seeds() -> list[bytes]:
    kept = {"peer_id": "0011223344556677", "epoch": 7, "skew_ppm": -12.5}
    return [json.dumps(kept).encode(), json.dumps(kept | {"skew_ppm": None, "more": [1]}).encode()]


def journal_seeds() -> list[bytes]:
    """One that the store has written, and what may follow in it."""
    folder = fresh("begun")
    stored = Store(folder, 1 << 30, boot_id="boot", disk=_roomy).open(_TRACK)
    stored.write(0, bytes(1000))
    stored.write(3000, bytes(10))
    written = journal_of(next(folder.glob("*.part"))).read_bytes()
    return [written, written + b"sync\n4000 4999\n4000", written.replace(b"boot", b"other") + b"sync\n"]


def snapshot_seeds() -> list[bytes]:
    line = Timeline((Segment(100 * S, 1, 5, _TRACK), Segment(200 * S, 2, 0, _TRACK, 500), Segment(300 * S)))
    playing = Saved("playing", 1, 5, BOOT, 1000 * S, 100 * S, False, line, 1.7e9)
    stopped = Saved("stopped", 0, 0, "", 1, 0, True, Timeline())
    return [msgspec.json.encode(one.plain()) for one in (playing, stopped)]


def rows_seeds() -> list[bytes]:
    track = msgspec.msgpack.encode(_TRACK)
    seeds = [piece(0, one) for one in snapshot_seeds()]
    seeds += [piece(1, b"[2,1]"), piece(2, b"[1,2]"), piece(3, b"all"), piece(4, bytes(7) + b"\x40"), piece(8, track)]
    return [*seeds, b"".join(seeds), piece(5, b"\xff" * 8), piece(7, bytes(8)), piece(12, b"/music/\xff.flac")]


def search_seeds() -> list[bytes]:
    texts = ("Blue Öde moon", "blue mo", "artist", '"a" OR NEAR(b) *', "ﬁ İstanbul ß 東京", "-x:y^z")
    return [piece(0, a.encode()) + piece(0, b.encode()) + piece(0, b"artist") for a in texts for b in texts[:3]]


def keys_seeds() -> list[bytes]:
    code, secret = keyfile.join_code(_KEYS), keyfile._encode("H", _HOST_KEYS.secret)
    texts = [code, code.lower().replace("-", " "), keyfile.join_link(_KEYS), secret]
    return [text.encode() for text in (*texts, f"{secret}\n{secret}\nreplaces 00112233\n")]
