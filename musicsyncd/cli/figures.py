"""Numbers and texts as people like to read them: units that suit the size, nothing a terminal might obey.

Light to import: every command prints something.
"""

from __future__ import annotations

import time
import unicodedata

_US_PER_S = 1e6
_S_PER_MINUTE, _S_PER_HOUR, _S_PER_DAY = 60, 3600, 86_400


def clean(text: str) -> str:
    """Return a text from elsewhere without what a terminal might obey: a track's title is anybody's."""
    return "".join(c if c.isprintable() else "�" for c in text)


def columns_of(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return len(text) + wide - sum(unicodedata.combining(c) != 0 for c in text)


def shortened(text: str, columns: int) -> str:
    """Return a text that takes no more columns, with an ellipsis where it was cut."""
    if columns_of(text) <= columns:
        return text
    while text and columns_of(text) > columns - 1:
        text = text[:-1]
    return text + "…"


def duration_us(microseconds: float, *, signed: bool = False) -> str:
    """Return a length of time with about three digits, in the unit that suits it.

    Args:
        microseconds: its length.
        signed: write a plus, too.
    """
    sign = "-" if microseconds < 0 else "+" if signed else ""
    size = abs(microseconds)
    if size < 0.05:
        return "0 µs"
    if size < 9.95:
        return f"{sign}{size:.1f} µs"
    if size < 999.5:
        return f"{sign}{size:.0f} µs"
    if size < 9_995:
        return f"{sign}{size / 1e3:.2f} ms"
    if size < 99_950:
        return f"{sign}{size / 1e3:.1f} ms"
    if size < 999_500:
        return f"{sign}{size / 1e3:.0f} ms"
    seconds = size / _US_PER_S
    if seconds < _S_PER_DAY:
        return f"{sign}{seconds:.3f} s"
    return f"{sign}{seconds / _S_PER_DAY:.2f} d"


def span_s(seconds: float) -> str:
    """Return a long time in its two largest units: ``4 s``, ``3 min``, ``2 h 5 min``, ``3 d 4 h``."""
    whole = max(0, int(seconds))
    if whole < _S_PER_MINUTE:
        return f"{whole} s"
    if whole < _S_PER_HOUR:
        return f"{whole // _S_PER_MINUTE} min"
    if whole < _S_PER_DAY:
        hours, rest = divmod(whole, _S_PER_HOUR)
        return f"{hours} h {rest // _S_PER_MINUTE} min"
    days, rest = divmod(whole, _S_PER_DAY)
    return f"{days} d {rest // _S_PER_HOUR} h"


def position_s(seconds: float) -> str:
    """Return a place in a track as ``m:ss`` or ``h:mm:ss``, as a player shows it."""
    minutes, second = divmod(max(0, int(seconds)), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minutes}:{second:02}"


def day_and_time(day_s: float) -> str:
    """Return an instant, in seconds since 1970, as this machine's clock of the day shows it: ``2026-05-01 20:15``."""
    try:
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(day_s))
    except (OverflowError, OSError, ValueError):
        return "–"


def rate_hz(hertz: int) -> str:
    """Return a sample rate as engineers say it: ``44.1 kHz``."""
    return f"{hertz / 1000:g} kHz"


def channel_word(channels: int) -> str:
    """Return ``mono``, ``stereo`` or the number of channels."""
    return {1: "mono", 2: "stereo"}.get(channels, f"{channels} channels")


def count(number: int, one: str, many: str = "") -> str:
    """Return a number with its noun: ``1 speaker``, ``3 speakers``."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def bar(share: float, columns: int) -> str:
    """Return a line of which ``share`` (0…1) is filled."""
    filled = round(min(1.0, max(0.0, share)) * columns)
    return "━" * filled + "─" * (columns - filled)
