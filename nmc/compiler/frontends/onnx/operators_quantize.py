"""Importers of a file's own quantization: QuantizeLinear and DequantizeLinear between activations.

Those of weights depend on constants only and are folded before they come here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx

from nmc.compiler.frontends.onnx.importer import GraphBuilder
from nmc.compiler.frontends.onnx.node import Node, Refusal
from nmc.compiler.frontends.onnx.operators_arithmetic import affine
from nmc.ir.connectivity import Array, Shape
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

_BATCH = "quantize along another axis than the batch"


@dataclass(frozen=True, eq=False)
class _Steps:
    """How a tensor is quantized: numbers, or arrays of its shape without the batch."""

    scale: Array
    zero_point: Array

    @property
    def single(self) -> bool:
        """Whether one scale and zero point hold for all of the tensor."""
        return self.scale.ndim == 0


def import_quantize_linear(node: Node, graph: GraphBuilder) -> None:
    """A clip to its range, and rounding; scales of a tensor, an axis or blocks.

    Other scales than one for the tensor go into the layer before. A tie between two integers is then decided
    after the zero point is added: with an odd one it may fall to the other side.
    """
    shape = graph.activation(node, 0)
    kind = node.integer("output_dtype", 0) or onnx.TensorProto.UINT8
    if node.input(2):
        kind = onnx.helper.np_dtype_to_tensor_dtype(graph.constant(node.input(2), "the zero point").dtype)
    if kind not in RANGES:
        name = onnx.TensorProto.DataType.Name(kind)
        raise Refusal("operator-unsupported", f"it quantizes to {name}", "quantize to integers of 4, 8 or 16 bits")
    steps = _steps(node, graph, shape)
    if steps.single:
        op = Quantize(float(steps.scale), int(steps.zero_point), *RANGES[kind])
        graph.add(node, op, (node.input(0),), shape)
        return
    scaled = graph.add_inner(node, "scaled", affine(1.0 / steps.scale, steps.zero_point), (node.input(0),), shape)
    graph.add(node, Quantize(1.0, 0, *RANGES[kind]), (scaled,), shape)


def import_dequantize_linear(node: Node, graph: GraphBuilder) -> None:
    """Of weights: folded. Of activations: goes into the weights around it; scales of a tensor, an axis or blocks."""
    shape = graph.activation(node, 0)
    steps = _steps(node, graph, shape)
    op = (
        Dequantize(float(steps.scale), int(steps.zero_point))
        if steps.single
        else affine(steps.scale, -steps.zero_point * steps.scale)
    )
    graph.add(node, op, (node.input(0),), shape)


def _steps(node: Node, graph: GraphBuilder, shape: Shape) -> _Steps:
    """The scale and the zero point of a node that reads an activation of this shape."""
    scale = graph.constant(node.input(1), "the scale").astype(np.float64)
    if not np.all((scale > 0) & (scale < np.inf)):
        bad = scale[~((scale > 0) & (scale < np.inf))].reshape(-1)[0]
        raise Refusal("model-invalid", f"a scale of {bad:g}, it must be positive")
    zero = np.zeros(())
    if node.input(2):
        zero = graph.constant(node.input(2), "the zero point").astype(np.float64)
    if scale.size == zero.size == 1:
        return _Steps(scale.reshape(()), zero.reshape(()))
    if graph.opset < 13:
        raise Refusal("model-invalid", f"a scale {list(scale.shape)}; before opset 13 it must be one number")
    return _Steps(_spread(scale, 1, node, graph, shape), _spread(zero, 2, node, graph, shape))


def _spread(values: Array, position: int, node: Node, graph: GraphBuilder, shape: Shape) -> Array:
    """Scales or zero points for each element of a sample: one number, one along an axis, or one for each block."""
    if values.size == 1:
        return np.full(shape, float(values.reshape(())))
    rank, axis = len(shape) + 1, node.integer("axis", 1)
    axis += rank if axis < 0 else 0
    if not 0 <= axis < rank:
        raise Refusal("model-invalid", f"it has no axis {axis}")
    if axis == 0:
        raise Refusal("operator-unsupported", "its scale differs between samples", _BATCH)
    if values.ndim == 1 and len(values) == shape[axis - 1]:
        return np.array(np.broadcast_to(values.reshape(-1, *(1,) * (rank - 1 - axis)), shape))
    block = node.integer("block_size", 0)
    blocks = list(shape)
    if block > 0:
        blocks[axis - 1] = -(-shape[axis - 1] // block)
    if block < 1 or list(values.shape) != [1, *blocks]:
        raise Refusal(
            "model-invalid",
            f"a scale or zero point {list(values.shape)} does not fit [batch, {', '.join(map(str, shape))}]",
            "quantize with one scale for each tensor, for each channel or for blocks of them",
        )
    # What ONNX Runtime is given has a block for each sample.
    graph.patch(node).expanded[position] = graph.constant(node.input(position), "the scale")[0]
    repeated = np.repeat(values[0], block, axis=axis - 1)
    return np.array(repeated[tuple(slice(0, size) for size in shape)])
