from __future__ import annotations

from musicsyncd.media.history import MAX_PLAYED, History, Played


def played(title: str, began_s: float, duration_s: float = 100.0) -> Played:
    return Played(began_s, f"/{title}", title, "", duration_s)


def titles(history: History) -> str:
    return "".join(one.title for one in history.played)


def test_the_last_hundred_are_kept():
    history = History(played("x", 10.0 * n) for n in range(MAX_PLAYED + 5))
    history.add(played("y", 9_999.0))
    assert len(history.played) == MAX_PLAYED == 100
    assert history.played[0].began_s == 60.0
    assert history.played[-1].title == "y"


def test_what_gave_way_within_a_second_was_skipped():
    history = History()
    for title, began_s in (("a", 0.0), ("b", 50.0), ("c", 50.9), ("d", 60.0)):
        history.add(played(title, began_s))
    assert titles(history) == "acd"


def test_a_short_track_that_sounded_to_its_end_was_heard():
    history = History()
    history.add(played("a", 0.0, duration_s=0.3))
    history.add(played("b", 0.3))
    assert titles(history) == "ab"


def test_a_clock_of_the_day_that_is_put_back_takes_nothing_away():
    history = History()
    history.add(played("a", 5_000.0))
    history.add(played("b", 4_999.9))
    assert titles(history) == "ab"
