from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musicsyncd.errors import ControlError, StaleError
from musicsyncd.media.queue import MAX_QUEUE, Entry, Item, Queue
from musicsyncd.playback.timeline import Track

TRACK = Track(bytes(32), 1000, 44_100, 441_000, 2)


def items(names: str) -> list[Item]:
    return [Item(path=f"/{name}", title=name) for name in names]


def titles(queue: Queue) -> str:
    return "".join(entry.title for entry in queue.entries)


def made(names: str, current: str | None = None) -> Queue:
    queue = Queue(chance=random.Random(1))
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


@pytest.mark.parametrize(("from_", "to", "order"), [(1, 4, "bcda"), (4, 1, "dabc"), (2, 3, "acbd"), (3, 3, "abcd")])
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


def test_a_queue_says_the_first_fault_there_is_after_each_change():
    queue = made("abc")
    assert queue.fault == ""
    queue.set_fault(3, "no such file")
    assert queue.fault == "no such file"
    queue.set_fault(2, "broken")
    assert queue.fault == "broken"
    queue.move(3, 1)
    assert queue.fault == "no such file"
    queue.set_prepared(3, TRACK)
    assert queue.fault == "broken"
    queue.clear()
    assert queue.fault == ""
    queue.undo()
    assert queue.fault == "broken"


def test_an_entry_is_found_by_what_its_track_is_as_long_as_it_is_here():
    queue = made("ab")
    assert queue.find_content(TRACK.content_id) is None
    queue.set_prepared(queue.entries[1].number, TRACK)
    assert queue.find_content(TRACK.content_id) is queue.entries[1]
    assert queue.find_content(bytes([1]) * 32) is None
    queue.remove([2])
    assert queue.find_content(TRACK.content_id) is None
    queue.undo()
    assert queue.find_content(TRACK.content_id) is queue.entries[1]


def test_the_revision_rises_when_positions_mean_something_else_and_only_then():
    queue = made("abc", "a")
    revision = queue.revision
    queue.add([])
    queue.remove([])
    queue.move(2, 2)
    queue.set_current(None)
    queue.set_fault(1, "x")
    queue.set_prepared(2, TRACK)
    queue.set_repeat("all")
    queue.shuffle(False)
    assert queue.revision == revision
    queue.move(1, 2)
    queue.shuffle(True)
    queue.undo()
    queue.clear()
    assert queue.revision == revision + 4
    queue.clear()
    assert queue.revision == revision + 4


def test_who_acts_on_an_older_view_is_told_what_has_changed():
    queue = Queue(revision=40)
    queue.add(items("abcd"))
    seen = queue.revision
    assert seen == 41
    queue.check_revision(seen)
    queue.check_revision(None)
    queue.remove([2])
    queue.add(items("xy"))
    with pytest.raises(StaleError) as refused:
        queue.check_revision(seen)
    assert str(refused.value) == (
        "the queue is not what it was at revision 41: removed “b”; added 2 tracks; it is at revision 43 now, "
        "look at it again"
    )
    assert refused.value.revision == 43
    for _ in range(6):
        queue.move(1, 2)
    with pytest.raises(StaleError, match=r"removed “b”; added 2 tracks; (moved “\w” to position 2; ){2}moved “\w” to "
                                         r"position 2 \(and 3 more\); it is at"):  # fmt: skip
        queue.check_revision(seen)
    # From before the host's start, and one that it has never given.
    for other in (39, 100):
        with pytest.raises(StaleError, match="more than is remembered"):
            queue.check_revision(other)


# -- shuffling ---------------------------------------------------------------------------------


def shuffled(names: str, current: str | None = None, seed: int = 1, repeat: str = "off") -> Queue:
    queue = Queue(chance=random.Random(seed))
    entries = queue.add(items(names))
    queue.set_repeat(repeat)
    if current:
        queue.set_current(entries[names.index(current)].number)
    assert queue.shuffle(True)
    return queue


NAMES = "abcdefghijklmnop"


