"""Every command sends what it should, and prints what the host says."""

import json
import os
import time

import pytest


@pytest.mark.parametrize(
    ("args", "method", "path", "body"),
    [
        (("play",), "POST", "/api/rooms/-/play", {"tracks": []}),
        (("pause",), "POST", "/api/rooms/-/pause", {}),
        (("resume",), "POST", "/api/rooms/-/resume", {}),
        (("stop", "--room", "kitchen"), "POST", "/api/rooms/kitchen/stop", {}),
        (("next",), "POST", "/api/rooms/-/next", {}),
        (("previous",), "POST", "/api/rooms/-/previous", {}),
        (("seek", "1:30"), "POST", "/api/rooms/-/seek", {"to": "1:30"}),
        (("seek", "-10"), "POST", "/api/rooms/-/seek", {"to": "-10"}),
        (("seek", "--room", "a/b ?", "+10"), "POST", "/api/rooms/a%2Fb%20%3F/seek", {"to": "+10"}),
        (("volume", "40"), "POST", "/api/rooms/-/volume", {"volume": "40"}),
        (("volume", "-5"), "POST", "/api/rooms/-/volume", {"volume": "-5"}),
        (("volume", "kitchen", "+5%"), "POST", "/api/peers/kitchen/volume", {"volume": "+5"}),
        (("volume", "40", "30"), "POST", "/api/peers/40/volume", {"volume": "30"}),
        (("mute",), "POST", "/api/rooms/-/mute", {"muted": True}),
        (("mute", "kitchen"), "POST", "/api/peers/kitchen/mute", {"muted": True}),
        (("mute", "kitchen", "--off"), "POST", "/api/peers/kitchen/mute", {"muted": False}),
        (("unmute", "--room", "r"), "POST", "/api/rooms/r/mute", {"muted": False}),
        (("delay", "kitchen", "35"), "POST", "/api/peers/kitchen/delay", {"output_delay_ms": 35.0}),
        (("delay", "kitchen", "-2.5"), "POST", "/api/peers/kitchen/delay", {"output_delay_ms": -2.5}),
        (("channels", "kitchen", "left"), "POST", "/api/peers/kitchen/channels", {"channels": "left"}),
        (("queue", "remove", "3", "4"), "POST", "/api/rooms/-/queue/remove", {"positions": [3, 4]}),
        (("queue", "move", "7", "2"), "POST", "/api/rooms/-/queue/move", {"from": 7, "to": 2}),
        (("queue", "clear", "--room", "x"), "POST", "/api/rooms/x/queue/clear", {}),
        (
            ("queue", "remove", "3", "--revision", "7"),
            *("POST", "/api/rooms/-/queue/remove", {"positions": [3], "revision": 7}),
        ),
        (
            ("queue", "move", "--revision", "0", "7", "2"),
            *("POST", "/api/rooms/-/queue/move", {"from": 7, "to": 2, "revision": 0}),
        ),
        (("queue", "clear", "--revision", "7"), "POST", "/api/rooms/-/queue/clear", {"revision": 7}),
        (("queue", "jump", "5"), "POST", "/api/rooms/-/queue/jump", {"position": 5}),
        (("queue", "jump", "5", "--revision", "7"), "POST", "/api/rooms/-/queue/jump", {"position": 5, "revision": 7}),
        (("queue", "jump", "5", "gold", "rings"), "POST", "/api/rooms/-/queue/jump", {"words": "5 gold rings"}),
        (("queue", "undo"), "POST", "/api/rooms/-/queue/undo", {}),
        (("shuffle", "on"), "POST", "/api/rooms/-/shuffle", {"on": True}),
        (("shuffle", "off", "--room", "x"), "POST", "/api/rooms/x/shuffle", {"on": False}),
        (("repeat", "one"), "POST", "/api/rooms/-/repeat", {"repeat": "one"}),
        (("crossfade", "2.5"), "POST", "/api/rooms/-/crossfade", {"seconds": 2.5}),
        (("rooms", "make", "kitchen"), "POST", "/api/rooms", {"name": "kitchen"}),
        (("rooms", "remove", "kitchen"), "DELETE", "/api/rooms/kitchen", None),
        (("rooms", "move", "pi", "kitchen"), "POST", "/api/peers/pi/room", {"room": "kitchen"}),
        (("peers", "forget", "old pi"), "DELETE", "/api/peers/old%20pi", None),
    ],
)
def test_a_command_is_one_request_and_one_line(call, host, args, method, path, body):
    host.answer(method, path, {"message": "it is so"})
    result = call(*args)
    assert result.exit_code == 0, result.stderr
    assert host.requests == [(method, path, body)]
    assert result.stdout == "it is so\n"


