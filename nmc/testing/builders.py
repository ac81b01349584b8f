"""Small programs and contexts for tests, ours and plugin authors'."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from nmc.hardware.target import CoreLimits, Grid, MessageLimits, NeuronLimits, Target, WeightLimits
from nmc.ir.connectivity import Array, Conv2d, Dense, Shape
from nmc.ir.diagnostic import DiagnosticSink
from nmc.ir.layers import (
    Add,
    AveragePool,
    BatchNorm,
    Identity,
    Input,
    Layer,
    LayerGraph,
    Linear,
    Op,
    Pad,
    Relu,
    Reshape,
    Slice,
    Softmax,
)
from nmc.ir.neurons import Reset
from nmc.ir.origin import Origin
from nmc.kernels.graph import execute_graph
from nmc.passes.base import Context


def layer(name: str, op: Op, inputs: tuple[str, ...], shape: Shape) -> Layer:
    """A layer whose origin is named after it."""
    return Layer(name, op, inputs, shape, Origin(f"node {name}", type(op).__name__, f"{name}:0"))


def residual_graph(seed: int = 0, *, side: int = 6) -> LayerGraph:
    """Input (2, side, side), conv, a residual block around two convs, a dense read-out of 5."""
    rng = np.random.default_rng(seed)
    shape = (4, side, side)

    def conv(chans: int) -> Linear:
        weight = rng.normal(0, 0.4, (4, chans, 3, 3))
        return Linear(Conv2d(weight, (chans, side, side), pads=(1, 1, 1, 1)), rng.normal(0, 0.1, 4))

    dense = Linear(Dense(rng.normal(0, 0.3, (5, 4 * side * side)), shape, (5,)), rng.normal(0, 0.1, 5))
    layers = (
        layer("input", Input(), (), (2, side, side)),
        layer("stem", conv(2), ("input",), shape),
        layer("stem_relu", Relu(), ("stem",), shape),
        layer("first", conv(4), ("stem_relu",), shape),
        layer("first_relu", Relu(), ("first",), shape),
        layer("second", conv(4), ("first_relu",), shape),
        layer("sum", Add(), ("second", "stem_relu"), shape),
        layer("sum_relu", Relu(), ("sum",), shape),
        layer("logits", dense, ("sum_relu",), (5,)),
    )
    return LayerGraph("residual", layers, ("logits",))


def exported_graph(seed: int = 1) -> LayerGraph:
    """What exporters write: batch norm, identity, pads, pooling, flatten, softmax, an option-A shortcut."""
    rng = np.random.default_rng(seed)
    conv = Linear(Conv2d(rng.normal(0, 0.4, (4, 2, 3, 3)), (2, 10, 10)), np.zeros(4))
    wide = Linear(Conv2d(rng.normal(0, 0.4, (8, 4, 3, 3)), (4, 8, 8), (2, 2), (1, 1, 1, 1)), np.zeros(8))
    dense = Linear(Dense(rng.normal(0, 0.3, (5, 32)), (32,), (5,)), rng.normal(0, 0.1, 5))
    layers = (
        layer("image", Input(), (), (2, 8, 8)),
        layer("pad", Pad((0, 1, 1), (0, 1, 1)), ("image",), (2, 10, 10)),
        layer("conv", conv, ("pad",), (4, 8, 8)),
        layer("norm", BatchNorm(rng.uniform(0.5, 2, 4), rng.normal(0, 0.2, 4)), ("conv",), (4, 8, 8)),
        layer("drop", Identity(), ("norm",), (4, 8, 8)),
        layer("relu", Relu(), ("drop",), (4, 8, 8)),
        layer("wide", wide, ("relu",), (8, 4, 4)),
        layer("every_other", Slice((0, 0, 0), (4, 8, 8), (1, 2, 2)), ("relu",), (4, 4, 4)),
        layer("shortcut", Pad((2, 0, 0), (2, 0, 0)), ("every_other",), (8, 4, 4)),
        layer("sum", Add(), ("wide", "shortcut"), (8, 4, 4)),
        layer("sum_relu", Relu(), ("sum",), (8, 4, 4)),
        layer("pool", AveragePool((2, 2), (2, 2)), ("sum_relu",), (8, 2, 2)),
        layer("flat", Reshape(), ("pool",), (32,)),
        layer("logits", dense, ("flat",), (5,)),
        layer("probabilities", Softmax(0), ("logits",), (5,)),
    )
    return LayerGraph("exported", layers, ("probabilities",))


class GraphOracle:
    """A calibration oracle over fixed inputs."""

    def __init__(self, graph: LayerGraph, inputs: Array) -> None:
        self._graph = graph
        self._inputs = inputs

    @property
    def inputs(self) -> Array:
        """(N, ...) float32."""
        return self._inputs

    @property
    def from_data(self) -> bool:
        """Always the caller's."""
        return True

    def activations(self, names: Iterable[str]) -> dict[str, Array]:
        """(N, *shape) float64."""
        return execute_graph(self._graph, self._inputs, names)


def small_target(
    *,
    resets: tuple[Reset, ...] = (Reset.SUBTRACT, Reset.ZERO),
    graded_bits: int = 24,
    input_bits: int = 8,
    threshold_profiles: int | None = None,
    delay_max: int = 62,
) -> Target:
    """A made-up chip with the widths of Loihi."""
    return Target(
        "small",
        "test",
        "a made-up chip for tests",
        Grid(4, 4),
        CoreLimits(64, in_axons=512, threshold_profiles=threshold_profiles),
        NeuronLimits(("lif", "graded-relu") if graded_bits else ("lif",), resets),
        MessageLimits(graded_bits, input_bits),
        WeightLimits(9, 2, -256, 254, exponent_max=7, delay_max=delay_max),
        (),
    )


def context_for(graph: LayerGraph, inputs: Array, target: Target | None = None) -> Context:
    """A context whose oracle computes the graph's own activations."""
    return Context(target or small_target(), DiagnosticSink(), GraphOracle(graph, inputs))
