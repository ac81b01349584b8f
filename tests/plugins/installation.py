"""Plugins installed for one command: folders on the path of a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "tests" / "example_plugin"


@dataclass(frozen=True)
class Site:
    """A folder of installed distributions, and the command line that sees it."""

    folder: Path

    def pip_install(self, project: Path) -> None:
        """Install a project as a stranger does, without network."""
        options = [
            "--no-deps",
            "--no-index",
            "--no-build-isolation",
            "--no-compile",
            "--quiet",
            "--target",
            self.folder,
        ]
        done = self.run(sys.executable, "-m", "pip", "install", *options, project)
        assert done.returncode == 0, done.stderr

    def add(self, distribution: str, family: str, source: str) -> None:
        """A distribution of one module that claims a family."""
        module = distribution.replace("-", "_")
        (self.folder / f"{module}.py").write_text(source, encoding="utf-8")
        info = self.folder / f"{module}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[nmc.backends]\n{family} = {module}:Backend\n")

    def run(self, *command: object, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(self.folder), "PATH": _path()}
        return subprocess.run(
            [str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True, check=False
        )

    def nmc(self, *arguments: object, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
        done = self.run(sys.executable, "-m", "nmc", *arguments, cwd=cwd)
        assert "Traceback" not in done.stderr + done.stdout, done.stderr
        return done

    def document(self, *arguments: object, cwd: Path = ROOT) -> dict[str, Any]:
        """The one JSON document of a command that succeeds."""
        done = self.nmc(*arguments, "--json", cwd=cwd)
        assert done.returncode == 0, done.stderr + done.stdout
        return dict(json.loads(done.stdout))


def _path() -> str:
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
