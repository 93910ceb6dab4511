"""What holds for every test."""

from __future__ import annotations

import os

# Tests run side by side, one process a core: more threads than cores wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import settings
from tests.fixture_rules import DIFFERENCES, TOLERANCES

# A loaded machine is slow; no test is about time.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


def pytest_addoption(parser: pytest.Parser) -> None:
    text = "print the largest differences from the authors' programs (without -n)"
    parser.addoption("--differences", action="store_true", help=text)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not terminalreporter.config.getoption("--differences"):
        return
    terminalreporter.section("largest differences")
    for test, found in DIFFERENCES.items():
        figures = ", ".join(f"{name} {value:.1e}" for name, value in found.items())
        terminalreporter.line(f"{test.rpartition('::')[2]}: {figures}")
    allowed = ", ".join(f"{name} {value:g}" for name, value in TOLERANCES.items())
    terminalreporter.line(f"allowed: {allowed}")
