"""A look in a process of its own: what it says comes back, and whatever becomes of it ends in one line."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import time

import pytest

from musicsyncd.errors import DeviceError
from musicsyncd.system import mdns_apart
from musicsyncd.system.interfaces import Interface

CARD = Interface("eth0", 2, socket.AF_INET6, "fe80::1%eth0", loopback=False, multicast=True)


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Put a script in the process's place."""

    def put(text: str) -> None:
        script = tmp_path / "python"
        script.write_text(f"#!/bin/sh\n{text}\n")
        script.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(script))

    return put


def look():
    return asyncio.run(mdns_apart.look([CARD]))


def test_a_real_one_answers_and_says_what_is_wrong():
    with pytest.raises(DeviceError, match="no network interface can be used"):
        asyncio.run(mdns_apart.look([]))


def test_it_takes_no_module_from_the_current_folder(tmp_path, monkeypatch):
    (tmp_path / "musicsyncd").mkdir()
    (tmp_path / "musicsyncd/__init__.py").write_text("raise SystemExit(9)")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DeviceError, match="no network interface can be used"):
        asyncio.run(mdns_apart.look([]))


def test_what_was_found_comes_back_in_order(program, tmp_path):
    program(f"""cat >{tmp_path}/asked; echo '{{"found": [["10.0.0.2", 7783], ["fe80::2%eth0", 7784]]}}'""")
    assert look() == [("10.0.0.2", 7783), ("fe80::2%eth0", 7784)]
    assert b'"fe80::1%eth0"' in (tmp_path / "asked").read_bytes()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cat >/dev/null; exit 3", "ended with 3"),
        ("cat >/dev/null; echo nonsense", "ended with 0"),
        ("""cat >/dev/null; echo '{"found": [[1, "a"]]}'""", "ended with 0"),
        ("""cat >/dev/null; echo '{"fault": "no way here"}'""", "^no way here$"),
        ("exit 4", "ended with 4"),
    ],
)
def test_one_that_fails_is_one_line(program, text, said):
    program(text)
    with pytest.raises(DeviceError, match=said):
        look()


def test_where_no_process_can_be_started_it_is_said(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    with pytest.raises(DeviceError, match="no process can be started: No such file"):
        look()


def test_one_that_hangs_is_killed(program, tmp_path, monkeypatch):
    monkeypatch.setattr(mdns_apart, "_WITHIN_S", 0.5)
    program(f"echo $$ >{tmp_path}/pid; exec sleep 60")
    began_s = time.monotonic()
    with pytest.raises(DeviceError, match=r"longer than 0\.5 s"):
        look()
    assert time.monotonic() - began_s < 5.0
    assert not is_there(tmp_path)


def test_it_ends_with_a_speaker_that_ends(program, tmp_path):
    program(f"echo $$ >{tmp_path}/pid; exec sleep 60")

    async def cancelled():
        task = asyncio.create_task(mdns_apart.look([CARD]))
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text().strip():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    assert not is_there(tmp_path)


def is_there(folder) -> bool:
    try:
        os.kill(int((folder / "pid").read_text()), 0)
    except ProcessLookupError:
        return False
    return True
