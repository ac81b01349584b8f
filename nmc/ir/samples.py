"""Samples of networks with several inputs: one array, the inputs joined.

One sample of several inputs is a vector: the values of each input in C order, input behind
input. A network with one input keeps its shape. So whoever cuts, counts or passes on samples
need not know how many inputs there are; the two ends, where they are made and used, do.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nmc.ir.connectivity import Array, Shape, size


def joined_shape(shapes: Sequence[Shape]) -> Shape:
    """Shape of one joined sample of inputs of these shapes."""
    return shapes[0] if len(shapes) == 1 else (sum(map(size, shapes)),)


def joined(parts: Sequence[Array]) -> Array:
    """Samples (N, *shape) of every input as one array, (N, *joined shape)."""
    if len(parts) == 1:
        return parts[0]
    return np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)


def places(shapes: Sequence[Shape]) -> list[slice]:
    """Where the values of each input stand in a joined sample."""
    ends = np.cumsum([size(shape) for shape in shapes]).tolist()
    return [slice(end - size(shape), end) for shape, end in zip(shapes, ends, strict=True)]


def parted(x: Array, shapes: Sequence[Shape]) -> list[Array]:
    """The inverse of `joined`: samples (N, *shape) of every input."""
    if len(shapes) == 1:
        return [x]
    return [x[:, place].reshape(len(x), *shape) for place, shape in zip(places(shapes), shapes, strict=True)]
