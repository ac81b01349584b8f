"""Smooth activations in float64, as ONNX defines them."""

from __future__ import annotations

import numpy as np
from scipy import special

from nmc.ir.connectivity import Array
from nmc.ir.reference import sigmoid

Line = tuple[float, float]
"""Slope, and value at zero."""


def function_values(function: str, x: Array, alpha: float = 1.0, gamma: float = 1.0) -> Array:
    """One of `nmc.ir.layers.FUNCTIONS` of each element.

    Args:
        function: its name.
        x: any shape.
        alpha: of elu, selu, celu and swish; the threshold of thresholded-relu.
        gamma: of selu.

    Raises:
        ValueError: no function has this name.
    """
    match function:
        case "sigmoid":
            return sigmoid(x)
        case "tanh":
            return np.asarray(np.tanh(x))
        case "softsign":
            return np.asarray(x / (1.0 + np.abs(x)))
        case "softplus":
            return np.asarray(np.logaddexp(0.0, x))
        case "erf":
            return np.asarray(special.erf(x))
        case "elu":
            return np.maximum(x, 0.0) + alpha * np.expm1(np.minimum(x, 0.0))
        case "selu":
            return gamma * (np.maximum(x, 0.0) + alpha * np.expm1(np.minimum(x, 0.0)))
        case "celu":
            return np.maximum(x, 0.0) + alpha * np.expm1(np.minimum(x, 0.0) / alpha)
        case "gelu":
            return np.asarray(0.5 * x * (1.0 + special.erf(x / np.sqrt(2.0))))
        case "gelu-tanh":
            return np.asarray(0.5 * x * (1.0 + np.tanh(np.sqrt(2.0 / np.pi) * (x + 0.044715 * x**3))))
        case "swish":
            return np.asarray(x * sigmoid(alpha * x))
        case "hard-swish":
            return np.asarray(x * np.clip(x / 6.0 + 0.5, 0.0, 1.0))
        case "mish":
            return np.asarray(x * np.tanh(np.logaddexp(0.0, x)))
        case "thresholded-relu":
            return np.where(x > alpha, x, 0.0)
        case _:
            raise ValueError(f"no function is called {function!r}")


def asymptotes(function: str, alpha: float = 1.0, gamma: float = 1.0) -> tuple[Line, Line]:
    """The lines (slope, value at 0) that a function nears far to the left and far to the right."""
    match function:
        case "sigmoid":
            return (0.0, 0.0), (0.0, 1.0)
        case "tanh" | "softsign" | "erf":
            return (0.0, -1.0), (0.0, 1.0)
        case "elu" | "celu":
            return (0.0, -alpha), (1.0, 0.0)
        case "selu":
            return (0.0, -gamma * alpha), (gamma, 0.0)
        case _:
            return (0.0, 0.0), (1.0, 0.0)
