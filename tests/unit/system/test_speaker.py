"""The sound half of a peer with a card that the tests drive: opening, losing and opening it again, and its account."""

from __future__ import annotations

import asyncio
import hashlib
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile

from musicsyncd.clock.mapping import ClockMapping
from musicsyncd.errors import ConfigError, DeviceError
from musicsyncd.media.ahead import AHEAD_DURATION_NS
from musicsyncd.playback.player import Course
from musicsyncd.playback.timeline import Segment, Timeline, Track
from musicsyncd.system import sound_thread
from musicsyncd.system import speaker as module
from musicsyncd.system.monotonic import now_ns
from musicsyncd.system.output import BLOCK_FRAMES, LastingError
from musicsyncd.system.speaker import Speaker
from musicsyncd.units import NS_PER_MS, NS_PER_S

RATE = 48_000
OFFSET_NS = 77 * NS_PER_S


class Card:
    """An output that asks for blocks when a test says so, 80 ms ahead; when that is late, it underruns."""

    rate_hz, channels, description = RATE, 2, "test card"

    def __init__(self) -> None:
        self.underruns, self.alive, self.closed, self.refuses = 0, False, False, ""
        self._frame, self._begin_ns = 0, 0

    def start(self, render) -> None:
        if self.refuses:
            raise DeviceError(self.refuses)
        self.render, self.alive, self._begin_ns = render, True, now_ns()

    def healthy(self) -> bool:
        return self.alive

    def close(self) -> None:
        self.closed, self.alive = True, False

    def play(self, blocks: int = 1) -> np.ndarray:
        """Ask for blocks and return them."""
        heard = []
        for _ in range(blocks):
            out = np.full((BLOCK_FRAMES, 2), 9.0, np.float32)
            due = (now_ns() - self._begin_ns) * RATE // NS_PER_S
            late = self._frame < due - 4 * BLOCK_FRAMES
            self._frame = due if late else self._frame
            sounds_ns = self._begin_ns + 80 * NS_PER_MS + self._frame * NS_PER_S // RATE
            self.render(out, self._frame, sounds_ns, sounds_ns - 80 * NS_PER_MS, late)
            heard.append(out)
            self._frame += BLOCK_FRAMES
        return np.concatenate(heard)


class Rig:
    """A speaker, and the cards that it opened."""

    def __init__(self, folder: Path, monkeypatch) -> None:
        self.cards: list[Card] = []
        self.asked: list[tuple] = []
        self.refuses = ""
        self.next_card = Card
        monkeypatch.setattr(module, "open_output", self._open)
        monkeypatch.setattr(module, "_REOPEN_AFTER_S", 0.001)
        monkeypatch.setattr(module, "_LOOK_EVERY_S", 0.001)
        self.folder = folder
        self.speaker = Speaker(
            output="portaudio",
            device="DAC",
            rate_hz=None,
            buffer_ms=80.0,
            cache_folder=folder,
            cache_bytes=1 << 24,
            token="secret",
        )

    def _open(self, output, *, device, rate_hz, buffer_ms):
        self.asked.append((output, device, rate_hz, buffer_ms))
        if self.refuses:
            raise self.refuses if isinstance(self.refuses, DeviceError) else DeviceError(self.refuses)
        self.cards.append(self.next_card())
        return self.cards[-1]

    @property
    def card(self) -> Card:
        return self.cards[-1]

    def put_track(self, seconds: float = 30.0) -> Track:
        """Let the cache hold a track of one constant value, as if it had been fetched."""
        path = self.folder / "made.wav"
        soundfile.write(path, np.full((round(seconds * RATE), 2), 0.25), RATE, subtype="PCM_16")
        data = path.read_bytes()
        path.unlink()
        track = Track(hashlib.sha256(data).digest(), len(data), RATE, round(seconds * RATE), 2)
        self.speaker._store.open(track).write(0, data)
        return track


@pytest.fixture
def rig(tmp_path, monkeypatch):
    return Rig(tmp_path / "cache", monkeypatch)


def run(rig, test) -> None:
    """Run a test, and close the speaker whatever becomes of it."""

    async def whole():
        try:
            await test(rig.speaker)
        finally:
            await rig.speaker.close()

    asyncio.run(asyncio.wait_for(whole(), 30.0))