def test_paths_are_made_absolute_for_a_host_on_this_machine(call, host, monkeypatch):
    monkeypatch.chdir(host.folder)
    call("play", "a.flac", "/b.flac", "~/c.flac")
    here = os.getcwd()
    assert host.requests[0][2] == {"tracks": [f"{here}/a.flac", "/b.flac", f"{host.folder}/c.flac"]}
    call("queue", "add", "--next", "a.flac")
    assert host.requests[1] == ("POST", "/api/rooms/-/queue/add", {"tracks": [f"{here}/a.flac"], "next": True})


@pytest.mark.parametrize(
    ("args", "body"),
    [
        (("--search", "miles blu"), {"search": "miles blu"}),
        (("--album", "Blue", "--artist", "Joni"), {"album": "Blue", "artist": "Joni"}),
        (("--artist", "Joni"), {"artist": "Joni"}),
        (("--folder", "Jazz/kob"), {"folder": "Jazz/kob"}),
        (("library:17",), {"tracks": ["library:17"]}),
    ],
)
def test_what_the_library_knows_is_sent_by_its_name(call, host, args, body):
    assert call("play", *args).exit_code == 0
    assert call("queue", "add", "--next", *args).exit_code == 0
    assert host.requests == [
        ("POST", "/api/rooms/-/play", {"tracks": [], **body}),
        ("POST", "/api/rooms/-/queue/add", {"tracks": [], **body, "next": True}),
    ]


def test_a_playlist_is_a_path_as_the_host_sees_it(call, host, monkeypatch):
    monkeypatch.chdir(host.folder)
    call("play", "--playlist", "x.m3u")
    assert host.requests[0][2] == {"tracks": [], "playlist": f"{os.getcwd()}/x.m3u"}
    call("play", "--playlist", "x.m3u", "--host", f"127.0.0.1:{host.port}", "--open")
    assert host.requests[1][2] == {"tracks": [], "playlist": "x.m3u"}


def test_paths_are_sent_as_given_to_a_host_elsewhere(call, host):
    call("play", "a.flac", "--host", f"127.0.0.1:{host.port}", "--open")
    assert host.requests[0][2] == {"tracks": ["a.flac"]}


@pytest.mark.parametrize(
    "args",
    [
        ("seek",),
        ("volume",),
        ("volume", "loud"),
        ("volume", "101"),
        ("volume", "٣"),
        ("volume", "a", "1", "2"),
        ("delay", "kitchen", "5001"),
        ("channels", "kitchen", "all"),
        ("queue", "remove", "0"),
        ("queue", "jump"),
        ("queue", "jump", "blue", "--revision", "3"),
        ("queue", "remove", "1", "--revision", "-1"),
        ("shuffle",),
        ("repeat", "twice"),
        ("crossfade", "12.5"),
        ("queue", "add"),
        ("queue", "add", "--search", ""),
        ("play", "a.flac", "--search", "x"),
        ("play", "--album", "x", "--folder", "y"),
        ("search",),
        ("search", "x", "--limit", "0"),
        ("pause", "--nonsense"),
        ("pause", "--port", "0"),
        ("nonsense",),
        ("queue", "nonsense"),
    ],
)
def test_a_wrong_call_is_2_and_asks_the_host_for_nothing(call, host, args):
    result = call(*args)
    assert result.exit_code == 2
    assert "Usage:" in result.stderr
    assert host.requests == []


def test_what_the_host_refuses_is_said_in_one_line(call, host):
    host.answer("POST", "/api/rooms/-/seek", {"error": "nothing plays"}, status=400)
    result = call("seek", "10")
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", "musicsyncd: nothing plays\n")


def test_a_refusal_cannot_command_the_terminal_and_stays_one_line(call, host):
    host.answer("POST", "/api/rooms/-/play", {"error": "no \x1b[2J\nfile"}, status=400)
    assert call("play").stderr == "musicsyncd: no �[2J file\n"


