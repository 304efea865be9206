"""How fast tracks are decoded ahead, and how long a seek waits.

``python tests/bench/media.py [--seconds N] [--runs N]``

Prints, for each format: how many times faster than real time one thread decodes through
DecodeAhead from a file and through the store, the CPU that a second of audio costs, and the
time from want() at a random place to ready there, with four seconds of decode-ahead going on. Then, for what
the host turns into FLAC before it plays: how long that takes.
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

from musicsyncd.media.convert import convert
from musicsyncd.media.decoder import CHUNK_FRAMES, DecodeAhead, Want
from musicsyncd.media.inspect import content_id, inspect, to_track
from musicsyncd.media.store import Store
from musicsyncd.playback.timeline import Track

RATE_HZ = 44_100
AHEAD_FRAMES = 4 * RATE_HZ
KINDS = (("wav", "PCM_16"), ("flac", "PCM_16"), ("opus", "OPUS"))
"""What travels as it is."""

CONVERTED = (("mp3", "MPEG_LAYER_III"), ("ogg", "VORBIS"))


def make_music(path: Path, subtype: str, seconds: int) -> None:
    """Write pink-ish noise with tones: as hard to code as music is."""
    generator = np.random.default_rng(1)
    rate_hz, container = (48_000, "OGG") if subtype == "OPUS" else (RATE_HZ, None)
    with soundfile.SoundFile(path, "w", rate_hz, 2, subtype, format=container) as file:
        for second in range(seconds):
            frames = np.arange(second * RATE_HZ, (second + 1) * RATE_HZ)[:, None]
            noise = np.cumsum(generator.standard_normal((RATE_HZ, 2)), axis=0)
            noise -= np.linspace(noise[0], noise[-1], RATE_HZ)
            file.write(0.2 * np.sin(frames * (0.03, 0.05)) + 0.1 * noise / np.abs(noise).max())


def wait_ready(decoding: DecodeAhead, track: Track, frame: int) -> None:
    """Wait without taking the decoding thread's processor."""
    while not decoding.ready(track, frame):
        time.sleep(0.0002)


def throughput(decoding: DecodeAhead, track: Track) -> tuple[float, float]:
    """Decode a whole track as a room would; return times real time, and CPU ms a second of audio."""
    began_s, cpu_s = time.perf_counter(), time.process_time()
    for first in range(0, track.frames, AHEAD_FRAMES):
        frames = min(AHEAD_FRAMES, track.frames - first)
        decoding.want([Want(track, first, frames)])
        while not decoding.ready(track, first + frames - 1):
            time.sleep(0.002)
    seconds = track.frames / track.rate_hz
    return seconds / (time.perf_counter() - began_s), 1000 * (time.process_time() - cpu_s) / seconds


def seeks(decoding: DecodeAhead, track: Track, runs: int) -> list[float]:
    """Seek while decoding ahead goes on; return the milliseconds until the frame is there."""
    generator = np.random.default_rng(2)
    took = []
    for _ in range(runs):
        frame = int(generator.integers(0, track.frames - AHEAD_FRAMES))
        began_s = time.perf_counter()
        decoding.want([Want(track, frame, AHEAD_FRAMES)])
        wait_ready(decoding, track, frame)
        took.append(1000 * (time.perf_counter() - began_s))
        # The next seek comes while the decode-ahead of this one is under way.
        wait_ready(decoding, track, frame + 3 * CHUNK_FRAMES)
    return took


def conversion(path: Path, folder: Path) -> tuple[float, float, float]:
    """Turn a file into FLAC; return seconds, seconds of CPU, and how many times larger it is then."""
    info = inspect(path)
    began_s, cpu_s = time.perf_counter(), time.process_time()
    with (folder / "converted.flac").open("w+b") as file:
        convert(info, file, lambda _done, _all: None)
    took_s, cpu_s = time.perf_counter() - began_s, time.process_time() - cpu_s
    return took_s, cpu_s, (folder / "converted.flac").stat().st_size / info.size_bytes


def print_conversions(folder: Path, seconds: int) -> None:
    """Print what it takes to turn each kind of file into FLAC."""
    print("\nformat  into FLAC: s   × real time  CPU ms/s   size")
    for kind, subtype in CONVERTED:
        path = folder / f"converted.{kind}"
        make_music(path, subtype, seconds)
        took_s, cpu_s, larger = min(conversion(path, folder) for _ in range(3))
        print(f"{kind:6}  {took_s:12.2f}   {seconds / took_s:11.0f}  {1000 * cpu_s / seconds:8.2f}   × {larger:.1f}")


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=180, help="length of the track")
    parser.add_argument("--runs", type=int, default=60, help="seeks of each kind")
    arguments = parser.parse_args()
    print(f"soundfile {soundfile.__version__}, {soundfile.__libsndfile_version__}")
    print(f"{arguments.seconds} s of stereo at 44.1 kHz")
    print("format  from   × real time  CPU ms/s   seek p50    p95    max ms")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = Store(folder / "cache", 1 << 32)
        for kind, subtype in KINDS:
            path = folder / f"music.{kind}"
            make_music(path, subtype, arguments.seconds)
            track = to_track(inspect(path), content_id(path))
            stored = store.open(track)
            stored.write(0, path.read_bytes())
            assert hashlib.sha256(path.read_bytes()).digest() == track.content_id
            openers = {"file": lambda _track, path=path: path.open("rb"), "store": lambda _track, s=stored: s.reader()}
            for source, opener in openers.items():
                decoding = DecodeAhead(opener, 2)
                speed, cpu_ms = throughput(decoding, track)
                took = sorted(seeks(decoding, track, arguments.runs))
                decoding.close()
                print(
                    f"{kind:6}  {source:5}  {speed:8.0f}     {cpu_ms:6.2f}"
                    f"   {statistics.median(took):8.1f} {took[int(len(took) * 0.95)]:6.1f} {took[-1]:6.1f}"
                )
        print_conversions(folder, arguments.seconds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
