"""The verbs on networks with several outputs and on regressions: tables, files, the JSON contract, the gate."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from nmc.runtime.artifact import Artifact
from nmc.runtime.oracle import OnnxOracle
from tests.cli.invoke import Invoke
from tests.compiler.frontends.onnx_models import saved
from tests.compiler.test_outputs import IMAGES, VECTORS, two_heads, values_only

NAMES = ["probabilities", "score", "features", "logits"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two compiled networks with their data."""
    from nmc.compiler.cli.main import run

    folder = tmp_path_factory.mktemp("outputs")
    probabilities, score, *_ = OnnxOracle(two_heads().SerializeToString()).outputs(IMAGES)
    np.savez(folder / "heads.npz", x=IMAGES, y=probabilities.argmax(axis=1), y_score=score)
    np.savez(folder / "autoencoder.npz", x=VECTORS, y=VECTORS)
    for name, model in (("heads", two_heads()), ("autoencoder", values_only(12))):
        path = saved(model, folder, f"{name}.onnx")
        given = ["--calib", str(folder / f"{name}.npz"), "-o", str(folder / f"{name}.nmc"), "--quiet"]
        assert run(["compile", str(path), "--target", "loihi2", "--coding", "graded", *given]) == 0
    return folder


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_compile_shows_every_output(nmc: Invoke, folder: Path) -> None:
    given = ("--target", "loihi2", "--calib", folder / "heads.npz", "--coding", "graded", "-o", "h.nmc")
    command = ("compile", folder / "heads.onnx", *given)
    document = nmc(*command, "--json").document
    assert document["accuracy"] == document["accuracy_outputs"][0]["stages"]
    assert [row["output"] for row in document["accuracy_outputs"]] == NAMES
    text = " ".join(nmc(*command).out.split())
    assert all(f"of '{name}'" in text for name in NAMES) and "read-out 'score'" in text


def test_eval_judges_every_output(nmc: Invoke, folder: Path) -> None:
    command = ("eval", folder / "heads.nmc", "--data", folder / "heads.npz")
    document = nmc(*command, "--json").document
    first, score, features, logits = document["outputs"]
    assert [row["output"] for row in document["outputs"]] == NAMES
    assert document["stages"] == first["stages"] and document["curve"] == first["curve"]
    assert (score["classes"], score["against"], score["stages"][-1]["top1"]) == (False, "labels", None)
    assert (features["classes"], features["against"], features["stages"][0]["nrmse"]) == (False, "onnx", 0.0)
    assert logits["classes"] and logits["stages"][0]["top1"] is None and logits["stages"][-1]["agreement"] >= 0.9
    assert score["stages"][-1]["agreement"] is None and score["stages"][-1]["nrmse"] > 0
    text = nmc(*command).out
    assert "against the labels" in text and "against onnx" in text and "top-1" in text


def test_gate_of_a_regression(nmc: Invoke, folder: Path) -> None:
    command = ("eval", folder / "autoencoder.nmc", "--data", folder / "autoencoder.npz", "--json")
    onnx, *_, mapped = nmc(*command).document["stages"]
    grown = 100 * (mapped["nrmse"] / onnx["nrmse"] - 1)
    assert abs(grown) < 2 and mapped["nrmse"] != onnx["nrmse"]
    assert nmc(*command, "--gate", max(grown, 0) + 0.01).code == 0
    np.savez("other.npz", x=VECTORS, y=OnnxOracle((folder / "autoencoder.onnx").read_bytes()).run(VECTORS))
    done = nmc("eval", folder / "autoencoder.nmc", "--data", "other.npz", "--gate", 1, "--json")
    assert done.code == 5 and done.slugs == ["accuracy-gate"]


def test_run_writes_every_output(nmc: Invoke, folder: Path) -> None:
    done = nmc("run", folder / "heads.nmc", "--data", f"{folder / 'heads.npz'}:5", "--out", "out.npz")
    assert done.code == 0 and os.listdir() == ["out.npz"]
    assert "of 5 right" in done.out and "'score': rms error" in done.out and "mean output" in done.out
    with np.load("out.npz") as arrays:
        shapes = {name: arrays[name].shape for name in arrays.files}
    assert shapes == {
        "outputs/probabilities": (5, 3),
        "outputs/score": (5, 1),
        "outputs/features": (5, 4, 6, 6),
        "outputs/logits": (5, 3),
    }
    nmc("run", folder / "autoencoder.nmc", "--data", f"{folder / 'autoencoder.npz'}:5", "--out", "one.npz")
    with np.load("one.npz") as arrays:
        assert arrays.files == ["outputs"] and arrays["outputs"].shape == (5, 12)


def test_verify_and_report(nmc: Invoke, folder: Path) -> None:
    verified = nmc("verify", folder / "heads.nmc", "--json").document
    assert verified["first_bad_layer"] is None
    network = Artifact.load(folder / "heads.nmc").network
    assert set(network.read_outs) <= {layer["name"] for layer in verified["layers"]}
    for name in ("heads", "autoencoder"):
        done = nmc("report", folder / f"{name}.nmc", "--data", folder / f"{name}.npz", "-o", f"{name}.html", "--json")
        assert done.code == 0, done.err
        assert done.document["accuracy"] == done.document["accuracy_outputs"][0]["stages"]
        assert "Normalised error" in Path(f"{name}.html").read_text(encoding="utf-8")


def test_inspect_lists_the_outputs(nmc: Invoke, folder: Path) -> None:
    rows = nmc("inspect", folder / "heads.nmc", "--json").document["outputs"]
    assert [(row["name"], row["head"], row["shape"]) for row in rows] == [
        ("probabilities", "softmax", [3]),
        ("score", "", [1]),
        ("features", "", [4, 6, 6]),
        ("logits", "", [3]),
    ]
    layers = nmc("inspect", folder / "heads.onnx", "--json").document["outputs"]
    assert [row["name"] for row in layers] == NAMES
    for file in ("heads.nmc", "heads.onnx"):
        assert "probabilities" in nmc("inspect", folder / file).out


def test_labels_of_no_output_are_reported(nmc: Invoke, folder: Path) -> None:
    np.savez("odd.npz", x=IMAGES[:4], y_scores=np.zeros((4, 1)))
    done = nmc("eval", folder / "heads.nmc", "--data", "odd.npz", "--json")
    assert done.code == 0 and done.slugs == ["data-labels-unused"]
