"""The overlap partitioner: its graph counts packets exactly, its moves keep every limit."""

from __future__ import annotations

import numpy as np
import pytest

from nmc.ir.connectivity import Conv2d, Pool, size, sparse_from_synapses
from nmc.ir.diagnostic import ExitCode, NmcError
from nmc.ir.mapping import HOST
from nmc.kernels.partition_dissolve import dissolve
from nmc.kernels.partition_graph import Graph, block_of, cluster, contract, graph_of
from nmc.kernels.partition_growth import grown
from nmc.kernels.partition_join import join_parts, messages_sent
from nmc.kernels.partition_kway import move_neurons
from nmc.kernels.partition_search import cut_weight, refine_all, usage
from nmc.passes.partition import partition_passes
from nmc.passes.partition.assemble import assemble_boxes, on_host
from nmc.passes.partition.bisect import Effort, bisected, legal_parts
from nmc.passes.partition.count import count_all
from nmc.passes.partition.demand import DemandModel
from nmc.passes.partition.irregular import neuron_graph
from nmc.passes.partition.macro import is_regular
from nmc.passes.partition.mt_kahypar import is_installed, mt_kahypar_parts
from nmc.passes.partition.overlap_cores import graph_parts, regular_graph, sent_by_cores
from nmc.passes.partition.traffic import traffic
from nmc.passes.partition.units import OPERATIONS
from tests.passes.networks import SMALL, Build, conv_net, resnet20, weights
from tests.passes.targets import context, tight

RATES = {"in": 0.5, "a": 0.25, "b": 0.125, "c": 2.0, "d": 0.75}
REGULAR = [name for name in SMALL if is_regular(SMALL[name]())]


def random_graph(seed: int, nodes: int = 60, nets: int = 90) -> Graph:
    """Nets with and without a sender, some heard by their sender, some of memory only."""
    rng = np.random.default_rng(seed)
    source = np.where(rng.random(nets) < 0.7, rng.integers(0, nodes, nets), -1).astype(np.int32)
    own = (source >= 0) & (rng.random(nets) < 0.2)
    anchored = own | ((source >= 0) & (rng.random(nets) < 0.6))
    pins = [np.setdiff1d(rng.choice(nodes, rng.integers(1, 8), replace=False), [s]) for s in source]
    weight = np.where(rng.random(nets) < 0.9, rng.random(nets), 0.0)
    sizes = np.stack([rng.integers(1, 4, nodes), rng.integers(0, 2, nodes)], axis=1).astype(np.int64)
    starts = np.concatenate([[0], np.cumsum([len(p) for p in pins])]).astype(np.int64)
    resource, amount = rng.integers(0, 2, nets), rng.integers(1, 4, nets)
    return graph_of(
        sizes, source, weight, anchored, own, resource, amount, starts, np.concatenate(pins).astype(np.int32)
    )


def counted(g: Graph, part: np.ndarray, cores: int) -> tuple[float, np.ndarray]:
    """Packets and use of the cores, net by net."""
    packets, use = 0.0, np.zeros((cores, g.sizes.shape[1]), dtype=np.int64)
    np.add.at(use, part, g.sizes)
    for e in range(len(g.source)):
        hearers = {int(part[u]) for u in g.pins[g.starts[e] : g.starts[e + 1]]}
        home = int(part[g.source[e]]) if g.source[e] >= 0 else -1
        packets += g.weight[e] * len(hearers - ({home} if g.anchored[e] else set()))
        for core in hearers | ({home} if g.own[e] else set()):
            use[core, g.resource[e]] += g.amount[e]
    return packets, use


@pytest.mark.parametrize("seed", range(4))
def test_packets_and_use_are_those_of_a_recount(seed):
    g = random_graph(seed)
    part = np.random.default_rng(seed).integers(0, 5, len(g.sizes)).astype(np.int32)
    packets, use = counted(g, part, 5)
    assert cut_weight(g, part, 5) == pytest.approx(packets)
    np.testing.assert_array_equal(usage(g, part, 5), use)


