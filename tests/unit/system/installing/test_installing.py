"""Setting up, again, over a broken-off run, and away again: on a machine that is only a folder."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from installing_rig import HOST, PEER, FakeSystem, Machine, PowerCut, words_of

from musicsyncd.errors import ConfigError, MusicSyncError
from musicsyncd.protocol.auth import HostKeys, RoomKeys
from musicsyncd.system import keyfile
from musicsyncd.system.installing import steps
from musicsyncd.system.installing.place import TIMED_OUT, Place, run_command
from musicsyncd.system.installing.record import load_record
from musicsyncd.system.installing.upgrading import plans_to_renew
from musicsyncd.system.installing.way import Way

KEYS = HostKeys(bytes(range(32))).room_keys
OTHER_KEYS = HostKeys(bytes(range(1, 33))).room_keys
CONFIG = """# my house
[common]
port = 7783   # as it was

[host]
name = "attic"  # the old one


[peer]
# a comment at the end
"""


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def test_a_speaker_from_nothing(machine):
    plan = machine.plan("peer", KEYS, name="kitchen", device="hw:DAC,0")
    assert words_of(plan) == [
        f"write {machine.root}/etc/sysusers.d/musicsyncd.conf: who the user musicsyncd is",
        "make the system user musicsyncd, in whose name the services run",
        f"write {machine.root}/etc/systemd/system/{PEER}: the service, which runs {machine.way.program} peer",
        f'set in {machine.root}/etc/musicsyncd/musicsyncd.toml, under [peer]: name = "kitchen", device = "hw:DAC,0"',
        f"keep the room's key in {machine.root}/var/lib/musicsyncd/room.key, for the user musicsyncd alone",
        "have systemd read its units again",
        f"have {PEER} start at every boot",
        f"start {PEER}",
    ]
    assert not plan.remarks
    said = machine.install("peer", KEYS, name="kitchen", device="hw:DAC,0")
    assert len(said) == 8
    assert said[7] == f"8. done: start {PEER}"
    unit = machine.root / "etc/systemd/system" / PEER
    assert f"ExecStart={machine.way.program} peer\n" in unit.read_text()
    assert unit.stat().st_mode & 0o777 == 0o644
    key = machine.root / "var/lib/musicsyncd/room.key"
    assert keyfile.load_room_keys(key) == KEYS
    assert (key.stat().st_mode & 0o777, key.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    config = machine.root / "etc/musicsyncd/musicsyncd.toml"
    assert '[peer]\nname = "kitchen"\ndevice = "hw:DAC,0"\n' in config.read_text()
    assert config.stat().st_mode & 0o777 == 0o644
    assert PEER in machine.system.active
    assert machine.system.link(PEER).is_symlink()


def test_twice_is_nothing_to_do_and_touches_nothing(machine):
    machine.install("host", library=["/srv"])
    machine.install("peer", KEYS, name="kitchen")
    before = machine.tree()
    count = machine.system.changes
    kitchen = {"name": "kitchen"}
    for role, keys, values in (("host", None, {"library": ["/srv"]}), ("peer", KEYS, kitchen), ("peer", None, {})):
        assert words_of(machine.plan(role, keys, **values)) == []
        machine.install(role, keys, **values)
    assert machine.tree() == before
    assert machine.system.changes == count


def test_away_again_leaves_every_byte_as_it_was(machine):
    config = machine.root / "etc/musicsyncd/musicsyncd.toml"
    for text in (None, CONFIG, CONFIG.replace("\n", "\r\n"), ""):
        if text is not None:
            config.parent.mkdir(exist_ok=True)
            config.write_bytes(text.encode())
            config.chmod(0o640)
        before = machine.tree()
        machine.install("host", name="cellar", library=["/srv"], speaker=True)
        machine.install("peer", KEYS, name="kitchen")
        assert machine.tree() != before
        machine.uninstall("host")
        assert machine.uninstall("peer", purge=True) == []
        assert machine.tree() == before
        assert not machine.system.active


def test_a_service_of_a_user(tmp_path):
    machine = Machine(tmp_path, "home/me/.local/bin/musicsyncd")
    machine.system = FakeSystem(tmp_path, user="me")
    home = tmp_path / "home/me"
    machine.place = Place(
        tmp_path, True, home / ".config/systemd/user", home / ".config/musicsyncd", home / ".local/state/musicsyncd",
        home / ".cache/musicsyncd", "me", 1000, machine.system,
    )  # fmt: skip
    before = machine.tree()
    machine.install("peer", KEYS, name="desk")
    assert f"ExecStart={machine.way.program} peer\n" in (home / ".config/systemd/user" / PEER).read_text()
    assert "User=" not in (home / ".config/systemd/user" / PEER).read_text()
    assert not list((tmp_path / "etc").rglob("*musicsyncd*"))
    assert all(call[:2] == ("systemctl", "--user") for call in machine.system.calls)
    assert words_of(machine.plan("peer", KEYS, name="desk")) == []
    machine.uninstall("peer", purge=True)
    after = machine.tree()
    assert after.pop("home/me/.local/state", None) is not None  # Above the state: no folder of ours.
    assert after == before


def finished(machine, role, keys, **values):
    """Return what there is when all is done, but for the record's memory of how."""
    machine.install(role, keys, **values)
    assert words_of(machine.plan(role, keys, **values)) == []
    tree = machine.tree()
    tree.pop("etc/musicsyncd/installed.json")
    return tree


