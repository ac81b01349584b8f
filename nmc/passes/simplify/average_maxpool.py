"""Replace maximum pooling by average pooling."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from nmc.ir.connectivity import Conv2d, size
from nmc.ir.layers import AveragePool, Layer, LayerGraph, Linear, MaxPool, Op
from nmc.passes.base import Context, Program
from nmc.passes.simplify.rewrite import as_graph, rebuilt


@dataclass(frozen=True)
class AverageMaxpool:
    """`MaxPool` becomes the mean over the same windows: no neurons, but other values.

    Made by ``--maxpool average``; without it a maximum is computed exactly, as ReLUs of
    differences. Padding does not count.

    Attributes:
        approximates: the values change by this pass.
    """

    name: ClassVar[str] = "average-maxpool"
    stage: ClassVar[str] = "simplify"
    consumes: ClassVar[type[Program]] = LayerGraph
    produces: ClassVar[type[Program]] = LayerGraph
    approximates: ClassVar[bool] = True

    def run(self, program: Program, context: Context) -> Program:
        """Other values without `MaxPool`; a warning for each."""
        graph = as_graph(program)
        if not any(isinstance(layer.op, MaxPool) for layer in graph.layers):
            return program
        layers: list[Layer] = []
        for layer in graph.layers:
            if isinstance(layer.op, MaxPool):
                window = " x ".join(map(str, layer.op.kernel))
                context.diagnostics.warning(
                    "maxpool-averaged",
                    f"the maximum over windows of {window} becomes their average, as --maxpool average asks",
                    origin=layer.origin,
                    help="look at the accuracy by stage; --maxpool exact computes the maximum",
                )
                layer = replace(layer, op=_averaged(layer.op, graph.by_name[layer.inputs[0]]))
            layers.append(layer)
        return rebuilt(graph, layers)


def _averaged(op: MaxPool, source: Layer) -> Op:
    if op.dilation == (1, 1):
        return AveragePool(op.kernel, op.stride, op.pads)
    # A dilated maximum has no padding (the reader refuses it), so every window is whole.
    channels = source.shape[0]
    weight = np.full((channels, 1, *op.kernel), 1.0 / size(op.kernel))
    conv = Conv2d(weight, source.shape, op.stride, op.pads, op.dilation, channels)
    return Linear(conv, np.zeros(channels))
