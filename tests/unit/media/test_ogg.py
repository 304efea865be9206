from __future__ import annotations

import io
import os
import struct

import numpy as np
import pytest
import soundfile
from media_files import RATE_HZ, bursts

from musicsyncd.errors import MediaError
from musicsyncd.media import convert as convert_module
from musicsyncd.media.convert import convert, must_convert
from musicsyncd.media.inspect import inspect
from musicsyncd.media.ogg import length, read_pages
from musicsyncd.media.sources import is_whole_ogg

FRAMES = 20 * 48_000
KINDS = {"VORBIS": 44_100, "OPUS": 48_000}


@pytest.fixture(scope="module")
def oggs(tmp_path_factory):
    folder, made = tmp_path_factory.mktemp("ogg"), {}
    for kind, rate_hz in KINDS.items():
        made[kind] = folder / f"{kind}.ogg"
        samples = bursts(FRAMES, rate_hz=rate_hz)
        with soundfile.SoundFile(made[kind], "w", rate_hz, 2, kind, format="OGG") as file:
            for first in range(0, FRAMES, RATE_HZ):
                file.write(samples[first : first + RATE_HZ])
    return made


def offsets(data: bytes) -> list[int]:
    """Where the pages of an undamaged file begin, by their lengths."""
    found, at = [], 0
    while at < len(data):
        found.append(at)
        count = data[at + 26]
        at += 27 + count + sum(data[at + 27 : at + 27 + count])
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_file_is_one_run(oggs, kind):
    data = oggs[kind].read_bytes()
    pages = read_pages(io.BytesIO(data))
    assert pages.whole
    assert pages.codec == kind.lower()
    assert pages.header_end == offsets(data)[2]
    (run,) = pages.runs
    assert (run.start, run.end) == (pages.header_end, len(data))
    assert run.end_granule - pages.pre_skip == FRAMES
    assert (pages.pre_skip > 0) == (kind == "OPUS")


def test_one_wrong_bit_anywhere_is_seen(oggs):
    data = oggs["OPUS"].read_bytes()
    rng = np.random.default_rng(1)
    for at in [*rng.integers(0, len(data), 40).tolist(), 0, 26, len(data) - 1]:
        damaged = bytearray(data)
        damaged[at] ^= 1 << int(rng.integers(8))
        assert not read_pages(io.BytesIO(bytes(damaged))).whole, f"at byte {at}"


@pytest.mark.parametrize(
    "change",
    [
        lambda data, pages: data[: pages[4]] + data[pages[5] :],
        lambda data, pages: data[: pages[4]] + b"rubbish" + data[pages[4] :],
        lambda data, pages: data[: pages[-1] + 40],
        lambda data, _: data + b"TAG" + bytes(125),
        lambda data, _: data + data,
        lambda data, _: b"x" + data,
    ],
    ids=["a page lost", "rubbish between", "cut off", "a tag behind", "two in a row", "rubbish before"],
)
def test_what_is_not_whole(oggs, change):
    data = oggs["VORBIS"].read_bytes()
    pages = read_pages(io.BytesIO(change(data, offsets(data))))
    assert not pages.whole
    assert pages.runs


@pytest.mark.parametrize("kind", KINDS)
def test_the_length_is_told_by_the_first_and_the_last_page(oggs, kind):
    data = oggs[kind].read_bytes()
    pages = offsets(data)
    assert length(io.BytesIO(data)) == (KINDS[kind], FRAMES / KINDS[kind])
    cut = length(io.BytesIO(data[: pages[-1] + 20]))
    (granule,) = struct.unpack_from("<q", data, pages[-2] + 6)
    assert cut == (KINDS[kind], (granule - read_pages(io.BytesIO(data)).pre_skip) / KINDS[kind])
    for odd in ({4: 1}, {14: data[14] ^ 1}, {6: 255} | dict.fromkeys(range(7, 14), 255)):
        last = bytearray(data[pages[-1] :])
        for at, byte in odd.items():
            last[at] = byte
        assert length(io.BytesIO(data[: pages[-1]] + bytes(last))) == cut, "another version, another stream, no end"
    assert length(io.BytesIO(data[: pages[1]])) is None, "there is no sound yet"


@pytest.mark.parametrize("packet", [b"\x01vorbis" + b"\1" * 8, b"\x01vorbis" + bytes(40), b"OpusHead\1\2", b"\x7fFLAC"])
def test_a_header_that_is_short_odd_or_of_another_codec_tells_no_length(packet):
    page = b"OggS\0\2" + bytes(20) + bytes([1, len(packet)]) + packet
    end = b"OggS\0\4" + (48_000).to_bytes(8, "little") + bytes(13)
    assert length(io.BytesIO(page + end)) is None


def test_what_is_no_ogg_has_no_pages():
    for data in (b"", b"OggS", b"no music" * 100_000, b"OggS" * 100_000):
        pages = read_pages(io.BytesIO(data))
        assert not pages.whole
        assert pages.runs == ()
        assert pages.codec == ""
        assert length(io.BytesIO(data)) is None


