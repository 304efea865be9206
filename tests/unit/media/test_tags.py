"""Tags, lengths and covers of all kinds of files, and of files that were made to do harm."""

from __future__ import annotations

import base64
import os
import sys
from pathlib import Path

import pytest
import soundfile
import tagged
from media_files import FRAMES, RATE_HZ, sound
from tagged import GIF, JPEG, PNG, WEBP, flac, id3, m4a, own_frame, picture, put, text_frame

from musicsyncd.errors import MediaError
from musicsyncd.media import tags as module
from musicsyncd.media.tags import MAX_COVER_BYTES, Cover, Gain, Tags, as_cover, read_cover, read_tags

# -- tags --------------------------------------------------------------------------------------


def test_everything_that_a_flac_may_say(tmp_path):
    said = (
        "TITLE=So What", "ARTIST=Miles Davis", "ALBUM=Kind of Blue", "ALBUMARTIST=Miles Davis Sextet", "GENRE=Jazz",
        "DISCNUMBER=1", "TRACKNUMBER=3/5", "DATE=1959-08-17", "REPLAYGAIN_TRACK_GAIN=-6.50 dB",
        "REPLAYGAIN_TRACK_PEAK=0.988", "REPLAYGAIN_ALBUM_GAIN=+1,25 dB", "REPLAYGAIN_ALBUM_PEAK=1.02",
    )  # fmt: skip
    assert read_tags(put(tmp_path / "x.flac", flac(*said, seconds=3.0, rate_hz=96_000))) == Tags(
        "So What", "Miles Davis", "Kind of Blue", "Miles Davis Sextet", "Jazz",
        disc=1, track=3, year=1959, duration_s=3.0, rate_hz=96_000,
        track_gain=Gain(-6.5, 0.988), album_gain=Gain(1.25, 1.02),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "subtype"),
    [
        ("wav", "PCM_16"),
        ("aiff", "PCM_16"),
        ("flac", "PCM_16"),
        ("ogg", "VORBIS"),
        ("opus", "OPUS"),
        ("mp3", "MPEG_LAYER_III"),
        ("caf", "PCM_16"),
        ("au", "PCM_16"),
    ],
)
def test_what_libsndfile_writes_is_read(tmp_path, kind, subtype):
    path = tmp_path / f"x.{kind}"
    rate_hz = 48_000 if kind == "opus" else RATE_HZ
    # libsndfile says that its ID3 tags are Latin-1, and writes UTF-8.
    said = ("Blu", "Me", "Al") if kind == "mp3" else ("Blü", "Mé", "Ål")
    form = "OGG" if kind == "opus" else kind.upper()
    with soundfile.SoundFile(path, "w", rate_hz, 2, subtype, format=form) as file:
        if kind != "au":
            file.title, file.artist, file.album = said
        file.write(sound())
    tags = read_tags(path)
    # An AIFF has no album, and AU nothing but sound.
    title, artist = ("x", "") if kind == "au" else said[:2]
    assert (tags.title, tags.artist, tags.rate_hz) == (title, artist, rate_hz)
    if kind not in ("au", "aiff"):
        assert tags.album == said[2]
    # An encoder of MP3 adds delay and padding; all others say their length to the frame.
    assert tags.duration_s == pytest.approx(FRAMES / rate_hz, abs=0.1 if kind == "mp3" else 1 / rate_hz)


def test_an_mp3s_id3_and_an_m4as_atoms(tmp_path, music):
    tag = id3(
        text_frame(b"TIT2", "Tïtle"), text_frame(b"TPE1", "A"), text_frame(b"TALB", "B"), text_frame(b"TPE2", "C"),
        text_frame(b"TRCK", "7/12"), text_frame(b"TPOS", "2/2"), text_frame(b"TDRC", "2001"),
        own_frame("replaygain_track_gain", "-3.2 dB"),
    )  # fmt: skip
    tags = read_tags(put(tmp_path / "x.mp3", tag + music["mp3"].read_bytes()))
    assert (tags.title, tags.artist, tags.album, tags.album_artist) == ("Tïtle", "A", "B", "C")
    assert (tags.track, tags.disc, tags.year, tags.track_gain) == (7, 2, 2001, Gain(-3.2))
    tags = read_tags(put(tmp_path / "x.m4a", m4a(title="T", artist="A", album="B", REPLAYGAIN_ALBUM_GAIN="4 dB")))
    assert (tags.title, tags.artist, tags.album, tags.album_gain) == ("T", "A", "B", Gain(4.0))
    assert (tags.duration_s, tags.rate_hz) == (2.0, 44_100)


