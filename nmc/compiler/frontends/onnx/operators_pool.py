"""Importers of the operators that pool."""

from __future__ import annotations

from collections.abc import Callable

from nmc.compiler.frontends.onnx.importer import GraphBuilder
from nmc.compiler.frontends.onnx.node import Node, Refusal
from nmc.compiler.frontends.onnx.window import ImageView, Window, WindowAxis, resolve_axes
from nmc.ir.layers import AveragePool, MaxPool, Op

GLOBAL_WINDOW_MAX = 256
"""Values of a map under a global maximum: each but one takes a neuron."""


def import_average_pool(node: Node, graph: GraphBuilder) -> None:
    """1-D to 3-D; any padding, auto_pad, ceil_mode, count_include_pad."""
    counts = bool(node.integer("count_include_pad", 0))
    view, axes = ImageView(node, graph), _axes(node, graph)
    if any(axis.dilation != 1 for axis in axes):
        dilations = [axis.dilation for axis in axes]
        raise Refusal("operator-unsupported", f"dilations {dilations}", "use a pooling without dilation")
    _pool(node, view, axes, lambda w: AveragePool(w.kernel, w.stride, w.pads, counts))


def import_max_pool(node: Node, graph: GraphBuilder) -> None:
    """1-D to 3-D; any padding, auto_pad, ceil_mode, dilations: n - 1 ReLUs of differences for a window of n values."""
    if any(graph.is_used(name) for name in node.proto.output[1:] if name):
        raise Refusal(
            "operator-unsupported", "the indices of the maxima are used", "end the model before the unpooling"
        )
    view, axes = ImageView(node, graph), _axes(node, graph)
    dilations = [axis.dilation for axis in axes]
    if max(dilations) > 1 and (any(a.before or a.after for a in axes) or node.integer("ceil_mode", 0)):
        raise Refusal(
            "operator-unsupported",
            f"dilations {dilations} together with padding or ceil_mode",
            "use a pooling without dilation, or without padding",
        )
    _pool(node, view, axes, lambda w: MaxPool(w.kernel, w.stride, w.pads, w.dilation))


def _axes(node: Node, graph: GraphBuilder) -> tuple[WindowAxis, ...]:
    """The windows of a pooling."""
    sizes = graph.activation(node, 0)[1:]
    axes = resolve_axes(node, sizes, node.integers("kernel_shape", (0,)))
    if any(max(axis.before, axis.after) >= axis.kernel for axis in axes):
        pads = [*(axis.before for axis in axes), *(axis.after for axis in axes)]
        kernel = [axis.kernel for axis in axes]
        raise Refusal("shape-invalid", f"pads {pads} must be smaller than the kernel {kernel}")
    return axes


def _pool(node: Node, view: ImageView, axes: tuple[WindowAxis, ...], op: Callable[[Window], Op]) -> None:
    """Pool; a volume first over its slices, then over the depth of (C, D, H * W)."""
    counts = tuple(axis.count(ceil=bool(node.integer("ceil_mode", 0))) for axis in axes)
    channels = view.shape[0]
    if len(axes) < 3:
        y, x = (WindowAxis(1), *axes)[-2:]
        view.finish(op(Window.of(y, x)), (channels, *(1, *counts)[-2:]), (channels, *counts))
        return
    depth, y, x = axes
    view.apply("slices", op(Window.of(y, x)), (channels * depth.size, *counts[1:]))
    view.reshape((channels, depth.size, counts[1] * counts[2]))
    view.finish(
        op(Window.of(depth, WindowAxis(counts[1] * counts[2]))),
        (channels, counts[0], counts[1] * counts[2]),
        (channels, *counts),
    )


def import_global_average_pool(node: Node, graph: GraphBuilder) -> None:
    """1-D to 3-D."""
    _global(node, graph, lambda size: AveragePool(size, size))


def import_global_max_pool(node: Node, graph: GraphBuilder) -> None:
    """1-D to 3-D, over maps of up to 256 values."""
    _global(node, graph, largest)


def largest(size: tuple[int, int]) -> MaxPool:
    """The maximum over a whole map.

    Raises:
        Refusal: it has more than `GLOBAL_WINDOW_MAX` values.
    """
    if size[0] * size[1] > GLOBAL_WINDOW_MAX:
        raise Refusal(
            "operator-unsupported",
            f"a maximum over {size[0]} x {size[1]} = {size[0] * size[1]} values, the limit is {GLOBAL_WINDOW_MAX}",
            "pool in steps before it, or train with GlobalAveragePool",
        )
    return MaxPool(size, size)


def _global(node: Node, graph: GraphBuilder, op: Callable[[tuple[int, int]], Op]) -> None:
    view = ImageView(node, graph)
    channels, values = view.shape[0], view.sizes
    size = (values[0] * values[1], values[2]) if len(values) == 3 else (1, *values)[-2:]
    view.reshape((channels, *size))
    view.finish(op((size[0], size[1])), (channels, 1, 1), (channels, *(1 for _ in values)))
