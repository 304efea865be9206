"""The parts that setting up is made of: texts of units, a person's configuration file, access, the way of install."""

from __future__ import annotations

import importlib
import shlex
import sys
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest

import musicsyncd
from musicsyncd.errors import ConfigError
from musicsyncd.system.installing import config_file, way
from musicsyncd.system.installing.access import blocker, lies_at_home
from musicsyncd.system.installing.config_file import HEADER, Change
from musicsyncd.system.installing.place import NOT_THERE, Account, Place, run_command
from musicsyncd.system.installing.plan import check_machine, check_portaudio, check_root
from musicsyncd.system.installing.units import as_word, sysusers_text, unit_text

# -- units -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "word"),
    [
        ("/opt/m/bin/musicsyncd", "/opt/m/bin/musicsyncd"),
        ("/opt/my music/musicsyncd", '"/opt/my music/musicsyncd"'),
        ("/opt/100%/musicsyncd", '"/opt/100%%/musicsyncd"'),
        ('/opt/a"b\\c/musicsyncd', '"/opt/a\\"b\\\\c/musicsyncd"'),
        ("/opt/ü/musicsyncd", '"/opt/ü/musicsyncd"'),
    ],
)
def test_a_path_is_one_word_of_a_unit(path, word):
    assert as_word(Path(path)) == word


@pytest.mark.parametrize("path", ["/opt/a\nb/musicsyncd", "/opt/\udce9/musicsyncd"])
def test_a_path_that_no_unit_can_have_is_refused(path):
    with pytest.raises(ConfigError, match="cannot stand in a unit: install it elsewhere"):
        as_word(Path(path))


@pytest.mark.parametrize("role", ["host", "peer"])
@pytest.mark.parametrize("of_user", [False, True])
def test_only_the_program_of_a_unit_is_another(role, of_user):
    name = f"{'user/' if of_user else ''}musicsyncd-{role}.service"
    shipped = (Path(musicsyncd.__file__).parent / "systemd" / name).read_text().splitlines()
    made = unit_text(role, Path("/x y/bin/musicsyncd"), of_user=of_user).decode().splitlines()
    assert len(made) == len(shipped)
    changed = [(old, new) for old, new in zip(shipped, made, strict=True) if old != new]
    assert changed == [(f"ExecStart=/usr/bin/musicsyncd {role}", f'ExecStart="/x y/bin/musicsyncd" {role}')]


def test_the_services_user_is_the_one_that_is_made():
    assert "u musicsyncd " in sysusers_text().decode()
    for role in ("host", "peer"):
        assert "\nUser=musicsyncd\n" in unit_text(role, Path("/m"), of_user=False).decode()


# -- the configuration file ---------------------------------------------------------------------

TEXT = '# mine\n[host]\nreplaygain_preamp_db = 3  # loud\nname = "a"\n\n[key]\nqr = true\n'


def test_keys_are_written_between_what_is_there():
    values = {"name": "b", "library": ["/a b", "/c"], "speaker": True, "replaygain-preamp-db": 2}
    found = config_file.changes(TEXT, "host", values)
    assert [one.words() for one in found] == [
        'name = "b" (it is "a")',
        'library = ["/a b", "/c"]',
        "speaker = true",
        "replaygain-preamp-db = 2 (it is 3)",
    ]
    text = config_file.with_changes(TEXT, found)
    assert text == (
        '# mine\n[host]\nreplaygain_preamp_db = 2  # loud\nname = "b"\n'
        'library = ["/a b", "/c"]\nspeaker = true\n\n[key]\nqr = true\n'
    )
    assert config_file.changes(text, "host", values) == []
    assert config_file.without_keys(text, found) == TEXT


def test_a_file_that_is_not_there_is_begun_with_what_it_is():
    text = config_file.with_changes(None, [Change("peer", "name", "x")])
    assert text == HEADER + '\n[peer]\nname = "x"\n'
    assert config_file.same_but_for_blank_lines(config_file.without_keys(text, [Change("peer", "name", "x")]), HEADER)


def test_true_and_one_are_not_the_same():
    assert config_file.changes("[host]\nspeaker = 1\n", "host", {"speaker": True})
    assert not config_file.changes("[host]\nspeaker = true\n", "host", {"speaker": True})


def test_a_section_in_which_something_stays_stays():
    undone = [Change("host", "name", "a")]
    assert config_file.without_keys('[host]\n# why\nname = "a"\n', undone) == "[host]\n# why\n"
    assert config_file.without_keys('[host]\nname = "a"\n[peer]\n', undone) == "[peer]\n"


