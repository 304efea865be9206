"""Options that have to be known before any test is looked for; what they do is in tests/simulation/conftest.py."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("simulation")
    group.addoption("--seed", type=int, default=1, help="first seed of the simulated scenarios")
    group.addoption("--iterations", type=int, default=1, help="how many seeds to run each scenario with")
    group.addoption("--figures", action="store_true", help="print the scenarios' worst figures, hold none to a limit")
