"""What is kept of a room's transport across restarts of its host.

Owns the form of the snapshot: values that JSON has, and host times that hold for one run
of the machine. What to make of it is :mod:`musicsyncd.playback.transport`'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec

from musicsyncd.playback.timeline import MAX_SEGMENTS, Timeline

Mode = Literal["playing", "paused", "stopped"]

_Count = Annotated[int, msgspec.Meta(ge=0)]


class Saved(msgspec.Struct, frozen=True):
    """A snapshot.

    Attributes:
        mode: of the transport.
        entry: the current entry's number, 0 for none.
        frame: where it was.
        boot_id: names the run of the machine; empty: the time line is not to be taken up again.
        host_ns: when the snapshot was taken.
        head_host_ns: of the plan.
        waiting: entry and frame were held, not planned.
        timeline: as it was announced.
    """

    mode: Mode
    entry: _Count
    frame: _Count
    boot_id: str
    host_ns: _Count
    head_host_ns: _Count
    waiting: bool
    timeline: Timeline

    def plain(self) -> dict[str, object]:
        """Return it as values that JSON has."""
        plain: dict[str, object] = msgspec.to_builtins(self)
        return plain


def read_saved(snapshot: Mapping[str, object]) -> Saved | None:
    """Return what a snapshot says, or None if it is none."""
    try:
        saved = msgspec.convert(snapshot, Saved)
    except msgspec.ValidationError:
        return None
    return saved if len(saved.timeline.segments) <= MAX_SEGMENTS else None
