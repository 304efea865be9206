"""One browser that plays: its clock from coarse stamps, what it is told, and what is said of it."""

from __future__ import annotations

import random
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from musicsyncd.errors import ProtocolError
from musicsyncd.playback.timeline import Segment, Timeline, Track
from musicsyncd.protocol.host import RoomState
from musicsyncd.system import browser_messages as messages
from musicsyncd.system.browser_speaker import MAX_LEAD_NS, MAX_UNDER_WAY, Browser, Playing
from musicsyncd.system.database import SavedPeer

MS = 1_000_000
S = 1_000_000_000
NOW = 10_000_000 * S
"""The host's clock: of a machine that runs for four months, beyond what a number in JavaScript holds in nanoseconds."""

ID = bytes(range(8))
SAVED = SavedPeer(ID, "phone", "main", 80, output_delay_us=12_500, settings_revision=3)
TRACK = Track(bytes(32), 1000, 44_100, 44_100 * 60, 2, -3.0)
OTHER = Track(bytes([1]) * 32, 1000, 48_000, 48_000 * 60, 2)


def browser() -> Browser:
    return Browser(messages.Hello("phone", "0" * 32, "Chrome on Android"), ID, "192.0.2.7", "web 0.1", NOW)


def playing(*segments: Segment, **more: object) -> Playing:
    return Playing(RoomState("main", 5, Timeline(segments), 50, **more), "playing", "a title", "somebody")


def told(*segments: Segment) -> tuple[messages.Stretch, ...]:
    state = browser().tell(SAVED, playing(*segments))
    assert state is not None
    return state.spans


# -- the clock -------------------------------------------------------------------------------------


class Page:
    """A page: its clock is ahead of the host's by ``offset_ns`` less, runs slow by ``ppm``, and shows whole 100 µs."""

    def __init__(self, to: Browser, ppm: float, seed: int) -> None:
        self.to = to
        self.ppm = ppm
        self.chance = random.Random(seed)
        self.n = 0
        self.answered = (0, 0)

    def shows(self, host_ns: int) -> int:
        local_ns = 77 * S + (host_ns - NOW) - round((host_ns - NOW) * self.ppm * 1e-6)
        return local_ns // 100_000 * 100_000

    def probe(self, host_ns: int) -> None:
        way_ns = [round(1.5 * MS + self.chance.expovariate(1) * MS) for _ in range(2)]
        self.n += 1
        probe = messages.Probe(self.n, self.shows(host_ns), *self.answered)
        arrived_ns = host_ns + way_ns[0]
        assert self.to.probed(probe, arrived_ns, arrived_ns + 50_000) == messages.Answer(self.n)
        self.answered = (self.n, self.shows(arrived_ns + 50_000 + way_ns[1]))

    def probe_for(self, seconds: int) -> int:
        """Probe as a page does, and return the time after it."""
        host_ns = NOW
        for number in range(20 + 2 * seconds):
            self.probe(host_ns)
            host_ns += 50 * MS if number < 20 else 500 * MS
        return host_ns


@pytest.mark.parametrize("ppm", [-80.0, 0.0, 120.0])
def test_the_hosts_time_is_known_to_a_fraction_of_a_millisecond_from_stamps_of_whole_tenths(ppm):
    subject = browser()
    page = Page(subject, ppm, 1)
    assert subject.clock() is None
    page.probe_for(0)
    early = subject.clock()
    assert early is not None
    assert early.uncertainty_ns < 2 * MS
    now_ns = page.probe_for(60)
    clock = subject.clock()
    assert clock is not None
    local_ns = 77 * S + (now_ns - NOW) - (now_ns - NOW) * ppm * 1e-6
    told_ns = clock.host_ns + (local_ns - clock.local_ns) * (1 + clock.skew_ppm * 1e-6)
    assert told_ns == pytest.approx(now_ns - NOW, abs=0.4 * MS)
    assert clock.skew_ppm == pytest.approx(ppm, abs=20.0)
    assert abs(clock.host_ns) < 1 << 53, "counted from the base, it fits a number in JavaScript"


def test_an_answer_that_was_never_asked_for_or_arrived_before_it_was_asked_counts_for_nothing():
    subject = browser()
    for n in range(1, 11):
        subject.probed(messages.Probe(n, 1 * S + n * MS, n + 5 if n % 2 else 0, 2 * S), NOW + n * MS, NOW + n * MS)
    assert subject.clock() is None
    assert subject.refused == 0
    subject.probed(messages.Probe(11, 3 * S, 10, 1 * S), NOW + S, NOW + S)
    assert subject.refused == 1


def test_probes_that_are_never_answered_are_not_remembered_for_ever():
    subject = browser()
    for n in range(1, 1000):
        subject.probed(messages.Probe(n, n * MS), NOW + n * MS, NOW + n * MS)
    assert len(subject._under_way) == MAX_UNDER_WAY


# -- what it is told -------------------------------------------------------------------------------


