"""Whole models: exporters' habits, old opsets, odd batches, precisions."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from nmc.compiler.frontends.onnx import read_model
from nmc.ir.connectivity import Conv2d
from nmc.ir.layers import Linear
from nmc.kernels.graph import execute_graph
from nmc.passes.simplify import simplify_passes
from tests.compiler.frontends.onnx_models import floats, model_of, read_exactly, saved, session
from tests.passes.simplify.graphs import kinds, simplified


def small_cnn(batch: int | str = "N", opset: int = 17, ir_version: int = 10) -> onnx.ModelProto:
    """Conv, Relu, AveragePool, Flatten, Gemm: written alike in every opset since 7."""
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("AveragePool", ["r"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "w2", "b2"], ["g"], transB=1),
        helper.make_node("Softmax", ["g"], ["y"], axis=1),
    ]
    stored = {"w1": floats(4, 2, 3, 3), "b1": floats(4), "w2": floats(5, 64), "b2": floats(5)}
    return model_of(nodes, stored, [batch, 2, 8, 8], opset=opset, ir_version=ir_version)


@pytest.mark.parametrize("opset", [7, 8, 9, 10, 11, 12, 13, 15, 18, 21])
def test_opsets(tmp_path: Path, opset: int) -> None:
    model = small_cnn(opset=opset, ir_version=4)
    read_exactly(model, tmp_path, against=model)


@pytest.mark.parametrize("batch", [1, 7, 789444, "batch", "?"])
def test_batches(tmp_path: Path, batch: int | str) -> None:
    source = read_exactly(small_cnn(batch), tmp_path)
    dims = onnx.load_model_from_string(source.onnx).graph.input[0].type.tensor_type.shape.dim
    assert dims[0].dim_param == "N" and [d.dim_value for d in dims[1:]] == [2, 8, 8]


def test_a_batch_without_any_name(tmp_path: Path) -> None:
    model = small_cnn()
    model.graph.input[0].type.tensor_type.shape.dim[0].Clear()
    read_exactly(model, tmp_path)


def test_initialisers_listed_as_inputs(tmp_path: Path) -> None:
    model = small_cnn(opset=8, ir_version=3)
    for tensor in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, TensorProto.FLOAT, tensor.dims))
    read_exactly(model, tmp_path, against=model)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_precisions_become_float32(tmp_path: Path, dtype: type[np.floating]) -> None:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    nodes = [
        helper.make_node("Constant", [], ["b"], value=numpy_helper.from_array(floats(5).astype(dtype))),
        helper.make_node("Gemm", ["x", "w", "b"], ["g"]),
        helper.make_node("Cast", ["half"], ["w"], to=kind),
        helper.make_node("Relu", ["g"], ["y"]),
    ]
    stored = {"half": floats(4, 5).astype(dtype)}
    model = model_of([nodes[0], nodes[2], nodes[1], nodes[3]], stored, ["N", 4], elem_type=kind)
    source = read_exactly(model, tmp_path)
    assert "Cast" not in [node.op_type for node in onnx.load_model_from_string(source.onnx).graph.node]


def test_name_and_hash(tmp_path: Path) -> None:
    path = saved(small_cnn(), tmp_path, "My net.v2.onnx")
    source = read_model(path)
    assert source.name == source.graph.name == "My net.v2"
    assert source.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert source.onnx == read_model(path).onnx


def test_shape_arithmetic_of_pytorch(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Constant", [], ["zero"], value=numpy_helper.from_array(np.array(0))),
        helper.make_node("Gather", ["s", "zero"], ["n"]),
        helper.make_node("Unsqueeze", ["n", "axes"], ["n1"]),
        helper.make_node("Concat", ["n1", "rest"], ["shape"], axis=0),
        helper.make_node("Reshape", ["x", "shape"], ["f"]),
        helper.make_node("Gemm", ["f", "w"], ["y"]),
    ]
    stored = {"axes": np.array([0]), "rest": np.array([-1]), "w": floats(24, 3)}
    model = model_of(nodes, stored, ["N", 2, 3, 4])
    source = read_exactly(model, tmp_path, against=model)
    assert [layer.origin.op for layer in source.graph.layers] == ["Input", "Reshape", "Gemm"]


def test_a_batch_written_into_reshapes_and_flatten(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Reshape", ["x", "image"], ["i"]),
        helper.make_node("Reshape", ["i", "flat"], ["f"]),
        helper.make_node("Flatten", ["f"], ["g"], axis=0),
        helper.make_node("Gemm", ["g", "w"], ["y"]),
    ]
    stored = {"image": np.array([1, 2, 3, 4]), "flat": np.array([1, -1]), "w": floats(24, 3)}
    model = model_of(nodes, stored, [1, 24])
    read_exactly(model, tmp_path, against=model)


def test_weights_behind_constant_nodes(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Constant", [], ["flat"], value=numpy_helper.from_array(floats(12))),
        helper.make_node("Reshape", ["flat", "shape"], ["square"]),
        helper.make_node("Transpose", ["square"], ["w"]),
        helper.make_node(
            "ConstantOfShape", ["three"], ["b"], value=numpy_helper.from_array(np.array([0.5], np.float32))
        ),
        helper.make_node("Gemm", ["x", "w", "b"], ["y"]),
    ]
    stored = {"shape": np.array([3, 4]), "three": np.array([3])}
    model = model_of(nodes, stored, ["N", 4])
    source = read_exactly(model, tmp_path, against=model)
    assert [use.status for use in source.operators] == ["rewrite", "rewrite", "rewrite", "rewrite", "native"]


def test_external_data(tmp_path: Path) -> None:
    model = small_cnn()
    inside = read_model(saved(model, tmp_path, "inside.onnx"))
    path = tmp_path / "outside.onnx"
    onnx.save_model(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    outside = read_model(path)
    x = floats(2, 2, 8, 8)
    for one, two in zip(
        session(inside.onnx).run(None, {"x": x}), session(outside.onnx).run(None, {"x": x}), strict=True
    ):
        assert np.array_equal(one, two)
    changed = bytearray((tmp_path / "weights.bin").read_bytes())
    changed[0] ^= 1
    (tmp_path / "weights.bin").write_bytes(changed)
    assert read_model(path).sha256 != outside.sha256


def test_a_network_of_option_a_with_the_pads_of_pytorch(tmp_path: Path) -> None:
    """Slice, and a Pad whose amounts come through ConstantOfShape, Concat, Reshape, Slice and Transpose."""
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["c0"], pads=[1, 1, 1, 1], name="stem"),
        helper.make_node("Relu", ["c0"], ["r0"], name="relu"),
        helper.make_node("Conv", ["r0", "w1"], ["c1"], pads=[1, 1, 1, 1], strides=[2, 2], name="branch"),
        helper.make_node("Slice", ["r0", "zero", "huge", "two", "two"], ["s0"]),
        helper.make_node("Slice", ["s0", "zero", "huge", "three", "two"], ["s1"]),
        helper.make_node("ConstantOfShape", ["two"], ["zeros"], value=numpy_helper.from_array(np.array([0]))),
        helper.make_node("Concat", ["amounts", "zeros"], ["all"], axis=0),
        helper.make_node("Reshape", ["all", "pairs"], ["table"]),
        helper.make_node("Slice", ["table", "last", "least", "zero", "last"], ["turned"]),
        helper.make_node("Transpose", ["turned"], ["columns"], perm=[1, 0]),
        helper.make_node("Reshape", ["columns", "last"], ["line"]),
        helper.make_node("Cast", ["line"], ["pads"], to=TensorProto.INT64),
        helper.make_node("Pad", ["s1", "pads", "nothing"], ["shortcut"], name="shortcut"),
        helper.make_node("Add", ["c1", "shortcut"], ["a"], name="add"),
        helper.make_node("Relu", ["a"], ["r1"]),
        helper.make_node("GlobalAveragePool", ["r1"], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("Gemm", ["f", "w2"], ["y"], name="head"),
    ]
    stored = {
        "w0": floats(4, 3, 3, 3),
        "w1": floats(8, 4, 3, 3),
        "w2": floats(8, 5),
        "zero": np.array([0]),
        "two": np.array([2]),
        "three": np.array([3]),
        "huge": np.array([2**63 - 1]),
        "amounts": np.array([0, 0, 0, 0, 2, 2]),
        "pairs": np.array([-1, 2]),
        "last": np.array([-1]),
        "least": np.array([-(2**63) + 1]),
        "nothing": np.zeros((), np.float32),
    }
    model = model_of(nodes, stored, ["N", 3, 8, 8])
    source = read_exactly(model, tmp_path, against=model)
    graph = simplified(source.graph, *simplify_passes())
    assert sorted(kinds(graph)) == ["Add", "Input", *["Linear:Conv2d"] * 3, "Linear:Dense", "Relu", "Relu"]
    op = graph.by_name["shortcut"].op
    assert isinstance(op, Linear) and isinstance(op.connectivity, Conv2d)
    assert op.connectivity.weight.shape == (8, 4, 1, 1) and op.connectivity.stride == (2, 2)


def test_an_nhwc_export(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2], name="to_nchw"),
        helper.make_node("Conv", ["t", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Transpose", ["c"], ["n"], perm=[0, 2, 3, 1]),
        helper.make_node("Add", ["n", "b"], ["a"]),
        helper.make_node("Relu", ["a"], ["r"]),
        helper.make_node("Reshape", ["r", "shape"], ["f"]),
        helper.make_node("MatMul", ["f", "w2"], ["m"]),
        helper.make_node("Add", ["m", "b2"], ["y"]),
    ]
    stored = {
        "w": floats(4, 3, 3, 3),
        "b": floats(4),
        "shape": np.array([-1, 6 * 5 * 4]),
        "w2": floats(120, 3),
        "b2": floats(3),
    }
    model = model_of(nodes, stored, ["N", 6, 5, 3])
    source = read_exactly(model, tmp_path, against=model)
    graph = simplified(source.graph, *simplify_passes())
    assert kinds(graph) == ["Input", "Transpose", "Linear:Conv2d", "Relu", "Linear:Dense"]


def test_simplified_outputs_are_those_of_onnx_runtime(tmp_path: Path) -> None:
    source = read_model(saved(small_cnn(1, opset=9, ir_version=4), tmp_path))
    graph = simplified(source.graph, *simplify_passes())
    x = floats(4, 2, 8, 8)
    found = execute_graph(graph, x, [graph.output])[graph.output]
    assert np.allclose(found, session(source.onnx).run(None, {"x": x})[0], rtol=1e-5, atol=1e-6)
