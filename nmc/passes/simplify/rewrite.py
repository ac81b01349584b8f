"""What every rewrite of a `LayerGraph` needs: renaming, pruning, fresh names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from nmc.ir.connectivity import Array, Shape, size
from nmc.ir.layers import Input, Layer, LayerGraph
from nmc.ir.origin import Origin
from nmc.ir.reference import per_channel
from nmc.passes.base import Program


def as_graph(program: Program) -> LayerGraph:
    """The program as a `LayerGraph`.

    Raises:
        TypeError: it is of another level.
    """
    if not isinstance(program, LayerGraph):
        raise TypeError(f"a LayerGraph is needed, got {type(program).__name__}")
    return program


def rebuilt(
    graph: LayerGraph,
    layers: Iterable[Layer],
    same: Mapping[str, str] | None = None,
    outputs: tuple[str, ...] | None = None,
) -> LayerGraph:
    """A graph of these layers, sorted, without those that nothing reads.

    Args:
        graph: gives the name and the outputs.
        layers: in any order; names are unique.
        same: layer -> layer with the same value; readers of the first read the second.
        outputs: the new outputs, if they change.
    """
    same = same or {}

    def final(name: str) -> str:
        while name in same:
            name = same[name]
        return name

    known: dict[str, Layer] = {}
    for layer in layers:
        inputs = tuple(final(name) for name in layer.inputs)
        known[layer.name] = layer if inputs == layer.inputs else replace(layer, inputs=inputs)
    ends = tuple(final(name) for name in outputs or graph.outputs)
    order: list[Layer] = []
    done: set[str] = set()
    # Depth first from the outputs, without recursion: networks may be thousands of layers deep.
    stack = [(name, False) for name in reversed(ends)]
    while stack:
        name, expanded = stack.pop()
        if name in done:
            continue
        if expanded:
            done.add(name)
            order.append(known[name])
            continue
        stack.append((name, True))
        stack.extend((source, False) for source in reversed(known[name].inputs) if source not in done)
    # Inputs stand first, in their order, and stay even where nothing reads them: samples hold them all.
    entries = [known[layer.name] for layer in graph.inputs]
    computed = (layer for layer in order if not isinstance(layer.op, Input))
    return replace(graph, layers=(*entries, *computed), outputs=ends)


def fresh_name(wanted: str, taken: set[str]) -> str:
    """``wanted`` or ``wanted_1`` ...; the result is added to ``taken``."""
    name, copies = wanted, 0
    while name in taken:
        copies += 1
        name = f"{wanted}_{copies}"
    taken.add(name)
    return name


def without_tensor(origin: Origin) -> Origin:
    """The origin of a value that comes from a node but is no tensor of the ONNX file."""
    return replace(origin, output="")


def full(bias: Array, shape: Shape) -> Array:
    """A bias, (channels,) or full, in the full shape."""
    return np.array(np.broadcast_to(per_channel(bias, shape), shape))


def shortest(bias: Array, shape: Shape) -> Array:
    """A full bias as (channels,) where it is the same within each channel."""
    rows = full(bias, shape).reshape(shape[0], -1)
    return rows[:, 0].copy() if bool(np.all(rows == rows[:, :1])) else rows.reshape(shape)


def flat_index(shape: Shape) -> Array:
    """Flat C-order numbers of the elements, in their shape."""
    return np.arange(size(shape)).reshape(shape)
