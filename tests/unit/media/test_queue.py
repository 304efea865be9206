from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musicsyncd.errors import ControlError
from musicsyncd.media.queue import MAX_QUEUE, Entry, Item, Queue
from musicsyncd.playback.timeline import Track

TRACK = Track(bytes(32), 1000, 44_100, 441_000, 2)


def items(names: str) -> list[Item]:
    return [Item(path=f"/{name}", title=name) for name in names]


def titles(queue: Queue) -> str:
    return "".join(entry.title for entry in queue.entries)


def made(names: str, current: str | None = None) -> Queue:
    queue = Queue()
    entries = queue.add(items(names))
    if current:
        queue.set_current(entries[names.index(current)].number)
    return queue


def current(queue: Queue) -> str | None:
    return queue.current_entry.title if queue.current_entry else None


def test_tracks_are_added_at_the_end_next_or_at_a_position():
    queue = made("abc", current="b")
    queue.add(items("xy"))
    assert titles(queue) == "abcxy"
    queue.add(items("no"), next_=True)
    assert titles(queue) == "abnocxy"
    queue.add(items("p"), at=2)
    assert titles(queue) == "apbnocxy"
    queue.add(items("q"), at=9)
    assert titles(queue) == "apbnocxyq"
    assert current(queue) == "b"


def test_next_without_a_current_entry_is_the_front():
    queue = made("ab")
    queue.add(items("x"), next_=True)
    assert titles(queue) == "xab"


def test_numbers_are_unique_and_never_given_again():
    queue = made("abc")
    queue.remove([1, 2, 3])
    (entry,) = queue.add(items("d"))
    assert entry.number == 4
    assert Queue(queue.entries, queue.next_number).next_number == 5
    # Even if the counter had been lost, no number that is still here is given again.
    assert Queue(queue.entries).next_number == 5


@pytest.mark.parametrize(
    ("names", "now", "positions", "left", "then"),
    [
        ("abcd", "b", [2], "acd", "c"),  # what followed becomes current
        ("abcd", "b", [2, 3], "ad", "d"),
        ("abcd", "c", [1, 2], "cd", "c"),
        ("abcd", "d", [4], "abc", None),  # nothing followed
        ("abcd", "a", [2, 3], "ad", "a"),
        ("abcd", "b", [1, 2, 3, 4], "", None),
        ("abcd", None, [1], "bcd", None),
    ],
)
def test_removal_keeps_the_current_entry_or_makes_the_following_one_current(names, now, positions, left, then):
    queue = made(names, now)
    queue.remove(positions)
    assert (titles(queue), current(queue)) == (left, then)


@pytest.mark.parametrize(
    ("from_", "to", "order"), [(1, 4, "bcda"), (4, 1, "dabc"), (2, 3, "acbd"), (3, 3, "abcd")]
)
def test_move_puts_an_entry_at_a_position_and_the_current_one_follows_its_track(from_, to, order):
    for name in "abcd":
        queue = made("abcd", name)
        queue.move(from_, to)
        assert titles(queue) == order
        assert current(queue) == name


@pytest.mark.parametrize("position", [0, -1, 5, 10**9])
def test_a_position_that_is_not_there_is_refused_and_changes_nothing(position):
    queue = made("abcd")
    revision = queue.revision
    for call in (
        lambda: queue.remove([1, position]),
        lambda: queue.move(position, 1),
        lambda: queue.move(1, position),
        lambda: queue.at_position(position),
        lambda: queue.add(items("x"), at=position if position != 5 else 6),
    ):
        with pytest.raises(ControlError, match="the queue has 4 tracks"):
            call()
    assert (titles(queue), queue.revision) == ("abcd", revision)


def test_refusals_are_in_words():
    with pytest.raises(ControlError, match=r"^there is no position 9: the queue is empty$"):
        Queue().remove([9])
    with pytest.raises(ControlError, match=r"^there is no position 9: the queue has 1 track$"):
        made("a").move(9, 1)
    with pytest.raises(ControlError, match="not both"):
        made("a").add(items("b"), next_=True, at=1)


