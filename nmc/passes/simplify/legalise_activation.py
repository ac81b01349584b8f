"""Legalise activations that are piecewise linear."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from nmc.ir.connectivity import Array, Skip
from nmc.ir.layers import Add, Clip, Layer, LayerGraph, LeakyRelu, Linear, Op, Relu
from nmc.passes.base import Context, Program
from nmc.passes.simplify.rewrite import as_graph, fresh_name, rebuilt, without_tensor
from nmc.passes.simplify.signs import never_negative


@dataclass(frozen=True)
class LegaliseActivation:
    """`Clip` and `LeakyRelu` become sums of ReLUs, exactly.

    ``clip(x, low, high) = low + relu(x - low) - relu(x - high)`` and
    ``leaky(x) = relu(x) - slope * relu(-x)``: two populations, which the readers add up.
    Where x is never negative, the parts for negative values are left out.
    """

    name: ClassVar[str] = "legalise-activation"
    stage: ClassVar[str] = "simplify"
    consumes: ClassVar[type[Program]] = LayerGraph
    produces: ClassVar[type[Program]] = LayerGraph

    def run(self, program: Program, context: Context) -> Program:
        """The same values without `Clip` and `LeakyRelu`."""
        graph = as_graph(program)
        if not any(isinstance(layer.op, Clip | LeakyRelu) for layer in graph.layers):
            return program
        positive = never_negative(graph)
        taken = {layer.name for layer in graph.layers}
        layers: list[Layer] = []
        codes = dict(graph.codes)
        for layer in graph.layers:
            match layer.op:
                case Clip(low, high):
                    useless = low is not None and low <= 0 and layer.inputs[0] in positive
                    made = _clipped(layer, None if useless else low, high, taken)
                    if layer.name in codes:  # Each part has the steps of the whole; so has a ReLU that only it reads.
                        relus = [part.name for part in made if isinstance(part.op, Relu)]
                        source = graph.by_name[layer.inputs[0]]
                        alone = isinstance(source.op, Relu) and len(graph.users[source.name]) == 1
                        codes |= dict.fromkeys([*relus, source.name] if alone else relus, codes[layer.name])
                    layers.extend(made)
                case LeakyRelu(slope):
                    layers.extend(_leaky(layer, slope, layer.inputs[0] in positive, taken))
                case _:
                    layers.append(layer)
        return replace(rebuilt(graph, layers), codes=codes)


class _Parts:
    """The layers of one activation, under construction."""

    def __init__(self, layer: Layer, taken: set[str]) -> None:
        self.layers: list[Layer] = []
        self._layer = layer
        self._taken = taken

    def add(self, suffix: str, op: Op, source: str) -> str:
        """A layer of the activation's shape; its name."""
        name = fresh_name(f"{self._layer.name}/{suffix}", self._taken)
        self.layers.append(Layer(name, op, (source,), self._layer.shape, without_tensor(self._layer.origin)))
        return name

    def affine(self, suffix: str, source: str, scale: Array | float, shift: float = 0.0) -> str:
        """``scale * x + shift``."""
        return self.add(suffix, _affine(self._layer, scale, shift), source)


def _affine(layer: Layer, scale: Array | float, shift: float = 0.0) -> Linear:
    channels = layer.shape[0]
    weight = np.array(np.broadcast_to(np.asarray(scale, dtype=np.float64), (channels,)))
    return Linear(Skip(weight, layer.shape), np.full(channels, float(shift)))


def _clipped(layer: Layer, low: float | None, high: float | None, taken: set[str]) -> list[Layer]:
    source = layer.inputs[0]
    if high is None and low is None:
        return [replace(layer, op=_affine(layer, 1.0))]
    if high is None and low == 0:
        return [replace(layer, op=Relu())]
    parts = _Parts(layer, taken)
    kept, shift = source, 0.0
    if low is not None:
        above = source if low == 0 else parts.affine("above-low", source, 1.0, -low)
        kept, shift = parts.add("positive", Relu(), above), low
    if high is None:
        return [*parts.layers, replace(layer, op=_affine(layer, 1.0, shift), inputs=(kept,))]
    excess = parts.add("excess", Relu(), parts.affine("above-high", source, 1.0, -high))
    less = parts.affine("less", excess, -1.0, shift)
    return [*parts.layers, replace(layer, op=Add(), inputs=(kept, less))]


def _leaky(layer: Layer, slope: Array, never_below: bool, taken: set[str]) -> list[Layer]:
    source = layer.inputs[0]
    if never_below:
        return [replace(layer, op=_affine(layer, 1.0))]
    if not np.any(slope):
        return [replace(layer, op=Relu())]
    parts = _Parts(layer, taken)
    positive = parts.add("positive", Relu(), source)
    negative = parts.add("negative", Relu(), parts.affine("negated", source, -1.0))
    less = parts.affine("less", negative, -slope)
    return [*parts.layers, replace(layer, op=Add(), inputs=(positive, less))]
