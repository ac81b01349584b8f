"""Progress: only on a terminal, only after two seconds."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from nmc.compiler.cli import progress as module
from nmc.compiler.cli.progress import ProgressBar
from nmc.compiler.cli.session import Session


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


def shown(
    monkeypatch: pytest.MonkeyPatch, *, terminal: bool, wait: float, samples: int | None = None, **options: bool
) -> str:
    clock, out = Clock(), io.StringIO()
    monkeypatch.setattr(module, "time", clock)
    session = Session("eval", **options)
    session.__dict__["err"] = Console(file=out, force_terminal=terminal, width=80, color_system=None)
    with ProgressBar(session, samples) as progress:
        progress("evaluate mapped", 0.0)
        clock.now += wait
        progress("evaluate mapped", 0.5)
    return out.getvalue()


def test_a_long_stage_on_a_terminal_shows_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "evaluate mapped" in shown(monkeypatch, terminal=True, wait=2.5)


def test_work_on_samples_shows_their_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    # Half of 5,000 in 2.5 seconds.
    assert "1,000.0 samples/s" in shown(monkeypatch, terminal=True, wait=2.5, samples=5000)
    assert "samples/s" not in shown(monkeypatch, terminal=True, wait=2.5)


@pytest.mark.parametrize(
    ("terminal", "wait", "options"),
    [(True, 1.5, {}), (False, 9.0, {}), (True, 9.0, {"quiet": True}), (True, 9.0, {"json": True})],
)
def test_otherwise_nothing(
    monkeypatch: pytest.MonkeyPatch, terminal: bool, wait: float, options: dict[str, bool]
) -> None:
    assert shown(monkeypatch, terminal=terminal, wait=wait, **options) == ""
