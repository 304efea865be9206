"""How an extra is added: by the way in which this program was installed."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

import pytest

from musicsyncd import extras
from musicsyncd.extras import how_to_add


def test_pip_adds_an_extra_by_its_name(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    assert how_to_add("plot") == "pip install 'musicsyncd[plot]'"


@pytest.mark.parametrize("is_own", [True, False])
def test_pipx_adds_the_package_itself(monkeypatch, tmp_path, is_own):
    environment = tmp_path / "pipx/venvs/musicsyncd"
    environment.mkdir(parents=True)
    (environment / "pipx_metadata.json").touch()
    monkeypatch.setattr(sys, "prefix", str(environment))
    monkeypatch.setenv("HOME", str(tmp_path if is_own else tmp_path / "elsewhere"))
    assert how_to_add("formats") == (
        "pipx inject musicsyncd av" if is_own else f"sudo env PIPX_HOME={tmp_path}/pipx pipx inject musicsyncd av"
    )


def test_what_dpkg_owns_is_left_to_it(monkeypatch):
    monkeypatch.setattr(sys, "prefix", "/usr/lib/musicsyncd")
    assert how_to_add("formats").startswith("sudo apt-get install ./musicsyncd-formats_*.deb")
    assert how_to_add("plot").endswith("in a clone: python3 -m venv .venv && .venv/bin/pip install '.[plot]'")


def test_every_extra_of_the_project_is_known_with_what_it_brings():
    text = (Path(extras.__file__).parents[1] / "pyproject.toml").read_text()
    named = tomllib.loads(text)["project"]["optional-dependencies"]
    brings = {name: [re.split("[>=]", one)[0] for one in ones] for name, ones in named.items() if name != "test"}
    assert {name: [one] for name, one in extras._PACKAGES.items()} == brings
