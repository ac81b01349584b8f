"""Proof that core tables hold every synapse of a network exactly once.

Only what is proved here may be executed layer by layer, with the operators of the network
in the place of the tables: both then compute the same sums.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from nmc.ir.connectivity import Array, Connectivity, Conv2d, Dense, IndexArray, Pool, Skip, Sparse, size
from nmc.kernels.compiled import compiled
from nmc.kernels.mapped_tables import MappedProgram

_CONV, _DENSE, _SKIP, _SPARSE = range(4)


class _Operator(NamedTuple):
    """A connectivity for `_weight_of`.

    Attributes:
        shape: of a convolution: input channels per group and output channels per group, kernel
            height and width, dilation, output channels; else the number that `_weight_of` divides or multiplies by.
        sources, targets: (n, 3) channel, row and column of each neuron of a convolution, those
            of targets in the input's coordinates: where the window begins.
    """

    kind: int
    weight: Array
    shape: IndexArray
    sources: IndexArray
    targets: IndexArray
    indptr: IndexArray
    indices: IndexArray


def _operator(connectivity: Connectivity) -> _Operator:
    none, flat = np.zeros(0, dtype=np.int64), np.zeros((0, 3), dtype=np.int64)
    if isinstance(connectivity, Pool):
        connectivity = connectivity.as_conv()
    weight = np.ascontiguousarray(connectivity.weight.reshape(-1), dtype=np.int64)
    match connectivity:
        case Conv2d():
            out, per_in, *kernel = connectivity.weight.shape
            shape = [per_in, out // connectivity.groups, *kernel, *connectivity.dilation, out]
            sources = np.stack(np.unravel_index(np.arange(size(connectivity.in_shape)), connectivity.in_shape), axis=1)
            targets = np.stack(
                np.unravel_index(np.arange(size(connectivity.out_shape)), connectivity.out_shape), axis=1
            )
            begin = targets * np.array([1, *connectivity.stride]) - np.array([0, *connectivity.pads[:2]])
            return _Operator(_CONV, weight, np.array(shape), sources, begin, none, none)
        case Dense():
            return _Operator(_DENSE, weight, np.array([size(connectivity.in_shape)]), flat, flat, none, none)
        case Skip():
            per = size(connectivity.in_shape) // connectivity.in_shape[0]
            return _Operator(_SKIP, weight, np.array([per]), flat, flat, none, none)
        case Sparse():
            return _Operator(_SPARSE, weight, none, flat, flat, connectivity.indptr, connectivity.indices)
        case _:
            raise TypeError(f"unknown connectivity {type(connectivity).__name__}")


@compiled()
def _weight_of(op, source, target):
    """The weight of one synapse, 0 where there is none."""
    if op.kind == _DENSE:
        return op.weight[target * op.shape[0] + source]
    if op.kind == _SKIP:
        return op.weight[source // op.shape[0]] if source == target else 0
    if op.kind == _SPARSE:
        row = op.indices[op.indptr[target] : op.indptr[target + 1]]
        place = np.searchsorted(row, source)
        return op.weight[op.indptr[target] + place] if place < len(row) and row[place] == source else 0
    per_in, per_out, kh, kw, dilation_y, dilation_x, _ = op.shape
    c, o = op.sources[source, 0], op.targets[target, 0]
    ky, kx = op.sources[source, 1] - op.targets[target, 1], op.sources[source, 2] - op.targets[target, 2]
    if dilation_y != 1 or dilation_x != 1:
        if ky % dilation_y != 0 or kx % dilation_x != 0:
            return 0
        ky, kx = ky // dilation_y, kx // dilation_x
    first = 0 if per_out == op.shape[6] else o // per_out * per_in
    if ky < 0 or ky >= kh or kx < 0 or kx >= kw or c < first or c >= first + per_in:
        return 0
    return op.weight[((o * per_in + c - first) * kh + ky) * kw + kx]


@compiled()
def _synapses_once(tables, neurons, slots, projection, delay, op, targets):
    """Synapses that the tables hold of a projection, and pairs read; -1 where one is wrong, foreign or double."""
    seen = np.full(targets, -1, dtype=np.int64)
    found, pairs = 0, 0
    for slot in slots:
        for d in range(tables.delays.shape[0]):
            for p in range(tables.pair_start[d, slot], tables.pair_start[d, slot + 1]):
                fan = tables.pairs[p, 0]
                if tables.fans[fan, 4] != projection:
                    continue
                pairs += 1
                if tables.delays[d] != delay:
                    return -1, pairs
                piece = tables.fans[fan, 0]
                first, count = tables.slices[piece, 0], tables.slices[piece, 1]
                for r in range(tables.fans[fan, 2], tables.fans[fan, 3]):
                    into = tables.pairs[p, 1] + tables.runs[r, 0]
                    stored = tables.pairs[p, 2] + tables.runs[r, 1]
                    group = tables.groups[piece]
                    while not tables.accumulators[group, 0] <= into < tables.accumulators[group, 0] + count:
                        group += 1
                        if group == tables.groups[piece + 1]:
                            return -1, pairs
                    into += first - tables.accumulators[group, 0]
                    for i in range(tables.runs[r, 2]):
                        weight = tables.weight[stored + i]
                        if weight == 0:
                            continue
                        target = neurons[into + i]
                        if seen[target] == slot or _weight_of(op, neurons[slot], target) != weight:
                            return -1, pairs
                        seen[target] = slot
                        found += 1
    return found, pairs


def _count(connectivity: Connectivity) -> int:
    """Non-zero synapses of an operator, counted without listing them."""
    if isinstance(connectivity, Pool):
        connectivity = connectivity.as_conv()
    if isinstance(connectivity, Skip):
        per = size(connectivity.in_shape) // connectivity.in_shape[0]
        return int(np.count_nonzero(connectivity.weight)) * per
    if not isinstance(connectivity, Conv2d):
        return int(np.count_nonzero(connectivity.weight))
    weights = np.count_nonzero(connectivity.weight, axis=(0, 1))
    places = []
    for axis in range(2):
        out = np.arange(connectivity.out_shape[1 + axis]) * connectivity.stride[axis]
        taps = np.arange(weights.shape[axis]) * connectivity.dilation[axis] - connectivity.pads[axis]
        at = out[None] + taps[:, None]
        places.append(np.count_nonzero((at >= 0) & (at < connectivity.in_shape[1 + axis]), axis=1))
    return int((weights * places[0][:, None] * places[1][None]).sum())


def covers_network(program: MappedProgram) -> bool:
    """Whether the tables hold every neuron and every synapse of the network once, and nothing else."""
    network, tables = program.network, program.tables
    for population in network.populations:
        held = program.neurons[program.slots_by_population[population.name]]
        if not np.array_equal(np.sort(held), np.arange(population.neurons)):
            return False
    pairs = 0
    for number, projection in enumerate(network.projections):
        found, read = _synapses_once(
            tables,
            program.neurons,
            program.slots_by_population[projection.source],
            number,
            projection.delay,
            _operator(projection.connectivity),
            network.by_name[projection.target].neurons,
        )
        pairs += read
        if found != _count(projection.connectivity):
            return False
    return pairs == len(tables.pairs)
