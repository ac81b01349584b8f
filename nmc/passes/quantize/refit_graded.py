"""Weights of a graded layer fitted again to the integers that its sources really send."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from nmc.ir.connectivity import Array
from nmc.ir.network import Projection
from nmc.ir.neurons import Graded
from nmc.ir.reference import per_channel
from nmc.kernels.calibrate_rows import Rows, matrix_of, with_matrix
from nmc.kernels.calibrate_solve import exact_product, gram_of, ridge
from nmc.kernels.layerwise import AnalogStep
from nmc.passes.quantize.fit_graded import Fitted
from nmc.passes.quantize.fixed_point import WeightGrid
from nmc.passes.quantize.refit_weights import INPUTS_MAX, ROWS_PER_INPUT, STRENGTH, STRENGTH_FEW_ROWS, fittable
from nmc.passes.quantize.round_weights import round_weights

ROWS = 16384
"""Positions on which a layer is fitted, at most."""

MESSAGE_MAX = 1 << 16
"""Sums of products of larger messages would not be exact."""

ROWS_MIN_PER_INPUT = 3
"""With fewer positions for each unknown a layer is left as it is."""

ROUNDS = 3
"""Times that it is fitted: what a ReLU holds back is not an error, and which rows that are changes."""


def refit_graded(
    step: AnalogStep,
    incoming: Sequence[Projection],
    fitted: Fitted,
    scales: Mapping[str, Array],
    messages: Mapping[str, Array],
    grid: WeightGrid,
    generator: np.random.Generator,
) -> Fitted:
    """The stored projections, of which one makes up for the errors of the others and of the layers before.

    Args:
        step: what they lead to, with its real drives.
        incoming: over reals.
        fitted: the same over integers.
        scales: of the sources.
        messages: by source, (N, n) integers on calibration inputs, channels last.
        grid: the weights that the target stores.
        generator: draws the positions.
    """
    population, scale = step.population, fitted.scale
    free = [number for number, projection in enumerate(incoming) if _free(projection)]
    rows = Rows.draw(population.shape, incoming, len(step.drive), ROWS, generator)
    if len(free) != 1 or not (rows.local or len(population.shape) == 1):
        return fitted
    (number,) = free
    real, stored = incoming[number], fitted.stored[number]
    matrix = matrix_of(real.connectivity)
    if matrix is None or len(matrix) * ROWS_MIN_PER_INPUT > len(rows):
        return fitted
    sent = {p.source: [message[None] for message in messages[p.source]] for p in incoming}
    besides = np.zeros((len(rows), len(scale)))
    for given, other in zip(incoming, fitted.stored, strict=True):
        if other is not stored:
            patches = rows.patches(other.connectivity, sent[other.source])
            besides += rows.sums(replace(other, bias=None), patches)[:, 0] * scale
        if given.bias is not None:
            besides += rows.parameter(given.bias)
    counts = rows.patches(real.connectivity, sent[real.source])[:, 0].astype(np.float64)
    if np.abs(counts).max(initial=0.0) > MESSAGE_MAX:
        return fitted
    own = np.broadcast_to(scales[real.source], real.connectivity.in_shape[:1])
    unit = np.tile(own, len(matrix) // len(own))
    linear = isinstance(population.neuron, Graded)
    matrix, offset = _solve(counts, unit, matrix, rows.of(step.drive) - besides, linear=linear)
    moved, by_unit = with_matrix(real.connectivity, matrix), np.exp2(stored.shift) / scale
    weight = round_weights(moved, messages[real.source], grid, scales[real.source], by_unit)
    bias: Array = np.zeros(len(scale), dtype=np.int64) if stored.bias is None else stored.bias
    bias = bias + per_channel(np.rint(offset * by_unit).astype(np.int64), bias.shape)
    done = [*fitted.stored]
    done[number] = replace(stored, connectivity=moved.with_weight(weight), bias=bias)
    return replace(fitted, stored=done)


def _free(projection: Projection) -> bool:
    weight = projection.connectivity.weight
    return fittable(projection) and weight.size // len(weight) <= INPUTS_MAX


def _solve(counts: Array, unit: Array, matrix: Array, wanted: Array, *, linear: bool) -> tuple[Array, Array]:
    """The weights (K, C) per real value of an input, and the offset (C,), with which the rows receive what is wanted.

    Args:
        counts: (rows, K) messages.
        unit: (K,) real value of one of them.
        matrix: (K, C) the weights so far.
        wanted: (rows, C).
        linear: no ReLU follows.
    """
    strength = STRENGTH if len(counts) >= ROWS_PER_INPUT * len(matrix) else STRENGTH_FEW_ROWS
    gram, offset = gram_of(counts, unit), np.zeros(matrix.shape[1])
    for _ in range(ROUNDS):
        got = exact_product(counts, matrix * unit[:, None]) + offset
        error = wanted - got if linear else np.maximum(wanted, 0.0) - np.maximum(got, 0.0)
        change, more = ridge(counts, unit, error, strength, gram=gram)
        matrix, offset = matrix + change, offset + more
    return matrix, offset
