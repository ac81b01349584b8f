"""Models that bring a quantization along: QuantizeLinear and DequantizeLinear."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from nmc.compiler.frontends.onnx import check_model, read_model
from nmc.ir.layers import Dequantize, Linear, Quantize
from nmc.kernels.graph import execute_graph
from tests.compiler.frontends.onnx_models import floats, model_of, original_output, read_exactly, saved, session

SCALE = np.asarray(np.float32(0.03))


def _weights() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    return {
        "w8": generator.integers(-127, 128, (6, 3, 3, 3)).astype(np.int8),
        "ws": (generator.random(6) / 500 + 1e-4).astype(np.float32),
        "wz": np.zeros(6, np.int8),
        "b32": generator.integers(-900, 900, 6).astype(np.int32),
        "bs": np.full(6, 1e-3, np.float32),
        "s": SCALE,
        "z": np.asarray(np.int8(-7)),
        "u": np.asarray(np.uint8(131)),
        "shape": np.array([0, -1]),
        "d8": generator.integers(-127, 128, (96, 4)).astype(np.int8),
    }


NODES = [
    helper.make_node("QuantizeLinear", ["x", "s", "z"], ["xq"]),
    helper.make_node("DequantizeLinear", ["xq", "s", "z"], ["xr"]),
    helper.make_node("DequantizeLinear", ["w8", "ws", "wz"], ["w"], axis=0),
    helper.make_node("DequantizeLinear", ["b32", "bs"], ["b"], axis=0),
    helper.make_node("Conv", ["xr", "w", "b"], ["c"], pads=[1, 1, 1, 1], name="conv"),
    helper.make_node("Relu", ["c"], ["r"]),
    helper.make_node("QuantizeLinear", ["r", "s", "u"], ["rq"]),
    helper.make_node("MaxPool", ["rq"], ["pq"], kernel_shape=[1, 1]),
    helper.make_node("Reshape", ["pq", "shape"], ["fq"]),
    helper.make_node("DequantizeLinear", ["fq", "s", "u"], ["f"]),
    helper.make_node("DequantizeLinear", ["d8", "s"], ["d"]),
    helper.make_node("MatMul", ["f", "d"], ["y"]),
]


@pytest.mark.parametrize("opset", [13, 17, 21])
def test_every_tensor_is_that_of_onnx_runtime(tmp_path: Path, opset: int) -> None:
    model = model_of(NODES, _weights(), ["N", 3, 4, 4], opset=opset)
    source = read_exactly(model, tmp_path, against=model)
    op = source.graph.by_name["conv"].op
    stored = _weights()
    assert isinstance(op, Linear)
    assert np.array_equal(op.connectivity.weight, (stored["w8"] * stored["ws"][:, None, None, None]).astype(np.float64))
    kinds = [type(layer.op) for layer in source.graph.layers]
    assert kinds.count(Quantize) == kinds.count(Dequantize) == 2


@pytest.mark.parametrize("kind", [TensorProto.INT8, TensorProto.UINT8])
def test_integers_at_both_ends(tmp_path: Path, kind: int) -> None:
    zero = np.array(5, helper.tensor_dtype_to_np_dtype(kind))
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[0, 2, 1]),
        helper.make_node("DequantizeLinear", ["t", "s", "zero"], ["r"]),
        helper.make_node("Flatten", ["r"], ["f"]),
        helper.make_node("MatMul", ["f", "w"], ["m"]),
        helper.make_node("QuantizeLinear", ["m", "s", "zero"], ["q"]),
        helper.make_node("Reshape", ["q", "shape"], ["y"]),
    ]
    stored = {"s": SCALE, "zero": zero, "w": floats(12, 6), "shape": np.array([0, 2, 3])}
    model = model_of(nodes, stored, ["N", 3, 4], elem_type=kind)
    source = read_model(saved(model, tmp_path))
    limits = np.iinfo(zero.dtype)
    assert source.integers == ((limits.min, limits.max),)
    x = np.random.default_rng(0).integers(limits.min, limits.max + 1, (5, 3, 4)).astype(zero.dtype)
    integers = np.asarray(original_output(model, x)).astype(np.float64)
    wanted = (integers - 5) * np.float64(SCALE)
    (found,) = session(source.onnx).run(None, {"x": x.astype(np.float32)})
    assert np.allclose(found, wanted, atol=1e-6)
    own = execute_graph(source.graph, x.astype(np.float64), [source.graph.output])[source.graph.output]
    assert np.abs(own - wanted).max() < 1.01 * SCALE and np.mean(np.abs(own - wanted) > 1e-5) < 0.1


def test_an_input_of_integers_that_is_cast(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["f", "w"], ["y"]),
    ]
    model = model_of(nodes, {"w": floats(4, 6)}, ["N", 4], elem_type=TensorProto.UINT8)
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT
    source = read_model(saved(model, tmp_path))
    x = np.arange(8, dtype=np.uint8).reshape(2, 4)
    (found,) = session(source.onnx).run(None, {"x": x.astype(np.float32)})
    assert np.allclose(found, original_output(model, x), atol=1e-6)  # type: ignore[arg-type]


PAIR = ("s", "z")


@pytest.mark.parametrize(
    ("nodes", "node", "words"),
    [
        (
            [("QuantizeLinear", ["x", "many"], "q"), ("DequantizeLinear", ["q", "many"], "y")],
            "q",
            "point [2] does not fit",
        ),
        (
            [("QuantizeLinear", ["x", *PAIR], "q"), ("Add", ["q", "q"], "a"), ("DequantizeLinear", ["a", *PAIR], "y")],
            "a",
            "computes with integers",
        ),
        ([("QuantizeLinear", ["x", "s", "f8"], "q"), ("DequantizeLinear", ["q", "s", "f8"], "y")], "q", "FLOAT8E4M3FN"),
    ],
)
def test_refusals(tmp_path: Path, nodes: list[tuple[str, list[str], str]], node: str, words: str) -> None:
    made = [helper.make_node(op, inputs, [out], name=out) for op, inputs, out in nodes]
    stored = {"s": SCALE, "z": np.asarray(np.int8(0)), "many": np.full(2, 0.1, np.float32)}
    model = model_of(made, stored, ["N", 3], opset=19)
    model.graph.initializer.append(helper.make_tensor("f8", TensorProto.FLOAT8E4M3FN, [], [0.0]))
    problems = check_model(saved(model, tmp_path)).diagnostics
    assert problems[0].origin is not None and problems[0].origin.node == node
    assert words in problems[0].message and problems[0].help


def test_a_scale_of_zero(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s"], ["y"]),
    ]
    model = model_of(nodes, {"s": np.asarray(np.float32(0))}, ["N", 3])
    problems = check_model(saved(model, tmp_path)).diagnostics
    assert {d.slug for d in problems} == {"model-invalid"}
