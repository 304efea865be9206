from hypothesis import given
from hypothesis import strategies as st

from musicsyncd.cli.figures import columns_of
from musicsyncd.cli.output import Cell, Column, Line, Table, layout, lines_of, plain

COLUMNS = (Column("NAME", flexible=True), Column("ROUND\nTRIP", right=True), Column("BY"))


def text_of(table, columns=100):
    return plain(lines_of(table, *layout([table], columns)), columns).splitlines()


def row(*texts):
    return tuple(Cell(text) for text in texts)


def test_a_table_is_aligned_and_its_titles_stand_on_the_same_line():
    table = Table(COLUMNS, [row("kitchen", "3 ms", "multicast"), row("x", "12 ms", "uni")], indent=2)
    assert text_of(table) == [
        "           ROUND",
        "  NAME      TRIP  BY",
        "  kitchen   3 ms  multicast",
        "  x        12 ms  uni",
    ]


def test_a_shorter_rows_last_cell_runs_on_and_lines_go_across():
    table = Table(COLUMNS, [row("kitchen", "away since a very long time"), Line.of("a line across ", Cell("it all"))])
    assert text_of(table)[2:] == ["kitchen  away since a very long time", "a line across it all"]


def test_tables_below_each_other_share_their_widths():
    tables = [Table(COLUMNS, [row("a", "1", "b")]), Table(COLUMNS, [row("a much longer name", "1", "b")])]
    widths, _ = layout(tables, 100)
    assert widths == [18, 5, 2]


def test_when_it_gets_tight_the_gaps_go_first_and_flexible_columns_next():
    table = Table(COLUMNS, [row("abcdefghijklmnopqrst", "123456789", "x" * 20)])
    assert text_of(table, 53)[2] == "abcdefghijklmnopqrst  123456789  " + "x" * 20
    assert text_of(table, 52)[2] == "abcdefghijklmnopqrst 123456789 " + "x" * 20
    assert text_of(table, 45)[2] == "abcdefghijklm… 123456789 " + "x" * 20
    assert text_of(table, 30)[2] == "abcdefghi… 123456789 xxxxxxxx…"


@given(st.lists(st.tuples(st.text(max_size=40), st.text(max_size=40), st.text(max_size=40))), st.integers(20, 120))
def test_no_line_is_wider_than_the_terminal(rows, columns):
    table = Table(COLUMNS, [row(*("".join(c for c in text if c.isprintable()) for text in texts)) for texts in rows])
    assert all(columns_of(line) <= columns for line in text_of(table, columns))
