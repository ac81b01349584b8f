"""Keep a pooling as neurons of its own where the layer behind it would be too large otherwise."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from nmc.ir.connectivity import Connectivity, Conv2d, Dense, Pool, Sparse, size
from nmc.ir.layers import Add, Layer, LayerGraph, Linear, Relu
from nmc.passes.base import Context, Program
from nmc.passes.simplify.compose import copies, synapse_bound
from nmc.passes.simplify.rewrite import as_graph, fresh_name, rebuilt
from nmc.passes.simplify.signs import never_negative

CONSTANT_AXONS = 4
"""Axons of a core that carry a graded layer's bias (docs/formats.md section 3), at the most."""

SINGLE_SYNAPSES = 1 << 20
"""Synapses of a layer that share no weights, at the most: with 16 bits each they fill 16 cores of Loihi 2."""


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
    """Put a ReLU behind a pooling of non-negative values whose reader would become too large.

    A pooling in front of a layer is usually composed with it, which costs no neurons and no
    time step, but multiplies the layer's fan-in by the size of the window. Where that would
    pass the target's ``in_axons``, the pooling stays a population; so does one whose windows
    at the border divide by fewer, where the composed layer, which shares no weights then, would
    have more than `SINGLE_SYNAPSES`. Its values are not negative, so the ReLU changes none.

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
        axons = None if limit is None else limit - self.constant_axons
        pooling = [layer for layer in graph.layers if _is_pooling(layer) and _too_large(layer, graph, axons)]
        if not pooling:
            return program
        positive = never_negative(graph)
        relayed = {layer.name for layer in pooling if layer.inputs[0] in positive}
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


def _is_pooling(layer: Layer) -> bool:
    """Whether non-negative weights alone make its values, each from a window of one channel."""
    op = layer.op
    if not isinstance(op, Linear) or not isinstance(op.connectivity, Pool | Sparse):
        return False
    connectivity = op.connectivity
    if isinstance(connectivity, Sparse):
        channels = connectivity.row_channel(), connectivity.column_channel()
        if len(connectivity.out_shape) < 3 or not np.array_equal(channels[0], channels[1]):
            return False
    return bool(np.all(connectivity.weight >= 0)) and not np.any(op.bias)


def _too_large(layer: Layer, graph: LayerGraph, axons: int | None) -> bool:
    """Whether a reader that is composed with the pooling would be more than a core or the chip should hold."""
    op = layer.op
    if not isinstance(op, Linear):
        return False
    linear = _readers(layer, graph)
    if isinstance(op.connectivity, Sparse):
        window = op.connectivity.weight.size / size(op.connectivity.out_shape)
        return any(synapse_bound(reader) * window > SINGLE_SYNAPSES for reader in linear)
    if axons is None or not isinstance(op.connectivity, Pool):
        return False
    return max((composed_fan_in(reader, op.connectivity) for reader in linear), default=0) > axons


def _readers(layer: Layer, graph: LayerGraph) -> list[Connectivity]:
    """The operators that add values of a layer up, behind joins and other copies of it."""
    found: list[Connectivity] = []
    seen: set[str] = set()
    ahead = [layer.name]
    while ahead:
        users = [name for name in graph.users[ahead.pop()] if name not in seen]
        seen.update(users)
        for user in (graph.by_name[name] for name in dict.fromkeys(users)):
            if isinstance(user.op, Linear) and not copies(user.op.connectivity):
                found.append(user.op.connectivity)
            elif isinstance(user.op, Linear | Add):
                ahead.append(user.name)
    return found