WRITES = ("write_atomically", "save_record")


def cutting(monkeypatch, at):
    """Have the power go before write number ``at`` of all."""
    left = [at]

    def cutting_it(does):
        def cut(*args, **kwargs):
            if left[0] == 0:
                raise PowerCut
            left[0] -= 1
            return does(*args, **kwargs)

        return cut

    for name in WRITES:
        monkeypatch.setattr(steps, name, cutting_it(getattr(steps, name)))


@pytest.mark.parametrize("completes", [True, False])
@pytest.mark.parametrize(("wherever", "times"), [("command", 4), ("write", 12)])
def test_a_broken_off_run_is_completed_and_can_be_taken_away(tmp_path, monkeypatch, wherever, times, completes):
    trees = []
    for at in range(times + 1):
        machine = Machine(tmp_path / str(at))
        values = {"name": "kitchen", "library": [f"{machine.root}/home/me"]}
        machine.place.config_folder.mkdir()
        machine.place.config_file.write_text(CONFIG)
        before = machine.tree()
        with monkeypatch.context() as patch:
            if wherever == "write":
                cutting(patch, at)
            else:
                machine.system.cut_at = at
            try:
                machine.install("peer", KEYS, **values)
            except PowerCut:
                assert at < times
            else:
                assert at == times
        machine.system.cut_at = None
        if completes:
            trees.append(finished(machine, "peer", KEYS, **values))
            assert PEER in machine.system.active
            assert load_record(machine.place.record_file).restart == ()
        machine.uninstall("peer", purge=True)
        assert machine.tree() == before, f"cut at {at}"
    assert [set(tree) for tree in trees] == [set(tree) for tree in trees[-1:] * len(trees)]


def test_a_broken_off_removal_is_completed(tmp_path):
    for at in range(100):
        machine = Machine(tmp_path / str(at))
        before = machine.tree()
        machine.install("peer", KEYS, name="kitchen", library=[f"{machine.root}/home/me"])
        machine.system.cut_at = machine.system.changes + at
        try:
            machine.uninstall("peer", purge=True)
        except PowerCut:
            machine.system.cut_at = None
            machine.uninstall("peer", purge=True)
            assert machine.tree() == before
        else:
            assert at == 5  # disable, stop, reset-failed, userdel, daemon-reload
            return


