"""Every importer against ONNX Runtime, tensor by tensor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from nmc.compiler.frontends.onnx import check_model
from nmc.ir.layers import AveragePool, BatchNorm, Linear, Sigmoid, Softmax
from tests.compiler.frontends.onnx_models import floats, model_of, read_exactly, saved

Attributes = dict[str, object]


def conv_model(shape: list[int], out: int, kernel: tuple[int, int], **attributes: object):  # type: ignore[no-untyped-def]
    groups = int(str(attributes.get("group", 1)))
    stored = {"w": floats(out, shape[0] // groups, *kernel), "b": floats(out, seed=1)}
    return model_of([helper.make_node("Conv", ["x", "w", "b"], ["y"], **attributes)], stored, ["N", *shape])


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"strides": [2, 1], "pads": [1, 0, 2, 1]},
        {"dilations": [2, 1], "pads": [2, 1, 2, 1]},
        {"group": 2},
        {"group": 4, "pads": [1, 1, 1, 1]},
        {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
        {"auto_pad": "SAME_LOWER", "strides": [2, 3]},
        {"auto_pad": "VALID", "strides": [2, 2], "kernel_shape": [3, 2]},
    ],
)
def test_conv(tmp_path: Path, attributes: Attributes) -> None:
    model = conv_model([4, 9, 8], 8, (3, 2), **attributes)
    source = read_exactly(model, tmp_path, against=model)
    assert source.graph.layers[1].name == "Conv_0"


def test_conv_without_bias_and_addition_of_one_per_channel(tmp_path: Path) -> None:
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("Add", ["c", "b"], ["y"], name="bias")]
    model = model_of(nodes, {"w": floats(4, 2, 3, 3), "b": floats(4, 1, 1)}, ["N", 2, 5, 5])
    source = read_exactly(model, tmp_path)
    assert isinstance(source.graph.by_name["bias"].op, BatchNorm)


@pytest.mark.parametrize("bias", [None, (), (1,), (5,), (1, 5), (1, 1)])
@pytest.mark.parametrize("transposed", [0, 1])
def test_gemm(tmp_path: Path, transposed: int, bias: tuple[int, ...] | None) -> None:
    stored = {"w": floats(*((5, 7) if transposed else (7, 5)))}
    if bias is not None:
        stored["b"] = np.asarray(floats(*bias), dtype=np.float32)
    node = helper.make_node("Gemm", ["x", *stored], ["y"], transB=transposed, alpha=0.5, beta=2.0)
    model = model_of([node], stored, ["N", 7])
    read_exactly(model, tmp_path, against=model)


def test_matmul_and_addition(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"]),
        helper.make_node("Add", ["b", "m"], ["a"]),
        helper.make_node("Relu", ["a"], ["y"]),
    ]
    read_exactly(model_of(nodes, {"w": floats(7, 5), "b": floats(5)}, ["N", 7]), tmp_path)


@pytest.mark.parametrize(
    ("shape", "factor"),
    [
        ([2, 3, 4], (2, 4, 5)),
        ([2, 3, 4], (1, 4, 5)),
        ([1, 3, 4], (6, 4, 2)),
        ([2, 3, 4], (1, 2, 4, 5)),
        ([2, 5, 3, 4], (5, 4, 2)),
        ([2, 3, 4], (4,)),
    ],
)
def test_matmul_with_a_stack_or_a_vector(tmp_path: Path, shape: list[int], factor: tuple[int, ...]) -> None:
    model = model_of([helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": floats(*factor)}, ["N", *shape])
    read_exactly(model, tmp_path, against=model)


@pytest.mark.parametrize(("shape", "factor"), [([3, 4], (2, 4, 5)), ([2, 3, 4], (3, 4, 5))])
def test_matmul_that_does_not_keep_the_batch(tmp_path: Path, shape: list[int], factor: tuple[int, ...]) -> None:
    model = model_of([helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": floats(*factor)}, ["N", *shape])
    (problem,) = check_model(saved(model, tmp_path)).diagnostics
    assert problem.slug in ("operator-unsupported", "model-invalid") and "MatMul" in str(problem)


@pytest.mark.parametrize("width", [1, 5])
def test_gemm_with_a_computed_bias(tmp_path: Path, width: int) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "v"], ["c"]),
        helper.make_node("Gemm", ["x", "w", "c"], ["y"], alpha=0.5, beta=2.0),
    ]
    model = model_of(nodes, {"w": floats(7, 5), "v": floats(7, width, seed=1)}, ["N", 7])
    read_exactly(model, tmp_path, against=model)


def test_matmul_over_the_last_axis(tmp_path: Path) -> None:
    model = model_of([helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": floats(4, 5)}, ["N", 2, 3, 4])
    read_exactly(model, tmp_path)


@pytest.mark.parametrize("shape", [(3,), (3, 4), (3, 4, 5)])
def test_batch_normalization(tmp_path: Path, shape: tuple[int, ...]) -> None:
    stored = {"s": floats(3), "b": floats(3, seed=1), "m": floats(3, seed=2), "v": np.abs(floats(3, seed=3))}
    node = helper.make_node("BatchNormalization", ["x", *stored], ["y"], epsilon=1e-3)
    read_exactly(model_of([node], stored, ["N", *shape]), tmp_path)


@pytest.mark.parametrize("opset", [17, 19, 22])
@pytest.mark.parametrize("ceil", [0, 1])
@pytest.mark.parametrize("count", [0, 1])
@pytest.mark.parametrize("pads", [[0, 0, 0, 0], [1, 0, 1, 1], [0, 1, 0, 0]])
def test_average_pool(tmp_path: Path, pads: list[int], count: int, ceil: int, opset: int) -> None:
    attributes = {"kernel_shape": [3, 2], "strides": [2, 3], "pads": pads}
    node = helper.make_node("AveragePool", ["x"], ["y"], count_include_pad=count, ceil_mode=ceil, **attributes)
    read_exactly(model_of([node], {}, ["N", 2, 8, 7], opset=opset), tmp_path)


@pytest.mark.parametrize("ceil", [0, 1])
@pytest.mark.parametrize("pads", [[0, 0, 0, 0], [1, 0, 1, 1], [2, 1, 0, 0]])
def test_max_pool(tmp_path: Path, pads: list[int], ceil: int) -> None:
    node = helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[3, 2], strides=[2, 3], pads=pads, ceil_mode=ceil)
    read_exactly(model_of([node], {}, ["N", 2, 8, 7]), tmp_path)


def test_more_max_pools(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MaxPool", ["x"], ["a"], kernel_shape=[2, 3], dilations=[3, 2]),
        helper.make_node("MaxPool", ["a"], ["b"], kernel_shape=[3, 2], strides=[2, 2], auto_pad="SAME_UPPER"),
        helper.make_node("GlobalMaxPool", ["b"], ["y"]),
    ]
    read_exactly(model_of(nodes, {}, ["N", 2, 12, 11]), tmp_path)


@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER", "VALID"])
def test_average_pool_with_auto_pad(tmp_path: Path, mode: str) -> None:
    node = helper.make_node("AveragePool", ["x"], ["y"], kernel_shape=[3, 2], strides=[2, 2], auto_pad=mode)
    read_exactly(model_of([node], {}, ["N", 2, 8, 7]), tmp_path)


SCALARS = {"low": np.float32(-0.3), "high": np.float32(0.7), "none": np.finfo(np.float32).max, "zero": np.float32(0)}


@pytest.mark.parametrize("opset", [17, 13, 9])
@pytest.mark.parametrize("shape", [(5,), (3, 4, 5)])
def test_piecewise_activations(tmp_path: Path, shape: tuple[int, ...], opset: int) -> None:
    slope = floats(shape[0], *(1,) * (len(shape) - 1))
    nodes = [
        helper.make_node("LeakyRelu", ["x"], ["a"], alpha=0.3),
        helper.make_node("PRelu", ["a", "slope"], ["b"]),
        helper.make_node("PRelu", ["b", "one"], ["c"]),
        helper.make_node("Abs", ["c"], ["d"]),
        helper.make_node("Sub", ["d", "x"], ["e"]),
        helper.make_node("Neg", ["e"], ["f"]),
        helper.make_node("HardSigmoid", ["f"], ["g"], alpha=0.4),
        helper.make_node("Sub", ["g", "g"], ["h"]),
        helper.make_node("Add", ["h", "f"], ["y"]),
    ]
    model = model_of(nodes, {"slope": slope, "one": floats(1)}, ["N", *shape], opset=opset)
    read_exactly(model, tmp_path)


@pytest.mark.parametrize("bounds", [("low", "high"), ("", "high"), ("low",), ("zero", "none"), ("low", "low"), ()])
def test_clip(tmp_path: Path, bounds: tuple[str, ...]) -> None:
    node = helper.make_node("Clip", ["x", *bounds], ["y"])
    read_exactly(model_of([node], {k: np.asarray(v) for k, v in SCALARS.items()}, ["N", 3, 4]), tmp_path)


def test_clip_of_old_opsets(tmp_path: Path) -> None:
    nodes = [helper.make_node("Clip", ["x"], ["a"], min=0.0, max=0.5), helper.make_node("Clip", ["a"], ["y"], min=0.1)]
    model = model_of(nodes, {}, ["N", 3, 4], opset=9)
    read_exactly(model, tmp_path, against=model)


def test_a_clip_with_crossed_bounds_gives_the_upper_one(tmp_path: Path) -> None:
    node = helper.make_node("Clip", ["x", "high", "low"], ["y"])
    model = model_of([node], {k: np.asarray(SCALARS[k]) for k in ("low", "high")}, ["N", 3])
    read_exactly(model, tmp_path, against=model)


@pytest.mark.parametrize("constants", [(), ("s",), ("c",), ("s", "c", "full")])
@pytest.mark.parametrize("op", ["Max", "Min"])
def test_maxima_and_minima(tmp_path: Path, op: str, constants: tuple[str, ...]) -> None:
    stored = {
        "s": np.asarray(np.float32(0.2)),
        "c": floats(2, 1, 1),
        "full": floats(1, 2, 3, 4, seed=3),
        "w": floats(2),
    }
    nodes = [
        helper.make_node(op, ["x", *constants], ["a"]),
        helper.make_node("Neg", ["a"], ["n"]),
        helper.make_node(op, [*constants, "x", "n", "x", "a"], ["y"]),
    ]
    read_exactly(model_of(nodes, stored, ["N", 2, 3, 4]), tmp_path)


@pytest.mark.parametrize("keepdims", [0, 1])
def test_means(tmp_path: Path, keepdims: int) -> None:
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["g"]),
        helper.make_node("Add", ["g", "x2"], ["y"]),
        helper.make_node("ReduceMean", ["x"], ["x2"], axes=[-1, 2], keepdims=1),
    ]
    read_exactly(model_of([nodes[0], nodes[2], nodes[1]], {}, ["N", 2, 4, 3]), tmp_path)
    node = helper.make_node("ReduceMean", ["x", "axes"], ["y"], keepdims=keepdims)
    read_exactly(model_of([node], {"axes": np.array([2, 3])}, ["N", 2, 4, 3], opset=18), tmp_path)


@pytest.mark.parametrize("shape", [(), (1,), (4,), (3, 1), (2, 3, 4), (1, 2, 1, 1), (1, 2, 3, 4)])
@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div"])
def test_arithmetic_with_constants(tmp_path: Path, op: str, shape: tuple[int, ...]) -> None:
    stored = {"c": np.asarray(np.abs(floats(*shape)) + 0.5, dtype=np.float32)}
    read_exactly(model_of([helper.make_node(op, ["x", "c"], ["y"])], stored, ["N", 2, 3, 4]), tmp_path)
    if op != "Div":
        read_exactly(model_of([helper.make_node(op, ["c", "x"], ["y"])], stored, ["N", 2, 3, 4]), tmp_path)


def test_sums_of_activations_and_constants(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("Sum", ["x", "r", "c"], ["s"]),
        helper.make_node("Sum", ["s"], ["one"]),
        helper.make_node("Add", ["one", "one"], ["y"]),
    ]
    read_exactly(model_of(nodes, {"c": floats(1, 3)}, ["N", 2, 3]), tmp_path)


def test_moving_and_cutting(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[0, 2, 3, 1]),
        helper.make_node("Unsqueeze", ["t", "two"], ["u"]),
        helper.make_node("Squeeze", ["u", "minus"], ["s"]),
        helper.make_node("Pad", ["s", "pads"], ["p"]),
        helper.make_node("Slice", ["p", "starts", "ends", "axes", "steps"], ["c"]),
        helper.make_node("Concat", ["c", "c"], ["j"], axis=-1),
        helper.make_node("Identity", ["j"], ["i"]),
        helper.make_node("Dropout", ["i"], ["d"]),
        helper.make_node("Reshape", ["d", "shape"], ["r"]),
        helper.make_node("Flatten", ["r"], ["f"]),
        helper.make_node("Softmax", ["f"], ["y"]),
    ]
    stored = {
        "two": np.array([2]),
        "minus": np.array([2]),
        "pads": np.array([0, 1, 0, 2, 0, -1, 1, 0]),
        "starts": np.array([0, 1, -3]),
        "ends": np.array([2**62, 5, 2**31]),
        "axes": np.array([0, 1, -1]),
        "steps": np.array([1, 2, 1]),
        "shape": np.array([0, -1, 3]),
    }
    source = read_exactly(model_of(nodes, stored, ["N", 3, 4, 5]), tmp_path)
    assert isinstance(source.graph.by_name[source.graph.output].op, Softmax)


@pytest.mark.parametrize("shape", [(6,), (6, 5), (6, 4, 5)])
def test_splitting_and_gathering(tmp_path: Path, shape: tuple[int, ...]) -> None:
    nodes = [
        helper.make_node("Split", ["x"], ["a", "b", "c"], axis=1),
        helper.make_node("Split", ["x", "sizes"], ["d", "e"], axis=1, name="parts"),
        helper.make_node("Gather", ["x", "places"], ["f"], axis=1),
        helper.make_node("Gather", ["x", "last"], ["g"], axis=-1),
        helper.make_node("Concat", ["c", "e", "b", "f"], ["h"], axis=1),
        helper.make_node("Flatten", ["h"], ["i"]),
        helper.make_node("Flatten", ["g"], ["j"]),
        helper.make_node("Concat", ["i", "j", "i"], ["y"], axis=1),
    ]
    stored = {"sizes": np.array([4, 2]), "places": np.array([3, -1, 0, 3]), "last": np.array([-2, 1])}
    source = read_exactly(model_of(nodes, stored, ["N", *shape]), tmp_path)
    origins = {layer.name: layer.origin.output for layer in source.graph.layers}
    assert origins["parts"] == "d" and origins["parts/output1"] == "e"


def test_uneven_and_single_parts(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Split", ["x"], ["a", "", "c"], axis=2, num_outputs=3),
        helper.make_node("Gather", ["c", "one"], ["d"], axis=2),
        helper.make_node("Gather", ["a", "one"], ["e"], axis=2),
        helper.make_node("Sub", ["d", "e"], ["y"]),
    ]
    model = model_of(nodes, {"one": np.array(0)}, ["N", 2, 7], opset=18)
    read_exactly(model, tmp_path)


@pytest.mark.parametrize("group", [1, 2])
@pytest.mark.parametrize("mode", ["NOTSET", "SAME_LOWER"])
def test_one_spatial_axis(tmp_path: Path, mode: str, group: int) -> None:
    # ONNX Runtime has no dilation together with auto_pad.
    window = {"pads": [2, 1], "dilations": [2]} if mode == "NOTSET" else {"auto_pad": mode}
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], strides=[2], group=group, **window),
        helper.make_node("BatchNormalization", ["c", "b", "b", "b", "v"], ["n"]),
        helper.make_node("Relu", ["n"], ["r"]),
        helper.make_node("MaxPool", ["r"], ["m"], kernel_shape=[3], strides=[2], pads=[1, 0]),
        helper.make_node("AveragePool", ["m"], ["a"], kernel_shape=[2], ceil_mode=1),
        helper.make_node("GlobalAveragePool", ["a"], ["g"]),
        helper.make_node("GlobalMaxPool", ["a"], ["h"]),
        helper.make_node("ReduceMean", ["a"], ["k"], axes=[-1]),
        helper.make_node("Sum", ["g", "h", "k"], ["s"]),
        helper.make_node("Squeeze", ["s", "last"], ["y"]),
    ]
    stored = {"w": floats(6, 4 // group, 3), "b": floats(6), "v": np.abs(floats(6)), "last": np.array([2])}
    read_exactly(model_of(nodes, stored, ["N", 4, 30]), tmp_path)


@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("axis", [1, -1])
def test_argmax(tmp_path: Path, axis: int, keepdims: int) -> None:
    nodes = [
        helper.make_node("Gemm", ["x", "w"], ["g"]),
        helper.make_node("ArgMax", ["g"], ["a"], axis=axis, keepdims=keepdims),
        helper.make_node("Identity", ["a"], ["y"]),
    ]
    source = read_exactly(model_of(nodes, {"w": floats(5, 7)}, ["N", 5]), tmp_path)
    assert source.graph.by_name[source.graph.output].shape == (1,)


def test_sigmoid(tmp_path: Path) -> None:
    nodes = [helper.make_node("Gemm", ["x", "w"], ["g"]), helper.make_node("Sigmoid", ["g"], ["y"])]
    source = read_exactly(model_of(nodes, {"w": 100 * floats(5, 7)}, ["N", 5]), tmp_path)
    assert isinstance(source.graph.by_name[source.graph.output].op, Sigmoid)


def test_padding_of_named_axes(tmp_path: Path) -> None:
    stored = {"pads": np.array([1, 2]), "zero": np.zeros((), np.float32), "axes": np.array([-1])}
    node = helper.make_node("Pad", ["x", *stored], ["y"])
    read_exactly(model_of([node], stored, ["N", 2, 3], opset=18), tmp_path)


def test_joining_constants(tmp_path: Path) -> None:
    nodes = [helper.make_node("Concat", ["z", "x", "z"], ["y"], axis=1)]
    read_exactly(model_of(nodes, {"z": floats(1, 2, 3, 3)}, [1, 4, 3, 3]), tmp_path)


def test_names_are_kept_and_made_unique(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], name="same"),
        helper.make_node("Relu", ["a"], ["b"], name="same"),
        helper.make_node("Relu", ["b"], ["c"]),
        helper.make_node("Relu", ["c"], ["y"], name="with\x1b[31m\nnewline"),
    ]
    source = read_exactly(model_of(nodes, {}, ["N", 3]), tmp_path)
    names = [layer.name for layer in source.graph.layers]
    assert names == ["x", "same", "same_1", "Relu_2", "with\\x1b[31m\\nnewline"]
    assert [layer.origin.output for layer in source.graph.layers] == ["x", "a", "b", "c", "y"]


def test_the_pooling_keeps_its_own_description(tmp_path: Path) -> None:
    node = helper.make_node("AveragePool", ["x"], ["y"], name="pool", kernel_shape=[2, 2], strides=[2, 2])
    source = read_exactly(model_of([node], {}, ["N", 2, 4, 4]), tmp_path)
    assert source.graph.by_name["pool"].op == AveragePool((2, 2), (2, 2))


def test_weights_are_float64(tmp_path: Path) -> None:
    source = read_exactly(conv_model([1, 5, 5], 2, (3, 3)), tmp_path)
    op = source.graph.by_name["Conv_0"].op
    assert isinstance(op, Linear) and op.connectivity.weight.dtype == np.float64 and op.bias.dtype == np.float64