def test_a_queue_is_bounded_and_takes_all_or_nothing():
    queue = made("abc")
    with pytest.raises(ControlError, match=rf"{MAX_QUEUE} tracks: this one has 3"):
        queue.add(items("x" * (MAX_QUEUE - 2)))
    assert titles(queue) == "abc"
    queue.add(items("x" * (MAX_QUEUE - 3)))
    assert len(queue) == MAX_QUEUE


def test_long_tags_are_cut():
    (entry,) = Queue().add([Item("/a", "t" * 10_000, "a" * 10_000)])
    assert (len(entry.title), len(entry.artist)) == (300, 300)


def test_preparing_and_faults_change_one_entry_and_only_if_it_is_there():
    queue = made("ab")
    first, second = queue.entries
    assert queue.set_fault(first.number, "no such file")
    assert queue.entries[0].fault == "no such file"
    assert queue.set_prepared(first.number, TRACK)
    assert queue.entries[0] == Entry(first.number, "/a", "a", "", 10.0, TRACK)
    assert queue.entries[1] is second
    queue.remove([1])
    assert not queue.set_prepared(first.number, TRACK)
    assert not queue.set_fault(first.number, "gone")
    assert queue.entries == (second,)


def test_the_revision_rises_with_changes_and_only_with_them():
    queue = made("abc", "a")
    revision = queue.revision
    queue.add([])
    queue.remove([])
    queue.move(2, 2)
    queue.set_fault(1, "")
    queue.set_current(1)
    assert queue.revision == revision
    queue.set_current(None)
    queue.set_fault(1, "x")
    queue.move(1, 2)
    queue.clear()
    assert queue.revision == revision + 4
    queue.clear()
    assert queue.revision == revision + 4


def test_following_passes_over_what_cannot_be_played():
    queue = made("abcdef", "b")
    queue.set_fault(queue.entries[2].number, "broken")
    assert [entry.title for entry in queue.following(2)] == ["d", "e"]
    assert [entry.title for entry in queue.following(99)] == ["d", "e", "f"]
    assert queue.following(0) == ()
    before = queue.playable_before(3)
    assert before is not None
    assert before.title == "b"
    queue.set_current(None)
    assert [entry.title for entry in queue.following(2)] == ["a", "b"]


_POSITIONS = st.integers(0, 8)
_OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 3), st.booleans()),
        st.tuples(st.just("remove"), st.lists(_POSITIONS, max_size=3), st.none()),
        st.tuples(st.just("move"), _POSITIONS, _POSITIONS),
        st.tuples(st.just("current"), _POSITIONS, st.none()),
    ),
    max_size=20,
)


@settings(max_examples=200, deadline=None)
@given(_OPERATIONS)
def test_whatever_happens_the_current_entry_follows_its_track_and_numbers_find_their_entries(operations):
    queue = Queue()
    for kind, first, second in operations:
        was = queue.current_entry
        before = [entry.number for entry in queue.entries]
        try:
            if kind == "add":
                queue.add(items("x" * first), next_=second)
            elif kind == "remove":
                queue.remove(first)
            elif kind == "move":
                queue.move(first, second)
            else:
                queue.set_current(first)
                continue
        except ControlError:
            assert [entry.number for entry in queue.entries] == before
        numbers = [entry.number for entry in queue.entries]
        assert len(set(numbers)) == len(numbers)
        assert all(queue.index_of(number) == index for index, number in enumerate(numbers))
        if was is None:
            assert queue.current is None
        elif was.number in numbers:
            assert queue.current_entry == was
        else:
            behind = [n for n in before[before.index(was.number) :] if n in numbers]
            assert (queue.current_entry.number if queue.current_entry else None) == (behind[0] if behind else None)
