"""Keep a pooling as neurons of its own where the layer behind it could not fit a core otherwise."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from nmc.ir.connectivity import Connectivity, Conv2d, Dense, Pool, size
from nmc.ir.layers import Layer, LayerGraph, Linear, Relu
from nmc.passes.base import Context, Program
from nmc.passes.simplify.rewrite import as_graph, fresh_name, rebuilt

CONSTANT_AXONS = 4
"""Axons of a core that carry a graded layer's bias (docs/formats.md section 3), at the most."""


def composed_fan_in(outer: Connectivity, pool: Pool) -> int:
    """Sources of one neuron of ``outer`` if it read the pool's input directly."""
    match outer:
        case Dense():
            return size(pool.in_shape)
        case Conv2d():
            per_group = int(outer.weight.shape[1])
            spans = [
                (outer.dilation[axis] * (outer.weight.shape[2 + axis] - 1)) * pool.stride[axis] + pool.kernel[axis]
                for axis in (0, 1)
            ]
            fan_in: int = per_group * min(spans[0], pool.in_shape[1]) * min(spans[1], pool.in_shape[2])
            return fan_in
        case _:
            return 0


@dataclass(frozen=True)
class RelayPooling:
    """Put a ReLU behind a pooling of non-negative values whose reader would hear too many axons.

    A pooling in front of a layer is usually composed with it, which costs no neurons and no
    time step, but multiplies the layer's fan-in by the size of the window. Where that would
    pass the target's ``in_axons``, the pooling stays a population. Its values are not
    negative, so the ReLU changes none.

    Attributes:
        constant_axons: of a core, that the coding takes for biases at the most.
    """

    constant_axons: int = CONSTANT_AXONS

    name: ClassVar[str] = "relay-pooling"
    stage: ClassVar[str] = "simplify"
    consumes: ClassVar[type[Program]] = LayerGraph
    produces: ClassVar[type[Program]] = LayerGraph

    def run(self, program: Program, context: Context) -> Program:
        """The same values; the same object where every layer fits."""
        graph, limit = as_graph(program), context.target.core.in_axons
        if limit is None:
            return program
        relayed = {
            layer.name
            for layer in graph.layers
            if _relays(layer, graph) and _too_wide(layer, graph, limit - self.constant_axons)
        }
        if not relayed:
            return program
        taken = {layer.name for layer in graph.layers}
        layers: list[Layer] = []
        for layer in graph.layers:
            if layer.name in relayed:
                # The ReLU takes the name: it is the layer whose value others, and verification, ask for.
                inner = fresh_name(f"{layer.name}/mean", taken)
                layers.append(replace(layer, name=inner))
                layers.append(Layer(layer.name, Relu(), (inner,), layer.shape, layer.origin))
            else:
                layers.append(layer)
        return rebuilt(graph, layers)


def _relays(layer: Layer, graph: LayerGraph) -> bool:
    """Whether this is a pooling of values that are not negative."""
    op = layer.op
    return (
        isinstance(op, Linear)
        and isinstance(op.connectivity, Pool)
        and isinstance(graph.by_name[layer.inputs[0]].op, Relu)
        and bool(np.all(op.connectivity.weight >= 0))
        and not np.any(op.bias)
    )


def _too_wide(layer: Layer, graph: LayerGraph, limit: int) -> bool:
    """Whether a reader of the pooling would hear more axons than a core has."""
    op = layer.op
    if not isinstance(op, Linear) or not isinstance(op.connectivity, Pool):
        return False
    readers = [graph.by_name[name].op for name in graph.users[layer.name]]
    wide = [composed_fan_in(r.connectivity, op.connectivity) for r in readers if isinstance(r, Linear)]
    return max(wide, default=0) > limit
