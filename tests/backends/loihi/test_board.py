"""The door to boards: Lava's hardware run configuration where Intel's extension is found, else what is missing.

The extension is not public. A made-up one with its module names records which run configuration
Lava asks, with which environment; Lava then computes on the CPU, so that results can be compared.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from nmc.backends.loihi.backend import LoihiBackend
from nmc.backends.loihi.board import BOARDS, EXTENSION
from nmc.backends.loihi.emit import emit_program
from nmc.backends.loihi.interpreter import find_lava, probe
from nmc.backends.loihi.lava_run import BOARD_SECONDS, Job, seconds_limit
from nmc.compiler.doctor import examine
from nmc.compiler.plugins import find_device
from nmc.ir.diagnostic import ExitCode, NmcError
from nmc.ir.mapping import Routed
from nmc.runtime.artifact import Artifact
from nmc.runtime.session import require
from nmc.testing.random_networks import random_inputs, random_network

VARIABLES = ("SLURM", "NOSLURM", "NXSDKHOST", "KAPOHOBAY", "LOIHI_GEN", "PARTITION", "BOARD")

RECORDER = """
import json, os, sys


class Recorder(type):
    def __subclasscheck__(cls, model):
        frame = sys._getframe(1)
        while not hasattr(frame.f_locals.get("self"), "select_tag"):
            frame = frame.f_back
        config = frame.f_locals["self"]
        seen = [type(config).__name__, config.select_tag, os.environ.get("LOIHI_GEN"), os.environ.get("NXSDKHOST")]
        with open(os.environ["RECORD"], "a") as file:
            file.write(json.dumps(seen) + "\\n")
        return False


class CLoihiProcessModel(metaclass=Recorder):
    pass
"""


@pytest.fixture(autouse=True)
def no_board(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with Lava and the made-up extension."""
    lava = find_lava()
    assert not isinstance(lava, str)
    folder = tmp_path_factory.mktemp("extended")
    subprocess.run([str(lava.python), "-m", "venv", "--without-pip", str(folder)], check=True)
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"

    def packages(python: Path) -> Path:
        done = subprocess.run([str(python), "-I", "-c", code], capture_output=True, text=True, check=True)
        return Path(done.stdout.strip())

    python = folder / "bin" / "python"
    site = packages(python)
    (site / "lava_of_another.pth").write_text(f"import site; site.addsitedir({str(packages(lava.python))!r})\n")
    for module in EXTENSION:
        path = site.joinpath(*module.split(".")).with_suffix(".py")
        path.parent.mkdir(parents=True)
        path.write_text(RECORDER if ".c." in module else "class AbstractNcProcessModel:\n    pass\n")
    assert not isinstance(probe(python), str)
    return python


def artifact_for(target: str, kind: str = "reset-zero") -> Artifact:
    network = random_network(4, kind=kind)
    manifest: Mapping[str, object] = {
        "target": {"name": target, "family": "loihi"},
        "microcode": list(LoihiBackend().microcode(network)),
    }
    return Artifact(manifest, Routed(network, ()), None, network, b"", {}, emit_program(network))  # type: ignore[arg-type]


