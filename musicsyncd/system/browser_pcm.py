"""Tracks as plain samples, for browsers: decoded here, so that every browser plays the very frames that speakers play.

What browsers decode differs from one to the next in formats, in how many frames they leave out at the start, and in
the rate they convert to. So a browser asks for frames by number and gets those, 16-bit at the track's own rate.

Owns the decoders that are kept open and in which thread they run. A decoder that was read up to where the next
request begins needs no seek, and with several browsers there are several of these in one track; so what is kept is
a few decoders with their places, the longest unused of which goes.

Nothing of a request ever becomes a path on disk: the file is found by its content id among the tracks of the queues.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from aiohttp import web

from musicsyncd.errors import ControlError, MediaError
from musicsyncd.media.inspect import sound_reason
from musicsyncd.media.opened import BytesMissingError, Guard, OpenTrack
from musicsyncd.playback.timeline import Track
from musicsyncd.system.log import Throttle
from musicsyncd.system.media_server import open_regular

log = logging.getLogger(__name__)

MAX_DURATION_S = 4
"""Of one request: 1.5 MB at 96 kHz, which a phone's Wi-Fi carries in a fraction of that time."""

MAX_DECODERS = 8
"""Kept open between requests: a browser has one or two, and each costs a file descriptor and some 100 kB."""

MAX_WAITING = 128
"""Requests that wait for a decoder's thread: two of each browser that a host may have."""

THREADS = 2
"""Of a machine that has better things to do; one of them decodes an hour of FLAC in under a minute."""

CHANNELS = 2

Found = tuple[Path, Track]


@dataclass(slots=True)
class _Kept:
    """A decoder and the frame that it would give next."""

    opened: OpenTrack
    content_id: bytes
    next_frame: int


class PcmServer:
    """Answers requests for frames.

    Args:
        find: gives the file and the track with a content id, or None.
    """

    def __init__(self, find: Callable[[bytes], Found | None]) -> None:
        self._find = find
        self._kept: list[_Kept] = []
        self._lock = threading.Lock()
        self._waiting = 0
        self._closed = False
        self._throttle = Throttle(log)
        self._pool = ThreadPoolExecutor(THREADS, "pcm")

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Answer ``?frame=N&frames=M`` with frames N to N + M of a track, fewer where it ends.

        Raises:
            web.HTTPException: there is no such track, or too many ask.
            ControlError: the numbers make no sense.
            MediaError: the file is not what it was, or cannot be read.
        """
        found = self._find(bytes.fromhex(request.match_info["content_id"]))
        if found is None:
            raise web.HTTPNotFound(reason="no such track in any queue")
        path, track = found
        frame, frames = _asked(request, track)
        if self._waiting >= MAX_WAITING:
            raise web.HTTPServiceUnavailable(reason="too many browsers ask for sound at once: try again")
        self._waiting += 1
        try:
            body = await asyncio.get_running_loop().run_in_executor(
                self._pool, self._frames, path, track, frame, frames
            )
        finally:
            self._waiting -= 1
        return web.Response(body=body, content_type="application/octet-stream")

    def close(self) -> None:
        """Let go of all decoders; what is being decoded is not waited for."""
        with self._lock:
            self._closed = True
            kept, self._kept = self._kept, []
        for one in kept:
            one.opened.close()
        self._pool.shutdown(wait=False, cancel_futures=True)

    # -- in the threads ------------------------------------------------------------------------

    def _frames(self, path: Path, track: Track, frame: int, frames: int) -> bytes:
        """Return frames of a track, int16 little endian, left and right in turn; silence where it does not decode."""
        block = np.zeros((frames, CHANNELS), np.float32)
        decoder = self._take(track.content_id, frame)
        try:
            if decoder is None:
                decoder = _Kept(_open(path, track), track.content_id, frame)
            decoder.opened.read(frame, block)
        except (BytesMissingError, MediaError) as error:
            _shut(decoder)
            raise MediaError(f"{path.name} cannot be read: {error}") from None
        except Exception as error:  # Whatever libsndfile makes of a damaged file: what decodes is played.
            _shut(decoder)
            self._throttle.warning(path.name, f"{path.name} is damaged at frame {frame}: {sound_reason(error)}")
        else:
            decoder.next_frame = frame + frames
            self._give_back(decoder)
        # libsndfile divides 16-bit samples by 32768: they come out of this as they were in the file.
        whole = np.clip(np.rint(block * 32768.0), -32768, 32767)
        return bytes(whole.astype("<i2").data)

    def _take(self, content_id: bytes, frame: int) -> _Kept | None:
        """Take out a decoder of a track, the one that stands at a frame if there is such."""
        with self._lock:
            same = [one for one in self._kept if one.content_id == content_id]
            if not same:
                return None
            found = next((one for one in same if one.next_frame == frame), same[0])
            self._kept.remove(found)
            return found

    def _give_back(self, decoder: _Kept) -> None:
        with self._lock:
            self._kept.append(decoder)
            out = self._kept if self._closed else self._kept[:-MAX_DECODERS]
            self._kept = self._kept[len(out) :]
        for one in out:
            one.opened.close()


def _open(path: Path, track: Track) -> OpenTrack:
    """Open a decoder.

    Raises:
        MediaError: the file is not there, or not what it was.
    """
    fd = open_regular(path)
    if fd is None:
        raise MediaError("it is not there any more")
    guard = Guard(os.fdopen(fd, "rb"))
    try:
        return OpenTrack(track, guard, CHANNELS)
    except (BytesMissingError, MediaError):
        guard.close()
        raise
    except Exception as error:
        guard.close()
        raise MediaError(sound_reason(error)) from None


def _shut(decoder: _Kept | None) -> None:
    if decoder is not None:
        with contextlib.suppress(Exception):
            decoder.opened.close()


def _asked(request: web.Request, track: Track) -> tuple[int, int]:
    """Return the first frame that is asked for, and how many there are from there on.

    Raises:
        ControlError: the numbers make no sense.
    """
    numbers = [request.query.get(name, "") for name in ("frame", "frames")]
    if not all(text.isascii() and text.isdecimal() and len(text) <= 13 for text in numbers):
        raise ControlError("say which frames: ?frame=FIRST&frames=COUNT, whole numbers")
    frame, frames = (int(text) for text in numbers)
    if not 1 <= frames <= MAX_DURATION_S * track.rate_hz:
        raise ControlError(f"from 1 to {MAX_DURATION_S * track.rate_hz} frames at a time ({MAX_DURATION_S} s)")
    if frame >= track.frames:
        raise ControlError(f"the track has {track.frames} frames: there is no frame {frame}")
    return frame, min(frames, track.frames - frame)
