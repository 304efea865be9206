"""The transport of a room: its queue and a person's commands made into a time line.

Owns what sounds when. Must not know the clock (every call is told the time), peers,
files or the network. The caller says two instants with each command: ``now_host_ns``,
and ``at_host_ns``, from which on the command sounds, far enough ahead for every
speaker to hear of it. One rule holds everywhere: **what a time line has announced for
the time before ``at_host_ns`` stays as it is.** What a speaker has already taken into
its buffers is so never taken back, and no change of a queue disturbs what sounds now.

The caller's part:

* after every change of the queue (also a track that was prepared) and of how it repeats: :meth:`Transport.rebuild`;
* at :meth:`Transport.next_change_host_ns`: :meth:`Transport.advance`, and then, while
  :attr:`Transport.waiting` is not None, :meth:`Transport.rebuild`;
* :meth:`Transport.timeline` before each beacon, and then :attr:`Transport.revision`.
"""

from __future__ import annotations

from collections.abc import Mapping

from musicsyncd.errors import ControlError
from musicsyncd.media.queue import Entry, Queue
from musicsyncd.playback.elapsed import place_after
from musicsyncd.playback.plan import Plan
from musicsyncd.playback.saved import AfterRestart, Mode, Saved, read_saved
from musicsyncd.playback.seek import parse_seek
from musicsyncd.playback.timeline import Segment, Timeline
from musicsyncd.units import NS_PER_S, frames_to_ns

PREVIOUS_DURATION_NS = 3 * NS_PER_S
"""Within this much of a track's start ``previous`` means the one before; the time most players take."""


