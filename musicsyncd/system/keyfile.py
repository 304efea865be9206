"""The room key: its file, and the join code by which people carry it.

Owns the file's form and the code's. Knows nothing of what the key seals. The key is 32
random bytes; the file holds one line, the join code, so showing, copying and pasting
are all the same text.

A join code is Crockford's base 32 (no I, L, O or U; what looks alike is read alike), the
key followed by 3 bytes of a hash of it, 56 characters in groups of four. One wrong
character in 16 million such codes would not be noticed.

Source: Douglas Crockford, "Base 32", https://www.crockford.com/base32.html.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import logging
import os
from pathlib import Path

from musicsyncd.errors import ConfigError
from musicsyncd.system.identity import write_atomically

KEY_BYTES = 32

CODE_CHARS = 56
"""Of a join code without its dashes: (32 + 3) · 8 / 5."""

_CHECK_BYTES = 3
_GROUP_CHARS = 4
_MAX_FILE_BYTES = 4_096
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_VALUES = {char: value for value, char in enumerate(_ALPHABET)} | {"O": 0, "I": 1, "L": 1}
_BETWEEN = frozenset(" \t\r\n-_‐‑–—.:")

_log = logging.getLogger(__name__)


def join_code(key: bytes) -> str:
    """Return a 32-byte key as text for people: 14 groups of four, with dashes between."""
    assert len(key) == KEY_BYTES, "a room key has 32 bytes"
    number = int.from_bytes(key + _check(key), "big")
    chars = [_ALPHABET[number >> shift & 31] for shift in range(5 * (CODE_CHARS - 1), -1, -5)]
    groups = ("".join(chars[start : start + _GROUP_CHARS]) for start in range(0, CODE_CHARS, _GROUP_CHARS))
    return "-".join(groups)


def parse_join_code(text: str) -> bytes:
    """Return the 32-byte key of a join code, typed in any case with or without spaces and dashes.

    Raises:
        ConfigError: it is none. The message never repeats the code.
    """
    chars = [char for char in text.upper() if char not in _BETWEEN]
    strange = next((char for char in chars if char not in _VALUES), None)
    if strange is not None:
        raise ConfigError(f"not a join code: {strange!r} never stands in one; copy all of the host's code")
    if len(chars) != CODE_CHARS:
        raise ConfigError(
            f"not a join code: it has {len(chars)} letters and digits instead of {CODE_CHARS}; copy all of the host's"
        )
    number = 0
    for char in chars:
        number = number << 5 | _VALUES[char]
    data = number.to_bytes(KEY_BYTES + _CHECK_BYTES, "big")
    key = data[:KEY_BYTES]
    if not hmac.compare_digest(_check(key), data[KEY_BYTES:]):
        raise ConfigError("the join code has a typing error: compare it with the host's, group by group")
    return key


def load_key(path: Path) -> bytes:
    """Return the 32-byte key in a file; a file that others may read is warned of.

    Raises:
        ConfigError: there is none, it cannot be read, or it holds no join code.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(_MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError(
            f"no room key at {path}: on the host it is made at the first start; copy it here or set MUSICSYNCD_KEY_FILE"
        ) from None
    except OSError as error:
        raise ConfigError(f"cannot read the room key {path}: {error.strerror}") from None
    if mode & 0o077:
        _log.warning("the room key %s can be read by other users: chmod 600 %s", path, path)
    if not data.strip():
        raise ConfigError(f"the room key {path} is empty: copy the host's here again")
    try:
        return parse_join_code(data.decode("utf-8") if len(data) <= _MAX_FILE_BYTES else "?")
    except UnicodeDecodeError:
        raise ConfigError(f"the room key {path} holds no join code: copy the host's here again") from None
    except ConfigError as error:
        raise ConfigError(f"the room key {path} cannot be used: {error}") from None


def make_key(path: Path, replace: bool = False) -> bytes:
    """Make a random key, write it to a file (mode 0600, as a whole or not at all), and return it.

    Args:
        path: of the file; its folder is made.
        replace: an existing key gives way.

    Raises:
        ConfigError: there is one already and ``replace`` is not set, or it cannot be written.
    """
    key = os.urandom(KEY_BYTES)
    write_key(path, key, replace)
    return key


def write_key(path: Path, key: bytes, replace: bool = False) -> None:
    """Write a 32-byte key to a file, as :func:`make_key` does.

    Raises:
        ConfigError: there is one already and ``replace`` is not set, or it cannot be written.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            write_atomically(path, f"{join_code(key)}\n".encode(), replace)
            return
    except OSError as error:
        raise ConfigError(f"cannot write the room key {path}: {error.strerror}") from None
    raise ConfigError(f"there is a room key at {path} already: remove it first to make another")


def _check(key: bytes) -> bytes:
    return hashlib.sha256(b"musicsyncd join code" + key).digest()[:_CHECK_BYTES]
