from __future__ import annotations

import fcntl
import gc
import hashlib
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from musicsyncd.errors import MediaError
from musicsyncd.media import parts
from musicsyncd.media import store as store_module
from musicsyncd.media import stored as stored_module
from musicsyncd.media.parts import Ranges
from musicsyncd.media.store import Store
from musicsyncd.media.stored import MAX_MISMATCHES, VERIFIED_NS
from musicsyncd.playback.timeline import Track

PLENTY = 1 << 40


def disk(free: int = PLENTY, total: int = PLENTY):
    return lambda _folder: (free, total)


def data_of(number: int, size: int = 1000) -> bytes:
    return bytes((number + index * 7) % 256 for index in range(size))


def track_of(data: bytes) -> Track:
    return Track(hashlib.sha256(data).digest(), len(data), 44_100, 100, 2)


def put(store: Store, data: bytes):
    stored = store.open(track_of(data))
    stored.write(0, data)
    assert stored.complete
    return stored


def used_at(folder: Path, number: int, used_ns: int) -> None:
    """Let a track have been used at a time."""
    os.utime(folder / track_of(data_of(number)).content_id.hex(), ns=(used_ns, VERIFIED_NS))


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "cache", 1 << 20, disk=disk())


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 20)), max_size=30), st.integers(0, 70))
def test_ranges_say_what_a_set_of_bytes_says(writes, offset):
    size, there, ranges = 80, set(), Ranges()
    for start, length in writes:
        ranges.add(start, start + length)
        there.update(range(start, start + length))
        assert ranges.total() == len(there)
    missing = [byte for byte in range(offset, size) if byte not in there]
    start, end = ranges.gap(offset, size)
    assert (start < end) == bool(missing)
    if missing:
        assert start == missing[0]
        assert all(byte not in there for byte in range(start, end))
        assert end == size or end in there


def test_a_track_becomes_complete_when_its_last_byte_comes_and_outlives_the_store(store, tmp_path):
    data = data_of(1)
    stored = store.open(track_of(data))
    assert store.open(track_of(data)) is stored
    assert stored.missing_from(300) == (300, 1000)
    stored.write(400, data[400:])
    assert not stored.complete
    assert stored.missing_from(300) == (300, 400)
    assert stored.missing_from(500) == (0, 400)
    assert stored.present(400, 600)
    assert not stored.present(399, 2)
    assert stored.missing_bytes == 400
    stored.write(0, memoryview(data)[:400])
    assert stored.complete
    assert stored.missing_from(0) is None
    assert names(tmp_path / "cache") == {hashlib.sha256(data).hexdigest()}
    again = Store(tmp_path / "cache", 1 << 20, disk=disk()).open(track_of(data))
    assert again.complete
    assert again.reader().read() == data


def test_wrong_bytes_are_dropped_counted_and_given_up_in_the_end(store, tmp_path):
    data = data_of(1)
    stored = store.open(track_of(data))
    for count in range(1, MAX_MISMATCHES + 1):
        with pytest.raises(MediaError, match="its hash is another"):
            stored.write(0, data[:-1] + b"!")
        assert stored.mismatches == count
        assert stored.missing_from(0) == (0, 1000)
        assert bool(stored.failure) == (count == MAX_MISMATCHES)
    assert not any(len(name) == 64 for name in names(tmp_path / "cache"))
    fresh = store.open(track_of(data))
    assert fresh is not stored, "a failed track can be tried again by opening it again"
    fresh.write(0, data)
    assert fresh.complete


def test_wrong_bytes_once_do_no_lasting_harm(store):
    data = data_of(1)
    stored = store.open(track_of(data))
    with pytest.raises(MediaError):
        stored.write(0, bytes(1000))
    stored.write(0, data)
    assert stored.complete
    assert stored.reader().read() == data


def test_bytes_outside_a_track_are_refused(store):
    stored = store.open(track_of(data_of(1)))
    for offset, length in ((-1, 5), (999, 2), (5000, 1)):
        with pytest.raises(MediaError, match="outside"):
            stored.write(offset, bytes(length))


