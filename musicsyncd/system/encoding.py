"""JSON as the host's API has it, where names of files need not be UTF-8.

Python has such a name with half surrogates in it, JSON as the escapes of these; msgspec takes neither.
"""

from __future__ import annotations

import json
from typing import Any, TypeVar

import msgspec

_T = TypeVar("_T")


def decoded(raw: bytes, body_type: type[_T]) -> _T:
    """Return what a request's body says.

    Raises:
        ValueError: it is no JSON, or not of that type; so are msgspec's errors.
        RecursionError: it is nested too deep.
    """
    if b"\\ud" in raw.lower():
        return msgspec.convert(json.loads(raw), type=body_type)
    return msgspec.json.decode(raw or b"{}", type=body_type)


def encoded(answer: dict[str, Any]) -> bytes:
    """Return an answer as JSON."""
    try:
        return msgspec.json.encode(answer)
    except UnicodeEncodeError:
        return json.dumps(answer).encode("ascii")
