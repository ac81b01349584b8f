"""Core tables: what each core of a mapping holds, as plain arrays for `nmc.kernels.mapped`.

Everything comes from the mapping and the operators of its network. Neurons get slots,
slice after slice; a message of a slot reaches a core only by a route, and synapses there
only by an axon group. A mapping that lacks one loses spikes here as on the chip.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nmc.ir.connectivity import Array, IndexArray, Shape
from nmc.ir.mapping import HOST, Routed, region_mask
from nmc.ir.network import Network, Population, Projection
from nmc.ir.neurons import Graded, GradedReLU, SigmaDelta
from nmc.ir.reference import per_channel
from nmc.kernels.mapped_check import check_executable
from nmc.kernels.mapped_runs import Runs, WeightPool, runs_of, slice_neurons
from nmc.kernels.neurons import Model, Parameters, model_of, parameters_of
from nmc.kernels.schedule import lag

if TYPE_CHECKING:
    from nmc.kernels.fused import FusedProgram
    from nmc.kernels.fused_gather import Gather
    from nmc.kernels.mapped_counts import Stretches
    from nmc.kernels.mapped_events import Events


class Tables(NamedTuple):
    """The arrays that the kernel reads.

    Attributes:
        weight: the pool, int16 or int64.
        runs: (R, 3) int32: accumulator and weight, counted from those of the pair, and length.
        fans: (F, 5) int32: target slice, its cluster, first run and the first that is not its own,
            projection.
        pair_start: (delays, slots + 1) int32: pairs of each slot by delay.
        pairs: (P, 4) int32: fan, first accumulator, first weight, non-zero weights.
        delays: (delays,) the distinct axon delays.
        slices: (slices, 6): first slot, neurons, kind of model, window start, cluster, steps it waits.
        models: (slices, fields of `Model`).
        groups: (slices + 1,) first accumulator group of each slice.
        accumulators: (groups, 4): first accumulator, whether it is shifted, and the steps of the
            window in which its constant counts, the first and the first that is not one.
        right, left: (accumulators,) shifts; constant: (accumulators,) projection bias.
        own: (slots,) each.
    """

    weight: Array
    runs: NDArray[np.int32]
    fans: NDArray[np.int32]
    pair_start: NDArray[np.int32]
    pairs: NDArray[np.int32]
    delays: IndexArray
    slices: IndexArray
    models: IndexArray
    groups: IndexArray
    accumulators: IndexArray
    right: Array
    left: Array
    constant: Array
    own: Parameters


@dataclass(frozen=True, eq=False)
class Destinations:
    """Where the messages of the slots go: one entry per slot and destination cluster.

    Attributes:
        slot, cluster: (E,) slot, and position of the destination among the clusters.
        packet: (E,) whether it is a packet: messages that stay on the host are none.
        hops_ew, hops_ns: (E,) links crossed.
    """

    slot: IndexArray
    cluster: IndexArray
    packet: NDArray[np.bool_]
    hops_ew: IndexArray
    hops_ns: IndexArray


@dataclass(frozen=True, eq=False)
class MappedProgram:
    """A mapping ready to run.

    Attributes:
        routed: the mapping.
        tables: for the kernel.
        populations: (slices,) the population of each slice.
        neurons: (slots,) flat C-order neuron of each slot, in its population.
        slice_of: (slots,) slice of each slot.
        clusters: cluster ids by position; ``host`` tells which of them is the host.
        narrow: by the largest input, whether 32 bits hold every sum and state of a run, once that was proved.
    """

    routed: Routed
    tables: Tables
    populations: tuple[Population, ...]
    neurons: IndexArray
    slice_of: IndexArray
    clusters: tuple[int, ...]
    destinations: Destinations
    narrow: dict[int, bool] = field(default_factory=dict)

    @property
    def network(self) -> Network:
        """The mapped network."""
        return self.routed.network

    @cached_property
    def fused(self) -> FusedProgram | None:
        """The same as whole layers, where that is proved; built once."""
        from nmc.kernels.fused import fuse  # it is made of these tables

        return fuse(self)

    @cached_property
    def gathers(self) -> Mapping[int, Gather]:
        """Layers of `fused` that can add up rows of weights, by number; laid out once."""
        from nmc.kernels.fused_gather import lay_gathers  # it is made of these tables

        return lay_gathers(self.fused)

    @cached_property
    def events(self) -> Events:
        """The tables with irregular synapses laid out as rows; built once."""
        from nmc.kernels.mapped_events import lay_events  # it is made of these tables

        return lay_events(self)

    @cached_property
    def stretches(self) -> Stretches:
        """Where packets go; built once."""
        from nmc.kernels.mapped_counts import lay_stretches  # it is made of these tables

        return lay_stretches(self)

    @cached_property
    def slots_by_population(self) -> Mapping[str, IndexArray]:
        """Slots of each population, in slice order."""
        found: dict[str, list[IndexArray]] = {p.name: [] for p in self.network.populations}
        for number, population in enumerate(self.populations):
            first, count = self.tables.slices[number, :2]
            found[population.name].append(np.arange(first, first + count))
        return {name: np.concatenate(parts) if parts else np.zeros(0, np.int64) for name, parts in found.items()}


@dataclass(frozen=True, eq=False)
class _SlicePlan:
    """One slice while the tables are built."""

    number: int
    cluster: int
    population: Population
    box: tuple[tuple[int, int, int], ...]
    neurons: IndexArray
    first: int


def build_tables(routed: Routed) -> MappedProgram:
    """Turn a mapping into core tables.

    Raises:
        NmcError: the mapping names what does not exist, or the network is not integer.
    """
    check_executable(routed)
    slices = _lay_slices(routed)
    groups, accumulators, offsets, shifts = _lay_accumulators(routed.network, slices)
    destinations = _lay_destinations(routed, slices)
    pool = WeightPool()
    pairs = _lay_pairs(routed, slices, offsets, destinations, pool)
    tables = Tables(
        weight=pool.weights(),
        runs=pairs.runs,
        fans=pairs.fans,
        pair_start=pairs.start,
        pairs=pairs.pairs,
        delays=pairs.delays,
        slices=np.array([_slice_row(s) for s in slices], dtype=np.int64).reshape(-1, 6),
        models=np.array([model_of(s.population.neuron) for s in slices], dtype=np.int64).reshape(
            -1, len(Model._fields)
        ),
        groups=groups,
        accumulators=accumulators,
        right=np.maximum(shifts[0], 0),
        left=np.maximum(-shifts[0], 0),
        constant=shifts[1],
        own=_lay_parameters(slices),
    )
    return MappedProgram(
        routed,
        tables,
        tuple(s.population for s in slices),
        np.concatenate([np.zeros(0, np.int64), *(s.neurons for s in slices)]),
        np.repeat(np.arange(len(slices)), [len(s.neurons) for s in slices]),
        tuple(c.id for c in routed.clusters),
        destinations,
    )


def _lay_slices(routed: Routed) -> list[_SlicePlan]:
    slices: list[_SlicePlan] = []
    first = 0
    for position, cluster in enumerate(routed.clusters):
        for piece in cluster.slices:
            population = routed.network.by_name[piece.population]
            neurons = slice_neurons(piece.box, population.shape)
            slices.append(_SlicePlan(len(slices), position, population, piece.box, neurons, first))
            first += len(neurons)
    return slices


def _slice_row(piece: _SlicePlan) -> tuple[int, ...]:
    population = piece.population
    return (
        piece.first,
        len(piece.neurons),
        model_of(population.neuron).kind,
        population.start,
        piece.cluster,
        population.wait,
    )


def _of_neurons(values: Array, shape: Shape, neurons: IndexArray) -> Array:
    """A parameter of shape (), (C,), (C, 1, 1) or ``shape``, at some flat neurons."""
    spread = np.broadcast_to(per_channel(np.asarray(values), shape), shape)
    return spread.reshape(-1)[neurons].astype(np.int64)


def _lay_parameters(slices: list[_SlicePlan]) -> Parameters:
    parts = [[np.zeros(0, dtype=np.int64)] for _ in Parameters._fields]
    for piece in slices:
        for part, value in zip(parts, parameters_of(piece.population.neuron), strict=True):
            part.append(_of_neurons(value, piece.population.shape, piece.neurons))
    return Parameters(*(np.concatenate(part) for part in parts))


def _lay_accumulators(
    network: Network, slices: list[_SlicePlan]
) -> tuple[IndexArray, IndexArray, Mapping[tuple[int, str], int], tuple[Array, Array]]:
    """Accumulators: one stretch per slice and shifted projection, one for all unshifted ones.

    Sums of values are kept apart so that each can be compared with the accumulator's range,
    and so are those of recurrent projections whose bias counts only when a message can arrive.
    """
    starts, table, offsets, total = [0], [], dict[tuple[int, str], int](), 0
    shifts: list[Array] = [np.zeros(0, dtype=np.int64)]
    constants: list[Array] = [np.zeros(0, dtype=np.int64)]
    always = (0, network.timesteps)
    for piece in slices:
        n, apart = len(piece.neurons), isinstance(piece.population.neuron, Graded | GradedReLU | SigmaDelta)
        incoming = network.incoming[piece.population.name]
        plain = [p for p in incoming if not (apart or np.any(p.shift) or _live(network, p) != always)]
        bundles = [plain] if plain else []
        bundles += [[p] for p in incoming if p not in plain]
        for bundle in bundles:
            constant = np.zeros(n, dtype=np.int64)
            for projection in bundle:
                shape = projection.connectivity.out_shape
                offsets[piece.number, projection.name] = total
                if projection.bias is not None:
                    constant += _of_neurons(projection.bias, shape, piece.neurons)
            shape = bundle[0].connectivity.out_shape
            shifts.append(_of_neurons(bundle[0].shift, shape, piece.neurons))
            constants.append(constant)
            table.append((total, int(np.any(bundle[0].shift)), *_live(network, bundle[0])))
            total += n
        starts.append(len(table))
    accumulators = np.array(table, dtype=np.int64).reshape(-1, 4)
    return np.array(starts), accumulators, offsets, (np.concatenate(shifts), np.concatenate(constants))


def _live(network: Network, projection: Projection) -> tuple[int, int]:
    """The steps of the target's window in which the bias of a projection counts."""
    late, steps = lag(network, projection) if projection.bias is not None else 0, network.timesteps
    return max(late, 0), min(steps + late, steps)


