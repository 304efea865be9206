#!/usr/bin/python3
"""Make the Debian packages for this machine's architecture, Debian release and Python: ``debian/build.py [FOLDER]``.

They go to FOLDER, ``dist`` if none is given. Needs ``apt install dpkg-dev debhelper python3-venv``, and the
package index, from which pip takes the wheels. Owns what dpkg-buildpackage cannot know: the version, which is
pyproject.toml's, and the changelog, which is CHANGELOG.md's. It works in a copy, so that the source stays as it is.
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
from email.utils import formatdate
from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent
NEEDED = ("pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE", "debian", "docs", "musicsyncd", "systemd")


def debian_version(version: str) -> str:
    """Return a version of PEP 440 as one that dpkg orders likewise, with the Python for which the package is made.

    Packages of one version for Debian 12 and 13 have different content, and an upgrade of Debian must go to the latter.
    """
    before_release = re.sub(r"\.?(dev|a|b|rc)(?=\d)", r"~\1", version)
    return f"{before_release}+py{sys.version_info.major}{sys.version_info.minor}"


def debian_changelog(changelog: str, version: str, maintainer: str, date_s: float) -> str:
    """Return a changelog in dpkg's form.

    Args:
        changelog: CHANGELOG.md; a section "Unreleased" is that of this version.
        version: pyproject.toml's.
        maintainer: name and address.
        date_s: of the newest section, in seconds since 1970; the others have their own.
    """
    entries = []
    for section in re.split(r"^## ", changelog, flags=re.MULTILINE)[1:]:
        heading, _, body = section.partition("\n")
        of_version = version if heading.strip() == "Unreleased" else heading.split()[0].strip("[]")
        points = [" ".join(point.split()) for point in re.split(r"^- ", body, flags=re.MULTILINE)[1:]]
        # A heading between two points stands at the end of the first.
        lines = [re.sub(r"\s*### \w+$", "", point) for point in points]
        folded = [textwrap.fill(line, 78, initial_indent="  * ", subsequent_indent="    ") for line in lines]
        entries.append(
            f"musicsyncd ({debian_version(of_version)}) unstable; urgency=medium\n\n"
            + "\n".join(folded)
            + f"\n\n -- {maintainer}  {formatdate(date_s, usegmt=True).replace('GMT', '+0000')}\n"
        )
    return "\n".join(entries)


def main() -> None:
    """Copy the source, write the changelog, build, and put the packages where they are wanted."""
    target = Path(sys.argv[1] if len(sys.argv) > 1 else "dist").absolute()
    version = tomllib.loads((SOURCE / "pyproject.toml").read_text())["project"]["version"]
    maintainer = re.findall(r"^Maintainer: (.*)$", (SOURCE / "debian/control").read_text(), flags=re.MULTILINE)[0]
    news = SOURCE / "CHANGELOG.md"
    date_s = float(os.environ.get("SOURCE_DATE_EPOCH") or news.stat().st_mtime)
    with tempfile.TemporaryDirectory(prefix="musicsyncd-deb-") as folder:
        copy = Path(folder) / "musicsyncd"
        copy.mkdir()
        for name in NEEDED:
            place = SOURCE / name
            if place.is_dir():
                shutil.copytree(place, copy / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(place, copy)
        (copy / "debian/changelog").write_text(debian_changelog(news.read_text(), version, maintainer, date_s))
        subprocess.run(["dpkg-buildpackage", "--build=binary", "--no-sign"], cwd=copy, check=True)
        target.mkdir(parents=True, exist_ok=True)
        for package in Path(folder).glob("*.deb"):
            print(shutil.copy(package, target))  # noqa: T201 - what was made


if __name__ == "__main__":
    main()
