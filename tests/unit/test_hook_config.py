"""What may be a hook's command, and what may not."""

from __future__ import annotations

import pytest

from musicsyncd.errors import ConfigError
from musicsyncd.hook_config import HookConfig, parse_command


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("amp on", ("amp", "on")),
        ("amp 'living room' \"a b\" c\\ d", ("amp", "living room", "a b", "c d")),
        ("amp $HOME | x > ~/y", ("amp", "$HOME", "|", "x", ">", "~/y")),
        (["amp", "living room", "$HOME", ""], ("amp", "living room", "$HOME", "")),
        ("", ()),
        ([], ()),
    ],
)
def test_a_command_is_words_and_no_shell_sees_it(given, words):
    assert parse_command(given) == words


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("amp 'on", "no closing quotation"),
        ("'' on", "it names no program"),
        (["", "on"], "it names no program"),
        ("amp a\0b", "a zero byte"),
    ],
)
def test_what_is_no_command_is_one_line(given, said):
    with pytest.raises(ConfigError, match=said) as refused:
        parse_command(given)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("times", [{"silence_after_s": -1.0}, {"silence_after_s": 1e9}, {"timeout_s": 0.0}])
def test_times_that_cannot_be_are_refused(times):
    with pytest.raises(ConfigError):
        HookConfig(**times)
