"""What several test files of the daemons are given."""

from __future__ import annotations

from pathlib import Path

import pytest
from host_rig import make_album


@pytest.fixture
def album(tmp_path: Path) -> list[str]:
    """Return the paths of three tracks called ``1`` to ``3``."""
    return make_album(tmp_path / "album", 3)
