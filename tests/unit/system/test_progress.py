"""The line on a terminal, and the log beside it."""

from __future__ import annotations

import io
import logging

from musicsyncd.system.progress import ProgressLine


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_elsewhere_nothing_is_written():
    stream = io.StringIO()
    line = ProgressLine(stream)
    line.show("x")
    line.erase()
    assert (line.on_terminal, stream.getvalue()) == (False, "")


def test_the_log_comes_in_place_of_the_line(monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    terminal = Terminal()
    handler = logging.StreamHandler(terminal)
    log = logging.getLogger()
    log.addHandler(handler)
    try:
        line = ProgressLine(terminal)
        line.show("1 of 2 files, and more than there is room for")
        log.warning("a fault")
        line.show("2 of 2")
        line.erase()
        line.erase()
        log.warning("another")
    finally:
        log.removeHandler(handler)
    erase = "\r\x1b[K"
    assert terminal.getvalue() == (f"{erase}1 of 2 files, and m{erase}a fault\n{erase}2 of 2{erase}another\n")
