"""Which cases count for the score: those of one operator that the compiler promises to lower.

A node case counts if its one operator is in `OPERATORS` and nothing of the following keeps it out.
What is kept out is judged all the same, and its outcome is frozen; it only does not count.
"""

from __future__ import annotations

import onnx
from onnx import helper

from nmc.compiler.frontends.onnx.limits import OPSETS
from nmc.compiler.frontends.onnx.normalise import opset_of
from tests.conformance.corpora import Case, Value
from tests.conformance.prepare import REAL, prepare

_OPERATORS = (
    "Conv ConvTranspose Gemm MatMul Add Sub Sum Mean Mul Div Neg Abs Min Max BatchNormalization Relu Clip LeakyRelu "
    "PRelu HardSigmoid ThresholdedRelu MaxPool AveragePool GlobalAveragePool GlobalMaxPool ReduceMean ReduceSum "
    "ReduceMax Resize Upsample DepthToSpace SpaceToDepth Concat Split Slice Gather Pad Reshape Transpose Flatten "
    "Squeeze Unsqueeze Expand Tile Identity Dropout Cast QuantizeLinear DequantizeLinear"
)
OPERATORS = tuple(_OPERATORS.split())
"""The operators that are promised."""

QUANTIZED = frozenset({"int8", "uint8", "int16", "uint16"})
"""Integers that quantized networks have at their ends."""


def left_out(case: Case) -> str | None:
    """Why a case of one of `OPERATORS` does not count; empty if it does, None if it is no such case."""
    nodes = case.model.graph.node
    if case.corpus != "node" or len(nodes) != 1 or nodes[0].op_type not in OPERATORS or nodes[0].domain:
        return None
    (node,) = nodes
    inputs = dict(zip((value.name for value in case.model.graph.input), case.inputs, strict=True))
    given = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    values = [value for value in (*inputs.values(), *case.outputs) if value is not None]
    if len(values) < len(inputs) + len(case.outputs):
        return "sequences and optional values"
    if any(value.size == 0 for value in (values[0], *values[len(inputs) :])):
        return "empty tensors"
    if given.get("training_mode", 0) or (node.op_type == "Dropout" and len(inputs) > 2 and bool(case.inputs[2])):
        return "training modes"
    if opset_of(prepare(case).model) > OPSETS[1]:
        return f"opsets above {OPSETS[1]}"
    if not _is_activation(node, inputs, case.outputs):
        return "values that are no real numbers, masks and indices"
    return _odd_resize(node, given, inputs, case.outputs)


def _is_activation(node: onnx.NodeProto, inputs: dict[str, Value | None], outputs: tuple[Value | None, ...]) -> bool:
    """Whether data goes in and comes out as real numbers, or as the integers of a quantized network."""
    first = next(iter(inputs.values()))
    read = QUANTIZED if node.op_type == "DequantizeLinear" else REAL
    made = QUANTIZED if node.op_type == "QuantizeLinear" else REAL
    return (
        first is not None and first.dtype.name in read and all(y is not None and y.dtype.name in made for y in outputs)
    )


def _odd_resize(
    node: onnx.NodeProto, given: dict[str, object], inputs: dict[str, Value | None], outputs: tuple[Value | None, ...]
) -> str:
    """Promised are nearest, and linear to whole multiples."""
    if node.op_type != "Resize":
        return ""
    mode = bytes(given.get("mode", b"nearest")).decode()  # type: ignore[call-overload]
    if given.get("coordinate_transformation_mode") == b"tf_crop_and_resize":
        return "Resize that crops"
    x, y = next(iter(inputs.values())), outputs[0]
    if x is None or y is None:
        return "sequences and optional values"
    whole = all(m % n == 0 for n, m in zip(x.shape, y.shape, strict=True))
    return "" if mode == "nearest" or (mode == "linear" and whole) else "Resize that is cubic, or linear by fractions"
