"""What the page costs and how quick it is: its size, when it can be used, from a tap to the wire, and a hundred open.

    python tests/bench/page.py [--rounds N] [--seconds N] [--markdown]

*Size* is of all files that a host serves as the page, as they lie in the package. *Usable* is from the start of the
navigation, in the browser's own clock, until rooms and speakers are shown and the play button can be pressed; first
with an empty browser that signs in by a link, then again by its cookie. *From a tap to the wire* is from the event of
the click, in the browser, to the first datagram that says the change: a socket in the group hears all, and knows a
change by its repetitions 20, 60 and 140 ms later. *Open pages* are WebSockets that read as pages do, from a process of
their own; the host's CPU is what the kernel has counted for it. Nothing plays at first, with two speakers there.

A benchmark: it prints, beside each limit, and fails nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gzip
import os
import socket
import statistics
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

sys.path += [str(Path(__file__).parents[1] / folder) for folder in ("e2e", "rig")]

from house import House
from pages import PHONE, Link, Song, chromium, context_of, new_link, signed_in, write_songs
from tables import machine_kind, markdown, plain

import musicsyncd
from musicsyncd.config import NetworkConfig

if TYPE_CHECKING:
    from playwright.sync_api import Browser

MAX_SIZE_KB, MAX_USABLE_MS, MAX_WIRE_MS, MAX_CPU_PERCENT = 150, 500, 50, 5
PAGES, PAGES_AN_ADDRESS = 100, 50

REPEATED_MS, SLACK_MS = (20.0, 60.0), 12.0
"""After which a change is said again, as the host does, and how late a noisy machine may be with it."""

USABLE = """
new MutationObserver((_, observer) => {
  const play = document.querySelector("#play");
  if (!play || play.disabled || !document.querySelector("#rooms .speaker")) return;
  window.usableMs = performance.now();
  observer.disconnect();
}).observe(document, {subtree: true, childList: true, attributes: true});
"""

TAPS = """
window.taps = [];
addEventListener("click", (event) => window.taps.push(performance.timeOrigin + event.timeStamp), true);
"""


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15, help="of opening the page, and of taps")
    parser.add_argument("--seconds", type=float, default=20.0, help="for which the open pages are watched")
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--hold", nargs=3, metavar=("PORT", "TOKEN", "PAGES"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.hold:
        asyncio.run(hold(int(options.hold[0]), options.hold[1], int(options.hold[2])))
        return 0
    rows = [["what", "median", "worst", "limit"], *size_rows()]
    house = House(Path("no speaker of this house has a card"))
    try:
        furnish(house)
        with chromium() as browser:
            rows += usable_rows(browser, new_link(house), options.rounds)
            rows += wire_rows(browser, house, options.rounds)
        rows += open_rows(house, options.seconds)
    finally:
        house.close()
    print(machine_kind())
    print(markdown(rows) if options.markdown else plain(rows))
    return 0


def furnish(house: House) -> None:
    """Start a host with some music and two speakers."""
    paths = write_songs(house.folder / "music", [Song("Slow Tide", "Marta Linde", "Low Water", 600.0)])
    house.host("--library", str(house.folder / "music"))
    house.until("the library is known", lambda: house.client.get("/api/library")["scan"]["looked_s_ago"] is not None)
    for name in ("shelf", "window"):
        house.peer(name, "--output", "null")
    house.until("the speakers are there", lambda: len(house.status()["peers"]) == 2)
    house.client.post("/api/rooms/main/queue/add", {"tracks": [str(path) for path in paths] * 20})


def size_rows() -> list[list[str]]:
    """Return how large the page's files are."""
    files = [path.read_bytes() for path in (Path(musicsyncd.__file__).parent / "web").rglob("*") if path.is_file()]
    packed = sum(len(gzip.compress(data, 9)) for data in files)
    size = f"{sum(map(len, files)) / 1000:.1f} kB"
    return [
        [f"size of the page's {len(files)} files", size, "", f"{MAX_SIZE_KB} kB"],
        ["… packed, as they are sent", f"{packed / 1000:.1f} kB", "", ""],
    ]


def figures(what: str, values_ms: list[float], limit_ms: float) -> list[str]:
    """Return a row of milliseconds."""
    if not values_ms:
        return [what, "–", "–", f"{limit_ms:g} ms"]
    return [what, f"{statistics.median(values_ms):.0f} ms", f"{max(values_ms):.0f} ms", f"{limit_ms:g} ms"]


def usable_rows(browser: Browser, link: Link, rounds: int) -> list[list[str]]:
    """Return when the page can be used: opened by a link in an empty browser, and again."""
    first, again = [], []
    for _ in range(rounds):
        context = context_of(browser, PHONE)
        context.add_init_script(USABLE)
        page = context.new_page()
        page.goto(link.url)
        first.append(page.wait_for_function("() => window.usableMs").json_value())
        page.reload()
        again.append(page.wait_for_function("() => window.usableMs").json_value())
        context.close()
    return [
        figures("usable, by a link, nothing in the browser's cache", first, MAX_USABLE_MS),
        figures("usable, opened again", again, MAX_USABLE_MS),
    ]