def test_it_is_told_everything_once_and_again_when_anything_changes():
    subject = browser()
    state = subject.tell(SAVED, playing(Segment(NOW + S, 1, 0, TRACK)))
    assert state is not None
    assert (state.room, state.volume, state.room_volume, state.output_delay_ms) == ("main", 80, 50, 12.5)
    assert (state.title, state.artist, state.mode) == ("a title", "somebody", "playing")
    assert subject.tell(SAVED, playing(Segment(NOW + S, 1, 0, TRACK))) is None
    assert subject.tell(replace(SAVED, muted=True), playing(Segment(NOW + S, 1, 0, TRACK))) is not None
    assert subject.tell(replace(SAVED, muted=True), playing()) is not None
    gone = subject.tell(SAVED, None)
    assert gone is not None
    assert (gone.spans, gone.mode) == ((), "stopped")


def test_spans_say_where_each_ends_and_why():
    second_ns = NOW + S + TRACK.duration_ns
    pause_ns = second_ns + 5 * S
    one, two = told(Segment(NOW + S, 1, 0, TRACK), Segment(second_ns, 2, 0, TRACK), Segment(pause_ns))
    assert (one.start_ns, one.end_ns, one.cut) == (S, S + TRACK.duration_ns, False)
    assert (two.end_ns, two.cut) == (pause_ns - NOW, True)
    assert not one.seam_after
    assert (one.track.id, one.track.rate_hz, one.track.gain_db) == ("00" * 32, 44_100, -3.0)
    one, two = told(Segment(NOW + S, 1, 0, TRACK), Segment(second_ns, 2, 0, OTHER))
    assert one.seam_after
    assert two.seam_before
    one, two = told(Segment(NOW + S, 1, 100, TRACK), Segment(NOW + 9 * S, 2, 0, OTHER, 2000))
    assert (one.frame, one.fall_ns, one.fall_ms) == (100, 9 * S, 2000)
    assert (two.fade_ms, two.fall_ns) == (2000, None)


# -- what is said of it ----------------------------------------------------------------------------

REPORT = messages.Report(1 * S, "together", 120.0, 300.0, 4.0, -12.0, 2, 480, 180.0)


def test_it_looks_like_any_speaker():
    subject = browser()
    assert subject.info(NOW).report.playback.state == "waiting"
    subject.tell(SAVED, playing())
    Page(subject, 0.0, 1).probe_for(5)
    subject.reported(msgspec.structs.replace(REPORT, uncertainty_us=0.0), NOW + S)
    clock_ns = subject.info(NOW).report.clock.uncertainty_ns
    subject.reported(REPORT, NOW + S)
    info = subject.info(NOW + S)
    assert (info.peer_id, info.reach, info.present, info.address[0]) == (ID, "web", True, "192.0.2.7")
    report = info.report
    assert (report.name, report.room, report.settings_revision, report.state_revision) == ("phone", "main", 3, 5)
    assert (report.playback.sync_error_ns, report.playback.underruns) == (120_000, 2)
    assert report.playback.output == "browser: Chrome on Android"
    assert report.clock.stamps == "web"
    assert 0 < clock_ns < 5 * MS
    assert report.clock.uncertainty_ns == clock_ns + 300_000, "the sound card's share is in it"


def test_it_counts_as_there_for_five_seconds_after_its_connection_broke():
    subject = browser()
    subject.left_host_ns = NOW
    assert subject.present(NOW + 5 * S - 1)
    assert not subject.present(NOW + 5 * S)


def test_it_is_given_the_time_that_it_needs_but_not_any_time():
    subject = browser()
    assert subject.lead_duration_ns() == 0
    subject.reported(REPORT, NOW)
    assert subject.lead_duration_ns() == 180 * MS
    Page(subject, 0.0, 1).probe_for(5)
    assert 181 * MS < subject.lead_duration_ns() < 190 * MS, "and the way there"
    subject.reported(messages.Report(1 * S, "together", lead_ms=1e6), NOW)
    assert subject.lead_duration_ns() == MAX_LEAD_NS
    assert subject.info(NOW).report.playback.lead_duration_ns == MAX_LEAD_NS


# -- what comes from outside -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        "",
        "null",
        "[]",
        "{}",
        '{"type":"other"}',
        '{"type":"hello","name":"","id":"' + "0" * 32 + '"}',
        '{"type":"hello","name":"x","id":"../../etc"}',
        '{"type":"hello","name":"' + "x" * 65 + '","id":"' + "0" * 32 + '"}',
        '{"type":"probe","n":1,"t1":-1}',
        '{"type":"probe","n":1,"t1":1e300}',
        '{"type":"probe","n":1,"t1":9007199254740993}',
        '{"type":"report","t":1,"state":"<b>"}',
        '{"type":"report","t":1,"state":"silent","lead_ms":-1}',
        '{"type":"report","t":1,"state":"silent","fault":"' + "x" * 81 + '"}',
        '{"type":"change","output_delay_ms":1e9}',
        '{"type":"change","output_delay_ms":null,"volume":101}',
        "[" * 5000,
    ],
)
def test_what_is_no_message_is_refused(data):
    with pytest.raises(ProtocolError):
        messages.decode(data)


@given(st.binary(max_size=200) | st.text(max_size=200))
def test_whatever_comes_is_a_message_or_refused(data):
    try:
        messages.decode(data)
    except ProtocolError as error:
        assert error.reason == "malformed"  # noqa: PT017 - nothing else may be raised, and nothing at all may
