"""Axon-aware greedy: macro-nodes grow into clusters by the overlap of their input axons.

A macro-node is a small tile of one population. A cluster starts with the first node that
is left and takes, one after the other, the node that shares most messages with what the
core hears already, as long as every limit holds. Populations are taken from the last to
the first (destinations are then known); at the end small clusters are joined.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nmc.ir.connectivity import IndexArray, Shape
from nmc.ir.diagnostic import DiagnosticSink
from nmc.ir.mapping import Box, Partitioned
from nmc.ir.network import Network, Population
from nmc.passes.base import Context, Program
from nmc.passes.partition.assemble import assemble, chip_populations, fan_out
from nmc.passes.partition.boxes import halved, merge_boxes, middle_box, tiling
from nmc.passes.partition.demand import Core, Demand, DemandModel
from nmc.passes.partition.limits import CoreUse
from nmc.passes.partition.rates import measured_rates
from nmc.passes.partition.tiles import demands_if_all_fit
from nmc.passes.partition.unfit import raise_unfit, report_unfit

NODES_PER_CORE = 8
"""Macro-nodes are cut until so many fill the neurons of a core, ..."""

AXON_SHARE = 3
"""... and until a node hears at most one third of a core's axons, where cutting helps."""

BLOCKS = 1024
"""Parts of the network by which clusters are compared before they are joined, ..."""

NEAR = 32
"""... and partners of which the messages in common are counted."""

TRIES = 8
"""Nodes that may fail to fit before a cluster is closed."""


@dataclass(frozen=True)
class PartitionGreedy:
    """Grow clusters of macro-nodes by the overlap of their input axons."""

    name: ClassVar[str] = "partition-greedy"
    stage: ClassVar[str] = "partition"
    consumes: ClassVar[type[Program]] = Network
    produces: ClassVar[type[Program]] = Partitioned

    def run(self, program: Program, context: Context) -> Program:
        """Partition the network.

        Raises:
            NmcError: a layer fits no core, however small its tiles (exit 4), with all such layers.
        """
        if not isinstance(program, Network):
            raise TypeError(f"{self.name} needs a Network")
        model = DemandModel.of(program, context.target, measured_rates(program, context))
        return assemble(model, greedy_cores(model))


def greedy_cores(model: DemandModel) -> list[Core]:
    """Cores filled with grown clusters.

    Raises:
        NmcError: see `PartitionGreedy.run`.
    """
    sink = DiagnosticSink()
    cores: list[Core] = []
    for population in reversed(chip_populations(model.network)):
        heard = fan_out(model, population, cores)
        nodes = macro_nodes(model, population, heard)
        if nodes is None:
            report_unfit(model, population, heard, sink)
        else:
            cores.extend(coalesced(model, core, {population.name: heard}) for core in grow(model, nodes))
    raise_unfit(model, cores, sink)
    return join_small(model, cores)


def macro_nodes(
    model: DemandModel, population: Population, heard: IndexArray, per_core: int = NODES_PER_CORE
) -> list[Demand] | None:
    """The macro-nodes of a population, or None where a single neuron exceeds a limit.

    Args:
        model: of the network.
        population: on the chip.
        heard: destination cores of each neuron, in the population's shape.
        per_core: nodes are cut until so many fill the neurons of a core.
    """
    tile = population.shape
    while True:
        smaller = _smaller(model, population, tile, heard, per_core)
        if smaller is None:
            demands = demands_if_all_fit(model, population.name, tiling(population.shape, tile), heard)
            if demands is not None:
                return demands
            # The middle fits and another tile does not: go on with the longest axis.
            longest = int(np.argmax(tile))
            if tile[longest] == 1:
                return None
            smaller = halved(tile, longest)
        tile = smaller


