"""Tests marked ``lava`` need the Lava interpreter: skipped without it, failed in CI."""

from __future__ import annotations

import os

import pytest

from nmc.backends.loihi.interpreter import HELP, find_lava

_REASON = pytest.StashKey[str]()


def _why_missing(config: pytest.Config) -> str:
    """Why Lava cannot run here, looked up once; empty if it can."""
    if _REASON not in config.stash:
        lava = find_lava()
        config.stash[_REASON] = f"{lava}; {HELP}" if isinstance(lava, str) else ""
    return config.stash[_REASON]


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("lava") is None:
        return
    if reason := _why_missing(item.config):
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI must run the Lava tests: {reason}", pytrace=False)
        pytest.skip(reason)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say in the closing lines why Lava tests did not run, whatever the options."""
    if reason := config.stash.get(_REASON, ""):
        terminalreporter.write_line(f"Lava tests did not run: {reason}")
