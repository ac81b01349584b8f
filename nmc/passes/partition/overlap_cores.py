"""Cores of the overlap partitioner.

The packets of the whole network are lowered at once, by recursive bisection of its macro-graph
and by moves between every two cores that talk, under all limits of a core.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from nmc.ir.connectivity import IndexArray
from nmc.ir.mapping import Box, Partitioned
from nmc.ir.network import Population
from nmc.kernels.partition_graph import contract, graph_of
from nmc.kernels.partition_search import cut_weight, usage
from nmc.passes.partition.assemble import assemble, assemble_boxes, fan_out, on_host
from nmc.passes.partition.bisect import UNLIMITED, Effort, cut
from nmc.passes.partition.boxes import merge_boxes, middle_box
from nmc.passes.partition.demand import Core, DemandModel
from nmc.passes.partition.greedy import join_small
from nmc.passes.partition.hypergraph import Hypergraph, hypergraph_of
from nmc.passes.partition.macro import MacroGraph, is_regular, limits_of, macro_graph, node_sizes, units_of
from nmc.passes.partition.macro_memory import memory
from nmc.passes.partition.overlap_graph import graph_parts
from nmc.passes.partition.repair import legal_cores
from nmc.passes.partition.tiles import tile_cores

NODES_PER_CORE = 16
"""Channels are cut until so many nodes fill the neurons, or the axons, of a core."""

NEARLY = 0.01
"""Results whose packets differ by less are compared by their cores."""


MANY_CHUNKS = 64
"""Of more chunks than this the one in the middle speaks for all."""


def overlap_partition(
    model: DemandModel, generator: np.random.Generator, optimise: str = "energy", tries: int = 1, effort: str = "normal"
) -> Partitioned:
    """The network in clusters.

    Args:
        model: of the network.
        generator: seeded.
        optimise: see `PartitionOverlap`.
        tries: bisections, of which the best is kept.
        effort: see `PartitionOverlap`.

    Raises:
        NmcError: see `PartitionOverlap.run`.
    """
    core = model.target.core
    regular = is_regular(model.network)
    graph = None if regular else hypergraph_of(model)
    macro = regular_graph(model, optimise) if graph is None else _engine_graph(graph, optimise)
    if regular and core.synapse_bits is None and core.out_axons is None and core.threshold_profiles is None:
        # The graph counts neurons and axons, so its parts are cores; a node alone may still be too large.
        found = [graph_parts(macro, generator, optimise, effort).astype(np.int32) for _ in range(tries)]
        best = min(found, key=lambda parts: cut_weight(macro.graph, parts, int(parts.max()) + 1))
        if (usage(macro.graph, best, int(best.max()) + 1) <= macro.limits).all():
            return assemble_boxes(model, [macro.boxes(part) for part in _members(best.astype(np.int64))])
    results = []
    for _ in range(tries):
        parts = graph_parts(macro, generator, optimise, effort)
        cores = exact_cores(model, macro, parts, generator) if graph is None else legal_cores(model, graph.nodes, parts)
        results.append(join_small(model, cores))
    return assemble(model, preferred(model, results, optimise))


def preferred(model: DemandModel, results: list[list[Core]], optimise: str) -> list[Core]:
    """The result with the fewest packets; cores decide where packets are nearly the same."""
    packets = [
        sum(model.rate(name) * int(seen.sum()) for c in cores for name, seen in c.seen.items()) for cores in results
    ]
    close = min(packets) * (1 + NEARLY) if optimise != "cores" else np.inf
    ranked = [
        (len(cores), count, n) for n, (cores, count) in enumerate(zip(results, packets, strict=True)) if count <= close
    ]
    return results[min(ranked)[2]]


def _engine_graph(graph: Hypergraph, optimise: str) -> MacroGraph:
    """Tiles and the nets of their neurons as the bisection takes them."""
    nets = len(graph.sources)
    none = np.zeros(nets, dtype=np.bool_)
    anchored = (graph.sources >= 0) & (optimise == "traffic")
    made = graph_of(
        np.ascontiguousarray(graph.sizes),
        graph.sources.astype(np.int32),
        graph.weights,
        anchored,
        none,
        graph.resources,
        graph.amounts,
        graph.pins.starts,
        graph.pins.items.astype(np.int32),
    )
    return MacroGraph((), made, graph.limits)


def _members(parts: IndexArray) -> list[list[int]]:
    order = np.argsort(parts, kind="stable")
    ends = np.cumsum(np.bincount(parts))
    return [piece.tolist() for piece in np.split(order, ends[:-1]) if len(piece)]


def regular_graph(model: DemandModel, optimise: str = "energy") -> MacroGraph:
    """The macro-graph of a regular network under all limits of the target.

    Raises:
        NmcError: see `PartitionOverlap.run`.
    """
    chunks = {p.name: p.shape[0] if on_host(p) else _chunk(model, p) for p in model.network.populations}
    if min(chunks.values()) == 0:
        tile_cores(model)  # Says which layers do not fit, why, and what would help.
    units = units_of(model.network, {name: max(chunk, 1) for name, chunk in chunks.items()})
    sizes = node_sizes(units)
    held = memory(model, units, sizes)
    limits = limits_of(model.target.core)
    return macro_graph(model.network, units, model.rates, limits, sizes, held, own_core=optimise != "traffic")


def _chunk(model: DemandModel, population: Population) -> int:
    """Channels of a node: few enough for many nodes on a core, and for every limit; 0: not even one fits."""
    core = model.target.core
    chunk = min(population.shape[0], max(core.neurons // NODES_PER_CORE, 1))
    limits = replace(core, neurons=max(core.neurons // NODES_PER_CORE, 1))
    if core.synapse_bits is not None:
        limits = replace(limits, synapse_bits=core.synapse_bits // 2)
    while chunk > 1:
        if all(Core(model).fits(model.demand(population.name, box), limits) for box in _chunks_of(population, chunk)):
            return chunk
        chunk = -(-chunk // 2)
    demand = model.demand(population.name, middle_box(population.shape, (1,) * len(population.shape)))
    return int(Core(model).fits(demand, core))


def _chunks_of(population: Population, chunk: int) -> list[Box]:
    """Every chunk of channels at the middle place: groups and pruned weights make them differ."""
    middle = middle_box(population.shape, (chunk, *(1,) * (len(population.shape) - 1)))
    starts = range(0, population.shape[0], chunk)
    if len(starts) > MANY_CHUNKS:
        return [middle]
    return [((first, min(first + chunk, population.shape[0]), 1), *middle[1:]) for first in starts]


def exact_cores(model: DemandModel, macro: MacroGraph, parts: IndexArray, generator: np.random.Generator) -> list[Core]:
    """Cores that hold every limit as docs/formats.md counts them: parts that do not are cut further.

    Output axons depend on the cores that hear, so populations are taken from the last to the first
    by `legal_cores` where cutting does not help.
    """
    stack = _members(parts)[::-1]
    pieces: list[list[int]] = []
    cores: list[Core] = []
    while stack:
        nodes = stack.pop()
        core = filled(model, macro.boxes(nodes))
        if not core.use().exceeded(model.target.core):
            cores.append(core)
            pieces.append(nodes)
        elif len(nodes) > 1:
            stack.extend(_halves(macro, nodes, generator))
        else:
            pieces.append(nodes)
    if len(cores) == len(pieces) and not _sending_too_much(model, cores):
        return cores
    part = np.zeros(len(parts), dtype=np.int64)
    for number, nodes in enumerate(pieces):
        part[nodes] = number
    everything = [
        (node, model.demand(name, box))
        for nodes in pieces
        for node in nodes
        for name, boxes in macro.boxes([node]).items()
        for box in boxes
    ]
    everything.sort(key=lambda item: item[0])
    return legal_cores(model, [demand for _, demand in everything], part)


def filled(model: DemandModel, boxes: Mapping[str, list[Box]]) -> Core:
    """A core with some neurons, whatever its limits."""
    core = Core(model)
    for name, parts in boxes.items():
        for box in merge_boxes(parts):
            core.add(model.demand(name, box))
    return core


def _sending_too_much(model: DemandModel, cores: list[Core]) -> bool:
    limit = model.target.core.out_axons
    if limit is None:
        return False
    heard = {p.name: fan_out(model, p, cores) for p in model.network.populations if not on_host(p)}
    return any(
        sum(int(heard[d.piece.population][tuple(slice(*a) for a in d.piece.box)].sum()) for d in core.demands) > limit
        for core in cores
    )


def _halves(macro: MacroGraph, nodes: list[int], generator: np.random.Generator) -> list[list[int]]:
    label = np.full(len(macro.graph.sizes), -1, dtype=np.int32)
    label[nodes] = np.arange(len(nodes))
    block = contract(macro.graph, label, len(nodes))
    side = cut(block, np.minimum(macro.limits, UNLIMITED), 2, generator, Effort())
    if side.min() == side.max():
        side[: len(nodes) // 2] = 1 - side[0]
    return [[n for n, s in zip(nodes, side.tolist(), strict=True) if s == number] for number in (1, 0)]
