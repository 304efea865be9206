"""Fuzzing of everything that reads what others wrote: ``python -m tests.fuzz``, and a short run of each target in CI.

A target is a plain function of bytes in :mod:`.targets`. What comes out of it is a finding: whatever is documented
(:class:`musicsyncd.errors.MusicSyncError` and its kin) it has caught itself.
"""

from __future__ import annotations

import sys
from pathlib import Path

# The unit tests' helpers are scripts and no package.
sys.path += [str(Path(__file__).parents[1] / "unit" / folder) for folder in ("media", "system")]
