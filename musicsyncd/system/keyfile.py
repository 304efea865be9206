"""The room's key: its file, and the codes by which files and people carry it.

Owns the files' form and the codes'. Knows nothing of what the keys seal or sign. A host's file
holds its own secret, of which everything else is derived; a speaker's holds a join code. Both
are lines of text, so a code can be shown, copied and pasted as it stands.

A code is a letter, ``H`` for a host's secret and ``J`` for a join code, and Crockford's base 32
(no I, L, O or U; what looks alike is read alike) of the keys followed by 3 bytes of a hash of
them, in groups of four. One wrong character in 16 million such codes would not be noticed.

While a host gives its speakers a new secret, its file has both, the one in force first. A
speaker's file that was renewed has a line ``replaces …`` for each key that it had before, by
which a join code of before is told from another host's. What cannot be written, as a
credential of systemd's, is renewed in a second file, which counts for as long as it says that it replaces
what stands in the first.

Source: Douglas Crockford, "Base 32", https://www.crockford.com/base32.html.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import logging
import os
from dataclasses import dataclass
from pathlib import Path

from musicsyncd.errors import ConfigError
from musicsyncd.paths import credential_key
from musicsyncd.protocol.auth import HOST_MARK_BYTES, HOST_SECRET_BYTES, KEY_BYTES, HostKeys, RoomKeys, key_id
from musicsyncd.system.identity import write_atomically

JOIN_LINK = "MUSICSYNCD:JOIN:"
"""Stands in front of a join code in a QR code. In capitals, as the code is: QR codes take them in fewer modules."""

MAX_REPLACED = 16
"""Keys of before that a file remembers: its first one, which a unit may still name, and the last ones."""

_CHECK_BYTES = 3
_GROUP_CHARS = 4
_HOST, _JOIN = "H", "J"
_DATA_BYTES = {_HOST: HOST_SECRET_BYTES, _JOIN: KEY_BYTES + HOST_MARK_BYTES}
_CODE_CHARS = {letter: 1 + -(-8 * (count + _CHECK_BYTES) // 5) for letter, count in _DATA_BYTES.items()}
_EARLIER_CHARS = 56
"""Of a code as it was first: the key itself, and no letter in front."""

_REPLACES = "replaces"
_MAX_FILE_BYTES = 4_096
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_VALUES = {char: value for value, char in enumerate(_ALPHABET)} | {"O": 0, "I": 1, "L": 1}
_BETWEEN = frozenset(" \t\r\n-_‐‑–—.:")

_log = logging.getLogger(__name__)


# -- codes -------------------------------------------------------------------------------------


def join_code(keys: RoomKeys) -> str:
    """Return what a speaker has to know as text for people."""
    return _encode(_JOIN, keys.room_key + keys.host_mark)


def join_link(keys: RoomKeys) -> str:
    """Return the join code as a QR code carries it; :func:`parse_join_code` takes it too."""
    return JOIN_LINK + join_code(keys).replace("-", "")


def parse_join_code(text: str) -> RoomKeys:
    """Return what a join code says, typed in any case with or without spaces and dashes.

    Raises:
        ConfigError: it is none. The message never repeats the code.
    """
    keys = _parse(text)
    if isinstance(keys, HostKeys):
        raise ConfigError(
            "that is the host's own secret: keep it there; its join code is shown by `musicsyncd key show`"
        )
    return keys


def _encode(letter: str, data: bytes) -> str:
    assert len(data) == _DATA_BYTES[letter], "keys have one length"
    number = int.from_bytes(data + _check(_purpose(letter), data), "big")
    count = _CODE_CHARS[letter] - 1
    chars = "".join(_ALPHABET[number >> shift & 31] for shift in range(5 * (count - 1), -1, -5))
    return "-".join([letter, *(chars[start : start + _GROUP_CHARS] for start in range(0, count, _GROUP_CHARS))])


def _parse(text: str) -> HostKeys | RoomKeys:
    text = text.strip().upper().removeprefix(JOIN_LINK)
    chars = [char for char in text if char not in _BETWEEN]
    strange = next((char for char in chars if char not in _VALUES), None)
    if strange is not None:
        raise ConfigError(f"not a join code: {strange!r} never stands in one; copy all of the host's code")
    if len(chars) == _EARLIER_CHARS and _checked(chars, "join code", KEY_BYTES) is not None:
        raise ConfigError(
            "it is of an earlier version of musicsyncd: run `musicsyncd key new` on the host, start it again, "
            "and join every speaker again"
        )
    letter = chars[0] if chars else ""
    if letter not in _CODE_CHARS:
        raise ConfigError(f"not a join code: it does not begin with {_JOIN}; copy all of the host's code")
    if len(chars) != _CODE_CHARS[letter]:
        raise ConfigError(
            f"not a join code: it has {len(chars)} letters and digits instead of {_CODE_CHARS[letter]}; "
            "copy all of the host's code"
        )
    data = _checked(chars[1:], _purpose(letter), _DATA_BYTES[letter])
    if data is None:
        raise ConfigError("the join code has a typing error: compare it with the host's, group by group")
    return HostKeys(data) if letter == _HOST else RoomKeys(data[:KEY_BYTES], data[KEY_BYTES:])


def _checked(chars: list[str], purpose: str, count: int) -> bytes | None:
    """Return the ``count`` bytes that characters stand for, or None if the bytes that check them do not fit."""
    number = 0
    for char in chars:
        number = number << 5 | _VALUES[char]
    if number.bit_length() > 8 * (count + _CHECK_BYTES):
        return None
    data = number.to_bytes(count + _CHECK_BYTES, "big")
    return data[:count] if hmac.compare_digest(_check(purpose, data[:count]), data[count:]) else None


def _purpose(letter: str) -> str:
    return {_HOST: "host secret", _JOIN: "room keys"}[letter]


def _check(purpose: str, data: bytes) -> bytes:
    return hashlib.sha256(f"musicsyncd {purpose}".encode() + data).digest()[:_CHECK_BYTES]


# -- files -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Kept:
    """What a file holds: the keys in force first, and the ids of those that they replaced, the oldest first."""

    keys: tuple[HostKeys | RoomKeys, ...]
    replaces: tuple[str, ...] = ()

    @property
    def room_keys(self) -> RoomKeys:
        keys = self.keys[0]
        return keys.room_keys if isinstance(keys, HostKeys) else keys

    @property
    def host_keys(self) -> tuple[HostKeys, ...]:
        return tuple(keys for keys in self.keys if isinstance(keys, HostKeys))

    def lines(self) -> bytes:
        codes = (_encode(_HOST, keys.secret) if isinstance(keys, HostKeys) else join_code(keys) for keys in self.keys)
        return "".join(f"{line}\n" for line in (*codes, *(f"{_REPLACES} {one}" for one in self.replaces))).encode()


def load_host_keys(path: Path, rotated: Path | None = None) -> HostKeys:
    """Return the keys of the host whose file this is; without a file, they are made.

    Args:
        path: of the file.
        rotated: where newer ones are that could not be written there.

    Raises:
        ConfigError: it cannot be read or made, or holds no host's secret.
    """
    if not path.exists():
        make_host_keys(path)
        _log.info("made the room's key: `musicsyncd key show` shows the join code that speakers need")
    return _host_keys_in(path, rotated)[0]


def load_coming_keys(path: Path, rotated: Path | None = None) -> HostKeys | None:
    """Return the keys that a host was giving its speakers when it ended, or None. Arguments and errors as above."""
    return next(iter(_host_keys_in(path, rotated)[1:]), None)


def keep_host_keys(path: Path, keys: HostKeys, coming: HostKeys | None = None, rotated: Path | None = None) -> None:
    """Write a host's keys where it finds them at its next start.

    Args:
        path: of the file.
        keys: in force.
        coming: what its speakers are being given.
        rotated: where to write them if they cannot be written there.

    Raises:
        ConfigError: they cannot be written; what was there is still there.
    """
    _renew(path, (keys,) if coming is None else (keys, coming), rotated)


def load_room_keys(path: Path, rotated: Path | None = None) -> RoomKeys:
    """Return what a speaker or a command has to know, by a speaker's file or the host's own.

    A file that others may read is warned of.

    Args:
        path: of the file.
        rotated: where newer ones are that could not be written there.

    Raises:
        ConfigError: there is none, it cannot be read, or it holds no code.
    """
    return _in_force(path, rotated).room_keys


def load_room_key(path: Path, rotated: Path | None = None) -> bytes:
    """Return the room's key of 32 bytes alone, all that a command needs; as :func:`load_room_keys`, and quicker."""
    return _in_force(path, rotated).keys[0].room_key


