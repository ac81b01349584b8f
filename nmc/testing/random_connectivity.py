"""Random connectivity operators: every kind, every option, even weights."""

from __future__ import annotations

import numpy as np

from nmc.ir.connectivity import (
    Array,
    Connectivity,
    Conv2d,
    Dense,
    Pool,
    Shape,
    Skip,
    Sparse,
    size,
    sparse_from_synapses,
)


def random_weights(rng: np.random.Generator, shape: Shape, low: int = 0) -> Array:
    """Even weights in [-254, 254], a few of them zero; magnitudes at least ``low``."""
    top = int(rng.choice([4, 40, 127]))
    magnitude = rng.integers(max(low // 2, 1), top + 1, size=shape) * 2
    sign = np.where(rng.random(shape) < 0.6, 1, -1)
    zero = rng.random(shape) < (0.0 if low else 0.15)
    weight: Array = np.where(zero, 0, sign * magnitude).astype(np.int64)
    return weight


def lighter(rng: np.random.Generator, connectivity: Connectivity) -> Connectivity:
    """The connectivity with weights of 2 and -2, about four for each target."""
    weight = connectivity.weight
    keep = rng.random(weight.shape) < 4 / (weight[0].size if weight.ndim > 1 else 1)
    return connectivity.with_weight(2 * np.sign(weight) * keep)


def random_shape(rng: np.random.Generator, like: Shape) -> Shape:
    """A small shape; flat wherever ``like`` is."""
    if len(like) == 3 and rng.random() < 0.6:
        return (int(rng.integers(1, 6)), int(rng.integers(2, 5)), int(rng.integers(2, 5)))
    return (int(rng.integers(8, 40)),)


def random_dense(rng: np.random.Generator, source: Shape, target: Shape) -> Connectivity:
    """All to all."""
    return Dense(random_weights(rng, (size(target), size(source))), source, target)


def random_sparse(rng: np.random.Generator, source: Shape, target: Shape) -> Sparse:
    """Three to eight synapses per target, at random."""
    count = int(rng.integers(3, 9)) * size(target)
    rows, columns = rng.integers(0, size(target), count), rng.integers(0, size(source), count)
    both = np.unique(rows * size(source) + columns)
    weight = random_weights(rng, (len(both),))
    return sparse_from_synapses(both // size(source), both % size(source), weight, source, target)


def random_conv(rng: np.random.Generator, source: Shape, *, depthwise: bool = False) -> Conv2d:
    """A convolution with random kernel, stride, dilation, pads and groups; at most 120 targets."""
    channels, height, width = source
    for _ in range(50):
        kernel = rng.integers(1, 4, size=2)
        stride, dilation = rng.integers(1, 3, size=2), rng.integers(1, 3, size=2)
        pads = rng.integers(0, 3, size=4)
        groups = channels if depthwise else int(rng.choice([g for g in range(1, channels + 1) if channels % g == 0]))
        out = groups * int(rng.integers(1, max(2, 8 // groups)))
        spans = dilation * (kernel - 1) + 1
        room = np.array([height + pads[0] + pads[2], width + pads[1] + pads[3]]) - spans
        if min(room) < 0 or out * np.prod(room // stride + 1) > 120 or np.prod(room // stride + 1) < 2:
            continue
        weight = random_weights(rng, (out, channels // groups, int(kernel[0]), int(kernel[1])))
        return Conv2d(weight, source, _pair(stride), _four(pads), _pair(dilation), groups)
    return Conv2d(random_weights(rng, (2, channels, 1, 1)), source, (2, 2))


def random_pool(rng: np.random.Generator, source: Shape) -> Connectivity:
    """A pool, or a one-to-one connectivity where the source is too small."""
    if min(source[1:]) < 3:
        return Skip(random_weights(rng, (source[0],), low=2), source)
    weight = np.abs(random_weights(rng, (source[0],), low=2))
    stride, pads = rng.integers(1, 3, size=2), rng.integers(0, 2, size=4)
    kernel = rng.integers(2, 4, size=2)
    return Pool(weight, source, _pair(kernel), _pair(stride), _four(pads))


def _pair(values: Array) -> tuple[int, int]:
    return int(values[0]), int(values[1])


def _four(values: Array) -> tuple[int, int, int, int]:
    return int(values[0]), int(values[1]), int(values[2]), int(values[3])
