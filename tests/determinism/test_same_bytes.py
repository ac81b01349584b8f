"""Equal inputs give equal bytes, whatever the surroundings."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

import nmc.demo

FOLDER = Path(nmc.demo.__file__).parent
MODEL, CALIBRATION = FOLDER / "digits_cnn.onnx", FOLDER / "digits_calib.npz"

SURROUNDINGS: dict[str, dict[str, str]] = {
    "hash seed": {"PYTHONHASHSEED": "1"},
    "BLAS kernel": {"OPENBLAS_CORETYPE": "Haswell"},
    "old BLAS kernel": {"OPENBLAS_CORETYPE": "Sandybridge", "OPENBLAS_NUM_THREADS": "1"},
    "locale and time zone": {"LC_ALL": "C", "TZ": "Asia/Tokyo"},
}


def compiled(folder: Path, extra: dict[str, str], *options: str, core: int | None = None) -> str:
    """SHA-256 of the artifact that a fresh process writes."""
    out = folder / "out.nmc"
    command = [sys.executable, "-m", "nmc", "compile", str(MODEL), "--target", "loihi2", "-o", str(out), "--quiet"]
    environment = {**os.environ, "PYTHONHASHSEED": "0", **extra}
    limit = None if core is None else (lambda: os.sched_setaffinity(0, {core}))
    done = subprocess.run(
        [*command, *options], cwd=folder, env=environment, capture_output=True, text=True, preexec_fn=limit
    )
    assert done.returncode == 0, done.stderr
    return hashlib.sha256(out.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> str:
    return compiled(tmp_path_factory.mktemp("first"), {}, "--calib", f"{CALIBRATION}:32", "-T", "8")


@pytest.mark.parametrize("name", SURROUNDINGS)
def test_surroundings_do_not_change_the_artifact(name: str, expected: str, tmp_path: Path) -> None:
    folder = tmp_path / "another folder"
    folder.mkdir()
    assert compiled(folder, SURROUNDINGS[name], "--calib", f"{CALIBRATION}:32", "-T", "8") == expected


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system cannot pin a process to a core")
def test_the_number_of_threads_does_not_change_the_artifact(expected: str, tmp_path: Path) -> None:
    core = min(os.sched_getaffinity(0))
    assert compiled(tmp_path, {}, "--calib", f"{CALIBRATION}:32", "-T", "8", core=core) == expected


def test_another_option_does_change_it(expected: str, tmp_path: Path) -> None:
    assert compiled(tmp_path, {}, "--calib", f"{CALIBRATION}:32", "-T", "9") != expected
