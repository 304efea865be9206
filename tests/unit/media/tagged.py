"""Files with tags, byte by byte: as people have them, and as nobody should."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path

PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(64)
JPEG = b"\xff\xd8\xff\xe0" + bytes(64)
GIF = b"GIF89a" + bytes(64)
WEBP = b"RIFF\x40\0\0\0WEBP" + bytes(64)


def comment(*pairs: str | bytes) -> bytes:
    """A Vorbis comment: ``NAME=value`` each."""
    pieces = [struct.pack("<I", 4) + b"test" + struct.pack("<I", len(pairs))]
    for pair in pairs:
        raw = pair.encode() if isinstance(pair, str) else pair
        pieces.append(struct.pack("<I", len(raw)) + raw)
    return b"".join(pieces)


def picture(data: bytes, kind: int = 3, mime: bytes = b"image/png") -> bytes:
    """A FLAC picture block; kind 3 is the front, 4 the back."""
    return struct.pack(">II", kind, len(mime)) + mime + bytes(4) + bytes(16) + struct.pack(">I", len(data)) + data


def flac(*pairs: str | bytes, pictures: Iterable[bytes] = (), seconds: float = 2.0, rate_hz: int = 44_100) -> bytes:
    """A FLAC file's header; there is no sound behind it, which no reader of tags minds."""
    frames = round(seconds * rate_hz)
    info = struct.pack(">HH", 4096, 4096) + bytes(6) + struct.pack(">Q", rate_hz << 44 | 1 << 41 | 15 << 36 | frames)
    blocks = [(0, info + bytes(16)), (4, comment(*pairs)), *((6, one) for one in pictures)]
    data = b"fLaC"
    for index, (kind, block) in enumerate(blocks):
        last = 0x80 if index == len(blocks) - 1 else 0
        data += bytes([kind | last]) + len(block).to_bytes(3, "big") + block
    return data + bytes(100)


def text_frame(name: bytes, text: str) -> bytes:
    """An ID3v2.4 frame in UTF-8."""
    raw = b"\x03" + text.encode()
    return name + _synchsafe(len(raw)) + bytes(2) + raw


def own_frame(name: str, text: str) -> bytes:
    """A TXXX frame, for what ID3 has no frame of its own."""
    return text_frame(b"TXXX", f"{name}\0{text}")


def id3(*frames: bytes) -> bytes:
    """An ID3v2.4 tag."""
    data = b"".join(frames)
    return b"ID3\x04\0\0" + _synchsafe(len(data)) + data


def m4a(seconds: float = 2.0, **texts: str) -> bytes:
    """An M4A file's header: keywords are names of its own fields, others are iTunes' free ones."""
    own = {"title": b"\xa9nam", "artist": b"\xa9ART", "album": b"\xa9alb"}
    items = b""
    for name, text in texts.items():
        value = _atom(b"data", struct.pack(">II", 1, 0) + text.encode())
        if name in own:
            items += _atom(own[name], value)
        else:
            about = _atom(b"mean", bytes(4) + b"com.apple.iTunes") + _atom(b"name", bytes(4) + name.encode())
            items += _atom(b"----", about + value)
    header = _atom(b"mvhd", struct.pack(">IIIII", 0, 0, 0, 1000, round(1000 * seconds)) + bytes(80))
    sound = bytes(6) + struct.pack(">HHHI", 1, 0, 0, 0) + struct.pack(">HHHHHH", 2, 16, 0, 0, 44_100, 0)
    esds = _atom(b"esds", bytes(4) + b"\x03\x15\0\0\0\x04\x0d\x40" + bytes(12))
    description = _atom(b"stsd", struct.pack(">II", 0, 1) + _atom(b"mp4a", sound + esds))
    track = _atom(b"trak", _atom(b"mdia", _atom(b"minf", _atom(b"stbl", description))))
    meta = _atom(b"meta", bytes(4) + _atom(b"ilst", items))
    return _atom(b"ftyp", b"M4A \0\0\0\0") + _atom(b"moov", header + track + _atom(b"udta", meta))


def put(path: Path, data: bytes) -> Path:
    """Write a file, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def _atom(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", 8 + len(data)) + kind + data


def _synchsafe(number: int) -> bytes:
    return bytes(number >> shift & 0x7F for shift in (21, 14, 7, 0))