def keep_room_keys(path: Path, keys: RoomKeys, rotated: Path | None = None) -> None:
    """Write the newer keys that a host gave to a speaker where it finds them at its next start.

    Args:
        path: of the file. A host's own stays as it is: the host writes it.
        keys: the newer ones.
        rotated: where to write them if they are not to be written there.

    Raises:
        ConfigError: they cannot be written; what was there is still there.
    """
    _renew(path, (keys,), rotated)


def is_host_file(path: Path) -> bool:
    """Return whether a file holds a host's own secret; not if it cannot be read."""
    try:
        return bool(_read(path).host_keys)
    except ConfigError:
        return False


def make_host_keys(path: Path, replace: bool = False) -> HostKeys:
    """Make a host's secret, write it to a file (mode 0600, as a whole or not at all), and return its keys.

    Args:
        path: of the file; its folder is made.
        replace: an existing key gives way.

    Raises:
        ConfigError: there is one already and ``replace`` is not set, or it cannot be written.
    """
    keys = HostKeys(os.urandom(HOST_SECRET_BYTES))
    _write(path, _Kept((keys,)), replace)
    return keys


def write_room_keys(path: Path, keys: RoomKeys) -> None:
    """Write a join code to a file (mode 0600, as a whole or not at all); an existing one gives way.

    Raises:
        ConfigError: it cannot be written.
    """
    _write(path, _Kept((keys,)), replace=True)


