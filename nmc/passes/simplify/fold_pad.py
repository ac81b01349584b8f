"""Fold padding."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from nmc.ir.connectivity import Conv2d, Pool
from nmc.ir.layers import AveragePool, Layer, LayerGraph, Linear, MaxPool, Pad
from nmc.passes.base import Context, Program
from nmc.passes.simplify.rewrite import as_graph, rebuilt
from nmc.passes.simplify.signs import never_negative

Pads = tuple[int, int, int, int]


@dataclass(frozen=True)
class FoldPad:
    """Zeros around height and width become pads of the convolutions and poolings that read them.

    A maximum pooling takes them where no value is negative: zero then never wins.
    """

    name: ClassVar[str] = "fold-pad"
    stage: ClassVar[str] = "simplify"
    consumes: ClassVar[type[Program]] = LayerGraph
    produces: ClassVar[type[Program]] = LayerGraph

    def run(self, program: Program, context: Context) -> Program:
        """The same values; a `Pad` stays where another kind of layer reads it."""
        graph = as_graph(program)
        if not any(isinstance(layer.op, Pad) for layer in graph.layers):
            return program
        positive = never_negative(graph)
        layers: dict[str, Layer] = {}
        for layer in graph.layers:
            folded = _folded(layer, layers, positive)
            while folded is not layer:
                # Behind a pad may be another.
                layer, folded = folded, _folded(folded, layers, positive)
            layers[layer.name] = folded
        if all(layers[layer.name] is layer for layer in graph.layers):
            return program
        return rebuilt(graph, layers.values())


def _folded(layer: Layer, layers: dict[str, Layer], positive: frozenset[str]) -> Layer:
    source = layers[layer.inputs[0]] if layer.inputs else None
    if source is None or not isinstance(source.op, Pad):
        return layer
    before, after = source.op.before, source.op.after
    if len(before) != 3 or before[0] or after[0] or min(*before, *after) < 0:
        return layer
    inner = layers[source.inputs[0]]
    op = layer.op
    if isinstance(op, Linear) and isinstance(op.connectivity, Conv2d | Pool):
        pads = _added(op.connectivity.pads, before, after)
        connectivity = replace(op.connectivity, in_shape=inner.shape, pads=pads)
        return replace(layer, op=replace(op, connectivity=connectivity), inputs=source.inputs)
    if isinstance(op, AveragePool) and (op.count_pads or not any(op.pads)):
        # The padded zeros were values to the pooling, so they count.
        pooled = replace(op, pads=_added(op.pads, before, after), count_pads=True)
        return replace(layer, op=pooled, inputs=source.inputs)
    if isinstance(op, MaxPool) and inner.name in positive:
        # A zero wins over nothing that a window of such values holds, unless it holds none.
        pads = _added(op.pads, before, after)
        spans = [d * (k - 1) + 1 for d, k in zip(op.dilation, op.kernel, strict=True)]
        if all(pad < span for pad, span in zip(pads, spans * 2, strict=True)) and op.dilation == (1, 1):
            return replace(layer, op=replace(op, pads=pads), inputs=source.inputs)
    return layer


def _added(pads: Pads, before: tuple[int, ...], after: tuple[int, ...]) -> Pads:
    top, left, bottom, right = pads
    return (top + before[1], left + before[2], bottom + after[1], right + after[2])
