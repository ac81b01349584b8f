"""Importers of the operators that take means."""

from __future__ import annotations

from nmc.compiler.frontends.onnx.importer import GraphBuilder
from nmc.compiler.frontends.onnx.node import Node, Refusal
from nmc.compiler.frontends.onnx.window import resolve_pads
from nmc.ir.connectivity import Shape
from nmc.ir.layers import AveragePool, Reshape


def import_average_pool(node: Node, graph: GraphBuilder) -> None:
    """2-D; any padding, auto_pad, ceil_mode, count_include_pad."""
    shape = _image(node, graph)
    kernel = node.integers("kernel_shape", ())
    if len(kernel) != 2 or min(kernel) < 1:
        raise Refusal("shape-invalid", f"kernel_shape {list(kernel)} must be 2 positive numbers")
    window = resolve_pads(node, shape, (kernel[0], kernel[1]))
    if window.dilation != (1, 1):
        raise Refusal("operator-unsupported", f"dilations {list(window.dilation)}", "use a pooling without dilation")
    if any(pad >= k for pad, k in zip(window.pads, kernel * 2, strict=True)):
        raise Refusal("shape-invalid", f"pads {list(window.pads)} must be smaller than the kernel {list(kernel)}")
    out = [shape[0]]
    for axis, (n, k, s) in enumerate(zip(shape[1:], kernel, window.stride, strict=True)):
        reach = n + window.pads[axis] + window.pads[axis + 2] - k
        count = reach // s + 1
        # Ceiling mode: one window more where it begins inside the input or the padding before it.
        if node.integer("ceil_mode", 0) and reach % s and count * s < n + window.pads[axis]:
            count += 1
        out.append(count)
    counts = bool(node.integer("count_include_pad", 0))
    op = AveragePool((kernel[0], kernel[1]), window.stride, window.pads, counts)
    graph.add(node, op, (node.input(0),), tuple(out))


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
