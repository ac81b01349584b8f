"""Importers of the operators that pool."""

from __future__ import annotations

from nmc.compiler.frontends.onnx.importer import GraphBuilder
from nmc.compiler.frontends.onnx.node import Node, Refusal
from nmc.compiler.frontends.onnx.window import ImageView, Window, resolve_pads
from nmc.ir.connectivity import Shape
from nmc.ir.layers import AveragePool, MaxPool, Reshape

GLOBAL_WINDOW_MAX = 256
"""Values of a map under a global maximum: each but one takes a neuron."""


def import_average_pool(node: Node, graph: GraphBuilder) -> None:
    """1-D and 2-D; any padding, auto_pad, ceil_mode, count_include_pad."""
    view = ImageView(node, graph)
    kernel, window = _window(node, view)
    if window.dilation != (1, 1):
        raise Refusal("operator-unsupported", f"dilations {list(window.dilation)}", "use a pooling without dilation")
    counts = bool(node.integer("count_include_pad", 0))
    view.add(AveragePool(kernel, window.stride, window.pads, counts), _pooled(node, view.shape, kernel, window))


def import_max_pool(node: Node, graph: GraphBuilder) -> None:
    """1-D and 2-D; any padding, auto_pad, ceil_mode, dilations: n - 1 ReLUs of differences for a window of n values."""
    view = ImageView(node, graph)
    if any(graph.is_used(name) for name in node.proto.output[1:] if name):
        raise Refusal(
            "operator-unsupported", "the indices of the maxima are used", "end the model before the unpooling"
        )
    kernel, window = _window(node, view)
    if window.dilation != (1, 1) and (any(window.pads) or node.integer("ceil_mode", 0)):
        raise Refusal(
            "operator-unsupported",
            f"dilations {list(window.dilation)} together with padding or ceil_mode",
            "use a pooling without dilation, or without padding",
        )
    op = MaxPool(kernel, window.stride, window.pads, window.dilation)
    view.add(op, _pooled(node, view.shape, kernel, window))


def _window(node: Node, view: ImageView) -> tuple[tuple[int, int], Window]:
    """Kernel and window of a pooling."""
    kernel = view.kernel(node.integers("kernel_shape", (0,)))
    window = resolve_pads(node, view.shape, kernel, view.axes)
    if any(pad >= k for pad, k in zip(window.pads, kernel * 2, strict=True)):
        raise Refusal("shape-invalid", f"pads {list(window.pads)} must be smaller than the kernel {list(kernel)}")
    return kernel, window


def _pooled(node: Node, shape: Shape, kernel: tuple[int, int], window: Window) -> Shape:
    """The shape that a pooling makes."""
    out = [shape[0]]
    for axis, (n, k, s, d) in enumerate(zip(shape[1:], kernel, window.stride, window.dilation, strict=True)):
        reach = n + window.pads[axis] + window.pads[axis + 2] - d * (k - 1) - 1
        count = reach // s + 1
        # Ceiling mode: one window more where it begins inside the input or the padding before it.
        if node.integer("ceil_mode", 0) and reach % s and count * s < n + window.pads[axis]:
            count += 1
        out.append(count)
    return tuple(out)


def import_global_average_pool(node: Node, graph: GraphBuilder) -> None:
    """1-D and 2-D."""
    view = ImageView(node, graph)
    size = (view.shape[1], view.shape[2])
    view.add(AveragePool(size, size), (view.shape[0], 1, 1))


def import_global_max_pool(node: Node, graph: GraphBuilder) -> None:
    """1-D and 2-D, over maps of up to 256 values."""
    view = ImageView(node, graph)
    size = (view.shape[1], view.shape[2])
    if size[0] * size[1] > GLOBAL_WINDOW_MAX:
        raise Refusal(
            "operator-unsupported",
            f"a maximum over {size[0]} x {size[1]} = {size[0] * size[1]} values, the limit is {GLOBAL_WINDOW_MAX}",
            "pool in steps before it, or train with GlobalAveragePool",
        )
    view.add(MaxPool(size, size), (view.shape[0], 1, 1))


def import_reduce_mean(node: Node, graph: GraphBuilder) -> None:
    """Over all spatial axes, one or two: a global average pooling."""
    view = ImageView(node, graph)
    rank = view.axes + 2
    given = graph.axes(node.input(1), "axes") if node.input(1) else node.integers("axes", ())
    axes = {a + (rank if a < 0 else 0) for a in given}
    if axes != set(range(2, rank)):
        raise Refusal(
            "operator-unsupported",
            f"a mean over axes {sorted(axes)}, only {list(range(2, rank))} are supported",
            "use a pooling",
        )
    channels, size = view.shape[0], (view.shape[1], view.shape[2])
    if node.integer("keepdims", 1):
        view.add(AveragePool(size, size), (channels, 1, 1))
        return
    mean = graph.add_inner(node, "mean", AveragePool(size, size), (view.source,), (channels, 1, 1))
    graph.add(node, Reshape(), (mean,), (channels,))
