"""The key: shown, entered, replaced and changed, and never asked for where nobody answers."""

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios

import pytest
import segno

from musicsyncd.cli import key as key_module
from musicsyncd.cli.qr import columns_of_qr, qr_lines
from musicsyncd.protocol.auth import HostKeys, RoomKeys
from musicsyncd.system.keyfile import (
    is_host_file,
    join_code,
    join_link,
    keep_room_keys,
    load_host_keys,
    load_room_keys,
    make_host_keys,
    write_room_keys,
)

KEYS = RoomKeys(bytes(range(32)), bytes(range(16)))
CODE = join_code(KEYS)
NEWER = RoomKeys(bytes(32), bytes(16))


@pytest.fixture
def key_file(folder):
    return folder / "room.key"


# -- show --------------------------------------------------------------------------------------


def test_show_has_the_code_the_path_and_what_to_do_with_them(call, key_file):
    call("key", "join", input=CODE + "\n")
    result = call("key", "show")
    assert result.exit_code == 0
    assert CODE in result.stdout
    assert str(key_file) in result.stdout
    assert "musicsyncd key join" in result.stdout
    assert "\x1b" not in result.stdout
    assert json.loads(call("key", "show", "--json").stdout) == {"join_code": CODE, "path": str(key_file)}


def test_show_on_the_host_never_shows_its_secret(call, key_file):
    keys = make_host_keys(key_file)
    secret = key_file.read_text().strip()
    for words in ((), ("--json",), ("--qr",)):
        result = call("key", "show", *words)
        assert join_code(keys.room_keys) in result.stdout
        assert secret[2:20] not in result.stdout


def test_show_without_a_key_says_what_to_do(call, key_file):
    result = call("key", "show")
    assert (result.exit_code, result.stdout) == (1, "")
    assert str(key_file) in result.stderr


def test_show_has_the_key_that_replaced_a_credential(call, folder, monkeypatch):
    credential = folder / "credentials" / "room.key"
    credential.parent.mkdir()
    write_room_keys(credential, KEYS)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credential.parent))
    variables = {"CREDENTIALS_DIRECTORY": str(credential.parent)}
    assert CODE in call("key", "show", **variables).stdout
    keep_room_keys(credential, NEWER, folder / "rotated.key")
    assert join_code(NEWER) in call("key", "show", **variables).stdout


def modules(lines):
    """Return what lines of half blocks show: rows of 1 for dark, as on paper, where nothing is set on the terminal."""
    dark_over_dark = {" ": (1, 1), "▀": (0, 1), "▄": (1, 0), "█": (0, 0)}
    rows = []
    for line in lines:
        text = re.fullmatch("\x1b\\[38;5;231;48;5;16m([ ▀▄█]+)\x1b\\[0m", line).group(1)
        rows += [[dark_over_dark[char][half] for char in text] for half in (0, 1)]
    return rows


def test_a_qr_code_is_white_blocks_on_black_on_every_terminal():
    text = join_link(KEYS)
    lines = qr_lines(text)
    wanted = [list(row) for row in segno.make_qr(text).matrix_iter(border=2)]
    shown = modules(lines)
    assert shown[: len(wanted)] == wanted
    assert all(row == [1] * len(row) for row in shown[len(wanted) :])
    assert columns_of_qr(lines) == len(wanted[0])
    assert len(lines) <= 22, "a terminal has 24 rows"


def test_the_qr_code_is_shown_where_it_was_asked_for(call, key_file):
    write_room_keys(key_file, KEYS)
    code = "\n".join(qr_lines(join_link(KEYS)))
    assert code in call("key", "show", "--qr").stdout
    assert code in call("key", "show", MUSICSYNCD_QR="1").stdout
    assert code not in call("key", "show", "--no-qr", MUSICSYNCD_QR="1").stdout
    json.loads(call("key", "show", "--qr", "--json").stdout)


