"""``compile --stop margin``, and what the other commands make of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nmc.runtime.artifact import Artifact
from tests.cli.conftest import DEMO
from tests.cli.invoke import Invoke

QUICK = ["--target", "loihi", "-T", "8", "--effort", "fast", "--stop", "margin"]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo network, stopping early."""
    from nmc.compiler.cli.main import run

    out = tmp_path_factory.mktemp("stopping") / "s.nmc"
    given = ["compile", DEMO / "digits_cnn.onnx", *QUICK, "--calib", f"{DEMO / 'digits.npz'}:120", "-o", out]
    assert run([str(word) for word in given], isolated=False) == 0
    return out


def test_the_summary_the_manifest_and_the_report_say_so(
    nmc: Invoke, model: Path, digits: Path, compiled: Path, tmp_path: Path
) -> None:
    manifest = Artifact.load(compiled).manifest
    rule = manifest["stop"]
    assert rule["rule"] == "margin" and len(rule["thresholds"]) == 7 and rule["samples"] == 120
    assert manifest["options"]["stop"] == "margin" and manifest["options"]["max_changed"] == 0.1
    done = nmc("compile", model, *QUICK, "--calib", f"{digits}:120", "-o", tmp_path / "x.nmc", "--max-changed", "10")
    assert done.code == 0 and "input steps on average" in done.out and "samples stop early, after" in done.out
    assert (tmp_path / "x.nmc").read_bytes() != compiled.read_bytes()
    again = nmc("compile", model, *QUICK, "--calib", f"{digits}:120", "-o", tmp_path / "y.nmc", "--json")
    assert (tmp_path / "y.nmc").read_bytes() == compiled.read_bytes()
    # 120 samples cannot assure 0.1 %, and that is said.
    assert "stop-not-assured" in again.slugs and again.document["latency"]["mean_timesteps_total"] < 12
    assert nmc("report", compiled, "-o", tmp_path / "r.html").code == 0
    assert "steps until a sample stops, mean" in (tmp_path / "r.html").read_text()


def test_eval_and_run_give_mean_steps(nmc: Invoke, digits: Path, compiled: Path, tmp_path: Path) -> None:
    text = nmc("eval", compiled, "--data", f"{digits}:60")
    assert text.code == 0 and "if every sample stops once its answer is clear" in text.out
    stopping = nmc("eval", compiled, "--data", f"{digits}:60", "--json").document["stopping"]
    assert 1 <= stopping["mean_steps"] < 8 and stopping["timesteps"] == 8
    assert stopping["mean_steps_total"] - stopping["mean_steps"] == stopping["timesteps_total"] - 8
    ran = nmc("run", compiled, "--data", f"{digits}:60", "--json").document
    assert ran["mean_steps"] == stopping["mean_steps"]
    assert ran["counters"]["spikes"] > 0
    assert "stopped after" in nmc("run", compiled, "--data", f"{digits}:3").out
    many = nmc("run", compiled, "--data", f"{digits}:70")
    assert many.code == 0 and "events are counted for up to 64 samples" in many.out
    traced = nmc("run", compiled, "--data", f"{digits}:3", "--trace", "spikes", "--out", tmp_path / "t.npz", "--json")
    assert traced.document["mean_steps"] is None
    verified = nmc("verify", compiled, "--data", f"{digits}:3", "--json").document
    assert [point["timesteps"] for point in verified["curve"]] == list(range(1, 9))
    assert np.isfinite([point["nrmse"] for point in verified["curve"]]).all()


def test_what_cannot_stop_early_is_refused(nmc: Invoke, model: Path, digits: Path, tmp_path: Path) -> None:
    given = ["compile", model, "--target", "loihi", "--calib", f"{digits}:16", "-o", tmp_path / "x.nmc", "--json"]
    for coding in ("graded", "sigma-delta"):
        done = nmc(*given, "--stop", "margin", "--coding", coding)
        assert (done.code, done.slugs) == (2, ["stop-not-possible"]) and coding in done.out
    for wrong in (["--max-changed", "1"], ["--stop", "margin", "--max-changed", "-1"], ["--stop", "entropy"]):
        done = nmc(*given, *wrong)
        assert (done.code, done.slugs) == (2, ["bad-option"])
    assert not (tmp_path / "x.nmc").exists()
