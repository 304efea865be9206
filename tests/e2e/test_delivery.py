"""How tracks reach a speaker: once, whatever is stopped, killed or changed, and not at all where they are."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from house import PATIENCE_S, House, Started

from musicsyncd.protocol.auth import http_token
from musicsyncd.system.fetch import DUE_HEADER
from musicsyncd.system.keyfile import load_room_key


@pytest.fixture(scope="module")
def long_song(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A WAV file that takes a moment to fetch: 100 MB of noise."""
    import numpy as np
    import soundfile

    path = tmp_path_factory.mktemp("long") / "long.wav"
    noise = np.random.default_rng(7).uniform(-0.1, 0.1, (48_000, 2))
    with soundfile.SoundFile(path, "w", 48_000, 2, "PCM_16") as file:
        for second in range(540):
            file.write(np.roll(noise, 37 * second, axis=0))
    return path


def cache_of(house: House, name: str) -> Path:
    return house.folder / name / "cache" / "peers" / name


def kept(house: House, name: str) -> set[str]:
    """Return the complete tracks of a speaker's cache."""
    folder = cache_of(house, name)
    return {path.name for path in folder.iterdir() if len(path.name) == 64} if folder.is_dir() else set()


def fetched(house: House, name: str) -> list[tuple[int, int]]:
    """Return which bytes of the track that is being fetched are there."""
    for journal in cache_of(house, name).glob("*.ranges"):
        lines = journal.read_text().split("\n")[1:-1]
        return [(int(a), int(b)) for a, b in (line.split() for line in lines if line != "sync")]
    return []


def total(ranges: list[tuple[int, int]]) -> int:
    return sum(end - start for start, end in ranges)


def within(some: list[tuple[int, int]], ranges: list[tuple[int, int]]) -> bool:
    """Return whether all of some ranges lie in others."""
    return all(any(start <= a and b <= end for start, end in ranges) for a, b in some)


def stop(started: Started) -> None:
    code, _took_s = started.stop()
    assert code == 0, started.log.read_text()


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_killed_speaker_goes_on_fetching_where_it_was(house, long_song):
    host = house.host()
    peer = house.peer("hall", "--output", "null")
    house.until("it is there", lambda: house.speaker("hall").get("state") == "silent")
    house.call("play", str(long_song))
    house.until("something was fetched", lambda: total(fetched(house, "hall")) > 1_000_000)
    host.process.send_signal(signal.SIGSTOP)
    peer.stop(signal.SIGKILL)
    had = fetched(house, "hall")
    assert 0 < total(had) < long_song.stat().st_size, "it was killed on the way"
    host.process.send_signal(signal.SIGCONT)
    peer = house.peer("hall", "--output", "null")
    house.until("it goes on with what it had", lambda: kept(house, "hall") or within(had, fetched(house, "hall")))
    house.until("it is all there", lambda: kept(house, "hall"))
    (name,) = kept(house, "hall")
    assert name == digest(long_song) == digest(cache_of(house, "hall") / name)
    house.together("hall")
    stop(peer)


def test_a_cached_file_that_was_changed_on_disk_is_fetched_again(house, long_song):
    (name,) = kept(house, "hall")
    path = cache_of(house, "hall") / name
    with path.open("r+b") as file:
        file.seek(50_000_000)
        file.write(b"changed")
    peer = house.peer("hall", "--output", "null")
    house.call("play", str(long_song))
    house.until("it is right again", lambda: kept(house, "hall") == {name} and digest(path) == name)
    with path.open("r+b") as file:  # And now while it plays.
        file.write(b"changed")
    house.until("that was seen", lambda: "was changed on disk" in peer.log.read_text())
    house.until("it is right again", lambda: kept(house, "hall") == {name} and digest(path) == name)
    house.together("hall")
    stop(peer)


def test_a_speaker_with_its_own_library_fetches_nothing_of_what_it_has(house, long_song, tmp_path):
    (tmp_path / "my music").mkdir()
    shutil.copy(long_song, tmp_path / "my music" / "another name.wav")
    peer = house.peer("owner", "--output", "null", "--library", str(tmp_path / "my music"))
    house.call("play", str(long_song))
    house.together("owner")
    assert list(cache_of(house, "owner").iterdir()) == []
    stop(peer)


def test_what_cannot_be_kept_is_silence_on_that_speaker_alone_with_the_reason(house, long_song):
    small = house.peer("small", "--output", "null", "--cache-mib", "16")
    large = house.peer("large", "--output", "null")
    house.call("play", str(long_song))
    house.together("large")
    house.until("the reason is said", lambda: "the cache of 16 MiB has no room" in house.speaker("small")["fault"])
    assert house.speaker("small")["state"] == "waiting"
    assert house.speaker("large")["fault"] == ""
    stop(small)
    stop(large)


def test_requests_that_make_no_sense_are_refused_and_serving_goes_on(house, long_song):
    token = http_token(load_room_key(house.key))
    url = f"http://127.0.0.1:{house.port}/media/{digest(long_song)}"

    def ask(**headers: str) -> tuple[int, bytes]:
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} | headers)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as response:
                return response.status, response.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    size = long_song.stat().st_size
    assert ask(Range="bytes=0-3") == (206, b"RIFF")
    status, body = ask(Range="bytes=0-3", **{DUE_HEADER: "soon"})
    assert (status, "milliseconds" in json.loads(body)["error"]) == (400, True)
    assert ask(Range=f"bytes={size}-")[0] == 416
    assert ask(Range="bytes=9-1")[0] == 416
    assert ask(Range="bytes=0-3", **{DUE_HEADER: "0"}) == (206, b"RIFF")
