"""The example plugin, installed once; and a folder that holds the files of a user."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.plugins.installation import EXAMPLE, ROOT, Site


@pytest.fixture(scope="package")
def example(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """The example installed by pip."""
    site = Site(tmp_path_factory.mktemp("site"))
    site.pip_install(EXAMPLE)
    return site


@pytest.fixture(scope="package")
def user(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``model.onnx``, ``calib.npz`` and ``test.npz``."""
    folder = tmp_path_factory.mktemp("user")
    for name, source in (
        ("model.onnx", "digits_cnn.onnx"),
        ("calib.npz", "digits_calib.npz"),
        ("test.npz", "digits.npz"),
    ):
        shutil.copy(ROOT / "nmc" / "demo" / source, folder / name)
    return folder
