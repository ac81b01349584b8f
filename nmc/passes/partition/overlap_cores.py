"""Cores of the overlap partitioner.

The packets of the whole network are lowered at once, by recursive bisection of its macro-graph
and by moves between every two cores that talk, under all limits of a core.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from nmc.ir.connectivity import IndexArray, Sparse
from nmc.ir.mapping import Box, Partitioned
from nmc.ir.network import Population
from nmc.kernels.partition_graph import Int32s, block_of, graph_of
from nmc.kernels.partition_join import join_parts, messages_sent
from nmc.kernels.partition_search import cut_weight, usage
from nmc.passes.partition.assemble import assemble_boxes, host_hears, on_host
from nmc.passes.partition.bisect import UNLIMITED, Effort, cut
from nmc.passes.partition.boxes import merge_boxes, middle_box
from nmc.passes.partition.demand import AXON_BITS, Core, DemandModel
from nmc.passes.partition.greedy import join_small
from nmc.passes.partition.hypergraph import Hypergraph, hypergraph_of
from nmc.passes.partition.macro import MacroGraph, is_regular, limits_of, macro_graph, node_sizes, units_of
from nmc.passes.partition.macro_memory import heard_channels, memory
from nmc.passes.partition.overlap_graph import graph_parts
from nmc.passes.partition.repair import legal_cores
from nmc.passes.partition.tiles import tile_cores
from nmc.passes.partition.units import SYNAPSE_BITS

NODES_PER_CORE = 16
"""Channels are cut until so many nodes fill the neurons, or the axons, of a core."""

NEARLY = 0.01
"""Results whose packets differ by less are compared by their cores."""

SURE = 0.9
"""A part whose memory is reckoned to take no more than this share of a core's fits without being counted."""

MANY_CHUNKS = 64
"""Of more chunks than this the one in the middle speaks for all."""


@dataclass(frozen=True)
class Found:
    """What one search has found.

    Attributes:
        packets: per step of the window.
        cores: the boxes of every core, by population.
    """

    packets: float
    cores: Sequence[Mapping[str, Sequence[Box]]]


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
    if is_regular(model.network):
        macro = regular_graph(model, optimise)
        found = [_regular_cores(model, macro, generator, optimise, effort) for _ in range(tries)]
    else:
        graph = hypergraph_of(model)
        macro = _engine_graph(graph, optimise)
        found = []
        for _ in range(tries):
            parts = graph_parts(macro, generator, optimise, effort)
            found.append(_found(model, join_small(model, legal_cores(model, graph.nodes, parts)), optimise))
    return assemble_boxes(model, preferred(found, optimise).cores)


def preferred(results: Sequence[Found], optimise: str) -> Found:
    """The result with the fewest packets; cores decide where packets are nearly the same."""
    close = min(found.packets for found in results) * (1 + NEARLY) if optimise != "cores" else np.inf
    near = [found for found in results if found.packets <= close]
    return min(near, key=lambda found: (len(found.cores), found.packets))


def _found(model: DemandModel, cores: Sequence[Core], optimise: str) -> Found:
    """Finished cores; packets to the sender's own core count as on the graph."""
    packets = 0.0
    for core in cores:
        boxes = core.boxes()
        for name, seen in core.seen.items():
            heard = seen.reshape(model.network.by_name[name].shape)
            own = boxes.get(name, []) if optimise == "traffic" else []
            inside = sum(int(heard[tuple(slice(*axis) for axis in box)].sum()) for box in own)
            packets += model.rate(name) * (int(seen.sum()) - inside)
    return Found(packets, [core.boxes() for core in cores])


def _regular_cores(
    model: DemandModel, macro: MacroGraph, generator: np.random.Generator, optimise: str, effort: str
) -> Found:
    """One search on the macro-graph, its parts as cores that hold every limit."""
    found = graph_parts(macro, generator, optimise, effort).astype(np.int32)
    if optimise != "latency":  # There cores are many on purpose.
        join_parts(macro.graph, found, _count(found), np.minimum(macro.limits, UNLIMITED))
    parts, held = exact_parts(model, macro, np.unique(found, return_inverse=True)[1], generator)
    core = model.target.core
    if all(held) and (core.out_axons is None or sent_by_cores(model, macro, parts).max(initial=0) <= core.out_axons):
        cores = [merged(macro.boxes(nodes)) for nodes in _members(parts)]
        return Found(cut_weight(macro.graph, parts.astype(np.int32), _count(parts)), cores)
    # Output axons depend on the cores that hear: populations are taken from the last to the first.
    everything = [
        model.demand(name, box)
        for node in range(len(parts))
        for name, boxes in macro.boxes([node]).items()
        for box in boxes
    ]
    return _found(model, join_small(model, legal_cores(model, everything, parts)), optimise)