def test_what_one_has_in_common_with_the_other_goes_with_the_last(machine):
    machine.install("host", name="attic")
    machine.install("peer", KEYS, name="kitchen")
    assert machine.uninstall("host") == []
    assert words_of(machine.plan("peer", name="kitchen")) == []
    assert machine.place.account() is not None
    text = machine.place.config_file.read_text()
    assert "\n[host]\n" not in text
    assert '[peer]\nname = "kitchen"' in text
    assert load_record(machine.place.record_file).roles == ("peer",)
    assert (HOST in machine.system.active, PEER in machine.system.active) == (False, True)


def test_what_is_kept_stays_without_purge_and_so_does_the_user(machine):
    machine.install("peer", KEYS)
    remarks = machine.uninstall("peer")
    assert (machine.root / "var/lib/musicsyncd/room.key").exists()
    assert machine.place.account() is not None
    assert "--purge takes them away too" in remarks[0]
    assert "sudo userdel musicsyncd" in remarks[1]
    assert not machine.place.record_file.exists()
    machine.uninstall("peer", purge=True)  # Nobody remembers, but who says it again means it.
    assert not (machine.root / "var/lib/musicsyncd").exists()


def test_state_that_the_other_needs_stays_with_purge_too(machine):
    machine.install("host")
    machine.install("peer", KEYS)
    assert machine.uninstall("peer", purge=True) == [
        f"{machine.root}/var/lib/musicsyncd stay, for what else is set up here needs them"
    ]
    assert (machine.root / "var/lib/musicsyncd/room.key").exists()


def test_a_user_that_was_there_before_stays(machine):
    with (machine.root / "etc/passwd").open("a") as file:
        file.write(f"musicsyncd:x:{os.getuid()}:{os.getgid()}::/:/bin/false\n")
    before = machine.tree()
    machine.install("peer", KEYS)
    machine.uninstall("peer", purge=True)
    assert machine.tree() == before


def test_a_group_that_people_are_in_goes_too(machine):
    machine.install("peer", KEYS)
    group = machine.root / "etc/group"
    group.write_text(group.read_text().replace("musicsyncd:x:0:\n", "musicsyncd:x:0:pi\n"))
    machine.uninstall("peer", purge=True)
    assert "musicsyncd" not in group.read_text()


def test_a_unit_that_was_changed_since_stays_and_that_is_said(machine):
    machine.install("peer", KEYS)
    unit = machine.root / "etc/systemd/system" / PEER
    unit.write_text(unit.read_text() + "# mine\n")
    machine.system.daemon_reload()
    plan = machine.plan("peer", KEYS)
    assert words_of(plan) == []
    assert "stays as it is, for it was changed since" in plan.remarks[0]
    assert machine.uninstall("peer", purge=True) == [f"{unit} stays, for it was changed since"]
    assert unit.exists()
    assert PEER not in machine.system.active
    assert not machine.system.link(PEER).is_symlink()


def test_a_unit_of_somebody_else_is_not_written_over(machine):
    unit = machine.root / "etc/systemd/system" / PEER
    unit.write_text("[Service]\nExecStart=/usr/bin/musicsyncd peer\n")
    before = machine.tree()
    with pytest.raises(ConfigError, match="is there already, and `musicsyncd install` did not write it: move it away"):
        machine.install("peer", KEYS)
    assert machine.tree() == before


def test_a_key_that_was_changed_since_stays(machine):
    machine.place.config_folder.mkdir()
    machine.place.config_file.write_text(CONFIG)
    machine.install("host", name="cellar", library=["/srv"])
    text = machine.place.config_file.read_text()
    assert 'name = "cellar"  # the old one\n' in text
    assert text.startswith("# my house\n[common]\nport = 7783   # as it was\n")
    machine.place.config_file.write_text(text.replace('"cellar"', '"loft"') + "volume = 3\n")
    config = machine.place.config_file
    assert machine.uninstall("host") == [f"name in {config}, [host], stays, for it was changed since"]
    text = machine.place.config_file.read_text()
    assert 'name = "loft"  # the old one\n' in text
    assert "library" not in text
    assert "volume = 3" in text


