"""Outputs that are heads and read further inside: what is exact stays exact, the rest is refused with the reason."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from nmc.backends.api import Options
from nmc.compiler.driver import CompileRequest, compile_file
from nmc.compiler.frontends.onnx import check_model, read_model
from nmc.ir.layers import Activation, ArgMax, LayerGraph, Linear, Sigmoid, Softmax
from nmc.kernels.graph import execute_graph
from nmc.runtime.oracle import OnnxOracle
from nmc.runtime.session import run
from nmc.runtime.simulator import Simulator
from tests.compiler.frontends.onnx_models import saved
from tests.compiler.test_outputs import VECTORS, model_of, weights

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
STORED = {"w": weights(5, 12, seed=8), "v": weights(3, 5, seed=9)}
LOGITS = helper.make_node("Gemm", ["x", "w"], ["logits"], name="logits", transB=1)


def model(nodes: list[onnx.NodeProto], outputs: dict[str, int]) -> onnx.ModelProto:
    used = {name for node in nodes for name in node.input}
    stored = {name: array for name, array in STORED.items() if name in {*used, "w"}}
    return model_of([LOGITS, *nodes], stored, ["N", 12], outputs)


def exact(graph: LayerGraph, content: bytes) -> None:
    """The layers compute what ONNX Runtime computes, every output."""
    values = execute_graph(graph, VECTORS, graph.outputs)
    for name, wanted in zip(graph.outputs, OnnxOracle(content).outputs(VECTORS), strict=True):
        assert np.allclose(values[name], wanted, atol=1e-5)


@pytest.mark.parametrize("head", ["Softmax", "Sigmoid"])
def test_probabilities_and_their_class(tmp_path: Path, head: str) -> None:
    nodes = [
        helper.make_node(head, ["logits"], ["p"], name="head"),
        helper.make_node("Identity", ["p"], ["q"], name="same"),
        helper.make_node("ArgMax", ["q"], ["class"], name="best", axis=-1, keepdims=0),
    ]
    path = saved(model(nodes, {"p": FLOAT, "class": INT64}), tmp_path)
    source = read_model(path)
    assert not [la for la in source.graph.layers if isinstance(la.op, ArgMax) and la.inputs != ("logits",)]
    exact(source.graph, source.onnx)
    artifact = compile_file(path, CompileRequest("loihi2", Options(timesteps=64), calib=VECTORS)).artifact
    assert artifact is not None and [spec.head for spec in artifact.network.outputs] == [head.lower(), "argmax"]
    probabilities, classes = run(artifact, VECTORS, Simulator()).values
    assert np.array_equal(probabilities.argmax(axis=1), classes.reshape(-1))


def test_a_class_alone_needs_no_probabilities(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Softmax", ["logits"], ["p"], name="head"),
        helper.make_node("ArgMax", ["p"], ["class"], name="best", axis=1, keepdims=0),
    ]
    source = read_model(saved(model(nodes, {"class": INT64}), tmp_path))
    assert not [layer for layer in source.graph.layers if isinstance(layer.op, Softmax)]
    exact(source.graph, source.onnx)


def test_a_class_along_another_axis_than_the_softmax_is_refused(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Reshape", ["logits", "shape"], ["r"], name="grid"),
        helper.make_node("Softmax", ["r"], ["p"], name="head", axis=2),
        helper.make_node("ArgMax", ["p"], ["class"], name="best", axis=1, keepdims=1),
    ]
    made = model(nodes, {"class": INT64})
    made.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(weights(6, 12, seed=8), "w"))
    made.graph.initializer.append(onnx.numpy_helper.from_array(np.array([-1, 2, 3]), "shape"))
    found = check_model(saved(made, tmp_path)).diagnostics
    assert {d.slug for d in found} == {"operator-unsupported"}
    assert "head" in {d.origin.node for d in found if d.origin is not None}


def test_a_sigmoid_that_is_an_output_and_read(tmp_path: Path) -> None:
    """The output is the host's, exact; what is read inside is approximated by ReLUs."""
    nodes = [
        helper.make_node("Sigmoid", ["logits"], ["p"], name="head"),
        helper.make_node("Gemm", ["p", "v"], ["score"], name="score", transB=1),
    ]
    path = saved(model(nodes, {"p": FLOAT, "score": FLOAT}), tmp_path)
    source = read_model(path)
    by_op = {type(layer.op): layer for layer in source.graph.layers}
    assert source.graph.outputs[0] == by_op[Sigmoid].name
    assert by_op[Activation].inputs == by_op[Sigmoid].inputs == ("logits",)
    last = source.graph.by_name[source.graph.outputs[1]]
    assert isinstance(last.op, Linear) and last.inputs == (by_op[Activation].name,)
    exact(source.graph, source.onnx)
    artifact = compile_file(path, CompileRequest("loihi2", Options(coding="graded"), calib=VECTORS)).artifact
    assert artifact is not None and artifact.network.outputs[0].head == "sigmoid"
    wanted, _ = OnnxOracle(source.onnx).outputs(VECTORS)
    assert np.allclose(run(artifact, VECTORS, Simulator()).values[0], wanted, atol=0.02)


@pytest.mark.parametrize("outputs", [{"score": FLOAT}, {"p": FLOAT, "score": FLOAT}])
def test_a_softmax_that_is_read_is_refused_with_a_way_out(tmp_path: Path, outputs: dict[str, int]) -> None:
    nodes = [
        helper.make_node("Softmax", ["logits"], ["p"], name="head"),
        helper.make_node("Gemm", ["p", "v"], ["score"], name="score", transB=1),
    ]
    (problem,) = check_model(saved(model(nodes, outputs), tmp_path)).diagnostics
    assert problem.slug == "operator-unsupported" and "end of a network only" in problem.message and problem.help


def test_one_value_under_several_names(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Relu", ["logits"], ["h"], name="relu"),
        helper.make_node("Identity", ["h"], ["a"], name="first"),
        helper.make_node("Identity", ["h"], ["b"], name="second"),
        helper.make_node("Identity", ["x"], ["same"], name="third"),
        helper.make_node("Gemm", ["a", "v"], ["y"], name="last", transB=1),
    ]
    path = saved(model(nodes, dict.fromkeys(("a", "b", "h", "same", "y"), FLOAT)), tmp_path)
    source = read_model(path)
    exact(source.graph, source.onnx)
    artifact = compile_file(path, CompileRequest("loihi2", Options(coding="graded"), calib=VECTORS)).artifact
    assert artifact is not None
    a, b, h, same, _ = run(artifact, VECTORS, Simulator()).values
    assert np.array_equal(a, b) and np.array_equal(a, h)
    assert np.allclose(same, VECTORS, atol=0.01)


def test_outputs_of_one_name_are_refused(tmp_path: Path) -> None:
    made = model([helper.make_node("Relu", ["logits"], ["y"], name="relu")], {"y": FLOAT})
    made.graph.output.append(made.graph.output[0])
    (problem,) = check_model(saved(made, tmp_path)).diagnostics
    assert problem.slug == "model-ends" and "share a name" in problem.message
