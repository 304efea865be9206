"""What all tests in containers share: a clean Debian, and a layer with musicsyncd and what it needs; each made once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "rig"))
sys.path.insert(0, str(Path(__file__).parents[1] / "e2e"))

from house import build_card

from container import box

PROJECT = Path(__file__).parents[2]
PACKAGES = "usr/local/lib/python3.11/dist-packages"

COMMAND = """#!/usr/bin/python3
from musicsyncd.cli import main

main()
"""


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Debian's root folder to make boxes of; nobody writes in it."""
    reason = box.why_not()
    if reason:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
    folder = tmp_path_factory.mktemp("debian") / "root"
    box.make_root(folder)
    return folder


@pytest.fixture(scope="session")
def installed(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A layer over the root: ``/usr/bin/musicsyncd``, and the wheels that bookworm's own Python takes."""
    fetched, layer = tmp_path_factory.mktemp("fetched"), tmp_path_factory.mktemp("installed")
    needed = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
    only = ["--python-version=3.11", "--only-binary=:all:"]
    subprocess.run([*pip, *only, "--target", str(fetched / PACKAGES), *needed], check=True)
    ours = fetched / PACKAGES / "musicsyncd"
    shutil.copytree(PROJECT / "musicsyncd", ours, ignore=shutil.ignore_patterns("__pycache__"))
    with box.Box(root, fetched) as inside:
        # Its own Python compiles it: the services may not write there, and each of their starts would do it again.
        inside.run("python3", "-m", "compileall", "-q", f"/{PACKAGES}", timeout_s=120.0)
        shutil.copytree(inside.root / PACKAGES, layer / PACKAGES)
    command = layer / "usr/bin/musicsyncd"
    command.parent.mkdir()
    command.write_text(COMMAND)
    command.chmod(0o755)
    return layer


@pytest.fixture(scope="session")
def card(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ALSA's plugin that is a sound card, see ``tests/rig/vdac.c``."""
    return build_card(tmp_path_factory.mktemp("card"))
