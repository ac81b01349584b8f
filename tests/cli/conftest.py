"""The fixture ``nmc`` and a compiled network."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.invoke import Invoke

DEMO = Path(__file__).resolve().parents[2] / "nmc" / "demo"


@pytest.fixture
def nmc(capsys: pytest.CaptureFixture[str]) -> Invoke:
    return Invoke(capsys)


@pytest.fixture
def model() -> Path:
    return DEMO / "digits_cnn.onnx"


@pytest.fixture
def digits() -> Path:
    return DEMO / "digits.npz"