async def heard(rig, true=np.any) -> None:
    """Play at the speed of a card until a block is as it should be."""
    rig.speaker.look_ahead()
    while not true(rig.card.play()):
        await asyncio.sleep(BLOCK_FRAMES / RATE)
        rig.speaker.look_ahead()


async def until(true) -> None:
    while not true():  # noqa: ASYNC110 - what is waited for happens in other threads
        await asyncio.sleep(0.001)


def plays(speaker: Speaker) -> bool:
    """Return whether its card is open and asks for blocks."""
    return speaker._output is not None and speaker.trouble == ""


def playing(track: Track | None = None, began_s_ago: float = 1.0, **more) -> Course:
    """Return a course whose track began a while ago."""
    local_ns = now_ns()
    track = track or Track(b"t" * 32, 100_000, RATE, 600 * RATE, 2)
    start_ns = local_ns + OFFSET_NS - round(began_s_ago * NS_PER_S)
    return Course(
        Timeline((Segment(start_ns, 1, 0, track),)),
        ClockMapping(local_ns, local_ns + OFFSET_NS, 0.0, 1000),
        1,
        **more,
    )


# -- the card ----------------------------------------------------------------------------------


def test_before_it_is_opened_there_is_no_card(rig):
    async def test(speaker):
        assert speaker.stats().state == "no card"
        assert not plays(speaker)
        speaker.look_ahead()
        await speaker.fade_out()

    run(rig, test)


def test_the_output_is_opened_as_it_was_configured_and_asks_the_player(rig):
    async def test(speaker):
        await speaker.open()
        assert rig.asked == [("portaudio", "DAC", None, 80.0)]
        assert plays(speaker)
        assert not rig.card.play(2).any()
        stats = speaker.stats()
        assert (stats.state, stats.output, stats.fault) == ("waiting", "test card 48000 Hz", "")
        await speaker.close()
        assert rig.card.closed
        assert not plays(speaker)

    run(rig, test)


def test_a_card_that_is_not_there_at_the_start_is_waited_for(rig, caplog):
    async def test(speaker):
        rig.refuses = "no sound card 'DAC': there is default"
        await speaker.begin()
        stats = speaker.stats()
        assert (stats.state, stats.fault) == ("no card", "no sound card 'DAC': there is default")
        assert speaker.trouble == "", "to be started anew would not help it"
        keeper = asyncio.create_task(speaker.keep_open())
        await until(lambda: len(rig.asked) >= 3)
        rig.refuses = ""
        await until(lambda: plays(speaker))
        assert speaker.stats().fault == ""
        keeper.cancel()

    run(rig, test)
    assert "no sound card 'DAC': there is default: waiting for it" in caplog.text


def test_what_waiting_does_not_help_ends_it_at_the_start_with_its_line_but_not_later(rig):
    async def test(speaker):
        rig.refuses = LastingError("the PortAudio library is missing")
        with pytest.raises(LastingError, match="is missing"):
            await speaker.begin()
        keeper = asyncio.create_task(speaker.keep_open())
        await until(lambda: len(rig.asked) >= 3)
        assert not keeper.done()
        assert speaker.stats().fault == "the PortAudio library is missing"
        keeper.cancel()

    run(rig, test)


def test_the_card_that_was_taken_first_is_the_one_that_is_waited_for(rig):
    async def test(speaker):
        speaker._device = None
        await speaker.begin()
        keeper = asyncio.create_task(speaker.keep_open())
        rig.card.alive = False
        await until(lambda: len(rig.asked) == 2 and plays(speaker))
        assert [device for _, device, *_ in rig.asked] == [None, "test card"]
        keeper.cancel()

    run(rig, test)


def test_an_output_that_is_none_is_refused(tmp_path):
    async def test():
        speaker = Speaker(
            output="alsa",
            device=None,
            rate_hz=None,
            buffer_ms=80.0,
            cache_folder=tmp_path,
            cache_bytes=1 << 24,
            token=None,
        )
        with pytest.raises(ConfigError, match="no output 'alsa'"):
            await speaker.open()
        await speaker.close()

    asyncio.run(test())


