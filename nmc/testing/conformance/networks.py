"""The small networks that every chip is asked to run."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from nmc.ir.connectivity import Array, Conv2d, Dense, Shape, size
from nmc.ir.layers import Add, AveragePool, Input, LayerGraph, Linear, Relu
from nmc.ir.samples import joined_shape
from nmc.testing.builders import layer, residual_graph

SAMPLES = 24
"""Calibration inputs of each network."""


def networks() -> Mapping[str, LayerGraph]:
    """By name: a perceptron, a strided and grouped convolution, a residual block, a pooling and a second input."""
    return {"dense": _dense(), "conv": _conv(), "residual": residual_graph(3, side=4), "pooled": _pooled()}


def inputs_of(name: str, graph: LayerGraph) -> Array:
    """(SAMPLES, *joined input shape) float32; those of ``dense`` have both signs, the others none."""
    low = -1.0 if name == "dense" else 0.0
    rng = np.random.default_rng([*name.encode()])
    shape = joined_shape([entry.shape for entry in graph.inputs])
    return rng.uniform(low, 1.0, (SAMPLES, *shape)).astype(np.float32)


def _fully(rng: np.random.Generator, in_shape: Shape, out: int) -> Linear:
    weight = rng.normal(0, 1.5 / np.sqrt(size(in_shape)), (out, size(in_shape)))
    return Linear(Dense(weight, in_shape, (out,)), rng.normal(0, 0.1, out))


def _convolution(rng: np.random.Generator, operator: Conv2d) -> Linear:
    fan_in = size(operator.weight.shape[1:])
    weight = rng.normal(0, 1.5 / np.sqrt(fan_in), operator.weight.shape)
    return Linear(operator.with_weight(weight), rng.normal(0, 0.1, len(weight)))


def _dense() -> LayerGraph:
    """Two outputs, one of them a value that another layer reads too."""
    rng = np.random.default_rng(1)
    layers = (
        layer("input", Input(), (), (12,)),
        layer("first", _fully(rng, (12,), 20), ("input",), (20,)),
        layer("first_relu", Relu(), ("first",), (20,)),
        layer("second", _fully(rng, (20,), 16), ("first_relu",), (16,)),
        layer("second_relu", Relu(), ("second",), (16,)),
        layer("logits", _fully(rng, (16,), 4), ("second_relu",), (4,)),
    )
    return LayerGraph("dense", layers, ("logits", "first_relu"))


def _conv() -> LayerGraph:
    rng = np.random.default_rng(2)
    strided = Conv2d(np.ones((4, 2, 3, 3)), (2, 7, 7), (2, 2), (1, 1, 1, 1))
    grouped = Conv2d(np.ones((4, 2, 3, 3)), strided.out_shape, pads=(1, 0, 0, 1), groups=2)
    layers = (
        layer("input", Input(), (), (2, 7, 7)),
        layer("strided", _convolution(rng, strided), ("input",), strided.out_shape),
        layer("strided_relu", Relu(), ("strided",), strided.out_shape),
        layer("grouped", _convolution(rng, grouped), ("strided_relu",), grouped.out_shape),
        layer("grouped_relu", Relu(), ("grouped",), grouped.out_shape),
        layer("logits", _fully(rng, grouped.out_shape, 5), ("grouped_relu",), (5,)),
    )
    return LayerGraph("conv", layers, ("logits",))


def _pooled() -> LayerGraph:
    """Two inputs, which meet in the last layer."""
    rng = np.random.default_rng(3)
    conv = Conv2d(np.ones((4, 1, 3, 3)), (1, 6, 6), pads=(1, 1, 1, 1))
    layers = (
        layer("input", Input(), (), (1, 6, 6)),
        layer("conv", _convolution(rng, conv), ("input",), (4, 6, 6)),
        layer("conv_relu", Relu(), ("conv",), (4, 6, 6)),
        layer("pool", AveragePool((2, 2), (2, 2)), ("conv_relu",), (4, 3, 3)),
        layer("seen", _fully(rng, (4, 3, 3), 3), ("pool",), (3,)),
        layer("facts", Input(), (), (5,)),
        layer("known", _fully(rng, (5,), 3), ("facts",), (3,)),
        layer("logits", Add(), ("seen", "known"), (3,)),
    )
    return LayerGraph("pooled", layers, ("logits",))
