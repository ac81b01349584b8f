"""Maxima as ReLUs of differences: ``max(a, b) = a + relu(b - a)``, exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from nmc.ir.connectivity import Array, Connectivity, Shape, Skip, Sparse, sparse_from_synapses
from nmc.ir.layers import Add, Layer, Linear, Op, Relu
from nmc.passes.simplify.rewrite import flat_index, fresh_name, without_tensor
from nmc.passes.simplify.windows import fitted_conv


def taps(shape: Shape, axis: int, weights: dict[int, float], stride: int, count: int) -> Connectivity:
    """Sums of a few elements along one axis of (C, H, W), zeros outside.

    Output element o is the sum over (offset, weight) of ``weight * x[stride * o + offset]``:
    a depthwise convolution, or a `Skip` where it reads each element in its own place.

    Args:
        shape: of the input.
        axis: 1 or 2.
        weights: offset -> weight; offsets may be negative.
        stride: step between the windows.
        count: size of the output along the axis.
    """
    if stride == 1 and count == shape[axis] and set(weights) == {0}:
        return Skip(np.full(shape[0], weights[0]), shape)
    before = max(-min(weights), 0)
    kernel = np.zeros(max(weights) + before + 1)
    for offset, weight in weights.items():
        kernel[offset + before] = weight
    row = axis == 1
    repeated = np.tile(kernel.reshape((1, 1, -1, 1) if row else (1, 1, 1, -1)), (shape[0], 1, 1, 1))
    out = tuple(count if a == axis else n for a, n in enumerate(shape))
    strides, pads = ((stride, 1), (before, 0)) if row else ((1, stride), (0, before))
    return fitted_conv(repeated, shape, strides, pads, (1, 1), shape[0], out)


def edge_extended(shape: Shape, before: tuple[int, int], after: tuple[int, int]) -> Sparse:
    """Height and width continued by the values at the edge."""
    rows, columns = (
        np.clip(np.arange(-before[axis], shape[1 + axis] + after[axis]), 0, shape[1 + axis] - 1) for axis in (0, 1)
    )
    source = flat_index(shape)[:, rows[:, None], columns]
    target = np.arange(source.size)
    ones: Array = np.ones(source.size)
    return sparse_from_synapses(target, source.reshape(-1), ones, shape, source.shape)


class MaximumBuilder:
    """The layers that compute a maximum, under construction.

    Attributes:
        layers: so far; none has a tensor of the ONNX file.
    """

    def __init__(self, layer: Layer, taken: set[str]) -> None:
        self.layers: list[Layer] = []
        self._shapes: dict[str, Shape] = {}
        self._layer = layer
        self._taken = taken

    def know(self, name: str, shape: Shape) -> str:
        """Let a layer outside be read; its name."""
        self._shapes[name] = shape
        return name

    def add(self, suffix: str, op: Op, inputs: tuple[str, ...], shape: Shape) -> str:
        """A new layer; its name."""
        name = fresh_name(f"{self._layer.name}/{suffix}", self._taken)
        self.layers.append(Layer(name, op, inputs, shape, without_tensor(self._layer.origin)))
        return self.know(name, shape)

    def linear(self, suffix: str, connectivity: Connectivity, source: str) -> str:
        """A linear layer without bias; its name."""
        op = Linear(connectivity, np.zeros(connectivity.out_shape[0]))
        return self.add(suffix, op, (source,), connectivity.out_shape)

    def larger(self, first: str, second: str) -> str:
        """``first + relu(second - first)``."""
        shape = self._shapes[first]
        negative = self.linear("negative", Skip(-np.ones(shape[0]), shape), first)
        difference = self.add("difference", Add(), (second, negative), shape)
        return self.add("sum", Add(), (first, self.add("max", Relu(), (difference,), shape)), shape)

    def largest(self, names: Sequence[str]) -> str:
        """The largest of several values, pair by pair: n - 1 ReLUs, ceil(log2(n)) of them one behind the other."""
        while len(names) > 1:
            paired = [self.larger(*names[at : at + 2]) for at in range(0, len(names) - 1, 2)]
            names = [*paired, *names[len(names) - len(names) % 2 :]]
        return names[0]

    def along(self, source: str, axis: int, size: int, stride: int, step: int, start: int, count: int) -> str:
        """The maxima over windows along one axis: over ``x[stride * o + start + step * i]``, i < size.

        What lies outside counts as zero, so it must not be larger than what lies inside:
        the values are never negative, or no window reaches outside. Windows that overlap
        share the maxima of their parts.
        """
        shape = self._shapes[source]
        if size == 1:
            return self.linear("pick", taps(shape, axis, {start: 1.0}, stride, count), source)
        if size == 2:
            difference = self.linear(
                "difference", taps(shape, axis, {start: -1.0, start + step: 1.0}, stride, count), source
            )
            first = self.linear("pick", taps(shape, axis, {start: 1.0}, stride, count), source)
            made = self._shapes[difference]
            return self.add("sum", Add(), (first, self.add("max", Relu(), (difference,), made)), made)
        half = size // 2
        if size % 2 == 0 and stride % (2 * step) == 0:
            # Every window starts where another pair may end: pairs of neighbours, then windows of pairs.
            wide = stride // (2 * step)
            pairs = self.along(source, axis, 2, 2 * step, step, start, (count - 1) * wide + half)
            return self.along(pairs, axis, half, wide, 1, 0, count)
        if size % 2 == 0 and stride <= half:
            pairs = self.along(source, axis, 2, 1, step, start, (count - 1) * stride + (half - 1) * 2 * step + 1)
            return self.along(pairs, axis, half, stride, 2 * step, 0, count)
        part = 1 << ((size - 1).bit_length() - 1)
        first = self.along(source, axis, part, stride, step, start, count)
        second = self.along(source, axis, size - part, stride, step, start + part * step, count)
        return self.larger(first, second)

    def finished(self, *, relay: bool) -> list[Layer]:
        """The layers; the last has the name and origin of the layer they stand for.

        Args:
            relay: end in a ReLU, which changes nothing where no value is negative.
        """
        last = self.layers[-1]
        if relay:
            end = Layer(self._layer.name, Relu(), (last.name,), last.shape, self._layer.origin)
            return [*self.layers, end]
        return [*self.layers[:-1], replace(last, name=self._layer.name, origin=self._layer.origin)]
