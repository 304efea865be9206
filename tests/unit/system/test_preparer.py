"""Paths become items for a queue, and files become tracks."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from host_rig import RATE_HZ, make_album, make_track

from musicsyncd.errors import MediaError, MusicSyncError
from musicsyncd.media.queue import Item, Queue
from musicsyncd.media.replaygain import Loudness
from musicsyncd.playback.transport import Transport
from musicsyncd.system import preparer as module
from musicsyncd.system.database import Database
from musicsyncd.system.preparer import LOOK_AGAIN_DURATION_NS, MAX_SAID_FAULTS, Found, Preparer


@pytest.fixture
def database(tmp_path):
    one = Database(tmp_path / "state.sqlite", lock_timeout_s=0)
    yield one
    one.close()


@pytest.fixture
def preparer(database):
    one = Preparer(database)
    yield one
    one.close()


def test_files_and_folders_become_items_in_the_order_they_were_named(preparer, tmp_path):
    make_album(tmp_path / "album", 11)
    single = make_track(tmp_path / "z.wav", seconds=1.5)
    found = asyncio.run(preparer.find([str(single), str(tmp_path / "album")]))
    assert [item.title for item in found.items] == ["z", *map(str, range(1, 12))]
    assert found.items[0].duration_s == 1.5
    assert found.items[0].path == str(single)
    assert found.items[0].track is None
    assert found.said() == ""


def test_only_the_first_faults_are_said_and_the_rest_counted():
    found = Found((), tuple(f"fault {n}" for n in range(MAX_SAID_FAULTS + 2)))
    assert found.said() == "; left out: fault 0; fault 1; fault 2 (and 2 more)"
    assert Found((), found.faults[:MAX_SAID_FAULTS]).said() == "; left out: fault 0; fault 1; fault 2"


@pytest.mark.parametrize(
    "name",
    ["gone.wav", "", "a\0b.wav", "x" * 5000 + ".wav", "\udcff.wav", chr(0xD800), "/dev/null", "/proc/self/mem"],
)
def test_no_path_whatever_raises_anything_but_a_line(preparer, tmp_path, name):
    with pytest.raises(MediaError) as caught:
        asyncio.run(preparer.find([str(tmp_path / name) if name else ""]))
    assert str(caught.value).isprintable()


def test_naming_nothing_is_refused(preparer):
    with pytest.raises(MediaError, match="no track was named"):
        asyncio.run(preparer.find([]))


def test_a_prepared_track_is_its_bytes_hash_and_what_it_decodes_to(preparer, database, tmp_path):
    path = make_track(tmp_path / "a.wav", seconds=2)
    track = asyncio.run(preparer.prepare(str(path)))
    assert track.content_id == hashlib.sha256(path.read_bytes()).digest()
    assert (track.size_bytes, track.rate_hz, track.frames, track.channels) == (
        path.stat().st_size,
        RATE_HZ,
        2 * RATE_HZ,
        1,
    )
    status = path.stat()
    assert database.find_track(str(path), status.st_size, status.st_mtime_ns) == track.content_id


def test_a_hash_that_cannot_be_kept_costs_no_music(preparer, database, tmp_path, monkeypatch, caplog):
    def refuse(*_):
        raise MusicSyncError("the disk is full")

    monkeypatch.setattr(database, "keep_track", refuse)
    path = make_track(tmp_path / "a.wav")
    assert asyncio.run(preparer.prepare(str(path))).size_bytes == path.stat().st_size
    assert "the disk is full" in caplog.text
    for name in ("b.wav", "c.wav"):
        asyncio.run(preparer.prepare(str(make_track(tmp_path / name))))
    assert len(caplog.records) == 1, "once a second at most"


def test_what_is_left_out_of_a_folder_is_one_line_in_the_log(preparer, tmp_path, caplog):
    make_track(tmp_path / "a.wav")
    for number in range(20):
        (tmp_path / f"{number}.flac").write_text("no music")
    found = asyncio.run(preparer.find([str(tmp_path)]))
    assert len(found.faults) == 20
    (record,) = caplog.records
    assert record.message.startswith("left out: ")
    assert record.message.endswith("(and 17 more)")


def test_a_file_that_went_is_a_fault(preparer, tmp_path):
    with pytest.raises(MediaError, match=r"there is no .*gone\.wav"):
        asyncio.run(preparer.prepare(str(tmp_path / "gone.wav")))


# -- what is turned into FLAC ----------------------------------------------------------------


def make_ogg(path: Path, seconds: float = 2.0, seed: int = 1) -> Path:
    noise = np.random.default_rng(seed).uniform(-0.5, 0.5, round(seconds * RATE_HZ))
    soundfile.write(path, noise, RATE_HZ, format="OGG", subtype="VORBIS")
    return path


@pytest.fixture
def converting(preparer, tmp_path):
    preparer.convert_into(tmp_path / "converted", frozenset)
    return preparer


def test_what_is_not_exact_travels_as_flac_and_is_served_from_there(converting, tmp_path, caplog):
    path = make_ogg(tmp_path / "a.ogg")
    with caplog.at_level("INFO"):
        track = asyncio.run(converting.prepare(str(path)))
    assert "a.ogg: turned into FLAC in" in caplog.text
    entry = Queue().add([Item(str(path), "a", track=track)])[0]
    served = converting.served(entry)
    data = served.read_bytes()
    assert data.startswith(b"fLaC")
    assert (hashlib.sha256(data).digest(), len(data)) == (track.content_id, track.size_bytes)
    assert (track.rate_hz, track.frames, track.channels) == (RATE_HZ, 2 * RATE_HZ, 1)
    assert converting.converting == {}


def test_what_is_exact_is_served_as_it_is(converting, tmp_path):
    path = make_track(tmp_path / "a.wav")
    track = asyncio.run(converting.prepare(str(path)))
    assert converting.served(Queue().add([Item(str(path), "a", track=track)])[0]) == path
    assert list((tmp_path / "converted").iterdir()) == []


def test_without_a_folder_everything_travels_as_it_is(preparer, tmp_path):
    path = make_ogg(tmp_path / "a.ogg")
    track = asyncio.run(preparer.prepare(str(path)))
    assert track.content_id == hashlib.sha256(path.read_bytes()).digest()
    assert preparer.served(Queue().add([Item(str(path), "a", track=track)])[0]) == path


def test_a_file_is_converted_once_whoever_asks_and_however_often(converting, database, tmp_path, monkeypatch):
    path, made = make_ogg(tmp_path / "a.ogg"), []
    (tmp_path / "b.ogg").write_bytes(path.read_bytes())
    real = module.ConvertedFolder.make
    monkeypatch.setattr(module.ConvertedFolder, "make", lambda self, *args: made.append(args) or real(self, *args))

    async def ask(*names: str):
        return await asyncio.gather(*(converting.prepare(str(tmp_path / name)) for name in names))

    tracks = {*asyncio.run(ask("a.ogg", "b.ogg", "a.ogg")), *asyncio.run(ask("a.ogg"))}
    again = Preparer(database)
    again.convert_into(tmp_path / "converted", frozenset)
    tracks.add(asyncio.run(again.prepare(str(path))))
    again.close()
    assert len(made) == len(tracks) == 1


def test_a_stop_of_the_host_breaks_a_conversion_off(converting, tmp_path, monkeypatch):
    path, begun, go = make_ogg(tmp_path / "a.ogg", 60.0), threading.Event(), threading.Event()
    real = module.ConvertedFolder.make

    def make(self, info, source_id, progress):
        def slow(done, all_):
            begun.set()
            assert go.wait(20)
            progress(done, all_)

        return real(self, info, source_id, slow)

    monkeypatch.setattr(module.ConvertedFolder, "make", make)

    async def run():
        task = asyncio.ensure_future(converting.prepare(str(path)))
        await asyncio.to_thread(begun.wait, 20)
        converting.close()
        go.set()
        with pytest.raises(MediaError, match="the host stops"):
            await task

    asyncio.run(run())
    assert list((tmp_path / "converted").iterdir()) == []


def test_what_is_lost_in_a_damaged_file_is_said(converting, tmp_path, caplog):
    path = make_ogg(tmp_path / "a.ogg", 20.0)
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 20] = bytes(20)
    path.write_bytes(data)
    track = asyncio.run(converting.prepare(str(path)))
    assert track.frames == 20 * RATE_HZ
    assert "a.ogg: " in caplog.text
    assert "are lost at" in caplog.text
    assert "are lost at" in converting.damage[str(path)]


# -- how loud --------------------------------------------------------------------------------


def make_tagged(path: Path, container: str, codec: str, **tags: str) -> Path:
    with av.open(str(path), "w", format=container) as file:
        file.metadata.update(tags)
        stream = file.add_stream(codec, rate=48_000, layout="mono")
        stream.metadata.update(tags)
        kind = {"flac": ("s16", np.int16), "libopus": ("s16", np.int16)}[codec]
        stream.codec_context.format = kind[0]
        for first in range(0, 48_000, 960):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 960), kind[1]), kind[0], "mono")
            frame.sample_rate, frame.pts = 48_000, first
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(("mode", "expected_db"), [("off", 0.0), ("track", -6.5), ("album", -4.25)])
def test_the_gain_of_the_tags_travels_in_the_track(preparer, tmp_path, mode, expected_db):
    tags = {"REPLAYGAIN_TRACK_GAIN": "-6.50 dB", "REPLAYGAIN_ALBUM_GAIN": "-4.25 dB"}
    path = make_tagged(tmp_path / "a.flac", "flac", "flac", **tags)
    preparer.loudness = Loudness(mode)
    assert asyncio.run(preparer.prepare(str(path))).gain_db == expected_db


def test_opus_counts_from_another_reference(preparer, tmp_path):
    path = make_tagged(tmp_path / "a.opus", "ogg", "libopus", R128_TRACK_GAIN=str(-8 * 256))
    preparer.loudness = Loudness("track", 1.0)
    assert asyncio.run(preparer.prepare(str(path))).gain_db == -8.0 + 5.0 + 1.0


# -- looking again ---------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now_ns = 10**15

    monkeypatch.setattr(module, "now_ns", lambda: Clock.now_ns)
    return Clock


def test_what_is_about_to_play_is_looked_at_again_after_a_while(preparer, tmp_path, clock):
    paths = make_album(tmp_path / "album", 3)
    queue = Queue()
    entries = queue.add(Item(path, path) for path in paths)
    queue.set_current(entries[0].number)
    assert preparer.due(Transport(queue).upcoming(2)) == entries[:2]
    for entry in entries:
        queue.set_prepared(entry.number, asyncio.run(preparer.prepare(entry.path)))
    before = queue.entries
    assert preparer.due(Transport(queue).upcoming(3)) == ()
    clock.now_ns += LOOK_AGAIN_DURATION_NS
    assert preparer.due(Transport(queue).upcoming(2)) == before[:2]
    queue.set_prepared(before[0].number, asyncio.run(preparer.prepare(before[0].path)))
    assert queue.entries is before, "it is the same, so nothing has changed"
    assert preparer.due(Transport(queue).upcoming(2)) == before[1:2]


def test_what_was_restored_is_looked_at_before_it_plays(database, tmp_path, clock):
    track = make_track(tmp_path / "a.wav")
    first = Preparer(database)
    queue = Queue()
    (entry,) = queue.add([Item(str(track), "a", track=asyncio.run(first.prepare(str(track))))])
    first.close()
    after_a_restart = Preparer(database)
    assert after_a_restart.due(Transport(queue).upcoming(4)) == (entry,)
    make_track(track, seconds=3.0, seed=2)
    found = asyncio.run(after_a_restart.prepare(str(track)))
    assert found.content_id == hashlib.sha256(track.read_bytes()).digest() != entry.track.content_id
    track.unlink()
    with pytest.raises(MediaError, match="there is no"):
        asyncio.run(after_a_restart.prepare(str(track)))
    after_a_restart.close()


def test_what_cannot_be_played_is_not_looked_at_again(preparer, tmp_path, clock):
    queue = Queue()
    bad, good = queue.add([Item("/gone.wav", "gone"), Item(str(make_track(tmp_path / "a.wav")), "a")])
    queue.set_fault(bad.number, "there is no /gone.wav")
    queue.set_current(bad.number)
    assert preparer.due(Transport(queue).upcoming(4)) == (good,)


def test_the_memory_of_looks_is_bounded(preparer, monkeypatch):
    monkeypatch.setattr(module, "MAX_LOOKED", 3)
    for number in range(9):
        with pytest.raises(MediaError):
            asyncio.run(preparer.prepare(f"/nowhere/{number}"))
    assert list(preparer._looked_ns) == [f"/nowhere/{number}" for number in (6, 7, 8)]