def _lay_destinations(routed: Routed, slices: list[_SlicePlan]) -> Destinations:
    position = {cluster.id: number for number, cluster in enumerate(routed.clusters)}
    first_slice = np.cumsum([0, *(len(c.slices) for c in routed.clusters)])
    columns: list[list[Array]] = [[], [], [], [], []]
    for route in routed.routes:
        piece = slices[int(first_slice[position[route.source]]) + route.slice]
        mask = region_mask(route.region, piece.population.shape).reshape(-1)
        slots = piece.first + np.flatnonzero(mask[piece.neurons])
        ew = sum(a[0] != b[0] for a, b in zip(route.links, route.links[1:], strict=False))
        packet = not (route.source == HOST and route.destination == HOST)
        values = (position[route.destination], packet, ew, route.hops - ew)
        for column, value in zip(columns, (slots, *(np.full(len(slots), v) for v in values)), strict=True):
            column.append(value)
    slot, cluster, packet_, ew_, ns_ = (np.concatenate([np.zeros(0, np.int64), *c]).astype(np.int64) for c in columns)
    # A neuron that two routes send to one core sends one packet.
    _, keep = np.unique(slot * len(routed.clusters) + cluster, return_index=True)
    crossing = packet_[keep].astype(np.bool_)
    return Destinations(slot[keep], cluster[keep], crossing, ew_[keep] * crossing, ns_[keep] * crossing)


