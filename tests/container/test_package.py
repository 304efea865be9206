"""The Debian package, made as README says, on a clean Debian: installed, used, upgraded, removed, purged."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from container.box import PYTHON, Box

ROOT = Path(__file__).resolve().parents[2]
HIGHER = "99.0"
WATCHED = ("etc", "home", "lib", "opt", "root", "run", "srv", "usr", "var")
"""Folders in which a purge must leave nothing. The others are the kernel's, or for anything to be in."""

NOT_OURS = (
    "run/systemd/",
    "var/cache/apt/",
    "var/cache/debconf/",
    "var/lib/apt/",
    "run/log/",
    "run/udev/",
    "var/log/",
    "var/lib/dpkg/",
    "var/cache/ldconfig/",
    "var/lib/systemd/",
)
"""Where Debian's own tools write down what happened."""


@pytest.fixture(scope="module")
def higher(package, tmp_path_factory):
    """Return the same package as a higher version."""
    folder = tmp_path_factory.mktemp("higher")
    subprocess.run(["dpkg-deb", "--raw-extract", package, folder / "tree"], check=True)
    control = folder / "tree/DEBIAN/control"
    lines = control.read_text().splitlines()
    lines = [f"Version: {HIGHER}" if line.startswith("Version:") else line for line in lines]
    control.write_text("\n".join(lines) + "\n")
    build = ["dpkg-deb", "--root-owner-group", "-Znone", "--build", folder / "tree", folder / "higher.deb"]
    subprocess.run(build, check=True, capture_output=True)
    return folder / "higher.deb"


def install(box, package):
    """Install a package file in a box, as somebody does with ``apt install ./FILE``; all that it needs is there."""
    for lean in (box.root / "etc/dpkg/dpkg.cfg.d").glob("*mmdebstrap*"):
        lean.unlink()  # Which leaves out manual pages and documentation.
    box.put(package, "/var/tmp/musicsyncd.deb")
    said = box.run("apt-get", "install", "--yes", "--no-install-recommends", "/var/tmp/musicsyncd.deb", timeout_s=120.0)
    (box.root / "var/tmp/musicsyncd.deb").unlink()
    return said.stdout


def files(box):
    """Return all files and folders of a box but those in which Debian keeps its own books."""
    found = set()
    for top in WATCHED:
        for folder, folders, names in os.walk(box.root / top):
            inside = os.path.relpath(folder, box.root)
            found.update(f"{inside}/{name}" for name in (*folders, *names))
    return {name for name in found if not f"{name}/".startswith(NOT_OURS)}


def pid_of(box, unit):
    return box.run("systemctl", "show", "--property=MainPID", "--value", unit).stdout.strip()


@pytest.fixture(scope="module")
def machine(root, package):
    """A box on which the package was installed, for tests that only look."""
    with Box(root) as box:
        install(box, package)
        yield box


def test_the_command_runs_in_the_environment_that_the_package_carries(machine):
    assert machine.run("musicsyncd", "--version").stdout.startswith("musicsyncd 0.")
    said = machine.run("musicsyncd", "version", "--json").stdout
    assert '"aiohttp"' in said
    assert "Run the host" in machine.run("musicsyncd", "host", "--help").stdout
    carried = "import sys, dbus_fast, musicsyncd; print(musicsyncd.__file__, sys.prefix)"
    said = machine.run("/usr/lib/musicsyncd/bin/python3", "-c", carried).stdout
    assert said.split() == [
        f"/usr/lib/musicsyncd/lib/{PYTHON}/site-packages/musicsyncd/__init__.py",
        "/usr/lib/musicsyncd",
    ]


