"""The benchmarks and the rig are scripts and no package: put their folders on the path."""

import sys
from pathlib import Path

for folder in ("bench", "rig"):
    sys.path.insert(0, str(Path(__file__).parents[2] / folder))
