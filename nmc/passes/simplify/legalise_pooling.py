"""Legalise average pooling."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from nmc.ir.connectivity import Pool, Shape, Sparse, size, sparse_from_synapses
from nmc.ir.layers import AveragePool, Layer, LayerGraph, Linear
from nmc.passes.base import Context, Program
from nmc.passes.simplify.compose import BUDGET
from nmc.passes.simplify.rewrite import as_graph


@dataclass(frozen=True)
class LegalisePooling:
    """Average pooling becomes a linear layer.

    Where every window divides by the same number that is a `Pool`; where the windows at
    the border divide by fewer (pads that do not count, ceiling mode), a `Sparse`.
    """

    name: ClassVar[str] = "legalise-pooling"
    stage: ClassVar[str] = "simplify"
    consumes: ClassVar[type[Program]] = LayerGraph
    produces: ClassVar[type[Program]] = LayerGraph

    def run(self, program: Program, context: Context) -> Program:
        """The same values without `AveragePool`; an error for what exceeds the budget."""
        graph = as_graph(program)
        if not any(isinstance(layer.op, AveragePool) for layer in graph.layers):
            return program
        layers = [
            _legal(layer, layer.op, graph.by_name[layer.inputs[0]].shape, context)
            if isinstance(layer.op, AveragePool)
            else layer
            for layer in graph.layers
        ]
        return replace(graph, layers=tuple(layers))


def _legal(layer: Layer, op: AveragePool, shape: Shape, context: Context) -> Layer:
    zeros = np.zeros(shape[0])
    pool = Pool(np.full(shape[0], 1.0 / size(op.kernel)), shape, op.kernel, op.stride, op.pads)
    if pool.out_shape == layer.shape and (op.count_pads or not any(op.pads)):
        return replace(layer, op=Linear(pool, zeros))
    if size(layer.shape) * size(op.kernel) > BUDGET:
        context.diagnostics.error(
            "linear-chain-too-large",
            f"this pooling has borders of its own and needs {size(layer.shape) * size(op.kernel)} single synapses, "
            f"the limit is {BUDGET}",
            origin=layer.origin,
            help="use a pooling without padding and without ceil_mode",
        )
    return replace(layer, op=Linear(_windows(op, shape, layer.shape), zeros))


def _windows(op: AveragePool, shape: Shape, out_shape: Shape) -> Sparse:
    """One synapse per value in a window, divided by what the window counts."""
    spans, counts = [], []
    for axis in (0, 1):
        n, before, after = shape[1 + axis], op.pads[axis], op.pads[axis + 2]
        start = np.arange(out_shape[1 + axis]) * op.stride[axis] - before
        stop = start + op.kernel[axis]
        spans.append((np.maximum(start, 0), np.minimum(stop, n)))
        # Padding counts if asked; what a ceiling window reaches beyond it never does.
        low, high = (start, np.minimum(stop, n + after)) if op.count_pads else spans[-1]
        counts.append(high - low)
    targets, sources, weights = [], [], []
    channel = np.arange(shape[0])
    for y in range(out_shape[1]):
        for x in range(out_shape[2]):
            rows, columns = np.arange(spans[0][0][y], spans[0][1][y]), np.arange(spans[1][0][x], spans[1][1][x])
            source = (channel[:, None, None] * shape[1] + rows[:, None]) * shape[2] + columns
            target = (channel[:, None, None] * out_shape[1] + y) * out_shape[2] + x
            sources.append(source.reshape(-1))
            targets.append(np.broadcast_to(target, source.shape).reshape(-1))
            weights.append(np.full(source.size, 1.0 / (counts[0][y] * counts[1][x])))
    return sparse_from_synapses(
        np.concatenate(targets), np.concatenate(sources), np.concatenate(weights), shape, out_shape
    )
