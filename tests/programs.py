"""Small hand-made programs for the tests of the IR and of the runtime."""

from __future__ import annotations

import numpy as np

from nmc.ir.connectivity import Conv2d, Dense, Pool, Skip, sparse_from_synapses
from nmc.ir.layers import (
    Add,
    AveragePool,
    BatchNorm,
    Clip,
    Concat,
    Constant,
    Identity,
    Input,
    Layer,
    LayerGraph,
    LeakyRelu,
    Linear,
    Maximum,
    MaxPool,
    Op,
    Pad,
    Relu,
    Reshape,
    Slice,
    Softmax,
    Transpose,
)
from nmc.ir.mapping import HOST, AxonGroup, Cluster, Place, Route, Routed, whole
from nmc.ir.mapping import Slice as NeuronSlice
from nmc.ir.network import InputSpec, Network, OutputSpec, Population, Projection
from nmc.ir.neurons import IF, LIF, IdealIntegrator, Integrator, Source
from nmc.ir.origin import Origin

GRID = {"tiles_x": 2, "tiles_y": 2, "cores_per_tile": 2, "chips": 1, "host_port": (0, 0)}


def layer(name: str, op: Op, inputs: tuple[str, ...], shape: tuple[int, ...]) -> Layer:
    return Layer(name, op, inputs, shape, Origin(f"node_{name}", type(op).__name__, name))


def graph_of_everything() -> LayerGraph:
    """One layer of every kind of operation, shapes that fit."""
    rng = np.random.default_rng(1)
    conv = Conv2d(rng.normal(size=(4, 2, 3, 3)), (2, 6, 6), (1, 1), (1, 1, 1, 1))
    return LayerGraph(
        "everything",
        (
            layer("x", Input(), (), (2, 6, 6)),
            layer("conv", Linear(conv, rng.normal(size=4)), ("x",), (4, 6, 6)),
            layer("norm", BatchNorm(rng.normal(size=4), rng.normal(size=4)), ("conv",), (4, 6, 6)),
            layer("relu", Relu(), ("norm",), (4, 6, 6)),
            layer("zeros", Constant(np.zeros((4, 6, 6))), (), (4, 6, 6)),
            layer("add", Add(), ("relu", "zeros"), (4, 6, 6)),
            layer("pool", AveragePool((2, 2), (2, 2), (0, 0, 0, 0), True), ("add",), (4, 3, 3)),
            layer("largest", MaxPool((2, 2), (1, 1), (1, 0, 0, 1)), ("pool",), (4, 3, 3)),
            layer("leaky", LeakyRelu(np.array([0.1, -1.0, 0.0, 0.5])), ("largest",), (4, 3, 3)),
            layer("clipped", Clip(None, 6.0), ("leaky",), (4, 3, 3)),
            layer("larger", Maximum(), ("clipped", "pool"), (4, 3, 3)),
            layer("pad", Pad((0, 1, 0), (0, 0, -1)), ("larger",), (4, 4, 2)),
            layer("slice", Slice((0, 0, 0), (4, 4, 2), (2, 1, 1)), ("pad",), (2, 4, 2)),
            layer("concat", Concat(0), ("slice", "slice"), (4, 4, 2)),
            layer("turn", Transpose((2, 0, 1)), ("concat",), (2, 4, 4)),
            layer("flat", Reshape(), ("turn",), (32,)),
            layer("same", Identity(), ("flat",), (32,)),
            layer("fc", Linear(Dense(rng.normal(size=(3, 32)), (32,), (3,)), np.zeros(3)), ("same",), (3,)),
            layer("soft", Softmax(-1), ("fc",), (3,)),
        ),
        ("soft",),
    )


def _origin(name: str) -> Origin:
    return Origin(f"node_{name}", "Conv", f"{name}_out")


