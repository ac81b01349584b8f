"""Split what treats every channel by itself, where it reads joined channels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from nmc.ir.connectivity import Shape, Skip
from nmc.ir.layers import AveragePool, Concat, Constant, Layer, LayerGraph, Linear, MaxPool, Op, Relu
from nmc.passes.base import Context, Program
from nmc.passes.simplify.rewrite import as_graph, fresh_name, rebuilt, without_tensor


@dataclass(frozen=True)
class SplitConcat:
    """``relu(concat(a, b))`` becomes ``concat(relu(a), relu(b))``; so do poolings and factors per channel.

    Joined values would be one population, and what makes a part of it would need a kernel for
    all its channels, nearly all of it zeros: in a DenseNet 20 times the weights of the file.
    Each part becomes a population of its own instead, with its own kernel; those that read the
    join read the parts.
    """

    name: ClassVar[str] = "split-concat"
    stage: ClassVar[str] = "simplify"
    consumes: ClassVar[type[Program]] = LayerGraph
    produces: ClassVar[type[Program]] = LayerGraph

    def run(self, program: Program, context: Context) -> Program:
        """The same values, joins of channels as late as they can be; the same object where there are none."""
        graph = as_graph(program)
        if not any(_is_join(layer) for layer in graph.layers):
            return program
        taken = {layer.name for layer in graph.layers}
        known: dict[str, Layer] = {}
        for layer in graph.layers:
            for made in _split(layer, known, taken):
                known[made.name] = made
        same = len(known) == len(graph.layers)
        return program if same else rebuilt(graph, known.values())


def _is_join(layer: Layer) -> bool:
    return isinstance(layer.op, Concat) and layer.op.axis == 0


def _split(layer: Layer, known: dict[str, Layer], taken: set[str]) -> list[Layer]:
    """The layer for each part and their join; the layer itself where it reads no join of channels."""
    source = known.get(layer.inputs[0]) if layer.inputs else None
    if source is None or not _is_join(source) or _part(layer.op, slice(0, 1), (1, *source.shape[1:])) is None:
        return [layer]
    parts = _parts(source, known)
    if len(parts) < 2 or any(isinstance(part.op, Constant) for part in parts):
        return [layer]
    made: list[Layer] = []
    start = 0
    for number, part in enumerate(parts):
        channels = slice(start, start + part.shape[0])
        op = _part(layer.op, channels, part.shape)
        if op is not None:
            name, shape = fresh_name(f"{layer.name}/{number}", taken), (part.shape[0], *layer.shape[1:])
            made.append(Layer(name, op, (part.name,), shape, without_tensor(layer.origin)))
        start = channels.stop
    return [*made, replace(layer, op=Concat(0), inputs=tuple(part.name for part in made))]


def _parts(layer: Layer, known: dict[str, Layer]) -> list[Layer]:
    """What a join of channels joins, joins of joins opened."""
    if not _is_join(layer):
        return [layer]
    return [part for name in layer.inputs for part in _parts(known[name], known)]


def _part(op: Op, channels: slice, shape: Shape) -> Op | None:
    """What an operator does to some channels, whose values have this shape; None where channels mix."""
    match op:
        case Relu() | MaxPool() | AveragePool():
            return op
        case Linear(Skip(weight), bias):
            return Linear(Skip(weight[channels], shape), bias[channels])
        case _:
            return None
