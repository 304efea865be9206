from __future__ import annotations

import errno
import os
import sys

import av
import numpy as np
import pytest
import soundfile
from media_files import FRAMES, RATE_HZ, bursts, encode, lag_frames

from musicsyncd.errors import MediaError
from musicsyncd.media import libav
from musicsyncd.media.channels import flac_places
from musicsyncd.media.convert import CancelledError, convert, must_convert
from musicsyncd.media.inspect import after_id3, content_id, header_bytes, inspect
from musicsyncd.media.libav import container_kind


def line(error: pytest.ExceptionInfo[MediaError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    assert "object at" not in text
    return text


def turned(path, tmp_path, progress=lambda _done, _all: None):
    """Return what a file becomes and what was said of it."""
    with (tmp_path / "turned.flac").open("w+b") as file:
        faults = convert(inspect(path), file, progress)
    return soundfile.read(tmp_path / "turned.flac", dtype="float32", always_2d=True)[0], faults


@pytest.fixture(scope="module")
def m4a(tmp_path_factory):
    return encode(tmp_path_factory.mktemp("m4a") / "tone.m4a", bursts(), container="ipod", codec="aac")


# -- how samples become whole numbers --------------------------------------------------------


def test_what_decodes_beyond_full_scale_is_cut_and_does_not_wrap(tmp_path):
    path = tmp_path / "loud.ogg"
    samples = (1.4 * np.sin(np.arange(3 * RATE_HZ) * 0.01)).astype(np.float32)
    soundfile.write(path, np.stack([samples, 0.5 * samples], 1), RATE_HZ, format="OGG", subtype="VORBIS")
    loud = soundfile.read(path, dtype="float32")[0]
    assert np.abs(loud).max() > 1.2
    flac, _ = turned(path, tmp_path)
    assert (np.sign(flac[np.abs(loud) > 0.1]) == np.sign(loud[np.abs(loud) > 0.1])).all()
    assert np.abs(np.diff(flac, axis=0)).max() < 0.03, "no edge anywhere"
    within = np.abs(loud) < 1.0
    assert np.abs(flac - loud)[within].max() <= 0.51 / 32768 + 1 / 32768
    assert flac[loud > 1.0].min() == 32767 / 32768


def test_progress_comes_to_the_end_and_can_stop_it(m4a, music, tmp_path):
    said = []
    turned(music["mp3"], tmp_path, lambda done, all_: said.append((done, all_)))
    assert said[-1] == (FRAMES, FRAMES)
    assert [done for done, _ in said] == sorted(done for done, _ in said)

    def stop(done: int, _all: int) -> None:
        if done > FRAMES // 2:
            raise CancelledError

    for path in (music["mp3"], m4a):
        with pytest.raises(CancelledError):
            turned(path, tmp_path, stop)


def test_the_same_recording_gives_the_same_bytes(music, tmp_path):
    ids = set()
    for number in range(2):
        with (tmp_path / f"{number}.flac").open("w+b") as file:
            convert(inspect(music["ogg"]), file, lambda _done, _all: None)
        ids.add(content_id(tmp_path / f"{number}.flac"))
    assert len(ids) == 1, "two hosts of one house announce the same track"


# -- what is wrong ---------------------------------------------------------------------------


@pytest.mark.parametrize("damage_bytes", [50, 2000, 9000])
def test_damage_in_an_mp3_is_passed_over_and_the_rest_is_played(music, tmp_path, damage_bytes):
    data = bytearray(music["mp3"].read_bytes())
    middle = len(data) // 2
    data[middle : middle + damage_bytes] = np.random.default_rng(2).bytes(damage_bytes)
    path = tmp_path / "damaged.mp3"
    path.write_bytes(data)
    whole, _ = turned(music["mp3"], tmp_path)
    flac, faults = turned(path, tmp_path)
    third = len(whole) // 3
    assert (flac[:third] == whole[:third]).all()
    # There is nothing in an MP3 that tells where a frame belongs: what follows comes earlier by the frames lost.
    first, end = len(flac) - 60_000, len(flac) - 20_000
    most = damage_bytes // 300 + 4
    shifts = [1152 * lost for lost in range(most) if (flac[first:end] == whole[first + 1152 * lost :][:40_000]).all()]
    assert len(shifts) == 1, (
        "the rest is there to the sample, and no more is lost than was overwritten or stands beside it"
    )
    assert shifts[0] > 0
    assert bool(faults) == (damage_bytes > 1024)


def test_damage_in_an_m4a_moves_nothing(m4a, tmp_path):
    data = bytearray(m4a.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 2000] = np.random.default_rng(2).bytes(2000)
    path = tmp_path / "damaged.m4a"
    path.write_bytes(data)
    whole, _ = turned(m4a, tmp_path)
    flac, faults = turned(path, tmp_path)
    assert len(flac) == len(whole) == FRAMES
    assert (flac[: FRAMES // 3] == whole[: FRAMES // 3]).all()
    # The codec fills in noise of its own, and not the same after damage.
    assert lag_frames(flac, whole, FRAMES - 40_000) == 0
    assert any("damaged" in fault for fault in faults)


def test_a_lost_packet_of_an_m4a_leaves_a_hole_and_moves_nothing(m4a, tmp_path, monkeypatch):
    whole, _ = turned(m4a, tmp_path)
    import av

    real, count = av.packet.Packet.decode, 0

    class Lossy:
        def __init__(self, packet):
            self._packet, self.pts, self.duration = packet, packet.pts, packet.duration

        def decode(self):
            nonlocal count
            count += 1
            if 100 <= count < 103:
                raise av.error.InvalidDataError(errno.EINVAL, "bad packet")
            return real(self._packet)

    original = libav.LibavSource._open

    def opened(self, kind):
        original(self, kind)
        demux = self._container.demux

        class Container:
            def demux(self, stream):
                return (Lossy(packet) for packet in demux(stream))

            def close(self):
                pass

        self._container = Container()

    monkeypatch.setattr(libav.LibavSource, "_open", opened)
    flac, faults = turned(m4a, tmp_path)
    assert len(flac) == len(whole)
    assert (flac == whole)[: 98 * 1024].all()
    assert lag_frames(flac, whole, 106 * 1024) == 0
    assert not flac[99 * 1024 : 101 * 1024].any()
    assert [fault for fault in faults if "0.07 s are lost at 2.3 s" in fault]


def test_a_disk_that_is_full_is_one_line(music, tmp_path):
    class Full:
        def __init__(self, file):
            self.file, self.left = file, 100_000
            self.seek, self.tell = file.seek, file.tell

        def write(self, data):
            self.left -= len(data)
            if self.left < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return self.file.write(data)

    with (tmp_path / "out.flac").open("w+b") as file, pytest.raises(MediaError, match="No space left") as error:
        convert(inspect(music["mp3"]), Full(file), lambda _done, _all: None)
    line(error)


def test_a_file_that_changes_while_it_is_converted_is_refused(music, tmp_path):
    path = tmp_path / "growing.mp3"
    path.write_bytes(music["mp3"].read_bytes())

    def grow(_done: int, _all: int) -> None:
        with path.open("ab") as file:
            file.write(b"more")

    with pytest.raises(MediaError, match="being written to"):
        turned(path, tmp_path, grow)


def test_a_file_that_went_before_it_was_converted(music, m4a, tmp_path):
    for source in (music["mp3"], m4a):
        path = tmp_path / source.name
        path.write_bytes(source.read_bytes())
        info = inspect(path)
        path.unlink()
        with (tmp_path / "x").open("w+b") as file, pytest.raises(MediaError, match="cannot be read") as error:
            convert(info, file, lambda _done, _all: None)
        assert path.name in line(error)


# -- what PyAV decodes -----------------------------------------------------------------------


def test_a_header_of_what_only_pyav_knows(m4a):
    info = inspect(m4a)
    assert (info.format, info.subtype, info.rate_hz, info.channels) == ("LIBAV-mov", "aac", RATE_HZ, 2)
    assert abs(info.frames - FRAMES) < RATE_HZ / 20
    assert info.title == "tone"
    assert must_convert(info)


def test_a_tag_in_other_bytes_than_utf_8_hides_neither_music_nor_tag(tmp_path):
    path = tmp_path / "x.mka"
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "Caf_"
        stream = container.add_stream("aac", rate=RATE_HZ, layout="stereo")
        frame = av.AudioFrame.from_ndarray(np.zeros((2, 4096), np.float32), "fltp", "stereo")
        frame.sample_rate = RATE_HZ
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    path.write_bytes(path.read_bytes().replace(b"Caf_", b"Caf\xe9"))
    assert libav.LibavSource(path, "matroska").tags["title"] == "Caf\ufffd"


def test_the_wrong_ending_does_not_matter(m4a, tmp_path):
    path = tmp_path / "song.mp3"
    path.write_bytes(m4a.read_bytes())
    flac, _ = turned(path, tmp_path)
    assert len(flac) == FRAMES


def test_without_pyav_one_line_says_what_to_install(m4a, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MediaError, match=r"pip install 'musicsyncd\[formats\]'") as error:
        inspect(m4a)
    assert "tone.m4a" in line(error)
    text = tmp_path / "text.m4a"
    text.write_text("no music\n")
    with pytest.raises(MediaError, match="no music that can be played"):
        inspect(text)


@pytest.mark.parametrize(
    "data",
    [
        b"#EXTM3U\nhttp://127.0.0.1:9/a.aac\n" * 10,
        b"ffconcat version 1.0\nfile /etc/passwd\n",
        b"\0\0\0\x20ftypM4A \0\0\0\0",
        b"\0\0\0\x20ftypM4A " + bytes(range(256)) * 40,
        b"\x1aE\xdf\xa3" + bytes(5000),
        bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c") + bytes(5000),
        b"\xff\xf1" + bytes(3000),
        b"ID3\x04\0\0\x7f\x7f\x7f\x7f" + bytes(100),
        b"OggS" + bytes(500),
    ],
)
def test_what_only_looks_like_music_is_refused_in_one_line(tmp_path, data):
    path = tmp_path / "odd.m4a"
    path.write_bytes(data)
    with pytest.raises(MediaError) as error:
        inspect(path)
    assert "odd.m4a" in line(error)


def test_libav_is_held_to_the_kind_that_the_first_bytes_tell(tmp_path):
    path = tmp_path / "list.m4a"
    for data, kind in ((b"#EXTM3U\n", ""), (b"ffconcat version 1.0\n", ""), (b"<?xml version", ""), (b"OggS", "ogg")):
        path.write_bytes(data)
        assert container_kind(path) == kind
    # A cover of any size may come first.
    path.write_bytes(b"ID3\x04\0\0" + bytes([0, 0, 2, 5]) + bytes(261) + b"\xff\xf1\x50\x80")
    assert container_kind(path) == "aac"
    assert len(header_bytes(path)) == 4
    with path.open("rb") as file:
        assert after_id3(file) == 10 + 261


def test_a_file_of_another_kind_than_was_told_is_refused(m4a):
    with pytest.raises(MediaError, match="no music that can be played") as error:
        libav.LibavSource(m4a, "asf")
    line(error)


def test_a_video_without_sound_is_refused(tmp_path):
    import av

    path = tmp_path / "silent.mp4"
    with av.open(str(path), "w", format="mp4") as file:
        stream = file.add_stream("mpeg4", rate=25)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), "rgb24")
        file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    with pytest.raises(MediaError, match="holds no sound") as error:
        inspect(path)
    line(error)


def test_padding_that_itunes_tells_of_is_cut():
    words = " 00000000 00000840 000001CA 00000000003F31F6 00000000 00000000"
    assert libav._declared_frames({"itunsmpb": words}) == 0x3F31F6
    for nothing in ({}, {"itunsmpb": ""}, {"itunsmpb": "0 1"}, {"itunsmpb": "a b c d-no-number"}):
        assert libav._declared_frames(nothing) == 0


@pytest.mark.parametrize(
    ("names", "count", "places"),
    [
        (["FC"], 1, [0]),
        (["FL", "FR"], 2, [0, 1]),
        (["FL", "FR", "FC", "LFE", "BL", "BR"], 6, [0, 1, 2, 3, 4, 5]),
        (["FL", "FR", "FC", "LFE", "SL", "SR"], 6, [0, 1, 2, 3, 4, 5]),
        (["FL", "FR", "FC", "LFE", "BL", "BR", "SL", "SR"], 8, [0, 1, 2, 3, 4, 5, 6, 7]),
        (["FL", "FR", "FC", "BC"], 7, [0, 1, 2, 4]),
        (["FL", "FR", "LFE"], 6, [0, 1, 3]),
        (["DL", "DR"], 2, [0, 1]),
        (["X"], 1, [0]),
        (["A", "B", "C"], 2, [0, 1]),
    ],
)
def test_channels_go_to_the_places_that_flac_has_for_them(names, count, places):
    assert flac_places(names) == (count, places)


def test_surround_of_an_m4a_comes_out_where_it_belongs(tmp_path):
    turns = np.array([40, 60, 90, 1, 130, 190])  # In a tenth of a second, another number in each channel.
    seconds = np.arange(2 * RATE_HZ)[:, None] / RATE_HZ
    samples = (0.3 * np.sin(20 * np.pi * turns * seconds)).astype(np.float32)
    path = encode(tmp_path / "s.m4a", samples, container="ipod", codec="aac", layout="5.1")
    flac, _ = turned(path, tmp_path)
    spectrum = np.abs(np.fft.rfft(flac[RATE_HZ // 2 : RATE_HZ // 2 + RATE_HZ // 10], axis=0))
    loudest = spectrum.argmax(axis=0)
    assert [loudest[channel] for channel in (0, 1, 2, 4, 5)] == [turns[channel] for channel in (0, 1, 2, 4, 5)]


def test_more_than_flac_holds_is_refused(music, tmp_path, monkeypatch):
    monkeypatch.setattr("musicsyncd.media.convert.MAX_FLAC_CHANNELS", 1)
    with pytest.raises(MediaError, match="2 channels at 44100 Hz: such sound cannot be turned into FLAC") as error:
        turned(music["mp3"], tmp_path)
    line(error)
