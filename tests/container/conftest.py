"""What all tests in containers share: a clean Debian, and a layer with musicsyncd and what it needs; each made once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "rig"))
sys.path.insert(0, str(Path(__file__).parents[1] / "e2e"))

from house import build_card, need

from container import box

PROJECT = Path(__file__).resolve().parents[2]
NEEDED = ("/usr/bin/dpkg-buildpackage", "/usr/bin/dh", "/usr/bin/python3")
PACKAGES = f"usr/local/lib/{box.PYTHON}/dist-packages"

COMMAND = """#!/usr/bin/python3
from musicsyncd.cli import main

main()
"""


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Debian's root folder to make boxes of; nobody writes in it."""
    if os.geteuid() != 0:
        pytest.skip("containers are made by root")
    reason = box.why_not()
    need(not reason, f"a container ({reason})")
    folder = tmp_path_factory.mktemp("debian") / "root"
    box.make_root(folder)
    return folder


@pytest.fixture(scope="session")
def package(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Debian package, made by its one command; not compressed, as nobody keeps it."""
    missing = [tool for tool in NEEDED if not Path(tool).exists()]
    need(not missing, ", ".join(missing))
    folder = tmp_path_factory.mktemp("package")
    environment = {**os.environ, "DPKG_DEB_COMPRESSOR_TYPE": "none"}
    words = ["/usr/bin/python3", str(PROJECT / "debian/build.py"), str(folder)]
    made = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert made.returncode == 0, f"{made.stdout[-4000:]}{made.stderr[-4000:]}"
    (path,) = folder.glob("musicsyncd_*.deb")
    return path


@pytest.fixture(scope="session")
def installed(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A layer over the root: ``/usr/bin/musicsyncd``, and what the package carries, as if pip had put it there."""
    unpacked, layer = tmp_path_factory.mktemp("unpacked"), tmp_path_factory.mktemp("installed")
    subprocess.run(["dpkg-deb", "--extract", str(package), str(unpacked)], check=True)
    shutil.move(unpacked / f"usr/lib/musicsyncd/lib/{box.PYTHON}/site-packages", layer / PACKAGES)
    command = layer / "usr/bin/musicsyncd"
    command.parent.mkdir()
    command.write_text(COMMAND)
    command.chmod(0o755)
    return layer


@pytest.fixture(scope="session")
def card(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ALSA's plugin that is a sound card, see ``tests/rig/vdac.c``."""
    return build_card(tmp_path_factory.mktemp("card"))