def wire_rows(browser: Browser, house: House, rounds: int) -> list[list[str]]:
    """Return what lies between a tap on the page and the first datagram that says what it changed."""
    context = context_of(browser, PHONE)
    context.add_init_script(TAPS)
    page = signed_in(context.new_page(), new_link(house))
    # The two clocks are read as close together as it goes; the least of many differences has the least delay in it.
    ahead_ms = min(time.time() * 1000 - page.evaluate("performance.timeOrigin + performance.now()") for _ in range(50))
    with listening(house.port) as heard:
        for tap in range(rounds):
            page.locator("#room-mute").tap()
            page.wait_for_timeout(431 + 37 * (tap % 7))  # Not in step with the beacons, four a second.
    taps = [tap_ms + ahead_ms for tap_ms in page.evaluate("window.taps")]
    context.close()
    found = [change_ms - tap_ms for tap_ms in taps if (change_ms := first_change(heard, tap_ms)) is not None]
    what = f"from a tap to the wire ({len(found)} of {len(taps)} found)"
    return [figures(what, found, MAX_WIRE_MS)]


def first_change(heard: list[float], after_ms: float) -> float | None:
    """Return when the first datagram after an instant came that was repeated as changes are."""
    later = [one for one in heard if after_ms <= one <= after_ms + 400]
    for one in later:
        if all(any(abs(other - one - gap) < SLACK_MS for other in later) for gap in REPEATED_MS):
            return one
    return None


@contextmanager
def listening(port: int) -> Iterator[list[float]]:
    """Note when datagrams come to the group, day time in ms."""
    heard: list[float] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ear:
        ear.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        group = NetworkConfig(port).group
        ear.bind((group, port))
        ear.setsockopt(
            *(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP),
            struct.pack("4s4s", socket.inet_aton(group), socket.inet_aton("127.0.0.1")),
        )
        ear.settimeout(0.2)
        done = threading.Event()

        def listen() -> None:
            while not done.is_set():
                with contextlib.suppress(TimeoutError):
                    ear.recv(2048)
                    heard.append(time.time() * 1000)

        thread = threading.Thread(target=listen)
        thread.start()
        try:
            yield heard
        finally:
            done.set()
            thread.join()


def open_rows(house: House, seconds: float) -> list[list[str]]:
    """Return what the host's CPU is with no page open and with many, while nothing plays and while it plays."""
    rows = []
    for state in ("nothing plays", "it plays"):
        if state == "it plays":
            house.client.post("/api/rooms/main/play")
            house.together("shelf", "window")
        time.sleep(2.0)
        alone = cpu_percent(house, seconds)
        link = new_link(house, "listen")
        command = [sys.executable, __file__, "--hold", str(house.port), link.token, str(PAGES)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as pages:
            assert pages.stdout is not None
            assert pages.stdout.readline().strip() == "all open"
            time.sleep(2.0)
            among = cpu_percent(house, seconds)
            pages.terminate()
        limit = f"{MAX_CPU_PERCENT} %" if state == "nothing plays" else ""
        what = f"{PAGES} open pages, {state}: CPU of the host beyond its {alone:.1f} %"
        rows.append([what, f"{among - alone:.1f} %", "", limit])
    return rows


def cpu_percent(house: House, seconds: float) -> float:
    """Return what share of a core the host takes, in percent."""
    host = next(one for one in house.started if one.name == "host")

    def used_s() -> float:
        after_name = Path(f"/proc/{host.process.pid}/stat").read_text().rpartition(")")[2].split()
        return sum(int(ticks) for ticks in after_name[11:13]) / os.sysconf("SC_CLK_TCK")

    began, before = time.monotonic(), used_s()
    time.sleep(seconds)
    return 100 * (used_s() - before) / (time.monotonic() - began)


async def hold(port: int, token: str, count: int) -> None:
    """Open this many pages' connections, and read them until the process is ended."""
    import aiohttp

    async def read(address: str) -> None:
        connector = aiohttp.TCPConnector(local_addr=(address, 0))
        headers = {"Authorization": f"Bearer {token}"}
        async with aiohttp.ClientSession(connector=connector, headers=headers) as session:
            async with coming:
                events = await session.ws_connect(f"http://127.0.0.1:{port}/api/events", max_msg_size=1 << 22)
                await events.receive()
            opened.release()
            async for _ in events:
                pass

    # A host lets in few strangers at a time, and so many connections from one address; all of 127.0.0.0/8 is here.
    coming, opened = asyncio.Semaphore(4), asyncio.Semaphore(0)
    tasks = [asyncio.create_task(read(f"127.0.0.{1 + page // PAGES_AN_ADDRESS}")) for page in range(count)]

    async def tell() -> None:
        for _ in range(count):
            await opened.acquire()
        print("all open", flush=True)

    # Together, so that a page that is refused ends all at once and says why.
    await asyncio.gather(tell(), *tasks)


if __name__ == "__main__":
    sys.exit(main())
