"""Legalise slices, pads and joins: the shortcuts of option A, and their relatives."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from nmc.ir.connectivity import Connectivity, Shape, sparse_from_synapses
from nmc.ir.layers import Add, Concat, Constant, Layer, LayerGraph, Linear, Pad, Slice
from nmc.passes.base import Context, Program
from nmc.passes.simplify.rewrite import as_graph, flat_index, fresh_name, rebuilt, shortest, without_tensor
from nmc.passes.simplify.windows import fitted_conv


@dataclass(frozen=True)
class LegaliseShortcut:
    """`Slice`, `Pad` and `Concat` become linear layers that copy.

    Over (C, H, W) each is a convolution whose kernel has a one where a channel is copied,
    so a strided slice followed by a channel pad (option A) fuses to one 1x1 convolution.
    Other shapes become `Sparse`. A `Concat` is the sum of its inputs, each in its place.
    """

    name: ClassVar[str] = "legalise-shortcut"
    stage: ClassVar[str] = "simplify"
    consumes: ClassVar[type[Program]] = LayerGraph
    produces: ClassVar[type[Program]] = LayerGraph

    def run(self, program: Program, context: Context) -> Program:
        """The same values without `Slice`, `Pad` and `Concat`."""
        graph = as_graph(program)
        if not any(isinstance(layer.op, Slice | Pad | Concat) for layer in graph.layers):
            return program
        taken = {layer.name for layer in graph.layers}
        layers: list[Layer] = []
        for layer in graph.layers:
            source = graph.by_name[layer.inputs[0]].shape if layer.inputs else ()
            match layer.op:
                case Slice(starts, _, steps):
                    layers.append(_linear(layer, _copy(source, layer.shape, starts, steps)))
                case Pad(before, _):
                    layers.append(_linear(layer, _copy(source, layer.shape, tuple(-b for b in before), None)))
                case Concat(axis):
                    layers.extend(_joined(layer, axis, graph, taken))
                case _:
                    layers.append(layer)
        return rebuilt(graph, layers)


def _linear(layer: Layer, connectivity: Connectivity) -> Layer:
    return replace(layer, op=Linear(connectivity, np.zeros(layer.shape[0])))


def _joined(layer: Layer, axis: int, graph: LayerGraph, taken: set[str]) -> list[Layer]:
    """One copying layer per input and their sum; constants become the bias of the first."""
    bias = np.zeros(layer.shape)
    parts: list[Layer] = []
    start = 0
    for name in layer.inputs:
        source = graph.by_name[name]
        place = tuple(slice(start, start + n) if a == axis else slice(None) for a, n in enumerate(source.shape))
        if isinstance(source.op, Constant):
            bias[place] = source.op.value
        else:
            offset = tuple(-start if a == axis else 0 for a in range(len(source.shape)))
            op = Linear(_copy(source.shape, layer.shape, offset, None), np.zeros(layer.shape[0]))
            part = fresh_name(f"{layer.name}/{len(parts)}", taken)
            parts.append(Layer(part, op, (name,), layer.shape, without_tensor(layer.origin)))
        start += source.shape[axis]
    if np.any(bias) and isinstance(parts[0].op, Linear):
        parts[0] = replace(parts[0], op=replace(parts[0].op, bias=shortest(bias, layer.shape)))
    if len(parts) == 1:
        return [replace(layer, op=parts[0].op, inputs=parts[0].inputs)]
    return [*parts, replace(layer, op=Add(), inputs=tuple(part.name for part in parts))]


def _copy(source: Shape, target: Shape, offset: tuple[int, ...], step: tuple[int, ...] | None) -> Connectivity:
    """Output element i along an axis is input element ``offset + step * i``, zero outside."""
    step = step or (1,) * len(source)
    if len(source) == 3:
        channels = np.arange(target[0]) * step[0] + offset[0]
        inside = np.flatnonzero((channels >= 0) & (channels < source[0]))
        taps = tuple(max(o, 0) for o in offset[1:])
        pads = (max(-offset[1], 0), max(-offset[2], 0))
        alone = target[0] == source[0] and np.array_equal(channels, np.arange(source[0]))
        # Channels that stay in their place need no kernel across channels.
        weight = np.zeros((target[0], 1 if alone else source[0], taps[0] + 1, taps[1] + 1))
        weight[inside, 0 if alone else channels[inside], taps[0], taps[1]] = 1.0
        return fitted_conv(weight, source, (step[1], step[2]), pads, (1, 1), source[0] if alone else 1, target)
    grids = np.meshgrid(*(np.arange(n) * s + o for n, s, o in zip(target, step, offset, strict=True)), indexing="ij")
    valid = np.all([(g >= 0) & (g < n) for g, n in zip(grids, source, strict=True)], axis=0).reshape(-1)
    index = np.ravel_multi_index([np.clip(g, 0, n - 1) for g, n in zip(grids, source, strict=True)], source)
    targets = flat_index(target).reshape(-1)[valid]
    return sparse_from_synapses(
        targets, index.reshape(-1)[valid].astype(np.int64), np.ones(int(valid.sum())), source, target
    )
