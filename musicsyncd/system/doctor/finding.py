"""What a check finds, and what it is given to look at."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from musicsyncd.config import NetworkConfig
from musicsyncd.errors import MusicSyncError
from musicsyncd.paths import Paths

Verdict = Literal["good", "advice", "bad", "skipped"]
"""``advice``: it plays, and could play better. ``bad``: it does not play well before this is seen to."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the examination.

    Attributes:
        name: of what was looked at.
        verdict: how it is.
        line: what is so.
        advice: what to do about it; empty where nothing is to be done.
    """

    name: str
    verdict: Verdict
    line: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Patient:
    """The machine, and what is known of what runs on it.

    Attributes:
        network: how nodes find each other.
        paths: where files are.
        host: the address and port of the host, as far as they are known.
        room_key: 32 bytes; None where there is none, with ``key_fault`` saying why.
        key_fault: why there is no key.
        open: there is no key on purpose.
        speakers: what the speakers of this machine say, see :mod:`musicsyncd.system.peer_account`.
        host_status: of a host on this machine; None without one.
        device: the sound card that is meant; None for the default.
        sound_s: how long to listen to the card; 0 only opens it.
        listen_s: how long to wait for the group.
    """

    network: NetworkConfig
    paths: Paths
    host: tuple[str, int] | None = None
    room_key: bytes | None = None
    key_fault: str = ""
    open: bool = False
    speakers: list[dict[str, Any]] = field(default_factory=list)
    host_status: dict[str, Any] | None = None
    device: str | None = None
    sound_s: float = 10.0
    listen_s: float = 5.0

    @property
    def is_host_only(self) -> bool:
        """A host runs here and no speaker: sound is not this machine's business."""
        return self.host_status is not None and not self.speakers


Check = Callable[[Patient], Iterable[Finding]]


def found_by(name: str, check: Check, patient: Patient) -> list[Finding]:
    """Return what a check finds; what it stumbles over is a finding, too.

    Args:
        name: of the check, for that case.
        check: to be made.
        patient: to look at.
    """
    try:
        return list(check(patient))
    except (MusicSyncError, OSError) as error:
        return [Finding(name, "skipped", f"it cannot be looked at: {error}")]
