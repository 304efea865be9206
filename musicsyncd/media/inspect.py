"""What is this file? Finding tracks in folders, reading their headers, hashing their bytes.

Owns the list of endings that are music and the line that is said of a file that is
not. Must not decode: a header is enough to say what a track is, and a library of
thousands is looked through in seconds. Whether the bytes behind the header are sound
is found out by :mod:`musicsyncd.media.decoder`.

Source: libsndfile, through python-soundfile; it is loaded when the first file is looked
at, so that a command that needs no sound works on a machine without it.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from musicsyncd.errors import MediaError
from musicsyncd.media.ogg import read_pages
from musicsyncd.playback.timeline import MAX_FRAMES, Track
from musicsyncd.text import encodable

AUDIO_SUFFIXES = frozenset(
    {".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif", ".aifc", ".caf", ".w64", ".rf64", ".au"}
    | {".m4a", ".m4b", ".aac", ".wma", ".mka", ".ape", ".wv", ".tta"}
)
"""Endings that a folder is searched for: what libsndfile opens, then what PyAV does, and people keep music in."""

MAX_FOLDER_TRACKS = 10_000
"""As many as a queue holds."""

MAX_FOLDERS = 100_000
"""Folders looked into below one: an end to ``play /``."""

MAX_TAG_CHARS = 200
"""Of a title, artist or album: more than any line shows."""

_RATES_HZ = range(1_000, 768_001)
_CHANNELS = range(1, 65)
_DIGITS = re.compile(r"(\d+)")


@dataclass(frozen=True, slots=True)
class TrackInfo:
    """What a file's header says.

    Attributes:
        path: the file.
        title: its tag, or the file's name without its ending.
        artist: its tag, or empty.
        album: its tag, or empty.
        size_bytes: of the file.
        mtime_ns: when it was last written, by the file system's clock: with the size, whether it is the same still.
        rate_hz: frames a second.
        frames: its length. MP3 files without a Xing header do not say it, and libsndfile estimates.
        channels: samples in a frame.
        format: libsndfile's word: ``WAV``, ``FLAC``, ``OGG``, ``MP3``; or ``LIBAV-`` and libav's word.
        subtype: libsndfile's word for how samples are written, ``PCM_16``, ``VORBIS``; or libav's for the codec.
    """

    path: Path
    title: str
    artist: str
    album: str
    size_bytes: int
    mtime_ns: int
    rate_hz: int
    frames: int
    channels: int
    format: str
    subtype: str = ""


def soundfile_module() -> Any:  # noqa: ANN401 (the library has no types)
    """Return the soundfile module.

    Raises:
        MediaError: libsndfile is not there or does not load.
    """
    try:
        import soundfile
    except (ImportError, OSError) as error:
        raise MediaError(
            f"libsndfile cannot be loaded ({error}): install it (Debian: apt install libsndfile1)"
        ) from None
    return soundfile


def printable(text: str, limit: int = MAX_TAG_CHARS) -> str:
    """Return text without what would move a terminal's cursor or break a line, at most ``limit`` characters."""
    clean = "".join(character if character.isprintable() else " " for character in text[: 4 * limit])
    return " ".join(clean.split())[:limit]


def shown(path: Path) -> str:
    """Return a path as it can stand in a line, whatever bytes it is made of."""
    return printable(encodable(str(path)), 4096)


def find_tracks(path: Path) -> list[Path]:
    """Return a file itself, or the music in a folder and below it as a person would sort it.

    Hidden files and folders are passed over, as are folders below that cannot be read;
    a folder that symbolic links lead to twice is looked into once.

    Raises:
        MediaError: there is no such path, it cannot be read, there is no music in it, or too much.
    """
    try:
        mode = path.stat().st_mode
        if not stat.S_ISDIR(mode):
            return [path]
        os.scandir(path).close()
    except OSError as error:
        raise unreadable(path, error) from None
    except ValueError:
        raise _impossible(path) from None
    found: list[Path] = []
    for number, files in enumerate(walk([str(path)])):
        if number == MAX_FOLDERS:
            raise MediaError(f"{shown(path)} has more than {MAX_FOLDERS:,} folders: choose one inside it")
        found += map(Path, files)
        if len(found) > MAX_FOLDER_TRACKS:
            raise MediaError(f"{shown(path)} holds more than {MAX_FOLDER_TRACKS:,} tracks: choose a folder inside it")
    if not found:
        raise MediaError(f"no music in {shown(path)}: looked for {', '.join(sorted(AUDIO_SUFFIXES))}")
    return sorted(found, key=lambda file: natural_key(str(file.relative_to(path))))