def test_a_reader_is_a_file(store):
    data = data_of(3)
    stored = put(store, data)
    with stored.reader() as reader:
        assert reader.read(10) == data[:10]
        assert reader.seek(-20, os.SEEK_END) == 980
        assert reader.read(100) == data[-20:]
        assert reader.read(1) == b""
        reader.seek(500)
        reader.seek(10, os.SEEK_CUR)
        into = bytearray(4)
        assert reader.readinto(into) == 4
        assert into == data[510:514]
        assert reader.tell() == 514
        assert stored.wanted_offset in (0, 514), "a whole track need not say where it is read"
        with pytest.raises(ValueError, match="no position"):
            reader.seek(-1)


def test_a_reader_says_where_it_waits_and_goes_on_when_the_bytes_come(store):
    data = data_of(4)
    stored = store.open(track_of(data))
    stored.write(0, data[:100])
    reader, got = stored.reader(timeout_s=20), []
    reader.seek(50)
    thread = threading.Thread(target=lambda: got.append(reader.read(200)))
    thread.start()
    while stored.wanted_offset != 100:
        assert thread.is_alive()
    stored.write(600, data[600:700])
    assert thread.is_alive(), "other bytes are not what it waits for"
    stored.write(100, data[100:300])
    thread.join(20)
    assert got == [data[50:250]]
    assert stored.wanted_offset == 250


def test_a_reader_gives_up_at_its_timeout(store):
    with pytest.raises(MediaError, match="did not come"):
        store.open(track_of(data_of(5))).reader(timeout_s=0.0).read(1)


def test_a_failed_track_still_gives_what_is_there(store):
    data = data_of(6)
    stored = store.open(track_of(data))
    stored.write(0, data[:10])
    stored.fail(MediaError("the host is gone"))
    reader = stored.reader()
    assert reader.read(10) == data[:10]
    with pytest.raises(MediaError, match="the host is gone"):
        reader.read(1)


@pytest.mark.parametrize("how", ["fail", "interrupt"])
def test_a_waiting_reader_can_be_woken(store, how):
    stored = store.open(track_of(data_of(7)))
    reader, errors = stored.reader(), []

    def read():
        try:
            reader.read(5)
        except MediaError as error:
            errors.append(str(error))

    reader.seek(10)
    thread = threading.Thread(target=read)
    thread.start()
    while stored.wanted_offset != 10:
        assert thread.is_alive()
    if how == "fail":
        stored.fail("no more")
    else:
        reader.interrupt()
    thread.join(20)
    assert not thread.is_alive()
    assert errors == ["no more" if how == "fail" else "the wait for bytes was broken off"]


def test_an_interrupted_reader_reads_what_is_there_and_waits_again_when_resumed(store):
    data = data_of(8)
    stored = store.open(track_of(data))
    stored.write(0, data[:10])
    reader = stored.reader(timeout_s=0.0)
    reader.interrupt()
    assert reader.read(10) == data[:10]
    with pytest.raises(MediaError, match="broken off"):
        reader.read(1)
    reader.resume()
    with pytest.raises(MediaError, match="did not come"):
        reader.read(1)


def test_the_longest_unused_track_makes_room_and_one_in_use_does_not(tmp_path):
    store = Store(tmp_path, 3000, disk=disk())
    for number in range(3):
        put(store, data_of(number))
        used_at(tmp_path, number, number + 1)
    held = store.open(track_of(data_of(0)))  # Used just now, and in use.
    put(store, data_of(3))
    kept = [number for number in range(4) if (tmp_path / track_of(data_of(number)).content_id.hex()).exists()]
    assert kept == [0, 2, 3]
    assert held.complete


def test_opening_a_track_is_using_it(tmp_path):
    store = Store(tmp_path, 2000, disk=disk())
    for number in range(2):
        put(store, data_of(number))
        used_at(tmp_path, number, number + 1)
    assert store.open(track_of(data_of(0))).complete
    put(store, data_of(2))
    assert (tmp_path / track_of(data_of(0)).content_id.hex()).exists()
    assert not (tmp_path / track_of(data_of(1)).content_id.hex()).exists()


def test_a_track_gets_its_name_only_when_its_bytes_are_on_the_disk(store, monkeypatch):
    done = []
    stored = store.open(track_of(data_of(1)))
    sync, rename = os.fdatasync, os.replace
    monkeypatch.setattr(os, "fdatasync", lambda fd: (done.append("sync"), sync(fd)))
    monkeypatch.setattr(os, "replace", lambda a, b: (done.append("rename"), rename(a, b)))
    stored.write(0, data_of(1))
    assert done == ["sync", "rename"]