def test_a_card_that_goes_is_opened_again_and_everything_is_as_it_was(rig, caplog):
    async def test(speaker):
        course = playing()
        await speaker.open()
        speaker.follow(course)
        speaker.set_gain(0.25)
        speaker.set_channels("left")
        rig.card.underruns = 3
        keeper = asyncio.create_task(speaker.keep_open())
        first = rig.card
        first.alive = False
        await until(lambda: len(rig.cards) == 2 and plays(speaker))
        assert first.closed
        player = speaker._player
        mixer = player.mixer
        assert (player._course, mixer._target_gain) == (course, 0.25)
        assert mixer._target_mix.tolist() == [[1, 1], [0, 0]]
        rig.card.underruns = 2
        assert speaker.stats().underruns == 5
        assert speaker.stats().fault == ""
        keeper.cancel()

    run(rig, test)
    assert "test card stopped asking for sound: opening it again" in caplog.text


def test_while_the_card_is_away_it_is_tried_again_and_said_why(rig):
    async def test(speaker):
        await speaker.open()
        keeper = asyncio.create_task(speaker.keep_open())
        rig.refuses = "no sound card 'DAC': there is default"
        rig.card.underruns = 4
        rig.card.alive = False
        await until(lambda: len(rig.asked) >= 4)
        stats = speaker.stats()
        assert (stats.state, stats.fault, stats.underruns) == ("no card", "no sound card 'DAC': there is default", 4)
        assert not plays(speaker)
        rig.refuses = ""
        await until(lambda: plays(speaker))
        assert speaker.stats().fault == ""
        keeper.cancel()

    run(rig, test)


def test_a_card_that_opens_and_does_not_start_is_let_go_and_tried_again(rig):
    async def test(speaker):
        await speaker.open()
        keeper = asyncio.create_task(speaker.keep_open())

        def refusing():
            card = Card()
            card.refuses = "test card does not start"
            return card

        rig.next_card = refusing
        rig.card.alive = False
        await until(lambda: len(rig.cards) >= 3)
        assert rig.cards[1].closed
        rig.next_card = Card
        await until(lambda: plays(speaker))
        keeper.cancel()

    run(rig, test)


def test_a_card_that_runs_and_asks_for_nothing_is_taken_for_gone(rig, monkeypatch):
    async def test(speaker):
        await speaker.open()
        rig.card.play()
        assert plays(speaker)
        monkeypatch.setattr(module, "_STALLED_AFTER_S", 0.01)
        await until(lambda: not plays(speaker))
        assert rig.card.healthy()
        rig.card.play()
        assert plays(speaker)

    run(rig, test)


def test_who_was_held_up_gives_the_card_its_time_anew(rig, monkeypatch):
    async def test(speaker):
        await speaker.open()
        rig.card.play()
        assert plays(speaker)
        now = now_ns()
        monkeypatch.setattr(module, "now_ns", lambda: now)
        assert plays(speaker)
        now += 60 * NS_PER_S  # The whole process was stopped: the card could not ask, either.
        assert plays(speaker)
        for _ in range(7):
            now += NS_PER_S // 2
            last = plays(speaker)
        assert not last

    run(rig, test)


def test_after_a_sleep_of_the_machine_the_card_is_opened_again_at_once(rig, monkeypatch, caplog):
    monkeypatch.setattr(module, "_LOOK_EVERY_S", 600.0)

    async def test(speaker):
        track = rig.put_track()
        await speaker.begin()
        keeper = asyncio.create_task(speaker.keep_open())
        speaker.follow(playing(track))
        await heard(rig)
        first = rig.card
        speaker.resumed()
        await until(lambda: len(rig.cards) == 2 and plays(speaker))
        assert first.closed
        course = playing(track, began_s_ago=3601.0)
        speaker.follow(Course(course.timeline, None, 1))
        assert not rig.card.play(2).any(), "until the host's time is found anew"
        speaker.follow(playing(track, began_s_ago=9.0))
        await heard(rig)
        assert abs(speaker.stats().sync_error_ns) < NS_PER_MS
        keeper.cancel()

    run(rig, test)
    assert "stopped asking" not in caplog.text


def test_after_a_sleep_a_file_is_written_on(rig):
    async def test(speaker):
        speaker._output_name = "file:out.wav"
        await speaker.begin()
        keeper = asyncio.create_task(speaker.keep_open())
        speaker.resumed()
        await asyncio.sleep(0.02)
        assert len(rig.cards) == 1
        keeper.cancel()

    run(rig, test)


