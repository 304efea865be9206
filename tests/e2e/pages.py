"""What the tests and benchmarks of the page share: a browser, music with covers to show, and links to sign in by.

The browser is Debian's chromium, driven by Playwright. It resolves nothing and reaches nothing but loopback: the page
must come with all that it needs.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile
from house import House, need

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

CHROMIUM = Path(os.environ.get("MUSICSYNCD_CHROMIUM", "/usr/bin/chromium"))
ARGUMENTS = ("--no-sandbox", "--disable-dev-shm-usage", "--autoplay-policy=no-user-gesture-required")
RATE_HZ = 8_000

DESKTOP = (1440, 900)
PHONE = (390, 844)
SMALL_PHONE = (360, 640)


@dataclass(frozen=True, slots=True)
class Song:
    """A track to be written: what its tags say, and how long it is."""

    title: str
    artist: str
    album: str
    seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class Link:
    """A way into the page."""

    id: str
    token: str
    url: str


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start a browser for as long as it is needed."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        need(False, "playwright")
    need(CHROMIUM.exists(), "chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=list(ARGUMENTS))
        try:
            yield browser
        finally:
            browser.close()


def context_of(browser: Browser, size: tuple[int, int] = DESKTOP, scheme: str = "light", **more: Any) -> BrowserContext:
    """Return a browser's window of its own, with no cookies; a narrow one has a touch screen."""
    width, height = size
    return browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=scheme, has_touch=width < 700, **more
    )


def signed_in(page: Page, link: Link) -> Page:
    """Open the page by a link, and wait until it shows what the host says."""
    page.goto(link.url)
    page.wait_for_selector("#app:not([hidden])")
    page.wait_for_selector("#rooms .room", state="attached")
    return page


def new_link(house: House, role: str = "control", name: str = "") -> Link:
    """Make a link of a role, as ``musicsyncd link`` does, to the host's loopback address."""
    made = house.client.post("/api/links", {"role": role, "name": name})
    return Link(made["id"], made["token"], f"http://127.0.0.1:{house.port}/#{made['token']}")


def write_songs(folder: Path, songs: list[Song], seed: int = 1) -> list[Path]:
    """Write soft chords as FLAC, each album into a folder of its own with a picture beside it; return the files."""
    paths = []
    for number, song in enumerate(songs, 1):
        album = folder / "".join(letter if letter.isalnum() else "_" for letter in f"{song.artist} {song.album}")
        if not album.exists():
            album.mkdir(parents=True)
            (album / "cover.png").write_bytes(cover(seed + len(song.album)))
        path = album / f"{number:02}.flac"
        t = np.arange(round(song.seconds * RATE_HZ)) / RATE_HZ
        chord = sum(np.sin(2 * np.pi * pitch * t) for pitch in (220.0, 277.2, 220.0 + 5 * number)) * 0.03
        with soundfile.SoundFile(path, "w", RATE_HZ, 1) as file:
            file.title, file.artist, file.album, file.tracknumber = song.title, song.artist, song.album, str(number)
            file.write(chord)
        paths.append(path)
    return paths


_PALETTES = (
    ((0.96, 0.86, 0.66), (0.80, 0.36, 0.22), (0.12, 0.20, 0.30)),
    ((0.80, 0.89, 0.90), (0.16, 0.42, 0.50), (0.06, 0.12, 0.22)),
    ((0.95, 0.80, 0.78), (0.62, 0.24, 0.42), (0.17, 0.10, 0.26)),
)


def cover(seed: int, pixels: int = 640) -> bytes:
    """Return a sleeve as PNG: a sun over hills, another one for every seed."""
    chance = np.random.default_rng(seed)
    y, x = np.mgrid[0:pixels, 0:pixels] / pixels
    sky, sun, night = (np.array(color) for color in _PALETTES[seed % len(_PALETTES)])
    image = sky * (1 - y[..., None]) + (0.6 * sky + 0.4 * sun) * y[..., None]
    middle_x, middle_y = chance.uniform(0.3, 0.7), chance.uniform(0.3, 0.42)
    image = np.where((np.hypot(x - middle_x, y - middle_y) < 0.2)[..., None], sun, image)
    for hill in range(5):
        edge = 0.55 + 0.09 * hill + 0.05 * np.sin(2 * np.pi * x * (1 + 0.3 * hill) + 1.7 * hill + seed)
        image = np.where((y > edge)[..., None], 0.8 * sun * (1 - hill / 5) + 0.9 * night * (hill / 5 + 0.2), image)
    return png(np.round(np.clip(image, 0, 1) * 255).astype(np.uint8))


def png(image: np.ndarray) -> bytes:
    """Return a picture, uint8, (height, width, 3), as PNG (ISO/IEC 15948)."""
    height, width, _ = image.shape
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = b"".join(b"\0" + row.tobytes() for row in image)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body
