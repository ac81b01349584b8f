"""What a user reads when a network does not fit: the layer, the limit, by how much, what was placed, what helps."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from nmc.ir.diagnostic import ExitCode
from tests.cli.invoke import Invoke

QUICK = ("-T", "2", "--partitioner", "tiles", "--placer", "row-major", "-q")


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def wide() -> str:
    """5000 inputs, more than a core of Loihi 1 hears; 20 and 5 neurons."""
    rng = np.random.default_rng(0)
    arrays = {"w": rng.normal(size=(5000, 20)) / 70, "b": np.zeros(20), "v": rng.normal(size=(20, 5)), "c": np.zeros(5)}
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["h"], name="fc1"),
        helper.make_node("Relu", ["h"], ["r"], name="relu1"),
        helper.make_node("Gemm", ["r", "v", "c"], ["y"], name="fc2"),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, n]) for name, n in (("x", 5000), ("y", 5))]
    weights = [numpy_helper.from_array(value.astype(np.float32), key) for key, value in arrays.items()]
    graph = helper.make_graph(nodes, "wide", ends[:1], ends[1:], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), "wide.onnx")
    return "wide.onnx"


def target(**values: dict[str, int]) -> str:
    """A Loihi 1 with other numbers."""
    lines = ["[target]", 'name = "small"', 'family = "loihi"', 'extends = "loihi1"', 'description = "small"']
    sources = ["[sources]"]
    for section, numbers in values.items():
        lines.append(f"[{section}]")
        for key, number in numbers.items():
            lines.append(f"{key} = {number}")
            sources.append(f'"{section}.{key}" = "assumed: a test"')
    Path("small.toml").write_text("\n".join([*lines, *sources]) + "\n")
    return "small.toml"


def test_fan_in_above_the_axons_and_the_change_that_helps(nmc: Invoke, wide: str) -> None:
    done = nmc("compile", wide, "--target", "loihi1", *QUICK)
    assert done.code == ExitCode.DOES_NOT_FIT and done.out == ""
    found = re.search(
        r"layer 'relu1': neuron \(\d+\) alone has in_axons = (\d+), (\d+) over the core's limit of 4096", done.err
    )
    assert found and int(found[1]) - 4096 == int(found[2])
    assert "--> Relu 'relu1'" in done.err
    assert "(1) let the host compute the layer: --host-input; (2) prune: at most 4096" in done.err
    assert "(3) take a target with core.in_axons of at least" in done.err
    assert (
        "note[layers-placed]: the other 2 of 3 layers fit, on 5 of the 128 cores of 1 chip; 123 cores are left"
        in done.err
    )
    assert nmc("compile", wide, "--target", "loihi1", *QUICK, "--host-input").code == 0


def test_synapse_bits(nmc: Invoke, wide: str) -> None:
    done = nmc("compile", wide, "--target", target(core={"in_axons": 8000, "synapse_bits": 50_000}), *QUICK, "--json")
    assert done.code == ExitCode.DOES_NOT_FIT
    assert done.slugs == ["core-synapse-bits", "layers-placed"]
    first, note = done.document["diagnostics"]
    assert first["origin"] == {"node": "relu1", "op": "Relu", "output": "r"}
    number = int(re.search(r"synapse_bits = (\d+), (\d+) over the core's limit of 50000", first["message"])[1])
    assert f"at most {50_000 // 73} non-zero weights per neuron" in first["help"]
    assert f"take a target with core.synapse_bits of at least {number}" in first["help"]
    assert nmc("compile", wide, "--target", target(core={"in_axons": 8000, "synapse_bits": number}), *QUICK).code == 0
    assert note["severity"] == "note" and "cores are left" in note["message"]


def test_too_many_cores(nmc: Invoke, model: Path) -> None:
    grid = {"tiles_x": 1, "tiles_y": 1, "cores_per_tile": 2, "chips_max": 2}
    done = nmc("compile", model, "--target", target(grid=grid), *QUICK, "--json")
    assert done.code == ExitCode.DOES_NOT_FIT
    assert done.slugs == ["too-many-cores", "layers-placed"]
    first, note = done.document["diagnostics"]
    assert "the network needs 4 cores, 2 more than the 2 of 1 chip of target 'small'; layer 'relu2'" in first["message"]
    assert first["origin"]["op"] == "Relu"
    assert "(1) --chips 2; (2) in 'relu2': " in first["help"] and "(3) " in first["help"]
    assert "layers are placed on 2 cores, 0 cores are left; without room: '" in note["message"]
    assert nmc("compile", model, "--target", "small.toml", *QUICK, "--chips", "2").code == 0


def test_threshold_profiles_and_the_change_that_helps(nmc: Invoke, model: Path) -> None:
    grid = {"tiles_x": 1, "tiles_y": 1, "cores_per_tile": 2, "chips_max": 1}
    chip = target(grid=grid, core={"neurons": 4096})
    done = nmc("compile", model, "--target", chip, *QUICK, "--json")
    assert done.code == ExitCode.DOES_NOT_FIT
    first = done.document["diagnostics"][0]
    assert re.search(r"nearest to threshold_profiles \(\d+ % of 16\)", first["message"])
    assert "let channels share thresholds: --set quantize-rate.thresholds=4" in first["help"]
    assert nmc("compile", model, "--target", chip, *QUICK, "--set", "quantize-rate.thresholds=4").code == 0


def test_check_says_what_each_layer_needs_before_it_says_that_one_does_not_fit(nmc: Invoke, wide: str) -> None:
    done = nmc("check", wide, "--target", "loihi1", "--json")
    assert done.code == ExitCode.DOES_NOT_FIT
    by_layer = {layer["layer"]: layer for layer in done.document["layers"]}
    assert list(by_layer) == ["x", "relu1", "fc2"]
    assert by_layer["relu1"]["exceeded"] == ["in_axons"] and by_layer["relu1"]["limit"] == "in_axons"
    assert "partial sums need graded messages, which loihi1 has not" in by_layer["relu1"]["fix"]
    assert "partial sums need graded messages" in done.document["diagnostics"][0]["help"]
    assert by_layer["fc2"]["fix"] == "" and "cores_used" not in done.document
    text = nmc("check", wide, "--target", "loihi1")
    assert "cores that each layer needs at least" in text.out and "fits no core" in text.out


def test_fan_in_is_split_where_messages_carry_sums(nmc: Invoke, wide: str) -> None:
    done = nmc("check", wide, "--target", "loihi2", "--json")
    assert done.code == 0
    layer = next(layer for layer in done.document["layers"] if layer["layer"] == "relu1")
    assert layer["exceeded"] == ["in_axons"] and layer["fix"].startswith("split into partial sums: ")
    assert "one step more" in layer["fix"]
    assert done.document["cores_used"] >= done.document["least_cores"] == 2
    # The driver proves that the mapped network gives the integers of the network, and the checker its mapping.
    made = nmc("compile", wide, "--target", "loihi2", *QUICK, "--json")
    assert made.code == 0
    assert [layer["name"] for layer in made.document["layers"]] == ["x", "relu1/parts", "relu1", "fc2"]
    assert any(d["slug"] == "fan-in-split" for d in made.document["diagnostics"])