# -- a sound system that hangs -----------------------------------------------------------------


class Hanging(Card):
    """A card with a function that does not come back while it is told so."""

    def __init__(self, function: str) -> None:
        super().__init__()
        self.go = threading.Event()
        self._real = getattr(self, function)
        setattr(self, function, self._hang)

    def _hang(self, *given):
        assert self.go.wait(20.0)
        return self._real(*given)


@pytest.fixture
def hang(rig, monkeypatch):
    """Return a function that gives the rig a card that hangs in something."""
    monkeypatch.setattr(sound_thread, "LIMIT_S", 0.05)
    made = []

    def in_function(function: str) -> Hanging:
        made.append(Hanging(function))
        rig.next_card = lambda: made[-1]
        return made[-1]

    yield in_function
    for one in made:
        one.go.set()


def test_a_card_that_hangs_when_it_is_closed_is_said_and_left_alone_until_it_comes_back(rig, hang, caplog):
    async def test(speaker):
        card = hang("close")
        await speaker.begin()
        keeper = asyncio.create_task(speaker.keep_open())
        assert speaker.hanging == speaker.trouble == ""
        rig.next_card = Card
        card.alive = False
        await until(lambda: speaker.hanging)
        await asyncio.sleep(0.02)
        stats = speaker.stats()
        assert stats.state == "no card"
        assert stats.fault.startswith("the sound card does not answer: closing it takes")
        assert len(stats.fault) < 120
        assert speaker.trouble == "the sound card does not answer (closing it)"
        assert len(rig.asked) == 1, "nothing else is asked of what hangs"
        card.go.set()
        await until(lambda: plays(speaker))
        assert len(rig.cards) == 2
        assert speaker.stats().fault == ""
        keeper.cancel()

    run(rig, test)
    assert caplog.text.count("does not answer") == 1


def test_a_card_that_hangs_when_it_is_opened_does_not_hold_up_the_loop_nor_the_start(rig, hang, monkeypatch):
    async def test(speaker):
        go = threading.Event()
        real = rig._open

        def hanging_open(*given, **more):
            assert go.wait(20.0)
            return real(*given, **more)

        hang("close")  # For its time limit.
        monkeypatch.setattr(module, "open_output", hanging_open)
        rig.next_card = Card
        await speaker.begin()
        assert speaker.hanging == "opening"
        assert "does not answer" in speaker.stats().fault
        go.set()
        await until(lambda: not speaker.hanging)
        assert rig.card.closed, "it came too late"

    run(rig, test)


def test_a_card_that_hangs_when_it_is_started_is_a_fault_as_well(rig, hang):
    async def test(speaker):
        card = hang("start")
        await speaker.begin()
        assert speaker.hanging == "starting"
        assert "starting it takes" in speaker.stats().fault
        card.go.set()
        rig.next_card = Card
        keeper = asyncio.create_task(speaker.keep_open())
        await until(lambda: plays(speaker))
        keeper.cancel()

    run(rig, test)


def test_a_card_that_hangs_does_not_keep_a_speaker_from_ending(rig, hang, monkeypatch):
    monkeypatch.setattr(module, "_STOP_LIMIT_S", 0.05)

    async def test(speaker):
        hang("close")
        monkeypatch.setattr(sound_thread, "LIMIT_S", 600.0)
        await speaker.begin()
        await asyncio.wait_for(speaker.close(), 20.0)
        assert speaker.hanging == "closing"

    run(rig, test)


def test_a_card_that_nobody_tries_to_open_any_more_is_trouble(rig, monkeypatch):
    async def test(speaker):
        rig.refuses = "no sound card"
        await speaker.begin()
        assert speaker.trouble == ""
        now = now_ns() + 31 * NS_PER_S
        monkeypatch.setattr(module, "now_ns", lambda: now)
        assert speaker.trouble == "nobody tries to open the sound card"
        with pytest.raises(DeviceError):
            await speaker.open()
        assert speaker.trouble == ""

    run(rig, test)


