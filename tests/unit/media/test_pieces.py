from __future__ import annotations

import io

import pytest

from musicsyncd.media.mpeg import sound_stretches
from musicsyncd.media.pieces import Pieces


def test_stretches_of_a_file_are_one_file():
    data = bytes(range(100))
    pieces = Pieces(io.BytesIO(data), [(0, 10), (50, 60), (70, 71)])
    assert pieces.seek(0, 2) == 21
    assert pieces.tell() == 21
    assert pieces.read(5) == b""
    pieces.seek(0)
    assert pieces.read() == data[:10] + data[50:60] + data[70:71]
    pieces.seek(8)
    assert pieces.read(4) == data[8:10] + data[50:52]
    assert pieces.seek(-3, 1) == 9
    assert pieces.readinto(bytearray(100)) == 12
    with pytest.raises(ValueError, match="no position -1"):
        pieces.seek(-22, 2)
    assert pieces.tell() == 21
    assert pieces.seek(5, 2) == 26
    assert pieces.read() == b""
    assert Pieces(io.BytesIO(data), []).read() == b""


def test_a_file_that_became_shorter_ends_early():
    pieces = Pieces(io.BytesIO(bytes(55)), [(0, 10), (50, 60)])
    assert len(pieces.read()) == 15


def test_frames_of_an_mp3_are_told_from_what_is_none(music):
    data = music["mp3"].read_bytes()
    (whole,) = sound_stretches(io.BytesIO(data), 0)
    assert whole == (0, len(data))
    frame = data[: len(data) // 2].rfind(data[:2])
    rubbish = b"\xff\xfb\x90\x00 no sound \xff" * 100
    stretches = sound_stretches(io.BytesIO(data[:frame] + rubbish + data[frame:]), 0)
    assert stretches[0][0] == 0
    assert stretches[-1][1] == len(data) + len(rubbish)
    kept = sum(end - start for start, end in stretches)
    assert len(data) - 3000 < kept <= len(data) + 500
    for nothing in (b"", b"\xff", b"\xff" * 5000, b"no music" * 1000, bytes(5_000_000)):
        assert sound_stretches(io.BytesIO(nothing), 0) == []
    assert sound_stretches(io.BytesIO(data[:-5]), 0)[-1][1] < len(data) - 5, "the last frame is cut off"
