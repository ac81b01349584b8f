"""The macro-graph of a layered network: pixels and channel chunks, and the nets between them.

All neurons of one (population, channel chunk, y, x) have the same hearers where connections are
whole operators, so packets of a partition are counted exactly on a graph that is hundreds of
times smaller than the synapses. A zero weight counts as a synapse here: an upper bound.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nmc.hardware.target import CoreLimits
from nmc.ir.connectivity import Array, Connectivity, Conv2d, Dense, IndexArray, Pool, Shape, Skip, Sparse, size
from nmc.ir.mapping import Box
from nmc.ir.network import Network, Projection
from nmc.kernels.partition_graph import Graph, graph_of
from nmc.passes.partition.assemble import on_host
from nmc.passes.partition.bisect import UNLIMITED
from nmc.passes.partition.macro_memory import Held
from nmc.passes.partition.units import IN_AXONS, NEURONS, OPERATIONS, RESOURCES, Unit

OPERATION_UNITS = 1000
"""Synaptic operations are counted in thousandths, because rates are no integers."""


@dataclass(frozen=True, eq=False)
class MacroGraph:
    """Nodes of all populations on the chip, and the nets between them.

    Attributes:
        units: by population; those of the host come last, and their nodes are not in the graph.
        graph: see `Graph`; resources are `RESOURCES`.
        limits: (resources,) of a core.
    """

    units: tuple[Unit, ...]
    graph: Graph
    limits: IndexArray

    def boxes(self, nodes: Sequence[int]) -> dict[str, list[Box]]:
        """The neurons of some nodes, by population."""
        firsts = np.array([unit.first for unit in self.units])
        found: dict[str, list[Box]] = {}
        for node, at in zip(nodes, (np.searchsorted(firsts, nodes, side="right") - 1).tolist(), strict=True):
            unit = self.units[at]
            found.setdefault(unit.population.name, []).append(unit.box(node))
        return found


def limits_of(limits: CoreLimits) -> IndexArray:
    """(resources,) the limits of a core, `UNLIMITED` where there is none."""
    found = [getattr(limits, name, None) for name in RESOURCES]
    return np.array([UNLIMITED if limit is None else limit for limit in found], dtype=np.int64)


def is_regular(network: Network) -> bool:
    """Whether every connection is a whole operator between populations of its own channels and places.

    Irregular synapses are such an operator between populations of one place: chunks of channels are joined
    or not. So are those that do the same in every channel, as an average over the part of a window that is there.
    """
    by_name = network.by_name
    return all(
        _is_whole(p.connectivity, by_name[p.source].shape, by_name[p.target].shape) and p.source != p.target
        for p in network.projections
    )


def _is_whole(operator: Connectivity, source: Shape, target: Shape) -> bool:
    if isinstance(operator, Sparse):
        one_place = (size(source[1:]), size(target[1:])) == (1, 1)
        return one_place or ((source, target) == (operator.in_shape, operator.out_shape) and _by_channel(operator))
    ends = ((source, operator.in_shape), (target, operator.out_shape))
    straight = all(a[0] == b[0] and size(a) == size(b) for a, b in ends)
    return straight and isinstance(operator, Conv2d | Pool | Skip | Dense)


def _by_channel(operator: Sparse) -> bool:
    """Whether every channel feeds one of its own, so many channels further on, all through the same places."""
    channels, (read, fed) = operator.in_shape[0], (size(operator.in_shape[1:]), size(operator.out_shape[1:]))
    if not len(operator.indices) or len(operator.indices) % channels:
        return False
    further = (operator.row_channel() - operator.column_channel()).reshape(channels, -1)
    places = ((operator.rows % fed) * read + operator.indices % read).reshape(channels, -1)
    return bool((further == further[0, 0]).all() and (places == places[0]).all())


def units_of(network: Network, chunks: Mapping[str, int]) -> tuple[Unit, ...]:
    """The nodes of every population, in the order of the network, those of the host last.

    Args:
        network: regular.
        chunks: channels of a node at most, by population.
    """
    units: list[Unit] = []
    first = 0
    for population in sorted(network.populations, key=on_host):
        units.append(Unit.of(population, first, chunks[population.name]))
        first += units[-1].nodes
    return tuple(units)


def macro_graph(
    network: Network,
    units: tuple[Unit, ...],
    rates: Mapping[str, float | Array],
    limits: IndexArray,
    sizes: IndexArray,
    held: Sequence[Held] = (),
    *,
    own_core: bool = False,
) -> MacroGraph:
    """The macro-graph of a regular network.

    Args:
        network: `is_regular`.
        units: of `units_of`.
        rates: messages per neuron, one number per population or one per neuron; 1 where missing.
        limits: of a core, see `limits_of`.
        sizes: (nodes, resources) of `node_sizes`.
        held: what nodes share besides axons.
        own_core: whether a packet to the sender's own core counts.
    """
    by_name = {unit.population.name: unit for unit in units}
    nodes, total = len(sizes), sum(unit.nodes for unit in units)
    spikes, counts = np.zeros(total), np.zeros(total, dtype=np.int64)
    for unit in units:
        at = slice(unit.first, unit.first + unit.nodes)
        spikes[at] = _spikes(unit, rates.get(unit.population.name, 1.0))
        counts[at] = np.repeat(unit.channels(), unit.grid[1])
    pairs: list[IndexArray] = []
    for projection in network.projections:
        target = by_name[projection.target]
        if not on_host(target.population):
            pairs.append(_pairs(projection, by_name[projection.source], target, total))
            _add_operations(projection, pairs[-1], spikes, counts, sizes)
    # Two projections may join the same nodes; the neurons hear the sender once.
    flat = np.unique(np.concatenate(pairs)) if pairs else np.zeros(0, dtype=np.int64)
    source, pins = flat // total, flat % total
    first = np.flatnonzero(np.diff(source, prepend=-1))
    senders = source[first]
    moves = senders < nodes
    shared = [net.pins for net in held]
    ends = len(source) + np.cumsum([len(net) for net in shared], dtype=np.int64)
    none = np.zeros(len(held), dtype=np.bool_)
    graph = graph_of(
        sizes,
        np.append(np.where(moves, senders, -1), none.astype(np.int64) - 1).astype(np.int32),
        np.append(spikes[senders], none.astype(np.float64)),
        np.append(moves & (not own_core), none),
        np.zeros(len(senders) + len(held), dtype=np.bool_),
        np.append(np.full(len(senders), IN_AXONS), [net.resource for net in held]).astype(np.int64),
        np.append(counts[senders], [net.amount for net in held]).astype(np.int64),
        np.concatenate([first, [len(source)], ends]).astype(np.int64),
        np.concatenate([pins, *shared]).astype(np.int32),
    )
    return MacroGraph(units, graph, limits)


def node_sizes(units: tuple[Unit, ...]) -> IndexArray:
    """(nodes on the chip, resources) with the neurons filled in."""
    chip = [unit for unit in units if not on_host(unit.population)]
    sizes = np.zeros((sum(unit.nodes for unit in chip), len(RESOURCES)), dtype=np.int64)
    for unit in chip:
        sizes[unit.first : unit.first + unit.nodes, NEURONS] = np.repeat(unit.channels(), unit.grid[1])
    return sizes


def _spikes(unit: Unit, rate: float | Array) -> Array:
    """(nodes,) messages of each node."""
    if np.ndim(rate) == 0:
        each: Array = np.repeat(unit.channels() * float(rate), unit.grid[1])
        return each
    starts = np.arange(unit.grid[0]) * unit.chunk
    summed: Array = np.add.reduceat(np.asarray(rate).reshape(unit.population.shape[0], -1), starts, axis=0)
    return summed.reshape(-1)


def _pairs(projection: Projection, source: Unit, target: Unit, total: int) -> IndexArray:
    """The nodes that a projection joins: source * total + target."""
    operator = projection.connectivity
    places = _places(operator, source, target)
    chunks = _chunks(operator, source, target)
    a = source.first + chunks[:, None, 0] * source.grid[1] + places[None, :, 0]
    b = target.first + chunks[:, None, 1] * target.grid[1] + places[None, :, 1]
    flat: IndexArray = a * total + b
    return flat.reshape(-1)


def _add_operations(
    projection: Projection, pairs: IndexArray, spikes: Array, counts: IndexArray, sizes: IndexArray
) -> None:
    """Add the synaptic operations of a projection to the nodes that do them, in thousandths."""
    operator = projection.connectivity
    per_group = 1
    if isinstance(operator, Conv2d):
        per_group = operator.weight.shape[0] // operator.groups
    elif isinstance(operator, Dense):
        per_group = operator.out_shape[0]
    source, target = pairs // len(spikes), pairs % len(spikes)
    # A spike drives every channel of its group in the node.
    operations = np.bincount(target, weights=spikes[source], minlength=len(sizes))
    scaled = operations * np.minimum(counts[: len(sizes)], per_group) * OPERATION_UNITS
    sizes[:, OPERATIONS] += np.rint(scaled).astype(np.int64)


def _both(first: IndexArray, second: IndexArray) -> IndexArray:
    """(len * len, 2) every pair."""
    a, b = np.meshgrid(first, second, indexing="ij")
    return np.stack([a.reshape(-1), b.reshape(-1)], axis=1)


def _places(operator: Connectivity, source: Unit, target: Unit) -> IndexArray:
    """(pairs, 2) places of the source and of the target that are joined, each pair once."""
    match operator:
        case Pool():
            return _places(operator.as_conv(), source, target)
        case Conv2d():
            rows, columns = _taps(operator, 0), _taps(operator, 1)
            a = rows[:, None, 0] * operator.in_shape[2] + columns[None, :, 0]
            b = rows[:, None, 1] * operator.out_shape[2] + columns[None, :, 1]
            return np.stack([a.reshape(-1), b.reshape(-1)], axis=1)
        case Skip():
            return np.repeat(np.arange(source.grid[1])[:, None], 2, axis=1)
        case Sparse() if source.grid[1] * target.grid[1] > 1:
            first = slice(0, len(operator.indices) // operator.in_shape[0])
            fed = size(operator.out_shape[1:])
            return np.stack([operator.indices[first], operator.rows[first] % fed], axis=1)
        case _:
            return _both(np.arange(source.grid[1]), np.arange(target.grid[1]))


def _taps(conv: Conv2d, axis: int) -> IndexArray:
    """(pairs, 2) input and output places along an axis that the kernel joins."""
    outputs = np.arange(conv.out_shape[1 + axis])
    taps = np.arange(conv.weight.shape[2 + axis])
    inputs = outputs[:, None] * conv.stride[axis] + taps[None, :] * conv.dilation[axis] - conv.pads[axis]
    inside = (inputs >= 0) & (inputs < conv.in_shape[1 + axis])
    both = np.broadcast_to(outputs[:, None], inputs.shape)
    return np.stack([inputs[inside], both[inside]], axis=1)


def _chunks(operator: Connectivity, source: Unit, target: Unit) -> IndexArray:
    """(pairs, 2) channel chunks of the source and of the target that are joined."""
    match operator:
        case Skip() | Pool():
            groups = operator.in_shape[0]
        case Conv2d():
            groups = operator.groups
        case Sparse():
            used = np.flatnonzero(operator.weight)
            read, fed = operator.column_channel()[used] // source.chunk, operator.row_channel()[used] // target.chunk
            flat = np.unique(read * target.grid[0] + fed)
            return np.stack(np.divmod(flat, target.grid[0]), axis=1)
        case _:
            groups = 1
    if groups == 1:
        return _joined_chunks(operator, source, target)
    ins, outs = source.population.shape[0] // groups, target.population.shape[0] // groups
    ranges = []
    for group in range(groups):
        # The chunks that a group touches are a range on either side.
        read = np.arange(group * ins // source.chunk, ((group + 1) * ins - 1) // source.chunk + 1)
        fed = np.arange(group * outs // target.chunk, ((group + 1) * outs - 1) // target.chunk + 1)
        ranges.append(_both(read, fed))
    return np.unique(np.concatenate(ranges), axis=0)


def _joined_chunks(operator: Connectivity, source: Unit, target: Unit) -> IndexArray:
    """The same where any channel may read any: chunks between which all weights are zero are not joined."""
    if isinstance(operator, Dense) or source.grid[0] == 1 or target.grid[0] == 1:
        return _both(np.arange(source.grid[0]), np.arange(target.grid[0]))
    used = (operator.weight != 0).any(axis=(2, 3))
    blocks = np.logical_or.reduceat(used, np.arange(target.grid[0]) * target.chunk, axis=0)
    blocks = np.logical_or.reduceat(blocks, np.arange(source.grid[0]) * source.chunk, axis=1)
    fed, read = np.nonzero(blocks)
    return np.stack([read, fed], axis=1)
