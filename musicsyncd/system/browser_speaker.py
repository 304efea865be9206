"""One browser that plays: its clock, what it was told, and what it says of itself.

Owns what is said to it and when, from its first message to its last, and the estimate of its clock: by the same
:class:`~musicsyncd.clock.filter.HostClock` that a speaker runs for itself, here on the host, in the browser's own time.
Must not know of sockets and of other browsers: messages and host times are given to it, messages come back.

Theory: a browser's stamps are whole multiples of 5 or 100 µs and taken in an event loop, and the messages go over
TCP. The estimator takes bounds, so a late stamp is a long way and no error; what is left is seen in its uncertainty.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from musicsyncd.clock.exchange import Exchange
from musicsyncd.clock.filter import HostClock
from musicsyncd.errors import ClockError
from musicsyncd.playback.timeline import Timeline
from musicsyncd.protocol.host import PeerInfo, RoomState
from musicsyncd.protocol.reporting import clock_stats
from musicsyncd.protocol.wire import ClockStats, PlaybackStats, Report
from musicsyncd.system import browser_messages as messages
from musicsyncd.system.saved_peer import SavedPeer
from musicsyncd.units import NS_PER_MS, NS_PER_S, HostNs, LocalNs

MAX_LEAD_NS = 600 * NS_PER_MS
"""So much time before a change a browser may ask for: beyond it, its room would feel slow to everybody."""

MAX_UNDER_WAY = 32
"""Answers whose arrival may still be told: 1.6 s of the burst with which a browser begins."""

STAMPS = "web"
"""What ``status`` says of how a browser's packets are stamped: by JavaScript."""

_PRESENT_AFTER_NS = 5 * NS_PER_S
"""As for speakers: so long after its connection broke a browser counts as there, or its room's lead would flap."""


@dataclass(frozen=True, slots=True)
class Playing:
    """What a browser's room does.

    Attributes:
        said: what the room's speakers were told.
        mode: ``playing``, ``paused`` or ``stopped``.
        title, artist: of what plays.
    """

    said: RoomState
    mode: str
    title: str = ""
    artist: str = ""