@pytest.mark.parametrize(
    ("columns", "rows", "words", "encoding", "shown"),
    [
        (80, 24, (), "utf-8", True),
        (37, 20, (), "utf-8", True),
        (36, 24, (), "utf-8", False),
        (80, 19, (), "utf-8", False),
        (80, 24, (), "ascii", False),
        (80, 24, ("--no-qr",), "utf-8", False),
        (20, 5, ("--qr",), "utf-8", True),
    ],
)
def test_on_a_terminal_the_qr_code_is_shown_if_it_fits(environment, key_file, columns, rows, words, encoding, shown):
    write_room_keys(key_file, KEYS)
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    variables = {name: value for name, value in {**os.environ, **environment}.items() if value is not None}
    variables = {name: value for name, value in variables.items() if name not in ("COLUMNS", "LINES")}
    with subprocess.Popen(
        [sys.executable, "-m", "musicsyncd", "key", "show", *words],
        env=variables | {"PYTHONIOENCODING": encoding}, stdin=theirs, stdout=theirs, stderr=theirs,
    ) as process:  # fmt: skip
        os.close(theirs)
        data = b""
        try:
            while more := os.read(ours, 65_536):
                data += more
        except OSError:  # It has ended.
            pass
        assert process.wait(60) == 0
    os.close(ours)
    text = data.decode()
    assert CODE in text
    assert ("\x1b[38;5;231;48;5;16m" in text) is shown


# -- join --------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [f"  {CODE.lower()} \n", f"musicsyncd:join:{CODE}", "\n".join(CODE.split("-"))])
def test_join_keeps_the_code_for_its_owner_only(call, key_file, text):
    result = call("key", "join", input=text)
    assert result.exit_code == 0, result.stderr
    assert load_room_keys(key_file) == KEYS
    assert key_file.stat().st_mode & 0o777 == 0o600
    assert os.listdir(key_file.parent) == ["room.key"]


@pytest.mark.parametrize("text", ["", "nonsense", CODE[:-1], CODE + CODE, "ü" * 60, "J" * 5_000])
def test_join_refuses_what_is_no_code_and_keeps_what_was(call, key_file, text):
    result = call("key", "join", input=text + "\n")
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert not key_file.exists()


def test_join_refuses_a_hosts_secret(call, key_file, folder):
    make_host_keys(folder / "host.key")
    result = call("key", "join", input=(folder / "host.key").read_text())
    assert (result.exit_code, key_file.exists()) == (1, False)
    assert "the host's own secret: keep it there" in result.stderr


# -- new ---------------------------------------------------------------------------------------


def test_a_key_that_is_there_is_replaced_with_yes_only(call, key_file):
    call("key", "join", input=CODE + "\n")
    for args in (("key", "new"), ("key", "join")):
        result = call(*args, input=CODE + "\n")
        assert result.exit_code == 1
        assert "has a key already: say --yes" in result.stderr
        assert load_room_keys(key_file) == KEYS
    result = call("key", "new", "--yes")
    assert result.exit_code == 0
    assert "restarted" in result.stdout
    keys = load_host_keys(key_file)
    assert join_code(keys.room_keys) in result.stdout
    assert key_file.stat().st_mode & 0o777 == 0o600
    for args in (("key", "new"), ("key", "join")):
        result = call(*args, input=CODE + "\n")
        assert result.exit_code == 1
        assert "is the secret of this machine's host" in result.stderr
    assert load_host_keys(key_file) == keys
    assert call("key", "join", "--yes", input=CODE + "\n").exit_code == 0
    assert not is_host_file(key_file)


def test_the_first_key_needs_no_yes(call, key_file):
    assert call("key", "new").exit_code == 0
    assert isinstance(load_host_keys(key_file), HostKeys)


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
    assert is_host_file(key_file) is (code == 0)


# -- rotate ------------------------------------------------------------------------------------


def state(have, speakers, rotating=True, without=()):
    return {"rotating": rotating, "have": have, "speakers": speakers, "without": list(without)}


@pytest.fixture
def rotation(host, monkeypatch):
    """Let the host answer the questions for how far it is with one answer after the other."""
    monkeypatch.setattr(key_module, "_LOOK_EVERY_S", 0.0)
    return lambda *answers: host.answer("GET", "/api/key", list(answers))


def test_rotate_says_how_far_it_is(call, host, rotation):
    rotation(state(9, 9, False), state(1, 3), state(1, 3), state(2, 3), state(3, 3), state(3, 3, False))
    result = call("key", "rotate")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines() == [
        "1 of 3 speakers has the new key",
        "2 of 3 speakers have the new key",
        "3 of 3 speakers have the new key",
        "3 of 3 speakers have the new key; done",
    ]
    assert [one for one in host.requests if one[0] == "POST"] == [("POST", "/api/key/rotate", {})]
    assert host.tokens == [None] * len(host.requests)


