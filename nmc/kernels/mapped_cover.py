"""Proof that core tables hold every synapse of a network exactly once.

Only what is proved here may be executed layer by layer, with the operators of the network
in the place of the tables: both then compute the same sums.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from nmc.ir.connectivity import Array, Connectivity, Conv2d, Dense, IndexArray, Pool, Shape, Skip, Sparse, size
from nmc.kernels.compiled import compiled
from nmc.kernels.mapped_tables import MappedProgram
from nmc.kernels.propagate import channels_last

_CONV, _DENSE, _SKIP, _SPARSE = range(4)


class _Operator(NamedTuple):
    """A connectivity for `_stretch`: targets are numbered channels last, as the slices of a mapping hold them.

    Attributes:
        weight: in the type of the tables; of convolutions (in channels, kh, kw, output channels of a group), of dense
            matrices (sources, targets), else as the operator has them.
        shape: of a convolution: input channels per group and output channels per group, kernel
            height and width, dilation, output channels; of a matrix its targets, of a skip neurons per channel.
        sources, targets: (n, 3) channel, row and column of each source, C order, and of each target in the
            input's coordinates: where the window begins.
    """

    kind: int
    weight: Array
    shape: IndexArray
    sources: IndexArray
    targets: IndexArray
    indptr: IndexArray
    indices: IndexArray


def _operator(connectivity: Connectivity, target: Shape, dtype: np.dtype[np.generic]) -> _Operator:
    none, flat = np.zeros(0, dtype=np.int64), np.zeros((0, 3), dtype=np.int64)
    if isinstance(connectivity, Pool):
        connectivity = connectivity.as_conv()
    weight = connectivity.weight.astype(dtype)
    match connectivity:
        case Conv2d():
            out, per_in, *kernel = weight.shape
            groups = connectivity.groups
            shape = [per_in, out // groups, *kernel, *connectivity.dilation, out]
            laid = weight.reshape(groups, out // groups, per_in, *kernel).transpose(0, 2, 3, 4, 1)
            sources = np.stack(np.unravel_index(np.arange(size(connectivity.in_shape)), connectivity.in_shape), axis=1)
            places = channels_last(connectivity.out_shape)
            targets = np.stack(np.unravel_index(places, connectivity.out_shape), axis=1)
            begin = targets * np.array([1, *connectivity.stride]) - np.array([0, *connectivity.pads[:2]])
            return _Operator(_CONV, _flat(laid), np.array(shape), sources, begin, none, none)
        case Dense():
            laid = weight[channels_last(target)].T
            return _Operator(_DENSE, _flat(laid), np.array([len(weight)]), flat, flat, none, none)
        case Skip():
            shape = [connectivity.in_shape[0], size(connectivity.in_shape) // connectivity.in_shape[0]]
            return _Operator(_SKIP, _flat(weight), np.array(shape), flat, flat, none, none)
        case Sparse():
            rows = channels_last(target)
            return _Operator(_SPARSE, _flat(weight), rows, flat, flat, connectivity.indptr, connectivity.indices)
        case _:
            raise TypeError(f"unknown connectivity {type(connectivity).__name__}")


def _flat(values: Array) -> Array:
    return np.ascontiguousarray(values).reshape(-1)


@compiled()
def _stretch(op, source, place, most):
    """Where the weights of a source to the targets from ``place`` lie, and of how many; -1: the first has none."""
    if op.kind == _DENSE:
        return source * op.shape[0] + place, most
    if op.kind == _SKIP:
        channels, per = op.shape
        same = place % channels == source // per and place // channels == source % per
        return (source // per if same else -1), 1
    if op.kind == _SPARSE:
        target = op.shape[place]
        row = op.indices[op.indptr[target] : op.indptr[target + 1]]
        found = np.searchsorted(row, source)
        return (op.indptr[target] + found if found < len(row) and row[found] == source else -1), 1
    per_in, per_out, kh, kw, dilation_y, dilation_x, _ = op.shape
    c, o = op.sources[source, 0], op.targets[place, 0]
    ky, kx = op.sources[source, 1] - op.targets[place, 1], op.sources[source, 2] - op.targets[place, 2]
    if dilation_y != 1 or dilation_x != 1:
        if ky % dilation_y != 0 or kx % dilation_x != 0:
            return -1, 1
        ky, kx = ky // dilation_y, kx // dilation_x
    first = c // per_in * per_out
    if ky < 0 or ky >= kh or kx < 0 or kx >= kw or o < first or o >= first + per_out:
        return -1, 1
    return ((c * kh + ky) * kw + kx) * per_out + o - first, min(most, first + per_out - o)


@compiled()
def _same(stored, wanted, seen, slot):
    """Non-zero weights of a stretch; -1 where one differs or was seen before."""
    found, wrong = 0, 0
    for i in range(stored.shape[0]):
        some = stored[i] != 0
        wrong += (stored[i] != wanted[i]) | (some & (seen[i] == slot))
        seen[i] = slot if some else seen[i]
        found += some
    return -1 if wrong else found


@compiled()
def _synapses_once(tables, neurons, places, follow, slots, projection, delay, op, targets):
    """Synapses that the tables hold of a projection, and pairs read; -1 where one is wrong, foreign or double.

    Args:
        tables: `Tables`.
        neurons: (slots,) flat neuron of each slot.
        places: (slots,) the same, channels last.
        follow: (slots,) how many slots of the slice, this one included, have places one after the other.
        slots: of the source.
        projection: its number.
        delay: its delay.
        op: its `_Operator`.
        targets: neurons of its target.
    """
    seen = np.full(targets, -1, dtype=np.int32)
    found, pairs = 0, 0
    for slot in slots:
        for d in range(tables.delays.shape[0]):
            for p in range(tables.pair_start[d, slot], tables.pair_start[d, slot + 1]):
                fan = tables.pairs[p, 0]
                if tables.fans[fan, 4] != projection:
                    continue
                pairs += 1
                before = found
                if tables.delays[d] != delay:
                    return -1, pairs
                piece = tables.fans[fan, 0]
                first, count = tables.slices[piece, 0], tables.slices[piece, 1]
                for r in range(tables.fans[fan, 2], tables.fans[fan, 3]):
                    into = tables.pairs[p, 1] + tables.runs[r, 0]
                    stored = tables.pairs[p, 2] + tables.runs[r, 1]
                    left = tables.runs[r, 2]
                    group = tables.groups[piece]
                    while not tables.accumulators[group, 0] <= into < tables.accumulators[group, 0] + count:
                        group += 1
                        if group == tables.groups[piece + 1]:
                            return -1, pairs
                    into += first - tables.accumulators[group, 0]
                    if into + left > first + count:
                        return -1, pairs
                    while left > 0:
                        place = places[into]
                        at, many = _stretch(op, neurons[slot], place, min(left, follow[into]))
                        here = tables.weight[stored : stored + many]
                        if at >= 0:
                            fits = _same(here, op.weight[at : at + many], seen[place : place + many], slot)
                        else:
                            fits = 0 if here[0] == 0 else -1
                        if fits < 0:
                            return -1, pairs
                        found += fits
                        into, stored, left = into + many, stored + many, left - many
                if found - before != tables.pairs[p, 3]:
                    return -1, pairs
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


def _follow(program: MappedProgram, places: IndexArray) -> IndexArray:
    """Of each slot: how many of its slice, itself included, have places one after the other."""
    breaks = np.flatnonzero((np.diff(places) != 1) | (np.diff(program.slice_of) != 0)) + 1
    ends = np.append(breaks, len(places))
    slots = np.arange(len(places))
    return ends[np.searchsorted(breaks, slots, side="right")] - slots


def covers_network(program: MappedProgram) -> bool:
    """Whether the tables hold every neuron and every synapse of the network once, and nothing else."""
    network, tables = program.network, program.tables
    places = np.zeros(len(program.neurons), dtype=np.int64)
    for population in network.populations:
        slots = program.slots_by_population[population.name]
        held = program.neurons[slots]
        if not np.array_equal(np.sort(held), np.arange(population.neurons)):
            return False
        places[slots] = np.argsort(channels_last(population.shape))[held]
    follow, pairs = _follow(program, places), 0
    for number, projection in enumerate(network.projections):
        connectivity, target = projection.connectivity, network.by_name[projection.target].shape
        by_place = isinstance(connectivity, Conv2d | Pool | Skip)
        if by_place and connectivity.out_shape != target:
            return False
        if np.any(connectivity.weight.astype(tables.weight.dtype) != connectivity.weight):
            return False
        found, read = _synapses_once(
            tables,
            program.neurons,
            places,
            follow,
            program.slots_by_population[projection.source],
            number,
            projection.delay,
            _operator(connectivity, target, tables.weight.dtype),
            size(target),
        )
        pairs += read
        if found != _count(connectivity):
            return False
    return pairs == len(tables.pairs)