def test_a_made_file_in_which_more_stands_now_stays(machine):
    machine.install("host", name="cellar")
    with machine.place.config_file.open("a") as file:
        file.write("[common]\nport = 1234\n")
    config = machine.place.config_file
    assert machine.uninstall("host") == [f"{config} stays, for it holds more than was written into it"]
    assert machine.place.config_file.read_text().endswith("[common]\nport = 1234\n")


def test_another_value_is_shown_with_the_one_before_and_put_back_in_the_end(machine):
    machine.place.config_folder.mkdir()
    machine.place.config_file.write_text(CONFIG)
    machine.install("host", name="cellar")
    plan = machine.plan("host", name="loft", speaker=False)
    assert words_of(plan) == [
        f'set in {machine.place.config_file}, under [host]: name = "loft" (it is "cellar"), speaker = false',
        f"restart {HOST}: it does not know what was changed",
    ]
    machine.install("host", name="loft", speaker=False)
    machine.uninstall("host")
    assert machine.place.config_file.read_text() == CONFIG


def test_what_runs_learns_of_a_change_even_if_the_run_was_broken_off_before(machine):
    machine.install("peer", KEYS, name="a")
    machine.system.cut_at = machine.system.changes
    with pytest.raises(PowerCut):
        machine.install("peer", KEYS, name="b")
    machine.system.cut_at = None
    assert words_of(machine.plan("peer", name="b")) == [f"restart {PEER}: it does not know what was changed"]
    machine.install("peer", KEYS, name="b")
    assert words_of(machine.plan("peer", name="b")) == []


def test_without_a_start_it_waits_for_the_boot(machine):
    machine.install("peer", KEYS, start=False)
    assert not machine.system.active
    assert machine.system.link(PEER).is_symlink()
    assert words_of(machine.plan("peer", KEYS)) == [f"start {PEER}"]


def test_the_secret_of_this_machines_host_is_never_replaced(machine):
    key = machine.root / "var/lib/musicsyncd/room.key"
    own = keyfile.make_host_keys(key)
    before = machine.tree()
    with pytest.raises(ConfigError, match=r"is the secret of this machine's own host, .* leave --join out"):
        machine.install("peer", KEYS)
    assert machine.tree() == before
    machine.install("peer", own.room_keys)  # Its own host's code says what it knows.
    assert keyfile.is_host_file(key)


def test_another_rooms_key_gives_way_and_a_newer_one_of_the_same_room_does_not(machine):
    machine.install("peer", KEYS)
    key = machine.root / "var/lib/musicsyncd/room.key"
    machine.install("peer", OTHER_KEYS)
    assert keyfile.load_room_keys(key) == OTHER_KEYS
    newer = RoomKeys(bytes(32), OTHER_KEYS.host_mark)
    keyfile.keep_room_keys(key, newer)
    assert words_of(machine.plan("peer", OTHER_KEYS)) == []
    assert keyfile.load_room_keys(key) == newer


def test_a_speaker_without_a_key_is_not_started(machine):
    before = machine.tree()
    with pytest.raises(ConfigError, match=r"a speaker needs the host's join code, .*: add --join CODE"):
        machine.install("peer")
    assert machine.tree() == before
    assert "needs the host's join code" in machine.plan("peer", start=False).remarks[0]


@pytest.mark.parametrize("has", ["host", "key", "credential", "open"])
def test_what_a_speaker_needs_no_code_for(machine, has):
    if has == "host":
        machine.install("host")
    files = {"key": "var/lib/musicsyncd/room.key", "credential": "etc/credstore/musicsyncd-peer.key"}
    if has in files:
        (machine.root / files[has]).parent.mkdir()
        (machine.root / files[has]).touch()
    if has == "open":
        machine.place.config_folder.mkdir()
        machine.place.config_file.write_text("[common]\nopen = true\n")
    assert words_of(machine.plan("peer"))[-1] == f"start {PEER}"
    assert machine.plan("peer").remarks == []


