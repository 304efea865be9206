"""What targets share: a folder in memory, gone with the process, inputs made of several pieces, what errors say."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

_MEMORY = Path("/dev/shm")

PARENT = "FUZZ_FOLDER"
"""Names the variable with the folder in which to make ours: atheris ends the process without any farewell."""


def parent() -> str | None:
    """Return where folders of our own are made: in memory, where there is such a place."""
    return os.environ.get(PARENT) or (str(_MEMORY) if _MEMORY.is_dir() else None)


FOLDER = Path(tempfile.mkdtemp(prefix="fuzz", dir=parent()))
atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)


def made(name: str, data: bytes) -> Path:
    """Write a file and return it."""
    path = FOLDER / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def fresh(name: str) -> Path:
    """Return an empty folder."""
    shutil.rmtree(FOLDER / name, ignore_errors=True)
    (FOLDER / name).mkdir(parents=True)
    return FOLDER / name


def pieces(data: bytes, most: int) -> Iterator[tuple[int, bytes]]:
    """Yield pairs of a byte and a text of so many bytes as the two behind it say, at most so many pairs."""
    at = 0
    for _ in range(most):
        if len(data) - at < 3:
            return
        size_bytes = int.from_bytes(data[at + 1 : at + 3], "big")
        yield data[at], data[at + 3 : at + 3 + size_bytes]
        at += 3 + size_bytes


def piece(first: int, text: bytes) -> bytes:
    """Return what :func:`pieces` reads."""
    return bytes([first]) + len(text).to_bytes(2, "big") + text


def one_line(error: Exception) -> None:
    """What a documented error says can be shown to a person as it is."""
    assert str(error).isprintable(), f"{str(error)!r} is no line"
