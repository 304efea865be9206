"""What a file's tags say of it, how long it is, and its cover.

Owns which tags the library knows, their limits, and what is a picture. Must not know where any of
it is kept (:mod:`musicsyncd.system.library_index`), nor decode sound: a header is enough. Files that the
tag reader does not know are left to :func:`musicsyncd.media.inspect.inspect`.

A tag is anybody's: nothing here trusts a length, a text or a type that a file claims.

Sources: tinytag reads the tags. ReplayGain 2.0 specification for gains and peaks; RFC 7845, section
5.2.1 for Opus, whose gains are relative to −23 LUFS where ReplayGain's are to −18.
"""

from __future__ import annotations

import io
import math
import os
import re
import struct
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from tinytag import TinyTag, TinyTagException

from musicsyncd.media.inspect import inspect, printable, shown, status_of, unreadable
from musicsyncd.media.ogg import length
from musicsyncd.text import encodable

MAX_COVER_BYTES = 10_000_000
"""Of a picture: more than any scan of a sleeve that a screen could show."""

MAX_READ_BYTES = 16 << 20
"""Of one piece of a file: a cover of the largest size, in base64 as Ogg has it."""

MAX_CALLS = 200_000
"""Steps of the tag reader for one file. A usual file takes some hundreds, an MP3 without a length some ten
thousand; a file of a million tags, made to take hours, ends here after a moment."""

MAX_NUMBER = 9999
"""Of a track, a disc or a year."""

MAX_DURATION_S = 100 * 86_400.0
MAX_GAIN_DB = 64.0
MAX_PEAK = 64.0

COVER_NAMES = ("folder", "cover", "front")
COVER_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif")

_OPUS_TO_REPLAYGAIN_DB = 5.0

_NUMBER = re.compile(r"\s*([-+]?\d+(?:[.,]\d+)?)")
_YEAR = re.compile(r"\d{4}")


@dataclass(frozen=True, slots=True)
class Gain:
    """How loud a track or an album is.

    Attributes:
        gain_db: to be added to sound as loud as ReplayGain's reference, or None where it was not measured.
        peak: the largest sample, 1 is full scale, or None.
    """

    gain_db: float | None = None
    peak: float | None = None


@dataclass(frozen=True, slots=True)
class Tags:
    """What a file says of itself; texts are printable, in one line, and empty where nothing is said.

    Attributes:
        title: its tag, or the file's name without its ending.
        artist: of the track.
        album: it is on.
        album_artist: of the whole album.
        genre: as written.
        disc: its number in the album, 0 for none.
        track: its number on the disc, 0 for none.
        year: of release, 0 for none.
        duration_s: by its header; of MP3 without a length, an estimate.
        rate_hz: frames a second.
        track_gain: its own loudness.
        album_gain: its album's.
    """

    title: str
    artist: str = ""
    album: str = ""
    album_artist: str = ""
    genre: str = ""
    disc: int = 0
    track: int = 0
    year: int = 0
    duration_s: float = 0.0
    rate_hz: int = 0
    track_gain: Gain = Gain()
    album_gain: Gain = Gain()


@dataclass(frozen=True, slots=True)
class Cover:
    """A picture: its bytes and what they are, such as ``image/png``."""

    data: bytes
    media_type: str


def read_tags(path: Path) -> Tags:
    """Return what a file's tags and header say.

    Raises:
        MediaError: it is missing, unreadable or no music; one line.
    """
    status_of(path)
    read = _read(path, pictures=False)
    if read is not None:
        tags = _tags_of(path, read)
        if tags.duration_s > 0 and tags.rate_hz > 0:
            return tags
    # The tag reader does not know it, or finds no sound in it: whoever is going to play it has the word.
    info = inspect(path)
    return Tags(info.title, info.artist, info.album, duration_s=info.frames / info.rate_hz, rate_hz=info.rate_hz)


def read_cover(path: Path) -> Cover | None:
    """Return the picture in a file, or else the one beside it, or None where neither has one.

    Raises:
        MediaError: the file is missing or unreadable; one line.
    """
    status_of(path)
    read = _read(path, pictures=True)
    if read is not None:
        by_kind = read.images.as_dict()
        # The front first; then whatever there is, in the file's order.
        kinds = sorted(by_kind, key=lambda kind: kind != "front_cover")
        for image in (image for kind in kinds for image in by_kind[kind]):
            found = as_cover(image.data)
            if found is not None:
                return found
    return _cover_beside(path)


def as_cover(data: bytes) -> Cover | None:
    """Return bytes as a picture, or None when they are none, or too many."""
    if not 16 <= len(data) <= MAX_COVER_BYTES:
        return None
    if data.startswith(b"\xff\xd8\xff"):
        return Cover(data, "image/jpeg")
    if data.startswith(b"\x89PNG\r\n\x1a\n") and data[12:16] == b"IHDR":
        return Cover(data, "image/png")
    if data.startswith((b"GIF87a", b"GIF89a")):
        return Cover(data, "image/gif")
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return Cover(data, "image/webp")
    return None


