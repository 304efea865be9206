"""The options and the line that replays a failure, tried with a test that fails for some seeds."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

_HERE = Path(__file__).parent
_TEST = "def test_odd(seed: int) -> None:\n    assert seed % 5\n"


def run(folder: Path, *arguments: str) -> str:
    """Run pytest in a folder, without what this one was told, and return what it printed."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False).stdout


def test_a_failure_prints_the_line_that_replays_it(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").touch()
    shutil.copytree(_HERE, tmp_path / "tests" / "simulation", ignore=shutil.ignore_patterns("test_*", "__pycache__"))
    shutil.copy(_HERE.parent / "conftest.py", tmp_path / "tests")
    (tmp_path / "tests" / "simulation" / "test_sample.py").write_text(_TEST)
    printed = run(tmp_path, "tests", "--seed", "3", "--iterations", "4")
    assert "1 failed, 3 passed" in printed
    lines = re.findall("^python -m pytest .*$", printed, re.MULTILINE)
    assert lines == ["python -m pytest 'tests/simulation/test_sample.py::test_odd' --seed 5"]
    again = run(tmp_path, *shlex.split(lines[0])[3:])
    assert "1 failed" in again
    assert "passed" not in again
    assert "test_odd[5]" in again
