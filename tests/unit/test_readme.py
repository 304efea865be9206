"""What the README says that the program prints: read from the doctor's source, without running it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import musicsyncd
from musicsyncd.cli.doctor import _MARKS

PACKAGE = Path(musicsyncd.__file__).parent
README = PACKAGE.parent / "README.md"
WORDS = {mark.strip(): verdict for verdict, mark in _MARKS.items()}
ANY = "[^:]+"


class Findings:
    """The names and verdicts of the findings that a module can make; a part of a name that varies is a pattern."""

    def __init__(self, source: str) -> None:
        tree = ast.parse(source)
        self.functions = {one.name: one for one in ast.walk(tree) if isinstance(one, ast.FunctionDef)}

    def __iter__(self) -> Iterator[tuple[str, str]]:
        for function in self.functions.values():
            for call in calls(function, "Finding"):
                verdicts = verdicts_in(call.args[1])
                if not verdicts:  # A function of verdicts says them.
                    verdicts = verdicts_in(self.functions[call.args[1].func.id])
                yield from ((name, one) for name in self.names(call.args[0], function) for one in verdicts)

    def names(self, node: ast.expr, function: ast.FunctionDef) -> set[str]:
        """Return what an expression may be: constants, texts of them, variables, and what callers give."""
        if isinstance(node, ast.Constant):
            return {re.escape(node.value)}
        if isinstance(node, ast.JoinedStr):
            found = {""}
            for part in node.values:
                inner = part.value if isinstance(part, ast.FormattedValue) else part
                found = {one + other for one in found for other in self.names(inner, function) or {ANY}}
            return found
        if not isinstance(node, ast.Name):
            return set()
        assigned = [one for one in ast.walk(function) if isinstance(one, ast.Assign)]
        values = [one.value for one in assigned if ast.unparse(one.targets[0]) == node.id]
        if values:
            return set().union(*(self.names(one, function) for one in values))
        return self.given(node.id, function)

    def given(self, parameter: str, function: ast.FunctionDef) -> set[str]:
        names = [one.arg for one in function.args.args]
        if parameter not in names:
            return set()
        place = names.index(parameter)
        defaults = function.args.defaults
        default = defaults[place - len(names)] if len(names) - place <= len(defaults) else None
        found = set() if default is None else self.names(default, function)
        for caller in self.functions.values():
            for call in calls(caller, function.name):
                if len(call.args) > place:
                    found |= self.names(call.args[place], caller)
        return found


def verdicts_in(node: ast.AST) -> list[str]:
    found = (one.value for one in ast.walk(node) if isinstance(one, ast.Constant))
    return [one for one in found if one in WORDS.values()]


def calls(function: ast.FunctionDef, name: str) -> Iterator[ast.Call]:
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name:
            yield node


def printable() -> set[tuple[str, str]]:
    found = set()
    for path in (PACKAGE / "system/doctor").glob("*.py"):
        found |= set(Findings(path.read_text(encoding="utf-8")))
    return found


def can_be_printed(said: str) -> bool:
    """Return whether the doctor can print a line that begins so: a verdict, a name, and perhaps a colon and more."""
    word, _, rest = said.partition(" ")
    begins = [(re.match(rf"({name})(?=:|$)", rest), verdict) for name, verdict in printable()]
    longest = max((match.end() for match, _ in begins if match), default=0)
    return any(match and match.end() == longest and verdict == WORDS.get(word) for match, verdict in begins)


def lines_in_the_table() -> list[str]:
    trouble = README.read_text(encoding="utf-8").partition("\n## Trouble\n")[2].partition("\n## ")[0]
    rows = [line.split("|") for line in trouble.splitlines() if line.startswith("|")]
    return [said for row in rows[2:] for said in re.findall(r"`([^`]+)`", row[2]) if not said.startswith("doctor")]


def test_the_reader_of_findings_knows_which_there_are():
    source = """
def judge(heard, name="card"):
    yield Finding(name, "bad", "x")
    yield Finding(f"{name}: rate", "good" if heard else "advice", "x")
    part = f"disk of the {heard}"
    yield Finding(part, verdict_of(heard), "x")
def verdict_of(heard):
    return "skipped"
def of_speakers(speaker):
    name = f"card of {speaker.name}"
    return judge({}, name)
"""
    assert set(Findings(source)) == {
        ("card", "bad"),
        (rf"card\ of\ {ANY}", "bad"),
        *((f"{name}:\\ rate", verdict) for name in ("card", rf"card\ of\ {ANY}") for verdict in ("good", "advice")),
        (rf"disk\ of\ the\ {ANY}", "skipped"),
    }


def test_every_name_of_a_finding_is_more_than_a_pattern():
    assert len(printable()) > 40
    assert not [name for name, _ in printable() if len(name.replace(ANY, "").strip()) < 3]


@pytest.mark.parametrize(
    ("said", "can_be"),
    [
        ("BAD way to the host", True),
        ("BAD HTTP of the host", True),
        ("BAD sound card", True),
        ("BAD sound card of kitchen", True),
        ("BAD sound card of kitchen: underruns: 3 in 10 s", True),
        ("BAD power: the Raspberry Pi is throttled", True),
        ("advice Wi-Fi wlan0: it saves power", True),
        ("advice multicast timing", True),
        ("BAD multicast", True),
        ("advice disk of the state", True),
        ("BAD musicsyncd-peer: does not stay up", True),
        ("BAD sound devices", True),
        ("– way to the host: no host is known", True),
        ("BAD sound card: rate: 48000 Hz", False),
        ("BAD Wi-Fi wlan0", False),
        ("BAD multicast timing", False),
        ("advice HTTP of the host", False),
        ("good power supply", False),
        ("what power", False),
        ("BAD", False),
    ],
)
def test_which_lines_can_be_printed(said, can_be):
    assert can_be_printed(said) == can_be


def test_each_line_of_the_doctor_under_trouble_is_one_that_it_can_print():
    lines = lines_in_the_table()
    assert len(lines) > 8
    assert [one for one in lines if not can_be_printed(one)] == []