def test_the_gain_of_opus_counts_from_another_reference(tmp_path):
    assert read_tags(put(tmp_path / "x.flac", flac("R128_TRACK_GAIN=-512"))).track_gain == Gain(3.0)
    both = flac("R128_TRACK_GAIN=-512", "REPLAYGAIN_TRACK_GAIN=1 dB")
    assert read_tags(put(tmp_path / "x.flac", both)).track_gain == Gain(1.0)


def test_the_length_of_an_ogg_is_that_of_its_last_page(tmp_path, music, monkeypatch):
    # The walk through all pages would give the same, and so would libsndfile: neither must be needed.
    monkeypatch.setattr(module, "MAX_CALLS", 500)
    monkeypatch.setattr(module, "inspect", lambda path: pytest.fail(f"{path} was looked at twice"))
    with soundfile.SoundFile(tmp_path / "x.ogg", "w", RATE_HZ, 2, "VORBIS", format="OGG") as file:
        for second in range(60):
            file.write(sound(RATE_HZ, seed=second))
    assert read_tags(tmp_path / "x.ogg").duration_s == pytest.approx(60.0, abs=1e-6)
    cut = (tmp_path / "x.ogg").read_bytes()
    half = read_tags(put(tmp_path / "half.ogg", cut[: len(cut) // 2]))
    assert 20.0 < half.duration_s < 40.0


def test_without_tags_the_files_name_is_the_title(tmp_path):
    assert read_tags(put(tmp_path / "03 So What.flac", flac())) == Tags("03 So What", duration_s=2.0, rate_hz=44_100)


def test_what_a_file_is_counts_and_not_what_it_is_called(tmp_path, music):
    for called, holds in (("x.mp3", "flac"), ("x.flac", "mp3"), ("x.wav", "ogg"), ("x.ogg", "wav")):
        tags = read_tags(put(tmp_path / called, music[holds].read_bytes()))
        assert tags.duration_s == pytest.approx(FRAMES / RATE_HZ, abs=0.1), called
    for called in ("x.wav", "x.ogg", "x.m4a", "x"):
        assert read_tags(put(tmp_path / called, flac("TRACKNUMBER=7"))).track == 7, called


# -- bad input ---------------------------------------------------------------------------------


def test_texts_are_one_printable_line_of_bounded_length(tmp_path):
    tags = read_tags(put(tmp_path / "x.flac", flac("TITLE=a\nb\x1b[2J\tc", b"ARTIST=\xff\xfe", "ALBUM=" + "x" * 9999)))
    assert tags.title == "a b [2J c"
    assert tags.artist.isprintable()
    assert len(tags.album) == 200


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (("DATE=someday",), (0, 0, 0)),
        (("DATE=19",), (0, 0, 0)),
        (("TRACKNUMBER=99999999999",), (0, 0, 0)),
        (("TRACKNUMBER=-1", "DISCNUMBER=A"), (0, 0, 0)),
        (("TRACKNUMBER=²",), (0, 0, 0)),
        (("DATE=١٩٥٩",), (0, 0, 0)),
        (("DATE=17.08.1959", "TRACKNUMBER=7"), (1959, 7, 0)),
    ],
)
def test_numbers_that_are_none_are_left_out(tmp_path, said, shown):
    tags = read_tags(put(tmp_path / "x.flac", flac(*said)))
    assert (tags.year, tags.track, tags.disc) == shown


@pytest.mark.parametrize("gain", ["loud", "", "nan", "inf", "999 dB", "-", "9" * 5000])
def test_gains_that_are_none_are_left_out(tmp_path, gain):
    tags = read_tags(put(tmp_path / "x.flac", flac(f"REPLAYGAIN_TRACK_GAIN={gain}", "REPLAYGAIN_TRACK_PEAK=-1")))
    assert tags.track_gain == Gain()


def test_a_tag_of_ten_megabytes(tmp_path, music):
    big = "x" * 10_000_000
    assert read_tags(put(tmp_path / "x.flac", flac("TITLE=t", f"COMMENT={big}"))).title == "t"
    assert len(read_tags(put(tmp_path / "x.flac", flac(f"TITLE={big}"))).title) == 200
    tag = id3(text_frame(b"TIT2", "t"), text_frame(b"TPE1", big))
    tags = read_tags(put(tmp_path / "x.mp3", tag + music["mp3"].read_bytes()))
    assert (tags.title, len(tags.artist)) == ("t", 200)


@pytest.mark.parametrize("kind", ["flac", "mp3"])
def test_a_file_of_a_million_tags_ends_after_a_bounded_number_of_steps(tmp_path, music, kind):
    # The reader compares every value with all before it: a million of them would take it hours.
    values = [f"{n:x}" for n in range(1_000_000)]
    if kind == "flac":
        with pytest.raises(MediaError):
            read_tags(put(tmp_path / "x.flac", flac(*(f"A={one}" for one in values))))
    else:
        tag = id3(text_frame(b"TPE1", "\0".join(values)))
        assert read_tags(put(tmp_path / "x.mp3", tag + music["mp3"].read_bytes())).rate_hz == RATE_HZ
    assert sys.getprofile() is None


def test_a_piece_that_claims_gigabytes_is_not_given_any(tmp_path):
    whole = flac("TITLE=x" * 3)
    claims = whole.replace(len("TITLE=xTITLE=xTITLE=x").to_bytes(4, "little"), (3 << 30).to_bytes(4, "little"), 1)
    assert claims != whole
    with pytest.raises(MediaError):
        read_tags(put(tmp_path / "x.flac", claims))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "empty"),
        (b"no music at all", "no music"),
        (b"fLaC", "no music"),
        (b"OggS" + bytes(100), "no music"),
        (b"ID3\x04\0\0\x7f\x7f\x7f\x7f" + bytes(50), "no music"),
    ],
)
@pytest.mark.parametrize("name", ["x.flac", "x.ogg", "x.mp3"])
def test_what_is_no_music_is_refused_in_one_line(tmp_path, data, said, name):
    with pytest.raises(MediaError, match=said) as refused:
        read_tags(put(tmp_path / name, data))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("seed", range(40))
