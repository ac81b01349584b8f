"""Importers of a file's own quantization: QuantizeLinear and DequantizeLinear between activations.

Those of weights depend on constants only and are folded before they come here.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx

from nmc.compiler.frontends.onnx.importer import GraphBuilder
from nmc.compiler.frontends.onnx.node import Node, Refusal
from nmc.ir.layers import Dequantize, Quantize

RANGES: Mapping[int, tuple[int, int]] = {
    onnx.TensorProto.INT4: (-8, 7),
    onnx.TensorProto.UINT4: (0, 15),
    onnx.TensorProto.INT8: (-128, 127),
    onnx.TensorProto.UINT8: (0, 255),
    onnx.TensorProto.INT16: (-32768, 32767),
    onnx.TensorProto.UINT16: (0, 65535),
}
"""Integers of the types that QuantizeLinear makes."""

_ONE_SCALE = "quantize activations with one scale for each tensor"


def import_quantize_linear(node: Node, graph: GraphBuilder) -> None:
    """One scale for the tensor: a clip to its range; the code of the messages rounds instead."""
    shape = graph.activation(node, 0)
    kind = node.integer("output_dtype", 0) or onnx.TensorProto.UINT8
    zero_point = 0
    if node.input(2):
        stored = graph.constant(node.input(2), "the zero point")
        kind = onnx.helper.np_dtype_to_tensor_dtype(stored.dtype)
        zero_point = int(_single(stored.astype(np.float64), "zero point"))
    if kind not in RANGES:
        name = onnx.TensorProto.DataType.Name(kind)
        raise Refusal("operator-unsupported", f"it quantizes to {name}", "quantize to integers of 4, 8 or 16 bits")
    graph.add(node, Quantize(_scale(node, graph), zero_point, *RANGES[kind]), (node.input(0),), shape)


def import_dequantize_linear(node: Node, graph: GraphBuilder) -> None:
    """Of weights: folded. Of activations: one scale for the tensor; goes into the weights around it."""
    shape = graph.activation(node, 0)
    zero_point = 0
    if node.input(2):
        zero_point = int(_single(graph.constant(node.input(2), "the zero point").astype(np.float64), "zero point"))
    graph.add(node, Dequantize(_scale(node, graph), zero_point), (node.input(0),), shape)


def _scale(node: Node, graph: GraphBuilder) -> float:
    scale = _single(graph.constant(node.input(1), "the scale").astype(np.float64), "scale")
    if not 0 < scale < np.inf:
        raise Refusal("model-invalid", f"a scale of {scale:g}, it must be positive")
    return scale


def _single(array: np.ndarray, what: str) -> float:
    if array.size != 1:
        raise Refusal(
            "operator-unsupported", f"a {what} {list(array.shape)} that differs within the tensor", _ONE_SCALE
        )
    return float(array.reshape(-1)[0])
