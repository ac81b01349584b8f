"""Sizes before values: what a network would take to run, counted before anything runs it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from nmc.compiler.frontends.onnx.limits import ELEMENT_LIMIT, RANK_LIMIT, TOTAL_LIMIT, WORK_LIMIT
from nmc.ir.connectivity import Conv2d
from nmc.ir.diagnostic import DiagnosticSink
from nmc.ir.layers import AveragePool, Layer, LayerGraph, Linear, MaxPool

if TYPE_CHECKING:
    import onnx

FOLLOWED_LIMIT = 2**16
"""Elements of a value that shape inference may follow; each takes it about 40 bytes."""


def check_budget(graph: LayerGraph, sink: DiagnosticSink) -> None:
    """Numbers and multiplications of one sample are within their limits.

    Args:
        graph: as read.
        sink: an error for each layer over `ELEMENT_LIMIT`, and one for each of the sums.
    """
    sizes = [math.prod(layer.shape) for layer in graph.layers]
    for layer, size in zip(graph.layers, sizes, strict=True):
        if size > ELEMENT_LIMIT:
            sink.error(
                "model-too-large",
                f"it makes {size} numbers per sample, the limit is {ELEMENT_LIMIT}",
                origin=layer.origin,
                help="compile a network with smaller activations",
            )
    work = sum(multiplications(layer) for layer in graph.layers)
    sums = (("numbers in its layers", sum(sizes), TOTAL_LIMIT), ("multiplications", work, WORK_LIMIT))
    for what, total, limit in sums:
        if total > limit:
            sink.error(
                "model-too-large",
                f"the network has {total} {what} per sample, the limit is {limit}",
                help="compile a smaller network, or one with a smaller input",
            )


def multiplications(layer: Layer) -> int:
    """Of one sample; those of pooling are the numbers that its windows read."""
    op = layer.op
    if isinstance(op, AveragePool | MaxPool):
        return math.prod(layer.shape) * math.prod(op.kernel)
    if not isinstance(op, Linear):
        return math.prod(layer.shape)
    weights = int(op.connectivity.weight.size)
    places = math.prod(op.connectivity.out_shape[1:]) if isinstance(op.connectivity, Conv2d) else 1
    return weights * places


def values_stay_small(model: onnx.ModelProto) -> bool:
    """Whether shape inference may follow values: a chain of Concat doubles them with each node.

    Where it joins nothing, what it follows is no longer than the longest input of its node.
    """
    lengths = {tensor.name: math.prod(tensor.dims) for tensor in model.graph.initializer}
    for node in model.graph.node:
        given = [lengths.get(name, 1) for name in node.input]
        length = sum(given) if node.op_type == "Concat" else max(given, default=RANK_LIMIT)
        if length > FOLLOWED_LIMIT and node.op_type == "Concat":
            return False
        lengths.update(dict.fromkeys(node.output, length))
    return True