def configured(machine, text):
    machine.place.config_folder.mkdir(exist_ok=True, parents=True)
    machine.place.config_file.write_text(text)


@pytest.mark.parametrize("section", ["common", "peer"])
@pytest.mark.parametrize("key", ["state-dir", "cache_dir", "runtime-dir"])
@pytest.mark.parametrize("folder", ["srv/m", "var/lib/musicsyncd/../m"])
def test_a_folder_that_the_service_may_not_write_to_is_refused(machine, section, key, folder):
    path = machine.root / "srv/m" if folder == "srv/m" else machine.root / "var/lib/m"
    configured(machine, f'[{section}]\n{key} = "{machine.root}/{folder}"\n')
    before = machine.tree()
    named = f"{key.replace('_', '-')} in {machine.place.config_file} is {path}, where the service may not write: take"
    with pytest.raises(ConfigError, match=rf"{named} it out .*{machine.root}/var/cache/musicsyncd.*--user"):
        machine.install("peer", KEYS)
    assert machine.tree() == before
    if section == "peer":
        assert words_of(machine.plan("host"))[-1] == f"start {HOST}"


def test_folders_of_the_service_may_be_named(machine):
    state = machine.place.state_dir / "two"
    configured(machine, f'[common]\nstate-dir = "{state}"\ncache-dir = "{machine.place.cache_dir}"\n')
    with pytest.raises(ConfigError, match="add --join CODE"):
        machine.plan("peer")
    machine.install("peer", KEYS)
    assert keyfile.load_room_keys(state / "room.key") == KEYS
    assert not (machine.place.state_dir / "room.key").exists()
    assert words_of(machine.plan("peer", KEYS)) == words_of(machine.plan("peer")) == []


@pytest.mark.parametrize("role", ["host", "peer"])
def test_a_keys_file_elsewhere_is_read(machine, role):
    file = machine.place.config_folder / "my.key"
    configured(machine, '[common]\nkey-file = "my.key"\n')
    line = f"key-file in {machine.place.config_file} is {file}, "
    with pytest.raises(ConfigError, match=f"{line}which is not there, and the service may not make it: take out key"):
        machine.plan(role)
    keyfile.write_room_keys(file, KEYS)
    with pytest.raises(ConfigError, match=f"{line}and {file} is closed to the services' user musicsyncd: take out"):
        machine.plan(role)
    with (machine.root / "etc/passwd").open("a") as passwd:
        passwd.write(f"musicsyncd:x:{os.getuid()}:{os.getgid()}::/:/bin/false\n")
    assert words_of(machine.plan(role))[-1] == f"start musicsyncd-{role}.service"
    if role == "peer":
        with pytest.raises(ConfigError, match=f"{line}where the service may only read, so .* leave out --join"):
            machine.plan(role, KEYS)
    file.unlink()
    configured(machine, f'[common]\nkey-file = "my.key"\n[{role}]\nopen = true\n')
    assert words_of(machine.plan(role))[-1] == f"start musicsyncd-{role}.service"


def test_a_keys_file_of_its_own_is_not_the_hosts_nor_the_credential(machine):
    machine.install("host")
    machine.place.config_file.parent.mkdir(exist_ok=True)
    configured(machine, f'[peer]\nkey-file = "{machine.place.state_dir}/peer.key"\n')
    credential = machine.root / "etc/credstore/musicsyncd-peer.key"
    credential.parent.mkdir()
    credential.touch()
    with pytest.raises(ConfigError, match="add --join CODE"):
        machine.plan("peer")
    machine.install("peer", KEYS)
    assert keyfile.load_room_keys(machine.place.state_dir / "peer.key") == KEYS


