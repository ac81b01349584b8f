"""Macro-nodes and the nets between them: what the graph partitioners cut.

Neurons with one sender macro-node and the same hearers form one net, so the spikes that a
partition sends between cores are counted exactly, without a list of synapses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from nmc.ir.connectivity import Array, IndexArray
from nmc.ir.diagnostic import DiagnosticSink, ExitCode, NmcError
from nmc.passes.partition.assemble import chip_populations
from nmc.passes.partition.demand import AXON_BITS, Demand, DemandModel, Mask, index_bits
from nmc.passes.partition.greedy import macro_nodes
from nmc.passes.partition.tiles import tile_cores
from nmc.passes.partition.unfit import report_unfit

RESOURCES = ("neurons", "in_axons", "synapse_bits", "threshold_profiles")
"""Limits that a set of macro-nodes can be judged by; output axons depend on all other cores."""

NODES_PER_CORE = 32
"""Macro-nodes are cut until so many fill the neurons of a core, ..."""

NODES_PER_USED_CORE = 12
"""... and once more where other limits fill cores with fewer: that is little freedom."""

UNLIMITED = 1 << 60


class Net(NamedTuple):
    """One hyperedge.

    Attributes:
        source: the macro-node that sends; -1: the host, or nobody.
        weight: spikes per step.
        resource: index in `RESOURCES` of what it takes once in every core with a pin, ...
        amount: ... and how much.
        pins: macro-nodes that hear it, ascending.
    """

    source: int
    weight: float
    resource: int
    amount: int
    pins: IndexArray


@dataclass(frozen=True, eq=False)
class Csr:
    """Lists of numbers: list ``i`` is ``items[starts[i] : starts[i + 1]]``."""

    starts: IndexArray
    items: IndexArray

    @classmethod
    def of(cls, rows: IndexArray, items: IndexArray, count: int) -> Csr:
        """Items by row, in the order given."""
        starts = np.zeros(count + 1, dtype=np.int64)
        np.cumsum(np.bincount(rows, minlength=count), out=starts[1:])
        return cls(starts, items[np.argsort(rows, kind="stable")])


@dataclass(frozen=True, eq=False)
class Hypergraph:
    """Macro-nodes of a network.

    Attributes:
        nodes: in the order of the network, tiles of all channels side by side.
        sizes: (nodes, resources) what each takes of a core by itself; headers of axon entries
            count for every node, so that this is an upper bound where neighbours join.
        limits: (resources,) of a core.
        sources, weights, resources, amounts: (nets,) see `Net`.
        pins: nodes by net.
        hears: nets by node that hears them.
        sends: nets by node that sends them.
    """

    nodes: tuple[Demand, ...]
    sizes: IndexArray
    limits: IndexArray
    sources: IndexArray
    weights: Array
    resources: IndexArray
    amounts: IndexArray
    pins: Csr
    hears: Csr
    sends: Csr


def hypergraph_of(model: DemandModel) -> Hypergraph:
    """The macro-nodes of all populations on the chip, and their nets.

    Raises:
        NmcError: a layer fits no core, however small its tiles (exit 4), with all such layers.
    """
    graph = cut_to(model, NODES_PER_CORE)
    cores = int(sequential(graph).max(initial=0)) + 1
    if cores == 1 or len(graph.nodes) >= NODES_PER_USED_CORE * cores:
        return graph
    return cut_to(model, NODES_PER_CORE * -(-NODES_PER_USED_CORE * cores // len(graph.nodes)))


def cut_to(model: DemandModel, per_core: int) -> Hypergraph:
    """The same with macro-nodes of which at least ``per_core`` fill the neurons of a core.

    Raises:
        NmcError: see `hypergraph_of`.
    """
    sink = DiagnosticSink()
    nodes: list[Demand] = []
    for population in chip_populations(model.network):
        # Destinations are not known before there are cores: `legal_cores` sees to output axons.
        nobody = np.zeros(population.shape, dtype=np.int64)
        found = macro_nodes(model, population, nobody, per_core)
        if found is None:
            report_unfit(model, population, nobody, sink)
        else:
            # Channels with thresholds of their own share no core: then places of one channel come together.
            profiles = {profile for node in found for profile in node.profiles}
            apart = len(profiles) > (model.target.core.threshold_profiles or UNLIMITED)
            nodes.extend(sorted(found, key=lambda d: d.piece.box if apart else (*d.piece.box[1:], d.piece.box[0])))
    if sink.errors:
        tile_cores(model)  # Fails for the same neurons, and says where the other layers were placed.
        raise NmcError(sink.items, ExitCode.DOES_NOT_FIT)
    nets = [*_spike_nets(model, nodes), *_memory_nets(model, nodes)]
    limits = [getattr(model.target.core, name) for name in RESOURCES]
    pins = np.concatenate([net.pins for net in nets]) if nets else np.zeros(0, dtype=np.int64)
    rows = np.repeat(np.arange(len(nets)), [len(net.pins) for net in nets])
    sources = np.array([net.source for net in nets], dtype=np.int64)
    sent = np.flatnonzero(sources >= 0)
    return Hypergraph(
        tuple(nodes),
        _sizes(model, nodes),
        np.array([UNLIMITED if limit is None else limit for limit in limits], dtype=np.int64),
        sources,
        np.array([net.weight for net in nets], dtype=np.float64),
        np.array([net.resource for net in nets], dtype=np.int64),
        np.array([net.amount for net in nets], dtype=np.int64),
        Csr.of(rows, pins, len(nets)),
        Csr.of(pins, rows, len(nodes)),
        Csr.of(sources[sent], sent, len(nodes)),
    )


def _sizes(model: DemandModel, nodes: Sequence[Demand]) -> IndexArray:
    synapse = model.target.weights.bits + index_bits(model.target.core.neurons)
    rows = [(node.neurons, 0, node.synapses * synapse + node.headers * AXON_BITS, 0) for node in nodes]
    return np.array(rows, dtype=np.int64).reshape(-1, len(RESOURCES))


def _spike_nets(model: DemandModel, nodes: Sequence[Demand]) -> list[Net]:
    """One net for all neurons of one macro-node (or host population) with the same hearers."""
    populations = model.network.populations
    sizes = [p.neurons for p in populations]
    offsets = dict(zip((p.name for p in populations), np.cumsum([0, *sizes]).tolist(), strict=False))
    # Neurons of the host belong to no node: one negative number for each of its populations.
    owner = np.repeat(-1 - np.arange(len(populations)), sizes)
    for number, node in enumerate(nodes):
        shape = model.network.by_name[node.piece.population].shape
        begin = offsets[node.piece.population]
        own = owner[begin : begin + int(np.prod(shape))].reshape(shape)
        own[tuple(slice(*axis) for axis in node.piece.box)] = number
    pieces = [(n, i.neurons + offsets[i.source]) for n, node in enumerate(nodes) for i in node.inputs]
    if not pieces:
        return []
    keys = np.concatenate([index for _, index in pieces])
    hearers = np.repeat([number for number, _ in pieces], [len(index) for _, index in pieces])
    pairs = np.sort(keys * len(nodes) + hearers)
    pairs = pairs[np.diff(pairs, prepend=-1) > 0]
    keys, hearers = pairs // len(nodes), pairs % len(nodes)
    first = np.flatnonzero(np.diff(keys, prepend=-1))
    neurons, counts = keys[first], np.diff(first, append=len(keys))
    # Sets of hearers are compared by two sums of random 64-bit numbers, one per node.
    names = np.random.default_rng(len(nodes)).integers(0, 1 << 63, size=(2, len(nodes)), dtype=np.uint64)
    marks = [np.add.reduceat(name[hearers], first).astype(np.int64) for name in names]
    table = np.stack([owner[neurons], *marks])
    _, example, group = np.unique(table, axis=1, return_index=True, return_inverse=True)
    amounts = np.bincount(group.reshape(-1))
    by_population = np.searchsorted(np.cumsum(sizes), neurons[example], side="right")
    axons = RESOURCES.index("in_axons")
    nets = []
    for at, amount, index in zip(example.tolist(), amounts.tolist(), by_population.tolist(), strict=True):
        heard_by = hearers[first[at] : first[at] + counts[at]]
        weight = model.rate(populations[index].name) * amount
        nets.append(Net(max(int(owner[neurons[at]]), -1), weight, axons, amount, heard_by))
    return nets


def _memory_nets(model: DemandModel, nodes: Sequence[Demand]) -> list[Net]:
    """Nets without spikes: what macro-nodes of one core hold together, each once."""
    kernels: dict[tuple[str, int, int], tuple[Mask, list[int]]] = {}
    held: dict[tuple[str, object], tuple[int, list[int]]] = {}

    def hold(resource: str, what: object, amount: int, node: int) -> None:
        most, pins = held.setdefault((resource, what), (0, []))
        pins.append(node)
        held[resource, what] = (max(most, amount), pins)

    for number, node in enumerate(nodes):
        for name, (rows, used) in node.stored.items():
            taps, pins = kernels.setdefault((name, rows.start, rows.stop), (np.zeros_like(used), []))
            taps |= used
            pins.append(number)
        for name, digits in node.constants.items():
            hold("in_axons", name, digits, number)
            hold("synapse_bits", name, digits * AXON_BITS, number)
        for profile in sorted(node.profiles, key=str):
            hold("threshold_profiles", profile, 1, number)
    for key, (taps, pins) in kernels.items():
        held["synapse_bits", key] = (int(np.count_nonzero(taps)) * model.target.weights.bits, pins)
    return [
        Net(-1, 0.0, RESOURCES.index(resource), amount, np.array(pins, dtype=np.int64))
        for (resource, _), (amount, pins) in held.items()
    ]


def sequential(graph: Hypergraph) -> IndexArray:
    """(nodes,) int64: nodes in their order, a new core wherever the next node does not fit."""
    parts = np.zeros(len(graph.nodes), dtype=np.int64)
    core = 0
    held = np.zeros(len(graph.sources), dtype=np.bool_)
    use = np.zeros(len(graph.limits), dtype=np.int64)
    for number in range(len(graph.nodes)):
        nets = graph.hears.items[graph.hears.starts[number] : graph.hears.starts[number + 1]]
        grown = _grown(graph, number, use, nets[~held[nets]])
        if (grown > graph.limits).any() and held.any():
            core += 1
            held[:] = False
            grown = _grown(graph, number, np.zeros_like(use), nets)
        held[nets] = True
        use = grown
        parts[number] = core
    return parts


def _grown(graph: Hypergraph, node: int, use: IndexArray, fresh: IndexArray) -> IndexArray:
    grown: IndexArray = use + graph.sizes[node]
    np.add.at(grown, graph.resources[fresh], graph.amounts[fresh])
    return grown
