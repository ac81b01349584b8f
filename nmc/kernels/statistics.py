"""Statistics that decide stored integers: sequential float64 sums, equal on every machine."""

from __future__ import annotations

import numba
import numpy as np

from nmc.ir.connectivity import Array
from nmc.kernels.parallel import parallel


@numba.njit(nogil=True, cache=True)
def _moments(values, threshold, steps, subtract, out):
    for m in range(values.shape[0]):
        for c in range(values.shape[1]):
            y = values[m, c]
            bar = threshold[c]
            n = 0.0
            if y > 0.0:
                if subtract:
                    n = min(np.floor(y * steps / bar + 0.5), float(steps))
                else:
                    # Constant drive y from v0 = bar / 2: the first spike comes after bar / (2 y) steps,
                    # the others every bar / y steps, each rounded up; what is above the bar is lost.
                    first = max(np.ceil(0.5 * bar / y), 1.0)
                    if first <= steps:
                        n = 1.0 + np.floor((steps - first) / max(np.ceil(bar / y), 1.0))
            out[0, c] += n * n
            out[1, c] += n * y
            out[2, c] += y * y


def best_thresholds(
    values: Array, candidates: Array, timesteps: int, *, subtract: bool, gain_range: tuple[float, float]
) -> tuple[Array, Array]:
    """Per channel, the threshold whose spike count fits the values best.

    The count n of a neuron with constant drive y over T steps stands for ``gain * n / T``;
    the gain is the least-squares one within ``gain_range`` times the threshold.

    Args:
        values: (M, C) float64 non-negative activations.
        candidates: (F, C) thresholds in the units of the values.
        timesteps: T.
        subtract: the reset; else to zero.
        gain_range: smallest and largest gain, relative to the threshold.

    Returns:
        thresholds (C,) and gains (C,): the real value of a neuron that fires in every step.
    """
    moments = np.zeros((len(candidates), 3, values.shape[1]))

    def one(index: int) -> None:
        _moments(values, candidates[index], timesteps, subtract, moments[index])

    parallel(one, len(candidates))
    nn, ny, yy = moments[:, 0], moments[:, 1], moments[:, 2]
    per_count = candidates / timesteps
    gain = np.divide(ny, nn, out=per_count.copy(), where=nn > 0)
    gain = np.clip(gain, gain_range[0] * per_count, gain_range[1] * per_count)
    error = gain * gain * nn - 2 * gain * ny + yy
    best = np.argmin(error, axis=0)
    columns = np.arange(values.shape[1])
    return candidates[best, columns], gain[best, columns] * timesteps


@numba.njit(nogil=True, cache=True)
def _column_sums(values, out):
    for m in range(values.shape[0]):
        for c in range(values.shape[1]):
            out[c] += values[m, c]


def column_means(values: Array) -> Array:
    """Mean of each column of (M, C), summed in order in float64: (C,)."""
    total = np.zeros(values.shape[1])
    _column_sums(values, total)
    return total / len(values)