class _CarefulReader(io.BufferedReader):
    """A file that gives no more at once than :data:`MAX_READ_BYTES`, whatever length the file claims for a piece."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Return up to so many bytes."""
        if size is not None and size > MAX_READ_BYTES:
            raise ValueError("a piece of the file claims to be larger than any tag")
        return super().read(size)


class _TooLongError(Exception):
    """The tag reader has taken more steps than any real file needs."""


@contextmanager
def _limited_calls() -> Iterator[None]:
    """Raise :class:`_TooLongError` in this thread when the block makes more than :data:`MAX_CALLS` calls and returns.

    The reader compares each further value of a tag with all before it. Nobody but the interpreter can
    end that from within the same thread, and its profiling hook does so at the same step on every machine.
    """
    left = MAX_CALLS
    before = sys.getprofile()

    def count(_frame: FrameType, _event: str, _argument: object) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise _TooLongError

    sys.setprofile(count)
    try:
        yield
    finally:
        sys.setprofile(before)


def _read(path: Path, *, pictures: bool) -> TinyTag | None:
    """Return what the tag reader finds, or None when it finds nothing that makes sense.

    Raises:
        MediaError: the file cannot be opened.
    """
    try:
        file = _CarefulReader(io.FileIO(path), 1 << 16)
    except OSError as error:
        raise unreadable(path, error) from None
    with file:
        # What a file is counts, not what it is called; the name helps only where the bytes do not tell.
        for name in (None, os.fspath(path)):
            try:
                return _read_open(file, name, pictures)
            except (TinyTagException, _TooLongError, ValueError, OverflowError, MemoryError, struct.error):
                continue
            except OSError as error:
                raise unreadable(path, error) from None
    return None


def _read_open(file: _CarefulReader, name: str | None, pictures: bool) -> TinyTag:
    ogg = length(file)
    file.seek(0)
    with _limited_calls():
        # Of an Ogg file the reader would walk through every page to tell its length.
        read = TinyTag.get(name, file, duration=ogg is None and not pictures, image=pictures)
    if ogg is not None:
        read.samplerate, read.duration = ogg
    return read


def _tags_of(path: Path, read: TinyTag) -> Tags:
    other = {str(name).lower(): values for name, values in read.other.items()}
    duration_s = read.duration or 0.0
    usable = math.isfinite(duration_s) and 0 < duration_s < MAX_DURATION_S
    year = _YEAR.search(str(read.year or ""))
    return Tags(
        title=_text(read.title) or printable(shown(Path(path.stem))),
        artist=_text(read.artist),
        album=_text(read.album),
        album_artist=_text(read.albumartist) or _text(_first(other, "album artist", "album_artist")),
        genre=_text(read.genre),
        disc=_whole(read.disc),
        track=_whole(read.track),
        year=int(year[0]) if year is not None and year[0].isascii() else 0,
        duration_s=duration_s if usable else 0.0,
        rate_hz=read.samplerate or 0,
        track_gain=_gain(other, "track"),
        album_gain=_gain(other, "album"),
    )


def _text(value: object) -> str:
    return printable(encodable(str(value or "")[:4096]))


def _whole(value: object) -> int:
    return value if isinstance(value, int) and 0 < value <= MAX_NUMBER else 0


def _gain(other: Mapping[str, Sequence[str]], of: str) -> Gain:
    gain_db = _number(_first(other, f"replaygain_{of}_gain"), MAX_GAIN_DB)
    peak = _number(_first(other, f"replaygain_{of}_peak"), MAX_PEAK)
    r128 = _number(_first(other, f"r128_{of}_gain"), 32768.0)
    if gain_db is None and r128 is not None:
        gain_db = r128 / 256.0 + _OPUS_TO_REPLAYGAIN_DB
    return Gain(gain_db, None if peak is None or peak < 0 else peak)


def _first(other: Mapping[str, Sequence[str]], *names: str) -> str:
    for name in names:
        for value in other.get(name, ()):
            return str(value)
    return ""


def _number(text: str, most: float) -> float | None:
    """Return the number that a text begins with, such as ``-6.5 dB``, if it is not out of all proportion."""
    found = _NUMBER.match(text[:64])
    value = float(found[1].replace(",", ".")) if found is not None else math.nan
    return value if abs(value) <= most else None


def _cover_beside(path: Path) -> Cover | None:
    """Return the picture in the folder of a track, by the names that people and programs give it."""
    try:
        names = os.listdir(path.parent)
    except OSError:
        return None
    by_name = {name.casefold(): name for name in sorted(names)}
    for wanted in (f"{stem}{suffix}" for stem in COVER_NAMES for suffix in COVER_SUFFIXES):
        if wanted not in by_name:
            continue
        file = path.parent / by_name[wanted]
        try:
            # What is no ordinary file (a pipe) might never end.
            data = file.read_bytes() if file.is_file() and file.stat().st_size <= MAX_COVER_BYTES else b""
        except OSError:
            continue
        found = as_cover(data)
        if found is not None:
            return found
    return None
