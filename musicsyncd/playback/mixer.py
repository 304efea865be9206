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
        np.clip(out, -1.0, 1.0, out=out)
