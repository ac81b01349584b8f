"""The synapses of one axon group as runs: stretches of weights onto stretches of neurons.

Neurons of a slice are numbered with the channel fastest, so that the targets of one
message in a convolution are contiguous: one run is ``acc[t : t + n] += m * w[o : o + n]``.
Convolution weights are stored once per projection and range of output channels, whatever
the number of neurons that use them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numba
import numpy as np

from nmc.ir.connectivity import Array, Connectivity, Conv2d, Dense, IndexArray, Pool, Shape, Skip, size
from nmc.ir.mapping import Box, box_indices
from nmc.ir.network import Projection


@dataclass(frozen=True, eq=False)
class Runs:
    """The synapses that some sources have in one slice.

    Attributes:
        sources: (S,) flat C-order source neurons, those with a non-zero weight in the slice.
        start: (S + 1,) first run of each source.
        runs: (R, 3) int64: first target neuron of the slice, first weight of the pool, length.
        nonzero: (S,) non-zero weights of each source's runs.
    """

    sources: IndexArray
    start: IndexArray
    runs: IndexArray
    nonzero: IndexArray


@dataclass(frozen=True, eq=False)
class KernelBlock:
    """Convolution weights of one projection for one range of output channels.

    Attributes:
        offset: of the block in the pool.
        base: (in channels,) offset within the block of a channel's (kh, kw, channels) weights,
            kernel columns in reverse.
        first, count: (in channels,) the targets' first channel within the range, and their number.
        nonzeros: (block + 1,) non-zero weights before each position.
    """

    offset: int
    base: IndexArray
    first: IndexArray
    count: IndexArray
    nonzeros: IndexArray


@dataclass
class WeightPool:
    """All weights of a program, in blocks; equal blocks are shared by key."""

    blocks: list[Array] = field(default_factory=list)
    length: int = 0
    kernels: dict[tuple[str, tuple[int, int, int]], KernelBlock] = field(default_factory=dict)
    offsets: dict[str, int] = field(default_factory=dict)
    synapses: dict[str, tuple[IndexArray, IndexArray, Array]] = field(default_factory=dict)

    def append(self, block: Array) -> int:
        """Add a block; its offset."""
        # Weights beyond 16 bits are rare: a narrow pool keeps more of them in the caches.
        narrow = np.abs(block).max(initial=0) < 1 << 15
        self.blocks.append(block.reshape(-1).astype(np.int16 if narrow else np.int64))
        self.length += block.size
        return self.length - block.size

    def weights(self) -> Array:
        """The pool: int16 if every weight fits, else int64."""
        return np.concatenate([np.zeros(0, dtype=np.int16), *self.blocks])

    def synapses_of(self, projection: Projection) -> tuple[IndexArray, IndexArray, Array]:
        """The synapses of a projection, listed once."""
        if projection.name not in self.synapses:
            self.synapses[projection.name] = projection.connectivity.synapses()
        return self.synapses[projection.name]


def slice_neurons(box: Box, shape: Shape) -> IndexArray:
    """Flat C-order neurons of a box in the order of the slice: channel (axis 0) fastest."""
    extents = tuple(len(range(*axis)) for axis in box)
    return np.moveaxis(box_indices(box, shape).reshape(extents), 0, -1).reshape(-1)


def runs_of(
    projection: Projection, target_shape: Shape, box: Box, neurons: IndexArray, heard: IndexArray, pool: WeightPool
) -> Runs:
    """The runs of one axon group.

    Args:
        projection: whose synapses.
        target_shape: of the target population.
        box: of the target slice.
        neurons: of the target slice, as `slice_neurons` orders them.
        heard: flat source neurons of the group's region, ascending.
        pool: takes the weights.
    """
    connectivity: Connectivity = projection.connectivity
    if isinstance(connectivity, Pool):
        connectivity = connectivity.as_conv()
    if isinstance(connectivity, Conv2d) and connectivity.out_shape == target_shape:
        return _conv_runs_of(projection.name, connectivity, box, heard, pool)
    if isinstance(connectivity, Dense):
        return _dense_runs_of(connectivity, neurons, heard, pool)
    local = np.full(size(target_shape), -1, dtype=np.int64)
    local[neurons] = np.arange(len(neurons))
    if isinstance(connectivity, Skip):
        return _skip_runs_of(projection.name, connectivity, local, heard, pool)
    return _sparse_runs_of(projection, local, heard, pool)


def _dense_runs_of(connectivity: Dense, neurons: IndexArray, heard: IndexArray, pool: WeightPool) -> Runs:
    block = np.ascontiguousarray(connectivity.weight[neurons][:, heard].T)
    nonzero = np.count_nonzero(block, axis=1)
    keep = np.flatnonzero(nonzero)
    offset = pool.append(block[keep])
    count = len(keep)
    runs = np.zeros((count, 3), dtype=np.int64)
    runs[:, 1] = offset + np.arange(count) * len(neurons)
    runs[:, 2] = len(neurons)
    return Runs(heard[keep], np.arange(count + 1), runs, nonzero[keep])


def _skip_runs_of(name: str, connectivity: Skip, local: IndexArray, heard: IndexArray, pool: WeightPool) -> Runs:
    if name not in pool.offsets:
        pool.offsets[name] = pool.append(connectivity.weight)
    channel = heard // (size(connectivity.in_shape) // connectivity.in_shape[0])
    keep = (local[heard] >= 0) & (connectivity.weight[channel] != 0)
    sources = heard[keep]
    ones = np.ones(len(sources), dtype=np.int64)
    runs = np.stack([local[sources], pool.offsets[name] + channel[keep], ones], axis=1)
    return Runs(sources, np.arange(len(sources) + 1), runs, ones)


def _sparse_runs_of(projection: Projection, local: IndexArray, heard: IndexArray, pool: WeightPool) -> Runs:
    target, source, weight = pool.synapses_of(projection)
    listened = np.zeros(size(projection.connectivity.in_shape), dtype=np.bool_)
    listened[heard] = True
    keep = np.flatnonzero((local[target] >= 0) & listened[source])
    target, source, weight = local[target[keep]], source[keep], weight[keep]
    order = np.lexsort((target, source))
    target, source, weight = target[order], source[order], weight[order]
    offset = pool.append(weight)
    opens = np.ones(len(target), dtype=np.bool_)
    opens[1:] = (source[1:] != source[:-1]) | (target[1:] != target[:-1] + 1)
    first = np.flatnonzero(opens)
    length = np.diff(first, append=len(target))
    runs = np.stack([target[first], offset + first, length], axis=1).astype(np.int64)
    sources, begin = np.unique(source[first], return_index=True)
    start = np.append(begin, len(first)).astype(np.int64)
    nonzero = np.diff(np.append(first, len(target))[start])
    return Runs(sources, start, runs, nonzero)


def _conv_runs_of(name: str, conv: Conv2d, box: Box, heard: IndexArray, pool: WeightPool) -> Runs:
    key = (name, box[0])
    if key not in pool.kernels:
        pool.kernels[key] = _kernel_block(conv, np.arange(*box[0]), pool)
    block = pool.kernels[key]
    kh, kw = conv.weight.shape[2:]
    rows, columns = (_places(axis, extent) for axis, extent in zip(box[1:], conv.out_shape[1:], strict=True))
    geometry = (*conv.in_shape[1:], kh, kw, *conv.stride, *conv.pads[:2], *conv.dilation, len(range(*box[0])))
    runs = np.empty((len(heard) * kh * kw, 3), dtype=np.int64)
    start = np.zeros(len(heard) + 1, dtype=np.int64)
    nonzero = np.zeros(len(heard), dtype=np.int64)
    used = _conv_runs(
        heard, geometry, block.base, block.first, block.count, block.nonzeros, rows, columns, runs, start, nonzero
    )
    keep = np.flatnonzero(nonzero)
    runs = runs[:used].copy()
    runs[:, 1] += block.offset
    # Sources without synapses have no runs, so dropping them leaves the others' runs in place.
    return Runs(heard[keep], np.append(start[keep], used), runs, nonzero[keep])


def _places(axis: tuple[int, int, int], extent: int) -> IndexArray:
    """For each coordinate of an axis, its place within the slice, or -1."""
    places = np.full(extent + 1, -1, dtype=np.int64)
    coordinates = np.arange(*axis)
    places[coordinates] = np.arange(len(coordinates))
    # The last entry holds the number of places.
    places[extent] = len(coordinates)
    return places


def _kernel_block(conv: Conv2d, outputs: IndexArray, pool: WeightPool) -> KernelBlock:
    out, per_in, kh, kw = conv.weight.shape
    channels = conv.in_shape[0]
    group = outputs // (out // conv.groups)
    base, first, count = (np.zeros(channels, dtype=np.int64) for _ in range(3))
    parts, length = [], 0
    for number in np.unique(group):
        members = np.flatnonzero(group == number)
        weight = conv.weight[outputs[members]][:, :, :, ::-1].transpose(1, 2, 3, 0)
        inputs = slice(number * per_in, (number + 1) * per_in)
        base[inputs] = length + np.arange(per_in) * (kh * kw * len(members))
        first[inputs], count[inputs] = members[0], len(members)
        parts.append(weight.reshape(-1))
        length += weight.size
    flat = np.concatenate(parts)
    nonzeros = np.concatenate([[0], np.cumsum(flat != 0)]).astype(np.int64)
    return KernelBlock(pool.append(flat), base, first, count, nonzeros)


@numba.njit(nogil=True, cache=True)
def _conv_runs(heard, geometry, base, first, count, nonzeros, rows, columns, runs, start, nonzero):
    height, width, kh, kw, stride_y, stride_x, top, left, dilation_y, dilation_x, channels = geometry
    out_h, out_w = rows.shape[0] - 1, columns.shape[0] - 1
    across = columns[out_w]
    used = 0
    for s in range(heard.shape[0]):
        start[s] = used
        c = heard[s] // (height * width)
        y = heard[s] // width % height
        x = heard[s] % width
        n = count[c]
        if n == 0:
            continue
        for ky in range(kh):
            ty = y + top - ky * dilation_y
            if ty < 0 or ty % stride_y != 0 or ty // stride_y >= out_h or rows[ty // stride_y] < 0:
                continue
            row = rows[ty // stride_y]
            # Kernel columns from right to left meet output columns from left to right.
            for reverse in range(kw):
                tx = x + left - (kw - 1 - reverse) * dilation_x
                if tx < 0 or tx % stride_x != 0 or tx // stride_x >= out_w or columns[tx // stride_x] < 0:
                    continue
                target = (row * across + columns[tx // stride_x]) * channels + first[c]
                weight = base[c] + (ky * kw + reverse) * n
                present = nonzeros[weight + n] - nonzeros[weight]
                if present == 0:
                    continue
                nonzero[s] += present
                last = used - 1
                if (
                    used > start[s]
                    and runs[last, 0] + runs[last, 2] == target
                    and runs[last, 1] + runs[last, 2] == weight
                ):
                    runs[last, 2] += n
                else:
                    runs[used, 0], runs[used, 1], runs[used, 2] = target, weight, n
                    used += 1
    start[heard.shape[0]] = used
    return used
