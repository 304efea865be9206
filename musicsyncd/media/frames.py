"""The decoded frames of one track, as far as they are held, for the audio callback to read.

Written by the decoding thread, read by the audio thread without a lock: both do single
operations on a dict, which the interpreter does not interrupt.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from musicsyncd.playback.timeline import Track

CHUNK_FRAMES = 8192
"""Frames decoded at a time: 0.19 s at 44.1 kHz, some 5 ms of work on a small machine. So long a seek may wait."""

Samples = npt.NDArray[np.float32]


class TrackBuffer:
    """Chunks of one track's frames.

    Attributes:
        track: which.
        chunks: by number, float32 (CHUNK_FRAMES, channels of the card), ±1; chunk 0 begins with frame 0.
        end_frame: from here on there is silence, and nothing is missing: the track's length, or less in
            a file that ends early.
    """

    __slots__ = ("chunks", "end_frame", "track")

    def __init__(self, track: Track) -> None:
        self.track = track
        self.chunks: dict[int, Samples] = {}
        self.end_frame = track.frames

    def read(self, first_frame: int, out: Samples) -> int:
        """Copy frames from ``first_frame`` on to ``out``, silence where there are none.

        Args:
            first_frame: of the track; frames before 0 and from ``end_frame`` on are silence.
            out: float32 (frames, channels of the card), overwritten wholly.

        Returns:
            How many frames of the track were not decoded yet and are silence for that reason.
        """
        missing, done, total, end = 0, 0, len(out), self.end_frame
        while done < total:
            position = first_frame + done
            if position >= end:
                out[done:] = 0.0
                break
            if position < 0:
                count = min(total - done, -position)
                out[done : done + count] = 0.0
            else:
                index, within = divmod(position, CHUNK_FRAMES)
                count = min(total - done, CHUNK_FRAMES - within, end - position)
                chunk = self.chunks.get(index)
                if chunk is None:
                    out[done : done + count] = 0.0
                    missing += count
                else:
                    out[done : done + count] = chunk[within : within + count]
            done += count
        return missing

    def ready(self, frame: int) -> bool:
        """Return whether a frame can be read without being missing."""
        return not 0 <= frame < self.end_frame or frame // CHUNK_FRAMES in self.chunks