def inspect(path: Path) -> TrackInfo:
    """Return what a file's header says of it, without decoding it.

    Raises:
        MediaError: it is missing, empty, unreadable, no audio, or holds no sound; one line.
    """
    status = status_of(path)
    soundfile = soundfile_module()
    try:
        # By its descriptor: libsndfile asks a file object of Python's for positions that raise, with a damaged header.
        with path.open("rb") as file, soundfile.SoundFile(file.fileno(), closefd=False) as sound:
            info = TrackInfo(
                path=path,
                title=printable(sound.title) or printable(shown(Path(path.stem))),
                artist=printable(sound.artist),
                album=printable(sound.album),
                size_bytes=status.st_size,
                mtime_ns=mtime_ns(status),
                rate_hz=sound.samplerate,
                frames=sound.frames if sound.format != "OGG" else _ogg_frames(file, sound.frames, sound.samplerate),
                channels=sound.channels,
                format=sound.format,
                subtype=sound.subtype,
            )
    except OSError as error:
        raise unreadable(path, error) from None
    except (soundfile.SoundFileError, ValueError, RuntimeError) as error:
        info = _inspect_otherwise(path, sound_reason(error))
    _refuse_odd(info)
    return info


def mtime_ns(status: os.stat_result) -> int:
    """Return when a file was changed, nanoseconds since 1970, as far as 64 bits hold it: from 1677 to 2262.

    A wall clock that was wrong by centuries leaves such files behind, and no table has room for their times.
    """
    return max(-(1 << 63), min(status.st_mtime_ns, (1 << 63) - 1))


def status_of(path: Path) -> os.stat_result:
    """Return the status of an ordinary file that is not empty.

    Raises:
        MediaError: it is missing, empty, or no such file; one line.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise unreadable(path, error) from None
    except ValueError:
        raise _impossible(path) from None
    if not stat.S_ISREG(status.st_mode):
        what = "a folder and " if stat.S_ISDIR(status.st_mode) else ""
        raise MediaError(f"{shown(path)} is {what}no ordinary file: name a music file")
    if status.st_size == 0:
        raise MediaError(f"{shown(path)} is empty (0 bytes): copy it again")
    return status


def _ogg_frames(file: BinaryIO, frames: int, rate_hz: int) -> int:
    """Return how long an Ogg file's first recording is: of several in a row libsndfile says no length."""
    if frames <= MAX_FRAMES:
        return frames
    pages = read_pages(file)
    return pages.frame_at(pages.runs[-1].end_granule, rate_hz) if pages.runs else 0


def _inspect_otherwise(path: Path, reason: str) -> TrackInfo:
    """Return what libav makes of a file that libsndfile refuses for a reason."""
    # Here, and not above: that module needs this one, and most files never need that one.
    from musicsyncd.media.libav import container_kind, inspect_libav

    kind = container_kind(path)
    if not kind:
        raise MediaError(f"{shown(path)} is no music that can be played: {reason}")
    return inspect_libav(path, kind)


