"""What simulated speakers play, as cheap as a scenario allows."""

from __future__ import annotations

import numpy as np

from musicsyncd.playback.renderer import FrameSource, Renderer, Samples
from musicsyncd.playback.timeline import Timeline, Track


class Nothing:
    """No decoded tracks."""

    def buffer(self, content_id: bytes) -> FrameSource | None:
        """Return none."""
        return None


class NoSound(Renderer):
    """Stands in for the renderer where samples do not matter: says only whether anything sounds."""

    def __init__(self) -> None:
        super().__init__(48_000, 2, Nothing())

    def render(self, timeline: Timeline, host_ns: int, fraction_ns: float, ns_per_frame: float, out: Samples) -> bool:
        """Return whether a track reaches into a block."""
        end_ns = host_ns + len(out) * ns_per_frame
        return any(span.segment.start_host_ns < end_ns and span.end_host_ns > host_ns for span in timeline.spans())


class Sine:
    """A recording of one pure tone: whatever is no part of it is a fault.

    Args:
        frames: its length.
        hz: of the tone.
    """

    AMPLITUDE = 0.5

    def __init__(self, frames: int, hz: float) -> None:
        self.track = Track(b"sine".ljust(32), frames, 48_000, frames, 2)
        self.step = 2 * np.pi * hz / self.track.rate_hz

    def buffer(self, content_id: bytes) -> FrameSource | None:
        """Return itself."""
        return self

    def read(self, first_frame: int, out: Samples) -> int:
        """Copy frames; it has no beginning and no end."""
        out[:] = (self.AMPLITUDE * np.sin(self.step * np.arange(first_frame, first_frame + len(out))))[:, None]
        return 0


class Sawtooth:
    """A recording whose samples say where they stand: each rises from 0 to a half over a tenth of a second.

    What is near full scale is limited and tells nothing. One long ramp would not do: a resampler's gain is
    only right to some 10⁻⁶, which is frames of it.

    Args:
        frames: its length.
    """

    PERIOD = 4800
    PEAK = 0.5

    def __init__(self, frames: int) -> None:
        self.track = Track(b"sawtooth".ljust(32), frames, 48_000, frames, 2)

    def buffer(self, content_id: bytes) -> FrameSource | None:
        """Return itself."""
        return self

    def read(self, first_frame: int, out: Samples) -> int:
        """Copy frames; there are zeros before and after."""
        frames = np.arange(first_frame, first_frame + len(out))
        inside = (frames >= 0) & (frames < self.track.frames)
        out[:] = np.where(inside, frames % self.PERIOD / self.PERIOD * self.PEAK, 0.0)[:, None]
        return 0
