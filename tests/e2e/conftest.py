"""Houses to test in, made for a module and shown when a test in them fails."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "rig"))

import measure
import numpy as np
from house import RATE_HZ, House, build_card, need

SONG_S = 40.0
"""Long enough for any one test; the search for a place in it takes twice as long beyond 43 s."""

_open: list[House] = []


@pytest.fixture(scope="session")
def card(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from musicsyncd.errors import DeviceError
    from musicsyncd.system.audio import list_devices

    try:
        list_devices()
    except DeviceError as error:
        need(False, f"libportaudio2 ({error})")
    return build_card(tmp_path_factory.mktemp("card"))


@pytest.fixture(scope="module")
def house(card: Path) -> Iterator[House]:
    made = House(card)
    _open.append(made)
    yield made
    _open.remove(made)
    made.close()


@pytest.fixture(scope="session")
def songs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, np.ndarray]]:
    """Two FLAC files of broadband sound that never repeats, with their samples in mono at the cards' rate."""
    folder = tmp_path_factory.mktemp("songs")
    made = {}
    for seed, name in enumerate(("first", "second"), 1):
        path = folder / f"{name}.flac"
        made[name] = (path, measure.source(str(path), RATE_HZ, SONG_S, seed))
    return made


@pytest.fixture(scope="module")
def repeating_music(house: House, songs: dict[str, tuple[Path, np.ndarray]]) -> None:
    """A host that plays one track over and over."""
    house.host()
    house.call("repeat", "one")
    house.call("play", str(songs["first"][0]))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report = yield
    if report.failed:
        for made in _open:
            report.sections.extend(made.logs())
    return report
