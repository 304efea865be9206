"""The sound half of a peer: card, player, decoding, fetching and cache, behind one small face.

Runs on the event loop's side; the audio callback and the decoding and fetching threads
are behind :class:`Player`, :class:`DecodeAhead` and :class:`Fetcher`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from pathlib import Path

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
from musicsyncd.system.output import Output, open_output
from musicsyncd.system.own_files import OwnFiles
from musicsyncd.units import NS_PER_S, LocalNs, ns_to_s

log = logging.getLogger(__name__)

_REOPEN_AFTER_S = 2.0
_STALLED_AFTER_S = 3.0
"""A card that has not asked for a block for so long is taken for gone."""

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
        self._blocks, self._blocks_at_ns = 0, 0
        self._underruns_before = 0
        self._throttle = Throttle(log)

    # -- the card ------------------------------------------------------------------------------

    async def open(self) -> None:
        """Open the output and begin to play.

        Raises:
            DeviceError: when it cannot be opened.
            ConfigError: when there is no such output.
        """
        # Opening a card takes from milliseconds to seconds, and the network must not wait for it.
        opened = await asyncio.to_thread(
            open_output, self._output_name, device=self._device, rate_hz=self._rate_hz, buffer_ms=self._buffer_ms
        )
        with contextlib.suppress(MediaError):  # Who needs it is told; loading it must not delay the first track.
            await asyncio.to_thread(soundfile_module)
        self._decoder = DecodeAhead(self._open_track, opened.channels)
        self._player = Player(opened.rate_hz, opened.channels, self._decoder)
        self._player.follow(self._course)
        self._player.mixer.set_gain(self._gain)
        self._player.mixer.set_channels(self._channels)
        self._output = opened
        self._fault = ""
        self._blocks, self._blocks_at_ns = 0, now_ns()
        await asyncio.to_thread(opened.start, self._player.render)
        log.info("playing on %s: %d Hz, %d channels", opened.description, opened.rate_hz, opened.channels)

    async def keep_open(self) -> None:
        """Open the output again whenever it is gone, for ever."""
        while True:
            await asyncio.sleep(_REOPEN_AFTER_S)
            if self._output is not None and self._alive(self._output):
                continue
            if self._output is not None:
                self._fault = f"{self._output.description} stopped asking for sound"
                log.warning("%s: opening it again", self._fault)
                await self._let_go()
            try:
                await self.open()
            except DeviceError as error:
                self._fault = str(error)
                self._throttle.warning("card", str(error))

    def _alive(self, output: Output) -> bool:
        blocks = self._player.blocks if self._player is not None else 0
        if blocks != self._blocks:
            self._blocks, self._blocks_at_ns = blocks, now_ns()
        return output.healthy() and ns_to_s(now_ns() - self._blocks_at_ns) < _STALLED_AFTER_S

    async def _let_go(self) -> None:
        output, decoder = self._output, self._decoder
        self._output = self._player = self._decoder = None
        if output is not None:
            self._underruns_before += output.underruns
            await asyncio.to_thread(output.close)
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
        """Stop everything."""
        await self._let_go()
        await asyncio.to_thread(self._fetcher.close)
        if self._own_files is not None:
            await asyncio.to_thread(self._own_files.close)

    # -- what to play --------------------------------------------------------------------------

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

    # -- what is to be said of it --------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """The card is open and asks for blocks."""
        return self._output is not None and self._player is not None and self._alive(self._output)

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
