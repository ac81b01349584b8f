"""Smooth activations against ONNX Runtime, and where a sigmoid is computed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from nmc.compiler.frontends.onnx import check_model
from nmc.ir.layers import Activation, Sigmoid, Softmax
from tests.compiler.frontends.onnx_models import floats, model_of, read_exactly, saved

FUNCTIONS = [
    ("Sigmoid", 17, {}),
    ("Tanh", 17, {}),
    ("Softsign", 17, {}),
    ("Softplus", 17, {}),
    ("Erf", 17, {}),
    ("Elu", 17, {"alpha": 1.5}),
    ("Selu", 17, {}),
    ("Celu", 17, {"alpha": 0.5}),
    ("Gelu", 20, {}),
    ("Gelu", 20, {"approximate": "tanh"}),
    ("HardSwish", 17, {}),
    ("Mish", 18, {}),
    ("ThresholdedRelu", 17, {"alpha": 0.4}),
]


@pytest.mark.parametrize(("op", "opset", "attributes"), FUNCTIONS)
def test_functions(tmp_path: Path, op: str, opset: int, attributes: dict[str, object]) -> None:
    nodes = [
        helper.make_node(op, ["x"], ["a"], name="smooth", **attributes),
        helper.make_node("MatMul", ["a", "w"], ["y"]),
    ]
    model = model_of(nodes, {"w": floats(5, 4)}, ["N", 5], opset=opset)
    source = read_exactly(model, tmp_path, against=model)
    assert isinstance(source.graph.by_name["smooth"].op, Activation)
    path = saved(model, tmp_path)
    use = check_model(path).operators[0]
    assert (use.op, use.status) == (op, "approximate")
    strict = check_model(path, strict=True)
    assert not strict.supported
    (problem,) = strict.diagnostics
    assert problem.slug == "approximation-refused" and problem.origin is not None and problem.origin.node == "smooth"


@pytest.mark.parametrize("head", ["Softmax", "Sigmoid"])
def test_movements_behind_a_head_go_before_it(tmp_path: Path, head: str) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"]),
        helper.make_node(head, ["m"], ["s"], name="head"),
        helper.make_node("Reshape", ["s", "shape"], ["r"]),
        helper.make_node("Transpose", ["r"], ["y"], perm=[0, 2, 1, 3]),
    ]
    source = read_exactly(model_of(nodes, {"w": floats(5, 4), "shape": np.array([0, 1, 4, 1])}, ["N", 5]), tmp_path)
    end = source.graph.by_name[source.graph.output]
    assert end.op == (Softmax(0) if head == "Softmax" else Sigmoid()) and end.shape == (4, 1, 1)
    assert check_model(saved(onnx.load_model_from_string(source.onnx), tmp_path), strict=True).supported


def test_a_sigmoid_at_the_end_is_exact(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Sigmoid", ["x"], ["a"], name="hidden"),
        helper.make_node("Flatten", ["a"], ["f"]),
        helper.make_node("MatMul", ["f", "w"], ["m"]),
        helper.make_node("Sigmoid", ["m"], ["s"], name="end"),
        helper.make_node("Flatten", ["s"], ["t"]),
        helper.make_node("Identity", ["t"], ["y"]),
    ]
    model = model_of(nodes, {"w": floats(5, 4)}, ["N", 5])
    source = read_exactly(model, tmp_path)
    assert source.graph.by_name["hidden"].op == Activation("sigmoid")
    assert [la.origin.node for la in source.graph.layers if la.op == Sigmoid()] == ["Flatten_4"]
    checked = check_model(saved(model, tmp_path), strict=True)
    assert [(u.op, u.status, u.nodes) for u in checked.operators if u.op == "Sigmoid"] == [
        ("Sigmoid", "approximate", ("hidden",)),
        ("Sigmoid", "host", ("end",)),
    ]
    assert [d.origin.node for d in checked.diagnostics if d.origin] == ["hidden"]