def _smaller(model: DemandModel, population: Population, tile: Shape, heard: IndexArray, per_core: int) -> Shape | None:
    """The tile with one axis halved if a macro-node of this tile is too large, else None."""
    limits = model.target.core

    def use(shape: Shape) -> CoreUse:
        return Core(model).use_with(model.demand(population.name, middle_box(population.shape, shape), heard))

    now = use(tile)
    exceeded = {limit.name for limit in now.exceeded(limits)}
    crowded = limits.in_axons is not None and now.in_axons * AXON_SHARE > limits.in_axons
    if not exceeded and now.neurons * per_core <= limits.neurons and not crowded:
        return None
    options = [(use(shape), shape) for axis in range(len(tile)) if tile[axis] > 1 for shape in [halved(tile, axis)]]
    if not options:
        return None
    if "threshold_profiles" in exceeded:
        return min(options, key=lambda option: (option[0].threshold_profiles, option[0].in_axons))[1]
    if "synapse_bits" in exceeded:
        return min(options, key=lambda option: (option[0].synapse_bits, option[0].in_axons))[1]
    best, shape = min(options, key=lambda option: option[0].in_axons)
    only_crowded = not exceeded and now.neurons * per_core <= limits.neurons
    if only_crowded and best.in_axons * 4 > now.in_axons * 3:
        return None
    return shape


@dataclass(frozen=True, eq=False)
class _Hearers:
    """For each source neuron, the macro-nodes that hear it.

    Attributes:
        offsets: first key of each source population; a key is that plus the flat neuron.
        keys: ascending keys that some node hears.
        starts: (keys + 1,) where the nodes of a key begin in ``nodes``.
        nodes: node numbers.
    """

    offsets: dict[str, int]
    keys: IndexArray
    starts: IndexArray
    nodes: IndexArray

    @classmethod
    def of(cls, model: DemandModel, demands: Sequence[Demand]) -> _Hearers:
        offsets: dict[str, int] = {}
        total = 0
        for population in model.network.populations:
            offsets[population.name] = total
            total += population.neurons
        pieces = [
            (number, entry.neurons + offsets[entry.source])
            for number, demand in enumerate(demands)
            for entry in demand.inputs
        ]
        if not pieces:
            empty = np.zeros(0, dtype=np.int64)
            return cls(offsets, empty, np.zeros(1, dtype=np.int64), empty)
        keys = np.concatenate([index for _, index in pieces])
        nodes = np.repeat([number for number, _ in pieces], [len(index) for _, index in pieces])
        pairs = np.unique(keys * len(demands) + nodes)
        keys, nodes = pairs // len(demands), pairs % len(demands)
        distinct, first = np.unique(keys, return_index=True)
        return cls(offsets, distinct, np.append(first, len(keys)), nodes)

    def shared(self, source: str, neurons: IndexArray, count: int) -> IndexArray:
        """For each of ``count`` nodes, how many of the neurons it hears."""
        wanted = neurons + self.offsets[source]
        at = np.searchsorted(self.keys, wanted)
        at = at[at < len(self.keys)]
        wanted = wanted[: len(at)]
        at = at[self.keys[at] == wanted]
        starts, lengths = self.starts[at], self.starts[at + 1] - self.starts[at]
        ends = np.cumsum(lengths)
        entries = np.repeat(starts - (ends - lengths), lengths) + np.arange(lengths.sum())
        return np.bincount(self.nodes[entries], minlength=count)


def grow(model: DemandModel, nodes: Sequence[Demand]) -> list[Core]:
    """Clusters of the macro-nodes of one population."""
    limits = model.target.core
    hearers = _Hearers.of(model, nodes)
    # Messages per step that a node hears in all; what is not shared is paid for again.
    heard = np.array([sum(model.rate(i.source) * len(i.neurons) for i in node.inputs) for node in nodes])
    left = np.ones(len(nodes), dtype=np.bool_)
    cores: list[Core] = []
    while left.any():
        core = Core(model)
        cores.append(core)
        shared = np.zeros(len(nodes))
        candidates = left.copy()
        chosen = int(np.flatnonzero(left)[0])
        failures = 0
        while failures < TRIES:
            if core.fits(nodes[chosen], limits):
                fresh = core.add(nodes[chosen])
                left[chosen] = False
                for source, index in fresh.items():
                    shared += model.rate(source) * hearers.shared(source, index, len(nodes))
            else:
                failures += 1
            candidates[chosen] = False
            index = np.flatnonzero(candidates)
            if not len(index):
                break
            order = np.lexsort((index, heard[index] - shared[index], -shared[index]))
            chosen = int(index[order[0]])
    return cores


