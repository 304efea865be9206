"""Folding the channels of a recording to those of a sound card.

A recording's channels come in the order of WAV and FLAC (front left, front right, front
centre, low frequency, back left, back right, side left, side right) or in that of Ogg,
which libsndfile passes on as it is (Vorbis I, section 4.3.9; RFC 7845, 5.1.1.2). To two
channels they are folded as ITU-R BS.775-3, annex 4, table 2 says: centre and surrounds
at −3 dB, the low-frequency channel left out; then all is made quieter together so far
that full scale on every channel is full scale and no more.

Knows nothing of files or blocks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

_MINUS_3_DB = math.sqrt(0.5)
_LEFT, _RIGHT, _CENTRE, _NONE = (1.0, 0.0), (0.0, 1.0), (_MINUS_3_DB, _MINUS_3_DB), (0.0, 0.0)
_LEFT_BEHIND, _RIGHT_BEHIND = (_MINUS_3_DB, 0.0), (0.0, _MINUS_3_DB)

_TO_STEREO = {
    1: [(1.0, 1.0)],
    2: [_LEFT, _RIGHT],
    3: [_LEFT, _RIGHT, _CENTRE],
    4: [_LEFT, _RIGHT, _LEFT_BEHIND, _RIGHT_BEHIND],
    5: [_LEFT, _RIGHT, _CENTRE, _LEFT_BEHIND, _RIGHT_BEHIND],
    6: [_LEFT, _RIGHT, _CENTRE, _NONE, _LEFT_BEHIND, _RIGHT_BEHIND],
    # FLAC's seven are 6.1: one back centre, then the sides.
    7: [_LEFT, _RIGHT, _CENTRE, _NONE, (0.5, 0.5), _LEFT_BEHIND, _RIGHT_BEHIND],
    8: [_LEFT, _RIGHT, _CENTRE, _NONE, _LEFT_BEHIND, _RIGHT_BEHIND, _LEFT_BEHIND, _RIGHT_BEHIND],
}

_OGG_ORDER = {
    3: (0, 2, 1),
    5: (0, 2, 1, 3, 4),
    6: (0, 2, 1, 4, 5, 3),
    7: (0, 2, 1, 5, 6, 4, 3),
    8: (0, 2, 1, 6, 7, 4, 5, 3),
}
"""For each channel of an Ogg file, which one of WAV's order it is."""

_FLAC_CHANNELS: dict[int, tuple[str, ...]] = {
    1: ("FC",),
    2: ("FL", "FR"),
    3: ("FL", "FR", "FC"),
    4: ("FL", "FR", "BL", "BR"),
    5: ("FL", "FR", "FC", "BL", "BR"),
    6: ("FL", "FR", "FC", "LFE", "BL", "BR"),
    7: ("FL", "FR", "FC", "LFE", "BC", "SL", "SR"),
    8: ("FL", "FR", "FC", "LFE", "BL", "BR", "SL", "SR"),
}
"""What the channels of a FLAC file are (RFC 9639, section 9.1.3)."""


def fold_matrix(recorded: int, wanted: int, *, ogg: bool = False) -> npt.NDArray[np.float32] | None:
    """Return what to multiply frames by to make ``recorded`` channels ``wanted`` ones.

    Args:
        recorded: channels of the recording, 1 or more.
        wanted: channels of the card, 1 or more. Cards with more than two get two, and silence on the rest,
            unless the recording has as many as the card.
        ogg: the recording's channels come in the order of Ogg.

    Returns:
        float32 (recorded, wanted) whose columns' magnitudes sum to 1 at most, or None when nothing is to be done.
    """
    order = _OGG_ORDER.get(recorded) if ogg else None
    if recorded == wanted:
        return None if order is None else np.eye(recorded, dtype=np.float32)[list(order)]
    # More than eight channels have no agreed order; the first two are the ones to hear.
    stereo = np.array(_TO_STEREO.get(recorded, [_LEFT, _RIGHT] + [_NONE] * (recorded - 2)))
    stereo /= max(1.0, np.abs(stereo).sum(axis=0).max())
    matrix = np.zeros((recorded, wanted), np.float32)
    if wanted == 1:
        matrix[:, 0] = stereo.mean(axis=1)
    else:
        matrix[:, :2] = stereo
    return matrix if order is None else matrix[list(order)]


def from_ogg_order(block: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return frames, (frames, channels), of an Ogg file with their channels in the order of WAV and FLAC."""
    order = _OGG_ORDER.get(block.shape[1])
    if order is None:
        return block
    turned = np.empty_like(block)
    turned[:, list(order)] = block
    return turned


def flac_places(names: Sequence[str]) -> tuple[int, list[int]]:
    """Return how many channels a FLAC file needs for channels of these names, and where each of them goes.

    Args:
        names: ``FL``, ``FR``, ``FC``, ``LFE``, ``BL``, ``BR``, ``BC``, ``SL``, ``SR``; sides without backs are backs.

    Returns:
        The count, and for each name its place: the least count with a place for every one of them, so there may
        be places that stay silent. Names that no FLAC file has a place for: the first two, or the only one.
    """
    named = list(names)
    if "SL" in named and not {"BL", "BC"} & set(named):
        named = [{"SL": "BL", "SR": "BR"}.get(name, name) for name in named]
    for count, places in _FLAC_CHANNELS.items():
        if set(named) <= set(places) and len(set(named)) == len(named):
            return count, [places.index(name) for name in named]
    count = min(len(named), 2)
    return count, list(range(count))
