from __future__ import annotations

import os

import pytest

from musicsyncd.errors import ConfigError
from musicsyncd.system import identity as module
from musicsyncd.system.identity import load_identity, save_skew, write_atomically


def test_the_id_stays_and_each_start_has_a_greater_epoch(tmp_path):
    folder = tmp_path / "peers" / "desk"
    first, second, third = load_identity(folder), load_identity(folder), load_identity(folder)
    assert len(first.peer_id) == 8
    assert first.peer_id == second.peer_id == third.peer_id
    assert (first.epoch, second.epoch, third.epoch) == (1, 2, 3)
    assert load_identity(tmp_path / "other").peer_id != first.peer_id
    assert (folder / "identity.json").stat().st_mode & 0o777 == 0o600


def test_the_skew_is_kept_for_the_next_start_and_does_not_count_as_one(tmp_path):
    identity = load_identity(tmp_path)
    assert identity.skew_ppm is None
    save_skew(identity, -37.25)
    again = load_identity(tmp_path)
    assert (again.peer_id, again.epoch, again.skew_ppm) == (identity.peer_id, 2, -37.25)
    for nonsense in (float("nan"), float("inf"), 5_000.0):
        save_skew(again, nonsense)
    assert load_identity(tmp_path).skew_ppm == -37.25


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", '{"peer_id":"xyz"}', '{"peer_id":"0011223344556677","epoch":-1}', "\0" * 50, "\xff"],
)
def test_a_damaged_file_is_refused_in_one_line_and_left_alone(tmp_path, text):
    file = tmp_path / "identity.json"
    file.write_text(text, encoding="latin-1")
    with pytest.raises(ConfigError, match=r"identity.json is damaged .*: remove it to start as a new speaker"):
        load_identity(tmp_path)
    assert file.read_text(encoding="latin-1") == text


def test_a_folder_that_cannot_be_is_refused_in_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"cannot keep this speaker's identity in .*: Not a directory"):
        load_identity(tmp_path / "file" / "folder")


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    file = tmp_path / "kept"
    write_atomically(file, b"old")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomically(file, b"new")
    assert (file.read_bytes(), os.listdir(tmp_path)) == (b"old", ["kept"])


def test_a_file_is_on_the_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    done: list[str] = []
    fsync, rename = os.fsync, os.replace
    monkeypatch.setattr(module.os, "fsync", lambda handle: (done.append("sync"), fsync(handle)))
    monkeypatch.setattr(module.os, "replace", lambda *names: (done.append("rename"), rename(*names)))
    write_atomically(tmp_path / "kept", b"new")
    assert done == ["sync", "rename", "sync"]  # the file, its name, the folder that holds the name


def test_an_existing_file_can_be_kept(tmp_path):
    file = tmp_path / "kept"
    write_atomically(file, b"old", replace=False)
    with pytest.raises(FileExistsError):
        write_atomically(file, b"new", replace=False)
    assert (file.read_bytes(), os.listdir(tmp_path)) == (b"old", ["kept"])


def test_what_root_writes_belongs_to_the_folders_owner(tmp_path, monkeypatch):
    given = []
    monkeypatch.setattr(module.os, "fchown", lambda handle, uid, gid: given.append((uid, gid)))
    monkeypatch.setattr(module.os, "geteuid", lambda: 1000)
    write_atomically(tmp_path / "a", b"")
    assert given == []
    monkeypatch.setattr(module.os, "geteuid", lambda: 0)
    write_atomically(tmp_path / "a", b"")
    assert given == [(tmp_path.stat().st_uid, tmp_path.stat().st_gid)]


def test_a_mode_is_what_it_is_said_to_be_whatever_the_umask(tmp_path):
    before = os.umask(0o077)
    try:
        write_atomically(tmp_path / "a", b"", mode=0o644)
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o644
