"""A browser as a speaker: a real chromium beside a native speaker on a card that remembers what it sounded.

The browser has no sound card: chromium plays into one that exists in its clock only, and says when which frame leaves
it, as with a real one. What it says to be heard is held against what the native speaker's card sounded, and what its
audio context was really given against what it says.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import measure
import numpy as np
import pytest
import truth
from house import PATIENCE_S, RATE_HZ, House, line_s, need
from pages import ARGUMENTS, CHROMIUM, new_link

WAYS = ("worklet", "calendar")
"""How a browser feeds its sound card: the first in secure contexts, of which loopback is one, the second everywhere."""

SONG_S = 40.0
"""The search for a place in a song takes twice as long beyond 43 s."""
OTHER_RATE_HZ = 44_100
LIMIT_S = 5e-3
READINGS = 20

JUMPS = "document.querySelector('#play-here').speaker.output.line.jumps"
STARVED = "document.querySelector('#play-here').speaker.output.figures.starvedFrames"
SEEN_WITHIN_S = 0.6
"""Until a page has seen that the sound card lost something: five of its looks."""

_numbers = count(1)

T = TypeVar("T")

RECORDER = """
registerProcessor("recorder", class extends AudioWorkletProcessor {
  process([[left]]) {
    if (left) this.port.postMessage({ frame: currentFrame, left: left.slice() });
    return true;
  }
});
"""

START = """
(way) => {
  const section = document.querySelector("#play-here");
  if (way === "calendar") section.dataset.worklet = "no";
  section.querySelector("button").click();
}
"""

RECORD = """
async ([code, seconds]) => {
  const { output, context } = document.querySelector("#play-here").speaker;
  const url = URL.createObjectURL(new Blob([code], { type: "text/javascript" }));
  await context.audioWorklet.addModule(url);
  const node = new AudioWorkletNode(context, "recorder", { channelCount: 2, channelCountMode: "explicit" });
  const blocks = [];
  node.port.onmessage = ({ data }) => blocks.push(data);
  output.input.connect(node).connect(context.destination);
  await new Promise((done) => setTimeout(done, seconds * 1000));
  output.input.disconnect(node);
  node.disconnect();
  const end = blocks.at(-1).frame, { speaker } = document.querySelector("#play-here");
  const frames = [1.0, 0.8, 0.6, 0.4, 0.2].map((before) => Math.round(end - before * context.sampleRate));
  return { rate: context.sampleRate, blocks: blocks.map(({ frame, left }) => [frame, [...left]]),
    places: frames.map((frame) => [frame, speaker.placeOf(frame)?.seconds ?? null]) };
}
"""


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, np.ndarray]]:
    """Two songs of different rates, with their samples in mono at the native card's rate."""
    folder = tmp_path_factory.mktemp("music")
    made = {}
    for seed, (name, rate_hz) in enumerate((("first", OTHER_RATE_HZ), ("second", RATE_HZ)), 11):
        path = folder / f"{name}.flac"
        samples = measure.source(str(path), rate_hz, SONG_S, seed)
        made[name] = (path, samples if rate_hz == RATE_HZ else truth.regrid(samples, rate_hz, RATE_HZ))
    return made


@pytest.fixture(scope="module")
def native(house: House, music) -> str:
    """A native speaker that plays in the room."""
    house.host(str(music["first"][0]), str(music["second"][0]))
    house.peer("native", ppm=30.0)
    house.together("native")
    return "native"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A browser that finds this machine's own name, and nothing else, on loopback."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        need(False, "playwright")
    need(CHROMIUM.exists(), "chromium")
    rule = f"--host-resolver-rules=MAP {socket.gethostname()} 127.0.0.1"
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=str(CHROMIUM), args=[*ARGUMENTS, rule])
        try:
            yield started
        finally:
            started.close()


@pytest.fixture(scope="module", params=WAYS)
def speaker(request, house: House, native, music, browser) -> Iterator[Speaking]:
    """A browser that plays, in one way and then in the other."""
    with window(browser) as page:
        speaking = Speaking(page, house, request.param)
        speaking.open("127.0.0.1")
        speaking.start()
        yield speaking


@contextlib.contextmanager
def window(browser: Any) -> Iterator[Any]:
    """A window with a memory of its own; the recorder is a script that the page's policy would not let in."""
    context = browser.new_context(bypass_csp=True)
    try:
        yield context.new_page()
    finally:
        context.close()


@pytest.fixture(autouse=True)
def beginning(house: House, native) -> None:
    """Every test has the first song from its beginning, with the second behind it."""
    play_from_the_beginning(house)


