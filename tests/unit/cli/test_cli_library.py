"""What ``search`` and ``library`` ask for and print."""

import json

FOUND = {
    "tracks": [
        {"id": "library:7", "title": "So \x1b[31mWhat", "artist": "Miles", "album": "Kind of Blue", "year": 1959,
         "duration_s": 562.0},
        {"id": "library:12", "title": "Carey", "artist": "", "album": "", "year": 0, "duration_s": 0.0},
    ]
}  # fmt: skip


def test_search_as_a_table_and_for_programs(call, host):
    host.answer("GET", "/api/library/search?words=miles+blu%26&limit=50", FOUND)
    assert call("search", "miles", "blu&").stdout.splitlines() == [
        "TRACK       TITLE         ARTIST  ALBUM         YEAR  LENGTH",
        "library:7   So �[31mWhat  Miles   Kind of Blue  1959    9:22",
        "library:12  Carey                                       0:00",
    ]
    assert json.loads(call("search", "miles", "blu&", "--json").stdout) == FOUND


def test_a_search_that_is_cut_says_so_and_an_empty_one_too(call, host):
    host.answer("GET", "/api/library/search?words=x&limit=2", FOUND)
    assert "the first 2" in call("search", "x", "--limit", "2").stdout
    host.answer("GET", "/api/library/search?words=x&limit=50", {"tracks": []})
    assert call("search", "x").stdout == "nothing found\n"


LIBRARY = {
    "folders": ["/music", "/m\nore"],
    "faults": ["/more cannot be read: Permission denied"],
    "tracks": 1234, "albums": 1, "artists": 12, "duration_s": 7300.0,
    "scan": {"doing": "waiting", "looked_s_ago": 12.3},
    "refused": ["/music/x.flac is empty"], "refused_count": 25,
}  # fmt: skip


def test_the_library(call, host):
    host.answer("GET", "/api/library", LIBRARY)
    assert call("library").stdout.splitlines() == [
        "/music",
        "/m�ore",
        "  1234 tracks, 1 album, 12 artists, 2 h 1 min of music",
        "  up to date, looked at 12 s ago",
        "  /more cannot be read: Permission denied",
        "  25 files refused:",
        "    /music/x.flac is empty",
        "    and 5 more: --json has them",
    ]
    assert json.loads(call("library", "--json").stdout) == LIBRARY


def test_the_library_while_it_is_looked_through(call, host):
    scan = {"doing": "reading", "done": 500, "total": 2000, "files_per_s": 250.4, "left_s": 6.0, "looked_s_ago": None}
    host.answer("GET", "/api/library", LIBRARY | {"scan": scan})
    assert "  reading: 500 of 2,000 files, 250 files/s, 6 s left" in call("library").stdout.splitlines()
    host.answer("GET", "/api/library", LIBRARY | {"scan": {"doing": "looking", "looked_s_ago": None}})
    assert "  looking through the folders" in call("library").stdout.splitlines()
