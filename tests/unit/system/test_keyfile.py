from __future__ import annotations

import logging
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musicsyncd.errors import ConfigError
from musicsyncd.system.keyfile import CODE_CHARS, join_code, load_key, make_key, parse_join_code

KEY = bytes(range(100, 132))
CODE = join_code(KEY)
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def test_a_join_code_is_groups_of_four():
    groups = CODE.split("-")
    assert len(groups) == 14
    assert all(len(group) == 4 and set(group) <= set(_ALPHABET) for group in groups)


def test_a_join_code_is_the_base_32_of_the_key_and_its_check():
    # Python's own base 32 has another alphabet for the same five bits.
    import base64
    import hashlib

    data = KEY + hashlib.sha256(b"musicsyncd join code" + KEY).digest()[:3]
    other = base64.b32encode(data).decode()
    assert CODE.replace("-", "") == other.translate(str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", _ALPHABET))


@settings(deadline=None)
@given(st.binary(min_size=32, max_size=32))
def test_every_key_comes_back(key):
    assert parse_join_code(join_code(key)) == key


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
    ],
)
def test_a_code_is_read_however_it_was_typed(typed):
    assert parse_join_code(typed) == KEY


def test_look_alikes_are_in_the_code_that_was_tested():
    assert "0" in CODE
    assert "1" in CODE


def test_every_wrong_character_and_every_swap_is_noticed():
    chars = CODE.replace("-", "")
    for place in range(CODE_CHARS):
        for char in _ALPHABET:
            if char != chars[place]:
                with pytest.raises(ConfigError, match="typing error"):
                    parse_join_code(chars[:place] + char + chars[place + 1 :])
    for place in range(CODE_CHARS - 1):
        swapped = chars[:place] + chars[place + 1] + chars[place] + chars[place + 2 :]
        if swapped != chars:
            with pytest.raises(ConfigError, match="typing error"):
                parse_join_code(swapped)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "it has 0 letters and digits instead of 56"),
        (CODE[:-1], "it has 55 letters"),
        (CODE + "0", "it has 57 letters"),
        (CODE[:-1] + "U", "'U' never stands in one"),
        (CODE[:-1] + "é", "'É' never stands in one"),
        ("\0" * 56, "never stands in one"),
    ],
)
def test_what_is_no_code_is_said(text, line):
    with pytest.raises(ConfigError, match=line) as caught:
        parse_join_code(text)
    assert CODE[:14] not in str(caught.value)


@settings(deadline=None)
@given(st.text(max_size=80))
def test_any_text_is_refused_in_one_line(text):
    with pytest.raises(ConfigError) as caught:
        parse_join_code(text)
    assert "\n" not in str(caught.value)


def test_a_key_is_made_once_for_its_owner_only_and_comes_back(tmp_path, caplog):
    file = tmp_path / "state" / "room.key"
    key = make_key(file)
    assert len(key) == 32
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.read_text() == join_code(key) + "\n"
    assert load_key(file) == key
    assert caplog.records == []
    with pytest.raises(ConfigError, match=r"there is a room key at .* already"):
        make_key(file)
    assert load_key(file) == key
    assert make_key(file, replace=True) != key
    assert os.listdir(file.parent) == ["room.key"]


def test_a_missing_key_says_where_to_get_it(tmp_path):
    with pytest.raises(ConfigError, match=r"no room key at .*room.key: on the host it is made .*MUSICSYNCD_KEY_FILE"):
        load_key(tmp_path / "room.key")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_key_that_others_can_read_is_warned_of_and_used(tmp_path, caplog, mode):
    file = tmp_path / "room.key"
    file.write_text(CODE.lower())
    file.chmod(mode)
    with caplog.at_level(logging.WARNING):
        assert load_key(file) == KEY
    assert "can be read by other users: chmod 600" in caplog.text
    assert CODE[:14] not in caplog.text


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"hello\n", "cannot be used: not a join code"),
        (b"\xff\xfe" * 10, "holds no join code"),
        (b"0" * 100_000, "cannot be used: not a join code"),
        (CODE[:-1].encode() + (b"0" if CODE[-1] != "0" else b"1"), "cannot be used: the join code has a typing error"),
    ],
)
def test_a_file_without_a_key_is_refused_in_one_line(tmp_path, content, line):
    file = tmp_path / "room.key"
    file.write_bytes(content)
    file.chmod(0o600)
    with pytest.raises(ConfigError, match=line):
        load_key(file)


def test_what_cannot_be_read_or_written_is_one_line(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot read the room key .*: Is a directory"):
        load_key(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"cannot write the room key .*: File exists"):
        make_key(tmp_path / "file" / "room.key")
