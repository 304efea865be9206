"""The speakers whose daemons run on this machine, asked over their local sockets. Standard library only: for commands.

Owns where the sockets are and how their answers are read. What is in an answer is said by
:mod:`musicsyncd.system.peer_account`; one that is no JSON object, too long or too late is none.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import socket
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from musicsyncd.paths import SYSTEM_RUNTIME_DIR

MAX_SOCKETS = 64
MAX_ANSWER_BYTES = 1 << 20
ANSWER_WITHIN_S = 2.0
MAX_SOCKET_NAME_BYTES = 48
"""Of a socket's file: a path has 107 bytes in all (unix(7)), a speaker's name up to 256."""


def socket_path(runtime_dir: Path, name: str) -> Path:
    """Return where the speaker of this name answers.

    Args:
        runtime_dir: of the daemon.
        name: fit to be a file's name.
    """
    file = f"peer-{name}.sock"
    if len(file.encode()) > MAX_SOCKET_NAME_BYTES:
        file = f"peer-{hashlib.sha256(name.encode()).hexdigest()[:16]}.sock"
    return runtime_dir / file


def answers(path: Path) -> bool:
    """Return whether somebody listens on a socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(ANSWER_WITHIN_S)
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def local_peers(runtime_dir: Path, others: Iterable[Path] = (SYSTEM_RUNTIME_DIR,)) -> list[dict[str, Any]]:
    """Return what the speakers of this machine say of themselves, by the names of their sockets.

    Args:
        runtime_dir: of this user.
        others: folders to look at after it.
    """
    found = []
    for folder in dict.fromkeys((runtime_dir, *others)):
        with contextlib.suppress(OSError):
            for path in sorted(folder.glob("peer-*.sock"))[:MAX_SOCKETS]:
                account = _ask(path)
                if account is not None:
                    found.append(account)
    return found[:MAX_SOCKETS]


def _ask(path: Path) -> dict[str, Any] | None:
    deadline_s = time.monotonic() + ANSWER_WITHIN_S
    data = b""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        try:
            asking.settimeout(ANSWER_WITHIN_S)
            asking.connect(str(path))
            while len(data) <= MAX_ANSWER_BYTES:
                asking.settimeout(max(0.001, deadline_s - time.monotonic()))
                piece = asking.recv(65_536)
                if not piece:
                    break
                data += piece
        except OSError:
            return None
    if len(data) > MAX_ANSWER_BYTES:
        return None
    try:
        account = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return account if isinstance(account, dict) else None
