"""A host that is killed goes on where the music would be now, or where it stopped: on the same run of the machine
and after a start of it, which a changed name of the run in the host's state stands for."""

from __future__ import annotations

import json
import signal
import sqlite3
import time

import pytest

SEEK_S = 10.0
AWAY_S = 4.0


def pretend_another_run(house):
    """Let what was kept be of another run of the machine, so that its monotonic times say nothing."""
    database = sqlite3.connect(house.state / "host" / "state.sqlite")
    with database:
        (text,) = database.execute("SELECT snapshot FROM rooms").fetchone()
        snapshot = json.loads(text) | {"boot_id": "another run", "host_ns": 1 << 60}
        database.execute("UPDATE rooms SET snapshot = ?", (json.dumps(snapshot).encode(),))
    database.close()


@pytest.mark.parametrize("same_run", [True, False], ids=["same run", "another run"])
@pytest.mark.parametrize("after_restart", ["now", "stopped"])
def test_a_killed_host_goes_on_where_it_is_told_to(house, songs, after_restart, same_run):
    host = house.host(str(songs["first"][0]))
    house.until("it plays", lambda: house.room()["mode"] == "playing")
    house.call("seek", f"{SEEK_S:g}")
    sought = time.time()
    host.stop(signal.SIGKILL)
    if not same_run:
        pretend_another_run(house)
    time.sleep(AWAY_S)
    restarted = time.time()
    again = house.host(MUSICSYNCD_AFTER_RESTART=after_restart)
    room, now = house.room(), time.time()
    assert room["mode"] == "playing"
    if after_restart == "now":
        assert room["position_s"] == pytest.approx(SEEK_S + now - sought, abs=0.7)
    else:
        assert SEEK_S - 0.7 < room["position_s"] < SEEK_S + now - restarted + 0.1
    again.stop()
