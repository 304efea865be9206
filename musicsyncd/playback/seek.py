"""Places in a track as people write them.

Owns the notation. Knows nothing of queues or time lines.
"""

from __future__ import annotations

import re
from fractions import Fraction

from musicsyncd.errors import ControlError

_SEEK = re.compile(
    r"(?P<sign>[+-]?)(?:(?:(?P<hours>\d{1,3}):(?=[0-5]\d:))?(?P<minutes>\d{1,3}):(?=[0-5]\d(?!\d)))?"
    r"(?P<seconds>\d{1,7}(?:\.\d{1,9})?)|(?P<percent>\d{1,3}(?:\.\d{1,9})?)%",
    re.ASCII,
)


def format_position(duration_s: float) -> str:
    """Return a length of time as a person writes it: ``3:05`` or ``1:02:03``."""
    minutes, seconds = divmod(int(duration_s), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def parse_seek(target: str, position_frames: int, length_frames: int, rate_hz: int) -> int:
    """Return the frame that a person means.

    Args:
        target: ``1:30``, ``1:02:03``, ``90``, ``90.5``, ``50%``, or ``+10`` and ``-0:10`` from where it is.
        position_frames: where it is.
        length_frames: of the track.
        rate_hz: of the track.

    Returns:
        The frame, rounded down, 0 … length − 1. What lies before the start is the start.

    Raises:
        ControlError: it means nothing, or lies at or past the end.
    """
    match = _SEEK.fullmatch(target.strip())
    if match is None:
        raise ControlError(f"cannot seek to {target[:40]!r}: say 1:30, 90, +10, -10 or 50%")
    if match["percent"] is not None:
        frame = int(Fraction(match["percent"]) * length_frames / 100)
    else:
        seconds = int(match["hours"] or 0) * 3600 + int(match["minutes"] or 0) * 60 + Fraction(match["seconds"])
        frame = int(seconds * rate_hz)
        if match["sign"]:
            frame = position_frames + (frame if match["sign"] == "+" else -frame)
    if frame >= length_frames:
        raise ControlError(
            f"{target.strip()} is past the end: the track is {format_position(length_frames / rate_hz)} long"
        )
    return max(0, frame)
