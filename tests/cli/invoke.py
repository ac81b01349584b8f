"""Runs a command line in this process."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest

from nmc.compiler.cli.main import run


@dataclass(frozen=True)
class Done:
    """What a command line left behind."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """stdout as the one JSON document that it must be."""
        document = json.loads(self.out)
        assert document["schema"] == 1
        assert document["ok"] == (self.code == 0)
        return dict(document)

    @property
    def slugs(self) -> list[str]:
        return [d["slug"] for d in self.document["diagnostics"]]


class Invoke:
    """Callable: ``nmc("check", path)``."""

    def __init__(self, capsys: pytest.CaptureFixture[str], *, isolated: bool = False) -> None:
        self._capsys, self._isolated = capsys, isolated

    def __call__(self, *arguments: object) -> Done:
        self._capsys.readouterr()
        code = run([str(a) for a in arguments], isolated=self._isolated)
        captured = self._capsys.readouterr()
        assert "Traceback" not in captured.err + captured.out or "--debug" in arguments
        return Done(code, captured.out, captured.err)