@pytest.mark.parametrize("seed", range(6))
def test_moves_save_what_they_say_and_keep_the_limits(seed):
    g = random_graph(seed)
    part = np.random.default_rng(seed).integers(0, 5, len(g.sizes)).astype(np.int32)
    limits = usage(g, part, 5).max(axis=0) + 2
    before = cut_weight(g, part, 5)
    saved = refine_all(g, part, np.arange(5), limits, 30, 3, 4, 5)
    assert saved > 0.05 * before
    assert cut_weight(g, part, 5) == pytest.approx(before - saved)
    assert (usage(g, part, 5) <= limits).all()


@pytest.mark.parametrize("seed", range(4))
def test_a_contracted_graph_counts_the_same(seed):
    g = random_graph(seed)
    nodes = len(g.sizes)
    rng = np.random.default_rng(seed)
    caps = np.array([12, 1000])
    label, count = cluster(g, rng.permutation(nodes), caps, np.zeros(nodes, dtype=np.int32), 20, 1, seed % 2 == 1)
    assert count < nodes and (np.bincount(label, weights=g.sizes[:, 0]) <= 12).all()
    small = contract(g, label, count)
    constants = set()
    for _ in range(3):
        part = rng.integers(0, 4, count).astype(np.int32)
        np.testing.assert_array_equal(usage(small, part, 4), usage(g, part[label], 4))
        # What no partition can change is not counted any more.
        constants.add(round(cut_weight(g, part[label], 4) - cut_weight(small, part, 4), 9))
    assert len(constants) == 1


