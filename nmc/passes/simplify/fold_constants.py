"""Fold constants."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from nmc.ir.connectivity import Skip
from nmc.ir.layers import Add, Concat, Constant, Layer, LayerGraph, Linear, Pad
from nmc.kernels.graph import evaluate_layer
from nmc.passes.base import Context, Program
from nmc.passes.simplify.rewrite import as_graph, fresh_name, rebuilt, shortest, without_tensor


@dataclass(frozen=True)
class FoldConstants:
    """Layers of constants become constants; adding one becomes a bias, joining zeros a pad.

    Afterwards constants are read by a `Concat` of two or more other values at most.
    """

    name: ClassVar[str] = "fold-constants"
    stage: ClassVar[str] = "simplify"
    consumes: ClassVar[type[Program]] = LayerGraph
    produces: ClassVar[type[Program]] = LayerGraph

    def run(self, program: Program, context: Context) -> Program:
        """The same values with fewer constants."""
        graph = as_graph(program)
        if not any(isinstance(layer.op, Constant) for layer in graph.layers):
            return program
        taken = {layer.name for layer in graph.layers}
        layers: dict[str, Layer] = {}
        for layer in graph.layers:
            for new in folded(layer, [layers[name] for name in layer.inputs], taken):
                layers[new.name] = new
        if all(layers[layer.name] is layer for layer in graph.layers):
            return program
        return rebuilt(graph, layers.values())


def folded(layer: Layer, sources: list[Layer], taken: set[str]) -> list[Layer]:
    """The layer, or what takes its place."""
    constant = [source.op.value for source in sources if isinstance(source.op, Constant)]
    if not constant:
        return [layer]
    if len(constant) == len(sources):
        batch = [np.asarray(value, dtype=np.float64)[None] for value in constant]
        return [replace(layer, op=Constant(evaluate_layer(layer, batch)[0]), inputs=())]
    data = tuple(source.name for source in sources if not isinstance(source.op, Constant))
    if isinstance(layer.op, Add):
        return _biased(layer, data, np.sum(np.stack(constant), axis=0), taken)
    if isinstance(layer.op, Concat) and len(data) == 1:
        return _padded(layer, layer.op.axis, sources, taken)
    return [layer]


def _biased(layer: Layer, data: tuple[str, ...], value: np.ndarray, taken: set[str]) -> list[Layer]:
    """A sum with a constant."""
    before: list[Layer] = []
    if len(data) > 1:
        name = fresh_name(f"{layer.name}/sum", taken)
        before = [Layer(name, Add(), data, layer.shape, without_tensor(layer.origin))]
        data = (name,)
    op = Linear(Skip(np.ones(layer.shape[0]), layer.shape), shortest(value.astype(np.float64), layer.shape))
    return [*before, replace(layer, op=op, inputs=data)]


def _padded(layer: Layer, axis: int, sources: list[Layer], taken: set[str]) -> list[Layer]:
    """One value joined with constants: a pad, and a bias where they are not zero."""
    position = next(i for i, source in enumerate(sources) if not isinstance(source.op, Constant))
    before, after = [0] * len(layer.shape), [0] * len(layer.shape)
    before[axis] = sum(source.shape[axis] for source in sources[:position])
    after[axis] = sum(source.shape[axis] for source in sources[position + 1 :])
    pad = Pad(tuple(before), tuple(after))
    data = sources[position]
    value = np.concatenate(
        [s.op.value if isinstance(s.op, Constant) else np.zeros(s.shape) for s in sources], axis=axis
    )
    if not np.any(value):
        return [replace(layer, op=pad, inputs=(data.name,))]
    name = fresh_name(f"{layer.name}/pad", taken)
    padded = Layer(name, pad, (data.name,), layer.shape, without_tensor(layer.origin))
    return [padded, *_biased(layer, (name,), value, taken)]
