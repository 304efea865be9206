"""What a browser that plays and its host say to each other over a WebSocket: one JSON object a message.

Owns the messages and what each field may be. Must not know who says them when. All times are whole nanoseconds. Those
of the host are counted from an instant of its own that it chooses for each connection (*base*), because a number in
JavaScript has 53 bits, and a host's clock after a hundred days of uptime has more.

The host sends the time line as spans, with the end of each already worked out by
:class:`musicsyncd.playback.timeline.Timeline`, so that its rules are written once.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from musicsyncd.errors import ProtocolError
from musicsyncd.playback.timeline import Span, Timeline
from musicsyncd.protocol.wire import MAX_NAME_CHARS, MAX_OUTPUT_DELAY_US

_Time = Annotated[int, msgspec.Meta(ge=0, lt=1 << 53)]
_Count = Annotated[int, msgspec.Meta(ge=0, lt=1 << 53)]
_Duration = Annotated[float, msgspec.Meta(ge=0, le=1e7)]
_Signed = Annotated[float, msgspec.Meta(ge=-1e10, le=1e10)]
_Ppm = Annotated[float, msgspec.Meta(ge=-1e6, le=1e6)]
_Text = Annotated[str, msgspec.Meta(max_length=80)]


class Hello(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="hello"):
    """The first message of a browser: who it is.

    Attributes:
        name: for people.
        id: known to this browser and this host only, 32 hexadecimal digits; always the same.
        agent: which browser on what, in a few words.
    """

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_NAME_CHARS)]
    id: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$")]
    agent: _Text = ""


class Probe(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="probe"):
    """What time is it? It is answered at once, and says when the answer before arrived.

    Attributes:
        n: counts a connection's probes, from 1.
        t1: the browser's clock (``performance.now()``) just before sending.
        answered: which earlier probe's answer has arrived since the last one; 0 for none.
        t4: when that was.
    """

    n: _Count
    t1: _Time
    answered: _Count = 0
    t4: _Time = 0


class Report(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="report"):
    """How a browser's sound is; once a second. As :class:`musicsyncd.protocol.wire.PlaybackStats`.

    Attributes:
        t: the browser's clock now.
        state: one word of ``no card``, ``silent``, ``waiting``, ``catching up``, ``together``.
        sync_error_us: when frames sound minus when they should, late is positive.
        uncertainty_us: of when a frame leaves the sound card.
        correction_ppm: the rate change in force.
        card_ppm: the sound card's rate against the browser's clock.
        underruns: stretches that were made too late.
        starved_frames: frames that were silence because no sound had come for them.
        lead_ms: how long before it sounds a change must be known.
        fault: what is wrong in one line, or empty.
    """

    t: _Time
    state: Annotated[str, msgspec.Meta(pattern="^(no card|silent|waiting|catching up|together)$")]
    sync_error_us: _Signed = 0.0
    uncertainty_us: _Duration = 0.0
    correction_ppm: _Ppm = 0.0
    card_ppm: _Ppm = 0.0
    underruns: _Count = 0
    starved_frames: _Count = 0
    lead_ms: _Duration = 0.0
    fault: _Text = ""


class Change(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="change"):
    """A browser's own settings, changed on itself: whoever may listen may say how loud their own device is.

    Attributes:
        output_delay_ms: what stands behind it is late by this; None for as it is.
        volume: percent; None for as it is.
    """

    output_delay_ms: Annotated[float, msgspec.Meta(ge=-MAX_OUTPUT_DELAY_US / 1e3, le=MAX_OUTPUT_DELAY_US / 1e3)] | None
    volume: Annotated[int, msgspec.Meta(ge=0, le=100)] | None = None


FromBrowser = Hello | Probe | Report | Change

_decoder = msgspec.json.Decoder(FromBrowser)


def decode(data: str | bytes) -> FromBrowser:
    """Return what a browser says.

    Raises:
        ProtocolError: with reason ``malformed``.
    """
    try:
        message: FromBrowser = _decoder.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ProtocolError("malformed", str(error)) from None
    return message


class Welcome(msgspec.Struct, frozen=True, tag="welcome"):
    """The host's first message.

    Attributes:
        peer_id: under which the API knows this browser.
        base_host_ns: the instant from which the host's times are counted; decimal digits, for people and tests.
    """

    peer_id: str
    base_host_ns: str


class Answer(msgspec.Struct, frozen=True, tag="answer"):
    """A probe has come. When, and when this left, the host keeps to itself: it does the sums."""

    n: int


class Clock(msgspec.Struct, frozen=True, tag="clock"):
    """The browser's clock against the host's; as :class:`musicsyncd.clock.mapping.ClockMapping`."""

    local_ns: int
    host_ns: int
    skew_ppm: float
    uncertainty_ns: int


class Sound(msgspec.Struct, frozen=True):
    """The track of a span.

    Attributes:
        id: content id, under which its frames are fetched.
        rate_hz: its frames a second.
        frames: its length.
        gain_db: by how much it is to be played louder than it was recorded.
    """

    id: str
    rate_hz: int
    frames: int
    gain_db: float


class Stretch(msgspec.Struct, frozen=True):
    """What sounds from one instant to another; see :class:`musicsyncd.playback.timeline.Span`.

    Attributes:
        start_ns: the instant at which ``frame`` sounds, host time from the base.
        start_fraction_ns: what rounding took from that.
        end_ns: when it ends.
        cut: it ends before its track does.
        entry: the queue's number of it.
        frame: of the track, at the start.
        fade_ms: for so long it rises over the one before.
        fall_ns: when the next one begins to rise over it; None for never.
        fall_ms: for so long it falls then.
        seam_before, seam_after: a track of another rate joins it there without a gap.
        track: what sounds.
    """

    start_ns: int
    start_fraction_ns: float
    end_ns: int
    cut: bool
    entry: int
    frame: int
    fade_ms: int
    fall_ns: int | None
    fall_ms: int
    seam_before: bool
    seam_after: bool
    track: Sound


class State(msgspec.Struct, frozen=True, tag="state"):
    """All that a browser is to play, and how; sent whenever any of it changes.

    Attributes:
        name: the browser's own.
        room: in which it plays.
        volume, muted: its own.
        room_volume, room_muted: of its room.
        output_delay_ms: what stands behind it is late by this.
        channels: ``stereo``, ``left``, ``right`` or ``mono``.
        mode: of the room: ``playing``, ``paused`` or ``stopped``.
        title, artist: of what plays, for people.
        spans: in order of their start.
    """

    name: str
    room: str
    volume: int
    muted: bool
    room_volume: int
    room_muted: bool
    output_delay_ms: float
    channels: str
    mode: str
    title: str
    artist: str
    spans: tuple[Stretch, ...]


class Gone(msgspec.Struct, frozen=True, tag="gone"):
    """The host's last message. ``again``: it helps to come again by itself."""

    why: str
    again: bool


ToBrowser = Welcome | Answer | Clock | State | Gone


def stretches(timeline: Timeline, base_host_ns: int) -> tuple[Stretch, ...]:
    """Return a time line with its times counted from a base."""
    return tuple(_stretch(span, base_host_ns) for span in timeline.spans())


def _stretch(span: Span, base_host_ns: int) -> Stretch:
    segment, follower = span.segment, span.follower
    track = segment.track
    assert track is not None, "a span has a track"
    following = None if span.following is None else span.following.track
    return Stretch(
        start_ns=segment.start_host_ns - base_host_ns,
        start_fraction_ns=span.start_fraction_ns,
        end_ns=span.end_host_ns - base_host_ns,
        cut=span.cut,
        entry=segment.entry,
        frame=segment.frame,
        fade_ms=segment.fade_ms,
        fall_ns=None if follower is None else follower.start_host_ns - base_host_ns,
        fall_ms=0 if follower is None else follower.fade_ms,
        seam_before=span.previous is not None and span.previous.rate_hz != track.rate_hz,
        seam_after=following is not None and following.rate_hz != track.rate_hz,
        track=Sound(track.content_id.hex(), track.rate_hz, track.frames, track.gain_db),
    )
