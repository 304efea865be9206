"""What happens to a block once its sound is made: which channels, how loud, never beyond full scale.

Owns the listener's choice of volume and channels and how one choice becomes the next without a click. Must not
know of time, tracks or clocks.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from musicsyncd.units import NS_PER_MS, NS_PER_S

GAIN_RAMP_DURATION_NS = 30 * NS_PER_MS
"""From silence to full volume: fast enough for a fader, slow enough to be no click."""

CHANNELS_FADE_FRAMES = 960
"""From one choice of channels to another: 20 ms at 48 kHz."""

TOO_LOUD = 1.122
"""1 dB over full scale: gains and sums of tracks come here. What recordings made loud go over by between their samples
is less, and cut: bending their peaks would be heard sooner."""

KNEE = 0.891
"""−1 dBFS, from where what is too loud is bent."""

BEND_RAMP_FRAMES = 240
BEND_HOLD_FRAMES = 24_000
"""Bending sets in within 5 ms and lasts for half a second after the last peak, at 48 kHz."""

Samples = npt.NDArray[np.float32]

_MIXES: dict[str, Samples] = {
    "stereo": np.eye(2, dtype=np.float32),
    "left": np.array([[1, 1], [0, 0]], np.float32),
    "right": np.array([[0, 0], [1, 1]], np.float32),
    "mono": np.full((2, 2), 0.5, np.float32),
}
"""What each channel that was made (rows) gives to each channel of the card (columns)."""


class Mixer:
    """Volume and channels of one card. What is set is a single assignment, so that the audio callback waits for nobody.

    Args:
        card_rate_hz: frames a second, for the ramps.
    """

    def __init__(self, card_rate_hz: int) -> None:
        self._step = NS_PER_S / (GAIN_RAMP_DURATION_NS * card_rate_hz)
        self._gain = self._target_gain = 1.0
        self._bend = 0.0
        self._hold_frames = 0
        self._mix = self._target_mix = _MIXES["stereo"]

    @property
    def silent(self) -> bool:
        """The gain has come down to nothing."""
        return self._gain == 0.0

    def set_gain(self, gain: float) -> None:
        """Ramp to an amplitude, 0…1."""
        self._target_gain = gain

    def set_channels(self, channels: str) -> None:
        """Fade to ``stereo``, or to ``left``, ``right`` or their mean (``mono``) on both sides of a stereo card.

        Raises:
            KeyError: it is none of these.
        """
        self._target_mix = _MIXES[channels]

    def settle(self) -> None:
        """Take over what was set: nothing sounds that could click."""
        self._gain, self._mix = self._target_gain, self._target_mix

    def apply(self, out: Samples) -> None:
        """Mix a block, float32 (frames, channels), in place."""
        if out.shape[1] == 2:
            self._choose_channels(out)
        self._apply_gain(out)

    def _choose_channels(self, out: Samples) -> None:
        before, after = self._mix, self._target_mix
        if before is after:
            if after is not _MIXES["stereo"]:
                out[:] = out @ after
            return
        frames = min(len(out), CHANNELS_FADE_FRAMES)
        faded = out[:frames] @ before
        out[:] = out @ after
        rise = np.linspace(0.0, 1.0, frames, endpoint=False, dtype=np.float32)[:, None]
        out[:frames] = faded + rise * (out[:frames] - faded)
        self._mix = after

    def _apply_gain(self, out: Samples) -> None:
        gain, target = self._gain, self._target_gain
        if gain != target:
            ramp = gain + np.sign(target - gain) * self._step * np.arange(1, len(out) + 1)
            np.clip(ramp, min(gain, target), max(gain, target), out=ramp)
            out *= ramp.astype(np.float32)[:, None]
            self._gain = float(ramp[-1])
        elif gain != 1.0:
            out *= np.float32(gain)
        self._limit(out)

    def _limit(self, out: Samples) -> None:
        """Keep a block within full scale; what is not beyond it is left as it is, to the bit."""
        loudest = max(float(np.maximum.reduce(out, axis=None)), -float(np.minimum.reduce(out, axis=None)))
        if loudest > TOO_LOUD:
            self._hold_frames = BEND_HOLD_FRAMES
        target = 1.0 if self._hold_frames > 0 else 0.0
        self._hold_frames = max(self._hold_frames - len(out), 0)
        if self._bend or target:
            bent = out.copy()
            soften(bent)
            step = np.sign(target - self._bend) / BEND_RAMP_FRAMES
            share = np.clip(self._bend + step * np.arange(1, len(out) + 1), 0.0, 1.0).astype(np.float32)
            out += share[:, None] * (bent - out)
            self._bend = float(share[-1])
        if loudest > 1.0:
            np.clip(out, -1.0, 1.0, out=out)


def soften(block: Samples) -> None:
    """Bend what is louder than :data:`KNEE` so that it stays below full scale; leave everything else as it is.

    Each sample for itself, so there is no gain that moves and could be heard moving. The curve, its slope and its bend
    have no step at the knee: y = k + (1 − k)·tanh((x − k)/(1 − k)).

    Args:
        block: float32, any shape, changed in place.
    """
    if np.maximum.reduce(block, axis=None) <= KNEE and np.minimum.reduce(block, axis=None) >= -KNEE:
        return
    loud = np.abs(block) > KNEE
    samples = block[loud]
    bent = KNEE + (1.0 - KNEE) * np.tanh((np.abs(samples) - KNEE) / (1.0 - KNEE))
    block[loud] = np.copysign(bent, samples)
