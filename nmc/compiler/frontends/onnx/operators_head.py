"""Importers of what the host computes behind the network."""

from __future__ import annotations

from nmc.compiler.frontends.onnx.importer import GraphBuilder
from nmc.compiler.frontends.onnx.node import Node, Refusal
from nmc.ir.layers import ArgMax, Sigmoid, Softmax


def import_softmax(node: Node, graph: GraphBuilder) -> None:
    """At the end of the network only, over the last axis: the host computes it."""
    shape = graph.activation(node, 0)
    axis = node.integer("axis", -1)
    if axis not in (-1, len(shape)):
        raise Refusal(
            "operator-unsupported",
            f"a softmax over axis {axis} of {len(shape) + 1}, only the last is supported",
            "flatten the logits first",
        )
    graph.add(node, Softmax(len(shape) - 1), (node.input(0),), shape)


def import_sigmoid(node: Node, graph: GraphBuilder) -> None:
    """At the end of the network the host computes it; elsewhere a sum of ReLUs comes near to it."""
    graph.add(node, Sigmoid(), (node.input(0),), graph.activation(node, 0))


def import_argmax(node: Node, graph: GraphBuilder) -> None:
    """At the end of the network only, over one axis of logits: the host computes it."""
    shape = graph.activation(node, 0)
    axis = node.integer("axis", 0)
    if len(shape) != 1 or axis not in (-1, 1):
        raise Refusal(
            "operator-unsupported",
            f"an argmax over axis {axis} of {len(shape) + 1}, only (N, classes) over the classes is supported",
            "flatten the logits first",
        )
    if node.integer("select_last_index", 0):
        raise Refusal("operator-unsupported", "it takes the last of equal values", "take the first")
    # One number for each sample, with or without an axis of its own.
    graph.patch(node).attributes["keepdims"] = 1
    graph.add(node, ArgMax(0), (node.input(0),), (1,))
