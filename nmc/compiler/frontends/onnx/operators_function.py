"""Importers of smooth activations, which ReLUs only come near to."""

from __future__ import annotations

from nmc.compiler.frontends.onnx.importer import GraphBuilder
from nmc.compiler.frontends.onnx.node import Node, Refusal
from nmc.ir.layers import Activation


def _add(node: Node, graph: GraphBuilder, function: str, alpha: float = 1.0, gamma: float = 1.0) -> None:
    graph.add(node, Activation(function, alpha, gamma), (node.input(0),), graph.activation(node, 0))


def import_tanh(node: Node, graph: GraphBuilder) -> None:
    """A sum of ReLUs, with its largest error in a warning."""
    _add(node, graph, "tanh")


def import_softsign(node: Node, graph: GraphBuilder) -> None:
    """A sum of ReLUs, with its largest error in a warning."""
    _add(node, graph, "softsign")


def import_softplus(node: Node, graph: GraphBuilder) -> None:
    """A sum of ReLUs, with its largest error in a warning."""
    _add(node, graph, "softplus")


def import_erf(node: Node, graph: GraphBuilder) -> None:
    """A sum of ReLUs, with its largest error in a warning."""
    _add(node, graph, "erf")


def import_elu(node: Node, graph: GraphBuilder) -> None:
    """A sum of ReLUs, with its largest error in a warning."""
    _add(node, graph, "elu", node.number("alpha", 1.0))


def import_selu(node: Node, graph: GraphBuilder) -> None:
    """A sum of ReLUs, with its largest error in a warning."""
    # The defaults of the ONNX operator, to float32.
    alpha, gamma = node.number("alpha", 1.67326319217681884765625), node.number("gamma", 1.05070102214813232421875)
    _add(node, graph, "selu", alpha, gamma)


def import_celu(node: Node, graph: GraphBuilder) -> None:
    """A sum of ReLUs, with its largest error in a warning."""
    alpha = node.number("alpha", 1.0)
    if alpha <= 0:
        raise Refusal("operator-unsupported", f"alpha is {alpha:g}, it must be positive", "train with Relu instead")
    _add(node, graph, "celu", alpha)


def import_gelu(node: Node, graph: GraphBuilder) -> None:
    """A sum of ReLUs, with its largest error in a warning."""
    _add(node, graph, "gelu-tanh" if node.text("approximate", "none") == "tanh" else "gelu")


def import_swish(node: Node, graph: GraphBuilder) -> None:
    """A sum of ReLUs, with its largest error in a warning."""
    alpha = node.number("alpha", 1.0)
    if alpha <= 0:
        raise Refusal("operator-unsupported", f"alpha is {alpha:g}, it must be positive", "train with Relu instead")
    _add(node, graph, "swish", alpha)


def import_hard_swish(node: Node, graph: GraphBuilder) -> None:
    """A sum of ReLUs, with its largest error in a warning."""
    _add(node, graph, "hard-swish")


def import_mish(node: Node, graph: GraphBuilder) -> None:
    """A sum of ReLUs, with its largest error in a warning."""
    _add(node, graph, "mish")
