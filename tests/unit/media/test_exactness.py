"""Whatever the format, all who decode a track agree on what its frame n is, from the start and after every seek."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from media_files import RATE_HZ, bursts, encode, lag_frames, track_of

from musicsyncd.media.convert import convert, must_convert
from musicsyncd.media.inspect import inspect
from musicsyncd.media.opened import Guard, OpenTrack

SECONDS = 12
FRAMES = SECONDS * RATE_HZ + 4321
SEEKS = 60
BLOCK_FRAMES = 4096

WITH_LIBSNDFILE = {
    # name: rate, channels, container, codec
    "16.wav": (44_100, 2, "WAV", "PCM_16"),
    "24.wav": (96_000, 2, "WAV", "PCM_24"),
    "float.wav": (44_100, 1, "WAV", "FLOAT"),
    "adpcm.wav": (44_100, 2, "WAV", "MS_ADPCM"),
    "24.aiff": (44_100, 2, "AIFF", "PCM_24"),
    "16.flac": (44_100, 2, "FLAC", "PCM_16"),
    "24.flac": (192_000, 2, "FLAC", "PCM_24"),
    "vorbis.ogg": (44_100, 2, "OGG", "VORBIS"),
    "slow.ogg": (22_050, 1, "OGG", "VORBIS"),
    "surround.ogg": (48_000, 6, "OGG", "VORBIS"),
    "stereo.opus": (48_000, 2, "OGG", "OPUS"),
    "mono.opus": (24_000, 1, "OGG", "OPUS"),
    "surround.opus": (48_000, 6, "OGG", "OPUS"),
    "lame.mp3": (44_100, 2, "MP3", "MPEG_LAYER_III"),
}
WITH_LIBAV = {
    "variable.mp3": dict(container="mp3", codec="libmp3lame", quality=2, options={"id3v2_version": "0"}),
    "headless.mp3": dict(container="mp3", codec="libmp3lame", quality=2, options={"write_xing": "0"}),
    "aac.m4a": dict(container="ipod", codec="aac"),
    "alac.m4a": dict(container="ipod", codec="alac", sample_format="s16p"),
    "alac24.m4a": dict(container="ipod", codec="alac", sample_format="s32p"),
    "aac.aac": dict(container="adts", codec="aac"),
    "wma.wma": dict(container="asf", codec="wmav2"),
    "aac.mka": dict(container="matroska", codec="aac"),
}
AS_IT_IS = {"16.wav", "24.wav", "float.wav", "24.aiff", "16.flac", "24.flac"}
OPUS = {"stereo.opus", "mono.opus", "surround.opus"}


def original(name: str) -> np.ndarray:
    rate_hz, channels = WITH_LIBSNDFILE[name][:2] if name in WITH_LIBSNDFILE else (RATE_HZ, 2)
    return bursts(FRAMES, channels, rate_hz)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Every format, each made when it is asked for."""
    folder, made = tmp_path_factory.mktemp("formats"), {}

    def make(name: str) -> Path:
        path = folder / name
        if name in made:
            return path
        samples = original(name)
        if name in WITH_LIBSNDFILE:
            rate_hz, channels, container, codec = WITH_LIBSNDFILE[name]
            with soundfile.SoundFile(path, "w", rate_hz, channels, codec, format=container) as file:
                for first in range(0, len(samples), RATE_HZ):
                    file.write(samples[first : first + RATE_HZ])
        else:
            kind = WITH_LIBAV[name].get("sample_format", "fltp")
            if kind != "fltp":
                scale, dtype = {"s16p": (2.0**15, np.int16), "s32p": (2.0**31, np.int32)}[kind]
                samples = np.rint(samples.astype(float) * scale).astype(dtype)
            encode(path, samples, **WITH_LIBAV[name])
        made[name] = path
        return path

    return make


@pytest.fixture(scope="module")
def travelling(files, tmp_path_factory):
    """What peers fetch of each format: the file, or the FLAC it is turned into."""
    folder, made = tmp_path_factory.mktemp("travelling"), {}

    def make(name: str) -> Path:
        if name not in made:
            path = files(name)
            info = inspect(path)
            if must_convert(info):
                with (folder / f"{name}.flac").open("w+b") as file:
                    assert convert(info, file, lambda _done, _all: None) == []
                path = folder / f"{name}.flac"
            made[name] = path
        return made[name]

    return make