@pytest.mark.parametrize("what", ["returns", "hangs", "ends"])
def test_a_callback_that_never_returns_or_is_not_called_any_more_is_trouble(rig, monkeypatch, what):
    async def test(speaker):
        await speaker.begin()
        now = now_ns()
        monkeypatch.setattr(module, "now_ns", lambda: now)
        entered, go = threading.Event(), threading.Event()
        if what == "hangs":
            monkeypatch.setattr(speaker._player, "_fill", lambda *_: (entered.set(), go.wait(20.0)))
            thread = threading.Thread(target=rig.card.play)
            thread.start()
            assert entered.wait(20.0)
        for _ in range(8):
            if what == "returns":
                rig.card.play()
            troubles = speaker.trouble
            now += NS_PER_S // 2
        assert troubles == ("" if what == "returns" else "test card does not ask for sound")
        go.set()
        if what == "hangs":
            thread.join()

    run(rig, test)


@pytest.mark.parametrize("whole", [True, False])
def test_decoding_that_hangs_is_trouble_and_waiting_for_bytes_is_not(rig, monkeypatch, whole):
    async def test(speaker):
        go = threading.Event()

        def hanging(*_):
            assert go.wait(20.0)
            raise module.MediaError("it was let go")

        now = now_ns()
        if whole:
            monkeypatch.setattr("musicsyncd.media.decoder.OpenTrack", hanging)
        speaker.set_host("127.0.0.1", 9)
        await speaker.begin()
        speaker.follow(playing(rig.put_track() if whole else None))
        speaker.look_ahead()
        await until(lambda: speaker._decoder.busy)
        monkeypatch.setattr(module, "now_ns", lambda: now)
        assert speaker.trouble == ""
        now += 14 * NS_PER_S
        assert speaker.trouble == ""
        now += 2 * NS_PER_S
        assert speaker.trouble == ("the decoding stands still" if whole else "")
        go.set()
        if whole:
            await until(lambda: not speaker._decoder.busy)
            assert speaker.trouble == ""

    run(rig, test)


def test_a_decoding_thread_that_is_gone_is_trouble(rig):
    async def test(speaker):
        await speaker.begin()
        assert speaker.trouble == ""
        speaker._decoder.close()
        assert speaker.trouble == "the decoding stands still"

    run(rig, test)


def test_the_cache_may_be_given_another_size(rig):
    async def test(speaker):
        await speaker.resize_cache(1 << 25)
        assert speaker.media()["cache_max_bytes"] == 1 << 25
        await speaker.resize_cache(None)
        assert speaker.media()["cache_max_bytes"] not in (1 << 24, 1 << 25)

    run(rig, test)


# -- an event loop that is held up -------------------------------------------------------------


def test_a_loop_that_is_held_up_costs_no_sound_for_as_long_as_is_decoded(rig, monkeypatch):
    """The card and the decoder need no loop: what was asked of them last lasts until its end."""
    real_ns, now = now_ns(), None

    async def test(speaker):
        nonlocal now
        now = real_ns
        monkeypatch.setattr(module, "now_ns", lambda: now)
        monkeypatch.setattr(sys.modules[__name__], "now_ns", lambda: now)
        track = rig.put_track()
        await speaker.begin()
        speaker.follow(playing(track))
        speaker.look_ahead()
        position = RATE + AHEAD_DURATION_NS * RATE // NS_PER_S - 1
        await until(lambda: speaker._decoder.ready(track, position))
        while now - real_ns < AHEAD_DURATION_NS - 150 * NS_PER_MS:  # What the card holds is not heard yet.
            block = rig.card.play()
            now += BLOCK_FRAMES * NS_PER_S // RATE
        assert np.allclose(block, 0.25, atol=1e-3)
        assert speaker.stats().starved_frames == 0
        assert speaker.stats().state == "together"
        speaker.look_ahead()
        await until(lambda: speaker._decoder.ready(track, position + RATE))
        for _ in range(50):
            block = rig.card.play()
            now += BLOCK_FRAMES * NS_PER_S // RATE
            assert np.allclose(block, 0.25, atol=1e-3)
        assert speaker.stats().starved_frames == 0
        assert abs(speaker.stats().sync_error_ns) < NS_PER_MS

    run(rig, test)


# -- the sound ---------------------------------------------------------------------------------


