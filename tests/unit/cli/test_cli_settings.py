"""Where values come from: command line, environment, file, default, in that order."""

import click
import pytest

from musicsyncd.cli import cli
from musicsyncd.cli.settings import COMMON, SECTIONS, FileSettings, find_file, read_file
from musicsyncd.errors import ConfigError

COMMANDS = ("host", "peer", "status", "seek")


def written(tmp_path, text):
    file = tmp_path / "musicsyncd.toml"
    file.write_text(text, encoding="utf-8")
    return file


def options(command, name=""):
    """Yield (section, option) of a command and those below it."""
    if isinstance(command, click.Group):
        context = click.Context(command)
        for below in command.list_commands(context):
            yield from options(command.get_command(context, below), name or below)
    else:
        for param in command.params:
            if isinstance(param, click.Option):
                yield name, param


WAYS_TO_NAME_TRACKS = {"search", "album", "artist", "folder", "playlist"}
OF_ONE_LOOK = {"history", "minutes", "peer", "quick", "listen"}
WRITE_THE_FILE = {"install", "uninstall", "upgrade"}
"""Commands that take nothing from the file, for they write it."""

ONLY_ON_THE_COMMAND_LINE = {
    "config",
    "yes",
    "off",
    "next_",
    "out",
    "revision",
    "join",
    "role",
    "whom",
    *WAYS_TO_NAME_TRACKS,
    *OF_ONE_LOOK,
}


def test_every_option_is_a_key_and_every_key_an_option():
    seen = set()
    for section, option in options(cli):
        if option.name in ONLY_ON_THE_COMMAND_LINE or section in WRITE_THE_FILE:
            continue
        key = option.name.replace("_", "-")
        keys = COMMON | SECTIONS.get(section, {})
        assert key in keys, f"--{key} of {section} is not a key of the configuration file"
        seen.add((section if key in SECTIONS.get(section, {}) else "common", key))
    known = {("common", key) for key in COMMON} | {(name, key) for name, keys in SECTIONS.items() for key in keys}
    assert known - seen == {("host", "tracks")}


def test_every_options_variable_is_named_after_it():
    for section, option in options(cli):
        if section in WRITE_THE_FILE:
            assert option.envvar is None
        elif option.name not in ONLY_ON_THE_COMMAND_LINE and not (section == "status" and option.name == "watch"):
            assert option.envvar == f"MUSICSYNCD_{option.name.upper()}", f"--{option.name} of {section}"


def test_a_commands_section_comes_before_common(tmp_path):
    text = '[common]\nport = 1\nttl = 2\n[host]\nport = 3\nname = "h"\n'
    settings = read_file(written(tmp_path, text), COMMANDS)
    assert settings.for_command("host") == {"port": 3, "ttl": 2, "name": "h"}
    assert settings.for_command("seek") == {"port": 1, "ttl": 2}
    assert FileSettings().for_command("host") == {}


def test_paths_are_relative_to_the_file(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    text = '[common]\nkey-file = "room.key"\nstate-dir = "~/x"\n[host]\ntracks = ["a.flac", "/b.flac"]\n'
    values = read_file(written(tmp_path, text), COMMANDS).for_command("host")
    assert values["key_file"] == str(tmp_path / "room.key")
    assert values["state_dir"] == "/home/me/x"
    assert values["tracks"] == [str(tmp_path / "a.flac"), "/b.flac"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[hots]", "no section [hots]: did you mean [host]?"),
        ("[host]\nspeakers = true", "no key 'speakers' in [host]: did you mean speaker?"),
        ("[host]\nbuffer-ms = 1", "no key 'buffer-ms' in [host]: it belongs in [peer]"),
        ("port = 1", "'port' stands outside of any section: put it under [common]"),
        ("zzz = 1", "'zzz' stands outside of any section"),
        ('[common]\nport = "1"', "'port' in [common] must be a whole number, and is '1'"),
        ("[common]\nport = true", "'port' in [common] must be a whole number, and is True"),
        ("[common]\nport = 1.5", "must be a whole number"),
        ("[common]\ninterface = [1]", "must be a list of texts"),
        ('[host]\nspeaker = "yes"', "must be true or false"),
        ("[host\n", "is not valid TOML"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_in_one_line_with_its_name(tmp_path, text, said):
    file = written(tmp_path, text)
    with pytest.raises(ConfigError) as refused:
        read_file(file, COMMANDS)
    assert said in str(refused.value)
    assert str(file) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        read_file(tmp_path / "none.toml", COMMANDS)
    (tmp_path / "latin.toml").write_bytes(b'[host]\nname = "K\xfcche"')
    with pytest.raises(ConfigError, match="not valid TOML"):
        read_file(tmp_path / "latin.toml", COMMANDS)
    (tmp_path / "large.toml").write_bytes(b"#" * (1 << 20) + b"\n")
    with pytest.raises(ConfigError, match="too large"):
        read_file(tmp_path / "large.toml", COMMANDS)


def test_the_users_file_comes_before_the_systems(tmp_path, monkeypatch):
    from musicsyncd.cli import settings

    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setattr(settings, "SYSTEM_FILE", tmp_path / "etc.toml")
    assert find_file() is None
    (tmp_path / "etc.toml").touch()
    assert find_file() == tmp_path / "etc.toml"
    (tmp_path / "musicsyncd").mkdir()
    (tmp_path / "musicsyncd" / "musicsyncd.toml").touch()
    assert find_file() == tmp_path / "musicsyncd" / "musicsyncd.toml"


def test_command_line_then_environment_then_file(call, host, folder):
    file = written(folder, '[common]\nroom = "file"\n[pause]\nroom = "section"\n')
    call("resume", "--config", str(file))
    call("pause", "--config", str(file))
    call("pause", "--config", str(file), MUSICSYNCD_ROOM="environment")
    call("pause", "--config", str(file), "--room", "call", MUSICSYNCD_ROOM="environment")
    rooms = [path.split("/")[3] for _, path, _ in host.requests]
    assert rooms == ["file", "section", "environment", "call"]


@pytest.mark.parametrize("how", ["before", "after", "variable", "default"])
def test_the_file_may_be_named_in_four_ways(call, host, folder, how):
    (folder / "config" / "musicsyncd").mkdir(parents=True)
    file = written(folder / "config" / "musicsyncd" if how == "default" else folder, '[common]\nroom = "file"\n')
    args = {"before": ("--config", str(file), "pause"), "after": ("pause", "--config", str(file))}.get(how, ("pause",))
    call(*args, **({"MUSICSYNCD_CONFIG": str(file)} if how == "variable" else {}))
    assert host.requests[0][1] == "/api/rooms/file/pause"


def test_a_section_of_a_group_holds_for_its_commands(call, host, folder):
    host.answer("GET", "/api/rooms/-/queue", {"entries": []})
    file = written(folder, "[queue]\njson = true\n")
    assert call("queue", "list", "--config", str(file)).stdout == '{\n  "entries": []\n}\n'


def test_a_value_of_the_file_that_an_option_refuses_is_said_with_the_file(call, host, folder):
    file = written(folder, "[common]\nport = 99999\n")
    result = call("pause", "--config", str(file))
    assert result.exit_code == 1
    assert result.stderr.startswith(f"musicsyncd: {file}: 'port' for [pause]: 99999 is not in the range")
    assert result.stderr.count("\n") == 1


def test_a_missing_file_is_one_line(call, host):
    result = call("pause", "--config", "/none.toml")
    assert result.exit_code == 1
    assert result.stderr == "musicsyncd: cannot read the configuration file /none.toml: No such file or directory\n"