def test_a_reader_alone_keeps_its_track_in_use(tmp_path):
    store = Store(tmp_path, 1000, disk=disk())
    reader = put(store, data_of(1)).reader()
    gc.collect()
    with pytest.raises(MediaError, match="no room for a track"):
        store.open(track_of(data_of(2)))
    assert reader.read() == data_of(1)
    del reader
    put(store, data_of(2))
    assert names(tmp_path) == {track_of(data_of(2)).content_id.hex()}


def test_a_track_larger_than_the_cache_drops_nothing(tmp_path):
    store = Store(tmp_path, 2500, disk=disk())
    put(store, data_of(1))
    with pytest.raises(MediaError, match="make it larger"):
        store.open(track_of(data_of(2, 2501)))
    assert len(names(tmp_path)) == 1


def test_a_tenth_of_the_disk_stays_free(tmp_path):
    free = [0]
    store = Store(tmp_path, 1 << 20, disk=lambda _folder: (free[0], 10_000))
    free[0] = 2000
    put(store, data_of(1))
    free[0] = 999  # Even without the first, one byte less than is needed.
    with pytest.raises(MediaError, match="disk full"):
        store.open(track_of(data_of(2)))
    assert len(names(tmp_path)) == 1, "nothing is dropped in vain"
    free[0] = 1000
    stored = store.open(track_of(data_of(2)))
    assert {name.rpartition(".")[2] for name in names(tmp_path)} == {"part", "ranges"}, "the first made room"
    free[0] = 1000
    with pytest.raises(MediaError, match="disk full"):
        stored.write(0, data_of(2)[:10])  # Somebody else took what was free.
    free[0] = 1010
    stored.write(0, data_of(2)[:10])
    assert stored.missing_bytes == 990


def test_what_is_promised_to_parts_is_not_free(tmp_path):
    store = Store(tmp_path, 1 << 20, disk=disk(free=2999, total=10_000))
    first = store.open(track_of(data_of(1)))
    with pytest.raises(MediaError, match="disk full"):
        store.open(track_of(data_of(2)))
    first.write(0, data_of(1)[:1])
    store.open(track_of(data_of(2)))


def test_of_a_large_disk_256_mib_are_enough():
    assert store_module.reserve_bytes(1 << 40) == 256 << 20
    assert store_module.reserve_bytes(1 << 30) == (1 << 30) // 10


def test_the_number_of_files_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(store_module, "MAX_FILES", 2)
    store = Store(tmp_path, 1 << 20, disk=disk())
    for number in range(5):
        put(store, data_of(number))
    assert len(names(tmp_path)) == 2


# -- parts that are gone on with -------------------------------------------------------------------


def begun(folder: Path, size: int, boot_id: str = "run 1", data: bytes = data_of(1)) -> None:
    """Fetch the beginning of a track and forget about it, as a process does that is killed."""
    stored = Store(folder, 1 << 20, disk=disk(), boot_id=boot_id).open(track_of(data))
    stored.write(0, data[:size])
    del stored
    gc.collect()


def again(folder: Path, boot_id: str = "run 1", data: bytes = data_of(1)):
    return Store(folder, 1 << 20, disk=disk(), boot_id=boot_id).open(track_of(data))


def test_a_part_in_which_nothing_is_goes_when_nobody_holds_it(store, tmp_path):
    stored = store.open(track_of(data_of(1)))
    assert {name.rpartition(".")[2] for name in names(tmp_path / "cache")} == {"part", "ranges"}
    del stored
    gc.collect()
    assert names(tmp_path / "cache") == set()


def test_a_restarted_process_goes_on_where_the_last_one_was(tmp_path):
    begun(tmp_path, 600)
    stored = again(tmp_path)
    assert stored.missing_from(0) == (600, 1000)
    assert stored.reader().read(600) == data_of(1)[:600]
    stored.write(600, data_of(1)[600:])
    assert stored.complete
    assert names(tmp_path) == {track_of(data_of(1)).content_id.hex()}


def test_a_process_that_was_killed_before_the_last_look_needs_nothing_more(tmp_path, monkeypatch):
    monkeypatch.setattr(stored_module.StoredTrack, "verify", lambda _self: None)
    begun(tmp_path, 1000)
    monkeypatch.undo()
    stored = again(tmp_path)
    assert stored.unverified
    assert stored.missing_bytes == 0
    stored.verify()
    assert stored.complete


