"""Help, errors, exit codes, completion, and what is imported."""

import os
import shlex
import signal
import subprocess
import sys
from itertools import takewhile

import click
import pytest
from click.testing import CliRunner

from musicsyncd.cli import cli
from musicsyncd.errors import MusicSyncError
from musicsyncd.system.control_client import ControlClient


def every_command(command, path=()):
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            yield from every_command(command.get_command(context, name), (*path, name))


@pytest.mark.parametrize("path", [path for path, _ in every_command(cli)], ids=" ".join)
def test_every_command_has_help_with_an_example(call, path):
    result = call(*path, "--help")
    assert result.exit_code == 0
    assert "Example" in result.stdout or path == ()
    assert "\b" not in result.stdout
    assert call(*path, "-h").stdout == result.stdout


def examples(text):
    """Yield the words of each command in a help's examples, without comments and what other programs do."""
    for line in text.splitlines():
        if line.startswith("    musicsyncd "):
            _, *words = shlex.split(line, comments=True)
            yield list(takewhile(lambda word: word not in ("|", "<", ">", ">>"), words))


@pytest.mark.parametrize("path", [path for path, _ in every_command(cli)], ids=" ".join)
def test_help_fits_a_terminal_of_80_columns_and_its_examples_can_be_pasted(path):
    shown = CliRunner().invoke(cli, [*path, "--help"], terminal_width=80).stdout
    assert [line for line in shown.splitlines() if len(line) > 80] == []
    for words in examples(shown):
        command, context = cli, click.Context(cli)
        while isinstance(command, click.Group) and words and words[0] in command.list_commands(context):
            command = command.get_command(context, words.pop(0))
        command.make_context("musicsyncd", words, parent=context)


@pytest.mark.parametrize(
    "words",
    [
        ("crossfade", "nan"),
        ("delay", "kitchen", "nan"),
        ("status", "--watch", "--interval", "nan"),
        ("demo", "--seconds", "nan"),
        ("doctor", "--listen", "nan"),
    ],
)
def test_what_is_no_number_is_a_wrong_call(call, words):
    result = call(*words)
    assert result.exit_code == 2
    assert "'nan' is not a number." in result.stderr