def test_a_course_sounds_from_the_cache_in_the_place_where_it_should_be(rig):
    async def test(speaker):
        track = rig.put_track()
        await speaker.open()
        speaker.follow(playing(track))
        await heard(rig, lambda block: np.allclose(block[-100:], 0.25, atol=1e-3))
        stats = speaker.stats()
        assert stats.state == "together"
        assert abs(stats.sync_error_ns) < NS_PER_MS
        assert stats.fault == ""
        assert stats.lead_duration_ns > 80 * NS_PER_MS
        speaker.set_gain(0.0)
        rig.card.play(4)
        assert not rig.card.play().any()

    run(rig, test)


def test_fading_out_ends_when_it_is_heard_and_not_later_than_half_a_second(rig):
    async def test(speaker):
        track = rig.put_track()
        await speaker.open()
        await speaker.fade_out()  # Nothing sounds: nothing to wait for.
        assert speaker._player.mixer._target_gain == 1.0
        speaker.follow(playing(track))
        await heard(rig)
        fading = asyncio.create_task(speaker.fade_out())
        await asyncio.sleep(0.001)
        assert not fading.done()
        rig.card.play(4)
        assert not rig.card.play().any()
        await fading

    run(rig, test)


def test_what_is_not_there_is_fetched_and_silence_until_then_is_counted(rig):
    async def test(speaker):
        wanted = []
        speaker._fetcher.want = wanted.extend
        await speaker.open()
        course = playing()
        speaker.follow(course)
        speaker.look_ahead()
        assert [one.stored.track for one in wanted] == [course.timeline.segments[0].track]
        rig.card.play(5)
        assert not rig.card.play().any()
        assert speaker.stats().starved_frames > 0

    run(rig, test)


def test_a_host_that_gives_nothing_is_the_fault_that_is_reported(rig):
    async def test(speaker):
        await speaker.open()
        speaker.set_host("127.0.0.1", 9)  # Nobody listens at "discard".
        speaker.follow(playing())
        speaker.look_ahead()
        rig.card.play(5)
        await until(lambda: speaker.stats().fault)
        assert "127.0.0.1" in speaker.stats().fault
        assert len(speaker.stats().fault) <= 120

    run(rig, test)


def test_a_track_that_has_no_room_in_the_cache_is_a_fault_until_it_is_over(rig):
    async def test(speaker):
        await speaker.open()
        speaker.follow(playing(Track(b"b" * 32, 1 << 40, RATE, 600 * RATE, 2)))
        speaker.look_ahead()
        assert speaker.stats().fault != ""
        speaker.follow(playing(rig.put_track()))
        speaker.look_ahead()
        await until(lambda: speaker.stats().fault == "")

    run(rig, test)


def test_tracks_are_held_while_the_course_has_them_and_no_longer(rig):
    async def test(speaker):
        await speaker.open()
        speaker.follow(playing())
        speaker.look_ahead()
        assert list(speaker._tracks) == [b"t" * 32]
        other = Track(b"o" * 32, 100_000, RATE, 600 * RATE, 2)
        speaker.follow(playing(other))
        speaker.look_ahead()
        assert list(speaker._tracks) == [b"o" * 32]
        speaker.follow(Course(Timeline(), playing().mapping, 1))
        speaker.look_ahead()
        assert speaker._tracks == {}

    run(rig, test)


# -- bytes that are late, changed, or here already ---------------------------------------------


def test_why_a_track_is_silent_is_said_when_that_lasts(rig, monkeypatch):
    async def test(speaker):
        other = rig.put_track()  # Before the decoder waits: libsndfile opens one file at a time.
        await speaker.open()
        speaker.follow(playing(Track(b"t" * 32, 60 * 1024 * 100, RATE, 60 * RATE, 2)))
        speaker.look_ahead()
        rig.card.play(5)
        speaker.look_ahead()
        assert speaker.stats().fault == "", "a seek may take a moment"
        monkeypatch.setattr(module, "_SAID_AFTER_NS", 0)
        speaker._fetcher.bytes_per_s = 50 * 1024
        assert speaker.stats().fault == "silent: the track comes with 50 KiB/s and takes 100"
        speaker.follow(playing(other))
        await heard(rig)
        assert speaker.stats().fault == ""

    run(rig, test)


