"""How much louder a recording is to be played so that all are equally loud, by what its tags say.

Owns the choice between track and album, and that no peak is lifted beyond full scale. Reading tags is
:mod:`musicsyncd.media.tags`'s, and applying the gain :mod:`musicsyncd.playback.renderer`'s.

Source: ReplayGain 2.0 specification, "Player requirements": pre-amplification, and clipping prevention by peak.
"""

from __future__ import annotations

from dataclasses import dataclass

from musicsyncd.media.tags import Gain, Tags
from musicsyncd.playback.timeline import MAX_GAIN_DB
from musicsyncd.units import gain_to_db


@dataclass(frozen=True, slots=True)
class Loudness:
    """What the owner of a host chose.

    Attributes:
        mode: ``off``; ``track``: every track is equally loud; ``album``: every album is, its tracks differ as recorded.
        preamp_db: added to what the tags say, where they say something.
    """

    mode: str = "off"
    preamp_db: float = 0.0


def gain_db(tags: Tags, loudness: Loudness) -> float:
    """Return by how many decibels a recording is to be played louder; 0 where its tags say nothing.

    A recording without a peak in its tags is taken to reach full scale, and so is never played louder.
    """
    if loudness.mode == "off":
        return 0.0
    gains = (tags.album_gain, tags.track_gain) if loudness.mode == "album" else (tags.track_gain, tags.album_gain)
    chosen = next((gain for gain in gains if gain.gain_db is not None), Gain())
    if chosen.gain_db is None:
        return 0.0
    wanted_db = chosen.gain_db + loudness.preamp_db
    room_db = -gain_to_db(chosen.peak) if chosen.peak else 0.0
    # A hundredth is more than anyone hears, and the same on every machine.
    return round(max(-MAX_GAIN_DB, min(wanted_db, room_db, MAX_GAIN_DB)), 2)
