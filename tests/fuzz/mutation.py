"""Inputs made from valid ones: what runs where atheris does not, and what tries each target a little in CI.

Owns the mutations. They know nothing of a format but the seeds, and pieces of them that are put elsewhere.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from .finding import MAX_INPUT_BYTES

MAX_CHANGES = 8
"""Of one input, so that most of it stays valid and the rest is looked at."""

_NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, (1 << 63) - 1)
_PIECES = (
    *(b"", b"\0", b"\xff\xff\xff\xff", b"\xed\xa0\x80", b"\xc3\x28", b"\xef\xbb\xbf", b"\r\n", b"\x1b[2J", b"%00"),
    *(b"..", b"../" * 8, b"/", b"~", b"~nosuchuser/", b"\\ud800", b"\\u0000", b'"', b"[" * 400, b"{" * 40, b"9" * 400),
    *(b"1e999", b"-1", b"NaN", b"null", b"true", b"\xc0", b"\xc1", b"\xdd\xff\xff\xff\xff", b"OggS", b"ID3", b"RIFF"),
)


def inputs(seeds: Sequence[bytes], chance: random.Random) -> Iterator[bytes]:
    """Yield the seeds themselves, and then for ever what becomes of them."""
    yield from (seed[:MAX_INPUT_BYTES] for seed in seeds)
    while True:
        yield mutated(chance.choice(seeds), seeds, chance)


def mutated(data: bytes, seeds: Sequence[bytes], chance: random.Random) -> bytes:
    """Return an input with one or a few changes, at most :data:`MAX_INPUT_BYTES` long."""
    changed = bytearray(data[:MAX_INPUT_BYTES])
    for _ in range(chance.choice((1, 1, 1, 2, 3, chance.randint(1, MAX_CHANGES)))):
        _change(changed, seeds, chance)
    return bytes(changed[:MAX_INPUT_BYTES])


def _change(data: bytearray, seeds: Sequence[bytes], chance: random.Random) -> None:
    start = chance.randint(0, len(data))
    end = min(len(data), start + chance.choice((1, 2, 4, 8, 64, 512)))
    match chance.randrange(8):
        case 0 if start < len(data):
            data[start] ^= 1 << chance.randrange(8)
        case 1 if start < len(data):
            data[start] = chance.choice((0, 1, 0x20, 0x30, 0x7F, 0x80, 0x9F, 0xDC, 0xFE, 0xFF, chance.randrange(256)))
        case 2:
            number = chance.choice(_NUMBERS) + chance.choice((-1, 0, 1))
            size_bytes = chance.choice((1, 2, 4, 8))
            order = chance.choice(("big", "little"))
            data[start : start + size_bytes] = (number % (1 << 8 * size_bytes)).to_bytes(size_bytes, order)
        case 3:
            del data[start:end]
        case 4:
            data[start:start] = data[start:end] * chance.choice((1, 2, 16))
        case 5:
            data[start:start] = chance.choice(_PIECES)
        case 6:
            data[start:end] = chance.choice(_PIECES)
        case _:
            other = chance.choice(seeds)
            first = chance.randint(0, len(other))
            data[start:end] = other[first : first + chance.choice((4, 16, 64, 1024))]
