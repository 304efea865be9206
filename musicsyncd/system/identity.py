"""Who a peer is: a small file in its state folder.

Owns the file ``identity.json``: the peer's id, made once, the count of its starts, which
is the epoch that its datagrams carry, and the skew of its clock as it was last known,
so that the clock starts close to right.

Every write is atomic and synced: after a power cut the file is the old one or the new
one, and no epoch is ever used twice.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Annotated

import msgspec

from musicsyncd.errors import ConfigError

MAX_SKEW_PPM = 1_000.0
"""No crystal is as far off; what claims to be is not kept."""

_FILE = "identity.json"
_MAX_FILE_BYTES = 4_096

_Id = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{16}$")]
_Epoch = Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)]
_Skew = Annotated[float, msgspec.Meta(ge=-MAX_SKEW_PPM, le=MAX_SKEW_PPM)]


class _Kept(msgspec.Struct, frozen=True):
    """The file."""

    peer_id: _Id
    epoch: _Epoch = 0
    skew_ppm: _Skew | None = None


class Identity(msgspec.Struct, frozen=True):
    """A peer's identity for this start.

    Attributes:
        peer_id: 8 bytes, the same for ever.
        epoch: of this start, greater than that of any start before.
        skew_ppm: of the last run, positive when the host's clock runs fast; None for unknown.
        folder: where it is kept.
    """

    peer_id: bytes
    epoch: int
    skew_ppm: float | None
    folder: Path


def load_identity(folder: Path) -> Identity:
    """Return who the peer with this state folder is, made if it is new, and count this start.

    Raises:
        ConfigError: the folder cannot be used, or the file in it is damaged.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        kept = _read(folder) or _Kept(os.urandom(8).hex())
        kept = msgspec.structs.replace(kept, epoch=kept.epoch + 1)
        write_atomically(folder / _FILE, msgspec.json.encode(kept))
    except OSError as error:
        raise ConfigError(f"cannot keep this speaker's identity in {folder}: {error.strerror}") from None
    return Identity(bytes.fromhex(kept.peer_id), kept.epoch, kept.skew_ppm, folder)


def save_skew(identity: Identity, skew_ppm: float) -> None:
    """Keep the skew of the clock for the next start; one that no crystal has is not kept.

    Raises:
        OSError: it cannot be saved; the peer goes on without.
    """
    if -MAX_SKEW_PPM <= skew_ppm <= MAX_SKEW_PPM:
        kept = _Kept(identity.peer_id.hex(), identity.epoch, float(skew_ppm))
        write_atomically(identity.folder / _FILE, msgspec.json.encode(kept))


def write_atomically(path: Path, data: bytes, replace: bool = True, mode: int = 0o600) -> None:
    """Write a file so that it is there as a whole or not at all, also after a power cut.

    What root writes in the folder of another user, as a service's, belongs to that user, who could not read it else.

    Args:
        path: of the file.
        data: all of it.
        replace: an existing file gives way.
        mode: of the file.

    Raises:
        FileExistsError: it exists, and ``replace`` is not set.
        OSError: it cannot be written.
    """
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with open(handle, "wb") as file:
            file.write(data)
            file.flush()
            if os.geteuid() == 0:
                owner = path.parent.stat()
                os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        if replace:
            os.replace(temporary, path)
        else:
            os.link(temporary, path)  # Unlike a rename, it fails when the name is taken.
    finally:
        Path(temporary).unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _read(folder: Path) -> _Kept | None:
    """Return what the file holds, or None when there is none yet."""
    path = folder / _FILE
    try:
        with path.open("rb") as file:
            return msgspec.json.decode(file.read(_MAX_FILE_BYTES), type=_Kept)
    except FileNotFoundError:
        return None
    except (msgspec.MsgspecError, ValueError) as error:
        raise ConfigError(f"{path} is damaged ({error}): remove it to start as a new speaker") from None
