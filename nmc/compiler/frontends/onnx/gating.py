"""Products of two functions of one activation: exporters spell some activations out.

``x * sigmoid(x)`` is Swish, ``x * clip(x + 3, 0, 6) / 6`` HardSwish, ``x / 2 * (1 + erf(x / sqrt 2))``
Gelu. Which it is, is found by comparing values, whatever the order of the operators.
"""

from __future__ import annotations

import numpy as np

from nmc.compiler.frontends.onnx.importer import GraphBuilder
from nmc.ir.connectivity import Array
from nmc.ir.layers import Activation, BatchNorm, Clip, Identity, Layer, LeakyRelu, Relu, Sigmoid
from nmc.kernels.functions import function_values

NAMED = ("swish", "hard-swish", "gelu", "gelu-tanh", "mish")
"""Functions that a product may be."""

LONGEST = 12
"""Layers that one factor of a product may have; the longest spelling in use has 6."""

_POINTS = np.linspace(-7.0, 7.0, 141)
_TOLERANCE = 1e-5


def gated_function(graph: GraphBuilder, first: str, second: str) -> tuple[str, Activation, float] | None:
    """The function that the product of two tensors is.

    Returns:
        The tensor that it is a function of, the function, and a constant factor; None where the
        tensors are no functions of one tensor, or their product has no name.
    """
    layers = graph.by_name
    left, right = _chain(layers, graph.values[first]), _chain(layers, graph.values[second])
    roots = {name: steps for name, steps in left}
    for name, steps in right:
        if name not in roots:
            continue
        shape = layers[name].shape
        product = _along(roots[name], shape[0]) * _along(steps, shape[0])
        if np.any(product != product[:, :1]):
            return None
        for function in NAMED:
            wanted = function_values(function, _POINTS)
            factor = float(product[-1, 0] / wanted[-1])
            if factor and np.abs(product[:, 0] - factor * wanted).max() <= _TOLERANCE * abs(factor):
                rounded = float(np.float32(round(factor, 5)))
                tensor = next(tensor for tensor, value in graph.values.items() if value == name)
                return tensor, Activation(function), rounded if abs(rounded - factor) < 1e-5 else factor
        return None
    return None


def _chain(layers: dict[str, Layer], name: str) -> list[tuple[str, tuple[Layer, ...]]]:
    """The layers that a value is an element-wise function of, nearest first, with the steps from each."""
    found: list[tuple[str, tuple[Layer, ...]]] = [(name, ())]
    steps: tuple[Layer, ...] = ()
    layer = layers[name]
    while len(steps) < LONGEST and isinstance(
        layer.op, BatchNorm | Clip | LeakyRelu | Relu | Sigmoid | Activation | Identity
    ):
        steps = (layer, *steps)
        name = layer.inputs[0]
        found.append((name, steps))
        layer = layers[name]
    return found


def _along(steps: tuple[Layer, ...], channels: int) -> Array:
    """(points, channels): what the steps make of the points."""
    from nmc.kernels.graph import evaluate_layer  # numba loads slowly, and few models come here

    values = np.repeat(_POINTS[:, None], channels, axis=1)
    for layer in steps:
        flat = Layer(layer.name, layer.op, layer.inputs, (channels,), layer.origin)
        values = evaluate_layer(flat, [values])
    return values
