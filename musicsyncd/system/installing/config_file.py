"""A person's configuration file, of which single keys are written: comments, order and all other keys stay.

Owns the editing. What keys there are, and what they may hold, is checked by whoever calls.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError

from musicsyncd.errors import ConfigError

HEADER = """\
# musicsyncd reads this file at its start. A key is an option of `musicsyncd host --help` or `musicsyncd peer --help`
# without its dashes, under [host] or [peer].
"""
"""Of a file that is made new."""


@dataclass(frozen=True, slots=True)
class Change:
    """A key that is to have another value: with the one that it has, if it has any."""

    section: str
    key: str
    value: Any
    before: Any = None
    was_there: bool = False

    def words(self) -> str:
        """Say it as the file does."""
        was = f" (it is {_toml(self.before)})" if self.was_there else ""
        return f"{self.key} = {_toml(self.value)}{was}"


def read_text(path: Path) -> str | None:
    """Return what the file holds, or None if it is not there.

    Raises:
        ConfigError: it cannot be read, or is not TOML.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:  # Its line ends stay what they are.
            text = file.read()
        tomlkit.parse(text)
    except FileNotFoundError:
        return None
    except (TOMLKitError, ValueError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}; mend it first") from None
    except OSError as error:
        raise ConfigError(f"cannot read the configuration file {path}: {error.strerror}") from None
    return text


def value_in(text: str | None, section: str, key: str) -> Any:  # noqa: ANN401 - as TOML has it
    """Return the value of a key, in either of its spellings, or None."""
    table = _parsed(text).get(section)
    if not isinstance(table, Mapping):
        return None
    return next((table[one] for one in (key, key.replace("-", "_")) if one in table), None)


def changes(text: str | None, section: str, values: Mapping[str, Any]) -> list[Change]:
    """Return which of the keys of a section have another value in the file, or none."""
    found = [(key, value, value_in(text, section, key)) for key, value in values.items()]
    return [
        Change(section, key, value, _plain(before), before is not None)
        for key, value, before in found
        if before is None or type(_plain(before)) is not type(value) or before != value
    ]


def with_changes(text: str | None, wanted: list[Change]) -> str:
    """Return the text of the file with other values for some keys."""
    document = _parsed(HEADER if text is None else text)
    for change in wanted:
        if change.section not in document:
            document[change.section] = tomlkit.table()
        table = document[change.section]
        assert isinstance(table, dict), "the file was checked"
        other = change.key.replace("-", "_")
        table[other if other in table else change.key] = change.value
    return tomlkit.dumps(document)


def without_keys(text: str, undone: list[Change]) -> str:
    """Return the text of the file with keys back at the values of before, or gone; so are sections that are empty."""
    document = _parsed(text)
    for change in undone:
        table = document[change.section]
        assert isinstance(table, dict), "it was looked at just now"
        other = change.key.replace("-", "_")
        key = other if other in table else change.key
        if change.was_there:
            table[key] = change.before
        else:
            del table[key]
        if not table and not tomlkit.dumps(table).strip():
            del document[change.section]
    return tomlkit.dumps(document)


def same_but_for_blank_lines(one: str, other: str) -> bool:
    """Return whether two files say the same in the same words: editing leaves blank lines where a section was."""
    return [line for line in one.splitlines() if line.strip()] == [line for line in other.splitlines() if line.strip()]


def _parsed(text: str | None) -> tomlkit.TOMLDocument:
    return tomlkit.parse(text or "")


def _plain(value: Any) -> Any:  # noqa: ANN401 - as TOML has it
    return value.unwrap() if hasattr(value, "unwrap") else value


def _toml(value: Any) -> str:  # noqa: ANN401 - as TOML has it
    return str(tomlkit.item(value).as_string())
