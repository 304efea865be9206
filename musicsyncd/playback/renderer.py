"""Blocks of samples from a time line: which track, at which fractional position, how loud.

The renderer is told the host time of a block's first frame and how much host time each
frame takes, and adds up every segment of the time line that reaches into the block. A
track is a signal that is zero outside its own frames, and the resampler is linear, so
two tracks that follow each other without a gap are simply added: the tail of the
filter of one falls into the other, exactly as if they had been one recording. Where their
rates differ, each is read on into the other (:mod:`musicsyncd.playback.joint`).

Where a segment is cut (pause, seek, the next track) it fades out over :data:`FADE_DURATION_NS` from
the instant of the cut, and a segment that begins in mid track fades in over as long, at
the same samples on every peer. Where one rises over another (:attr:`Segment.fade_ms`) both sound, and
the sum of their powers stays one.

Knows nothing of clocks or cards: host time comes in, samples go out. Runs inside the audio
callback: no lock, no log, and no exception for want of data.
"""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
import numpy.typing as npt

from musicsyncd.playback.joint import fill_end, fill_start
from musicsyncd.playback.resampler import Resampler
from musicsyncd.playback.timeline import Span, Timeline, Track
from musicsyncd.units import NS_PER_MS, NS_PER_S, db_to_gain

FADE_DURATION_NS = 5 * NS_PER_MS
"""Long enough that a cut at full level is no click (its spectrum falls below 200 Hz), too short for a fade."""

MAX_RESAMPLERS = 8
"""Kept between blocks, one for each rate: as many as a time line has segments."""

MAX_STARVED = 64
"""Segments that had no frames and may yet get some: of a few time lines."""

Samples = npt.NDArray[np.float32]


class FrameSource(Protocol):
    """The decoded frames of one track."""

    def read(self, first_frame: int, out: Samples) -> int:
        """Copy frames from ``first_frame`` on to ``out`` (frames, channels); return how many were not there yet."""
        ...


class FrameSources(Protocol):
    """Where decoded tracks are found."""

    def buffer(self, content_id: bytes) -> FrameSource | None:
        """Return the frames of a track, or None while there are none."""
        ...


