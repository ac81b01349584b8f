"""Fold batch normalisation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from nmc.ir.connectivity import Array, Skip
from nmc.ir.layers import BatchNorm, Layer, LayerGraph, Linear
from nmc.passes.base import Context, Program
from nmc.passes.simplify.rewrite import as_graph, rebuilt


@dataclass(frozen=True)
class FoldBatchnorm:
    """``scale * x + shift`` goes into the linear layer before, where only it reads that.

    Elsewhere it becomes a one-to-one linear layer, which `FuseLinear` merges with the
    linear layers around it. The folded layer has the name and origin of the normalisation,
    since that is the value it has.
    """

    name: ClassVar[str] = "fold-batchnorm"
    stage: ClassVar[str] = "simplify"
    consumes: ClassVar[type[Program]] = LayerGraph
    produces: ClassVar[type[Program]] = LayerGraph

    def run(self, program: Program, context: Context) -> Program:
        """The same values without `BatchNorm`."""
        graph = as_graph(program)
        if not any(isinstance(layer.op, BatchNorm) for layer in graph.layers):
            return program
        layers: dict[str, Layer] = {}
        for layer in graph.layers:
            layers[layer.name] = layer
            if isinstance(layer.op, BatchNorm):
                source = layers[layer.inputs[0]]
                alone = graph.users[source.name] == (layer.name,) and source.name not in graph.outputs
                layers[layer.name] = _folded(layer, layer.op, source if alone else None)
        return rebuilt(graph, layers.values())


def _folded(layer: Layer, norm: BatchNorm, source: Layer | None) -> Layer:
    if source is not None and isinstance(source.op, Linear):
        connectivity = source.op.connectivity
        if connectivity.out_shape == layer.shape:
            scaled = connectivity.with_weight(connectivity.weight * norm.scale[connectivity.row_channel()])
            bias = _per_row(norm.scale, source.op.bias) * source.op.bias + _per_row(norm.shift, source.op.bias)
            return replace(layer, op=Linear(scaled, bias), inputs=source.inputs)
    return replace(layer, op=Linear(Skip(norm.scale, layer.shape), norm.shift))


def _per_row(values: Array, like: Array) -> Array:
    """(C,) values to multiply or add to a bias, (C,) or full."""
    return np.asarray(values.reshape(-1, *(1,) * (like.ndim - 1)))
