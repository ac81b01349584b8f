"""Synapses recounted from the operators: how often each source neuron reaches a set of targets.

Written apart from the partitioner's geometry on purpose: a convolution is recounted by
convolving masks backwards, a small one by listing its synapses.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nmc.ir.connectivity import Connectivity, Conv2d, Dense, IndexArray, Pool, Skip, size

Mask = NDArray[np.bool_]

LISTED = 200_000
"""Operators with at most so many possible synapses are recounted from their list."""


@dataclass(frozen=True, eq=False)
class Reach:
    """What a set of target neurons gets from one projection.

    Attributes:
        per_source: (sources,) int64 non-zero synapses of each source neuron into the set.
        kernel: distinct non-zero entries of the weight array that they use; None: no kernel.
    """

    per_source: IndexArray
    kernel: Mask | None


def reach(operator: Connectivity, targets: Mask) -> Reach:
    """Recount the synapses into the targets.

    Args:
        operator: any connectivity.
        targets: (target neurons,) bool, flat.
    """
    match operator:
        case Conv2d():
            return _conv_reach(operator, targets)
        case Pool():
            return _conv_reach(operator.as_conv(), targets)
        case Skip():
            weight = np.repeat(operator.weight != 0, size(operator.in_shape) // operator.in_shape[0])
            hit: Mask = np.logical_and(weight, targets)
            return Reach(hit.astype(np.int64), np.any(hit.reshape(operator.in_shape[0], -1), axis=1, keepdims=False))
        case Dense():
            return Reach(np.count_nonzero(operator.weight[targets], axis=0).astype(np.int64), None)
        case _:
            return Reach(_listed(operator, targets), None)


def _listed(operator: Connectivity, targets: Mask) -> IndexArray:
    target, source, _ = operator.synapses()
    return np.bincount(source[targets[target]], minlength=size(operator.in_shape)).astype(np.int64)


def _conv_reach(conv: Conv2d, targets: Mask) -> Reach:
    channels, height, width = conv.in_shape
    out, per_in, kh, kw = conv.weight.shape
    wanted = targets.reshape(conv.out_shape)
    rows, columns = np.flatnonzero(wanted.any(axis=(0, 2))), np.flatnonzero(wanted.any(axis=(0, 1)))
    patch = wanted[:, rows][:, :, columns]
    counts = np.zeros((channels, height, width), dtype=np.int64)
    kernel = np.zeros(conv.weight.shape, dtype=np.bool_)
    nonzero = conv.weight != 0
    for p in range(kh):
        in_y = rows * conv.stride[0] + p * conv.dilation[0] - conv.pads[0]
        inside_y = (in_y >= 0) & (in_y < height)
        for q in range(kw):
            in_x = columns * conv.stride[1] + q * conv.dilation[1] - conv.pads[1]
            inside_x = (in_x >= 0) & (in_x < width)
            part = patch[:, inside_y][:, :, inside_x]
            if not part.any():
                continue
            used = part.any(axis=(1, 2))
            kernel[used, :, p, q] = nonzero[used, :, p, q]
            tap = nonzero[:, :, p, q].reshape(conv.groups, -1, per_in).transpose(0, 2, 1)
            # (groups, in / groups, out / groups) @ (groups, out / groups, places); counts are
            # at most out, exact in float32.
            hits = tap.astype(np.float32) @ part.reshape(conv.groups, out // conv.groups, -1).astype(np.float32)
            place = np.ix_(np.arange(channels), in_y[inside_y], in_x[inside_x])
            counts[place] += hits.reshape(channels, *part.shape[1:]).astype(np.int64)
    per_source = counts.reshape(-1)
    if conv.weight.size * size(conv.out_shape[1:]) <= LISTED:
        per_source = _listed(conv, targets)
    return Reach(per_source, kernel)
