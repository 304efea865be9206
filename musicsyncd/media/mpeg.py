"""Which bytes of a damaged MP3 file are frames.

libsndfile's decoder gives up a file in which it meets a kilobyte that is no frame. Without those bytes it plays on.

Source: ISO/IEC 11172-3, section 2.4.1.3, and 13818-3 for the lower rates: the header of a frame, by which its length
is known.
"""

from __future__ import annotations

from typing import BinaryIO

MAX_FRAMES = 10_000_000
"""Of one file: three days; what is behind is left out."""

_RATES_HZ = (44_100, 48_000, 32_000)
_KBITS_1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_KBITS_2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_WINDOW_BYTES = 1 << 20
_HEADER_BYTES = 4
_MAX_FRAME_BYTES = 1442  # 320 kbit/s at 32 kHz, with its padding byte.


def sound_stretches(file: BinaryIO, start: int) -> list[tuple[int, int]]:
    """Return the stretches of a layer III file that consist of whole frames, as offsets of first byte and end.

    Args:
        file: seekable.
        start: where to begin, behind any tag.

    Raises:
        OSError: it cannot be read.
    """
    stretches: list[tuple[int, int]] = []
    kind: tuple[int, int] | None = None
    position, in_step = start, False
    window, window_start = b"", start
    for _ in range(MAX_FRAMES):
        if position + 2 * _MAX_FRAME_BYTES > window_start + len(window):
            file.seek(position)
            window, window_start = file.read(_WINDOW_BYTES), position
        at = position - window_start
        if len(window) - at < _HEADER_BYTES:
            break
        length, found = _frame(window, at)
        # Four bytes look like a header by chance; what follows a frame, or is followed by one, is taken for one.
        fits = length > 0 and kind in (None, found) and at + length <= len(window)
        if fits and (in_step or _frame(window, at + length)[1] == found):
            kind = found
            if stretches and stretches[-1][1] == position:
                stretches[-1] = (stretches[-1][0], position + length)
            else:
                stretches.append((position, position + length))
            position, in_step = position + length, True
            continue
        next_at = window.find(b"\xff", at + 1)
        position = window_start + (len(window) if next_at < 0 else next_at)
        in_step = False
    return stretches


def _frame(window: bytes, at: int) -> tuple[int, tuple[int, int]]:
    """Return the length of the frame whose header is at a place, and its version and rate; 0 when there is none."""
    nothing = (0, (-1, -1))
    if len(window) - at < _HEADER_BYTES or window[at] != 0xFF:
        return nothing
    _, second, third, _ = window[at : at + _HEADER_BYTES]
    version, layer, rate_index = second >> 3 & 3, second >> 1 & 3, third >> 2 & 3
    if second & 0xE0 != 0xE0 or version == 1 or layer != 1 or rate_index == 3 or third >> 4 in (0, 15):
        return nothing
    rate_hz = _RATES_HZ[rate_index] >> {3: 0, 2: 1, 0: 2}[version]
    kbits = (_KBITS_1 if version == 3 else _KBITS_2)[third >> 4]
    length = (144_000 if version == 3 else 72_000) * kbits // rate_hz + (third >> 1 & 1)
    return length, (version, rate_hz)