def join(path: Path, keys: RoomKeys, rotated: Path | None = None) -> str:
    """Take a join code that a speaker was started with, and return what there is to say of it, or nothing.

    Whoever gives a code means it, so it replaces the key of another host. A code that stands in a unit is given
    at every start, also when the host has meanwhile given this speaker a newer key: then that one stays.

    Args:
        path: of the speaker's file.
        keys: what the code says.
        rotated: where newer keys are that could not be written there.

    Raises:
        ConfigError: it is a host's file, or cannot be written.
    """
    try:
        kept = _in_force(path, rotated)
    except ConfigError:  # None is there, or none that is of any use.
        write_room_keys(path, keys)
        return f"{path} has the key now"
    if kept.room_keys == keys:
        return ""
    if _id(keys) in kept.replaces:
        return "the host has changed its key since this join code: going on with the newer one"
    if kept.host_keys:
        raise ConfigError(
            f"{path} is the secret of this machine's own host: to join another one, keep the key elsewhere "
            "with --key-file or --state-dir"
        )
    write_room_keys(path, keys)
    return f"{path} had another key: it is replaced by that of the join code"


def has_joined(path: Path, keys: RoomKeys, rotated: Path | None = None) -> bool:
    """Return whether a speaker's file has what a join code says already, or what its host has given it since.

    Arguments as of :func:`join`, which would change nothing then.
    """
    try:
        kept = _in_force(path, rotated)
    except ConfigError:
        return False
    return kept.room_keys == keys or _id(keys) in kept.replaces


