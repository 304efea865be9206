"""A QR code on a terminal, in half blocks. Imported only where one is shown."""

from __future__ import annotations

import io

import segno

_BORDER = 2
"""Modules of light around it. ISO/IEC 18004 has 4; cameras do with 2, and a terminal has few rows."""

_LIGHT_ON_DARK = "\x1b[38;5;231;48;5;16m"
"""White blocks on black, from the part of the palette that no theme changes: the right way round on every terminal."""

_PLAIN = "\x1b[0m"


def qr_lines(text: str) -> list[str]:
    """Return a QR code as lines for a terminal, coloured; all are equally wide."""
    made = io.StringIO()
    segno.make_qr(text).terminal(made, border=_BORDER, compact=True)
    return [f"{_LIGHT_ON_DARK}{line}{_PLAIN}" for line in made.getvalue().splitlines()]


def columns_of_qr(lines: list[str]) -> int:
    """Return how many columns the lines take."""
    return len(lines[0]) - len(_LIGHT_ON_DARK) - len(_PLAIN)
