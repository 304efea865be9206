"""``install``, ``uninstall`` and ``upgrade``: what is refused, what is said, and in which order."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "system" / "installing"))

from installing_rig import HOST, PEER, Machine

from musicsyncd.cli import install as module
from musicsyncd.cli import upgrade as upgrading
from musicsyncd.protocol.auth import HostKeys
from musicsyncd.system import keyfile
from musicsyncd.system.installing import plan, way
from musicsyncd.system.installing.place import Ran

CODE = keyfile.join_code(HostKeys(bytes(range(32))).room_keys)


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine that is only a folder, for all that the commands do."""
    made = Machine(tmp_path)
    for one in (module, upgrading):
        monkeypatch.setattr(one, "place_of", lambda user: replace(made.place, of_user=user))
    monkeypatch.setattr(way, "find_way", lambda: made.way)
    monkeypatch.setattr(plan.check_portaudio, "__defaults__", (lambda name: None,))
    return made


def test_a_plan_then_what_was_done_then_what_is_next(call, machine):
    result = call("install", "host", "--name", "attic")
    assert (result.exit_code, result.stderr) == (0, "")
    unit = machine.place.units_folder / HOST
    assert result.stdout.splitlines() == [
        "To set up the host (musicsyncd was installed by pip in a virtual environment):",
        f"  1. write {machine.root}/etc/sysusers.d/musicsyncd.conf: who the user musicsyncd is",
        "  2. make the system user musicsyncd, in whose name the services run",
        f"  3. write {unit}: the service, which runs {machine.way.program} host",
        f'  4. set in {machine.place.config_file}, under [host]: name = "attic"',
        "  5. have systemd read its units again",
        f"  6. have {HOST} start at every boot",
        f"  7. start {HOST}",
        f"1. done: write {machine.root}/etc/sysusers.d/musicsyncd.conf",
        "2. done: make the system user musicsyncd, in whose name the services run",
        f"3. done: write {unit}",
        f"4. done: set in {machine.place.config_file}, under [host]",
        "5. done: have systemd read its units again",
        f"6. done: have {HOST} start at every boot",
        f"7. done: start {HOST}",
        f"{HOST} is active: in step",
        f"next: `sudo {machine.way.program} key show` shows the join code, "
        "for `musicsyncd install peer --join CODE` elsewhere",
    ]
    again = call("install", "host", "--name", "attic")
    assert (again.exit_code, again.stdout) == (0, f"nothing to do: the host is set up; {HOST} is active: in step\n")


def test_a_dry_run_only_says_it(call, machine):
    before = machine.tree()
    result = call("install", "peer", "--join", "-", "--dry-run", input=CODE)
    assert result.exit_code == 0
    assert f"  7. start {PEER}" in result.stdout
    assert "done" not in result.stdout
    machine.place = replace(machine.place, uid=1000)
    result = call("install", "peer", "--join", CODE, "--name", "a b", "--dry-run")
    assert result.stdout.endswith(
        f"nothing was done; to do it: sudo {machine.way.program} install peer --name 'a b' --join CODE\n"
    )
    assert machine.tree() == before
    assert machine.system.changes == 0


@pytest.mark.parametrize(
    ("args", "typed"),
    [
        (("install", "peer", "--join", CODE, "--name", "a b"), "install peer --name 'a b' --join CODE"),
        (
            ("install", "host", "--no-speaker", "--library", "/srv", "--no-start"),
            "install host --no-speaker --library /srv --no-start",
        ),
        (("uninstall", "host", "--purge"), "uninstall host --purge"),
        (("upgrade", "--refresh"), "upgrade --refresh"),
    ],
)
def test_who_is_not_root_is_told_what_root_has_to_type(call, machine, args, typed):
    machine.place.config_folder.mkdir()
    machine.place.record_file.write_text("{}")
    machine.place = replace(machine.place, uid=1000)
    before = machine.tree()
    result = call(*args)
    command = f"sudo {machine.way.program} {typed}"
    line = f"musicsyncd: this needs root: `{command}`; or add --user, for a service of your own\n"
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", line)
    assert machine.tree() == before


def test_what_is_only_roots_or_only_not_roots(call, machine):
    for words in (("install", "peer", "--join", CODE), ("uninstall", "peer")):
        result = call(*words, "--user")
        assert result.exit_code == 1
        assert "leave out --user or sudo" in result.stderr
    machine.place = replace(machine.place, uid=1000, run=lambda words: Ran(1, err="No medium found\n"))
    result = call("install", "peer", "--user", "--join", CODE)
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert "your own systemd does not answer (No medium found)" in result.stderr


def test_without_systemd_it_says_how_to_start_it_by_hand(call, machine):
    (machine.root / "run/systemd/system").rmdir()
    result = call("install", "peer", "--join", CODE, "--name", "kitchen", "--library", "/srv/m")
    assert result.exit_code == 1
    assert result.stderr == (
        "musicsyncd: this machine does not run systemd, so start it by hand: "
        f"`{machine.way.program} key join` once, then `{machine.way.program} peer --name kitchen --library /srv/m`\n"
    )
    assert CODE not in result.stderr


