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


def with_direct_argmax(graph: LayerGraph) -> LayerGraph:
    """An argmax of a softmax along its axis, or of a sigmoid, reads what that reads: the largest is the same.

    A model may so give probabilities and the class, both by the host.
    """
    layers = graph.by_name
    direct = {}
    for layer in graph.layers:
        head = layers[layer.inputs[0]] if isinstance(layer.op, ArgMax) else layer
        while isinstance(head.op, Identity):
            head = layers[head.inputs[0]]
        if isinstance(layer.op, ArgMax) and _keeps_order(head, layer.op):
            direct[layer.name] = replace(layer, inputs=head.inputs)
    if not direct:
        return graph
    changed = replace(graph, layers=tuple(direct.get(layer.name, layer) for layer in graph.layers))
    return _without_idle(changed, {layers[name].inputs[0] for name in direct})


def _keeps_order(head: Layer, op: ArgMax) -> bool:
    """Whether the largest value along the axis of an argmax is behind a head where it was before it."""
    same_axis = isinstance(head.op, Softmax) and (head.op.axis - op.axis) % len(head.shape) == 0
    return same_axis or isinstance(head.op, Sigmoid)


def _without_idle(graph: LayerGraph, names: set[str]) -> LayerGraph:
    """The graph without those of the named layers, and what only they read, that nothing reads any more."""
    waiting = sorted(names)
    while waiting:
        name = waiting.pop()
        if name in graph.by_name and not graph.users[name] and name not in graph.outputs:
            waiting.extend(graph.by_name[name].inputs)
            graph = replace(graph, layers=tuple(layer for layer in graph.layers if layer.name != name))
    return graph


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
    """Sigmoids that something reads as activations; the host computes those at the end.

    One that is an output and read as well becomes two: the output stays exact.
    """
    hidden = {la.name for la in graph.layers if isinstance(la.op, Sigmoid) and _is_read(la, graph, lost)}
    if not hidden:
        return graph
    taken = set(graph.by_name)
    layers: list[Layer] = []
    inside: dict[str, str] = {}
    for layer in graph.layers:
        read = replace(layer, inputs=tuple(inside.get(name, name) for name in layer.inputs))
        if layer.name in hidden and layer.name in graph.outputs:
            layers.append(read)
            inside[layer.name] = _fresh(f"{layer.name}/inside", taken)
            origin = replace(layer.origin, output="")
            layers.append(replace(read, name=inside[layer.name], op=Activation("sigmoid"), origin=origin))
        else:
            layers.append(replace(read, op=Activation("sigmoid")) if layer.name in hidden else read)
    return replace(graph, layers=tuple(layers))


def _fresh(wanted: str, taken: set[str]) -> str:
    name, copies = wanted, 0
    while name in taken:
        copies += 1
        name = f"{wanted}_{copies}"
    taken.add(name)
    return name


def _is_read(layer: Layer, graph: LayerGraph, lost: set[str], passed_on: tuple[type, ...] = PASSED_ON) -> bool:
    """Whether anything is computed from a layer, but for what leaves it as it is, on its way to the outputs."""
    waiting = list(graph.users[layer.name])
    while waiting:
        reader = graph.by_name[waiting.pop()]
        if not isinstance(reader.op, passed_on) or reader.name in lost:
            return True
        waiting.extend(graph.users[reader.name])
    return False