@pytest.mark.parametrize("data", [b"[host\n", b"[host]\n[host]\n", b"\xff"])
def test_a_broken_file_is_one_line_that_names_it(tmp_path, data):
    (tmp_path / "m.toml").write_bytes(data)
    with pytest.raises(ConfigError, match=r"m\.toml is not valid TOML: .*; mend it first$"):
        config_file.read_text(tmp_path / "m.toml")


# -- access -------------------------------------------------------------------------------------

SERVICE = Account(4711, 4712, frozenset({4712, 29}))


@pytest.fixture
def music(tmp_path):
    folder = tmp_path / "home/me/Music"
    folder.mkdir(parents=True)
    for one in (folder, folder.parent, folder.parent.parent):
        one.chmod(0o755)
    return folder


def test_what_is_closed_on_the_way_is_named(music, tmp_path):
    assert blocker(music, None, tmp_path) is None
    for closed, mode in ((music, 0o711), (music.parent, 0o754), (music.parent.parent, 0o700)):
        closed.chmod(mode)
        assert blocker(music, None, tmp_path) == closed
    assert blocker(music / "none.flac", None, tmp_path) == music.parent.parent


def test_owner_and_group_count(music, tmp_path):
    mine = music.stat()
    music.chmod(0o050)
    assert blocker(music, Account(4711, 1, frozenset({mine.st_gid})), tmp_path) is None
    assert blocker(music, Account(mine.st_uid, 1, frozenset()), tmp_path) == (None if mine.st_uid == 0 else music)
    assert blocker(music, SERVICE, tmp_path) == music


def test_the_way_of_a_link_and_of_where_it_leads_both_count(music, tmp_path):
    link = tmp_path / "srv"
    link.symlink_to(music)
    assert blocker(link, None, tmp_path) is None
    assert lies_at_home(link, tmp_path)
    assert lies_at_home(music, tmp_path)
    assert not lies_at_home(tmp_path / "srv2", tmp_path)
    assert not lies_at_home(tmp_path / "homes/x", tmp_path)
    music.parent.chmod(0o700)
    assert blocker(link, None, tmp_path) == music.parent


def test_a_file_that_is_not_there_keeps_nobody_out(music, tmp_path):
    assert blocker(music / "none" / "x", None, tmp_path) is None