def test_a_disk_that_is_full_of_the_output_is_one_line():
    words = [sys.executable, "-m", "musicsyncd", "version"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    line = "musicsyncd: cannot write the output: No space left on device\n"
    assert (done.returncode, done.stderr) == (1, line)


def test_help_lists_every_command_under_a_heading(call):
    text = call("--help").stdout
    for heading in ("Run:", "Play:", "Sound:", "Look:", "Set up:"):
        assert heading in text
    for path, command in every_command(cli):
        if len(path) == 1:
            assert f"  {path[0]} " in text
            assert command.name == path[0]


def test_a_command_with_a_wrong_name_hints_at_the_right_one(call):
    result = call("stauts")
    assert result.exit_code == 2
    assert "did you mean status?" in result.stderr
    assert "list, make, remove, move" in call("rooms", "xyzzy").stderr


def raising(monkeypatch, error):
    def request(*args, **kwargs):
        raise error

    monkeypatch.setattr(ControlClient, "request", request)


def test_what_could_not_be_done_is_one_line_and_1(call, monkeypatch):
    raising(monkeypatch, MusicSyncError("the needle is broken"))
    result = call("pause")
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", "musicsyncd: the needle is broken\n")


def test_ctrl_c_is_quiet_and_130(call, monkeypatch):
    raising(monkeypatch, KeyboardInterrupt())
    result = call("pause")
    assert (result.exit_code, result.stdout, result.stderr.strip()) == (130, "", "")


def test_our_own_bugs_are_not_hidden(call, monkeypatch):
    raising(monkeypatch, ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        call("pause")


def run(environment, *args):
    variables = {**os.environ, **environment}
    variables = {name: value for name, value in variables.items() if value is not None}
    return subprocess.run(
        [sys.executable, *args],
        env=variables,
        capture_output=True,
        encoding=variables.get("PYTHONIOENCODING", "utf-8"),
        timeout=60,
        check=False,
    )


TELL_IMPORTS = """
import atexit, sys
atexit.register(lambda: print(*sys.modules, file=sys.stderr))
from musicsyncd.cli import main
main()
"""


def test_a_quick_command_imports_nothing_slow(host, environment):
    result = run(environment, "-c", TELL_IMPORTS, "pause")
    assert result.stdout == "done\n"
    imported = set(result.stderr.split())
    assert "musicsyncd.cli.transport" in imported
    tops = {name.split(".")[0] for name in imported}
    assert not tops & {"numpy", "aiohttp", "rich", "soundfile", "sounddevice", "msgspec", "asyncio", "tomllib"}
    assert "musicsyncd.cli.status" not in imported


def test_a_status_in_a_pipe_imports_no_rich(host, environment):
    host.answer("GET", "/api/status", {"host": {"name": "h"}, "rooms": [], "peers": []})
    result = run(environment, "-c", TELL_IMPORTS, "status")
    assert result.stdout.startswith("host h")
    assert "rich" not in result.stderr.split()


NOT_FOR_COMMANDS = {
    *(
        "aiohttp",
        "asyncio",
        "concurrent",
        "cryptography",
        "dbus_fast",
        "matplotlib",
        "msgspec",
        "numpy",
        "rich",
        "scipy",
    ),
    *("segno", "sounddevice", "soundfile", "sqlite3", "tinytag", "tomlkit", "tomllib", "zeroconf"),
}
"""A status is there within 300 ms, the interpreter's own start included."""

NOT_FOR_SPEAKERS = {
    *("aiohttp", "av", "dbus_fast", "difflib", "ifaddr", "matplotlib", "multiprocessing", "prometheus_client", "rich"),
    *(
        "scipy",
        "segno",
        "sqlite3",
        "tinytag",
        "tomlkit",
        "tomllib",
        "zeroconf",
        "cryptography.hazmat.primitives.ciphers",
    ),
    *("_ssl", "encodings.idna", "numpy.fft", "numpy.ma", "numpy.random", "urllib.request"),
    *(
        "musicsyncd.media.queue",
        "musicsyncd.protocol.host",
        "musicsyncd.system.database",
        "musicsyncd.system.own_files",
    ),
}
"""A speaker has 60 MiB, and sounds within a second of its start."""


def test_a_status_imports_nothing_slow(host, environment):
    host.answer("GET", "/api/status", {"host": {"name": "h"}, "rooms": [], "peers": []})
    for words in (("status",), ("status", "--json")):
        imported = set(run(environment, "-c", TELL_IMPORTS, *words).stderr.split())
        assert "musicsyncd.cli.status" in imported
        assert not imported & NOT_FOR_COMMANDS


def test_a_speaker_imports_nothing_that_it_does_not_need(folder, environment):
    # Without a key it ends just before it would begin, with all that it is made of imported.
    result = run(environment, "-c", TELL_IMPORTS, "peer", "--interface", "lo", "--output", "null")
    assert "musicsyncd: no room key" in result.stderr
    imported = set(result.stderr.split())
    assert {"numpy", "asyncio", "http.client", "musicsyncd.system.speaker", "musicsyncd.system.fetch"} <= imported
    assert not imported & NOT_FOR_SPEAKERS


@pytest.mark.parametrize("args", [("status",), ("status", "--watch", "--json", "--interval", "0.1")])
def test_a_reader_that_goes_away_hears_no_complaint(host, environment, args):
    host.answer("GET", "/api/status", {"host": {"name": "h"}, "rooms": [], "peers": [], "padding": "x" * 100_000})
    read, write = os.pipe()
    os.close(read)
    variables = {name: value for name, value in {**os.environ, **environment}.items() if value is not None}
    try:
        result = subprocess.run(
            [sys.executable, "-m", "musicsyncd", *args],
            env=variables, stdout=write, stderr=subprocess.PIPE, timeout=60, check=False,
        )  # fmt: skip
    finally:
        os.close(write)
    assert result.stderr == b""


def test_ctrl_c_ends_a_watch_as_it_should_end(host, environment):
    host.answer("GET", "/api/status", {"host": {"name": "h"}, "rooms": [], "peers": [{"name": "p", "state": "silent"}]})
    variables = {name: value for name, value in {**os.environ, **environment}.items() if value is not None}
    with subprocess.Popen(
        [sys.executable, "-u", "-m", "musicsyncd", "status", "--watch", "--interval", "0.1"],
        env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout.readline().startswith("time")
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")


def test_a_terminal_without_the_letters_gets_question_marks(host, environment):
    status = {"host": {"name": "台所"}, "rooms": [], "peers": []}
    host.answer("GET", "/api/status", status)
    result = run({**environment, "PYTHONIOENCODING": "latin-1"}, "-m", "musicsyncd", "status")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("host ??")


def test_completion_for_bash(environment):
    script = run({**environment, "_MUSICSYNCD_COMPLETE": "bash_source"}, "-m", "musicsyncd")
    assert script.returncode == 0
    assert "complete -o nosort -F _musicsyncd_completion musicsyncd" in script.stdout
    completing = {
        **environment,
        "_MUSICSYNCD_COMPLETE": "bash_complete",
        "COMP_WORDS": "musicsyncd p",
        "COMP_CWORD": "1",
    }
    assert run(completing, "-m", "musicsyncd").stdout.split() == [
        f"plain,{name}" for name in ("peer", "play", "pause", "previous", "peers", "plot")
    ]


def test_completion_does_not_stumble_over_a_broken_file(environment, folder):
    (folder / "broken.toml").write_text("[")
    completing = {
        **environment,
        "MUSICSYNCD_CONFIG": str(folder / "broken.toml"),
        "_MUSICSYNCD_COMPLETE": "bash_complete",
        "COMP_WORDS": "musicsyncd pause --ro",
        "COMP_CWORD": "2",
    }
    result = run(completing, "-m", "musicsyncd")
    assert (result.stdout.strip(), result.stderr) == ("plain,--room", "")
