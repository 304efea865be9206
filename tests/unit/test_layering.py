"""Who may import whom, and how long things may get: read from the source, without running it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import musicsyncd

PACKAGE = Path(musicsyncd.__file__).parent
CORE = ("protocol", "clock", "playback")
EDGES = {"socket", "asyncio", "threading", "time", "random", "os", "sounddevice", "soundfile", "aiohttp"}
MAX_FUNCTION_LINES = 60
MAX_MODULE_LINES = 450


def sources(*packages: str) -> list[Path]:
    folders = [PACKAGE / one for one in packages] or [PACKAGE]
    return sorted(path for folder in folders for path in folder.rglob("*.py"))


def imported(source: str, package: str) -> Iterator[str]:
    """Yield the full name of everything that a module imports, wherever in it; ``package`` is its own."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            name = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{name}.{alias.name}" for alias in node.names)


def imports_of(path: Path) -> set[str]:
    package = ".".join(path.parent.relative_to(PACKAGE.parent).parts)
    return set(imported(path.read_text(encoding="utf-8"), package))


def below(names: set[str], *tops: str) -> set[str]:
    return {name for name in names if any(name == top or name.startswith(f"{top}.") for top in tops)}


def relative(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def too_long(source: str) -> list[tuple[str, int]]:
    kinds = ast.FunctionDef | ast.AsyncFunctionDef
    functions = [node for node in ast.walk(ast.parse(source)) if isinstance(node, kinds)]
    lengths = [(one.name, (one.end_lineno or one.lineno) - one.lineno + 1) for one in functions]
    return [(name, lines) for name, lines in lengths if lines > MAX_FUNCTION_LINES]


def test_the_reader_of_imports_sees_every_form_of_them():
    source = """
import os.path as p, socket
from time import monotonic
from . import wire
from .wire import encode
from .. import units
def f():
    from musicsyncd.system.udp import Network
    if TYPE_CHECKING:
        import asyncio
"""
    assert set(imported(source, "musicsyncd.protocol")) == {
        "os.path",
        "socket",
        "time.monotonic",
        "musicsyncd.protocol.wire",
        "musicsyncd.protocol.wire.encode",
        "musicsyncd.units",
        "musicsyncd.system.udp.Network",
        "asyncio",
    }
    assert below({"os.path", "oslo", "time"}, "os", "time") == {"os.path", "time"}
    assert too_long("def f():\n" + "    x = 1\n" * 60) == [("f", 61)]
    assert too_long("async def f():\n" + "    x = 1\n" * 59) == []


@pytest.mark.parametrize("path", sources(*CORE), ids=relative)
def test_the_core_does_no_input_or_output(path):
    assert below(imports_of(path), *EDGES) == set()


@pytest.mark.parametrize("path", sources(*CORE), ids=relative)
def test_the_core_imports_nothing_of_the_edges_nor_what_imports_them(path):
    assert below(imports_of(path), "musicsyncd.system", "musicsyncd.cli", "musicsyncd.config") == set()
    # Of media it may have the plain objects, whose own imports are held to the same rule here.
    for name in below(imports_of(path), "musicsyncd.media"):
        module = PACKAGE.parent / Path(*name.split(".")[:3]).with_suffix(".py")
        assert below(imports_of(module), *EDGES) == set()


def test_nothing_but_the_command_line_imports_the_edges():
    guilty = {
        relative(path)
        for path in sources()
        if below(imports_of(path), "musicsyncd.system") and path.relative_to(PACKAGE).parts[0] not in ("cli", "system")
    }
    assert guilty == set()


def test_nothing_but_its_start_imports_the_command_line():
    guilty = {relative(path) for path in sources() if below(imports_of(path), "musicsyncd.cli")}
    assert {one for one in guilty if not one.startswith("cli/")} == {"__main__.py"}


def test_media_uses_no_network():
    for path in sources("media"):
        assert below(imports_of(path), "socket", "asyncio", "aiohttp", "http", "urllib") == set(), relative(path)


@pytest.mark.parametrize("path", sources(), ids=relative)
def test_functions_and_modules_stay_short(path):
    source = path.read_text(encoding="utf-8")
    assert too_long(source) == []
    assert len(source.splitlines()) <= MAX_MODULE_LINES