class Renderer:
    """Makes blocks of samples of a time line.

    Args:
        card_rate_hz: nominal rate of the blocks.
        channels: of the blocks; the sources deliver as many.
        sources: the decoded tracks.

    Attributes:
        starved_frames: output frames that were silence because their track was not decoded yet.
        starving: the newest block that should have sounded was silent for that reason.
    """

    def __init__(self, card_rate_hz: int, channels: int, sources: FrameSources) -> None:
        self.starved_frames = 0
        self._card_rate_hz = card_rate_hz
        self._channels = channels
        self._sources = sources
        self._resamplers: dict[int, Resampler] = {}
        self._window = np.zeros((0, channels), np.float32)
        self._piece = np.zeros((0, channels), np.float32)
        self.starving = False
        self._starved: set[int] = set()  # Starts of the segments whose newest piece had no frames at its end.

    def render(self, timeline: Timeline, host_ns: int, fraction_ns: float, ns_per_frame: float, out: Samples) -> bool:
        """Fill a block.

        Args:
            timeline: what sounds when.
            host_ns: host time of the block's first frame, whole nanoseconds.
            fraction_ns: and their fraction.
            ns_per_frame: host time from one frame to the next.
            out: float32, (frames, channels), overwritten.

        Returns:
            Whether any track reached into the block.
        """
        out.fill(0.0)
        heard = starving = False
        for span in timeline.spans():
            first, last = self._reach(span, host_ns + fraction_ns, ns_per_frame, len(out))
            if first < last:
                self._add(span, host_ns, fraction_ns, ns_per_frame, out, first, last)
                heard = True
                starving = starving or span.segment.start_host_ns in self._starved
        self.starving = starving if heard else self.starving
        if len(self._starved) > MAX_STARVED:
            self._starved.clear()
        return heard

    def _resampler(self, track: Track) -> Resampler:
        found = self._resamplers.get(track.rate_hz)
        if found is None:
            while len(self._resamplers) >= MAX_RESAMPLERS:
                self._resamplers.pop(next(iter(self._resamplers)))
            found = self._resamplers[track.rate_hz] = Resampler(track.rate_hz, self._card_rate_hz)
        return found

    def _reach(self, span: Span, host_ns: float, ns_per_frame: float, frames: int) -> tuple[int, int]:
        """Return which frames of the block [first, last) a span reaches into."""
        segment = span.segment
        track = segment.track
        assert track is not None
        start, end = float(segment.start_host_ns), float(span.end_host_ns)
        if end + FADE_DURATION_NS < host_ns - NS_PER_S or start > host_ns + frames * ns_per_frame + NS_PER_S:
            return 0, 0  # Far from this block: not worth a resampler.
        ringing_ns = self._resampler(track).half_width * NS_PER_S / track.rate_hz
        if _differ(span.previous, track):
            start += span.start_fraction_ns
        elif segment.frame == 0:
            start -= ringing_ns
        if span.following is not None and _differ(span.following.track, track):
            end = float(span.following.start_host_ns) + span.following_fraction_ns
        else:
            end += FADE_DURATION_NS if span.cut else ringing_ns
        first = math.ceil((start - host_ns) / ns_per_frame)
        last = math.ceil((end - host_ns) / ns_per_frame)
        return max(first, 0), min(last, frames)

    def _add(
        self, span: Span, host_ns: int, fraction_ns: float, ns_per_frame: float, out: Samples, first: int, last: int
    ) -> None:
        """Add frames [first, last) of a span to the block."""
        segment = span.segment
        track = segment.track
        assert track is not None
        base, fraction = segment.position_at(host_ns)
        fraction += (fraction_ns - span.start_fraction_ns + first * ns_per_frame) * track.rate_hz / NS_PER_S
        whole = math.floor(fraction)
        base, fraction = base + whole, fraction - whole
        step = ns_per_frame * track.rate_hz / NS_PER_S
        resampler = self._resampler(track)
        window_first, window_frames = resampler.needed(base, fraction, step, last - first)
        if len(self._window) < window_frames:
            self._window = np.zeros((2 * window_frames, self._channels), np.float32)
        if len(self._piece) < last - first:
            self._piece = np.zeros((2 * (last - first), self._channels), np.float32)
        window, piece = self._window[:window_frames], self._piece[: last - first]
        source = self._sources.buffer(track.content_id)
        missing = window_frames if source is None else source.read(window_first, window)
        if missing >= window_frames:
            self.starved_frames += last - first
            self._starved.add(segment.start_host_ns)
            return
        if source is not None:
            self._read_on(span, track, source, window, window_first)
        resampler.read(window, window_first, base, fraction, step, piece)
        if track.gain_db:
            piece *= np.float32(db_to_gain(track.gain_db))
        begin_ns = (host_ns - segment.start_host_ns) + fraction_ns + first * ns_per_frame
        _shape(span, piece, begin_ns, ns_per_frame)
        self._soften_gap(segment.start_host_ns, piece, missing, window_frames)
        out[first:last] += piece

    def _read_on(self, span: Span, track: Track, source: FrameSource, window: Samples, window_first: int) -> None:
        """Fill a span's window beyond the track's own frames where it joins a track of another rate."""
        previous, following = span.previous, None if span.following is None else span.following.track
        if previous is not None and _differ(previous, track):
            before = self._sources.buffer(previous.content_id)
            if before is not None:
                fill_start(window, window_first, track, source, previous, before)
        if following is not None and _differ(following, track):
            behind = self._sources.buffer(following.content_id)
            if behind is not None:
                fill_end(window, window_first, track, following, behind)

    def _soften_gap(self, start_host_ns: int, piece: Samples, missing: int, window_frames: int) -> None:
        """Ramp a segment's piece down when its frames run out, and up again when they are back."""
        starving = start_host_ns in self._starved
        if missing:
            there = len(piece) * (window_frames - missing) // window_frames
            self.starved_frames += len(piece) - there
            if starving:
                piece.fill(0.0)
            else:
                piece[:there] *= np.linspace(1.0, 0.0, there, dtype=np.float32)[:, None]
                piece[there:] = 0.0
            self._starved.add(start_host_ns)
        elif starving:
            frames = min(len(piece), FADE_DURATION_NS * self._card_rate_hz // NS_PER_S)
            piece[:frames] *= np.linspace(0.0, 1.0, frames, dtype=np.float32)[:, None]
            self._starved.discard(start_host_ns)


def _differ(other: Track | None, track: Track) -> bool:
    """Return whether a track that joins another has another rate."""
    return other is not None and other.rate_hz != track.rate_hz


def _shape(span: Span, piece: Samples, begin_ns: float, ns_per_frame: float) -> None:
    """Fade a span's piece in and out where it must; its first frame is ``begin_ns`` after the segment's start."""
    segment, follower = span.segment, span.follower
    if segment.fade_ms:
        _cross(piece, begin_ns, ns_per_frame, segment.fade_duration_ns, rising=True)
    elif segment.frame > 0:
        _fade(piece, begin_ns, ns_per_frame, rising=True)
    if follower is not None:
        since_ns = begin_ns - (follower.start_host_ns - segment.start_host_ns)
        _cross(piece, since_ns, ns_per_frame, follower.fade_duration_ns, rising=False)
    if span.cut:
        _fade(piece, begin_ns - (span.end_host_ns - segment.start_host_ns), ns_per_frame, rising=False)


def _cross(piece: Samples, begin_ns: float, ns_per_frame: float, length_ns: int, *, rising: bool) -> None:
    """Fade a piece over another track, with powers that add up to one.

    Args:
        piece: float32, (frames, channels), changed in place.
        begin_ns: its first frame is so long after the instant at which the fade begins.
        ns_per_frame: from one frame to the next.
        length_ns: of the fade.
        rising: or falling.
    """
    end_ns = begin_ns + len(piece) * ns_per_frame
    if (rising and begin_ns >= length_ns) or (not rising and end_ns <= 0.0):
        return
    progress = (begin_ns + ns_per_frame * np.arange(len(piece))) / length_ns
    np.clip(progress, 0.0, 1.0, out=progress)
    angle = (np.pi / 2) * progress
    piece *= (np.sin(angle) if rising else np.cos(angle)).astype(np.float32)[:, None]


def _fade(piece: Samples, begin_ns: float, ns_per_frame: float, *, rising: bool) -> None:
    """Fade a piece whose first frame is ``begin_ns`` after the instant at which the fade begins."""
    length_ns = float(FADE_DURATION_NS)
    end_ns = begin_ns + len(piece) * ns_per_frame
    if begin_ns >= length_ns and rising:
        return
    if end_ns <= 0.0 and not rising:
        return
    progress = (begin_ns + ns_per_frame * np.arange(len(piece))) / length_ns
    np.clip(progress, 0.0, 1.0, out=progress)
    # Raised cosine: rising and falling add up to one, so a cut to the same sound is no cut.
    gain = 0.5 - 0.5 * np.cos(np.pi * progress)
    piece *= (gain if rising else 1.0 - gain).astype(np.float32)[:, None]
