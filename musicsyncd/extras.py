"""What a person types to add an optional part to this installation, which depends on how it was made.

Looks only at the running environment's own folder, so that whoever lacks a part can say so cheaply.
"""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Literal

from musicsyncd.paths import APP_NAME

_OF_DEBIAN = Path("/usr/lib") / APP_NAME
"""The environment that the Debian package carries; it is dpkg's, and pip must not write there."""

_PACKAGES = {"formats": "av", "mpris": "dbus-fast", "plot": "matplotlib"}
"""What each extra of pyproject.toml brings."""


def how_to_add(extra: Literal["formats", "mpris", "plot"]) -> str:
    """Return the command that adds an extra here, for the end of a line that says what is missing."""
    prefix = Path(sys.prefix)
    if prefix == _OF_DEBIAN and extra == "formats":
        return "sudo apt-get install ./musicsyncd-formats_*.deb, which debian/build.py makes beside the other package"
    if prefix == _OF_DEBIAN:
        return f"the Debian package has none; in a clone: python3 -m venv .venv && .venv/bin/pip install '.[{extra}]'"
    if (prefix / "pipx_metadata.json").is_file():
        is_own = prefix.is_relative_to(os.path.expanduser("~"))  # Path.home() may raise
        where = "" if is_own else f"sudo env {shlex.quote(f'PIPX_HOME={prefix.parents[1]}')} "
        return f"{where}pipx inject {APP_NAME} {_PACKAGES[extra]}"
    return f"pip install '{APP_NAME}[{extra}]'"
