"""Targets that read files of people: playlists, tags, headers, pages of Ogg, frames of MP3."""

from __future__ import annotations

import io
import math
import os
import struct
from functools import cache
from pathlib import Path

import numpy as np
import soundfile
from tagged import GIF, JPEG, PNG, WEBP, flac, id3, m4a, own_frame, picture, text_frame

from musicsyncd.errors import MediaError
from musicsyncd.media.inspect import MAX_TAG_CHARS, inspect
from musicsyncd.media.mpeg import sound_stretches
from musicsyncd.media.ogg import read_pages
from musicsyncd.media.playlist import MAX_ENTRIES, read_playlist
from musicsyncd.media.tags import MAX_DURATION_S, as_cover, read_cover, read_tags
from musicsyncd.playback.timeline import MAX_FRAMES

from .folder import FOLDER, made, one_line

_KINDS = (".m3u", ".m3u8", ".pls", ".xspf")
_SUFFIXES = (".mp3", ".flac", ".ogg", ".opus", ".m4a", ".wav", ".wma", ".aiff", ".ape", ".mka", "")
_MUSIC = FOLDER / "music"


def playlist(data: bytes) -> None:
    """The first byte says which kind."""
    for name in ("one.flac", "zwei ö.flac", "sub/three.wav"):
        if not (_MUSIC / name).exists():
            made(f"music/{name}", b"sound")
    file = made(f"music/list{_KINDS[data[0] % len(_KINDS)] if data else '.m3u'}", data[1:])
    try:
        found = read_playlist(file, [str(_MUSIC)])
    except MediaError as error:
        one_line(error)
        return
    assert len(found.paths) <= MAX_ENTRIES
    for path in found.paths:
        assert Path(os.path.realpath(path)).is_relative_to(os.path.realpath(_MUSIC)), f"{path!r} is not in the library"
    for line in found.refused:
        assert line.isprintable(), f"{line!r} cannot be printed"


def tags(data: bytes) -> None:
    """The first byte says what the file is called."""
    file = _named(data)
    try:
        read = read_tags(file)
    except MediaError as error:
        one_line(error)
    else:
        for text in (read.title, read.artist, read.album, read.album_artist, read.genre):
            assert text.isprintable(), f"{text!r} cannot be printed"
            assert len(text) <= MAX_TAG_CHARS
            text.encode("utf-8")
        assert 0 <= read.duration_s <= MAX_DURATION_S or read.duration_s <= MAX_FRAMES / 1000
        assert math.isfinite(read.duration_s)
        assert read.rate_hz > 0
    try:
        cover = read_cover(file)
    except MediaError as error:
        one_line(error)
    else:
        assert cover is None or as_cover(cover.data) == cover


def header(data: bytes) -> None:
    """What libsndfile or libav says of a file."""
    try:
        info = inspect(_named(data))
    except MediaError as error:
        one_line(error)
        return
    assert 0 < info.frames <= MAX_FRAMES
    for text in (info.title, info.artist, info.album):
        assert text.isprintable(), f"{text!r} cannot be printed"


def ogg(data: bytes) -> None:
    found = read_pages(io.BytesIO(data))
    at = found.header_end if found.runs else 0
    for run in found.runs:
        assert at <= run.start < run.end <= len(data), f"{run} of {len(data)} bytes, behind {at}"
        at = run.end
        assert found.frame_at(run.end_granule, 44_100) >= -1


def mpeg(data: bytes) -> None:
    start = min(data[0], len(data) - 1) if data else 0
    at = start
    for first, end in sound_stretches(io.BytesIO(data), start):
        assert at <= first < end <= len(data), f"{first} to {end} of {len(data)} bytes, behind {at}"
        at = end + 1 if end > first else end


