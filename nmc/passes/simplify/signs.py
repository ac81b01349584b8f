"""Which values of a graph are never negative, told from the graph alone."""

from __future__ import annotations

import numpy as np

from nmc.ir.layers import (
    Add,
    ArgMax,
    AveragePool,
    BatchNorm,
    Clip,
    Concat,
    Constant,
    Identity,
    Layer,
    LayerGraph,
    LeakyRelu,
    Linear,
    Maximum,
    MaxPool,
    Pad,
    Relu,
    Reshape,
    Sigmoid,
    Slice,
    Softmax,
    Transpose,
)


def never_negative(graph: LayerGraph) -> frozenset[str]:
    """Names of the layers none of whose values is negative, whatever the input."""
    found: set[str] = set()
    for layer in graph.layers:
        if _stays(layer, [name in found for name in layer.inputs]):
            found.add(layer.name)
    return frozenset(found)


def _stays(layer: Layer, sources: list[bool]) -> bool:
    """Whether a layer's values are never negative; ``sources`` says it of what it reads."""
    match layer.op:
        case Relu() | Softmax() | Sigmoid() | ArgMax():
            return True
        case Clip(low, high):
            return (high is None or high >= 0) and (sources[0] or (low is not None and low >= 0))
        case LeakyRelu(slope):
            return sources[0] or bool(np.all(slope <= 0))
        case Maximum():
            return any(sources)
        case Add() | AveragePool() | MaxPool() | Pad() | Slice() | Concat() | Reshape() | Transpose() | Identity():
            return all(sources)
        case Linear(connectivity, bias):
            return sources[0] and bool(np.all(connectivity.weight >= 0)) and bool(np.all(bias >= 0))
        case BatchNorm(scale, shift):
            return sources[0] and bool(np.all(scale >= 0)) and bool(np.all(shift >= 0))
        case Constant(value):
            return bool(np.all(value >= 0))
        case _:
            return False
