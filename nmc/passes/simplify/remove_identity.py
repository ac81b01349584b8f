"""Remove layers that change nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from nmc.ir.layers import AveragePool, Concat, Identity, Layer, LayerGraph, Pad, Relu, Reshape, Slice, Transpose
from nmc.passes.base import Context, Program
from nmc.passes.simplify.rewrite import as_graph, rebuilt


@dataclass(frozen=True)
class RemoveIdentity:
    """Remove identities, empty pads, whole slices, repeated ReLUs, and what nothing reads."""

    name: ClassVar[str] = "remove-identity"
    stage: ClassVar[str] = "simplify"
    consumes: ClassVar[type[Program]] = LayerGraph
    produces: ClassVar[type[Program]] = LayerGraph

    def run(self, program: Program, context: Context) -> Program:
        """The same output with fewer layers."""
        graph = as_graph(program)
        while True:
            same = {layer.name: layer.inputs[0] for layer in graph.layers if changes_nothing(layer, graph)}
            slim = rebuilt(graph, [layer for layer in graph.layers if layer.name not in same], same)
            if len(slim.layers) == len(graph.layers):
                return graph
            # What is gone may have stood between two ReLUs.
            graph = slim


def changes_nothing(layer: Layer, graph: LayerGraph) -> bool:
    """Whether the layer's value is that of its first input."""
    if not layer.inputs:
        return False
    source = graph.by_name[layer.inputs[0]]
    match layer.op:
        case Identity():
            return True
        case Reshape() | Slice():
            return layer.shape == source.shape
        case Transpose(perm):
            return perm == tuple(range(len(perm)))
        case Pad(before, after):
            return not any(before) and not any(after)
        case Concat():
            return len(layer.inputs) == 1
        case AveragePool():
            return layer.op == AveragePool((1, 1), (1, 1), (0, 0, 0, 0), layer.op.count_pads)
        case Relu():
            return isinstance(source.op, Relu)
        case _:
            return False
