"""What an engineer reads: the whole view, and what becomes of odd values."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musicsyncd.cli.figures import columns_of
from musicsyncd.cli.output import plain
from musicsyncd.cli.status_view import spread_us, status_lines, watch_header, watch_rows
from musicsyncd.cli.watch import Watch


def clock(offset=3.2e6, uncertainty=14.0, trip=310.0, jitter=22.0, loss=0.0, stamps="kernel"):
    return {
        "offset_us": offset,
        "skew_ppm": 12.1,
        "uncertainty_us": uncertainty,
        "round_trip_us": trip,
        "jitter_us": jitter,
        "loss_percent": loss,
        "stamps": stamps,
    }


def peer(name, **values):
    return {
        "id": "00" * 8,
        "name": name,
        "room": "main",
        "address": "192.168.1.21",
        "reach": "multicast",
        "seen_s_ago": 0.4,
        "version": "0.1.0",
        "volume": 100,
        "muted": False,
        "output_delay_ms": 0.0,
        "channels": "stereo",
        "state": "together",
        "sync_error_us": 3.2,
        "correction_ppm": 12.3,
        "underruns": 0,
        "output": "hw:DAC,0",
        "fault": "",
        "clock": clock(),
        **values,
    }


def another(name="den", address="192.168.1.9", rooms=("main",), has_our_key=True):
    return {"name": name, "address": address, "rooms": list(rooms), "has_our_key": has_our_key}


MAIN = {
    "name": "main",
    "mode": "playing",
    "volume": 80,
    "muted": False,
    "track": {
        "title": "Teardrop",
        "artist": "Massive Attack",
        "path": "/m/t.flac",
        "duration_s": 329.4,
        "rate_hz": 44100,
        "channels": 2,
    },
    "position_s": 83.2,
    "queue_length": 12,
    "queue_position": 3,
    "fault": "",
    "lead_ms": 41.2,
}
KITCHEN = {"name": "kitchen", "mode": "stopped", "volume": 40, "muted": True, "track": None, "queue_length": 0}
HOST = {
    "name": "attic-pi",
    "version": "0.1.0",
    "address": "192.168.1.10",
    "port": 7783,
    "uptime_s": 93784,
    "open": False,
}
STATUS = {
    "host": HOST,
    "rooms": [MAIN, KITCHEN],
    "peers": [
        peer("shelf-left"),
        peer(
            "window",
            reach="unicast",
            sync_error_us=-41.7,
            correction_ppm=-104.6,
            underruns=3,
            clock=clock(1000.007e6, 48, 1830, 2110, 3.2),
        ),
        peer("old-pi", reach="away", seen_s_ago=7350.0),
        peer("sink", room="kitchen", state="no card", fault="no sound card 'x'", muted=True),
    ],
}


def view(status, columns=100):
    return plain(status_lines(status, columns), columns).splitlines()


def test_the_whole_view():
    assert view(STATUS) == [
        "host attic-pi · musicsyncd 0.1.0 · 192.168.1.10:7783 · up 1 d 2 h · 4 speakers, 1 away",
        "",
        "main  ▶ playing  Teardrop · Massive Attack",
        "  1:23 ━━━━━━────────────────── 5:29   track 3 of 12 · 44.1 kHz stereo · volume 80 % · lead 41 ms",
        "                         SYNC       CLOCK         ROUND         LOSS UNDER-   RATE  VOL",
        "  SPEAKER    STATE      ERROR      OFFSET     ±    TRIP  JITTER    %   RUNS    PPM    % BY",
        "  shelf-left together +3.2 µs    +3.200 s 14 µs  310 µs   22 µs    0      0  +12.3  100 mcast",
        "  window     together  -42 µs +1000.007 s 48 µs 1.83 ms 2.11 ms  3.2      3 -104.6  100 ucast",
        "  old-pi     away     last seen 2 h 2 min ago",
        "  earliest to latest speaker: 45 µs, by their own account",
        "",
        "kitchen  ■ stopped",
        "  queue empty · muted",
        "                         SYNC       CLOCK         ROUND         LOSS UNDER-   RATE  VOL",
        "  SPEAKER    STATE      ERROR      OFFSET     ±    TRIP  JITTER    %   RUNS    PPM    % BY",
        "  sink       no card        –    +3.200 s 14 µs  310 µs   22 µs    0      0      – mute mcast",
        "  └ no sound card 'x'",
    ]


def test_nothing_is_wider_than_the_terminal_even_with_long_names():
    status = {
        **STATUS,
        "peers": [peer("a-speaker-with-a-very-long-name" * 2, state="catching up", sync_error_us=-99e3)],
    }
    for columns in (80, 100, 140):
        assert all(columns_of(line) <= columns for line in view(status, columns))


def test_a_room_says_how_it_plays_its_queue():
    room = MAIN | {"shuffled": True, "repeat": "all", "crossfade_s": 2.5}
    shown = plain(status_lines({"host": HOST, "rooms": [room], "peers": []}, 200), None)
    assert "lead 41 ms · shuffled · repeats all · crossfade 2.5 s\n" in shown
    room = MAIN | {"shuffled": False, "repeat": "off", "crossfade_s": 0.0}
    shown = plain(status_lines({"host": HOST, "rooms": [room], "peers": []}, 200), None)
    assert "lead 41 ms\n" in shown


def test_a_room_that_waits_for_its_track_says_why_and_damage_is_said():
    room = {"name": "main", "mode": "playing", "waits_for": "it is being turned into FLAC, 34%"}
    shown = plain(status_lines({"host": HOST, "rooms": [room], "peers": []}, 200), None)
    assert "▷ waiting" in shown
    assert "waits for its track: it is being turned into FLAC, 34%" in shown
    room = {"name": "main", "mode": "paused", "waits_for": "", "track": {"title": "a", "damage": "2 s are lost"}}
    shown = plain(status_lines({"host": HOST, "rooms": [room], "peers": []}, 200), None)
    assert "‖ paused" in shown
    assert "! the track is damaged: 2 s are lost" in shown
    assert "waits" not in shown


def test_a_room_without_speakers_and_a_host_without_any():
    assert "  no speaker is in this room" in view({**STATUS, "peers": []})
    assert "no speaker has come yet" in view({**STATUS, "peers": []})[-1]


def test_speakers_of_one_name_are_shown_with_what_tells_them_apart():
    twins = [peer("twin", id="2f26"), peer("twin", id="a001"), peer("lamp", id="77")]
    shown = plain(status_lines({**STATUS, "peers": twins}, 200), None)
    assert "twin 2f26" in shown
    assert "twin a001" in shown
    assert "lamp 77" not in shown
    assert "twin_2f26" in "\n".join(watch_rows({**STATUS, "peers": twins}, "12:00:00"))


def test_a_speaker_in_a_room_that_is_no_more_is_shown():
    lines = view({**STATUS, "peers": [peer("lost", room="gone")]})
    assert "in no room" in lines
    assert any(line.startswith("  lost") for line in lines)


def test_what_an_engineer_wants_pointed_out():
    peers = [peer("a", version="0.0.9"), peer("b", clock=clock(stamps="user"))]
    text = "\n".join(view({**STATUS, "host": {**HOST, "open": True}, "peers": peers}))
    assert "open: no key" in text
    assert "whoever is on this network may listen to all speakers and command them" in text
    assert "other versions than the host's 0.1.0: a 0.0.9" in text
    assert "no time stamps from the kernel, a less certain clock: b" in text


def test_a_clock_that_is_not_known_yet_shows_no_figures():
    line = next(line for line in view({**STATUS, "peers": [peer("new", clock=clock(0, 0, 0, 0))]}) if " new" in line)
    assert line.split() == ["new", "together", "+3.2", "µs", *"–––––", "0", "+12.3", "100", "mcast"]


def test_what_cannot_be_heard_apart_is_good_and_what_blurs_is_bad():
    def style(error_us):
        lines = status_lines({**STATUS, "peers": [peer("x", sync_error_us=error_us)]}, 100)
        return next(p.style for line in lines for p in line.pieces if p.text.strip().startswith(("+", "-")))

    assert [style(us) for us in (-999, 1001, -4999, 5001)] == ["good", "fair", "fair", "bad"]


def test_the_spread_is_between_the_earliest_and_the_latest_that_plays():
    assert spread_us([peer("a", sync_error_us=-10.0), peer("b", sync_error_us=30.0)]) == 40.0
    assert spread_us([peer("a"), peer("b", reach="away")]) is None
    assert spread_us([peer("a"), peer("b", state="silent", sync_error_us=900.0)]) is None
    assert spread_us([]) is None


def test_titles_and_names_cannot_command_the_terminal():
    nasty = "\x1b[2J\r\n"
    status = {
        "host": {**HOST, "name": nasty},
        "rooms": [{**MAIN, "fault": nasty, "track": {**MAIN["track"], "title": nasty, "artist": nasty}}],
        "peers": [peer(nasty, fault=nasty, state=nasty)],
    }
    assert all(line.isprintable() for line in view(status))
    assert all(line.isprintable() for line in watch_rows(status, "12:00:00"))


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


def broken(values):
    return st.fixed_dictionaries({}, optional={key: st.just(value) | anything for key, value in values.items()})


@settings(deadline=None)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "host": broken(HOST | {"others": [another(), another(has_our_key=False)]}) | anything,
            "rooms": st.lists(broken(MAIN), max_size=2) | anything,
            "peers": st.lists(broken(peer("p")), max_size=2) | anything,
        },
    )
)
def test_a_host_of_another_version_never_breaks_the_view(status):
    assert view(status)
    watch_rows(status, "12:00:00")


def test_an_open_room_is_said_in_every_line_of_a_log():
    rows = watch_rows({**STATUS, "host": {**HOST, "open": True}}, "12:00:00")
    assert len(rows) == len(STATUS["peers"]) > 0
    assert all(row.endswith("  open: no key") for row in rows)
    assert not any("open" in row for row in watch_rows(STATUS, "12:00:00"))


def test_lines_for_a_log():
    header = watch_header().split()
    rows = [row.split() for row in watch_rows(STATUS, "12:00:00")]
    assert header == [
        "time",
        "speaker",
        "state",
        "sync",
        "offset",
        "±",
        "trip",
        "jitter",
        "loss%",
        "underruns",
        "ppm",
        "vol%",
    ]
    assert rows[1][:5] == ["12:00:00", "window", "together", "-42µs", "+1000.007s"]
    assert len(rows[0]) == len(header)
    assert rows[2] == ["12:00:00", "old-pi", "away"]


def test_status_once(call, host):
    host.answer("GET", "/api/status", STATUS)
    assert call("status").stdout.splitlines() == view(STATUS)
    assert json.loads(call("status", "--json").stdout) == STATUS


def interrupted_after(monkeypatch, looks):
    """Let a watch look so often, without waiting, until Ctrl-C."""
    left = [looks]

    def sleep(seconds):
        assert seconds == 5.0
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt

    monkeypatch.setattr("musicsyncd.cli.status.time.sleep", sleep)


def test_watch_in_a_pipe_is_lines_and_ends_well(call, host, monkeypatch):
    host.answer("GET", "/api/status", STATUS)
    interrupted_after(monkeypatch, 6)
    result = call("status", "--watch", "--interval", "5")
    lines = result.stdout.splitlines()
    assert (result.exit_code, result.stderr) == (0, "")
    assert [number for number, line in enumerate(lines) if line == watch_header()] == [0, 21]
    assert len(lines) == 2 + 6 * len(STATUS["peers"])


def test_watch_for_programs_is_a_json_document_a_line(call, host, monkeypatch):
    host.answer("GET", "/api/status", STATUS)
    interrupted_after(monkeypatch, 2)
    result = call("status", "--watch", "--json", "--interval", "5")
    assert [json.loads(line) for line in result.stdout.splitlines()] == [STATUS, STATUS]
    assert result.exit_code == 0


def test_watch_goes_on_when_the_host_is_away_and_says_so_once(call, host, monkeypatch):
    host.answer("GET", "/api/status", STATUS)
    looks = []

    def sleep(_):
        looks.append(1)
        if len(looks) == 5:
            raise KeyboardInterrupt
        away = 2 <= len(looks) <= 3
        host.answer("GET", "/api/status", {"error": "restarting"} if away else STATUS, 503 if away else 200)

    monkeypatch.setattr("musicsyncd.cli.status.time.sleep", sleep)
    result = call("status", "--watch")
    assert result.exit_code == 0
    assert result.stderr == "musicsyncd: restarting\n"
    assert len(result.stdout.splitlines()) == 1 + 3 * len(STATUS["peers"])


def test_watch_without_a_host_is_an_error(call, host):
    host.answer("GET", "/api/status", {"error": "no"}, 503)
    assert call("status", "--watch").exit_code == 1


def watching(folder, accounts=()):
    from musicsyncd.config import NetworkConfig
    from musicsyncd.paths import Paths
    from musicsyncd.system.control_client import ControlClient

    client = ControlClient(NetworkConfig(), Paths.find({}, state_dir=folder), local_only=True, other_sockets=())
    return Watch(client, lambda: list(accounts), lambda: None)


def test_live_view_on_a_terminal_shows_the_last_state_and_the_fault(host, folder):
    host.answer("GET", "/api/status", STATUS)
    watch = watching(folder)
    seen = plain(watch.look()).splitlines()
    assert [line for line in seen if "5 min, at most" not in line] == view(STATUS)
    host.answer("GET", "/api/status", {"error": "restarting"}, 503)
    assert plain(watch.look()).splitlines() == [*seen, "", "! restarting"]


@pytest.mark.parametrize("styled", ["[bold]x", "\\[red]", "[/]"])
def test_a_title_that_looks_like_markup_stays_as_it_is(styled, capsys):
    from musicsyncd.cli.output import Line
    from musicsyncd.cli.terminal import show

    show([Line.of(styled)])
    assert capsys.readouterr().out == styled + "\n"


def test_the_peers(call, host):
    host.answer(
        "GET", "/api/status", {**STATUS, "peers": [*STATUS["peers"], peer("never", reach="away", seen_s_ago=None)]}
    )
    lines = call("peers").stdout.splitlines()
    assert lines[0].split() == [
        "SPEAKER",
        "ROOM",
        "VOLUME",
        "DELAY",
        "CHANNELS",
        "OUTPUT",
        "ADDRESS",
        "VERSION",
        "SEEN",
    ]
    assert [line.split()[0] for line in lines[1:]] == ["sink", "never", "old-pi", "shelf-left", "window"]
    assert lines[3].endswith("2 h 2 min ago")
    assert lines[2].split()[-1] == "–"
    assert json.loads(call("peers", "--json").stdout)[0]["name"] == "shelf-left"


def test_the_delay_of_a_peer_has_its_sign(call, host):
    host.answer(
        "GET", "/api/status", {**STATUS, "peers": [peer("a", output_delay_ms=-2.5), peer("b", output_delay_ms=35)]}
    )
    _, first, second = call("peers").stdout.splitlines()
    assert "-2.50 ms" in first
    assert "+35.0 ms" in second


def test_the_rooms(call, host):
    host.answer("GET", "/api/status", STATUS)
    lines = [line.split() for line in call("rooms").stdout.splitlines()]
    assert lines == [
        ["ROOM", "MODE", "SPEAKERS", "VOLUME", "QUEUE", "PLAYS"],
        ["main", "playing", "3", "(1", "away)", "80", "%", "12", "Teardrop"],
        ["kitchen", "stopped", "1", "muted", "0", "–"],
    ]
    assert json.loads(call("rooms", "--json").stdout) == [MAIN, KITCHEN]


def test_it_is_said_when_the_host_is_on_no_network():
    host = {**STATUS["host"], "interfaces": []}
    assert any("on no network" in line for line in view({**STATUS, "host": host}))
    host["interfaces"] = ["eth0"]
    assert not any("on no network" in line for line in view({**STATUS, "host": host}))


def test_it_is_said_when_only_arrivals_are_stamped():
    half = peer("half", clock=clock(stamps="receive"))
    assert any("half" in line for line in view({**STATUS, "peers": [half]})[-2:])


def remarks(others, **host):
    shown = view({**STATUS, "host": {**HOST, "others": others, **host}}, 200)
    return [line for line in shown if "host" in line and "host attic-pi" not in line]


def test_another_host_of_the_key_is_said_with_the_rooms_that_both_have():
    first = "a speaker keeps to the one it heard first"
    assert remarks(
        [another(), another("loft", "192.168.1.8", ("loft", "kitchen", "main")), another("x", rooms=())]
    ) == [
        f"another host of this key, “den” (192.168.1.9), has a room “main”, too: {first}",
        f"another host of this key, “loft” (192.168.1.8), has rooms “kitchen”, “main”, too: {first}",
        f"another host of this key, “x” (192.168.1.9), is here: {first}",
    ]
    assert remarks([another()], open=True)[-1].startswith("another host without a key, “den”")


def test_a_room_that_both_have_is_told_by_its_name_as_it_is_shown():
    status = {"host": {"others": [another(rooms=["a\x07b"])]}, "rooms": [{"name": "a\x07b"}]}
    assert any("has a room “a�b”, too" in line for line in view(status, 200))


def test_hosts_with_other_keys_are_said_in_one_line():
    strangers = [another("", f"192.168.1.{n}", (), has_our_key=False) for n in range(6)]
    assert remarks(strangers[:1]) == ["a host with another key is on this LAN (192.168.1.0): its speakers are not ours"]
    assert remarks(strangers) == [
        "hosts with other keys are on this LAN (192.168.1.0, 192.168.1.1, 192.168.1.2, 192.168.1.3 (and 2 more)): "
        "their speakers are not ours"
    ]


@pytest.mark.parametrize("others", [None, "x", [], [1], [None]])
def test_no_other_host_is_nothing_to_say(others):
    assert remarks(others) == []


def test_what_another_host_calls_itself_does_not_command_the_terminal():
    (line,) = remarks([another("\x1b[31mred", "\x07", ("main", "\x1b", 7))])
    assert line.isprintable()
    assert remarks([{"has_our_key": True}]) == remarks([{"has_our_key": True, "rooms": "main", "name": None}])