class Browser:
    """A browser, from its hello on.

    Args:
        hello: what it said.
        peer_id: under which it is known.
        address: of its machine.
        version: of the program: the page is the host's own.
        now_host_ns: this instant; its times are counted from here.

    Attributes:
        peer_id: as above.
        name, room: its own and that of the room in which it plays, as kept.
        left_host_ns: when its connection ended; None while it is there.
        refused: stamps that made no sense, since the start.
    """

    def __init__(
        self, hello: messages.Hello, peer_id: bytes, address: str, version: str, now_host_ns: int, epoch: int = 0
    ) -> None:
        self.peer_id = peer_id
        self.left_host_ns: int | None = None
        self.refused = 0
        self.name = hello.name
        self._output = f"browser: {hello.agent}" if hello.agent else "browser"
        self._address = address
        self._version = version
        self._epoch = epoch
        self._base_host_ns = now_host_ns
        self._seen_host_ns = now_host_ns
        self._clock = HostClock()
        self._under_way: dict[int, tuple[int, int, int]] = {}
        self._report: messages.Report | None = None
        self._told: messages.State | None = None
        self.room = ""
        self._revisions = (0, 0)

    def welcome(self) -> messages.Welcome:
        """Return the first message to it."""
        return messages.Welcome(self.peer_id.hex(), str(self._base_host_ns))

    def tell(self, saved: SavedPeer, playing: Playing | None) -> messages.State | None:
        """Return what it is to be told, or None when it knows that.

        Args:
            saved: its settings.
            playing: what its room does; None when there is no such room.
        """
        said = None if playing is None else playing.said
        state = messages.State(
            name=saved.name,
            room=saved.room,
            volume=saved.volume,
            muted=saved.muted,
            room_volume=100 if said is None else said.volume,
            room_muted=said is not None and said.muted,
            output_delay_ms=saved.output_delay_us / 1000,
            channels=saved.channels,
            mode="stopped" if playing is None else playing.mode,
            title="" if playing is None else playing.title,
            artist="" if playing is None else playing.artist,
            spans=messages.stretches(Timeline() if said is None else said.timeline, self._base_host_ns),
        )
        self.name, self.room = saved.name, saved.room
        self._revisions = (saved.settings_revision, 0 if said is None else said.revision)
        if state == self._told:
            return None
        self._told = state
        return state

    def probed(self, probe: messages.Probe, received_host_ns: int, now_host_ns: int) -> messages.Answer:
        """Take a probe that arrived at ``received_host_ns``, and return its answer, to be sent at ``now_host_ns``."""
        self._seen_host_ns = received_host_ns
        asked = self._under_way.pop(probe.answered, None)
        if asked is not None:
            self._observe(*asked, probe.t4)
        while len(self._under_way) >= MAX_UNDER_WAY:
            del self._under_way[next(iter(self._under_way))]
        self._under_way[probe.n] = (probe.t1, received_host_ns, now_host_ns)
        return messages.Answer(probe.n)

    def _observe(self, t1: int, t2: int, t3: int, t4: int) -> None:
        try:
            self._clock.observe(Exchange(LocalNs(t1), HostNs(t2), HostNs(t3), LocalNs(t4)))
        except ClockError:
            self.refused += 1

    def clock(self) -> messages.Clock | None:
        """Return what it is to know of the host's clock; None while nothing is known."""
        mapping = self._clock.mapping
        if mapping is None:
            return None
        return messages.Clock(
            mapping.local_ns, mapping.host_ns - self._base_host_ns, mapping.skew_ppm, mapping.uncertainty_ns
        )

    def reported(self, report: messages.Report, now_host_ns: int) -> None:
        """Take what it says of its sound."""
        self._seen_host_ns = now_host_ns
        self._report = report

    def present(self, now_host_ns: int) -> bool:
        """Return whether it counts as there."""
        return self.left_host_ns is None or now_host_ns - self.left_host_ns < _PRESENT_AFTER_NS

    def lead_duration_ns(self) -> int:
        """Return how far ahead a change must be for it: what it says that it needs, and the way there."""
        if self._report is None:
            return 0
        way_ns = self._clock.round_trip_ns // 2 + self._clock.jitter_ns
        return min(round(self._report.lead_ms * NS_PER_MS) + way_ns, MAX_LEAD_NS)

    def info(self, now_host_ns: int) -> PeerInfo:
        """Return what is known of it, in the words that are used of every speaker."""
        settings_revision, state_revision = self._revisions
        report = Report(
            *(self.name, self.room, settings_revision, state_revision, False, self._version),
            *(self._clock_stats(), self._playback_stats()),
        )
        return PeerInfo(
            *(self.peer_id, self._epoch, (self._address, 0), report, HostNs(self._seen_host_ns), "web"),
            self.present(now_host_ns),
        )

    def _clock_stats(self) -> ClockStats:
        """Return its clock's figures; the uncertainty is that of a sound, the sound card's share included."""
        report = self._report
        stats = clock_stats(self._clock, 0.0, STAMPS, 0 if report is None else report.t)
        if report is None or not stats.uncertainty_ns:
            return stats
        uncertainty_ns = stats.uncertainty_ns + round(report.uncertainty_us * 1000)
        return msgspec.structs.replace(stats, uncertainty_ns=uncertainty_ns)

    def _playback_stats(self) -> PlaybackStats:
        report = self._report
        if report is None:
            return PlaybackStats(state="waiting", output=self._output)
        return PlaybackStats(
            state=report.state,
            sync_error_ns=round(report.sync_error_us * 1000),
            correction_ppm=report.correction_ppm,
            underruns=report.underruns,
            starved_frames=report.starved_frames,
            lead_duration_ns=min(round(report.lead_ms * NS_PER_MS), MAX_LEAD_NS),
            card_ppm=report.card_ppm,
            output=self._output,
            fault=report.fault,
        )
