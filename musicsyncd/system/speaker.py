"""The sound half of a peer: card, player, decoding, fetching and cache, behind one small face.

Runs on the event loop's side; the audio callback and the decoding and fetching threads
are behind :class:`Player`, :class:`DecodeAhead` and :class:`Fetcher`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from musicsyncd.errors import DeviceError, MediaError
from musicsyncd.media.ahead import Missing, due_host_ns, frames_wanted, missing_since, segments_wanted
from musicsyncd.media.decoder import DecodeAhead
from musicsyncd.media.inspect import soundfile_module
from musicsyncd.media.store import Store
from musicsyncd.media.stored import StoredReader, StoredTrack
from musicsyncd.playback.player import Course, Player
from musicsyncd.playback.timeline import Segment, Track
from musicsyncd.protocol.wire import PlaybackStats
from musicsyncd.system.fetch import Fetcher, Wanted
from musicsyncd.system.log import Throttle
from musicsyncd.system.monotonic import boot_identity, now_ns
from musicsyncd.system.output import LastingError, Output, open_output
from musicsyncd.system.sound_thread import SoundThread
from musicsyncd.units import NS_PER_S, LocalNs, ns_to_s, ns_to_us

if TYPE_CHECKING:
    from musicsyncd.system.own_files import OwnFiles

log = logging.getLogger(__name__)

_LOOK_EVERY_S = 0.5
"""At a card that plays."""

_REOPEN_AFTER_S = 2.0
"""A card that is away is tried so often: each time costs a look at all cards."""

_STALLED_AFTER_S = 3.0
"""A card that has not asked for a block for so long is taken for gone."""

_HELD_UP_AFTER_S = 1.0
"""Whoever has not looked for so long was held up, perhaps with the card: it is given its time anew."""

_NOT_TRIED_AFTER_S = 30.0
"""A card that is away is tried more often than this, even one that takes all its time to refuse."""

_STOP_LIMIT_S = 2.0
"""What a card may take to close when the peer ends; whoever ends it waits for no more."""

_DECODES_WITHIN_S = 15.0
"""One chunk of a track whose bytes are all here, from a slow disk and with the search for its place."""

_SAID_AFTER_NS = NS_PER_S
"""Silence for want of bytes that lasts so long is a fault; a seek may take a part of it."""


class Speaker:
    """Plays a course on an output, and opens the output again when it goes.

    Args:
        output: as ``--output`` says it.
        device: as ``--device`` says it.
        rate_hz: the card's rate, or None for its own choice.
        buffer_ms: of the card.
        cache_folder: where fetched tracks are kept.
        cache_bytes: how much of them; None for what the disk can spare.
        token: for the host's media; None for a room without a key.
        own_files: music of this machine, which need not be fetched.
    """

    def __init__(
        self,
        *,
        output: str,
        device: str | None,
        rate_hz: int | None,
        buffer_ms: float,
        cache_folder: Path,
        cache_bytes: int | None,
        token: str | None,
        own_files: OwnFiles | None = None,
    ) -> None:
        self._output_name, self._device, self._rate_hz, self._buffer_ms = output, device, rate_hz, buffer_ms
        self._own_files = own_files
        local = own_files.path_of if own_files is not None else None
        self._store = Store(cache_folder, cache_bytes, local, boot_id=boot_identity())
        self._fetcher = Fetcher(token or "")
        self._tracks: dict[bytes, StoredTrack] = {}
        self._wanted: list[Segment] = []
        self._missing: Missing | None = None
        self._silent_ns = 0
        self._course = Course()
        self._gain = 1.0
        self._channels = "stereo"
        self._output: Output | None = None
        self._decoder: DecodeAhead | None = None
        self._player: Player | None = None
        self._fault = ""
        self._faults: dict[bytes, str] = {}
        self._calls = SoundThread()
        self._blocks, self._blocks_at_ns, self._looked_at_ns = 0, 0, 0
        self._tried_at_ns = now_ns()
        self._decoding: tuple[Track, int] | None = None
        self._decoding_since_ns = 0
        self._slept = False
        self._look_now = asyncio.Event()
        self._underruns_before = 0
        self._throttle = Throttle(log)

    # -- the card ------------------------------------------------------------------------------

    async def begin(self) -> None:
        """Open the output for the first time; a card that is not there, or busy, is left to :meth:`keep_open`.

        Raises:
            LastingError: when waiting would not help.
            ConfigError: when there is no such output.
        """
        try:
            await self.open()
        except LastingError:
            raise
        except DeviceError as error:
            self._fault = str(error)
            self._throttle.warning("card", f"{error}: waiting for it")

    async def open(self) -> None:
        """Open the output and begin to play.

        Raises:
            DeviceError: when it cannot be opened.
            ConfigError: when there is no such output.
        """
        self._tried_at_ns = now_ns()
        opened = await self._calls.call("opening", self._open_output, undo=lambda late: late.close())
        with contextlib.suppress(MediaError):  # Who needs it is told; loading it must not delay the first track.
            await asyncio.to_thread(soundfile_module)
        # Another card, the screen's for one, is not to be taken for it when it is unplugged.
        self._device = self._device or opened.description
        self._decoder = DecodeAhead(self._open_track, opened.channels)
        self._player = player = Player(opened.rate_hz, opened.channels, self._decoder)
        player.follow(self._course)
        player.mixer.set_gain(self._gain)
        player.mixer.set_channels(self._channels)
        self._output = opened
        self._fault = ""
        self._blocks, self._blocks_at_ns = 0, now_ns()
        await self._calls.call("starting", lambda: opened.start(player.render))
        log.info("playing on %s: %d Hz, %d channels", opened.description, opened.rate_hz, opened.channels)

    def _open_output(self) -> Output:
        return open_output(self._output_name, device=self._device, rate_hz=self._rate_hz, buffer_ms=self._buffer_ms)

    async def keep_open(self) -> None:
        """Open the output again whenever it is gone, for ever."""
        while True:
            wait_s = _REOPEN_AFTER_S if self._output is None else _LOOK_EVERY_S
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._look_now.wait()
            self._look_now.clear()
            if self._output is not None and not self._slept and self._alive(self._output):
                continue
            try:
                await self._let_go_of_what_is_gone()
                await self.open()
            except DeviceError as error:
                self._fault = str(error)
                self._throttle.warning("card", str(error))

    async def _let_go_of_what_is_gone(self) -> None:
        slept, self._slept = self._slept, False
        if self._output is None:
            return
        if not slept:
            self._fault = f"{self._output.description} stopped asking for sound"
            log.warning("%s: opening it again", self._fault)
        await self._let_go()

    def resumed(self) -> None:
        """Open a sound card again now: the machine has slept, which few drivers survive unharmed."""
        if self._output_name == "portaudio":
            self._slept = True
            self._look_now.set()

    def _alive(self, output: Output) -> bool:
        blocks, local_ns = self._player.blocks if self._player is not None else 0, now_ns()
        if blocks != self._blocks or ns_to_s(local_ns - self._looked_at_ns) > _HELD_UP_AFTER_S:
            self._blocks, self._blocks_at_ns = blocks, local_ns
        self._looked_at_ns = local_ns
        return output.healthy() and ns_to_s(local_ns - self._blocks_at_ns) < _STALLED_AFTER_S

    async def _let_go(self, limit_s: float | None = None) -> None:
        """Close the card and what feeds it.

        Raises:
            HungError: when the card does not close within its time.
        """
        output, decoder = self._output, self._decoder
        self._output = self._player = self._decoder = None
        try:
            if output is not None:
                self._underruns_before += output.underruns
                await self._calls.call("closing", output.close, limit_s=limit_s)
        finally:
            if decoder is not None:
                await asyncio.to_thread(decoder.close)

    async def fade_out(self) -> None:
        """Come down to silence and wait until it is heard, half a second at most."""
        player = self._player
        if player is None or not player.sounding:
            return
        player.mixer.set_gain(0.0)
        for _ in range(25):
            if player.mixer.silent:
                break
            await asyncio.sleep(0.02)
        await asyncio.sleep(min(0.25, ns_to_s(player.lead_duration_ns)))

    async def close(self) -> None:
        """Stop everything, in a few seconds even when the card hangs: see :attr:`hanging`."""
        await self._calls.settle(_STOP_LIMIT_S)
        with contextlib.suppress(DeviceError):
            await self._let_go(_STOP_LIMIT_S)
        await asyncio.to_thread(self._fetcher.close)
        if self._own_files is not None:
            await asyncio.to_thread(self._own_files.close)

    # -- what to play --------------------------------------------------------------------------

    def set_token(self, token: str) -> None:
        """Show this token to the host from now on: it has another key."""
        self._fetcher.token = token

    def follow(self, course: Course) -> None:
        """Play this from the next block on."""
        self._course = course
        if self._player is not None:
            self._player.follow(course)

    def set_gain(self, gain: float) -> None:
        """Ramp to an amplitude, 0…1."""
        self._gain = gain
        if self._player is not None:
            self._player.mixer.set_gain(gain)

    def set_channels(self, channels: str) -> None:
        """Play ``stereo``, or ``left``, ``right`` or their mean (``mono``) on both sides."""
        self._channels = channels
        if self._player is not None:
            self._player.mixer.set_channels(channels)

    def set_host(self, address: str, port: int) -> None:
        """Fetch tracks from here."""
        self._fetcher.set_host(address, port)

    def look_ahead(self) -> None:
        """Have decoded and fetched what will sound soon. Call it after every change and a few times a second."""
        course = self._course
        if course.mapping is None or self._decoder is None:
            return
        local_ns = now_ns()
        host_ns = course.mapping.host_at(LocalNs(local_ns + course.delay_duration_ns))
        self._wanted = segments_wanted(course.timeline, host_ns)
        self._hold([segment.track for segment in self._wanted if segment.track is not None])
        decoder, lead_ns = self._decoder, self._player.lead_duration_ns if self._player is not None else 0
        # What is due before is in the card already.
        asked_ns = host_ns + lead_ns
        self._missing = missing_since(self._missing, course.timeline, asked_ns, decoder.ready)
        self._silent_ns = asked_ns - self._missing.since_host_ns if self._missing is not None else 0
        decoder.want(frames_wanted(course.timeline, host_ns, self._missing))
        self._fetcher.want(self._to_fetch(decoder, local_ns, host_ns))

    def _to_fetch(self, decoder: DecodeAhead, local_ns: int, host_ns: int) -> list[Wanted]:
        """Return what should be fetched, and when it is due."""
        wanted = []
        for segment in self._wanted:
            track = segment.track
            stored = self._tracks.get(track.content_id) if track is not None else None
            if track is not None and stored is not None:
                due_ns = due_host_ns(segment, host_ns, self._missing, decoder.ready)
                wanted.append(Wanted(stored, local_ns + due_ns - host_ns, track.duration_ns / track.size_bytes))
        return wanted

    def _hold(self, wanted: list[Track]) -> None:
        for track in wanted:
            held = self._tracks.get(track.content_id)
            if held is not None and not held.spoiled:
                continue
            if held is not None:
                log.warning("%s: having it anew", held.failure)
            if self._own_files is not None and not self._own_files.settled(track):
                continue
            try:
                self._tracks[track.content_id] = self._store.open(track)
            except MediaError as error:
                self._faults[track.content_id] = str(error)
                self._throttle.warning("store", str(error))
            else:
                self._faults.pop(track.content_id, None)
        keep = {track.content_id for track in wanted}
        self._faults = {content_id: fault for content_id, fault in self._faults.items() if content_id in keep}
        for gone in [content_id for content_id in self._tracks if content_id not in keep]:
            del self._tracks[gone]

    def _open_track(self, track: Track) -> StoredReader:
        stored = self._tracks.get(track.content_id)
        if stored is None:
            raise MediaError("the track is not held any more")
        return stored.reader()

    async def resize_cache(self, cache_bytes: int | None) -> None:
        """Keep so much of fetched tracks from now on; None for what the disk can spare."""
        try:
            await asyncio.to_thread(self._store.resize, cache_bytes)
        except OSError as error:
            self._throttle.warning("store", f"the size of the cache stays: {error.strerror or error}")

    # -- what is to be said of it --------------------------------------------------------------

    @property
    def hanging(self) -> str:
        """What does not come back from the sound system, which this process may not use any more; else empty."""
        return self._calls.hanging

    @property
    def trouble(self) -> str:
        """Why this speaker will not go on by itself; empty while it plays, and while it waits for a card."""
        if self.hanging:
            return f"the sound card does not answer ({self.hanging} it)"
        if self._output is not None:
            if not self._alive(self._output):
                return f"{self._output.description} does not ask for sound"
            return "the decoding stands still" if self._decoding_hangs() else ""
        not_tried = ns_to_s(now_ns() - self._tried_at_ns) > _NOT_TRIED_AFTER_S
        return "nobody tries to open the sound card" if not_tried else ""

    def _decoding_hangs(self) -> bool:
        decoder = self._decoder
        if decoder is None or not decoder.alive:
            return decoder is not None
        busy, local_ns = decoder.busy, now_ns()
        stored = self._tracks.get(busy[0].content_id) if busy is not None else None
        # It may wait for bytes for ever; not where all are here, nor for a track that is no longer wanted.
        waits = stored is not None and not stored.complete
        if busy is None or waits or busy != self._decoding:
            self._decoding, self._decoding_since_ns = busy, local_ns
        return ns_to_s(local_ns - self._decoding_since_ns) > _DECODES_WITHIN_S

    def stats(self) -> PlaybackStats:
        """Return what the peer reports of its sound."""
        player, output = self._player, self._output
        if player is None or output is None:
            return PlaybackStats(state="no card", fault=self._fault[:120], underruns=self._underruns_before)
        return PlaybackStats(
            state=player.state,
            sync_error_ns=round(player.sync_error_ns) if player.sounding else 0,
            correction_ppm=player.correction_ppm if player.sounding else 0.0,
            underruns=output.underruns + self._underruns_before,
            starved_frames=player.starved_frames,
            lead_duration_ns=player.lead_duration_ns,
            card_ppm=player.dac.rate_ppm,
            output=f"{output.description} {output.rate_hz} Hz"[:120],
            fault=self._media_fault()[:120],
        )

    def card(self) -> dict[str, Any] | None:
        """Return what is known of the card, as plain values; None while there is none."""
        player, output = self._player, self._output
        if player is None or output is None:
            return None
        line = player.dac.line
        return {
            "output": output.description,
            "rate_hz": output.rate_hz,
            "channels": output.channels,
            "card_ppm": round(player.dac.rate_ppm, 2),
            "uncertainty_us": round(ns_to_us(line.uncertainty_ns), 1) if line is not None else None,
            "pointer_frames": player.pointer_grain_frames,
            "tells_its_time": not player.dac.counting,
            "discontinuities": player.dac.discontinuities,
            "underruns": output.underruns + self._underruns_before,
        }

    def media(self) -> dict[str, Any]:
        """Return what is here of the tracks that are wanted, and what was fetched, as plain values."""
        tracks = list(self._tracks.values())
        return {
            "cache_max_bytes": self._store.max_bytes,
            "tracks": len(tracks),
            "missing_bytes": sum(one.missing_bytes for one in tracks),
            "fetched_bytes": self._fetcher.bytes_fetched,
            "fetched_bytes_per_s": round(self._fetcher.bytes_per_s),
            "fault": self._fetcher.fault,
        }

    def held_bytes(self) -> int:
        """Return how much the cache holds on disk. Not for the event loop.

        Raises:
            OSError: the cache cannot be read.
        """
        return self._store.held_bytes()

    def _media_fault(self) -> str:
        """Return what is wrong with the track that sounds or comes next, or with the fetching of it."""
        decoded = self._decoder.faults if self._decoder is not None else {}
        for segment in self._wanted:
            track = segment.track
            if track is None:
                continue
            fault = self._faults.get(track.content_id) or decoded.get(track.content_id)
            if fault is not None:
                return fault
            stored = self._tracks.get(track.content_id)
            if stored is not None and not stored.complete:
                fault = self._fetcher.fault or self._lateness(track)
                if fault:
                    return fault
        return self._fault

    def _lateness(self, track: Track) -> str:
        """Return why a track is not heard whose bytes do come, or nothing while it is, or may be in a moment."""
        if self._missing is None or self._missing.segment.track != track or self._silent_ns < _SAID_AFTER_NS:
            return ""
        takes_kib = track.size_bytes * NS_PER_S / track.duration_ns / 1024
        line = f"silent: the track comes with {self._fetcher.bytes_per_s / 1024:.0f} KiB/s and takes {takes_kib:.0f}"
        self._throttle.warning("late", line)
        return line
