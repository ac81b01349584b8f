"""Importers of the activations that are piecewise linear, and of maxima and minima."""

from __future__ import annotations

import numpy as np

from nmc.compiler.frontends.onnx.importer import GraphBuilder
from nmc.compiler.frontends.onnx.node import Node, Refusal
from nmc.compiler.frontends.onnx.operators_arithmetic import alike, fitted
from nmc.ir.connectivity import Array, Shape, Skip, sparse_from_synapses
from nmc.ir.layers import Activation, Add, BatchNorm, Clip, LeakyRelu, Linear, Maximum, Relu

UNBOUNDED = 1e30
"""Exporters write the largest float where a bound is missing."""


def import_relu(node: Node, graph: GraphBuilder) -> None:
    """Becomes the neurons."""
    graph.add(node, Relu(), (node.input(0),), graph.activation(node, 0))


def import_clip(node: Node, graph: GraphBuilder) -> None:
    """Constant bounds (ReLU6, hard tanh): a ReLU for each bound."""
    shape = graph.activation(node, 0)
    low, high = _bound(node, graph, 1), _bound(node, graph, 2)
    if low is not None and high is not None:
        low = min(low, high)  # the operator clips from below first: a larger lower bound makes every value the upper
    graph.add(node, Clip(low, high), (node.input(0),), shape)


def _bound(node: Node, graph: GraphBuilder, position: int) -> float | None:
    if not node.input(position):
        return None
    value = graph.constant(node.input(position), "a bound")
    if value.size != 1 or value.dtype.kind != "f" or np.isnan(value).any():
        raise Refusal("model-invalid", "a bound is no number")
    bound = float(value.reshape(-1)[0])
    return bound if abs(bound) < UNBOUNDED else None


def import_hard_sigmoid(node: Node, graph: GraphBuilder) -> None:
    """A clip of alpha * x + beta: two ReLUs."""
    shape = graph.activation(node, 0)
    scale, shift = (np.full(shape[0], node.number(name, default)) for name, default in (("alpha", 0.2), ("beta", 0.5)))
    line = graph.add_inner(node, "line", BatchNorm(scale, shift), (node.input(0),), shape)
    graph.add(node, Clip(0.0, 1.0), (line,), shape)


def import_leaky_relu(node: Node, graph: GraphBuilder) -> None:
    """Two ReLUs: one of x, one of -x."""
    shape = graph.activation(node, 0)
    graph.add(node, LeakyRelu(np.full(shape[0], node.number("alpha", 0.01))), (node.input(0),), shape)


def import_prelu(node: Node, graph: GraphBuilder) -> None:
    """A constant slope: two ReLUs, one of x, one of -x."""
    shape = graph.activation(node, 0)
    slope = fitted(graph, node.input(1), shape)
    rows = slope.reshape(shape[0], -1)
    if np.all(rows == rows[:, :1]):
        graph.add(node, LeakyRelu(rows[:, 0].copy()), (node.input(0),), shape)
        return
    positive = graph.add_inner(node, "positive", Relu(), (node.input(0),), shape)
    negated = graph.add_inner(node, "negated", _times(-1.0, shape), (node.input(0),), shape)
    negative = graph.add_inner(node, "negative", Relu(), (negated,), shape)
    index = np.arange(slope.size)
    each = sparse_from_synapses(index, index, -slope.reshape(-1), shape, shape)
    less = graph.add_inner(node, "less", Linear(each, np.zeros(shape[0])), (negative,), shape)
    graph.add(node, Add(), (positive, less), shape)


def import_abs(node: Node, graph: GraphBuilder) -> None:
    """Two ReLUs: one of x, one of -x."""
    shape = graph.activation(node, 0)
    graph.add(node, LeakyRelu(np.full(shape[0], -1.0)), (node.input(0),), shape)


def import_neg(node: Node, graph: GraphBuilder) -> None:
    """Goes into the weights around it."""
    shape = graph.activation(node, 0)
    graph.add(node, _times(-1.0, shape), (node.input(0),), shape)


