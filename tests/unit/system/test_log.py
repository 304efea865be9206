"""What a daemon's log looks like, and that a fault that lasts is no flood."""

from __future__ import annotations

import logging
import types

import pytest

from musicsyncd.system import log as module
from musicsyncd.system.log import Throttle, set_up, set_verbose

LOG = logging.getLogger("test of the log")


@pytest.fixture
def clock(monkeypatch):
    """Return the clock that the throttle looks at; ``now`` may be moved."""
    one = types.SimpleNamespace(now=1000.0)
    monkeypatch.setattr(module, "time", types.SimpleNamespace(monotonic=lambda: one.now))
    return one


@pytest.fixture
def root():
    """Give the root logger back as it was: everything else in this process logs through it."""
    logger = logging.getLogger()
    handlers, level = logger.handlers[:], logger.level
    yield logger
    logger.handlers[:], logger.level = handlers, level


def lines(caplog) -> list[str]:
    found = [record.getMessage() for record in caplog.records]
    caplog.clear()
    return found


@pytest.mark.parametrize("variable", ["JOURNAL_STREAM", "INVOCATION_ID", None])
def test_lines_have_a_time_except_under_systemd_and_faults_their_name(root, monkeypatch, capsys, variable):
    for name in ("JOURNAL_STREAM", "INVOCATION_ID"):
        monkeypatch.delenv(name, raising=False)
    if variable:
        monkeypatch.setenv(variable, "8:1")
    set_up()
    LOG.debug("not said")
    LOG.info("on eth0")
    LOG.warning("it hums")
    out, err = capsys.readouterr()
    assert out == ""
    said = err.splitlines()
    if variable:
        assert said == ["on eth0", "warning: it hums"]
    else:
        assert [line[8:] for line in said] == [" on eth0", " warning: it hums"]
        assert all(line[2] == line[5] == ":" for line in said)


def test_details_are_said_on_request(root, capsys):
    set_up(verbose=True)
    LOG.debug("a detail")
    assert "a detail" in capsys.readouterr().err


def test_a_fault_is_logged_at_once_and_what_follows_is_counted(clock, caplog):
    throttle = Throttle(LOG)
    for _ in range(5):
        throttle.warning("send", "cannot send")
        clock.now += 0.1
    assert lines(caplog) == ["cannot send"]
    clock.now += 2.0
    throttle.warning("send", "cannot send still")
    assert lines(caplog) == ["cannot send still (4 more like it)"]


def test_kinds_do_not_hide_each_other(clock, caplog):
    throttle = Throttle(LOG)
    throttle.warning("send", "a")
    throttle.warning("receive", "b")
    assert lines(caplog) == ["a", "b"]


def test_a_fault_that_lasts_for_hours_is_said_about_once_a_minute(clock, caplog):
    throttle = Throttle(LOG)
    for _ in range(2 * 3600 * 4):
        throttle.warning("send", "cannot send")
        clock.now += 0.25
    said = lines(caplog)
    assert 120 <= len(said) <= 140
    assert said[-1] == "cannot send (239 more like it)"


def test_a_fault_that_comes_back_after_a_rest_is_said_at_once(clock, caplog):
    throttle = Throttle(LOG)
    for _ in range(1000):
        throttle.warning("send", "cannot send")
        clock.now += 1.0
    caplog.clear()
    clock.now += 300.0
    throttle.warning("send", "again")
    assert lines(caplog) == ["again"]


def test_what_is_remembered_has_a_maximum(clock, caplog):
    throttle = Throttle(LOG)
    for number in range(10_000):
        throttle.warning(f"kind {number}", "x")
    assert len(throttle._kinds) <= 64


def test_the_log_may_say_more_or_less_later():
    root = logging.getLogger()
    before = root.level
    try:
        set_verbose(True)
        assert root.level == logging.DEBUG
        set_verbose(False)
        assert root.level == logging.INFO
    finally:
        root.setLevel(before)
