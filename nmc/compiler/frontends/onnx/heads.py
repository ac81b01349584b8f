"""What the host computes behind a network: a softmax, a sigmoid, an argmax at its end."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from nmc.ir.connectivity import Shape
from nmc.ir.diagnostic import DiagnosticSink
from nmc.ir.layers import (
    Activation,
    ArgMax,
    Dequantize,
    Head,
    Identity,
    Layer,
    LayerGraph,
    Op,
    Quantize,
    Reshape,
    Sigmoid,
    Softmax,
    Transpose,
)

PASSED_ON: tuple[type, ...] = (Identity, Quantize, Dequantize)
"""What may stand behind a head: it leaves the value as it is, or is left out there."""

_HIDDEN_HEADS: Mapping[type, str] = {
    Softmax: "remove the attention or gating block, or end the model before it",
    ArgMax: "end the model with it or before it",
}
"""Ways out where a head is not at the end."""


def with_heads_last(graph: LayerGraph) -> LayerGraph:
    """A reshape or transposition behind a softmax or sigmoid goes before it, which is the same."""
    while True:
        for layer in graph.layers:
            moved = _before_head(layer, graph)
            if moved is not None:
                break
        else:
            return graph
        graph = moved


def _before_head(mover: Layer, graph: LayerGraph) -> LayerGraph | None:
    """The graph with one movement exchanged with the head that only it reads; None where that is not so."""
    if not isinstance(mover.op, Reshape | Transpose):
        return None
    head = graph.by_name[mover.inputs[0]]
    alone = graph.users[head.name] == (mover.name,) and head.name not in graph.outputs
    if not alone or _is_read(mover, graph, set(), (Reshape, Transpose, *PASSED_ON)):
        return None
    op = _moved_head(head.op, head.shape, mover)
    if op is None:
        return None
    before = replace(mover, name=head.name, inputs=head.inputs, origin=replace(head.origin, output=""))
    after = replace(mover, op=op, inputs=(head.name,))
    exchanged = {head.name: before, mover.name: after}
    return replace(graph, layers=tuple(exchanged.get(layer.name, layer) for layer in graph.layers))


def _moved_head(head: Op, shape: Shape, mover: Layer) -> Op | None:
    """The head that does behind a movement what it did before it."""
    if isinstance(head, Sigmoid):
        return head
    if not isinstance(head, Softmax):
        return None
    if isinstance(mover.op, Transpose):
        return Softmax(mover.op.perm.index(head.axis % len(shape)))
    around = _around(shape, head.axis % len(shape))
    found = [axis for axis in range(len(mover.shape)) if _around(mover.shape, axis) == around]
    return Softmax(found[-1]) if found else None


def _around(shape: Shape, axis: int) -> tuple[int, int, int]:
    """An axis in C order: values before it, along it, behind it."""
    return math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])


def check_heads(graph: LayerGraph, lost: set[str], sink: DiagnosticSink) -> None:
    """A head (softmax, sigmoid, argmax) is the last thing that a network computes.

    Args:
        graph: perhaps with layers that stand for refused nodes.
        lost: the names of those.
        sink: an error for each head that something reads.
    """
    for layer in graph.layers:
        if isinstance(layer.op, Head) and _is_read(layer, graph, lost):
            sink.error(
                "operator-unsupported",
                f"a {type(layer.op).__name__.lower()} is supported at the end of a network only, "
                "where the host computes it",
                origin=layer.origin,
                help=_HIDDEN_HEADS[type(layer.op)],
            )


def with_hidden_sigmoids(graph: LayerGraph, lost: set[str]) -> LayerGraph:
    """Sigmoids that something reads as activations; the host computes those at the end."""
    hidden = {la.name for la in graph.layers if isinstance(la.op, Sigmoid) and _is_read(la, graph, lost)}
    layers = [replace(la, op=Activation("sigmoid")) if la.name in hidden else la for la in graph.layers]
    return replace(graph, layers=tuple(layers)) if hidden else graph


def _is_read(layer: Layer, graph: LayerGraph, lost: set[str], passed_on: tuple[type, ...] = PASSED_ON) -> bool:
    """Whether anything is computed from a layer, but for what leaves it as it is, on its way to the outputs."""
    waiting = list(graph.users[layer.name])
    while waiting:
        reader = graph.by_name[waiting.pop()]
        if not isinstance(reader.op, passed_on) or reader.name in lost:
            return True
        waiting.extend(graph.users[reader.name])
    return False
