"""Every version of every operator that changed between opset 6 and 26, on both sides of each change."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from nmc.compiler.frontends.onnx.limits import OPSETS
from tests.compiler.frontends.onnx_models import floats, model_of, read_exactly

Stored = Mapping[str, NDArray[Any]]
Made = tuple[onnx.NodeProto, Stored]

RUNS = 7
"""The oldest opset that ONNX Runtime runs as it is."""


def node(op: str, stored: Stored, *, outputs: int = 1, **attributes: object) -> Made:
    """A node that reads ``x`` and what is stored, in this order."""
    return helper.make_node(op, ["x", *stored], ["y", *(f"y{i}" for i in range(1, outputs))], **attributes), stored


def integers(**values: list[int]) -> Stored:
    return {name: np.array(value, dtype=np.int64) for name, value in values.items()}


def given(op: str, opset: int, inputs_since: int, attributes: Mapping[str, object], inputs: Stored) -> Made:
    """What were attributes once are inputs since an opset."""
    return node(op, inputs) if opset >= inputs_since else node(op, {}, **attributes)


def clip(opset: int) -> Made:
    inputs = {"low": np.float32(-0.5), "high": np.float32(0.7)}
    return given("Clip", opset, 11, {"min": -0.5, "max": 0.7}, {k: np.asarray(v) for k, v in inputs.items()})


def batch_normalization(opset: int) -> Made:
    stored = {"s": floats(4), "b": floats(4, seed=1), "m": floats(4, seed=2), "v": np.abs(floats(4, seed=3)) + 0.1}
    attributes = {"is_test": 1} if opset < 7 else {}
    if opset < 9:
        attributes["spatial"] = 1
    return node("BatchNormalization", stored, **attributes, epsilon=1e-3)


def dropout(opset: int) -> Made:
    attributes = {"is_test": 1} if opset < 7 else {}
    return node("Dropout", {}, ratio=0.3, **attributes) if opset < 12 else node("Dropout", {"ratio": np.float32(0.3)})


def pad(opset: int) -> Made:
    pads = [0, 0, 1, 2, 0, 0, 1, 0]
    return given("Pad", opset, 11, {"pads": pads, "value": 1.5}, {**integers(p=pads), "v": np.asarray(np.float32(1.5))})


def cut(opset: int) -> Made:
    where = {"starts": [1, 0], "ends": [3, 4], "axes": [1, 3]}
    return given("Slice", opset, 10, where, integers(**where))


def split(opset: int) -> Made:
    parts = {"axis": 1, "outputs": 2}
    if opset < 13:
        return node("Split", {}, split=[1, 3], **parts)
    return node("Split", {}, num_outputs=2, **parts) if opset >= 18 else node("Split", integers(s=[1, 3]), **parts)


def reduction(op: str, since: int) -> Callable[[int], Made]:
    return lambda opset: given(op, opset, since, {"axes": [2, 3]}, integers(axes=[2, 3]))


def unsqueeze(opset: int) -> Made:
    return given("Unsqueeze", opset, 13, {"axes": [2]}, integers(axes=[2]))


def upsample(opset: int) -> Made:
    factors = np.array([1, 1, 2, 3], dtype=np.float32)
    if opset < 9:
        return node("Upsample", {}, scales=factors.tolist(), mode="nearest")
    if opset < 10:
        return node("Upsample", {"f": factors}, mode="nearest")
    if opset < 11:
        return node("Resize", {"f": factors}, mode="nearest")
    stored = {"roi": np.zeros(0, np.float32), "f": factors}
    how = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    return node("Resize", stored, mode="nearest", **how)


def gemm(opset: int) -> Made:
    return node("Gemm", {"w": floats(5, 4), "b": floats(5)}, transB=1, **({"broadcast": 1} if opset < 7 else {}))


def with_constant(op: str) -> Callable[[int], Made]:
    def made(opset: int) -> Made:
        if opset < 7:
            return node(op, {"c": np.abs(floats(4)) + 0.5}, broadcast=1, axis=1)
        return node(op, {"c": np.abs(floats(4, 1, 1)) + 0.5})

    return made


def prelu(opset: int) -> Made:
    return node("PRelu", {"slope": floats(4) if opset < 7 else floats(4, 1, 1)})


def joined(op: str) -> Callable[[int], Made]:
    def made(opset: int) -> Made:
        if opset < 8:  # nothing was broadcast, not even along the batch
            return helper.make_node(op, ["x", "x"], ["y"]), {}
        return helper.make_node(op, ["x", "x", "c"], ["y"]), {"c": floats(4, 1, 6)}

    return made


def pooled(op: str, **newer: int) -> Callable[[int], Made]:
    def made(opset: int) -> Made:
        changes = {"count_include_pad": 7, "ceil_mode": 10, "dilations": 10 if op == "MaxPool" else 19}
        shown = {k: [v, v] if k == "dilations" else v for k, v in newer.items() if opset >= changes[k]}
        padded = {} if {"dilations", "ceil_mode"} & shown.keys() else {"pads": [1, 0, 1, 1]}
        return node(op, {}, kernel_shape=[3, 2], strides=[2, 2], **padded, **shown)

    return made


OPERATORS: Mapping[str, Callable[[int], Made]] = {
    "Clip": clip,
    "BatchNormalization": batch_normalization,
    "Dropout": dropout,
    "Pad": pad,
    "Slice": cut,
    "Split": split,
    "ReduceMean": reduction("ReduceMean", 18),
    "ReduceMax": reduction("ReduceMax", 18),
    "ReduceSum": reduction("ReduceSum", 13),
    "Unsqueeze": unsqueeze,
    "Resize": upsample,
    "Gemm": gemm,
    "Add": with_constant("Add"),
    "Sub": with_constant("Sub"),
    "Mul": with_constant("Mul"),
    "Div": with_constant("Div"),
    "PRelu": prelu,
    "Sum": joined("Sum"),
    "Mean": joined("Mean"),
    "Max": joined("Max"),
    "Min": joined("Min"),
    "AveragePool": pooled("AveragePool", count_include_pad=1, ceil_mode=1),
    "MaxPool": pooled("MaxPool", dilations=2),
    "LeakyRelu": lambda opset: node("LeakyRelu", {}, alpha=0.2),
    "HardSigmoid": lambda opset: node("HardSigmoid", {}, alpha=0.3, beta=0.4),
    "Flatten": lambda opset: node("Flatten", {}, axis=1),
    "Reshape": lambda opset: node("Reshape", integers(s=[0, 2, -1])),
    "Transpose": lambda opset: node("Transpose", {}, perm=[0, 2, 3, 1]),
    "Concat": lambda opset: (helper.make_node("Concat", ["x", "x"], ["y"], axis=1), {}),
    "Gather": lambda opset: node("Gather", integers(i=[2, 0]), axis=1),
    "Identity": lambda opset: node("Identity", {}),
    "Cast": lambda opset: node("Cast", {}, to=TensorProto.FLOAT),
    "DepthToSpace": lambda opset: node("DepthToSpace", {}, blocksize=2),
    "SpaceToDepth": lambda opset: node("SpaceToDepth", {}, blocksize=2),
    "Conv": lambda opset: node("Conv", {"w": floats(3, 4, 2, 2), "b": floats(3)}, strides=[2, 1]),
    "ConvTranspose": lambda opset: node("ConvTranspose", {"w": floats(4, 3, 2, 2)}, strides=[2, 2]),
    "Relu": lambda opset: node("Relu", {}),
    "Abs": lambda opset: node("Abs", {}),
    "Neg": lambda opset: node("Neg", {}),
    "GlobalAveragePool": lambda opset: node("GlobalAveragePool", {}),
    "GlobalMaxPool": lambda opset: node("GlobalMaxPool", {}),
    "Expand": lambda opset: node("Expand", integers(s=[1, 4, 6, 6])),
    "Tile": lambda opset: node("Tile", integers(r=[1, 2, 1, 1])),
    "MatMul": lambda opset: node("MatMul", {"w": floats(6, 5)}),
    "ThresholdedRelu": lambda opset: node("ThresholdedRelu", {}, alpha=0.0),
    "Softmax": lambda opset: node("Softmax", {}, axis=1),
}

FIRST = {"Expand": 8, "ThresholdedRelu": 10, "Resize": 7}
"""The opset that brought an operator, where that is later than the oldest that is read."""

FLAT = {"Gemm", "Softmax"}
"""Operators on (N, features)."""


def opsets(op: str) -> list[int]:
    """Both sides of every change of an operator, and the two ends of what is read."""
    low, high = max(OPSETS[0], FIRST.get(op, 0)), OPSETS[1]
    names = ("Upsample", "Resize") if op == "Resize" else (op,)
    changes = {s.since_version for s in onnx.defs.get_all_schemas_with_history() if s.name in names and not s.domain}
    found = {low, high, *changes, *(change - 1 for change in changes)}
    return sorted(opset for opset in found if low <= opset <= high)


@pytest.mark.parametrize("op", OPERATORS)
def test_versions(tmp_path: Path, op: str) -> None:
    for opset in opsets(op):
        made, stored = OPERATORS[op](opset)
        kept = {name: np.asarray(value) for name, value in stored.items()}
        shape = ["N", 4] if op in FLAT else ["N", 4, 6, 6]
        model = model_of([made], kept, shape, opset=opset, ir_version=8)
        read_exactly(model, tmp_path, against=model if opset >= RUNS else None)


def test_every_promised_operator_is_here() -> None:
    from tests.conformance.scope import OPERATORS as PROMISED

    elsewhere = {"Squeeze", "Upsample", "QuantizeLinear", "DequantizeLinear"}  # the first two with others above
    assert set(PROMISED) - elsewhere <= OPERATORS.keys()
