"""How the sync error went: the host's record, the line that draws it, and where both are shown."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from musicsyncd.cli.figures import columns_of
from musicsyncd.cli.output import plain
from musicsyncd.cli.trends import LEVELS, Trend, Trends, errors_of, full_us
from musicsyncd.cli.watch import Watch
from musicsyncd.config import NetworkConfig
from musicsyncd.paths import Paths
from musicsyncd.system.control_client import ControlClient

ID = "aa" * 8
STATUS = {
    "host": {"name": "den", "version": "1"},
    "rooms": [{"name": "main", "mode": "playing"}],
    "peers": [{"id": ID, "name": "lamp", "room": "main", "state": "together", "sync_error_us": 40.0, "version": "1"}],
}


def record(errors, states=None, every_s=1):
    count = len(errors)
    return {
        "now_s": 1.0,
        "every_s": every_s,
        "peers": [
            {
                "id": ID,
                "name": "lamp",
                "room": "main",
                "ago_s": [float(every_s * (count - 1 - index)) for index in range(count)],
                "sync_error_us": errors,
                "round_trip_us": [300.0] * count,
                "loss_percent": [0.0] * count,
                "correction_ppm": [12.0] * count,
                "underruns": list(range(count)),
                "state": states or ["together"] * count,
            }
        ],
    }


def line_of(trends, window_s=60.0, columns=100, now_s=1000.0):
    return plain([trends.lines(now_s, window_s, columns)[ID]], None)


def test_no_outlier_is_lost_and_what_has_no_figure_is_blank():
    trend = Trend()
    trend.points.extend([(0.5, 3.0), (0.6, -80.0), (0.7, 5.0), (2.5, None), (3.5, 1.0)])
    assert trend.cells(3.9, 4.0, 4) == [80.0, None, None, 1.0]


def test_cells_do_not_change_while_time_goes_on_within_one_of_them():
    trend = Trend()
    trend.points.extend((at / 10, float(at)) for at in range(1000))
    assert trend.cells(100.1, 60.0, 20) == trend.cells(101.9, 60.0, 20)
    assert trend.cells(102.1, 60.0, 20)[:-1] == trend.cells(101.9, 60.0, 20)[1:]


@pytest.mark.parametrize(
    ("largest", "full"), [(0.0, 50.0), (50.0, 50.0), (51.0, 100.0), (120.0, 200.0), (2001.0, 5000.0), (9e5, 1e6)]
)
def test_a_full_block_stands_for_a_round_figure(largest, full):
    assert full_us(largest) == full


def test_small_errors_look_flat_and_a_large_one_stands_out():
    trends = Trends()
    trends.begin(record([3.0, -4.0, 2.0]), 1000.0)
    drawn = line_of(trends)
    assert set(drawn.split("  1 min")[0].strip()) == {LEVELS[0]}
    assert drawn.endswith("1 min, at most 4.0 µs")
    trends.begin(record([3.0, -950.0, 2.0]), 1000.0)
    assert [c for c in line_of(trends) if c in LEVELS] == [LEVELS[0], LEVELS[7], LEVELS[0]]


def test_while_a_speaker_is_not_in_step_there_is_no_figure():
    peer = record([1.0, 7.0, None, 3.0], ["together", "silent", "together", "catching up"])["peers"][0]
    assert list(errors_of(peer)) == [(3.0, 1.0), (2.0, None), (1.0, None), (0.0, 3.0)]
    trends = Trends()
    trends.note([{"id": ID, "state": "waiting", "sync_error_us": 5.0}], 1000.0)
    assert trends.lines(1000.0, 60.0, 100) == {}
    trends.note([{"id": ID, "state": "together", "sync_error_us": 5.0}], 1000.0)
    assert list(trends.lines(1000.0, 60.0, 100)) == [ID]


def test_the_line_goes_on_from_the_hosts_record_with_what_is_seen():
    trends = Trends()
    trends.begin(record([10.0] * 5), 1000.0)
    trends.note([{"id": ID, "state": "together", "sync_error_us": 4000.0}], 1006.0)
    assert "at most 4.00 ms" in line_of(trends, now_s=1006.0)
    assert "at most 10 µs" in line_of(trends, now_s=1005.0)


def test_a_narrow_terminal_has_no_line_and_a_wide_one_none_that_is_too_long():
    trends = Trends()
    trends.begin(record([9999.4] * 300), 1000.0)
    assert trends.lines(1000.0, 300.0, 40) == {}
    for columns in (45, 80, 200):
        assert columns_of(line_of(trends, 300.0, columns)) <= columns


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "ago_s", "state"]), inner),
    max_leaves=6,
)


@given(st.fixed_dictionaries({}, optional={"peers": st.lists(st.fixed_dictionaries({}, optional={
    "id": anything, "ago_s": anything | st.lists(st.floats()), "sync_error_us": anything | st.lists(st.floats()),
    "state": anything | st.lists(st.sampled_from(["together", "away"])),
}), max_size=3) | anything}))  # fmt: skip
def test_a_record_of_another_version_never_breaks_the_line(history):
    trends = Trends()
    trends.begin(history, 1000.0)
    trends.lines(1000.0, 300.0, 100)


def test_the_live_view_begins_with_the_last_minutes(host, folder):
    host.answer("GET", "/api/status", STATUS)
    host.answer("GET", "/api/history?seconds=300", record([5.0] * 100 + [200.0] * 10))
    client = ControlClient(NetworkConfig(), Paths.find({}, state_dir=folder), other_sockets=())
    watch = Watch(client, list, lambda: None)
    shown = plain(watch.look()).splitlines()
    assert shown[-1].endswith("5 min, at most 200 µs")
    watch.look()
    assert [path for _, path, _ in host.requests].count("/api/history?seconds=300") == 1, "it is asked once"


def test_a_host_without_a_record_is_watched_all_the_same(host, folder):
    host.answer("GET", "/api/status", STATUS)
    host.answer("GET", "/api/history?seconds=300", {"error": "Not Found"}, 404)
    client = ControlClient(NetworkConfig(), Paths.find({}, state_dir=folder), other_sockets=())
    assert plain(Watch(client, list, lambda: None).look()).splitlines()[-1].endswith("5 min, at most 40 µs")


def test_the_status_has_the_last_hour_when_it_is_asked_for(call, host):
    host.answer("GET", "/api/status", STATUS)
    host.answer("GET", "/api/history?seconds=3600", record([5.0] * 100, every_s=10))
    assert call("status", "--history").stdout.splitlines()[-1].endswith("1 h 0 min, at most 5.0 µs")
    shown = json.loads(call("status", "--json", "--history").stdout)
    assert shown == {**STATUS, "history": record([5.0] * 100, every_s=10)}
    assert "history" not in json.loads(call("status", "--json").stdout)
    assert call("status", "--watch", "--history").exit_code == 2


def test_a_host_without_a_record_that_is_asked_for_it_is_an_error_of_one_line(call, host):
    host.answer("GET", "/api/status", STATUS)
    host.answer("GET", "/api/history?seconds=3600", {"error": "Not Found"}, 404)
    result = call("status", "--history")
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", "musicsyncd: Not Found\n")
