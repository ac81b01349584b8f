"""The verbs on a network with two inputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.cli.invoke import Invoke
from tests.compiler.two_inputs import SHAPES, saved_two, two_arrays


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model, data for it, and what is compiled from them."""
    from nmc.compiler.cli.main import run

    folder = tmp_path_factory.mktemp("inputs")
    np.savez(folder / "d.npz", **two_arrays(), y=np.arange(24) % 3)
    given = ["--calib", f"{folder}/d.npz", "-T", "4", "-o", f"{folder}/two.nmc", "--quiet"]
    assert run(["compile", str(saved_two(folder)), "--target", "loihi2", *given]) == 0
    return folder


def test_check_and_inspect(nmc: Invoke, folder: Path) -> None:
    assert nmc("check", folder / "two.onnx", "--json").document["supported"]
    wanted = [{"name": name, "shape": list(shape)} for name, shape in SHAPES.items()]
    assert nmc("inspect", folder / "two.onnx", "--json").document["inputs"] == wanted
    assert nmc("inspect", folder / "two.nmc", "--json").document["inputs"] == wanted
    text = nmc("inspect", folder / "two.onnx").out
    assert "facts" in text and "2x6x6" in text


def test_run_eval_and_verify(nmc: Invoke, folder: Path, tmp_path: Path) -> None:
    assert nmc("run", folder / "two.nmc", "--data", folder / "d.npz:3", "-o", tmp_path / "y.npz").code == 0
    assert np.load(tmp_path / "y.npz")["outputs"].shape == (3, 3)
    document = nmc("eval", folder / "two.nmc", "--data", folder / "d.npz", "--json").document
    assert document["samples"] == 24 and document["stages"][1]["agreement"] == 1.0
    seeded = nmc("verify", folder / "two.nmc", "--samples", "2", "--json").document
    assert {layer["name"] for layer in seeded["layers"]} >= {"image", "facts"}


def test_bad_data_names_every_array(nmc: Invoke, folder: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "bad.npz", picture=np.zeros((2, 2, 6, 6)), facts=np.zeros((2, 4)))
    done = nmc("eval", folder / "two.nmc", "--data", tmp_path / "bad.npz", "--json")
    assert done.code == 2
    assert [d["slug"] for d in done.document["diagnostics"]] == ["data-key", "data-key", "data-shape"]


def test_an_unused_input_is_said_once(nmc: Invoke, folder: Path) -> None:
    unused = folder / "unused"
    unused.mkdir()
    command = ("compile", saved_two(unused, unused=True), "--target", "loihi2", "-T", "2", "-o", unused / "u.nmc")
    document = nmc(*command, "--json").document
    found = [d for d in document["diagnostics"] if d["slug"] == "input-unused"]
    assert len(found) == 1 and "'mask'" in found[0]["message"]
