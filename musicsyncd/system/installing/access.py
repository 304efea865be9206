"""Whether the service's user gets at a file: by the modes of everything on the way to it.

Owns nothing. The permissions are read and not tried, because the user may not be there yet; lists of permissions
beside the modes (ACLs) are not looked at.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

from musicsyncd.system.installing.place import Account

HIDDEN = ("home", "root", "run/user")
"""Folders that ``ProtectHome=yes`` hides from a service."""


def blocker(path: Path, account: Account | None, root: Path) -> Path | None:
    """Return the first file or folder that keeps a user from reading a file or listing a folder, or None.

    Args:
        path: absolute, below ``root``. What is not there keeps nobody out.
        account: the user; None for one who is neither owner nor of any group.
        root: above it nothing is looked at.
    """
    for way in dict.fromkeys((path, path.resolve())):
        for part in (*_folders(way, root), way):
            try:
                status = part.stat()
            except FileNotFoundError:
                return None
            except OSError:
                return part
            wanted = (0o5 if stat.S_ISDIR(status.st_mode) else 0o4) if part == way else 0o1
            if _bits(status.st_mode, status.st_uid, status.st_gid, account) & wanted != wanted:
                return part
    return None


def lies_at_home(path: Path, root: Path) -> bool:
    """Return whether a path, or what it points to, lies where ``ProtectHome=yes`` lets a service see nothing."""
    homes = [root / one for one in HIDDEN]
    return any(way.is_relative_to(home) for way in (path, path.resolve()) for home in homes)


def _folders(path: Path, root: Path) -> Iterator[Path]:
    """Yield the folders above a path, from below the root on."""
    return (one for one in reversed(path.parents) if one != root and one.is_relative_to(root))


def _bits(mode: int, uid: int, gid: int, account: Account | None) -> int:
    if account is not None and account.uid == 0:
        return 0o7
    if account is not None and account.uid == uid:
        return mode >> 6 & 0o7
    if account is not None and gid in account.gids:
        return mode >> 3 & 0o7
    return mode & 0o7
