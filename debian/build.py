#!/usr/bin/python3
"""Make the Debian packages for this machine's architecture, Debian release and Python: ``debian/build.py [FOLDER]``.

They go to FOLDER, ``dist`` if none is given. Needs ``apt install dpkg-dev debhelper python3-venv``, and the
package index, from which pip takes the wheels. Owns what dpkg-buildpackage cannot know: the version, which is
pyproject.toml's and the source's date, and the changelog, which is CHANGELOG.md's. It works in a copy, so that the
source stays as it is. Packages of ours that FOLDER holds from before are removed: a pattern finds only the new ones.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
import tomllib
from datetime import UTC, datetime
from email.utils import formatdate
from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent
NEEDED = ("pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE", "debian", "docs", "musicsyncd", "systemd")


def debian_version(version: str, date_s: float | None = None) -> str:
    """Return a version of PEP 440 as one that dpkg orders likewise, with the Python for which the package is made.

    Packages of one version for Debian 12 and 13 have different content, and an upgrade of Debian must go to the latter.
    Last comes the source's date: apt takes a package of the version that it has for the one that it has, and keeps it.

    Args:
        version: pyproject.toml's.
        date_s: of the source, in seconds since 1970; none where it is not known.
    """
    before_release = re.sub(r"\.?(dev|a|b|rc)(?=\d)", r"~\1", version)
    date = "" if date_s is None else f"{datetime.fromtimestamp(date_s, UTC):+%Y%m%d.%H%M%S}"
    return f"{before_release}+py{sys.version_info.major}{sys.version_info.minor}{date}"


def source_date_s(source: Path) -> float:
    """Return when the source became what it is, in seconds since 1970.

    That is its commit's date; where there is no git, or files are others than those of the commit, that of the newest
    file.
    """
    said = os.environ.get("SOURCE_DATE_EPOCH")
    if said:
        return float(said)
    if (source / ".git").exists() and _git(source, "status", "--porcelain", "--", *NEEDED) == "":
        return float(_git(source, "log", "-1", "--format=%ct") or 0)
    files = [path for name in NEEDED for path in (source / name, *(source / name).rglob("*"))]
    return max(path.stat().st_mtime for path in files if path.is_file() and "__pycache__" not in path.parts)


def _git(source: Path, *words: str) -> str | None:
    """Return what git answers; nothing where it is missing or fails, as it does in somebody else's folder."""
    try:
        done = subprocess.run(["git", "-C", source, *words], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def debian_changelog(changelog: str, version: str, maintainer: str, date_s: float) -> str:
    """Return a changelog in dpkg's form.

    Args:
        changelog: CHANGELOG.md; a section "Unreleased" is that of this version.
        version: pyproject.toml's.
        maintainer: name and address.
        date_s: of the source, in seconds since 1970; the newest section has it in its version.
    """
    entries = []
    for number, section in enumerate(re.split(r"^## ", changelog, flags=re.MULTILINE)[1:]):
        heading, _, body = section.partition("\n")
        of_version = version if heading.strip() == "Unreleased" else heading.split()[0].strip("[]")
        points = [" ".join(point.split()) for point in re.split(r"^- ", body, flags=re.MULTILINE)[1:]]
        # A heading between two points stands at the end of the first.
        lines = [re.sub(r"\s*### \w+$", "", point) for point in points]
        folded = [textwrap.fill(line, 78, initial_indent="  * ", subsequent_indent="    ") for line in lines]
        entries.append(
            f"musicsyncd ({debian_version(of_version, None if number else date_s)}) unstable; urgency=medium\n\n"
            + "\n".join(folded)
            + f"\n\n -- {maintainer}  {formatdate(date_s, usegmt=True).replace('GMT', '+0000')}\n"
        )
    return "\n".join(entries)


def _build(source: Path) -> None:
    """Make the packages beside the source's folder, or end with one line about what kept them from being made."""
    # Nothing is compiled here, so what Debian takes to be on every machine that builds, its compilers, need not be.
    words = ["dpkg-buildpackage", "--build=binary", "--no-sign", "--ignore-builtin-builddeps"]
    try:
        subprocess.run(words, cwd=source, check=True)
    except FileNotFoundError:
        sys.exit("debian/build.py: needs `sudo apt-get install -y dpkg-dev debhelper python3-venv`")
    except subprocess.CalledProcessError as error:
        sys.exit(f"debian/build.py: dpkg-buildpackage failed ({error.returncode}), see above")


def main() -> None:
    """Copy the source, write the changelog, build, and put the packages where they are wanted."""
    target = Path(sys.argv[1] if len(sys.argv) > 1 else "dist").absolute()
    version = tomllib.loads((SOURCE / "pyproject.toml").read_text())["project"]["version"]
    maintainer = re.findall(r"^Maintainer: (.*)$", (SOURCE / "debian/control").read_text(), flags=re.MULTILINE)[0]
    news, date_s = (SOURCE / "CHANGELOG.md").read_text(), source_date_s(SOURCE)
    with tempfile.TemporaryDirectory(prefix="musicsyncd-deb-") as folder:
        copy = Path(folder) / "musicsyncd"
        copy.mkdir()
        for name in NEEDED:
            place = SOURCE / name
            if place.is_dir():
                shutil.copytree(place, copy / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(place, copy)
        (copy / "debian/changelog").write_text(debian_changelog(news, version, maintainer, date_s))
        _build(copy)
        target.mkdir(parents=True, exist_ok=True)
        for package in Path(folder).glob("*.deb"):
            name, _, architecture = package.name.split("_")
            for older in target.glob(f"{name}_*_{architecture}"):
                older.unlink()
            print(shutil.copy(package, target))  # noqa: T201 - what was made


if __name__ == "__main__":
    main()
