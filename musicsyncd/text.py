"""Text that comes from elsewhere or may be long, made fit to be kept and to be said in one line.

Owns what is done with characters and lines alone. Must not know what a text is about, nor what a terminal or a
page makes of it.
"""

from __future__ import annotations

from collections.abc import Sequence


def encodable(text: str) -> str:
    """Return a text without lone surrogates, which neither UTF-8 nor SQLite takes.

    Names of files that are no UTF-8 have them, and tags in UTF-16 that were cut off.
    """
    return text.encode("utf-8", "replace").decode("utf-8")


def listed(lines: Sequence[str], most: int, separator: str = "; ") -> str:
    """Return at most so many lines in one, and how many are left out, as in ``a; b (and 3 more)``."""
    said = separator.join(lines[:most])
    return f"{said} (and {len(lines) - most:,} more)" if len(lines) > most else said