def test_any_damage_gives_tags_or_one_line(tmp_path, seed, music):
    import random

    chance = random.Random(seed)
    whole = chance.choice(
        [
            flac("TITLE=t", "ARTIST=a", pictures=[picture(PNG)]),
            id3(text_frame(b"TIT2", "t"), own_frame("a", "b")) + music["mp3"].read_bytes()[:4000],
            m4a(title="t", own="o"),
            music["ogg"].read_bytes()[:9000],
            music["wav"].read_bytes()[:2000],
        ]
    )
    data = bytearray(whole)
    for _ in range(chance.randint(1, 30)):
        data[chance.randrange(min(len(data), 400))] = chance.randrange(256)
    path = put(tmp_path / "x.bin", bytes(data[: chance.randint(1, len(data))]))
    for ask in (read_tags, read_cover):
        try:
            ask(path)
        except MediaError as error:
            lines = str(error).splitlines()
            assert len(lines) == 1


def test_names_in_any_encoding_and_with_newlines(tmp_path):
    name = os.path.join(os.fsencode(tmp_path), b"caf\xe9\nnoir.flac")
    with open(name, "wb") as file:
        file.write(flac())
    assert read_tags(Path(os.fsdecode(name))).title == "caf? noir"
    with open(name, "wb") as file:
        file.write(b"no music")
    with pytest.raises(MediaError) as refused:
        read_tags(Path(os.fsdecode(name)))
    assert "\n" not in str(refused.value)
    str(refused.value).encode("utf-8")


