"""The tune of the demonstration: always the same, clean, and no two places of it alike."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile

from musicsyncd.system.tune import RATE_HZ, write_tune

SECONDS = 8.0


@pytest.fixture(scope="module")
def tune(tmp_path_factory):
    path = tmp_path_factory.mktemp("tune") / "tune.flac"
    write_tune(path, SECONDS)
    return path


@pytest.fixture(scope="module")
def samples(tune):
    return soundfile.read(tune)[0]


def test_it_is_a_stereo_flac_of_the_length_that_was_asked_for(tune):
    info = soundfile.info(tune)
    assert (info.format, info.subtype, info.channels, info.samplerate) == ("FLAC", "PCM_16", 2, RATE_HZ)
    assert info.frames == SECONDS * RATE_HZ


def test_it_is_the_same_at_every_making(tune, tmp_path):
    write_tune(tmp_path / "again.flac", SECONDS)
    assert (tmp_path / "again.flac").read_bytes() == tune.read_bytes()


def test_it_is_loud_enough_without_clipping_and_fades_out(samples):
    assert 0.5 < np.abs(samples).max() <= 0.71
    assert abs(samples.mean()) < 0.03
    assert np.abs(samples[-RATE_HZ // 100 :]).max() < 0.01
    seconds = samples[: int((SECONDS - 2) * RATE_HZ)].reshape(-1, RATE_HZ // 2, 2)
    assert (np.sqrt((seconds**2).mean(axis=(1, 2))) > 0.01).all()


def test_its_two_sides_differ(samples):
    assert np.abs(samples[:, 0] - samples[:, 1]).max() > 0.05


def test_any_place_of_it_can_be_told_from_all_others(samples):
    """The demonstration finds how far apart two recordings are by where they are most alike."""
    mono = samples.mean(axis=1)
    window = 16_384
    for begin in range(RATE_HZ, int((SECONDS - 2.5) * RATE_HZ), RATE_HZ):
        piece = mono[begin : begin + window]
        size = 1 << (len(mono) + window - 1).bit_length()
        alike = np.fft.irfft(np.fft.rfft(mono, size) * np.conj(np.fft.rfft(piece, size)), size)[: len(mono) - window]
        power = np.concatenate([[0.0], np.cumsum(mono**2)])
        alike /= np.sqrt((power[window:-1] - power[: -window - 1]) * (piece**2).sum()) + 1e-9
        assert int(np.argmax(alike)) == begin
        alike[begin - 48 : begin + 49] = 0.0
        assert alike.max() < 0.95
