"""The synapses of one axon group as runs: stretches of weights onto stretches of neurons.

Neurons of a slice are numbered with the channel fastest, so that the targets of one
message in a convolution are contiguous: one run is ``acc[t : t + n] += m * w[o : o + n]``.
Convolution weights are stored once per projection and range of output channels, and runs
once per pixel, whatever the number of neurons that use them: the tables of a large network
stay small enough for the caches.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from nmc.ir.connectivity import Array, Connectivity, Conv2d, Dense, IndexArray, Pool, Shape, Skip, size
from nmc.ir.mapping import Box, box_indices
from nmc.ir.network import Projection
from nmc.kernels.compiled import compiled


@dataclass(frozen=True, eq=False)
class Runs:
    """The synapses that some sources have in one slice.

    Sources whose targets lie in the same pattern share a fan of runs: all channels of one
    pixel, all rows of a dense matrix. Only their places in the pool differ.

    Attributes:
        sources: (S,) flat C-order source neurons, those with a non-zero weight in the slice.
        fan: (S,) the fan of each.
        target: (S,) added to the targets of the fan's runs.
        weight: (S,) added to the weights of the fan's runs.
        nonzero: (S,) non-zero weights of each source.
        start: (F + 1,) first run of each fan.
        runs: (R, 3): first target neuron of the slice, first weight, length.
    """

    sources: IndexArray
    fan: IndexArray
    target: IndexArray
    weight: IndexArray
    nonzero: IndexArray
    start: IndexArray
    runs: IndexArray


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


def _one_fan(sources: IndexArray, target: IndexArray, weight: IndexArray, nonzero: IndexArray, length: int) -> Runs:
    """Sources with one run of the same length each."""
    fan = np.zeros(len(sources), dtype=np.int64)
    return Runs(sources, fan, target, weight, nonzero, np.array([0, 1]), np.array([[0, 0, length]]))


def _dense_runs_of(connectivity: Dense, neurons: IndexArray, heard: IndexArray, pool: WeightPool) -> Runs:
    block = np.ascontiguousarray(connectivity.weight[neurons][:, heard].T)
    nonzero = np.count_nonzero(block, axis=1)
    keep = np.flatnonzero(nonzero)
    weight = pool.append(block[keep]) + np.arange(len(keep)) * len(neurons)
    return _one_fan(heard[keep], np.zeros_like(keep), weight, nonzero[keep], len(neurons))


def _skip_runs_of(name: str, connectivity: Skip, local: IndexArray, heard: IndexArray, pool: WeightPool) -> Runs:
    if name not in pool.offsets:
        pool.offsets[name] = pool.append(connectivity.weight)
    channel = heard // (size(connectivity.in_shape) // connectivity.in_shape[0])
    keep = (local[heard] >= 0) & (connectivity.weight[channel] != 0)
    sources = heard[keep]
    return _one_fan(sources, local[sources], pool.offsets[name] + channel[keep], np.ones_like(sources), 1)


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
    runs = np.stack([target[first], first, np.diff(first, append=len(target))], axis=1).astype(np.int64)
    sources, begin = np.unique(source[first], return_index=True)
    start = np.append(begin, len(first)).astype(np.int64)
    nonzero = np.diff(np.append(first, len(target))[start])
    zero = np.zeros_like(sources)
    return Runs(sources, np.arange(len(sources)), zero, zero + offset, nonzero, start, runs)


def _conv_runs_of(name: str, conv: Conv2d, box: Box, heard: IndexArray, pool: WeightPool) -> Runs:
    key = (name, box[0])
    if key not in pool.kernels:
        pool.kernels[key] = _kernel_block(conv, np.arange(*box[0]), pool)
    block = pool.kernels[key]
    kh, kw = conv.weight.shape[2:]
    rows, columns = (_places(axis, extent) for axis, extent in zip(box[1:], conv.out_shape[1:], strict=True))
    channel, pixel = heard // (conv.in_shape[1] * conv.in_shape[2]), heard % (conv.in_shape[1] * conv.in_shape[2])
    fan = np.zeros(len(heard), dtype=np.int64)
    starts, parts, fans, used = [np.zeros(1, dtype=np.int64)], [np.zeros((0, 3), dtype=np.int64)], 0, 0
    for number in np.unique(block.count[channel]):
        here = np.flatnonzero(block.count[channel] == number)
        pixels, fan_of = np.unique(pixel[here], return_inverse=True)
        fan[here] = fans + fan_of
        geometry = (conv.in_shape[2], kh, kw, *conv.stride, *conv.pads[:2], *conv.dilation, len(range(*box[0])))
        runs = np.empty((len(pixels) * kh * kw, 3), dtype=np.int64)
        start = np.zeros(len(pixels), dtype=np.int64)
        count = _conv_runs(pixels, number, geometry, rows, columns, runs, start)
        parts.append(runs[:count].copy())
        starts.append(used + start)
        fans, used = fans + len(pixels), used + count
    start = np.concatenate([*starts[1:], [used]])
    runs = np.concatenate(parts)
    nonzero = _present(fan, block.base[channel], start, runs, block.nonzeros)
    keep = np.flatnonzero(nonzero)
    weight = block.offset + block.base[channel[keep]]
    return Runs(heard[keep], fan[keep], block.first[channel[keep]], weight, nonzero[keep], start, runs)


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


@compiled()
def _conv_runs(pixels, n, geometry, rows, columns, runs, start):
    """Runs of ``n`` channels from each pixel; how many there are."""
    width, kh, kw, stride_y, stride_x, top, left, dilation_y, dilation_x, channels = geometry
    out_h, out_w = rows.shape[0] - 1, columns.shape[0] - 1
    across = columns[out_w]
    used = 0
    for s in range(pixels.shape[0]):
        start[s] = used
        y, x = pixels[s] // width, pixels[s] % width
        for ky in range(kh):
            ty = y + top - ky * dilation_y
            if n == 0 or ty < 0 or ty % stride_y != 0 or ty // stride_y >= out_h or rows[ty // stride_y] < 0:
                continue
            row = rows[ty // stride_y]
            # Kernel columns from right to left meet output columns from left to right.
            for reverse in range(kw):
                tx = x + left - (kw - 1 - reverse) * dilation_x
                if tx < 0 or tx % stride_x != 0 or tx // stride_x >= out_w or columns[tx // stride_x] < 0:
                    continue
                target = (row * across + columns[tx // stride_x]) * channels
                weight = (ky * kw + reverse) * n
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
    return used


@compiled()
def _present(fan, base, start, runs, nonzeros):
    """Non-zero weights that each source meets."""
    count = np.zeros(fan.shape[0], dtype=np.int64)
    for s in range(fan.shape[0]):
        for r in range(start[fan[s]], start[fan[s] + 1]):
            first = base[s] + runs[r, 1]
            count[s] += nonzeros[first + runs[r, 2]] - nonzeros[first]
    return count