def header_bytes(path: Path) -> bytes:
    """Return a file's first bytes, 16 or fewer, those of an ID3v2 tag passed over.

    Raises:
        MediaError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            file.seek(after_id3(file))
            return file.read(16)
    except OSError as error:
        raise unreadable(path, error) from None


def after_id3(file: BinaryIO) -> int:
    """Return where the sound of a file begins: behind an ID3v2 tag, or at 0; the file is at its start."""
    start = file.read(10)
    if start[:3] != b"ID3" or len(start) < 10:
        return 0
    # ID3v2.4, 6.2: seven bits in each byte; the header itself is not counted.
    return 10 + sum((byte & 0x7F) << shift for byte, shift in zip(start[6:], (21, 14, 7, 0), strict=True))


def content_id(path: Path) -> bytes:
    """Return the content id of a file.

    Raises:
        MediaError: it cannot be read, or was written to in the meantime.
    """
    try:
        with path.open("rb", buffering=0) as file:
            before = os.fstat(file.fileno())
            hashed = content_id_of(file)
            after = os.fstat(file.fileno())
    except OSError as error:
        raise unreadable(path, error) from None
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise MediaError(f"{shown(path)} is being written to: play it when it is finished")
    return hashed


def content_id_of(file: io.FileIO | io.BufferedRandom) -> bytes:
    """Return the content id of an open file, the SHA-256 of its bytes, 32 bytes; it is read from its start."""
    file.seek(0)
    return hashlib.file_digest(file, "sha256").digest()


def to_track(info: TrackInfo, content_id: bytes, gain_db: float = 0.0) -> Track:
    """Return what travels in a time line of a file that was inspected and hashed, to be played so much louder."""
    return Track(
        content_id=content_id,
        size_bytes=info.size_bytes,
        rate_hz=info.rate_hz,
        frames=info.frames,
        channels=info.channels,
        gain_db=gain_db,
    )


def sound_reason(error: BaseException) -> str:
    """Return libsndfile's own words of what is wrong, without the name of our file object."""
    text = str(getattr(error, "error_string", "") or error)
    return printable(text).rstrip(".") or type(error).__name__


def unreadable(path: Path, error: OSError) -> MediaError:
    """Return what is said of a file that the system does not give."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return MediaError(f"there is no {shown(path)}: check the path")
    return MediaError(f"{shown(path)} cannot be read: {error.strerror or error}")


def _impossible(path: Path) -> MediaError:
    """Return what is said of a zero byte and of half a surrogate pair: no file system has such names."""
    return MediaError(f"{shown(path)} cannot be the path of a file: check what was sent")


def _refuse_odd(info: TrackInfo) -> None:
    """Raise MediaError for what a header may say and a time line cannot hold."""
    name = shown(info.path)
    if info.frames <= 0:
        raise MediaError(f"{name} holds no sound (0 frames): it was cut off, copy it again")
    if info.frames > MAX_FRAMES:
        # libsndfile's answer for a FLAC that was streamed and never got its length written.
        raise MediaError(f"{name} does not say how long it is: write it anew (flac FILE, ffmpeg -i FILE)")
    if info.rate_hz not in _RATES_HZ or info.channels not in _CHANNELS:
        raise MediaError(f"{name} has {info.channels} channels at {info.rate_hz} Hz: no such sound can be played")


def walk(roots: Iterable[str]) -> Iterator[list[str]]:
    """Yield the music in folders and below them, folder by folder, each real folder once.

    A folder that is there and cannot be read yields nothing in it. Who asks says where to end:
    more than :data:`MAX_FOLDERS` are no library.
    """
    waiting = list(roots)[::-1]
    seen: set[tuple[int, int]] = set()
    while waiting:
        folder = waiting.pop()
        try:
            status = os.stat(folder)
        except (OSError, ValueError):
            continue
        if (status.st_dev, status.st_ino) in seen:
            continue  # Symbolic links lead here a second time.
        seen.add((status.st_dev, status.st_ino))
        below: list[str] = []
        files: list[str] = []
        with contextlib.suppress(OSError):
            below, files = look_into(folder)
        waiting += reversed(below)
        yield files


def look_into(folder: str) -> tuple[list[str], list[str]]:
    """Return the paths of the folders in a folder and those of its music, the hidden ones left out.

    Raises:
        OSError: it cannot be read.
    """
    folders: list[str] = []
    files: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if _is_folder(entry):
                folders.append(entry.path)
            elif os.path.splitext(entry.name)[1].lower() in AUDIO_SUFFIXES:
                files.append(entry.path)
    return folders, files


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # A link that leads to itself.
        return False


def natural_key(path: str) -> list[list[str | int]]:
    """Return a key by which track 2 comes before track 10, folder by folder."""
    return [
        # Pieces alternate between text and number, so two keys never compare one with the other.
        [int(piece) if piece.isdecimal() else piece for piece in _DIGITS.split(part.casefold())]
        for part in path.split("/")
    ]
