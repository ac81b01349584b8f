"""Blocks over vectors (N, F), and the ways there."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.fuzz.growth import Block, Growth, Rejected
from tests.fuzz.spatial import batch_norm, weight_of


def flat(g: Growth, x: str) -> str:
    """Maps to a vector, in one of the ways of the exporters."""
    shape = g.shape(x)
    total = int(np.prod(shape))
    way = g.rng.random()
    if way < 0.3:
        return g.add("Flatten", [x], axis=1) if g.chance(0.5) else g.add("Flatten", [x])
    if way < 0.5:
        return g.add("Reshape", [x, g.integers(0, -1)])
    if way < 0.65:
        return g.add("Reshape", [x, g.integers(-1, total)])
    if way < 0.75 and g.fixed:
        return g.add("Reshape", [x, g.integers(g.batch, g.pick([total, -1]))])
    if way < 0.9 and g.opset >= 7:
        sizes = g.add("Shape", [x])
        first = g.add("Gather", [sizes, g.constant(np.array(0, dtype=np.int64))], axis=0)
        front = g.axes("Unsqueeze", first, [0])
        return g.add("Reshape", [x, g.add("Concat", [front, g.integers(-1)], axis=0)])
    if all(n == 1 for n in shape[1:]) and len(shape) > 1:
        return g.axes("Squeeze", x, list(range(2, len(shape) + 1)))
    axes = list(range(2, len(shape) + 1))
    return g.axes("ReduceMean", x, axes, keepdims=0)


def gemm(g: Growth, x: str) -> str:
    """Gemm with its attributes, or MatMul and a bias."""
    features = g.shape(x)[0]
    made = g.number(1, 10)
    array = g.floats(features, made, scale=float(features**-0.5))
    if g.chance(0.5):
        linear = [weight_of(g, array, axis=1)]
        y = g.add("MatMul", [x, linear[0]])
        if g.chance(0.6) and g.opset >= 7:
            linear.append(g.constant(g.floats(*g.pick([(made,), (1, made)]), scale=0.3)))
            y = g.add("Add", [y, linear[1]] if g.chance(0.7) else [linear[1], y])
        return g.scaled(y, linear) if len(linear) == 1 else y
    attributes: dict[str, Any] = {}
    turned = g.chance(0.5)
    if turned:
        attributes["transB"] = 1
    if g.chance(0.3):
        attributes["alpha"] = g.pick([0.5, 1.0, 2.0])
    linear = [weight_of(g, np.ascontiguousarray(array.T) if turned else array, axis=0 if turned else 1)]
    if g.opset < 11 or g.chance(0.8):
        form = g.pick([(made,), (1, made), (1,), ()]) if g.opset >= 7 else (made,)
        linear.append(g.constant(g.floats(*form, scale=0.3), "b"))
        if g.chance(0.2):
            attributes["beta"] = g.pick([0.5, 1.0, 0.0])
    return g.scaled(g.add("Gemm", [x, *linear], **attributes), linear)


def gemm_relu(g: Growth, x: str) -> str:
    y = gemm(g, x)
    if g.chance(0.2):
        y = batch_norm(g, y)
    return g.add("Relu", [y])


def dense_residual(g: Growth, x: str) -> str:
    """A shortcut around a dense layer."""
    features = g.shape(x)[0]
    weight = g.constant(g.floats(features, features, scale=features**-0.5), "w")
    y = g.add("Relu", [g.add("MatMul", [x, weight])])
    return g.add(g.pick(["Add", "Sub", "Max"]), [x, y])


def dense_join(g: Growth, x: str) -> str:
    """Two dense paths joined."""
    return g.add("Concat", [gemm(g, x), gemm_relu(g, x)], axis=g.pick([1, -1]) if g.opset >= 11 else 1)


def as_maps(g: Growth, x: str) -> str:
    """A vector seen as maps: reshaped, convolved, flattened again."""
    features = g.shape(x)[0]
    if features % 4 or features > 256:
        raise Rejected("does not divide")
    maps = g.add("Reshape", [x, g.integers(0, features // 4, 2, 2)])
    weight = g.constant(g.floats(3, features // 4, 2, 2, scale=float(features**-0.5)), "w")
    y = g.add("Conv", [maps, weight], pads=[0, 1, 0, 0])
    return g.add("Flatten", [g.add("Relu", [y])])


BLOCKS: tuple[tuple[Block, float], ...] = (
    (gemm_relu, 4.0),
    (gemm, 0.7),
    (batch_norm, 0.3),
    (dense_residual, 0.7),
    (dense_join, 0.5),
    (as_maps, 0.3),
)
"""With their weights."""
