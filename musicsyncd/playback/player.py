"""One speaker: the sound card's frames, the host's clock and the time line, joined block by block.

For every block that the card asks for: when will it sound (:class:`DacModel`), what host
time is that (:class:`ClockMapping`), where is the sound now and how fast may it go
there (:class:`Servo`), and which samples are those (:class:`Renderer`).

The control loop hands over what to follow with :meth:`Player.follow`; the audio callback
calls :meth:`Player.render`. What passes between them are single assignments of immutable
objects, so neither waits for the other.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from musicsyncd.clock.mapping import ClockMapping
from musicsyncd.playback.dac import DacModel
from musicsyncd.playback.mixer import Mixer
from musicsyncd.playback.pointer import PointerWatch
from musicsyncd.playback.renderer import FrameSources, Renderer, Samples
from musicsyncd.playback.servo import Plan, Servo
from musicsyncd.playback.timeline import Timeline
from musicsyncd.units import NS_PER_MS, NS_PER_S, LocalNs, ppm_to_ratio

CROSSFADE_FRAMES = 480
"""Of a step from one position to another: 10 ms at 48 kHz."""

CONTROL_DURATION_NS = 25 * NS_PER_MS
"""From a datagram's arrival to the first decoded chunk of another position, on a slow machine."""


@dataclass(frozen=True, slots=True)
class Course:
    """What to follow.

    Attributes:
        timeline: what sounds when, in host time.
        mapping: the host's clock; None while unknown.
        host_epoch: of the host whose clock and time line these are: two epochs' times are not comparable.
        delay_duration_ns: what stands behind the card is late by this; positive is fed earlier.
    """

    timeline: Timeline = field(default_factory=Timeline)
    mapping: ClockMapping | None = None
    host_epoch: int = 0
    delay_duration_ns: int = 0


