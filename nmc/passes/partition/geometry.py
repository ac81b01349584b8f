"""Which source neurons, and which stored weights, a box of target neurons needs.

Exact, zero weights included (a tap that is zero for all channels of the box needs no
axon), and without a list of synapses where the connectivity is a convolution.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from nmc.ir.connectivity import Array, Conv2d, Dense, IndexArray, Pool, Shape, Skip, Sparse, size
from nmc.ir.mapping import Box, Region, box_indices, whole
from nmc.ir.network import Network, Projection
from nmc.passes.partition.boxes import Range, ranges_of, region_of
from nmc.passes.partition.taps import AxisTaps, Product, axis_taps, inputs_read, product_of

Mask = NDArray[np.bool_]


KEPT = 256
"""Ranges of channels that a convolution remembers, ..."""

KEPT_PLACES = 4096
"""... and ranges of rows and columns."""


class Geometry(Protocol):
    """The synapses of one projection, seen from boxes of its target population.

    Attributes:
        kernel: whether weights are shared between neurons (a kernel), so that a core that
            can share stores each one once.
    """

    @property
    def kernel(self) -> bool: ...

    def sources(self, box: Box) -> IndexArray:
        """Flat source neurons with at least one non-zero synapse into the box, ascending."""
        ...

    def synapses(self, box: Box) -> int:
        """Non-zero synapses into the box."""
        ...

    def stored(self, box: Box) -> tuple[slice, Mask]:
        """Kernels only: entries of the weight array, over its rows [slice], with a synapse into the box."""
        ...

    @property
    def stored_shape(self) -> Shape:
        """Shape of the weight array that `stored` speaks of."""
        ...


def _moved(part: slice, by: int) -> slice:
    return slice(part.start - by, part.stop - by, part.step)


@dataclass(frozen=True, eq=False)
class ConvGeometry:
    """A convolution (or pooling): taps are boxes.

    Attributes:
        conv: the operator.
        nonzero: (out, in / groups, kh, kw) whether the weight is not zero.
        target_shape: of the population, where it is not the operator's output shape.
        known: channels that ranges of output channels read, see `_used`.
        ranges: the same channels by the taps that read them, see `_patterns`.
        taps: of ranges of rows (axis 0) and columns (1), see `_axis`.
        places: what some taps of such a range read, see `_places`.
    """

    conv: Conv2d
    nonzero: Mask
    target_shape: Shape
    kernel: bool = True
    known: dict[Range, tuple[IndexArray, Mask]] = field(default_factory=dict)
    ranges: dict[Range, list[tuple[list[Range], Mask, Product | None]]] = field(default_factory=dict)
    taps: dict[tuple[int, Range], AxisTaps] = field(default_factory=dict)
    places: dict[tuple[int, Range, tuple[int, ...]], list[Range]] = field(default_factory=dict)

    @property
    def stored_shape(self) -> Shape:
        return self.nonzero.shape

    def _boxes(self, box: Box) -> tuple[Box, ...]:
        """The box in the operator's output shape: itself, unless the population is flattened."""
        if self.target_shape == self.conv.out_shape:
            return (box,)
        mask = np.zeros(self.target_shape, dtype=np.bool_)
        mask[tuple(slice(*axis) for axis in box)] = True
        return region_of(mask.reshape(self.conv.out_shape))

    def _taps(self, box: Box) -> tuple[AxisTaps, AxisTaps]:
        """For each kernel row and column: outputs of the box that it feeds, and the inputs it reads."""
        return self._axis(0, box[1]), self._axis(1, box[2])

    def _axis(self, axis: int, part: Range) -> AxisTaps:
        """For each kernel row (axis 0) or column (1): how many inputs it reads for a range of outputs, and which."""
        if (axis, part) not in self.taps:
            conv = self.conv
            stride, dilation, pad = conv.stride[axis], conv.dilation[axis], conv.pads[axis]
            taps, count = conv.weight.shape[2 + axis], conv.in_shape[1 + axis]
            if len(self.taps) >= KEPT_PLACES:
                self.taps.clear()
            self.taps[axis, part] = [axis_taps(*part, stride, tap * dilation - pad, count) for tap in range(taps)]
        return self.taps[axis, part]

    def _places(self, axis: int, part: Range, used: tuple[int, ...]) -> list[Range]:
        """The inputs along an axis that some taps read for a range of outputs."""
        key = axis, part, used
        if key not in self.places:
            taps = self._axis(axis, part)
            if len(self.places) >= KEPT_PLACES:
                self.places.clear()
            self.places[key] = ranges_of(inputs_read([taps[tap] for tap in used], self.conv.in_shape[1 + axis]))
        return self.places[key]

    def sources(self, box: Box) -> IndexArray:
        found = [self._sources(part) for part in self._boxes(box)]
        return found[0] if len(found) == 1 else np.unique(np.concatenate(found))

    def _sources(self, box: Box) -> IndexArray:
        """The sources of a box in the operator's output shape, marked in the window that its taps read."""
        _, height, width = self.conv.in_shape
        rows, columns = self._taps(box)
        first_row, first_column = (min((tap[1].start for tap in taps if tap), default=0) for taps in (rows, columns))
        last_row, last_column = (max((tap[1].stop for tap in taps if tap), default=0) for taps in (rows, columns))
        channels, used = self._used(box[0])
        mask = np.zeros((len(channels), last_row - first_row, last_column - first_column), dtype=np.bool_)
        for p, row in enumerate(rows):
            for q, column in enumerate(columns):
                if row is None or column is None:
                    continue
                places = _moved(row[1], first_row), _moved(column[1], first_column)
                reads = used[:, p, q]
                if reads.all():
                    mask[:, *places] = True
                elif reads.any():
                    mask[np.flatnonzero(reads), *places] = True
        channel, row_at, column_at = np.nonzero(mask)
        flat: IndexArray = (channels[channel] * height + row_at + first_row) * width + column_at + first_column
        return flat

    def _used(self, axis: Range) -> tuple[IndexArray, Mask]:
        """Input channels that some output channels read, and (channels, kh, kw) through which taps."""
        if axis not in self.known:
            outputs = np.arange(*axis)
            per_out, per_in = self.conv.weight.shape[0] // self.conv.groups, self.conv.weight.shape[1]
            groups, first = np.unique(outputs // per_out, return_index=True)
            used = np.logical_or.reduceat(self.nonzero[outputs], first, axis=0)
            channels = (groups[:, None] * per_in + np.arange(per_in)).reshape(-1)
            if len(self.known) >= KEPT:
                self.known.clear()
            self.known[axis] = channels, used.reshape(-1, *used.shape[2:])
        return self.known[axis]

    def region(self, box: Box) -> Region | None:
        """The sources as boxes, where that needs no list of neurons; else None."""
        if self.target_shape != self.conv.out_shape:
            return None
        found: list[Box] = []
        for channels, pattern, product in self._patterns(box[0]):
            places = self._read(box, pattern, product)
            found.extend((part, *place) for part in channels for place in places)
        return tuple(sorted(found))

    def _patterns(self, axis: Range) -> list[tuple[list[Range], Mask, Product | None]]:
        """Input channels that some output channels read, as ranges, by the taps (kh, kw) through which they do.

        The rows and columns of the taps come along where these are all taps of the rows in the columns.
        """
        if axis not in self.ranges:
            channels, used = self._used(axis)
            some = used.any(axis=(1, 2))
            channels, used = channels[some], used[some]
            patterns, of = np.unique(used.reshape(len(used), math.prod(used.shape[1:])), axis=0, return_inverse=True)
            if len(self.ranges) >= KEPT:
                self.ranges.clear()
            shaped = [pattern.reshape(used.shape[1:]) for pattern in patterns]
            self.ranges[axis] = [
                (ranges_of(channels[of.reshape(-1) == number]), pattern, product_of(pattern))
                for number, pattern in enumerate(shaped)
            ]
        return self.ranges[axis]

    def _read(self, box: Box, pattern: Mask, product: Product | None) -> list[tuple[Range, Range]]:
        """The places that some taps of the kernel read, as boxes."""
        if product is not None:
            rows, columns = (self._places(axis, box[1 + axis], product[axis]) for axis in (0, 1))
            return list(itertools.product(rows, columns))
        taps, mask = self._taps(box), np.zeros(self.conv.in_shape[1:], dtype=np.bool_)
        for p, q in zip(*np.nonzero(pattern), strict=True):
            row, column = taps[0][p], taps[1][q]
            if row is not None and column is not None:
                mask[row[1], column[1]] = True
        return [(row, column) for row, column in region_of(mask)]

    def synapses(self, box: Box) -> int:
        total = 0
        for part in self._boxes(box):
            rows, columns = self._taps(part)
            row_counts = np.array([row[0] if row else 0 for row in rows])
            column_counts = np.array([column[0] if column else 0 for column in columns])
            kernel = self.nonzero[np.arange(*part[0])].sum(axis=(0, 1), dtype=np.int64)
            total += int(row_counts @ kernel @ column_counts)
        return total

    def stored(self, box: Box) -> tuple[slice, Mask]:
        parts = self._boxes(box)
        first = min(part[0][0] for part in parts)
        over = slice(first, max(range(*part[0])[-1] for part in parts) + 1)
        used = np.zeros((over.stop - first, *self.nonzero.shape[1:]), dtype=np.bool_)
        for part in parts:
            rows, columns = self._taps(part)
            valid = np.outer([row is not None for row in rows], [column is not None for column in columns])
            channels = np.arange(*part[0])
            used[channels - first] |= self.nonzero[channels] & valid
        return over, used


@dataclass(frozen=True, eq=False)
class SkipGeometry:
    """One to one, with one weight per channel.

    Attributes:
        skip: the operator; its channels are the first axis of its own shape.
        active: (neurons,) whether the neuron's weight is not zero.
    """

    skip: Skip
    active: Mask
    target_shape: Shape
    kernel: bool = True

    @cached_property
    def full(self) -> bool:
        """Whether every neuron is connected."""
        return bool(self.active.all())

    @property
    def stored_shape(self) -> Shape:
        return self.skip.weight.shape

    def sources(self, box: Box) -> IndexArray:
        index = np.sort(box_indices(box, self.target_shape))
        return index[self.active[index]]

    def synapses(self, box: Box) -> int:
        return len(self.sources(box))

    def stored(self, box: Box) -> tuple[slice, Mask]:
        per_channel = len(self.active) // len(self.skip.weight)
        used = np.zeros(self.skip.weight.shape, dtype=np.bool_)
        used[np.unique(self.sources(box) // per_channel)] = True
        return slice(0, len(used)), used


@dataclass(frozen=True, eq=False)
class DenseGeometry:
    """A matrix of whether a synapse exists, (targets, sources)."""

    nonzero: Mask
    target_shape: Shape
    kernel: bool = False

    @cached_property
    def full(self) -> bool:
        """Whether no weight is zero."""
        return bool(self.nonzero.all())

    @property
    def stored_shape(self) -> Shape:
        return ()

    def sources(self, box: Box) -> IndexArray:
        return np.flatnonzero(self.nonzero[box_indices(box, self.target_shape)].any(axis=0))

    def synapses(self, box: Box) -> int:
        return int(np.count_nonzero(self.nonzero[box_indices(box, self.target_shape)]))

    def stored(self, box: Box) -> tuple[slice, Mask]:
        raise TypeError("a matrix has no kernel")


@dataclass(frozen=True, eq=False)
class SparseGeometry:
    """Synapses by target, zero weights already dropped: CSR."""

    indptr: IndexArray
    indices: IndexArray
    target_shape: Shape
    kernel: bool = False

    @property
    def stored_shape(self) -> Shape:
        return ()

    def _entries(self, box: Box) -> IndexArray:
        rows = box_indices(box, self.target_shape)
        starts, counts = self.indptr[rows], self.indptr[rows + 1] - self.indptr[rows]
        ends = np.cumsum(counts)
        return np.repeat(starts - (ends - counts), counts) + np.arange(counts.sum())

    def sources(self, box: Box) -> IndexArray:
        return np.unique(self.indices[self._entries(box)])

    def synapses(self, box: Box) -> int:
        return len(self._entries(box))

    def stored(self, box: Box) -> tuple[slice, Mask]:
        raise TypeError("a matrix has no kernel")


def source_region(geometry: Geometry, box: Box, shape: Shape) -> Region:
    """The sources of a box as a union of boxes; empty if there are none.

    Args:
        geometry: of a projection.
        box: of its target population.
        shape: of its source population.
    """
    region: Region | None = None
    if isinstance(geometry, ConvGeometry) and (*shape, 1, 1)[:3] == geometry.conv.in_shape:
        region = geometry.region(box)
        # A population of one place has no other axes than its channels.
        region = region and tuple(part[: len(shape)] for part in region)
    elif isinstance(geometry, DenseGeometry) and geometry.full:
        region = (whole(shape),)
    elif isinstance(geometry, SkipGeometry) and shape == geometry.target_shape and geometry.full:
        region = (box,)
    if region is not None:
        return region
    mask = np.zeros(size(shape), dtype=np.bool_)
    mask[geometry.sources(box)] = True
    return region_of(mask.reshape(shape))


def geometry_of(projection: Projection, target_shape: Shape) -> Geometry:
    """The geometry of a projection into a population of ``target_shape``."""
    operator = projection.connectivity
    match operator:
        case Conv2d():
            return ConvGeometry(operator, operator.weight != 0, target_shape)
        case Pool():
            conv = operator.as_conv()
            return ConvGeometry(conv, np.ascontiguousarray(conv.weight != 0), target_shape)
        case Skip():
            per_channel = size(operator.in_shape) // operator.in_shape[0]
            return SkipGeometry(operator, np.repeat(operator.weight != 0, per_channel), target_shape)
        case Dense():
            return DenseGeometry(operator.weight != 0, target_shape)
        case Sparse():
            return _sparse(operator.rows, operator.indices, operator.weight, target_shape)
        case _:
            target, source, weight = operator.synapses()
            order = np.lexsort((source, target))
            return _sparse(target[order], source[order], weight[order], target_shape)


def _sparse(rows: IndexArray, columns: IndexArray, weight: Array, target_shape: Shape) -> SparseGeometry:
    keep = np.flatnonzero(weight)
    indptr = np.zeros(size(target_shape) + 1, dtype=np.int64)
    np.cumsum(np.bincount(rows[keep], minlength=size(target_shape)), out=indptr[1:])
    return SparseGeometry(indptr, columns[keep], target_shape)


def geometries(network: Network) -> Mapping[str, Geometry]:
    """The geometry of every projection, by name."""
    return {p.name: geometry_of(p, network.by_name[p.target].shape) for p in network.projections}