def test_a_keys_file_at_home_is_shown_to_the_service(machine):
    file = machine.root / "home/me/my.key"
    file.touch(0o644)
    configured(machine, f'[peer]\nkey-file = "{file}"\n')
    drop_in = machine.root / f"etc/systemd/system/{PEER}.d/10-home.conf"
    assert f"write {drop_in}: the service may read in home folders" in words_of(machine.plan("peer"))


def test_what_is_set_up_with_folders_elsewhere_is_renewed_all_the_same(machine):
    machine.install("peer", KEYS)
    configured(machine, '[peer]\nstate-dir = "/srv/m"\nkey-file = "/srv/my.key"\n')
    machine.way = machine.installed("opt/new/bin/musicsyncd")
    assert "renew" in words_of(plans_to_renew(machine.place, machine.way)[0])[0]


@pytest.mark.parametrize("named", ["state-dir", "key-file"])
def test_a_users_service_has_its_key_where_the_file_says(machine, named):
    machine.system = FakeSystem(machine.root, user="me")
    folder = machine.root / "srv/mine"
    machine.place = replace(
        machine.place, of_user=True, units_folder=machine.system.units, run=machine.system, uid=1000, user="me"
    )
    configured(machine, f'[peer]\n{named} = "{folder if named == "state-dir" else folder / "room.key"}"\n')
    with pytest.raises(ConfigError, match="add --join CODE"):
        machine.plan("peer")
    machine.install("peer", KEYS)
    assert keyfile.load_room_keys(folder / "room.key") == KEYS
    assert words_of(machine.plan("peer")) == []


def test_music_in_a_home_folder_opens_it_for_reading_only_as_long_as_it_is_there(machine):
    (machine.root / "home/me").chmod(0o700)
    music = machine.root / "home/me/Music"
    music.mkdir()
    plan = machine.plan("host", library=[str(music)])
    drop_in = machine.root / f"etc/systemd/system/{HOST}.d/10-home.conf"
    assert f"write {drop_in}: the service may read in home folders" in words_of(plan)
    assert plan.remarks == [
        f"the services' user musicsyncd may not read {music}, for {machine.root}/home/me is closed to it: "
        f"`sudo chmod o+x {machine.root}/home/me` opens it"
    ]
    machine.install("host", library=[str(music)])
    assert "[Service]\nProtectHome=read-only\n" in drop_in.read_text()
    assert words_of(machine.plan("host", library=[str(music)])) == []
    plan = machine.plan("host", library=["/srv"])
    assert f"remove {drop_in}: nothing that it needs is in a home folder any more" in words_of(plan)
    machine.install("host", library=["/srv"])
    assert not drop_in.exists()
    drop_in.write_text("[Service]\nProtectHome=tmpfs\n")  # Somebody's own.
    machine.system.daemon_reload()
    assert words_of(machine.plan("host")) == []


def test_a_program_in_an_open_home_folder_is_seen_by_the_service(tmp_path):
    machine = Machine(tmp_path, "home/me/venv/bin/musicsyncd")
    machine.install("peer", KEYS)
    assert (machine.root / f"etc/systemd/system/{PEER}.d/10-home.conf").exists()


@pytest.mark.parametrize("closed", ["home/me", "home/me/venv/bin/musicsyncd", "home/me/venv/musicsyncd"])
def test_a_program_that_the_services_user_could_not_run_is_refused(tmp_path, closed):
    machine = Machine(tmp_path, "home/me/venv/bin/musicsyncd")
    (tmp_path / closed).chmod(0o700)
    before = machine.tree()
    advice = "PIPX_HOME=/opt/pipx.*venv in /opt.*--user"
    with pytest.raises(ConfigError, match=rf"for .*{closed} is closed to it: .*{advice}"):
        machine.install("peer", KEYS)
    assert machine.tree() == before


