"""What can never run on these chips is refused by its name, with the reason and a way out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from nmc.compiler.frontends.onnx import check_model, read_model
from nmc.ir.diagnostic import Diagnostic, ExitCode, NmcError
from tests.compiler.frontends.onnx_models import floats, model_of, saved

MAPS = ["N", 4, 6, 6]


def problem_of(model: onnx.ModelProto, folder: Path) -> Diagnostic:
    """The one problem of a model, which ends with exit code 3 and names its node."""
    path = saved(model, folder)
    with pytest.raises(NmcError) as caught:
        read_model(path)
    assert caught.value.exit_code is ExitCode.MODEL
    (problem,) = check_model(path).diagnostics
    assert problem.slug == "operator-unsupported" and problem.origin is not None and problem.origin.node == "it"
    return problem


@pytest.mark.parametrize(
    ("op", "inputs", "attributes", "way_out"),
    [
        ("LRN", ["x"], {"size": 3}, "BatchNormalization"),
        ("InstanceNormalization", ["x", "four", "four"], {}, "BatchNormalization"),
        ("LayerNormalization", ["x", "six"], {}, "BatchNormalization"),
        ("GroupNormalization", ["x", "four", "four"], {"num_groups": 2}, "BatchNormalization"),
        ("BatchNormalization", ["x", "four", "four", "four", "four"], {"training_mode": 1}, "evaluation"),
        ("Dropout", ["x", "half", "yes"], {}, "evaluation"),
        ("Mul", ["x", "x"], {}, "gating"),
        ("Div", ["x", "x"], {}, "constant"),
        ("MatMul", ["x", "x"], {}, "constant"),
        ("NonZero", ["x"], {}, "nmc ops"),
        ("TopK", ["x", "one"], {}, "logits"),
        ("Unique", ["x"], {}, "nmc ops"),
    ],
)
def test_operators(tmp_path: Path, op: str, inputs: list[str], attributes: dict[str, int], way_out: str) -> None:
    outputs = {"TopK": ["y", "i"], "BatchNormalization": ["y", "m", "v"]}.get(op, ["y"])
    stored = {
        "four": np.abs(floats(4)),
        "six": floats(6),
        "half": np.asarray(np.float32(0.5)),
        "yes": np.asarray(True),
        "one": np.array([1]),
    }
    node = helper.make_node(op, inputs, outputs, name="it", **attributes)
    model = model_of([node], {name: stored[name] for name in inputs if name in stored}, MAPS, opset=21)
    if op == "NonZero":
        model.graph.output[0].type.tensor_type.elem_type = TensorProto.INT64
    assert way_out in problem_of(model, tmp_path).help


@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
def test_recurrent_operators(tmp_path: Path, op: str) -> None:
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[op]
    node = helper.make_node(op, ["x", "w", "r"], ["y"], name="it", hidden_size=2)
    model = model_of([node], {"w": floats(1, 2 * gates, 5), "r": floats(1, 2 * gates, 2)}, ["N", 3, 5])
    problem = problem_of(model, tmp_path)
    assert op in problem.message and "feed-forward" in problem.help


def test_data_dependent_control_flow(tmp_path: Path) -> None:
    value = helper.make_tensor_value_info("b", TensorProto.FLOAT, None)
    branches = [
        helper.make_graph([helper.make_node(op, ["x"], ["b"], name=f"{op}_in")], op, [], [value])
        for op in ("Relu", "Neg")
    ]
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["m"], keepdims=0, name="largest"),
        helper.make_node("Greater", ["m", "zero"], ["c"], name="question"),
        helper.make_node("If", ["c"], ["y"], name="branch", then_branch=branches[0], else_branch=branches[1]),
    ]
    model = model_of(nodes, {"zero": np.asarray(np.float32(0))}, MAPS)
    problems = check_model(saved(model, tmp_path)).diagnostics
    named = {p.origin.node: p for p in problems if p.origin}
    assert named["branch"].slug == "operator-unsupported" and "feed-forward" in named["branch"].help


def test_shapes_that_depend_on_data(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["i"], to=TensorProto.INT64, name="it"),
        helper.make_node("Reshape", ["x", "i"], ["y"], name="after"),
    ]
    problems = check_model(saved(model_of(nodes, {}, ["N", 4]), tmp_path)).diagnostics
    named = {p.origin.node: p for p in problems if p.origin}
    assert {p.slug for p in problems} == {"operator-unsupported"}
    assert "floating point" in named["it"].help and "computed by the network" in named["after"].message


def test_custom_domains(tmp_path: Path) -> None:
    node = helper.make_node("FastGelu", ["x"], ["y"], name="it", domain="com.microsoft")
    problem = problem_of(model_of([node], {}, ["N", 4], domains=["com.microsoft"]), tmp_path)
    assert "com.microsoft:FastGelu" in problem.message and "standard ONNX operators" in problem.help