# -- the way of install ------------------------------------------------------------------------


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package that was copied into an environment of its own, as pip does it."""
    folder = tmp_path / "venv/lib/site-packages/musicsyncd"
    folder.mkdir(parents=True)
    info = folder.parent / "musicsyncd-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: musicsyncd\nVersion: 1\n")
    monkeypatch.setattr(metadata, "distribution", lambda name: metadata.PathDistribution(info))
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "venv"))
    monkeypatch.setattr(way, "DPKG_INFO", tmp_path / "dpkg")
    return folder


def test_the_ways_are_told_apart(package, tmp_path, monkeypatch):
    assert way._kind(package) == ("venv", None)
    (tmp_path / "venv/pipx_metadata.json").touch()
    assert way._kind(package) == ("pipx", None)
    monkeypatch.setenv("PIPX_GLOBAL_HOME", str(tmp_path))
    assert way._kind(package) == ("pipx-global", None)
    (tmp_path / "venv/pipx_metadata.json").unlink()
    monkeypatch.setattr(sys, "base_prefix", sys.prefix)
    monkeypatch.setattr(way.site, "getusersitepackages", lambda: str(package.parent))
    assert way._kind(package) == ("user", None)
    monkeypatch.setattr(way.site, "getusersitepackages", lambda: "/nowhere")
    assert way._kind(package) == ("system", None)
    (tmp_path / "dpkg").mkdir()
    (tmp_path / "dpkg/musicsyncd.list").write_text(f"/.\n{package}/__init__.py\n")
    assert way._kind(package) == ("debian", None)


@pytest.mark.parametrize(
    ("url", "requirement"),
    [
        (None, "musicsyncd"),
        ('{"url": "file:///srv/my%20clone", "dir_info": {}}', "/srv/my clone"),
        ('{"url": "file:///tmp/musicsyncd-1-py3-none-any.whl", "archive_info": {}}', ""),
        (
            '{"url": "https://example.org/m.git", "vcs_info": {"vcs": "git", "commit_id": "0"}}',
            "musicsyncd @ git+https://example.org/m.git",
        ),
        ("[]", "musicsyncd"),
        ("{", "musicsyncd"),
    ],
)
def test_an_upgrade_asks_where_the_package_came_from(package, url, requirement):
    if url is not None:
        (package.parent / "musicsyncd-1.dist-info/direct_url.json").write_text(url)
    assert way._requirement() == requirement


@pytest.mark.parametrize(
    ("kind", "requirement", "words"),
    [
        ("venv", "musicsyncd", "/v/python -m pip install --upgrade musicsyncd"),
        ("user", "/srv/clone", "/v/python -m pip install --upgrade --user /srv/clone"),
        ("system", "musicsyncd @ git+x", "/v/python -m pip install --upgrade --force-reinstall 'musicsyncd @ git+x'"),
        ("pipx", "/srv/clone", "pipx upgrade musicsyncd"),
        *((kind, "", "") for kind in ("venv", "user", "system", "pipx", "pipx-global")),
        ("debian", "musicsyncd", ""),
    ],
)
def test_each_way_has_a_command_to_upgrade_by(package, kind, requirement, words):
    made = way.Way(kind, Path("/v/musicsyncd"), Path("/v/python"), package, requirement=requirement)
    assert shlex.join(made.upgrade_command()) == words
    assert made.folder == (Path("/srv/clone") if requirement == "/srv/clone" else None)


@pytest.mark.parametrize("kind", ["venv", "user", "pipx-global"])
@pytest.mark.parametrize("owner", [0, 1000])
def test_what_came_as_a_file_is_upgraded_with_a_file(package, monkeypatch, kind, owner):
    made = way.Way(kind, Path("/v/musicsyncd"), Path("/v/python"), package, requirement="")
    monkeypatch.setattr(Path, "stat", lambda path: SimpleNamespace(st_uid=owner))
    sudo, of_user = "" if owner else "sudo ", " --user" if kind == "user" else ""
    assert made.upgrade_by_hand() == f"{sudo}/v/python -m pip install --upgrade{of_user} musicsyncd-NEWER.whl"


def test_a_source_tree_is_one_however_python_finds_it(package, tmp_path, monkeypatch):
    assert way._kind(tmp_path / "src/musicsyncd") == ("source", tmp_path / "src")
    (package.parent / "musicsyncd-1.dist-info/direct_url.json").write_text('{"dir_info": {"editable": true}}')
    assert way._kind(package) == ("source", package.parent)

    def none(name):
        raise metadata.PackageNotFoundError

    monkeypatch.setattr(metadata, "distribution", none)
    assert way._kind(package)[0] == "source"


def test_without_a_script_there_is_nothing_to_start(monkeypatch, tmp_path):
    monkeypatch.setattr(way, "_script", lambda kind: tmp_path / "musicsyncd")
    with pytest.raises(ConfigError, match=r"there is no program .* could start: install musicsyncd first"):
        way.find_way()
    (tmp_path / "musicsyncd").touch()
    assert way.find_way().program == tmp_path / "musicsyncd"


# -- what is refused ----------------------------------------------------------------------------


def test_a_machine_without_systemd_or_root(tmp_path):
    place = Place.of_system(tmp_path)
    with pytest.raises(ConfigError, match="does not run systemd, so start it by hand: BY HAND"):
        check_machine(place, "BY HAND")
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    check_machine(place, "")


@pytest.mark.parametrize(("of_user", "uid", "refused"), [(False, 1000, True), (False, 0, False), (True, 1000, False)])
def test_who_has_to_be_root(tmp_path, of_user, uid, refused):
    place = Place(tmp_path, of_user, tmp_path, tmp_path, tmp_path, tmp_path, "me", uid)
    if refused:
        with pytest.raises(ConfigError, match="this needs root: `sudo it`; or add --user, for a service of your own"):
            check_root(place, "sudo it")
    else:
        check_root(place, "sudo it")


def test_a_missing_portaudio_names_its_package():
    def missing(name):
        assert name == "libportaudio.so.2"
        raise OSError

    with pytest.raises(ConfigError, match="`sudo apt-get install libportaudio2`"):
        check_portaudio(missing)
    check_portaudio(lambda name: None)


def test_commands_that_are_not_there_or_fail_are_no_errors():
    assert run_command(["/no/such/program"]).code == NOT_THERE
    ran = run_command([sys.executable, "-c", "import sys; print('out'); sys.exit('first\\nlast')"])
    assert (ran.code, ran.complaint) == (1, "last")


@pytest.mark.parametrize(("version", "line"), [((3, 10, 13), "musicsyncd needs Python 3.11 or newer, this is 3.10.13")])
def test_an_older_python_gets_one_line(monkeypatch, version, line):
    monkeypatch.setattr(sys, "version_info", version)
    with pytest.raises(SystemExit, match=line):
        importlib.reload(musicsyncd)
    monkeypatch.undo()
    importlib.reload(musicsyncd)
