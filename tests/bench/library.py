"""How fast a library is scanned, and how fast it is searched.

``python tests/bench/library.py [--files N] [--rows N]``

Makes FLAC files of a tenth of a second with tags in folders of ten and prints how many a second a first
scan takes in, with the index, and how long the second one takes that finds nothing new. Then fills an index with
made-up tracks and prints how long searches take. Goals: 300 tracks a second, 20 ms a search among 100,000.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

from musicsyncd.media.library import Library, Read, Stamp
from musicsyncd.media.tags import Tags
from musicsyncd.system.librarian import take_in
from musicsyncd.system.library_index import LibraryIndex

SEARCHES = ("moon", "a", "the r", "golden river", "blue bird love night", "artist 17", "s", "nothing-like-it", "öde m")
RUNS = 20


def make_files(folder: Path, count: int) -> None:
    """Write tagged FLAC files, ten to an album."""
    noise = 0.1 * np.random.default_rng(1).standard_normal(4410)
    for number in range(count):
        album = folder / f"artist {number // 100}" / f"album {number // 10}"
        album.mkdir(parents=True, exist_ok=True)
        with soundfile.SoundFile(album / f"{number % 10 + 1:02}.flac", "w", 44_100, 1) as file:
            file.title, file.artist, file.album = f"title {number}", f"artist {number // 100}", f"album {number // 10}"
            file.tracknumber, file.date = str(number % 10 + 1), "1999"
            file.write(noise)


def made_up(count: int) -> list[Read]:
    """Return tracks with names of a few hundred words, some much more common than others."""
    chance = random.Random(1)
    words = ["the", "a", "love", "night", "blue", "river", "moon", "golden", "bird", "rain", "öde", "fire", "dance"]
    words += [f"{first}{last}" for first in ("sun", "sea", "wind", "stone", "red") for last in words]
    weights = [1.0 / (place + 1) for place in range(len(words))]
    reads = []
    for number in range(count):
        artist, album = f"artist {number // 100} {chance.choices(words, weights)[0]}", f"album {number // 10}"
        title = " ".join(chance.choices(words, weights, k=3))
        path = f"/music/{artist}/{album}/{number % 10 + 1:02} {title}.flac"
        tags = Tags(
            title, artist, album, track=number % 10 + 1, year=1960 + number % 60, duration_s=240, rate_hz=44_100
        )
        reads.append(Read(path, Stamp(number, number), tags))
    return reads


def scan(folder: Path, index: LibraryIndex) -> float:
    """Look through a folder once; return the seconds it took."""
    began_s = time.perf_counter()
    library = Library([str(folder)])
    take_in(library.look_through(index.stamps()), index)
    return time.perf_counter() - began_s


def main() -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=5_000)
    parser.add_argument("--rows", type=int, default=100_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_files(folder / "music", arguments.files)
        index = LibraryIndex(folder / "scanned.sqlite3")
        first_s, again_s = scan(folder / "music", index), scan(folder / "music", index)
        index.close()
        print(f"scan of {arguments.files:,} FLAC files: {arguments.files / first_s:,.0f} tracks/s")
        print(f"scan again, nothing new: {again_s:.2f} s, {arguments.files / again_s:,.0f} files/s")
        index = LibraryIndex(folder / "made-up.sqlite3")
        began_s = time.perf_counter()
        reads = made_up(arguments.rows)
        for first in range(0, len(reads), 500):
            index.apply(reads[first : first + 500])
        print(f"index of {arguments.rows:,} tracks: {arguments.rows / (time.perf_counter() - began_s):,.0f} rows/s")
        for words in SEARCHES:
            took_ms = []
            for _ in range(RUNS):
                began_s = time.perf_counter()
                found = index.search(words, 50)
                took_ms.append(1000 * (time.perf_counter() - began_s))
            p50_ms = statistics.median(took_ms)
            print(f"search {words!r:24} {len(found):3} shown  p50 {p50_ms:6.2f} ms  max {max(took_ms):6.2f} ms")
        for what, ask in (("counts", index.counts), ("albums", index.albums), ("artists", index.artists)):
            began_s = time.perf_counter()
            ask()
            print(f"{what}: {1000 * (time.perf_counter() - began_s):.0f} ms")
        index.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
