"""Spreads, limits, ratios and tables of the benchmarks."""

import math

import pytest
from tables import Limit, machine_kind, markdown, number, plain, ratio, spread


def test_a_spread_is_the_median_between_the_least_and_the_most():
    found = spread([3.0, 1.0, 20.0])
    assert (found.median, found.least, found.most) == (3.0, 1.0, 20.0)
    assert str(found) == "3 (1 … 20)"
    assert str(spread([2.0, 4.0])) == "3 (2 … 4)"
    assert str(spread([7.25])) == "7.25"
    assert str(spread([0, 0, 0])) == "0", "there is nothing between equal figures"


def test_what_never_happened_is_later_than_everything():
    assert str(spread([None, 1.0, 2.0])) == "2 (1 … never)"
    assert str(spread([None, 1.0, None])) == "never (1 … never)"
    assert str(spread([None])) == "never"


@pytest.mark.parametrize(
    ("value", "words"),
    [(0, "0"), (7.214, "7.21"), (0.0042, "0.0042"), (99.96, "100"), (3291.4, "3291"), (1.6e7, "16000000")],
)
def test_figures_have_three_digits_that_count_and_no_exponent_when_large(value, words):
    assert number(value) == words


def test_a_limit_holds_at_its_own_value_and_on_its_side():
    assert [Limit(5).holds(value) for value in (4.0, 5.0, 5.01, None)] == [True, True, False, False]
    assert [Limit(90, at_least=True).holds(value) for value in (89.9, 90.0, 120.0, None)] == [False, True, True, False]
    assert (str(Limit(5)), str(Limit(90, at_least=True))) == ("≤ 5", "≥ 90")


def test_a_ratio_says_which_of_the_two_is_more():
    assert ratio(8.6, 3291) == "1 : 383"
    assert ratio(0.9, 4.4) == "1 : 4.9"
    assert ratio(7.3, 2.8) == "2.6 : 1"
    assert ratio(2.0, 2.0) == "1 : 1"


@pytest.mark.parametrize("pair", [(0.0, 1.0), (1.0, 0.0), (1.0, math.inf), (math.inf, 1.0)])
def test_what_has_no_ratio_gets_none(pair):
    assert ratio(*pair) == ""


def test_tables_keep_their_columns():
    rows = [["", "ours", "limit"], ["median µs", "8.6", "≤ 5"], ["a|b", "", ""]]
    assert plain(rows).splitlines() == [
        "             ours  limit",
        "  ----------------------",
        "  median µs  8.6   ≤ 5",
        "  a|b",
    ]
    assert markdown(rows).splitlines() == [
        "|  | ours | limit |",
        "|---|---|---|",
        "| median µs | 8.6 | ≤ 5 |",
        "| a\\|b |  |  |",
    ]


def test_the_machine_is_described_by_its_kind_and_not_by_its_name():
    import platform

    words = machine_kind()
    assert platform.machine() in words
    assert platform.python_version() in words
    assert platform.release() in words
    assert platform.node() not in words