def test_what_was_not_put_on_the_disk_does_not_count_after_the_machine_stopped(tmp_path, monkeypatch):
    begun(tmp_path, 600)
    assert again(tmp_path, "run 2").missing_from(0) == (0, 1000)
    monkeypatch.setattr(parts, "SYNC_BYTES", 100)
    begun(tmp_path, 600)
    assert again(tmp_path, "run 2").missing_from(0) == (600, 1000)


def test_without_a_name_for_the_run_only_what_is_on_the_disk_counts(tmp_path):
    begun(tmp_path, 600, "")
    assert again(tmp_path, "").missing_from(0) == (0, 1000)


def test_it_is_noted_to_be_on_the_disk_only_when_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "SYNC_BYTES", 100)

    def fail(_fd):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", fail)
    begun(tmp_path, 600)
    assert again(tmp_path, "run 2").missing_from(0) == (0, 1000)


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda text: text[:-1], (0, 1000)),
        (lambda text: text + "700 9", (600, 1000)),
        (lambda text: text + "700 5000\n", (600, 1000)),
        (lambda text: text + "900 800\n", (600, 1000)),
        (lambda text: text + "x\n650 700\n", (600, 1000)),
        (lambda text: text + "600 700\n", (700, 1000)),
        (lambda text: "something else\n" + text, (0, 1000)),
        (lambda _text: "", (0, 1000)),
    ],
)
def test_a_journal_that_is_damaged_counts_as_far_as_it_can_be_trusted(tmp_path, damage, expected):
    begun(tmp_path, 600)
    (journal,) = tmp_path.glob("*.ranges")
    journal.write_text(damage(journal.read_text()))
    assert again(tmp_path).missing_from(0) == expected


def test_bytes_of_a_part_that_were_changed_on_disk_are_found_out_at_the_end(tmp_path):
    begun(tmp_path, 600)
    (part,) = tmp_path.glob("*.part")
    with part.open("r+b") as file:
        file.write(b"!!")
    stored = again(tmp_path)
    with pytest.raises(MediaError, match="its hash is another"):
        stored.write(600, data_of(1)[600:])
    assert stored.missing_from(0) == (0, 1000)
    assert stored.mismatches == 1
    stored.write(0, data_of(1))
    assert stored.complete


def test_after_wrong_bytes_nothing_of_them_is_taken_up_again(tmp_path):
    stored = again(tmp_path)
    stored.write(0, bytes(600))
    with pytest.raises(MediaError):
        stored.write(600, bytes(400))
    stored.write(0, data_of(1)[:10])
    del stored
    gc.collect()
    assert again(tmp_path).missing_from(0) == (10, 1000)


def test_a_part_that_is_left_makes_room(tmp_path):
    begun(tmp_path, 900)
    store = Store(tmp_path, 1500, disk=disk())
    put(store, data_of(2))
    assert names(tmp_path) == {track_of(data_of(2)).content_id.hex()}


def test_a_part_of_a_process_that_lives_does_not_make_room(tmp_path):
    other = Store(tmp_path, 1 << 20, disk=disk()).open(track_of(data_of(1)))
    other.write(0, data_of(1)[:900])
    store = Store(tmp_path, 1500, disk=disk())
    with pytest.raises(MediaError, match="no room"):
        put(store, data_of(2))
    other.write(900, data_of(1)[900:])
    assert other.complete


def test_what_is_of_no_use_is_swept_away_and_nothing_else(tmp_path):
    name = "ab" * 32
    (tmp_path / f"{name}.dead.part").write_bytes(b"x")
    (tmp_path / f"{name}.gone.ranges").write_bytes(b"x")
    (tmp_path / "notes.txt").write_bytes(b"x")
    alive = tmp_path / f"{name}.alive.part"
    with alive.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        Store(tmp_path, 1000, disk=disk())
        assert names(tmp_path) == {alive.name, "notes.txt"}


def test_long_tracks_are_hashed_as_they_come(tmp_path, monkeypatch):
    monkeypatch.setattr(stored_module, "HASH_BYTES", 100)
    stored = again(tmp_path)
    for start in range(900, 0, -100):
        stored.write(start, data_of(1)[start : start + 100])
    stored.write(0, data_of(1)[:100])
    for _ in range(9):
        assert stored.unverified
        stored.verify()
    assert stored.complete


