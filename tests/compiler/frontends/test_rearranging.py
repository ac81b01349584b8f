"""Operators that copy, enlarge and broadcast, against ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from nmc.compiler.frontends.onnx import check_model
from nmc.ir.connectivity import Conv2d
from nmc.ir.layers import Activation, Linear
from tests.compiler.frontends.onnx_models import floats, model_of, original_output, read_exactly, saved, session

Attributes = dict[str, object]


@pytest.mark.parametrize(
    ("axes", "attributes"),
    [
        (1, {"strides": [2], "pads": [1, 0]}),
        (1, {}),
        (2, {}),
        (2, {"pads": [1, 0, 0, 1], "dilations": [1, 2]}),
        (2, {"strides": [2, 3], "output_padding": [1, 0]}),
        (2, {"strides": [3, 2], "pads": [1, 1, 0, 1], "group": 2}),
        (2, {"group": 4}),
        (2, {"strides": [2, 2], "auto_pad": "SAME_UPPER"}),
        (2, {"strides": [2, 2], "auto_pad": "SAME_LOWER"}),
        (2, {"strides": [2, 2], "auto_pad": "VALID"}),
        (2, {"strides": [2, 2], "output_shape": [9, 10]}),
        (2, {"pads": [2, 1, 1, 2]}),
        (3, {"strides": [2, 1, 2], "pads": [1, 0, 1, 0, 1, 1], "group": 2}),
    ],
)
def test_conv_transpose(tmp_path: Path, axes: int, attributes: Attributes) -> None:
    groups = int(str(attributes.get("group", 1)))
    stored = {"w": floats(4, 8 // groups, *(3, 2, 2)[-axes:]), "b": floats(8, seed=1)}
    node = helper.make_node("ConvTranspose", ["x", "w", "b"], ["y"], **attributes)
    model = model_of([node], stored, ["N", 4, *(3, 4, 5)[-axes:]])
    source = read_exactly(model, tmp_path, against=model)
    if axes == 2 and set(attributes) <= {"group", "dilations", "pads"} and max(attributes.get("pads", [0])) < 2:  # type: ignore[call-overload]
        op = source.graph.layers[-1].op
        assert isinstance(op, Linear) and isinstance(op.connectivity, Conv2d)


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("coordinates", ["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"])
def test_resize(tmp_path: Path, mode: str, coordinates: str) -> None:
    stored = {"scales": np.array([1, 1, 2, 1.5], np.float32), "sizes": np.array([3, 2, 7, 3])}
    options = {"mode": mode, "coordinate_transformation_mode": coordinates}
    if mode == "nearest":
        options["nearest_mode"] = "floor" if coordinates == "asymmetric" else "round_prefer_floor"
    node = helper.make_node("Resize", ["x", "", "scales"], ["y"], **options)
    model = model_of([node], stored, ["N", 2, 4, 6])
    read_exactly(model, tmp_path, against=model)


def test_resize_to_sizes_and_along_named_axes(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Resize", ["x", "", "scales"], ["a"], mode="nearest", axes=[2]),
        helper.make_node("Resize", ["a", "", "", "sizes"], ["y"], mode="linear", axes=[-2, -1]),
    ]
    stored = {"scales": np.array([2], np.float32), "sizes": np.array([5, 9])}
    read_exactly(model_of(nodes, stored, ["N", 2, 4, 6], opset=18), tmp_path)


@pytest.mark.parametrize(
    ("policy", "sizes"), [("not_larger", [8, 9]), ("not_smaller", [7, 12]), ("not_larger", [2, 5])]
)
def test_resize_that_keeps_proportions(tmp_path: Path, policy: str, sizes: list[int]) -> None:
    node = helper.make_node("Resize", ["x", "", "", "sizes"], ["y"], axes=[2, 3], keep_aspect_ratio_policy=policy)
    read_exactly(model_of([node], {"sizes": np.array(sizes)}, ["N", 2, 4, 6], opset=18), tmp_path)


@pytest.mark.parametrize("batch", [1, 4])
def test_a_batch_written_into_sizes_and_bounds(tmp_path: Path, batch: int) -> None:
    nodes = [
        helper.make_node("Resize", ["x", "", "", "sizes"], ["a"], mode="linear"),
        helper.make_node("Resize", ["a", "", "", "large"], ["b"], mode="nearest"),
        helper.make_node("Slice", ["b", "zero", "batch", "zero"], ["c"]),
        helper.make_node("Expand", ["c", "shape"], ["y"]),
    ]
    stored = {
        "sizes": np.array([batch, 2, 5, 1]),
        "large": np.array([batch, 2, 15, 1]),
        "zero": np.array([0]),
        "batch": np.array([batch]),
        "shape": np.array([batch, 2, 15, 4]),
    }
    read_exactly(model_of(nodes, stored, [batch, 2, 3, 2]), tmp_path)


def test_a_slice_of_the_batch_is_refused(tmp_path: Path) -> None:
    node = helper.make_node("Slice", ["x", "zero", "three", "zero"], ["y"])
    for batch in ("N", 20):
        model = model_of([node], {"zero": np.array([0]), "three": np.array([3])}, [batch, 2])
        (problem,) = check_model(saved(model, tmp_path)).diagnostics
        assert problem.slug == "operator-unsupported" and "batch" in problem.message


def test_slopes_that_differ_within_a_channel(tmp_path: Path) -> None:
    node = helper.make_node("PRelu", ["x", "slope"], ["y"])
    read_exactly(model_of([node], {"slope": floats(2, 3)}, ["N", 2, 3]), tmp_path)


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"pads": [1, 0, 1, 1], "count_include_pad": 1},
        {"pads": [1, 0, 1, 1]},
        {"pads": [2, 1, 1, 1], "strides": [2, 3]},
        {"strides": [3, 2], "ceil_mode": 1},
        {"pads": [1, 1, 0, 1], "strides": [3, 2], "ceil_mode": 1, "count_include_pad": 1},
    ],
)
def test_averages_with_dilation(tmp_path: Path, attributes: Attributes) -> None:
    node = helper.make_node("AveragePool", ["x"], ["y"], kernel_shape=[3, 2], dilations=[2, 3], **attributes)
    read_exactly(model_of([node], {}, ["N", 2, 8, 9], opset=19), tmp_path)


@pytest.mark.parametrize(
    "attributes",
    [
        {"pads": [1, 0, 1, 1]},
        {"pads": [2, 1, 1, 1], "strides": [2, 3]},
        {"strides": [3, 2], "ceil_mode": 1},
        {"pads": [1, 1, 0, 1], "strides": [3, 2], "ceil_mode": 1},
    ],
)
def test_maxima_with_dilation(tmp_path: Path, attributes: Attributes) -> None:
    node = helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[3, 2], dilations=[2, 3], **attributes)
    read_exactly(model_of([node], {}, ["N", 2, 8, 9], opset=12), tmp_path)


@pytest.mark.parametrize("scales", [(2.0, 3.0), (1.5, 2.3), (0.5, 0.7)])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("opset", [7, 8, 9, 10])
def test_upsampling_of_older_opsets(tmp_path: Path, opset: int, mode: str, scales: tuple[float, float]) -> None:
    """They read other places than Resize does by default, and the converter of the ONNX project forgets it."""
    if min(scales) < 1 and opset < 10:
        pytest.skip("Upsample only makes images larger")
    factors = [1.0, 1.0, *scales]
    inputs, options = (["x", "scales"], {}) if opset > 8 else (["x"], {"scales": factors})
    op = "Resize" if opset == 10 else "Upsample"
    node = helper.make_node(op, inputs, ["y"], mode=mode, **options)
    stored = {"scales": np.array(factors, np.float32)} if opset > 8 else {}
    model = model_of([node], stored, ["N", 2, 4, 3], opset=opset)
    read_exactly(model, tmp_path, against=model)


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_depth_and_space(tmp_path: Path, mode: str) -> None:
    nodes = [
        helper.make_node("DepthToSpace", ["x"], ["a"], blocksize=2, mode=mode),
        helper.make_node("SpaceToDepth", ["a"], ["y"], blocksize=2),
    ]
    read_exactly(model_of(nodes, {}, ["N", 8, 3, 2]), tmp_path)


def test_channels_shuffled(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Reshape", ["x", "split"], ["a"]),
        helper.make_node("Transpose", ["a"], ["b"], perm=[0, 2, 1, 3, 4]),
        helper.make_node("Reshape", ["b", "joined"], ["y"]),
    ]
    stored = {"split": np.array([0, 2, 3, 4, 4]), "joined": np.array([0, 6, 4, 4])}
    read_exactly(model_of(nodes, stored, ["N", 6, 4, 4]), tmp_path)


def test_copies(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Expand", ["x", "shape"], ["a"]),
        helper.make_node("Tile", ["a", "repeats"], ["b"]),
        helper.make_node("Pad", ["b", "pads"], ["c"], mode="reflect"),
        helper.make_node("Pad", ["c", "pads"], ["d"], mode="edge"),
        helper.make_node("Pad", ["d", "pads", "value"], ["e"]),
        helper.make_node("Slice", ["e", "starts", "ends", "axes", "steps"], ["f"]),
        helper.make_node("Gather", ["f", "places"], ["g"], axis=1),
        helper.make_node("Gather", ["g", "one"], ["h"], axis=2),
        helper.make_node("Add", ["h", "h"], ["y"]),
    ]
    stored = {
        "shape": np.array([1, 3, 2, 4]),
        "repeats": np.array([1, 2, 1, 1]),
        "pads": np.array([0, 0, 1, 0, 0, 0, 0, 2]),
        "value": np.asarray(np.float32(-1.5)),
        "starts": np.array([-1]),
        "ends": np.array([-100]),
        "axes": np.array([3]),
        "steps": np.array([-2]),
        "places": np.array([[0, -1], [3, 3]]),
        "one": np.asarray(1),
    }
    read_exactly(model_of(nodes, stored, ["N", 3, 1, 4]), tmp_path)


@pytest.mark.parametrize("op", ["Add", "Sub", "Max", "Min", "Sum", "Mean"])
def test_broadcasting(tmp_path: Path, op: str) -> None:
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["g"]),
        helper.make_node("ReduceMean", ["x"], ["r"], axes=[1]),
        helper.make_node(op, ["g", "r"], ["a"]),
        helper.make_node(op, ["x", "a"], ["b"]),
        helper.make_node(op, ["c", "g"], ["d"]),
        helper.make_node(op, ["d", "b"], ["y"]),
    ]
    read_exactly(model_of(nodes, {"c": floats(1, 1, 4, 5)}, ["N", 3, 4, 5]), tmp_path)


def test_means_of_several(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("Mean", ["x", "r", "c"], ["m"]),
        helper.make_node("Mean", ["m"], ["y"]),
    ]
    read_exactly(model_of(nodes, {"c": floats(3)}, ["N", 3]), tmp_path)


def test_thresholds_that_do_not_jump(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("ThresholdedRelu", ["x"], ["t"], alpha=0.0),
        helper.make_node("Add", ["x", "t"], ["a"]),
        helper.make_node("Shrink", ["a"], ["y"], lambd=0.3, bias=0.3),
    ]
    read_exactly(model_of(nodes, {}, ["N", 5]), tmp_path)


def test_a_matrix_before_the_data(tmp_path: Path) -> None:
    nodes = [helper.make_node("MatMul", ["w", "x"], ["m"]), helper.make_node("MatMul", ["m", "v"], ["y"])]
    read_exactly(model_of(nodes, {"w": floats(1, 5, 3), "v": floats(1, 1, 4, 2)}, ["N", 2, 3, 4]), tmp_path)


def test_a_reshape_that_takes_zeros_as_they_are(tmp_path: Path) -> None:
    node = helper.make_node("Reshape", ["x", "shape"], ["y"], allowzero=1)
    model = model_of([node], {"shape": np.array([-1, 2, 6])}, ["N", 4, 3])
    read_exactly(model, tmp_path, against=model)


ONE_NUMBER = {
    "Squeeze": (helper.make_node("Squeeze", ["f", "one"], ["y"], name="last"), {"one": np.array([1])}),
    "Reshape": (helper.make_node("Reshape", ["f", "all"], ["y"], name="last"), {"all": np.array([-1])}),
    "ReduceMean": (helper.make_node("ReduceMean", ["x"], ["y"], axes=[1], keepdims=0, name="last"), {}),
    "Gather": (helper.make_node("Gather", ["x", "two"], ["y"], axis=1, name="last"), {"two": np.array(2)}),
    "MatMul": (helper.make_node("MatMul", ["x", "v"], ["y"], name="last"), {"v": floats(4)}),
}


@pytest.mark.parametrize("op", ONE_NUMBER)
def test_one_number_for_each_sample(tmp_path: Path, op: str) -> None:
    """Its axis stays at the end of a network, where nothing reads it."""
    last, stored = ONE_NUMBER[op]
    nodes = [helper.make_node("MatMul", ["x", "w"], ["f"]), last] if "f" in last.input else [last]
    stored = {**stored, **({"w": floats(4, 1)} if len(nodes) > 1 else {})}
    model = model_of(nodes, stored, ["N", 4])
    source = read_exactly(model, tmp_path)
    assert source.graph.by_name[source.graph.output].shape == (1,)
    x = floats(3, 4)
    assert np.allclose(session(source.onnx).run(None, {"x": x})[0][:, 0], original_output(model, x), rtol=1e-5)
    model = model_of([*nodes, helper.make_node("Relu", ["y"], ["z"])], stored, ["N", 4], output="z")
    (problem,) = check_model(saved(model, tmp_path)).diagnostics
    assert problem.slug == "operator-unsupported" and problem.origin is not None and problem.origin.node == "last"


def test_types_taken_from_an_activation(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("CastLike", ["two", "x"], ["t"]),
        helper.make_node("Mul", ["x", "t"], ["m"]),
        helper.make_node("CastLike", ["m", "x"], ["y"]),
    ]
    model = model_of(nodes, {"two": np.array(2)}, ["N", 3])
    assert [use.status for use in read_exactly(model, tmp_path, against=model).operators] == ["rewrite", "rewrite"]
    model = model_of([helper.make_node("CastLike", ["x", "two"], ["y"])], {"two": np.array(2)}, ["N", 3])
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.INT64
    (problem,) = check_model(saved(model, tmp_path)).diagnostics
    assert problem.slug == "operator-unsupported" and "int64" in problem.message


def test_casts_and_half_precision(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["h"], to=TensorProto.FLOAT16),
        helper.make_node("MatMul", ["h", "w"], ["m"]),
        helper.make_node("Cast", ["m"], ["y"], to=TensorProto.FLOAT),
    ]
    model = model_of(nodes, {"w": floats(4, 3).astype(np.float16)}, ["N", 4])
    read_exactly(model, tmp_path)


SPELLED = {
    "swish": [("Sigmoid", ["x"], "s"), ("Mul", ["x", "s"], "y")],
    "hard-swish": [("HardSigmoid", ["x"], "s"), ("Mul", ["s", "x"], "y")],
    "gelu": [
        ("Div", ["x", "root"], "d"),
        ("Erf", ["d"], "e"),
        ("Add", ["e", "one"], "a"),
        ("Mul", ["x", "a"], "m"),
        ("Mul", ["m", "half"], "y"),
    ],
    "mish": [("Softplus", ["x"], "p"), ("Tanh", ["p"], "t"), ("Mul", ["x", "t"], "y")],
}


@pytest.mark.parametrize("name", SPELLED)
def test_activations_spelled_out(tmp_path: Path, name: str) -> None:
    nodes = [
        helper.make_node(op, inputs, [out], **({"alpha": 1 / 6} if op == "HardSigmoid" else {}))
        for op, inputs, out in SPELLED[name]
    ]
    constants = {"root": np.sqrt(2), "one": 1.0, "half": 0.5}
    stored = {k: np.asarray(np.float32(v)) for k, v in constants.items()}
    source = read_exactly(model_of(nodes, stored, ["N", 3, 4]), tmp_path)
    assert Activation(name) in [layer.op for layer in source.graph.layers]


REFUSED = [
    ([("Mul", ["x", "r"], "y")], "multiply"),
    ([("Mul", ["x", "x"], "y")], "multiply"),
    ([("Tile", ["x", "two"], "y")], "batch on axis 0"),
    ([("Shrink", ["x"], "y")], "bias equal"),
    ([("MatMul", ["w", "x"], "y")], "exchange"),
    ([("Resize", ["x", "", "many"], "y")], "axis 0"),
    ([("Add", ["x", "mean"], "y")], "one shape"),
]


@pytest.mark.parametrize(("nodes", "way_out"), REFUSED)
def test_refusals(tmp_path: Path, nodes: list[tuple[str, list[str], str]], way_out: str) -> None:
    before = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("ReduceMean", ["x", "last"], ["mean"], keepdims=0),
    ]
    made = [*before, *(helper.make_node(op, inputs, [out], name="it") for op, inputs, out in nodes)]
    stored = {
        "two": np.array([2, 1, 1]),
        "w": floats(3, 3, 3),
        "many": np.array([2, 1, 1], np.float32),
        "last": np.array([2]),
    }
    (problem,) = check_model(saved(model_of(made, stored, ["N", 3, 4], opset=18), tmp_path)).diagnostics
    assert problem.slug == "operator-unsupported" and way_out in problem.help
    assert problem.origin is not None and problem.origin.node == "it"


def test_too_large_to_number(tmp_path: Path) -> None:
    node: onnx.NodeProto = helper.make_node("Expand", ["x", "shape"], ["y"], name="it")
    model = model_of([node], {"shape": np.array([1, 2, 1])}, ["N", 1, 6_000_000])
    (problem,) = check_model(saved(model, tmp_path)).diagnostics
    assert problem.slug == "operator-unsupported" and "limit" in problem.message