def test_the_units_of_a_debian_package_are_used_as_they_are(tmp_path):
    machine = Machine(tmp_path, "usr/bin/musicsyncd", "debian")
    for folder, name, text in (
        ("usr/lib/systemd/system", PEER, "[Service]\nExecStart=/usr/bin/musicsyncd peer\n"),
        ("usr/lib/sysusers.d", "musicsyncd.conf", "u musicsyncd -\n"),
    ):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / name).write_text(text)
    machine.system(["systemd-sysusers", "musicsyncd.conf"])
    machine.system.daemon_reload()
    of_pip = machine.installed("opt/m/bin/musicsyncd")
    before = machine.tree()
    packaged, machine.way = machine.way, of_pip
    machine.install("peer", KEYS)
    machine.way = packaged
    unit = machine.place.units_folder / PEER
    assert f"remove {unit}: the package has its own" in words_of(machine.plan("peer", KEYS))
    machine.install("peer", KEYS)
    assert not unit.exists()
    machine.uninstall("peer", purge=True)
    assert machine.tree() == before
    assert words_of(machine.plan("peer", KEYS, name="a")) == [
        f'set in {machine.place.config_file}, under [peer]: name = "a"',
        f"keep the room's key in {machine.place.state_dir}/room.key, for the user musicsyncd alone",
        f"have {PEER} start at every boot",
        f"start {PEER}",
    ]
    machine.install("peer", KEYS, name="a")
    machine.uninstall("peer", purge=True)
    assert machine.tree() == before


def test_a_newer_unit_is_written_and_what_runs_is_started_anew(machine):
    machine.install("peer", KEYS)
    machine.install("host", start=False)
    machine.way = machine.installed("opt/new/bin/musicsyncd")
    plans = plans_to_renew(machine.place, machine.way)
    assert [words_of(plan) for plan in plans] == [
        [
            f"renew {machine.place.units_folder}/{PEER}: the service, which runs {machine.way.program} peer",
            "have systemd read its units again",
            f"restart {PEER}: its unit is another one",
        ],
        [
            f"renew {machine.place.units_folder}/{HOST}: the service, which runs {machine.way.program} host",
            "have systemd read its units again",
        ],
    ]
    for plan in plans:
        plan.carry_out(lambda line: None)
    assert HOST not in machine.system.active
    assert [one.steps for one in plans_to_renew(machine.place, machine.way)] == [[], []]
    assert plans_to_renew(replace(machine.place, config_folder=machine.root / "none"), machine.way) == []


def test_a_program_newer_than_what_runs_is_a_reason_to_start_anew(machine):
    machine.install("peer", KEYS)
    machine.system.active[PEER] -= 3600
    assert words_of(machine.plan("peer", KEYS)) == [f"restart {PEER}: its unit is newer than what runs"]
    packaged = machine.root / "usr/lib/systemd/system" / PEER
    packaged.parent.mkdir(parents=True)
    (machine.root / "etc/systemd/system" / PEER).rename(packaged)
    machine.way = replace(machine.way, kind="debian")
    assert words_of(machine.plan("peer", KEYS)) == [f"restart {PEER}: the program is newer than what runs"]
    machine.place = replace(machine.place, clocks=lambda: (1000.0, machine.system.active[PEER] + 1))
    assert words_of(machine.plan("peer", KEYS)) == []  # A clock that was set back makes nothing newer.


