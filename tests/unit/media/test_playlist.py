"""Playlists of all four kinds, and what in them is not played."""

from __future__ import annotations

import os

import pytest
from tagged import put

from musicsyncd.errors import MediaError
from musicsyncd.media import playlist as module
from musicsyncd.media.playlist import read_playlist


@pytest.fixture
def music(tmp_path):
    for name in ("a.flac", "b c.flac", "sub/ü.flac"):
        put(tmp_path / "music" / name, b"x")
    put(tmp_path / "secret.flac", b"x")
    return tmp_path / "music"


def read(music, name: str, text: str | bytes):
    """Return the names of what a playlist in the library plays, and its lines."""
    file = put(music / name, text if isinstance(text, bytes) else text.encode())
    found = read_playlist(file, [str(music)])
    return [os.path.relpath(path, music) for path in found.paths], list(found.refused)


XSPF = '<?xml version="1.0"?><playlist version="1" xmlns="http://xspf.org/ns/0/"><trackList>{}</trackList></playlist>'


def xspf(*locations: str) -> str:
    return XSPF.format("".join(f"<track><location>{one}</location></track>" for one in locations))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("x.m3u", "#EXTM3U\r\n#EXTINF:3,A\r\na.flac\r\n\r\nb c.flac\r\nsub/ü.flac\r\n"),
        ("x.M3U8", "\ufeffa.flac\n./b c.flac\nsub/../sub/ü.flac"),
        ("x.m3u", "a.flac\nb c.flac\nsub\\ü.flac".encode("cp1252")),
        ("x.pls", "[playlist]\nFile10=sub/ü.flac\nfile2=b c.flac\nTitle1=A\nFile1=a.flac\nNumberOfEntries=3\n"),
        ("x.xspf", xspf("a.flac", "b%20c.flac", "sub/%C3%BC.flac")),
    ],
)
def test_the_files_of_a_playlist_in_its_order(music, name, text):
    assert read(music, name, text) == (["a.flac", "b c.flac", "sub/ü.flac"], [])


def test_whole_paths_and_file_addresses(music):
    text = f"{music}/a.flac\nfile://{music}/b%20c.flac\nfile://localhost{music}/sub/%C3%BC.flac\n"
    assert read(music, "x.m3u", text) == (["a.flac", "b c.flac", "sub/ü.flac"], [])
    assert read(music, "x.xspf", xspf(f"file://{music}/a.flac")) == (["a.flac"], [])


def test_names_that_are_no_utf8(music):
    with open(os.path.join(os.fsencode(music), b"\xe9\xff.flac"), "wb") as file:
        file.write(b"x")
    assert read(music, "x.m3u", b"\xe9\xff.flac")[0] == ["\udce9\udcff.flac"]


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ("http://radio.example/live.mp3", "it is an address"),
        ("HTTPS://x/y.flac", "it is an address"),
        ("smb://server/x.flac", "it is an address"),
        ("file://server/x.flac", "it is on another machine"),
        ("../secret.flac", "outside of the library"),
        ("sub/../../secret.flac", "outside of the library"),
        ("{secret}", "outside of the library"),
        ("file://{secret}", "outside of the library"),
        ("none.flac", "no such file"),
        ("sub", "no such file"),
        ("C:\\Music\\x.flac", "no such file"),
        ("x.m3u", "a playlist itself"),
        ("a\0b.flac", "cannot be the name"),
    ],
)
def test_what_is_no_file_of_the_library_is_left_out_with_a_line(music, entry, why):
    entry = entry.format(secret=music.parent / "secret.flac")
    paths, refused = read(music, "x.m3u", f"{entry}\na.flac\n")
    assert paths == ["a.flac"]
    assert len(refused) == 1
    assert why in refused[0]
    assert "\n" not in refused[0]


def test_links_are_taken_as_the_library_itself_takes_them(music, tmp_path):
    put(tmp_path / "disk" / "d.flac", b"x")
    (music / "disk").symlink_to(tmp_path / "disk")
    (tmp_path / "door").symlink_to(music)
    assert read(music, "x.m3u", "disk/d.flac")[0] == ["disk/d.flac"]
    # Reached from elsewhere, and still in the library.
    outside = put(tmp_path / "y.m3u", b"door/a.flac\ndisk/d.flac\n")
    found = read_playlist(outside, [str(music)])
    assert found.paths == (f"{tmp_path}/door/a.flac",)
    assert len(found.refused) == 1


@pytest.mark.parametrize(
    "text",
    [
        '<!DOCTYPE p [<!ENTITY x "a.flac">]>' + xspf("&x;"),
        '<!DOCTYPE p [<!ENTITY x SYSTEM "file:///etc/passwd">]>' + xspf("&x;"),
        "<!DOCTYPE p [<!ENTITY a 'aaaaaaaaaa'><!ENTITY b '&a;&a;&a;&a;'>]>" + xspf("&b;"),
        "<playlist><trackList>",
        "no xml",
        "",
    ],
)
def test_xml_with_declarations_or_none_at_all_is_refused(music, text):
    with pytest.raises(MediaError) as refused:
        read(music, "x.xspf", text.replace('<?xml version="1.0"?>', ""))
    assert "\n" not in str(refused.value)


def test_a_tracks_other_locations_are_no_further_tracks(music):
    text = XSPF.format("<track><location>a.flac</location><location>b%20c.flac</location></track>")
    assert read(music, "x.xspf", text)[0] == ["a.flac"]


def test_what_is_no_playlist(music, monkeypatch):
    for name, text, said in (("x.txt", "", "is no playlist"), ("x.pls", "File1=a.flac", r"\[playlist\]")):
        with pytest.raises(MediaError, match=said):
            read(music, name, text)
    with pytest.raises(MediaError, match="there is no playlist"):
        read_playlist(music / "none.m3u", [str(music)])
    os.mkfifo(music / "pipe.m3u")
    with pytest.raises(MediaError, match="there is no playlist"):
        read_playlist(music / "pipe.m3u", [str(music)])
    monkeypatch.setattr(module, "MAX_PLAYLIST_BYTES", 5)
    with pytest.raises(MediaError, match="too large"):
        read(music, "x.m3u", "a.flac")


def test_a_playlist_has_a_largest_number_of_entries(music, monkeypatch):
    monkeypatch.setattr(module, "MAX_ENTRIES", 2)
    assert read(music, "x.m3u", "a.flac\n" * 3) == (["a.flac"] * 2, ["what follows the first 2 entries"])