def play_from_the_beginning(house: House) -> None:
    house.jump(1)
    time.sleep(1.0)


class Speaking:
    """A page that plays."""

    def __init__(self, page: Any, house: House, way: str) -> None:
        self.page, self.house, self.way = page, house, way
        self.name = f"{way} {next(_numbers)}"
        self.offset_s = self.offset_half_s = 0.0

    def open(self, name: str) -> None:
        """Sign in by a link that may only listen."""
        url = new_link(self.house, "listen").url
        self.page.goto(url.replace("127.0.0.1", name))
        self.page.wait_for_selector("#play-here button", timeout=PATIENCE_S * 1000)
        self.page.fill("#play-here-name", self.name)

    def start(self) -> None:
        """Have it play, and wait until it says that it does so with the others."""
        self.page.evaluate(START, self.way)
        self.house.until("the browser is there", lambda: self.status().get("state") == "together")
        assert self.page.evaluate("document.querySelector('#play-here').speaker.output.way") == self.way

    def status(self) -> dict[str, Any]:
        """Return what the host says of it."""
        here = [one for one in self.house.status()["peers"] if one["reach"] == "web" and one["name"] == self.name]
        return here[0] if here else {}

    def synchronize(self) -> None:
        """Find out by how much the clock of the day is ahead of the page's, and how surely."""
        low, high = -np.inf, np.inf
        for _ in range(60):
            before = time.time()
            page_s = self.page.evaluate("performance.now()") / 1000
            low, high = max(low, before - page_s), min(high, time.time() - page_s)
        self.offset_s, self.offset_half_s = (low + high) / 2, (high - low) / 2

    def heard(self, readings: int = READINGS) -> np.ndarray:
        """Return rows of (time, place in the track in seconds or NaN) by what the page says."""
        self.synchronize()
        rows = []
        for _ in range(readings):
            now_ms, place = self.page.evaluate(
                "() => { const now = performance.now();"
                " return [now, document.querySelector('#play-here').speaker.heardAt(now)]; }"
            )
            rows.append((now_ms / 1000 + self.offset_s, np.nan if place is None else place["seconds"]))
            time.sleep(0.05)
        return np.array(rows)

    def undisturbed(self, take: Callable[[], T]) -> T:
        """Take readings in a time in which chromium's sound card lost nothing, as it does when the machine stalls."""
        end = time.monotonic() + PATIENCE_S
        while True:
            jumps = self.page.evaluate(JUMPS)
            taken = take()
            time.sleep(SEEN_WITHIN_S)
            if self.page.evaluate(JUMPS) == jumps or time.monotonic() > end:
                return taken

    def apart_s(self, source: np.ndarray, name: str = "native") -> np.ndarray:
        """Return by how much it is further in a song than a native speaker, at some instants."""
        rows = self.undisturbed(self.heard)
        assert not np.isnan(rows[:, 1]).any(), "it is silent"
        begun = line_s(self.house.heard(name, source, rows[0, 0], rows[-1, 0]))
        assert not np.isnan(begun), f"{name} does not play this song"
        return rows[:, 1] - (rows[:, 0] - begun)

    def must_be_in_step(self, source: np.ndarray, what: str) -> None:
        apart_s = self.apart_s(source)
        print(
            f"{self.way}: {what}: median {np.median(apart_s) * 1e3:+.2f} ms, most {np.abs(apart_s).max() * 1e3:.2f} ms,"
            f" the clocks compared to ±{self.offset_half_s * 1e3:.2f} ms"
        )
        figures = self.page.evaluate("document.querySelector('#play-here').speaker.figures")
        assert np.abs(apart_s).max() <= LIMIT_S, (what, figures, self.status())


def runs_of(blocks: list[tuple[int, list[float]]], rate_hz: float) -> list[tuple[float, float, np.ndarray, bool]]:
    """Return what was recorded, as :func:`truth.load` does: a run ends where a busy machine's audio thread skipped."""
    ends = [i for i in range(1, len(blocks)) if blocks[i][0] != blocks[i - 1][0] + len(blocks[i - 1][1])]
    pieces = [blocks[begin:end] for begin, end in zip([0, *ends], [*ends, len(blocks)], strict=True)]
    return [(one[0][0] / rate_hz, rate_hz, np.concatenate([left for _, left in one]), False) for one in pieces]


def test_it_plays_in_step_with_a_native_speaker(speaker, music):
    speaker.must_be_in_step(music["first"][1], "at the beginning")