def test_manual_example_and_completions_are_where_people_look(machine):
    page = machine.run("sh", "-c", "zcat /usr/share/man/man1/musicsyncd.1.gz").stdout
    assert page == (ROOT / "docs/musicsyncd.1").read_text()
    for path in (
        "usr/share/doc/musicsyncd/copyright",
        "usr/share/doc/musicsyncd/changelog.gz",
        "usr/share/doc/musicsyncd/examples/musicsyncd.toml.example",
        "usr/share/bash-completion/completions/musicsyncd",
        "usr/share/zsh/vendor-completions/_musicsyncd",
        "usr/share/fish/vendor_completions.d/musicsyncd.fish",
        "usr/lib/systemd/user/musicsyncd-peer.service",
    ):
        assert (machine.root / path).exists(), path


def test_the_units_are_sound_and_the_user_is_there(machine):
    units = ("musicsyncd-host.service", "musicsyncd-peer.service")
    verified = machine.run("systemd-analyze", "verify", *units)
    assert verified.stdout + verified.stderr == ""
    user = machine.run("getent", "passwd", "musicsyncd").stdout.split(":")
    assert user[5] == "/var/lib/musicsyncd"
    assert user[6].strip().endswith("nologin")
    assert "audio" in machine.run("id", "--name", "--groups", "musicsyncd").stdout.split()


def test_nothing_is_started_or_enabled_by_installing_it(machine):
    for unit in ("musicsyncd-host", "musicsyncd-peer"):
        assert machine.run("systemctl", "is-active", unit, check=False).stdout.strip() == "inactive"
        assert machine.run("systemctl", "is-enabled", unit, check=False).stdout.strip() == "disabled"


def test_no_file_names_the_folder_in_which_it_was_built(machine):
    found = machine.run("grep", "-rl", "musicsyncd-deb-", "/usr/lib/musicsyncd", "/usr/share", check=False)
    assert found.stdout == ""


def test_the_other_package_adds_what_decodes_more_kinds_of_files_and_stays_with_an_upgrade(machine, package, higher):
    (formats,) = package.parent.glob("musicsyncd-formats_*.deb")
    loaded = ("/usr/lib/musicsyncd/bin/python3", "-c", "import av; print(len(av.codecs_available) > 100)")
    assert machine.run(*loaded, check=False).returncode == 1
    install(machine, formats)
    assert machine.run(*loaded).stdout == "True\n"
    install(machine, higher)
    assert machine.run(*loaded).stdout == "True\n"


def test_it_is_used_upgraded_removed_and_purged(root, package, higher):
    with Box(root) as box:
        box.run("install", "-d", "/home/pi/Music")
        before = files(box)
        install(box, package)
        box.run("musicsyncd", "install", "host", "--name", "attic", "--library", "/home/pi/Music")
        assert (box.root / "etc/systemd/system/musicsyncd-host.service.d/10-home.conf").exists()
        box.wait_until(lambda: box.run("musicsyncd", "status", check=False).returncode == 0)
        box.run("musicsyncd", "rooms", "make", "cellar")
        assert json.loads(box.run("musicsyncd", "status", "--json").stdout)["host"]["name"] == "attic"
        first = pid_of(box, "musicsyncd-host")

        install(box, higher)
        assert box.run("dpkg-query", "--show", "--showformat=${Version}", "musicsyncd").stdout == HIGHER
        box.wait_until(lambda: pid_of(box, "musicsyncd-host") not in ("0", first))
        box.wait_until(lambda: box.run("musicsyncd", "status", check=False).returncode == 0)
        assert "cellar" in box.run("musicsyncd", "rooms").stdout
        assert box.run("systemctl", "is-active", "musicsyncd-peer", check=False).stdout.strip() == "inactive"

        box.run("apt-get", "remove", "--yes", "musicsyncd", timeout_s=60.0)
        assert box.run("systemctl", "is-active", "musicsyncd-host", check=False).stdout.strip() == "inactive"
        assert (box.root / "var/lib/musicsyncd/room.key").exists()
        assert not (box.root / "usr/lib/musicsyncd").exists()

        box.run("apt-get", "purge", "--yes", "musicsyncd", timeout_s=60.0)
        assert files(box) - before == set()
        assert box.run("getent", "passwd", "musicsyncd").returncode == 0