@pytest.mark.parametrize("seed", range(4))
def test_a_block_is_the_graph_contracted_to_its_nodes(seed):
    g = random_graph(seed)
    nodes = np.sort(np.random.default_rng(seed).choice(len(g.sizes), len(g.sizes) // 3, replace=False))
    label = np.full(len(g.sizes), -1, dtype=np.int32)
    label[nodes] = np.arange(len(nodes))
    for found, wanted in zip(block_of(g, nodes), contract(g, label, len(nodes)), strict=True):
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("name", REGULAR)
@pytest.mark.parametrize("optimise", ["energy", "traffic"])
def test_the_macro_graph_counts_packets_and_axons_of_the_mapping(name, optimise):
    network = SMALL[name]()
    target = tight(neurons=64, in_axons=None, out_axons=None, synapse_bits=None, threshold_profiles=None)
    model = DemandModel.of(network, target, RATES)
    macro = regular_graph(model, optimise)
    part = np.random.default_rng(0).integers(0, 4, len(macro.graph.sizes)).astype(np.int32)
    found = assemble_boxes(model, [macro.boxes(np.flatnonzero(part == core).tolist()) for core in range(4)])
    flows = traffic(found)
    wanted = sum(n for (a, b), n in flows.items() if b != HOST and (a != b or optimise == "energy"))
    dense = all((p.connectivity.weight != 0).all() for p in network.projections)
    packets = cut_weight(macro.graph, part, 4)
    assert packets == pytest.approx(wanted) if dense else packets >= wanted
    if dense:
        axons = sorted(use.in_axons for use in count_all(found, target).values())
        assert axons == sorted(usage(macro.graph, part, 4)[:, 1].tolist())
        by_name = {p.name: p for p in network.populations}
        operations = sum(
            RATES[p.source] * len(p.connectivity.synapses()[0])
            for p in network.projections
            if not on_host(by_name[p.target])
        )
        counted_operations = macro.graph.sizes[:, OPERATIONS].sum() / 1000
        assert counted_operations >= operations or counted_operations == pytest.approx(operations, rel=1e-2)


@pytest.mark.parametrize("seed", range(3))
def test_bisection_fills_cores_within_their_limits(seed):
    target = tight(neurons=64, in_axons=120, out_axons=None, synapse_bits=None, threshold_profiles=None)
    macro = regular_graph(DemandModel.of(conv_net(), target, {}))
    runs = [bisected(macro.graph, macro.limits, 8, np.random.default_rng(seed), Effort()) for _ in range(2)]
    np.testing.assert_array_equal(*runs)
    cores = int(runs[0].max()) + 1
    assert set(runs[0].tolist()) == set(range(cores))
    assert (usage(macro.graph, runs[0], cores) <= macro.limits).all()


def recurrent(neurons: int, fan_in: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    pairs = np.unique(rng.integers(0, neurons, neurons * fan_in) * neurons + np.repeat(np.arange(neurons), fan_in))
    return pairs // neurons, pairs % neurons


def test_recurrent_neurons_are_grown_where_axons_fill_cores():
    source, target = recurrent(300, 12)
    limits = tight(neurons=100, in_axons=150).core
    graph = neuron_graph(source, target, np.ones(300), limits)
    part = grown(graph.graph, np.arange(300), graph.limits, 300)
    cores = int(part.max()) + 1
    assert part.min() == 0 and (usage(graph.graph, part, cores) <= graph.limits).all()
    for core in range(cores):
        assert len(np.unique(source[part[target] == core])) <= 150
    in_order, core, heard = 0, 0, set()
    for neuron in range(300):
        fresh = heard | set(source[target == neuron].tolist())
        if len(fresh) > 150:
            core, fresh = core + 1, set(source[target == neuron].tolist())
        heard = fresh
        in_order = core + 1
    assert cores < in_order
    assert int(graph_parts(graph, np.random.default_rng(0), "cores").max()) + 1 <= cores


def test_packets_of_neurons_that_hear_themselves():
    source, target = np.array([0, 0, 1, 2]), np.array([0, 1, 2, 2])
    for own_core, packets in ((True, 2.0 + 1.0), (False, 1.0 + 1.0)):
        graph = neuron_graph(source, target, np.ones(3), tight().core, own_core=own_core).graph
        # The packet of a neuron to itself is a constant, and is left out.
        assert cut_weight(graph, np.array([0, 1, 0], dtype=np.int32), 2) == packets - (1.0 if own_core else 0.0)


@pytest.mark.parametrize("seed", range(3))
def test_cores_that_are_not_needed_are_emptied(seed):
    g = random_graph(seed)
    part = np.random.default_rng(seed).integers(0, 8, len(g.sizes)).astype(np.int32)
    limits = usage(g, part, 8).sum(axis=0) // 3
    emptied = dissolve(g, part, 8, limits, 5.0)
    assert emptied >= 2 and len(np.unique(part)) == 8 - emptied
    assert (usage(g, part, 8) <= limits).all()


def test_each_aim_wins_its_own_column():
    target = tight(neurons=1024, in_axons=4096, out_axons=None, synapse_bits=None, threshold_profiles=None)
    model = DemandModel.of(resnet20(), target, {})
    own_core, between = regular_graph(model, "energy"), regular_graph(model, "traffic")
    columns: dict[str, dict[str, float]] = {"energy": {}, "traffic": {}, "cores": {}, "latency": {}}
    for aim in columns:
        macro = between if aim == "traffic" else own_core
        part = graph_parts(macro, np.random.default_rng(0), aim).astype(np.int32)
        cores = int(part.max()) + 1
        columns["energy"][aim] = cut_weight(own_core.graph, part, cores)
        columns["traffic"][aim] = cut_weight(between.graph, part, cores)
        columns["cores"][aim] = cores
        columns["latency"][aim] = usage(own_core.graph, part, cores)[:, OPERATIONS].max()
    for aim, column in columns.items():
        assert column[aim] <= 1.01 * min(column.values()), (aim, column)
    assert columns["latency"]["latency"] < 0.7 * columns["latency"]["energy"]


@pytest.mark.skipif(not is_installed(), reason="the extra 'hypergraph' is not installed")
def test_mt_kahypar_keeps_the_neurons_and_repeats_itself():
    target = tight(neurons=64, in_axons=None, out_axons=None, synapse_bits=None, threshold_profiles=None)
    graph = regular_graph(DemandModel.of(conv_net(), target, {})).graph
    runs = [mt_kahypar_parts(graph, 7, 64, seed=3) for _ in range(2)]
    np.testing.assert_array_equal(*runs)
    assert (usage(graph, runs[0], 7)[:, 0] <= 64).all()


def local_neurons(side: int, fan_out: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Neurons on a square that reach others nearby; numbers are shuffled."""
    rng = np.random.default_rng(1)
    place = np.repeat(np.arange(side * side), fan_out)
    y = np.clip(place // side + np.rint(rng.normal(0, 2, len(place))), 0, side - 1)
    x = np.clip(place % side + np.rint(rng.normal(0, 2, len(place))), 0, side - 1)
    name = rng.permutation(side * side)
    pairs = np.unique(name[place] * side * side + name[(y * side + x).astype(np.int64)])
    return pairs // (side * side), pairs % (side * side)


@pytest.mark.parametrize("own_core", [False, True])
@pytest.mark.parametrize("seed", range(2))
def test_neurons_that_move_save_what_they_say_and_keep_the_limits(seed, own_core):
    source, target = local_neurons(20)
    rates = np.random.default_rng(seed).random(400) + 0.1
    graph = neuron_graph(source, target, rates, tight().core, own_core=own_core).graph
    part = np.random.default_rng(seed).integers(0, 10, 400).astype(np.int32)
    limits = usage(graph, part, 10).max(axis=0) + 3
    before = counted(graph, part, 10)[0]
    saved = move_neurons(graph, part, np.random.default_rng(seed).permutation(400), limits, 4, 10)
    packets, use = counted(graph, part, 10)
    assert saved > 0.1 * before
    assert packets == pytest.approx(before - saved)
    assert (use <= limits).all()


@pytest.mark.parametrize("seed", range(6))
def test_moves_to_any_core_hold_on_every_kind_of_net(seed):
    g = random_graph(seed)
    part = np.random.default_rng(seed).integers(0, 5, len(g.sizes)).astype(np.int32)
    limits = usage(g, part, 5).max(axis=0) + 2
    before = counted(g, part, 5)[0]
    saved = move_neurons(g, part, np.arange(len(g.sizes)), limits, 3, 5)
    packets, use = counted(g, part, 5)
    assert packets == pytest.approx(before - saved) and saved >= 0.0
    assert (use <= limits).all()


def test_large_graphs_of_neurons_are_cut_at_once(monkeypatch):
    source, target = local_neurons(30)
    limits = tight(neurons=64, in_axons=200, out_axons=None, synapse_bits=None, threshold_profiles=None).core
    graph = neuron_graph(source, target, np.ones(900), limits)
    slow = graph_parts(graph, np.random.default_rng(0), "traffic").astype(np.int32)
    monkeypatch.setattr("nmc.passes.partition.overlap_graph.QUICK", 0)
    runs = [graph_parts(graph, np.random.default_rng(0), "traffic").astype(np.int32) for _ in range(2)]
    np.testing.assert_array_equal(*runs)
    cores = int(runs[0].max()) + 1
    assert (usage(graph.graph, runs[0], cores) <= graph.limits).all()
    assert cut_weight(graph.graph, runs[0], cores) < 1.3 * cut_weight(graph.graph, slow, int(slow.max()) + 1)


def test_parts_over_a_limit_are_cut_further():
    source, target = local_neurons(20)
    limits = tight(neurons=50, in_axons=120, out_axons=None, synapse_bits=None, threshold_profiles=None).core
    graph = neuron_graph(source, target, np.ones(400), limits)
    part = np.zeros(400, dtype=np.int32)
    part[:40] = 1
    legal = legal_parts(graph.graph, part, graph.limits, np.random.default_rng(0))
    cores = int(legal.max()) + 1
    assert (usage(graph.graph, legal, cores) <= graph.limits).all()
    assert len({*zip(part.tolist(), legal.tolist(), strict=True)}) == cores


@pytest.mark.skipif(not is_installed(), reason="the extra 'hypergraph' is not installed")
def test_high_effort_is_never_worse():
    target = tight(neurons=64, in_axons=120, out_axons=None, synapse_bits=None, threshold_profiles=None)
    macro = regular_graph(DemandModel.of(conv_net(), target, {}), "traffic")
    packets = {}
    for effort in ("normal", "high"):
        part = graph_parts(macro, np.random.default_rng(0), "traffic", effort).astype(np.int32)
        cores = int(part.max()) + 1
        assert (usage(macro.graph, part, cores) <= macro.limits).all()
        packets[effort] = cut_weight(macro.graph, part, cores)
    assert packets["high"] <= packets["normal"]


def test_high_effort_names_the_extra_that_is_missing(monkeypatch):
    monkeypatch.setattr("nmc.passes.partition.mt_kahypar.is_installed", lambda: False)
    target = tight(neurons=64)
    for name in ("auto", "overlap"):
        step = partition_passes(name, effort="high")[-1]
        with pytest.raises(NmcError) as caught:
            step.run(conv_net(), context(target))
        assert (caught.value.diagnostics[0].slug, caught.value.exit_code) == ("package-missing", ExitCode.MISSING)
        assert "nmc[hypergraph]" in caught.value.diagnostics[0].help


@pytest.mark.parametrize("seed", range(6))
def test_cores_are_joined_whole_and_keep_every_limit(seed):
    g = random_graph(seed)
    part = np.random.default_rng(seed).integers(0, 12, len(g.sizes)).astype(np.int32)
    before, limits = part.copy(), usage(g, part, 12).max(axis=0) * 2
    joined = join_parts(g, part, 12, limits)
    assert joined > 0
    assert len(np.unique(before)) - len(np.unique(part)) == joined
    # Nodes that were together still are.
    assert all(len(np.unique(part[before == core])) == 1 for core in np.unique(before))
    assert (counted(g, part, 12)[1] <= limits).all()


def test_cores_are_not_joined_where_a_limit_would_break():
    g = random_graph(0)
    part = np.random.default_rng(0).integers(0, 5, len(g.sizes)).astype(np.int32)
    limits = usage(g, part, 5).max(axis=0)
    before = part.copy()
    assert join_parts(g, part, 5, limits) == 0
    np.testing.assert_array_equal(part, before)


@pytest.mark.parametrize("seed", range(3))
def test_messages_sent_are_those_of_a_recount(seed):
    g = random_graph(seed)
    part = np.random.default_rng(seed).integers(0, 5, len(g.sizes)).astype(np.int32)
    sent = np.zeros(5, dtype=np.int64)
    for e in np.flatnonzero(g.source >= 0):
        hearers = {int(part[u]) for u in g.pins[g.starts[e] : g.starts[e + 1]]}
        hearers |= {int(part[g.source[e]])} if g.own[e] else set()
        sent[part[g.source[e]]] += len(hearers) * g.amount[e]
    np.testing.assert_array_equal(messages_sent(g, part, 5), sent)


@pytest.mark.parametrize("name", REGULAR)
def test_output_axons_of_parts_bound_those_of_the_mapping(name):
    model = DemandModel.of(SMALL[name](), tight(neurons=1000, in_axons=None, out_axons=None), {})
    macro = regular_graph(model)
    parts = np.arange(len(macro.graph.sizes)) % 3
    boxes = [macro.boxes(np.flatnonzero(parts == number).tolist()) for number in range(3)]
    partitioned = assemble_boxes(model, boxes)
    used = count_all(partitioned, model.target)
    bound = sent_by_cores(model, macro, parts)
    assert sum(use.out_axons for use in used.values()) <= bound.sum()
    if all((p.connectivity.weight != 0).all() for p in model.network.projections):
        assert sorted(use.out_axons for use in used.values()) == sorted(bound.tolist())


@pytest.mark.parametrize("further", [0, 3])
def test_averages_over_a_part_of_their_window_are_regular(further):
    """A pooling that leaves its padding out has other weights at the border: synapses, the same in each channel."""
    shape, out = (6, 5, 4), (6, 3, 2)
    conv = Pool(np.full(6, 2), shape, (3, 3), (2, 2), (1, 1, 1, 0)).as_conv()
    assert conv.out_shape == out
    target, source, _ = conv.synapses()
    weight = 2 * (1 + np.bincount(target)[target])
    # In a concatenation they come some channels further on.
    joined = (6 + further, 3, 2)
    pooling = sparse_from_synapses(target + further * size(out[1:]), source, weight, shape, joined)
    rng = np.random.default_rng(0)
    build = Build(shape).add("a", [("in", Conv2d(weights(rng, 6, 6, 1, 1), shape), 1)]).add("b", [("a", pooling, 1)])
    network = build.network()
    assert is_regular(network)
    model = DemandModel.of(network, tight(neurons=50, in_axons=60, out_axons=None, synapse_bits=None), {})
    macro = regular_graph(model)
    parts = np.random.default_rng(1).integers(0, 4, len(macro.graph.sizes)).astype(np.int32)
    partitioned = assemble_boxes(model, [macro.boxes(np.flatnonzero(parts == core).tolist()) for core in range(4)])
    assert cut_weight(macro.graph, parts, 4) == pytest.approx(sum(traffic(partitioned).values()))
    # Shuffled channels are not the same in each channel.
    mixed = sparse_from_synapses((target + size(out[1:])) % size(out), source, weight, shape, out)
    assert not is_regular(Build(shape).add("b", [("in", mixed, 1)]).network())
