"""Killed or stopped during a compile: the old file or none, never a torn one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nmc.runtime.artifact import Artifact
from tests.cli.invoke import Invoke

PREAMBLE = """
import os, signal, sys, zipfile
from nmc.compiler.cli.main import run
def die(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)
"""

MOMENTS = {
    "before the first byte": "zipfile.ZipFile.writestr = die",
    "in the middle": """
write = zipfile.ZipFile.writestr
def some(self, info, *args, **kwargs):
    if info.filename == "network.json":
        self.fp.flush()
        die()
    return write(self, info, *args, **kwargs)
zipfile.ZipFile.writestr = some
""",
    "before the data is on the disk": "os.fsync = die",
    "before the rename": "os.replace = die",
}


def _compile_and_die(moment: str, model: Path, path: Path) -> int:
    arguments = ["compile", str(model), "--target", "loihi", "-T", "2", "-o", str(path)]
    code = f"{PREAMBLE}{MOMENTS[moment]}\nsys.exit(run({arguments!r}))"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_over_an_old_file(model: Path, artifact: Path, tmp_path: Path, moment: str) -> None:
    path = tmp_path / "x.nmc"
    path.write_bytes(artifact.read_bytes())
    assert _compile_and_die(moment, model, path) == -signal.SIGKILL
    assert path.read_bytes() == artifact.read_bytes()
    Artifact.load(path)


def test_killed_without_an_old_file(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.nmc"
    assert _compile_and_die("in the middle", model, path) == -signal.SIGKILL
    assert not path.exists()


@pytest.mark.parametrize("place", ["os.replace", "nmc.compiler.driver.find_target"])
def test_interrupted(nmc: Invoke, model: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    """Ctrl-C ends with 130 and leaves nothing, the temporary file included."""

    def interrupt(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(place, interrupt)
    done = nmc("compile", model, "--target", "loihi", "-T", "2")
    assert (done.code, done.err.splitlines()[-1]) == (130, "error[interrupted]: interrupted")
    assert os.listdir() == []
