"""Decoding ahead of the sound, in one thread, most urgent first.

The control loop says which stretches of which tracks should be held decoded; the thread
decodes them chunk by chunk, looks again at what is wanted after each, and drops what is
not wanted any more. So a seek waits for one chunk at most, and memory is bounded by what
is wanted.

A file's bytes may still be on their way: then a read waits, and is broken off when
something else has become more urgent. A file that is damaged is played as far as it
decodes; the rest is silence and a line in :attr:`DecodeAhead.faults`.

Owns the thread and what is held. Knows nothing of sound cards and of the time line; how a
file is decoded is in :mod:`musicsyncd.media.opened`.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from musicsyncd.errors import MediaError
from musicsyncd.media.frames import CHUNK_FRAMES, Samples, TrackBuffer
from musicsyncd.media.inspect import printable, sound_reason
from musicsyncd.media.opened import BytesMissingError, ByteSource, Guard, OpenTrack
from musicsyncd.playback.timeline import Track
from musicsyncd.units import NS_PER_S, frames_to_ns, ns_to_s

__all__ = ["CHUNK_FRAMES", "ByteSource", "DecodeAhead", "TrackBuffer", "Want"]

MAX_HELD_CHUNKS = 512
"""Chunks held decoded for all wants together: 95 s at 44.1 kHz, 32 MiB of stereo; later wants get what is left."""

MAX_OPEN_FILES = 4
"""Tracks whose decoders are kept open between chunks: what sounds, what follows, and one that was left by a seek."""

MAX_SKIPS = 4
"""Chunks in a row that fail to decode before the rest of a track is given up."""

NEAR_CHUNKS = 8
"""So far behind what is most urgent, a waiting read is left to go on: reading through beats opening and seeking."""

RETRY_DURATION_NS = NS_PER_S
"""How long a track whose bytes could not be had is left alone before it is tried again."""

_CLOSE_TIMEOUT_S = 1.0


@dataclass(frozen=True, slots=True)
class Want:
    """A stretch of a track that should be held decoded.

    Attributes:
        track: which.
        start_frame: its first frame; frames outside the track are ignored.
        frames: its length.
    """

    track: Track
    start_frame: int
    frames: int

    @property
    def chunks(self) -> range:
        """The numbers of the chunks that hold it."""
        start, end = max(self.start_frame, 0), min(self.start_frame + self.frames, self.track.frames)
        return range(start // CHUNK_FRAMES, (end - 1) // CHUNK_FRAMES + 1) if start < end else range(0)


@dataclass(frozen=True, slots=True)
class _Job:
    """One chunk to decode."""

    track: Track
    index: int


class DecodeAhead:
    """Holds decoded what is wanted.

    ``want`` is the control loop's; ``buffer``, and what it returns, the audio thread's, and neither waits.

    Args:
        opener: opens a track's bytes anew; called in the decoding thread; MediaError when it cannot.
        channels: of the sound card; every track is folded to as many.

    Attributes:
        faults: by content id, one line on each wanted track that does not play as it should.
        busy: the track that is being decoded, or waited for, and since when by the monotonic clock; None for neither.
    """

    def __init__(self, opener: Callable[[Track], ByteSource], channels: int) -> None:
        self.faults: dict[bytes, str] = {}
        self.busy: tuple[Track, int] | None = None
        self._opener = opener
        self._channels = channels
        self._plan: tuple[tuple[Track, range], ...] = ()
        self._synced: tuple[tuple[Track, range], ...] = ()
        self._buffers: dict[bytes, TrackBuffer] = {}
        self._files: OrderedDict[bytes, OpenTrack] = OrderedDict()
        self._retry_at_ns: dict[bytes, int] = {}
        self._skips: dict[bytes, int] = {}
        self._job: _Job | None = None
        self._guard: Guard | None = None
        self._closing = False
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="decode-ahead", daemon=True)
        self._thread.start()

    def want(self, wants: Iterable[Want]) -> None:
        """Replace what should be held decoded; the first is the most urgent, and within each its first frame."""
        plan, left = [], MAX_HELD_CHUNKS
        for wanted in wants:
            chunks = wanted.chunks[:left]
            left -= len(chunks)
            if chunks:
                plan.append((wanted.track, chunks))
        with self._lock:
            self._plan = tuple(plan)
            if self._guard is not None and not self._worth_waiting():
                self._guard.set_interrupted(True)
        self._wake.set()

    def buffer(self, content_id: bytes) -> TrackBuffer | None:
        """Return a wanted track's frames, or None while there are none."""
        return self._buffers.get(content_id)

    def ready(self, track: Track, frame: int) -> bool:
        """Return whether a frame of a track can be heard now."""
        buffer = self._buffers.get(track.content_id)
        return buffer is not None and buffer.ready(frame)

    @property
    def alive(self) -> bool:
        """Whether the decoding thread is there."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Stop, within a second, whatever the thread is waiting for."""
        with self._lock:
            self._closing = True
            if self._guard is not None:
                self._guard.set_interrupted(True)
        self._wake.set()
        self._thread.join(_CLOSE_TIMEOUT_S)

    # -- the decoding thread -------------------------------------------------------------------

    def _run(self) -> None:
        while not self._closing:
            self._wake.clear()
            with self._lock:
                self._drop_unwanted()
                self._job = self._most_urgent()
            if self._job is None:
                self._wake.wait(ns_to_s(RETRY_DURATION_NS) / 4 if self._retry_at_ns else None)
            else:
                self.busy = (self._job.track, time.monotonic_ns())
                self._decode(self._job)
                self.busy = None
        for content_id in list(self._files):
            self._shut(content_id)

    def _most_urgent(self) -> _Job | None:
        now_ns = time.monotonic_ns() if self._retry_at_ns else 0
        for track, chunks in self._plan:
            if self._retry_at_ns.get(track.content_id, 0) > now_ns:
                continue
            buffer = self._buffers.get(track.content_id)
            for index in chunks:
                if buffer is None or not buffer.ready(index * CHUNK_FRAMES):
                    return _Job(track, index)
        return None

    def _worth_waiting(self) -> bool:
        """Return whether the chunk that is being decoded leads to the one that is most urgent now."""
        urgent, current = self._most_urgent(), self._job
        if urgent is None or current is None or urgent.track.content_id != current.track.content_id:
            return False
        return 0 <= urgent.index - current.index <= NEAR_CHUNKS

    def _drop_unwanted(self) -> None:
        """Make the buffers those of the plan, and let go of everything else."""
        if self._plan is self._synced:
            return
        wanted: dict[bytes, set[int]] = {}
        for track, chunks in self._plan:
            wanted.setdefault(track.content_id, set()).update(chunks)
            if track.content_id not in self._buffers:
                self._buffers[track.content_id] = TrackBuffer(track)
        for content_id in [known for known in self._buffers if known not in wanted]:
            self._shut(content_id)
            for table in (self._buffers, self._skips, self._retry_at_ns, self.faults):
                table.pop(content_id, None)
        for content_id, kept in wanted.items():
            chunks_held = self._buffers[content_id].chunks
            for index in [index for index in chunks_held if index not in kept]:
                del chunks_held[index]
        self._synced = self._plan

    def _decode(self, job: _Job) -> None:
        """Decode one chunk, or note why not."""
        content_id, start = job.track.content_id, job.index * CHUNK_FRAMES
        chunk = np.zeros((CHUNK_FRAMES, self._channels), np.float32)
        expected = min(CHUNK_FRAMES, job.track.frames - start)
        buffer = self._buffers[content_id]
        try:
            opened = self._opened(job.track)
            got = opened.read(start, chunk[:expected])
        except BytesMissingError as error:
            self._shut(content_id)
            if not error.interrupted:
                self.faults[content_id] = str(error)
                self._retry_at_ns[content_id] = time.monotonic_ns() + RETRY_DURATION_NS
            return
        except Exception as error:
            self._note_damage(job, buffer, chunk, sound_reason(error))
            return
        finally:
            with self._lock:
                self._guard = None
        self._skips.pop(content_id, None)
        if self._retry_at_ns.pop(content_id, None) is not None:
            self.faults.pop(content_id, None)
        buffer.chunks[job.index] = chunk
        if got < expected:
            end = buffer.end_frame = min(buffer.end_frame, start + got, opened.frames)
            whole = _clock(job.track.frames, job.track)
            self.faults[content_id] = f"the file ends early: after {_clock(end, job.track)} of {whole}"

    def _opened(self, track: Track) -> OpenTrack:
        """Return a track's decoder, opened if need be, with its reads interruptible."""
        opened = self._files.get(track.content_id)
        if opened is not None:
            self._files.move_to_end(track.content_id)
            self._arm(opened.guard)
            return opened
        while len(self._files) >= MAX_OPEN_FILES:
            self._shut(next(iter(self._files)))
        try:
            guard = Guard(self._opener(track))
        except (MediaError, OSError) as error:
            raise BytesMissingError(printable(str(error))) from None
        self._arm(guard)
        try:
            opened = OpenTrack(track, guard, self._channels)
        except BaseException:
            guard.close()
            raise
        self._files[track.content_id] = opened
        return opened

    def _arm(self, guard: Guard) -> None:
        """Let want() and close() break off this guard's reads from now on, and at once if they came before."""
        with self._lock:
            self._guard = guard
            guard.set_interrupted(self._closing or not self._worth_waiting())

    def _note_damage(self, job: _Job, buffer: TrackBuffer, chunk: Samples, reason: str) -> None:
        """A chunk does not decode: silence in its place, and for the rest after too many in a row."""
        content_id, start = job.track.content_id, job.index * CHUNK_FRAMES
        never_opened = content_id not in self._files
        # After an error libsndfile's decoders do not find their way again; a fresh one may, further on.
        self._shut(content_id)
        skips = self._skips[content_id] = self._skips.get(content_id, 0) + 1
        place = _clock(start, job.track)
        if never_opened:
            buffer.end_frame = 0
            self.faults[content_id] = f"the file cannot be decoded: {reason}"
        elif skips > MAX_SKIPS:
            buffer.end_frame = min(buffer.end_frame, start)
            self.faults[content_id] = f"the file cannot be decoded from {place} on: {reason}"
        else:
            chunk[:] = 0.0
            buffer.chunks[job.index] = chunk
            self.faults[content_id] = f"the file is damaged at {place}: {reason}"

    def _shut(self, content_id: bytes) -> None:
        opened = self._files.pop(content_id, None)
        if opened is not None:
            opened.close()


def _clock(frame: int, track: Track) -> str:
    """Return a position as minutes and seconds."""
    minutes, seconds = divmod(ns_to_s(frames_to_ns(frame, track.rate_hz)), 60)
    return f"{int(minutes)}:{seconds:04.1f}"
