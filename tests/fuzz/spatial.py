"""Blocks over maps: (N, C, L), (N, C, H, W) and (N, C, D, H, W)."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.fuzz.growth import Block, Growth, Rejected
from tests.fuzz.oracle import Values


def weight_of(g: Growth, array: Values, *, axis: int = 0) -> str:
    """Weights: as floats, or as integers behind a DequantizeLinear."""
    if g.opset >= 10 and g.chance(0.08):
        per_channel = g.opset >= 13 and g.chance(0.6)
        other = tuple(a for a in range(array.ndim) if a != axis) if per_channel else None
        scale = np.maximum(np.abs(array).max(axis=other) / 127, 1e-6).astype(np.float32)
        spread = scale.reshape([-1 if a == axis else 1 for a in range(array.ndim)]) if per_channel else scale
        stored = np.clip(np.rint(array / spread), -128, 127).astype(np.int8)
        zero = np.zeros(scale.shape, dtype=np.int8)
        attributes = {"axis": axis} if per_channel else {}
        names = [g.constant(stored, "q"), g.constant(np.asarray(scale), "scale"), g.constant(zero, "zero")]
        return g.add("DequantizeLinear", names, **attributes)
    return g.constant(array, "w")


def _kernel(g: Growth, sizes: tuple[int, ...], largest: int = 3) -> list[int]:
    return [g.number(1, min(largest, size)) for size in sizes]


def _window(g: Growth, sizes: tuple[int, ...], kernel: list[int], dilations: list[int]) -> dict[str, Any]:
    """Strides, and pads of any kind."""
    strides = [g.number(1, 2) if size > 3 else 1 for size in sizes]
    window: dict[str, Any] = {}
    if max(strides) > 1 or g.chance(0.3):
        window["strides"] = strides
    way = g.rng.random()
    if way < 0.2:
        window["auto_pad"] = g.pick(["SAME_UPPER", "SAME_LOWER", "VALID"])
    elif way < 0.4:
        reach = [d * (k - 1) for d, k in zip(dilations, kernel, strict=True)]
        window["pads"] = [g.number(0, min(r, 3)) for r in reach * 2]
    elif way < 0.85:
        same = [d * (k - 1) // 2 for d, k in zip(dilations, kernel, strict=True)]
        window["pads"] = same * 2
    return window


def _filters(g: Growth, out: int, per_group: int, kernel: list[int]) -> Values:
    """Kernels of random size, some of whose channels are much larger than others or dead."""
    fan_in = per_group * int(np.prod(kernel))
    array = g.floats(out, per_group, *kernel, scale=float((2.0 / fan_in) ** 0.5))
    if g.chance(0.1):
        array *= np.exp(g.floats(out, *[1] * (array.ndim - 1), scale=0.8))
    if g.chance(0.05):
        array[g.number(0, out - 1)] = 0
    return array


def conv(g: Growth, x: str, *, out: int | None = None, keep: bool = False) -> str:
    """A convolution: groups, depthwise, dilations, any padding.

    Args:
        g: grows.
        x: what it reads.
        out: output channels, if they matter.
        keep: the map keeps its size.
    """
    channels, *sizes = g.shape(x)
    groups, made = _groups(g, channels, out)
    kernel = [g.pick([1, 3, 3]) for _ in sizes] if keep else _kernel(g, tuple(sizes), g.pick([2, 3, 3, 5]))
    dilations = [g.pick([1, 1, 1, 2]) for _ in sizes]
    attributes: dict[str, Any] = {"kernel_shape": kernel} if g.chance(0.8) else {}
    if keep:
        attributes["pads"] = [d * (k - 1) // 2 for d, k in zip(dilations, kernel, strict=True)] * 2
    else:
        attributes |= _window(g, tuple(sizes), kernel, dilations)
    if attributes.get("auto_pad", "NOTSET") != "NOTSET":
        dilations = [1] * len(sizes)
    if max(dilations) > 1 or g.chance(0.2):
        attributes["dilations"] = dilations
    if groups > 1 or g.chance(0.2):
        attributes["group"] = groups
    weight = weight_of(g, _filters(g, made, channels // groups, kernel))
    linear = [weight]
    if g.chance(0.7):
        linear.append(g.constant(g.floats(made, scale=0.3), "b"))
    return g.scaled(g.add("Conv", [x, *linear], **attributes), linear)


def _groups(g: Growth, channels: int, out: int | None) -> tuple[int, int]:
    """Groups and output channels."""
    if out is not None:
        common = [n for n in range(1, channels + 1) if channels % n == 0 and out % n == 0]
        return (g.pick(common) if g.chance(0.3) else 1), out
    way = g.rng.random()
    if way < 0.25:
        return channels, channels * g.pick([1, 1, 1, 2])
    groups = g.pick([n for n in range(1, channels + 1) if channels % n == 0]) if way < 0.45 else 1
    return groups, groups * g.number(1, max(8 // groups, 1))


def conv_transpose(g: Growth, x: str) -> str:
    """A transposed convolution: output_padding, output_shape, auto_pad, groups, dilations."""
    channels, *sizes = g.shape(x)
    if max(sizes) > 10:
        raise Rejected("the map is large enough")
    groups = g.pick([n for n in range(1, channels + 1) if channels % n == 0]) if g.chance(0.3) else 1
    made = groups * g.number(1, max(6 // groups, 1))
    kernel = [g.number(1, 3) for _ in sizes]
    strides = [g.number(1, 2) for _ in sizes]
    attributes: dict[str, Any] = {"kernel_shape": kernel, "strides": strides, "group": groups}
    if g.chance(0.2):
        attributes["dilations"] = [g.number(1, 2) for _ in sizes]
    spans = [d * (k - 1) + 1 for d, k in zip(attributes.get("dilations", [1] * len(sizes)), kernel, strict=True)]
    way = g.rng.random()
    if way < 0.4:
        attributes["pads"] = [g.number(0, span - 1) for span in spans * 2]
    elif way < 0.5:
        attributes["auto_pad"] = g.pick(["SAME_UPPER", "SAME_LOWER", "VALID"])
    elif way < 0.6:
        attributes["output_shape"] = [n * s for n, s in zip(sizes, strides, strict=True)]
        attributes["auto_pad"] = g.pick(["SAME_UPPER", "SAME_LOWER"])
    if "output_shape" not in attributes and g.chance(0.3):
        attributes["output_padding"] = [g.number(0, s - 1) for s in strides]
    fan_in = channels // groups * int(np.prod(kernel))
    array = g.floats(channels, made // groups, *kernel, scale=float((2.0 / fan_in) ** 0.5))
    linear = [weight_of(g, array, axis=1) if groups == 1 else g.constant(array, "w")]
    if g.chance(0.6):
        linear.append(g.constant(g.floats(made, scale=0.3), "b"))
    return g.scaled(g.add("ConvTranspose", [x, *linear], **attributes), linear)


def batch_norm(g: Growth, x: str) -> str:
    """Inference-time normalisation with the statistics of the probe, more or less."""
    channels = g.shape(x)[0]
    values = np.moveaxis(g.values[x], 1, 0).reshape(channels, -1)
    mean = values.mean(axis=1) + g.floats(channels, scale=0.1)
    variance = np.maximum(values.var(axis=1), 0.05) * g.rng.uniform(0.7, 1.3, channels)
    scale = g.rng.uniform(0.5, 1.5, channels) * np.where(g.rng.random(channels) < 0.1, -1.0, 1.0)
    arrays = [scale, g.floats(channels, scale=0.3), mean, variance]
    names = [g.constant(np.asarray(array, dtype=np.float32), "bn") for array in arrays]
    attributes: dict[str, Any] = {"epsilon": g.pick([1e-5, 1e-3, 0.1])} if g.chance(0.6) else {}
    if g.chance(0.3):
        attributes["momentum"] = 0.9
    if g.opset < 9 and g.opset > 6 and g.chance(0.3):
        attributes["spatial"] = 1
    return g.add("BatchNormalization", [x, *names], **attributes)


def pool(g: Growth, x: str) -> str:
    """Maximum and average pooling with padding, ceil_mode, dilations, auto_pad."""
    sizes = g.shape(x)[1:]
    op = g.pick(["MaxPool", "AveragePool"])
    kernel = _kernel(g, sizes)
    dilated = g.opset >= (10 if op == "MaxPool" else 19) and g.chance(0.15)
    dilations = [g.number(1, 2) for _ in sizes] if dilated else [1] * len(sizes)
    attributes = {"kernel_shape": kernel, **_window(g, sizes, kernel, [1] * len(sizes))}
    if max(dilations) > 1:
        attributes["dilations"] = dilations
        if g.chance(0.8):  # With both, the reader refuses them by name.
            attributes.pop("pads", None)
            attributes.pop("auto_pad", None)
    if g.opset >= 10 and g.chance(0.3) and "auto_pad" not in attributes and max(dilations) == 1:
        attributes["ceil_mode"] = 1
    if op == "AveragePool" and g.opset >= 7 and g.chance(0.4):
        attributes["count_include_pad"] = g.number(0, 1)
    if op == "MaxPool" and g.opset >= 8 and g.chance(0.1):
        attributes["storage_order"] = 0
    return g.add(op, [x], **attributes)


def global_pool(g: Growth, x: str) -> str:
    """One value per channel: global pools, or a reduction that keeps its axes."""
    rank = len(g.shape(x))
    way = g.rng.random()
    if way < 0.3:
        return g.add("GlobalAveragePool", [x])
    if way < 0.4:
        return g.add("GlobalMaxPool", [x])
    axes = list(range(2, rank + 1))
    if g.chance(0.3):
        axes = [axis - rank - 1 for axis in axes] if g.opset >= 11 else axes
    op = g.pick(["ReduceMean", "ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin"])
    return g.axes(op, x, axes, keepdims=1)


def residual(g: Growth, x: str) -> str:
    """Two paths over one value and their sum, or their difference, mean or maximum."""
    channels = g.shape(x)[0]
    y = x
    for _ in range(g.number(1, 2)):
        y = conv(g, y, out=channels, keep=True)
        if g.chance(0.4):
            y = batch_norm(g, y)
        if g.chance(0.5):
            y = g.add("Relu", [y])
    if g.shape(y) != g.shape(x):
        raise Rejected("the paths differ in shape")
    op = g.pick(["Add", "Add", "Add", "Sum", "Sub", "Mean", "Max", "Min"])
    return g.add(op, [x, y] if g.chance(0.5) else [y, x])


def branches(g: Growth, x: str) -> str:
    """Two or three paths joined along the channels, perhaps with a constant."""
    paths = []
    for _ in range(g.number(2, 3)):
        y = conv(g, x, out=g.number(1, 5), keep=True)
        if g.chance(0.7):
            y = g.add("Relu", [y])
        paths.append(y)
    if g.chance(0.3):
        paths.append(x)
    if g.fixed and g.chance(0.1):
        paths.append(g.constant(np.broadcast_to(g.floats(1, 1, *g.shape(x)[1:]), (g.batch, 1, *g.shape(x)[1:])).copy()))
    if len({g.shape(path)[1:] for path in paths}) > 1:
        raise Rejected("the paths differ in shape")
    rank = len(g.shape(x)) + 1
    return g.add("Concat", paths, axis=1 - rank if g.opset >= 11 and g.chance(0.3) else 1)


def shared(g: Growth, x: str) -> str:
    """One kernel in two convolutions, one behind the other or side by side."""
    channels, *sizes = g.shape(x)
    kernel = [g.pick([1, 3]) for _ in sizes]
    weight = g.constant(_filters(g, channels, channels, kernel), "shared")
    bias = [g.constant(g.floats(channels, scale=0.2), "b")] if g.chance(0.5) else []
    pads = [k // 2 for k in kernel] * 2
    first = g.add("Conv", [x, weight, *bias], pads=pads)
    before = g.add("Relu", [first]) if g.chance(0.8) else first
    second = g.add("Conv", [before, weight, *bias], pads=pads)
    return g.add("Add", [first, second]) if g.chance(0.4) else second


def backwards(g: Growth, x: str) -> str:
    """A long shortcut: joined with or added to a value of long before."""
    shape = g.shape(x)
    older = [t for t in g.trail[:-1] if g.shape(t)[1:] == shape[1:] and t != x]
    if not older:
        raise Rejected("nothing fits")
    other = g.pick(older)
    if g.shape(other) == shape and g.chance(0.6):
        return g.add(g.pick(["Add", "Sub", "Max"]), [x, other])
    return g.add("Concat", [other, x], axis=1)


def gated_mean(g: Growth, x: str) -> str:
    """The mean of a map added to the map: a sum that is broadcast."""
    if g.opset < 7:
        raise Rejected("opset 6 does not broadcast")
    mean = g.add("GlobalAveragePool", [x])
    return g.add(g.pick(["Add", "Sub"]), [x, conv(g, mean, out=g.shape(x)[0], keep=True)])


def conv_relu(g: Growth, x: str) -> str:
    """What networks are mostly made of."""
    y = conv(g, x)
    if g.chance(0.4):
        y = batch_norm(g, y)
    return g.add("Relu", [y])


BLOCKS: tuple[tuple[Block, float], ...] = (
    (conv_relu, 6.0),
    (conv, 1.0),
    (conv_transpose, 1.0),
    (batch_norm, 1.0),
    (pool, 2.0),
    (global_pool, 0.4),
    (residual, 1.5),
    (branches, 1.0),
    (shared, 0.5),
    (backwards, 0.8),
    (gated_mean, 0.3),
)
"""With their weights."""