def test_what_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe.flac")
    for path, said in (
        (tmp_path, "no ordinary file"),
        (tmp_path / "pipe.flac", "no ordinary file"),
        (tmp_path / "none.flac", "there is no"),
        (Path("/x\0y.flac"), "cannot be the path"),
    ):
        for ask in (read_tags, read_cover):
            with pytest.raises(MediaError, match=said):
                ask(path)


# -- covers ------------------------------------------------------------------------------------


def test_the_front_comes_before_other_pictures(tmp_path):
    data = flac(pictures=[picture(GIF, kind=4), picture(PNG, kind=3)])
    assert read_cover(put(tmp_path / "x.flac", data)) == Cover(PNG, "image/png")
    assert read_cover(put(tmp_path / "x.flac", flac(pictures=[picture(GIF, kind=4)]))) == Cover(GIF, "image/gif")


def test_what_the_bytes_are_counts_and_not_what_is_said_of_them(tmp_path):
    data = flac(pictures=[picture(JPEG, mime=b"text/html")])
    assert read_cover(put(tmp_path / "x.flac", data)) == Cover(JPEG, "image/jpeg")
    assert read_cover(put(tmp_path / "x.flac", flac(pictures=[picture(b"<html>" * 20)]))) is None


def test_an_id3_and_an_ogg_picture(tmp_path, music):
    raw = b"\0image/jpeg\0\x03\0" + JPEG
    frame = b"APIC" + tagged._synchsafe(len(raw)) + bytes(2) + raw
    assert read_cover(put(tmp_path / "x.mp3", id3(frame) + music["mp3"].read_bytes())) == Cover(JPEG, "image/jpeg")
    block = base64.b64encode(picture(WEBP)).decode()
    page = b"OpusTags" + tagged.comment(f"METADATA_BLOCK_PICTURE={block}")
    head = b"OpusHead\x01\x02" + bytes(9)
    put(tmp_path / "x.opus", _page(head, 0) + _page(page, 1))
    assert read_cover(tmp_path / "x.opus") == Cover(WEBP, "image/webp")


def _page(packet: bytes, number: int) -> bytes:
    segments = [255] * (len(packet) // 255) + [len(packet) % 255]
    header = b"OggS\0\0" + bytes(8) + b"\1\0\0\0" + number.to_bytes(4, "little") + bytes(4)
    return header + bytes([len(segments), *segments]) + packet


def test_a_picture_beside_the_file(tmp_path):
    track = put(tmp_path / "x.flac", flac(pictures=[picture(b"no picture" * 9)]))
    assert read_cover(track) is None
    put(tmp_path / "Cover.JPG", JPEG)
    assert read_cover(track) == Cover(JPEG, "image/jpeg")
    put(tmp_path / "folder.png", PNG)
    assert read_cover(track) == Cover(PNG, "image/png")
    put(tmp_path / "folder.jpg", b"no picture either, though it is called one")
    assert read_cover(track) == Cover(PNG, "image/png")


def test_a_pipe_or_a_folder_called_as_a_cover_is_passed_over(tmp_path):
    track = put(tmp_path / "x.flac", flac())
    os.mkfifo(tmp_path / "folder.jpg")
    (tmp_path / "cover.jpg").mkdir()
    assert read_cover(track) is None


def test_a_picture_has_a_largest_size(tmp_path):
    assert as_cover(PNG + bytes(MAX_COVER_BYTES - len(PNG))) is not None
    assert as_cover(PNG + bytes(MAX_COVER_BYTES - len(PNG) + 1)) is None
    put(tmp_path / "folder.png", PNG + bytes(MAX_COVER_BYTES))
    assert read_cover(put(tmp_path / "x.flac", flac())) is None


@pytest.mark.parametrize("data", [b"", PNG[:10], b"\x89PNG\r\n\x1a\n" + bytes(50), b"RIFF\0\0\0\0WAVE" + bytes(50)])
def test_what_only_begins_like_a_picture_is_none(data):
    assert as_cover(data) is None