def _count(parts: IndexArray | Int32s) -> int:
    return int(parts.max(initial=-1)) + 1


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


def exact_parts(
    model: DemandModel, macro: MacroGraph, parts: IndexArray, generator: np.random.Generator
) -> tuple[IndexArray, list[bool]]:
    """Parts that hold every limit but output axons as docs/formats.md counts them: what does not is cut further.

    Returns:
        (nodes,) the part of each node, and by part whether it holds them: a node alone may not.
    """
    use = usage(macro.graph, parts.astype(np.int32), _count(parts))
    stack = [(nodes, _surely_fits(model, macro, nodes, row)) for nodes, row in zip(_members(parts), use, strict=True)]
    stack.reverse()
    found = np.zeros(len(parts), dtype=np.int64)
    held: list[bool] = []
    while stack:
        nodes, sure = stack.pop()
        fits = sure or not filled(model, macro.boxes(nodes)).use().exceeded(model.target.core)
        if not fits and len(nodes) > 1:
            stack.extend((half, False) for half in _halves(macro, nodes, generator))
            continue
        found[nodes] = len(held)
        held.append(fits)
    return found, held


def _surely_fits(model: DemandModel, macro: MacroGraph, nodes: list[int], use: IndexArray) -> bool:
    """Whether a part holds every limit by what the graph knows: bounds, but for the headers of axon entries."""
    if (use > macro.limits).any():
        return False
    limit = model.target.core.synapse_bits
    if limit is None:
        return True
    headers = 0
    for name, boxes in merged(macro.boxes(nodes)).items():
        for projection in model.network.incoming[name]:
            geometry = model.geometries[projection.name]
            if geometry.kernel:
                headers += sum(heard_channels(projection, len(range(*box[0]))) for box in boxes)
            elif isinstance(projection.connectivity, Sparse) and len(boxes) > 1:
                # What several boxes read has a header in each.
                headers += sum(len(geometry.sources(box)) for box in boxes)
    return bool(use[SYNAPSE_BITS] + headers * AXON_BITS <= limit * SURE)


def filled(model: DemandModel, boxes: Mapping[str, list[Box]]) -> Core:
    """A core with some neurons, whatever its limits."""
    core = Core(model)
    for name, parts in merged(boxes).items():
        for box in parts:
            core.add(model.demand(name, box))
    return core


def merged(boxes: Mapping[str, list[Box]]) -> dict[str, tuple[Box, ...]]:
    """The same neurons in fewer boxes."""
    return {name: merge_boxes(parts) for name, parts in boxes.items()}


def sent_by_cores(model: DemandModel, macro: MacroGraph, parts: IndexArray) -> IndexArray:
    """(parts,) destination cores of the neurons of each part, the host included, summed: at most so many."""
    sent: IndexArray = messages_sent(macro.graph, parts.astype(np.int32), _count(parts))
    for unit in macro.units:
        if not on_host(unit.population):
            heard = host_hears(model, unit.population).reshape(unit.population.shape[0], -1)
            starts = np.arange(unit.grid[0]) * unit.chunk
            nodes = parts[unit.first : unit.first + unit.nodes]
            np.add.at(sent, nodes, np.add.reduceat(heard, starts, axis=0, dtype=np.int64).reshape(-1))
    return sent


def _halves(macro: MacroGraph, nodes: list[int], generator: np.random.Generator) -> list[list[int]]:
    block = block_of(macro.graph, np.array(nodes, dtype=np.int64))
    side = cut(block, np.minimum(macro.limits, UNLIMITED), 2, generator, Effort())
    if side.min() == side.max():
        side[: len(nodes) // 2] = 1 - side[0]
    return [[n for n, s in zip(nodes, side.tolist(), strict=True) if s == number] for number in (1, 0)]
