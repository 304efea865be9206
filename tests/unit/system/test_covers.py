"""Covers of what plays and of the library's tracks."""

from __future__ import annotations

import struct
import zlib

import pytest
from host_rig import make_track
from http_rig import KEYED, run
from test_http_server import give_library

from musicsyncd.system import covers as module


def png(size: int = 1, pad: int = 0) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", size, size, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0\0")) + bytes(pad)


def test_the_cover_of_what_plays_is_shown_and_not_sent_twice(tmp_path):
    track = make_track(tmp_path / "album" / "1.wav")
    (tmp_path / "album" / "cover.png").write_bytes(png())

    async def test(client):
        url = "/api/rooms/main/cover"
        assert (await client.ask("GET", url))[0] == 404
        await client.ask("POST", "/api/rooms/main/queue/add", {"tracks": [str(track)]}, local=True)
        await client.ask("POST", "/api/rooms/main/play", {}, local=True)
        async with client.tcp.get(f"{url}?v=x", headers=KEYED) as response:
            assert (response.status, await response.read()) == (200, png())
            assert response.headers["Content-Type"] == "image/png"
            assert response.headers["Cache-Control"] == "private, no-cache"
            tag = response.headers["ETag"]
        async with client.tcp.get(url, headers=KEYED | {"If-None-Match": tag}) as response:
            assert (response.status, await response.read()) == (304, b"")
        assert (await client.ask("GET", url, headers={}))[0] == 401
        assert (await client.ask("GET", "/api/rooms/attic/cover"))[0] == 400

    run(test, tmp_path)


def test_the_tags_of_what_plays_are_shown(tmp_path):
    track = make_track(tmp_path / "album" / "1.wav")

    async def test(client):
        url = "/api/rooms/main/tags"
        assert (await client.ask("GET", url))[0] == 404
        await client.ask("POST", "/api/rooms/main/queue/add", {"tracks": [str(track)]}, local=True)
        await client.ask("POST", "/api/rooms/main/play", {}, local=True)
        nothing = {"artist": "", "album": "", "album_artist": "", "genre": "", "disc": 0, "track": 0, "year": 0}
        assert await client.ask("GET", url) == (200, {"title": "1"} | nothing)
        track.unlink()
        assert await client.ask("GET", url) == (200, {"title": "1"} | nothing)
        assert (await client.ask("GET", url, headers={}))[0] == 401
        assert (await client.ask("GET", "/api/rooms/attic/tags"))[0] == 400

    run(test, tmp_path)


def test_tracks_of_the_library_have_covers_by_their_number(tmp_path):
    async def test(client):
        url = "/api/library/tracks/{}/cover"
        assert (await client.ask("GET", url.format(1)))[0] == 400, "no library"
        give_library(client, tmp_path, "Day")
        assert await client.ask("GET", url.format(1)) == (404, {"error": "this track has no cover"})
        (tmp_path / "music" / "folder.jpg").write_bytes(b"\xff\xd8\xff\xe0" + bytes(100))
        client.server.site.covers._kept.clear()
        for number in ("1", "library:1"):
            status, data = await client.ask("GET", url.format(number))
            assert (status, data[:3]) == (200, b"\xff\xd8\xff")
        assert (await client.ask("GET", url.format(2)))[0] == 409
        for wrong in ("x", "1x", "-1", "..%2f1", "%2fetc%2fpasswd", "9" * 19):
            assert (await client.ask("GET", url.format(wrong)))[0] == 404, wrong
        client.host.control.library.close()

    run(test, tmp_path)


@pytest.mark.parametrize("data", [png(pad=module.MAX_COVER_BYTES), b"<svg onload=alert(1)>" * 9, b""])
def test_what_is_too_large_or_no_picture_is_no_cover(tmp_path, data):
    track = make_track(tmp_path / "album" / "1.wav")
    (tmp_path / "album" / "cover.png").write_bytes(data)

    async def test(client):
        await client.ask("POST", "/api/rooms/main/play", {"tracks": [str(track)]}, local=True)
        assert (await client.ask("GET", "/api/rooms/main/cover"))[0] == 404

    run(test, tmp_path)


def test_covers_are_kept_by_file_and_no_more_of_them_than_allowed(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MAX_KEPT", 2)
    looked: list[str] = []
    real = module._read
    monkeypatch.setattr(module, "_read", lambda path: (looked.append(path[-5:]), real(path))[1])
    tracks = [str(make_track(tmp_path / "album" / f"{n}.wav", seed=n)) for n in (1, 2, 3)]

    async def test(client):
        covers = client.server.site.covers
        for n in (1, 2, 1, 3, 1, 2):
            assert (await covers._find(tracks[n - 1])).cover is None
        assert looked == ["1.wav", "2.wav", "3.wav", "2.wav"]
        assert len(covers._kept) == 2
        make_track(tmp_path / "album" / "2.wav", seconds=1)
        await covers._find(tracks[1])
        assert looked[4:] == ["2.wav"], "it is another file"
        monkeypatch.setattr(module, "MAX_WAITING", 0)
        await client.ask("POST", "/api/rooms/main/play", {"tracks": tracks[:1]}, local=True)
        assert (await client.ask("GET", "/api/rooms/main/cover"))[0] == 503

    run(test, tmp_path)