class Transport:
    """A room's playback.

    Attributes:
        queue: the room's queue. Its current entry is moved by the transport only.
        fade_ms: for so long tracks that follow by themselves rise over the end of the one before; 0 is gapless.
            A change takes effect with :meth:`rebuild`.
        revision: rises whenever :meth:`timeline` gives something else than before.
    """

    def __init__(self, queue: Queue) -> None:
        self.queue = queue
        self.fade_ms = 0
        self.revision = 0
        self._mode: Mode = "stopped"
        self._plan = Plan()
        self._held: tuple[int, int] | None = None  # entry and frame to go on from: paused, or not placed yet
        self._number = 0  # of the entry that was current when the transport last looked
        self._built = queue.entries  # the queue that the plan was made from
        self._seen_host_ns = 0
        self._shown: tuple[Segment, ...] = ()

    @property
    def mode(self) -> Mode:
        """What the last command asked for, or ``stopped`` after the queue's end."""
        return self._mode

    @property
    def waiting(self) -> Entry | None:
        """The entry that should sound and has no place in the plan yet, or None.

        It is not prepared, or commands came so fast that the time line is full. It
        begins with the first :meth:`rebuild` that can place it.
        """
        if self._mode != "playing" or self._held is None:
            return None
        return self.queue.find(self._held[0])

    @property
    def _sounds(self) -> bool:
        """It is playing, and what plays has its place in the plan."""
        return self._mode == "playing" and self._held is None

    def play(self, at_host_ns: int, now_host_ns: int, position: int | None = None) -> None:
        """Begin the entry at a position counted from 1; without one resume, or begin the current or first one.

        Raises:
            ControlError: there is no such position, or nothing there that can be played.
        """
        self._catch_up(at_host_ns, now_host_ns)
        if position is not None:
            entry = self.queue.at_position(position)
            if entry.fault:
                raise ControlError(f"position {position} cannot be played: {entry.fault}")
            self._place(entry.number, 0, at_host_ns, now_host_ns)
        elif self._mode == "paused" and self._held is not None:
            self._place(*self._held, at_host_ns, now_host_ns)
        elif self._mode == "stopped":
            found = self.queue.playable_from(self.queue.current or 0) or self.queue.playable_from(0)
            if found is None:
                raise ControlError(
                    f"nothing in the queue can be played: {self.queue.entries[0].fault}"
                    if self.queue.entries
                    else "the queue is empty: add a track first"
                )
            self._place(found.number, 0, at_host_ns, now_host_ns)

    def resume(self, at_host_ns: int, now_host_ns: int) -> None:
        """Go on where it was paused; the same as :meth:`play` without a position."""
        self.play(at_host_ns, now_host_ns)

    def pause(self, at_host_ns: int, now_host_ns: int) -> None:
        """Fall silent and remember the frame.

        Raises:
            ControlError: nothing is playing.
        """
        self._catch_up(at_host_ns, now_host_ns)
        if self._mode == "stopped":
            raise ControlError("nothing is playing")
        if self._mode == "playing":
            if self._held is None:
                self._held = self._plan.place_at(at_host_ns)
            self._make_current(self._held[0])
            self._mode = "paused"
            self._plan.cut(at_host_ns, now_host_ns)
            self._plan.hush(at_host_ns)
        self.timeline(now_host_ns)

    def stop(self, at_host_ns: int, now_host_ns: int) -> None:
        """Fall silent; the current entry stays current and will begin at its start."""
        self._catch_up(at_host_ns, now_host_ns)
        if self._mode != "stopped":
            self._stop(self._number, at_host_ns, now_host_ns)

    def seek(self, at_host_ns: int, now_host_ns: int, target: str) -> None:
        """Go to another place in the current track; see :func:`parse_seek`.

        Raises:
            ControlError: nothing is playing, or there is no such place.
        """
        self._catch_up(at_host_ns, now_host_ns)
        entry = self.queue.current_entry
        if self._mode == "stopped" or entry is None:
            raise ControlError("nothing is playing")
        if entry.track is None:
            raise ControlError(f"“{entry.title}” is still being prepared: try again in a moment")
        _, frame = self._held or self._plan.place_at(at_host_ns)
        if self._held is None and self._plan.in_force(at_host_ns) != self._plan.in_force(now_host_ns):
            frame = entry.track.frames  # The next one begins before the command can: it is this one that was meant.
        frame = parse_seek(target, frame, entry.track.frames, entry.track.rate_hz)
        self._jump(entry.number, frame, at_host_ns, now_host_ns)

    def next_(self, at_host_ns: int, now_host_ns: int) -> None:
        """Go to the entry behind the current one, in whatever mode; behind the last one stop, or repeat the queue.

        Raises:
            ControlError: the queue is empty.
        """
        self._catch_up(at_host_ns, now_host_ns)
        if not self.queue.entries:
            raise ControlError("the queue is empty: add a track first")
        current = self.queue.current
        found = self.queue.playable_from(0 if current is None else current + 1)
        if found is None:
            self._stop(0, at_host_ns, now_host_ns)
        else:
            self._jump(found.number, 0, at_host_ns, now_host_ns)

    def previous(self, at_host_ns: int, now_host_ns: int) -> None:
        """Go to the entry in front of the current one, or after its first 3 s to its own start.

        Raises:
            ControlError: the queue is empty.
        """
        self._catch_up(at_host_ns, now_host_ns)
        if not self.queue.entries:
            raise ControlError("the queue is empty: add a track first")
        entry, frame = self.position(now_host_ns)
        if entry is None:
            found = self.queue.playable_from(0)
        elif entry.track is not None and frames_to_ns(frame, entry.track.rate_hz) >= PREVIOUS_DURATION_NS:
            found = entry
        else:
            found = self.queue.playable_before(self.queue.index_of(entry.number) or 0) or entry
        if found is not None:
            self._jump(found.number, 0, at_host_ns, now_host_ns)

    def rebuild(self, at_host_ns: int, now_host_ns: int) -> None:
        """Follow a change of the queue, and place what was waiting if it can be placed now.

        What starts before ``at_host_ns`` stays. When the current entry has been removed,
        what followed it begins at ``at_host_ns``.
        """
        self.advance(now_host_ns)
        self._built = self.queue.entries
        current, entry = self.queue.current, self.queue.current_entry
        number = 0 if entry is None else entry.number
        if self._mode == "stopped":
            self._number = number
        elif self._held is None and self._number == number != 0:
            self._rebuild_tail(at_host_ns, now_host_ns)
        else:
            found = None if current is None else self.queue.playable_from(current)
            if found is None:
                self._stop(0, at_host_ns, now_host_ns)
            elif self._held is not None and self._held[0] == found.number:
                self._jump(*self._held, at_host_ns, now_host_ns)
            else:
                self._jump(found.number, 0, at_host_ns, now_host_ns)
        self.timeline(now_host_ns)

    def advance(self, now_host_ns: int) -> bool:
        """Follow the time: the next entry becomes current when it begins, and the queue ends.

        At the queue's end the mode is ``stopped`` and no entry is current.

        Returns:
            Whether anything changed: mode, current entry, what is waiting, or the plan.
        """
        before = (self._mode, self._number, self._held, self._plan.segments)
        self._seen_host_ns = max(self._seen_host_ns, now_host_ns)
        segment = self._plan.in_force(now_host_ns)
        if self._sounds and segment is not None:
            index = self.queue.index_of(segment.entry)
            end = segment.natural_end_host_ns
            if index is not None:
                self._make_current(segment.entry)
                if end is not None and end <= now_host_ns and segment == self._plan.last:
                    self._end_of_plan(index)
        self._plan.forget(now_host_ns)
        if self._sounds and self.queue.entries is self._built:
            self._extend(now_host_ns)
        self.timeline(now_host_ns)
        return before != (self._mode, self._number, self._held, self._plan.segments)

    def next_change_host_ns(self) -> int | None:
        """Return when :meth:`advance` has something to do, or None while nothing is going to happen."""
        return self._plan.next_change_host_ns(self._seen_host_ns)

    def timeline(self, now_host_ns: int) -> Timeline:
        """Return what sounds from now on, with what ended just now, at most ``MAX_SEGMENTS`` segments."""
        segments = self._plan.recent(now_host_ns)
        if segments != self._shown:
            self._shown = segments
            self.revision += 1
        return Timeline(segments)

    def begun(self, since_host_ns: int, now_host_ns: int) -> list[tuple[int, int]]:
        """Return entry and start of the tracks that began to sound after one instant and until another, in order.

        A track that only goes on, after a pause or at another place, does not begin.
        """
        return [
            (segment.entry, segment.start_host_ns)
            for segment in self.timeline(now_host_ns).segments
            if segment.track is not None and segment.frame == 0
            if since_host_ns < segment.start_host_ns <= now_host_ns
        ]

    def position(self, now_host_ns: int) -> tuple[Entry | None, int]:
        """Return the current entry and its frame at an instant.

        Until what a command asked for begins, that is where it will begin.
        """
        if self._held is not None:
            return self.queue.find(self._held[0]), self._held[1]
        if self._sounds and self._plan.in_force(now_host_ns) is not None:
            number, frame = self._plan.place_at(now_host_ns)
            entry = self.queue.find(number)
            if entry is not None:
                return entry, frame
        return self.queue.current_entry, 0

    def upcoming(self, n: int) -> tuple[Entry, ...]:
        """Return the current entry and those that play after it, without what cannot be played, ``n`` at most.

        Args:
            n: at least 1.
        """
        entry = self.queue.current_entry
        current = (entry,) if entry is not None and not entry.fault else ()
        return (*current, *self.queue.following(n - len(current)))

    def snapshot(self, boot_id: str, now_host_ns: int, day_s: float = 0.0) -> dict[str, object]:
        """Return the state as plain values for JSON; the queue is kept on its own.

        Args:
            boot_id: names the run of the machine, within which host time goes on; empty for a
                snapshot that is to begin anew with its frame in any case.
            now_host_ns: this instant.
            day_s: the same by the clock of the day, seconds since 1970; 0 for unknown.
        """
        entry, frame = self.position(now_host_ns)
        return Saved(
            mode=self._mode,
            entry=0 if entry is None else entry.number,
            frame=frame,
            boot_id=boot_id,
            host_ns=now_host_ns,
            head_host_ns=self._plan.head_host_ns,
            waiting=self._held is not None,
            timeline=self.timeline(now_host_ns),
            day_s=day_s,
        ).plain()

    def restore(
        self,
        snapshot: Mapping[str, object],
        boot_id: str,
        at_host_ns: int,
        now_host_ns: int,
        *,
        day_s: float = 0.0,
        after_restart: AfterRestart = "now",
    ) -> bool:
        """Take over a snapshot; to be called once, with the queue restored, before anything else.

        Where the music is to be where it would be ``now``, the very same time line goes on within the
        same run of the machine, and after a start of the machine it begins at ``at_host_ns`` with
        what would sound then by the clock of the day. Where that clock cannot be believed, and where it
        is to be where it ``stopped``, it begins at ``at_host_ns`` with the frame that was saved.

        Args:
            snapshot: from :meth:`snapshot`.
            boot_id: names this run of the machine.
            at_host_ns: from when on something new can sound.
            now_host_ns: this instant.
            day_s: the same by the clock of the day, seconds since 1970; 0 for unknown.
            after_restart: what is wanted.

        Returns:
            Whether the snapshot was usable; if not, the room is stopped.
        """
        saved = read_saved(snapshot)
        if saved is None:
            return False
        self._built = self.queue.entries
        self._seen_host_ns = now_host_ns
        same_run = saved.boot_id == boot_id != "" and saved.host_ns <= now_host_ns
        if same_run:  # Also where it does not go on: what was announced until at_host_ns stays.
            self._plan = Plan(saved.timeline.segments, saved.head_host_ns)
        place: tuple[int, int] | None = (saved.entry, saved.frame)
        if after_restart == "now" and saved.boot_id and not same_run:
            place = self._place_now(saved, day_s, at_host_ns - now_host_ns)
        if place is None or self.queue.index_of(place[0]) is None:
            self._stop(0, at_host_ns, now_host_ns)
            return True
        self._make_current(place[0])
        self._mode = saved.mode
        sounding = self._plan.in_force(now_host_ns) if after_restart == "now" else None
        goes_on = saved.mode == "playing" and not saved.waiting and sounding is not None and sounding.track
        if saved.mode != "stopped" and not goes_on:
            self._held = place
        self.rebuild(at_host_ns, now_host_ns)
        return True

    def _place_now(self, saved: Saved, day_s: float, lead_duration_ns: int) -> tuple[int, int] | None:
        """Return the place of a snapshot, moved on to where it is when it can sound; None behind the queue's end."""
        away_ns = saved.away_duration_ns(day_s)
        if saved.mode != "playing" or saved.waiting or away_ns is None:
            return saved.entry, saved.frame
        return place_after(self.queue, saved.entry, saved.frame, away_ns + lead_duration_ns, self.fade_ms)

    def _catch_up(self, at_host_ns: int, now_host_ns: int) -> None:
        """Bring the plan up to date before a command."""
        assert at_host_ns >= now_host_ns, "a command cannot sound in the past"
        if self.queue.entries is self._built:
            self.advance(now_host_ns)
        else:
            self.rebuild(at_host_ns, now_host_ns)

    def _jump(self, number: int, frame: int, at_host_ns: int, now_host_ns: int) -> None:
        """Make a place in an entry the current one; it sounds only if the mode is playing."""
        if self._mode == "playing":
            self._place(number, frame, at_host_ns, now_host_ns)
            return
        self._make_current(number)
        if self._mode == "paused":
            self._held = (number, frame)

    def _place(self, number: int, frame: int, at_host_ns: int, now_host_ns: int) -> None:
        """Let an entry sound from an instant on with what follows it, or hold it until it can."""
        coming = self._plan.in_force(at_host_ns) if self._sounds else None
        self._mode = "playing"
        self._make_current(number)
        if coming and (coming.entry, coming.frame) == (number, frame) and coming.start_host_ns > now_host_ns:
            # It begins by itself, or was asked for before: once more from the start would be a stutter.
            self._plan.head_host_ns = coming.start_host_ns
            self._rebuild_tail(at_host_ns, now_host_ns)
            return
        self._plan.cut(at_host_ns, now_host_ns)
        entry = self.queue.find(number)
        assert entry is not None, "only entries of the queue are placed"
        if entry.track is None or not self._plan.has_room:
            self._held = (number, frame)
            self._plan.hush(at_host_ns)
        else:
            self._held = None
            self._plan.begin(Segment(at_host_ns, number, min(frame, entry.track.frames - 1), entry.track))
            self._extend(at_host_ns)
        self.timeline(now_host_ns)

    def _stop(self, number: int, at_host_ns: int, now_host_ns: int) -> None:
        """Fall silent with an entry as the current one, 0 for none."""
        self._mode = "stopped"
        self._held = None
        self._make_current(number)
        self._plan.cut(at_host_ns, now_host_ns)
        self._plan.hush(at_host_ns)
        self.timeline(now_host_ns)

    def _rebuild_tail(self, at_host_ns: int, now_host_ns: int) -> None:
        """Make the plan anew behind what must stay."""
        self._plan.cut(max(at_host_ns, self._plan.head_host_ns + 1), now_host_ns)
        last = self._plan.last
        if last is not None and self.queue.index_of(last.entry) is not None:
            self._extend(at_host_ns)
            self.timeline(now_host_ns)
            return
        # The last that must stay has been removed from the queue: it is cut short for what should have been there.
        current = self.queue.index_of(self._number)
        found = None if current is None else self.queue.playable_from(current + 1)
        if found is None:
            self._stop(0, at_host_ns, now_host_ns)
        else:
            self._place(found.number, 0, at_host_ns, now_host_ns)

    def _end_of_plan(self, index: int) -> None:
        """The last planned track has ended: wait for the entry behind it, or stop."""
        found = self.queue.after(index)
        if found is None:
            self._mode = "stopped"
            self._make_current(0)
        else:
            self._held = (found.number, 0)
            self._make_current(found.number)

    def _extend(self, from_host_ns: int) -> None:
        """Append what follows in the queue, gapless, as far as it is prepared and has room."""
        while self._plan.wants_more and self._plan.last is not None:
            index = self.queue.index_of(self._plan.last.entry)
            entry = None if index is None else self.queue.after(index)
            if entry is None or entry.track is None:
                return
            self._plan.follow(entry.number, entry.track, from_host_ns, self.fade_ms)

    def _make_current(self, number: int) -> None:
        self._number = number
        self.queue.set_current(number or None)