def tiny_network() -> Network:
    """An aligned integer network: source -> LIF conv -> LIF (pool and skip and sparse) -> read-out."""
    rng = np.random.default_rng(2)
    image, wide = (1, 4, 4), (2, 4, 4)
    conv = Conv2d(2 * rng.integers(-60, 61, size=(2, 1, 3, 3)), image, (1, 1), (1, 1, 1, 1))
    target, source = rng.integers(0, 32, 40), rng.integers(0, 32, 40)
    sparse = sparse_from_synapses(target, source, 2 * rng.integers(1, 20, 40), wide, wide)
    pool = Pool(np.array([4, 6]), wide, (3, 3), (1, 1), (1, 1, 1, 1))

    def lif(threshold: int, bias: list[int]) -> LIF:
        return LIF(
            np.array(threshold), np.array(bias).reshape(-1, 1, 1), np.array(6), np.full((2, 1, 1), threshold * 32)
        )

    populations = (
        Population("in", image, Source(8, False), _origin("in")),
        Population("a", wide, lif(9000, [3, -5]), _origin("a"), 1),
        Population("b", wide, lif(90, [1, 0]), _origin("b"), 3),
        Population("out", (3,), Integrator(np.array([5, 0, -7]), np.array(2), np.array(0)), _origin("out"), 4),
    )
    dense = Dense(2 * rng.integers(-100, 101, size=(3, 32)), wide, (3,))
    projections = (
        Projection("in>a", "in", "a", conv, _origin("a"), 1, np.array([0, 1])),
        Projection("a>b", "a", "b", sparse, _origin("b"), 2),
        Projection("a>b#pool", "a", "b", pool, _origin("b"), 2, np.array(-1)),
        Projection("a>b#skip", "a", "b", Skip(np.array([20, 30]), wide), _origin("b"), 2),
        Projection("b>out", "b", "out", dense, _origin("out"), 1),
    )
    spec = InputSpec("in", image, 1 / 255, 0, 255)
    scales = {"in": np.array(1 / 255), "a": np.array([0.5, 0.25]), "b": np.array([1.0, 2.0])}
    outputs = (OutputSpec("out", np.array([1e-5, 2e-5, 1e-5]), (3,)),)
    return Network("tiny", populations, projections, (spec,), outputs, 8, scales)


def ideal_network() -> Network:
    """A real-valued, not yet aligned network: source -> IF -> read-out."""
    rng = np.random.default_rng(3)
    populations = (
        Population("in", (5,), Source(8, True), _origin("in")),
        Population("h", (4,), IF(np.array(1.0), rng.normal(size=4), np.array(0.5)), _origin("h")),
        Population("out", (2,), IdealIntegrator(np.zeros(2)), _origin("out")),
    )
    projections = (
        Projection("in>h", "in", "h", Dense(rng.normal(size=(4, 5)), (5,), (4,)), _origin("h")),
        Projection("h>out", "h", "out", Dense(rng.normal(size=(2, 4)), (4,), (2,)), _origin("out")),
    )
    spec = InputSpec("in", (5,), 0.01, -128, 127)
    scales = {"in": np.array(0.01), "h": np.array(1.0)}
    return Network("ideal", populations, projections, (spec,), (OutputSpec("out", np.array(1.0), (2,)),), 4, scales)


def tiny_routed() -> Routed:
    """`tiny_network` on four cores and the host: population a in two slices, b and out together."""
    network = tiny_network()
    everything = whole((2, 4, 4))
    top, bottom = ((0, 2, 1), (0, 2, 1), (0, 4, 1)), ((0, 2, 1), (2, 4, 1), (0, 4, 1))
    image, evens, odds = whole((1, 4, 4)), ((0, 2, 1), (0, 4, 2), (0, 4, 1)), ((0, 2, 1), (1, 4, 2), (0, 4, 1))

    def cluster(id: int, slices: tuple[NeuronSlice, ...], axons: tuple[AxonGroup, ...]) -> Cluster:
        return Cluster(id, slices, axons, tuple(network.by_name[s.population].origin for s in slices))

    into_b = tuple(AxonGroup(p, 0, (evens, odds), 2) for p in ("a>b", "a>b#pool", "a>b#skip"))
    clusters = (
        cluster(HOST, (NeuronSlice("in", image),), ()),
        cluster(0, (NeuronSlice("a", top),), (AxonGroup("in>a", 0, (image,), 1),)),
        cluster(1, (NeuronSlice("a", bottom),), (AxonGroup("in>a", 0, (image,), 1),)),
        cluster(
            2,
            (NeuronSlice("b", everything), NeuronSlice("out", whole((3,)))),
            (*into_b, AxonGroup("b>out", 1, (everything,), 1)),
        ),
    )
    places = {HOST: Place(0, 0, 0), 0: Place(0, 0, 0, 0), 1: Place(0, 0, 0, 1), 2: Place(0, 1, 1, 0)}
    away = ((0, 0), (1, 0), (1, 1))
    routes = (
        Route(HOST, 0, (image,), 0, ((0, 0),)),
        Route(HOST, 0, (image,), 1, ((0, 0),)),
        Route(0, 0, (top,), 2, away),
        Route(1, 0, (bottom,), 2, away),
        Route(2, 0, (everything,), 2, ((1, 1),)),
    )
    return Routed(network, clusters, {"a": 0.125, "b": 0.0625}, places, routes)