def test_rotate_looks_on_where_it_was_begun_already(call, host, rotation):
    rotation(state(0, 1), state(0, 1), state(1, 1, False))
    result = call("key", "rotate")
    assert result.stdout.splitlines() == ["0 of 1 speaker has the new key", "1 of 1 speaker has the new key; done"]
    assert {one[0] for one in host.requests} == {"GET"}


def test_rotate_names_who_has_to_join_again(call, host, rotation):
    rotation(state(0, 0, False), state(1, 2, False, ["bath\x1b[31m", "shed"]))
    lines = call("key", "rotate").stdout.splitlines()
    assert lines[0] == "1 of 2 speakers has the new key; done"
    assert lines[1].startswith("to join again, with `musicsyncd key show` here")
    assert lines[1].endswith(": bath�[31m, shed")
    rotation(state(0, 0, False), state(0, 0, False))
    assert call("key", "rotate").stdout == "no speaker is here; done\n"
    rotation(state(0, 0, False), state(0, 30, False, [f"s{n}" for n in range(30)]))
    assert call("key", "rotate").stdout.splitlines()[1].endswith("s9 and others")


def test_rotate_for_programs_says_the_end_only(call, host, rotation):
    rotation(state(0, 0, False), state(1, 2), state(2, 2, False))
    assert json.loads(call("key", "rotate", "--json").stdout) == state(2, 2, False)


def test_rotate_does_not_wait_for_ever(call, host, rotation, monkeypatch):
    monkeypatch.setattr(key_module, "MAX_ROTATION_S", 0.0)
    rotation(state(0, 1))
    result = call("key", "rotate")
    assert result.exit_code == 1
    assert "not done after" in result.stderr


def test_rotate_says_what_the_host_refuses(call, host, rotation):
    rotation(state(0, 0, False))
    host.answer("POST", "/api/key/rotate", {"error": "an open room has no key"}, 409)
    result = call("key", "rotate")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "an open room has no key" in result.stderr


def test_rotate_asks_the_host_on_this_machine_and_no_other(call, host, rotation):
    host.close_socket()
    result = call("key", "rotate", MUSICSYNCD_HOST=f"127.0.0.1:{host.port}")
    assert (result.exit_code, result.stdout, host.requests) == (1, "", [])
    assert "no host runs on this machine" in result.stderr
    assert call("key", "rotate", "--host", "pi").exit_code == 2


def test_root_sees_the_key_of_the_machines_service(call, folder, monkeypatch):
    from musicsyncd import paths
    from musicsyncd.cli import options

    service, mine = folder / "service", folder / "mine"
    keys = make_host_keys(service / "room.key")
    make_host_keys(mine / "musicsyncd" / "room.key")
    for module in (options, paths):
        monkeypatch.setattr(module, "SYSTEM_STATE_DIR", service)
    alone = {"MUSICSYNCD_STATE_DIR": None, "XDG_STATE_HOME": str(mine)}
    monkeypatch.setattr(options.os, "geteuid", lambda: 0)
    shown = json.loads(call("key", "show", "--json", **alone).stdout)
    assert shown == {"join_code": join_code(keys.room_keys), "path": str(service / "room.key")}
    assert str(folder / "else") in call("key", "show", "--state-dir", str(folder / "else"), **alone).stderr
    monkeypatch.setattr(options.os, "geteuid", lambda: 1000)
    assert str(mine) in call("key", "show", "--json", **alone).stdout
    monkeypatch.setattr(options.os, "geteuid", lambda: 0)
    monkeypatch.setattr(options, "SYSTEM_STATE_DIR", folder / "none")
    assert str(mine) in call("key", "show", "--json", **alone).stdout


def test_a_daemon_of_roots_has_its_own_files_all_the_same(call, folder, monkeypatch):
    from musicsyncd.cli import options
    from musicsyncd.system import host_daemon

    seen = []
    monkeypatch.setattr(options, "SYSTEM_STATE_DIR", folder)
    monkeypatch.setattr(options.os, "geteuid", lambda: 0)
    monkeypatch.setattr(host_daemon, "run", lambda config, _reread: seen.append(config.paths.state_dir))
    call("host", MUSICSYNCD_STATE_DIR=None, XDG_STATE_HOME=str(folder / "mine"))
    assert seen == [folder / "mine" / "musicsyncd"]
