"""When something is said again to whom."""

from __future__ import annotations

from musicsyncd.protocol.insisting import Insisting

from .protocol_lan import MS, S

ONE, TWO = b"peer-one", b"peer-two"


def said_at(telling: Insisting, since_ns: int, until_ns: int) -> list[int]:
    """Return when one is told, ms after the beginning, its timers kept exactly."""
    times = []
    while telling.next_ns is not None and telling.next_ns < until_ns:
        now_ns = max(telling.next_ns, since_ns)
        times += [(now_ns - since_ns) // MS for _ in telling.due(now_ns)]
    return times


def test_it_is_said_at_once_and_three_times_more() -> None:
    telling = Insisting()
    telling.begin(ONE)
    assert said_at(telling, S, 3 * S) == [0, 50, 150, 350]
    assert telling.next_ns is None


def test_a_report_that_does_not_have_it_has_it_said_once_more_but_not_amid_the_repeats() -> None:
    telling = Insisting()
    telling.begin(ONE)
    assert telling.due(S) == [ONE]
    telling.remind(ONE, S + 10 * MS)
    assert said_at(telling, S, 3 * S) == [50, 150, 350]
    telling.remind(ONE, 2 * S)
    assert said_at(telling, 2 * S, 3 * S) == [0]


def test_what_is_settled_cleared_or_forgotten_is_said_no_more() -> None:
    for end in ("settle", "forget", "clear"):
        telling = Insisting()
        telling.begin(ONE)
        getattr(telling, end)(*([] if end == "clear" else [ONE]))
        assert telling.next_ns is None
        assert telling.due(S) == []
    telling.forget(b"never wa")


def test_who_is_told_too_often_waits_even_when_it_was_settled_meanwhile() -> None:
    telling = Insisting()
    for peer_id in (TWO, ONE):
        telling.begin(peer_id)
    assert telling.due(S) == [ONE, TWO]
    telling.settle(ONE)
    telling.begin(ONE)
    assert telling.due(S + 49 * MS) == []
    assert telling.due(S + 50 * MS) == [ONE, TWO]
    telling.forget(ONE)
    telling.begin(ONE)
    assert telling.due(S + 51 * MS) == [ONE]