def playlist_seeds() -> list[bytes]:
    xspf = (
        '<?xml version="1.0" encoding="UTF-8"?><playlist version="1" xmlns="http://xspf.org/ns/0/"><trackList>'
        "<track><location>one.flac</location></track><track><location>zwei%20%C3%B6.flac</location></track>"
        f"<track><location>file://{_MUSIC}/sub/three.wav</location></track></trackList></playlist>"
    )
    m3u = (
        "#EXTM3U\n#EXTINF:3,One\none.flac\nzwei ö.flac\r\nsub\\three.wav\n../../etc/passwd\nhttp://x/y.mp3\nlist.pls\n"
    )
    pls = "[playlist]\nFile1=one.flac\nTitle1=One\nFile2=sub/three.wav\nNumberOfEntries=2\nVersion=2\n"
    entity = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><playlist>&b;</playlist>'
    return [
        b"\0" + m3u.encode(), b"\1\xef\xbb\xbf" + m3u.encode("cp1252"), b"\2" + pls.encode(), b"\3" + xspf.encode(),
        b"\3" + entity.encode(), b"\3" + xspf.encode("utf-16"), b"\3" + xspf.replace("UTF-8", "T").encode(),
    ]  # fmt: skip


@cache
def sounds() -> dict[str, bytes]:
    """A few milliseconds of sound in every format that libsndfile writes here."""
    noise = np.random.default_rng(1).uniform(-0.5, 0.5, (400, 1))
    made_of = {}
    formats = (("WAV", "PCM_16"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("AIFF", "PCM_16"))
    for kind, subtype in (*formats, ("MP3", "MPEG_LAYER_III")):
        if subtype in soundfile.available_subtypes(kind):
            file = io.BytesIO()
            soundfile.write(file, noise, 48_000, format=kind, subtype=subtype)
            made_of[f".{subtype.lower() if subtype == 'OPUS' else kind.lower()}"] = file.getvalue()
    return made_of


def tag_seeds() -> list[bytes]:
    texts = ("TITLE=One", "ARTIST=Two", "ALBUM=Three", "TRACKNUMBER=4", "REPLAYGAIN_TRACK_GAIN=-6.5 dB", "DATE=1999")
    frames = (text_frame(b"TIT2", "One"), text_frame(b"TRCK", "4/9"), own_frame("replaygain_track_peak", "0.9"))
    whole = {
        ".flac": flac(*texts, pictures=[picture(PNG), picture(JPEG, 4)]),
        ".m4a": m4a(title="One", artist="Two", REPLAYGAIN_ALBUM_GAIN="+1"),
        ".mp3": id3(*frames) + sounds().get(".mp3", b""),
    }
    listed = [(name, data) for name, data in (*whole.items(), *sounds().items())]
    listed += [(".mp3", id3(text_frame(b"APIC", f"image/png\0\3\0{image!r}"))) for image in (GIF, WEBP)]
    return [bytes([_SUFFIXES.index(name) if name in _SUFFIXES else 10]) + data for name, data in listed]


def ogg_seeds() -> list[bytes]:
    return [data for name, data in sounds().items() if name in (".ogg", ".opus")] + [b"OggS" * 300]


def mpeg_seeds() -> list[bytes]:
    frame = b"\xff\xfb\x10\x00" + bytes(100)
    return [b"\0" + frame * 6, b"\5" + bytes(5) + frame * 3 + bytes(50) + frame * 2, b"\0" + b"\xff" * 2000] + [
        b"\0" + data for name, data in sounds().items() if name == ".mp3"
    ]


def wave_seeds() -> list[bytes]:
    """As :func:`tag_seeds`, and headers that say more than there is."""
    endless = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 2**32 - 1, b"WAVE", b"fmt ", 16, 1, 1, 8000, 16000, 2, 16,
                          b"data", 2**32 - 1)  # fmt: skip
    return [*tag_seeds(), bytes([_SUFFIXES.index(".wav")]) + endless + bytes(100)]


def _named(data: bytes) -> Path:
    return made(f"tags/file{_SUFFIXES[data[0] % len(_SUFFIXES)] if data else ''}", data[1:])
