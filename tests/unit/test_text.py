from __future__ import annotations

import os

import pytest

from musicsyncd.text import encodable, listed


def test_names_of_files_in_any_encoding_can_be_kept():
    name = os.fsdecode(b"caf\xe9 \xc3\xa9")
    assert encodable(name) == "caf? é"
    assert encodable("half a pair \ud83d, a whole one \U0001f600") == "half a pair ?, a whole one \U0001f600"


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (0, ""),
        (1, "0"),
        (3, "0; 1; 2"),
        (4, "0; 1; 2 (and 1 more)"),
        (2003, "0; 1; 2 (and 2,000 more)"),
    ],
)
def test_of_many_lines_the_first_are_said_and_the_others_counted(count, said):
    assert listed([str(number) for number in range(count)], 3) == said
    assert listed([str(number) for number in range(count)], 3, ", ") == said.replace("; ", ", ")
