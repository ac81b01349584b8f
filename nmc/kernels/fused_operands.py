"""Weights of one layer as `nmc.kernels.dot` reads them: bytes, in groups of four channels.

A layer's sums are those of groups of projections. Weights of a group share, channel by
channel, the power of two that divides them all; a weight that is still beyond a byte is
the sum of several. What is pooled before it is weighted is read from a map of pooled
messages; what reaches one neuron each needs no products of groups, and is a lane.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from nmc.ir.connectivity import Array, Connectivity, Conv2d, Dense, IndexArray, Pool, Shape, Skip, size
from nmc.ir.network import Projection
from nmc.kernels.tiers import GROUP, LANES, ROWS

_BYTE, _WORD = (1 << 7) - 1, (1 << 15) - 1
_UNSIGNED = 255
_MOST_PARTS = 8
"""A weight that needs more bytes than these is better served by the general kernel."""
_MOST_SPREAD = 1 << 22
"""Weights that a convolution with groups may have without them: beyond, nearly all are zeros that fill the memory."""


def as_convolution(connectivity: Connectivity, source: Shape, target: Shape) -> Conv2d | None:
    """The operator between populations of these shapes as a convolution without groups.

    None where it is none, or has so many groups that it would be nearly all zeros.
    """
    if isinstance(connectivity, Dense) and size(target) == target[0]:
        shape = _maps(source)
        return Conv2d(connectivity.weight.reshape(-1, *shape), shape)
    if connectivity.in_shape != source or connectivity.out_shape != target:
        return None
    if isinstance(connectivity, Pool):
        connectivity = connectivity.as_conv()
    if isinstance(connectivity, Skip):
        if connectivity.weight.size**2 > _MOST_SPREAD:
            return None
        return Conv2d(np.diag(connectivity.weight)[:, :, None, None], _maps(source))
    if isinstance(connectivity, Conv2d) and connectivity.groups > 1:
        return None if connectivity.weight.size * connectivity.groups > _MOST_SPREAD else _ungrouped(connectivity)
    return connectivity if isinstance(connectivity, Conv2d) else None


def _maps(shape: Shape) -> Shape:
    return shape if len(shape) == 3 else (size(shape), 1, 1)


Feed = tuple[str, int]
"""The messages of a population, or the sums of squares of so many of them a side."""


def _divides(conv: Conv2d, side: int) -> bool:
    """Whether a convolution is one of the sums of squares of messages, ``side`` a side."""
    kh, kw = conv.weight.shape[2:]
    sizes = (*conv.stride, *conv.pads, *conv.in_shape[1:], kh, kw)
    if conv.dilation != (1, 1) or any(n % side for n in sizes):
        return False
    tiles = conv.weight.reshape(*conv.weight.shape[:2], kh // side, side, kw // side, side)
    return bool(np.all(tiles == tiles[:, :, :, :1, :, :1]))


def pooled(conv: Conv2d, most: int) -> tuple[Conv2d, int]:
    """A convolution of the sums of squares of messages in place of one of messages, and their side; 1: it is none.

    An average pooling before a convolution leaves such weights: they need fewer products.

    Args:
        conv: without groups.
        most: largest byte of a message; its sums must be bytes too.
    """
    side = conv.stride[0]
    if side < 2 or conv.stride[1] != side or most * side * side > _UNSIGNED or not _divides(conv, side):
        return conv, 1
    top, left, bottom, right = (pad // side for pad in conv.pads)
    shape = (conv.in_shape[0], conv.in_shape[1] // side, conv.in_shape[2] // side)
    return Conv2d(conv.weight[:, :, ::side, ::side], shape, (1, 1), (top, left, bottom, right)), side


@dataclass(frozen=True, eq=False)
class Lane:
    """What reaches the neuron of the same place only.

    Attributes:
        feed: whose messages.
        weight: (C,) in units of the sum a.
    """

    feed: Feed
    weight: IndexArray


def lane_of(projection: Projection, source: Maps, target: Shape) -> Lane | None:
    """A projection as a lane; None where it is none."""
    connectivity, side = projection.connectivity, 1
    if isinstance(connectivity, Pool):
        side = connectivity.kernel[0]
        sizes = connectivity.in_shape[1:]
        whole = connectivity.kernel == connectivity.stride == (side, side) and not any(connectivity.pads)
        if not whole or any(n % side for n in sizes) or source.most * side * side > _UNSIGNED:
            return None
    elif not isinstance(connectivity, Skip):
        return None
    fits = connectivity.out_shape == target and _maps(connectivity.in_shape) == source.shape
    if not fits or source.zero or source.constant or np.any(projection.shift > 0) or projection.bias is not None:
        return None
    left = np.broadcast_to(-projection.shift.reshape(-1), connectivity.weight.shape)
    return Lane((projection.source, side), np.left_shift(connectivity.weight, left).astype(np.int64))


def _ungrouped(conv: Conv2d) -> Conv2d:
    out, per_in, *kernel = conv.weight.shape
    weight = np.zeros((out, conv.in_shape[0], *kernel), dtype=conv.weight.dtype)
    for number in range(conv.groups):
        rows = slice(number * out // conv.groups, (number + 1) * out // conv.groups)
        weight[rows, number * per_in : (number + 1) * per_in] = conv.weight[rows]
    return Conv2d(weight, conv.in_shape, conv.stride, conv.pads, conv.dilation)


@dataclass(frozen=True)
class Maps:
    """Where the messages of a population lie in the arena: rows, columns, groups of four channels, steps.

    The four bytes of one group and step are what an instruction multiplies; those of `ROWS` steps follow each other.

    Attributes:
        shape: (C, H, W).
        steps: steps held; 1 where every step sends the same.
        zero: what stands for no message, and is added to each.
        most: no byte is larger.
        pads: cells around the map: top, left, bottom, right.
        offset: of the map's first byte, cells around it included.
        width: bytes of a message: 2 where messages carry values, which are signed.
    """

    shape: tuple[int, int, int]
    steps: int
    zero: int
    most: int
    pads: tuple[int, int, int, int]
    offset: int
    width: int = 1

    @property
    def channels(self) -> int:
        """Channels in whole vectors."""
        return -(-self.shape[0] // LANES) * LANES

    @property
    def constant(self) -> bool:
        """Whether one step stands for all."""
        return self.steps == 1

    @property
    def held(self) -> int:
        """Steps that have a place: whole rounds."""
        return 1 if self.constant else -(-self.steps // ROWS) * ROWS

    @property
    def pixel(self) -> int:
        """Bytes of one pixel."""
        return self.width * self.channels * self.held

    @property
    def row(self) -> int:
        """Bytes of one row."""
        return self.pixel * (self.shape[2] + self.pads[1] + self.pads[3])

    @property
    def bytes(self) -> int:
        """Bytes of the map."""
        return self.row * (self.shape[1] + self.pads[0] + self.pads[2])

    @property
    def inner(self) -> int:
        """Offset of the first pixel that is not padding."""
        return self.offset + self.pads[0] * self.row + self.pads[1] * self.pixel


@dataclass(frozen=True, eq=False)
class Sum:
    """Projections whose products share accumulators.

    Attributes:
        convs: with weights that fit a few bytes; ``sources``: what each reads.
        shift: (C,) right shift of the sum; negative is left.
        bias: (C,) added before it, in the units of the weights.
    """

    convs: tuple[Conv2d, ...]
    sources: tuple[Feed, ...]
    shift: IndexArray
    bias: IndexArray


def _per_channel(values: Array | None, channels: int) -> IndexArray | None:
    """A parameter of shape () or (C,) as (C,); None where it is finer."""
    if values is None:
        return np.zeros(channels, dtype=np.int64)
    if values.size not in (1, channels):
        return None
    return np.broadcast_to(values.reshape(-1), (channels,)).astype(np.int64)


def _twos(values: Array) -> IndexArray:
    """The power of two that divides each row."""
    common = np.gcd.reduce(values, axis=1)
    return np.log2(np.where(common == 0, 1, common & -common)).astype(np.int64)


def sums_of(
    incoming: Sequence[tuple[Projection, Shape, int]], target: Shape, *, words: bool = False
) -> list[Sum] | None:
    """The sums of a population, as few as its shifts allow; None where they do not fit bytes.

    Args:
        incoming: projections with the shapes and the largest bytes of their sources.
        target: shape of the population.
        words: weights are words and not bytes.
    """
    most_weight = _WORD if words else _BYTE * _MOST_PARTS
    parts: list[Sum] = []
    for projection, source, most in incoming:
        conv = as_convolution(projection.connectivity, source, target)
        if conv is None:
            return None
        conv, side = pooled(conv, most)
        channels = conv.weight.shape[0]
        shift, bias = _per_channel(projection.shift, channels), _per_channel(projection.bias, channels)
        if shift is None or bias is None:
            return None
        twos = _twos(np.column_stack([conv.weight.reshape(channels, -1), bias]))
        weight = conv.weight >> twos[:, None, None, None]
        parts.append(Sum((conv.with_weight(weight),), ((projection.source, side),), shift - twos, bias >> twos))
        if np.abs(parts[-1].convs[0].weight).max(initial=0) > most_weight:
            return None
    joined: list[Sum] = []
    for part in parts:
        one = _joined(joined[-1], part) if joined else None
        joined[-1:] = [one] if one is not None else [*joined[-1:], part]
    return joined


def _joined(one: Sum, other: Sum) -> Sum | None:
    """Two sums as one, in the smaller of their units; None where shifts round, or weights get too large."""
    if np.any(one.shift > 0) or np.any(other.shift > 0):
        return None
    shift = np.maximum(one.shift, other.shift)
    up = [(conv, shift - part.shift) for part in (one, other) for conv in part.convs]
    convs = tuple(conv.with_weight(conv.weight << more[:, None, None, None]) for conv, more in up)
    if any(np.abs(conv.weight).max(initial=0) > 2 * _BYTE for conv in convs):
        return None
    bias = (one.bias << (shift - one.shift)) + (other.bias << (shift - other.shift))
    return Sum(convs, one.sources + other.sources, shift, bias)


@dataclass
class Segments:
    """Segments while a layer is laid out."""

    rows: list[tuple[int, ...]] = field(default_factory=list)
    offsets: list[IndexArray] = field(default_factory=list)
    runs: list[tuple[int, ...]] = field(default_factory=list)
    edges: list[int] = field(default_factory=list)
    weights: list[NDArray[np.int8]] = field(default_factory=list)
    block: int = 0
    """First segment of the block that is being laid out."""

    def add(self, group: int, conv: Conv2d, source: Maps, channels: slice, lanes: int) -> None:
        """The products of one projection with one block of output channels."""
        weight = np.zeros((lanes, *conv.weight.shape[1:]), dtype=np.int64)
        here = conv.weight[channels]
        weight[: len(here)] = here
        while True:
            largest = _BYTE if source.width == 1 else _WORD
            part = np.clip(weight, -largest, largest)
            weight -= part
            # One at least, though it were empty: it sets the sums.
            self._append(group, part, conv, source)
            if not weight.any():
                break

    def _append(self, group: int, weight: Array, conv: Conv2d, source: Maps) -> None:
        lanes, channels, kh, kw = weight.shape
        side = GROUP // source.width
        groups = -(-channels // side)
        padded = np.zeros((lanes, groups * side, kh, kw), dtype=np.int8 if source.width == 1 else np.int16)
        padded[:, :channels] = weight
        laid = padded.reshape(lanes, groups, side, kh, kw).transpose(3, 4, 1, 0, 2).reshape(-1, lanes, side)
        y, x, c = np.meshgrid(np.arange(kh), np.arange(kw), np.arange(groups), indexing="ij")
        offset = y * conv.dilation[0] * source.row + x * conv.dilation[1] * source.pixel + GROUP * source.held * c
        keep = np.flatnonzero(laid.any(axis=(1, 2)))
        base = source.inner - conv.pads[0] * source.row - conv.pads[1] * source.pixel
        step = 0 if source.constant else GROUP
        fresh = int(all(row[0] != group for row in self.rows[self.block :]))
        first, place = sum(map(len, self.offsets)), sum(map(len, self.weights))
        strides = (conv.stride[0] * source.row, conv.stride[1] * source.pixel)
        numbers = (group, base, *strides, step, step * ROWS, first, len(keep), place, fresh)
        runs = runs_of(offset.reshape(kh, -1), keep, GROUP * source.held)
        self.rows.append((*numbers, len(self.runs), len(self.edges), GROUP * source.held))
        self.runs += [(start, count, place + first * lanes * GROUP) for _, start, count, first in runs]
        self.edges += edges_of(conv, source, runs, groups)
        self.offsets.append(offset.reshape(-1)[keep])
        self.weights.append(np.ascontiguousarray(laid[keep]).reshape(-1).view(np.int8))


def runs_of(offset: IndexArray, keep: IndexArray, pitch: int) -> list[tuple[int, int, int, int]]:
    """Groups that lie one behind the other: row of the weights, first offset, how many, the first one's number.

    Args:
        offset: (rows of weights, groups), within the arena.
        keep: flat numbers of the groups that have weights.
        pitch: from group to group.
    """
    row, at = keep // offset.shape[1], offset.reshape(-1)[keep]
    breaks = np.flatnonzero((np.diff(at) != pitch) | (np.diff(row) != 0)) + 1
    starts = [0, *breaks.tolist()] if len(keep) else []
    ends = [*starts[1:], len(keep)] if len(keep) else []
    return [(int(row[n]), int(at[n]), end - n, n) for n, end in zip(starts, ends, strict=True)]


def edges_of(conv: Conv2d, source: Maps, runs: Sequence[tuple[int, int, int, int]], groups: int) -> list[int]:
    """What of the runs meets the map: for each row the first run and the end, for each column groups to skip, to drop.

    Cells around a map whose messages count from another zero are no zeros: all runs take part.
    """
    _, height, width = conv.out_shape
    kh, kw = conv.weight.shape[2:]
    ys, xs = [(0, kh)] * height, [(0, kw)] * width
    if source.zero == 0:
        ys = _inside(conv, 0, height, source.shape[1])
        # Only where every run is a whole row of weights do its ends belong to columns.
        if all(count == kw * groups for _, _, count, _ in runs):
            xs = _inside(conv, 1, width, source.shape[2])
    rows = np.array([row for row, *_ in runs], dtype=np.int64)
    found = [int(n) for pair in ys for n in np.searchsorted(rows, pair)]
    return found + [n for low, high in xs for n in (low * groups, (kw - high) * groups)]


def _inside(conv: Conv2d, axis: int, count: int, size: int) -> list[tuple[int, int]]:
    """For each place along an axis: the first tap within the map, and the first behind it."""
    taps, apart = conv.weight.shape[2 + axis], conv.dilation[axis]
    first = np.arange(count) * conv.stride[axis] - conv.pads[axis]
    low = np.clip(-(first // apart), 0, taps)
    high = np.clip((size - 1 - first) // apart + 1, low, taps)
    return [(int(a), int(b)) for a, b in zip(low, high, strict=True)]