def test_what_runs_from_its_source_is_always_started_anew(machine):
    machine.install("peer", KEYS)
    machine.way = replace(machine.way, kind="source", source=Path("/src"))
    assert words_of(plans_to_renew(machine.place, machine.way)[0]) == [f"restart {PEER}: it was told to"]


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("restart", rf"{PEER} does not start \(`journalctl -e -u {PEER}` says why\): no, I will not"),
        ("enable", f"{PEER} cannot be enabled: no, I will not"),
        ("daemon-reload", "systemd does not read its units again: no, I will not"),
        ("systemd-sysusers", "the user musicsyncd cannot be made: systemd-sysusers says: no, I will not"),
    ],
)
def test_a_command_that_fails_is_one_line_and_a_later_run_goes_on(machine, command, said):
    machine.system.failing[command] = "no, I will not"
    with pytest.raises(MusicSyncError, match=said):
        machine.install("peer", KEYS)
    machine.system.failing.clear()
    machine.install("peer", KEYS)
    assert PEER in machine.system.active


def test_a_masked_unit_is_said_before_anything_is_written(machine):
    machine.system.masked = True
    before = machine.tree()
    with pytest.raises(ConfigError, match=f"{PEER} is masked, so it never starts: `systemctl unmask {PEER}` first"):
        machine.install("peer", KEYS)
    assert machine.tree() == before


def test_a_damaged_record_is_one_line(machine):
    machine.place.config_folder.mkdir()
    machine.place.record_file.write_text('{"files": 3}')
    for call in (machine.install, machine.uninstall):
        with pytest.raises(ConfigError, match=r"installed\.json, where it stands what was set up, is damaged"):
            call("peer")


def test_the_record_can_be_read_by_everybody_and_holds_no_key(machine):
    machine.install("peer", KEYS, name="kitchen")
    text = machine.place.record_file.read_text()
    assert machine.place.record_file.stat().st_mode & 0o777 == 0o644
    assert json.loads(text)["roles"] == ["peer"]
    code = keyfile.join_code(KEYS)
    assert code not in text
    assert not [path for path in (machine.root / "etc").rglob("*") if path.is_file() and code in path.read_text()]


def test_folders_are_open_to_the_service_whatever_the_umask(machine):
    before = os.umask(0o077)
    try:
        machine.install("host", name="a", library=[f"{machine.root}/home/me"])
    finally:
        os.umask(before)
    for path in ("musicsyncd", f"systemd/system/{HOST}.d", "sysusers.d"):
        assert (machine.root / "etc" / path).stat().st_mode & 0o777 == 0o755
    assert machine.place.config_file.stat().st_mode & 0o777 == 0o644


def test_nothing_was_set_up_so_nothing_is_taken_away(machine):
    before = machine.tree()
    assert machine.uninstall("host", purge=True) == []
    assert machine.tree() == before


def test_a_way_says_what_to_type():
    folder = Path("/opt/pipx/venvs/musicsyncd/bin")
    way = Way("pipx-global", folder / "musicsyncd", folder / "python", Path("/m"))
    variables = ("env", "PIPX_HOME=/opt/pipx", "PIPX_BIN_DIR=/usr/local/bin")
    assert way.upgrade_command() == (*variables, "pipx", "upgrade", "musicsyncd")
    pip = (f"{folder}/python", "-m", "pip", "install", "--upgrade")
    assert replace(way, kind="venv").upgrade_command() == (*pip, "musicsyncd")
    assert replace(way, kind="venv", requirement="/src").upgrade_command() == (*pip, "/src")
    assert replace(way, kind="user").upgrade_command()[-2:] == ("--user", "musicsyncd")
    assert replace(way, kind="debian").upgrade_command() == ()
    assert "apt-get install ./dist/musicsyncd_" in replace(way, kind="debian").upgrade_by_hand()
    assert replace(way, kind="source", source=Path("/src")).upgrade_by_hand() == "git -C /src pull"


def test_a_command_speaks_english_and_ends_in_time(monkeypatch):
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    assert run_command([sys.executable, "-c", "import os; print(os.environ['LC_ALL'])"]).out == "C.UTF-8\n"
    ran = run_command([sys.executable, "-c", "input()"], timeout_s=0.0)
    assert (ran.code, ran.complaint) == (TIMED_OUT, "no end after 0 s")