# -- files that are changed on disk ----------------------------------------------------------------


def test_a_file_that_was_changed_on_disk_is_fetched_again(tmp_path):
    put(Store(tmp_path, 5000, disk=disk()), data_of(1))
    path = tmp_path / track_of(data_of(1)).content_id.hex()
    with path.open("r+b") as file:
        file.write(b"!")
    stored = Store(tmp_path, 5000, disk=disk()).open(track_of(data_of(1)))
    assert stored.missing_from(0) == (0, 1000)


@pytest.mark.parametrize("change", [b"!", b""])
def test_a_file_that_is_changed_while_it_is_used_is_given_up_and_had_anew(tmp_path, change):
    store = Store(tmp_path, 5000, disk=disk())
    reader = put(store, data_of(1)).reader()
    assert reader.read(10) == data_of(1)[:10]
    path = tmp_path / track_of(data_of(1)).content_id.hex()
    with path.open("r+b") as file:
        file.write(change) if change else file.truncate(500)
    with pytest.raises(MediaError, match="was changed on disk"):
        reader.read(10)
    assert reader._stored.spoiled
    stored = store.open(track_of(data_of(1)))
    assert stored.missing_bytes == 1000
    stored.write(0, data_of(1))
    assert stored.reader().read() == data_of(1)


def test_an_own_file_that_is_changed_while_it_is_used_is_given_up(tmp_path):
    song = tmp_path / "song.wav"
    song.write_bytes(data_of(1))
    where = {"path": song}
    store = Store(tmp_path / "cache", 5000, local=lambda _content_id: where["path"], disk=disk())
    reader = store.open(track_of(data_of(1))).reader()
    assert reader.read(10) == data_of(1)[:10]
    song.write_bytes(bytes(1000))
    where["path"] = None  # Whoever looks after the own files sees it, too.
    with pytest.raises(MediaError, match="was changed on disk"):
        reader.read(10)
    assert store.open(track_of(data_of(1))).missing_bytes == 1000


def test_the_size_of_the_cache_is_what_the_disk_can_spare(tmp_path):
    size = lambda free: Store(tmp_path, None, disk=disk(free)).max_bytes  # noqa: E731
    assert size(1 << 40) == 2 << 30
    assert size(10 << 30) == 1 << 30
    assert size(1 << 20) == 16 << 20
    put(Store(tmp_path, None, disk=disk()), data_of(1))
    assert size(10 << 30) == (10 << 30) // 10 + 100, "what it holds could be had back"


def test_two_stores_share_a_folder(tmp_path):
    first, second = Store(tmp_path, 5000, disk=disk()), Store(tmp_path, 5000, disk=disk())
    mine, yours = first.open(track_of(data_of(1))), second.open(track_of(data_of(1)))
    mine.write(0, data_of(1)[:500])
    yours.write(0, data_of(1))
    mine.write(500, data_of(1)[500:])
    assert mine.complete
    assert yours.complete
    assert names(tmp_path) == {track_of(data_of(1)).content_id.hex()}


def test_a_file_of_the_wrong_length_is_fetched_again(tmp_path):
    track = track_of(data_of(1))
    (tmp_path / track.content_id.hex()).write_bytes(b"short")
    stored = Store(tmp_path, 5000, disk=disk()).open(track)
    assert stored.missing_from(0) == (0, 1000)


def test_a_file_that_is_on_this_machine_is_not_fetched(tmp_path):
    (tmp_path / "song.wav").write_bytes(data_of(1))
    store = Store(tmp_path / "cache", 10, local=lambda _content_id: tmp_path / "song.wav", disk=disk())
    stored = store.open(track_of(data_of(1)))
    assert stored.complete
    assert stored.reader().read() == data_of(1)
    assert names(tmp_path / "cache") == set()


def test_a_folder_that_cannot_be_made_is_said_in_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(MediaError, match="cannot be used"):
        Store(tmp_path / "file", 1000)


def test_a_disk_that_fills_is_an_error_and_no_crash(store, monkeypatch):
    stored = store.open(track_of(data_of(1)))

    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(MediaError, match="No space left on device"):
        stored.write(0, data_of(1))
    monkeypatch.undo()
    stored.write(0, data_of(1))
    assert stored.complete