def test_what_its_sound_card_gets_is_what_it_says_and_clean(speaker, music):
    got = speaker.undisturbed(lambda: speaker.page.evaluate(RECORD, [RECORDER, 4.0]))
    rate_hz = got["rate"]
    runs = runs_of(got["blocks"], rate_hz)
    assert max(len(samples) for _, _, samples, _ in runs) > 2 * rate_hz
    source = truth.regrid(music["first"][1], RATE_HZ, rate_hz) if rate_hz != RATE_HZ else music["first"][1]
    tracked = truth.track(runs, source, rate_hz, N=4096, hop=2048)
    assert not np.isnan(tracked[:, 1]).any(), "there is a hole in it"
    for frame, place_s in got["places"]:
        row = tracked[np.argmin(np.abs(tracked[:, 0] - frame / rate_hz))]
        assert place_s - frame / rate_hz == pytest.approx(row[1] - row[0], abs=3e-4)
    below_db = truth.quality(runs, source, rate_hz, tracked, rate_hz, N=4096, every=1)[:, 1]
    print(f"{speaker.way}: all but the song is below it by {np.median(below_db):.0f} dB, at worst {below_db.min():.0f}")
    assert np.median(below_db) > 50.0


def test_it_stays_in_step_through_pause_seek_and_a_track_of_another_rate(speaker, house, music):
    first, second = music["first"][1], music["second"][1]
    house.call("pause")
    house.until("it is silent", lambda: speaker.status()["state"] == "silent")
    time.sleep(0.5)
    assert np.isnan(speaker.heard(3)[:, 1]).all()
    house.call("resume")
    time.sleep(1.0)
    speaker.must_be_in_step(first, "after a pause")
    house.call("seek", "25")
    time.sleep(1.0)
    speaker.must_be_in_step(first, "after a seek")
    house.call("next")
    time.sleep(1.0)
    speaker.must_be_in_step(second, "in the next track, of another rate")
    house.call("previous")
    house.call("previous")
    time.sleep(1.0)
    speaker.must_be_in_step(first, "in the first track again")


def test_a_change_takes_effect_when_it_does_elsewhere(speaker, house, music):
    """The place after a seek is asked for as soon as the host has carried it out."""
    starved_frames = 0

    def just_after_a_seek() -> np.ndarray:
        nonlocal starved_frames
        play_from_the_beginning(house)
        before = speaker.page.evaluate(STARVED)
        house.call("seek", "10")
        time.sleep(0.6)
        rows = speaker.heard(5)
        starved_frames = speaker.page.evaluate(STARVED) - before
        return rows

    rows = speaker.undisturbed(just_after_a_seek)
    native = line_s(house.heard("native", music["first"][1], rows[0, 0], rows[-1, 0] + 0.2))
    assert rows[:, 1] == pytest.approx(rows[:, 0] - native, abs=LIMIT_S)
    assert starved_frames < RATE_HZ // 10


def test_its_volume_and_its_delay_are_kept_by_the_host(speaker, house, music):
    name = speaker.status()["id"]
    house.call("volume", name, "50")
    house.call("delay", name, "80")
    time.sleep(4.0)
    assert np.median(speaker.apart_s(music["first"][1])) == pytest.approx(0.080, abs=LIMIT_S)
    gain = "document.querySelector('#play-here').speaker.output.volume"
    assert speaker.page.evaluate(gain) == pytest.approx(0.125, abs=0.01)
    house.call("delay", name, "0")
    house.call("volume", name, "100")
    time.sleep(4.0)
    speaker.must_be_in_step(music["first"][1], "after a delay was taken back")


def test_it_is_away_when_its_page_is_closed_and_the_same_speaker_when_it_comes_back(speaker, house, music):
    before = speaker.status()["id"]
    speaker.page.evaluate("document.querySelector('#play-here').speaker.stop()")
    house.until("it is away", lambda: not speaker.status(), within_s=8.0)
    assert next(one for one in house.status()["peers"] if one["id"] == before)["state"] == "away"
    speaker.start()
    assert speaker.status()["id"] == before
    speaker.must_be_in_step(music["first"][1], "after it came back")


def test_over_plain_http_at_a_name_it_plays_all_the_same(house, native, music, browser):
    """No secure context: no AudioWorklet, no WebCrypto, no wake lock."""
    with window(browser) as page:
        speaking = Speaking(page, house, "calendar")
        speaking.open(socket.gethostname())
        assert speaking.page.evaluate("isSecureContext") is False
        speaking.page.click("#play-here button")
        speaking.house.until("it is there", lambda: speaking.status().get("state") == "together")
        speaking.must_be_in_step(music["first"][1], "over plain http")


