"""Shifts and biases of random projections: sums that neither vanish nor leave their limits."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from nmc.ir import reference
from nmc.ir.connectivity import Array, Connectivity, Shape, size
from nmc.ir.network import Projection
from nmc.ir.neurons import Neuron, SigmaDelta, Source, spike_levels

SUM_LIMIT = 1 << 17
"""No sum into a LIF or integrator reaches it: ``a << 6`` stays inside the 24-bit state."""

GRADED_LIMIT = 1 << 23
"""No sum of a graded network reaches it on the inputs of `random_inputs`."""

DELTA_LIMIT = 1 << 26
"""No potential of a sigma-delta network reaches it on the inputs of `random_inputs`."""

MARGIN = 4
"""How much larger the values of other inputs may be than those seen while a network grows."""


def flat(values: Array, shape: Shape) -> Array:
    """Values of shape (), (C,) or ``shape``, as (neurons,)."""
    return np.broadcast_to(reference.per_channel(values, shape), shape).reshape(-1)


def matrix_of(connectivity: Connectivity) -> Array:
    """(targets, sources) int64."""
    matrix = np.zeros((size(connectivity.out_shape), size(connectivity.in_shape)), dtype=np.int64)
    target, source, weight = connectivity.synapses()
    matrix[target, source] = weight
    return matrix


def projected_sums(projection: Projection, sent: Array, raw: Array | None = None) -> Array:
    """(W m + b) >> k for messages (..., sources): (..., targets).

    Args:
        projection: with its shift and bias.
        sent: messages.
        raw: W m where it is known already.
    """
    shape = projection.connectivity.out_shape
    raw = sent @ matrix_of(projection.connectivity).T if raw is None else raw
    if projection.bias is not None:
        raw = raw + flat(projection.bias, shape)
    shift = flat(projection.shift, shape)
    sums: Array = (raw >> np.maximum(shift, 0)) << np.maximum(-shift, 0)
    return sums


def within(connectivity: Connectivity, largest: int, limit: int) -> Connectivity:
    """The connectivity, its weights halved (and even) until messages up to ``largest`` stay below ``limit``."""
    reach = MARGIN * largest * int(np.abs(matrix_of(connectivity)).sum(axis=1).max())
    halvings = max(0, math.ceil(math.log2(max(1, reach) / limit)))
    if not halvings:
        return connectivity
    weight = connectivity.weight
    return connectivity.with_weight(np.sign(weight) * ((np.abs(weight) >> (halvings + 1)) << 1))


def graded_scaling(rng: np.random.Generator, projection: Projection, raw: Array) -> Projection:
    """A shift that brings sums (samples, T, targets) to 6 to 9 bits, per channel or not, and a bias."""
    shape = projection.connectivity.out_shape
    largest = int(np.abs(raw).max())
    if rng.random() < 0.7:
        width = max(1, largest // 4)
        sizes: list[Shape] = [(), (shape[0],), shape]
        bias = rng.integers(-width, width + 1, size=sizes[int(rng.integers(0, 3))])
        projection = replace(projection, bias=np.asarray(bias, dtype=np.int64))
    per_channel = raw.reshape(*raw.shape[:2], shape[0], -1)
    peaks = np.abs(per_channel).max(axis=(0, 1, 3)) if rng.random() < 0.6 else np.asarray(largest)
    bits = np.ceil(np.log2(np.maximum(peaks, 1) + 1)).astype(np.int64)
    shift = np.clip(bits - rng.integers(6, 10, size=peaks.shape), -3, 20)
    return replace(projection, shift=np.asarray(shift, dtype=np.int64))


def largest_message(neuron: Neuron, sent: Array) -> int:
    """A bound of the messages of a neuron that sent these."""
    if isinstance(neuron, Source):
        return 1 << neuron.bits
    levels = spike_levels(neuron)
    return max(levels[1], -levels[0]) if levels is not None else MARGIN * int(np.abs(sent).max())


def least_shift(connectivity: Connectivity, largest: int, parts: int) -> int:
    """The smallest shift with which ``parts`` such sums stay below half of `SUM_LIMIT`."""
    reach = largest * parts * int(np.abs(matrix_of(connectivity)).sum(axis=1).max())
    return max(1, reach).bit_length() - 16


def spiking_shift(rng: np.random.Generator, connectivity: Connectivity, largest: int, parts: int) -> Array:
    """A shift that keeps ``parts`` such sums below half of `SUM_LIMIT`, often per channel, at times negative."""
    least = least_shift(connectivity, largest, parts)
    if least <= 0 and rng.random() < 0.5:
        return np.zeros((), dtype=np.int64)
    draw = rng.integers(0, 3, size=(connectivity.out_shape[0],) if rng.random() < 0.6 else ())
    return np.asarray(max(least, -2) + draw, dtype=np.int64)


def loop_shift(
    rng: np.random.Generator, connectivity: Connectivity, largest: int, target: Neuron, total: Array
) -> Array:
    """A shift with which what comes back is smaller than what comes in, and dies down in sigma-delta neurons."""
    reach = largest * int(np.abs(matrix_of(connectivity)).sum(axis=1).max())
    if isinstance(target, SigmaDelta):
        # Half of a change at most comes back: the neuron's own shift takes its part.
        row_sum = max(1, int(np.abs(matrix_of(connectivity)).sum(axis=1).max()))
        return np.asarray(max(0, math.ceil(math.log2(row_sum)) + 1 - int(target.shift.min())), dtype=np.int64)
    typical = max(1.0, float(np.std(total))) * rng.uniform(0.5, 3.0)
    wanted = math.ceil(math.log2(max(1.0, reach / typical)))
    return np.asarray(max(least_shift(connectivity, largest, 2), wanted), dtype=np.int64)