def decoded(path: Path) -> np.ndarray:
    return soundfile.read(path, dtype="float32", always_2d=True)[0]


@pytest.mark.parametrize("name", [*WITH_LIBSNDFILE, *WITH_LIBAV])
def test_a_seek_lands_where_decoding_from_the_start_comes_by(travelling, name):
    path = travelling(name)
    track = track_of(path)
    opened = OpenTrack(track, Guard(path.open("rb")), track.channels)
    out = np.empty((BLOCK_FRAMES, track.channels), np.float32)
    straight = np.concatenate([out[: opened.read(first, out)].copy() for first in range(0, track.frames, BLOCK_FRAMES)])
    # Opus decoders come to the same samples 80 ms after a seek but for some 2⁻²⁵ of full scale: as good as the same.
    tolerance = 1e-6 if name in OPUS else 0.0
    assert len(straight) == track.frames
    for first in np.random.default_rng(7).integers(0, track.frames, SEEKS).tolist():
        out.fill(9.0)
        count = opened.read(first, out)
        assert count == min(BLOCK_FRAMES, track.frames - first)
        assert np.abs(out[:count] - straight[first : first + count]).max() <= tolerance, f"after a seek to {first}"
    opened.close()


@pytest.mark.parametrize("name", sorted(AS_IT_IS | OPUS))
def test_what_is_exact_travels_as_it_is(files, travelling, name):
    assert travelling(name) == files(name)


@pytest.mark.parametrize("name", sorted({*WITH_LIBSNDFILE, *WITH_LIBAV} - AS_IT_IS - OPUS))
def test_everything_else_becomes_flac_of_the_right_length_and_in_the_right_place(files, travelling, name):
    with soundfile.SoundFile(travelling(name)) as flac:
        assert flac.format == "FLAC"
        assert flac.subtype == ("PCM_24" if name == "alac24.m4a" else "PCM_16")
        samples = flac.read(dtype="float32", always_2d=True)
        wanted = original(name)
        assert (flac.samplerate, flac.channels) == (
            WITH_LIBSNDFILE[name][:2] if name in WITH_LIBSNDFILE else (RATE_HZ, wanted.shape[1])
        )
    # Delay and padding are in no header of ADTS, of an MP3 without LAME's, and of the others named here; elsewhere
    # the length is that of what was encoded, to the frame, and the first frame is the first.
    told = name not in {"headless.mp3", "aac.aac", "wma.wma", "aac.mka", "adpcm.wav"}
    assert (len(samples) == FRAMES) == told or name == "adpcm.wav"
    assert len(samples) + 4096 >= FRAMES
    if told:
        assert lag_frames(samples, wanted) == 0


@pytest.mark.parametrize("name", ["vorbis.ogg", "surround.ogg", "adpcm.wav", "lame.mp3"])
def test_the_flac_has_the_samples_that_the_decoder_gave(files, travelling, name):
    # In one read, so that python-soundfile does not seek in between.
    reference = decoded(files(name))
    if name == "surround.ogg":
        reference = reference[:, [0, 2, 1, 5, 3, 4]]
    assert np.abs(decoded(travelling(name)) - reference).max() <= 0.5001 / 32768


def test_what_was_lossless_stays_so(travelling):
    assert np.abs(decoded(travelling("alac.m4a")) - original("alac.m4a")).max() <= 0.5001 / 2**15
    # The encoder leaves off what is beyond 24 bits, and does not round.
    assert np.abs(decoded(travelling("alac24.m4a")) - original("alac24.m4a")).max() <= 1.0 / 2**23


def test_an_mp3_of_variable_bit_rate_without_a_length_is_decoded_to_its_end(files, travelling):
    guessed = inspect(files("headless.mp3")).frames
    length = len(decoded(travelling("headless.mp3")))
    assert FRAMES < length < FRAMES + 3 * 1152, "all of it, with the encoder's delay and padding that nobody tells of"
    assert abs(guessed - length) > RATE_HZ / 10, "this file must be one whose length libsndfile guesses wrongly"


def test_every_way_of_decoding_an_mp3_gives_the_same(files, travelling):
    import av

    for name in ("variable.mp3", "headless.mp3", "lame.mp3"):
        with av.open(str(files(name))) as container:
            other = np.concatenate([frame.to_ndarray().T for frame in container.decode(audio=0)])
        ours = decoded(travelling(name))
        assert len(ours) == len(other)
        assert np.abs(ours - other).max() <= 1.0 / 32768