def test_a_silent_speaker_begins_further_on_and_when_it_has_sound_it_is_as_ever(rig):
    async def test(speaker):
        wanted, decoded = [], []
        speaker._fetcher.want = wanted.append
        await speaker.open()
        speaker._decoder.want = lambda wants: decoded.append(list(wants))
        course = playing(began_s_ago=9.0)
        speaker.follow(course)
        speaker.look_ahead()
        since = speaker._missing
        assert wanted[0][0].ns_per_byte == course.timeline.segments[0].track.duration_ns / 100_000
        early_ns = since.from_host_ns - 2 * NS_PER_S
        speaker._missing = module.Missing(since.segment, since.since_host_ns - 2 * NS_PER_S, early_ns)
        speaker.look_ahead()
        (first, *_), (second, *_) = decoded
        assert second.start_frame - first.start_frame >= RATE
        assert wanted[1][0].due_local_ns - wanted[0][0].due_local_ns >= NS_PER_S
        speaker._decoder.ready = lambda _track, _frame: True
        speaker.look_ahead()
        assert speaker._missing is None
        assert wanted[2][0].due_local_ns >= now_ns() + 2 * NS_PER_S, "all that is decoded ahead is not due any more"

    run(rig, test)


def test_a_cached_file_that_is_changed_while_it_plays_is_had_anew(rig, caplog):
    async def test(speaker):
        track = rig.put_track()
        await speaker.open()
        speaker.follow(playing(track))
        await heard(rig)
        path = rig.folder / track.content_id.hex()
        with path.open("r+b") as file:
            file.write(b"changed")
        with pytest.raises(module.MediaError, match="was changed on disk"):
            speaker._open_track(track).read(1)
        speaker.look_ahead()
        assert speaker._tracks[track.content_id].missing_bytes == track.size_bytes

    run(rig, test)
    assert "was changed on disk: having it anew" in caplog.text


class Own:
    """Files of this machine, of which it is not known at first what they are."""

    def __init__(self, path: Path) -> None:
        self.path, self.known, self.closed = path, False, False

    def settled(self, _track: Track) -> bool:
        return self.known

    def path_of(self, _content_id: bytes) -> Path | None:
        return self.path

    def close(self) -> None:
        self.closed = True


def test_what_is_on_this_machine_is_waited_for_and_not_fetched(rig, tmp_path):
    track = rig.put_track()
    (rig.folder / track.content_id.hex()).rename(tmp_path / "own.wav")
    own = Own(tmp_path / "own.wav")
    speaker = Speaker(
        output="portaudio",
        device=None,
        rate_hz=None,
        buffer_ms=80.0,
        cache_folder=tmp_path / "other",
        cache_bytes=1 << 24,
        token=None,
        own_files=own,
    )
    first, rig.speaker = rig.speaker, speaker

    async def test(speaker):
        await first.close()
        await speaker.open()
        speaker.follow(playing(track))
        speaker.look_ahead()
        assert speaker._tracks == {}
        own.known = True
        await heard(rig)
        assert speaker._tracks[track.content_id].complete

    run(rig, test)
    assert own.closed
    assert list((tmp_path / "other").iterdir()) == []


# -- what is told to this machine --------------------------------------------------------------


def test_what_is_known_of_the_card_and_of_the_tracks_is_told(rig):
    async def test(speaker):
        assert speaker.card() is None
        await speaker.open()
        track = rig.put_track()
        speaker.follow(playing(track))
        await heard(rig)
        rig.card.underruns = 3
        told = speaker.card()
        assert (told["output"], told["rate_hz"], told["channels"], told["underruns"]) == ("test card", RATE, 2, 3)
        assert told["tells_its_time"]
        assert abs(told["card_ppm"]) < 300.0
        assert told["uncertainty_us"] > 0.0
        assert speaker.held_bytes() == track.size_bytes
        missing = Track(b"m" * 32, 100_000, RATE, 600 * RATE, 2)
        speaker.follow(playing(missing))
        speaker.look_ahead()
        told = speaker.media()
        assert (told["tracks"], told["missing_bytes"], told["cache_max_bytes"]) == (1, 100_000, 1 << 24)
        rig.card.alive = False
        speaker._output = None
        assert speaker.card() is None

    run(rig, test)
