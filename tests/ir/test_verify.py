"""The verifier accepts what is well formed and names every planted fault."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from nmc.ir.connectivity import Conv2d, Dense, Pool, Skip, Sparse
from nmc.ir.diagnostic import ExitCode, NmcError
from nmc.ir.layers import (
    Add,
    ArgMax,
    AveragePool,
    Clip,
    Concat,
    Input,
    LayerGraph,
    LeakyRelu,
    MaxPool,
    Pad,
    Reshape,
    Slice,
    Softmax,
    Transpose,
)
from nmc.ir.mapping import AxonGroup, Partitioned, Place, Placed, Route, Routed
from nmc.ir.mapping import Slice as NeuronSlice
from nmc.ir.network import Network
from nmc.ir.neurons import IF, LIF, IdealIntegrator, Source
from nmc.ir.verify import verify_program
from nmc.testing.random_networks import KINDS, random_network
from tests.programs import graph_of_everything, ideal_network, layer, tiny_network, tiny_routed


def findings(program: Any) -> str:
    with pytest.raises(NmcError) as caught:
        verify_program(program)
    assert caught.value.exit_code is ExitCode.MODEL
    assert {d.slug for d in caught.value.diagnostics} == {"ir-invalid"}
    return str(caught.value)


def test_sound_programs_pass() -> None:
    routed = tiny_routed()
    placed = Placed(routed.network, routed.clusters, routed.rates, routed.places)
    partitioned = Partitioned(routed.network, routed.clusters, routed.rates)
    for program in (graph_of_everything(), tiny_network(), ideal_network(), routed, placed, partitioned):
        verify_program(program)


@pytest.mark.parametrize("kind", KINDS)
def test_random_networks_pass(kind: str) -> None:
    for seed in range(12):
        verify_program(random_network(seed, kind=kind))


# --- graphs


def with_layer(changed: str, /, **changes: Any) -> LayerGraph:
    graph = graph_of_everything()
    return replace(graph, layers=tuple(replace(n, **changes) if n.name == changed else n for n in graph.layers))


def not_finite() -> LayerGraph:
    op = graph_of_everything().by_name["fc"].op
    return with_layer("fc", op=replace(op, bias=np.array([0.0, np.nan, np.inf])))  # type: ignore[type-var]


@pytest.mark.parametrize(
    "graph,words",
    [
        (with_layer("relu", name="conv"), "two layers are named 'conv'"),
        (with_layer("conv", inputs=("soft",)), "computed later"),
        (with_layer("conv", inputs=("conv",)), "by itself"),
        (with_layer("relu", op=Input()), "takes 0 inputs, found 1"),
        (with_layer("relu", inputs=("norm", "norm")), "takes 1 inputs, found 2"),
        (with_layer("add", inputs=("relu",)), "takes 2 inputs, found 1"),
        (with_layer("relu", shape=(4, 6, 5)), r"Relu makes (4, 6, 6), the layer says (4, 6, 5)"),
        (with_layer("relu", shape=(0, 6, 5)), "no elements"),
        (with_layer("add", inputs=("relu", "x")), "inputs of an addition differ"),
        (with_layer("largest", op=MaxPool((3, 3), (1, 1), (0, 0, 0, 0), (2, 2))), "window of 5 exceeds"),
        (with_layer("largest", op=MaxPool((3, 3), (1, 1))), "MaxPool makes (4, 1, 1)"),
        (with_layer("leaky", op=LeakyRelu(np.zeros(3))), "slope"),
        (with_layer("clipped", op=Clip(2.0, 1.0)), "clip from 2 to 1"),
        (with_layer("larger", inputs=("clipped", "add")), "inputs of a maximum differ"),
        (with_layer("pool", op=AveragePool((9, 9), (1, 1))), "window of 9 exceeds"),
        (with_layer("pool", op=AveragePool((2, 2), (0, 1))), "out of range"),
        (with_layer("pad", op=Pad((0,), (0,))), "do not fit"),
        (with_layer("slice", op=Slice((0, 0, 0), (4, 4, 9), (1, 1, 1))), "leaves"),
        (with_layer("slice", op=Slice((0,), (4,), (1,))), "does not fit the axes"),
        (with_layer("concat", op=Concat(3)), "concat axis 3"),
        (with_layer("concat", inputs=("slice", "pool")), "cannot be joined"),
        (with_layer("turn", op=Transpose((0, 0, 1))), "no permutation"),
        (with_layer("flat", shape=(31,)), "cannot be reshaped"),
        (with_layer("soft", op=Softmax(1)), "softmax axis 1"),
        (with_layer("soft", op=ArgMax(1)), "argmax axis 1"),
        (with_layer("soft", op=ArgMax(0)), "ArgMax makes (1,)"),
        (with_layer("flat", op=Add(), shape=(32,)), "takes 2"),
        (with_layer("zeros", shape=(4, 6, 7)), "value has shape"),
        (not_finite(), "2 values that are not finite"),
        (replace(graph_of_everything(), outputs=("nothing",)), "'nothing' is no layer"),
        (replace(graph_of_everything(), layers=graph_of_everything().layers[1:]), "at least one input"),
    ],
)
def test_faults_of_graphs(graph: LayerGraph, words: str) -> None:
    assert words in findings(graph)


def test_ceiling_mode_of_pooling_is_allowed() -> None:
    x = layer("x", Input(), (), (1, 5, 5))
    pool = layer("p", AveragePool((2, 2), (2, 2)), ("x",), (1, 3, 3))
    verify_program(LayerGraph("g", (x, pool), ("p",)))
    verify_program(LayerGraph("g", (x, replace(pool, shape=(1, 2, 2))), ("p",)))
    assert "makes (1, 2, 2)" in findings(LayerGraph("g", (x, replace(pool, shape=(1, 4, 4))), ("p",)))


def test_reshape_fault_names_the_onnx_node() -> None:
    with pytest.raises(NmcError) as caught:
        verify_program(with_layer("flat", op=Reshape(), shape=(7,)))
    origin = caught.value.diagnostics[0].origin
    assert origin is not None and origin.node == "node_flat"


@pytest.mark.parametrize(
    "operator,words",
    [
        (Dense(np.zeros((2, 3)), (4,), (2,)), "weight has shape (2, 3)"),
        (Dense(np.zeros((2, 4), dtype=complex), (4,), (2,)), "not numbers"),
        (Conv2d(np.zeros((2, 1, 3)), (1, 4, 4)), "4 axes"),
        (Conv2d(np.zeros((2, 1, 3, 3)), (2, 4, 4)), "does not fit 2 input channels"),
        (Conv2d(np.zeros((3, 1, 3, 3)), (2, 4, 4), groups=2), "does not fit"),
        (Conv2d(np.zeros((2, 2, 3, 3)), (2, 4, 4), pads=(-1, 0, 0, 0)), "out of range"),
        (Conv2d(np.zeros((2, 2, 3, 3)), (2, 4)), "needs an input (C, H, W)"),
        (Pool(np.zeros(3), (2, 4, 4), (2, 2), (1, 1)), "weight has shape (3,)"),
        (Skip(np.zeros(3), (2, 4)), "weight has shape (3,)"),
        (Sparse(np.ones(2), np.array([0, 1, 2]), np.array([0, 4]), (4,), (2,)), "indices must lie"),
        (Sparse(np.ones(2), np.array([0, 2, 1]), np.array([0, 1]), (4,), (2,)), "indptr must rise"),
        (Sparse(np.ones(2), np.array([0, 2, 2]), np.array([1, 1]), (4,), (2,)), "without duplicates"),
        (Sparse(np.ones(1), np.array([0, 2, 2]), np.array([0, 1]), (4,), (2,)), "weight has shape (1,)"),
        (Sparse(np.ones(2), np.array([0, 2]), np.array([0, 1]), (4,), (2,)), "indptr has shape (2,)"),
    ],
)
def test_faults_of_connectivity(operator: Any, words: str) -> None:
    network = ideal_network()
    first = replace(network.projections[0], connectivity=operator)
    assert words in findings(replace(network, projections=(first, *network.projections[1:])))


# --- networks


def with_population(number: int, /, **changes: Any) -> Network:
    network = tiny_network()
    changed = replace(network.populations[number], **changes)
    return replace(network, populations=(*network.populations[:number], changed, *network.populations[number + 1 :]))


def with_projection(number: int, **changes: Any) -> Network:
    network = tiny_network()
    changed = replace(network.projections[number], **changes)
    return replace(network, projections=(*network.projections[:number], changed, *network.projections[number + 1 :]))


def with_lif(**changes: Any) -> Network:
    neuron = tiny_network().populations[1].neuron
    assert isinstance(neuron, LIF)
    return with_population(1, neuron=replace(neuron, **changes))


def with_input(**changes: Any) -> Network:
    return replace(tiny_network(), inputs=(replace(tiny_network().input, **changes),))


def with_output(**changes: Any) -> Network:
    return replace(tiny_network(), outputs=(replace(tiny_network().output, **changes),))


DENSE_WIDE = Dense(np.zeros((3, 33), dtype=np.int64), (33,), (3,))
REAL = Skip(np.array([0.5, 0.5]), (2, 4, 4))


@pytest.mark.parametrize(
    "network,words",
    [
        (with_population(2, name="a"), "two populations are named 'a'"),
        (with_projection(1, name="in>a"), "two projections are named 'in>a'"),
        (with_projection(1, source="ghost"), "['ghost'], which are no populations"),
        (with_projection(0, target="in"), "leads backwards into 'in'"),
        (with_projection(0, delay=0), "delay 0"),
        (with_projection(0, delay=2), "'a' starts at 1, but 'in>a' delivers from 2"),
        (with_projection(4, connectivity=DENSE_WIDE), "reads (33,), but 'b' has shape (2, 4, 4)"),
        (with_projection(3, connectivity=REAL), "quantization is half done"),
        (with_projection(0, shift=np.array([0, 1, 2])), "shift has shape (3,)"),
        (with_projection(0, shift=np.array(1.0)), "not integer"),
        (with_projection(0, shift=np.array(64)), "a shift of 64 exceeds 31"),
        (with_projection(0, bias=np.array([1, 2, 3])), "bias has shape (3,)"),
        (with_projection(0, bias=np.array([1.0, 2.0])), "bias is float64"),
        (with_lif(threshold=np.array(0)), "a threshold is 0"),
        (with_lif(threshold=np.array([1, 2])), "threshold has shape (2,)"),
        (with_lif(threshold=np.array(9.5)), "threshold of a LIF must be integer"),
        (with_lif(bias_exp=np.array(40)), "bias exponent is outside"),
        (with_lif(v0=np.array(1 << 40)), "v0 reaches"),
        (with_lif(du=5000), "du=5000"),
        (with_population(2, neuron=IdealIntegrator(np.array(0.0))), "IdealIntegrator is left"),
        (with_population(2, neuron=IF(np.array(1.5), np.array(0.0), np.array(0.0))), "threshold is not integer"),
        (with_population(2, neuron=Source()), "sources ['b'] are not the input"),
        (with_population(2, start=7), "starts at 7"),
        (with_population(1, start=-1), "window starts at -1"),
        (with_population(0, start=1), "the input starts at 0"),
        (with_population(0, neuron=Source(0)), "messages of 0 bits"),
        (with_input(population="none"), "'none' is no population"),
        (with_input(mode="poke"), "mode 'poke'"),
        (with_input(mode="bias"), "mode bias does not fit"),
        (with_input(shape=(17,)), "samples of (17,) do not fill"),
        (with_input(split_sign=True), "do not fill"),
        (with_input(scale=0.0), "scale 0.0"),
        (with_input(low=9, high=3), "range 9..3"),
        (with_input(perm=(0, 1)), "no permutation"),
        (with_input(bias_exp=-1), "bias exponent -1"),
        (with_output(population="none"), "'none' is no population"),
        (with_output(population="in", shape=(16,), scale=np.array(1.0)), "'in' is a source"),
        (with_output(shape=(4,)), "outputs of (4,)"),
        (with_output(scale=np.ones(5)), "scale has shape (5,)"),
        (replace(tiny_network(), timesteps=0), "timesteps is 0"),
        (replace(tiny_network(), scales={"ghost": np.array(1.0)}), "'ghost', which is no population"),
        (replace(tiny_network(), scales={"a": np.array([np.inf, 1.0])}), "not finite"),
    ],
)
def test_faults_of_networks(network: Network, words: str) -> None:
    assert words in findings(network)


def test_unaligned_windows_are_accepted_before_align() -> None:
    network = tiny_network()
    verify_program(replace(network, populations=tuple(replace(p, start=0) for p in network.populations)))


@pytest.mark.parametrize(
    "outputs,words",
    [
        ((), "a graph has at least one output"),
        (("soft", "gone"), "the output 'gone' is no layer"),
    ],
)
def test_graph_outputs(outputs: tuple[str, ...], words: str) -> None:
    assert words in findings(replace(graph_of_everything(), outputs=outputs))


def test_graph_output_names() -> None:
    graph = replace(graph_of_everything(), outputs=("soft", "soft"))
    verify_program(graph)
    verify_program(replace(graph, output_names=("a", "b")))
    for names in (("a", "a"), ("a",)):
        assert "2 outputs are called 'a'" in findings(replace(graph, output_names=names))


def test_network_outputs() -> None:
    network = tiny_network()
    first = replace(network.output, name="first")
    verify_program(replace(network, outputs=(first, replace(first, name="second"))))
    assert "a network has at least one" in findings(replace(network, outputs=()))
    for names in (("a", "a"), ("a", "")):
        twice = tuple(replace(first, name=name) for name in names)
        assert "several need names of their own" in findings(replace(network, outputs=twice))
    assert "'gone' is no population" in findings(replace(network, outputs=(first, replace(first, population="gone"))))


def test_all_findings_come_at_once() -> None:
    network = replace(with_lif(du=-1), timesteps=0, outputs=(replace(tiny_network().output, shape=(9,)),))
    with pytest.raises(NmcError) as caught:
        verify_program(network)
    assert len(caught.value.diagnostics) == 3


# --- mappings


def with_cluster(number: int, /, **changes: Any) -> Routed:
    routed = tiny_routed()
    changed = replace(routed.clusters[number], **changes)
    return replace(routed, clusters=(*routed.clusters[:number], changed, *routed.clusters[number + 1 :]))


def with_axon(**changes: Any) -> Routed:
    return with_cluster(1, axons=(replace(tiny_routed().clusters[1].axons[0], **changes),))


def with_route(number: int, **changes: Any) -> Routed:
    routed = tiny_routed()
    changed: Route = replace(routed.routes[number], **changes)
    return replace(routed, routes=(*routed.routes[:number], changed, *routed.routes[number + 1 :]))


def with_places(change: Callable[[dict[int, Place]], Any]) -> Routed:
    places = dict(tiny_routed().places)
    change(places)
    return replace(tiny_routed(), places=places)


def a_slice(*box: tuple[int, int, int], name: str = "a") -> tuple[NeuronSlice, ...]:
    return (NeuronSlice(name, box),)


@pytest.mark.parametrize(
    "program,words",
    [
        (with_cluster(2, id=0), "2 clusters have the id 0"),
        (with_cluster(2, id=-2), "ids count from 0"),
        (with_cluster(1, slices=(), axons=()), "holds no neurons"),
        (with_cluster(1, slices=a_slice((0, 2, 1), (0, 2, 1), (0, 5, 1))), "leaves 'a'"),
        (with_cluster(1, slices=a_slice((0, 2, 1), (0, 2, 1))), "leaves 'a'"),
        (with_cluster(1, slices=a_slice((0, 2, 0), (0, 2, 1), (0, 4, 1))), "leaves 'a'"),
        (with_cluster(1, slices=a_slice((0, 2, 1), name="z")), "'z', which is no population"),
        (with_cluster(1, slices=a_slice((0, 2, 1), (0, 1, 1), (0, 4, 1))), "8 lie on no core and 0 on several"),
        (with_cluster(1, slices=a_slice((0, 2, 1), (0, 3, 1), (0, 4, 1))), "0 lie on no core and 8 on several"),
        (with_axon(projection="z"), "'z', which is no projection"),
        (with_axon(slice=1), "drive slice 1 of 1"),
        (with_axon(delay=0), "delay 0"),
        (with_axon(region=()), "is empty"),
        (with_axon(region=(((0, 1, 1), (0, 4, 1), (2, 5, 1)),)), "leaves 'in'"),
        (with_axon(projection="b>out", region=(((0, 2, 1), (0, 4, 1), (0, 4, 1)),)), "drive 'a' instead of 'out'"),
        (replace(tiny_routed(), rates={"a": -1.0}), "rate -1.0"),
        (replace(tiny_routed(), rates={"z": 0.5}), "'z' is no rate"),
        (with_places(lambda p: p.pop(1)), "cluster 1 has no place"),
        (with_places(lambda p: p.update({9: Place(0, 0, 1)})), "cluster 9, which does not exist"),
        (with_places(lambda p: p.update({1: p[0]})), "clusters 0 and 1 share"),
        (with_places(lambda p: p.update({1: Place(0, -1, 0)})), "cluster 1 lies at"),
        (with_route(2, source=8), "a cluster that does not exist"),
        (with_route(2, destination=8), "a cluster that does not exist"),
        (with_route(2, slice=1), "names slice 1 of 1"),
        (with_route(2, region=(((0, 9, 1), (0, 1, 1), (0, 1, 1)),)), "leaves 'a'"),
        (with_route(2, links=((0, 0), (1, 1))), "jumps from (0, 0) to (1, 1)"),
        (with_route(2, links=((0, 0), (1, 0))), "ends at (1, 0)"),
        (with_route(2, links=((1, 0), (1, 1))), "starts at (1, 0)"),
        (with_route(2, links=()), "starts at no tile"),
        (replace(tiny_routed(), network=with_lif(du=-1)), "du=-1"),
    ],
)
def test_faults_of_mappings(program: Routed, words: str) -> None:
    assert words in findings(program)


def test_axon_group_is_checked_on_every_cluster() -> None:
    last = tiny_routed().clusters[3]
    axons = (*last.axons, AxonGroup("ghost", 0, (), 1), AxonGroup("a>b", 1, (last.slices[0].box,), 2))
    text = findings(with_cluster(3, axons=axons))
    assert "'ghost', which is no projection" in text and "drive 'out' instead of 'b'" in text
