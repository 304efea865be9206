"""The example of the configuration file: whole, true, and the one that is shipped."""

import itertools
import re
import tomllib
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from musicsyncd.cli import cli, example
from musicsyncd.cli.settings import COMMON, SECTIONS, read_file

SHIPPED = Path(__file__).parents[3] / "systemd" / "musicsyncd.toml.example"


@pytest.fixture(scope="module")
def lines():
    return example.text(cli).splitlines()


@pytest.fixture(scope="module")
def told(lines):
    """Return what the file says with every key taken out of its comment."""
    return tomllib.loads(
        "\n".join(line.removeprefix("#") if re.match(r"#[a-z-]+ = ", line) else line for line in lines)
    )


def test_it_is_what_the_command_prints_and_what_is_shipped():
    printed = CliRunner().invoke(cli, ["config"])
    assert printed.exit_code == 0
    assert printed.output == example.text(cli)
    again = "`musicsyncd config > systemd/musicsyncd.toml.example` writes it anew"
    assert SHIPPED.read_text(encoding="utf-8") == printed.output, again


def test_it_says_nothing_as_it_is(tmp_path, lines):
    file = tmp_path / "musicsyncd.toml"
    file.write_text("\n".join(lines), encoding="utf-8")
    assert not any(read_file(file, cli.list_commands(click.Context(cli))).sections.values())


def test_it_has_every_key(told):
    assert {section: set(keys) for section, keys in told.items()} == {
        section: set(keys) for section, keys in {"common": COMMON, **SECTIONS}.items()
    }


def test_what_it_shows_is_the_default_or_can_be_given(told, lines):
    for section, keys in told.items():
        for command in ("host", "peer", "status") if section == "common" else (section,):
            for key, option in example.parameters(cli, command):
                if key not in keys:
                    continue
                default = example.default(option)
                if default is not None and (section, key) != ("common", "room"):  # A command's is the host's own.
                    assert keys[key] == default, f"{key} in [{section}]"
                option.type_cast_value(click.Context(cli), keys[key])
    for line in lines:
        assert len(line) <= 100
        key = re.match("#([a-z-]+) = ", line)
        assert key is None or line.endswith("# not set by default") == (key[1] in example._EXAMPLES)


def test_every_key_is_explained(lines):
    for above, line in itertools.pairwise(lines):
        if re.match("#[a-z-]+ = ", line):
            assert re.fullmatch(r"# .*[.]", above), line
