from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from media_files import FRAMES, RATE_HZ, sound, track_of

from musicsyncd.errors import MediaError
from musicsyncd.media import decoder as module
from musicsyncd.media.channels import fold_matrix
from musicsyncd.media.decoder import CHUNK_FRAMES, DecodeAhead, TrackBuffer, Want
from musicsyncd.media.store import Store
from musicsyncd.playback.timeline import Track

PATIENCE_S = 20.0


def until(true: Callable[[], object]) -> None:
    """Wait for the decoding thread; the time is only what a machine that hangs gets before the test fails."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline_s, "it never came"
        os.sched_yield()


class Files:
    """Opens the files of some tracks, and counts."""

    def __init__(self, *paths: Path) -> None:
        self.paths = {track_of(path).content_id: path for path in paths}
        self.opened: list[Path] = []

    def __call__(self, track: Track):
        path = self.paths[track.content_id]
        self.opened.append(path)
        return path.open("rb")


@pytest.fixture
def ahead():
    made: list[DecodeAhead] = []

    def make(opener, channels: int = 2) -> DecodeAhead:
        made.append(DecodeAhead(opener, channels))
        return made[-1]

    yield make
    for one in made:
        one.close()
        assert not one._thread.is_alive()


def frames_of(decoding: DecodeAhead, track: Track, first: int, count: int, channels: int = 2) -> np.ndarray:
    """Have frames decoded and return them."""
    decoding.want([Want(track, first, count)])
    out = np.full((count, channels), 9.0, np.float32)
    until(lambda: (b := decoding.buffer(track.content_id)) is not None and b.read(first, out) == 0)
    return out


# -- the buffer ------------------------------------------------------------------------------


def test_a_buffer_gives_silence_outside_the_track_and_counts_only_what_is_missing():
    track = Track(bytes(32), 1, RATE_HZ, 3 * CHUNK_FRAMES - 100, 2)
    buffer = TrackBuffer(track)
    buffer.chunks[1] = np.full((CHUNK_FRAMES, 2), 0.5, np.float32)
    out = np.full((4 * CHUNK_FRAMES, 2), 9.0, np.float32)
    missing = buffer.read(-50, out)
    assert missing == CHUNK_FRAMES + CHUNK_FRAMES - 100
    expected = np.zeros_like(out)
    expected[50 + CHUNK_FRAMES : 50 + 2 * CHUNK_FRAMES] = 0.5
    assert (out == expected).all()
    for first in (-(10**15), track.frames, 10**15):
        out[:] = 9.0
        assert buffer.read(first, out) == 0
        assert not out.any()
    assert buffer.ready(-1)
    assert buffer.ready(track.frames)
    assert buffer.ready(CHUNK_FRAMES)
    assert not buffer.ready(CHUNK_FRAMES - 1)


def test_a_want_names_the_chunks_that_hold_it():
    track = Track(bytes(32), 1, RATE_HZ, 10 * CHUNK_FRAMES, 2)
    assert Want(track, 0, 1).chunks == range(1)
    assert Want(track, CHUNK_FRAMES - 1, 2).chunks == range(2)
    assert Want(track, -500, 501).chunks == range(1)
    assert Want(track, 10 * CHUNK_FRAMES - 1, 99).chunks == range(9, 10)
    for start, frames in ((-500, 500), (10 * CHUNK_FRAMES, 5), (5, 0), (5, -1)):
        assert not Want(track, start, frames).chunks


# -- what comes out --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["wav", "flac", "ogg", "mp3"])
def test_frames_are_those_of_the_file_from_the_start_and_after_seeks(ahead, music, kind):
    path = music[kind]
    reference = soundfile.read(path, dtype="float32", always_2d=True)[0]
    track = track_of(path)
    whole = frames_of(ahead(Files(path)), track, 0, FRAMES)
    assert (whole == reference).all()
    # Vorbis overlaps blocks, and MP3 borrows bits from frames before: there a seek is right to the frame, and its
    # first samples to a rounding or so.
    tolerance = 0.0 if kind in ("wav", "flac") else 2e-3
    decoding = ahead(Files(path))
    for first in (3 * RATE_HZ + 77, 11, FRAMES - 5000, RATE_HZ):
        piece = frames_of(decoding, track, first, 5000)
        assert np.abs(piece - reference[first : first + 5000]).max() <= tolerance


@pytest.mark.parametrize(("recorded", "card"), [(1, 2), (2, 1), (6, 2), (2, 6)])
def test_channels_are_folded(ahead, tmp_path, recorded, card):
    path = tmp_path / "some.wav"
    soundfile.write(path, sound(9000, recorded), RATE_HZ, subtype="FLOAT")
    out = frames_of(ahead(Files(path), card), track_of(path), 0, 9000, card)
    assert np.allclose(out, sound(9000, recorded) @ fold_matrix(recorded, card), atol=1e-6)


def test_the_centre_of_a_vorbis_file_is_heard_on_both_sides(ahead, tmp_path):
    path = tmp_path / "centre.ogg"
    data = np.zeros((3 * CHUNK_FRAMES, 6), np.float32)
    data[:, 1] = sound(len(data), 1)[:, 0]  # In an Ogg file the second channel is the centre.
    soundfile.write(path, data, RATE_HZ, format="OGG", subtype="VORBIS")
    left, right = frames_of(ahead(Files(path)), track_of(path), 0, len(data)).T
    assert np.abs(left).max() > 0.05
    assert np.allclose(left, right, atol=1e-2)


def test_a_float_file_cannot_bring_in_what_is_no_number(ahead, tmp_path):
    data = sound(9000)
    data[100], data[200] = np.nan, np.inf
    path = tmp_path / "odd.wav"
    soundfile.write(path, data, RATE_HZ, subtype="FLOAT")
    out = frames_of(ahead(Files(path)), track_of(path), 0, 9000)
    assert np.isfinite(out).all()
    assert (out[300:] == data[300:]).all()


# -- what is held ----------------------------------------------------------------------------


def test_what_is_not_wanted_any_more_is_dropped(ahead, music):
    files = Files(music["wav"], music["flac"])
    first, second = track_of(music["wav"]), track_of(music["flac"])
    decoding = ahead(files)
    decoding.want([Want(first, 0, FRAMES)])
    until(lambda: decoding.ready(first, FRAMES - 1))
    decoding.want([Want(first, 3 * CHUNK_FRAMES, 10), Want(second, 0, 10)])
    until(lambda: decoding.ready(second, 0))
    until(lambda: sorted(decoding.buffer(first.content_id).chunks) == [3])
    decoding.want([Want(second, 0, 10)])
    until(lambda: decoding.buffer(first.content_id) is None)
    assert not decoding.ready(first, 3 * CHUNK_FRAMES)
    assert decoding.ready(second, 0)


def test_the_most_urgent_is_decoded_first(ahead, music):
    files = Files(music["wav"], music["flac"])
    late, soon = track_of(music["wav"]), track_of(music["flac"])
    go = threading.Event()

    def opener(track: Track):
        go.wait(PATIENCE_S)
        return files(track)

    decoding = ahead(opener)
    decoding.want([Want(late, 0, 2 * CHUNK_FRAMES)])
    decoding.want([Want(soon, 2 * CHUNK_FRAMES, 3 * CHUNK_FRAMES), Want(late, 0, 2 * CHUNK_FRAMES)])
    go.set()
    # One chunk of the later track may have been begun before the other was wanted; the second may not.
    until(lambda: decoding.ready(late, CHUNK_FRAMES))
    assert all(decoding.ready(soon, (2 + chunk) * CHUNK_FRAMES) for chunk in range(3))


def test_memory_is_bounded_whatever_is_wanted(ahead, music, monkeypatch):
    monkeypatch.setattr(module, "MAX_HELD_CHUNKS", 5)
    first, second = track_of(music["wav"]), track_of(music["flac"])
    decoding = ahead(Files(music["wav"], music["flac"]))
    decoding.want([Want(first, 0, 3 * CHUNK_FRAMES), Want(second, 0, FRAMES)])
    until(lambda: decoding.ready(second, CHUNK_FRAMES))
    assert len(decoding._plan[1][1]) == 2


def test_few_files_are_kept_open(ahead, tmp_path):
    paths = []
    for number in range(7):
        paths.append(tmp_path / f"{number}.wav")
        soundfile.write(paths[-1], sound(3 * CHUNK_FRAMES, seed=number), RATE_HZ)
    files = Files(*paths)
    decoding = ahead(files)
    tracks = [track_of(path) for path in paths]
    decoding.want([Want(track, 0, 3 * CHUNK_FRAMES) for track in tracks])
    until(lambda: all(decoding.ready(track, 2 * CHUNK_FRAMES) for track in tracks))
    assert len(files.opened) == 7, "each was opened once"
    assert len(decoding._files) <= module.MAX_OPEN_FILES


# -- what is wrong ---------------------------------------------------------------------------


def test_a_damaged_file_plays_before_and_after_the_damage(ahead, music, tmp_path):
    data = bytearray(music["flac"].read_bytes())
    middle = len(data) // 2
    data[middle : middle + 3000] = np.random.default_rng(1).bytes(3000)
    path = tmp_path / "damaged.flac"
    path.write_bytes(data)
    track = track_of(path)
    decoding = ahead(Files(path))
    out = frames_of(decoding, track, 0, FRAMES)
    reference = soundfile.read(music["flac"], dtype="float32")[0]
    same = (out == reference).all(axis=1)
    assert same[: FRAMES // 3].all()
    assert same[-FRAMES // 3 :].all()
    assert not same.all()
    assert not out[~same].any(), "what is not right is silence"
    assert "is damaged at 0:02" in decoding.faults[track.content_id]


@pytest.mark.parametrize("kind", ["flac", "mp3"])
def test_a_file_that_was_cut_off_plays_as_far_as_it_goes(ahead, music, tmp_path, kind):
    path = tmp_path / f"cut.{kind}"
    path.write_bytes(music[kind].read_bytes()[: music[kind].stat().st_size // 2])
    track = track_of(path)
    assert track.frames > FRAMES // 2
    files = Files(path)
    decoding = ahead(files)
    out = np.empty((FRAMES, 2), np.float32)
    decoding.want([Want(track, 0, FRAMES)])
    until(lambda: (b := decoding.buffer(track.content_id)) is not None and b.read(0, out) == 0)
    reference = soundfile.read(music[kind], dtype="float32")[0]
    assert (out[: FRAMES // 3] == reference[: FRAMES // 3]).all()
    assert not out[-FRAMES // 3 :].any()
    fault = decoding.faults[track.content_id]
    assert "ends early" in fault or "cannot be decoded from 0:0" in fault
    opened = len(files.opened)
    assert opened <= module.MAX_SKIPS + 2
    decoding.want([Want(track, FRAMES - 100, 100)])
    until(lambda: decoding.ready(track, FRAMES - 1))
    assert len(files.opened) == opened, "and is not tried for ever"


def test_a_wav_shorter_than_was_said_ends_early_wherever_it_is_asked(ahead, tmp_path):
    path = tmp_path / "short.wav"
    soundfile.write(path, sound(2 * CHUNK_FRAMES), RATE_HZ)
    said = track_of(path)
    track = Track(said.content_id, said.size_bytes, RATE_HZ, 9 * CHUNK_FRAMES, 2)
    decoding = ahead(Files(path))
    frames_of(decoding, track, 5 * CHUNK_FRAMES, 100)
    assert "ends early: after 0:00.4 of 0:01.7" in decoding.faults[track.content_id]
    assert decoding.buffer(track.content_id).end_frame == 2 * CHUNK_FRAMES
    assert frames_of(decoding, track, 0, 100).any()


@pytest.mark.parametrize("what", ["text", "other"])
def test_bytes_that_are_no_such_track_are_silence_and_a_fault(ahead, music, tmp_path, what):
    path = tmp_path / "file.flac"
    soundfile.write(path, sound(100, 1), 8000)
    if what == "text":
        path.write_text("no music\n" * 100)
    track = Track(bytes(32), 100, RATE_HZ, 20_000, 2)
    files = Files()
    files.paths[track.content_id] = path
    decoding = ahead(files)
    out = frames_of(decoding, track, 0, 20_000)
    assert not out.any()
    fault = decoding.faults[track.content_id]
    assert fault.startswith("the file cannot be decoded: ")
    assert ("the host said 2 at 44100 Hz" in fault) == (what == "other")
    assert len(files.opened) == 1
    decoding.want([Want(track_of(music["wav"]), 0, 0)])
    until(lambda: not decoding.faults)


def test_bytes_that_cannot_be_had_are_tried_again(ahead, music, monkeypatch):
    monkeypatch.setattr(module, "RETRY_DURATION_NS", 1)
    track, files, full = track_of(music["flac"]), Files(music["flac"]), [True]

    def opener(asked: Track):
        if full[0]:
            raise MediaError("the disk is full")
        return files(asked)

    decoding = ahead(opener)
    decoding.want([Want(track, 0, 10)])
    until(lambda: decoding.faults.get(track.content_id) == "the disk is full")
    assert not decoding.ready(track, 0), "and the frames are missing, not silence"
    full[0] = False
    until(lambda: decoding.ready(track, 0))
    assert not decoding.faults


def test_a_track_whose_bytes_fail_does_not_hold_up_the_others(ahead, music):
    bad, good = track_of(music["wav"]), track_of(music["flac"])
    decoding = ahead(_failing(bad, Files(music["flac"])))
    decoding.want([Want(bad, 0, 10), Want(good, 0, 10)])
    until(lambda: decoding.ready(good, 0))
    assert decoding.faults[bad.content_id] == "the host no longer has it"
    assert not decoding.ready(bad, 0)


def _failing(bad: Track, files: Files):
    def opener(track: Track):
        if track.content_id == bad.content_id:
            raise MediaError("the host no longer has it")
        return files(track)

    return opener


# -- bytes on their way ----------------------------------------------------------------------


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "cache", 1 << 30, disk=lambda _folder: (1 << 40, 1 << 40))


@pytest.mark.parametrize("kind", ["wav", "flac"])
def test_decoding_starts_before_the_last_byte_is_there(ahead, music, store, kind):
    data, track = music[kind].read_bytes(), track_of(music[kind])
    stored = store.open(track)
    stored.write(0, data[: len(data) // 2])
    decoding = ahead(lambda asked: store.open(asked).reader())
    reference = soundfile.read(music[kind], dtype="float32")[0]
    assert (frames_of(decoding, track, 0, FRAMES // 4) == reference[: FRAMES // 4]).all()
    decoding.want([Want(track, 0, FRAMES)])
    until(lambda: stored.wanted_offset >= len(data) // 2)
    assert not decoding.ready(track, FRAMES - 1)
    stored.write(len(data) // 2, data[len(data) // 2 :])
    assert (frames_of(decoding, track, 0, FRAMES) == reference).all()
    assert not decoding.faults


def test_a_seek_does_not_wait_for_bytes_that_nobody_wants_any_more(ahead, music, store):
    data, track = music["wav"].read_bytes(), track_of(music["wav"])
    stored = store.open(track)
    stored.write(0, data[:100_000])
    stored.write(700_000, data[700_000:])
    decoding = ahead(lambda asked: store.open(asked).reader())
    decoding.want([Want(track, 0, 2 * RATE_HZ)])
    until(lambda: stored.wanted_offset == 100_000)
    first = (len(data) - 100_000) // 4
    piece = frames_of(decoding, track, first, 1000)
    assert (piece == soundfile.read(music["wav"], dtype="float32")[0][first : first + 1000]).all()
    assert not decoding.faults


def test_another_track_does_not_wait_behind_one_that_does_not_come(ahead, music, store):
    stuck, other = track_of(music["ogg"]), track_of(music["flac"])
    stored = [store.open(stuck), store.open(other)]
    stored[1].write(0, music["flac"].read_bytes())
    decoding = ahead(lambda asked: store.open(asked).reader())
    decoding.want([Want(stuck, 0, 1000)])
    until(lambda: decoding._guard is not None)
    decoding.want([Want(other, 0, 1000), Want(stuck, 0, 1000)])
    until(lambda: decoding.ready(other, 0))
    assert not decoding.faults
    stored[0].write(0, music["ogg"].read_bytes())
    until(lambda: decoding.ready(stuck, 0))


def test_playing_on_while_bytes_are_late_does_not_open_the_file_again(ahead, music, store):
    data, track = music["flac"].read_bytes(), track_of(music["flac"])
    stored, opened = store.open(track), []
    stored.write(0, data[:100_000])

    def opener(asked: Track):
        opened.append(asked)
        return store.open(asked).reader()

    decoding = ahead(opener)
    decoding.want([Want(track, 0, FRAMES)])
    until(lambda: stored.wanted_offset >= 100_000)
    for step in range(1, 4):
        held = max(decoding.buffer(track.content_id).chunks)
        decoding.want([Want(track, (held + step) * CHUNK_FRAMES, RATE_HZ)])
        assert not decoding._guard.interrupted
    stored.write(100_000, data[100_000:])
    until(lambda: decoding.ready(track, (held + 3) * CHUNK_FRAMES))
    assert len(opened) == 1


def test_a_change_while_a_file_is_being_opened_is_not_lost(ahead, music, store):
    stuck, other = track_of(music["ogg"]), track_of(music["flac"])
    held = {one.content_id: store.open(one) for one in (stuck, other)}
    held[other.content_id].write(0, music["flac"].read_bytes())
    opening, go = threading.Event(), threading.Event()

    def opener(asked: Track):
        opening.set()
        go.wait(PATIENCE_S)
        return held[asked.content_id].reader()

    decoding = ahead(opener)
    decoding.want([Want(stuck, 0, 10)])
    assert opening.wait(PATIENCE_S)
    decoding.want([Want(other, 0, 10)])
    go.set()
    until(lambda: decoding.ready(other, 0))


@pytest.mark.parametrize("kind", ["flac", "ogg"])
def test_closing_does_not_wait_for_bytes(music, store, kind):
    track = track_of(music[kind])
    stored = store.open(track)
    stored.write(0, music[kind].read_bytes()[:3000])
    decoding = DecodeAhead(lambda asked: store.open(asked).reader(), 2)
    decoding.want([Want(track, 0, 1000)])
    until(lambda: stored.wanted_offset >= 3000)
    decoding.close()
    assert not decoding._thread.is_alive()
    assert not decoding.faults


def test_a_track_that_was_given_up_is_a_fault_and_plays_when_it_can_be_had(ahead, music, store, monkeypatch):
    monkeypatch.setattr(module, "RETRY_DURATION_NS", 1_000_000)
    track = track_of(music["flac"])
    held = [store.open(track)]
    held[0].fail("the host no longer has it")
    decoding = ahead(lambda asked: held[-1].reader())
    decoding.want([Want(track, 0, 10)])
    until(lambda: decoding.faults.get(track.content_id) == "the host no longer has it")
    held.append(store.open(track))
    held[-1].write(0, music["flac"].read_bytes())
    until(lambda: decoding.ready(track, 0))
    assert not decoding.faults
