"""What is kept of a room's transport across restarts of its host.

Owns the form of the snapshot: values that JSON has, and host times that hold for one run
of the machine. What to make of it is :mod:`musicsyncd.playback.transport`'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec

from musicsyncd.playback.timeline import MAX_SEGMENTS, Timeline
from musicsyncd.units import s_to_ns

Mode = Literal["playing", "paused", "stopped"]

AfterRestart = Literal["now", "stopped"]
"""Where a restarted host goes on: where the music would be now, or where it stopped."""

EARLIEST_DAY_S = 1_704_067_200.0
"""2024 began, seconds since 1970: a clock of the day that shows less has not been set since the machine started."""

MAX_AWAY_S = 86_400.0
"""Music that would have played on for longer than a day is nothing that anybody is still waiting for."""

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
        day_s: host_ns by the clock of the day, seconds since 1970; 0 for unknown.
    """

    mode: Mode
    entry: _Count
    frame: _Count
    boot_id: str
    host_ns: _Count
    head_host_ns: _Count
    waiting: bool
    timeline: Timeline
    day_s: float = 0.0

    def away_duration_ns(self, day_s: float) -> int | None:
        """Return how long ago the snapshot was taken by the clock of the day, or None if that clock cannot be believed.

        A machine without a battery for its clock starts in 1970, or where it was when it last ran. So a snapshot
        from the future, from before 2024 or from more than a day ago says nothing.

        Args:
            day_s: this instant, seconds since 1970.
        """
        away_s = day_s - self.day_s
        if self.day_s < EARLIEST_DAY_S or not 0.0 <= away_s <= MAX_AWAY_S:
            return None
        return s_to_ns(away_s)

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
