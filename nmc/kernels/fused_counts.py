"""The tally of a fused program as counts of its mapping: messages by slot, updates by slice, operations by cluster.

Kernels tally in vectors of neurons, channels last. What a vector adds to a cluster is one product of sixteen spikes
and sixteen numbers of weights, so that counting takes a few per cent of the time of an image.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nmc.ir.connectivity import IndexArray
from nmc.ir.neurons import Source
from nmc.kernels.compiled import compiled
from nmc.kernels.fused_tables import Row
from nmc.kernels.mapped_tables import MappedProgram
from nmc.kernels.tiers import LANES

_VECTOR = 2 * LANES
"""Numbers of one vector of neurons in the tally: spikes, then changes."""


class Counting(NamedTuple):
    """Where the numbers of a tally go.

    Attributes:
        sources: (S, 3) neurons that send what the host gives: place in a sample and in the tally, messages of a sample.
        runs: (R, 4) stretches of slots whose spikes follow each other: first slot, where it is in the tally, slots,
            slice.
        meets: (M, 3) first spike of a vector of neurons in the tally, a cluster that hears them, and where their
            weights are.
        weights: (LANES,) numbers of non-zero weights that a message of each of them meets there, for as many vectors
            as differ. All these are small: what counting reads, the next image has to fetch again.
    """

    sources: NDArray[np.int32]
    runs: NDArray[np.int32]
    meets: NDArray[np.int32]
    weights: NDArray[np.int32]


def places_of(row: Row) -> IndexArray:
    """(n,) where the spikes of each neuron of a layer are in the tally, channels last."""
    pixel, channel = np.divmod(np.arange(row.height * row.width * row.channels), row.channels)
    places: IndexArray = row.tally + 2 * (pixel * row.padded + channel // LANES * LANES) + channel % LANES
    return places


def lay_counts(program: MappedProgram, rows: Mapping[str, Row], order: Mapping[str, IndexArray]) -> Counting:
    """The counting of a program.

    Args:
        program: the mapping.
        rows: of its layers, by population.
        order: by population, for each of its slots the place of the neuron among all, channels last.
    """
    network, found = program.network, {name: places_of(row) for name, row in rows.items()}
    places, sources = np.zeros(len(program.neurons), dtype=np.int64), [np.zeros((0, 3), dtype=np.int64)]
    for name, slots in program.slots_by_population.items():
        places[slots] = found[name][order[name]]
    for name, column in network.input_places.items():
        neuron, here = network.by_name[name].neuron, found[name]
        if isinstance(neuron, Source):
            sent = 1 if neuron.once else network.timesteps
            sources.append(np.column_stack([np.arange(column.start, column.stop), here, np.full(len(here), sent)]))
    slices, count = program.slice_of, len(places)
    breaks = (np.diff(places) != 1) | (np.diff(slices) != 0)
    first = np.flatnonzero(np.concatenate([np.ones(min(count, 1), np.bool_), breaks]))
    runs = np.column_stack([first, places[first], np.diff(np.append(first, count)), slices[first]])
    parts = (np.concatenate(sources), runs, *_lay_meets(program, places))
    return Counting(*(part.astype(np.int32) for part in parts))


def _lay_meets(program: MappedProgram, places: IndexArray) -> tuple[IndexArray, IndexArray]:
    """Meets and weights of a counting."""
    tables, clusters = program.tables, len(program.clusters)
    slots = [np.repeat(np.arange(len(places)), np.diff(starts)) for starts in tables.pair_start]
    place = places[np.concatenate([np.zeros(0, np.int64), *slots])]
    key, vector = np.unique(place // _VECTOR * clusters + tables.fans[tables.pairs[:, 0], 1], return_inverse=True)
    # Sums of integers, exact in float64.
    met = np.bincount(vector * LANES + place % _VECTOR, weights=tables.pairs[:, 3], minlength=len(key) * LANES)
    distinct, row = np.unique(np.rint(met).reshape(-1, LANES), axis=0, return_inverse=True)
    meets = np.column_stack([key // clusters * _VECTOR, key % clusters, LANES * row.reshape(-1)])
    return meets, distinct.reshape(-1)


@compiled()
def count(tally, counting, inputs, fresh, fired, changed, synops):
    """Add a tally to the counts, and clear it.

    Args:
        tally: int32, of `nmc.kernels.fused_tables.LayerTables`.
        counting: of `lay_counts`.
        inputs: (N, n) int64 samples whose sources are counted too: kernels do not tally what is known before.
        fresh: whether ``fired`` holds nothing yet.
        fired: (slots,) int64.
        changed: (slices,) int64.
        synops: (clusters,) int64.
    """
    sources, runs, meets, weights = counting.sources, counting.runs, counting.meets, counting.weights
    for k in range(sources.shape[0]):
        for sample in range(inputs.shape[0]):
            tally[sources[k, 1]] += sources[k, 2] * (inputs[sample, sources[k, 0]] != 0)
    for r in range(runs.shape[0]):
        slot, place = np.uint64(runs[r, 0]), np.uint64(runs[r, 1])
        updates = 0
        for i in range(np.uint64(runs[r, 2])):
            fired[slot + i] = tally[place + i] + (0 if fresh else fired[slot + i])
            updates += tally[place + np.uint64(LANES) + i]
        changed[runs[r, 3]] += updates
    for m in range(meets.shape[0]):
        first, weight = np.uint64(meets[m, 0]), np.uint64(meets[m, 2])
        total = np.int64(0)
        for i in range(np.uint64(LANES)):
            total += np.int64(tally[first + i]) * np.int64(weights[weight + i])
        synops[meets[m, 1]] += total
    tally[:] = 0
