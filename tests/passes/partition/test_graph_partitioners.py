"""Kernighan-Lin and METIS: the nets count spikes exactly, gains are real, whatever comes out is legal."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nmc.ir.connectivity import Dense
from nmc.ir.diagnostic import NmcError
from nmc.ir.mapping import HOST
from nmc.kernels.layerwise import execute_network
from nmc.kernels.partition import crossing_spikes
from nmc.passes.base import text_form
from nmc.passes.partition import PARTITIONERS, PartitionKernighanLin, PartitionMetis, partition_passes
from nmc.passes.partition.assemble import assemble
from nmc.passes.partition.count import count_all
from nmc.passes.partition.demand import Core, DemandModel
from nmc.passes.partition.hypergraph import RESOURCES, Hypergraph, cut_to, hypergraph_of, sequential
from nmc.passes.partition.kernighan_lin import refined
from nmc.passes.partition.metis import core_shares, metis_parts, spike_graph
from nmc.passes.partition.repair import legal_cores
from nmc.passes.partition.traffic import traffic
from nmc.passes.place import PLACERS
from nmc.runtime.simulator import simulate
from nmc.testing.random_networks import random_inputs, random_network
from tests.passes.networks import SMALL, Build, conv_net, readout, resnet20, weights
from tests.passes.targets import chip, context, loihi, mapped, tight

RATES = {"in": 0.5, "a": 0.25, "b": 0.125, "c": 2.0, "d": 0.75}


def crossing(graph: Hypergraph, parts: np.ndarray) -> float:
    cores = int(parts.max()) + 1
    return crossing_spikes(parts, cores, graph.sources, graph.weights, graph.pins.starts, graph.pins.items)


@pytest.mark.parametrize("partitioner", PARTITIONERS)
@pytest.mark.parametrize("placer", PLACERS)
@pytest.mark.parametrize("case", ["random", "random graded", "conv"])
def test_every_mapping_is_legal_and_computes_the_network(case, placer, partitioner):
    network = conv_net() if case == "conv" else random_network(4, kind="graded" if "graded" in case else "rate")
    target = tight(neurons=20, in_axons=300, out_axons=600, synapse_bits=40000, threshold_profiles=8)
    routed = mapped(network, target, partitioner=partitioner, placer=placer, chips=2)
    assert routed.cores_used > 2
    samples = random_inputs(network, 2, 0)
    wanted, got = execute_network(network, samples), simulate(routed, samples)
    np.testing.assert_array_equal(wanted.readout, got.readout)
    assert wanted.readout.any()


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("seed", range(2))
def test_nets_count_the_spikes_that_cross(name, seed):
    model = DemandModel.of(SMALL[name](), tight(neurons=64, in_axons=None, out_axons=None, synapse_bits=None), RATES)
    graph = cut_to(model, 16)
    parts = np.random.default_rng(seed).integers(0, 4, len(graph.nodes))
    cores = [Core(model) for _ in range(4)]
    for node, part in zip(graph.nodes, parts, strict=True):
        cores[part].add(node)
    flows = traffic(assemble(model, [core for core in cores if core.demands]))
    wanted = sum(packets for (a, b), packets in flows.items() if a != b and b != HOST)
    assert crossing(graph, parts) == pytest.approx(wanted)


@pytest.mark.parametrize("name", SMALL)
def test_resources_of_a_set_of_nodes_are_those_of_a_core(name):
    target = tight(neurons=64, in_axons=200, out_axons=None, synapse_bits=10**6)
    model = DemandModel.of(SMALL[name](), target, {})
    graph = cut_to(model, 16)
    order = np.random.default_rng(1).permutation(len(graph.nodes))
    chosen = order[graph.sizes[order, 0].cumsum() <= 64]
    core = Core(model)
    for number in chosen:
        core.add(graph.nodes[number])
    held = np.unique(np.concatenate([graph.hears.items[slice(*graph.hears.starts[n : n + 2])] for n in chosen]))
    use = graph.sizes[chosen].sum(axis=0)
    np.add.at(use, graph.resources[held], graph.amounts[held])
    real = core.use_with(replace(graph.nodes[0], neurons=0, inputs=(), stored={}, synapses=0, headers=0, constants={}))
    assert use[RESOURCES.index("neurons")] == core.neurons
    assert use[RESOURCES.index("in_axons")] == core.in_axons
    # Bits are an upper bound: kernels count by tile of channels, indices by a full core.
    assert real.synapse_bits <= use[RESOURCES.index("synapse_bits")] <= 1.5 * real.synapse_bits + 2000


@pytest.mark.parametrize("seed", range(3))
def test_kernighan_lin_lowers_the_spikes_that_cross_by_what_it_says(seed):
    target = tight(neurons=48, out_axons=None)
    graph = hypergraph_of(DemandModel.of(SMALL["residual"](), target, {}))
    start = sequential(graph)
    better = refined(graph, start, np.random.default_rng(seed), 6, 4)
    assert crossing(graph, better) < 0.95 * crossing(graph, start)
    again = refined(graph, better, np.random.default_rng(seed), 6, 4)
    assert crossing(graph, again) <= crossing(graph, better)
    for part in np.unique(better):
        nodes = np.flatnonzero(better == part)
        held = np.unique(np.concatenate([graph.hears.items[slice(*graph.hears.starts[n : n + 2])] for n in nodes]))
        use = graph.sizes[nodes].sum(axis=0)
        np.add.at(use, graph.resources[held], graph.amounts[held])
        assert (use <= graph.limits).all()


def two_cliques(seed: int, size: int = 8) -> Hypergraph:
    """Two halves that talk among themselves only, their nodes shuffled: the best cut is none."""
    rng = np.random.default_rng(seed)
    weight = np.zeros((2 * size, 2 * size))
    side = rng.permutation(np.arange(2 * size) % 2)
    weight[side[:, None] == side[None, :]] = 1.0
    build = Build((2 * size,)).add("a", [("in", Dense(np.eye(2 * size, dtype=np.int64), (16,), (16,)), 1)])
    build.add("b", [("a", Dense(weight.astype(np.int64) * 2, (16,), (16,)), 1)])
    target = tight(neurons=2 * size, in_axons=None, out_axons=None, synapse_bits=None)
    return cut_to(DemandModel.of(build.network(), target, {}), 2 * size)


@pytest.mark.parametrize("seed", range(4))
def test_kernighan_lin_finds_the_cut_that_is_known(seed):
    graph = two_cliques(seed)
    assert len(graph.nodes) == 32
    start = np.arange(32) // 16
    inputs = 16.0  # what the host sends crosses whatever is done
    assert crossing(graph, start) == inputs + 16.0
    assert crossing(graph, refined(graph, start, np.random.default_rng(seed), 6, 4)) == inputs


@pytest.mark.parametrize("seed", range(3))
def test_metis_cuts_the_same(seed):
    graph = two_cliques(seed)
    parts = metis_parts(graph, core_shares(graph), 2, seed, 30)
    assert crossing(graph, parts) == 16.0


def test_the_spike_graph_has_both_directions_and_whole_weights():
    model = DemandModel.of(conv_net(), tight(neurons=48), {"in": 1.0, "a": 0.5, "b": 0.25})
    graph = cut_to(model, 8)
    neighbours, scaled = spike_graph(graph)
    rows = np.repeat(np.arange(len(graph.nodes)), np.diff(neighbours.starts))
    pairs = dict(zip(zip(rows.tolist(), neighbours.items.tolist(), strict=True), scaled.tolist(), strict=True))
    assert all(pairs[b, a] == weight and a != b for (a, b), weight in pairs.items())
    assert scaled.min() >= 1 and scaled.max() == 1_000_000


@pytest.mark.parametrize("limit", ["neurons", "in_axons", "out_axons", "synapse_bits", "threshold_profiles"])
def test_any_assignment_is_made_legal(limit):
    network = SMALL["residual"]()
    number = {"neurons": 11, "in_axons": 60, "out_axons": 50, "synapse_bits": 6000, "threshold_profiles": 1}[limit]
    target = tight(**{limit: number})
    model = DemandModel.of(network, target, {})
    nodes = cut_to(model, 8).nodes
    for parts in (np.zeros(len(nodes), dtype=np.int64), np.random.default_rng(0).integers(0, 3, len(nodes))):
        found = assemble(model, legal_cores(model, nodes, parts))
        assert all(not use.exceeded(target.core) for use in count_all(found, target).values())
        assert sum(c.neurons for c in found.clusters if c.id != HOST) == sum(p.neurons for p in network.populations[1:])


def test_a_node_with_too_many_readers_is_split_and_a_neuron_is_reported():
    rng = np.random.default_rng(0)
    build = Build((4,)).add("a", [("in", Dense(weights(rng, 6, 4), (4,), (6,)), 1)])
    network = build.add("b", [("a", Dense(weights(rng, 60, 6), (6,), (60,)), 1)], neuron=readout()).network()
    model = DemandModel.of(network, tight(neurons=10, out_axons=17), {})
    nodes = cut_to(model, 1).nodes
    assert max(node.neurons for node in nodes) > 2
    found = assemble(model, legal_cores(model, nodes, np.zeros(len(nodes), dtype=np.int64)))
    on_chip = [c for c in found.clusters if c.id != HOST]
    readers = sum(any(s.population == "b" for s in c.slices) for c in on_chip)
    sizes = [sum(s.neurons for s in c.slices if s.population == "a") for c in on_chip]
    assert max(sizes) == 17 // readers > 1 and sum(sizes) == 6
    for name in ("kernighan-lin", "metis"):
        with pytest.raises(NmcError) as caught:
            partition_passes(name)[-1].run(network, context(tight(neurons=10, out_axons=5)))
        error, note = caught.value.diagnostics
        assert error.slug == "core-out-axons"
        number = int(error.message.split("out_axons = ")[1].split(",")[0])
        assert number >= 6 and f"{number - 5} over the core's limit of 5" in error.message
        assert f"let at most 5 cores read the layer instead of {number}: make 'b' narrower" in error.help
        assert note.message.startswith(f"the other 1 of 2 layers fit, on {number} of the 24 cores")


@pytest.mark.parametrize("partitioner", ["kernighan-lin", "metis"])
def test_a_seed_gives_one_partition(partitioner):
    network = random_network(11)
    target = tight(neurons=24, in_axons=300, out_axons=None, synapse_bits=60000, threshold_profiles=None)
    step = partition_passes(partitioner)[-1]
    runs = [step.run(network, context(target, seed=seed)).clusters for seed in (3, 3)]
    assert runs[0] == runs[1]


@pytest.mark.parametrize("name", ["loihi1", "loihi2"])
def test_kernighan_lin_sends_fewer_packets_than_tiles_where_cores_are_large(name):
    network, target = resnet20(), loihi(name)
    tiles, swaps = (partition_passes(one)[-1] for one in ("tiles", "kernighan-lin"))
    counts = {}
    for step in (tiles, swaps):
        found = step.run(network, context(target))
        assert all(not use.exceeded(target.core) for use in count_all(found, target).values())
        counts[step.name] = sum(n for (a, b), n in traffic(found).items() if a != b)
    assert counts[swaps.name] < 0.9 * counts[tiles.name]


def test_nodes_leave_freedom():
    graph = hypergraph_of(DemandModel.of(resnet20(), loihi("loihi2"), {}))
    assert len(graph.nodes) >= 8 * (int(sequential(graph).max()) + 1)


def test_options_in_the_text_form():
    assert text_form(PartitionKernighanLin(rounds=2)) == "partition-kernighan-lin{rounds=2}"
    assert text_form(PartitionMetis(imbalance=100)) == "partition-metis{imbalance=100}"


def test_one_node_and_one_core_per_node():
    network = Build((3,)).add("a", [("in", Dense(np.full((1, 3), 2), (3,), (1,)), 1)], neuron=readout()).network()
    for name in ("kernighan-lin", "metis"):
        assert partition_passes(name)[-1].run(network, context(chip())).cores_used == 1
    graph = cut_to(DemandModel.of(conv_net(), tight(neurons=48), {}), 8)
    shares = core_shares(graph)
    everyone = metis_parts(graph, shares, len(graph.nodes) + 3, 0, 30)
    assert len(set(everyone.tolist())) == len(graph.nodes)