def coalesced(model: DemandModel, core: Core, heard: Mapping[str, IndexArray]) -> Core:
    """The same core with neighbouring macro-nodes joined: fewer slices, fewer axon entries.

    Args:
        model: of the network.
        core: filled.
        heard: destination cores of each neuron, by population on the core.
    """
    boxes: dict[str, list[Box]] = {}
    for demand in core.demands:
        boxes.setdefault(demand.piece.population, []).append(demand.piece.box)
    whole = Core(model)
    for name, parts in boxes.items():
        for box in merge_boxes(parts):
            whole.add(model.demand(name, box, heard[name]))
    return whole


def join_small(model: DemandModel, cores: Sequence[Core]) -> list[Core]:
    """Join whole clusters, the smallest first, each with the one that it shares most messages with."""
    joined: list[Core | None] = list(cores)
    counts = _axons_by_block(model, cores)
    neurons, axons = np.array([c.neurons for c in cores]), np.array([c.in_axons for c in cores])
    for number in np.argsort(neurons, kind="stable").tolist():
        core = joined[number]
        if core is None:
            continue  # Another cluster has taken it in already.
        ranked = [
            (sum(other.overlap(d) for d in core.demands), -place, place)
            for place in _partners(model, number, neurons, axons, counts)
            if (other := joined[place]) is not None
        ]
        for _, _, place in sorted(ranked, reverse=True)[:TRIES]:
            other = joined[place]
            together = None if other is None else _together(model, core, other)
            if together is not None:
                joined[place], joined[number] = together, None
                counts[place] = _axons_by_block(model, [together])[0]
                neurons[place], axons[place] = together.neurons, together.in_axons
                neurons[number] = model.target.core.neurons + 1
                break
    return [core for core in joined if core is not None]


def _partners(model: DemandModel, number: int, neurons: IndexArray, axons: IndexArray, counts: IndexArray) -> list[int]:
    """Clusters that one may share a core with: their neurons fit, and their axons may; those with most in common.

    Two clusters share at most as many axons as the smaller number in each block of source neurons.
    """
    limits = model.target.core
    fits = neurons + neurons[number] <= limits.neurons
    fits[number] = False
    places = np.flatnonzero(fits)
    used = np.flatnonzero(counts[number])
    shared = np.minimum(counts[np.ix_(places, used)], counts[number, used]).sum(axis=1)
    if limits.in_axons is not None:
        fits = axons[places] + axons[number] - shared <= limits.in_axons
        places, shared = places[fits], shared[fits]
    nearest: list[int] = np.sort(places[np.argsort(-shared, kind="stable")[:NEAR]]).tolist()
    return nearest


def _axons_by_block(model: DemandModel, cores: Sequence[Core]) -> IndexArray:
    """(cores, blocks) source neurons that each hears, in about `BLOCKS` blocks of all populations."""
    sizes = {p.name: p.neurons for p in model.network.populations}
    block = max(-(-sum(sizes.values()) // BLOCKS), 1)
    places = dict(zip(sizes, np.cumsum([0, *(-(-n // block) for n in sizes.values())]).tolist(), strict=False))
    counts = np.zeros((len(cores), sum(-(-n // block) for n in sizes.values())), dtype=np.int64)
    for row, core in zip(counts, cores, strict=True):
        for name, seen in core.seen.items():
            starts = np.arange(0, sizes[name], block)
            row[places[name] : places[name] + len(starts)] = np.add.reduceat(seen, starts, dtype=np.int64)
    return counts


def _together(model: DemandModel, one: Core, other: Core) -> Core | None:
    both = Core(model)
    for demand in (*other.demands, *one.demands):
        if not both.fits(demand, model.target.core):
            return None
        both.add(demand)
    return both
