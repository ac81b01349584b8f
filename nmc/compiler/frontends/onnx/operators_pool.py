"""Importers of the operators that pool."""

from __future__ import annotations

from nmc.compiler.frontends.onnx.importer import GraphBuilder
from nmc.compiler.frontends.onnx.node import Node, Refusal
from nmc.compiler.frontends.onnx.window import Window, resolve_pads
from nmc.ir.connectivity import Shape
from nmc.ir.layers import AveragePool, MaxPool, Reshape

GLOBAL_WINDOW_MAX = 256
"""Values of a map under a global maximum: each but one takes a neuron."""


def import_average_pool(node: Node, graph: GraphBuilder) -> None:
    """2-D; any padding, auto_pad, ceil_mode, count_include_pad."""
    shape = _image(node, graph)
    kernel, window = _window(node, shape)
    if window.dilation != (1, 1):
        raise Refusal("operator-unsupported", f"dilations {list(window.dilation)}", "use a pooling without dilation")
    counts = bool(node.integer("count_include_pad", 0))
    op = AveragePool(kernel, window.stride, window.pads, counts)
    graph.add(node, op, (node.input(0),), _pooled(node, shape, kernel, window))


def import_max_pool(node: Node, graph: GraphBuilder) -> None:
    """2-D; any padding, auto_pad, ceil_mode, dilations: n - 1 ReLUs of differences for a window of n values."""
    shape = _image(node, graph)
    if any(graph.is_used(name) for name in node.proto.output[1:] if name):
        raise Refusal(
            "operator-unsupported", "the indices of the maxima are used", "end the model before the unpooling"
        )
    kernel, window = _window(node, shape)
    out = _pooled(node, shape, kernel, window)
    if window.dilation != (1, 1) and (any(window.pads) or node.integer("ceil_mode", 0)):
        raise Refusal(
            "operator-unsupported",
            f"dilations {list(window.dilation)} together with padding or ceil_mode",
            "use a pooling without dilation, or without padding",
        )
    graph.add(node, MaxPool(kernel, window.stride, window.pads, window.dilation), (node.input(0),), out)


def _window(node: Node, shape: Shape) -> tuple[tuple[int, int], Window]:
    """Kernel and window of a pooling."""
    kernel = node.integers("kernel_shape", ())
    if len(kernel) != 2 or min(kernel) < 1:
        raise Refusal("shape-invalid", f"kernel_shape {list(kernel)} must be 2 positive numbers")
    window = resolve_pads(node, shape, (kernel[0], kernel[1]))
    if any(pad >= k for pad, k in zip(window.pads, kernel * 2, strict=True)):
        raise Refusal("shape-invalid", f"pads {list(window.pads)} must be smaller than the kernel {list(kernel)}")
    return (kernel[0], kernel[1]), window


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


def import_global_max_pool(node: Node, graph: GraphBuilder) -> None:
    """2-D, over maps of up to 256 values."""
    shape = _image(node, graph)
    if shape[1] * shape[2] > GLOBAL_WINDOW_MAX:
        raise Refusal(
            "operator-unsupported",
            f"a maximum over {shape[1]} x {shape[2]} = {shape[1] * shape[2]} values, the limit is {GLOBAL_WINDOW_MAX}",
            "pool in steps before it, or train with GlobalAveragePool",
        )
    size = (shape[1], shape[2])
    graph.add(node, MaxPool(size, size), (node.input(0),), (shape[0], 1, 1))


def import_global_average_pool(node: Node, graph: GraphBuilder) -> None:
    """2-D."""
    shape = _image(node, graph)
    size = (shape[1], shape[2])
    graph.add(node, AveragePool(size, size), (node.input(0),), (shape[0], 1, 1))


def import_reduce_mean(node: Node, graph: GraphBuilder) -> None:
    """Over height and width: a global average pooling."""
    shape = _image(node, graph)
    given = graph.axes(node.input(1), "axes") if node.input(1) else node.integers("axes", ())
    axes = {a + (4 if a < 0 else 0) for a in given}
    if axes != {2, 3}:
        raise Refusal(
            "operator-unsupported", f"a mean over axes {sorted(axes)}, only (2, 3) are supported", "use a pooling"
        )
    op = AveragePool((shape[1], shape[2]), (shape[1], shape[2]))
    if node.integer("keepdims", 1):
        graph.add(node, op, (node.input(0),), (shape[0], 1, 1))
        return
    mean = graph.add_inner(node, "mean", op, (node.input(0),), (shape[0], 1, 1))
    graph.add(node, Reshape(), (mean,), (shape[0],))


def _image(node: Node, graph: GraphBuilder) -> Shape:
    shape = graph.activation(node, 0)
    if len(shape) != 3:
        raise Refusal(
            "operator-unsupported",
            f"its input has {len(shape) + 1} axes, only (N, C, H, W) is supported",
            "express it over two spatial axes",
        )
    return shape
