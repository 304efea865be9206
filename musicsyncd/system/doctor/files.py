"""Checks of what is kept and what is installed: key, disk, port, libraries."""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import socket
import stat
import tempfile
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from musicsyncd import __version__
from musicsyncd.media.store import disk_space, reserve_bytes
from musicsyncd.paths import credential_key
from musicsyncd.system.doctor.finding import Finding, Patient

_MIB = 1 << 20
_WRITTEN_BYTES = 4096
_SLOW_S = 1.0
_TIGHT_BYTES = 200 * _MIB
"""Some five tracks: below it a speaker fetches the same ones again and again."""

_PACKAGES = ("numpy", "sounddevice", "soundfile", "msgspec", "aiohttp", "cryptography")


def check_key(patient: Patient) -> Iterator[Finding]:
    """Look at the room's key."""
    if patient.open:
        advice = "leave --open out, and take the host's join code with `musicsyncd key join`"
        yield Finding("key", "advice", "an open room: whoever is on this network may command it", advice)
        return
    path = patient.paths.key_file
    follows = any(one.get("host", {}).get("state") == "there" for one in patient.speakers)
    if patient.room_key is None and (follows or patient.host_status is not None):
        said = f"what runs here has one, and this user does not see it: {path}"
        yield Finding("key", "skipped", said, "--state-dir names the folder of what runs here, --key-file the key")
        return
    if patient.room_key is None:
        # What says so says what to do, too.
        yield Finding("key", "bad", patient.key_fault)
        return
    mode = _mode(path)
    if mode is not None and mode & 0o077 and path != credential_key():
        yield Finding("key", "advice", f"other users may read {path}", f"chmod 600 {path}")
    else:
        yield Finding("key", "good", f"{path}, for its owner only")


def _mode(path: Path) -> int | None:
    with contextlib.suppress(OSError):
        return stat.S_IMODE(path.stat().st_mode)
    return None


def check_disk(patient: Patient) -> Iterator[Finding]:
    """Look at the disks of state and cache."""
    folders = {"state": patient.paths.state_dir, "cache": patient.paths.cache_dir}
    for what, folder in folders.items():
        yield judge_folder(what, folder)


def judge_folder(what: str, folder: Path) -> Finding:
    """Judge the folder that something is kept in, by writing there what is synced and removed again.

    Args:
        what: is kept there.
        folder: need not be there yet: then the one that it is to be made in.
    """
    name = f"disk of the {what}"
    there = next((one for one in (folder, *folder.parents) if one.is_dir()), Path("/"))
    try:
        free_bytes, total_bytes = disk_space(there)
        began_s = time.monotonic()
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(bytes(_WRITTEN_BYTES))
            file.flush()
            os.fsync(file.fileno())
        took_s = time.monotonic() - began_s
    except OSError as error:
        advice = f"let this user write there, or choose another with --{what}-dir"
        return Finding(name, "bad", f"cannot write in {there}: {error.strerror}", advice)
    said = f"{folder}: {free_bytes // _MIB} MiB free, a synced write takes {took_s * 1000:.0f} ms"
    if free_bytes <= reserve_bytes(total_bytes):
        return Finding(name, "bad", f"{said}: less than what is always left free", "remove something there")
    if what == "cache" and free_bytes - reserve_bytes(total_bytes) < _TIGHT_BYTES:
        return Finding(name, "advice", f"{said}: room for few tracks", "remove something there, or --cache-dir")
    if took_s > _SLOW_S:
        return Finding(name, "advice", f"{said}: slow", "a worn SD card or a busy disk? a better card, or an SSD")
    return Finding(name, "good", said)


def check_port(patient: Patient) -> Iterator[Finding]:
    """Look at whether a host could have its port here, where none runs."""
    port = patient.network.port
    if patient.host_status is not None:
        yield Finding("port", "good", f"{port} is the host's that runs here")
        return
    taken = [kind for kind in ("TCP", "UDP") if _is_taken(kind, port)]
    if taken:
        said = f"{' and '.join(taken)} port {port} is taken: no host of your own could start here"
        yield Finding("port", "advice", said, f"ss -lntup 'sport = :{port}' says by whom; --port chooses another")
    else:
        yield Finding("port", "good", f"{port} is free for a host")


def _is_taken(kind: str, port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM if kind == "TCP" else socket.SOCK_DGRAM) as probe:
        # As a host has it: speakers share the group's port, and connections that have ended do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", port))
        except OSError as error:
            return error.errno == errno.EADDRINUSE
    return False


def check_versions(_: Patient) -> Iterator[Finding]:
    """Say what is installed: the first thing that somebody who is to help asks."""
    missing, said = [], [f"musicsyncd {__version__}", f"Python {platform.python_version()}", platform.machine()]
    for package in _PACKAGES:
        try:
            said.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            missing.append(package)
    if missing:
        advice = "install musicsyncd anew: pip install --force-reinstall musicsyncd"
        yield Finding("versions", "bad", f"missing: {', '.join(missing)}", advice)
    else:
        yield Finding("versions", "good", ", ".join(said))
    yield Finding("system", "good", f"{platform.system()} {platform.release()}{_distribution()}")


def _distribution() -> str:
    try:
        return ", " + platform.freedesktop_os_release().get("PRETTY_NAME", "")
    except OSError:
        return ""
