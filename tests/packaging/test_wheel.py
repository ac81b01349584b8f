"""A wheel builds, installs and works outside the checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.slow


def run(*command: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A command without the variables that could bring the checkout back in."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PIP_", "VIRTUAL_ENV"))}
    return subprocess.run(
        [str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    done = run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    (built,) = folder.glob("nmc-*.whl")
    return built


@dataclass(frozen=True)
class Installation:
    """A fresh environment that holds the wheel, and an empty folder to work in."""

    bin: Path
    empty: Path

    def nmc(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        return run(self.bin / "nmc", *arguments, cwd=self.empty)


@pytest.fixture(scope="module")
def installation(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """The wheel installed; dependencies are those of this environment, lent by a path file.

    The lent folder comes after the environment's own, and holds no ``nmc`` but the editable
    install's path file, which a path file itself never runs.
    """
    folder = tmp_path_factory.mktemp("venv")
    assert run(sys.executable, "-m", "venv", folder, cwd=folder).returncode == 0
    python = folder / "bin" / "python"
    done = run(python, "-m", "pip", "install", "--no-deps", "--no-index", "--quiet", wheel, cwd=folder)
    assert done.returncode == 0, done.stderr
    where = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder)
    (Path(where.stdout.strip()) / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return Installation(folder / "bin", tmp_path_factory.mktemp("empty"))


def test_wheel_holds_the_package_and_its_data(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    data = {
        "nmc/py.typed",
        "nmc/demo/digits_cnn.onnx",
        "nmc/demo/digits.npz",
        "nmc/demo/digits_calib.npz",
        "nmc/compiler/explanations.toml",
        "nmc/backends/loihi/targets/loihi1.toml",
        "nmc/backends/loihi/targets/loihi2.toml",
    }
    assert data <= names
    in_checkout = {p.relative_to(ROOT).as_posix() for p in (ROOT / "nmc").rglob("*.py")}
    assert in_checkout <= names
    strangers = {n.split("/")[0] for n in names if not n.startswith(("nmc/", "nmc-"))}
    assert not strangers
    assert not [n for n in names if "__pycache__" in n]


def test_it_is_the_wheel_that_runs(installation: Installation) -> None:
    done = run(installation.bin / "python", "-c", "import nmc; print(nmc.__file__)", cwd=installation.empty)
    assert Path(done.stdout.strip()).is_relative_to(installation.bin.parent), done.stdout + done.stderr


def test_help_and_targets(installation: Installation) -> None:
    assert installation.nmc("--help").returncode == 0
    done = installation.nmc("targets", "--json")
    assert done.returncode == 0, done.stderr
    assert {row["name"] for row in json.loads(done.stdout)["targets"]} >= {"loihi1", "loihi2"}


def test_demo_in_an_empty_folder(installation: Installation) -> None:
    done = installation.nmc("demo", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    stages = {row["stage"]: row["top1"] for row in document["evaluation"]["stages"]}
    assert stages["mapped"] >= stages["onnx"] - 0.02
    assert [path.name for path in installation.empty.iterdir()] == ["report.html"]
    assert "<svg" in (installation.empty / "report.html").read_text(encoding="utf-8")