def test_what_is_to_come_is_mixed_once_and_the_order_before_comes_back():
    queue = shuffled(NAMES, "d")
    mixed = titles(queue)
    assert mixed[:4] == "abcd"
    assert mixed[4:] != NAMES[4:]
    assert sorted(mixed) == list(NAMES)
    assert current(queue) == "d"
    assert not queue.shuffle(True)
    assert titles(queue) == mixed
    assert titles(shuffled(NAMES, "d")) == mixed, "the same chance, the same order"
    assert titles(shuffled(NAMES, "d", seed=2)) != mixed
    queue.set_current(queue.entries[9].number)
    playing = current(queue)
    assert queue.shuffle(False)
    assert (titles(queue), current(queue), queue.shuffled) == (NAMES, playing, False)
    assert not queue.shuffle(False)


def test_of_a_queue_that_repeats_all_but_the_current_entry_is_to_come():
    queue = shuffled(NAMES, "p", repeat="all")
    assert titles(queue)[0] == "p"
    assert sorted(titles(queue)) == list(NAMES)
    assert titles(queue)[1:] != NAMES[:-1]
    assert current(queue) == "p"


def test_with_nothing_current_all_is_mixed():
    assert titles(shuffled(NAMES))[:4] != "abcd"


def test_every_order_comes_about():
    orders = {titles(shuffled("abcd", "a", seed)) for seed in range(100)}
    assert len(orders) == 6


def test_what_comes_while_it_is_shuffled_is_mixed_in_and_stands_at_the_end_afterwards():
    queue = shuffled(NAMES, "d")
    queue.add(items("XYZ"))
    mixed = titles(queue)
    assert mixed[:4] == "abcd"
    assert not mixed.endswith("XYZ")
    queue.add(items("N"), next_=True)
    assert titles(queue)[4] == "N"
    queue.add(items("1"), at=1)
    queue.remove([titles(queue).index("e") + 1])
    queue.move(2, 7)
    queue.shuffle(False)
    assert titles(queue) == "1abcdNfghijklmnopXYZ"


def test_what_was_removed_from_a_shuffled_queue_is_gone_from_both_orders():
    queue = shuffled("abcd", "a")
    queue.remove([2, 3])
    assert queue.plain is not None
    assert sorted(queue.plain) == sorted(entry.number for entry in queue.entries)
    queue.clear()
    assert (queue.plain, queue.shuffled) == ((), True)
    queue.add(items("x"))
    assert titles(queue) == "x"


def test_shuffling_can_be_taken_up_again():
    queue = shuffled(NAMES, "d")
    again = Queue(queue.entries, queue.next_number, plain=queue.plain)
    assert again.shuffled
    again.shuffle(False)
    assert titles(again) == NAMES
    # What was kept of the order and what was kept of the entries may be of two minds after a fault of the disk.
    odd = Queue(queue.entries, plain=(99, 3, 1, 3))
    odd.add(items("x"), next_=True)
    odd.shuffle(False)
    assert titles(odd)[:3] == "xca"
    assert sorted(titles(odd)) == sorted(NAMES + "x")


# -- repeating ---------------------------------------------------------------------------------


def after(queue: Queue, name: str) -> str | None:
    entry = queue.after(titles(queue).index(name))
    return entry.title if entry else None


def test_what_follows_by_itself():
    queue = made("abc", "b")
    queue.set_fault(3, "broken")
    assert [after(queue, name) for name in "ab"] == ["b", None]
    queue.set_repeat("all")
    assert [after(queue, name) for name in "ab"] == ["b", "a"]
    queue.set_repeat("one")
    assert [after(queue, name) for name in "ab"] == ["a", "b"]
    queue.set_fault(2, "broken")
    assert after(queue, "b") is None


@pytest.mark.parametrize("repeat", ["one", "all"])
def test_what_a_person_asks_for_goes_round_where_the_queue_repeats(repeat):
    queue = made("abc", "c")
    assert queue.playable_from(3) is None
    assert queue.playable_before(0) is None
    assert queue.following(5) == ()
    queue.set_repeat(repeat)
    assert queue.playable_from(3).title == "a"
    assert queue.playable_before(0).title == "c"
    assert [entry.title for entry in queue.following(5)] == ["a", "b"]
    queue.remove([3])
    assert current(queue) == "a"
    queue.remove([1, 2])
    assert current(queue) is None
    assert queue.playable_from(0) is None


