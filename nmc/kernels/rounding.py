"""Rounding of weights that minds what the inputs have in common.

The error of a sum over many inputs is ``e^T S e`` with the rounding errors e of its weights and
the covariance S of the inputs. Rounding one weight after the other, each to make up for
the errors of those before it, makes that much smaller than rounding each to the nearest: the
successive rounding of Frantar et al. 2023 (GPTQ), in the form with S = L D L^T.

Everything that decides a stored integer is exact or summed in a fixed order.
"""

from __future__ import annotations

import numba
import numpy as np

from nmc.ir.connectivity import Array
from nmc.kernels.parallel import parallel

PART = 1 << 22
"""Multiplications of a thread's share."""

EXACT = 2.0**53
"""Integers below this are exact in float64, so their sums do not depend on the order."""


def covariance(values: Array) -> Array:
    """Covariance of integers (G, M, n) over M, for each of G groups: (G, n, n) float64.

    It is shrunk towards its diagonal as far as M samples cannot tell n columns apart, so that it is
    never singular.
    """
    rows, columns = values.shape[1:]
    largest = float(np.abs(values).max(initial=0))
    coarse = max(int(np.ceil(np.log2(max(largest, 1.0) * np.sqrt(rows / EXACT)))), 0)
    exact = np.right_shift(values, coarse).astype(np.float64)
    # Sums of products of integers, all below 2^53: exact, whatever order the library takes.
    product = np.matmul(exact.transpose(0, 2, 1), exact)
    total = exact.sum(axis=1)
    spread = product / rows - (total[:, :, None] / rows) * (total[:, None, :] / rows)
    kept = rows / (rows + columns)
    shrunk = spread * kept
    index = np.arange(columns)
    diagonal = np.maximum(spread[:, index, index], 0.0)
    # A column that never varied costs a little too: it may vary in use.
    floor = 1e-3 * diagonal.max(axis=1, initial=0.0)[:, None] + 1e-6
    shrunk[:, index, index] = np.maximum(diagonal, floor)
    return np.asarray(shrunk)


@numba.njit(nogil=True, cache=True)
def _factor(h, lower, d):
    n = h.shape[0]
    column = np.empty(n)
    for j in range(n):
        d[j] = h[j, j]
        for i in range(j, n):
            column[i] = h[i, j]
        for i in range(j + 1, n):
            factor = column[i] / d[j]
            lower[i, j] = factor
            row = h[i]
            for k in range(j + 1, i + 1):
                row[k] -= factor * column[k]


@numba.njit(nogil=True, cache=True)
def _round(weights, lower, step, top, stored):
    n = weights.shape[1]
    carried = np.empty(n)
    for r in range(weights.shape[0]):
        carried[:] = 0.0
        for i in range(n - 1, -1, -1):
            wanted = weights[r, i] - carried[i]
            value = min(max(np.rint(wanted / step) * step, -top), top)
            stored[r, i] = int(value)
            error = value - weights[r, i]
            row = lower[i]
            for k in range(i):
                carried[k] += row[k] * error


def round_rows(weights: Array, spread: Array, step: int, top: int) -> Array:
    """Multiples of ``step`` within +-``top`` for rows of real weights: (rows, n) int64.

    Args:
        weights: (rows, n) float64.
        spread: (n, n) covariance of what they are multiplied with, positive definite.
        step: of the stored weights.
        top: the largest of them.
    """
    rows, columns = weights.shape
    # The inputs that vary most are rounded first, while there is most left to make up for them.
    order = np.argsort(np.diagonal(spread), kind="stable")
    ordered = np.ascontiguousarray(spread[order][:, order])
    lower, d = np.zeros_like(ordered), np.zeros(columns)
    _factor(ordered, lower, d)
    wanted = np.ascontiguousarray(weights[:, order])
    stored = np.zeros(weights.shape, dtype=np.int64)
    parts = np.array_split(np.arange(rows), max(min(rows, rows * columns * columns // PART), 1))

    def one(index: int) -> None:
        part = slice(parts[index][0], parts[index][-1] + 1)
        _round(wanted[part], lower, float(step), float(top), stored[part])

    parallel(one, len(parts))
    restored = np.empty_like(stored)
    restored[:, order] = stored
    return restored
