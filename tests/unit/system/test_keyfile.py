from __future__ import annotations

import base64
import hashlib
import logging
import os
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musicsyncd.errors import ConfigError
from musicsyncd.protocol.auth import HostKeys, RoomKeys
from musicsyncd.system import keyfile
from musicsyncd.system.keyfile import (
    JOIN_LINK,
    MAX_REPLACED,
    is_host_file,
    join,
    join_code,
    join_link,
    keep_host_keys,
    keep_room_keys,
    load_coming_keys,
    load_host_keys,
    load_room_key,
    load_room_keys,
    make_host_keys,
    parse_join_code,
    write_room_keys,
)

SECRET = bytes(range(100, 132))
HOST = HostKeys(SECRET)
KEYS = RoomKeys(bytes(range(100, 132)), bytes(range(7, 23)))
NEWER, NEWEST, OTHER = (RoomKeys(bytes([n]) * 32, bytes([n]) * 16) for n in (1, 2, 3))
CODE = join_code(KEYS)
CHARS = CODE.replace("-", "")
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def crockford(data: bytes) -> str:
    """Python's own base 32 has another alphabet for the same five bits, and fills up behind instead of in front."""
    bits = -(-8 * len(data) // 5) * 5
    shifted = int.from_bytes(data, "big") << (-bits % 40)
    text = base64.b32encode(shifted.to_bytes((bits + -bits % 40) // 8, "big")).decode()[: bits // 5]
    return text.translate(str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", _ALPHABET))


def checked(purpose: str, data: bytes) -> bytes:
    return data + hashlib.sha256(f"musicsyncd {purpose}".encode() + data).digest()[:3]


EARLIER = crockford(checked("join code", SECRET))
HOST_CODE = "H" + crockford(checked("host secret", SECRET))


@pytest.fixture
def file(tmp_path):
    return tmp_path / "state" / "room.key"


@pytest.fixture
def rotated(tmp_path):
    return tmp_path / "state" / "rotated.key"


@pytest.fixture
def credential(tmp_path, monkeypatch):
    """A key file that systemd hands over: of somebody else's making, and in a folder that is not to be written."""
    folder = tmp_path / "credentials"
    folder.mkdir()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
    return folder / "room.key"


# -- codes -------------------------------------------------------------------------------------


def test_a_join_code_is_a_letter_and_groups_of_four():
    letter, *groups = CODE.split("-")
    assert letter == "J"
    assert [len(group) for group in groups] == [4] * 20 + [2]
    assert set("".join(groups)) <= set(_ALPHABET)


def test_a_code_is_the_base_32_of_the_keys_and_their_check(file):
    assert "J" + crockford(checked("room keys", KEYS.room_key + KEYS.host_mark)) == CHARS
    keep = file.parent
    keep.mkdir()
    file.write_text(HOST_CODE)
    file.chmod(0o600)
    assert load_host_keys(file) == HOST


@settings(deadline=None)
@given(st.binary(min_size=32, max_size=32), st.binary(min_size=16, max_size=16))
def test_every_key_comes_back(key, mark):
    keys = RoomKeys(key, mark)
    assert parse_join_code(join_code(keys)) == keys
    assert parse_join_code(join_link(keys)) == keys


def test_a_link_has_only_what_a_qr_code_takes_in_its_short_form():
    assert join_link(KEYS) == JOIN_LINK + CHARS
    assert set(join_link(KEYS)) <= set("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:")


@pytest.mark.parametrize(
    "typed",
    [
        CODE.lower(),
        CODE.replace("-", ""),
        CODE.replace("-", " "),
        f"  {CODE}\r\n",
        CODE.replace("-", " – "),
        "\n".join(CODE.split("-")),
        CODE.replace("0", "o").replace("1", "l"),
        CODE.replace("0", "O").replace("1", "I"),
        f"musicsyncd:join:{CODE}",
        f" MusicSyncd:Join:{CHARS.lower()} ",
    ],
)
def test_a_code_is_read_however_it_was_typed(typed):
    assert parse_join_code(typed) == KEYS


def test_look_alikes_are_in_the_code_that_was_tested():
    assert "0" in CODE
    assert "1" in CODE


def test_every_wrong_character_and_every_swap_is_noticed():
    for place in range(1, len(CHARS)):
        for char in _ALPHABET:
            if char != CHARS[place]:
                with pytest.raises(ConfigError, match="typing error"):
                    parse_join_code(CHARS[:place] + char + CHARS[place + 1 :])
    for place in range(1, len(CHARS) - 1):
        swapped = CHARS[:place] + CHARS[place + 1] + CHARS[place] + CHARS[place + 2 :]
        if swapped != CHARS:
            with pytest.raises(ConfigError, match="typing error"):
                parse_join_code(swapped)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "does not begin with J"),
        (CODE[1:], "does not begin with J"),
        (JOIN_LINK, "does not begin with J"),
        (CODE[:-1], "it has 82 letters and digits instead of 83"),
        (CODE + "0", "it has 84 letters"),
        (CODE + CODE, "it has 166 letters"),
        (HOST_CODE[:-1], "it has 56 letters and digits instead of 57"),
        (EARLIER, "of an earlier version .*key new.* join every speaker again"),
        (EARLIER.lower(), "of an earlier version"),
        (HOST_CODE, "that is the host's own secret: keep it there; .*key show"),
        (CODE[:-1] + "U", "'U' never stands in one"),
        (CODE[:-1] + "é", "'É' never stands in one"),
        ("\0" * 83, "never stands in one"),
    ],
)
def test_what_is_no_join_code_is_said(text, line):
    with pytest.raises(ConfigError, match=line) as caught:
        parse_join_code(text)
    for code in (CODE[2:14], CHARS[1:14], HOST_CODE[1:14], EARLIER[:14]):
        assert code not in str(caught.value)


@settings(deadline=None)
@given(st.text(max_size=120) | st.text(_ALPHABET, max_size=90).map(lambda text: "J" + text))
def test_any_text_is_refused_in_one_line(text):
    with pytest.raises(ConfigError) as caught:
        parse_join_code(text)
    assert "\n" not in str(caught.value)


# -- a host's file -----------------------------------------------------------------------------


def test_a_hosts_secret_is_made_once_for_its_owner_only_and_comes_back(file, caplog):
    with caplog.at_level(logging.INFO):
        keys = load_host_keys(file)
    assert len(keys.secret) == 32
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.read_text().startswith("H-")
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert file.read_text()[2:14] not in caplog.text
    assert load_host_keys(file) == keys
    assert load_room_keys(file) == keys.room_keys
    assert load_room_key(file) == keys.room_key
    assert is_host_file(file)
    with pytest.raises(ConfigError, match=r"there is a room key at .* already"):
        make_host_keys(file)
    assert load_host_keys(file) == keys
    assert make_host_keys(file, replace=True) != keys
    assert os.listdir(file.parent) == ["room.key"]


def test_a_change_of_key_is_in_the_file_until_it_is_over(file):
    old, new = make_host_keys(file), HostKeys(SECRET)
    assert load_coming_keys(file) is None
    keep_host_keys(file, old, coming=new)
    assert (load_host_keys(file), load_coming_keys(file)) == (old, new)
    assert load_room_keys(file) == old.room_keys
    keep_host_keys(file, new)
    assert (load_host_keys(file), load_coming_keys(file)) == (new, None)
    assert load_room_keys(file) == new.room_keys
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_host_does_not_take_a_join_code_for_its_own(file):
    write_room_keys(file, KEYS)
    for load in (load_host_keys, load_coming_keys):
        with pytest.raises(ConfigError, match=r"room.key holds the join code of another host, .* key new"):
            load(file)
    assert not is_host_file(file)


def test_a_key_of_an_earlier_version_is_told_from_damage(file):
    file.parent.mkdir()
    file.write_text(EARLIER + "\n")
    for load in (load_host_keys, load_room_keys):
        with pytest.raises(ConfigError, match=r"cannot be used: it is of an earlier version .*key new"):
            load(file)
    assert not is_host_file(file)


# -- a speaker's file --------------------------------------------------------------------------


def test_a_newer_key_replaces_the_one_that_a_speaker_had(file, rotated):
    write_room_keys(file, KEYS)
    keep_room_keys(file, NEWER, rotated)
    assert load_room_keys(file) == NEWER
    assert file.stat().st_mode & 0o777 == 0o600
    keep_room_keys(file, NEWER, rotated)
    keep_room_keys(file, NEWEST, rotated)
    assert load_room_keys(file, rotated) == NEWEST
    assert os.listdir(file.parent) == ["room.key"]
    assert file.read_text().count("replaces") == 2


def test_the_keys_of_before_are_remembered_up_to_a_number_and_the_first_for_ever(file, rotated):
    write_room_keys(file, KEYS)
    for n in range(MAX_REPLACED + 10):
        keep_room_keys(file, RoomKeys(bytes([n]) * 32, bytes(16)), rotated)
    assert file.read_text().count("replaces") == MAX_REPLACED
    assert join(file, KEYS, rotated) != ""
    assert load_room_keys(file) == RoomKeys(bytes([MAX_REPLACED + 9]) * 32, bytes(16))


def test_a_host_file_is_the_hosts_to_change(file, rotated):
    host = make_host_keys(file)
    keep_room_keys(file, NEWER, rotated)
    assert load_host_keys(file) == host
    assert load_room_keys(file, rotated) == NEWER
    # As soon as the host has written its own, that counts.
    keep_host_keys(file, HOST)
    assert load_room_keys(file, rotated) == HOST.room_keys


def test_a_credential_is_renewed_in_the_state_folder(credential, rotated, caplog):
    credential.write_text(CODE)
    credential.chmod(0o444)
    rotated.parent.mkdir()
    before = credential.read_bytes()
    for newer in (NEWER, NEWEST):  # The second time, too, the credential is what is replaced.
        keep_room_keys(credential, newer, rotated)
        assert load_room_keys(credential, rotated) == newer
        assert load_room_key(credential, rotated) == newer.room_key
    assert credential.read_bytes() == before
    assert rotated.stat().st_mode & 0o777 == 0o600
    assert caplog.records == []  # Who may read it is systemd's to say.
    # Somebody has put another host's code there: what replaced the one of before does not count.
    credential.chmod(0o644)
    credential.write_text(join_code(OTHER))
    assert load_room_keys(credential, rotated) == OTHER


def test_a_hosts_credential_is_renewed_in_the_state_folder(credential, rotated):
    credential.write_text(HOST_CODE)
    new = HostKeys(bytes(range(32)))
    newest = HostKeys(bytes(range(1, 33)))
    keep_host_keys(credential, HOST, coming=new, rotated=rotated)
    assert (load_host_keys(credential, rotated), load_coming_keys(credential, rotated)) == (HOST, new)
    keep_host_keys(credential, new, rotated=rotated)
    assert (load_host_keys(credential, rotated), load_coming_keys(credential, rotated)) == (new, None)
    keep_host_keys(credential, newest, rotated=rotated)
    assert load_host_keys(credential, rotated) == newest
    assert load_host_keys(credential) == HOST


def test_a_credential_is_not_written(credential):
    credential.write_text(CODE)
    with pytest.raises(ConfigError, match="a credential of systemd's: change it where the unit has it from"):
        write_room_keys(credential, NEWER)
    with pytest.raises(ConfigError, match="a credential of systemd's"):
        make_host_keys(credential, replace=True)
    with pytest.raises(ConfigError, match="there is no place for a newer one"):
        keep_room_keys(credential, NEWER)
    assert load_room_keys(credential) == KEYS


def test_a_file_that_cannot_be_written_is_renewed_in_the_state_folder(file, rotated, monkeypatch):
    write_room_keys(file, KEYS)
    real = keyfile.write_atomically

    def read_only(path, *args):
        if path == file:
            raise OSError(30, "Read-only file system")
        real(path, *args)

    monkeypatch.setattr(keyfile, "write_atomically", read_only)
    keep_room_keys(file, NEWER, rotated)
    assert (load_room_keys(file, rotated), load_room_keys(file)) == (NEWER, KEYS)
    with pytest.raises(ConfigError, match=r"cannot write the room key .*room.key: Read-only"):
        keep_room_keys(file, NEWEST)


# -- joining at the start ----------------------------------------------------------------------


def test_joining_keeps_the_code_and_says_so(file, rotated):
    assert join(file, KEYS, rotated) == f"{file} has the key now"
    assert file.stat().st_mode & 0o777 == 0o600
    assert join(file, KEYS, rotated) == ""
    assert join(file, OTHER, rotated) == f"{file} had another key: it is replaced by that of the join code"
    assert load_room_keys(file) == OTHER


@pytest.mark.parametrize("content", [b"", EARLIER.encode(), b"\xff"])
def test_joining_replaces_what_is_of_no_use(file, content):
    file.parent.mkdir()
    file.write_bytes(content)
    assert join(file, KEYS) == f"{file} has the key now"
    assert load_room_keys(file) == KEYS


def test_a_code_in_a_unit_does_not_undo_a_change_of_the_key(file, rotated):
    join(file, KEYS, rotated)
    for newer in (NEWER, NEWEST):
        keep_room_keys(file, newer, rotated)
        assert "going on with the newer one" in join(file, KEYS, rotated)
        assert load_room_keys(file, rotated) == newer
    join(file, OTHER, rotated)
    assert load_room_keys(file, rotated) == OTHER


def test_a_code_in_a_unit_beside_the_same_credential_does_not_undo_a_change(credential, rotated):
    credential.write_text(CODE)
    assert join(credential, KEYS, rotated) == ""
    keep_room_keys(credential, NEWER, rotated)
    assert "going on with the newer one" in join(credential, KEYS, rotated)
    with pytest.raises(ConfigError, match="a credential of systemd's"):
        join(credential, OTHER, rotated)
    assert load_room_keys(credential, rotated) == NEWER


def test_joining_never_costs_a_host_its_secret(file):
    host = make_host_keys(file)
    assert join(file, host.room_keys) == ""
    with pytest.raises(ConfigError, match=r"the secret of this machine's own host: .*--state-dir"):
        join(file, KEYS)
    assert load_host_keys(file) == host


# -- what is wrong with files ------------------------------------------------------------------


def test_a_missing_key_says_where_to_get_it(tmp_path):
    with pytest.raises(ConfigError, match=r"no room key at .*room.key: on the host it is made .*key join"):
        load_room_keys(tmp_path / "room.key")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_key_that_others_can_read_is_warned_of_and_used(file, caplog, mode):
    file.parent.mkdir()
    file.write_text(CODE.lower())
    file.chmod(mode)
    with caplog.at_level(logging.WARNING):
        assert load_room_keys(file) == KEYS
    assert "can be read by other users: chmod 600" in caplog.text
    assert CODE[:14] not in caplog.text


def test_a_code_that_an_editor_has_wrapped_is_read(file):
    file.parent.mkdir()
    file.write_text(f"\n{CODE[:60].lower()}\n  {CODE[60:]}\n\nreplaces 01020304\n")
    file.chmod(0o600)
    assert load_room_keys(file) == KEYS


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"hello\n", "cannot be used: not a join code"),
        (b"\xff\xfe" * 10, "holds no join code"),
        (b"0" * 100_000, "cannot be used: not a join code"),
        (b"replaces 01020304\n", "cannot be used: not a join code"),
        (f"{CODE}\n{CODE}\n".encode(), "holds more than one code"),
        (f"{CODE}\n{HOST_CODE[0]}-{HOST_CODE[1:]}\n".encode(), "holds more than one code"),
        (CODE[:-1].encode() + (b"0" if CODE[-1] != "0" else b"1"), "cannot be used: the join code has a typing error"),
    ],
)
def test_a_file_without_a_key_is_refused_in_one_line(file, content, line):
    file.parent.mkdir()
    file.write_bytes(content)
    file.chmod(0o600)
    with pytest.raises(ConfigError, match=line) as caught:
        load_room_keys(file)
    assert "\n" not in str(caught.value)


def test_a_damaged_second_file_says_which_and_what_to_do(file, rotated):
    write_room_keys(file, KEYS)
    rotated.write_text("J-0000\n")
    rotated.chmod(0o600)
    with pytest.raises(ConfigError, match=r"rotated.key cannot be used: .*; or remove it to go on with .*room.key"):
        load_room_keys(file, rotated)


def test_what_cannot_be_read_or_written_is_one_line(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot read the room key .*: Is a directory"):
        load_room_keys(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"cannot write the room key .*: File exists"):
        make_host_keys(tmp_path / "file" / "room.key")


def test_the_key_alone_is_had_without_the_library_for_signatures(file):
    make_host_keys(file)
    program = (
        "import sys; from pathlib import Path; from musicsyncd.system.keyfile import load_room_key; "
        "load_room_key(Path(sys.argv[1])); print('cryptography' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program, file], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