def test_the_pages_of_a_file_are_looked_through_again_only_when_it_has_changed(oggs, tmp_path, monkeypatch):
    asked: list[str] = []
    monkeypatch.setattr(convert_module, "is_whole_ogg", lambda path: (asked.append(path.name), is_whole_ogg(path))[1])
    path = tmp_path / "x.opus"
    path.write_bytes(oggs["OPUS"].read_bytes())
    assert [must_convert(inspect(path)) for _ in range(3)] == [False] * 3
    assert len(asked) == 1
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(5, 5))
    assert [must_convert(inspect(path)) for _ in range(2)] == [True] * 2
    assert len(asked) == 2
    path.write_bytes(data + bytes(5))
    os.utime(path, ns=(5, 5))
    assert must_convert(inspect(path))
    assert len(asked) == 3
    gone = inspect(path)
    os.utime(path, ns=(6, 6))
    info = inspect(path)
    path.unlink()
    assert must_convert(gone), "as it was then"
    for _ in range(2):
        with pytest.raises(MediaError, match="cannot be read"):
            must_convert(info)


def flac_of(path, tmp_path) -> tuple[np.ndarray, list[str]]:
    with (tmp_path / "out.flac").open("w+b") as file:
        faults = convert(inspect(path), file, lambda _done, _all: None)
    return soundfile.read(tmp_path / "out.flac", dtype="float32")[0], faults


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("hurt", ["overwritten", "cut out", "page lost"])
def test_what_is_behind_damage_stays_where_it_was(oggs, tmp_path, kind, hurt):
    data, rate_hz = oggs[kind].read_bytes(), KINDS[kind]
    pages = offsets(data)
    page = len(pages) // 2
    if hurt == "overwritten":
        damaged = data[: pages[page] + 100] + b"\xff" * 300 + data[pages[page] + 400 :]
    elif hurt == "cut out":
        damaged = data[: pages[page] + 100] + data[pages[page] + 400 :]
    else:
        damaged = data[: pages[page]] + data[pages[page + 1] :]
    path = tmp_path / "hurt.ogg"
    path.write_bytes(damaged)
    assert must_convert(inspect(path))
    samples, faults = flac_of(path, tmp_path)
    reference = soundfile.read(oggs[kind], dtype="float32")[0]
    assert len(samples) == len(reference) == FRAMES
    right = (np.abs(samples - reference) < 1e-4).all(axis=1)
    (first_granule,) = struct.unpack_from("<q", data, pages[page - 1] + 6)
    (last_granule,) = struct.unpack_from("<q", data, pages[page] + 6)
    # A decoder needs some packets before it has all of the sound again: 0.2 s of Opus, two blocks of Vorbis.
    assert right[: first_granule - 4096].all()
    # libsndfile counts a run of Opus without its pre-skip, so the last 6.5 ms of it are missing.
    pre_skip = read_pages(io.BytesIO(data)).pre_skip
    assert right[last_granule + rate_hz // 4 : FRAMES - pre_skip].all()
    assert not right.all()
    assert len(faults) == 1
    assert "are lost at" in faults[0]


def test_of_many_holes_each_is_said_and_none_moves_anything(oggs, tmp_path):
    data = bytearray(oggs["VORBIS"].read_bytes())
    pages = offsets(bytes(data))
    hurt = [number for number in range(20, len(pages) - 5, 12)]
    for number in hurt:
        data[pages[number] + 60] ^= 0xFF
    path = tmp_path / "hurt.ogg"
    path.write_bytes(data)
    samples, faults = flac_of(path, tmp_path)
    reference = soundfile.read(oggs["VORBIS"], dtype="float32")[0]
    assert len(samples) == FRAMES
    assert len(faults) == len(hurt)
    right = (np.abs(samples - reference) < 1e-4).all(axis=1)
    assert right.mean() > 1 - 2.5 / 12
    assert right[-20_000:].all()


def test_a_file_that_was_cut_off_keeps_its_length_as_far_as_it_is_told(oggs, tmp_path):
    data = oggs["VORBIS"].read_bytes()
    path = tmp_path / "cut.ogg"
    path.write_bytes(data[: len(data) // 2])
    samples, _ = flac_of(path, tmp_path)
    reference = soundfile.read(oggs["VORBIS"], dtype="float32")[0]
    assert FRAMES * 0.4 < len(samples) < FRAMES * 0.6
    assert np.abs(samples - reference[: len(samples)]).max() < 1e-4


@pytest.mark.parametrize(("first", "second"), [("VORBIS", "OPUS"), ("OPUS", "VORBIS")])
def test_of_two_recordings_in_a_row_the_first_is_played_and_that_is_said(oggs, tmp_path, first, second):
    path = tmp_path / "chained.ogg"
    path.write_bytes(oggs[first].read_bytes() + oggs[second].read_bytes())
    assert must_convert(inspect(path))
    samples, faults = flac_of(path, tmp_path)
    assert faults == ["it holds more than one recording: only the first is played"]
    reference = soundfile.read(oggs[first], dtype="float32")[0]
    assert len(samples) == FRAMES
    assert np.abs(samples - reference).max() < 1e-4
