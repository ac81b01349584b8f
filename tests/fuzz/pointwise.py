"""Blocks that treat each value by itself, and those that only move values."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from tests.fuzz.growth import Block, Growth, Rejected


def activation(g: Growth, x: str) -> str:
    """Everything piecewise linear."""
    op = g.pick(["Relu"] * 6 + ["Clip", "Clip", "LeakyRelu", "PRelu", "HardSigmoid", "Abs", "Neg", "Max", "Min"])
    match op:
        case "Clip":
            return clip(g, x)
        case "LeakyRelu":
            return g.add(op, [x], alpha=g.pick([0.01, 0.1, 0.3, 1.5]))
        case "PRelu":
            return _prelu(g, x)
        case "HardSigmoid":
            return g.add(op, [x], alpha=0.25, beta=0.4) if g.chance(0.5) else g.add(op, [x])
        case "Max" | "Min":
            if g.opset < 8:
                raise Rejected("no broadcasting yet")
            return g.add(op, [x, g.constant(np.array(g.rng.normal() * 0.3, dtype=np.float32))])
        case _:
            return g.add(op, [x])


def clip(g: Growth, x: str) -> str:
    """ReLU6, hard tanh, a floor or a ceiling."""
    low, high = g.pick([(0.0, 6.0), (0.0, 1.0), (-1.0, 1.0), (None, 0.8), (-0.5, None), (0.2, 1.4), (-1.5, -0.1)])
    if g.opset < 11:
        given = {name: value for name, value in (("min", low), ("max", high)) if value is not None}
        return g.add("Clip", [x], **given)
    names = [g.constant(np.array(v, dtype=np.float32)) if v is not None else "" for v in (low, high)]
    return g.add("Clip", [x, *names] if names[1] else [x, names[0]])


def _prelu(g: Growth, x: str) -> str:
    shape = g.shape(x)
    if g.opset < 7:
        raise Rejected("another broadcasting")
    slope = g.pick([(1,), (shape[0], *[1] * (len(shape) - 1))])
    return g.add("PRelu", [x, g.constant(g.rng.uniform(-0.2, 0.5, slope).astype(np.float32), "slope")])


def smooth(g: Growth, x: str) -> str:
    """What is only approximated."""
    g.approximated = True
    op = g.pick(["Tanh", "Sigmoid", "Elu", "Softplus"])
    return g.add(op, [x])


def arithmetic(g: Growth, x: str) -> str:
    """A constant added, subtracted, multiplied or divided: a number, one per channel, or a full map."""
    shape = g.shape(x)
    rank = len(shape)
    if g.opset < 7:
        raise Rejected("opset 6 says how it broadcasts")
    form = g.pick([(), (1,), (shape[0], *[1] * (rank - 1)), (1, shape[0], *[1] * (rank - 1)), shape, (shape[-1],)])
    op = g.pick(["Add", "Sub", "Mul", "Div"])
    values = g.rng.normal(size=form) * 0.5
    if op in ("Mul", "Div"):
        values = g.rng.uniform(0.5, 1.6, size=form) * np.where(g.rng.random(form) < 0.15, -1, 1)
    constant = g.constant(np.asarray(values, dtype=np.float32))
    return g.add(op, [constant, x] if op != "Div" and g.chance(0.4) else [x, constant])


def nothing(g: Growth, x: str) -> str:
    """Nodes that change nothing."""
    op = g.pick(["Identity", "Dropout", "Cast", "Dropout"])
    if op == "Cast":
        double = g.add("Cast", [x], to=onnx.TensorProto.DOUBLE)
        return g.add("Cast", [double], to=onnx.TensorProto.FLOAT)
    if op == "Dropout" and g.opset < 12 and g.chance(0.6):
        return g.add(op, [x], ratio=0.4)
    if op == "Dropout" and g.opset >= 12 and g.chance(0.5):
        return g.add(op, [x, g.constant(np.array(0.3, dtype=np.float32))])
    return g.add(op, [x])


def quantized(g: Growth, x: str) -> str:
    """QuantizeLinear and DequantizeLinear, as quantizing exporters write them."""
    if g.opset < 10:
        raise Rejected("no such operators yet")
    values = g.values[x]
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.1)
    kind = g.pick([np.uint8, np.int8])
    limits = np.iinfo(kind)
    scale = np.float32((high - low) / 255 * g.pick([1.0, 0.8]))
    zero = np.clip(np.rint(limits.min - low / scale), limits.min, limits.max).astype(kind)
    steps = [g.constant(np.array(scale), "scale"), g.constant(np.array(zero), "zero")]
    g.quantized = True
    made = g.add("QuantizeLinear", [x, *steps])
    return g.add("DequantizeLinear", [made, *steps])


def pad(g: Growth, x: str) -> str:
    """Zeros, other constants, edges and reflections; negative pads crop."""
    shape = g.shape(x)
    mode = g.pick(["constant"] * 4 + ["edge", "reflect"])
    least = -1 if mode == "constant" and g.chance(0.3) else 0
    inner = [g.number(least if n > 3 else 0, min(2, n - 1)) for n in shape[1:] * 2]
    rank = len(shape) - 1
    pads = [0, 0, *inner[:rank], 0, 0, *inner[rank:]]
    value = g.pick([0.0, 0.0, 0.0, 0.7, -0.4]) if mode == "constant" else 0.0
    if g.opset < 11:
        attributes: dict[str, Any] = {"pads": pads, "mode": mode}
        if value:
            attributes["value"] = value
        return g.add("Pad", [x], **attributes)
    inputs = [x, g.integers(*pads)]
    if g.opset >= 18 and g.chance(0.3):
        filler = g.constant(np.array(value, dtype=np.float32))
        inputs = [x, g.integers(*inner), filler, g.integers(*range(2, rank + 2))]
    elif value or g.chance(0.2):
        inputs.append(g.constant(np.array(value, dtype=np.float32)))
    return g.add("Pad", inputs, mode=mode)


def cut(g: Growth, x: str) -> str:
    """A slice with bounds from the front or the end, and steps."""
    shape = g.shape(x)
    axis = g.number(1, len(shape))
    size = shape[axis - 1]
    if size < 2:
        raise Rejected("nothing to cut")
    start = g.number(0, size - 2)
    stop = g.number(start + 1, size)
    step = g.pick([1, 1, 2]) if g.opset >= 10 else 1
    first = start - size if g.chance(0.3) else start
    last = g.pick([stop, np.iinfo(np.int64).max]) if stop == size else stop
    if g.opset < 10:
        return g.add("Slice", [x], starts=[first], ends=[int(last)], axes=[axis])
    lists = [g.integers(first), g.integers(int(last)), g.integers(axis)]
    return g.add("Slice", [x, *lists, *([g.integers(step)] if step > 1 else [])])


def split(g: Growth, x: str) -> str:
    """Channels split, some of them treated, and joined in another order."""
    channels = g.shape(x)[0]
    if channels < 2:
        raise Rejected("nothing to split")
    first = g.number(1, channels - 1)
    parts = [first, channels - first]
    even = channels % 2 == 0 and g.chance(0.5)
    if even:
        parts = [channels // 2] * 2
    if g.opset >= 18 and even:
        made = g.add_all("Split", [x], 2, axis=1, num_outputs=2)
    elif g.opset >= 13:
        made = g.add_all("Split", [x, g.integers(*parts)], 2, axis=1)
    else:
        made = g.add_all("Split", [x], 2, axis=1, **({} if even else {"split": parts}))
    if g.chance(0.6):
        made[0] = g.add("Relu", [made[0]])
    if g.chance(0.3):
        return made[g.number(0, 1)]
    return g.add("Concat", made[::-1] if g.chance(0.6) else made, axis=1)


def gather(g: Growth, x: str) -> str:
    """Constant places along one axis."""
    shape = g.shape(x)
    axis = g.number(1, len(shape))
    size = shape[axis - 1]
    places = g.rng.permutation(size)[: g.number(1, size)].astype(np.int64)
    return g.add("Gather", [x, g.constant(places, "places")], axis=axis)


def channel_shuffle(g: Growth, x: str) -> str:
    """Reshape, Transpose, Reshape."""
    channels, *sizes = g.shape(x)
    groups = [n for n in range(2, channels) if channels % n == 0]
    if not groups:
        raise Rejected("a prime number of channels")
    n = g.pick(groups)
    batch = g.pick([0, g.batch if g.fixed else 0])
    rank = len(sizes) + 3
    parted = g.add("Reshape", [x, g.integers(batch, n, channels // n, *sizes)])
    turned = g.add("Transpose", [parted], perm=[0, 2, 1, *range(3, rank)])
    return g.add("Reshape", [turned, g.integers(batch, channels, *sizes)])


def channels_last(g: Growth, x: str) -> str:
    """A transposition, something in the other layout, and back."""
    rank = len(g.shape(x)) + 1
    moved = g.add("Transpose", [x], perm=[0, *range(2, rank), 1])
    if g.chance(0.5) and g.opset >= 7:
        channels = g.shape(moved)[-1]
        matrix = g.constant(g.floats(channels, g.number(1, 6), scale=channels**-0.5), "w")
        moved = g.add("MatMul", [moved, matrix])
        if g.chance(0.6):
            moved = g.add("Add", [moved, g.constant(g.floats(g.shape(moved)[-1], scale=0.3))])
    if g.chance(0.6):
        moved = g.add("Relu", [moved])
    return g.add("Transpose", [moved], perm=[0, rank - 1, *range(1, rank - 1)])


def resize(g: Growth, x: str) -> str:
    """Larger maps: nearest and linear, by scales or by sizes."""
    _, *sizes = g.shape(x)
    if g.opset < 7 or max(sizes) > 8 or len(sizes) > 2:
        raise Rejected("not here")
    mode = "nearest" if g.chance(0.6) else "linear"
    factors = [g.pick([1, 2, 2, 3]) for _ in sizes]
    scales = np.array([1, 1, *factors], dtype=np.float32)
    if g.opset < 9:
        return g.add("Upsample", [x], mode=mode, scales=[float(s) for s in scales])
    if g.opset < 11:
        return g.add("Upsample" if g.opset == 9 else "Resize", [x, g.plain(scales)], mode=mode)
    transformation = g.pick(["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"])
    attributes: dict[str, Any] = {"mode": mode, "coordinate_transformation_mode": transformation}
    if mode == "nearest":
        attributes["nearest_mode"] = g.pick(["floor", "ceil", "round_prefer_floor", "round_prefer_ceil"])
    if g.fixed and g.opset >= 13 and g.chance(0.3):
        wanted = [g.batch, g.shape(x)[0], *(n * f for n, f in zip(sizes, factors, strict=True))]
        return g.add("Resize", [x, "", "", g.integers(*wanted)], **attributes)
    return g.add("Resize", [x, "", g.plain(scales)] if g.opset >= 13 else _old_resize(g, x, scales), **attributes)


def _old_resize(g: Growth, x: str, scales: Any) -> list[str]:
    """Resize of opset 11 wants a region of interest, even an empty one."""
    return [x, g.plain(np.zeros(0, dtype=np.float32)), g.plain(scales)]


def depth_and_space(g: Growth, x: str) -> str:
    """DepthToSpace and SpaceToDepth."""
    shape = g.shape(x)
    if len(shape) != 3:
        raise Rejected("images only")
    if shape[0] % 4 == 0 and max(shape[1:]) <= 6:
        mode = {"mode": g.pick(["DCR", "CRD"])} if g.opset >= 11 else {}
        return g.add("DepthToSpace", [x], blocksize=2, **mode)
    if shape[1] % 2 or shape[2] % 2:
        raise Rejected("does not divide")
    return g.add("SpaceToDepth", [x], blocksize=2)


def squeezed(g: Growth, x: str) -> str:
    """An axis of size 1 that comes and goes."""
    rank = len(g.shape(x)) + 1
    axis = g.number(1, rank)
    return g.axes("Squeeze", g.axes("Unsqueeze", x, [axis]), [axis])


def spread(g: Growth, x: str) -> str:
    """Expand and Tile: copies along the axes behind the batch."""
    shape = g.shape(x)
    if g.chance(0.5) and g.opset >= 8 and min(shape[1:], default=2) == 1:
        wanted = [1, *(n if n > 1 else g.number(1, 3) for n in shape)]
        return g.add("Expand", [x, g.integers(*wanted)])
    repeats = [1, *(g.number(1, 2) for _ in shape)]
    if int(np.prod(shape)) > 600:
        raise Rejected("large enough")
    return g.add("Tile", [x, g.integers(*repeats)])


POINTWISE: tuple[tuple[Block, float], ...] = ((activation, 2.0), (arithmetic, 0.7), (nothing, 0.5), (quantized, 0.2))
"""For values of any shape, with their weights."""

MOVES: tuple[tuple[Block, float], ...] = (
    (pad, 0.7),
    (cut, 0.5),
    (split, 0.5),
    (gather, 0.3),
    (channel_shuffle, 0.5),
    (channels_last, 0.4),
    (resize, 0.6),
    (depth_and_space, 0.4),
    (squeezed, 0.2),
    (spread, 0.2),
    (smooth, 0.1),
)
"""For maps, with their weights."""
