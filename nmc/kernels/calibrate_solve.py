"""Least squares of which every byte is the same on every machine.

Products of large matrices go through the machine's linear algebra library, but only with
integers whose sums stay below 2^53: float64 then rounds nothing, so neither the order of
additions nor the number of threads matters. What is left, one factorisation, is done here in
a fixed order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np

from nmc.ir.connectivity import Array
from nmc.kernels.calibrate_rows import step_sums
from nmc.kernels.parallel import parallel

_VALUE_BITS = 20
"""Of a real operand: with counts below 2^9 and 2^24 rows or unknowns, sums stay below 2^53."""

PART = 1 << 12
"""Rows that one thread takes."""


def _on_grid(values: Array) -> tuple[Array, float]:
    """Values as integers of `_VALUE_BITS` bits times a power of two."""
    largest = float(np.abs(values).max(initial=0.0))
    step = 2.0 ** (np.floor(np.log2(largest)) - _VALUE_BITS) if largest > 0 else 1.0
    return np.rint(values / step), step


def _product_over_rows(a: Array, b: Array) -> Array:
    """``a.T @ b`` of integers whose sums are exact, in threads: whatever adds the parts finds the same."""
    starts = range(0, len(a), PART)
    parts: list[Array] = [np.zeros(0)] * len(starts)

    def one(index: int) -> None:
        part = slice(starts[index], starts[index] + PART)
        parts[index] = a[part].T @ b[part]

    parallel(one, len(parts))
    return np.asarray(sum(parts))


def exact_product(integers: Array, values: Array) -> Array:
    """``integers @ values`` for integers of at most 9 bits; values are rounded to 20 bits.

    Args:
        integers: (M, K) integer-valued float64.
        values: (K, C) reals.
    """
    grid, step = _on_grid(values)
    return np.asarray((integers @ grid) * step)


@numba.njit(nogil=True, cache=True)
def _factorise(a):
    n = a.shape[0]
    for k in range(n):
        pivot = np.sqrt(a[k, k])
        for j in range(k, n):
            a[k, j] /= pivot
        for i in range(k + 1, n):
            f = a[k, i]
            for j in range(i, n):
                a[i, j] -= f * a[k, j]


@numba.njit(nogil=True, cache=True)
def _substitute(u, b):
    n = u.shape[0]
    for k in range(n):
        for c in range(b.shape[1]):
            b[k, c] /= u[k, k]
        for i in range(k + 1, n):
            f = u[k, i]
            for c in range(b.shape[1]):
                b[i, c] -= f * b[k, c]
    for k in range(n - 1, -1, -1):
        for c in range(b.shape[1]):
            b[k, c] /= u[k, k]
        for i in range(k):
            f = u[i, k]
            for c in range(b.shape[1]):
                b[i, c] -= f * b[k, c]


def positive_definite_solve(matrix: Array, right: Array) -> Array:
    """The solution X of ``matrix X = right`` by Cholesky, in float64 and fixed order.

    Args:
        matrix: (K, K) symmetric positive definite; the upper triangle is read.
        right: (K, C).
    """
    factor, solution = np.array(matrix, dtype=np.float64), np.array(right, dtype=np.float64)
    _factorise(factor)
    _substitute(factor, solution)
    return solution


@numba.njit(nogil=True, cache=True)
def _product(a, b, out):
    for i in range(a.shape[0]):
        for k in range(a.shape[1]):
            f = a[i, k]
            for c in range(b.shape[1]):
                out[i, c] += f * b[k, c]


def ordered_product(a: Array, b: Array) -> Array:
    """``a @ b`` in float64 and fixed order; for small matrices."""
    out = np.zeros((a.shape[0], b.shape[1]))
    _product(np.ascontiguousarray(a, dtype=np.float64), np.ascontiguousarray(b, dtype=np.float64), out)
    return out


@dataclass(frozen=True, eq=False)
class Jitter:
    """How far running sums of the inputs are from an even flow over the window.

    The deviation of an input at step t is what arrived until then less ``t / T`` of what
    arrives in all.

    Attributes:
        gram: (K, K) mean over rows and steps of products of deviations, in real units.
        cross: (K, C) the same with the deviations of what arrives besides the inputs.
    """

    gram: Array
    cross: Array

    @classmethod
    def of(cls, patches: Array, unit: Array, besides: Array) -> Jitter:
        """Measured on some rows, at up to `JITTER_STEPS` steps of the window.

        Args:
            patches: (rows, T, K) integer messages.
            unit: (K,) real value of one message.
            besides: (rows, T, C) real, what arrives in each step besides the inputs.
        """
        rows, steps, inputs = patches.shape
        total, total_besides = step_sums(patches, 0, steps), besides.sum(axis=1, dtype=np.float64)
        times = np.unique(np.rint(np.linspace(0, steps, JITTER_STEPS + 2)[1:-1]).astype(np.int64))
        times = times[(times > 0) & (times < steps)]
        gram, cross = np.zeros((inputs, inputs)), np.zeros((inputs, besides.shape[2]))
        arrived, before = np.zeros_like(total), 0
        for time in times:
            arrived += step_sums(patches, before, time)
            before = time
            # Integers: T times the deviation.
            deviation = (steps * arrived - time * total).astype(np.float64)
            gram += _product_over_rows(deviation, deviation)
            other = besides[:, :time].sum(axis=1, dtype=np.float64) - total_besides * (time / steps)
            grid, step = _on_grid(other)
            cross += _product_over_rows(deviation, grid) * step
        samples = max(len(times) * rows, 1)
        scale = unit / steps
        return cls(gram * scale[:, None] * scale[None, :] / samples, cross * scale[:, None] / samples)


JITTER_STEPS = 4
"""Steps of the window at which deviations are measured."""


def gram_of(counts: Array, unit: Array) -> Array:
    """(K + 1, K + 1) mean over rows of the products of inputs, the last of which is 1.

    Args:
        counts: (rows, K) integer-valued float64 of at most 12 bits and sign.
        unit: (K,) real value of one count.
    """
    rows, inputs = counts.shape
    gram = np.empty((inputs + 1, inputs + 1))
    gram[:-1, :-1] = _product_over_rows(counts, counts) * unit[:, None] * unit / rows
    gram[-1, :-1] = gram[:-1, -1] = counts.sum(axis=0) * unit / rows
    gram[-1, -1] = 1.0
    return gram


def ridge(
    counts: Array,
    unit: Array,
    residual: Array,
    strength: float,
    pull: tuple[Array, Array] | None = None,
    gram: Array | None = None,
) -> tuple[Array, Array]:
    """The weights and offset that explain a residual: least squares with a penalty on the weights.

    Minimises the mean over rows of ``|residual - (counts * unit) W - b|^2`` plus
    ``strength`` times the mean square of an input times ``|W|^2``, and half of a further
    quadratic form ``W' P W - 2 W' q``.

    Args:
        counts: (rows, K) integer-valued float64 of at most 12 bits and sign.
        unit: (K,) real value of one count.
        residual: (rows, C).
        strength: of the penalty; must be positive.
        pull: P (K, K) and q (K, C).
        gram: from `gram_of`, where it is known.

    Returns:
        W (K, C) per real value of an input, and b (C,).
    """
    rows, inputs = counts.shape
    gram = gram_of(counts, unit) if gram is None else gram.copy()
    grid, step = _on_grid(residual)
    right = (
        np.concatenate([_product_over_rows(counts, grid) * step * unit[:, None], grid.sum(axis=0)[None] * step]) / rows
    )
    mean_square = float(np.add.reduce(np.diag(gram)[:-1])) / max(inputs, 1)
    penalty = np.full(inputs + 1, strength * mean_square)
    penalty[-1] = 0.0
    # An input that never fires has a zero row: the penalty keeps its weight, and the matrix definite.
    diagonal = np.arange(inputs + 1)
    gram[diagonal, diagonal] += np.where(penalty > 0, penalty, 1e-12)
    if pull is not None:
        gram[:-1, :-1] += pull[0]
        right[:-1] += pull[1]
    solution = positive_definite_solve(gram, right)
    return solution[:-1], solution[-1]
