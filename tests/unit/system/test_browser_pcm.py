"""Tracks as plain samples: bit for bit what is in the file, and only what may be asked for."""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile
from aiohttp import ClientSession, web

from musicsyncd.errors import MusicSyncError
from musicsyncd.playback.timeline import Track
from musicsyncd.system import browser_pcm as module
from musicsyncd.system.browser_pcm import MAX_DECODERS, PcmServer

RATE_HZ = 8_000
FRAMES = 10 * RATE_HZ


def made(folder: Path, *, seed: int = 1, channels: int = 2, kind: str = "flac") -> tuple[Path, Track, np.ndarray]:
    """Write a file of noise; return it with its track and its samples, int16 (frames, channels)."""
    path = folder / f"{seed}.{kind}"
    samples = np.random.default_rng(seed).integers(-32768, 32768, (FRAMES, channels), dtype=np.int16)
    soundfile.write(path, samples, RATE_HZ, subtype="PCM_16")
    return path, track_of(path, channels), samples


def track_of(path: Path | str, channels: int = 2) -> Track:
    data = Path(path).read_bytes()
    return Track(hashlib.sha256(data).digest(), len(data), RATE_HZ, FRAMES, channels)


@asynccontextmanager
async def serving(*found: tuple[Path, Track]):
    """A server of files, and a function that asks it for frames and returns them, or its one line."""
    known = {track.content_id: (path, track) for path, track in found}
    server = PcmServer(known.get)

    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            return await server.serve(request)
        except MusicSyncError as error:
            return web.json_response(str(error), status=400)

    app = web.Application()
    app.router.add_get("/api/pcm/{content_id}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with ClientSession(f"http://127.0.0.1:{runner.addresses[0][1]}") as client:

        async def ask(track: Track, frame: object, frames: object) -> np.ndarray | tuple[int, str]:
            url = f"/api/pcm/{track.content_id.hex()}"
            async with client.get(url, params={"frame": str(frame), "frames": str(frames)}) as response:
                raw = await response.read()
                if response.status != 200:
                    return response.status, response.reason if response.status == 404 else raw.decode()
                return np.frombuffer(raw, "<i2").reshape(-1, 2)

        try:
            yield server, ask
        finally:
            server.close()
            await runner.cleanup()


def run(test) -> None:
    asyncio.run(asyncio.wait_for(test(), 30.0))


def test_frames_are_those_of_the_file_bit_for_bit_wherever_they_are(tmp_path):
    path, track, samples = made(tmp_path)

    async def test():
        async with serving((path, track)) as (_, ask):
            for frame, frames in ((0, 8000), (8000, 8000), (16_000, 1), (70_001, 4000), (3, 32_000), (16_001, 777)):
                assert np.array_equal(await ask(track, frame, frames), samples[frame : frame + frames])
            assert np.array_equal(await ask(track, FRAMES - 10, 8000), samples[-10:]), "fewer where it ends"

    run(test)


def test_one_channel_comes_on_both_sides(tmp_path):
    path, track, samples = made(tmp_path, channels=1)

    async def test():
        async with serving((path, track)) as (_, ask):
            assert np.array_equal(await ask(track, 100, 50), samples[100:150].repeat(2, axis=1))

    run(test)


@pytest.mark.parametrize(
    ("frame", "frames"),
    [(0, 0), (0, 4 * RATE_HZ + 1), (FRAMES, 1), (-1, 5), ("x", 5), ("", ""), (0, "²"), (10**14, 1), (1.5, 1)],
)
def test_what_makes_no_sense_is_refused_in_one_line(tmp_path, frame, frames):
    path, track, _ = made(tmp_path)

    async def test():
        async with serving((path, track)) as (_, ask):
            status, line = await ask(track, frame, frames)
            assert status == 400
            assert "frame" in line
            assert "\\n" not in line

    run(test)


def test_only_tracks_of_queues_are_served(tmp_path):
    path, track, _ = made(tmp_path)
    _, other, _ = made(tmp_path, seed=2)

    async def test():
        async with serving((path, track)) as (_, ask):
            assert (await ask(other, 0, 1))[0] == 404

    run(test)


def test_a_reader_that_goes_on_needs_no_new_decoder_and_two_in_one_track_have_one_each(tmp_path, monkeypatch):
    path, track, samples = made(tmp_path)
    opened, sought = [], []
    real, both, together = module.OpenTrack, threading.Barrier(2), {"the first two wait for each other"}

    class Counted(real):
        def __init__(self, *given):
            opened.append(self)
            super().__init__(*given)

        def read(self, start_frame, out):
            if together:
                both.wait(10.0)
            if self._position != start_frame:
                sought.append(start_frame)
            return super().read(start_frame, out)

    monkeypatch.setattr(module, "OpenTrack", Counted)

    async def test():
        async with serving((path, track)) as (server, ask):
            await asyncio.gather(ask(track, 0, 8000), ask(track, 40_000, 8000))
            assert len(opened) == 2
            together.clear()
            sought.clear()
            # In turn forwards and backwards, so that it is not just the one that was used longest ago.
            places = [0, 40_000]
            for frame in range(8000, 32_000, 8000):
                for place in places:
                    expected = samples[place + frame : place + frame + 8000]
                    assert np.array_equal(await ask(track, place + frame, 8000), expected)
                places.reverse()
            assert len(opened) == 2
            assert sought == []
            assert len(server._kept) == 2

    run(test)


def test_no_more_decoders_are_kept_than_some(tmp_path):
    files = [made(tmp_path, seed=seed)[:2] for seed in range(MAX_DECODERS + 3)]

    async def test():
        async with serving(*files) as (server, ask):
            await ask(track_of(__file__), 0, 1)  # The connection is open from here on.
            before = len(os.listdir("/proc/self/fd"))
            for _, track in files:
                await ask(track, 0, 100)
            assert len(server._kept) == MAX_DECODERS
            assert files[0][1].content_id not in {one.content_id for one in server._kept}, "the oldest has gone"
            assert len(os.listdir("/proc/self/fd")) <= before + MAX_DECODERS
            server.close()
            assert server._kept == []

    run(test)


def test_too_many_who_wait_are_sent_away(tmp_path, monkeypatch):
    path, track, _ = made(tmp_path)
    monkeypatch.setattr(module, "MAX_WAITING", 0)

    async def test():
        async with serving((path, track)) as (_, ask):
            assert (await ask(track, 0, 1))[0] == 503

    run(test)


def test_a_file_that_is_damaged_is_silent_where_it_does_not_decode(tmp_path):
    path, track, samples = made(tmp_path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 3000] = bytes(3000)
    path.write_bytes(data)

    async def test():
        async with serving((path, track)) as (_, ask):
            assert np.array_equal(await ask(track, 0, 8000), samples[:8000])
            middle = await ask(track, FRAMES // 2 - 4000, 8000)
            assert len(middle) == 8000, "as many as were asked for, whatever is in them"
            assert np.array_equal(await ask(track, 8000, 8000), samples[8000:16_000])

    run(test)


@pytest.mark.parametrize("kind", ["gone", "another", "pipe", "empty"])
def test_a_file_that_is_not_there_any_more_is_one_line(tmp_path, kind):
    path, track, _ = made(tmp_path)
    path.unlink()
    if kind == "another":
        soundfile.write(path, np.zeros((100, 1)), 44_100, format="WAV")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "empty":
        path.touch()

    async def test():
        async with serving((path, track)) as (_, ask):
            status, line = await ask(track, 0, 100)
            assert status == 400
            assert line.startswith(f'"{path.name} cannot be read: ')
            assert str(path.parent) not in line, "where it lies is not for everybody"

    run(test)