def test_it_comes_back_by_itself_when_the_host_was_killed(house, native, music, browser):
    with window(browser) as page:
        speaking = Speaking(page, house, "calendar")
        speaking.open("127.0.0.1")
        speaking.start()
        host = next(one for one in reversed(house.started) if one.name == "host")
        host.process.kill()
        host.process.wait(PATIENCE_S)
        time.sleep(1.5)
        assert not np.isnan(speaking.heard(3)[:, 1]).any(), "what it has, it goes on with"
        house.host()
        house.together("native")
        house.until("it is back", lambda: speaking.status().get("state") == "together")
        time.sleep(2.0)
        speaking.must_be_in_step(music["first"][1], "after the host was killed")


# -- the parts that need no sound card -------------------------------------------------------------


@pytest.fixture(scope="module")
def modules(house: House, native, browser) -> Iterator[Any]:
    """A page that can load the browser speaker's parts."""
    with window(browser) as page:
        page.goto(f"http://127.0.0.1:{house.port}/")
        yield page


LINE = """
async ([lostNs, noiseNs]) => {
  const { OutputLine } = await import("/web/speaker-line.js");
  const line = new OutputLine(48000);
  let seed = 7, worst = 0;
  const chance = () => (seed = (seed * 16807) % 2147483647) / 2147483647 - 0.5;
  for (let i = 0; i < 600; i++) {
    const t = i * 1e8, frame = (t - (i < 300 ? 0 : lostNs)) / 1e9 * 48000 * (1 + 40e-6);
    const wild = i % 20 === 7 ? 8e6 : 0;
    line.observe(frame, 7e9 + t + noiseNs * chance() + wild);
    const off = i > 20 ? line.line.localNs + (frame - line.line.frame) * line.line.nsPerFrame - 7e9 - t : 0;
    if (i < 300 || i > 310) worst = Math.max(worst, Math.abs(off));
  }
  return { worst, jumps: line.jumps, slope: line.line.slopePpm };
}
"""


@pytest.mark.parametrize(("lost_ns", "jumps"), [(0, 0), (10e6, 1), (400e6, 1)])
def test_the_line_of_a_sound_card_passes_over_wild_points_and_follows_a_lost_buffer(modules, lost_ns, jumps):
    found = modules.evaluate(LINE, [lost_ns, 0.4e6])
    assert found["jumps"] == jumps
    assert found["worst"] < 0.3e6
    assert found["slope"] == pytest.approx(-40.0, abs=15.0)


SPANS = """
async () => {
  const { firstDifference } = await import("/web/speaker-output.js");
  const { wanted } = await import("/web/speaker-sounds.js");
  const span = (start, end, more) => ({ start_ns: start, start_fraction_ns: 0, end_ns: end, cut: false, entry: 1,
    frame: 0, fade_ms: 0, fall_ns: null, fall_ms: 0, track: { id: "a", rate_hz: 1000, frames: 60500 }, ...more });
  const song = span(1e9, 61.5e9);
  const next = span(61.5e9, 99e9, { entry: 2, track: { id: "b", rate_hz: 500, frames: 9000 } });
  const paused = span(1e9, 20e9, { cut: true }), sought = span(20e9, 50e9, { frame: 31500 });
  return {
    same: firstDifference([song], [{ ...song }], 5e9) === Infinity,
    pause: firstDifference([song], [paused], 5e9),
    seek: firstDifference([song], [paused, sought], 5e9),
    more: firstDifference([song], [song, next], 5e9),
    pruned: firstDifference([song, next], [next], 80e9) === Infinity,
    chunks: wanted([song, next], 55e9).map((one) => [one.key, one.first, one.count]),
    early: wanted([song], 0).map((one) => one.index),
  };
}
"""


def test_what_differs_between_two_time_lines_and_which_sound_is_needed(modules):
    found = modules.evaluate(SPANS)
    assert found["same"]
    assert found["pruned"]
    assert (found["pause"], found["seek"], found["more"]) == (20e9, 20e9, 61.5e9)
    assert found["early"] == list(range(12))
    keys = [key for key, _, _ in found["chunks"]]
    assert keys == [*(f"a/{index}" for index in range(52, 61)), *(f"b/{index}" for index in range(6))]
    assert found["chunks"][8] == ["a/60", 60_000, 500], "the last second of a song is no whole one"