@pytest.mark.parametrize(
    ("args", "config", "needed"),
    [
        (("peer", "--join", CODE), "", True),
        (("peer", "--join", CODE), '[peer]\noutput = "null"\n', False),
        (("host",), "", False),
        (("host", "--speaker"), "", True),
        (("host",), "[host]\nspeaker = true\n", True),
        (("host", "--no-speaker"), "[host]\nspeaker = true\n", False),
    ],
)
def test_a_missing_library_for_sound_is_said_first(call, machine, monkeypatch, args, config, needed):
    def missing(name):
        raise OSError

    monkeypatch.setattr(plan.check_portaudio, "__defaults__", (missing,))
    machine.place.config_folder.mkdir()
    machine.place.config_file.write_text(config)
    before = machine.tree()
    result = call("install", *args)
    assert result.exit_code == (1 if needed else 0)
    assert ("sudo apt-get install libportaudio2" in result.stderr) == needed
    assert (machine.tree() == before) == needed


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("peer", "--join", CODE[:-1]), "not a join code"),
        (("peer", "--join", "-"), "not a join code"),
        (("peer", "--join", CODE, "--name", " "), "the peer's name is empty"),
        (("peer", "--join", CODE, "--host", "a:b:c:/"), "is not an address"),
        (("host", "--name", "x" * 65), "64 is the most"),
        (("peer",), "add --join CODE"),
    ],
)
def test_what_makes_no_sense_is_one_line_and_writes_nothing(call, machine, args, said):
    before = machine.tree()
    result = call("install", *args)
    assert (result.exit_code, result.stdout) == (1, "")
    assert said in result.stderr
    assert result.stderr.count("\n") == 1
    assert machine.tree() == before


def test_a_configuration_that_is_wrong_already_is_said_first(call, machine):
    machine.place.config_folder.mkdir()
    machine.place.config_file.write_text("[hosst]\nname = 'a'\n")
    before = machine.tree()
    result = call("install", "host", "--name", "b")
    assert result.stderr == (
        f"musicsyncd: {machine.place.config_file}: there is no section [hosst]: did you mean [host]?\n"
    )
    assert machine.tree() == before


def test_a_service_that_does_not_start_is_one_line(call, machine):
    machine.system.failing["restart"] = "Job for it failed."
    result = call("install", "host")
    assert result.exit_code == 1
    assert result.stderr == (
        f"musicsyncd: {HOST} does not start (`journalctl -e -u {HOST}` says why): Job for it failed.\n"
    )


def test_it_goes_as_it_came_and_what_stays_is_said(call, machine):
    before = machine.tree()
    call("install", "peer", "--join", CODE)
    kept = call("uninstall", "peer", "--dry-run")
    assert PEER in machine.system.active
    assert f"  1. stop {PEER}, which starts by itself no more" in kept.stdout
    assert "note: " in kept.stderr
    result = call("uninstall", "peer", "--purge")
    assert (result.exit_code, result.stderr) == (0, "")
    assert machine.tree() == before
    assert call("uninstall", "peer").stdout == "nothing to do: `musicsyncd install` has set up no peer here\n"


def test_an_upgrade_is_two_commands_the_second_of_which_is_the_newer_program(call, machine, monkeypatch):
    ran = []
    monkeypatch.setattr(upgrading, "_run", lambda words: ran.append(list(words)))
    program = str(machine.way.program)
    fetch = [str(machine.way.python), "-m", "pip", "install", "--upgrade", "musicsyncd"]
    assert call("upgrade", "--dry-run").exit_code == 0
    assert ran == []
    result = call("upgrade")
    assert ran == [fetch, [program, "upgrade", "--refresh"]]
    assert f"running: {' '.join(fetch)}\n" in result.stdout
    call("upgrade", "--user")
    assert ran[3] == [program, "upgrade", "--refresh", "--user"]


def test_an_upgrade_whose_command_fails_is_one_line(call, machine):
    machine.way = replace(machine.way, python=Path("/bin/false"))
    result = call("upgrade")
    assert result.exit_code == 1
    assert result.stderr == (
        "musicsyncd: `/bin/false -m pip install --upgrade musicsyncd` failed (exit code 1): what it says is above\n"
    )
    machine.way = replace(machine.way, python=Path("/no/python"))
    assert call("upgrade").stderr == "musicsyncd: cannot run /no/python: No such file or directory\n"


def test_what_a_person_has_to_upgrade_is_said(call, machine):
    machine.way = replace(machine.way, kind="debian")
    result = call("upgrade")
    assert "sudo apt-get install ./dist/musicsyncd_*.deb && sudo" in result.stdout
    machine.way = replace(machine.way, kind="source", source=Path("/src"))
    assert f"git -C /src pull && sudo {machine.way.program} upgrade --refresh" in call("upgrade").stdout


def test_a_file_and_a_folder_are_not_newer_by_themselves(call, machine, monkeypatch):
    ran = []
    monkeypatch.setattr(upgrading, "_run", ran.append)
    machine.way = replace(machine.way, requirement="")
    result = call("upgrade")
    assert result.exit_code == 0
    assert "was installed from a file by pip in a virtual environment. To upgrade it:\n" in result.stdout
    assert f"-m pip install --upgrade musicsyncd-NEWER.whl && sudo {machine.way.program} upgrade" in result.stdout
    assert ran == []
    for kind in ("venv", "pipx"):
        machine.way = replace(machine.way, kind=kind, requirement="/srv/my clone")
        said = call("upgrade").stdout
        assert "/srv/my clone is installed as it lies there: bring it up to date first (git pull)\n" in said
    assert len(ran) == 4


def test_the_second_half_renews_what_is_set_up(call, machine):
    assert "no service is set up here" in call("upgrade", "--refresh").stdout
    call("install", "peer", "--join", CODE)
    machine.way = machine.installed("opt/new/bin/musicsyncd")
    said = call("upgrade", "--refresh", "--dry-run").stdout
    assert f"  3. restart {PEER}: its unit is another one" in said
    result = call("upgrade", "--refresh")
    assert f"3. done: restart {PEER}" in result.stdout
    assert f"{PEER} is active: in step" in result.stdout
    assert call("upgrade", "--refresh", "--dry-run").stdout == "nothing to renew\n"
