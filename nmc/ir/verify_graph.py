"""Invariants of a `LayerGraph`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from nmc.ir.connectivity import Shape, size
from nmc.ir.layers import (
    FUNCTIONS,
    Activation,
    Add,
    ArgMax,
    AveragePool,
    BatchNorm,
    Clip,
    Concat,
    Constant,
    Dequantize,
    Identity,
    Input,
    Layer,
    LayerGraph,
    LeakyRelu,
    Linear,
    Maximum,
    MaxPool,
    Pad,
    Quantize,
    Relu,
    Reshape,
    Sigmoid,
    Slice,
    Softmax,
    Transpose,
)
from nmc.ir.verify_connectivity import (
    Finding,
    array_problems,
    connectivity_problems,
    shape_problems,
    window_problems,
)


def graph_findings(graph: LayerGraph) -> list[Finding]:
    """Topological order, unique names, known inputs, shapes that fit the operations, finite numbers."""
    findings: list[Finding] = []
    seen: dict[str, Layer] = {}
    for layer in graph.layers:
        if layer.name in seen:
            findings.append((f"two layers are named '{layer.name}'", layer.origin))
        unknown = [name for name in layer.inputs if name not in seen]
        if unknown:
            reason = "later or not at all" if layer.name not in unknown else "by itself"
            findings.append((f"layer '{layer.name}' reads {unknown}, computed {reason}", layer.origin))
        else:
            shapes = [seen[name].shape for name in layer.inputs]
            problems = [*shape_problems(layer.shape), *_layer_problems(layer, shapes)]
            findings.extend((f"layer '{layer.name}': {p}", layer.origin) for p in problems)
        seen[layer.name] = layer
    if not graph.inputs:
        findings.append(("a graph has at least one input", None))
    names = [layer.origin.node for layer in graph.inputs]
    if len(set(names)) != len(names):
        findings.append((f"inputs share a name: {', '.join(map(repr, names))}", None))
    findings.extend((message, None) for message in _output_problems(graph, seen))
    return findings


def _output_problems(graph: LayerGraph, seen: Mapping[str, Layer]) -> Iterator[str]:
    if not graph.outputs:
        yield "a graph has at least one output"
    for name in graph.outputs:
        if name not in seen:
            yield f"the output '{name}' is no layer"
    names = graph.output_names
    if names and (len(names) != len(graph.outputs) or len(set(names)) != len(names)):
        yield f"{len(graph.outputs)} outputs are called {', '.join(map(repr, names))}"


def _layer_problems(layer: Layer, shapes: list[Shape]) -> Iterator[str]:
    """Problems of one layer; ``shapes`` are those of its inputs."""
    op = layer.op
    low, high = (0, 0) if isinstance(op, Input | Constant) else (1, 1)
    if isinstance(op, Add | Maximum | Concat):
        low, high = 1 if isinstance(op, Concat) else 2, len(shapes)
    if not low <= len(shapes) <= high:
        yield f"{type(op).__name__} takes {low} inputs, found {len(shapes)}"
        return
    match op:
        case Linear():
            yield from _linear_problems(layer, op, shapes[0])
        case BatchNorm():
            yield from array_problems("scale", op.scale, [layer.shape[:1]])
            yield from array_problems("shift", op.shift, [layer.shape[:1]])
        case Constant():
            yield from array_problems("value", op.value, [layer.shape])
        case LeakyRelu():
            yield from array_problems("slope", op.slope, [layer.shape[:1]])
        case Clip(least, most):
            if least is not None and most is not None and not least <= most:
                yield f"clip from {least:g} to {most:g}"
        case Activation(function):
            if function not in FUNCTIONS:
                yield f"the function {function!r} is unknown"
        case Quantize() | Dequantize():
            yield from _step_problems(op)
        case Softmax() | ArgMax():
            if not -len(layer.shape) <= op.axis < len(layer.shape):
                yield f"{type(op).__name__.lower()} axis {op.axis} is not an axis of {layer.shape}"
        case _:
            pass
    expected = _expected_shape(layer, shapes)
    if isinstance(expected, str):
        yield expected
    elif expected is not None and layer.shape not in expected:
        yield f"{type(op).__name__} makes {expected[0]}, the layer says {layer.shape}"


def _step_problems(op: Quantize | Dequantize) -> Iterator[str]:
    if not 0 < op.scale < float("inf"):
        yield f"a scale of {op.scale:g}, it must be positive"
    if isinstance(op, Quantize) and not op.low <= op.zero_point <= op.high:
        yield f"a zero point {op.zero_point} outside {op.low} to {op.high}"


def _linear_problems(layer: Layer, op: Linear, shape: Shape) -> Iterator[str]:
    problems = list(connectivity_problems(op.connectivity))
    yield from problems
    if problems:
        return
    if size(op.connectivity.in_shape) != size(shape):
        yield f"connectivity reads {op.connectivity.in_shape}, the input is {shape}"
    if size(op.connectivity.out_shape) != size(layer.shape):
        yield f"connectivity makes {op.connectivity.out_shape}, the layer says {layer.shape}"
    yield from array_problems("bias", op.bias, [(), op.connectivity.out_shape[:1], op.connectivity.out_shape])


def _expected_shape(layer: Layer, shapes: list[Shape]) -> list[Shape] | str | None:
    """The shapes that the operation may make, what prevents it, or None where any shape will do."""
    match layer.op:
        case BatchNorm() | Relu() | Clip() | LeakyRelu() | Activation() | Quantize() | Dequantize():
            return shapes[:1]
        case Identity() | Softmax() | Sigmoid():
            return shapes[:1]
        case Add() | Maximum():
            what = "an addition" if isinstance(layer.op, Add) else "a maximum"
            return shapes[:1] if len(set(shapes)) == 1 else f"inputs of {what} differ: {shapes}"
        case ArgMax(axis):
            along = axis % len(shapes[0])
            return [tuple(1 if a == along else n for a, n in enumerate(shapes[0]))]
        case Reshape():
            same = size(shapes[0]) == size(layer.shape)
            return None if same else f"{shapes[0]} cannot be reshaped to {layer.shape}"
        case Transpose(perm):
            if sorted(perm) != list(range(len(shapes[0]))):
                return f"{perm} is no permutation of the axes of {shapes[0]}"
            return [tuple(shapes[0][axis] for axis in perm)]
        case AveragePool(kernel, stride, pads):
            problems = list(window_problems(shapes[0], kernel, stride, pads))
            return problems[0] if problems else _window_shapes(shapes[0], kernel, stride, pads)
        case MaxPool(kernel, stride, pads, dilation):
            problems = list(window_problems(shapes[0], kernel, stride, pads, dilation))
            spans = (dilation[0] * (kernel[0] - 1) + 1, dilation[1] * (kernel[1] - 1) + 1)
            return problems[0] if problems else _window_shapes(shapes[0], spans, stride, pads)
        case Pad(before, after):
            if not len(before) == len(after) == len(shapes[0]):
                return f"pads {before} and {after} do not fit the axes of {shapes[0]}"
            return [tuple(n + a + b for n, a, b in zip(shapes[0], before, after, strict=True))]
        case Slice():
            return _slice_shape(layer.op, shapes[0])
        case Concat(axis):
            return _concat_shape(axis, shapes)
    return None


def _window_shapes(
    shape: Shape, kernel: tuple[int, int], stride: tuple[int, int], pads: tuple[int, int, int, int]
) -> list[Shape]:
    """The output shape with the last windows inside the padded input, and those of ONNX's ceiling mode.

    There a window that would begin in the padding behind the input is left out, so the
    axes differ.
    """
    rows = shape[1] + pads[0] + pads[2] - kernel[0]
    columns = shape[2] + pads[1] + pads[3] - kernel[1]
    heights = (rows // stride[0] + 1, -(-rows // stride[0]) + 1)
    widths = (columns // stride[1] + 1, -(-columns // stride[1]) + 1)
    return [(shape[0], height, width) for height in heights for width in widths]


def _slice_shape(op: Slice, shape: Shape) -> list[Shape] | str:
    if not len(op.starts) == len(op.stops) == len(op.steps) == len(shape):
        return f"slice {op.starts}:{op.stops}:{op.steps} does not fit the axes of {shape}"
    axes = list(zip(op.starts, op.stops, op.steps, shape, strict=True))
    if any(not (0 <= start < stop <= n and step >= 1) for start, stop, step, n in axes):
        return f"slice {op.starts}:{op.stops}:{op.steps} leaves {shape}"
    return [tuple(len(range(start, stop, step)) for start, stop, step, _ in axes)]


def _concat_shape(axis: int, shapes: list[Shape]) -> list[Shape] | str:
    rank = len(shapes[0])
    if not 0 <= axis < rank:
        return f"concat axis {axis} is not an axis of {shapes[0]}"
    if any(len(s) != rank or s[:axis] + s[axis + 1 :] != shapes[0][:axis] + shapes[0][axis + 1 :] for s in shapes):
        return f"shapes {shapes} cannot be joined along axis {axis}"
    return [(*shapes[0][:axis], sum(s[axis] for s in shapes), *shapes[0][axis + 1 :])]
