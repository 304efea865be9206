"""Makes the pictures of the page that the README shows, from a real host that plays to real speakers.

    python tests/bench/screenshots.py [--into docs/screenshots] [--seconds N]

The speakers play on the tests' virtual cards, whose crystals are wrong by some ppm each. Their sync errors are seen for
``--seconds`` before the pictures are taken. Needs playwright, chromium, gcc and libasound2-dev.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

sys.path += [str(Path(__file__).parents[1] / folder) for folder in ("e2e", "rig")]

from house import House, build_card
from pages import PHONE, Link, Song, chromium, context_of, new_link, signed_in, write_songs

from musicsyncd.system.control_client import api_path

ROOT = Path(__file__).parents[2]
WIDE = (1440, 900)
PHONE_SCALE = 2

SONGS = [
    Song(title, artist, album, seconds)
    for artist, album, tracks in (
        ("Marta Linde", "Low Water", (("Slow Tide", 201), ("Lanterns", 187), ("A Field, Early", 243))),
        ("The Quiet Hours", "Northern Line", (("Paper Boats", 174), ("Windows", 221), ("Last Stop", 199))),
        ("Ida Holm", "Ember Days", (("Glass Harbour", 232), ("Ember", 208))),
    )
    for title, seconds in tracks
]
ROOM = "Living room"
SPEAKERS = {"Bookshelf": ROOM, "Window": ROOM, "Kitchen": ROOM, "Study": "Upstairs"}
CARDS_PPM = (37.0, -52.0, 8.0, -21.0)


@dataclass(frozen=True, slots=True)
class Picture:
    """One file to be made: how wide the window is, which theme, and which part of the page a phone shows."""

    name: str
    size: tuple[int, int]
    scheme: str
    view: str = "playing"


PICTURES = (
    Picture("page-light", WIDE, "light"),
    Picture("page-dark", WIDE, "dark"),
    Picture("phone-playing", PHONE, "light"),
    Picture("phone-queue", PHONE, "dark", "queue"),
    Picture("phone-speakers", PHONE, "light", "speakers"),
)


def main() -> int:
    """Make the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--into", type=Path, default=ROOT / "docs" / "screenshots", help="folder for the pictures")
    parser.add_argument("--seconds", type=float, default=75.0, help="of music before they are taken")
    options = parser.parse_args()
    options.into.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        house = House(build_card(Path(folder)))
        try:
            furnish(house)
            time.sleep(options.seconds)
            take(new_link(house), options.into)
        finally:
            house.close()
    return 0


def furnish(house: House) -> None:
    """Start a host with music and speakers in two rooms, and let it play."""
    paths = write_songs(house.folder / "music", SONGS, seed=5)
    house.host("--library", str(house.folder / "music"), "--name", "den")
    house.until("the library is known", lambda: house.client.get("/api/library")["scan"]["looked_s_ago"] is not None)
    for room in sorted(set(SPEAKERS.values())):
        house.client.post("/api/rooms", {"name": room})
    for name, ppm in zip(SPEAKERS, CARDS_PPM, strict=True):
        house.peer(name, ppm=ppm)
    house.until("all speakers are there", lambda: len(house.status()["peers"]) == len(SPEAKERS))
    for level, (name, room) in enumerate(SPEAKERS.items()):
        house.client.post(f"/api/peers/{name}/room", {"room": room})
        house.client.post(f"/api/peers/{name}/volume", {"volume": str(90 - 9 * level)})
    house.client.delete("/api/rooms/main")
    house.client.post(api_path("rooms", ROOM, "volume"), {"volume": "42"})
    house.client.post(api_path("rooms", ROOM, "queue", "add"), {"tracks": [str(path) for path in paths]})
    house.client.post(api_path("rooms", ROOM, "queue", "jump"), {"position": 3})
    house.together(*(name for name, room in SPEAKERS.items() if room == ROOM))


def take(link: Link, folder: Path) -> None:
    """Take every picture."""
    with chromium() as browser:
        for picture in PICTURES:
            scale = PHONE_SCALE if picture.size == PHONE else 1
            context = context_of(browser, picture.size, picture.scheme, device_scale_factor=scale)
            page = signed_in(context.new_page(), link)
            page.wait_for_function("() => document.querySelector('#cover').naturalWidth > 0")
            if picture.size == PHONE:
                page.locator(f"[data-show={picture.view}]").tap()
            page.wait_for_timeout(1500)
            path = folder / f"{picture.name}.png"
            page.screenshot(path=path)
            print(f"{path} {path.stat().st_size / 1000:.0f} kB")
            context.close()


if __name__ == "__main__":
    sys.exit(main())
