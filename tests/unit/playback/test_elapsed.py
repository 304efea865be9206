"""Where the music would be, held against a transport that played on."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musicsyncd.media.queue import Item, Queue
from musicsyncd.playback.elapsed import MAX_STEPS, place_after
from musicsyncd.playback.timeline import Track
from musicsyncd.playback.transport import Transport

S = 1_000_000_000
MS = 1_000_000
T0 = 5_000 * S
LEAD = 100 * MS


def queue_of(*frames: int | None, rate_hz: int = 1_000, repeat: str = "off") -> Queue:
    """A queue of tracks of so many frames each; None is one that is not prepared."""
    queue = Queue(repeat=repeat)
    queue.add(
        Item(f"/{n}", str(n), track=None if count is None else Track(bytes(31) + bytes([n]), 9, rate_hz, count, 2))
        for n, count in enumerate(frames)
    )
    return queue


@pytest.mark.parametrize(
    ("elapsed_ms", "repeat", "place"),
    [
        (0, "off", (1, 400)),
        (599, "off", (1, 999)),
        (600, "off", (2, 0)),
        (2_599, "off", (2, 1_999)),
        (2_600, "off", (3, 0)),
        (5_599, "off", (3, 2_999)),
        (5_600, "off", None),
        (5_600, "all", (1, 0)),
        (5_600 + 6_000_000 + 1_500, "all", (2, 500)),
        (600 + 1_000_000 + 250, "one", (1, 250)),
    ],
)
def test_the_music_goes_from_track_to_track(elapsed_ms, repeat, place):
    queue = queue_of(1_000, 2_000, 3_000, repeat=repeat)
    assert place_after(queue, 1, 400, elapsed_ms * MS, 0) == place


def test_it_goes_no_further_than_a_track_of_unknown_length():
    assert place_after(queue_of(1_000, None, 1_000), 1, 0, 60 * S, 0) == (2, 0)
    assert place_after(queue_of(None, 1_000), 1, 70, 60 * S, 0) == (1, 70)


def test_an_entry_that_is_gone_stays_where_it_was():
    assert place_after(queue_of(1_000), 9, 70, 60 * S, 0) == (9, 70)


def test_a_track_that_cannot_be_played_is_passed_over():
    queue = queue_of(1_000, 1_000, 1_000)
    queue.set_fault(2, "damaged")
    assert place_after(queue, 1, 0, 1_500 * MS, 0) == (3, 500)


def test_the_walk_has_an_end(monkeypatch):
    steps = []
    after = Queue.after
    monkeypatch.setattr(Queue, "after", lambda self, index: steps.append(index) or after(self, index))
    number, frame = place_after(queue_of(1_000, 1_000, repeat="all"), 1, 0, 10_000_000 * S, 0)
    assert (len(steps), number, frame) == (MAX_STEPS, 1, 0)


@settings(max_examples=150, deadline=None)
@given(
    frames=st.lists(st.integers(300, 40_000), min_size=1, max_size=5),
    rate_hz=st.sampled_from([1_000, 44_100]),
    repeat=st.sampled_from(["off", "one", "all"]),
    fade_ms=st.sampled_from([0, 100, 4_000]),
    before_ms=st.integers(0, 3_000),
    elapsed_ms=st.integers(0, 30_000),
)
def test_it_is_where_a_host_is_that_was_never_away(frames, rate_hz, repeat, fade_ms, before_ms, elapsed_ms):
    queue = queue_of(*frames, rate_hz=rate_hz, repeat=repeat)
    transport = Transport(queue)
    transport.fade_ms = fade_ms
    transport.play(T0, T0)

    def pass_until(end: int) -> None:
        while (due := transport.next_change_host_ns()) is not None and due <= end:
            transport.advance(due)
            if transport.waiting is not None:
                transport.rebuild(due, due)
        transport.advance(end)

    # How long a fade is depends on where the track before began to sound, which a place does not say.
    before_ns = 0 if fade_ms else before_ms * MS
    pass_until(T0 + before_ns)
    if transport.mode == "stopped":
        return
    entry, frame = transport.position(T0 + before_ns)
    places = [place_after(queue, entry.number, frame, elapsed_ms * MS + shift * MS, fade_ms) for shift in (-2, 0, 2)]
    pass_until(T0 + before_ns + elapsed_ms * MS)
    there, at_frame = transport.position(T0 + before_ns + elapsed_ms * MS)
    now = None if transport.mode == "stopped" else (there.number, at_frame)
    # Between where it is a moment earlier and a moment later; where those are in other tracks, it is in one of them.
    if places[0] is None or places[2] is None or now is None:
        assert None in places
        assert now is None or places[0] is not None
    elif places[0][0] == places[2][0] and places[0][1] < places[2][1]:
        assert now[0] == places[0][0]
        assert places[0][1] <= now[1] <= places[2][1]
    else:
        assert now[0] in {place[0] for place in places}