@pytest.mark.lava
@pytest.mark.parametrize(
    ("name", "config", "chip"), [("loihi1", "Loihi1HwCfg", "N2A2"), ("loihi2", "Loihi2HwCfg", "N3B3")]
)
def test_the_hardware_run_configuration_is_used(
    name: str, config: str, chip: str, extended: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = artifact_for(name)
    inputs = random_inputs(artifact.network, 2, 0)
    simulated = LoihiBackend().devices()["lava"].execute(artifact, inputs)
    monkeypatch.setenv("NMC_LAVA_PYTHON", str(extended))
    monkeypatch.setenv("NXSDKHOST", "10.0.0.9")
    monkeypatch.setenv("RECORD", str(tmp_path / "record"))
    device = find_device(artifact, name)
    assert (device.name, device.missing()) == (name, None)
    done = device.execute(artifact, inputs)
    seen = {tuple(json.loads(line)) for line in (tmp_path / "record").read_text().splitlines()}
    assert seen == {(config, "fixed_pt", chip, "10.0.0.9")}
    np.testing.assert_array_equal(done.readout, simulated.readout)
    # Lava's simulation asks no hardware model, even where the extension is installed.
    (tmp_path / "record").unlink()
    LoihiBackend().devices()["lava"].execute(artifact, inputs)
    assert not (tmp_path / "record").exists()


@pytest.mark.lava
def test_without_the_extension_its_modules_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    lava = find_lava()
    assert not isinstance(lava, str)
    monkeypatch.setenv("SLURM", "1")
    reason = BOARDS["loihi2"].missing()
    assert reason is not None
    assert reason.startswith(f"extension: {lava.python} has no ") and "board:" not in reason
    assert all(module in reason for module in EXTENSION)
    assert f"{lava.python} -m pip install" in reason and "Intel Neuromorphic Research Community" in reason
    with pytest.raises(NmcError) as caught:
        require(BOARDS["loihi2"])
    assert caught.value.exit_code is ExitCode.MISSING
    assert caught.value.diagnostics[0].slug == "device-missing"


@pytest.mark.lava
def test_half_an_extension_is_none(extended: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NMC_LAVA_PYTHON", str(extended))
    monkeypatch.setenv("SLURM", "1")
    assert BOARDS["loihi2"].missing() is None
    lost = next(extended.parent.parent.glob("lib/*/site-packages/lava/magma/core/model/nc/model.py"))
    kept = lost.rename(tmp_path / "model.py")
    try:
        reason = BOARDS["loihi2"].missing()
        assert reason is not None and f"{extended} has no lava.magma.core.model.nc.model (" in reason
    finally:
        kept.rename(lost)


def test_everything_missing_is_named_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NMC_CACHE", str(tmp_path))
    monkeypatch.delenv("NMC_LAVA_PYTHON", raising=False)
    reason = BOARDS["loihi2"].missing()
    assert reason is not None
    interpreter, extension, board = re.split("; (?=extension|board)", reason)
    assert interpreter.startswith(f"interpreter: Lava is not set up, {tmp_path}")
    assert "nmc doctor --install lava" in interpreter and "NMC_LAVA_PYTHON" in interpreter
    assert extension.startswith("extension: without a Lava interpreter there is none")
    assert "none is named" in board and "NXSDKHOST=address" in board and "SLURM=1" in board
    assert "KAPOHOBAY" not in board and "KAPOHOBAY" in str(BOARDS["loihi1"].missing())
    monkeypatch.setenv("NMC_LAVA_PYTHON", sys.executable)
    assert f"interpreter: {sys.executable} has no Lava" in str(BOARDS["loihi2"].missing())


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({}, False),
        ({"SLURM": "1"}, True),
        ({"SLURM": "0"}, False),
        ({"SLURM": "1", "NOSLURM": "1"}, False),
        ({"NXSDKHOST": "board7", "NOSLURM": "1"}, True),
        ({"NXSDKHOST": ""}, False),
        ({"BOARD": "ncl-og-01"}, False),
        ({"KAPOHOBAY": "1"}, False),
    ],
)
def test_a_board_is_named_as_lava_does(
    given: dict[str, str], named: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NMC_CACHE", str(tmp_path))
    for key, value in given.items():
        monkeypatch.setenv(key, value)
    assert ("board: none is named" not in str(BOARDS["loihi2"].missing())) == named
    assert ("board: none is named" not in str(BOARDS["loihi1"].missing())) == (named or "KAPOHOBAY" in given)


def test_a_board_of_the_other_generation(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NMC_CACHE", str(tmp_path))
    monkeypatch.setenv("SLURM", "1")
    monkeypatch.setenv("LOIHI_GEN", "N3C1")
    assert "LOIHI_GEN" not in str(BOARDS["loihi2"].missing())
    assert "board: LOIHI_GEN=N3C1 is not loihi1 (set LOIHI_GEN=N2A2" in str(BOARDS["loihi1"].missing())


def test_other_chips_and_microcode_are_named_beside_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NMC_CACHE", str(tmp_path))
    monkeypatch.delenv("NMC_LAVA_PYTHON", raising=False)
    with pytest.raises(NmcError) as caught:
        find_device(artifact_for("loihi1", "rate"), "loihi2")
    assert caught.value.exit_code is ExitCode.MISSING
    other, microcode, missing = caught.value.diagnostics
    assert (other.slug, microcode.slug, missing.slug) == ("board-other-chip", "board-microcode", "device-missing")
    assert "compiled for loihi1, the board is a loihi2" in other.message and "--on loihi1" in other.help
    assert "needs neuron microcode" in microcode.message and "--reset zero" in microcode.help
    stock = artifact_for("a-loihi2-of-mine")
    assert BOARDS["loihi2"].cannot_run(stock) == () == BOARDS["loihi1"].cannot_run(stock)
    silent = artifact_for("loihi2", "rate")
    silent.manifest["microcode"].clear()
    assert [d.slug for d in BOARDS["loihi2"].cannot_run(silent)] == ["board-microcode"]


def test_doctor_lists_boards_and_installs_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NMC_CACHE", str(tmp_path))
    monkeypatch.delenv("NMC_LAVA_PYTHON", raising=False)
    rows = {row.name: row for row in examine()}
    for name in BOARDS:
        row = rows[f"device {name}"]
        assert row.status == "missing" and not row.required
        assert "interpreter: " in row.found and "extension: " in row.found and "board: " in row.found
        assert "--install" not in row.help and "lava-loihi comes from Intel" in row.help
        with pytest.raises(NmcError) as caught:
            LoihiBackend().install(name, print)
        assert caught.value.exit_code is ExitCode.MISSING
        assert caught.value.diagnostics[0].slug == "board-not-installable"
    assert rows["device lava"].help == "nmc doctor --install lava"


def test_a_board_may_keep_its_user_waiting() -> None:
    artifact = artifact_for("loihi2")
    jobs = [Job(artifact.payload, artifact.network, np.zeros((1, 1)), on=on) for on in ("sim", "loihi2")]
    assert seconds_limit(jobs[1]) - seconds_limit(jobs[0]) == BOARD_SECONDS
