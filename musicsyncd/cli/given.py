"""Reading what a daemon answered: JSON of whatever version it has, so no field is sure to be there or to make sense.

What is missing or of another kind is nothing, and never an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from musicsyncd.cli.figures import clean

Json = Mapping[str, Any]

_NO_SUCH_FIGURE = 1e15


def object_at(value: Json, key: str) -> Json:
    """Return the object at a key, or an empty one."""
    found = value.get(key)
    return found if isinstance(found, dict) else {}


def objects_at(value: Json, key: str) -> list[Json]:
    """Return the objects in the list at a key."""
    found = value.get(key)
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def text_at(value: Json, key: str) -> str:
    """Return what is at a key as a text that commands no terminal; empty for nothing."""
    found = value.get(key)
    return "" if found is None else clean(str(found))


def number(found: object) -> float | None:
    """Return a value as a number, or None if it is none: infinity and NaN are no figures."""
    if not isinstance(found, int | float) or isinstance(found, bool):
        return None
    return float(found) if abs(found) < _NO_SUCH_FIGURE else None


def number_at(value: Json, key: str) -> float | None:
    """Return the number at a key, or None."""
    return number(value.get(key))


def numbers_at(value: Json, key: str) -> list[float | None]:
    """Return the list at a key with its numbers, and None for what is none."""
    found = value.get(key)
    return [number(one) for one in found] if isinstance(found, list) else []
