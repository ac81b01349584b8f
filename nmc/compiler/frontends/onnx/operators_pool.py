"""Importers of the operators that pool."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from nmc.compiler.frontends.onnx.importer import GraphBuilder
from nmc.compiler.frontends.onnx.node import Node, Refusal
from nmc.compiler.frontends.onnx.operators_move import copying
from nmc.compiler.frontends.onnx.operators_resize import along_axes
from nmc.compiler.frontends.onnx.window import ImageView, Window, WindowAxis, resolve_axes
from nmc.ir.connectivity import Conv2d, Shape, size
from nmc.ir.layers import AveragePool, Linear, Maximum, MaxPool, Op

GLOBAL_WINDOW_MAX = 256
"""Values of a map under a global maximum: each but one takes a neuron."""


def import_average_pool(node: Node, graph: GraphBuilder) -> None:
    """1-D to 3-D; any padding, auto_pad, ceil_mode, count_include_pad, dilations."""
    counts = bool(node.integer("count_include_pad", 0))
    view, axes = ImageView(node, graph), _axes(node, graph)
    dilations = [axis.dilation for axis in axes]
    if max(dilations) == 1:
        _pool(node, view, axes, lambda w, _: AveragePool(w.kernel, w.stride, w.pads, counts))
        return
    if node.integer("ceil_mode", 0) or (not counts and any(axis.before or axis.after for axis in axes)):
        _uneven_mean(node, graph, axes, counts)
        return
    _pool(node, view, axes, _dilated_mean)


def _dilated_mean(window: Window, shape: Shape) -> Linear:
    weight = np.full((shape[0], 1, *window.kernel), 1.0 / size(window.kernel))
    conv = Conv2d(weight, shape, window.stride, window.pads, window.dilation, shape[0])
    return Linear(conv, np.zeros(shape[0]))


def _uneven_mean(node: Node, graph: GraphBuilder, axes: tuple[WindowAxis, ...], counts: bool) -> None:
    """A mean over windows of different size: what a window counts is a product over its axes."""
    channels = graph.activation(node, 0)[0]
    maps = [np.eye(channels)]
    for axis in axes:
        windows = axis.count(ceil=bool(node.integer("ceil_mode", 0)))
        places = np.arange(windows)[:, None] * axis.stride - axis.before + np.arange(axis.kernel) * axis.dilation
        inside = (places >= 0) & (places < axis.size)
        counted = (places >= -axis.before) & (places < axis.size + axis.after) if counts else inside
        rows, taps = np.nonzero(inside)
        matrix = np.zeros((windows, axis.size))
        matrix[rows, places[rows, taps]] = 1.0 / counted.sum(axis=1)[rows]
        maps.append(matrix)
    mean = along_axes(maps)
    graph.add(node, Linear(mean, np.zeros(channels)), (node.input(0),), mean.out_shape)


def import_max_pool(node: Node, graph: GraphBuilder) -> None:
    """1-D to 3-D; any padding, auto_pad, ceil_mode, dilations: n - 1 ReLUs of differences for a window of n values."""
    if any(graph.is_used(name) for name in node.proto.output[1:] if name):
        raise Refusal(
            "operator-unsupported", "the indices of the maxima are used", "end the model before the unpooling"
        )
    view, axes = ImageView(node, graph), _axes(node, graph)
    dilations = [axis.dilation for axis in axes]
    if max(dilations) > 1 and (any(a.before or a.after for a in axes) or node.integer("ceil_mode", 0)):
        _largest_of_taps(node, graph, axes)
        return
    _pool(node, view, axes, lambda w, _: MaxPool(w.kernel, w.stride, w.pads, w.dilation))


def _largest_of_taps(node: Node, graph: GraphBuilder, axes: tuple[WindowAxis, ...]) -> None:
    """A maximum over windows that reach outside: axis by axis the largest of the taps.

    A tap outside reads what the first tap inside reads, which changes no maximum.
    """
    source, shape = node.input(0), graph.activation(node, 0)
    for number, axis in enumerate(axes, start=1):
        windows = axis.count(ceil=bool(node.integer("ceil_mode", 0)))
        places = np.arange(windows)[:, None] * axis.stride - axis.before + np.arange(axis.kernel) * axis.dilation
        inside = (places >= 0) & (places < axis.size)
        if not inside.any(axis=1).all():
            raise Refusal(
                "operator-unsupported",
                "a window lies in the padding only",
                "use a pooling without dilation, or padding",
            )
        first = np.take_along_axis(places, inside.argmax(axis=1)[:, None], axis=1)
        taps = np.where(inside, places, first).T
        made = (*shape[:number], windows, *shape[number + 1 :])
        elements = np.arange(size(shape)).reshape(shape)
        copies = [Linear(copying(elements.take(tap, axis=number), shape), np.zeros(shape[0])) for tap in taps]
        largest: Op = copies[0]
        names: tuple[str, ...] = (source,)
        if len(copies) > 1:
            largest = Maximum()
            names = tuple(graph.add_inner(node, f"tap{number}", copy, (source,), made) for copy in copies)
        if number == len(axes):
            graph.add(node, largest, names, made)
        else:
            source, shape = graph.add_inner(node, f"largest{number}", largest, names, made), made


def _axes(node: Node, graph: GraphBuilder) -> tuple[WindowAxis, ...]:
    """The windows of a pooling."""
    sizes = graph.activation(node, 0)[1:]
    axes = resolve_axes(node, sizes, node.integers("kernel_shape", (0,)))
    if any(max(axis.before, axis.after) >= axis.kernel for axis in axes):
        pads = [*(axis.before for axis in axes), *(axis.after for axis in axes)]
        kernel = [axis.kernel for axis in axes]
        raise Refusal("shape-invalid", f"pads {pads} must be smaller than the kernel {kernel}")
    return axes


def _pool(node: Node, view: ImageView, axes: tuple[WindowAxis, ...], op: Callable[[Window, Shape], Op]) -> None:
    """Pool with the layer that ``op`` makes of a window over an image.

    A volume is pooled over its slices first, then over the depth of (C, D, H * W).
    """
    counts = tuple(axis.count(ceil=bool(node.integer("ceil_mode", 0))) for axis in axes)
    channels = view.shape[0]
    if len(axes) < 3:
        y, x = (WindowAxis(1), *axes)[-2:]
        image = (channels, *(1, *view.sizes)[-2:])
        view.finish(op(Window.of(y, x), image), (channels, *(1, *counts)[-2:]), (channels, *counts))
        return
    depth, y, x = axes
    slices = (channels * depth.size, *view.sizes[1:])
    view.apply("slices", op(Window.of(y, x), slices), (slices[0], *counts[1:]))
    seen = (channels, depth.size, counts[1] * counts[2])
    view.reshape(seen)
    view.finish(
        op(Window.of(depth, WindowAxis(seen[2])), seen),
        (channels, counts[0], counts[1] * counts[2]),
        (channels, *counts),
    )


def import_global_average_pool(node: Node, graph: GraphBuilder) -> None:
    """1-D to 3-D."""
    _global(node, graph, lambda whole: AveragePool(whole, whole))


def import_global_max_pool(node: Node, graph: GraphBuilder) -> None:
    """1-D to 3-D, over maps of up to 256 values."""
    _global(node, graph, largest)


def largest(whole: tuple[int, int]) -> MaxPool:
    """The maximum over a whole map.

    Raises:
        Refusal: it has more than `GLOBAL_WINDOW_MAX` values.
    """
    if size(whole) > GLOBAL_WINDOW_MAX:
        raise Refusal(
            "operator-unsupported",
            f"a maximum over {whole[0]} x {whole[1]} = {size(whole)} values, the limit is {GLOBAL_WINDOW_MAX}",
            "pool in steps before it, or train with GlobalAveragePool",
        )
    return MaxPool(whole, whole)


def _global(node: Node, graph: GraphBuilder, op: Callable[[tuple[int, int]], Op]) -> None:
    view = ImageView(node, graph)
    channels, values = view.shape[0], view.sizes
    whole = (values[0] * values[1], values[2]) if len(values) == 3 else (1, *values)[-2:]
    view.reshape((channels, *whole))
    view.finish(op((whole[0], whole[1])), (channels, 1, 1), (channels, *(1 for _ in values)))
