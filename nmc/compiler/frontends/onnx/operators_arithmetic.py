"""Importers of arithmetic: sums of activations, and constants added, multiplied, divided."""

from __future__ import annotations

import numpy as np

from nmc.compiler.frontends.onnx.gating import gated_function
from nmc.compiler.frontends.onnx.importer import GraphBuilder
from nmc.compiler.frontends.onnx.node import Node, Refusal
from nmc.compiler.frontends.onnx.operators_linear import real
from nmc.compiler.frontends.onnx.operators_move import copying
from nmc.ir.connectivity import Array, Shape, Skip, size, sparse_from_synapses
from nmc.ir.layers import Add, BatchNorm, Identity, Linear


def import_add(node: Node, graph: GraphBuilder) -> None:
    """Two activations, or an activation and a constant; broadcast."""
    _sum(node, graph, 1.0)


def import_sum(node: Node, graph: GraphBuilder) -> None:
    """Activations and constants, broadcast."""
    _sum(node, graph, 1.0)


def import_mean(node: Node, graph: GraphBuilder) -> None:
    """The sum of activations and constants, times a constant."""
    if len(node.proto.input) == 1:
        graph.add(node, Identity(), (node.input(0),), graph.activation(node, 0))
        return
    _sum(node, graph, 1.0, share=1.0 / len(node.proto.input))


def import_sub(node: Node, graph: GraphBuilder) -> None:
    """Two activations, or an activation and a constant in either order; broadcast."""
    _sum(node, graph, -1.0)


def _sum(node: Node, graph: GraphBuilder, sign: float, share: float = 1.0) -> None:
    """Sum of the first input and ``sign`` times the others, all of it times ``share``."""
    names = list(node.proto.input)
    data, shape = alike(node, graph, names)
    constants = [
        (1.0 if position == 0 else sign) * fitted(graph, name, shape)
        for position, name in enumerate(names)
        if name not in graph.values
    ]
    if sign < 0 and len(data) == 2:
        opposite = BatchNorm(np.full(shape[0], sign), np.zeros(shape[0]))
        data[1] = graph.add_inner(node, "negated", opposite, (data[1],), shape)
    if not constants and share == 1.0:
        if len(data) == 1:
            graph.add(node, Identity(), (data[0],), shape)
        else:
            graph.add(node, Add(), tuple(data), shape)
        return
    source = graph.add_inner(node, "sum", Add(), tuple(data), shape) if len(data) > 1 else data[0]
    scale = share * (1.0 if names[0] in graph.values else sign)
    shift = share * np.sum(constants, axis=0) if constants else np.zeros(shape)
    _affine(node, graph, source, np.full(shape, scale), shift)


def alike(node: Node, graph: GraphBuilder, names: list[str]) -> tuple[list[str], Shape]:
    """The activations among the operands, copied to the one shape that they have together with the constants.

    Raises:
        Refusal: there is none, or they do not fit.
    """
    data = [name for name in names if name in graph.values]
    if not data:
        raise Refusal("operator-unsupported", "it has no activation to read")
    shapes = [graph.shape(name) for name in data]
    constants = [graph.constant(name, f"operand '{name}'").shape for name in names if name not in graph.values]
    rank = len(shapes[0])
    constants = [s[1:] if len(s) == rank + 1 and s[0] == 1 else s for s in constants]
    try:
        together = np.broadcast_shapes(*shapes, *(s for s in constants if len(s) <= rank))
    except ValueError:
        together = ()
    if any(len(s) != rank for s in shapes) or len(together) != rank:
        listed = " and ".join(str(list(s)) for s in dict.fromkeys(shapes))
        raise Refusal(
            "operator-unsupported",
            f"the inputs have the shapes {listed}, which cannot be brought to one",
            "bring all to one shape",
        )
    return [_copied(node, graph, name, together) for name in data], together


def _copied(node: Node, graph: GraphBuilder, tensor: str, shape: Shape) -> str:
    """A tensor broadcast to a shape of the same rank."""
    own = graph.shape(tensor)
    if own == shape:
        return tensor
    index = np.broadcast_to(np.arange(size(own)).reshape(own), shape)
    return graph.add_inner(node, "broadcast", Linear(copying(index, own), np.zeros(shape[0])), (tensor,), shape)


def import_mul(node: Node, graph: GraphBuilder) -> None:
    """An activation times a constant; of itself and its sigmoid, erf or the like: approximated as one function."""
    if node.input(0) in graph.values and node.input(1) in graph.values:
        _gated(node, graph)
        return
    names = [node.input(0), node.input(1)]
    (data,), shape = alike(node, graph, names)
    constant = names[1] if names[0] in graph.values else names[0]
    _affine(node, graph, data, fitted(graph, constant, shape), np.zeros(shape))


def import_div(node: Node, graph: GraphBuilder) -> None:
    """An activation divided by a constant."""
    graph.activation(node, 0)
    graph.constant(node.input(1), "the divisor")
    (data,), shape = alike(node, graph, [node.input(0), node.input(1)])
    divisor = fitted(graph, node.input(1), shape)
    if np.any(divisor == 0):
        raise Refusal("model-invalid", "it divides by zero")
    _affine(node, graph, data, 1.0 / divisor, np.zeros(shape))


def _gated(node: Node, graph: GraphBuilder) -> None:
    """The product of two functions of one activation, where it is a function that has a name."""
    found = gated_function(graph, node.input(0), node.input(1))
    if found is None:
        raise Refusal(
            "operator-unsupported",
            "the product of two activations",
            "neurons add and cannot multiply; remove the gating block",
        )
    root, function, factor = found
    shape = graph.shape(root)
    if factor == 1.0:
        graph.add(node, function, (root,), shape)
        return
    value = graph.add_inner(node, "function", function, (root,), shape)
    graph.add(node, BatchNorm(np.full(shape[0], factor), np.zeros(shape[0])), (value,), shape)


def fitted(graph: GraphBuilder, tensor: str, shape: Shape) -> Array:
    """A constant operand, broadcast to the shape of the activation."""
    array = real(graph.constant(tensor, f"operand '{tensor}'"), "the operand")
    if array.ndim > len(shape) and array.shape[0] == 1:
        array = array.reshape(array.shape[1:])
    try:
        return np.array(np.broadcast_to(array, shape))
    except ValueError:
        raise Refusal(
            "operator-unsupported", f"a constant {list(array.shape)} does not fit an activation {list(shape)}"
        ) from None


def _affine(node: Node, graph: GraphBuilder, source: str, scale: Array, shift: Array) -> None:
    """``scale * x + shift`` element by element."""
    graph.add(node, affine(scale, shift), (source,), scale.shape)


def affine(scale: Array, shift: Array) -> BatchNorm | Linear:
    """``scale * x + shift`` element by element, as the simplest layer that says it; both of the shape of x."""
    shape = scale.shape
    rows = [array.reshape(shape[0], -1) for array in (scale, shift)]
    even = [bool(np.all(row == row[:, :1])) for row in rows]
    if all(even):
        return BatchNorm(rows[0][:, 0].copy(), rows[1][:, 0].copy())
    if even[0]:
        return Linear(Skip(rows[0][:, 0].copy(), shape), shift)
    index = np.arange(size(shape))
    return Linear(sparse_from_synapses(index, index, scale.reshape(-1), shape, shape), shift)