@dataclass(frozen=True, eq=False)
class _Pairs:
    """The tables of `_lay_pairs`."""

    runs: NDArray[np.int32]
    fans: NDArray[np.int32]
    start: NDArray[np.int32]
    pairs: NDArray[np.int32]
    delays: IndexArray


def _lay_pairs(
    routed: Routed,
    slices: list[_SlicePlan],
    offsets: Mapping[tuple[int, str], int],
    destinations: Destinations,
    pool: WeightPool,
) -> _Pairs:
    """For each delay and slot, what its message meets at its destinations."""
    network = routed.network
    projections = {p.name: (number, p) for number, p in enumerate(network.projections)}
    slot_count = sum(len(s.neurons) for s in slices)
    neurons = np.concatenate([np.zeros(0, np.int64), *(s.neurons for s in slices)])
    order = {p.name: number for number, p in enumerate(network.populations)}
    owner = np.repeat([order[s.population.name] for s in slices], [len(s.neurons) for s in slices])
    by_cluster = np.argsort(destinations.cluster, kind="stable")
    bounds = np.searchsorted(destinations.cluster[by_cluster], np.arange(len(routed.clusters) + 1))
    all_runs: list[Array] = [np.zeros((0, 3), dtype=np.int32)]
    all_fans: list[Array] = [np.zeros((0, 5), dtype=np.int32)]
    all_pairs: list[Array] = [np.zeros((0, 4), dtype=np.int32)]
    keys: list[Array] = [np.zeros((0, 2), dtype=np.int64)]
    run_count, fan_count, first_slice = 0, 0, 0
    for position, cluster in enumerate(routed.clusters):
        arriving = destinations.slot[by_cluster[bounds[position] : bounds[position + 1]]]
        for axon in cluster.axons:
            (which, projection), piece = projections[axon.projection], slices[first_slice + axon.slice]
            source = network.by_name[projection.source]
            heard = np.flatnonzero(region_mask(axon.region, source.shape))
            runs = runs_of(projection, piece.population.shape, piece.box, piece.neurons, heard, pool)
            senders = arriving[owner[arriving] == order[source.name]]
            slots, met = _met(runs, senders, neurons[senders], source.neurons)
            columns = (fan_count + runs.fan, offsets[piece.number, projection.name] + runs.target, runs.weight)
            all_pairs.append(np.column_stack([*(c[met] for c in columns), runs.nonzero[met]]).astype(np.int32))
            where = np.full((len(runs.start) - 1, 2), [piece.number, position])
            spans = run_count + np.stack([runs.start[:-1], runs.start[1:]], axis=1)
            all_fans.append(np.column_stack([where, spans, np.full(len(spans), which)]).astype(np.int32))
            all_runs.append(runs.runs.astype(np.int32))
            keys.append(np.column_stack([np.full(len(slots), axon.delay), slots]))
            run_count, fan_count = run_count + len(runs.runs), fan_count + len(where)
        first_slice += len(cluster.slices)
    key, pairs = np.concatenate(keys), np.concatenate(all_pairs)
    sort = np.lexsort((key[:, 1], key[:, 0]))
    key, delays = key[sort], np.unique(key[:, 0])
    starts = [np.searchsorted(key[:, 0], d) + _row_starts(key[key[:, 0] == d, 1], slot_count) for d in delays]
    pair_start = np.array(starts, dtype=np.int32).reshape(len(delays), slot_count + 1)
    pairs = np.ascontiguousarray(pairs[sort])
    return _Pairs(np.concatenate(all_runs), np.concatenate(all_fans), pair_start, pairs, delays)


def _met(runs: Runs, slots: IndexArray, neurons: IndexArray, count: int) -> tuple[IndexArray, IndexArray]:
    """Of the slots whose messages arrive, those that the group has synapses of, and their entries."""
    entry = np.full(count, -1, dtype=np.int64)
    entry[runs.sources] = np.arange(len(runs.sources))
    found = entry[neurons]
    return slots[found >= 0], found[found >= 0]


def _row_starts(rows: IndexArray, count: int) -> IndexArray:
    return np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=count))]).astype(np.int64)
