"""The fixture ``nmc``, the demo network, and one compiled artifact for all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nmc.compiler.cli.main import run
from tests.cli.invoke import Invoke

DEMO = Path(__file__).resolve().parents[2] / "nmc" / "demo"


@pytest.fixture
def nmc(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Invoke:
    """Runs in an empty folder, so that anything left behind shows."""
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    monkeypatch.setattr("tempfile.tempdir", str(empty))
    return Invoke(capsys)


@pytest.fixture
def model() -> Path:
    return DEMO / "digits_cnn.onnx"


@pytest.fixture
def digits() -> Path:
    return DEMO / "digits.npz"


@pytest.fixture(scope="session")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo network, compiled for few timesteps."""
    path = tmp_path_factory.mktemp("artifact") / "digits.nmc"
    calib = f"{DEMO / 'digits_calib.npz'}:8"
    options = ["--target", "loihi", "--calib", calib, "-T", "4", "-o", str(path), "--quiet"]
    assert run(["compile", str(DEMO / "digits_cnn.onnx"), *options]) == 0
    assert os.listdir(path.parent) == ["digits.nmc"]
    return path
