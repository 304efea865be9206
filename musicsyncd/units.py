"""Units, the conversions between them, and the three clock domains.

A time stamp is an ``int`` of nanoseconds that names its clock in its type and in
its variable's name; lengths of time are ``int`` nanoseconds whatever the clock.

* :data:`HostNs`: the host's ``CLOCK_MONOTONIC``; names end in ``host_ns``.
* :data:`LocalNs`: the peer's ``CLOCK_MONOTONIC``; names end in ``local_ns``.
* DAC frames: the count of frames handed to the sound card since it was opened;
  names end in ``dac_frame``. The card's crystal is its own clock.
"""

from __future__ import annotations

import math
from typing import NewType

HostNs = NewType("HostNs", int)
"""Nanoseconds of the host's monotonic clock."""

LocalNs = NewType("LocalNs", int)
"""Nanoseconds of the peer's own monotonic clock."""

NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000
NS_PER_US = 1_000


def s_to_ns(seconds: float) -> int:
    """Return seconds as whole nanoseconds, rounded to the nearest."""
    return round(seconds * NS_PER_S)


def ns_to_s(duration_ns: float) -> float:
    """Return nanoseconds as seconds."""
    return duration_ns / NS_PER_S


def ms_to_ns(milliseconds: float) -> int:
    """Return milliseconds as whole nanoseconds, rounded to the nearest."""
    return round(milliseconds * NS_PER_MS)


def ns_to_ms(duration_ns: float) -> float:
    """Return nanoseconds as milliseconds."""
    return duration_ns / NS_PER_MS


def ns_to_us(duration_ns: float) -> float:
    """Return nanoseconds as microseconds."""
    return duration_ns / NS_PER_US


def frames_to_ns(frames: int, rate_hz: int) -> int:
    """Return how long ``frames`` take at ``rate_hz``, in whole nanoseconds, rounded to the nearest."""
    return (frames * NS_PER_S * 2 + rate_hz) // (2 * rate_hz)


def ns_to_frames(duration_ns: int, rate_hz: int) -> int:
    """Return the whole frames that have begun after ``duration_ns`` at ``rate_hz`` (floor)."""
    return duration_ns * rate_hz // NS_PER_S


def ppm_to_ratio(ppm: float) -> float:
    """Return 1 + ppm·10⁻⁶."""
    return 1.0 + ppm * 1e-6


def ratio_to_ppm(ratio: float) -> float:
    """Return by how many parts per million ``ratio`` is above 1."""
    return (ratio - 1.0) * 1e6


def db_to_gain(decibels: float) -> float:
    """Return an amplitude ratio."""
    return float(10.0 ** (decibels / 20.0))


def gain_to_db(gain: float) -> float:
    """Return decibels of an amplitude ratio; −∞ for zero."""
    return 20.0 * math.log10(gain) if gain > 0 else -math.inf


def volume_to_gain(volume_percent: int) -> float:
    """Return the amplitude for a volume of 0…100: its cube, close to equal steps of loudness.

    The cubic taper is the one PulseAudio and PipeWire use; 100 is unity gain, 50 is −18 dB.
    """
    return (volume_percent / 100.0) ** 3
