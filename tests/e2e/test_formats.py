"""Recordings in formats that peers could not decode alike: what is heard is as exact as FLAC."""

from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from house import RATE_HZ, apart_us, line_s, on_line, part, sounding

PIECE_S = 5.0
GAIN_DB = -12.0


def with_libav(path: Path, samples: np.ndarray, container: str, codec: str, **tags: str) -> Path:
    """Write a mono recording with libav."""
    with av.open(str(path), "w", format=container) as file:
        file.metadata.update(tags)
        stream = file.add_stream(codec, rate=RATE_HZ, layout="mono")
        context = stream.codec_context
        context.format, scale = ("s16", 32767) if codec == "flac" else ("fltp", 1)
        context.bit_rate = 192_000
        context.open()
        step = context.frame_size or 1024
        for first in range(0, len(samples), step):
            block = samples[None, first : first + step] * scale
            frame = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(block.astype(np.int16 if codec == "flac" else np.float32)), context.format, "mono"
            )
            frame.sample_rate, frame.pts = RATE_HZ, first
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


@pytest.fixture(scope="module")
def pieces(songs, tmp_path_factory) -> list[Path]:
    """The first song's beginning, cut into four that follow each other, each in another format."""
    folder, samples = tmp_path_factory.mktemp("pieces"), songs["first"][1]
    cuts = [round(number * PIECE_S * RATE_HZ) + 7 * number for number in range(5)]
    one, two, three, four = (samples[a:b].astype(np.float32) for a, b in pairwise(cuts))
    soundfile.write(folder / "1.mp3", one, RATE_HZ, format="MP3", subtype="MPEG_LAYER_III")
    soundfile.write(folder / "2.ogg", two, RATE_HZ, format="OGG", subtype="VORBIS")
    with_libav(folder / "3.m4a", three, "ipod", "aac")
    soundfile.write(folder / "4.opus", four, RATE_HZ, format="OGG", subtype="OPUS")
    return [folder / name for name in ("1.mp3", "2.ogg", "3.m4a", "4.opus")]


@pytest.fixture(scope="module")
def both(house, pieces):
    house.host("--replaygain", "track", *map(str, pieces))
    house.peer("left", ppm=60.0)
    house.peer("right", ppm=-40.0)
    house.together("left", "right")
    return ("left", "right")


def test_a_song_in_four_formats_is_whole_again(house, both, songs):
    house.call("stop")
    time.sleep(0.5)
    house.call("play")
    since = house.together(*both)
    until = house.until("the last piece plays", lambda: house.room()["queue_position"] == 4, 30.0) + 2.0
    whole = part(songs["first"][1], 4 * PIECE_S)
    left, right = (house.heard(name, whole, since, until) for name in both)
    for heard in (left, right):
        rows = on_line(heard)
        assert len(rows) >= 0.97 * len(heard), "all of it is heard, where it belongs, and there is no gap"
        places = rows[:, 1]
        assert places.min() <= 3.0
        assert places.max() >= 3 * PIECE_S + 1.0
        early = rows[places < PIECE_S]
        late = rows[places > 3 * PIECE_S]
        # Frames left in by an encoder's delay or padding would be 12 to 50 ms.
        assert abs(np.median(early[:, 0] - early[:, 1]) - np.median(late[:, 0] - late[:, 1])) <= 1e-3
    assert np.percentile(np.abs(apart_us(left, right)), 99) <= 1000.0


def test_what_peers_fetched_is_flac_and_stays_when_the_file_goes(house, both, pieces, songs):
    cached = [path for path in (house.state / "cache").rglob("*.flac")]
    assert len(cached) == 3, "MP3, Vorbis and AAC; Opus goes as it is"
    copy = house.folder / "gone.mp3"
    copy.write_bytes(pieces[0].read_bytes())
    house.call("play", str(copy))
    house.together(*both)
    copy.unlink()
    now = time.time() + 0.5  # What sounded before does so until then.
    heard = house.heard("left", part(songs["first"][1], PIECE_S), now, now + 1.0)
    assert len(sounding(heard)) >= 0.9 * len(heard)


def test_a_file_that_changes_in_the_queue_plays_as_it_is_now(house, both, songs):
    path = house.folder / "changing.flac"
    path.write_bytes(songs["first"][0].read_bytes())
    house.call("queue", "clear")
    house.call("queue", "add", str(songs["second"][0]), str(path))
    house.call("play")
    house.together(*both)
    house.until("it is prepared", lambda: house.room()["queue_length"] == 2)
    # The place where it is prepared is left behind before it changes: the host is told to stop and begins anew.
    samples = songs["second"][1][15 * RATE_HZ : 20 * RATE_HZ]
    soundfile.write(path, samples, RATE_HZ, subtype="PCM_16")
    house.started[0].stop()
    house.host("--replaygain", "track")
    house.together(*both)
    house.call("next")
    house.together(*both)
    now = time.time() + 0.5
    heard = house.heard("left", samples, now, now + 1.0)
    assert len(sounding(heard)) >= 0.9 * len(heard)
    assert abs(now - line_s(heard)) < 10.0


def test_replaygain_makes_it_as_much_quieter_as_the_tags_say(house, both, songs):
    samples = part(songs["second"][1], 12.0)
    plain = with_libav(house.folder / "plain.flac", samples, "flac", "flac")
    tagged = with_libav(house.folder / "tagged.flac", samples, "flac", "flac", REPLAYGAIN_TRACK_GAIN=f"{GAIN_DB} dB")
    levels = []
    for path in (plain, tagged):
        house.call("play", str(path))
        time.sleep(0.5)
        house.together(*both)
        house.call("seek", "0:04")
        time.sleep(1.0)
        now = time.time()
        levels.append(house.level_db("left", now, now + 2.0))
    assert levels[1] - levels[0] == pytest.approx(GAIN_DB, abs=1.0)
