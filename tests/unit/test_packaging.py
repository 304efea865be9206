"""What people are given: a wheel and a source archive with all that belongs in, and the manual page."""

from __future__ import annotations

import email
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest

import musicsyncd

ROOT = Path(musicsyncd.__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PYTHONS = re.findall(r"Python :: (3\.\d+)", " ".join(PROJECT["classifiers"]))
INDEX_IS_AWAY = ("ConnectionError", "NewConnectionError", "ConnectTimeout", "Temporary failure in name resolution")
"""What pip says when it got no answer, and not the answer that there is no such wheel."""


def load(path):
    """Import a file that is in no package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def cannot(reason):
    """End a test that this machine cannot run; on the machine that decides, as failed."""
    (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)


def shipped():
    """Return what belongs in a wheel, by the names that it has there: all that is in the package's folder."""
    names = {
        str(path.relative_to(ROOT))
        for top in (ROOT / "musicsyncd", ROOT / "musicsyncd/systemd", ROOT / "musicsyncd/systemd/user")
        for path in top.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    return {name for name in names if not name.endswith((".pyc", "~"))}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Build a source archive, and from it a wheel, out of a copy: a build leaves folders behind."""
    folder = tmp_path_factory.mktemp("build")
    copy = folder / "source"
    leave = shutil.ignore_patterns("__pycache__", ".*", "*.egg-info", "build", "dist")
    shutil.copytree(ROOT, copy, symlinks=True, ignore=leave)
    words = [sys.executable, "-m", "build", "--outdir", str(folder / "dist"), str(copy)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode and any(word in done.stdout + done.stderr for word in INDEX_IS_AWAY):
        cannot("the package index, from which the build takes setuptools, cannot be reached")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "dist"


@pytest.fixture(scope="module")
def wheel(built):
    (path,) = built.glob("*.whl")
    with zipfile.ZipFile(path) as opened:
        yield opened


def test_the_wheel_has_every_file_of_the_package_and_nothing_else(wheel):
    names = set(wheel.namelist())
    about = {name for name in names if name.split("/")[0].endswith((".dist-info", ".data"))}
    assert names - about == shipped()
    assert {re.sub(r"^musicsyncd-[^/]*\.", "", name) for name in about} == {
        "data/data/share/man/man1/musicsyncd.1",
        "dist-info/METADATA",
        "dist-info/RECORD",
        "dist-info/WHEEL",
        "dist-info/entry_points.txt",
        "dist-info/licenses/LICENSE",
        "dist-info/top_level.txt",
    }


def test_the_wheel_has_pages_units_and_the_mark_of_types(wheel):
    """So that the test above cannot pass on an empty folder."""
    assert {
        "musicsyncd/py.typed",
        "musicsyncd/web/index.html",
        "musicsyncd/systemd/musicsyncd-host.service",
        "musicsyncd/systemd/musicsyncd-peer.service",
        "musicsyncd/systemd/user/musicsyncd-peer.service",
    } <= set(wheel.namelist())


def test_the_wheel_says_what_it_is_and_what_it_needs(wheel):
    (name,) = (name for name in wheel.namelist() if name.endswith("METADATA"))
    about = email.message_from_bytes(wheel.read(name))
    assert (about["Version"], about["Requires-Python"]) == (musicsyncd.__version__, ">=3.11")
    assert {"formats", "plot", "mpris"} <= set(about.get_all("Provides-Extra"))
    assert len([one for one in about.get_all("Requires-Dist") if "extra ==" not in one]) == len(PROJECT["dependencies"])


def test_the_source_archive_has_all_of_the_wheel_and_no_tests(built, wheel):
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as opened:
        names = {name.partition("/")[2] for name in opened.getnames()}
    assert shipped() | {"docs/musicsyncd.1", "LICENSE", "README.md", "pyproject.toml"} <= names
    assert not [name for name in names if name.startswith("tests") or "__pycache__" in name]


def test_the_version_is_said_alike_everywhere():
    assert PROJECT["version"] == musicsyncd.__version__


def test_every_python_that_is_promised_is_counted():
    assert PYTHONS == ["3.11", "3.12", "3.13", "3.14"]


@pytest.mark.parametrize("version", PYTHONS)
def test_every_dependency_has_a_wheel_for_a_raspberry_pi(version, tmp_path):
    """64 bit: those of Raspberry Pi OS 12 (glibc 2.36), and so of every later one."""
    extras = PROJECT["optional-dependencies"]
    wanted = [*PROJECT["dependencies"], *(one for name in ("formats", "plot", "mpris") for one in extras[name])]
    words = ["install", "--dry-run", "--ignore-installed", "--only-binary=:all:", "--no-input", "--quiet", "--report=-"]
    platforms = [f"--platform=manylinux_2_{minor}_aarch64" for minor in range(17, 37)]
    place = [*platforms, "--platform=manylinux2014_aarch64", f"--python-version={version}", f"--target={tmp_path}"]
    done = subprocess.run(
        [sys.executable, "-m", "pip", *words, *place, *wanted],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PIP_RETRIES": "2", "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
    )
    if done.returncode and any(word in done.stderr for word in INDEX_IS_AWAY):
        cannot("the package index cannot be reached")
    assert done.returncode == 0, done.stderr
    found = [entry["download_info"]["url"].rpartition("/")[2] for entry in json.loads(done.stdout)["install"]]
    names = {name.partition("-")[0].lower().replace("_", "-") for name in found}
    assert {re.split(r"[^\w-]", one)[0].lower().replace("_", "-") for one in wanted} <= names
    assert not [name for name in found if not name.endswith(("aarch64.whl", "-any.whl"))]


def test_the_manual_page_is_what_the_commands_say():
    page = load(ROOT / "docs/make_man_page.py").page()
    kept = (ROOT / "docs/musicsyncd.1").read_text()
    assert kept == page, "make it anew: python docs/make_man_page.py > docs/musicsyncd.1"


def test_the_manual_page_has_what_manual_pages_have():
    sections = re.findall(r"^\.SH (.*)$", (ROOT / "docs/musicsyncd.1").read_text(), flags=re.MULTILINE)
    assert sections == [
        *("NAME", "SYNOPSIS", "DESCRIPTION", "COMMANDS", "OPTIONS", "ENVIRONMENT"),
        *("FILES", "SIGNALS", "EXIT STATUS", "EXAMPLES", "SEE ALSO"),
    ]


def test_the_manual_page_is_sound_roff():
    if shutil.which("groff") is None:
        cannot("groff is not installed")
    words = ["groff", "-man", "-Tutf8", "-ww", str(ROOT / "docs/musicsyncd.1")]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert "musicsyncd status --watch" in re.sub(r"\x1b\[\d*m", "", done.stdout)


def test_text_is_shown_by_roff_as_it_stands():
    escaped = load(ROOT / "docs/make_man_page.py").escaped
    assert escaped(r".B \fB it's -1 µs") == r"\&.B \(rsfB it\(aqs \-1 \[u00B5]s"


def test_debian_orders_versions_as_python_does():
    version = load(ROOT / "debian/build.py").debian_version
    suffix = f"+py{sys.version_info.major}{sys.version_info.minor}"
    assert version("0.2.0") == f"0.2.0{suffix}"
    assert version("0.2.0rc1") == f"0.2.0~rc1{suffix}"
    assert version("0.2.0.dev3") == f"0.2.0~dev3{suffix}"
    assert version("0.2.0", 1_795_439_142.7) == f"0.2.0{suffix}+20261123.130542"


def test_what_is_built_later_is_newer_for_dpkg(monkeypatch):
    if shutil.which("dpkg") is None:
        cannot("dpkg is not installed")
    version = load(ROOT / "debian/build.py").debian_version
    midnight_s = 1_795_392_000.0
    at_night, in_the_evening, next_day = (version("0.1.0", midnight_s + hours * 3600) for hours in (0.1, 23, 25))
    rising = [
        *(version("0.1.0rc1", date_s) for date_s in (midnight_s, midnight_s + 1e8)),
        *("0.1.0", version("0.1.0"), at_night, in_the_evening, next_day),
    ]
    monkeypatch.setattr(sys, "version_info", SimpleNamespace(major=3, minor=sys.version_info.minor + 1))
    rising += [version("0.1.0", midnight_s), version("0.1.1rc1"), "0.1.1", version("0.1.1", 0.0), "0.10"]
    for older, newer in pairwise(rising):
        assert subprocess.run(["dpkg", "--compare-versions", older, "lt", newer], check=False).returncode == 0, newer


def test_a_packages_date_is_that_of_the_commit_or_of_the_newest_file(tmp_path, monkeypatch):
    if shutil.which("git") is None:
        cannot("git is not installed")
    date_s = load(ROOT / "debian/build.py").source_date_s
    for name in ("SOURCE_DATE_EPOCH", "GIT_DIR", "GIT_WORK_TREE"):
        monkeypatch.delenv(name, raising=False)
    for number, name in enumerate(("README.md", "musicsyncd/a.py", "musicsyncd/__pycache__/a.pyc", "tests/b.py")):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(name)
        os.utime(path, (5000, 1000 * (number + 1)))
    assert date_s(tmp_path) == 2000.0, "there is no git: the newest of what goes into the package"

    def git(*words):
        who = ["-c", "user.name=a", "-c", "user.email=a@b.invalid"]
        at = {**os.environ, "GIT_COMMITTER_DATE": "1700000000 +0200"}
        subprocess.run(["git", "-C", tmp_path, *who, *words], check=True, capture_output=True, env=at)

    git("init")
    (tmp_path / ".gitignore").write_text("__pycache__/\n")
    git("add", ".")
    git("commit", "--message=a")
    assert date_s(tmp_path) == 1_700_000_000.0
    (tmp_path / "tests/b.py").write_text("goes into no package")
    assert date_s(tmp_path) == 1_700_000_000.0
    (tmp_path / "musicsyncd/a.py").write_text("changed")
    os.utime(tmp_path / "musicsyncd/a.py", (5000, 1_800_000_000))
    assert date_s(tmp_path) == 1_800_000_000.0
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "7")
    assert date_s(tmp_path) == 7.0


@pytest.mark.parametrize(
    ("tool", "said"),
    [(None, r"needs `sudo apt-get install -y dpkg-dev"), ("exit 3", r"dpkg-buildpackage failed \(3\), see above")],
)
def test_a_package_that_cannot_be_built_is_one_line(tmp_path, monkeypatch, tool, said):
    if tool is not None:
        command = tmp_path / "dpkg-buildpackage"
        command.write_text(f"#!/bin/sh\n{tool}\n")
        command.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sys.argv", ["build.py", str(tmp_path / "made")])
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    with pytest.raises(SystemExit, match=said):
        load(ROOT / "debian/build.py").main()
    assert not (tmp_path / "made").exists()


def test_debians_changelog_has_the_points_of_ours():
    news = "## Unreleased\n\n### Added\n- One,\n  long.\n\n### Fixed\n- Two.\n\n"
    text = f"# Changelog\n\nWhat is.\n\n{news}## 0.1.0 - 2026\n- Old.\n"
    made = load(ROOT / "debian/build.py").debian_changelog(text, "0.2.0", "A <a@b>", 0.0)
    made = re.sub(r"\+py\d+", "", made)
    made = made.replace("0.2.0+19700101.000000", "0.2.0", 1)
    assert made == (
        "musicsyncd (0.2.0) unstable; urgency=medium\n\n  * One, long.\n  * Two.\n\n"
        " -- A <a@b>  Thu, 01 Jan 1970 00:00:00 +0000\n\n"
        "musicsyncd (0.1.0) unstable; urgency=medium\n\n  * Old.\n\n -- A <a@b>  Thu, 01 Jan 1970 00:00:00 +0000\n"
    )
