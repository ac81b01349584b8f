"""Sums of a projection for many message vectors at once: event-driven, channels last.

Every kernel adds, for each non-zero message, that message times a contiguous row of
weights. Each target accumulates in the same fixed order whatever the vector width, so
float64 results are the same on every machine; integers are exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from nmc.ir.connectivity import (
    Array,
    Connectivity,
    Conv2d,
    Dense,
    IndexArray,
    Pool,
    Shape,
    Skip,
    Sparse,
    size,
)
from nmc.kernels.compiled import compiled

LARGE = 1 << 22
"""Weights of a dense layer from which its kernel reads them where they lie (32 MiB of float64)."""


def channels_last(shape: Shape) -> IndexArray:
    """For each neuron in channels-last order, its flat C-order index."""
    index = np.arange(size(shape), dtype=np.int64).reshape(shape)
    return np.moveaxis(index, 0, -1).reshape(-1)


def to_channels_last(values: Array, shape: Shape) -> Array:
    """(..., *shape) to (..., n) with the channel fastest."""
    lead = values.ndim - len(shape)
    return np.ascontiguousarray(np.moveaxis(values, lead, -1)).reshape(*values.shape[:lead], size(shape))


def from_channels_last(values: Array, shape: Shape) -> Array:
    """(..., n) with the channel fastest to (..., *shape)."""
    lead = values.shape[:-1]
    return np.ascontiguousarray(np.moveaxis(values.reshape(*lead, *shape[1:], shape[0]), -1, len(lead)))


class Plan(Protocol):
    """A connectivity laid out for its kernel."""

    def add(self, messages: Array, out: Array) -> None:
        """``out[m] += W messages[m]`` for all m; (M, n_in) and (M, n_out), channels last."""
        ...


@compiled()
def _conv(x, w, out, shape, stride, pads, dilation, groups):
    height, width, chans = shape[0], shape[1], shape[2]
    out_h, out_w, out_c = shape[3], shape[4], shape[5]
    kh, kw, per_out = w.shape[0], w.shape[1], w.shape[3]
    per_in = chans // groups
    for m in range(x.shape[0]):
        for y in range(height):
            for xx in range(width):
                base = (y * width + xx) * chans
                for ky in range(kh):
                    ty = y + pads[0] - ky * dilation[0]
                    if ty < 0 or ty % stride[0] != 0:
                        continue
                    oy = ty // stride[0]
                    if oy >= out_h:
                        continue
                    for kx in range(kw):
                        tx = xx + pads[1] - kx * dilation[1]
                        if tx < 0 or tx % stride[1] != 0:
                            continue
                        ox = tx // stride[1]
                        if ox >= out_w:
                            continue
                        target = (oy * out_w + ox) * out_c
                        for c in range(chans):
                            value = x[m, base + c]
                            if value == 0:
                                continue
                            first = target + (c // per_in) * per_out
                            row = w[ky, kx, c]
                            dest = out[m, first : first + per_out]
                            for o in range(per_out):
                                dest[o] += value * row[o]


@compiled()
def _dense(x, w, out):
    for m in range(x.shape[0]):
        dest = out[m]
        for i in range(x.shape[1]):
            value = x[m, i]
            if value == 0:
                continue
            row = w[i]
            for o in range(w.shape[1]):
                dest[o] += value * row[o]


@compiled()
def _dense_rows(x, w, columns, rows, out):
    for m in range(x.shape[0]):
        for o in range(w.shape[0]):
            total = out[m, rows[o]]
            for k in range(columns.shape[0]):
                total += x[m, k] * w[o, columns[k]]
            out[m, rows[o]] = total


@compiled()
def _sparse(x, indptr, targets, w, out):
    for m in range(x.shape[0]):
        for i in range(x.shape[1]):
            value = x[m, i]
            if value == 0:
                continue
            for k in range(indptr[i], indptr[i + 1]):
                out[m, targets[k]] += value * w[k]


@compiled()
def _one_to_one(x, w, out):
    chans = w.shape[0]
    for m in range(x.shape[0]):
        for i in range(x.shape[1]):
            out[m, i] += x[m, i] * w[i % chans]


@dataclass(frozen=True, eq=False)
class ConvPlan:
    """``weight`` (kh, kw, in, out / groups)."""

    weight: Array
    shape: IndexArray
    stride: IndexArray
    pads: IndexArray
    dilation: IndexArray
    groups: int

    def add(self, messages: Array, out: Array) -> None:
        _conv(messages, self.weight, out, self.shape, self.stride, self.pads, self.dilation, self.groups)


@dataclass(frozen=True, eq=False)
class DensePlan:
    """``weight`` (in, out), both channels last."""

    weight: Array

    def add(self, messages: Array, out: Array) -> None:
        _dense(messages, self.weight, out)


@dataclass(frozen=True, eq=False)
class LargeDensePlan:
    """``weight`` as the connectivity has it, never copied; its places of both sides in channels-last order.

    Adds what `DensePlan` adds, in the same order.
    """

    weight: Array
    columns: IndexArray
    rows: IndexArray

    def add(self, messages: Array, out: Array) -> None:
        _dense_rows(messages, self.weight, self.columns, self.rows, out)


@dataclass(frozen=True, eq=False)
class SkipPlan:
    """``weight`` (C,)."""

    weight: Array

    def add(self, messages: Array, out: Array) -> None:
        _one_to_one(messages, self.weight, out)


@dataclass(frozen=True, eq=False)
class SparsePlan:
    """CSR over sources, channels last on both sides."""

    weight: Array
    indptr: IndexArray
    targets: IndexArray

    def add(self, messages: Array, out: Array) -> None:
        _sparse(messages, self.indptr, self.targets, self.weight, out)


def _conv_plan(op: Conv2d, weight: Array) -> ConvPlan:
    out, per_in, kh, kw = weight.shape
    groups = op.groups
    grouped = weight.reshape(groups, out // groups, per_in, kh, kw)
    laid = np.ascontiguousarray(grouped.transpose(3, 4, 0, 2, 1)).reshape(kh, kw, groups * per_in, out // groups)
    chans, height, width = op.in_shape
    shape = np.array([height, width, chans, *op.out_shape[1:], op.out_shape[0]], dtype=np.int64)
    return ConvPlan(
        laid,
        shape,
        np.array(op.stride, dtype=np.int64),
        np.array(op.pads, dtype=np.int64),
        np.array(op.dilation, dtype=np.int64),
        groups,
    )


def _sparse_plan(op: Sparse, weight: Array) -> SparsePlan:
    place_in, place_out = (np.argsort(channels_last(shape)) for shape in (op.in_shape, op.out_shape))
    source, target = place_in[op.indices], place_out[op.rows]
    order = np.lexsort((target, source))
    indptr = np.zeros(size(op.in_shape) + 1, dtype=np.int64)
    np.cumsum(np.bincount(source, minlength=size(op.in_shape)), out=indptr[1:])
    return SparsePlan(np.ascontiguousarray(weight[order]), indptr, target[order].astype(np.int64))


def plan(connectivity: Connectivity, dtype: type[np.generic]) -> Plan:
    """The kernel layout of a connectivity, with weights of the given type."""
    if isinstance(connectivity, Dense) and connectivity.weight.size >= LARGE:
        rows = np.argsort(channels_last(connectivity.out_shape))
        return LargeDensePlan(connectivity.weight, channels_last(connectivity.in_shape), rows)
    weight = connectivity.weight.astype(dtype)
    match connectivity:
        case Conv2d():
            return _conv_plan(connectivity, weight)
        case Pool():
            conv = connectivity.with_weight(weight).as_conv()
            return _conv_plan(conv, conv.weight)
        case Dense():
            rows, columns = channels_last(connectivity.out_shape), channels_last(connectivity.in_shape)
            return DensePlan(np.ascontiguousarray(weight[rows][:, columns].T))
        case Skip():
            return SkipPlan(weight)
        case Sparse():
            return _sparse_plan(connectivity, weight)
        case _:
            raise TypeError(f"unknown connectivity {type(connectivity).__name__}")


def row_sums(connectivity: Connectivity, low: float | Array, high: float | Array) -> tuple[Array, Array]:
    """Smallest and largest possible sum of each output channel, for messages in [low, high].

    Exact over the kernel (borders can only shrink it), in float64, fixed order. Weights are read
    where they lie: a copy of those of a large layer would be larger than the layer.

    Args:
        connectivity: its weights may be of any type.
        low: the least of all messages, or (source channels,) of each channel's.
        high: the largest, likewise.
    """
    ends = (np.asarray(end, dtype=np.float64) for end in (low, high))
    lows, highs = (np.broadcast_to(end, connectivity.in_shape[:1]) for end in ends)
    weight = connectivity.weight
    if isinstance(connectivity, Sparse):
        columns, count = connectivity.column_channel(), size(connectivity.out_shape)
        lowest, highest = np.zeros(count), np.zeros(count)
        _add_entry_bounds(connectivity.rows, weight, lows[columns], highs[columns], lowest, highest)
    else:
        groups, columns = column_groups(connectivity)
        if isinstance(connectivity, Pool):
            weight = np.broadcast_to(weight[:, None], (len(weight), size(connectivity.kernel)))
        rows = weight.reshape(groups, -1, columns.shape[1])
        lowest, highest = np.zeros(rows.shape[:2]), np.zeros(rows.shape[:2])
        _add_row_bounds(rows, lows[columns], highs[columns], lowest, highest)
    channels = connectivity.out_shape[0]
    return lowest.reshape(channels, -1).min(axis=1), highest.reshape(channels, -1).max(axis=1)


def largest_products(connectivity: Connectivity, sizes: float | Array = 1.0) -> Array:
    """(output channels,) the largest |weight| times the size of the source channel that it reads, in float64.

    Args:
        connectivity: its weights may be of any type; they are read where they lie.
        sizes: >= 0, of all source channels or (source channels,).
    """
    by_source = np.broadcast_to(np.asarray(sizes, dtype=np.float64), connectivity.in_shape[:1])
    weight = connectivity.weight
    if isinstance(connectivity, Sparse):
        largest = np.zeros(connectivity.out_shape[0])
        products = np.abs(weight) * by_source[connectivity.column_channel()]
        np.maximum.at(largest, connectivity.row_channel(), products)
        return largest
    groups, columns = column_groups(connectivity)
    if isinstance(connectivity, Pool):
        columns = columns[:, :1]
    rows = weight.reshape(groups, -1, columns.shape[1])
    largest = np.zeros(rows.shape[:2])
    _take_largest(rows, by_source[columns], largest)
    return np.asarray(largest.reshape(connectivity.out_shape[0], -1).max(axis=1))


def column_groups(connectivity: Connectivity) -> tuple[int, IndexArray]:
    """The number of groups of rows that read the same channels, and (groups, columns) those channels."""
    channels = connectivity.in_shape[0]
    match connectivity:
        case Dense():
            return 1, connectivity.column_channel()
        case Conv2d(weight=weight, groups=groups):
            taps = weight.shape[2] * weight.shape[3]
            return groups, np.repeat(np.arange(channels).reshape(groups, -1), taps, axis=1)
        case Pool(kernel=kernel):
            return channels, np.repeat(np.arange(channels)[:, None], size(kernel), axis=1)
        case _:
            return channels, np.arange(channels)[:, None]


@compiled()
def _take_largest(weight, sizes, largest):
    for g in range(weight.shape[0]):
        for r in range(weight.shape[1]):
            for k in range(weight.shape[2]):
                largest[g, r] = max(largest[g, r], abs(weight[g, r, k] * sizes[g, k]))


@compiled()
def _add_entry_bounds(rows, weight, low, high, lowest, highest):
    for k in range(rows.shape[0]):
        a, b = weight[k] * low[k], weight[k] * high[k]
        lowest[rows[k]] += min(a, b)
        highest[rows[k]] += max(a, b)


@compiled()
def _add_row_bounds(weight, low, high, lowest, highest):
    for g in range(weight.shape[0]):
        for r in range(weight.shape[1]):
            for k in range(weight.shape[2]):
                a, b = weight[g, r, k] * low[g, k], weight[g, r, k] * high[g, k]
                lowest[g, r] += min(a, b)
                highest[g, r] += max(a, b)
