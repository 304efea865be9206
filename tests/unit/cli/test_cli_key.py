"""The key: shown, entered and replaced, and never asked for where nobody answers."""

import json
import os
import pty
import subprocess
import sys

import pytest

from musicsyncd.system.keyfile import join_code, load_key

KEY = bytes(range(32))
CODE = join_code(KEY)


@pytest.fixture
def key_file(folder):
    return folder / "room.key"


def test_show_has_the_code_the_path_and_what_to_do_with_them(call, key_file):
    call("key", "join", input=CODE + "\n")
    result = call("key", "show")
    assert result.exit_code == 0
    assert CODE in result.stdout
    assert str(key_file) in result.stdout
    assert "MUSICSYNCD_KEY_FILE" in result.stdout
    assert json.loads(call("key", "show", "--json").stdout) == {"join_code": CODE, "path": str(key_file)}


def test_show_without_a_key_says_what_to_do(call, key_file):
    result = call("key", "show")
    assert (result.exit_code, result.stdout) == (1, "")
    assert str(key_file) in result.stderr


def test_join_keeps_the_code_for_its_owner_only(call, key_file):
    result = call("key", "join", input=f"  {CODE.lower()} \n")
    assert result.exit_code == 0, result.stderr
    assert load_key(key_file) == KEY
    assert key_file.stat().st_mode & 0o777 == 0o600
    assert os.listdir(key_file.parent) == ["room.key"]


@pytest.mark.parametrize("text", ["", "nonsense", CODE[:-1], CODE + CODE, "ü" * 60])
def test_join_refuses_what_is_no_code_and_keeps_what_was(call, key_file, text):
    result = call("key", "join", input=text + "\n")
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert not key_file.exists()


def test_a_key_that_is_there_is_replaced_with_yes_only(call, key_file):
    call("key", "join", input=CODE + "\n")
    for args in (("key", "new"), ("key", "join")):
        result = call(*args, input=CODE + "\n")
        assert result.exit_code == 1
        assert "--yes" in result.stderr
        assert load_key(key_file) == KEY
    result = call("key", "new", "--yes")
    assert result.exit_code == 0
    assert "restarted" in result.stdout
    assert join_code(load_key(key_file)) in result.stdout
    assert load_key(key_file) != KEY
    assert key_file.stat().st_mode & 0o777 == 0o600


def test_the_first_key_needs_no_yes(call, key_file):
    assert call("key", "new").exit_code == 0
    assert len(load_key(key_file)) == 32


def test_a_key_may_be_elsewhere(call, folder, key_file):
    assert call("key", "new", "--key-file", str(folder / "new" / "k")).exit_code == 0
    assert call("key", "show", MUSICSYNCD_KEY_FILE=str(folder / "new" / "k")).exit_code == 0
    assert not key_file.exists()


def test_a_folder_that_cannot_be_written_is_said(call, folder):
    (folder / "file").touch()
    assert call("key", "new", "--key-file", str(folder / "file" / "k")).exit_code == 1
    result = call("key", "join", "--key-file", str(folder / "file" / "k"), input=CODE + "\n")
    assert result.exit_code == 1
    assert "cannot write the room key" in result.stderr


@pytest.mark.parametrize(("answer", "code"), [(b"y\n", 0), (b"n\n", 130), (b"\n", 130)])
def test_on_a_terminal_it_asks(call, key_file, environment, answer, code):
    call("key", "join", input=CODE + "\n")
    ours, theirs = pty.openpty()
    variables = {name: value for name, value in {**os.environ, **environment}.items() if value is not None}
    with subprocess.Popen(
        [sys.executable, "-m", "musicsyncd", "key", "new"],
        env=variables, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        os.close(theirs)
        os.write(ours, answer)
        _, errors = process.communicate(timeout=60)
    os.close(ours)
    assert "Replace it?" in errors
    assert process.returncode == code
    assert (load_key(key_file) == KEY) is (code != 0)