def test_what_the_host_says_cannot_command_the_terminal(call, host):
    host.answer("POST", "/api/rooms/-/next", {"message": "plays \x1b[2J"})
    assert "\x1b" not in call("next").stdout


QUEUE = {
    "entries": [
        {"position": 1, "title": "Angel", "artist": "Massive Attack", "duration_s": 379.0, "current": False},
        {"position": 2, "title": "\x1b[31mTear", "artist": "", "duration_s": 3723.0, "current": True, "fault": ""},
        {"position": 3, "title": "", "path": "/b.mp3", "artist": "", "duration_s": 0, "fault": "it is empty"},
    ]
}


def test_the_queue_as_a_table(call, host):
    host.answer("GET", "/api/rooms/-/queue", QUEUE)
    assert call("queue").stdout.splitlines() == [
        "     TITLE      ARTIST           LENGTH",
        "  1  Angel      Massive Attack     6:19",
        "▶ 2  �[31mTear                  1:02:03",
        "  3  /b.mp3                           –",
        "  └ it is empty",
        "3 tracks, 1:08:22",
    ]


def test_the_queue_for_programs_is_as_the_host_says(call, host):
    host.answer("GET", "/api/rooms/x/queue", QUEUE)
    assert json.loads(call("queue", "--room", "x", "--json").stdout) == QUEUE
    assert json.loads(call("queue", "list", "--room", "x", "--json").stdout) == QUEUE


def test_the_queue_says_how_it_plays_and_its_revision(call, host):
    host.answer("GET", "/api/rooms/-/queue", QUEUE | {"shuffled": True, "repeat": "all", "revision": 12})
    assert call("queue").stdout.splitlines()[-1] == "3 tracks, 1:08:22, shuffled, repeats all, revision 12"


def test_what_sounded_as_a_table_and_for_programs(call, host):
    assert call("queue", "history").stdout == "nothing has sounded yet\n"
    tear = {
        "began_s": 1_700_000_000.0,
        "title": "Te\x1bar",
        "artist": "Massive Attack",
        "path": "/a",
        "duration_s": 379,
    }
    answer = {"room": "main", "played": [
        tear,
        {"began_s": 1e300, "title": "", "artist": "", "path": "/b.mp3", "duration_s": 0},
    ]}  # fmt: skip
    host.answer("GET", "/api/rooms/-/queue/history", answer)
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(1_700_000_000))
    assert call("queue", "history").stdout.splitlines()[1:] == [
        f"{when}  Te�ar   Massive Attack    6:19",
        "–                 /b.mp3                       –",
    ]
    assert json.loads(call("queue", "history", "--json").stdout) == answer


def test_the_longest_crossfade_is_the_one_that_speakers_know():
    from musicsyncd.config import MAX_CROSSFADE_S
    from musicsyncd.playback.timeline import MAX_FADE_MS

    assert MAX_CROSSFADE_S * 1000 == MAX_FADE_MS


def test_an_empty_queue_says_how_to_fill_it(call, host):
    host.answer("GET", "/api/rooms/-/queue", {"entries": []})
    assert "queue add" in call("queue").stdout


def test_the_devices(call, monkeypatch):
    from types import SimpleNamespace

    import musicsyncd.system.audio as audio

    card = SimpleNamespace(
        name="USB DAC: Audio (hw:1,0)", stable_name="hw:DAC,0", channels=2, rate_hz=44100, is_default=True, api="ALSA"
    )
    monkeypatch.setattr(audio, "list_devices", lambda: [card])
    lines = call("devices").stdout.splitlines()
    assert lines[1].split()[:5] == ["*", "hw:DAC,0", "2", "44.1", "kHz"]
    assert json.loads(call("devices", "--json").stdout)[0]["stable_name"] == "hw:DAC,0"
    monkeypatch.setattr(audio, "list_devices", lambda: [])
    assert "--output null" in call("devices").stdout
    assert json.loads(call("devices", "--json").stdout) == []


def test_the_version(call):
    from musicsyncd import __version__

    assert call("--version").stdout == f"musicsyncd {__version__}\n"
    assert call("version").stdout.startswith(f"musicsyncd {__version__}\nPython ")
    assert json.loads(call("version", "--json").stdout)["musicsyncd"] == __version__