class Player:
    """Renders what a sound card plays.

    Args:
        card_rate_hz: the card's nominal rate.
        channels: of the card.
        sources: decoded tracks.

    Attributes:
        plan: the newest block's place in host time, None before the first.
        sounding: a track was in the newest block.
        blocks: rendered so far; a watchdog sees by it that the card still asks.
        dac: when the card's frames sound.
        mixer: volume and channels.
    """

    def __init__(self, card_rate_hz: int, channels: int, sources: FrameSources) -> None:
        self.plan: Plan | None = None
        self.sounding = False
        self.blocks = 0
        self.dac = DacModel(card_rate_hz)
        self.mixer = Mixer(card_rate_hz)
        self._pointer = PointerWatch()
        self._card_rate_hz = card_rate_hz
        self._servo = Servo()
        self._renderer = Renderer(card_rate_hz, channels, sources)
        self._course = Course()
        self._playing = Course()
        self._buffered_ns = 0
        self._scratch = np.zeros((0, channels), np.float32)

    # -- the control loop's side ---------------------------------------------------------------

    def follow(self, course: Course) -> None:
        """From the next block on, follow this."""
        self._course = course

    @property
    def starved_frames(self) -> int:
        """Frames that were silence for want of decoded sound."""
        return self._renderer.starved_frames

    @property
    def sync_error_ns(self) -> float:
        """When frames sound minus when they should, by what is known here; late is positive."""
        return self._servo.error_ns

    @property
    def correction_ppm(self) -> float:
        """The rate change in force."""
        return self._servo.correction_ppm

    @property
    def pointer_grain_frames(self) -> int:
        """By how many frames the card's pointer moves at once; 1 while that is not known, or where it is fine."""
        return self._pointer.grain_frames

    @property
    def state(self) -> str:
        """``waiting`` for a clock or for the track, ``silent``, ``catching up`` or ``together``."""
        if self._course.mapping is None or self.plan is None:
            return "waiting"
        if not self.sounding:
            return "silent"
        return "waiting" if self._renderer.starving else self._servo.state

    @property
    def lead_duration_ns(self) -> int:
        """How long before it sounds a change must be known here: the card's buffer, a block, and the decoding."""
        return self._buffered_ns + CONTROL_DURATION_NS

    # -- the audio callback's side -------------------------------------------------------------

    def render(
        self,
        out: Samples,
        dac_frame: int,
        dac_local_ns: int,
        now_local_ns: int,
        broken: bool = False,
        read_local_ns: int = 0,
    ) -> int:
        """Fill the block that begins with the card's frame ``dac_frame``.

        Args:
            out: float32, (frames, channels), overwritten.
            dac_frame: frames handed to the card before this block.
            dac_local_ns: when the card says that this block will sound; 0 if it does not say.
            now_local_ns: the local clock now.
            broken: there was an underrun before this block: frames and time are no longer on the line.
            read_local_ns: when the card was asked for ``dac_local_ns``; 0 if that is not known.

        Returns:
            The local time until which the block had best be kept, so that the next look at the card tells most
            (:class:`PointerWatch`); 0 for no reason to wait.
        """
        self.blocks += 1
        if broken:
            self.dac.restart()
        look = self._look(dac_frame, dac_local_ns, read_local_ns)
        line = self.dac.line
        going_on = self.dac.observe(
            dac_frame,
            dac_local_ns,
            now_local_ns,
            read_local_ns=read_local_ns,
            grain_frames=self._pointer.grain_frames,
            is_early=look is not None and line is not None and self._pointer.contradicts(line, *look),
        )
        steady = going_on and not broken
        if not steady:
            self._pointer.restart(now_local_ns, ran_dry=broken)
        self._fill(out, dac_frame, now_local_ns, steady)
        line = self.dac.line
        if look is None or line is None or self.dac.counting:
            return 0
        self._pointer.observe(dac_frame, *look)
        return self._pointer.next_look_ns(line, dac_frame + len(out), len(out), now_local_ns)

    def _look(self, dac_frame: int, dac_local_ns: int, read_local_ns: int) -> tuple[int, int] | None:
        """Return the frame that the card's pointer showed, and when; None if that is not known."""
        if not 0 < read_local_ns <= dac_local_ns:
            return None
        return dac_frame - round((dac_local_ns - read_local_ns) * self._card_rate_hz / NS_PER_S), read_local_ns

    def _fill(self, out: Samples, dac_frame: int, now_local_ns: int, steady: bool) -> None:
        course, before = self._course, self._playing
        line = self.dac.line
        if line is None or course.mapping is None:
            out.fill(0.0)
            self.sounding = False
            return
        self._playing = course
        sounds_local_ns = round(line.local_at(dac_frame))
        self._note_buffered(sounds_local_ns - now_local_ns + len(out) * NS_PER_S // self._card_rate_hz)
        mapping = course.mapping
        wanted_host_ns = mapping.host_at(LocalNs(sounds_local_ns + course.delay_duration_ns))
        wanted_ns_per_frame = line.ns_per_frame * ppm_to_ratio(mapping.skew_ppm)
        moved = course.host_epoch != before.host_epoch
        if not self.sounding:
            self._servo.restart()  # Nothing is heard, so there is nothing to slew.
        plan = self._servo.plan(wanted_host_ns, wanted_ns_per_frame, len(out), must_step=moved or not steady)
        self.plan = plan
        was_sounding = self.sounding
        self.sounding = self._renderer.render(
            course.timeline, plan.start_host_ns, plan.start_fraction_ns, plan.ns_per_frame, out
        )
        if was_sounding or self.sounding:
            self._blend(plan, course, before, out, was_sounding)
            self.mixer.apply(out)
        else:
            self.mixer.settle()

    def _note_buffered(self, buffered_ns: int) -> None:
        # The longest of late, forgotten slowly: a change must be in time for the worst block, not the mean.
        decayed = self._buffered_ns - self._buffered_ns // 500
        self._buffered_ns = min(max(buffered_ns, decayed, 0), 5 * NS_PER_S)

    def _blend(self, plan: Plan, course: Course, before: Course, out: Samples, was_sounding: bool) -> None:
        """Cross over from what would have sounded, where this block does not continue it."""
        stepped = plan.old_start_host_ns is not None
        if not was_sounding:
            # From silence into the middle of a track that the time line has sounding already: come in softly.
            frames = min(len(out), CROSSFADE_FRAMES)
            segment = course.timeline.sounding_at(plan.start_host_ns)
            if segment is not None and plan.start_host_ns - segment.start_host_ns > NS_PER_MS:
                out[:frames] *= _rise(frames)
            return
        if not stepped and not _differ(before.timeline, course.timeline, plan.start_host_ns):
            return
        frames = min(len(out), CROSSFADE_FRAMES)
        if len(self._scratch) < frames:
            self._scratch = np.zeros((CROSSFADE_FRAMES, out.shape[1]), np.float32)
        old = self._scratch[:frames]
        if plan.old_start_host_ns is None:
            line = plan.start_host_ns, plan.start_fraction_ns, plan.ns_per_frame
        else:
            line = plan.old_start_host_ns, plan.old_start_fraction_ns, plan.old_ns_per_frame
        self._renderer.render(before.timeline, *line, old)
        rise = _rise(frames)
        out[:frames] *= rise
        old *= 1.0 - rise
        out[:frames] += old


def _rise(frames: int) -> Samples:
    ramp = 0.5 - 0.5 * np.cos(np.pi * (np.arange(frames) + 0.5) / frames)
    return ramp.astype(np.float32)[:, None]


def _differ(old: Timeline, new: Timeline, host_ns: int) -> bool:
    """Return whether two time lines have different sound at an instant."""
    if old is new:
        return False
    before, after = old.sounding_at(host_ns), new.sounding_at(host_ns)
    if before is None or after is None:
        return before is not after
    if before.entry != after.entry or before.track != after.track:
        return True
    # The same track: the same position, but for the rounding of an anchor to whole nanoseconds?
    a, b = before.position_at(host_ns), after.position_at(host_ns)
    return abs((a[0] - b[0]) + (a[1] - b[1])) > 0.01