def _host_keys_in(path: Path, rotated: Path | None) -> tuple[HostKeys, ...]:
    keys = _in_force(path, rotated).host_keys
    if not keys:
        raise ConfigError(
            f"{path} holds the join code of another host, and a host needs a secret of its own: "
            "give it one with --key-file or --state-dir, or replace this one with `musicsyncd key new`"
        )
    return keys


def _in_force(path: Path, rotated: Path | None) -> _Kept:
    """Return what a file holds, or what replaced it."""
    kept = _read(path)
    if rotated is not None and rotated.exists():
        try:
            newer = _read(rotated)
        except ConfigError as error:
            raise ConfigError(f"{error}; or remove it to go on with {path}") from None
        if _id(kept.keys[0]) in newer.replaces:
            return newer
    return kept


def _renew(path: Path, keys: tuple[HostKeys | RoomKeys, ...], rotated: Path | None) -> None:
    """Write keys into a file of the same kind, or else into the second one."""
    kept = _read(path)
    same_kind = isinstance(keys[0], type(kept.keys[0]))
    if same_kind and path != credential_key():
        replaces = kept.replaces if keys[0] == kept.keys[0] else (*kept.replaces, _id(kept.keys[0]))
        try:
            _write(path, _Kept(keys, replaces[:1] + replaces[1:][1 - MAX_REPLACED :]), replace=True)
            return
        except ConfigError:
            if rotated is None:
                raise
    elif rotated is None:
        raise ConfigError(f"the room key {path} is not to be written, and there is no place for a newer one")
    _write(rotated, _Kept(keys, (_id(kept.keys[0]),)), replace=True)


def _write(path: Path, kept: _Kept, replace: bool) -> None:
    if path == credential_key():
        raise ConfigError(f"the room key {path} is a credential of systemd's: change it where the unit has it from")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            write_atomically(path, kept.lines(), replace)
            return
    except OSError as error:
        raise ConfigError(f"cannot write the room key {path}: {error.strerror}") from None
    raise ConfigError(f"there is a room key at {path} already: remove it first to make another")


def _read(path: Path) -> _Kept:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(_MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError(
            f"no room key at {path}: on the host it is made at the first start, on a speaker "
            "`musicsyncd key join` takes the host's join code"
        ) from None
    except OSError as error:
        raise ConfigError(f"cannot read the room key {path}: {error.strerror}") from None
    if mode & 0o077 and path != credential_key():  # Who may read a credential is systemd's to say.
        _log.warning("the room key %s can be read by other users: chmod 600 %s", path, path)
    if not data.strip():
        raise ConfigError(f"the room key {path} is empty: take the host's join code with `musicsyncd key join`")
    try:
        return _parse_lines(data.decode("utf-8") if len(data) <= _MAX_FILE_BYTES else "?")
    except UnicodeDecodeError:
        what = f"the room key {path} holds no join code"
        raise ConfigError(f"{what}: take the host's with `musicsyncd key join`") from None
    except ConfigError as error:
        raise ConfigError(f"the room key {path} cannot be used: {error}") from None


def _parse_lines(text: str) -> _Kept:
    codes: list[str] = []
    replaces: list[str] = []
    for line in filter(str.strip, text.splitlines()):
        words = line.split()
        if words[:1] == [_REPLACES] and len(words) == 2:
            replaces.append(words[1])
        elif not codes or line.lstrip().upper().startswith((f"{_HOST}-", f"{_JOIN}-")):
            codes.append(line)
        else:  # A code that somebody's editor has wrapped.
            codes[-1] += line
    keys = tuple(_parse(code) for code in codes) or (_parse(""),)
    if len(keys) > 2 or (len(keys) == 2 and not all(isinstance(one, HostKeys) for one in keys)):
        raise ConfigError("it holds more than one code: leave the right one")
    return _Kept(keys, tuple(replaces))


def _id(keys: HostKeys | RoomKeys) -> str:
    return key_id(keys.room_key).hex()