def test_what_is_too_short_is_not_repeated():
    short = Track(bytes(32), 1000, 44_100, 10, 2)
    queue = Queue()
    queue.add([Item("/a", "a", track=short), Item("/b", "b", track=short)])
    for repeat in ("one", "all"):
        queue.set_repeat(repeat)
        assert after(queue, "b") is None
    queue.add([Item("/c", "c", track=TRACK)])
    assert after(queue, "c") == "a"


# -- taking back -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda queue: queue.clear(), "cleared 4 tracks"),
        (lambda queue: queue.remove([2]), "removed “b”"),
        (lambda queue: queue.remove([1, 2, 4]), "removed 3 tracks"),
        (lambda queue: queue.move(4, 1), "moved “d” to position 1"),
        (lambda queue: queue.add(items("xy"), next_=True), "added 2 tracks"),
        (lambda queue: queue.shuffle(True), "shuffled"),
    ],
)
def test_a_change_is_taken_back(change, line):
    queue = made("abcd", "b")
    before = queue.entries
    change(queue)
    assert queue.undo() == line
    assert (queue.entries, queue.shuffled) == (before, False)
    # What became current in place of what was removed is not interrupted.
    assert current(queue) == ("c" if line.startswith("removed") else "b")


def test_ten_changes_are_taken_back_and_the_eleventh_is_not():
    queue = Queue()
    for name in "abcdefghijkl":
        queue.add(items(name))
    for _ in range(10):
        queue.undo()
    assert titles(queue) == "ab"
    with pytest.raises(ControlError, match="nothing to undo"):
        queue.undo()


def test_what_was_learned_of_a_track_stays_known_when_a_change_is_taken_back():
    queue = made("ab")
    queue.move(1, 2)
    queue.set_prepared(1, TRACK)
    queue.undo()
    assert [entry.track for entry in queue.entries] == [TRACK, None]
    assert queue.add(items("c"))[0].number == 3


def test_taking_back_the_end_of_shuffling_shuffles_in_the_same_order():
    queue = shuffled(NAMES, "d")
    mixed = titles(queue)
    queue.shuffle(False)
    queue.undo()
    assert (titles(queue), queue.shuffled) == (mixed, True)
    queue.shuffle(False)
    assert titles(queue) == NAMES


def test_when_the_current_entry_goes_with_its_adding_what_followed_is_current():
    queue = made("ab", "a")
    (new,) = queue.add(items("x"), next_=True)
    queue.set_current(new.number)
    queue.undo()
    assert (titles(queue), current(queue)) == ("ab", "b")
    (new,) = queue.add(items("x"))
    queue.set_current(new.number)
    queue.undo()
    assert current(queue) is None


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
        st.tuples(st.just("add"), st.integers(0, 6), st.booleans()),
        st.tuples(st.just("remove"), st.lists(_POSITIONS, max_size=3), st.none()),
        st.tuples(st.just("move"), _POSITIONS, _POSITIONS),
        st.tuples(st.just("current"), _POSITIONS, st.none()),
        st.tuples(st.just("shuffle"), st.booleans(), st.none()),
        st.tuples(st.just("undo"), st.none(), st.none()),
    ),
    max_size=20,
)


@settings(max_examples=200, deadline=None)
@given(_OPERATIONS)
def test_whatever_happens_the_current_entry_follows_its_track_and_numbers_find_their_entries(operations):
    queue = Queue(chance=random.Random(1))
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
            elif kind == "shuffle":
                queue.shuffle(first)
            elif kind == "undo":
                queue.undo()
            else:
                queue.set_current(first)
                continue
        except ControlError:
            assert [entry.number for entry in queue.entries] == before
        numbers = [entry.number for entry in queue.entries]
        assert len(set(numbers)) == len(numbers)
        assert all(queue.index_of(number) == index for index, number in enumerate(numbers))
        assert queue.plain is None or sorted(queue.plain) == sorted(numbers)
        if was is None:
            assert queue.current is None or kind == "undo"
        elif was.number in numbers:
            assert queue.current_entry == was
        else:
            behind = [n for n in before[before.index(was.number) :] if n in numbers]
            assert (queue.current_entry.number if queue.current_entry else None) == (behind[0] if behind else None)
