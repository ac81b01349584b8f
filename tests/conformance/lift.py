"""Operators that know no batch: the whole tensor of a case becomes one sample of a batch.

`Transpose` of a [2, 3, 4] has no batch that a compiler could keep on axis 0. Such a case gets one
in front, and what counts axes in it counts one more: the same operator, asked of each sample.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import helper

from tests.conformance.corpora import Value

_ELEMENTWISE = (
    "Abs Add Cast Celu Clip Div Dropout Elu Erf Gelu HardSigmoid HardSwish Identity LeakyRelu Max Mean Min Mish Mul "
    "Neg PRelu Relu Selu Shrink Sigmoid Softplus Softsign Sub Sum Swish Tanh ThresholdedRelu"
)
ELEMENTWISE = frozenset(_ELEMENTWISE.split())
"""They do the same to a batch."""

ALIGNED = ELEMENTWISE | {"Expand", "MatMul"}
"""They line up shapes from the last axis on: the sample gets as many axes as the result."""

AXIS = {"Concat": 1, "Split": 0, "Gather": 0, "Softmax": -1, "LogSoftmax": -1, "Hardmax": -1, "ArgMax": 0}
AXIS |= {"QuantizeLinear": 1, "DequantizeLinear": 1}
"""The attribute ``axis`` with its default."""

REDUCTIONS = frozenset({"ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL1"})

LIFTED = (
    ALIGNED
    | set(AXIS)
    | REDUCTIONS
    | {"Slice", "Pad", "Reshape", "Transpose", "Tile", "Squeeze", "Unsqueeze", "QuantizeLinear", "DequantizeLinear"}
)
"""What `lift` knows; an operator on images, Gemm, and a Flatten behind axis 0, have their batch already."""


def lift(node: onnx.NodeProto, rank: int, constants: Mapping[int, Value], opset: int) -> dict[int, Value]:
    """Let a node work behind a batch axis, in place.

    Args:
        node: one of `LIFTED`.
        rank: axes of its data, without the batch.
        constants: its other inputs by position.
        opset: of the model; newer ones have axes as an input.

    Returns:
        The constants that change.
    """
    op, given = node.op_type, {a.name: helper.get_attribute_value(a) for a in node.attribute}
    if op in ALIGNED:
        return {1: np.array([1, *constants[1]], dtype=np.int64)} if op == "Expand" else {}
    if op in AXIS:
        axis = given.get("axis", AXIS[op])
        _set(node, "axis", axis + 1 if axis >= 0 else axis)
        if op in ("QuantizeLinear", "DequantizeLinear"):  # what a block has is no list along the axis
            return {position: value[None] for position, value in constants.items() if value.ndim > 1}
        return {position: value[None] for position, value in constants.items()} if op == "Concat" else {}
    if op in REDUCTIONS | {"Squeeze", "Unsqueeze"}:
        return _moved_axes(node, rank, given, constants, opset)
    if op == "Flatten":
        _set(node, "axis", 1)
        return {}
    if op == "Transpose":
        _set(node, "perm", [0, *(axis + 1 for axis in given.get("perm", reversed(range(rank))))])
        return {}
    if op == "Slice":
        return _sliced(constants)
    if op == "Pad":
        return _padded(rank, constants)
    keep = 0 if op == "Reshape" and not given.get("allowzero", 0) else 1
    return {1: np.array([keep, *constants[1]], dtype=np.int64)}


def _moved_axes(
    node: onnx.NodeProto, rank: int, given: Mapping[str, Any], constants: Mapping[int, Value], opset: int
) -> dict[int, Value]:
    stored = given.get("axes", constants.get(1))
    if stored is not None and np.size(stored):
        axes = [int(axis) + (axis >= 0) for axis in np.asarray(stored)]
    elif node.op_type == "Squeeze" or given.get("noop_with_empty_axes", 0):
        return {}
    else:
        axes = list(range(1, rank + 1))
    if opset >= (13 if node.op_type in ("ReduceSum", "Squeeze", "Unsqueeze") else 18):
        return {1: np.array(axes, dtype=np.int64)}
    _set(node, "axes", axes)
    return {}


def _sliced(constants: Mapping[int, Value]) -> dict[int, Value]:
    axes = constants.get(3, np.arange(len(constants[1])))
    return {3: np.array([int(axis) + (axis >= 0) for axis in axes], dtype=np.int64)}


def _padded(rank: int, constants: Mapping[int, Value]) -> dict[int, Value]:
    if 3 in constants:
        return {3: np.array([int(axis) + (axis >= 0) for axis in constants[3]], dtype=np.int64)}
    pads = [int(pad) for pad in constants[1]]
    return {1: np.array([0, *pads[:rank], 0, *pads[rank:]], dtype=np.int64)}


def _set(node: onnx.NodeProto, name: str, value: object) -> None:
    for attribute in list(node.attribute):
        if attribute.name == name:
            node.attribute.remove(attribute)
    node.attribute.append(helper.make_attribute(name, value))
