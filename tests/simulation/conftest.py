"""Seeds: ``--seed N`` is the first, ``--iterations K`` how many; a failure says how to see it again."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from .limits import FIGURES


def pytest_configure(config: pytest.Config) -> None:
    FIGURES.measuring = config.getoption("--figures")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" in metafunc.fixturenames:
        first = metafunc.config.getoption("--seed")
        metafunc.parametrize("seed", range(first, first + metafunc.config.getoption("--iterations")))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    callspec = getattr(item, "callspec", None)
    if report.failed and callspec is not None and "seed" in callspec.params:
        test = item.nodeid.split("[")[0]
        report.sections.append(("replay", f"python -m pytest '{test}' --seed {callspec.params['seed']}"))
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if FIGURES.rows:
        terminalreporter.section("worst / limit: µs, apart ms")
        terminalreporter.write("\n".join(FIGURES.table()) + "\n")