def import_thresholded_relu(node: Node, graph: GraphBuilder) -> None:
    """With a threshold of zero it is a ReLU; elsewhere the jump becomes a ramp, 1/128 of the range wide."""
    shape, alpha = graph.activation(node, 0), node.number("alpha", 1.0)
    graph.add(node, Relu() if alpha == 0 else Activation("thresholded-relu", alpha), (node.input(0),), shape)


def import_shrink(node: Node, graph: GraphBuilder) -> None:
    """Where bias and lambd are equal (soft shrinkage): two ReLUs; elsewhere it jumps."""
    shape = graph.activation(node, 0)
    bound, bias = node.number("lambd", 0.5), node.number("bias", 0.0)
    if bound != bias or bound < 0:
        raise Refusal(
            "operator-unsupported", f"it jumps where |x| is {bound:g} (bias {bias:g})", "train with bias equal to lambd"
        )
    inside = graph.add_inner(node, "inside", Clip(-bound, bound), (node.input(0),), shape)
    less = graph.add_inner(node, "less", _times(-1.0, shape), (inside,), shape)
    graph.add(node, Add(), (node.input(0), less), shape)


def import_max(node: Node, graph: GraphBuilder) -> None:
    """Activations and constants, broadcast: a ReLU of each difference."""
    data, bound = _operands(node, graph, np.maximum)
    shape = graph.shape(data[0])
    if bound is None:
        _largest(node, graph, data, shape)
        return
    source = graph.add_inner(node, "max", Maximum(), tuple(data), shape) if len(data) > 1 else data[0]
    if np.all(bound == bound.flat[0]):
        graph.add(node, Clip(float(bound.flat[0]), None), (source,), shape)
        return
    above = graph.add_inner(node, "above", Linear(Skip(np.ones(shape[0]), shape), -bound), (source,), shape)
    excess = graph.add_inner(node, "excess", Relu(), (above,), shape)
    graph.add(node, Linear(Skip(np.ones(shape[0]), shape), bound), (excess,), shape)


def import_min(node: Node, graph: GraphBuilder) -> None:
    """Activations and constants, broadcast: a ReLU of each difference."""
    data, bound = _operands(node, graph, np.minimum)
    shape = graph.shape(data[0])
    if bound is None and len(data) == 1:
        _largest(node, graph, data, shape)
        return
    if len(data) > 1:
        negated = tuple(graph.add_inner(node, "negated", _times(-1.0, shape), (name,), shape) for name in data)
        largest = graph.add_inner(node, "max", Maximum(), negated, shape)
        if bound is None:
            graph.add(node, _times(-1.0, shape), (largest,), shape)
            return
        data = [graph.add_inner(node, "min", _times(-1.0, shape), (largest,), shape)]
    if bound is None:
        raise TypeError("one activation without a constant has been passed on")
    if np.all(bound == bound.flat[0]):
        graph.add(node, Clip(None, float(bound.flat[0])), (data[0],), shape)
        return
    below = graph.add_inner(node, "below", Linear(Skip(-np.ones(shape[0]), shape), bound), (data[0],), shape)
    lack = graph.add_inner(node, "lack", Relu(), (below,), shape)
    graph.add(node, Linear(Skip(-np.ones(shape[0]), shape), bound), (lack,), shape)


def _times(factor: float, shape: Shape) -> BatchNorm:
    return BatchNorm(np.full(shape[0], factor), np.zeros(shape[0]))


def _largest(node: Node, graph: GraphBuilder, data: list[str], shape: Shape) -> None:
    if len(data) == 1:
        graph.add(node, _times(1.0, shape), (data[0],), shape)
    else:
        graph.add(node, Maximum(), tuple(data), shape)


def _operands(node: Node, graph: GraphBuilder, joined: np.ufunc) -> tuple[list[str], Array | None]:
    """The activations, and what the constants come to in their shape."""
    names = list(dict.fromkeys(node.proto.input))
    data, shape = alike(node, graph, names)
    constants = [fitted(graph, name, shape) for name in names if name not in graph.values]
    return data, joined.reduce(constants) if constants else None
