"""Connectivity is an operator: all synapses between two populations, never a list of them.

Every class maps messages of shape ``in_shape`` to sums of shape ``out_shape``, both
without the batch axis. Weights are float64 before quantization and int64 after it;
the operators do not care. Channel means axis 0 of a shape.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np

Shape = tuple[int, ...]
# Spelled out: numpy's NDArray is no plain class in every version, and ir/serial.py reads these types.
Array = np.ndarray[tuple[Any, ...], np.dtype[Any]]
"""Integers (int64) after quantization, float64 before it."""
IndexArray = np.ndarray[tuple[Any, ...], np.dtype[np.int64]]


@runtime_checkable
class Connectivity(Protocol):
    """What every operator offers."""

    @property
    def weight(self) -> Array: ...
    @property
    def in_shape(self) -> Shape: ...
    @property
    def out_shape(self) -> Shape: ...
    def with_weight(self, weight: Array) -> Self:
        """The same operator with other weights (same array shape)."""
        ...

    def synapses(self) -> tuple[IndexArray, IndexArray, Array]:
        """(target, source, weight) of every synapse, flat C-order indices, zero weights dropped.

        Large: for tests, small networks and export only.
        """
        ...

    def row_channel(self) -> IndexArray:
        """For each entry of ``weight``, broadcastable to it: the output channel it feeds."""
        ...

    def column_channel(self) -> IndexArray:
        """For each entry of ``weight``, broadcastable to it: the input channel it reads."""
        ...


def size(shape: Shape) -> int:
    """Number of elements of a shape."""
    return math.prod(shape)


@dataclass(frozen=True, eq=False)
class Dense:
    """Every source to every target. ``weight`` (out, in), over C-order flat neurons."""

    weight: Array
    in_shape: Shape
    out_shape: Shape

    def with_weight(self, weight: Array) -> Dense:
        return replace(self, weight=weight)

    def synapses(self) -> tuple[IndexArray, IndexArray, Array]:
        target, source = np.nonzero(self.weight)
        return target, source, self.weight[target, source]

    def row_channel(self) -> IndexArray:
        per = size(self.out_shape) // self.out_shape[0]
        return (np.arange(size(self.out_shape)) // per)[:, None]

    def column_channel(self) -> IndexArray:
        per = size(self.in_shape) // self.in_shape[0]
        return (np.arange(size(self.in_shape)) // per)[None, :]


@dataclass(frozen=True, eq=False)
class Conv2d:
    """Correlation as in ONNX. ``weight`` (out, in / groups, kh, kw), shapes (C, H, W).

    Attributes:
        stride, dilation: (y, x).
        pads: zeros before and after: (top, left, bottom, right), each >= 0.
    """

    weight: Array
    in_shape: Shape
    stride: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    @cached_property
    def out_shape(self) -> Shape:
        _, height, width = self.in_shape
        out, _, kh, kw = self.weight.shape
        top, left, bottom, right = self.pads
        span_y = self.dilation[0] * (kh - 1) + 1
        span_x = self.dilation[1] * (kw - 1) + 1
        return (
            out,
            (height + top + bottom - span_y) // self.stride[0] + 1,
            (width + left + right - span_x) // self.stride[1] + 1,
        )

    def with_weight(self, weight: Array) -> Conv2d:
        return replace(self, weight=weight)

    def synapses(self) -> tuple[IndexArray, IndexArray, Array]:
        o, i, p, q = np.nonzero(self.weight)
        values = self.weight[o, i, p, q]
        out, out_h, out_w = self.out_shape
        chans, height, width = self.in_shape
        source_channel = (o // (out // self.groups)) * (chans // self.groups) + i
        y, x = np.meshgrid(np.arange(out_h), np.arange(out_w), indexing="ij")
        in_y = y[None] * self.stride[0] + (p * self.dilation[0] - self.pads[0])[:, None, None]
        in_x = x[None] * self.stride[1] + (q * self.dilation[1] - self.pads[1])[:, None, None]
        inside = (in_y >= 0) & (in_y < height) & (in_x >= 0) & (in_x < width)
        target = (o[:, None, None] * out_h + y[None]) * out_w + x[None]
        source = (source_channel[:, None, None] * height + in_y) * width + in_x
        weights = np.broadcast_to(values[:, None, None], inside.shape)
        return target[inside], source[inside], weights[inside]

    def row_channel(self) -> IndexArray:
        return np.arange(self.weight.shape[0])[:, None, None, None]

    def column_channel(self) -> IndexArray:
        out, per_group = self.weight.shape[:2]
        group = np.arange(out) // (out // self.groups)
        channels: IndexArray = group[:, None] * per_group + np.arange(per_group)[None, :]
        return channels[:, :, None, None]


@dataclass(frozen=True, eq=False)
class Pool:
    """The sum over a window of one channel times that channel's weight. ``weight`` (C,).

    Average pooling has weight 1 / (kh * kw). Zeros outside the input count as inputs.
    """

    weight: Array
    in_shape: Shape
    kernel: tuple[int, int]
    stride: tuple[int, int]
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)

    def as_conv(self) -> Conv2d:
        """The same operator as a depthwise convolution."""
        chans = self.in_shape[0]
        weight = np.broadcast_to(self.weight[:, None, None, None], (chans, 1, *self.kernel))
        return Conv2d(weight, self.in_shape, self.stride, self.pads, (1, 1), chans)

    @cached_property
    def out_shape(self) -> Shape:
        return self.as_conv().out_shape

    def with_weight(self, weight: Array) -> Pool:
        return replace(self, weight=weight)

    def synapses(self) -> tuple[IndexArray, IndexArray, Array]:
        return self.as_conv().synapses()

    def row_channel(self) -> IndexArray:
        return np.arange(self.in_shape[0])

    def column_channel(self) -> IndexArray:
        return np.arange(self.in_shape[0])


@dataclass(frozen=True, eq=False)
class Skip:
    """One to one: neuron i to neuron i, times the weight of its channel. ``weight`` (C,)."""

    weight: Array
    in_shape: Shape

    @property
    def out_shape(self) -> Shape:
        return self.in_shape

    def with_weight(self, weight: Array) -> Skip:
        return replace(self, weight=weight)

    def synapses(self) -> tuple[IndexArray, IndexArray, Array]:
        per = size(self.in_shape) // self.in_shape[0]
        values = np.repeat(self.weight, per)
        index = np.flatnonzero(values)
        return index, index, values[index]

    def row_channel(self) -> IndexArray:
        return np.arange(self.in_shape[0])

    def column_channel(self) -> IndexArray:
        return np.arange(self.in_shape[0])


@dataclass(frozen=True, eq=False)
class Sparse:
    """Irregular synapses as CSR over targets. ``weight`` (nnz,), in row order.

    Attributes:
        indptr: (size(out_shape) + 1,) int64.
        indices: (nnz,) int64 flat source neurons, ascending within a row, no duplicates.
    """

    weight: Array
    indptr: IndexArray
    indices: IndexArray
    in_shape: Shape
    out_shape: Shape

    @cached_property
    def rows(self) -> IndexArray:
        """(nnz,) the flat target neuron of each entry."""
        rows: IndexArray = np.repeat(np.arange(size(self.out_shape)), np.diff(self.indptr))
        return rows

    def with_weight(self, weight: Array) -> Sparse:
        return replace(self, weight=weight)

    def synapses(self) -> tuple[IndexArray, IndexArray, Array]:
        keep = np.flatnonzero(self.weight)
        return self.rows[keep], self.indices[keep], self.weight[keep]

    def row_channel(self) -> IndexArray:
        return self.rows // (size(self.out_shape) // self.out_shape[0])

    def column_channel(self) -> IndexArray:
        return self.indices // (size(self.in_shape) // self.in_shape[0])


def sparse_from_synapses(
    target: IndexArray, source: IndexArray, weight: Array, in_shape: Shape, out_shape: Shape
) -> Sparse:
    """A `Sparse` from synapses in any order; equal (target, source) pairs are added."""
    key = target.astype(np.int64) * size(in_shape) + source
    order = np.argsort(key, kind="stable")
    key, weight = key[order], weight[order]
    first = np.flatnonzero(np.diff(key, prepend=-1))
    summed = np.add.reduceat(weight, first) if len(key) else weight
    rows, columns = key[first] // size(in_shape), key[first] % size(in_shape)
    indptr = np.zeros(size(out_shape) + 1, dtype=np.int64)
    np.cumsum(np.bincount(rows, minlength=size(out_shape)), out=indptr[1:])
    return Sparse(summed, indptr, columns.astype(np.int64), in_shape, out_shape)
